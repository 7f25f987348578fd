"""Builds, compiles and runs a chain on OpenStack TaskFlow, and prints how many seconds that took.

`peers` runs it in the environment that has TaskFlow. The plainest use: a linear flow on a serial engine.
"""

import sys
import time

from taskflow import engines, task  # type: ignore[import-not-found]
from taskflow.patterns import linear_flow  # type: ignore[import-not-found]


class Step(task.Task):  # type: ignore[misc]
    """A task that does nothing."""

    def execute(self) -> int:
        """Return a number."""
        return 1


def build_and_run(atoms: int) -> float:
    """Return how many seconds it takes to declare a chain, to compile it and to run it."""
    started = time.perf_counter()
    flow = linear_flow.Flow("linear").add(*[Step(f"atom-{i}") for i in range(atoms)])
    engine = engines.load(flow, engine="serial")
    engine.run()
    return time.perf_counter() - started


if __name__ == "__main__":
    build_and_run(10)  # so that what is imported and worked out once is not counted
    print(build_and_run(int(sys.argv[1])))
