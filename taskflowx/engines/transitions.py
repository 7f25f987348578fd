"""The place where an atom changes state: its record, the counters of the Walk, and its subscribers.

The two hot loops of `inline` make the same changes for a plain task, unfolded.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry, states, task
from taskflowx._util import arguments, failpoints, logs
from taskflowx.engines import notes, pauses, strict, vetoes
from taskflowx.engines.questions import Question
from taskflowx.engines.unclosed import UNDONE_WITH
from taskflowx.executors import base
from taskflowx.persistence import models
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx import deciders
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.keeping import Keeping
    from taskflowx.engines.progress import Progress
    from taskflowx.engines.shared import Run
    from taskflowx.persistence.models import AtomDetail

LOG = logs.calm(__name__)

#: the classes that users have derived from Failure, mostly none; all paths know a failure by its type alone
DERIVED_FAILURES = Failure._tfx_derived
#: the types of outcomes that no short path takes; see `Failure`
ODD = Failure._tfx_odd

#: what the metadata of an atom has that ends when it begins again
_OF_ONE_ROUND = (
    *(metadata.NOT_CALLED, UNDONE_WITH, *vetoes.METAS, metadata.PROGRESS, metadata.PROGRESS_DETAILS),
    *(metadata.WAKE, metadata.SINCE, metadata.REVERTS, metadata.FLOW_SINCE, metadata.UNKNOWN),
)


class Transitions:
    """The changes of state in one run.

    :param run: the run
    :param commits: where it is noted that the record has changed
    :param progress: completes the progress of a task that has succeeded
    :param keeping: which results are let go of; None when all are kept
    :param go_on: whether a rollback goes on past an atom whose revert failed
    :param results: 'strict' if a result that lacks a part fails its task, 'lenient' if not; None where tasks say so
    """

    def __init__(
        self,
        run: Run,
        commits: Commits,
        progress: Progress,
        keeping: Keeping | None,
        *,
        go_on: bool,
        results: str | None,
    ) -> None:
        self._run = run
        self._plan, self._walk, self._details = run.plan, run.walk, run.details
        self._binder, self._storage, self._notifier = run.binder, run.storage, run.notifier
        self._commits = commits
        self._secrets = run.storage.writes.secrets
        self._progress = progress
        self._keeping = keeping
        self._go_on = go_on
        self._results = results
        #: whether the success of a plain task is all that there is to its end
        self.ends_plainly = keeping is None and self._secrets is None
        self._failures: dict[str, Failure] | None = None
        #: atoms whose reverts have failed and were tried again, with the failures
        self._reverts: dict[int, list[Any]] = {}

    # -- one atom ----------------------------------------------------------------------------------

    def move(self, i: int, state: str, result: Any = None, *, calls: bool = True) -> None:
        """Put an atom into a state, and publish that.

        :param calls: whether a call follows from a state in which one is made: then it is published after the commit
        """
        detail, commits = self._details[i], self._commits
        if commits.dirty is not None:
            commits.dirty.add(i)
        old, detail.state = detail.state, state
        if self._notifier._tfx_topics:
            if commits.dirty is not None and calls and state in states.CALLED:
                commits.unpublished.append((i, old, state))
                return
            try:
                self.publish(i, old, state, result)
            except BaseException:
                if state in states.CALLED:  # a subscriber was interrupted, and the call will not be made
                    detail.state = old
                raise

    def publish(self, i: int, old: str | None, state: str, result: Any = None) -> None:
        """Notify the subscribers to atoms of a move to a state."""
        subscribers = self._notifier._tfx_listeners_of(state)
        if subscribers:
            if self._secrets is not None:
                result = self._secrets.outcome(self._plan.atoms[i], result)
            detail = self._details[i]
            facts: dict[str, Any]
            if isinstance(self._plan.atoms[i], retry.Retry):
                facts = {"retry_name": detail.name, "retry_uuid": detail.uuid, "old_state": old}
            else:
                facts = {"task_name": detail.name, "task_uuid": detail.uuid, "old_state": old}
            if state in states.WITH_OUTCOME:
                facts["result"] = result
            elif old in states.UNDER_WAY and (state, old) != (states.RUNNING, states.RETRYING):
                facts["old_state"], facts["interrupted"] = _before(detail, old), old
            self._notifier._tfx_call_all(subscribers, state, facts)

    def commit(self) -> None:
        """Commit what is due, and publish what is about to start.

        :raises StorageFailure: when the store does not take it; it is then tried again with the next commit
        """
        commits = self._commits
        commits.commit_if_due()
        if commits.unpublished:
            starting, commits.unpublished = commits.unpublished, []
            for i, old, state in starting:
                self.publish(i, old, state)

    # -- its end -----------------------------------------------------------------------------------

    def end(self, i: int, verb: str, outcome: Any, *, known: bool = False) -> None:  # noqa: C901 - a step is a call
        """Record the outcome of a call, publish it, and release what waited for it.

        :param known: whether the outcome is certain
        """
        if failpoints.on:
            failpoints.hit("after completion")
        if type(outcome) is CoroutineType:
            outcome = Failure.from_exception(self._unawaited(i, verb, outcome))
        if self._run.time_limits is not None:
            outcome = self._run.time_limits.judged(i, verb, outcome)
        if self._run.cancelled is not None and self._is_left(i, verb, outcome):
            return
        detail = self._details[i]
        if self._run.reports is not None:
            self._run.reports.conclude(detail.name, verb, outcome)
        if (
            self._run.unknown is not None
            and i in self._plan.unknown
            and verb == states.EXECUTE
            and not known
            and (outcome := self._run.unknown.judge(i, outcome)) is self._run.unknown.OPEN
        ):
            return
        if type(outcome) is base.NotBegun:
            outcome = outcome.failure
            if verb == states.EXECUTE:
                self._note_not_called(i)
        failed = type(outcome) is Failure or type(outcome) in DERIVED_FAILURES
        if not failed and (self._commits.dirty is not None or not self._plan.plain[i]):
            outcome = self._accepted(i, verb, outcome)
            failed = type(outcome) is Failure or type(outcome) in DERIVED_FAILURES
        if self._run.joint is not None:
            outcome = self._run.joint.conclude(i, verb, outcome)
            failed = type(outcome) is Failure or type(outcome) in DERIVED_FAILURES
        if failed and self._secrets is not None:
            outcome = self._secrets.failure(outcome)
        if verb != states.EXECUTE:
            self._end_revert(i, outcome, failed=failed)
            return
        rolling_back = detail.intention != states.EXECUTE
        if failed:
            self.note_failure(i, outcome)
            self.move(i, states.FAILURE, detail.failure)
            self._run.failed.append(i)
        else:
            detail.store(outcome)
            if self._secrets is not None:
                self._secrets.remember(self._plan.atoms[i], outcome)
            self._progress.complete(detail)
            self.move(i, states.SUCCESS, outcome)
            atom = self._plan.atoms[i]
            if not self._plan.plain[i] and isinstance(atom, task.Task) and not atom._tfx_may_lack:
                self._storage.warn_of_missing(detail.name)
            if self._keeping is not None:
                self._let_go(i)
            if not rolling_back:
                self._walk.ran(i)
        if rolling_back:
            self._walk.finished(i)

    def _unawaited(self, i: int, verb: str, coroutine: Any) -> TypeError:
        """Return the error for an atom that has returned a coroutine, as a plain wrapper of an `async def` does."""
        what = "retry" if isinstance(self._plan.atoms[i], retry.Retry) else "task"
        return arguments.unawaited(f"{verb.lower()} of {what} '{self._details[i].name}'", coroutine)

    def _accepted(self, i: int, verb: str, result: Any) -> Any:
        """Return a result, or the failure in its place: it lacks a provided part, or the store cannot hold it."""
        atom = self._plan.atoms[i]
        if (
            verb == states.EXECUTE
            and isinstance(atom, task.Task)
            and (self._results == "strict" or (self._results is None and atom._tfx_strict))
        ):
            error = strict.mismatch(atom, result, hidden=metadata.is_sensitive(self._details[i]))
            if error is not None:
                self._storage.writes.unstored[atom.name] = result  # what it has done is to be undone by its revert
                return Failure.from_exception(error)
        return result if self._commits.dirty is None else self._commits.storable(i, verb, result)

    def end_apart(self, i: int, verb: str, outcome: Any) -> None:
        """As `end`, in a context of its own: subscribers do not see what the task has done to its context."""
        self._run.context.copy().run(self.end, i, verb, outcome)

    def _end_revert(self, i: int, outcome: Any, *, failed: bool) -> None:
        detail = self._details[i]
        if failed:
            detail.revert_failure = self._commits.storable_failure(i, outcome)
            self._storage.record.note_failed(detail.name, notes.attempt_of(self._plan, self._details, i))
            self.move(i, states.REVERT_FAILURE, detail.revert_failure)
            controls = self._plan.controls.get(i)
            again = controls is not None and self._reverts_again(i, controls.revert_retry)
            self._commits.commit_failure()
            if again:
                return
            if self._go_on:
                self._walk.cleared(i)
            return
        if self._secrets is not None and outcome is not None:
            outcome = self._secrets.masked(outcome)  # nobody takes it: it is there to be read
        detail.revert_failure = None
        detail.revert_results = outcome
        if detail.own_meta:
            detail.own_meta.pop(metadata.WAKE, None)
            self._forget_reverts(i)
        if self._storage.writes.unstored:
            self._storage.writes.unstored.pop(detail.name, None)
        if isinstance(self._plan.atoms[i], retry.Retry):
            detail.results = []
        self.move(i, states.REVERTED, outcome)
        self._walk.cleared(i)

    def _reverts_again(self, i: int, controller: retry.Retry | None) -> bool:
        """Have a revert that has failed called again, now or after a delay; returns whether it is."""
        if controller is None:
            return False
        detail, run = self._details[i], self._run
        try:
            seconds = self._seconds_before_revert(i, controller)
        except Exception as error:
            shown = self._storage.writes.masked(repr(error))
            LOG.warning("The revert_retry of task '%s' raised %s: its revert is not tried again", detail.name, shown)
            seconds = None
        if seconds is None:
            self._forget_reverts(i)
            return False
        if seconds:
            pauses.note(detail, run.clock, seconds)
        self._walk.interrupted.add(i)  # until it is taken: a region around it may be rolled back first
        self._walk.undo.append(i)
        return True

    def _seconds_before_revert(self, i: int, controller: retry.Retry) -> float | None:
        """Return after how many seconds a revert that has failed is called again; None if it is not.

        :raises Exception: what the controller has raised
        """
        detail, now = self._details[i], self._run.now()
        failure = detail.revert_failure
        since, times = detail.meta.get(metadata.REVERTS, (now, 0))
        # Of failures in earlier runs it is on record how many there were, but for the last one.
        attempts = self._reverts.setdefault(i, [(None, {detail.name: failure})] * times)
        attempts.append((None, {detail.name: failure}))
        detail.meta[metadata.REVERTS] = [since, len(attempts)]
        decision = controller.on_failure(history=retry.History(attempts))
        if decision != retry.RETRY:
            return None
        passed = max(now - since, 0.0)
        return pauses.seconds_before_next(controller, decision, failure, attempt=len(attempts), passed=passed)

    def _forget_reverts(self, i: int) -> None:
        self._details[i].meta.pop(metadata.REVERTS, None)
        self._reverts.pop(i, None)

    def note_failure(self, i: int, failure: Failure) -> None:
        """Put the failure of an atom on record; what is sensitive in it is masked already."""
        detail = self._details[i]
        detail.failure = self._commits.storable_failure(i, failure)
        self._storage.record.note_failed(detail.name, notes.attempt_of(self._plan, self._details, i))
        self._failures = None

    def failures(self) -> dict[str, Failure]:
        """Return atom name -> Failure; one dict until a further failure comes."""
        if self._failures is None:
            self._failures = self._storage.get_execute_failures()
        return self._failures

    def fail_uncalled(self, i: int, failure: Failure) -> None:
        """Record the failure of an atom whose execute cannot be called; its revert will not be called either."""
        self._note_not_called(i)  # first: what is interrupted behind it has not begun
        self.move(i, states.RUNNING, calls=False)
        self.end(i, states.EXECUTE, failure, known=True)  # its time limit, too: there was no call to ask about

    def _note_not_called(self, i: int) -> None:
        """Note that nothing of an atom is to be undone, unless an earlier call of it was interrupted."""
        if i not in self._run.repeated:
            self._details[i].meta[metadata.NOT_CALLED] = True

    def _is_left(self, i: int, verb: str, outcome: Any) -> bool:
        """Have a call made again when the run goes on, if it was stopped by a cancel that does not roll back."""
        cancelled = self._run.cancelled
        began = type(outcome) is not base.NotBegun
        failure = outcome if began else outcome.failure
        if cancelled is None or cancelled.rolls_back or verb != states.EXECUTE or not isinstance(failure, Failure):
            return False
        if failure.check(exceptions.Cancelled) is None:
            return False
        if began:
            self._run.repeated.add(i)
        self.requeue(base.Call(i, self._plan.atoms[i], verb, {}))
        return True

    def _let_go(self, ended: int) -> None:
        """Let go of results that no task takes any more, as an atom has ended."""
        if self._keeping is None:
            return
        for i in self._keeping.ended(ended):
            self._commits.mark(i)
            detail = self._details[i]
            detail.meta[models.META_LET_GO] = True  # first: an interrupt in between loses nothing unsaid
            detail.results = None
            self._binder.look_again(self._keeping.takers(i))  # who runs all the same is refused

    # -- what never begins -------------------------------------------------------------------------

    def skip(self, refused: int, depth: deciders.Depth) -> None:
        """Skip atoms after a veto, all of them before it is published: the record never has a part of a veto."""
        moved = []
        skipped, passed = self._run.vetoes.skipped_by(refused, depth)
        try:
            for i in reversed(skipped):  # the refused one last: until it is skipped, its deciders are asked again
                detail = self._details[i]
                if detail.state in states.FRESH:  # another decider may have skipped it; what is done is done
                    moved.append((i, detail.state))
                    self._commits.mark(i)
                    if i == refused:
                        detail.meta = {**detail.meta, vetoes.META_REFUSED: depth.value}
                    detail.state = detail.intention = states.IGNORE
        except BaseException:  # an interrupt: a veto of which the record has a part would be known to nobody
            for i, old in moved:
                self._details[i].state, self._details[i].intention = old, states.EXECUTE
                self._details[i].meta.pop(vetoes.META_REFUSED, None)
            raise
        self._run.vetoes.note(refused, depth, passed)
        self._walk.ignore(refused, [i for i, _ in moved])
        for i, _ in moved:
            self._let_go(i)
        if self._notifier._tfx_topics:
            for i, old in reversed(moved):
                self.publish(i, old, states.IGNORE)

    def requeue(self, call: base.Call) -> None:
        """Bring the atom of a call that never began back to its state before."""
        if self._run.questions is not None and type(call.atom) is Question:
            self._run.questions.withdraw(call)
            return
        walk, i = self._walk, call.index
        detail = self._details[i]
        if self._run.time_limits is not None:
            self._run.time_limits.forget(i)
        self._commits.mark(i)
        if self._run.requeued is not None:
            self._run.requeued.append(~i if call.verb == states.REVERT else i)
        if call.verb == states.REVERT:
            detail.state = _before(detail, states.REVERTING)
            walk.undo.append(i)
            return
        rolling_back = detail.intention != states.EXECUTE
        if isinstance(call.atom, retry.Retry) and detail.results:  # it was to run again
            detail.state = states.SUCCESS
            if not rolling_back:
                detail.intention = states.RETRY
                walk.note_rolling_back(i, i + 1)
                walk.unmet[i] = self._plan.degree[i]
                walk.standing[i] = 0
                walk.undo.append(i)
        else:
            if i in self._run.repeated:
                walk.interrupted.add(i)
            else:
                detail.state = states.PENDING
            if not rolling_back:
                walk.ready.append(i)
        if rolling_back and not walk.standing[i]:
            walk.freed(i)

    def requeue_all(self) -> None:
        """Requeue all calls that were got ready."""
        for calls in self._run.got_ready:
            while calls:
                self.requeue(calls[-1])
                calls.pop()

    # -- what begins again -------------------------------------------------------------------------

    def restart(self, r: int) -> None:
        """Reset the region of a retry, which is to run again, and what a veto in it has skipped after it."""
        details, run, counted = self._details, self._run, self._binder.counted
        detail = details[r]
        if detail.results:  # of an attempt that is over, what its variables held is of no use
            detail.note_failure({name: failure._tfx_past() for name, failure in detail.last_failures.items()})
        if detail.own_meta:
            detail.own_meta.pop(metadata.WAKE, None)
        self.move(r, states.RETRYING)
        region = self._plan.region(r)
        readmitted = run.vetoes.readmitted(*region, details) if self._plan.votes else []
        if run.repeated:
            run.repeated.difference_update(range(*region))
        for i in self._walk.restart(r, readmitted):
            old = details[i].state
            self._commits.mark(i)
            reset(details[i], counted=i in counted)
            if old != states.PENDING and self._notifier._tfx_topics:
                self.publish(i, old, states.PENDING)
        if r in counted:
            _count_round(detail)
        detail.intention = states.EXECUTE
        if self._keeping is not None:
            self._keeping.recount()
        self._walk.restarted(r)


def reset(detail: AtomDetail, *, counted: bool) -> None:
    """Bring the record of an atom back to its beginning.

    :param counted: whether it is counted how often that is done
    """
    if counted:
        _count_round(detail)
    if detail.own_meta:
        for key in _OF_ONE_ROUND:
            detail.own_meta.pop(key, None)
    detail.reset(states.PENDING)


def _count_round(detail: AtomDetail) -> None:
    """Note that what an atom does from now on is new, and no repetition of what it has done."""
    meta = detail.meta
    meta[metadata.ROUND] = meta.get(metadata.ROUND, 0) + 1
    meta.pop(metadata.ATTEMPT, None)
    meta.pop(metadata.REVERT_ATTEMPT, None)


def count_attempt(detail: AtomDetail) -> bool:
    """Note that a call which was interrupted in an earlier run is made again; returns whether there was one."""
    counted = {
        states.RUNNING: metadata.ATTEMPT,
        states.REVERTING: metadata.REVERT_ATTEMPT,
        states.REVERT_FAILURE: metadata.REVERT_ATTEMPT,
    }.get(detail.state or "")
    if counted is None:
        return False
    detail.meta[counted] = detail.meta.get(counted, 1) + 1
    return True


def forget_part(detail: AtomDetail) -> None:
    """Remove from the record of an atom the part that an interrupted execute, which is called again, has left there."""
    detail.failure = None
    if detail.own_meta:
        detail.own_meta.pop(metadata.NOT_CALLED, None)
    if detail.KIND == "retry" and detail.results and not detail.results[-1][1]:
        detail.results.pop()  # an attempt that did not fail is not followed by another one


def _before(detail: AtomDetail, interrupted: str) -> str:
    """Return the state from which an atom goes on that was interrupted in another one: what was under way is void.

    Nobody knows how far an execute has come that is undone, so it counts as one that has failed.
    """
    if interrupted == states.RUNNING:
        if detail.intention != states.EXECUTE:
            return states.FAILURE
        return states.RETRYING if detail.KIND == "retry" and detail.results else states.PENDING
    if interrupted == states.RETRYING:
        return states.SUCCESS
    if detail.revert_failure is not None:
        return states.REVERT_FAILURE
    return states.SUCCESS if detail.failure is None else states.FAILURE
