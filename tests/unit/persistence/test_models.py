"""Details of atoms and flows, and books: what they record, how they are copied, merged, written and shown."""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import os
import sys
import uuid

import pytest

from taskflowx import exceptions, states
from taskflowx.persistence import details, models
from taskflowx.types.failure import Failure

VALUE = Failure.from_exception(ValueError("v"))
KEY = Failure.from_exception(KeyError("k"))
FACTS = ("state", "intention", "results", "failure", "revert_results", "revert_failure", "meta", "version")


def facts(detail):
    return {name: getattr(detail, name) for name in FACTS}


def facts_with(**facts_):
    nothing = dict.fromkeys(FACTS) | {"intention": "EXECUTE", "meta": {}}
    return nothing | facts_


@pytest.fixture(params=[models.TaskDetail, models.RetryDetail])
def cls(request):
    return request.param


def full(cls, name="a", uuid_="u"):
    """A detail in which everything is set."""
    made = cls(name, uuid_)
    made.put("SUCCESS", [1])
    if cls is models.RetryDetail:
        made.last_failures["t"] = VALUE
    made.put("REVERT_FAILURE", KEY)
    made.failure = VALUE
    made.revert_results = ["r"]
    made.meta = {"b": [1], "a": 2}
    made.version = "1.0"
    made.intention = "REVERT"
    return made


# -- details of atoms ------------------------------------------------------------------------------------------------


def test_a_new_detail_records_nothing():
    assert facts(models.TaskDetail("a", "u")) == facts_with()
    assert facts(models.RetryDetail("a", "u")) == facts_with(results=[])
    assert (models.TaskDetail("a", "u").name, models.TaskDetail("a", "u").uuid) == ("a", "u")


def test_an_identity_is_made_when_it_is_asked_for(cls):
    made = cls("a")
    assert made.own_uuid is None
    assert made.uuid == made.uuid
    assert str(uuid.UUID(made.uuid)) == made.uuid
    assert cls("a").uuid != made.uuid


def test_identities_given_to_many_at_once_are_like_those_that_are_asked_for():
    details = [models.TaskDetail(f"{number}") for number in range(2_500)]
    kept = details[7].uuid
    others = [models.TaskDetail("a").uuid for _ in range(3)]
    models.identify(details)
    others += [models.TaskDetail("a").uuid for _ in range(1_500)]
    given = [detail.uuid for detail in details]
    assert details[7].uuid == kept
    assert len({*given, *others}) == 4_003
    assert all(str(uuid.UUID(one)) == one for one in given)


def test_details_take_no_further_attributes(cls):
    with pytest.raises(AttributeError):
        cls("a").other = 1


def test_metadata_of_two_details_are_not_shared(cls):
    one, two = cls("a"), cls("b")
    one.meta["k"] = 1
    assert two.meta == {}


@pytest.mark.parametrize(
    ("puts", "expected"),
    [
        ([("RUNNING", 9)], {"state": "RUNNING"}),
        ([("SUCCESS", 5)], {"state": "SUCCESS", "results": 5}),
        ([("SUCCESS", None)], {"state": "SUCCESS"}),
        ([("FAILURE", VALUE)], {"state": "FAILURE", "failure": VALUE}),
        ([("SUCCESS", 5), ("FAILURE", VALUE)], {"state": "FAILURE", "failure": VALUE}),
        ([("FAILURE", VALUE), ("SUCCESS", 5)], {"state": "SUCCESS", "results": 5}),
        ([("SUCCESS", 5), ("REVERTING", 9)], {"state": "REVERTING", "results": 5}),
        ([("SUCCESS", 5), ("REVERTED", "r")], {"state": "REVERTED", "results": 5, "revert_results": "r"}),
        ([("FAILURE", VALUE), ("REVERTED", None)], {"state": "REVERTED", "failure": VALUE}),
        (
            [("SUCCESS", 5), ("REVERT_FAILURE", KEY)],
            {"state": "REVERT_FAILURE", "results": 5, "revert_failure": KEY},
        ),
        (
            [("SUCCESS", 5), ("REVERT_FAILURE", KEY), ("REVERTED", "r")],
            {"state": "REVERTED", "results": 5, "revert_results": "r"},
        ),
        ([("REVERTED", "r"), ("REVERT_FAILURE", KEY)], {"state": "REVERT_FAILURE", "revert_failure": KEY}),
        ([("SUCCESS", 5), ("REVERTED", "r"), ("SUCCESS", 6)], {"state": "SUCCESS", "results": 6}),
        ([("REVERTED", "r"), ("FAILURE", VALUE)], {"state": "FAILURE", "failure": VALUE}),
        ([("REVERT_FAILURE", KEY), ("FAILURE", VALUE)], {"state": "FAILURE", "failure": VALUE}),
    ],
)
def test_what_a_task_ends_with_is_put_where_it_belongs(puts, expected):
    made = models.TaskDetail("a")
    for state, result in puts:
        made.put(state, result)
    assert facts(made) == facts_with(**expected)


@pytest.mark.parametrize(
    ("puts", "expected"),
    [
        ([("SUCCESS", 1), ("SUCCESS", 2)], {"state": "SUCCESS", "results": [(1, {}), (2, {})]}),
        ([("SUCCESS", 1), ("FAILURE", VALUE)], {"state": "FAILURE", "results": [(1, {})], "failure": VALUE}),
        ([("SUCCESS", 1), ("REVERTED", "r")], {"state": "REVERTED", "results": [(1, {})], "revert_results": "r"}),
        ([("REVERTED", "r"), ("FAILURE", VALUE)], {"state": "FAILURE", "results": [], "failure": VALUE}),
        ([("FAILURE", VALUE), ("SUCCESS", 1)], {"state": "SUCCESS", "results": [(1, {})]}),
    ],
)
def test_a_retry_adds_each_success_to_its_history(puts, expected):
    made = models.RetryDetail("a")
    for state, result in puts:
        made.put(state, result)
    assert facts(made) == facts_with(**expected)


class Strange:
    """A result that cannot be compared, as arrays cannot."""

    def __eq__(self, other):
        raise AssertionError("compared")

    __hash__ = None


def test_put_tells_whether_anything_changed(cls):
    made, value = cls("a"), Strange()
    assert made.put("RUNNING", None)
    assert not made.put("RUNNING", None)
    assert made.put("SUCCESS", value)
    assert made.put("SUCCESS", value) is (cls is models.RetryDetail)  # whose history has grown
    assert made.put("SUCCESS", Strange())
    assert made.put("REVERTED", value)
    assert not made.put("REVERTED", value)
    assert made.put("FAILURE", VALUE)
    assert not made.put("FAILURE", VALUE)
    assert not made.put("FAILURE", Failure.from_exception(ValueError("v")))
    assert made.put("FAILURE", KEY)


def test_a_retry_has_a_list_of_attempts_after_each_line_of_a_reset():
    detail, seen = models.RetryDetail("r", "u"), []
    detail.store(1)

    def look(frame, event, arg):
        if frame.f_code.co_filename == details.__file__:
            seen.append(type(detail.results))
        return look

    sys.settrace(look)
    try:
        detail.reset(states.PENDING)
    finally:
        sys.settrace(None)
    assert set(seen) == {list}
    assert detail.results == []


def test_reset_forgets_all_but_version_and_metadata(cls):
    made = full(cls)
    made.reset("PENDING")
    nothing = [] if cls is models.RetryDetail else None
    assert facts(made) == facts_with(state="PENDING", results=nothing, meta={"b": [1], "a": 2}, version="1.0")


def test_the_last_results_of_a_task_are_its_results():
    made = models.TaskDetail("a")
    assert made.last_results is None
    made.put("SUCCESS", 5)
    assert made.last_results == 5


def test_the_last_results_and_failures_of_a_retry_are_those_of_its_last_attempt():
    made = models.RetryDetail("a")
    with pytest.raises(exceptions.NotFound, match=r"^Last results not found") as caught:
        _ = made.last_results
    assert isinstance(caught.value.cause, IndexError)
    with pytest.raises(exceptions.NotFound, match=r"^Last failures not found"):
        _ = made.last_failures
    made.put("SUCCESS", 1)
    made.last_failures["t"] = VALUE
    made.put("SUCCESS", 2)
    assert (made.last_results, made.last_failures) == (2, {})
    assert made.results == [(1, {"t": VALUE}), (2, {})]


# -- details of atoms: update, merge, copy ---------------------------------------------------------------------------


def test_update_takes_everything_over_by_reference(cls):
    source, target = full(cls), cls("b", "v")
    target.put("SUCCESS", 7)
    assert target.update(source) is target
    assert facts(target) == facts(source)
    assert (target.name, target.uuid) == ("b", "v")
    assert target.results is source.results
    assert target.meta is source.meta
    assert source.update(source) is source


@pytest.mark.parametrize("deep_copy", [True, False])
def test_merge_takes_everything_over(cls, deep_copy):
    source, target = full(cls), cls("b", "v")
    target.put("SUCCESS", 7)
    target.meta = {"own": 1}
    assert target.merge(source, deep_copy=deep_copy) is target
    assert facts(target) == facts(source)
    assert (target.name, target.uuid) == ("b", "v")
    assert (target.meta["b"] is source.meta["b"]) is not deep_copy
    assert target.revert_results is source.revert_results


def test_merge_from_an_empty_detail_empties(cls):
    target = full(cls)
    target.merge(cls("a", "u"))
    assert facts(target) == facts(cls("a", "u"))


def test_merge_with_itself_changes_nothing(cls):
    made = full(cls)
    before = facts(made)
    assert made.merge(made, deep_copy=True) is made
    assert facts(made) == before


@pytest.mark.parametrize("deep_copy", [True, False])
def test_merged_histories_grow_apart(deep_copy):
    source, target = full(models.RetryDetail), models.RetryDetail("b")
    target.merge(source, deep_copy=deep_copy)
    target.last_failures["more"] = KEY
    target.put("SUCCESS", 2)
    assert source.results == [([1], {"t": VALUE})]
    assert target.results == [([1], {"t": VALUE, "more": KEY}), (2, {})]


@pytest.mark.parametrize(
    ("target", "source", "kind"),
    [
        (models.TaskDetail("a"), models.RetryDetail("a"), "task"),
        (models.RetryDetail("a"), models.FlowDetail("a", "u"), "retry"),
        (models.RetryDetail("a"), models.TaskDetail("a"), "retry"),
        (models.TaskDetail("a"), 3, "task"),
    ],
)
def test_only_details_of_one_kind_are_merged(target, source, kind):
    with pytest.raises(exceptions.NotImplementedError, match=rf"^Can only merge with other {kind} details$"):
        target.merge(source)


def test_details_of_a_subclass_are_of_the_same_kind(cls):
    class Own(cls):
        __slots__ = ()

    assert cls("a").merge(full(Own)).last_results == [1]
    assert Own("a").merge(full(cls)).last_results == [1]


def test_a_copy_is_equal_and_changes_apart(cls):
    made = full(cls)
    other = made.copy()
    assert type(other) is cls
    assert (other.name, other.uuid, facts(other)) == (made.name, made.uuid, facts(made))
    other.meta["k"] = 1
    other.put("SUCCESS", 2)
    assert facts(made) == facts(full(cls))


def test_a_copy_has_the_identity_that_was_not_asked_for_yet(cls):
    made = cls("a")
    other = made.copy()
    assert other.uuid == made.uuid
    assert other.meta is not made.meta


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_details_can_be_copied_by_the_standard_library(cls, copied):
    made = full(cls)
    other = copied(made)
    assert (other.name, other.uuid, facts(other)["results"]) == (made.name, made.uuid, made.results)


# -- details of atoms: dicts and text --------------------------------------------------------------------------------


def test_a_detail_goes_to_a_dict_and_back(cls):
    made = full(cls)
    data = made.to_dict()
    assert set(data) == {*FACTS, "name", "uuid"}
    other = cls.from_dict(data)
    assert type(other) is cls
    assert other.to_dict() == data
    assert other.last_results == [1]
    assert other.failure.matches(VALUE)
    assert other.revert_failure.matches(KEY)


def test_the_dict_of_a_detail_holds_failures_as_dicts():
    data = full(models.RetryDetail).to_dict()
    assert data["failure"] == VALUE.to_dict()
    assert data["revert_failure"] == KEY.to_dict()
    assert data["results"] == [([1], {"t": VALUE.to_dict()})]
    assert models.TaskDetail("a", "u").to_dict() == {
        "name": "a",
        "uuid": "u",
        "state": None,
        "intention": "EXECUTE",
        "results": None,
        "failure": None,
        "revert_results": None,
        "revert_failure": None,
        "meta": {},
        "version": None,
    }


def test_a_detail_can_be_made_of_little(cls):
    nothing = [] if cls is models.RetryDetail else None
    assert facts(cls.from_dict({"name": "a", "uuid": "u", "unknown": 1})) == facts_with(results=nothing)
    none = dict.fromkeys(FACTS)
    assert facts(cls.from_dict({"name": "a", "uuid": "u", **none})) == facts_with(results=nothing)


def test_a_version_that_came_as_a_list_is_a_tuple(cls):
    assert cls.from_dict({"name": "a", "uuid": "u", "version": [1, 0]}).version == (1, 0)


def test_a_detail_is_shown_in_lines():
    made = full(models.TaskDetail)
    assert made.pformat().split("\n") == [
        "TaskDetail: 'a'",
        " - uuid = u",
        " - state = REVERT_FAILURE",
        " - version = 1.0",
        " - results = [1]",
        " - failure = True",
        " - metadata:",
        "   + b = [1]",
        "   + a = 2",
    ]
    assert models.RetryDetail("r", "u").pformat(indent=2, linesep="|") == (
        "  RetryDetail: 'r'|   - uuid = u|   - state = None|   - version = None|   - results = []|   - failure = False"
    )


@pytest.mark.parametrize(("version", "shown"), [((1, 2), "1.2"), ([1, 2], "1.2"), ("1.2", "1.2"), (None, "None")])
def test_a_version_is_shown_with_dots(cls, version, shown):
    made = cls("a")
    made.version = version
    assert f" - version = {shown}\n" in made.pformat()


def test_kinds_have_names(cls):
    name = models.atom_detail_type(cls("a"))
    assert name in models.ATOM_TYPES == ["RETRY_DETAIL", "TASK_DETAIL"]
    assert models.atom_detail_class(name) is cls


@pytest.mark.parametrize("wrong", ["x", "", None])
def test_an_unknown_kind_is_refused(wrong):
    with pytest.raises(TypeError, match=rf"^Unknown atom type '{wrong}'$"):
        models.atom_detail_class(wrong)


@pytest.mark.parametrize("wrong", [3, models.FlowDetail("f", "u")])
def test_what_is_no_detail_of_an_atom_has_no_kind(wrong):
    with pytest.raises(TypeError, match=r"^Unknown atom '"):
        models.atom_detail_type(wrong)


# -- flow details ----------------------------------------------------------------------------------------------------


def flow_detail(name="f", uuid_="fu"):
    made = models.FlowDetail(name, uuid_)
    made.state = "RUNNING"
    made.meta = {"k": [1]}
    made.add(models.TaskDetail("a", "u1"))
    made.add(models.RetryDetail("r", "u2"))
    return made


def test_a_flow_detail_holds_details_in_order():
    made = flow_detail()
    assert [detail.name for detail in made] == ["a", "r"]
    assert len(made) == 2
    assert made.find("u2").name == "r"
    assert made.find("other") is None
    assert not models.FlowDetail("f", "u")


@pytest.mark.parametrize("look_first", [True, False])
def test_a_detail_of_the_same_identity_replaces_the_one_before(look_first):
    made = flow_detail()
    if look_first:
        assert made.find("u1")
    made.add(models.RetryDetail("again", "u1"))
    assert [detail.name for detail in made] == ["again", "r"]
    assert len(made) == 2
    assert made.find("u1").name == "again"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_details_with_and_without_a_known_identity_are_found(order):
    made = models.FlowDetail("f", "u")
    details = [models.TaskDetail("known", "k"), models.TaskDetail("a"), models.TaskDetail("b")]
    for place in order:
        made.add(details[place])
        assert made.find("nobody") is None
    assert all(made.find(detail.uuid) is detail for detail in details)
    made.add(other := details[1].copy())
    assert len(made) == 3
    assert made.find(other.uuid) is other


def test_details_are_added_without_asking_for_their_identity():
    made = models.FlowDetail("f", "u")
    details = [models.TaskDetail(str(n)) for n in range(3)]
    for detail in details:
        made.add(detail)
    assert [detail.own_uuid for detail in made] == [None] * 3


def test_update_of_a_flow_detail_takes_its_atoms_over_too():
    source, target = flow_detail(), models.FlowDetail("g", "gu")
    target.add(models.TaskDetail("z", "zu"))
    assert target.find("zu")
    assert target.update(source) is target
    assert (target.name, target.uuid, target.state) == ("g", "gu", "RUNNING")
    assert target.meta is source.meta
    assert list(target) == list(source)
    assert target.find("zu") is None
    assert target.find("u1") is source.find("u1")
    assert source.update(source) is source


@pytest.mark.parametrize("deep_copy", [True, False])
def test_merge_of_a_flow_detail_leaves_its_atoms(deep_copy):
    source, target = flow_detail(), models.FlowDetail("g", "gu")
    target.add(models.TaskDetail("z", "zu"))
    target.meta = {"own": 1}
    assert target.merge(source, deep_copy=deep_copy) is target
    assert (target.name, target.state, target.meta) == ("g", "RUNNING", {"k": [1]})
    assert (target.meta["k"] is source.meta["k"]) is not deep_copy
    assert [detail.name for detail in target] == ["z"]
    assert source.merge(source, deep_copy=True) is source


def test_a_copy_of_a_flow_detail_grows_apart():
    made = flow_detail()
    other = made.copy()
    assert (other.name, other.uuid, other.state, other.meta) == ("f", "fu", "RUNNING", {"k": [1]})
    assert list(other) == list(made)
    other.add(models.TaskDetail("b", "u3"))
    other.meta["own"] = 1
    assert len(made) == 2
    assert made.meta == {"k": [1]}
    assert len(made.copy(retain_contents=False)) == 0


def test_a_flow_detail_goes_to_a_dict_and_back():
    assert flow_detail().to_dict() == {"name": "f", "uuid": "fu", "state": "RUNNING", "meta": {"k": [1]}}
    made = models.FlowDetail.from_dict(flow_detail().to_dict())
    assert (made.name, made.uuid, made.state, made.meta, len(made)) == ("f", "fu", "RUNNING", {"k": [1]}, 0)
    little = models.FlowDetail.from_dict({"name": "f", "uuid": "u", "meta": None})
    assert (little.state, little.meta) == (None, {})


# -- books -----------------------------------------------------------------------------------------------------------

CREATED = dt.datetime(2020, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 - books hold naive times in UTC
UPDATED = dt.datetime(2021, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as above


def book(updated_at=UPDATED):
    made = models.LogBook("b", "bu")
    made.meta = {"m": [1]}
    made.add(flow_detail())
    made.created_at, made.updated_at = CREATED, updated_at
    return made


def test_a_new_book_has_an_identity_and_a_time():
    made = models.LogBook("b")
    assert str(uuid.UUID(made.uuid)) == made.uuid
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    assert now - dt.timedelta(minutes=1) < made.created_at <= now
    assert (made.name, made.meta, made.updated_at, len(made)) == ("b", {}, None, 0)
    assert models.LogBook("b", "u").uuid == "u"


def test_adding_to_a_book_updates_it():
    made = models.LogBook("b")
    made.add(flow_detail())
    assert made.created_at <= made.updated_at
    assert made.updated_at.tzinfo is None
    assert [detail.name for detail in made] == ["f"]
    assert made.find("fu").name == "f"
    assert made.find("other") is None


@pytest.mark.parametrize("deep_copy", [True, False])
def test_merge_of_a_book_leaves_its_flows(deep_copy):
    source, target = book(), models.LogBook("c", "cu")
    own = models.FlowDetail("own", "fu")
    target.add(own)
    assert target.merge(source, deep_copy=deep_copy) is target
    assert (target.name, target.uuid, target.created_at, target.updated_at) == ("c", "cu", CREATED, UPDATED)
    assert target.meta == {"m": [1]}
    assert (target.meta["m"] is source.meta["m"]) is not deep_copy
    assert list(target) == [own]
    assert source.merge(source) is source


def test_a_copy_of_a_book_grows_apart():
    made = book()
    other = made.copy()
    assert (other.name, other.uuid, other.created_at, other.updated_at) == ("b", "bu", CREATED, UPDATED)
    assert list(other) == list(made)
    other.add(models.FlowDetail("g", "gu"))
    other.meta["own"] = 1
    assert (len(made), made.meta, made.updated_at) == (1, {"m": [1]}, UPDATED)
    assert len(made.copy(retain_contents=False)) == 0


@pytest.mark.parametrize("make", [book, flow_detail, lambda: full(models.TaskDetail), lambda: full(models.RetryDetail)])
def test_metadata_that_are_set_to_none_are_empty(make):
    made = make()
    made.meta = None
    assert (made.meta, made.copy().meta, copy.deepcopy(made).meta, made.to_dict()["meta"]) == ({}, {}, {}, {})
    assert make().merge(made, deep_copy=True).meta == {}
    made.meta["k"] = 1
    assert made.meta == {"k": 1}


@pytest.mark.parametrize("marshalled", [True, False])
@pytest.mark.parametrize("updated_at", [UPDATED, None])
def test_a_book_goes_to_a_dict_and_back(marshalled, updated_at):
    made = models.LogBook.from_dict(book(updated_at).to_dict(marshal_time=marshalled), unmarshal_time=marshalled)
    assert (made.name, made.uuid, made.meta) == ("b", "bu", {"m": [1]})
    assert (made.created_at, made.updated_at, len(made)) == (CREATED, updated_at, 0)


def test_times_lie_in_stores_in_parts():
    data = book(updated_at=None).to_dict(marshal_time=True)
    parts = {"day": 2, "month": 1, "year": 2020, "hour": 3, "minute": 4, "second": 5, "microsecond": 6}
    assert (data["created_at"], data["updated_at"]) == (parts, None)
    assert book().to_dict()["created_at"] is CREATED


def test_a_book_can_be_made_of_little():
    made = models.LogBook.from_dict({"name": "b", "uuid": "u"}, unmarshal_time=True)
    assert (made.meta, made.created_at, made.updated_at) == ({}, None, None)


def test_a_book_is_shown_with_all_that_is_in_it():
    assert book().pformat().split("\n") == [
        "LogBook: 'b'",
        " - uuid = bu",
        " - metadata:",
        "   + m = [1]",
        " - created_at = 2020-01-02T03:04:05.000006",
        " - updated_at = 2021-01-02T03:04:05",
        " FlowDetail: 'f'",
        "  - uuid = fu",
        "  - state = RUNNING",
        "  - metadata:",
        "    + k = [1]",
        "  TaskDetail: 'a'",
        "   - uuid = u1",
        "   - state = None",
        "   - version = None",
        "   - results = None",
        "   - failure = False",
        "  RetryDetail: 'r'",
        "   - uuid = u2",
        "   - state = None",
        "   - version = None",
        "   - results = []",
        "   - failure = False",
    ]
    empty = models.LogBook("e", "eu")
    empty.created_at = None
    assert empty.pformat(indent=1, linesep="|") == " LogBook: 'e'|  - uuid = eu"


def test_identities_of_atoms_are_uuids_and_all_differ():
    made = [models.TaskDetail(f"{i}").uuid for i in range(1_000)]
    for _ in range(3):
        models.FlowDetail("flow", models.make_uuid())
        made += [models.TaskDetail(f"{i}").uuid for i in range(1_000)]
    assert len(set(made)) == 4_000
    assert {str(uuid.UUID(each)) for each in made} == set(made)
    assert {uuid.UUID(each).version for each in made} == {4}
    assert len({each[:24] for each in made}) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_identities_go_on_when_a_signal_handler_has_raised_while_one_was_made(monkeypatch):
    series = details._Series()
    before = series.next()

    def interrupted():
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(series, "_identities", itertools.chain.from_iterable(interrupted()))
    with pytest.raises(KeyboardInterrupt):
        series.next()
    assert series.next() != before
