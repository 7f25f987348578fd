"""taskflowx objects for a spec, and the world in which they act."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

from taskflowx import retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.types.failure import Failure
from tests.model import specs


class World:
    """What the calls of a run have done: a log of (verb, atom name, arguments), and who has been called how often."""

    def __init__(self, *, go_on: bool = False, awaited: bool = False) -> None:
        self.awaited = awaited  # whether hooks, deciders and retries are coroutine functions
        self.crashed = False  # then a revert may be given less than execute has returned
        self.go_on = go_on  # then a revert that is called again may find its inputs reverted
        self.log: list[tuple[str, str, Any]] = []
        self.calls: dict[tuple[str, str], int] = {}
        self.given: dict[str, dict[str, Any]] = {}  # atom name -> what its last execute was given
        self.results: dict[str, Any] = {}  # atom name -> what its last execute returned
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def count(self, verb: str, name: str) -> int:
        """Note one more call, and return how many there have been."""
        with self._lock:
            count = self.calls[verb, name] = self.calls.get((verb, name), 0) + 1
        return count


class Worker(task.Task):
    """The task of a `Job`.

    :param settings: further keywords of a task
    """

    def __init__(self, job: specs.Job, needs: tuple[str, ...], world: World, **settings: Any) -> None:
        super().__init__(job.name, provides=job.gives, requires=list(needs), **settings)
        self.priority = job.priority
        self._job = job
        self._world = world

    def execute(self, **given):
        job, world = self._job, self._world
        world.log.append(("execute", job.name, given))
        world.given[job.name] = given
        world.results.pop(job.name, None)
        if world.count("execute", job.name) <= job.interrupted:
            raise KeyboardInterrupt(job.name)
        result = world.results[job.name] = specs.result_of(job, given)
        return result

    def revert(self, result, flow_failures, **given):
        job, world = self._job, self._world
        world.log.append(("revert", job.name, given))
        if world.crashed:
            pass
        elif job.name in world.results:
            if result != world.results[job.name]:
                world.wrong.append(f"{job.name} returned {world.results[job.name]}, its revert was given {result}")
        elif not isinstance(result, Failure) and not job.interrupted:
            world.wrong.append(f"{job.name} failed, its revert was given {result}")
        if not flow_failures:
            world.wrong.append(f"{job.name} was reverted with no failure in the flow")
        calls = world.count("revert", job.name)
        if given != world.given.get(job.name) and (calls == 1 or not world.go_on) and not world.crashed:
            world.wrong.append(f"{job.name} was given {world.given.get(job.name)}, its revert {given}")
        if calls <= job.stuck:
            raise specs.Broken(f"revert of {job.name}")
        return f"undone, call {calls}"


def later(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that does as a method does, some turns of the loop later."""

    @functools.wraps(method)
    async def call(*args, **kwargs):
        for _ in range(len(repr(kwargs)) % 3):
            await asyncio.sleep(0)
        return method(*args, **kwargs)

    return call


@functools.cache
def _awaited(kind: Any) -> Any:
    """Return a subclass of which the methods are awaited: of a retry all of them, of a task the hooks."""
    hooks = ("pre_execute", "post_execute", "pre_revert", "post_revert")
    names = ("execute", "revert", "on_failure") if issubclass(kind, retry.Retry) else hooks
    own = [name for name in names if getattr(kind, name) is not getattr(retry.Retry, name, None) or name in hooks]
    return type(kind.__name__, (kind,), {name: later(getattr(kind, name)) for name in own})


class Custom(retry.Retry):
    """A retry with its decisions written down."""

    def __init__(self, again: specs.Again, world: World) -> None:
        super().__init__(again.name, provides=again.name, requires=list(again.needs))
        self._again = again
        self._world = world

    def execute(self, history, **given):
        self._world.log.append(("execute", self.name, given))
        return specs.attempt_of(self._again, len(history))

    def revert(self, history, flow_failures, **given):
        self._world.log.append(("revert", self.name, given))
        if self._world.count("revert", self.name) <= self._again.stuck:
            raise specs.Broken(f"revert of {self.name}")

    def on_failure(self, history, **given):
        decision = self._again.decide(len(history))
        if decision == "RAISE":
            raise specs.Broken(f"on_failure of {self.name}")
        if not history or not history[-1][1]:
            self._world.wrong.append(f"{self.name} was asked with no failure in its last attempt")
        return retry.Decision(decision)


def _make_retry(again: specs.Again, world: World) -> retry.Retry:
    common: dict[str, Any] = {"name": again.name, "provides": again.name, "requires": list(again.needs)}
    made: retry.Retry
    kind: Any = _awaited if world.awaited else lambda one: one
    if again.kind == specs.TIMES:
        made = kind(retry.Times)(again.attempts, revert_all=again.revert_all, **common)
    elif again.kind == specs.EACH:
        made = kind(retry.ForEach)(range(1, again.attempts + 1), revert_all=again.revert_all, **common)
    elif again.kind == specs.PARAMETER:
        made = kind(retry.ParameterizedForEach)(revert_all=again.revert_all, **common)
    elif again.kind == specs.REVERT:
        made = kind(retry.AlwaysRevert)(**common)
    elif again.kind == specs.REVERT_ALL:
        made = kind(retry.AlwaysRevertAll)(**common)
    else:
        made = kind(Custom)(again, world)
    made.priority = again.priority
    return made


_FLOWS = {specs.LINEAR: linear_flow.Flow, specs.UNORDERED: unordered_flow.Flow, specs.GRAPH: graph_flow.Flow}


def make_flow(shape: specs.Shape, world: World, make_worker: Any = None) -> Any:
    """Return the flow of a spec.

    :param make_worker: makes a task of its job, the names that it needs, and the world; a `Worker` by default
    """
    worker = _awaited(Worker) if world.awaited else Worker
    return _make(shape.spec.root, shape, world, make_worker or worker)


def _decide(verdict: Any, history: dict[str, Any]) -> Any:
    return specs.verdict_of(verdict, history)


def make_store(shape: specs.Shape) -> dict[str, Any]:
    """Return the values that are given with the flow."""
    return {**shape.spec.store, "values": [1, 2, 3]}


def _make(node: Any, shape: specs.Shape, world: World, make_worker: Any) -> Any:
    if isinstance(node, specs.Job):
        return make_worker(node, shape.needs[node.name], world)
    members = [_make(member, shape, world, make_worker) for member in node.members]
    flow = _FLOWS[node.kind](node.name, None if node.retry is None else _make_retry(node.retry, world))
    if node.kind != specs.GRAPH:
        return flow.add(*members)
    for place in node.order:
        flow.add(members[place])
    for link in node.links:
        verdict = link.verdict
        decider: Any = None
        if verdict is not None:
            decider = functools.partial(_decide, verdict)
            decider = later(decider) if world.awaited else decider
        flow.link(members[link.u], members[link.v], decider, link.depth)
    return flow
