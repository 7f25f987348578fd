"""Outcomes that worker processes send."""

import pickle

import pytest

from taskflowx import states, task
from taskflowx.executors import base
from taskflowx.executors.processes import outcomes
from taskflowx.types import failure


def test_a_failure_of_a_class_that_was_sent_along_is_no_result():
    """As from a process of which a task has removed the modules: its class is another one, of the same name."""
    cloudpickle = pytest.importorskip("cloudpickle")
    fail = failure.Failure.from_exception(ValueError("v"))
    told = fail.to_dict()

    class Sent:
        def to_dict(self):
            return told

    Sent.__name__ = Sent.__qualname__ = "Failure"
    Sent.__module__ = failure.__name__
    call = base.Call(0, task.FunctorTask(dict, name="a"), states.EXECUTE, {})
    body = cloudpickle.dumps(Sent())
    assert type(pickle.loads(body)) is not failure.Failure
    outcome = outcomes.outcome(call, body, -1)
    assert type(outcome) is failure.Failure
    assert outcome.matches(fail)
