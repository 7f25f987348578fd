"""One contract for every store of runs: what is kept, what is refused, and what others see of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import math
import random
import threading

import pytest

from taskflowx import engines, exceptions, retry, task as atoms
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, base, codec, models
from taskflowx.types.failure import Failure
from tests.contract.store.stores import STORES


@pytest.fixture(params=STORES, ids=lambda store: store.name)
def store(request):
    """Give what is known of a store."""
    if reason := request.param.lacks():
        pytest.skip(reason)
    return request.param


@pytest.fixture
def settings(store, tmp_path):
    """Give the settings of a store that is new."""
    return store.settings(tmp_path)


@pytest.fixture
def backend(settings):
    """Give a store that is new, and has not been made ready."""
    with contextlib.closing(backends.fetch(settings)) as made:
        yield made


@pytest.fixture
def connection(backend):
    """Give a connection to a new store that has been made ready."""
    with contextlib.closing(backend.get_connection()) as made:
        made.upgrade()
        yield made


def caught(error):
    """Give the failure of an error that has been raised, with a traceback."""
    try:
        raise error
    except Exception:  # noqa: BLE001 - any may be given
        return Failure()


def chained():
    """Give a failure with two causes."""
    try:
        try:
            try:
                raise ValueError("first", 1)
            except ValueError as error:
                raise KeyError("second") from error
        except KeyError as error:
            raise RuntimeError("thïrd") from error
    except RuntimeError:
        return Failure()


def task(name, uuid=None, result=None):
    made = models.TaskDetail(name, uuid)
    made.put("SUCCESS", result)
    return made


def flow(name, uuid=None, *details):
    made = models.FlowDetail(name, uuid or models.make_uuid())
    for detail in details:
        made.add(detail)
    return made


def book(name, uuid=None, *details):
    made = models.LogBook(name, uuid)
    for detail in details:
        made.add(detail)
    return made


def saved(connection, *details):
    """Save a flow with some atoms in a book; returns the flow."""
    made = flow("flow", "f", *details)
    connection.save_logbook(book("book", "b", made))
    return made


def told(detail):
    """Give all that a detail or a book says, in the form in which JSON has it."""
    if isinstance(detail, models.LogBook):
        data = detail.to_dict(marshal_time=True) | {"flows": [told(each) for each in detail]}
    elif isinstance(detail, models.FlowDetail):
        data = detail.to_dict() | {"atoms": [told(each) for each in detail]}
    else:
        data = detail.to_dict() | {"kind": models.atom_detail_type(detail)}
        data["version"] = list(data["version"]) if isinstance(data["version"], tuple) else data["version"]
    return codec.loads(codec.dumps(data, "what is compared"))


def everything(connection):
    """Give all that a store holds."""
    return sorted((told(each) for each in connection.get_logbooks()), key=lambda data: data["uuid"])


def full_book():
    """Make a book in which everything that can be said is said."""
    done = task("done", "t1", {"plain": [1, 2.5, True, None, "ü"], "nested": {"a": {"b": []}}})
    done.meta = {"progress": 0.5, "progress_details": {"at_progress": 0.5, "details": {"x": 1}}}
    done.version = "1.0"
    failed = models.TaskDetail("failed", "t2")
    failed.put("FAILURE", chained())
    failed.put("REVERT_FAILURE", caught(OSError(2, "no such thing")))
    failed.intention = "REVERT"
    undone = task("undone", "t3", "result")
    undone.put("REVERTED", ["reverted"])
    again = models.RetryDetail("again", "r1")
    for value, failures in ((1, {"a": chained(), "b": caught(ValueError("v"))}), ({"v": 2}, {})):
        again.put("SUCCESS", value)
        again.last_failures.update(failures)
    again.put("FAILURE", caught(ZeroDivisionError()))
    again.intention = "RETRY"
    made_flow = flow("flow", "f1", again, done, failed, undone)
    made_flow.state, made_flow.meta = "RUNNING", {"factory": {"name": "m.f", "args": [1], "kwargs": {"k": "v"}}}
    made = book("book", "b1", made_flow, flow("empty", "f2"))
    made.meta = {"why": ["because"]}
    made.created_at = dt.datetime(2020, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 - books hold naive times in UTC
    return made


# -- a store as a whole ----------------------------------------------------------------------------------------------


def test_a_run_may_have_no_metadata(backend, connection):
    book, detail = models.LogBook("b"), models.FlowDetail("f", models.make_uuid())
    book.meta = detail.meta = None
    book.add(detail)
    connection.save_logbook(book)
    [read] = connection.get_logbook(book.uuid)
    read.meta = None
    task = atoms.FunctorTask(lambda: 1, name="t", provides="x")
    engine = engines.load(linear_flow.Flow("f").add(task), flow_detail=read, backend=backend)
    engine.run()
    kept = connection.get_flow_details(detail.uuid)
    assert (kept.meta, kept.state, engine.storage.fetch_all()) == ({}, "SUCCESS", {"x": 1})


def test_a_new_store_can_be_used_when_it_has_been_upgraded(store, backend):
    with contextlib.closing(backend.get_connection()) as connection:
        if not store.is_ready:
            with pytest.raises(exceptions.StorageFailure):
                connection.validate()
        connection.upgrade()
        connection.validate()
        assert list(connection.get_logbooks()) == []


def test_an_upgrade_leaves_what_is_stored(connection):
    connection.save_logbook(full_book())
    before = everything(connection)
    connection.upgrade()
    connection.validate()
    assert everything(connection) == before
    assert len(before) == 1


def test_connections_know_their_store(backend):
    assert isinstance(backend, base.Backend)
    with contextlib.closing(backend.get_connection()) as connection:
        assert isinstance(connection, base.Connection)
        assert connection.backend is backend
    connection.close()


def test_after_everything_is_removed_the_store_can_be_used(connection):
    connection.save_logbook(full_book())
    connection.clear_all()
    assert everything(connection) == []
    for read in (connection.get_logbook, connection.get_flow_details, connection.get_atom_details):
        for uuid in ("b1", "f1", "t1"):
            with pytest.raises(exceptions.NotFound):
                read(uuid)
    connection.validate()
    connection.save_logbook(full_book())
    assert everything(connection) == [told(connection.get_logbook("b1"))]
    assert len(connection.get_flow_details("f1")) == 4


def test_what_is_not_there_is_not_found(connection):
    saved(connection, task("t", "t"))
    for miss in (
        lambda: connection.get_logbook("x"),
        lambda: connection.get_logbook("x", lazy=True),
        lambda: connection.get_flow_details("x"),
        lambda: connection.get_flow_details("x", lazy=True),
        lambda: connection.get_atom_details("x"),
        lambda: list(connection.get_flows_for_book("x")),
        lambda: list(connection.get_flows_for_book("x", lazy=True)),
        lambda: list(connection.get_atoms_for_flow("x")),
        lambda: connection.destroy_logbook("x"),
        lambda: connection.update_flow_details(flow("flow", "x", task("t", "y"))),
        lambda: connection.update_atom_details(models.TaskDetail("t", "x")),
        lambda: connection.update_atom_details(models.RetryDetail("t", "x")),
        lambda: connection.save_changes(flow("flow", "x", task("t", "y")), []),
        # An identity of one kind is none of another.
        lambda: connection.get_logbook("f"),
        lambda: connection.get_flow_details("t"),
        lambda: connection.get_atom_details("b"),
    ):
        with pytest.raises(exceptions.NotFound):
            miss()
    with pytest.raises(exceptions.NotFound):
        connection.get_atom_details("y")
    assert len(everything(connection)) == 1


@pytest.mark.parametrize("uuid", ["..", ".", "../books/b", "b/f", "", "b\0"])
def test_an_identity_leads_nowhere_else(connection, uuid):
    saved(connection, task("t", "t"))
    before = everything(connection)
    for read in (
        connection.get_logbook,
        connection.get_flow_details,
        connection.get_atom_details,
        connection.destroy_logbook,
    ):
        with pytest.raises((exceptions.NotFound, exceptions.StorageFailure)):
            read(uuid)
    assert everything(connection) == before


# -- reading what was stored -----------------------------------------------------------------------------------------


def test_everything_that_was_stored_is_read(connection):
    given = full_book()
    connection.save_logbook(given)
    read = connection.get_logbook("b1")
    assert told(read) | {"updated_at": 0} == told(given) | {"updated_at": 0}
    assert read is not given
    assert all(type(mine) is type(theirs) for mine, theirs in zip(*map(list, (*given, *read)), strict=False))
    assert told(connection.get_flow_details("f1")) == told(given.find("f1"))
    for detail in given.find("f1"):
        assert told(connection.get_atom_details(detail.uuid)) == told(detail)
    assert [told(each) for each in connection.get_flows_for_book("b1")] == [told(each) for each in given]
    assert [told(each) for each in connection.get_atoms_for_flow("f1")] == [told(each) for each in given.find("f1")]
    assert [told(each) for each in connection.get_logbooks()] == [told(read)]


def test_to_read_a_book_does_not_update_it(connection):
    connection.save_logbook(full_book())
    times = [(read.created_at, read.updated_at) for read in (connection.get_logbook("b1") for _ in range(2))]
    assert times[0] == times[1]
    assert times[0][0] == dt.datetime(2020, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 - as above


def test_lazy_reading_leaves_out_what_is_below(connection):
    given = full_book()
    connection.save_logbook(given)
    read = connection.get_logbook("b1", lazy=True)
    assert (read.name, read.uuid, read.meta, len(read)) == ("book", "b1", given.meta, 0)
    read = connection.get_flow_details("f1", lazy=True)
    assert (read.name, read.uuid, read.state, len(read)) == ("flow", "f1", "RUNNING", 0)
    assert [len(each) for each in connection.get_logbooks(lazy=True)] == [0]
    assert [len(each) for each in connection.get_flows_for_book("b1", lazy=True)] == [0, 0]
    assert [len(each) for each in connection.get_flows_for_book("b1")] == [4, 0]


def test_what_was_read_lazily_and_is_written_takes_nothing_away(connection):
    connection.save_logbook(full_book())
    before = everything(connection)
    connection.save_logbook(connection.get_logbook("b1", lazy=True))
    connection.update_flow_details(connection.get_flow_details("f1", lazy=True))
    after = everything(connection)
    assert [data | {"updated_at": 0} for data in after] == [data | {"updated_at": 0} for data in before]


@pytest.mark.parametrize("seed", range(3))
def test_flows_and_atoms_keep_their_order(connection, seed):
    names = [f"{n:02}" for n in range(30)]
    random.Random(seed).shuffle(names)
    flows = [flow(name, name, *(task(f"{name}-{other}", f"{name}-{other}") for other in names[:3])) for name in names]
    made = book("book", "b", *flows[:20])
    connection.save_logbook(made)
    for each in flows[20:]:
        made.add(each)
    connection.save_logbook(made)
    assert [each.name for each in connection.get_logbook("b")] == names
    grown = flows[0]
    for other in names[3:10]:
        grown.add(task(other, other))
    connection.update_flow_details(grown)
    for other in names[10:20]:
        grown.add(task(other, other))
    connection.save_changes(grown, [detail for detail in grown if detail.name in names[10:20]])
    connection.update_atom_details(next(iter(grown)))
    expected = [*(f"{names[0]}-{other}" for other in names[:3]), *names[3:20]]
    assert [each.name for each in connection.get_flow_details(names[0])] == expected
    assert [each.name for each in connection.get_atoms_for_flow(names[0])] == expected


def test_failures_come_back_with_their_causes(connection):
    failure = chained()
    detail = models.TaskDetail("t", "t")
    detail.put("FAILURE", failure)
    detail.revert_failure = failure.causes[0]
    saved(connection, detail)
    read = connection.get_atom_details("t")
    assert read.failure.matches(failure)
    assert [cause.exception_str for cause in read.failure.causes] == ["'second'", "('first', 1)"]
    assert read.failure.check(RuntimeError) is RuntimeError
    assert "thïrd" in read.failure.traceback_str
    assert read.revert_failure.matches(failure.causes[0])


def test_the_history_of_a_retry_comes_back(connection):
    failures = {"a": chained(), "ü": caught(ValueError("v"))}
    detail = models.RetryDetail("r", "r")
    detail.put("SUCCESS", [1, {"x": 2}])
    detail.last_failures.update(failures)
    detail.put("SUCCESS", None)
    saved(connection, detail)
    read = connection.get_atom_details("r")
    assert isinstance(read, models.RetryDetail)
    first, second = read.results
    assert first[0] == [1, {"x": 2}]
    assert list(first[1]) == ["a", "ü"]
    assert all(first[1][name].matches(failure) for name, failure in failures.items())
    assert tuple(second) == (None, {})
    read.put("SUCCESS", 3)  # a history that was read goes on
    read.last_failures["a"] = failures["a"]
    connection.update_atom_details(read)
    assert [value for value, _ in connection.get_atom_details("r").results] == [[1, {"x": 2}], None, 3]


NAMES = ["ü ñ 漢字 🎈", "a;b,c:d/e\\f", "with 'quotes' and \"more\"", " ", "%s {} $x", "x" * 200, "line\nbreak"]


@pytest.mark.parametrize("name", NAMES)
def test_names_may_be_any(connection, name):
    detail = task(name, "t", {name: name})
    detail.meta = {name: name}
    made = flow(name, "f", detail)
    made.meta = {name: name}
    connection.save_logbook(book(name, "b", made))
    read = connection.get_logbook("b")
    (read_flow,) = read
    (read_task,) = read_flow
    assert [read.name, read_flow.name, read_task.name] == [name] * 3
    assert [read_flow.meta, read_task.meta, read_task.results] == [{name: name}] * 3
    read_task.put("SUCCESS", name)
    connection.update_atom_details(read_task)
    assert connection.get_atom_details("t").results == name


VALUES = [
    None,
    False,
    0,
    "",
    [],
    {},
    2**70,
    -1e300,
    0.1,
    "\u0001 \x7f ü 漢 🎈",
    [[[[]]]],
    {"": {"": None}},
    {"1": 1, "None": None},
    "x" * 100_000,
    [{"k": n} for n in range(1000)],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_plain_value_comes_back_equal(connection, value):
    detail = task("t", "t", value)
    detail.put("REVERTED", value)
    detail.meta = {"value": value}
    saved(connection, detail)
    read = connection.get_atom_details("t")
    for got in (read.results, read.revert_results, read.meta["value"]):
        assert got == value
        assert type(got) is type(value)


def test_numbers_that_are_none_come_back(connection):
    saved(connection, task("t", "t", [math.nan, math.inf, -math.inf]))
    nan, more, less = connection.get_atom_details("t").results
    assert math.isnan(nan)
    assert (more, less) == (math.inf, -math.inf)


# -- writing ---------------------------------------------------------------------------------------------------------


def test_to_save_a_book_again_adds_nothing_twice(connection):
    given = full_book()
    connection.save_logbook(given)
    once = everything(connection)
    connection.save_logbook(given)
    connection.save_logbook(connection.get_logbook("b1"))
    twice = everything(connection)
    assert [data | {"updated_at": 0} for data in twice] == [data | {"updated_at": 0} for data in once]


def test_a_saved_book_is_merged_into_the_stored_one(connection):
    connection.save_logbook(full_book())
    other = book("other name", "b1", flow("another name", "f1", task("new", "t9", 9)), flow("new", "f3"))
    other.meta = {"new": 1}
    other.find("f1").state = "SUCCESS"
    connection.save_logbook(other)
    read = connection.get_logbook("b1")
    assert (read.name, read.meta) == ("book", {"new": 1})
    assert [each.name for each in read] == ["flow", "empty", "new"]
    assert (read.find("f1").state, read.find("f1").meta) == ("SUCCESS", {})
    assert sorted(each.name for each in read.find("f1")) == sorted(["again", "done", "failed", "undone", "new"])
    assert connection.get_atom_details("t9").results == 9


def test_the_detail_of_an_atom_is_replaced_but_for_its_name(connection):
    (given, *_) = saved(connection, task("t", "t", [1]), task("other", "o", 1))
    given.meta = {"old": 1}
    connection.update_atom_details(given)
    other = models.TaskDetail("another name", "t")
    other.put("FAILURE", caught(ValueError("v")))
    other.meta, other.version, other.intention = {"new": 2}, "1.1", "REVERT"
    returned = connection.update_atom_details(other)
    read = connection.get_atom_details("t")
    assert told(read) == told(other) | {"name": "t"}
    assert told(returned) == told(read)
    connection.update_atom_details(models.TaskDetail("t", "t"))
    assert told(connection.get_atom_details("t")) == told(models.TaskDetail("t", "t"))
    assert connection.get_atom_details("o").results == 1


def test_the_detail_of_a_flow_is_updated_with_its_atoms(connection):
    made = saved(connection, task("a", "a", 1), task("b", "b", 1))
    other = flow("another name", "f", task("a", "a", 2), task("c", "c", 3))
    other.state, other.meta = "RUNNING", {"m": [1]}
    returned = connection.update_flow_details(other)
    assert (returned.state, returned.meta) == ("RUNNING", {"m": [1]})
    read = connection.get_flow_details("f")
    assert (read.name, read.state, read.meta) == (made.name, "RUNNING", {"m": [1]})
    assert {each.name: each.results for each in read} == {"a": 2, "b": 1, "c": 3}
    assert len(everything(connection)) == 1


@pytest.mark.parametrize(
    ("kept", "given", "kind"),
    [(models.TaskDetail, models.RetryDetail, "task"), (models.RetryDetail, models.TaskDetail, "retry")],
)
def test_a_detail_stays_of_its_kind(connection, kept, given, kind):
    saved(connection, kept("t", "t"))
    before = everything(connection)
    wrong = given("t", "t")
    wrong.state = "SUCCESS"
    with pytest.raises(exceptions.NotImplementedError, match=rf"^Can only merge with other {kind} details$"):
        connection.update_atom_details(wrong)
    with pytest.raises(exceptions.NotImplementedError, match=rf"^Can only merge with other {kind} details$"):
        connection.update_flow_details(flow("flow", "f", task("new", "n"), wrong))
    assert everything(connection) == before


def test_a_detail_is_in_one_place_only(connection):
    saved(connection, task("a", "a", 1))
    before = everything(connection)
    for twice in (
        book("second", "b2", flow("flow", "f")),
        book("second", "b2", flow("new", "n"), flow("flow", "f2", task("a", "a", 2))),
        book("second", "b2", flow("x", "x", task("n", "n")), flow("y", "y", task("n", "n"))),
    ):
        with pytest.raises(exceptions.Duplicate):
            connection.save_logbook(twice)
        assert everything(connection) == before
        with pytest.raises(exceptions.NotFound):
            connection.get_logbook("b2")
    connection.save_logbook(book("second", "b2", flow("flow", "f2")))
    before = everything(connection)
    with pytest.raises(exceptions.Duplicate):
        connection.update_flow_details(flow("flow", "f2", task("n", "n"), task("a", "a", 2)))
    assert everything(connection) == before


def test_what_is_destroyed_is_gone_and_the_rest_stays(connection):
    connection.save_logbook(full_book())
    saved(connection, task("t", "t", 1))
    connection.destroy_logbook("b1")
    assert [data["uuid"] for data in everything(connection)] == ["b"]
    for read, uuids in (
        (connection.get_logbook, ["b1"]),
        (connection.get_flow_details, ["f1", "f2"]),
        (connection.get_atom_details, ["t1", "t2", "t3", "r1"]),
        (connection.destroy_logbook, ["b1"]),
    ):
        for uuid in uuids:
            with pytest.raises(exceptions.NotFound):
                read(uuid)
    assert connection.get_atom_details("t").results == 1
    connection.save_logbook(full_book())  # the same identities can be used again
    assert len(connection.get_flow_details("f1")) == 4


class Opaque:
    """What no store can hold."""


#: values, and what an error says of each: where in it the misfit is, and of which type
UNFIT = [
    (len, "of type builtin_function_or_method"),
    ({"a": [0, {"b": type}]}, r"at \['a'\]\[1\]\['b'\] is of type type"),
    ([{1, print}], r"at \[0\]\{…\} is of type builtin_function_or_method"),
    ({"k": Opaque()}, r"at \['k'\] is of type .*Opaque"),
    ({"k": ({1: object()},)}, r"at \['k'\]\[0\]\[1\] is of type object"),
    (range(3), "of type range"),
    (caught(ValueError("v")), r"of type taskflowx.types.failure.Failure"),
]


@pytest.mark.parametrize(("value", "says"), UNFIT, ids=lambda each: str(each)[:20])
def test_a_value_that_cannot_be_stored_is_refused_and_nothing_is_written(backend, connection, value, says):
    if not backend.durable:
        pytest.skip("memory holds anything")
    made = saved(connection, task("good", "g", 1), task("bad", "x", 1), models.RetryDetail("retry", "r"))
    before = everything(connection)
    good, bad, retry = made
    good.results, bad.results = 2, value
    made.state = "RUNNING"
    new = task("new", "n", value)
    for what, write in (
        ("result of atom 'bad'", lambda: connection.update_atom_details(bad)),
        ("result of atom 'bad'", lambda: connection.update_flow_details(made)),
        ("result of atom 'bad'", lambda: connection.save_changes(made, [good, bad])),
        ("result of atom 'new'", lambda: connection.save_changes(made, [good, new])),
        ("result of atom 'bad'", lambda: connection.save_logbook(book("book", "b", made))),
        ("result of atom 'new'", lambda: connection.save_logbook(book("two", "b2", flow("f", "f2", new)))),
    ):
        with pytest.raises(exceptions.StorageFailure, match=f"^Cannot store {what}: .*{says}") as raised:
            write()
        assert "transient=True" in str(raised.value)
        assert everything(connection) == before
    bad.results, bad.revert_results = 1, value
    with pytest.raises(exceptions.StorageFailure, match=f"^Cannot store revert result of atom 'bad': .*{says}"):
        connection.update_atom_details(bad)
    bad.revert_results, bad.meta = None, {"k": value}
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store metadata of atom 'bad': the value at \['k'\]"):
        connection.update_atom_details(bad)
    retry.put("SUCCESS", value)
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store history of retry 'retry': .* at \[0\]\[0\]"):
        connection.update_atom_details(retry)
    other = flow("flow", "f")
    other.meta = {"k": value}
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store metadata of flow 'flow': the value at \['k'\]"):
        connection.update_flow_details(other)
    other = book("book", "b")
    other.meta = {"k": value}
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store metadata of book 'book': the value at \['k'\]"):
        connection.save_logbook(other)
    assert everything(connection) == before


def test_memory_holds_any_value(backend, connection):
    if backend.durable:
        pytest.skip("a durable store does not")
    lock = threading.Lock()
    saved(connection, task("t", "t", {1: lock}))
    assert connection.get_atom_details("t").results == {1: lock}


# -- changes of one step ---------------------------------------------------------------------------------------------


def test_changes_are_written_together(connection):
    made = saved(connection, task("a", "a", 1), task("b", "b", 1))
    a, b = made
    made.state, made.meta = "RUNNING", {"m": 1}
    a.put("SUCCESS", 2)
    new = models.RetryDetail("r", "r")
    new.put("SUCCESS", 3)
    made.add(new)
    connection.save_changes(made, [new, a])
    read = connection.get_flow_details("f")
    assert (read.state, read.meta) == ("RUNNING", {"m": 1})
    assert [each.name for each in read] == ["a", "b", "r"]
    assert [told(each) for each in read] == [told(a), told(b), told(new)]
    made.state = "SUCCESS"
    connection.save_changes(made, iter(()))
    assert connection.get_flow_details("f").state == "SUCCESS"
    connection.save_changes(made, iter([b]))
    assert told(connection.get_flow_details("f")) == told(made)


def test_changes_that_were_not_given_are_not_written(backend, connection):
    if not backend.durable:
        pytest.skip("memory keeps the record of a run as it is")
    made = saved(connection, task("a", "a", 1), task("b", "b", 1))
    a, b = made
    a.results = b.results = 2
    connection.save_changes(made, [a])
    assert [each.results for each in connection.get_flow_details("f")] == [2, 1]


def test_the_base_class_can_write_changes_too(connection):
    made = saved(connection, task("a", "a", 1), task("b", "b", 1))
    a, b = made
    a.results = b.results = 2
    made.state = "RUNNING"
    base.Connection.save_changes(connection, made, [a])
    assert [each.results for each in connection.get_flow_details("f")] == [2, 1]
    made.add(task("c", "c", 3))
    base.Connection.save_changes(connection, made, [made.find("c")])
    read = connection.get_flow_details("f")
    assert (read.state, {each.name: each.results for each in read}) == ("RUNNING", {"a": 2, "b": 2, "c": 3})
    with pytest.raises(exceptions.NotFound):
        base.Connection.save_changes(connection, flow("x", "x"), [])


# -- others ----------------------------------------------------------------------------------------------------------


def test_a_change_is_seen_when_it_has_been_written(connection):
    made = saved(connection, task("t", "t", [1]))
    before = everything(connection)
    (given,) = made
    given.state, given.meta["new"], made.state, made.meta["new"] = "REVERTED", 1, "SUCCESS", 1
    given.failure = caught(ValueError("v"))
    made.add(task("new", "n"))
    assert everything(connection) == before
    read = connection.get_logbook("b")
    (read_flow,) = read
    (read_task,) = read_flow
    read.meta["new"], read_flow.meta["new"], read_task.meta["new"] = 1, 1, 1
    read_task.state = read_flow.state = "REVERTED"
    read_flow.add(task("new", "n"))
    assert everything(connection) == before


def test_values_are_not_shared_with_what_is_stored(store, connection):
    if store.name == "memory-shallow":
        pytest.skip("it is asked to share them")
    made = saved(connection, task("t", "t", [1]))
    before = everything(connection)
    (given,) = made
    given.results.append(2)
    connection.get_atom_details("t").results.append(3)
    returned = connection.update_atom_details(connection.get_atom_details("t"))
    returned.results.append(4)
    assert everything(connection) == before


def test_connections_of_one_store_see_the_same(backend, connection):
    saved(connection, task("t", "t", 1))
    with contextlib.closing(backend.get_connection()) as other:
        assert everything(other) == everything(connection)
        other.update_atom_details(task("t", "t", 2))
        assert connection.get_atom_details("t").results == 2
        connection.update_atom_details(task("t", "t", 3))
        assert other.get_atom_details("t").results == 3
        connection.destroy_logbook("b")
        with pytest.raises(exceptions.NotFound):
            other.get_atom_details("t")


def test_two_backends_of_one_store_see_the_same(store, settings, connection):
    saved(connection, task("t", "t", 1))
    with backends.backend(settings) as other, contextlib.closing(other.get_connection()) as second:
        second.upgrade()
        second.validate()
        assert everything(second) == (everything(connection) if store.is_shared else [])


def test_what_was_stored_outlives_its_backend(store, settings):
    if not store.is_shared:
        pytest.skip("it lives as long as its back end")
    with backends.backend(settings) as first, contextlib.closing(first.get_connection()) as connection:
        connection.upgrade()
        connection.save_logbook(full_book())
        before = everything(connection)
    with backends.backend(settings) as second, contextlib.closing(second.get_connection()) as connection:
        connection.validate()
        assert everything(connection) == before


def test_threads_with_connections_of_their_own_do_not_disturb_each_other(backend, connection):
    problems = []

    def work(number):
        try:
            with contextlib.closing(backend.get_connection()) as mine:
                own = flow(f"f{number}", f"f{number}", *(task(f"{number}-{n}", f"{number}-{n}", 0) for n in range(3)))
                mine.save_logbook(book(f"b{number}", f"b{number}", own))
                for turn in range(5):
                    for detail in own:
                        detail.results = turn
                    mine.save_changes(own, own)
                    read = {each.results for each in mine.get_flow_details(own.uuid)}
                    if read != {turn}:
                        problems.append((number, turn, read))
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is a problem
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(data["uuid"] for data in everything(connection)) == ["b0", "b1", "b2", "b3"]
    assert all(len(read) == 3 for read in (connection.get_flow_details(f"f{number}") for number in range(4)))


# -- runs ------------------------------------------------------------------------------------------------------------


class Step(atoms.Task):
    """Notes that it ran, and does what it is told to do."""

    def __init__(self, name, log, act=None, **kwargs):
        super().__init__(name, **kwargs)
        self.log, self.act = log, act

    def execute(self, **kwargs):
        self.log.append(self.name)
        return self.act() if self.act else self.name

    def revert(self, *args, **kwargs):
        self.log.append(f"-{self.name}")


def fail():
    raise ValueError("v")


def stored_states(connection, engine):
    read = connection.get_flow_details(engine.storage.flow_uuid)
    return read.state, {each.name: each.state for each in read}


def test_a_run_is_stored_in_its_book(backend, connection):
    made = models.LogBook("book", "b")
    log = []
    flow_ = linear_flow.Flow("flow").add(Step("a", log, provides="x"), Step("b", log, requires=["x"]))
    engine = engines.load(flow_, book=made, backend=backend, store={"given": [1]})
    engine.run()
    (read,) = connection.get_logbook("b")
    assert (read.name, read.state) == ("flow", "SUCCESS")
    assert {each.name: (each.state, each.results) for each in read} == {
        "_TaskFlow_INJECTOR": ("SUCCESS", {"given": [1]}),
        "a": ("SUCCESS", "a"),
        "b": ("SUCCESS", "b"),
    }


def test_a_run_that_failed_is_stored_with_its_failure(backend, connection):
    log = []
    flow_ = linear_flow.Flow("flow", retry.Times(2, "r")).add(Step("a", log), Step("b", log, fail))
    engine = engines.load(flow_, backend=backend)
    with pytest.raises(ValueError, match=r"^v\nin task 'b' of flow 'flow' "):
        engine.run()
    assert stored_states(connection, engine) == ("REVERTED", {"r": "REVERTED", "a": "REVERTED", "b": "REVERTED"})
    read = {each.name: each for each in connection.get_flow_details(engine.storage.flow_uuid)}
    assert read["b"].failure.check(ValueError)
    assert read["r"].results == []  # it has been reverted
    assert log == ["a", "b", "-b", "-a"] * 2


def test_a_run_goes_on_from_what_is_stored(backend, connection):
    log = []

    def make(act=None):
        return linear_flow.Flow("flow").add(
            Step("a", log, act, provides="x"), Step("b", log, requires=["x"], provides="y"), Step("c", log)
        )

    def stop():
        engine.suspend()
        return {"value": [1, None, "ü"]}

    engine = engines.load(make(stop), backend=backend)
    engine.run()
    state, atoms_ = stored_states(connection, engine)
    assert (state, atoms_["a"], atoms_["c"]) == ("SUSPENDED", "SUCCESS", "PENDING")
    with contextlib.closing(backend.get_connection()) as other:
        read = other.get_flow_details(engine.storage.flow_uuid)
    again = engines.load(make(), flow_detail=read, backend=backend)
    again.run()
    assert log == ["a", "b", "c"]
    assert again.storage.fetch("x") == {"value": [1, None, "ü"]}
    assert stored_states(connection, again) == ("SUCCESS", dict.fromkeys("abc", "SUCCESS"))


def test_the_values_given_to_a_flow_are_replaced_in_the_store(backend, connection):
    flow_ = linear_flow.Flow("flow").add(Step("a", [], requires=["x"]))
    storage = engines.load(flow_, store={"x": 1}, backend=backend).storage
    for values, refused in (({}, True), ({"x": 2}, False)):
        storage.save(storage.injector_name, values)
        with contextlib.closing(backend.get_connection()) as other:
            read = other.get_flow_details(storage.flow_uuid)
        again = engines.load(flow_, flow_detail=read, backend=backend)
        with pytest.raises(exceptions.MissingDependencies, match="'x'") if refused else contextlib.nullcontext():
            again.run()
        assert again.storage.fetch_all() == values
        storage = again.storage


class Connect(atoms.Task):
    """Fails at each place but the last, and ends the run at the second one the first time."""

    def __init__(self, tried):
        super().__init__("connect")
        self.tried = tried

    def execute(self, at):
        self.tried.append(tuple(at))
        if len(self.tried) == 2:
            raise SystemExit
        if at[1] < 3:
            raise ConnectionError(str(at))


@pytest.mark.parametrize("stored", [False, True])
def test_a_retry_goes_on_with_the_next_of_its_values(backend, connection, stored):
    pairs = [("a", 1), ("b", 2), ("c", 3)]
    tried = []

    def make():
        kind = retry.ParameterizedForEach if stored else functools.partial(retry.ForEach, pairs)
        return linear_flow.Flow("flow", kind(name="each", provides="at")).add(Connect(tried))

    engine = engines.load(make(), store={"values": pairs} if stored else {}, backend=backend)
    with pytest.raises(SystemExit):
        engine.run()
    with contextlib.closing(backend.get_connection()) as other:
        read = other.get_flow_details(engine.storage.flow_uuid)
    engines.load(make(), flow_detail=read, backend=backend).run()
    assert tried == [pairs[0], pairs[1], pairs[1], pairs[2]]


def test_a_value_of_a_run_is_stored_or_refused(backend, connection):
    lock = threading.Lock()
    flow_ = linear_flow.Flow("flow").add(Step("a", [], requires=["lock"]))
    if backend.durable:
        with pytest.raises(exceptions.StorageFailure, match=r"values given to the flow: .* at \['lock'\] is of type"):
            engines.load(flow_, store={"lock": lock}, backend=backend)
        engine = engines.load(flow_, backend=backend)
        engine.storage.inject({"lock": lock}, transient=True)
    else:
        engine = engines.load(flow_, store={"lock": lock}, backend=backend)
    engine.run()
    assert engine.storage.fetch("lock") is lock
    assert stored_states(connection, engine)[0] == "SUCCESS"
