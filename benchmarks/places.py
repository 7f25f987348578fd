"""Executors against what a person would use instead: the standard pools, joblib, Dask, and a bare `asyncio.TaskGroup`.

Pools are warm on both sides: ours is kept between runs, theirs too.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import time
from typing import TYPE_CHECKING, Any

from benchmarks import loops, workloads
from benchmarks.harness import Figure, an_atom, clock, compared, in_turn
from benchmarks.workloads import ready
from taskflowx import task
from taskflowx.executors import processes
from taskflowx.patterns import unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes
    from taskflowx.flow import Flow

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


def _on(pool: Any, flow: Flow) -> Callable[[], float]:
    """Return a side that runs a flow on a pool, prepared outside of the clock."""
    return lambda: clock(ready(flow, executor=pool).run)


def pool(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare our worker processes with those of the standard library, and with joblib's."""
    context = multiprocessing.get_context("forkserver")
    with processes.ProcessPool(WORKERS) as ours:
        with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context) as theirs:
            yield _chain(sizes, ours, theirs)
            yield _arrays(sizes, ours, theirs)
        yield _unordered(sizes, ours)
        yield _speed_up(sizes, ours)


def _chain(sizes: Sizes, ours: Any, theirs: concurrent.futures.Executor) -> Figure:
    flow = workloads.linear(sizes.crossing)
    graph = loops.Graph(flow)

    def loop() -> float:
        sorter = graph.sorter()
        return clock(lambda: loops.on_pool(graph, sorter, theirs))

    label = "chain ÷ graphlib, standard pool"
    return compared(label, in_turn(sizes.turns, _on(ours, flow), loop), **an_atom(sizes.crossing), at_most=0.7)


def _arrays(sizes: Sizes, ours: Any, theirs: concurrent.futures.Executor) -> Figure:
    count = sizes.arrays
    flow = many(Array, count)

    def submit() -> float:
        def work() -> list[Any]:
            futures = [theirs.submit(an_array) for _ in range(count)]
            return [future.result() for future in futures]

        return clock(work)

    label = "10 MB arrays ÷ standard pool"
    turns = in_turn(sizes.turns, _on(ours, flow), submit)
    return compared(label, turns, "ms", factor=1e3 / count, atoms=count, at_most=0.5)


def _unordered(sizes: Sizes, ours: Any) -> Figure:
    label = "unordered ÷ joblib.Parallel"
    try:
        import joblib
    except ImportError as error:
        return Figure(label, at_most=1.0, skipped=str(error))
    flow = workloads.unordered(sizes.atoms)
    tasks: list[Any] = list(flow)

    def parallel() -> float:
        return clock(lambda: joblib.Parallel(WORKERS)(joblib.delayed(each.execute)() for each in tasks))

    return compared(label, in_turn(sizes.short, _on(ours, flow), parallel), **an_atom(sizes.atoms), at_most=1.0)


def _speed_up(sizes: Sizes, ours: Any) -> Figure:
    count = sizes.burning
    flow = many(Burn, count)

    def serial() -> float:
        return clock(ready(flow).run)

    label = "20 ms of CPU: serial ÷ ours"
    turns = in_turn(sizes.few, serial, _on(ours, flow))
    return compared(label, turns, "ms", factor=1e3 / count, atoms=count, at_least=1.9)


def coroutines(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare coroutines of tasks with bare ones, and have many of them sleep."""
    flow = many(Yield, sizes.atoms)

    def awaited() -> float:
        engine = ready(flow, executor="asyncio")
        return clock(lambda: asyncio.run(engine.arun()))

    turns = in_turn(sizes.short, awaited, lambda: clock(lambda: asyncio.run(_calls(sizes.atoms))))
    yield compared("sleep(0) ÷ asyncio.TaskGroup", turns, **an_atom(sizes.atoms), at_most=2.0)
    sleeping = many(Sleep, sizes.atoms)
    seconds = clock(ready(sleeping, executor="asyncio").run)
    yield Figure("all sleep 1 s: seconds", seconds, seconds, seconds, 1, sizes.atoms, at_most=2.0)


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

    def ours() -> float:
        engine = ready(flow, executor="threads", max_workers=WORKERS)
        return clock(engine.run)

    def theirs() -> float:
        return clock(lambda: threaded.get(graph, names, num_workers=WORKERS))

    yield compared(shape, in_turn(sizes.few, ours, theirs), **an_atom(sizes.atoms), at_most=0.1)
