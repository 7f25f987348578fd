"""Retries that wait: delays, their record, and what becomes of them when the run stops or is rolled back."""

import asyncio
import contextlib
import itertools
import threading

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, runs, states, task
from taskflowx.persistence import backends
from taskflowx.testing import Recorder, VirtualClock
from taskflowx.types.failure import Failure
from taskflowx.utils import persistence_utils
from tests.support import flows

DAY = 86_400.0
EXECUTORS = ["serial", "threads", "asyncio"]


class Flaky(task.Task):
    """Fails with one error after the other, and then succeeds; notes when it is called."""

    def __init__(self, name, clock, *errors, **settings):
        super().__init__(name, **settings)
        self.clock, self.errors, self.log = clock, list(errors), []

    def execute(self):
        self.log.append(self.clock.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def revert(self, **kwargs):
        self.log.append("undone")


def times(log):
    return [one for one in log if one != "undone"]


def run(flow, clock, **options):
    engine = engines.load(flow, clock=clock, **options)
    engine.run()
    return engine


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_retry_waits_between_its_attempts_and_what_failed_is_undone_at_once(executor):
    clock = VirtualClock()
    flaky = Flaky("dial", clock, OSError("1"), OSError("2"))
    run(flows.linear("f", flaky, controller=retry.Times(5, delay=15 * DAY)), clock, executor=executor)
    assert flaky.log == [0.0, "undone", 15 * DAY, "undone", 30 * DAY]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_delays_grow_by_the_factor_up_to_the_longest(executor):
    clock = VirtualClock()
    flaky = Flaky("dial", clock, *[OSError()] * 4)
    run(flows.linear("f", flaky, controller=retry.Times(9, delay=1, backoff=3, max_delay=8)), clock, executor=executor)
    assert times(flaky.log) == [0.0, 1.0, 4.0, 12.0, 20.0]


def test_jitter_changes_each_delay_by_a_fraction():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, *[OSError()] * 50)
    run(flows.linear("f", flaky, controller=retry.Times(99, delay=10, jitter=0.1)), clock)
    log = times(flaky.log)
    delays = [after - before for before, after in itertools.pairwise(log)]
    assert all(9 <= one <= 11 for one in delays)
    assert max(delays) - min(delays) > 0.5


def test_each_flow_waits_by_itself_while_the_others_go_on():
    clock = VirtualClock()
    tasks = [Flaky(f"t{n}", clock, OSError()) for n in range(100)]
    one_each = [flows.linear(one.name, one, controller=retry.Times(2, delay=n)) for n, one in enumerate(tasks)]
    run(flows.unordered("all", *one_each), clock)
    assert [times(one.log)[1] for one in tasks] == list(map(float, range(100)))


def test_a_task_sets_the_next_delay():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, retry.RetryAfter(30), OSError(), retry.RetryAfter(7, "busy"))
    run(flows.linear("f", flaky, controller=retry.Times(5, delay=1)), clock)
    assert times(flaky.log) == [0.0, 30.0, 31.0, 38.0]


def test_a_task_sets_the_next_delay_of_any_controller_that_retries():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, retry.RetryAfter(30))
    run(flows.linear("f", flaky, controller=retry.ForEach([1, 2])), clock)
    assert times(flaky.log) == [0.0, 30.0]


def test_of_several_failures_in_one_attempt_the_longest_delay_counts():
    clock = VirtualClock()
    tasks = [
        Flaky("a", clock, retry.RetryAfter(5)),
        Flaky("b", clock, retry.RetryAfter(50)),
        Flaky("c", clock, OSError()),
    ]
    run(flows.unordered("f", *tasks, controller=retry.Times(2, delay=1)), clock, executor="threads")
    assert [times(one.log) for one in tasks] == [[0.0, 50.0]] * 3


class Patient(retry.Retry):
    def execute(self, history):
        return None

    def on_failure(self, history):
        return retry.again(after=10.0 * len(history)) if len(history) < 3 else retry.REVERT


def test_a_controller_of_ones_own_says_when():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, OSError(), OSError())
    run(flows.linear("f", flaky, controller=Patient()), clock)
    assert times(flaky.log) == [0.0, 10.0, 30.0]


# ------------------------------------------------------------------------------------ which failures, and how long


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"retry_on": ConnectionError}, ValueError("a")),
        ({"retry_on": (ConnectionError, "TimeoutError")}, ValueError("a")),
        ({"give_up_on": ValueError}, ValueError("a")),
        ({"give_up_on": lambda failure: "a" in failure.exception_str}, ValueError("a")),
        ({"retry_on": OSError, "give_up_on": FileNotFoundError}, FileNotFoundError("a")),
    ],
    ids=["not_named", "none_of_two", "given_up", "predicate", "both"],
)
def test_what_is_not_to_be_retried_is_not(settings, error):
    clock = VirtualClock()
    flaky = Flaky("dial", clock, error)
    with pytest.raises(type(error), match="a"):
        run(flows.linear("f", flaky, controller=retry.Times(3, delay=1, **settings)), clock)
    assert flaky.log == [0.0, "undone"]


def test_giving_up_undoes_as_much_as_the_last_attempt_would():
    clock = VirtualClock()
    first, flaky = Flaky("first", clock), Flaky("dial", clock, ValueError("never"))
    controller = retry.Times(3, give_up_on=ValueError, revert_all=True)
    with pytest.raises(ValueError, match="never"):
        run(flows.linear("f", first, flows.linear("g", flaky, controller=controller)), clock)
    assert first.log == [0.0, "undone"]


def test_no_attempt_begins_after_the_deadline_over_all_of_them():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, *[OSError("no")] * 9)
    with pytest.raises(OSError, match="no"):
        run(flows.linear("f", flaky, controller=retry.Times(9, delay=10, deadline=35)), clock)
    assert times(flaky.log) == [0.0, 10.0, 20.0, 30.0]


def test_a_predicate_that_raises_is_a_failure_of_the_controller():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, OSError("no"))

    def predicate(failure):
        raise KeyError("predicate")

    with pytest.raises(exceptions.WrappedFailure) as caught:
        run(flows.linear("f", flaky, controller=retry.Times(3, retry_on=predicate)), clock)
    assert caught.value.check(KeyError)
    assert flaky.log == [0.0, "undone"]


# -------------------------------------------------------------------------------------------- one task under a retry


def test_a_task_with_a_retry_is_a_flow_of_that_task_under_that_controller():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, OSError(), retry=retry.Times(3, delay=5))
    first = Flaky("first", clock)
    engine = engines.load(flows.linear("f", first, flaky), clock=clock)
    with Recorder(engine) as seen:
        engine.run()
    assert (first.log, flaky.log) == ([0.0], [0.0, "undone", 5.0])
    assert seen.states("dial_retry") == ["RUNNING", "SUCCESS", "RETRYING", "RUNNING", "SUCCESS"]
    assert engine.storage.get("dial") == "done"


# ----------------------------------------------------------------------------------- suspension, resume, rollback


def durable(flow, clock, book, backend, **options):
    return engines.load(flow, clock=clock, flow_detail=next(iter(book)), book=book, backend=backend, **options)


@pytest.fixture
def backend(tmp_path):
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as made:
        yield made


def a_book(backend):
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    return persistence_utils.temporary_flow_detail(backend)[0]


def test_a_resume_waits_for_the_rest_and_no_longer(backend):
    clock = VirtualClock(start=1000.0)
    flaky = Flaky("dial", clock, OSError())
    flow = flows.linear("f", flaky, controller=retry.Times(2, delay=100))
    book = a_book(backend)
    with pytest.raises(TimeoutError):
        durable(flow, clock, book, backend).run(timeout=30)
    assert flaky.log == [0.0, "undone"]

    later = VirtualClock(start=1070.0)  # another process, 40 seconds after that
    flaky.clock = later
    engine = durable(flow, later, book, backend)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    engine.run()
    assert flaky.log == [0.0, "undone", 30.0]


@pytest.mark.parametrize(
    ("at", "waits"),
    [(5000.0, 0.0), (0.0, 100.0)],
    ids=["the time has come: not at all", "the time of day was set back: the delay, and no longer"],
)
def test_a_resume_at_another_time_of_day_waits(backend, at, waits):
    clock = VirtualClock(start=1000.0)
    flaky = Flaky("dial", clock, OSError())
    flow = flows.linear("f", flaky, controller=retry.Times(2, delay=100))
    book = a_book(backend)
    with pytest.raises(TimeoutError):
        durable(flow, clock, book, backend).run(timeout=30)
    flaky.clock = VirtualClock(start=at)
    durable(flow, flaky.clock, book, backend).run()
    assert flaky.log == [0.0, "undone", waits]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_suspending_leaves_what_waits(executor):
    clock = VirtualClock()
    flaky = Flaky("dial", clock, OSError())
    engine = engines.load(
        flows.linear("f", flaky, controller=retry.Times(2, delay=100)), clock=clock, executor=executor
    )
    with pytest.raises(TimeoutError):
        engine.run(timeout=40)
    assert (clock.monotonic(), flaky.log) == (40.0, [0.0, "undone"])
    assert engine.storage.get_flow_state() == states.SUSPENDED
    engine.run()
    assert flaky.log == [0.0, "undone", 100.0]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_waits_is_rolled_back_with_the_flow_around_it(executor):
    clock = VirtualClock()
    first = Flaky("first", clock, OSError())
    second = Flaky("second", clock, retry.RetryAfter(10), ValueError("stop"))
    inner = flows.linear("inner", first, controller=retry.Times(3, delay=100))
    other = flows.linear("other", second, controller=retry.Times(2, revert_all=True))
    engine = engines.load(flows.unordered("f", inner, other), clock=clock, executor=executor)
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert caught.value.check(ValueError)
    assert (clock.monotonic(), first.log) == (10.0, [0.0, "undone"])
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []


def test_what_waits_begins_anew_with_the_retry_around_it():
    clock = VirtualClock()
    first = Flaky("first", clock, OSError())
    second = Flaky("second", clock, retry.RetryAfter(10), ValueError("stop"))
    inner = flows.linear("inner", first, controller=retry.Times(3, delay=100))
    other = flows.linear("other", second, controller=retry.Times(2))
    outer = flows.unordered("outer", inner, other, controller=retry.Times(2, delay=1))
    run(outer, clock, defer_reverts=True)
    assert (clock.monotonic(), times(first.log), times(second.log)) == (11.0, [0.0, 11.0], [0.0, 10.0, 11.0])


@pytest.mark.parametrize("executor", EXECUTORS)
def test_rollback_of_a_run_that_waits_does_not_wait(executor):
    clock = VirtualClock()
    first, flaky = Flaky("first", clock), Flaky("dial", clock, OSError())
    flow = flows.linear("f", first, flows.linear("g", flaky, controller=retry.Times(2, delay=100)))
    engine = engines.load(flow, clock=clock, executor=executor)
    with pytest.raises(TimeoutError):
        engine.run(timeout=40)
    engine.rollback()
    assert (clock.monotonic(), first.log) == (40.0, [0.0, "undone"])
    assert engine.storage.get_flow_state() == states.REVERTED


def test_delays_are_waited_for_in_the_loop_of_the_caller():
    clock = VirtualClock()
    flaky = Flaky("dial", clock, OSError())
    engine = engines.load(
        flows.linear("f", flaky, controller=retry.Times(2, delay=30 * DAY)), clock=clock, executor="asyncio"
    )
    asyncio.run(engine.arun())
    assert times(flaky.log) == [0.0, 30 * DAY]


def test_a_run_that_waits_takes_no_turn_of_the_loop():
    class Counting(VirtualClock):
        waits = 0

        def wait_for(self, due, *, idle):
            self.waits += 1
            return super().wait_for(due, idle=idle)

    clock = Counting()
    flaky = Flaky("dial", clock, OSError())
    run(flows.linear("f", flaky, controller=retry.Times(2, delay=30 * DAY)), clock)
    assert clock.waits == 1


def test_failures_of_attempts_are_in_the_history_of_the_controller():
    clock = VirtualClock()
    seen = []

    class Looking(retry.Times):
        def on_failure(self, history, *args, **kwargs):
            seen.append([len(history), history.caused_by(OSError)])
            return super().on_failure(history)

    flaky = Flaky("dial", clock, OSError(), OSError())
    run(flows.linear("f", flaky, controller=Looking(3, delay=1)), clock)
    assert seen == [[1, True], [2, True]]


def test_an_error_that_asks_for_a_delay_goes_through_a_failure_as_text():
    failure = Failure.from_exception(retry.RetryAfter(30, "busy"))
    again = Failure.from_dict(failure.to_dict())
    assert again.check("taskflowx.retry.RetryAfter")
    assert again.exception_args[0] == 30


# ---------------------------------------------------------------------------------------------------------- reverts


class Sticky(task.Task):
    """Its revert fails a few times."""

    def __init__(self, name, clock, failures, **settings):
        super().__init__(name, **settings)
        self.clock, self.failures, self.log = clock, failures, []

    def execute(self):
        return None

    def revert(self, **kwargs):
        self.log.append(self.clock.monotonic())
        if len(self.log) <= self.failures:
            raise OSError(f"failure {len(self.log)}")


def failing():
    raise ValueError("no")


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("mode", ["halt", "continue"])
def test_a_revert_is_tried_again(executor, mode):
    clock = VirtualClock()
    first, sticky = Flaky("first", clock), Sticky("sticky", clock, 2, revert_retry=retry.Times(3, delay=5, backoff=2))
    flow = flows.linear("f", first, sticky, flows.Calls("bad", failing))
    engine = engines.load(flow, clock=clock, executor=executor, on_revert_failure=mode)
    with Recorder(engine) as seen, pytest.raises(ValueError, match="no"):
        engine.run()
    assert sticky.log == [0.0, 5.0, 15.0]
    assert first.log == [0.0, "undone"]
    assert seen.states("sticky")[-4:] == ["REVERTING", "REVERT_FAILURE", "REVERTING", "REVERTED"]
    assert engine.storage.get_flow_state() == states.REVERTED


@pytest.mark.parametrize("mode", ["halt", "continue"])
def test_a_revert_without_attempts_left_has_failed_as_ever(mode):
    clock = VirtualClock()
    first, sticky = Flaky("first", clock), Sticky("sticky", clock, 9, revert_retry=retry.Times(3))
    flow = flows.linear("f", first, sticky, flows.Calls("bad", failing))
    engine = engines.load(flow, clock=clock, on_revert_failure=mode)
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    assert len(sticky.log) == 3
    assert engine.storage.get_atom_state("sticky") == states.REVERT_FAILURE
    assert engine.not_undone() == (["first", "sticky"] if mode == "halt" else ["sticky"])


def test_a_revert_that_is_not_to_be_tried_again_is_not():
    clock = VirtualClock()
    sticky = Sticky("sticky", clock, 1, revert_retry=retry.Times(3, retry_on=ConnectionError))
    engine = engines.load(flows.linear("f", sticky, flows.Calls("bad", failing)), clock=clock)
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    assert len(sticky.log) == 1


def test_a_suspended_run_reverts_again_when_the_time_has_come():
    clock = VirtualClock()
    sticky = Sticky("sticky", clock, 1, revert_retry=retry.Times(3, delay=100))
    engine = engines.load(flows.linear("f", sticky, flows.Calls("bad", failing)), clock=clock)
    with pytest.raises(TimeoutError):
        engine.run(timeout=30)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    with pytest.raises(ValueError, match="no"):
        engine.run()
    assert sticky.log == [0.0, 100.0]


@pytest.mark.parametrize(
    ("controller", "moments"),
    [
        (retry.Times(3, delay=100), [0.0, 100.0, 200.0]),
        (retry.Times(9, delay=100, deadline=250), [0.0, 100.0, 200.0]),
    ],
)
def test_the_attempts_and_the_deadline_of_a_revert_are_over_all_runs(controller, moments, tmp_path):
    clock = VirtualClock()
    sticky = Sticky("sticky", clock, 99, revert_retry=controller)
    flow = flows.linear("f", sticky, flows.Calls("bad", failing))
    for _ in moments[:-1]:  # each run is an engine of its own
        with taskflowx.load(flow, clock=clock, backend=f"{tmp_path}/r.db", run_id="r") as engine:
            with pytest.raises(TimeoutError):
                engine.run(timeout=60)
            clock.advance(40)
    with taskflowx.load(flow, clock=clock, backend=f"{tmp_path}/r.db", run_id="r") as engine:
        with pytest.raises(exceptions.WrappedFailure):
            engine.run()
        assert sticky.log == moments
        assert engine.storage.get_atom_state("sticky") == states.REVERT_FAILURE
        sticky.failures = len(moments) + 1  # who tries again by hand has all attempts again
        with pytest.raises(exceptions.WrappedFailure):
            engine.retry_failed()
        assert engine.storage.get_flow_state() == states.REVERTED
    assert len(sticky.log) == len(moments) + 2


@pytest.mark.parametrize("durability", ["strict", "exit"])
def test_a_revert_that_waits_is_on_record(durability, tmp_path):
    """Another process sees it while the run waits."""
    address, seen = f"{tmp_path}/r.db", []

    class Looking(VirtualClock):
        def wait_for(self, due, *, idle):
            if idle and not seen:
                with runs.open(address) as opened:
                    seen.extend(one.state for one in opened.get("r").atoms if one.name == "sticky")
            return super().wait_for(due, idle=idle)

    clock = Looking()
    sticky = Sticky("sticky", clock, 1, revert_retry=retry.Times(3, delay=100))
    flow = flows.linear("f", sticky, flows.Calls("bad", failing))
    with pytest.raises(ValueError, match="no"):
        taskflowx.run(flow, clock=clock, backend=address, run_id="r", durability=durability)
    assert seen == [states.REVERT_FAILURE]


@pytest.mark.parametrize("moved", [-3600, 3600])
def test_the_deadline_of_a_retry_counts_on_when_the_time_of_day_is_set(moved):
    class Set(VirtualClock):
        moved = 0

        def time(self):
            return super().time() + self.moved

    class Moves(Flaky):
        def execute(self):
            self.clock.moved = moved
            return super().execute()

    clock = Set()
    flaky = Moves("dial", clock, *[OSError("busy") for _ in range(99)])
    with pytest.raises(OSError, match="busy"):
        run(flows.linear("f", flaky, controller=retry.Times(99, delay=10, deadline=35)), clock)
    assert times(flaky.log) == [0.0, 10.0, 20.0, 30.0]


def test_a_delay_is_waited_before_1970():
    clock = VirtualClock(start=-1000)
    flaky = Flaky("dial", clock, OSError())
    run(flows.linear("f", flaky, controller=retry.Times(2, delay=100)), clock)
    assert times(flaky.log) == [0.0, 100.0]


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_a_run_that_waits_has_no_threads(executor):
    before, waiting = threading.active_count(), []

    class Looking(VirtualClock):
        def wait_for(self, due, *, idle):
            if idle:
                waiting.append(threading.active_count() - before)
            return super().wait_for(due, idle=idle)

    clock = Looking()
    tasks = [Flaky(f"t{n}", clock, OSError(), retry=retry.Times(2, delay=100)) for n in range(8)]
    run(flows.unordered("f", *tasks), clock, executor=executor, max_workers=4)
    assert waiting == [0]
    assert all(times(one.log) == [0.0, 100.0] for one in tasks)
