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

    #: the calls of a chain that have not started, in order
    _Chain = collections.deque[base.Call]
    _Calls = queue.SimpleQueue[tuple[base.Call, _Chain | None] | None]


LOG = logs.calm(__name__)

#: the most calls of a chain that are queued with its first
_AHEAD = 32
#: coalescing: at most this many seconds, and this fraction of the queue, pass before outcomes are read
_AT_MOST, _PART = 0.002, 1 / 4
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


class ThreadsExecutor(base.Executor):
    """Runs calls in threads of its own.

    :param max_workers: the maximum number of threads; by default that of `concurrent.futures`
    """

    inline = True

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._threads: list[threading.Thread] = []
        self._calls: _Calls = queue.SimpleQueue()
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
        within = self._context.copy()
        thread = threading.Thread(
            target=within.run,
            args=(self._work, self._deliver, self._calls, len(self._threads), self._context, within),
            name=f"taskflowx-worker-{len(self._threads)}",
            daemon=True,
        )
        self._threads.append(thread)
        self._ended.append(0)
        self._followed.append(0)
        try:
            thread.start()
        except RuntimeError as error:
            if error.__context__ is not None:  # an interrupt, which came while `start` held its lock
                raise error.__context__ from None
            self._threads.pop()
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
        number: int,
        context: contextvars.Context,
        within: contextvars.Context,
    ) -> None:
        """Run calls in a thread.

        :param context: the context of which each call gets a copy
        :param within: the copy of it in which the thread runs
        """
        take, perform, ended, followed = calls.get, base.perform, self._ended, self._followed
        deadline, late = self.deadline, self._late
        apart = False  # until a call has changed a context variable, which must stay its own
        while (taken := take()) is not None:
            call, chain = taken
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
                try:
                    apart = apart or within != context
                except BaseException:  # what was set cannot be compared; an exit would end the worker, too
                    apart = True
                if chain and (issubclass(type(outcome), _FAILED) or self.next_of is None or self._lacks_workers()):
                    _drop(chain, self.chained)
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

    def recall(self) -> list[base.Call]:
        """Cancel the calls that no worker has taken, and return them."""
        left = []
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

    def stop(self) -> None:
        """Run the queued calls, and join the workers."""
        while self.help_out():
            pass
        self._calls.put(None)
        for thread in self._threads:
            if thread.is_alive():  # false when an interrupt has prevented its start
                thread.join()
        self._threads.clear()


_FAILED = (Failure, base.Interrupt)


def _drop(chain: _Chain, chained: set[int]) -> None:
    """Drop the calls that the worker will not continue with."""
    with contextlib.suppress(IndexError):  # the scheduler was faster
        while chain:
            chained.discard(chain.pop().index)
