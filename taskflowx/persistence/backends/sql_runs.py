"""Pages of runs in a SQL store, newest first, and the removal of single runs.

What must stay true: a page is read along an index, so it costs the same in a store of any size. That needs a statement
that fixes each column of an index before the time: a page of several states is made of one branch for each, joined by
UNION ALL, and a page of a flow in any state has a branch for each state that there is. Tests look at the query plans.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.persistence import codec, owners, run_records
from taskflowx.persistence.backends import sql, sql_rows

if TYPE_CHECKING:
    from taskflowx.persistence.backends.sql_reader import Reader
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction

_ORDER = "created_at DESC, uuid DESC"
#: the version in the claim of a run that has none yet, and is about to be removed
_UNCLAIMED = owners.Claim(0, None, 0.0)


def page(family: str, query: run_records.Query) -> tuple[str, list[Any]]:
    """Return the statement that reads a page of runs, and its parameters.

    :param family: one of `sql.FAMILIES`
    """
    branches = [_branch(family, query, fixed) for fixed in _fixed(query)]
    if len(branches) == 1:
        return branches[0]
    parts = [f"SELECT * FROM ({text}) AS b{number}" for number, (text, _) in enumerate(branches)]  # noqa: S608
    given = [value for _, values in branches for value in values]
    all_parts = " UNION ALL ".join(parts)
    text = f"SELECT * FROM ({all_parts}) AS runs ORDER BY {_ORDER} LIMIT {_mark(family)}"  # noqa: S608 - no values
    return text, [*given, query.limit]


def _mark(family: str) -> str:
    return "?" if family == "sqlite" else "%s"


def _fixed(query: run_records.Query) -> list[dict[str, str | None]]:
    """Return the columns that each branch fixes, in the order of an index, and their values."""
    wanted = query.states
    if wanted is None:
        if query.flow is None:
            return [{}]
        wanted = frozenset(states.FLOW_STATES)
    of_flow: dict[str, str | None] = {} if query.flow is None else {"name": query.flow}
    of_states = [*sorted(wanted), None] if states.PENDING in wanted else sorted(wanted)
    return [{**of_flow, "state": state} for state in of_states]


def _branch(family: str, query: run_records.Query, fixed: dict[str, str | None]) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for column, value in fixed.items():
        if value is None:
            conditions.append(f"{column} IS NULL")
        elif family == "mysql":  # MariaDB uses no column of an index behind one that is compared by `=`
            conditions += [f"{column} >= {{}}", f"{column} <= {{}}"]
            values += [value, value]
        else:
            conditions.append(f"{column} = {{}}")
            values.append(value)
    if query.since is not None:
        conditions.append("created_at >= {}")
        values.append(_time(family, query.since))
    if query.before is not None:
        conditions.append("created_at < {}")
        values.append(_time(family, query.before))
    if query.after is not None:  # a comparison of rows would not use the index in MariaDB
        at, uuid = query.after
        conditions += ["created_at <= {}", "(created_at < {} OR uuid < {})"]
        values += [_time(family, at), _time(family, at), uuid]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    order = ", ".join((*(f"{column} DESC" for column in fixed), _ORDER)) if family == "mysql" else _ORDER
    text = f"SELECT {_columns(family)} FROM {sql.FLOWS.name} {where}ORDER BY {order} LIMIT {{}}"  # noqa: S608 - no values
    return text.replace("{}", _mark(family)), [*values, query.limit]


def _columns(family: str) -> str:
    is_document = {"meta": "CAST(meta AS TEXT) AS meta"} if family == "postgresql" else {}
    return ", ".join(is_document.get(name, name) for name in sql.names(sql.FLOWS))


def _time(family: str, at: dt.datetime) -> Any:
    """Return a time as it is stored."""
    at = at.astimezone(dt.UTC).replace(tzinfo=None)
    return at.isoformat(" ", "microseconds") if family == "sqlite" else at


def row_of_run(row: Any) -> run_records.RunRow:
    """Make a run of a listing from its row.

    :raises Unreadable: when the row is damaged
    """
    detail = sql_rows.flow(row)
    try:
        created, updated = sql_rows.times(row)
    except ValueError as error:
        raise codec.Unreadable(f"The run '{detail.name}' ({detail.uuid}) has a damaged time", error) from error
    made = run_records.in_utc(created or dt.datetime(1970, 1, 1))  # noqa: DTZ001 - stored times name no zone
    changed = None if updated is None else run_records.in_utc(updated)
    return run_records.RunRow(detail.uuid, detail.name, detail.state, detail.meta, made, changed)


def destroy(
    tx: StoreTransaction, reader: Reader, statements: sql.Statements, uuid: str, only: run_records.Condition = None
) -> bool:
    """Remove a run unless it is in progress; tells whether it was removed.

    The row of its claim is locked first, or made, so that nobody begins to run it meanwhile.

    :param only: tells of the run whether it is to be removed; None if it is
    """
    claim = reader.claim(tx, uuid)  # first: its version is compared below, so nothing has changed what is read after it
    rows = tx.rows(statements.flow, uuid)
    if not rows or not (only is None or all(map(only, map(row_of_run, rows)))):
        return False
    if reader.has(tx, sql.RUNS.name):
        if claim is None:
            claim = _UNCLAIMED
            tx.run(statements.insert_run, uuid, *claim)
        elif owners.is_alive(claim, time.time()):
            return False
        if not tx.run(statements.destroy_run, uuid, claim.version).rowcount:
            return False  # somebody has written it a moment ago
    if reader.has(tx, sql.ATTEMPTS.name):
        for (atom_uuid,) in tx.rows(statements.retries_of_flow, uuid):
            tx.run(statements.cut_attempts, atom_uuid, 0)
    if reader.has(tx, sql.HISTORY.name):
        tx.run(statements.destroy_entries_of_flow, uuid)
    for statement in statements.destroy_flow:
        tx.run(statement, uuid)
    run_id = None
    with contextlib.suppress(exceptions.StorageFailure):  # a damaged run can be removed
        run_id = run_records.id_of(sql_rows.flow(rows[0]))
    known = uuid if run_id is None else run_records.book_uuid(run_id)
    tx.run(statements.destroy_empty_book, rows[0][2], known, run_records.TEMPORARY)
    return True
