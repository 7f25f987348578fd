"""A pool of worker processes that are kept from run to run."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import pickle
import sys
import weakref
from collections.abc import Callable, Iterable
from multiprocessing import forkserver, util
from typing import Any, Self

from taskflowx._util import reprs
from taskflowx.executors.processes import executor, handle, worker
from taskflowx.executors.processes.executor import ProcessesExecutor
from taskflowx.executors.processes.handle import Handle, end_all

_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()
_forked = False
#: modules that tasks' modules import, preloaded if the engine's process has imported them
_OFTEN_IMPORTED = ("taskflowx.engines", "taskflowx.patterns", "taskflowx.retry")


def _start_fresh() -> None:
    """In a forked process: release the resources that belong to the parent."""
    global _forked  # noqa: PLW0603 - it is state of the process
    _forked = True
    while handle.lines:
        os.close(handle.lines.pop().detach())
    executor.under_way.clear()
    for pool in list(_pools):
        pool.forget()
    _end_with_interpreter()


def _end_with_interpreter() -> None:
    """End all workers with the interpreter: it waits for processes, and these wait for calls."""
    util.Finalize(None, _end_everything, exitpriority=20)


def _end_everything() -> None:
    for one in list(executor.under_way):
        one.leave()
    for pool in list(_pools):
        pool.close()


_end_with_interpreter()
os.register_at_fork(after_in_child=_start_fresh)


class ProcessPool:
    """Worker processes that are kept from run to run: `engines.load(flow, executor=pool)`.

    Each run takes the workers that it needs, and starts missing ones; after it at most `max_workers` are kept. Several
    engines may use a pool at the same time, each with that many workers. `executor='processes'` uses a pool that is
    closed with the run.

    :param max_workers: the maximum number of concurrent calls of a run; by default the number of CPUs
    :param max_tasks_per_worker: a worker is recycled after so many calls
    :param initializer: is called in each worker before its first call, with `initargs`
    :param start_method: 'forkserver' (the default where available: it is safe with threads), 'spawn' or 'fork'
    :raises ValueError: when a number is not positive, or there is no such start method
    :raises TypeError: when the initializer cannot be pickled for a worker
    :raises RuntimeError: where eventlet or gevent has monkey-patched sockets
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        max_tasks_per_worker: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        start_method: str | None = None,
    ) -> None:
        patched_by = _patched_by()
        if patched_by:
            raise RuntimeError(
                f"Worker processes do not work in a process that {patched_by} has monkey-patched: its sockets do not "
                "reach other processes; use executor='threads' or 'greenthreads'"
            )
        counts: dict[str, Any] = {"max_workers": max_workers, "max_tasks_per_worker": max_tasks_per_worker}
        for name, value in counts.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive number or None, not {value!r}")
        known = multiprocessing.get_all_start_methods()
        if start_method is None:
            start_method = _default_start_method()
        elif start_method not in known:
            raise ValueError(f"start_method must be one of {known}, not {start_method!r}")
        if initializer is not None and start_method != "fork":
            try:
                pickle.dumps((initializer, initargs))
            except Exception as error:
                raise TypeError(f"The initializer or its arguments cannot reach a worker: {error}") from error
        self.max_workers = max_workers or os.cpu_count() or 1
        self.max_tasks_per_worker = max_tasks_per_worker
        self._initializer = initializer
        self._initargs = initargs
        self._context: Any = multiprocessing.get_context(start_method)
        if start_method == "forkserver":
            _preload(self._context)
        #: workers that no run uses
        self._idle: collections.deque[Handle] = collections.deque()
        self._finalizer = util.Finalize(self, end_all, (self._idle,))
        _pools.add(self)

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} of {reprs.number_of(self.max_workers, 'worker')}"

    def taskflowx_executor(self) -> ProcessesExecutor:
        """Return an executor that sends an engine's calls to the workers of this pool."""
        return ProcessesExecutor(self)

    def take(self) -> Handle:
        """Return a worker for exclusive use."""
        with contextlib.suppress(IndexError):
            while True:
                kept = self._idle.popleft()
                if not kept.is_dead():
                    return kept
                kept.close()
        return Handle(self._context, self._initializer, self._initargs)

    def give_back(self, workers: Iterable[Handle], *, keep: bool) -> None:
        """Take idle workers.

        :param keep: whether they may be kept for another run
        """
        ended = []
        for one in workers:
            if keep and len(self._idle) < self.max_workers and not self.is_used_up(one):
                self._idle.append(one)
            else:
                ended.append(one)
        end_all(ended)

    def is_used_up(self, one: Handle) -> bool:
        """Tell whether a worker has run its maximum number of calls."""
        return self.max_tasks_per_worker is not None and one.taken >= self.max_tasks_per_worker

    def forget(self) -> None:
        """Forget the workers of the process that this one was forked from."""
        self._idle = collections.deque()
        self._finalizer.cancel()
        self._finalizer = util.Finalize(self, end_all, (self._idle,))
        if self._context.get_start_method() == "forkserver":
            self._context = multiprocessing.get_context(_default_start_method())

    def close(self) -> None:
        """End the workers that no run uses."""
        end_all(self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _patched_by() -> str | None:
    """Return the name of the library that has replaced this process's sockets."""
    patcher, monkey = sys.modules.get("eventlet.patcher"), sys.modules.get("gevent.monkey")
    if patcher is not None and patcher.is_monkey_patched("socket"):
        return "eventlet"
    return "gevent" if monkey is not None and monkey.is_module_patched("socket") else None


def _preload(context: Any) -> None:
    """Preload the modules that all workers need in the fork server, unless the program has configured it."""
    server = getattr(forkserver, "_forkserver", None)
    if getattr(server, "_preload_modules", None) == ["__main__"]:  # the default
        ours = [name for name in list(sys.modules) if name.startswith(_OFTEN_IMPORTED)]
        context.set_forkserver_preload(["__main__", worker.__name__, *ours])


def _default_start_method() -> str:
    """Return a start method that is safe with threads. A forked process cannot use its parent's fork server."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() and not _forked else "spawn"
