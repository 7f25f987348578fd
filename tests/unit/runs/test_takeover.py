"""`testing.verify` says of each unfinished run whether a flow can take it up, and what it would do."""

import sys
import types

import pytest

import taskflowx
from taskflowx import states, task, testing
from taskflowx.engines import shape
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends
from taskflowx.persistence.backends import impl_memory
from tests.unit.engines.test_shape import Step, begin, linear


@pytest.fixture(params=["sqlite", "dir", "memory"])
def store(request, tmp_path):
    addresses = {"sqlite": f"sqlite:///{tmp_path}/runs.db", "dir": f"dir://{tmp_path}/runs", "memory": "memory"}
    with backends.backend(addresses[request.param]) as made:
        yield made


def records(store):
    with taskflowx.runs.open(store) as runs:
        return [(one.id, one.state, runs.get(one.id).version) for one in runs.list()]


def test_what_a_flow_would_do_with_each_unfinished_run(store):
    begin(linear(Step("a"), Step("b", leaves=True), Step("c")), store, "left")
    taskflowx.run(linear(Step("a")), run_id="finished", backend=store)
    begin(linear_flow.Flow("other").add(Step("a", leaves=True)), store, "of another flow")
    before = records(store)
    [verdict] = testing.verify(linear(Step("a"), Step("b"), Step("c"), Step("d")), store)
    assert verdict == testing.Verdict("left", states.SUSPENDED, None, ["a"], ["b"], ["c", "d"], [], [])
    assert records(store) == before


def test_a_run_that_the_flow_cannot_take_up_says_why(store):
    begin(linear(Step("a"), Step("b", leaves=True)), store, "left")
    [verdict] = testing.verify(linear(Step("b")), store)
    assert "task 'a' (SUCCESS) is not in the flow any more" in verdict.refused
    [verdict] = testing.verify(linear(Step("b")), store, on_mismatch="ignore")
    assert verdict.refused is None
    [verdict] = testing.verify(linear(Step("a"), Step("b"), Step("c", requires=["nothing"])), store)
    assert "nothing" in verdict.refused


def test_an_older_record_is_taken_over_in_memory_alone(store):
    class Two(Step):
        version = (2, 0)

        def migrate_record(self, record):
            record.result = "changed"

    begin(linear(Step("a", provides="x"), Step("b", leaves=True)), store, "left")
    flow = linear(Two("a", provides="x"), Step("b"))
    assert [one.refused for one in testing.verify(flow, store)] == [None]
    assert taskflowx.run(linear(Step("a", provides="x"), Step("b")), run_id="left", backend=store)["x"] == "a"


def test_what_is_to_be_undone_and_what_somebody_has_to_answer_for(store):
    class Fails(Step):
        def execute(self, **_):
            raise LookupError

        def revert(self, **_):
            raise SystemExit

    class Pays(task.Task):
        default_on_unknown = "ask"

        def execute(self):
            raise SystemExit

    begin(linear(Step("a"), Fails("b")), store, "undone")
    [verdict] = testing.verify(linear(Step("a"), Step("b")), store)
    assert (verdict.undoes, verdict.keeps, verdict.runs) == (["a", "b"], [], [])
    begin(linear_flow.Flow("pays").add(Step("a"), Pays("pay")), store, "asks")
    [verdict] = testing.verify(linear_flow.Flow("pays").add(Step("a"), Pays("pay")), store)
    assert (verdict.keeps, verdict.repeats, verdict.asks) == (["a"], [], ["pay"])


def test_pages_of_runs_are_looked_at_to_the_end(store, monkeypatch):
    from taskflowx.runs import takeover

    monkeypatch.setattr(takeover, "_PAGE", 2)
    for number in range(5):
        begin(linear(Step("a", leaves=True)), store, f"run {number}")
    assert {one.run_id for one in testing.verify(linear(Step("a")), store)} == {f"run {n}" for n in range(5)}


def test_a_run_that_cannot_be_read_here_is_refused_and_not_passed_over(store, monkeypatch):
    if isinstance(store, impl_memory.MemoryBackend):
        pytest.skip("memory holds anything")
    begin(linear(Step("a"), Step("b", leaves=True)), store, "left")
    module = types.ModuleType("settings_of_users")
    exec("import enum\nSize = enum.Enum('Size', 'SMALL', module=__name__)", vars(module))  # noqa: S102
    monkeypatch.setitem(sys.modules, module.__name__, module)
    engine = taskflowx.load(linear(Step("a"), Step("b")), backend=store, run_id="left")
    engine.storage.update_flow_metadata({"size": module.Size.SMALL})
    monkeypatch.delitem(sys.modules, module.__name__)
    [verdict] = testing.verify(linear(Step("a"), Step("b")), store)
    assert verdict.run_id == "left"
    assert "settings_of_users" in verdict.refused


def test_the_outline_of_a_large_flow_is_that_of_the_version_that_has_run(store, monkeypatch):
    monkeypatch.setattr(shape, "LARGEST", 1)
    old = [Step(name, provides=name) for name in "abc"]
    new = [Step("c", provides="c"), Step("d", provides="d"), Step("a", provides="a")]
    taskflowx.run(linear(*old), run_id="x", backend=store)
    ran = taskflowx.run(linear(*new), run_id="x", backend=store, if_finished="again")
    assert ran == taskflowx.run(linear(*new), run_id="x", backend=store) == {name: name for name in "acd"}
    with taskflowx.runs.open(store) as runs:
        assert runs.get("x").result() == ran
        kept = {one.name: one.state for one in runs.get(runs.fork("x", from_task="d")).atoms}
    assert {name: kept[name] for name in "acd"} == {"c": "SUCCESS", "d": "PENDING", "a": "PENDING"}


def test_a_version_of_a_large_flow_that_did_not_run_leaves_the_outline_of_the_other_one(store, monkeypatch):
    monkeypatch.setattr(shape, "LARGEST", 1)
    begin(linear(Step("a", provides="x"), Step("b", leaves=True)), store, "left")
    other = linear(Step("a", provides="y"), Step("c", provides="z"))
    with taskflowx.load(other, run_id="left", backend=store):
        pass
    with taskflowx.runs.open(store) as runs:
        assert dict(runs.get("left").result()) == {"x": "a"}
    taskflowx.run(other, run_id="left", backend=store, on_mismatch="ignore")
    with taskflowx.runs.open(store) as runs:
        assert dict(runs.get("left").result()) == {"y": "a", "z": "c"}
