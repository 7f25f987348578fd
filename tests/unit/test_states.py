"""Names of states, and which move between them is made, ignored or refused."""

from __future__ import annotations

import itertools

import pytest

from taskflowx import exceptions, states

NAMES = {name: value for name, value in vars(states).items() if name.isupper() and isinstance(value, str)}
STATES = sorted(NAMES.values())
IDLE = ["PENDING", "FAILURE", "SUCCESS", "SUSPENDED", "REVERTED"]

FLOW_MOVES = {
    ("PENDING", "RUNNING"),
    ("RUNNING", "SUCCESS"),
    ("RUNNING", "FAILURE"),
    ("RUNNING", "REVERTED"),
    ("RUNNING", "SUSPENDING"),
    ("RUNNING", "RESUMING"),
    ("SUSPENDING", "SUSPENDED"),
    ("SUSPENDING", "SUCCESS"),
    ("SUSPENDING", "FAILURE"),
    ("SUSPENDING", "REVERTED"),
    ("SUSPENDING", "RESUMING"),
    ("SUSPENDED", "RUNNING"),
    ("RESUMING", "SUSPENDED"),
    ("SUCCESS", "RUNNING"),
    ("SUCCESS", "PENDING"),
    ("FAILURE", "RUNNING"),
    ("REVERTED", "PENDING"),
}
TASK_MOVES = {
    ("PENDING", "RUNNING"),
    ("PENDING", "IGNORE"),
    ("IGNORE", "PENDING"),
    ("RUNNING", "SUCCESS"),
    ("RUNNING", "FAILURE"),
    ("SUCCESS", "REVERTING"),
    ("FAILURE", "REVERTING"),
    ("REVERTING", "REVERTED"),
    ("REVERTING", "REVERT_FAILURE"),
    ("REVERTED", "PENDING"),
    ("REVERT_FAILURE", "REVERTING"),
}
RETRY_MOVES = TASK_MOVES | {("SUCCESS", "RETRYING"), ("RETRYING", "RUNNING")}
JOB_MOVES = {("UNCLAIMED", "CLAIMED"), ("CLAIMED", "COMPLETE"), ("CLAIMED", "UNCLAIMED")}


def outcome(check, move):
    try:
        return check(*move)
    except exceptions.InvalidState:
        return "refused"


def moves_with(result, check):
    return {move for move in itertools.product(STATES, STATES) if outcome(check, move) == result}


def test_every_name_is_a_plain_string_that_reads_like_the_name():
    assert len(NAMES) == 21
    for name, value in NAMES.items():
        assert type(value) is str
        assert value == name


def test_the_intentions_are_the_four():
    assert states.INTENTIONS == ("EXECUTE", "IGNORE", "REVERT", "RETRY")


def test_a_flow_makes_just_the_moves_of_the_table():
    assert moves_with(True, states.check_flow_transition) == FLOW_MOVES


def test_a_flow_ignores_a_move_to_its_own_state_and_suspending_or_resuming_when_it_does_not_run():
    same = {(state, state) for state in STATES}
    when_idle = set(itertools.product(IDLE, ["SUSPENDING", "SUSPENDED", "RESUMING"]))
    assert moves_with(False, states.check_flow_transition) == (same | when_idle) - FLOW_MOVES


def test_a_flow_refuses_any_other_move_with_both_states_in_the_message():
    with pytest.raises(exceptions.InvalidState) as caught:
        states.check_flow_transition("PENDING", "SUCCESS")
    assert str(caught.value) == "Flow transition from 'PENDING' to 'SUCCESS' is not allowed"


def test_a_flow_refuses_states_that_do_not_exist():
    with pytest.raises(exceptions.InvalidState):
        states.check_flow_transition("RUNNING", "FLYING")


def test_a_job_makes_just_the_moves_of_the_table():
    assert moves_with(True, states.check_job_transition) == JOB_MOVES


def test_a_job_ignores_a_move_to_its_own_state_only():
    assert moves_with(False, states.check_job_transition) == {(state, state) for state in STATES}


def test_a_job_refuses_any_other_move_with_both_states_in_the_message():
    with pytest.raises(exceptions.InvalidState) as caught:
        states.check_job_transition("COMPLETE", "CLAIMED")
    assert str(caught.value) == "Job transition from 'COMPLETE' to 'CLAIMED' is not allowed"


def test_a_task_may_make_just_the_moves_of_the_table_and_the_rest_is_false():
    assert moves_with(True, states.check_task_transition) == TASK_MOVES
    assert moves_with("refused", states.check_task_transition) == set()


def test_a_retry_may_make_the_moves_of_a_task_and_those_to_and_from_retrying():
    assert moves_with(True, states.check_retry_transition) == RETRY_MOVES
    assert moves_with("refused", states.check_retry_transition) == set()


@pytest.mark.parametrize("check", [states.check_task_transition, states.check_retry_transition])
def test_a_failed_rollback_of_an_atom_may_be_tried_again(check):
    assert check("REVERT_FAILURE", "REVERTING")


@pytest.mark.parametrize("check", [states.check_task_transition, states.check_retry_transition])
def test_an_atom_that_never_ran_may_not_be_reverted(check):
    assert not check("PENDING", "REVERTING")
    assert not check("IGNORE", "REVERTING")
