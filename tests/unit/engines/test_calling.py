"""Callers do the same whether they are written out or go through a loop."""

from __future__ import annotations

import itertools
import traceback

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.engines import calling
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import models
from taskflowx.record.lookup import Injected


class Atom:
    """Writes down what is called on it."""

    def __init__(self):
        self.called = []

    def pre_execute(self):
        self.called.append("pre_execute")

    def execute(self, **kwargs):
        self.called.append(kwargs)
        return "executed"

    def post_execute(self):
        self.called.append("post_execute")

    def pre_revert(self):
        self.called.append("pre_revert")

    def revert(self, **kwargs):
        self.called.append(kwargs)
        return "reverted"

    def post_revert(self):
        self.called.append("post_revert")


def a_source(results, state=states.SUCCESS):
    made = models.TaskDetail("source")
    made.state, made.results = state, results
    return made


MANY = 200  # calls: functions are written out after fewer


def often_used(args, keys, takes):
    """Return a caller that has been used so often that its functions are written out."""
    made = calling.Caller(args, keys, takes)
    loop = made.fill
    for _ in range(MANY):
        made.fill(tuple(a_source({}, states.PENDING) for _ in args))
    assert made.fill != loop
    return made


@pytest.fixture(params=[calling.Caller, often_used], ids=["loop", "written"])
def make(request):
    return request.param


def test_execute_is_called_by_name_between_its_hooks(make):
    caller, atom = make(("left", "right"), (None, "key"), calling.EXECUTES), Atom()
    sources = (a_source(1), Injected("store", {"key": 2}))
    assert caller.fill(sources) == {"left": 1, "right": 2}
    assert caller.call(atom, sources) == "executed"
    assert atom.called == ["pre_execute", {"left": 1, "right": 2}, "post_execute"]


@pytest.mark.parametrize("takes", [0, calling.TAKES_RESULT, calling.TAKES_FAILURES, calling.TAKES_BOTH])
def test_revert_gets_the_result_and_the_failures_if_it_takes_them(make, takes):
    caller, atom = make(("x",), (0,), takes), Atom()
    assert caller.call(atom, (a_source(("first", "second")),), "result", {"a": "failure"}) == "reverted"
    expected = {"x": "first"}
    if takes & calling.TAKES_RESULT:
        expected["result"] = "result"
    if takes & calling.TAKES_FAILURES:
        expected["flow_failures"] = {"a": "failure"}
    assert atom.called == ["pre_revert", expected, "post_revert"]


@pytest.mark.parametrize(
    ("results", "state", "key"),
    [(1, states.PENDING, None), (1, states.IGNORE, None), ((), states.SUCCESS, 0), ({}, states.SUCCESS, "key")],
)
def test_without_a_value_nothing_of_the_atom_is_called(make, results, state, key):
    for takes in (calling.EXECUTES, calling.TAKES_BOTH):
        caller, atom = make(("a", "x"), (None, key), takes), Atom()
        sources = (a_source("there"), a_source(results, state))
        assert caller.fill(sources) is None
        further = () if takes == calling.EXECUTES else (None, {})
        assert caller.call(atom, sources, *further) is calling.UNRESOLVED
        assert atom.called == []


def test_what_the_method_raises_comes_out_and_the_hook_after_it_runs(make):
    class Raises(Atom):
        def execute(self, x):
            raise LookupError(x)

    atom = Raises()
    with pytest.raises(LookupError, match="from the method") as raised:
        make(("x",), (None,), calling.EXECUTES).call(atom, (a_source("from the method"),))
    assert atom.called == ["pre_execute", "post_execute"]
    assert "in execute" in "".join(traceback.format_exception(raised.value))


def test_an_argument_may_be_called_as_names_within_the_written_functions_are(make):
    args = ("atom", "sources", "source0", "value0", "UNRESOLVED", "SUCCESS", "self_")
    sources = tuple(a_source(arg.upper()) for arg in args)
    atom = Atom()
    make(args, (None,) * len(args), calling.EXECUTES).call(atom, sources)
    assert atom.called[1] == {arg: arg.upper() for arg in args}


@pytest.mark.parametrize("arg", ["two words", "class", "größe", "x); import os; (y", ""])
def test_names_that_cannot_be_written_go_through_the_loop(arg):
    caller, atom = calling.Caller((arg,), (None,), calling.EXECUTES), Atom()
    for _ in range(MANY):
        caller.call(atom, (a_source(1),))
    assert atom.called[1::3] == [{arg: 1}] * MANY


def test_a_revert_that_is_given_its_result_by_name_too_gets_that_of_the_engine(make):
    caller, atom = make(("result", "y"), (None, None), calling.TAKES_RESULT), Atom()
    caller.call(atom, (a_source("stored"), a_source(2)), "own", {})
    assert atom.called[1] == {"result": "own", "y": 2}


def test_one_caller_serves_all_atoms_that_take_the_same():
    class Takes(task.Task):
        def execute(self, x, y):
            return x, y

    flow = unordered_flow.Flow("f").add(*(Takes(f"t{n}") for n in range(3)))
    engine = engines.load(flow, store={"x": 1, "y": 2})
    engine.compile()
    engine.prepare()
    assert len(set(engine.preparation.binder.callers)) == 1


def test_a_run_goes_on_as_before_when_its_callers_are_written_in_its_middle():
    got = []

    class Takes(task.Task):
        def execute(self, its_own_argument, before=None):
            got.append((its_own_argument, before))
            return its_own_argument + 1

        def revert(self, its_own_argument, result, flow_failures):
            got.append(("revert", its_own_argument, result, list(flow_failures)))

    count = MANY

    class Fails(task.Task):
        def execute(self):
            raise ValueError("on purpose")

    tasks = [Takes(f"t{n}", provides=f"v{n + 1}", rebind={"its_own_argument": f"v{n}"}) for n in range(count)]
    flow = linear_flow.Flow("f").add(*tasks, Fails("fails"))
    with pytest.raises(ValueError, match="on purpose"):
        engines.run(flow, store={"v0": 0})
    assert got[:count] == [(n, None) for n in range(count)]
    assert got[count:] == [("revert", n, n + 1, ["fails"]) for n in reversed(range(count))]


# -- hooks and listeners where calls are unfolded ----------------------------------------------------


def hooked(log):
    class Hooked(task.Task):
        def execute(self, x=0):
            log.append("execute")

        def pre_execute(self):
            log.append("pre")

        def post_execute(self):
            log.append("post")

    return Hooked


@pytest.mark.parametrize("store", [{}, {"x": 1}])
def test_hooks_of_a_class_run_around_each_call(store):
    log = []
    engines.run(linear_flow.Flow("f").add(hooked(log)("a"), hooked(log)("b")), store=store)
    assert log == ["pre", "execute", "post"] * 2


@pytest.mark.parametrize("store", [{}, {"x": 1}])
def test_a_hook_of_one_object_runs_even_if_it_gets_it_while_the_flow_runs(store):
    log = []

    class Plain(task.Task):
        def execute(self, x=0):
            log.append(self.name)

    later = Plain("b")

    class Gives(task.Task):
        def execute(self):
            later.pre_execute = lambda: log.append("a hook")

    engines.run(linear_flow.Flow("f").add(Gives("a"), later), store=store)
    assert log == ["a hook", "b"]


@pytest.mark.parametrize(("store", "event"), list(itertools.product([{}, {"x": 1}], ["*", "RUNNING", "SUCCESS"])))
def test_who_listens_is_told_in_order_and_each_with_facts_of_its_own(store, event):
    told = []

    class Takes(task.Task):
        def execute(self, x=0):
            told.append("execute")
            return x

    engine = engines.load(linear_flow.Flow("f").add(Takes("a")), store=store)

    def hear(state, details):
        told.append((state, dict(details)))
        details.clear()

    engine.atom_notifier.register(event, hear)
    engine.atom_notifier.register(event, lambda state, details, who: told.append((state, details)), args=["second"])
    engine.run()
    uuid = engine.storage.get_atom_uuid("a")
    facts = {"task_name": "a", "task_uuid": uuid}
    running = ("RUNNING", {**facts, "old_state": "PENDING"})
    success = ("SUCCESS", {**facts, "old_state": "RUNNING", "result": store.get("x", 0)})
    expected = [running] * 2 * (event != "SUCCESS") + ["execute"] + [success] * 2 * (event != "RUNNING")
    assert told == expected


def test_a_listener_that_raises_is_logged_and_the_next_one_is_called(caplog):
    told = []
    engine = engines.load(linear_flow.Flow("f").add(hooked(told)("a")))

    def fails(state, details):
        raise ValueError("of the listener")

    engine.atom_notifier.register("SUCCESS", fails)
    engine.atom_notifier.register("SUCCESS", lambda state, details: told.append(state))
    engine.run()
    assert told == ["pre", "execute", "post", "SUCCESS"]
    assert "Failure calling listener" in caplog.text
    assert "of the listener" in caplog.text


def test_who_is_interrupted_while_told_of_the_beginning_leaves_the_atom_as_it_was():
    engine = engines.load(linear_flow.Flow("f").add(hooked([])("a")))

    def interrupts(state, details):
        raise KeyboardInterrupt

    engine.atom_notifier.register("RUNNING", interrupts)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert engine.storage.get_atom_state("a") == states.PENDING


@pytest.mark.parametrize("others", [0, 1])
def test_a_listener_need_not_say_whether_it_is_true(others):
    told = []

    class Listens:
        def __bool__(self):
            raise TypeError("neither true nor false")

        def __call__(self, state, details):
            told.append((state, details["task_name"], details["old_state"], details.get("result")))

    engine = engines.load(linear_flow.Flow("f").add(hooked([])("a")))
    for _ in range(others + 1):
        engine.atom_notifier.register("*", Listens())
    engine.run()
    expected = [(states.RUNNING, "a", states.PENDING, None), (states.SUCCESS, "a", states.RUNNING, None)]
    assert told == [one for one in expected for _ in range(others + 1)]


def test_a_value_that_is_missing_is_told_once_and_fails_the_atom():
    told = []

    class Part(task.Task):
        default_provides = ("x", "y")

        def execute(self):
            return ("only x",)

    class Takes(task.Task):
        def execute(self, y):
            told.append("called")

    engine = engines.load(linear_flow.Flow("f", retry=retry.AlwaysRevert("r")).add(Part("a"), Takes("b")))
    engine.atom_notifier.register("*", lambda state, details: told.append((state, details.get("task_name"))))
    with pytest.raises(Exception, match="no value for its argument 'y'"):
        engine.run()
    assert [what for what in told if what[1] == "b"] == [
        ("RUNNING", "b"),
        ("FAILURE", "b"),
        ("REVERTING", "b"),
        ("REVERTED", "b"),
    ]
