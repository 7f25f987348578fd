"""A coroutine that is not awaited."""

from __future__ import annotations

from taskflowx import as_task


@as_task
async def fetch(url: str) -> bytes:
    return url.encode()


async def main() -> None:
    fetched: bytes = fetch("a")  # wrong
    text: str = await fetch("a")  # wrong
    print(fetched, text)
