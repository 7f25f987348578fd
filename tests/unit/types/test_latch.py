"""Latches: open when they have been counted down."""

from __future__ import annotations

import threading

import pytest

from taskflowx.types.latch import Latch

PATIENCE = 30.0


def test_it_opens_when_it_has_been_counted_down():
    latch = Latch(2)
    assert (latch.needed, latch.wait(0)) == (2, False)
    latch.countdown()
    assert (latch.needed, latch.wait(timeout=0.001)) == (1, False)
    latch.countdown()
    assert (latch.needed, latch.wait(), latch.wait(0)) == (0, True, True)


def test_it_stays_open():
    latch = Latch(1)
    latch.countdown()
    latch.countdown()
    assert (latch.needed, latch.wait(0)) == (0, True)


@pytest.mark.parametrize("count", [0, -1])
def test_there_must_be_something_to_count(count):
    with pytest.raises(ValueError, match="Count must be greater than zero"):
        Latch(count)


def test_nobody_waits_less_than_no_time():
    with pytest.raises(ValueError, match="Duration must be greater or equal to zero and not -1"):
        Latch(1).wait(-1)


def test_many_threads_count_and_many_wait():
    latch, seen = Latch(50), []
    waiting = [threading.Thread(target=lambda: seen.append(latch.wait(PATIENCE))) for _ in range(5)]
    counting = [threading.Thread(target=latch.countdown) for _ in range(50)]
    for thread in (*waiting, *counting):
        thread.start()
    for thread in (*waiting, *counting):
        thread.join()
    assert seen == [True] * 5
    assert latch.needed == 0
