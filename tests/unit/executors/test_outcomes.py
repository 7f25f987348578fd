"""Outcomes that worker processes send."""

import pickle

import pytest

from taskflowx import states, task
from taskflowx.executors import base
from taskflowx.executors.processes import outcomes
from taskflowx.types import failure


def sent_along(derived):
    """Return a failure as a process sends it of which a task has removed the modules: its class comes along."""
    told = failure.Failure.from_exception(ValueError("v")).to_dict()

    class Sent:
        _tfx_derived = set()

        def to_dict(self):
            return told

    Sent.__name__ = Sent.__qualname__ = "Failure"
    Sent.__module__ = failure.__name__
    return type("Derived", (Sent,), {})() if derived else Sent()


@pytest.mark.parametrize("derived", [False, True])
def test_a_failure_of_a_class_that_was_sent_along_is_no_result(derived):
    cloudpickle = pytest.importorskip("cloudpickle")
    call = base.Call(0, task.FunctorTask(dict, name="a"), states.EXECUTE, {})
    body = cloudpickle.dumps(sent_along(derived))
    assert not isinstance(pickle.loads(body), failure.Failure)
    outcome = outcomes.outcome(call, body, None)
    assert type(outcome) is failure.Failure
    assert outcome.matches(failure.Failure.from_exception(ValueError("v")))


@pytest.mark.parametrize("value", [None, 5, "text", [1], {"a": 1}, ValueError("v"), object, failure.Failure])
def test_other_values_stay_as_they_are(value):
    assert outcomes.recognized(value) is value


def test_a_failure_stays_as_it_is():
    fail = failure.Failure.from_exception(ValueError("v"))
    assert outcomes.recognized(fail) is fail
