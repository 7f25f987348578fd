"""What holds after every unit test: nothing of it is left."""

from __future__ import annotations

import pathlib
import tempfile

import pytest

from tests.support import leftovers

#: fixtures of a module whose pools may start a process in any of its tests
_KEPT = {"warm", "elsewhere", "kept"}


@pytest.fixture(scope="session")
def temporary_files(tmp_path_factory):
    """Return a folder for temporary files, in which those that tests leave behind are found."""
    return str(tmp_path_factory.mktemp("t"))


@pytest.fixture(autouse=True)
def nothing_is_left(request, temporary_files):
    """See that a test leaves no thread, process, descriptor or temporary file behind.

    A test that is marked `leaves` says why it does.
    """
    if (
        not pathlib.Path("/proc/self/fd").exists()
        or not _KEPT.isdisjoint(request.fixturenames)
        or request.node.get_closest_marker("leaves")
    ):
        yield
        return
    usual, tempfile.tempdir = tempfile.tempdir, temporary_files
    before = leftovers.Left()
    yield
    left = leftovers.left_since(before)
    tempfile.tempdir = usual
    assert not left, f"the test has left behind: {left}"
