"""Members that run in the order of their dependencies.

The links of a graph flow are inferred from what its members require and provide, and added by hand. The flow keeps
its members ranked in a topological order while it grows (the algorithm of Pearce and Kelly, "A dynamic topological
sort algorithm for directed acyclic graphs", 2006): a link that agrees with the ranks costs nothing, another one
costs a search among the ranks between its ends, and a cycle is found when the link that closes it is made.

Invariant: for each link (u, v), rank of u < rank of v.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from taskflowx import atom, exceptions, flow
from taskflowx.deciders import Depth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CYCLE = "No path through the node(s) in the graph produces an ordering that will allow for logical edge traversal"


class Flow(flow.Flow):
    """A flow whose members run as soon as those that they depend on have run."""

    def __init__(self, name: str, retry: Any = None) -> None:
        super().__init__(name, retry)
        self._ranks: dict[Any, int] = {}
        self._first, self._last = 0, -1  # the lowest and the highest rank in use
        self._sorted = True  # whether the members are held in the order of their ranks
        self._predecessors: dict[Any, dict[Any, tuple[str, ...]]] = {}
        self._successors: dict[Any, list[Any]] = {}
        self._manual: dict[tuple[Any, Any], dict[str, Any]] = {}
        self._providers: dict[str, list[Any]] = {}
        self._needers: dict[str, list[Any]] = {}

    def add(self, *nodes: Any, resolve_requires: bool = True, resolve_existing: bool = True) -> Self:
        """Add atoms and flows, and link them to what provides what they need; all of them or, on an error, none.

        :param resolve_requires: whether to link the providers of what the new ones require
        :param resolve_existing: whether to link the members that require what the new ones provide
        :raises AmbiguousDependency: when a required name has several providers
        :raises DependencyFailure: when the links would make a cycle
        :raises TypeError: when something is neither an atom nor a flow
        """
        new = [n for n in dict.fromkeys(nodes) if n not in self._ranks]
        for node in new:
            self._check_member(node)
        added: list[Any] = []
        try:
            for node in new:
                added.append(node)
                self._add(node, resolve_requires=resolve_requires, resolve_existing=resolve_existing)
        except Exception:
            for node in reversed(added):
                self._remove(node)
            raise
        return self

    def _add(self, node: Any, *, resolve_requires: bool, resolve_existing: bool) -> None:
        requires, provides = node.requires, node.provides
        before: dict[Any, tuple[str, ...]] = {}
        for name in requires if resolve_requires else ():
            providers = self._providers.get(name, ())
            if len(providers) > 1:
                msg = (
                    f"Resolution error detected when adding '{node.name}', multiple providers "
                    f"{sorted(str(p.name) for p in providers)} found for required symbol '{name}'"
                )
                raise exceptions.AmbiguousDependency(msg)
            for provider in providers:
                before[provider] = (*before.get(provider, ()), name)
        after: dict[Any, tuple[str, ...]] = {}
        for name in provides if resolve_existing else ():
            for needer in self._needers.get(name, ()):
                after[needer] = (*after.get(needer, ()), name)
        self._rank(node, front=bool(after) and not before)
        self._members[node] = None
        self._predecessors[node] = before
        self._successors[node] = []
        for provider in before:
            self._successors[provider].append(node)
        for needer, names in after.items():
            self._connect(node, needer, names)
        for name in requires:
            self._needers.setdefault(name, []).append(node)
        for name in provides:
            self._providers.setdefault(name, []).append(node)

    def _rank(self, node: Any, *, front: bool) -> None:
        """Give a new member, not linked yet, a rank before or after all others."""
        if front:
            self._first -= 1
            self._ranks[node] = self._first
            self._sorted = False
        else:
            self._last += 1
            self._ranks[node] = self._last

    def _remove(self, node: Any) -> None:
        """Take a member out again, as far as it has been put in."""
        for provider in self._predecessors.pop(node, ()):
            self._successors[provider].remove(node)
        for needer in self._successors.pop(node, ()):
            del self._predecessors[needer][node]
        for index in (self._providers, self._needers):
            for name in [name for name, users in index.items() if node in users]:
                index[name].remove(node)
        self._ranks.pop(node, None)
        self._members.pop(node, None)

    def link(
        self, u: Any, v: Any, decider: Callable[..., bool] | None = None, decider_depth: Depth | str | None = None
    ) -> Self:
        """Make `v` run after `u`.

        :param decider: called as `decider(history={name: result of an atom linked to v with a decider})` before `v`
            would run; a false value leaves `v` out
        :param decider_depth: what else is left out then, a `Depth` or its name; ALL by default
        :raises ValueError: when one of the two is not in this flow, or the decider cannot be called like that
        :raises DependencyFailure: when the link would close a cycle; it is not made then
        """
        for node, end in ((u, "from"), (v, "to")):
            if not self._has(node):
                msg = f"Node '{node}' not found to link {end}"
                raise ValueError(msg)
        attributes: dict[str, Any] = {flow.LINK_MANUAL: True}
        if decider is not None:
            _check_decider(decider)
            attributes[flow.LINK_DECIDER] = decider
        if decider_depth is not None:
            if decider is None:
                msg = "Decider depth requires a decider to be provided along with it"
                raise ValueError(msg)
            attributes[flow.LINK_DECIDER_DEPTH] = Depth.translate(decider_depth)
        if u not in self._predecessors[v]:
            self._connect(u, v, ())
        self._manual.setdefault((u, v), {}).update(attributes)
        return self

    def _has(self, node: Any) -> bool:
        return node in self._ranks

    def _connect(self, u: Any, v: Any, names: tuple[str, ...]) -> None:
        """Put a link in, after making the ranks agree with it."""
        if self._ranks[u] >= self._ranks[v]:
            self._reorder(u, v)
        self._predecessors[v][u] = names
        self._successors[u].append(v)

    def _reorder(self, u: Any, v: Any) -> None:
        """Rank `u` before `v`: those between that must precede u or follow v share out the same ranks anew."""
        ranks = self._ranks
        low, high = ranks[v], ranks[u]
        following = {v}
        stack = [v]
        while stack:
            node = stack.pop()
            if node is u:
                msg = f"{CYCLE}\n{self._cycle(u, v)}"
                raise exceptions.DependencyFailure(msg)
            for successor in self._successors[node]:
                if ranks[successor] <= high and successor not in following:
                    following.add(successor)
                    stack.append(successor)
        preceding = {u}
        stack = [u]
        while stack:
            for predecessor in self._predecessors[stack.pop()]:
                if ranks[predecessor] >= low and predecessor not in preceding:
                    preceding.add(predecessor)
                    stack.append(predecessor)
        movers = sorted(preceding, key=ranks.__getitem__) + sorted(following, key=ranks.__getitem__)
        free = sorted(ranks[node] for node in movers)
        ranks.update(zip(movers, free, strict=True))
        self._sorted = False

    def _cycle(self, u: Any, v: Any) -> str:
        """Describe the cycle that the link from u to v would close."""
        came_from = {v: v}
        queue = [v]
        for node in queue:
            for successor in self._successors[node]:
                if successor not in came_from:
                    came_from[successor] = node
                    queue.append(successor)
        names = [u.name]
        node = u
        while node is not v:
            node = came_from[node]
            names.append(node.name)
        names.append(u.name)
        return "The cycle is: " + " -> ".join(str(name) for name in reversed(names))

    def __iter__(self) -> Iterator[Any]:
        if not self._sorted:
            self._members = dict.fromkeys(sorted(self._members, key=self._ranks.__getitem__))
            self._sorted = True
        return iter(self._members)

    def iter_links(self) -> Iterator[flow.Link]:
        """Iterate over (member, member that comes after it, attributes of the link)."""
        for v in self:
            for u, names in self._predecessors[v].items():
                attributes: dict[str, Any] = {flow.LINK_REASONS: set(names)} if names else {}
                yield u, v, attributes | self._manual.get((u, v), {})

    def _unmet(self, members: list[tuple[Any, frozenset[str], frozenset[str]]]) -> frozenset[str]:
        gives = {member: given for member, _, given in members}
        everything: frozenset[str] = frozenset().union(*gives.values())
        unmet: set[str] = set()
        for member, needs, _ in members:
            missing = set(needs)
            # Look at the direct predecessors first: that is where an inferred link has its reason.
            queue = list(self._predecessors[member])
            seen = set(queue)
            for ancestor in queue:
                missing -= gives.get(ancestor, frozenset())
                if not missing & everything:
                    break
                for further in self._predecessors[ancestor]:
                    if further not in seen:
                        seen.add(further)
                        queue.append(further)
            unmet |= missing
        return frozenset(unmet)


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
        needed = {self._target}
        stack = [self._target]
        while stack:
            for predecessor in self._predecessors[stack.pop()]:
                if predecessor not in needed:
                    needed.add(predecessor)
                    stack.append(predecessor)
        return needed

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
