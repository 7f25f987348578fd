"""Dispatch policy: which worker gets which call, and estimates of how long calls take.

Short calls are sent ahead: as many as take about `AHEAD` seconds, estimated from earlier calls of their kind. Long
calls, and those of an unknown kind, are sent one by one. So a worker has something to do while the engine is busy.
Calls that have not started can be cancelled: for an idle worker, and when the run stops.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskflowx.executors import base
    from taskflowx.executors.processes.handle import Handle

#: seconds of work that a worker is sent ahead
AHEAD = 0.01
#: the maximum number of calls in one batch
IN_ONE_GO = 256
#: seconds after which calls that wait behind another one are moved to an idle worker
REBALANCE_AFTER = 0.002
#: coalescing: while each worker has so many calls, reading their frames is delayed by at least so many seconds
_MANY, _GATHER = 16, 0.0003


class Kind:
    """Statistics of calls that are assumed to be alike."""

    __slots__ = ("followed", "seconds")

    def __init__(self) -> None:
        #: the estimated duration of a call; None until one has ended
        self.seconds: float | None = None
        #: whether the next calls of a chain are sent with these; false after a result that is not flat
        self.followed = True

    @property
    def load(self) -> float:
        """The estimated seconds of work of a call; an unknown call fills a worker, as a long one does."""
        seconds = self.seconds
        return AHEAD if seconds is None or seconds > AHEAD else seconds

    def learn(self, call: base.Call, microseconds: int) -> None:
        """Note how long a call has run; the estimate rises to the slowest at once, and falls gradually."""
        call.seconds = seconds = microseconds * 1e-6
        before = self.seconds or 0.0
        self.seconds = seconds if seconds > before else before + (seconds - before) / 8


class Kinds:
    """The kinds of the calls of a run: tasks of one class, or of one function, are alike."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[int, Kind]] = {states.EXECUTE: {}, states.REVERT: {}}

    def of(self, call: base.Call) -> Kind:
        """Return the kind of a call."""
        kinds, atom = self._kinds[call.verb], call.atom
        alike, function = atom.__class__, atom.__dict__.get("_tfx_execute")
        if function is not None:
            alike = getattr(function, "__code__", function.__class__)
        # Not by its hash, which users may define. An identity that is used again costs no more than an estimate.
        key = id(alike)
        kind = kinds.get(key)
        if kind is None:
            kind = kinds[key] = Kind()
        return kind


def by_load(one: Handle) -> float:
    """Return the sort key of workers: the least loaded gets calls first."""
    return one.load


def seconds_to_coalesce(workers: Sequence[Handle]) -> float:
    """Return the seconds for which no worker needs the engine: reading more frames at once makes each cheaper."""
    if workers and all(len(one.sent) >= _MANY for one in workers):
        return max(_GATHER, min(map(by_load, workers)) / 8)
    return 0.0


def is_behind(workers: Sequence[Handle]) -> bool:
    """Tell whether calls wait in a worker while another one is idle."""
    if len(workers) < 2:  # noqa: PLR2004
        return False
    idle = waits = False
    for one in workers:
        count = len(one.sent) - one.ahead  # the others await one of these
        idle |= not count
        waits |= count > 1
    return idle and waits


def burdened(workers: Iterable[Handle]) -> list[Handle]:
    """Return the workers with a long call that others wait behind."""
    now = time.monotonic()
    return [
        one
        for one in workers
        if len(one.sent) - one.ahead > 1 and (one.load > REBALANCE_AFTER or now - one.heard_at > REBALANCE_AFTER)
    ]
