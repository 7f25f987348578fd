"""Calls of which nobody knows the outcome: their worker process is gone, or their run was cancelled in a loop."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from taskflowx import engines, exceptions, retry, task
from taskflowx.patterns import unordered_flow

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")


class Pay(task.Task):
    """Notes its key in a file, and takes its worker along."""

    def __init__(self, name, path, **keywords):
        super().__init__(name, **keywords)
        self.path = path

    def execute(self, idempotency_key):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{idempotency_key}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def revert(self, result, **kwargs):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"undo {next(iter(result)).rpartition('.')[2]}\n")


class PayAndLook(Pay):
    def find_outcome(self, idempotency_key):
        return f"found {self.path.read_text(encoding='utf-8').count(idempotency_key)}"


class Beside(task.Task):
    def execute(self):
        return os.getpid()


def load(pay, address):
    flow = unordered_flow.Flow("f").add(pay, Beside("beside", provides="pid"))
    return engines.load(flow, executor="processes", max_workers=2, backend=address)


def test_a_worker_that_is_gone_leaves_a_question(tmp_path):
    with load(Pay("pay", tmp_path / "paid", on_unknown="ask"), f"sqlite:///{tmp_path}/runs.db") as engine:
        for _ in range(2):
            engine.run()
            assert engine.storage.get_flow_state() == "SUSPENDED"
        [call] = engine.unknown()
        assert (tmp_path / "paid").read_text(encoding="utf-8").split() == [call.idempotency_key]
        assert "SIGKILL" in call.why
        engine.resolve("pay", 3)
        engine.run()
        assert engine.storage.get_flow_state() == "SUCCESS"


def test_a_worker_that_is_gone_has_the_call_undone(tmp_path):
    with load(Pay("pay", tmp_path / "paid", on_unknown="undo"), f"sqlite:///{tmp_path}/runs.db") as engine:
        with pytest.raises(exceptions.OutcomeUnknown):
            engine.run()
        assert (tmp_path / "paid").read_text(encoding="utf-8").splitlines()[1:] == ["undo OutcomeUnknown"]


def test_a_worker_that_is_gone_has_the_call_looked_for(tmp_path):
    pay = PayAndLook("pay", tmp_path / "paid", provides="paid")
    with load(pay, f"sqlite:///{tmp_path}/runs.db") as engine:
        engine.run()
        assert engine.storage.fetch("paid") == "found 1"


class Waits(task.Task):
    """A coroutine that says that it has begun, and waits."""

    def __init__(self, begun, calls, **keywords):
        super().__init__("pay", **keywords)
        self.begun = begun
        self.calls = calls

    async def execute(self):
        self.calls.append("pay")
        self.begun.set()
        await asyncio.sleep(60 if len(self.calls) == 1 else 0)

    async def find_outcome(self, idempotency_key):
        self.calls.append("look")
        return retry.NOT_DONE


class Asks(Waits):
    find_outcome = None


@pytest.mark.parametrize(
    ("kind", "calls", "state"), [(Waits, ["pay", "look", "pay"], "SUCCESS"), (Asks, ["pay"], "SUSPENDED")]
)
def test_a_coroutine_that_was_cancelled_is_not_repeated_in_silence(kind, calls, state, tmp_path):
    seen = []

    async def live():
        begun = asyncio.Event()
        flow = unordered_flow.Flow("f").add(kind(begun, seen, on_unknown="ask"))
        engine = engines.load(flow, executor="asyncio", backend=f"sqlite:///{tmp_path}/runs.db")
        running = asyncio.ensure_future(engine.arun())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await engine.arun()
        engine.close()
        return engine.storage.get_flow_state()

    assert asyncio.run(live()) == state
    assert seen == calls
