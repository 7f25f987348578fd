"""Our own worker threads.

The scheduler puts calls on one queue, from which the workers take them; a worker delivers the outcome of a call and
takes the next. Threads are started when there are more calls than threads, up to the limit, and end with the run. When
the system has no more threads, the running threads do the work; when there is none, the engine's thread does it, one
call whenever it would wait.

A call is queued with the rest of its chain, if there is a worker for it. When it has succeeded and every other call has
a worker, its worker continues with the next call of the chain. The worker decides this before it delivers the outcome:
the calls that it will not continue with are no longer `chained`, and the scheduler dispatches them. The next call is
taken from the chain after that. Until then the scheduler may drop it; whichever of the two takes it out of the chain
owns it. A call that the scheduler counts as begun is the first in its chain, and only the worker takes that one.

While the workers have much to do, the scheduler's thread sleeps for a part of the time that this will take, and then
finds many outcomes at once (coalescing): a wake-up for each would take the interpreter's lock from the workers as
often.

A worker notes its call in its place, which is the token of its calls (see `stopping`). To abandon a call, the scheduler
marks the place, and then looks whether the call still runs there. The worker clears the place when the call has ended,
and then looks for the mark. So one of them at least sees the other. A worker that sees a mark waits for the decision of
the scheduler; when its call was given up, the thread ends, and another one may be started at once.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from taskflowx._util import logs
from taskflowx.executors import base, stopping
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    #: the calls of a chain that have not started, in order
    _Chain = collections.deque[base.Call]
    _Calls = queue.SimpleQueue[tuple[base.Call, _Chain | None] | None]


LOG = logs.calm(__name__)

#: the most calls of a chain that are queued with its first
_AHEAD = 32
#: coalescing: at most this many seconds, and this fraction of the queue, pass before outcomes are read
_AT_MOST, _PART = 0.002, 1 / 4
#: so often it is looked whether a worker has begun the call that it has taken
_LOOKS = 1000
#: a sleep of fewer seconds is not worth it
_AT_LEAST = 0.0001
#: the number of calls that shows the speed of the workers: the first calls wait until a worker is awake
_EVIDENCE = 8


class _Gathering(base.Delivered):
    """The scheduler's queue, which is not read while the workers have much to do."""

    def __init__(self, executor: ThreadsExecutor) -> None:
        super().__init__()
        self._seconds_to_gather, self._help_out = executor.seconds_to_coalesce, executor.help_out

    def get(self, block: bool = True, timeout: float | None = None) -> tuple[Any, Any]:
        """Take the first item out; wait for one if there is none.

        :raises queue.Empty: when none arrives within `timeout` seconds
        """
        return super().get(block, self._gather(timeout))

    def move(self, into: collections.deque[tuple[Any, Any]], timeout: float | None = None) -> None:
        """Move the first item; wait for one if there is none.

        :raises queue.Empty: when none arrives within `timeout` seconds
        """
        super().move(into, self._gather(timeout))

    def _gather(self, timeout: float | None) -> float | None:
        """Sleep while the workers have enough to do; returns the seconds that are left of `timeout`."""
        self._help_out()
        seconds = self._seconds_to_gather()
        if seconds >= _AT_LEAST:
            if timeout is not None:
                seconds = min(seconds, timeout)
                timeout -= seconds
            time.sleep(seconds)  # noqa: TID251 - the workers run meanwhile, and none waits for the scheduler yet
        return timeout


class _Place:
    """The place of a worker, and the token of its calls.

    :param number: how many places there were before in this run
    """

    __slots__ = ("call", "marked", "number", "thread")

    thread: threading.Thread

    def __init__(self, number: int) -> None:
        self.number = number
        #: the call that runs; None between calls
        self.call: base.Call | None = None
        #: whether the scheduler is about to give up the call here, or has done so
        self.marked = False

    @property
    def given_up(self) -> bool:
        """Whether the call that runs was given up."""
        call = self.call
        return call is not None and call.given_up

    def check(self) -> None:
        """Raise the error by which the call that runs was interrupted, if it was."""
        call = self.call
        if call is not None and call.stopped_by is not None:
            raise call.stopped_by


class ThreadsExecutor(base.Executor):
    """Runs calls in threads of its own.

    :param max_workers: the maximum number of threads; by default that of `concurrent.futures`
    """

    kind = "threads"
    inline = True
    stops = "abandons"

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._threads: list[threading.Thread] = []
        #: the places of these threads
        self._places: list[_Place] = []
        #: held while it is decided whether a call is given up
        self._deciding = threading.Lock()
        self._calls: _Calls = queue.SimpleQueue()
        #: what was taken from there, to look for a call that is to be dropped
        self._aside: collections.deque[tuple[base.Call, _Chain | None]] = collections.deque()
        #: calls that a worker took after the deadline
        self._late: list[base.Call] = []
        self.chained: set[int] = set()
        #: the chains that may have calls left
        self._chains: list[_Chain] = []
        self._deliver: Callable[[tuple[Any, Any]], None] | None = None
        self._lacks_threads = False  # whether the system has refused a thread in this run
        self._waits_here = False  # whether the waiting thread runs calls by `help_out`
        self._context = contextvars.copy_context()
        self._submitted = 0
        # for each worker, how many submitted calls it has ended, each with its chain, and how many others it has begun
        self._ended: list[int] = []
        self._followed: list[int] = []
        self._interval = 0.0  # estimated seconds between the starts of two calls
        self._looked_at, self._taken = 0.0, 0  # when that was last estimated, and how many calls had started then

    @property
    def width(self) -> int | None:
        """How many calls begin at once."""
        return self._max_workers

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Prepare to take calls; threads are started on demand."""
        next_of, self.next_of = self.next_of, None
        self.stop()  # discards a run whose end was interrupted
        self.next_of = next_of
        self._deliver = deliver
        self._lacks_threads = False
        self._submitted = 0
        self._ended = []
        self._followed = []
        self._places = []
        self._context = base.context_of_calls(self.reporter(deliver))
        self._calls = queue.SimpleQueue()
        self._late = []
        self.chained = set()
        self._chains = []

    def make_queue(self) -> Any:
        """Return the queue that the scheduler waits on."""
        self._waits_here = base.may_wait_natively()
        return _Gathering(self) if self._waits_here else super().make_queue()

    def seconds_to_coalesce(self) -> float:
        """Return the seconds for which the workers have enough to do, at their recent speed."""
        queued = self._calls.qsize()
        taken = self._submitted + sum(self._followed) - queued
        if taken - self._taken >= _EVIDENCE:
            now = time.monotonic()
            self._interval = (now - self._looked_at) / (taken - self._taken)
            self._looked_at, self._taken = now, taken
        steps = queued
        if not queued and self.chained:
            lengths = [length for length in map(len, self._chains) if length]
            if len(lengths) >= self._submitted - sum(self._ended):  # every worker runs along a chain
                steps = min(lengths, default=0) * len(lengths)  # until one chain has ended
        return min(steps * self._interval * _PART, _AT_MOST)

    def submit(self, calls: list[base.Call]) -> None:
        """Queue calls for the workers."""
        if self._calls.empty() and not self.chained:  # the idle time before says nothing of their speed
            self._looked_at, self._taken = time.monotonic(), self._submitted + sum(self._followed)
            self._interval = 0.0
        self._submitted += len(calls)
        while len(self._threads) < min(self._max_workers, self._submitted):
            if not self._start_thread():
                break
        put, next_of = self._calls.put, self.next_of
        if next_of is None or not self._threads or self._lacks_workers():
            for call in calls:
                put((call, None))
        else:
            self._chains = [chain for chain in self._chains if chain]
            for call in calls:
                put((call, self._chain_after(call, next_of)))
        if not (self._threads or self._waits_here):
            while self.help_out():
                pass

    def _start_thread(self) -> bool:
        """Start one more worker; returns whether the system could start a thread."""
        place = _Place(len(self._ended))
        context = self._context.copy()
        context.run(stopping.TOKEN.set, place)
        thread = place.thread = threading.Thread(
            target=context.run,
            args=(self._work, self._deliver, self._calls, place, context),
            name=f"taskflowx-worker-{place.number}",
            daemon=True,
        )
        self._threads.append(thread)
        self._places.append(place)
        self._ended.append(0)
        self._followed.append(0)
        try:
            thread.start()
        except RuntimeError as error:
            if error.__context__ is not None:  # an interrupt, which came while `start` held its lock
                raise error.__context__ from None
            self._threads.pop()
            self._places.pop()
            self._ended.pop()
            self._followed.pop()
            if not self._lacks_threads:
                self._lacks_threads = True
                who = f"the {len(self._threads)} threads that it has" if self._threads else "the thread of the engine"
                LOG.warning("A worker thread could not be started (%s); the run continues in %s", error, who)
            return False
        return True

    def help_out(self) -> bool:
        """Run one call in this thread, the engine's, if there are no workers; returns whether there was a call."""
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
        """Tell whether a call waits for a worker that is busy with another one."""
        return self._submitted - sum(self._ended) > len(self._threads)

    def _chain_after(self, call: base.Call, next_of: Callable[[base.Call], base.Call | None]) -> _Chain | None:
        """Return the calls of the chain after a call; None if there are none."""
        following = next_of(call)
        if following is None:
            return None
        chain: _Chain = collections.deque()
        self._chains.append(chain)
        while following is not None and len(chain) < _AHEAD:
            self.chained.add(following.index)
            chain.append(following)
            following = next_of(following)
        return chain

    def _work(
        self,
        deliver: Callable[[tuple[Any, Any]], None],
        calls: _Calls,
        place: _Place,
        context: contextvars.Context,
    ) -> None:
        """Run calls in a thread.

        :param place: the place of the thread
        :param context: the context in which the thread runs; each call gets a copy of it
        """
        take, perform, ended, followed = calls.get, base.perform, self._ended, self._followed
        deadline, late, number = self.deadline, self._late, place.number
        while (taken := take()) is not None:
            call, chain = taken
            del taken
            if deadline is not None and time.monotonic() >= deadline:
                late.append(call)
                deliver(base.WAKE)
                continue
            while True:
                place.call = call
                try:
                    outcome = context.copy().run(perform, call.atom, call.verb, call.kwargs)
                except BaseException as error:
                    outcome = base.Interrupt(error)
                if chain and (issubclass(type(outcome), _FAILED) or self.next_of is None or self._lacks_workers()):
                    _drop(chain, self.chained)
                place.call = None
                if place.marked and self._was_given_up(call, outcome):
                    return
                deliver((call, outcome))
                if not chain:
                    break
                try:
                    call = chain.popleft()
                except IndexError:  # the scheduler has dropped it
                    break
                followed[number] += 1
                call.follow(outcome)
            ended[number] += 1
            del call, chain, outcome  # break the reference: objects of this call must not live until the next call
        calls.put(None)  # for the next worker

    # -- calls that are to stop ----------------------------------------------------------------------

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Have `checkpoint` raise in a call; one that no worker has taken is dropped.

        :param error: what it raises
        """
        if not hasattr(call, "stop"):
            call.stop = stopping.Stop(error)  # first: a worker may be about to begin it
        aside, calls = self._aside, self._calls
        if not aside and calls.empty() and not self._late:
            return
        if self._place_of(call):
            return
        with contextlib.suppress(queue.Empty):
            aside.extend(iter(calls.get_nowait, None))  # one step of C: an interrupt loses none
        found = [taken for taken in aside if taken[0] is call]
        if found:
            aside.remove(found[0])
            if found[0][1]:
                _drop(found[0][1], self.chained)
            self._cancelled_early(call)
        with contextlib.suppress(IndexError):
            collections.deque(map(calls.put, iter(aside.popleft, None)), 0)
        if call in self._late:
            self._late.remove(call)
            self._cancelled_early(call)

    def _place_of(self, call: base.Call) -> _Place | None:
        return next((place for place in self._places if place.call is call), None)

    def _cancelled_early(self, call: base.Call) -> None:
        """Deliver a call that was interrupted before it began."""
        assert self._deliver is not None, "calls come after the start"
        self._submitted -= 1
        self._deliver(base.not_begun(call))

    def under_way(self) -> list[base.Call]:
        """Return the calls that workers are running, with those that they have taken just now, for which it waits."""
        found: list[base.Call] = []
        for _ in range(_LOOKS):
            found = [call for place in self._places if (call := place.call) is not None]
            if len(found) >= self._submitted - sum(self._ended) - self._calls.qsize() - len(self._late):
                break
            time.sleep(_AT_LEAST)  # noqa: TID251 - the worker is between two lines
        return found

    def abandon(self, call: base.Call) -> bool:
        """Leave a call to its thread, which ends with it; another thread takes the place of that.

        Returns whether the call still ran.
        """
        if call.given_up or not hasattr(call, "stop"):
            return call.given_up
        if not (place := self._place_of(call)):
            self.under_way()  # a worker that has taken it just now notes that first
            if not (place := self._place_of(call)):
                return False
        with self._deciding:
            place.marked = True
            if place.call is not call:
                place.marked = False
                return False
            call.stop.given_up = True
        self.unchain()
        self._leave(place)
        return True

    def _leave(self, place: _Place) -> None:
        """Count a worker as gone, and start another one if there is work for it; may be done again."""
        if place.thread in self._threads:
            self._threads.remove(place.thread)
            self._ended[place.number] += 1
        if place in self._places:
            self._places.remove(place)
        if not self._calls.empty():
            self._start_thread()

    def _was_given_up(self, call: base.Call, outcome: Any) -> bool:
        """Tell whether the call that has ended was given up, and log that its outcome is refused."""
        with self._deciding:
            given_up = call.given_up
        if given_up:
            base.refuse_late(call, outcome)
        return given_up

    def recall(self) -> list[base.Call]:
        """Cancel the calls that no worker has taken, and return them."""
        left = [call for call, _ in self._aside]
        self._aside.clear()
        with contextlib.suppress(queue.Empty):
            while (taken := self._calls.get_nowait()) is not None:
                left.append(taken[0])
        while self._late:
            left.append(self._late.pop())
        self._submitted -= len(left)
        self.unchain()
        return left

    def unchain(self) -> None:
        """Drop the chained calls that no worker has taken."""
        for chain in self._chains:
            with contextlib.suppress(IndexError):  # a worker was faster
                while chain and chain[-1].index in self.chained:  # the first may count as begun
                    self.chained.discard(chain.pop().index)

    def rest(self) -> None:
        """End the workers, which have nothing to do."""
        self._calls.put(None)
        self._join()
        self._calls = queue.SimpleQueue()  # the last worker has put the end into the other one
        self._submitted = self._taken = 0  # all of them have ended
        self._ended, self._followed = [], []

    def stop(self) -> None:
        """Run the queued calls, and join the workers, but for those that were left to a call that was given up."""
        while self.help_out():
            pass
        self._calls.put(None)
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            if thread.is_alive():  # false when an interrupt has prevented its start
                thread.join()
        self._threads.clear()
        self._places.clear()


_FAILED = (Failure, base.Interrupt, CoroutineType)


def _drop(chain: _Chain, chained: set[int]) -> None:
    """Drop the calls that the worker will not continue with."""
    with contextlib.suppress(IndexError):  # the scheduler was faster
        while chain:
            chained.discard(chain.pop().index)
