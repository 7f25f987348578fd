"""Runs a chain on OpenStack TaskFlow with its record in a SQLite file, and prints how many seconds the run took.

The file is brought to the disk at each commit, and written ahead, as in the other side's.
"""

import sys
import time

import sqlalchemy as sa  # type: ignore[import-not-found]
from taskflow import engines, task  # type: ignore[import-not-found]
from taskflow.patterns import linear_flow  # type: ignore[import-not-found]
from taskflow.persistence import backends, models  # type: ignore[import-not-found]


class Step(task.Task):  # type: ignore[misc]
    """A task that does nothing."""

    def execute(self) -> int:
        """Return a number."""
        return 1


def run(atoms: int, path: str) -> float:
    """Return how many seconds the run of a chain takes, which is loaded and compiled before."""

    @sa.event.listens_for(sa.Engine, "connect")  # type: ignore[untyped-decorator]
    def prepare(connection: object, _: object) -> None:
        for setting in ("journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {setting}")  # type: ignore[attr-defined]

    backend = backends.fetch({"connection": f"sqlite:///{path}"})
    backend.get_connection().upgrade()
    flow = linear_flow.Flow("linear").add(*[Step(f"atom-{i}") for i in range(atoms)])
    engine = engines.load(flow, book=models.LogBook("book"), backend=backend, engine="serial")
    engine.compile()
    engine.prepare()
    started = time.perf_counter()
    engine.run()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(run(int(sys.argv[1]), sys.argv[2]))
