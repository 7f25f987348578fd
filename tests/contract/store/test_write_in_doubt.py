"""A write fails, or its answer is lost, at each place in the life of a run: the run ends right all the same."""

from __future__ import annotations

import contextlib
import functools

import pytest
import sqlalchemy as sa

from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import sql_transactions
from tests.contract.store import faults
from tests.services import addresses

pytestmark = pytest.mark.timeout(180)  # some hundred runs on a machine that is busy

SERVERS = {"postgresql": addresses.POSTGRESQL, "mariadb": addresses.MARIADB}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Let the store be asked again at once."""
    monkeypatch.setattr(sql_transactions, "_FIRST_WAIT", 0)
    monkeypatch.setattr("taskflowx.persistence.journal._FIRST_PAUSE", 0)


@pytest.fixture(params=["lost", "failed"])
def lost(request):
    """Tell whether a write is done and its answer lost, or not done at all."""
    return request.param == "lost"


@pytest.fixture(params=["sqlite", *SERVERS])
def make(request, lost, tmp_path):
    """Give a function that makes the settings of a new store, and what fails between us and it."""
    kind = request.param
    if kind == "sqlite":

        def made(number=0):
            failing = faults.Faults(lost)
            arguments = {"connect_args": {"factory": faults.sqlite_commits(failing)}}
            return {"connection": f"sqlite:///{tmp_path}/{number}.db", "engine_args": arguments}, failing

        yield made
        return
    service = SERVERS[kind]
    if reason := service.lacks():
        pytest.skip(reason)
    with contextlib.closing(faults.Proxy(service.host, service.port, lost)) as proxy:

        def made(number=0):
            url = sa.make_url(addresses.new_database(service)).set(port=proxy.port)
            if kind == "postgresql":
                url = url.update_query_dict({"sslmode": "disable"})  # the proxy has to see what is said
            return {"connection": url.render_as_string(hide_password=False)}, proxy

        yield made


#: patient as it is by default, and so impatient that each fault is an error that the caller sees
PATIENCE = {
    "patient": ({}, {}),
    "patient, with a history": ({}, {"history": True}),
    "impatient": ({"max_retries": 0}, {"commit_timeout": 0}),
    "impatient, with a history": ({"max_retries": 0}, {"commit_timeout": 0, "history": True}),
}


@pytest.mark.parametrize("patience", PATIENCE)
@pytest.mark.parametrize("live", faults.LIVES, ids=lambda live: live.__name__)
def test_a_run_ends_right_whichever_commit_fails(make, live, patience):
    settings, failing = make()
    more, options = PATIENCE[patience]
    with backends.backend({**settings, **more}) as backend:
        assert faults.at_each_chance(live, backend, failing, **options) > 5


def test_an_upgrade_is_done_whichever_commit_fails(make):
    number, more = 0, True
    while more:
        number += 1
        settings, failing = make(number)
        with contextlib.closing(backends.fetch(settings)) as backend:
            connection = backend.get_connection()
            failing.arm(number)
            faults.insist(connection.upgrade)
            more = failing.seen >= number
            failing.arm(0)
            connection.validate()
    assert number > 1


def test_a_record_can_be_written_whichever_commit_fails(make):
    settings, failing = make()
    with backends.backend(settings) as backend, contextlib.closing(backend.get_connection()) as connection:
        for number in range(1, 3):
            book = models.LogBook("book", f"b{number}")
            flow = models.FlowDetail("flow", f"f{number}")
            atom = models.TaskDetail("task", f"t{number}")
            flow.add(atom)
            book.add(flow)
            for count, write in enumerate(
                (
                    functools.partial(connection.add_flow_details, book, flow),
                    functools.partial(connection.save_logbook, book),
                    functools.partial(connection.update_flow_details, flow),
                    functools.partial(connection.update_atom_details, atom),
                )
            ):
                atom.results = book.meta["n"] = flow.meta["n"] = count
                failing.arm(number)
                faults.insist(write)
                failing.arm(0)
                assert connection.get_atom_details(atom.uuid).results == count
            assert connection.get_flow_details(flow.uuid).revision == flow.revision
