"""When time is up nothing begins any more, whoever is busy then, and the run says so."""

import asyncio
import threading
import time

import pytest

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow, unordered_flow

pytestmark = pytest.mark.usefixtures("nothing_is_left")

LIMIT = 0.2  # seconds


class Clock:
    """When the time of a run is up, and what began after that."""

    def __init__(self):
        self.up = time.monotonic() + LIMIT
        self.begun, self.late = [], []

    def __call__(self, name):
        self.begun.append(name)
        if time.monotonic() > self.up + 0.1:
            self.late.append(name)

    def wait(self):
        """Return well after the time is up."""
        threading.Event().wait(max(self.up + 0.15 - time.monotonic(), 0))


class Works(task.Task):
    def __init__(self, name, clock):
        super().__init__(name)
        self.clock = clock

    def execute(self):
        self.clock(self.name)
        threading.Event().wait(0.02)


class WorksInLoop(Works):
    async def execute(self):
        self.clock(self.name)
        await asyncio.sleep(0.02)


def timed_out(engine, *, awaited=False):
    with pytest.raises(TimeoutError):
        asyncio.run(engine.arun(timeout=LIMIT)) if awaited else engine.run(timeout=LIMIT)
    assert engine.storage.get_flow_state() == states.SUSPENDED


places = pytest.mark.parametrize(
    ("executor", "kind", "awaited"),
    [
        ("serial", Works, False),
        ("threads", Works, False),
        ("threads", Works, True),
        ("asyncio", Works, False),
        ("asyncio", WorksInLoop, False),
        ("asyncio", WorksInLoop, True),
    ],
)


@places
@pytest.mark.parametrize("event", [states.SUSPENDING, states.SUCCESS, states.RUNNING])
def test_nothing_begins_after_the_deadline_while_a_listener_is_slow(executor, kind, awaited, event):
    clock = Clock()
    many = unordered_flow.Flow("f").add(*(kind(f"t{i}", clock) for i in range(60)))
    engine = engines.load(many, executor=executor, max_workers=2)
    (engine.notifier if event == states.SUSPENDING else engine.atom_notifier).register(event, lambda *_: clock.wait())
    clock.up = time.monotonic() + LIMIT
    timed_out(engine, awaited=awaited)
    assert clock.late == []
    begun, clock.up = list(clock.begun), 0.0
    engine.run()
    assert sorted(clock.begun) == sorted(f"t{i}" for i in range(60))
    assert len(begun) < 60


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_nothing_begins_after_the_deadline_in_chains_side_by_side(executor):
    clock = Clock()
    chains = (linear_flow.Flow(f"l{n}").add(*(Works(f"t{n}{i}", clock) for i in range(30))) for n in range(2))
    engine = engines.load(unordered_flow.Flow("f").add(*chains), executor=executor, max_workers=2)
    engine.notifier.register(states.SUSPENDING, lambda *_: clock.wait())
    clock.up = time.monotonic() + LIMIT
    timed_out(engine)
    assert clock.late == []
    engine.run()
    assert len(clock.begun) == len(set(clock.begun)) == 60
