"""A parallel execution engine with pluggable executors: tasks, flows, retries and ordered rollback.

The everyday names are here, and are imported when they are first used. The modules have TaskFlow's names: `task`,
`retry`, `engines`, `patterns`, `persistence`, `listeners` ...
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it as true; `typing` would take longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from taskflowx import (
        atom as atom,
        deciders as deciders,
        engines as engines,
        exceptions as exceptions,
        executors as executors,
        flow as flow,
        listeners as listeners,
        patterns as patterns,
        persistence as persistence,
        retry as retry,
        runs as runs,
        states as states,
        storage as storage,
        task as task,
        testing as testing,
        types as types,
    )
    from taskflowx.compose import graph, linear, unordered
    from taskflowx.engines.options import EngineOptions
    from taskflowx.exceptions import WrappedFailure
    from taskflowx.executors.stopping import checkpoint
    from taskflowx.flow import Flow
    from taskflowx.front import arun, load, run
    from taskflowx.functions import FunctionTask, as_task
    from taskflowx.patterns.graph_flow import Flow as GraphFlow
    from taskflowx.patterns.linear_flow import Flow as LinearFlow
    from taskflowx.patterns.unordered_flow import Flow as UnorderedFlow
    from taskflowx.retry import Retry
    from taskflowx.runs.result import RunResult
    from taskflowx.task import Task
    from taskflowx.types.failure import Failure

__version__ = "0.1.0"

_PLACES = {
    "EngineOptions": "engines.options",
    "Failure": "types.failure",
    "Flow": "flow",
    "FunctionTask": "functions",
    "GraphFlow": "patterns.graph_flow:Flow",
    "LinearFlow": "patterns.linear_flow:Flow",
    "Retry": "retry",
    "RunResult": "runs.result",
    "Task": "task",
    "UnorderedFlow": "patterns.unordered_flow:Flow",
    "WrappedFailure": "exceptions",
    "arun": "front",
    "as_task": "functions",
    "checkpoint": "executors.stopping",
    "graph": "compose",
    "linear": "compose",
    "load": "front",
    "run": "front",
    "unordered": "compose",
}
#: modules that are imported when they are asked for as attributes
_MODULES = (
    *("atom", "deciders", "engines", "exceptions", "executors", "flow", "listeners", "patterns", "persistence"),
    *("retry", "runs", "states", "storage", "task", "testing", "types"),
)

__all__ = [
    "EngineOptions",
    "Failure",
    "Flow",
    "FunctionTask",
    "GraphFlow",
    "LinearFlow",
    "Retry",
    "RunResult",
    "Task",
    "UnorderedFlow",
    "WrappedFailure",
    "arun",
    "as_task",
    "checkpoint",
    "graph",
    "linear",
    "load",
    "run",
    "unordered",
]


if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        import importlib

        place = _PLACES.get(name)
        if place is not None:
            module, _, of_module = place.partition(":")
            found = getattr(importlib.import_module(f"{__name__}.{module}"), of_module or name)
        elif name in _MODULES:
            found = importlib.import_module(f"{__name__}.{name}")
        else:
            msg = f"module '{__name__}' has no attribute '{name}'"
            raise AttributeError(msg)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES, *_MODULES})
