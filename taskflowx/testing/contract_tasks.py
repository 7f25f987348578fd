"""The tasks of the executor contract; at the top level of a module, as some are sent to other processes."""

from __future__ import annotations

import asyncio
import pathlib
import sys
import time
from typing import Any

from taskflowx import task
from taskflowx.executors import stopping


class Problem(Exception):
    """An error with arguments of its own."""


class Give(task.Task):
    """Provides a value.

    :param value: the value
    """

    def __init__(self, name: str, value: Any, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.value = value

    def execute(self) -> Any:
        return self.value


class GiveLater(Give):
    """Provides a value from a coroutine."""

    async def execute(self) -> Any:
        await asyncio.sleep(0)
        return self.value


class Join(task.Task):
    """Provides the text of its two inputs."""

    def execute(self, left: Any, right: Any) -> str:
        return f"{left}{right}"


class Note(task.Task):
    """Writes a line to a file when it runs and when it is reverted.

    :param path: the path of the file
    """

    def __init__(self, name: str, path: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.path = path

    def write(self, text: str) -> None:
        """Write a line."""
        with pathlib.Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{text} {self.name}\n")

    def execute(self) -> Any:
        self.write("ran")

    def revert(self, result: Any, flow_failures: Any) -> None:
        self.write("undid")


class Break(Note):
    """Fails."""

    def execute(self) -> Any:
        self.write("broke")
        raise Problem("on purpose", 7)


class BreakTwice(Note):
    """Fails until its file has three records of an attempt."""

    def execute(self) -> Any:
        self.write("tried")
        if pathlib.Path(self.path).read_text(encoding="utf-8").count("tried") < 3:  # noqa: PLR2004 - twice
            raise Problem("not yet")
        return "third time"


class Report(task.Task):
    """Reports progress."""

    def execute(self) -> None:
        for part in (0.25, 0.5):
            self.update_progress(part, part=str(part))


class Stages(task.Task):
    """Publishes events of its own, and progress between them."""

    TASK_EVENTS = (task.EVENT_UPDATE_PROGRESS, "stage")

    def execute(self) -> None:
        self.notifier.notify("stage", {"number": 1})
        self.update_progress(0.5)
        self.notifier.notify("stage", {"number": 2})


class LeaveOnce(Note):
    """Raises SystemExit when it runs for the first time."""

    def execute(self) -> Any:
        if not pathlib.Path(self.path).exists():
            self.write("left")
            sys.exit("leave")
        return "stayed"


class Hold(Note):
    """Runs until a second file exists."""

    def execute(self) -> Any:
        self.write("began")
        let_go = pathlib.Path(self.path + ".go")
        while not let_go.exists() and let_go.parent.exists():  # the folder is removed with the test
            time.sleep(0.005)  # noqa: TID251 - another process may have to see it
        return "held"


class Ask(Note):
    """Runs until it is interrupted, or a second file exists."""

    def execute(self) -> Any:
        self.write("began")
        let_go = pathlib.Path(self.path + ".go")
        while not let_go.exists() and let_go.parent.exists():
            stopping.checkpoint()
            time.sleep(0.005)  # noqa: TID251 - another process may have to see it
        return "held"


class WaitLater(Note):
    """Waits in a coroutine until it is cancelled.

    :param heeds: whether it ends then
    """

    def __init__(self, name: str, path: str, *, heeds: bool, **kwargs: Any) -> None:
        super().__init__(name, path, **kwargs)
        self.heeds = heeds

    async def execute(self) -> Any:
        self.write("began")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.heeds:
                    raise


class Append(task.Task):
    """Changes its argument."""

    def execute(self, box: list[str]) -> None:
        box.append(self.name)
