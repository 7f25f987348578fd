"""What holds of each run of a spec, in one call."""

from __future__ import annotations

import random
from typing import Any

from tests.model import drive, judge, oracle, specs


def assert_ends_as_predicted(
    spec: specs.Spec,
    order: random.Random | int,
    executor: Any = None,
    *,
    driver: type[drive.Driver] = drive.Driver,
    **options: Any,
) -> drive.Driver:
    """Run a spec to its end, and check that it keeps the rules and ends as the oracle says; returns what has run it.

    :param order: decides what happens in which order; a seed, or a source of random numbers
    :param driver: what runs it
    :param options: those of the driver
    """
    shape = specs.Shape(spec)
    made = driver(shape, order if isinstance(order, random.Random) else random.Random(order), executor, **options)
    state = made.run()
    found = judge.complaints(made, oracle.predict(shape), state)
    assert found == [], found
    return made
