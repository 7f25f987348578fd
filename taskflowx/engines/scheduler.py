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

import math
import queue
import time
from typing import TYPE_CHECKING

from taskflowx import retry, states, task
from taskflowx._util import failpoints, logs
from taskflowx.engines import life
from taskflowx.engines.commits import Commits
from taskflowx.engines.dispatch import Dispatch
from taskflowx.engines.inline import Inline
from taskflowx.engines.prepare import Prepare
from taskflowx.engines.progress import Progress
from taskflowx.engines.resume import open_run
from taskflowx.engines.rollback import Rollback
from taskflowx.engines.transitions import Transitions
from taskflowx.executors import base
from taskflowx.logging import RUN

if TYPE_CHECKING:
    from collections.abc import Generator

    from taskflowx.engines.keeping import Keeping
    from taskflowx.engines.options import Options
    from taskflowx.engines.shared import Run


LOG = logs.calm(__name__)

#: so many atoms are named for which an interrupted run waits
_NAMED = 5
#: so often, and once more, the end of calls is waited for when the wait is interrupted
_WAITS = 3
#: so many seconds are waited at once at most: queues, selectors and locks differ in how many they bear
_LONGEST_WAIT = 3600.0


class Scheduler:
    """The loop of one run.

    :param shared: the run
    :param options: the options of the engine
    :param keeping: which results are let go of; None when all are kept
    """

    def __init__(self, shared: Run, options: Options, keeping: Keeping | None) -> None:
        self.shared = shared
        self._walk, self._executor = shared.walk, shared.executor
        self._commits = commits = Commits(shared, options.seconds_between_commits)
        self._progress = progress = Progress(shared, commits)
        self._transitions = transitions = Transitions(shared, commits, progress, keeping, go_on=options.goes_on)
        self._prepare = prepare = Prepare(shared, transitions, go_on=options.goes_on)
        self._rollback = Rollback(shared, commits, transitions, options)
        # Where the record is stored, the outcome of a call is on record before the next one begins: no short path.
        inlinable = None if commits.dirty is None and keeping is None else [0] * len(shared.plan)
        self._dispatch = Dispatch(shared, transitions, progress, inlinable)
        self._inline = Inline(shared, transitions, prepare, progress, self._stops, inlinable)
        #: how far the run has come: whether the executor was started, whether it was stopped, whether all is on record
        self._started = self._stopped = self._finished = False
        self._waits = _WAITS

    def stop(self) -> None:
        """Start nothing new; what runs is let finish. May be called from any thread."""
        self.shared.stop()

    @property
    def unfinished(self) -> bool:
        """Whether there is something left that could have started."""
        return bool(self._walk.ready or self._walk.undo)

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, timeout: float | None = None, *, stepwise: bool = False) -> Generator[str, None, None]:
        """Run until nothing is left to do, yielding what is done next.

        :param timeout: seconds after which nothing new starts
        :param stepwise: whether each turn is to be seen; otherwise calls in place follow each other within one turn
        """
        shared = self.shared
        if timeout is not None:
            shared.deadline = time.monotonic() + timeout
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
        shared, walk = self.shared, self._walk
        open_run(shared, self._commits, self._transitions, self._rollback)
        self._start_executor(stepwise=stepwise)
        while True:
            yield states.SCHEDULING
            shared.context.copy().run(self._start, stepwise=stepwise)
            yield states.WAITING
            self._wait()
            yield states.ANALYZING
            shared.context.copy().run(self._record)
            if shared.stopping:
                self._dispatch.cancel_to_stop()
                if shared.failed:
                    self._resolve_failures()
            if not shared.in_flight and (shared.stopping or not (walk.ready or walk.undo)):
                break

    def _start_executor(self, *, stepwise: bool) -> None:
        shared, executor = self.shared, self._executor
        shared.context = base.context_of_calls(self._progress.report_in_place)
        shared.context.run(RUN.set, (shared.storage.flow_name, shared.storage.flow_uuid))
        alone = self._commits.dirty is None and not stepwise and shared.plan.rank is None
        executor.next_of = self._dispatch.next_of if alone else None
        executor.check_progress = self._progress.check
        executor.deadline = shared.deadline
        self._started = True
        shared.context.run(executor.start, shared.mailbox.put)
        task.REPORTERS.append(self._progress.reporter_of)

    def _start(self, *, stepwise: bool) -> None:
        """Start all that can start now: in place, or by giving it to the executor."""
        shared, walk, executor = self.shared, self._walk, self._executor
        while not self._stops() and (walk.ready or walk.undo):
            alone = not shared.in_flight and len(walk.ready) + len(walk.undo) == 1 and shared.deadline is None
            if not (executor.serial or (executor.inline and alone)):
                self._submit_all()
            else:
                undoes = bool(walk.undo)
                if undoes:
                    self._inline.undo(shared.take_undo(), stepwise=stepwise)
                if walk.ready and (executor.serial or not undoes):  # a retry may have made more ready than one
                    self._inline.execute(shared.take_ready(), stepwise=stepwise)
            if shared.failed:
                self._resolve_failures()
            if stepwise:
                break
        self._transitions.commit()

    def _submit_all(self) -> None:
        """Submit all that can start; retries, which keep state of their own, run here on every executor."""
        shared, prepare = self.shared, self._prepare
        undo, ready = shared.take_undo(), shared.take_ready()
        if self._commits.dirty is None and not undo:
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
                    (retries if isinstance(call.atom, retry.Retry) else calls).append(call)
        self._transitions.commit()
        if shared.deadline is not None and self._stops():  # the subscribers to their beginning took too long
            self._transitions.requeue_all()
            return
        retries.reverse()
        while retries:
            self._inline.make(retries.pop())
        if calls:
            if shared.stopping:
                self._dispatch.published = calls
            self._dispatch.submit(calls)

    def _stops(self) -> bool:
        """Tell whether nothing more is to start."""
        shared = self.shared
        if shared.is_late():
            shared.stopping = shared.timed_out = True
            self._executor.next_of = None
            self._dispatch.cancel()  # before it is published that the run stops, as that may take its time
        return shared.stopping

    def _wait(self) -> None:
        """Wait for one outcome, then take all that are there; commits that fall due meanwhile are made."""
        shared, commits = self.shared, self._commits
        while shared.in_flight:
            try:
                idle = shared.deadline is None and not (commits.dirty or commits.progressed)
                shared.take_next(None if idle else self.seconds_to_wait())
            except queue.Empty:
                if shared.deadline is not None and self._stops():
                    break
                self._transitions.commit()
                if self._executor.within_a_loop:
                    break
            else:
                break
        shared.take_delivered()

    def seconds_to_wait(self) -> float | None:
        """Return after how many seconds without an outcome something is to be done; None for never."""
        shared = self.shared
        if not shared.in_flight:
            return 0.0
        due = self._commits.due_at()
        if shared.deadline is not None and not shared.timed_out:
            due = min(due, shared.deadline)
        return None if due == math.inf else max(min(due - time.monotonic(), _LONGEST_WAIT), 0.0)

    def _record(self) -> None:
        """Record what was delivered, and resolve the failures in it.

        :raises BaseException: what came out of a call and is no `Exception`
        """
        self._dispatch.record()
        if self.shared.failed:
            self._resolve_failures()

    def _resolve_failures(self) -> None:
        self._dispatch.unchain()
        self._rollback.resolve_failures()

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
        """Say for what an interrupted run waits: else nobody can tell it from one that hangs."""
        shared = self.shared
        left_by = shared.interrupts.left_by
        if left_by is None or isinstance(left_by, GeneratorExit):
            return
        shared.take_delivered()
        ended = {call.index for call in self._dispatch.ended()}
        count = shared.in_flight - len(ended)
        if count > 0:
            names = [
                detail.name
                for i, detail in enumerate(shared.details)
                if detail is not None and detail.state in states.CALLED and i not in ended
            ]
            shown = ", ".join(map(repr, names)) if len(names) == count <= _NAMED else f"{count} of them"
            LOG.warning("Interrupted by %s: waiting for the calls under way, %s", type(left_by).__name__, shown)

    def _let_finish(self) -> Generator[str, None, None]:
        """Have the loop that is not ours finish the calls under way, while the run is left."""
        shared = self.shared
        for _ in range(_WAITS):
            try:
                self._dispatch.cancel()
                while not self._dispatch.has_ended():
                    yield states.WAITING
                    shared.take_delivered()
            except BaseException as error:
                shared.interrupts.note(error)
                if isinstance(error, GeneratorExit):
                    return
            else:
                return
