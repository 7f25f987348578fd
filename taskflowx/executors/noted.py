"""Verbs of calls that report: when and where their call begins, and where its result is kept, if that is large.

Executors take one for the text that it is. Where the call shares memory with the engine, the verb keeps what it
reports. Elsewhere a copy of it reports that the way that progress is reported, which every executor has, before the
outcome.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

from taskflowx import task

#: the name of the worker in which calls are made; None for that of the thread, or of the process
WORKER: contextvars.ContextVar[str | None] = contextvars.ContextVar("taskflowx.executors.noted.WORKER", default=None)
_numbers = itertools.count()


def worker() -> str:
    """Return the name of the worker that this code runs in, in the process of the engine."""
    return WORKER.get() or threading.current_thread().name


class Keeper(Protocol):
    """Keeps large results, in the worker that has made them."""

    @property
    def packed(self) -> bytes | None:
        """The keeper, pickled for workers in other processes; None where it cannot be."""

    def keep(self, name: str, value: Any) -> Any:
        """Return the reference to the result of an atom, a tuple of plain values; None when it is not large."""


class Begun(dict[str, Any]):
    """The report that a call has begun: `began`, in seconds since 1970, and `worker`."""


class Kept(dict[str, Any]):
    """The report that the result of a call is kept: `number`, that of its verb, and `reference`."""


class Noted(str):
    """A verb whose call is made in the process of the engine.

    :param verb: `states.EXECUTE` or `states.REVERT`
    :param now: returns the time of day, in seconds since 1970; None when nobody asks when the call begins
    :param keeper: keeps the result; None when the engine does
    """

    __slots__ = ("_keeper", "_now", "began", "kept", "number", "worker")

    #: unset until the call has begun
    began: float
    worker: str
    #: the reference to the result; None when it is not large; unset when it was not looked at
    kept: Any

    def __new__(cls, verb: str, now: Callable[[], float] | None, keeper: Keeper | None = None) -> Self:
        """Make one from the text of a verb."""
        made = super().__new__(cls, verb)
        made._now, made._keeper, made.number = now, keeper, next(_numbers)
        return made

    _now: Callable[[], float] | None
    _keeper: Keeper | None
    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        if self._keeper is None or self._keeper.packed is None:
            return Apart, (str(self),)  # equal for all calls of a task: some executors look at that
        return Apart, (str(self), self._now is not None, self.number, self._keeper.packed)

    def begin(self, atom: Any) -> None:
        """Note that the call begins."""
        if self._now is not None:
            self.began = self._now()
            self.worker = worker()

    def end(self, atom: Any, value: Any) -> None:
        """Keep what the call returns, if it is large. Where that fails the engine does it, which knows what to do."""
        if self._keeper is not None:
            with contextlib.suppress(Exception):
                self.kept = self._keeper.keep(atom.name, value)


class Apart(str):
    """The copy of a verb in another process.

    :param verb: as for `Noted`
    :param notes: whether somebody asks when the call begins
    :param number: that of the verb in the engine
    :param packed: keeps the result; None when the engine does
    """

    __slots__ = ("_notes", "_number", "_packed")

    def __new__(cls, verb: str, notes: bool = True, number: int = -1, packed: bytes | None = None) -> Self:
        """Make one from the text of a verb."""
        made = super().__new__(cls, verb)
        made._notes, made._number, made._packed = notes, number, packed
        return made

    _notes: bool
    _number: int
    _packed: bytes | None

    def begin(self, atom: Any) -> None:
        """Report that the call begins."""
        report = task.PROGRESS.get()
        if report is not None and self._notes:
            report(atom, Begun(began=time.time(), worker=WORKER.get() or f"process {os.getpid()}"))

    def end(self, atom: Any, value: Any) -> None:
        """Keep what the call returns, if it is large, and report that."""
        report = task.PROGRESS.get()
        if report is not None and self._packed is not None:
            reference = None
            with contextlib.suppress(Exception):
                reference = _unpacked(self._packed).keep(atom.name, value)
            if reference is not None:
                report(atom, Kept(number=self._number, reference=tuple(reference)))


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> Any:
    return pickle.loads(packed)  # noqa: S301 - from the engine, as all that a worker gets
