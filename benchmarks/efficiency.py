"""The curve of efficiency of an engine, and METG(50%), the length of a task at which it is one half.

Both are made in one way for our executors and for other engines. Imports only the standard library, as it is read in
the environments of other engines.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks import grain

if TYPE_CHECKING:
    from collections.abc import Callable

    #: takes how many tasks there are, and how many bytes each of them hashes; returns the seconds of a run
    Run = Callable[[int, int], float]

HALF = 0.5
LONGEST, SHORTEST = 2e-3, 1e-6  # seconds of the tasks that are tried; a slow engine begins with longer ones
FEWEST, MOST = 200, 4_000  # tasks of a run
A_RUN = 0.2  # seconds that a run is to take at least, if that does not need too many tasks
A_SLOW_RUN = 2.5  # seconds that a run of a slow engine is to take at most, if that does not leave too few tasks
A_FEW, SOME = 10, 50  # tasks of a run of a slow engine, and of one that shows what it adds to each
ENOUGH = 2.0  # seconds after which a point is not measured again


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of the curve of efficiency: how long a task is, in seconds, and what is made of it."""

    seconds: float
    efficiency: float


@dataclasses.dataclass(frozen=True)
class Start:
    """Where the curve of an engine begins.

    :param longest: seconds of the longest tasks
    :param overhead: about how many seconds the engine adds to each task; where these are many, runs have fewer tasks
    :param doublings: how often twice the length is tried where the longest tasks are less than half efficient
    """

    longest: float = LONGEST
    overhead: float = 0.0
    doublings: int = 0


def curve(
    run: Run,
    workers: int,
    *,
    start: Start = Start(),
    least: float = 0.2,
    fewest: int = FEWEST,
    a_run: float = A_RUN,
    repeats: int = 3,
    step: float = 2.0,
    patience: float = math.inf,
) -> list[Point]:
    """Return how efficient runs are, from long tasks to short ones.

    :param workers: how many calls are made at once
    :param least: ends below this efficiency
    :param fewest: tasks of a run, and `a_run` the seconds that it is to take
    :param repeats: runs of a point
    :param step: how many times shorter the next tasks are
    :param patience: ends after so many seconds
    """
    ends = time.monotonic() + patience

    def point(wanted: float) -> Point:
        slow = max(A_FEW, round(A_SLOW_RUN / (wanted / workers + start.overhead)))
        count = min(slow, max(fewest, min(MOST, round(a_run * workers / wanted))))
        return _point(run, workers, count, grain.size_of(wanted), repeats)

    wanted = start.longest
    points = [point(wanted)]
    for doubling in range(1, start.doublings + 1):
        if points[0].efficiency >= HALF or time.monotonic() > ends:
            break
        points.insert(0, point(wanted * 2**doubling))
    while points[-1].efficiency >= least and wanted / step >= SHORTEST and time.monotonic() < ends:
        wanted /= step
        points.append(point(wanted))
    return points


def _point(run: Run, workers: int, count: int, size: int, repeats: int) -> Point:
    """Measure the efficiency of so many tasks, each of which hashes so many bytes."""
    run(count, size)
    taken = []
    started = time.monotonic()
    while len(taken) < repeats and (not taken or time.monotonic() < started + ENOUGH):
        before, seconds, after = _alone(size), run(count, size), _alone(size)
        alone = (before + after) / 2  # a machine that is faster at times may become so, or slower, during a run
        taken.append((alone, count * alone / workers / seconds))
    return Point(*(statistics.median(column) for column in zip(*taken, strict=True)))


def start_of(run: Run, workers: int) -> Start:
    """Return where to begin: at tasks so long that an engine is well over half efficient, told from tasks without work.

    What a run costs whatever its tasks are is told apart from what each task adds to it.
    """
    run(A_FEW, 0)
    few, some = run(A_FEW, 0), run(SOME, 0)
    overhead = max(0.0, some - few) / (SOME - A_FEW)
    wanted = LONGEST
    while wanted < 4 * workers * (overhead + few / FEWEST):
        wanted *= 2
    return Start(wanted, overhead, doublings=2)


def metg(points: list[Point], efficiency: float = HALF) -> float | None:
    """Return the seconds of a task at which a curve falls below an efficiency; None where it never does, or always.

    Between two points the logarithm of the length is taken to be linear in the efficiency. Where a curve falls more
    than once, the last time counts: what made a run of longer tasks slow was something else.
    """
    for longer, shorter in reversed(list(itertools.pairwise(points))):
        if longer.efficiency >= efficiency > shorter.efficiency:
            share = (longer.efficiency - efficiency) / (longer.efficiency - shorter.efficiency)
            return math.exp(math.log(longer.seconds) * (1 - share) + math.log(shorter.seconds) * share)
    return None


def _alone(size: int) -> float:
    """Return how long it takes to hash so many bytes; where these are many, it is told from a part of them."""
    part = min(size, grain.size_of(LONGEST))
    return grain.seconds_of(part) * size / part
