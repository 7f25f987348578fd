"""How a figure is taken, judged and printed.

A figure compares two sides that are measured in turn (A B A B ...), so that whatever else the machine does
meets both. It is the ratio of the medians of the sides; its spread is the smallest and largest of a turn. pyperf gives
the clock, and `record` keeps the seconds of both sides as benchmarks of pyperf's: its own runner cannot go in turns.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyperf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
MICROSECONDS = 1e6  # of a second
A_THOUSAND = 1_000  # atoms of a flow that others are compared with
EXECUTORS = ("serial", "threads", "processes", "asyncio")


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number, what it was made of, and the bound it is held against.

    :param label: what sets it apart from the other figures of its row, such as the shape of the flow
    :param value: a ratio, or an amount in `unit`
    :param low: the smallest value of a single turn, and `high` the largest
    :param turns: how often both sides were measured
    :param atoms: the size of the flow, 0 if there is none
    :param first: the median of the side that is divided, and `second` that of the other, in `unit`
    :param at_most: the bound if small is good, and `at_least` if large is; neither if nothing is claimed
    :param skipped: why there is no value
    :param sides: what each turn has measured, side by side, in seconds; empty where it is not seconds
    """

    label: str
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    turns: int = 0
    atoms: int = 0
    first: float | None = None
    second: float | None = None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    skipped: str | None = None
    sides: tuple[tuple[float, ...], ...] = ()

    @property
    def holds(self) -> bool | None:
        """Whether the bound holds, which it does not when there is no value; None without a bound."""
        if self.at_most is None and self.at_least is None:
            return None
        if self.skipped is not None:
            return False
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def line(self) -> str:
        """Return the figure as one line of a table."""
        bound = f"≤ {number(self.at_most)}" if self.at_most is not None else ""
        bound = f"≥ {number(self.at_least)}" if self.at_least is not None else bound
        if self.skipped is not None:
            return f"  {self.label:<34} {'none':>8}   {bound:<10} not measured: {self.skipped}"
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "no bound"}[self.holds]
        made_of = f"{self.turns} turn{'s' * (self.turns != 1)}, {number(self.low)} to {number(self.high)}"
        if self.atoms:
            made_of = f"{self.atoms:,} atoms, {made_of}"
        if self.first is not None and self.second is not None:
            made_of += f"; {number(self.first)} ÷ {number(self.second)} {self.unit}"
        elif self.unit:
            made_of += f" {self.unit}"
        return f"  {self.label:<34} {number(self.value):>8}   {bound:<10} {verdict:<14} ({made_of})"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    :param atoms: atoms of a flow
    :param crossing: atoms of a flow whose calls cross to other processes
    :param starting: atoms of a flow for which these processes are started
    :param large: atoms of a large flow, `many` of a huge one, and `small` of what that is compared with
    :param growing: atoms of the flows by which cost is shown to grow; a huge one follows
    :param together: atoms of as many small flows as it takes for their memory to show
    :param chain: atoms of a chain that another engine runs too
    :param committed: atoms of a flow with a commit for each of them
    :param turns: turns of a figure; `short` where a turn takes a blink, `few` where it takes many seconds, `rare` where
        it takes minutes
    :param repeats: how often a small flow is measured before a large one, and again after it
    :param arrays: tasks that return large arrays, and `burning` those that use a CPU for long
    :param lengths: seconds of a task
    :param payloads: bytes of a result
    :param a_run: about how many seconds a run of such tasks takes
    :param fewest: tasks of a run at least, on a curve of efficiency
    :param exactly: how many it has instead, if that is not 0
    :param step: how many times shorter the next tasks on a curve of efficiency are
    :param patience: seconds that another engine has to show how its cost grows
    :param executors: where tasks run, in the rows that have several places
    :param quick: whether bounds that need full sizes are left out, and nothing is installed
    """

    atoms: int = 10_000
    crossing: int = 2_000
    starting: int = 2_000
    large: int = 100_000
    many: int = 1_000_000
    small: int = 10_000
    growing: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    together: int = 50_000
    chain: int = 1_000
    committed: int = 1_000
    short: int = 11
    turns: int = 5
    few: int = 3
    rare: int = 2
    repeats: int = 5
    arrays: int = 50
    burning: int = 100
    lengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    payloads: tuple[int, ...] = (1_000, 100_000, 10_000_000)
    a_run: float = 0.1
    fewest: int = 200
    exactly: int = 0
    step: float = 2.0
    patience: float = 60.0
    executors: tuple[str, ...] = EXECUTORS
    quick: bool = False

    def tasks(self, length: float, workers: int, fewest: int, most: int) -> int:
        """Return how many tasks of a length a run has."""
        return self.exactly or max(fewest, min(most, round(self.a_run * workers / length)))

    def of(self, atoms: int) -> Sizes:
        """Return the same with flows of so many atoms, in fewer turns where these are many."""
        turns = max(1, 200_000 // atoms)
        return dataclasses.replace(
            self,
            **dict.fromkeys(_CHOSEN, atoms),
            **{name: min(getattr(self, name), turns) for name in _TURNS},
            growing=() if atoms == A_THOUSAND else (A_THOUSAND,),
        )


_CHOSEN = ("atoms", "crossing", "starting", "large", "many", "committed", "exactly")
_TURNS = ("short", "turns", "few", "rare", "repeats")


FULL = Sizes()
QUICK = Sizes(
    atoms=2_000,
    crossing=200,
    starting=100,
    large=5_000,
    many=10_000,
    small=1_000,
    growing=(1_000,),
    together=5_000,
    chain=50,
    committed=100,
    short=2,
    turns=1,
    few=1,
    rare=1,
    repeats=1,
    arrays=4,
    burning=6,
    lengths=(1e-3,),
    payloads=(1_000, 100_000),
    a_run=0.02,
    fewest=20,
    step=4.0,
    patience=1.0,
    quick=True,
)


def machine() -> dict[str, Any]:
    """Say what the figures are taken on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
    }


def an_atom(atoms: int) -> dict[str, Any]:
    """Return what makes a figure of seconds say microseconds an atom."""
    return {"atoms": atoms, "unit": "µs an atom", "factor": MICROSECONDS / atoms}


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def clock(function: Callable[[], Any], *, collect: bool = True) -> float:
    """Return how many seconds a call takes; to collect earlier garbage and to let go of the result is not counted."""
    if collect:
        gc.collect()
    started = pyperf.perf_counter()
    kept = function()
    seconds = pyperf.perf_counter() - started
    del kept
    return seconds


def in_turn(turns: int, *sides: Callable[[], float], warm_up: bool = True) -> list[tuple[float, ...]]:
    """Measure the sides one after the other, again and again; returns a tuple for each turn.

    :param sides: each one prepares what it needs, and returns what it has measured
    :param warm_up: whether to go round once before, without counting it
    """
    if warm_up:
        for side in sides:
            side()
    return [tuple(side() for side in sides) for _ in range(turns)]


def compared(
    label: str,
    pairs: Iterable[tuple[float, ...]],
    unit: str,
    *,
    factor: float = 1.0,
    atoms: int = 0,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Make a figure of the first side divided by the second.

    :param pairs: the seconds that each turn has measured of the two
    :param factor: what turns seconds into `unit`
    """
    turns = list(pairs)
    sides = tuple(zip(*turns, strict=True))
    first, second = (statistics.median(side) for side in sides)
    ratios = [one / other for one, other in turns]
    return Figure(
        label,
        value=first / second,
        low=min(ratios),
        high=max(ratios),
        turns=len(turns),
        atoms=atoms,
        first=first * factor,
        second=second * factor,
        unit=unit,
        at_most=at_most,
        at_least=at_least,
        sides=sides,
    )


def alone(label: str, values: Sequence[float], unit: str = "", *, seconds: bool = False, **facts: Any) -> Figure:
    """Make a figure of what has but one side, such as an amount of memory: the median of some values in `unit`.

    :param seconds: whether `unit` are microseconds
    """
    return Figure(
        label,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        turns=len(values),
        unit=unit,
        sides=(tuple(value / MICROSECONDS for value in values),) if seconds else (),
        **facts,
    )


def fresh(command: str, **arguments: Any) -> Any:
    """Run a command of `benchmarks.child` in a fresh interpreter, and return what it answers."""
    return answer([sys.executable, "-m", "benchmarks.child", command, json.dumps(arguments)])


def answer(command: list[str]) -> Any:
    """Run a program in the folder of the project, and return the JSON that it prints.

    :raises RuntimeError: when it fails; says what the program said
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)
