"""A ZooKeeper server takes what we say that it takes, and a request that it would not take is not sent."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
from kazoo.client import KazooClient

from taskflowx import exceptions
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import impl_zookeeper
from taskflowx.persistence.backends.impl_zookeeper import ZkBackend
from tests.services import addresses

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def save(connection, count):
    """Save a flow with some tasks; returns it."""
    flow = models.FlowDetail("flow", "f")
    for number in range(count):
        flow.add(models.TaskDetail(f"t{number}", f"t{number}"))
    book = models.LogBook("book", "b")
    book.add(flow)
    connection.save_logbook(book)
    return flow


def test_a_real_server_takes_what_we_say_that_it_takes():
    if reason := addresses.ZOOKEEPER.lacks():
        pytest.skip(reason)
    own = KazooClient(f"{addresses.ZOOKEEPER.host}:{addresses.ZOOKEEPER.port}")
    own.start()
    path = "/" + addresses.new_path().split("/", 3)[3]
    with contextlib.closing(ZkBackend({"path": path}, own)) as backend:
        connection = backend.get_connection()
        connection.upgrade()
        made = save(connection, 30)
        for detail in made:
            detail.results = "x" * 200_000  # together six times what one request may have
        connection.save_changes(made, made)
        assert {len(detail.results) for detail in connection.get_flow_details("f")} == {200_000}
        (large, *_) = made
        large.results = ""
        connection.update_atom_details(large)
        place = f"{connection.atom_path}/{large.uuid}"
        around = len(own.get(place)[0]) + len(place) + impl_zookeeper._OPERATION + 1024
        large.results = "x" * (backend.limit - around)
        connection.update_atom_details(large)
        large.results += "x"
        with pytest.raises(exceptions.StorageFailure, match="jute_maxbuffer"):
            connection.update_atom_details(large)
        assert len(connection.get_atom_details(large.uuid).results) == backend.limit - around
    assert own.connected
    own.stop()
    own.close()


FORK = """
import contextlib, os, sys
from taskflowx.persistence import backends
backend = backends.fetch(sys.argv[1])
with contextlib.closing(backend.get_connection()) as connection:
    flow = connection.get_flow_details("f")
a, b, c = flow
child = os.fork()
if not child and sys.argv[2] == "asks":
    with contextlib.closing(backend.get_connection()) as connection:
        b.results = "child"
        connection.save_changes(flow, [b])
backend.close() if not child else None
if child:
    assert os.waitpid(child, 0)[1] == 0
    with contextlib.closing(backend.get_connection()) as connection:
        a.results = "parent"
        connection.save_changes(flow, [a])
    backend.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("child", ["asks", "closes"])
def test_a_process_that_was_forked_has_a_client_of_its_own(child):
    if reason := addresses.ZOOKEEPER.lacks():
        pytest.skip(reason)
    path = addresses.new_path()
    with backends.backend(path) as backend, contextlib.closing(backend.get_connection()) as connection:
        save(connection, 3)
        # In an interpreter of its own, as what other tests have imported may warn of any fork.
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", FORK, path, child], check=True, timeout=50)
        assert time.monotonic() - begun < 9  # kazoo waits ten seconds for threads that are not there
        results = [detail.results for detail in connection.get_flow_details("f")]
        assert results == ["parent", "child" if child == "asks" else None, None]
