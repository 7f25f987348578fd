"""Running step by step: `run_iter` gives the control back between the steps of a run.

Each turn tells what the engine does next, and at last the state of the flow. Between two turns the caller may look at
the record, do something else, or send `True` to stop; where several tasks can start, the highest priority goes first.
"""

from __future__ import annotations

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow, unordered_flow


class Fit(task.Task):
    def __init__(self, part: str, priority: int = 0) -> None:
        super().__init__(part)
        self.priority = priority

    def execute(self) -> None:
        print("  fit the", self.name)


def main() -> None:
    parts = unordered_flow.Flow("parts").add(Fit("lamps"), Fit("wheels", priority=1), Fit("frame", priority=2))
    engine = engines.load(linear_flow.Flow("bicycle").add(parts, Fit("saddle")))
    step = ""
    for step in engine.run_iter():
        if step == states.SCHEDULING:
            print("fitted so far:", engine.statistics["completed"])
    print("the bicycle is a", step)


if __name__ == "__main__":
    main()

# Output:
#   fitted so far: 0
#     fit the frame
#     fit the wheels
#     fit the lamps
#   fitted so far: 3
#     fit the saddle
#   the bicycle is a SUCCESS
