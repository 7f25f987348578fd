"""`Times`: a retry that undoes its flow when something in it fails, and runs it again, up to a number of times.

The retry provides the number of the attempt. Only its own flow is run again; what is outside of it stands.
"""

from __future__ import annotations

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow


class Look(task.Task):
    default_provides = "number"

    def execute(self) -> str:
        print("look the number up")
        return "555-0147"


class PickUp(task.Task):
    def execute(self) -> None:
        print("  pick up")

    def revert(self) -> None:
        print("  hang up")


class Dial(task.Task):
    def execute(self, number: str, attempt: int) -> None:
        print(f"  dial {number}")
        if attempt < 3:
            raise ConnectionError("engaged")
        print("  hello?")


def main() -> None:
    calling = linear_flow.Flow("calling", retry=retry.Times(3, provides="attempt")).add(PickUp(), Dial())
    flow = linear_flow.Flow("phone").add(Look(), calling)
    results = engines.run(flow)
    print("it took", results["attempt"], "attempts")


if __name__ == "__main__":
    main()

# Output:
#   look the number up
#     pick up
#     dial 555-0147
#     hang up
#     pick up
#     dial 555-0147
#     hang up
#     pick up
#     dial 555-0147
#     hello?
#   it took 3 attempts
