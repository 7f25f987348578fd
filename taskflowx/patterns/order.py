"""Members in a topological order, with the links between them.

Members are numbered as they are added, and links are kept by number. The order is incremental, after the idea of Pearce
and Kelly ("A dynamic topological sort algorithm for directed acyclic graphs", 2006): a link that agrees with the ranks
of its ends costs nothing, and another one concerns only the ranks between them, and moves the smaller of two sets, the
successors of one end or the predecessors of the other. Ranks are real numbers, so there is a place between any two.

Invariant: for each link (u, v) the rank of u is lower than that of v.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions

if TYPE_CHECKING:
    #: the attributes of a link; None for one that the names of its ends explain
    Attributes = dict[str, Any] | None

FAR = 1 << 20  # so much lower than its successors is a new member without predecessors: before most others
CYCLE = "No path through the node(s) in the graph produces an ordering that will allow for logical edge traversal"


class Ordered:
    """Members and their links; iterates over the members in a topological order."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        #: the direct predecessors of each member: a tuple while no link has attributes, which is a third of a dict
        self.before: list[tuple[int, ...] | dict[int, Attributes]] = []
        self._after: list[list[int]] | None = None  # the successors, which most flows never need
        self._ranks: list[float] = []
        self._end: float = 0  # higher than all ranks: that of the next member
        self._moved: dict[int, float] = {}  # the ranks that the current change has replaced
        self._numbers: dict[Any, int] = {}
        self._sorted = True  # whether the numbers are stored in the order of the ranks

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, item: object) -> bool:
        return item in self._numbers

    def __iter__(self) -> Iterator[Any]:
        return iter(self.numbers())

    def numbers(self) -> dict[Any, int]:
        """Return the members with their numbers, in a topological order."""
        if not self._sorted:
            self._numbers = {self.items[number]: number for number in self._by_rank()}
            self._sorted = True
        return self._numbers

    def number(self, item: Any) -> int:
        """Return the number of a member."""
        return self._numbers[item]

    def items_before(self, item: Any) -> list[Any]:
        """Return the direct predecessors of a member."""
        return [self.items[earlier] for earlier in self.before[self._numbers[item]]]

    def links(self, number: int) -> dict[int, Attributes]:
        """Return the direct predecessors of a member with the attributes of the links, to be changed or read."""
        found = self.before[number]
        if isinstance(found, tuple):
            found = self.before[number] = dict.fromkeys(found)
        return found

    def _by_rank(self) -> list[int]:
        return sorted(range(len(self.items)), key=self._ranks.__getitem__)

    def _append(self, item: Any, before: dict[int, Attributes]) -> int:
        """Add a member at the end, and return its number."""
        number = len(self.items)
        self.items.append(item)
        self.before.append(before if any(before.values()) else tuple(before))
        self._ranks.append(number if number == self._end else self._end)  # one integer for both
        self._end += 1
        self._numbers[item] = number
        if self._after is not None:
            self._after.append([])
            for earlier in before:
                self._after[earlier].append(number)
        return number

    def _withdraw(self, first: int) -> None:
        """Remove the members from a number on, which may be added only partly, and restore the ranks of the others."""
        after = self._after or []
        for number, later in enumerate(after[first:], first):
            for needer in later:
                self.links(needer).pop(number, None)
        for before in self.before[first:] if after else ():
            for earlier in before:
                while after[earlier][-1:] >= [first]:
                    after[earlier].pop()
        for item in self.items[first:]:
            self._numbers.pop(item, None)
        self._assign(self._moved.copy(), self._moved.values())
        for facts in (self.items, self.before, self._ranks, after):
            del facts[first:]

    def _successors(self) -> list[list[int]]:
        """Return the successors of all members, which are kept up to date from now on."""
        if self._after is None:
            after: list[list[int]] = [[] for _ in self.items]
            for number, before in enumerate(self.before):
                for earlier in before:
                    after[earlier].append(number)
            self._after = after
        return self._after

    def _connect(self, earlier: int, later: int, attributes: dict[str, Any]) -> None:
        """Store a link that agrees with the ranks."""
        try:
            if self._after is not None and earlier not in self.before[later]:
                self._after[earlier].append(later)
            self.links(later)[earlier] = attributes
        except BaseException:
            self._after = None
            raise

    def _settle(self, number: int, needers: Collection[int]) -> None:
        """Rank the newest member between its predecessors and others, which are to follow it.

        :raises DependencyFailure: when one of its predecessors follows one of them
        """
        ranks = self._ranks
        high = min(map(ranks.__getitem__, needers))
        low = max(map(ranks.__getitem__, self.before[number]), default=high - FAR)
        if low >= high or not self._spread([number], low, high):
            ranks[number] = math.nextafter(low, math.inf)
            self._separate([number], [n for n in needers if ranks[n] <= ranks[number]])

    def _separate(self, earlier: list[int], later: list[int]) -> None:
        """Make the ranks of some members lower than those of others, which are to follow them.

        :raises DependencyFailure: when one of the first follows one of the others; no rank has changed then
        """
        following, above, preceding, below = self._search(earlier, later)
        if not set(following).isdisjoint(preceding):
            raise self._refusal(earlier, later)
        if len(following) <= len(preceding):
            fits = self._spread(following, max(map(self._ranks.__getitem__, earlier)), above)
        else:
            high = min(map(self._ranks.__getitem__, later))
            fits = self._spread(preceding, high - FAR if below is None else below, high)
        if not fits:
            # The precision of a real number is used up there: rank the members by position.
            self._assign(self._by_rank(), range(len(self.items)))
            self._separate(earlier, later)

    def _search(self, earlier: list[int], later: list[int]) -> tuple[list[int], float | None, list[int], float | None]:
        """Search for the members that follow some and those that precede others, in turn, until one set is complete.

        :return: the successors in the ranks up to those of `earlier`, and the lowest rank above of one more; the
            predecessors in the ranks down to those of `later`, and the highest rank below; the shorter set is complete
        """
        ranks, after = self._ranks, self._successors()
        low, high = min(map(ranks.__getitem__, later)), max(map(ranks.__getitem__, earlier))
        following, preceding = [*later], [*earlier]
        ahead, behind = {*later}, {*earlier}
        above, below = [], []
        for v, u in zip(following, preceding, strict=False):
            for n in after[v]:
                if ranks[n] > high:
                    above.append(ranks[n])
                elif n not in ahead:
                    ahead.add(n)
                    following.append(n)
            for n in self.before[u]:
                if ranks[n] < low:
                    below.append(ranks[n])
                elif n not in behind:
                    behind.add(n)
                    preceding.append(n)
        return following, min(above) if above else None, preceding, max(below) if below else None

    def _spread(self, members: list[int], low: float, high: float | None) -> bool:
        """Spread members evenly between two ranks, in their order; returns whether there was room for them.

        :param high: None for the end of all members, and a rank of theirs in place of `low`
        """
        room = len(members) + 1
        if high is None:
            low, high = self._end - 1, self._end - 1 + room
            self._end = high
        step, rank, ranks = (high - low) / room, low, []
        for _ in members:
            rank += step
            ranks.append(rank)
        if len({low, *ranks, high}) <= room or rank > high:
            return False
        members.sort(key=self._ranks.__getitem__)
        self._assign(members, ranks)
        return True

    def _assign(self, members: Collection[int], ranks: Collection[float]) -> None:
        for number in members:
            self._moved.setdefault(number, self._ranks[number])
        self._sorted = False
        any(map(self._ranks.__setitem__, members, ranks))  # one step in C, which no signal handler interrupts

    def _refusal(self, earlier: Collection[int], later: Collection[int]) -> exceptions.DependencyFailure:
        """Return the error that names the cycle which links from some members to others would close."""
        after = self._successors()
        came_from: dict[int, int | None] = dict.fromkeys(later)
        queue = [*later]
        for number in queue:
            if number in earlier:
                break
            for successor in after[number]:
                if successor not in came_from:
                    came_from[successor] = number
                    queue.append(successor)
        cycle = []
        at: int | None = number
        while at is not None:
            cycle.append(at)
            at = came_from[at]
        names = [str(self.items[n].name) for n in (*cycle, cycle[0])]
        return exceptions.DependencyFailure(f"{CYCLE}\nThe cycle is: {' -> '.join(reversed(names))}")
