"""Payments whose processes are killed: none is made a second time in silence.

TASKFLOWX_CRASH_CALLS says in how many calls processes are killed, for each of three modes; `make crash` takes 3,500,
which is more than 10,000 in all.
"""

from __future__ import annotations

import itertools
import os

import pytest

from taskflowx.testing import crash
from tests.crash import payments

CALLS = int(os.environ.get("TASKFLOWX_CRASH_CALLS") or 0)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning"),
    pytest.mark.timeout(7200 if CALLS else 600),
]
each_mode = pytest.mark.parametrize(
    "flow", [payments.asked, payments.undone, payments.found], ids=lambda flow: flow.__name__
)


def check(flow, folder, **options):
    return crash.check(flow, folder, verify=payments.verify, answer=payments.answer, same_results=False, **options)


@pytest.mark.parametrize("executor", ["serial", "threads"])
@each_mode
def test_a_payment_is_not_repeated_in_silence(flow, executor, tmp_path, report_deaths):
    report = check(flow, tmp_path, executor=executor, sample=10)
    report_deaths(report)
    assert report.tried > 0


@each_mode
def test_no_payment_of_many_is_repeated_in_silence(flow, tmp_path, report_deaths, record_property):
    wanted, interrupted = CALLS or 20, 0
    for seed in itertools.count():
        report_deaths(
            check(
                lambda folder: flow(folder, 16),
                tmp_path / str(seed),
                executor="threads",
                max_workers=8,
                sample=40 if CALLS else 4,
                seed=seed,
            )
        )
        noted = (tmp_path / str(seed) / payments.INTERRUPTED).read_text(encoding="utf-8")
        interrupted += sum(map(int, noted.split()))
        if interrupted >= wanted:
            break
    record_property("calls", interrupted)
    assert interrupted >= wanted
