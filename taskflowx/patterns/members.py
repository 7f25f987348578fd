"""The members of a graph flow by the names that they provide and require, and the links inferred from these.

A nested flow may have more names than all other members together, at each of many levels. So the names of the largest
nested flow are not in the index: they stay in sets of their own, and an enclosing flow that asks for all names takes
over these sets (`kept_names`). When they are needed again, they are collected again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Self

from taskflowx import atom, exceptions, flow
from taskflowx.patterns.order import MANUAL, Member, Ranked


class Index:
    """Members by name; most names have one, which is stored without a list."""

    __slots__ = ("nodes",)

    def __init__(self) -> None:
        self.nodes: dict[str, Member | list[Member]] = {}

    def get(self, name: str) -> list[Member] | tuple[Member, ...]:
        """Return the members with a name."""
        found = self.nodes.get(name, ())
        return (found,) if isinstance(found, Member) else found

    def add(self, name: str, node: Member) -> None:
        """Add a member to a name."""
        found = self.nodes.setdefault(name, node)
        if found is not node:
            if isinstance(found, Member):
                self.nodes[name] = [found, node]
            else:
                found.append(node)

    def add_once(self, name: str, node: Member) -> None:
        """Add a member unless it is present, as it may be after an interrupted call."""
        if node not in self.get(name):
            self.add(name, node)

    def drop(self, name: str, node: Member) -> None:
        """Remove a member, if it is present; usually it is the last one of its names."""
        found = self.nodes.get(name)
        if found is node:
            del self.nodes[name]
        elif isinstance(found, list):
            if found[-1] is node:
                found.pop()
            elif node in found:
                found.remove(node)
            if not found:
                del self.nodes[name]

    def positions(self, place: dict[Member, int]) -> dict[str, list[int]]:
        """Return the index with positions in place of the members."""
        return {name: [place[node] for node in self.get(name)] for name in self.nodes}

    @classmethod
    def at(cls, positions: dict[str, list[int]], nodes: list[Member]) -> Index:
        """Make an index from the result of `positions`."""
        made = cls()
        for name, users in positions.items():
            for position in users:
                made.add(name, nodes[position])
        return made


class Members(Ranked):
    """The members of a graph flow and their links.

    :param given: names that need no links, as they are provided already
    """

    def __init__(self, given: frozenset[str]) -> None:
        super().__init__()
        self.given = given
        self._providers = Index()
        self._needers = Index()  # by names that had no provider when the members were added
        self._largest: Member | None = None  # the nested flow whose names are not in the index
        self._met: set[str] | None = None  # the names that it requires without a search for a provider; None: all
        self._age: int | None = None  # `flow.age()` when the first nested flow was added; -1 if names may change

    # -- growing -----------------------------------------------------------------------------------

    def add(self, items: list[Any], *, resolve_requires: bool, resolve_existing: bool) -> None:
        """Add new members with their links: all of them or, on an error, none.

        :raises AmbiguousDependency, DependencyFailure: see `graph_flow.Flow.add`
        """
        added: list[Member] = []
        moved: dict[Member, int] = {}
        end, step = self._end, self._step
        try:
            self._join(items, added, moved, resolve_requires=resolve_requires, resolve_existing=resolve_existing)
        except BaseException:
            for node in reversed(added):
                self._remove(node)
            self._put_back(moved, end, step)
            raise

    def _join(  # noqa: C901 - one pass over many members, whose cost counts for each of them
        self,
        items: list[Any],
        added: list[Member],
        moved: dict[Member, int],
        *,
        resolve_requires: bool,
        resolve_existing: bool,
    ) -> None:
        """Add members with their links, one after another.

        :param added: collects the members that were added, partly or completely
        :param moved: collects the original rank of each member that moves
        """
        nodes, providers, needers = self.nodes, self._providers, self._needers
        provided, names_of = providers.nodes, self._names_of
        later: list[tuple[Member, Iterable[str]]] = []  # the members that may be linked to providers of later calls
        for item in items:
            before: dict[Member, set[str] | None] = {}
            unmet: Collection[str] | None = None
            nested = None
            met: set[str] = set()
            if isinstance(item, flow.Flow):
                nested = self._names_of_flow(item)
                requires: Any = nested.requires
                provides: Any = nested.provides
                if resolve_requires:
                    met = self._meet(item, requires, before)
            else:
                requires, provides = names_of(item)
                in_largest = _NO_NAMES if self._largest is None else self._largest.own_names().provides
                for name in requires:
                    found = provided.get(name) if resolve_requires else None
                    if name in in_largest and resolve_requires:
                        found = self._with_largest(found)
                    if found:
                        provider = found if isinstance(found, Member) else self._only(found, name, item)
                        if provider.names is None:
                            before[provider] = None
                        else:
                            _note(before, provider, name)
                    elif unmet is None:
                        unmet = [name]
                    else:
                        unmet.append(name)  # type: ignore[attr-defined]
            node = Member(item, self._end, tuple(before))
            added.append(node)
            after = None
            if resolve_existing and (needers.nodes or self._largest is not None):
                after = self._to_follow(provides)
            nodes[item] = node
            self._end += self._step
            for provider, reasons in before.items():
                if self._knows_after:
                    provider.precede(node)
                if reasons is not None:
                    node.explain(provider, reasons)
            if after:
                self._put_in_front(node, provides, after)
            if nested is not None:
                unmet = self._put_in_flow(node, nested, met, later, waits=not resolve_requires)
            if unmet:
                if resolve_requires:
                    for name in unmet:
                        needers.add(name, node)
                else:
                    later.append((node, unmet))
            if nested is None or node is not self._largest:
                for name in provides:
                    if provided.setdefault(name, node) is not node:
                        providers.add(name, node)
            if after:
                self._settle(node, moved)
        for node, names in later:
            if node is self._largest:
                self._met = set()
            else:
                for name in names:
                    needers.add(name, node)

    def _names_of_flow(self, item: Any) -> flow.Names:
        age = flow.age()
        names = flow.names_of(item)
        if self._age is None:
            self._age = age
        if not names.lasting:
            self._age = -1
        if self.given:
            names.requires = flow.without(names.requires, self.given)
        return names

    def _meet(self, item: Any, requires: set[str], before: dict[Member, set[str] | None]) -> set[str]:
        """Find the members that a nested flow must follow.

        :param before: collects them, each with the names that it provides
        :return: the names that have a provider
        """
        met = flow.common(requires, self._providers.nodes.keys())
        if self._largest is not None:
            met |= flow.common(requires, self._largest.own_names().provides)
        for name in sorted(met):  # the order of sets differs between processes
            _note(before, self._only(self._providers_of(name), name, item), name)
        return met

    def _put_in_flow(
        self,
        node: Member,
        names: flow.Names,
        met: set[str],
        later: list[tuple[Member, Iterable[str]]],
        *,
        waits: bool,
    ) -> Collection[str] | None:
        """Store the names of a nested flow: outside of the index if it is the largest so far.

        :param met: the required names that have a provider
        :param later: collects members that search for providers only when the call has ended
        :param waits: whether this one does
        :return: the names that go into the index, or None
        """
        node.names = [names]
        largest = self._largest
        if largest is not None and len(largest.own_names()) >= len(names):
            return flow.without(names.requires.copy(), met)
        if largest is not None:
            known = largest.own_names()
            for name in known.provides:
                self._providers.add_once(name, largest)
            if self._met is None:
                later.append((largest, known.requires))
            else:
                for name in known.requires:
                    if name not in self._met:
                        self._needers.add_once(name, largest)
        self._largest, self._met = node, None if waits else met
        if waits:
            later.append((node, ()))
        return None

    def _providers_of(self, name: str) -> Sequence[Member]:
        found = self._providers.get(name)
        if self._largest is not None and name in self._largest.own_names().provides and self._largest not in found:
            return (*found, self._largest)
        return found

    def _with_largest(self, found: Member | list[Member] | None) -> Member | list[Member] | None:
        """Add the largest nested flow to the indexed providers of a name."""
        if found is None or found is self._largest:
            return self._largest
        others = [found] if isinstance(found, Member) else found
        return others if self._largest in others else [*others, self._largest]  # type: ignore[list-item]

    def _put_in_front(self, node: Member, provides: Collection[str], after: dict[Member, list[str]]) -> None:
        """Link a new provider to the members that must follow it.

        :param after: for each of them, the names that require the link
        """
        self._work_out_after()
        served = [needer for needer in after if self._is_served(needer, provides)]
        for needer, names in after.items():
            node.precede(needer)  # first: it tells `_remove` which links to undo
            needer.needed = (*needer.needed, node)
            if needer in served or needer.names is not None or isinstance(node.item, flow.Flow):
                needer.explain(node, set(names))

    @staticmethod
    def _only(providers: Sequence[Member], name: str, item: Any) -> Member:
        """Return the single provider of a name that an item requires.

        :raises AmbiguousDependency: when there are several
        """
        if len(providers) > 1:
            msg = (
                f"Resolution error detected when adding '{item.name}', multiple providers "
                f"{sorted(str(p.item.name) for p in providers)} found for required symbol '{name}'"
            )
            raise exceptions.AmbiguousDependency(msg)
        return providers[0]

    def _to_follow(self, provides: Collection[str]) -> dict[Member, list[str]]:
        """Return the members that must follow a new provider, each with the names that require the link."""
        after: dict[Member, list[str]] = {}
        needed = self._needers.nodes
        largest, met = self._largest, self._met
        wanted = _NO_NAMES if largest is None or met is None else largest.own_names().requires
        if isinstance(provides, set):
            provides = sorted(flow.common(provides, needed.keys()) | flow.common(provides, wanted))
        for name in provides:
            looking = self._needers.get(name)
            if name in wanted and name not in met and largest not in looking:  # type: ignore[operator]
                looking = (*looking, largest)  # type: ignore[arg-type]
            if looking:
                others = self._providers_of(name)
                for needer in looking:
                    followed = needer.before() if others else ()
                    if not any(other in followed for other in others):  # one provider of a name is enough
                        after.setdefault(needer, []).append(name)
        return after

    def _is_served(self, needer: Member, provides: Collection[str]) -> bool:
        """Tell whether a member follows a provider of one of some names."""
        followed = needer.before()
        required = set(self._names_of(needer.item)[0]) if needer.names is None else needer.own_names().requires
        shared = flow.common(required, provides if isinstance(provides, set) else set(provides))
        return any(other in followed for name in shared for other in self._providers_of(name))

    def _names_of(self, item: Any) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names that an atom requires of other members, and those that it provides."""
        requires: Sequence[str]
        if isinstance(item, atom.Atom):
            outputs, (_, requires, needed), backward, _, _, _ = item._tfx_signature
            if backward.needed or item.inject or len(requires) != needed:
                requires = atom.wanted_names(item)
            provides = outputs[0][:1] if len(outputs) == 1 else [name for name, _ in outputs]
        else:
            # Sorted, as the order of sets differs between processes.
            requires, provides = sorted(item.requires), sorted(item.provides)
        if self.given:
            requires = [name for name in requires if name not in self.given]
        return requires, provides

    def _remove(self, node: Member) -> None:
        """Remove the newest member, which may be added only partly."""
        if self.nodes.pop(node.item, None) is None:
            return
        if self._knows_after:
            for provider in node.needed:
                provider.no_longer_precede(node)
        for needer in node.after:
            if needer.needed[-1:] == (node,):
                needer.needed = needer.needed[:-1]
            if needer.reasons:
                needer.reasons.pop(node, None)
        if node is self._largest:
            self._largest = None
        requires, provides = self._names_of(node.item) if node.names is None else node.own_names().both()
        for name in requires:
            self._needers.drop(name, node)
        for name in provides:
            self._providers.drop(name, node)

    # -- queries -----------------------------------------------------------------------------------

    def kept_names(self, retry: Any) -> flow.Names | None:
        """Return the names of the flow in sets for the caller; None when they must be collected again.

        The sets of the largest nested flow are handed to the caller.

        :param retry: the retry of the flow, or None
        """
        if self._age is not None and self._age != flow.age():
            return None
        largest = None
        if self._largest is not None:
            try:
                largest = self._largest.names.pop()  # type: ignore[union-attr]
            except IndexError:
                return None
        found = []
        for node in self.nodes.values():
            if node.names is None:
                needed, given = self._names_of(node.item)
                names = flow.Names(set(needed), set(given), lasting=True)
            elif node is self._largest and largest is not None:
                names = largest
            else:
                known = node.own_names()
                names = flow.Names(known.requires.copy(), known.provides.copy(), lasting=True)
            found.append((node, names))
        requires, provides = flow.join_by_links(found, Member.before)
        if retry is not None:
            requires = flow.merged(flow.without(requires, self.given), set(retry.requires))
            provides = flow.merged(provides, set(self.given))
        return flow.Names(
            requires, provides, lasting=all(isinstance(item, (atom.Atom, flow.Flow)) for item in self.nodes)
        )

    def taken_apart(self) -> tuple[list[Any], dict[str, Any]]:
        """Return rows, one per member, and all other state, for a copy that `put_together` makes.

        Links are positions: a copy that followed references from member to member would recurse too deep.
        """
        nodes = list(self.nodes.values())
        place = {node: position for position, node in enumerate(nodes)}
        rows = [
            (
                node.item,
                node.rank,
                [place[earlier] for earlier in node.needed],
                None if node.linked is None else [(place[earlier], has) for earlier, has in node.linked.items()],
                None if node.reasons is None else [(place[earlier], has) for earlier, has in node.reasons.items()],
                None if node.names is None else [(one.requires, one.provides, one.lasting) for one in node.names],
            )
            for node in nodes
        ]
        facts = {
            **self.__dict__,
            "_knows_after": False,
            "_providers": self._providers.positions(place),
            "_needers": self._needers.positions(place),
            "_largest": None if self._largest is None else place[self._largest],
            "_age": None if self._age is None else -1,  # the count of another process differs
        }
        del facts["nodes"]
        return rows, facts

    @classmethod
    def put_together(cls, rows: list[Any], facts: dict[str, Any]) -> Self:
        """Make members from the result of `taken_apart`; only the items are shared."""
        nodes = [Member(item, rank, ()) for item, rank, *_ in rows]
        for node, (_, _, needed, linked, reasons, names) in zip(nodes, rows, strict=True):
            node.needed = tuple([nodes[position] for position in needed])
            if linked is not None:
                node.linked = {nodes[position]: MANUAL if has == MANUAL else has for position, has in linked}
            if reasons is not None:
                node.reasons = {nodes[position]: set(has) for position, has in reasons}
            if names is not None:
                node.names = [flow.Names(set(one[0]), set(one[1]), lasting=one[2]) for one in names]
        made = cls.__new__(cls)
        made.__dict__.update(facts)
        made.nodes = {node.item: node for node in nodes}
        made._providers = Index.at(facts["_providers"], nodes)
        made._needers = Index.at(facts["_needers"], nodes)
        made._largest = None if facts["_largest"] is None else nodes[facts["_largest"]]
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).put_together, self.taken_apart()


_NO_NAMES: frozenset[str] = frozenset()


def _note(before: dict[Member, set[str] | None], provider: Member, name: str) -> None:
    """Add a name to those that require a link to a provider."""
    names = before.get(provider)
    if names is None:
        before[provider] = {name}
    else:
        names.add(name)
