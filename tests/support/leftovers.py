"""What a test has left behind: threads, processes, descriptors and temporary files."""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import pathlib
import tempfile
import threading
import time
from multiprocessing import forkserver, resource_tracker

#: seconds in which what has been told to end must have ended
PATIENCE = 10.0
_PROCESS = pathlib.Path("/proc/self")
#: the thread that watches connections of all SQL stores, and ends by itself when there is none for ten seconds
_WATCH = "taskflowx-database-watch"
#: descriptors that libraries open once for all threads or runs
_KEPT = ("anon_inode:[eventpoll]", "/dev/urandom", "/dev/null")


class Left:
    """What this process has started and opened by now."""

    def __init__(self) -> None:
        self.threads = set(threading.enumerate())
        self.servers = servers()
        self.processes = _children() - self.servers
        self.descriptors = _descriptors()
        self.files = set(os.listdir(tempfile.gettempdir()))  # noqa: PTH208 - names are enough

    def since(self, before: Left) -> list[str]:
        """Return what has come since then, as lines."""
        threads = {one for one in self.threads - before.threads if one.is_alive() and one.name != _WATCH}
        found = [f"the thread {one.name}" for one in threads]
        found += [f"the process {_command_of(pid)!r}" for pid in self.processes - before.processes]
        more = self.descriptors - before.descriptors
        if self.servers - before.servers:
            del more["pipe"]  # to the servers that serve this process until its end
        found += [f"{count} of the descriptor {kind}" for kind, count in more.items()]
        found += [f"the temporary file {name}" for name in self.files - before.files if not name.startswith("pymp-")]
        return found


def left_since(before: Left) -> list[str]:
    """Return what is left since then, when all that ends by itself has had its time."""
    found = Left().since(before)
    until = time.monotonic() + PATIENCE
    while found and time.monotonic() < until:
        gc.collect()  # noqa: TID251 - objects in reference cycles hold descriptors
        time.sleep(0.01)  # noqa: TID251 - what ends by itself tells nobody
        found = Left().since(before)
    return found


def servers() -> set[int]:
    """Return the ids of the processes that serve this one until its end."""
    # Python has no other names for them.
    pids = (
        getattr(forkserver._forkserver, "_forkserver_pid", None),  # type: ignore[attr-defined]
        getattr(resource_tracker._resource_tracker, "_pid", None),
    )
    return {pid for pid in pids if pid is not None}


def _children() -> set[int]:
    """Return the ids of the processes that this one has started."""
    found: set[int] = set()
    for task in (_PROCESS / "task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:120]
    return str(pid)


def _descriptors() -> collections.Counter[str]:
    """Return the open descriptors: how many of each kind, or file."""
    kinds: collections.Counter[str] = collections.Counter()
    for link in (_PROCESS / "fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(link)  # noqa: PTH115 - of a socket it is no path
            kinds[target if target.startswith(("/", "anon")) else target.partition(":")[0]] += 1
    for kept in _KEPT:
        del kinds[kept]
    return kinds
