"""A call counts as of the time when it ended, however late the engine hears of it, as it is busy."""

import asyncio
import threading

import pytest

import taskflowx
from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.testing import ScriptedExecutor, VirtualClock

LIMIT = 5


class Pays(task.Task):
    """Takes no time; counts what stands."""

    def __init__(self, name, paid, **settings):
        super().__init__(name, **settings)
        self.paid = paid

    def execute(self):
        self.paid.append(self.name)

    def revert(self, **_):
        self.paid.remove(self.name)


def busy(engine, clock, then=lambda: None):
    """Have the engine be busy for longer than the limit, as soon as a first task has ended."""

    def listens(*_):
        engine.atom_notifier.deregister(states.SUCCESS, listens)
        then()
        clock.advance(2 * LIMIT)

    engine.atom_notifier.register(states.SUCCESS, listens)


@pytest.mark.parametrize("seed", range(4))
def test_calls_that_have_ended_in_time_have_succeeded_when_the_engine_looks_late(seed):
    clock, paid = VirtualClock(), []
    flow = unordered_flow.Flow("f").add(*(Pays(name, paid, timeout=LIMIT) for name in "abc"))
    engine = engines.load(flow, executor=ScriptedExecutor(seed), clock=clock)
    busy(engine, clock)
    engine.run()
    assert sorted(paid) == ["a", "b", "c"]


@pytest.mark.parametrize("of_flow", [False, True])
def test_a_call_whose_outcome_waits_to_be_taken_is_not_stopped_by_a_limit(of_flow):
    clock, paid = VirtualClock(), []
    limited = Pays("limited", paid, timeout=None if of_flow else LIMIT)
    inner = linear_flow.Flow("inner", timeout=LIMIT if of_flow else None).add(limited)
    executor = ScriptedExecutor(hold=True)
    engine = engines.load(unordered_flow.Flow("f").add(Pays("first", paid), inner), executor=executor, clock=clock)
    busy(engine, clock, lambda: executor.release_named("limited"))
    assert executor.run(engine, ["first"]) == states.SUCCESS
    assert paid == ["first", "limited"]


@pytest.mark.parametrize("of_flow", [False, True])
def test_a_call_that_has_ended_after_its_limit_has_exceeded_it(of_flow):
    clock, paid = VirtualClock(), []
    executor = ScriptedExecutor(hold=True)
    limited = Pays("limited", paid, timeout=None if of_flow else LIMIT)
    inner = linear_flow.Flow("inner", timeout=LIMIT if of_flow else None).add(limited)
    engine = engines.load(unordered_flow.Flow("f").add(Pays("first", paid), inner), executor=executor, clock=clock)

    def too_late():
        clock.advance(LIMIT + 1)
        executor.release_named("limited")

    busy(engine, clock, too_late)
    with pytest.raises(taskflowx.exceptions.TimeoutExceeded, match="'inner'" if of_flow else "'limited'"):
        executor.run(engine, ["first"])
    assert not paid


@pytest.mark.parametrize("of_flow", [False, True])
def test_in_the_loop_of_the_caller_a_call_that_ends_while_the_engine_is_busy_has_succeeded(of_flow):
    ended, noted, paid = threading.Event(), threading.Event(), []

    class Noting(VirtualClock):
        """Notes that the end of a call, in a thread of its own, was given a time."""

        def monotonic(self):
            if ended.is_set() and threading.current_thread() is not threading.main_thread():
                noted.set()
            return super().monotonic()

    class Ends(Pays):
        def execute(self):
            assert begins.wait(60)
            super().execute()
            ended.set()

    def let_it_end():
        begins.set()
        assert noted.wait(60)

    begins = threading.Event()
    clock = Noting()
    limited = Ends("limited", paid, timeout=None if of_flow else LIMIT)
    inner = linear_flow.Flow("inner", timeout=LIMIT if of_flow else None).add(limited)
    engine = engines.load(
        unordered_flow.Flow("f").add(Pays("first", paid), inner), executor="asyncio", max_workers=2, clock=clock
    )
    busy(engine, clock, let_it_end)
    asyncio.run(engine.arun())
    assert paid == ["first", "limited"]
