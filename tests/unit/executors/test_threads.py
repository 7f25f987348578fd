"""When the scheduler looks at what its threads have delivered: seldom while these have much to do."""

import queue

import pytest

from taskflowx.executors import threads


class Workers:
    """An executor of which is said how many calls are queued, and how many have been taken."""

    def __init__(self, queued, taken):
        self.queued, self.taken = queued, taken

    def queued_and_taken(self):
        return self.queued, self.taken


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when somebody sleeps; returns how long they did."""
    slept = []
    monkeypatch.setattr(threads.time, "monotonic", lambda: 100.0 + sum(slept))
    monkeypatch.setattr(threads.time, "sleep", slept.append)
    return slept


def waits(queued, taken, seconds):
    """Return what somebody waits on whose workers took so many calls in so many seconds, and have so many left."""
    made = threads._Gathering(Workers(queued, taken))
    made._looked_at -= seconds
    made.put(("call", "outcome"))
    return made


@pytest.mark.parametrize(
    ("queued", "taken", "seconds", "expected"),
    [
        (80, 100, 0.01, [0.001]),  # 100 µs each, so 8 ms of work: an eighth of that
        (8_000, 100, 0.01, [threads._AT_MOST]),
        (80, 0, 0.01, [threads._AT_MOST]),  # what runs takes longer than 10 ms
        (7, 100, 0.01, []),  # to sleep would take longer than that
        (0, 100, 0.01, []),
    ],
)
def test_results_are_gathered_for_a_part_of_what_the_queued_work_takes(clock, queued, taken, seconds, expected):
    assert waits(queued, taken, seconds).get() == ("call", "outcome")
    assert clock == pytest.approx(expected)


def test_how_fast_the_workers_are_is_judged_by_what_they_took_since_the_last_look(clock):
    made = waits(1_000, 10, 1.0)
    made.get()
    made.put(("call", "outcome"))
    made._executor.queued, made._executor.taken = 80, 30  # 20 calls in the 2 ms that were slept
    made.get()
    assert clock == pytest.approx([0.002, 80 * 0.002 / 20 / 8])


def test_no_sleep_is_longer_than_the_time_that_is_left(clock):
    made = waits(1_000, 10, 1.0)
    made.get_nowait()
    with pytest.raises(queue.Empty):
        made.get(timeout=0.0005)
    assert clock == [0.0005]
