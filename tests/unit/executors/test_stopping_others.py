"""Coroutines, calls of pools, green threads and executors of others that are interrupted and given up."""

import asyncio
import concurrent.futures
import gc
import logging
import queue
import threading
import warnings

import pytest

from taskflowx import exceptions, states, task
from taskflowx.executors import aio, base, futures, guard, stopping, threads
from taskflowx.testing import executor_contract


class Coroutine(task.Task):
    """Awaits a coroutine function of the test.

    :param work: gets the task
    """

    def __init__(self, name, work):
        super().__init__(name)
        self.work = work

    async def execute(self):
        return await self.work(self)


class Held(task.Task):
    """Runs until the test lets it go."""

    def __init__(self, name):
        super().__init__(name)
        self.began, self.go, self.seen = threading.Event(), threading.Event(), None

    def execute(self):
        self.began.set()
        assert self.go.wait(30)
        try:
            stopping.checkpoint()
        except exceptions.TaskFlowException as error:
            self.seen = error
        return "late"


def call_of(atom, index=0):
    return base.Call(index, atom, states.EXECUTE, {})


def hear(driven):
    """Wait for one more delivery, and return it."""
    count = len(driven.delivered)
    while len(driven.delivered) == count:
        driven.wait(5)
    return driven.delivered[-1]


# -- coroutines ------------------------------------------------------------------------------------


async def sleeps(_):
    await asyncio.Event().wait()


async def swallows(_):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


async def returns(_):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "in spite of it"


async def raises(_):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise OSError("connection lost")  # noqa: B904 - as libraries do


async def asks(_):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.to_thread(stopping.checkpoint)


@pytest.fixture
def driven():
    started = []

    def drive(executor):
        started.append(executor_contract.Driven(executor))
        return started[-1]

    yield drive
    for one in started:
        one.stop()


@pytest.mark.parametrize("most", [None, 3])
@pytest.mark.parametrize("work", [sleeps, raises, asks])
def test_what_a_coroutine_was_interrupted_by_is_what_it_failed_with(driven, caplog, work, most):
    one, error = driven(aio.AsyncioExecutor(most)), exceptions.TimeoutExceeded("too long")
    call = call_of(Coroutine("a", work))
    one.executor.submit([call])
    one.wait(0.01)
    with caplog.at_level(logging.ERROR):
        one.executor.interrupt(call, error)
        one.executor.interrupt(call, exceptions.Cancelled("a second time"))
    delivered, outcome = hear(one)
    assert (delivered, outcome.exception) == (call, error)
    assert len(one.stop()) == 1


def test_what_a_coroutine_returns_in_spite_of_it_is_its_result(driven):
    one = driven(aio.AsyncioExecutor())
    call = call_of(Coroutine("a", returns))
    one.executor.submit([call])
    one.wait(0.01)
    one.executor.interrupt(call, exceptions.TimeoutExceeded("too long"))
    assert hear(one) == (call, "in spite of it")
    assert not one.executor.abandon(call)


@pytest.mark.parametrize("most", [None, 1])
def test_a_coroutine_that_has_not_begun_never_begins(driven, most):
    one, error, begun = driven(aio.AsyncioExecutor(most)), exceptions.Cancelled("enough"), []

    async def begins(of):
        begun.append(of.name)
        await sleeps(of)

    calls = [call_of(Coroutine(name, begins), i) for i, name in enumerate("ab")]
    one.executor.submit(calls)
    for call in calls:
        one.executor.interrupt(call, error)
    delivered = sorted((hear(one) for _ in calls), key=lambda item: item[0].index)
    assert [call for call, _ in delivered] == calls
    assert [outcome.failure.exception for _, outcome in delivered] == [error, error]
    assert begun == []


def test_a_coroutine_that_swallows_it_is_left_behind_and_its_place_goes_to_another_one(driven, caplog):
    one = driven(aio.AsyncioExecutor(1))
    first, second = calls = [call_of(Coroutine(name, work)) for name, work in (("a", swallows), ("b", sleeps))]
    one.executor.submit(calls)
    one.wait(0.01)
    one.executor.interrupt(first, exceptions.Cancelled("a"))
    one.wait(0.01)
    assert [one.executor.abandon(first), one.executor.abandon(second)] == [True, False]
    one.wait(0.01)
    one.executor.interrupt(second, exceptions.Cancelled("b"))
    assert hear(one)[0] is second
    with caplog.at_level(logging.WARNING):
        assert len(one.stop()) == 1
        gc.collect()  # noqa: TID251 - the rest of the coroutine
    assert caplog.messages == []


def test_in_the_loop_of_the_caller_what_is_left_behind_goes_on_and_is_refused(caplog):
    executor, go = aio.AsyncioExecutor(), []

    async def ends_late(_):
        go.append(asyncio.Event())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go[0].wait()
            return "late"

    async def main():
        executor.use(asyncio.get_running_loop())
        delivered = executor.make_queue()
        executor.start(delivered.put)
        calls = [call_of(Coroutine(name, work)) for name, work in (("a", ends_late), ("b", sleeps))]
        executor.submit(calls)
        await asyncio.sleep(0)
        for call in calls:
            executor.interrupt(call, exceptions.Cancelled("enough"))
        await executor.filled(5)
        assert delivered.get_nowait()[0] is calls[1]
        assert executor.abandon(calls[0])
        executor.stop()
        executor.use(None)
        go[0].set()
        await asyncio.sleep(0.01)
        with pytest.raises(queue.Empty):
            delivered.get_nowait()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.messages == ["Atom 'a' was given up, and its execute has succeeded late; the outcome is refused"]


# -- pools of others -------------------------------------------------------------------------------


def test_a_call_in_a_pool_is_cancelled_told_or_given_up(driven, caplog):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        one = driven(futures.FuturesExecutor(pool))
        held, waiting = calls = [Held("held"), Held("waiting")]
        first, second = (call_of(atom, i) for i, atom in enumerate(calls))
        one.executor.submit([first, second])
        assert held.began.wait(30)
        errors = {call: exceptions.TimeoutExceeded(call.atom.name) for call in (first, second)}
        for call, error in errors.items():
            one.executor.interrupt(call, error)
        call, outcome = hear(one)
        assert (call, outcome.failure.exception) == (second, errors[second])
        assert [one.executor.abandon(call) for call in (first, first, second)] == [True, True, False]
        assert len(one.stop()) == 1
        with caplog.at_level(logging.WARNING):
            held.go.set()
            pool.shutdown()
    assert caplog.messages == ["Atom 'held' was given up, and its execute has succeeded late; the outcome is refused"]
    assert (held.seen, waiting.began.is_set()) == (errors[first], False)
    assert len(one.stop()) == 1


def test_a_pool_that_was_made_for_a_run_is_not_waited_for_when_a_call_in_it_was_given_up(driven):
    pools = []

    def make():
        pools.append(concurrent.futures.ThreadPoolExecutor(1))
        return pools[-1]

    one, held = driven(futures.FuturesExecutor(make=make)), Held("held")
    call = call_of(held)
    one.executor.submit([call])
    assert held.began.wait(30)
    one.executor.interrupt(call, exceptions.Cancelled("enough"))
    assert one.executor.abandon(call)
    assert one.stop() == []
    held.go.set()
    pools[0].shutdown()
    assert one.delivered == []


# -- executors of others ---------------------------------------------------------------------------


class Simple(base.Executor):
    """Runs each call in a thread of its own, and knows nothing of interrupts."""

    def start(self, deliver):
        self.deliver, self.threads = deliver, []

    def submit(self, calls):
        for call in calls:
            self.threads.append(threading.Thread(target=self.make, args=(call,)))
            self.threads[-1].start()

    def make(self, call):
        self.deliver((call, base.perform(call.atom, call.verb, call.kwargs)))

    def recall(self):
        return []

    def stop(self):
        for one in self.threads:
            one.join()


def test_a_call_that_its_executor_cannot_give_up_is_given_up_by_the_guard(driven, caplog):
    one = driven(guard.guarded(Simple()))
    held, other = Held("held"), Held("other")
    first, second = calls = [call_of(held), call_of(other, 1)]
    one.executor.submit(calls)
    assert held.began.wait(30)
    assert (one.executor.stops, one.executor.abandon(first)) == ("abandons", False)
    one.executor.interrupt(first, exceptions.Cancelled("enough"))
    assert [one.executor.abandon(call) for call in (first, first, second)] == [True, True, False]
    threading.Timer(0.05, other.go.set).start()
    assert one.stop() == [(second, "late")]
    with caplog.at_level(logging.WARNING):
        held.go.set()
        for thread in threading.enumerate():
            if thread.name == "taskflowx-stop":
                thread.join(30)
    assert caplog.messages == ["Atom 'held' was given up, and its execute has succeeded late; the outcome is refused"]
    assert len(one.stop()) == 1


def test_what_an_executor_raises_when_it_is_to_stop_a_call_is_logged(driven, caplog):
    class Raises(Simple):
        stops = "cancels"

        def interrupt(self, call, error):
            raise ValueError("no interrupt")

        def abandon(self, call):
            raise ValueError("no abandon")

    one, held = driven(guard.guarded(Raises())), Held("held")
    call = call_of(held)
    one.executor.submit([call])
    with caplog.at_level(logging.WARNING):
        one.executor.interrupt(call, exceptions.Cancelled("enough"))
        given_up = one.executor.abandon(call)
    held.go.set()
    assert (one.executor.stops, given_up, one.stop()) == ("cancels", True, [])
    assert caplog.messages[:2] == ["Raises failed to interrupt atom 'held'", "Raises failed to abandon atom 'held'"]


# -- races -----------------------------------------------------------------------------------------


@pytest.fixture
def own_pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("kind", ["threads", "asyncio", "pool", "guarded"])
def test_a_call_that_ends_while_it_is_given_up_is_either_delivered_or_given_up(driven, own_pool, kind):
    makers = {
        "threads": lambda: threads.ThreadsExecutor(1),
        "asyncio": lambda: aio.AsyncioExecutor(1),
        "pool": lambda: futures.FuturesExecutor(own_pool),
        "guarded": lambda: guard.guarded(Simple()),
    }
    executor, happened = makers[kind](), set()
    for turn in range(60):
        one, held = executor_contract.Driven(executor), Held("held")
        call = call_of(held)
        executor.submit([call])
        assert held.began.wait(30)
        executor.interrupt(call, exceptions.Cancelled("enough"))
        held.go.set()
        for _ in range(turn * 40):
            pass
        given_up = executor.abandon(call)
        delivered = one.stop()
        assert len(delivered) == (not given_up), f"turn {turn}"
        happened.add(given_up)
    assert happened


# -- green threads ---------------------------------------------------------------------------------


@pytest.fixture
def eventlet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eventlet warns of itself
        return pytest.importorskip("eventlet")


def test_an_error_is_raised_in_a_green_thread_where_it_waits(eventlet, driven):
    from taskflowx.executors import green

    class Waits(task.Task):
        swallows = 0

        def execute(self):
            while True:
                try:
                    eventlet.sleep(3600)
                except exceptions.Cancelled:
                    self.swallows -= 1
                    if self.swallows < 0:
                        raise

    one = driven(green.pool(2))
    atoms = [Waits(name) for name in ("heeds", "swallows", "waiting", "after")]
    atoms[1].swallows = 1
    calls = [call_of(atom, i) for i, atom in enumerate(atoms)]
    errors = [exceptions.Cancelled(atom.name) for atom in atoms]
    one.executor.submit(calls)
    one.wait(0.01)
    one.executor.interrupt(calls[2], errors[2])
    call, outcome = hear(one)
    assert (call, outcome.failure.exception) == (calls[2], errors[2])
    for _ in range(2):
        for call, error in zip(calls[:2], errors[:2], strict=True):
            one.executor.interrupt(call, error)
    call, outcome = hear(one)
    assert (one.executor.stops, call, outcome.exception) == ("cancels", calls[0], errors[0])
    one.wait(0.01)
    assert [one.executor.abandon(call) for call in calls] == [False, True, False, False]
    one.executor.interrupt(calls[3], errors[3])
    call, outcome = hear(one)
    assert (call, outcome.exception) == (calls[3], errors[3])
    assert len(one.stop()) == 3
