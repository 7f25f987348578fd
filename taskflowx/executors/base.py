"""The call, how it is performed, and the contract between the scheduler and an executor.

A `Call` is one verb (execute or revert) on one atom with its arguments. `perform` runs it and never raises an
`Exception`: an error becomes a `Failure`, which is a value. An `Executor` accepts calls and delivers one `(call,
outcome)` each, from any thread. An outcome is a value, a `Failure`, an `Interrupt` when the call raised something other
than an `Exception` (such as SystemExit), or `NotBegun`.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import itertools
import queue
import time
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from taskflowx import states, task
from taskflowx._util import arguments, logs, reprs
from taskflowx.executors import carried, stopping
from taskflowx.logging import RUN
from taskflowx.types.failure import Failure

LOG = logs.calm(__name__)

#: delivered to wake the scheduler, which then looks for work
WAKE = (None, None)


class Call:
    """One verb on one atom: `verb` is `states.EXECUTE` or `states.REVERT`, `index` the atom's index in the Plan.

    Calls form a chain when each is the certain successor of the one before: see `Executor.next_of`.

    :param awaited: the names of the arguments that take the result of the predecessor in the chain; None if there is
        none, or when it has succeeded
    """

    __slots__ = ("atom", "awaited", "ended", "index", "kwargs", "outcome", "seconds", "stop", "verb")

    # Unset, but for
    outcome: Any  #: an executor that keeps the outcome of the call here until it is delivered
    ended: float  #: a call where there are time limits: when it was delivered, a time of the clock
    seconds: float  #: an executor that learns late of the end of a call: how long it has run
    stop: stopping.Stop  #: a call that its executor has interrupted

    def __init__(
        self, index: int, atom: Any, verb: str, kwargs: dict[str, Any], awaited: tuple[str, ...] | None = None
    ) -> None:
        self.index = index
        self.atom = atom
        self.verb = verb
        self.kwargs = kwargs
        self.awaited = awaited

    @reprs.one_line
    def __repr__(self) -> str:
        return f"Call of {self.verb} of {self.atom.name!r}"

    @property
    def stopped_by(self) -> BaseException | None:
        """What the call was interrupted by, or None."""
        return self.stop.error if hasattr(self, "stop") else None

    @property
    def given_up(self) -> bool:
        """Whether the call was abandoned."""
        return hasattr(self, "stop") and self.stop.given_up

    def follow(self, result: Any) -> None:
        """Give the call the result of its predecessor."""
        if self.awaited:
            self.kwargs.update(dict.fromkeys(self.awaited, result))
        self.awaited = None


class Interrupt:
    """The outcome of a call that raised something other than an `Exception`: the run stops and raises it."""

    __slots__ = ("exception",)

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception


class NotBegun:
    """The outcome of a call that its executor rejected or dropped before it started: there is nothing to undo."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Event(NamedTuple):
    """An event that a task published in a worker, for the subscribers in the engine's process.

    :param by_engine: whether the engine publishes this event itself, so that it must only be passed on to subscribers
    """

    event_type: str
    details: dict[str, Any] | None
    by_engine: bool


class _Forwarded(task.TaskNotifier):
    """The notifier of a task that runs in another process than its subscribers."""

    forward: Callable[[Event], None]

    def notify(self, event_type: str, details: Mapping[str, Any] | None) -> None:
        """Notify the subscribers in this process, and those in the engine's process."""
        self.tell_of(event_type, details)
        self.forward(Event(event_type, None if details is None else dict(details), by_engine=False))

    def tell(self, progress: float) -> None:
        """As `notify`, for progress that the engine publishes itself."""
        super().tell(progress)
        self.forward(Event(task.EVENT_UPDATE_PROGRESS, {"progress": progress}, by_engine=True))


def forward_events(atom: Any, forward: Callable[[Event], None]) -> None:
    """Forward the events of a task to its subscribers elsewhere.

    :param forward: called with each event
    """
    notifier = _Forwarded(atom.TASK_EVENTS, atom)
    notifier.forward = forward
    vars(atom)["_tfx_listened"] = notifier


def perform(atom: Any, verb: str, kwargs: dict[str, Any]) -> Any:  # noqa: C901 - a step is a call
    """Run one verb of an atom with its hooks; returns the value, or a `Failure`."""
    try:
        reports = type(verb) is not str
        if reports:
            verb.begin(atom)  # type: ignore[attr-defined] # see `noted`
        if not isinstance(atom, task.Task):  # retries have no hooks around them
            return atom.execute(**kwargs) if verb == states.EXECUTE else atom.revert(**kwargs)
        listened = atom._tfx_listened
        if listened is not None:
            listened.tell(0.0)
        if verb == states.EXECUTE:
            try:
                if (hook := atom.pre_execute()) is not None:
                    arguments.check_hook(atom, "pre_execute", hook)
                value = atom.execute(**kwargs)
            finally:
                if (hook := atom.post_execute()) is not None:
                    arguments.check_hook(atom, "post_execute", hook)
            if reports:
                verb.end(atom, value)  # type: ignore[attr-defined]
        else:
            try:
                if (hook := atom.pre_revert()) is not None:
                    arguments.check_hook(atom, "pre_revert", hook)
                value = atom.revert(**kwargs)
            finally:
                if (hook := atom.post_revert()) is not None:
                    arguments.check_hook(atom, "post_revert", hook)
        if listened is not None:
            listened.tell(1.0)
    except Exception as error:
        return Failure.from_exception(error)
    return value


def not_begun(call: Call) -> tuple[Call, NotBegun]:
    """Return the delivery of a call that was interrupted before it began."""
    return call, NotBegun(Failure.from_exception(call.stop.error))


def refuse_late(call: Call, outcome: Any) -> None:
    """Log that an abandoned call has ended after all: its outcome is refused."""
    how = "failed" if isinstance(outcome, Failure | Interrupt) else "succeeded"
    name, verb = call.atom.name, call.verb.lower()
    LOG.warning("Atom '%s' was given up, and its %s has %s late; the outcome is refused", name, verb, how)


def context_of_calls(
    report: Callable[[Any, dict[str, Any]], None] | None, token: stopping.Stopping | None = None
) -> contextvars.Context:
    """Return a copy of the context in which the run was started; each call runs in a copy of it.

    :param report: called with the progress of tasks in this context
    :param token: tells calls in this context that they are to stop; None for that of the context
    """
    context = contextvars.copy_context()
    context.run(task.PROGRESS.set, report)
    if token is not None:
        context.run(stopping.TOKEN.set, token)
    return context


class Delivered(queue.SimpleQueue[tuple[Any, Any]]):
    """The queue that the scheduler waits on.

    Items are moved to their destination without a step of Python in between: after any such step a signal handler may
    raise, and a removed item would be lost.
    """

    def move(self, into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        """Move the first item; wait for one if there is none.

        :raises queue.Empty: when none arrives within `timeout` seconds
        """
        get = super().get
        take = get if timeout is None else functools.partial(get, True, timeout)
        into.extend(itertools.islice(iter(take, None), 1))

    def move_all(self, into: collections.deque[tuple[Any, Any]]) -> None:
        """Move all items that are queued."""
        with contextlib.suppress(queue.Empty):
            into.extend(iter(self.get_nowait, None))


def may_wait_natively() -> bool:
    """Tell whether a thread may wait on `Delivered`: not if threads were replaced after this module was imported.

    Once eventlet has monkey-patched a process, it has another class of queues.
    """
    return queue.SimpleQueue is Delivered.__base__


def movers(delivered: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return `move` and `move_all` of an executor's queue, or substitutes when it has none."""

    def move(into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        into.append(delivered.get() if timeout is None else delivered.get(timeout=timeout))

    def move_all(into: collections.deque[tuple[Any, Any]]) -> None:
        with contextlib.suppress(queue.Empty):
            into.extend(iter(delivered.get_nowait, None))

    return getattr(delivered, "move", move), getattr(delivered, "move_all", move_all)


class Mailbox:
    """The mailbox that the scheduler waits on, for executors that work in its thread while it waits.

    :param wait: does that work until an item may have arrived, for at most the given number of seconds; returns whether
        it may be called again when none has
    :param rouse: ends a wait that goes on after a signal handler in its thread; None where a signal ends it
    """

    def __init__(self, wait: Callable[[float | None], bool], rouse: Callable[[], None] | None = None) -> None:
        self._items: collections.deque[tuple[Any, Any]] = collections.deque()
        self._wait = wait
        #: wake-up: called, in any thread, when an item is put in; None while the scheduler is awake. A waiter sets it
        #: before it looks into the mailbox for the last time and sleeps.
        self.wake: Callable[[], None] | None = None
        self.rouse = rouse

    def __bool__(self) -> bool:
        return bool(self._items)

    def has(self, call: Call) -> bool:
        """Tell whether the outcome of a call is in the mailbox."""
        return any(of is call for of, _ in self._items)

    def put(self, item: tuple[Any, Any]) -> None:
        """Put an item in, from any thread."""
        self._items.append(item)
        wake = self.wake
        if wake is not None:
            wake()

    def get(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Take the first item out; wait for one if there is none.

        :raises queue.Empty: when none arrives within `timeout` seconds
        """
        self._wait_for_one(timeout)
        return self.get_nowait()

    def _wait_for_one(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        left = timeout
        while not self._items:
            if not self._wait(left):
                break
            if deadline is not None:
                left = max(deadline - time.monotonic(), 0.0)
                if not left:
                    break

    def move(self, into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        """Move the first item as `Delivered` does; wait for one if there is none.

        :raises queue.Empty: when none arrives within `timeout` seconds
        """
        self._wait_for_one(timeout)
        try:
            into.extend(itertools.islice(iter(self._items.popleft, None), 1))
        except IndexError:
            raise queue.Empty from None

    def move_all(self, into: collections.deque[tuple[Any, Any]]) -> None:
        """Move all items that are queued."""
        with contextlib.suppress(IndexError):
            into.extend(iter(self._items.popleft, None))

    def get_nowait(self) -> tuple[Any, Any]:
        """Take the first item out.

        :raises queue.Empty: when there is none
        """
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None


#: the path under which another process finds the variable with the names of the run
_RUN = "taskflowx.logging:RUN"


class Executor:
    """Runs calls: the contract between the scheduler and the place where calls run.

    Between `start` and `stop` the scheduler dispatches calls by `submit`; each is either delivered once, or cancelled
    by `recall`.
    """

    #: what it is called in messages, such as 'threads'; the name of its class by default
    kind = ""
    #: whether the scheduler runs all calls itself, one after another
    serial = False
    #: whether the scheduler may run a call itself when it is the only one; our own executors have this option
    inline = False
    #: whether atoms, arguments and results are pickled for transport
    pickles = False
    #: whether calls work on the same objects as the engine; None when unknown
    shares_memory: bool | None = True
    #: whether `async def` calls can run here
    runs_async = False
    #: whether calls may run on another machine; None when unknown
    is_remote: bool | None = False
    #: whether submitted calls that have not started can be cancelled
    can_cancel = True
    #: whether running calls can be killed from outside: they are when the wait for them is interrupted
    can_kill = False
    #: what it can do with a call that runs, when that is to stop. 'kills': the call ends, whatever it does. 'cancels':
    #: the error, or a cancellation, is raised in the call where it waits. 'abandons': `stopping.checkpoint` raises in
    #: the call, and one that does not ask is left to itself by `abandon`. 'asks': `checkpoint` alone
    stops = "asks"
    #: returns the next call of a chain, which may start as soon as this one has succeeded; None at the end of a chain.
    #: The scheduler sets it before `start`; from any thread to None, when nothing new is to start. It is called in the
    #: thread of the scheduler, by our own threads and processes
    next_of: Callable[[Call], Call | None] | None = None
    #: the indices of the calls that came from `next_of`. The scheduler removes one when it records the success of its
    #: predecessor: it is then as if it had been submitted. The executor removes one that it drops, which it does before
    #: it delivers any other outcome of its predecessor
    chained: set[int] = set()  # noqa: RUF012 - stays empty where there are no chains
    #: rejects progress that a store cannot hold, in the task that reports it; the scheduler sets it before `start`
    check_progress: Callable[[Any, dict[str, Any]], None] | None = None
    #: the `async def` callbacks of subscribers, a `callbacks.Callbacks`, once there are some
    subscribed: Any = None
    #: the context variables that are carried to calls in other processes, by path; the engine sets it
    context: Mapping[str, contextvars.ContextVar[Any]] = types.MappingProxyType({})
    #: the deadline, in seconds of `time.monotonic`. The scheduler sets it before `start`, and then cancels every call
    #: that has not started. As the scheduler may be busy, an executor may check the deadline itself: it keeps late
    #: calls for `recall`, and delivers `WAKE`
    deadline: float | None = None

    @property
    def width(self) -> int | None:
        """How many calls begin at once at most: further ones wait. None when there is no limit, or none is known."""
        return None

    @property
    def unguarded(self) -> Executor:
        """The object that a user has passed for this."""
        return self

    @property
    def called(self) -> str:
        """The kind of executor with its width, for people: 'threads×2'."""
        kind = self.kind or type(self).__name__
        return kind if self.width is None else f"{kind}×{self.width}"

    @reprs.one_line
    def __repr__(self) -> str:
        return self.called if self.called.startswith(name := type(self).__name__) else f"{name} {self.called}"

    @property
    def within_a_loop(self) -> bool:
        """Whether the run takes place in an event loop that already runs, so that nothing may block on a call."""
        return False

    def check_start(self) -> None:
        """Raise an error, before anything happens, when a run is impossible at present."""
        if self.context and not self.shares_memory:
            self.carry()

    def carry(self) -> dict[str, bytes]:
        """Return the context variables that are carried to calls in other processes, as `carried.put` takes them.

        :raises TypeError: when the value of one cannot be pickled
        """
        return carried.pack({**self.context, _RUN: RUN}, self.dumps)

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom as for transport; used before a run to check that it can be pickled."""
        import pickle  # imported only where it is needed

        return pickle.dumps(part)

    def make_queue(self) -> Any:
        """Return the queue that the scheduler waits on; it has `put`, `get` and `get_nowait` as a `queue.SimpleQueue`.

        With `move` and `move_all`, as `Delivered` has them, no item is lost when a signal handler raises.
        """
        return Delivered() if may_wait_natively() else queue.SimpleQueue()

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Prepare to take calls.

        :param deliver: called, from any thread, with (call, outcome) for each call, and with (task, details) for
            progress
        """
        raise NotImplementedError

    def reporter(self, deliver: Callable[[tuple[Any, Any]], None]) -> Callable[[Any, dict[str, Any]], None]:
        """Return the callable that takes the progress of tasks in this process, for `task.PROGRESS`.

        :param deliver: see `start`
        """
        check = self.check_progress

        def report(reporting: Any, details: dict[str, Any]) -> None:
            token = stopping.TOKEN.get()
            if token is not None and token.given_up:
                return
            if check is not None:
                check(reporting, details)
            deliver((reporting, details))

        return report

    def submit(self, calls: list[Call]) -> None:
        """Take calls."""
        raise NotImplementedError

    def recall(self) -> list[Call]:
        """Cancel the calls that have not started, and return them; they are not delivered."""
        raise NotImplementedError

    def interrupt(self, call: Call, error: BaseException) -> None:
        """Make a call end that is in flight; called in the thread of the scheduler.

        A call that has not begun never begins: it is delivered as `NotBegun`, with the failure of `error`. One that has
        begun is stopped as `stops` says, and delivered once, as ever: as `Failure.from_exception(error)` where it was
        killed or cancelled, or ended by `checkpoint`; and with its own outcome where it ended before, or did not heed.
        No other call is hurt. Nothing happens to a call that was delivered, recalled or interrupted before.

        :param error: what stops it, such as a `TimeoutExceeded` or a `Cancelled`; one of its own for each call, as it
            may be raised in the call
        """

    def under_way(self) -> list[Call]:
        """Return the calls that have begun, and whose outcomes are not in the mailbox, as far as that is known."""
        return []

    def abandon(self, call: Call) -> bool:
        """Give up a call that was interrupted and does not end; called in the thread of the scheduler.

        It is never delivered: its outcome, should there be one, is refused and logged (`refuse_late`). Its place, such
        as its thread, goes to other calls. Neither `stop` nor the end of the interpreter waits for it.

        Returns whether that was done; if not, it has been or will be delivered.
        """
        return False

    def unchain(self) -> None:
        """Drop the `chained` calls that have not started; the outcomes before the others are delivered."""

    def rest(self) -> None:
        """Let go of threads and the like until further calls come: none is in flight, and none comes for a while."""

    def stop(self) -> None:
        """Return when all calls have ended, but for those given up, and every resource of this executor is released."""
        raise NotImplementedError

    def awaits_callbacks(self) -> Callable[[Any, Callable[[], None]], None] | None:
        """Return what takes the coroutines of subscribers, as `callbacks.Callbacks.take`; None when nobody awaits them.

        Once it was asked, `end_run` releases what these need after `stop`.
        """
        return None

    def end_run(self, *, left: bool) -> None:
        """Return when the callbacks of subscribers have ended; called after `stop`, and may be called again.

        :param left: whether the run was interrupted
        """
