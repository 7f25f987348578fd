"""The life of a run around the scheduler's loop: compile, prepare, validate, run, suspend, reset."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, executors, states, storage
from taskflowx._util import arguments, logs
from taskflowx.engines import base, endings, keeping, life, scheduler, shared, walk
from taskflowx.engines.compilation import (
    Compilation,
)
from taskflowx.engines.flow_state import FlowState
from taskflowx.engines.options import NAMES, Options
from taskflowx.engines.preparation import Preparation
from taskflowx.executors import carried

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from taskflowx.engines import aio
    from taskflowx.executors.base import Executor
    from taskflowx.persistence.models import FlowDetail

LOG = logs.calm(__name__)


class ActionEngine(base.Engine):
    """Runs a flow on an executor.

    :param options: by name; see `taskflowx.engines.options.Options`
    :raises ValueError, TypeError: when an option is unknown or its value is not one of those accepted
    """

    NO_RERAISING_STATES = frozenset((states.SUCCESS, states.SUSPENDED))
    KNOWN_OPTIONS = NAMES
    _default_executor = "serial"

    def __init__(self, flow: Any, flow_detail: FlowDetail, backend: Any, options: dict[str, Any] | None) -> None:
        super().__init__(flow, flow_detail, backend, options)
        self._settings = Options.of(self._options, self.KNOWN_OPTIONS)
        self._options = {name: getattr(self._settings, name, value) for name, value in self._options.items()}
        self._executor = self._make_executor()
        self._carried = carried.by_path(self._settings.context)
        self._storage = storage.Storage(flow_detail, backend, self._seen_by)
        #: what has been made of the flow so far: its plan, the details of its atoms, their bindings
        self.preparation = Preparation(flow, self._storage, self._executor, self._settings)
        self._compilation: Compilation | None = None
        self._scheduler: scheduler.Scheduler | None = None
        #: that of a run which was interrupted: something may still come of its calls
        self._left: scheduler.Scheduler | None = None
        self._state = FlowState(self, self._storage, self._notifier)
        self._seconds: dict[str, float] = {}
        self._active_for = 0.0
        self._timed_out = False
        #: for tests: puts ready atoms in the order in which they start
        self._arrange: Callable[[list[int]], None] | None = None

    def _make_executor(self) -> Executor:
        settings = self._settings
        executor = self._default_executor if settings.executor is None else settings.executor
        return executors.fetch(executor, settings.max_workers, inline=settings.inline)

    def _seen_by(self, atom_name: str) -> Iterator[list[str]]:
        return self.preparation.seen_by(atom_name)

    @property
    def storage(self) -> storage.Storage:
        """The record of the run, by name."""
        return self._storage

    @property
    def compilation(self) -> Compilation | None:
        """The compiled flow; None before it is compiled."""
        compiled = self.preparation.plan
        if self._compilation is None and compiled is not None:
            self._compilation = Compilation(compiled)
        return self._compilation

    @property
    def statistics(self) -> dict[str, Any]:
        """Numbers about the run so far.

        `completed`, `incomplete` and `awaiting` count atoms that have ended, that are under way, and that have not
        begun; `discarded_failures` is 0, as none is ever discarded; `active_for` is the time spent in `run`, in
        seconds, and `seconds_per_state` how it was spent.
        """
        return {
            **self.preparation.counts(),
            "discarded_failures": 0,
            "active_for": self._active_for,
            "seconds_per_state": {state.lower(): seconds for state, seconds in sorted(self._seconds.items())},
        }

    # -- before a run ------------------------------------------------------------------------------

    def compile(self) -> None:
        """Turn the flow into lists; done once.

        :raises TypeError: when something in the flow is neither a task nor a flow
        :raises Duplicate: when two atoms have the same name
        :raises CompilationFailure: when a task cannot run where it is to run: it cannot reach a process, or it is a
            coroutine function and nothing awaits it
        :raises InvalidState: when another thread is at work with the engine
        """
        if self.preparation.plan is None:
            self._alone("compile", self.preparation.compile)

    def prepare(self) -> None:
        """Make the record of each atom, or find it in what is kept already.

        A flow that has been reverted is brought back to its beginning, unless a part of it still stands.

        :raises InvalidState: when the flow has not been compiled, or another thread is at work with the engine
        :raises IncompatibleVersion: with on_mismatch='refuse', when the record has atoms that the flow has not
        """
        self.preparation.compiled()
        if self.preparation.binder is None or self._state.now == states.REVERTED:
            self._alone("prepare", self._prepare)

    def _prepare(self) -> None:
        self.preparation.prepare()
        if self._state.now == states.REVERTED and not self.not_undone():
            self._reset()

    def validate(self) -> None:
        """Check that somebody provides everything that is required.

        :raises MissingDependencies: names the flow, and as its causes the atoms and what each of them lacks
        :raises InvalidState: when the flow has not been prepared, or another thread is at work with the engine
        """
        preparation = self.preparation
        if not preparation.is_bound():
            self._alone("validate", preparation.prepared("validate").prepare)
        preparation.validate()

    def _alone(self, to: str, step: Callable[[], None], *, in_a_run: bool = True) -> None:
        """Do what must not take place during a run.

        :param in_a_run: whether a run may do it itself, in its own thread
        :raises InvalidState: when something else is under way
        """
        record = self._flow_detail
        holder = life.current(record)
        if in_a_run and holder is not None and (holder.engine, holder.thread) == (self, threading.get_ident()):
            step()
            return
        work = life.Work(self, record, to)
        try:
            try:
                work.claim(self._flow)
                step()
            finally:
                work.let_go()
        finally:
            work.let_go()  # an interrupt may have come before that above

    def reset(self, force: bool = False) -> None:
        """Bring a flow that has ended back to its beginning: all atoms PENDING, no results.

        All of it is done before it is published, and an interrupt is raised when it is done.

        :param force: whether effects that stand although the flow was reverted are forgotten, to be made once more
        :raises InvalidState: when the flow has not been prepared, or is in a state that has no way back, or runs;
            without `force` also when a part of it still stands after it was reverted
        """
        self.preparation.prepared("reset")
        if not force:
            self.preparation.refuse_to_repeat("reset")
        self._alone("reset", self._reset, in_a_run=False)

    def _reset(self) -> None:
        states.check_flow_transition(self._state.now, states.PENDING)  # before anything is forgotten
        work = life.Interrupts()
        moved: dict[int, str | None] = {}
        work.defy(lambda: self._begin_anew(moved))
        if work.not_saved is None:
            work.defy(lambda: self._tell_of_reset(moved))
        if work.left_by is not None:
            raise work.left_by

    def _begin_anew(self, moved: dict[int, str | None]) -> None:
        """Reset all atoms and the flow, in one commit; may be done again.

        :param moved: gets the places of the atoms that were not PENDING, and their states before
        """
        preparation, writes = self.preparation, self._storage.writes
        self._left = None
        if writes.durable:  # until they are saved: a run that follows saves them
            writes.dirty.update(i for i, detail in enumerate(preparation.details) if detail is not None)
        preparation.reset(moved)
        self._state.change(states.PENDING, [*filter(None, preparation.details), *preparation.absent])
        preparation.absent = []
        writes.dirty.clear()

    def _tell_of_reset(self, moved: dict[int, str | None]) -> None:
        while moved:
            i = next(iter(moved))
            detail, old = self.preparation.details[i], moved.pop(i)
            self._atom_notifier.notify(
                states.PENDING,
                {f"{detail.KIND}_name": detail.name, f"{detail.KIND}_uuid": detail.uuid, "old_state": old},
            )
        self._state.publish()

    # -- a run -------------------------------------------------------------------------------------

    def run(self, timeout: float | None = None) -> None:
        """Run the flow to its end, or go on where it was left.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED
        :raises TimeoutError: when the time is up
        :raises InvalidState: when it is under way already
        :raises Exception: the failure when the flow has failed; a `WrappedFailure` for several
        """
        final = ""
        with contextlib.closing(self._iterate(timeout, self._new_run(), stepwise=False)) as steps:
            for final in steps:  # noqa: B007 - the last one is the state of the flow
                pass
        self._raise_for(final, timeout)  # not in the generator, which would change a StopIteration

    def run_iter(self, timeout: float | None = None) -> Generator[str, Any, None]:
        """Run the flow step by step: yields what is done next, and in the end the state of the flow.

        Sending a true value suspends the run, as does closing the iterator early.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED
        """
        final = ""
        steps = self._iterate(timeout, self._new_run(), stepwise=True)
        with contextlib.closing(steps):
            sent = None
            while True:
                try:
                    final = steps.send(sent)
                except StopIteration:
                    break
                sent = yield final
        self._raise_for(final, timeout)

    async def arun(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - it suspends, as that of `run`
        """As `run`, awaited in an event loop.

        With executor='asyncio' all of the run takes place in that loop, and `async def` tasks with it; other executors
        are waited for in a thread. When the coroutine is cancelled the flow is left SUSPENDED: coroutines of tasks are
        interrupted and run again when the flow is run on, calls elsewhere are let finish.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED
        :raises TimeoutError: when the time is up
        :raises Exception: the failure when the flow has failed; a `WrappedFailure` for several
        """
        self._raise_for(await self._awaited(timeout, stepwise=False).to_the_end(), timeout)

    async def arun_iter(self, timeout: float | None = None) -> AsyncGenerator[str, Any]:  # noqa: ASYNC109 - as above
        """As `run_iter`, in an event loop: yields what is done next, and in the end the state of the flow.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED
        """
        final = ""
        async with contextlib.aclosing(self._awaited(timeout, stepwise=True).one_by_one()) as steps:
            sent = None
            while True:
                try:
                    final = await steps.asend(sent)
                except StopAsyncIteration:
                    break
                sent = yield final
        self._raise_for(final, timeout)

    def _awaited(self, timeout: float | None, *, stepwise: bool) -> aio.Awaited:
        from taskflowx.engines import aio  # who does without coroutines does without asyncio

        work = self._new_run()
        steps = self._iterate(timeout, work, stepwise=stepwise)
        if self._executor.runs_async:
            return aio.InALoop(self, work, steps, self._executor)
        return aio.InAThread(work, steps)

    def seconds_to_wait(self) -> float | None:
        """Return after how many seconds without a completion the run has something to do; None for never."""
        running = self._scheduler
        return None if running is None else running.seconds_to_wait()

    def rollback(self, timeout: float | None = None) -> None:
        """Undo all that stands: what ran and has not been reverted, also outside of a part that was reverted alone.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED, to be run on
        :raises TimeoutError: when the time is up
        :raises Exception: the failure when something could not be undone; a `WrappedFailure` for several
        """
        final = ""
        for final in self._iterate(timeout, self._new_run(undo=True), stepwise=False):  # noqa: B007 - the last state
            pass
        if final != states.REVERTED:
            self._raise_for(final, timeout)

    def suspend(self) -> None:
        """Let what runs finish, start nothing new, and leave the flow SUSPENDED; may be called from anywhere.

        It counts from the moment at which a run has begun to get ready. Without a run it does nothing.

        :raises InvalidState: when the flow has not been compiled, and no run is about to do that
        """
        work = life.current(self._flow_detail)
        if work is not None and work.engine is self:
            work.stop()
        else:
            self.preparation.compiled("suspend")

    def not_undone(self) -> list[str]:
        """Return the names of the atoms whose effects still stand: those that ran and have not been reverted.

        The last ones are tasks that are on record and that the flow does not have any more.
        """
        return self.preparation.not_undone()

    def _new_run(self, *, undo: bool = False) -> life.Work:
        return life.Work(self, self._flow_detail, "run", undo=undo)

    def _iterate(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, None]:
        if timeout is not None:
            timeout = arguments.to_seconds("timeout", timeout, "a number of seconds, zero or more, or None", least=0)
        self._executor.context = self._carried
        self._executor.check_start()
        started = time.monotonic()
        try:
            try:
                try:
                    work.claim(self._flow)
                    yield from self._owned(timeout, work, stepwise=stepwise)
                except BaseException as error:
                    work.note(error)
                finally:
                    self._let_go(work)
            except BaseException as error:
                work.note(error)
            finally:
                self._let_go(work)  # an interrupt may have come before that above
        finally:
            work.let_go()  # as that one says
        self._active_for += time.monotonic() - started
        if work.left_by is not None:
            dirty = [self.preparation.details[i] for i in sorted(self._storage.writes.dirty)]
            raise endings.left_by(self._flow, work, dirty)

    def _let_go(self, work: life.Work) -> None:
        self._leave(work)
        if self._scheduler is work.scheduler:
            self._scheduler = None
        work.let_go()

    def _owned(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, None]:
        with self._storage.writes.owned(self._settings.lease, self._settings.commit_timeout):
            try:
                yield from self._guarded(timeout, work, stepwise=stepwise)
            except BaseException as error:
                work.note(error)
                raise
            finally:
                self._leave(work)

    def _guarded(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, None]:
        self.compile()
        self.prepare()
        self.validate()
        self._take_late()
        if not work.undo:
            self.preparation.refuse_to_repeat("run")
        if not work.undo and self._state.now == states.SUCCESS == endings.final_state(self.preparation.details):
            LOG.warning(
                "%s has succeeded already, so nothing of it runs; reset() brings it to its beginning", self._flow
            )
        current = self._begin(work)
        if (yield states.RESUMING):
            current.stop()
        clock = time.monotonic
        spent = self._seconds if self._settings.gather_statistics else {}
        before = clock()
        step = states.RESUMING
        steps = current.run(timeout, stepwise=stepwise)
        try:
            for following in steps:
                now = clock()
                spent[step] = spent.get(step, 0.0) + now - before
                step, before = following, now
                if (yield following):
                    current.stop()
                if current.shared.stopping:
                    self._state.move(states.SUSPENDING)
        except BaseException as error:
            work.note(error)  # before closing it may raise another one
            raise
        finally:
            steps.close()
        spent[step] = spent.get(step, 0.0) + clock() - before
        self._timed_out = current.shared.timed_out
        yield self._conclude(current)

    def _take_late(self) -> None:
        """Put on record the outcomes of the calls of an interrupted run since it was left."""
        if self._left is not None:
            self._left.finish_late()
            self._left = None

    def _leave(self, work: life.Work) -> None:
        """Bring a run to rest, whatever it has come to: its calls on record, and the flow in no state of a run."""
        if work.scheduler is not None and not work.at_rest:
            work.defy(functools.partial(self._come_to_rest, work))

    def _come_to_rest(self, work: life.Work) -> None:
        running = work.scheduler
        running.finish()
        work.note(running.shared.interrupts.left_by)
        if running.shared.interrupts.left_by is not None:
            self._left = running
        if not isinstance(work.left_by, exceptions.OwnershipFailure):  # then it is somebody else's
            if work.not_saved is not None:
                self._storage.writes.lose_patience()
            for state in (states.SUSPENDING, states.SUSPENDED):  # of a flow that has ended this saves the end at most
                try:
                    if state == states.SUSPENDED or self._state.now == states.RUNNING:
                        self._state.move(state)
                except exceptions.StorageFailure as error:
                    work.note(error)
                    self._storage.writes.lose_patience()
        work.at_rest = True

    def _raise_for(self, final: str, timeout: float | None) -> None:
        """Raise what the caller of a run that has ended in this state is to see."""
        if final == states.SUSPENDED and self._timed_out:
            msg = f"{self._flow} was not finished after {timeout} seconds; it is suspended and can be run on"
            raise TimeoutError(msg)
        if final not in self.NO_RERAISING_STATES:
            endings.raise_failures(self._flow, self._storage, final, self.not_undone())

    def _begin(self, work: life.Work) -> scheduler.Scheduler:
        """Put the flow into RUNNING, whatever state it was left in, and make the parts of one run."""
        if work.undo:
            for detail in filter(None, self.preparation.details):
                detail.intention = states.REVERT
            self._storage.save_all()
            if self._state.now in (states.REVERTED, states.SUCCESS):
                self._state.move(states.PENDING)
        if self._state.now in (states.SUSPENDING, states.RESUMING):
            self._state.move(states.SUSPENDED)
        settings, binder = self._settings, self.preparation.prepared("run")
        compiled, details = self.preparation.compiled("run"), self.preparation.details
        running = scheduler.Scheduler(
            shared.Run(
                compiled,
                walk.Walk(compiled, details, go_on=settings.goes_on),
                details,
                binder,
                self._storage,
                self._executor,
                self._atom_notifier,
                self._arrange,
            ),
            settings,
            keeping.of(compiled, details, settings.keep_results),
        )
        work.scheduler = self._scheduler = running
        if work.stopping:  # after others can find it: a `suspend` that comes now stops it itself
            running.stop()
        if not self._state.move(states.RUNNING):
            self._storage.writes.claim()  # a record that says RUNNING already may be that of somebody else's run
        return running

    def _conclude(self, current: scheduler.Scheduler) -> str:
        """Work out how the run has ended, and move the flow there."""
        if current.shared.stopping and current.unfinished:
            self._state.move(states.SUSPENDING)
            self._state.move(states.SUSPENDED)
            return states.SUSPENDED
        final = endings.final_state(self.preparation.details)
        self._state.move(final)
        return final


class SerialActionEngine(ActionEngine):
    """Runs everything in the thread that calls `run`."""

    def _make_executor(self) -> Executor:
        super()._make_executor()  # a good one is left aside, as callers configure engine and executor apart
        return executors.fetch("serial")


class ParallelActionEngine(ActionEngine):
    """Runs what does not depend on each other at the same time, in threads unless another executor is given."""

    _default_executor = "threads"
