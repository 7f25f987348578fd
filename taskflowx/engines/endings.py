"""How a run has ended: the state of its flow, and the error that its caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import logs
from taskflowx.engines.compilation import NAMED_IN_FULL, quoted
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.life import Work
    from taskflowx.storage import Storage

LOG = logs.calm(__name__)


def final_state(details: list[Any]) -> str:
    """Return the state of a flow of which nothing is left to do."""
    found = {detail.state for detail in details if detail is not None}
    if found.issubset(states.PASSED):
        return states.SUCCESS
    rolled_back = any(detail.intention == states.REVERT for detail in details if detail is not None)
    return states.REVERTED if rolled_back and states.REVERT_FAILURE not in found else states.FAILURE


def raise_failures(flow: Any, storage: Storage, final: str, standing: list[str]) -> None:
    """Raise what is on record as failed; a note of it names what still stands.

    :param final: the state in which the flow has ended
    :param standing: the names of the atoms that are not undone
    """
    failures = [*storage.get_execute_failures().values(), *storage.get_revert_failures().values()]
    try:
        Failure.reraise_if_any(failures)
    except Exception as error:
        note = f"Not undone in {flow}: {quoted(standing)}"
        if standing and note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
    msg = f"{flow} ended {final}, and no failure is on record; the atoms that stand are {standing}"
    raise exceptions.ExecutionFailure(msg)


def left_by(flow: Any, work: Work, dirty: list[Any]) -> BaseException:
    """Return the error of a run that was left before its end.

    :param work: the run
    :param dirty: the details that are not saved
    """
    error = work.left_by
    assert error is not None, "it was left"
    if work.not_saved is None or (work.scheduler is None and not dirty):
        return error
    unsaved = _not_saved(flow, dirty, work.not_saved)
    if error is work.not_saved:
        unsaved.__cause__ = error
        return unsaved
    LOG.warning("%s", unsaved)
    return error


def _not_saved(flow: Any, dirty: list[Any], error: BaseException) -> exceptions.StorageFailure:
    """Return the error of a run that was stopped because its store takes nothing more."""
    if isinstance(error, exceptions.Unstorable):
        return exceptions.Unstorable(f"{flow} was stopped, as its record cannot be stored as it is", error)
    if not dirty:
        return exceptions.StorageFailure(
            f"{flow} was stopped, as its store did not take the record; all that was done is saved\n"
            "Run this engine again, or go on from the record",
            error,
        )
    names = ", ".join(f"'{detail.name}' ({detail.state})" for detail in dirty[:NAMED_IN_FULL])
    more = f" and {len(dirty) - NAMED_IN_FULL} more" if len(dirty) > NAMED_IN_FULL else ""
    return exceptions.StorageFailure(
        f"{flow} was stopped, as its store does not take the record. Not saved: {names}{more}\n"
        "This engine still has it: run it again when the store is back. Another process would do again what is not "
        "saved",
        error,
    )
