"""The members of a graph flow by the names that they provide and require, and the links inferred from these.

A nested flow may have more names than all other members together, at each of many levels. So the names of the largest
nested flow stay in sets of their own, and an enclosing flow that asks for all names takes over these sets (`hand_out`).
When they are needed again, they are collected again.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from taskflowx import atom, controls, exceptions, flow
from taskflowx._util import joins
from taskflowx.patterns.order import Ordered

if TYPE_CHECKING:
    from taskflowx.patterns.order import Attributes

    Waiting = list[tuple[int, Collection[str]]]

MANUAL: dict[str, Any] = {flow.LINK_MANUAL: True}  # shared by all manual links without other attributes


class Index:
    """The numbers of members by name; most names have one, which is stored without a list."""

    __slots__ = ("largest", "members")

    def __init__(self, members: dict[str, int | list[int]]) -> None:
        self.members = members
        self.largest: tuple[int, set[str]] | None = None  # a nested flow, with its names, which are not in the dict

    def find(self, name: str) -> int | list[int] | None:
        """Return the member with a name, or a list of several."""
        found = self.members.get(name)
        if self.largest is None or name not in self.largest[1]:
            return found
        number = self.largest[0]
        others = [found] if isinstance(found, int) else found or []
        return [*others, number] if others and number not in others else found or number

    def all(self, name: str) -> Sequence[int]:
        """Return all members with a name."""
        found = self.find(name)
        return (found,) if isinstance(found, int) else found or ()

    def common(self, names: set[str]) -> list[str]:
        """Return those of some names that a member has; sorted, as the order of sets differs between processes."""
        found = joins.common(names, self.members.keys())
        return sorted(found if self.largest is None else found | joins.common(names, self.largest[1]))

    def add(self, name: str, number: int) -> None:
        """Add a member to a name."""
        found = self.members.setdefault(name, number)
        if isinstance(found, list):
            found.append(number)
        elif found != number:
            self.members[name] = [found, number]

    def drop(self, name: str, number: int) -> None:
        """Remove a member, if it is present; usually it is the last one of its names."""
        found = self.members.get(name)
        if isinstance(found, list):
            if found[-1] == number:
                found.pop()
            elif number in found:
                found.remove(number)
        if found in (number, []):
            del self.members[name]

    def set_largest(self, number: int, names: set[str]) -> None:
        """Keep the names of a nested flow in their set, and put those of the one before it into the dict."""
        if self.largest is not None:
            before, known = self.largest
            for name in known:
                self.drop(name, before)  # it may be present after an interrupted call
                self.add(name, before)
        self.largest = number, names

    def __copy__(self) -> Index:
        """Return a copy, without the names of the largest nested flow."""
        return Index({name: found if isinstance(found, int) else [*found] for name, found in self.members.items()})


class Members(Ordered):
    """The members of a graph flow and their links.

    :param given: names that need no links, as they are provided already
    """

    def __init__(self, given: frozenset[str]) -> None:
        super().__init__()
        self._given = given
        self._providers = Index({})
        self._needers = Index({})  # by names that had no provider when the members were added
        self._names: dict[int, flow.Names | None] = {}  # those of nested flows; None: to be collected again
        self._largest: int | None = None  # the nested flow with most names
        self._age: int | None = None  # `flow.age()` when the first nested flow was added; -1 if names may change

    # -- growing -----------------------------------------------------------------------------------

    def add(self, items: list[Any], *, resolve_requires: bool, resolve_existing: bool) -> None:
        """Add new members with their links: all of them or, on an error, none.

        :raises AmbiguousDependency, DependencyFailure: see `graph_flow.Flow.add`
        """
        first, self._moved = len(self.items), {}
        waiting: Waiting | None = None if resolve_requires else []
        largest = self._largest
        if largest is not None and self._names[largest] is None:  # collect them again
            again = self._names_of_flow(self.items[largest])
            self._providers.set_largest(largest, again.provides)
            self._needers.set_largest(largest, again.requires)
            self._names[largest] = again
        try:
            for item in items:
                self._add(item, waiting, resolve_existing=resolve_existing)
            for number, names in waiting or ():
                self._wait(number, names)
        except BaseException:
            self._withdraw(first)
            raise

    def _add(self, item: Any, waiting: Waiting | None, *, resolve_existing: bool) -> None:
        """Add a member with its links.

        :param waiting: collects members that search for providers only when the call has ended; None: they do so now
        """
        requires: Collection[str]
        provides: Collection[str]
        names = (
            self._names_of_flow(item) if issubclass(type(item), flow.Flow) else None
        )  # a mock of one has names alone
        if names is None:
            requires, provides = self._names_of(item)
        else:
            requires, provides = self._providers.common(names.requires), self._needers.common(names.provides)
        before: dict[int, Attributes] = {}
        unmet = self._follow_providers(item, requires, before) if waiting is None else requires
        awaited = resolve_existing and (self._needers.members or self._needers.largest)
        after = self._to_follow(provides) if awaited else None
        number = self._append(item, before)
        if after:
            self._put_in_front(number, after, explained=names is None and len(provides) == 1)
        if names is not None:
            unmet, provides = self._put_in_flow(number, names, requires if waiting is None else ())
        for name in provides:
            self._providers.add(name, number)
        if waiting is not None:
            waiting.append((number, unmet))
        elif unmet or names is not None:
            self._wait(number, unmet)

    def _follow_providers(self, item: Any, requires: Collection[str], before: dict[int, Attributes]) -> Collection[str]:
        """Find the members that an item must follow.

        :param before: collects them
        :return: the names that no member provides
        :raises AmbiguousDependency: when several provide one name
        """
        unmet, find, flows = [], self._providers.find, self._names
        nested = issubclass(type(item), flow.Flow)
        for name in requires:
            found = find(name)
            if found is None:
                unmet.append(name)
                continue
            if isinstance(found, list):
                if len(found) > 1:
                    raise exceptions.AmbiguousDependency(
                        f"Resolution error detected when adding '{item.name}', multiple providers "
                        f"{sorted(str(self.items[n].name) for n in found)} found for required symbol '{name}'\n"
                        "Have all but one of them provide another name, by provides=, or have "
                        f"'{item.name}' take another one by rebind="
                    )
                found = found[0]
            if nested or found in flows:  # its names may change
                reasons = before[found] = before.get(found) or {flow.LINK_REASONS: set()}
                reasons[flow.LINK_REASONS].add(name)
            else:
                before[found] = None
        return unmet

    def _to_follow(self, provides: Iterable[str]) -> dict[int, list[str]]:
        """Return the members that must follow a new provider, each with the names that require the link."""
        after: dict[int, list[str]] = {}
        for name in provides:
            needers = self._needers.all(name)
            others = self._providers.all(name) if needers else ()
            for needer in needers:
                if {*others}.isdisjoint(self.before[needer]):  # one provider of a name is enough
                    after.setdefault(needer, []).append(name)
        return after

    def _put_in_front(self, number: int, after: dict[int, list[str]], *, explained: bool) -> None:
        """Link a new provider to the members that must follow it.

        :param after: these members, each with the names that require the link
        :param explained: whether the names of both ends tell these
        """
        self._settle(number, after)
        following = self._successors()[number]
        for needer, names in after.items():
            following.append(needer)  # first: it tells `_withdraw` which links to undo
            plain = explained and needer not in self._names
            self.links(needer)[number] = None if plain else {flow.LINK_REASONS: set(names)}

    def _put_in_flow(
        self, number: int, names: flow.Names, met: Collection[str]
    ) -> tuple[Collection[str], Collection[str]]:
        """Store the names of a nested flow, and return the required and provided ones that are yet to be indexed.

        :param met: the required names that have a provider
        """
        self._names[number] = names
        largest = None if self._largest is None else self._names[self._largest]
        if largest is not None and len(largest) >= len(names):
            return joins.without(names.requires.copy(), {*met}), names.provides
        self._largest = number
        self._providers.set_largest(number, names.provides)
        return names.requires, ()

    def _wait(self, number: int, unmet: Collection[str]) -> None:
        """Let a member follow the later providers of some names."""
        names = self._names.get(number) if number == self._largest else None
        if names is not None:
            self._needers.set_largest(number, names.requires)
        else:
            for name in unmet:
                self._needers.add(name, number)

    def _withdraw(self, first: int) -> None:
        for number in reversed(range(first, len(self.items))):
            known = self._names.pop(number, None)
            if known is None and isinstance(self.items[number], flow.Flow):
                continue
            requires, provides = (
                self._names_of(self.items[number]) if known is None else (known.requires, known.provides)
            )
            for name in requires:
                self._needers.drop(name, number)
            for name in provides:
                self._providers.drop(name, number)
        for index in (self._providers, self._needers):
            if index.largest is not None and index.largest[0] >= first:
                index.largest = None
        if self._largest is not None and self._largest >= first:
            self._largest = None
        super()._withdraw(first)

    def link(self, earlier: int, later: int, attributes: dict[str, Any]) -> None:
        """Make a member follow another one.

        :param attributes: those of the link, beside `LINK_MANUAL`
        :raises DependencyFailure: when it would close a cycle; it is not made then
        """
        before = self.links(later)
        known = {}
        if earlier in before:
            known = before[earlier] or self.reasons(earlier, later)
        elif self._ranks[earlier] >= self._ranks[later]:
            self._moved = {}
            self._separate([earlier], [later])
        self._connect(earlier, later, known | MANUAL | attributes if known or attributes else MANUAL)

    # -- names -------------------------------------------------------------------------------------

    def _names_of(self, item: Any) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names that an atom requires of other members, and those that it provides."""
        requires: Sequence[str]
        if issubclass(type(item), atom.Atom):  # a mock of a task says that it is one, and has no signature
            outputs, (_, requires, needed), backward, _, _, _ = item._tfx_signature
            if backward.needed or item.inject or len(requires) != needed:
                requires = atom.wanted_names(item)
            provides = outputs[0][:1] if len(outputs) == 1 else [name for name, _ in outputs]
            if item._tfx_controls is not None and (own := controls.retry_of(item)) is not None:
                requires, provides = map(sorted, flow.under(own, set(requires), set(provides)))
        else:
            # Sorted, as the order of sets differs between processes.
            requires, provides = sorted(item.requires), sorted(item.provides)
        if self._given:
            requires = [name for name in requires if name not in self._given]
        return requires, provides

    def _names_of_flow(self, item: Any) -> flow.Names:
        age = flow.age()
        names = flow.names_of(item)
        if self._age is None:
            self._age = age
        if not names.lasting:
            self._age = -1
        names.requires = joins.without(names.requires, self._given)
        return names

    def reasons(self, earlier: int, later: int) -> dict[str, Any]:
        """Return the attributes of a link between atoms that has been inferred: the names behind it."""
        requires, provides = self._names_of(self.items[later])[0], self._names_of(self.items[earlier])[1]
        return {flow.LINK_REASONS: set(requires).intersection(provides)}

    def hand_out(self, item: Any) -> flow.Names | None:
        """Return the names of a nested flow in sets for the caller; None when they must be collected again.

        The sets of the largest nested flow are those of this object, which gives them away.
        """
        if self._age != flow.age():
            return None
        number = self._numbers.get(item, -1)
        names = self._names.get(number)
        if names is None:
            return None
        if number != self._largest:
            return flow.Names(names.requires.copy(), names.provides.copy(), lasting=True)
        self._names[number] = self._providers.largest = self._needers.largest = None
        return names

    # -- copies ------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which has lists of its own, and collects the names of nested flows again."""
        return {name: copy.copy(value) for name, value in self.__dict__.items()} | {
            "before": [links if isinstance(links, tuple) else {**links} for links in self.before],
            "_after": None,
            "_names": dict.fromkeys(self._names),
            "_age": None if self._age is None else -1,  # the count of another process differs
        }
