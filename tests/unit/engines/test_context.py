"""Context variables: what the caller of a run has set reaches all that runs in it, and what a call sets is its own."""

import asyncio
import contextlib
import contextvars
import multiprocessing
import threading
import warnings
from concurrent import futures

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.executors import processes
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow

REQUEST = contextvars.ContextVar("request", default="lost")
OTHER = contextvars.ContextVar("other", default="unset")


def run(engine):
    REQUEST.set("r-17")
    engine.run()
    return REQUEST.get(), OTHER.get()


def run_iter(engine):
    REQUEST.set("r-17")
    for _ in engine.run_iter():
        pass
    return REQUEST.get(), OTHER.get()


def arun(engine):
    async def main():
        REQUEST.set("r-17")
        await engine.arun()
        return REQUEST.get(), OTHER.get()

    return asyncio.run(main())


def arun_iter(engine):
    async def main():
        REQUEST.set("r-17")
        async for _ in engine.arun_iter():
            pass
        return REQUEST.get(), OTHER.get()

    return asyncio.run(main())


PLACES = ["serial", "threads", "threads-not-inline", "asyncio", "greenthreads"]
ways = pytest.mark.parametrize("way", [run, run_iter, arun, arun_iter])
places = pytest.mark.parametrize("place", PLACES)


def load(flow, place, **options):
    executor = place.removesuffix("-not-inline")
    if executor == "greenthreads":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # eventlet warns of itself
            pytest.importorskip("eventlet", reason="executor='greenthreads' needs eventlet")
    return engines.load(flow, executor=executor, max_workers=2, inline=place == executor, **options)


def outcome(way, engine):
    """Run in a context of its own; returns what the caller has in the end, and what was raised."""
    try:
        return contextvars.copy_context().run(way, engine), None
    except Exception as error:  # noqa: BLE001 - it is looked at
        return None, error


class Notes:
    """What was found where, and a mark that must not be found elsewhere."""

    def __init__(self):
        self.seen = []

    def __call__(self, where):
        self.seen.append((where, REQUEST.get(), OTHER.get()))
        REQUEST.set(f"of {where}")
        OTHER.set(f"of {where}")


class Asks(task.Task):
    def __init__(self, name, notes, **kwargs):
        super().__init__(name, **kwargs)
        self.notes = notes

    def execute(self):
        self.notes(f"execute {self.name}")

    def revert(self, **kwargs):
        self.notes(f"revert {self.name}")


class AsksInLoop(Asks):
    async def execute(self):
        super().execute()
        await asyncio.sleep(0)

    async def revert(self, **kwargs):
        super().revert(**kwargs)


class Fails(Asks):
    def execute(self):
        super().execute()
        raise ValueError(self.name)


class AsksToo(retry.Times):
    def __init__(self, notes):
        super().__init__(2, "again")
        self.notes = notes

    def execute(self, *args, **kwargs):
        self.notes("retry")
        return super().execute(*args, **kwargs)

    def on_failure(self, *args, **kwargs):
        self.notes.seen.append(("on_failure", REQUEST.get(), OTHER.get()))
        return super().on_failure(*args, **kwargs)


@ways
@places
def test_all_that_runs_finds_what_the_caller_has_set_and_nothing_else(place, way):
    notes = Notes()
    kind = AsksInLoop if place == "asyncio" else Asks
    decided = graph_flow.Flow("g").add(one := Asks("one", notes), two := kind("two", notes))

    def decides(history):
        notes.seen.append(("decider", REQUEST.get(), OTHER.get()))
        return True

    decided.link(one, two, decider=decides)
    many = unordered_flow.Flow("u").add(*(kind(f"t{i}", notes) for i in range(5)))
    in_turn = linear_flow.Flow("l").add(*(Asks(f"s{i}", notes) for i in range(3)))
    flow = linear_flow.Flow("f", retry=AsksToo(notes)).add(decided, many, in_turn, Fails("fails", notes))
    left, error = outcome(way, load(flow, place))
    assert left is None
    assert str(error) == "fails"
    wrong = [each for each in notes.seen if each[1:] != ("r-17", "unset")]
    assert wrong == []
    assert len(notes.seen) == 2 * (1 + 1 + 2 + 5 + 3 + 1 + 1 + 11)


@ways
@places
def test_those_who_listen_find_it_too(place, way):
    seen = []
    flow = linear_flow.Flow("f").add(*(Asks(f"t{i}", Notes()) for i in range(2)), Fails("fails", Notes()))
    engine = load(flow, place)

    def listener(state, details):
        seen.append((state, REQUEST.get(), OTHER.get()))

    engine.atom_notifier.register("*", listener)
    engine.notifier.register("*", listener)
    _, error = outcome(way, engine)
    assert str(error) == "fails"
    assert {each[0] for each in seen} >= {states.RUNNING, states.SUCCESS, states.FAILURE, states.REVERTED}
    assert [each for each in seen if each[1:] != ("r-17", "unset")] == []


@ways
@places
def test_the_caller_finds_its_context_as_it_was(place, way):
    notes = Notes()
    many = [Asks(f"t{i}", notes) for i in range(30)]
    left, error = outcome(way, load(unordered_flow.Flow("f").add(*many), place))
    assert error is None
    assert left == ("r-17", "unset")
    assert [each for each in notes.seen if each[1:] != ("r-17", "unset")] == []
    assert len(notes.seen) == 30


@places
def test_what_is_ready_together_is_taken_together_whoever_changes_the_context(place):
    notes = Notes()
    flow = unordered_flow.Flow("f").add(
        Asks("a", notes), Fails("b", notes), Asks("c", notes), linear_flow.Flow("l").add(Asks("d", notes))
    )
    _, error = outcome(run, load(flow, place))
    assert str(error) == "b"
    ran = {where for where, _, _ in notes.seen if where.startswith("execute")}
    assert ran == {f"execute {name}" for name in "abcd"}


class Grant:
    """Any two are equal, and who compares them is counted."""

    compared = 0
    __hash__ = None

    def __eq__(self, other):
        Grant.compared += 1
        return True


GRANT = contextvars.ContextVar("grant")


@places
def test_a_value_that_equals_the_one_of_the_caller_stays_with_its_task_and_is_not_compared(place):
    seen = []

    class Uses(task.Task):
        def execute(self):
            seen.append(GRANT.get())
            GRANT.set(Grant())

        def revert(self, result, flow_failures):
            self.execute()

    class UsesArgument(Uses):
        def execute(self, x=None):
            super().execute()

        def revert(self, x=None, **kwargs):
            super().execute()

    class Reverts(Uses):
        def revert(self):
            self.execute()

    flow = linear_flow.Flow("f").add(
        Uses("a", provides="x"),
        UsesArgument("b", requires="x"),
        unordered_flow.Flow("u").add(Reverts("c"), UsesArgument("d", requires="x")),
        Fails("fails", Notes()),
    )
    engine, grant, before = load(flow, place), Grant(), Grant.compared

    def way(engine):
        GRANT.set(grant)
        engine.run()

    _, error = outcome(way, engine)
    assert str(error) == "fails"
    assert [one is grant for one in seen] == [True] * 8
    assert Grant.compared == before


@places
def test_a_run_within_a_task_has_the_context_of_that_task(place):
    notes = Notes()

    class Outer(task.Task):
        def execute(self):
            REQUEST.set("inner")
            engines.run(linear_flow.Flow("i").add(Asks("inside", notes)))
            self.update_progress(0.5, at="half")
            return REQUEST.get()

    engine = load(linear_flow.Flow("f").add(Outer("outer", provides="x"), Asks("after", notes)), place)
    left, error = outcome(run, engine)
    assert error is None
    assert left == ("r-17", "unset")
    assert engine.storage.fetch("x") == "inner"
    assert engine.storage.get_task_progress_details("outer")["details"] == {"at": "half"}
    assert notes.seen == [("execute inside", "inner", "unset"), ("execute after", "r-17", "unset")]


# -- in other processes ----------------------------------------------------------------------------

CARRIED = contextvars.ContextVar("CARRIED", default="nothing")
ALSO = contextvars.ContextVar("ALSO", default="nothing")
UNSET: contextvars.ContextVar[str] = contextvars.ContextVar("UNSET")


def look_at_carried():
    found = CARRIED.get(), ALSO.get(), UNSET.get("nothing")
    CARRIED.set("changed by a task")
    return found


def looks(count=2, **options):
    """Return what tasks find one after the other."""
    names = [f"found{n}" for n in range(count)]
    tasks = [task.FunctorTask(look_at_carried, name=name, provides=name) for name in names]
    engine = engines.load(linear_flow.Flow("f").add(*tasks), **options)
    engine.run()
    return [engine.storage.fetch(name) for name in names]


@contextlib.contextmanager
def set_to(*values):
    tokens = [(variable, variable.set(value)) for variable, value in zip((CARRIED, ALSO), values, strict=False)]
    yield
    for variable, token in tokens:
        variable.reset(token)


@pytest.mark.parametrize("named", [[CARRIED, UNSET], (f"{__name__}:CARRIED",)])
def test_variables_that_are_named_reach_worker_processes_and_what_a_task_sets_is_its_own(named):
    with set_to("given", "not named"):
        assert looks(executor="processes", context=named) == [("given", "nothing", "nothing")] * 2


def test_a_kept_worker_has_the_variables_of_the_run_and_no_others():
    with processes.ProcessPool(1) as pool:
        with set_to("one", "two"):
            assert looks(executor=pool, context=[CARRIED]) == [("one", "nothing", "nothing")] * 2
            assert looks(executor=pool, context=[ALSO]) == [("nothing", "two", "nothing")] * 2
        assert looks(executor=pool, context=[CARRIED]) == [("nothing", "nothing", "nothing")] * 2


def test_variables_reach_pools_of_the_standard_library():
    with set_to("given"):
        with futures.ThreadPoolExecutor(1) as pool:
            assert looks(executor=pool) == [("given", "nothing", "nothing")] * 2
        with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert looks(executor=pool, context=[CARRIED]) == [("given", "nothing", "nothing")] * 2


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ([contextvars.ContextVar("local")], ValueError, "'local' that is at the top level of no module"),
        (["taskflowx.nowhere:X"], ValueError, "'taskflowx.nowhere:X', which cannot be found"),
        (["taskflowx.states:RUNNING"], TypeError, "'taskflowx.states:RUNNING', which is no context variable"),
        (["os:environ"], TypeError, "^context names 'os:environ', which is no context variable but of type _Environ$"),
        ([5], TypeError, "context must have context variables, or paths"),
        (CARRIED, TypeError, "not .* alone"),
        ("a:b", TypeError, "not 'a:b' alone"),
    ],
)
def test_what_is_no_variable_of_a_module_is_refused_by_load(given, error, text):
    with pytest.raises(error, match=text):
        engines.load(linear_flow.Flow("f"), executor="processes", context=given)


def test_a_value_that_cannot_be_pickled_is_refused_before_anything_runs():
    with set_to(threading.Lock()):
        engine = engines.load(
            linear_flow.Flow("f").add(task.FunctorTask(look_at_carried)), executor="processes", context=[CARRIED]
        )
        with pytest.raises(TypeError, match=f"Context variable '{__name__}:CARRIED' cannot go along"):
            engine.run()
    assert engine.storage.get_flow_state() == states.PENDING
    engine.run()


def test_a_value_that_cannot_be_read_there_is_left_out_with_a_warning(caplog):
    with set_to(BadThere()):
        assert looks(1, executor="processes", context=[CARRIED]) == [("nothing", "nothing", "nothing")]
    assert f"Context variable '{__name__}:CARRIED' has no value in this process: not here" in caplog.text


class BadThere:
    def __reduce__(self):
        return _raise, ("not here",)


def _raise(text):
    raise ValueError(text)


class Incomparable:
    """As an array of numbers is: to ask whether it equals another one raises."""

    __hash__ = None

    def __eq__(self, other):
        raise ValueError("neither true nor false")


def test_a_value_that_cannot_be_compared_is_the_tasks_own():
    """In place: where the contexts before and after a task are compared."""

    class Sets(task.Task):
        def execute(self):
            seen.append((f"execute {self.name}", REQUEST.get()))
            REQUEST.set(Incomparable())

        def revert(self, **kwargs):
            seen.append((f"revert {self.name}", REQUEST.get()))
            REQUEST.set(Incomparable())

    seen, mine = [], Incomparable()

    def listener(state, details):
        seen.append((state, REQUEST.get()))

    def within(listens):
        REQUEST.set(mine)
        flow = linear_flow.Flow("f").add(*(Sets(name) for name in "abc"), Fails("d", Notes()))
        engine = load(flow, "serial")
        if listens:
            engine.atom_notifier.register("*", listener)
        with pytest.raises(ValueError, match=r"^d\n"):
            engine.run()

    for listens in (False, True):
        seen.clear()
        contextvars.copy_context().run(within, listens)
        assert {f"{verb} {name}" for verb in ("execute", "revert") for name in "abc"} <= {what for what, _ in seen}
        assert [what for what, value in seen if value is not mine] == []


@pytest.mark.parametrize("raises", [ValueError, SystemExit])
@pytest.mark.parametrize("place", ["threads-not-inline", "asyncio"])
def test_on_threads_a_value_that_cannot_be_compared_is_the_tasks_own(monkeypatch, place, raises):
    def refuse(self, other):
        raise raises("neither true nor false")

    monkeypatch.setattr(Incomparable, "__eq__", refuse)

    class Sets(task.Task):
        def execute(self):
            seen.append(REQUEST.get())
            REQUEST.set(Incomparable())

    seen, mine = [], Incomparable()

    def within():
        REQUEST.set(mine)
        load(linear_flow.Flow("f").add(*(Sets(name) for name in "abcd")), place).run()

    contextvars.copy_context().run(within)
    assert all(value is mine for value in seen)
    assert len(seen) == 4
