"""Members that run in the order of their dependencies.

The links of a graph flow are inferred from what its members require and provide, and added by hand. The flow
keeps its members ranked in a topological order while it grows (the algorithm of Pearce and Kelly, "A dynamic
topological sort algorithm for directed acyclic graphs", 2006): a link that agrees with the ranks costs
nothing, another one costs a search among the ranks between its ends, and a cycle is found when the link that
closes it is made.

Invariant: for each link (u, v), rank of u < rank of v.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

from taskflowx import atom, exceptions, flow
from taskflowx.deciders import Depth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CYCLE = "No path through the node(s) in the graph produces an ordering that will allow for logical edge traversal"
_MANUAL: dict[str, Any] = {flow.LINK_MANUAL: True}  # shared by all links made by hand that have nothing more


class _Node:
    """One member: its rank, whom it follows for what it requires and by hand, and who follows it."""

    __slots__ = ("after", "item", "linked", "needed", "rank")

    def __init__(self, item: Any) -> None:
        self.item = item
        self.rank = 0
        self.needed: tuple[_Node, ...] = ()
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

    def forget_last(self) -> None:
        """Undo the last `precede`."""
        if isinstance(self.after, list):
            self.after.pop()


_by_rank = operator.attrgetter("rank")


class _Index:
    """Members by name; most names have one, which is held without a list around it."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: dict[str, _Node | list[_Node]] = {}

    def get(self, name: str) -> list[_Node] | tuple[_Node, ...]:
        found = self._nodes.get(name, ())
        return (found,) if isinstance(found, _Node) else found

    def add(self, name: str, node: _Node) -> None:
        found = self._nodes.get(name)
        if found is None:
            self._nodes[name] = node
        elif isinstance(found, _Node):
            self._nodes[name] = [found, node]
        else:
            found.append(node)

    def drop_last(self, name: str, node: _Node) -> None:
        """Take a node out again if it was the last to come under this name."""
        found = self._nodes.get(name)
        if found is node:
            del self._nodes[name]
        elif isinstance(found, list) and found[-1:] == [node]:
            found.pop()

    def positions(self, place: dict[_Node, int]) -> dict[str, list[int]]:
        """Return the index with positions in the place of the members."""
        return {name: [place[node] for node in self.get(name)] for name in self._nodes}

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
        self._first, self._last = 0, -1  # the lowest and the highest rank in use
        self._sorted = True  # whether the members are held in the order of their ranks
        self._providers = _Index()
        self._needers = _Index()
        # What the flow's own retry provides is there already: nobody is linked for it.
        self._given: frozenset[str] = frozenset() if retry is None else frozenset(retry.provides)

    def add(self, *nodes: Any, resolve_requires: bool = True, resolve_existing: bool = True) -> Self:
        """Add atoms and flows, and link them to what provides what they need; all of them or, on an error, none.

        :param resolve_requires: whether to link the providers of what the new ones require
        :param resolve_existing: whether to link the members that require what the new ones provide
        :raises AmbiguousDependency: when a required name has several providers
        :raises DependencyFailure: when the links would make a cycle
        :raises TypeError: when something is neither an atom nor a flow
        """
        new = [item for item in dict.fromkeys(nodes) if item not in self._members]
        for item in new:
            self._check_member(item)
        added: list[_Node] = []
        moved: dict[_Node, int] = {}
        first, last = self._first, self._last
        try:
            for item in new:
                node = _Node(item)
                added.append(node)
                self._add(node, moved, resolve_requires=resolve_requires, resolve_existing=resolve_existing)
        except Exception:
            for node in reversed(added):
                self._remove(node)
            for node, rank in moved.items():
                node.rank = rank
            self._first, self._last = first, last
            raise
        return self

    def _add(self, node: _Node, moved: dict[_Node, int], *, resolve_requires: bool, resolve_existing: bool) -> None:
        item = node.item
        requires, provides = self._names_of(item)
        before: dict[_Node, None] = {}
        for name in requires if resolve_requires else ():
            providers = self._providers.get(name)
            if len(providers) > 1:
                msg = (
                    f"Resolution error detected when adding '{item.name}', multiple providers "
                    f"{sorted(str(p.item.name) for p in providers)} found for required symbol '{name}'"
                )
                raise exceptions.AmbiguousDependency(msg)
            if providers:
                before[providers[0]] = None
        after: dict[_Node, None] = {}
        for name in provides if resolve_existing else ():
            after.update(dict.fromkeys(self._needers.get(name)))
        self._rank(node, front=bool(after) and not before)
        self._members[item] = node
        node.needed = tuple(before)
        for provider in before:
            provider.precede(node)
        for needer in after:
            self._put_before(node, needer, moved)
            needer.needed = (*needer.needed, node)
            node.precede(needer)
        for name in requires:
            self._needers.add(name, node)
        for name in provides:
            self._providers.add(name, node)

    def _names_of(self, item: Any) -> tuple[Sequence[str], Sequence[str]]:
        """Return what a member requires of other members, and what it provides."""
        requires: Sequence[str]
        if isinstance(item, atom.Atom):
            requires = item.wanted_names()
            provides = [name for name, _ in item._signature.outputs]  # noqa: SLF001 - of the same house
        else:
            # Sorted, as sets are in another order in each process.
            requires, provides = sorted(item.requires), sorted(item.provides)
        if self._given:
            requires = [name for name in requires if name not in self._given]
        return requires, provides

    def _rank(self, node: _Node, *, front: bool) -> None:
        """Give a new member, not linked yet, a rank before or after all others."""
        if front:
            self._first -= 1
            node.rank = self._first
            self._sorted = False
        else:
            self._last += 1
            node.rank = self._last

    def _remove(self, node: _Node) -> None:
        """Take the newest member out again, as far as it has been put in: it is the last wherever it is."""
        if self._members.pop(node.item, None) is None:
            return
        for provider in node.needed:
            provider.forget_last()
        for needer in node.after:
            needer.needed = needer.needed[:-1]
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
        if later.linked is None or earlier not in later.linked:
            if earlier not in later.needed:
                self._put_before(earlier, later, {})
                earlier.precede(later)
            if later.linked is None:
                later.linked = {}
            later.linked[earlier] = _MANUAL
        if attributes:
            later.linked[earlier] = later.linked[earlier] | attributes
        return self

    def _node(self, item: Any, end: str) -> _Node:
        node = self._members.get(item)
        if node is None:
            msg = f"Node '{item}' not found to link {end}"
            raise ValueError(msg)
        return node

    def _put_before(self, u: _Node, v: _Node, moved: dict[_Node, int]) -> None:
        """Rank `u` before `v`: those between that must precede u or follow v share out the same ranks anew.

        :param moved: learns the rank that each of those that move had at first
        :raises DependencyFailure: when u follows v
        """
        low, high = v.rank, u.rank
        if high < low:
            return
        following = {v}
        stack = [v]
        while stack:
            node = stack.pop()
            if node is u:
                msg = f"{CYCLE}\n{_cycle(u, v)}"
                raise exceptions.DependencyFailure(msg)
            for successor in node.after:
                if successor.rank <= high and successor not in following:
                    following.add(successor)
                    stack.append(successor)
        preceding = {u}
        stack = [u]
        while stack:
            for predecessor in stack.pop().before():
                if predecessor.rank >= low and predecessor not in preceding:
                    preceding.add(predecessor)
                    stack.append(predecessor)
        movers = sorted(preceding, key=_by_rank) + sorted(following, key=_by_rank)
        for node, rank in zip(movers, sorted(node.rank for node in movers), strict=True):
            moved.setdefault(node, node.rank)
            node.rank = rank
        self._sorted = False

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ranked())

    def _ranked(self) -> dict[Any, _Node]:
        if not self._sorted:
            self._members = {node.item: node for node in sorted(self._members.values(), key=_by_rank)}
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
        nodes = [self._members[item] for item in self]
        deciders: dict[tuple[int, int], dict[str, Any]] = {}
        first = self._first
        place: Callable[[_Node], int]
        if len(nodes) == self._last - first + 1:
            place = _by_rank  # the ranks are the positions, from the first one on
        else:
            first, place = 0, {node: position for position, node in enumerate(nodes)}.__getitem__
        before: list[tuple[int, ...]] = []
        for node in nodes:
            if node.linked is None:
                before.append(tuple([place(earlier) - first for earlier in node.needed]))
                continue
            before.append(tuple([place(earlier) - first for earlier in node.before()]))
            for earlier, attributes in node.linked.items():
                if attributes is not _MANUAL:
                    deciders[place(earlier) - first, place(node) - first] = attributes
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
                [place[later] for later in node.after],
            )
            for node in nodes
        ]
        indices = {"_providers": self._providers.positions(place), "_needers": self._needers.positions(place)}
        return {**self.__dict__, "_members": rows, **indices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = state["_members"]
        nodes = [_Node(row[0]) for row in rows]
        for node, (_, rank, needed, linked, after) in zip(nodes, rows, strict=True):
            node.rank = rank
            node.needed = tuple([nodes[position] for position in needed])
            if linked is not None:
                node.linked = {nodes[position]: _MANUAL if has == _MANUAL else has for position, has in linked}
            node.after = [nodes[position] for position in after]
        self.__dict__.update(state)
        self._members = {node.item: node for node in nodes}
        self._providers = _Index.at(state["_providers"], nodes)
        self._needers = _Index.at(state["_needers"], nodes)

    def _unmet(self, members: list[tuple[Any, frozenset[str], frozenset[str]]]) -> frozenset[str]:
        gives = {member: given for member, _, given in members}
        everything: frozenset[str] = frozenset().union(*gives.values())
        unmet: set[str] = set()
        for member, needs, _ in members:
            missing = set(needs)
            # Look at the direct predecessors first: that is where an inferred link has its reason.
            queue = list(self._members[member].before())
            seen = set(queue)
            for ancestor in queue:
                missing -= gives.get(ancestor.item, frozenset())
                if not missing & everything:
                    break
                for further in ancestor.before():
                    if further not in seen:
                        seen.add(further)
                        queue.append(further)
            unmet |= missing
        return frozenset(unmet)


def _cycle(u: _Node, v: _Node) -> str:
    """Describe the cycle that a link from u to v would close."""
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
    return "The cycle is: " + " -> ".join(str(node.item.name) for node in [u, *reversed(path)])


class TargetedFlow(Flow):
    """A graph flow that runs only what its target needs; all of it when there is no target."""

    def __init__(self, name: str, retry: Any = None) -> None:
        super().__init__(name, retry)
        self._target: Any = None

    def set_target(self, target_node: Any) -> None:
        """Run only this member and what it depends on, directly or not.

        :raises ValueError: when it is not in this flow
        """
        if target_node not in self._members:
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
    if not callable(decider):
        msg = "Decider boolean callback must be callable"
        raise ValueError(msg)  # noqa: TRY004 - what callers catch
    parameters = atom.inspect_parameters(decider)
    needed = [name for name in parameters.required if name != "history"]
    if needed or not parameters.accepts("history"):
        msg = (
            f"Decider {atom.full_name(decider)} must be callable as decider(history=...): "
            f"{f'it requires {needed} too' if needed else 'it takes no argument of that name'}"
        )
        raise ValueError(msg)
