"""What every engine offers to the outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import states, task
from taskflowx._util import logs
from taskflowx.types import notifier as notifiers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskflowx.persistence.models import FlowDetail
    from taskflowx.storage import Storage


LOG = logs.calm(__name__)

#: the events of flows and atoms, together: listeners register for the same states on both notifiers
_EVENTS = (
    states.FAILURE,
    states.IGNORE,
    states.PENDING,
    states.RESUMING,
    states.RETRYING,
    states.REVERTED,
    states.REVERTING,
    states.REVERT_FAILURE,
    states.RUNNING,
    states.SUCCESS,
    states.SUSPENDED,
    states.SUSPENDING,
    task.EVENT_UPDATE_PROGRESS,
    notifiers.Notifier.ANY,
)


class StateNotifier(notifiers.Notifier):
    """Takes callbacks for any event, and warns of an event that no engine sends: it is most likely misspelt."""

    def register(
        self,
        event_type: str,
        callback: notifiers.Callback,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        details_filter: notifiers.DetailsFilter | None = None,
    ) -> None:
        """Have a callback called on an event; see `taskflowx.types.notifier.Notifier.register`."""
        super().register(event_type, callback, args, kwargs, details_filter)
        if event_type not in _EVENTS:
            import difflib  # only a mistake needs it

            close = difflib.get_close_matches(str(event_type).upper(), _EVENTS, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f", which sends {list(_EVENTS)}"
            LOG.warning("A callback was registered for '%s', an event that no engine sends%s", event_type, hint)


class Engine:
    """Runs one flow.

    :param flow: what to run
    :param flow_detail: where the record of the run is kept
    :param backend: the store of the flow detail, or None when it lives in memory alone
    :param options: the options of the engine, by name
    """

    def __init__(self, flow: Any, flow_detail: FlowDetail, backend: Any, options: dict[str, Any] | None) -> None:
        self._flow = flow
        self._flow_detail = flow_detail
        self._backend = backend
        self._options = dict(options or {})
        self._notifier: notifiers.Notifier = StateNotifier()
        self._atom_notifier: notifiers.Notifier = StateNotifier()

    @property
    def notifier(self) -> notifiers.Notifier:
        """Gets the transitions of the flow, in the thread that runs the engine."""
        return self._notifier

    @property
    def atom_notifier(self) -> notifiers.Notifier:
        """Gets the transitions of the atoms, in the thread that runs the engine."""
        return self._atom_notifier

    @property
    def options(self) -> dict[str, Any]:
        """The options that this engine was made with."""
        return self._options

    @property
    def storage(self) -> Storage:
        """The record of the run, by name."""
        raise NotImplementedError

    @property
    def statistics(self) -> dict[str, Any]:
        """Numbers about the run so far."""
        raise NotImplementedError

    def compile(self) -> None:
        """Turn the flow into what the engine runs; done once."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the record of each atom, or find it in what is kept already."""
        raise NotImplementedError

    def validate(self) -> None:
        """Check, before anything runs, that all that is needed is there."""
        raise NotImplementedError

    def reset(self) -> None:
        """Bring a flow that has ended back to its beginning."""
        raise NotImplementedError

    def run(self) -> None:
        """Run the flow to its end."""
        raise NotImplementedError

    def suspend(self) -> None:
        """Let what runs finish, start nothing new, and leave the flow so that it can be run on."""
        raise NotImplementedError
