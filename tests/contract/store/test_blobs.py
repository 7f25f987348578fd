"""Large values beside the records: they come back, whole or not at all, and go with their run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal

import pytest

import taskflowx
from taskflowx import engines, exceptions, runs, states, task
from taskflowx._util import failpoints
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, blobs, codec, models
from tests.contract.store.stores import STORES

LASTING = [store for store in STORES if not store.name.startswith(("memory", "sqlite-memory"))]
LARGE = b"\x00\xff" * 200_000


class Make(task.Task):
    """Returns what it is given."""

    def __init__(self, name, value):
        super().__init__(name, provides=name)
        self.value = value

    def execute(self, **_):
        return self.value


class Measure(task.Task):
    """Says how large something is, and fails when it is told to."""

    def __init__(self, fails=False):
        super().__init__("measure", provides="length", requires=["data"])
        self.fails = fails

    def execute(self, data):
        if self.fails:
            raise OSError("no")
        return len(data)


@pytest.fixture(params=LASTING, ids=lambda store: store.name)
def settings(request, tmp_path):
    if lacks := request.param.lacks():
        pytest.skip(lacks)
    return request.param.settings(tmp_path)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "blobs"


def run(backend, *tasks, store=None):
    book = models.LogBook("book")
    engine = engines.load(linear_flow.Flow("f").add(*tasks), store, book=book, backend=backend)
    engine.run()
    return engine, book


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read(backend, uuid):
    with contextlib.closing(backend.get_connection()) as connection:
        return {atom.name: atom.results for atom in connection.get_flow_details(uuid)}


@pytest.mark.parametrize(
    "value", [LARGE, "é" * 300_000, {"rows": [list(range(99))] * 2000}], ids=lambda v: type(v).__name__
)
def test_a_large_value_is_a_file_under_its_digest(settings, folder, value):
    with backends.backend(settings, blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Make("data", value), Measure(), store={"small": 1})
        uuid = engine.storage.flow_uuid
        content = value if type(value) is bytes else codec.dumps(value, "").encode()
        assert files(folder) == [f"{uuid}/{hashlib.sha256(content).hexdigest()}"]
        assert (folder / files(folder)[0]).read_bytes() == content
        found = read(backend, uuid)
        assert found["data"] == value
        assert type(found["data"]) is type(value)
        assert found["measure"] == len(value)
    with backends.backend(settings) as backend, pytest.raises(codec.Unreadable, match="the same blobs="):
        read(backend, uuid)


def test_a_run_goes_on_with_it(settings, folder):
    with backends.backend(settings, blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Make("data", LARGE))
        with contextlib.closing(backend.get_connection()) as connection:
            record = connection.get_flow_details(engine.storage.flow_uuid)
        again = engines.load(
            linear_flow.Flow("f").add(Make("data", None), Measure()), flow_detail=record, backend=backend
        )
        again.run()
        assert again.storage.fetch("length") == len(LARGE)


def test_a_fork_has_files_of_its_own(settings, folder):
    flow = linear_flow.Flow("f").add(Make("data", LARGE), Measure())
    with backends.backend(settings, blobs=f"dir://{folder}") as backend, runs.open(backend) as kept:
        taskflowx.run(flow, {"given": "é" * 300_000}, backend=backend, run_id="one")
        kept.fork("one", from_task="measure", run_id="two")
        uuid = kept.get("two").uuid
        assert len([name for name in files(folder) if name.startswith(uuid)]) == 2
        kept.delete("one")
        assert len(files(folder)) == 2
        assert taskflowx.run(flow, backend=backend, run_id="two")["length"] == len(LARGE)
        assert {atom.name: atom.result for atom in kept.get("two").atoms}["data"] == LARGE


def test_a_fork_puts_nothing_beside_a_run_that_is_there(settings, folder):
    flow = linear_flow.Flow("f").add(Make("data", LARGE), Measure())
    with backends.backend(settings, blobs=f"dir://{folder}") as backend, runs.open(backend) as kept:
        taskflowx.run(flow, backend=backend, run_id="one")
        assert kept.fork("one") == "one-2"
        before = files(folder)
        with pytest.raises(exceptions.Duplicate, match="There is a run 'one-2' already"):
            kept.fork("one", from_task="measure", run_id="one-2")
        assert files(folder) == before
        uuid = kept.get(kept.fork("one", from_task="measure")).uuid
        assert [name.partition("/")[0] for name in files(folder) if name not in before] == [uuid]


def test_a_run_is_looked_at_without_its_large_values_and_not_forked(settings, folder):
    with backends.backend(settings, blobs=f"dir://{folder}") as backend:
        taskflowx.run(linear_flow.Flow("f").add(Make("data", LARGE), Measure()), backend=backend, run_id="one")
    with backends.backend(settings) as backend, runs.open(backend) as kept:
        seen = kept.get("one")
        assert ([atom.state for atom in seen.atoms], seen.atom("measure").result) == (["SUCCESS"] * 2, len(LARGE))
        for verb in (seen.result, lambda: kept.fork("one", from_task="measure")):
            with pytest.raises(codec.NotBuildable, match="make the store with the same blobs="):
                verb()
        forked = kept.fork("one", from_task="data")  # it has none of them
        assert kept.get(forked).atom("data").state == states.PENDING


def test_values_that_are_given_are_kept_there_too(settings, folder):
    with backends.backend(settings, blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Measure(), store={"data": LARGE})
        assert len(files(folder)) == 1
        assert read(backend, engine.storage.flow_uuid)["_TaskFlow_INJECTOR"] == {"data": LARGE}


def test_it_goes_with_its_run_and_not_with_another(settings, folder):
    with backends.backend(settings, blobs=f"dir://{folder}") as backend:
        (_, book), (other, _) = (run(backend, Make("data", LARGE)) for _ in range(2))
        with contextlib.closing(backend.get_connection()) as connection:
            connection.destroy_logbook(book.uuid)
        assert {name.partition("/")[0] for name in files(folder)} == {other.storage.flow_uuid}
        assert read(backend, other.storage.flow_uuid)["data"] == LARGE
        with contextlib.closing(backend.get_connection()) as connection:
            connection.clear_all()
        assert files(folder) == []


@pytest.mark.parametrize("place", ["dir://{}/blobs", "local://{}/blobs"])
def test_a_run_that_is_there_again_keeps_what_it_has(settings, tmp_path, monkeypatch, place):
    flow = linear_flow.Flow("f").add(Make("data", LARGE), Measure())
    with backends.backend(settings, blobs=place.format(tmp_path)) as backend, runs.open(backend) as known:
        taskflowx.run(flow, {"given": "é" * 300_000}, backend=backend, run_id="a")
        forget = backend.forget

        def late(*removed):  # another process takes the id once the record is gone
            taskflowx.run(flow, backend=backend, run_id="a")
            forget(*removed)

        monkeypatch.setattr(backend, "forget", late)
        known.delete("a")
        monkeypatch.undo()
        uuid = known.get("a").uuid
        assert files(tmp_path / "blobs") == [f"{uuid}/{hashlib.sha256(LARGE).hexdigest()}"]
        assert known.get("a").result() == {"data": LARGE, "length": len(LARGE)}
        with contextlib.closing(backend.get_connection()) as connection:
            (book,) = connection.get_logbooks()
            assert [detail.uuid for detail in book] == [uuid]
        known.delete("a")
        assert files(tmp_path / "blobs") == []


def test_a_run_that_is_removed_while_it_is_read_is_not_there(settings, folder, monkeypatch):
    if settings["connection"] == "dir":
        pytest.skip("a run is locked there while it is read")
    flow = linear_flow.Flow("f").add(Make("data", LARGE), Measure())
    with (
        backends.backend(settings, blobs=f"dir://{folder}") as backend,
        backends.backend(settings, blobs=f"dir://{folder}") as other,
        runs.open(backend) as known,
        runs.open(other) as pruned,
    ):

        def late(blob):  # another process removes the run once its rows are read
            monkeypatch.undo()
            pruned.delete("a")
            return backend.blobs.get(blob)

        taskflowx.run(flow, backend=backend, run_id="a")
        monkeypatch.setattr(backend.blobs, "get", late)
        with pytest.raises(exceptions.NotFound):
            known.get("a")
        taskflowx.run(flow, backend=backend, run_id="a")
        monkeypatch.setattr(backend.blobs, "get", late)
        assert taskflowx.run(flow, backend=backend, run_id="a") == {"data": LARGE, "length": len(LARGE)}


def test_orphans_are_swept_and_young_ones_are_not(tmp_path, folder, monkeypatch):
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Make("data", LARGE))
        backend.blobs.put("gone", LARGE, "")
        assert backend.blobs.sweep({engine.storage.flow_uuid}) == []
        monkeypatch.setattr(blobs, "YOUNG", -1.0)
        assert backend.blobs.sweep({engine.storage.flow_uuid}) == ["gone"]
        assert read(backend, engine.storage.flow_uuid)["data"] == LARGE


@pytest.mark.parametrize("young", [True, False])
@pytest.mark.parametrize("place", ["dir://{}/blobs", "local://{}/blobs"])
def test_pruning_a_store_removes_what_no_run_has(settings, tmp_path, monkeypatch, place, young):
    if not young:
        monkeypatch.setattr(blobs, "YOUNG", -1.0)
    with backends.backend(settings, blobs=place.format(tmp_path)) as backend:
        engine, _ = run(backend, Make("data", LARGE))
        backend.blobs.put("gone", LARGE, "")
        with runs.open(backend) as kept:
            assert kept.prune(older_than=3600) == 0
        assert sorted(backend.blobs.runs()) == sorted([engine.storage.flow_uuid, *(["gone"] if young else [])])
        assert read(backend, engine.storage.flow_uuid)["data"] == LARGE


def named(backend, uuid):
    """Run a flow whose record has a uuid of the user's; return its book."""
    book, record = models.LogBook("book"), models.FlowDetail("f", uuid)
    book.add(record)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
    flow = linear_flow.Flow("f").add(Make("data", LARGE))
    engines.load(flow, None, record, book, backend).run()
    return book


@pytest.mark.parametrize("place", ["dir://{}/blobs", "local://{}/blobs"])
def test_a_run_may_have_any_text_as_its_uuid(settings, tmp_path, folder, monkeypatch, place):
    monkeypatch.setattr(blobs, "YOUNG", -1.0)
    with backends.backend(settings, blobs=place.format(tmp_path)) as backend, runs.open(backend) as kept:
        made = {uuid: named(backend, uuid) for uuid in ("my_run.1", "50% of a b", "é")}
        assert kept.prune(older_than=3600) == 0
        assert sorted(backend.blobs.runs()) == sorted(made)
        for uuid, book in made.items():
            assert read(backend, uuid)["data"] == LARGE
            with contextlib.closing(backend.get_connection()) as connection:
                connection.destroy_logbook(book.uuid)
        assert files(folder) == []


@pytest.mark.parametrize("uuid", ["..", ".", "../out", "/out", ""])
def test_nothing_outside_of_the_folder_is_written_or_removed(tmp_path, folder, uuid):
    uuid = f"{tmp_path}/out" if uuid == "/out" else uuid
    other = tmp_path / "out" / "kept"
    other.parent.mkdir()
    other.touch()
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Make("data", LARGE))
        book = named(backend, uuid)
        assert len(files(folder)) == 2
        assert read(backend, uuid)["data"] == LARGE
        with contextlib.closing(backend.get_connection()) as connection:
            connection.destroy_logbook(book.uuid)
        assert read(backend, engine.storage.flow_uuid)["data"] == LARGE
    assert len(files(folder)) == 1
    assert list(other.parent.iterdir()) == [other]


@pytest.mark.parametrize("place", ["dir://{}", "local://{}"])
def test_a_folder_of_somebody_else_s_beside_them_stays(tmp_path, monkeypatch, place):
    monkeypatch.setattr(blobs, "YOUNG", -1.0)
    photo = tmp_path / "photos" / "cat.jpg"
    photo.parent.mkdir()
    photo.touch()
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", blobs=place.format(tmp_path)) as backend:
        run(backend, Make("data", LARGE))
        with runs.open(backend) as kept:
            kept.prune(older_than=0)
        with contextlib.closing(backend.get_connection()) as connection:
            connection.clear_all()
        assert backend.blobs.runs() == []
    assert photo.exists()


def test_pruning_keeps_the_values_of_a_damaged_run_and_passes_over_names_that_no_run_can_have(
    tmp_path, folder, monkeypatch
):
    monkeypatch.setattr(blobs, "YOUNG", -1.0)
    with backends.backend(f"dir://{tmp_path}/runs", blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Make("data", LARGE))
        uuid = engine.storage.flow_uuid
        backend.blobs.put("a/b", LARGE, "")
        (tmp_path / "runs" / "flow_details" / uuid / "metadata").write_text("{")
        with runs.open(backend) as kept:
            assert kept.prune(older_than=3600) == 0
        assert backend.blobs.runs() == [uuid]


@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_what_is_damaged_is_noticed(settings, folder, harm):
    with backends.backend(settings, blobs=f"dir://{folder}") as backend:
        engine, _ = run(backend, Make("data", LARGE))
        path = folder / files(folder)[0]
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(LARGE[:-1] + b"x" if harm == "changed" else LARGE[:-1])
        with pytest.raises(codec.Unreadable, match="blob"):
            read(backend, engine.storage.flow_uuid)


def test_blobs_are_transformed_too(tmp_path, folder):
    module = pytest.importorskip("cryptography.fernet", reason="cryptography is not installed")
    cipher = module.Fernet(module.Fernet.generate_key())
    marked = b"open-sesame" + LARGE
    with backends.backend(
        f"sqlite:///{tmp_path}/runs.db", blobs=f"dir://{folder}", transform=(cipher.encrypt, cipher.decrypt)
    ) as backend:
        engine, _ = run(backend, Make("data", marked))
        assert b"open-sesame" not in (folder / files(folder)[0]).read_bytes()
        assert read(backend, engine.storage.flow_uuid)["data"] == marked


def test_the_size_is_a_setting(tmp_path, folder):
    settings = {"connection": f"sqlite:///{tmp_path}/runs.db", "blobs": f"dir://{folder}", "blob_size": 10}
    with backends.backend(settings) as backend:
        run(backend, Make("short", b"123456789"), Make("long", b"1234567890"))
        assert len(files(folder)) == 1


def test_a_file_system_of_fsspec(tmp_path):
    pytest.importorskip("fsspec")
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", blobs="memory://blobs") as backend:
        engine, book = run(backend, Make("data", LARGE))
        assert read(backend, engine.storage.flow_uuid)["data"] == LARGE
        with contextlib.closing(backend.get_connection()) as connection:
            connection.destroy_logbook(book.uuid)
        assert backend.blobs.sweep(()) == []


@pytest.mark.parametrize("wrong", ["blobs", "dir://", 5, b"dir:///x"])
def test_what_is_no_address_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="blobs must be an address"):
        backends.fetch("sqlite://", blobs=wrong)


def test_a_folder_that_cannot_be_written_stops_the_run(tmp_path, folder):
    folder.write_text("no folder")
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", blobs=f"dir://{folder}") as backend:
        engine = engines.load(linear_flow.Flow("f").add(Make("data", LARGE)), backend=backend, commit_timeout=0)
        with pytest.raises(exceptions.StorageFailure, match="in blobs"):
            engine.run()
        folder.unlink()
        engine.run()
        assert engine.storage.get_flow_state() == states.SUCCESS
        assert read(backend, engine.storage.flow_uuid)["data"] == LARGE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("place", ["in a blob", "before commit", "in commit"])
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_process_that_is_killed_leaves_no_torn_blob(tmp_path, folder, place, executor):
    address = f"sqlite:///{tmp_path}/runs.db"
    with backends.backend(address):
        pass
    pid = os.fork()
    if not pid:
        begun = []

        def die(name):
            if name == "in a blob":
                begun.append(name)
            if name == place and (begun or place == "in a blob"):
                os.kill(os.getpid(), signal.SIGKILL)

        failpoints.listen(die)
        try:
            with contextlib.closing(backends.fetch(address, blobs=f"dir://{folder}")) as backend:
                options = {"engine": "parallel", "executor": executor, "inline": False}
                engines.load(linear_flow.Flow("f").add(Make("data", LARGE)), backend=backend, **options).run()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    whole = [name for name in files(folder) if not name.endswith(".part")]
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == name.split("/")[1] for name in whole)
    assert bool(whole) == (place != "in a blob")
    with backends.backend(address, blobs=f"dir://{folder}") as backend:
        [book] = backend.get_connection().get_logbooks()
        [record] = book
        engine = engines.load(linear_flow.Flow("f").add(Make("data", LARGE)), flow_detail=record, backend=backend)
        engine.run()
        assert read(backend, record.uuid)["data"] == LARGE
        backend.get_connection().destroy_logbook(book.uuid)
        assert files(folder) == []
