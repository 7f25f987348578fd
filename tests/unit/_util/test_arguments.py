"""Checks of arguments: what passes, and the words of what does not."""

from __future__ import annotations

import decimal
import fractions
import functools
import types
from unittest import mock

import pytest

from taskflowx._util import arguments


def test_a_refusal_names_the_argument_what_is_accepted_and_what_it_was():
    with pytest.raises(TypeError) as refused:
        arguments.refuse("size", "big", "a number")
    assert str(refused.value) == "size must be a number, not 'big' (<class 'str'>)"
    with pytest.raises(ValueError, match=r"^size must be a number, not 'big'"):
        arguments.refuse("size", "big", "a number", ValueError)


@pytest.mark.parametrize("value", [0, 1, -1.5, True, decimal.Decimal(1), fractions.Fraction(1, 3), float("inf")])
def test_numbers_of_any_kind_are_numbers(value):
    assert arguments.check_number("n", value, "a number") is None
    assert arguments.check_number("n", value, "a number", least=-2) is None


@pytest.mark.parametrize("value", ["1", None, 1j, [1], object()])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^n must be a number, not "):
        arguments.check_number("n", value, "a number")


@pytest.mark.parametrize("value", [-1, -0.1, float("nan"), float("-inf")])
def test_a_number_below_the_least_and_what_is_no_number_at_all_are_refused(value):
    assert arguments.check_number("n", value, "a number") is None
    with pytest.raises(ValueError, match=r"^n must be zero or more, not "):
        arguments.check_number("n", value, "zero or more", least=0)


@pytest.mark.parametrize("value", ["ab", b"ab", 5, None])
def test_text_is_no_iterable_of_anything_that_is_meant(value):
    with pytest.raises(TypeError, match=r"^row must be a row, not "):
        arguments.check_iterable("row", value, "a row")


@pytest.mark.parametrize("value", [[], (), {}, {1}, iter("ab"), range(2), mock.MagicMock()])
def test_whatever_can_be_iterated_over_is_an_iterable(value):
    assert arguments.check_iterable("row", value, "a row") is None


class Rows:
    """Behaves like a mapping, and says so nowhere."""

    def keys(self):
        return ["a"]

    def __iter__(self):
        return iter(["a"])

    def __getitem__(self, key):
        return 1


@pytest.mark.parametrize("value", [{}, {"a": 1}, types.MappingProxyType({"a": 1}), Rows()])
def test_what_behaves_like_a_mapping_is_one(value):
    assert arguments.check_mapping("m", value, "a dict") is None
    assert arguments.check_named_values("m", value) is None


def test_attributes_are_asked_for_and_not_classes():
    assert arguments.check_like("it", mock.Mock(), ("name", "uuid"), "a detail") is None
    assert arguments.check_like("it", types.SimpleNamespace(name=1), ("name",), "a detail") is None
    with pytest.raises(TypeError, match=r"^it must be a detail, not namespace"):
        arguments.check_like("it", types.SimpleNamespace(name=1), ("name", "uuid"), "a detail")
    with pytest.raises(TypeError, match=r"^it must be a detail, not <class 'str'>"):
        arguments.check_like("it", str, ("join",), "a detail")


@pytest.mark.parametrize("value", [[], {}, "c", None])
def test_what_is_none_of_the_choices_is_refused_even_if_it_cannot_be_hashed(value):
    with pytest.raises(ValueError, match=r"^it must be one of 'a', 'b', not "):
        arguments.check_choice("it", value, ("a", "b"))


async def coroutine(): ...


async def generator():
    yield 1


class Calls:
    async def __call__(self): ...

    async def method(self): ...

    @staticmethod
    async def static(): ...

    @classmethod
    async def of_class(cls): ...


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        generator,
        Calls(),
        Calls().method,
        Calls.static,
        Calls.of_class,
        functools.partial(coroutine),
        functools.partial(Calls().method, 1),
    ],
)
def test_coroutine_functions_are_known_in_every_shape(function):
    assert arguments.is_async(function)
    with pytest.raises(
        ValueError, match=r"^it must be a plain function and no coroutine function, which nobody awaits"
    ):
        arguments.check_callback("it", function)


@pytest.mark.parametrize(
    "function", [len, print, lambda: 1, Calls, functools.partial(len), mock.Mock(), mock.MagicMock(), "".join]
)
def test_everything_else_that_can_be_called_is_plain(function):
    assert not arguments.is_async(function)
    assert arguments.check_callback("it", function) is None


@pytest.mark.parametrize("value", [True, 1, 2, "1", "t", "True", " YES ", "on", "y"])
def test_words_for_yes(value):
    assert arguments.to_bool("flag", value) is True


@pytest.mark.parametrize("value", [False, 0, None, "0", "f", "False", "no", "OFF", "n"])
def test_words_for_no(value):
    assert arguments.to_bool("flag", value) is False


@pytest.mark.parametrize(
    ("value", "error"), [("", ValueError), ("maybe", ValueError), (1.0, TypeError), ([], TypeError)]
)
def test_other_words_are_no_flags(value, error):
    with pytest.raises(error, match=r"^flag must be a bool, or one of \['0', '1', 'f', 'false', "):
        arguments.to_bool("flag", value)
