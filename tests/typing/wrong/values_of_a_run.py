"""The values of a run as something else."""

from __future__ import annotations

import taskflowx

values: list[int] = taskflowx.run(taskflowx.linear("f"))  # wrong


async def main() -> None:
    awaited: dict[str, int] = taskflowx.arun(taskflowx.linear("f"))  # wrong
    print(awaited)
