"""A record whose file has lost its tail, as after a loss of power: what was synced is there, and nothing is half there.

A run on SQLite notes, at each commit, how long the log that is written ahead was. The files are then cut at every frame
of the log and in the middle of each. A cut above what was synced before a call keeps all that the call relied on; any
cut leaves a record that opens, and from which the flow comes to its end.
"""

from __future__ import annotations

import contextlib
import shutil

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx._util import failpoints
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models

pytestmark = pytest.mark.timeout(300)
_DONE = (states.SUCCESS, states.REVERTING, states.REVERTED)
NAMES = [f"s{number}" for number in range(6)]
HEADER, FRAME = 32, 24  # bytes of the log's own header, and of that of each frame, see sqlite.org/fileformat2.html
PAGE = 4096


class Step(task.Task):
    """Notes that it ran."""

    def __init__(self, name, ran, fails=False):
        super().__init__(name, provides=name)
        self.ran = ran
        self.fails = fails

    def execute(self):
        self.ran.append(self.name)
        if self.fails:
            raise OSError(self.name)
        return self.name

    def revert(self, **kwargs):
        self.ran.append(f"-{self.name}")


def make_flow(ran, *, fails):
    return linear_flow.Flow("flow").add(*(Step(name, ran, fails and name == NAMES[-1]) for name in NAMES))


def go_on(address, *, fails):
    """Go on from the record at an address; returns the names that ran, the states before, and the record at the end."""
    ran = []
    with contextlib.closing(backends.fetch(address)) as backend:
        with contextlib.closing(backend.get_connection()) as connection:
            connection.upgrade()
            [book] = connection.get_logbooks()
            [detail] = book
        before = {one.name: one.state for one in detail}
        if detail.state == states.REVERTED:  # it has ended, and would start again
            return ran, before, detail
        with contextlib.suppress(OSError, exceptions.WrappedFailure):  # what was read back is no exception any more
            engines.load(make_flow(ran, fails=fails), flow_detail=detail, backend=backend).run()
        with contextlib.closing(backend.get_connection()) as connection:
            return ran, before, connection.get_flow_details(detail.uuid)


def begin(address):
    """Make a record, and return its store."""
    backend = backends.fetch(address)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
        book = models.LogBook("book")
        book.add(models.FlowDetail("flow", "the-flow"))
        connection.save_logbook(book)
        return backend, next(iter(connection.get_logbook(book.uuid)))


def run_noting(address, size, *, fails):
    """Run a flow; returns for each commit the size of the log after it, and what had run until then."""
    ran, noted = [], []
    backend, detail = begin(address)
    with contextlib.closing(backend):
        begun = size()
        failpoints.listen(lambda name: noted.append((size(), list(ran))) if name == "after commit" else None)
        try:
            with contextlib.suppress(OSError):
                engines.load(make_flow(ran, fails=fails), flow_detail=detail, backend=backend).run()
        finally:
            failpoints.listen(None)
        yield begun, noted


def check(before, ran, after, synced, *, fails):
    """Check that nothing of what was synced is lost, and that the flow has come to its end."""
    done = [name for name in synced[:-1] if not name.startswith("-")]  # the last one was not on record yet
    if not any(name.startswith("-") for name in synced):
        assert [name for name in done if before.get(name) not in _DONE] == []
        assert [name for name in done if name in ran] == []
    else:
        undone = [name[1:] for name in synced[:-1] if name.startswith("-")]
        assert [name for name in undone if before.get(name) != states.REVERTED] == []
        assert [name for name in undone if f"-{name}" in ran] == []
    assert after.state == (states.REVERTED if fails else states.SUCCESS)
    assert {one.state for one in after} == {after.state}


@pytest.mark.parametrize("fails", [False, True])
def test_a_log_of_sqlite_that_is_cut_anywhere(fails, tmp_path, monkeypatch):
    monkeypatch.setattr("taskflowx.persistence.owners.is_gone", lambda owner: True)  # it is this process in fact
    original = tmp_path / "original"
    original.mkdir()
    database, log = original / "runs.db", original / "runs.db-wal"
    cuts = 0
    for begun, noted in run_noting(f"sqlite:///{database}", lambda: log.stat().st_size, fails=fails):
        whole = noted[-1][0]
        assert whole > begun > HEADER
        for start in range(begun, whole + 1, FRAME + PAGE):
            for cut in {start, min(start + (FRAME + PAGE) // 2, whole)}:
                cuts += 1
                copy = tmp_path / f"cut-{cut}"
                copy.mkdir()
                shutil.copy(database, copy)
                (copy / log.name).write_bytes(log.read_bytes()[:cut])
                ran, before, after = go_on(f"sqlite:///{copy / database.name}", fails=fails)
                synced = max((done for size, done in noted if size <= cut), key=len, default=[])
                check(before, ran, after, synced, fails=fails)
                shutil.rmtree(copy)
    assert cuts > 40


@pytest.mark.parametrize("fails", [False, True])
def test_files_of_a_folder_that_are_cut_while_they_are_written(fails, tmp_path, monkeypatch):
    monkeypatch.setattr("taskflowx.persistence.owners.is_gone", lambda owner: True)
    original = tmp_path / "original"
    ran, synced, copies = [], [], []

    def look(place):
        if place == "after commit":
            synced[:] = ran
        elif place in {"in a file", "in commit"}:
            copy = tmp_path / f"copy-{len(copies)}"
            shutil.copytree(original, copy, symlinks=True)
            copies.append((copy, list(synced)))

    backend, detail = begin(f"dir://{original}")
    failpoints.listen(look)
    try:
        with contextlib.suppress(OSError):
            engines.load(make_flow(ran, fails=fails), flow_detail=detail, backend=backend).run()
    finally:
        failpoints.listen(None)
    torn = 0
    for copy, on_record in copies:
        for unfinished in copy.rglob(".*-*"):
            torn += 1
            unfinished.write_bytes(unfinished.read_bytes()[: unfinished.stat().st_size // 2])
        again, before, after = go_on(f"dir://{copy}", fails=fails)
        check(before, again, after, on_record, fails=fails)
    assert torn > 20
    assert len(copies) > 2 * torn - 20
