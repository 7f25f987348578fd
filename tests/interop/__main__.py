"""`python -m tests.interop`: leaves every flow at every write, on every store, and takes it up with the other package.

usage: python -m tests.interop [STORES [SHAPES [DIRECTION [WORKERS]]]]

STORES and SHAPES are lists with commas, DIRECTION is "by" or "for"; "all" stands for all. WORKERS is the number of
threads in which a flow runs until it is left, 0 for none.
"""

from __future__ import annotations

import random
import sys

from tests.interop import matrix, shapes, sides
from tests.services import addresses


def main(arguments: list[str]) -> int:
    """Run all that is asked for; returns how many outcomes are wrong."""
    arguments += ["all"] * (3 - len(arguments))
    kinds = _chosen(arguments[0], [*sides.FILES, *sides.SERVERS])
    names = _chosen(arguments[1], list(shapes.SHAPES))
    directions = [d for d in matrix.DIRECTIONS if arguments[2] == "all" or arguments[2] in d]
    workers = int(arguments[3]) if len(arguments) > 3 else 0
    theirs, ours = sides.theirs(), sides.ours()
    looked = wrong = 0
    for kind in kinds:
        with sides.quick_folder() as folder:
            made = matrix.Matrix(kind, folder, theirs, ours, rng=random.Random(1), compare=True)
            for direction in directions:
                for name in names:
                    outcomes = list(made.look_at(direction, name, workers))
                    bad = [outcome for outcome in outcomes if outcome.wrong]
                    looked, wrong = looked + len(outcomes), wrong + len(bad)
                    other = sum(bool(outcome.other) for outcome in outcomes)
                    print(
                        f"{kind}, {direction}, {name}: {len(outcomes)}, wrong {len(bad)}, other ends {other}",
                        flush=True,
                    )
                    for outcome in bad[:5]:
                        print(outcome, flush=True)
    theirs.close()
    ours.close()
    addresses.CLEANUP.close()
    print(f"{looked} looked at, {wrong} wrong")
    return wrong


def _chosen(text: str, known: list[str]) -> list[str]:
    if text == "all":
        return known
    chosen = text.split(",")
    assert set(chosen) <= set(known), f"known are {known}"
    return chosen


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
