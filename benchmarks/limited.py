"""What limits and rates cost where they are never reached, and how well they are kept where they are."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks import places
from benchmarks.harness import Figure, Sizes, alone, an_atom, clock, compared, in_turn
from benchmarks.workloads import ready
from taskflowx import task
from taskflowx.patterns import unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: calls a second, how many of them may begin at once, and for how many seconds
_RATE, _BURST, _SECONDS, _SECONDS_QUICK = 200, 20, 10.0, 0.5
_CAPACITIES = (1, 4, 16)
_FAR = 10**9  # more than any flow here needs


def _unlimited(name: str, work: Callable[[], Any], limits: tuple[str, ...] | None = None) -> task.Task:
    return task.FunctorTask(work, name=name, limits=limits)


def _flow(atoms: int, work: Callable[[], Any], limits: tuple[str, ...] | None = None) -> unordered_flow.Flow:
    return unordered_flow.Flow("unordered").add(*(_unlimited(f"t{n}", work, limits) for n in range(atoms)))


def _nothing() -> None:
    pass


class _Busy:
    """Counts the calls that are under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.0002)
        with self._lock:
            self.now -= 1


def measure(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare runs with limits that are not reached with runs without; then reach limits, and rates."""
    free, held = _flow(sizes.atoms, _nothing), _flow(sizes.atoms, _nothing, ("db", "api"))
    options: dict[str, Any] = {"limits": {"db": _FAR}, "rates": {"api": (_FAR, 1.0)}}

    def run(flow: unordered_flow.Flow, **options: Any) -> float:
        engine = ready(flow, executor="threads", max_workers=places.WORKERS, **options)
        return clock(engine.run)

    sides = functools.partial(run, held, **options), functools.partial(run, free)
    yield compared("never reached", in_turn(sizes.short, *sides), **an_atom(sizes.atoms), at_most=1.05)
    yield from _kept(sizes)
    yield _rate(sizes)


def _kept(sizes: Sizes) -> Iterator[Figure]:
    for capacity in _CAPACITIES:
        busy = _Busy()
        flow = _flow(min(sizes.atoms, 1_000), busy, ("db",))
        ready(flow, executor="threads", max_workers=2 * capacity, limits={"db": capacity}).run()
        yield alone(f"most at once, of {capacity}", [busy.most], "calls", at_most=float(capacity))


def _rate(sizes: Sizes) -> Figure:
    """Return how many calls begin in a time ÷ how many the rate allows, beside those that a full bucket lets begin."""
    seconds = _SECONDS_QUICK if sizes.quick else _SECONDS
    count = round(_RATE * seconds)
    begun: list[float] = []
    flow = _flow(count + _BURST, lambda: begun.append(time.monotonic()), ("api",))
    ready(flow, executor="threads", max_workers=places.WORKERS, rates={"api": (_BURST, _BURST / _RATE)}).run()
    begun.sort()
    rate = count / (begun[-1] - begun[0])
    label = f"{_RATE} a second, for {seconds:g} s"
    return alone(label, [rate / _RATE], "of the rate", at_most=1.05, at_least=0.95)
