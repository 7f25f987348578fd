"""What must be true of the history of any run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskflowx.persistence.history import Entry

INJECTOR = "_TaskFlow_INJECTOR"


def replayed(entries: Iterable[Entry]) -> dict[str | None, str]:
    """Return the state of each atom, and under None of the flow, to which the entries lead."""
    return {entry.atom: entry.new for entry in entries}


def kept(backend: Any, uuid: str, **part: Any) -> list[Entry]:
    """Return the history of a run in a store, or a part of it."""
    with contextlib.closing(backend.get_connection()) as connection:
        return list(connection.get_history(uuid, **part))


def record(backend: Any, uuid: str) -> Any:
    """Return the record of a run in a store."""
    with contextlib.closing(backend.get_connection()) as connection:
        return connection.get_flow_details(uuid)


def complaints(
    entries: list[Entry], flow_detail: Any, before: Mapping[str | None, str | None] | None = None
) -> list[str]:
    """Return what is wrong with a history.

    :param flow_detail: the record that it has led to
    :param before: the states from which it begins; by default those of a new run
    """
    wrong = []
    if [entry.number for entry in entries] != list(range(1, len(entries) + 1)):
        wrong.append(f"the numbers are {[entry.number for entry in entries]}")
    now: dict[str | None, str | None] = dict(before or {})
    calls: dict[str | None, int] = {}
    for entry in entries:
        known = now.get(entry.atom, states.PENDING)
        if entry.old != known and not (entry.old is None and known == states.PENDING):
            wrong.append(f"{entry} follows {known}")
        now[entry.atom] = entry.new
        if entry.atom is not None:
            calls[entry.atom] = calls.get(entry.atom, 0) + (entry.new == states.RUNNING)
        if entry.attempt != calls.get(entry.atom, 0) and before is None:
            wrong.append(f"{entry} is of attempt {calls.get(entry.atom)}")
        fails = entry.atom is not None and entry.new in (states.FAILURE, states.REVERT_FAILURE)
        if (entry.failure is not None) != fails:
            wrong.append(f"{entry} has a failure of another kind")
        if entry.began is not None and not entry.worker:
            wrong.append(f"{entry} has no worker")
    record = {detail.name: detail.state for detail in flow_detail if detail.name != INJECTOR}
    record[None] = flow_detail.state
    for name, state in record.items():
        if now.get(name, states.PENDING) != (state or states.PENDING):
            wrong.append(f"{name} is {state} on record, and {now.get(name)} in the history")
    return wrong
