"""Values of every kind that a store keeps: classes, a strategy that draws them, and what compares two of them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import typing
import uuid
import zoneinfo

import attrs
import numpy as np
import pydantic
from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = "red"
    BLUE = (0, 0, 255)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(typing.NamedTuple):
    x: typing.Any
    y: typing.Any = 0


@dataclasses.dataclass
class Box:
    content: typing.Any
    labels: list[typing.Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    part: typing.Any
    length: int = dataclasses.field(init=False, default=0)

    def __post_init__(self):
        object.__setattr__(self, "length", len(self.name))

    class Inner(enum.Enum):
        ONE = 1


@attrs.define
class Slotted:
    a: typing.Any
    b: typing.Any = None


@attrs.frozen(slots=False)
class Open:
    a: typing.Any


@attrs.frozen(cache_hash=True)
class Hashed:
    """Keeps its hash in a slot."""

    a: typing.Any


@attrs.frozen(slots=False, cache_hash=True)
class OpenHashed:
    """Keeps its hash in its dict."""

    a: typing.Any


T = typing.TypeVar("T")


@dataclasses.dataclass
class Of(typing.Generic[T]):
    a: T


class Shown(enum.Enum):
    """Says something else of itself than its name and value."""

    ONE = 1

    @property
    def name(self):
        return "another name"

    @property
    def value(self):
        return "another value"


class ShownRight(enum.Flag):
    READ = 1
    WRITE = 2

    @property
    def value(self):
        return 3


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)

    a: typing.Any
    when: dt.date | None = None
    _own: int = pydantic.PrivateAttr(default=7)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    a: int
    nested: Model | None = None


ZONES = st.sampled_from(["Europe/Berlin", "UTC", "America/St_Johns"]).map(zoneinfo.ZoneInfo) | st.timedeltas(
    dt.timedelta(hours=-23), dt.timedelta(hours=23)
).map(dt.timezone)
ARRAYS = st.sampled_from(["?", "i1", ">i4", "u8", "f2", "f8", "c16", "M8[ns]", "m8[D]", "U3", "S2"])


def arrays(dtype: str) -> st.SearchStrategy[typing.Any]:
    """Draw an array, of up to two dimensions, also empty."""
    kind = np.dtype(dtype)
    shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)
    if kind.kind in "US":
        made = st.text("ab", max_size=2)
        return shapes.flatmap(
            lambda shape: st.lists(made, min_size=math.prod(shape), max_size=math.prod(shape)).map(
                lambda texts: np.array(texts, kind).reshape(shape)
            )
        )
    return shapes.flatmap(
        lambda shape: st.binary(
            min_size=math.prod(shape) * kind.itemsize, max_size=math.prod(shape) * kind.itemsize
        ).map(lambda data: _array(data, kind, shape))
    )


def _array(data: bytes, dtype: typing.Any, shape: tuple[int, ...]) -> typing.Any:
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


#: surrogates alone and in pairs, which are two characters to Python, beside the one character that JSON makes of a pair
SURROGATES = st.text("\ud83d\ude00\U0001f600a")
LEAVES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    st.integers(4300, 5000).map(lambda digits: 10**digits),
    st.text(st.characters()) | SURROGATES,
    SURROGATES.map(np.str_) | SURROGATES.map(pathlib.PurePosixPath),
    SURROGATES.map(lambda name: dt.timezone(dt.timedelta(hours=1), name)),
    st.binary() | st.binary().map(bytearray) | st.complex_numbers(),
    st.datetimes(timezones=st.none() | ZONES, allow_imaginary=True).flatmap(
        lambda at: st.integers(0, 1).map(lambda fold: at.replace(fold=fold))
    ),
    st.dates() | st.times(timezones=st.none() | ZONES) | st.timedeltas() | ZONES,
    st.just(dt.timezone(dt.timedelta(hours=1), "CET")),
    st.uuids() | st.decimals(allow_nan=False) | st.just(decimal.Decimal("NaN")),
    st.builds(pathlib.PurePosixPath, st.text("ab/.", max_size=8)) | st.just(pathlib.Path("/a/b")),
    st.builds(pathlib.PureWindowsPath, st.sampled_from(["C:\\a", "a/b", ""])),
    st.sampled_from([*Colour, *Level, *Word, *Right, Right.READ | Right.WRITE, Right(0), Frozen.Inner.ONE]),
    st.sampled_from([*Shown, *ShownRight, ShownRight.READ | ShownRight.WRITE, ShownRight(0)]),
    st.sampled_from(
        [
            *(np.float64(0.1), np.float32(0.1), np.int64(-3), np.uint8(3), np.bool_(True)),
            *(np.float64("nan"), np.complex64(1j), np.str_("ü"), np.bytes_(b"\xff"), np.str_("")),
            *(np.datetime64("2024-02-29T10", "h"), np.timedelta64(3, "D"), np.longdouble("0.1")),
        ]
    ),
    ARRAYS.flatmap(arrays),
)
KEYS = st.one_of(
    *(
        st.integers(),
        st.text(max_size=4) | SURROGATES,
        st.none(),
        st.booleans(),
        st.floats(allow_nan=False),
        st.dates(),
        st.binary(),
    ),
    *(st.uuids(), st.sampled_from([*Colour, *Level, *Word]), st.tuples(st.integers(), st.text(max_size=2))),
    st.frozensets(st.integers(), max_size=2) | st.builds(Point, st.integers(), st.text(max_size=2)),
    st.builds(Frozen, st.text(max_size=3), st.integers()) | st.just("$tfx"),
    st.builds(Hashed, st.integers()) | st.builds(OpenHashed, st.text(max_size=2)),
)
TAGS = st.sampled_from(["set", "dict", "tuple", "bytes", "own", "dataclass", "other", 3])


def _around(inner: st.SearchStrategy[typing.Any]) -> st.SearchStrategy[typing.Any]:
    few = st.lists(inner, max_size=3)
    return st.one_of(
        few,
        few.map(tuple),
        st.dictionaries(st.text(max_size=4) | SURROGATES, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
        st.sets(KEYS, max_size=3) | st.frozensets(KEYS, max_size=3),
        st.builds(collections.deque, few, st.none() | st.integers(3, 5)),
        st.builds(Point, inner, inner) | st.builds(Box, inner, few) | st.builds(Frozen, st.text(max_size=3), inner),
        st.builds(Slotted, inner, inner)
        | st.builds(Open, inner)
        | st.builds(Hashed, inner)
        | st.builds(OpenHashed, inner),
        st.builds(Of[int], inner) | st.builds(Of, inner),
        st.builds(Model, a=inner, more=inner) | st.builds(Strict, a=st.integers(), nested=st.builds(Model, a=inner)),
        st.builds(lambda kind, rest: {"$tfx": [kind, *rest]}, TAGS, few),  # what looks like a tag
        inner.map(lambda value: {"$tfx": value}),
    )


#: any value that a store keeps
VALUES = st.recursive(LEAVES, _around, max_leaves=6)


def same(one: typing.Any, other: typing.Any) -> bool:  # noqa: C901 - a line for each type
    """Tell whether two values are equal and of the same type, in all of their parts; NaN is equal to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, pydantic.BaseModel):
        return same(one.__getstate__(), other.__getstate__())
    if isinstance(one, collections.deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, dt.datetime | dt.time):
        facts = [(each.replace(tzinfo=None), each.fold, each.tzinfo) for each in (one, other)]
        return facts[0] == facts[1] and type(one.tzinfo) is type(other.tzinfo)
    if isinstance(one, dt.timezone):
        return repr(one) == repr(other)
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(list(mine), list(yours)) for mine, yours in pairs)
    if isinstance(one, set | frozenset):
        return one == other and {(type(each), each) for each in one} == {(type(each), each) for each in other}
    if isinstance(one, Box | Frozen | Slotted | Open | Hashed | OpenHashed | Of):
        return all(same(getattr(one, name), getattr(other, name)) for name in type(one).__annotations__)
    if isinstance(one, float | complex | decimal.Decimal):
        return repr(one) == repr(other)
    if isinstance(one, enum.Enum):
        return one is other
    assert isinstance(one, int | str | bytes | bytearray | dt.date | dt.timedelta | uuid.UUID | pathlib.PurePath) or (
        one is None or isinstance(one, zoneinfo.ZoneInfo)
    ), one
    return one == other
