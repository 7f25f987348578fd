"""What must be true of a run that was left by one process and taken up by another one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.interop.shapes import Choosy
from tests.model import oracle, specs

NO, MAYBE, YES = "does not stand", "may stand", "stands"
KNOWN = {"SUCCESS": YES, "FAILURE": MAYBE, "RUNNING": MAYBE, "REVERTING": MAYBE, "REVERT_FAILURE": MAYBE}
ENDED = ("REVERTED",)
FITS = {
    "SUCCESS": ("SUCCESS", "IGNORE"),
    "REVERTED": ("SUCCESS", "IGNORE", "PENDING", "REVERTED"),
    "FAILURE": ("SUCCESS", "IGNORE", "PENDING", "REVERTED", "FAILURE", "REVERT_FAILURE"),
}


def complaints(spec: specs.Spec, answer: dict[str, Any], before: list[str], after: list[str]) -> list[str]:
    """Return all that is wrong with a run that was taken up.

    :param answer: what the peer has said of the run
    :param before: the calls up to the moment in which the run was left
    :param after: the calls since then
    """
    if "before" not in answer:
        return [f"it could not be taken up: {answer}"]
    shape = specs.Shape(spec)
    return [*_of_calls(shape, answer, after), *_of_effects(shape, answer, [*before, *after]), *_of_end(shape, answer)]


def _of_calls(shape: specs.Shape, answer: dict[str, Any], calls: list[str]) -> list[str]:
    """Look at the calls since the run was taken up, knowing what was on record then."""
    record = {name: atom["state"] for name, atom in answer["before"]["atoms"].items()}
    stands = {name: KNOWN.get(record.get(name), NO) for name in shape.atoms}
    wrong = []
    for call in calls:
        sign, name = call[0], call[1:]
        if isinstance(shape.atoms[name], specs.Again):
            continue
        if sign == "+" and stands[name] == YES:
            wrong.append(f"{name} was executed, though it was done")
        if sign == "-" and stands[name] == NO:
            wrong.append(f"{name} was undone, though it did not stand")
        after = [later for later in shape.after[name] if later in stands and stands[later] == YES]
        if after and isinstance(shape.atoms[after[0]], specs.Job):
            wrong.append(f"{call} came while {after} stood")
        failed = sign == "-" and Counter(calls)[call] <= shape.atoms[name].stuck
        stands[name] = YES if sign == "+" else MAYBE if failed else NO
    return wrong


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


def _of_end(shape: specs.Shape, answer: dict[str, Any]) -> list[str]:
    state, now = answer["state"], {name: answer["atoms"].get(name, {}) for name in shape.atoms}
    if state not in FITS:
        return [f"the flow is {state}; {answer['raised']}"]
    wrong = [
        f"the flow is {state}, {n} is {a.get('state')}" for n, a in now.items() if a.get("state") not in FITS[state]
    ]
    if any(atom.stuck for atom in shape.atoms.values()):
        return wrong
    want = oracle.predict(shape)
    standing = {name: atom["value"] for name, atom in now.items() if atom.get("state") == "SUCCESS"}
    expected = json.loads(json.dumps(want.standing))
    if any(isinstance(atom, Choosy) for atom in shape.atoms.values()):
        standing, expected = dict.fromkeys(standing), dict.fromkeys(expected)
    if (state, standing) != (want.state, expected):
        wrong.append(f"the flow is {state} with {standing}, not {want.state} with {expected}; {answer['raised']}")
    ignored = {name for name, atom in now.items() if atom.get("state") == "IGNORE"}
    if state == "SUCCESS" and ignored != want.ignored:
        wrong.append(f"ignored are {ignored}, not {want.ignored}")
    return wrong


def end_of(answer: dict[str, Any]) -> Any:
    """Return the end of a run, to compare it with that of another one."""
    atoms = {
        name: (atom["state"], atom["value"] if atom["state"] == "SUCCESS" else None)
        for name, atom in answer["atoms"].items()
        if not name.startswith("_")
    }
    return answer["state"], atoms
