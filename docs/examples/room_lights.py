"""Scopes: where several tasks provide one name, a task gets the value that is nearest to it.

To find it, look back from the task: at what came before it in its own flow, with the flows that are nested there, the
latest first; then at what came before that flow in the one around it. A sibling in an unordered flow does not come
before, and is never seen.
"""

from __future__ import annotations

from taskflowx import engines, task
from taskflowx.patterns import linear_flow, unordered_flow


class Set(task.Task):
    default_provides = "brightness"

    def execute(self, percent: int) -> int:
        return percent


class Light(task.Task):
    def execute(self, brightness: int) -> None:
        print(f"{self.name}: {brightness}%")


def main() -> None:
    flow = linear_flow.Flow("house").add(
        Set("set for the house", inject={"percent": 80}),
        Light("hall"),
        linear_flow.Flow("bedroom").add(
            Light("door of the bedroom"),
            Set("set for the bedroom", inject={"percent": 20}),
            Light("bed"),
        ),
        unordered_flow.Flow("garden").add(
            Set("set for the pond", inject={"percent": 5}),
            Light("path"),
        ),
        Light("gate"),
        # Names of one's own leave no doubt.
        Light("letter box", rebind={"brightness": "brightness of the letter box"}),
    )
    results = engines.run(flow, store={"brightness of the letter box": 50})
    print("all that were provided:", sorted(results["brightness"]))


if __name__ == "__main__":
    main()

# Output:
#   hall: 80%
#   door of the bedroom: 80%
#   bed: 20%
#   path: 20%
#   gate: 5%
#   letter box: 50%
#   all that were provided: [5, 20, 80]
