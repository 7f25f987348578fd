"""Every place to run says when and where each call began."""

from __future__ import annotations

import threading
import time

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from tests.contract.executor.test_executors import IN_PROCESSES, PLACES
from tests.support import histories


class Waits(task.Task):
    """Waits a little, or fails."""

    def __init__(self, name, fails=False):
        super().__init__(name)
        self.fails = fails

    def execute(self):
        threading.Event().wait(0.01)
        if self.fails:
            raise ValueError(self.name)

    def revert(self, **kwargs):
        pass


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", PLACES)
def test_each_call_says_when_and_where_it_began(place):
    made = PLACES[place]()
    wide = unordered_flow.Flow("wide").add(*map(Waits, "abcd"))
    began = time.time()
    engine = engines.load(
        linear_flow.Flow("flow").add(wide, Waits("e", True)), executor=made, max_workers=2, history=True
    )
    with pytest.raises(ValueError, match="e"):
        engine.run()
    ended = time.time()
    if hasattr(made, "shutdown"):
        made.shutdown()
    entries = engine.history()
    assert histories.complaints(entries, engine.storage.record.flow_detail) == []
    calls = [entry for entry in entries if entry.atom is not None and entry.new in states.WITH_OUTCOME]
    assert len(calls) == 10
    handed = {}
    for entry in entries:
        if entry.new in states.CALLED:
            handed[entry.atom] = entry.at
        elif entry in calls:
            assert entry.worker, entry
            assert began <= handed[entry.atom] <= entry.began + 0.001 <= entry.at + 0.002 <= ended + 0.002
    workers = {entry.worker for entry in calls}
    if place in IN_PROCESSES:
        assert all(worker.startswith("process ") for worker in workers)
    else:
        assert not any(worker.startswith("process ") for worker in workers)
    assert engine.metrics.rollbacks == 5


def test_a_call_that_never_began_has_no_worker():
    class Refuses:
        def submit(self, function, /, *args, **kwargs):
            raise RuntimeError("full")

    engine = engines.load(linear_flow.Flow("flow").add(Waits("a")), executor=Refuses(), history=True)
    with pytest.raises((RuntimeError, exceptions.TaskFlowException)):
        engine.run()
    failed = next(entry for entry in engine.history() if entry.new == states.FAILURE)
    assert (failed.began, failed.worker) == (None, None)
