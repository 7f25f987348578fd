"""What every engine offers to the outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from taskflowx import states, task
from taskflowx._util import logs, reprs
from taskflowx.types import notifier as notifiers

if TYPE_CHECKING:
    from types import TracebackType

    from taskflowx.flow import Member
    from taskflowx.persistence.base import Backend
    from taskflowx.persistence.figures import Metrics
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import FlowDetail
    from taskflowx.pictures.picture import Picture
    from taskflowx.storage import Storage


LOG = logs.calm(__name__)

#: the events of flows and atoms, together: listeners register for the same states on both notifiers
_EVENTS = (
    *sorted({*states.ATOM_STATES, *states.FLOW_STATES}),
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

    #: the store, where the engine was made with the name of one; `close` closes it
    owned_backend: Backend | None = None

    def __init__(
        self, flow: Member, flow_detail: FlowDetail, backend: Backend | None, options: Mapping[str, Any] | None
    ) -> None:
        self._flow = flow
        self._flow_detail = flow_detail
        self._backend = backend
        #: the options that this engine was made with
        self.options = dict(options or {})
        #: gets the transitions of the flow, in the thread that runs the engine
        self.notifier: notifiers.Notifier = StateNotifier()
        #: gets the transitions of the atoms, in the thread that runs the engine
        self.atom_notifier: notifiers.Notifier = StateNotifier()

    @reprs.one_line
    def __repr__(self) -> str:
        record = self.storage.record
        atoms = reprs.counted(one.state for one in record.rows if one is not None)
        preparation = getattr(self, "preparation", None)
        if preparation is not None and preparation.plan is None:
            atoms = "not compiled yet"
        state = self._flow_detail.state or states.PENDING
        executor = getattr(self, "_executor", None)
        where = "" if executor is None else f"; {executor.called}"
        return f"{type(self).__name__} {self._flow_detail.name!r} {state}: {atoms}{where}"

    @property
    def storage(self) -> Storage:
        """The record of the run, by name."""
        raise NotImplementedError

    @property
    def statistics(self) -> dict[str, Any]:
        """Numbers about the run so far."""
        raise NotImplementedError

    def history(self) -> list[Entry]:
        """Return the transitions of the flow and its atoms so far, in their order; may be called from any thread.

        There are some where the option `history` is true; see `taskflowx.persistence.history.Entry`.
        """
        return self.storage.history()

    @property
    def metrics(self) -> Metrics:
        """The figures of the run so far, as far as its history has them; may be asked for in any thread."""
        raise NotImplementedError

    def picture(self, fold: int = 300, direction: str = "down") -> Picture:
        """Return a picture of the flow and of its run so far; may be called from any thread.

        :param fold: the number of atoms beyond which nested flows are folded, each into one box
        :param direction: where links go: 'down' or 'right'
        """
        from taskflowx.engines import looks  # who draws nothing does without it

        return looks.picture_of(self._flow, self._flow_detail, self.storage, fold, direction)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook shows."""
        return self.picture()._repr_mimebundle_()

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

    def close(self) -> None:
        """Close the store, if the engine was made with the name of one; may be repeated, and the engine can run on."""
        store, self.owned_backend = self.owned_backend, None
        if store is not None:
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
