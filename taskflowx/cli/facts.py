"""What commands tell about runs: a `RunView` as JSON has it, and its calls along the time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states
from taskflowx.cli import outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable

#: the attributes of an atom that are shown as they are
_AS_IS = ("name", "kind", "state", "intention", "attempts", "result_size", "progress")


class Span(NamedTuple):
    """One call: handed to the executor, begun, ended; in seconds since 1970."""

    name: str
    queued: float
    began: float
    ended: float
    state: str
    reverts: bool
    worker: str | None


def moment(value: Any) -> str | None:
    """Return a time as ISO 8601 has it, in UTC; None for none.

    :param value: a datetime, or seconds since 1970
    """
    if value is None:
        return None
    if isinstance(value, dt.datetime):
        at = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return at.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return dt.datetime.fromtimestamp(value, dt.UTC).isoformat(timespec="milliseconds")


def of_summary(summary: Any) -> dict[str, Any]:
    """Return a run of a list as JSON has it."""
    return {
        "run": summary.id,
        "flow": summary.flow,
        "state": summary.state,
        "created_at": moment(summary.created_at),
        "updated_at": moment(summary.updated_at),
    }


def of_view(view: Any) -> dict[str, Any]:
    """Return a run as JSON has it."""
    last = {span.name: span for span in spans_of(view.history)}
    return {
        **of_summary(view),
        "owner": view.owner,
        "atoms": [_of_atom(atom, last.get(atom.name)) for atom in view.atoms],
        "failures": [outcomes.failure_of(name, failure) for name, failure in view.failures.items()],
        "not_undone": list(view.not_undone) if view.state in (states.REVERTED, states.FAILURE) else [],
        "by_hand": _by_hand(view),
    }


def _by_hand(view: Any) -> list[dict[str, Any]]:
    """Return what people have done to a run, in the order in which they have done it."""
    found = [(entry, entry.get("to")) for entry in view.by_hand]
    found += [(entry, atom.name) for atom in view.atoms for entry in atom.by_hand]
    return [
        {"what": one["what"], "name": name, "who": one["who"], "when": moment(one["when"]), "reason": one["reason"]}
        for one, name in sorted(found, key=lambda each: each[0]["when"])
    ]


def _of_atom(atom: Any, last: Span | None) -> dict[str, Any]:
    """Return an atom as JSON has it.

    :param last: its last call, where there is a history
    """
    is_over = last is not None and atom.state not in states.UNDER_WAY
    return {
        **{name: getattr(atom, name) for name in _AS_IS},
        "flows": list(atom.flows),
        "worker": None if last is None else last.worker,
        "queued": None if last is None else moment(last.queued),
        "started": None if last is None else moment(last.began),
        "ended": moment(last.ended) if last is not None and is_over else None,
        "seconds": last.ended - last.began if last is not None and is_over else atom.duration,
        "wake": moment(atom.wake),
        "unknown": atom.unknown is not None,
    }


def of_entry(entry: Any) -> dict[str, Any]:
    """Return a transition as JSON has it."""
    told = dict(zip(entry._fields, entry, strict=True))
    return {**told, "at": moment(entry.at), "began": moment(entry.began)}


def spans_of(entries: Iterable[Any]) -> list[Span]:
    """Return the calls of a history, in the order in which they were handed to the executor.

    A call whose end is not on record lasts until the last entry.
    """
    open_calls: dict[str, Any] = {}
    spans: list[Span] = []
    last = 0.0
    for entry in entries:
        last = max(last, entry.at)
        if entry.atom is None:
            continue
        begun = open_calls.pop(entry.atom, None)
        if begun is not None and entry.began is not None:
            spans.append(_span(begun, entry.began, entry.at, entry.new, entry.worker))
        if entry.new in states.CALLED:
            open_calls[entry.atom] = entry
    spans += [_span(begun, begun.at, last, begun.new, None) for begun in open_calls.values()]
    return sorted(spans, key=lambda span: span.queued)


def _span(begun: Any, began: float, ended: float, state: str, worker: str | None) -> Span:
    began = max(began, begun.at)  # another machine's clock may be behind
    return Span(begun.atom, begun.at, began, max(ended, began), state, begun.new == states.REVERTING, worker)
