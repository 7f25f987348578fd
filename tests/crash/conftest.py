"""Adds up what was killed, and prints it at the end of the run."""

from __future__ import annotations

import pytest

from taskflowx.testing import crash

_ALL = pytest.StashKey[crash.Report]()


def pytest_configure(config):
    config.stash[_ALL] = crash.Report()


@pytest.fixture
def report_deaths(request):
    """Return what takes the report of one check."""
    return request.config.stash[_ALL].add


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[_ALL].tried:  # a run that did not hold is a test that failed, and is not counted
        terminalreporter.write_line(f"crash: {config.stash[_ALL]}")
