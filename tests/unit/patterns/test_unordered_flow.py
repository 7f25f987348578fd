"""Unordered flows: members do not depend on each other."""

from __future__ import annotations

from taskflowx import retry
from taskflowx.patterns import linear_flow, unordered_flow
from tests.support.flows import work


def test_members_are_not_linked():
    made = unordered_flow.Flow("f", retry.Times(1)).add(work("a", provides="x"), work("b", "x"))
    assert list(made.iter_links()) == []
    assert not hasattr(made, "link")


def test_members_come_in_the_order_in_which_they_were_added():
    made = unordered_flow.Flow("f").add(work("c"), work("a")).add(work("b"))
    assert [member.name for member in made] == ["c", "a", "b"]


def test_no_member_sees_what_another_one_provides():
    a, b = work("a", provides="x"), work("b", "x", "y")
    for made in (unordered_flow.Flow("f").add(a, b), unordered_flow.Flow("f").add(b, a)):
        assert (made.requires, made.provides) == ({"x"}, {"x", "y"})


def test_members_see_what_the_retry_provides():
    made = unordered_flow.Flow("f", retry.Times(2, provides="x")).add(work("a", "x"), work("b", ("x", "z")))
    assert made.requires == {"z"}


def test_what_follows_an_unordered_flow_sees_all_of_it():
    inner = unordered_flow.Flow("in").add(work("a", provides="x"), work("b", provides="y"))
    assert linear_flow.Flow("f").add(inner, work("c", ("x", "y"))).requires == frozenset()
