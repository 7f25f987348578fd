"""The base class of listeners: three receivers, registered on an engine's notifiers together.

    with SomeListener(engine):
        engine.run()

What must stay true: deregistering a listener restores the engine; a listener that fails is logged, and the run
continues; without a registered listener nothing here costs anything.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from taskflowx import states
from taskflowx._util import arguments, reprs
from taskflowx.types.failure import Failure
from taskflowx.types.notifier import Notifier

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine

LOG = logging.getLogger(__name__)

#: the states that come with a result
FINISH_STATES = (states.FAILURE, states.SUCCESS, states.REVERTED, states.REVERT_FAILURE)

DEFAULT_LISTEN_FOR = (Notifier.ANY,)


def _is_of_task(details: dict[str, Any]) -> bool:
    return "task_name" in details


def _is_of_retry(details: dict[str, Any]) -> bool:
    return "retry_name" in details


class Listener:
    """Subscribes to the transitions of an engine's flow, tasks and retries; subclasses override the receivers.

    Registers when it is entered as a context manager, and deregisters at the end.

    :param engine: the engine
    :param task_listen_for: the states of tasks to subscribe to; `'*'` stands for all
    :param flow_listen_for: the same for the flow
    :param retry_listen_for: the same for retries
    """

    def __init__(
        self,
        engine: Engine,
        task_listen_for: Iterable[str] | None = DEFAULT_LISTEN_FOR,
        flow_listen_for: Iterable[str] | None = DEFAULT_LISTEN_FOR,
        retry_listen_for: Iterable[str] | None = DEFAULT_LISTEN_FOR,
    ) -> None:
        arguments.check_like("engine", engine, ("notifier", "atom_notifier"), "an engine")
        self._engine: Any = engine
        self._tfx_listen_for = {
            "task": _events("task_listen_for", task_listen_for),
            "retry": _events("retry_listen_for", retry_listen_for),
            "flow": _events("flow_listen_for", flow_listen_for),
        }
        self._tfx_registered: list[tuple[Notifier, str, Any, Any]] = []

    @reprs.one_line
    def __repr__(self) -> str:
        state = "registered" if self._tfx_registered else "not registered"
        return f"{type(self).__name__} of {repr(self._engine)[1:-1]}; {state}"

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> Awaitable[None] | None:
        """Handle a transition of the flow.

        :param details: `engine`, `flow_name`, `flow_uuid`, `old_state`
        """

    def _task_receiver(self, state: str, details: dict[str, Any]) -> Awaitable[None] | None:
        """Handle a transition of a task.

        :param details: `task_name`, `task_uuid`, `old_state`, and in a state of FINISH_STATES `result`
        """

    def _retry_receiver(self, state: str, details: dict[str, Any]) -> Awaitable[None] | None:
        """Handle a transition of a retry.

        :param details: `retry_name`, `retry_uuid`, `old_state`, and in a state of FINISH_STATES `result`
        """

    def register(self) -> None:
        """Register the receivers; does nothing if they are registered already."""
        if self._tfx_registered:
            return
        flows, atoms = self._engine.notifier, self._engine.atom_notifier
        wanted = [
            *((flows, event, self._flow_receiver, None) for event in self._tfx_listen_for["flow"]),
            *((atoms, event, self._task_receiver, _is_of_task) for event in self._tfx_listen_for["task"]),
            *((atoms, event, self._retry_receiver, _is_of_retry) for event in self._tfx_listen_for["retry"]),
        ]
        try:
            for one in wanted:
                notifier, event, receiver, details_filter = one
                notifier.register(event, receiver, details_filter=details_filter)
                self._tfx_registered.append(one)
        except BaseException:  # all of them or none
            Listener.deregister(self)
            raise

    def deregister(self) -> None:
        """Deregister the receivers; does nothing if they are not registered."""
        while self._tfx_registered:
            notifier, event, receiver, details_filter = self._tfx_registered.pop()
            notifier.deregister(event, receiver, details_filter=details_filter)

    def __enter__(self) -> Self:
        self.register()
        return self

    def __exit__(self, type: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.deregister()
        except Exception:  # an error of a subclass must not replace the exception of the block
            LOG.warning("Failed deregistering listeners from engine %s", self._engine, exc_info=True)


def _events(name: str, given: Iterable[str] | None) -> list[str]:
    """Return events without duplicates; a single str is one event."""
    events = (given,) if isinstance(given, str) else given or ()
    arguments.check_iterable(name, events, "an iterable of states, or '*' for all")
    return list(dict.fromkeys(events))


class UniformListener(Listener):
    """Handles the transitions of the flow, of tasks and of retries alike: subclasses override `_tfx_receive`."""

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._tfx_receive("flow", state, details)

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._tfx_receive("task", state, details)

    def _retry_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._tfx_receive("retry", state, details)

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        """Handle a transition.

        :param kind: 'flow', 'task' or 'retry'
        :param details: among them the name and the uuid, which begin with the kind
        """


class DumpingListener(UniformListener, abc.ABC):
    """Formats a line for each transition; subclasses write it."""

    @abc.abstractmethod
    def _dump(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Write a line.

        :param message: in the manner of logging, formatted with `args`
        :param kwargs: `exc_info` with a result: that of a failure, or None
        """

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        message = f"%s has moved {kind} '%s' (%s) into state '%s' from state '%s'"
        facts = (self._engine, details[f"{kind}_name"], details[f"{kind}_uuid"], state, details["old_state"])
        if kind == "flow" or state not in FINISH_STATES:
            self._dump(message, *facts)
            return
        result = details.get("result")
        failed = isinstance(result, Failure)
        exc_info = result.exc_info if isinstance(result, Failure) else None
        self._dump(message + " with result '%s' (failure=%s)", *facts, result, failed, exc_info=exc_info)
