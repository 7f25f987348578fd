"""What must be true of a run that was left by one process and taken up by another one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.interop.shapes import Choosy
from tests.model import oracle, specs

NO, MAYBE, YES = "does not stand", "may stand", "stands"
KNOWN = {"SUCCESS": YES, "FAILURE": MAYBE, "RUNNING": MAYBE, "REVERTING": MAYBE, "REVERT_FAILURE": MAYBE}
FITS = {
    "SUCCESS": ("SUCCESS", "IGNORE"),
    "REVERTED": ("SUCCESS", "IGNORE", "PENDING", "REVERTED"),
    "FAILURE": ("SUCCESS", "IGNORE", "PENDING", "REVERTED", "FAILURE", "REVERT_FAILURE"),
}


def complaints(
    spec: specs.Spec, answer: dict[str, Any], before: list[str], after: list[str], *, theirs: bool = False
) -> list[str]:
    """Return all that is wrong with a run that was taken up.

    :param answer: what the peer has said of the run
    :param before: the calls up to the moment in which the run was left
    :param after: the calls since then
    :param theirs: whether OpenStack TaskFlow has taken it up, which does not revert again what could not be reverted
    """
    if "before" not in answer:
        return [f"it could not be taken up: {answer}"]
    shape = specs.Shape(spec)
    wrong = _of_calls(shape, answer, after, changed=False)
    if theirs and any(atom.stuck for atom in shape.atoms.values()):
        return wrong
    return [*wrong, *_of_effects(shape, answer, [*before, *after]), *_of_end(shape, answer, theirs=theirs)]


def complaints_of_changed(spec: specs.Spec, answer: dict[str, Any], before: list[str], after: list[str]) -> list[str]:
    """Return all that is wrong with a run that was taken up in a flow that had been changed to this one."""
    if "before" not in answer:
        return [f"it could not be taken up: {answer}"]
    shape = specs.Shape(spec)
    state, was = answer["state"], answer["before"]["atoms"]
    if state not in FITS:
        return [f"the flow is {state}; {answer['raised']}"]
    now = {name: answer["atoms"].get(name, {}).get("state") for name in shape.atoms}
    wrong = [f"the flow is {state}, {name} is {at}" for name, at in now.items() if at not in FITS[state]]
    removed = {name for name in was.keys() - shape.atoms.keys() if not name.startswith("_")}
    wrong += [
        f"{name} is not in the flow, and its record has changed"
        for name in removed
        if answer["atoms"].get(name, {}).get("state") != was[name]["state"]
    ]
    calls = [call for call in before if call[1:] in shape.atoms]
    return [*wrong, *_of_calls(shape, answer, after, changed=True), *_of_effects(shape, answer, [*calls, *after])]


def _of_calls(shape: specs.Shape, answer: dict[str, Any], calls: list[str], *, changed: bool) -> list[str]:
    """Look at the calls since the run was taken up, knowing what was on record then.

    :param changed: whether something new may stand before what is done
    """
    record = {name: atom["state"] for name, atom in answer["before"]["atoms"].items()}
    stands = {name: KNOWN.get(record.get(name), NO) for name in shape.atoms}
    wrong = []
    for call in calls:
        sign, name = call[0], call[1:]
        if isinstance(shape.atoms[name], specs.Again):
            continue
        if sign == "+" and stands[name] == YES:
            wrong.append(f"{name} was executed, though it was done")
        if sign == "+":
            waiting = [b for b in shape.before[name] if isinstance(shape.atoms[b], specs.Job) and stands[b] != YES]
            wrong += [f"{name} was executed before {b}" for b in waiting if not _is_ignored(answer, b)]
        if sign == "-" and stands[name] == NO:
            wrong.append(f"{name} was undone, though it did not stand")
        after = [later for later in shape.after[name] if later in stands and stands[later] == YES]
        after = [later for later in after if isinstance(shape.atoms[later], specs.Job)]
        if after and (sign == "-" or not changed):
            wrong.append(f"{call} came while {after} stood")
        failed = sign == "-" and Counter(calls)[call] <= shape.atoms[name].stuck
        stands[name] = YES if sign == "+" else MAYBE if failed else NO
    return wrong


def _is_ignored(answer: dict[str, Any], name: str) -> bool:
    return "IGNORE" in (
        answer["atoms"].get(name, {}).get("state"),
        answer["before"]["atoms"].get(name, {}).get("state"),
    )


def _of_effects(shape: specs.Shape, answer: dict[str, Any], calls: list[str]) -> list[str]:
    """Compare what was called in both lives with what is on record in the end."""
    last = {call[1:]: call[0] for call in calls}
    wrong = []
    for name, atom in shape.atoms.items():
        if isinstance(atom, specs.Again):
            continue
        state, sign = answer["atoms"].get(name, {}).get("state"), last.get(name)
        if state == "SUCCESS" and sign != "+":
            wrong.append(f"{name} is SUCCESS, its effect does not stand: {sign}")
        if state in ("REVERTED", "PENDING", "IGNORE", None) and sign == "+":
            wrong.append(f"{name} is {state}, its effect stands")
    return wrong


def _of_end(shape: specs.Shape, answer: dict[str, Any], *, theirs: bool) -> list[str]:
    state, now = answer["state"], {name: answer["atoms"].get(name, {}) for name in shape.atoms}
    if state not in FITS:
        return [f"the flow is {state}; {answer['raised']}"]
    wrong = [
        f"the flow is {state}, {n} is {a.get('state')}" for n, a in now.items() if a.get("state") not in FITS[state]
    ]
    if any(atom.stuck for atom in shape.atoms.values()):
        return wrong
    want = oracle.predict(shape)
    expected = json.loads(json.dumps(want.standing))
    standing = {name: value_of(atom) for name, atom in now.items() if atom.get("state") == "SUCCESS"}
    for name in standing.keys() & expected.keys():
        atom = shape.atoms[name]
        if isinstance(atom, specs.Again) and expected[name] is None:
            standing[name] = None  # those that only revert provide nothing
        elif theirs and isinstance(atom, specs.Again) and atom.kind in (specs.EACH, specs.PARAMETER):
            standing[name] = expected[name]  # it does not know on record which values have been tried, and begins again
    if any(isinstance(atom, Choosy) for atom in shape.atoms.values()):
        standing, expected = dict.fromkeys(standing), dict.fromkeys(expected)
    if (state, standing) != (want.state, expected):
        wrong.append(f"the flow is {state} with {standing}, not {want.state} with {expected}; {answer['raised']}")
    ignored = {name for name, atom in now.items() if atom.get("state") == "IGNORE"}
    if state == "SUCCESS" and ignored != want.ignored:
        wrong.append(f"ignored are {ignored}, not {want.ignored}")
    return wrong


def value_of(atom: dict[str, Any]) -> Any:
    """Return the result of a task or the number of a retry's attempts, of which TaskFlow may read a failure only."""
    return atom["value"] if atom["attempts"] < 0 else atom["attempts"]


def end_of(answer: dict[str, Any]) -> Any:
    """Return the end of a run, to compare it with that of another one."""
    atoms = {
        name: (atom["state"], value_of(atom) if atom["state"] == "SUCCESS" else None)
        for name, atom in answer["atoms"].items()
        if not name.startswith("_")
    }
    return answer["state"], atoms
