"""No write of a record undoes what somebody else has written of it since, on each store."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models, owners
from tests.contract.store.stores import STORES


@pytest.fixture(params=STORES, ids=lambda store: store.name)
def backend(request, tmp_path):
    """Give a store that has been made ready."""
    if reason := request.param.lacks():
        pytest.skip(reason)
    with backends.backend(request.param.settings(tmp_path)) as made:
        yield made


@pytest.fixture
def connection(backend):
    with contextlib.closing(backend.get_connection()) as made:
        yield made


@pytest.fixture
def versioned(backend, connection):
    """Give a connection to a store that keeps versions."""
    if not backend.durable:
        pytest.skip("memory holds the record of a run itself, of which there is no second copy")
    return connection


def made_flow(name, *tasks):
    flow = models.FlowDetail(name, name)
    for one in tasks:
        detail = models.TaskDetail(one, f"{name}-{one}")
        detail.put(states.SUCCESS, "old")
        flow.add(detail)
    return flow


def saved(connection, *names):
    """Save a book with flows with a task each; returns the book."""
    book = models.LogBook("book", "b")
    for name in names:
        book.add(made_flow(name, "t"))
    connection.save_logbook(book)
    return book


def move_on(connection, uuid, owner=None):
    """Let somebody else write a step of a run."""
    detail = connection.get_flow_details(uuid)
    owner = owner or owners.Owner()
    detail.state = states.RUNNING if owner.running else states.SUSPENDED
    for atom in detail:
        atom.results = "new"
    connection.save_changes(detail, list(detail), owner)
    return detail


def live():
    """Return an owner that runs something."""
    owner = owners.Owner()
    owner.running = True
    return owner


def results(connection, uuid):
    return [atom.results for atom in connection.get_flow_details(uuid)]


# -- adding a run to a book --------------------------------------------------------------------------------------------


def test_a_run_that_is_added_leaves_the_others_in_the_book_alone(versioned):
    book = saved(versioned, "f", "g")
    move_on(versioned, "f")
    added = made_flow("new", "t", "u")
    book.add(added)
    book.meta["why"] = "because"
    versioned.add_flow_details(book, added)
    read = versioned.get_logbook("b")
    assert [flow.name for flow in read] == ["f", "g", "new"]
    assert read.meta == {"why": "because"}
    assert [[atom.results for atom in flow] for flow in read] == [["new"], ["old"], ["old", "old"]]


def test_a_run_can_be_added_to_a_book_that_is_not_stored(connection):
    book, flow = models.LogBook("book", "b"), made_flow("f", "t")
    book.add(flow)
    connection.add_flow_details(book, flow)
    assert [(read.name, len(read)) for read in connection.get_logbook("b")] == [("f", 1)]


def test_a_run_is_added_once(connection):
    book = saved(connection, "f")
    other = models.LogBook("other", "o")
    again = made_flow("f")
    other.add(again)
    for where in (other, book):
        with pytest.raises(exceptions.Duplicate):
            connection.add_flow_details(where, again)
    assert results(connection, "f") == ["old"]
    assert [read.uuid for read in connection.get_logbooks()] == ["b"]


@pytest.mark.parametrize("shared", [True, False], ids=["one book object", "a copy each"])
def test_threads_add_runs_to_one_book_at_once(backend, connection, shared):
    book = models.LogBook("book", "b")
    problems, begin = [], threading.Barrier(4)

    def work(number):
        own = book if shared else models.LogBook("book", "b")
        try:
            with contextlib.closing(backend.get_connection()) as mine:
                begin.wait()
                for count in range(5):
                    flow = made_flow(f"{number}-{count}", "t")
                    own.add(flow)
                    mine.add_flow_details(own, flow)
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is a problem
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    expected = sorted(f"{number}-{count}" for number in range(4) for count in range(5))
    assert sorted(flow.name for flow in connection.get_logbook("b")) == expected
    if shared:
        assert sorted(flow.name for flow in book) == expected
        assert all(book.find(name).name == name for name in expected)


# -- saving a book -----------------------------------------------------------------------------------------------------


def test_a_run_that_has_gone_on_is_not_written_back_with_its_book(versioned, caplog):
    book = saved(versioned, "f", "g")
    move_on(versioned, "f")
    book.find("g").state = states.SUSPENDED
    book.add(made_flow("new", "t"))
    book.find("f").state = states.FAILURE
    with caplog.at_level(logging.WARNING):
        versioned.save_logbook(book)
    assert [(flow.name, flow.state) for flow in versioned.get_logbook("b")] == [
        ("f", states.SUSPENDED),
        ("g", states.SUSPENDED),
        ("new", None),
    ]
    assert results(versioned, "f") == ["new"]
    (warning,) = caplog.messages
    assert "'f'" in warning


def test_a_run_that_somebody_runs_is_not_written_over_with_its_book(versioned, caplog):
    saved(versioned, "f")
    owner = live()
    move_on(versioned, "f", owner)
    book = versioned.get_logbook("b")  # the latest version of it, but it is being run
    for atom in book.find("f"):
        atom.results = "mine"
    with caplog.at_level(logging.WARNING):
        versioned.save_logbook(book)
    assert results(versioned, "f") == ["new"]
    (warning,) = caplog.messages
    assert "'f'" in warning
    detail = versioned.get_flow_details("f")
    versioned.save_changes(detail, [], owner)  # the owner goes on


def test_a_saved_run_is_known_to_its_saver_and_to_nobody_else(versioned):
    book = saved(versioned, "f")
    other = versioned.get_flow_details("f")
    for turn in range(3):
        for atom in book.find("f"):
            atom.results = turn
        versioned.save_logbook(book)
        assert results(versioned, "f") == [turn]
    with pytest.raises(exceptions.OwnershipFailure):
        versioned.save_changes(other, [], owners.Owner())
    versioned.save_changes(book.find("f"), [], owners.Owner())


def test_a_book_that_is_saved_as_it_is_stored_touches_no_run(versioned, caplog):
    saved(versioned, "f", "g")
    owner = live()
    running = move_on(versioned, "g", owner)
    book, other = versioned.get_logbook("b"), versioned.get_flow_details("f")
    book.meta["new"] = 1
    with caplog.at_level(logging.WARNING):
        versioned.save_logbook(book)
    assert caplog.messages == []
    assert versioned.get_logbook("b", lazy=True).meta == {"new": 1}
    versioned.save_changes(other, [], owners.Owner())
    versioned.save_changes(running, [], owner)


def test_a_later_run_in_an_old_copy_of_a_book_does_not_undo_an_earlier_one(backend, connection):
    ran = []

    class Step(task.Task):
        def __init__(self, name, stop=lambda: None):
            super().__init__(name)
            self.stop = stop

        def execute(self):
            ran.append(self.name)
            self.stop()

    def suspend():
        first.suspend()

    book = models.LogBook("orders")
    first = engines.load(linear_flow.Flow("first").add(Step("a", suspend), Step("b")), book=book, backend=backend)
    first.run()
    uuid = first.storage.flow_uuid
    record = connection.get_flow_details(uuid)
    flow = linear_flow.Flow("first").add(Step("a"), Step("b"))
    engines.load(flow, flow_detail=record, backend=backend).run()  # by another worker
    engines.load(linear_flow.Flow("second").add(Step("x")), book=book, backend=backend).run()
    record = connection.get_flow_details(uuid)
    assert (record.state, [atom.state for atom in record]) == (states.SUCCESS, [states.SUCCESS] * 2)
    engines.load(flow, flow_detail=record, backend=backend).run()
    assert ran == ["a", "b", "x"]


# -- updating one record -----------------------------------------------------------------------------------------------


def test_a_flow_is_updated_from_its_latest_version_only(versioned):
    saved(versioned, "f")
    first, second = (versioned.get_flow_details("f") for _ in range(2))
    first.meta["by"] = "first"
    versioned.update_flow_details(first)
    second.meta["by"] = "second"
    for _ in range(2):
        with pytest.raises(exceptions.OwnershipFailure, match=r"'f'.*has gone on since it was read"):
            versioned.update_flow_details(second)
    assert versioned.get_flow_details("f").meta == {"by": "first"}
    first.meta["by"] = "first again"
    returned = versioned.update_flow_details(first)
    assert versioned.get_flow_details("f").meta == {"by": "first again"}
    versioned.save_changes(returned, [], owners.Owner())


def test_what_somebody_runs_is_not_updated(versioned):
    saved(versioned, "f")
    owner = live()
    running = move_on(versioned, "f", owner)
    latest = versioned.get_flow_details("f")
    (atom,) = latest
    atom.results, latest.meta["by"] = "mine", "me"
    for write in (lambda: versioned.update_flow_details(latest), lambda: versioned.update_atom_details(atom)):
        with pytest.raises(exceptions.OwnershipFailure, match=r"'f'.* is being run by another engine"):
            write()
    assert results(versioned, "f") == ["new"]
    running.state = states.SUSPENDED
    versioned.save_changes(running, [], owner)
    versioned.update_atom_details(atom)
    assert results(versioned, "f") == ["mine"]


def test_what_nobody_renews_may_be_updated(versioned):
    saved(versioned, "f")
    owner = live()
    move_on(versioned, "f", owner)
    versioned.renew("f", owner, time.time() - 1)
    latest = versioned.get_flow_details("f")
    (atom,) = latest
    atom.results = "mine"
    versioned.update_atom_details(atom)
    versioned.update_flow_details(latest)
    assert results(versioned, "f") == ["mine"]


def test_an_atom_that_is_updated_does_not_make_its_flow_stale(versioned):
    saved(versioned, "f")
    flow = versioned.get_flow_details("f")
    (atom,) = flow
    for turn in range(3):
        atom.results = turn
        versioned.update_atom_details(atom)
    versioned.save_changes(flow, [], owners.Owner())
    versioned.update_flow_details(flow)
    assert results(versioned, "f") == [2]


@pytest.mark.parametrize("seed", range(3))
def test_of_writers_in_any_order_each_that_knows_the_latest_version_wins(versioned, seed):
    """Three copies of a run are written in a random order: a copy is taken exactly if it is the latest."""
    order = random.Random(seed)
    saved(versioned, "f")
    copies = [versioned.get_flow_details("f") for _ in range(3)]
    latest = set(range(3))  # nobody has written yet, so each copy is
    value = "old"
    for turn in range(12):
        chosen = order.randrange(3)
        copy = copies[chosen]
        (atom,) = copy
        atom.results = turn
        if order.random() < 0.3:
            copies[chosen] = versioned.get_flow_details("f")
            latest.add(chosen)
            continue
        try:
            if order.random() < 0.5:
                versioned.update_flow_details(copy)
            else:
                versioned.save_changes(copy, [atom], owners.Owner())
        except exceptions.OwnershipFailure:
            assert chosen not in latest
        else:
            assert chosen in latest
            latest, value = {chosen}, turn
        assert results(versioned, "f") == [value]
