"""The result of an `async def` task, which has been awaited already."""

from __future__ import annotations

import taskflowx
from taskflowx import as_task


@as_task
async def fetch(url: str) -> bytes:
    return url.encode()


async def main() -> None:
    values = await taskflowx.arun(fetch, {"url": "a"})
    await fetch.result(values)  # wrong
    text: str = fetch.result(values)  # wrong
    print(text)
