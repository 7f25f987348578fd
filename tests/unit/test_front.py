"""The names at the top of the package: what they are, that they are made on demand, and the engine's options."""

import asyncio
import concurrent.futures

import pytest

import taskflowx
from taskflowx import as_task, engines, exceptions, linear, task
from taskflowx.engines import options
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends
from taskflowx.persistence.backends import impl_memory
from taskflowx.testing import VirtualClock


def test_the_names_are_those_of_the_modules():
    assert taskflowx.Task is task.Task
    assert (taskflowx.LinearFlow, taskflowx.UnorderedFlow) == (linear_flow.Flow, unordered_flow.Flow)
    assert taskflowx.GraphFlow is graph_flow.Flow
    for name in taskflowx.__all__:
        assert getattr(taskflowx, name) is not None
    assert set(taskflowx.__all__) <= set(dir(taskflowx))


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'taskflowx' has no attribute 'Taks'"):
        taskflowx.Taks  # noqa: B018
    with pytest.raises(ImportError):
        from taskflowx import Taks  # noqa: F401


def test_type_checkers_know_each_option():
    assert options.EngineOptions.__annotations__.keys() == options.NAMES


def test_the_front_door_is_strict_and_the_engines_are_lenient():
    flow = linear_flow.Flow("f").add(task.FunctorTask(lambda: 1, name="a", provides=("x", "y")))
    assert engines.run(flow) == {}
    with pytest.raises(taskflowx.exceptions.ResultMismatch):
        taskflowx.run(flow)
    assert taskflowx.run(flow, results="lenient") == {}


def test_a_run_has_a_limit_of_time():
    with pytest.raises(TimeoutError):
        taskflowx.run(linear_flow.Flow("f").add(task.FunctorTask(lambda: 1, name="a")), timeout=0)


# -- the store of an engine --------------------------------------------------------------------------------------------


class Kept(impl_memory.MemoryBackend):
    """A store that notes that it is closed."""

    closed = 0

    def close(self):
        self.closed += 1
        super().close()


@pytest.fixture(name="made")
def _made(monkeypatch):
    made = []
    monkeypatch.setattr(backends, "fetch", lambda conf: made.append(Kept({"connection": "memory"})) or made[-1])
    return made


def _flow(error=None):
    def work():
        if error is not None:
            raise error

    return linear_flow.Flow("f").add(task.FunctorTask(work, name="a"))


@pytest.mark.parametrize(
    "run", [engines.run, taskflowx.run, lambda *args, **kw: asyncio.run(taskflowx.arun(*args, **kw))]
)
def test_a_store_that_is_named_is_closed_after_the_run(run, made):
    run(_flow(), backend="named")
    with pytest.raises(ValueError, match="no"):
        run(_flow(ValueError("no")), backend="named")
    assert [one.closed for one in made] == [1, 1]


def test_a_store_that_is_given_stays_open(made):
    given = Kept({"connection": "memory"})
    taskflowx.run(_flow(), backend=given)
    assert (given.closed, made) == (0, [])


def test_a_store_is_closed_when_no_engine_can_be_made(made):
    with pytest.raises(ValueError, match="Unknown engine options"):
        taskflowx.load(_flow(), backend="named", wrong=1)
    assert [one.closed for one in made] == [1]


def test_an_engine_closes_its_store_at_the_end_of_a_block(made):
    with taskflowx.load(_flow(), backend="named") as engine:
        engine.run()
        assert made[0].closed == 0
    engine.close()
    assert made[0].closed == 1


@pytest.mark.parametrize("how", ["run", "arun"])
def test_a_run_whose_time_is_up_is_rolled_back_if_that_is_asked_for(how):
    clock, undone = VirtualClock(), []

    @as_task
    async def slow():
        clock.advance(10)
        await asyncio.sleep(0)

    @as_task
    def first():
        return None

    @first.revert
    def undo():
        undone.append("first")

    def run(flow, **options):
        if how == "run":
            return taskflowx.run(flow, executor="asyncio", **options)
        return asyncio.run(taskflowx.arun(flow, **options))

    with pytest.raises(exceptions.TimeoutExceeded, match="is rolled back"):
        run(linear("f", first, slow), timeout=5, on_timeout="rollback", clock=clock)
    assert undone == ["first"]


def test_a_number_of_workers_alone_means_threads():
    flow = task.FunctorTask(lambda: 1, name="a")
    assert "threads×3" in repr(taskflowx.load(flow, max_workers=3))
    assert "serial" in repr(taskflowx.load(flow))
    assert "serial" in repr(taskflowx.load(flow, max_workers=None))
    assert "serial" in repr(taskflowx.load(flow, max_workers=3, executor="serial"))
    assert "serial" in repr(taskflowx.load(flow, max_workers=3, engine="serial"))
    assert "serial" in repr(taskflowx.engines.load(flow, max_workers=3))
    for wrong in (0, True, 2.0):
        with pytest.raises(ValueError, match="max_workers must be a positive number of workers"):
            taskflowx.run(flow, max_workers=wrong)


def test_a_number_of_workers_that_is_left_aside_is_warned_of(caplog):
    flow = task.FunctorTask(lambda: 1, name="a")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for options in ({"executor": "serial"}, {"engine": "serial"}, {"executor": pool}, {"executor": "threads"}):
            taskflowx.load(flow, max_workers=3, **options)
        taskflowx.load(flow, max_workers=1, executor="serial")
        taskflowx.load(flow, max_workers=2, executor=pool)
    assert [text.split(":")[0] for text in caplog.messages] == ["max_workers=3 is left aside"] * 3
    assert "'serial' makes one call at a time" in caplog.messages[0]
    assert "has workers of its own" in caplog.messages[2]
