"""A part of `make compat` for every day, and the page on which its classes of differences stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.peers import TASKFLOW
from tests.interop.compat import __main__ as compat, classes, store_classes

PAGE = Path(__file__).parents[3] / "docs" / "coming-from-taskflow.md"


@pytest.mark.timeout(300)
def test_random_flows_and_calls_differ_from_taskflow_only_as_is_known():
    if not TASKFLOW.installed:
        reason = "no .venv-taskflow with OpenStack TaskFlow: `make taskflow` makes it"
        if os.environ.get("TASKFLOWX_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    flows, calls = compat.run(150, 60, 1)
    assert (flows.cases, flows.unexplained, flows.too_many(classes.KNOWN)) == (150, [], [])
    assert (calls.cases, calls.unexplained, calls.too_many(store_classes.CLASSES)) == (60, [], [])
    assert flows.agree > 100


@pytest.mark.parametrize("known", [*classes.KNOWN, *store_classes.CLASSES], ids=lambda known: known.name)
def test_each_known_difference_stands_on_the_page_for_users(known):
    assert f"| {known.name} | {known.reason} |" in PAGE.read_text(encoding="utf-8").splitlines()
