"""The tables of a SQL store, and its statements, as text for one kind of database.

Names of tables and columns are TaskFlow's, but for `RUNS`, `ATTEMPTS` and `HISTORY`, which are ours. SQLAlchemy renders
each statement once; connections run the text on the driver's own cursor, which costs a fraction of running it through
SQLAlchemy. The tables themselves are made by the migrations.

What must stay true: the parameters of a statement are in the order of the columns here, and have no types, so that the
database converts each to the type of its column: tables that TaskFlow made have enumerations and JSON on some databases
where others have text.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.sql import ColumnElement, TableClause

#: the families of databases: every difference between dialects depends on these
FAMILIES = ("mysql", "postgresql", "sqlite")
_DIALECTS: dict[str, Any] = {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"

#: columns that hold JSON text
DOCUMENTS = frozenset(("meta", "results", "failure", "revert_results", "revert_failure"))


def _table(name: str, columns: str) -> TableClause:
    return sa.table(name, *map(sa.column, columns.split()))


BOOKS = _table("logbooks", "uuid name created_at updated_at meta")
FLOWS = _table("flowdetails", "uuid name parent_uuid created_at updated_at state meta")
ATOMS = _table(
    "atomdetails",
    "uuid name parent_uuid created_at updated_at atom_type version state intention "
    "meta results failure revert_results revert_failure",
)
#: the first of the columns with documents, which are the last ones
FIRST_DOCUMENT = 9
#: the columns that change when a task that has neither failed nor been undone begins or ends; the documents are last
OF_SIMPLE = ("updated_at", "version", "state", "intention", "meta", "results")
RUNS = _table("taskflowx_runs", "flow_uuid version owner expires tail")
#: the column of the last entries of a history, which a database of an older layout lacks
TAIL = f"{RUNS.name}.tail"
ATTEMPTS = _table("taskflowx_attempts", "atom_uuid number attempts")
HISTORY = _table("taskflowx_history", "flow_uuid number entries")
#: the table in which Alembic records the version of the layout
VERSION_TABLE = "taskflowx_version"
TABLES = (BOOKS, FLOWS, ATOMS, RUNS, ATTEMPTS, HISTORY)

#: the channel on which PostgreSQL tells of changes; a notification is the uuid of a flow
CHANNEL = "taskflowx_runs"
#: the lock that the watchers of a flow hold, shared; PostgreSQL has it at no table
LISTENING = "hashtextextended({}, 7)"
# Notifies them at the end of the transaction, and only if there are some: commits with notifications take turns.
_TELL = (
    f"RETURNING CASE WHEN pg_try_advisory_xact_lock({LISTENING.format('flow_uuid')}) THEN NULL "
    f"ELSE pg_notify('{CHANNEL}', flow_uuid)::text END"
)

# The columns of an atom that an update changes: the creation time of a new row is the update time of an existing one.
_CHANGING: dict[str, str | None] = {"version": None, "state": None, "intention": None, "updated_at": "created_at"}
_CHANGING |= dict.fromkeys(sorted(DOCUMENTS))


def family_of(dialect_name: str) -> str:
    """Return the family of a SQLAlchemy dialect, one of `FAMILIES`.

    :raises ValueError: when it is none of them
    """
    family = {"mariadb": "mysql"}.get(dialect_name, dialect_name)
    if family not in FAMILIES:
        msg = f"No store for databases of the kind '{dialect_name}', only for: mariadb, {', '.join(FAMILIES)}"
        raise ValueError(msg)
    return family


class Statements:
    """The statements for one kind of database.

    `insert_*` and `put_*` take all columns of their table, in order; `update_flow` takes updated_at, state, meta and
    the uuid, `update_simple` takes `OF_SIMPLE`, with an empty text for no results, and the uuid; a query takes the
    values that its name mentions, or none.
    `move_on` compares and swaps the version: it takes the fields of a `Claim`, the uuid of the flow, and the version
    before; `move_on_with_tail` takes the tail of the history, too, after the claim. `put_tail` takes a tail and the
    uuid of the flow. `run_at_rest` waits for a transaction that is changing the claim. `renew` takes expires, the uuid
    and the owner. `put_and_move_on` does in one statement, where the database can, the work of `put_atom` for one atom,
    or for two, and then of `move_on`; it takes their parameters, and fails by a division by zero, which changes
    nothing, where `move_on` finds no such version. `put_and_move_on_with_tail` does so with `move_on_with_tail`, and
    `put_log_and_move_on` does the work of `put_entries` in between. `has_attempts` takes the uuid of a retry and the
    number of an attempt, and tells whether a row of attempts begins with that number; `cut_attempts` takes the same,
    and removes the attempts from that number on.

    :param family: one of `FAMILIES`
    """

    def __init__(self, family: str) -> None:
        text, insert = functools.partial(_text, family), functools.partial(_insert, family)
        uuid = _given("uuid")
        of_book = sa.select(FLOWS.c.uuid).where(FLOWS.c.parent_uuid == uuid)
        self.put_book = _upsert(family, BOOKS, dict.fromkeys(("created_at", "updated_at", "meta")))
        self.insert_flow, self.insert_atom, self.insert_run = insert(FLOWS), insert(ATOMS), insert(RUNS, "tail")
        self.put_atom = _upsert(family, ATOMS, _CHANGING)
        nothing = dict.fromkeys(sorted(DOCUMENTS.difference(OF_SIMPLE)), sa.null())
        simple = {name: _given(name) for name in OF_SIMPLE} | {
            "results": sa.func.nullif(_given("results"), sa.text("''"))
        }
        to_simple = sa.update(ATOMS).values(simple | nothing)
        self.update_simple = text(to_simple.where(ATOMS.c.uuid == uuid), *OF_SIMPLE, "uuid")
        changing = ("updated_at", "state", "meta")
        update_flow = sa.update(FLOWS).values({name: _given(name) for name in changing}).where(FLOWS.c.uuid == uuid)
        self.update_flow = text(update_flow, *changing, "uuid")
        self.layout = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - ours
        self.books = _select(family, BOOKS, None)
        self.book = _select(family, BOOKS, BOOKS.c.uuid)
        self.flow = _select(family, FLOWS, FLOWS.c.uuid)
        self.atom = _select(family, ATOMS, ATOMS.c.uuid)
        self.flows_of_book = _select(family, FLOWS, FLOWS.c.parent_uuid)
        self.atoms_of_book = _select(family, ATOMS, FLOWS.c.parent_uuid)
        self.atoms_of_flow = _select(family, ATOMS, ATOMS.c.parent_uuid)
        self.clear = tuple(text(sa.delete(table)) for table in (RUNS, ATOMS, FLOWS, BOOKS))
        self.destroy = (
            text(sa.delete(RUNS).where(RUNS.c.flow_uuid.in_(of_book)), "uuid"),
            text(sa.delete(ATOMS).where(ATOMS.c.parent_uuid.in_(of_book)), "uuid"),
            text(sa.delete(FLOWS).where(FLOWS.c.parent_uuid == uuid), "uuid"),
            text(sa.delete(BOOKS).where(BOOKS.c.uuid == uuid), "uuid"),
        )

        # A run alone: its atoms, itself, and its book if that was made for it and holds nothing else.
        self.destroy_flow = (
            text(sa.delete(ATOMS).where(ATOMS.c.parent_uuid == uuid), "uuid"),
            text(sa.delete(FLOWS).where(FLOWS.c.uuid == uuid), "uuid"),
        )
        is_made_for_it = sa.or_(BOOKS.c.uuid == _given("known"), BOOKS.c.name == _given("name"))
        is_empty = ~sa.exists().where(FLOWS.c.parent_uuid == BOOKS.c.uuid)
        destroy_book = sa.delete(BOOKS).where(BOOKS.c.uuid == uuid, is_made_for_it, is_empty)
        self.destroy_empty_book = text(destroy_book, "uuid", "known", "name")

        # Versions and owners.
        this = RUNS.c.flow_uuid == uuid
        claim = {name: _given(name) for name in ("version", "owner", "expires")}
        tail = {"tail": _given("tail")}
        of_claim = [RUNS.c[name] for name in claim]
        is_known = RUNS.c.version == _given("known")
        move_on = sa.update(RUNS).values(claim).where(this, is_known)
        with_tail = sa.update(RUNS).values(claim | tail).where(this, is_known)
        is_held = (RUNS.c.owner == _given("owner"), RUNS.c.expires > sa.literal_column("0"))
        self.move_on = text(move_on, *claim, "uuid", "known")
        self.move_on_with_tail = text(with_tail, *claim, "tail", "uuid", "known")
        renew = sa.update(RUNS).values(expires=_given("expires")).where(this, *is_held)
        self.renew = text(renew, "expires", "uuid", "owner")
        self.run = text(sa.select(*of_claim).where(this), "uuid")
        self.run_at_rest = text(sa.select(*of_claim).where(this).with_for_update(), "uuid")
        self.destroy_run = text(sa.delete(RUNS).where(this, RUNS.c.version == _given("version")), "uuid", "version")
        self.runs_of_book = text(sa.select(RUNS.c.flow_uuid, *of_claim).where(RUNS.c.flow_uuid.in_(of_book)), "uuid")
        self.put_entries = _upsert(family, HISTORY, {"entries": None}, ["flow_uuid", "number"])
        self.put_and_move_on: tuple[str, ...] = ()
        self.put_and_move_on_with_tail: tuple[str, ...] = ()
        self.put_log_and_move_on: tuple[str, ...] = ()
        if family == "postgresql":  # not as INSERT ... SELECT, which would infer types for the values
            self.move_on, self.insert_run = f"{self.move_on} {_TELL}", f"{self.insert_run} {_TELL}"
            self.move_on_with_tail = f"{self.move_on_with_tail} {_TELL}"
            self.put_and_move_on = self._together(self.move_on)
            self.put_and_move_on_with_tail = self._together(self.move_on_with_tail)
            self.put_log_and_move_on = self._together(self.move_on_with_tail, f"h AS ({self.put_entries}), ")

        # Finished attempts, for databases that have the table.
        these, number = ATTEMPTS.c.atom_uuid == uuid, ATTEMPTS.c.number
        atoms_of_book = sa.select(ATOMS.c.uuid).where(ATOMS.c.parent_uuid.in_(of_book))
        self.attempts = text(sa.select(number, ATTEMPTS.c.attempts).where(these), "uuid")
        self.has_attempts = text(sa.select(number).where(these, number == _given("number")), "uuid", "number")
        self.insert_attempts = insert(ATTEMPTS)
        self.cut_attempts = text(sa.delete(ATTEMPTS).where(these, number >= _given("number")), "uuid", "number")
        self.clear_attempts = text(sa.delete(ATTEMPTS))
        self.destroy_attempts = text(sa.delete(ATTEMPTS).where(ATTEMPTS.c.atom_uuid.in_(atoms_of_book)), "uuid")
        is_retry = ATOMS.c.atom_type == sa.literal_column("'RETRY_DETAIL'")
        self.retries_of_flow = text(sa.select(ATOMS.c.uuid).where(ATOMS.c.parent_uuid == uuid, is_retry), "uuid")

        # The history of runs, for databases that have the table, and the column.
        self.tail = text(sa.select(RUNS.c.tail).where(this), "uuid")
        self.put_tail = text(sa.update(RUNS).values(tail).where(this), "tail", "uuid")
        of_run = HISTORY.c.flow_uuid == uuid
        entries = sa.select(HISTORY.c.number, HISTORY.c.entries).where(of_run, HISTORY.c.number > _given("number"))
        self.entries = text(entries.order_by(HISTORY.c.number), "uuid", "number")
        self.clear_entries = text(sa.delete(HISTORY))
        self.destroy_entries = text(sa.delete(HISTORY).where(HISTORY.c.flow_uuid.in_(of_book)), "uuid")
        self.destroy_entries_of_flow = text(sa.delete(HISTORY).where(of_run), "uuid")

    def _together(self, move_on: str, between: str = "") -> tuple[str, ...]:
        """Return a statement for one atom, and one for two."""
        put, moved = self.put_atom, f"{between}c AS ({move_on}) SELECT 1 / count(*) FROM c"  # noqa: S608
        return f"WITH a AS ({put}), {moved}", f"WITH a AS ({put}), b AS ({put}), {moved}"


@functools.cache
def newest_layout() -> str:
    """Return the version of the layout after all migrations, by the names of their files: Alembic need not be there."""
    return max(path.name[1:4] for path in _MIGRATIONS.glob("v*.py"))


@functools.cache
def statements(family: str) -> Statements:
    """Return the statements for one of the `FAMILIES`."""
    return Statements(family)


def has(family: str, what: str) -> str:
    """Return the query that tells whether one of our tables is there, or `TAIL`; TaskFlow's databases lack them."""
    table, _, column = what.partition(".")
    if family == "sqlite":
        query = f"sqlite_master WHERE name = '{table}'"
        if column:
            query = f"pragma_table_info('{table}') WHERE name = '{column}'"
    elif family == "postgresql":
        query = f"pg_class WHERE oid = to_regclass('{table}')"
        if column:
            query = f"pg_attribute WHERE attrelid = to_regclass('{table}') AND attname = '{column}'"
    else:
        kind, of_column = ("columns", f" AND column_name = '{column}'") if column else ("tables", "")
        query = f"information_schema.{kind} WHERE table_schema = DATABASE() AND table_name = '{table}'{of_column}"
    return f"SELECT 1 FROM {query}"  # noqa: S608 - names of ours


def names(table: TableClause) -> list[str]:
    """Return the names of the columns of a table, in order."""
    return [column.name for column in table.c]


def _given(name: str) -> Any:
    # SQLAlchemy reserves the names of columns for its own parameters.
    return sa.bindparam(f"given_{name}")


def _all_given(table: TableClause) -> dict[str, Any]:
    return {column.name: _given(column.name) for column in table.c}


def _insert(family: str, table: TableClause, *without: str) -> str:
    given = {name: value for name, value in _all_given(table).items() if name not in without}
    return _text(family, sa.insert(table).values(given), *given)


def _upsert(family: str, table: TableClause, changing: dict[str, str | None], key: Sequence[str] = ("uuid",)) -> str:
    """Return the statement that inserts a row, or updates the row with the same key.

    :param changing: column -> the column whose new value it takes on an update, None for its own
    :param key: the columns of the key
    """
    into = _DIALECTS[family].insert(table).values(_all_given(table))
    new = into.inserted if family == "mysql" else into.excluded
    changes = {name: new[other or name] for name, other in changing.items()}
    if family == "mysql":
        return _text(family, into.on_duplicate_key_update(changes), *names(table))
    return _text(family, into.on_conflict_do_update(index_elements=list(key), set_=changes), *names(table))


def _select(family: str, table: TableClause, by: ColumnElement[Any] | None) -> str:
    columns: list[Any] = list(table.c)
    if family == "postgresql":  # as text, where its drivers would convert documents to objects
        columns = [sa.cast(column, sa.Text) if column.name in DOCUMENTS else column for column in columns]
    statement = sa.select(*columns).order_by(table.c.created_at, table.c.uuid)
    if by is None:
        return _text(family, statement)
    if by.table is not table:
        statement = statement.select_from(table.join(FLOWS, table.c.parent_uuid == FLOWS.c.uuid))
    return _text(family, statement.where(by == _given("uuid")), "uuid")


def _text(family: str, statement: Any, *names: str) -> str:
    """Return the text of a statement for a database.

    :param names: its parameters, in order
    """
    dialect = _DIALECTS[family].dialect(paramstyle="qmark" if family == "sqlite" else "format")
    compiled: Any = statement.compile(dialect=dialect)
    assert tuple(compiled.positiontup or ()) == tuple(f"given_{name}" for name in names)
    return str(compiled)
