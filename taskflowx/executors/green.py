"""Green threads of eventlet: calls take turns in the engine's thread, and switch where they wait.

What must stay true: the engine lets green threads run while it waits, even where nothing is monkey-patched. Items that
other native threads put on its queue, as `engine.suspend()` does, reach it too.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import eventlet
from eventlet import hubs, patcher, semaphore

from taskflowx.executors import base, futures

#: seconds between two checks for items of other native threads, which cannot wake a green thread
_GLANCE = 0.05
#: the default number of concurrent calls: a green thread costs little
_MAX_WORKERS = 1000

_native_thread: Callable[[], int] = patcher.original("threading").get_ident


class GreenQueue:
    """A FIFO queue; waiting in `get` lets other green threads run."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._filled = semaphore.Semaphore(0)
        self._thread = _native_thread()

    def put(self, item: Any) -> None:
        """Put an item in; may be called from any thread."""
        self._items.append(item)
        if _native_thread() == self._thread and self._filled.locked():
            self._filled.release()

    def get(self, timeout: float | None = None) -> Any:
        """Take the first item out; wait for one if there is none.

        :raises queue.Empty: when none arrives within `timeout` seconds
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._items:
            left = _GLANCE if deadline is None else min(_GLANCE, deadline - time.monotonic())
            if left <= 0:
                raise queue.Empty
            self._filled.acquire(timeout=left)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        """Take the first item out.

        :raises queue.Empty: when there is none
        """
        if not self._items:
            raise queue.Empty
        return self._items.popleft()


class GreenPool(concurrent.futures.Executor):
    """Green threads of one native thread, with the interface of `concurrent.futures`.

    :param max_workers: the maximum number of concurrent calls
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or _MAX_WORKERS
        self._workers = 0
        #: the green threads in which calls run
        self._running: dict[concurrent.futures.Future[Any], Any] = {}
        self._waiting: deque[tuple[concurrent.futures.Future[Any], Callable[[], Any]]] = deque()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Call a function in a green thread, in a context of its own."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        self._waiting.append((future, call))
        if self._workers < self._max_workers:
            self._workers += 1
            eventlet.spawn_n(self._work)
        return future

    def _work(self) -> None:
        left = False  # whether another green thread has taken the place of this one
        try:
            while True:  # its end, other than that of a loop with a condition, belongs to the `try` in each CPython
                if left or not self._waiting:
                    break
                future, call = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    left = self._call(future, call)
        finally:
            if not left:
                self._workers -= 1

    def _call(self, future: concurrent.futures.Future[Any], call: Callable[[], Any]) -> bool:
        """Make a call; returns whether it was left behind."""
        self._running[future] = eventlet.getcurrent()
        try:
            result = call()
        except BaseException as error:
            left = self._running.pop(future, None) is None
            future.set_exception(error)
        else:
            left = self._running.pop(future, None) is None
            future.set_result(result)
        return left

    def throw(self, future: concurrent.futures.Future[Any], error: BaseException) -> None:
        """Raise an error in a call that runs, where it waits."""
        if future in self._running:
            hubs.get_hub().schedule_call_global(0, self._throw, future, error)

    def _throw(self, future: concurrent.futures.Future[Any], error: BaseException) -> None:
        one = self._running.get(future)
        if one is not None:
            one.throw(error)

    def leave_behind(self, future: concurrent.futures.Future[Any]) -> None:
        """Give the place of a call that does not end to another green thread."""
        if self._running.pop(future, None) is not None:
            self._workers -= 1
            if self._waiting:
                self._workers += 1
                eventlet.spawn_n(self._work)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the green threads end.

        :param wait: whether to return only when they have ended
        :param cancel_futures: whether calls that have not started are dropped
        """
        while cancel_futures and self._waiting:
            self._waiting.popleft()[0].cancel()
        while wait and self._workers:
            eventlet.sleep(0)


class GreenExecutor(futures.FuturesExecutor):
    """Runs calls on an executor of green threads; the arguments are those of `futures.FuturesExecutor`."""

    kind = "greenthreads"

    @property
    def stops(self) -> str:  # type: ignore[override]
        """What it can do with a call that runs: in green threads of our own an error is raised where it waits."""
        return "abandons" if self._make is None else "cancels"

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Raise an error in a call where it waits, if its green thread is ours; others do as any pool.

        :param error: what is raised
        """
        if hasattr(call, "stop"):
            return
        super().interrupt(call, error)
        future, _ = self._run.pending.get(call, (None, None))
        if future is not None and isinstance(self._running, GreenPool):
            self._running.throw(future, error)

    def abandon(self, call: base.Call) -> bool:
        """Leave a call to its green thread, and give its place to another one."""
        future, _ = self._run.pending.get(call, (None, None))
        given_up = super().abandon(call)
        if given_up and future is not None and isinstance(self._running, GreenPool):
            self._running.leave_behind(future)
        return given_up

    def make_queue(self) -> GreenQueue:
        """Return a queue that lets green threads run while the scheduler waits on it."""
        return GreenQueue()


def pool(max_workers: int | None) -> GreenExecutor:
    """Return an executor with green threads of its own for each run.

    :param max_workers: the maximum number of concurrent calls
    """
    return GreenExecutor(make=functools.partial(GreenPool, max_workers))
