"""The builder of graph flows, and of flows that say themselves what is linked."""

from __future__ import annotations

import heapq
import itertools
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import deciders, exceptions, flow
from taskflowx.atom import full_name
from taskflowx.engines.builders import Builder, add, add_atoms, add_member, follow
from taskflowx.engines.plan import Vote
from taskflowx.patterns import graph_flow, of_task
from taskflowx.patterns.order import CYCLE

if TYPE_CHECKING:
    from taskflowx.engines.plan import Nodes, Plan


class GraphBuilder(Builder):
    """A graph flow, or one that says itself what is linked: each member follows those that are linked to it."""

    __slots__ = ("asked", "before", "ends", "fan_out", "links", "position")

    def __init__(self, plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], home: int) -> None:
        super().__init__(plan, opened, preds, votes, home)
        # position -> (position of the source or -1 for a flow, decider, depth)
        self.asked: dict[int, list[tuple[int, Any, deciders.Depth]]] = {}
        if isinstance(opened, graph_flow.Flow) and flow.is_plain(opened):
            self.before, decided = graph_flow.positions(opened, list(opened) if plan.controlled else self.all)
        else:
            self.before, decided = _positions(len(self.all), self.links)
        if decided:
            # A task under a controller of its own has a result as any other one.
            kinds = [isinstance(member, flow.Flow) and type(member) is not of_task.Flow for member in self.all]
            for (source, target), attributes in decided.items():
                depth = deciders.Depth.translate(attributes.get(flow.LINK_DECIDER_DEPTH) or deciders.Depth.ALL)
                shown = -1 if kinds[source] else source
                self.asked.setdefault(target, []).append((shown, attributes[flow.LINK_DECIDER], depth))
        self.fan_out: list[int] = []  # by position, how many members follow; for flows that have flows in them
        self.position = -1
        self.ends: list[Nodes] = []  # by position, what is to have run when the member has
        plan.ranges[home].before = self.before

    def in_order(self) -> list[Any]:
        """Return the members in an order in which they can run."""
        if isinstance(self.flow, graph_flow.Flow) and flow.is_plain(self.flow):
            return list(self.flow)
        members, self.links = _told_by(self.flow)  # by the positions of their ends
        return members

    def starting(self) -> int:
        """Return how many members can start at once: those that follow none."""
        return sum(not before for before in self.before)

    def votes_on_entry(self) -> tuple[Vote, ...]:
        """Return the deciders on the links to the current member, or those on the flow if nothing precedes it."""
        asked = self.asked.get(self.position)
        if asked is None:
            return self.votes if not self.before[self.position] else ()
        return tuple(
            Vote(self.ends[source][0] if source >= 0 else -1, decider, depth) for source, decider, depth in asked
        )

    def advance(self, plan: Plan) -> Any:
        """Compile members up to the next flow among them, and return that; None at the end."""
        if self.position < 0 and not self.asked and (members := self.just_atoms(plan)):
            self._all_at_once(plan, members)
            return None
        if not self.fan_out:
            self._count_followers()
        starts, before, ends = plan.ranges[self.home].starts, self.before, self.ends
        for member in self.members:
            self.position += 1
            starts.append(len(plan.atoms))
            previous = before[self.position]
            if not previous:
                self.preds = self.entry
            elif len(previous) == 1:
                self.preds = ends[previous[0]]
            else:
                self.preds = tuple(dict.fromkeys(itertools.chain.from_iterable(ends[p] for p in previous)))
            if self.preds == previous:
                before[self.position] = self.preds  # one tuple for both lists: most graph flows are all atoms
            if isinstance(member, flow.Flow):
                return member
            i = add_member(plan, member, self.preds, self.home)
            if (self.votes or self.asked) and (votes := self.votes_on_entry()):
                plan.votes[i] = votes
            ends.append((i,))
        last = [end for end, after in zip(ends, self.fan_out, strict=True) if not after]
        if last:
            self.exits = last[0] if len(last) == 1 else tuple(dict.fromkeys(itertools.chain.from_iterable(last)))
        return None

    def _count_followers(self) -> None:
        self.fan_out = [0] * len(self.before)
        for source in itertools.chain.from_iterable(self.before):
            self.fan_out[source] += 1

    def _all_at_once(self, plan: Plan, members: list[Any]) -> None:
        before, pred, succ = self.before, plan.pred, plan.succ
        first = add_atoms(plan, members, self.home)
        plan.ranges[self.home].starts.extend(range(first, first + len(members)))
        starting: list[int] = []
        counts = [0] * len(before)
        for i, positions in enumerate(before, first):
            if positions:
                pred.append(tuple([first + position for position in positions]) if first else positions)
                for position in positions:
                    counts[position] += 1
            else:
                pred.append(self.entry)
                starting.append(i)
        follow(plan, self.entry, tuple(starting))
        # All successors in one list, node after node, and then a tuple for each: lists that live on cost collections of
        # garbage.
        ends = list(itertools.accumulate(counts))
        places = [end - count for end, count in zip(ends, counts, strict=True)]
        successors = [0] * (ends[-1] if ends else 0)
        for i, positions in enumerate(before, first):
            for position in positions:
                successors[places[position]] = i
                places[position] += 1
        for node, end, count in zip(range(first, len(succ)), ends, counts, strict=True):
            if count:
                succ[node] = tuple(successors[end - count : end])
        self.exits = tuple([node for node, count in enumerate(counts, first) if not count])

    def closed(self, plan: Plan, exits: Nodes) -> None:
        """Take note that the flow that `advance` returned has been compiled."""
        if len(exits) > 1 and (self.fan_out[self.position] > 1 or self.is_heap(plan, exits)):
            exits = (add(plan, None, exits, self.home),)
        self.ends.append(exits)


def _told_by(opened: flow.Flow) -> tuple[list[Any], dict[tuple[int, int], dict[str, Any]]]:
    """Return the members of a flow that says itself in which order they run, in that order, and its links.

    The links are by the positions of their ends, with their attributes.

    :raises CompilationFailure: when a link leads to something that is no member
    :raises DependencyFailure: when the links make a cycle
    """
    members = list(flow.members_of(opened))
    place = {id(member): position for position, member in enumerate(members)}
    links: dict[tuple[int, int], dict[str, Any]] = {}
    for u, v, attributes in opened.iter_links():
        for end in (u, v):
            if id(end) not in place:
                raise exceptions.CompilationFailure(
                    f"iter_links() of {full_name(type(opened))} links '{u.name}' with '{v.name}', and '{end.name}' is "
                    f"no member of flow {opened}: neither iter_nodes() nor iterating over it gives it"
                )
        link = place[id(u)], place[id(v)]
        links[link] = {**links.get(link, {}), **(attributes or {})}
    order = _topological(len(members), links)
    if len(order) < len(members):
        stuck = [str(members[position].name) for position in sorted(set(range(len(members))).difference(order))]
        msg = f"{CYCLE}\niter_links() of {full_name(type(opened))} makes a cycle in flow {opened}, among {stuck}"
        raise exceptions.DependencyFailure(msg)
    if all(map(operator.eq, order, itertools.count())):
        return members, links
    rank = {position: place for place, position in enumerate(order)}
    return [members[position] for position in order], {(rank[u], rank[v]): has for (u, v), has in links.items()}


def _topological(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Return positions so that each link leads on, else as they were; those in and behind a cycle are left out."""
    unmet = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    for u, v in links:
        unmet[v] += 1
        after[u].append(v)
    ready = [position for position in range(count) if not unmet[position]]  # ascending, so it is a heap
    order = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for later in after[position]:
            unmet[later] -= 1
            if not unmet[later]:
                heapq.heappush(ready, later)
    return order


def _positions(
    count: int, links: dict[tuple[int, int], dict[str, Any]]
) -> tuple[list[tuple[int, ...]], dict[tuple[int, int], dict[str, Any]]]:
    """Return links as `graph_flow.positions` does."""
    before: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        before[target].append(source)
    decided = {link: attributes for link, attributes in links.items() if attributes.get(flow.LINK_DECIDER) is not None}
    return [tuple(sources) for sources in before], decided
