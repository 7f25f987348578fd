"""Runs a case on both sides and says in which classes their differences fall."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.interop.compat import classes, compare, flows

if TYPE_CHECKING:
    from tests.interop.compat.sides import Side

#: how often TaskFlow runs a case again: what it starts first changes from run to run
TRIES = 25


@dataclass
class Verdict:
    """What is to be said of a case; `unexplained` is what no class explains."""

    names: set[str] = field(default_factory=set)
    unexplained: list[compare.Difference] = field(default_factory=list)
    crash: str = ""  # how TaskFlow crashed
    illegal: bool = False  # whether TaskFlow broke its own tables of states

    def worse(self) -> tuple[bool, int]:
        """Return what orders verdicts of one case, the best one first."""
        return bool(self.crash), len(self.unexplained)


def judge(case: flows.Case, theirs: Side, ours: Side, depth: int = 0) -> Verdict:
    """Run a case on both sides, and look at the differences."""
    own = ours.run(case)
    best: Verdict | None = None
    both: classes.Both | None = None
    for _ in range(TRIES):
        other = theirs.run(case)
        verdict = read(case, other, own)
        if best is None or verdict.worse() < best.worse():
            best, both = verdict, classes.Both(case, other, own)
        if not verdict.unexplained:
            return verdict
    assert best is not None
    assert both is not None
    if best.crash:
        best.unexplained = []
        return best
    if depth < 4:
        for cause in classes.CAUSES:
            other_case = cause.without(case)
            if other_case is None or not cause.seen(both):
                continue
            further = judge(other_case, theirs, ours, depth + 1)
            if not further.unexplained:
                further.names.add(cause.name)
                return further
    if best.unexplained and (best.illegal or _is_left_running(both.theirs)):
        best.crash, best.unexplained = "breaks its own rules", []
    return best


def _is_left_running(outcome: dict[str, Any]) -> bool:
    """Tell whether a flow has ended, by its own word, while an atom of it is still under way."""
    final = outcome.get("final", {})
    under_way = ("RUNNING", "REVERTING")
    return final.get("flow") in _ENDED[:3] and any(atom["state"] in under_way for atom in final["atoms"].values())


def read(case: flows.Case, theirs: dict[str, Any], ours: dict[str, Any]) -> Verdict:
    """Compare two outcomes."""
    verdict = Verdict(crash=crash_of(theirs), illegal=bool(theirs.get("illegal")))
    both = classes.Both(case, theirs, ours)
    for difference in compare.differences(theirs, ours):
        names = explained(both, difference)
        verdict.names |= names
        if not names:
            verdict.unexplained.append(difference)
    return verdict


def explained(both: classes.Both, difference: compare.Difference) -> set[str]:
    """Return the classes that a single difference falls in."""
    if "final" not in both.theirs or "final" not in both.ours:
        return set()
    if difference.path[0] == "calls":
        return classes.explain_calls(both, difference)
    return {*[reading.name for reading in classes.READINGS if reading.explains(both, difference)][:1]}


def crash_of(outcome: dict[str, Any]) -> str:
    """Say how an engine crashed: by a state that it must not come to, or it left the flow as if it still ran."""
    if "lost" in outcome:
        return str(outcome["lost"])
    if "Unknown object" in str(outcome.get("refused")):  # it cannot compile what it lets one declare
        return "TypeError"
    for leg in outcome.get("legs", ()):
        if leg["raised"] and (leg["state"] not in _ENDED or leg["raised"][0] in _INNER):
            return str(leg["raised"][0])
    return ""


#: errors of the engine's own, which no atom of a case raises
_INNER = ("taskflow.exceptions.InvalidState", "taskflow.exceptions.StorageFailure")
_ENDED = ("SUCCESS", "FAILURE", "REVERTED", "SUSPENDED", "PENDING")
