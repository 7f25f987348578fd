"""The life of a run around the scheduler's loop: compile, prepare, validate, run, suspend, reset."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import threading
import time
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, executors, retry, states, storage, task
from taskflowx._util import arguments, logs
from taskflowx.engines import base, binding, keeping, life, plan, scheduler, walk
from taskflowx.executors import carried
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator

    from taskflowx.engines import aio
    from taskflowx.executors.base import Executor
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.types.graph import DiGraph
    from taskflowx.types.tree import Node

LOG = logs.calm(__name__)

_HALT, _CONTINUE = "halt", "continue"
_WARN, _REFUSE, _LEAVE = "warn", "refuse", "ignore"
_STRICT, _GROUP, _EXIT = "strict", "group", "exit"
_COMMIT_INTERVAL, _COMMIT_TIMEOUT, _LEASE = 0.05, 30.0, 60.0  # seconds


class Compilation:
    """A compiled flow: the lists that the engine runs, and what there is for those who want to look at it."""

    def __init__(self, compiled: plan.Plan) -> None:
        self.plan = compiled

    @functools.cached_property
    def execution_graph(self) -> DiGraph:
        """The flow as a graph of networkx; made when it is first asked for, and not used by the engine."""
        from taskflowx.engines import export

        return export.to_digraph(self.plan.flow)

    @functools.cached_property
    def hierarchy(self) -> Node:
        """The flow as a tree of what is in it; made when it is first asked for, and not used by the engine."""
        from taskflowx.engines import export

        return export.to_tree(self.plan.flow)


class ActionEngine(base.Engine):
    """Runs a flow on an executor.

    :param options: by name

        - `executor`: a name ('serial', 'threads', 'processes', 'asyncio') or an instance of
          `concurrent.futures.Executor`, which is left open after the run
        - `max_workers`: how many calls may run at once, for the executors that are picked by name
        - `context`: context variables whose values go along to calls in other processes, or the paths of such, such as
          'package.module:NAME'; calls that share memory with the engine see the whole context of the caller
        - `inline`: whether a call that is the only one to run may run in the engine's own thread with
          executor='threads' (the default)
        - `on_revert_failure`: 'halt' (what precedes an atom whose revert failed waits, the default) or 'continue'
        - `defer_reverts`: whether a retry that says REVERT leaves it to the one around it how much is undone
        - `never_resolve`: whether failures turn nothing round, and everything that can still run runs
        - `inject_transient`: whether values that atoms inject are left out of the record (the default)
        - `durability`: with a store other than memory, when the record is written: 'strict' (the default: before a call
          that depends on it begins), 'group' (at most every `commit_interval` seconds) or 'exit' (when something has
          failed, and when the run is suspended or ends)
        - `commit_interval`: seconds between the commits of durability='group', 0.05 by default
        - `commit_timeout`: for how many seconds a commit is tried again when the store does not take it, 30 by default;
          then the run is stopped
        - `keep_results`: False to let go of the result of a task once each task that takes it has ended, and no
          `revert`, decider or retry needs it; or the names of values that are kept all the same
        - `lease`: after how many seconds without a sign of life another process may take the run over, 60 by default
        - `on_mismatch`: what is done when the record has atoms that have begun, and that the flow does not have any
          more: 'warn' (the default), 'refuse' (IncompatibleVersion before anything runs) or 'ignore'
        - `gather_statistics`: whether the time spent in each step is measured (the default)
    :raises ValueError, TypeError: when an option is unknown or its value is not one of those accepted
    """

    NO_RERAISING_STATES = frozenset((states.SUCCESS, states.SUSPENDED))
    KNOWN_OPTIONS = frozenset(
        (
            "commit_interval",
            "commit_timeout",
            "context",
            "defer_reverts",
            "durability",
            "executor",
            "gather_statistics",
            "inject_transient",
            "inline",
            "keep_results",
            "lease",
            "max_workers",
            "never_resolve",
            "on_mismatch",
            "on_revert_failure",
        )
    )
    _default_executor = "serial"

    def __init__(self, flow: Any, flow_detail: FlowDetail, backend: Any, options: dict[str, Any] | None) -> None:
        super().__init__(flow, flow_detail, backend, options)
        if self._options:
            _check_options(type(self), self._options)
        self._executor = self._make_executor()
        self._carried = carried.by_path(self._options.get("context", ()))
        self._plan: plan.Plan | None = None
        self._compilation: Compilation | None = None
        self._details: list[Any] = []
        self._absent: list[AtomDetail] = []  # on record, and not in the flow
        self._binder: binding.Binder | None = None
        self._storage = storage.Storage(flow_detail, backend, self._seen_by)
        self._scheduler: scheduler.Scheduler | None = None
        #: that of a run which was interrupted: something may still come of its calls
        self._left: scheduler.Scheduler | None = None
        self._validated = -1
        #: (state, state before) of a move of the flow that nobody has been told of yet
        self._untold: tuple[str, str | None] | None = None
        self._seconds: dict[str, float] = {}
        self._active_for = 0.0
        self._timed_out = False
        #: for tests: puts ready atoms in the order in which they start
        self._arrange: Callable[[list[int]], None] | None = None

    def _make_executor(self) -> Executor:
        executor = self._options.get("executor")
        return executors.fetch(
            self._default_executor if executor is None else executor,
            self._options.get("max_workers"),
            inline=self._options.get("inline", True),
        )

    def _seen_by(self, atom_name: str) -> Iterator[list[str]]:
        return iter(()) if self._binder is None else self._binder.seen_by(atom_name)

    @property
    def storage(self) -> storage.Storage:
        """The record of the run, by name."""
        return self._storage

    @property
    def compilation(self) -> Compilation | None:
        """The compiled flow; None before it is compiled."""
        if self._compilation is None and self._plan is not None:
            self._compilation = Compilation(self._plan)
        return self._compilation

    @property
    def statistics(self) -> dict[str, Any]:
        """Numbers about the run so far.

        `completed`, `incomplete` and `awaiting` count atoms that have ended, that are under way, and that have not
        begun; `discarded_failures` is 0, as none is ever discarded; `active_for` is the time spent in `run`, in
        seconds, and `seconds_per_state` how it was spent.
        """
        current = [detail.state for detail in self._details if detail is not None]
        awaiting = sum(state in (None, states.PENDING) for state in current)
        under_way = sum(state in _UNDER_WAY for state in current)
        return {
            "completed": len(current) - awaiting - under_way,
            "incomplete": under_way,
            "awaiting": awaiting,
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
        if self._plan is None:
            self._alone("compile", self._compile)

    def _compile(self) -> None:
        if self._plan is None:
            compiled = plan.compile_flow(self._flow, awaits=self._executor.runs_async)
            if self._executor.pickles:
                _check_picklable(compiled, self._executor.dumps)
            self._plan = compiled

    def prepare(self) -> None:
        """Make the record of each atom, or find it in what is kept already.

        A flow that has been reverted is brought back to its beginning, unless a part of it still stands.

        :raises InvalidState: when the flow has not been compiled, or another thread is at work with the engine
        :raises IncompatibleVersion: with on_mismatch='refuse', when the record has atoms that the flow has not
        """
        self._compiled()
        if self._binder is None or self._storage.get_flow_state() == states.REVERTED:
            self._alone("prepare", self._prepare)

    def _prepare(self) -> None:
        compiled = self._compiled()
        if self._binder is None:
            self._look_for_absent(compiled)
            self._details = self._storage.ensure_plan(compiled.atoms, compiled.names)
            transient = self._options.get("inject_transient", True)
            for atom in compiled.atoms:
                if atom is not None and atom.inject:
                    self._storage.inject_atom_args(atom.name, atom.inject, transient=transient)
            binder = binding.Binder(compiled, self._details, self._storage)
            binder.prepare()
            self._binder = binder  # last: an interrupt leaves it all to be done again
        if self._storage.get_flow_state() == states.REVERTED and not self.not_undone():
            self._reset()

    def _look_for_absent(self, compiled: plan.Plan) -> None:
        """Report the atoms on record that the flow does not have any more."""
        self._absent = self._storage.absent_from(compiled.names)
        on_mismatch = self._options.get("on_mismatch", _WARN)
        if not self._absent or on_mismatch == _LEAVE:
            return
        named = ", ".join(f"'{detail.name}' ({detail.state})" for detail in self._absent[:_NAMED_IN_FULL])
        msg = (
            f"The record of {self._flow} has atoms that the flow does not have any more: {named}\n"
            "They are neither run nor undone. Put them back into the flow, with the name that they had, to have them "
            "undone when it is rolled back"
        )
        if on_mismatch == _REFUSE:
            raise exceptions.IncompatibleVersion(f"{msg}; or load the engine with on_mismatch='warn' or 'ignore'")
        LOG.warning(msg)

    def validate(self) -> None:
        """Check that somebody provides everything that is required.

        :raises MissingDependencies: names the flow, and as its causes the atoms and what each of them lacks
        :raises InvalidState: when the flow has not been prepared, or another thread is at work with the engine
        """
        compiled, binder = self._compiled("validate"), self._prepared("validate")
        if binder.epoch != self._storage.injections:
            self._alone("validate", binder.prepare)
        if self._validated == binder.epoch:
            return
        lacking = [(i, lack) for i in binder.incomplete if (lack := binder.missing(i))]
        if lacking:
            raise _missing(compiled, binder, lacking)
        self._validated = binder.epoch

    def _compiled(self, to: str = "prepare") -> plan.Plan:
        if self._plan is None:
            msg = f"Can not {to} an engine which has not been compiled"
            raise exceptions.InvalidState(msg)
        return self._plan

    def _prepared(self, to: str) -> binding.Binder:
        self._compiled(to)
        if self._binder is None:
            msg = f"Can not {to} an engine which has not had its storage populated"
            raise exceptions.InvalidState(msg)
        return self._binder

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

        All of it is done before anybody is told, and an interrupt is raised when it is done.

        :param force: whether effects that stand although the flow was reverted are forgotten, to be made once more
        :raises InvalidState: when the flow has not been prepared, or is in a state that has no way back, or runs;
            without `force` also when a part of it still stands after it was reverted
        """
        self._prepared("reset")
        if not force:
            self._refuse_what_stands("reset")
        self._alone("reset", self._reset, in_a_run=False)

    def _reset(self) -> None:
        states.check_flow_transition(self._storage.get_flow_state(), states.PENDING)  # before anything is forgotten
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
        told = self._prepared("reset").told
        self._left = None
        details = {i: detail for i, detail in enumerate(self._details) if detail is not None}
        if self._storage.durable:
            self._storage.touched.update(details)  # until they are saved: a run that follows saves them
        for i, detail in details.items():
            if detail.state != states.PENDING:
                moved.setdefault(i, detail.state)
            scheduler.begin_anew(detail, counted=i in told)
        for detail in self._absent:
            scheduler.begin_anew(detail, counted=False)
        self._change_state(states.PENDING, [*details.values(), *self._absent])
        self._absent = []
        self._storage.touched.clear()

    def _tell_of_reset(self, moved: dict[int, str | None]) -> None:
        while moved:
            i = next(iter(moved))
            detail, old = self._details[i], moved.pop(i)
            self._atom_notifier.notify(
                states.PENDING,
                {f"{detail.KIND}_name": detail.name, f"{detail.KIND}_uuid": detail.uuid, "old_state": old},
            )
        self._tell_of_move()

    def _refuse_what_stands(self, to: str) -> None:
        """Refuse to make effects again that stand, as an inner part of the flow alone was reverted.

        :raises InvalidState: names the atoms
        """
        standing = self.not_undone() if self._storage.get_flow_state() == states.REVERTED else []
        if standing:
            msg = (
                f"Can not {to} {self._flow}: it was reverted in part, and {_quoted(standing)} would be repeated "
                "without having been undone\n"
                "rollback() undoes all that stands, then it can be run anew; reset(force=True) forgets what stands"
            )
            raise exceptions.InvalidState(msg)

    def _move(self, state: str) -> bool:
        """Move the flow to a state, and tell those who listen; returns whether it has moved."""
        moved = self._change_state(state)
        self._tell_of_move()
        return moved

    def _change_state(self, state: str, details: Iterable[AtomDetail] = ()) -> bool:
        """Move the flow to a state without a word; returns whether it has moved.

        :param details: what is saved with it
        """
        old = self._storage.get_flow_state()
        if states.check_flow_transition(old, state):
            self._untold = state, old
        return self._storage.change_flow_state(state, details)[0]

    def _tell_of_move(self) -> None:
        """Tell of the last move of the flow, if nobody has: so it is told once, also when an interrupt comes."""
        untold, self._untold = self._untold, None
        if untold is not None:
            state, old = untold
            self._notifier.notify(
                state,
                {
                    "engine": self,
                    "flow_name": self._storage.flow_name,
                    "flow_uuid": self._storage.flow_uuid,
                    "old_state": old,
                },
            )

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
        cut off and run again when the flow is run on, what runs elsewhere is let finish.

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
            self._compiled("suspend")

    def not_undone(self) -> list[str]:
        """Return the names of the atoms whose effects still stand: those that ran and have not been reverted.

        The last ones are tasks that are on record and that the flow does not have any more.
        """
        return [
            detail.name
            for atom, detail in zip(self._compiled("look at").atoms, self._details, strict=False)
            if detail is not None
            and detail.state not in states.NOT_BEGUN
            and not (isinstance(atom, retry.Retry) and type(atom).revert is retry.Retry.revert)
        ] + [detail.name for detail in self._absent if detail.KIND == "task"]

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
            raise self._left_by(work)

    def _let_go(self, work: life.Work) -> None:
        self._leave(work)
        if self._scheduler is work.scheduler:
            self._scheduler = None
        work.let_go()

    def _owned(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, None]:
        options = self._options
        with self._storage.owned(options.get("lease", _LEASE), options.get("commit_timeout", _COMMIT_TIMEOUT)):
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
            self._refuse_what_stands("run")
        if not work.undo and self._storage.get_flow_state() == states.SUCCESS and self._found() <= _SUCCEEDED:
            LOG.warning(
                "%s has succeeded already, so nothing of it runs; reset() brings it to its beginning",
                self._flow,
            )
        current = self._begin(work)
        if (yield states.RESUMING):
            current.stop()
        clock = time.monotonic
        spent = self._seconds if self._options.get("gather_statistics", True) else {}
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
                if current.stopping:
                    self._move(states.SUSPENDING)
        except BaseException as error:
            work.note(error)  # before closing it may raise another one
            raise
        finally:
            steps.close()
        spent[step] = spent.get(step, 0.0) + clock() - before
        self._timed_out = current.timed_out
        yield self._conclude(current)

    def _take_late(self) -> None:
        """Put on record what has come of the calls of an interrupted run since it was left."""
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
        work.note(running.interrupts.left_by)
        if running.interrupts.left_by is not None:
            self._left = running
        if not isinstance(work.left_by, exceptions.OwnershipFailure):  # then it is somebody else's
            if work.not_saved is not None:
                self._storage.lose_patience()
            for state in (states.SUSPENDING, states.SUSPENDED):  # of a flow that has ended this saves the end at most
                try:
                    if state == states.SUSPENDED or self._storage.get_flow_state() == states.RUNNING:
                        self._move(state)
                except exceptions.StorageFailure as error:
                    work.note(error)
                    self._storage.lose_patience()
        work.at_rest = True

    def _left_by(self, work: life.Work) -> BaseException:
        """Return what is raised of a run that was left before its end."""
        error = work.left_by
        assert error is not None, "it was left"
        if work.not_saved is None or (work.scheduler is None and not self._storage.touched):
            return error
        told = self._not_saved(work.not_saved)
        if error is work.not_saved:
            told.__cause__ = error
            return told
        LOG.warning("%s", told)
        return error

    def _raise_for(self, final: str, timeout: float | None) -> None:
        """Raise what the caller of a run that has ended in this state is to see."""
        if final == states.SUSPENDED and self._timed_out:
            msg = f"{self._flow} was not finished after {timeout} seconds; it is suspended and can be run on"
            raise TimeoutError(msg)
        if final not in self.NO_RERAISING_STATES:
            self._reraise(final)

    def _begin(self, work: life.Work) -> scheduler.Scheduler:
        """Put the flow into RUNNING, whatever state it was left in, and make the parts of one run."""
        if work.undo:
            for detail in filter(None, self._details):
                detail.intention = states.REVERT
            self._storage.save_all()
            if self._storage.get_flow_state() in (states.REVERTED, states.SUCCESS):
                self._move(states.PENDING)
        if self._storage.get_flow_state() in (states.SUSPENDING, states.RESUMING):
            self._move(states.SUSPENDED)
        options = self._options
        go_on = options.get("on_revert_failure", _HALT) == _CONTINUE
        compiled = self._compiled("run")
        running = scheduler.Scheduler(
            compiled,
            walk.Walk(compiled, self._details, go_on=go_on),
            self._details,
            self._prepared("run"),
            self._storage,
            self._executor,
            self._atom_notifier,
            defer_reverts=bool(options.get("defer_reverts")),
            never_resolve=bool(options.get("never_resolve")),
            go_on=go_on,
            commit_interval=self._commit_interval(),
            arrange=self._arrange,
            keeping=self._keeping(compiled),
        )
        work.scheduler = self._scheduler = running
        if work.stopping:  # after others can find it: a `suspend` that comes now stops it itself
            running.stop()
        if not self._move(states.RUNNING):
            self._storage.claim()  # a record that says RUNNING already may be that of somebody else's run
        return running

    def _keeping(self, compiled: plan.Plan) -> keeping.Keeping | None:
        kept = self._options.get("keep_results", True)
        if kept is True:
            return None
        provided = {name for atom in compiled.atoms if atom is not None for name, _ in atom._tfx_signature.outputs}
        if kept and not kept <= provided:
            unknown = sorted(kept - provided)
            raise ValueError(f"keep_results names {unknown}, which nothing in {self._flow} provides")
        return keeping.Keeping(compiled, self._details, kept or ())

    def _commit_interval(self) -> float:
        durability = self._options.get("durability", _STRICT)
        if durability == _GROUP:
            return float(self._options.get("commit_interval", _COMMIT_INTERVAL))
        return math.inf if durability == _EXIT else 0.0

    def _not_saved(self, error: BaseException) -> exceptions.StorageFailure:
        """Return the error of a run that was stopped because its store takes nothing more."""
        if isinstance(error, exceptions.Unstorable):
            return exceptions.Unstorable(f"{self._flow} was stopped, as its record cannot be stored as it is", error)
        changed = [self._details[i] for i in sorted(self._storage.touched)]
        if not changed:
            return exceptions.StorageFailure(
                f"{self._flow} was stopped, as its store did not take the record; all that was done is saved\n"
                "Run this engine again, or go on from the record",
                error,
            )
        names = ", ".join(f"'{detail.name}' ({detail.state})" for detail in changed[:_NAMED_IN_FULL])
        more = f" and {len(changed) - _NAMED_IN_FULL} more" if len(changed) > _NAMED_IN_FULL else ""
        return exceptions.StorageFailure(
            f"{self._flow} was stopped, as its store does not take the record. Not saved: {names}{more}\n"
            "This engine still has it: run it again when the store is back. Another process would do again what is not "
            "saved",
            error,
        )

    def _conclude(self, current: scheduler.Scheduler) -> str:
        """Work out how the run has ended, and move the flow there."""
        if current.stopping and current.unfinished:
            self._move(states.SUSPENDING)
            self._move(states.SUSPENDED)
            return states.SUSPENDED
        found = self._found()
        if found <= _SUCCEEDED:
            final = states.SUCCESS
        elif states.REVERT_FAILURE in found or not any(
            detail.intention == states.REVERT for detail in self._details if detail is not None
        ):
            final = states.FAILURE
        else:
            final = states.REVERTED
        self._move(final)
        return final

    def _found(self) -> set[str | None]:
        """Return the states in which there are atoms."""
        return set(map(_state_of, filter(None, self._details)))

    def _reraise(self, final: str) -> None:
        """Raise what is on record as failed; a note of it names what still stands."""
        failures = [*self._storage.get_execute_failures().values(), *self._storage.get_revert_failures().values()]
        standing = self.not_undone()
        try:
            Failure.reraise_if_any(failures)
        except Exception as error:
            note = f"Not undone in {self._flow}: {_quoted(standing)}"
            if standing and note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise
        msg = f"{self._flow} ended {final}, and no failure is on record; the atoms that stand are {standing}"
        raise exceptions.ExecutionFailure(msg)


class SerialActionEngine(ActionEngine):
    """Runs everything in the thread that calls `run`."""

    def _make_executor(self) -> Executor:
        super()._make_executor()  # a good one is left aside, as callers configure engine and executor apart
        return executors.fetch("serial")


class ParallelActionEngine(ActionEngine):
    """Runs what does not depend on each other at the same time, in threads unless another executor is given."""

    _default_executor = "threads"


#: how many missing names are told one by one, with the atoms that lack them
_NAMED_IN_FULL = 30
_FLAGS = frozenset(("defer_reverts", "gather_statistics", "inject_transient", "inline", "never_resolve"))
_UNDER_WAY = (states.RUNNING, states.REVERTING, states.RETRYING)
_SUCCEEDED = frozenset((states.SUCCESS, states.IGNORE))
_state_of = operator.attrgetter("state")


def _quoted(names: list[str]) -> str:
    """Return names in one line, not all of them when they are many."""
    quoted = ", ".join(f"'{name}'" for name in names[:_NAMED_IN_FULL])
    return f"{quoted} and {len(names) - _NAMED_IN_FULL} more" if len(names) > _NAMED_IN_FULL else quoted


def _check_options(engine: type[ActionEngine], options: dict[str, Any]) -> None:
    unknown = sorted(options.keys() - engine.KNOWN_OPTIONS)
    if unknown:
        msg = f"Unknown engine options {unknown}, the known ones are {sorted(engine.KNOWN_OPTIONS)}"
        raise ValueError(msg)
    arguments.check_choice("on_revert_failure", options.get("on_revert_failure", _HALT), (_HALT, _CONTINUE))
    arguments.check_choice("on_mismatch", options.get("on_mismatch", _WARN), (_WARN, _REFUSE, _LEAVE))
    arguments.check_choice("durability", options.get("durability", _STRICT), (_STRICT, _GROUP, _EXIT))
    for name, least in (("commit_interval", 0.001), ("commit_timeout", 0), ("lease", 1)):
        if name in options:
            wanted = f"a number of seconds, at least {least}"
            options[name] = arguments.to_seconds(name, options[name], wanted, least=least)
    kept = options.get("keep_results", True)
    if not isinstance(kept, bool):
        arguments.check_iterable("keep_results", kept, "True, False or a list of names of values")
        options["keep_results"] = frozenset(kept)
    for name in _FLAGS & options.keys():
        options[name] = arguments.to_bool(name, options[name])


def _check_picklable(compiled: plan.Plan, dumps: Callable[[Any], bytes]) -> None:
    """Refuse atoms that cannot reach another process: looks at each class, and at each function of a task, once."""
    checked: set[Any] = set()
    for atom in compiled.atoms:
        if atom is None:
            continue
        parts: list[Any] = [type(atom)]
        if isinstance(atom, task.Task):
            parts += atom._tfx_functions()
        for part in parts:
            if id(part) in checked:
                continue
            try:
                dumps(part)
            except Exception as error:
                msg = (
                    f"Atom '{atom.name}' cannot reach another process: {part!r} cannot be pickled ({error}); "
                    "define it at the top level of a module, install cloudpickle, or use executor='threads'"
                )
                raise exceptions.CompilationFailure(msg, error) from None
            checked.add(id(part))


def _missing(
    compiled: plan.Plan, binder: binding.Binder, lacking: list[tuple[int, Any]]
) -> exceptions.MissingDependencies:
    """Return the error for inputs that nobody provides, with one cause for each atom."""
    cause: exceptions.MissingDependencies | None = None
    names: dict[str, None] = {}
    for i, lack in lacking:
        for method, pairs in lack:
            names.update(dict.fromkeys(name for _, name in pairs))
            if len(names) <= _NAMED_IN_FULL or cause is None:
                hints = [hint for arg, name in pairs if (hint := binder.hint(i, arg, name))]
                cause = exceptions.MissingDependencies(
                    compiled.atoms[i], sorted(name for _, name in pairs), cause, method, hint="\n".join(hints)
                )
    return exceptions.MissingDependencies(compiled.flow, sorted(names), cause)
