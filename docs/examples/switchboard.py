"""Coroutines: a thousand tasks that wait at once, in one thread, and are undone in order when one of them fails.

Each call waits until all are on the line, so that one after another they would wait for ever.
"""

from __future__ import annotations

import asyncio

from taskflowx import Task, arun, linear, unordered

CALLS = 1000
all_connected = asyncio.Barrier(CALLS)
on_the_line: set[str] = set()


class Connect(Task):
    """Connect one caller, and hang up when the conference does not take place."""

    async def execute(self) -> None:
        on_the_line.add(self.name)
        await all_connected.wait()

    async def revert(self, **kwargs: object) -> None:
        await asyncio.sleep(0)
        on_the_line.discard(self.name)


class Begin(Task):
    """A plain task among the others: it runs in a thread."""

    def execute(self) -> None:
        print(f"{len(on_the_line)} are on the line")
        raise TimeoutError("nobody speaks")


async def main() -> None:
    callers = unordered("callers", *(Connect(f"caller {number}") for number in range(CALLS)))
    try:
        await arun(linear("conference", callers, Begin("begin")), executor="asyncio")
    except TimeoutError as error:
        print(f"{error}: {len(on_the_line)} are left on the line")


if __name__ == "__main__":
    asyncio.run(main())

# Output:
#   1000 are on the line
#   nobody speaks: 0 are left on the line
