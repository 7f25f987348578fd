"""Runs in a folder: its layout, which is TaskFlow's, and what is left when a writer dies at any step."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import taskflowx
from taskflowx import engines, exceptions, runs
from taskflowx.patterns import linear_flow
from taskflowx.persistence import models, owners
from taskflowx.persistence.backends import dir_locks, impl_dir
from taskflowx.types.failure import Failure
from tests.support.flows import Calls

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def backend(path):
    return impl_dir.DirBackend({"path": str(path), "sync": False})


@pytest.fixture
def connection(backend):
    with contextlib.closing(backend.get_connection()) as made:
        yield made


def record(count=2, result=1):
    """Give a book with a flow of some atoms."""
    flow = models.FlowDetail("flow", "f")
    for n in range(count):
        detail = models.TaskDetail(f"t{n}", f"t{n}")
        detail.put("SUCCESS", result)
        flow.add(detail)
    book = models.LogBook("book", "b")
    book.add(flow)
    return book


def results(connection):
    return {detail.name: detail.results for detail in connection.get_flow_details("f")}


# -- layout ----------------------------------------------------------------------------------------------------------


def test_the_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    backend = impl_dir.DirBackend({"path": "x/../runs/"})
    assert backend.path == str(tmp_path / "runs")
    assert backend.get_connection().flow_path == str(tmp_path / "runs" / "flow_details")


def test_nothing_is_made_before_something_is_written(backend, connection, path):
    with pytest.raises(exceptions.StorageFailure, match=r"^Missing required directory: .*runs\nupgrade\(\) makes it$"):
        connection.validate()
    assert list(connection.get_logbooks()) == []
    with pytest.raises(exceptions.NotFound):
        connection.update_flow_details(models.FlowDetail("flow", "f"))
    assert not path.exists()
    connection.save_logbook(record())
    connection.validate()


def test_records_are_files_and_links(connection, path):
    connection.save_logbook(record())
    assert sorted(str(each.relative_to(path)) for each in path.rglob("metadata")) == [
        "atom_details/t0/metadata",
        "atom_details/t1/metadata",
        "books/b/metadata",
        "flow_details/f/metadata",
    ]
    assert (path / "books/b/f").readlink() == Path("../../flow_details/f")
    assert (path / "flow_details/f/t0").readlink() == Path("../../atom_details/t0")
    assert json.loads((path / "atom_details/t0/metadata").read_text())["atom"]["name"] == "t0"


def test_a_folder_can_be_moved(connection, path):
    connection.save_logbook(record())
    moved = path.rename(path.parent / "moved")
    other = impl_dir.DirBackend({"path": str(moved)}).get_connection()
    other.validate()
    assert results(other) == {"t0": 1, "t1": 1}
    assert (moved / "flow_details/f/t0/metadata").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_files_have_an_encoding(path, encoding):
    connection = impl_dir.DirBackend({"path": str(path), "encoding": encoding}).get_connection()
    connection.save_logbook(record(result="ü"))
    assert results(connection) == {"t0": "ü", "t1": "ü"}
    assert json.loads((path / "books/b/metadata").read_text(encoding))["name"] == "book"


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    (path.parent / "lock").touch()


def failed(name, **more):
    """Give what TaskFlow writes of a failure."""
    return {
        "exception_str": name,
        "traceback_str": "  File ...\n",
        "exc_type_names": ["ValueError", "Exception"],
        "version": 1,
        "exc_args": [name],
        "causes": [],
    } | more


def written_by_taskflow(path):
    """Write a folder as TaskFlow 6.5 does."""
    time = {"day": 23, "month": 11, "year": 2026, "hour": 22, "minute": 1, "second": 17, "microsecond": 730998}
    atom = {
        "failure": None,
        "revert_failure": None,
        "meta": {},
        "results": None,
        "revert_results": None,
        "version": None,
        "intention": "EXECUTE",
    }
    write(
        path / "books/b/metadata",
        {"name": "book", "meta": {"x": 1}, "uuid": "b", "updated_at": time, "created_at": time},
    )
    write(path / "flow_details/f/metadata", {"name": "flow", "meta": {"m": [1]}, "state": "RUNNING", "uuid": "f"})
    done = atom | {"name": "t ü", "uuid": "t", "state": "SUCCESS", "results": {"a": [1, 2]}, "version": [1, 0]}
    write(path / "atom_details/t/metadata", {"atom": done, "type": "TASK_DETAIL"})
    history = [[3, {"t": failed("outer", causes=[failed("inner")])}]]
    again = atom | {"name": "r", "uuid": "r", "state": "FAILURE", "results": history, "failure": failed("ü")}
    write(path / "atom_details/r/metadata", {"atom": again, "type": "RETRY_DETAIL"})
    (path / "books/b/f").symlink_to(path / "flow_details/f")
    for name in ("t", "r"):
        (path / "flow_details/f" / name).symlink_to(path / "atom_details" / name)


def test_what_taskflow_wrote_is_read(connection, path):
    written_by_taskflow(path)
    connection.validate()
    (book,) = connection.get_logbooks()
    assert (book.name, book.meta, book.updated_at.isoformat()) == ("book", {"x": 1}, "2026-11-23T22:01:17.730998")
    (flow,) = book
    assert (flow.name, flow.state, flow.meta) == ("flow", "RUNNING", {"m": [1]})
    again, done = flow  # TaskFlow keeps no order
    assert (done.name, done.results, done.version) == ("t ü", {"a": [1, 2]}, (1, 0))
    assert isinstance(again, models.RetryDetail)
    assert again.last_results == 3
    assert [cause.exception_str for cause in again.last_failures["t"].causes] == ["inner"]
    assert again.failure.check("ValueError")


def test_what_taskflow_wrote_is_gone_on_with(connection, path):
    written_by_taskflow(path)
    flow = connection.get_flow_details("f")
    done = flow.find("t")
    done.put("REVERTED", 1)
    flow.state = "REVERTED"
    new = models.TaskDetail("new", "n")
    flow.add(new)
    connection.save_changes(flow, [done, new])
    read = connection.get_flow_details("f")
    assert read.state == "REVERTED"
    assert {each.name: each.state for each in read} == {"t ü": "REVERTED", "r": "FAILURE", "new": None}
    connection.destroy_logbook("b")
    assert sorted(each.name for each in path.rglob("*")) == ["atom_details", "books", "flow_details"]


# -- the machine and other processes ---------------------------------------------------------------------------------


class Dead(BaseException):
    """The process is gone."""


class Steps:
    """Lets a number of calls of the operating system pass, and then none."""

    def __init__(self, monkeypatch):
        self.left = None
        self.count = 0
        monkeypatch.setattr(os, "fsync", self.guarded(lambda number: None))  # no machine dies here
        for name in ("replace", "symlink", "mkdir", "rmdir", "unlink"):
            monkeypatch.setattr(os, name, self.guarded(getattr(os, name)))

    def guarded(self, function):
        def call(*args, **kwargs):
            if self.left is not None:
                if self.left == 0:
                    raise Dead
                self.left -= 1
            self.count += 1
            return function(*args, **kwargs)

        return call


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


def dying(steps, after, write):
    """Do something, and die after some steps; returns whether it died."""
    steps.left = after
    try:
        write()
    except Dead:
        return True
    finally:
        steps.left = None
    return False


@pytest.fixture
def synced(path):
    return impl_dir.DirBackend({"path": str(path)}).get_connection()


def test_changes_are_whole_whenever_their_writer_dies(steps, synced, path):
    for after in range(1000):
        shutil.rmtree(path, ignore_errors=True)
        book = record(result="old" * 1000)
        synced.save_logbook(book)
        (flow,) = book
        for detail in flow:
            detail.results = "new" * 1000
        new = models.TaskDetail("n", "n")
        flow.add(new)
        flow.state = "SUCCESS"
        died = dying(steps, after, lambda flow=flow: synced.save_changes(flow, list(flow)))
        read = synced.get_flow_details("f")
        assert {each.name: each.results for each in read if each.results not in ("old" * 1000, "new" * 1000)} in (
            {},
            {"n": None},
        )
        assert (read.state == "SUCCESS") <= (len(read) == 3)
        synced.save_changes(flow, list(flow))
        assert results(synced) == {"t0": "new" * 1000, "t1": "new" * 1000, "n": None}
        if not died:
            break
    assert 10 < after < 999


def test_a_book_is_saved_again_wherever_its_writer_died(steps, synced, path):
    for after in range(1000):
        shutil.rmtree(path, ignore_errors=True)
        died = dying(steps, after, lambda: synced.save_logbook(record()))
        assert len(list(synced.get_logbooks())) <= 1
        synced.save_logbook(record())
        ((flow,),) = synced.get_logbooks()
        assert [each.name for each in flow] == ["t0", "t1"]
        if not died:
            break
    assert 10 < after < 999


def test_a_book_is_destroyed_wherever_that_was_broken_off(steps, synced, path):
    for after in range(1000):
        synced.save_logbook(record())
        if not dying(steps, after, lambda: synced.destroy_logbook("b")):
            break
        list(synced.get_logbooks())
        with contextlib.suppress(exceptions.NotFound):  # it may be gone, all but the last step
            synced.destroy_logbook("b")
        assert list(synced.get_logbooks()) == []
        assert [each.name for each in path.glob("*/*")] == []
    assert 4 < after < 999


def test_what_is_written_is_brought_to_the_disk_unless_that_is_switched_off(monkeypatch, path):
    for sync in (True, False, "false"):
        count = []
        monkeypatch.setattr(os, "fsync", count.append)
        connection = impl_dir.DirBackend({"path": str(path), "sync": sync}).get_connection()
        connection.save_logbook(record(result=str(sync)))
        assert bool(count) == (sync is True)
        # Each file and the folder that it is renamed in: those of a book, a flow and two atoms.
        assert len(count) >= 8 or sync is not True


def test_what_is_stored_already_is_not_written_again(steps, synced):
    book = record()
    synced.save_logbook(book)
    steps.count = 0
    (flow,) = book
    synced.save_changes(flow, list(flow))
    synced.update_flow_details(flow)
    assert steps.count == 0


@pytest.mark.parametrize("where", ["", "books", "books/b", "flow_details/f", "atom_details/t0"])
def test_files_of_others_are_left_alone(connection, path, where):
    connection.save_logbook(record())
    for name in (".metadata.123-456", "notes.txt"):
        (path / where / name).write_text("{")
    assert results(connection) == {"t0": 1, "t1": 1}
    assert len(list(connection.get_logbooks())) == 1


def test_a_broken_record_is_an_error_of_the_store(connection, path):
    connection.save_logbook(record())
    (path / "atom_details/t0/metadata").write_text('{"atom": ')
    with pytest.raises(exceptions.StorageFailure, match=r"no JSON: '\{\"atom\": '"):
        connection.get_atom_details("t0")
    with pytest.raises(exceptions.StorageFailure):
        connection.get_logbook("b")


def test_errors_of_the_operating_system_are_errors_of_the_store(monkeypatch, connection, path):
    connection.save_logbook(record())
    with pytest.raises(exceptions.NotFound, match=r"^Item not found: .*/books/x/metadata\n") as caught:
        connection.get_logbook("x")
    assert isinstance(caught.value.cause, FileNotFoundError)
    full = OSError(28, "No space left on device")

    def fail(*args):
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(
            exceptions.StorageFailure, match=r"^Storage backend internal error at '.*t0/metadata'\n.*No space left"
        ) as caught:
            connection.update_atom_details(models.TaskDetail("t0", "t0"))
    assert caught.value.cause is full
    assert results(connection) == {"t0": 1, "t1": 1}


def writing(connection, path):
    """Hold the lock of a writer for a `with` block, as a write does."""
    return connection._transaction(path)


def reading(connection, path):
    """Hold the lock of a reader for a `with` block, as a read does."""
    return connection._reading(path)


def locks():
    """Return the descriptors of the locks that this process holds."""
    return list(dir_locks.held)


def is_free(path, kind):
    """Tell whether somebody else, in this process or another, could lock a record now."""
    with (path / "lock").open() as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_writer_keeps_out_all_and_a_reader_keeps_out_writers(connection, path):
    written_by_taskflow(path)
    flow = path / "flow_details/f"
    with writing(connection, str(flow)):
        assert not is_free(flow, fcntl.LOCK_SH)
    with reading(connection, str(flow)), reading(connection, str(flow)):
        assert is_free(flow, fcntl.LOCK_SH)
        assert not is_free(flow, fcntl.LOCK_EX)
    assert is_free(flow, fcntl.LOCK_EX)


def test_methods_lock_what_they_read_and_write(monkeypatch, connection, path):
    written_by_taskflow(path)
    flow = connection.get_flow_details("f")
    kinds, lock = [], fcntl.flock

    def noted(number, kind):
        kinds.append(kind & ~fcntl.LOCK_NB)
        lock(number, kind)

    monkeypatch.setattr(fcntl, "flock", noted)
    for kind, methods in (
        (
            fcntl.LOCK_SH,
            [
                lambda: connection.get_flow_details("f"),
                lambda: connection.get_logbook("b"),
                lambda: list(connection.get_atoms_for_flow("f")),
                lambda: list(connection.get_flows_for_book("b")),
            ],
        ),
        (
            fcntl.LOCK_EX,
            [
                lambda: connection.save_changes(flow, list(flow)),
                lambda: connection.update_flow_details(flow),
                lambda: connection.update_atom_details(flow.find("t")),
                lambda: connection.save_logbook(connection.get_logbook("b", lazy=True)),
                lambda: connection.destroy_logbook("b"),
            ],
        ),
    ):
        for method in methods:
            kinds.clear()
            method()
            assert kind in kinds


def test_reading_makes_no_files(connection, path):
    written_by_taskflow(path)
    for lock in path.rglob("lock"):
        lock.unlink()
    assert len(connection.get_flow_details("f")) == 2
    assert list(path.rglob("lock")) == []


def test_failures_are_kept_with_what_they_say(connection):
    book = record(1)
    ((detail,),) = book
    detail.put("FAILURE", Failure.from_exception(ValueError("v")))
    connection.save_logbook(book)
    assert connection.get_atom_details("t0").failure.matches(detail.failure)


# -- locks -----------------------------------------------------------------------------------------------------------

HOLDER = """
import fcntl, os, sys
number = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(number, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def locked_elsewhere(lock):
    """Let another process keep a lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"locked\n"
        yield holder
        holder.communicate(b"\n")


def test_a_lock_that_another_process_keeps_is_waited_for_only_so_long(connection, path, monkeypatch):
    book = record()
    connection.save_logbook(book)
    (flow,) = book
    monkeypatch.setattr(owners, "LONGEST_WAIT", 0.1)
    owner = owners.Owner()
    with locked_elsewhere(path / "flow_details/f/lock") as holder:
        says = f"flow_details/f/lock' is locked by process {holder.pid}, and stayed so"
        for call in (
            lambda: connection.get_flow_details("f"),
            lambda: connection.update_flow_details(flow),
            lambda: connection.save_changes(flow, list(flow), owner),
            lambda: connection.renew("f", owner, 1e10),
        ):
            with pytest.raises(exceptions.StorageFailure, match=says):
                call()
        monkeypatch.setattr(owners, "LONGEST_WAIT", 1000.0)
        connection.deadline = time.monotonic() + 0.2
        with pytest.raises(exceptions.StorageFailure, match=says):
            connection.save_changes(flow, list(flow), owner)
    connection.deadline = time.monotonic() - 1  # what can be had at once is not refused
    connection.save_changes(flow, list(flow), owner)


def test_a_lock_is_had_as_soon_as_it_is_given_up(connection, path):
    book = record()
    connection.save_logbook(book)
    with locked_elsewhere(path / "flow_details/f/lock") as holder:
        threading.Timer(0.2, holder.stdin.write, (b"\n",)).start()
        threading.Timer(0.25, holder.stdin.flush).start()
        assert results(connection) == {"t0": 1, "t1": 1}


def test_who_waits_for_a_lock_comes_before_who_had_it_last(connection, path):
    connection.save_logbook(record())
    flow, order, stop = str(path / "flow_details/f"), [], threading.Event()

    def write(name):
        while not stop.is_set():
            with writing(connection, flow):
                order.append(name)
                stop.wait(0.002)
                if len(order) > 200:
                    stop.set()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not dir_locks.waiting
    longest = max(len(list(group)) for _, group in itertools.groupby(order))
    assert longest < 20  # each comes again and again
    assert min(map(order.count, "abc")) > 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_process_that_is_forked_keeps_no_lock(connection, path, is_killed):
    connection.save_logbook(record())
    flow = path / "flow_details/f"
    alive, told = os.pipe()

    def hold():
        with writing(connection, str(flow)):
            child = os.fork()
            if not child:
                os.write(told, b"x")
                signal.pause()
            os.read(alive, 1)
            if is_killed:
                os.write(told, f"{child}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return child

    if is_killed:
        holder = os.fork()
        if not holder:
            hold()
        os.waitpid(holder, 0)
        child = int(os.read(alive, 100))
    else:
        child = hold()
    try:
        assert is_free(flow, fcntl.LOCK_EX)
    finally:
        os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        os.close(alive)
        os.close(told)


def test_no_program_that_is_started_meanwhile_keeps_a_lock(connection, path):
    connection.save_logbook(record())
    with writing(connection, str(path / "flow_details/f")):
        assert locks()
        assert not any(map(os.get_inheritable, locks()))
    assert not locks()


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(connection, path, monkeypatch):
    connection.save_logbook(record())
    lock = path / "flow_details/f/lock"
    with writing(connection, str(lock.parent)):
        pass
    real = fcntl.flock

    def late(number, kind):
        monkeypatch.setattr(fcntl, "flock", real)
        lock.unlink()
        lock.touch()
        return real(number, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with writing(connection, str(lock.parent)):
        assert not is_free(lock.parent, fcntl.LOCK_SH)


# -- what happens to a folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["removed", "moved", "replaced by an empty one", "replaced by an older one"])
def test_a_folder_that_goes_away_under_a_run_ends_it_with_an_error(backend, connection, path, kind):
    book = record(0)
    connection.upgrade()
    connection.save_logbook(book)
    (flow,) = book
    older = path.parent / "older"
    shutil.copytree(path, older, symlinks=True)

    def interfere():
        if kind == "removed":
            shutil.rmtree(path)
            return
        path.rename(path.parent / "moved")
        if kind == "replaced by an empty one":
            impl_dir.DirBackend({"path": str(path)}).get_connection().upgrade()
        elif kind == "replaced by an older one":
            older.rename(path)

    did = []
    steps = Calls("s0", interfere), Calls("s1", lambda: did.append(1))
    engine = engines.load(linear_flow.Flow("flow").add(*steps), flow_detail=flow, backend=backend)
    with pytest.raises((exceptions.NotFound, exceptions.OwnershipFailure)):
        engine.run()
    assert did == []
    assert engine.storage.get_flow_state() != "SUCCESS"


def test_a_folder_whose_names_may_not_be_on_the_disk_is_asked_for_again(monkeypatch, path):
    connection = impl_dir.DirBackend({"path": str(path)}).get_connection()
    connection.save_logbook(record())
    detail = models.TaskDetail("t0", "t0")
    real, asked = os.fsync, []

    def note(number):
        asked.append(str(Path(f"/proc/self/fd/{number}").readlink()))

    def fail(number):
        note(number)
        if not asked[-1].endswith("atom_details/t0"):
            return real(number)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(2):
        with pytest.raises(exceptions.StorageFailure, match="Input/output error"):
            connection.update_atom_details(detail)
        assert asked[-1] == str(path / "atom_details/t0")
    monkeypatch.setattr(os, "fsync", note)
    asked.clear()
    connection.update_atom_details(detail)  # it is in its place already
    assert asked == [str(path / "atom_details/t0")]
    connection.update_atom_details(detail)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("uuid", "says"),
    [
        ("x" * 256, "has 256 bytes, more than 255"),
        ("ü" * 128, "has 256 bytes, more than 255"),
        ("a\ud800b", "has a lone surrogate in it"),
        ("metadata", "that of a file of ours"),
        ("lock", "that of a file of ours"),
        (".journal.1-1", "that of a file of ours"),
    ],
    ids=ascii,
)
def test_a_uuid_that_is_no_name_of_a_folder_is_refused(connection, uuid, says):
    book = models.LogBook("book", "b")
    book.add(models.FlowDetail("flow", uuid))
    for call in (
        lambda: connection.save_logbook(book),
        lambda: connection.save_logbook(models.LogBook("book", uuid)),
        lambda: connection.get_atom_details(uuid),
        lambda: connection.save_changes(record().find("f"), [models.TaskDetail("t", uuid)]),
    ):
        with pytest.raises((exceptions.Unstorable, exceptions.NotFound)) as caught:
            call()
        if isinstance(caught.value, exceptions.Unstorable):
            assert says in str(caught.value)
            assert repr(uuid)[:8] in str(caught.value)
    book = models.LogBook("book", "y" * 255)
    connection.save_logbook(book)
    assert connection.get_logbook("y" * 255).uuid == book.uuid


class Killed(BaseException):
    """Stands for the end of the process."""


@contextlib.contextmanager
def fails_at(at, error, monkeypatch):
    """Have the N-th removal or renaming of a file fail in the block, which gets the list of those that were tried."""
    tried = []
    with monkeypatch.context() as patched:
        for name, real in {"unlink": os.unlink, "rmdir": os.rmdir, "replace": os.replace}.items():

            def call(*given, real=real, **more):
                tried.append(given)
                if len(tried) == at:
                    raise error(5, "the N-th")
                return real(*given, **more)

            patched.setattr(os, name, call)
        yield tried


@pytest.mark.parametrize("transform", [None, (bytes, bytes)], ids=["plain", "sealed"])
@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_run_of_which_the_removal_was_cut_short_is_whole_or_not_there(path, monkeypatch, error, transform):
    conf = {"connection": f"dir://{path}", "sync": False, **({} if transform is None else {"transform": transform})}
    flow = linear_flow.Flow("f").add(*(Calls(name, lambda name=name: name) for name in "abc"))
    for at in itertools.count(1):
        with runs.open(impl_dir.DirBackend(conf)) as known:
            taskflowx.run(flow, backend=known.backend, run_id="r")
            with (
                fails_at(at, error, monkeypatch) as tried,
                contextlib.suppress(Killed, OSError, exceptions.StorageFailure),
            ):
                known.delete("r")
        with runs.open(impl_dir.DirBackend(conf)) as known:
            left = [one.id for one in known.list()]
            assert left in ([], ["r"])
            if at % 2 and left:
                assert [atom.state for atom in known.get("r").atoms] == ["SUCCESS"] * 3, tried
            results = taskflowx.run(flow, backend=known.backend, run_id="r").results
            assert results == {"a": "a", "b": "b", "c": "c"}, tried
            known.delete("r")
        kept = [[*(path / name).iterdir()] for name in ("books", "flow_details", "atom_details", "taskflowx_history")]
        assert kept == [[], [], [], []] or error is OSError  # an empty folder that cannot be removed stays
        if len(tried) < at:
            break
    assert at > 10
