"""Runs kept in a SQL database: SQLite, PostgreSQL, MySQL or MariaDB, through the drivers that SQLAlchemy knows.

`sql` has the statements, `sql_rows` turns details into rows, `sql_units` runs transactions, `migrations` makes the
tables. A `Connection` joins them. It holds nothing: each unit of work takes a driver's connection from the pool and
gives it back, so any thread may use one, and to make one costs nothing.

What must stay true: values become text before a transaction begins, so one that cannot be stored leaves nothing half
done; a method that writes is one transaction, and may be run again when the database was lost.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_errors
from sqlalchemy.pool import StaticPool

from taskflowx import exceptions
from taskflowx._util import arguments
from taskflowx.persistence import base
from taskflowx.persistence.backends import sql, sql_rows
from taskflowx.persistence.backends.sql_units import Unit, Units
from taskflowx.persistence.owners import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook
    from taskflowx.persistence.owners import Owner

T = TypeVar("T")

MAX_RETRIES = 3
IDLE_TIMEOUT = 3600  # seconds after which a connection is replaced when it is needed again
MOST_WRITTEN = 1000  # flows whose state is remembered
BUSY_TIMEOUT = 30  # seconds for which SQLite waits for another process to end its transaction

# Drivers for an address that names none, the first that is there: its name in addresses, and the module.
_DRIVERS = {
    "mariadb": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
    "mysql": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
}

_POOL = {"max_pool_size": "pool_size", "max_overflow": "max_overflow", "pool_timeout": "pool_timeout"}

# With these, each connection is to come from the pool.
_OWN_RULES = ("checkout_ping", "engine_args", "max_pool_size")

_STRICT = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')"


class SQLAlchemyBackend(base.Backend):
    """Keeps runs in a SQL database.

    :param conf: `connection` is the address, such as `sqlite:///path`, `sqlite://` (in memory),
        `postgresql://user@host/database` or `mysql+pymysql://user@host/database`. `max_pool_size`, `max_overflow`,
        `pool_timeout` (seconds) set the pool of connections, `idle_timeout` (seconds) when an old one is replaced,
        `max_retries` how often a unit of work is run again after the database was lost. `isolation_level`,
        `mysql_sql_mode`, `checkout_ping` (ask a connection whether it lives before each use) and `engine_args` (a
        dict for `sqlalchemy.create_engine`) are for special needs
    :param engine: used instead of a new one, as it is, and left open
    :raises ValueError: when the address or a number cannot be read
    :raises NotFound: when the driver for the database is not installed
    """

    def __init__(self, conf: Mapping[str, Any] | None, engine: sa.Engine | None = None) -> None:
        super().__init__(conf)
        self._owns_engine = engine is None
        if engine is None:
            engine = _make_engine(self._conf)
        self._family = sql.family_of(engine.dialect.name)
        self._units = Units(
            engine,
            max_retries=max(0, _number(self._conf, "max_retries", MAX_RETRIES)),
            in_memory=isinstance(engine.pool, StaticPool),
            keeps=self._owns_engine and not any(map(self._conf.get, _OWN_RULES)),
            prepare=self._prepare,
        )
        self._upgrade_lock = threading.Lock()
        self.rows = sql_rows.Rows(self._family)
        #: uuid of a flow -> its state and metadata that a run has written last; they change seldom
        self.written: dict[str, tuple[Any, ...]] = {}
        #: whether the database is known to have our own table
        self.has_runs = False
        #: whether the database refuses an atom whose flow is not there; SQLite does if it is told to
        self.checks_parents = self._owns_engine or self._family != "sqlite"

    @property
    def engine(self) -> sa.Engine:
        """The engine of SQLAlchemy through which the database is reached."""
        return self._units.engine

    @property
    def family(self) -> str:
        """Which of `sql.FAMILIES` the database belongs to."""
        return self._family

    @property
    def units(self) -> Units:
        """What runs units of work."""
        return self._units

    def get_connection(self) -> Connection:
        """Return a new connection; the database is not asked before it is used."""
        return Connection(self, self._upgrade_lock)

    def close(self) -> None:
        """Close the pool of connections, if it is not the caller's."""
        if self._owns_engine:
            self._units.let_go()
            self.engine.dispose()

    def _prepare(self, raw: Any) -> int:
        """Set up a driver's connection; returns how many bytes its server takes in one statement, 0 for any number."""
        if self._family == "sqlite" and self._owns_engine:
            _prepare_sqlite(raw)
        if self._family != "mysql":
            return 0
        cursor = raw.cursor()
        # Without the strict mode, a text that is too long would be cut.
        mode = self._conf.get("mysql_sql_mode")
        cursor.execute(_STRICT) if mode is None else cursor.execute("SET SESSION sql_mode = %s", (mode,))
        cursor.execute("SELECT @@max_allowed_packet")
        limit: int = cursor.fetchone()[0]
        cursor.close()
        return limit


class Connection(base.Connection):
    """Reads and writes the records in a SQL database; any number of threads may use it.

    :param backend: the store
    :param upgrade_lock: held while the store is upgraded
    """

    def __init__(self, backend: SQLAlchemyBackend, upgrade_lock: AbstractContextManager[Any]) -> None:
        self._backend = backend
        self._upgrade_lock = upgrade_lock
        self._units = backend.units
        self._rows = backend.rows
        self._sql = sql.statements(backend.family)

    @property
    def backend(self) -> SQLAlchemyBackend:
        """The store that this connection is to."""
        return self._backend

    def close(self) -> None:
        """End this connection; it holds nothing that would have to be let go."""

    # -- the store -------------------------------------------------------------------------------------------------

    def validate(self, max_retries: int = 0) -> None:
        """Check that the database can be reached and has the tables that this version writes.

        :param max_retries: how often to try again to reach it
        :raises StorageFailure: when it cannot, or something is missing; says what
        """
        failed = "Failed validating the database"
        self._units.run(failed, lambda unit: unit.rows("SELECT 1"), writes=False, max_retries=max_retries)
        from taskflowx.persistence.backends import migrations

        with self._through_sqlalchemy(failed, writes=False) as connection:
            missing = migrations.missing(connection)
        if missing:
            msg = f"The database has no {', no '.join(missing)}\nConnection.upgrade() makes what is missing"
            raise exceptions.StorageFailure(msg)

    def upgrade(self) -> None:
        """Make the tables, or bring them to what this version writes; those that TaskFlow made are taken over.

        :raises StorageFailure: when the database refuses it, or has been upgraded by a newer version
        """
        from taskflowx.persistence.backends import migrations

        failed = "Failed upgrading the database"
        self._units.run(failed, lambda unit: unit.rows("SELECT 1"), writes=False)
        with self._upgrade_lock, self._through_sqlalchemy(failed, writes=True) as connection:
            migrations.upgrade(connection, self._backend.family)

    def clear_all(self) -> None:
        """Remove all books, with all that is in them."""

        def work(unit: Unit) -> None:
            for statement in self._sql.clear:
                unit.run(statement)

        self._units.run("Failed clearing all entries", work)

    # -- writing ---------------------------------------------------------------------------------------------------

    def save_changes(
        self, flow_detail: FlowDetail, atom_details: Iterable[AtomDetail], owner: Owner | None = None
    ) -> None:
        """Write what has changed in one step of a run, in one transaction.

        :param flow_detail: of which state and metadata are written
        :param atom_details: the details in it that have changed; those that the store does not have are added
        :param owner: who writes, see `persistence.owners`
        :raises NotFound: when the flow's detail is not stored
        :raises OwnershipFailure: when somebody else runs it, or has done so since it was read
        """
        uuid = flow_detail.uuid
        atoms = [self._rows.of_atom(detail, uuid) for detail in atom_details]
        written, now_written = self._backend.written, self._rows.of_changes(flow_detail)
        is_written = written.pop(uuid, None) == now_written and bool(atoms) and self._backend.checks_parents
        flow = () if is_written else self._flow_changes(flow_detail)

        def work(unit: Unit) -> Claim | None:
            return self._save_turn(unit, flow_detail, flow, atoms, owner)

        failed = f"Failed saving flow details with uuid '{uuid}'"
        try:
            try:
                claim = self._units.run(failed, work)
            except exceptions.StorageFailure as failure:
                if owner is None or not self._units.is_conflict(failure):
                    raise
                claim = self._units.run(failed, work)  # somebody else may have been the first to write this run
        except exceptions.StorageFailure as failure:
            if self._units.is_conflict(failure):
                self.get_flow_details(uuid, lazy=True)  # raises if it is not there
            raise
        if owner is not None and claim is not None:
            owner.took(claim, flow_detail)
        if len(written) >= MOST_WRITTEN:
            written.clear()
        written[uuid] = now_written

    def _save_turn(
        self, unit: Unit, detail: FlowDetail, flow: tuple[Any, ...], atoms: list[Any], owner: Owner | None
    ) -> Claim | None:
        """Write what has changed in one step of a run, and move the run on; returns the claim that it leaves.

        :param flow: what `update_flow` takes, or nothing when that is stored already
        :param atoms: a row for each atom
        """
        together = self._sql.put_and_move_on
        if owner is not None and owner.held and not flow and len(atoms) <= len(together):
            claim = owner.following(detail, time.time())
            given = (*itertools.chain(*atoms), *claim, detail.uuid, detail.revision)
            moved = unit.run(together[len(atoms) - 1], *given).rowcount
            return claim if moved else self._move_on(unit, detail, owner)
        moved_to = None if owner is None else self._move_on(unit, detail, owner)
        if flow and not unit.run(self._sql.update_flow, *flow).rowcount:
            raise _no_flow(detail.uuid)
        unit.many(self._sql.put_atom, atoms)
        return moved_to

    def _move_on(self, unit: Unit, detail: FlowDetail, owner: Owner) -> Claim:
        """Move a run on to its next version, which nobody else can do before this unit has ended.

        :raises OwnershipFailure: when it has another version than the one that is known here, or another owner
        """
        now, uuid, known = time.time(), detail.uuid, detail.revision
        claim = owner.following(detail, now)
        if owner.held and unit.run(self._sql.move_on, *claim, uuid, known).rowcount:
            return claim
        rows = unit.rows(self._sql.run, uuid)
        stored = Claim(*rows[0]) if rows else None
        claim = owner.checked(stored, detail, now)
        if stored is None:
            unit.run(self._sql.insert_run, uuid, *claim)
        elif not unit.run(self._sql.move_on, *claim, uuid, stored.version).rowcount:
            claim = owner.checked(Claim(*unit.rows(self._sql.run, uuid)[0]), detail, now)  # it was moved just now
        return claim

    def renew(self, flow_uuid: str, owner: Owner, expires: float) -> None:
        """Note that the owner of a run is alive; one that owns it no more changes nothing.

        :param expires: until when it counts as alive, in seconds since 1970
        """
        failed = f"Failed renewing the lease of flow '{flow_uuid}'"
        self._units.run(failed, lambda unit: unit.run(self._sql.renew, expires, flow_uuid, owner.name), max_retries=0)

    def update_atom_details(self, atom_detail: AtomDetail) -> AtomDetail:
        """Merge an atom's detail into the stored one; returns what is stored then.

        :raises NotFound: when it is not stored yet
        """
        arguments.check_like("atom_detail", atom_detail, ("uuid", "intention"), "a TaskDetail or RetryDetail")
        uuid, name, _, *changes = self._rows.of_atom(atom_detail, "")

        def work(unit: Unit) -> AtomDetail:
            for row in unit.rows(self._sql.atom, uuid):
                stored = sql_rows.atom(row).merge(atom_detail)
                unit.many(self._sql.put_atom, [(uuid, name, row[2], *changes)])
                return stored
            raise _no_atom(uuid)

        return self._units.run(f"Failed updating atom details with uuid '{atom_detail.uuid}'", work)

    def update_flow_details(self, flow_detail: FlowDetail) -> FlowDetail:
        """Merge a flow's detail into the stored one, and write the details of the atoms in it, new ones too.

        Returns what is stored then.

        :raises NotFound: when it is not stored yet
        :raises Duplicate: when a detail in it is stored in another flow
        """
        arguments.check_like("flow_detail", flow_detail, ("uuid", "meta"), "a FlowDetail")
        flow = self._flow_changes(flow_detail)
        atoms = self._atoms_of(flow_detail)

        def work(unit: Unit) -> FlowDetail:
            stored = self._read_flow(unit, flow_detail.uuid)
            new, changed = _merge_flow(stored, flow_detail, atoms)
            unit.run(self._sql.update_flow, *flow)
            self._backend.written.pop(stored.uuid, None)
            unit.many(self._sql.insert_atom, new)
            unit.many(self._sql.put_atom, changed)
            return stored

        failed = f"Failed updating flow details with uuid '{flow_detail.uuid}'"
        return self._adding(failed, f"flow '{flow_detail.name}'", work)

    def save_logbook(self, book: LogBook) -> LogBook:
        """Store a book with all that is in it, merged into what is stored of it; returns the book.

        :raises Duplicate: when a detail in it is stored in another book or flow
        """
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        book_row = self._rows.of_book(book)
        flows = [
            (detail, self._rows.of_flow(detail, book.uuid), self._flow_changes(detail), self._atoms_of(detail))
            for detail in book
        ]

        def work(unit: Unit) -> LogBook:
            stored = self._read_books(unit, unit.rows(self._sql.book, book.uuid))
            if stored:
                uuid, _, *changes = book_row
                unit.run(self._sql.update_book, *changes, uuid)
            else:
                unit.run(self._sql.insert_book, *book_row)
            inserts: list[Any] = []
            new_atoms: list[Any] = []
            changed_atoms: list[Any] = []
            for detail, row, changes_of_flow, atoms in flows:
                known = stored[0].find(detail.uuid) if stored else None
                if known is None:
                    inserts.append(row)
                    new_atoms += atoms
                    continue
                new, changed = _merge_flow(known, detail, atoms)
                unit.run(self._sql.update_flow, *changes_of_flow)
                self._backend.written.pop(detail.uuid, None)
                new_atoms += new
                changed_atoms += changed
            unit.many(self._sql.insert_flow, inserts)
            unit.many(self._sql.insert_atom, new_atoms)
            unit.many(self._sql.put_atom, changed_atoms)
            return book

        return self._adding(f"Failed saving logbook '{book.uuid}'", f"book '{book.name}'", work)

    def destroy_logbook(self, book_uuid: str) -> None:
        """Remove a book with all that is in it.

        :raises NotFound: when there is no such book
        """

        def work(unit: Unit) -> None:
            removed = [unit.run(statement, book_uuid).rowcount for statement in self._sql.destroy]
            if not removed[-1]:
                raise _no_book(book_uuid)

        self._units.run(f"Failed destroying logbook '{book_uuid}'", work, repeatable=False)

    # -- reading ---------------------------------------------------------------------------------------------------

    def get_logbook(self, book_uuid: str, lazy: bool = False) -> LogBook:
        """Return a book.

        :param lazy: whether the details of its flows are left out
        :raises NotFound: when there is no such book
        """

        def work(unit: Unit) -> LogBook:
            for book in self._read_books(unit, unit.rows(self._sql.book, book_uuid), lazy=lazy):
                return book
            raise _no_book(book_uuid)

        return self._units.run(f"Failed getting logbook '{book_uuid}'", work, writes=False)

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """Iterate over all books, in the order in which they were made; what is in one is read when it is its turn.

        :param lazy: whether the details of their flows are left out
        """
        failed = "Failed getting logbooks"
        rows = self._units.run(failed, lambda unit: unit.rows(self._sql.books), writes=False)
        for row in rows:
            work = functools.partial(self._read_books, rows=[row], lazy=lazy)
            read = functools.partial(self._units.run, failed, work, writes=False)
            yield from sql_rows.readable([row], lambda _, read=read: next(iter(read())))  # type: ignore[misc]

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """Iterate over the details of the flows in a book, in the order in which they were added.

        :param lazy: whether the details of their atoms are left out
        :raises NotFound: when there is no such book
        """

        def work(unit: Unit) -> list[FlowDetail]:
            if not unit.rows(self._sql.book, book_uuid):
                raise _no_book(book_uuid)
            return self._read_flows(unit, book_uuid, lazy, going_on=True)

        yield from self._units.run(f"Failed getting flow details in logbook '{book_uuid}'", work, writes=False)

    def get_flow_details(self, fd_uuid: str, lazy: bool = False) -> FlowDetail:
        """Return the detail of a flow.

        :param lazy: whether the details of its atoms are left out
        :raises NotFound: when there is no such detail
        """
        failed = f"Failed getting flow details with uuid '{fd_uuid}'"
        return self._units.run(failed, lambda unit: self._read_flow(unit, fd_uuid, lazy), writes=False)

    def get_atom_details(self, ad_uuid: str) -> AtomDetail:
        """Return the detail of an atom.

        :raises NotFound: when there is no such detail
        """
        failed = f"Failed getting atom details with uuid '{ad_uuid}'"
        for row in self._units.run(failed, lambda unit: unit.rows(self._sql.atom, ad_uuid), writes=False):
            return sql_rows.atom(row)
        raise _no_atom(ad_uuid)

    def get_atoms_for_flow(self, fd_uuid: str) -> Iterator[AtomDetail]:
        """Iterate over the details of the atoms in a flow, in the order in which they were added.

        :raises NotFound: when there is no such flow
        """
        failed = f"Failed getting the atoms of flow details with uuid '{fd_uuid}'"

        def work(unit: Unit) -> list[AtomDetail]:
            if not unit.rows(self._sql.flow, fd_uuid):
                raise _no_flow(fd_uuid)
            return list(sql_rows.readable(unit.rows(self._sql.atoms_of_flow, fd_uuid), sql_rows.atom))

        yield from self._units.run(failed, work, writes=False)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _read_flow(self, unit: Unit, uuid: str, lazy: bool = False) -> FlowDetail:
        versions = self._read_runs(unit, self._sql.run, uuid)  # first: what is read after it may be newer, never older
        for row in unit.rows(self._sql.flow, uuid):
            detail = sql_rows.flow(row)
            detail.revision = versions[0][0] if versions else 0
            for atom_row in () if lazy else unit.rows(self._sql.atoms_of_flow, uuid):
                detail.add(sql_rows.atom(atom_row))
            return detail
        raise _no_flow(uuid)

    def _read_runs(self, unit: Unit, statement: str, uuid: str) -> list[Any]:
        """Return what is known of versions, which is nothing in a database that only TaskFlow has written."""
        backend = self._backend
        if not backend.has_runs:
            backend.has_runs = bool(unit.rows(sql.has_runs(backend.family)))
        return unit.rows(statement, uuid) if backend.has_runs else []

    def _read_flows(self, unit: Unit, book_uuid: str, lazy: bool, *, going_on: bool = False) -> list[FlowDetail]:
        """Return the details of the flows in a book.

        :param going_on: whether one of which a row is damaged is left out, and logged
        """
        versions = dict(self._read_runs(unit, self._sql.runs_of_book, book_uuid))
        rows = unit.rows(self._sql.flows_of_book, book_uuid)
        details = sql_rows.readable(rows, sql_rows.flow) if going_on else map(sql_rows.flow, rows)
        by_uuid = {detail.uuid: detail for detail in details}
        for detail in by_uuid.values():
            detail.revision = versions.get(detail.uuid, 0)
        for row in () if lazy else unit.rows(self._sql.atoms_of_book, book_uuid):
            flow = by_uuid.get(row[2])
            if flow is None:
                continue
            for atom in sql_rows.readable([row], sql_rows.atom) if going_on else [sql_rows.atom(row)]:
                flow.add(atom)
                break
            else:  # without it, it would look as if it had never run
                del by_uuid[row[2]]
        return list(by_uuid.values())

    def _read_books(self, unit: Unit, rows: Iterable[Any], lazy: bool = False) -> list[LogBook]:
        books = [sql_rows.book(row) for row in rows]
        for book in () if lazy else books:
            updated_at = book.updated_at
            for detail in self._read_flows(unit, book.uuid, lazy=False):
                book.add(detail)
            book.updated_at = updated_at  # to be read is no update
        return books

    def _flow_changes(self, detail: FlowDetail) -> tuple[Any, ...]:
        """Return what `update_flow` is given for a detail."""
        return self._rows.now(), *self._rows.of_changes(detail), detail.uuid

    def _atoms_of(self, detail: FlowDetail) -> list[tuple[Any, ...]]:
        return [self._rows.of_atom(atom, detail.uuid) for atom in detail]

    def _adding(self, failed: str, what: str, work: Callable[[Unit], T]) -> T:
        """Run a unit that adds rows, and say so if one of them is there already.

        :param what: what they are added to
        """
        try:
            return self._units.run(failed, work)
        except exceptions.StorageFailure as failure:
            if not self._units.is_conflict(failure):
                raise
            msg = f"A detail in {what} is stored already, in something else"
            raise exceptions.Duplicate(msg, failure.cause) from failure

    @contextlib.contextmanager
    def _through_sqlalchemy(self, failed: str, *, writes: bool) -> Iterator[sa.Connection]:
        """Return a connection of SQLAlchemy's, for what is done with the tables themselves."""
        try:
            self._units.let_go()
            with self._units.turn(writes), self._backend.engine.connect() as connection:
                yield connection
        except sa_errors.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise exceptions.StorageFailure(failed, cause) from error


def _merge_flow(stored: FlowDetail, given: FlowDetail, rows: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Merge a flow's detail, with those of its atoms, into what was stored of it.

    :param rows: a row for each atom
    :return: the rows of atoms that were not stored, and those of the others
    """
    new, changed = [], []
    for detail, row in zip(given, rows, strict=True):
        known = stored.find(detail.uuid)
        if known is None:
            stored.add(detail)
            new.append(row)
        else:
            known.merge(detail)
            changed.append(row)
    stored.merge(given)
    return new, changed


def _no_book(uuid: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"No logbook found with uuid '{uuid}'")


def _no_flow(uuid: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"No flow details found with uuid '{uuid}'")


def _no_atom(uuid: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"No atom details found with uuid '{uuid}'")


# -- the configuration -------------------------------------------------------------------------------------------------


def _url_of(address: Any) -> sa.URL:
    """Return a database's address, with the name of a driver that is installed.

    :raises ValueError: when it is no address
    :raises NotFound: when no driver is installed
    """
    try:
        url = sa.make_url(address)
    except sa_errors.ArgumentError as error:
        msg = f"'connection' must be an address such as 'sqlite:///path' or 'postgresql://user@host/database': {error}"
        raise ValueError(msg) from error
    kind = url.drivername.partition("+")[0]
    family = sql.family_of(kind)
    if "+" in url.drivername or kind not in _DRIVERS:
        return url
    for driver, module in _DRIVERS[kind]:
        if importlib.util.find_spec(module) is not None:
            return url.set(drivername=f"{kind}+{driver}")
    raise _no_driver(kind, " or ".join(driver for driver, _ in _DRIVERS[kind]), family)


def _no_driver(kind: str, needed: str, family: str) -> exceptions.NotFound:
    install = f"\nInstall it with: pip install taskflowx[{family}]" if family in _DRIVERS else ""
    return exceptions.NotFound(f"Could not find backend {kind}: it needs {needed}{install}")


def _make_engine(conf: Mapping[str, Any]) -> sa.Engine:
    url = _url_of(conf.get("connection"))
    try:
        return sa.create_engine(url, **_engine_args(conf, url))
    except ModuleNotFoundError as error:
        kind = url.get_backend_name()
        raise _no_driver(kind, str(error.name), sql.family_of(kind)) from error


def _engine_args(conf: Mapping[str, Any], url: sa.URL) -> dict[str, Any]:
    """Return what `sqlalchemy.create_engine` is given."""
    # What a unit leaves behind it has committed or rolled back: to reset it once more is a round trip for nothing.
    made: dict[str, Any] = {"pool_reset_on_return": None, "pool_recycle": _number(conf, "idle_timeout", IDLE_TIMEOUT)}
    if conf.get("checkout_ping"):
        made["pool_pre_ping"] = True
    made["isolation_level"] = conf.get("isolation_level", "READ COMMITTED")
    connect_args = {}
    if url.get_backend_name() == "sqlite":
        if not conf.get("isolation_level"):
            del made["isolation_level"]
        if "timeout" not in url.query:
            connect_args["timeout"] = BUSY_TIMEOUT
        connect_args["check_same_thread"] = False  # a unit has its connection for itself
    if _is_in_memory(url):
        made["poolclass"] = StaticPool
    else:
        made |= {arg: _number(conf, key, 0) for key, arg in _POOL.items() if conf.get(key) is not None}
    given = dict(conf.get("engine_args") or {})
    made["connect_args"] = {**connect_args, **given.pop("connect_args", {})}
    return {**made, **given}


def _is_in_memory(url: sa.URL) -> bool:
    if url.get_backend_name() != "sqlite":
        return False
    return url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory"


def _number(conf: Mapping[str, Any], key: str, default: int) -> int:
    """Return a number of the configuration.

    :raises ValueError: when it is none
    """
    given = conf.get(key)
    if given is None:
        return default
    try:
        return int(given)
    except (TypeError, ValueError) as error:
        msg = f"'{key}' must be a whole number, not {given!r}"
        raise ValueError(msg) from error


def _prepare_sqlite(raw: Any) -> None:
    cursor = raw.cursor()
    # With a log that is written ahead, readers and the writer do not wait for each other; FULL syncs it at each commit.
    # A log that is begun anew after 250 pages stays in space that the file has: to write there is faster than to grow.
    for setting in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 250", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
