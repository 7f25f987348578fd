"""The life of an engine, interrupted wherever its own thread is, as often as it comes, in whatever it is called for.

Each life is one random flow, and a random sequence of the calls of an engine: compile, prepare, validate, run, a part
of `run_iter`, suspend, reset, an `arun` that is cancelled, and another engine on the same record. A trace function
raises at random lines of the package, up to three times in a call. After each call the flow is at rest, the record in
the store is that of the engine, and no task has been executed, or reverted, twice without the other one in between;
in the end the flow has come to what the oracle says.

`TASKFLOWX_LIVES` is the number of lives of each kind.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import gc
import os
import pathlib
import random
import signal
import sys
import threading

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models
from tests.model import build, oracle, specs
from tests.model.test_durable import Store
from tests.model.test_interrupts import PACKAGE, never_interrupted

LIVES = int(os.environ.get("TASKFLOWX_LIVES", "60"))
ENDED = (states.SUCCESS, states.REVERTED, states.FAILURE)
AT_REST = (*ENDED, states.PENDING, states.SUSPENDED)
WITHIN = 60  # calls of an engine, of which the last ones are not interrupted


class Limit(Exception):
    """What a signal handler raises when the time of a program is over."""


class Leave(BaseException):
    """What nobody is to catch."""


@functools.cache
def _of_others(filename: str) -> frozenset[int]:
    """Return the lines where an `Exception` is taken for one of a user's code, or of a store.

    A task fails by it, a listener is logged: they are the bodies of `try` whose `except Exception` does not pass it on.
    """
    if not filename.startswith(PACKAGE):
        return frozenset(range(100)) if filename.startswith("<call of") else frozenset()
    lines: set[int] = set()
    for node in ast.walk(ast.parse(pathlib.Path(filename).read_text())):
        if not isinstance(node, ast.Try):
            continue
        for handler in node.handlers:
            passes_on = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
            if isinstance(handler.type, ast.Name) and handler.type.id == "Exception" and not passes_on:
                lines.update(range(node.body[0].lineno, node.body[-1].end_lineno + 1))
    return frozenset(lines)


#: where a call is made in the engine's own thread: it may have ended, and nobody may have heard of it
_HOOKS = frozenset(("pre_execute", "post_execute", "pre_revert", "post_revert"))
_CALLS = frozenset(("perform", "_perform", "_run", "_execute", "_revert"))


class Effects(build.World):
    """What has been done, each time that it has been done to its end."""

    def __init__(self, *, in_a_loop: bool) -> None:
        super().__init__()
        self.crashed = True  # what was cut off may be undone without having begun
        self.in_a_loop = in_a_loop
        self.done: dict[str, list[str]] = {}

    def note(self, name: str, verb: str) -> None:
        """Note that a call has ended; or with '?' that it may have been cut off at its end."""
        done = self.done.setdefault(name, [])
        if done and done[-1] == verb != "?":
            self.wrong.append(f"{name}: {verb} twice, after {done}")
        done.append(verb)


class Worker(build.Worker):
    """Notes what it has done."""

    def execute(self, **given):
        try:
            return super().execute(**given)
        finally:
            self._world.note(self.name, "execute")

    def revert(self, **given):
        super().revert(**given)
        self._world.note(self.name, "revert")


class Coroutine(build.Worker):
    """A task of which the coroutine has to wait."""

    async def execute(self, **given):
        for _ in range(3):
            await asyncio.sleep(0)
        try:
            return super().execute(**given)
        finally:
            self._world.note(self.name, "execute")

    revert = Worker.revert


def make_worker(job, needs, world):
    return (Coroutine if world.in_a_loop and len(job.name) % 2 else Worker)(job, needs, world)


class Tracer:
    """A trace function that raises exceptions, each so many lines of the package after the one before."""

    def __init__(self, plan, world) -> None:
        self.plan = list(plan)
        self.world = world
        self.raised: list[BaseException] = []
        self.where: list[str] = []

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and self.plan and not never_interrupted(frame):
            lines, error = self.plan[0]
            if lines > 1:
                self.plan[0] = lines - 1, error
                return self
            stack = list(_stack(frame))
            if issubclass(error, Exception) and any(
                one.f_lineno in _of_others(one.f_code.co_filename) for one in stack
            ):
                return self  # at the next line, then
            self.plan.pop(0)
            self.where.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            for one in stack:
                atom = _called(one)
                if atom is not None:
                    self.world.note(atom.name, "?")
            self.raised.append(error(self.where[-1]))
            raise self.raised[-1]
        return self


def _called(frame):
    """Return the atom that is called in a frame, or that may be taken for one that has begun."""
    name, own = frame.f_code.co_name, frame.f_locals
    if name in _HOOKS:
        return own["self"]
    if name in _CALLS:
        return own.get("atom") or getattr(own.get("call"), "atom", None)
    if name.endswith("_in_place") and "ended" in own and own.get("i", own["ended"]) != own["ended"]:
        return own.get("atom") if getattr(own.get("detail"), "state", None) in states.UNDER_WAY else None
    return None


def _stack(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back


class Life:
    """One engine after the other on one record.

    :param store: 'memory', 'texts' (a store of this process), or the connection of a real one
    """

    def __init__(self, seed: int, executor: str, store: str) -> None:
        self.rng = rng = random.Random(f"{seed} {executor} {store}")
        self.shape = specs.Shape(specs.calm(specs.random_spec(rng, rng.randint(1, 9))))
        self.world = Effects(in_a_loop=executor == "asyncio")
        self.executor = executor
        self.inline = rng.random() < 0.5
        self.backend = None
        if store == "texts":
            self.backend = Store()
        elif store != "memory":
            self.backend = backends.fetch({"connection": store})
        self.record = models.FlowDetail("flow", f"life-{seed}-{executor}")
        if self.backend is not None and store != "texts":
            with contextlib.closing(self.backend.get_connection()) as connection:
                connection.upgrade()
                book = models.LogBook("book")
                book.add(self.record)
                connection.save_logbook(book)
        self.log: list[str] = []
        self.suspend_at = 0
        self._load(self.record)

    def _load(self, record) -> None:
        spec = self.shape.spec
        self.record = record
        self.engine = engines.load(
            build.make_flow(self.shape, self.world),
            store=build.make_store(self.shape),
            flow_detail=record,
            backend=self.backend,
            executor=self.executor,
            inline=self.inline,
            max_workers=3,
            defer_reverts=spec.defer_reverts,
            never_resolve=spec.never_resolve,
            on_revert_failure="continue" if spec.go_on else "halt",
        )
        self.engine.notifier.register("*", self._listen)
        if self.rng.random() < 0.5:  # otherwise threads go on along chains by themselves
            self.engine.atom_notifier.register("*", self._listen)

    def _listen(self, event, details) -> None:
        self.suspend_at -= 1
        if not self.suspend_at:
            self.engine.suspend()

    @property
    def state(self) -> str:
        return self.engine.storage.get_flow_state()

    # -- calls -------------------------------------------------------------------------------------

    def assert_right_to_the_end(self) -> None:
        """Call the engine until the flow has ended, and a reset of it, now and then, too."""
        rounds = self.rng.choice((1, 1, 2))
        for number in range(WITHIN):
            if self.state in ENDED:
                self._check_end()
                rounds -= 1
                if not rounds or self.state == states.FAILURE:
                    return
                self._reset()
                continue
            calm = number > WITHIN // 2
            call = self._run if calm else self.rng.choice(
                (self._compile, self._run, self._run, self._run, self._steps, self._arun, self._other)
            )  # fmt: skip
            self._interrupted(call, 0 if calm else self.rng.choice((0, 1, 1, 2, 3)))
        raise AssertionError(f"it has not come to an end: {self.log}")

    def _interrupted(self, call, times: int) -> Tracer:
        rng = self.rng
        self.suspend_at = rng.choice((0, 0, rng.randint(1, 40)))
        kinds = (KeyboardInterrupt, KeyboardInterrupt, SystemExit, Leave, Limit)
        plan = [(int(2 ** rng.uniform(0, 9 if n else 12)), rng.choice(kinds)) for n in range(times)]
        tracer, before, threads = Tracer(plan, self.world), self.state, set(threading.enumerate())
        caught, kept = None, sys.gettrace()
        self.log.append(f"{call.__name__}({before})")
        sys.settrace(tracer)
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at below
            sys.settrace(kept)
            caught = error
        finally:
            sys.settrace(kept)
        self.log.append(f"  {tracer.where} -> {type(caught).__name__} {self.state}")
        self._check(tracer.raised, caught)
        left = {thread for thread in set(threading.enumerate()) - threads if thread.name.startswith("taskflowx")}
        assert not left, (left, self.log)
        return tracer

    def _compile(self) -> None:
        for step in (self.engine.compile, self.engine.prepare, self.engine.validate):
            step()

    def _run(self) -> None:
        self.engine.run()

    def _steps(self) -> None:
        steps, rng = self.engine.run_iter(), self.rng
        with contextlib.closing(steps):
            sent, left = None, rng.randint(1, 12)
            with contextlib.suppress(StopIteration):
                while left:
                    steps.send(sent)
                    sent, left = (True if rng.random() < 0.05 else None), left - 1

    def _arun(self) -> None:
        turns = int(2 ** self.rng.uniform(0, 7))

        async def cancelled():
            running = asyncio.ensure_future(self.engine.arun())
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            await running

        asyncio.run(cancelled())

    def _other(self) -> None:
        """Another engine on the record, read from the store if it is there."""
        record = self.record
        if isinstance(self.backend, Store):
            record = self.backend.read() if self.backend.flow and self.backend.atoms else record
        elif self.backend is not None:
            with contextlib.closing(self.backend.get_connection()) as connection:
                record = connection.get_flow_details(self.record.uuid)
        kept = sys.gettrace()
        sys.settrace(None)  # what `load` writes is no part of this
        self._load(record)
        sys.settrace(kept)
        self.engine.run()

    def _reset(self) -> None:
        def reset():
            self.engine.reset(force=True)  # also where only an inner part was undone

        self.log.append("-- reset")
        before = self._states()
        self._interrupted(reset, self.rng.choice((0, 1, 2, 3)))
        now = self._states()
        done = self.state == states.PENDING
        assert now == (dict.fromkeys(now, states.PENDING) if done else before), self.log
        if not done:
            reset()
        self.world.done.clear()

    # -- checks ------------------------------------------------------------------------------------

    def _states(self):
        return {name: self.engine.storage.get_atom_state(name) for name in self.shape.atoms}

    def _check(self, raised, caught) -> None:
        assert not self.world.wrong, (self.world.wrong, self.log)
        assert self.state in AT_REST, self.log
        if raised:
            first = next((error for error in raised if not isinstance(error, Exception)), raised[0])
            assert caught is first or isinstance(caught, asyncio.CancelledError), (caught, self.log)
        elif caught is not None:
            known = (specs.Broken, exceptions.NotFound, exceptions.WrappedFailure, asyncio.CancelledError)
            assert isinstance(caught, known), (caught, self.log)
        if isinstance(self.backend, Store):
            stored = self.backend.read() if self.backend.flow else None
        elif self.backend is not None:
            with contextlib.closing(self.backend.get_connection()) as connection:
                stored = connection.get_flow_details(self.record.uuid)
        else:
            return
        now = {detail.name: detail.state for detail in self.record}
        kept = {} if stored is None else {detail.name: detail.state for detail in stored}
        late = {name for name, state in now.items() if kept.get(name, states.PENDING) != state}
        assert not late, ({name: (now[name], kept.get(name)) for name in late}, self.log)
        assert stored is None or (stored.state or states.PENDING) == self.state, (stored.state, self.log)

    def _check_end(self) -> None:
        want = oracle.predict(self.shape)
        if want.depends:
            return
        standing = {
            name: _plain(self.engine.storage.record.detail(name).last_results)
            for name, state in self._states().items()
            if state == states.SUCCESS
        }
        wanted = {name: _plain(value) for name, value in want.standing.items()}
        assert (self.state, standing) == (want.state, wanted), self.log


def _plain(value):
    return list(value) if isinstance(value, tuple) else value  # as a store gives it back


@pytest.fixture(autouse=True)
def _workers(monkeypatch):
    monkeypatch.setattr(build, "Worker", make_worker)


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
@pytest.mark.parametrize("store", ["memory", "texts"])
def test_what_an_engine_is_called_for_is_interrupted_and_nothing_is_lost_or_repeated(executor, store):
    first = int(os.environ.get("TASKFLOWX_LIFE", "0"))
    for seed in range(first, first + LIVES):
        life = Life(seed, executor, store)
        try:
            life.assert_right_to_the_end()
        except BaseException as error:
            error.add_note(f"life {seed} of {executor} and {store}: {life.shape.spec}")
            raise


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_the_record_in_a_real_store_says_what_has_happened_after_each_interrupt(executor, tmp_path):
    for seed in range(max(LIVES // 5, 1)):
        life = Life(seed, executor, f"sqlite:///{tmp_path}/{seed}.db")
        with contextlib.closing(life.backend):
            life.assert_right_to_the_end()
    del life
    gc.collect()  # noqa: TID251 - a connection that an interrupt came upon as it was made is nobody's, and is let go of here


class Counted(task.Task):
    def __init__(self, name, calls):
        super().__init__(name)
        self.calls = calls

    def execute(self):
        self.calls.append(self.name)
        return self.name


#: parts of the names of files whose functions the interpreter calls at any moment, as its garbage collector does
_SWALLOWING = ("_pytest", "weakref", "hypothesis", "sqlalchemy/event")


class Signals:
    """Has a signal handler raise in the main thread, at random moments, whatever of the engine it is in then."""

    def __init__(self, rng) -> None:
        self._rng = rng
        self._kept = signal.signal(signal.SIGUSR1, self._interrupt)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, name="signals")
        self._thread.start()

    @staticmethod
    def _interrupt(number, frame) -> None:
        for one in _stack(frame):
            name = one.f_code.co_filename
            if any(part in name for part in _SWALLOWING):  # what is raised there is printed, and gone
                return
            if name.startswith(PACKAGE):
                raise KeyboardInterrupt

    def _send(self) -> None:
        while not self._ended.wait(self._rng.uniform(0.0001, 0.004)):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._kept)


def _state_of(engine):
    """Return the state of the flow, however often a signal comes meanwhile."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return engine.storage.get_flow_state()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a thread that was about to start
@pytest.mark.parametrize("store", [None, Store], ids=["memory", "texts"])
def test_signals_that_raise_at_any_moment_lose_no_result_of_a_worker(store):
    """As they come where no line of Python begins: when a function of C has returned, say."""
    for seed in range(2 * LIVES):
        rng, calls = random.Random(seed), []
        wide = unordered_flow.Flow("wide").add(*(Counted(f"b{n}", calls) for n in range(rng.randint(1, 30))))
        chain = [Counted(f"a{n}", calls) for n in range(rng.randint(1, 10))]
        record = {} if store is None else {"flow_detail": models.FlowDetail("flow", "1"), "backend": store()}
        engine = engines.load(
            linear_flow.Flow("flow").add(*chain, wide), executor="threads", inline=False, max_workers=3, **record
        )
        signals = Signals(rng)
        try:
            for _ in range(20):
                with contextlib.suppress(KeyboardInterrupt):
                    engine.run()
                state = _state_of(engine)
                assert state in AT_REST
                if state == states.SUCCESS:
                    break
        finally:
            signals.stop()
        if engine.storage.get_flow_state() != states.SUCCESS:
            engine.run()
        assert engine.storage.get_flow_state() == states.SUCCESS
        assert sorted(calls) == sorted({*calls}), f"life {seed}"
