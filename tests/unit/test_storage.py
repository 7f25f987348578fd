"""The record of a run by name, without an engine."""

from __future__ import annotations

import logging
import threading
from typing import ClassVar

import pytest

from taskflowx import exceptions, retry, states
from taskflowx.persistence import base, models
from taskflowx.persistence.backends import impl_dir, impl_memory
from taskflowx.storage import Storage
from taskflowx.types.failure import Failure
from taskflowx.utils import persistence_utils
from tests.support.flows import Plain as Work


def woot():
    return Failure.from_exception(RuntimeError("Woot!"))


@pytest.fixture
def detail():
    return models.FlowDetail("flow", "flow-uuid")


@pytest.fixture
def storage(detail):
    return Storage(detail)


def test_facts_of_the_flow_are_those_of_its_detail(storage, detail):
    assert (storage.flow_name, storage.flow_uuid, storage.flow_meta) == ("flow", "flow-uuid", {})
    storage.update_flow_metadata({"a": 1})
    assert detail.meta == storage.flow_meta == {"a": 1}
    assert storage.record.flow_detail is detail


def test_the_lock_can_be_held_for_reading_and_for_writing(storage):
    with storage.lock.read_lock(), storage.lock.write_lock():
        assert storage.flow_name == "flow"  # who holds it may ask


# -- atoms -----------------------------------------------------------------------------------------------------------


def test_ensure_atom_makes_one_detail_and_finds_it_again(storage, detail):
    uuid = storage.ensure_atom(Work("t"))
    assert storage.ensure_atom(Work("t")) == uuid == storage.get_atom_uuid("t")
    assert [(d.name, type(d)) for d in detail] == [("t", models.TaskDetail)]
    assert (storage.get_atom_state("t"), storage.get_atom_intention("t")) == (states.PENDING, states.EXECUTE)


def test_ensure_atoms_keeps_the_order_and_the_kinds(storage, detail):
    uuids = storage.ensure_atoms([Work("b"), retry.Times(1, "r"), Work("a")])
    assert uuids == [storage.get_atom_uuid(name) for name in ("b", "r", "a")]
    assert len(set(uuids)) == 3
    assert [(d.name, d.KIND) for d in detail] == [("b", "task"), ("r", "retry"), ("a", "task")]


@pytest.mark.parametrize("kept", [True, False])
def test_a_name_cannot_be_that_of_a_task_and_of_a_retry(storage, detail, kept):
    storage.ensure_atom(Work("t"))
    asked = Storage(detail) if kept else storage
    with pytest.raises(exceptions.Duplicate, match="Atom detail 't' already exists"):
        asked.ensure_atom(retry.Times(1, "t"))


def test_a_storage_over_a_kept_detail_goes_on_from_it(storage, detail):
    storage.ensure_atoms([Work("t", provides="x"), Work("u")])
    storage.save("t", 5)
    storage.save("u", woot(), states.FAILURE)
    storage.inject({"y": 1})
    again = Storage(detail)
    assert again.ensure_atom(Work("t", provides="x")) == storage.get_atom_uuid("t")
    assert (again.fetch("x"), again.fetch("y"), again.get_atom_state("t")) == (5, 1, states.SUCCESS)
    assert list(again.get_failures()) == ["u"]


def test_a_record_of_another_major_version_is_refused(storage, detail):
    storage.ensure_atom(Work("t"))
    newer = Work("t")
    newer.version = (1, 7)
    Storage(detail).ensure_atom(newer)
    newer.version = (2, 0)
    with pytest.raises(exceptions.IncompatibleVersion, match=r"'t' is of version 2\.0"):
        Storage(detail).ensure_atom(newer)


def test_states_and_intentions_are_set_and_read_by_name(storage):
    storage.ensure_atoms([Work("a"), Work("b")])
    storage.set_atom_state("a", states.RUNNING)
    storage.set_atom_intention("a", states.REVERT)
    assert storage.get_atoms_states(["a", "b"]) == {"a": ("RUNNING", "REVERT"), "b": ("PENDING", "EXECUTE")}


def test_metadata_of_an_atom_is_updated(storage, detail):
    storage.ensure_atom(Work("a"))
    storage.update_atom_metadata("a", {"k": 1})
    storage.update_atom_metadata("a", [("l", 2)])
    assert next(iter(detail)).meta == {"k": 1, "l": 2}


UNKNOWN = {
    "get_atom_state": (),
    "set_atom_state": (states.RUNNING,),
    "get_atom_uuid": (),
    "get_atom_intention": (),
    "set_atom_intention": (states.REVERT,),
    "update_atom_metadata": ({},),
    "get_task_progress": (),
    "set_task_progress": (0.5,),
    "get_task_progress_details": (),
    "save": (1,),
    "get": (),
    "get_execute_result": (),
    "get_revert_result": (),
    "reset": (),
    "inject_atom_args": ({},),
    "get_retry_history": (),
    "save_retry_failure": ("t", None),
    "cleanup_retry_history": (states.REVERTED,),
    "fetch_unsatisfied_args": ({"a": "x"},),
}


@pytest.mark.parametrize("method", UNKNOWN)
def test_an_unknown_atom_is_not_found_by_any_method(storage, method):
    with pytest.raises(exceptions.NotFound, match="Unknown atom name 'nope'"):
        getattr(storage, method)("nope", *UNKNOWN[method])


def test_an_unknown_atom_is_not_found_among_several_or_for_arguments(storage):
    with pytest.raises(exceptions.NotFound, match="Unknown atom name 'nope'"):
        storage.get_atoms_states(["nope"])
    with pytest.raises(exceptions.NotFound, match="Unknown atom name 'nope'"):
        storage.fetch_mapped_args({}, atom_name="nope")


# -- progress --------------------------------------------------------------------------------------------------------


def test_progress_is_kept_in_the_metadata_and_read_back(storage, detail):
    storage.ensure_atom(Work("t"))
    assert (storage.get_task_progress("t"), storage.get_task_progress_details("t")) == (0.0, None)
    storage.set_task_progress("t", 0.5, {"k": 1})
    expected = {"at_progress": 0.5, "details": {"k": 1}}
    assert (storage.get_task_progress("t"), storage.get_task_progress_details("t")) == (0.5, expected)
    assert next(iter(detail)).meta == {"progress": 0.5, "progress_details": expected}


def test_progress_without_details_leaves_those_from_before_and_empty_ones_remove_them(storage):
    storage.ensure_atom(Work("t"))
    storage.set_task_progress("t", 0.5, {"k": 1})
    storage.set_task_progress("t", 0.6)
    assert storage.get_task_progress("t") == 0.6
    assert storage.get_task_progress_details("t")["at_progress"] == 0.5
    storage.set_task_progress("t", 0.7, {})
    assert storage.get_task_progress_details("t") is None


def test_progress_is_one_after_success(storage):
    storage.ensure_atom(Work("t"))
    storage.set_task_progress("t", 0.25)
    storage.save("t", None)
    assert storage.get_task_progress("t") == 1.0


# -- results ---------------------------------------------------------------------------------------------------------


def test_a_saved_result_is_the_very_object(storage):
    storage.ensure_atom(Work("t", provides="x"))
    value = object()
    storage.save("t", value)
    assert storage.get("t") is storage.get_execute_result("t") is storage.fetch("x") is value
    assert storage.get_atom_state("t") == states.SUCCESS
    assert not storage.has_failures()


def test_the_result_of_an_atom_that_has_not_run_is_not_known(storage):
    storage.ensure_atom(Work("t"))
    with pytest.raises(exceptions.NotFound, match="Result for atom 't' execution is not known") as caught:
        storage.get("t")
    assert isinstance(caught.value.cause, exceptions.DisallowedAccess)
    assert caught.value.cause.state == states.PENDING
    with pytest.raises(exceptions.NotFound, match="Result for atom 't' revert is not known"):
        storage.get_revert_result("t")


def test_a_failure_is_given_for_the_result_and_listed(storage):
    storage.ensure_atom(Work("t", provides="x"))
    failure = woot()
    storage.save("t", failure, states.FAILURE)
    assert storage.get("t") is storage.fetch("x") is failure
    assert storage.fetch_all() == {"x": failure}
    assert storage.get_failures() == storage.get_execute_failures() == {"t": failure}
    assert storage.has_failures()


def test_what_was_reverted_after_a_failure_still_gives_the_failure(storage):
    storage.ensure_atom(Work("t", provides="x"))
    failure = woot()
    storage.save("t", failure, states.FAILURE)
    storage.save("t", "undone", states.REVERTED)
    assert storage.fetch("x") is storage.get("t") is failure
    assert storage.get_revert_result("t") == "undone"


def test_what_was_reverted_after_success_is_not_found(storage):
    storage.ensure_atom(Work("t", provides="x"))
    storage.save("t", 5)
    storage.save("t", "undone", states.REVERTED)
    with pytest.raises(exceptions.NotFound, match="Expected to be able to find output 'x'"):
        storage.fetch("x")
    assert storage.fetch_all() == {}
    assert storage.get_revert_result("t") == "undone"


def test_a_failed_revert_is_listed_until_the_revert_has_succeeded(storage):
    storage.ensure_atom(Work("t"))
    storage.save("t", 5)
    failure = woot()
    storage.save("t", failure, states.REVERT_FAILURE)
    assert storage.get_revert_failures() == {"t": failure}
    assert storage.get_revert_result("t") is failure
    assert storage.has_failures()
    storage.save("t", None, states.REVERTED)
    assert storage.get_revert_failures() == {}
    assert not storage.has_failures()


def test_reset_forgets_what_has_happened(storage):
    storage.ensure_atom(Work("t", provides="x"))
    storage.save("t", woot(), states.FAILURE)
    storage.set_atom_intention("t", states.REVERT)
    storage.reset("t")
    assert (storage.get_atom_state("t"), storage.get_atom_intention("t")) == ("PENDING", "EXECUTE")
    assert (storage.get_failures(), storage.fetch_all()) == ({}, {})
    storage.reset("t", states.IGNORE)
    assert storage.get_atom_state("t") == states.IGNORE


def test_parts_of_a_result_are_fetched_by_index_and_by_key(storage):
    storage.ensure_atoms([Work("t", provides=("a", "b")), Work("d", provides={"k"})])
    storage.save("t", [1, 2])
    storage.save("d", {"k": 3, "other": 4})
    assert storage.fetch_all() == {"a": 1, "b": 2, "k": 3}


def test_a_part_that_the_result_lacks_warns_and_is_not_found(storage, caplog):
    storage.ensure_atom(Work("t", provides=("a", "b")))
    with caplog.at_level(logging.WARNING):
        storage.save("t", (1,))
    assert "'t' did not supply result with index 1 (name 'b')" in caplog.text
    with pytest.raises(exceptions.NotFound, match="Unable to find result 'b'"):
        storage.fetch("b")
    assert storage.fetch_all() == {"a": 1}


def test_a_longer_result_is_kept_whole(storage, caplog):
    storage.ensure_atom(Work("t", provides=("a",)))
    storage.save("t", (1, 2, 3))
    assert storage.fetch("a") == 1
    assert storage.get("t") == (1, 2, 3)
    assert caplog.text == ""


# -- fetch -----------------------------------------------------------------------------------------------------------


def test_what_nobody_provides_is_not_mapped(storage):
    with pytest.raises(exceptions.NotFound, match="Name 'nope' is not mapped as a produced output by any providers"):
        storage.fetch("nope")


def test_what_has_not_been_provided_yet_is_not_found(storage):
    storage.ensure_atom(Work("t", provides="x"))
    with pytest.raises(exceptions.NotFound, match=r"find output 'x' produced by <Provider 't'> but was unable"):
        storage.fetch("x")


def test_of_several_providers_fetch_gives_the_first_and_fetch_all_the_list(storage):
    storage.ensure_atoms([Work("a", provides="x"), Work("b", provides="x"), Work("c", provides="y")])
    assert storage.fetch_all() == {}
    storage.save("b", 2)
    assert (storage.fetch("x"), storage.fetch_all()) == (2, {"x": 2})
    storage.save("a", 1)
    assert (storage.fetch("x"), storage.fetch_all()) == (1, {"x": [1, 2]})


def test_a_handler_picks_among_several_values(storage):
    storage.ensure_atoms([Work("a", provides="x"), Work("b", provides="x"), Work("c", provides="y")])
    for value, name in enumerate("abc"):
        storage.save(name, value)
    assert storage.fetch("x", many_handler=max) == 1
    assert storage.fetch_all(many_handler=tuple) == {"x": (0, 1), "y": (2,)}


def test_injected_values_are_fetched_before_provided_ones(storage):
    storage.ensure_atom(Work("a", provides="x"))
    storage.save("a", 1)
    storage.inject({"x": 2})
    storage.inject({"x": 3}, transient=True)
    assert storage.fetch("x") == 3
    assert storage.fetch_all() == {"x": [3, 2, 1]}


def test_transient_values_are_not_kept_in_the_record(storage, detail):
    storage.inject({"x": 1}, transient=True)
    assert (storage.fetch("x"), len(detail)) == (1, 0)
    storage.inject({"y": 2})
    assert {d.name: d.results for d in detail} == {Storage.injector_name: {"y": 2}}
    assert Storage(detail).fetch_all() == {"y": 2}


def test_kept_values_for_an_atom_are_seen_by_the_next_storage(storage, detail):
    storage.ensure_atom(Work("a"))
    storage.inject_atom_args("a", {"x": 1}, transient=False)
    storage.inject_atom_args("a", {"y": 2})
    again = Storage(detail)
    again.ensure_atom(Work("a"))
    assert again.fetch_mapped_args({"x": "x"}, atom_name="a") == {"x": 1}
    with pytest.raises(exceptions.NotFound):
        again.fetch_mapped_args({"y": "y"}, atom_name="a")


def test_the_injected_values_are_replaced_by_name(storage):
    with pytest.raises(exceptions.NotFound, match=storage.injector_name):
        storage.get(storage.injector_name)
    storage.inject({"x": 1, "y": 2})
    mine = {"x": 3}
    storage.save(storage.injector_name, mine)
    assert storage.fetch_all() == storage.get(storage.injector_name) == {"x": 3}
    storage.inject({"z": 4})
    assert storage.fetch_all() == storage.get(storage.injector_name) == {"x": 3, "z": 4}
    assert mine == {"x": 3}
    storage.reset(storage.injector_name)
    assert storage.get_atom_state(storage.injector_name) == states.SUCCESS
    assert storage.fetch("z") == 4


@pytest.mark.parametrize("saved", [({}, states.SUCCESS), (None, states.SUCCESS), ({"x": 1}, states.PENDING)])
def test_removed_injected_values_are_not_found_until_others_are_injected(storage, detail, saved):
    storage.inject({"x": 1})
    storage.save(storage.injector_name, *saved)
    assert storage.fetch_all() == {}
    with pytest.raises(exceptions.NotFound, match="'x'"):
        storage.fetch("x")
    assert Storage(detail).fetch_all() == {}
    storage.inject({"y": 2})
    assert storage.fetch_all() == Storage(detail).fetch_all() == {"y": 2}


def test_injecting_a_new_name_is_counted_and_a_new_value_is_not(storage):
    storage.inject({"x": 1})
    before = storage.lookup.bindings_version
    storage.inject({"x": 2})
    assert storage.lookup.bindings_version == before
    storage.inject({"y": 2})
    assert storage.lookup.bindings_version > before


# -- arguments -------------------------------------------------------------------------------------------------------


def test_mapped_arguments_are_fetched_by_their_stored_names(storage):
    storage.ensure_atom(Work("a", provides="x"))
    storage.save("a", 1)
    storage.inject({"y": 2})
    assert storage.fetch_mapped_args({"p": "x", "q": "y"}, scope_walker=[["a"]]) == {"p": 1, "q": 2}


def test_a_mapped_argument_without_a_value_is_not_found_unless_it_is_optional(storage):
    storage.inject({"y": 2})
    with pytest.raises(exceptions.NotFound, match="Name 'nope' is not mapped as a produced output"):
        storage.fetch_mapped_args({"p": "y", "q": "nope"})
    storage.ensure_atom(Work("a", provides="nope"))
    with pytest.raises(exceptions.NotFound, match=r"Mapped argument 'q' <= 'nope' was not .* \(0 possible"):
        storage.fetch_mapped_args({"p": "y", "q": "nope"})
    assert storage.fetch_mapped_args({"p": "y", "q": "nope"}, optional_args={"q"}) == {"p": 2}


def test_mapped_arguments_of_an_atom_come_from_what_it_sees_nearest_first(detail):
    rows = {"c": [["b"], ["a"]], "d": []}
    storage = Storage(detail, scope_fetcher=rows.__getitem__)
    storage.ensure_atoms([Work("a", provides="x"), Work("b", provides="x"), Work("c"), Work("d")])
    storage.save("a", 1)
    assert storage.fetch_mapped_args({"p": "x"}, atom_name="c") == {"p": 1}
    storage.save("b", 2)
    assert storage.fetch_mapped_args({"p": "x"}, atom_name="c") == {"p": 2}
    with pytest.raises(exceptions.NotFound):
        storage.fetch_mapped_args({"p": "x"}, atom_name="d")


def test_a_walker_that_is_given_comes_before_what_the_atom_sees(detail):
    storage = Storage(detail, scope_fetcher=lambda name: [["b"]])
    storage.ensure_atoms([Work("a", provides="x"), Work("b", provides="x"), Work("c")])
    storage.save("a", 1)
    storage.save("b", 2)
    assert storage.fetch_mapped_args({"p": "x"}, atom_name="c", scope_walker=iter([["a"]])) == {"p": 1}


def test_values_for_one_atom_come_first_and_are_not_seen_by_others(storage):
    storage.ensure_atoms([Work("a"), Work("b")])
    storage.inject({"x": 1})
    storage.inject_atom_args("a", {"x": 2})
    assert storage.fetch_mapped_args({"x": "x"}, atom_name="a") == {"x": 2}
    assert storage.fetch_mapped_args({"x": "x"}, atom_name="b") == {"x": 1}


def test_unsatisfied_are_the_arguments_that_nobody_in_sight_could_fill(detail):
    storage = Storage(detail, scope_fetcher=lambda name: [["a"]])
    storage.ensure_atoms([Work("a", provides="x"), Work("b", provides="y"), Work("c")])
    storage.inject({"z": 1})
    wanted = {"p": "x", "q": "y", "r": "z", "s": "nope"}
    assert storage.fetch_unsatisfied_args("c", wanted) == {"q", "s"}
    assert storage.fetch_unsatisfied_args("c", wanted, optional_args=["s"]) == {"q"}
    assert storage.fetch_unsatisfied_args("c", wanted, scope_walker=[["b"]]) == {"p", "s"}
    storage.inject_atom_args("c", {"nope": 1})
    assert storage.fetch_unsatisfied_args("c", wanted) == {"q"}


# -- retries ---------------------------------------------------------------------------------------------------------


def attempts(history):
    return [(value, dict(failures)) for value, failures in history]


def test_each_saved_result_of_a_retry_is_an_attempt_in_its_history(storage):
    storage.ensure_atoms([Work("t"), retry.Times(3, "r", provides="n")])
    assert attempts(storage.get_retry_history("r")) == []
    failure = woot()
    storage.save("r", 1)
    storage.save_retry_failure("r", "t", failure)
    storage.save("r", 2)
    assert attempts(storage.get_retry_history("r")) == [(1, {"t": failure}), (2, {})]
    assert [(name, attempts(h)) for name, h in storage.get_retry_histories()] == [
        ("r", [(1, {"t": failure}), (2, {})]),
    ]
    assert storage.fetch("n") == 2
    assert storage.get("r") == list(storage.get_retry_history("r"))


def test_cleaning_up_forgets_the_attempts_of_a_retry(storage):
    storage.ensure_atom(retry.Times(3, "r", provides="n"))
    storage.save("r", 1)
    storage.cleanup_retry_history("r", states.REVERTED)
    assert (attempts(storage.get_retry_history("r")), storage.get_atom_state("r")) == ([], states.REVERTED)
    assert storage.fetch_all() == {}


def test_the_history_has_the_failure_of_the_retry_itself(storage):
    storage.ensure_atom(retry.Times(3, "r"))
    failure = woot()
    storage.save("r", failure, states.FAILURE)
    assert storage.get_retry_history("r").failure is failure


def test_a_task_has_no_history(storage):
    storage.ensure_atom(Work("t"))
    with pytest.raises(TypeError, match="'t'"):
        storage.get_retry_history("t")
    with pytest.raises(TypeError, match="'t'"):
        storage.save_retry_failure("t", "t", woot())


# -- the state of the flow -------------------------------------------------------------------------------------------


def test_a_flow_is_pending_at_first_and_moves_by_the_table(storage, detail):
    assert storage.get_flow_state() == states.PENDING
    assert storage.change_flow_state(states.RUNNING) == (True, states.PENDING)
    assert storage.change_flow_state(states.RUNNING) == (False, states.RUNNING)
    assert detail.state == states.RUNNING
    with pytest.raises(exceptions.InvalidState, match="from 'RUNNING' to 'PENDING' is not allowed"):
        storage.change_flow_state(states.PENDING)
    assert storage.get_flow_state() == states.RUNNING


def test_to_suspend_what_does_not_run_changes_nothing(storage):
    assert storage.change_flow_state(states.SUSPENDING) == (False, states.PENDING)
    storage.set_flow_state(states.FAILURE)
    assert storage.change_flow_state(states.SUSPENDED) == (False, states.FAILURE)
    assert storage.get_flow_state() == states.FAILURE


# -- stores ----------------------------------------------------------------------------------------------------------


def test_a_store_in_memory_has_the_record_itself_and_copies_no_value(detail):
    value = threading.Lock()  # cannot be copied
    store = impl_memory.MemoryBackend()
    storage = Storage(detail, store)
    storage.ensure_atom(Work("a", provides="x"))
    storage.save("a", value)
    assert storage.fetch("x") is value
    kept = store.get_connection().get_flow_details(detail.uuid)
    assert [(atom.name, atom.state) for atom in kept] == [("a", states.SUCCESS)]


def test_without_a_store_there_is_one_in_memory_when_it_is_asked_for(detail):
    storage = Storage(detail)
    storage.ensure_atom(Work("a"))
    connection = storage.backend.get_connection()
    assert [atom.name for atom in connection.get_atoms_for_flow(detail.uuid)] == ["a"]
    storage.ensure_atom(Work("b"))
    assert [atom.name for atom in connection.get_atoms_for_flow(detail.uuid)] == ["a", "b"]
    assert storage.backend is storage.backend


@pytest.fixture
def written(tmp_path):
    """A storage on a durable store, and what reads its atoms from there."""
    store = impl_dir.DirBackend({"path": str(tmp_path)})
    connection = store.get_connection()
    connection.upgrade()
    detail = persistence_utils.create_flow_detail(Named("f"), backend=store)
    storage = Storage(detail, store)
    storage.ensure_atoms([Work("a", provides="x"), retry.Times(2, name="r")])
    return storage, lambda: {atom.name: atom for atom in connection.get_atoms_for_flow(detail.uuid)}


class Named:
    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize(
    ("change", "atom", "part", "expected"),
    [
        (lambda s: s.set_atom_state("a", states.RUNNING), "a", "state", states.RUNNING),
        (lambda s: s.set_atom_intention("a", states.REVERT), "a", "intention", states.REVERT),
        (lambda s: s.save("a", {"n": 1}), "a", "results", {"n": 1}),
        (lambda s: s.update_atom_metadata("a", {"k": 2}), "a", "meta", {"k": 2}),
        (lambda s: s.set_task_progress("a", 0.5), "a", "meta", {"progress": 0.5}),
        (lambda s: s.inject_atom_args("a", {"k": 3}, transient=False), "a", "meta", {"injected": {"k": 3}}),
        (lambda s: s.inject({"k": 4}), "_TaskFlow_INJECTOR", "results", {"k": 4}),
        (lambda s: (s.save("a", 1), s.reset("a")), "a", "results", None),
        (lambda s: s.save("r", 7), "r", "results", [(7, {})]),
        (lambda s: (s.save("r", 7), s.cleanup_retry_history("r", states.REVERTED)), "r", "results", []),
    ],
)
def test_each_change_is_written_to_a_durable_store_at_once(written, change, atom, part, expected):
    storage, read = written
    change(storage)
    assert getattr(read()[atom], part) == expected


def test_failures_in_a_history_are_written(written):
    storage, read = written
    storage.save("r", 7)
    storage.save_retry_failure("r", "a", woot())
    (_, failures) = read()["r"].results[0]
    assert failures["a"].matches(woot())


def test_a_value_that_a_durable_store_cannot_hold_is_refused_before_anything_changes(written):
    storage, read = written
    with pytest.raises(
        exceptions.StorageFailure, match=r"the values given to the flow: the value at \['x'\]\[0\] is of"
    ):
        storage.inject({"y": 1, "x": [object()]})
    with pytest.raises(exceptions.StorageFailure, match=r"result of atom 'a': the value at \['k'\] is of type object"):
        storage.save("a", {"k": object()})
    assert storage.get_atom_state("a") == read()["a"].state == states.PENDING
    assert storage.fetch_all() == {}
    storage.inject({"x": [object()]}, transient=True)
    assert "x" in storage.fetch_all()


def test_the_state_and_metadata_of_the_flow_are_written(written):
    storage, _ = written
    storage.change_flow_state(states.RUNNING)
    storage.update_flow_metadata({"k": 1})
    kept = storage.backend.get_connection().get_flow_details(storage.flow_uuid)
    assert (kept.state, kept.meta) == (states.RUNNING, {"k": 1})


# -- what is asked for and not there ---------------------------------------------------------------------------------


def test_a_part_that_a_result_does_not_have_names_the_provider_and_the_place(storage):
    storage.ensure_atom(Work("a", provides=("p", "q")))
    with pytest.raises(exceptions.NotFound, match=r"'q' produced by <Provider 'a' @ index 1> but was unable to get at"):
        storage.fetch("q")
    storage.save("a", (1,))
    with pytest.raises(exceptions.NotFound, match=r"'q', expected .* by <Provider 'a' @ index 1> but") as caught:
        storage.fetch("q")
    assert isinstance(caught.value.cause, IndexError)
    storage.save("a", woot(), states.FAILURE)
    with pytest.raises(exceptions.NotFound, match="it failed with 'Woot!'"):
        storage.fetch("p")


def test_what_is_no_atom_and_no_failure_is_refused(storage):
    with pytest.raises(TypeError, match=r"Unknown atom '7' .* requested to ensure"):
        storage.ensure_atoms([7])
    storage.ensure_atom(Work("a"))
    with pytest.raises(TypeError, match="result of atom 'a' in state FAILURE must be a Failure, not 7"):
        storage.save("a", 7, states.FAILURE)
    with pytest.raises(
        TypeError, match=r"Atom 'a' is not of the expected type: taskflowx.persistence.models.RetryDetail"
    ):
        storage.get_retry_history("a")


def test_a_failure_needs_an_attempt_to_be_added_to(storage):
    storage.ensure_atom(retry.Times(2, name="r"))
    with pytest.raises(exceptions.StorageFailure, match="Unable to fetch most recent retry failures"):
        storage.save_retry_failure("r", "a", woot())


def test_a_result_can_be_fetched_while_the_atom_is_reverted(storage):
    storage.ensure_atom(Work("a", provides="x"))
    storage.save("a", 5)
    storage.set_atom_state("a", states.REVERTING)
    assert storage.fetch("x") == 5


def test_what_is_on_record_is_known_before_its_atom_is_shown(storage, detail):
    storage.ensure_atoms([Work("a", provides="x"), retry.Times(2, name="r")])
    storage.save("a", 5)
    storage.save("r", 1)
    again = Storage(detail)
    assert (again.get_atom_state("a"), again.get("a")) == (states.SUCCESS, 5)
    assert [(name, list(history)) for name, history in again.get_retry_histories()] == [("r", [(1, {})])]
    with pytest.raises(exceptions.NotFound, match="Name 'x' is not mapped"):
        again.fetch("x")
    again.ensure_atom(Work("a", provides="x"))
    assert again.fetch("x") == 5


def test_what_is_ignored_has_nothing_and_hides_nothing(storage):
    storage.ensure_atoms([Work("a", provides="x"), Work("b", provides="x")])
    storage.set_atom_state("a", states.IGNORE)
    storage.save("b", 2)
    assert storage.fetch("x") == 2
    storage.set_atom_state("b", states.IGNORE)
    with pytest.raises(exceptions.NotFound, match="Unable to find result 'x', searched 2 providers"):
        storage.fetch("x")
    with pytest.raises(exceptions.NotFound, match=r"execution is not known \(as it was ignored"):
        storage.get("a")


def test_to_reset_an_atom_to_the_state_that_it_is_in_changes_nothing(storage):
    storage.ensure_atom(Work("a"))
    storage.save("a", 5)
    storage.reset("a", states.SUCCESS)
    assert storage.get("a") == 5


def test_a_retry_has_no_progress(storage):
    storage.ensure_atom(retry.Times(2, name="r"))
    with pytest.raises(TypeError, match=r"'r' is not of the expected type: taskflowx\.persistence\.models\.TaskDetail"):
        storage.set_task_progress("r", 0.5)


def test_a_search_that_was_interrupted_leaves_every_output_once(storage, monkeypatch):
    class Outputs:
        outputs: ClassVar = [("y", None)]

        def __getattribute__(self, name):
            monkeypatch.undo()
            raise KeyboardInterrupt

    first, second = Work("a", provides="x"), Work("b", provides="y")
    storage.ensure_atoms([first, second])
    monkeypatch.setattr(second, "_tfx_signature", Outputs())
    with pytest.raises(KeyboardInterrupt):
        storage.fetch("x")
    storage.save("a", 1)
    storage.save("b", 2)
    assert storage.fetch_all() == {"x": 1, "y": 2}


class Flaky(base.Backend):
    """A store that fails a number of times before it takes what it is given."""

    def __init__(self, failures):
        super().__init__({})
        self.failures = failures
        self.taken = []

    def get_connection(self):
        return self

    def save_changes(self, flow_detail, atom_details, owner=None):
        self.failures -= 1
        if self.failures >= 0:
            raise exceptions.StorageFailure("locked")
        self.taken.append([atom.name for atom in atom_details])

    def close(self):
        pass


def test_a_store_that_is_down_for_a_moment_is_tried_again(detail, monkeypatch, caplog):
    monkeypatch.setattr("taskflowx.persistence.journal._FIRST_PAUSE", 0.0)
    store = Flaky(2)
    Storage(detail, store).ensure_atom(Work("a"))
    assert store.taken == [["a"]]
    assert caplog.text.count("The store has not taken the record of flow 'flow'") == 2


def test_a_store_that_stays_down_is_a_failure(detail, monkeypatch):
    monkeypatch.setattr("taskflowx.persistence.journal._FIRST_PAUSE", 0.0)
    store = Flaky(3)
    with pytest.raises(exceptions.StorageFailure, match="locked"):
        Storage(detail, store).ensure_atom(Work("a"))
    monkeypatch.setattr("taskflowx.storage.RETRY_WAIT_TIMEOUT", -1)
    store.failures = 1
    with pytest.raises(exceptions.StorageFailure, match="locked"):
        Storage(detail, store).ensure_atom(Work("b"))
    assert store.taken == []
