"""Long histories of retries in stores of paths: an attempt costs the same early and late, and none is ever missing."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, codec, models, owners, path_tree
from taskflowx.types.failure import Failure
from tests.contract.stores import STORES

LONG = 4 * path_tree.CHUNK + 7


@pytest.fixture(params=[store for store in STORES if store.name in ("dir", "zookeeper")], ids=lambda store: store.name)
def backend(request, tmp_path):
    if lacks := request.param.lacks():
        pytest.skip(lacks)
    settings = request.param.settings(tmp_path)
    with backends.backend({**settings, "sync": False} if request.param.name == "dir" else settings) as made:
        yield made


@pytest.fixture
def connection(backend):
    with contextlib.closing(backend.get_connection()) as made:
        yield made


class Run:
    """A run of which each attempt is written in two steps, as an engine does it."""

    def __init__(self, connection, uuid="f"):
        self.connection, self.owner = connection, owners.Owner()
        self.owner.running = True
        self.flow = models.FlowDetail("flow", uuid)
        self.retry = models.RetryDetail("r", f"{uuid}-r")
        self.flow.add(self.retry)
        book = models.LogBook("book", f"{uuid}-b")
        book.add(self.flow)
        connection.save_logbook(book)
        self.flow.state = states.RUNNING

    def attempt(self, count=1):
        for _ in range(count):
            number = len(self.retry.results)
            self.retry.put(states.SUCCESS, number)
            self.save()
            self.retry.last_failures["t"] = Failure.from_exception(ValueError(f"attempt {number} {'x' * 200}"))
            self.save()

    def save(self, *details):
        self.connection.save_changes(self.flow, details or [self.retry], self.owner)

    def end(self, state=states.SUCCESS):
        self.flow.state = state
        self.connection.save_changes(self.flow, [], self.owner)  # of which the retry is no part

    def check(self):
        """Check that what is stored is what is known here, wherever it is."""
        found = self.connection.get_flow_details(self.flow.uuid).find(self.retry.uuid)
        for other in (found, self.connection.get_atom_details(self.retry.uuid)):
            assert [value for value, _ in other.results] == [value for value, _ in self.retry.results]
            for (_, mine), (_, theirs) in zip(self.retry.results, other.results, strict=True):
                assert {name: str(each) for name, each in mine.items()} == {
                    name: str(each) for name, each in theirs.items()
                }

    def record(self):
        """Return what is in the place where TaskFlow looks."""
        place = self.connection._join_path(self.connection.atom_path, self.retry.uuid)
        return json.loads(self.connection._get_item(place))

    def beside(self):
        """Return what is kept beside the record."""
        path = self.connection._join_path(self.connection._attempt_path, self.retry.uuid)
        return self.connection._names(path)


@pytest.fixture
def run(connection):
    return Run(connection)


def test_an_attempt_writes_as_much_late_as_early(run):
    written = []
    put = run.connection._set_item

    def note(path, value, transaction):
        written[-1] += len(value)
        put(path, value, transaction)

    run.connection._set_item = note
    for _ in range(LONG):
        written.append(0)
        run.attempt()
    chunk = path_tree.CHUNK
    early, late = sum(written[chunk : 3 * chunk]), sum(written[-2 * chunk :])
    assert late < 1.5 * early
    assert max(written[2 * chunk :]) < 2.5 * max(written[: 2 * chunk])
    run.check()


def test_when_a_run_is_at_rest_its_history_is_where_taskflow_looks(run):
    for state, count in (states.SUSPENDED, LONG), (states.FAILURE, 5), (states.SUCCESS, 70):
        run.flow.state = states.RUNNING
        run.attempt(count)
        assert run.record()["past"] > 0
        run.end(state)
        record = run.record()
        assert "past" not in record
        assert len(record["atom"]["results"]) == len(run.retry.results)
        assert run.beside() == []
        run.check()


@pytest.mark.parametrize("count", [1, 7, 8, 64, 65, 96, 97])
def test_a_history_of_any_length_is_read_and_gone_on_with_by_another_process(backend, run, count):
    run.attempt(count)
    run.check()
    backend.written.clear()  # as another process knows nothing
    run.retry = run.connection.get_atom_details(run.retry.uuid)
    run.flow.add(run.retry)
    run.attempt(70)
    run.check()
    backend.written.clear()
    run.end()
    assert "past" not in run.record()
    run.check()


def test_a_history_that_is_begun_anew_has_nothing_of_the_old_one(run):
    run.attempt(LONG)
    run.retry.reset(states.PENDING)
    run.save()
    run.check()
    run.attempt(3)
    run.check()
    run.attempt(LONG)
    run.retry.reset(states.PENDING)
    for number in range(LONG):  # as much at once
        run.retry.put(states.SUCCESS, -number)
    run.save()
    run.check()
    run.end()
    run.check()
    assert run.beside() == []


def test_writes_outside_of_runs_leave_a_whole_history(run):
    run.attempt(LONG)
    run.owner.running = False
    run.save()  # nobody runs it any more
    found = run.connection.get_flow_details("f")
    found.meta["m"] = 1
    run.connection.update_flow_details(found)
    run.retry.meta["m"] = 1
    run.connection.update_atom_details(run.retry)
    run.check()
    assert "past" not in run.record()


def test_a_write_that_fails_costs_no_attempt(run, monkeypatch):
    run.attempt(LONG)
    for _ in range(34):
        run.retry.put(states.SUCCESS, len(run.retry.results))
        with monkeypatch.context() as patch:
            patch.setattr(type(run.connection), "_write_turn", lambda *given: (_ for _ in ()).throw(OSError("lost")))
            with pytest.raises(OSError, match="lost"):
                run.save()
        run.save()
        run.check()


def test_a_history_goes_with_its_book(run):
    run.attempt(LONG)
    other = Run(run.connection, "other")
    other.attempt(LONG)
    run.connection.destroy_logbook("f-b")
    assert run.beside() == []
    other.check()
    run.connection.clear_all()
    assert other.beside() == []


@pytest.mark.parametrize("kind", ["missing", "no json", "short", "of another kind"])
def test_attempts_that_are_damaged_are_named(run, caplog, kind):
    run.attempt(LONG)
    connection = run.connection
    path = connection._chunk_path(run.retry.uuid, path_tree.CHUNK)
    with connection._transaction(path) as transaction:
        if kind == "missing":
            connection._del_tree(path, transaction)
        else:
            connection._set_item(path, {"no json": "[", "short": "[]", "of another kind": "{}"}[kind], transaction)
    for read in (lambda: connection.get_atom_details(run.retry.uuid), lambda: connection.get_flow_details("f")):
        with pytest.raises(codec.Unreadable, match=r"atom_details/f-r' is damaged(?s:.*)f-r/32|no JSON"):
            read()
    caplog.set_level(logging.ERROR)
    assert list(connection.get_logbooks()) == []
    assert "atom_details/f-r' is damaged" in caplog.text


def test_a_run_with_many_attempts_ends_as_one_with_few(backend, connection):
    did = []

    class Flaky(task.Task):
        def execute(self, number):
            did.append(number)
            if number < 120:
                raise ValueError(number)

    flow = linear_flow.Flow("f", retry=retry.Times(1000, "again", provides="number")).add(Flaky("flaky"))
    engine = engines.load(flow, book=models.LogBook("b"), backend=backend)
    engine.run()
    assert did == list(range(1, 121))
    found = {each.name: each for each in connection.get_flow_details(engine.storage.flow_uuid)}
    assert [value for value, _ in found["again"].results] == did
    assert [str(failures["flaky"]) for _, failures in found["again"].results[:-1]] == [
        str(Failure.from_exception(ValueError(number))) for number in range(1, 120)
    ]


def test_a_history_that_zookeeper_cannot_hold_as_a_whole_stays_in_parts(backend):
    if not hasattr(backend, "limit"):
        pytest.skip("a folder holds any")
    backend.limit = 40_000
    with contextlib.closing(backend.get_connection()) as connection:
        run = Run(connection)
        run.attempt(LONG)
        run.end()
        assert run.record()["past"] > 0
        run.check()
        run.flow.state = states.RUNNING
        run.attempt(3)
        run.check()
