"""From a flow to a `Plan`, once, in O(V + E) and without recursion. The engine does so before anything runs."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any

from taskflowx import controls, deciders, exceptions, flow, retry, task
from taskflowx._util import arguments
from taskflowx.atom import full_name
from taskflowx.engines import policies
from taskflowx.engines.builders import (
    Builder,
    LinearBuilder,
    UnorderedBuilder,
    add,
    check_member,
    check_methods,
    not_awaited,
)
from taskflowx.engines.plan import GRAPH, LINEAR, UNORDERED, FlowRange, Plan
from taskflowx.patterns import linear_flow, of_task, unordered_flow
from taskflowx.signature import HOOKS_WRAPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskflowx.engines.plan import Nodes, Vote
    from taskflowx.signature import Signature

_KINDS: dict[type | None, str] = {linear_flow.Flow: LINEAR, unordered_flow.Flow: UNORDERED}
_BUILDERS: dict[str, Callable[..., Builder]] = {
    LINEAR: LinearBuilder,
    UNORDERED: UnorderedBuilder,
}


def _builder_of(kind: str) -> Callable[..., Builder]:
    builder = _BUILDERS.get(kind)
    if builder is None:
        from taskflowx.engines.graph_builder import GraphBuilder  # flows of the other two patterns do without

        builder = _BUILDERS[kind] = GraphBuilder
    return builder


#: for so many names an error says what to do
_TOLD = 5

_name = operator.attrgetter("name")
_priority = operator.attrgetter("priority")
_signature = operator.attrgetter("_tfx_signature")


def compile_flow(root: Any, *, awaits: bool = False) -> Plan:
    """Compile a flow, or a single task.

    :param awaits: whether it is to run where coroutines are awaited
    :raises TypeError: when something in it is neither a task nor a flow
    :raises CompilationFailure: when a method that is to be called is a generator function, or a coroutine function that
        nobody would await
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
        _close(plan, plan.ranges[frame.home])
        if frames:
            frames[-1].closed(plan, frame.exits)
    _finish(plan)
    if plan.controlled:
        _take_controls(plan)
        policies.declare(plan)
    for lo, hi, *_ in plan.timeouts:  # when one of these begins is to be noted
        plan.plain[lo:hi] = [0] * (hi - lo)
    return plan


def _close(plan: Plan, span: FlowRange) -> None:
    """End the range of a flow."""
    span.hi = len(plan.atoms)
    seconds = span.flow._tfx_timeout
    if seconds is not None:
        first = next((i for i in range(span.lo, span.hi) if plan.atoms[i] is not None), span.hi)
        if first < span.hi:
            plan.timeouts.append((first, span.hi, seconds, span))


def _finish(plan: Plan) -> None:
    """Index the names, and work out what the scheduler asks of each atom over and over."""
    plan.degree = list(map(len, plan.pred))
    plan.fan_out = list(map(len, plan.succ))
    atoms: list[Any] = plan.atoms
    places: Sequence[int]
    if plan.barriers:
        places = [i for i, atom in enumerate(atoms) if atom is not None]
        atoms = [atoms[i] for i in places]
    else:
        places = range(len(atoms))
    plan.sources = list(itertools.filterfalse(plan.degree.__getitem__, places))
    try:
        names = plan.names = dict(zip(map(_name, atoms), places, strict=True))
    except TypeError:
        _check_kinds_of_names(plan)  # one that cannot be a key
        raise
    if set(map(type, names)) - {str}:
        _check_kinds_of_names(plan)
    _find_plain(plan, atoms, places)
    for i in plan.votes:
        plan.plain[i] = 0
        _look_at_deciders(plan, i)
    if len(names) != len(atoms):
        _check_names(plan)
    if any(map(_priority, atoms)):
        plan.rank = [(-_priority_of(atom) if atom is not None else 0, i) for i, atom in enumerate(plan.atoms)]


def _find_plain(plan: Plan, atoms: list[Any], places: Sequence[int]) -> None:
    """Find the tasks that the short path of the scheduler takes.

    :param places: the indices of the atoms
    """
    plain = plan.plain = [0] * len(plan.atoms)
    if not plan.barriers:
        plan.signature = _common_signature(atoms)
    alike = plan.signature is not None
    last, is_plain = None, False
    for i, atom in zip(places, atoms[:1] if alike else atoms, strict=not alike):
        signature = atom._tfx_signature
        if signature is not last:
            outputs = signature.outputs
            last, whole = signature, not outputs or (len(outputs) == 1 and outputs[0][1] is None)
            is_plain = whole and not signature.asynchronous & HOOKS_WRAPPED  # the long path looks at what hooks return
        if is_plain and isinstance(atom, task.Task):
            plain[i] = 1
    if alike:
        plan.plain = plain[:1] * len(atoms)


def _common_signature(atoms: list[Any]) -> Signature | None:
    """Return the signature of all atoms, if that is the same object and they are of one class; None otherwise."""
    signatures = map(_signature, atoms)
    first = next(signatures, None)
    if all(map(operator.is_, signatures, itertools.repeat(first))) and len(set(map(type, atoms))) == 1:
        return first
    return None


def _take_controls(plan: Plan) -> None:
    """Take note of the tasks with settings; no short path makes the calls of those with more than limits.

    :raises ValueError: when the settings of a task do not fit it
    """
    for i, atom in enumerate(plan.atoms):
        settings = None if atom is None else atom._tfx_controls
        if isinstance(settings, controls.Controls):
            controls.check_fit(atom, settings)
            controls.check_undoes(atom, settings)
            if controls.concerns_calls(settings):
                plan.controls[i] = settings
                if settings.timeout or settings.revert_timeout:
                    plan.times_calls = True
                if controls.concerns_calls(settings._replace(limits=())):
                    plan.plain[i] = 0


def _look_at_deciders(plan: Plan, i: int) -> None:
    """Refuse deciders that nobody would await, and note which are awaited, and which take values of others."""
    for vote in plan.votes[i]:
        asked = vote.decider
        if isinstance(asked, deciders.When):
            if asked.required:
                plan.whens.add(i)
            asked = asked.condition
        if arguments.is_async(asked):
            if not plan.awaits:
                raise not_awaited(
                    f"The decider before '{plan.atoms[i].name}' cannot be asked: {full_name(asked)}", plan
                )
            plan.awaits_before.add(i)


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
        _check_retry(plan, opened)
        span.retry = span.controller = add(plan, opened.retry, preds, home)
        if plan.awaits and arguments.is_async(getattr(type(opened.retry), "on_failure", None)):
            plan.awaits_after.add(span.retry)
        if votes:
            plan.votes[span.retry] = votes
        preds, votes = (span.retry,), ()
        if type(opened) is of_task.Flow:
            plan.around[home] = len(plan.atoms)
    frame = _builder_of(kind)(plan, opened, preds, votes, home)
    if len(preds) > 1 and frame.starting() > 1:
        frame.enter_by((add(plan, None, preds, home),))
    return frame


def _check_retry(plan: Plan, opened: flow.Flow) -> None:
    if not isinstance(opened.retry, retry.Retry):
        msg = f"The retry of flow {opened} must be a taskflowx.retry.Retry, not {opened.retry!r}"
        raise TypeError(msg)
    if type(opened.retry) not in plan.looked_at_retries:
        check_methods(plan, opened.retry, ("execute", "revert", "on_failure"))


def _check_kinds_of_names(plan: Plan) -> None:
    for atom in plan.atoms:
        if atom is not None:
            arguments.check_type(f"The name of {atom!r}", atom.name, str, "a str")


def _priority_of(atom: Any) -> Any:
    if atom.priority is not None:
        arguments.check_number(f"The priority of {atom}", atom.priority, "a number")
    return atom.priority or 0


def _check_names(plan: Plan) -> None:
    seen: dict[str, Any] = {}
    twice: dict[str, str] = {}
    for atom in plan.atoms:
        if atom is not None:
            if atom.name in seen:
                twice[atom.name] = _remedy(atom, seen[atom.name])
            seen[atom.name] = atom
    if twice:
        msg = f"Atoms with duplicate names found: {sorted(twice)}"
        remedies = "\n".join(twice[name] for name in sorted(twice)[:_TOLD])
        raise exceptions.Duplicate(f"{msg}\n{remedies}")


def _remedy(atom: Any, other: Any) -> str:
    """Return what to do about two atoms of one name, which may be one and the same."""
    if atom is other:
        return f"'{atom.name}' is one object in two places, and runs once: make a second one, with another name"
    kinds = " and a ".join("retry" if isinstance(one, retry.Retry) else "task" for one in (other, atom))
    who = f"a {kinds} are" if kinds.count("retry") == 1 else f"two {'tasks' if kinds[0] == 't' else 'retries'} are"
    named = f"{type(atom).__name__}(name='other')"
    if hasattr(atom, "named"):  # one that is made of a function
        named = f"{atom.name}.named('other')" if atom.name.isidentifier() else "as_task(name='other')(function)"
    return f"{who} named '{atom.name}': give one of them a name, such as {named}"
