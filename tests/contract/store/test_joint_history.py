"""The history of runs whose tasks write rows in the transaction of their step: it is whole, and without gaps."""

from __future__ import annotations

import contextlib

import pytest

from taskflowx import engines, states
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends
from tests.crash import ledger


@pytest.mark.parametrize("fails", [False, True])
def test_each_transition_is_there_once(tmp_path, fails):
    address = f"sqlite:///{tmp_path / 'runs.db'}"
    ledger.make_table(address)
    flow = linear_flow.Flow("f").add(ledger.Enter("a"), ledger.Enter("b"), ledger.Fail(ledger.ALWAYS if fails else 0))
    with backends.backend(address) as backend:
        engine = engines.load(flow, backend=backend, history=True)
        with contextlib.suppress(OSError):
            engine.run()
        with contextlib.closing(backend.get_connection()) as connection:
            entries = list(connection.get_history(engine.storage.flow_uuid))
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    of_a = [(entry.old, entry.new) for entry in entries if entry.atom == "a"]
    there = [(states.PENDING, states.RUNNING), (states.RUNNING, states.SUCCESS)]
    back = [(states.SUCCESS, states.REVERTING), (states.REVERTING, states.REVERTED)]
    assert of_a == there + back * fails
    ledger.check(address)
