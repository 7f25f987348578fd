"""Members that run in the order of their dependencies.

The links of a graph flow are inferred from what its members require and provide, and added by hand. The flow keeps
its members ranked in a topological order while it grows, after the idea of Pearce and Kelly ("A dynamic topological
sort algorithm for directed acyclic graphs", 2006) that a link concerns only the ranks between its ends: one that
agrees with the ranks costs nothing, and for another one the smaller of two sides moves, what follows one end or what
precedes the other. Where there is room between ranks, nobody else has to, and where there is none all are given some. A
cycle is found by the call that closes it.

Invariants: for each link (u, v) the rank of u is lower than that of v. While the members are held in the order of their
ranks, each has its position for its rank.
"""

from __future__ import annotations

import collections
import operator
from typing import TYPE_CHECKING, Any, Self

from taskflowx import atom, exceptions, flow
from taskflowx._util import arguments
from taskflowx.deciders import Depth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CYCLE = "No path through the node(s) in the graph produces an ordering that will allow for logical edge traversal"
ROOM = 1 << 64  # by so much the ranks of two neighbours differ when room has been made
_MANUAL: dict[str, Any] = {flow.LINK_MANUAL: True}  # shared by all links made by hand that have nothing more


class _Node:
    """One member: its rank, whom it follows for what it requires, what is said of its links, and who follows it.

    Who follows it is empty until the flow has worked that out: most flows are never asked.
    """

    __slots__ = ("after", "item", "linked", "needed", "rank")

    def __init__(self, item: Any, rank: int, needed: tuple[_Node, ...]) -> None:
        self.item = item
        self.rank = rank
        self.needed = needed
        self.linked: dict[_Node, dict[str, Any]] | None = None
        self.after: list[_Node] | tuple[()] = ()

    def before(self) -> tuple[_Node, ...]:
        """Return the members that this one directly follows."""
        if self.linked is None:
            return self.needed
        return (*self.needed, *(node for node in self.linked if node not in self.needed))

    def precede(self, later: _Node) -> None:
        if self.after:
            self.after.append(later)
        else:
            self.after = [later]

    def no_longer_precede(self, last: _Node) -> None:
        """Undo the last `precede`, if it was for this one."""
        if isinstance(self.after, list) and self.after[-1:] == [last]:
            self.after.pop()


_by_rank = operator.attrgetter("rank")
_set_rank = vars(_Node)["rank"].__set__


class _Index:
    """Members by name; most names have one, which is held without a list around it."""

    __slots__ = ("nodes",)

    def __init__(self) -> None:
        self.nodes: dict[str, _Node | list[_Node]] = {}

    def get(self, name: str) -> list[_Node] | tuple[_Node, ...]:
        found = self.nodes.get(name, ())
        return (found,) if isinstance(found, _Node) else found

    def add(self, name: str, node: _Node) -> None:
        found = self.nodes.setdefault(name, node)
        if found is not node:
            if isinstance(found, _Node):
                self.nodes[name] = [found, node]
            else:
                found.append(node)

    def drop_last(self, name: str, node: _Node) -> None:
        """Take a node out again if it was the last to come under this name."""
        found = self.nodes.get(name)
        if found is node:
            del self.nodes[name]
        elif isinstance(found, list) and found[-1:] == [node]:
            found.pop()

    def positions(self, place: dict[_Node, int]) -> dict[str, list[int]]:
        """Return the index with positions in the place of the members."""
        return {name: [place[node] for node in self.get(name)] for name in self.nodes}

    @classmethod
    def at(cls, positions: dict[str, list[int]], nodes: list[_Node]) -> _Index:
        """Make an index from what `positions` gave."""
        made = cls()
        for name, users in positions.items():
            for position in users:
                made.add(name, nodes[position])
        return made


class Flow(flow.Flow):
    """A flow whose members run as soon as those that they depend on have run."""

    _members: dict[Any, _Node]

    def __init__(self, name: str, retry: Any = None) -> None:
        super().__init__(name, retry)
        self._end = 0  # the rank for the next one at the end
        self._step = 1  # how much higher that of the one after it will be
        self._sorted = True  # whether the members are held in the order of their ranks
        self._knows_after = False  # whether the members know who follows them
        self._providers = _Index()
        self._needers = _Index()  # by what nobody provided when they were added
        # What the flow's own retry provides is there already: nobody is linked for it.
        self._given: frozenset[str] = frozenset() if retry is None else frozenset(retry.provides)

    def add(self, *nodes: Any, resolve_requires: bool = True, resolve_existing: bool = True) -> Self:
        """Add atoms and flows, and link them to what provides what they need; all of them or, on an error, none.

        :param resolve_requires: whether to link the providers of what the new ones require; without it their names
            make no links among the members of this call, but a provider that a later call adds is linked to them
        :param resolve_existing: whether to link the members that require what the new ones provide, and that do not
            follow one that provides it
        :raises AmbiguousDependency: when a required name has several providers
        :raises DependencyFailure: when the links would make a cycle
        :raises TypeError: when something is neither an atom nor a flow
        """
        new = [item for item in dict.fromkeys(nodes) if item not in self._members]
        self._check_members(new)
        added: list[_Node] = []
        moved: dict[_Node, int] = {}
        end, step = self._end, self._step
        try:
            self._join(new, added, moved, resolve_requires=resolve_requires, resolve_existing=resolve_existing)
        except BaseException:
            for node in reversed(added):
                self._remove(node)
            self._put_back(moved, end, step)
            raise
        return self

    def _put_back(self, moved: dict[_Node, int], end: int, step: int) -> None:
        """Give those that have moved the ranks that they had."""
        for node, rank in moved.items():
            node.rank = rank
        self._end, self._step = end, step

    def _join(  # noqa: C901 - one pass over many members, and it counts what each of them costs
        self,
        items: list[Any],
        added: list[_Node],
        moved: dict[_Node, int],
        *,
        resolve_requires: bool,
        resolve_existing: bool,
    ) -> None:
        """Put members in with their links, one after another.

        :param added: learns who has been put in, also in part
        :param moved: learns the rank that each of those that move had at first
        """
        members, providers, needers = self._members, self._providers, self._needers
        provided, names_of = providers.nodes, self._names_of
        later: list[tuple[_Node, list[str]]] = []  # what may be linked to providers that other calls add
        for item in items:
            requires, provides = names_of(item)
            before: dict[_Node, None] = {}
            unmet = None
            for name in requires:
                found = provided.get(name) if resolve_requires else None
                if type(found) is _Node:
                    before[found] = None
                elif found:
                    before[self._only(found, name, item)] = None
                elif unmet is None:
                    unmet = [name]
                else:
                    unmet.append(name)
            node = _Node(item, self._end, tuple(before))
            added.append(node)
            after = self._to_follow(provides) if needers.nodes and resolve_existing else None
            members[item] = node
            self._end += self._step
            if self._knows_after:
                for provider in before:
                    provider.precede(node)
            if after:
                self._put_in_front(node, provides, after)
            if unmet is not None:
                if resolve_requires:
                    for name in unmet:
                        needers.add(name, node)
                else:
                    later.append((node, unmet))
            for name in provides:
                if provided.setdefault(name, node) is not node:
                    providers.add(name, node)
            if after:
                self._settle(node, moved)
        for node, unmet in later:
            for name in unmet:
                needers.add(name, node)

    def _put_in_front(self, node: _Node, provides: Iterable[str], after: dict[_Node, list[str]]) -> None:
        """Link a new provider to those who are to follow it.

        :param after: for each of them, for which of the names it provides
        """
        self._work_out_after()
        served = [needer for needer in after if self._is_served(needer, provides)]
        for needer, names in after.items():
            node.precede(needer)  # first: it tells `_remove` of whom this is to be undone
            needer.needed = (*needer.needed, node)
            if needer in served:
                needer.linked = {**(needer.linked or {}), node: {flow.LINK_REASONS: set(names)}}

    def _work_out_after(self) -> None:
        """Let the members know who follows them, from now on."""
        if not self._knows_after:
            for node in self._members.values():  # one that was interrupted may have begun
                node.after = ()
            for node in self._members.values():
                for earlier in node.before():
                    earlier.precede(node)
            self._knows_after = True

    @staticmethod
    def _only(providers: Any, name: str, item: Any) -> _Node:
        """Return the only one of some providers of a name that an item requires.

        :raises AmbiguousDependency: when there are several
        """
        if len(providers) > 1:
            msg = (
                f"Resolution error detected when adding '{item.name}', multiple providers "
                f"{sorted(str(p.item.name) for p in providers)} found for required symbol '{name}'"
            )
            raise exceptions.AmbiguousDependency(msg)
        return providers[0]  # type: ignore[no-any-return]

    def _to_follow(self, provides: Iterable[str]) -> dict[_Node, list[str]]:
        """Return who is to follow a new provider, and for which of the names it provides."""
        after: dict[_Node, list[str]] = {}
        for name in provides:
            if name in self._needers.nodes:
                others = self._providers.get(name)
                for needer in self._needers.get(name):
                    followed = needer.before() if others else ()
                    if not any(other in followed for other in others):  # one provider of a name is enough
                        after.setdefault(needer, []).append(name)
        return after

    def _is_served(self, needer: _Node, provides: Iterable[str]) -> bool:
        """Tell whether a member follows somebody who gives it one of some names."""
        followed, required = needer.before(), self._names_of(needer.item)[0]
        return any(other in followed for name in provides if name in required for other in self._providers.get(name))

    def _names_of(self, item: Any) -> tuple[Sequence[str], Sequence[str]]:
        """Return what a member requires of other members, and what it provides."""
        requires: Sequence[str]
        if isinstance(item, atom.Atom):
            outputs, (_, requires, needed), backward, _, _, _ = item._signature  # noqa: SLF001 - of the same house
            if backward.needed or item.inject or len(requires) != needed:
                requires = item.wanted_names()
            provides = outputs[0][:1] if len(outputs) == 1 else [name for name, _ in outputs]
        else:
            # Sorted, as sets are in another order in each process.
            requires, provides = sorted(item.requires), sorted(item.provides)
        if self._given:
            requires = [name for name in requires if name not in self._given]
        return requires, provides

    def _settle(self, node: _Node, moved: dict[_Node, int]) -> None:
        """Rank the newest member, which stands at the end, after those that it follows and before those after it.

        :param moved: learns the rank that each of those that move had at first
        """
        self._sorted = False
        high = min([later.rank for later in node.after])
        low = max([earlier.rank for earlier in node.needed]) if node.needed else high - ROOM
        # Without a place between them it goes after those that it follows, and then those after it have to move.
        if not self._move([node], low, high if low < high else node.rank, moved):
            self._make_room(moved)
            self._settle(node, moved)
        elif low >= high:
            for needer in node.after:
                self._put_before(node, needer, moved)

    def _move(self, nodes: list[_Node], low: int, high: int, moved: dict[_Node, int]) -> bool:
        """Spread members evenly between two ranks; returns whether there was room, and moves none if not."""
        step = (high - low) // (len(nodes) + 1)
        if step < 1:
            return False
        for node in nodes:
            moved.setdefault(node, node.rank)
            low += step
            node.rank = low
        return True

    def _make_room(self, moved: dict[_Node, int]) -> None:
        for node in self._members.values():
            moved.setdefault(node, node.rank)
        self._number(ROOM)

    def _number(self, step: int) -> list[_Node]:
        """Give the members ranks that differ by so much, and return them in order."""
        nodes = sorted(self._members.values(), key=_by_rank)
        end = len(nodes) * step
        ranks = list(range(0, end, step))
        # The end is raised before the ranks change, so that an interrupt leaves nobody behind it. The ranks are given
        # without a step in Python or arithmetic of large numbers, where signals are looked at: all of them or none.
        self._end, self._step = max(end, self._end), step
        collections.deque(map(_set_rank, nodes, ranks), maxlen=0)
        self._end = end
        return nodes

    def _remove(self, node: _Node) -> None:
        """Take the newest member out again, as far as it has been put in: it is the last wherever it is."""
        if self._members.pop(node.item, None) is None:
            return
        if self._knows_after:
            for provider in node.needed:
                provider.no_longer_precede(node)
        for needer in node.after:
            if needer.needed[-1:] == (node,):
                needer.needed = needer.needed[:-1]
            if needer.linked:
                needer.linked.pop(node, None)
        requires, provides = self._names_of(node.item)
        for name in requires:
            self._needers.drop_last(name, node)
        for name in provides:
            self._providers.drop_last(name, node)

    def link(
        self,
        u: Any,
        v: Any,
        decider: Callable[..., bool] | None = None,
        decider_depth: Depth | str | None = None,
    ) -> Self:
        """Make `v` run after `u`.

        :param decider: called as `decider(history={name: result of an atom linked to v with a decider})`
            before `v` would run; a false value leaves `v` out
        :param decider_depth: what else is left out then, a `Depth` or its name; ALL by default
        :raises ValueError: when one of the two is not in this flow, or the decider cannot be called like that
        :raises DependencyFailure: when the link would close a cycle; it is not made then
        """
        attributes: dict[str, Any] = {}
        earlier, later = self._node(u, "from"), self._node(v, "to")
        if decider is not None:
            _check_decider(decider)
            attributes[flow.LINK_DECIDER] = decider
        if decider_depth is not None:
            if decider is None:
                msg = "Decider depth requires a decider to be provided along with it"
                raise ValueError(msg)
            attributes[flow.LINK_DECIDER_DEPTH] = Depth.translate(decider_depth)
        known = later.linked.get(earlier) if later.linked else None
        new = known is None and earlier not in later.needed
        if known is None or flow.LINK_MANUAL not in known:
            known = _MANUAL if known is None else known | _MANUAL
        moved: dict[_Node, int] = {}
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
        return self

    def _node(self, item: Any, end: str) -> _Node:
        if not self._has(item):
            msg = f"Node '{item}' not found to link {end}"
            raise ValueError(msg)
        return self._members[item]

    def _has(self, item: Any) -> bool:
        try:
            return item in self._members
        except TypeError:  # it cannot be a key
            return False

    def _put_before(self, u: _Node, v: _Node, moved: dict[_Node, int]) -> None:
        """Make the rank of `u` lower than that of `v`, if it is not.

        :param moved: learns the rank that each of those that move had at first
        :raises DependencyFailure: when u follows v; no rank has changed then
        """
        low, high = v.rank, u.rank
        if high < low:
            return
        self._work_out_after()
        # What follows v and what precedes u, between the two: looked up in turn, until one of them is complete.
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

    def _end_for(self, nodes: list[_Node]) -> int:
        """Return the rank of the end after some more members than there are."""
        self._end += len(nodes) * ROOM
        return self._end

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ranked())

    def _ranked(self) -> dict[Any, _Node]:
        if not self._sorted:
            self._members = {node.item: node for node in self._number(1)}
            self._sorted = True
        return self._members

    def iter_links(self) -> Iterator[flow.Link]:
        """Iterate over (member, member that comes after it, attributes of the link)."""
        for v in self:
            node = self._members[v]
            needed = frozenset(v.requires) - self._given
            for earlier in node.before():
                attributes: dict[str, Any] = {}
                if earlier in node.needed:
                    attributes[flow.LINK_REASONS] = set(needed.intersection(earlier.item.provides))
                if node.linked is not None:
                    attributes |= node.linked.get(earlier, {})
                yield earlier.item, v, attributes

    def positions(self) -> tuple[list[tuple[int, ...]], dict[tuple[int, int], dict[str, Any]]]:
        """Return the links by the positions of the members in iteration order; for engines.

        The first part has, for each member, the positions of those that it directly follows; the second the
        attributes of the links (earlier position, later position) that have a decider.
        """
        members = self._ranked()
        whole = len(self) == len(members)  # and ranks are positions
        nodes = list(members.values()) if whole else [members[item] for item in self]
        deciders: dict[tuple[int, int], dict[str, Any]] = {}
        before: list[tuple[int, ...]] = []
        place = {} if whole else {node: position for position, node in enumerate(nodes)}
        for position, node in enumerate(nodes):
            earlier = node.needed if node.linked is None else node.before()
            places = tuple([e.rank for e in earlier] if whole else [place[e] for e in earlier])
            before.append(places)
            if node.linked is not None:
                for other, at in zip(earlier, places, strict=True):
                    attributes = node.linked.get(other, _MANUAL)
                    if attributes is not _MANUAL:
                        deciders[at, position] = attributes
        return before, deciders

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with links as positions: a copy that went from member to member would nest too deep."""
        nodes = list(self._members.values())
        place = {node: position for position, node in enumerate(nodes)}
        rows = [
            (
                node.item,
                node.rank,
                [place[earlier] for earlier in node.needed],
                None if node.linked is None else [(place[earlier], has) for earlier, has in node.linked.items()],
            )
            for node in nodes
        ]
        indices = {"_providers": self._providers.positions(place), "_needers": self._needers.positions(place)}
        return {**self.__dict__, "_members": rows, "_knows_after": False, **indices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = state["_members"]
        nodes = [_Node(item, rank, ()) for item, rank, _, _ in rows]
        for node, (_, _, needed, linked) in zip(nodes, rows, strict=True):
            node.needed = tuple([nodes[position] for position in needed])
            if linked is not None:
                node.linked = {nodes[position]: _MANUAL if has == _MANUAL else has for position, has in linked}
        self.__dict__.update(state)
        self._members = {node.item: node for node in nodes}
        self._providers = _Index.at(state["_providers"], nodes)
        self._needers = _Index.at(state["_needers"], nodes)

    def _unmet(self, members: list[tuple[Any, frozenset[str], frozenset[str]]]) -> frozenset[str]:
        gives = {member: given for member, _, given in members}
        everything: frozenset[str] = frozenset().union(*gives.values())
        unmet: set[str] = set()
        for member, needs, _ in members:
            unmet |= needs - everything
            sought = set(needs & everything)
            # Look at the direct predecessors first: that is where an inferred link has its reason.
            queue = list(self._members[member].before()) if sought else []
            seen = set(queue)
            for ancestor in queue:
                sought -= gives.get(ancestor.item, frozenset())
                if not sought:
                    break
                for further in ancestor.before():
                    if further not in seen:
                        seen.add(further)
                        queue.append(further)
            unmet |= sought
        return frozenset(unmet)


def _refusal(u: _Node, v: _Node) -> exceptions.DependencyFailure:
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


class TargetedFlow(Flow):
    """A graph flow that runs only what its target needs; all of it when there is no target."""

    def __init__(self, name: str, retry: Any = None) -> None:
        super().__init__(name, retry)
        self._target: Any = None

    def set_target(self, target_node: Any) -> None:
        """Run only this member and what it depends on, directly or not.

        :raises ValueError: when it is not in this flow
        """
        if not self._has(target_node):
            msg = f"Node '{target_node}' not found"
            raise ValueError(msg)
        self._target = target_node

    def reset_target(self) -> None:
        """Run everything again."""
        self._target = None

    def _needed(self) -> set[Any]:
        stack = [self._members[self._target]]
        needed = set(stack)
        while stack:
            for predecessor in stack.pop().before():
                if predecessor not in needed:
                    needed.add(predecessor)
                    stack.append(predecessor)
        return {node.item for node in needed}

    def __len__(self) -> int:
        return super().__len__() if self._target is None else len(self._needed())

    def __iter__(self) -> Iterator[Any]:
        members = super().__iter__()
        if self._target is None:
            return members
        needed = self._needed()
        return (member for member in members if member in needed)


def _check_decider(decider: Any) -> None:
    """Refuse what cannot be called as `decider(history=...)`."""
    arguments.check_callback("Decider boolean callback", decider)
    parameters = atom.inspect_parameters(decider)
    needed = [name for name in parameters.required if name != "history"]
    if needed or not parameters.accepts("history"):
        msg = (
            f"Decider {atom.full_name(decider)} must be callable as decider(history=...): "
            f"{f'it requires {needed} too' if needed else 'it takes no argument of that name'}"
        )
        raise ValueError(msg)
