"""Time limits of tasks, reverts, flows and runs, by a clock that the tests hold."""

import asyncio
import contextlib
import os
import signal
import threading

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow
from taskflowx.persistence import backends, models
from taskflowx.testing import Recorder, VirtualClock
from tests.support import flows


class Step(task.Task):
    """Does what it is given to do, and notes what becomes of it."""

    def __init__(self, name, does=lambda: None, undoes=lambda: None, **settings):
        super().__init__(name, **settings)
        self.does, self.undoes, self.log = does, undoes, []

    def execute(self):
        self.log.append("called")
        return self.does()

    def revert(self, result, **kwargs):
        self.log.append(result if not isinstance(result, taskflowx.Failure) else result.exception_str)
        self.undoes()


def spin(clock):
    """Let time pass until the call is told to stop."""

    def spins():
        for _ in range(10_000_000):
            clock.advance(1)
            taskflowx.checkpoint()
        raise AssertionError("nobody has told it to stop")

    return spins


async def wait_for_ever():
    await asyncio.Event().wait()


def run(flow, clock, **options):
    engine = engines.load(flow, clock=clock, **options)
    with Recorder(engine) as seen:
        try:
            engine.run()
        except Exception as error:  # noqa: BLE001 - the tests look at it
            return engine, error, seen
    return engine, None, seen


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_task_that_looks_is_stopped_at_its_limit_and_undone(executor):
    clock = VirtualClock()
    first, slow = Step("first"), Step("slow", spin(clock), timeout=5)
    engine, error, _ = run(flows.linear("f", first, slow), clock, executor=executor)
    assert isinstance(error, exceptions.TimeoutExceeded)
    assert isinstance(error, TimeoutError)
    assert str(error) == "Task 'slow' has exceeded its time limit of 5 seconds"
    assert slow.log == ["called", str(error)]
    assert first.log == ["called", None]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_in_the_thread_of_the_engine_one_that_never_looks_is_told_at_its_end():
    clock = VirtualClock()

    def late():
        clock.advance(7)
        return "volume-17"

    slow = Step("slow", late, timeout=5, provides="volume")
    _, error, _ = run(flows.linear("f", slow), clock)
    assert str(error) == "Task 'slow' has exceeded its time limit of 5 seconds"
    assert slow.log == ["called", "volume-17"]  # its revert gets what it has made


def test_one_that_ends_in_time_has_succeeded():
    clock = VirtualClock()
    quick = Step("quick", lambda: clock.advance(4.5), timeout=5)
    engine, error, _ = run(flows.linear("f", quick), clock)
    assert error is None
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_thread_that_never_looks_is_left_alone_after_the_grace_and_its_result_is_refused(caplog):
    clock, release, ended = VirtualClock(), threading.Event(), threading.Event()

    def deaf():
        while not release.wait(0.001):
            clock.advance(1)
        ended.set()
        return "too late"

    slow, other = Step("slow", deaf, timeout=5, grace=3), Step("other")
    engine, error, _ = run(flows.linear("f", other, slow), clock, executor="threads", max_workers=1)
    assert str(error) == "Task 'slow' has exceeded its time limit of 5 seconds"
    assert (slow.log, other.log) == (["called", str(error)], ["called", None])
    assert engine.storage.get_flow_state() == states.REVERTED
    release.set()
    assert ended.wait(60)
    assert "slow" in caplog.text


def test_a_coroutine_is_cancelled_at_its_limit():
    clock = VirtualClock()

    class Waits(task.Task):
        async def execute(self):
            clock.advance(9)
            await wait_for_ever()

    _, error, _ = run(flows.linear("f", Waits("waits", timeout=5)), clock, executor="asyncio")
    assert isinstance(error, exceptions.TimeoutExceeded)


def test_a_coroutine_is_cancelled_at_its_limit_in_the_loop_of_the_caller():
    clock = VirtualClock()

    class Waits(task.Task):
        async def execute(self):
            clock.advance(9)
            await wait_for_ever()

    engine = engines.load(flows.linear("f", Waits("waits", timeout=5)), clock=clock, executor="asyncio")
    with pytest.raises(exceptions.TimeoutExceeded, match="'waits'"):
        asyncio.run(engine.arun())


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_each_attempt_has_the_limit_to_itself_and_the_error_says_which_it_was(executor):
    clock = VirtualClock()
    slow = Step("slow", spin(clock), timeout=5)
    _, error, seen = run(flows.linear("f", slow, controller=retry.Times(3, delay=10)), clock, executor=executor)
    assert str(error) == "Task 'slow' has exceeded its time limit of 5 seconds (attempt 3 of 3)"
    assert seen.states("slow").count("FAILURE") == 3


def test_what_a_task_makes_of_the_error_is_its_cause():
    clock = VirtualClock()

    def wraps():
        try:
            spin(clock)()
        except TimeoutError as error:
            raise RuntimeError("the device is gone") from error

    _, error, _ = run(flows.linear("f", Step("slow", wraps, timeout=5)), clock, executor="threads")
    assert isinstance(error, exceptions.TimeoutExceeded)
    assert str(error.cause) == "the device is gone"


# ---------------------------------------------------------------------------------------------------------- reverts


def test_a_revert_that_exceeds_its_limit_has_failed():
    clock = VirtualClock()

    def fails():
        raise ValueError("no")

    slow = Step("slow", undoes=spin(clock), revert_timeout=5)
    engine, error, _ = run(flows.linear("f", slow, Step("bad", fails)), clock, executor="threads")
    assert "The revert of task 'slow' has exceeded its time limit of 5 seconds" in str(error)
    assert engine.storage.get_atom_state("slow") == states.REVERT_FAILURE
    assert engine.not_undone() == ["slow"]


def test_a_late_revert_in_the_thread_of_the_engine_has_undone_it():
    clock = VirtualClock()

    def fails():
        raise ValueError("no")

    slow = Step("slow", undoes=lambda: clock.advance(9), revert_timeout=5)
    engine, error, _ = run(flows.linear("f", slow, Step("bad", fails)), clock)
    assert isinstance(error, ValueError)
    assert engine.storage.get_atom_state("slow") == states.REVERTED


# ------------------------------------------------------------------------------------------------------------ flows


def timed(name, *members, timeout, controller=None):
    return linear_flow.Flow(name, controller, timeout=timeout).add(*members)


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_the_limit_of_a_flow_counts_from_its_first_start(executor):
    clock = VirtualClock()
    before = Step("before", lambda: clock.advance(100))
    steps = [Step(f"s{n}", lambda: clock.advance(4)) for n in range(5)]
    engine, error, _ = run(flows.linear("f", before, timed("inner", *steps, timeout=10)), clock, executor=executor)
    assert str(error) == "Flow 'inner' has exceeded its time limit of 10 seconds"
    assert [len(one.log) for one in steps] == [2, 2, 2, 0, 0]
    assert engine.storage.get_flow_state() == states.REVERTED


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_what_runs_in_a_flow_is_stopped_at_its_limit(executor):
    clock = VirtualClock()
    slow = Step("slow", spin(clock))
    _, error, _ = run(timed("f", Step("a"), slow, timeout=10), clock, executor=executor, inline=False)
    assert str(error) == "Flow 'f' has exceeded its time limit of 10 seconds"
    assert slow.log == ["called", str(error)]


def test_in_the_thread_of_the_engine_a_task_is_told_of_the_limit_of_its_flow():
    clock = VirtualClock()
    slow = Step("slow", spin(clock), timeout=100)
    _, error, _ = run(linear_flow.Flow("f", timeout=5).add(flows.linear("inner", slow)), clock)
    assert str(error) == "Flow 'f' has exceeded its time limit of 5 seconds"
    assert slow.log == ["called", str(error)]
    assert clock.monotonic() == 5


def test_in_the_thread_of_the_engine_the_last_task_of_a_flow_is_told_at_its_end():
    clock = VirtualClock()
    slow = Step("slow", lambda: clock.advance(7))
    engine, error, _ = run(linear_flow.Flow("f", timeout=5).add(slow), clock)
    assert str(error) == "Flow 'f' has exceeded its time limit of 5 seconds"
    assert slow.log == ["called", None]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_revert_may_end_after_the_limit_of_its_flow():
    clock = VirtualClock()
    first = Step("first", undoes=lambda: (clock.advance(7), taskflowx.checkpoint()))
    second = Step("second", lambda: 1 / 0)
    engine, error, _ = run(linear_flow.Flow("f", timeout=5).add(first, second), clock)
    assert isinstance(error, ZeroDivisionError)
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_flow_within_gets_what_is_left():
    clock = VirtualClock()
    inner = timed("inner", Step("slow", lambda: clock.advance(6)), Step("next"), timeout=100)
    _, error, _ = run(timed("outer", Step("first", lambda: clock.advance(6)), inner, timeout=10), clock)
    assert str(error) == "Flow 'outer' has exceeded its time limit of 10 seconds"


def test_the_retry_of_a_flow_over_its_limit_is_not_asked_and_the_one_around_it_is():
    clock = VirtualClock()
    slow = Step("slow", lambda: clock.advance(20), timeout=15)
    inner = timed("inner", slow, timeout=30, controller=retry.Times(9, "inner_retry"))
    _, error, seen = run(
        flows.linear("outer", inner, controller=retry.Times(2, "outer_retry")), clock, defer_reverts=True
    )
    assert isinstance(error, exceptions.TimeoutExceeded)
    assert slow.log.count("called") == 4  # two attempts in each of two rounds: a round starts the time again
    assert seen.states("outer_retry").count("RETRYING") == 1


def test_a_retry_that_waits_gets_no_further_attempt_in_a_flow_over_its_limit():
    clock = VirtualClock()

    def fails():
        raise OSError("busy")

    flaky = Step("flaky", fails)
    flow = timed("f", flaky, timeout=10, controller=retry.Times(5, delay=100))
    _, error, _ = run(flow, clock)
    assert clock.monotonic() == 10.0
    assert "has exceeded its time limit of 10 seconds" in str(error)
    assert flaky.log.count("called") == 1


def test_a_retry_whose_flow_was_over_its_limit_before_it_would_wait_does_not_wait():
    clock = VirtualClock()

    def fails():
        raise OSError("busy")

    flaky = Step("flaky", fails, undoes=lambda: clock.advance(20))
    flow = timed("f", flaky, timeout=10, controller=retry.Times(5, delay=3600))
    _, error, _ = run(flow, clock)
    assert clock.monotonic() == 20.0
    assert "has exceeded its time limit of 10 seconds" in str(error)
    assert flaky.log.count("called") == 1


# ------------------------------------------------------------------------------------------------- runs, and cancels


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_run_is_rolled_back_when_its_time_is_up(executor):
    clock = VirtualClock()
    first, slow, never = Step("first"), Step("slow", spin(clock)), Step("never")
    engine = engines.load(flows.linear("f", first, slow, never), clock=clock, executor=executor)
    with pytest.raises(exceptions.TimeoutExceeded, match="was not finished after 5 seconds, and is rolled back"):
        engine.run(timeout=5, on_timeout="rollback")
    assert engine.storage.get_flow_state() == states.REVERTED
    assert (len(first.log), len(slow.log), never.log) == (2, 2, [])
    assert engine.not_undone() == []


def test_on_timeout_is_one_of_two():
    engine = engines.load(flows.linear("f", Step("a")))
    with pytest.raises(ValueError, match=r"on_timeout.*'suspend'.*'rollback'"):
        engine.run(timeout=5, on_timeout="undo")


def cancelling(rollback=True):
    """Return what cancels the run of the engine that is put into its list, and then looks."""
    put_in = []

    def cancels():
        put_in[0].cancel("maintenance", rollback=rollback)
        for _ in range(10_000_000):
            taskflowx.checkpoint()
        raise AssertionError("nobody has told it to stop")

    return put_in, cancels


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_cancelled_run_is_rolled_back(executor):
    put_in, cancels = cancelling()
    first, slow, never = Step("first"), Step("slow", cancels), Step("never")
    engine = engines.load(flows.linear("f", first, slow, never), executor=executor)
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled, match="maintenance") as caught:
        engine.run()
    assert caught.value.reason == "maintenance"
    assert engine.storage.get_flow_state() == states.REVERTED
    assert (first.log, slow.log, never.log) == (["called", None], ["called", "maintenance"], [])


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_cancelled_run_can_be_left_to_go_on(executor):
    put_in, cancels = cancelling(rollback=False)
    first, slow = Step("first"), Step("slow", cancels)
    engine = engines.load(flows.linear("f", first, slow), executor=executor)
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled, match="maintenance"):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    slow.does = lambda: None
    engine.run()
    assert (first.log, slow.log) == (["called"], ["called", "called"])
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_cancel_reaches_calls_in_other_threads_and_what_has_not_begun_never_does():
    begun, put_in = threading.Barrier(3), []

    def waits():
        begun.wait(60)
        for _ in range(10_000_000):
            taskflowx.checkpoint()

    tasks = [Step(f"t{n}", waits) for n in range(20)]
    engine = engines.load(flows.unordered("f", *tasks), executor="threads", max_workers=2)
    put_in.append(engine)

    def cancels():
        begun.wait(60)
        engine.cancel("enough")

    canceller = threading.Thread(target=cancels)
    canceller.start()
    with pytest.raises(exceptions.Cancelled, match="enough"):
        engine.run()
    canceller.join()
    assert sorted(len(one.log) for one in tasks) == [0] * 18 + [2] * 2


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_task_whose_decider_cancels_the_run_begins_in_the_next_one(executor):
    steps, asked = [Step(name) for name in "abc"], []

    def decides(history):
        asked.append(history)
        if len(asked) == 1:
            engine.cancel("enough", rollback=False)
        return True

    flow = graph_flow.Flow("f").add(*steps)
    flow.link(steps[0], steps[1], decider=decides)
    flow.link(steps[1], steps[2])
    engine = engines.load(flow, executor=executor)
    with contextlib.suppress(exceptions.Cancelled):
        engine.run()
    assert ([one.log for one in steps], engine.storage.get_flow_state()) == ([["called"], [], []], states.SUSPENDED)
    engine.run()
    assert ([one.log for one in steps], len(asked)) == ([["called"]] * 3, 2)


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_rollback_that_is_asked_for_after_a_pause_counts(executor):
    put_in = []

    def cancels():
        put_in[0].cancel("a pause", rollback=False)
        put_in[0].cancel("all back")
        put_in[0].cancel("another pause", rollback=False)
        taskflowx.checkpoint()

    first, slow = Step("first"), Step("slow", cancels)
    engine = engines.load(flows.linear("f", first, slow), executor=executor)
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled, match="all back"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []


def test_a_cancel_of_a_run_that_rolls_back_lets_it_finish():
    put_in = []

    def fails():
        raise ValueError("no")

    first = Step("first", undoes=lambda: put_in[0].cancel("enough"))
    engine = engines.load(flows.linear("f", Step("zero"), first, Step("bad", fails)))
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled, match="enough"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_who_cancels_again_does_not_stop_the_rollback(executor):
    clock = VirtualClock()
    steps = [Step(name) for name in "abc"]
    broken = Step("broken", lambda: 1 / 0)
    engine = engines.load(linear_flow.Flow("f").add(*steps, broken), executor=executor, clock=clock, inline=False)
    engine.atom_notifier.register(states.REVERTING, lambda *_: engine.cancel("again and again"))
    with pytest.raises(exceptions.Cancelled, match="again and again"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_who_leaves_the_run_at_each_revert_gets_one_step_further(executor):
    steps = [Step(name) for name in "ab"]
    broken = Step("broken", lambda: 1 / 0)
    engine = engines.load(linear_flow.Flow("f").add(*steps, broken), executor=executor, inline=False)
    engine.atom_notifier.register(states.REVERTING, lambda *_: engine.cancel("later", rollback=False))
    standing = []
    for _ in range(3):
        with pytest.raises(exceptions.Cancelled, match="later"):
            engine.run()
        standing.append(engine.not_undone())
    assert standing == [["a", "b"], ["a"], []]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_signal_handler_cancels_a_loop_that_sleeps(awaited):
    sleeps = threading.Event()

    class Waits(Step):
        async def execute(self):
            asyncio.get_running_loop().call_soon(sleeps.set)
            await wait_for_ever()

    engine = engines.load(flows.linear("f", Waits("waits")), executor="asyncio")
    before = signal.signal(signal.SIGUSR1, lambda *_: engine.cancel("by a signal"))
    sender = threading.Thread(target=lambda: (sleeps.wait(), os.kill(os.getpid(), signal.SIGUSR1)))
    sender.start()
    try:
        with pytest.raises(exceptions.Cancelled, match="by a signal"):
            asyncio.run(engine.arun()) if awaited else engine.run()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert engine.storage.get_flow_state() == states.REVERTED


def test_no_retry_is_asked_when_a_run_is_cancelled():
    put_in, cancels = cancelling()
    asked = []

    class Asked(retry.Times):
        def on_failure(self, history, *args, **kwargs):
            asked.append(len(history))
            return super().on_failure(history)

    engine = engines.load(flows.linear("f", Step("slow", cancels), controller=Asked(5, delay=100)))
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled):
        engine.run()
    assert asked == []
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_cancel_without_a_run_does_nothing():
    engine = engines.load(flows.linear("f", Step("a")))
    with pytest.raises(exceptions.InvalidState, match="cancel"):
        engine.cancel("too early")
    engine.run()
    engine.cancel("too late")
    assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize("reason", [None, 3, b"no"])
def test_the_reason_is_text(reason):
    with pytest.raises(TypeError, match="reason"):
        engines.load(flows.linear("f", Step("a"))).cancel(reason)


def test_a_cancelled_flow_can_be_reset_and_run_anew():
    put_in, cancels = cancelling()
    slow = Step("slow", cancels)
    engine = engines.load(flows.linear("f", slow))
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled):
        engine.run()
    slow.does = lambda: None
    engine.reset()
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS


# ----------------------------------------------------------------------------------------------------------- strict


class Coroutine(task.Task):
    async def execute(self):
        return None


@pytest.mark.parametrize(
    ("executor", "make", "kept"),
    [
        ("serial", Step, False),
        ("threads", Step, False),
        ("asyncio", Step, False),
        ("asyncio", Coroutine, True),
        ("processes", flows.Plain, True),
    ],
    ids=["serial", "threads", "function_on_asyncio", "coroutine", "processes"],
)
@pytest.mark.parametrize("of_flow", [False, True], ids=["task", "flow"])
def test_a_strict_limit_is_refused_where_it_cannot_be_kept(executor, make, kept, of_flow):
    settings = {"timeout": 60, "strict_timeout": True}
    one = make("one", **({} if of_flow else settings))
    flow = linear_flow.Flow("f", **(settings if of_flow else {})).add(one)
    engine = engines.load(flow, executor=executor, max_workers=1)
    engine.compile()
    engine.prepare()
    if kept:
        engine.validate()
        assert engine.storage.get_flow_state() == states.PENDING
        return
    whose = "flow 'f'" if of_flow else "task 'one'"
    with pytest.raises(exceptions.CompilationFailure, match=f"limit of {whose} is strict.*'{executor}'.*'one'"):
        engine.validate()


def test_a_strict_limit_of_a_revert_is_refused_where_it_cannot_be_kept():
    engine = engines.load(flows.linear("f", Step("one", revert_timeout=5, strict_timeout=True)))
    with pytest.raises(exceptions.CompilationFailure, match="cannot stop the revert of task 'one'"):
        engine.run()
    assert engine.storage.get_atom_state("one") == states.PENDING


def test_a_call_that_was_interrupted_before_and_cannot_begin_now_is_reverted():
    # An earlier call may have had its effect: the model found it with seed 52 on the serial executor.
    put_in, cancels = cancelling(rollback=False)
    clock = VirtualClock()

    def waits():
        clock.advance(3)
        cancels()

    slow = Step("slow", waits)
    engine = engines.load(timed("f", slow, timeout=5), clock=clock)
    put_in.append(engine)
    with pytest.raises(exceptions.Cancelled):
        engine.run()
    clock.advance(3)
    with pytest.raises(exceptions.TimeoutExceeded):
        engine.run()
    assert slow.log == ["called", "Flow 'f' has exceeded its time limit of 5 seconds"]


def test_who_goes_on_with_a_cancelled_run_undoes_the_rest_and_gets_its_reason(tmp_path):
    put_in, cancels = cancelling()
    first = Step("first")
    second = Step("second", undoes=lambda: put_in[0].suspend())  # noqa: PLW0108 - it comes later
    flow = flows.linear("f", first, second, Step("slow", cancels))
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        book = models.LogBook("b")
        engine = engines.load(flow, book=book, backend=backend)
        put_in.append(engine)
        with pytest.raises(exceptions.Cancelled, match="maintenance"):
            engine.run()
        assert engine.storage.get_flow_state() == states.SUSPENDED
        assert first.log == ["called"]
        with contextlib.closing(backend.get_connection()) as connection:
            record = connection.get_flow_details(engine.storage.flow_uuid)
        second.undoes = lambda: None
        other = engines.load(flow, flow_detail=record, backend=backend)
        with pytest.raises(exceptions.Cancelled, match="maintenance"):
            other.run()
        assert first.log == ["called", None]
        assert other.storage.get_flow_state() == states.REVERTED
