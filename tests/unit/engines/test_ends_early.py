"""Runs that end early: cancelled once more, cancelled in a rollback, interrupted as they are cancelled, or too late."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, states, task
from taskflowx.executors import aio
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends
from taskflowx.testing import VirtualClock
from tests.support import flows


class Step(task.Task):
    """Does what it is given to do, and counts."""

    def __init__(self, name, does=lambda: None, undoes=lambda: None, **settings):
        super().__init__(name, **settings)
        self.does, self.undoes, self.log = does, undoes, []

    def execute(self):
        self.log.append("done")
        return self.does()

    def revert(self, **kwargs):
        self.log.append("undone")
        self.undoes()


def fail():
    raise ValueError("it fails")


def fails(times):
    """Return what raises so often, and then does nothing."""
    left = iter(range(times))
    return lambda: None if next(left, None) is None else fail()


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_who_cancels_once_more_does_not_stop_the_rollback(executor):
    made = []
    steps = [
        Step("a"),
        Step("b", undoes=lambda: made[0].cancel("again")),
        Step("c", lambda: made[0].cancel("once")),
        Step("d"),
    ]
    engine = engines.load(flows.linear("f", *steps), executor=executor)
    made.append(engine)
    with pytest.raises(exceptions.Cancelled, match="once"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert [one.log for one in steps] == [["done", "undone"]] * 3 + [[]]


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_cancel_in_a_rollback_to_an_atom_rolls_everything_back(executor):
    made = []
    steps = [Step("a"), Step("b"), Step("c", undoes=lambda: made[0].cancel("enough")), Step("d")]
    engine = engines.load(flows.linear("f", *steps), executor=executor)
    made.append(engine)
    engine.run()
    with pytest.raises(exceptions.Cancelled, match="enough"):
        engine.rollback(to="a")
    assert engine.storage.get_flow_state() == states.REVERTED
    assert [one.log for one in steps] == [["done", "undone"]] * 4
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert [one.log[2:] for one in steps] == [["done"]] * 4


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_cancel_in_a_rollback_to_an_atom_that_is_to_go_on_leaves_it_to_be_completed(executor):
    made = []
    steps = [Step("a"), Step("b"), Step("c", undoes=lambda: made[0].cancel("now", rollback=False)), Step("d")]
    engine = engines.load(flows.linear("f", *steps), executor=executor)
    made.append(engine)
    engine.run()
    with pytest.raises(exceptions.Cancelled, match="now"):
        engine.rollback(to="a")
    assert engine.storage.get_flow_state() == states.SUSPENDED
    engine.run()
    assert [one.log for one in steps] == [["done"], *[["done", "undone", "done"]] * 3]


class Interrupts:
    """Raises at the N-th line of what an engine does as the rollback of a cancelled run begins."""

    def __init__(self, at):
        self.left, self.raised, self.within = at, False, 0

    def __call__(self, frame, event, _):
        if frame.f_code.co_name == "_rolls_back_cancelled" and event == "call":
            self.within = frame
        inside = frame if "engines" in frame.f_code.co_filename else None
        while inside is not None and inside is not self.within:
            inside = inside.f_back
        if inside is None:
            return None
        if event == "line" and not self.raised:
            self.left -= 1
            if not self.left:
                self.raised = True
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("where", ["memory", "sqlite"])
def test_a_cancel_that_is_interrupted_as_its_rollback_begins_is_completed_by_the_next_run(where):
    for at in itertools.count(1, 1 if where == "memory" else 7):
        made = []
        steps = [Step("a"), Step("b", lambda: made[0].cancel("enough")), Step("c")]  # noqa: B023 - it is run at once
        flow = flows.linear("f", *steps)
        with contextlib.ExitStack() as stack:
            options = {}
            if where == "sqlite":
                store = stack.enter_context(backends.backend("sqlite://"))
                options = {"backend": store}
            engine = engines.load(flow, **options)
            made.append(engine)
            tracer, kept = Interrupts(at), sys.gettrace()
            sys.settrace(tracer)
            try:
                with pytest.raises((KeyboardInterrupt, exceptions.Cancelled)):
                    engine.run()
            finally:
                sys.settrace(kept)
            if not tracer.raised:
                break
            noted = "cancelled" in engine.storage.flow_meta
            if noted:
                with pytest.raises(exceptions.Cancelled, match="enough"):
                    engine.run()
                assert engine.storage.get_flow_state() == states.REVERTED, at
                assert [one.log for one in steps] == [["done", "undone"]] * 2 + [[]], at
            else:  # nobody knows of it any more
                steps[1].does = lambda: None
                engine.run()
                assert engine.storage.get_flow_state() == states.SUCCESS, at
    assert at > 20


# ------------------------------------------------------------------------------------ reverts when the time is up


def test_the_end_of_the_time_of_a_run_stops_no_revert():
    clock = VirtualClock()
    steps = [Step("a", undoes=taskflowx.checkpoint), Step("b", lambda: clock.advance(10)), Step("c")]
    engine = engines.load(flows.linear("f", *steps), clock=clock)
    with pytest.raises(exceptions.TimeoutExceeded):
        engine.run(5, on_timeout="rollback")
    assert engine.storage.get_flow_state() == states.REVERTED
    assert [one.log for one in steps] == [["done", "undone"]] * 2 + [[]]


def test_nor_one_that_is_under_way_then():
    clock = VirtualClock()
    first = Step("a", undoes=lambda: (clock.advance(10), taskflowx.checkpoint()))
    engine = engines.load(flows.linear("f", first, Step("b", fail)), clock=clock)
    with pytest.raises(exceptions.TimeoutExceeded):
        engine.run(5, on_timeout="rollback")
    assert engine.storage.get_flow_state() == states.REVERTED
    assert first.log == ["done", "undone"]


@pytest.mark.parametrize("seconds", [0, 10])
def test_a_revert_has_its_own_limit_before_and_after_the_time_of_the_run_is_up(seconds):
    clock = VirtualClock()
    ended = []
    slow = Step("a", undoes=lambda: (clock.advance(3), taskflowx.checkpoint(), ended.append(1)), revert_timeout=2)
    second = Step("b", lambda: (clock.advance(seconds), fail()))
    engine = engines.load(flows.linear("f", slow, second, Step("c")), clock=clock)
    with pytest.raises((exceptions.TimeoutExceeded, exceptions.WrappedFailure)):
        engine.run(5, on_timeout="rollback")
    [(name, failure)] = engine.storage.get_revert_failures().items()
    assert (name, failure.exception_str) == ("a", "The revert of task 'a' has exceeded its time limit of 2 seconds")
    assert ended == []


# ------------------------------------------------------------------------------------------ reverts that are retried


def test_the_attempts_of_a_revert_are_those_of_one_rollback():
    count = itertools.count(1)
    stubborn = Step("a", fail, lambda: next(count) % 2 and fail(), retry=retry.Times(3), revert_retry=retry.Times(2))
    engine = engines.load(flows.linear("f", stubborn))
    with pytest.raises(ValueError, match="it fails"):
        engine.run()
    assert stubborn.log == ["done", "undone", "undone"] * 3
    assert engine.storage.get_flow_state() == states.REVERTED


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("delay", [0, 10])
def test_a_revert_that_is_to_be_made_again_is_made_when_a_region_around_it_is_rolled_back(executor, delay):
    clock = VirtualClock()
    stubborn = Step("a", undoes=fails(3), revert_retry=retry.Times(9, delay=delay))
    inner = flows.linear("g", stubborn, Step("b", fail), controller=retry.Times(2))
    other = flows.linear("h", Step("c", fail, retry=retry.Times(2, delay=5, revert_all=True)))
    engine = engines.load(flows.unordered("f", inner, other), clock=clock, executor=executor)
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        engine.run()
    assert engine.not_undone() == []
    assert engine.storage.get_flow_state() == states.REVERTED


# -------------------------------------------------------------------------------------------- many flows at a time


class Waits(task.Task):
    async def execute(self):
        await asyncio.Event().wait()


class Ends(task.Task):
    def __init__(self, clock, after):
        super().__init__("ends", requires=())
        self.clock, self.after = clock, after

    async def execute(self):
        await asyncio.sleep(0)
        self.clock.advance(self.after)


def test_flows_that_end_at_the_same_moment_ask_for_what_has_begun_once(monkeypatch):
    asked, under_way = [], aio.AsyncioExecutor.under_way

    def counted(executor):
        asked.append(1)
        return under_way(executor)

    monkeypatch.setattr(aio.AsyncioExecutor, "under_way", counted)
    clock = VirtualClock()
    each = [linear_flow.Flow(f"f{n}", timeout=5).add(Waits(f"t{n}")) for n in range(50)]
    engine = engines.load(flows.unordered("all", *each, Ends(clock, 9)), clock=clock, executor="asyncio")
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert sum(isinstance(one, exceptions.TimeoutExceeded) for one in caught.value.exceptions) == 50
    assert len(asked) <= 2
