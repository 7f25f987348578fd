"""Who may work with an engine at the same time, and what becomes of a run that is interrupted, once or again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import pathlib
import signal
import sqlite3
import sys
import threading

import pytest

from taskflowx import engines, exceptions, executors, states, task
from taskflowx.engines import dispatch, life
from taskflowx.engines.preparation import Preparation
from taskflowx.executors import aio, threads
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models

WAIT = 20  # seconds; only a test that fails waits so long
EXECUTORS = ["serial", "threads", "asyncio"]


class Leave(BaseException):
    """What nobody is to catch."""


class Limit(Exception):
    """What a signal handler raises when time is up."""


class Step(task.Task):
    def __init__(self, name, log, does=lambda: None, **kwargs):
        super().__init__(name, **kwargs)
        self.log = log
        self.does = does

    def execute(self):
        self.does()
        self.log.append(self.name)
        return self.name

    def revert(self, **kwargs):
        self.log.append(f"-{self.name}")


def steps(log, count=3, kind=linear_flow.Flow, **does):
    names = "abcdefghij"[:count]
    return kind("f").add(*(Step(name, log, does.get(name, lambda: None)) for name in names))


def state(engine):
    return engine.storage.get_flow_state()


def raise_at(notifier, event, error, when=lambda details: True):
    """Have a listener raise an error each time that something happens; returns what was raised."""
    raised = []

    def trip(_event, details):
        if when(details):
            raised.append(error())
            raise raised[-1]

    notifier.register(event, trip)
    return raised


# -- interrupts while another one is dealt with ----------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("events", [["SUSPENDING"], ["SUSPENDED"], ["SUSPENDING", "SUSPENDED"]])
def test_a_flow_is_suspended_however_often_the_way_there_is_interrupted_and_the_first_is_raised(executor, events):
    log, first = [], KeyboardInterrupt("the first")

    def interrupt():
        if not log:
            log.append("tried")
            raise first

    engine = engines.load(steps(log, a=interrupt), executor=executor)
    for event in events:
        raise_at(engine.notifier, event, Leave)
    told = []
    engine.notifier.register("*", lambda event, details: told.append(event))
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.run()
    assert caught.value is first
    assert (state(engine), told) == ("SUSPENDED", ["RUNNING", "SUSPENDING", "SUSPENDED"])
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["tried", "a", "b", "c"])


@pytest.mark.parametrize("event", ["RUNNING", "SUSPENDING", "SUSPENDED", "SUCCESS"])
def test_a_listener_may_leave_at_each_move_of_the_flow(event):
    def suspend():
        engine.suspend()

    log = []
    engine = engines.load(steps(log, b=suspend))
    raised = raise_at(engine.notifier, event, SystemExit)
    for _ in range(4):
        with contextlib.suppress(SystemExit):
            engine.run()
        assert state(engine) in ("SUSPENDED", "SUCCESS")
        if event == "RUNNING":
            assert log == []
    engine.notifier.reset()
    engine.run()
    engine.run()
    assert raised
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


@pytest.mark.parametrize("event", ["RUNNING", "FAILURE", "REVERTING", "REVERTED"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_listener_may_leave_at_each_transition_of_a_flow_that_is_undone(event, executor):
    def fail():
        log.append("!c")
        raise ValueError("no")

    log = []
    engine = engines.load(steps(log, c=fail), executor=executor)
    raise_at(engine.atom_notifier, event, Leave)
    for _ in range(12):
        try:
            engine.run()
        except Leave:
            assert state(engine) in ("SUSPENDED", "REVERTED")
        except ValueError:
            break
        if state(engine) == "REVERTED":
            break
        if event in ("RUNNING", "REVERTING"):  # the call is not made then: it goes on without
            engine.atom_notifier.reset()
    assert (state(engine), log) == ("REVERTED", ["a", "b", "!c", "-c", "-b", "-a"])


@pytest.mark.parametrize("durable", [False, True])
def test_results_that_come_in_while_a_run_is_left_are_on_record_also_when_each_of_them_interrupts_again(
    durable, tmp_path
):
    log, together, count = [], threading.Barrier(8), 8
    flow = steps(log, count, unordered_flow.Flow, **dict.fromkeys("abcdefgh", together.wait))
    with contextlib.ExitStack() as stack:
        options = {}
        if durable:
            backend = stack.enter_context(backends.backend(f"sqlite:///{tmp_path}/store.db"))
            options = {"book": models.LogBook("b"), "backend": backend}
        engine = engines.load(flow, executor="threads", max_workers=count, **options)
        raise_at(engine.atom_notifier, "SUCCESS", SystemExit)
        with pytest.raises(SystemExit):
            engine.run()
        assert (state(engine), len(log)) == ("SUSPENDED", count)
        assert {detail.state for detail in engine.preparation.details} == {"SUCCESS"}
        if durable:
            with contextlib.closing(backend.get_connection()) as connection:
                record = connection.get_flow_details(engine.storage.flow_uuid)
            assert record.state == "SUSPENDED"
            assert {detail.state for detail in record if detail.name in "abcdefgh"} == {"SUCCESS"}
        engine.run()
        assert (state(engine), len(log)) == ("SUCCESS", count)


def test_who_insists_does_not_wait_for_calls_any_more_and_what_comes_of_them_is_taken_by_the_next_run(monkeypatch):
    log, begun, go_on = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go_on.wait(WAIT)

    executor = executors.fetch("threads", inline=False)
    engine = engines.load(steps(log, 2, unordered_flow.Flow, a=slow, b=slow), executor=executor)
    running, interrupts = engine.run_iter(), []
    while next(running) != states.WAITING:
        pass
    assert begun.wait(WAIT)

    def impatient():
        interrupts.append(KeyboardInterrupt())
        raise interrupts[-1]

    monkeypatch.setattr(executor, "stop", impatient)
    with pytest.raises(KeyboardInterrupt) as caught:
        running.close()
    assert caught.value is interrupts[0]
    assert (state(engine), len(interrupts), log) == ("SUSPENDED", 4, [])
    monkeypatch.undo()
    go_on.set()
    engine.run()
    assert (state(engine), sorted(log)) == ("SUCCESS", ["a", "b"])


# -- what is no KeyboardInterrupt ------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_a_time_limit_by_a_signal_leaves_the_flow_suspended(executor):
    log, begun, go_on = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go_on.wait(WAIT)

    def over(number, frame):
        if not go_on.is_set():
            go_on.set()
            raise Limit

    def alarm():
        assert begun.wait(WAIT)
        while not go_on.wait(0.05):  # a signal that comes just before the engine waits does not wake it
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    engine = engines.load(steps(log, a=slow), executor=executor, inline=False)
    kept = signal.signal(signal.SIGALRM, over)
    other = threading.Thread(target=alarm)
    other.start()
    try:
        with pytest.raises(Limit):
            engine.run()
    finally:
        other.join()
        signal.signal(signal.SIGALRM, kept)
    assert (state(engine), log) == ("SUSPENDED", ["a"])
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("executor", "then"),
    [
        ("threads", "does not end the wait, 4 more do, and leave them"),
        ("asyncio", "cancels those that are coroutines"),
    ],
)
def test_an_interrupted_run_says_for_what_it_waits(executor, then, caplog):
    begun, go_on = threading.Barrier(3), threading.Event()

    class GoesOn(logging.Handler):
        def emit(self, record):
            go_on.set()

    def slow():
        begun.wait(WAIT)
        assert go_on.wait(WAIT)

    def leave():
        begun.wait(WAIT)
        raise KeyboardInterrupt

    engine = engines.load(
        steps([], 3, unordered_flow.Flow, a=slow, b=leave, c=slow), executor=executor, max_workers=3, inline=False
    )
    logger, handler = logging.getLogger("taskflowx.engines"), GoesOn()
    logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.run()
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in caplog.records] == [
        f"Interrupted by KeyboardInterrupt: waiting for the calls under way, 2 of them; a second interrupt {then}"
    ]


def test_an_error_of_our_own_is_raised_as_itself_and_leaves_the_flow_suspended(monkeypatch):
    log = []
    engine = engines.load(steps(log), executor="threads", inline=False)
    monkeypatch.setattr("taskflowx.engines.scheduler.Scheduler._record", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.run()
    assert (state(engine), log[:1]) == ("SUSPENDED", ["a"])
    monkeypatch.undo()
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


def test_an_iterator_that_is_closed_while_a_listener_leaves_raises_that():
    log = []
    engine = engines.load(steps(log))
    raise_at(engine.notifier, "SUSPENDED", Leave)
    running = engine.run_iter()
    while not log:
        next(running)
    with pytest.raises(Leave):
        running.close()
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


@pytest.mark.parametrize("step", ["compile", "prepare", "validate"])
def test_an_interrupt_before_a_run_leaves_the_flow_as_it_was(step, monkeypatch):
    log = []
    engine = engines.load(steps(log))

    def interrupted(self):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(owner_of(engine, step), step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert (state(engine), log) == ("PENDING", [])
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


def test_a_binder_that_was_interrupted_is_made_again(monkeypatch):
    log = []
    engine = engines.load(steps(log))

    def interrupted(self):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("taskflowx.engines.binding.Binder.prepare", interrupted)
    engine.compile()
    with pytest.raises(KeyboardInterrupt):
        engine.prepare()
    with pytest.raises(exceptions.InvalidState, match="has not had its storage populated"):
        engine.validate()
    engine.run()
    assert log == ["a", "b", "c"]


# -- reset -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["a", "b", "c", None])
def test_a_reset_that_is_interrupted_is_done(place, tmp_path):
    log = []
    with backends.backend(f"sqlite:///{tmp_path}/store.db") as backend:
        engine = engines.load(steps(log), book=models.LogBook("b"), backend=backend)
        engine.run()
        if place is None:
            raise_at(engine.notifier, "PENDING", KeyboardInterrupt)
        else:
            raise_at(engine.atom_notifier, "PENDING", KeyboardInterrupt, lambda details: details["task_name"] == place)
        told = []
        engine.atom_notifier.register("PENDING", lambda event, details: told.append(details["task_name"]))
        with pytest.raises(KeyboardInterrupt):
            engine.reset()
        assert state(engine) == "PENDING"
        assert set(told) >= {"a", "b", "c"} - {place}
        with contextlib.closing(backend.get_connection()) as connection:
            record = connection.get_flow_details(engine.storage.flow_uuid)
        assert {record.state, *(detail.state for detail in record if detail.name in "abc")} == {"PENDING"}
        engine.run()
    assert log == ["a", "b", "c"] * 2


def test_a_run_of_a_reverted_flow_whose_reset_is_interrupted_begins_anew():
    log, fails = [], [True]

    def fail():
        if fails.pop():
            raise ValueError("no")

    engine = engines.load(steps(log, c=fail))
    with pytest.raises(ValueError, match="no"):
        engine.run()
    del log[:]
    fails.append(False)
    raise_at(engine.atom_notifier, "PENDING", KeyboardInterrupt, lambda details: details["task_name"] == "b")
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert (state(engine), log) == ("PENDING", [])
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


# -- one at a time ---------------------------------------------------------------------------------


def owner_of(engine, step):
    """Return the class that has a step of getting ready."""
    return Preparation if step == "compile" else type(engine)


def held_in(step, monkeypatch, engine):
    """Have a step of getting ready wait; returns an event that says it is there, and one that lets it go on."""
    there, go_on = threading.Event(), threading.Event()
    real = getattr(owner_of(engine, step), step)

    def wait(self):
        there.set()
        assert go_on.wait(WAIT)
        real(self)

    monkeypatch.setattr(owner_of(engine, step), step, wait)
    return there, go_on


def in_a_thread(call):
    """Call something in a thread; returns the thread, and a list that gets what it has raised, or None."""
    raised = []

    def work():
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("step", ["compile", "_prepare", "validate"])
def test_what_would_disturb_a_run_that_gets_ready_is_refused_at_once(step, monkeypatch):
    log = []
    engine = engines.load(steps(log))
    there, go_on = held_in(step, monkeypatch, engine)
    thread, raised = in_a_thread(engine.run)
    assert there.wait(WAIT)
    with pytest.raises(exceptions.InvalidState, match="is running already"):
        engine.run()
    with pytest.raises(exceptions.InvalidState, match="is running already"):
        next(engine.run_iter())
    with pytest.raises(exceptions.InvalidState, match="is running already"):
        asyncio.run(engine.arun())
    if step == "compile":
        with pytest.raises(exceptions.InvalidState, match=r"Can not compile the engine of .* during its run"):
            engine.compile()
    elif step == "_prepare":
        with pytest.raises(exceptions.InvalidState, match=r"Can not prepare the engine of .* during its run"):
            engine.prepare()
    else:
        with pytest.raises(exceptions.InvalidState, match=r"Can not reset the engine of .* during its run"):
            engine.reset()
    go_on.set()
    thread.join(WAIT)
    assert (raised, state(engine), log) == ([None], "SUCCESS", ["a", "b", "c"])


def test_a_listener_may_not_reset_the_flow_whose_run_calls_it():
    log, refused = [], []
    engine = engines.load(steps(log))

    def reset(event, details):
        with pytest.raises(exceptions.InvalidState, match="during its run") as caught:
            engine.reset()
        refused.append(caught.value)

    engine.notifier.register("SUCCESS", reset)
    engine.run()
    assert (len(refused), state(engine)) == (1, "SUCCESS")


def test_a_second_engine_on_the_same_record_is_refused_while_the_first_runs():
    log, record, refused = [], models.FlowDetail("f", "1"), []

    def other():
        second = engines.load(steps(log), flow_detail=record)
        with pytest.raises(exceptions.InvalidState, match="another engine of this process is at work"):
            second.run()
        refused.append(True)

    first = engines.load(steps(log, b=other), flow_detail=record)
    first.run()
    assert (refused, log) == ([True], ["a", "b", "c"])
    engines.load(steps(log), flow_detail=record).run()
    assert log == ["a", "b", "c"]


def test_nothing_is_held_when_a_run_has_been_refused_or_has_ended():
    def again():
        with pytest.raises(exceptions.InvalidState):
            engine.run()

    log = []
    engine = engines.load(steps(log, b=again))
    engine.run()
    assert life.current(engine.storage.record.flow_detail) is None
    engine.reset()
    engine.run()
    assert log == ["a", "b", "c"] * 2


def test_of_many_threads_one_runs_it_and_the_others_are_refused():
    for _ in range(50):
        log, ends, start = [], [], threading.Barrier(4)
        refused = threading.Semaphore(0)

        def wait(refused=refused):
            for _ in range(3):
                assert refused.acquire(timeout=WAIT)

        engine = engines.load(steps(log, a=wait))

        def go(engine=engine, start=start, ends=ends, refused=refused):
            start.wait()
            try:
                engine.run()
                ends.append("ran")
            except exceptions.InvalidState:
                ends.append("refused")
                refused.release()

        threads = [threading.Thread(target=go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert (sorted(ends), log) == (["ran", "refused", "refused", "refused"], ["a", "b", "c"])


def test_a_flow_that_has_succeeded_says_that_nothing_runs(caplog):
    log = []
    engine = engines.load(steps(log))
    engine.run()
    assert caplog.text == ""
    engine.run()
    assert "has succeeded already" in caplog.text
    assert "reset()" in caplog.text
    assert log == ["a", "b", "c"]


# -- suspend ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["compile", "_prepare", "validate", "_begin"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_run_that_is_suspended_while_it_gets_ready_starts_nothing(step, executor, monkeypatch):
    log = []
    engine = engines.load(steps(log), executor=executor)
    owner = owner_of(engine, step)
    real = getattr(owner, step)

    def suspended(self, *args):
        monkeypatch.undo()
        engine.suspend()
        return real(self, *args)

    monkeypatch.setattr(owner, step, suspended)
    engine.run()
    assert (state(engine), log) == ("SUSPENDED", [])
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


def test_a_run_that_waits_for_its_store_can_be_suspended(tmp_path):
    log, path = [], f"{tmp_path}/store.db"
    with backends.backend(f"sqlite:///{path}") as backend:
        engine = engines.load(steps(log), book=models.LogBook("b"), backend=backend)
        engine.compile()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        thread, raised = in_a_thread(engine.run)
        while life.current(engine.storage.record.flow_detail) is None:
            assert thread.is_alive()
        engine.suspend()
        other.execute("ROLLBACK")
        other.close()
        thread.join(WAIT)
        assert (raised, state(engine), log) == ([None], "SUSPENDED", [])
        engine.run()
    assert log == ["a", "b", "c"]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_an_arun_that_is_cancelled_at_once_is_left_suspended(executor, turns, monkeypatch):
    log, was_cancelled = [], threading.Event()
    engine = engines.load(steps(log, a=lambda: was_cancelled.wait(WAIT)), executor=executor)
    there, go_on = held_in("compile", monkeypatch, engine)
    if executor == "asyncio":  # all of it takes place in the loop, which nothing may hold
        go_on.set()

    async def cancelled():
        running = asyncio.ensure_future(engine.arun())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel("enough")
        was_cancelled.set()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())
    assert there.is_set()
    assert (state(engine), [name for name in log if name != "a"]) == ("SUSPENDED", [])
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


def test_cancelling_an_arun_that_was_refused_leaves_the_run_that_goes_on_alone():
    log = []

    async def both():
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow():
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(WAIT)

        engine = engines.load(steps(log, a=slow))
        first = asyncio.ensure_future(engine.arun())
        await begun.wait()
        second = asyncio.ensure_future(engine.arun())
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises((exceptions.InvalidState, asyncio.CancelledError)):
            await second
        go_on.set()
        await first
        return engine

    engine = asyncio.run(both())
    assert (state(engine), log) == ("SUCCESS", ["a", "b", "c"])


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "processes"])
@pytest.mark.parametrize("kind", [linear_flow.Flow, unordered_flow.Flow])
def test_who_suspends_at_each_task_that_begins_gets_one_further_each_time(executor, kind):
    flow = kind("f").add(*(Quick(f"t{n}") for n in range(4)))
    engine = engines.load(flow, executor=executor, max_workers=2)
    engine.atom_notifier.register("RUNNING", lambda event, details: engine.suspend())
    done = []
    engine.atom_notifier.register("SUCCESS", lambda event, details: done.append(details["task_name"]))
    runs = 0
    while state(engine) != "SUCCESS":
        engine.run()
        runs += 1
        assert len(done) >= runs
    assert sorted(done) == ["t0", "t1", "t2", "t3"]


class Quick(task.Task):
    def execute(self):
        return 1


# -- interrupts that are noted ---------------------------------------------------------------------


def test_of_several_interrupts_the_first_is_raised_and_none_is_given_up_for_an_exception():
    ends, limit, other, key = GeneratorExit(), Limit(), Limit(), KeyboardInterrupt()
    for came, raised in (
        ((limit, other), limit),
        ((key, limit), key),
        ((limit, key), key),
        ((ends, limit), limit),
        ((ends, key, Leave()), key),
        ((key, Leave(), ends), key),
    ):
        interrupts = life.Interrupts()
        for error in came:
            interrupts.note(error)
        assert interrupts.left_by is raised


def test_an_interrupt_that_a_lock_has_hidden_is_the_one_that_is_raised():
    interrupts, key = life.Interrupts(), KeyboardInterrupt()
    hidden = RuntimeError("release unlocked lock")
    hidden.__context__ = key
    interrupts.note(hidden)
    assert interrupts.left_by is key
    other = life.Interrupts()
    error = RuntimeError("something else")
    error.__context__ = key
    other.note(error)
    assert other.left_by is error


def test_what_fails_each_time_is_not_done_again_for_ever():
    interrupts, calls = life.Interrupts(), []

    def fails():
        calls.append(1)
        raise Leave

    interrupts.defy(fails)
    interrupts.defy(fails)
    assert len(calls) < 50
    assert isinstance(interrupts.left_by, Leave)
    store = life.Interrupts()
    failure = exceptions.StorageFailure("down")

    def down():
        calls.append(2)
        raise failure

    store.defy(down)
    assert (calls.count(2), store.left_by, store.not_saved) == (1, failure, failure)


class Marks(task.Task):
    def __init__(self, name, path):
        super().__init__(name)
        self.path = path

    def execute(self):
        with pathlib.Path(self.path).open("a", encoding="ascii") as marks:
            marks.write(f"{self.name}\n")


@pytest.mark.parametrize("kind", [linear_flow.Flow, unordered_flow.Flow])
def test_results_of_worker_processes_are_on_record_when_each_of_them_interrupts_again(kind, tmp_path):
    path = str(tmp_path / "marks")
    flow = kind("f").add(*(Marks(f"t{n}", path) for n in range(4)))
    engine = engines.load(flow, executor="processes", max_workers=2)
    raise_at(engine.atom_notifier, "SUCCESS", SystemExit)
    raise_at(engine.notifier, "SUSPENDING", KeyboardInterrupt)
    for _ in range(6):
        with contextlib.suppress(SystemExit):
            engine.run()
        assert state(engine) in ("SUSPENDED", "SUCCESS")
        if state(engine) == "SUCCESS":
            break
    assert state(engine) == "SUCCESS"
    assert sorted((tmp_path / "marks").read_text().split()) == ["t0", "t1", "t2", "t3"]


class Holds(task.Task):
    begun: asyncio.Event
    go_on: asyncio.Event

    async def execute(self):
        self.begun.set()
        await self.go_on.wait()


def test_an_arun_that_is_interrupted_as_it_cancels_calls_waits_for_none_that_it_has_cancelled():
    for at in itertools.count(1):
        engine = engines.load(unordered_flow.Flow("f").add(*map(Holds, "abcdef")), executor="asyncio", max_workers=2)
        left = at

        def interrupt(frame, event, arg):
            nonlocal left
            if frame.f_code is not dispatch.Dispatch.cancel.__code__:
                return None
            left -= event == "line"
            if not left:
                left = -1
                raise KeyboardInterrupt
            return interrupt

        async def cancelled(engine=engine, interrupt=interrupt, at=at):
            Holds.begun, Holds.go_on = asyncio.Event(), asyncio.Event()
            running = asyncio.ensure_future(engine.arun())
            await Holds.begun.wait()
            kept = sys.gettrace()
            sys.settrace(interrupt)
            try:
                running.cancel()
                Holds.go_on.set()
                await asyncio.wait([running], timeout=WAIT)
            finally:
                sys.settrace(kept)
            assert running.done(), at
            running.cancelled() or running.exception()

        asyncio.run(cancelled())
        assert state(engine) == "SUSPENDED", at
        engine.run()
        assert state(engine) == "SUCCESS", at
        if left > 0:
            break
    assert at > 10


class Plugged(threads.ThreadsExecutor):
    """An executor of another package, by its looks."""

    __module__ = "elsewhere"


@pytest.mark.parametrize(
    "make", [aio.AsyncioExecutor, threads.ThreadsExecutor, Plugged], ids=lambda make: make.__name__
)
def test_an_executor_that_is_at_work_is_refused_to_a_second_engine_and_may_be_used_after_it(make):
    log, shared, refused = [], make(2), []

    def run_another():
        try:
            engines.load(steps(log, 1), executor=shared).run()
        except exceptions.InvalidState as error:
            refused.append(str(error))

    def run_another_elsewhere():
        thread = threading.Thread(target=run_another)
        thread.start()
        thread.join(WAIT)

    first = engines.load(
        unordered_flow.Flow("f").add(Step("a", log, run_another_elsewhere), Step("b", log)), executor=shared
    )
    first.run()
    assert sorted(log) == ["a", "b"]
    (said,) = refused
    assert "its executor is in use by the run of another engine" in said
    assert "a pool" in said
    run_another()
    assert first.storage.get_flow_state() == states.SUCCESS
    assert len(log) == 3
