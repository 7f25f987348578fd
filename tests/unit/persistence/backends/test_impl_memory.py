"""The tree of paths that runs are kept in, and what is held as it is."""

from __future__ import annotations

import contextlib
import threading

import pytest

from taskflowx import exceptions
from taskflowx.persistence import models
from taskflowx.persistence.backends import impl_memory


def tree(*paths, **options):
    """Give a tree in which each path holds itself."""
    made = impl_memory.FakeFilesystem(**options)
    for path in paths:
        made[path] = path
    return made


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("//a", "/a"),
        ("/a//b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/..", "/"),
    ],
)
def test_a_path_has_one_form(path, normal):
    assert impl_memory.FakeFilesystem.normpath(path) == normal


@pytest.mark.parametrize("path", ["", None])
def test_a_path_is_not_empty(path):
    with pytest.raises(ValueError, match=r"^This filesystem can only normalize paths that are not empty$"):
        impl_memory.FakeFilesystem.normpath(path)


@pytest.mark.parametrize("path", ["a", "./a", "."])
def test_a_path_begins_at_the_root(path):
    with pytest.raises(ValueError, match=r"can only normalize paths that start with /: '.*' is not valid$"):
        impl_memory.FakeFilesystem.normpath(path)


def test_paths_are_split_and_joined():
    assert impl_memory.FakeFilesystem.split("/a/b") == ("/a", "b")
    assert impl_memory.FakeFilesystem.split("/a/") == ("/a", "")
    assert impl_memory.FakeFilesystem.join("/a", "b", "c") == "/a/b/c"
    assert impl_memory.FakeFilesystem.join() == ""


def test_values_lie_below_paths_that_are_there():
    made = tree("/a", "/a/b")
    assert (made["/a"], made["/a/b/"], made["/"]) == ("/a", "/a/b", None)
    made["/a"] = 2
    assert (made["/a"], made["/a/b"]) == (2, "/a/b")
    for missing in ("/x", "/a/b/c"):
        with pytest.raises(exceptions.NotFound, match=rf"^Path '{missing}' not found$"):
            _ = made[missing]
    with pytest.raises(exceptions.NotFound, match=r"^Path '/x' not found$"):
        made["/x/y"] = 1
    assert made.ls("/") == ["a"]


def test_what_is_not_there_has_a_default():
    made = tree("/a")
    assert (made.get("/a", 1), made.get("/x"), made.get("/x", 1)) == ("/a", None, 1)


def test_a_path_is_made_with_all_above_it_and_leaves_what_is_there():
    made = tree("/a")
    made.ensure_path("/a/b/c")
    made.ensure_path("/a/b/c")
    made.ensure_path("/")
    assert made["/a"] == "/a"
    assert made.get("/a/b/c", 1) is None
    assert made.ls_r("/") == ["a", "a/b", "a/b/c"]


def test_listings_are_one_level_or_all():
    made = tree("/a", "/b", "/a/1", "/a/2", "/a/1/x")
    assert made.ls("/") == ["a", "b"]
    assert made.ls("/a", absolute=True) == ["/a/1", "/a/2"]
    assert sorted(made.ls_r("/")) == ["a", "a/1", "a/1/x", "a/2", "b"]
    assert sorted(made.ls_r("/a/")) == ["1", "1/x", "2"]
    assert sorted(made.ls_r("/a", absolute=True)) == ["/a/1", "/a/1/x", "/a/2"]
    assert made.ls_r("/a/1/x") == made.ls("/b") == []
    for listing in (made.ls, made.ls_r):
        with pytest.raises(exceptions.NotFound, match=r"^Path '/x' not found$"):
            listing("/x")


def test_what_has_something_below_is_deleted_with_it_or_not_at_all():
    made = tree("/a", "/a/1", "/a/1/x", "/b")
    with pytest.raises(ValueError, match=r"^Can not delete '/a', it has 1 children$"):
        made.delete("/a")
    with pytest.raises(exceptions.NotFound, match=r"^Path '/x' not found$"):
        made.delete("/x", recursive=True)
    made.delete("/a", recursive=True)
    assert made.ls_r("/") == ["b"]
    with pytest.raises(exceptions.NotFound):
        _ = made["/a/1/x"]
    del made["/b"]
    assert made.ls("/") == []
    with pytest.raises(ValueError, match=r"^Can not delete '/'$"):
        made.delete("/")


@pytest.mark.parametrize("empty", [impl_memory.FakeFilesystem.clear, lambda made: made.delete("/", recursive=True)])
def test_an_emptied_tree_can_be_used(empty):
    made = tree("/a", "/a/b")
    empty(made)
    assert made.ls_r("/") == []
    made["/a"] = 1
    assert made["/a"] == 1
    with pytest.raises(exceptions.NotFound):
        _ = made["/a/b"]


def test_links_lead_to_values_and_not_to_what_is_below():
    made = tree("/a", "/a/b", "/z")
    made.symlink("/a", "/z/l")
    made.symlink("/z/l", "/z/ll")
    assert (made["/z/l"], made["/z/ll"]) == ("/a", "/a")
    assert made.ls("/z/l") == []
    made["/a"] = 2
    assert made["/z/ll"] == 2
    made.delete("/z/l")
    assert made["/a"] == 2
    with pytest.raises(exceptions.NotFound, match=r"^Path '/z/l' not found$"):
        _ = made["/z/ll"]


def test_a_link_may_lead_to_what_is_not_there_yet():
    made = tree("/a")
    made.symlink("/later", "/a/l")
    assert made.get("/a/l", "nothing") == "nothing"
    made["/later"] = 1
    assert made["/a/l"] == 1
    with pytest.raises(exceptions.NotFound, match=r"^Path '/no' not found$"):
        made.symlink("/a", "/no/where")


def test_links_in_a_circle_are_refused():
    made = tree()
    made.symlink("/b", "/a")
    made.symlink("/a", "/b")
    with pytest.raises(
        ValueError, match=r"^Recursive link following not allowed \(loop \['/b', '/a', '/b'\] detected\)$"
    ):
        _ = made["/a"]


def test_a_tree_is_drawn_with_its_links():
    made = tree("/a", "/a/b", "/c")
    made.symlink("/a/b", "/c/l")
    assert made.pformat() == "/\n|__a\n|  |__b\n|__c\n   |__l (link to /a/b)"


@pytest.mark.parametrize("deep_copy", [True, False])
def test_values_are_copied_in_and_out_unless_shared(deep_copy):
    made, value = tree(deep_copy=deep_copy), [1]
    made["/a"] = value
    value.append(2)
    made["/a"].append(3)
    made.get("/a").append(4)
    assert made["/a"] == ([1] if deep_copy else [1, 2, 3, 4])


def test_a_node_has_its_path_and_value():
    made = impl_memory.FakeInode("x", "/a/x", 3)
    assert (made.item, made.metadata) == ("x", {"path": "/a/x", "value": 3})


# -- stores ----------------------------------------------------------------------------------------------------------


def record():
    """Give a book with a flow of one atom."""
    made = models.FlowDetail("flow", "f")
    detail = models.TaskDetail("t", "t")
    detail.put("SUCCESS", [1])
    made.add(detail)
    book = models.LogBook("book", "b")
    book.add(made)
    return book, made, detail


@pytest.fixture
def backend():
    return impl_memory.MemoryBackend()


@pytest.fixture
def connection(backend):
    with contextlib.closing(backend.get_connection()) as made:
        yield made


@pytest.mark.parametrize(
    ("conf", "books"), [(None, "/books"), ({"path": "/x/"}, "/x/books"), ({"path": "/"}, "/books")]
)
def test_records_lie_below_the_path(conf, books):
    backend = impl_memory.MemoryBackend(conf)
    connection = backend.get_connection()
    assert connection.book_path == books
    connection.save_logbook(record()[0])
    assert backend.memory.ls(books) == ["b"]


def test_records_lie_as_in_other_stores(backend, connection):
    connection.save_logbook(record()[0])
    assert backend.memory.pformat().splitlines() == [
        "/",
        "|__books",
        "|  |__b",
        "|     |__f (link to /flow_details/f)",
        "|__flow_details",
        "|  |__f",
        "|     |__t (link to /atom_details/t)",
        "|__atom_details",
        "   |__t",
    ]


def test_memory_is_not_durable(backend):
    assert not backend.durable


def test_values_are_shared_if_that_is_asked_for():
    connection = impl_memory.MemoryBackend({"deep_copy": False}).get_connection()
    book, _, detail = record()
    connection.save_logbook(book)
    read = connection.get_atom_details("t")
    assert read.results is detail.results
    assert read is not detail


def test_what_cannot_be_copied_is_shared(connection):
    book, _, detail = record()
    detail.results = detail.meta["lock"] = threading.Lock()
    connection.save_logbook(book)
    read = connection.get_atom_details("t")
    assert read.results is detail.results
    assert read.meta["lock"] is detail.meta["lock"]


def test_failures_keep_their_exceptions(connection):
    from taskflowx.types.failure import Failure

    book, _, detail = record()
    error = ValueError("v")
    detail.put("FAILURE", Failure.from_exception(error))
    connection.save_logbook(book)
    assert connection.get_atom_details("t").failure.exception is error


class Uncopied:
    """A value of which nobody may make a copy."""

    def __deepcopy__(self, memo):
        raise AssertionError("copied")

    __reduce_ex__ = __deepcopy__


@pytest.mark.parametrize("is_saved", [True, False])
def test_what_is_held_is_stored_as_it_changes(backend, connection, is_saved):
    book, flow, detail = record()
    if is_saved:
        connection.save_logbook(book)
    backend.hold(flow)
    detail.put("SUCCESS", 2)
    flow.state = "RUNNING"
    new = models.RetryDetail("new", "n")
    flow.add(new)
    new.put("SUCCESS", 3)
    read = connection.get_flow_details("f")
    assert (read.state, [each.name for each in read]) == ("RUNNING", ["t", "new"])
    assert connection.get_atom_details("t").results == 2
    assert connection.get_atom_details("n").last_results == 3
    new.put("SUCCESS", 4)
    later = models.TaskDetail("later", "l")
    flow.add(later)
    assert connection.get_atom_details("l").name == "later"
    assert [each.name for each in connection.get_atoms_for_flow("f")] == ["t", "new", "later"]
    assert connection.get_atom_details("n").last_results == 4
    if is_saved:
        assert [each.state for each in connection.get_logbook("b")] == ["RUNNING"]


def test_what_is_held_is_read_as_a_copy(backend, connection):
    _, flow, detail = record()
    backend.hold(flow)
    read = connection.get_flow_details("f")
    assert read is not flow
    (read_detail,) = read
    assert read_detail is not detail
    read_detail.state = read.state = "REVERTED"
    read_detail.results.append(2)
    assert (detail.state, detail.results, flow.state) == ("SUCCESS", [1], None)


def test_to_hold_copies_no_value_and_makes_no_identity(backend, connection):
    flow = models.FlowDetail("flow", "f")
    detail = models.TaskDetail("t")
    flow.add(detail)
    detail.results = detail.meta["value"] = value = Uncopied()
    backend.hold(flow)
    connection.save_changes(flow, [detail])
    connection.update_flow_details(flow)
    assert detail.own_uuid is None or detail.results is value
    flow.meta["value"] = value
    connection.save_changes(flow, [detail])
    backend.hold(flow)
    assert (detail.results, flow.meta["value"]) == (value, value)


def test_to_hold_makes_no_identity(backend):
    flow = models.FlowDetail("flow", "f")
    flow.add(models.TaskDetail("t"))
    backend.hold(flow)
    assert [detail.own_uuid for detail in flow] == [None]


def test_changes_are_held(connection):
    book, flow, detail = record()
    with pytest.raises(exceptions.NotFound, match=r"^Path '/flow_details/f' not found$"):
        connection.save_changes(flow, [detail])
    connection.save_logbook(book)
    connection.save_changes(flow, [detail])
    detail.results.append(2)
    assert connection.get_atom_details("t").results == [1, 2]


def test_a_book_takes_in_what_is_held_and_leaves_it_held(backend, connection):
    book, flow, detail = record()
    backend.hold(flow)
    connection.save_logbook(book)
    flow.state = detail.state = "REVERTED"
    ((read_flow,),) = [list(connection.get_logbook("b"))]
    assert (read_flow.state, [each.state for each in read_flow]) == ("REVERTED", ["REVERTED"])


def test_an_update_by_the_holder_leaves_it_held(backend, connection):
    _, flow, detail = record()
    backend.hold(flow)
    connection.update_flow_details(flow)
    connection.update_atom_details(detail)
    flow.state = detail.state = "REVERTED"
    read = connection.get_flow_details("f")
    assert (read.state, [each.state for each in read]) == ("REVERTED", ["REVERTED"])


def test_an_update_by_somebody_else_takes_the_place_of_what_is_held(backend, connection):
    book, flow, detail = record()
    connection.save_logbook(book)
    backend.hold(flow)
    other = connection.get_flow_details("f")
    other.meta = {"by": "other"}
    (other_detail,) = other
    other_detail.results = 2
    connection.update_flow_details(other)
    assert connection.get_flow_details("f").meta == {"by": "other"}
    assert connection.get_atom_details("t").results == 2
    assert (flow.meta, detail.results) == ({}, [1])
    backend.hold(flow)
    assert connection.get_flow_details("f").meta == {}
    assert connection.get_atom_details("t").results == [1]


def test_to_hold_again_takes_the_place_of_updates_by_others(backend, connection):
    _, flow, detail = record()
    backend.hold(flow)
    other = connection.get_atom_details("t")
    other.results = 2
    connection.update_atom_details(other)
    assert connection.get_atom_details("t").results == 2
    backend.hold(flow)
    detail.results = 3
    assert connection.get_atom_details("t").results == 3
    assert [each.results for each in connection.get_flow_details("f")] == [3]


def test_a_new_holder_takes_the_place_of_the_old_one(backend, connection):
    _, flow, _ = record()
    backend.hold(flow)
    copied = connection.get_flow_details("f")
    backend.hold(copied)
    copied.state = "RUNNING"
    (detail,) = copied
    detail.results = 2
    assert connection.get_flow_details("f").state == "RUNNING"
    assert connection.get_atom_details("t").results == 2


@pytest.mark.parametrize("remove", [lambda made: made.destroy_logbook("b"), lambda made: made.clear_all()])
def test_what_is_removed_is_held_no_more(backend, connection, remove):
    book, flow, _ = record()
    connection.save_logbook(book)
    backend.hold(flow)
    flow.add(models.TaskDetail("new", "n"))
    remove(connection)
    for read, uuid in (
        (connection.get_flow_details, "f"),
        (connection.get_atom_details, "t"),
        (connection.get_atom_details, "n"),
    ):
        with pytest.raises(exceptions.NotFound):
            read(uuid)
