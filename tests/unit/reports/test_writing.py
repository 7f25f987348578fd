"""Reports as files, and the history that is read back from them."""

import os
import stat
import threading

import pytest
from hypothesis import given, strategies as st

from taskflowx import exceptions
from taskflowx.persistence.history import Entry
from taskflowx.reports import page, writing
from tests.support.reports import START, called, facts_of, history_of_calls

times = st.integers(0, 10**12).map(lambda micro: START + micro / 1e6)
texts = st.text(st.characters(codec=None), max_size=20)
moves = st.tuples(
    times, st.none() | texts, st.integers(0, 9), st.none() | texts, texts, st.none() | times, st.none() | texts
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


@given(st.lists(st.tuples(moves, st.none() | texts), min_size=1, max_size=20), st.integers(1, 5))
def test_any_history_comes_back_from_the_page(folder, rows, first):
    entries = [Entry(first + number, *row, failure) for number, (row, failure) in enumerate(rows)]
    path = folder / "run.html"
    path.write_text(f'<p>x</p><pre id="history">{page.history_json(facts_of(entries))}</pre>')
    found = writing.history_of(path)
    assert [one._replace(at=0, began=None) for one in found] == [one._replace(at=0, began=None) for one in entries]
    for one, other in zip(found, entries, strict=True):
        assert one.at == pytest.approx(other.at, abs=2e-6)
        assert (one.began is None) == (other.began is None)
        assert one.began is None or one.began == pytest.approx(other.began, abs=2e-6)


def test_a_report_takes_the_place_of_an_older_one(tmp_path):
    path = tmp_path / "run.html"
    path.write_text("old")
    entries = history_of_calls(called("a", 0, 1, 2))
    assert writing.write(str(path), facts_of(entries)) == path
    assert writing.history_of(path) == entries
    assert [one.name for one in tmp_path.iterdir()] == ["run.html"]


def test_a_report_may_be_read_by_those_who_may_read_new_files(tmp_path):
    (tmp_path / "new").touch()
    writing.write(tmp_path / "run.html", facts_of())
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "run.html")]
    assert modes[0] == modes[1]


def test_a_failed_write_leaves_the_old_report_and_nothing_else(tmp_path):
    path = tmp_path / "run.html"
    path.mkdir()
    with pytest.raises(OSError, match=r"run\.html"):
        writing.write(path, facts_of())
    assert [one.name for one in tmp_path.iterdir()] == ["run.html"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    target = tmp_path / "none" / "run.html"
    with pytest.raises(FileNotFoundError) as caught:
        writing.write(target, facts_of())
    assert caught.value.filename == str(target)
    with pytest.raises(TypeError, match=r"path must be that of a page, such as 'run.html', not 3 \("):
        writing.write(3, facts_of())


def test_a_link_and_a_pipe_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to("run.html")
    writing.write(tmp_path / "link", facts_of())
    assert (tmp_path / "link").is_symlink()
    expected = (tmp_path / "run.html").stat().st_size
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    writing.write(tmp_path / "pipe", facts_of())
    assert (tmp_path / "pipe").is_fifo()  # before the join, which would wait for ever
    reader.join()
    assert len(read[0]) == expected
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "pipe", "run.html"]


def test_a_trace_does_not_take_the_place_of_its_page(tmp_path):
    entries = history_of_calls(called("a", 0, 1, 2))
    with pytest.raises(ValueError, match=r"path must be that of a page"):
        writing.write(tmp_path / "run.perfetto-trace", facts_of(entries), trace=True)
    assert not list(tmp_path.iterdir())


def test_a_trace_needs_a_history(tmp_path):
    with pytest.raises(exceptions.InvalidState, match=r"trace=True needs the history of the run.*history=True"):
        writing.write(tmp_path / "run.html", facts_of(), trace=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "<p>other</p>", '<pre id="history">{"format":"later"}</pre>'])
def test_a_file_without_a_history_is_refused(tmp_path, content):
    path = tmp_path / "other.html"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.html"):
        writing.history_of(path)
