"""Calls, got ready: deciders are asked, arguments are bound, and the atom is RUNNING or REVERTING."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.atom import REVERT_RESULT
from taskflowx.engines import notes, pauses, resolve
from taskflowx.engines.transitions import count_attempt
from taskflowx.engines.unknown import PROCEED
from taskflowx.executors import base
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions
    from taskflowx.persistence.models import AtomDetail


class Prepare:
    """Makes the calls of one run.

    :param run: the run
    :param transitions: changes the states of atoms
    :param go_on: whether a rollback goes on past an atom whose revert failed
    """

    def __init__(self, run: Run, transitions: Transitions, *, go_on: bool) -> None:
        self._run = run
        self._plan, self._details, self._binder = run.plan, run.details, run.binder
        self._transitions = transitions
        self._go_on = go_on
        self._unstored: dict[str, Any] = run.storage.writes.unstored

    def execute(self, i: int, *, admitted: bool = False) -> base.Call | None:
        """Get an atom ready to execute; None when there is nothing to call.

        :param admitted: whether the deciders before it have agreed already
        """
        transitions, detail = self._transitions, self._details[i]
        unknown = self._run.unknown if i in self._plan.unknown else None
        if unknown is not None and detail.state == states.RUNNING and i in self._run.repeated:
            call = unknown.take_up(i)
            if call is not PROCEED:
                return call  # type: ignore[no-any-return]
        if i in self._plan.votes and not admitted and i not in self._run.repeated and self._is_refused(i):
            return None
        try:
            if self._run.time_limits is not None:
                self._run.time_limits.begin_flows(i)
            self._count(i)
            arguments = self._binder.execute_arguments(i)
        except (exceptions.NotFound, exceptions.TimeoutExceeded) as error:
            transitions.fail_uncalled(i, Failure.from_exception(error))
            return None
        if detail.failure is not None:
            detail.failure = None
        if self._unstored:
            self._unstored.pop(detail.name, None)  # that of an earlier call
        if detail.KIND == "retry":
            pauses.begin(self._plan.atoms[i], detail, self._run.now())
        transitions.move(i, states.RUNNING)
        if unknown is not None:
            unknown.begins()
        return base.Call(i, self._plan.atoms[i], states.EXECUTE, arguments)

    def _count(self, i: int) -> None:
        """Note that a call which an earlier run has left is made again, if its atom asks for its attempt."""
        if i in self._run.to_count:
            self._run.to_count.discard(i)
            count_attempt(self._details[i])

    def _is_refused(self, i: int) -> bool:
        """Tell whether the deciders of an atom refuse it, or fail, or have had the run cancelled.

        It is then skipped, or has failed, or is ready for the next run.
        """
        try:
            questions = self._run.questions
            if questions is not None and i in self._plan.awaits_before:
                depth = questions.verdict(i)
            else:
                depth = resolve.veto(self._plan, i, self._details, self._binder.seen_values)
        except Exception as error:
            self._transitions.fail_uncalled(i, Failure.from_exception(error))
            self._run.storage.record.note_failed(self._details[i].name, notes.UNDECIDED)
            return True
        if depth is not None:
            self._transitions.skip(i, depth)
            return True
        if self._run.cancelled is None:  # who suspends the run at each step gets one step further each time
            return False
        self._run.walk.ready.append(i)
        return True

    def undo(self, i: int) -> base.Call | None:
        """Get an atom ready to be reverted, or a retry to run again; None when there is nothing to call."""
        transitions, detail = self._transitions, self._details[i]
        if self._run.only_undoes and detail.intention == states.RETRY:
            return None  # it runs again when the run goes on
        meta = detail.own_meta
        if meta and metadata.WAKE in meta and self._is_parked(i, detail):
            return None
        if detail.intention == states.RETRY:
            return self._run_again(i)
        if meta and meta.get(metadata.NOT_CALLED):
            transitions.move(i, states.REVERTING, calls=False)
            transitions.end(i, states.REVERT, None)
            return None
        self._count(i)
        try:
            arguments = self._binder.revert_arguments(i, transitions.failures)
        except exceptions.NotFound as error:
            transitions.move(i, states.REVERTING, calls=False)
            transitions.end(i, states.REVERT, Failure.from_exception(error))
            return None
        if self._unstored and detail.failure is not None and REVERT_RESULT in arguments:
            arguments[REVERT_RESULT] = self._unstored.get(detail.name, arguments[REVERT_RESULT])
        if i in self._plan.unknown and self._run.unknown is not None:
            failure = self._run.unknown.undoes(i)
            if failure is not None and REVERT_RESULT in arguments:
                arguments[REVERT_RESULT] = failure
        transitions.move(i, states.REVERTING)
        return base.Call(i, self._plan.atoms[i], states.REVERT, arguments)

    def _is_parked(self, i: int, detail: AtomDetail) -> bool:
        """Tell whether an atom waits before it is reverted again, or runs again."""
        limits = self._run.time_limits
        if detail.state == states.REVERT_FAILURE or (
            detail.intention == states.RETRY and (limits is None or not limits.has_no_time(i))
        ):
            return self._run.park(i)
        del detail.meta[metadata.WAKE]  # something else has failed, or there is no time left
        return False

    def _run_again(self, r: int) -> base.Call | None:
        lo, hi = self._plan.region(r)
        # What could not be undone in its region keeps it from running again.
        if self._go_on and any(d is not None and d.state == states.REVERT_FAILURE for d in self._details[lo:hi]):
            self._run.failed.append(r)
            return None
        self._transitions.restart(r)
        if self._run.walk.unmet[r]:  # it has been moved, or something new stands before it
            self._transitions.move(r, states.PENDING)
            return None
        return self.execute(r, admitted=True)
