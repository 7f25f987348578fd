"""An unordered flow: tasks that do not depend on each other and run at the same time, in threads.

The barrier proves it. Each reading waits until all three are under way, so that one after another they would wait for
ever.
"""

from __future__ import annotations

import threading

from taskflowx import as_task, linear, run, unordered

TEMPERATURES = {"harbour": 11.5, "hill": 7.0, "market": 13.0}
all_reading = threading.Barrier(len(TEMPERATURES), timeout=10)


@as_task
def read(station: str) -> float:
    """Ask one station, which takes a while."""
    all_reading.wait()
    return TEMPERATURES[station]


@as_task(requires=TEMPERATURES, provides={"coldest", "mean"})  # the result is a dict with these keys
def summarise(**readings: float) -> dict[str, object]:
    return {
        "coldest": min(readings, key=lambda station: readings[station]),
        "mean": sum(readings.values()) / len(readings),
    }


def main() -> None:
    readings = [read.named(f"read {name}", provides=name, inject={"station": name}) for name in TEMPERATURES]
    flow = linear("report", unordered("readings", *readings), summarise)
    results = run(flow, executor="threads", max_workers=len(TEMPERATURES))
    print(f"mean {results['mean']}, coldest at the {results['coldest']}")


if __name__ == "__main__":
    main()

# Output:
#   mean 10.5, coldest at the hill
