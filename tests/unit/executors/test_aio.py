"""Coroutines as tasks: in a loop of the run's own and in one that is there already, and what ends with a run."""

import asyncio
import contextlib
import logging
import os
import signal
import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.executors import loops
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends
from tests.support import ways


class Adds(task.Task):
    async def execute(self, x, y):
        await asyncio.sleep(0)
        return x + y


class Notes(task.Task):
    """Notes what happens to it, in coroutines."""

    def __init__(self, name, notes, **kwargs):
        super().__init__(name, **kwargs)
        self.notes = notes

    async def execute(self):
        await asyncio.sleep(0)
        self.notes.append(("ran", self.name))
        return self.name

    async def revert(self, result, flow_failures):
        await asyncio.sleep(0)
        self.notes.append(("undid", self.name))


class PlainNotes(Notes):
    """The same, in plain methods; notes its thread, too."""

    def execute(self):
        self.notes.append(("ran", self.name))
        self.thread = threading.current_thread()

    def revert(self, result, flow_failures):
        self.notes.append(("undid", self.name))


class Fails(Notes):
    async def execute(self):
        await asyncio.sleep(0)
        raise ValueError("on purpose")


class Meets(task.Task):
    """Goes on when as many others have come here."""

    def __init__(self, name, barrier):
        super().__init__(name)
        self.barrier = barrier

    async def execute(self):
        await self.barrier.wait()


class Waits(Notes):
    """Runs until it is let go."""

    def __init__(self, name, notes):
        super().__init__(name, notes)
        self.let_go = asyncio.Event()

    async def execute(self, attempt):
        self.notes.append(("began", attempt))
        await self.let_go.wait()
        return await super().execute()


class PlainWaits(PlainNotes):
    def __init__(self, name, notes):
        super().__init__(name, notes)
        self.let_go = threading.Event()

    def execute(self):
        self.notes.append(("began", self.name))
        self.let_go.wait()
        super().execute()


def load(flow, executor="asyncio", **options):
    return engines.load(flow, executor=executor, **options)


async def noted(notes, what):
    while what not in notes:  # noqa: ASYNC110 - a plain list: it is also written to from threads
        await asyncio.sleep(0)


@ways.each
def test_results_reach_those_who_need_them(way):
    flow = graph_flow.Flow("f").add(
        Adds("sum", provides="sum", rebind=["a", "b"]),
        Adds("total", provides="total", rebind=["sum", "a"]),
        task.FunctorTask(lambda: 40, name="a", provides="a"),
        task.FunctorTask(two, name="b", provides="b"),
    )
    engine = load(flow)
    way(engine)
    assert engine.storage.fetch("total") == 82
    assert engine.storage.get_flow_state() == states.SUCCESS


async def twice(x):
    return 2 * x


async def two():
    await asyncio.sleep(0)
    return 2


@ways.each
def test_a_failure_undoes_coroutines_and_others_in_order(way):
    notes = []
    flow = linear_flow.Flow("f").add(
        Notes("a", notes), PlainNotes("b", notes), Notes("c", notes), Fails("d", notes), Notes("never", notes)
    )
    engine = load(flow)
    with pytest.raises(ValueError, match="on purpose"):
        way(engine)
    assert notes == [("ran", n) for n in "abc"] + [("undid", n) for n in "dcba"]
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []


@ways.each
def test_coroutines_run_at_the_same_time_and_others_in_threads(way):
    barrier, notes = asyncio.Barrier(50), []
    plain = PlainNotes("plain", notes)
    engine = load(unordered_flow.Flow("f").add(*(Meets(f"m{i}", barrier) for i in range(50)), plain))
    threads = set(threading.enumerate())
    way(engine)
    assert plain.thread is not threading.current_thread()
    assert set(threading.enumerate()) <= threads


@ways.each
def test_a_retry_runs_coroutines_again(way):
    notes = []

    class FailsOnce(Notes):
        async def execute(self):
            await super().execute()
            if len(notes) == 1:
                raise ValueError("once")

    engine = load(linear_flow.Flow("f", retry=retry.Times(2)).add(FailsOnce("a", notes)))
    way(engine)
    assert notes == [("ran", "a"), ("undid", "a"), ("ran", "a")]


def test_progress_and_listeners_of_coroutines_are_told_apart():
    class Reports(task.Task):
        async def execute(self):
            for part in (0.25, 0.5):
                await asyncio.sleep(0)
                self.update_progress(part, of=self.name)

    async def both():
        seen = {}
        loaded = []
        for name in "ab":
            reports = Reports(name)
            engine = load(unordered_flow.Flow(name).add(reports, Reports(name * 2)))
            told = seen[name] = []
            reports.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda _, details, told=told: told.append(details))
            loaded.append(engine)
        await asyncio.gather(*(engine.arun() for engine in loaded))
        for name, engine in zip("ab", loaded, strict=True):
            assert engine.storage.get_task_progress_details(name)["details"] == {"of": name}
            assert [details["progress"] for details in seen[name]] == [0.0, 0.25, 0.5, 1.0]

    asyncio.run(both())


def test_max_workers_limits_coroutines():
    running, most = [], []

    class Counted(task.Task):
        async def execute(self):
            running.append(self.name)
            most.append(len(running))
            await asyncio.sleep(0)
            running.remove(self.name)

    engine = load(unordered_flow.Flow("f").add(*(Counted(f"t{i}") for i in range(30))), max_workers=3)
    engine.run()
    assert max(most) == 3
    assert len(most) == 30


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="came with Python 3.12")
@pytest.mark.parametrize("max_workers", [None, 2])
def test_coroutines_may_be_started_eagerly(max_workers):
    class Quick(task.Task):
        async def execute(self):
            return self.name

    async def eagerly():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        notes = []
        members = [*(Quick(f"q{i}") for i in range(3000)), *(Notes(f"n{i}", notes) for i in range(10))]
        engine = load(unordered_flow.Flow("f").add(*members), max_workers=max_workers)
        await engine.arun()
        assert engine.storage.get("q2999") == "q2999"
        assert len(notes) == 10

    asyncio.run(eagerly())


def tells_its_factory(loop, coroutine, **options):
    return asyncio.Task(coroutine, loop=loop, **options)


@pytest.mark.parametrize("factory", [None, tells_its_factory])
def test_the_asyncio_task_of_a_coroutine_has_the_name_of_its_atom(factory):
    class Named(task.Task):
        async def execute(self):
            return asyncio.current_task().get_name()

    async def named():
        asyncio.get_running_loop().set_task_factory(factory)
        engine = load(unordered_flow.Flow("f").add(Named("a", provides="x"), Named("b", provides="y")))
        await engine.arun()
        assert engine.storage.fetch_all() == {"x": "a", "y": "b"}

    asyncio.run(named())


def test_run_in_a_loop_says_what_to_use_instead():
    engine = load(linear_flow.Flow("f").add(Notes("a", [])))

    async def inside():
        with pytest.raises(RuntimeError, match=r"await engine\.arun\(\)"):
            engine.run()

    asyncio.run(inside())
    assert engine.storage.get_flow_state() == states.PENDING
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_where_nothing_awaits_coroutines_they_are_refused_before_anything_runs(executor):
    engine = engines.load(linear_flow.Flow("f").add(Notes("a", [])), engine="parallel", executor=executor)
    with pytest.raises(
        exceptions.CompilationFailure, match=r"'a' cannot be run: .*Notes.execute is .* executor='asyncio' awaits"
    ):
        engine.run()


def test_a_coroutine_that_undoes_is_refused_where_nothing_awaits_it():
    class Undone(task.Task):
        def execute(self):
            pass

        async def revert(self, **kwargs):
            pass

    with pytest.raises(exceptions.CompilationFailure, match=r"Undone.revert is a coroutine function"):
        engines.load(linear_flow.Flow("f").add(Undone("a"))).run()


def test_a_function_for_many_inputs_that_is_a_coroutine_function_is_refused():
    flow = linear_flow.Flow("f").add(task.MapFunctorTask(twice, name="odd", requires=["a"]))
    with pytest.raises(exceptions.CompilationFailure, match=r"'odd' cannot be run: .* which nobody awaits here"):
        load(flow, store={"a": 1}).run()


def test_an_asynchronous_generator_is_refused():
    class Yields(task.Task):
        async def execute(self):
            yield 1

    with pytest.raises(exceptions.CompilationFailure, match="is a generator function"):
        load(linear_flow.Flow("f").add(Yields("a"))).run()


def test_who_cancels_the_run_finds_it_suspended_and_its_coroutines_cut_off():
    notes = []

    async def cancel():
        waits, plain = Waits("w", notes), PlainWaits("p", notes)
        engine = load(unordered_flow.Flow("f").add(waits, plain))
        running = asyncio.create_task(engine.arun())
        await noted(notes, ("began", 1))
        await noted(notes, ("began", "p"))
        running.cancel()
        await asyncio.sleep(0)
        plain.let_go.set()  # what runs elsewhere is let finish
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.storage.get_flow_state() == states.SUSPENDED
        assert engine.storage.get_atom_state("w") == states.RUNNING
        assert engine.storage.get_atom_state("p") == states.SUCCESS
        assert asyncio.all_tasks() == {asyncio.current_task()}
        waits.let_go.set()
        await engine.arun()
        assert engine.storage.get_flow_state() == states.SUCCESS

    asyncio.run(cancel())
    assert sorted(notes[:2], key=str) == [("began", "p"), ("began", 1)]  # in whatever order
    assert notes[2:] == [("ran", "p"), ("began", 2), ("ran", "w")]


def test_a_coroutine_that_is_cancelled_by_itself_has_failed():
    class Cancels(Notes):
        async def execute(self):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    notes = []
    engine = load(linear_flow.Flow("f").add(Notes("a", notes), Cancels("c", notes)))
    with pytest.raises(exceptions.ExecutionFailure, match="atom 'c' was cancelled, and not by the run"):
        asyncio.run(engine.arun())
    assert engine.storage.get_flow_state() == states.REVERTED
    assert notes == [("ran", "a"), ("undid", "c"), ("undid", "a")]


@ways.each
def test_a_coroutine_that_has_cancelled_itself_and_gone_on_is_stopped_as_any_other(way):
    class GoesOn(Notes):
        """Ends its first wait by a timer that cancels it, as time limits of libraries do."""

        default_grace = 0.5

        async def execute(self):
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            engine.cancel("enough")
            try:
                await asyncio.Event().wait()
            finally:
                self.notes.append("stopped")

    notes = []
    engine = load(linear_flow.Flow("f").add(GoesOn("t", notes)))
    with pytest.raises(exceptions.Cancelled, match="enough"):
        way(engine)
    assert notes == ["stopped", ("undid", "t")]


class CancelsOthers(Notes):
    """Cancels all coroutines of tasks but itself, the first time."""

    async def execute(self, attempt):
        for one in asyncio.all_tasks() - {asyncio.current_task()}:
            if attempt == 1 and "AsyncioExecutor" in repr(one):
                one.cancel("by another one")
        return await super().execute()


@ways.each
def test_a_coroutine_that_is_cancelled_before_its_first_turn_is_interrupted(way):
    notes = []
    engine = load(unordered_flow.Flow("f").add(CancelsOthers("c", notes), *(Notes(name, notes) for name in "xyz")))
    with pytest.raises(asyncio.CancelledError, match="by another one"):
        way(engine)
    assert notes == [("ran", "c")]
    assert engine.storage.get_flow_state() == states.SUSPENDED
    way(engine)
    assert sorted(notes) == [("ran", name) for name in "cxyz"]


@ways.each
def test_a_coroutine_that_others_cancel_is_interrupted_and_undoes_nothing(way):
    notes = []

    class Waits(Notes):
        async def execute(self, attempt):
            self.notes.append("waits")
            if attempt == 1:
                await asyncio.Event().wait()
            return await super().execute()

    class WaitsForIt(CancelsOthers):
        async def execute(self, attempt):
            await noted(self.notes, "waits")
            return await super().execute(attempt)

    engine = load(
        linear_flow.Flow("f").add(
            Notes("a", notes), unordered_flow.Flow("u").add(WaitsForIt("c", notes), Waits("w", notes))
        )
    )
    with pytest.raises(asyncio.CancelledError, match="by another one"):
        way(engine)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    way(engine)
    assert [note for note in notes if note[0] == "undid"] == []
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_what_a_coroutine_raises_as_it_is_cut_off_is_no_failure(caplog):
    notes = []

    class Trips(Waits):
        async def execute(self, attempt):
            try:
                await super().execute(attempt)
            except asyncio.CancelledError:
                raise OSError("the connection is gone") from None

    async def cancel():
        trips = Trips("t", notes)
        engine = load(linear_flow.Flow("f").add(trips))
        running = asyncio.create_task(engine.arun())
        await noted(notes, ("began", 1))
        running.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await running
        assert engine.storage.get_flow_state() == states.SUSPENDED
        trips.let_go.set()
        await engine.arun()
        assert engine.storage.get_flow_state() == states.SUCCESS

    asyncio.run(cancel())
    assert "the connection is gone" in caplog.text


def test_a_time_limit_of_a_coroutine_of_its_own_is_its_failure():
    class OldLimit(Notes):
        """Cancels itself by a timer, and says so by an error, as libraries did before Python 3.11."""

        async def execute(self):
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise TimeoutError("too late") from None

    engine = load(linear_flow.Flow("f").add(OldLimit("t", [])))
    with pytest.raises(TimeoutError, match="too late"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED


@pytest.mark.parametrize("turns", range(6))
def test_a_loop_that_ends_while_a_run_goes_on_leaves_it_to_be_run_on(turns):
    notes, kept = [], []

    async def main(engine):
        kept.append(asyncio.create_task(engine.arun()))
        for _ in range(turns):
            await asyncio.sleep(0)

    members = unordered_flow.Flow("u").add(*(Notes(name, notes) for name in "xyz"))
    engine = load(linear_flow.Flow("f").add(Notes("a", notes), members))
    asyncio.run(main(engine))
    engine.run()
    assert sorted(notes) == [("ran", name) for name in "axyz"]


def test_a_loop_that_is_closed_with_a_run_in_it_leaves_the_flow_suspended():
    notes = []
    engine = load(linear_flow.Flow("f").add(Waits("w", notes)))
    loop = asyncio.new_event_loop()
    coroutine = engine.arun()
    running = loop.create_task(coroutine)
    loop.run_until_complete(noted(notes, ("began", 1)))
    running._log_destroy_pending = False
    for one in asyncio.all_tasks(loop):
        one._log_destroy_pending = False
    loop.close()
    coroutine.close()
    assert engine.storage.get_flow_state() == states.SUSPENDED


@pytest.mark.parametrize("stops", [1, 2])
def test_what_ends_the_loop_of_a_run_suspends_it_also_when_a_stop_is_left_behind(stops):
    notes = []

    def leave():
        raise SystemExit(3)

    class Leaves(Notes):
        async def execute(self, attempt):
            if attempt == 1:
                loop = asyncio.get_running_loop()
                loop.call_soon(leave)
                for _ in range(stops):
                    loop.call_soon(loop.stop)
                for _ in range(5):
                    await asyncio.sleep(0)
            await super().execute()

    engine = load(linear_flow.Flow("f").add(Leaves("a", notes), Notes("b", notes)))
    with pytest.raises(SystemExit):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    engine.run()
    assert notes == [("ran", "a"), ("ran", "b")]


@pytest.mark.parametrize("most", [1, 2, 3])
@ways.each
def test_max_workers_counts_coroutines_and_threads_together(way, most):
    lock, running, seen = threading.Lock(), [], []

    def enters():
        with lock:
            running.append(1)
            seen.append(len(running))

    class Counts(task.Task):
        async def execute(self):
            enters()
            for _ in range(3):
                await asyncio.sleep(0)
            running.pop()

    class CountsInThread(task.Task):
        def execute(self):
            enters()
            running.pop()

    kinds = [Counts, CountsInThread]
    way(load(unordered_flow.Flow("f").add(*(kinds[i % 2](f"t{i}") for i in range(20))), max_workers=most))
    assert len(seen) == 20
    assert max(seen) <= most


@pytest.mark.parametrize("way", [ways.run, ways.arun])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_coroutine_is_raised_and_others_are_let_finish(way, interrupt):
    notes, raised = [], []

    class Interrupts(Notes):
        async def execute(self):
            if not raised:
                raised.append(1)
                raise interrupt
            await super().execute()

    class Slow(Notes):
        async def execute(self):
            for _ in range(5):
                await asyncio.sleep(0)
            await super().execute()

    engine = load(unordered_flow.Flow("f").add(Interrupts("i", notes), Slow("s", notes)))
    with pytest.raises(interrupt):
        way(engine)
    assert notes == [("ran", "s")]
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert engine.storage.get_atom_state("s") == states.SUCCESS
    way(engine)
    assert notes == [("ran", "s"), ("ran", "i")]


@pytest.mark.parametrize("way", [ways.run, ways.arun])
def test_what_runs_when_a_listener_is_interrupted_is_recorded(way):
    notes = []

    class Slow(Notes):
        async def execute(self):
            for _ in range(5):
                await asyncio.sleep(0)
            await super().execute()

    def interrupt(_, details):
        if details["task_name"] == "quick":
            raise KeyboardInterrupt

    engine = load(unordered_flow.Flow("f").add(Notes("quick", notes), Slow("slow", notes)))
    engine.atom_notifier.register(states.SUCCESS, interrupt)
    with pytest.raises(KeyboardInterrupt):
        way(engine)
    assert engine.storage.get_atom_state("slow") == states.SUCCESS
    assert engine.storage.get_flow_state() == states.SUSPENDED


def test_steps_can_be_watched_and_the_run_suspended():
    notes = []

    async def watch():
        engine = load(linear_flow.Flow("f").add(*(Notes(name, notes) for name in "abc")))
        steps = engine.arun_iter()
        seen = [await anext(steps)]
        while ("ran", "a") not in notes:
            seen.append(await anext(steps))
        seen += [await steps.asend(True)]
        seen += [state async for state in steps]
        assert seen[:4] == [states.RESUMING, states.SCHEDULING, states.WAITING, states.ANALYZING]
        assert seen[-1] == states.SUSPENDED
        await engine.arun()
        assert engine.storage.get_flow_state() == states.SUCCESS

    asyncio.run(watch())
    assert notes == [("ran", name) for name in "abc"]


@pytest.mark.parametrize("executor", ["asyncio", "threads"])
def test_steps_that_are_left_early_leave_the_flow_suspended(executor):
    notes = []

    async def leave():
        plain = [PlainNotes(name, notes) for name in "abc"]
        engine = load(linear_flow.Flow("f").add(*plain), executor)
        steps = engine.arun_iter()
        async for _ in steps:
            if notes:
                break
        await steps.aclose()
        assert engine.storage.get_flow_state() == states.SUSPENDED
        await engine.arun()
        assert engine.storage.get_flow_state() == states.SUCCESS

    asyncio.run(leave())
    assert notes == [("ran", name) for name in "abc"]


def test_suspend_from_another_thread_wakes_the_loop():
    notes = []

    async def suspended():
        waits = Waits("w", notes)
        engine = load(linear_flow.Flow("f").add(waits, Notes("after", notes)))
        running = asyncio.create_task(engine.arun())
        await noted(notes, ("began", 1))
        await asyncio.to_thread(engine.suspend)
        waits.let_go.set()
        await running
        assert engine.storage.get_flow_state() == states.SUSPENDED

    asyncio.run(suspended())
    assert notes == [("began", 1), ("ran", "w")]


@pytest.mark.parametrize("way", [ways.run, ways.arun])
def test_no_time_left_leaves_the_flow_suspended(way):
    notes = []
    engine = load(linear_flow.Flow("f").add(Notes("a", notes)))
    with pytest.raises(TimeoutError, match="can be run on"):
        engine.run(timeout=0) if way is ways.run else asyncio.run(engine.arun(timeout=0))
    assert notes == []
    way(engine)
    assert notes == [("ran", "a")]


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_a_run_on_another_executor_can_be_awaited(executor):
    async def beside():
        engine = engines.load(
            linear_flow.Flow("f").add(task.FunctorTask(divmod_of, provides="d", inject={"x": 7})),
            engine="parallel",
            executor=executor,
        )
        beats = []

        async def beat():
            while True:
                beats.append(1)
                await asyncio.sleep(0)

        beating = asyncio.create_task(beat())
        await engine.arun()
        beating.cancel()
        assert engine.storage.fetch("d") == (2, 1)
        assert len(beats) > 1

    asyncio.run(beside())


def divmod_of(x):
    return divmod(x, 3)


def test_a_run_in_a_thread_that_is_cancelled_is_suspended():
    notes = []

    async def cancel():
        waits = PlainWaits("w", notes)
        engine = load(linear_flow.Flow("f").add(waits, PlainNotes("after", notes)), "threads")
        running = asyncio.create_task(engine.arun())
        await noted(notes, ("began", "w"))
        running.cancel()
        await asyncio.sleep(0)
        waits.let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.storage.get_flow_state() == states.SUSPENDED

    asyncio.run(cancel())
    assert notes == [("began", "w"), ("ran", "w")]


def test_what_a_task_has_left_in_the_loop_of_the_run_ends_with_it():
    ended = []

    async def for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    class Leaves(task.Task):
        async def execute(self):
            self.left = asyncio.create_task(for_ever())
            await asyncio.sleep(0)

    load(linear_flow.Flow("f").add(Leaves("a"))).run()
    assert ended == ["cancelled"]


@pytest.mark.parametrize("durability", ["strict", "group", "exit"])
@pytest.mark.parametrize("way", [ways.run, ways.arun])
def test_a_run_of_coroutines_is_stored_as_any_other(way, durability, tmp_path):
    notes = []
    with backends.backend(f"sqlite:///{tmp_path / 'runs.db'}") as backend:
        flow = linear_flow.Flow("f").add(Notes("a", notes), Fails("b", notes))
        engine = load(flow, backend=backend, durability=durability)
        with pytest.raises(ValueError, match="on purpose"):
            way(engine)
        detail = engine.storage.record.flow_detail
        assert detail.state == states.REVERTED
        with contextlib.closing(backend.get_connection()) as connection:
            kept = connection.get_flow_details(detail.uuid)
        assert {each.name: each.state for each in kept} == {"a": states.REVERTED, "b": states.REVERTED}


class RaisesInACallback(task.Task):
    async def execute(self):
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(0.01)
        return "done"


@pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
def test_what_asyncio_cannot_log_does_not_end_the_run(level):
    """At DEBUG it would log also that a loop is made, and half a loop would be left when that raises."""

    class Refuses(logging.Filter):
        def filter(self, record):
            refused.append(record.levelno)
            raise ZeroDivisionError

    refused, refuses, logger = [], Refuses(), logging.getLogger("asyncio")
    kept = logger.level
    logger.setLevel(level)
    logger.addFilter(refuses)
    try:
        engine = load(linear_flow.Flow("f").add(RaisesInACallback("a", provides="a")))
        engine.run()
    finally:
        logger.removeFilter(refuses)
        logger.setLevel(kept)
    assert engine.storage.fetch("a") == "done"
    assert logging.ERROR in refused
    assert logger.filters == []


def test_a_signal_handler_ends_the_sleep_of_a_loop():
    loop, sleeps = asyncio.new_event_loop(), threading.Event()

    def stop(*_):
        loop.stop()
        loops.rouse(loop)

    def send():
        sleeps.wait()
        while not ended.wait(0.01):  # one that comes just before the system call of the sleep does not end that
            os.kill(os.getpid(), signal.SIGUSR1)

    ended = threading.Event()
    before = signal.signal(signal.SIGUSR1, stop)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        loop.call_soon(sleeps.set)
        loop.run_forever()  # without an end if it sleeps on
    finally:
        ended.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
        loop.close()
    loops.rouse(loop)  # it is closed: nobody sleeps
    assert loop.is_closed()
