"""What databases do for each call on runs: pages are read along an index, and no call reads a whole table.

Plans are those of a store with some thousand runs, after the database has looked at its statistics.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json

import pytest
import sqlalchemy as sa

import taskflowx
from taskflowx import runs, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, run_records
from taskflowx.persistence.backends import sql, sql_runs
from taskflowx.persistence.backends.sql_transaction import StoreTransaction
from tests.services import addresses

MANY = 4000  # runs
LIMIT = 10  # runs of a page
TABLES = ("logbooks", "flowdetails", "atomdetails", "taskflowx_runs", "taskflowx_attempts")
SERVERS = {"sqlite": None, "postgresql": addresses.POSTGRESQL, "mariadb": addresses.MARIADB}
START = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - as stores keep it


@pytest.fixture(scope="module", params=SERVERS)
def backend(request, tmp_path_factory):
    """Return a store with many runs, of which a few have failed."""
    server = SERVERS[request.param]
    lacks = server and server.lacks()
    if lacks:
        pytest.skip(lacks)
    address = addresses.new_database(server) if server else f"sqlite:///{tmp_path_factory.mktemp('plans')}/runs.db"
    with backends.backend(address) as made:
        fill(made, MANY)
        yield made


def fill(backend, many):
    """Store runs with a book, an atom and a claim each."""
    books, flows, atoms, claims = [], [], [], []
    for n in range(many):
        book, flow = run_records.book_uuid(f"r{n}"), run_records.flow_uuid(f"r{n}")
        at = START + dt.timedelta(seconds=n)
        state = states.FAILURE if n % 500 == 0 else states.SUCCESS
        meta = json.dumps({"run": {"id": f"r{n}"}})
        times = {"created_at": at, "updated_at": at}
        books.append({"uuid": book, "name": f"r{n}", "meta": meta, **times})
        name = "rare" if n % 700 == 0 else "common"
        flows.append({"uuid": flow, "name": name, "parent_uuid": book, "state": state, "meta": meta, **times})
        kind = {"atom_type": "TASK_DETAIL", "intention": "EXECUTE", "state": states.SUCCESS, "meta": "{}"}
        atoms.append({"uuid": f"atom-{n}", "name": "a", "parent_uuid": flow, **kind, **times})
        claims.append({"flow_uuid": flow, "version": 3, "owner": "x", "expires": 0.0})
    # names and types of the tables themselves, so that each value is bound as it is stored
    real = sa.MetaData()
    real.reflect(backend.engine, only=["logbooks", "flowdetails", "atomdetails", "taskflowx_runs"])
    with backend.engine.begin() as connection:
        for table, rows in zip(
            ("logbooks", "flowdetails", "atomdetails", "taskflowx_runs"), (books, flows, atoms, claims), strict=True
        ):
            given = rows
            if backend.family == "postgresql":
                given = [{**row, "meta": json.loads(row["meta"])} if "meta" in row else row for row in rows]
            connection.execute(real.tables[table].insert(), given)
    with backend.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"ANALYZE {'TABLE ' if backend.family == 'mysql' else ''}{table}")


# -- pages -------------------------------------------------------------------------------------------------------------

MIDDLE = START.replace(tzinfo=dt.UTC) + dt.timedelta(seconds=MANY // 2)
CHOICES = {
    "states": [None, {"SUCCESS"}, {"FAILURE"}, {"SUCCESS", "REVERTED", "PENDING"}],
    "flow": [None, "common", "rare", "none"],
    "since": [None, MIDDLE - dt.timedelta(days=1)],
    "after": [None, (MIDDLE, run_records.flow_uuid(f"r{MANY // 2}"))],
}
QUERIES = [
    run_records.Query(
        states=None if wanted is None else frozenset(wanted), flow=flow, since=since, after=after, limit=LIMIT
    )
    for wanted, flow, since, after in itertools.product(*CHOICES.values())
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda one: f"{sorted(one.states or ())}-{one.flow}-{bool(one.after)}")
def test_a_page_reads_as_many_rows_as_it_shows(backend, query):
    statement, given = sql_runs.page(backend.family, query)
    branches = statement.count(f"FROM {sql.FLOWS.name}")
    with raw_cursor(backend) as cursor:
        cursor.execute(statement, given)
        found = cursor.fetchall()
        if backend.family == "sqlite":
            plan = plan_of(backend, cursor, statement, given)
            assert [line for line in plan if "flowdetails" in line and "taskflowx_runs_" not in line] == []
            if branches == 1:
                assert not [line for line in plan if "TEMP B-TREE" in line]
            return
        read = rows_read(backend, cursor, statement, given)
    assert read <= branches * (LIMIT + 1)
    assert len(found) <= LIMIT


def rows_read(backend, cursor, statement, given):
    """Return how many rows of flows the database has read for a query."""
    if backend.family == "postgresql":
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", given)
        nodes = list(walk(cursor.fetchone()[0]))
        scans = [node for node in nodes if node.get("Relation Name") == "flowdetails"]
        assert {node["Node Type"] for node in scans} <= {"Index Scan"}, scans
        return sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans)
    cursor.execute(f"ANALYZE FORMAT=JSON {statement}", given)
    scans = [node for node in walk(json.loads(cursor.fetchone()[0])) if node.get("table_name") == "flowdetails"]
    assert all(node.get("access_type") in {"ref", "range", "index"} for node in scans), scans
    return sum((node.get("r_rows") or 0) * node.get("r_loops", 1) for node in scans)


def walk(tree):
    """Iterate over all dicts in a tree."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    for each in tree if isinstance(tree, list) else ():
        yield from walk(each)


@contextlib.contextmanager
def raw_cursor(backend):
    pooled = backend.engine.raw_connection()
    try:
        yield pooled.cursor()
        pooled.rollback()
    finally:
        pooled.close()


# -- all calls ---------------------------------------------------------------------------------------------------------


def test_no_call_reads_a_whole_table(backend, monkeypatch):
    asked = {}
    flow = linear_flow.Flow("f").add(task.FunctorTask(lambda x: x, name="a", provides="y"))

    def noting(method):
        def noted(self, statement, *given, **more):
            asked.setdefault(statement, given)
            return method(self, statement, *given, **more)

        return noted

    def noting_many(self, statement, rows, what=None):
        asked.setdefault(statement, rows[0] if rows else None)
        return many(self, statement, rows, what)

    many = StoreTransaction.many
    for name in ("run", "rows", "at_once"):
        monkeypatch.setattr(StoreTransaction, name, noting(getattr(StoreTransaction, name)))
    monkeypatch.setattr(StoreTransaction, "many", noting_many)
    with runs.open(backend) as known:
        for _ in range(2):
            taskflowx.run(flow, {"x": 1}, backend=backend, run_id="new")
        taskflowx.run(flow, backend=backend, run_id="new", if_finished="again")
        known.fork("new", from_task="a")
        assert list(known.watch("new"))[-1].result() == known.wait("new") == {"x": 1, "y": 1}
        known.delete("new")
        known.delete("new-2")
        assert known.prune(older_than=dt.datetime(2024, 1, 1, 0, 0, 9, tzinfo=dt.UTC)) == 8
    monkeypatch.undo()
    lookups = {text: given for text, given in asked.items() if given is not None and _is_about_runs(text)}
    assert len(lookups) > 15
    with raw_cursor(backend) as cursor:
        scans = {text: lines for text, given in lookups.items() if (lines := whole(backend, cursor, text, given))}
    assert scans == {}


def _is_about_runs(statement):
    return "flowdetails" in statement or "atomdetails" in statement or "taskflowx_runs" in statement


def whole(backend, cursor, statement, given):
    """Return what says that a plan reads a whole table."""
    plan = plan_of(backend, cursor, statement, given)
    if backend.family == "sqlite":
        return [line for line in plan if line.startswith("SCAN") and "USING" not in line and line.split()[1] in TABLES]
    if backend.family == "postgresql":
        return [node for node in plan if node.get("Node Type") == "Seq Scan" and node["Relation Name"] in TABLES]
    return [node for node in plan if node.get("access_type") == "ALL" and node.get("table_name") in TABLES]


def plan_of(backend, cursor, statement, given):
    """Return the plan of a statement, which is not run: lines in SQLite, else nodes."""
    if backend.family == "sqlite":
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given)
        return [row[3] for row in cursor.fetchall()]
    if backend.family == "postgresql":
        cursor.execute("SET LOCAL enable_seqscan = off")  # small tables are read as a whole, where an index is there
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", given)
        return list(walk(cursor.fetchone()[0]))
    cursor.execute(f"EXPLAIN FORMAT=JSON {statement}", given)
    return list(walk(json.loads(cursor.fetchone()[0])))
