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
from eventlet import patcher, semaphore

from taskflowx.executors import futures

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
        try:
            while self._waiting:
                future, call = self._waiting.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
        finally:
            self._workers -= 1

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

    def make_queue(self) -> GreenQueue:
        """Return a queue that lets green threads run while the scheduler waits on it."""
        return GreenQueue()


def pool(max_workers: int | None) -> GreenExecutor:
    """Return an executor with green threads of its own for each run.

    :param max_workers: the maximum number of concurrent calls
    """
    return GreenExecutor(make=functools.partial(GreenPool, max_workers))
