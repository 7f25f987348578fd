"""`engine.events()`: the transitions of a run as an asynchronous iterator, on loops and on threads."""

import asyncio
import contextlib

import pytest

from taskflowx import as_task, linear, load, retry
from taskflowx.engines.events import Event

EXECUTORS = ["asyncio", "threads", "serial"]


@as_task
def one():
    return 1


@as_task
def two(one):
    return one + 1


@as_task
def fail(two):
    raise ValueError("no")


async def _all(engine, **options):
    found = []
    async with contextlib.aclosing(engine.events(**options)) as events:
        async for event in events:
            found.append(event)  # noqa: PERF401 - what came before an error is looked at
    return found


@pytest.mark.parametrize("executor", EXECUTORS)
def test_each_transition_comes_in_order(executor):
    engine = load(linear("f", one, two), executor=executor)
    assert asyncio.run(_all(engine)) == [
        Event("flow", "f", "RUNNING", "PENDING"),
        Event("task", "one", "RUNNING", "PENDING"),
        Event("task", "one", "SUCCESS", "RUNNING", 1),
        Event("task", "two", "RUNNING", "PENDING"),
        Event("task", "two", "SUCCESS", "RUNNING", 2),
        Event("flow", "f", "SUCCESS", "RUNNING"),
    ]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_failure_is_raised_after_the_last_event(executor):
    async def main():
        async for event in engine.events():
            found.append((event.name, event.state))  # noqa: PERF401 - an error comes after them

    found = []
    engine = load(linear("f", one, two, fail, retry=retry.AlwaysRevert("r")), executor=executor)
    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())
    assert found[-1] == ("f", "REVERTED")
    assert ("r", "SUCCESS") in found
    assert found.index(("fail", "FAILURE")) < found.index(("two", "REVERTED")) < found.index(("one", "REVERTED"))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_iterator_that_is_closed_early_suspends_the_run_and_leaves_no_subscription(executor):
    ran, again = [], []

    async def main():
        async with contextlib.aclosing(engine.events()) as events:
            async for event in events:
                if event.state == "SUCCESS":
                    break

    def last(two):
        ran.append(two)

    @as_task
    def suspend_here(one):
        if not again:
            engine.suspend()

    engine = load(linear("f", one, suspend_here, two, last), executor=executor)
    asyncio.run(main())
    assert (len(engine.notifier), len(engine.atom_notifier)) == (0, 0)
    assert engine.storage.get_flow_state() == "SUSPENDED"
    again.append(True)
    asyncio.run(_all(engine))
    assert engine.storage.get_flow_state() == "SUCCESS"
    assert ran == [2]


def test_a_run_has_a_limit_of_time():
    with pytest.raises(TimeoutError):
        asyncio.run(_all(load(linear("f", one)), timeout=0))
