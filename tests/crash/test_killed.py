"""Runs that are killed at every place, and what they leave; `make crash` does it many times over.

TASKFLOWX_CRASH_ROUNDS says how many seeds are tried at every place: each decides which runs are killed more than
once. Without it a few places of each flow are tried, which takes half a minute; with one round, all of them on SQLite.
"""

from __future__ import annotations

import os

import pytest

from taskflowx.testing import crash
from tests.crash import flows
from tests.services import addresses

ROUNDS = int(os.environ.get("TASKFLOWX_CRASH_ROUNDS") or 0)
EVERY = None if ROUNDS else 8  # places
MANY = None if ROUNDS > 1 else 24 if ROUNDS else 8  # places, where each of them takes longer
SOME = 6 if ROUNDS else 2

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning"),  # of eventlet, once a test has imported it
    pytest.mark.timeout(600),
]
each_flow = pytest.mark.parametrize("flow", flows.FLOWS, ids=lambda flow: flow.__name__)
each_seed = pytest.mark.parametrize("seed", range(ROUNDS or 1))

SERVERS = {
    "postgresql": addresses.POSTGRESQL,
    "mariadb": addresses.MARIADB,
    "zookeeper": addresses.ZOOKEEPER,
}


def in_a_folder(folder):
    """Return the address of a store in the folder of a run."""
    return f"dir://{folder}/runs"


@each_seed
@pytest.mark.parametrize("executor", ["serial", "threads"])
@each_flow
def test_every_place_on_sqlite(flow, executor, seed, tmp_path, report_deaths):
    report_deaths(crash.check(flow, tmp_path, verify=flows.verify, executor=executor, sample=EVERY, seed=seed))


@each_seed
def test_a_sample_of_places_in_a_long_history(seed, tmp_path, report_deaths):
    report_deaths(crash.check(flows.retried_often, tmp_path, verify=flows.verify, sample=SOME, seed=seed))


@each_seed
@pytest.mark.parametrize("executor", ["serial", "threads"])
@each_flow
def test_places_in_a_folder(flow, executor, seed, tmp_path, report_deaths):
    report_deaths(
        crash.check(
            flow,
            tmp_path,
            verify=flows.verify,
            connection=in_a_folder,
            executor=executor,
            sample=MANY,
            seed=seed,
        )
    )


@each_seed
@pytest.mark.parametrize("server", SERVERS)
@each_flow
def test_a_sample_of_places_on_a_server(flow, server, seed, tmp_path, report_deaths):
    lacks = SERVERS[server].lacks()
    if lacks:
        pytest.skip(lacks)
    where = addresses.new_path() if server == "zookeeper" else addresses.new_database(SERVERS[server])
    executor = ("serial", "threads")[seed % 2]
    report_deaths(
        crash.check(flow, tmp_path, verify=flows.verify, connection=where, executor=executor, sample=SOME, seed=seed)
    )


@each_seed
@pytest.mark.parametrize("flow", [flows.wide, flows.undone_wide], ids=lambda flow: flow.__name__)
def test_a_sample_of_places_with_processes(flow, seed, tmp_path, report_deaths):
    report_deaths(
        crash.check(flow, tmp_path, verify=flows.verify, executor="processes", max_workers=2, sample=SOME, seed=seed)
    )
