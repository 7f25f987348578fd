"""A run as a picture: what the record says of each atom, handed to `pictures`, which knows no engine.

A run may be under way in another thread: each attribute of a detail is read once, and those of one atom need not be of
the same moment.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from taskflowx import controls, exceptions, flow as flows, retry, states
from taskflowx.persistence import figures
from taskflowx.pictures import model, picture
from taskflowx.record import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.storage import Storage


def picture_of(flow: Any, flow_detail: FlowDetail, storage: Storage, fold: int, direction: str) -> picture.Picture:
    """Return a picture of a run.

    :param flow_detail: the record of the run, also one that has no detail for some of the atoms
    :param storage: has its history, if one is kept
    :param fold: the number of atoms beyond which flows are folded
    :param direction: where links go: 'down' or 'right'
    """
    details = {detail.name: detail for detail in flow_detail}
    history = _history(storage)
    seconds = {call.atom: call.ran for call in figures.calls_of(history)}
    attempts = _given_up(flow, storage.record.failed) | {entry.atom: entry.attempt for entry in history}

    def look(atom: Any) -> model.Status | None:
        detail = details.get(atom.name)
        if detail is None:
            return None
        status = status_of(detail)
        if detail.KIND != "retry":
            status = status._replace(seconds=seconds.get(atom.name, status.seconds))
        elif not status.attempts:  # its own history is emptied when it is undone
            status = status._replace(attempts=attempts.get(atom.name, 0))
        return status

    return picture.draw(flow, fold, direction, look, flow_detail.state)


def _history(storage: Storage) -> list[Entry]:
    """Return the history of a run; none where the store that has it is closed or cannot be read."""
    try:
        return storage.history()
    except (exceptions.TaskFlowException, OSError):
        return []


def _given_up(flow: Any, failed: Mapping[str, int]) -> dict[str | None, int]:
    """Return how many attempts retries have made, by the atoms that have failed under them.

    :param failed: name of an atom -> the number of the attempt in which it has failed
    """
    found: dict[str | None, int] = {}
    inside: list[tuple[Any, str | None]] = [(flow, None)] if failed else []
    while inside:
        member, controller = inside.pop()
        own = controls.retry_of(member)
        if own is not None:  # a task under a retry of its own
            controller = own.name or f"{member.name}_retry"
        elif isinstance(member, flows.Flow):
            if member.retry is not None and not isinstance(member.retry, (retry.AlwaysRevert, retry.AlwaysRevertAll)):
                controller = member.retry.name
            inside += [(each, controller) for each in flows.members_of(member)]
        if controller is not None and failed.get(member.name, 0) > found.get(controller, 0):
            found[controller] = failed[member.name]
    return found


def status_of(detail: AtomDetail) -> model.Status:
    """Return what is on record about an atom.

    A duration is there when a `DurationListener` has measured it, the number of attempts for a retry that is not
    undone, and for a task that asks for it.
    """
    meta = detail.own_meta or {}
    attempts = len(detail.results or ()) if detail.KIND == "retry" else meta.get(metadata.ATTEMPT, 0)
    failure = detail.revert_failure or detail.failure
    return model.Status(
        detail.state if detail.state is not None else states.PENDING,
        _number(meta.get(metadata.DURATION)),
        _number(meta.get(metadata.PROGRESS)),
        attempts if isinstance(attempts, int) else 0,
        failure,
    )


def _number(value: Any) -> float | None:
    """Return a fact of the metadata, where users may put anything, if it is a number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
