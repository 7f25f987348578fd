"""One run has one owner: what the second one is told, and that a stale one writes nothing, on each durable store."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time

import pytest

from taskflowx import engines, exceptions, states
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models, owners
from tests.contract.store.stores import STORES
from tests.support.flows import Calls

DURABLE = [store for store in STORES if not store.name.startswith(("memory", "sqlite-memory"))]


@pytest.fixture(params=DURABLE, ids=lambda store: store.name)
def settings(request, tmp_path):
    """Return the settings of a store that is ready."""
    lacks = request.param.lacks()
    if lacks:
        pytest.skip(lacks)
    found = request.param.settings(tmp_path)
    with backends.backend(found):
        pass
    return found


@pytest.fixture
def backend(settings):
    with contextlib.closing(backends.fetch(settings)) as made:
        yield made


def begun(backend):
    """Return the uuid of a record that is stored."""
    detail = models.FlowDetail("flow", "the-flow")
    book = models.LogBook("book", "the-book")
    book.add(detail)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
    return detail.uuid


def read(backend, uuid="the-flow"):
    with contextlib.closing(backend.get_connection()) as connection:
        return connection.get_flow_details(uuid)


def load(backend, *does, **options):
    """Return an engine that goes on from the record as it is now."""
    flow = linear_flow.Flow("flow").add(*(Calls(f"s{n}", one) for n, one in enumerate(does)))
    return engines.load(flow, flow_detail=read(backend), backend=backend, **options)


def test_who_comes_second_while_it_runs_is_told_so_and_the_first_goes_on(backend):
    begun(backend)
    told = []

    def come_second():
        with pytest.raises(exceptions.OwnershipFailure, match=f"is being run by another engine, process {os.getpid()}"):
            load(backend, lambda: told.append("ran twice")).run()
        told.append("refused")

    engine = load(backend, come_second, lambda: told.append("went on"))
    engine.run()
    assert told == ["refused", "went on"]
    assert read(backend).state == states.SUCCESS


def test_who_has_read_the_record_before_somebody_else_ran_it_is_told_so(backend):
    begun(backend)
    ran = []
    early = load(backend, lambda: ran.append("early"))
    load(backend, lambda: ran.append("late")).run()
    with pytest.raises(exceptions.OwnershipFailure, match=r"(?s)gone on since it was read here.*Read its record again"):
        early.run()
    assert ran == ["late"]
    load(backend, lambda: ran.append("again")).run()  # from a fresh record: there is nothing left to do
    assert ran == ["late"]


def test_a_stale_owner_that_wakes_up_writes_nothing(backend, monkeypatch):
    begun(backend)
    ran = []

    def be_taken_over():
        monkeypatch.setattr(owners, "is_gone", lambda owner: True)  # as another machine sees it when the lease is over
        load(backend, lambda: ran.append("new owner"), lambda: None).run()

    stale = load(backend, be_taken_over, lambda: ran.append("stale"))
    with pytest.raises(exceptions.OwnershipFailure, match="was taken over by another engine while it ran here"):
        stale.run()
    assert ran == ["new owner"]
    assert {one.name: one.state for one in read(backend)} == {"s0": states.SUCCESS, "s1": states.SUCCESS}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_run_of_a_process_that_is_gone_is_taken_over_at_once(settings, request):
    if "zookeeper" in request.node.name:
        pytest.skip("a client of kazoo's does not live through a fork; the crash tests kill it in fresh processes")
    with contextlib.closing(backends.fetch(settings)) as backend:
        begun(backend)
    pid = os.fork()
    if not pid:
        with contextlib.closing(backends.fetch(settings)) as backend:
            load(backend, lambda: os.kill(os.getpid(), signal.SIGKILL)).run()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with contextlib.closing(backends.fetch(settings)) as backend:
        assert read(backend).state == states.RUNNING
        load(backend, lambda: None).run()
        assert read(backend).state == states.SUCCESS


def test_a_lease_that_is_over_can_be_taken_over_and_one_that_is_renewed_cannot(backend):
    detail = read(backend, begun(backend))
    detail.state = states.RUNNING
    first, second = owners.Owner(lease=1.0), owners.Owner()
    first.running = second.running = True
    other = read(backend)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_changes(detail, [], first)
        other.revision = detail.revision
        connection.renew(detail.uuid, first, time.time() + 1000)
        connection.renew(detail.uuid, second, 0.0)  # which is not the owner
        with pytest.raises(exceptions.OwnershipFailure, match=r"for another (1000|999) s"):
            connection.save_changes(other, [], second)
        connection.renew(detail.uuid, first, time.time() - 1)
        other.state = states.RUNNING
        connection.save_changes(other, [], second)
        with pytest.raises(exceptions.OwnershipFailure):
            connection.save_changes(detail, [], first)


def test_a_value_is_not_put_into_a_run_that_somebody_else_runs(backend):
    begun(backend)

    def put():
        with pytest.raises(exceptions.OwnershipFailure):
            engines.load(linear_flow.Flow("flow"), {"late": 1}, flow_detail=read(backend), backend=backend)

    load(backend, put).run()
    assert read(backend).state == states.SUCCESS


def test_a_run_that_ends_in_an_error_of_its_own_is_let_go(backend):
    begun(backend)

    def stop():
        raise SystemExit

    with pytest.raises(SystemExit):
        load(backend, stop).run()
    load(backend, lambda: None).run()
    assert read(backend).state == states.SUCCESS


@pytest.mark.parametrize("before", [True, False])
def test_a_run_that_is_interrupted_as_it_becomes_its_owner_is_let_go(backend, monkeypatch, before):
    begun(backend)
    engine = load(backend, lambda: "done")
    took = owners.Owner.took

    def interrupted(owner, claim, detail):
        monkeypatch.undo()
        if not before:
            took(owner, claim, detail)
        raise KeyboardInterrupt

    monkeypatch.setattr(owners.Owner, "took", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    other = load(backend, lambda: "done")
    other.run()
    assert other.storage.get("s0") == "done"


def test_one_record_can_be_gone_on_with_by_one_engine_after_another(backend):
    begun(backend)
    detail = read(backend)
    for expected in ([1], [1, 2]):
        ran = []
        flow = linear_flow.Flow("flow").add(*(Calls(f"s{n}", functools.partial(ran.append, n)) for n in expected))
        engines.load(flow, flow_detail=detail, backend=backend).run()
        assert ran == expected[-1:]


def test_a_book_that_is_removed_takes_its_versions_along(backend):
    begun(backend)
    load(backend, lambda: None).run()
    with contextlib.closing(backend.get_connection()) as connection:
        assert connection.get_flow_details("the-flow").revision > 0
        assert next(connection.get_flows_for_book("the-book", lazy=True)).revision > 0
        assert next(iter(connection.get_logbook("the-book"))).revision > 0
        connection.destroy_logbook("the-book")
    assert read(backend, begun(backend)).revision == 0


def test_a_pulse_renews_what_is_held_and_outlives_a_store_that_fails():
    renewed = []
    owner = owners.Owner(lease=0.06)

    def renew(expires):
        renewed.append(expires)
        if len(renewed) == 1:
            raise exceptions.StorageFailure("down")
        ended.set()

    ended = threading.Event()
    heartbeat = owners.Heartbeat(owner, renew)
    owner.held = True
    heartbeat.start()
    assert ended.wait(10)
    heartbeat.stop()
    assert owner.expires >= renewed[1] > renewed[0]
