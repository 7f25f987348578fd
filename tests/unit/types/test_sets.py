"""OrderedSet: keeps order, compares and hashes like a set, never changes."""

from __future__ import annotations

import collections.abc
import copy
import pickle

import pytest
from hypothesis import given, strategies as st

from taskflowx.types.sets import OrderedSet

MEMBERS = st.lists(st.integers(0, 12))


def test_members_come_in_the_order_in_which_they_were_first_seen():
    assert list(OrderedSet(["b", "a", "b", "c", "a"])) == ["b", "a", "c"]


def test_without_members_it_is_empty():
    assert list(OrderedSet()) == list(OrderedSet(None)) == list(OrderedSet([])) == []
    assert len(OrderedSet()) == 0


def test_length_and_membership():
    names = OrderedSet("bab")
    assert len(names) == 2
    assert "a" in names
    assert "z" not in names


def test_repr_shows_the_order():
    assert repr(OrderedSet(["b", "a"])) == "OrderedSet(['b', 'a'])"
    assert repr(OrderedSet()) == "OrderedSet([])"


@given(MEMBERS)
def test_it_equals_and_hashes_like_any_set_of_the_same_members(members):
    mine = OrderedSet(members)
    for other in (OrderedSet(reversed(members)), set(members), frozenset(members)):
        assert mine == other
        assert other == mine
    assert hash(mine) == hash(OrderedSet(reversed(members))) == hash(frozenset(members))


def test_it_does_not_equal_what_is_no_set():
    assert OrderedSet("ab") != ["a", "b"]
    assert OrderedSet("ab") != ("a", "b")
    assert OrderedSet("ab") != OrderedSet("abc")


def test_it_is_a_hashable_set_and_cannot_be_changed():
    names = OrderedSet("ab")
    assert isinstance(names, collections.abc.Set)
    assert isinstance(names, collections.abc.Hashable)
    assert not isinstance(names, collections.abc.MutableSet)
    assert not hasattr(names, "add")
    with pytest.raises(AttributeError):
        names.other = 1
    with pytest.raises(TypeError):
        names[0] = "z"


def test_a_member_must_be_hashable():
    with pytest.raises(TypeError, match="unhashable"):
        OrderedSet([[1]])


def test_what_is_no_iterable_is_refused():
    with pytest.raises(TypeError, match="not iterable"):
        OrderedSet(3)


@given(MEMBERS, MEMBERS, MEMBERS)
def test_methods_give_the_members_that_a_set_gives_in_this_sets_order(first, second, third):
    mine, plain = OrderedSet(first), set(first)
    position = {value: n for n, value in enumerate([*first, *second, *third][::-1])}
    for name in ("union", "intersection", "difference"):
        for others in ((), (second,), (second, third)):
            result = getattr(mine, name)(*others)
            assert isinstance(result, OrderedSet)
            assert result == getattr(plain, name)(*others)
            assert list(result) == sorted(result, key=position.get, reverse=True)


@given(MEMBERS, MEMBERS)
def test_operators_give_the_members_that_a_set_gives(first, second):
    mine, other = OrderedSet(first), OrderedSet(second)
    assert mine | other == set(first) | set(second)
    assert mine & other == set(first) & set(second)
    assert mine - other == set(first) - set(second)
    assert mine ^ other == set(first) ^ set(second)
    assert isinstance(mine | other, OrderedSet)
    assert isinstance(set(second) | mine, OrderedSet)
    assert (mine <= other) == (set(first) <= set(second))
    assert mine.isdisjoint(other) == set(first).isdisjoint(second)


def test_a_union_by_operator_keeps_the_order():
    assert list(OrderedSet("ba") | OrderedSet("zb")) == ["b", "a", "z"]


@given(MEMBERS, MEMBERS)
def test_subset_and_superset_take_any_iterable(first, second):
    mine = OrderedSet(first)
    for other in (second, set(second), OrderedSet(second)):
        assert mine.issubset(other) == set(first).issubset(second)
        assert mine.issuperset(other) == set(first).issuperset(second)
    assert mine.issubset(iter(second)) == set(first).issubset(second)
    assert mine.issuperset(iter(second)) == set(first).issuperset(second)


@pytest.mark.parametrize(
    "duplicate",
    [OrderedSet.copy, copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))],
    ids=["method", "copy", "deepcopy", "pickle"],
)
def test_a_copy_has_the_same_members_in_the_same_order(duplicate):
    names = OrderedSet(["b", "a", "c"])
    other = duplicate(names)
    assert type(other) is OrderedSet
    assert list(other) == ["b", "a", "c"]
    assert other == names


def test_what_a_subclass_gives_is_of_the_subclass():
    class Names(OrderedSet):
        pass

    names = Names("ab")
    made = [names.copy(), names.union("c"), names.intersection("a"), names.difference("a"), names | {"c"}]
    assert [(type(one), "".join(one)) for one in made] == [(Names, text) for text in ("ab", "abc", "a", "b", "abc")]
