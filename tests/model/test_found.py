"""Flows in which random ones have shown defects, cut down to what it takes; each is run in many orders."""

from __future__ import annotations

import random

import pytest

from taskflowx import states
from tests.model import drive, specs
from tests.model.checks import assert_ends_as_predicted
from tests.model.specs import ALWAYS, CUSTOM, GRAPH, LINEAR, TIMES, UNORDERED, Again, Group, Job, Link, Spec

ORDERS = range(40)


@pytest.mark.parametrize("order", ORDERS)
def test_what_follows_a_region_waits_for_all_of_it_when_it_runs_again(order):
    inner = Group(UNORDERED, "inner", (Job("a"), Job("b", fails=(("r", 1),))), Again("r", TIMES, 2))
    assert_ends_as_predicted(Spec(Group(LINEAR, "outer", (inner, Job("after")))), order)


@pytest.mark.parametrize("order", ORDERS)
def test_what_follows_a_region_with_gates_and_ignored_atoms_waits_for_all_of_it_too(order):
    wide = Group(UNORDERED, "wide", (Job("a"), Job("b")))
    net = Group(GRAPH, "net", (Job("c"), Job("d"), Job("e")), None, (Link(0, 1, "no", "ATOM"),), (0, 1, 2))
    inner = Group(UNORDERED, "inner", (wide, net, Job("f", fails=(("r", 2),))), Again("r", TIMES, 3))
    after = Group(UNORDERED, "after", (Job("x"), Job("y")))
    assert_ends_as_predicted(Spec(Group(LINEAR, "outer", (inner, after))), order)


@pytest.mark.parametrize("order", ORDERS)
def test_a_retry_that_runs_again_has_no_unmet_predecessors(order):
    inner = Group(LINEAR, "inner", (Job("a", fails=(("r", 1),)),), Again("r", TIMES, 2))
    assert_ends_as_predicted(Spec(Group(LINEAR, "outer", (Job("before"), inner))), order, suspend=0.2)


@pytest.mark.parametrize("depth", ["ATOM", "NEIGHBORS", "FLOW", "ALL"])
def test_a_retry_that_is_left_out_is_not_asked(depth):
    inner = Group(LINEAR, "inner", (Job("a", fails=ALWAYS), Job("b")), Again("r", CUSTOM, decisions=("RETRY",)))
    assert_ends_as_predicted(
        Spec(Group(GRAPH, "outer", (Job("u"), inner), None, (Link(0, 1, "no", depth),), (0, 1))), 0
    )


def test_an_atom_is_left_out_once_though_two_deciders_refuse_it():
    links = (Link(0, 2, "no", "NEIGHBORS"), Link(1, 3, "no", "NEIGHBORS"), Link(2, 4), Link(3, 4))
    members = tuple(Job(name) for name in "uvabz")
    assert_ends_as_predicted(Spec(Group(GRAPH, "flow", members, None, links, (0, 1, 2, 3, 4))), 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("let_in", [True, False])
def test_what_a_refusal_left_out_after_a_region_is_let_in_when_the_region_runs_again(order, let_in):
    members = (Job("a", ("s",)), Job("b", fails=(("r", 1),)), Job("c"))
    region = Group(GRAPH, "region", members, Again("r", TIMES, 2), (Link(0, 2, "odd"),), (0, 1, 2))
    root = Group(LINEAR, "flow", (region, Job("y"), Job("z")))
    if not let_in:  # another refusal stands
        root = Group(GRAPH, "flow", (region, Job("u"), Job("x"), Job("z")), None, _REFUSED, (0, 1, 2, 3))
    driver = assert_ends_as_predicted(Spec(root, {"s": _refused_at_first()}), order, suspend=0.2)
    assert driver.engine.storage.get_atom_state("z") == (states.SUCCESS if let_in else states.IGNORE)


_REFUSED = (Link(0, 3), Link(1, 2, "no"), Link(2, 3))


def _refused_at_first() -> int:
    """Return an input for `a` with which the decider after it refuses at the first attempt, and not at the second."""

    def verdict(n: int, attempt: int) -> bool:
        return specs.verdict_of("odd", {"a": specs.result_of(Job("a"), {"s": n, "r": attempt})})

    return next(n for n in range(100) if not verdict(n, 1) and verdict(n, 2))


@pytest.mark.parametrize("order", ORDERS)
def test_regions_side_by_side_stay_apart_when_a_run_goes_on(order):
    left = Group(LINEAR, "left", (Job("a"), Job("b", fails=(("r", 2),))), Again("r", TIMES, 3))
    right = Group(LINEAR, "right", (Job("c"), Job("d", fails=(("s", 2),))), Again("s", TIMES, 3))
    assert_ends_as_predicted(Spec(Group(UNORDERED, "flow", (left, right))), order, suspend=0.4)


@pytest.mark.parametrize("order", ORDERS)
def test_what_an_interrupt_cut_off_is_undone_when_something_else_had_failed(order):
    members = (Job("a", fails=ALWAYS), Job("b", interrupted=1), Job("c"))
    assert_ends_as_predicted(Spec(Group(UNORDERED, "flow", members)), order)


@pytest.mark.parametrize("order", ORDERS)
def test_calls_taken_back_in_a_region_that_turns_round_release_what_is_before_them(order):
    row = Group(LINEAR, "row", (Job("a"), Group(UNORDERED, "wide", (Job("b"), Job("c"), Job("d", fails=ALWAYS)))))
    assert_ends_as_predicted(
        Spec(Group(UNORDERED, "flow", (row, Job("e", fails=ALWAYS)), Again("r", TIMES, 2))), order, suspend=0.3
    )


@pytest.mark.parametrize("order", ORDERS)
def test_what_was_cut_off_once_is_undone_though_it_was_taken_back_the_next_time(order):
    members = (Job("a", interrupted=1), Job("b", fails=ALWAYS), Job("c", interrupted=1), Job("d", interrupted=1))
    assert_ends_as_predicted(
        Spec(Group(LINEAR, "flow", (Job("first"), Group(UNORDERED, "wide", members)))), order, suspend=0.3
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("suspend", [0.0, 0.3])
def test_a_retry_does_not_run_again_over_what_could_not_be_undone(order, suspend):
    inner = Group(LINEAR, "inner", (Job("a", stuck=1), Job("b", fails=(("r", 1),))), Again("r", TIMES, 2))
    assert_ends_as_predicted(Spec(Group(UNORDERED, "flow", (inner, Job("c"))), go_on=True), order, suspend=suspend)


@pytest.mark.parametrize("order", ORDERS)
def test_reverts_that_failed_one_after_another_are_all_called_again(order):
    members = (Job("a", stuck=2), Job("b"), Job("c", stuck=2), Job("d", fails=ALWAYS))
    assert_ends_as_predicted(Spec(Group(LINEAR, "flow", members), go_on=True), order, suspend=0.1, crash=0.1)


def test_a_second_run_calls_every_revert_that_failed():
    members = (Job("a", stuck=1), Job("b"), Job("c", stuck=1), Job("d", fails=ALWAYS))
    driver = assert_ends_as_predicted(Spec(Group(LINEAR, "flow", members), go_on=True), 0)
    assert driver.legs == 2


@pytest.mark.parametrize("order", ORDERS)
def test_a_retry_whose_next_attempt_was_taken_back_is_undone_like_any_that_ran(order):
    inner = Group(LINEAR, "inner", (Job("a", fails=(("r", 1),)),), Again("r", CUSTOM, decisions=("RETRY", "REVERT")))
    row = Group(LINEAR, "row", (Job("b"), Job("c"), Job("d", fails=ALWAYS)))
    assert_ends_as_predicted(Spec(Group(UNORDERED, "flow", (inner, row))), order, suspend=0.3)


@pytest.mark.parametrize("trip", range(1, 40))
def test_a_refusal_is_recorded_whole_though_a_listener_is_interrupted(trip):
    row = Group(LINEAR, "row", (Job("a"), Job("b"), Job("c")))
    links = (Link(0, 1, "no"), Link(1, 2))
    assert_ends_as_predicted(
        Spec(Group(GRAPH, "flow", (Job("u"), row, Job("z")), None, links, (0, 1, 2))), 0, trip=trip
    )


def test_results_that_were_delivered_are_kept_though_a_listener_is_interrupted():
    shape = specs.Shape(Spec(Group(UNORDERED, "flow", tuple(Job(name) for name in "abcdef"))))
    driver = drive.Driver(shape, random.Random(0))
    release = driver.held.release
    driver.held.release = lambda _: release(6)
    told = []

    def interrupt(event, details):
        told.append(details["task_name"])
        if len(told) == 2:
            raise KeyboardInterrupt

    driver.engine.atom_notifier.register(states.SUCCESS, interrupt)
    assert driver.run() == states.SUCCESS
    assert sorted(name for _, name, _ in driver.world.log) == list("abcdef")


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_called_twice_when_runs_are_closed_early(order):
    spec = Spec(Group(LINEAR, "flow", (Group(UNORDERED, "wide", tuple(Job(name) for name in "abcd")), Job("e"))))
    driver = assert_ends_as_predicted(spec, order, suspend=0.4)
    assert sorted(name for _, name, _ in driver.world.log) == list("abcde")
