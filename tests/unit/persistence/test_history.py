"""What a log notes of the details that it watches, and what it hands to a store."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest

from taskflowx import states
from taskflowx.persistence import history, models
from taskflowx.types.failure import Failure


@pytest.fixture
def record():
    """Give a record of two tasks and a retry."""
    made = models.FlowDetail("flow", "1")
    for name in "ab":
        made.add(models.TaskDetail(name, name, states.PENDING))
    made.add(models.RetryDetail("r", "r", states.PENDING))
    return made


@pytest.fixture
def log(record):
    """Give a log that watches the record; its clock counts."""
    made = history.Log(record, itertools.count(1.0).__next__, in_memory=False)
    made.watch(record)
    return made


def told(entries):
    return [(entry.number, entry.atom, entry.new) for entry in entries]


def test_each_change_of_a_state_is_noted_and_no_other(record, log):
    a, b, r = record
    a.state = states.RUNNING
    a.results = 1
    a.meta = {"x": 1}
    a.state = states.SUCCESS
    a.state = states.SUCCESS
    b.state = states.RUNNING
    b.state = states.RUNNING  # made again, after a crash
    r.reset(states.PENDING)
    log.move_flow(states.RUNNING)
    entries = log.due(list(record))
    assert [(e.atom, e.attempt, e.old, e.new) for e in entries] == [
        ("a", 1, "PENDING", "RUNNING"),
        ("a", 1, "RUNNING", "SUCCESS"),
        ("b", 1, "PENDING", "RUNNING"),
        ("b", 2, "RUNNING", "RUNNING"),
        (None, 0, None, "RUNNING"),
    ]
    assert [entry.at for entry in entries] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert record.state == states.RUNNING


def test_a_failure_is_named_however_it_comes(record, log):
    failure = Failure.from_exception(ValueError("no"))
    a, b, _ = record
    a.put(states.FAILURE, failure)
    b.put(states.REVERT_FAILURE, failure)
    assert [entry.failure for entry in log.due([a, b])] == ["ValueError", "ValueError"]


def test_a_copy_is_no_watched_detail(record, log):
    a, _, r = record
    for one in (a.copy(), r.copy(), copy.copy(a), copy.deepcopy(r), pickle.loads(pickle.dumps(a))):
        one.state = states.RUNNING
        assert type(one) in (models.TaskDetail, models.RetryDetail)
    assert list(log.due(list(record))) == []
    assert repr(a) == repr(a.copy())
    log.unwatch()
    assert {type(one) for one in record} == {models.TaskDetail, models.RetryDetail}
    a.state = states.RUNNING
    assert list(log.due(list(record))) == []


def test_only_what_is_written_has_a_number(record, log):
    a, b, _ = record
    a.state = b.state = states.RUNNING
    assert told(log.due([b])) == [(1, "b", "RUNNING")]
    log.wrote(copies=False)
    a.state = states.SUCCESS
    assert told(log.due([a])) == [(2, "a", "RUNNING"), (3, "a", "SUCCESS")]
    log.wrote(copies=False)
    assert (list(log.due([a, b])), log.count) == ([], 3)


def test_a_copy_that_is_written_later_has_no_more_than_it_had(record, log):
    a, b, _ = record
    a.state = states.RUNNING
    copied, upto = a.copy(), log.last
    a.state = states.SUCCESS
    log.move_flow(states.RUNNING)  # of the flow it is always the state of now that is written
    b.state = states.RUNNING
    assert told(log.due([copied], upto)) == [(1, "a", "RUNNING"), (2, None, "RUNNING")]
    log.wrote(copies=True)
    assert told(log.due([a, b])) == [(3, "a", "SUCCESS"), (4, "b", "RUNNING")]


def test_a_write_whose_end_nobody_knows_is_a_part_of_the_next(record, log):
    a, b, _ = record
    a.state = b.state = states.RUNNING
    first = log.due(log.with_sent([a]))
    details = log.with_sent([b])
    assert {one.name for one in details} == {"a", "b"}
    assert next(iter(log.due(details))) == next(iter(first))
    log.refused()
    assert log.with_sent([b]) == [b]


def test_it_goes_on_from_what_is_on_record(record, log):
    a = next(iter(record))
    before = [history.Entry(1, 0.0, "a", 1, "PENDING", "RUNNING", None, None, None)]
    log.go_on_from(before)
    a.state = states.RUNNING
    assert [(entry.number, entry.attempt) for entry in log.due([a])] == [(2, 2)]


@pytest.mark.parametrize("name", ["a", 'say "a"', "ä\ud800\0\n", None])
def test_a_document_reads_back_as_it_was(name):
    entries = [
        history.Entry(3, 1.5, name, 1, None, "RUNNING", None, None, None),
        history.Entry(4, 1e9 + 0.1, name, 1, "RUNNING", "SUCCESS", 2.25, 'thread "1"', None),
        history.Entry(5, 2.0, name, 2, "RUNNING", "FAILURE", None, None, "x.Böse"),
    ]
    assert history.read(3, history.document(entries)) == entries
    assert list(history.after(list(history.chunks(entries)), 3, 1)) == entries[1:2]
