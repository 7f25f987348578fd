"""The state of a flow: moved on record, then published, once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.storage import Storage
    from taskflowx.types.notifier import Notifier


class FlowState:
    """The state of the flow of an engine.

    :param engine: the engine, for the subscribers
    :param storage: where the state is kept
    :param notifier: gets the moves
    """

    def __init__(self, engine: Any, storage: Storage, notifier: Notifier) -> None:
        self._engine = engine
        self._storage = storage
        self._notifier = notifier
        #: (state, state before) of a move that is not published yet
        self._unpublished: tuple[str, str | None] | None = None

    @property
    def now(self) -> str:
        """The state on record; PENDING when there is none yet."""
        return self._storage.get_flow_state()

    def move(self, state: str) -> bool:
        """Move the flow to a state and publish that; returns whether it has moved.

        :raises InvalidState: when the table of states has no such move
        """
        moved = self.change(state)
        self.publish()
        return moved

    def change(self, state: str, details: Iterable[AtomDetail] = ()) -> bool:
        """Move the flow to a state, to be published later; returns whether it has moved.

        :param details: what is saved with it
        :raises InvalidState: when the table of states has no such move
        """
        old = self.now
        if states.check_flow_transition(old, state):
            self._unpublished = state, old
        return self._storage.change_flow_state(state, details)[0]

    def publish(self) -> None:
        """Publish the last move, if that was not done: so it is published once, also when an interrupt comes."""
        unpublished, self._unpublished = self._unpublished, None
        if unpublished is not None:
            state, old = unpublished
            flow = {"flow_name": self._storage.flow_name, "flow_uuid": self._storage.flow_uuid}
            self._notifier.notify(state, {"engine": self._engine, **flow, "old_state": old})
