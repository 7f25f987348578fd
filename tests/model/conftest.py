"""Flows here fail all the time, and on purpose: what the engine logs about that is not shown."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="taskflowx")
