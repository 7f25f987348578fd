"""The flows that are measured: tasks that do nothing, in a few shapes of any size.

Rows and children build them. A builder makes the tasks too, so its time is that of declaring a flow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping  # an annotation that is evaluated
from typing import TYPE_CHECKING, Any

from benchmarks import graphs
from benchmarks.harness import clock
from taskflowx import engines, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.flow import Flow

DEPTH = 10  # how deep flows are nested
FANOUT = 2  # flows in a flow that has more flows in it


class Step(task.Task):
    """A task without inputs. The `revert` of all tasks here takes what it is offered, and does nothing."""

    def execute(self) -> int:
        """Return a number."""
        return 1

    def revert(self, result: Any, flow_failures: Any) -> None:
        """Undo nothing."""


class Relay(Step):
    """A task with one input."""

    def execute(self, value: int) -> int:  # type: ignore[override]
        """Hand the input on."""
        return value


class Join(Step):
    """A task with three inputs."""

    def execute(self, left: int, middle: int, right: int) -> int:  # type: ignore[override]
        """Hand one of the inputs on."""
        return left


class Failing(Step):
    """A task that fails."""

    def execute(self) -> int:
        """Fail.

        :raises RuntimeError: always
        """
        raise RuntimeError("this task always fails")


class Pair(Step):
    """A task with two inputs."""

    def execute(self, left: int, right: int) -> int:  # type: ignore[override]
        """Hand one of the inputs on."""
        return left


BY_INPUTS: tuple[type[Step], ...] = (Step, Relay, Pair, Join)


class Yes(Step):
    """A task whose result lets in what comes after it."""

    def execute(self) -> bool:
        """Agree."""
        return True


def steps(atoms: int) -> list[Step]:
    """Return tasks that neither take nor provide anything."""
    return [Step(f"atom-{i}") for i in range(atoms)]


def joined(graph: graphs.Graph) -> list[Step]:
    """Return tasks that take the results of others."""
    names = [f"atom-{i}" for i in range(len(graph))]
    return [
        BY_INPUTS[len(before)](name, provides=name, rebind=[names[i] for i in before])
        for name, before in zip(names, graph, strict=True)
    ]


def linear(atoms: int) -> Flow:
    """Return tasks that run one after another, with nothing passed on."""
    return flow_of("linear", steps(atoms))


def unordered(atoms: int) -> Flow:
    """Return tasks that do not depend on each other."""
    return flow_of("unordered", steps(atoms))


def tasks_of(shape: str, atoms: int) -> list[Step]:
    """Return the tasks of a flow of a shape that has no flows in it."""
    graph = _GRAPHS.get(shape)
    return steps(atoms) if graph is None else joined(graph(atoms))


def flow_of(shape: str, tasks: list[Step]) -> Flow:
    """Return a flow of tasks; which depend on each other, their inputs say."""
    pattern: type[Flow] = _PATTERNS.get(shape, graph_flow.Flow)
    return pattern(shape).add(*tasks)


def _of(shape: str) -> Callable[[int], Flow]:
    return lambda atoms: flow_of(shape, tasks_of(shape, atoms))


_PATTERNS: dict[str, type[Flow]] = {"linear": linear_flow.Flow, "unordered": unordered_flow.Flow}
_GRAPHS = {
    "graph": graphs.chain,
    "layers": graphs.layers,
    "tree": graphs.tree,
    "random": graphs.random,
    "diamonds": graphs.diamonds,
}


def nested(atoms: int) -> Flow:
    """Return the tasks of `linear` in flows nested ten deep, a few tasks in each of the innermost."""
    return _nest(steps(atoms), DEPTH, "all")


def _nest(tasks: list[Step], depth: int, name: str) -> Flow:
    flow = linear_flow.Flow(name)
    if depth == 1 or len(tasks) < FANOUT:
        return flow.add(*tasks)
    share = -(-len(tasks) // FANOUT)
    parts = [tasks[first : first + share] for first in range(0, len(tasks), share)]
    return flow.add(*[_nest(part, depth - 1, f"{name}.{number}") for number, part in enumerate(parts)])


def deciders(atoms: int) -> Flow:
    """Return a binary tree in which each task decides whether the two below it are let in; all are."""
    flow = graph_flow.Flow("deciders")
    tasks = [Yes(f"atom-{i}", provides=f"atom-{i}") for i in range(atoms)]
    flow.add(*tasks)
    for i in range(1, atoms):
        flow.link(tasks[(i - 1) // 2], tasks[i], decider=_all_agree)
    return flow


def _all_agree(history: dict[str, Any]) -> bool:
    return all(history.values())


class Shaky(task.Task):
    """A task that fails the first time it is called, or always succeeds.

    :param shaken: whether it fails
    """

    def __init__(self, name: str, shaken: bool) -> None:
        super().__init__(name)
        self.shaken = shaken

    def execute(self) -> None:
        """Fail once.

        :raises RuntimeError: the first time
        """
        if self.shaken:
            self.shaken = False
            raise RuntimeError("the first time, this task fails")

    def revert(self, result: Any, flow_failures: Any) -> None:
        """Undo nothing."""


def shaky(atoms: int, failures: int) -> Flow:
    """Return unordered tasks under one retry; the first of them fail in its first round."""
    tasks = [Shaky(f"atom-{i}", i < failures) for i in range(atoms)]
    return unordered_flow.Flow("shaky", retry=retry.Times(3, "again")).add(*tasks)


def with_end(flow: Flow, *, fails: bool) -> Flow:
    """Return a flow that runs another one and then one task more, which fails or does not."""
    return linear_flow.Flow("whole").add(flow, Failing("end") if fails else Step("end"))


def storm(atoms: int) -> Flow:
    """Return tasks that all fail once, each under a retry of its own."""
    flow = unordered_flow.Flow("storm")
    for i in range(atoms // 2):
        again = retry.Times(2, f"again-{i}")
        flow.add(linear_flow.Flow(f"part-{i}", retry=again).add(Shaky(f"atom-{i}", True)))
    return flow


def rollback(atoms: int) -> Flow:
    """Return a linear flow whose last task fails, so that all of it is undone."""
    return with_end(linear(atoms - 1), fails=True)


#: shapes that are nothing but tasks and what depends on what, and those that use more of an engine
PLAIN = (*_PATTERNS, *_GRAPHS)
SPECIAL: dict[str, Callable[[int], Flow]] = {
    "nested": nested,
    "deciders": deciders,
    "storm": storm,
    "rollback": rollback,
}
SHAPES: dict[str, Callable[[int], Flow]] = {**{shape: _of(shape) for shape in PLAIN}, **SPECIAL}


def linked(tasks: list[task.Task], graph: graphs.Graph) -> Flow:
    """Return a flow of tasks that take nothing from each other, in the order that a graph asks for."""
    flow = graph_flow.Flow("linked").add(*tasks)
    for node, before in enumerate(graph):
        for other in before:
            flow.link(tasks[other], tasks[node])
    return flow


def graph_of(shape: str, nodes: int) -> graphs.Graph:
    """Return what depends on what in a plain shape."""
    if shape == "unordered":
        return graphs.unordered(nodes)
    return _GRAPHS.get(shape, graphs.chain)(nodes)


def hear(event: str, details: dict[str, Any]) -> None:
    """Listen, and do nothing."""


class Typed(task.Task):
    """Takes and gives annotated values."""

    def execute(self, value: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """Give something back."""
        return {}


def annotated(atoms: int) -> Flow:
    """Return a chain of annotated tasks, each of which takes what the one before gives."""
    steps = [Typed(f"t{n}", provides=f"{n + 1}", rebind=[f"{n}"]) for n in range(atoms)]
    return linear_flow.Flow("annotated").add(*steps)


def ready(flow: Flow, **options: Any) -> Any:
    """Return an engine that has only to be run."""
    engine = engines.load(flow, **options)
    engine.compile()
    engine.prepare()
    engine.validate()
    return engine


def seconds(shape: str, atoms: int, **options: Any) -> float:
    """Return how long a run of a flow takes that is declared and prepared before; see that it ends as it should."""
    engine = ready(SHAPES[shape](atoms), **options)
    taken = clock(lambda: finish(engine))
    assert engine.storage.get_flow_state() == (states.REVERTED if shape == "rollback" else states.SUCCESS)
    return taken


def finish(engine: Any) -> None:
    """Run an engine to its end, also to the end of undoing all."""
    with contextlib.suppress(RuntimeError):  # what a failing task raises
        engine.run()
