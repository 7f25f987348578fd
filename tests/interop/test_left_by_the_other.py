"""A run that one package has left at one of its writes is taken up by the other one, and ends as one that was not left.

Here each flow is looked at in a few places; `make interop` looks at all of them, on every store.
"""

from __future__ import annotations

import random

import pytest

from tests.interop import matrix, shapes

NAMES = list(shapes.SHAPES)
#: direction, store -> each how many-th flow is looked at, and in how many places
SAMPLES = {
    (matrix.BY_TASKFLOW, "dir"): (3, 3),
    (matrix.BY_TASKFLOW, "sqlite"): (9, 3),
    (matrix.FOR_TASKFLOW, "dir"): (4, 2),
    (matrix.FOR_TASKFLOW, "sqlite"): (12, 2),
}


@pytest.mark.timeout(300)  # TaskFlow takes its time on a machine that is busy
@pytest.mark.parametrize(("direction", "kind"), SAMPLES)
def test_a_run_is_taken_up_where_the_other_package_left_it(direction, kind, peers, folder):
    every, places = SAMPLES[direction, kind]
    made = matrix.Matrix(kind, folder, *peers, rng=random.Random(kind), sample=places)
    outcomes = [outcome for name in NAMES[every // 2 :: every] for outcome in made.look_at(direction, name)]
    assert [str(outcome) for outcome in outcomes if outcome.wrong] == []
    assert len(outcomes) >= len(NAMES) // every
