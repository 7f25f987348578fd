"""Locks of records in a folder: the file `lock` beside a record, which excludes other processes and other threads.

A forked process does not keep the locks of its parent. The errors of files are translated here, too.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from taskflowx import exceptions
from taskflowx.persistence import codec

#: the file beside a record that is locked; that of a flow also holds the claim of its run
LOCK = "lock"
FILE_MODE = 0o600
BINARY = getattr(os, "O_BINARY", 0)  # Windows translates line ends without it

held: set[int] = set()  # descriptors of locked files
waiting: dict[str, collections.deque[threading.Event]] = {}  # path -> the waiting threads of this process
_waiting_lock = threading.Lock()


def _forget_locks() -> None:
    """In a forked process, close the descriptors that hold the locks of its parent."""
    global waiting, _waiting_lock
    waiting, _waiting_lock = {}, threading.Lock()  # a thread of the parent may have changed or locked them
    while held:
        with contextlib.suppress(OSError):
            os.close(held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


@contextlib.contextmanager
def locked(path: str, *, alone: bool, seconds_left: Callable[[], float]) -> Iterator[None]:
    """Lock a record for the block; a record that does not exist is not locked.

    :param alone: whether to exclude readers as well
    :param seconds_left: returns the maximum wait in seconds
    """
    path = f"{path}/{LOCK}"
    number = _open_lock(path, alone=alone)
    try:
        # Not `lockf`: it does not exclude other threads, and any thread that closes the file releases the lock.
        while True:  # its end, other than that of a loop with a condition, belongs to the `try` in each CPython
            if number is None or sys.platform == "win32":
                break
            held.add(number)
            with translated(path):
                _lock(number, path, alone=alone, seconds_left=seconds_left)
                if os.fstat(number).st_nlink:
                    break
            _unlock(number, path)  # it was removed during the wait
            number = _open_lock(path, alone=alone)
        yield
    finally:
        if number is not None:
            _unlock(number, path)


def _lock(number: int, path: str, *, alone: bool, seconds_left: Callable[[], float]) -> None:
    import fcntl

    kind = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
    if not alone or path not in waiting:  # a thread that writes repeatedly must not always be the first
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(number, kind)
            return
    ends = time.monotonic() + seconds_left()
    turn = threading.Event()
    with _waiting_lock:
        queue = waiting.setdefault(path, collections.deque())
        queue.append(turn)
    _call_next(path)
    try:
        # One thread of this process polls, as the system has no wait with a timeout; the others wait for their turn.
        turn.wait(max(ends - time.monotonic(), 0))
        while True:
            turn.clear()
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(number, kind)
                return
            if time.monotonic() >= ends:
                msg = f"'{path}' is locked by {_holders(number)}, and stayed so\nEnd that process if it is stuck"
                raise exceptions.StorageFailure(msg)
            turn.wait(0.001)  # or until this process releases it
    finally:
        with _waiting_lock:
            queue.remove(turn)
            if not queue:
                del waiting[path]
        _call_next(path)


def _call_next(path: str) -> None:
    """Let the first thread that waits for a lock in this process poll it."""
    if path in waiting:
        with _waiting_lock:
            for turn in itertools.islice(waiting.get(path, ()), 1):
                turn.set()


def _holders(number: int) -> str:
    """Name the processes that hold a file lock, where the system tells."""
    inode = str(os.fstat(number).st_ino)
    found = set()
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii", errors="replace") as file:
        for line in file:
            if " FLOCK " in line and f":{inode} " in line:
                found.add(line.split()[4])
    return f"process {' and '.join(sorted(found))}" if found else "another process"


def _unlock(number: int, path: str) -> None:
    if number not in held and sys.platform != "win32":
        return  # this is a fork of the process that holds it
    held.discard(number)
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(number, fcntl.LOCK_UN)  # closing is not enough where a fork holds it, too
    finally:
        os.close(number)
    _call_next(path)


def _open_lock(path: str, *, alone: bool) -> int | None:
    """Open the lock file, and make it for a write; None when there is nothing to lock."""
    with translated(path):
        for flags in (0, os.O_CREAT | os.O_EXCL, 0) if alone else (0,):
            try:
                number = os.open(path, (os.O_RDWR if alone else os.O_RDONLY) | flags | BINARY, FILE_MODE)
            except FileNotFoundError:
                continue
            except FileExistsError:  # another process was faster
                continue
            if flags:
                make_private(number)
            return number
    return None


def make_private(number: int) -> None:
    """Set the mode of a new file, whatever the umask has removed."""
    if hasattr(os, "fchmod"):
        os.fchmod(number, FILE_MODE)


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Translate errors of files into our own.

    :param path: the file in question
    """
    try:
        yield
    except FileNotFoundError as error:
        raise exceptions.NotFound(f"Item not found: {path}", error) from error
    except (UnicodeError, IsADirectoryError, NotADirectoryError) as error:
        what = "it is no text in its encoding" if isinstance(error, UnicodeError) else "it should be a file in a folder"
        raise codec.Unreadable(f"The file '{path}' is damaged, {what}", error) from error
    except OSError as error:
        raise exceptions.StorageFailure(f"Storage backend internal error at '{path}'", error) from error
