"""Where runs that are killed keep their files, and a sum of what was killed at the end of all tests."""

from __future__ import annotations

import os
import pathlib
import tempfile

import pytest

from taskflowx.testing import crash

_ALL = pytest.StashKey[crash.Report]()
_IN_MEMORY = pathlib.Path("/dev/shm")


def pytest_configure(config):
    config.stash[_ALL] = crash.Report()


@pytest.fixture
def tmp_path(tmp_path):
    """Return a folder in memory where there can be one: what is written outlives a process, and no disk is slow."""
    if not os.access(_IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY, prefix="taskflowx-") as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def report_deaths(request):
    """Return what takes the report of one check."""
    return request.config.stash[_ALL].add


def pytest_sessionfinish(session):
    """Hand the sum on, where the tests run in several processes."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        report = session.config.stash[_ALL]
        output["crash"] = (report.tried, dict(report.deaths))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take in the sum of one of several processes."""
    tried, deaths = getattr(node, "workeroutput", {}).get("crash", (0, {}))
    node.config.stash[_ALL].add(crash.Report(tried, crash.Counter(deaths)))


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[_ALL].tried:  # a run that did not hold is a test that failed, and is not counted
        terminalreporter.write_line(f"crash: {config.stash[_ALL]}")
