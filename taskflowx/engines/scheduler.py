"""The loop of one run.

    ┌ take      walk       what is ready, by priority and then in the order of the Plan
    │ bind      binding    arguments from where they are found; a missing value is a Failure of the atom
    │ mark      details    RUNNING / REVERTING
    │ commit    storage    what has changed in one transaction; nothing when the record lives in memory alone
    │ announce  notifier   RUNNING / REVERTING events
    │ submit    executor   serial runs the call in place; others deliver it to one queue
    │ learn     details    results and Failures, and the events of them
    │ release   walk       successors of what ran, predecessors of what was reverted
    └ resolve   resolve    a Failure turns a region round

The engine makes one `Scheduler` for a run and iterates over it. What must stay true:

- Only the thread that iterates touches Walk and details. Others put completions and progress on the queue.
- What is ready together is taken together: a failure is resolved after the calls that were taken with it.
- A turn costs what has changed: nothing here looks at atoms that neither ended nor became ready.
- On the short path, which is that of a plain task that runs in place, nothing is called but the task and those who
  listen, and nothing is made but its arguments and what these are told.
"""

from __future__ import annotations

import contextvars
import functools
import math
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry, states, task
from taskflowx._util import failpoints, logs
from taskflowx.atom import REVERT_RESULT
from taskflowx.engines import life, refusals, resolve
from taskflowx.engines.calling import BOUND, NOBODY, TAKES_BOTH, TAKES_RESULT, UNBOUND
from taskflowx.engines.unclosed import CLEAR, UNDONE_WITH
from taskflowx.executors import base
from taskflowx.logging import RUN
from taskflowx.persistence import models
from taskflowx.storage import (
    META_ATTEMPT,
    META_PROGRESS,
    META_PROGRESS_DETAILS,
    META_REVERT_ATTEMPT,
    META_ROUND,
    is_let_go,
    progress_facts,
)
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from taskflowx import deciders
    from taskflowx.engines.binding import Binder
    from taskflowx.engines.keeping import Keeping
    from taskflowx.engines.plan import Plan
    from taskflowx.engines.walk import Walk
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.storage import Storage
    from taskflowx.types.notifier import Notifier

LOG = logs.calm(__name__)

#: in the metadata of an atom whose execute was never called, as when an argument could not be had: nothing to undo
META_NOT_CALLED = "not_called"

_WORD = 2**63  # what an int is below that is taken without a look
#: how many plain calls are got ready before they are handed over
_PART = 512
#: so many atoms are named for which an interrupted run waits
_NAMED = 5
#: so often, and once more, the end of calls is waited for when the wait is interrupted
_WAITS = 3
#: the outcome of a call in place that has raised, until it is on record, is this with the exception
_RAISED = object()
#: at least so long lies between commits that carry nothing but progress
_SECONDS_FOR_PROGRESS = 1.0
#: so many seconds are waited at once at most: queues, selectors and locks differ in how many they bear
_LONGEST_WAIT = 3600.0


class Scheduler:
    """One run of a plan.

    :param plan: what must happen
    :param walk: what can happen now
    :param details: the record of each atom, by index
    :param binder: gives the arguments of a call
    :param storage: the record by name
    :param executor: where calls run
    :param notifier: gets the transitions of atoms
    :param defer_reverts: see `resolve.resolve`
    :param never_resolve: whether failures turn nothing round
    :param go_on: whether a rollback goes on past an atom whose revert failed
    :param commit_interval: seconds that may pass between commits: 0 for one before each call or batch of calls,
        infinity for none but after a failure and at the end
    :param arrange: puts a list of ready atoms in the order in which they start, in place
    """

    def __init__(
        self,
        plan: Plan,
        walk: Walk,
        details: list[Any],
        binder: Binder,
        storage: Storage,
        executor: base.Executor,
        notifier: Notifier,
        *,
        defer_reverts: bool = False,
        never_resolve: bool = False,
        go_on: bool = False,
        commit_interval: float = 0.0,
        arrange: Callable[[list[int]], None] | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._plan = plan
        self._atoms = plan.atoms
        self._walk = walk
        self._details = details
        self._binder = binder
        self._storage = storage
        self._executor = executor
        self._notifier = notifier
        self._defer_reverts = defer_reverts
        self._never_resolve = never_resolve
        self._go_on = go_on
        self._arrange = arrange or _arranger(plan)
        self._queue: Any = executor.make_queue()
        self._move_one, self._move_all = base.movers(self._queue)
        #: what was taken from the queue, each until it is on record
        self._completed: deque[tuple[Any, Any]] = deque()
        self._in_flight = 0
        self._refusals = refusals.Refusals(plan)
        #: whether that may be too many, as handing over was interrupted
        self._in_doubt = False
        #: calls on their way, so that an interrupt does not lose them: those that were got ready and not handed over,
        #: those that were taken back, and the one that was made here with what has come of it
        self._got_ready: tuple[list[base.Call], ...] = ()
        self._recalled: list[base.Call] = []
        #: calls that were announced when somebody who listens to that stopped the run: one of them is made
        self._announced: list[base.Call] = []
        self._made: tuple[base.Call, Any] | None = None
        #: how far the run has come: whether the executor was started, whether it was stopped, whether all is on record
        self._started = self._stopped = self._finished = False
        self._waits = _WAITS
        #: the context variables of whoever runs the flow, and the copy in which calls in place are made: who finds that
        #: they differ makes further ones in copies of their own
        self._context = self._within = contextvars.copy_context()
        #: what has left the run before its end
        self.interrupts = life.Interrupts()
        self._failed: list[int] = []
        #: atoms whose records have changed since the last commit; None when these live in memory alone
        self._touched = storage.touched if storage.durable else None
        #: atoms of which nothing but the progress has changed since the last commit
        self._progressed: set[int] = set()
        #: the atom that is called in place with all steps; held while its threads have their reports put on record
        self._calling, self._reporting = -1, threading.Lock()
        #: whether there are such reports that nobody who listens has been told of
        self._noted = False
        #: the atom that has reported progress in place last, and how many others had changed then
        self._reported: tuple[int, int] | None = None
        self._committed_at = time.monotonic()
        self._commit_interval = commit_interval
        #: (index, state before, state) of what is about to start: told after the commit
        self._unannounced: list[tuple[int, str | None, str]] = []
        #: which atoms may take the short path; without one what a call does is on record before the next one begins
        self._short = None if self._touched is None and keeping is None else [0] * len(plan)
        #: which results are let go of; None when all are kept
        self._keeping = keeping
        #: atoms that are executed again, because an earlier run was cut off in them
        self._begun: set[int] = set()
        self._flow_failures: dict[str, Failure] | None = None
        self._deadline: float | None = None
        #: whether nothing new is to start; set from any thread by `stop`
        self.stopping = False
        #: whether it is so because time is up
        self.timed_out = False

    def stop(self) -> None:
        """Start nothing new; what runs is let finish. May be called from any thread."""
        self.stopping = True
        self._executor.follower_of = None
        self._queue.put(base.WAKE)

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, timeout: float | None = None, *, stepwise: bool = False) -> Generator[str, None, None]:
        """Run until nothing is left to do, yielding what is done next.

        :param timeout: seconds after which nothing new starts
        :param stepwise: whether each turn is to be seen; otherwise calls in place follow each other within one turn
        """
        if timeout is not None:
            self._deadline = time.monotonic() + timeout
        try:
            try:
                yield from self._turns(stepwise=stepwise)
            except BaseException as error:
                self.interrupts.note(error)
                if self._executor.within_a_loop and not isinstance(error, GeneratorExit):
                    yield from self._let_finish()
        finally:
            self.finish()
        if self.interrupts.left_by is not None:
            raise self.interrupts.left_by

    def _turns(self, *, stepwise: bool) -> Generator[str, None, None]:
        walk = self._walk
        self._open()
        self._context = base.context_of_calls(self._report_in_place)
        self._context.run(RUN.set, (self._storage.flow_name, self._storage.flow_uuid))
        alone = self._touched is None and not stepwise and self._plan.rank is None
        self._executor.follower_of = self._follower_of if alone else None
        self._executor.check_progress = None if self._touched is None else self._check_progress
        self._executor.deadline = self._deadline
        self._started = True
        self._context.run(self._executor.start, self._queue.put)
        task.REPORTERS.append(self._reporter_of)
        while True:
            yield states.SCHEDULING
            self._context.copy().run(self._start, stepwise=stepwise)
            yield states.WAITING
            self._wait()
            yield states.ANALYZING
            self._context.copy().run(self._learn)
            if self.stopping:
                self._take_back()
            if not self._in_flight and (self.stopping or not (walk.ready or walk.undo)):
                break

    # -- its end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let what has begun end, and put on record what has come of it; the second time there is nothing to do.

        An interrupt is noted, and what it has cut short is done again. Who insists does not wait for calls any more;
        what comes of these later, `finish_late` puts on record.
        """
        if not self._finished:
            self.interrupts.defy(self._finish)

    def finish_late(self) -> None:
        """Put on record what has come of calls since an interrupted run was left.

        :raises BaseException: an interrupt; there may be more to put on record then
        """
        self.interrupts = life.Interrupts()
        self._finished, self._waits = False, _WAITS
        self.finish()
        if self.interrupts.left_by is not None:
            raise self.interrupts.left_by

    def _finish(self) -> None:
        """End the run. Each step may be done again, when an interrupt has come in it or after it.

        Nothing here goes by the Walk, which an interrupt may have left half changed: the details are the truth.
        """
        if self._reporter_of in task.REPORTERS:
            task.REPORTERS.remove(self._reporter_of)
        self._calling = -1
        self._executor.follower_of = None
        self._unannounced.clear()
        self._put_all_back()
        if self._started and not self._stopped:
            self._recall()
            if self._waits >= 0:
                if self._waits == _WAITS:
                    self._tell_of_the_wait()
                self._waits -= 1
                self._executor.stop()
                self._stopped = True
        self._salvage()
        self._store_changes()
        self._finished = True

    def _tell_of_the_wait(self) -> None:
        """Say for what an interrupted run waits: else nobody can tell it from one that hangs."""
        left_by = self.interrupts.left_by
        if left_by is None or isinstance(left_by, GeneratorExit):
            return
        self._take_delivered()
        ended = {call.index for call, _ in self._completed if type(call) is base.Call}
        count = self._in_flight - len(ended)
        if count > 0:
            going = (states.RUNNING, states.REVERTING)
            names = [
                d.name for i, d in enumerate(self._details) if d is not None and d.state in going and i not in ended
            ]
            shown = ", ".join(map(repr, names)) if len(names) == count <= _NAMED else f"{count} of them"
            LOG.warning("Interrupted by %s: waiting for the calls under way, %s", type(left_by).__name__, shown)

    def _put_all_back(self) -> None:
        """Make the atoms of the calls that were got ready, and that are not to begin, as they were before."""
        for calls in self._got_ready:
            while calls:
                self._put_back(calls[-1])
                calls.pop()

    def _let_finish(self) -> Generator[str, None, None]:
        """Have the loop that is not ours finish the calls under way, while the run is left."""
        for _ in range(_WAITS):
            try:
                self._recall()
                while self._under_way() and not self._in_doubt:
                    yield states.WAITING
                    self._take_delivered()
            except BaseException as error:
                self.interrupts.note(error)
                if isinstance(error, GeneratorExit):
                    return
            else:
                return

    def _under_way(self) -> bool:
        return sum(type(call) is base.Call for call, _ in self._completed) < self._in_flight

    def _salvage(self) -> None:
        """Put on record what was delivered; a failure among it is resolved when the run goes on."""
        if self._made is not None:
            self._completed.append(self._made)
            self._made = None
        self._take_delivered()
        completed = self._completed
        while True:
            while completed:
                call, outcome = completed[0]
                if type(call) is base.Call:
                    try:
                        self._put_on_record(call, outcome)
                    except BaseException as error:  # a listener's, or one that has come while it is dealt with
                        self.interrupts.note(error)
                        self._put_on_record(call, outcome)
                    completed.popleft()
                    self._hand_in_late()
                else:
                    completed.popleft()  # first: those who listen are told once
                    if call is not None:
                        self._learn_progress(call, outcome)
            if not self._hand_in_late():
                break
        for i in self._executor.followers:  # what came of the call before is lost: both have been cut off
            if self._details[i].state in _NOT_BEGUN:
                self._details[i].state = states.RUNNING

    def _put_on_record(self, call: base.Call, outcome: Any) -> None:
        """Record what came of a call, unless that has been done."""
        detail = self._details[call.index]
        under_way = states.RUNNING if call.verb == states.EXECUTE else states.REVERTING
        if detail.state == under_way and type(outcome) is not base.Interrupt:
            if type(outcome) is tuple and outcome and outcome[0] is _RAISED:
                outcome = Failure.from_exception(outcome[1])
            if call.verb == states.EXECUTE:
                _forget_part(detail)
            self._ended(call.index, call.verb, outcome)

    def _hand_in_late(self) -> bool:
        """Hand in the followers of calls that have succeeded; tells whether there was one."""
        details, pred = self._details, self._plan.pred
        late = [i for i in list(self._executor.followers) if details[pred[i][0]].state == states.SUCCESS]
        for i in late:
            self._hand_in(i)
        return bool(late)

    def _open(self) -> None:
        """Take up the record as it is: a new run, or one that was cut off anywhere."""
        walk = self._walk
        if self._storage.untouched:
            self._storage.untouched = False
            walk.open_new()
            _, on_running, on_success = self._hear()
            if on_running is not None or on_success is not None:
                models.identify(filter(None, self._details))
        else:
            self._take_up()
        for i in self._binder.told:
            if _count_attempt(self._details[i]):
                self._touch(i)

    def _take_up(self) -> None:
        walk = self._walk
        if any(one is not None and one._meta and models.META_LET_GO in one._meta for one in self._details):
            self._binder.look_anew_for(is_let_go)
        if self._plan.votes:
            self._complete_refusals()
        walk.open()
        self._touch_all(walk.adjusted)
        if walk.failed and not self._never_resolve:
            # Failures that were recorded, but not resolved before the run was interrupted.
            self._failed = walk.failed
            self._resolve_failures()
            walk.open()  # in what they turn round, what was under way then is to be undone
            self._touch_all(walk.adjusted)
        for i in (*walk.ready, *walk.cut_off):
            one = self._details[i]
            if one.intention != states.EXECUTE:
                continue
            if one._meta and META_NOT_CALLED in one._meta:  # an interrupt came before its failure was on record
                self._touch(i)
                walk.cut_off.discard(i)
                one.state = states.PENDING
            elif one.state == states.RUNNING:
                self._begun.add(i)
            else:
                continue
            _forget_part(one)

    @property
    def unfinished(self) -> bool:
        """Whether there is something left that could have started."""
        return bool(self._walk.ready or self._walk.undo)

    def _start(self, *, stepwise: bool) -> None:
        """Start all that can start now: in place, or by handing it to the executor."""
        walk, executor = self._walk, self._executor
        while not self._stops() and (walk.ready or walk.undo):
            alone = not self._in_flight and len(walk.ready) + len(walk.undo) == 1 and self._deadline is None
            if not (executor.serial or (executor.inline and alone)):
                self._hand_over()
            else:
                undoes = bool(walk.undo)
                if undoes:
                    self._within = self._context.copy()
                    self._within.run(self._undo_in_place, self._take_undo(), stepwise=stepwise)
                if walk.ready and (executor.serial or not undoes):  # a retry may have made more ready than one
                    self._within = self._context.copy()
                    self._within.run(self._execute_in_place, self._take_ready(), stepwise=stepwise)
            if self._failed:
                self._resolve_failures()
            if stepwise:
                break
        self._commit()

    def _hand_over(self) -> None:
        """Hand what can start to the executor; retries, which keep state of their own, run here on every executor."""
        undo, ready = self._take_undo(), self._take_ready()
        if self._touched is None and not undo:
            ready = self._hand_over_plain(ready)
        calls: list[base.Call] = []
        retries: list[base.Call] = []
        self._got_ready = calls, retries
        for prepare, batch in ((self._prepare_undo, undo), (self._prepare_execute, ready)):
            for i in batch:
                if failpoints.on:
                    failpoints.hit("in a batch")
                call = prepare(i)
                if call is not None:
                    (retries if isinstance(call.atom, retry.Retry) else calls).append(call)
        self._commit()
        if self._deadline is not None and self._stops():  # who was told that they start took too long
            self._put_all_back()
            return
        retries.reverse()
        while retries:
            self._make(retries.pop())
        if calls:
            if self.stopping:
                self._announced = calls
            self._submit(calls)

    def _submit(self, calls: list[base.Call]) -> None:
        if failpoints.on:
            failpoints.hit("before submit")
        self._got_ready = ()
        try:
            self._in_flight += len(calls)
            self._executor.submit(calls)
        except BaseException:
            self._in_doubt = True
            raise
        if failpoints.on:
            failpoints.hit("after submit")

    def _hand_over_plain(self, batch: list[int]) -> list[int]:
        """Hand plain tasks over, a part at a time, so that the first run while the last are got ready.

        Returns what is left, from the first that is not plain on. The short path of `_prepare_execute`.
        """
        atoms, details, plain, notifier = self._atoms, self._details, self._walk.plain, self._notifier
        callers, sources, storage, epoch = self._binder.callers, self._binder.sources, self._storage, self._binder.epoch
        execute, running = states.EXECUTE, states.RUNNING
        calls: list[base.Call] = []
        left = len(batch)
        self._got_ready = (calls,)
        for position, i in enumerate(batch):
            caller = callers[i]
            arguments = {} if caller is None else caller.fill(sources[i])
            if not plain[i] or notifier._topics or arguments is None or epoch != storage.injections:
                left = position
                break
            calls.append(base.Call(i, atoms[i], execute, arguments))
            details[i].state = running
            if len(calls) == _PART:
                self._submit(calls)
                calls = []
                self._got_ready = (calls,)
        if calls:
            self._submit(calls)
        return batch[left:]

    def _follower_of(self, call: base.Call) -> base.Follower | None:
        """Return what follows a call for certain once it has succeeded: a plain task that waits for nothing else."""
        i, plan, plain, binder = call.index, self._plan, self._walk.plain, self._binder
        if self.stopping or not plain[i] or len(plan.succ[i]) != 1 or self._notifier._topics:
            return None
        s = plan.succ[i][0]
        before, detail, atom, caller = self._details[i], self._details[s], self._atoms[s], binder.callers[s]
        if (
            not plain[s]
            or plan.degree[s] != 1
            or (plan.home[s] != plan.home[i] and plan.controller(s) != plan.controller(i))  # they turn round together
            or detail.state not in _NOT_BEGUN
            or not (states.EXECUTE == call.verb == before.intention == detail.intention)
            or atom._tfx_listened is not None
            or caller is NOBODY
            or binder.epoch != self._storage.injections
        ):
            return None
        if caller is None:
            return base.Follower(s, atom, {}, ())
        arguments, awaited = {}, []
        try:
            for arg, key, source in zip(caller.args, caller.keys, binder.sources[s], strict=True):
                if source is before:
                    awaited.append(arg)
                elif source.state == states.SUCCESS:
                    arguments[arg] = source.results if key is None else source.results[key]
                else:
                    return None
        except Exception:  # a result has no such part: that is told when it is to begin
            return None
        return base.Follower(s, atom, arguments, tuple(awaited))

    def _hand_in(self, i: int) -> None:
        """Note that a follower is under way, as it is ready, and take what would have been delivered of it by now."""
        detail = self._details[i]
        old, detail.state = detail.state, states.RUNNING
        self._in_flight += 1
        call = base.Call(i, self._atoms[i], states.EXECUTE, self._binder.execute_arguments(i))
        self._completed.extend(self._executor.hand_in(call))
        if self._notifier._topics:
            self._tell(i, old, states.RUNNING)

    def _withdraw(self) -> None:
        """Take back the followers that have not begun; those that have are under way, as all that we have begun."""
        executor = self._executor
        follower_of, executor.follower_of = executor.follower_of, None
        executor.withdraw()
        if executor.followers:
            self._take_delivered()
            self._record()
        executor.follower_of = None if self.stopping else follower_of

    def _stops(self) -> bool:
        if self._deadline is not None and not self.timed_out and time.monotonic() >= self._deadline:
            self.stopping = self.timed_out = True
            self._executor.follower_of = None
            self._recall()  # before anybody is told that the run stops, as that may take its time
        return self.stopping

    def _wait(self) -> None:
        """Block for one completion, then take all that are there."""
        if self._in_flight:
            self._take_next()
        self._take_delivered()

    def _take_delivered(self) -> None:
        self._move_all(self._completed)

    def _take_next(self) -> None:
        """Take what is delivered next, or nothing when time is up; commits that fall due meanwhile are made."""
        while True:
            try:
                seconds = (
                    None
                    if self._deadline is None and not (self._touched or self._progressed)
                    else self.seconds_to_wait()
                )
                self._move_one(self._completed, seconds)
            except queue.Empty:
                if self._deadline is not None and self._stops():
                    return
                self._commit()
                if self._executor.within_a_loop:
                    return
            else:
                return

    def seconds_to_wait(self) -> float | None:
        """Return after how many seconds without a completion something is to be done; None for never."""
        if not self._in_flight:
            return 0.0
        limits = []
        if self._deadline is not None and not self.timed_out:
            limits.append(self._deadline)
        if self._touched and 0 < self._commit_interval < math.inf:
            limits.append(self._committed_at + self._commit_interval)
        if self._progressed and self._commit_interval < math.inf:
            limits.append(self._committed_at + max(self._commit_interval, _SECONDS_FOR_PROGRESS))
        return max(min(min(limits) - time.monotonic(), _LONGEST_WAIT), 0.0) if limits else None

    def _learn(self) -> None:
        """Record what has been delivered, and resolve the failures in it.

        :raises BaseException: what came out of a call and is no `Exception`
        """
        self._record()
        if self._failed:
            self._resolve_failures()

    def _record(self) -> None:
        """Record what has been delivered; what an interrupt has kept from that is recorded when the run is left.

        :raises BaseException: what came out of a call and is no `Exception`
        """
        interrupt: base.Interrupt | None = None
        details, plain, ran, notifier = self._details, self._short or self._walk.plain, self._walk.ran, self._notifier
        ready, followers = self._walk.ready, self._executor.followers
        execute, completed = states.EXECUTE, self._completed
        while completed:
            call, outcome = completed[0]
            if type(call) is base.Call:
                i = call.index
                detail = details[i]
                if (
                    plain[i]
                    and call.verb == execute == detail.intention
                    and detail._meta is None
                    and type(outcome) not in _ODD
                    and not (_DERIVED and type(outcome) in _DERIVED)
                    and not notifier._topics
                ):  # the short path of `_ended`
                    detail.results = outcome
                    detail.state = states.SUCCESS
                    ran(i)
                elif type(outcome) is base.Interrupt:
                    interrupt = interrupt or outcome
                else:
                    self._ended(i, call.verb, outcome)
                if followers and ready and ready[-1] in followers:
                    self._hand_in(ready.pop())
                self._in_flight -= 1
            elif call is not None:
                self._learn_progress(call, outcome)
            completed.popleft()
        if interrupt is not None:
            raise interrupt.exception

    def _take_back(self) -> None:
        """Leave under way, as the run is to stop, nothing but what has begun."""
        if self._in_flight:
            self._recall()
            if self._announced and not self._in_flight and not self.timed_out:
                # Who suspends the run at each step gets one step further each time, as in place.
                self._hand_over_again(self._announced[0])
            self._announced = []
        self._withdraw()
        if self._failed:
            self._resolve_failures()

    def _hand_over_again(self, call: base.Call) -> None:
        """Hand over a call that was taken back, as it has been announced."""
        starting, queue = (
            (states.REVERTING, self._walk.undo) if call.verb == states.REVERT else (states.RUNNING, self._walk.ready)
        )
        if call.index in queue:
            queue.remove(call.index)
            self._walk.cut_off.discard(call.index)
            self._got_ready = ([call],)
            self._details[call.index].state = starting
            self._submit([call])

    def _recall(self) -> None:
        """Take back the calls that have not begun."""
        recalled = self._recalled
        try:
            recalled += self._executor.recall()
        except BaseException:
            self._in_doubt = True
            raise
        while recalled:
            self._put_back(recalled[-1])
            recalled.pop()
            self._in_flight -= 1

    def _put_back(self, call: base.Call) -> None:
        """Make the atom of a call that never began as it was before."""
        walk, i = self._walk, call.index
        detail = self._details[i]
        self._touch(i)
        if call.verb == states.REVERT:
            if detail.revert_failure is not None:
                detail.state = states.REVERT_FAILURE
            else:
                detail.state = states.SUCCESS if detail.failure is None else states.FAILURE
            walk.undo.append(i)
            return
        turned = detail.intention != states.EXECUTE
        if isinstance(call.atom, retry.Retry) and detail.results:  # it was to run again
            detail.state = states.SUCCESS
            if not turned:
                detail.intention = states.RETRY
                walk.note_turned(i, i + 1)
                walk.need[i] = self._plan.degree[i]
                walk.hold[i] = 0
                walk.undo.append(i)
        else:
            if i in self._begun:
                walk.cut_off.add(i)
            else:
                detail.state = states.PENDING
            if not turned:
                walk.ready.append(i)
        if turned and not walk.hold[i]:
            walk.freed(i)

    def _learn_progress(self, reporting: Any, details: Any) -> None:
        index = self._plan.names.get(reporting.name)
        if index is None or self._atoms[index] is not reporting:
            return  # a task that another one calls by itself is no part of the flow
        if type(details) is base.Event:
            details = _tell_listeners(reporting, details)
            if details is None:
                return
        if self._touched is not None:
            try:
                self._check_progress(reporting, details)
            except exceptions.Unstorable as error:
                LOG.warning("%s; it is left out of the record", error)
                return
        if (
            type(details) is not _Noted and self._details[index].state != states.SUCCESS
        ):  # of a thread that was left behind
            self._note_progress(index, details)
        if self._notifier._topics:
            self._notifier._tfx_notify_only(
                task.EVENT_UPDATE_PROGRESS,
                {**details, "task_name": reporting.name, "task_uuid": self._storage.get_atom_uuid(reporting.name)},
            )

    def _note_progress(self, index: int, details: dict[str, Any]) -> None:
        further = {key: value for key, value in details.items() if key != "progress"}
        facts = progress_facts(details["progress"], further or None)
        if self._touched is not None:
            self._progressed.add(index)
        detail = self._details[index]
        detail.meta = {**detail.meta, **facts}

    def _check_progress(self, reporting: Any, details: dict[str, Any]) -> None:
        """Refuse, in the task that reports it, progress that the store cannot hold.

        :raises Unstorable: names the task
        """
        self._storage.check_value(details, f"progress of atom '{reporting.name}'")

    def _report_in_place(self, reporting: Any, details: dict[str, Any]) -> None:
        """Take a report of a task that runs in the thread of the engine, which makes no commit before it has ended."""
        if self._touched is not None:
            self._check_progress(reporting, details)
        self._learn_progress(reporting, details)
        self._report_to_store(self._plan.names.get(reporting.name))

    def _report_to_store(self, index: int | None) -> None:
        if index in self._progressed and self._commit_interval < math.inf:
            # What has changed besides goes with it, so that the store has nothing that did not follow from what it has.
            # Nothing of that changes while the task runs, so it is copied once.
            of_call = (index, len(self._touched or ()))
            others = () if of_call == self._reported else (self._touched or ())
            self._reported = of_call
            copies = [self._details[i].copy() for i in {index, *others}]
            due = self._committed_at + max(self._commit_interval, _SECONDS_FOR_PROGRESS) - time.monotonic()
            self._storage.report(copies, due)

    def _reporter_of(self, reporting: Any) -> Callable[[Any, dict[str, Any]], None] | None:
        """Return what takes the progress that a thread of a task reports, if the task is at work in this run."""
        index = self._plan.names.get(reporting.name)
        at_work = index is not None and self._atoms[index] is reporting and self._details[index].state in _STARTING
        return self._report_from_thread if at_work else None

    def _report_from_thread(self, reporting: Any, details: dict[str, Any]) -> None:
        """Take a report of a thread that a task has started.

        While a task runs in place its thread is the engine's, and takes nothing from the queue. So the report is put on
        record at once, and those who listen to the engine are told when the task has ended.
        """
        if self._touched is not None:
            self._check_progress(reporting, details)
        if self._in_flight:
            self._queue.put((reporting, details))
            return
        index = self._plan.names[reporting.name]
        with self._reporting:
            if self._touched is None:
                self._note_progress(index, details)
            elif self._calling == index:  # what is saved next has not been begun
                self._note_progress(index, details)
                self._report_to_store(index)
        self._queue.put((reporting, _Noted(details)))
        self._noted = True

    def _complete_progress(self, detail: Any) -> None:
        """Note that all of a task is done, where its progress is on record: stores are read without us, too."""
        if self._noted:
            self._tell_noted()
        if detail._meta and META_PROGRESS in detail._meta:
            detail._meta[META_PROGRESS] = 1.0

    def _tell_noted(self) -> None:
        """Tell those who listen of progress that is on record."""
        self._noted = False
        self._take_delivered()
        completed = self._completed
        while completed and type(completed[0][0]) is not base.Call:
            reporting, details = completed.popleft()
            if reporting is not None:
                self._learn_progress(reporting, details)

    # -- in place ----------------------------------------------------------------------------------

    def _take_ready(self) -> list[int]:
        batch, self._walk.ready = self._walk.ready, []
        if self._walk.cut_off:
            self._walk.cut_off.difference_update(batch)
        if len(batch) > 1:
            self._arrange(batch)
        return batch

    def _take_undo(self) -> list[int]:
        batch, self._walk.undo = self._walk.undo, []
        if self._walk.cut_off:
            self._walk.cut_off.difference_update(batch)
        if len(batch) > 1:
            self._arrange(batch)
            batch.reverse()
        return batch

    def _execute_in_place(self, batch: list[int], *, stepwise: bool, apart: bool = False) -> None:  # noqa: C901 - hot
        """Run a batch of ready atoms here, and then, on the serial executor, what becomes ready by it.

        This is the one long function of the engine. The short path does what `_prepare_execute`, `perform` and `_ended`
        do for a plain task, with their calls unfolded.

        :param apart: whether each task gets a context of its own, as one of them has changed a variable of its context
        """
        walk, atoms, details = self._walk, self._atoms, self._details
        callers, sources = self._binder.callers, self._binder.sources
        need, plain, succ, reached = walk.need, self._short or walk.plain, self._plan.succ, walk.reached
        running, success = states.RUNNING, states.SUCCESS
        notifier, storage, epoch = self._notifier, self._storage, self._binder.epoch
        topics, on_running, on_success = self._hear()
        timed, serial = self._deadline is not None, self._executor.serial
        follow = not (stepwise or timed)
        ended = -1  # the last one of which something has come, which is in `result`
        result: Any = None
        untouched = self._context
        within = untouched if apart else self._within
        try:
            while True:
                ready = walk.ready
                left = iter(batch)
                for i in left:
                    if self.stopping or (timed and self._stops()):
                        walk.ready = [i, *left, *walk.ready]
                        return
                    if within != untouched:  # the last task has changed a variable, which is to be its own
                        ended = -1
                        self._within = untouched.copy()
                        self._within.run(self._execute_in_place, [i, *left], stepwise=stepwise, apart=True)
                        return
                    atom, caller = atoms[i], callers[i]
                    if (
                        not plain[i]
                        or atom._tfx_listened is not None
                        or (caller is not None and epoch != storage.injections)
                    ):
                        self._execute_one(i)
                        continue
                    detail = details[i]
                    if notifier._topics is not topics:
                        topics, on_running, on_success = self._hear()
                    if on_running is not None:
                        # looked at before anything is told
                        if detail.state == running or (caller is not None and caller.fill(sources[i]) is None):
                            self._execute_one(i)
                            continue
                        old, detail.state = detail.state, running
                        try:
                            facts = {
                                "task_name": detail.name,
                                "task_uuid": detail._uuid or detail.uuid,
                                "old_state": old,
                            }
                            try:
                                on_running(running, facts)
                            except Exception:
                                notifier._tfx_complain(on_running, running, facts)
                        except BaseException:  # a listener was interrupted, and the call will not be made
                            detail.state = old
                            raise
                        if timed and self._stops():  # they took too long
                            detail.state = old
                            walk.ready = [i, *left, *walk.ready]
                            return
                    else:
                        detail.state = running
                    try:
                        if apart:
                            result, ended = untouched.copy().run(_call_plain, atom, caller, sources[i]), i
                        elif caller is None:
                            try:
                                atom.pre_execute()
                                result = atom.execute()
                                ended = i
                            finally:
                                atom.post_execute()
                        else:
                            result, ended = caller.call(atom, sources[i]), i
                    except Exception as error:
                        result, ended = (_RAISED, error), i
                        self._ended_apart(i, states.EXECUTE, Failure.from_exception(error))
                        result, ended = None, -1  # this frame is one of those that the exception has
                        continue
                    if type(result) is Failure or (_DERIVED and type(result) in _DERIVED):
                        if result is UNBOUND:
                            self._execute_one(i)
                        else:
                            self._ended_apart(i, states.EXECUTE, result)
                        continue
                    detail.results = result
                    if notifier._topics is not topics:
                        topics, on_running, on_success = self._hear()
                    if detail._meta:
                        self._complete_progress(detail)
                    detail.state = success
                    if on_success is not None:
                        facts = {
                            "task_name": detail.name,
                            "task_uuid": detail._uuid or detail.uuid,
                            "old_state": running,
                            "result": result,
                        }
                        try:
                            if within != untouched:
                                untouched.copy().run(on_success, success, facts)
                            else:
                                on_success(success, facts)
                        except Exception:
                            notifier._tfx_complain(on_success, success, facts)
                    after = succ[i]
                    if after:  # to begin a loop over nothing takes longer than to look
                        for s in after:
                            count = need[s] - 1
                            need[s] = count
                            if not count:
                                if plain[s]:
                                    ready.append(s)
                                else:
                                    reached(s)
                if not follow or self._failed or walk.undo or not (serial or len(ready) == 1):
                    return
                batch, walk.ready = ready, []
                if len(batch) > 1:
                    self._arrange(batch)
                elif not batch:
                    return
        except BaseException:
            self._keep_made(ended, states.EXECUTE, result)
            raise

    def _keep_made(self, i: int, verb: str, outcome: Any) -> None:
        """Keep what came of the last call that was made here, unless it was recorded before the interrupt."""
        if i >= 0 and outcome is not UNBOUND and self._made is None:
            self._made = base.Call(i, self._atoms[i], verb, {}), outcome

    def _hear(self) -> tuple[Any, Any, Any]:
        """Return the topics of the notifier, and what is to be called when a task begins, and when one succeeds.

        It is so until other topics take the place of these, when somebody joins or leaves.
        """
        notifier = self._notifier
        return notifier._topics, notifier._tfx_target_of(states.RUNNING), notifier._tfx_target_of(states.SUCCESS)

    def _execute_one(self, i: int) -> None:
        call = self._prepare_execute(i)
        if call is not None:
            self._call_in_place(call)

    def _call_in_place(self, call: base.Call) -> None:
        self._got_ready = ([call],)
        self._commit()
        if self._deadline is not None and self._stops():  # who was told that it starts took too long
            self._put_all_back()
            return
        self._got_ready = ()
        self._make(call)

    def _make(self, call: base.Call) -> None:
        """Make a call here, and record what comes of it."""
        self._calling = call.index
        self._made = made = call, self._context.copy().run(base.perform, call.atom, call.verb, call.kwargs)
        with self._reporting:
            self._calling = -1
        self._ended(call.index, call.verb, made[1])
        self._made = None

    def _undo_in_place(self, batch: list[int], *, stepwise: bool) -> None:  # noqa: C901 - a hot loop
        """Undo a batch here, as `_execute_in_place` executes one.

        The short path does what `_prepare_undo`, `perform` and `_ended` do for a plain task.
        """
        walk, atoms, details, notifier = self._walk, self._atoms, self._details, self._notifier
        hold, pred, takes_of = walk.hold, self._plan.pred, self._binder.undo_takes
        callers, sources = self._binder.undo_callers, self._binder.undo_sources
        revert, reverting, reverted, success = states.REVERT, states.REVERTING, states.REVERTED, states.SUCCESS
        storage, epoch, plain = self._storage, self._binder.epoch, self._short or walk.plain
        failures = self._failures_now()
        follow = not stepwise and self._deadline is None
        serial = self._executor.serial
        ended = -1  # the last one of which something has come, which is in `outcome`
        outcome: Any = None
        within, untouched = self._within, self._context
        try:
            while True:
                undo = walk.undo
                left = iter(batch)
                for i in left:
                    if self.stopping or (self._deadline is not None and self._stops()):
                        walk.undo = [i, *left, *walk.undo]
                        return
                    atom, detail = atoms[i], details[i]
                    if (
                        not plain[i]
                        or detail.state != success
                        or notifier._topics
                        or atom._tfx_listened is not None
                        or within != untouched  # the last one has changed a variable: the others are kept apart
                    ):
                        self._undo_one(i)
                        continue
                    takes = takes_of[i]
                    detail.state = reverting
                    try:
                        if takes >= BOUND:
                            outcome = UNBOUND
                            if epoch == storage.injections:
                                caller = callers[i]
                                outcome, ended = caller.call(atom, sources[i], detail.results, failures), i  # type: ignore[union-attr]
                        else:
                            try:
                                atom.pre_revert()
                                if takes == TAKES_BOTH:
                                    outcome = atom.revert(result=detail.results, flow_failures=failures)
                                elif takes == TAKES_RESULT:
                                    outcome = atom.revert(result=detail.results)
                                elif takes:
                                    outcome = atom.revert(flow_failures=failures)
                                else:
                                    outcome = atom.revert()
                                ended = i
                            finally:
                                atom.post_revert()
                    except Exception as error:
                        outcome, ended = (_RAISED, error), i
                        self._ended_apart(i, revert, Failure.from_exception(error))
                        outcome, ended = None, -1
                        continue
                    if type(outcome) is Failure or (_DERIVED and type(outcome) in _DERIVED):
                        if outcome is UNBOUND:
                            ended = -1
                            detail.state = success  # what it gets says what it was
                            self._undo_one(i)
                        else:
                            self._ended_apart(i, revert, outcome)
                        continue
                    detail.revert_results = outcome
                    detail.state = reverted
                    hold[i] = CLEAR
                    for p in pred[i]:
                        count = hold[p]
                        if count > 1:
                            hold[p] = count - 1
                        elif count == 1:
                            hold[p] = 0
                            if plain[p] and details[p].state == success:
                                undo.append(p)
                            else:
                                walk.freed(p)
                if not follow or self._failed or walk.ready or not (serial or len(undo) == 1):
                    return
                batch, walk.undo = undo, []
                if len(batch) > 1:
                    self._arrange(batch)
                    batch.reverse()
                elif not batch:
                    return
        except BaseException:
            self._keep_made(ended, revert, outcome)
            raise

    def _undo_one(self, i: int) -> None:
        call = self._prepare_undo(i)
        if call is not None:
            self._call_in_place(call)

    # -- the record --------------------------------------------------------------------------------

    def _touch(self, i: int) -> None:
        """Note that the record of an atom is about to change: first, as an interrupt may come between the two."""
        if self._touched is not None:
            self._touched.add(i)

    def _touch_all(self, atoms: list[int]) -> None:
        if self._touched is not None:
            self._touched.update(atoms)

    def _touch_region(self, lo: int, hi: int) -> None:
        if self._touched is not None:
            self._touched.update(i for i in range(lo, hi) if self._details[i] is not None)

    def _commit(self) -> None:
        """Put what has changed since the last commit into the store, and tell of what is about to start.

        :raises StorageFailure: when the store does not take it; it is then tried again with the next commit
        """
        if self._touched:
            if not self._commit_interval or self._has_passed(self._commit_interval):
                self._store_changes()
        elif self._progressed and self._has_passed(max(self._commit_interval, _SECONDS_FOR_PROGRESS)):
            self._store_changes()
        if self._unannounced:
            starting, self._unannounced = self._unannounced, []
            for i, old, state in starting:
                self._tell(i, old, state)

    def _has_passed(self, seconds: float) -> bool:
        """Tell whether the last commit is so long ago."""
        return time.monotonic() >= self._committed_at + seconds

    def _store_changes(self) -> None:
        if self._touched is not None:
            changed = sorted(self._touched | self._progressed)
            if changed:
                try:
                    self._storage.commit([self._details[i] for i in changed])
                except exceptions.StorageFailure:
                    self._touched.update(self._progressed)
                    self._storage.lose_patience()
                    raise
                self._touched.clear()
                self._progressed.clear()
                self._reported = None
                self._committed_at = time.monotonic()

    def _storable(self, i: int, verb: str, outcome: Any) -> Any:
        """Return what came of a call, or what takes its place when the store cannot hold it."""
        kind = type(outcome)
        if (outcome is None or kind is bool or (kind is int and -_WORD < outcome < _WORD)) and (
            not self._storage.limits_records
        ):
            return outcome  # every store takes it, and to ask takes longer than the rest
        name = self._details[i].name
        try:
            self._storage.check_storable(name, verb, outcome)
            if verb == states.EXECUTE and self._storage.limits_records:
                whole = self._details[i].copy()
                whole._store(outcome)
                self._storage.check_record(whole)
        except exceptions.Unstorable as error:
            if verb == states.EXECUTE:
                self._storage.unstored[name] = outcome  # what it has done is to be undone by its revert
                return Failure.from_exception(error)
            LOG.warning("%s; it is left out of the record, as what was undone is undone", error)
            return None
        return outcome

    def _storable_failure(self, i: int, failure: Failure) -> Failure:
        """Return a failure, or the same one with a shorter text when the store cannot hold it."""
        what = f"failure of atom '{self._details[i].name}'"
        try:
            self._storage.check_value(failure.to_dict(), what)
        except exceptions.Unstorable as error:
            LOG.warning("%s; it is kept in short", error)
            return failure._tfx_shortened()
        return failure

    # -- one atom ----------------------------------------------------------------------------------

    def _move(self, i: int, state: str, result: Any = None, *, calls: bool = True) -> None:
        """Put an atom into a state, and tell those who listen.

        :param calls: whether a call follows from a state in which one is made: then they are told after the commit
        """
        detail = self._details[i]
        if self._touched is not None:
            self._touched.add(i)
        old, detail.state = detail.state, state
        if self._notifier._topics:
            if self._touched is not None and calls and state in _STARTING:
                self._unannounced.append((i, old, state))
                return
            try:
                self._tell(i, old, state, result)
            except BaseException:
                if state in _STARTING:  # a listener was interrupted, and the call will not be made
                    detail.state = old
                raise

    def _tell(self, i: int, old: str | None, state: str, result: Any = None) -> None:
        """Tell those who listen to atoms that one has moved to a state."""
        listeners = self._notifier._tfx_listeners_of(state)
        if listeners:
            detail = self._details[i]
            facts: dict[str, Any]
            if isinstance(self._atoms[i], retry.Retry):
                facts = {"retry_name": detail.name, "retry_uuid": detail.uuid, "old_state": old}
            else:
                facts = {"task_name": detail.name, "task_uuid": detail.uuid, "old_state": old}
            if state in _STATES_WITH_RESULT:
                facts["result"] = result
            elif old in states.UNDER_WAY and (state, old) != (states.RUNNING, states.RETRYING):
                facts["old_state"], facts["interrupted"] = _before(detail, old), old
            self._notifier._tfx_call_all(listeners, state, facts)

    def _prepare_execute(self, i: int, *, let_in: bool = False) -> base.Call | None:
        """Get an atom ready to execute; None when there is nothing to call.

        :param let_in: whether the deciders before it have let it in already
        """
        atom, detail = self._atoms[i], self._details[i]
        if i in self._plan.votes and not let_in and i not in self._begun:
            try:
                depth = resolve.refusal(self._plan, i, self._details)
            except Exception as error:
                self._not_called(i, Failure.from_exception(error))
                return None
            if depth is not None:
                self._ignore(i, depth)
                return None
        try:
            arguments = self._binder.execute_arguments(i)
        except exceptions.NotFound as error:
            self._not_called(i, Failure.from_exception(error))
            return None
        if detail.failure is not None:
            detail.failure = None
        self._move(i, states.RUNNING)
        return base.Call(i, atom, states.EXECUTE, arguments)

    def _not_called(self, i: int, failure: Failure) -> None:
        """Record the failure of an atom whose execute cannot be called; its revert will not be called either."""
        self._details[i].meta[META_NOT_CALLED] = True  # first: who is interrupted behind it has not begun
        self._move(i, states.RUNNING, calls=False)
        self._ended(i, states.EXECUTE, failure)

    def _ignore(self, refused: int, depth: deciders.Depth) -> None:
        """Leave atoms out, all of them before anybody is told: the record never has a part of a refusal."""
        moved = []
        left_out, passed = self._refusals.left_out(refused, depth)
        try:
            for i in reversed(left_out):  # the refused one last: until it is left out, its deciders are asked again
                detail = self._details[i]
                if detail.state in _NOT_BEGUN:  # another decider may have left it out, and what is done is done
                    moved.append((i, detail.state))
                    self._touch(i)
                    if i == refused:
                        detail.meta = {**detail.meta, refusals.META_REFUSED: depth.value}
                    detail.state = detail.intention = states.IGNORE
        except BaseException:  # an interrupt: a refusal of which the record has a part would be known to nobody
            for i, old in moved:
                self._details[i].state, self._details[i].intention = old, states.EXECUTE
                self._details[i].meta.pop(refusals.META_REFUSED, None)
            raise
        self._refusals.note(refused, depth, passed)
        self._walk.ignore(refused, [i for i, _ in moved])
        for i, _ in moved:
            self._let_go(i)
        if self._notifier._topics:
            for i, old in reversed(moved):
                self._tell(i, old, states.IGNORE)

    def _complete_refusals(self) -> None:
        """Leave out what a refusal leaves out, where the record has a part of it.

        OpenStack TaskFlow writes one atom after the other, and does not write which refusal left it out.
        """
        details, plan = self._details, self._plan
        ignored = [i for i in plan.votes if details[i].state == states.IGNORE]
        if not ignored or any(refusals.is_known(details[i]) for i in ignored):
            return
        for i in ignored:
            try:
                depth = resolve.refusal(plan, i, details)
            except Exception as error:  # it is left out, whatever its deciders say now
                LOG.warning(
                    "A decider before atom '%s', which has been left out, raised %r",
                    details[i].name,
                    error,
                )
                continue
            if depth is None:
                continue
            self._touch(i)
            details[i].meta = {**details[i].meta, refusals.META_REFUSED: depth.value}
            left_out, passed = self._refusals.left_out(i, depth)
            for s in left_out:
                after = details[s]
                if after.state == states.PENDING and after.intention == states.EXECUTE:
                    self._touch(s)
                    after.state = after.intention = states.IGNORE
                    self._tell(s, states.PENDING, states.IGNORE)
            self._refusals.note(i, depth, passed)

    def _prepare_undo(self, i: int) -> base.Call | None:
        """Get an atom ready to be reverted, or a retry to run again; None when there is nothing to call."""
        atom, detail = self._atoms[i], self._details[i]
        if detail.intention == states.RETRY:
            if self._go_on and self._is_blocked(i):
                self._failed.append(i)
                return None
            self._restart(i)
            if self._walk.need[i]:  # it has been moved, or something new stands before it
                self._move(i, states.PENDING)
                return None
            return self._prepare_execute(i, let_in=True)
        meta = detail._meta
        if meta and meta.get(META_NOT_CALLED):
            self._move(i, states.REVERTING, calls=False)
            self._ended(i, states.REVERT, None)
            return None
        try:
            arguments = self._binder.revert_arguments(i, self._failures_now)
        except exceptions.NotFound as error:
            self._move(i, states.REVERTING, calls=False)
            self._ended(i, states.REVERT, Failure.from_exception(error))
            return None
        unstored = self._storage.unstored
        if unstored and detail.name in unstored and REVERT_RESULT in arguments:
            arguments[REVERT_RESULT] = unstored[detail.name]
        self._move(i, states.REVERTING)
        return base.Call(i, atom, states.REVERT, arguments)

    def _is_blocked(self, r: int) -> bool:
        """Tell whether something in the region of a retry could not be undone, so that it cannot run again."""
        lo, hi = self._plan.region(r)
        return any(d is not None and d.state == states.REVERT_FAILURE for d in self._details[lo:hi])

    def _failures_now(self) -> dict[str, Failure]:
        """Return atom name -> Failure; one dict until a further failure comes."""
        if self._flow_failures is None:
            self._flow_failures = self._storage.get_execute_failures()
        return self._flow_failures

    def _restart(self, r: int) -> None:
        """Reset the region of a retry, which is to run again, and what a refusal in it has left out after it."""
        detail = self._details[r]
        if detail.results:  # of an attempt that is over, what its variables held is of no use
            past = {name: failure._tfx_past() for name, failure in detail.last_failures.items()}
            detail.note_failure(past)
        self._move(r, states.RETRYING)
        let_in = self._refusals.let_in(*self._plan.region(r), self._details) if self._plan.votes else []
        if self._begun:
            self._begun.difference_update(range(*self._plan.region(r)))
        for i in self._walk.restart(r, let_in):
            detail = self._details[i]
            old = detail.state
            self._touch(i)
            begin_anew(detail, counted=i in self._binder.told)
            if old != states.PENDING and self._notifier._topics:
                self._tell(i, old, states.PENDING)
        if r in self._binder.told:
            _count_round(self._details[r])
        self._details[r].intention = states.EXECUTE
        if self._keeping is not None:
            self._keeping.count_anew()
        self._walk.restarted(r)

    def _ended(self, i: int, verb: str, outcome: Any) -> None:
        """Record what came of a call, tell of it, and release what waited for it."""
        if failpoints.on:
            failpoints.hit("after completion")
        detail = self._details[i]
        if type(outcome) is base.NotBegun:
            outcome = outcome.failure
            if verb == states.EXECUTE:
                detail.meta[META_NOT_CALLED] = True
        failed = type(outcome) is Failure or type(outcome) in _DERIVED
        if self._touched is not None and not failed:
            outcome = self._storable(i, verb, outcome)
            failed = type(outcome) is Failure or type(outcome) in _DERIVED
        if verb == states.EXECUTE:
            turned = detail.intention != states.EXECUTE
            if failed:
                detail.failure = outcome if self._touched is None else self._storable_failure(i, outcome)
                self._storage.note_failed(detail.name)
                self._flow_failures = None
                self._move(i, states.FAILURE, detail.failure)
                self._failed.append(i)
            else:
                detail._store(outcome)
                self._complete_progress(detail)
                self._move(i, states.SUCCESS, outcome)
                if not self._plan.plain[i] and isinstance(self._atoms[i], task.Task):
                    self._storage.warn_of_missing(detail.name)
                self._let_go(i)
                if not turned:
                    self._walk.ran(i)
            if turned:
                self._walk.finished(i)
        else:
            self._reverted(i, outcome)

    def _let_go(self, ended: int) -> None:
        """Let go of results that nobody takes any more, as an atom has ended."""
        if self._keeping is None:
            return
        for i in self._keeping.ended(ended):
            self._touch(i)
            detail = self._details[i]
            detail.meta[models.META_LET_GO] = True  # first: an interrupt in between loses nothing unsaid
            detail.results = None

    def _ended_apart(self, i: int, verb: str, outcome: Any) -> None:
        """As `_ended`, for those who listen: what the task has done to its context is its own."""
        self._context.copy().run(self._ended, i, verb, outcome)

    def _reverted(self, i: int, outcome: Any) -> None:
        """Record what came of a revert, tell of it, and release what waited for it."""
        detail = self._details[i]
        if type(outcome) is Failure or type(outcome) in _DERIVED:
            detail.revert_failure = outcome if self._touched is None else self._storable_failure(i, outcome)
            self._storage.note_failed(detail.name)
            self._move(i, states.REVERT_FAILURE, detail.revert_failure)
            if self._go_on:
                self._walk.cleared(i)
            return
        detail.revert_failure = None
        detail.revert_results = outcome
        if self._storage.unstored:
            self._storage.unstored.pop(detail.name, None)
        if isinstance(self._atoms[i], retry.Retry):
            detail.results = []
        self._move(i, states.REVERTED, outcome)
        self._walk.cleared(i)

    # -- failures ----------------------------------------------------------------------------------

    def _resolve_failures(self) -> None:
        """Turn round what the failures of this turn turn round."""
        self._withdraw()
        failed, self._failed = self._failed, []
        if not self._never_resolve:
            self._turn_round(failed)
        if self._commit_interval == math.inf:
            self._store_changes()

    def _turn_round(self, failed: list[int]) -> None:
        """Turn round what failures turn round."""
        walk, plan = self._walk, self._plan
        for i in failed:
            if self._details[i].intention == states.RETRY:
                # A retry that cannot run again: the rollback goes on instead.
                self._touch_region(0, len(plan))
                walk.turn(0, len(plan), cause=i)
                continue
            failure = self._details[i].failure
            lo, hi, restart = resolve.resolve(
                plan, i, functools.partial(self._ask, failure), defer_reverts=self._defer_reverts
            )
            around = walk.turned_with(lo, hi)
            if around == (lo, hi):
                # The last word counts while the retry has not been reached.
                if isinstance(self._atoms[lo], retry.Retry) and self._details[lo].state == states.SUCCESS:
                    self._touch(lo)
                    self._details[lo].intention = states.RETRY if restart >= 0 else states.REVERT
            elif around is None:
                self._touch_region(lo, hi)
                self._touch_all(walk.turn(lo, hi, restart, i))

    def _ask(self, failure: Failure, r: int, name: str) -> Any:
        """Add a failure to a retry's history and ask what is to follow.

        An `on_failure` that raises, or answers with what is no decision, is a failure of the retry: as when its execute
        fails, it is undone and the controller around it is asked.
        """
        controller, detail = self._atoms[r], self._details[r]
        if detail.state in (states.PENDING, states.IGNORE) and not detail.results:
            return None  # a decider refused it, or it is new in the flow: there is nothing to run again
        try:
            if detail.results:
                self._note_failure(r, name, failure)
            decision = controller.on_failure(**self._binder.on_failure_arguments(r))
            if decision not in _DECISIONS:
                msg = f"on_failure of retry '{controller.name}' returned {decision!r}, expected one of {_DECISIONS}"
                raise TypeError(msg)
        except Exception as error:
            own = Failure.from_exception(error)
            self._touch(r)
            detail.failure = own if self._touched is None else self._storable_failure(r, own)
            self._storage.note_failed(detail.name)
            self._flow_failures = None
            return retry.REVERT
        return decision

    def _note_failure(self, r: int, name: str, failure: Failure) -> None:
        """Add a failure to the history of a retry.

        :raises Unstorable: when the store cannot hold a longer one
        """
        detail = self._details[r]
        before = detail.last_failures
        self._touch(r)
        detail.note_failure({**before, name: failure})
        if self._storage.limits_records:
            try:
                self._storage.check_record(detail)
            except exceptions.Unstorable:
                detail.note_failure(before)
                raise


class _Noted(dict[str, Any]):
    """Details of progress that are on record."""


def _call_plain(atom: Any, caller: Any, sources: Any) -> Any:
    """Execute a plain task with its hooks, as the hot loop does."""
    if caller is not None:
        return caller.call(atom, sources)
    try:
        atom.pre_execute()
        return atom.execute()
    finally:
        atom.post_execute()


def _tell_listeners(reporting: task.Task, event: base.Event) -> dict[str, Any] | None:
    """Call those who listen to a task that runs elsewhere; returns the progress in what it tells, if there is some."""
    listened = reporting._tfx_listened
    if listened is not None:
        listened.tell_of(event.event_type, event.details)
    progressed = not event.told and event.event_type == task.EVENT_UPDATE_PROGRESS
    return event.details if progressed and event.details and "progress" in event.details else None


def begin_anew(detail: AtomDetail, *, counted: bool) -> None:
    """Bring the record of an atom back to its beginning.

    :param counted: whether it is counted how often that is done
    """
    if counted:
        _count_round(detail)
    if detail._meta:
        detail._meta.pop(META_NOT_CALLED, None)
        detail._meta.pop(UNDONE_WITH, None)
        for key in refusals.METAS:
            detail._meta.pop(key, None)
        detail._meta.pop(META_PROGRESS, None)
        detail._meta.pop(META_PROGRESS_DETAILS, None)
    detail.reset(states.PENDING)


def _count_round(detail: AtomDetail) -> None:
    """Note that what an atom does from now on is new, and no repetition of what it has done."""
    meta = detail.meta
    meta[META_ROUND] = meta.get(META_ROUND, 0) + 1
    meta.pop(META_ATTEMPT, None)
    meta.pop(META_REVERT_ATTEMPT, None)


def _count_attempt(detail: AtomDetail) -> bool:
    """Note that the call in which an earlier run was cut off is made again; returns whether there was one."""
    counted = {
        states.RUNNING: META_ATTEMPT,
        states.REVERTING: META_REVERT_ATTEMPT,
        states.REVERT_FAILURE: META_REVERT_ATTEMPT,
    }.get(detail.state or "")
    if counted is None:
        return False
    detail.meta[counted] = detail.meta.get(counted, 1) + 1
    return True


def _forget_part(detail: AtomDetail) -> None:
    """Take back what an execute that was cut off, and that is called again, has left in the record of its atom."""
    detail.failure = None
    if detail._meta:
        detail._meta.pop(META_NOT_CALLED, None)
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


_ODD = frozenset((Failure, base.Interrupt, base.NotBegun))
#: the classes that users have derived from Failure, mostly none; all paths know a failure by its type alone
_DERIVED = Failure._tfx_derived
_STATES_WITH_RESULT = frozenset((states.SUCCESS, states.FAILURE, states.REVERTED, states.REVERT_FAILURE))
_NOT_BEGUN = (None, states.PENDING)
_STARTING = frozenset((states.RUNNING, states.REVERTING))
_DECISIONS = [decision.value for decision in retry.Decision]


def _arranger(plan: Plan) -> Callable[[list[int]], None]:
    """Return what sorts ready atoms by priority, the highest first, and then by index."""
    rank = plan.rank
    if rank is None:
        return list.sort
    return lambda batch: batch.sort(key=rank.__getitem__)
