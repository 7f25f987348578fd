"""The names of states and intentions, and the tables of valid transitions.

Engines, storage and job boards call the `check_*` functions; users compare with the names. What must stay true: the
names and the transitions are those in stores written by TaskFlow, so a name is never changed and a transition never
removed. One transition is added: REVERT_FAILURE → REVERTING, with which a rollback that got stuck is continued.
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

# Intentions of an atom.
EXECUTE = "EXECUTE"
RETRY = "RETRY"
REVERT = "REVERT"
INTENTIONS = (EXECUTE, IGNORE, REVERT, RETRY)

#: intentions of an atom that is rolled back, whether or not it runs again afterwards
ROLLING_BACK = (REVERT, RETRY)

# The meaning of an atom's recorded state for a resume.
#: it has not run, or it is undone
NOT_BEGUN = (None, PENDING, IGNORE, REVERTED)
#: its successors need not wait for it
PASSED = (SUCCESS, IGNORE)
#: it starts when all its predecessors have run
MAY_START = (None, PENDING, RUNNING)
#: it was interrupted, or its revert has failed
INTERRUPTED = (RUNNING, REVERTING, REVERT_FAILURE)
#: a call of it is running, or is about to start
UNDER_WAY = (RUNNING, REVERTING, RETRYING)
#: it has never run
FRESH = (None, PENDING)
#: a call of it is running
CALLED = (RUNNING, REVERTING)
#: a call of it has ended
WITH_OUTCOME = (SUCCESS, FAILURE, REVERTED, REVERT_FAILURE)
#: it has run and is not undone, including a retry that is about to run again
STANDING = (SUCCESS, FAILURE, RETRYING)
#: it needs no revert
NOTHING_TO_UNDO = (PENDING, REVERTED, IGNORE)

# The meaning of a flow's state.
#: no run is in progress
AT_REST = (SUCCESS, FAILURE, REVERTED, SUSPENDED)

# The valid states in a record, ours or TaskFlow's.
FLOW_STATES = (PENDING, RUNNING, SUCCESS, FAILURE, REVERTED, SUSPENDING, SUSPENDED, RESUMING)
ATOM_STATES = (PENDING, RUNNING, SUCCESS, FAILURE, IGNORE, REVERTING, REVERTED, REVERT_FAILURE, RETRYING)

_NOWHERE: frozenset[str] = frozenset()

_FLOW_MOVES = {
    PENDING: frozenset({RUNNING}),
    RUNNING: frozenset({SUCCESS, FAILURE, REVERTED, SUSPENDING, RESUMING}),
    SUSPENDING: frozenset({SUSPENDED, SUCCESS, FAILURE, REVERTED, RESUMING}),
    SUSPENDED: frozenset({RUNNING}),
    RESUMING: frozenset({SUSPENDED}),
    SUCCESS: frozenset({RUNNING, PENDING}),  # RUNNING: members may have been added to the flow
    FAILURE: frozenset({RUNNING}),
    REVERTED: frozenset({PENDING}),
}

# Suspending or resuming a flow that does not run is no error; it changes nothing.
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

_RETRY_MOVES = {**_TASK_MOVES, SUCCESS: frozenset({REVERTING, RETRYING}), RETRYING: frozenset({RUNNING})}

_JOB_MOVES = {UNCLAIMED: frozenset({CLAIMED}), CLAIMED: frozenset({COMPLETE, UNCLAIMED})}


def check_flow_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a transition of a flow should be made.

    True: it should. False: it is ignored, because the flow is in that state already, or because a flow that does not
    run is to be suspended or resumed. An invalid transition raises `InvalidState`.
    """
    if old_state == new_state:
        return False
    if new_state in _FLOW_MOVES.get(old_state, _NOWHERE):
        return True
    if old_state in _FLOW_IDLE and new_state in _FLOW_IGNORED_WHEN_IDLE:
        return False
    raise exceptions.InvalidState(f"Flow transition from '{old_state}' to '{new_state}' is not allowed")


def check_job_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a transition of a job should be made.

    True: it should. False: the job is in that state already. An invalid transition raises `InvalidState`.
    """
    if old_state == new_state:
        return False
    if new_state in _JOB_MOVES.get(old_state, _NOWHERE):
        return True
    raise exceptions.InvalidState(f"Job transition from '{old_state}' to '{new_state}' is not allowed")


def check_task_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a transition of a task is valid; never raises."""
    return new_state in _TASK_MOVES.get(old_state, _NOWHERE)


def check_retry_transition(old_state: str, new_state: str) -> bool:
    """Tell whether a transition of a retry is valid; never raises."""
    return new_state in _RETRY_MOVES.get(old_state, _NOWHERE)
