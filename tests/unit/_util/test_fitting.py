"""Which annotated types fit which, by a table that `tests/typing` compares with what mypy says."""

from __future__ import annotations

import sys
import typing

import pytest

from taskflowx._util import annotations, fitting
from tests.support.assignable import PRELUDE, TABLE

#: what only `typing` can say, or mypy only inside of a generic function
TYPES = [
    ("Item", "int", True),
    ("int", "Item", True),
    ("TypeVar('B', bound=str)", "str", True),
    ("TypeVar('B', bound=str)", "int", False),
    ("int", "TypeVar('B', bound=str)", False),
    ("int", "TypeVar('C', int, str)", True),
    ("bytes", "TypeVar('C', int, str)", False),
    ("TypeVar('C', int, str)", "int", False),
    ("typing.Self", "int", True),
    ("typing.NoReturn", "int", True),
    ("typing.ForwardRef('nowhere')", "int", True),
    ("'nowhere'", "int", True),
    ("list['nowhere']", "list[int]", True),
    ("typing.TypeGuard[int]", "bool", True),
    ("typing.Final[int]", "str", False),
    ("typing.Generic", "str", False),
    ("...", "str", True),
    ("3", "str", True),
]


@pytest.fixture(scope="module")
def names():
    known = {"__name__": "rows"}
    exec(compile(PRELUDE, "rows", "exec", dont_inherit=True), known)  # noqa: S102 - written above
    return known


@pytest.mark.parametrize(("given", "wanted", "answer"), [*[row[:3] for row in TABLE], *TYPES])
def test_a_row_of_the_table(names, given, wanted, answer):
    given, wanted = eval(given, names), eval(wanted, names)  # noqa: S307 - written above
    assert fitting.fits(given, wanted) is answer
    assert fitting.fits(given, wanted) is answer  # and when it is known


def test_a_class_that_can_not_be_compared_fits():
    class Refuses(type):
        def __subclasscheck__(cls, _):
            raise RuntimeError("no")

        def __instancecheck__(cls, _):
            raise RuntimeError("no")

        def __hash__(cls):
            raise RuntimeError("no")

    class Odd(metaclass=Refuses):
        pass

    assert fitting.fits(int, Odd)
    assert fitting.fits(int, list[Odd]) is False
    assert fitting.fits(Odd, int) is False
    assert fitting.accepts(Odd, 3)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_aliases_of_types_are_looked_through():
    names = {}
    exec("type Json = dict[str, Json] | list[Json] | int\ntype Size = int", names)  # noqa: S102
    assert fitting.fits(names["Size"], int)
    assert not fitting.fits(names["Size"], str)
    assert fitting.fits(names["Json"], names["Json"])
    assert fitting.fits(int, names["Json"])


@pytest.mark.parametrize(
    ("wanted", "value", "answer"),
    [
        ("int", 3, True),
        ("int", True, True),
        ("int", "3", False),
        ("float", 3, True),
        ("int", 3.0, False),
        ("int", None, False),
        ("int | None", None, True),
        ("Any", object(), True),
        ("object", None, True),
        ("list[int]", [1], True),
        ("list[int]", ["not looked at"], True),
        ("list[int]", (1,), False),
        ("Sequence[int]", (1,), True),
        ("Literal['a', 'b']", "a", True),
        ("Literal['a', 'b']", "c", False),
        ("Literal[1]", True, False),
        ("UserId", 3, True),
        ("UserId", "3", False),
        ("Movie", {"title": "M"}, True),
        ("Movie", {}, False),
        ("Maybe", {"title": "M"}, True),
        ("Callable[[int], int]", len, True),
        ("Callable[[int], int]", 3, False),
        ("type[int]", bool, True),
        ("type[int]", str, False),
        ("type", 3, False),
        ("SupportsInt", 3, True),
        ("Speaks", 3, False),
        ("Annotated[int, 'GB']", "3", False),
        ("TypeVar('B', bound=str)", 3, False),
        ("'nowhere'", 3, True),
    ],
)
def test_values_are_held_to_what_isinstance_can_say(names, wanted, value, answer):
    assert fitting.accepts(eval(wanted, names), value) is answer  # noqa: S307 - written above


def test_a_mock_stands_for_anything():
    from unittest import mock

    assert fitting.accepts(int, mock.Mock())


@pytest.mark.parametrize(
    ("whole", "key", "answer"),
    [
        ("int", None, "int"),
        ("tuple[int, str]", 1, "str"),
        ("tuple[int, str]", 2, "Any"),
        ("tuple[int, ...]", 7, "int"),
        ("list[int]", 0, "int"),
        ("Point", 1, "str"),
        ("Point", "x", "Any"),
        ("Movie", "title", "str"),
        ("Movie", "none", "Any"),
        ("Maybe", "stars", "int"),
        ("dict[str, int]", "a", "int"),
        ("Mapping[str, int]", 0, "int"),
        ("Counter", "a", "Any"),
        ("tuple[int, str] | None", 0, "int"),
        ("tuple[int, str] | list[bytes]", 0, "int | bytes"),
        ("Annotated[tuple[int, str], 'both']", 0, "int"),
        ("int", 0, "Any"),
        ("dict", "a", "Any"),
        ("str", 0, "Any"),
    ],
)
def test_the_type_of_a_part_of_a_result(names, whole, key, answer):
    names.setdefault("Counter", names["collections"].Counter)
    assert annotations.part(eval(whole, names), key) == eval(answer, names)  # noqa: S307 - written above


def test_what_cannot_be_evaluated_is_left_away():
    def function(one: int, two: Nowhere, three: list[Nowhere]) -> str:  # noqa: F821
        pass

    assert annotations.hints(function) == {"one": int, "return": str}
    assert annotations.hints(3) == {}
    assert annotations.hints(typing.cast("typing.Any", [])) == {}


@pytest.mark.parametrize(
    ("annotation", "text"),
    [("int", "int"), ("None", "None"), ("int | None", "int | None"), ("Sequence[int]", "Sequence[int]")],
)
def test_types_are_shown_as_they_are_written(names, annotation, text):
    assert annotations.shown(eval(annotation, names)) == text  # noqa: S307 - written above
