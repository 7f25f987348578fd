"""Runs are killed whose tasks write rows in the transaction of their step: rows and record agree at every place."""

from __future__ import annotations

import os

import pytest

from taskflowx.testing import crash
from tests.crash import ledger
from tests.services import addresses

ROUNDS = int(os.environ.get("TASKFLOWX_CRASH_ROUNDS") or 0)
#: places at which each flow is killed, in SQLite and on a server; None for all of them
EVERY, SOME = (None, None) if ROUNDS > 1 else (6, 3)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.timeout(1200),
]
each_flow = pytest.mark.parametrize("make", ledger.FLOWS, ids=lambda make: make.__name__)
each_seed = pytest.mark.parametrize("seed", range(ROUNDS or 1))
each_executor = pytest.mark.parametrize("executor", ["serial", "threads"])


def check(make, where, folder, **options):
    """Kill a flow at its places; the ledger is compared with the record before each process, and at the end."""

    def made(folder):
        address = where(folder)
        ledger.make_table(address)
        ledger.check(address)
        return make()

    return crash.check(made, folder, verify=lambda folder: ledger.check(where(folder)), connection=where, **options)


@each_seed
@each_executor
@each_flow
def test_rows_and_record_agree_on_sqlite(make, executor, seed, tmp_path, report_deaths):
    report_deaths(
        check(
            make,
            lambda folder: f"sqlite:///{folder / 'runs.db'}",
            tmp_path,
            executor=executor,
            seed=seed,
            sample=EVERY,
        )
    )


@each_seed
@each_executor
@each_flow
@pytest.mark.parametrize("service", [addresses.POSTGRESQL, addresses.MARIADB], ids=lambda service: service.name)
def test_rows_and_record_agree_on_a_server(service, make, executor, seed, tmp_path, report_deaths):
    if lacks := service.lacks():
        pytest.skip(lacks)
    address = addresses.new_database(service)
    report_deaths(check(make, lambda _: address, tmp_path, executor=executor, seed=seed, sample=SOME))
