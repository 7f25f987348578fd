"""Which atoms may feed which argument.

An atom sees what runs before it in its own flow and in the flows around it, the nearest first; members of an unordered
flow never see each other. As each flow is a range of indices, the providers that a linear flow offers are a slice of
the sorted list of all providers of the name: finding the nearest one is a binary search, whatever the flow's length.

The engine asks at validation for the nearest provider of each argument; storage asks for the others only when that
one has no value.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from taskflowx.engines import plan as plans

_KEPT = 500_000  # of so many members of graph flows it is kept which provider of a name they see


class Scope:
    """The providers of each name in a Plan, and who sees whom."""

    def __init__(self, plan: plans.Plan) -> None:
        self._atoms = plan.atoms
        self._pred = plan.pred
        self._flow_of = plan.flow_of
        self._ranges = plan.ranges
        self._found: dict[tuple[int, str], dict[int, int]] = {}
        self._kept = 0
        #: whether `whole` has found a name with several providers
        self.several = False

    @functools.cached_property
    def providers(self) -> dict[str, int | list[int]]:
        """Name -> index of the only provider, or the sorted list of several."""
        providers: dict[str, int | list[int]] = {}
        for i, atom in enumerate(self._atoms):
            if atom is not None:
                for name, _ in atom._tfx_signature.outputs:
                    known = providers.setdefault(name, i)
                    if known is i:
                        continue
                    if isinstance(known, int):
                        providers[name] = [known, i]
                    else:
                        known.append(i)
        return providers

    def whole(self) -> dict[str, int]:
        """Return name -> index of its only provider, where it stands for all that this one returns, or else -1."""
        whole: dict[str, int] = {}
        for i, atom in enumerate(self._atoms):
            if atom is not None:
                for name, key in atom._tfx_signature.outputs:
                    if whole.setdefault(name, i) != i:
                        self.several = True
                        whole[name] = -1
                    elif key is not None:
                        whole[name] = -1
        return whole

    def nearest(self, i: int, name: str) -> int:
        """Return the index of the nearest provider of a name that atom `i` sees, or -1."""
        pred = self._pred[i]
        if len(pred) == 1:  # all that precedes the atom precedes this one: nothing is nearer
            before = self._atoms[pred[0]]
            if before is not None:
                for provided, _ in before._tfx_signature.outputs:
                    if provided == name:
                        return pred[0]
        found = self.providers.get(name)
        if found is None:
            return -1
        if isinstance(found, int) and found in pred:
            return found
        return next(self.candidates(i, name), -1)

    def candidates(self, i: int, name: str) -> Iterator[int]:
        """Iterate over the providers of a name that atom `i` sees, the nearest first.

        As flows are ranges, what is nearer in a flow has a higher index, and so has what is in a flow further in.
        """
        known = self.providers.get(name)
        if known is None:
            return
        row = [known] if isinstance(known, int) else known
        place = bisect_left(row, i) - 1
        home, position = self._flow_of[i], i
        while place >= 0:
            p = row[place]
            home, position = self._around(home, position, p)
            if home < 0:
                return
            span = self._ranges[home]
            if span.kind == plans.LINEAR:
                if p < position:
                    yield p
                place -= 1
                continue
            if span.kind == plans.GRAPH:
                yield from self._in_graph(home, position, name, row)
            elif 0 <= span.retry < position and _holds(row, span.retry):
                yield span.retry
            place = bisect_left(row, span.lo) - 1

    def _in_graph(self, home: int, position: int, name: str, row: list[int]) -> Iterator[int]:
        """Iterate over the providers of a name that a member of a graph flow sees there, the nearest first.

        :param position: where the member begins
        :param row: the providers of the name
        """
        span = self._ranges[home]
        nearest = self._nearest_in_graph(home, position, name, row)
        if nearest >= 0:
            yield nearest
            for place in range(bisect_left(row, nearest) - 1, bisect_left(row, span.lo) - 1, -1):
                if row[place] == span.retry or span.follows(position, row[place]):
                    yield row[place]
        elif 0 <= span.retry < position and _holds(row, span.retry):
            yield span.retry

    def _nearest_in_graph(self, home: int, position: int, name: str, row: list[int]) -> int:
        """Return the last provider of a name among what precedes a member of a graph flow, less the retry; or -1.

        What has been found for a member holds for all that follow it, so it is kept.

        :param position: where the member begins
        :param row: the providers of the name
        """
        span = self._ranges[home]
        first = bisect_left(row, span.lo + (span.retry >= 0))
        if first == len(row) or row[first] >= position:
            return -1
        if self._kept > _KEPT:
            self._found.clear()
            self._kept = 0
        found = self._found.setdefault((home, name), {})
        starts, before = span.starts, span.before
        asking = bisect_right(starts, position) - 1
        lowest = bisect_right(starts, row[first]) - 1  # no member before the one that has the first provider matters
        stack = [asking]
        while stack:
            member = stack[-1]
            unknown = [m for m in before[member] if m >= lowest and m not in found]
            if unknown and member not in found:
                stack += unknown
                continue
            stack.pop()
            if member not in found:
                found[member] = -1
                self._kept += 1
                for m in before[member]:
                    if m >= lowest:
                        end = starts[m + 1] if m + 1 < len(starts) else span.hi
                        place = bisect_left(row, end) - 1
                        own = row[place] if place >= 0 and row[place] >= starts[m] else -1
                        found[member] = max(found[member], own, found[m])
        return found[asking]

    def _around(self, home: int, position: int, p: int) -> tuple[int, int]:
        """Return the innermost flow, from one outwards, that has atom `p` in it too, or -1.

        :param position: where the member of that flow begins that holds the atom which asks; that of the flow which is
            found is returned as well
        """
        ranges = self._ranges
        while home >= 0 and ranges[home].lo > p:
            span = ranges[home]
            position = span.lo
            home = span.jump if span.jump >= 0 and ranges[span.jump].lo > p else span.parent
        return home, position

    def visible(self, i: int) -> Iterator[list[int]]:
        """Iterate over the levels that atom `i` sees, from its own flow outwards, each the nearest atom first."""
        for span, position in self._levels(i):
            if span.kind == plans.LINEAR:
                yield list(range(position - 1, span.lo - 1, -1))
            elif span.kind == plans.UNORDERED:
                yield [span.retry] if 0 <= span.retry < position else []
            else:
                yield [p for p in range(position - 1, span.lo - 1, -1) if p == span.retry or span.follows(position, p)]

    def _levels(self, i: int) -> Iterator[tuple[plans.FlowRange, int]]:
        """Iterate over the flows around atom `i`, with the index where the member that holds it begins."""
        position, home = i, self._flow_of[i]
        while home >= 0:
            span = self._ranges[home]
            yield span, position
            position, home = span.lo, span.parent


def _holds(row: list[int], i: int) -> bool:
    place = bisect_left(row, i)
    return place < len(row) and row[place] == i
