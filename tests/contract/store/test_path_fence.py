"""What stores of paths promise beside the contract: a run is added to a book for itself, and no copy goes back in time.

Memory, a folder and ZooKeeper keep records at paths; what is special to one of them is at the end.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import taskflowx
from taskflowx import engines, exceptions, states
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models, owners
from taskflowx.utils import persistence_utils
from tests.contract.store.stores import STORES
from tests.support.flows import Calls

PATHS = [store for store in STORES if store.name in ("memory", "memory-shallow", "dir", "zookeeper")]
DURABLE = [store for store in PATHS if store.name in ("dir", "zookeeper")]


def settings_of(store, tmp_path):
    if lacks := store.lacks():
        pytest.skip(lacks)
    return store.settings(tmp_path)


@pytest.fixture(params=PATHS, ids=lambda store: store.name)
def backend(request, tmp_path):
    with backends.backend(settings_of(request.param, tmp_path)) as made:
        yield made


@pytest.fixture(params=DURABLE, ids=lambda store: store.name)
def settings(request, tmp_path):
    return settings_of(request.param, tmp_path)


@pytest.fixture
def durable(settings):
    with backends.backend(settings) as made:
        yield made


@pytest.fixture
def connection(backend):
    with contextlib.closing(backend.get_connection()) as made:
        yield made


def flow(name, *atoms):
    made = models.FlowDetail(name, name)
    for atom in atoms:
        made.add(models.TaskDetail(atom, f"{name}-{atom}"))
    return made


def book(*flows):
    made = models.LogBook("book", "b")
    for each in flows:
        made.add(each)
    return made


class Asked:
    """Counts what a connection asks a driver for."""

    def __init__(self, connection):
        self.count = collections.Counter()
        for name in ("_get_item", "_set_item", "_get_children", "_create_link", "_ensure_path"):
            setattr(connection, name, self.counted(name, getattr(connection, name)))

    def counted(self, name, method):
        def call(*args, **kwargs):
            self.count[name] += 1
            return method(*args, **kwargs)

        return call


# -- one run is added to a book --------------------------------------------------------------------------------------


def test_a_run_is_added_to_a_book_of_any_size_in_the_same_steps(backend, connection):
    made = book()
    connection.save_logbook(made)
    asked = Asked(connection)
    steps = []
    for number in range(40):
        made.add(flow(f"f{number}", "a"))
        connection.add_flow_details(made, made.find(f"f{number}"))
        steps.append(dict(asked.count))
        asked.count.clear()
    assert steps[0] == steps[-1]
    assert steps[0].get("_get_children", 0) == 0
    with contextlib.closing(backend.get_connection()) as other:
        found = other.get_logbook("b")
    assert [each.name for each in found] == [f"f{number}" for number in range(40)]
    assert {len(each) for each in found} == {1}


def test_a_run_that_is_added_keeps_its_place_among_those_that_are_saved(connection):
    made = book(flow("first"), flow("second"))
    connection.save_logbook(made)
    made.add(flow("third"))
    connection.add_flow_details(made, made.find("third"))
    made.add(flow("fourth"))
    connection.save_logbook(made)
    connection.save_logbook(connection.get_logbook("b"))
    assert [each.name for each in connection.get_logbook("b")] == ["first", "second", "third", "fourth"]


def test_a_run_that_is_stored_already_is_not_added(connection):
    made = book(flow("f", "a"))
    connection.add_flow_details(made, made.find("f"))  # with its book
    with pytest.raises(exceptions.Duplicate):
        connection.add_flow_details(made, made.find("f"))
    with pytest.raises(exceptions.Duplicate):
        connection.add_flow_details(models.LogBook("other", "o"), made.find("f"))
    taken = models.FlowDetail("new", "new")
    taken.add(models.TaskDetail("a", "f-a"))
    with pytest.raises(exceptions.Duplicate):
        connection.add_flow_details(made, taken)
    assert [each.name for each in connection.get_logbook("b")] == ["f"]
    assert [each.uuid for each in connection.get_logbooks()] == ["b"]


def test_threads_add_to_one_book_that_is_not_there_yet(backend, connection):
    problems, start = [], threading.Barrier(4)

    def add(thread):
        try:
            mine = book()
            start.wait(10)
            for number in range(10):
                persistence_utils.create_flow_detail(linear_flow.Flow(f"{thread}-{number}"), mine, backend)
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is a problem
            problems.append(error)

    threads = [threading.Thread(target=add, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(each.name for each in connection.get_logbook("b")) == sorted(
        f"{thread}-{number}" for thread in range(4) for number in range(10)
    )


ADDER = """
import sys
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.utils import persistence_utils
with backends.backend(eval(sys.argv[1])) as backend:
    sys.stdin.readline()
    book = models.LogBook("book", "b")
    for number in range(10):
        persistence_utils.create_flow_detail(linear_flow.Flow(f"{sys.argv[2]}-{number}"), book, backend)
"""


def test_processes_add_to_one_book_that_is_not_there_yet(durable, settings):
    command = [sys.executable, "-c", ADDER, repr(settings)]
    adders = [subprocess.Popen([*command, name], stdin=subprocess.PIPE) for name in "ab"]
    for adder in adders:
        adder.stdin.write(b"\n")
        adder.stdin.flush()
    for adder in adders:
        adder.communicate()
        assert adder.returncode == 0
    with contextlib.closing(durable.get_connection()) as connection:
        assert len(connection.get_logbook("b")) == 20


# -- a copy does not go back in time ---------------------------------------------------------------------------------


def load(backend, detail, *does):
    flow = linear_flow.Flow(detail.name).add(*(Calls(f"s{n}", one) for n, one in enumerate(does)))
    return engines.load(flow, flow_detail=detail, backend=backend)


def said(connection, name="f"):
    found = connection.get_flow_details(name)
    return found.state, {each.name: each.state for each in found}


def test_a_book_that_was_read_before_a_run_leaves_that_run_and_saves_the_rest(backend, connection, caplog):
    mine = book(flow("f"), flow("other"))
    connection.save_logbook(mine)
    stale = connection.get_logbook("b")
    load(backend, mine.find("f"), lambda: 1, lambda: 2).run()
    ended = said(connection)
    stale.meta, stale.find("f").state, stale.find("other").meta = {"m": 1}, states.SUSPENDED, {"m": 2}
    stale.add(flow("new"))
    caplog.set_level(logging.WARNING)
    connection.save_logbook(stale)
    assert said(connection) == ended
    assert "'f' (f) has gone on since it was read here" in caplog.text
    assert "other" not in caplog.text
    found = connection.get_logbook("b")
    assert (found.meta, [each.name for each in found]) == ({"m": 1}, ["f", "other", "new"])
    assert found.find("other").meta == {"m": 2}


def test_a_copy_of_a_run_that_goes_on_is_refused_and_a_fresh_one_is_not(backend, connection):
    mine = book(flow("f"))
    connection.save_logbook(mine)
    stale = connection.get_flow_details("f")
    load(backend, mine.find("f"), lambda: 1).run()
    for copied in (stale, stale.copy(), copy.deepcopy(stale)):
        copied.meta["m"] = 1
        with pytest.raises(exceptions.OwnershipFailure, match="has gone on since it was read here"):
            connection.update_flow_details(copied)
    fresh, late = connection.get_flow_details("f"), connection.get_flow_details("f")
    fresh.meta["m"] = 2
    assert connection.update_flow_details(fresh).revision == fresh.revision
    fresh.meta["m"] = 3
    connection.update_flow_details(fresh)
    with pytest.raises(exceptions.OwnershipFailure):
        connection.update_flow_details(late)
    assert connection.get_flow_details("f").meta == {"m": 3}


def test_what_changed_nothing_says_nothing(backend, connection, caplog):
    mine = book(flow("f", "a"))
    connection.save_logbook(mine)
    stale = connection.get_logbook("b")
    if backend.durable:
        connection.save_logbook(mine)
        assert mine.find("f").revision == 0
    connection.update_flow_details(mine.find("f"))
    caplog.set_level(logging.WARNING)
    if backend.durable:
        connection.save_logbook(stale)
    assert caplog.text == ""


def test_while_a_run_is_under_way_nobody_writes_into_it(durable, caplog):
    with contextlib.closing(durable.get_connection()) as connection:
        mine = book(flow("f"))
        connection.save_logbook(mine)
        done = []

        def meddle():
            found = connection.get_logbook("b")
            (run,) = found
            run.meta["m"] = 1
            connection.save_logbook(found)
            with pytest.raises(
                exceptions.OwnershipFailure, match=f"being run by another engine, process {os.getpid()}"
            ):
                connection.update_flow_details(run)
            atom = next(iter(run))
            atom.meta["m"] = 1
            with pytest.raises(exceptions.OwnershipFailure, match=r"The flow 'f' of atom 's0' is being run by another"):
                connection.update_atom_details(atom)
            done.append(atom)

        caplog.set_level(logging.WARNING)
        load(durable, mine.find("f"), meddle).run()
        assert "'f' (f) is being run by another engine" in caplog.text
        assert said(connection) == (states.SUCCESS, {"s0": states.SUCCESS})
        assert connection.get_flow_details("f").meta == {}
        (atom,) = done
        version = connection.get_flow_details("f").revision
        connection.update_atom_details(atom)
        assert connection.get_atom_details(atom.uuid).meta == {"m": 1}
        assert connection.get_flow_details("f").revision == version  # an atom for itself is no new version


def test_a_write_whose_answer_was_lost_is_known_as_its_writers_own(durable, monkeypatch):
    with contextlib.closing(durable.get_connection()) as connection:
        mine = book(flow("f"), flow("g"))
        connection.save_logbook(mine)
        stale = copy.deepcopy(mine)
        for run in mine:
            run.meta["m"] = 1
        with monkeypatch.context() as patch:
            patch.setattr(owners.Owner, "took", lambda *given: (_ for _ in ()).throw(exceptions.StorageFailure("lost")))
            with pytest.raises(exceptions.StorageFailure, match="lost"):
                connection.save_logbook(mine)
        for run in mine:
            run.meta["m"] = 2
        connection.save_logbook(mine)
        connection.update_flow_details(mine.find("f"))
        assert {run.meta["m"] for run in connection.get_logbook("b")} == {2}
        with pytest.raises(exceptions.OwnershipFailure):
            connection.update_flow_details(stale.find("f"))


# -- memory ----------------------------------------------------------------------------------------------------------


def test_a_run_that_begins_while_it_is_removed_for_the_first_time_stays(tmp_path, monkeypatch):
    (store,) = (one for one in PATHS if one.name == "zookeeper")  # a folder has it locked meanwhile
    with (
        backends.backend(settings_of(store, tmp_path)) as backend,
        contextlib.closing(backend.get_connection()) as connection,
        taskflowx.load(linear_flow.Flow("f").add(Calls("a")), backend=backend, run_id="r") as engine,
    ):
        uuid = engine.storage.flow_uuid
        assert connection.get_claim(uuid) is None
        run, remove = engine.run_iter(), connection._remove_flow

        def late(*given):
            if connection.get_claim(uuid) is None:
                while next(run) != states.SCHEDULING:
                    pass
            remove(*given)

        monkeypatch.setattr(connection, "_remove_flow", late)
        assert connection.destroy_flows([uuid]) == []
        assert list(run)[-1] == states.SUCCESS
        assert connection.destroy_flows([uuid]) == [uuid]


def test_in_memory_a_copy_that_was_read_in_the_middle_of_a_run_is_stale_at_its_end(caplog):
    with backends.backend("memory") as backend, contextlib.closing(backend.get_connection()) as connection:
        mine, read = book(flow("f")), []
        connection.save_logbook(mine)
        value = object()

        def look():
            read.append(connection.get_logbook("b"))
            return value

        load(backend, mine.find("f"), look, lambda: 2).run()
        (stale,) = read
        caplog.set_level(logging.WARNING)
        connection.save_logbook(stale)
        assert "has gone on since it was read here" in caplog.text
        connection.save_logbook(mine)  # what is kept itself
        assert said(connection) == (states.SUCCESS, {"s0": states.SUCCESS, "s1": states.SUCCESS})
        assert next(iter(mine.find("f"))).results is value


# -- owners ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there the state of a process is seen")
def test_a_process_that_has_ended_is_dead_before_its_parent_asks():
    program = "from taskflowx.persistence import owners; print(owners.Owner().name, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    name = child.stdout.readline().strip()
    assert not owners.is_gone(name)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owners.is_gone(name)
    child.communicate()
    assert owners.is_gone(name)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "[1]", "{", "null", "3", '"x"', '{"version": 1}', "[" * 100_000),
        '{"version": NaN, "owner": null, "expires": 0}',
        '{"version": -1, "owner": null, "expires": 0}',
        '{"version": true, "owner": null, "expires": 0}',
        '{"version": "1", "owner": null, "expires": 0}',
        '{"version": 1, "owner": 3, "expires": 0}',
        '{"version": 1, "owner": null, "expires": null}',
        '{"version": 1, "owner": null, "expires": Infinity}',
        '{"version": 1, "owner": null, "expires": 0, "more": 1}',
        '{"version": 1%s, "owner": null, "expires": 0}' % ("0" * 5000),
        b"\xff\xfe",
    ],
    ids=lambda text: str(text)[:30],
)
def test_a_claim_is_what_it_has_to_be(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whoever reads it names it
        owners.Claim.from_json(text)
    made = owners.Claim(3, "me", time.time())
    assert owners.Claim.from_json(made.to_json()) == made


def test_any_number_of_answers_may_be_lost_to_one_writer():
    detail, owner = models.FlowDetail("flow", "f"), owners.Owner()
    owner.running = True
    stored = None
    for lost in range(4):
        stored = owner.checked(stored, detail, time.time())  # it arrives, and nobody says so
        assert (owners.count_of(stored.version), stored.owner) == (lost + 1, owner.name)
    with pytest.raises(exceptions.OwnershipFailure, match="has gone on since"):
        owners.Owner().checked(stored._replace(expires=0.0), detail, time.time())
