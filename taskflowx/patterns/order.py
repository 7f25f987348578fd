"""The members of a graph flow in a topological order, with the links between them.

The order is incremental. Members have ranks, after the idea of Pearce and Kelly ("A dynamic topological sort algorithm
for directed acyclic graphs", 2006) that a link concerns only the ranks between its ends: a link that agrees with the
ranks costs nothing, and another link moves the smaller of two sets, the successors of one end or the predecessors of
the other. Other members move only if there is no gap between ranks; then all ranks are renumbered with gaps. The call
that closes a cycle raises an error.

Invariants: for each link (u, v) the rank of u is lower than that of v. While the members are stored in the order of
their ranks, the rank of each is its position.
"""

from __future__ import annotations

import collections
import operator
from collections.abc import Iterator
from typing import Any

from taskflowx import exceptions, flow

CYCLE = "No path through the node(s) in the graph produces an ordering that will allow for logical edge traversal"
ROOM = 1 << 64  # the gap between the ranks of two neighbours after renumbering
MANUAL: dict[str, Any] = {flow.LINK_MANUAL: True}  # shared by all manual links without other attributes


class Member:
    """One member: its rank, its predecessors, the attributes of its links, and its successors.

    The successors are empty until they are computed: most flows never need them. `reasons` has the names behind a link,
    by predecessor, where they cannot be read off the two members. `names` are those of a nested flow, in a list, which
    is empty after they have been handed out.
    """

    __slots__ = ("after", "item", "linked", "names", "needed", "rank", "reasons")

    def __init__(self, item: Any, rank: int, needed: tuple[Member, ...]) -> None:
        self.item = item
        self.rank = rank
        self.needed = needed
        self.linked: dict[Member, dict[str, Any]] | None = None
        self.reasons: dict[Member, set[str]] | None = None
        self.after: list[Member] | tuple[()] = ()
        self.names: list[flow.Names] | None = None

    def before(self) -> tuple[Member, ...]:
        """Return the direct predecessors of this member."""
        if self.linked is None:
            return self.needed
        return (*self.needed, *(node for node in self.linked if node not in self.needed))

    def precede(self, later: Member) -> None:
        """Record a successor of this member."""
        if self.after:
            self.after.append(later)
        else:
            self.after = [later]

    def no_longer_precede(self, last: Member) -> None:
        """Undo the last `precede`, if it was for this successor."""
        if isinstance(self.after, list) and self.after[-1:] == [last]:
            self.after.pop()

    def explain(self, earlier: Member, names: set[str]) -> None:
        """Store the names behind a link."""
        if self.reasons is None:
            self.reasons = {}
        self.reasons[earlier] = names

    def own_names(self) -> flow.Names:
        """Return the names of a nested flow; they are collected again when they have been handed out."""
        try:
            return self.names[-1]  # type: ignore[index]
        except IndexError:
            found = flow.names_of(self.item)
            self.names = [found]
            return found


_by_rank = operator.attrgetter("rank")
_set_rank = vars(Member)["rank"].__set__


class Ranked:
    """Members in a topological order; iterates over the items in that order."""

    def __init__(self) -> None:
        self.nodes: dict[Any, Member] = {}
        self._end = 0  # the rank of the next member at the end
        self._step = 1  # the gap to the rank of the one after it
        self._sorted = True  # whether the members are stored in the order of their ranks
        self._knows_after = False  # whether the members know their successors

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, item: object) -> bool:
        return item in self.nodes

    def __iter__(self) -> Iterator[Any]:
        return iter(self.ranked())

    def ranked(self) -> dict[Any, Member]:
        """Return the members by item, in the order of their ranks, which are their positions."""
        if not self._sorted:
            self.nodes = {node.item: node for node in self._number(1)}
            self._sorted = True
        return self.nodes

    def _work_out_after(self) -> None:
        """Compute the successors of all members, and keep them up to date from now on."""
        if not self._knows_after:
            for node in self.nodes.values():  # after an interrupted call some may be present
                node.after = ()
            for node in self.nodes.values():
                for earlier in node.before():
                    earlier.precede(node)
            self._knows_after = True

    def _put_back(self, moved: dict[Member, int], end: int, step: int) -> None:
        """Restore the ranks of the members that have moved."""
        for node, rank in moved.items():
            node.rank = rank
        self._end, self._step = end, step

    def _settle(self, node: Member, moved: dict[Member, int]) -> None:
        """Rank the newest member, which is at the end, after its predecessors and before its successors.

        :param moved: collects the original rank of each member that moves
        """
        self._sorted = False
        high = min([later.rank for later in node.after])
        low = max([earlier.rank for earlier in node.needed]) if node.needed else high - ROOM
        # Without a gap between them it follows its predecessors, and then its successors must move.
        if not self._move([node], low, high if low < high else node.rank, moved):
            self._make_room(moved)
            self._settle(node, moved)
        elif low >= high:
            for needer in node.after:
                self._put_before(node, needer, moved)

    def _move(self, nodes: list[Member], low: int, high: int, moved: dict[Member, int]) -> bool:
        """Spread members evenly between two ranks; returns whether there was a gap, and moves none if not."""
        step = (high - low) // (len(nodes) + 1)
        if step < 1:
            return False
        for node in nodes:
            moved.setdefault(node, node.rank)
            low += step
            node.rank = low
        return True

    def _make_room(self, moved: dict[Member, int]) -> None:
        for node in self.nodes.values():
            moved.setdefault(node, node.rank)
        self._number(ROOM)

    def _number(self, step: int) -> list[Member]:
        """Renumber the members with a gap of `step`, and return them in order."""
        nodes = sorted(self.nodes.values(), key=_by_rank)
        end = len(nodes) * step
        ranks = list(range(0, end, step))
        # The end is raised before the ranks change, so that an interrupt leaves no member beyond it. The ranks are
        # assigned without a step in Python or arithmetic of large numbers, where signals are handled: all of them or
        # none.
        self._end, self._step = max(end, self._end), step
        collections.deque(map(_set_rank, nodes, ranks), maxlen=0)
        self._end = end
        return nodes

    def link(self, earlier: Member, later: Member, attributes: dict[str, Any]) -> None:
        """Make a member follow another one.

        :param attributes: those of the link, beside `LINK_MANUAL`
        :raises DependencyFailure: when it would close a cycle; it is not made then
        """
        known = later.linked.get(earlier) if later.linked else None
        new = known is None and earlier not in later.needed
        known = MANUAL if known is None else known
        moved: dict[Member, int] = {}
        end, step = self._end, self._step
        try:
            if new:
                self._put_before(earlier, later, moved)
                if self._knows_after:
                    earlier.precede(later)
            if later.linked is None:
                later.linked = {}
            later.linked[earlier] = known | attributes if attributes else known
        except BaseException:
            if new:
                earlier.no_longer_precede(later)
            self._put_back(moved, end, step)
            raise

    def _put_before(self, u: Member, v: Member, moved: dict[Member, int]) -> None:
        """Make the rank of `u` lower than that of `v`, if it is not.

        :param moved: collects the original rank of each member that moves
        :raises DependencyFailure: when u follows v; no rank has changed then
        """
        low, high = v.rank, u.rank
        if high < low:
            return
        self._work_out_after()
        # The successors of v and the predecessors of u, in the ranks between them: searched in turn, until one set is
        # complete.
        following, preceding = [v], [u]
        ahead, behind = {v}, {u}
        for later, earlier in zip(following, preceding, strict=False):
            for node in later.after:
                if node.rank <= high and node not in ahead:
                    ahead.add(node)
                    following.append(node)
            for node in earlier.before():
                if node.rank >= low and node not in behind:
                    behind.add(node)
                    preceding.append(node)
        if u in ahead or v in behind:
            raise _refusal(u, v)
        self._sorted = False
        if len(following) <= len(preceding):
            following.sort(key=_by_rank)
            beyond = min((node.rank for later in following for node in later.after if node not in ahead), default=None)
            fits = self._move(following, high, self._end_for(following) if beyond is None else beyond, moved)
        else:
            preceding.sort(key=_by_rank)
            lowest = low - len(preceding) * ROOM
            beyond = max(
                (node.rank for earlier in preceding for node in earlier.before() if node not in behind), default=lowest
            )
            fits = self._move(preceding, beyond, low, moved)
        if not fits:
            self._make_room(moved)
            self._put_before(u, v, moved)

    def _end_for(self, nodes: list[Member]) -> int:
        """Return the rank of the end after `nodes` are appended."""
        self._end += len(nodes) * ROOM
        return self._end


def _refusal(u: Member, v: Member) -> exceptions.DependencyFailure:
    """Return the error that names the cycle which a link from u to v closes."""
    came_from = {v: v}
    queue = [v]
    for node in queue:
        for successor in node.after:
            if successor not in came_from:
                came_from[successor] = node
                queue.append(successor)
    path = [u]
    while path[-1] is not v:
        path.append(came_from[path[-1]])
    around = " -> ".join(str(node.item.name) for node in [u, *reversed(path)])
    return exceptions.DependencyFailure(f"{CYCLE}\nThe cycle is: {around}")
