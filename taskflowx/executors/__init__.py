"""The places where calls run, and their names.

`fetch` turns the `executor=` argument of a user into an `Executor`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from taskflowx import _names
from taskflowx._util import logs
from taskflowx.executors import base, serial

LOG = logs.calm(__name__)


def _threads(max_workers: int | None) -> base.Executor:
    from taskflowx.executors import threads

    return threads.ThreadsExecutor(max_workers)


def _processes(max_workers: int | None) -> base.Executor:
    if sys.platform == "win32":  # it has no sockets that pass descriptors
        import concurrent.futures

        from taskflowx.executors import futures

        return futures.FuturesExecutor(make=lambda: concurrent.futures.ProcessPoolExecutor(max_workers), pickles=True)
    from taskflowx.executors import processes

    return processes.ProcessesExecutor(processes.ProcessPool(max_workers), keep=False)


def _asyncio(max_workers: int | None) -> base.Executor:
    from taskflowx.executors import aio

    return aio.AsyncioExecutor(max_workers)


def _green(max_workers: int | None) -> base.Executor:
    try:
        from taskflowx.executors import green
    except ImportError as error:
        msg = "Eventlet is needed to use a green executor; install it with: pip install eventlet"
        raise RuntimeError(msg) from error
    return green.pool(max_workers)


def _dask(max_workers: int | None, name: str = "dask") -> base.Executor:
    try:
        from taskflowx.executors.dask import places
    except ImportError as error:
        msg = "Dask is needed to run on a cluster of it; install it with: pip install distributed"
        raise RuntimeError(msg) from error
    return places.named(name, max_workers)


_BY_NAME: dict[str, Callable[[int | None], base.Executor]] = {
    "serial": lambda _: serial.SerialExecutor(),
    **dict.fromkeys(("threads", "threaded", "thread"), _threads),
    **dict.fromkeys(("processes", "process"), _processes),
    "asyncio": _asyncio,
    "dask": _dask,
    **dict.fromkeys(("greenthreads", "greenthreaded", "greenthread"), _green),
}


#: the entry point group for the executors of other packages: callables that take `max_workers` and return a
#: `base.Executor`, such as `futures.FuturesExecutor(make=...)`
GROUP = "taskflowx.executors"

_EXPECTED = "expected a taskflowx.executors.base.Executor"


def _plug_in(name: str) -> Callable[[int | None], base.Executor]:
    """Return the factory of a plug-in executor, by its name."""
    brought = _names.plugins(GROUP)
    point = brought.get(name)
    if point is None:
        known = sorted({*_BY_NAME, *brought})
        raise ValueError(f"Unknown executor string '{name}' expected one of {known} (or mixed case equivalent)")
    make = point.load()

    def checked(max_workers: int | None) -> base.Executor:
        made = make(max_workers)
        if not isinstance(made, base.Executor):
            what = f"Executor plug-in '{name}' ({point.value})"
            raise TypeError(f"{what} gave {made!r}, {_EXPECTED}")
        return _guarded(made)

    return checked


def _guarded(executor: base.Executor) -> base.Executor:
    from taskflowx.executors import guard  # who uses our own executors by name does without

    return guard.guarded(executor)


def _adapted(executor: Any, max_workers: int | None) -> base.Executor | None:
    """Return our own executor for an object of another library, None if there is none."""
    futurist = sys.modules.get("futurist")  # an executor of futurist implies its import
    if futurist is not None and isinstance(executor, futurist.GreenThreadPoolExecutor):
        from taskflowx.executors import green

        return green.GreenExecutor(executor)
    if sys.modules.get("distributed") is not None:  # as above
        from taskflowx.executors.dask import places

        return places.given(executor, max_workers)
    return None


def fetch(executor: Any, max_workers: Any = None, *, inline: bool = True) -> base.Executor:
    """Return the executor for a name, or for an instance of `concurrent.futures.Executor`, which stays the caller's.

    A Dask client stays the caller's, too; `'dask://host:port'` is the address of a Dask scheduler.

    :param max_workers: the maximum number of concurrent calls, for executors that are picked by name and for a Dask
        client; others leave it aside, with a warning, as the serial one does
    :param inline: whether a single call may run in the engine's thread, in our own threads executor
    :raises ValueError: when there is no executor of that name, or `max_workers` is not a positive number
    :raises TypeError: when it is something else, such as a class in place of an instance
    :raises RuntimeError: when green threads or a cluster are requested, and eventlet or distributed is not installed
    """
    if max_workers is not None and (type(max_workers) is bool or not isinstance(max_workers, int) or max_workers < 1):
        raise ValueError(f"max_workers must be a positive number of workers, not {max_workers!r}")
    found = _found(executor, max_workers, inline=inline)
    if max_workers not in (None, 1) and found.serial:
        LOG.warning("max_workers=%d is left aside: executor='serial' makes one call at a time", max_workers)
    elif max_workers not in (None, found.width) and not isinstance(executor, str):
        LOG.warning("max_workers=%d is left aside: executor=%r has workers of its own", max_workers, executor)
    return found


def _found(executor: Any, max_workers: int | None, *, inline: bool) -> base.Executor:
    if isinstance(executor, str):
        if executor.lower().startswith("dask://"):
            return _dask(max_workers, executor)
        make = _BY_NAME.get(executor.lower()) or _plug_in(executor)
        made = make(max_workers)
        made.inline = made.inline and inline
        return made
    if isinstance(executor, type) and any(hasattr(executor, name) for name in ("submit", "taskflowx_executor")):
        raise TypeError(f"{executor!r} is a class: pass an instance of it, such as executor={executor.__name__}()")
    if isinstance(executor, base.Executor):
        return _guarded(executor)
    make_executor = getattr(executor, "taskflowx_executor", None)
    if callable(make_executor):
        made = make_executor()
        if not isinstance(made, base.Executor):
            raise TypeError(f"{executor!r}.taskflowx_executor() gave {made!r}, {_EXPECTED}")
        return _guarded(made)
    adapted = _adapted(executor, max_workers)
    if adapted is not None:
        return adapted
    import concurrent.futures  # imported only where it is needed

    if isinstance(executor, concurrent.futures.Executor) or callable(getattr(executor, "submit", None)):
        from taskflowx.executors import futures

        pickles = isinstance(executor, concurrent.futures.ProcessPoolExecutor)
        return futures.FuturesExecutor(executor, pickles=pickles)
    raise TypeError(
        f"Unknown executor '{executor}' ({type(executor)}) expected an instance of concurrent.futures.Executor "
        f"or one of {sorted(_BY_NAME)}"
    )
