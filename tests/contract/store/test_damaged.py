"""Records that are damaged in a store: whoever reads them is told which one, and the others are read as before.

Each example damages one thing as its seed says: it is cut, a byte of it is another, it is that of another record, it is
nested far too deep, or one value in it is of another type. `TASKFLOWX_DAMAGE` says how many
examples there are.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import sqlite3
import stat

import pytest

from taskflowx import exceptions
from taskflowx.persistence import backends, codec, models, owners
from taskflowx.types.failure import Failure

EXAMPLES = int(os.environ.get("TASKFLOWX_DAMAGE", "600"))
OTHERS = [None, True, 3, -1, 2.5, float("nan"), float("inf"), "x", "", [], [1], {}, {"a": 1}, [[1, 2]], {"year": "x"}]
HUGE = "1" + "0" * 5000
NESTED = "[" * 100_000


def failure():
    try:
        raise ValueError("v") from KeyError("k")
    except ValueError:
        return Failure()


def make_book(number):
    """Make a book with two runs, in which everything is that a record may have."""
    book = models.LogBook(f"book {number}", f"book-{number}")
    for name in ("f", "g"):
        flow = models.FlowDetail(name, f"{name}-{number}")
        flow.state, flow.meta = "RUNNING", {"m": [1, {"k": "v"}]}
        done, failed, again = (
            models.TaskDetail("done", f"{name}-done-{number}"),
            models.TaskDetail("failed", f"{name}-failed-{number}"),
            models.RetryDetail("again", f"{name}-again-{number}"),
        )
        done.put("SUCCESS", {"a": [1, 2.5, None]})
        done.version, done.meta = "1.0", {"progress": 0.5}
        failed.put("FAILURE", failure())
        failed.put("REVERT_FAILURE", failure())
        again.put("SUCCESS", [1])
        again.last_failures["failed"] = failure()
        for each in (done, failed, again):
            flow.add(each)
        book.add(flow)
    book.meta = {"why": "because"}
    return book


def fill(backend):
    with contextlib.closing(backend.get_connection()) as connection:
        for number in (1, 2, 3):
            book = make_book(number)
            connection.save_logbook(book)
            for flow in book:
                owner = owners.Owner()
                owner.running = True
                connection.save_changes(flow, [], owner)


def told(detail):
    """Give all that a detail or a book says."""
    if isinstance(detail, models.LogBook):
        data = detail.to_dict(marshal_time=True) | {"flows": [told(each) for each in detail]}
    elif isinstance(detail, models.FlowDetail):
        data = detail.to_dict() | {"revision": detail.revision, "atoms": [told(each) for each in detail]}
    else:
        data = detail.to_dict()
    return json.loads(json.dumps(data))


def attempt(call, *args):
    """Return what a call gives, and the error of ours that it ends with; any other one is let through."""
    try:
        found = call(*args)
        return (found if hasattr(found, "uuid") else list(found)), None
    except (exceptions.StorageFailure, exceptions.NotFound) as error:
        return None, error


def assert_others_are_read(connection, before, hit, caplog):
    """Read everything; what was not hit is as before.

    :param hit: the number of the book that was damaged
    """
    caplog.clear()
    books, error = attempt(connection.get_logbooks)
    assert error is None, error
    rest = {number: told(make) for number, make in ((int(each.uuid[-1]), each) for each in books)}
    assert {number: data for number, data in rest.items() if number != hit} == {
        number: data for number, data in before.items() if number != hit
    }
    if hit not in rest:
        assert any(record.levelno == logging.ERROR for record in caplog.records)
    _, error = attempt(connection.get_logbooks, True)
    assert error is None, error
    book, _ = attempt(connection.get_logbook, f"book-{hit}")
    if book is not None:
        assert [len(flow) for flow in book] == [3, 3]
    for lazy in (False, True):
        attempt(connection.get_flows_for_book, f"book-{hit}", lazy)
    for name in "fg":
        flow, error = attempt(connection.get_flow_details, f"{name}-{hit}")
        assert flow is None or len(flow) == 3  # not as if an atom had never run
        attempt(connection.get_flow_details, f"{name}-{hit}", True)
        attempt(connection.get_atoms_for_flow, f"{name}-{hit}")
        for atom in ("done", "failed", "again"):
            uuid = f"{name}-{atom}-{hit}"
            _, error = attempt(connection.get_atom_details, uuid)
            assert error is None or uuid in str(error)


def changed(rng, data):
    """Return JSON data in which one value, somewhere, is of another type."""
    places = []

    def walk(value, put):
        places.append(put)
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(inner, (dict, list)):
                walk(inner, lambda new, value=value, key=key: value.__setitem__(key, new))
            else:
                places.append(lambda new, value=value, key=key: value.__setitem__(key, new))

    whole = [data]
    walk(whole, lambda new: None)
    rng.choice(places[1:])(rng.choice(OTHERS))
    return whole[0]


def damage(rng, content, other):
    """Return damaged bytes.

    :param other: the bytes of another one
    """
    kind = rng.choice(("cut", "flip", "flip", "swap", "nest", "type", "type", "type", "huge", "zeros"))
    at = rng.randrange(len(content)) if content else 0
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind == "swap":
        return other
    if kind == "nest":
        return NESTED.encode()
    if kind == "zeros":
        return b"\0" * len(content)
    try:
        text = json.dumps(changed(rng, json.loads(content)))
    except (ValueError, AttributeError):
        return b"\xff" + content
    return text.replace("3", HUGE, 1).encode() if kind == "huge" else text.encode()


# -- a folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    with backends.backend({"connection": "dir", "path": str(tmp_path / "runs"), "sync": False}) as backend:
        fill(backend)
        yield tmp_path / "runs", backend


@pytest.mark.timeout(120)
def test_a_damaged_file_costs_its_own_book_alone(folder, caplog):
    path, backend = folder
    files = sorted(each for each in path.rglob("*") if each.is_file())
    connection = backend.get_connection()
    before = {int(book.uuid[-1]): told(book) for book in connection.get_logbooks()}
    for seed in range(EXAMPLES):
        rng = random.Random(seed)
        file, other = rng.sample(files, 2)
        content = file.read_bytes()
        file.write_bytes(damage(rng, content, other.read_bytes()))
        try:
            assert_others_are_read(connection, before, int(file.parent.name[-1]), caplog)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {file} = {file.read_bytes()[:200]!r}") from error
        finally:
            file.write_bytes(content)


RECORD = {"name": "n", "uuid": "x", "meta": {}, "state": None}


@pytest.mark.parametrize(
    "journal",
    [
        *("", "{", "3", "null", "[3]", "[[]]", "[[1, 2, 3]]", '[["a", null]]', NESTED),
        [["../../outside", None, json.dumps(RECORD)]],
        [["/outside", None, json.dumps(RECORD)]],
        [["flow_details/..", None, json.dumps(RECORD)]],
        [["flow_details/x/y", None, json.dumps(RECORD)]],
        [["taskflowx_runs/x", None, json.dumps(RECORD)]],
        [["flow_details/x", None, json.dumps({**RECORD, "uuid": "y"})]],
        [["flow_details/x", None, "{"]],
        [["flow_details/x", None, 3]],
        [["flow_details/x", None, json.dumps({**RECORD, "state": "DONE"})]],
        [["flow_details/x", "books/book-1/y", json.dumps(RECORD)]],
        [["flow_details/x", "../books/x", json.dumps(RECORD)]],
        [["flow_details/x", "books/../x", json.dumps(RECORD)]],
        [["flow_details/x", "atom_details/book-1/x", json.dumps(RECORD)]],
        [["flow_details/link", None, json.dumps({**RECORD, "uuid": "link"})]],
        [["flow_details/x", "books/link/x", json.dumps(RECORD)]],
    ],
    ids=lambda journal: str(journal)[:50],
)
def test_a_journal_writes_nothing_but_records_of_its_store(folder, tmp_path, caplog, journal):
    path, backend = folder
    outside = tmp_path / "outside"
    outside.mkdir()
    for shelf in ("books", "flow_details"):
        (path / shelf / "link").symlink_to(outside)
    text = journal if isinstance(journal, str) else json.dumps([["flow_details/f-2", None, "{}"], *journal])
    if not isinstance(journal, str):  # what stands before it is right, and is not written either
        fine = json.loads((path / "flow_details/f-2/metadata").read_text())
        text = json.dumps([["flow_details/f-2", None, json.dumps({**fine, "state": "FAILURE"})], *journal])
    (path / "flow_details/f-1/journal").write_text(text)
    connection = backend.get_connection()
    for call in (
        lambda: connection.get_flow_details("f-1"),
        lambda: connection.update_flow_details(models.FlowDetail("f", "f-1")),
        lambda: connection.save_logbook(make_book(1)),
    ):
        with pytest.raises(
            codec.Unreadable, match="f-1/journal' has what a writer has left to be written, and is damag"
        ):
            call()
    assert [each.uuid for each in connection.get_logbooks()] == ["book-2", "book-3"]
    assert "f-1/journal" in caplog.text
    assert [each.uuid for each in connection.get_flows_for_book("book-1")] == ["g-1"]
    assert list(outside.iterdir()) == []
    assert not (path / "flow_details/x").exists()
    assert connection.get_flow_details("f-2").state == "RUNNING"
    assert stat.S_ISREG((path / "flow_details/f-1/journal").stat().st_mode)


def test_a_claim_that_a_machine_has_left_as_zeros_is_none(folder):
    path, backend = folder
    (path / "flow_details/f-1/lock").write_bytes(b"\0" * 512)
    assert backend.get_connection().get_flow_details("f-1").revision == 0


@pytest.mark.parametrize("kind", ["flow_details/f-1", "atom_details/f-done-1", "books/book-1"])
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_no_file_or_no_folder_is_named(folder, kind, whole):
    path, backend = folder
    place = path / kind if whole else path / kind / "metadata"
    shutil.rmtree(place) if whole else place.unlink()
    place.write_text("{}") if whole else place.mkdir()
    connection = backend.get_connection()
    shelf, uuid = kind.split("/")
    read = {"books": "get_logbook", "flow_details": "get_flow_details", "atom_details": "get_atom_details"}[shelf]
    with pytest.raises(codec.Unreadable, match=kind):
        getattr(connection, read)(uuid)
    assert [each.uuid for each in connection.get_logbooks()] == ["book-2", "book-3"]


@pytest.mark.parametrize(
    ("shelf", "change"),
    [
        ("flow_details/f-1", {"state": "DONE"}),
        ("flow_details/f-1", {"state": "RETRYING"}),
        ("flow_details/f-1", {"state": 3}),
        ("flow_details/f-1", {"state": ["RUNNING"]}),
        ("atom_details/f-done-1", {"state": "DONE"}),
        ("atom_details/f-done-1", {"state": "SUSPENDED"}),
        ("atom_details/f-done-1", {"intention": "FORGET"}),
        ("atom_details/f-done-1", {"intention": {}}),
        ("atom_details/f-done-1", {"uuid": "f-failed-1"}),
        ("atom_details/f-again-1", {"results": {"a": 1}}),
        ("atom_details/f-again-1", {"results": [[1]]}),
        ("atom_details/f-again-1", {"results": [[1, [2]]]}),
        ("atom_details/f-again-1", {"results": [[1, {"a": 3}]]}),
        ("books/book-1", {"created_at": {"year": 10**400}}),
        ("books/book-1", {"created_at": {"year": float("nan"), "month": 1, "day": 1}}),
        ("books/book-1", {"created_at": "2020"}),
        ("books/book-1", {"meta": [1]}),
        ("books/book-1", {"index": "first"}),
    ],
    ids=str,
)
def test_what_is_wrong_in_a_record_is_named(folder, shelf, change):
    path, backend = folder
    file = path / shelf / "metadata"
    data = json.loads(file.read_text())
    data.get("atom", data).update(change)
    file.write_text(json.dumps(data))
    connection = backend.get_connection()
    kind, uuid = shelf.split("/")
    read = {"books": "get_logbook", "flow_details": "get_flow_details", "atom_details": "get_atom_details"}[kind]
    with pytest.raises(codec.Unreadable, match=rf"^The record at '.*/{shelf}' is damaged\n"):
        getattr(connection, read)(uuid)
    assert [each.uuid for each in connection.get_logbooks()] == ["book-2", "book-3"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_nobody_else_may_read_what_is_made_here(tmp_path, umask):
    top = tmp_path / "runs"
    old = os.umask(umask)
    try:
        with backends.backend({"connection": "dir", "path": str(top / "below")}) as backend:
            fill(backend)
            with contextlib.suppress(ZeroDivisionError), contextlib.closing(backend.get_connection()) as connection:
                connection._end_turn = lambda path: 1 / 0
                book = make_book(1)
                (flow, _) = book
                flow.revision, flow.meta = 1, {"new": 1}
                flow.find("f-done-1").results = 2
                connection.save_changes(flow, list(flow))
            assert (top / "below/flow_details/f-1/journal").exists()
    finally:
        os.umask(old)
    modes = {
        (each.is_dir(), stat.S_IMODE(each.lstat().st_mode)) for each in [top, *top.rglob("*")] if not each.is_symlink()
    }
    assert modes == {(True, 0o700), (False, 0o600)}


# -- rows ------------------------------------------------------------------------------------------------------------

#: table -> columns that hold what is damaged; those that say where a row belongs are no part of it
COLUMNS = {
    "logbooks": ("meta", "created_at", "updated_at"),
    "flowdetails": ("meta", "state"),
    "atomdetails": (
        *("meta", "state", "intention", "results", "failure"),
        *("revert_results", "revert_failure", "atom_type", "version"),
    ),
}


@pytest.mark.timeout(120)
def test_a_damaged_row_costs_its_own_book_alone(tmp_path, caplog):
    file = tmp_path / "runs.db"
    with backends.backend(f"sqlite:///{file}") as backend:
        fill(backend)
        with contextlib.closing(backend.get_connection()) as connection:
            before = {int(book.uuid[-1]): told(book) for book in connection.get_logbooks()}
    whole = tmp_path / "whole.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(f"VACUUM INTO '{whole}'")
    for seed in range(EXAMPLES // 4):
        rng = random.Random(seed)
        for end in ("", "-wal", "-shm"):
            file.with_name(file.name + end).unlink(missing_ok=True)
        shutil.copy(whole, file)
        table = rng.choice(list(COLUMNS))
        column, other = (rng.choice(COLUMNS[table]) for _ in range(2))
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
            uuids = [uuid for (uuid,) in database.execute(f"SELECT uuid FROM {table} ORDER BY uuid")]  # noqa: S608
            uuid = rng.choice(uuids)
            query = f"SELECT {column}, {other} FROM {table} WHERE uuid = ?"  # noqa: S608
            one, two = ((value or "").encode() for value in database.execute(query, (uuid,)).fetchone())
            new = damage(rng, one, two)
            new = new.decode() if rng.random() < 0.8 and new.isascii() else new
            database.execute("PRAGMA ignore_check_constraints = 1")
            database.execute(f"UPDATE {table} SET {column} = ? WHERE uuid = ?", (new, uuid))  # noqa: S608
        try:
            with (
                contextlib.closing(backends.fetch(f"sqlite:///{file}")) as backend,
                contextlib.closing(backend.get_connection()) as connection,
            ):
                assert_others_are_read(connection, before, int(uuid[-1]), caplog)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {table}.{column} of {uuid} = {new[:200]!r}") from error
