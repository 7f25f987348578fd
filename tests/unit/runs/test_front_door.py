"""What `run_id=` and `runs.open` refuse, before anything is made; stores as users name them; results; pauses."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import pathlib
import pickle
import threading
from typing import NamedTuple

import pytest

import taskflowx
from taskflowx import exceptions, runs, states, task
from taskflowx._util import clock as clocks
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, base, codec, models, run_records
from taskflowx.persistence.backends import impl_memory
from taskflowx.runs import pauses, start, stores
from taskflowx.testing import VirtualClock


def flow_of(work=lambda: 1):
    return linear_flow.Flow("f").add(task.FunctorTask(work, name="a", provides="x"))


@pytest.fixture
def backend():
    return impl_memory.MemoryBackend()


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED = [
    ({"run_id": ""}, ValueError, "run_id must not be empty: give the run a name"),
    ({"run_id": 17}, TypeError, "run_id must be a str"),
    ({"run_id": b"17"}, TypeError, "run_id must be a str"),
    ({"run_id": "x" * 1001}, ValueError, "run_id has 1,001 characters, and 1,000 is the maximum"),
    ({"run_id": "a\0b"}, ValueError, "run_id must be text without"),
    ({"run_id": "a\ud800"}, ValueError, "run_id must be text without"),
    ({"run_id": "a", "backend": None}, ValueError, "run_id='a' needs a store that outlives this call\nGive one with"),
    ({"run_id": "a", "if_finished": "repeat"}, ValueError, "if_finished must be one of"),
    ({"run_id": "a", "wait": -1}, ValueError, "wait must be a number of seconds"),
    ({"run_id": "a", "book": models.LogBook("b")}, ValueError, "cannot be given together with book="),
    ({"run_id": "a", "flow_detail": models.FlowDetail("f", "f")}, ValueError, "together with flow_detail="),
    ({"if_finished": "again"}, ValueError, "if_finished= is about a run that exists, so it needs run_id="),
    ({"wait": 3}, ValueError, "wait= is about a run that exists, so it needs run_id="),
    ({"run_id": "a", "backend": pathlib.Path("runs")}, ValueError, "does not end in '.db'"),
    ({"run_id": "a", "backend": "unheard-of://x"}, exceptions.NotFound, "Could not find backend unheard-of"),
]


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED)
@pytest.mark.parametrize("how", [taskflowx.load, taskflowx.run, lambda *a, **k: asyncio.run(taskflowx.arun(*a, **k))])
def test_what_cannot_be_is_refused_with_the_name_of_the_argument(how, given, kind, message, backend):
    with pytest.raises(kind, match=message):
        how(flow_of(), **{"backend": backend, **given})
    with runs.open(backend) as known:
        assert known.list() == []


def test_a_clock_is_one_of_the_package(backend):
    with pytest.raises(TypeError, match="clock must be"):
        runs.open(backend, clock=3)


# -- stores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("runs.db", "sqlite:///runs.db"),
        ("/data/a b/runs.db", "sqlite:////data/a b/runs.db"),
        (pathlib.Path("a") / "runs.db", "sqlite:///a/runs.db"),
        ("50%41 or more?.db", "sqlite:///50%2541 or more%3F.db"),
        ("sqlite:///runs.db", "sqlite:///runs.db"),
        ("dir:///x.db", "dir:///x.db"),
        ("memory", "memory"),
        ({"connection": "memory"}, {"connection": "memory"}),
        (None, None),
    ],
)
def test_the_path_of_a_file_is_the_address_of_a_sqlite_store(given, meant):
    assert stores.to_settings(given) == meant


@pytest.mark.parametrize("name", ["runs.db", "50%41 #1?.db"])
def test_a_run_without_an_id_takes_the_path_of_a_file_too(tmp_path, name):
    pytest.importorskip("sqlalchemy")
    assert taskflowx.run(flow_of(), backend=tmp_path / name) == {"x": 1}
    with runs.open(str(tmp_path / name)) as known:
        assert [one.state for one in known.list()] == [states.SUCCESS]
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("given", ["memory", {"connection": "memory"}, "sqlite://"])
def test_an_id_in_a_store_that_is_gone_with_the_run_is_warned_of(caplog, given):
    pytest.importorskip("sqlalchemy")
    for n in range(2):
        assert taskflowx.run(flow_of(), {"n": n}, backend=given, run_id="a")["x"] == 1
    assert caplog.text.count("Run 'a' is in a store in memory") == 2
    with backends.backend(given) as kept:
        if not isinstance(kept, impl_memory.MemoryBackend):
            with contextlib.closing(kept.get_connection()) as connection:
                connection.upgrade()
        for _ in range(2):
            taskflowx.run(flow_of(), {"n": 0}, backend=kept, run_id="a")
        with pytest.raises(exceptions.RunMismatch):
            taskflowx.run(flow_of(), {"n": 1}, backend=kept, run_id="a")
    assert caplog.text.count("Run 'a' is in a store in memory") == 2


class Plain(impl_memory.MemoryBackend):
    """A store of somebody else's, whose connections have TaskFlow's methods alone for runs."""

    def get_connection(self):
        made = super().get_connection()
        for name in ("get_run", "get_runs", "destroy_flows", "get_claim", "listening", "_all_runs"):
            setattr(made, name, getattr(base.Connection, name).__get__(made))
        return made


def test_a_store_with_the_interface_of_taskflow_has_runs_as_well():
    known = runs.Runs(Plain())
    for n in range(3):
        assert taskflowx.run(flow_of(), {"n": n}, backend=known.backend, run_id=f"r{n}")["x"] == 1
    assert sorted(one.id for one in known.list()) == ["r0", "r1", "r2"]
    assert known.get("r1").result() == {"n": 1, "x": 1}
    known.delete("r1")
    assert known.prune(older_than=0) == 2
    assert known.list() == []
    assert "Runs in" in repr(known)


# -- results -----------------------------------------------------------------------------------------------------------


def test_a_result_is_a_dict_as_before():
    result = taskflowx.run(flow_of(), {"n": 2})
    assert isinstance(result, dict)
    assert (result, repr(result)) == ({"n": 2, "x": 1}, "{'n': 2, 'x': 1}")
    assert (result.run_id, result.state, result.results, result.durations) == (None, states.SUCCESS, {"a": 1}, {})
    assert result.raise_for_failure() is None


def test_a_result_of_a_run_that_keeps_its_history_in_memory_has_durations():
    result = taskflowx.run(flow_of(), history=True)
    assert set(result.durations) == {"a"}
    assert pickle.loads(pickle.dumps(result)).durations == result.durations


def test_a_failed_run_may_be_asked_for_its_result():
    def fail():
        raise ValueError("no")

    for how in (taskflowx.run, lambda *a, **k: asyncio.run(taskflowx.arun(*a, **k))):
        result = how(flow_of(fail), raises=False)
        assert (result, result.state, result.failures["a"].exception_str) == ({}, states.REVERTED, "no")
        with pytest.raises(ValueError, match="no"):
            result.raise_for_failure()


@pytest.mark.parametrize(("reason", "said"), [("price", "by Ada (price)"), (None, "by Ada")])
def test_the_result_of_a_run_that_was_rolled_back_says_who_has_done_so(backend, reason, said):
    with taskflowx.load(flow_of(), backend=backend, run_id="r") as engine:
        engine.run()
        engine.rollback(by="Ada", reason=reason)
    result = runs.open(backend).get("r").result()
    assert (result.state, result.failures) == (states.REVERTED, {})
    for one in (result, pickle.loads(pickle.dumps(result))):
        with pytest.raises(exceptions.ExecutionFailure) as caught:
            one.raise_for_failure()
        assert str(caught.value) == f"run 'r' ended REVERTED: it was rolled back {said}"


def test_what_a_failed_run_raises_says_where_also_from_its_record(backend):
    def fail():
        raise ValueError("no")

    def fail_to_undo(**_):
        raise OSError("stays")

    made = taskflowx.run(flow_of(fail), raises=False)
    for result in (made, pickle.loads(pickle.dumps(made))):
        with pytest.raises(ValueError, match="no") as caught:
            result.raise_for_failure()
        assert "in task 'a' of flow 'f'" in caught.value.__notes__

    first = task.FunctorTask(dict, name="first", revert=fail_to_undo)
    for _ in range(2):  # the second one is read
        with pytest.raises(exceptions.WrappedFailure) as several:
            taskflowx.run(linear_flow.Flow("f").add(first, *flow_of(fail)), backend=backend, run_id="r")
        text = "\n".join(several.value.__notes__)
        assert "2 failed in the run of 'f'" in text
        assert "in the revert of task 'first' of flow 'f'" in text
        assert "Not undone in" in text
        assert "in task 'a' of flow 'f'" in text


def test_an_engine_may_run_to_rest_without_raising():
    def fail():
        raise ValueError("no")

    assert taskflowx.load(flow_of()).run_to_rest() == states.SUCCESS
    assert taskflowx.load(flow_of(fail)).run_to_rest() == states.REVERTED
    assert taskflowx.load(flow_of()).run_to_rest(timeout=0) == states.SUSPENDED
    assert asyncio.run(taskflowx.load(flow_of(fail), executor="asyncio").arun_to_rest()) == states.REVERTED
    with pytest.raises(exceptions.MissingDependencies):
        taskflowx.load(flow_of(lambda missing: missing)).run_to_rest()


# -- parts -------------------------------------------------------------------------------------------------------------


def test_values_are_compared_as_they_are_stored():
    odd = object()
    kept = {"a": 1, "b": (1,), "c": odd, "d": dt.date(2026, 1, 1), "e": {1: 2}}
    assert start.differences(kept, dict(kept)) == []
    assert start.differences({"a": 1}, {"a": True}) == ["a: 1 on record, True given"]
    assert start.differences({"a": 1}, {"a": 1.0}) == ["a: 1 on record, 1.0 given"]
    assert start.differences({"a": 1}, {"a": 2}, frozenset("a")) == ["a: *** on record, *** given"]
    (line,) = start.differences({"c": odd}, {"c": object()})
    assert line.startswith("c: <object object")


class Tagged(NamedTuple):
    tags: frozenset


# 0 and 8 collide in a small set, which lists them in the order in which they were added.
ZERO_FIRST, EIGHT_FIRST = (0, 8), (8, 0)


@pytest.mark.parametrize(
    "made",
    [
        set,
        frozenset,
        lambda order: dict.fromkeys(order, "x"),
        lambda order: {str(each): each for each in order},
        lambda order: [{"deep": ({frozenset(order)},)}],
        lambda order: {(frozenset(order), each): {str(one): one for one in order} for each in order},
        lambda order: {(1, frozenset(order)), *map(str, order)},
        lambda order: Tagged(frozenset(order)),
    ],
)
def test_equal_values_are_no_others_whatever_order_their_parts_were_made_in(made):
    one, other = made(ZERO_FIRST), made(EIGHT_FIRST)
    assert codec.dumps(one, "x") != codec.dumps(other, "x")
    assert start.differences({"x": one}, {"x": other}) == []


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        ([0, 8], [8, 0]),
        ((0, 8), (8, 0)),
        ({0, 8}, {0, 9}),
        ({0, 8}, frozenset({0, 8})),
        ({1}, {True}),
        ({1}, {1.0}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({0: 1, 8: 2}, {0: 2, 8: 1}),
        ([{0, 8}], [[0, 8]]),
        ({"$tfx": ["set", 0, 8]}, {"$tfx": ["set", 8, 0]}),
        ({"$tfx": ["set", 0, 8]}, {0, 8}),
    ],
)
def test_values_that_differ_by_type_or_by_the_order_of_a_list_are_others(kept, given):
    assert len(start.differences({"x": kept}, {"x": given})) == 1


def test_pauses_grow_to_a_second_and_end_when_the_time_is_up():
    clock = VirtualClock()
    waits = pauses.Pauses(clock, 5)
    lengths = []
    while not waits.is_over():
        before = clock.monotonic()
        waits.wait()
        lengths.append(round(clock.monotonic() - before, 2))
    assert lengths == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1, 0.74]


def test_a_change_ends_a_pause():
    class Changes:
        seconds = None

        def wait(self, seconds):
            self.seconds = seconds

    changes = Changes()
    pauses.Pauses(clocks.SYSTEM, None, first=1).wait(changes)
    assert 0 < changes.seconds <= 1


def test_ids_of_runs_are_where_they_always_were():
    assert run_records.flow_uuid("invoice-17") == "34cae318-9e11-5b52-b47d-03e4acb79544"  # records depend on it
    assert run_records.book_uuid("invoice-17") != run_records.flow_uuid("invoice-17")
    assert run_records.book_uuid("a") == run_records.flow_uuid("book:a")
    assert len(run_records.book_name("x" * 999)) == 255


def test_threads_of_one_process_that_start_a_run_in_memory_are_kept_apart(backend):
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert go_on.wait(30)
        return 1

    flow = flow_of(work)
    thread = threading.Thread(target=lambda: taskflowx.run(flow, backend=backend, run_id="a"))
    thread.start()
    assert begun.wait(30)
    with pytest.raises(exceptions.OwnershipFailure, match="by another engine of this process"):
        taskflowx.run(flow, backend=backend, run_id="a")
    go_on.set()
    thread.join(30)
    assert taskflowx.run(flow, backend=backend, run_id="a") == {"x": 1}
