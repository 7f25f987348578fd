"""Settings that hold for every test, and a fixture that many of them are held to.

Hypothesis measures each example against a deadline by default. On a machine that is shared with other work
that fails good code, so the deadline is off; what must be fast is counted in function calls, or measured in
benchmarks/. With CI set, Hypothesis's own profile "ci" stays in force: no deadline, always the same examples.
"""

from __future__ import annotations

import os
import pathlib
import signal
import tempfile

import pytest
from hypothesis import settings

from tests.services import addresses
from tests.support import leftovers

#: fixtures of a module whose pools may start a process in any of its tests
_KEPT = {"warm", "elsewhere", "kept"}

if "CI" not in os.environ:
    settings.register_profile("desk", deadline=None, print_blob=True)
    settings.load_profile("desk")

# A shell starts what runs in the background with interrupts ignored; here they come as they do in the foreground.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish():
    addresses.CLEANUP.close()


@pytest.fixture(scope="module")
def warm():
    """Give a pool of worker processes that are kept between the tests of a module."""
    from taskflowx.executors import processes  # the few tests that need it shall not change what others import

    with processes.ProcessPool(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def temporary_files(tmp_path_factory):
    """Return a folder for temporary files, in which those that tests leave behind are found."""
    return str(tmp_path_factory.mktemp("t"))


@pytest.fixture
def nothing_is_left(request, temporary_files):
    """See that a test leaves no thread, process, descriptor or temporary file behind.

    Each unit test is held to it, and each test elsewhere that names it. One that is marked `leaves` says why it does.
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
