"""Going on after a crash: the record is on disk, and a new process goes on where the old one died.

A run has an id: who runs it again under that id goes on with it. What had been done is not done again; what was under
way is, and `attempt` counts. The interrupt below stands for the crash.
"""

from __future__ import annotations

import tempfile

from taskflowx import Task, linear, run


class Carry(Task):
    def execute(self, attempt: int) -> str:
        print("  carry the", self.name)
        if self.name == "piano" and attempt == 1:
            raise KeyboardInterrupt
        return "in the new house"


house_move = linear("move", *(Carry(thing, provides=thing) for thing in ("books", "piano", "lamp")))


def day(store: str) -> None:
    try:
        result = run(house_move, backend=store, run_id="to Mill Lane")
        print("  the move is a", result.state)
    except KeyboardInterrupt:
        print("  everything stops")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("first day")
        day(f"dir://{folder}")
        print("second day")
        day(f"dir://{folder}")


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
