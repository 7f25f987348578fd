"""The time limits of calls and flows, and the end of calls that are to stop.

A call over its limit is interrupted by the means of its executor. One that has not ended `grace` seconds later is
abandoned: its attempt has failed, and nothing is heard of it any more. A limit of a flow counts from its first start,
which is on record. When it is over, what runs in the flow is interrupted, what would begin in it fails, and the
retries in it are not asked: they have no time left.

What must stay true: a call that has ended within its limit has not exceeded it, however late the engine hears of that;
one that was interrupted by its limit has failed, whatever it returns after that; one that was interrupted by a cancel
and has succeeded all the same has succeeded.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states, task
from taskflowx._util import logs
from taskflowx.controls import GRACE
from taskflowx.engines import notes
from taskflowx.engines.questions import Question
from taskflowx.engines.timers import ATOM
from taskflowx.executors import base, stopping
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    import contextvars

    from taskflowx.engines.commits import Commits
    from taskflowx.engines.shared import Run
    from taskflowx.engines.timers import Key

LOG = logs.calm(__name__)

#: what a call that is stopped fails with
Stopped = exceptions.TimeoutExceeded | exceptions.Cancelled

#: the kinds of moments: the limit of a call, the end of its grace, the limit of a flow
_LIMIT, _GRACE, _FLOW = "limit", "grace", "flow"
#: those before which calls that have not begun are cancelled: one in a queue, or in a worker that starts, has its whole
#: limit still before it, and one in a flow that is over is not to begin
LIMITS = frozenset((_LIMIT, _FLOW))


class TimeLimits:
    """The time limits of one run.

    :param run: the run
    :param commits: where it is noted that the record has changed
    """

    def __init__(self, run: Run, commits: Commits) -> None:
        self._run = run
        self._plan, self._details, self._executor = run.plan, run.details, run.executor
        self._timers, self._clock, self._commits = run.timers, run.clock, commits
        self._controls = run.plan.controls
        #: the flows with a limit: (lo, hi, seconds, name); the record of the first atom has their start
        self._flows = [(lo, hi, seconds, span.flow.name) for lo, hi, seconds, span in run.plan.timeouts]
        #: for each range of the plan, the nearest flow with a limit around it, and for each of those the next one out
        self._within: list[int] = []
        self._around = [-1] * len(self._flows)
        #: the flows that are over their limit
        self._over: set[int] = set()
        #: when the flows that have begun are over, a time of the clock
        self._ends: dict[int, float] = {}
        #: calls in flight that are watched: they have a limit, or a flow around them has one, or they are to stop
        self._watched: dict[int, base.Call] = {}
        #: the limits of these: when it is over, and its seconds
        self._dues: dict[int, tuple[float, float]] = {}
        #: the calls that have begun, by index; None when the executor is to be asked again
        self._begun: dict[int, base.Call] | None = None
        #: why calls are to stop
        self._errors: dict[int, Stopped] = {}
        #: the call in the thread of the engine, if it has a limit: when that is over, what makes the error, its token
        self._here: tuple[base.Call, float, Callable[[], Stopped], stopping.Limited] | None = None
        run.deliver = self._deliver
        if self._flows:
            self._nest()

    def _nest(self) -> None:
        limits = {id(span): number for number, (_, _, _, span) in enumerate(self._plan.timeouts)}
        for span in self._plan.ranges:
            around = self._within[span.parent] if span.parent >= 0 else -1
            number = limits.get(id(span), -1)
            self._within.append(around if number < 0 else number)
            if number >= 0:
                self._around[number] = around

    def _deliver(self, item: tuple[Any, Any]) -> None:
        """Note when a call has ended, and put its outcome into the mailbox. It is called from any thread."""
        call = item[0]
        if isinstance(call, base.Call):
            call.ended = self._clock.monotonic()
        self._run.mailbox.put(item)

    # -- calls -------------------------------------------------------------------------------------

    def begin_all(self, calls: list[base.Call]) -> None:
        """Note that calls are about to begin."""
        self._begun = None
        for call in calls:
            self._begin(call)

    def _begin(self, call: base.Call) -> None:
        controls = self._controls.get(call.index) if call.atom is self._plan.atoms[call.index] else None
        seconds = None if controls is None else _limit_of(controls, call)
        if seconds is not None:
            self._watched[call.index] = call
            due = self._clock.monotonic() + seconds
            self._dues[call.index] = due, seconds
            self._timers.set((_LIMIT, call.index), due)
        elif self._flows and call.atom is self._plan.atoms[call.index]:
            self._watched[call.index] = call

    def begin_in_place(self, call: base.Call, context: contextvars.Context) -> None:
        """As `begin_all`, for a call in the thread of the engine: `checkpoint` raises in it.

        :param context: the context in which it is made
        """
        self._begin(call)
        due, exceeded = self._first_limit(call)
        if due < math.inf:
            token = stopping.Limited(self._run.token, self._clock, due, exceeded)
            self._here = call, due, exceeded, token
            context.run(stopping.TOKEN.set, token)

    def _first_limit(self, call: base.Call) -> tuple[float, Callable[[], Stopped]]:
        """Return when the limit of a call, or of a flow around it, is over, and what makes the error.

        Infinity for never. Of reverts and retries the limits of flows do not count.
        """
        due = self._timers.moments.get((_LIMIT, call.index))
        first = math.inf if due is None else due
        exceeded: Callable[[], Stopped] = functools.partial(self._exceeded, call)
        if self._within and call.verb == states.EXECUTE and isinstance(call.atom, task.Task):
            for number in self._flows_around(call.index):
                due = self._timers.moments.get((_FLOW, number))
                if due is not None and due < first:
                    _, _, seconds, name = self._flows[number]
                    first, exceeded = due, functools.partial(_flow_exceeded, name, seconds)
        return first, exceeded

    def forget(self, i: int) -> None:
        """Note that a call has ended, or has not begun after all."""
        if self._watched.pop(i, None) is not None:
            self._errors.pop(i, None)
            self._dues.pop(i, None)
            self._timers.drop((_LIMIT, i))
            self._timers.drop((_GRACE, i))

    def judged(self, i: int, verb: str, outcome: Any) -> Any:
        """Return what counts as the outcome of a call that has ended."""
        self._begun = None
        error = self._errors.get(i)
        call = self._watched.get(i)
        if error is None and call is not None:
            error = self._exceeded_by(call)  # nobody has interrupted it so far
        here = self._here
        if here is not None and here[0].index == i:  # nobody could: it ran in the thread of the engine
            if error is None and here[1] <= self._clock.monotonic():
                error = here[2]()
            self._here, here[3].deadline = None, None
        self.forget(i)
        if not isinstance(error, exceptions.TimeoutExceeded) or isinstance(outcome, base.NotBegun):
            return outcome
        if isinstance(outcome, Failure):
            if outcome.check(exceptions.TimeoutExceeded):
                return outcome
            error = exceptions.TimeoutExceeded(str(error), cause=outcome.exception)
        elif verb == states.REVERT:
            return outcome  # late, but undone
        else:
            name = self._details[i].name
            LOG.warning("Task '%s' has returned after its time limit: its result goes to its revert alone", name)
            self._run.storage.writes.unstored[name] = outcome
        return Failure.from_exception(error)

    def stop(self, call: base.Call, error: Stopped) -> None:
        """Have a call that is under way end, by the means of its executor."""
        i = call.index
        if i in self._errors or hasattr(call, "ended"):
            return
        self._watched[i] = call
        self._errors[i] = error
        controls = self._controls.get(i)
        grace = GRACE if controls is None else controls.grace
        self._timers.drop((_LIMIT, i))
        self._timers.set((_GRACE, i), self._clock.monotonic() + grace)
        self._executor.interrupt(call, error)
        if hasattr(call, "ended") and not hasattr(call, "stop"):  # its worker had ended it before
            del self._errors[i]
            self._timers.drop((_GRACE, i))

    def cancel(self, error: Stopped) -> None:
        """Have all that executes end; what is being reverted goes on."""
        for call in self._executor.under_way():
            if type(call.atom) is Question:
                self._executor.interrupt(call, copy.copy(error))
            elif call.verb == states.EXECUTE and self._details[call.index].state == states.RUNNING:
                self.stop(call, copy.copy(error))

    def act(self, key: Key) -> None:
        """Act on a moment that has come."""
        kind, i = key
        if kind == _FLOW:
            self._end_flow(i)
            return
        call = self._watched.get(i)
        if call is None or hasattr(call, "ended"):  # its outcome is in the mailbox
            return
        if kind == _LIMIT:
            self.stop(call, self._exceeded(call))
        elif self._executor.abandon(call):
            LOG.warning("%s was to stop, and has not ended in time: nothing is heard of it any more", _named(call))
            self._errors[i].outcome_unknown = True
            self._run.mailbox.put((call, Failure.from_exception(self._errors[i])))
        else:
            LOG.warning("%s was to stop, and has not ended: the run waits for it", _named(call))

    def _exceeded_by(self, call: base.Call) -> Stopped | None:
        """Return the error of a call that has ended after its own limit, or that of a flow around it."""
        due, seconds = self._dues.get(call.index, (math.inf, math.inf))
        if self._clock.is_real and hasattr(call, "seconds"):  # nobody knows when it has ended
            return self._exceeded(call) if call.seconds > seconds else None
        ended = getattr(call, "ended", self._clock.monotonic())
        if ended > due:
            return self._exceeded(call)
        if call.verb == states.EXECUTE and isinstance(call.atom, task.Task):
            for number in self._flows_around(call.index):
                if ended > self._ends.get(number, math.inf):
                    _, _, seconds, name = self._flows[number]
                    return _flow_exceeded(name, seconds)
        return None

    def _exceeded(self, call: base.Call) -> exceptions.TimeoutExceeded:
        seconds = _limit_of(self._controls[call.index], call)
        attempt = notes.counted_attempt(self._plan, self._details, call.index)
        return exceptions.TimeoutExceeded(
            f"{_named(call)} has exceeded its time limit of {seconds:g} seconds{attempt and f' ({attempt})'}"
        )

    # -- runs and flows ----------------------------------------------------------------------------

    def open(self) -> None:
        """Take up the limits of the run, and of flows that have begun in an earlier run."""
        run = self._run
        if run.late_error is not None and run.deadline is not None:  # calls are to stop when the time of the run is up
            run.token.late = run.deadline, run.late_error
        for number, (lo, _, seconds, name) in enumerate(self._flows):
            since = (self._details[lo].own_meta or {}).get(metadata.FLOW_SINCE, {}).get(name)
            if since is not None:
                self._set(number, min(since + seconds - self._clock.time(), seconds))

    def begin_flows(self, i: int) -> None:
        """Note that an atom is about to begin, and with it the flows around it.

        :raises TimeoutExceeded: when one of these is over its limit
        """
        for number in self._flows_around(i):
            lo, _, seconds, name = self._flows[number]
            first = self._details[lo]
            if not self._has_begun(number):
                self._commits.mark(lo)
                since = first.meta.get(metadata.FLOW_SINCE, {})
                first.meta[metadata.FLOW_SINCE] = {**since, name: self._clock.time()}
                self._over.discard(number)
                self._set(number, seconds)
            elif self._is_flow_over(number):
                raise _flow_exceeded(name, seconds)

    def _flows_around(self, i: int) -> Iterator[int]:
        """Iterate over the flows with a limit around an atom, the nearest first."""
        number = self._within[self._plan.flow_of[i]] if self._within else -1
        while number >= 0:
            yield number
            number = self._around[number]

    def _is_flow_over(self, number: int) -> bool:
        due = self._timers.moments.get((_FLOW, number))
        return number in self._over or (due is not None and due <= self._clock.monotonic())

    def keeps_from_beginning(self, i: int) -> bool:
        """Tell whether an atom fails in place of beginning, as a flow around it has begun and is over its limit."""
        return any(self._is_flow_over(number) and self._has_begun(number) for number in self._flows_around(i))

    def _has_begun(self, number: int) -> bool:
        lo, _, _, name = self._flows[number]
        return name in (self._details[lo].own_meta or {}).get(metadata.FLOW_SINCE, {})

    def has_no_time(self, r: int) -> bool:
        """Tell whether a retry is in a flow that is over its limit."""
        return any(map(self._is_flow_over, self._flows_around(r)))

    def _set(self, number: int, seconds: float) -> None:
        self._ends[number] = due = self._clock.monotonic() + seconds
        self._timers.set((_FLOW, number), due)

    def _end_flow(self, number: int) -> None:
        lo, hi, seconds, name = self._flows[number]
        self._over.add(number)
        for call in self._begun_in(lo, hi):
            if call.verb == states.EXECUTE:
                if type(call.atom) is Question:
                    self._executor.interrupt(call, _flow_exceeded(name, seconds))
                else:
                    self.stop(call, _flow_exceeded(name, seconds))
        walk = self._run.walk
        for i in list(walk.held):
            if lo <= i < hi:  # what waits for a limit fails at once
                del walk.held[i]
                walk.ready.append(i)
        for i in self._timers.atoms_in(lo, hi):  # a retry that waits for its next attempt does not get one
            if self._details[i].intention == states.RETRY:
                self._timers.set((ATOM, i), self._clock.monotonic())

    def _begun_in(self, lo: int, hi: int) -> list[base.Call]:
        """Return the calls from `lo` to before `hi` that have begun; many flows may end at the same moment."""
        if self._begun is None:
            self._begun = {call.index: call for call in self._executor.under_way()}
        begun = self._begun
        if hi - lo < len(begun):
            return [begun[i] for i in range(lo, hi) if i in begun]
        return [call for i, call in begun.items() if lo <= i < hi]


def _limit_of(controls: Any, call: base.Call) -> float | None:
    limit: float | None = controls.timeout if call.verb == states.EXECUTE else controls.revert_timeout
    return limit


def _named(call: base.Call) -> str:
    return f"{'Task' if call.verb == states.EXECUTE else 'The revert of task'} '{call.atom.name}'"


def _flow_exceeded(name: str, seconds: float) -> exceptions.TimeoutExceeded:
    return exceptions.TimeoutExceeded(f"Flow '{name}' has exceeded its time limit of {seconds:g} seconds")
