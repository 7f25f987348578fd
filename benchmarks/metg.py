"""METG(50%), the minimum effective task granularity: the smallest task that still runs at half efficiency.

The efficiency of a run is the time that its tasks would take on workers that do nothing else, divided by the time that
the run takes. It falls as tasks get smaller, and METG(50%) is the length of a task at which it is one half: whose tasks
are shorter pays more for the engine than for the work. From Slaughter et al., "Task Bench: A Parameterized Benchmark
for Evaluating Parallel Runtime Performance" (SC 2020, arXiv 1908.05790).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import math
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks import grain, graphs, workloads
from benchmarks.harness import Figure, clock
from taskflowx import task
from taskflowx.executors import processes
from taskflowx.patterns import graph_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes

WORKERS = 2
HALF = 0.5
LONGEST = 2e-3  # seconds of the longest tasks that are tried; each further one is half as long
SHORTEST = 1e-6
A_RUN = 0.2  # seconds that a run is to take at least, if that does not need too many tasks
FEWEST, MOST = 200, 4_000  # tasks of a run


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of the curve of efficiency: how long a task is, in seconds, and what is made of it."""

    seconds: float
    efficiency: float


def curve(run: Callable[[int, int], float], workers: int, *, least: float = 0.2, repeats: int = 3) -> list[Point]:
    """Return how efficient runs are, from long tasks to short ones.

    :param run: takes how many tasks there are, and how many bytes each of them hashes; returns the seconds of a run
    :param workers: how many calls are made at once
    :param least: ends below this efficiency
    """
    points: list[Point] = []
    wanted = LONGEST
    while wanted >= SHORTEST and (not points or points[-1].efficiency >= least):
        size = grain.size_of(wanted)
        count = max(FEWEST, min(MOST, round(A_RUN * workers / wanted)))
        run(count, size)
        taken = []
        for _ in range(repeats):
            alone = grain.seconds_of(size)
            taken.append((alone, count * alone / workers / run(count, size)))
        points.append(Point(*(statistics.median(column) for column in zip(*taken, strict=True))))
        wanted /= 2
    return points


def metg(points: list[Point], efficiency: float = HALF) -> float | None:
    """Return the seconds of a task at which a curve falls below an efficiency; None where it never does, or always.

    Between two points the logarithm of the length is taken to be linear in the efficiency.
    """
    for longer, shorter in itertools.pairwise(points):
        if longer.efficiency >= efficiency > shorter.efficiency:
            share = (longer.efficiency - efficiency) / (longer.efficiency - shorter.efficiency)
            return math.exp(math.log(longer.seconds) * (1 - share) + math.log(shorter.seconds) * share)
    return None


class Working(task.Task):
    """A task that works.

    :param size: how many bytes it hashes
    """

    def __init__(self, name: str, size: int, **options: Any) -> None:
        super().__init__(name, **options)
        self.size = size

    def execute(self) -> int:
        """Work."""
        return grain.work(self.size)


class Going(Working):
    """A task that works when another one has returned."""

    def execute(self, value: int) -> int:  # type: ignore[override]
        """Work."""
        return grain.work(self.size)


class Awaited(Working):
    """A coroutine that works."""

    async def execute(self) -> int:  # type: ignore[override]
        """Work."""
        return grain.work(self.size)


def flow_of(shape: str, count: int, size: int, cls: type[Working] = Working) -> Any:
    """Return a flow of tasks that work: `unordered` or `two-chains`."""
    names = [f"{i}" for i in range(count)]
    if shape == "unordered":
        return unordered_flow.Flow("working").add(*[cls(name, size) for name in names])
    flow = graph_flow.Flow("working")
    for name, before in zip(names, graphs.GRAPHS[shape](count), strict=True):
        if before:
            flow.add(Going(name, size, provides=name, rebind=[names[before[0]]]))
        else:
            flow.add(cls(name, size, provides=name))
    return flow


def on(shape: str, executor: Any, cls: type[Working] = Working) -> Callable[[int, int], float]:
    """Return what runs a flow of working tasks on an executor, prepared outside of the clock."""

    def run(count: int, size: int) -> float:
        options = {} if executor is None else {"executor": executor}
        if executor == "threads":
            options["max_workers"] = WORKERS
        engine = workloads.ready(flow_of(shape, count, size, cls), **options)
        return clock((lambda: asyncio.run(engine.arun())) if executor == "asyncio" else engine.run)

    return run


#: label -> the curve that was measured last; pictures are made of them
CURVES: dict[str, list[Point]] = {}

BOUNDS = {
    "threads": 20.0,
    "processes, one by one": 150.0,
    "processes, batched": 20.0,
    "asyncio": 40.0,
}


def measure(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Find METG(50%) of each executor."""
    with contextlib.ExitStack() as opened:
        pool = opened.enter_context(processes.ProcessPool(WORKERS))
        sides: dict[str, tuple[Any, int]] = {
            "serial": (on("unordered", None), 1),
            "threads": (on("unordered", "threads"), WORKERS),
            "threads, one by one": (on("two-chains", "threads"), WORKERS),
            "processes, batched": (on("unordered", pool), WORKERS),
            "processes, one by one": (on("two-chains", pool), WORKERS),
            "asyncio": (on("unordered", "asyncio", Awaited), 1),
        }
        for label, (run, workers) in sides.items():
            points = curve(run, workers, repeats=sizes.few)
            CURVES[label] = points
            yield _figure(label, points)


def _figure(label: str, points: list[Point]) -> Figure:
    bound = BOUNDS.get(label)
    found = metg(points)
    if found is None and points[-1].efficiency >= HALF:
        label, found = f"{label}, less than", points[-1].seconds
    if found is None:
        return Figure(label, at_most=bound, skipped=f"the efficiency is {points[0].efficiency:.2f} at best")
    micros = found * 1e6
    return Figure(label, micros, micros, micros, 1, unit="µs a task", at_most=bound)
