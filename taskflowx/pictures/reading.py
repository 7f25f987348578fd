"""From a flow to boxes and links; what is too much for one picture is folded.

Flows are read level by level, the outermost first. The first level at which the picture would have too many atoms is
folded, and so is what is nested too deeply: each flow there is one box, with the numbers of its tasks. An outermost
flow that has too many members itself is shown by the first and the last of them, and by those that have failed or are
under way; the members between these are counted.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from taskflowx import controls, deciders, flow as flows, retry as retries, states
from taskflowx.patterns import linear_flow, of_task, unordered_flow
from taskflowx.pictures import model, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Look = Callable[[Any], model.Status | None]

#: so many flows may be around an atom that is shown
DEEPEST = 10
#: of a flow with too many members these parts of the number beyond which it is folded are shown, and at least so many
#: members: the first, and the last
PARTS, FEWEST = (15, 30), (3, 1)
#: and so many of those that ask for attention
NOTABLE = 12
_NOTABLE = frozenset(
    (states.FAILURE, states.REVERT_FAILURE, states.RUNNING, states.REVERTING, states.RETRYING),
)
_KINDS: dict[Any, str] = {linear_flow.Flow: model.LINEAR, unordered_flow.Flow: model.UNORDERED}


def unknown(_: Any) -> None:
    """Know nothing about an atom."""


def read(root: Any, fold: int, look: Look = unknown, state: str | None = None) -> model.Box:
    """Return what is to be drawn of a flow, or of a single task.

    :param fold: the number of atoms beyond which flows are folded
    :param look: returns what is known about an atom
    :param state: the state of the outermost flow, if it is known
    :raises DependencyFailure: when a flow contains itself
    """
    if controls.retry_of(root) is not None:
        root = of_task.around(root)
    if not isinstance(root, flows.Flow):
        return _atom(model.TASK, root, look(root))
    top = _open(root, state)
    level = [(root, top)]
    atoms = spans = 0
    for depth in itertools.count():
        inside = [list(flows.members_of(current)) for current, _ in level]
        shown = inside if depth else [_shorten(inside[0], fold, look)]
        spans += len(level)
        atoms += sum(not isinstance(member, flows.Flow) for members in shown for member in members)
        if depth and (max(atoms, spans) > fold or depth >= DEEPEST):
            for current, box in level:
                _close(box, [current], look)
            return top
        following: list[tuple[flows.Flow, model.Box]] = []
        for (current, box), every, some in zip(level, inside, shown, strict=True):
            following += _fill(current, box, every, some, look)
        if not following:
            return top
        level = following
    raise AssertionError  # never: a level is the last one, or is followed by a smaller depth


def _open(opened: flows.Flow, state: str | None = None) -> model.Box:
    kind = _KINDS.get(opened._tfx_pattern, model.GRAPH) if flows.is_plain(opened) else model.GRAPH
    about = f"{kind} · {wording.state(state)}" if state else kind
    tip = f"{wording.legal(opened.name)}\n{about}"
    return model.Box(kind, opened.name, [wording.one_line(opened.name), about], state=state or "", tip=tip)


def _close(box: model.Box, inside: Iterable[Any], look: Look) -> None:
    """Make a box that stands for all that is in some members.

    Its first line is its name.
    """
    tasks, by_state, failed = _count(inside, look)
    told = wording.counts(tasks, by_state)
    kind = [box.kind] if box.kind in model.FLOWS else []
    box.lines = [box.lines[0], " · ".join([*kind, told[0]]), *told[1:]]
    in_full = f"{told[0]}: {', '.join(told[1:])}" if by_state else told[0]
    box.tip = "\n".join([wording.legal(box.name), *kind, in_full])
    box.kind = model.FOLDED if kind else box.kind
    box.state = wording.worst(by_state)
    if failed is not None:
        box.why = wording.one_line(failed)
        box.tip += f"\n{box.why}"


def _count(inside: Iterable[Any], look: Look) -> tuple[int, Counter[str], str | None]:
    """Return the number of tasks in some members, how many of them are in each state, and a task that has failed."""
    tasks, by_state, failed = 0, Counter[str](), None
    for member in inside:
        nested = flows.nested_flows(member) if isinstance(member, flows.Flow) else ()
        rows = [flows.members_of(each) for each in nested] if nested else [(member,)]
        for task in itertools.chain.from_iterable(rows):
            if not isinstance(task, flows.Flow):
                tasks += 1
                status = look(task)
                if status is not None and status.state is not None:
                    by_state[status.state] += 1
                    if status.failure is not None and failed is None:
                        failed = f"{task.name}: {wording.failure_line(status.failure)}"
    return tasks, by_state, failed


def _shorten(members: list[Any], fold: int, look: Look) -> list[Any]:
    """Return those of the members of the outermost flow that are shown: all of them, unless they are too many."""
    first, last = (max(fold // part, least) for part, least in zip(PARTS, FEWEST, strict=True))
    if len(members) <= max(fold, first + last + 1):
        return members
    notable = (
        place
        for place, member in enumerate(members)
        if not isinstance(member, flows.Flow) and _is_notable(look(member))
    )
    places = {*range(first), *range(len(members) - last, len(members)), *itertools.islice(notable, NOTABLE)}
    return [members[place] for place in sorted(places)]


def _is_notable(status: model.Status | None) -> bool:
    return status is not None and (status.state in _NOTABLE or status.failure is not None)


def _fill(
    current: flows.Flow, box: model.Box, every: list[Any], shown: list[Any], look: Look
) -> list[tuple[flows.Flow, model.Box]]:
    """Put the members of a flow and their links into its box; returns the nested flows that are shown."""
    if current.retry is not None:
        box.head = _atom(model.RETRY, current.retry, look(current.retry))
    nested: list[tuple[flows.Flow, model.Box]] = []
    place: dict[Any, model.Box] = {}
    wanted, hidden = set(shown), list[Any]()
    for member in every:
        if member not in wanted:
            hidden.append(member)
            continue
        _hide(hidden, box, place, look)
        inner = member
        if type(current) is not of_task.Flow and controls.retry_of(member) is not None:
            inner = of_task.around(member)
        if isinstance(inner, flows.Flow):
            made = _open(inner)
            nested.append((inner, made))
        else:
            made = _atom(model.TASK, member, look(member))
        place[member] = made
        box.members.append(made)
    _hide(hidden, box, place, look)
    box.links = _linked(current, box, place)
    if not every:
        box.lines[1] += " · empty"
    return nested


def _hide(hidden: list[Any], box: model.Box, place: dict[Any, model.Box], look: Look) -> None:
    """Put one box in the place of consecutive members, and forget them."""
    if not hidden:
        return
    name = f"… {len(hidden):,} more …"
    gap = model.Box(model.GAP, name, [name])
    _close(gap, hidden, look)
    if gap.lines[1] == wording.counts(len(hidden), {})[0]:
        del gap.lines[1]  # the name says it
    place.update(dict.fromkeys(hidden, gap))
    box.members.append(gap)
    hidden.clear()


def _linked(current: flows.Flow, box: model.Box, place: dict[Any, model.Box]) -> list[model.Link]:
    """Return the links between the boxes of a flow."""
    if box.kind == model.LINEAR:
        return [model.Link(earlier, later) for earlier, later in itertools.pairwise(box.members)]
    if box.kind == model.UNORDERED:
        return []
    links: dict[tuple[int, int], model.Link] = {}
    for u, v, attributes in current.iter_links():
        source, target = place.get(u), place.get(v)
        if source is None or target is None or source is target:
            continue
        key = (id(source), id(target))
        link = links.get(key)
        if link is None:
            link = links[key] = model.Link(source, target)
        link.names.update(dict.fromkeys(sorted(attributes.get(flows.LINK_REASONS) or ())))
        decider = attributes.get(flows.LINK_DECIDER)
        if decider is not None:
            asked = decider.condition if isinstance(decider, deciders.When) else decider
            depth = attributes.get(flows.LINK_DECIDER_DEPTH)
            about = wording.condition_of(asked)
            link.deciders[id(asked), depth] = about if depth is None else f"{about} ({depth})"
    for link in links.values():
        link.label = wording.label_of(link)
    order = {id(member): number for number, member in enumerate(box.members)}
    return sorted(links.values(), key=lambda link: (order[id(link.source)], order[id(link.target)]))


def _atom(kind: str, atom: Any, status: model.Status | None) -> model.Box:
    name = str(atom.name)
    settings = atom._tfx_settings() if isinstance(atom, retries.Retry) else {}
    title = wording.title_of(atom, settings) if kind == model.RETRY else wording.one_line(name)
    lines, why = [title], ""
    tip = [wording.legal(name), type(atom).__qualname__ if kind == model.TASK else title]
    for verb, values in (("requires", atom.requires), ("provides", atom.provides)):
        if values:
            tip.append(f"{verb} {', '.join(sorted(map(str, values)))}")
    if status is not None and status.state is not None:
        lines.append(wording.status_line(status))
        tip.append(lines[-1])
        if status.failure is not None:
            why = wording.failure_line(status.failure)
            tip.append(why)
    state = status.state if status is not None else None
    box = model.Box(kind, name, lines, state=state or "", tip=wording.legal("\n".join(tip)))
    box.why = why
    return box
