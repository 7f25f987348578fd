"""One contract for every place to run: the same results, failures, events and rollback, and nothing left behind."""

import concurrent.futures
import multiprocessing
import threading
import warnings
from types import SimpleNamespace

import pytest

from taskflowx import engines, exceptions, executors, states, task
from taskflowx.executors import base, pickling, processes, threads
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.testing import executor_contract
from tests.contract.executor import contract_tasks as tasks


class Counting(concurrent.futures.Executor):
    """Somebody else's executor: runs each call in a thread of its own, and counts what it is given."""

    def __init__(self):
        self.submitted = 0
        self.was_shut_down = False

    def submit(self, function, /, *args, **kwargs):
        self.submitted += 1
        future = concurrent.futures.Future()

        def run():
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - as an executor has to
                future.set_exception(error)

        threading.Thread(target=run).start()
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.was_shut_down = True


def _process_pool():
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))


def _green():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eventlet warns of itself
        pytest.importorskip("eventlet", reason="executor='greenthreads' needs eventlet")
    return "greenthreads"


PLACES = {
    "serial": lambda: "serial",
    "threads": lambda: "threads",
    "processes": lambda: "processes",
    "ProcessPool": lambda: processes.ProcessPool(2),
    "asyncio": lambda: "asyncio",
    "ThreadPoolExecutor": lambda: concurrent.futures.ThreadPoolExecutor(2),
    "ProcessPoolExecutor": _process_pool,
    "somebody-elses": Counting,
    "greenthreads": _green,
}
IN_PROCESSES = ("processes", "ProcessPool", "ProcessPoolExecutor")


@pytest.fixture(autouse=True)
def nothing_is_left():
    """See that no thread and no process of ours is left after a test."""
    threads, children = set(threading.enumerate()), set(multiprocessing.active_children())
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert set(threading.enumerate()) <= threads
    assert set(multiprocessing.active_children()) <= children


@pytest.fixture(params=PLACES)
def place(request):
    """Give the executor."""
    made = PLACES[request.param]()
    yield made
    if not isinstance(made, str):
        (made.close if isinstance(made, processes.ProcessPool) else made.shutdown)()


for _name, _make in PLACES.items():
    globals()[f"Test{_name}"] = executor_contract.case(_make)


@pytest.fixture
def notes(tmp_path):
    """Give the path of a file of notes, and a function that reads it."""
    path = tmp_path / "notes"
    return str(path), lambda: path.read_text(encoding="utf-8").splitlines()


def load(flow, place, **options):
    return engines.load(flow, engine="parallel", executor=place, max_workers=2, **options)


def test_an_executor_of_the_caller_gets_one_submit_a_call_and_stays_open(notes):
    path, _ = notes
    counting = Counting()
    flow = linear_flow.Flow("f").add(tasks.Note("a", path), tasks.Break("b", path))
    with pytest.raises(tasks.Problem):
        load(flow, counting).run()
    assert counting.submitted == 4
    assert not counting.was_shut_down
    assert counting.submit(str, 5).result(10) == "5"


@pytest.mark.parametrize("place", IN_PROCESSES, indirect=True)
def test_a_function_that_cannot_reach_a_process_is_refused_before_anything_runs(place, notes, monkeypatch):
    monkeypatch.setattr(pickling, "_cloudpickle", lambda: None)
    path, read = notes
    flow = linear_flow.Flow("f").add(tasks.Note("a", path), task.FunctorTask(lambda: 1, name="closure"))
    with pytest.raises(exceptions.CompilationFailure, match=r"'closure' cannot reach .* executor='threads'"):
        load(flow, place).run()
    with pytest.raises(FileNotFoundError):
        read()


@pytest.mark.parametrize("place", IN_PROCESSES, indirect=True)
def test_an_exception_from_a_process_brings_its_traceback_as_a_note(place, notes):
    path, _ = notes
    with pytest.raises(tasks.Problem) as caught:
        load(linear_flow.Flow("f").add(tasks.Break("a", path)), place).run()
    note, where = caught.value.__notes__
    assert "Raised elsewhere" in note
    assert "in execute" in note
    assert where.startswith("in task 'a' of flow 'f' (")


@pytest.mark.parametrize("place", IN_PROCESSES, indirect=True)
def test_an_exception_with_an_odd_constructor_comes_as_itself(place):
    with pytest.raises(tasks.OddProblem, match="odd 1 2"):
        load(linear_flow.Flow("f").add(tasks.BreakOddly("a")), place).run()


@pytest.mark.parametrize("place", IN_PROCESSES, indirect=True)
def test_an_exception_that_cannot_be_pickled_comes_as_its_description(place):
    with pytest.raises(exceptions.WrappedFailure) as caught:
        load(linear_flow.Flow("f").add(tasks.BreakWithALock("a")), place).run()
    assert caught.value.check("ValueError")
    assert "locked" in str(caught.value)


@pytest.mark.parametrize("place", IN_PROCESSES, indirect=True)
def test_a_result_that_cannot_be_pickled_fails_its_atom(place, notes):
    path, read = notes
    flow = linear_flow.Flow("f").add(tasks.Note("a", path), tasks.Unpicklable("lock"))
    with pytest.raises(TypeError, match="pickle"):
        load(flow, place).run()
    assert read() == ["ran a", "undid a"]


@pytest.mark.parametrize("place", IN_PROCESSES, indirect=True)
def test_an_argument_that_cannot_be_pickled_fails_its_atom(place, notes):
    path, read = notes
    flow = linear_flow.Flow("f").add(tasks.Note("a", path), tasks.Take("take"))
    engine = load(flow, place, store={"thing": threading.Lock()})
    with pytest.raises(TypeError, match="pickle"):
        engine.run()
    assert read() == ["ran a", "undid a"]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_worker_that_dies_is_a_failure_and_is_rolled_back(notes):
    path, read = notes
    engine = load(linear_flow.Flow("f").add(tasks.Note("a", path), tasks.Die("die")), "processes")
    with pytest.raises(exceptions.WorkerLost, match=r"exited with code \d+, while it ran atom 'die'"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []
    assert read() == ["ran a", "undid a"]


def test_a_pool_of_the_caller_that_breaks_ends_the_run_with_what_stands(notes):
    path, read = notes
    with _process_pool() as pool:
        engine = load(linear_flow.Flow("f").add(tasks.Note("a", path), tasks.Die("die")), pool)
        with pytest.raises(exceptions.WrappedFailure) as caught:
            engine.run()
    assert caught.value.check("concurrent.futures.process.BrokenProcessPool")
    assert engine.storage.get_flow_state() == states.FAILURE
    assert engine.not_undone() == ["a", "die"]
    assert read() == ["ran a"]


class Held(task.Task):
    """Runs until it is let go."""

    def __init__(self):
        super().__init__("held")
        self.let_go = threading.Event()

    def execute(self):
        self.let_go.wait()
        return "late"


@pytest.mark.parametrize("made", [executors.fetch("threads", 1), executors.fetch(Counting())])
def test_a_run_begins_when_the_calls_of_one_that_was_left_in_a_hurry_have_ended(made, monkeypatch):
    held, delivered, waits = Held(), [], []
    made.start(delivered.append)
    call = base.Call(0, held, states.EXECUTE, {})
    made.submit([call])

    def wait(*_):
        waits.append(None)
        if len(waits) == 1:
            raise KeyboardInterrupt
        held.let_go.set()
        return False

    with monkeypatch.context() as patched:
        if isinstance(made, threads.ThreadsExecutor):
            join = threading.Thread.join
            patched.setattr(threading.Thread, "join", lambda thread: wait() or join(thread))
        else:
            run = made._run
            get, put = run.woken.get, run.woken.put
            run.woken = SimpleNamespace(get=lambda: wait() or get(), put=put)
        with pytest.raises(KeyboardInterrupt):
            made.stop()
        made.start(delivered.append)
    assert delivered == [(call, "late")]
    made.stop()


def test_a_submit_that_is_interrupted_is_not_waited_for():
    class Hurried(Counting):
        def submit(self, function, /, *args, **kwargs):
            super().submit(function, *args, **kwargs)
            raise KeyboardInterrupt

    engine = load(linear_flow.Flow("f").add(tasks.Give("a", "x", provides="a")), Hurried())
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED


def test_an_interrupt_while_a_thread_is_started_comes_out_as_itself(monkeypatch):
    def start(_thread):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(threading.Thread, "start", start)
    engine = load(unordered_flow.Flow("f").add(tasks.Give("a", 1), tasks.Give("b", 2)), "threads")
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    monkeypatch.undo()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
