"""Listening: callbacks for the states of the flow and of each task.

`engine.notifier` tells of the flow, `engine.atom_notifier` of tasks and retries. A callback is registered for one state
or, with `*`, for all, and gets the state with details of it. It is called in the thread that runs the engine.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow
from taskflowx.types import notifier


class Lock(task.Task):
    def execute(self) -> str:
        return f"{self.name} is locked"


class LockBroken(Lock):
    def execute(self) -> str:
        raise OSError(f"{self.name} has no key")


def on_flow(state: str, details: dict[str, Any]) -> None:
    print(f"{details['flow_name']}: {details['old_state']} -> {state}")


def on_task(state: str, details: dict[str, Any]) -> None:
    print(f"  {details['task_name']}: {details['old_state']} -> {state}")


def on_failure(state: str, details: dict[str, Any], pager: str) -> None:
    print(f"  page {pager}: {details['result'].exception_str}")


def main() -> None:
    flow = linear_flow.Flow("night round").add(Lock("gate"), LockBroken("barn"))
    engine = engines.load(flow)
    engine.notifier.register(notifier.Notifier.ANY, on_flow)
    engine.atom_notifier.register(
        notifier.Notifier.ANY,
        on_task,
        details_filter=lambda details: details["task_name"] == "gate",  # what it refuses is not told
    )
    engine.atom_notifier.register(states.FAILURE, on_failure, kwargs={"pager": "Joan"})
    try:
        engine.run()
    except OSError as error:
        print("the round ended:", error)

    engine.atom_notifier.deregister(states.FAILURE, on_failure)
    print("still listening to tasks:", len(engine.atom_notifier))


if __name__ == "__main__":
    main()

# Output:
#   night round: PENDING -> RUNNING
#     gate: PENDING -> RUNNING
#     gate: RUNNING -> SUCCESS
#     page Joan: barn has no key
#     gate: SUCCESS -> REVERTING
#     gate: REVERTING -> REVERTED
#   night round: RUNNING -> REVERTED
#   the round ended: barn has no key
#   still listening to tasks: 1
