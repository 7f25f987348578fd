"""How many at once, and how many a second: gates with capacities and token buckets, and who waits at them.

`Limits` decides who passes. What waits is held in groups of the same needs, each of them in order; a group waits at
the first gate that has no room for its first member. A turn looks at what is new and at gates that have got room, and
at nothing else, so ten thousand that wait at one gate cost as much a turn as one.

A key stands for one call; its rank, the smaller the sooner, for its place in the order. The engine's part is in
`engines.admission`; nothing here knows of it, and time comes from a clock that is passed in.

What must stay true:

- The amounts that are held of a gate never exceed its capacity, and a bucket never gives more than it has.
- No call passes another one that goes before it in rank and waits at the same gate, however little it needs. Where that
  one does not wait it is passed: a call takes all of the gates that it needs at once, or none.
- Where nothing is held, whatever waits has room, or a time at which a bucket has refilled.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol


class Clock(Protocol):
    """What tells the time."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""


class Bucket:
    """A token bucket, full at first: it holds `tokens` at most, and gets that many more within each `seconds`.

    The tokens that were taken since it was full are counted, so that errors of floats do not add up.
    """

    __slots__ = ("_since", "_taken", "seconds", "tokens")

    def __init__(self, tokens: int, seconds: float) -> None:
        self.tokens = tokens
        self.seconds = seconds
        self._since = -math.inf
        self._taken = 0

    def due(self, amount: int) -> float:
        """Return the time from which on there are so many tokens; infinity if there never are."""
        if amount > self.tokens:
            return math.inf
        return self._since + (self._taken + amount - self.tokens) * self.seconds / self.tokens

    def take(self, amount: int, now: float) -> None:
        """Take tokens that are there."""
        if self.due(self.tokens) <= now:  # it is full
            self._since, self._taken = now, 0
        self._taken += amount

    def put_back(self, amount: int) -> None:
        """Return tokens to the bucket: the calls that used them have not begun."""
        self._taken = max(self._taken - amount, 0)


class Gate:
    """What calls pass, and hold a part of until they end.

    :param name: what it limits
    :param capacity: how much of it may be held at once; infinity for any amount
    :param bucket: how much may pass in a time; None for any amount
    """

    __slots__ = ("bucket", "capacity", "due", "free", "name", "waiting")

    def __init__(self, name: str, capacity: float = math.inf, bucket: Bucket | None = None) -> None:
        self.name = name
        self.capacity = self.free = capacity
        self.bucket = bucket
        #: (rank, key, group): the first of each group that waits here; entries may be out of date
        self.waiting: list[tuple[int, int, Group]] = []
        #: the time at which `Limits` looks at it again
        self.due = math.inf

    @property
    def most(self) -> int:
        """The largest amount that ever passes."""
        most = self.capacity if self.bucket is None else min(self.capacity, self.bucket.tokens)
        return sys.maxsize if most == math.inf else int(most)

    def has_room(self, amount: int, now: float) -> bool:
        """Tell whether so much may pass now."""
        return amount <= self.free and (self.bucket is None or self.bucket.due(amount) <= now)

    def take(self, amount: int, now: float) -> None:
        """Take so much, for which there is room."""
        self.free -= amount
        if self.bucket is not None:
            self.bucket.take(amount, now)

    def __lt__(self, other: Gate) -> bool:
        return False  # of two at the same place in a heap either is first


class Group:
    """The calls of the same needs.

    :param needs: the gates that each passes, and how much of them it holds
    """

    __slots__ = ("at", "needs", "waiting")

    def __init__(self, needs: tuple[tuple[Gate, int], ...]) -> None:
        self.needs = needs
        #: (rank, key) of the waiting calls; entries may be out of date
        self.waiting: list[tuple[int, int]] = []
        #: the gate at which the first of them waits
        self.at: Gate | None = None

    def first(self, held: Mapping[int, Any]) -> tuple[int, int] | None:
        """Return (rank, key) of the first that waits; None when none does."""
        waiting = self.waiting
        while waiting and held.get(waiting[0][1]) is not self:
            heapq.heappop(waiting)
        return waiting[0] if waiting else None

    def __lt__(self, other: Group) -> bool:
        return False  # as that of a gate


class _Candidate(NamedTuple):
    """The first of a group, which is to be looked at, and the gate at which it has waited, if that may have room."""

    rank: int
    key: int
    group: Group
    source: Gate | None = None

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] < other[:2]


class Limits:
    """Decides who passes.

    :param clock: tells the time
    :param held: gets what waits, by key; who takes a key out of it makes it wait no more
    :param at_once: how much may be under way at once of what needs `room`; infinity for any amount
    """

    def __init__(self, clock: Clock, held: dict[int, Any], at_once: float = math.inf) -> None:
        self._clock = clock
        self._held = held
        #: the gate of what may be under way at once; who admits says how much that is
        self.room = Gate("max_in_flight", at_once)
        #: the group of each that has passed and not ended
        self.passed: dict[int, Group] = {}
        #: gates that may have got room for what waits at them
        self._opened: set[Gate] = set()
        #: gates at which something waits, or has waited
        self._crowded: set[Gate] = set()
        #: (time, gate): when buckets have refilled
        self._refills: list[tuple[float, Gate]] = []
        #: how many wait, as far as is known here
        self._count = 0

    def pass_all(self, new: Mapping[Group, int], under_way: int = 0) -> bool:
        """Let all pass that is new if nobody waits and there is room for all of it; tells whether it is so.

        Who calls it notes the keys of what has passed, before anything else is asked.

        :param new: how many of each group are new
        :param under_way: how much of `room` is in use
        """
        if self._held:
            return False
        now = self._clock.monotonic()
        self.room.free = self.room.capacity - under_way
        wanted: dict[Gate, int] = {}
        for group, count in new.items():
            for gate, amount in group.needs:
                wanted[gate] = wanted.get(gate, 0) + amount * count
        if not all(gate.has_room(amount, now) for gate, amount in wanted.items()):
            return False
        for gate, amount in wanted.items():
            gate.take(amount, now)
        return True

    def note(self, keys: Iterable[int], group: Group) -> None:
        """Note what has passed."""
        self.passed.update(dict.fromkeys(keys, group))

    def admit(self, new: Mapping[Group, list[int]], rank: Callable[[int], int], under_way: int = 0) -> list[int]:
        """Take in what is new, and return the keys of what passes now, of the old and the new.

        :param new: the keys of what is new, by their groups
        :param rank: gives the rank of a key
        :param under_way: how much of `room` is in use
        """
        now = self._clock.monotonic()
        self._look_for_room(now, under_way)
        todo: list[_Candidate] = []
        for group, keys in new.items():
            first = group.first(self._held)
            for key in keys:
                heapq.heappush(group.waiting, (rank(key), key))
                self._held[key] = group
            if group.at is None or group.waiting[0] != first:
                heapq.heappush(todo, _Candidate(*group.waiting[0], group))
        for gate in self._opened:
            self._pull(todo, gate)
        self._opened.clear()
        passing = self._let_pass(todo, now)
        self._count = len(self._held)
        return passing

    def _look_for_room(self, now: float, under_way: int) -> None:
        """Note the gates that have got room since the last time."""
        room, refills = self.room, self._refills
        room.free = room.capacity - under_way
        if room.waiting and room.free > 0:
            self._opened.add(room)
        while refills and refills[0][0] <= now:
            gate = heapq.heappop(refills)[1]
            gate.due = math.inf
            self._opened.add(gate)
        if len(self._held) != self._count:  # somebody waits no more, who may have kept others from passing
            self._count = len(self._held)
            self._crowded = {gate for gate in self._crowded if gate.waiting}
            self._opened |= self._crowded

    def _let_pass(self, todo: list[_Candidate], now: float) -> list[int]:
        """Let pass who has room, in the order of their ranks.

        :param todo: the first of groups, each with the gate that it has waited at and that may have more room
        """
        passing = []
        while todo:
            rank, key, group, source = heapq.heappop(todo)
            if group.first(self._held) != (rank, key):
                self._pull(todo, source)
                continue
            gate, left = self._short_of((rank, key), group, now), group.at
            group.at = gate
            if gate is None:
                self._pass(key, group, now)
                passing.append(key)
                successor = group.first(self._held)
                if successor is not None:
                    heapq.heappush(todo, _Candidate(*successor, group))
            else:
                self._crowded.add(gate)
                heapq.heappush(gate.waiting, (rank, key, group))
            for other in (source,) if left is source else (source, left):
                if other is not gate:
                    self._pull(todo, other)
        return passing

    def _pull(self, todo: list[_Candidate], gate: Gate | None) -> None:
        """Have the first that waits at a gate looked at."""
        if gate is not None:
            first = self._first_at(gate)
            if first is not None:
                heapq.heappop(gate.waiting)
                heapq.heappush(todo, _Candidate(*first, gate))

    def _first_at(self, gate: Gate) -> tuple[int, int, Group] | None:
        """Return the first that waits at a gate."""
        waiting = gate.waiting
        while waiting:
            entry = waiting[0]
            group = entry[2]
            first = group.first(self._held) if group.at is gate else None
            if first == entry[:2]:
                return entry
            heapq.heappop(waiting)
            if first is not None:
                heapq.heappush(waiting, (*first, group))
        return None

    def _short_of(self, place: tuple[int, int], group: Group, now: float) -> Gate | None:
        """Return the gate that has no room for the first of a group, or at which somebody else comes first."""
        for gate, amount in group.needs:
            if not gate.has_room(amount, now):
                if amount <= gate.free and gate.bucket is not None:
                    self._look_again(gate, gate.bucket.due(amount))
                return gate
            first = self._first_at(gate)
            if first is not None and first[:2] < place:
                return gate
        return None

    def _look_again(self, gate: Gate, due: float) -> None:
        """Have a gate looked at when its bucket has refilled."""
        if due < gate.due:
            gate.due = due
            heapq.heappush(self._refills, (due, gate))

    def _pass(self, key: int, group: Group, now: float) -> None:
        for gate, amount in group.needs:
            gate.take(amount, now)
        del self._held[key]
        self.passed[key] = group

    def release(self, keys: Iterable[int]) -> None:
        """Take in that calls have ended; what has not passed, or was released before, counts for nothing."""
        passed = self.passed
        ended: dict[Group, int] = {}
        for key in keys:
            group = passed.pop(key, None)
            if group is not None:
                ended[group] = ended.get(group, 0) + 1
        for group, count in ended.items():
            for gate, amount in group.needs:
                gate.free += amount * count
                if gate.waiting:
                    self._opened.add(gate)

    def put_back(self, keys: Iterable[int]) -> None:
        """Note that calls that have passed do not begin now: they are new again."""
        for key in keys:
            group = self.passed.get(key)
            if group is not None:
                for gate, amount in group.needs:
                    if gate.bucket is not None:
                        gate.bucket.put_back(amount)
                        self._opened.add(gate)
                self.release((key,))

    @property
    def stirs(self) -> bool:
        """Whether somebody who waits may have room, but for buckets that refill."""
        return bool(self._opened) or len(self._held) != self._count

    def due(self) -> float:
        """Return the time at which a bucket has refilled that somebody waits for; infinity for never."""
        refills = self._refills
        while refills and not (refills[0][0] == refills[0][1].due and refills[0][1].waiting):
            due, gate = heapq.heappop(refills)
            if due == gate.due:
                gate.due = math.inf
        return refills[0][0] if refills else math.inf
