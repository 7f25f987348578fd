"""How a figure is taken, judged and printed.

A figure compares two sides that are measured in turn (A B A B ...), so that whatever else the machine does
meets both. It is the ratio of the medians of the sides; its spread is the smallest and largest of a turn.
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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parent.parent


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
    :param large: atoms of a large flow, and `many` of a huge one
    :param turns: turns of a figure; `short` where a turn takes a blink, `few` where it takes many seconds
    :param repeats: how often a small flow is measured before a large one, and again after it
    :param arrays: tasks that return large arrays, and `burning` those that use a CPU for long
    """

    atoms: int = 10_000
    crossing: int = 2_000
    starting: int = 2_000
    large: int = 100_000
    many: int = 1_000_000
    short: int = 15
    turns: int = 5
    few: int = 3
    repeats: int = 5
    arrays: int = 100
    burning: int = 200


FULL = Sizes()
QUICK = Sizes(
    crossing=1_000, starting=500, large=20_000, many=50_000, short=5, turns=2, few=1, repeats=2, arrays=10, burning=20
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
    return {"atoms": atoms, "unit": "µs an atom", "factor": 1e6 / atoms}


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def clock(function: Callable[[], Any]) -> float:
    """Return how many seconds a call takes; to collect earlier garbage and to let go of the result is not counted."""
    gc.collect()
    started = time.perf_counter()
    kept = function()
    seconds = time.perf_counter() - started
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

    :param pairs: what each turn has measured of the two
    :param factor: what turns a measurement into one in `unit`
    """
    turns = [(first * factor, second * factor) for first, second in pairs]
    first, second = (statistics.median(side) for side in zip(*turns, strict=True))
    ratios = [one / other for one, other in turns]
    return Figure(
        label,
        value=first / second,
        low=min(ratios),
        high=max(ratios),
        turns=len(turns),
        atoms=atoms,
        first=first,
        second=second,
        unit=unit,
        at_most=at_most,
        at_least=at_least,
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
