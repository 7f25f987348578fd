"""METG(50%), the minimum effective task granularity: the smallest task that still runs at half efficiency.

The efficiency of a run is the time that its tasks would take on workers that do nothing else, divided by the time that
the run takes. It falls as tasks get smaller, and METG(50%) is the length of a task at which it is one half: whose tasks
are shorter pays more for the engine than for the work. From Slaughter et al., "Task Bench: A Parameterized Benchmark
for Evaluating Parallel Runtime Performance" (SC 2020, arXiv 1908.05790).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import efficiency, grain, graphs, places
from benchmarks.efficiency import HALF, Point, metg
from benchmarks.harness import MICROSECONDS, Figure, alone
from taskflowx import task
from taskflowx.patterns import graph_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Sizes


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


#: label -> the curve that was measured last; pictures are made of them
CURVES: dict[str, list[Point]] = {}

#: label -> where tasks run, in which shape, of which class, and how many at once
SIDES: dict[str, tuple[str, str, type[Working], int]] = {
    "serial": ("serial", "unordered", Working, 1),
    "threads": ("threads", "unordered", Working, places.WORKERS),
    "threads, one by one": ("threads", "two-chains", Working, places.WORKERS),
    "processes, batched": ("processes", "unordered", Working, places.WORKERS),
    "processes, one by one": ("processes", "two-chains", Working, places.WORKERS),
    "asyncio": ("asyncio", "unordered", Awaited, 1),
}
BOUNDS = {
    "threads": 20.0,
    "processes, one by one": 150.0,
    "processes, batched": 20.0,
    "asyncio": 40.0,
}


def measure(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Find METG(50%) of each executor."""
    for label, (executor, shape, cls, workers) in SIDES.items():
        if executor not in sizes.executors:
            continue
        with places.on(executor, workers if workers > 1 else None) as run:

            def run_some(count: int, size: int, run: places.Run = run, shape: str = shape, cls: Any = cls) -> float:
                return run(flow_of(shape, count, size, cls))

            points = CURVES[label] = efficiency.curve(run_some, workers, **facts(sizes))
        yield figure_of(label, points)


def facts(sizes: Sizes) -> dict[str, Any]:
    """Return how a curve is measured."""
    fewest = sizes.exactly or sizes.fewest
    return {"fewest": fewest, "a_run": sizes.a_run, "repeats": sizes.few, "step": sizes.step}


def figure_of(label: str, points: list[Point]) -> Figure:
    """Return what a curve says."""
    bound = BOUNDS.get(label)
    found = metg(points)
    if found is None and points[-1].efficiency >= HALF:
        label, found = f"{label}, less than", points[-1].seconds
    if found is None:
        return Figure(label, at_most=bound, skipped=f"the efficiency is {points[0].efficiency:.2f} at best")
    return alone(label, [found * MICROSECONDS], "µs a task", seconds=True, at_most=bound)
