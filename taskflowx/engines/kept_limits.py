"""The check that time limits which are marked strict can be kept where the calls run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflowx import exceptions, signature, states
from taskflowx.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskflowx.engines.plan import Plan
    from taskflowx.executors.base import Executor


def check(plan: Plan, executor: Executor) -> None:
    """Refuse a strict limit of a call that the executor cannot stop.

    :raises CompilationFailure: names the task, the limit and the way out
    """
    if executor.stops == "kills":
        return
    for i, verb, whose in _strict(plan):
        task = plan.atoms[i]
        awaited = executor.kind == "greenthreads" or task._tfx_signature.asynchronous & signature.ASYNC_BIT[verb]
        if executor.stops == "cancels" and awaited:
            continue
        what = "" if verb == states.EXECUTE else "the revert of "
        raise exceptions.CompilationFailure(
            f"The time limit of {whose} is strict, and executor='{executor.kind}' cannot stop {what}task '{task.name}' "
            f"when it is over (stops={executor.stops!r}): use executor='processes', or 'asyncio' with an `async def`, "
            "or leave strict_timeout= away"
        )


def _strict(plan: Plan) -> Iterator[tuple[int, str, str]]:
    """Iterate over the calls with strict limits: the index, the verb, and whose limit it is."""
    for i, controls in plan.controls.items():
        if controls.strict_timeout:
            whose = f"task '{plan.atoms[i].name}'"
            if controls.timeout is not None:
                yield i, states.EXECUTE, whose
            if controls.revert_timeout is not None:
                yield i, states.REVERT, whose
    for lo, hi, _, span in plan.timeouts:
        if span.flow._tfx_strict_timeout:
            for i in range(lo, hi):
                if isinstance(plan.atoms[i], Task):
                    yield i, states.EXECUTE, f"flow '{span.flow.name}'"
