"""Failures: the retries around them are asked, and the region that is to be undone is rolled back."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry, states
from taskflowx.engines import resolve
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.options import Options
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions

_DECISIONS = [decision.value for decision in retry.Decision]


class Rollback:
    """Resolves the failures of one run.

    :param run: the run
    :param commits: where it is noted that the record has changed
    :param transitions: puts failures of retries on record
    :param options: the options of the engine
    """

    def __init__(self, run: Run, commits: Commits, transitions: Transitions, options: Options) -> None:
        self._run = run
        self._plan, self._walk, self._details = run.plan, run.walk, run.details
        self._writes = run.storage.writes
        self._commits = commits
        self._transitions = transitions
        self._defer_reverts = options.defer_reverts
        #: whether failures trigger no rollback
        self.never_resolve = options.never_resolve

    def resolve_failures(self) -> None:
        """Roll back the regions of the failures that are not resolved yet."""
        failed, self._run.failed = self._run.failed, []
        if not self.never_resolve:
            for i in failed:
                self._resolve(i)
        if self._commits.interval == math.inf:
            self._commits.commit()

    def _resolve(self, i: int) -> None:
        if self._details[i].intention == states.RETRY:
            # A retry that cannot run again: the rollback goes on instead.
            self._commits.mark_region(0, len(self._plan))
            self._walk.roll_back(0, len(self._plan), cause=i)
            return
        walk, details, commits = self._walk, self._details, self._commits
        ask = functools.partial(self._ask, details[i].failure)
        lo, hi, restart = resolve.resolve(self._plan, i, ask, defer_reverts=self._defer_reverts)
        around = walk.rolling_back_around(lo, hi)
        if around == (lo, hi):
            # The last word counts while the retry has not been reached.
            if isinstance(self._plan.atoms[lo], retry.Retry) and details[lo].state == states.SUCCESS:
                commits.mark(lo)
                details[lo].intention = states.RETRY if restart >= 0 else states.REVERT
        elif around is None:
            commits.mark_region(lo, hi)
            commits.mark_all(walk.roll_back(lo, hi, restart, i))

    def _ask(self, failure: Failure, r: int, name: str) -> Any:
        """Add a failure to a retry's history and ask for its decision.

        An `on_failure` that raises, or answers with what is no decision, is a failure of the retry: as when its execute
        fails, it is undone and the controller around it is asked.
        """
        controller, detail = self._plan.atoms[r], self._details[r]
        if detail.state in (states.PENDING, states.IGNORE) and not detail.results:
            return None  # a decider refused it, or it is new in the flow: there is nothing to run again
        try:
            if detail.results:
                self._note_failure(r, name, failure)
            decision = controller.on_failure(**self._run.binder.on_failure_arguments(r))
            if decision not in _DECISIONS:
                msg = f"on_failure of retry '{controller.name}' returned {decision!r}, expected one of {_DECISIONS}"
                raise TypeError(msg)
        except Exception as error:
            self._commits.mark(r)
            self._transitions.note_failure(r, Failure.from_exception(error))
            return retry.REVERT
        return decision

    def _note_failure(self, r: int, name: str, failure: Failure) -> None:
        """Add a failure to the history of a retry.

        :raises Unstorable: when the store cannot hold a longer one
        """
        detail = self._details[r]
        before = detail.last_failures
        self._commits.mark(r)
        detail.note_failure({**before, name: failure})
        if self._writes.limits_records:
            try:
                self._writes.check_record(detail)
            except exceptions.Unstorable:
                detail.note_failure(before)
                raise
