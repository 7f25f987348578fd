"""An unordered flow: tasks that do not depend on each other and run at the same time, in threads.

The barrier proves it. Each reading waits until all three are under way, so that one after another they would wait for
ever.
"""

from __future__ import annotations

import threading

from taskflowx import engines, task
from taskflowx.patterns import linear_flow, unordered_flow

TEMPERATURES = {"harbour": 11.5, "hill": 7.0, "market": 13.0}
all_reading = threading.Barrier(len(TEMPERATURES), timeout=10)


class Read(task.Task):
    """Ask one station, which takes a while."""

    def execute(self, station: str) -> float:
        all_reading.wait()
        return TEMPERATURES[station]


class Summarise(task.Task):
    default_provides = frozenset(["coldest", "mean"])  # the result is a dict with these keys

    def execute(self, **readings: float) -> dict[str, object]:
        return {
            "coldest": min(readings, key=lambda station: readings[station]),
            "mean": sum(readings.values()) / len(readings),
        }


def main() -> None:
    readings = unordered_flow.Flow("readings")
    for station in TEMPERATURES:
        readings.add(Read(f"read {station}", provides=station, inject={"station": station}))
    flow = linear_flow.Flow("report").add(readings, Summarise(requires=list(TEMPERATURES)))

    results = engines.run(flow, engine="parallel", executor="threads", max_workers=len(TEMPERATURES))
    print(f"mean {results['mean']}, coldest at the {results['coldest']}")


if __name__ == "__main__":
    main()

# Output:
#   mean 10.5, coldest at the hill
