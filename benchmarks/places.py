"""Executors against what a person would use instead: the standard pools, joblib, Dask, and a bare `asyncio.TaskGroup`.

Pools are warm on both sides: ours is kept between runs, theirs too.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import time
from typing import TYPE_CHECKING, Any

from benchmarks import loops, workloads
from benchmarks.harness import Figure, alone, an_atom, clock, compared, in_turn
from benchmarks.workloads import ready
from taskflowx import task
from taskflowx.executors import processes
from taskflowx.patterns import unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes
    from taskflowx.flow import Flow

    Run = Callable[[Flow], float]

WORKERS = 2
ARRAY = 10_000_000  # bytes


class Burn(task.Task):
    """Uses 20 ms of a CPU."""

    def execute(self) -> None:
        """Count until the time is used."""
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass


def an_array() -> Any:
    """Return an array of `ARRAY` bytes."""
    import numpy as np

    return np.ones(ARRAY // 8)


class Array(task.Task):
    """Returns a large array."""

    def execute(self) -> Any:
        """Make it."""
        return an_array()


class Yield(task.Task):
    """Lets others have their turn."""

    async def execute(self) -> None:
        """Await nothing."""
        await asyncio.sleep(0)


class Sleep(task.Task):
    """Sleeps for a second."""

    async def execute(self) -> None:
        """Await that."""
        await asyncio.sleep(1)


def many(cls: type[task.Task], atoms: int) -> Flow:
    """Return an unordered flow of tasks of a class."""
    return unordered_flow.Flow("many").add(*(cls(f"{number}") for number in range(atoms)))


@contextlib.contextmanager
def on(executor: str, workers: int | None = WORKERS) -> Iterator[Run]:
    """Give what returns how many seconds a run of a flow takes on an executor; it is prepared outside of the clock.

    Worker processes are kept, so all but the first run find them warm.

    :param workers: how many calls are made at once; None for as many as the executor makes by itself
    """
    if executor == "processes":
        with processes.ProcessPool(workers) as kept:
            yield lambda flow: clock(ready(flow, executor=kept).run)
    elif executor == "asyncio":

        def run(flow: Flow) -> float:
            engine = ready(flow, executor=executor, max_workers=workers)
            return clock(lambda: asyncio.run(engine.arun()))

        yield run
    elif executor == "threads":
        yield lambda flow: clock(ready(flow, executor=executor, max_workers=workers).run)
    else:
        yield lambda flow: clock(ready(flow).run)


def standard_pool(executor: str) -> concurrent.futures.Executor:
    """Return the standard library's pool of the same kind, whose processes start as ours do."""
    if executor == "threads":
        return concurrent.futures.ThreadPoolExecutor(WORKERS)
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    return concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context)


def pool(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare our worker processes with those of the standard library, and with joblib's."""
    with on("processes") as ours:
        with standard_pool("processes") as theirs:
            yield _chain(sizes, ours, theirs)
            yield _arrays(sizes, ours, theirs)
        yield _unordered(sizes, ours)
        yield _speed_up(sizes, ours)


def _chain(sizes: Sizes, ours: Run, theirs: concurrent.futures.Executor) -> Figure:
    flow = workloads.linear(sizes.crossing)
    graph = loops.Graph(flow)

    def loop() -> float:
        sorter = graph.sorter()
        return clock(lambda: loops.on_pool(graph, sorter, theirs))

    turns = in_turn(sizes.turns, lambda: ours(flow), loop)
    return compared("chain ÷ graphlib, standard pool", turns, **an_atom(sizes.crossing), at_most=0.7)


def submitted(pool: concurrent.futures.Executor, function: Callable[..., Any], count: int, *arguments: Any) -> float:
    """Return how many seconds it takes to submit a call so many times to a pool, and to have all results."""

    def work() -> list[Any]:
        futures = [pool.submit(function, *arguments) for _ in range(count)]
        return [future.result() for future in futures]

    return clock(work)


def _arrays(sizes: Sizes, ours: Run, theirs: concurrent.futures.Executor) -> Figure:
    count = sizes.arrays
    flow = many(Array, count)
    turns = in_turn(sizes.turns, lambda: ours(flow), lambda: submitted(theirs, an_array, count))
    label = "10 MB arrays ÷ standard pool"
    return compared(label, turns, "ms", factor=1e3 / count, atoms=count, at_most=0.5)


def _unordered(sizes: Sizes, ours: Run) -> Figure:
    label = "unordered ÷ joblib.Parallel"
    try:
        import joblib
    except ImportError as error:
        return Figure(label, at_most=1.0, skipped=str(error))
    flow = workloads.unordered(sizes.atoms)
    tasks: list[Any] = list(flow)

    def parallel() -> float:
        return clock(lambda: joblib.Parallel(WORKERS)(joblib.delayed(each.execute)() for each in tasks))

    turns = in_turn(sizes.turns, lambda: ours(flow), parallel)
    return compared(label, turns, **an_atom(sizes.atoms), at_most=1.0)


def _speed_up(sizes: Sizes, ours: Run) -> Figure:
    count = sizes.burning
    flow = many(Burn, count)
    with on("serial") as serial:
        turns = in_turn(sizes.few, lambda: serial(flow), lambda: ours(flow))
    label = "20 ms of CPU: serial ÷ ours"
    return compared(label, turns, "ms", factor=1e3 / count, atoms=count, at_least=1.9)


def coroutines(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare coroutines of tasks with bare ones, and have many of them sleep."""
    flow = many(Yield, sizes.atoms)
    with on("asyncio", None) as ours:
        turns = in_turn(sizes.short, lambda: ours(flow), lambda: clock(lambda: asyncio.run(_calls(sizes.atoms))))
    yield compared("sleep(0) ÷ asyncio.TaskGroup", turns, **an_atom(sizes.atoms), at_most=2.0)
    sleeping = many(Sleep, sizes.atoms)
    seconds = clock(ready(sleeping, executor="asyncio").run)
    yield alone("all sleep 1 s: seconds", [seconds], atoms=sizes.atoms, at_most=2.0)


async def _calls(count: int) -> None:
    async def call() -> None:
        await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())


def dask_threads(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare our threads with those of `dask.threaded`."""
    try:
        from dask import threaded
    except ImportError as error:
        yield Figure(shape, at_most=0.1, skipped=str(error))
        return
    flow = workloads.unordered(sizes.atoms)
    graph = {each.name: (each.execute,) for each in flow}
    names = list(graph)

    def theirs() -> float:
        return clock(lambda: threaded.get(graph, names, num_workers=WORKERS))

    with on("threads") as ours:
        turns = in_turn(sizes.few, lambda: ours(flow), theirs)
    yield compared(shape, turns, **an_atom(sizes.atoms), at_most=0.1)
