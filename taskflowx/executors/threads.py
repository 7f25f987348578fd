"""Our own worker threads.

The scheduler puts calls on one queue, from which the workers take them; a worker delivers what came of a call and
takes the next. Threads are started when there are more calls than threads, up to the limit, and end with the run. When
the system has no more threads, those that run do the work; when there is none, the thread of the engine does it, one
call whenever it would wait.

A call is queued with what follows it for certain, if there is a worker for it. When it has succeeded and no other call
lacks a worker, its worker goes on with that by itself. Whether it will is decided before the outcome of the call is
delivered, so that the scheduler hands in what will begin, and starts itself what will not; a follower is taken from its
row after that. Until it is, the scheduler may take it back: who has taken it out of the row has it. One that has been
handed in is the first in its row, and only its worker takes that one.

While the workers have much to do, the thread of the scheduler sleeps for a part of the time that this will take, and
then finds many results at once: to be woken for each would take the interpreter's lock from the workers as often.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from taskflowx._util import logs
from taskflowx.executors import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    #: what follows a call and has not begun, in order
    _Row = collections.deque[base.Follower]
    _Calls = queue.SimpleQueue[tuple[base.Call, _Row | None] | None]


LOG = logs.calm(__name__)

#: at most so many calls are queued with the one that they follow
_AHEAD = 32
#: at most so many seconds pass, and so large a part of what is queued, before results are looked at
_AT_MOST, _PART = 0.002, 1 / 4
#: to sleep for fewer seconds is not worth it
_AT_LEAST = 0.0001
#: so many calls tell how fast the workers are: the first have to wait until a worker is awake
_EVIDENCE = 8


class _Gathering(base.Delivered):
    """What the scheduler waits on: it is not looked at while the workers have much to do."""

    def __init__(self, executor: ThreadsExecutor) -> None:
        super().__init__()
        self._seconds_to_gather, self._help_out = executor.seconds_to_gather, executor.help_out

    def get(self, block: bool = True, timeout: float | None = None) -> tuple[Any, Any]:
        """Take the first item out, and wait for one.

        :raises queue.Empty: when there is none in that many seconds
        """
        return super().get(block, self._gather(timeout))

    def move(self, into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        """Move the first item, and wait for one.

        :raises queue.Empty: when there is none in that many seconds
        """
        super().move(into, self._gather(timeout))

    def _gather(self, timeout: float | None) -> float | None:
        """Sleep while the workers need nobody; returns what is left of the time."""
        self._help_out()
        seconds = self._seconds_to_gather()
        if seconds >= _AT_LEAST:
            if timeout is not None:
                seconds = min(seconds, timeout)
                timeout -= seconds
            time.sleep(seconds)  # noqa: TID251 - the workers go on meanwhile, and nobody waits for us yet
        return timeout


class ThreadsExecutor(base.Executor):
    """Runs calls in threads of its own.

    :param max_workers: how many threads at most; as many as `concurrent.futures` would use by default
    """

    inline = True

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._threads: list[threading.Thread] = []
        self._calls: _Calls = queue.SimpleQueue()
        #: calls for which it was too late when a worker took them
        self._late: list[base.Call] = []
        self.followers: set[int] = set()
        #: those in which there may be some
        self._rows: list[_Row] = []
        self._deliver: Callable[[tuple[Any, Any]], None] | None = None
        self._lacks_threads = False  # whether the system has refused one in this run
        self._waits_here = False  # whether who waits for calls lets us know, by `help_out`
        self._context = contextvars.copy_context()
        self._submitted = 0
        self._ended: list[int] = []  # how many of them each worker has ended, with what followed
        self._followed = 0  # how many followers have been handed in
        self._interval = 0.0  # seconds from one of all these to the next, as far as is known
        self._looked_at, self._taken = 0.0, 0  # when that was last worked out, and how many they were then

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Get ready to take calls; threads are started when they are needed."""
        follower_of, self.follower_of = self.follower_of, None
        self.stop()  # what is left of a run whose end was interrupted, and is not to go on
        self.follower_of = follower_of
        self._deliver = deliver
        self._lacks_threads = False
        self._submitted = 0
        self._ended = []
        self._context = base.context_of_calls(self.reporter(deliver))
        self._calls = queue.SimpleQueue()
        self._late = []
        self.followers = set()
        self._rows = []

    def make_queue(self) -> Any:
        """Return what the scheduler waits on."""
        self._waits_here = base.may_wait_natively()
        return _Gathering(self) if self._waits_here else super().make_queue()

    def seconds_to_gather(self) -> float:
        """Return for how long the workers will not need anybody, as fast as they have been of late."""
        queued = self._calls.qsize()
        taken = self._submitted + self._followed - queued
        if taken - self._taken >= _EVIDENCE:
            now = time.monotonic()
            self._interval = (now - self._looked_at) / (taken - self._taken)
            self._looked_at, self._taken = now, taken
        steps = queued
        if not queued and self.followers:
            lengths = [length for length in map(len, self._rows) if length]
            if len(lengths) >= self._submitted - sum(self._ended):  # all workers go along one
                steps = min(lengths, default=0) * len(lengths)  # until one has come to its end
        return min(steps * self._interval * _PART, _AT_MOST)

    def submit(self, calls: list[base.Call]) -> None:
        """Queue calls for the workers."""
        if self._calls.empty() and not self.followers:  # how long it has been so tells nothing of how fast they are
            self._looked_at, self._taken = time.monotonic(), self._submitted + self._followed
            self._interval = 0.0
        self._submitted += len(calls)
        while len(self._threads) < min(self._max_workers, self._submitted):
            if not self._start_thread():
                break
        put, follower_of = self._calls.put, self.follower_of
        if follower_of is None or not self._threads or self._lacks_workers():
            for call in calls:
                put((call, None))
        else:
            self._rows = [row for row in self._rows if row]
            for call in calls:
                put((call, self._row_after(call, follower_of)))
        if not (self._threads or self._waits_here):
            while self.help_out():
                pass

    def _start_thread(self) -> bool:
        """Start one more worker; tells whether the system has given a thread."""
        within = self._context.copy()
        thread = threading.Thread(
            target=within.run,
            args=(self._work, self._deliver, self._calls, len(self._threads), self._context, within),
            name=f"taskflowx-worker-{len(self._threads)}",
            daemon=True,
        )
        self._threads.append(thread)
        self._ended.append(0)
        try:
            thread.start()
        except RuntimeError as error:
            if error.__context__ is not None:  # an interrupt, which came while `start` held its lock
                raise error.__context__ from None
            self._threads.pop()
            self._ended.pop()
            if not self._lacks_threads:
                self._lacks_threads = True
                who = f"the {len(self._threads)} threads that it has" if self._threads else "the thread of the engine"
                LOG.warning("A worker thread could not be started (%s); the run goes on in %s", error, who)
            return False
        return True

    def help_out(self) -> bool:
        """Make one call in this thread, that of the engine, if there is no worker; tells whether there was one."""
        if self._threads:
            return False
        try:
            taken = self._calls.get_nowait()
        except queue.Empty:
            return False
        deliver = self._deliver
        if taken is None:
            return False
        assert deliver is not None, "calls come after the start"
        call = taken[0]
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._late.append(call)
            deliver(base.WAKE)
            return True
        try:
            outcome = self._context.copy().run(base.perform, call.atom, call.verb, call.kwargs)
        except BaseException as error:
            outcome = base.Interrupt(error)
        deliver((call, outcome))
        return True

    def _lacks_workers(self) -> bool:
        """Tell whether some call waits for a worker that is at another one."""
        return self._submitted - sum(self._ended) > len(self._threads)

    def _row_after(self, call: base.Call, follower_of: Callable[[base.Call], base.Follower | None]) -> _Row | None:
        """Return what follows a call, one after the other; None if that is nothing."""
        row: _Row = collections.deque()
        follower = follower_of(call)
        if follower is None:
            return None
        self._rows.append(row)
        while follower is not None and len(row) < _AHEAD:
            row.append(follower)
            self.followers.add(follower.index)
            follower = follower_of(follower)
        return row

    def _work(
        self,
        deliver: Callable[[tuple[Any, Any]], None],
        calls: _Calls,
        number: int,
        context: contextvars.Context,
        within: contextvars.Context,
    ) -> None:
        """Run calls in a thread.

        :param context: what each of them is to find
        :param within: the copy of it in which the thread runs
        """
        take, perform, ended = calls.get, base.perform, self._ended
        deadline, late = self.deadline, self._late
        apart = False  # until one of them has changed a variable, which is to be its own
        while (taken := take()) is not None:
            call, row = taken
            del taken
            if deadline is not None and time.monotonic() >= deadline:
                late.append(call)
                deliver(base.WAKE)
                continue
            while True:
                try:
                    if apart:
                        outcome = context.copy().run(perform, call.atom, call.verb, call.kwargs)
                    else:
                        outcome = perform(call.atom, call.verb, call.kwargs)
                except BaseException as error:
                    outcome = base.Interrupt(error)
                apart = apart or within != context
                if row and (issubclass(type(outcome), _FAILED) or self.follower_of is None or self._lacks_workers()):
                    _drop(row, self.followers)
                deliver((call, outcome))
                follower = _take(row, outcome) if row else None
                if follower is None:
                    break
                call = follower
            ended[number] += 1
            del call, row, outcome  # break the reference: what the call held must not live until the next one comes
        calls.put(None)  # for the next worker

    def recall(self) -> list[base.Call]:
        """Give back the calls that no worker has taken."""
        left = []
        with contextlib.suppress(queue.Empty):
            while (taken := self._calls.get_nowait()) is not None:
                left.append(taken[0])
        while self._late:
            left.append(self._late.pop())
        self._submitted -= len(left)
        self.withdraw()
        return left

    def hand_in(self, call: base.Call) -> list[tuple[Any, Any]]:
        """Have a call take the place of its follower; what comes of that is delivered after what came before it."""
        self.followers.remove(call.index)
        self._followed += 1
        return []

    def withdraw(self) -> None:
        """Take back the followers that no worker has taken."""
        for row in self._rows:
            with contextlib.suppress(IndexError):  # a worker was faster
                while row and row[-1].index in self.followers:  # the first may have been handed in
                    self.followers.discard(row.pop().index)

    def stop(self) -> None:
        """Join the workers, which first run what is queued."""
        while self.help_out():
            pass
        self._calls.put(None)
        for thread in self._threads:
            if thread.is_alive():  # not so when an interrupt has kept it from being started
                thread.join()
        self._threads.clear()


_FAILED = (Failure, base.Interrupt)


def _drop(row: _Row, followers: set[int]) -> None:
    """Forget what does not begin by itself."""
    with contextlib.suppress(IndexError):  # the scheduler was faster
        while row:
            followers.discard(row.pop().index)


def _take(row: _Row, result: Any) -> base.Call | None:
    """Return the call that follows one with this result; None when the scheduler has taken it back."""
    try:
        follower = row.popleft()
    except IndexError:
        return None
    arguments = {**follower.kwargs, **dict.fromkeys(follower.awaited, result)}
    return base.Call(follower.index, follower.atom, follower.verb, arguments)
