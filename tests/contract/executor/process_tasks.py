"""Tasks for the tests of worker processes: at the top of a module, so that they reach them."""

import ctypes
import logging
import os
import pathlib
import signal
import sys
import threading

from taskflowx import task


def write(path, text):
    with pathlib.Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


class Noted(task.Task):
    """Notes in a file that it ran, and in which process."""

    def __init__(self, name, path, **kwargs):
        super().__init__(name, **kwargs)
        self.path = path

    def execute(self):
        write(self.path, f"ran {self.name} {os.getpid()}")
        return self.name

    def revert(self, result, flow_failures):
        write(self.path, f"undid {self.name}")


class Dies(Noted):
    """Ends its process in some way."""

    def __init__(self, name, path, how, **kwargs):
        super().__init__(name, path, **kwargs)
        self.how = how

    def execute(self):
        write(self.path, f"dies {self.name}")
        end(self.how)


class Tells(task.Task):
    """Returns what it knows of itself."""

    def execute(self, x=None, **_):
        return {
            "name": self.name,
            "x": x,
            "rebind": self.rebind,
            "requires": list(self.requires),
            "provides": list(self.provides),
            "save_as": self.save_as,
            "revert_rebind": self.revert_rebind,
        }

    def revert(self, y=1, **_):
        return None


def end(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.string_at(0)


class DiesOnce(Dies):
    """Ends its process when it runs for the first time."""

    def execute(self):
        path = pathlib.Path(self.path)
        if not path.exists() or f"dies {self.name}" not in path.read_text(encoding="utf-8").splitlines():
            super().execute()
        return "lived"


class Gives(task.Task):
    """Returns what a function of this module makes."""

    def __init__(self, name, make, *args, **kwargs):
        super().__init__(name, **kwargs)
        self.make = make
        self.args = args

    def execute(self):
        return globals()[self.make](*self.args)


def array(count):
    import numpy as np

    return np.arange(count, dtype=np.float64)


def text_of_bytes(count):
    return b"x" * count


def with_a_lock():
    return {"rows": [1, {"guard": threading.Lock()}]}


class Sums(task.Task):
    """Changes an array that it gets, and returns its sum."""

    def execute(self, numbers):
        numbers[0] = 1000.0
        return float(numbers.sum())


class Same(task.Task):
    """Returns what it gets."""

    def execute(self, value):
        return value


class Takes(task.Task):
    def execute(self, thing):
        return len(thing)


DEFAULTS = {list: ["base"], dict: {"base": 1}}


def default(kind):
    return DEFAULTS[kind]


class Adds(task.Task):
    """Adds something to what it gets, and returns how many there are."""

    def execute(self, before):
        if isinstance(before, dict):
            before["more"] = 1
        else:
            before.append("more")
        return len(before)


class Lock:
    def __init__(self):
        self.inner = {"deep": threading.Lock()}


class HoldsALock(task.Task):
    def __init__(self, name):
        super().__init__(name)
        self.lock = Lock()

    def execute(self):
        raise AssertionError


class WaitsForAFile(task.Task):
    """Reports progress, then waits until a file is there."""

    TASK_EVENTS = (task.EVENT_UPDATE_PROGRESS, "stage")

    def __init__(self, name, path):
        super().__init__(name)
        self.path = path

    def execute(self):
        self.update_progress(0.25, where="early")
        self.notifier.notify("stage", {"number": 1})
        wait_for(self.path)
        self.update_progress(0.75)
        self.notifier.notify("stage", {"number": 2})


def wait_for(path):
    pause = threading.Event()
    while not pathlib.Path(path).exists():
        pause.wait(0.01)


class Waits(Noted):
    """Notes that it began, and waits until a file is there."""

    def __init__(self, name, path, gate):
        super().__init__(name, path)
        self.gate = gate

    def execute(self):
        write(self.path, f"began {self.name} {os.getpid()}")
        wait_for(self.gate)
        return super().execute()


class Sometimes(Noted):
    """Is over at once, but for one that waits."""

    def __init__(self, name, path, gate=None):
        super().__init__(name, path)
        self.gate = gate

    def execute(self):
        if self.gate is not None:
            write(self.path, f"began {self.name}")
            wait_for(self.gate)
        return super().execute()


class Talks(task.Task):
    def execute(self):
        print("one")
        print("two", end="")
        print("oh", file=sys.stderr)
        log = logging.getLogger("tests.talks")
        log.debug("not asked for")
        log.info("said %s", "this")
        try:
            raise ValueError("wrong")
        except ValueError:
            log.exception("it went")


class Initialised(task.Task):
    def execute(self):
        return os.environ.get("INITIALISED")


def initialise(value):
    os.environ["INITIALISED"] = value


def print_and_end():
    print("about to end")
    os._exit(3)


def initialise_badly():
    raise LookupError("no such thing")


class Pid(task.Task):
    def execute(self):
        return os.getpid()


class Follows(Noted):
    """Notes what it got from the task before."""

    def execute(self, before):
        write(self.path, f"got {before}")
        return self.name


class Reports(task.Task):
    """Reports that it is half done."""

    def execute(self):
        self.update_progress(0.5)


def same(value):
    return value


def fails(what):
    raise ValueError(what)


class PlainWhenPickled(int):
    """A number that is pickled as a plain one."""

    def __reduce__(self):
        return int, (int(self),)


class Lies:
    """Says that it is of some class, and is pickled as one of a class that may be another one."""

    def __init__(self, claimed, pickled, *values):
        self.claimed, self.pickled, self.values = claimed, pickled, values

    @property
    def __class__(self):
        return self.claimed

    def __iter__(self):
        return iter(self.values)

    def __reduce__(self):
        return self.pickled, (self.values,)


def plain_when_pickled(number):
    return PlainWhenPickled(number)


def set_when_pickled(value):
    return Lies(list, set, value)


def list_when_pickled(value):
    return Lies(set, list, value)


class Step(task.Task):
    """Notes that it is done or undone; fails the first few times, dies or returns something odd if asked to."""

    def __init__(self, name, path, **kwargs):
        super().__init__(name, **kwargs)
        self.path = path
        self.fails, self.how, self.odd = 0, "", None

    def execute(self):
        write(self.path, f"did {self.name}")
        if self.fails and pathlib.Path(self.path).read_text().splitlines().count(f"did {self.name}") <= self.fails:
            raise ValueError(self.name)
        end(self.how)
        return self.odd or self.name

    def revert(self, **_):
        write(self.path, f"undid {self.name}")


class NextStep(Step):
    """One that takes what the one before has returned."""

    def execute(self, before):
        return super().execute()

    def revert(self, before, **_):
        super().revert()


class Unreadable(task.Task):
    """Can be sent, and cannot be read."""

    def __reduce__(self):
        return fails, ("cannot be read",)

    def execute(self):
        raise AssertionError
