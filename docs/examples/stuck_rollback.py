"""A rollback that gets stuck: a `revert` fails, and the run is continued when the reason is removed.

The flow ends in FAILURE. What is before the task whose `revert` failed stays as it is, branches that have nothing to do
with it are undone all the same, and running the engine again goes on with the rollback, beginning with that `revert`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow, unordered_flow

if TYPE_CHECKING:
    from taskflowx.engines.action_engine.engine import ActionEngine


class Switch(task.Task):
    def execute(self, power: dict[str, bool]) -> None:
        power[self.name] = True

    def revert(self, power: dict[str, bool], jammed: set[str]) -> None:
        if self.name in jammed:
            raise OSError(f"{self.name} is jammed")
        power[self.name] = False


class Test(task.Task):
    def execute(self) -> None:
        raise RuntimeError("the test failed")


def attempt(engine: ActionEngine) -> None:
    try:
        engine.run()
    except exceptions.WrappedFailure as several:
        print("raised:", ", ".join(failure.exception_str for failure in several))
    except RuntimeError as error:
        print("raised:", error)
    print("the flow is", engine.storage.get_flow_state())


def main() -> None:
    flow = linear_flow.Flow("plant").add(
        unordered_flow.Flow("power on").add(
            linear_flow.Flow("left").add(Switch("mains"), Switch("pump")),
            linear_flow.Flow("right").add(Switch("light"), Switch("fan")),
        ),
        Test("test"),
    )
    power: dict[str, bool] = {}
    jammed = {"pump"}
    engine = engines.load(flow, store={"power": power, "jammed": jammed})
    attempt(engine)
    print("still on:", ", ".join(engine.not_undone()))

    jammed.clear()  # somebody oils the pump
    attempt(engine)
    print("still on:", ", ".join(engine.not_undone()) or "nothing", "/", power)


if __name__ == "__main__":
    main()

# Output:
#   raised: the test failed, pump is jammed
#   the flow is FAILURE
#   still on: mains, pump
#   raised: the test failed
#   the flow is REVERTED
#   still on: nothing / {'mains': False, 'light': False, 'pump': False, 'fan': False}
