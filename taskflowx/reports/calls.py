"""Calls, read from the history of a run: who waited how long for which worker, and what came after what.

What must stay true: each function is linear in the history, or n log n.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskflowx import states
from taskflowx.persistence import figures

if TYPE_CHECKING:
    from taskflowx.persistence.figures import Links
    from taskflowx.persistence.history import Entry

#: what a call is in that nobody has seen end
OPEN, INTERRUPTED = "OPEN", "INTERRUPTED"
#: what the names of workers begin with that make one call at a time: our own threads and processes
_ONE_AT_A_TIME = ("taskflowx-worker-", "process ")


class Call(NamedTuple):
    """One call of an atom.

    `queued` is when it was given to the executor, `began` when its worker began it, `ended` when it had ended, all in
    seconds since 1970. `outcome` is the state after it, OPEN when it was under way at the end of the history, and
    INTERRUPTED when it was made again without an end; `ended` is then the last that is known of it. `worker` is "" when
    it is not known.
    """

    atom: str
    attempt: int
    reverts: bool
    queued: float
    began: float
    ended: float
    worker: str
    outcome: str
    failure: str | None

    @property
    def waited(self) -> float:
        """How many seconds it waited for its worker."""
        return self.began - self.queued

    @property
    def ran(self) -> float:
        """How many seconds it ran."""
        return self.ended - self.began

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.outcome in (states.FAILURE, states.REVERT_FAILURE)


def calls_of(entries: Sequence[Entry]) -> list[Call]:
    """Return the calls of a history, in the order in which they were given to the executor."""
    found = [_ended(call) for call in figures.calls_of(entries)]
    last = {entry.atom: entry for entry in entries}
    found += [_open(entry, entries[-1].at) for entry in last.values() if entry.atom and entry.new in states.CALLED]
    found.sort(key=lambda call: call.queued)
    return _apart(found)


def _apart(calls: list[Call]) -> list[Call]:
    """Return calls of which none lasts until after the next one of a worker that makes one at a time.

    An end is on record when the engine has heard of it, which may be later than the begin of the next call.
    """
    following: dict[str, float] = {}
    ends = {}
    for i in sorted(range(len(calls)), key=lambda i: calls[i].began, reverse=True):
        call = calls[i]
        if call.worker.startswith(_ONE_AT_A_TIME):
            ends[i] = min(call.ended, following.get(call.worker, call.ended))
            following[call.worker] = call.began
    return [
        call if ends.get(i, call.ended) == call.ended else call._replace(ended=ends[i]) for i, call in enumerate(calls)
    ]


def _ended(call: figures.Call) -> Call:
    interrupted = call.state in states.CALLED  # nobody knows when it ended
    queued = call.handed
    ended = queued if interrupted else max(call.ended, queued)
    began = queued if interrupted or call.began is None else call.began
    return Call(
        call.atom,
        call.attempt,
        call.verb == states.REVERT,
        queued,
        # Clocks of other machines may be wrong: a call begins neither before it was queued nor after its end.
        min(max(began, queued), ended),
        ended,
        call.worker or "",
        INTERRUPTED if interrupted else call.state,
        call.failure,
    )


def _open(begin: Entry, until: float) -> Call:
    reverts = begin.new == states.REVERTING
    return Call(begin.atom or "", begin.attempt, reverts, begin.at, begin.at, max(until, begin.at), "", OPEN, None)


class Span(NamedTuple):
    """From when to when something was recorded, in seconds since 1970."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long that is."""
        return self.end - self.start


def span_of(entries: Sequence[Entry]) -> Span:
    """Return the span of a history that has entries."""
    started = min(min(one.at, one.began if one.began is not None else one.at) for one in entries)
    return Span(started, max(one.at for one in entries))


def by_worker(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Return the calls of each worker, the first worker first, those of which it is not known last."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.worker].append(call)
    unknown = found.pop("", None)
    return {**found, "": unknown} if unknown else dict(found)


def union(intervals: Iterable[tuple[float, float]], apart: float = 0.0) -> Iterator[tuple[float, float]]:
    """Iterate over intervals joined where they overlap, or are not further apart than so much."""
    begin, end = None, 0.0
    for start, stop in sorted(intervals):
        if begin is None:
            begin, end = start, stop
        elif start <= end + apart:
            end = max(end, stop)
        else:
            yield begin, end
            begin, end = start, stop
    if begin is not None:
        yield begin, end


def rows_of(intervals: Sequence[tuple[float, float]]) -> list[int]:
    """Return for each interval, which come by their begin, a row in which it overlaps no other one."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    rows = []
    for start, stop in intervals:
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (stop, row))
        rows.append(row)
    return rows


def critical_path(calls: Sequence[Call], links: Links) -> list[Call]:
    """Return the calls that the end of the run waited for, the first one first.

    It goes back from the call that ended last: before each call is that one of the atoms before it which ended last. In
    a rollback these are the atoms after it. A call that none of them explains, as the first of a rollback or of a
    further attempt, comes after whatever has ended last.
    """
    if not calls:
        return []
    times: dict[tuple[str, bool], list[tuple[float, int]]] = defaultdict(list)
    every: list[tuple[float, int]] = []
    for i, call in enumerate(calls):
        every.append((call.ended, i))
        times[call.atom, call.reverts].append((call.ended, i))
    every.sort()
    for known in times.values():
        known.sort()
    found = [max(range(len(calls)), key=lambda i: (calls[i].ended, i))]
    while True:
        call = calls[found[-1]]
        near = links.after(call.atom) if call.reverts else links.before(call.atom)
        best = _latest([times[name, call.reverts] for name in near if (name, call.reverts) in times], call, found[-1])
        own = _latest([times[call.atom, side] for side in (False, True) if (call.atom, side) in times], call, found[-1])
        if own is not None and (best is None or best < own):  # a rollback came between
            best = _latest([every], call, found[-1])
        if best is None:
            return [calls[i] for i in reversed(found)]
        found.append(best[1])


def _latest(ends: Iterable[list[tuple[float, int]]], call: Call, i: int) -> tuple[float, int] | None:
    """Return the last end, as (time, index of its call), of what had ended when call `i` was given to the executor."""
    best = None
    for known in ends:
        place = bisect_right(known, (call.queued, i - 1))  # what has ended earlier also was given to it earlier
        if place and (best is None or known[place - 1] > best):
            best = known[place - 1]
    return best
