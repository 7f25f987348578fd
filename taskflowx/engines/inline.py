"""Calls in the thread of the engine, and the two hot loops.

The loops are the longest functions of the engine, on purpose: each Python call costs as much as all else that an atom
needs there. They take the short path for an atom that `plain` marks (see `engines.plan`), whose own notifier nobody
subscribes to, and whose arguments are bound; all others go through `Prepare`, `_make_one` and `Transitions`, which do
the same steps one by one. On the short path nothing is called but the task and the subscribers, and nothing is made
but its arguments and the details of events. The records and events of both are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import retry, signature, states
from taskflowx.engines import notes
from taskflowx.engines.calling import BOUND, TAKES_BOTH, TAKES_FAILURES, TAKES_RESULT, UNRESOLVED
from taskflowx.engines.dispatch import RAISED
from taskflowx.engines.steps import Steps
from taskflowx.engines.transitions import ODD
from taskflowx.engines.unclosed import CLEAR
from taskflowx.executors import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.prepare import Prepare
    from taskflowx.engines.progress import Progress
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions


class Inline:
    """Makes calls of one run in the thread of the engine.

    :param run: the run
    :param commits: what is dirty
    :param transitions: changes the states of atoms
    :param prepare: gets calls ready
    :param progress: takes the progress of tasks
    :param stops: tells whether nothing more is to start, as time may be up
    :param inlinable: which atoms may take the short path, by index; None for those of the Walk
    """

    def __init__(
        self,
        run: Run,
        commits: Commits,
        transitions: Transitions,
        prepare: Prepare,
        progress: Progress,
        stops: Callable[[], bool],
        inlinable: list[int] | None,
    ) -> None:
        self._run = run
        self._plan, self._walk, self._details = run.plan, run.walk, run.details
        self._binder, self._lookup = run.binder, run.storage.lookup
        self._notifier, self._executor = run.notifier, run.executor
        self._transitions = transitions
        self._prepare = prepare
        self._progress = progress
        self._stops = stops
        self._inlinable = inlinable
        #: the context in which calls in place are made: where it differs from that of the run, a call has changed it
        self._within = run.context
        #: the call that was made here, with its outcome, until it is on record
        self.made: tuple[base.Call, Any] | None = None
        #: executes an atom that the hot loop does not
        self._execute_one: Callable[[int], None] = functools.partial(self._make_one, prepare=prepare.execute)
        if commits.dirty is not None and transitions.ends_plainly and run.joint is None:
            self._execute_one = Steps(run, commits, transitions, progress, self, self._execute_one).execute

    def execute(self, batch: list[int], *, stepwise: bool) -> None:
        """Execute a batch of ready atoms, and then, on the serial executor, the atoms that become ready by it.

        :param stepwise: whether the atoms that become ready are left for the next turn
        """
        self._within = self._run.context.copy()
        self._within.run(self._execute, batch, stepwise=stepwise)

    def undo(self, batch: list[int], *, stepwise: bool) -> None:
        """Undo a batch of atoms, and then, on the serial executor, the atoms that this sets free.

        :param stepwise: whether the atoms that it sets free are left for the next turn
        """
        token = self._run.token
        self._within = self._run.context.copy()
        token.undoes = True
        try:
            self._within.run(self._undo, batch, stepwise=stepwise)
        finally:
            token.undoes = False

    def concerns(self, call: base.Call) -> bool:
        """Tell whether a call is made in the thread of the engine anyway: that of a retry, or in a transaction."""
        if not isinstance(call.atom, retry.Retry):
            return self._run.joint is not None and self._run.joint.concerns(call)
        return not (self._plan.awaits and call.atom._tfx_signature.asynchronous & signature.ASYNC_BIT[call.verb])

    def make_all(self, calls: list[base.Call], release: Callable[..., object]) -> None:
        """Make calls, the last one first, and remove each from the list before.

        :param release: called with what holds no place at a limit any more
        """
        while calls:
            self.make(call := calls.pop())
            if self._run.joint is not None:
                release([call.index], undo=call.verb == states.REVERT)

    def make(self, call: base.Call) -> None:
        """Make a call, and record its outcome."""
        progress, limits, joint = self._progress, self._run.time_limits, self._run.joint
        if joint is not None and joint.concerns(call):
            joint.make(call, self)  # which comes back here
            return
        if self._run.reports is not None:
            self._run.reports.begin_in_place(call)
        context = self._run.context.copy()
        if limits is not None:
            limits.begin_in_place(call, context)
        progress.in_place = call.index
        self.made = made = call, context.run(base.perform, call.atom, call.verb, call.kwargs)
        with progress.lock:
            progress.in_place = -1
        self._transitions.end(call.index, call.verb, made[1])
        self.made = None

    def _make_one(self, i: int, prepare: Callable[[int], base.Call | None]) -> None:
        """Get a call ready and make it, all of that where no task has changed a variable of the context."""
        if self._run.apart or self._within != self._run.context:
            self._run.context.copy().run(self._make_prepared, i, prepare)
        else:
            self._make_prepared(i, prepare)

    def _make_prepared(self, i: int, prepare: Callable[[int], base.Call | None]) -> None:
        """Get a call ready, and make it as the only one that is, unless time is up."""
        call = prepare(i)
        if call is None:
            return
        run = self._run
        run.got_ready = ([call],)
        self._transitions.commit()
        if run.deadline is not None and self._stops():  # the subscribers to its beginning took too long
            self._transitions.requeue_all()
            return
        run.got_ready = ()
        self.make(call)

    def _keep_made(self, i: int, verb: str, outcome: Any) -> None:
        """Keep the outcome of the last call that was made here, unless it was recorded before the interrupt."""
        if i >= 0 and outcome is not UNRESOLVED and self.made is None:
            self.made = base.Call(i, self._plan.atoms[i], verb, {}), outcome

    def _subscribers(self) -> tuple[Any, Any, Any]:
        """Return the topics of the notifier, and what is to be called when a task begins, and when one succeeds.

        It is so until other topics take the place of these, when somebody subscribes or leaves.
        """
        notifier = self._notifier
        return notifier._tfx_topics, notifier._tfx_target_of(states.RUNNING), notifier._tfx_target_of(states.SUCCESS)

    def _execute(self, batch: list[int], *, stepwise: bool) -> None:  # noqa: C901 - the hot loop
        """Execute a batch, and then, on the serial executor, the atoms that become ready by it.

        The short path does what `Prepare.execute`, `base.perform` and `Transitions.end` do for a plain task, with their
        calls unfolded. Once a task has changed a variable of the context, or where that would not be seen, each call of
        user code gets a copy of that of the run: what a task sets is its own.
        """
        run, walk, transitions, stops = self._run, self._walk, self._transitions, self._stops
        atoms, details = self._plan.atoms, self._details
        callers, sources = self._binder.callers, self._binder.sources
        unmet, plain, succ, reached = walk.unmet, self._inlinable or walk.plain, self._plan.succ, walk.reached
        running, success = states.RUNNING, states.SUCCESS
        notifier, lookup, version = self._notifier, self._lookup, self._binder.version
        topics, on_running, on_success = self._subscribers()
        timed, serial, execute_one = run.deadline is not None, self._executor.serial, self._execute_one
        follow = not (stepwise or timed)
        i = ended = -1  # the current one, and the last one of which something has come, which is in `result`
        result: Any = None
        untouched, apart = run.context, run.apart
        within = untouched if apart else self._within
        try:
            while True:
                ready = walk.ready
                left = iter(batch)
                for i in left:
                    if run.stopping or (timed and stops()):
                        walk.ready = [i, *left, *walk.ready]
                        return
                    if within != untouched:
                        apart, within = True, untouched
                    atom, caller = atoms[i], callers[i]
                    if (
                        not plain[i]
                        or atom._tfx_listened is not None
                        or (caller is not None and version != lookup.bindings_version)
                    ):
                        execute_one(i)
                        continue
                    detail = details[i]
                    if notifier._tfx_topics is not topics:
                        topics, on_running, on_success = self._subscribers()
                    if on_running is not None:
                        # checked before anything is published
                        if detail.state == running or (caller is not None and caller.fill(sources[i]) is None):
                            execute_one(i)
                            continue
                        old, detail.state = detail.state, running
                        try:
                            facts = {
                                "task_name": detail.name,
                                "task_uuid": detail.own_uuid or detail.uuid,
                                "old_state": old,
                            }
                            try:
                                if apart:
                                    untouched.copy().run(on_running, running, facts)
                                else:
                                    on_running(running, facts)
                            except Exception:
                                notifier._tfx_log_error(on_running, running, facts)
                        except BaseException:  # a listener was interrupted, and the call will not be made
                            detail.state = old
                            raise
                        if timed and stops():  # they took too long
                            detail.state = old
                            walk.ready = [i, *left, *walk.ready]
                            return
                    else:
                        detail.state = running
                    try:
                        if apart:
                            method = _call_plain if caller is None else caller.call
                            result, ended = untouched.copy().run(method, atom, sources[i]), i
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
                        result, ended = (RAISED, error), i
                        transitions.end_apart(i, states.EXECUTE, Failure.from_exception(error))
                        result, ended = None, -1  # this frame is one of those that the exception has
                        continue
                    if type(result) in ODD:
                        if result is UNRESOLVED:
                            execute_one(i)
                        else:
                            transitions.end_apart(i, states.EXECUTE, result)
                        continue
                    detail.results = result
                    if notifier._tfx_topics is not topics:
                        topics, on_running, on_success = self._subscribers()
                    if detail.own_meta:
                        untouched.copy().run(self._progress.complete, detail)
                    detail.state = success
                    if on_success is not None:
                        facts = {
                            "task_name": detail.name,
                            "task_uuid": detail.own_uuid or detail.uuid,
                            "old_state": running,
                            "result": result,
                        }
                        try:
                            if apart or within != untouched:
                                untouched.copy().run(on_success, success, facts)
                            else:
                                on_success(success, facts)
                        except Exception:
                            notifier._tfx_log_error(on_success, success, facts)
                    after = succ[i]
                    if after:  # to begin a loop over nothing takes longer than to look
                        for s in after:
                            count = unmet[s] - 1
                            unmet[s] = count
                            if not count:
                                if plain[s]:
                                    ready.append(s)
                                else:
                                    reached(s)
                if not follow or run.failed or walk.undo or not (serial or len(ready) == 1):
                    return
                batch, walk.ready = ready, []
                if len(batch) > 1:
                    run.arrange(batch)
                elif not batch:
                    return
        except BaseException as error:
            if i >= 0 and details[i].state == running and not isinstance(error, Exception):
                notes.add_interrupted(error, run, i, states.EXECUTE)
            self._keep_made(ended, states.EXECUTE, result)
            raise

    def _undo(self, batch: list[int], *, stepwise: bool) -> None:  # noqa: C901 - a hot loop
        """Undo a batch, as `_execute` executes one.

        The short path does what `Prepare.undo`, `base.perform` and `Transitions.end` do for a plain task.
        """
        run, walk, transitions, stops = self._run, self._walk, self._transitions, self._stops
        atoms, details, notifier = self._plan.atoms, self._details, self._notifier
        standing, pred, takes_of = walk.standing, self._plan.pred, self._binder.undo_takes
        callers, sources = self._binder.undo_callers, self._binder.undo_sources
        revert, reverting, reverted, success = states.REVERT, states.REVERTING, states.REVERTED, states.SUCCESS
        lookup, version, plain = self._lookup, self._binder.version, self._inlinable or walk.plain
        failures = transitions.failures()
        follow = not stepwise and run.deadline is None
        serial = self._executor.serial
        i = ended = -1  # the current one, and the last one of which something has come, which is in `outcome`
        outcome: Any = None
        untouched, apart = run.context, run.apart
        within = untouched if apart else self._within
        try:
            while True:
                undo = walk.undo
                left = iter(batch)
                for i in left:
                    if run.stopping or (run.deadline is not None and stops()):
                        walk.undo = [i, *left, *walk.undo]
                        return
                    if within != untouched:
                        apart, within = True, untouched
                    atom, detail = atoms[i], details[i]
                    if (
                        not plain[i]
                        or detail.state != success
                        or notifier._tfx_topics
                        or atom._tfx_listened is not None
                    ):
                        self._make_one(i, self._prepare.undo)
                        continue
                    takes = takes_of[i]
                    detail.state = reverting
                    try:
                        if takes >= BOUND:
                            outcome = UNRESOLVED
                            if version == lookup.bindings_version:
                                call = callers[i].call  # type: ignore[union-attr]
                                if apart:
                                    call = functools.partial(untouched.copy().run, call)
                                outcome, ended = call(atom, sources[i], detail.results, failures), i
                        elif apart:
                            run_apart = untouched.copy().run
                            outcome, ended = run_apart(_revert_plain, atom, takes, detail.results, failures), i
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
                        outcome, ended = (RAISED, error), i
                        transitions.end_apart(i, revert, Failure.from_exception(error))
                        outcome, ended = None, -1
                        continue
                    if type(outcome) in ODD:
                        if outcome is UNRESOLVED:
                            ended = -1
                            detail.state = success  # what it gets says what it was
                            self._make_one(i, self._prepare.undo)
                        else:
                            transitions.end_apart(i, revert, outcome)
                        continue
                    detail.revert_results = outcome
                    detail.state = reverted
                    standing[i] = CLEAR
                    for p in pred[i]:
                        count = standing[p]
                        if count > 1:
                            standing[p] = count - 1
                        elif count == 1:
                            standing[p] = 0
                            if plain[p] and details[p].state == success:
                                undo.append(p)
                            else:
                                walk.freed(p)
                if not follow or run.failed or walk.ready or not (serial or len(undo) == 1):
                    return
                batch, walk.undo = undo, []
                if len(batch) > 1:
                    run.arrange(batch)
                    batch.reverse()
                elif not batch:
                    return
        except BaseException as error:
            if i >= 0 and details[i].state == reverting and not isinstance(error, Exception):
                notes.add_interrupted(error, run, i, revert)
            self._keep_made(ended, revert, outcome)
            raise


def _call_plain(atom: Any, _: Any) -> Any:
    """Execute a plain task that takes nothing with its hooks, as the hot loop does."""
    try:
        atom.pre_execute()
        return atom.execute()
    finally:
        atom.post_execute()


def _revert_plain(atom: Any, takes: int, result: Any, failures: Any) -> Any:
    """Revert a plain task with its hooks, as the hot loop does."""
    given = {}
    if takes & TAKES_RESULT:
        given["result"] = result
    if takes & TAKES_FAILURES:
        given["flow_failures"] = failures
    try:
        atom.pre_revert()
        return atom.revert(**given)
    finally:
        atom.post_revert()
