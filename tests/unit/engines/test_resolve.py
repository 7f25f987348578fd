"""What a failure turns round, and what deciders leave out: decisions, without a run."""

from __future__ import annotations

import itertools

import pytest

from taskflowx import deciders, retry, states
from taskflowx.engines import resolve, vetoes
from taskflowx.engines.compile import compile_flow
from taskflowx.patterns import graph_flow, unordered_flow
from taskflowx.persistence import models
from tests.support.flows import Plain as Work, linear

Depth = deciders.Depth


def nested(depth):
    """[before, r1: [t1, r2: [t2, ...], after2], after1]; the names say the level."""
    flow = None
    for level in range(depth, 0, -1):
        members = [Work(f"t{level}"), *([flow] if flow is not None else []), Work(f"after{level}")]
        flow = linear(f"f{level}", *members, controller=retry.Times(1, f"r{level}"))
    return compile_flow(linear("top", Work("before"), *([flow] if flow is not None else []), Work("last")))


class Controllers:
    """Answers for the retries by name, and notes who was asked about what."""

    def __init__(self, plan, **answers):
        self.plan = plan
        self.answers = answers
        self.asked = []

    def __call__(self, r, failed):
        name = self.plan.atoms[r].name
        self.asked.append((name, failed))
        return self.answers[name]


def decide(plan, failed, *, defer_reverts=False, **answers):
    ask = Controllers(plan, **answers)
    found = resolve.resolve(plan, plan.names[failed], ask, defer_reverts=defer_reverts)
    return found, ask.asked


def everything(plan):
    return (0, len(plan), -1)


def region(plan, name, *, restart=False):
    r = plan.names[name]
    return (*plan.region(r), r if restart else -1)


# -- controllers -----------------------------------------------------------------------------------


def test_without_a_controller_everything_turns_round():
    plan = nested(0)
    assert decide(plan, "last") == (everything(plan), [])


def test_a_failure_outside_of_a_retrys_flow_does_not_ask_it():
    plan = nested(1)
    assert decide(plan, "before") == (everything(plan), [])


def test_retry_turns_its_region_round_and_runs_it_again():
    plan = nested(1)
    found, asked = decide(plan, "t1", r1=retry.RETRY)
    assert found == region(plan, "r1", restart=True)
    assert asked == [("r1", "t1")]


def test_revert_without_a_parent_turns_only_its_region_round():
    plan = nested(1)
    assert decide(plan, "t1", r1=retry.REVERT)[0] == region(plan, "r1")


def test_revert_all_turns_everything_round():
    plan = nested(1)
    assert decide(plan, "t1", r1=retry.REVERT_ALL)[0] == everything(plan)


def test_a_decision_may_be_given_by_its_name():
    plan = nested(1)
    assert decide(plan, "t1", r1="RETRY")[0] == region(plan, "r1", restart=True)


@pytest.mark.parametrize("inner", [retry.RETRY, retry.REVERT_ALL])
def test_the_parent_is_not_asked_when_the_nearest_controller_has_decided(inner):
    assert decide(nested(2), "t2", r2=inner)[1] == [("r2", "t2")]


def test_on_revert_the_parent_is_asked_about_the_failure_of_the_inner_retry():
    plan = nested(2)
    found, asked = decide(plan, "t2", r2=retry.REVERT, r1=retry.RETRY)
    assert asked == [("r2", "t2"), ("r1", "r2")]
    assert found == region(plan, "r1", restart=True)


def test_on_revert_the_parents_revert_all_is_done():
    plan = nested(2)
    assert decide(plan, "t2", r2=retry.REVERT, r1=retry.REVERT_ALL)[0] == everything(plan)


def test_where_a_retry_has_failed_instead_of_deciding_it_is_undone_too():
    plan = nested(3)
    assert decide(nested(1), "t1", r1=resolve.FAILED)[0] == everything(nested(1))
    for inner in (resolve.FAILED, retry.REVERT):
        found, asked = decide(plan, "t3", r3=inner, r2=resolve.FAILED, r1=retry.REVERT)
        assert asked == [("r3", "t3"), ("r2", "r3"), ("r1", "r2")]
        assert found == region(plan, "r1")
    assert decide(plan, "t3", r3=retry.REVERT, r2=retry.REVERT, r1=resolve.FAILED)[0] == everything(plan)
    assert decide(plan, "t3", r3=resolve.FAILED, r2=retry.RETRY)[0] == region(plan, "r2", restart=True)


def test_on_revert_of_all_around_it_only_the_innermost_region_turns_round():
    plan = nested(3)
    found, asked = decide(plan, "t3", r3=retry.REVERT, r2=retry.REVERT, r1=retry.REVERT)
    assert found == region(plan, "r3")
    assert [name for name, _ in asked] == ["r3", "r2", "r1"]


def test_a_retry_that_fails_itself_is_not_asked_but_its_parent_is():
    plan = nested(2)
    found, asked = decide(plan, "r2", r1=retry.RETRY)
    assert (found, asked) == (region(plan, "r1", restart=True), [("r1", "r2")])


def test_a_retry_that_fails_itself_without_a_parent_turns_everything_round():
    plan = nested(1)
    assert decide(plan, "r1") == (everything(plan), [])


def test_a_controller_that_is_not_to_be_asked_is_passed():
    plan = nested(2)
    found, asked = decide(plan, "t2", r2=None, r1=retry.REVERT)
    assert (found, asked) == (region(plan, "r1"), [("r2", "t2"), ("r1", "t2")])


def test_an_answer_that_is_no_decision_is_refused_with_the_name_of_the_retry():
    with pytest.raises(TypeError, match=r"'r1' decided on 'PERHAPS', expected one of"):
        decide(nested(1), "t1", r1="PERHAPS")


# -- defer_reverts ---------------------------------------------------------------------------------


def test_deferred_revert_without_a_parent_turns_everything_round():
    plan = nested(1)
    assert decide(plan, "t1", r1=retry.REVERT, defer_reverts=True)[0] == everything(plan)


def test_deferred_revert_leaves_it_to_the_parent():
    plan = nested(2)
    found = decide(plan, "t2", r2=retry.REVERT, r1=retry.RETRY, defer_reverts=True)[0]
    assert found == region(plan, "r1", restart=True)
    found = decide(plan, "t2", r2=retry.REVERT, r1=retry.REVERT, defer_reverts=True)[0]
    assert found == everything(plan)


@pytest.mark.parametrize("decision", [retry.RETRY, retry.REVERT_ALL])
def test_defer_reverts_changes_nothing_else(decision):
    plan = nested(1)
    assert decide(plan, "t1", r1=decision, defer_reverts=True) == decide(plan, "t1", r1=decision)


# -- deciders --------------------------------------------------------------------------------------


class Link:
    """A decider that answers as told and keeps what it was shown."""

    def __init__(self, answer):
        self.answer = answer
        self.seen = []

    def __call__(self, history):
        self.seen.append(history)
        return self.answer


def voting(*links, ignored=()):
    """Ask the deciders of `(answer, depth)` links from u0, u1, ... to v."""
    v = Work("v")
    flow = graph_flow.Flow("g").add(v)
    asked = []
    for k, (answer, depth) in enumerate(links):
        u = Work(f"u{k}")
        asked.append(Link(answer))
        flow.add(u).link(u, v, decider=asked[-1], decider_depth=depth)
    plan = compile_flow(flow)
    details = []
    for atom in plan.atoms:
        detail = models.TaskDetail(atom.name)
        detail.state = states.IGNORE if atom.name in ignored else states.SUCCESS
        detail.results = None if atom.name in ignored else f"result of {atom.name}"
        details.append(detail)
    return resolve.veto(plan, plan.names["v"], details), [link.seen for link in asked]


def test_when_all_deciders_agree_there_is_no_refusal():
    assert voting((True, None), (1, "flow"))[0] is None


def test_a_refusal_reaches_as_far_as_its_depth_and_all_by_default():
    assert voting((False, None))[0] == Depth.ALL
    assert voting((None, "atom"))[0] == Depth.ATOM


def test_of_several_refusals_the_widest_counts():
    assert voting((False, "atom"), (False, "flow"), (False, "neighbors"))[0] == Depth.FLOW
    assert voting((False, "neighbors"), (False, "atom"))[0] == Depth.NEIGHBORS


def test_the_depth_of_a_decider_that_agrees_does_not_count():
    assert voting((True, "all"), (False, "atom"))[0] == Depth.ATOM


def test_each_decider_sees_the_results_of_all_decided_predecessors():
    expected = {"u0": "result of u0", "u1": "result of u1"}
    assert voting((False, None), (True, None))[1] == [[expected], [expected]]


def test_a_decider_after_an_ignored_atom_is_not_asked_and_its_atom_is_not_shown():
    found, seen = voting((False, None), (True, None), ignored=("u0",))
    assert found is None
    assert seen == [[], [{"u1": "result of u1"}]]


def test_when_all_before_are_ignored_nobody_refuses():
    assert voting((False, None), ignored=("u0",)) == (None, [[]])


def test_a_flow_before_contributes_nothing_to_the_history():
    v, link = Work("v"), Link(False)
    before = linear("before", Work("a"))
    plan = compile_flow(graph_flow.Flow("g").add(before, v).link(before, v, decider=link))
    details = [models.TaskDetail("a"), models.TaskDetail("v")]
    details[0].state = states.SUCCESS
    assert resolve.veto(plan, 1, details) == Depth.ALL
    assert link.seen == [{}]


# -- how far it reaches ----------------------------------------------------------------------------


@pytest.fixture
def wide():
    """In `inner`: a -> b -> c, b -> deep [d -> e], and x beside; `after` follows inner in the outer flow."""
    a, b, c, x = (Work(name) for name in "abcx")
    deep = linear("deep", Work("d"), Work("e"))
    inner = graph_flow.Flow("inner").add(a, b, c, x, deep)
    inner.link(a, b).link(b, c).link(b, deep)
    return compile_flow(linear("outer", inner, Work("after")))


def left_out(plan, name, depth):
    found, _ = vetoes.Vetoes(plan).skipped_by(plan.names[name], depth)
    assert found[0] == plan.names[name]
    assert found == sorted(found)
    return {plan.atoms[i].name for i in found}


def test_depth_atom_leaves_out_the_atom_alone(wide):
    assert left_out(wide, "b", Depth.ATOM) == {"b"}


def test_depth_neighbors_leaves_out_its_direct_successors_in_its_flow(wide):
    assert left_out(wide, "a", Depth.NEIGHBORS) == {"a", "b"}
    assert left_out(wide, "b", Depth.NEIGHBORS) == {"b", "c"}


def test_depth_flow_leaves_out_what_follows_in_its_flow_less_nested_flows(wide):
    assert left_out(wide, "a", Depth.FLOW) == {"a", "b", "c"}
    assert left_out(wide, "d", Depth.FLOW) == {"d", "e"}


def test_depth_all_leaves_out_all_that_follows_and_nothing_beside_it(wide):
    assert left_out(wide, "a", Depth.ALL) == {"a", "b", "c", "d", "e", "after"}
    assert left_out(wide, "c", Depth.ALL) == {"c", "after"}
    assert left_out(wide, "x", Depth.ALL) == {"x", "after"}


def test_gates_are_passed_and_not_listed():
    first = unordered_flow.Flow("u").add(Work("a"), Work("b"))
    second = unordered_flow.Flow("v").add(Work("c"), Work("d"))
    plan = compile_flow(linear("f", first, second))
    assert None in plan.atoms
    assert left_out(plan, "a", Depth.ALL) == {"a", "c", "d"}
    assert left_out(plan, "a", Depth.NEIGHBORS) == {"a"}


def test_what_follows_many_refused_branches_is_walked_over_once():
    branches = [Work(f"b{n}") for n in range(50)]
    tail = [Work(f"t{n}") for n in range(50)]
    flow = graph_flow.Flow("f").add(*branches, *tail)
    for branch in branches:
        flow.link(branch, tail[0])
    for one, other in itertools.pairwise(tail):
        flow.link(one, other)
    plan = compile_flow(flow)
    found = vetoes.Vetoes(plan)
    sizes, all_left_out = [], set()
    for branch in branches:
        atoms, passed = found.skipped_by(plan.names[branch.name], Depth.ALL)
        found.note(plan.names[branch.name], Depth.ALL, passed)
        sizes.append(len(atoms))
        all_left_out.update(atoms)
    assert sizes == [51] + [1] * 49
    assert len(all_left_out) == 100


def test_a_refusal_that_was_not_noted_is_found_whole_again(wide):
    found = vetoes.Vetoes(wide)
    first, _ = found.skipped_by(wide.names["a"], Depth.ALL)
    assert found.skipped_by(wide.names["a"], Depth.ALL)[0] == first
