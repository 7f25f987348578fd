"""Which boxes and links a flow becomes, and what is folded."""

from __future__ import annotations

import functools
import itertools

import pytest

from taskflowx import exceptions, flow as flows, retry
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.pictures import model, reading
from tests.unit.pictures.sample import Step


def steps(count, prefix="s"):
    return [Step(f"{prefix}{number}") for number in range(count)]


def nested(count, size):
    return linear_flow.Flow("f").add(
        *(unordered_flow.Flow(f"u{number}").add(*steps(size, f"{number}.")) for number in range(count))
    )


def deep(count):
    root = inner = linear_flow.Flow("f")
    for number in range(count):
        within = linear_flow.Flow(f"f{number}")
        inner.add(Step(f"s{number}"), within)
        inner = within
    return root


def label_of(made, source, target):
    box = reading.read(made, 300)
    return next(link.label for link in box.links if (link.source.name, link.target.name) == (source, target))


def test_a_link_has_the_names_of_the_values():
    made = graph_flow.Flow("f").add(
        Step("a", provides=("x", "y", "z", "u")), Step("b", requires=["x"]), Step("c", requires=["x", "y", "z"]),
        Step("d", requires=["u", "x", "y", "z"]),
    )  # fmt: skip
    assert label_of(made, "a", "b") == "x"
    assert label_of(made, "a", "c") == "x, y, z"
    assert label_of(made, "a", "d") == "u, x +2"


def test_a_link_by_hand_has_the_name_of_its_decider():
    def is_wanted(history):
        return True

    class Asked:
        def __call__(self, history):
            return True

    members = steps(5)
    made = graph_flow.Flow("f").add(*members)
    first, *others = members
    made.link(first, others[0])
    made.link(first, others[1], decider=is_wanted)
    made.link(first, others[2], decider=functools.partial(is_wanted), decider_depth="flow")
    made.link(first, others[3], decider=Asked())
    assert [label_of(made, "s0", f"s{number}") for number in range(1, 5)] == [
        "",
        "if is_wanted",
        "if is_wanted (FLOW)",
        "if Asked",
    ]


def test_values_and_decider_are_shown_together():
    a, b = Step("a", provides="x"), Step("b", requires=["x"])
    made = graph_flow.Flow("f").add(a, b)
    made.link(a, b, decider=lambda history: True)
    assert label_of(made, "a", "b") == "x · if True"


def is_wanted(size, least=0):
    return True


@pytest.mark.parametrize(
    ("decider", "text"),
    [
        (lambda size: size < 5, "size < 5"),
        (lambda size: (size < 5 or size > 7) and not (size % 2), "(size < 5 or size > 7) and not (size % 2)"),
        (lambda size: "é" in (size.name), '"é" in (size.name)'),
        (lambda size: size in [n for n in range(9) if (n or size)], "size in [n for n in range(9) if (n or size)]"),
        (lambda size: max(size, key=lambda one: -one) > 3, "max(size, key=lambda one: -one) > 3"),
        (
            lambda size, *, weight=1: (
                size
                < weight
            ),
            "lambda size, weight: …",
        ),
        (eval("lambda size: size"), "lambda size: …"),  # noqa: S307 - its line is in no file
        (is_wanted, "is_wanted"),
        (functools.partial(is_wanted, least=3), "is_wanted(least=3)"),
    ],
)  # fmt: skip
def test_a_lambda_is_shown_by_what_it_returns(decider, text):
    a, b = steps(2)
    made = graph_flow.Flow("f").add(a, b)
    made.link(a, b, when=decider)
    (link,) = reading.read(made, 300).links
    assert list(link.deciders.values()) == [text]


def test_a_long_condition_is_cut_at_its_link_and_whole_in_its_tip():
    a, b = Step("a", provides="x"), Step("b")
    made = graph_flow.Flow("f").add(a, b)
    made.link(a, b, when=lambda x: x in ("a long condition", "that no picture", "has room for", "at a link"))
    (link,) = reading.read(made, 300).links
    assert link.label.startswith('if x in ("a long')
    assert "…" in link.label
    assert next(iter(link.deciders.values())).endswith('"at a link")')


@pytest.mark.parametrize(
    ("controller", "title"),
    [
        (retry.Times(3), "Times(attempts=3)"),
        (retry.Times(3, revert_all=True), "Times(attempts=3, revert_all=True)"),
        (retry.ForEach("ab"), "ForEach(values=['a', 'b'])"),
        (retry.ForEach(range(9)), "ForEach(values=[0, 1, 2, +6])"),
        (retry.ParameterizedForEach(rebind={"values": "hosts"}), "ParameterizedForEach"),
        (retry.AlwaysRevert(), "AlwaysRevert"),
    ],
)
def test_a_retry_heads_its_flow(controller, title):
    box = reading.read(linear_flow.Flow("f", controller).add(Step("a")), 300)
    assert (box.head.kind, box.head.name, box.head.lines) == (model.RETRY, "f_retry", [title])


def test_a_value_that_cannot_be_shown_is_named_by_its_class():
    class Odd:
        def __repr__(self):
            raise ValueError("Woot!")

    box = reading.read(linear_flow.Flow("f", retry.ForEach([Odd(), "x" * 99])).add(Step("a")), 300)
    assert box.head.lines == ["ForEach(values=[<Odd>, 'xxxxxxxxxxxxxxxxxxxxxx…])"]


def test_flows_are_folded_beyond_a_number_of_atoms():
    made = nested(4, 25)
    assert [box.kind for box in reading.read(made, 100).members] == [model.UNORDERED] * 4
    folded = reading.read(made, 99)
    assert [(box.kind, box.lines) for box in folded.members[:1]] == [(model.FOLDED, ["u0", "unordered · 25 tasks"])]
    assert len(folded.links) == 3


def test_one_level_after_the_other_is_folded():
    made = linear_flow.Flow("f").add(nested(4, 25), Step("a"))
    assert [box.kind for box in reading.read(made, 50).members[0].members] == [model.FOLDED] * 4
    assert reading.read(made, 300).members[0].members[0].members[0].name == "0.0"


def test_a_large_flow_is_shown_by_its_ends():
    box = reading.read(linear_flow.Flow("f").add(*steps(10_000)), 30)
    assert [member.name for member in box.members] == ["s0", "s1", "s2", "… 9,996 more …", "s9999"]
    assert [(link.source.name, link.target.name) for link in box.links] == [
        *itertools.pairwise(member.name for member in box.members)
    ]


@pytest.mark.parametrize("pattern", [linear_flow, unordered_flow, graph_flow])
def test_the_first_flow_that_is_too_large_still_shows_many_members(pattern):
    assert len(reading.read(pattern.Flow("f").add(*steps(300)), 300).members) == 300
    shown = [member.name for member in reading.read(pattern.Flow("f").add(*steps(301)), 300).members]
    assert shown == [*(f"s{n}" for n in range(20)), "… 271 more …", *(f"s{n}" for n in range(291, 301))]


def test_a_large_graph_flow_keeps_its_links():
    made = graph_flow.Flow("f").add(
        Step("s0", provides="v0"), *(Step(f"s{n}", provides=f"v{n}", requires=[f"v{n - 1}"]) for n in range(1, 1000))
    )
    box = reading.read(made, 30)
    assert [(link.source.name, link.target.name, link.label) for link in box.links] == [
        ("s0", "s1", "v0"),
        ("s1", "s2", "v1"),
        ("s2", "… 996 more …", "v2"),
        ("… 996 more …", "s999", "v998"),
    ]


def test_members_that_ask_for_attention_are_shown():
    members = steps(10_000)
    failing = {members[40]: "FAILURE", members[41]: "RUNNING"}
    box = reading.read(linear_flow.Flow("f").add(*members), 30, lambda atom: model.Status(failing.get(atom, "SUCCESS")))
    assert [member.name for member in box.members] == [
        "s0", "s1", "s2", "… 37 more …", "s40", "s41", "… 9,957 more …", "s9999",
    ]  # fmt: skip
    assert box.members[3].lines == ["… 37 more …", "37 SUCCESS"]


def test_a_folded_flow_counts_its_tasks_by_state():
    made = nested(1, 40)
    failed = {"0.3", "0.7"}
    folded = reading.read(made, 10, lambda atom: model.Status("FAILURE" if atom.name in failed else "SUCCESS")).members[
        0
    ]
    assert folded.lines == ["u0", "unordered · 40 tasks", "2 FAILURE", "38 SUCCESS"]
    assert folded.tip == "u0\nunordered\n40 tasks: 2 FAILURE, 38 SUCCESS"
    assert folded.state == "FAILURE"


def test_what_is_nested_too_deeply_is_folded():
    boxes = model.outermost_first(reading.read(deep(5000), 300))
    assert len(boxes) < 30
    assert boxes[-1].kind == model.FOLDED
    assert boxes[-1].lines[1] == f"linear · {5000 - reading.DEEPEST:,} tasks"
    assert len(model.outermost_first(reading.read(deep(5000), 10**6))) == len(boxes)


def test_the_cost_is_linear(counted_lines):
    def cost(count):
        made = nested(count // 100, 100)
        return counted_lines(lambda: made.picture().svg)

    assert cost(20_000) < 2.5 * cost(10_000)


@pytest.fixture
def counted_lines():
    """Return a function that counts the calls that another one makes."""
    import sys

    def count(function):
        calls = itertools.count()
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, arg: next(calls))
        try:
            function()
        finally:
            sys.setprofile(before)
        return next(calls)

    return count


def test_a_flow_that_contains_itself_is_refused():
    inner = linear_flow.Flow("inner")
    outer = linear_flow.Flow("outer").add(inner)
    inner.add(outer)
    with pytest.raises(exceptions.DependencyFailure, match="contains itself"):
        outer.picture()


def test_an_empty_flow_says_so():
    assert reading.read(linear_flow.Flow("f"), 300).lines == ["f", "linear · empty"]


def test_a_targeted_flow_shows_what_runs():
    wanted, other = Step("a"), Step("b")
    made = graph_flow.TargetedFlow("f").add(wanted, other)
    made.set_target(wanted)
    assert [box.name for box in reading.read(made, 300).members] == ["a"]


def test_a_flow_with_an_order_of_its_own_is_a_graph():
    class Backwards(linear_flow.Flow):
        def iter_links(self):
            return ((v, u, {}) for u, v, _ in super().iter_links())

    box = reading.read(Backwards("f").add(*steps(2)), 300)
    assert (box.kind, [(link.source.name, link.target.name) for link in box.links]) == (model.GRAPH, [("s1", "s0")])


def test_a_flow_is_not_changed_by_its_picture():
    made = graph_flow.Flow("f").add(nested(2, 2), *steps(3))
    before = list(made), list(made.iter_links()), made.provides, flows.age()
    made.picture()
    assert (list(made), list(made.iter_links()), made.provides, flows.age()) == before
