"""Where the runs of a batch take place."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import multiprocessing
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.executors import processes

if TYPE_CHECKING:
    from collections.abc import Callable


class Place(NamedTuple):
    """One kind of executors.

    :param make: returns what gives an executor for as long as a batch lasts
    :param own: whether tasks are in processes of their own, which are replaced when they die
    :param pickles: whether results are sent from another process
    """

    name: str
    make: Callable[[], contextlib.AbstractContextManager[Any]]
    own: bool = False
    pickles: bool = False


def _named(name: str) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: contextlib.nullcontext(name)


def _kept(method: str, **options: Any) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: processes.ProcessPool(2, start_method=method, **options)


def _futures_in_processes() -> Any:
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))


PLACES = (
    Place("serial", _named("serial")),
    Place("processes", _named("processes"), own=True, pickles=True),
    Place("threads", _named("threads")),
    Place("kept, by a fork server", _kept("forkserver"), own=True, pickles=True),
    Place("asyncio", _named("asyncio")),
    Place("kept, spawned", _kept("spawn"), own=True, pickles=True),
    Place("futures in threads", lambda: concurrent.futures.ThreadPoolExecutor(3)),
    Place("kept, forked", _kept("fork"), own=True, pickles=True),
    Place("greenthreads", _named("greenthreads")),
    Place("kept for three calls", _kept("forkserver", max_tasks_per_worker=3), own=True, pickles=True),
    Place("futures in processes", _futures_in_processes, pickles=True),
)


def is_there(place: Place) -> bool:
    """Tell whether what a place needs is installed."""
    return place.name != "greenthreads" or importlib.util.find_spec("eventlet") is not None
