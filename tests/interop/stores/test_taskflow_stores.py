"""Stores that OpenStack TaskFlow has written are read here, and the other way round.

Its own interpreter runs `taskflow_peer.py`, which prints what TaskFlow itself finds in a store: that is what has to be
found here. `make taskflow` installs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskflowx import engines, exceptions, retry, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.types.failure import Failure
from tests.services import addresses

pytestmark = pytest.mark.timeout(300)  # TaskFlow takes its time on a machine that is busy

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-taskflow" / "bin" / "python"
PEER = Path(__file__).with_name("taskflow_peer.py")

#: what its flows end as, by the name of their book
ENDS = {
    "finished": "SUCCESS",
    "reverted": "REVERTED",
    "failed": "FAILURE",
    "retried": "SUCCESS",
    "given-up": "REVERTED",
    "stopped": "SUSPENDED",
    "killed": "RUNNING",
    "killed-back": "RUNNING",
}


@pytest.fixture(params=["dir", "sqlite", "postgresql", "mariadb", "zookeeper"])
def settings(request, tmp_path):
    """Give the settings of a store that is new, as both take them."""
    if not (ROOT / ".venv-taskflow" / "stores").exists():
        reason = "no .venv-taskflow with what writes stores: `make taskflow` makes it"
        if os.environ.get("TASKFLOWX_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    kind = request.param
    if kind == "dir":
        return {"connection": "dir", "path": str(tmp_path / "runs")}
    if kind == "sqlite":
        return {"connection": f"sqlite:///{tmp_path / 'runs.db'}"}
    service = {each.name: each for each in addresses.SERVICES}[kind]
    if reason := service.lacks():
        pytest.skip(reason)
    if kind == "zookeeper":
        path = addresses.new_path()
        return {
            "connection": "zookeeper",
            "hosts": f"{service.host}:{service.port}",
            "path": "/" + path.split("/", 3)[3],
        }
    return {"connection": addresses.new_database(service)}


@pytest.fixture
def connection(settings):
    """Give a connection of ours."""
    backend = backends.fetch(settings)
    with contextlib.closing(backend), contextlib.closing(backend.get_connection()) as made:
        yield made


def peer(verb: str, settings: dict[str, str]) -> dict[str, Any]:
    """Let TaskFlow do something; returns the books that it finds then, by name."""
    command = [str(PYTHON), "-I", str(PEER), verb, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return {book["name"]: in_order(book) for book in json.loads(done.stdout)}


def found(connection) -> dict[str, Any]:
    """Return the books that are found here, in the form of `taskflow_peer.py`."""
    books = {}
    for book in connection.get_logbooks():
        flows = [
            {**flow.to_dict(), "atoms": [{**atom.to_dict(), "kind": models.atom_detail_type(atom)} for atom in flow]}
            for flow in book
        ]
        plain = json.loads(json.dumps({"uuid": book.uuid, "name": book.name, "meta": book.meta, "flows": flows}))
        books[book.name] = in_order(plain)
    return books


def in_order(book: dict[str, Any]) -> dict[str, Any]:
    """Return a book as both sides can tell it, with its atoms in the order of their names."""
    for flow in book["flows"]:
        flow["atoms"].sort(key=lambda atom: atom["name"])  # TaskFlow keeps no order in most stores
        for atom in flow["atoms"]:
            _without_no_causes(atom)
            if atom["kind"] == "RETRY_DETAIL":
                # TaskFlow stores what an attempt with failures returned, but reads a failure in its place.
                atom["results"] = [[None if failures else value, failures] for value, failures in atom["results"]]
    return book


def _without_no_causes(data: Any) -> None:
    """Leave out empty lists of causes, which only TaskFlow writes for the causes of a failure."""
    if isinstance(data, dict):
        if data.get("causes") == []:
            del data["causes"]
        for value in data.values():
            _without_no_causes(value)
    elif isinstance(data, list):
        for value in data:
            _without_no_causes(value)


def test_what_taskflow_has_written_is_read_taken_over_and_stays_its_own(settings, connection):
    theirs = peer("write", settings)
    assert {name: book["flows"][0]["state"] for name, book in theirs.items()} == ENDS
    assert found(connection) == theirs
    failed = next(atom for atom in connection.get_flow_details("flow-reverted") if atom.name == "fail")
    assert isinstance(failed.failure, Failure)
    assert failed.failure.check(ValueError) is ValueError
    assert [cause.exception_str for cause in failed.failure.causes] == ["'inner'"]
    times = next(atom for atom in connection.get_flow_details("flow-retried") if atom.name == "times")
    assert isinstance(times, models.RetryDetail)
    assert [(value, list(failures)) for value, failures in times.results] == [(1, ["twice"]), (2, [])]

    connection.upgrade()
    connection.upgrade()
    connection.validate()
    assert found(connection) == theirs
    assert peer("read", settings) == theirs

    detail = connection.get_flow_details("flow-killed")
    detail.state, detail.meta = "SUSPENDED", {"m": ["ü 🎈"]}
    (dead,) = (atom for atom in detail if atom.name == "die")
    dead.put("FAILURE", Failure.from_exception(ValueError("here")))
    new = models.RetryDetail("new", "new")
    new.put("SUCCESS", {"plain": "value"})
    new.last_failures["die"] = dead.failure
    detail.add(new)
    connection.save_changes(detail, [dead, new])
    connection.destroy_logbook(theirs.pop("finished")["uuid"])
    seen = peer("read", settings)
    assert seen == found(connection)
    assert set(seen) == set(theirs)
    changed = seen["killed"]["flows"][0]
    assert (changed["state"], changed["meta"]) == ("SUSPENDED", {"m": ["ü 🎈"]})
    (results,) = (atom["results"] for atom in changed["atoms"] if atom["name"] == "new")
    assert [list(failures) for _, failures in results] == [["die"]]


def layout(address: str) -> dict[str, Any]:
    """Return the columns of the tables of a database, as the database tells them, and what refers to what."""
    engine = sa.create_engine(addresses.through(address))
    inspector = sa.inspect(engine)
    told = {}
    for table in ("logbooks", "flowdetails", "atomdetails"):
        columns = {
            column["name"]: (repr(column["type"]), column["nullable"]) for column in inspector.get_columns(table)
        }
        links = [
            (key["constrained_columns"], key["referred_table"], key["options"].get("ondelete"))
            for key in inspector.get_foreign_keys(table)
        ]
        told[table] = columns, links, inspector.get_pk_constraint(table)["constrained_columns"]
    engine.dispose()
    return told


@pytest.mark.parametrize("settings", ["sqlite", "postgresql"], indirect=True)
def test_the_tables_are_those_of_taskflow(settings, connection, tmp_path):
    connection.upgrade()
    ours = layout(settings["connection"])
    connection.backend.close()
    theirs = {"connection": f"sqlite:///{tmp_path / 'theirs.db'}"}
    if not settings["connection"].startswith("sqlite"):
        theirs["connection"] = addresses.new_database(addresses.POSTGRESQL)
    peer("upgrade", theirs)
    assert ours == layout(theirs["connection"])


def test_taskflow_reads_what_was_written_here(settings, connection):
    connection.upgrade()
    book = models.LogBook("ours")
    flow = models.FlowDetail("flow", models.make_uuid())
    book.meta, flow.meta, flow.state = {"b": 1}, {"f": [1]}, "RUNNING"
    book.add(flow)
    done, failed, again = models.TaskDetail("done"), models.TaskDetail("failed"), models.RetryDetail("again")
    done.put("SUCCESS", {"plain": [1, 2.5, True, None, "ü"]})
    done.version, done.meta = "1.0", {"progress": 0.5}
    failed.put("FAILURE", Failure.from_exception(ValueError("v")))
    again.put("SUCCESS", 1)
    again.last_failures["failed"] = failed.failure
    for detail in (done, failed, again):
        flow.add(detail)
    connection.save_logbook(book)
    assert peer("read", settings) == found(connection)


class Counted(task.Task):
    """Says that it ran or was undone."""

    def __init__(self, name, log, **kwargs):
        super().__init__(name, **kwargs)
        self.log = log

    def execute(self, **kwargs):
        self.log.append(self.name)
        return {"size": 0}

    def revert(self, **kwargs):
        self.log.append(f"{self.name} undone")


def resume(connection, name: str, flow) -> str:
    """Run a flow of TaskFlow's to its end; returns its state then."""
    detail = connection.get_flow_details(f"flow-{name}")
    engine = engines.load(flow, flow_detail=detail, backend=connection.backend)
    engine.run()
    return connection.get_flow_details(f"flow-{name}").state


def test_what_taskflow_has_begun_is_ended_here(settings, connection):
    peer("write", settings)
    connection.upgrade()
    log: list[str] = []
    stopped = linear_flow.Flow("f").add(*(Counted(f"give-{n}", log, provides=f"n{n}") for n in range(5)))
    assert resume(connection, "stopped", stopped) == "SUCCESS"
    assert log
    assert set(log) < {f"give-{n}" for n in range(5)}  # those that were done are not done again
    log.clear()
    killed = linear_flow.Flow("f").add(
        Counted("give", log, provides="given"), Counted("take", log, requires=["given"]), Counted("die", log)
    )
    assert resume(connection, "killed", killed) == "SUCCESS"
    assert log == ["die"]
    log.clear()
    back = linear_flow.Flow("f").add(
        Counted("give", log, provides="given"), Counted("take", log), Counted("die-back", log), Counted("fail", log)
    )
    detail = connection.get_flow_details("flow-killed-back")
    engine = engines.load(back, flow_detail=detail, backend=connection.backend)
    with pytest.raises(exceptions.WrappedFailure) as raised:
        engine.run()
    assert raised.value.check(ValueError) is ValueError
    assert log == ["die-back undone", "take undone", "give undone"]
    assert connection.get_flow_details("flow-killed-back").state == "REVERTED"
    log.clear()
    again = linear_flow.Flow("f", retry=retry.Times(3, name="times")).add(Counted("twice", log))
    assert resume(connection, "retried", again) == "SUCCESS"
    assert log == []
