"""Tasks that `dask_scenarios` runs, and what they note; the workers of a cluster import them."""

import collections
import contextvars
import logging
import os
import pathlib
import time

from taskflowx import task
from taskflowx.logging import AtomNames

LIMIT = 20  # seconds
#: where tasks write down what they do
FOLDER = os.environ.get("SCENARIO_FOLDER", "")


#: how often each `Effect` was executed in this process
EFFECTS = collections.Counter()


def until(true, limit=LIMIT):
    """Wait until something is true, which another process brings about."""
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not in {limit} seconds: {true}")
        time.sleep(0.01)  # noqa: TID251 - another process brings it about


class Noted(task.Task):
    """Notes in a folder that it has begun, by a line in a file of its own.

    :param folder: that folder
    """

    def __init__(self, name, folder=FOLDER, **kwargs):
        super().__init__(name, **kwargs)
        self.folder = folder

    def note(self, text="ran"):
        with pathlib.Path(self.folder, self.name).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def execute(self):
        self.note()
        return self.name


class Effect(task.Task):
    """Counts that it is executed, reports progress, and hands a value on."""

    def execute(self, value=0):
        EFFECTS[self.name] += 1
        self.update_progress(0.5)
        return value


class Dies(Noted):
    """Ends its worker when it is executed for the first time."""

    def execute(self):
        self.note()
        if len(notes(self.folder)[self.name]) == 1:
            os._exit(9)
        return self.name


class DiesLater(Noted):
    """Ends its worker when there is a file."""

    def execute(self):
        self.note()
        until(pathlib.Path(self.folder, "go").exists)
        os._exit(9)


class DiesInTheFifth(Noted):
    """Takes a while, and ends its worker if it is the fifth."""

    def execute(self):
        self.note()
        time.sleep(0.05)  # noqa: TID251 - as a task that takes a while
        if self.name == "t5":
            os._exit(9)
        return self.name


class MostlyShort(Noted):
    """Takes no time, but lasts and ends its worker if it is one of the last."""

    def execute(self):
        self.note()
        if self.name == "t190":
            time.sleep(0.3)  # noqa: TID251 - as a task that takes a while
            os._exit(9)
        return self.name


class Counted(Noted):
    """Ends its worker in the first round; notes the round and the attempt."""

    def execute(self, round_, attempt):
        self.note(f"round {round_} attempt {attempt}")
        if round_ == 1:
            os._exit(9)
        return round_


class Attempts(Noted):
    """Notes its attempt."""

    def execute(self, attempt):
        self.note(f"attempt {attempt}")


class Held(Noted):
    """Runs until there is a file."""

    def execute(self, attempt):
        self.note(f"attempt {attempt}")
        go = pathlib.Path(self.folder, "go")
        while not go.exists() and go.parent.exists():
            time.sleep(0.01)  # noqa: TID251 - as a task that takes a while
        return self.name


class Reports(task.Task):
    """Reports progress until it is told, by a file, that this was heard.

    :param folder: of that file
    """

    def __init__(self, name, folder, **kwargs):
        super().__init__(name, **kwargs)
        self.folder = folder

    def execute(self):
        self.update_progress(0.5, at=time.time())
        end = time.monotonic() + LIMIT
        while not pathlib.Path(self.folder, "heard").exists():
            if time.monotonic() > end:
                raise TimeoutError("nobody has heard of it")
            time.sleep(0.005)  # noqa: TID251 - as a task that takes a while


class Together(Noted):
    """Notes when it began and when it ended."""

    def execute(self):
        began = time.time()
        time.sleep(0.05)  # noqa: TID251 - as a task that takes a while
        self.note(f"{began} {time.time()}")


def notes(folder=None):
    """Return the lines of each task."""
    folder = pathlib.Path(folder or FOLDER)
    return {
        file.name: file.read_text(encoding="utf-8").splitlines()
        for file in folder.iterdir()
        if file.is_file() and file.suffix == "" and file.name not in ("go", "heard")
    }


DASK_REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("DASK_REQUEST", default="lost")


class Looks(task.Task):
    """Returns what it finds in its context, and what a record of a log says of it."""

    def execute(self):
        record = logging.LogRecord("n", logging.INFO, "", 0, "", (), None)
        AtomNames().filter(record)
        found = DASK_REQUEST.get()
        DASK_REQUEST.set("changed by a task")
        return found, record.atom_name, record.flow_name, record.run
