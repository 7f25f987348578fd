"""The names of states and intentions, and the tables of what may follow what.

Engines, storage and job boards ask the `check_*` functions here; users compare with the names. What must stay
true: the names and the moves are those that stores written by TaskFlow hold, so a name is never changed and a
move never taken away. One move is added: REVERT_FAILURE → REVERTING, with which a rollback that got stuck is
continued.
"""

from __future__ import annotations

from taskflowx import exceptions

# Flows and atoms.
PENDING = "PENDING"
RUNNING = "RUNNING"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVERTED = "REVERTED"
REVERTING = "REVERTING"

# Atoms.
IGNORE = "IGNORE"
REVERT_FAILURE = "REVERT_FAILURE"
RETRYING = "RETRYING"

# Flows.
RESUMING = "RESUMING"
SUSPENDED = "SUSPENDED"
SUSPENDING = "SUSPENDING"

# Steps that `run_iter` yields between flow states.
ANALYZING = "ANALYZING"
SCHEDULING = "SCHEDULING"
WAITING = "WAITING"

# Jobs.
CLAIMED = "CLAIMED"
COMPLETE = "COMPLETE"
UNCLAIMED = "UNCLAIMED"

# What is to be done with an atom next.
EXECUTE = "EXECUTE"
RETRY = "RETRY"
REVERT = "REVERT"
INTENTIONS = (EXECUTE, IGNORE, REVERT, RETRY)

#: intentions of an atom that is rolled back, whether or not it runs again afterwards
ROLLING_BACK = (REVERT, RETRY)

# What the state of an atom, as it is on record, means to those who go on from there.
#: nothing of it has happened, or nothing of it is left
NOT_BEGUN = (None, PENDING, IGNORE, REVERTED)
#: what comes after it need not wait for it
PASSED = (SUCCESS, IGNORE)
#: it starts when all before it has run
MAY_START = (None, PENDING, RUNNING)
#: it was under way, or its revert has failed
CUT_OFF = (RUNNING, REVERTING, REVERT_FAILURE)
#: a call of it was being made, or is about to be
UNDER_WAY = (RUNNING, REVERTING, RETRYING)
#: nothing has been done with it yet
FRESH = (None, PENDING)
#: a call of it is made
CALLED = (RUNNING, REVERTING)
#: a call of it has ended
WITH_OUTCOME = (SUCCESS, FAILURE, REVERTED, REVERT_FAILURE)
#: it has run and stands, a retry that is about to run again included
STANDING = (SUCCESS, FAILURE, RETRYING)
#: nothing of it is to be undone
NOTHING_TO_UNDO = (PENDING, REVERTED, IGNORE)

# What the state of a flow means.
#: nobody is at work with it
AT_REST = (SUCCESS, FAILURE, REVERTED, SUSPENDED)

# What may stand in a record, ours or TaskFlow's.
FLOW_STATES = (PENDING, RUNNING, SUCCESS, FAILURE, REVERTED, SUSPENDING, SUSPENDED, RESUMING)
ATOM_STATES = (PENDING, RUNNING, SUCCESS, FAILURE, IGNORE, REVERTING, REVERTED, REVERT_FAILURE, RETRYING)

_NOWHERE: frozenset[str] = frozenset()

_FLOW_MOVES = {
    PENDING: frozenset({RUNNING}),
    RUNNING: frozenset({SUCCESS, FAILURE, REVERTED, SUSPENDING, RESUMING}),
    SUSPENDING: frozenset({SUSPENDED, SUCCESS, FAILURE, REVERTED, RESUMING}),
    SUSPENDED: frozenset({RUNNING}),
    RESUMING: frozenset({SUSPENDED}),
    SUCCESS: frozenset({RUNNING, PENDING}),  # RUNNING: the flow may have been added to
    FAILURE: frozenset({RUNNING}),
    REVERTED: frozenset({PENDING}),
}

# To suspend or resume what does not run is no mistake; it changes nothing.
_FLOW_IDLE = frozenset({PENDING, FAILURE, SUCCESS, SUSPENDED, REVERTED})
_FLOW_IGNORED_WHEN_IDLE = frozenset({SUSPENDING, SUSPENDED, RESUMING})

_TASK_MOVES = {
    PENDING: frozenset({RUNNING, IGNORE}),
    IGNORE: frozenset({PENDING}),
    RUNNING: frozenset({SUCCESS, FAILURE}),
    SUCCESS: frozenset({REVERTING}),
    FAILURE: frozenset({REVERTING}),
    REVERTING: frozenset({REVERTED, REVERT_FAILURE}),
    REVERTED: frozenset({PENDING}),
    REVERT_FAILURE: frozenset({REVERTING}),
}

_RETRY_MOVES = {
    **_TASK_MOVES,
    SUCCESS: frozenset({REVERTING, RETRYING}),
    RETRYING: frozenset({RUNNING}),
}

_JOB_MOVES = {
    UNCLAIMED: frozenset({CLAIMED}),
    CLAIMED: frozenset({COMPLETE, UNCLAIMED}),
}


def check_flow_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a flow is to go from one state to the other.

    True: the move is to be made. False: it is ignored, because the flow is in that state already, or because
    it asks to suspend or resume a flow that does not run. Any other move raises `InvalidState`.
    """
    if old_state == new_state:
        return False
    if new_state in _FLOW_MOVES.get(old_state, _NOWHERE):
        return True
    if old_state in _FLOW_IDLE and new_state in _FLOW_IGNORED_WHEN_IDLE:
        return False
    raise exceptions.InvalidState(f"Flow transition from '{old_state}' to '{new_state}' is not allowed")


def check_job_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a job is to go from one state to the other.

    True: the move is to be made. False: the job is in that state already. Any other move raises
    `InvalidState`.
    """
    if old_state == new_state:
        return False
    if new_state in _JOB_MOVES.get(old_state, _NOWHERE):
        return True
    raise exceptions.InvalidState(f"Job transition from '{old_state}' to '{new_state}' is not allowed")


def check_task_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a task may go from one state to the other; never raises."""
    return new_state in _TASK_MOVES.get(old_state, _NOWHERE)


def check_retry_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a retry may go from one state to the other; never raises."""
    return new_state in _RETRY_MOVES.get(old_state, _NOWHERE)
