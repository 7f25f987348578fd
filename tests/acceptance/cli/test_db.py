"""taskflowx db: the layout of a store, and whether what it keeps can be read."""

from __future__ import annotations

import sqlite3

import pytest

from tests.services import addresses


def test_an_upgrade_makes_the_layout(inside):
    ended = inside("db", "verify", "--backend", "runs.db")
    assert (ended.code, ended.out) == (2, "")
    assert "There is no store 'runs.db'" in ended.err
    for address in ("sqlite:///no%20runs.db?timeout=3", "dir://no/runs", "dir://no?sync=0", "what? %41.db"):
        ended = inside("runs", "--backend", address)
        assert (ended.code, f"There is no store '{address}'" in ended.err) == (2, True)
    assert inside("db", "upgrade", "--backend", "runs.db").code == 0
    ended = inside("db", "verify", "--backend", "runs.db", "--json")
    assert (ended.code, ended.json) == (0, {"runs": 0, "faults": []})


def test_the_store_may_be_in_the_environment(inside):
    assert inside("db", "upgrade", "--json", TASKFLOWX_BACKEND="sqlite:///runs.db").json == {"upgraded": True}
    assert (inside.path / "runs.db").exists()
    ended = inside("db", "verify")
    assert ended.code == 2
    assert "TASKFLOWX_BACKEND" in ended.err


def test_sql_is_printed_and_not_run(inside):
    sql = inside("db", "upgrade", "--sql", "--backend", "runs.db").out
    assert not (inside.path / "runs.db").exists()
    with sqlite3.connect(inside.path / "runs.db") as database:
        database.executescript(sql)
    database.close()
    assert inside("db", "verify", "--backend", "runs.db").code == 0
    ended = inside("db", "upgrade", "--sql", "--backend", "runs.db")
    assert (ended.code, ended.out, ended.err) == (0, "", "The layout is that of this version: there is nothing to do\n")


def test_an_old_layout_is_found(inside):
    inside("db", "upgrade", "--backend", "runs.db")
    with sqlite3.connect(inside.path / "runs.db") as database:
        database.executescript("UPDATE taskflowx_version SET version_num = '003'; DROP TABLE taskflowx_attempts;")
    database.close()
    ended = inside("db", "verify", "--backend", "runs.db", "--json")
    assert ended.code == 1
    assert "no table 'taskflowx_attempts'" in ended.json["faults"][0]
    assert "CREATE TABLE taskflowx_attempts" in inside("db", "upgrade", "--sql", "--backend", "runs.db").out
    assert inside("db", "verify", "--backend", "runs.db").code == 1  # --sql has changed nothing
    assert inside("db", "upgrade", "--backend", "runs.db").code == 0
    assert inside("db", "verify", "--backend", "runs.db").code == 0


def test_on_postgresql_nothing_is_changed_either(inside):
    address = addresses.new_database(addresses.POSTGRESQL)
    ended = inside("db", "upgrade", "--sql", "--backend", address, "--json")
    assert any("CREATE TABLE taskflowx_runs" in one for one in ended.json["statements"])
    assert inside("db", "verify", "--backend", address).code == 1
    assert inside("db", "upgrade", "--backend", address).code == 0
    assert inside("db", "upgrade", "--sql", "--backend", address, "--json").json == {"statements": []}


def test_on_mariadb_the_statements_cannot_be_had(inside):
    ended = inside("db", "upgrade", "--sql", "--backend", addresses.new_database(addresses.MARIADB))
    assert (ended.code, ended.out) == (2, "")
    assert "MariaDB and MySQL commit each change of a table at once" in ended.err


def test_a_store_without_tables_has_no_statements(inside):
    assert inside("db", "upgrade", "--backend", f"dir://{inside.path}/runs").code == 0
    ended = inside("db", "upgrade", "--sql", "--backend", f"dir://{inside.path}/runs")
    assert (ended.code, ended.out) == (2, "")
    assert "--sql is for SQL stores" in ended.err


@pytest.mark.parametrize("address", ["postgresql://nobody@127.0.0.1:1/none", "mysql://nobody@127.0.0.1:1/none"])
def test_a_store_that_cannot_be_reached_ends_with_75(inside, address):
    ended = inside("db", "verify", "--backend", address)
    assert (ended.code, ended.out) == (75, "")
    assert "127.0.0.1" in ended.err


def test_what_is_no_store_is_refused(inside):
    ended = inside("db", "verify", "--backend", "nonsense")
    assert (ended.code, ended.out) == (2, "")
    assert "nonsense" in ended.err
