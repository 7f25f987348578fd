"""From a flow to a `Plan`, once, in O(V + E) and without recursion. The engine does so before anything runs."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, flow, retry, task
from taskflowx._util import arguments
from taskflowx.engines.builders import Builder, LinearBuilder, UnorderedBuilder, add, check_member, check_methods
from taskflowx.engines.graph_builder import GraphBuilder
from taskflowx.engines.plan import GRAPH, LINEAR, UNORDERED, FlowRange, Plan
from taskflowx.patterns import linear_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskflowx.engines.plan import Nodes, Vote

_KINDS: dict[type | None, str] = {linear_flow.Flow: LINEAR, unordered_flow.Flow: UNORDERED}
_BUILDERS: dict[str, Callable[..., Builder]] = {
    LINEAR: LinearBuilder,
    UNORDERED: UnorderedBuilder,
    GRAPH: GraphBuilder,
}

_name = operator.attrgetter("name")
_priority = operator.attrgetter("priority")


def compile_flow(root: Any, *, awaits: bool = False) -> Plan:
    """Compile a flow, or a single task.

    :param awaits: whether it is to run where coroutines are awaited
    :raises TypeError: when something in it is neither a task nor a flow
    :raises CompilationFailure: when a method that is to be called is a coroutine function, and nobody would await it
    :raises Duplicate: when two atoms have the same name
    :raises DependencyFailure: when a flow contains itself
    """
    plan = Plan(root)
    plan.awaits = awaits
    if not isinstance(root, flow.Flow):
        check_member(plan, root)
        single = linear_flow.Flow(getattr(root, "name", "?"))
        single._tfx_members[root] = None
        root = single
    frames = [_open(plan, root, (), (), -1)]
    path = {id(root)}
    while frames:
        frame = frames[-1]
        member = frame.advance(plan)
        if member is not None:
            if id(member) in path:
                msg = f"Flow {member} contains itself"
                raise exceptions.DependencyFailure(msg)
            path.add(id(member))
            frames.append(_open(plan, member, frame.preds, frame.votes_on_entry(), frame.home))
            continue
        frames.pop()
        path.discard(id(frame.flow))
        plan.ranges[frame.home].hi = len(plan.atoms)
        if frames:
            frames[-1].closed(plan, frame.exits)
    _finish(plan)
    return plan


def _finish(plan: Plan) -> None:
    """Index the names, and work out what the scheduler asks of each atom over and over."""
    plan.degree = list(map(len, plan.pred))
    plan.fan_out = list(map(len, plan.succ))
    plan.sources = [i for i, degree in enumerate(plan.degree) if not degree and plan.atoms[i] is not None]
    atoms: list[Any] = plan.atoms
    plain = plan.plain = [0] * len(atoms)
    places: Sequence[int]
    if plan.barriers:
        places = [i for i, atom in enumerate(atoms) if atom is not None]
        atoms = [atoms[i] for i in places]
    else:
        places = range(len(atoms))
    try:
        names = plan.names = dict(zip(map(_name, atoms), places, strict=True))
    except TypeError:
        _check_kinds_of_names(plan)  # one that cannot be a key
        raise
    if set(map(type, names)) - {str}:
        _check_kinds_of_names(plan)
    ranked = any(map(_priority, atoms))
    last, is_plain = None, False
    for i, atom in zip(places, atoms, strict=True):
        signature = atom._tfx_signature
        if signature is not last:
            outputs = signature.outputs
            last, is_plain = signature, not outputs or (len(outputs) == 1 and outputs[0][1] is None)
        if is_plain and isinstance(atom, task.Task):
            plain[i] = 1
    for i in plan.votes:
        plain[i] = 0
    if len(names) != len(atoms):
        _check_names(plan)
    if ranked:
        plan.rank = [(-_priority_of(atom) if atom is not None else 0, i) for i, atom in enumerate(plan.atoms)]


def _open(plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], parent: int) -> Builder:
    """Begin a flow: its range, its retry, and the barrier before members of which many can start at once."""
    controller = plan.ranges[parent].controller if parent >= 0 else -1
    kind = _KINDS.get(opened._tfx_pattern, GRAPH) if flow.is_plain(opened) else GRAPH
    span = FlowRange(opened, kind, parent, len(plan.atoms), controller)
    if parent >= 0:
        # After Myers ("An applicative random-access stack", 1983): a jump takes the two before it together, when these
        # are of one length, and otherwise leads to the parent.
        around = plan.ranges[parent]
        span.depth, span.jump = around.depth + 1, parent
        if around.jump >= 0:
            further = plan.ranges[around.jump]
            if further.jump >= 0 and around.depth - further.depth == further.depth - plan.ranges[further.jump].depth:
                span.jump = further.jump
    home = len(plan.ranges)
    plan.ranges.append(span)
    if opened.retry is not None:
        if not isinstance(opened.retry, retry.Retry):
            msg = f"The retry of flow {opened} must be a taskflowx.retry.Retry, not {opened.retry!r}"
            raise TypeError(msg)
        if type(opened.retry) not in plan.looked_at_retries:
            check_methods(plan, opened.retry, ("execute", "revert", "on_failure"))
        span.retry = span.controller = add(plan, opened.retry, preds, home)
        if votes:
            plan.votes[span.retry] = votes
        preds, votes = (span.retry,), ()
    frame = _BUILDERS[kind](plan, opened, preds, votes, home)
    if len(preds) > 1 and frame.starting() > 1:
        frame.enter_by((add(plan, None, preds, home),))
    return frame


def _check_kinds_of_names(plan: Plan) -> None:
    for atom in plan.atoms:
        if atom is not None:
            arguments.check_type(f"The name of {atom!r}", atom.name, str, "a str")


def _priority_of(atom: Any) -> Any:
    if atom.priority is not None:
        arguments.check_number(f"The priority of {atom}", atom.priority, "a number")
    return atom.priority or 0


def _check_names(plan: Plan) -> None:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for atom in plan.atoms:
        if atom is not None:
            if atom.name in seen:
                twice[atom.name] = None
            seen.add(atom.name)
    if twice:
        msg = f"Atoms with duplicate names found: {sorted(twice)}"
        raise exceptions.Duplicate(msg)
