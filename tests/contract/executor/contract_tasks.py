"""Tasks for the contract of executors: at the top of a module, so that they reach processes."""

import os
import pathlib
import threading

from taskflowx import task


class Give(task.Task):
    """Provides a value."""

    def __init__(self, name, value, **kwargs):
        super().__init__(name, **kwargs)
        self.value = value

    def execute(self):
        return self.value


class Note(task.Task):
    """Writes a line to a file when it runs and when it is reverted, wherever that is."""

    def __init__(self, name, path, **kwargs):
        super().__init__(name, **kwargs)
        self.path = path

    def write(self, text):
        with pathlib.Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{text} {self.name}\n")

    def execute(self):
        self.write("ran")
        return self.name

    def revert(self, result, flow_failures):
        self.write("undid")


class Problem(Exception):
    """An error of the tests, with arguments of its own."""


class Break(Note):
    def execute(self):
        self.write("broke")
        raise Problem("on purpose", 7)


class OddProblem(Exception):
    """An error that cannot be made again from what it passes on."""

    def __init__(self, first, second):
        super().__init__(f"odd {first} {second}")


class BreakOddly(task.Task):
    def execute(self):
        raise OddProblem(1, 2)


class BreakWithALock(task.Task):
    def execute(self):
        raise ValueError("locked", threading.Lock())


class Report(task.Task):
    def execute(self):
        for part in (0.25, 0.5):
            self.update_progress(part, part=str(part))


class Die(task.Task):
    """Ends its process without a word."""

    def execute(self):
        os._exit(3)


class Unpicklable(task.Task):
    def execute(self):
        return threading.Lock()


class Take(task.Task):
    def execute(self, thing):
        return str(thing)
