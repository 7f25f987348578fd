"""Random flows that are left by one package, changed at random, and taken up by both of them from copies of one store.

`python -m tests.interop.changed COUNT FIRST` prints the seeds in which this package breaks a rule, or ends otherwise
than OpenStack TaskFlow where that keeps all rules; `... show SEED` prints one case.
"""

from __future__ import annotations

import logging
import random
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from tests.interop import judge, sides
from tests.model import changes, specs
from tests.model.test_changed_flows import drawn, first_spec


@dataclass
class Case:
    """A flow before and after its change, and what both packages made of the second from a record of the first."""

    seed: int
    before: specs.Spec
    after: specs.Spec
    left_by: str = ""
    changed: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, Any] = field(default_factory=dict)
    #: by package, the rules that it has broken
    wrong: dict[str, list[str]] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether the packages end otherwise, though TaskFlow keeps all rules, and that cannot be explained."""
        theirs, ours = self.ends["taskflow"], self.ends["taskflowx"]
        if self.wrong["taskflow"] or theirs == ours or theirs[0] == "FAILURE":  # it has not gone on
            return False
        intentions = {atom["intention"] for atom in self.record.values()}
        if "remove_retry" in self.changed and intentions & {"REVERT", "RETRY"}:
            return False  # here a failure that no retry controls any more undoes the whole flow
        return "IGNORE" not in intentions  # here what is new after an atom that was refused is left out, too

    def __str__(self) -> str:
        record = ", ".join(f"{name} {atom['state']}/{atom['intention']}" for name, atom in sorted(self.record.items()))
        lines = [f"seed {self.seed}, left by {self.left_by}, changed: {self.changed}", *drawn(self.before, self.after)]
        lines += [f"record: {record}"]
        for name, calls in self.calls.items():
            lines.append(f"{name}: {' '.join(calls)}; {self.ends.get(name)}")
        return "\n".join([*lines, *(f"{name}: {text}" for name, texts in self.wrong.items() for text in texts)])


def usual(spec: specs.Spec) -> specs.Spec:
    """Return the spec without what the packages treat in different ways.

    That are deciders and retries that raise, and retries for each of some values: TaskFlow does not know after a resume
    which values it has tried.
    """

    def changed(node: Any) -> Any:
        if isinstance(node, specs.Job):
            return node
        retry = node.retry
        if retry is not None:
            decisions = tuple("REVERT" if decision == "RAISE" else decision for decision in retry.decisions)
            kind = specs.TIMES if retry.kind in (specs.EACH, specs.PARAMETER) else retry.kind
            retry = replace(retry, kind=kind, decisions=decisions, fails=())
        links = tuple(
            replace(link, verdict="no" if link.verdict in ("raise", "odd") else link.verdict) for link in node.links
        )
        return replace(node, retry=retry, links=links, members=tuple(map(changed, node.members)))

    return replace(spec, root=changed(spec.root), defer_reverts=False)


def run_case(seed: int, stores: sides.Stores, theirs: sides.Peer, ours: sides.Peer) -> Case | None:
    """Run the case of a seed; None when the flow had been rolled back before it could be changed."""
    rng = random.Random(seed)
    spec = usual(first_spec(rng))
    case = Case(seed, spec, spec)
    place = stores.new()
    side = rng.choice((theirs, ours))
    case.left_by = side.package
    size = len(specs.Shape(spec).atoms)
    dies = rng.random() < 0.5
    order: dict[str, Any] = {"uuid": place.uuid, "effects": place.effects}
    stop = {"die": rng.randint(3, (5 if side is theirs else 2) * size + 4)} if dies else {"stop": rng.randint(1, size)}
    side.do("begin", place.settings, spec=spec, late=rng.random() < 0.5, **stop, **order)
    before = place.calls()
    record = theirs.do("read", place.settings, uuid=place.uuid)
    assert "atoms" in record, (seed, record)
    if record.get("state") not in (None, "PENDING", "RUNNING", "SUSPENDED", "SUCCESS"):
        return None
    case.record = {name: atom for name, atom in record["atoms"].items() if not name.startswith("_")}
    changer = changes.Changer(rng, spec)
    spec = usual(changer.change(rng.randint(1, 3)))
    case.changed = changer.made
    jobs = [atom.name for atom in specs.atoms_in(spec.root) if isinstance(atom, specs.Job)]
    waiting = [name for name in jobs if case.record.get(name, {"state": None})["state"] in (None, "PENDING")]
    if waiting and rng.random() < 0.5:
        spec = changes.failing(spec, rng.choice(waiting))
    case.after = spec
    kept = stores.kept(place)
    for one in (theirs, ours):
        stores.put_back(place, kept)
        answer = one.do("resume", place.settings, spec=spec, **order)
        calls = case.calls[one.package] = place.calls()[len(before) :]
        case.wrong[one.package] = judge.complaints_of_changed(spec, answer, before, calls)
        case.ends[one.package] = _end(spec, answer)
    stores.remove(place, kept)
    return case


def _end(spec: specs.Spec, answer: dict[str, Any]) -> Any:
    """Return the state of the flow and its tasks; of one that was rolled back, what stands nevertheless."""
    jobs = [atom.name for atom in specs.atoms_in(spec.root) if isinstance(atom, specs.Job)]
    now = {name: answer.get("atoms", {}).get(name, {}).get("state") for name in jobs}
    state = answer.get("state")
    return state, {name: at for name, at in now.items() if state != "REVERTED" or at == "SUCCESS"}


def main(arguments: list[str]) -> None:
    """Print the cases that fail, or one of them."""
    logging.disable(logging.CRITICAL)
    theirs, ours = sides.theirs(), sides.ours()
    with sides.quick_folder() as folder:
        stores = sides.Stores("dir", folder, theirs, ours)
        if arguments[:1] == ["show"]:
            print(run_case(int(arguments[1]), stores, theirs, ours))
        else:
            _count(arguments, stores, theirs, ours)
    theirs.close()
    ours.close()


def _count(arguments: list[str], stores: sides.Stores, theirs: sides.Peer, ours: sides.Peer) -> None:
    count, first = (int(arguments[n]) if len(arguments) > n else preset for n, preset in ((0, 100), (1, 0)))
    found: dict[str, list[int]] = {"ours is wrong": [], "TaskFlow is wrong": [], "ends differ": [], "ended": []}
    for seed in range(first, first + count):
        case = run_case(seed, stores, theirs, ours)
        if case is None:
            found["ended"].append(seed)
            continue
        for kind, holds in (
            ("ours is wrong", case.wrong["taskflowx"]),
            ("TaskFlow is wrong", case.wrong["taskflow"]),
            ("ends differ", case.differs),
        ):
            if holds:
                found[kind].append(seed)
    for kind, seeds in found.items():
        print(f"{len(seeds)} of {count} {kind}: {seeds[:20]}")


if __name__ == "__main__":
    main(sys.argv[1:])
