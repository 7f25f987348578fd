"""The life of a run around the scheduler's loop: compile, prepare, validate, run, suspend, reset."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, executors, states, storage
from taskflowx._util import arguments, logs
from taskflowx.engines import control, endings, life, resetting, scheduler, shared, walk
from taskflowx.engines.compilation import Compilation
from taskflowx.engines.flow_state import FlowState
from taskflowx.engines.options import NAMES, Options
from taskflowx.engines.preparation import Preparation
from taskflowx.executors import carried
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines import aio
    from taskflowx.engines.events import Event
    from taskflowx.engines.options import OnTimeout
    from taskflowx.executors.base import Executor
    from taskflowx.flow import Member
    from taskflowx.persistence.base import Backend
    from taskflowx.persistence.models import FlowDetail
    from taskflowx.storage import Storage

LOG = logs.calm(__name__)


class ActionEngine(control.Controlled):
    """Runs a flow on an executor.

    :param options: by name; see `taskflowx.engines.options.Options`
    :raises ValueError, TypeError: when an option is unknown or its value is not one of those accepted
    """

    NO_RERAISING_STATES = frozenset((states.SUCCESS, states.SUSPENDED))
    KNOWN_OPTIONS = NAMES
    _default_executor = "serial"

    def __init__(
        self, flow: Member, flow_detail: FlowDetail, backend: Backend | None, options: Mapping[str, Any] | None
    ) -> None:
        super().__init__(flow, flow_detail, backend, options)
        self._settings = Options.of(self.options, self.KNOWN_OPTIONS)
        self.options = {name: getattr(self._settings, name, value) for name, value in self.options.items()}
        self._executor = self._make_executor()
        self.notifier._tfx_awaits = self.atom_notifier._tfx_awaits = self._executor.awaits_callbacks
        self._carried = carried.by_path(self._settings.context)
        self._storage = storage.Storage(flow_detail, backend, clock=self._clock if self._settings.history else None)
        #: what has been made of the flow so far: its plan, the details of its atoms, their bindings
        self.preparation = Preparation(flow, self._storage, self._executor, self._settings)
        self._compilation: Compilation | None = None
        self._scheduler: scheduler.Scheduler | None = None
        #: that of a run which was interrupted: something may still come of its calls
        self._left: scheduler.Scheduler | None = None
        self._state = FlowState(self, self._storage, self.notifier)
        self._resetting = resetting.Resetting(self.preparation, self._storage, self._state, self.atom_notifier)
        self._seconds: dict[str, float] = {}
        self._active_for = 0.0
        self._timed_out = False
        self._cancelled: shared.Cancel | None = None
        #: for tests: puts ready atoms in the order in which they start
        self._arrange: Callable[[list[int]], None] | None = None

    def _make_executor(self) -> Executor:
        settings = self._settings
        executor = self._default_executor if settings.executor is None else settings.executor
        return executors.fetch(executor, settings.max_workers, inline=settings.inline)

    @property
    def storage(self) -> Storage:
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

    def _is_rolled_back_to_one(self) -> bool:
        """Tell whether the flow is being rolled back to an atom."""
        return metadata.ROLLED_BACK_TO in (self._flow_detail.meta or ())

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
        """Check that somebody provides everything that is required, and the annotations with types='warn' or 'strict'.

        :raises MissingDependencies: names the flow, and as its causes the atoms and what each of them lacks
        :raises AmbiguousDependency: with results='strict', when a name has several sources
        :raises TypeMismatch: with types='strict', when a value is annotated as another type than an atom takes
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
        self._resetting.reset_all(self._forget_left)

    def _forget_left(self) -> None:
        self._left = None

    # -- a run -------------------------------------------------------------------------------------

    def run(self, timeout: float | None = None, *, on_timeout: OnTimeout = "suspend") -> None:
        """Run the flow to its end, or go on where it was left.

        :param timeout: seconds after which nothing new starts
        :param on_timeout: what happens then: 'suspend' lets what runs finish and leaves the flow SUSPENDED; 'rollback'
            stops what runs, as `cancel` does, and rolls everything back
        :raises TimeoutError: when the time is up
        :raises Cancelled: when it was cancelled
        :raises InvalidState: when it is under way already
        :raises Exception: the failure when the flow has failed; a `WrappedFailure` for several
        """
        # not in the generator, which would change a StopIteration
        self._raise_for(self.run_to_rest(timeout, on_timeout=on_timeout), timeout)

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

    async def arun(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - it suspends, as that of `run`
        *,
        on_timeout: OnTimeout = "suspend",
    ) -> None:
        """As `run`, awaited in an event loop.

        With executor='asyncio' all of the run takes place in that loop, and `async def` tasks with it; other executors
        are waited for in a thread. When the coroutine is cancelled the flow is left SUSPENDED: coroutines of tasks are
        interrupted and run again when the flow is run on, calls elsewhere are let finish.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED
        :raises TimeoutError: when the time is up
        :raises Exception: the failure when the flow has failed; a `WrappedFailure` for several
        """
        self._raise_for(await self.arun_to_rest(timeout, on_timeout=on_timeout), timeout)

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

    def events(self, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """As `arun`, as an iterator over the transitions of the flow and its atoms.

        When the iterator is closed early, the flow is left SUSPENDED.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED
        :raises Exception: at the end, as `arun`
        """
        from taskflowx.engines import events

        return events.events(self, timeout)

    def _awaited(
        self,
        timeout: float | None,
        *,
        stepwise: bool,
        work: life.Work | None = None,
        on_timeout: OnTimeout = "suspend",
    ) -> aio.Awaited:
        from taskflowx.engines import aio  # who does without coroutines does without asyncio

        work = work or self._new_run(on_timeout)
        work.refuse_another(self._flow)
        steps = self._iterate(timeout, work, stepwise=stepwise)
        if self._executor.runs_async:
            return aio.InALoop(self.seconds_to_wait, work, steps, self._executor)
        return aio.InAThread(work, steps)

    def seconds_to_wait(self) -> float | None:
        """Return after how many seconds without a completion the run has something to do; None for never."""
        running = self._scheduler
        return None if running is None else running.seconds_to_wait()

    def _new_run(self, on_timeout: str = "suspend") -> life.Work:
        arguments.check_choice("on_timeout", on_timeout, ("suspend", "rollback"))
        work = life.Work(self, self._flow_detail, "run")
        work.rolls_back_late = on_timeout == "rollback"
        return work

    def _iterate(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, None]:
        if timeout is not None:
            timeout = arguments.to_seconds("timeout", timeout, "a number of seconds, zero or more, or None", least=0)
        self._executor.context = self._carried
        self._executor.check_start()
        started = time.monotonic()
        try:
            try:
                try:
                    work.claim(self._flow, self._executor)
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
        with self._storage.writes.owned(self._settings.lease, self._settings.commit_timeout, self._clock):
            try:
                self._get_ready(work)
                if work.first is not None:
                    self._storage.writes.claim()  # before anything is changed: the run may be somebody else's
                    if not work.first():
                        yield self._state.now
                        return
                if not work.undoes and self._is_rolled_back_to_one():  # that was interrupted: it comes first
                    began = self._clock.monotonic()
                    final = yield from self._pass(timeout, work, stepwise=stepwise)
                    if final != states.SUSPENDED or work.stopping or self._is_rolled_back_to_one():
                        return
                    timeout = None if timeout is None else max(timeout - (self._clock.monotonic() - began), 0.0)
                yield from self._pass(timeout, work, stepwise=stepwise)
            except BaseException as error:
                work.note(error)
                raise
            finally:
                self._leave(work)

    def _get_ready(self, work: life.Work) -> None:
        """Have all that a run needs, and all that an interrupted one has left, on record."""
        self.compile()
        (self.prepare if work.first is None else self._find_record)()
        self.validate()
        if self._left is not None:  # what has come since of the calls of an interrupted run
            self._left.finish_late()
            self._left = None
        if work.first is None:
            self.preparation.refuse_to_repeat("run")
            if self._state.now == states.SUCCESS == endings.final_state(self.preparation.details):
                msg = "%s has succeeded already, so nothing of it runs; reset() brings it to its beginning"
                LOG.warning(msg, self._flow)

    def _pass(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, str]:
        """Run until nothing is left to do; returns the state in which the flow is left."""
        current = self._begin(work, timeout)
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
        self._timed_out, self._cancelled = current.shared.timed_out, current.shared.cancelled
        final = states.SUSPENDED
        if current.shared.stopping and current.unfinished:
            self._state.move(states.SUSPENDING)
        elif current.shared.only_undoes and self._undoing().is_complete():
            self._undoing().complete()
            self._state.move(states.SUSPENDING)
        elif asked := current.asked:
            LOG.warning("%s is SUSPENDED: %s", self._flow, endings.way_out(asked))
            self._state.move(states.SUSPENDING)
        else:
            final = endings.final_state(self.preparation.details)
        self._state.move(final)
        yield final
        return final

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
                self._storage.writes.stop_retrying()
            for state in (states.SUSPENDING, states.SUSPENDED):  # of a flow that has ended this saves the end at most
                try:
                    if state == states.SUSPENDED or self._state.now == states.RUNNING:
                        self._state.move(state)
                except exceptions.StorageFailure as error:
                    work.note(error)
                    self._storage.writes.stop_retrying()
        self._executor.end_run(left=work.left_by is not None)
        work.at_rest = True

    def _raise_for(self, final: str, timeout: float | None) -> None:
        """Raise what the caller of a run that has ended in this state is to see."""
        if final != states.SUCCESS:
            endings.raise_if_cancelled(self._flow, self.preparation, self._storage.flow_meta, self._cancelled)
        if final == states.SUSPENDED and self._timed_out:
            msg = f"{self._flow} was not finished after {timeout} seconds; it is suspended and can be run on"
            raise TimeoutError(msg)
        asked_for = final == states.REVERTED and metadata.ROLLED_BACK in self._storage.flow_meta
        if not asked_for and final not in self.NO_RERAISING_STATES:
            endings.raise_failures(self._flow, self.preparation, final)

    def _begin(self, work: life.Work, timeout: float | None) -> scheduler.Scheduler:
        """Put the flow into RUNNING, whatever state it was left in, and make the parts of one run."""
        if work.undoes and self._state.now in (states.REVERTED, states.SUCCESS):
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
                self.atom_notifier,
                self._arrange,
                self._clock,
            ),
            settings,
            self.preparation.keeping(),
        )
        running.shared.only_undoes = self._is_rolled_back_to_one()
        work.scheduler = self._scheduler = running
        if work.rolls_back_late and timeout is not None:
            running.shared.late_error = endings.late(self._flow, timeout)
        if work.cancelled is not None:
            running.cancel(work.cancelled)
        if work.stopping:  # after others can find it: a `suspend` that comes now stops it itself
            running.stop()
        if not self._state.move(states.RUNNING):
            self._storage.writes.claim()  # a record that says RUNNING already may be that of somebody else's run
        return running


class SerialActionEngine(ActionEngine):
    """Runs everything in the thread that calls `run`."""

    def _make_executor(self) -> Executor:
        given = super()._make_executor()  # a good one is left aside, as callers configure engine and executor apart
        if not given.serial:
            LOG.warning(
                "engine='serial' runs %s in the thread that calls run(), and leaves executor=%r aside; without engine= "
                "it is used",
                self._flow,
                self._settings.executor,
            )
        return executors.fetch("serial")


class ParallelActionEngine(ActionEngine):
    """Runs what does not depend on each other at the same time, in threads unless another executor is given."""

    _default_executor = "threads"
