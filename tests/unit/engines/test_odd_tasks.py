"""Tasks that do what tasks seldom do: the run records it, or passes it on, and goes on."""

import asyncio
import functools

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow


@pytest.fixture(params=["serial", "threads"])
def place(request):
    return {"engine": "parallel", "executor": request.param}


class Inner(task.Task):
    def execute(self):
        self.update_progress(0.5)
        return 1


class Outer(task.Task):
    def execute(self):
        return Inner("inner").execute()


def test_progress_of_a_task_that_another_one_calls_is_no_part_of_the_flow(place):
    engine = engines.load(linear_flow.Flow("f").add(Outer("outer", provides="x")), **place)
    engine.run()
    assert engine.storage.fetch("x") == 1
    assert engine.storage.get_task_progress_details("outer") is None


def test_a_stop_iteration_reaches_the_caller_as_itself(place):
    flow = linear_flow.Flow("f").add(task.FunctorTask(lambda: next(iter([])), name="empty"))
    with pytest.raises(StopIteration):
        engines.run(flow, **place)


class Closed:
    """A result of which no part can be read."""

    def __getitem__(self, key):
        raise OSError("closed")


def test_a_result_whose_parts_cannot_be_read_fails_the_one_who_needs_them(place):
    undone = []
    flow = linear_flow.Flow("f").add(
        task.FunctorTask(Closed, name="give", provides=("a", "b"), revert=lambda result, **_: undone.append(result)),
        task.FunctorTask(lambda a: a, name="take"),
    )
    engine = engines.load(flow, **place)
    with pytest.raises(exceptions.NotFound, match="'take' has no value for its argument 'a'"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert len(undone) == 1


def test_progress_begins_anew_with_the_flow(place):
    class Once(task.Task):
        runs = 0

        def execute(self):
            Once.runs += 1
            if Once.runs == 1:
                self.update_progress(0.9, part="last")
                raise ValueError("first")

    engine = engines.load(linear_flow.Flow("f").add(Once("once")), **place)
    with pytest.raises(ValueError, match="first"):
        engine.run()
    engine.reset()
    assert engine.storage.get_task_progress("once") == 0.0
    assert engine.storage.get_task_progress_details("once") is None


# -- coroutines that a plain function returns ----------------------------------------------------------------------


def wrapped(function):
    """Decorate a function as most decorators do: what stands in its place is no coroutine function."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


@pytest.fixture
def steps():
    """What has run."""
    return []


def sending(steps, follows=lambda: None):
    @wrapped
    async def send():
        await asyncio.sleep(0)
        steps.append("sent")
        return "receipt"

    @wrapped
    async def take_back(result, **_):
        await asyncio.sleep(0)
        steps.append(f"taken back {result}")

    first = task.FunctorTask(send, name="send", provides="sent", revert=take_back)
    return linear_flow.Flow("f").add(first, task.FunctorTask(follows, name="next"))


def fails():
    raise ValueError("later")


def text_of_failures(engine):
    """Run an engine that fails, and return what its failures say."""
    with pytest.raises((TypeError, exceptions.WrappedFailure)) as caught:
        engine.run()
    return " ".join(str(error) for error in getattr(caught.value, "exceptions", (caught.value,)))


def test_a_coroutine_that_nobody_awaits_fails_its_task(place, steps):
    engine = engines.load(
        linear_flow.Flow("f").add(
            task.FunctorTask(wrapped(lambda: asyncio.sleep(0)), name="send"),
            task.FunctorTask(lambda: steps.append("next"), name="next"),
        ),
        **place,
    )
    with pytest.raises(TypeError, match="execute of task 'send' returned a coroutine: write it as an `async def`"):
        engine.run()
    assert not steps
    assert engine.storage.get_execute_failures().keys() == {"send"}


def test_it_fails_a_task_that_takes_arguments_and_one_with_parts(place):
    for provides in ("page", ("page", "size")):
        fetch = task.FunctorTask(wrapped(lambda url: asyncio.sleep(0, url)), name="fetch", provides=provides)
        with pytest.raises(TypeError, match="execute of task 'fetch' returned a coroutine"):
            engines.run(linear_flow.Flow("f").add(fetch), {"url": "x"}, **place)


def test_a_revert_that_nobody_awaits_has_failed(place, steps):
    flow = linear_flow.Flow("f").add(
        task.FunctorTask(dict, name="one", revert=wrapped(lambda **_: asyncio.sleep(0))),
        task.FunctorTask(fails, name="two"),
    )
    engine = engines.load(flow, **place)
    assert "revert of task 'one' returned a coroutine" in text_of_failures(engine)
    assert engine.storage.get_atom_state("one") == states.REVERT_FAILURE


@pytest.mark.parametrize("run", [lambda engine: engine.run(), lambda engine: asyncio.run(engine.arun())])
def test_a_coroutine_of_a_plain_function_fails_its_task_where_others_are_awaited(run, steps):
    engine = engines.load(sending(steps), executor="asyncio")
    with pytest.raises(exceptions.WrappedFailure) as caught:
        run(engine)
    assert not steps
    assert "execute of task 'send' returned a coroutine: write it as an `async def`" in str(caught.value)
    assert "revert of task 'send' returned a coroutine: write it as an `async def`" in str(caught.value)
    assert engine.storage.get_atom_state("send") == states.REVERT_FAILURE  # its revert is such a function, too


@pytest.mark.parametrize("takes", [False, True])
@pytest.mark.parametrize("hook", ["pre_execute", "post_execute", "pre_revert", "post_revert"])
def test_a_hook_that_nobody_awaits_fails_its_task(place, hook, takes):
    class Plain(task.Task):
        def execute(self):
            pass

        def revert(self, **_):
            pass

    class Taking(task.Task):
        def execute(self, x):
            pass

        def revert(self, x, **_):
            pass

    async def begin(self):
        pass

    made = type("Hooked", (Taking if takes else Plain,), {hook: wrapped(begin)})("hooked")
    flow = linear_flow.Flow("f").add(made, task.FunctorTask(fails, name="two"))
    for _ in range(70):  # so often that the functions of its arguments are written out
        engine = engines.load(flow, store={"x": 1}, **place)
        text = text_of_failures(engine)
        assert f"{hook} of task 'hooked' returned a coroutine: write it as an `async def`" in text


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_decision_that_nobody_awaits_is_a_failure(executor, steps):
    first, second = (task.FunctorTask(lambda: steps.append(1), name=name) for name in "ab")
    flow = graph_flow.Flow("f").add(first, second)
    flow.link(first, second, when=wrapped(lambda: asyncio.sleep(0, False)))
    with pytest.raises(TypeError, match="returned a coroutine: write it as an `async def`"):
        engines.run(flow, executor=executor)
    assert steps == [1]

    class Asks(retry.Times):
        @wrapped
        async def on_failure(self, history):
            return retry.RETRY

    flow = linear_flow.Flow("f", Asks(2, "asks")).add(task.FunctorTask(fails, name="fails"))
    text = text_of_failures(engines.load(flow, executor=executor))
    assert "on_failure of retry 'asks' returned a coroutine: write" in text
