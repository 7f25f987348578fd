"""Flows that have changed, or records in which one atom was reset: what is done stays done, and everybody is told."""

from __future__ import annotations

import logging
import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.engines import walk
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import models


class World:
    """Notes what is called, and makes tasks that stop the run or fail."""

    def __init__(self):
        self.calls = []
        self.fails = set()
        self.stops_at = None
        self.engine = None

    def step(self, name, **kwargs):
        return Step(name, self, **kwargs)

    def run(self, flow, detail, **options):
        """Run a flow on a record; returns what it raised."""
        self.calls.clear()
        self.engine = engines.load(flow, flow_detail=detail, **options)
        try:
            self.engine.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            return error
        return None

    @property
    def states(self):
        return {name: self.engine.storage.get_atom_state(name) for name in self.engine.compilation.plan.names}


class Step(task.Task):
    def __init__(self, name, world, **kwargs):
        super().__init__(name, **kwargs)
        self.world = world

    def execute(self, **kwargs):
        self.world.calls.append(f"+{self.name}")
        if self.name == self.world.stops_at:
            self.world.engine.suspend()
        if self.name in self.world.fails:
            raise ValueError(self.name)
        return self.name

    def revert(self, **kwargs):
        self.world.calls.append(f"-{self.name}")


@pytest.fixture
def world():
    return World()


@pytest.fixture
def detail():
    return models.FlowDetail("flow", "flow-1")


def linear(world, names, controller=None):
    members = [world.step(name) if isinstance(name, str) else name for name in names]
    return linear_flow.Flow("flow", retry=controller).add(*members)


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("names", ["zabc", "azbc", "abzc", "abcz"])
def test_a_new_task_runs_in_its_place_and_nothing_runs_again(world, detail, names, executor):
    world.stops_at = "b"
    world.run(linear(world, "abc"), detail)
    world.stops_at = None
    assert world.run(linear(world, names), detail, executor=executor) is None
    assert world.calls == [f"+{name}" for name in names if name in "zc"]
    assert set(world.states.values()) == {states.SUCCESS}


@pytest.mark.parametrize("names", ["zabc", "azbc", "abzc"])
def test_a_rollback_undoes_each_once_in_the_order_of_the_flow_as_it_is(world, detail, names):
    world.stops_at = "b"
    world.run(linear(world, "abc"), detail)
    world.stops_at, world.fails = None, {"c"}
    error = world.run(linear(world, names), detail)
    assert isinstance(error, ValueError)
    assert world.calls == ["+z", "+c", *(f"-{name}" for name in reversed(names))]
    assert world.engine.storage.get_flow_state() == states.REVERTED


def test_what_was_done_is_undone_in_the_order_that_it_has_now(world, detail):
    world.stops_at = "b"
    world.run(linear(world, "abc"), detail)
    world.stops_at, world.fails = None, {"c"}
    world.run(linear(world, "bac"), detail)
    assert world.calls == ["+c", "-c", "-a", "-b"]


def test_a_rollback_that_was_suspended_takes_new_tasks_in_and_does_not_run_them(world, detail):
    world.fails = {"c"}
    flow = linear(world, "abc")
    world.engine = engines.load(flow, flow_detail=detail)
    stop = world.engine.atom_notifier.register(states.REVERTED, lambda *_: world.engine.suspend())
    assert stop is None
    world.engine.run()
    assert world.calls == ["+a", "+b", "+c", "-c"]
    world.fails = set()
    error = world.run(linear(world, "zaybcx"), detail)
    assert isinstance(error, ValueError)
    assert world.calls == ["-b", "-a"]
    assert world.states == {
        "z": "PENDING",
        "a": "REVERTED",
        "y": "PENDING",
        "b": "REVERTED",
        "c": "REVERTED",
        "x": "PENDING",
    }


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_consumers_are_undone_before_a_provider_whose_flow_is_rolled_back(world, detail, executor):
    """A task is added to a flow that had ended, fails there, and the flow alone is rolled back and tried again."""

    def flow(*inner):
        within = linear_flow.Flow("inner", retry=retry.Times(2, "twice")).add(*map(world.step, inner))
        return linear_flow.Flow("flow").add(world.step("first"), within, world.step("user"), world.step("last"))

    world.stops_at = "user"
    world.run(flow("made"), detail)
    assert world.calls == ["+first", "+made", "+user"]
    world.stops_at, world.fails = None, {"new"}
    error = world.run(flow("made", "new"), detail, executor=executor)
    assert isinstance(error, ValueError)
    again = ["+made", "+new", "-new", "-made"]
    assert world.calls == ["+new", *sorted(["-new", "-user"], key=world.calls.index), "-made", *again]
    assert world.states["user"] == states.PENDING
    assert world.engine.not_undone() == ["first"]
    assert "'first'" in "".join(error.__notes__)


def test_consumers_run_again_when_the_flow_before_them_has_run_again(world, detail):
    def flow(*inner):
        within = linear_flow.Flow("inner", retry=retry.Times(3, "thrice")).add(*map(world.step, inner))
        return linear_flow.Flow("flow").add(within, world.step("user"), world.step("last"))

    world.stops_at = "user"
    world.run(flow("made"), detail)
    world.stops_at = None
    new = world.step("new")
    new.execute = lambda **_: world.calls.append("+new") or (world.calls.count("+new") == 1 and 1 / 0)
    changed = flow("made")
    next(iter(changed)).add(new)
    assert world.run(changed, detail) is None
    assert world.calls[0] == "+new"
    assert world.calls[-4:] == ["+made", "+new", "+user", "+last"]
    assert set(world.states.values()) == {states.SUCCESS}


def test_a_link_added_between_what_is_done_is_kept_by_the_rollback(world, detail):
    def flow(*links):
        made = graph_flow.Flow("flow")
        tasks = {name: world.step(name) for name in "abcd"}
        made.add(*tasks.values())
        for before, after in links:
            made.link(tasks[before], tasks[after])
        return made

    world.stops_at = "c"
    world.run(flow("ab", "bc", "cd"), detail)
    world.stops_at, world.fails = None, {"d"}
    world.run(flow("ca", "ab", "cd", "bd"), detail)
    assert world.calls == ["+d", "-d", "-b", "-a", "-c"]


def test_an_atom_that_was_reset_by_name_runs_again_alone(world, detail):
    flow = linear(world, "abc")
    assert world.run(flow, detail) is None
    world.engine.storage.reset("a")
    world.calls.clear()
    world.engine.run()
    assert world.calls == ["+a"]
    world.engine.storage.reset("b")
    world.engine.storage.reset("c")
    world.calls.clear()
    world.fails = {"c"}
    with pytest.raises(ValueError, match="c"):
        world.engine.run()
    assert world.calls == ["+b", "+c", "-c", "-b", "-a"]


def test_a_decider_put_before_what_is_done_leaves_it_done(world, detail):
    def flow(**decided):
        a, b, c = map(world.step, "abc")
        return graph_flow.Flow("flow").add(a, b, c).link(a, b, **decided).link(b, c)

    world.stops_at = "b"
    world.run(flow(), detail)
    world.stops_at = None
    assert world.run(flow(decider=lambda history: False), detail) is None
    assert world.calls == ["+c"]
    assert world.states == dict.fromkeys("abc", states.SUCCESS)


# -- what the flow does not have any more --------------------------------------------------------------------------


def left_without_b(world, detail, **options):
    world.stops_at = "b"
    world.run(linear(world, "abc"), detail)
    world.stops_at = None
    return world.run(linear(world, "ac"), detail, **options)


def test_what_the_flow_has_not_any_more_is_named(world, detail, caplog):
    with caplog.at_level(logging.WARNING):
        assert left_without_b(world, detail) is None
    assert "does not have any more: 'b' (SUCCESS)" in caplog.text
    assert world.engine.not_undone() == ["a", "c", "b"]
    assert world.calls == ["+c"]


def test_what_is_raised_names_what_stands_and_is_not_in_the_flow(world, detail):
    world.fails = {"c"}
    error = left_without_b(world, detail)
    assert isinstance(error, ValueError)
    assert error.__notes__ == [
        "in task 'c' of flow 'flow' (serial)",
        "Not undone in \"linear_flow.Flow: flow(len=2)\": 'b'",
    ]
    assert world.engine.not_undone() == ["b"]


def test_a_flow_that_does_not_fit_its_record_is_refused_if_that_is_wished(world, detail, caplog):
    error = left_without_b(world, detail, on_mismatch="refuse")
    assert isinstance(error, exceptions.IncompatibleVersion)
    assert "'b' (SUCCESS)" in str(error)
    assert world.calls == []
    assert [one.name for one in detail] == ["a", "b", "c"]
    caplog.clear()
    assert world.run(linear(world, "ac"), detail, on_mismatch="ignore") is None
    assert caplog.text == ""
    assert world.engine.not_undone() == ["a", "c", "b"]


def test_a_choice_that_is_none_is_refused(world):
    with pytest.raises(ValueError, match=r"on_mismatch.*'warn', 'refuse', 'ignore'"):
        engines.load(linear(world, "a"), on_mismatch="fail")


def test_a_task_that_was_renamed_is_run_and_the_old_one_is_named(world, detail, caplog):
    world.stops_at = "b"
    world.run(linear(world, "abc"), detail)
    world.stops_at = None
    with caplog.at_level(logging.WARNING):
        assert world.run(linear(world, ["a", "b, made again", "c"]), detail) is None
    assert "'b' (SUCCESS)" in caplog.text
    assert world.calls == ["+b, made again", "+c"]


def test_a_failure_of_what_the_flow_has_not_any_more_is_not_raised(world, detail):
    world.fails = {"b"}
    world.engine = None
    world.run(linear(world, "abc"), detail, never_resolve=True)
    world.fails = {"c"}
    error = world.run(linear(world, "ac"), detail)
    assert isinstance(error, ValueError)
    assert str(error) == "c"
    assert list(world.engine.storage.get_failures()) == ["c"]


# -- what stands although the flow was reverted --------------------------------------------------------------------


def half_undone(world, **options):
    paying = linear_flow.Flow("paying", retry=retry.Times(2, "twice")).add(world.step("pay"))
    flow = linear_flow.Flow("trip").add(world.step("book"), paying)
    world.fails = {"pay"}
    return world.run(flow, models.FlowDetail("trip", "trip-1"), **options)


def test_what_was_reverted_in_part_is_not_run_again_without_a_word(world):
    error = half_undone(world)
    assert error.__notes__ == [
        "in task 'pay' of flow 'paying' (attempt 2 of 2, serial)",
        "Not undone in \"linear_flow.Flow: trip(len=2)\": 'book'",
    ]
    calls = list(world.calls)
    for _ in range(2):
        with pytest.raises(
            exceptions.InvalidState, match=r"'book' would be repeated.*\n.*rollback\(\).*reset\(force=True\)"
        ):
            world.engine.run()
    with pytest.raises(exceptions.InvalidState, match=r"Can not reset .* 'book'"):
        world.engine.reset()
    assert world.calls == calls
    assert world.engine.not_undone() == ["book"]


def test_rollback_undoes_the_rest_and_then_it_can_be_run_anew(world):
    half_undone(world)
    world.calls.clear()
    world.engine.rollback()
    assert world.calls == ["-book"]
    assert (world.engine.storage.get_flow_state(), world.engine.not_undone()) == (states.REVERTED, [])
    world.calls.clear()
    world.fails = set()
    world.engine.run()
    assert world.calls == ["+book", "+pay"]
    assert world.engine.storage.get_flow_state() == states.SUCCESS


def test_reset_by_force_forgets_what_stands(world):
    half_undone(world)
    world.engine.reset(force=True)
    world.calls.clear()
    world.fails = set()
    world.engine.run()
    assert world.calls == ["+book", "+pay"]


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_flow_that_has_succeeded_is_rolled_back_in_order(world, detail, executor):
    wide = unordered_flow.Flow("wide").add(world.step("b"), world.step("c"))
    assert world.run(linear(world, ["a", wide, "d"]), detail, executor=executor) is None
    world.calls.clear()
    world.engine.rollback()
    assert (world.calls[0], sorted(world.calls[1:3]), world.calls[3]) == ("-d", ["-b", "-c"], "-a")
    assert world.engine.storage.get_flow_state() == states.REVERTED
    world.engine.rollback()  # nothing stands
    assert len(world.calls) == 4


def test_a_suspended_flow_is_rolled_back(world, detail):
    world.stops_at = "b"
    world.run(linear(world, "abc"), detail)
    world.calls.clear()
    world.engine.rollback()
    assert world.calls == ["-b", "-a"]
    assert world.states == {"a": "REVERTED", "b": "REVERTED", "c": "PENDING"}


def test_what_cannot_be_undone_is_raised_by_rollback_which_can_be_called_again(world, detail):
    flow = linear(world, "ab")
    assert world.run(flow, detail) is None
    (first, _) = flow
    first.revert = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        world.engine.rollback()
    assert (world.engine.storage.get_flow_state(), world.engine.not_undone()) == (states.FAILURE, ["a"])
    del first.revert
    world.engine.rollback()
    assert (world.engine.storage.get_flow_state(), world.engine.not_undone()) == (states.REVERTED, [])


# -- cured failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspend", [False, True])
def test_what_is_raised_follows_from_the_record(world, detail, suspend):
    """The failure that a retry has cured is in its history, and neither raised nor told to reverts."""
    told = []

    class Flaky(task.Task):
        def execute(self, number):
            if number == 1:
                raise TimeoutError("busy")

        def revert(self, flow_failures):
            told.append(sorted(flow_failures))

    def flow():
        inner = linear_flow.Flow("inner", retry=retry.Times(2, "again", provides="number")).add(Flaky("flaky"))
        return linear_flow.Flow("outer").add(inner, world.step("between"), world.step("bad"))

    world.fails = {"bad"}
    world.stops_at = "between" if suspend else None
    error = world.run(flow(), detail)
    if suspend:
        assert error is None
        world.stops_at = None
        error = world.run(flow(), detail)
    assert isinstance(error, ValueError)
    assert list(world.engine.storage.get_failures()) == ["bad"]
    assert told[-1] == ["bad"]


def test_a_failure_of_which_a_part_is_marked_rolls_back_all_the_same(world, detail, monkeypatch):
    """What was marked looks like a region that is rolled back by itself, with the failed task after it."""
    inner = linear_flow.Flow("inner", retry=retry.Times(1, "again")).add(world.step("a"))
    bad = world.step("bad")
    flow = graph_flow.Flow("flow").add(inner, world.step("b"), bad).link(inner, bad)
    world.fails = {"bad"}
    mark = walk.Walk._mark

    def marked_in_part(self, lo, hi, restart, cause):
        monkeypatch.undo()
        until = next(i for i, one in enumerate(self._details) if one is not None and one.name == "a")
        mark(self, lo, until + 1, restart, -1)
        raise KeyboardInterrupt

    monkeypatch.setattr(walk.Walk, "_mark", marked_in_part)
    with pytest.raises(KeyboardInterrupt):
        world.run(flow, detail)
    assert world.states == {"again": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "bad": "FAILURE"}
    assert isinstance(world.run(flow, detail), ValueError)
    assert sorted(world.calls) == ["-a", "-b", "-bad"]


def test_a_retry_that_was_about_to_run_again_is_undone_with_the_region_around_it():
    """A retry is interrupted as it resets its region, and meanwhile something beside it fails."""

    class Stops(BaseException):
        pass

    gate = threading.Event()

    def leave(state, details):
        gate.set()
        raise Stops

    class Beside(task.Task):
        def execute(self, outer):
            assert gate.wait(20)
            notes.append(f"beside {outer}")
            if outer == 1:
                raise ValueError("beside")

    class Inside(task.Task):
        def execute(self, outer, inner):
            notes.append(f"inside {outer}.{inner}")
            if (outer, inner) == (1, 1):
                raise ValueError("inside")

    notes = []
    inner = linear_flow.Flow("inside", retry.Times(3, name="inner", provides="inner")).add(Inside("inside"))
    flow = graph_flow.Flow("all", retry.Times(2, name="outer", provides="outer")).add(inner, Beside("beside"))
    engine = engines.load(flow, executor="threads", engine="parallel", max_workers=2)
    engine.atom_notifier.register(states.RETRYING, leave)
    with pytest.raises(Stops):
        engine.run()
    assert engine.storage.get_atom_state("inner") == states.RETRYING
    engine.atom_notifier.deregister(states.RETRYING, leave)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert notes[:2] == ["inside 1.1", "beside 1"]
    assert sorted(notes[2:]) == ["beside 2", "inside 2.1"]
