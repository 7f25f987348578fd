"""The flows that are measured: tasks that do nothing, in a few shapes of any size.

Rows and children build them. A builder makes the tasks too, so its time is that of declaring a flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import engines, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.flow import Flow

WIDTH = 50
INPUTS = 3


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


def linear(atoms: int) -> Flow:
    """Return tasks that run one after another, with nothing passed on."""
    return linear_flow.Flow("linear").add(*[Step(f"atom-{i}") for i in range(atoms)])


def unordered(atoms: int) -> Flow:
    """Return tasks that do not depend on each other."""
    return unordered_flow.Flow("unordered").add(*[Step(f"atom-{i}") for i in range(atoms)])


def graph(atoms: int) -> Flow:
    """Return a chain with inferred links: each task but the first takes what the one before it provides."""
    names = [f"atom-{i}" for i in range(atoms)]
    tasks: list[Step] = [Step(names[0], provides=names[0])]
    tasks += [Relay(names[i], provides=names[i], rebind=[names[i - 1]]) for i in range(1, atoms)]
    return graph_flow.Flow("graph").add(*tasks)


def layers(atoms: int) -> Flow:
    """Return layers of 50 tasks; each task but those of the first takes three results of the one above."""
    names = [f"atom-{i}" for i in range(atoms)]
    tasks: list[Step] = [Step(name, provides=name) for name in names[:WIDTH]]
    for i in range(WIDTH, atoms):
        above = i - i % WIDTH - WIDTH
        inputs = [names[above + (i + k) % WIDTH] for k in range(INPUTS)]
        tasks.append(Join(names[i], provides=names[i], rebind=inputs))
    return graph_flow.Flow("layers").add(*tasks)


SHAPES: dict[str, Callable[[int], Flow]] = {
    "linear": linear,
    "unordered": unordered,
    "graph": graph,
    "layers": layers,
}


def with_end(flow: Flow, *, fails: bool) -> Flow:
    """Return a flow that runs another one and then one task more, which fails or does not."""
    return linear_flow.Flow("whole").add(flow, Failing("end") if fails else Step("end"))


def ready(flow: Flow, **options: Any) -> Any:
    """Return an engine that has only to be run."""
    engine = engines.load(flow, **options)
    engine.compile()
    engine.prepare()
    engine.validate()
    return engine
