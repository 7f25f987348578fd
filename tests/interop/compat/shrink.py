"""Makes a case smaller while something stays true of it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.interop.compat import flows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: how many smaller cases are tried in all
TRIES = 400


def shrink(case: flows.Case, holds: Callable[[flows.Case], bool]) -> flows.Case:
    """Return the smallest case that is found for which `holds` is true, which it is for the given one."""
    left = TRIES
    smaller = True
    while smaller:
        smaller = False
        for candidate in smaller_cases(case):
            if not left:
                return case
            left -= 1
            if holds(candidate):
                case, smaller = candidate, True
                break
    return case


def smaller_cases(case: flows.Case) -> Iterator[flows.Case]:
    """Iterate over cases with one thing less, large things first."""
    for member in case.root.members:
        if isinstance(member, flows.Group):
            yield replace(case, root=member)
    for root in smaller_groups(case.root):
        yield replace(case, root=root)
    for n in range(len(case.legs)):
        yield replace(case, legs=(*case.legs[:n], *case.legs[n + 1 :]))
    for name in ("later", "atom_args", "options", "store"):
        for n in range(len(getattr(case, name))):
            values = getattr(case, name)
            yield replace(case, **{name: (*values[:n], *values[n + 1 :])})
    yield from _plainer(case, ("again", "fresh", "workers", "pool", "how", "removed"))


def smaller_groups(group: flows.Group) -> Iterator[flows.Group]:
    """Iterate over flows with one thing less."""
    for n in range(len(group.members)):
        yield without_member(group, n)
    if group.retry is not None:
        yield replace(group, retry=None)
    for n, link in enumerate(group.links):
        yield replace(group, links=(*group.links[:n], *group.links[n + 1 :]))
        if link.verdict is not None:
            changed = replace(link, verdict=None, depth=None)
            yield replace(group, links=(*group.links[:n], changed, *group.links[n + 1 :]))
    for n, member in enumerate(group.members):
        if isinstance(member, flows.Group) and len(member.members) == 1 and member.retry is None:
            yield _with_member(group, n, member.members[0])
        inner = smaller_groups(member) if isinstance(member, flows.Group) else smaller_steps(member)
        for changed in inner:
            yield _with_member(group, n, changed)
    if group.kind != flows.LINEAR and not group.links:
        yield replace(group, kind=flows.LINEAR, order=tuple(range(len(group.members))))
    yield from _plainer(group, ("together", "resolve"))
    if group.retry is not None:
        names = ("fails", "stuck", "needs", "priority", "watched", "revert_all", "gives")
        for retry in _plainer(group.retry, names):
            yield replace(group, retry=retry)


def _with_member(group: flows.Group, place: int, member: Any) -> flows.Group:
    return replace(group, members=(*group.members[:place], member, *group.members[place + 1 :]))


def without_member(group: flows.Group, place: int) -> flows.Group:
    """Return a flow less one of its members."""

    def moved(n: int) -> int:
        return n - (n > place)

    links = tuple(
        replace(link, u=moved(link.u), v=moved(link.v)) for link in group.links if place not in (link.u, link.v)
    )
    order = tuple(moved(n) for n in group.order if n != place)
    members = (*group.members[:place], *group.members[place + 1 :])
    return replace(group, members=members, links=links, order=order)


def smaller_steps(step: flows.Step) -> Iterator[flows.Step]:
    """Iterate over tasks with one thing less."""
    names = (
        "fails",
        "stuck",
        "inject",
        "parts",
        "priority",
        "told",
        "ignore",
        "extract",
        "undo_rebind",
        "undo_requires",
    )
    yield from _plainer(step, (*names, "undo", "gives"))
    if step.do != flows.Takes():
        yield replace(step, do=flows.Takes(), undo=flows.Takes(more=True), rebind=None, requires=None, undo_rebind=None)
    for n in range(len(step.do.needs)):
        if step.rebind is None:
            yield replace(step, do=replace(step.do, needs=(*step.do.needs[:n], *step.do.needs[n + 1 :])))


def _plainer(value: Any, names: tuple[str, ...]) -> Iterator[Any]:
    """Iterate over copies of a dataclass with one field at its default."""
    defaults = {field.name: field.default for field in fields(value)}
    for name in names:
        if getattr(value, name) != defaults[name]:
            yield replace(value, **{name: defaults[name]})


def source(value: Any, indent: int = 0) -> str:
    """Return a case, or a part of one, as Python, less what is as by default."""
    if isinstance(value, tuple) and any(isinstance(part, (flows.Group, flows.Step)) for part in value):
        space = " " * (indent + 4)
        return "(\n" + "".join(f"{space}{source(part, indent + 4)},\n" for part in value) + " " * indent + ")"
    if isinstance(value, tuple):
        return "(" + "".join(f"{source(part, indent)}, " for part in value).rstrip() + ")"
    if not is_dataclass(value):
        return repr(value)
    given = [
        f"{field.name}={source(getattr(value, field.name), indent)}"
        for field in fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(given)})"
