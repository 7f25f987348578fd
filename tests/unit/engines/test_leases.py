"""The lease of a durable run, by a clock that the tests hold."""

from __future__ import annotations

import contextlib
import threading

import pytest

from taskflowx import exceptions, states
from taskflowx.patterns import linear_flow
from taskflowx.testing import VirtualClock
from tests.support import flows, places


@pytest.fixture
def place(tmp_path):
    with contextlib.closing(places.Place("sqlite", tmp_path)) as made:
        yield made


def row(log, act):
    return linear_flow.Flow("row").add(flows.Notes("first", log, act), flows.Notes("second", log))


def test_a_lease_is_renewed_as_time_passes_without_a_thread_of_its_own(place):
    clock, log, seen = VirtualClock(), [], []

    def act():
        for _ in range(100):
            clock.advance(59)
        seen.extend(one.name for one in threading.enumerate())
        with pytest.raises(exceptions.OwnershipFailure, match="alive for another"):
            place.load(row(log, lambda: None), clock=clock).run()

    engine = place.load(row(log, act), clock=clock)
    engine.run()
    assert log == ["first", "second"]
    assert "taskflowx-lease" not in seen
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_who_waits_until_a_lease_is_over_takes_the_run_over(place):
    clock, later, log = VirtualClock(), VirtualClock(1_000_000_061.0), []

    def act():
        if len(log) == 1:
            place.load(row(log, lambda: None), clock=later, lease=60).run()

    engine = place.load(row(log, act), clock=clock, lease=60)
    with pytest.raises(exceptions.OwnershipFailure, match="taken over"):
        engine.run()
    assert log == ["first", "first", "second"]
