"""The shape of a flow, kept with the record of a run that has an id, and how a changed flow differs from it.

A shape is plain data: what each atom provides and requires, the retry around it, and what follows it directly. Names
and versions are in the details of the atoms, so a flow too large for its shape to be kept is compared by these, and by
a digest of the rest.

What must stay true: a difference *matters* when it concerns an atom that has begun. What has not begun may change
freely.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states
from taskflowx.atom import version_text
from taskflowx.persistence.figures import Links
from taskflowx.record import migrations

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan
    from taskflowx.persistence.models import AtomDetail

#: the key of the shape in the metadata of a run with an id
KEY = "flow"
#: nodes of the largest flow of which the shape is kept whole, and so many of its links
LARGEST, _MOST_LINKS = 1000, 4000
#: so many differences are shown
_SHOWN = 20

_PROVIDES, _REQUIRES, _RETRY = "provides", "requires", "retry"


class Difference(NamedTuple):
    """How a flow differs from the one that its record was made with.

    :param lines: sentences, those that matter first
    :param matters: how many of them concern atoms that have begun
    """

    lines: list[str]
    matters: int

    def __str__(self) -> str:
        shown = self.lines[:_SHOWN]
        if len(self.lines) > _SHOWN:
            shown.append(f"and {len(self.lines) - _SHOWN} more")
        return "\n".join(f"  {line}" for line in shown)


def shape_of(plan: Plan) -> dict[str, Any]:
    """Return the shape of a flow as JSON data, or its `digest` where it is large.

    It has what `outline_of` returns, and as `facts` what each atom provides and requires, and the retry around it.
    """
    facts = {atom.name: _facts_of(plan, i) for i, atom in enumerate(plan.atoms) if atom is not None}
    shape = {**outline_of(plan), "facts": facts}
    if is_kept_whole(plan):
        return shape
    return {"digest": hashlib.sha256(json.dumps(shape).encode()).hexdigest(), "count": len(facts)}


def is_kept_whole(plan: Plan) -> bool:
    """Tell whether a flow is so small that its whole shape is kept."""
    return len(plan) <= LARGEST and sum(plan.fan_out) <= _MOST_LINKS


def outline_of(plan: Plan) -> dict[str, Any]:
    """Return what the record of a run is understood by without its flow.

    `atoms` are the names of the nodes, None for one that only joins links; `links` are the places of the nodes that
    follow each node directly; `flows` are the flows within the flow, the outer before the inner, each as [name, first
    place, place after the last]; `provides` has, for each name, the atoms that provide it, with the index or key in the
    result.
    """
    provides: dict[str, list[list[Any]]] = {}
    for atom in plan.atoms:
        for name, key in () if atom is None else atom._tfx_signature.outputs:
            provides.setdefault(name, []).append([atom.name, key])
    names = [atom and atom.name for atom in plan.atoms]
    flows = [
        [str(span.flow.name), span.lo, span.hi]
        for home, span in enumerate(plan.ranges)
        if span.parent >= 0 and home not in plan.around
    ]
    return {"atoms": names, "links": [list(after) for after in plan.succ], "flows": flows, "provides": provides}


def _facts_of(plan: Plan, i: int) -> dict[str, Any]:
    atom = plan.atoms[i]
    facts: dict[str, Any] = {_PROVIDES: sorted(map(str, atom.provides)), _REQUIRES: sorted(atom.requires)}
    controller = plan.controller(i)
    if controller >= 0:
        facts[_RETRY] = plan.atoms[controller].name
    return facts


def requires_in(shape: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the name of an atom -> the names of the values that it requires; empty of a large flow."""
    return {name: facts[_REQUIRES] for name, facts in shape.get("facts", {}).items()}


def difference(
    plan: Plan, kept: Iterable[AtomDetail], old: Mapping[str, Any] | None, new: Mapping[str, Any]
) -> Difference:
    """Say how a flow differs from the one that its record was made with.

    :param plan: the flow as it is now
    :param kept: the details on record
    :param old: the shape on record; None when it has none
    :param new: the shape of the flow as it is now
    """
    details = {detail.name: detail for detail in kept}
    begun = {name for name, detail in details.items() if detail.state not in states.NOT_BEGUN}
    matter: list[str] = []
    others: list[str] = []
    for name, line in _changes(plan, details, old or {}, new):
        (matter if name in begun else others).append(line)
    return Difference([*matter, *others], len(matter))


def _changes(
    plan: Plan, details: Mapping[str, AtomDetail], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str | None, str]]:
    """Yield the name of an atom, and a sentence about it."""
    for name, detail in details.items():
        if name not in plan.names:
            yield name, f"{detail.KIND} '{name}' ({detail.state}) is not in the flow any more"
    for name, i in plan.names.items():
        recorded = details.get(name)
        if recorded is None:
            yield None, f"'{name}' is new"
            continue
        version, had = version_text(plan.atoms[i].version), version_text(recorded.version)
        if recorded.version is not None and had != version:
            fits = had.split(".")[0] == version.split(".")[0] or migrations.migrates(plan.atoms[i])
            yield (None if fits else name), f"'{name}' has version {version}, and had {had}"
    if "facts" in old and "facts" in new:
        yield from _changes_of_facts(old, new)
    elif old and {**old} != {**new}:
        some = next((name for name, detail in details.items() if detail.state not in states.NOT_BEGUN), None)
        yield some, "what its atoms provide and require, their links, or their retries have changed"


def _changes_of_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    before, after = (Links.of_after(each["atoms"], each["links"]) for each in (old, new))
    for name, facts in new["facts"].items():
        was = old["facts"].get(name)
        if was is None:
            continue
        for what in (_PROVIDES, _REQUIRES):
            if was[what] != facts[what]:
                yield name, f"'{name}' {what} {_listed(facts[what])}, and did {_listed(was[what])}"
        if was.get(_RETRY) != facts.get(_RETRY):
            yield name, f"'{name}' is repeated by {_named(facts.get(_RETRY))}, and was by {_named(was.get(_RETRY))}"
        now, then = (sorted(links.before(name)) for links in (after, before))
        if now != then:
            yield name, f"'{name}' follows {_listed(now)}, and did {_listed(then)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _named(name: str | None) -> str:
    return "no retry" if name is None else f"'{name}'"
