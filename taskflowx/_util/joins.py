"""Sets of names, joined and compared at the cost of the smaller one: flows nest, and each level has all names."""

from __future__ import annotations

from collections.abc import Iterable, Set as AbstractSet


def merged(one: set[str], other: set[str]) -> set[str]:
    """Return the union of two sets, which are consumed; costs the size of the smaller one."""
    if len(one) < len(other):
        one, other = other, one
    one |= other
    return one


def union(sets: Iterable[set[str]]) -> set[str]:
    """Return the union of sets, which are consumed; the largest one costs nothing."""
    found: set[str] = set()
    for names in sets:
        found = merged(found, names)
    return found


def without(names: set[str], others: AbstractSet[str]) -> set[str]:
    """Return a set less the names in another one; it is consumed, and costs the size of the smaller one."""
    if len(others) > len(names):
        return {name for name in names if name not in others}
    names -= others
    return names


def common(one: AbstractSet[str], other: AbstractSet[str]) -> set[str]:
    """Return the intersection of two sets; costs the size of the smaller one."""
    if len(one) > len(other):
        one, other = other, one
    return {name for name in one if name in other}
