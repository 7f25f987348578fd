"""Cancelling: running calls are stopped, and everything is undone.

`cancel` may be called from any thread, coroutine or signal handler. Here the tasks are coroutines, so a call that waits
is cancelled where it is; its own `revert` learns of it by its result.
"""

from __future__ import annotations

import asyncio

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow


class Book(task.Task):
    async def execute(self) -> None:
        print("book the", self.name)

    async def revert(self) -> None:
        print("give back the", self.name)


class AskForVisa(task.Task):
    async def execute(self, asked: asyncio.Event) -> None:
        print("ask for a visa, and wait")
        asked.set()
        await asyncio.sleep(3600)

    async def revert(self, result: object) -> None:
        print("withdraw what was asked for:", result)


async def travel() -> None:
    asked = asyncio.Event()
    flow = linear_flow.Flow("trip").add(Book("flight"), Book("hotel"), AskForVisa("visa"))
    engine = engines.load(flow, store={"asked": asked}, executor="asyncio")

    async def think_again() -> None:
        await asked.wait()
        engine.cancel("the weather is better at home")

    thinking = asyncio.create_task(think_again())
    try:
        await engine.arun()
    except exceptions.Cancelled as cancelled:
        print("cancelled:", cancelled.reason)
    await thinking
    print("the trip is", engine.storage.get_flow_state(), "and still booked is", engine.not_undone())


def main() -> None:
    asyncio.run(travel())


if __name__ == "__main__":
    main()

# Output:
#   book the flight
#   book the hotel
#   ask for a visa, and wait
#   withdraw what was asked for: Failure: taskflowx.exceptions.Cancelled: the weather is better at home
#   give back the hotel
#   give back the flight
#   cancelled: the weather is better at home
#   the trip is REVERTED and still booked is []
