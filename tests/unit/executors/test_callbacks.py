"""Subscribers that are coroutine functions: awaited in order, all of them before the run is over."""

import asyncio
import contextlib

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.executors import callbacks
from taskflowx.listeners import base
from taskflowx.patterns import linear_flow
from taskflowx.types import notifier
from tests.support import ways


def load(*names, executor="asyncio", **options):
    flow = linear_flow.Flow("f").add(*(task.FunctorTask(dict, name=name) for name in names))
    return engines.load(flow, executor=executor, **options)


both = pytest.mark.parametrize("way", [ways.run, ways.arun])

EXPECTED = ["RUNNING f", "RUNNING a", "SUCCESS a", "RUNNING b", "SUCCESS b", "SUCCESS f"]


def teller(told, pauses=1):
    async def tell(state, details):
        for _ in range(pauses):
            await asyncio.sleep(0)
        told.append(f"{state} {details.get('task_name', details.get('flow_name'))}")

    return tell


def subscribed(callback, *names):
    engine = load(*names or "ab")
    engine.notifier.register("*", callback)
    engine.atom_notifier.register("*", callback)
    return engine


@ways.each
@pytest.mark.parametrize("pauses", [0, 1, 50])
def test_events_are_awaited_in_their_order_before_the_run_is_over(way, pauses):
    told = []
    way(subscribed(teller(told, pauses)))
    assert told == EXPECTED


@both
def test_plain_subscribers_are_called_as_ever(way):
    told, at_once = [], []
    engine = subscribed(teller(told))
    engine.atom_notifier.register("*", lambda state, details: at_once.append(f"{state} {details['task_name']}"))
    way(engine)
    assert told == EXPECTED
    assert at_once == EXPECTED[1:-1]


@both
def test_each_is_awaited_to_its_end_before_the_next_begins(way):
    steps = []

    async def slow(state, details):
        steps.append("begins")
        await asyncio.sleep(0)
        steps.append("ends")

    way(subscribed(slow))
    assert steps == ["begins", "ends"] * len(EXPECTED)


@both
def test_all_of_it_is_in_one_loop_and_that_of_the_tasks(way):
    loops = set()

    async def note(*_):
        await asyncio.sleep(0)
        loops.add(asyncio.get_running_loop())

    engine = engines.load(linear_flow.Flow("f").add(task.FunctorTask(note, name="a")), executor="asyncio")
    engine.notifier.register("*", note)
    way(engine)
    assert len(loops) == 1


@both
def test_an_exception_in_one_is_logged_and_the_others_are_awaited(way, caplog):
    told = []

    async def fails(state, details):
        await asyncio.sleep(0)
        raise KeyError("of a subscriber")

    async def cancels_itself(state, details):
        raise asyncio.CancelledError

    engine = load("a", "b")
    engine.atom_notifier.register("SUCCESS", fails)
    engine.atom_notifier.register("SUCCESS", cancels_itself)
    engine.atom_notifier.register("SUCCESS", teller(told))
    way(engine)
    assert told == ["SUCCESS a", "SUCCESS b"]
    assert engine.storage.get_flow_state() == states.SUCCESS
    logged = [one for one in caplog.records if "Failure calling listener" in one.getMessage()]
    assert [one.exc_info[0] for one in logged] == [KeyError, asyncio.CancelledError] * 2


class Receives(base.Listener):
    def __init__(self, engine):
        super().__init__(engine)
        self.told = []

    async def _task_receiver(self, state, details):
        await asyncio.sleep(0)
        self.told.append(f"{state} {details['task_name']}")

    def _flow_receiver(self, state, details):
        self.told.append(f"{state} {details['flow_name']} at once")


@both
def test_receivers_of_a_listener_may_be_coroutine_functions(way):
    engine = load("a")
    with Receives(engine) as listener:
        way(engine)
    assert [one for one in listener.told if "at once" not in one] == ["RUNNING a", "SUCCESS a"]
    assert [one for one in listener.told if "at once" in one] == ["RUNNING f at once", "SUCCESS f at once"]
    assert (len(engine.notifier), len(engine.atom_notifier)) == (0, 0)


@both
def test_arguments_and_filters_hold_for_them_too(way):
    told = []

    async def tell(event, details, *further, **named):
        await asyncio.sleep(0)
        told.append((event, details["task_name"], further, named))

    engine = load("a", "b")
    engine.atom_notifier.register(
        "SUCCESS", tell, args=(1,), kwargs={"x": 2}, details_filter=lambda details: details["task_name"] == "b"
    )
    way(engine)
    assert told == [("SUCCESS", "b", (1,), {"x": 2})]


@both
def test_one_that_suspends_the_run_stops_it(way):
    told = []

    async def suspend(state, details):
        await asyncio.sleep(0)
        engine.suspend()

    async def pause():
        for _ in range(10):
            await asyncio.sleep(0)

    flow = linear_flow.Flow("f").add(*(task.FunctorTask(pause, name=name) for name in "abc"))
    engine = engines.load(flow, executor="asyncio")
    engine.atom_notifier.register("RUNNING", suspend)
    engine.notifier.register("*", teller(told))
    way(engine)
    assert told == ["RUNNING f", "SUSPENDING f", "SUSPENDED f"]
    engine.atom_notifier.reset()
    way(engine)
    assert told[3:] == ["RUNNING f", "SUCCESS f"]


@both
def test_what_is_published_between_runs_is_awaited_in_the_next_one(way):
    told = []
    engine = subscribed(teller(told), "a")
    way(engine)
    told.clear()
    engine.reset()
    assert told == []
    way(engine)
    assert told == ["PENDING a", "PENDING f", "RUNNING f", "RUNNING a", "SUCCESS a", "SUCCESS f"]


@both
def test_one_may_be_registered_in_the_middle_of_a_run(way):
    told = []
    engine = load("a", "b")
    once = []

    def subscribe(state, details):
        if not once:
            once.append(True)
            engine.atom_notifier.register("*", teller(told))

    engine.atom_notifier.register("SUCCESS", subscribe)
    way(engine)
    assert told[-2:] == ["RUNNING b", "SUCCESS b"]


@both
def test_a_run_that_fails_awaits_them_too(way):
    told = []
    engine = engines.load(task.FunctorTask(lambda: 1 / 0, name="a"), executor="asyncio")
    engine.notifier.register("*", teller(told))
    with pytest.raises(ZeroDivisionError):
        way(engine)
    assert told == ["RUNNING a", "REVERTED a"]


def test_a_run_that_is_cancelled_awaits_them_and_drops_one_that_hangs(monkeypatch, caplog):
    monkeypatch.setattr(callbacks, "SECONDS", 0.01)
    told, hung = [], []

    async def hang(state, details):
        if state == "SUSPENDED":
            try:
                await asyncio.Event().wait()
            finally:
                hung.append("cut off")

    async def waits():
        await asyncio.Event().wait()

    async def cancelled():
        engine = engines.load(task.FunctorTask(waits, name="a"), executor="asyncio")
        engine.notifier.register("*", teller(told))
        engine.notifier.register("SUSPENDED", hang)
        running = asyncio.ensure_future(engine.arun())
        while not told:  # noqa: ASYNC110 - a plain list, of which the subscriber knows alone
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return engine.storage.get_flow_state(), len(asyncio.all_tasks())

    assert asyncio.run(cancelled()) == (states.SUSPENDED, 1)
    assert (told, hung) == (["RUNNING a", "SUSPENDING a", "SUSPENDED a"], ["cut off"])
    assert "The run has ended before its subscribers" in caplog.text


def test_who_cancels_a_run_that_only_waits_for_them_ends_them():
    async def cancelled():
        began = asyncio.Event()

        async def hang(state, details):
            began.set()
            await asyncio.Event().wait()

        engine = load("a")
        engine.notifier.register("SUCCESS", hang)
        running = asyncio.ensure_future(engine.arun())
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return engine.storage.get_flow_state(), len(asyncio.all_tasks())

    assert asyncio.run(cancelled()) == (states.SUCCESS, 1)


def test_while_it_waits_for_them_a_run_is_not_over():
    async def twice():
        began, go = asyncio.Event(), asyncio.Event()

        async def wait(state, details):
            began.set()
            await go.wait()

        engine = load("a")
        engine.notifier.register("SUCCESS", wait)
        running = asyncio.ensure_future(engine.arun())
        await began.wait()
        with pytest.raises(exceptions.InvalidState, match="not ended yet"):
            await engine.arun()
        go.set()
        await running
        return engine.storage.get_flow_state()

    assert asyncio.run(twice()) == states.SUCCESS


def test_a_run_that_is_under_way_in_the_same_loop_is_refused_another_start():
    async def twice():
        began, go = asyncio.Event(), asyncio.Event()

        async def wait():
            began.set()
            await go.wait()

        engine = engines.load(task.FunctorTask(wait, name="a"), executor="asyncio")
        running = asyncio.ensure_future(engine.arun())
        await began.wait()
        for again in (engine.arun(), anext(engine.arun_iter())):
            with pytest.raises(exceptions.InvalidState, match="is running already"):
                await again
        go.set()
        await running
        return engine.storage.get_flow_state()

    assert asyncio.run(twice()) == states.SUCCESS


def test_a_coroutine_of_a_run_that_is_closed_leaves_none_of_theirs(caplog):
    """Nothing can be awaited when the loop is gone."""
    told = []

    async def hang(state, details):
        told.append(state)
        await asyncio.Event().wait()

    async def waits():
        await asyncio.Event().wait()

    engine = engines.load(task.FunctorTask(waits, name="a"), executor="asyncio")
    engine.notifier.register("*", hang)
    loop = asyncio.new_event_loop()
    coroutine = engine.arun()
    running = loop.create_task(coroutine)
    while not told:
        loop.call_soon(loop.stop)
        loop.run_forever()
    coroutine.close()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError, RuntimeError):
        loop.run_until_complete(running)
    loop.close()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert "one callback is cancelled" in caplog.text


class Stop(BaseException):
    """Comes as from a signal handler."""


@both
def test_an_interrupt_in_one_is_raised_and_ends_the_run(way):
    async def interrupt(state, details):
        await asyncio.sleep(0)
        raise Stop

    engine = load("a", "b")
    engine.notifier.register("SUCCESS", interrupt)
    with pytest.raises(Stop):
        way(engine)
    engine.notifier.reset()
    way(engine)
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_an_interrupt_while_a_run_waits_for_them_drops_the_rest(monkeypatch, caplog):
    monkeypatch.setattr(callbacks, "SECONDS", 0.01)
    told = []

    async def hang(state, details):
        told.append(state)
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.Event().wait()

    def interrupt():
        raise KeyboardInterrupt

    engine = load("a")
    engine.notifier.register("*", hang)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert told == ["RUNNING"]
    assert "one callback is cancelled" in caplog.text
    engine.notifier.reset()
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_where_nobody_awaits_them_they_are_refused(executor):
    engine = load("a", executor=executor)
    with pytest.raises(ValueError, match="no coroutine function, which only executor='asyncio' awaits"):
        engine.atom_notifier.register("*", teller([]))
    with pytest.raises(ValueError, match="no coroutine function, which only executor='asyncio' awaits"):
        Receives(engine).register()
    assert (len(engine.notifier), len(engine.atom_notifier)) == (0, 0)


def test_a_notifier_without_an_engine_refuses_them():
    with pytest.raises(ValueError, match="which nobody awaits"):
        notifier.Notifier().register("*", teller([]))
    with pytest.raises(ValueError, match="which nobody awaits"):
        task.FunctorTask(dict).notifier.register(task.EVENT_UPDATE_PROGRESS, teller([]))
    assert not len(task.FunctorTask(dict).notifier)
