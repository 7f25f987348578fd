"""Runs by id, and the runs in a store."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import Any, assert_type

import taskflowx
from taskflowx import LinearFlow, RunResult, runs
from taskflowx.persistence import backends
from taskflowx.testing import VirtualClock
from taskflowx.types.failure import Failure

flow = LinearFlow("flow")
result = taskflowx.run(flow, {"x": 1}, backend="runs.db", run_id="one", if_finished="return", wait=3, raises=False)
assert_type(result, RunResult)
assert_type(result["x"], Any)
assert_type(result.run_id, str | None)
assert_type(result.state, str)
assert_type(result.results, dict[str, Any])
assert_type(result.failures, dict[str, Failure])
assert_type(result.not_undone, list[str])
assert_type(result.durations, dict[str, float])
result.raise_for_failure()
as_before: dict[str, Any] = result
taskflowx.run(flow, backend=pathlib.Path("runs.db"), run_id="one", if_finished="again", clock=VirtualClock())
taskflowx.load(flow, backend={"connection": "sqlite:///runs.db"}, run_id="one", if_finished="error", wait=0.5)

with runs.open("sqlite:///runs.db") as known:
    page = known.list(state={"SUCCESS", "REVERTED"}, flow="flow", since=dt.timedelta(hours=1), limit=10)
    assert_type(page, list[runs.RunSummary])
    known.list(state="FAILURE", since=dt.datetime.now(dt.UTC), after=page[-1])
    known.list(after=page[-1].cursor, since=3600)
    view = known.get(page[0].id)
    assert_type(view, runs.RunView)
    assert_type(view.created_at, dt.datetime)
    assert_type(view.owner, str | None)
    for atom in view.atoms:
        assert_type(atom, runs.AtomView)
        assert_type(atom.failure, Failure | None)
        assert_type(atom.started, dt.datetime | None)
    assert_type(view.result(), RunResult)
    assert_type(known.wait("one", timeout=3), RunResult)
    for seen in known.watch("one"):
        assert_type(seen, runs.RunView)
    assert_type(known.fork("one", from_task="task", store={"x": 2}, run_id="two"), str)
    known.delete("two")
    assert_type(known.prune(older_than=3600, states=["SUCCESS"]), int)

with backends.backend("memory") as backend, runs.open(backend, clock=VirtualClock()) as in_memory:
    in_memory.list()


async def main() -> None:
    assert_type(await taskflowx.arun(flow, backend="runs.db", run_id="one", wait=3, raises=False), RunResult)
