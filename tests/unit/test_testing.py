"""What is offered to those who test flows of their own."""

import random
import re
import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task, testing
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.types.failure import Failure


class Give(task.Task):
    def execute(self, **given):
        return self.name


class Break(task.Task):
    def __init__(self, name, error=ValueError("on purpose"), **kwargs):  # noqa: B008 - one error for all
        super().__init__(name, **kwargs)
        self._error = error

    def execute(self):
        raise self._error


def wide(*names):
    return unordered_flow.Flow("f").add(*map(Give, names))


def scripted(flow, **kwargs):
    executor = testing.ScriptedExecutor(**kwargs)
    return executor, engines.load(flow, executor=executor)


def ended_in(engine, executor, order=()):
    with testing.Recorder(engine) as seen:
        assert executor.run(engine, order) == states.SUCCESS
    return seen.names(states.SUCCESS)[:-1]  # without the flow


# -- Recorder ------------------------------------------------------------------------------------


def test_a_recorder_has_what_happened_in_order():
    flow = linear_flow.Flow("f", retry.AlwaysRevertAll("r")).add(Give("a"), Break("b"))
    engine = engines.load(flow)
    with testing.Recorder(engine) as seen, pytest.raises(ValueError, match="on purpose"):
        engine.run()
    assert seen.lines() == [
        *("f RUNNING", "r RUNNING", "r SUCCESS", "a RUNNING", "a SUCCESS", "b RUNNING", "b FAILURE"),
        *("b REVERTING", "b REVERTED", "a REVERTING", "a REVERTED", "r REVERTING", "r REVERTED", "f REVERTED"),
    ]
    assert seen.states("a") == ["RUNNING", "SUCCESS", "REVERTING", "REVERTED"]
    assert seen.names(states.REVERTED) == ["b", "a", "r", "f"]
    assert [one.kind for one in seen.transitions if one.state == states.REVERTED] == ["task", "task", "retry", "flow"]


def test_a_recorder_has_results_and_failures():
    engine = engines.load(linear_flow.Flow("f").add(Give("a"), Break("b")))
    with testing.Recorder(engine, flow_listen_for=()) as seen, pytest.raises(ValueError, match="on purpose"):
        engine.run()
    assert seen.transitions[1] == testing.Transition("task", "a", states.SUCCESS, "a")
    assert isinstance(seen.transitions[3].result, Failure)


def test_a_recorder_is_not_heard_of_after_the_block():
    engine = engines.load(wide("a"))
    with testing.Recorder(engine) as seen:
        pass
    engine.run()
    assert seen.transitions == []


# -- failures ------------------------------------------------------------------------------------


def failing(*errors):
    return engines.load(
        unordered_flow.Flow("f").add(*(Break(f"b{n}", error) for n, error in enumerate(errors))),
    ).run


@pytest.mark.parametrize(
    ("exc_class", "pattern"),
    [(ValueError, "dark"), (ValueError, "^in the dark$"), ("ValueError", "d.rk"), (Exception, "dark")],
)
@pytest.mark.parametrize("errors", [("dark",), ("dark", "light"), ("light", "dark")])
def test_a_failure_is_recognised_by_class_and_text(exc_class, pattern, errors):
    run = failing(*(ValueError(f"in the {error}") for error in errors))
    found = testing.assert_failures_regexp(exc_class, pattern, run)
    assert sorted(one.exception_str for one in found) == sorted(f"in the {error}" for error in errors)


def test_failures_of_other_classes_may_be_there_too():
    found = testing.assert_failures_regexp(KeyError, "b", failing(ValueError("a"), KeyError("b")))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("exc_class", "pattern"), [(KeyError, "dark"), (ValueError, "bright"), ("KeyError", "dark"), (ValueError, "^dark")]
)
def test_a_failure_of_another_class_or_text_is_none(exc_class, pattern):
    with pytest.raises(AssertionError, match=re.escape(repr(pattern))) as caught:
        testing.assert_failures_regexp(exc_class, pattern, failing(ValueError("in the dark")))
    assert "Failure: ValueError: in the dark" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_class_and_text_must_be_those_of_one_failure():
    with pytest.raises(AssertionError, match="got"):
        testing.assert_failures_regexp(KeyError, "a", failing(ValueError("a"), KeyError("b")))


def test_success_is_no_failure():
    with pytest.raises(AssertionError, match="nothing was raised"):
        testing.assert_failures_regexp(ValueError, "", lambda: None)


def test_what_is_called_gets_its_arguments():
    def call(*args, **kwargs):
        raise ValueError(args, kwargs)

    testing.assert_failures_regexp(ValueError, r"\(\(1,\), {'two': 2}\)", call, 1, two=2)


def test_failures_of_a_block_are_recognised():
    with testing.failures_regexp(exceptions.MissingDependencies, "requires") as found:
        engines.run(linear_flow.Flow("f").add(Give("a", requires=["x"])))
    assert len(found) == 1


# -- ScriptedExecutor ----------------------------------------------------------------------------


def test_calls_end_in_the_order_of_the_script():
    executor, engine = scripted(wide("a", "b", "c"))
    assert ended_in(engine, executor, order="cab") == ["c", "a", "b"]


def test_calls_that_are_not_in_the_script_end_when_there_is_nothing_to_wait_for():
    flow = unordered_flow.Flow("f").add(linear_flow.Flow("l").add(Give("a"), Give("b")), Give("c"))
    executor, engine = scripted(flow)
    assert ended_in(engine, executor, order=["b", "c"]) == ["a", "b", "c"]


def test_a_script_goes_on_over_reverts():
    executor, engine = scripted(unordered_flow.Flow("f").add(Break("bad"), Give("a"), Give("b")))
    with testing.Recorder(engine, flow_listen_for=()) as seen, pytest.raises(ValueError, match="on purpose"):
        executor.run(engine, order=["a", "b", "bad", "b", "bad", "a"])
    ends = ("SUCCESS", "FAILURE", "REVERTED")
    assert [line for line in seen.lines() if line.endswith(ends)] == [
        *("a SUCCESS", "b SUCCESS", "bad FAILURE", "b REVERTED", "bad REVERTED", "a REVERTED")
    ]


def test_an_order_that_cannot_be_is_an_error_and_the_run_can_go_on():
    executor, engine = scripted(linear_flow.Flow("f").add(Give("a"), Give("b")))
    with pytest.raises(AssertionError, match=r"'b' was to end next, but only calls of \['a'\] have begun"):
        executor.run(engine, order=["b", "a"])
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert executor.held == []
    assert ended_in(engine, executor) == ["a", "b"]


def test_a_script_with_calls_that_never_come_is_an_error():
    executor, engine = scripted(wide("a"))
    with pytest.raises(AssertionError, match=r"no call came for \['nobody'\]"):
        executor.run(engine, order=["a", "nobody"])
    assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize("held", [True, False])
def test_a_seed_gives_the_same_order_again(held):
    def order(seed):
        executor, engine = scripted(wide(*"abcdefgh"), seed=seed)
        if held:
            return ended_in(engine, executor)
        with testing.Recorder(engine, flow_listen_for=()) as seen:
            engine.run()
        return seen.names(states.SUCCESS)

    orders = [order(seed) for seed in range(5)]
    assert orders == [order(random.Random(seed)) for seed in range(5)]
    assert len({tuple(names) for names in orders}) > 1
    assert {tuple(sorted(names)) for names in orders} == {tuple("abcdefgh")}


def test_calls_can_be_released_step_by_step():
    executor, engine = scripted(wide("a", "b", "c"), hold=True)
    steps = engine.run_iter()
    assert next(step for step in steps if step == states.WAITING)
    assert [call.atom.name for call in executor.held] == ["a", "b", "c"]
    executor.release_named("b")
    with pytest.raises(AssertionError, match=r"no call of 'b' is held, only \['a', 'c'\]"):
        executor.release_named("b")
    assert next(step for step in steps if step == states.WAITING)
    assert engine.storage.get_atom_state("b") == states.SUCCESS
    executor.release(5)
    assert list(steps)[-1] == states.SUCCESS


def test_calls_that_have_not_been_released_have_not_begun():
    executor, engine = scripted(wide("a", "b"), hold=True)
    steps = engine.run_iter()
    assert next(step for step in steps if step == states.WAITING)
    executor.release_named("a")
    engine.suspend()
    assert list(steps)[-1] == states.SUSPENDED
    assert [engine.storage.get_atom_state(name) for name in "ab"] == [states.SUCCESS, states.PENDING]


def test_calls_are_made_in_the_thread_of_the_engine():
    seen = []

    class Where(task.Task):
        def execute(self):
            seen.append(threading.current_thread())

    executor, engine = scripted(unordered_flow.Flow("f").add(Where("a"), Where("b")))
    executor.run(engine)
    assert seen == [threading.current_thread()] * 2


def test_an_exit_in_a_call_comes_out_of_the_run():
    executor, engine = scripted(wide("a").add(Break("leave", SystemExit(3))))
    with pytest.raises(SystemExit):
        executor.run(engine)
    assert engine.storage.get_flow_state() == states.SUSPENDED


# -- reloaded ------------------------------------------------------------------------------------


def test_a_reloaded_record_is_a_copy_that_a_run_goes_on_from():
    executor, engine = scripted(wide("a", "b"), hold=True)
    steps = engine.run_iter()
    assert next(step for step in steps if step == states.WAITING)
    executor.release_named("a")
    assert next(step for step in steps if step == states.WAITING)
    record = engine.storage.record.flow_detail
    read_back = testing.reloaded(record)
    steps.close()
    assert [(d.name, d.uuid) for d in read_back] == [(d.name, d.uuid) for d in record]
    assert {d.name: d.state for d in read_back} == {"a": states.SUCCESS, "b": states.RUNNING}
    again = engines.load(wide("a", "b"), flow_detail=read_back)
    with testing.Recorder(again) as seen:
        again.run()
    assert seen.states("a") == []
    assert seen.states("b") == ["RUNNING", "SUCCESS"]
