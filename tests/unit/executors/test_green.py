"""Green threads: where they run, how they switch, and what is said when there are none.

All but the first two tests need eventlet: pip install "taskflowx[green]".
"""

import queue
import sys
import threading
import warnings

import pytest

from taskflowx import engines, executors, states, task
from taskflowx.patterns import linear_flow, unordered_flow

NAMES = ["greenthreads", "greenthreaded", "greenthread", "GreenThreads"]


@pytest.fixture
def eventlet():
    """Give eventlet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eventlet warns of itself
        return pytest.importorskip("eventlet", reason="executor='greenthreads' needs eventlet")


@pytest.mark.parametrize("name", NAMES)
def test_without_eventlet_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "eventlet", None)
    monkeypatch.delitem(sys.modules, "taskflowx.executors.green", raising=False)
    monkeypatch.delattr(executors, "green", raising=False)
    with pytest.raises(RuntimeError, match=r"Eventlet is needed to use a green executor.*pip install eventlet"):
        engines.load(linear_flow.Flow("f"), executor=name)


def test_names_of_green_threads_are_among_the_accepted_ones():
    with pytest.raises(ValueError, match="'greenthread', 'greenthreaded', 'greenthreads'"):
        engines.load(linear_flow.Flow("f"), executor="green")


class Note(task.Task):
    """Writes down when it begins and ends, and lets others run in between."""

    def __init__(self, name, notes, eventlet):
        super().__init__(name)
        self._notes = notes
        self._eventlet = eventlet

    def execute(self):
        self._notes.append((self.name, "begins", threading.current_thread()))
        self._eventlet.sleep(0)
        self.update_progress(0.5)
        self._notes.append((self.name, "ends", threading.current_thread()))


def run_notes(eventlet, count=2, **options):
    notes = []
    flow = unordered_flow.Flow("f").add(*(Note(f"t{n}", notes, eventlet) for n in range(count)))
    engine = engines.load(flow, **options)
    reported = []
    engine.atom_notifier.register("update_progress", lambda _, details: reported.append(details["task_name"]))
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert {thread for _, _, thread in notes} == {threading.current_thread()}
    assert sorted(reported) == sorted(f"t{n}" for n in range(count))
    return [f"{name} {what}" for name, what, _ in notes]


@pytest.mark.parametrize("name", NAMES)
def test_calls_take_turns_in_the_thread_of_the_engine(name, eventlet):
    assert run_notes(eventlet, executor=name) == ["t0 begins", "t1 begins", "t0 ends", "t1 ends"]


def test_no_more_calls_run_at_once_than_allowed(eventlet):
    lines = run_notes(eventlet, 4, executor="greenthreads", max_workers=2)
    running = most = 0
    for line in lines:
        running += 1 if line.endswith("begins") else -1
        most = max(most, running)
    assert most == 2


@pytest.mark.filterwarnings("ignore:Using class 'Green")  # futurist warns of each of its green classes
def test_a_pool_of_futurist_is_waited_for_as_green_threads_are(eventlet):
    futurist = pytest.importorskip("futurist", reason="its GreenThreadPoolExecutor is the caller's own pool")
    pool = futurist.GreenThreadPoolExecutor(max_workers=5)
    assert run_notes(eventlet, executor=pool) == ["t0 begins", "t1 begins", "t0 ends", "t1 ends"]
    assert pool.alive
    pool.shutdown()


def test_progress_is_reported_nowhere_after_the_run(eventlet):
    task.PROGRESS.set(None)  # whatever interrupts in other tests have left
    run_notes(eventlet, executor="greenthreads")
    assert task.PROGRESS.get() is None


def test_two_engines_run_at_the_same_time_in_two_green_threads(eventlet):
    first, second = (eventlet.spawn(run_notes, eventlet, executor="greenthreads") for _ in range(2))
    assert first.wait() == second.wait() == ["t0 begins", "t1 begins", "t0 ends", "t1 ends"]


def test_a_run_can_be_suspended_from_another_thread(eventlet):
    class Wait(task.Task):
        def execute(self):
            thread.start()
            thread.join()
            eventlet.sleep(0)

    flow = linear_flow.Flow("f").add(Wait("a"), task.FunctorTask(lambda: 1, name="b"))
    engine = engines.load(flow, executor="greenthreads")
    thread = threading.Thread(target=engine.suspend)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert engine.storage.get_atom_state("b") == states.PENDING


def test_a_run_that_waits_is_ended_by_its_timeout(eventlet):
    class Wait(task.Task):
        def execute(self):
            ended.wait()

    ended = eventlet.event.Event()
    flow = linear_flow.Flow("f").add(Wait("a"), task.FunctorTask(lambda: 1, name="b"))
    engine = engines.load(flow, executor="greenthreads")
    eventlet.spawn_after(0.1, ended.send)
    with pytest.raises(TimeoutError):
        engine.run(timeout=0.01)
    assert [engine.storage.get_atom_state(name) for name in "ab"] == [states.SUCCESS, states.PENDING]


# -- the parts -----------------------------------------------------------------------------------


@pytest.fixture
def green(eventlet):
    from taskflowx.executors import green

    return green


def test_a_queue_gives_back_what_was_put_in_order(green):
    items = green.GreenQueue()
    for item in (1, 2, 3):
        items.put(item)
    assert [items.get(), items.get_nowait(), items.get(timeout=1)] == [1, 2, 3]
    with pytest.raises(queue.Empty):
        items.get_nowait()
    with pytest.raises(queue.Empty):
        items.get(timeout=0)
    with pytest.raises(queue.Empty):
        items.get(timeout=0.01)


def test_a_queue_that_is_waited_on_lets_others_run(green, eventlet):
    items = green.GreenQueue()
    eventlet.spawn_n(items.put, "late")
    assert items.get() == "late"


def test_a_queue_notices_what_other_native_threads_put(green):
    items = green.GreenQueue()
    thread = threading.Thread(target=items.put, args=("from afar",))
    thread.start()
    assert items.get(timeout=10) == "from afar"
    thread.join()


def test_a_pool_calls_and_gives_back_what_came_of_it(green):
    pool = green.GreenPool(2)
    fine, bad = pool.submit(divmod, 7, 2), pool.submit(int, "x")
    left = pool.submit(print)
    assert left.cancel()
    pool.shutdown()
    assert fine.result(0) == (3, 1)
    assert isinstance(bad.exception(0), ValueError)
    assert left.cancelled()


def test_a_pool_that_is_shut_down_can_drop_what_has_not_begun(green):
    pool = green.GreenPool(1)
    calls = [pool.submit(print) for _ in range(3)]
    pool.shutdown(cancel_futures=True)
    assert all(call.cancelled() for call in calls)
