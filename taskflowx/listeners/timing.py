"""Listeners that measure the durations of the flow and of each task, and the times at which they enter states."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, states
from taskflowx._util import arguments
from taskflowx.listeners import base
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine

LOG = logging.getLogger(__name__)

STARTING_STATES = frozenset((states.RUNNING, states.REVERTING))
FINISHED_STATES = frozenset(base.FINISH_STATES)
WATCH_STATES = STARTING_STATES | FINISHED_STATES | {states.PENDING}


class Duration(NamedTuple):
    """The duration of something that has ended."""

    seconds: float

    def elapsed(self) -> float:
        """Return the seconds."""
        return self.seconds


class DurationListener(base.Listener):
    """Stores as `duration`, in the metadata of the flow and of each task, the seconds of its last call.

    That is the time of `execute`, or after a rollback that of `revert`, including the transport there and back; for the
    flow, that of the run.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, task_listen_for=WATCH_STATES, flow_listen_for=WATCH_STATES)
        #: kind -> name -> when it started, by a monotonic clock
        self._timers: dict[str, dict[str, float]] = {"task": {}, "flow": {}}

    def deregister(self) -> None:
        """Deregister the receivers, and log how many items have started and not ended."""
        super().deregister()
        for item_type, timers in self._timers.items():
            if timers:
                LOG.warning("%s %s(s) did not enter %s states", len(timers), item_type, sorted(FINISHED_STATES))
            timers.clear()

    def _record_ending(self, timer: Any, item_type: str, item_name: str, state: str) -> None:
        """Store the duration of an item.

        :param timer: has `elapsed()`, in seconds
        :param item_type: 'flow' or 'task'
        :param state: the state that it ended in
        """
        _keep(self._engine, "duration update", {metadata.DURATION: timer.elapsed()}, item_type, item_name)

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._receiver("task", details["task_name"], state)

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._receiver("flow", details["flow_name"], state)

    def _receiver(self, item_type: str, item_name: str, state: str) -> None:
        timers = self._timers[item_type]
        if state in STARTING_STATES:
            timers[item_name] = time.perf_counter()
        else:
            started = timers.pop(item_name, None)
            if started is not None and state in FINISHED_STATES:
                self._record_ending(Duration(time.perf_counter() - started), item_type, item_name, state)


class PrintingDurationListener(DurationListener):
    """Prints each start and each duration, beside storing it.

    :param printer: called with each line; prints by default
    """

    def __init__(self, engine: Engine, printer: Callable[[str], object] | None = None) -> None:
        super().__init__(engine)
        if printer is not None:
            arguments.check_callback("printer", printer)
        self._printer: Callable[[str], object] = print if printer is None else printer

    def _record_ending(self, timer: Any, item_type: str, item_name: str, state: str) -> None:
        super()._record_ending(timer, item_type, item_name, state)
        self._printer(f"It took {item_type} '{item_name}' {timer.elapsed():0.2f} seconds to finish.")

    def _receiver(self, item_type: str, item_name: str, state: str) -> None:
        super()._receiver(item_type, item_name, state)
        if state in STARTING_STATES:
            self._printer(f"'{item_name}' {item_type} started.")


class EventTimeListener(base.UniformListener):
    """Stores as `<STATE>-timestamp`, in the metadata of the flow and of each atom, when it last entered each state.

    Times are in seconds since the epoch.
    """

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        name, kind = details[f"{kind}_name"], "flow" if kind == "flow" else "atom"
        _keep(self._engine, "timestamp", {f"{state}-timestamp": time.time()}, kind, name)


def _keep(engine: Engine, what: str, facts: dict[str, float], kind: str, name: str) -> None:
    """Store values in the metadata of a flow or an atom.

    An error of the store is logged, as a measurement must not stop a run.
    """
    storage = engine.storage
    try:
        if kind == "flow":
            storage.update_flow_metadata(facts)
        else:
            storage.update_atom_metadata(name, facts)
    except exceptions.StorageFailure:
        LOG.warning("Failure to store %s %s for %s %s", what, facts, kind, name, exc_info=True)
