"""What a call is, how it is run, and what the scheduler asks of a place to run it.

A `Call` is one verb (execute or revert) on one atom with its arguments. `perform` runs it and never raises an
`Exception`: how it went wrong is a `Failure`, which is a value. An `Executor` takes calls and delivers, from whatever
thread, one `(call, outcome)` each; an outcome is a value, a `Failure`, an `Interrupt` when something that is no
`Exception` (such as SystemExit) came out of the call, or `NotBegun`.
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
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states, task
from taskflowx.executors import carried
from taskflowx.logging import RUN
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


#: delivered so that the scheduler looks what there is to be done
WAKE = (None, None)


class Call:
    """One verb on one atom: `verb` is `states.EXECUTE` or `states.REVERT`, `index` the atom's place in the Plan.

    `outcome` is not set but by an executor that keeps there what came of the call until it is delivered.
    """

    __slots__ = ("atom", "index", "kwargs", "outcome", "verb")

    outcome: Any

    def __init__(self, index: int, atom: Any, verb: str, kwargs: dict[str, Any]) -> None:
        self.index = index
        self.atom = atom
        self.verb = verb
        self.kwargs = kwargs


class Follower(Call):
    """A call that is sent together with the one that it follows, to begin as soon as that has succeeded.

    It is handed in when the scheduler learns of that success. Worker processes keep until then what has come of it.

    :param awaited: the names of the arguments that are the result of the call before
    """

    __slots__ = ("awaited", "before", "kept")

    def __init__(self, index: int, atom: Any, kwargs: dict[str, Any], awaited: tuple[str, ...]) -> None:
        super().__init__(index, atom, states.EXECUTE, kwargs)
        self.awaited = awaited
        #: the number of the call before, for the executor
        self.before = -1
        #: what would have been delivered, in order: with the task for progress, with None for the outcome
        self.kept: list[tuple[Any, Any]] = []


class Interrupt:
    """The outcome of a call that ended in what is no `Exception`: the run is to stop, and to raise it."""

    __slots__ = ("exception",)

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception


class NotBegun:
    """The outcome of a call that its executor has refused or dropped, so that there is nothing to undo."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Event(NamedTuple):
    """Something that a task has told those who listen to it, and that listen elsewhere than where it runs.

    :param told: whether it is what the engine knows by itself, so that nothing comes of it but that
    """

    event_type: str
    details: dict[str, Any] | None
    told: bool


class _Forwarded(task.TaskNotifier):
    """The notifier of a task that runs elsewhere than those who listen to it."""

    forward: Callable[[Event], None]

    def notify(self, event_type: str, details: Mapping[str, Any] | None) -> None:
        """Call those who have begun to listen here, and those who listen there."""
        self.tell_of(event_type, details)
        self.forward(Event(event_type, None if details is None else dict(details), told=False))

    def tell(self, progress: float) -> None:
        """As `notify`, of what the engine knows by itself."""
        super().tell(progress)
        self.forward(Event(task.EVENT_UPDATE_PROGRESS, {"progress": progress}, told=True))


def forward_events(atom: Any, forward: Callable[[Event], None]) -> None:
    """Have the events of a task that somebody listens to elsewhere go there.

    :param forward: takes each of them
    """
    notifier = _Forwarded(atom.TASK_EVENTS, atom)
    notifier.forward = forward
    vars(atom)["_tfx_listened"] = notifier


def perform(atom: Any, verb: str, kwargs: dict[str, Any]) -> Any:
    """Run one verb of an atom with its hooks; returns the value, or a `Failure`."""
    try:
        if not isinstance(atom, task.Task):  # retries have no hooks around them
            return atom.execute(**kwargs) if verb == states.EXECUTE else atom.revert(**kwargs)
        listened = atom._tfx_listened
        if listened is not None:
            listened.tell(0.0)
        if verb == states.EXECUTE:
            try:
                atom.pre_execute()
                value = atom.execute(**kwargs)
            finally:
                atom.post_execute()
        else:
            try:
                atom.pre_revert()
                value = atom.revert(**kwargs)
            finally:
                atom.post_revert()
        if listened is not None:
            listened.tell(1.0)
    except Exception as error:
        return Failure.from_exception(error)
    return value


def context_of_calls(report: Callable[[Any, dict[str, Any]], None] | None) -> contextvars.Context:
    """Return a copy of the context in which the run was started; each call runs in a copy of it.

    :param report: takes the progress of tasks there
    """
    context = contextvars.copy_context()
    context.run(task.PROGRESS.set, report)
    return context


class Delivered(queue.SimpleQueue[tuple[Any, Any]]):
    """What the scheduler waits on.

    Items are moved from here to where they stay at hand without a step of Python in between: after any such step a
    signal handler may raise, and what had been taken would be lost.
    """

    def move(self, into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        """Move the first item, and wait for one.

        :raises queue.Empty: when there is none in that many seconds
        """
        get = super().get
        take = get if timeout is None else functools.partial(get, True, timeout)
        into.extend(itertools.islice(iter(take, None), 1))

    def move_all(self, into: collections.deque[tuple[Any, Any]]) -> None:
        """Move all items that are there."""
        with contextlib.suppress(queue.Empty):
            into.extend(iter(self.get_nowait, None))


def may_wait_natively() -> bool:
    """Tell whether a thread may wait as `Delivered` does: not if threads were replaced after this module was imported.

    A process that is monkey-patched by eventlet has another class of queues from then on.
    """
    return queue.SimpleQueue is Delivered.__base__


def movers(delivered: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return `move` and `move_all` of what an executor lets the scheduler wait on, which need not have them."""

    def move(into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        into.append(delivered.get() if timeout is None else delivered.get(timeout=timeout))

    def move_all(into: collections.deque[tuple[Any, Any]]) -> None:
        with contextlib.suppress(queue.Empty):
            into.extend(iter(delivered.get_nowait, None))

    return getattr(delivered, "move", move), getattr(delivered, "move_all", move_all)


class Mailbox:
    """What the scheduler waits on, for executors that do their own work in its thread while it waits.

    :param wait: does that work until something may have been put in, at most for so many seconds; returns whether it
        can be asked again when nothing has
    """

    def __init__(self, wait: Callable[[float | None], bool]) -> None:
        self._items: collections.deque[tuple[Any, Any]] = collections.deque()
        self._wait = wait
        #: called, in any thread, when something is put in; None while nobody has to be woken. Who is about to sleep
        #: sets it before a last look into the mailbox.
        self.wake: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def has(self, call: Call) -> bool:
        """Tell whether the outcome of a call is there and has not been taken."""
        return any(of is call for of, _ in self._items)

    def put(self, item: tuple[Any, Any]) -> None:
        """Put something in, from any thread."""
        self._items.append(item)
        wake = self.wake
        if wake is not None:
            wake()

    def get(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Take the first item out, and wait for one.

        :raises queue.Empty: when there is none in that many seconds
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
        """Move the first item as `Delivered` does, and wait for one.

        :raises queue.Empty: when there is none in that many seconds
        """
        self._wait_for_one(timeout)
        try:
            into.extend(itertools.islice(iter(self._items.popleft, None), 1))
        except IndexError:
            raise queue.Empty from None

    def move_all(self, into: collections.deque[tuple[Any, Any]]) -> None:
        """Move all items that are there."""
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


#: where another process finds the names of the run
_RUN = "taskflowx.logging:RUN"


class Executor:
    """A place where calls run.

    Between `start` and `stop` the scheduler hands in calls by `submit`; each is either delivered once, or given back
    by `recall`.
    """

    #: whether the scheduler runs all calls itself, one after another
    serial = False
    #: whether the scheduler may run a call itself when it is the only one: what is passed to our own executors
    inline = False
    #: whether atoms, arguments and results are pickled on their way
    pickles = False
    #: whether calls work on the very objects that the engine has; None where nobody can tell
    shares_memory: bool | None = True
    #: whether `async def` calls can run there
    runs_async = False
    #: whether calls may run on another machine; None where nobody can tell
    is_remote: bool | None = False
    #: whether calls that were handed in and have not begun can be taken back
    can_cancel = True
    #: whether calls that have begun can be ended from outside: they are when the wait for them is interrupted
    can_kill = False
    #: gives what follows a call for certain once it has succeeded, or None; the scheduler sets it before `start`, to
    #: None where nothing may begin before it has been handed in. Only our own threads and processes ask.
    follower_of: Callable[[Call], Follower | None] | None = None
    #: the indices of the followers that were sent and have not been handed in
    followers: Collection[int] = ()
    #: refuses progress that a store cannot hold, in the task that reports it; the scheduler sets it before `start`
    check_progress: Callable[[Any, dict[str, Any]], None] | None = None
    #: the context variables that go along to calls in other processes, by path; the engine sets it
    context: Mapping[str, contextvars.ContextVar[Any]] = types.MappingProxyType({})
    #: when time is up, in seconds of `time.monotonic`; the scheduler sets it before `start`, and takes back what has
    #: not begun by then. As it may be busy, an executor may look itself: it keeps calls for that, and delivers `WAKE`
    deadline: float | None = None

    @property
    def within_a_loop(self) -> bool:
        """Whether the run takes place in an event loop that runs already, so that nothing may wait for a call."""
        return False

    def check_start(self) -> None:
        """Raise an error, before anything happens, when a run cannot take place as things are now."""
        if self.context and not self.shares_memory:
            self.carry()

    def carry(self) -> dict[str, bytes]:
        """Return what context variables go along to calls in other processes, as `carried.put` takes it.

        :raises TypeError: when the value of one cannot be pickled
        """
        return carried.pack({**self.context, _RUN: RUN}, self.dumps)

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom as it is pickled on its way; used to look whether it can be, before a run."""
        import pickle  # only what pickles asks

        return pickle.dumps(part)

    def make_queue(self) -> Any:
        """Return what the scheduler waits on: it has `put`, `get` and `get_nowait` as a `queue.SimpleQueue` does.

        With `move` and `move_all`, as `Delivered` has them, nothing is lost when a signal handler raises meanwhile.
        """
        return Delivered() if may_wait_natively() else queue.SimpleQueue()

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Get ready to take calls.

        :param deliver: called, from any thread, with (call, outcome) for each call, and with (task, details) for
            progress
        """
        raise NotImplementedError

    def reporter(self, deliver: Callable[[tuple[Any, Any]], None]) -> Callable[[Any, dict[str, Any]], None]:
        """Return what takes the progress of a task that runs in this process, for `task.PROGRESS`.

        :param deliver: see `start`
        """
        check = self.check_progress

        def report(reporting: Any, details: dict[str, Any]) -> None:
            if check is not None:
                check(reporting, details)
            deliver((reporting, details))

        return report

    def submit(self, calls: list[Call]) -> None:
        """Take calls."""
        raise NotImplementedError

    def recall(self) -> list[Call]:
        """Give back the calls that have not begun; they never will, and are not delivered."""
        raise NotImplementedError

    def hand_in(self, call: Call) -> list[tuple[Any, Any]]:
        """Have a call take the place of the follower that was sent for it; returns what was kept back of that."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """Take back the followers that have not begun; what came of the calls before the others has been delivered."""

    def stop(self) -> None:
        """Return when all calls have ended and nothing of ours is left."""
        raise NotImplementedError
