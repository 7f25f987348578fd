"""The moments of a run, and the clock that a test holds."""

import math
import random
import tracemalloc

import pytest

from taskflowx.engines.timers import ATOM, Timers
from taskflowx.testing import VirtualClock


def fired(timers):
    keys = []
    timers.fire(keys.append)
    return keys


def test_moments_come_in_their_order_and_once():
    clock = VirtualClock()
    timers = Timers(clock)
    for key, due in ((("a", 1), 3.0), (("b", 2), 1.0), (("c", 3), 2.0)):
        timers.set(key, due)
    assert timers.next_due() == 1.0
    assert fired(timers) == []
    clock.advance(2)
    assert fired(timers) == [("b", 2), ("c", 3)]
    clock.advance(5)
    assert fired(timers) == [("a", 1)]
    assert (bool(timers.moments), timers.next_due()) == (False, math.inf)


def test_a_moment_that_is_set_anew_takes_the_place_of_the_one_before():
    clock = VirtualClock()
    timers = Timers(clock)
    timers.set((ATOM, 1), 1.0)
    timers.set((ATOM, 1), 5.0)
    assert timers.parked == {1}
    clock.advance(2)
    assert fired(timers) == []
    assert timers.next_due() == 5.0


def test_one_that_is_set_while_it_is_acted_on_stays():
    clock = VirtualClock()
    timers = Timers(clock)
    timers.set((ATOM, 1), 1.0)
    clock.advance(1)
    timers.fire(lambda key: timers.set(key, 9.0))
    assert timers.next_due() == 9.0
    assert timers.parked == {1}


def test_an_interrupt_while_it_is_acted_on_leaves_it_to_be_done():
    clock = VirtualClock()
    timers = Timers(clock)
    timers.set((ATOM, 1), 1.0)
    clock.advance(1)

    def interrupted(key):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timers.fire(interrupted)
    assert fired(timers) == [(ATOM, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_setting_and_dropping_is_that_of_a_plain_dict(seed):
    chance = random.Random(seed)
    clock = VirtualClock()
    timers, expected = Timers(clock), {}
    for _ in range(300):
        key = chance.choice((ATOM, "limit")), chance.randrange(6)
        what = chance.randrange(5)
        if what < 2:
            due = clock.monotonic() + chance.randrange(10)
            timers.set(key, due)
            expected[key] = due
        elif what == 2:
            timers.drop(key)
            expected.pop(key, None)
        elif what == 3:
            lo = chance.randrange(6)
            hi = lo + chance.randrange(4)
            timers.drop_atoms(lo, hi)
            expected = {k: due for k, due in expected.items() if k[0] != ATOM or not lo <= k[1] < hi}
        else:
            clock.advance(chance.randrange(3))
            now = clock.monotonic()
            come = {k: due for k, due in expected.items() if due <= now}
            assert fired(timers) == sorted(come, key=lambda k: (come[k], k))
            expected = {k: due for k, due in expected.items() if due > now}
        assert timers.parked == {k[1] for k in expected if k[0] == ATOM}
        assert timers.next_due() == min(expected.values(), default=math.inf)


def test_what_waits_in_a_range_is_found_at_the_cost_of_the_range():
    compared = 0

    class Place(int):
        def __ge__(self, other):
            nonlocal compared
            compared += 1
            return int(self) >= other

        __hash__ = int.__hash__

    timers = Timers(VirtualClock())
    for i in range(1000):
        timers.set((ATOM, Place(i)), 1.0)
    assert timers.atoms_in(500, 503) == [500, 501, 502]
    assert compared <= 3
    assert sorted(timers.atoms_in(0, 5000)) == [*range(1000)]


def test_moments_that_were_dropped_long_before_they_came_leave_nothing_behind():
    timers = Timers(VirtualClock())
    tracemalloc.start()
    try:
        for i in range(20_000):
            timers.set(("limit", i), 3600.0)
            timers.drop(("limit", i))
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 50_000


def test_a_virtual_clock_jumps_when_nothing_is_under_way_and_stands_still_otherwise():
    clock = VirtualClock(start=100.0)
    assert clock.wait_for(5.0, idle=False) is None
    assert clock.monotonic() == 0.0
    assert clock.wait_for(5.0, idle=True) == 0.0
    assert (clock.monotonic(), clock.time()) == (5.0, 105.0)
    assert clock.wait_for(5.0, idle=False) == 0.0
    assert clock.wait_for(math.inf, idle=True) is None


def test_a_virtual_clock_wakes_those_who_wait_when_time_is_moved():
    clock, woken = VirtualClock(), []

    def wake():
        woken.append(clock.monotonic())

    clock.subscribe(wake)
    clock.advance(3)
    clock.unsubscribe(wake)
    clock.unsubscribe(wake)
    clock.advance(3)
    assert woken == [3.0]


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", None])
def test_time_goes_on_by_a_number_of_seconds(seconds):
    with pytest.raises((TypeError, ValueError), match="seconds"):
        VirtualClock().advance(seconds)
