"""Failures: the retries around them are asked, and the region that is to be undone is rolled back."""

from __future__ import annotations

import functools
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry, states
from taskflowx._util.arguments import unawaited
from taskflowx.engines import pauses, resolve
from taskflowx.engines.questions import Unanswered
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

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
        """Roll back the regions of the failures that are not resolved yet, up to one that has to wait for an answer."""
        failed, self._run.failed = self._run.failed, []
        if not self.never_resolve:
            questions, left = self._run.questions, iter(failed)
            for i in left:
                try:
                    self._resolve(i)
                except Unanswered:
                    self._run.failed[:0] = [i, *left]
                    break
                if questions is not None:
                    questions.settle()
        self._commits.commit_failure()

    def _resolve(self, i: int) -> None:
        if self._details[i].intention == states.RETRY:
            # A retry that cannot run again: the rollback goes on instead.
            self._roll_back(0, len(self._plan), cause=i)
            return
        walk, details, commits = self._walk, self._details, self._commits
        ask: Callable[[int, str], Any] = functools.partial(self._ask, details[i].failure)
        if self._run.questions is not None:
            ask = self._run.questions.once(ask)
        lo, hi, restart = resolve.resolve(self._plan, i, ask, defer_reverts=self._defer_reverts)
        around = walk.rolling_back_around(lo, hi)
        if around == (lo, hi):
            # The last word counts while the retry has not been reached.
            if isinstance(self._plan.atoms[lo], retry.Retry) and details[lo].state == states.SUCCESS:
                commits.mark(lo)
                details[lo].intention = states.RETRY if restart >= 0 else states.REVERT
        elif around is None:
            self._roll_back(lo, hi, restart, i)

    def _roll_back(self, lo: int, hi: int, restart: int = -1, cause: int = -1) -> None:
        self._commits.mark_region(lo, hi)
        self._commits.mark_all(self._walk.roll_back(lo, hi, restart, cause))
        self._run.timers.drop_atoms(lo, hi)

    def roll_back_all(self) -> None:
        """Roll the whole flow back, whatever the retries in it would say."""
        self._run.failed = []
        self._roll_back(0, len(self._plan))

    def _ask(self, failure: Failure, r: int, name: str) -> Any:
        """Add a failure to a retry's history and ask for its decision.

        An `on_failure` that raises, or answers with what is no decision, is a failure of the retry: as when its execute
        fails, it is undone and the controller around it is asked, or all is rolled back where there is none.
        """
        controller, detail = self._plan.atoms[r], self._details[r]
        limits = self._run.time_limits
        if limits is not None and limits.has_no_time(r):
            return None
        if detail.state in (states.PENDING, states.IGNORE) and not detail.results:
            return None  # a decider refused it, or it is new in the flow: there is nothing to run again
        try:
            if detail.results:
                self._note_failure(r, name, failure)
            questions, arguments = self._run.questions, self._run.binder.on_failure_arguments(r)
            if questions is not None and r in self._plan.awaits_after:
                decision = questions.decision(r, functools.partial(controller.on_failure, **arguments))
            else:
                decision = controller.on_failure(**arguments)
            if type(decision) is CoroutineType:
                raise unawaited(f"on_failure of retry '{controller.name}'", decision)
            if decision not in _DECISIONS:
                msg = f"on_failure of retry '{controller.name}' returned {decision!r}, expected one of {_DECISIONS}"
                raise TypeError(msg)
            if decision == retry.RETRY:
                decision = self._paced(r, failure, decision)
        except Unanswered:
            raise
        except Exception as error:
            self._commits.mark(r)
            failed, secrets = Failure.from_exception(error), self._writes.secrets
            self._transitions.note_failure(r, failed if secrets is None else secrets.failure(failed))
            return resolve.FAILED
        return decision

    def _paced(self, r: int, failure: Failure, decision: Any) -> Any:
        """Return the decision of a retry that is to run again, and note for how long it waits before that.

        :raises Exception: what a predicate of the controller has raised
        """
        controller, detail, clock = self._plan.atoms[r], self._details[r], self._run.clock
        since = (detail.own_meta or {}).get(metadata.SINCE)
        passed = 0.0 if since is None else max(self._run.now() - since, 0.0)
        seconds = pauses.seconds_before_next(controller, decision, failure, attempt=len(detail.results), passed=passed)
        if seconds is None:
            return controller._tfx_given_up()
        if seconds:
            self._commits.mark(r)
            pauses.note(detail, clock, seconds)
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
