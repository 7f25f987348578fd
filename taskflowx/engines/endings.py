"""How a run has ended: the state of its flow, and the error that its caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import logs
from taskflowx.engines import notes
from taskflowx.engines.compilation import NAMED_IN_FULL, quoted
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from taskflowx.engines import shared
    from taskflowx.engines.life import Work
    from taskflowx.engines.preparation import Preparation

LOG = logs.calm(__name__)

#: so many atoms are named for which an interrupted run waits
_NAMED = 5


def final_state(details: list[Any]) -> str:
    """Return the state of a flow of which nothing is left to do."""
    found = {detail.state for detail in details if detail is not None}
    if found.issubset(states.PASSED):
        return states.SUCCESS
    rolled_back = any(detail.intention == states.REVERT for detail in details if detail is not None)
    return states.REVERTED if rolled_back and states.REVERT_FAILURE not in found else states.FAILURE


def way_out(asked: list[str]) -> str:
    """Say what is to be done about calls whose outcome is asked for."""
    return (
        f"nobody knows whether the calls of {quoted(asked)} have had their effect\n"
        "engine.unknown() has their idempotency keys. Give the outcome of each by engine.resolve(name, result=...) "
        "or engine.resolve_failed(name, error), then run it again; engine.rollback() undoes all"
    )


def raise_failures(flow: Any, preparation: Preparation, final: str) -> None:
    """Raise what is on record as failed; its notes say where it has failed, and name what still stands.

    :param preparation: the flow with its record
    :param final: the state in which the flow has ended
    """
    places = preparation.failed_at()
    standing = preparation.not_undone()
    try:
        Failure.reraise_if_any([failure for failure, _ in places])
    except Exception as error:
        notes.add_places(error, places, flow.name)
        if standing:
            notes.add(error, f"Not undone in {flow}: {quoted(standing)}")
        raise
    msg = f"{flow} ended {final}, and no failure is on record; the atoms that stand are {standing}"
    raise exceptions.ExecutionFailure(msg)


def raise_if_cancelled(
    flow: Any, preparation: Preparation, meta: Mapping[str, Any], cancelled: shared.Cancel | None
) -> None:
    """Raise the error of a run that was cancelled, or that goes on with the rollback of one.

    :param meta: the metadata of the flow
    :param cancelled: what was asked of the run
    """
    error = None if cancelled is None else cancelled.error
    if error is None and metadata.CANCELLED in meta:
        kind, text = meta[metadata.CANCELLED]
        error = (exceptions.TimeoutExceeded if kind == "TimeoutExceeded" else exceptions.Cancelled)(text)
    if error is None:
        return
    standing = preparation.not_undone() if cancelled is None or cancelled.rolls_back else []
    if standing:
        notes.add(error, f"Not undone in {flow}: {quoted(standing)}")
    raise error


def tell_of_the_wait(run: shared.Run, ended: Collection[int], leaves: int) -> None:
    """Say for what an interrupted run waits: else nobody can tell it from one that hangs.

    :param ended: the atoms under way of which the outcome has come
    :param leaves: how many further interrupts leave calls that cannot be stopped
    """
    left_by = run.interrupts.left_by
    count = run.in_flight - len(ended)
    if left_by is None or isinstance(left_by, GeneratorExit) or count <= 0:
        return
    names = [
        detail.name
        for i, detail in enumerate(run.details)
        if detail is not None and detail.state in states.CALLED and i not in ended
    ]
    shown = ", ".join(map(repr, names)) if len(names) == count <= _NAMED else f"{count} of them"
    then = f"does not end the wait, {leaves} more do, and leave them"
    if run.executor.can_kill or run.executor.runs_async:
        then = "kills them" if run.executor.can_kill else "cancels those that are coroutines"
    msg = "Interrupted by %s: waiting for the calls under way, %s; a second interrupt %s"
    LOG.warning(msg, type(left_by).__name__, shown, then)


def late(flow: Any, seconds: float) -> exceptions.TimeoutExceeded:
    """Return the error of a run that is rolled back, as its time is up."""
    return exceptions.TimeoutExceeded(f"{flow} was not finished after {seconds:g} seconds, and is rolled back")


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
