"""What is around the engine in its process: put back after each run, and compared after each batch."""

from __future__ import annotations

import builtins
import contextlib
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
import warnings
from typing import Any

from tests.support import leftovers

#: names this program, and all that it starts, in their environments
MARK = "TASKFLOWX_SOAK"
_SIGNALS = (
    *(signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGWINCH),
    *(signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP),
)
#: where this process shows the stacks of all its threads: a descriptor
_stacks = 2
_HOOKS = ("displayhook", "excepthook", "unraisablehook")


class Around:
    """What tasks in this process may have changed, as it is when this is made."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._folder = str(pathlib.Path.cwd())
        self._path = list(sys.path)
        self._umask = os.umask(0o22)
        os.umask(self._umask)
        self._locale = locale.setlocale(locale.LC_ALL)
        self._levels = {name: logging.getLogger(name).level for name in _loggers()}
        self._print = builtins.print
        self._streams = sys.stdout, sys.stderr
        self._hooks = {name: getattr(sys, name) for name in _HOOKS}
        self._thread_hook = threading.excepthook
        self._signals = {number: signal.getsignal(number) for number in _SIGNALS}
        self._interval = sys.getswitchinterval()
        self._thresholds = gc.get_threshold()
        self._warnings = list(warnings.filters)
        self._context = decimal.getcontext().copy()

    def restore(self) -> None:
        """Put it back; what a timer raises meanwhile comes out, and it can be done again."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._signals.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sys.settrace(None)
        sys.setprofile(None)
        builtins.print = self._print
        with contextlib.suppress(AttributeError):
            del builtins._
        sys.stdout, sys.stderr = self._streams
        vars(sys).update(self._hooks)
        threading.excepthook = self._thread_hook
        sys.path[:] = self._path
        os.chdir(self._folder)
        os.umask(self._umask)
        os.environ.clear()
        os.environ.update(self._environment)
        locale.setlocale(locale.LC_ALL, self._locale)
        logging.disable(logging.NOTSET)
        for name in _loggers():
            logger = logging.getLogger(name)
            logger.setLevel(self._levels.get(name, logging.NOTSET))
            if name and name.startswith("tests"):
                logger.handlers.clear()
                logger.filters.clear()
        sys.setswitchinterval(self._interval)
        gc.enable()
        gc.set_threshold(*self._thresholds)
        warnings.filters[:] = self._warnings
        decimal.setcontext(self._context)
        faulthandler.enable(file=_stacks)


def _loggers() -> list[str | None]:
    return [None, *(n for n, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger))]


class Left:
    """What a process has open and has started, as it is now."""

    def __init__(self) -> None:
        self.descriptors: dict[int, str] = {}
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - descriptors are names
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
                if target != "anon_inode:[eventpoll]":  # eventlet keeps one for each thread that has used it
                    self.descriptors[int(name)] = target
        self.threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
        self.names = sorted(one.name for one in threading.enumerate())
        self.programs = _started()

    def beyond(self, before: Left) -> list[str]:
        """Return what is there now, and was not before."""
        wrong = []
        kinds, known = _kinds(self.descriptors), _kinds(before.descriptors)
        more = {kind: f"{known.get(kind, 0)} -> {count}" for kind, count in kinds.items() if count > known.get(kind, 0)}
        if len(self.descriptors) > len(before.descriptors):
            wrong.append(f"descriptors are left: {more}")
        if self.threads > before.threads:
            wrong.append(f"threads are left: {self.threads - before.threads} more than {before.names}: {self.names}")
        if self.programs:
            wrong.append(f"programs are left: {self.programs}")
        return wrong


def _kinds(descriptors: dict[int, str]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for target in descriptors.values():
        kind = target if target.startswith(("/", "anon")) else target.partition(":")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def _started() -> dict[int, str]:
    """Return the programs with our mark, by their ids, without those that serve this process until its end."""
    return started(os.environ[MARK], {os.getpid(), *leftovers.servers()})


def started(mark: str, ours: set[int]) -> dict[int, str]:
    """Return the programs with a mark, by their ids.

    :param ours: those that are left out
    """
    mine = f"{MARK}={mark}".encode()
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or int(name) in ours:
            continue
        with contextlib.suppress(OSError):
            folder = pathlib.Path("/proc") / name
            if mine in (folder / "environ").read_bytes().split(b"\0"):
                state = (folder / "stat").read_text().rpartition(")")[2].split()
                if not (state[0] == "Z" and int(state[1]) != os.getpid()):
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    found[int(name)] = f"{state[0]} {command[:120]}"
    return found


def settled(before: Left, seconds: float) -> list[str]:
    """Wait until nothing is left that was not there before, so long at most; returns what is left then."""
    until = time.monotonic() + seconds
    while True:
        gc.collect()
        multiprocessing.active_children()  # which waits for those that have ended
        wrong = Left().beyond(before)
        if not wrong or time.monotonic() > until:
            return wrong
        time.sleep(0.05)


def resident() -> int:
    """Return how many bytes of memory this process uses."""
    import ctypes

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def show_stacks_in(path: str) -> None:
    """Have SIGABRT write the stacks of all threads to a file."""
    global _stacks  # noqa: PLW0603 - for as long as the process lives
    _stacks = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    faulthandler.enable(file=_stacks)


def report_of(**facts: Any) -> dict[str, Any]:
    """Return facts about this process with others."""
    return {"rss": resident(), "threads": threading.active_count(), **facts}
