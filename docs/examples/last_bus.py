"""A deadline: when the time is up nothing new starts, and the run can be continued later.

`run(timeout=...)` raises `TimeoutError` then and leaves the flow suspended. What was under way is let finish.
"""

from __future__ import annotations

import threading

from taskflowx import engines, task
from taskflowx.patterns import linear_flow

never = threading.Event()


class Ride(task.Task):
    def execute(self, minutes: float) -> None:
        never.wait(timeout=minutes)
        print("ride", self.name)


def main() -> None:
    flow = linear_flow.Flow("home").add(
        Ride("the tram", inject={"minutes": 0.1}),
        Ride("the bus", inject={"minutes": 0.0}),
    )
    engine = engines.load(flow)
    try:
        engine.run(timeout=0.05)
    except TimeoutError as error:
        print("missed:", error)
    print("the way home is", engine.storage.get_flow_state())
    engine.run()  # in the morning
    print("the way home is a", engine.storage.get_flow_state())


if __name__ == "__main__":
    main()

# Output:
#   ride the tram
#   missed: "linear_flow.Flow: home(len=2)" was not finished after 0.05 seconds; it is suspended and can be run on
#   the way home is SUSPENDED
#   ride the bus
#   the way home is a SUCCESS
