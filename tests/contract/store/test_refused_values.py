"""What a store refuses, on each durable store: it is refused where it is given, fails its atom, and blocks nothing."""

from __future__ import annotations

import contextlib

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.types.failure import Failure
from tests.contract.store.stores import STORES

DURABLE = [store for store in STORES if not store.name.startswith(("memory", "sqlite-memory"))]
NO_JSON = object()


@pytest.fixture(params=DURABLE, ids=lambda store: store.name)
def store(request):
    lacks = request.param.lacks()
    if lacks:
        pytest.skip(lacks)
    return request.param


@pytest.fixture
def backend(store, tmp_path):
    with backends.backend(store.settings(tmp_path)) as made:
        yield made


class Step(task.Task):
    """Calls what it is given, and notes what its revert gets."""

    def __init__(self, name, does=lambda: None, **kwargs):
        super().__init__(name, **kwargs)
        self.does = does
        self.undone_with = []

    def execute(self):
        return self.does()

    def revert(self, result, flow_failures):
        self.undone_with.append(result)


def load(backend, *steps, **options):
    return engines.load(linear_flow.Flow("flow").add(*steps), book=models.LogBook("book"), backend=backend, **options)


def stored(backend, engine):
    with contextlib.closing(backend.get_connection()) as connection:
        return connection.get_flow_details(engine.storage.flow_uuid)


def too_large(store):
    """Return a value that only the limits of this store refuse, or None when a test cannot reach them."""
    return {"mariadb": lambda: "x" * 2**26, "zookeeper": lambda: "x" * 2**21}.get(store.name, lambda: None)()


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_refused_result_fails_its_task_whose_revert_gets_it(backend, executor):
    before, made, after = Step("before"), Step("make", lambda: NO_JSON, provides="day"), Step("after")
    engine = load(backend, before, made, after, executor=executor)
    with pytest.raises(exceptions.Unstorable, match="result of atom 'make'"):
        engine.run()
    assert made.undone_with == [NO_JSON]
    assert (before.undone_with, after.undone_with) == ([None], [])
    record = stored(backend, engine)
    assert (record.state, {d.name: d.state for d in record}) == (
        states.REVERTED,
        {"before": "REVERTED", "make": "REVERTED", "after": "PENDING"},
    )


def test_a_value_beyond_the_limits_of_the_store_fails_its_task(store, backend):
    value = too_large(store)
    if value is None:
        pytest.skip("its limits are out of reach")
    made = Step("make", lambda: value)
    engine = load(backend, Step("before"), made)
    with pytest.raises(exceptions.Unstorable, match="'make'"):
        engine.run()
    assert [result is value for result in made.undone_with] == [True]
    assert stored(backend, engine).state == states.REVERTED


def test_a_number_that_is_none_is_stored(backend):
    made = Step("make", lambda: {"share": float("nan")})
    engine = load(backend, made)
    engine.run()
    (detail,) = stored(backend, engine)
    assert repr(detail.results) == "{'share': nan}"


def test_a_failure_with_a_text_beyond_the_limits_is_kept_in_short(store, backend):
    text = too_large(store)
    if text is None:
        pytest.skip("its limits are out of reach")

    def fail():
        raise ValueError(text)

    engine = load(backend, Step("before"), Step("fail", fail))
    with pytest.raises(ValueError, match="xxx"):
        engine.run()
    record = stored(backend, engine)
    assert record.state == states.REVERTED
    (failure,) = [detail.failure for detail in record if detail.name == "fail"]
    assert failure.check(ValueError)
    assert len(failure.exception_str) < 2000


def test_a_history_beyond_the_limits_ends_in_a_rollback(store, backend):
    if store.name != "zookeeper":
        pytest.skip("its limits are out of reach, or take long to reach")
    text = "x" * 200_000

    def fail():
        raise ValueError(text)

    step = Step("fail", fail)
    flow = linear_flow.Flow("flow", retry=retry.Times(50, "again")).add(step)
    engine = engines.load(flow, book=models.LogBook("book"), backend=backend)
    with pytest.raises(exceptions.WrappedFailure) as raised:
        engine.run()
    assert [bool(failure.check(exceptions.Unstorable)) for failure in raised.value] == [True, False]
    assert stored(backend, engine).state == states.REVERTED
    assert 2 <= len(step.undone_with) < 20


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_progress_that_is_refused_is_refused_in_the_task(backend, executor):
    caught = []

    def report():
        step.update_progress(0.25, part=1)
        try:
            step.update_progress(0.5, when=NO_JSON)
        except exceptions.Unstorable as error:
            caught.append(str(error))
        step.update_progress(0.75, part=2)

    step = Step("report", report)
    engine = load(backend, step, executor=executor, inline=False)
    engine.run()
    (detail,) = stored(backend, engine)
    assert detail.meta["progress_details"] == {"at_progress": 0.75, "details": {"part": 2}}
    assert len(caught) == 1
    assert "progress of atom 'report'" in caught[0]


def test_what_is_refused_by_name_changes_nothing(backend):
    step = Step("step")
    engine = load(backend, step, Step("other"))
    engine.compile()
    engine.prepare()
    storage = engine.storage
    storage.inject({"kept": 1})
    storage.inject_atom_args("step", {"own": 1}, transient=False)
    storage.update_atom_metadata("step", {"note": 1})
    storage.update_flow_metadata({"note": 1})
    storage.set_task_progress("step", 0.1, {"part": 1})
    before = storage.fetch_all(), dict(storage.flow_meta), dict(storage.record.detail("step").meta)
    for call in (
        lambda: storage.inject({"kept": NO_JSON, "more": 2}),
        lambda: storage.inject_atom_args("step", {"own": NO_JSON}, transient=False),
        lambda: storage.update_atom_metadata("step", {"note": NO_JSON}),
        lambda: storage.update_flow_metadata({"note": NO_JSON}),
        lambda: storage.set_task_progress("step", 0.2, {"part": NO_JSON}),
        lambda: storage.save("step", NO_JSON),
    ):
        with pytest.raises(exceptions.Unstorable, match="type object"):
            call()
    assert (storage.fetch_all(), dict(storage.flow_meta), dict(storage.record.detail("step").meta)) == before
    storage.inject({"passing": NO_JSON}, transient=True)
    engine.run()
    record = stored(backend, engine)
    assert (record.state, record.meta["note"]) == (states.SUCCESS, 1)


def test_a_failure_that_holds_what_is_no_json_is_kept(backend):
    def fail():
        raise ValueError(NO_JSON)

    engine = load(backend, Step("fail", fail))
    with pytest.raises(ValueError, match="object"):
        engine.run()
    (detail,) = stored(backend, engine)
    assert isinstance(detail.failure, Failure)


def test_events_of_a_call_that_cannot_be_made_come_in_their_order(backend):
    """Its argument is in a result that lacks it: nothing is called, and no commit lies between its events."""

    class Takes(task.Task):
        def execute(self, there):
            pass

    class Lacks(task.Task):
        default_provides = frozenset({"there"})

        def execute(self):
            return {}

    engine = load(backend, Lacks("lacks"), Takes("takes"))
    seen = []
    engine.atom_notifier.register("*", lambda state, details: seen.append((details["task_name"], state)))
    with pytest.raises(exceptions.NotFound):
        engine.run()
    assert [state for name, state in seen if name == "takes"] == ["RUNNING", "FAILURE", "REVERTING", "REVERTED"]
