"""Runs that are awaited while they wait for the delay of a retry: no thread, no timer, and still within reach."""

import asyncio
import contextlib
import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.testing import VirtualClock
from tests.support import flows

EXECUTORS = ["serial", "threads", "asyncio"]


class Held(VirtualClock):
    """A clock that only its test moves; it knows whether the run has asked how long to wait with nothing under way."""

    rests = False

    def wait_for(self, due, *, idle):
        self.rests = self.rests or idle
        return super().wait_for(due, idle=False)


class Counting(asyncio.SelectorEventLoop):
    """A loop that keeps its timers."""

    def __init__(self):
        super().__init__()
        self.timers = []

    def call_at(self, *when, **more):
        self.timers.append(super().call_at(*when, **more))
        return self.timers[-1]


class FailsOnce(task.Task):
    def __init__(self, name):
        super().__init__(name)
        self.threads, self.attempts = [], 0

    def execute(self):
        self.threads.append(threading.current_thread())
        self.attempts += 1
        if self.attempts == 1:
            raise OSError


async def until(holds):
    while not holds():  # noqa: ASYNC110 - a thread that has ended tells nobody
        await asyncio.sleep(0)


@pytest.fixture(params=EXECUTORS)
def resting(request):
    """Return what makes a run of one task that waits for a second attempt, in the event loop that runs."""

    @contextlib.asynccontextmanager
    async def resting():
        before, clock, dials = threading.active_count(), Held(), FailsOnce("dial")
        flow = flows.linear("f", dials, controller=retry.Times(2, delay=100))
        engine = engines.load(flow, clock=clock, executor=request.param)
        run = asyncio.ensure_future(engine.arun())
        await until(lambda: clock.rests and threading.active_count() == before)
        yield engine, run, clock, dials
        assert threading.active_count() == before

    return resting


def test_nothing_is_kept_and_the_run_goes_on_when_its_time_has_come(resting):
    async def main():
        async with resting() as (engine, run, clock, dials):
            assert not any(thread.is_alive() for thread in dials.threads if thread is not threading.main_thread())
            loop = asyncio.get_running_loop()
            assert all(one.cancelled() or one.when() <= loop.time() for one in loop.timers)  # time is that of the clock
            clock.advance(99)
            for _ in range(9):
                await asyncio.sleep(0)
            assert dials.attempts == 1
            clock.advance(1)
            await run
            assert (engine.storage.get_flow_state(), dials.attempts) == (states.SUCCESS, 2)

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(main())


@pytest.mark.parametrize("from_a_thread", [False, True])
def test_it_can_be_suspended_and_run_on(resting, from_a_thread):
    async def main():
        async with resting() as (engine, run, clock, dials):
            if from_a_thread:
                await asyncio.to_thread(engine.suspend)
                await asyncio.get_running_loop().shutdown_default_executor()
            else:
                engine.suspend()
            await run
            assert (engine.storage.get_flow_state(), dials.attempts) == (states.SUSPENDED, 1)
            clock.advance(100)
            await engine.arun()
            assert (engine.storage.get_flow_state(), dials.attempts) == (states.SUCCESS, 2)

    asyncio.run(main())


def test_it_can_be_cancelled(resting):
    async def main():
        async with resting() as (engine, run, _, dials):
            engine.cancel("no more")
            with pytest.raises(exceptions.Cancelled, match="no more"):
                await run
            assert (engine.storage.get_flow_state(), dials.attempts) == (states.REVERTED, 1)

    asyncio.run(main())


def test_a_coroutine_that_is_cancelled_leaves_it_suspended(resting):
    async def main():
        async with resting() as (engine, run, _, dials):
            run.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await run
            assert (engine.storage.get_flow_state(), dials.attempts) == (states.SUSPENDED, 1)

    asyncio.run(main())


def test_a_loop_that_is_closed_leaves_it_suspended(resting):
    loop, kept = asyncio.new_event_loop(), []

    async def main():
        inside = resting()
        kept.append((inside, *await inside.__aenter__()))

    loop.run_until_complete(main())
    (_, engine, run, clock, dials) = kept.pop()
    loop.set_exception_handler(lambda *_: None)  # it would tell of a task that is never at its end
    loop.close()
    run.get_coro().close()
    clock.advance(100)  # nobody waits for it any more
    assert (engine.storage.get_flow_state(), dials.attempts) == (states.SUSPENDED, 1)
    engine.run()
    assert dials.attempts == 2


def test_a_time_limit_of_the_run_ends_it(resting):
    async def main():
        async with resting() as (engine, run, clock, dials):
            engine.suspend()
            await run
            rests = asyncio.ensure_future(engine.arun(timeout=50))
            clock.rests = False
            await until(lambda: clock.rests)
            clock.advance(50)
            with pytest.raises(TimeoutError, match="50"):
                await rests
            assert (engine.storage.get_flow_state(), dials.attempts) == (states.SUSPENDED, 1)

    asyncio.run(main())
