"""What the tasks of a plan want done about calls of which nobody knows whether they have had their effect.

`declare` reads it from the settings of the tasks when the flow is compiled; tasks that want what everybody gets, the
call made again, are not among these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from taskflowx import controls, exceptions
from taskflowx._util import arguments
from taskflowx.atom import full_name

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan


class Policy(NamedTuple):
    """What is to be done about an unknown outcome of one task.

    :param mode: `controls.REPEAT`, `UNDO` or `ASK`
    :param finds: whether the task has a `find_outcome`, which is asked first
    :param awaits: whether that is a coroutine function
    """

    mode: str
    finds: bool
    awaits: bool


def declare(plan: Plan) -> None:
    """Put the policies of the tasks into `Plan.unknown`.

    :raises CompilationFailure: when nobody would await a `find_outcome`; names the task, and the way out
    """
    for i, settings in plan.controls.items():
        finds = settings.finds is not None
        if not finds and settings.on_unknown == controls.REPEAT:
            continue
        finder = getattr(type(plan.atoms[i]), controls.FINDER, None)
        awaits = finds and arguments.is_async(finder)
        if awaits and not plan.awaits:
            raise exceptions.CompilationFailure(
                f"{full_name(finder)} of task '{plan.atoms[i].name}' is a coroutine function, which only "
                "executor='asyncio' awaits; make it a plain function, which may call asyncio.run(...)"
            )
        plan.unknown[i] = Policy(settings.on_unknown, finds, awaits)
