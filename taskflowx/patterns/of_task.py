"""The flow that a task with a retry controller of its own means: a linear one of that task, under its controller.

Nobody adds it anywhere: the task stays the member of its flow. What compiles a flow, draws it or exports it asks for
this one in the place of the task.
"""

from __future__ import annotations

import operator
from typing import Any

from taskflowx import controls
from taskflowx.patterns import linear_flow

_settings = operator.attrgetter("_tfx_controls")


class Flow(linear_flow.Flow):
    """A linear flow of one task under the task's own controller, with the name of the task."""


def around(task: Any) -> Flow:
    """Return a flow of a task that has a controller of its own; each call makes another one."""
    settings = controls.own(task)
    assert settings is not None, "a task without a controller stands for itself"
    made = Flow(task.name, settings.retry)
    made._tfx_members[task] = None
    return made


def expanded(members: list[Any]) -> list[Any]:
    """Return members with a flow in the place of each task that has a controller of its own."""
    try:
        if not any(map(_settings, members)):
            return members
    except AttributeError:
        pass  # what is neither a task nor a flow is refused later
    return [member if controls.retry_of(member) is None else around(member) for member in members]
