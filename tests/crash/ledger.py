"""Flows whose tasks write rows of their own in the transaction that records their success, and what must agree.

The ledger is a table beside those of the store: one row for each success that stands. Both are compared whenever a
process takes up a run, so at each place where one was killed, and at the end.
"""

from __future__ import annotations

import collections

import sqlalchemy as sa

from taskflowx import retry, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.testing import crash
from tests.services import addresses


class Enter(task.Task):
    """Adds a row to the ledger, and takes it out again; fails in the first `fails` rounds, with its row written."""

    def __init__(self, name, fails=0):
        super().__init__(name, provides=name)
        self.fails = fails

    def execute(self, transaction, idempotency_key):
        transaction.execute(sa.text("INSERT INTO ledger (atom, name) VALUES (:a, :n)"), self.row(idempotency_key))
        crash.point("in execute")
        if int(idempotency_key.rpartition(".")[2]) < self.fails:
            raise OSError(self.name)
        return self.name

    def revert(self, transaction, idempotency_key, result, flow_failures):
        row = self.row(idempotency_key)
        transaction.execute(sa.text("DELETE FROM ledger WHERE atom = :a AND name = :n"), row)
        crash.point("in revert")

    def row(self, key):
        return {"a": key.partition(".")[0], "n": self.name}


class Fail(task.Task):
    """Fails in the first rounds."""

    def __init__(self, rounds):
        super().__init__("fail")
        self.rounds = rounds

    def execute(self, idempotency_key):
        if int(idempotency_key.rpartition(".")[2]) < self.rounds:
            raise OSError("fail")


ALWAYS = 10**9


def chain():
    """Three entries, one after another."""
    return linear_flow.Flow("chain").add(*map(Enter, "abc"))


def wide():
    """Entries that nothing orders, beside a task that takes no transaction."""
    return unordered_flow.Flow("wide").add(*map(Enter, "abc"), Fail(0))


def undone():
    """Entries that are all taken out, as the last one fails with its row written."""
    return linear_flow.Flow("undone").add(*map(Enter, "ab"), Enter("c", ALWAYS))


def retried():
    """Entries that are taken out and made once more, two times."""
    return linear_flow.Flow("retried", retry.Times(3, "often")).add(Enter("a"), Enter("b", 1), Fail(2))


FLOWS = (chain, wide, undone, retried)


def make_table(address):
    """Make the table of the ledger."""
    _run(
        address,
        lambda connection: connection.execute(
            sa.text("CREATE TABLE IF NOT EXISTS ledger (atom VARCHAR(64), name VARCHAR(64))")
        ),
    )


def check(address):
    """Compare the ledger with the successes on record: each has one row, and no other row is there."""

    def read(connection):
        on_record = connection.execute(
            sa.text("SELECT uuid, name FROM atomdetails WHERE name IN ('a', 'b', 'c') AND state IN (:s, :r, :f)"),
            {"s": states.SUCCESS, "r": states.REVERTING, "f": states.REVERT_FAILURE},
        )
        rows = connection.execute(sa.text("SELECT atom, name FROM ledger")).all()
        failed = connection.execute(sa.text("SELECT uuid FROM atomdetails WHERE failure IS NOT NULL"))
        without = {uuid for (uuid,) in failed}
        expected = [tuple(row) for row in on_record if row[0] not in without]
        return collections.Counter(map(tuple, rows)), collections.Counter(expected)

    rows, expected = _run(address, read)
    assert rows == expected, f"rows {rows}, on record {expected}"


def _run(address, work):
    engine = sa.create_engine(addresses.through(address), poolclass=sa.NullPool)
    with engine.begin() as connection:
        return work(connection)
