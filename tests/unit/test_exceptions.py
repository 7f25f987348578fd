"""The error tree: texts with causes, what pickling keeps, and several failures as an exception group."""

from __future__ import annotations

import builtins
import copy
import pickle
import re
import traceback

import pytest

from taskflowx import exceptions
from taskflowx.types.failure import Failure

PARENTS = {
    "AmbiguousDependency": "DependencyFailure",
    "CompilationFailure": "TaskFlowException",
    "ConductorFailure": "TaskFlowException",
    "DependencyFailure": "TaskFlowException",
    "DisallowedAccess": "TaskFlowException",
    "Duplicate": "TaskFlowException",
    "Empty": "TaskFlowException",
    "ExecutionFailure": "TaskFlowException",
    "IncompatibleVersion": "TaskFlowException",
    "InvalidFormat": "TaskFlowException",
    "InvalidState": "ExecutionFailure",
    "JobFailure": "TaskFlowException",
    "LostException": "ExecutionFailure",
    "MissingDependencies": "DependencyFailure",
    "MultipleChoices": "TaskFlowException",
    "NotFound": "TaskFlowException",
    "NotImplementedError": "NotImplementedError",
    "OwnershipFailure": "TaskFlowException",
    "RunMismatch": "TaskFlowException",
    "RequestTimeout": "ExecutionFailure",
    "Cancelled": "ExecutionFailure",
    "OutcomeUnknown": "ExecutionFailure",
    "ResultMismatch": "ExecutionFailure",
    "TimeoutExceeded": "ExecutionFailure",
    "WorkerLost": "ExecutionFailure",
    "StorageFailure": "TaskFlowException",
    "TaskFlowException": "Exception",
    "TypeMismatch": "DependencyFailure",
    "UnclaimableJob": "JobFailure",
    "Unstorable": "StorageFailure",
    "WrappedFailure": "ExceptionGroup",
}


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class CustomError(exceptions.NotFound):
    def __init__(self, book, *, shelf):
        super().__init__(f"{book} is not on {shelf}")
        self.shelf = shelf


class CarelessError(exceptions.TaskFlowException):
    def __init__(self):
        pass


def failure_of(exception):
    try:
        raise exception
    except type(exception):
        return Failure()


def reloaded(failure):
    return Failure.from_dict(failure.to_dict())


def wrapped(*exceptions_):
    return exceptions.WrappedFailure([failure_of(exception) for exception in exceptions_])


# --------------------------------------------------------------------------------------------------- the tree


def test_the_tree_is_complete_and_each_error_has_its_place_in_it():
    found = {
        name: value.__bases__[0].__name__
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert found == PARENTS


def test_each_error_is_drawn_at_the_top_of_the_file():
    for name in PARENTS:
        assert f" {name} " in exceptions.__doc__ or exceptions.__doc__.endswith(name)


def test_not_implemented_is_also_pythons_own():
    assert issubclass(exceptions.NotImplementedError, builtins.NotImplementedError)
    assert not issubclass(exceptions.NotImplementedError, exceptions.TaskFlowException)


# ------------------------------------------------------------------------------------------------------- text


def chain_of_three():
    first = exceptions.TaskFlowException("first", cause=ValueError("root"))
    return exceptions.StorageFailure("third", cause=exceptions.NotFound("second", cause=first))


def test_the_text_is_the_message_and_below_it_the_causes_indented():
    assert str(chain_of_three()) == ("third\n  NotFound: second\n    TaskFlowException: first\n      ValueError: root")
    assert chain_of_three().pformat() == str(chain_of_three())


def test_indent_and_its_text_can_be_chosen():
    error = exceptions.NotFound("a", cause=exceptions.NotFound("b", cause=KeyError("k")))
    assert error.pformat(indent=1) == "a\n NotFound: b\n  KeyError: 'k'"
    assert error.pformat(indent_text=".") == "a\n..NotFound: b\n....KeyError: 'k'"
    assert error.pformat(indent=0) == "a\nNotFound: b\nKeyError: 'k'"


def test_a_negative_indent_is_refused():
    with pytest.raises(ValueError, match="'indent' must be greater than or equal to zero instead of -1"):
        chain_of_three().pformat(indent=-1)


def test_the_class_of_the_error_itself_is_shown_on_demand():
    assert exceptions.NotFound("a").pformat(show_root_class=True) == "NotFound: a"
    assert exceptions.NotFound("a").pformat() == "a"


def test_each_line_of_a_cause_is_indented():
    error = exceptions.NotFound("a", cause=exceptions.Duplicate("b\nc"))
    assert str(error) == "a\n  Duplicate: b\n  c"


def test_a_foreign_cause_is_the_end_of_the_chain_and_keeps_its_module():
    cause = pickle.PicklingError("p")
    cause.__cause__ = KeyError("not shown")
    assert str(exceptions.NotFound("a", cause=cause)) == "a\n  _pickle.PicklingError: p"


def test_a_cause_without_text_and_one_that_cannot_give_it_are_shown_by_their_class():
    assert str(exceptions.NotFound("a", cause=ValueError())) == "a\n  ValueError"
    assert str(exceptions.NotFound("a", cause=UnprintableError())).endswith(
        "UnprintableError: <exception str() failed>"
    )


def test_a_message_may_be_any_object():
    assert str(exceptions.NotFound(3)) == "3"
    assert exceptions.NotFound(3).args == (3,)


def test_a_subclass_that_does_not_call_the_constructor_still_has_a_text_and_no_cause():
    assert str(CarelessError()) == ""
    assert CarelessError().cause is None


def test_the_cause_is_kept_and_cannot_be_replaced():
    cause = ValueError("in")
    error = exceptions.TaskFlowException("out", cause=cause)
    assert error.cause is cause
    assert error.args == ("out",)
    assert exceptions.TaskFlowException("out").cause is None
    with pytest.raises(AttributeError):
        error.cause = None


# ------------------------------------------------------------------------------------------- raise_with_cause


def raise_while_handling(inner, *args, **kwargs):
    try:
        raise inner
    except ValueError:
        exceptions.raise_with_cause(*args, **kwargs)


def test_raise_with_cause_takes_the_exception_that_is_being_handled():
    inner = ValueError("inner")
    with pytest.raises(exceptions.NotFound) as caught:
        raise_while_handling(inner, exceptions.NotFound, "outer")
    assert caught.value.cause is inner
    assert caught.value.__cause__ is inner
    assert str(caught.value) == "outer\n  ValueError: inner"


def test_raise_with_cause_outside_of_a_handler_has_no_cause():
    with pytest.raises(exceptions.NotFound) as caught:
        exceptions.raise_with_cause(exceptions.NotFound, "outer")
    assert caught.value.cause is None
    assert caught.value.__cause__ is None


def test_raise_with_cause_outside_of_a_handler_takes_a_cause_by_position():
    given = KeyError("given")
    with pytest.raises(exceptions.NotFound) as caught:
        exceptions.raise_with_cause(exceptions.NotFound, "outer", given)
    assert caught.value.cause is given


def test_raise_with_cause_prefers_a_cause_that_is_given_even_if_that_is_none():
    given = KeyError("given")
    with pytest.raises(exceptions.NotFound) as caught:
        raise_while_handling(ValueError("inner"), exceptions.NotFound, "outer", cause=given)
    assert caught.value.cause is given
    with pytest.raises(exceptions.NotFound) as caught:
        raise_while_handling(ValueError("inner"), exceptions.NotFound, "outer", cause=None)
    assert caught.value.cause is None


def test_raise_with_cause_passes_further_arguments_on():
    with pytest.raises(exceptions.DisallowedAccess) as caught:
        exceptions.raise_with_cause(exceptions.DisallowedAccess, "outer", state="PENDING")
    assert caught.value.state == "PENDING"


@pytest.mark.parametrize("wrong", [ValueError, int, exceptions.WrappedFailure])
def test_raise_with_cause_refuses_a_class_that_has_no_cause(wrong):
    with pytest.raises(ValueError, match="Subclass of taskflow exception is required"):
        exceptions.raise_with_cause(wrong, "outer")


# ---------------------------------------------------------------------------------------- errors with details


def test_missing_dependencies_names_who_and_what():
    error = exceptions.MissingDependencies("W", ["b", "a"])
    assert str(error) == "'W' requires ['b', 'a'] but no other entity produces said requirements"
    assert error.missing_requirements == ["b", "a"]


def test_missing_dependencies_names_the_method():
    error = exceptions.MissingDependencies("W", ["a"], method="revert")
    assert str(error) == "'revert' method on 'W' requires ['a'] but no other entity produces said requirements"


def test_missing_dependencies_takes_who_and_what_from_templates_that_a_subclass_may_change():
    class Short(exceptions.MissingDependencies):
        MESSAGE_TPL = "%(who)s lacks %(requirements)s"

    assert str(Short("W", ["a"])) == "W lacks ['a']"


def test_missing_dependencies_gives_a_hint_on_the_next_line_and_the_cause_below():
    error = exceptions.MissingDependencies("W", ["a"], cause=KeyError("k"), hint="Did you mean 'b'?")
    first, second, third = str(error).split("\n")
    assert first.endswith("said requirements")
    assert second == "Did you mean 'b'?"
    assert third == "  KeyError: 'k'"


def test_disallowed_access_has_the_state():
    assert exceptions.DisallowedAccess("m", state="RUNNING").state == "RUNNING"
    assert exceptions.DisallowedAccess("m").state is None


# ----------------------------------------------------------------------------------------- pickles and copies


@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize(
    "error",
    [
        exceptions.NotFound("a", cause=ValueError("v")),
        exceptions.MissingDependencies("W", ["a"], cause=ValueError("v"), method="execute"),
        exceptions.DisallowedAccess("m", cause=ValueError("v"), state="RUNNING"),
        CustomError("book", shelf="shelf"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickle_and_copy_with_cause_attributes_and_notes(error, duplicate):
    error.add_note("noted")
    other = duplicate(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.args == error.args
    assert repr(other.cause) == repr(error.cause)
    assert repr(other.__dict__) == repr(error.__dict__)
    assert "noted" in other.__notes__


# --------------------------------------------------------------------------------------------- WrappedFailure


def test_the_text_of_a_wrapped_failure_lists_the_failures():
    error = wrapped(RuntimeError("Woot!"), ValueError("V"))
    assert str(error) == "WrappedFailure: [Failure: RuntimeError: Woot!, Failure: ValueError: V]"
    assert repr(error) == "<WrappedFailure: [RuntimeError: Woot!, ValueError: V]>"
    assert error.args == ()


def test_the_text_of_many_failures_counts_and_names_the_first():
    error = wrapped(*(ValueError(f"number {i}") for i in range(5000)))
    assert str(error).startswith(
        "WrappedFailure: [5,000 failures: Failure: ValueError: number 0, Failure: ValueError: nu"
    )
    assert repr(error).startswith("<WrappedFailure: [5,000 failures: ValueError: number 0, ValueError: number 1, ")
    for text in (str(error), repr(error)):
        assert 1500 < len(text) <= 2048
        assert re.search(r" and 4,\d{3} more\]>?$", text)


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f40c", "\udcff"])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_the_text_of_long_failures_is_cut(letter, count):
    error = wrapped(*(KeyError(letter * 5000) for _ in range(count)))
    for text in (str(error), repr(error)):
        assert 1000 < len(text.encode(errors="replace")) <= 2048
        assert "KeyError: '" in text
        assert "..." in text


def test_a_wrapped_failure_that_has_lost_its_exceptions_says_what_they_were():
    error = exceptions.WrappedFailure([reloaded(failure_of(KeyError("b")))])
    assert repr(error) == "<WrappedFailure: [KeyError: 'b']>"
    assert "KeyError" in BaseException.__repr__(error)  # what Python has there itself is whole


def test_a_wrapped_failure_has_length_and_iterates_over_its_failures():
    failures = [failure_of(RuntimeError("a")), failure_of(ValueError("b"))]
    error = exceptions.WrappedFailure(iter(failures))
    assert len(error) == 2
    assert all(mine is given for mine, given in zip(error, failures, strict=True))


def test_check_answers_with_the_first_class_or_name_that_a_failure_is_of():
    error = wrapped(RuntimeError("a"), KeyError("b"))
    assert error.check(KeyError) is KeyError
    assert error.check("KeyError", RuntimeError) is RuntimeError  # the failures are asked in their order
    assert error.check("LookupError") == "LookupError"
    assert error.check(OSError, "nothing") is None
    assert error.check() is None


def test_a_wrapped_failure_inside_a_failure_is_flattened():
    inner = wrapped(ValueError("a"), KeyError("b"))
    outer = exceptions.WrappedFailure([failure_of(OSError("c")), failure_of(inner)])
    assert [f.exception_str for f in outer] == ["c", "a", "'b'"]
    assert [type(e) for e in outer.exceptions] == [OSError, ValueError, KeyError]


def test_a_wrapped_failure_is_an_exception_group_of_the_exceptions():
    first, second = ValueError("a"), KeyError("b")
    error = wrapped(first, second)
    assert isinstance(error, ExceptionGroup)
    assert isinstance(error, Exception)
    assert error.exceptions == (first, second)
    assert error.message == "WrappedFailure"


def test_a_failure_without_its_exception_is_in_the_group_as_a_placeholder():
    error = exceptions.WrappedFailure([failure_of(ValueError("a")), reloaded(failure_of(KeyError("b")))])
    assert [type(e) for e in error.exceptions] == [ValueError, exceptions.LostException]
    assert str(error.exceptions[1]) == "Failure: KeyError: 'b'"
    assert error.check(KeyError) is KeyError


def test_with_no_failures_the_group_has_a_placeholder_and_no_length():
    error = exceptions.WrappedFailure([])
    assert str(error) == "WrappedFailure: []"
    assert len(error) == 0
    assert list(error) == []
    assert [str(e) for e in error.exceptions] == ["No failures are known"]
    matched, rest = error.split(exceptions.LostException)
    assert rest is None
    assert len(matched) == 0


def test_an_exception_that_counts_as_false_is_not_taken_for_a_lost_one():
    class FalseError(Exception):
        def __bool__(self):
            return False

    error = FalseError()
    assert wrapped(error).exceptions == (error,)


def test_except_star_gets_the_failures_of_its_type_and_passes_the_rest_on():
    seen = []

    def handle_two_of_three():
        try:
            raise wrapped(ValueError("a"), KeyError("b"), OSError("c"))
        except* (ValueError, OSError) as group:
            seen.extend(group)

    with pytest.raises(exceptions.WrappedFailure) as caught:
        handle_two_of_three()
    assert [f.exception_str for f in seen] == ["a", "c"]
    assert all(isinstance(f, Failure) for f in seen)
    assert [f.exception_str for f in caught.value] == ["'b'"]
    assert str(caught.value) == "WrappedFailure: [Failure: KeyError: 'b']"


def test_except_star_that_handles_all_leaves_nothing():
    handled = []
    try:
        raise wrapped(ValueError("a"), KeyError("b"))
    except* ValueError as group:
        handled.extend(group)
    except* KeyError as group:
        handled.extend(group)
    assert [failure.exception_str for failure in handled] == ["a", "'b'"]


def test_what_except_star_raises_again_is_not_lost_even_for_placeholders():
    error = exceptions.WrappedFailure([failure_of(ValueError("a")), reloaded(failure_of(KeyError("b")))])

    def look_at_it_only():
        try:
            raise error
        except* exceptions.LostException as group:
            assert len(group) == 1  # noqa: PT017 - a group has no single exception to be caught
            raise

    with pytest.raises(exceptions.WrappedFailure) as caught:
        look_at_it_only()
    assert [f.exception_str for f in caught.value] == ["a", "'b'"]


def test_split_and_subgroup_give_wrapped_failures_with_notes_and_cause():
    error = wrapped(ValueError("a"), KeyError("b"))
    error.add_note("noted")
    error.__cause__ = OSError("cause")
    matched, rest = error.split(KeyError)
    assert [f.exception_str for f in matched] == ["'b'"]
    assert [f.exception_str for f in rest] == ["a"]
    for part in (matched, rest, error.subgroup(ValueError)):
        assert type(part) is exceptions.WrappedFailure
        assert part.__notes__ == ["noted"]
        assert part.__cause__ is error.__cause__
    assert error.subgroup(OSError) is None
    assert error.subgroup(exceptions.WrappedFailure) is error


def test_a_part_of_a_member_that_is_a_group_becomes_a_failure_of_its_own():
    group = ExceptionGroup("inner", [ValueError("a"), KeyError("b")])
    part = wrapped(group, ValueError("c")).subgroup(ValueError)
    assert len(part) == 2
    assert [f.exception_str for f in part] == ["inner (1 sub-exception)", "c"]
    assert [str(e) for e in part.exceptions[0].exceptions] == ["a"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_wrapped_failure_keeps_its_failures_and_notes_and_what_exceptions_can_be_pickled(protocol):
    error = wrapped(ValueError("a"), KeyError(lambda: None))
    error.add_note("noted")
    other = pickle.loads(pickle.dumps(error, protocol))
    assert str(other) == str(error)
    assert all(mine.matches(theirs) for mine, theirs in zip(other, error, strict=True))
    assert [type(e) for e in other.exceptions] == [ValueError, exceptions.LostException]
    assert other.__notes__ == ["noted"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copied_wrapped_failure_keeps_its_exceptions(duplicate):
    error = wrapped(ValueError("a"), KeyError(object()))
    other = duplicate(error)
    assert other is not error
    assert other.exceptions == error.exceptions
    assert str(other) == str(error)


def test_a_printed_wrapped_failure_shows_every_member_with_its_traceback():
    text = "".join(traceback.format_exception(wrapped(ValueError("first one"), KeyError("second one"))))
    assert "WrappedFailure: [Failure: ValueError: first one" in text
    assert "    | ValueError: first one" in text
    assert "    | KeyError: 'second one'" in text


def test_a_failure_is_made_from_a_wrapped_failure():
    failure = failure_of(wrapped(ValueError("a"), KeyError("b")))
    assert failure.check(exceptions.WrappedFailure)
    assert failure.check("taskflowx.exceptions.WrappedFailure", "ExceptionGroup")
    assert failure.exception_args == ()
    assert failure.exception_str == "WrappedFailure: [Failure: ValueError: a, Failure: KeyError: 'b']"


# ------------------------------------------------------------------------------------- time limits and cancels


def test_an_exceeded_time_limit_is_a_timeout_error_and_keeps_its_text_when_it_is_sent():
    error = exceptions.TimeoutExceeded("task 'fetch' has exceeded its limit")
    assert isinstance(error, TimeoutError)
    assert repr(pickle.loads(pickle.dumps(error))) == repr(copy.deepcopy(error)) == repr(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_cancelled_run_gives_the_reason():
    assert pickle.loads(pickle.dumps(exceptions.Cancelled("maintenance"))).reason == "maintenance"
