"""Runs that are killed at every place: whenever a process begins, history and record agree, and the end has it all."""

from __future__ import annotations

import contextlib
import functools

import pytest

from taskflowx.persistence import backends
from taskflowx.testing import crash
from tests.crash import flows
from tests.crash.test_killed import MANY, SERVERS, SOME, each_seed, in_a_folder, pytestmark  # noqa: F401 - marks
from tests.services import addresses
from tests.support import histories

KILLED = [flows.linear, flows.undone_wide, flows.wide]


def in_sqlite(folder):
    return f"sqlite:///{folder}/runs.db"


def agree(address):
    """Check the histories of all runs in a store."""
    with contextlib.closing(backends.fetch(address)) as backend, contextlib.closing(backend.get_connection()) as found:
        for book in found.get_logbooks():
            for detail in book:
                assert histories.complaints(list(found.get_history(detail.uuid)), detail) == []


def looked_at(flow, where):
    """Return what makes a flow, and looks at the histories before."""

    @functools.wraps(flow)
    def make(folder):
        agree(where(folder))
        return flow(folder)

    return make


def check_killed(flow, folder, where, report_deaths, **options):
    def verify(folder):
        flows.verify(folder)
        agree(where(folder))

    make = looked_at(flow, where)
    report_deaths(crash.check(make, folder, verify=verify, connection=where, history=True, **options))


@each_seed
@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("where", [in_sqlite, in_a_folder])
@pytest.mark.parametrize("flow", KILLED, ids=lambda flow: flow.__name__)
def test_at_every_place(flow, where, executor, seed, tmp_path, report_deaths):
    check_killed(flow, tmp_path, where, report_deaths, executor=executor, sample=MANY, seed=seed)


@each_seed
@pytest.mark.parametrize("server", SERVERS)
def test_at_a_sample_of_places_on_a_server(server, seed, tmp_path, report_deaths):
    if reason := SERVERS[server].lacks():
        pytest.skip(reason)
    where = addresses.new_path() if server == "zookeeper" else addresses.new_database(SERVERS[server])
    check_killed(
        flows.undone_wide, tmp_path, lambda folder: where, report_deaths, executor="threads", sample=SOME, seed=seed
    )
