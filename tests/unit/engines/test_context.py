"""Context variables: what the caller of a run has set reaches all that runs in it, and what a call sets is its own."""

import asyncio
import contextvars
import warnings

import pytest

from taskflowx import engines, retry, states, task
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
