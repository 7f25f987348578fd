"""Flows here fail all the time, and on purpose: what the engine logs about that is not shown."""

from __future__ import annotations

import logging
import sysconfig

import pytest


def pytest_collection_modifyitems(items):
    if sysconfig.get_config_var("Py_GIL_DISABLED"):  # all threads stop whenever a trace function is set
        for item in items:
            if item.path.is_relative_to(__file__.removesuffix("conftest.py")):
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="taskflowx")
