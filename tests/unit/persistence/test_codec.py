"""Values and whole details as JSON text: what comes back, and what is refused with its place."""

from __future__ import annotations

import collections
import json
import math
import sys
import time

import pytest
from hypothesis import given, strategies as st

from taskflowx import exceptions
from taskflowx.persistence import codec, models
from taskflowx.types.failure import Failure

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
plain = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Part(float):
    pass


class Opaque:
    """What JSON has no form for."""


@given(plain)
def test_plain_values_come_back_equal(value):
    assert codec.loads(codec.dumps(value, "it")) == value


@pytest.mark.parametrize("value", ["\ud800", "\x00", "ü 漢 🎈", 10**400, -0.0])
def test_text_is_ascii_and_exact(value):
    text = codec.dumps(value, "it")
    assert text.isascii()
    back = codec.loads(text)
    assert (back, type(back), math.copysign(1, back) if value == 0 else 1) == (
        value,
        type(value),
        math.copysign(1, value) if value == 0 else 1,
    )


def test_numbers_that_are_none_come_back():
    nan, more, less = codec.loads(codec.dumps([math.nan, math.inf, -math.inf], "it"))
    assert math.isnan(nan)
    assert (more, less) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (time.gmtime(0), (1970, 1, 1, 0, 0, 0, 3, 1, 0)),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
        ([Text("t"), Whole(3), Part(0.5)], ["t", 3, 0.5]),
        ({Text("k"): 1, "a": Text("k")}, {"k": 1, "a": "k"}),
    ],
)
def test_what_is_of_a_subclass_comes_back_as_its_base(value, back):
    got = codec.loads(codec.dumps(value, "it"))
    assert got == back
    assert type(got) is type(back)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Opaque(), f"the value is of type {__name__}.Opaque"),
        ([1, Opaque], "the value at [1] is of type type"),
        ({"a": {"b": [0, 1, Opaque()]}}, f"the value at ['a']['b'][2] is of type {__name__}.Opaque"),
        ({"it's": (0, object())}, 'the value at ["it\'s"][1] is of type object'),
        (Failure.from_exception(ValueError("v")), "the value is of type taskflowx.types.failure.Failure"),
        ({1, object}, "the value at {…} is of type type"),
        ({Opaque: 1}, f"the value at [the key <class '{__name__}.Opaque'>] is of type type"),
        ({(1, 2): Opaque()}, f"the value at [(1, 2)] is of type {__name__}.Opaque"),
        # The first one is named, in the order in which the value is written.
        ([1, object(), Opaque()], "the value at [1] is of type object"),
        ({"a": [0, object()], "b": Opaque()}, "the value at ['a'][1] is of type object"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_would_not_come_back_is_refused_with_its_place(value, problem):
    with pytest.raises(exceptions.StorageFailure) as caught:
        codec.dumps(value, "result of atom 'x'")
    first, second, *_ = str(caught.value).splitlines()
    assert first.startswith(f"Cannot store result of atom 'x': {problem}")
    assert "inject(..., transient=True)" in second
    assert "codec.register(type, encode, decode)" in second


def test_what_contains_itself_is_refused():
    value = {"a": [0]}
    value["a"].append({"b": value})
    with pytest.raises(exceptions.StorageFailure, match=r"the value at \['a'\]\[1\]\['b'\] contains itself"):
        codec.dumps(value, "it")


def test_what_is_there_twice_does_not_contain_itself():
    shared = [1]
    assert codec.loads(codec.dumps([shared, {"a": shared}], "it")) == [[1], {"a": [1]}]


def nested(levels, kind):
    """Give a value of so many levels of lists, dicts, or both in turn."""
    value = 1
    for level in range(levels):
        value = {"a": value, "b": 2} if kind == "dicts" or (kind == "both" and level % 2) else [0, value]
    return value


@pytest.mark.parametrize("kind", ["lists", "dicts", "both"])
@pytest.mark.parametrize("levels", [codec.DEEPEST + 1, 900, 100_000])
def test_what_is_nested_too_deeply_is_refused(levels, kind):
    value = nested(levels, kind)
    with pytest.raises(exceptions.Unstorable, match="is nested too deeply, more than 200 levels") as caught:
        codec.dumps(value, "it")
    assert len(str(caught.value)) < 500
    while isinstance(value, (list, dict)):  # taken apart by hand: to forget it at once is deep as well
        value = value.pop() if isinstance(value, list) else value.pop("a")


@pytest.mark.parametrize("kind", ["lists", "dicts", "both"])
def test_what_is_nested_as_deeply_as_it_may_be_comes_back_wherever_it_is_asked_for(kind):
    value = nested(codec.DEEPEST, kind)

    def below(frames):
        if frames:
            return below(frames - 1)
        detail = models.RetryDetail("r", "r")
        detail.results = [(value, {})]
        detail.meta = {"m": 1}
        kept = codec.loads(codec.dump_atom(detail))
        return codec.loads(codec.dumps(value, "it")), codec.load_atom(kept).results[0][0]

    for frames in (0, 400, sys.getrecursionlimit() - 200):
        assert below(frames) == (value, value)


def test_the_error_of_the_encoder_is_the_cause():
    with pytest.raises(exceptions.StorageFailure) as caught:
        codec.dumps(Opaque(), "it")
    assert isinstance(caught.value.cause, TypeError)
    assert caught.value.__cause__ is caught.value.cause


@pytest.mark.parametrize("text", ["", "{", "nope", b"\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot read what is stored, it is no JSON: ") as caught:
        codec.loads(text)
    assert caught.value.cause is not None


def test_a_failure_with_an_argument_that_is_nested_too_deeply_can_be_stored():
    for value in (nested(codec.DEEPEST, "lists"), nested(101, "dicts")):
        detail = models.TaskDetail("t", "t")
        detail.put("FAILURE", Failure.from_exception(ValueError("v", value, [[1]], {'a"': '["' * 200})))
        back = codec.load_atom(codec.loads(codec.dump_atom(detail)))
        text, note, kept, letters = back.failure.exception_args
        assert (text, kept, letters) == ("v", [[1]], {'a"': '["' * 200})
        assert note == f"<not kept, nested too deeply: {type(value).__name__}>"


# -- whole details ---------------------------------------------------------------------------------------------------


def failure():
    """Give a failure with a cause and a traceback."""
    try:
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise KeyError("outer") from error
    except KeyError:
        return Failure()


def test_the_detail_of_a_task_comes_back():
    made = models.TaskDetail("ü", "u")
    made.put("SUCCESS", {"a": [1]})
    made.put("REVERT_FAILURE", failure())
    made.failure, made.meta, made.version, made.intention = failure(), {"progress": 0.5}, "1.0", "REVERT"
    back = codec.load_atom(codec.loads(codec.dump_atom(made)))
    assert isinstance(back, models.TaskDetail)
    assert json.dumps(back.to_dict()) == json.dumps(made.to_dict())
    assert back.failure.matches(made.failure)


def test_the_detail_of_a_retry_comes_back():
    made = models.RetryDetail("r", "u")
    made.put("SUCCESS", [1])
    made.last_failures["t"] = failure()
    made.put("SUCCESS", None)
    back = codec.load_atom(codec.loads(codec.dump_atom(made)))
    assert isinstance(back, models.RetryDetail)
    assert [value for value, _ in back.results] == [[1], None]
    assert back.results[0][1]["t"].matches(made.results[0][1]["t"])
    assert back.last_failures == {}


def test_flows_and_books_come_back_without_what_is_in_them():
    made = models.FlowDetail("f", "u")
    made.state, made.meta = "RUNNING", {"a": [1]}
    made.add(models.TaskDetail("t"))
    back = codec.load_flow(codec.loads(codec.dump_flow(made)))
    assert (back.to_dict(), len(back)) == (made.to_dict(), 0)
    book = models.LogBook("b", "u")
    book.meta = {"b": 1}
    book.add(made)
    back = codec.load_book(codec.loads(codec.dump_book(book)))
    assert (back.to_dict(), len(back)) == (book.to_dict(), 0)


def test_a_store_may_keep_more_in_a_record():
    task, flow, book = models.TaskDetail("t", "u"), models.FlowDetail("f", "u"), models.LogBook("b", "u")
    for dump, load, made in (
        (codec.dump_atom, codec.load_atom, task),
        (codec.dump_flow, codec.load_flow, flow),
        (codec.dump_book, codec.load_book, book),
    ):
        record = codec.loads(dump(made, index=3))
        assert record["index"] == 3
        assert load(record).uuid == "u"


def test_records_have_taskflows_names():
    made = models.TaskDetail("t", "u")
    made.put("FAILURE", Failure.from_exception(ValueError("v")))
    assert codec.loads(codec.dump_atom(made)) == {
        "type": "TASK_DETAIL",
        "atom": {
            "name": "t",
            "uuid": "u",
            "state": "FAILURE",
            "intention": "EXECUTE",
            "results": None,
            "revert_results": None,
            "revert_failure": None,
            "meta": {},
            "version": None,
            "failure": {
                "exception_str": "v",
                "traceback_str": "",
                "exc_type_names": ["ValueError", "Exception"],
                "version": 1,
                "exc_args": ["v"],
                "causes": [],
            },
        },
    }
    assert codec.loads(codec.dump_atom(models.RetryDetail("r", "u")))["type"] == "RETRY_DETAIL"
    assert set(codec.loads(codec.dump_flow(models.FlowDetail("f", "u")))) == {"name", "uuid", "state", "meta"}
    book = codec.loads(codec.dump_book(models.LogBook("b", "u")))
    assert set(book) == {"name", "uuid", "meta", "created_at", "updated_at"}
    assert set(book["created_at"]) == {"year", "month", "day", "hour", "minute", "second", "microsecond"}


def test_the_parts_of_a_detail_are_given_one_by_one():
    made = models.TaskDetail("t", "u")
    made.put("SUCCESS", [1, 2])
    assert codec.dump_atom_values(made) == {
        "results": "[1,2]",
        "revert_results": None,
        "failure": None,
        "revert_failure": None,
        "meta": "{}",
        "version": None,
    }


def detail(cls, name, part, value):
    made = cls(name, "u")
    setattr(made, part, value)
    return made


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (detail(models.TaskDetail, "t", "results", Opaque()), "result of atom 't': the value is"),
        (detail(models.TaskDetail, "t", "revert_results", Opaque()), "revert result of atom 't': the value is"),
        (detail(models.TaskDetail, "t", "meta", {"a": Opaque()}), "metadata of atom 't': the value at ['a'] is"),
        (detail(models.TaskDetail, "t", "version", Opaque()), "version of atom 't': the value is"),
        (detail(models.RetryDetail, "r", "results", [(Opaque(), {})]), "history of retry 'r': the value at [0][0] is"),
        (
            detail(models.TaskDetail, "_TaskFlow_INJECTOR", "results", {"db": Opaque()}),
            "the values given to the flow: the value at ['db'] is",
        ),
        (detail(models.FlowDetail, "f", "meta", {"a": Opaque()}), "metadata of flow 'f': the value at ['a'] is"),
        (detail(models.LogBook, "b", "meta", {"a": Opaque()}), "metadata of book 'b': the value at ['a'] is"),
    ],
)
def test_the_part_that_cannot_be_stored_is_named(made, what):
    dump = {models.FlowDetail: codec.dump_flow, models.LogBook: codec.dump_book}.get(type(made), codec.dump_atom)
    with pytest.raises(exceptions.StorageFailure) as caught:
        dump(made)
    assert str(caught.value).startswith(f"Cannot store {what} of type {__name__}.Opaque\n")


@pytest.mark.parametrize(
    ("load", "record"),
    [
        (codec.load_atom, []),
        (codec.load_atom, {}),
        (codec.load_atom, {"type": "TASK_DETAIL"}),
        (codec.load_atom, {"type": "TASK_DETAIL", "atom": {"name": "t"}}),
        (codec.load_atom, {"type": "OTHER", "atom": {"name": "t", "uuid": "u"}}),
        (codec.load_atom, {"type": "TASK_DETAIL", "atom": {"name": "t", "uuid": "u", "failure": {"version": 99}}}),
        (codec.load_atom, {"type": "RETRY_DETAIL", "atom": {"name": "t", "uuid": "u", "results": [1]}}),
        (codec.load_flow, None),
        (codec.load_flow, {"name": "f"}),
        (codec.load_book, "b"),
        (codec.load_book, {"name": "b", "uuid": "u", "created_at": {"year": 2020}}),
    ],
)
def test_what_is_no_record_is_refused(load, record):
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot read .* from what is stored: ") as caught:
        load(record)
    assert caught.value.cause is not None
