"""How a running call is stopped: `checkpoint`, which tasks call, and the tokens that it asks.

A context variable holds the token of the call. Who interrupts a call makes its token raise; `checkpoint` asks the token
that it finds, and without one there is nothing to stop. A call costs nothing for it: tokens belong to a run, or to a
worker thread, and not to a call.

- A call in the thread of the engine cannot be interrupted from there. The scheduler makes one `Token` for its run, and
  puts it into the context of the run (`base.context_of_calls(report, token)`). Another thread cancels the run by
  `token.error = error`. A call with a time limit has a `Limited` of its own around that token; any other call goes on
  without a step more. While the scheduler calls reverts, `token.undoes` is true: a cancel does not stop these, nor the
  end of the time of the run.
- A thread of ours has a token of its own, and coroutines find theirs by their call: see `threads` and `coroutines`.
  These raise what `Executor.interrupt` was given.
- In a worker process there is none: the process is killed.

What a task starts itself sees the token if it has a copy of the task's context: coroutines and `asyncio.to_thread` do,
and a thread whose target is `contextvars.copy_context().run`. One that outlives its call sees a cancel of the run, and
no time limit of the calls that follow it in the thread of the engine; in a thread of ours it sees what comes to the
calls that follow it there, as a token of its own would cost each call a tenth. In other threads `checkpoint` returns
None. A run within a task has a token of its own, and its tasks see that one alone.
"""

from __future__ import annotations

import contextvars
import copy
import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """What tells the time to a token."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


class Stopping(Protocol):
    """A token: what `checkpoint` asks."""

    @property
    def given_up(self) -> bool:
        """Whether the executor has abandoned the call, so that nobody hears of it any more."""

    def check(self) -> None:
        """Raise the error by which the call is to stop; return None if it may go on."""


class Stop:
    """What a call has that was interrupted.

    :param error: what it was interrupted by
    """

    __slots__ = ("error", "given_up")

    def __init__(self, error: BaseException) -> None:
        self.error = error
        #: whether the call was given up since
        self.given_up = False


#: the token of the call that runs here; None outside of runs, and where nothing can be stopped
TOKEN: contextvars.ContextVar[Stopping | None] = contextvars.ContextVar(
    "taskflowx.executors.stopping.TOKEN", default=None
)


class Token:
    """The token of a run, for its calls in the thread of the engine: one after another.

    Any thread may set `error`; all else is the engine's.

    :param clock: tells the seconds of deadlines; by default that of the system
    """

    __slots__ = ("_clock", "error", "late", "undoes")

    given_up = False

    def __init__(self, clock: Clock | Any = time) -> None:
        self._clock = clock
        #: what stops the calls of the run, until somebody sets it to None
        self.error: BaseException | None = None
        #: when the time of the run is up, if its calls are to stop then, and what stops them
        self.late: tuple[float, BaseException] | None = None
        #: whether the calls are reverts, which neither of these stops
        self.undoes = False

    def check(self) -> None:
        """Raise the error by which the call is to stop.

        :raises BaseException: what `error` or `late` holds
        """
        if not self.undoes:
            error, late = self.error, self.late
            if error is not None:
                raise error
            if late is not None and self._clock.monotonic() >= late[0]:
                raise copy.copy(late[1])


class Limited:
    """The token of a call with a time limit in the thread of the engine.

    :param run: the token of its run
    :param clock: tells the seconds of the deadline
    :param deadline: None once the call has ended
    :param exceeded: makes the error that `checkpoint` raises when that has passed
    """

    __slots__ = ("_clock", "_exceeded", "_run", "deadline")

    given_up = False

    def __init__(self, run: Token, clock: Clock, deadline: float | None, exceeded: Callable[[], BaseException]) -> None:
        self._run, self._clock, self._exceeded = run, clock, exceeded
        self.deadline = deadline

    def check(self) -> None:
        """Raise the error by which the call is to stop.

        :raises BaseException: that of the run, or what `exceeded` makes when the deadline has passed
        """
        self._run.check()
        deadline = self.deadline
        if deadline is not None and self._clock.monotonic() >= deadline:
            raise self._exceeded()


def checkpoint() -> None:
    """Raise an error if this call is to stop: its time is up, or its run is cancelled. Otherwise return None.

    A task in a thread calls it wherever it may be left, such as in each turn of a long loop. Outside of runs, and in
    worker processes, it returns None.

    :raises TimeoutExceeded: when the call has exceeded its time limit
    :raises Cancelled: when the run was cancelled
    """
    token = TOKEN.get()
    if token is not None:
        token.check()
