"""Rows for tasks that take a while, and for results that are large: how much of the time is the work itself.

One function measures all of a table: what tasks do, how long each takes, where they run, and in which shape.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any

from benchmarks import grain, metg, places, workloads
from benchmarks.harness import Figure, clock, compared, in_turn
from taskflowx import task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.graphs import Graph
    from benchmarks.harness import Sizes

FEWEST, MOST = 4, 400  # tasks of a run
A_RUN_OF_BYTES = 50_000_000  # bytes that all results of a run come to, if that does not need too many tasks


class Sleeping(task.Task):
    """A task that sleeps."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name)
        self.seconds = seconds

    def execute(self) -> None:
        """Sleep."""
        time.sleep(self.seconds)


class AwaitedSleep(Sleeping):
    """A coroutine that sleeps."""

    async def execute(self) -> None:  # type: ignore[override]
        """Sleep."""
        await asyncio.sleep(self.seconds)


class Filled(task.Task):
    """A task with a large result."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self.size = size

    def execute(self) -> bytes:
        """Make it."""
        return filled(self.size)


def filled(size: int) -> bytes:
    """Return so many bytes."""
    return b"x" * size


def asleep(seconds: float) -> float:
    """Return how long it really takes to sleep."""
    return clock(lambda: time.sleep(seconds))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What tasks do.

    :param cls: their class, and `awaited` that of coroutines
    :param amount: takes how long they are to take, and returns what they are given
    :param alone: takes that, and returns how long one really takes with nothing else around
    """

    cls: Callable[..., Any]
    awaited: Callable[..., Any]
    amount: Callable[[float], Any]
    alone: Callable[[Any], float]


KINDS = {
    "sleep": Kind(Sleeping, AwaitedSleep, float, asleep),
    "CPU": Kind(metg.Working, metg.Awaited, grain.size_of, lambda size: grain.seconds_of(size, 3)),
}


def at_once(executor: str, kind: str) -> int:
    """Return how many tasks an executor really works at: coroutines share one thread."""
    return 1 if executor == "serial" or (executor, kind) == ("asyncio", "CPU") else places.WORKERS


def rounds(graph: Graph, workers: int) -> int:
    """Return how many tasks must follow each other at least: by what they depend on, and as workers are few."""
    depth: list[int] = []
    for before in graph:
        depth.append(1 + max((depth[other] for other in before), default=0))
    return max(*depth, -(-len(graph) // workers))


def efficiency(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the least time that tasks could take with what they take, for each executor, kind and length."""
    for executor in sizes.executors:
        with places.on(executor) as run:
            run(workloads.linked([Sleeping(f"{node}", 0.01) for node in range(4)], []))  # so that all workers are there
            for kind, length in itertools.product(KINDS, sizes.lengths):
                yield _efficiency(sizes, shape, executor, kind, length, run)


def _efficiency(sizes: Sizes, shape: str, executor: str, kind: str, length: float, run: places.Run) -> Figure:
    facts, workers = KINDS[kind], at_once(executor, kind)
    amount = facts.amount(length)
    count = sizes.tasks(length, workers, FEWEST, MOST)
    graph = workloads.graph_of(shape, count)
    cls = facts.awaited if executor == "asyncio" else facts.cls
    flow = workloads.linked([cls(f"{node}", amount) for node in range(count)], graph)
    least = rounds(graph, workers)
    turns = in_turn(sizes.rare, lambda: least * facts.alone(amount), lambda: run(flow), warm_up=False)
    label = f"{shape}, {executor}, {kind} {length * 1e3:g} ms"
    return compared(label, turns, "ms", factor=1e3, atoms=count)


def results(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare what results of a few sizes cost, on threads and on processes, with the standard pools."""
    for executor in ("threads", "processes"):
        if executor not in sizes.executors:
            continue
        with places.on(executor) as ours, places.standard_pool(executor) as pool:
            for size in sizes.payloads:
                count = sizes.exactly or max(FEWEST, min(MOST, A_RUN_OF_BYTES // size))
                flow = workloads.linked([Filled(f"{node}", size) for node in range(count)], [])
                turns = in_turn(
                    sizes.turns,
                    lambda ours=ours, flow=flow: ours(flow),
                    lambda pool=pool, count=count, size=size: places.submitted(pool, filled, count, size),
                )
                label = f"{executor}, {_bytes(size)}"
                yield compared(label, turns, "ms", factor=1e3 / count, atoms=count)


def _bytes(size: int) -> str:
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1_000} KB"
