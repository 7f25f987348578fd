"""When the record is written in each mode, and what becomes of a run whose store is down; the store is scripted."""

from __future__ import annotations

import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import base, codec, models
from taskflowx.testing import VirtualClock
from taskflowx.types.failure import Failure


class Store(base.Backend):
    """Keeps JSON texts; fails commits as long as `down` is set."""

    def __init__(self):
        super().__init__({})
        self.commits: list[dict[str, str]] = []
        self.atoms: dict[str, str] = {}
        self.down = False
        self.tried = 0

    def get_connection(self):
        return self

    def close(self):
        pass

    def renew(self, flow_uuid, owner, expires):
        pass

    def save_changes(self, flow_detail, atom_details, owner=None):
        self.tried += 1
        if self.down:
            raise exceptions.StorageFailure("no answer", OSError("unreachable"))
        texts = {detail.name: codec.dump_atom(detail) for detail in atom_details}
        self.atoms.update(texts)
        self.commits.append({detail.name: detail.state for detail in atom_details})


class Step(task.Task):
    """Calls what it is given; notes its reverts."""

    def __init__(self, name, does=lambda: None, undone=None):
        super().__init__(name)
        self.does = does
        self.undone = [] if undone is None else undone

    def execute(self):
        return self.does()

    def revert(self, **kwargs):
        self.undone.append(self.name)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("taskflowx.persistence.journal._pause", lambda seconds: None)


def load(store, flow, **options):
    return engines.load(flow, flow_detail=models.FlowDetail("flow", "1"), backend=store, **options)


def fail():
    raise OSError("broken")


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_exit_writes_at_the_beginning_and_the_end(executor):
    store = Store()
    load(
        store, linear_flow.Flow("flow").add(*(Step(f"s{n}") for n in range(20))), executor=executor, durability="exit"
    ).run()
    # the details when they are made, the flow when it begins, all that has happened, the flow's end
    assert len(store.commits) == 4
    assert set(store.commits[2].values()) == {states.SUCCESS}
    assert len(store.commits[2]) == 20


def test_exit_writes_a_failure_before_anything_is_undone():
    store = Store()
    seen = []
    flow = linear_flow.Flow("flow").add(Step("a"), Step("b", fail))
    next(iter(flow)).revert = lambda **kwargs: seen.append(dict(store.commits[-1]))
    with pytest.raises(OSError, match="broken"):
        load(store, flow, durability="exit").run()
    assert seen == [{"a": states.SUCCESS, "b": states.FAILURE}]


def test_exit_writes_when_the_run_is_suspended():
    store = Store()
    first = Step("a")
    engine = load(store, linear_flow.Flow("flow").add(first, Step("b")), durability="exit")
    first.does = engine.suspend
    engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert {"a": states.SUCCESS} in store.commits


def test_group_writes_when_its_time_has_come():
    store, clock = Store(), VirtualClock()
    flow = linear_flow.Flow("flow").add(*(Step(f"s{n:02}", lambda: clock.advance(1)) for n in range(20)))
    load(store, flow, durability="group", commit_interval=5.0, clock=clock).run()
    # as for exit, and every fifth second: before the calls of s05, s10, s15
    assert len(store.commits) == 4 + 3
    assert store.commits[2] == {**{f"s{n:02}": states.SUCCESS for n in range(5)}, "s05": states.RUNNING}


def test_group_writes_while_a_call_takes_long():
    store = Store()
    written = threading.Event()
    keep = store.save_changes

    def save_changes(flow_detail, atom_details, owner=None):
        keep(flow_detail, atom_details, owner)
        if "quick" in store.commits[-1] and store.commits[-1]["quick"] == states.SUCCESS:
            written.set()

    store.save_changes = save_changes
    flow = unordered_flow.Flow("flow").add(Step("quick"), Step("slow", lambda: written.wait(10)))
    engine = load(store, flow, executor="threads", max_workers=2, durability="group", commit_interval=0.01)
    engine.run()
    assert engine.storage.fetch_all() == {}
    assert engine.storage.get("slow") is True


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_store_that_is_back_in_time_costs_nothing_but_time(executor, monkeypatch):
    store = Store()
    tries = []

    def pause(seconds):
        tries.append(seconds)
        store.down = len(tries) < 4

    monkeypatch.setattr("taskflowx.persistence.journal._pause", pause)

    def go_down():
        store.down = True

    engine = load(store, linear_flow.Flow("flow").add(Step("a", go_down), Step("b")), executor=executor)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert len(tries) == 4


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("make", [linear_flow.Flow, unordered_flow.Flow])
def test_a_store_that_stays_down_stops_the_run_and_nothing_is_lost(make, executor):
    store = Store()
    ran = []

    def go_down():
        store.down = True
        ran.append("a")

    flow = make("flow").add(Step("a", go_down), Step("b", lambda: ran.append("b")))
    next(iter(flow)).priority = 1
    engine = load(store, flow, engine="parallel", executor=executor, commit_timeout=0)
    with pytest.raises(exceptions.StorageFailure, match=r"(?s)was stopped.*Not saved: 'a' \(SUCCESS\).*run it again"):
        engine.run()
    before = list(ran)
    assert before.count("a") == 1
    assert "b" in before or engine.storage.get_atom_state("b") == states.PENDING
    store.down = False
    engine.run()
    assert sorted(ran) == ["a", "b"]
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert {name: "SUCCESS" in text for name, text in store.atoms.items()} == {"a": True, "b": True}


def in_memory(engine):
    return {detail.name: codec.dump_atom(detail) for detail in engine.storage.record.flow_detail}


@pytest.mark.parametrize("names", [["pay", "z"], ["pay"]])  # something is left to do, or nothing
@pytest.mark.parametrize("of_next", [["pay", "z"], ["z"]])  # the flow of the next engine has the task, or not any more
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_what_an_engine_could_not_save_another_one_on_the_same_record_saves(executor, names, of_next):
    store, paid = Store(), []

    def pay():
        store.down = True
        paid.append("once")

    def make(names):
        return linear_flow.Flow("flow").add(*(Step(name, pay if name == "pay" else list) for name in ("a", *names)))

    engine = load(store, make(names), executor=executor, commit_timeout=0)
    with pytest.raises(exceptions.StorageFailure, match=r"Not saved: 'pay' \(SUCCESS\)"):
        engine.run()
    assert "RUNNING" in store.atoms["pay"]
    store.down, before = False, len(store.commits)
    options = {"executor": executor, "commit_timeout": 0, "on_mismatch": "ignore"}
    again = engines.load(make(of_next), flow_detail=engine.storage.record.flow_detail, backend=store, **options)
    again.run()
    assert {**store.commits[before], **store.commits[before + 1]}["pay"] == states.SUCCESS  # before anything runs
    assert store.atoms == in_memory(again)
    assert again.storage.get_flow_state() == states.SUCCESS
    assert paid == ["once"]


BY_NAME = {
    "inject": lambda storage: storage.inject({"x": 2}),
    "inject_atom_args": lambda storage: storage.inject_atom_args("a", {"x": 2}, transient=False),
    "save": lambda storage: storage.save("a", "given"),
    "set_atom_state": lambda storage: storage.set_atom_state("a", states.IGNORE),
    "set_atom_intention": lambda storage: storage.set_atom_intention("a", states.IGNORE),
    "update_atom_metadata": lambda storage: storage.update_atom_metadata("a", {"note": 1}),
    "set_task_progress": lambda storage: storage.set_task_progress("a", 0.5),
    "save_retry_failure": lambda storage: storage.save_retry_failure("r", "a", Failure.from_exception(OSError("a"))),
    "cleanup_retry_history": lambda storage: storage.cleanup_retry_history("r", states.REVERTED),
    "reset": lambda storage: storage.reset("b"),
}


@pytest.mark.parametrize("values", [{}, {"x": 1}])
@pytest.mark.parametrize("change", BY_NAME)
def test_a_change_by_name_that_the_store_did_not_take_is_in_the_next_commit(change, values):
    store = Store()
    controlled = linear_flow.Flow("flow", retry=retry.Times(2, "r")).add(Step("a"), Step("b"))
    engine = load(store, controlled)
    engine.compile()
    engine.prepare()
    storage = engine.storage
    storage.inject(values)
    storage.save("r", 1)
    storage.save("b", "done")
    store.down = True
    with pytest.raises(exceptions.StorageFailure):
        BY_NAME[change](storage)
    assert store.atoms != in_memory(engine)
    store.down = False
    storage.update_flow_metadata({"any": "change"})
    assert store.atoms == in_memory(engine)
    changed = len(store.commits)
    storage.update_flow_metadata({"any": "further one"})
    assert store.commits[changed:] == [{}]  # it is written once


def test_a_rollback_that_is_stopped_by_its_store_goes_on():
    store = Store()
    undone = []
    flow = linear_flow.Flow("flow").add(Step("a", undone=undone), Step("b", undone=undone), Step("c", fail, undone))

    def go_down(**kwargs):
        store.down = True
        undone.append("b")

    list(flow)[1].revert = go_down
    engine = load(store, flow, commit_timeout=0)
    with pytest.raises(exceptions.StorageFailure, match=r"'b' \(REVERTED\)"):
        engine.run()
    assert undone == ["c", "b"]
    assert engine.storage.get_atom_state("a") == states.SUCCESS
    store.down = False
    with pytest.raises(OSError, match="broken"):
        engine.run()
    assert undone == ["c", "b", "a"]


def test_what_can_never_be_stored_is_not_tried_again():
    store = Store()
    engine = load(store, linear_flow.Flow("flow").add(Step("a", object)))
    engine.compile()
    engine.prepare()
    before = store.tried
    with pytest.raises(exceptions.Unstorable, match="result of atom 'a'"):
        engine.run()
    assert store.tried - before == len(store.commits) - before


def test_a_record_that_the_store_refuses_changes_nothing_and_goes_with_no_other_commit():
    class Narrow(Store):
        def save_changes(self, flow_detail, atom_details, owner=None):
            if any("large" in codec.dump_atom(detail) for detail in atom_details):
                raise exceptions.Unstorable("the record is too large")
            super().save_changes(flow_detail, atom_details, owner)

    store = Narrow()
    engine = load(store, linear_flow.Flow("flow").add(Step("a"), Step("b")))
    engine.compile()
    engine.prepare()
    storage = engine.storage
    storage.update_atom_metadata("a", {"note": "small"})
    with pytest.raises(exceptions.Unstorable):
        storage.update_atom_metadata("a", {"note": "large"})
    storage.update_atom_metadata("b", {"note": "little"})
    assert store.atoms == in_memory(engine)
    assert "small" in store.atoms["a"]
    engine.run()
    assert store.atoms == in_memory(engine)
