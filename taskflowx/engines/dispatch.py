"""Calls on their way: to the executor, back from it, and what was delivered into the record.

What must stay true: a call that begins is on record first; a call is delivered once, or given back; an interrupt
between any two steps loses none. So each call is held by an attribute from the step in which it comes until it is on
record, and `salvage` may be called again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx._util import failpoints
from taskflowx.engines import notes
from taskflowx.engines.calling import NO_CALLER
from taskflowx.engines.questions import Question
from taskflowx.engines.transitions import ODD, forget_part
from taskflowx.executors import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.progress import Progress
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions

#: how many plain calls are got ready before they are submitted
_PART = 512
ODD.update((base.Interrupt, base.NotBegun))
#: the outcome of a call in place that has raised, until it is on record, is this with the exception
RAISED = object()


class Dispatch:
    """The calls of one run that an executor makes.

    :param run: the run
    :param transitions: changes the states of atoms
    :param progress: takes what tasks report
    :param inlinable: which atoms may take the short path, by index; None for those of the Walk
    """

    def __init__(self, run: Run, transitions: Transitions, progress: Progress, inlinable: list[int] | None) -> None:
        self._run = run
        self._plan, self._walk, self._details = run.plan, run.walk, run.details
        self._binder, self._lookup = run.binder, run.storage.lookup
        self._notifier, self._executor = run.notifier, run.executor
        self._transitions = transitions
        self._progress = progress
        self._inlinable = inlinable
        #: calls that the executor has returned, and that are not requeued yet
        self._cancelled: list[base.Call] = []
        #: calls that were published when a subscriber stopped the run: one of them is made
        self.published: list[base.Call] = []
        #: whether `in_flight` may be too many, as an interrupt has come while calls went to or came from the executor
        self.in_doubt = False

    # -- to the executor ---------------------------------------------------------------------------

    def submit(self, calls: list[base.Call]) -> None:
        """Give calls to the executor."""
        if failpoints.on:
            failpoints.hit("before submit")
        self._run.got_ready = ()
        if self._run.reports is not None:
            self._run.reports.ask(calls)
        if self._run.time_limits is not None:
            self._run.time_limits.begin_all(calls)
        in_doubt, self.in_doubt = self.in_doubt, True  # until it is done, also where an interrupt comes
        self._run.in_flight += len(calls)
        self._executor.submit(calls)
        self.in_doubt = in_doubt
        if failpoints.on:
            failpoints.hit("after submit")

    def submit_plain(self, batch: list[int]) -> list[int]:
        """Submit plain tasks, a part at a time, so that the first run while the last are got ready.

        Returns the rest of the batch, from the first that is not plain on. The short path of `Prepare.execute`.
        """
        run, atoms, details, plain = self._run, self._plan.atoms, self._details, self._walk.plain
        notifier, lookup = self._notifier, self._lookup
        callers, sources, version = self._binder.callers, self._binder.sources, self._binder.version
        execute, running = states.EXECUTE, states.RUNNING
        calls: list[base.Call] = []
        left = len(batch)
        run.got_ready = (calls,)
        for position, i in enumerate(batch):
            caller = callers[i]
            arguments = {} if caller is None else caller.fill(sources[i])
            if not plain[i] or notifier._tfx_topics or arguments is None or version != lookup.bindings_version:
                left = position
                break
            calls.append(base.Call(i, atoms[i], execute, arguments))
            details[i].state = running
            if len(calls) == _PART:
                self.submit(calls)
                calls = []
                run.got_ready = (calls,)
        if calls:
            self.submit(calls)
        return batch[left:]

    # -- chains ------------------------------------------------------------------------------------

    def next_of(self, call: base.Call) -> base.Call | None:
        """Return the next call of a chain: it is certain once this one has succeeded, and waits for nothing else.

        None where there is no such call.
        """
        i, plan, plain, binder = call.index, self._plan, self._walk.plain, self._binder
        if self._run.stopping or not plain[i] or len(plan.succ[i]) != 1 or self._notifier._tfx_topics:
            return None
        s = plan.succ[i][0]
        before, detail, atom, caller = self._details[i], self._details[s], plan.atoms[s], binder.callers[s]
        if (
            not plain[s]
            or plan.degree[s] != 1
            or (plan.flow_of[s] != plan.flow_of[i] and plan.controller(s) != plan.controller(i))  # rolled back together
            or detail.state not in states.FRESH
            or not (states.EXECUTE == call.verb == before.intention == detail.intention)
            or atom._tfx_listened is not None
            or caller is NO_CALLER
            or binder.version != self._lookup.bindings_version
        ):
            return None
        if caller is None:
            return base.Call(s, atom, states.EXECUTE, {}, ())
        arguments, awaited = {}, []
        try:
            for arg, key, source in zip(caller.args, caller.keys, binder.sources[s], strict=True):
                if source is before:
                    awaited.append(arg)
                elif source.state == states.SUCCESS:
                    arguments[arg] = source.results if key is None else source.results[key]
                else:
                    return None
        except Exception:  # a result has no such part: that is an error of the atom, when it is to begin
            return None
        return base.Call(s, atom, states.EXECUTE, arguments, tuple(awaited))

    def _note_begun(self, i: int) -> None:
        """Note that a chained call is under way, as its predecessor has succeeded."""
        detail = self._details[i]
        old, detail.state = detail.state, states.RUNNING
        self._run.in_flight += 1
        self._executor.chained.discard(i)
        if self._notifier._tfx_topics:
            self._transitions.publish(i, old, states.RUNNING)

    def unchain(self) -> None:
        """Cancel the chained calls that have not begun; those that have are under way, as all that we have begun."""
        executor = self._executor
        next_of, executor.next_of = executor.next_of, None
        executor.unchain()
        if executor.chained:
            self._run.take_delivered()
            self.record()
        executor.next_of = None if self._run.stopping else next_of

    # -- back from the executor --------------------------------------------------------------------

    def record(self) -> None:
        """Record what was delivered; what an interrupt has kept from that is recorded when the run is left.

        :raises BaseException: what came out of a call and is no `Exception`
        """
        run, walk, details, notifier = self._run, self._walk, self._details, self._notifier
        plain, ran, ready, chained = self._inlinable or walk.plain, walk.ran, walk.ready, self._executor.chained
        execute, delivered, ended = states.EXECUTE, run.delivered, run.ended
        interrupt: base.Interrupt | None = None
        while delivered:
            call, outcome = delivered[0]
            if type(call) is base.Call:
                i = call.index
                detail = details[i]
                if (
                    plain[i]
                    and call.verb == execute == detail.intention
                    and detail.own_meta is None
                    and type(outcome) not in ODD
                    and not notifier._tfx_topics
                ):  # the short path of `Transitions.end`
                    detail.results = outcome
                    detail.state = states.SUCCESS
                    ran(i)
                elif type(outcome) is base.Interrupt:
                    interrupt = interrupt or outcome
                    notes.add_interrupted(outcome.exception, run, i, call.verb)
                elif run.questions is not None and type(call.atom) is Question:
                    run.questions.answered(call, outcome)
                else:
                    self._transitions.end(i, call.verb, outcome)
                if chained and ready and ready[-1] in chained:
                    self._note_begun(ready.pop())
                run.in_flight -= 1
                if ended is not None:
                    ended.append(i if call.verb == execute else ~i)
            elif call is not None:
                self._progress.learn(call, outcome)
            delivered.popleft()
        if interrupt is not None:
            raise interrupt.exception

    def cancel(self) -> None:
        """Cancel the calls that have not begun."""
        in_doubt, self.in_doubt = self.in_doubt, True  # until it is done, also where an interrupt comes
        cancelled = self._cancelled
        cancelled += self._executor.recall()
        while cancelled:
            self._transitions.requeue(cancelled[-1])
            cancelled.pop()
            self._run.in_flight -= 1
        self.in_doubt = in_doubt

    def cancel_to_stop(self) -> None:
        """Cancel the calls that have not begun, as the run is to stop; one that was published may have to be made."""
        if self._run.in_flight:
            self.cancel()
            if self.published and not self._run.in_flight and not self._run.timed_out:
                # Who suspends the run at each step gets one step further each time, as in place.
                self._submit_again(self.published[0])
            self.published = []
        self.unchain()

    def _submit_again(self, call: base.Call) -> None:
        """Submit a call that was cancelled, as it has been published."""
        walk = self._walk
        reverts = call.verb == states.REVERT
        waiting = walk.undo if reverts else walk.ready
        if call.index in waiting:
            waiting.remove(call.index)
            walk.interrupted.discard(call.index)
            self._run.got_ready = ([call],)
            self._details[call.index].state = states.REVERTING if reverts else states.RUNNING
            self.submit([call])

    # -- as the run is left ------------------------------------------------------------------------

    def has_ended(self) -> bool:
        """Tell whether all calls of the executor were delivered, though they may not be on record."""
        return self.in_doubt or len(self.ended()) >= self._run.in_flight

    def ended(self) -> list[base.Call]:
        """Return the calls in flight that were delivered and are not on record."""
        chained = self._executor.chained
        return [call for call, _ in self._run.delivered if type(call) is base.Call and call.index not in chained]

    def salvage(self) -> None:
        """Put on record what was delivered; a failure among it is resolved when the run goes on."""
        run, details, chained = self._run, self._details, self._executor.chained
        run.take_delivered()
        delivered = run.delivered
        while delivered:
            call, outcome = delivered[0]
            if type(call) is base.Call:
                try:
                    self._put_on_record(call, outcome)
                except BaseException as error:  # a subscriber's, or one that has come while it is dealt with
                    run.interrupts.note(error)
                    self._put_on_record(call, outcome)
                delivered.popleft()
            else:
                delivered.popleft()  # first: it is published once
                if call is not None:
                    self._progress.learn(call, outcome)
        for i in list(chained):  # they have begun, or may have, where the outcome of the one before is lost
            if details[i].state in states.FRESH:
                self._note_begun(i)

    def _put_on_record(self, call: base.Call, outcome: Any) -> None:
        """Record the outcome of a call, unless that has been done; answers are asked for again."""
        if type(call.atom) is Question:
            return
        detail = self._details[call.index]
        if call.index in self._executor.chained and detail.state in states.FRESH:
            self._note_begun(call.index)
        under_way = states.RUNNING if call.verb == states.EXECUTE else states.REVERTING
        if detail.state == under_way and type(outcome) is not base.Interrupt:
            if type(outcome) is tuple and outcome and outcome[0] is RAISED:
                outcome = Failure.from_exception(outcome[1])
            if call.verb == states.EXECUTE:
                forget_part(detail)
            self._transitions.end(call.index, call.verb, outcome)
