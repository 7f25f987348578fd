"""What differs between the two packages and why: each class is a narrow rule that is checked on both outcomes.

A `Reading` explains single differences: where one and the same run is told differently. A `Cause` explains a run that
went another way: it must be seen in the case and in what TaskFlow did, and both packages must agree on the same case
without it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.interop.compat import flows
from tests.interop.compat.compare import ABSENT, Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Both:
    """One case and what came of it on either side."""

    case: flows.Case
    theirs: dict[str, Any]
    ours: dict[str, Any]

    def final(self, side: str, *path: str) -> Any:
        found = getattr(self, side).get("final", ABSENT)
        for key in path:
            if found is ABSENT:
                break
            found = found.get(key, ABSENT)
        return found


@dataclass(frozen=True)
class Reading:
    """A class of single differences."""

    name: str
    reason: str
    explains: Callable[[Both, Difference], bool]
    at_most: float  # of all flows, in percent: half as much again as in 5,000 of them


@dataclass(frozen=True)
class Cause:
    """A class of runs that go another way; `without` gives the case less what leads there, None if it is not there."""

    name: str
    reason: str
    seen: Callable[[Both], bool]
    without: Callable[[flows.Case], flows.Case | None]
    at_most: float


NEVER_RAN, SEVERAL_AT_ONCE, CURED = "never ran", "several at once", "cured"
ASKED_AGAIN, OWN_FAILURE = "asked again", "own failure"

# -- readings --------------------------------------------------------------------------------------


def never_ran(both: Both, difference: Difference) -> bool:
    """TaskFlow takes an atom that never ran from PENDING to REVERTING and calls its revert."""
    name = _atom_of(difference)
    if name is None or (name, "PENDING", "REVERTING") not in both.theirs["illegal"]:
        return False
    theirs, ours = both.theirs["atoms"].get(name, []), both.ours["atoms"].get(name, [])
    if _without_idle_reverts(theirs) != ours:
        return False
    return difference.path[0] == "atoms" or not ours or ours[-1][0] == "PENDING"


def _list(found: Any) -> list[Any]:
    return [] if found is ABSENT else found


def _without_idle_reverts(trace: list[Any]) -> list[Any]:
    """Cut from a trace the reverts of what had not run, with the resets after them."""
    kept: list[Any] = []
    idle = False
    for note in trace:
        if note[:2] == ("REVERTING", "PENDING"):
            idle = True
        if note[0] == "RUNNING":
            idle = False
        if not idle:
            kept.append(note)
    return kept


def _atom_of(difference: Difference) -> str | None:
    path = difference.path
    if path[0] == "atoms" and len(path) == 2:
        return str(path[1])
    return str(path[2]) if path[:2] == ("final", "atoms") else None


def several_at_once(both: Both, difference: Difference) -> bool:
    """Of failures that come together, TaskFlow files all but the first as failures of reverts.

    It draws which one is the first: so retries are asked in any order, and where one failure stands for a region, it is
    another one.
    """
    known = _failures_in(both.theirs) & _failures_in(both.ours)
    if len(known) < 2:
        return False
    path, theirs, ours = difference.path, difference.theirs, difference.ours
    if path[:2] in (("final", "failures"), ("final", "execute_failures")) and len(path) == 3:
        filed = both.final("theirs", "revert_failures", path[2])
        return filed == ours and (theirs is ABSENT or theirs in known)
    if path[:2] == ("final", "revert_failures") and len(path) == 3:
        return ours is ABSENT and theirs in known
    if path[:2] == ("final", "histories") or path[-1] in ("get", "detail.results"):
        return _same_history(theirs, ours, known)
    return False


def cured(both: Both, difference: Difference) -> bool:
    """TaskFlow goes on listing, telling and raising failures that a retry has cured since."""
    path, theirs, ours = difference.path, difference.theirs, difference.ours
    known = _cured_in(both) & _failures_in(both.theirs)
    if path == ("final", "has_failures"):
        return (theirs, ours) == (True, False) and {*both.final("theirs", "failures").values()} <= known
    if path[0] == "legs" and path[2:] == ("raised",):
        return _raised_more(theirs, ours, known)
    listed = path[:2] in (("final", "failures"), ("final", "execute_failures")) and len(path) == 3
    return listed and ours is ABSENT and theirs in known


def _cured_in(both: Both) -> set[Any]:
    """Return the failures after which their atom was reset, so that a retry could try again.

    A flow that is run again resets its atoms too; what TaskFlow then knows of the run before is another matter.
    """
    found: set[Any] = set()
    for trace in both.ours["atoms"].values() if both.case.again is None else ():
        failed: set[Any] = set()
        for note in trace:
            if note[0] == "FAILURE":
                failed.add(note[2])
            elif note[0] in ("PENDING", "RETRYING"):
                found |= failed
    return found


def _failures_in(outcome: dict[str, Any]) -> set[Any]:
    """Return the failures of executions that were told of."""
    return {note[2] for trace in outcome["atoms"].values() for note in trace if note[0] == "FAILURE"}


def _raised_more(theirs: Any, ours: Any, known: set[Any]) -> bool:
    """Tell whether TaskFlow raises what we do, and some of the known failures with it."""
    if not theirs or not ours or theirs[0] != "WrappedFailure":
        return False
    raised, own = {*theirs[1]}, {*_all_raised(ours)}
    return own < raised and raised - own <= known


def _same_history(theirs: Any, ours: Any, known: set[Any]) -> bool:
    """Tell whether two histories have the same attempts, and failures of the same atoms."""
    if isinstance(theirs, tuple) and isinstance(ours, tuple) and theirs[:1] == ours[:1] == ("history",):
        return bool(theirs[2] == ours[2]) and _same_history(theirs[1], ours[1], known)
    if not isinstance(theirs, list) or not isinstance(ours, list) or len(theirs) != len(ours):
        return False
    return all(
        one[0] == other[0] and one[1].keys() == other[1].keys() and set(one[1].values()) <= known
        for one, other in zip(theirs, ours, strict=True)
    )


def _providers(case: flows.Case, name: str) -> list[Any]:
    return [atom for atom in flows.atoms_of(case.root) if name in flows.names_of(atom.gives)]


def _is_given(case: flows.Case, name: str) -> bool:
    return name in dict(case.store) or any(name == given for given, _, _ in case.later)


def one_of_several(both: Both, difference: Difference) -> bool:
    """With several providers of a name, one that has no value hides those of the others in TaskFlow."""
    if difference.path[:2] not in (("final", "fetch_all"), ("final", "fetch")):
        return False
    name = difference.path[2]
    if len(_providers(both.case, name)) + _is_given(both.case, name) < 2:
        return False
    if difference.path[1] == "fetch_all":
        return difference.theirs is ABSENT
    return difference.theirs[0] == "raised"


def left_over(both: Both, difference: Difference) -> bool:
    """TaskFlow leaves what came of an earlier attempt in the detail of an atom that is PENDING or skipped."""
    path = difference.path
    if path[:2] in (("final", "fetch"), ("final", "fetch_all")):
        return any(
            _is_idle(both, atom.name)
            and _is_among(both.final("theirs", "atoms", atom.name, "detail.failure"), difference)
            for atom in _providers(both.case, path[2])
        )
    if path[:2] != ("final", "atoms"):
        return False
    if not _is_idle(both, path[2]):
        return False
    if path[3] == "get":
        return difference.theirs == both.final("theirs", "atoms", path[2], "detail.failure")
    leftovers = ("detail.results", "detail.failure", "detail.revert_results", "detail.revert_failure")
    return path[3] in leftovers and difference.ours is None


def _is_among(failure: Any, difference: Difference) -> bool:
    theirs = difference.theirs
    if failure is None:
        return False
    return theirs in (failure, "one of them") or (isinstance(theirs, list) and failure in theirs)


def _is_idle(both: Both, name: str) -> bool:
    """Tell whether an atom has no result on either side."""
    states = {both.final(side, "atoms", name, "state") for side in ("theirs", "ours")}
    return states in ({"PENDING"}, {"IGNORE"})


def never_reached(both: Both, difference: Difference) -> bool:
    """TaskFlow gives the intention REVERT to what never ran after a region that was undone."""
    path = difference.path
    if path[:2] != ("final", "atoms") or path[3] not in ("intention", "detail.intention"):
        return False
    states = {both.final(side, "atoms", path[2], "state") for side in ("theirs", "ours")}
    ended = both.final("ours", "flow")
    return (
        states == {"PENDING"}
        and ended in ("REVERTED", "FAILURE")
        and (difference.theirs, difference.ours) == ("REVERT", "EXECUTE")
    )


def missing_name(both: Both, difference: Difference) -> bool:
    """Of a missing input TaskFlow names the argument, also where that is rebound to another name."""
    if difference.path[0] != "legs" or difference.path[2:] != ("raised",):
        return False
    theirs, ours = difference.theirs, difference.ours
    if not (theirs and ours and theirs[0] == ours[0] == "taskflow.exceptions.MissingDependencies"):
        return False
    stored: dict[str, set[str]] = {}
    for atom in flows.atoms_of(both.case.root):
        if isinstance(atom, flows.Step):
            renamed = [*_rebound(atom.rebind, atom.do).items(), *_rebound(atom.undo_rebind, atom.undo).items()]
        else:
            renamed = list((atom.rebind or {}).items())
        for argument, name in renamed:
            stored.setdefault(argument, set()).add(name)
    named, known = set(_QUOTED.findall(theirs[1])[1:]), set(_QUOTED.findall(ours[1])[1:])
    meant = {name: {name, *stored.get(name, ())} for name in named}
    return known <= set().union(*meant.values()) and all(names & known for names in meant.values())


def asked_again(both: Both, difference: Difference) -> bool:
    """TaskFlow asks a decider again that it was asked before the run was suspended."""
    if not both.case.legs or difference.path[0] != "asked":
        return False
    return _less_repeats(_list(difference.theirs)) == _less_repeats(_list(difference.ours))


def _less_repeats(answers: list[Any]) -> list[Any]:
    return [answer for n, answer in enumerate(answers) if not n or answers[n - 1] != answer]


def started_again(both: Both, difference: Difference) -> bool:
    """An atom whose call was cancelled when the run was suspended is started again, and listeners hear of it again."""
    if difference.path[0] != "atoms" or len(difference.path) != 2 or not both.case.legs:
        return False
    theirs, ours = _list(difference.theirs), _list(difference.ours)
    return [note for n, note in enumerate(ours) if not n or note != ours[n - 1]] == theirs


def suspended_elsewhere(both: Both, difference: Difference) -> bool:
    """A run that is to be suspended is left at another place: TaskFlow first makes all calls that it has prepared."""
    return difference.path == ("suspended",) and bool(both.case.legs)


_QUOTED = re.compile(r"'([^']*)'")


def _rebound(rebind: Any, takes: flows.Takes | None) -> dict[str, str]:
    if isinstance(rebind, dict):
        return rebind
    return dict(zip(takes.needs, rebind, strict=False)) if rebind and takes else {}


# -- calls -----------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A call, or several questions to a retry within one attempt: how many, and what the last one was given."""

    verb: str
    given: dict[str, Any]
    times: int = 1


def explain_calls(both: Both, difference: Difference) -> set[str]:
    """Return the classes that explain how the calls of one atom differ, empty when they do not."""
    name = difference.path[1]
    theirs, ours = _list(difference.theirs), _list(difference.ours)
    found: set[str] = set()
    if (name, "PENDING", "REVERTING") in both.theirs["illegal"]:
        theirs = [call for call in theirs if not (call[0] == "revert" and call[1].get("result") is None)]
        found.add(NEVER_RAN)
    told, given = _grouped(theirs), _grouped(ours)
    if len(told) != len(given):
        return set()
    if theirs != ours and told == given:
        return found | {SEVERAL_AT_ONCE}
    for their, own in zip(told, given, strict=True):
        if their != own:
            explained = _explain_call(both, their, own)
            if not explained:
                return set()
            found |= explained
    return found


def _grouped(calls: list[Any]) -> list[Asked]:
    grouped: list[Asked] = []
    for verb, given in calls:
        last = grouped[-1] if grouped else None
        if verb == "on_failure" and last and last.verb == verb and _attempts(last.given) == _attempts(given):
            grouped[-1] = Asked(verb, given, last.times + 1)
        else:
            grouped.append(Asked(verb, given))
    return grouped


def _attempts(given: dict[str, Any]) -> int:
    return len(given["history"][1])


def _explain_call(both: Both, theirs: Asked, ours: Asked) -> set[str]:
    if theirs.verb != ours.verb or theirs.given.keys() != ours.given.keys():
        return set()
    found: set[str] = set()
    if theirs.times != ours.times:
        if not both.case.legs:
            return set()
        found.add(ASKED_AGAIN)
    known = _failures_in(both.theirs) & _failures_in(both.ours)
    healed = _cured_in(both)
    for argument, told in theirs.given.items():
        given = ours.given[argument]
        if told == given:
            continue
        if argument == "flow_failures" and {*told.values(), *given.values()} <= known:
            if {told[name] for name in told.keys() - given.keys()} - healed:
                return set()
            if told.keys() - given.keys():
                found.add(CURED)
            if any(told.get(name) != failure for name, failure in given.items()):
                if len(known) < 2:
                    return set()
                found.add(SEVERAL_AT_ONCE)
        elif argument == "history" and len(known) > 1 and _same_history(told, given, known):
            found.add(SEVERAL_AT_ONCE)
        elif argument == "history" and theirs.verb == "execute" and given[1:] == ([], None) and told[1] == []:
            found.add(OWN_FAILURE)
        else:
            return set()
    return found


READINGS = (
    Reading(NEVER_RAN, "An atom that never ran is never reverted.", never_ran, 2.2),
    Reading(CURED, "A failure that a retry has cured is in the history of that retry, and nowhere else.", cured, 13),
    Reading(
        SEVERAL_AT_ONCE,
        "All failures of a turn are failures: all are in get_failures() and flow_failures.",
        several_at_once,
        3,
    ),
    Reading(OWN_FAILURE, "A retry that restarts has no history, and no failure of its own.", lambda *_: False, 0.6),
    Reading(
        "one of several", "A provider without a value does not hide the other providers of a name.", one_of_several, 3.6
    ),
    Reading(
        "started again",
        "An atom whose call was cancelled is started again when the run goes on.",
        started_again,
        1.2,
    ),
    Reading(
        "suspended elsewhere",
        "A run that is suspended makes no call that has not begun.",
        suspended_elsewhere,
        1.2,
    ),
    Reading(
        ASKED_AGAIN,
        "A retry is asked once about each failure, and a decider once, also when the run is suspended in between.",
        asked_again,
        1,
    ),
    Reading("missing name", "A missing input is named as nobody provides it.", missing_name, 2.0),
    Reading("left over", "An atom that is PENDING, or skipped, has no result of an earlier attempt.", left_over, 1.2),
    Reading("never reached", "What lies after an undone region and never ran keeps its intention.", never_reached, 2),
)


# -- causes ----------------------------------------------------------------------------------------


def each_atom(case: flows.Case, change: Callable[[Any], Any]) -> flows.Case:
    """Return the case with each of its atoms changed."""

    def walk(node: Any) -> Any:
        if not isinstance(node, flows.Group):
            return change(node)
        return replace(
            node, members=tuple(map(walk, node.members)), retry=None if node.retry is None else change(node.retry)
        )

    return replace(case, root=walk(case.root))


def _changed(case: flows.Case, other: flows.Case) -> flows.Case | None:
    return None if case == other else other


def _steps(case: flows.Case, **facts: Any) -> flows.Case | None:
    """Return the case with facts of all its steps set."""
    return _changed(case, each_atom(case, lambda a: replace(a, **facts) if isinstance(a, flows.Step) else a))


def _trace_has(outcome: dict[str, Any], state: str, text: str = "") -> bool:
    return any(
        note[0] == state and text in str(note[2]) for trace in outcome.get("atoms", {}).values() for note in trace
    )


def _tells_all(case: flows.Case) -> flows.Case | None:
    return _steps(case, told=("result", "flow_failures"))


def _takes_more(case: flows.Case) -> flows.Case | None:
    """Let each revert take any keyword argument."""

    def change(atom: Any) -> Any:
        if isinstance(atom, flows.Step) and atom.undo is not None:
            return replace(atom, undo=replace(atom.undo, more=True))
        return atom

    return _changed(case, each_atom(case, change))


def _finds_another(both: Both) -> bool:
    """Tell whether an atom was given the kept value of a name by TaskFlow, and the transient one by ours."""
    given: dict[str, set[str]] = {name: {repr(value)} for name, value in both.case.store}
    for name, value, _ in both.case.later:
        given.setdefault(name, set()).add(repr(value))
    twice = {name: values for name, values in given.items() if len(values) > 1}
    atoms = flows.atoms_of(both.case.root)
    if any(isinstance(atom, flows.Control) and atom.rebind and atom.rebind["values"] in twice for atom in atoms):
        return True
    return any(
        {repr(value), repr(own[1].get(argument))} in twice.values()
        for name, calls in both.theirs.get("calls", {}).items()
        for their, own in zip(calls, both.ours.get("calls", {}).get(name, ()), strict=False)
        for argument, value in their[1].items()
    )


def _ignores(both: Both) -> bool:
    """Tell whether TaskFlow takes an argument that ignore_list names, and ours does not."""
    for atom in flows.atoms_of(both.case.root):
        if not isinstance(atom, flows.Step) or not atom.ignore:
            continue
        trace = both.ours.get("atoms", {}).get(atom.name, ())
        if f"atom {atom.name}:" in str(both.ours.get("refused")) or "missing 1 required positional" in str(trace):
            return True
        calls = zip(*(side.get("calls", {}).get(atom.name, ()) for side in (both.theirs, both.ours)), strict=False)
        if any(their[1].keys() != own[1].keys() or "default" in own[1].values() for their, own in calls):
            return True
    return False


def _given_once(case: flows.Case) -> flows.Case | None:
    """Give each name to the flow once."""
    known = {*dict(case.store)}
    return _changed(case, replace(case, later=tuple(given for given in case.later if given[0] not in known)))


def _raised(outcome: dict[str, Any], text: str) -> bool:
    return any(text in str(leg["raised"]) for leg in outcome.get("legs", ()))


def _without_options(case: flows.Case) -> flows.Case | None:
    """Take the optional arguments of execute and revert away."""

    def change(atom: Any) -> Any:
        if not isinstance(atom, flows.Step):
            return atom
        undo = None if atom.undo is None else replace(atom.undo, may=())
        return replace(atom, do=replace(atom.do, may=()), undo=undo)

    return _changed(case, each_atom(case, change))


def _has_no_value(both: Both) -> bool:
    """Tell whether an argument had no value: TaskFlow stops there, ours is a failure of the atom if its turn comes."""
    return any("NotFound" in str(leg["raised"]) for leg in both.theirs.get("legs", ()))


def _has_values(case: flows.Case) -> flows.Case | None:
    """Let no decider refuse, and every result have all its parts."""

    def agree(node: Any) -> Any:
        if not isinstance(node, flows.Group):
            return replace(node, parts=None)
        links = tuple(replace(link, verdict=None, depth=None) for link in node.links)
        return replace(node, links=links, members=tuple(map(agree, node.members)))

    return _changed(case, replace(case, root=agree(case.root)))


def _is_fed_by_the_past(both: Both) -> bool:
    """Tell whether an atom lacks the value of one that is skipped, and TaskFlow has called it."""
    return any(
        note[0] == "FAILURE" and "which were all ignored" in str(note[2]) and both.theirs["calls"].get(name)
        for name, trace in both.ours.get("atoms", {}).items()
        for note in trace
    )


def _keeps_the_past(both: Both) -> bool:
    """Tell whether TaskFlow has run a flow again with a retry's history, or the failures, of the run before."""
    if len(both.theirs.get("legs", ())) < 2 or "final" not in both.ours:
        return False
    retries = any(
        note[:2] == ("PENDING", "SUCCESS") and name.startswith("r")
        for name, trace in both.theirs["atoms"].items()
        for note in trace
    )
    listed = set(both.final("theirs", "failures")) - set(both.final("ours", "failures"))
    raised, own = ({*_all_raised(legs[-1]["raised"])} for legs in (both.theirs["legs"], both.ours["legs"]))
    return retries or bool(listed) or own < raised or _tells_more(both) or _remembers_more(both)


def _stands(both: Both) -> bool:
    """Tell whether ours has refused to run, or to reset, a flow of which a part stands; TaskFlow has run it."""
    if both.case.again is None or len(both.ours.get("legs", ())) < 2:
        return False
    before, last = both.ours["legs"][-2:]
    return (
        (before["state"], last["state"]) == ("REVERTED", "REVERTED")
        and last["calls"] == before["calls"]
        and "it was reverted in part" in str(last["raised"])
    )


def _remembers_more(both: Both) -> bool:
    """Tell whether TaskFlow has given a retry a longer history than ours."""
    return any(
        "history" in told[1] and "history" in given[1] and len(told[1]["history"][1]) > len(given[1]["history"][1])
        for name, calls in both.theirs["calls"].items()
        for told, given in zip(calls, both.ours["calls"].get(name, ()), strict=False)
    )


def _tells_more(both: Both) -> bool:
    """Tell whether TaskFlow has told a revert of failures that ours has not."""
    return any(
        told[1].get("flow_failures", {}).keys() > given[1].get("flow_failures", {}).keys()
        for name, calls in both.theirs["calls"].items()
        for told, given in zip(calls, both.ours["calls"].get(name, ()), strict=False)
    )


def _refused(both: Both, text: str) -> bool:
    theirs, ours = (str(side.get("refused", ("", "", ""))[2]) for side in (both.theirs, both.ours))
    return text in theirs and theirs != ours


def _goes_on(both: Both) -> bool:
    """Tell whether ours did all that TaskFlow did to each atom, and perhaps more."""
    ours = both.ours.get("atoms", {})
    return all(
        _without_idle_reverts(trace) == ours.get(name, [])[: len(_without_idle_reverts(trace))]
        for name, trace in both.theirs.get("atoms", {}).items()
    )


def _is_left_elsewhere(both: Both) -> bool:
    """Tell whether ours made fewer calls in the first leg in which the two differ; steps are not the same steps."""
    theirs, ours = both.theirs.get("legs", ()), both.ours.get("legs", ())
    start = [0, 0]
    for leg, their, own in zip(both.case.legs, theirs, ours, strict=False):
        made = Counter(both.theirs["order"][start[0] : their["calls"]])
        own_made = Counter(both.ours["order"][start[1] : own["calls"]])
        if made != own_made:
            return leg.stop[0] == "step" or own_made < made
        start = [their["calls"], own["calls"]]
    return False


def _never_resolves(both: Both) -> bool:
    return bool(both.case.option("never_resolve")) and _trace_has(both.theirs, "FAILURE") and _goes_on(both)


def _resolves(case: flows.Case) -> flows.Case | None:
    return _changed(case, replace(case, options=tuple(o for o in case.options if o[0] != "never_resolve")))


def _is_stuck(both: Both) -> bool:
    """Tell whether a revert failed, and ours did and raised all that TaskFlow did.

    A run that was suspended in between reverts what could not be reverted again, and may have nothing to raise then.
    """
    if not _trace_has(both.theirs, "REVERT_FAILURE", "revert of "):
        return False
    theirs, ours = (
        {failure for leg in side.get("legs", ()) for failure in _all_raised(leg["raised"])}
        for side in (both.theirs, both.ours)
    )
    return _goes_on(both) and (theirs <= ours or bool(both.case.legs))


def _all_raised(raised: Any) -> list[Any]:
    if raised is None:
        return []
    return list(raised[1]) if raised[0] == "WrappedFailure" else [("failure", *raised)]


def _is_never_stuck(case: flows.Case) -> flows.Case | None:
    return _changed(case, each_atom(case, lambda atom: replace(atom, stuck=())))


def _is_odd(both: Both) -> bool:
    """Tell whether a retry's on_failure or a decider raised, or answered with nonsense, which ended TaskFlow's run."""
    raised = any(_raised(both.theirs, text) for text in ("on_failure of ", "decider of ", "NONSENSE"))
    return raised and _goes_on(both)


def _is_never_odd(case: flows.Case) -> flows.Case | None:
    def behave(node: Any) -> Any:
        if not isinstance(node, flows.Group):
            return node
        retry = node.retry
        if retry is not None:
            odd = ("RAISE", "NONSENSE")
            retry = replace(retry, decisions=tuple("REVERT" if d in odd else d for d in retry.decisions))
        links = tuple(replace(link, verdict="yes" if link.verdict == "raise" else link.verdict) for link in node.links)
        return replace(node, retry=retry, links=links, members=tuple(map(behave, node.members)))

    return _changed(case, replace(case, root=behave(case.root)))


def _begins_empty(node: Any) -> bool:
    """Tell whether the first that a flow holds is a flow with nothing in it."""
    if not isinstance(node, flows.Group) or node.retry is not None:
        return False
    return not node.members or _begins_empty(node.members[0])


def _is_not_asked(both: Both) -> bool:
    """Tell whether TaskFlow has not asked a decider before a flow that begins with an empty one, and ours has."""

    def links(node: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, flows.Group):
            yield from ((node.members[link.u], node.members[link.v]) for link in node.links if link.verdict)
            for member in node.members:
                yield from links(member)

    asked = both.ours.get("asked", {}).keys() - both.theirs.get("asked", {}).keys()
    return any(f"{u.name}->{v.name}" in asked and _begins_empty(v) for u, v in links(both.case.root))


def _without_empty(case: flows.Case) -> flows.Case | None:
    """Put a step into each empty flow."""

    def fill(node: Any) -> Any:
        if not isinstance(node, flows.Group):
            return node
        if not node.members:
            return replace(node, members=(flows.Step(name=f"in {node.name}"),), order=(0,))
        return replace(node, members=tuple(map(fill, node.members)))

    return _changed(case, replace(case, root=fill(case.root)))


CAUSES: tuple[Cause, ...] = (
    Cause(
        "never_resolve",
        "With never_resolve a failure triggers no rollback, and all that does not follow it still runs.",
        _never_resolves,
        _resolves,
        0.5,
    ),
    Cause(
        "odd answers",
        "An on_failure or a decider that raises, or answers nonsense, is a failure like any other, and is rolled back.",
        _is_odd,
        _is_never_odd,
        0.3,
    ),
    Cause(
        "revert fails",
        "When a revert fails, what does not depend on it is undone, what led there is raised too, and a further run "
        "goes on with the rollback.",
        _is_stuck,
        _is_never_stuck,
        1.5,
    ),
    Cause(
        "told what it does not take",
        "revert is given result and flow_failures only if its signature takes them.",
        lambda both: _trace_has(both.theirs, "REVERT_FAILURE", "revert() got an unexpected keyword argument"),
        _tells_all,
        2,
    ),
    Cause(
        "revert takes less",
        "What execute is given by rebind or requires is no demand on the signature of revert.",
        lambda both: _refused(both, "Extra arguments given to atom"),
        _takes_more,
        2,
    ),
    Cause(
        "no value",
        "An atom that lacks a value at its turn (its provider was skipped, or gave less) fails, and is rolled back.",
        _has_no_value,
        _has_values,
        0.6,
    ),
    Cause(
        "value of the past",
        "An atom that is skipped gives nothing, also where it has run, or failed, in an earlier attempt.",
        _is_fed_by_the_past,
        _has_values,
        0.1,
    ),
    Cause(
        "empty at first",
        "A decider before a flow is asked, also where that flow begins with an empty one.",
        _is_not_asked,
        _without_empty,
        0.1,
    ),
    Cause(
        "calls cancelled",
        "A run that is suspended makes no call that has not begun; what has failed by then is resolved first.",
        _is_left_elsewhere,
        lambda case: _changed(case, replace(case, legs=(), fresh=False)),
        0.6,
    ),
    Cause(
        "injected counts",
        "An argument that is injected is given, also without auto_extract.",
        lambda both: _refused(both, "Missing arguments for atom") and "Extra" not in str(both.theirs["refused"]),
        lambda case: _steps(case, extract=True),
        0.3,
    ),
    Cause(
        "optional input",
        "An optional argument is omitted when no earlier atom has a value for it.",
        lambda both: _raised(both.theirs, "Mapped argument '") or _raised(both.theirs, "Unable to find result '"),
        _without_options,
        0.7,
    ),
    Cause(
        "ignore_list",
        "What ignore_list names is not taken from the signature of execute.",
        _ignores,
        lambda case: _steps(case, ignore=()),
        1.5,
    ),
    Cause(
        "given twice",
        "A transient value is found before a kept one.",
        _finds_another,
        _given_once,
        2.2,
    ),
    Cause(
        "reverted in part",
        "A flow of which a part was reverted is not run again before what stands is undone, or forgotten with force.",
        _stands,
        lambda case: _changed(case, replace(case, again=None)),
        0.2,
    ),
    Cause(
        "run again",
        "A flow that is run again has no failures yet, and its retries no history.",
        _keeps_the_past,
        lambda case: _changed(case, replace(case, again=None)),
        2,
    ),
)


#: all classes, the causes first: what a table of differences lists
KNOWN = (*CAUSES, *READINGS)
