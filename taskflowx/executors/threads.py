"""Our own worker threads.

The scheduler puts calls on one queue, from which the workers take them; a worker delivers what came of a call and
takes the next. Threads are started when there are more calls than threads, up to the limit, and end with the run.

While much is queued, the thread of the scheduler sleeps for a part of the time that it will take, and then finds many
results at once: to be woken for each of them would take the interpreter's lock from the workers as often.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from taskflowx import task
from taskflowx.executors import base

if TYPE_CHECKING:
    from collections.abc import Callable


#: at most so many seconds pass, and so large a part of what is queued, before results are looked at
_AT_MOST, _PART = 0.002, 1 / 8
#: to sleep for fewer seconds is not worth it
_AT_LEAST = 0.0001


class _Gathering:
    """What the scheduler waits on: a `queue.SimpleQueue` that is not looked at while the workers have much to do."""

    def __init__(self, executor: ThreadsExecutor) -> None:
        delivered: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._get = delivered.get
        self.put = delivered.put
        self.get_nowait = delivered.get_nowait
        self._executor = executor
        self._looked_at = time.monotonic()
        self._taken = 0  # how many calls the workers had taken then

    def get(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Take the first item out, and wait for one.

        :raises queue.Empty: when there is none in that many seconds
        """
        seconds = self._pause(time.monotonic())
        if seconds >= _AT_LEAST:
            if timeout is not None:
                seconds = min(seconds, timeout)
                timeout -= seconds
            time.sleep(seconds)  # noqa: TID251 - the workers go on meanwhile, and nobody waits for us yet
        return self._get(timeout=timeout)

    def _pause(self, now: float) -> float:
        """Return for how many seconds the workers will not need anybody, as fast as they have been of late."""
        queued, taken = self._executor.queued_and_taken()
        interval = (now - self._looked_at) / max(taken - self._taken, 1)
        self._looked_at, self._taken = now, taken
        return min(queued * interval * _PART, _AT_MOST)


class ThreadsExecutor(base.Executor):
    """Runs calls in threads of its own.

    :param max_workers: how many threads at most; as many as `concurrent.futures` would use by default
    """

    inline = True

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._threads: list[threading.Thread] = []
        self._calls: queue.SimpleQueue[base.Call | None] = queue.SimpleQueue()
        self._deliver: Callable[[tuple[Any, Any]], None] | None = None
        self._submitted = 0

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Get ready to take calls; threads are started when they are needed."""
        self.stop()  # what is left of a run whose end was interrupted
        self._deliver = deliver
        self._submitted = 0
        self._calls = queue.SimpleQueue()

    def make_queue(self) -> _Gathering:
        """Return what the scheduler waits on."""
        return _Gathering(self)

    def queued_and_taken(self) -> tuple[int, int]:
        """Return how many calls wait for a worker, and how many did in this run and do so no more."""
        queued = self._calls.qsize()
        return queued, self._submitted - queued

    def submit(self, calls: list[base.Call]) -> None:
        """Queue calls for the workers."""
        self._submitted += len(calls)
        while len(self._threads) < min(self._max_workers, self._submitted):
            thread = threading.Thread(
                target=self._work,
                args=(self._deliver, self._calls),
                name=f"taskflowx-worker-{len(self._threads)}",
                daemon=True,
            )
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError as error:
                if isinstance(error.__context__, KeyboardInterrupt):  # which came while `start` held its lock
                    raise error.__context__ from None
                self._threads.pop()  # the system has no more threads: those that run do the work
                if self._threads:
                    break
                raise
        put = self._calls.put
        for call in calls:
            put(call)

    def _work(self, deliver: Callable[[tuple[Any, Any]], None], calls: queue.SimpleQueue[base.Call | None]) -> None:
        task.PROGRESS.set(lambda reporting, details: deliver((reporting, details)))
        take, perform = calls.get, base.perform
        while (call := take()) is not None:
            try:
                outcome = perform(call.atom, call.verb, call.kwargs)
            except BaseException as error:
                outcome = base.Interrupt(error)
            deliver((call, outcome))
            del call, outcome  # break the reference: what the call held must not live until the next one comes
        calls.put(None)  # for the next worker

    def recall(self) -> list[base.Call]:
        """Give back the calls that no worker has taken."""
        left = []
        with contextlib.suppress(queue.Empty):
            while (call := self._calls.get_nowait()) is not None:
                left.append(call)
        return left

    def stop(self) -> None:
        """Join the workers, which first run what is queued."""
        self._calls.put(None)
        for thread in self._threads:
            if thread.is_alive():  # not so when an interrupt has kept it from being started
                thread.join()
        self._threads.clear()
