"""Where two outcomes of one case differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = "<absent>"


class Difference(NamedTuple):
    """One place in which two outcomes differ."""

    path: tuple[Any, ...]
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        place = ".".join(map(str, self.path))
        return f"{place}\n    TaskFlow: {str(self.theirs)[:1500]}\n    ours:     {str(self.ours)[:1500]}"


def differences(theirs: Any, ours: Any) -> list[Difference]:
    """Return the places in which two outcomes, or answers to the same calls, differ."""
    return list(_walk(tidy(theirs), tidy(ours), ()))


def _walk(theirs: Any, ours: Any, path: tuple[Any, ...]) -> Iterator[Difference]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}, key=repr):
            yield from _walk(theirs.get(key, ABSENT), ours.get(key, ABSENT), (*path, key))
    elif theirs != ours:
        yield Difference(path, theirs, ours)


def tidy(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome less what says nothing: orders that TaskFlow draws, and what follows the first line of a text.

    TaskFlow starts what is ready at once in an order that changes from run to run, and registers atoms in such an
    order: so retries come in any order, and so do several values of one name.
    """
    if "final" not in outcome:
        return first_lines(outcome)
    tidied = {key: outcome[key] for key in ("atoms", "calls", "asked")}
    tidied["legs"] = dict(enumerate(_runs(outcome["legs"])))
    tidied["suspended"] = sum(leg["state"] == "SUSPENDED" for leg in outcome["legs"])
    final = tidied["final"] = dict(outcome["final"])
    final["histories"] = dict(final["histories"])
    final["fetch_all"] = {
        name: sorted(value, key=repr) if isinstance(value, list) else value
        for name, value in final["fetch_all"].items()
    }
    tidied = first_lines(tidied)
    for atom in tidied["final"]["atoms"].values():
        atom.update({field: _without_text(atom[field]) for field in ("get", "revert")})
    tidied["final"]["fetch"] = {
        name: _fetched(value, final["fetch_all"].get(name)) for name, value in final["fetch"].items()
    }
    return tidied


def _runs(legs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one run for the legs that go on with each other: what it came to, less where it was suspended."""
    runs: list[dict[str, Any]] = []
    goes_on = False
    for leg in legs:
        raised = leg["raised"]
        if raised and raised[0] != "WrappedFailure":
            raised = (raised[0], raised[1].partition("\n")[0])
        states = [state for _, state in leg["flow"] if state not in ("SUSPENDING", "SUSPENDED")]
        if goes_on:
            states = runs[-1]["flow"] + states[states[:1] == ["RUNNING"] :]
            runs.pop()
        runs.append({"raised": raised, "flow": states, "state": leg["state"]})
        goes_on = leg["state"] == "SUSPENDED"
    return runs


def _fetched(value: Any, everything: Any) -> Any:
    """Return a fetched value; of several the one that comes first depends on their order, and texts are storage's."""
    if isinstance(everything, list) and value in everything:
        return "one of them"
    return _without_text(value)


def _without_text(value: Any) -> Any:
    """Return what a question to the storage was answered, an error as its type: texts are compared by themselves."""
    return value[:2] if isinstance(value, tuple) and value[:1] == ("raised",) else value


def first_lines(value: Any) -> Any:
    """Cut the messages of errors to their first line: clearer text may follow."""
    if isinstance(value, dict):
        return {key: first_lines(part) for key, part in value.items()}
    if isinstance(value, tuple) and value and value[0] in ("raised", "declare", "load", "inject"):
        return tuple(part.partition("\n")[0] if isinstance(part, str) else part for part in value)
    if isinstance(value, (list, tuple)):
        return type(value)(first_lines(part) for part in value)
    return value
