"""Timeouts for an unresponsive database server: no driver has one for each of its waits.

`Watch` closes the socket of a connection whose server has not answered in time; any driver turns that into the error of
a lost connection. `connect` gives up a connection that is not made in time, name resolution and handshakes included.
`BoundedPool` waits for a connection no longer than the caller's deadline.

Times are those of `time.monotonic`. What must stay true: a connection that was closed here is not used again, and one
that is no longer watched is not closed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from typing import Any

from sqlalchemy.pool import QueuePool

_LOOKS_EVERY = 0.2  # seconds between two checks of the watched connections
_LINGERS = 10.0  # seconds without watched connections after which the thread ends


class Asking(threading.local):
    """The limits of the current thread's request for a connection."""

    #: its deadline; None for the limit of the settings
    at: float | None = None
    #: new connections during their setup; None if the thread handles these itself
    made: list[Watched] | None = None


asking = Asking()


class BoundedPool(QueuePool):
    """A pool that waits no longer than `asking.at`."""

    @property
    def _timeout(self) -> float:
        given: float = self.__dict__["_given"]
        return given if asking.at is None else max(0.0, min(given, asking.at - time.monotonic()))

    @_timeout.setter
    def _timeout(self, seconds: float) -> None:
        self.__dict__["_given"] = seconds


@dataclasses.dataclass(slots=True, eq=False)
class Watched:
    """A connection that waits for an answer.

    :param raw: the driver's connection
    :param seconds: the timeout of one statement; 0 for none
    :param deadline: the deadline of everything
    """

    _raw: Any
    _seconds: float
    _deadline: float | None
    ends: float = 0.0

    def __post_init__(self) -> None:
        self.asks()

    def asks(self) -> None:
        """Record that the next statement begins."""
        deadline = math.inf if self._deadline is None else self._deadline
        self.ends = min(time.monotonic() + self._seconds, deadline) if self._seconds else deadline

    def cut(self) -> None:
        """Close the socket of the connection, which wakes up the waiting thread."""
        try:
            own = getattr(self._raw, "_sock", None)  # PyMySQL's; other drivers have `fileno`
            number = self._raw.fileno() if own is None else own.fileno()
            with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as end:
                end.shutdown(socket.SHUT_RDWR)
        except Exception:  # noqa: BLE001, S110 - it is closed already, or of a driver that has no socket to show
            pass


class Watch:
    """A thread that checks the connections that wait for answers; it ends when there are none."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Restart, as in a forked process."""
        self._entries: dict[int, Watched] = {}
        self._starting = threading.Lock()
        self._runs = False

    def enter(self, watched: Watched) -> None:
        """Start to watch a connection."""
        self._entries[id(watched)] = watched
        if not self._runs and not sys.is_finalizing():  # to start a thread would wait for ever
            with self._starting:
                if not self._runs:
                    self._runs = True
                    threading.Thread(target=self._work, name="taskflowx-database-watch", daemon=True).start()

    def leave(self, watched: Watched) -> bool:
        """Stop watching a connection; returns whether it may still be used."""
        return self._entries.pop(id(watched), None) is not None

    def _work(self) -> None:
        pause, idle_since = threading.Event(), time.monotonic()
        while True:
            pause.wait(_LOOKS_EVERY)
            now = time.monotonic()
            entries = list(self._entries.items())
            for key, watched in entries:
                if watched.ends <= now and self._entries.pop(key, None) is not None:
                    watched.cut()
            if entries:
                idle_since = now
            elif now - idle_since > _LINGERS:
                with self._starting:
                    self._runs = False
                    if not self._entries:
                        return
                    self._runs = True


watch = Watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.forget)


def _made_within(make: Callable[[], Any], seconds: float) -> Any:
    """Return what a function makes in a thread of its own; if it is made too late it is closed.

    :raises TimeoutError: when it is not made in time
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            made = make()
        except BaseException as error:  # noqa: BLE001 - of whatever kind, it is raised where the connection was asked for
            with contextlib.suppress(InvalidStateError):
                outcome.set_exception(error)
            return
        try:
            outcome.set_result(made)
        except InvalidStateError:  # it was given up
            made.close()

    threading.Thread(target=work, name="taskflowx-database-connect", daemon=True).start()
    try:
        wait([outcome], seconds)
    finally:
        is_late = outcome.cancel()
    if is_late:
        raise TimeoutError
    return outcome.result()


def connect(make: Callable[[], Any], seconds: float) -> Any:
    """Return a driver's connection.

    Its setup is watched as well.

    :param make: makes it; called in a thread of its own
    :param seconds: the timeout; 0 for none
    :raises TimeoutError: when it takes longer
    """
    ends = asking.at
    if ends is not None:
        left = max(0.01, ends - time.monotonic())
        seconds = min(seconds, left) if seconds else left
    made = _made_within(make, seconds) if seconds and not sys.is_finalizing() else make()
    if seconds and asking.made is not None:
        watched = Watched(made, seconds, ends)
        asking.made.append(watched)
        watch.enter(watched)
    return made


@contextlib.contextmanager
def asking_until(deadline: float | None) -> Iterator[None]:
    """Limit the wait for a connection in the block.

    :param deadline: its deadline; None for the limit of the settings
    """
    asking.at, asking.made = deadline, []
    try:
        yield
    finally:
        for watched in asking.made:
            watch.leave(watched)
        asking.at = asking.made = None
