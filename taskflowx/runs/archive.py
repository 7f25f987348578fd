"""`Runs`: the runs in a store, to list, read, remove, wait for, watch and fork."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from taskflowx import exceptions, states
from taskflowx._util import arguments, clock as clocks
from taskflowx.persistence import codec, owners, run_records
from taskflowx.runs import pauses, stores, view

if TYPE_CHECKING:
    import builtins
    from types import TracebackType

    from taskflowx.persistence.base import Backend, Connection
    from taskflowx.persistence.models import FlowDetail
    from taskflowx.runs.result import RunResult

#: the states of runs that `prune` removes by default: nothing is left to do in them
FINISHED = (states.SUCCESS, states.REVERTED)
_AT_ONCE = 200  # runs that `prune` removes in one transaction
_SEPARATOR = " "  # in a cursor, between time and uuid


class RunSummary(NamedTuple):
    """One run in a listing; times are in UTC."""

    id: str  #: its id; the uuid of its flow's detail if it was given none
    flow: str  #: the name of its flow
    state: str  #: the state of its flow, such as 'SUCCESS'
    created_at: dt.datetime  #: when its record was made
    updated_at: dt.datetime | None  #: when its flow last changed its state; None where the store does not know
    cursor: str  #: where the next page begins, for `after=`


class Runs:
    """The runs in a store. Nothing here locks or claims a run.

    A context manager, which closes the store if it was opened here.

    :param backend: see `taskflowx.runs.open`
    :param clock: the time; that of the machine by default
    """

    def __init__(self, backend: stores.Store | Mapping[str, Any] | Backend, clock: clocks.Clock | None = None) -> None:
        if clock is not None:
            arguments.check_type("clock", clock, clocks.Clock, "a taskflowx.testing.VirtualClock, or None")
        self._clock = clock or clocks.SYSTEM
        #: the store
        self.backend, self._owned = stores.fetch(backend)

    def __repr__(self) -> str:
        return f"<Runs in {self.backend!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store if it was opened here; may be repeated."""
        owned, self._owned = self._owned, False
        if owned:
            self.backend.close()

    # -- reading -----------------------------------------------------------------------------------

    def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        flow: str | None = None,
        since: dt.datetime | dt.timedelta | float | None = None,
        limit: int = 50,
        after: RunSummary | str | None = None,
    ) -> builtins.list[RunSummary]:
        """Return a page of runs, newest first.

        In SQL it costs the same in a store of any size; other stores read the record of each run, without its atoms.

        :param state: only runs in this state, or in one of these
        :param flow: only runs of flows with this name
        :param since: only runs that were made at this time or later: a datetime (one without a zone is in local time),
            or how long ago, as a timedelta or in seconds
        :param limit: the maximum number of runs
        :param after: the last run of the page before, or its `cursor`
        :raises ValueError, TypeError: when an argument is not one of those accepted
        """
        arguments.check_type("limit", limit, int, "a whole number, 1 or more")
        if limit < 1:
            raise ValueError(f"limit must be a whole number, 1 or more, not {limit!r}")
        if flow is not None:
            arguments.check_type("flow", flow, str, "the name of a flow, or None")
        query = run_records.Query(
            None if state is None else _to_states("state", state),
            flow,
            None if since is None else self._to_time("since", since),
            None,
            None if after is None else _to_position(after),
            min(limit, sys.maxsize),  # no database takes more
        )
        with self._connected() as connection, codec.tolerant():
            return [_summary_of(row) for row in connection.get_runs(query)]

    def get(self, run_id: str) -> view.RunView:
        """Return what is on record of a run at this moment.

        :param run_id: its id; the uuid of its flow's detail if it was given none
        :raises NotFound: when there is no such run
        """
        with self._connected() as connection:
            return view.read(connection, self._find(connection, run_id), self._clock)

    def wait(self, run_id: str, timeout: float | None = None) -> RunResult:
        """Wait until a run is finished, or until it has come to rest and nobody goes on with it; return its result.

        :param run_id: its id
        :param timeout: the maximum number of seconds to wait; None for no end
        :raises NotFound: when there is no such run
        :raises TimeoutError: when the time is up
        :raises StorageFailure: when one of its values is of a class that this program has not imported
        """
        for seen in self._looks(run_id, timeout):
            if seen.state in states.AT_REST and seen.owner is None:
                return seen.result()
        raise TimeoutError(f"Run '{run_id}' has not come to rest within {timeout:g} seconds")

    def watch(self, run_id: str, timeout: float | None = None) -> Iterator[view.RunView]:
        """Iterate over a run as it changes: what is on record now, and then each change, until it has come to rest.

        Changes that follow each other closely may be seen as one. PostgreSQL tells of a change at once; other stores
        are looked at each second.

        :param run_id: its id
        :param timeout: the maximum number of seconds to watch; None for no end
        :raises NotFound: when there is no such run, or it is removed
        """
        before: Any = None
        for seen in self._looks(run_id, timeout):
            if seen.version != before:
                before = seen.version
                yield seen
            if seen.state in states.AT_REST and seen.owner is None:
                return

    def _looks(self, run_id: str, timeout: float | None) -> Iterator[view.RunView]:
        if timeout is not None:
            timeout = arguments.to_seconds("timeout", timeout, "a number of seconds, zero or more, or None", least=0)
        between = pauses.Pauses(self._clock, timeout, first=pauses.LONGEST)
        with self._connected() as connection:
            uuid = self._find(connection, run_id)
            with connection.listening(uuid) as changes:
                while True:
                    yield view.read(connection, uuid, self._clock)
                    if between.is_over():
                        return
                    between.wait(changes)

    # -- beginning ---------------------------------------------------------------------------------

    def fork(
        self,
        run: str,
        *,
        from_task: str | None = None,
        store: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> str:
        """Make a new run that keeps what another one has done before a task; returns its id.

        The task starts afresh, and so does all that follows it, and what has not succeeded. `taskflowx.run(flow,
        run_id=...)` with the new id goes on from there. The other run is only read.

        :param run: the id of the other run
        :param from_task: the name of the task; None to keep nothing but the values given to the run
        :param store: values that replace those given to the other run, by name
        :param run_id: the id of the new run; by default that of the other one with a number behind it
        :raises NotFound: when there is no such run, or no such task in it
        :raises InvalidState: when the task, or one after it, requires a result that was not kept (`keep_results`)
        :raises Duplicate: when there is a run with the new id
        """
        from taskflowx.runs import fork

        given = {} if store is None else arguments.to_named_values("store", store)
        with self._connected() as connection:
            return fork.fork(connection, self._find(connection, run), from_task, given, run_id)

    # -- removing ----------------------------------------------------------------------------------

    def delete(self, run_id: str) -> None:
        """Remove the record of a run.

        :param run_id: its id
        :raises NotFound: when there is no such run
        :raises OwnershipFailure: while it runs
        """
        with self._connected() as connection:
            uuid = self._find(connection, run_id)
            if not connection.destroy_flows([uuid]):
                owners.check_free(connection.get_claim(uuid), f"Run '{run_id}'", self._clock.time())
                connection.get_flow_details(uuid, lazy=True)  # raises when it is gone
                raise exceptions.OwnershipFailure(f"Run '{run_id}' was written a moment ago; nothing is removed")

    def prune(self, *, older_than: dt.datetime | dt.timedelta | float, states: str | Iterable[str] = FINISHED) -> int:
        """Remove the records of runs that have not changed since a time; returns their number.

        Runs that are in progress stay, in whatever state they are. Large values that a crash has left beside the store
        without a record are removed as well.

        :param older_than: how long ago, as a timedelta or in seconds; or the time, a datetime
        :param states: the states of runs that are removed; by default SUCCESS and REVERTED, in which nothing is left
            to do
        :raises ValueError, TypeError: when an argument is not one of those accepted
        """
        before = self._to_time("older_than", older_than)
        query = run_records.Query(_to_states("states", states), before=before, limit=_AT_ONCE)
        removed = 0

        def is_old(row: run_records.RunRow) -> bool:
            return query.has_state(row) and (row.updated_at or row.created_at) < before

        with self._connected() as connection:
            while True:
                with codec.tolerant():
                    rows = connection.get_runs(query)
                if not rows:
                    break
                old = [row.uuid for row in rows if is_old(row)]
                removed += len(connection.destroy_flows(old, is_old))  # one may have been begun again meanwhile
                query = query._replace(after=(rows[-1].created_at, rows[-1].uuid))
            if (blobs := getattr(self.backend, "blobs", None)) is not None:
                blobs.sweep(_OnRecord(connection))
        return removed

    # -- parts -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        with contextlib.closing(self.backend.get_connection()) as connection:
            yield connection

    def _find(self, connection: Connection, run_id: str) -> str:
        """Return the uuid of a run.

        :raises NotFound: when there is no such run
        """
        for uuid in (run_records.flow_uuid(run_records.check_id(run_id)), run_id):
            with contextlib.suppress(exceptions.NotFound, exceptions.Unstorable):
                with codec.tolerant():
                    detail: FlowDetail = connection.get_flow_details(uuid, lazy=True)
                return detail.uuid
        raise exceptions.NotFound(f"There is no run '{run_id}' in {self.backend!r}")

    def _to_time(self, name: str, given: Any) -> dt.datetime:
        if isinstance(given, dt.datetime):
            try:
                return given.astimezone(dt.UTC)
            except (OverflowError, ValueError):  # within a day of the first or the last one that there is
                return given.replace(tzinfo=dt.UTC)
        if isinstance(given, dt.timedelta):
            given = given.total_seconds()
        seconds = arguments.to_seconds(name, given, "a datetime, a timedelta or a number of seconds", least=0)
        try:
            return run_records.from_seconds(self._clock.time() - seconds)
        except OverflowError:
            return dt.datetime.min.replace(tzinfo=dt.UTC)


class _OnRecord:
    """The uuids of the flows in a store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __contains__(self, uuid: object) -> bool:
        try:
            self._connection.get_flow_details(str(uuid), lazy=True)
        except (exceptions.NotFound, exceptions.Unstorable):  # or the name of no record of this store
            return False
        except codec.Unreadable:
            pass
        return True


def _to_states(name: str, given: str | Iterable[str]) -> frozenset[str]:
    if not isinstance(given, str):
        arguments.check_iterable(name, given, "the name of a state, or several")
    wanted = frozenset([given] if isinstance(given, str) else given)
    for each in wanted:
        arguments.check_choice(name, each, states.FLOW_STATES)
    if not wanted:
        raise ValueError(f"{name} must name a state, one of {', '.join(states.FLOW_STATES)}")
    return wanted


def _to_position(given: Any) -> tuple[dt.datetime, str]:
    cursor = given.cursor if isinstance(given, RunSummary) else given
    arguments.check_type("after", cursor, str, "a RunSummary or its cursor")
    try:
        at, _, uuid = cursor.partition(_SEPARATOR)
        when = dt.datetime.fromisoformat(at)
    except ValueError as error:
        raise ValueError(f"after must be the cursor of a run, as list() gives it, not {cursor!r}") from error
    return when.replace(tzinfo=dt.UTC) if when.tzinfo is None else when, uuid


def _summary_of(row: run_records.RunRow) -> RunSummary:
    cursor = f"{row.created_at.isoformat()}{_SEPARATOR}{row.uuid}"
    return RunSummary(
        run_records.id_of(row) or row.uuid,
        row.name,
        row.state or states.PENDING,
        row.created_at,
        row.updated_at,
        cursor,
    )
