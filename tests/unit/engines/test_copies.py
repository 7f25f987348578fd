"""Flows and tasks are pickled and copied before a run and after one, and run again."""

from __future__ import annotations

import copy
import pickle

import pytest

from taskflowx import engines, retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow


class Begin(task.Task):
    default_provides = "x"

    def execute(self, seed=1):
        self.update_progress(0.5)
        return seed + 1


class Double(task.Task):
    def __init__(self, name, inject=None):
        super().__init__(name, provides=f"twice {name}", inject=inject)
        self.seen = []

    def execute(self, x):
        self.seen.append(x)
        return x * 2

    def revert(self, **kwargs):
        self.seen.clear()


class Fail(task.Task):
    def execute(self):
        raise ValueError("v")


def hear(event_type, details):
    """Stands for a listener that can be pickled."""


def always(history):
    return True


def begin():
    made = Begin("begin")
    made.notifier.register(task.EVENT_UPDATE_PROGRESS, hear)
    return made


def linear():
    return linear_flow.Flow("f", retry.Times(2)).add(begin(), Double("a"))


def unordered():
    return unordered_flow.Flow("f").add(begin(), Double("a", inject={"x": 5}))


def graph():
    made = graph_flow.Flow("f").add(begin(), first := Double("a"), second := Double("b", inject={"x": 5}))
    return made.link(first, second, decider=always)


def nested():
    inner = unordered_flow.Flow("inner", retry.Times(1)).add(Double("b"))
    return linear_flow.Flow("f").add(begin(), graph_flow.Flow("middle").add(Double("a")), inner)


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


MADE = pytest.mark.parametrize("make", [linear, unordered, graph, nested])
TAKEN = pytest.mark.parametrize("take", [through_pickle, copy.deepcopy, copy.copy])


def everything_of(flow):
    return str(flow), str(flow.retry), [str(member) for member in flow], flow.requires, flow.provides


@MADE
@TAKEN
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_a_copy_of_a_flow_runs_like_the_first(make, take, ran):
    flow = make()
    expected = engines.run(make())
    if ran:
        engines.run(flow)
    other = take(flow)
    assert everything_of(other) == everything_of(flow)
    assert engines.run(other) == expected
    [listener] = [one for _, ones in next(iter(other)).notifier.listeners_iter() for one in ones]
    assert listener.callback is hear


@TAKEN
def test_a_flow_that_has_failed_can_be_copied(take):
    flow = linear_flow.Flow("f").add(begin(), Double("a"), Fail("fail"))
    with pytest.raises(ValueError, match="v"):
        engines.run(flow)
    with pytest.raises(ValueError, match="v"):
        engines.run(take(flow))


@pytest.mark.parametrize("take", [through_pickle, copy.deepcopy])
def test_a_copy_of_a_task_shares_nothing_that_changes(take):
    first = Double("a", inject={"x": [1]})
    engines.run(linear_flow.Flow("f").add(first))
    other = take(first)
    engines.run(linear_flow.Flow("f").add(other))
    assert (first.seen, other.seen) == ([[1]], [[1], [1]])
    assert other.inject["x"] is not first.inject["x"]


class Changed(retry.Times):
    """Uses what subclasses of TaskFlow's retries use."""

    def change(self, attempts):
        self._attempts = attempts

    def shown(self):
        return self._attempts, self._revert_action, self.name


def test_what_subclasses_use_of_a_retry_survives():
    times = Changed(3, "t", revert_all=True)
    times.change(5)
    for other in (through_pickle(times), copy.deepcopy(times), copy.copy(times)):
        assert other.shown() == (5, retry.REVERT_ALL, "t")
