"""Runs with an id: made if new, taken up if unfinished, not run again if finished.

What must stay true: a run that exists has the values given to it, as record and values are one transaction. Who finds
that another process has begun the run meanwhile has called nothing of it, and looks at the record again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from taskflowx import engines, exceptions, states
from taskflowx._util import arguments, clock as clocks, logs, masking, reprs
from taskflowx.atom import version_text
from taskflowx.engines import shape
from taskflowx.persistence import codec, models, owners, run_records, tags
from taskflowx.record import metadata
from taskflowx.record.record import INJECTOR_NAME
from taskflowx.runs import outline, pauses, result, stores

if TYPE_CHECKING:
    from types import TracebackType

    from taskflowx.engines.engine import ActionEngine
    from taskflowx.engines.plan import Plan
    from taskflowx.flow import Member
    from taskflowx.persistence.base import Backend, Connection
    from taskflowx.persistence.history import Entry
    from taskflowx.runs.result import RunResult

LOG = logs.calm(__name__)

IfFinished = Literal["return", "error", "again"]

#: a run in one of these states has nothing left to do
FINISHED = frozenset((states.SUCCESS, states.REVERTED))
_SHOWN = 80  # characters of a value
#: kinds of tagged values whose parts are written in the order of their making, which differs among equal ones
_WITHOUT_ORDER = ("set", "frozenset", "dict")

#: store in memory -> uuid of a run -> who runs it: such a store has no owners
_in_memory: weakref.WeakKeyDictionary[Any, dict[str, Start]] = weakref.WeakKeyDictionary()
_reserving = threading.Lock()


class Start:
    """One attempt to run a flow under an id; a context manager that closes a store which it has opened.

    :param flow: what to run
    :param store: values for the inputs of tasks, by name; None for those on record
    :param backend: where the record is kept
    :param run_id: the id
    :param if_finished: what is done with a run that is finished
    :param wait: the seconds to wait while another process runs it
    :param options: those of the engine
    :raises ValueError, TypeError: when an argument is not one of those accepted
    """

    def __init__(
        self,
        flow: Member,
        store: Mapping[str, Any] | None,
        backend: stores.Store | Backend | None,
        run_id: str,
        if_finished: str,
        wait: float,
        options: Mapping[str, Any],
    ) -> None:
        self.run_id = run_records.check_id(run_id)
        arguments.check_choice("if_finished", if_finished, ("return", "error", "again"))
        wait = arguments.to_seconds("wait", wait, "a number of seconds, zero or more", least=0)
        if backend is None:
            raise ValueError(
                f"run_id={run_id!r} needs a store that outlives this call\n"
                "Give one with backend=, such as backend='runs.db' or 'sqlite:///runs.db'"
            )
        self._flow = flow
        self._given = None if store is None else dict(arguments.to_named_values("store", store))
        self._if_finished = if_finished
        self._options = {"on_mismatch": "refuse", **options}
        self._clock: clocks.Clock = options.get("clock") or clocks.SYSTEM
        #: waits before further looks at the record
        self.pauses = pauses.Pauses(self._clock, wait)
        #: whether the record is finished, so that nothing of it is to be run
        self.is_finished = False
        self._outline: outline.Outline | None = None  # of a run that is finished
        self._detail: Any = None  # that of the engine, and its version then
        self._written = 0
        self._given_store = backend
        self.backend, self._owned = stores.fetch(backend)
        if self._owned and getattr(self.backend, "is_temporary", False):
            LOG.warning(
                "Run '%s' is in a store in memory, %r, that is gone with this run: nobody can take it up, and the next "
                "call with this id runs it again. Give a store that outlives it, such as backend='runs.db', or make "
                "one in memory by persistence.backends.fetch() and give that to each call",
                run_id,
                self.backend,
            )
        self._is_durable = getattr(self.backend, "durable", True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._release()
        if self._owned:
            self.backend.close()

    def give_up_store(self) -> Backend | None:
        """Return the store if it was opened here; the caller closes it from now on."""
        owned, self._owned = self._owned, False
        return self.backend if owned else None

    # -- the steps ---------------------------------------------------------------------------------

    def engine(self) -> ActionEngine | None:
        """Return an engine for the run, or None while another process runs it: then `pauses` are to be waited for.

        :raises OwnershipFailure: when another process runs it, and the time to wait is up
        :raises RunMismatch: when the run is that of another flow, or has other values
        :raises Duplicate: when it is finished, and that is an error
        """
        with contextlib.closing(self.backend.get_connection()) as connection:
            made = self._take_up(connection)
        if made is not None:
            self._detail = made.storage.record.flow_detail
            self._written = self._detail.revision
        return made

    def has_lost(self, error: exceptions.TaskFlowException) -> bool:
        """Tell whether another process has begun or removed the run before this one could begin it.

        Then look at the record again.

        :param error: what the run has ended with
        """
        if self._is_durable and self._detail.revision != self._written:
            return False
        if self._is_durable and isinstance(error, exceptions.OwnershipFailure):
            return True
        with contextlib.closing(self.backend.get_connection()) as connection:
            return self._read(connection) is None

    def _take_up(self, connection: Connection) -> ActionEngine | None:
        detail = self._read(connection)
        plan = None
        if detail is None:
            detail, plan = self._make(connection)
        if detail is None or not self._is_free(connection, detail):
            return None
        self.is_finished = detail.state in FINISHED
        goes_on = not self.is_finished or self._if_finished == "again"
        more = {"on_mismatch": "ignore"} if goes_on and self.is_finished else {}  # it may be another flow now
        made = self._load(detail, self.backend if goes_on else None, **more)  # else nothing is written
        stored, in_memory = self._split(made)
        if plan is None:
            self._compare(detail, stored, self._hidden(made))
        if goes_on:
            made.preparation.plan = plan
            if plan is None:
                made.compile()
                outline.keep(connection, detail, made.preparation.compiled())
            if self.is_finished and not self._reset(made, connection):
                return None
            if in_memory:
                made.storage.inject(in_memory, transient=True)
            return made
        if self._if_finished == "error":
            raise exceptions.Duplicate(
                f"Run '{self.run_id}' is finished: {detail.state}\n"
                "if_finished='return' returns its result, 'again' runs it again"
            )
        made.storage.writes.finished_run = self.run_id
        made.storage.writes.read_history = self.history
        self._outline = outline.read(connection, detail)
        return made

    def result(self, made: ActionEngine) -> RunResult:
        """Return what the run has come to; of one that was finished before from its record alone.

        The flow may be another version by now, of which nothing is asked then.

        :param made: its engine
        """
        if self.is_finished and self._outline is not None:
            return result.of_record(self._detail, self._outline.provides, self.history)
        return result.of_engine(made, self.history)

    def history(self) -> list[Entry]:
        """Return the history of the run, also when the store that was opened here is closed."""
        if not getattr(self.backend, "keeps_history", False):
            return []
        backend, owned = (self.backend, False) if self._given_store is self.backend else stores.fetch(self._given_store)
        try:
            with contextlib.closing(backend.get_connection()) as connection:
                return list(connection.get_history(run_records.flow_uuid(self.run_id)))
        finally:
            if owned:
                backend.close()

    # -- parts -------------------------------------------------------------------------------------

    def _read(self, connection: Connection) -> models.FlowDetail | None:
        uuid = run_records.flow_uuid(self.run_id)
        with contextlib.suppress(exceptions.NotFound):
            try:
                return connection.get_flow_details(uuid)
            except codec.Unreadable:  # its large values are gone: it may be that it is being removed
                return connection.get_flow_details(uuid)
        return None

    def _make(self, connection: Connection) -> tuple[models.FlowDetail | None, Plan | None]:
        """Store a new record, with the values given to it and all atoms; nothing is stored of a flow that cannot run.

        Returns it with the compiled flow; or the record that somebody else has stored meanwhile, None if that is gone.
        """
        book = models.LogBook(run_records.book_name(self.run_id), run_records.book_uuid(self.run_id))
        detail = models.FlowDetail(getattr(self._flow, "name", None) or self.run_id, run_records.flow_uuid(self.run_id))
        detail.meta[run_records.RUN] = {"id": self.run_id}
        draft = self._load(detail, None)
        draft.storage.writes.draft_for(self.backend)
        draft.storage.inject(self._given or {})
        draft.compile()
        draft.prepare()
        draft.validate()
        plan = draft.preparation.compiled()
        if self._is_durable:
            self._split(self._load(detail, self.backend))  # refuses sensitive values that it would keep as they are
        book.meta[run_records.RUN] = {"id": self.run_id}
        if not shape.is_kept_whole(plan):
            outline.put_into(book, detail.meta[run_records.RUN].get(shape.KEY), outline.Outline.of_plan(plan))
        book.add(detail)
        try:
            with draft.storage.writes.refusing(self._given or {}), self.backend.values_beside(detail):
                if self._given and self._is_durable:
                    given = next((atom.results for atom in detail if atom.name == INJECTOR_NAME), None)
                    self.backend.check_value(given, "the values given to the flow")
                connection.add_flow_details(book, detail)
        except exceptions.Duplicate:
            return self._read(connection), None
        return detail, plan

    def _load(self, detail: models.FlowDetail, backend: Backend | None, **more: Any) -> ActionEngine:
        options = {**self._options, **more}
        if options.get("history") is None:
            options["history"] = getattr(backend, "keeps_history", False)
        return engines.load(self._flow, None, detail, None, backend, **options)

    def _is_free(self, connection: Connection, detail: models.FlowDetail) -> bool:
        """Tell whether nobody runs it.

        :raises OwnershipFailure: when somebody does, and the time to wait is up
        """
        try:
            self._check_free(connection, detail)
        except exceptions.OwnershipFailure:
            if self.pauses.is_over():
                raise
            return False
        return True

    def _check_free(self, connection: Connection, detail: models.FlowDetail) -> None:
        """Check that nobody runs it, and where the store cannot tell, that nobody in this process does.

        :raises OwnershipFailure: names who does
        """
        what = f"Run '{self.run_id}'"
        if not self._is_durable:
            with _reserving:
                running = _in_memory.setdefault(self.backend, {})
                if running.setdefault(detail.uuid, self) is not self:
                    raise exceptions.OwnershipFailure(f"{what} is being run by another engine of this process")
        owners.check_free(connection.get_claim(detail.uuid), what, self._clock.time())

    def _release(self) -> None:
        with _reserving:
            running = _in_memory.get(self.backend, {})
            for uuid in [uuid for uuid, start in running.items() if start is self]:
                del running[uuid]

    def _split(self, made: ActionEngine) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Return the values given that the store of an engine keeps, and those that stay in memory.

        :raises Unstorable: when sensitive values would be stored as they are
        """
        secrets = made.storage.writes.secrets
        if secrets is None or self._given is None:
            return self._given, {}
        return secrets.split(self._given)

    def _hidden(self, made: ActionEngine) -> frozenset[str]:
        """Return the names of values that are not shown."""
        injector = made.storage.record.injector
        on_record = () if injector is None else injector.meta.get(metadata.SENSITIVE) or ()
        secrets = made.storage.writes.secrets
        return frozenset((*on_record, *(() if secrets is None else secrets.names)))

    def _compare(self, detail: models.FlowDetail, given: Mapping[str, Any] | None, hidden: frozenset[str]) -> None:
        """Check that the record is that of this flow and of these values.

        :param hidden: names of values that are not shown
        :raises RunMismatch: says how they differ
        """
        name = getattr(self._flow, "name", None)
        if name and detail.name != name:  # one without a name is recorded under the id
            raise exceptions.RunMismatch(
                f"Run '{self.run_id}' is a run of flow '{detail.name}', and not of '{name}'\nUse another run_id"
            )
        if given is None:
            return
        kept = next((atom.results for atom in detail if atom.name == INJECTOR_NAME), None) or {}
        different = differences(kept, given, hidden)
        if different:
            raise exceptions.RunMismatch(
                f"Run '{self.run_id}' has other values than those given now:\n  "
                + "\n  ".join(different)
                + "\nGive the same values, or none to go on with those on record; or use another run_id. "
                "`taskflowx.runs` can fork a run with other values"
            )

    def _reset(self, made: ActionEngine, connection: Connection) -> bool:
        """Bring a run that is finished back to its beginning, once; False if somebody has begun or removed it before.

        :raises OwnershipFailure: when somebody has, and the time to wait is up
        """
        made.compile()
        plan = made.preparation.compiled()
        before = {}
        for detail in made.storage.record.flow_detail:  # nothing of it is kept that a version would have to fit
            if (i := plan.names.get(detail.name)) is not None:
                before[detail] = detail.version
                detail.version = version_text(plan.atoms[i].version)
        made.prepare()
        try:
            if made.storage.get_flow_state() in FINISHED:
                made.reset()
        except (exceptions.NotFound, exceptions.OwnershipFailure):
            for detail, version in before.items():
                detail.version = version
            if self.pauses.is_over() and self._read(connection) is not None:
                raise
            return False
        self._if_finished, self.is_finished = "return", False
        return True


def differences(kept: Mapping[str, Any], given: Mapping[str, Any], hidden: frozenset[str] = frozenset()) -> list[str]:
    """Return how values differ, a line for each name; they are compared as they are stored.

    The parts of sets and dicts may be in any order.

    :param hidden: names of values that are not shown
    """
    lines = []

    def shown(name: str, value: Any) -> str:
        return masking.MASK if name in hidden else _shown(value)

    for name in sorted({*kept, *given}, key=str):
        if name not in given:
            lines.append(f"{name}: {shown(name, kept[name])} on record, none given")
        elif name not in kept:
            lines.append(f"{name}: none on record, {shown(name, given[name])} given")
        elif not _is_equal(kept[name], given[name]):
            lines.append(f"{name}: {shown(name, kept[name])} on record, {shown(name, given[name])} given")
    return lines


def _shown(value: Any) -> str:
    text = reprs.of(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_equal(kept: Any, given: Any) -> bool:
    if kept is given:
        return True
    try:
        old, new = codec.dumps(kept, "a value"), codec.dumps(given, "a value")
        return old == new or _in_order(old) == _in_order(new)
    except exceptions.StorageFailure:  # in memory: it can only be compared
        try:
            return bool(kept == given)
        except Exception:  # noqa: BLE001 - a user's value may refuse in any way
            return False


def _in_order(text: str) -> str:
    """Return the JSON text of a value with the members of sets, and the keys of dicts, in one order at any depth."""

    def ordered(found: dict[str, Any]) -> dict[str, Any]:
        content = found.get(tags.TAG)
        if type(content) is list and content and content[0] in _WITHOUT_ORDER:
            return {tags.TAG: [content[0], *sorted(content[1:], key=_sorted_text)]}
        return found

    return _sorted_text(json.loads(text, object_hook=ordered))


_sorted_text = functools.partial(json.dumps, sort_keys=True)
