"""Events of atoms follow the tables of states, whatever an earlier run was interrupted in."""

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.patterns import linear_flow, unordered_flow


class LeavesOnce(task.Task):
    """Raises SystemExit the first time it is called for one of its verbs."""

    def __init__(self, name, verb):
        super().__init__(name)
        self.verb = verb

    def leave(self, verb):
        if self.verb == verb:
            self.verb = None
            raise SystemExit

    def execute(self):
        self.leave(states.EXECUTE)

    def revert(self):
        self.leave(states.REVERT)


class Fails(task.Task):
    def execute(self):
        raise ValueError("on purpose")


class FailsOnce(task.Task):
    failed = False

    def execute(self):
        if not self.failed:
            self.failed = True
            raise ValueError("not yet")


class RetryThatLeaves(retry.Times):
    """Raises SystemExit when it is to run for the second time."""

    left = False

    def execute(self, history, *args, **kwargs):
        if len(history) and not self.left:
            self.left = True
            raise SystemExit
        return super().execute(history, *args, **kwargs)


FLOWS = {
    "executed again": (
        lambda: linear_flow.Flow("f").add(LeavesOnce("a", states.EXECUTE)),
        [("a", states.PENDING, states.RUNNING, states.RUNNING)],
    ),
    "undone instead": (
        lambda: unordered_flow.Flow("f").add(Fails("fails"), LeavesOnce("a", states.EXECUTE)),
        [("a", states.FAILURE, states.REVERTING, states.RUNNING)],
    ),
    "undone again": (
        lambda: linear_flow.Flow("f").add(LeavesOnce("a", states.REVERT), Fails("fails")),
        [("a", states.SUCCESS, states.REVERTING, states.REVERTING)],
    ),
    "retried again": (
        lambda: linear_flow.Flow("f", retry=RetryThatLeaves(3, "r")).add(FailsOnce("a")),
        [("r", states.RETRYING, states.RUNNING, states.RUNNING)],
    ),
}


@pytest.mark.parametrize("listens", ["*", "each"])
@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("kind", FLOWS)
def test_an_interrupted_atom_is_told_as_such_and_follows_the_tables(kind, store, executor, listens, tmp_path):
    make, expected = FLOWS[kind]
    seen = []

    def hear(state, details):
        name = details.get("task_name") or details["retry_name"]
        seen.append((name, details["old_state"], state, details.get("interrupted"), "retry_name" in details))

    backend = f"dir://{tmp_path}" if store else None
    engine = engines.load(make(), engine="parallel", executor=executor, backend=backend)
    names = ["*"] if listens == "*" else [states.RUNNING, states.SUCCESS, states.REVERTING, states.REVERTED]
    for name in [*names, *([states.PENDING, states.RETRYING, states.FAILURE] if listens != "*" else [])]:
        engine.atom_notifier.register(name, hear)
    with pytest.raises(SystemExit):
        engine.run()
    before = len(seen)
    try:
        engine.run()
    except ValueError:
        assert engine.storage.get_flow_state() == states.REVERTED
    else:
        assert engine.storage.get_flow_state() == states.SUCCESS
    for _, old, state, _, is_retry in seen:
        check = states.check_retry_transition if is_retry else states.check_task_transition
        assert check(old, state), (old, state)
    assert [event[:4] for event in seen if event[3]] == expected
    assert not any(event[3] for event in seen[:before])
