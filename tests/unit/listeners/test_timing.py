"""The listeners that measure."""

import logging
import time

import pytest

from taskflowx import exceptions, states
from taskflowx.listeners import timing
from tests.unit.listeners import sample


def meta(engine):
    """Return what is kept of each atom and, as None, of the flow."""
    details = engine.storage.record.flow_detail
    return {None: details.meta, **{detail.name: detail.meta for detail in details}}


class Clock:
    """Stands for the clock: goes on by a second each time that it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", made)
    return made


def test_durations_are_kept_with_the_flow_and_each_task():
    engine = sample.load(sample.retried())
    begin = time.perf_counter()
    with timing.DurationListener(engine):
        engine.run()
    whole = time.perf_counter() - begin
    kept = meta(engine)
    assert kept.pop("r") == {}
    assert sorted(kept, key=str) == sorted([None, "a", "b", "c"], key=str)
    assert all(0 < facts["duration"] <= whole for facts in kept.values())
    assert kept["a"]["duration"] < kept[None]["duration"]


def test_the_duration_is_that_of_the_last_call():
    ended = []

    class Note(timing.DurationListener):
        def _record_ending(self, timer, item_type, item_name, state):
            super()._record_ending(timer, item_type, item_name, state)
            ended.append((item_type, item_name, state, timer.elapsed() == timer.elapsed() > 0))

    engine = sample.load(sample.row(sample.Give("a"), sample.Break("b")))
    with Note(engine):
        sample.run(engine)
    assert ended == [
        ("task", "a", "SUCCESS", True),
        ("task", "b", "FAILURE", True),
        ("task", "b", "REVERTED", True),
        ("task", "a", "REVERTED", True),
        ("flow", "flow", "REVERTED", True),
    ]


def test_what_is_left_out_takes_no_time():
    engine = sample.load(sample.left_out())
    with timing.DurationListener(engine):
        engine.run()
    assert "duration" not in meta(engine)["b"]


def test_a_flow_and_a_task_of_one_name_are_two(clock):
    engine = sample.load(sample.row(sample.Give("flow")))
    with timing.DurationListener(engine):
        engine.run()
    # The flow starts at 1, its task at 2; that ends at 3, the flow at 4.
    assert (meta(engine)[None]["duration"], meta(engine)["flow"]["duration"]) == (3.0, 1.0)


def test_what_has_not_ended_is_logged():
    engine = sample.suspended_after("a")
    with sample.logged() as records, timing.DurationListener(engine) as listener:
        assert sample.run(engine) == states.SUSPENDED
        assert records == []
    assert [record.getMessage() for record in records] == [
        "1 flow(s) did not enter ['FAILURE', 'REVERTED', 'REVERT_FAILURE', 'SUCCESS'] states"
    ]
    assert (records[0].levelno, records[0].name) == (logging.WARNING, "taskflowx.listeners.timing")
    listener.deregister()
    assert len(records) == 1


def test_a_flow_that_goes_on_is_measured_from_there(clock):
    engine = sample.suspended_after("a", sample.row(sample.Give("a"), sample.Give("b")))
    with timing.DurationListener(engine):
        sample.run(engine)
        before = clock.now
        sample.run(engine)
    # It starts at before + 1, b at + 2; that ends at + 3, the flow at + 4.
    assert meta(engine)[None]["duration"] == 3.0
    assert clock.now == before + 4


def test_what_starts_and_ends_is_printed(clock, capsys):
    engine = sample.load(sample.row(sample.Give("a"), sample.Break("b")))
    with timing.PrintingDurationListener(engine):
        sample.run(engine)
    out, _ = capsys.readouterr()
    assert out.splitlines() == [
        "'flow' flow started.",
        "'a' task started.",
        "It took task 'a' 1.00 seconds to finish.",
        "'b' task started.",
        "It took task 'b' 1.00 seconds to finish.",
        "'b' task started.",
        "It took task 'b' 1.00 seconds to finish.",
        "'a' task started.",
        "It took task 'a' 1.00 seconds to finish.",
        "It took flow 'flow' 9.00 seconds to finish.",
    ]
    assert meta(engine)["a"]["duration"] == 1.0


def test_lines_can_go_elsewhere(capsys):
    lines, engine = [], sample.load(sample.row(sample.Give("a")))
    with timing.PrintingDurationListener(engine, printer=lines.append):
        engine.run()
    assert len(lines) == 4
    assert capsys.readouterr().out == ""


def test_each_state_gets_the_time_at_which_it_was_entered():
    engine = sample.load(sample.retried())
    begin = time.time()
    with timing.EventTimeListener(engine):
        engine.run()
    end = time.time()
    kept = meta(engine)
    assert {name: list(facts) for name, facts in kept.items()} == {
        None: ["RUNNING-timestamp", "SUCCESS-timestamp"],
        "a": ["RUNNING-timestamp", "SUCCESS-timestamp"],
        "r": ["RUNNING-timestamp", "SUCCESS-timestamp", "RETRYING-timestamp"],
        "b": [f"{state}-timestamp" for state in ("RUNNING", "SUCCESS", "REVERTING", "REVERTED", "PENDING")],
        "c": [f"{state}-timestamp" for state in ("RUNNING", "FAILURE", "REVERTING", "REVERTED", "PENDING", "SUCCESS")],
    }
    assert all(begin <= at <= end for facts in kept.values() for at in facts.values())


def test_what_is_left_out_and_a_suspension_have_their_times():
    engine = sample.load(sample.left_out())
    with timing.EventTimeListener(engine):
        engine.run()
    assert "IGNORE-timestamp" in meta(engine)["b"]
    engine = sample.suspended_after("a")
    with timing.EventTimeListener(engine):
        sample.run_on(engine)
    assert {"SUSPENDING-timestamp", "SUSPENDED-timestamp"} <= set(meta(engine)[None])


@pytest.mark.parametrize(
    ("cls", "texts"),
    [
        (timing.DurationListener, ["duration update {'duration': ", "for task a", "for flow flow"]),
        (timing.EventTimeListener, ["timestamp {'RUNNING-timestamp': ", "for atom a", "for flow flow"]),
    ],
)
def test_a_store_that_fails_is_logged_and_the_run_goes_on(monkeypatch, cls, texts):
    engine = sample.load(sample.row(sample.Give("a")))

    def refuse(*args):
        raise exceptions.StorageFailure("disk full")

    monkeypatch.setattr(engine.storage, "update_atom_metadata", refuse)
    monkeypatch.setattr(engine.storage, "update_flow_metadata", refuse)
    with sample.logged() as records, cls(engine):
        assert sample.run(engine) == states.SUCCESS
    messages = [record.getMessage() for record in records]
    assert all(message.startswith("Failure to store ") for message in messages)
    assert all(any(text in message for message in messages) for text in texts)
    assert {record.exc_info[0] for record in records} == {exceptions.StorageFailure}
