"""Failure: cheap to make, survives pickle and JSON as a description, raises what it was made from."""

from __future__ import annotations

import asyncio
import copy
import enum
import json
import pickle
import sys
import traceback
import weakref
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from taskflowx import exceptions
from taskflowx.types import failure_parts
from taskflowx.types.failure import Failure


class BaseError(Exception):
    pass


class DerivedError(BaseError, KeyError):
    pass


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class WrongTextError(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307 - the mistake is the point


class NoArgsError(Exception):
    @property
    def args(self):
        raise RuntimeError("no args")


class NeedsArgumentsError(Exception):
    """Cannot be unpickled, since it is made with other arguments than it keeps."""

    def __init__(self, first, *, second):
        super().__init__(f"{first} {second}")


class Code(enum.IntEnum):
    NOT_FOUND = 404


def caught(exception):
    try:
        raise exception
    except type(exception):
        return Failure()


def chained():
    """Return a failure with two causes: one given by `from`, and one that was being handled."""
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError as first:
                raise ValueError("second") from first
        except ValueError:
            raise RuntimeError("third")  # noqa: B904 - the context is the point
    except RuntimeError:
        return Failure()


def through_dict(fail):
    return Failure.from_dict(fail.to_dict())


def through_json(fail):
    return Failure.from_dict(json.loads(json.dumps(fail.to_dict())))


def through_pickle(fail):
    return pickle.loads(pickle.dumps(fail))


RELOADS = pytest.mark.parametrize("reload", [through_dict, through_json, through_pickle])
STORES = pytest.mark.parametrize("reload", [through_dict, through_json])
COPIES = pytest.mark.parametrize("duplicate", [Failure.copy, copy.copy, copy.deepcopy])

DESCRIPTION = {
    "version": 1,
    "exception_str": "text",
    "exc_type_names": ["ValueError", "Exception"],
    "traceback_str": "trace",
    "exc_args": ["text"],
    "causes": [],
}


def described(**changes):
    return {**DESCRIPTION, **changes}


def without(*names):
    return {name: value for name, value in DESCRIPTION.items() if name not in names}


# --------------------------------------------------------------------------------------------- how it is made


def test_it_takes_the_exception_that_is_being_handled():
    error = RuntimeError("Woot!")
    try:
        raise error
    except RuntimeError:
        fail = Failure()
        info = sys.exc_info()
    assert fail.exception is error
    assert fail.exc_info == info
    assert fail._exc_info == info


def test_it_takes_what_sys_exc_info_gives():
    error = RuntimeError("Woot!")
    fail = Failure((RuntimeError, error, None))
    assert fail.exception is error
    assert Failure([RuntimeError, error, None]).exc_info == (RuntimeError, error, None)


def test_it_is_made_from_an_exception_and_the_traceback_that_this_has_now():
    error = RuntimeError("Woot!")
    before = Failure.from_exception(error)
    assert before.exc_info == (RuntimeError, error, None)
    at_raise = caught(error)
    assert Failure.from_exception(error).exc_info == at_raise.exc_info
    assert before.exc_info[2] is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_is_refused(kind):
    message = f"Invalid exception type '{kind}'"
    with pytest.raises(TypeError, match=message):
        Failure.from_exception(kind())
    with pytest.raises(TypeError, match=message):
        Failure((kind, kind(), None))
    with pytest.raises(TypeError, match=message):
        caught(kind())


def test_a_class_or_another_object_is_refused_in_place_of_an_exception():
    with pytest.raises(TypeError, match="Invalid exception type '<class 'type'>'"):
        Failure.from_exception(ValueError)
    with pytest.raises(TypeError, match="Invalid exception type '<class 'int'>'"):
        Failure.from_exception(7)
    with pytest.raises(TypeError, match="Invalid exception type 'a'"):
        Failure("abc")


def test_outside_of_a_handler_there_is_nothing_to_be_made_from():
    with pytest.raises(TypeError, match="Invalid exception type 'None'"):
        Failure()


def test_a_triple_of_the_wrong_parts_is_refused():
    with pytest.raises(ValueError, match="must contain three elements"):
        Failure((ValueError, ValueError("x")))
    with pytest.raises(TypeError, match="Invalid exception 'None'"):
        Failure((ValueError, None, None))
    with pytest.raises(TypeError, match="Invalid traceback '3'"):
        Failure((ValueError, ValueError("x"), 3))


def test_it_is_made_from_the_description_of_an_exception():
    fail = Failure(exception_str="text", exc_type_names=["ValueError", "Exception"], traceback_str="trace")
    assert str(fail) == "Failure: ValueError: text"
    assert list(fail) == ["ValueError", "Exception"]
    assert fail.traceback_str == "trace"
    assert fail.exception_args == ()
    assert fail.causes == ()
    assert fail.exception is None


def test_a_description_may_have_arguments_and_causes_and_leaves_these_as_they_are():
    cause = chained()
    fail = Failure(exception_str="text", exc_args=(1, 2), causes=[cause, caught(OSError("last"))])
    assert fail.exception_args == (1, 2)
    assert [str(f) for f in fail.causes] == ["Failure: RuntimeError: third", "Failure: OSError: last"]
    assert [f.exception_str for f in cause.causes] == ["second", "'first'"]


def test_the_causes_of_a_description_are_failures():
    with pytest.raises(TypeError, match=r"^Each of causes must be a Failure, not \{'a': 1\}"):
        Failure(exception_str="text", causes=[{"a": 1}])


def test_it_can_be_referred_to_weakly():
    fail = caught(ValueError("v"))
    assert weakref.ref(fail)() is fail


def test_a_description_needs_a_text_and_has_no_unknown_parts():
    with pytest.raises(TypeError, match="needs 'exception_str'"):
        Failure(exc_type_names=["ValueError"])
    with pytest.raises(TypeError, match=r"got unexpected keyword argument\(s\): bar, foo"):
        Failure(exception_str="text", foo=1, bar=2)


# ---------------------------------------------------------------------------------------------- what it costs


def test_nothing_is_formatted_before_it_is_asked_for(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("worked out too early")

    class ShyError(Exception):
        __str__ = refuse

    monkeypatch.setattr(traceback, "format_tb", refuse)
    monkeypatch.setattr(failure_parts, "type_names_of", refuse)
    monkeypatch.setattr(failure_parts, "causes_of", refuse)
    fail = caught(ShyError())
    other = Failure.from_exception(fail.exception)
    assert fail.copy().exception is other.exception
    with pytest.raises(ShyError):
        fail.reraise()


def calls_made_by(function):
    count = 0

    def note(frame, event, arg):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_making_one_costs_the_same_however_deep_and_long_the_exception_is():
    def deep(n):
        if n:
            deep(n - 1)
        raise ValueError("deep") from last

    last = None
    for n in range(300):
        cause = ValueError(n)
        cause.__cause__ = last
        last = cause
    with pytest.raises(ValueError, match="deep") as shown:
        deep(200)
    shallow, long = ValueError("shallow"), shown.value
    costs = [calls_made_by(lambda e=e: Failure.from_exception(e)) for e in (shallow, long)]
    assert costs[0] == costs[1] <= 4  # with the lambda and the switching off


def test_the_text_is_had_without_the_traceback(monkeypatch):
    monkeypatch.setattr(traceback, "format_tb", None)
    fail = caught(DerivedError("k"))
    assert str(fail).endswith("DerivedError: 'k'")
    assert fail.check(KeyError)
    assert not fail.matches(caught(DerivedError("other")))


def test_the_traceback_is_formatted_once(monkeypatch):
    made = []
    monkeypatch.setattr(traceback, "format_tb", lambda trace: made.append(trace) or ["trace\n"])
    fail = caught(ValueError("v"))
    fail.to_dict()
    assert fail.traceback_str == "trace\n"
    assert fail.to_dict()["traceback_str"] == "trace\n"
    assert made == [fail.exc_info[2]]


def test_a_chain_of_causes_takes_as_many_records_as_it_has_members():
    first = last = ValueError("0")
    for n in range(1, 3000):
        last.__cause__ = ValueError(str(n))
        last = last.__cause__
    fail = Failure.from_exception(first)
    assert len(fail.causes) == 2999
    assert len(json.dumps(fail.to_dict())) < 3000 * 250
    for other in (through_dict(fail), through_json(fail), through_pickle(fail), copy.deepcopy(fail)):
        assert len(other.causes) == 2999
        assert len(other.causes[2000].causes) == 998
        assert other.matches(fail)


# ----------------------------------------------------------------------------------------------- what it says


def test_its_text_is_type_and_message():
    assert str(caught(RuntimeError("Woot!"))) == "Failure: RuntimeError: Woot!"
    assert repr(caught(RuntimeError("Woot!"))) == "<Failure: RuntimeError: Woot!>"
    assert str(caught(ValueError())) == "Failure: ValueError: "
    assert str(caught(ValueError("a", "b"))) == "Failure: ValueError: ('a', 'b')"
    assert str(caught(exceptions.NotFound("n"))) == "Failure: taskflowx.exceptions.NotFound: n"
    assert str(Failure(exception_str="text")) == "Failure: text"


def test_text_and_arguments_are_the_exceptions():
    fail = caught(ValueError("a", 2))
    assert fail.exception_str == "('a', 2)"
    assert fail.exception_args == ("a", 2)


def test_pformat_adds_the_traceback_on_demand():
    fail = caught(RuntimeError("Woot!"))
    assert fail.pformat() == str(fail)
    first, second, *rest = fail.pformat(traceback=True).split("\n")
    assert first == "Failure: RuntimeError: Woot!"
    assert second == "Traceback (most recent call last):"
    assert "\n".join(rest) == fail.traceback_str.rstrip()


def test_the_traceback_is_that_of_the_exception_without_headline_and_causes():
    fail = chained()
    assert fail.traceback_str == "".join(traceback.format_tb(fail.exc_info[2]))
    assert "in chained" in fail.traceback_str
    assert "first" not in fail.traceback_str


@RELOADS
def test_the_traceback_of_a_group_shows_its_members_with_theirs(reload):
    group = caught(ExceptionGroup("two", [caught(ValueError("first")).exception, KeyError("second")]))
    shown = reload(group).pformat(traceback=True)
    assert shown == group.pformat(traceback=True)
    assert shown.startswith(
        "Failure: ExceptionGroup: two (2 sub-exceptions)\nTraceback (most recent call last):\n  File "
    )
    assert "    | ValueError: first\n" in shown
    assert "    | KeyError: 'second'\n" in shown
    assert shown.count("in caught") == 2


@RELOADS
def test_the_traceback_shows_the_notes_of_the_exception(reload):
    error = ValueError("v")
    error.add_note("and why")
    assert reload(caught(error)).traceback_str.endswith("ValueError: v\nand why\n")


def test_notes_of_the_wrong_kind_do_no_harm():
    error = ValueError("v")
    error.__notes__ = 7
    fail = caught(error)
    assert "in caught" in fail.traceback_str
    assert through_pickle(fail).matches(fail)


@pytest.mark.parametrize(
    "fail",
    [
        Failure.from_exception(ValueError("v")),
        Failure(exception_str="v", exc_type_names=["ValueError"], traceback_str=None),
        Failure(exception_str="v", exc_type_names=["ValueError"], traceback_str=""),
    ],
    ids=["never raised", "none", "empty"],
)
def test_a_traceback_that_is_not_there_is_said_to_be_missing(fail):
    assert not fail.traceback_str
    assert fail.pformat(traceback=True) == "Failure: ValueError: v\nTraceback not available."


def test_the_traceback_stays_that_of_the_moment_when_it_was_made():
    fail = caught(ValueError("v"))
    depth = len(traceback.extract_tb(fail.exc_info[2]))
    for _ in range(3):
        with pytest.raises(ValueError, match="v"):
            fail.reraise()
    assert len(traceback.extract_tb(fail.exc_info[2])) == depth
    assert fail.traceback_str.count("File ") == depth


def test_it_iterates_over_the_names_of_the_class_and_its_bases_down_to_exception():
    here = __name__
    assert list(caught(RuntimeError("r"))) == ["RuntimeError", "Exception"]
    assert list(caught(DerivedError("d"))) == [
        f"{here}.DerivedError",
        f"{here}.BaseError",
        "KeyError",
        "LookupError",
        "Exception",
    ]
    assert list(caught(ExceptionGroup("g", [ValueError("v")]))) == ["ExceptionGroup", "Exception"]


def test_check_answers_with_the_first_given_class_or_name_that_it_is_of():
    fail = caught(DerivedError("d"))
    assert fail.check(KeyError) is KeyError
    assert fail.check(OSError, "LookupError", KeyError) == "LookupError"
    assert fail.check(f"{__name__}.BaseError") == f"{__name__}.BaseError"
    assert fail.check(Exception) is Exception
    assert fail.check(LookupError, KeyError) is LookupError


def test_check_answers_none_for_all_else():
    fail = caught(DerivedError("d"))
    assert fail.check() is None
    assert fail.check(OSError, BaseException, "builtins.KeyError", "DerivedError") is None
    assert fail.check(None, 3, (KeyError,)) is None


@RELOADS
def test_check_works_after_a_reload(reload):
    other = reload(caught(DerivedError("d")))
    assert other.check(OSError, DerivedError) is DerivedError
    assert other.check("KeyError") == "KeyError"
    assert other.check(OSError) is None


@pytest.mark.parametrize("package", ["taskflow", "taskflowx"])
def test_what_taskflow_wrote_is_checked_by_its_name_and_ours(package):
    theirs = [f"{package}.exceptions.NotFound", f"{package}.exceptions.TaskFlowException", "Exception"]
    for fail in (
        Failure(exception_str="n", exc_type_names=theirs, traceback_str=""),
        caught(exceptions.NotFound("n")),
    ):
        assert fail.check(OSError, exceptions.NotFound) is exceptions.NotFound
        assert fail.check("taskflow.exceptions.NotFound") == "taskflow.exceptions.NotFound"
        assert fail.check("taskflowx.exceptions.TaskFlowException") == "taskflowx.exceptions.TaskFlowException"
        assert fail.check("taskflow.exceptions.Duplicate", "NotFound", "taskflow") is None


def test_names_are_kept_as_they_were_written():
    fail = Failure(exception_str="n", exc_type_names=["taskflow.exceptions.NotFound"], traceback_str="")
    assert str(fail) == "Failure: taskflow.exceptions.NotFound: n"
    assert fail.to_dict()["exc_type_names"] == ["taskflow.exceptions.NotFound"]
    assert list(fail) == ["taskflow.exceptions.NotFound"]


# ----------------------------------------------------------------------------------------------------- causes


def test_causes_are_all_that_led_to_it_nearest_first():
    fail = chained()
    assert [str(f) for f in fail.causes] == ["Failure: ValueError: second", "Failure: KeyError: 'first'"]
    assert [str(f) for f in fail.causes[0].causes] == ["Failure: KeyError: 'first'"]
    assert fail.causes[1].causes == ()
    assert all(f.exception is not None and f.traceback_str for f in fail.causes)


def test_a_given_cause_comes_before_what_was_being_handled():
    error = ValueError("v")
    error.__context__ = KeyError("context")
    error.__cause__ = OSError("cause")
    assert [f.exception_str for f in caught(error).causes] == ["cause"]


def test_a_suppressed_context_is_no_cause():
    error = ValueError("v")
    error.__context__ = KeyError("context")
    assert len(caught(error).causes) == 1
    error.__suppress_context__ = True
    assert caught(error).causes == ()


def test_a_circle_of_causes_ends_where_it_began():
    first, second, third = ValueError("1"), ValueError("2"), ValueError("3")
    first.__cause__, second.__cause__, third.__cause__ = second, third, second
    fail = Failure.from_exception(first)
    assert [f.exception_str for f in fail.causes] == ["2", "3"]
    third.__cause__ = first
    assert [f.exception_str for f in Failure.from_exception(first).causes] == ["2", "3"]
    assert fail.to_dict()["causes"][1]["exception_str"] == "3"


@RELOADS
def test_what_is_no_exception_may_be_a_cause(reload):
    error = ValueError("v")
    error.__context__ = KeyboardInterrupt("stop")
    fail = caught(error)
    Failure.validate(fail.to_dict())
    for one in (fail, reload(fail)):
        assert [str(f) for f in one.causes] == ["Failure: KeyboardInterrupt: stop"]
        assert list(one.causes[0]) == ["KeyboardInterrupt", "BaseException"]


@RELOADS
def test_causes_survive_a_reload(reload):
    fail = chained()
    other = reload(fail)
    assert [str(f) for f in other.causes] == [str(f) for f in fail.causes]
    assert [str(f) for f in other.causes[0].causes] == ["Failure: KeyError: 'first'"]
    assert [f.traceback_str for f in other.causes] == [f.traceback_str for f in fail.causes]
    assert all(f.exception is None for f in other.causes)  # a pickle brings only that of the failure itself


# -------------------------------------------------------------------------------------------- wild exceptions


@pytest.mark.parametrize(
    "error",
    [
        UnprintableError(object()),
        WrongTextError(object()),
        NoArgsError("a"),
        NeedsArgumentsError("a", second="b"),
        ValueError(object(), lambda: None, float("nan"), 10**5000, {(1, 2): 3}, "\ud800"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        OSError(2, "No such file", "name"),
        ExceptionGroup("group", [ValueError("v")]),
    ],
    ids=lambda error: type(error).__name__,
)
@RELOADS
def test_no_exception_is_too_wild_to_be_described_stored_and_compared(error, reload):
    fail = caught(error)
    other = reload(fail)
    assert other.matches(fail)
    assert fail.matches(other)
    assert str(other) == str(fail)
    assert other.to_dict() == fail.to_dict()
    Failure.validate(other.to_dict())


def test_a_text_that_cannot_be_had_is_replaced():
    assert caught(UnprintableError()).exception_str == "<exception str() failed>"
    assert caught(WrongTextError()).exception_str == "<exception str() failed>"
    assert caught(NoArgsError()).exception_args == ()


def test_arguments_that_cannot_be_stored_are_replaced_by_a_note_in_their_place():
    fail = caught(ValueError("a", object(), 3, float("inf"), b"bytes"))
    stored = ("a", "<not kept: object>", 3, "<not kept: float>", "<not kept: bytes>")
    assert fail.to_dict()["exc_args"] == stored
    assert through_dict(fail).exception_args == stored
    assert fail.exception_args[4] == b"bytes"


def test_an_argument_whose_class_misbehaves_when_it_is_stored_is_replaced_too():
    class Wild(dict):
        def __len__(self):
            return 1

        def items(self):
            raise RuntimeError("no items")

    endless = []
    endless.append(endless)
    stored = caught(ValueError(Wild(a=1), endless)).to_dict()["exc_args"]
    assert stored == (f"<not kept: {__name__}.Wild>", "<not kept: list>")


def test_arguments_are_stored_as_they_read_after_json():
    fail = caught(ValueError(("a", 1), Code.NOT_FOUND, {1: None}, True, 2.5))
    stored = (["a", 1], 404, {"1": None}, True, 2.5)
    assert fail.to_dict()["exc_args"] == stored
    assert type(fail.to_dict()["exc_args"][1]) is int
    assert through_json(fail).to_dict()["exc_args"] == stored


# ----------------------------------------------------------------------------------------- reload and compare


@STORES
def test_a_failure_out_of_a_store_has_no_exception(reload):
    other = reload(chained())
    assert other.exception is None
    assert other.exc_info is None
    assert other._exc_info is None


@RELOADS
def test_a_reloaded_failure_says_the_same(reload):
    fail = chained()
    other = reload(fail)
    assert str(other) == str(fail)
    assert list(other) == list(fail)
    assert other.exception_str == fail.exception_str
    assert other.exception_args == fail.exception_args
    assert other.traceback_str == fail.traceback_str
    assert other.to_dict() == fail.to_dict()


@STORES
def test_a_failure_out_of_a_store_matches_the_first_and_equals_another_reload_only(reload):
    fail = chained()
    other = reload(fail)
    assert other.matches(fail)
    assert fail.matches(other)
    assert other != fail
    assert fail != other
    assert other == through_dict(fail)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_with_each_protocol(protocol):
    fail = chained()
    assert pickle.loads(pickle.dumps(fail, protocol)).matches(fail)


# --------------------------------------------------------------------------- its exception in a pickle


class WordedError(Exception):
    """Comes from a pickle with its words doubled, since what it is made with is not what it passes on."""

    def __init__(self, number):
        super().__init__(f"number {number}")
        self.number = number


class ImpostorError(Exception):
    def __reduce__(self):
        return str, ("not an exception",)


class HolderError(Exception):
    held = None


def test_a_pickled_failure_brings_its_exception_and_equals_the_first():
    fail = chained()
    other = through_pickle(fail)
    assert type(other.exception) is RuntimeError
    assert other.exception_args == ("third",)
    assert other.exc_info == (RuntimeError, other.exception, None)
    assert other == fail
    assert through_pickle(other) == fail
    with pytest.raises(RuntimeError, match="third"):
        other.reraise()


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (NeedsArgumentsError("a", second="b"), {}),
        (WordedError(3), {"number": 3}),
        (ImpostorError("i"), {}),
        (OSError(2, "No such file", "name"), {}),
        (SyntaxError("bad", ("name", 1, 2, "x = =")), {}),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), {}),
        (exceptions.DisallowedAccess("no", state="RUNNING"), {"_cause": None, "state": "RUNNING"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_comes_from_a_pickle_as_it_was_whatever_its_constructor_asks_for(error, attributes):
    again = through_pickle(Failure.from_exception(error)).exception
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == attributes


def no_class_to_be_found():
    class HiddenError(Exception):
        pass

    return HiddenError("h")


@pytest.mark.parametrize("error", [ValueError(lambda: None), no_class_to_be_found()], ids=lambda e: type(e).__name__)
def test_an_exception_that_does_not_come_back_from_a_pickle_is_left_behind(error):
    fail = caught(error)
    other = through_pickle(fail)
    assert other.exception is None
    assert other.matches(fail)


def test_an_exception_of_a_class_that_is_gone_where_the_pickle_is_read_is_left_behind(monkeypatch):
    fail = caught(WordedError(3))
    data = pickle.dumps(fail)
    monkeypatch.delattr(f"{__name__}.WordedError", raising=True)
    assert pickle.loads(data).exception is None
    assert pickle.loads(data).matches(fail)


def test_an_exception_that_holds_its_own_failure_is_pickled_once():
    error = HolderError("h")
    error.held = Failure.from_exception(error)
    other = through_pickle(error.held)
    assert type(other.exception) is HolderError
    assert other.exception.held.exception is None
    assert other.exception.held.matches(error.held)


def test_what_was_raised_elsewhere_says_where_and_says_it_once():
    fail = caught(WordedError(3))
    other = through_pickle(through_pickle(fail))
    [note] = other.exception.__notes__
    assert note == f"Raised elsewhere, with this traceback:\n{fail.traceback_str}"
    assert other.traceback_str == fail.traceback_str
    assert "in caught" in note


def test_failures_of_one_exception_are_equal():
    error = ValueError("v")
    first = caught(error)
    second = Failure.from_exception(error)
    assert first == second
    assert first.matches(second)
    assert not first != second  # noqa: SIM202 - asks `!=`


def test_failures_of_one_exception_before_and_after_it_was_raised_are_not_equal():
    error = ValueError("v")
    assert Failure.from_exception(error) != caught(error)


def test_failures_of_equal_exceptions_from_the_same_place_are_equal():
    assert chained() == chained()
    assert Failure.from_exception(ValueError("v")) == Failure.from_exception(ValueError("v"))


@pytest.mark.parametrize(
    "other",
    [
        caught(ValueError("other")),
        caught(KeyError("v")),
        caught(ValueError("v", "w")),
        Failure.from_exception(ValueError("v")),
        caught(type("ValueError", (ValueError,), {})("v")),
    ],
    ids=["text", "type", "arguments", "traceback", "derived type"],
)
def test_failures_that_differ_in_anything_are_not_equal(other):
    fail = caught(ValueError("v"))
    assert fail != other
    assert not fail.matches(other)
    assert not through_dict(fail).matches(other)


def test_failures_with_different_causes_are_not_equal():
    def with_cause(cause):
        error = ValueError("v")
        error.__cause__ = cause
        return Failure.from_exception(error)

    assert with_cause(KeyError("a")) == with_cause(KeyError("a"))
    assert with_cause(KeyError("a")) != with_cause(KeyError("b"))
    assert not with_cause(KeyError("a")).matches(with_cause(None))


def test_arguments_count_even_where_the_text_is_the_same():
    class QuietError(Exception):
        def __str__(self):
            return "quiet"

    assert not Failure.from_exception(QuietError(1)).matches(Failure.from_exception(QuietError(2)))


def test_what_is_no_failure_is_never_equal():
    fail = caught(ValueError("v"))
    assert fail != 1
    assert not fail.matches(1)
    assert fail.__eq__(1) is NotImplemented


def test_it_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable type: 'Failure'"):
        hash(caught(ValueError("v")))


@COPIES
def test_a_copy_is_another_failure_of_the_same_exception(duplicate):
    fail = caught(ValueError(object()))
    other = duplicate(fail)
    assert other is not fail
    assert type(other) is Failure
    assert other == fail
    assert other.exception is fail.exception
    assert other.exc_info == fail.exc_info


@COPIES
def test_a_copy_of_a_reloaded_failure_equals_it(duplicate):
    fail = through_dict(chained())
    assert duplicate(fail) == fail
    assert [str(f) for f in duplicate(fail).causes] == [str(f) for f in fail.causes]


class SpecialFailure(Failure):
    __slots__ = ()


def test_a_subclass_stays_a_subclass():
    fail = SpecialFailure.from_exception(ValueError("v"))
    for other in (fail, fail.copy(), through_pickle(fail), SpecialFailure.from_dict(fail.to_dict())):
        assert type(other) is SpecialFailure


# ------------------------------------------------------------------------------------------------------ dicts


def test_the_dict_has_the_known_keys_and_nothing_that_json_cannot_hold():
    fail = chained()
    data = fail.to_dict()
    assert data == {
        "exception_str": "third",
        "traceback_str": fail.traceback_str,
        "exc_type_names": ["RuntimeError", "Exception"],
        "exc_args": ("third",),
        "causes": data["causes"],
        "version": 1,
    }
    assert [cause["exception_str"] for cause in data["causes"]] == ["second", "'first'"]
    json.dumps(data)


def test_arguments_can_be_left_out_of_the_dict_and_of_its_causes():
    data = chained().to_dict(include_args=False)
    assert data["exc_args"] == ()
    assert all(cause["exc_args"] == () for cause in data["causes"])


def test_the_dict_is_the_callers_own():
    fail = chained()
    fail.to_dict()["exc_type_names"].append("Other")
    fail.to_dict()["causes"].clear()
    assert list(fail) == ["RuntimeError", "Exception"]
    assert len(fail.to_dict()["causes"]) == 2


def test_from_dict_leaves_the_data_as_it_is():
    data = chained().to_dict()
    before = copy.deepcopy(data)
    Failure.from_dict(data)
    assert data == before


@pytest.mark.parametrize("data", [without("exc_args"), without("causes"), without("exc_args", "causes")])
def test_a_dict_of_an_older_version_may_lack_arguments_and_causes(data):
    Failure.validate(data)
    fail = Failure.from_dict(data)
    assert str(fail) == "Failure: ValueError: text"
    assert fail.causes == ()
    assert fail.exception_args == tuple(data.get("exc_args", ()))


def test_a_dict_may_have_nothing_in_the_place_of_causes_types_or_traceback():
    fail = Failure.from_dict({"version": 1, "exception_str": "s", "causes": None, "traceback_str": None})
    assert fail.causes == ()
    assert list(fail) == []
    assert fail.traceback_str is None
    assert str(fail) == "Failure: s"


def test_a_dict_in_which_each_cause_lists_its_own_causes_again_is_read():
    last = described(exception_str="last")
    middle = described(exception_str="middle", causes=[last])
    fail = Failure.from_dict(described(exception_str="top", causes=[middle, last]))
    assert [f.exception_str for f in fail.causes] == ["middle", "last"]
    assert [f.exception_str for f in fail.causes[0].causes] == ["last"]


def test_reading_a_long_chain_that_is_listed_at_each_cause_again_takes_no_longer_for_it():
    chain = []
    for n in range(60):
        chain.insert(0, described(exception_str=str(n), causes=list(chain)))  # 2^60 in all, if each is read
    assert len(Failure.from_dict(chain[0]).causes) == 59


@pytest.mark.parametrize("version", [None, 0, 2, "x"])
def test_a_dict_of_an_unknown_version_is_refused(version):
    with pytest.raises(ValueError, match=f"Invalid dict version of failure object: {version!r}"):
        Failure.from_dict(described(version=version))


def test_a_dict_without_version_or_with_unknown_keys_is_refused():
    with pytest.raises(ValueError, match="Invalid dict version of failure object: None"):
        Failure.from_dict(without("version"))
    with pytest.raises(TypeError, match=r"unexpected keyword argument\(s\): other"):
        Failure.from_dict(described(other=1))


@pytest.mark.parametrize(
    "data",
    [
        DESCRIPTION,
        without("version", "exc_args", "causes"),
        described(causes=[DESCRIPTION, without("causes")]),
        described(exc_args=(1,), exc_type_names=("ValueError", "Exception"), causes=()),
        described(exc_type_names=["BaseException"]),
        described(traceback_str=None),
        described(more="than is known"),
    ],
)
def test_good_data_is_valid(data):
    assert Failure.validate(data) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "None is not of type 'object'"),
        ([], "[] is not of type 'object'"),
        (without("exception_str"), "'exception_str' is a required property"),
        (without("traceback_str"), "'traceback_str' is a required property"),
        (without("exc_type_names"), "'exc_type_names' is a required property"),
        (described(exception_str=1), "1 is not of type 'string'\n  at exception_str"),
        (described(traceback_str=1), "1 is not of type 'string', 'null'\n  at traceback_str"),
        (described(exc_args="x"), "'x' is not of type 'array'\n  at exc_args"),
        (described(version="1"), "'1' is not of type 'integer'\n  at version"),
        (described(version=True), "True is not of type 'integer'\n  at version"),
        (described(version=-1), "-1 is less than the minimum of 0\n  at version"),
        (described(exc_type_names=[]), "[] should be non-empty\n  at exc_type_names"),
        (described(exc_type_names=["A", 1]), "1 is not of type 'string'\n  at exc_type_names[1]"),
        (described(causes=None), "None is not of type 'array'\n  at causes"),
        (described(causes=[DESCRIPTION, 1]), "1 is not of type 'object'\n  at causes[1]"),
        (
            described(causes=[described(causes=[without("exception_str")])]),
            "'exception_str' is a required property\n  at causes[0].causes[0]",
        ),
    ],
)
def test_data_of_the_wrong_shape_is_refused_with_what_is_wrong_and_where(data, problem):
    with pytest.raises(exceptions.InvalidFormat) as refused:
        Failure.validate(data)
    assert str(refused.value) == f"Failure data not of the expected format: {problem}"


@pytest.mark.parametrize(
    ("wrap", "place"),
    [(lambda bad: bad, ""), (lambda bad: described(causes=[DESCRIPTION, bad]), "\n  at causes[1]")],
    ids=["itself", "cause"],
)
def test_data_whose_types_do_not_lead_to_exception_is_refused(wrap, place):
    with pytest.raises(exceptions.InvalidFormat) as refused:
        Failure.validate(wrap(described(exc_type_names=["A", "B"])))
    assert str(refused.value) == (
        "Failure data 'exc_type_names' must have an initial exception type that is one of "
        "('BaseException', 'Exception') types: 'B' is not one of those types" + place
    )


def test_the_schema_is_the_one_that_data_is_checked_against():
    cause = Failure.SCHEMA["definitions"]["cause"]
    assert set(cause["properties"]) == set(caught(ValueError("v")).to_dict())
    assert set(cause["required"]) == {"exception_str", "traceback_str", "exc_type_names"}
    assert Failure.SCHEMA["$ref"] == "#/definitions/cause"
    assert json.loads(json.dumps(Failure.SCHEMA)) == Failure.SCHEMA


def test_data_that_is_nested_deeper_than_python_can_call_is_checked():
    data = DESCRIPTION
    for _ in range(sys.getrecursionlimit() * 2):
        data = described(causes=[data])
    assert Failure.validate(data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON | st.binary() | st.tuples(JSON), max_size=4), st.integers(0, 3))
def test_any_failure_comes_back_from_json_and_pickle_as_one_that_matches(args, causes):
    error = ValueError(*args)
    last = error
    for _ in range(causes):
        last.__cause__ = KeyError(*args)
        last = last.__cause__
    fail = caught(error)
    Failure.validate(json.loads(json.dumps(fail.to_dict(), allow_nan=False)))
    for reload in (through_dict, through_json, through_pickle):
        other = reload(fail)
        assert other.matches(fail)
        assert other.to_dict() == fail.to_dict()
        assert len(other.causes) == causes


# ---------------------------------------------------------------------------------------------- raising again


def test_reraise_raises_the_exception_itself_with_its_traceback():
    error = ValueError("v")
    fail = caught(error)
    for _ in range(2):  # raised twice, it does not show both
        with pytest.raises(ValueError, match="v") as shown:
            fail.reraise()
    assert shown.value is error
    assert error.__cause__ is None
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "caught"
    assert names.count("reraise") == 1


def test_reraise_of_a_reloaded_failure_raises_a_wrapped_failure():
    fail = through_dict(caught(ValueError("v")))
    with pytest.raises(exceptions.WrappedFailure) as shown:
        fail.reraise()
    assert list(shown.value) == [fail]
    assert str(shown.value) == "WrappedFailure: [Failure: ValueError: v]"


@pytest.mark.parametrize("none", [[], (), iter([])])
def test_no_failures_raise_nothing(none):
    assert Failure.reraise_if_any(none) is None


def test_one_failure_is_raised_as_its_exception():
    error = ValueError("v")
    fail = caught(error)
    with pytest.raises(ValueError, match="v") as shown:
        Failure.reraise_if_any(f for f in [fail])
    assert shown.value is error


def test_one_reloaded_failure_is_raised_as_a_wrapped_failure():
    with pytest.raises(exceptions.WrappedFailure) as shown:
        Failure.reraise_if_any([through_dict(caught(ValueError("v")))])
    assert len(shown.value) == 1


def test_several_failures_are_raised_as_a_wrapped_failure():
    first, second = caught(ValueError("v")), through_dict(caught(KeyError("k")))
    with pytest.raises(exceptions.WrappedFailure) as shown:
        Failure.reraise_if_any(f for f in [first, second])
    assert list(shown.value) == [first, second]
    assert shown.value.exceptions[0] is first.exception


def test_notebooks_show_failures():
    try:
        try:
            raise KeyError("<inner>\x00\ud800")
        except KeyError as error:
            raise RuntimeError('Woot! <b> & "c"') from error
    except RuntimeError as error:
        fail = Failure.from_exception(error)
    for shown in (fail, Failure.from_dict(fail.to_dict())):
        bundle = shown._repr_mimebundle_()
        assert bundle["text/plain"] == shown.pformat(traceback=True)
        html = bundle["text/html"]
        assert html.encode()
        root = ET.fromstring(f"<div>{html}</div>")  # noqa: S314 - made two lines above
        assert [element.text for element in root.iter("b")] == ["RuntimeError", "KeyError"]
        assert root.find("div/span").text == 'Woot! <b> & "c"'
        assert len(root.findall("details")) == 2
        assert "test_failure.py" in root.find("details/pre").text


def test_a_failure_without_a_traceback_is_shown():
    bundle = Failure(exception_str="Woot!", exc_type_names=["RuntimeError"])._repr_mimebundle_()
    assert "<details>" not in bundle["text/html"]
