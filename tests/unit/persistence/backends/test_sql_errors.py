"""What an error of a driver means is told by its code."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from taskflowx.persistence.backends.sql_errors import Meaning, meaning_of


class WithState(Exception):
    """As psycopg raises it."""

    def __init__(self, sqlstate, text=""):
        super().__init__(text)
        self.sqlstate = sqlstate


class WithCode(Exception):
    """As psycopg2 raises it."""

    def __init__(self, pgcode):
        super().__init__("")
        self.pgcode = pgcode


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("22001", Meaning.DATA),
        ("22P02", Meaning.DATA),
        ("23502", Meaning.DATA),
        ("54000", Meaning.DATA),
        ("23505", Meaning.CLASH),
        ("23503", Meaning.CLASH),
        ("42P01", Meaning.MISSING),
        ("42703", Meaning.MISSING),
        ("0A000", Meaning.FINAL),
        ("40001", Meaning.CONFLICT),
        ("40P01", Meaning.CONFLICT),
        ("42P05", Meaning.LOST),
        ("26000", Meaning.LOST),
        ("08006", Meaning.LOST),
        ("57P01", Meaning.LOST),
        ("25006", Meaning.LOST),
        ("53300", Meaning.PASSING),
        ("57014", Meaning.PASSING),
        ("55P03", Meaning.PASSING),
    ],
)
def test_a_sqlstate_tells(state, meaning):
    assert meaning_of(WithState(state)) is meaning
    assert meaning_of(WithCode(state)) is meaning


def test_a_layout_that_has_changed_under_a_prepared_statement_is_no_fault_of_the_layout():
    assert meaning_of(WithState("0A000", "cached plan must not change result type")) is Meaning.LOST


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (1406, Meaning.DATA),
        (1153, Meaning.DATA),
        (1366, Meaning.DATA),
        (4025, Meaning.DATA),
        (1062, Meaning.CLASH),
        (1452, Meaning.CLASH),
        (1146, Meaning.MISSING),
        (1054, Meaning.MISSING),
        (1213, Meaning.CONFLICT),
        (1205, Meaning.CONFLICT),
        (2013, Meaning.LOST),
        (1290, Meaning.LOST),
        (1040, Meaning.PASSING),
        (1114, Meaning.PASSING),
    ],
)
def test_a_number_of_mariadb_tells_more_than_its_sqlstate(number, meaning):
    error = WithState("23000")
    error.args = (number, "text")
    if meaning is not Meaning.PASSING:
        assert meaning_of(error) is meaning
    assert meaning_of(sqlite3.OperationalError(number, "text")) is meaning


def test_the_codes_of_sqlite_tell():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL CHECK (length(b) < 9))")
        connection.execute("INSERT INTO t VALUES (1, 'x')")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
        for statement, given, meaning in (
            ("INSERT INTO t VALUES (1, 'x')", (), Meaning.CLASH),
            ("INSERT INTO t VALUES (2, NULL)", (), Meaning.DATA),
            ("INSERT INTO t VALUES (2, ?)", ("x" * 10,), Meaning.DATA),
            ("INSERT INTO t VALUES (2, ?)", ("x" * 10_000,), Meaning.DATA),
            ("INSERT INTO t VALUES (2, ?)", (object(),), Meaning.DATA),
            ("SELECT * FROM u", (), Meaning.MISSING),
            ("SELECT c FROM t", (), Meaning.MISSING),
            ("SELECT FROM", (), Meaning.FINAL),
        ):
            with pytest.raises(sqlite3.Error) as raised:
                connection.execute(statement, given)
            assert meaning_of(raised.value) is meaning, statement
    connection.close()


def test_what_has_no_code_may_pass_unless_the_driver_has_refused_the_data():
    assert meaning_of(sqlite3.OperationalError("any")) is Meaning.PASSING
    assert meaning_of(TimeoutError()) is Meaning.PASSING
    assert meaning_of(sqlite3.DataError("any")) is Meaning.DATA
