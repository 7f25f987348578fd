"""`defer_reverts`: what an inner flow gives up on, the retry of the flow around it decides about.

By default an inner flow that says REVERT is undone alone when nobody around it wants to try again. With `defer_reverts`
it leaves the size of the rollback to the retry around it: here everything is undone, as a feast without music is none.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow


class Order(task.Task):
    def execute(self) -> None:
        print(f"  order the {self.name}")

    def revert(self) -> None:
        print(f"  cancel the {self.name}")


class Hire(Order):
    def execute(self) -> None:
        super().execute()
        raise LookupError("no band is free")


def celebrate(**options: Any) -> None:
    music = linear_flow.Flow("music", retry=retry.Times(2)).add(Order("piano"), Hire("band"))
    flow = linear_flow.Flow("feast", retry=retry.AlwaysRevert()).add(Order("cake"), music)
    engine = engines.load(flow, **options)
    try:
        engine.run()
    except LookupError as error:
        print(f"  {error}; the cake is {engine.storage.get_atom_state('cake')}")


def main() -> None:
    print("the music is given up:")
    celebrate()
    print("the feast is given up:")
    celebrate(defer_reverts=True)


if __name__ == "__main__":
    main()

# Output:
#   the music is given up:
#     order the cake
#     order the piano
#     order the band
#     cancel the band
#     cancel the piano
#     order the piano
#     order the band
#     cancel the band
#     cancel the piano
#     no band is free; the cake is SUCCESS
#   the feast is given up:
#     order the cake
#     order the piano
#     order the band
#     cancel the band
#     cancel the piano
#     order the piano
#     order the band
#     cancel the band
#     cancel the piano
#     cancel the cake
#     no band is free; the cake is REVERTED
