"""Annotations of functions: what is read is what `typing.get_type_hints` says, on the short way and the long one."""

import collections.abc
import functools
import typing
from typing import Any

import pytest

from taskflowx._util import annotations


class Of:
    """A class to annotate with."""


T = typing.TypeVar("T")

#: what the annotations below are made of
NAMES = {
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional", "Union")},
    "Of": Of,
    "T": T,
    "collections": collections,
    "typing": typing,
    "__name__": __name__,
}
WRITTEN = [
    "int",
    "None",
    "Any",
    "Of",
    "list[int]",
    "dict[str, list[Of]]",
    "tuple[int, ...]",
    "tuple[()]",
    "int | None",
    "list[int] | Of",
    "Optional[int]",
    "Union[int, Of, None]",
    "typing.List[int]",
    "typing.Dict[str, 'Of']",
    "list['Of']",
    "'Of'",
    "Annotated[int, 'positive']",
    "list[Annotated[int, 'positive']]",
    "Optional[Annotated[int, 'positive']]",
    "Literal['a', 1]",
    "T",
    "list[T]",
    "type[int]",
    "collections.abc.Callable[[int], str]",
    "typing.Callable[..., 'Of']",
]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("late", [False, True])
def test_what_is_read_is_what_typing_says(written, late):
    names = {}
    program = f"def function(a: {written}, b, c: int = 3) -> {written}: ..."
    exec("from __future__ import annotations\n" * late + program, NAMES.copy(), names)  # noqa: S102 - as programs write them
    function = names["function"]
    read = annotations.read(function)
    assert read.all == typing.get_type_hints(function)
    assert read.gives == typing.get_type_hints(function)["return"]
    assert annotations.read(function) is read


def test_a_wrapper_is_read_where_the_function_was_written():
    inner = {"Inner": Of}
    exec("from __future__ import annotations\ndef function(a: Inner) -> Inner: ...", inner)  # noqa: S102 - as programs write them

    @functools.wraps(inner["function"])
    def outer(*args, **kwargs): ...

    assert annotations.read(outer).all == {"a": Of, "return": Of}


def test_what_cannot_be_evaluated_is_left_away_alone():
    names = {}
    program = "def function(a: int, b: Missing, c: 1 / 0) -> Of: ..."
    exec("from __future__ import annotations\n" + program, NAMES.copy(), names)  # noqa: S102 - as programs write them
    assert annotations.read(names["function"]).all == {"a": int, "return": Of}


def test_what_has_no_annotations_says_nothing():
    assert annotations.read(lambda a: a) == ({}, Any, {})
    assert annotations.read(len).all == {}
