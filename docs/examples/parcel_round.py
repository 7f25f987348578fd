"""Resuming many flows: all that are unfinished in a store are found and run to their end.

This is what a service does when it starts. The store is a SQLite file here (`pip install "taskflowx[sqlalchemy]"`), and
one book holds the records of all rounds.
"""

from __future__ import annotations

import contextlib
import tempfile
from typing import Any

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models

ROUNDS = {"north": ["Ash Road", "Bell Lane"], "south": ["Cross Street", "Dock Street"], "west": ["East Way"]}


class Deliver(task.Task):
    def execute(self) -> None:
        print(f"  {self.name}")


def round_of(name: str) -> linear_flow.Flow:
    return linear_flow.Flow(name).add(*(Deliver(f"{name}: {street}") for street in ROUNDS[name]))


def deliver(engine: Any, at_most: int) -> None:
    """Run an engine until so many parcels have been delivered."""
    delivered = 0

    def count(state: str, details: dict[str, Any]) -> None:
        nonlocal delivered
        delivered += 1
        if delivered == at_most:
            engine.suspend()

    engine.atom_notifier.register(states.SUCCESS, count)
    engine.run()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        conf = {"connection": f"sqlite:///{folder}/parcels.db"}
        with backends.backend(conf) as backend:
            book = models.LogBook("today")
            print("in the morning")
            for name in ROUNDS:
                deliver(engines.load(round_of(name), book=book, backend=backend), at_most=1)

        with backends.backend(conf) as backend:
            with contextlib.closing(backend.get_connection()) as connection:
                [book] = connection.get_logbooks()
            unfinished = [record for record in book if record.state != states.SUCCESS]
            print("in the afternoon, with", " and ".join(sorted(record.name for record in unfinished)), "to finish")
            for record in sorted(unfinished, key=lambda record: record.name):
                engines.run(round_of(record.name), flow_detail=record, book=book, backend=backend)


if __name__ == "__main__":
    main()

# Output:
#   in the morning
#     north: Ash Road
#     south: Cross Street
#     west: East Way
#   in the afternoon, with north and south to finish
#     north: Bell Lane
#     south: Dock Street
