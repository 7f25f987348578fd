"""Delayed results: several runs are started in the background, and the results collected when they are there.

An engine's `run` is a function like any other. A pool that calls it gives a future, which has what the run returned or
raises what it raised.
"""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

from taskflowx import engines, task
from taskflowx.patterns import linear_flow

released = threading.Event()


class Gather(task.Task):
    default_provides = "figures"

    def execute(self, month: str) -> list[int]:
        released.wait(timeout=10)  # so that it is plain to see who waits for whom
        if month == "June":
            raise LookupError(f"no figures for {month}")
        return [len(month), len(month) ** 2]


class Total(task.Task):
    default_provides = "total"

    def execute(self, figures: list[int]) -> int:
        return sum(figures)


def report(month: str) -> dict[str, Any]:
    """Run one flow to its end."""
    return engines.run(linear_flow.Flow(f"report of {month}").add(Gather(), Total()), store={"month": month})


def main() -> None:
    with futures.ThreadPoolExecutor() as pool:
        reports = {month: pool.submit(report, month) for month in ("April", "May", "June")}
        print("running:", [month for month, future in reports.items() if not future.done()])
        released.set()
        for month, future in reports.items():
            failure = future.exception(timeout=10)
            print(f"{month}:", failure or future.result()["total"])


if __name__ == "__main__":
    main()

# Output:
#   running: ['April', 'May', 'June']
#   April: 30
#   May: 12
#   June: no figures for June
