"""Calls, got ready: deciders are asked, arguments are bound, and the atom is RUNNING or REVERTING."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.atom import REVERT_RESULT
from taskflowx.engines import resolve
from taskflowx.executors import base
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions


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

    def execute(self, i: int, *, admitted: bool = False) -> base.Call | None:
        """Get an atom ready to execute; None when there is nothing to call.

        :param admitted: whether the deciders before it have agreed already
        """
        transitions, detail = self._transitions, self._details[i]
        if i in self._plan.votes and not admitted and i not in self._run.repeated:
            try:
                depth = resolve.veto(self._plan, i, self._details)
            except Exception as error:
                transitions.fail_uncalled(i, Failure.from_exception(error))
                return None
            if depth is not None:
                transitions.skip(i, depth)
                return None
        try:
            arguments = self._binder.execute_arguments(i)
        except exceptions.NotFound as error:
            transitions.fail_uncalled(i, Failure.from_exception(error))
            return None
        if detail.failure is not None:
            detail.failure = None
        transitions.move(i, states.RUNNING)
        return base.Call(i, self._plan.atoms[i], states.EXECUTE, arguments)

    def undo(self, i: int) -> base.Call | None:
        """Get an atom ready to be reverted, or a retry to run again; None when there is nothing to call."""
        transitions, detail = self._transitions, self._details[i]
        if detail.intention == states.RETRY:
            return self._run_again(i)
        meta = detail.own_meta
        if meta and meta.get(metadata.NOT_CALLED):
            transitions.move(i, states.REVERTING, calls=False)
            transitions.end(i, states.REVERT, None)
            return None
        try:
            arguments = self._binder.revert_arguments(i, transitions.failures)
        except exceptions.NotFound as error:
            transitions.move(i, states.REVERTING, calls=False)
            transitions.end(i, states.REVERT, Failure.from_exception(error))
            return None
        unstored: dict[str, Any] = self._run.storage.writes.unstored
        if unstored and detail.name in unstored and REVERT_RESULT in arguments:
            arguments[REVERT_RESULT] = unstored[detail.name]
        transitions.move(i, states.REVERTING)
        return base.Call(i, self._plan.atoms[i], states.REVERT, arguments)

    def _run_again(self, r: int) -> base.Call | None:
        if self._go_on and self._is_blocked(r):
            self._run.failed.append(r)
            return None
        self._transitions.restart(r)
        if self._run.walk.unmet[r]:  # it has been moved, or something new stands before it
            self._transitions.move(r, states.PENDING)
            return None
        return self.execute(r, admitted=True)

    def _is_blocked(self, r: int) -> bool:
        """Tell whether something in the region of a retry could not be undone, so that it cannot run again."""
        lo, hi = self._plan.region(r)
        return any(d is not None and d.state == states.REVERT_FAILURE for d in self._details[lo:hi])
