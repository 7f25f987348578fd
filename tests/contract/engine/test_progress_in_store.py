"""Progress of a task that runs is in the store within moments, on each executor, without a commit for each report."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models

SOON = 10.0  # seconds; a report takes one of them, the rest is for a busy machine


class Reports(task.Task):
    """Reports once, or in a burst, and goes on when it is told to."""

    def __init__(self, name, burst, goes_on):
        super().__init__(name)
        self.burst, self.goes_on = burst, goes_on

    def execute(self):
        for number in range(1, self.burst + 1):
            self.update_progress(number / 10_000, number=number)
        assert self.goes_on.wait(30)


@pytest.mark.parametrize("durability", ["strict", "group"])
@pytest.mark.parametrize("burst", [1, 3000])
@pytest.mark.parametrize(
    "options", [{}, {"executor": "threads"}, {"executor": "threads", "inline": False}, {"executor": "asyncio"}]
)
def test_a_report_is_in_the_store_while_the_task_runs(tmp_path, burst, options, durability):
    goes_on, seen, commits = threading.Event(), [], []
    with backends.backend(f"sqlite:///{tmp_path / 'runs.db'}") as backend:
        flow = linear_flow.Flow("flow").add(Reports("before", 0, goes_on), Reports("long", burst, goes_on))
        flow_before = next(iter(flow))
        flow_before.goes_on = threading.Event()
        flow_before.goes_on.set()
        engine = engines.load(flow, book=models.LogBook("book"), backend=backend, durability=durability, **options)
        engine.compile()
        engine.prepare()
        connection_class = type(backend.get_connection())
        real = connection_class.save_changes

        def counted(self, *args, **kwargs):
            commits.append(time.monotonic())
            return real(self, *args, **kwargs)

        def look():
            ends = time.monotonic() + SOON
            with contextlib.closing(backend.get_connection()) as connection:
                while time.monotonic() < ends and not seen:
                    seen.extend(
                        (detail.state, detail.meta["progress_details"]["details"])
                        for detail in connection.get_flow_details(engine.storage.flow_uuid)
                        if detail.meta.get("progress") == burst / 10_000
                    )
                    threading.Event().wait(0.05)
            goes_on.set()

        watcher = threading.Thread(target=look, daemon=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connection_class, "save_changes", counted)
            watcher.start()
            engine.run()
        watcher.join()
    assert seen == [(states.RUNNING, {"number": burst})]
    assert len(commits) < 20


def test_what_is_late_never_undoes_what_is_newer(tmp_path):
    """A report that waits to be written is dropped when a commit of the same task comes first."""
    with backends.backend(f"sqlite:///{tmp_path / 'runs.db'}") as backend:
        goes_on = threading.Event()
        goes_on.set()
        engine = engines.load(linear_flow.Flow("flow").add(Reports("quick", 5, goes_on)), backend=backend)
        engine.run()
        journal = engine.storage.writes.journal
        journal._write_reports()  # as a timer that fires late would do
        with contextlib.closing(backend.get_connection()) as connection:
            (detail,) = connection.get_flow_details(engine.storage.flow_uuid)
        assert (detail.state, detail.meta["progress"]) == (states.SUCCESS, 1.0)
        assert journal._timer is None
