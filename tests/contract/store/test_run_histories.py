"""The histories of runs in every store: written with the states, read in parts, removed with the run."""

from __future__ import annotations

import contextlib

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, base, codec, history, models
from taskflowx.persistence.path_tree import BLOCK
from tests.contract.store.stores import STORES
from tests.support import histories
from tests.support.histories import kept, record


@pytest.fixture(params=STORES, ids=lambda store: store.name)
def store(request):
    if reason := request.param.lacks():
        pytest.skip(reason)
    return request.param


@pytest.fixture
def backend(store, tmp_path):
    """Give a store that is new and ready."""
    with contextlib.closing(backends.fetch(store.settings(tmp_path))) as made:
        with contextlib.closing(made.get_connection()) as connection:
            connection.upgrade()
        yield made


class Step(task.Task):
    """Fails as often as it is told, and calls what it is given."""

    def __init__(self, name, fails=0, does=lambda: None):
        super().__init__(name)
        self.fails, self.does = fails, does

    def execute(self):
        self.does()
        if self.fails:
            self.fails -= 1
            raise OSError("no")


def repeated():
    return linear_flow.Flow("flow", retry.Times(3, "again")).add(Step("a"), Step("b", 2))


def test_a_run_leaves_all_its_transitions(backend):
    engine = engines.load(repeated(), backend=backend, history=True)
    engine.run()
    entries = kept(backend, engine.storage.flow_uuid)
    assert entries == engine.history()
    assert histories.complaints(entries, record(backend, engine.storage.flow_uuid)) == []
    of_b = [(e.attempt, e.old, e.new, e.failure) for e in entries if e.atom == "b"]
    assert of_b[:5] == [
        (1, "PENDING", "RUNNING", None),
        (1, "RUNNING", "FAILURE", "OSError"),
        (1, "FAILURE", "REVERTING", None),
        (1, "REVERTING", "REVERTED", None),
        (1, "REVERTED", "PENDING", None),
    ]
    assert of_b[-1] == (3, "RUNNING", "SUCCESS", None)
    assert [(e.old, e.new, e.attempt) for e in entries if e.atom is None] == [
        (None, "RUNNING", 0),
        ("RUNNING", "SUCCESS", 0),
    ]
    ended = [entry for entry in entries if entry.new in states.WITH_OUTCOME and entry.atom is not None]
    assert {entry.worker for entry in ended} == {"MainThread"}
    begun = {(e.atom, e.attempt, e.new == "RUNNING"): e.at for e in entries if e.new in states.CALLED}
    for entry in ended:
        verb = entry.new not in (states.REVERTED, states.REVERT_FAILURE)
        assert begun[entry.atom, entry.attempt, verb] <= entry.began <= entry.at


def test_a_resumed_run_goes_on_with_its_history(backend):
    engine = engines.load(
        linear_flow.Flow("flow").add(
            Step("a", does=lambda: engine.suspend()),  # noqa: PLW0108 - it is not there yet
            Step("b"),
        ),
        backend=backend,
        history=True,
    )
    engine.run()
    uuid = engine.storage.flow_uuid
    before = kept(backend, uuid)
    assert before[-1][2:6] == (None, 0, "SUSPENDING", "SUSPENDED")
    other = engines.load(
        linear_flow.Flow("flow").add(Step("a"), Step("b")),
        flow_detail=record(backend, uuid),
        backend=backend,
        history=True,
    )
    other.run()
    entries = kept(backend, uuid)
    assert entries[: len(before)] == before
    assert other.history() == entries
    assert histories.complaints(entries, record(backend, uuid)) == []


def test_a_history_is_read_in_parts(backend):
    engine = engines.load(
        linear_flow.Flow("flow").add(*(Step(f"t{n}") for n in range(BLOCK))), backend=backend, history=True
    )
    engine.run()
    uuid = engine.storage.flow_uuid
    entries = kept(backend, uuid)
    assert len(entries) == 2 * BLOCK + 2
    for after in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1, 2 * BLOCK + 2, 10 * BLOCK):
        for limit in (None, 0, 1, BLOCK + 5):
            assert kept(backend, uuid, after=after, limit=limit) == entries[after:][:limit]


def test_many_entries_of_one_step_are_in_several_documents(backend):
    count = history.CHUNK + 20
    flow = unordered_flow.Flow("flow").add(*(Step(f"t{n}") for n in range(count)))
    engine = engines.load(flow, backend=backend, executor="threads", history=True, durability="exit")
    engine.run()
    entries = kept(backend, engine.storage.flow_uuid)
    assert len(entries) == 2 * count + 2
    assert histories.complaints(entries, record(backend, engine.storage.flow_uuid)) == []
    assert kept(backend, engine.storage.flow_uuid, after=history.CHUNK - 1, limit=2) == entries[history.CHUNK - 1 :][:2]


def test_what_people_do_is_in_the_history(backend):
    engine = engines.load(
        linear_flow.Flow("flow").add(Step("a"), Step("b")), backend=backend, history=True, never_resolve=True
    )
    engine.run()
    engine.storage.set_atom_state("b", states.REVERTING)
    engine.storage.save("b", None, states.REVERTED)
    engine.storage.set_atom_state("b", states.PENDING)
    uuid = engine.storage.flow_uuid
    entries = kept(backend, uuid)
    assert [entry.new for entry in entries if entry.atom == "b"][-3:] == ["REVERTING", "REVERTED", "PENDING"]
    assert histories.complaints(entries, record(backend, uuid)) == []
    engine.run()
    engine.rollback()
    engine.reset()
    assert histories.complaints(kept(backend, uuid), record(backend, uuid)) == []


def test_without_the_option_nothing_is_kept(backend):
    engine = engines.load(repeated(), backend=backend)
    engine.run()
    assert engine.history() == []
    assert kept(backend, engine.storage.flow_uuid) == []
    assert kept(backend, "a run that is not there") == []


def test_a_history_goes_with_its_run(backend):
    first, second = models.LogBook("first"), models.LogBook("second")
    uuids = []
    for book in (first, second):
        engine = engines.load(repeated(), backend=backend, book=book, history=True)
        with contextlib.closing(backend.get_connection()) as connection:
            connection.save_logbook(book)
        engine.run()
        uuids.append(engine.storage.flow_uuid)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.destroy_logbook(first.uuid)
        assert list(connection.get_history(uuids[0])) == []
        assert len(list(connection.get_history(uuids[1]))) > 2
        connection.destroy_flows([uuids[1]])
        assert list(connection.get_history(uuids[1])) == []


def test_all_histories_go_with_all_runs(backend):
    engine = engines.load(repeated(), backend=backend, history=True)
    engine.run()
    with contextlib.closing(backend.get_connection()) as connection:
        connection.clear_all()
        assert list(connection.get_history(engine.storage.flow_uuid)) == []


@pytest.mark.parametrize("damage", ['{"a": 1}', "[", "[[1, 2]]", '[["x", "a", 1, null, "RUNNING", null, null, null]]'])
def test_a_damaged_document_is_named(damage):
    with pytest.raises(codec.Unreadable, match=r"history from entry 5|JSON|damaged"):
        history.read(5, damage)


def test_a_store_that_keeps_none_says_so():
    class Other(base.Backend):
        def get_connection(self):
            raise AssertionError

    with pytest.raises(ValueError, match="history=True: <Other> keeps no history"):
        engines.load(repeated(), flow_detail=models.FlowDetail("flow", "1"), backend=Other({}), history=True)
