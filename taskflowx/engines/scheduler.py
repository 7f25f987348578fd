"""The loop of one run.

    ┌ take      run         what is ready, by priority and then in the order of the Plan
    │ bind      prepare     arguments from where they are found; a missing value is a Failure of the atom
    │ mark      transitions RUNNING / REVERTING
    │ commit    commits     what has changed in one transaction; nothing when the record lives in memory alone
    │ publish   transitions RUNNING / REVERTING events
    │ submit    dispatch    the executor delivers outcomes to one mailbox; `inline` makes calls in place
    │ record    dispatch    results and Failures, and the events of them
    │ release   walk        successors of what ran, predecessors of what was reverted
    └ resolve   rollback    a Failure rolls a region back

The engine makes one `Scheduler` for a run and iterates over it. What must stay true:

- Only the thread that iterates touches Walk and details. Others put outcomes and progress into the mailbox.
- What is ready together is taken together: a failure is resolved after the calls that were taken with it.
- A turn costs what has changed: nothing here looks at atoms that neither ended nor became ready.
"""

from __future__ import annotations

import queue
from collections.abc import Generator
from typing import TYPE_CHECKING

from taskflowx import retry, states, task
from taskflowx._util import failpoints
from taskflowx.engines import endings, life
from taskflowx.engines.commits import Commits
from taskflowx.engines.dispatch import Dispatch
from taskflowx.engines.inline import Inline
from taskflowx.engines.prepare import Prepare
from taskflowx.engines.progress import Progress
from taskflowx.engines.resume import open_run
from taskflowx.engines.rollback import Rollback
from taskflowx.engines.shared import Cancel
from taskflowx.engines.time_limits import LIMITS, TimeLimits
from taskflowx.engines.timers import ATOM
from taskflowx.engines.transitions import Transitions
from taskflowx.engines.unknown import Unknown
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.admission import Admission
    from taskflowx.engines.keeping import Keeping
    from taskflowx.engines.options import Options
    from taskflowx.engines.shared import Run
    from taskflowx.engines.timers import Key
    from taskflowx.executors import base


#: so often, and once more, the end of calls is waited for when the wait is interrupted
_WAITS = 3
#: when nothing is to be done for so many seconds, threads are let go of
_WORTH_A_REST = 1.0


class Scheduler:
    """The loop of one run.

    :param shared: the run
    :param options: the options of the engine
    :param keeping: which results are let go of; None when all are kept
    """

    def __init__(self, shared: Run, options: Options, keeping: Keeping | None) -> None:
        self.shared = shared
        self._walk, self._details, self._executor = shared.walk, shared.details, shared.executor
        self._commits = commits = Commits(shared, options.seconds_between_commits)
        self._progress = progress = Progress(shared, commits)
        self._transitions = transitions = Transitions(
            shared, commits, progress, keeping, go_on=options.goes_on, results=options.results
        )
        if shared.plan.unknown:
            shared.unknown = Unknown(shared, commits, transitions)
        shared.make_joint(commits)
        self._prepare = prepare = Prepare(shared, transitions, go_on=options.goes_on)
        self._rollback = Rollback(shared, commits, transitions, options)
        # Where the record is stored, the outcome of a call is on record before the next one begins: no short path.
        # Where a history is kept, it says when and where each call began.
        self._short = commits.dirty is None and shared.log is None
        short = self._short and keeping is None and shared.storage.writes.secrets is None
        inlinable = None if short else [0] * len(shared.plan)
        self._dispatch = Dispatch(shared, transitions, progress, inlinable)
        self._inline = Inline(shared, commits, transitions, prepare, progress, self._stops, inlinable)
        #: the limits of the run; None without any
        self._admission: Admission | None = None
        if shared.plan.limited is not None or shared.plan.times_calls or options.max_in_flight is not None:
            from taskflowx.engines import admission  # who limits nothing does without it

            self._admission = admission.of(shared, options)
        #: the atoms that ask for their attempt, where a crash may come between
        self._counted = frozenset() if commits.dirty is None else frozenset(shared.binder.counted)
        #: how far the run has come: whether the executor was started, whether it was stopped, whether all is on record
        self._started = self._stopped = self._finished = False
        self._waits = _WAITS
        if shared.plan.timeouts or shared.plan.times_calls:
            self._limits()

    def stop(self) -> None:
        """Start nothing new; what runs is let finish. May be called from any thread."""
        self.shared.stop()

    def cancel(self, asked: Cancel) -> None:
        """Stop, and have what runs stopped. May be called from any thread."""
        self.shared.cancel(asked)

    @property
    def unfinished(self) -> bool:
        """Whether there is something left that could have started."""
        walk = self._walk
        return bool(walk.ready or walk.undo or walk.held or self.shared.timers.parked or self.shared.failed)

    @property
    def asked(self) -> list[str]:
        """The names of the atoms of which somebody has to give the outcome."""
        unknown = self.shared.unknown
        return unknown.asked() if unknown is not None else []

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, timeout: float | None = None, *, stepwise: bool = False) -> Generator[str, None, None]:
        """Run until nothing is left to do, yielding what is done next.

        :param timeout: seconds after which nothing new starts, or everything is rolled back, if `late_error` is set
        :param stepwise: whether each turn is to be seen; otherwise calls in place follow each other within one turn
        """
        shared = self.shared
        if timeout is not None:
            shared.deadline = shared.clock.monotonic() + timeout
        try:
            try:
                yield from self._turns(stepwise=stepwise)
            except BaseException as error:
                shared.interrupts.note(error)
                if self._executor.within_a_loop and not isinstance(error, GeneratorExit):
                    yield from self._let_finish()
        finally:
            self.finish()
        if shared.interrupts.left_by is not None:
            raise shared.interrupts.left_by

    def _turns(self, *, stepwise: bool) -> Generator[str, None, None]:
        shared, walk, timers = self.shared, self._walk, self.shared.timers
        open_run(shared, self._commits, self._transitions, self._rollback)
        if shared.time_limits is not None or shared.late_error is not None:
            self._limits().open()
        if shared.only_undoes:
            walk.ready.clear()
        self._start_executor(stepwise=stepwise)
        while True:
            yield states.SCHEDULING
            shared.context.copy().run(self._start, stepwise=stepwise)
            if self.rests:
                self._executor.rest()
            yield states.WAITING
            self._wait()
            yield states.ANALYZING
            shared.context.copy().run(self._record)
            if timers.moments:
                timers.fire(self._act)
            if shared.stopping:
                self._stop_calls()
            if (
                not shared.in_flight
                and (shared.stopping or not (walk.ready or walk.undo or walk.held or timers.parked or shared.failed))
                and not self._rolls_back_cancelled()
            ):
                break

    def _start_executor(self, *, stepwise: bool) -> None:
        shared, executor = self.shared, self._executor
        shared.use_context(self._progress.report_in_place)
        alone = self._short and not stepwise and shared.plan.rank is None and self._admission is None
        executor.next_of = self._dispatch.next_of if alone else None
        executor.check_progress = self._progress.check
        executor.deadline = shared.deadline if shared.clock.is_real and shared.late_error is None else None
        self._started = True
        shared.clock.subscribe(shared.wake)
        shared.context.run(executor.start, shared.deliver)
        task.REPORTERS.append(self._progress.reporter_of)

    def _start(self, *, stepwise: bool) -> None:
        """Start all that can start now: in place, or by giving it to the executor."""
        shared, walk, executor, limits = self.shared, self._walk, self._executor, self._admission
        while not self._stops() and (walk.ready or walk.undo or walk.held):
            if shared.failed and shared.questions is not None:  # that is to be resolved first, once it is answered
                break
            if limits is not None and not limits.admit():
                break
            alone = not (shared.in_flight or walk.held or shared.time_limits or shared.deadline is not None)
            if not (executor.serial or (executor.inline and alone and len(walk.ready) + len(walk.undo) == 1)):
                if not self._submit_what_begins():
                    break
            else:
                self._make_here(stepwise=stepwise)
            if shared.failed:
                self._resolve_failures()
            if stepwise:
                break
        self._transitions.commit()
        if shared.questions is not None and not self._stops() and (asked := shared.questions.take()):
            self._dispatch.submit(asked)

    def _make_here(self, *, stepwise: bool) -> None:
        """Make the calls that can start in the thread of the engine."""
        shared, walk, limits = self.shared, self._walk, self._admission
        at_once = stepwise or limits is not None  # what becomes ready is not followed: it may have to wait
        undoes = bool(walk.undo)
        if undoes:
            if limits is not None:
                limits.put_back([], walk.ready)
            self._inline.undo(self._hold_no_more(shared.take_undo(), undo=True), stepwise=at_once)
        # A retry may have made more ready than one, and what was not admitted.
        if walk.ready and not (undoes and (limits is not None or not self._executor.serial)):
            self._inline.execute(self._hold_no_more(shared.take_ready(), undo=False), stepwise=at_once)

    def _hold_no_more(self, batch: list[int], *, undo: bool) -> list[int]:
        """Return a batch that holds nothing of a limit: it is made here, and nothing else runs, or is not called."""
        if self._admission is not None:
            self._admission.release(batch, undo=undo)
        return batch

    def _submit_what_begins(self) -> bool:
        """Submit what can start, but for calls that ask for their attempt and would wait for a worker.

        These have not begun, and the record does not say that they have: after a crash they see a first attempt.
        Returns whether there was something to submit.
        """
        walk, questions = self._walk, self.shared.questions
        if questions is not None:
            asking = questions.hold_back()
            try:
                return bool(walk.undo or walk.ready) and self._submit_what_is_decided()
            finally:
                walk.ready[:0] = asking
                if self._admission is not None:
                    self._admission.put_back([], asking)
        return self._submit_what_is_decided()

    def _submit_what_is_decided(self) -> bool:
        if not self._counted:
            self._submit_all()
            return True
        walk = self._walk
        undo, ready = self._hold_back()
        try:
            begins = bool(walk.undo or walk.ready)
            if begins:
                self._submit_all()
        finally:
            walk.undo[:0], walk.ready[:0] = undo, ready
            if self._admission is not None:
                self._admission.put_back(undo, ready)
        return begins

    def _hold_back(self) -> tuple[list[int], list[int]]:
        """Remove from the Walk what asks for its attempt and would not begin now, and return it."""
        walk, counted, shared = self._walk, self._counted, self.shared
        held = [i for i in walk.undo if i in counted], [i for i in walk.ready if i in counted]
        if not any(held):
            return held
        others = [i for i in walk.undo if i not in counted], [i for i in walk.ready if i not in counted]
        if any(others):  # their retries are executed before the calls of the same batch
            walk.undo, walk.ready = others
            return held
        for batch in held:
            shared.arrange(batch)
        retries = [i for batch in held for i in batch if isinstance(shared.plan.atoms[i], retry.Retry)]
        if retries:  # they are executed here, one after another
            begin = {retries[0]}
        else:
            width = self._executor.width
            room = None if width is None else max(width - shared.in_flight, 0)
            begin = set([*held[0], *held[1]][:room])
        walk.undo, walk.ready = [i for i in held[0] if i in begin], [i for i in held[1] if i in begin]
        return [i for i in held[0] if i not in begin], [i for i in held[1] if i not in begin]

    def _submit_all(self) -> None:
        """Submit all that can start; retries, which keep state of their own, run here, unless they are awaited."""
        shared, prepare = self.shared, self._prepare
        undo, ready = shared.take_undo(), shared.take_ready()
        if self._short and not undo:
            ready = self._dispatch.submit_plain(ready)
        calls: list[base.Call] = []
        retries: list[base.Call] = []
        shared.got_ready = calls, retries
        for got_ready, batch in ((prepare.undo, undo), (prepare.execute, ready)):
            for i in batch:
                if failpoints.on:
                    failpoints.hit("in a batch")
                call = got_ready(i)
                if call is not None:
                    (retries if self._inline.concerns(call) else calls).append(call)
                else:
                    self._hold_no_more([i], undo=batch is undo)
        self._transitions.commit()
        if shared.deadline is not None and self._stops():  # the subscribers to their beginning took too long
            self._transitions.requeue_all()
            return
        retries.reverse()
        self._inline.make_all(retries, self._hold_no_more)
        if calls:
            if shared.stopping:
                self._dispatch.published = calls
            self._dispatch.submit(calls)

    def _stops(self) -> bool:
        """Tell whether nothing more is to start."""
        shared = self.shared
        if shared.is_late():
            if shared.late_error is not None:
                shared.cancelled = shared.cancelled or Cancel(shared.late_error, rolls_back=True)
            shared.stopping = shared.timed_out = True
            self._executor.next_of = None
            self._dispatch.cancel()  # before it is published that the run stops, as that may take its time
        return shared.stopping

    def _wait(self) -> None:
        """Wait for one outcome, then take all that are there; commits that fall due meanwhile are made."""
        shared, commits, timers = self.shared, self._commits, self.shared.timers
        while shared.in_flight or self._waits_for_time():
            try:
                timeless = not (timers.moments or commits.dirty or commits.progressed or self._walk.held)
                shared.take_next(None if timeless and shared.deadline is None else self.seconds_to_wait())
            except queue.Empty:
                if (shared.deadline is not None and self._stops()) or self._due() <= shared.clock.monotonic():
                    break
                self._transitions.commit()
                if self._executor.within_a_loop:
                    break
            else:
                break
        shared.take_delivered()

    @property
    def rests(self) -> bool:
        """Whether nothing is under way, and nothing to be done for a while."""
        idle = not self.shared.in_flight and self._waits_for_time()
        return idle and self._due() - self.shared.clock.monotonic() >= _WORTH_A_REST

    def _waits_for_time(self) -> bool:
        """Tell whether there is nothing to do but to wait until a moment has come."""
        shared, walk, limits = self.shared, self._walk, self._admission
        if shared.stopping or shared.in_flight or walk.ready or walk.undo:
            return False
        return limits.awaits_time() if limits is not None and walk.held else bool(shared.timers.parked)

    def _due(self) -> float:
        """Return the next moment at which there is something to do, a time of the clock; infinity for never."""
        due = self.shared.timers.next_due()
        return due if self._admission is None else min(due, self._admission.due())

    def _act(self, key: Key) -> None:
        """Do what is to be done at a moment that has come."""
        kind, i = key
        if kind != ATOM:
            if kind in LIMITS:
                self._dispatch.cancel()
            self._limits().act(key)
            return
        self._details[i].meta.pop(metadata.WAKE, None)
        if self._walk.closed or i not in self._walk.undo:
            self._walk.undo.append(i)

    def seconds_to_wait(self) -> float | None:
        """Return after how many seconds without an outcome something is to be done; None for never."""
        shared = self.shared
        if not (shared.in_flight or self._waits_for_time()):
            return 0.0
        due = min(self._commits.due_at(), self._due())
        if shared.deadline is not None and not shared.timed_out:
            due = min(due, shared.deadline)
        return shared.clock.wait_for(due, idle=not shared.in_flight)

    def _record(self) -> None:
        """Record what was delivered, and resolve the failures in it.

        :raises BaseException: what came out of a call and is no `Exception`
        """
        self._dispatch.record()
        if self.shared.failed:
            self._resolve_failures()

    def _resolve_failures(self) -> None:
        if self.shared.cancelled is not None and not self.shared.rolled_back:
            return  # all is rolled back, or they are resolved when the run goes on
        self._dispatch.unchain()
        self._rollback.resolve_failures()

    def _stop_calls(self) -> None:
        """Cancel what has not begun, as the run is to stop; of a run that is cancelled, stop what has."""
        shared = self.shared
        cancelled = shared.cancelled
        if cancelled is None or shared.rolled_back:
            self._dispatch.cancel_to_stop()
            if shared.failed:
                self._resolve_failures()
            return
        self._dispatch.published = [call for call in self._dispatch.published if call.verb == states.REVERT]
        self._dispatch.cancel_to_stop()
        if shared.in_flight:
            self._limits().cancel(cancelled.error)

    def _limits(self) -> TimeLimits:
        """Return the time limits of the run, which also know which calls are to stop."""
        shared = self.shared
        if shared.time_limits is None:
            shared.time_limits = TimeLimits(shared, self._commits)
        return shared.time_limits

    def _rolls_back_cancelled(self) -> bool:
        """Begin to roll everything back, as the run is cancelled and at rest; returns whether there is more to do."""
        shared = self.shared
        if shared.cancelled is None or not shared.cancelled.rolls_back or shared.rolled_back:
            return False
        error, masked = shared.cancelled.error, shared.storage.writes.masked
        shared.storage.flow_meta.pop(metadata.ROLLED_BACK_TO, None)
        shared.storage.update_flow_metadata({metadata.CANCELLED: [type(error).__name__, masked(str(error))]})
        shared.only_undoes = False
        self._rollback.roll_back_all()
        shared.token.error = None
        shared.rolled_back, shared.stopping, shared.deadline = True, False, None
        return True

    # -- its end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let what has begun end, and put its outcomes on record; the second time there is nothing to do.

        An interrupt is noted, and what it has cut short is done again. Who insists does not wait for calls any more;
        the later outcomes of these `finish_late` puts on record.
        """
        if not self._finished:
            self.shared.interrupts.defy(self._finish)

    def finish_late(self) -> None:
        """Put on record the outcomes of calls since an interrupted run was left.

        :raises BaseException: an interrupt; there may be more to put on record then
        """
        shared = self.shared
        shared.interrupts = life.Interrupts()
        self._finished, self._waits = False, _WAITS
        self.finish()
        if shared.interrupts.left_by is not None:
            raise shared.interrupts.left_by

    def _finish(self) -> None:
        """End the run. Each step may be done again, when an interrupt has come in it or after it.

        Nothing here goes by the Walk, which an interrupt may have left half changed: the details are the truth.
        """
        shared, dispatch, inline = self.shared, self._dispatch, self._inline
        shared.clock.unsubscribe(shared.wake)
        if self._progress.reporter_of in task.REPORTERS:
            task.REPORTERS.remove(self._progress.reporter_of)
        self._progress.in_place = -1
        self._executor.next_of = None
        self._commits.unpublished.clear()
        self._transitions.requeue_all()
        if self._started and not self._stopped:
            dispatch.cancel()
            if self._waits >= 0:
                if self._waits == _WAITS:
                    self._tell_of_the_wait()
                self._waits -= 1
                self._executor.stop()
                self._stopped = True
        if inline.made is not None:
            shared.delivered.append(inline.made)
            inline.made = None
        dispatch.salvage()
        self._commits.commit()
        self._finished = True

    def _tell_of_the_wait(self) -> None:
        self.shared.take_delivered()
        ended = {call.index for call in self._dispatch.ended()}
        endings.tell_of_the_wait(self.shared, ended, leaves=_WAITS + 1)

    def _let_finish(self) -> Generator[str, None, None]:
        """Have the loop that is not ours finish the calls under way, while the run is left."""
        shared = self.shared
        for _ in range(_WAITS):
            try:
                self._dispatch.cancel()
                while True:  # its end, other than that of a loop with a condition, belongs to the `try` in each CPython
                    if self._dispatch.has_ended():
                        break
                    yield states.WAITING
                    shared.take_delivered()
            except BaseException as error:
                shared.interrupts.note(error)
                if isinstance(error, GeneratorExit):
                    return
            else:
                return
