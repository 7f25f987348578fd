"""Large results are kept by the worker that has made them, and each is written once."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.engines.call_reports import CallReports
from taskflowx.executors import noted, processes
from taskflowx.patterns import unordered_flow
from taskflowx.persistence import backends, models

SIZE = 300_000
NOTES = "TASKFLOWX_TEST_NOTES"


def encode(document):
    """Note who encodes a large document."""
    if len(document) >= SIZE:
        with pathlib.Path(os.environ[NOTES]).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {threading.current_thread().name}\n")
    return document[::-1]


def decode(stored):
    return stored[::-1]


class Make(task.Task):
    """Returns a large value of a kind."""

    def __init__(self, name, kind, **kwargs):
        super().__init__(name, provides=name, **kwargs)
        self.kind = kind

    def execute(self):
        return {"bytes": b"\xff" * SIZE, "list": ["é" * SIZE], "dict": {self.name: "x" * SIZE}}[self.kind]


@pytest.fixture
def notes(tmp_path, monkeypatch):
    path = tmp_path / "who"
    monkeypatch.setenv(NOTES, str(path))
    return lambda: path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture
def store(tmp_path, folder):
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", transform=(encode, decode), blobs=f"dir://{folder}") as made:
        yield made


def run(store, executor, *tasks, **options):
    flow = unordered_flow.Flow("f").add(*tasks)
    engine = engines.load(
        flow, book=models.LogBook("b"), backend=store, engine="parallel", executor=executor, **options
    )
    engine.run()
    return engine


def recorded(store, engine):
    with contextlib.closing(store.get_connection()) as connection:
        return {atom.name: atom.results for atom in connection.get_flow_details(engine.storage.flow_uuid)}


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_the_worker_writes_what_it_has_made_once(store, notes, folder, warm, executor, history):
    made = [Make(kind, kind) for kind in ("bytes", "list", "dict")]
    engine = run(store, warm if executor == "processes" else executor, *made, history=history)
    assert recorded(store, engine) == {one.name: one.execute() for one in made}
    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(notes()) == 3
    pids, threads = zip(*(line.split(" ", 1) for line in notes()), strict=True)
    assert (str(os.getpid()) in pids) == (executor != "processes")
    if executor == "threads":
        assert threading.current_thread().name not in threads
    if history:
        ended = [entry for entry in engine.history() if entry.atom and entry.new == states.SUCCESS]
        assert [bool(entry.began and entry.worker) for entry in ended] == [True] * 3


def test_a_transform_that_does_not_travel_is_applied_by_the_engine(tmp_path, notes, folder, warm):
    transform = (lambda document: encode(document), decode)  # noqa: PLW0108 - one that no process can be sent
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", transform=transform, blobs=f"dir://{folder}") as store:
        engine = run(store, warm, Make("a", "bytes"))
        assert recorded(store, engine) == {"a": b"\xff" * SIZE}
    assert [line.split()[0] for line in notes()] == [str(os.getpid())]


def test_the_time_to_write_it_is_none_of_a_task_that_has_a_time_limit(store, notes):
    run(store, "threads", Make("a", "bytes", timeout=60))
    assert notes() == [f"{os.getpid()} {threading.current_thread().name}"]


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_what_is_in_memory_alone_is_written_by_nobody(store, notes, folder, warm, executor):
    engine = run(store, warm if executor == "processes" else executor, Make("a", "bytes", sensitive="memory"))
    assert engine.storage.fetch("a") == b"\xff" * SIZE
    assert not notes()
    assert not folder.exists()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_folder_that_cannot_be_written_stops_the_run_and_loses_nothing(store, notes, folder, executor):
    folder.write_text("no folder")
    made = unordered_flow.Flow("f").add(Make("a", "bytes"))
    with processes.ProcessPool(1) as pool:
        engine = engines.load(
            made,
            book=models.LogBook("b"),
            backend=store,
            engine="parallel",
            executor=pool if executor == "processes" else executor,
            commit_timeout=0,
        )
        with pytest.raises(exceptions.StorageFailure, match="result of atom 'a' in blobs"):
            engine.run()
        folder.unlink()
        engine.run()
    assert recorded(store, engine) == {"a": b"\xff" * SIZE}


def test_the_reference_of_a_call_that_was_lost_is_not_that_of_the_next_one(store, notes):
    engine = run(store, "threads", Make("a", "bytes"))
    made, lost = engine.storage.writes.blobs, b"\x00" * SIZE

    class Run:
        log, storage, executor = None, engine.storage, processes.ProcessesExecutor(1)
        plan = engine.preparation.plan

    reports = CallReports(Run)
    first, second = (noted.Noted(states.EXECUTE, None, made) for _ in range(2))
    assert reports.take(None, noted.Kept(number=first.number, reference=tuple(made.keep("a", lost))))
    reports.conclude("a", second, value := b"\x01" * SIZE)
    detail = models.TaskDetail("a", "1")
    detail.results = value
    assert store.blobs.get(made.to_store(detail).results) == value
