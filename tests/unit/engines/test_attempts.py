"""What a call is told about itself: which attempt it is, and a key that is the same in all attempts."""

from __future__ import annotations

import pytest

from taskflowx import engines, exceptions, retry, task, testing
from taskflowx.patterns import linear_flow
from taskflowx.persistence import models


class Create(task.Task):
    """Notes what it is told; is interrupted as often as is asked for, by verb."""

    def __init__(self, name, seen, **interrupted):
        super().__init__(name)
        self.seen = seen
        self.left = interrupted

    def execute(self, attempt, idempotency_key):
        self._note("execute", attempt, idempotency_key)

    def revert(self, idempotency_key, attempt, **kwargs):
        self._note("revert", attempt, idempotency_key)

    def _note(self, verb, attempt, key):
        self.seen.append((verb, attempt, key))
        if self.left.get(verb):
            self.left[verb] -= 1
            raise KeyboardInterrupt


class Break(task.Task):
    """Fails as often as is asked for."""

    def __init__(self, name, times):
        super().__init__(name)
        self.times = times

    def execute(self):
        self.times -= 1
        if self.times >= 0:
            raise OSError(self.name)


def run_on(flow, detail, executor):
    """Run a flow through its interrupts, each time in a new engine from what another process would read."""
    while True:
        engine = engines.load(flow, flow_detail=detail, executor=executor)
        try:
            engine.run()
        except KeyboardInterrupt:
            detail = testing.reloaded(detail)
        except OSError:
            return detail
        else:
            return detail


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_attempts_are_counted_and_share_a_key_that_each_round_has_anew(executor):
    seen = []
    flow = linear_flow.Flow("flow", retry=retry.Times(2))
    flow.add(Create("create", seen, execute=2, revert=1), Break("break", 1))
    detail = run_on(flow, models.FlowDetail("flow", "1"), executor)
    uuid = next(one.uuid for one in detail if one.name == "create")
    assert seen == [
        *(("execute", attempt, f"{uuid}.0") for attempt in (1, 2, 3)),
        ("revert", 1, f"{uuid}.0"),
        ("revert", 2, f"{uuid}.0"),
        ("execute", 1, f"{uuid}.1"),
    ]


def test_a_flow_that_was_undone_and_runs_again_has_new_keys():
    seen = []
    engine = engines.load(linear_flow.Flow("flow").add(Create("create", seen), Break("break", 1)))
    with pytest.raises(OSError, match="break"):
        engine.run()
    engine.run()
    keys = [key for verb, _, key in seen if verb == "execute"]
    assert len(keys) == len(set(keys)) == 2


def test_a_retry_is_told_too():
    seen = []

    class Controller(retry.Times):
        def execute(self, history, idempotency_key, attempt):
            seen.append((len(history), attempt, idempotency_key[-2:]))

    engines.run(linear_flow.Flow("flow", retry=Controller(3)).add(Break("break", 2)))
    assert seen == [(0, 1, ".0"), (1, 1, ".1"), (2, 1, ".2")]


def test_what_somebody_provides_under_these_names_goes_first():
    class Take(task.Task):
        def execute(self, attempt, key):
            return attempt, key

        def revert(self, result, attempt, flow_failures):
            pass

    flow = linear_flow.Flow("flow").add(
        task.FunctorTask(lambda: 7, name="seven", provides="attempt"),
        Take("take", rebind={"key": "idempotency_key"}, inject={"idempotency_key": "mine"}, provides="taken"),
    )
    assert engines.run(flow)["taken"] == (7, "mine")


def test_an_argument_with_a_default_keeps_it():
    class Take(task.Task):
        def execute(self, attempt=0):
            return attempt

    assert engines.run(linear_flow.Flow("flow").add(Take("take", provides="taken")))["taken"] == 0


def test_they_reach_a_call_whose_arguments_have_to_be_searched():
    class Take(task.Task):
        def execute(self, late, attempt, idempotency_key):
            return late, attempt, idempotency_key

    engine = engines.load(linear_flow.Flow("flow").add(Take("take", provides="taken")), store={"late": 1})
    engine.compile()
    engine.prepare()
    engine.validate()
    engine.storage.inject_atom_args("take", {"late": 2})
    engine.run()
    assert engine.storage.fetch("taken") == (2, 1, engine.storage.get_atom_uuid("take") + ".0")


def test_another_argument_is_still_missed():
    class Take(task.Task):
        def execute(self, attempt, attempts):
            return attempt

    with pytest.raises(exceptions.MissingDependencies, match="attempts") as refused:
        engines.run(linear_flow.Flow("flow").add(Take("take")))
    assert "idempotency_key" not in str(refused.value)
