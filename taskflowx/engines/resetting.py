"""Atoms whose states are changed between two runs: brought back to their beginning, all of them or those that failed.

All of it is done before it is published, and an interrupt is raised when it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.engines import life
from taskflowx.record import metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.engines.flow_state import FlowState
    from taskflowx.engines.preparation import Preparation
    from taskflowx.storage import Storage
    from taskflowx.types.notifier import Notifier


class Resetting:
    """Resets the atoms of one engine.

    :param preparation: the flow with its record
    :param storage: the record by name
    :param state: the state of the flow
    :param notifier: gets the transitions of atoms
    """

    def __init__(self, preparation: Preparation, storage: Storage, state: FlowState, notifier: Notifier) -> None:
        self._preparation, self._storage, self._state, self._notifier = preparation, storage, state, notifier

    def reset_all(self, first: Callable[[], None]) -> None:
        """Reset all atoms and the flow, in one commit.

        :param first: called before that, once it is certain; may be called again
        :raises InvalidState: when the flow is in a state that has no way back
        """
        states.check_flow_transition(self._state.now, states.PENDING)  # before anything is forgotten
        preparation = self._preparation

        def step(moved: dict[int, str | None]) -> None:
            first()
            preparation.reset(moved)
            for key in (metadata.CANCELLED, metadata.ROLLED_BACK):
                self._storage.flow_meta.pop(key, None)
            details = [*filter(None, preparation.details), *preparation.absent]
            if not self._state.change(states.PENDING, details):  # the flow was PENDING, and its atoms were not
                self._storage.writes.save(*details)
            preparation.absent = []

        self.carry_out(step)

    def reset_failed(self, entry: dict[str, Any] | None = None) -> list[str]:
        """Reset the atoms that have failed and are not rolled back, in one commit; returns their names.

        :param entry: noted in the record of each, and of the atoms whose revert has failed, which are named, too
        """
        details = self._preparation.details
        failed = [
            i
            for i, one in enumerate(details)
            if one is not None and (one.state, one.intention) == (states.FAILURE, states.EXECUTE)
        ]

        stuck = [
            i
            for i, one in enumerate(details if entry is not None else ())
            if one is not None and one.state == states.REVERT_FAILURE
        ]

        def step(moved: dict[int, str | None]) -> None:
            self._preparation.reset(moved, only=failed)
            if entry is not None:
                for i in (*failed, *stuck):
                    metadata.note_by_hand(details[i].meta, entry, self._storage.writes.masked)
            self._storage.save_all()

        if failed or stuck or entry is None:
            self.carry_out(step)
        return [details[i].name for i in (*failed, *stuck)]

    def carry_out(self, step: Callable[[dict[int, str | None]], None]) -> None:
        """Do a step that may be done again, until it is done, and publish it.

        :param step: gets a dict for the places of the atoms that it moves, and their states before
        :raises InvalidState: when the run is finished, and its record is only read
        """
        work, writes = life.Interrupts(), self._storage.writes
        if writes.finished_run is not None:
            raise exceptions.InvalidState(
                f"Run '{writes.finished_run}' is finished ({self._state.now}), and this engine only reads its record\n"
                "if_finished='again' begins it again; an engine that is loaded with flow_detail= and backend= changes "
                "the run as it is, as `taskflowx rollback` does"
            )
        self._storage.record.untouched = False
        moved: dict[int, str | None] = {}

        def save() -> None:
            if writes.durable:  # until they are saved: a run that follows saves them
                writes.dirty.update(i for i, one in enumerate(self._preparation.details) if one is not None)
            step(moved)
            writes.dirty.clear()

        work.defy(save)
        if work.not_saved is None:
            work.defy(lambda: self._tell(moved))
        if work.left_by is not None:
            raise work.left_by

    def _tell(self, moved: dict[int, str | None]) -> None:
        while moved:
            i = next(iter(moved))
            detail, old = self._preparation.details[i], moved.pop(i)
            facts = {f"{detail.KIND}_name": detail.name, f"{detail.KIND}_uuid": detail.uuid, "old_state": old}
            if detail.state in states.WITH_OUTCOME:
                facts["result"] = {states.SUCCESS: detail.results, states.FAILURE: detail.failure}.get(detail.state)
            self._notifier.notify(detail.state, facts)
        self._state.publish()
