"""Going on after a crash: the record is on disk, and a new process goes on where the old one died.

What had been done is not done again; what was under way is. The interrupt below stands for the crash, and new back ends
on the same folder for the two processes.
"""

from __future__ import annotations

import contextlib
import tempfile

from taskflowx import engines, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models


class Carry(task.Task):
    def execute(self, helpers: int) -> str:
        print("  carry the", self.name)
        if self.name == "piano" and helpers < 4:
            raise KeyboardInterrupt
        return "in the new house"


def house_move() -> linear_flow.Flow:
    return linear_flow.Flow("move").add(*(Carry(thing, provides=thing) for thing in ("books", "piano", "lamp")))


def first_day(folder: str) -> None:
    with backends.backend({"connection": "dir", "path": folder}) as backend:
        book = models.LogBook("moves")
        engine = engines.load(house_move(), store={"helpers": 2}, book=book, backend=backend)
        try:
            engine.run()
        except KeyboardInterrupt:
            print("  everything stops")


def second_day(folder: str) -> None:
    with backends.backend({"connection": "dir", "path": folder}) as backend:
        with contextlib.closing(backend.get_connection()) as connection:
            [book] = connection.get_logbooks()
        [flow_detail] = book
        engine = engines.load(house_move(), flow_detail=flow_detail, book=book, backend=backend)
        engine.storage.inject({"helpers": 4})
        engine.run()
        print("  the move is a", engine.storage.get_flow_state())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("first day")
        first_day(folder)
        print("second day")
        second_day(folder)


if __name__ == "__main__":
    main()

# Output:
#   first day
#     carry the books
#     carry the piano
#     everything stops
#   second day
#     carry the piano
#     carry the lamp
#     the move is a SUCCESS
