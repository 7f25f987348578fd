"""Flows in expressions and by patterns."""

from __future__ import annotations

from typing import assert_type

import taskflowx
from taskflowx import Flow, GraphFlow, LinearFlow, Retry, Task, UnorderedFlow, as_task, graph, linear, retry, unordered
from taskflowx.deciders import Depth
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.retry import Decision, History


class Step(Task[int]):
    def execute(self) -> int:
        return 1


@as_task
def size() -> int:
    return 3


@as_task
def large(size: int) -> str:
    return "large"


def plain(size: int) -> None:
    pass


def is_large(size: int) -> bool:
    return size > 3


def decide(history: dict[str, int]) -> bool:
    return history["size"] > 3


class Patient(Retry):
    """Tries again as long as there are few failures."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name, provides="attempt_number")
        self.limit = limit

    def on_failure(self, history: History, *args: object, **kwargs: object) -> Decision:
        if history.caused_by(OSError) and len(history) < self.limit:
            return retry.RETRY
        return retry.REVERT

    def execute(self, history: History, *args: object, **kwargs: object) -> int:
        return len(history)


a, b, c = Step("a"), Step("b"), Step("c")
assert_type(linear("f", a, b, plain, (a, b)), LinearFlow)
assert_type(unordered("f", a, [b, c]), UnorderedFlow)
assert_type(graph("f", size, large, retry=Patient("p", 3)), GraphFlow)
assert_type(a >> b, LinearFlow)
assert_type(a >> b >> (c, size) >> large, LinearFlow)
assert_type((a, b) >> c, LinearFlow)
assert_type(a >> plain, LinearFlow)
assert_type(linear("f", a) >> b, LinearFlow)
assert_type(a | retry.Times(3), Flow)
assert_type(linear("f", a) | Patient("p", 2), Flow)

flow = graph_flow.Flow("g", retry=retry.Times(3, "r", provides="n")).add(size, large, a)
assert_type(flow, graph_flow.Flow)
assert_type(flow.link(size, a, when=is_large), graph_flow.Flow)
flow.link(size, large, decider=decide)
flow.link(size, large, decider=lambda history: history["size"] > 3, decider_depth=Depth.FLOW)
flow.link(large, a, decider_depth=None)
assert_type(flow.name, str)
assert_type(flow.retry, Retry | None)
assert_type(flow.requires, frozenset[str])
assert_type(linear_flow.Flow("l").add(a, unordered_flow.Flow("u").add(b, c)), linear_flow.Flow)
targeted = graph_flow.TargetedFlow("t").add(size, large)
targeted.set_target(large)
retry.ForEach([1, 2, 3], "each", provides="value", delay=1, give_up_on=lambda failure: failure.check(KeyError))
retry.ParameterizedForEach("paced", deadline=60, retry_on=OSError)
decision: Decision = retry.again(after=3)
linear("limited", size, timeout=5, strict_timeout=True)
graph_flow.Flow("limited", timeout=0.5)
retry.ParameterizedForEach("given", rebind={"values": "choices"}, provides="value")
print(flow.picture().svg, taskflowx.__version__)
