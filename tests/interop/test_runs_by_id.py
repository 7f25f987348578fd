"""OpenStack TaskFlow opens a store with runs that have an id and a history, and removes them; we list its runs."""

from __future__ import annotations

import json
import subprocess

import pytest

import taskflowx
from benchmarks.peers import TASKFLOW
from taskflowx import as_task, linear
from taskflowx.persistence import backends
from tests.interop import sides

READS = """
import contextlib, json, sys
from taskflow.persistence import backends
with contextlib.closing(backends.fetch(json.loads(sys.argv[1]))) as backend:
    connection = backend.get_connection()
    connection.upgrade()
    connection.validate()
    books = list(connection.get_logbooks())
    flows = {flow.name: [flow.state, {atom.name: atom.state for atom in flow}] for book in books for flow in book}
    if sys.argv[2] == "remove":
        for book in books:
            connection.destroy_logbook(book.uuid)
    print(json.dumps(flows))
"""
RUNS = """
import contextlib, json, sys
from taskflow import engines, task
from taskflow.patterns import linear_flow
from taskflow.persistence import backends
from taskflow.utils import persistence_utils
class One(task.Task):
    def execute(self): return 1
with contextlib.closing(backends.fetch(json.loads(sys.argv[1]))) as backend:
    backend.get_connection().upgrade()
    engines.run(linear_flow.Flow("theirs").add(One("one", provides="n")), backend=backend)
"""


@as_task
def one() -> int:
    return 1


@as_task
def two(one: int, fails: bool) -> int:
    if fails:
        raise LookupError("two")
    return one + 1


@pytest.fixture(params=["sqlite", "dir"])
def settings(request, folder):
    sides.require_taskflow()
    if request.param == "dir":
        return {"connection": "dir", "path": str(folder / "runs")}
    return {"connection": f"sqlite:///{folder / 'runs.db'}"}


def taskflow(program, settings, *more):
    command = [str(TASKFLOW.python), "-I", "-c", program, json.dumps(settings), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_taskflow_reads_and_removes_runs_with_an_id(settings):
    taskflowx.run(linear("well", one, two), {"fails": False}, backend=settings, run_id="a run, well")
    taskflowx.run(linear("ill", one, two), {"fails": True}, backend=settings, run_id="a run, ill", raises=False)
    flows = json.loads(taskflow(READS, settings, "look"))
    assert flows["well"][0] == "SUCCESS"
    assert flows["ill"][0] == "REVERTED"
    assert {flows["well"][1][name] for name in ("one", "two")} == {"SUCCESS"}
    with taskflowx.runs.open(settings) as runs:
        assert [each.id for each in runs.list()] == ["a run, ill", "a run, well"]
        assert [entry.new for entry in runs.get("a run, well").history if entry.atom == "two"] == ["RUNNING", "SUCCESS"]
    if settings["connection"] != "dir":
        return  # in SQLite it removes the book alone, as its connections do not follow foreign keys
    taskflow(READS, settings, "remove")
    with taskflowx.runs.open(settings) as runs:
        assert runs.list() == []
    result = taskflowx.run(linear("well", one, two), {"fails": False}, backend=settings, run_id="a run, well")
    assert result.state == "SUCCESS"
    with taskflowx.runs.open(settings) as runs:
        assert [entry.new for entry in runs.get("a run, well").history if entry.atom == "two"] == ["RUNNING", "SUCCESS"]


def test_runs_of_taskflow_are_listed_and_shown(settings):
    taskflow(RUNS, settings)
    with backends.backend(settings) as backend, taskflowx.runs.open(backend) as runs:
        [found] = runs.list(flow="theirs", state="SUCCESS")
        view = runs.get(found.id)
    assert [(atom.name, atom.state) for atom in view.atoms] == [("one", "SUCCESS")]
    assert view.result().results == {"one": 1}
