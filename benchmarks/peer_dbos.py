"""Runs a workflow of steps on DBOS with its record in a SQLite file, and prints how many seconds the run took."""

import logging
import sys
import time

from dbos import DBOS  # type: ignore[import-not-found]


@DBOS.step()  # type: ignore[untyped-decorator]
def step() -> int:
    """Return a number."""
    return 1


@DBOS.workflow()  # type: ignore[untyped-decorator]
def chain(steps: int) -> None:
    """Run steps one after another."""
    for _ in range(steps):
        step()


def run(steps: int, path: str) -> float:
    """Return how many seconds a workflow takes."""
    url = f"sqlite:///{path}"
    DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"})
    DBOS.launch()
    chain(10)  # so that what is worked out once is not counted
    started = time.perf_counter()
    chain(steps)
    seconds = time.perf_counter() - started
    DBOS.destroy()
    return seconds


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(run(int(sys.argv[1]), sys.argv[2]))
