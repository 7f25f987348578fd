"""The keys in the metadata of an atom's detail, and the facts that are kept there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskflowx import states
from taskflowx.persistence import models

INJECTED = "injected"
PROGRESS = "progress"
PROGRESS_DETAILS = "progress_details"
#: of a task: the seconds of its last call, as far as `listeners.timing` has measured them
DURATION = "duration"
#: of an atom that asks for them: which attempt its call is, within which round of the retries around it
ATTEMPT = "attempt"
REVERT_ATTEMPT = "revert_attempt"
ROUND = "round"
#: of an atom whose execute was never called, as when an argument could not be had: nothing is to be undone
NOT_CALLED = "not_called"
#: of an atom that waits: [the time of day at which it goes on, in seconds since 1970; how many seconds it waits in all]
WAKE = "wake"
#: of a retry with a deadline: the time of day at which its first attempt began
SINCE = "since"
#: of a task whose revert has failed and is tried again: [the time of day at which it failed first; how often it has]
REVERTS = "reverts"
#: of the first atom of flows with a time limit: flow name -> the time of day at which the flow began
FLOW_SINCE = "flow_since"
#: of a flow that was cancelled: [the class of the error that its caller gets, its text]
CANCELLED = "cancelled"
#: of a task of whose call nobody knows whether it has had its effect: since when, in seconds since 1970, and why
UNKNOWN = "unknown"
#: of an atom, or of the flow: what people have done to it by hand, a list of dicts with `what`, `who`, `when`, `reason`
BY_HAND = "by_hand"
#: of an atom, and of the values given to a flow: its sensitive values, which nobody shows, as name -> True or 'memory'
SENSITIVE = models.META_SENSITIVE
#: of the flow: the name of the atom to which it is being rolled back
ROLLED_BACK_TO = "rolled_back_to"
#: of the flow: that somebody has asked for all of it to be rolled back
ROLLED_BACK = "rolled_back"

_ENTRIES_KEPT = 100


def progress_facts(progress: float, details: dict[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of an atom that has reported progress.

    :param progress: from 0.0 to 1.0
    :param details: facts about it; None leaves the ones there as they are
    """
    facts: dict[str, Any] = {PROGRESS: progress}
    if details is not None:
        facts[PROGRESS_DETAILS] = {"at_progress": progress, "details": details} if details else None
    return facts


def note_by_hand(meta: dict[str, Any], entry: dict[str, Any], masked: Callable[[str], str]) -> None:
    """Put the entry of a manual action into the metadata of an atom or flow, once.

    :param masked: gives what people have written without sensitive values
    """
    entry = entry | {key: masked(entry[key]) for key in ("who", "reason") if entry[key] is not None}
    entries = meta.get(BY_HAND) or []
    if entry not in entries:
        meta[BY_HAND] = [*entries, entry][-_ENTRIES_KEPT:]


def stands(detail: models.AtomDetail) -> bool:
    """Tell whether an atom has run, or may have, and has not been reverted."""
    return detail.state not in states.NOT_BEGUN and NOT_CALLED not in (detail.own_meta or ())


def is_sensitive(detail: Any) -> bool:
    """Tell whether something of the result of an atom is shown nowhere."""
    return SENSITIVE in (getattr(detail, "own_meta", None) or ())


def is_in_memory_alone(detail: Any) -> bool:
    """Tell whether an atom has a sensitive value that no store gets."""
    marks = (getattr(detail, "own_meta", None) or {}).get(SENSITIVE)
    return isinstance(marks, dict) and "memory" in marks.values()


def is_let_go(detail: Any) -> bool:
    """Tell whether an atom has a result that was not kept."""
    return models.META_LET_GO in (getattr(detail, "own_meta", None) or ())
