"""What differs between the storages of the two packages when they are called directly, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.interop.compat import compare, flows, stores

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Answer:
    """What one call was answered on either side; `before` are the calls that came before it, with our answers."""

    case: stores.Calls
    method: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    before: tuple[tuple[Any, Any], ...]
    theirs: Any
    ours: Any

    def saved(self, state: str | None = None) -> list[tuple[str, Any]]:
        """Return atom name and result of each `save` before, or of those in one state."""
        return [
            (call[1][0], call[1][1])
            for call, _ in self.before
            if call[0] == "save" and (state is None or call[1][2:] == (state,))
        ]

    def given(self, name: str, *, transient: bool) -> list[Any]:
        """Return the values injected for a name."""
        return [
            call[1][0][name]
            for call, _ in self.before
            if call[0] == "inject" and dict(call[2]).get("transient", False) is transient and name in call[1][0]
        ]

    def sources(self, name: str) -> int:
        """Return how many could have a value of a name: atoms, and the injected values of the two kinds."""
        atoms = sum(name in flows.names_of(atom.gives) for atom in self.case.atoms)
        return atoms + sum(bool(self.given(name, transient=transient)) for transient in (True, False))


@dataclass(frozen=True)
class Class:
    """A class of answers that differ."""

    name: str
    reason: str
    explains: Callable[[Answer], bool]
    at_most: float  # of all sequences of calls, in percent: half as much again as in 2,000 of them


def _raised(value: Any, kind: str = "NotFound") -> bool:
    return isinstance(value, tuple) and value[:2] == ("raised", f"taskflow.exceptions.{kind}")


def _text(answer: Answer) -> bool:
    asking = ("fetch", "fetch_mapped_args", "get_atoms_states")
    return answer.method in asking and _raised(answer.theirs) and _raised(answer.ours)


def _one_of_several(answer: Answer) -> bool:
    if answer.method == "fetch":
        return _raised(answer.theirs) and not _raised(answer.ours) and answer.sources(answer.arguments[0]) > 1
    if answer.method != "fetch_all":
        return False
    names = {name for name in answer.ours if answer.theirs.get(name) != answer.ours[name]}
    return set(answer.theirs) <= set(answer.ours) and all(
        (name not in answer.theirs and (answer.sources(name) > 1 or _is_failure(answer.ours[name])))
        or (_given_twice(answer, name) and answer.sources(name) > 1)
        for name in names
    )


def _is_failure(value: Any) -> bool:
    return isinstance(value, tuple) and value[:1] == ("failure",)


def _given_twice(answer: Answer, name: str) -> bool:
    return all(answer.given(name, transient=transient) for transient in (True, False))


def _transient_first(answer: Answer) -> bool:
    if answer.method == "fetch":
        return _given_twice(answer, answer.arguments[0])
    if answer.method != "fetch_mapped_args" or not (isinstance(answer.theirs, dict) and isinstance(answer.ours, dict)):
        return False
    mapping = answer.arguments[0]
    return answer.theirs.keys() == answer.ours.keys() and all(
        _given_twice(answer, mapping[arg]) for arg in answer.ours if answer.ours[arg] != answer.theirs[arg]
    )


def _filed(answer: Answer) -> bool:
    broken = [name for name, result in answer.saved() if isinstance(result, stores.Broke)]
    if answer.method == "has_failures":
        return bool(broken)
    listing = ("get_failures", "get_execute_failures", "get_revert_failures")
    return answer.method in listing and {*answer.theirs, *answer.ours} <= {*broken}


def _progress(answer: Answer) -> bool:
    return answer.method == "get_task_progress" and answer.ours == 1.0 and answer.theirs != answer.ours


def _optional(answer: Answer) -> bool:
    return (
        answer.method == "fetch_mapped_args"
        and bool({*answer.keywords.get("optional_args", ())} & {*answer.arguments[0]})
        and _raised(answer.theirs)
    )


def _undone_retry(answer: Answer) -> bool:
    name = str(answer.arguments[0]) if answer.arguments else ""
    if answer.method == "get_revert_result":
        return name.startswith("r") and (answer.theirs is None or _is_failure(answer.theirs))
    if answer.method != "detail" or not name.startswith("r"):
        return False
    return {key for key in answer.ours if answer.ours[key] != answer.theirs[key]} <= {
        "revert_results",
        "revert_failure",
    }


def _kept_result(answer: Answer) -> bool:
    stuck = any(call[0] in ("save", "set_atom_state") and "REVERT_FAILURE" in call[1] for call, _ in answer.before)
    if answer.method != "detail" or not stuck:
        return False
    differs = {key for key in answer.ours if answer.ours[key] != answer.theirs[key]}
    return differs <= {"results", "last_results", "failure"} and answer.theirs["results"] in (None, [])


def _kept_failure(answer: Answer) -> bool:
    """Tell whether TaskFlow still has the failure, or a result, that the state of the atom says is not there."""
    failed = {name for name, result in answer.saved() if isinstance(result, stores.Broke)}
    if answer.method in ("get", "get_execute_result", "get_revert_result"):
        return answer.arguments[0] in failed and _is_failure(answer.theirs) and _raised(answer.ours)
    return answer.method in ("fetch", "fetch_mapped_args") and not _raised(answer.theirs) and bool(failed)


def _unfinished(answer: Answer) -> bool:
    """Tell whether the state was set to one that has results without a result."""
    states = [call[1] for call, _ in answer.before if call[0] == "set_atom_state"]
    asking = ("fetch", "fetch_mapped_args", "fetch_all", "get", "get_execute_result", "get_revert_result")
    return answer.method in asking and any(state in ("SUCCESS", "FAILURE", "REVERTING") for _, state in states)


CLASSES = (
    Class("text", "What is missing is said in clearer words.", _text, 36),
    Class("one of several", "A provider without a value does not hide the others.", _one_of_several, 32),
    Class("given twice", "A transient value is found before a kept one.", _transient_first, 2),
    Class("filed by state", "Failures are filed by the state that they are saved with.", _filed, 18),
    Class("progress", "The progress of a task that has succeeded is 1.0.", _progress, 4),
    Class("optional", "An optional argument is omitted when there is no value.", _optional, 2),
    Class("undone retry", "What the revert of a retry returned is kept.", _undone_retry, 4.2),
    Class(
        "kept result", "What failed to be undone keeps its result, which a further revert is given.", _kept_result, 1.5
    ),
    Class("kept failure", "What the state of an atom says is not there is not found.", _kept_failure, 0.6),
    Class("unfinished", "A state that was set by hand brings no result with it.", _unfinished, 1),
)


def classify(case: stores.Calls, theirs: list[Any], ours: list[Any]) -> tuple[set[str], list[compare.Difference]]:
    """Return the classes of the answers that differ, and the answers that none of them explains."""
    names: set[str] = set()
    unexplained = []
    before: list[tuple[Any, Any]] = []
    for call, their, own in zip(case.calls, theirs, ours, strict=True):
        one, other = compare.first_lines(their), compare.first_lines(own)
        if not same(one, other):
            answer = Answer(case, call[0], call[1], dict(call[2]), tuple(before), one, other)
            found = next((known.name for known in CLASSES if known.explains(answer)), None)
            if found is None:
                unexplained.append(compare.Difference((len(before), call), one, other))
            else:
                names.add(found)
        before.append((call, own))
    return names, unexplained


def same(theirs: Any, ours: Any) -> bool:
    """Tell whether two answers are the same, or errors with the same text but for what ours says after it."""
    if _raised(theirs) and _raised(ours):
        return str(ours[2]).startswith(str(theirs[2]))
    return bool(theirs == ours)
