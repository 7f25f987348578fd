"""reset_failed: what has failed is run again, with what waits for it, and nothing else."""

from __future__ import annotations

import contextlib

import pytest

from taskflowx import engines, exceptions, retry, task, testing
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models


class Load(task.Task):
    def __init__(self, name, broken, ran):
        super().__init__(name)
        self.broken = broken
        self.ran = ran

    def execute(self):
        self.ran.append(self.name)
        if self.name in self.broken:
            raise ValueError(self.name)


class World:
    def __init__(self):
        self.broken = {"b"}
        self.ran = []

    def flow(self, **options):
        rows = [linear_flow.Flow(name, **options).add(self.load(name), self.load(f"{name}2")) for name in "abc"]
        return unordered_flow.Flow("loads").add(*rows)

    def load(self, name):
        return Load(name, self.broken, self.ran)

    def mend(self):
        self.broken.clear()
        self.ran.clear()


@pytest.fixture
def world():
    return World()


def failed(engine):
    with pytest.raises(ValueError, match="b"):
        engine.run()
    return engine


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_the_failed_one_runs_again_and_what_waits_for_it(world, executor):
    engine = failed(engines.load(world.flow(), never_resolve=True, executor=executor))
    world.mend()
    events = []
    engine.atom_notifier.register("PENDING", lambda state, details: events.append((details["task_name"], state)))
    assert engine.reset_failed() == ["b"]
    assert events == [("b", "PENDING")]
    assert not engine.storage.get_failures()
    engine.run()
    assert world.ran == ["b", "b2"]
    assert engine.storage.get_flow_state() == "SUCCESS"


def test_another_process_can_do_it_on_the_record(world, tmp_path):
    with backends.backend(f"dir://{tmp_path}") as backend:
        failed(engines.load(world.flow(), never_resolve=True, book=models.LogBook("b"), backend=backend))
        world.mend()
        with contextlib.closing(backend.get_connection()) as connection:
            [book] = connection.get_logbooks()
            [record] = book
            engine = engines.load(world.flow(), flow_detail=record, book=book, backend=backend, never_resolve=True)
            assert engine.reset_failed() == ["b"]
            [book] = connection.get_logbooks()
            [stored] = book
            assert {one.name: one.state for one in stored}["b"] == "PENDING"
        engine.run()
    assert world.ran == ["b", "b2"]


def test_it_may_fail_again(world):
    engine = failed(engines.load(world.flow(), never_resolve=True))
    for _ in range(3):
        assert engine.reset_failed() == ["b"]
        failed(engine)
    assert world.ran.count("b") == 4
    assert world.ran.count("a") == 1


def test_nothing_is_reset_where_nothing_is_left_failed(world):
    engine = failed(engines.load(world.flow()))
    assert engine.reset_failed() == []
    world.broken.clear()
    fresh = engines.load(world.flow())
    assert fresh.reset_failed() == []
    fresh.run()
    assert fresh.reset_failed() == []
    assert fresh.storage.get_flow_state() == "SUCCESS"


def test_a_failed_retry_is_reset_too(world):
    class Opens(retry.Times):
        def execute(self, history):
            world.ran.append(self.name)
            if world.broken:
                raise ValueError("b")
            return 1

    flow = linear_flow.Flow("f", Opens(2, "r")).add(world.load("a"))
    engine = failed(engines.load(flow, never_resolve=True))
    world.mend()
    assert engine.reset_failed() == ["r"]
    engine.run()
    assert world.ran == ["r", "a"]


def test_not_in_a_run(world):
    class Resets(task.Task):
        def execute(self):
            engine.reset_failed()

    engine = engines.load(Resets("r"))
    with pytest.raises(exceptions.InvalidState, match="Can not reset the engine of"):
        engine.run()


def test_a_record_that_was_read_back_has_its_failure_reset(world):
    detail = models.FlowDetail("loads", "id")
    failed(engines.load(world.flow(), flow_detail=detail, never_resolve=True))
    world.mend()
    engine = engines.load(world.flow(), flow_detail=testing.reloaded(detail), never_resolve=True)
    assert engine.reset_failed() == ["b"]
    engine.run()
    assert world.ran == ["b", "b2"]


# -- a result that was refused -----------------------------------------------------------------------------------------


class Volume(task.Task):
    """Makes a volume each time, the first of them in a way that is refused; notes what its revert gets."""

    default_provides = ("volume", "size")

    def __init__(self, first, second=("second", 1), **settings):
        super().__init__("volume", **settings)
        self.makes, self.undone = [first, lambda: second], []

    def execute(self):
        made = self.makes.pop(0)()
        if isinstance(made, Exception):
            raise made
        return made

    def revert(self, result):
        self.undone.append(result)


def of_another_form():
    return ("first",)


def not_storable():
    return ("first", object())


def skip(engine):
    engine.skip("volume", ("given", 1))


AGAIN = {
    "retry_failed": lambda engine: engine.retry_failed(),
    "reset_failed": lambda engine: (engine.reset_failed(), engine.run_to_rest()),
    "reset": lambda engine: (skip(engine), engine.run_to_rest(), engine.reset(), engine.run_to_rest()),
}


def refused(kind, tmp_path, **settings):
    """Return a task and the engine that has refused its first result."""
    options = {"never_resolve": True}
    if kind == "late":
        options["clock"] = clock = testing.VirtualClock()
        volume = Volume(lambda: clock.advance(9) or ("first", 1), timeout=5, **settings)
    elif kind == "strict":
        options["results"] = "strict"
        volume = Volume(of_another_form, **settings)
    else:
        options["backend"] = f"dir://{tmp_path}"
        volume = Volume(not_storable, **settings)
    engine = engines.load(linear_flow.Flow("f").add(volume), **options)
    assert engine.run_to_rest() == "FAILURE"
    return volume, engine


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("kind", ["late", "strict", "store"])
def test_a_revert_gets_the_result_of_the_last_call_and_not_one_that_was_refused_before(kind, again, tmp_path):
    volume, engine = refused(kind, tmp_path)
    AGAIN[again](engine)
    assert engine.storage.get("volume") == ("second", 1)
    engine.rollback()
    assert volume.undone == [("second", 1)]


@pytest.mark.parametrize("kind", ["late", "strict", "store"])
def test_a_revert_gets_the_failure_of_the_last_call_and_not_a_result_that_was_refused_before(kind, tmp_path):
    volume, engine = refused(kind, tmp_path, second=OSError("the second"))
    with pytest.raises(OSError, match="the second"):
        engine.retry_failed()
    engine.rollback()
    assert [str(one.exception) for one in volume.undone] == ["the second"]


@pytest.mark.parametrize("kind", ["late", "strict", "store"])
def test_the_revert_of_a_skipped_task_gets_what_was_given_and_not_the_result_that_was_refused(kind, tmp_path):
    volume, engine = refused(kind, tmp_path)
    skip(engine)
    engine.rollback()
    assert volume.undone == [("given", 1)]


@pytest.mark.parametrize("kind", ["late", "strict", "store"])
def test_a_result_that_was_refused_goes_to_the_revert(kind, tmp_path):
    volume, engine = refused(kind, tmp_path)
    engine.rollback()
    assert [one[0] for one in volume.undone] == ["first"]
