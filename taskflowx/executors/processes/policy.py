"""Which worker gets which call, and how long calls are thought to take.

Short calls are sent ahead, as many as take about `AHEAD` seconds by what calls of their kind have taken so far; long
ones, and those of a kind that has not been seen, one by one. So a worker has something to do while the engine is busy.
What has been sent and has not begun can be taken back: for a worker that is idle, and when the run stops.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskflowx.executors import base
    from taskflowx.executors.processes.handle import Handle

#: seconds of work that a worker is sent ahead
AHEAD = 0.01
#: how many calls go to a worker at once
IN_ONE_GO = 256
#: seconds after which calls that wait behind another one are taken from a worker for one that is idle
PATIENCE = 0.002
#: while each worker has so many calls, what they send is gathered for so many seconds at least before it is read
_MANY, _GATHER = 16, 0.0003


class Kind:
    """What is known of calls that are thought to be alike."""

    __slots__ = ("followed", "seconds")

    def __init__(self) -> None:
        #: how many seconds one is thought to take; None while none has ended
        self.seconds: float | None = None
        #: whether what follows one is sent with it; not where results are not flat
        self.followed = True

    @property
    def load(self) -> float:
        """How many seconds of work one is: one that is not known fills a worker, as a long one does."""
        seconds = self.seconds
        return AHEAD if seconds is None or seconds > AHEAD else seconds

    def learn(self, seconds: float) -> None:
        """Note how long one has taken: one is thought to take as long as the slowest, and soon less again."""
        before = self.seconds or 0.0
        self.seconds = seconds if seconds > before else before + (seconds - before) / 8


class Kinds:
    """The kinds of the calls of a run: tasks of one class, or of one function, are alike."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[Any, Kind]] = {states.EXECUTE: {}, states.REVERT: {}}

    def of(self, call: base.Call) -> Kind:
        """Return what is known of calls like this one."""
        kinds, atom = self._kinds[call.verb], call.atom
        alike = atom.__dict__.get("_execute") or atom.__class__  # tasks of functions differ by these
        kind = kinds.get(alike)
        if kind is None:
            kind = kinds[alike] = Kind()
        return kind


def by_load(one: Handle) -> float:
    """Return by what workers are sorted: who has least to do is given calls first."""
    return one.load


def seconds_to_gather(workers: Sequence[Handle]) -> float:
    """Return for how long no worker waits for us: the more has come then, the less each costs."""
    if workers and all(len(one.sent) >= _MANY for one in workers):
        return max(_GATHER, min(map(by_load, workers)) / 8)
    return 0.0


def is_behind(workers: Sequence[Handle]) -> bool:
    """Tell whether calls wait in a worker while another one is idle."""
    if len(workers) < 2:  # noqa: PLR2004
        return False
    idle = waits = False
    for one in workers:
        count = len(one.sent) - one.ahead  # a follower waits for the call before it
        idle |= not count
        waits |= count > 1
    return idle and waits


def burdened(workers: Iterable[Handle]) -> list[Handle]:
    """Return the workers that have been at one call for long, while others wait behind it."""
    now = time.monotonic()
    return [
        one
        for one in workers
        if len(one.sent) - one.ahead > 1 and (one.load > PATIENCE or now - one.heard_at > PATIENCE)
    ]
