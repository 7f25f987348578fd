"""Values of every kind, on each store: they come back equal and of the same type, wherever in a record they are.

TASKFLOWX_VALUES_EXAMPLES is how many values are tried on each store.
"""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import HealthCheck, given, settings

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from tests.contract.store.stores import STORES
from tests.support import values

EXAMPLES = int(os.environ.get("TASKFLOWX_VALUES_EXAMPLES", "200"))
SAMPLES = {
    "pair": (1, (2, 3)),
    "point": values.Point(1, {2}),
    "box": values.Box(values.Frozen("n", b"x"), [values.Colour.RED]),
    "model": values.Model(a={1: 2}, more=float("inf")),
    "tag": {"$tfx": ["set", [1]]},
    "nan": [float("nan"), float("-inf")],
    "surrogates": {"\ud83d\ude00": "\ud83d\ude00", "\U0001f600": ["\U0001f600", "\ude00\ud83d"]},
    "array": values.np.arange(4).reshape(2, 2),
}


@pytest.fixture(scope="module", params=STORES, ids=lambda store: store.name)
def backend(request, tmp_path_factory):
    lacks = request.param.lacks()
    if lacks:
        pytest.skip(lacks)
    with backends.backend(request.param.settings(tmp_path_factory.mktemp("values"))) as made:
        with contextlib.closing(made.get_connection()) as connection:
            connection.upgrade()
        yield made


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=values.VALUES)
def test_a_value_comes_back_as_it_was(backend, value):
    book, flow = models.LogBook("book"), models.FlowDetail("flow", models.make_uuid())
    step, again = models.TaskDetail("step"), models.RetryDetail("again")
    step.results, step.revert_results, step.state = value, value, "SUCCESS"
    again.results = [(value, {})]
    for detail in (book, flow, step, again):
        detail.meta = {"value": value}
    for detail in (step, again):
        flow.add(detail)
    book.add(flow)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
        (found,) = connection.get_logbook(book.uuid)
        meta = connection.get_logbook(book.uuid).meta
        connection.destroy_logbook(book.uuid)
    details = {detail.name: detail for detail in found}
    assert values.same(details["step"].results, value)
    assert values.same(details["step"].revert_results, value)
    assert values.same(details["again"].results, [(value, {})])
    for kept in (meta, found.meta, details["step"].meta, details["again"].meta):
        assert values.same(kept, {"value": value})


class Give(task.Task):
    """Returns what it gets, and fails the first time."""

    def __init__(self, name, fails=(), **kwargs):
        super().__init__(name, **kwargs)
        self.fails = list(fails)

    def execute(self, value):
        if self.fails:
            raise self.fails.pop()
        return value


@pytest.mark.parametrize("name", SAMPLES)
def test_a_value_goes_through_a_run_and_its_resume(backend, name):
    """Given to the flow, a value of a retry, a result that a further run reads."""
    value = SAMPLES[name]
    book = models.LogBook("book")

    def load(detail=None, fails=()):
        controller = retry.ParameterizedForEach("again", provides="of_retry", rebind=["all"])
        flow = linear_flow.Flow("flow", retry=controller).add(
            Give("first", provides="copied"),
            Give("second", fails, rebind=["copied"], provides="again_copied"),
            Give("third", rebind=["of_retry"], provides="last"),
        )
        return engines.load(flow, book=book, flow_detail=detail, backend=backend, store=store)

    store = {"value": value, "all": [[value, 1], [value, 2]]}
    engine = load(fails=[ValueError("once")])
    engine.run()
    with contextlib.closing(backend.get_connection()) as connection:
        record = connection.get_flow_details(engine.storage.flow_uuid)
    store = {}
    further = load(record)
    for each in (engine, further):
        each.compile()
        each.prepare()
        fetched = each.storage.fetch_all()
        for key in ("value", "copied", "again_copied"):
            assert values.same(fetched[key], value)
        assert values.same(fetched["last"], [value, 2])
        assert values.same([one for one, _ in each.storage.get_retry_history("again")], [[value, 1], [value, 2]])
