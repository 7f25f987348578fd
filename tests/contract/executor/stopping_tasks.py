"""Tasks that are to be stopped: at the top of a module, so that they reach processes."""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import time

import taskflowx
from taskflowx import task


class Sleeps(task.Task):
    """Sleeps for an hour."""

    def execute(self):
        time.sleep(3600)  # noqa: TID251 - as a task that takes long


class SleepsLater(task.Task):
    """Sleeps for an hour in a coroutine."""

    async def execute(self):
        await asyncio.sleep(3600)


class Asks(task.Task):
    """Looks whether it is to stop, for an hour."""

    def execute(self):
        for _ in range(3600 * 1000):
            taskflowx.checkpoint()
            time.sleep(0.001)  # noqa: TID251 - as a task that takes long


class Notes(task.Task):
    """Notes its name in a file, and returns it; sleeps for an hour if it is called so.

    :param path: the path of the file
    """

    def __init__(self, name, path, **kwargs):
        super().__init__(name, **kwargs)
        self.path = path

    def note(self, text):
        with pathlib.Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def execute(self, before=""):
        self.note(self.name)
        if self.name.startswith("hangs"):
            time.sleep(3600)  # noqa: TID251 - as a task that takes long
        return f"{before}{self.name}"


#: a program that refuses to be terminated, and has one that does so, too
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(0, flush=True); time.sleep(99)"
)


class Family(Notes):
    """Refuses to be terminated, prints, notes the processes that it has started, and sleeps for an hour."""

    def execute(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        program = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
        program.stdout.readline()
        orphan = subprocess.run(
            ["/bin/sh", "-c", "sleep 99 >/dev/null 2>&1 & echo $!"], capture_output=True, check=True
        )
        forked = os.fork()
        if not forked:
            time.sleep(99)  # noqa: TID251 - as a task that takes long
            os._exit(0)
        sys.stdout.write("printed before\n")
        self.note(f"{os.getpid()} {program.pid} {int(orphan.stdout)} {forked}")
        time.sleep(3600)  # noqa: TID251 - as a task that takes long
