"""What goes wrong between the engine and a place to run: interrupts, deadlines, executors that refuse or break."""

import concurrent.futures
import signal
import sys
import threading
import traceback

import pytest

from taskflowx import engines, exceptions, executors, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from tests.contract.executor import contract_tasks as tasks

IN_THREADS = ("threads", "ThreadPoolExecutor")
PATIENCE = 20  # seconds that a test waits for what must happen at once


@pytest.fixture(params=["threads", "ThreadPoolExecutor"])
def threads(request):
    """Give an executor with two threads, and see that none is left."""
    before = set(threading.enumerate())
    if request.param == "threads":
        yield "threads"
    else:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            yield pool
    assert set(threading.enumerate()) <= before


def load(flow, executor, **options):
    return engines.load(flow, engine="parallel", executor=executor, **{"max_workers": 2, "inline": False, **options})


def functor(name, function, **kwargs):
    return task.FunctorTask(function, name=name, **kwargs)


# -- while calls run -------------------------------------------------------------------------------


def test_progress_is_seen_while_the_task_runs(threads):
    seen = threading.Event()

    class Reporting(task.Task):
        def execute(self):
            self.update_progress(0.5)
            return seen.wait(PATIENCE)

    engine = load(linear_flow.Flow("f").add(Reporting("a", provides="seen")), threads)
    engine.atom_notifier.register("update_progress", lambda *_: seen.set())
    engine.run()
    assert engine.storage.fetch("seen")


def test_calls_that_do_not_depend_on_each_other_run_at_the_same_time(threads):
    together = threading.Barrier(2)
    engine = load(unordered_flow.Flow("f").add(*(functor(n, lambda: together.wait(PATIENCE)) for n in "ab")), threads)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_deadline_lets_end_what_runs_and_takes_back_what_has_not_begun(threads):
    begun, may_end = [], threading.Event()

    def work(name):
        begun.append(name)
        assert may_end.wait(PATIENCE)

    names = "abcdef"
    engine = load(unordered_flow.Flow("f").add(*(functor(n, lambda n=n: work(n)) for n in names)), threads)
    engine.notifier.register(states.SUSPENDING, lambda *_: may_end.set())
    with pytest.raises(TimeoutError, match=r"0.05 seconds"):
        engine.run(timeout=0.05)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert len(begun) == 2
    found = engine.storage.get_atoms_states(names)
    assert {n for n in names if found[n][0] == states.SUCCESS} == set(begun)
    assert {n for n in names if found[n][0] == states.PENDING} == set(names) - set(begun)
    engine.run(timeout=PATIENCE)
    assert sorted(begun) == list(names)


def test_suspending_lets_end_what_runs_and_takes_back_what_has_not_begun(threads):
    begun, may_end = [], threading.Event()

    def work(name):
        begun.append(name)
        if len(begun) == 2:
            engine.suspend()
        assert may_end.wait(PATIENCE)

    engine = load(unordered_flow.Flow("f").add(*(functor(n, lambda n=n: work(n)) for n in "abcdef")), threads)
    engine.notifier.register(states.SUSPENDING, lambda *_: may_end.set())
    engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert len(begun) == 2
    engine.run()
    assert sorted(begun) == list("abcdef")


def test_an_interrupt_of_the_main_thread_stops_the_run_which_goes_on_later(threads):
    """The task goes on until the engine, waiting for it, has been interrupted and takes back what has not begun."""
    begun, undone = [], []
    interrupted = threading.Event()

    class Slow(task.Task):
        def execute(self):
            begun.append(self.name)
            if len(begun) == 1:
                main = threading.main_thread().ident
                while not interrupted.wait(0.05):  # a signal that comes just before the engine waits does not wake it
                    stack = traceback.walk_stack(sys._current_frames()[main])
                    if any(frame.f_code.co_name == "take_next" for frame, _ in stack):
                        signal.pthread_kill(main, signal.SIGINT)

        def revert(self, **kwargs):
            undone.append(self.name)

    executor = executors.fetch(threads, 2, inline=False)
    engine = load(linear_flow.Flow("f").add(Slow("a"), Slow("b")), executor)
    recall = executor.recall

    def recalled():
        interrupted.set()
        return recall()

    executor.recall = recalled
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert set(begun) == {"a", "b"}  # what was interrupted while it was being handed over may run again
    assert undone == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("verb", ["execute", "revert"])
def test_what_is_no_exception_comes_out_of_the_run_and_the_rest_is_kept(threads, error, verb):
    calls = []

    class Leaves(task.Task):
        def execute(self):
            self.call("execute")
            raise ValueError

        def revert(self, **kwargs):
            self.call("revert")

        def call(self, what):
            calls.append(what)
            if what == verb and calls.count(what) == 1:
                raise error

    engine = load(linear_flow.Flow("f").add(tasks.Give("a", 1), Leaves("b")), threads)
    with pytest.raises(error):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    with pytest.raises(ValueError, match=r"^\nin task 'b' of flow 'f' "):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert calls == sorted(["execute", "revert", verb])


# -- executors of somebody else --------------------------------------------------------------------


class Synchronous(concurrent.futures.Executor):
    """Runs each call where it is submitted."""

    def submit(self, function, /, *args, **kwargs):
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as an executor has to
            future.set_exception(error)
        return future


class Wrong(concurrent.futures.Executor):
    """Gives back futures that are done in a way of its own."""

    def __init__(self, end):
        self.end = end

    def submit(self, function, /, *args, **kwargs):
        future = concurrent.futures.Future()
        self.end(future, function)
        return future


def undone_names(log):
    return [name for verb, name in log if verb == "undid"]


class Logged(task.Task):
    def __init__(self, name, log, **kwargs):
        super().__init__(name, **kwargs)
        self.log = log

    def execute(self):
        self.log.append(("ran", self.name))

    def revert(self, **kwargs):
        self.log.append(("undid", self.name))


def test_an_executor_that_runs_calls_in_submit_works():
    log = []
    flow = linear_flow.Flow("f").add(Logged("a", log), unordered_flow.Flow("u").add(Logged("b", log), Logged("c", log)))
    load(flow, Synchronous()).run()
    assert log == [("ran", name) for name in "abc"]


def test_an_executor_that_has_been_shut_down_fails_the_run_and_there_is_nothing_to_undo():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    log = []
    engine = load(linear_flow.Flow("f").add(Logged("a", log)), pool)
    with pytest.raises(RuntimeError, match="after shutdown"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert log == []


def test_calls_that_an_executor_drops_fail_and_there_is_nothing_to_undo():
    full = threading.Event()

    class Pool(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function, /, *args, **kwargs):
            future = super().submit(function, *args, **kwargs)
            if self._work_queue.qsize() == 3:
                full.set()
            return future

    def stop():
        assert full.wait(PATIENCE)
        pool.shutdown(wait=False, cancel_futures=True)

    pool = Pool(1)
    log = []
    flow = unordered_flow.Flow("f").add(functor("stop", stop), *(Logged(n, log) for n in "abc"))
    engine = load(flow, pool)
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert caught.value.check(concurrent.futures.CancelledError)
    assert engine.not_undone() == ["stop"]  # nobody was left to undo it
    assert log == []


def test_a_result_that_cannot_be_read_is_a_failure_of_its_atom():
    class Unreadable(concurrent.futures.Future):
        def result(self, timeout=None):
            raise OSError("lost on the way")

    class Losing(Synchronous):
        def submit(self, function, /, *args, **kwargs):
            future = Unreadable()
            future.set_result(function(*args, **kwargs))
            return future if function.atom.name == "b" and function.verb == states.EXECUTE else super().submit(str)

    log = []
    engine = load(linear_flow.Flow("f").add(Logged("a", log), Logged("b", log)), Losing())
    with pytest.raises(OSError, match="lost on the way"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED


def test_two_engines_share_a_pool(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        log = []
        made = [load(unordered_flow.Flow("f").add(*(Logged(f"{n}{i}", log) for i in range(20))), pool) for n in "abc"]
        with concurrent.futures.ThreadPoolExecutor(3) as runners:
            list(runners.map(lambda engine: engine.run(), made))
    assert sorted(log) == sorted(("ran", f"{n}{i}") for n in "abc" for i in range(20))


@pytest.mark.parametrize("outer", ["serial", "threads"])
@pytest.mark.parametrize("inner", ["serial", "threads"])
def test_an_engine_runs_inside_a_task_of_another_one(outer, inner):
    seen = []

    class Nested(task.Task):
        def execute(self):
            self.update_progress(0.25)
            flow = linear_flow.Flow("inner").add(tasks.Report("report"), functor("x", lambda: 5, provides="x"))
            x = engines.run(flow, engine="parallel", executor=inner)["x"]
            self.update_progress(0.75)
            return x

    engine = load(linear_flow.Flow("outer").add(Nested("a", provides="a"), tasks.Report("b")), outer)
    engine.atom_notifier.register(
        "update_progress", lambda _, details: seen.append((details["task_name"], details["progress"]))
    )
    engine.run()
    assert engine.storage.fetch("a") == 5
    assert seen == [("a", 0.25), ("a", 0.75), ("b", 0.25), ("b", 0.5)]
