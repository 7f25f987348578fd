"""Capturing: a listener that keeps all that happened, to look at it when the run is over.

It is a context manager, as all listeners are: it listens inside of `with` and no longer. In tests it is the simplest
way to assert in which order things happened.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, retry, task
from taskflowx.listeners import capturing
from taskflowx.patterns import linear_flow


class Take(task.Task):
    def execute(self) -> None:
        pass


class Land(task.Task):
    def execute(self, attempt: int) -> None:
        if attempt == 1:
            raise RuntimeError("runway is not free")


class Recorder(capturing.CaptureListener):
    """Keeps short lines instead of all details."""

    @staticmethod
    def _format_capture(kind: str, state: str, details: dict[str, Any]) -> str:
        return f"{kind:5} {details[f'{kind}_name']}: {state}"


def main() -> None:
    flow = linear_flow.Flow("flight", retry=retry.Times(2, name="again", provides="attempt"))
    flow.add(Take("take off"), Land("land"))
    engine = engines.load(flow)
    with Recorder(engine, skip_tasks=["take off"]) as recorder:
        engine.run()
    print(*recorder.values, sep="\n")


if __name__ == "__main__":
    main()

# Output:
#   flow  flight: RUNNING
#   retry again: RUNNING
#   retry again: SUCCESS
#   task  land: RUNNING
#   task  land: FAILURE
#   task  land: REVERTING
#   task  land: REVERTED
#   retry again: RETRYING
#   task  land: PENDING
#   retry again: RUNNING
#   retry again: SUCCESS
#   task  land: RUNNING
#   task  land: SUCCESS
#   flow  flight: SUCCESS
