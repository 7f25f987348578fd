"""The contract of every executor, as tests for your own one: a line in a file that pytest or unittest runs.

    TestMine = executor_contract.case(lambda: MyExecutor(2))

The tasks are at the top level of a module that can be imported wherever taskflowx can, so they can be sent to other
processes. They record their effects in a file, so all workers must see the same file system.

An executor under test may do anything, so each test runs in a thread of its own and has a limit in seconds. When one
has hung, the others get a second each: the suite always ends. A test fails as well when the engine has rejected an
action of the executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import pathlib
import queue
import random
import sys
import tempfile
import threading
import time
import traceback
import unittest
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import engines, exceptions, executors, retry, states, task
from taskflowx.executors import base, guard
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.testing import contract_tasks as tasks
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.flow import Flow


#: seconds after which a call that was held is let go, as it may hold the thread of the scheduler
_HELD_HERE = 3.0


class Driven:
    """An executor without a scheduler.

    :param executor: the executor, which is started
    """

    def __init__(self, executor: base.Executor) -> None:
        self.executor = executor
        self.delivered: list[tuple[Any, Any]] = []
        self._queue = executor.make_queue()
        executor.start(self._queue.put)

    def wait(self, seconds: float) -> None:
        """Wait as the scheduler does, for one delivery, for at most `seconds`."""
        with contextlib.suppress(queue.Empty):
            self.delivered.append(self._queue.get(timeout=seconds))

    def stop(self) -> list[tuple[Any, Any]]:
        """Stop the executor, and return all deliveries."""
        self.executor.stop()
        with contextlib.suppress(queue.Empty):
            while True:
                self.delivered.append(self._queue.get_nowait())
        return self.delivered


class Contract(unittest.TestCase):
    """The contract of executors; subclasses provide the executor."""

    #: returns the `executor=` argument
    make: Callable[[], Any]
    #: the time limit of a test in seconds, and that of the tests after one that has hung
    limit, limit_after_a_hang = 20.0, 1.0
    #: whether a test has hung
    hung = False

    @classmethod
    def setUpClass(cls) -> None:
        """Have Python print none of the log when nobody has configured it: tests give calls up, which is logged."""
        super().setUpClass()
        ours, quiet = logging.getLogger(guard.LOG.logger.name.partition(".")[0]), logging.NullHandler()
        ours.addHandler(quiet)
        cls.addClassCleanup(ours.removeHandler, quiet)

    def setUp(self) -> None:
        """Make the executor, and a file for records."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/notes"
        self.executor = type(self).make()
        for name in ("shutdown", "close"):
            if callable(end := getattr(self.executor, name, None)):
                self.addCleanup(self.within_limit, end)
                break

    def within_limit(self, function: Callable[[], Any]) -> None:
        """Call a function in a thread of its own, and raise its exception.

        :raises AssertionError: when it has not ended in time; says where it is
        """
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - raised below
                ended.put(error)
            else:
                ended.put(None)

        kind = type(self)
        seconds = kind.limit_after_a_hang if kind.hung else kind.limit
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            error = ended.get(timeout=seconds)
        except queue.Empty:
            kind.hung = True
            frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way to get it
            where = "".join(traceback.format_stack(frame)[-6:])
            raise AssertionError(f"it did not end in {seconds:g} seconds, and is at\n{where}") from None
        if error is not None:
            raise error

    @contextlib.contextmanager
    def started(self) -> Iterator[Driven]:
        """Give the executor, started as by the scheduler."""
        executor = executors.fetch(self.executor)
        if executor.serial:
            self.skipTest("nothing is submitted to it")
        driven = Driven(executor)
        try:
            yield driven
        finally:
            pathlib.Path(self.path + ".go").touch()
            executor.stop()

    def let_go_soon(self, seconds: float = 0.1) -> threading.Event:
        """Release held calls when one has started and `stop` may wait for it, whatever this thread does then.

        Returns an event that prevents it.

        :param seconds: how long after the start
        """
        prevented = threading.Event()
        began, let_go = pathlib.Path(self.path), pathlib.Path(self.path + ".go")

        def watch() -> None:
            while not began.exists() and began.parent.exists():
                time.sleep(0.005)  # noqa: TID251 - it may come from another process
            if not prevented.wait(seconds):  # time for a `stop` that does not wait
                with contextlib.suppress(OSError):
                    let_go.touch()

        threading.Thread(target=watch, daemon=True).start()
        return prevented

    def load(self, flow: Flow, **options: Any) -> Any:
        """Return an engine for a flow."""
        return engines.load(flow, engine="parallel", executor=self.executor, **options)

    def notes(self) -> list[str]:
        """Return the lines in the file."""
        path = pathlib.Path(self.path)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def test_values_reach_those_who_need_them(self) -> None:
        flow = graph_flow.Flow("f").add(
            tasks.Join("join", provides="all", rebind={"left": "a", "right": "b"}),
            tasks.Give("a", "x", provides="a"),
            tasks.Give("b", "y", provides="b"),
        )
        engine = self.load(flow, store={"unused": threading.Lock()})
        engine.run()
        _equal(engine.storage.fetch("all"), "xy")
        _equal(engine.storage.get_flow_state(), states.SUCCESS)

    def test_many_atoms_run_once_each(self) -> None:
        self.load(unordered_flow.Flow("f").add(*(tasks.Note(f"t{i}", self.path) for i in range(40)))).run()
        _equal(sorted(self.notes()), sorted(f"ran t{i}" for i in range(40)))

    def test_a_failure_is_raised_as_itself_after_an_ordered_rollback(self) -> None:
        flow = linear_flow.Flow("f").add(
            tasks.Note("a", self.path),
            unordered_flow.Flow("u").add(
                linear_flow.Flow("left").add(tasks.Note("b", self.path), tasks.Note("c", self.path)),
                tasks.Note("d", self.path),
            ),
            tasks.Break("e", self.path),
            tasks.Note("never", self.path),
        )
        engine = self.load(flow)
        problem = _raised(tasks.Problem, engine.run)
        _equal(problem.args, ("on purpose", 7))
        _equal(engine.storage.get_flow_state(), states.REVERTED)
        undone = [line.split()[1] for line in self.notes() if line.startswith("undid")]
        _equal(sorted(undone), ["a", "b", "c", "d", "e"])
        _equal((undone[0], undone[-1]), ("e", "a"))
        _equal(undone.index("c") < undone.index("b"), True)
        _equal(engine.not_undone(), [])

    def test_a_retry_runs_its_flow_again(self) -> None:
        flow = linear_flow.Flow("f", retry=retry.Times(5, "again", provides="attempt"))
        flow.add(tasks.Note("a", self.path), tasks.BreakTwice("b", self.path, provides="b"))
        engine = self.load(flow)
        engine.run()
        _equal((engine.storage.fetch("b"), engine.storage.fetch("attempt")), ("third time", 3))
        attempt = ["ran a", "tried b", "undid b", "undid a"]
        _equal(self.notes(), [*attempt, *attempt, "ran a", "tried b"])
        history = engine.storage.get_retry_history("again")
        _equal([sorted(failures) for _, failures in history], [["b"], ["b"], []])

    def test_transitions_come_in_order_in_the_thread_of_the_engine(self) -> None:
        seen = []
        engine = self.load(linear_flow.Flow("f").add(tasks.Give("a", 1), tasks.Give("b", 2)))
        engine.atom_notifier.register(
            "*", lambda state, details: seen.append((details["task_name"], state, threading.current_thread()))
        )
        engine.run()
        me = threading.current_thread()
        _equal(seen, [(name, state, me) for name in "ab" for state in (states.RUNNING, states.SUCCESS)])

    def test_progress_reaches_the_record_and_the_listeners_of_the_engine(self) -> None:
        seen = []
        engine = self.load(linear_flow.Flow("f").add(tasks.Report("report")))
        engine.atom_notifier.register(
            task.EVENT_UPDATE_PROGRESS, lambda _, details: seen.append((details["progress"], details["part"]))
        )
        engine.run()
        _equal(seen, [(0.25, "0.25"), (0.5, "0.5")])
        _equal(engine.storage.get_task_progress("report"), 1.0)

    def test_events_of_a_task_reach_its_listeners_in_order(self) -> None:
        seen: list[Any] = []
        stages = tasks.Stages("stages")
        for event in tasks.Stages.TASK_EVENTS:
            stages.notifier.register(event, lambda _, details: seen.extend(details.values()))
        engine = self.load(linear_flow.Flow("f").add(stages))
        engine.run()
        _equal(seen, [0.0, 1, 0.5, 2, 1.0])
        _equal(engine.storage.get_task_progress("stages"), 1.0)

    def test_an_exit_in_a_task_is_raised_and_the_run_goes_on_later(self) -> None:
        engine = self.load(linear_flow.Flow("f").add(tasks.Give("a", 1), tasks.LeaveOnce("leave", self.path)))
        _raised(SystemExit, engine.run)
        _equal(engine.storage.get_flow_state(), states.SUSPENDED)
        engine.run()
        _equal(engine.storage.get("leave"), "stayed")
        _equal(engine.storage.get_flow_state(), states.SUCCESS)

    def test_an_interrupt_in_a_listener_is_raised_and_the_run_goes_on_later(self) -> None:
        engine = self.load(linear_flow.Flow("f").add(*(tasks.Note(name, self.path) for name in "abc")))

        def interrupt(_: str, details: dict[str, Any]) -> None:
            if details["task_name"] == "b":
                engine.atom_notifier.reset()
                raise KeyboardInterrupt

        engine.atom_notifier.register(states.SUCCESS, interrupt)
        _raised(KeyboardInterrupt, engine.run)
        _equal(engine.storage.get_flow_state(), states.SUSPENDED)
        engine.run()
        _equal(engine.storage.get_flow_state(), states.SUCCESS)
        _equal(self.notes(), ["ran a", "ran b", "ran c"])

    def test_a_suspended_run_goes_on_where_it_was(self) -> None:
        engine = self.load(linear_flow.Flow("f").add(*(tasks.Note(name, self.path) for name in "abc")))
        engine.atom_notifier.register(
            states.SUCCESS, lambda _, details: engine.suspend() if details["task_name"] == "b" else None
        )
        engine.run()
        _equal(engine.storage.get_flow_state(), states.SUSPENDED)
        _equal(self.notes(), ["ran a", "ran b"])
        engine.run()
        _equal(self.notes(), ["ran a", "ran b", "ran c"])

    def test_no_time_left_leaves_the_flow_suspended(self) -> None:
        engine = self.load(linear_flow.Flow("f").add(*(tasks.Note(name, self.path) for name in "ab")))
        _raised(TimeoutError, lambda: engine.run(timeout=0))
        _equal(engine.storage.get_flow_state(), states.SUSPENDED)
        _equal(self.notes(), [])
        engine.run(timeout=60)
        _equal(self.notes(), ["ran a", "ran b"])

    def test_a_run_can_be_awaited(self) -> None:
        engine = self.load(linear_flow.Flow("f").add(tasks.Note("a", self.path), tasks.Break("b", self.path)))
        # An executor may hang here: the interpreter would wait for the thread of `arun`.
        _raised(tasks.Problem, engine.run)
        _raised(tasks.Problem, lambda: asyncio.run(engine.arun()))
        _equal(self.notes(), ["ran a", "broke b", "undid b", "undid a"] * 2)

    def test_what_the_executor_says_of_itself_is_true(self) -> None:
        executor = executors.fetch(self.executor)
        engine = self.load(linear_flow.Flow("f").add(tasks.GiveLater("later", 1)))
        if executor.runs_async:
            engine.run()
            _equal(engine.storage.get("later"), 1)
        else:
            _raised(exceptions.CompilationFailure, engine.run)
        if executor.shares_memory is not None:
            box: list[str] = []
            self.load(linear_flow.Flow("f").add(tasks.Append("a")), store={"box": box}).run()
            _equal(box == ["a"], executor.shares_memory)

    def test_each_call_is_delivered_once_before_stop_returns(self) -> None:
        for _ in range(2):  # an executor is started again for the next run
            calls = [base.Call(i, tasks.Give(f"t{i}", i), states.EXECUTE, {}) for i in range(12)]
            calls.append(base.Call(12, tasks.Break("broken", self.path), states.EXECUTE, {}))
            with self.started() as driven:
                driven.executor.submit(calls[:5])
                driven.executor.submit(calls[5:])
                delivered = driven.stop()
            _equal(len(delivered), len(calls))
            outcomes = {id(call): outcome for call, outcome in delivered}
            _equal([outcomes.get(id(call)) for call in calls[:-1]], list(range(12)))
            _equal(outcomes[id(calls[-1])].exception_str, "('on purpose', 7)")

    def test_stop_waits_for_calls_that_run(self) -> None:
        call = base.Call(0, tasks.Hold("held", self.path), states.EXECUTE, {})
        with self.started() as driven:
            self.let_go_soon()
            driven.executor.submit([call])
            while not self.notes():
                driven.wait(0.01)
            delivered = driven.stop()
        _equal(delivered, [(call, "held")])

    def test_a_call_is_given_back_or_delivered(self) -> None:
        held = [base.Call(i, tasks.Hold(f"held{i}", self.path), states.EXECUTE, {}) for i in range(2)]
        calls = [*held, *(base.Call(i, tasks.Note(f"t{i}", self.path), states.EXECUTE, {}) for i in range(2, 80))]
        with self.started() as driven:
            self.let_go_soon()
            driven.executor.submit(calls)
            driven.wait(0.05)
            given_back = driven.executor.recall()
            delivered = [call for call, _ in driven.stop()]
        _equal(sorted(call.index for call in [*given_back, *delivered]), list(range(80)))
        _equal({id(call) for call in [*given_back, *delivered]}, {id(call) for call in calls})
        _equal(sorted(line.split()[1] for line in self.notes()), sorted(call.atom.name for call in delivered))

    def test_an_interrupt_of_a_call_that_has_ended_changes_nothing(self) -> None:
        calls = [base.Call(i, tasks.Give(f"t{i}", i), states.EXECUTE, {}) for i in range(4)]
        with self.started() as driven:
            driven.executor.submit(calls)
            while len(driven.delivered) < len(calls):
                driven.wait(0.05)
            for call in calls:
                driven.executor.interrupt(call, exceptions.Cancelled(call.atom.name))
            _equal([driven.executor.abandon(call) for call in calls], [False] * len(calls))
            delivered = driven.stop()
        _equal(sorted(outcome for _, outcome in delivered), list(range(4)))

    def test_calls_that_are_interrupted_at_any_moment_are_delivered_once(self) -> None:
        rng = random.Random(22)
        makers = [tasks.Ask, tasks.Ask, tasks.Note, tasks.Break]
        calls = [base.Call(i, rng.choice(makers)(f"t{i}", self.path), states.EXECUTE, {}) for i in range(24)]
        errors = {call: exceptions.TimeoutExceeded(call.atom.name) for call in calls}
        with self.started() as driven:
            self.let_go_soon()
            waiting, interrupted = calls[:], rng.sample(calls, 16)
            while waiting or interrupted:
                if waiting and (not interrupted or rng.random() < 0.4):  # noqa: PLR2004 - any
                    driven.executor.submit([waiting.pop(0) for _ in range(min(len(waiting), rng.randint(4, 12)))])
                else:
                    call = interrupted.pop()
                    for _ in range(rng.choice((1, 2))):
                        if call not in waiting:  # nothing happens to one that was not submitted, as it is unknown
                            driven.executor.interrupt(call, errors[call])
                driven.wait(rng.choice((0, 0, 0.003)))
            delivered = driven.stop()
        _equal(sorted(call.index for call, _ in delivered), list(range(24)))
        begun, late = {line.split()[1] for line in self.notes()}, exceptions.TimeoutExceeded
        for call, outcome in delivered:
            failure = outcome.failure if isinstance(outcome, base.NotBegun) else outcome
            if not isinstance(failure, Failure):
                _equal(outcome, "held" if isinstance(call.atom, tasks.Ask) else None)
            elif failure.check(tasks.Problem) is None:
                _equal((failure.check(exceptions.TimeoutExceeded), failure.exception_str), (late, call.atom.name))
            _equal(isinstance(outcome, base.NotBegun) and call.atom.name in begun, False)

    def test_a_call_that_does_not_end_is_stopped_or_given_up(self) -> None:
        held, after = tasks.Hold("held", self.path), tasks.Give("after", 1)
        call, other = (base.Call(i, one, states.EXECUTE, {}) for i, one in enumerate((held, after)))
        error = exceptions.TimeoutExceeded("held")
        with self.started() as driven:
            driven.executor.submit([call])
            is_free = self.let_go_soon(_HELD_HERE)
            while not self.notes():
                driven.wait(0.01)
            is_free.set()
            if driven.delivered:
                self.skipTest("a call holds the thread of the scheduler")
            driven.executor.interrupt(call, error)
            while not driven.delivered and driven.executor.stops == "kills":
                driven.wait(0.05)
            given_up = driven.executor.abandon(call)
            driven.executor.submit([other])
            while (other, 1) not in driven.delivered:
                driven.wait(0.05)
            delivered = driven.stop()  # which does not wait for the first one
            _equal(delivered.pop(), (other, 1))
            _equal(given_up, not delivered)
            for one, outcome in delivered:
                _equal((one, isinstance(outcome, Failure) and outcome.exception), (call, error))
            before = len(delivered)
            pathlib.Path(self.path + ".go").touch()
            time.sleep(0.05)  # noqa: TID251 - it ends now, and nobody may hear of it
            _equal(len(driven.stop()), before)

    def test_a_coroutine_is_cancelled_or_given_up(self) -> None:
        heeds, swallows = (tasks.WaitLater(f"w{i}", self.path, heeds=not i) for i in range(2))
        calls = [base.Call(i, one, states.EXECUTE, {}) for i, one in enumerate((heeds, swallows))]
        error = exceptions.Cancelled("w0")
        with self.started() as driven:
            if not driven.executor.runs_async:
                self.skipTest("it runs no coroutines")
            driven.executor.submit(calls)
            while len(self.notes()) < len(calls):
                driven.wait(0.01)
            for call in calls:
                driven.executor.interrupt(call, error)
            while not driven.delivered:
                driven.wait(0.05)
            _equal([driven.executor.abandon(call) for call in calls], [False, True])
            [(call, outcome)] = driven.stop()
        _equal((call, outcome.exception), (calls[0], error))

    def test_an_executor_of_the_caller_stays_open(self) -> None:
        submit = getattr(self.executor, "submit", None)
        if not callable(submit) or isinstance(self.executor, base.Executor):
            self.skipTest("a run starts and stops it")
        self.load(linear_flow.Flow("f").add(tasks.Give("a", 1))).run()
        _equal(submit(str, 5).result(60), "5")


def _limited(test: Callable[[Contract], None]) -> Callable[[Contract], None]:
    """Return a test with a time limit, which fails when the engine has rejected an action of the executor."""

    @functools.wraps(test)
    def limited(self: Contract) -> None:
        refused = _Refused()
        guard.LOG.logger.addHandler(refused)
        try:
            self.within_limit(functools.partial(test, self))
        finally:
            guard.LOG.logger.removeHandler(refused)
        _equal(refused.texts, [])

    return limited


class _Refused(logging.Handler):
    """Keeps the warnings of the engine about an executor."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


for _name in [name for name in vars(Contract) if name.startswith("test_")]:
    setattr(Contract, _name, _limited(vars(Contract)[_name]))


def case(make: Callable[[], Any], limit: float = Contract.limit) -> type[Contract]:
    """Return the tests for one executor, as a `unittest.TestCase`.

    :param make: returns the `executor=` argument; it is called for each test, and `shutdown` or `close`, if present,
        after it
    :param limit: the time limit of a test in seconds
    """
    return type("Case", (Contract,), {"make": staticmethod(make), "limit": limit})


def _equal(found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"{found!r} where {expected!r} was expected")


def _raised(error: type[BaseException], function: Callable[[], Any]) -> BaseException:
    """Return the error of a class that a function raises."""
    try:
        function()
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")
