"""Progress that a thread of a task reports counts as that of the task."""

import contextlib
import threading

import pytest

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends


class Reports(task.Task):
    """Reports from a thread, and then itself if it is told to."""

    def __init__(self, name, *, itself=False):
        super().__init__(name)
        self.itself = itself

    def execute(self):
        thread = threading.Thread(target=self.update_progress, args=(0.25,), kwargs={"by": "thread"})
        thread.start()
        thread.join()
        if self.itself:
            self.update_progress(0.5, by="itself")


class ReportsByNotifier(Reports):
    def execute(self):
        of = self.notifier
        thread = threading.Thread(target=of.notify, args=("update_progress", {"progress": 0.25, "by": "thread"}))
        thread.start()
        thread.join()


places = pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "processes"])


def by(engine, name):
    return engine.storage.get_task_progress_details(name)["details"]["by"]


@places
@pytest.mark.parametrize("kind", [Reports, ReportsByNotifier])
def test_it_is_on_record_and_listeners_are_told(executor, kind):
    told = []
    together = unordered_flow.Flow("u").add(kind("b"), kind("c"))
    engine = engines.load(linear_flow.Flow("f").add(kind("a"), together), executor=executor, max_workers=2)
    engine.atom_notifier.register(
        "update_progress", lambda _, details: told.append((details["task_name"], details["by"]))
    )
    engine.run()
    assert sorted(told) == [(name, "thread") for name in "abc"]
    for name in "abc":
        assert by(engine, name) == "thread"
        assert engine.storage.get_task_progress(name) == 1.0


@places
def test_the_last_report_counts_whoever_made_it(executor):
    engine = engines.load(linear_flow.Flow("f").add(Reports("a", itself=True)), executor=executor)
    engine.run()
    assert by(engine, "a") == "itself"
    assert engine.storage.get_task_progress("a") == 1.0


@places
def test_it_is_in_the_store(executor, tmp_path):
    with backends.backend(f"sqlite:///{tmp_path / 'runs.db'}") as backend:
        engine = engines.load(linear_flow.Flow("f").add(Reports("a"), Reports("b")), executor=executor, backend=backend)
        engine.run()
        with contextlib.closing(backend.get_connection()) as connection:
            kept = connection.get_atoms_for_flow(engine.storage.flow_uuid)
            assert [each.meta["progress_details"]["details"] for each in kept] == [{"by": "thread"}] * 2


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_thread_that_is_left_behind_changes_nothing_that_is_done(executor):
    left = []

    class Leaves(task.Task):
        def execute(self):
            left.append(self)

    class Later(task.Task):
        def execute(self):
            thread = threading.Thread(target=left[0].update_progress, args=(0.25,))
            thread.start()
            thread.join()

    engine = engines.load(linear_flow.Flow("f").add(Leaves("a"), Later("b")), executor=executor)
    before = list(task.REPORTERS)  # a run that another test has abandoned keeps its own
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert engine.storage.get_task_progress("a") in (0.0, 1.0)
    assert before == task.REPORTERS
