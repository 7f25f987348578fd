"""Linear flows: members run in the order in which they were added."""

from __future__ import annotations

from taskflowx import flow, retry
from taskflowx.patterns import linear_flow, unordered_flow
from tests.support.flows import work


def links(made):
    return [(u.name, v.name, attributes) for u, v, attributes in made.iter_links()]


def test_members_keep_the_order_in_which_they_were_added():
    made = linear_flow.Flow("f").add(work("c"), work("a")).add(work("b"))
    assert [member.name for member in made] == ["c", "a", "b"]


def test_each_member_is_linked_to_the_next():
    made = linear_flow.Flow("f", retry.Times(1)).add(work("a"), linear_flow.Flow("in"), work("b"))
    assert links(made) == [("a", "in", {flow.LINK_INVARIANT: True}), ("in", "b", {flow.LINK_INVARIANT: True})]


def test_one_member_or_none_has_no_links():
    assert links(linear_flow.Flow("f")) == links(linear_flow.Flow("f").add(work("a"))) == []


def test_attributes_of_links_are_not_shared():
    made = linear_flow.Flow("f").add(work("a"), work("b"), work("c"))
    next(iter(made.iter_links()))[2]["changed"] = True
    assert all("changed" not in attributes for _, _, attributes in made.iter_links())


def test_only_what_comes_before_provides():
    a, b = work("a", provides="x"), work("b", "x")
    assert linear_flow.Flow("f").add(a, b).requires == frozenset()
    assert linear_flow.Flow("f").add(b, a).requires == {"x"}


def test_a_name_that_is_needed_and_provided_in_turn():
    first = linear_flow.Flow("f").add(work("p", provides="v"), work("u", "v", "v"))
    assert first.requires == frozenset()
    second = linear_flow.Flow("f").add(work("u", "v", "v"), work("p", provides="v"))
    assert second.requires == {"v"}


def test_what_a_nested_flow_provides_is_there_for_what_follows():
    inner = unordered_flow.Flow("in", retry.Times(2, provides="r")).add(work("a", provides="x"))
    made = linear_flow.Flow("f").add(inner, work("b", ("x", "r")))
    assert made.requires == frozenset()
    assert linear_flow.Flow("f").add(work("b", ("x", "r")), inner).requires == {"x", "r"}
