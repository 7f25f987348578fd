"""Calls of which nobody knows whether they have had their effect, and what their tasks want done about it.

A call is one of these when it had begun and nobody saw its end: the process was killed (its atom is RUNNING on record
when the run is taken up), its worker was lost, its thread was abandoned, its coroutine was cancelled. A task without
`on_unknown` and `find_outcome` has its call made again by a run that goes on, or fails by the loss of its worker; no
code of this module runs for it.

What must stay true:

- A call of a task with 'undo' or 'ask' is not made a second time under one idempotency key, unless `find_outcome` has
  said NOT_DONE. So its beginning is on record before it, with each `durability`.
- An atom whose outcome is asked for stays RUNNING on record, with `metadata.UNKNOWN` in its metadata: another engine,
  and OpenStack TaskFlow, can read the record as it is. It is in `Walk.interrupted`, so a rollback undoes it.
- `Prepare` and `Transitions` ask here only for the atoms in `Plan.unknown`.
"""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry, states, task
from taskflowx._util import logs
from taskflowx.controls import ASK, KEY, UNDO
from taskflowx.engines.transitions import count_attempt
from taskflowx.executors import base
from taskflowx.record import metadata
from taskflowx.signature import inspect_parameters
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.policies import Policy
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions

LOG = logs.calm(__name__)

#: what a function returns that only makes something to be run
_NOT_BEGUN = (types.CoroutineType, types.GeneratorType)
#: says that a call is made after all
PROCEED: Any = object()
#: why the outcome of a call is not known that is RUNNING on record
LEFT = "a run has ended in this call"


def is_unknown(failure: Failure, *, stops_by_force: bool) -> bool:
    """Tell whether a failure of a call leaves open whether the call has had its effect.

    :param stops_by_force: whether the executor ends calls that exceed their time where they are
    """
    error = failure.exception
    if isinstance(error, (exceptions.TimeoutExceeded, exceptions.Cancelled)):
        return stops_by_force or error.outcome_unknown
    return failure.check(exceptions.WorkerLost) is not None


def key_of(detail: Any) -> str:
    """Return the idempotency key of the call of an atom."""
    return f"{detail.uuid}.{(detail.own_meta or {}).get(metadata.ROUND, 0)}"


def is_asked(detail: Any) -> bool:
    """Tell whether the outcome of the call of an atom is asked for."""
    return (
        detail.state == states.RUNNING
        and detail.intention == states.EXECUTE
        and metadata.UNKNOWN in (detail.own_meta or ())
    )


class Unknown:
    """The unknown outcomes of one run.

    :param run: the run
    :param commits: where it is noted that the record has changed
    :param transitions: records outcomes
    """

    #: says that an outcome is asked for, so that nothing is recorded
    OPEN: Any = object()

    def __init__(self, run: Run, commits: Commits, transitions: Transitions) -> None:
        self._run, self._commits, self._transitions = run, commits, transitions
        self._atoms, self._details, self._walk = run.plan.atoms, run.details, run.walk
        #: index -> what is to be done
        self.policies: dict[int, Policy] = run.plan.unknown
        self._stops_by_force = run.executor.stops in ("kills", "cancels")
        #: atoms whose `find_outcome` is awaited as a call
        self._finding: set[int] = set()
        #: the failures of calls of this run, until `find_outcome` has been asked
        self._causes: dict[int, Failure] = {}
        #: atoms whose `find_outcome` has said, as a call, that `execute` is to be called
        self._not_done: set[int] = set()

    def asked(self) -> list[str]:
        """Return the names of the atoms whose outcomes are asked for."""
        return [self._details[i].name for i in self.policies if is_asked(self._details[i])]

    # -- what an earlier run has left --------------------------------------------------------------

    def take_up(self, i: int) -> Any:
        """Decide on an atom that is RUNNING on record, or whose call was lost in this run.

        Returns PROCEED when its call is to be made, the call of its `find_outcome` where that is awaited, else None.
        """
        policy = self.policies[i]
        if i in self._not_done:
            self._not_done.discard(i)
            return self._proceed(i)
        if not policy.finds:
            return self._by_mode(i, policy)
        try:
            given = self._arguments_of_finder(i)
            finder = self._atoms[i].find_outcome
            if policy.awaits:
                self._finding.add(i)
                self._commits.mark(i)
                return base.Call(i, task.FunctorTask(finder, name=self._atoms[i].name), states.EXECUTE, given)
            found = self._run.context.copy().run(functools.partial(finder, **given))
            if type(found) in _NOT_BEGUN:
                found.close()
                raise TypeError(
                    f"find_outcome of task '{self._atoms[i].name}' returned a {type(found).__name__}, of which nothing "
                    "has run: it must return the result, or NOT_DONE; one that is awaited is written as an `async def`"
                )
        except Exception as error:
            found = Failure.from_exception(error)
        return self._take_found(i, found)

    def _take_found(self, i: int, found: Any) -> Any:
        """Act on what a plain `find_outcome` has returned or raised; see `take_up`."""
        outcome = self._answer(i, found)
        if outcome is PROCEED:
            return self._proceed(i)
        if outcome is not self.OPEN:
            self._transitions.end(i, states.EXECUTE, outcome, known=True)
        return None

    def _by_mode(self, i: int, policy: Policy) -> Any:
        if policy.mode == UNDO:
            self._transitions.end(i, states.EXECUTE, self.failure(i), known=True)
        else:
            self._ask(i, None)

    def _proceed(self, i: int) -> Any:
        """Have the call made again, which is a further attempt."""
        detail = self._details[i]
        self._commits.mark(i)
        count_attempt(detail)
        self._forget(detail)
        return PROCEED

    def _arguments_of_finder(self, i: int) -> dict[str, Any]:
        """Return the arguments of `find_outcome`: those of `execute` that it takes, and facts about the call.

        :raises NotFound: when one that `execute` requires has no value
        """
        takes = inspect_parameters(self._atoms[i].find_outcome)
        given = {KEY: key_of(self._details[i]), **self._run.binder.execute_arguments(i)}
        given |= _defaults(self._atoms[i].execute, [name for name in takes.required if name not in given])
        return {name: value for name, value in given.items() if takes.accepts(name)}

    # -- what comes of a call ----------------------------------------------------------------------

    def begins(self) -> None:
        """Have the beginning of a call on record before it, also where commits may wait."""
        if self._commits.interval:
            self._commits.commit()

    def judge(self, i: int, outcome: Any) -> Any:
        """Return what is to be recorded as the outcome of a call; OPEN when that is nothing."""
        detail, policy = self._details[i], self.policies[i]
        if i in self._finding:
            self._finding.discard(i)
            # Also where no worker has taken it, the call that it was to look for may have happened.
            outcome = self._answer(i, outcome.failure if type(outcome) is base.NotBegun else outcome)
            if outcome is PROCEED:
                self._not_done.add(i)
                self._await_turn(i)
                return self.OPEN
            return outcome
        returned = detail.name in self._run.storage.writes.unstored  # late: its revert gets that
        if not isinstance(outcome, Failure) or returned or not is_unknown(outcome, stops_by_force=self._stops_by_force):
            self._forget(detail)
            return outcome
        if detail.intention != states.EXECUTE:  # it is rolled back already
            return self.failure(i, outcome)
        if policy.finds:
            self._causes[i] = outcome
            self._await_turn(i)
            return self.OPEN
        if policy.mode == ASK:
            self._ask(i, outcome)
            return self.OPEN
        return self.failure(i, outcome)

    def _await_turn(self, i: int) -> None:
        """Have the atom taken with those that are ready."""
        self._commits.mark(i)
        self._run.repeated.add(i)
        self._walk.interrupted.add(i)
        self._walk.ready.append(i)

    def _answer(self, i: int, found: Any) -> Any:
        """Return the outcome of a call by what `find_outcome` says: PROCEED to make it, OPEN when it says nothing."""
        cause, detail = self._causes.pop(i, None), self._details[i]
        rolling_back = detail.intention != states.EXECUTE
        if found is retry.NOT_DONE:
            if cause is not None:  # of a call of this run: now it is known to have failed
                self._forget(detail)
                return cause
            return self.failure(i) if rolling_back else PROCEED
        if isinstance(found, Failure):
            found = self._masked(found)
            LOG.error("find_outcome of task '%s' has failed: %s", detail.name, found.pformat())
            if rolling_back:
                return self.failure(i, found)
            self._ask(i, found)
            return self.OPEN
        self._forget(detail)
        return found

    def _ask(self, i: int, why: Failure | None) -> None:
        """Leave an atom as it is until somebody gives the outcome of its call."""
        detail = self._details[i]
        before = (detail.own_meta or {}).get(metadata.UNKNOWN) or {}
        self._commits.mark(i)
        said = str(self._masked(why)) if why is not None else before.get("why", LEFT)
        detail.meta[metadata.UNKNOWN] = {"since": before.get("since", self._run.clock.time()), "why": said}
        self._walk.interrupted.add(i)
        if not before:
            LOG.warning("Nobody knows whether task '%s' has had its effect: %s", detail.name, said)

    def _masked(self, failure: Failure) -> Failure:
        secrets = self._run.storage.writes.secrets
        return failure if secrets is None else secrets.failure(failure)

    @staticmethod
    def _forget(detail: Any) -> None:
        if detail.own_meta:
            detail.own_meta.pop(metadata.UNKNOWN, None)

    # -- what is undone ----------------------------------------------------------------------------

    def undoes(self, i: int) -> Failure | None:
        """Return what the revert of an atom gets as its result, if the outcome of its execute is not known."""
        detail = self._details[i]
        self._finding.discard(i)  # what was to be asked in this round is asked no more
        self._not_done.discard(i)
        cause = self._causes.pop(i, None)
        if detail.state == states.RUNNING and metadata.UNKNOWN not in (detail.own_meta or ()):
            self._commits.mark(i)
            detail.meta[metadata.UNKNOWN] = {"since": self._run.clock.time(), "why": LEFT}
        return self.failure(i, cause) if metadata.UNKNOWN in (detail.own_meta or ()) else None

    def failure(self, i: int, cause: Failure | None = None) -> Failure:
        """Return the failure of a call whose outcome is not known.

        :param cause: its failure
        """
        detail = self._details[i]
        error = exceptions.OutcomeUnknown(
            f"Nobody knows whether the call of task '{detail.name}' with the idempotency key {key_of(detail)} has had "
            "its effect: it had begun, and its end was not seen",
            None if cause is None else cause.exception,
        )
        error.__cause__ = error.cause
        return Failure.from_exception(error)


def _defaults(execute: Any, names: list[str]) -> dict[str, Any]:
    """Return what an execute takes for arguments that nobody gives."""
    if not names:
        return {}
    import inspect  # rarely needed

    parameters = inspect.signature(execute).parameters
    known = {name: parameters[name].default for name in names if name in parameters}
    return {name: value for name, value in known.items() if value is not inspect.Parameter.empty}
