"""A progress bar: how far a run has come, how long it will take, and in the end how it ended.

`ProgressBarListener` looks at the record of the run a few times a second, and costs nothing for each task. Tasks that
report progress have bars of their own meanwhile; when something fails, the bar goes back. Run this in a terminal to see
it move: elsewhere, only the end is printed. It needs Rich: `pip install "taskflowx[progress]"`.
"""

from __future__ import annotations

import io
import re
import sys
import time

from rich.console import Console

from taskflowx import Task, linear, load, unordered
from taskflowx.listeners import progress


class Scan(Task):
    def execute(self) -> None:
        time.sleep(0.04)

    def revert(self, **_: object) -> None:
        time.sleep(0.02)


class Restore(Task):
    def execute(self) -> None:
        for done in range(1, 21):
            time.sleep(0.02)
            self.update_progress(done / 20)


class Send(Task):
    def execute(self, cinema: str) -> None:
        if cinema == "closed":
            raise ConnectionError("nobody is there")


film = linear(
    "film",
    unordered("scan", *(Scan(f"frame {number}") for number in range(50))),
    unordered("restore", Restore("picture"), Restore("sound")),
    Send("send"),
)


def main() -> None:
    kept = io.StringIO()
    console = Console() if sys.stdout.isatty() else Console(file=kept, width=100)
    for cinema in ("open", "closed"):
        engine = load(film, {"cinema": cinema}, executor="threads", max_workers=4)
        with progress.ProgressBarListener(engine, console=console):
            try:
                engine.run()
            except ConnectionError:
                pass
    print(re.sub(r"\d+\.\d s", "some s", kept.getvalue()), end="")


if __name__ == "__main__":
    main()

# Output:
#   film ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 100%  SUCCESS  53/53  some s
#   film                                     0%  REVERTED  0/53  some s  53 reverted
