"""Random flows, in random orders of completion, end as the oracle says, and keep the rules of a run at every step.

Each test makes a number of examples, always the same ones; TASKFLOWX_MODEL_EXAMPLES=20000 (with --timeout=0) looks
further, at other ones each time. A flow that shows a defect is printed, and goes into test_found.py.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from taskflowx import exceptions, states
from tests.model import drive, judge, oracle, specs
from tests.model.checks import assert_ends_as_predicted

EXAMPLES = os.environ.get("TASKFLOWX_MODEL_EXAMPLES")


def examples(count: int) -> Any:
    """Run a test on random flows, which Hypothesis can shrink, and random orders of what happens in them."""
    profile = settings(
        max_examples=count if EXAMPLES is None else int(EXAMPLES),
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    rngs = strategies.integers(0, 2**32).map(random.Random)
    flows = (rngs | strategies.randoms(use_true_random=False)).map(specs.random_spec)
    return lambda test: profile(given(spec=flows, order=rngs)(test))


@examples(300)
def test_a_run_keeps_the_rules_and_ends_as_it_must(spec, order):
    assert_ends_as_predicted(spec, order)


@examples(300)
def test_a_run_that_is_suspended_anywhere_ends_as_one_that_is_not(spec, order):
    assert_ends_as_predicted(spec, order, suspend=0.2)


@examples(250)
def test_what_another_process_goes_on_with_ends_as_if_nothing_had_happened(spec, order):
    assert_ends_as_predicted(spec, order, crash=0.1)


@examples(150)
def test_a_run_survives_being_suspended_and_dying_by_turns(spec, order):
    assert_ends_as_predicted(spec, order, suspend=0.15, crash=0.05)


@examples(300)
def test_a_run_goes_on_after_a_listener_was_interrupted(spec, order):
    assert_ends_as_predicted(spec, order, trip=order.randint(1, 6 * len(list(specs.atoms_in(spec.root))) + 2))


@examples(300)
def test_serial_runs_end_the_same_with_and_without_listeners(spec, order):
    watched = assert_ends_as_predicted(spec, order, "serial")
    unseen = assert_ends_as_predicted(spec, order, "serial", watch=False)
    assert unseen.world.log == watched.world.log


@examples(150)
def test_serial_runs_can_be_suspended_and_left_anywhere(spec, order):
    assert_ends_as_predicted(spec, order, "serial", watch=order.random() < 0.5, suspend=0.15, crash=0.05)


@examples(150)
def test_runs_in_threads_end_the_same(spec, order):
    workers, inline = order.randint(1, 3), order.random() < 0.5
    assert_ends_as_predicted(spec, order, "threads", max_workers=workers, inline=inline, watch=order.random() < 0.5)


@examples(100)
def test_runs_in_threads_can_be_suspended_anywhere(spec, order):
    assert_ends_as_predicted(spec, order, "threads", max_workers=order.randint(1, 3), inline=False, suspend=0.15)


@examples(200)
def test_runs_of_which_everything_is_awaited_end_the_same(spec, order):
    workers = order.choice((None, 1, 2))
    assert_ends_as_predicted(spec, order, "asyncio", awaited=True, max_workers=workers, watch=order.random() < 0.5)


@examples(200)
def test_runs_of_which_everything_is_awaited_can_be_suspended_and_die_anywhere(spec, order):
    assert_ends_as_predicted(spec, order, "asyncio", awaited=True, suspend=0.15, crash=0.05)


@examples(300)
def test_results_that_are_not_kept_are_missed_by_nobody(spec, order):
    executor, seed = order.choice(("serial", None)), order.random()
    ends = []
    for kept in (True, False):
        rng = random.Random(seed)
        driver = drive.Driver(specs.Shape(spec), rng, executor, suspend=0.1, crash=0.05, keep_results=kept)
        state = driver.run()
        now = {name: driver.engine.storage.get_atom_state(name) for name in driver.shape.atoms}
        ends.append((state, now, driver.world.log))
    assert ends[0] == ends[1]


@examples(200)
def test_a_flow_that_has_ended_runs_the_same_way_again(spec, order):
    spec = replace(specs.calm(spec), never_resolve=False)
    driver = assert_ends_as_predicted(spec, order)
    if driver.engine.storage.get_flow_state() == states.SUCCESS:
        driver.engine.reset()  # one that has been reverted is reset by running it
    elif driver.engine.not_undone():
        with pytest.raises(exceptions.InvalidState, match="rollback"):
            driver.engine.run()
        driver.engine.reset(force=True)
    driver.rules = None
    driver.world.log.clear()
    state = driver.run()
    assert judge.complaints(driver, oracle.predict(driver.shape), state) == []


@pytest.mark.parametrize("seed", range(15))
def test_larger_flows_keep_the_rules_too(seed):
    order = random.Random(seed)
    assert_ends_as_predicted(specs.random_spec(order, 60), order, suspend=0.02)
