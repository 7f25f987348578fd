"""An immutable set that keeps the insertion order of its members: the type of `Atom.provides` and its like in TaskFlow.

Atoms describe with it what they require and provide. As it is immutable it can be hashed, and shared by all atoms of a
class. What must stay true: it equals any set that has the same members, in whatever order, and then hashes alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Set as AbstractSet
from typing import Any, Self, TypeVar

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class OrderedSet(AbstractSet[_T_co], Hashable):
    """An immutable set in the order in which its members were first seen."""

    __slots__ = ("_items",)

    def __init__(self, iterable: Iterable[_T_co] | None = None) -> None:
        # Only the keys are used: a dict is the one built-in type that keeps the order of a set.
        self._items: dict[_T_co, None] = {} if iterable is None else dict.fromkeys(iterable)

    def __contains__(self, value: object) -> bool:
        return value in self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[_T_co]:
        return iter(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._items)!r})"

    def copy(self) -> Self:
        """Return another set with the same members in the same order."""
        return type(self)(self._items)

    def intersection(self, *sets: Iterable[object]) -> Self:
        """Return the members that are in each of the other sets too, in this set's order."""
        others = [frozenset(other) for other in sets]
        return type(self)(value for value in self._items if all(value in other for other in others))

    def issuperset(self, other: Iterable[object]) -> bool:
        """Tell whether this set has every member of the other one."""
        return all(value in self._items for value in other)

    def issubset(self, other: Iterable[object]) -> bool:
        """Tell whether the other set has every member of this one."""
        members = frozenset(other)
        return all(value in members for value in self._items)

    def difference(self, *sets: Iterable[object]) -> Self:
        """Return the members that are in none of the other sets, in this set's order."""
        others = frozenset().union(*sets)
        return type(self)(value for value in self._items if value not in others)

    def union(self, *sets: Iterable[_T]) -> OrderedSet[_T_co | _T]:
        """Return this set's members and then those of the others, in the order in which they come."""
        merged: dict[_T_co | _T, None] = dict.fromkeys(self._items)
        for other in sets:
            merged.update(dict.fromkeys(other))
        same: type[OrderedSet[Any]] = type(self)
        return same(merged)
