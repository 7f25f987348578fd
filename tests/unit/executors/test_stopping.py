"""Calls that are to stop: what `checkpoint` asks, and our threads that are interrupted and given up."""

import contextvars
import logging
import queue
import threading

import pytest

import taskflowx
from taskflowx import exceptions, states, task
from taskflowx.executors import base, serial, stopping, threads


class Clock:
    """A clock that a test sets."""

    now = 10.0

    def monotonic(self):
        return self.now


def error_of(check):
    """Return the error that is raised, or None."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - returned
        return error
    return None


# -- the token of a run ----------------------------------------------------------------------------


def test_outside_of_runs_nothing_is_to_stop():
    assert taskflowx.checkpoint is stopping.checkpoint
    assert error_of(taskflowx.checkpoint) is None


def test_a_token_raises_when_the_time_of_its_call_is_up_and_no_more_after_the_call():
    clock = Clock()
    run = stopping.Token(clock)
    token = stopping.Limited(run, clock, 12.0, lambda: exceptions.TimeoutExceeded("too long"))
    assert error_of(token.check) is None
    clock.now = 12.0
    assert (str(error_of(token.check)), error_of(run.check)) == ("too long", None)
    token.deadline = None
    assert error_of(token.check) is None
    run.error = exceptions.Cancelled("enough")
    assert error_of(token.check) is run.error


def test_a_token_raises_the_error_that_another_thread_has_set_until_it_is_taken_away():
    token, error = stopping.Token(), exceptions.Cancelled("enough")
    setter = threading.Thread(target=setattr, args=(token, "error", error))
    setter.start()
    setter.join()
    assert [error_of(token.check), error_of(token.check)] == [error, error]
    token.error = None
    assert error_of(token.check) is None


def test_checkpoint_asks_the_token_of_the_context_of_calls():
    token = stopping.Token()
    context = base.context_of_calls(None, token)
    token.error = exceptions.Cancelled("enough")
    assert error_of(stopping.checkpoint) is None
    assert context.run(error_of, stopping.checkpoint) is token.error
    inner = context.run(base.context_of_calls, None, stopping.Token())
    assert inner.run(error_of, stopping.checkpoint) is None
    assert context.run(base.context_of_calls, None).run(error_of, stopping.checkpoint) is token.error


def test_what_a_given_up_call_reports_is_dropped():
    class Gone:
        given_up = True

    reported, executor = [], serial.SerialExecutor()
    report = executor.reporter(reported.append)
    context = base.context_of_calls(report, Gone())
    context.run(report, "task", {"progress": 0.5})
    assert reported == []
    report("task", {"progress": 0.7})
    assert reported == [("task", {"progress": 0.7})]


def test_in_place_nothing_is_interrupted_from_outside():
    executor = serial.SerialExecutor()
    call = base.Call(0, task.FunctorTask(str, name="a"), states.EXECUTE, {})
    executor.interrupt(call, exceptions.Cancelled("enough"))
    assert (executor.stops, executor.abandon(call), call.stopped_by) == ("asks", False, None)


# -- our threads -----------------------------------------------------------------------------------


class Asks(task.Task):
    """Goes on until it is told to stop."""

    def __init__(self, name):
        super().__init__(name)
        self.began = threading.Event()

    def execute(self):
        self.began.set()
        while True:
            stopping.checkpoint()


class Deaf(task.Task):
    """Goes on until the test lets it go."""

    def __init__(self, name):
        super().__init__(name)
        self.began, self.go, self.seen = threading.Event(), threading.Event(), None

    def execute(self):
        self.began.set()
        assert self.go.wait(30)
        self.update_progress(0.5)
        self.seen = error_of(stopping.checkpoint)
        return "late"


class Crew:
    """An executor with its calls."""

    def __init__(self, width):
        self.executor = threads.ThreadsExecutor(width)
        self.delivered = self.executor.make_queue()
        self.executor.start(self.delivered.put)
        self.threads = set(threading.enumerate())

    def submit(self, *tasks):
        calls = [base.Call(i, one, states.EXECUTE, {}) for i, one in enumerate(tasks)]
        self.executor.submit(calls)
        return calls

    def hear(self):
        """Return the next call that is delivered, with its outcome."""
        return self.delivered.get(timeout=30)

    def hears_no_more(self):
        with pytest.raises(queue.Empty):
            self.delivered.get_nowait()
        return True


@pytest.fixture
def crew():
    made = []

    def make(width=1):
        made.append(Crew(width))
        return made[-1]

    yield make
    for one in made:
        one.executor.stop()


def test_a_call_that_asks_is_stopped_and_another_one_in_the_same_thread_is_not(crew):
    here, error = crew(), exceptions.TimeoutExceeded("too long")
    first, second = Asks("first"), Deaf("second")
    second.go.set()
    stopped, other = here.submit(first, second)
    assert first.began.wait(30)
    here.executor.interrupt(stopped, error)
    here.executor.interrupt(stopped, exceptions.Cancelled("a second time"))
    call, outcome = here.hear()
    assert (call, outcome.exception) == (stopped, error)
    assert here.hear()[0] is second
    assert (here.hear(), second.seen) == ((other, "late"), None)


def test_a_call_that_waits_for_a_thread_never_begins(crew):
    here, error = crew(), exceptions.Cancelled("enough")
    held, waiting, last = Deaf("held"), Deaf("waiting"), Deaf("last")
    calls = here.submit(held, waiting, last)
    assert held.began.wait(30)
    here.executor.interrupt(calls[1], error)
    call, outcome = here.hear()
    assert (call, type(outcome), outcome.failure.exception) == (calls[1], base.NotBegun, error)
    assert here.executor.recall() == [calls[2]]
    held.go.set()
    here.executor.stop()
    assert not waiting.began.is_set()


def test_a_call_that_has_ended_is_delivered_once(crew):
    here, one = crew(), Deaf("one")
    one.go.set()
    (call,) = here.submit(one)
    assert (here.hear()[0], here.hear()) == (one, (call, "late"))
    here.executor.interrupt(call, exceptions.Cancelled("enough"))
    assert not here.executor.abandon(call)
    assert here.hears_no_more()


def test_a_call_that_was_not_interrupted_cannot_be_given_up(crew):
    here, one = crew(), Deaf("one")
    (call,) = here.submit(one)
    assert one.began.wait(30)
    assert not here.executor.abandon(call)
    one.go.set()
    assert (here.hear()[0], here.hear()) == (one, (call, "late"))


def test_a_thread_that_never_asks_is_left_behind_and_another_one_goes_on(crew, caplog):
    here, held, after = crew(), Deaf("held"), Deaf("after")
    after.go.set()
    first, second = here.submit(held, after)
    assert held.began.wait(30)
    here.executor.interrupt(first, exceptions.TimeoutExceeded("too long"))
    assert here.executor.abandon(first)
    assert here.executor.abandon(first)
    assert (here.hear()[0], here.hear()) == (after, (second, "late"))
    here.executor.stop()  # although the first one runs
    (left,) = [one for one in threading.enumerate() if one not in here.threads]
    assert left.daemon
    with caplog.at_level(logging.WARNING):
        held.go.set()
        left.join(30)
    assert caplog.messages == ["Atom 'held' was given up, and its execute has succeeded late; the outcome is refused"]
    assert isinstance(held.seen, exceptions.TimeoutExceeded)
    assert here.hears_no_more()


class Slow(queue.SimpleQueue):
    """A queue of which the taker gets an item only when somebody sleeps, although it is not in the queue any more."""

    def __init__(self):
        self.taken, self.handed_out = threading.Event(), threading.Event()

    def get(self):
        item = super().get()
        if item is not None:
            self.taken.set()
            assert self.handed_out.wait(30)
        return item


def test_a_call_that_a_thread_has_taken_just_now_is_left_behind_too(crew, monkeypatch):
    made = []
    monkeypatch.setattr(threads.queue, "SimpleQueue", lambda: made.append(Slow()) or made[-1])
    here, held = crew(), Deaf("held")
    monkeypatch.undo()
    (call,) = here.submit(held)
    calls = made[-1]
    assert calls.taken.wait(30)
    monkeypatch.setattr(threads.time, "sleep", lambda _: calls.handed_out.set() or held.began.wait(30))
    here.executor.interrupt(call, exceptions.TimeoutExceeded("too long"))
    assert not held.began.is_set()
    assert here.executor.abandon(call)
    held.go.set()
    here.executor.stop()
    assert here.hears_no_more()


def test_the_next_run_has_all_its_threads_while_one_is_left_behind(crew):
    here, held = crew(), Deaf("held")
    (first,) = here.submit(held)
    assert held.began.wait(30)
    here.executor.interrupt(first, exceptions.Cancelled("enough"))
    assert here.executor.abandon(first)
    here.executor.stop()
    here.delivered = here.executor.make_queue()
    here.executor.start(here.delivered.put)
    after = Deaf("after")
    after.go.set()
    (call,) = here.submit(after)
    assert (here.hear()[0], here.hear()) == (after, (call, "late"))
    here.executor.stop()
    held.go.set()
    for one in set(threading.enumerate()) - here.threads:
        one.join(30)
    assert here.hears_no_more()


def test_a_thread_of_a_task_sees_it_in_a_copy_of_its_context(crew):
    seen, here = [], crew()

    class Starts(Deaf):
        def execute(self):
            super().execute()
            copied = contextvars.copy_context()
            for target in (copied.run, lambda ask, *_: ask(*_)):
                one = threading.Thread(target=target, args=(lambda _: seen.append(error_of(stopping.checkpoint)), 0))
                one.start()
                one.join()

    starts, error = Starts("starts"), exceptions.Cancelled("enough")
    (call,) = here.submit(starts)
    assert starts.began.wait(30)
    here.executor.interrupt(call, error)
    starts.go.set()
    assert (here.hear()[0], here.hear()) == (starts, (call, None))
    assert seen[0] is error
    assert len(seen) == 2


class Leaves(task.Task):
    """Leaves a thread behind, which asks when it is asked to."""

    default_provides = "left"

    def execute(self):
        self.go, self.seen = threading.Event(), []
        self.left = threading.Thread(target=contextvars.copy_context().run, args=(self.ask,), daemon=True)
        self.left.start()
        return self

    def ask(self):
        assert self.go.wait(30)
        self.seen.append(error_of(stopping.checkpoint))

    def answer(self):
        """Have it ask, and return what it has seen."""
        self.go.set()
        self.left.join(30)
        return self.seen


def test_what_a_task_leaves_behind_in_the_thread_of_the_engine_does_not_see_the_time_limit_of_the_next_one():
    class Takes(task.Task):
        default_timeout = 5

        def execute(self, left):
            clock.advance(6)
            left.answer()
            stopping.checkpoint()

    clock = taskflowx.testing.VirtualClock()
    leaves = Leaves("leaves")
    engine = taskflowx.load(taskflowx.linear("f", leaves, Takes("takes")), clock=clock)
    with pytest.raises(exceptions.TimeoutExceeded, match="'takes'"):
        engine.run()
    assert leaves.seen == [None]


def test_a_call_that_has_set_a_variable_is_stopped_as_any_other(crew):
    variable, here = contextvars.ContextVar("variable"), crew()

    class Sets(Asks):
        def execute(self):
            variable.set(self.name)
            super().execute()

    for name in "ab":
        one, error = Sets(name), exceptions.Cancelled(name)
        (call,) = here.submit(one)
        assert one.began.wait(30)
        here.executor.interrupt(call, error)
        delivered, outcome = here.hear()
        assert (delivered, outcome.exception) == (call, error)
