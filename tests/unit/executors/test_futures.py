"""Executors of others: what becomes of a call that they have not taken as they should."""

import concurrent.futures
import multiprocessing
import pickle
import threading

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.executors import base, futures
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.types.failure import Failure
from tests.contract.executor import hostile_tasks as tasks


class Note(task.Task):
    """Notes what it does."""

    def __init__(self, name, notes, during=lambda: None):
        super().__init__(name)
        self.notes, self.during = notes, during

    def execute(self):
        self.notes.append(f"ran {self.name}")
        self.during()

    def revert(self):
        self.notes.append(f"undid {self.name}")


class Queues(concurrent.futures.Executor):
    """Keeps what it is given until it is told to run it; `answer` says what `submit` returns or raises."""

    def __init__(self, answer):
        self.answer, self.kept = answer, []

    def submit(self, function, /, *args, **kwargs):
        self.kept.append(function)
        return self.answer(function)


def load(executor, *tasks):
    return engines.load(unordered_flow.Flow("f").add(*tasks), engine="parallel", executor=executor)


def refuse(function):
    raise RuntimeError("can't start new thread")


def test_what_an_interrupt_has_kept_from_being_submitted_has_not_begun():
    def interrupted(function):
        raise KeyboardInterrupt

    notes = []
    engine = load(Queues(interrupted), *(Note(name, notes) for name in "abc"))
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert [engine.storage.get_atom_state(name) for name in "abc"] == [states.PENDING] * 3
    assert (engine.not_undone(), notes) == ([], [])


@pytest.mark.parametrize("answer", [lambda _: None, lambda _: "done", lambda _: object(), refuse])
def test_what_submit_has_kept_and_not_begun_never_begins(answer):
    notes = []
    executor = Queues(answer)
    engine = load(executor, Note("a", notes))
    with pytest.raises((TypeError, RuntimeError), match=r"Queues.submit returned .* 'a', expected a future|new thread"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    (kept,) = executor.kept
    with pytest.raises(RuntimeError, match="was cancelled"):
        kept()
    with pytest.raises(pickle.PicklingError, match="was cancelled"):
        pickle.dumps(kept)
    assert notes == []


def test_what_has_begun_when_submit_raises_is_waited_for_and_undone():
    notes, begun, let_go = [], threading.Event(), threading.Event()

    def during():
        begun.set()
        let_go.wait()
        notes.append("ended a")

    def submit(function):
        if function.verb == states.EXECUTE:
            threading.Thread(target=function).start()
            assert begun.wait(10)
            threading.Timer(0.05, let_go.set).start()
            raise RuntimeError("too late")
        future = concurrent.futures.Future()
        future.set_result(function())
        return future

    engine = load(Queues(submit), Note("a", notes, during))
    with pytest.raises(RuntimeError, match="too late"):
        engine.run()
    assert notes == ["ran a", "ended a", "undid a"]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_what_may_run_elsewhere_counts_as_having_run():
    def submit(function):
        if function.verb == states.EXECUTE:
            pickle.dumps(function)
            raise RuntimeError("sent all the same")
        future = concurrent.futures.Future()
        future.set_result(function())
        return future

    engine = load(Queues(submit), Portable("a"))
    with pytest.raises(RuntimeError, match="sent all the same"):
        engine.run()
    assert Portable.undone == ["a"]


class Portable(task.Task):
    """Can be pickled."""

    undone = []

    def execute(self):
        pass

    def revert(self):
        self.undone.append(self.name)


def test_a_pool_whose_threads_cannot_be_set_up_has_begun_nothing():
    notes = []

    def fail():
        raise ValueError("no set-up")

    with concurrent.futures.ThreadPoolExecutor(1, initializer=fail) as pool:
        engine = load(pool, *(Note(name, notes) for name in "abc"))
        with pytest.raises(exceptions.WrappedFailure) as caught:
            engine.run()
    assert caught.value.check("concurrent.futures.thread.BrokenThreadPool")
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []
    assert notes == []


def test_what_is_cancelled_and_begins_all_the_same_is_not_given_back():
    begun, let_go = threading.Event(), threading.Event()

    class Lying(concurrent.futures.Future):
        def cancel(self):
            return True

    def submit(function):
        threading.Thread(target=function).start()
        return Lying()

    executor, delivered = futures.FuturesExecutor(Queues(submit)), []
    executor.start(delivered.append)
    call = base.Call(0, Note("a", [], lambda: (begun.set(), let_go.wait())), states.EXECUTE, {})
    executor.submit([call])
    assert begun.wait(10)
    assert executor.recall() == []
    let_go.set()
    executor.stop()
    assert delivered == [(call, None)]


def test_what_was_sent_elsewhere_is_not_given_back_though_its_future_is_cancelled():
    future = concurrent.futures.Future()
    executor, delivered = futures.FuturesExecutor(Queues(lambda function: pickle.dumps(function) and future)), []
    executor.start(delivered.append)
    call = base.Call(0, Portable("a"), states.EXECUTE, {})
    executor.submit([call])
    assert executor.recall() == []
    future.set_result("it ran")
    executor.stop()
    assert delivered == [(call, "it ran")]


def test_a_call_is_made_once():
    notes = []
    carrier = futures.RemoteCall(Note("a", notes), states.EXECUTE, {})
    assert carrier() is None
    with pytest.raises(RuntimeError, match="a second time"):
        carrier()
    assert notes == ["ran a"]


def test_one_future_for_two_calls_delivers_both():
    future = concurrent.futures.Future()
    executor, delivered = futures.FuturesExecutor(Queues(lambda _: future)), []
    executor.start(delivered.append)
    calls = [base.Call(i, Note(f"t{i}", []), states.EXECUTE, {}) for i in range(2)]
    executor.submit(calls)
    future.set_result(7)
    executor.stop()
    assert delivered == [(call, 7) for call in calls]


def test_a_future_that_cannot_be_cancelled_is_waited_for():
    class Odd(concurrent.futures.Future):
        def cancel(self):
            raise ValueError("never heard of that")

    future = Odd()
    executor, delivered = futures.FuturesExecutor(Queues(lambda _: future)), []
    executor.start(delivered.append)
    call = base.Call(0, Note("a", []), states.EXECUTE, {})
    executor.submit([call])
    assert executor.recall() == []
    future.set_exception(ValueError("after all"))
    executor.stop()
    assert isinstance(delivered[0][1], Failure)


@pytest.mark.parametrize("given", [concurrent.futures.ThreadPoolExecutor, futures.FuturesExecutor, Queues])
def test_a_class_is_refused(given):
    with pytest.raises(TypeError, match=f"is a class: pass an instance of it, such as executor={given.__name__}"):
        engines.load(linear_flow.Flow("f").add(Note("a", [])), engine="parallel", executor=given)


def test_an_object_that_makes_no_executor_is_named():
    class Pool:
        def taskflowx_executor(self):
            return self

    with pytest.raises(TypeError, match=r"Pool object .*taskflowx_executor\(\) gave .*, expected a taskflowx"):
        engines.load(linear_flow.Flow("f").add(Note("a", [])), engine="parallel", executor=Pool())


@pytest.fixture(scope="module")
def elsewhere():
    """Give a process of the standard library's pool."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_progress_that_cannot_be_pickled_is_refused_where_it_is_told(elsewhere):
    flow = linear_flow.Flow("f").add(tasks.Does("does", "progress_that_cannot_be_pickled", provides="result"))
    engine = engines.load(flow, executor=elsewhere)
    engine.run()
    assert engine.storage.fetch("result") == "done"


def test_what_is_no_exception_and_cannot_be_pickled_leaves_the_run(elsewhere):
    engine = engines.load(
        linear_flow.Flow("f").add(tasks.Does("does", "exit_that_cannot_be_shown")), executor=elsewhere
    )
    with pytest.raises(SystemExit, match=r"hostile_tasks\.Shy: <exception str\(\) failed>"):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
