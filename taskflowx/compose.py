"""Flows in one expression: `linear("volume", create, attach)`, `create >> attach`, `flow | retry.Times(3)`.

All of it makes the flows of `taskflowx.patterns`; nothing here is known to engines.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from taskflowx import atom, controls, flow, functions, retry as retries, task
from taskflowx._util import reprs
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: what flows are made of here; a tuple or list stands for an unordered flow
    Member = flow.Member | Callable[..., Any] | tuple[Any, ...] | list[Any]


class Chain(linear_flow.Flow):
    """The flow that `>>` makes; a further `>>` makes a longer one, and `linear` takes its members for its own."""


def linear(
    name: str,
    *members: Member,
    retry: retries.Retry | None = None,
    timeout: float | None = None,
    strict_timeout: bool = False,
) -> linear_flow.Flow:
    """Return a flow whose members run one after another.

    :param name: its name
    :param members: tasks, flows, and functions, which become tasks as by `as_task`, and so do bound methods, partial
        functions and other objects that can be called; a tuple or list of them is an unordered flow
    :param retry: its retry controller
    :param timeout: seconds from the start of its first task until all of it has run
    :param strict_timeout: whether an engine that cannot stop a call at that limit refuses the flow
    :raises TypeError: when a member is none of these
    """
    _check_name("linear", name)
    flat = [one for member in members for one in (member if type(member) is Chain else (member,))]
    return linear_flow.Flow(name, retry, timeout, strict_timeout).add(*_members(flat, name))


def unordered(
    name: str,
    *members: Member,
    retry: retries.Retry | None = None,
    timeout: float | None = None,
    strict_timeout: bool = False,
) -> unordered_flow.Flow:
    """Return a flow whose members run in any order, or at once; see `linear`."""
    _check_name("unordered", name)
    return unordered_flow.Flow(name, retry, timeout, strict_timeout).add(*_members(members, name))


def graph(
    name: str,
    *members: Member,
    retry: retries.Retry | None = None,
    timeout: float | None = None,
    strict_timeout: bool = False,
) -> graph_flow.Flow:
    """Return a flow whose members run when their inputs are there; see `linear`."""
    _check_name("graph", name)
    return graph_flow.Flow(name, retry, timeout, strict_timeout).add(*_members(members, name))


def chain(before: Member, after: Member) -> linear_flow.Flow:
    """Return a linear flow of two members; the members of another such flow are its own."""
    try:
        parts = [one for side in (before, after) for one in (side if type(side) is Chain else (_member(side),))]
    except _NoMember as error:
        hint = ""
        if isinstance(before, retries.Retry):
            hint = f"; >> goes before |, so write (flow | {type(before).__name__}(...)) >> {_called(after)}"
        raise TypeError(f"{_called(before)} >> {_called(after)} makes no flow: {error}{hint}") from None
    return Chain(_joined(" >> ", parts)).add(*parts)


class _NoMember(TypeError):
    """What is no member of a flow, with advice."""


def _called(side: Any) -> str:
    """Return how one side of an operator is called."""
    if isinstance(side, (task.Task, flow.Flow)):
        return str(side.name)
    if isinstance(side, (tuple, list)):
        return f"({', '.join(map(_called, side))})"
    if isinstance(side, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_called, side)))}}}"
    return f"{type(side).__name__}(...)" if isinstance(side, atom.Atom) else reprs.of(side)


def _check_name(function: str, name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(
            f"{function} takes the name of the flow, and then its members, as in {function}('volume', create, attach): "
            f"the name cannot be {_called(name) if callable(name) or hasattr(name, 'name') else reprs.of(name)}"
        )


def _joined(between: str, parts: list[Any]) -> str:
    """Return the names of members as the name of their flow; of many, the first ones and the last one."""
    names: list[str] = []
    room = _LONGEST
    for part in parts:
        room -= len(part.name) + len(between)
        if room < 0 and names:
            return between.join([*names, "…", parts[-1].name])
        names.append(part.name)
    return between.join(names)


_LONGEST = 120


def under(inner: flow.Member, controller: retries.Retry) -> linear_flow.Flow:
    """Return a flow with one member, a task or flow, under a retry controller.

    :raises TypeError: when the controller is none
    """
    if not isinstance(controller, retries.Retry):
        raise TypeError(
            f"What stands after {inner} | must be a retry controller such as taskflowx.retry.Times(3), "
            f"not {controller!r} ({type(controller)})"
        )
    if controller.name is None or hasattr(controller, "_tfx_named_here"):
        if controller.name is not None:  # each flow that it stands behind has one with a name of its own
            controller = copy.copy(controller)
        around = flow.nested_flows(inner) if isinstance(inner, flow.Flow) else ()
        taken = {one.retry.name for one in around if one.retry is not None}
        for member in flow.atoms_of(inner):
            own = controls.retry_of(member)
            if own is not None:
                taken.add(own.name or f"{member.name}_retry")
        name, number = f"{inner.name}_retry", 1
        while name in taken:
            number += 1
            name = f"{inner.name}_retry_{number}"
        controller.name = name
        vars(controller)["_tfx_named_here"] = True
    return linear_flow.Flow(inner.name, controller).add(inner)


def _members(given: Iterable[Any], name: str) -> list[Any]:
    """Return tasks and flows for the members of a flow with a name."""
    try:
        return [_member(one) for one in given]
    except _NoMember as error:
        raise TypeError(f"Only tasks, flows and functions can be members of flow '{name}': {error}") from None


def _member(given: Any) -> Any:
    """Return a task or flow for what stands for one."""
    if isinstance(given, (task.Task, flow.Flow)):
        return given
    if isinstance(given, (tuple, list)):
        inside = [_member(one) for one in given]
        return unordered_flow.Flow(f"({_joined(', ', inside)})").add(*inside)
    if callable(given) and not isinstance(given, (type, atom.Atom)):
        return functions.FunctionTask(given)
    if hasattr(given, "requires") and hasattr(given, "provides") and not isinstance(given, (type, atom.Atom)):
        return given  # a mock that passes for a task
    raise _NoMember(f"{_called(given)} is neither a task nor a flow; {atom.remedy(given)}")
