"""Tasks that do what tasks seldom do: the run records it, or passes it on, and goes on."""

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow


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
