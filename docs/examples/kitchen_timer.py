"""Timing: listeners that note the durations of flow and tasks, and when each of them changed its state.

`DurationListener` puts the seconds into the metadata of the record as `duration`, `EventTimeListener` the time of each
transition as `SUCCESS-timestamp` and so on. `PrintingDurationListener` also prints them.
"""

from __future__ import annotations

import re
import time

from taskflowx import engines, task
from taskflowx.listeners import timing
from taskflowx.patterns import linear_flow
from taskflowx.persistence import models


class Boil(task.Task):
    def execute(self, seconds: float) -> None:
        time.sleep(seconds)


def show(message: str) -> None:
    """Print without the figures, which are others each time."""
    print(re.sub(r"\d+\.\d+", "some", message))


def main() -> None:
    flow = linear_flow.Flow("lunch").add(
        Boil("egg", inject={"seconds": 0.01}),
        Boil("potatoes", inject={"seconds": 0.05}),
    )
    book = models.LogBook("kitchen")
    engine = engines.load(flow, book=book)
    with timing.PrintingDurationListener(engine, printer=show), timing.EventTimeListener(engine):
        engine.run()

    [record] = book
    meta = {detail.name: detail.meta for detail in record if "duration" in detail.meta}
    print("what took longest:", max(meta, key=lambda name: meta[name]["duration"]))
    order = sorted(meta, key=lambda name: meta[name]["SUCCESS-timestamp"])
    print("in the order in which they were done:", ", ".join(order))
    print(
        "the whole took no less than its parts:", record.meta["duration"] >= sum(m["duration"] for m in meta.values())
    )


if __name__ == "__main__":
    main()

# Output:
#   'lunch' flow started.
#   'egg' task started.
#   It took task 'egg' some seconds to finish.
#   'potatoes' task started.
#   It took task 'potatoes' some seconds to finish.
#   It took flow 'lunch' some seconds to finish.
#   what took longest: potatoes
#   in the order in which they were done: egg, potatoes
#   the whole took no less than its parts: True
