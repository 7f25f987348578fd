"""A ZooKeeper server stops for a moment or for good, or expires what it has with its client, while a run is under way.

The server is one of the test's own.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taskflowx import engines, exceptions, states
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from tests.services import addresses
from tests.support import drivers
from tests.support.flows import Notes
from tests.support.frozen import freeze

JAR = Path("/usr/share/java/zookeeper.jar")


class Server:
    """A server of ZooKeeper that keeps its data when it is stopped."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        (folder / "zoo.cfg").write_text(
            f"dataDir={folder / 'data'}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "tickTime=500\nadmin.enableServer=false\nforceSync=no\n4lw.commands.whitelist=srvr\n"
        )
        self.process = None

    def start(self):
        command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dzookeeper.forceSync=no"]
        command += ["-cp", f"/etc/zookeeper/conf:{JAR}", "org.apache.zookeeper.server.ZooKeeperServerMain"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.folder / "zoo.cfg")], stdout=log, stderr=log)
        ends = time.monotonic() + 40
        while not _answers(self.port):
            assert time.monotonic() < ends, (self.folder / "log").read_text()[-2000:]
            threading.Event().wait(0.05)  # nobody tells when a foreign server is there

    def stop(self):
        if self.process is not None:
            self.process.kill()  # also when it is frozen
            self.process.wait()
            self.process = None


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as asking:
        asking.sendall(b"srvr")
        return b"Mode:" in asking.makefile("rb").read()
    return False


@pytest.fixture
def server(tmp_path, caplog):
    if not JAR.exists() or shutil.which("java") is None or (reason := addresses.ZOOKEEPER.lacks()):
        pytest.skip(f"no server of ZooKeeper can be started here: {reason if JAR.exists() else JAR}")
    caplog.set_level(logging.CRITICAL, "kazoo")
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def backend(server):
    with backends.backend({"connection": f"zookeeper://127.0.0.1:{server.port}/runs", "timeout": 10}) as made:
        yield made


def load(backend, did, does, **options):
    steps = [Notes("a", did), Notes("b", did, does), Notes("c", did)]
    return engines.load(linear_flow.Flow("f").add(*steps), book=models.LogBook("b"), backend=backend, **options)


def read(backend, engine):
    with contextlib.closing(backend.get_connection()) as connection:
        found = connection.get_flow_details(engine.storage.flow_uuid)
    return found.state, {each.name: each.results for each in found}


DONE = (states.SUCCESS, {name: name for name in "abc"})


def test_a_run_goes_on_when_the_server_is_back(server, backend):
    did = []

    starts = threading.Timer(1.0, server.start)

    def restart():
        server.stop()
        starts.start()

    engine = load(backend, did, restart)
    engine.run()
    starts.join()  # it looks until the server answers, which ends with this test
    assert did == ["a", "b", "c"]
    assert read(backend, engine) == DONE


def test_a_run_ends_in_its_time_when_the_server_is_not_back_and_goes_on_when_it_is(server, backend):
    did = []
    engine = load(backend, did, server.stop, commit_timeout=2)
    began = time.monotonic()
    with pytest.raises(exceptions.StorageFailure):
        engine.run()
    assert time.monotonic() - began < 20
    assert did == ["a", "b"]
    began = time.monotonic()
    with pytest.raises(exceptions.StorageFailure):
        load(backend, did, lambda: None)
    with pytest.raises(exceptions.StorageFailure), contextlib.closing(backend.get_connection()) as connection:
        connection.validate()
    assert time.monotonic() - began < 20
    server.start()
    engine.run()
    assert did == ["a", "b", "c"]
    assert read(backend, engine) == DONE


def test_a_server_that_is_frozen_is_waited_for_only_so_long_and_what_it_does_late_is_known(server, backend):
    did = []
    engine = load(backend, did, lambda: freeze(server.process.pid), commit_timeout=2)
    began = time.monotonic()
    with pytest.raises(exceptions.StorageFailure):
        engine.run()
    assert time.monotonic() - began < 20
    assert did == ["a", "b"]
    server.process.send_signal(signal.SIGCONT)
    engine.run()  # the server may or may not have done what it was sent
    assert did == ["a", "b", "c"]
    assert read(backend, engine) == DONE


def test_a_run_goes_on_when_its_session_has_expired(backend):
    from kazoo.client import KazooClient

    did = []

    def expire():
        mine = drivers.client_of(backend)
        (host, port), *_ = mine.hosts
        other = KazooClient(f"{host}:{port}", client_id=mine.client_id)
        other.start()
        other.stop()  # the server drops both
        other.close()

    engine = load(backend, did, expire)
    engine.run()
    assert did == ["a", "b", "c"]
    assert read(backend, engine) == DONE


def test_a_client_that_is_connecting_is_not_started_again(server, backend, monkeypatch):
    monkeypatch.setattr(
        type(drivers.client_of(backend)), "start", lambda *given, **named: pytest.fail("it was started")
    )
    server.stop()
    for _ in range(3):
        backend.get_connection().close()
    server.start()
    with contextlib.closing(backend.get_connection()) as connection:
        for _ in range(6):  # a client that meets a server which has just been started may wait for its answer for long
            with contextlib.suppress(exceptions.StorageFailure):
                connection.validate()
                break
        assert list(connection.get_logbooks()) == []


def test_nothing_is_asked_while_python_ends_as_no_thread_would_answer(backend, monkeypatch):
    backend.close()
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    with pytest.raises(exceptions.StorageFailure, match="while Python ends") as caught:
        backend.get_connection()
    assert not caught.value.may_pass


def test_a_store_that_was_closed_can_be_used_again(backend):
    backend.close()
    with contextlib.closing(backend.get_connection()) as connection:
        connection.validate()
        assert list(connection.get_logbooks()) == []


def test_nodes_are_for_those_who_have_the_credentials(server):
    address = f"127.0.0.1:{server.port}/secret"
    with backends.backend(f"zookeeper://me:word@{address}?default_acl=creator") as mine:
        engine = load(mine, [], lambda: None)
        engine.run()
        assert read(mine, engine) == DONE
        for other in (f"zookeeper://{address}", f"zookeeper://me:other@{address}"):
            with (
                contextlib.closing(backends.fetch(other)) as backend,
                pytest.raises(exceptions.StorageFailure, match="NoAuthError"),
            ):
                read(backend, engine)
