"""Rows for how cost grows with the size of a flow: time and memory an atom, from a hundred to a million atoms.

Each size is measured in a fresh process, and the million only once for all rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from benchmarks import beside, peers
from benchmarks.harness import A_THOUSAND, MICROSECONDS, ROOT, Figure, alone, answer, compared, fresh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Sizes

BYTES_AN_ATOM = 2_000  # of the huge flows, at most
SHAPES = ("linear", "unordered", "layers", "graph")
SCRIPT = ROOT / "benchmarks" / "taskflow_growth.py"
UPSTREAM = (100, 300, 1_000, 3_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Point:
    """What an atom of a flow of a size costs: to declare, compile and run it, and to hold all that.

    :param seconds: of an atom
    :param bytes: of an atom
    """

    atoms: int
    seconds: float
    bytes: float


#: label -> the points that were measured last; pictures are made of them
POINTS: dict[str, list[Point]] = {}


#: shape, atoms and whether the garbage collector was on -> what was measured of it
_HUGE: dict[tuple[str, int, bool], list[Any]] = {}


def huge(sizes: Sizes, shape: str, turns: int, *, collector: bool) -> list[Any]:
    """Measure a huge flow, between small ones, so many times; what has been measured before is not measured again."""
    if not _HUGE:
        fresh("touch", size=sizes.many * BYTES_AN_ATOM)
    taken = _HUGE.setdefault((shape, sizes.many, collector), [])
    while len(taken) < turns:
        asked = {
            "shape": shape,
            "many": sizes.many,
            "few": sizes.small,
            "repeats": sizes.repeats,
            "collector": collector,
        }
        taken.append(fresh("scale", **asked))
    return taken[:turns]


def scale(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the time an atom of a large flow with that of a small one, and see how much memory an atom takes."""
    claimed = shape != "layers"
    for collector, bound in ((True, 2.0), (False, 1.3)) if claimed else ((True, None),):
        taken = huge(sizes, shape, 1, collector=collector)
        yield compared(
            f"{shape}, {'default gc' if collector else 'gc.disable()'}",
            [(answer["many"], answer["few"]) for answer in taken],
            "µs an atom",
            factor=MICROSECONDS,
            atoms=sizes.many,
            at_most=bound,
        )
        if collector:
            yield alone(
                f"{shape}, peak memory",
                [answer["memory"] / 1024 for answer in taken],
                "KB an atom",
                atoms=sizes.many,
                at_most=2.0 if claimed else None,
            )


def growth(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Measure one size after the other, and compare the largest with the one of a thousand atoms."""
    known = {point.atoms: point for point in POINTS.get(shape, ())}
    for atoms in (*sizes.growing, sizes.many):
        known[atoms] = _point(sizes, shape, atoms)
    POINTS[shape] = [known[atoms] for atoms in sorted(known)]
    yield from _compared(f"{shape}, {sizes.many:,} ÷ {A_THOUSAND:,}", known[sizes.many], known[A_THOUSAND])
    if shape == "linear" and not sizes.exactly:
        yield from upstream(sizes)


def _point(sizes: Sizes, shape: str, atoms: int) -> Point:
    if atoms == sizes.many > sizes.together:
        (last,) = huge(sizes, shape, 1, collector=True)
        return Point(atoms, last["many"], last["memory"])
    return Point(atoms, *fresh("grow", shape=shape, atoms=atoms, together=sizes.together))


def _compared(label: str, one: Point, other: Point) -> Iterator[Figure]:
    pair = [(one.seconds, other.seconds)]
    yield compared(label, pair, "µs an atom", factor=MICROSECONDS, atoms=one.atoms)
    memory = compared(f"{label}, memory", [(one.bytes, other.bytes)], "KB an atom", factor=1 / 1024, atoms=one.atoms)
    yield dataclasses.replace(memory, sides=())


def upstream(sizes: Sizes) -> Iterator[Figure]:
    """Measure OpenStack TaskFlow, for as long as the next size will come to an end in time."""
    label = f"OpenStack TaskFlow {peers.TASKFLOW.version}"
    reason = beside.lacks(peers.TASKFLOW, sizes)
    if reason is not None:
        yield Figure(label, skipped=reason)
        return
    points: list[Point] = []
    left = sizes.patience
    for before, atoms in itertools.pairwise((UPSTREAM[0], *UPSTREAM)):
        expected = points[-1].seconds * before * (atoms / before) ** 2 if points else 0.0
        if expected > left:
            break
        points.append(Point(atoms, *answer([str(peers.TASKFLOW.python), "-I", str(SCRIPT), str(atoms)])))
        left -= points[-1].seconds * atoms
    POINTS[label] = points
    theirs = points[-1]
    known = {point.atoms: point for point in POINTS["linear"]}
    ours = known.get(theirs.atoms) or _point(sizes, "linear", theirs.atoms)
    yield from _compared(f"{label} ÷ linear, {theirs.atoms:,}", theirs, ours)
