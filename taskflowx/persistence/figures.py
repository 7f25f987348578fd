"""The figures of a run, worked out from its history: calls, times, workers, and the critical path.

Everything here is a function of what it is given; engines and views of stored runs call the same ones.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskflowx import states

if TYPE_CHECKING:
    from taskflowx.persistence.history import Entry


class Call(NamedTuple):
    """One call of an atom that has ended; times are in seconds since 1970."""

    atom: str
    #: 'EXECUTE' or 'REVERT'
    verb: str
    attempt: int
    #: how often the same verb had been called before in this attempt
    repeated: int
    #: the number of the entry that says that it was handed to the executor
    number: int
    handed: float
    #: when it began on its worker; None when that is unknown
    began: float | None
    ended: float
    worker: str | None
    #: the state that it has led to; RUNNING or REVERTING of one that was interrupted, and is made again
    state: str
    failure: str | None

    @property
    def queued(self) -> float | None:
        """For how many seconds it waited for a worker; None when that is unknown."""
        return None if self.began is None else max(self.began - self.handed, 0.0)

    @property
    def ran(self) -> float:
        """For how many seconds it ran; with the wait for a worker where that is unknown."""
        return max(self.ended - (self.handed if self.began is None else self.began), 0.0)


class Times(NamedTuple):
    """Several durations, in seconds."""

    #: how many there are
    calls: int
    total: float
    least: float
    median: float
    p95: float
    most: float


class Metrics(NamedTuple):
    """The figures of a run."""

    #: how many atoms are in each state
    states: dict[str, int]
    #: how many calls of `execute` followed a first one of the same atom
    retries: int
    #: how many calls of `revert` have ended
    rollbacks: int
    #: name of an atom -> how long its calls waited for a worker
    queue_times: dict[str, Times]
    #: name of an atom -> how long its calls ran
    run_times: dict[str, Times]
    #: how often the record was written to its store; 0 in memory
    commits: int
    #: how many bytes of records and history this engine has written; None for a view of a stored run
    bytes_written: int | None
    #: worker -> the share of the time of the run in which it made calls; calls that overlap count once
    busy: dict[str, float]
    #: the names of the atoms that the run took as long as, first to last
    critical_path: tuple[str, ...]
    #: how many seconds passed along these, from the first that was handed out to the end of the last
    critical_seconds: float
    #: how many seconds the flow was under way
    seconds: float


class Calls:
    """Pairs the entries of a history to calls, one entry after another."""

    def __init__(self) -> None:
        self._under_way: dict[str, Entry] = {}
        self._made: Counter[tuple[str, str, int]] = Counter()

    def take(self, entry: Entry) -> Call | None:
        """Take the next entry; returns the call that has ended with it, or was found to be interrupted."""
        atom, found = entry.atom, None
        if atom is None:
            return None
        begin = self._under_way.pop(atom, None)
        if begin is not None and (entry.new in states.WITH_OUTCOME or entry.new in states.CALLED):
            verb = states.EXECUTE if begin.new == states.RUNNING else states.REVERT
            key = (atom, verb, begin.attempt)
            repeated = self._made[key]
            self._made[key] += 1
            times = begin.at, entry.began, entry.at
            found = Call(*key, repeated, begin.number, *times, entry.worker, entry.new, entry.failure)
        if entry.new in states.CALLED:
            self._under_way[atom] = entry
        return found


def calls_of(entries: Iterable[Entry]) -> list[Call]:
    """Return the calls in a history that have ended or were interrupted, in the order of their ends."""
    take = Calls().take
    return [call for entry in entries if (call := take(entry)) is not None]


class Links:
    """Which node of a flow comes after which ones.

    :param names: the names of the nodes; None for one that is no atom, and stands for those before it
    :param before: for each node the indices of those before it
    """

    def __init__(self, names: Sequence[str | None], before: Sequence[Iterable[int]]) -> None:
        self._names = names
        self._before = before
        self._index = {name: i for i, name in enumerate(names) if name is not None}
        self._after: list[list[int]] | None = None

    @classmethod
    def of_pairs(cls, names: Sequence[str], pairs: Iterable[Sequence[str]]) -> Links:
        """Make them of pairs (name, name of one that comes after it); a pair with another name counts for nothing."""
        index = {name: i for i, name in enumerate(names)}
        before: list[list[int]] = [[] for _ in names]
        for source, target in pairs:
            if source in index and target in index:
                before[index[target]].append(index[source])
        return cls(list(names), before)

    @classmethod
    def of_after(cls, names: Sequence[str | None], after: Sequence[Iterable[int]]) -> Links:
        """Make them of the indices of the nodes that come after each node."""
        before: list[list[int]] = [[] for _ in names]
        for place, following in enumerate(after):
            for one in following:
                before[one].append(place)
        return cls(names, before)

    def before(self, name: str) -> Iterator[str]:
        """Iterate over the atoms directly before one."""
        return self._near(name, self._before)

    def after(self, name: str) -> Iterator[str]:
        """Iterate over the atoms directly after one."""
        if self._after is None:
            self._after = [[] for _ in self._names]
            for i, sources in enumerate(self._before):
                for source in sources:
                    self._after[source].append(i)
        return self._near(name, self._after)

    def _near(self, name: str, side: Sequence[Iterable[int]]) -> Iterator[str]:
        start = self._index.get(name)
        pending = [] if start is None else list(side[start])
        seen = set(pending)
        while pending:
            node = pending.pop()
            found = self._names[node]
            if found is not None:
                yield found
                continue
            further = [i for i in side[node] if i not in seen]
            seen.update(further)
            pending.extend(further)


def metrics(
    entries: Sequence[Entry],
    atom_states: Iterable[str | None],
    *,
    commits: int = 0,
    bytes_written: int | None = None,
    links: Links | None = None,
) -> Metrics:
    """Work out the figures of a run.

    :param entries: its history; without one the figures that are drawn from it are empty
    :param atom_states: the states of its atoms
    :param commits: how often its record was written
    :param bytes_written: how many bytes that were
    :param links: of the flow; without them an atom counts as coming after the one whose end its call followed
    """
    calls = calls_of(entries)
    seconds = _seconds_under_way(entries)
    queued: dict[str, list[float]] = defaultdict(list)
    ran: dict[str, list[float]] = defaultdict(list)
    at_work: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for call in calls:
        if call.state in states.CALLED:  # nobody knows when it ended
            continue
        ran[call.atom].append(call.ran)
        if call.queued is not None:
            queued[call.atom].append(call.queued)
        if call.began is not None and call.worker is not None:
            at_work[call.worker].append((call.began, call.ended))
    path = _critical_path(calls, links)
    executed = [entry for entry in entries if entry.atom is not None and entry.new == states.RUNNING]
    return Metrics(
        states=dict(sorted(Counter(state or states.PENDING for state in atom_states).items())),
        retries=sum(entry.attempt > 1 for entry in executed),
        rollbacks=sum(call.verb == states.REVERT and call.state not in states.CALLED for call in calls),
        queue_times={name: times(given) for name, given in queued.items()},
        run_times={name: times(given) for name, given in ran.items()},
        commits=commits,
        bytes_written=bytes_written,
        busy={worker: _covered(spans) / seconds if seconds else 0.0 for worker, spans in sorted(at_work.items())},
        critical_path=tuple(call.atom for call in path),
        critical_seconds=path[-1].ended - path[0].handed if path else 0.0,
        seconds=seconds,
    )


def times(seconds: Sequence[float]) -> Times:
    """Return the figures of some durations, of which there is one at least; the 95th percentile is one of them."""
    ordered = sorted(seconds)
    p95 = ordered[max(math.ceil(0.95 * len(ordered)) - 1, 0)]
    return Times(len(ordered), math.fsum(ordered), ordered[0], statistics.median(ordered), p95, ordered[-1])


def _seconds_under_way(entries: Sequence[Entry]) -> float:
    """Return how long the flow was in a state other than those at rest."""
    total, since = 0.0, None
    for entry in entries:
        if entry.atom is not None:
            continue
        if entry.new in states.AT_REST or entry.new == states.PENDING:
            total += 0.0 if since is None else entry.at - since
            since = None
        elif since is None:
            since = entry.at
    if since is not None:
        total += entries[-1].at - since
    return max(total, 0.0)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return how many seconds lie in at least one of these spans."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total


def _critical_path(calls: list[Call], links: Links | None) -> list[Call]:
    """Return the calls of `execute` that led to the last one: each is the one that its successor waited for longest."""
    last: dict[str, Call] = {}
    for call in calls:
        if call.verb == states.EXECUTE and call.state in (states.SUCCESS, states.FAILURE):
            last[call.atom] = call
    ordered = sorted(last.values(), key=lambda call: call.ended)
    if not ordered:
        return []
    path = [ordered[-1]]
    if links is None:
        for call in reversed(ordered[:-1]):
            if call.ended <= path[-1].handed:
                path.append(call)
    else:
        while True:
            known = [last[name] for name in links.before(path[-1].atom) if name in last]
            known = [call for call in known if call.number < path[-1].number]
            if not known:
                break
            path.append(max(known, key=lambda call: call.ended))
    path.reverse()
    return path
