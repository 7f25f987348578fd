"""A table of types: whether a value of one may be given where the other one is annotated, here and by mypy."""

PRELUDE = """
import abc
import asyncio
import collections
import dataclasses
import decimal
import enum
import pathlib
import typing
from collections.abc import (
    Awaitable, AsyncIterator, AsyncGenerator, Callable, Collection, Coroutine, Generator, Hashable, ItemsView, Iterable,
    Iterator, Mapping, MutableMapping, Sequence, Set, Sized,
)
from typing import (
    Annotated, Any, Generic, Literal, LiteralString, NamedTuple, NewType, NotRequired, Optional, Protocol, SupportsInt,
    TypedDict, TypeVar, Union,
)

Item = TypeVar("Item")

class Animal: ...
class Dog(Animal):
    def speak(self) -> str: return "wuff"
class Color(enum.Enum):
    RED = 1
    BLUE = 2
class Speaks(Protocol):
    def speak(self) -> str: ...
class Named(Protocol):
    name: str
class Both(Speaks, Named, Protocol): ...
class HasLabel:
    label: str
class Labelled(Protocol):
    label: str
class SetsName:
    def __init__(self) -> None:
        self.name = "a"
class Calls:
    def __call__(self, one: int) -> int: return one
class Point(NamedTuple):
    x: int
    y: str
@dataclasses.dataclass
class Box(Generic[Item]):
    item: Item
class IntBox(Box[int]): ...
class Names(list[str]): ...
class MoreNames(Names): ...
class Pairs(dict[str, Item], Generic[Item]): ...
class Movie(TypedDict):
    title: str
class Rated(TypedDict):
    title: str
    stars: int
class Maybe(TypedDict):
    title: str
    stars: NotRequired[int]
UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)
"""

LENIENT = "mypy compares exactly, and a run can not say"
COVARIANT = "arguments are compared covariantly"
#: given, wanted, whether it fits, and why mypy says otherwise where it does
TABLE = [
    ("int", "int", True, ""),
    ("bool", "int", True, ""),
    ("int", "bool", False, ""),
    ("int", "str", False, ""),
    ("str", "int", False, ""),
    ("int", "float", True, ""),
    ("bool", "float", True, ""),
    ("int", "complex", True, ""),
    ("float", "complex", True, ""),
    ("float", "int", False, ""),
    ("complex", "float", False, ""),
    ("decimal.Decimal", "float", False, ""),
    ("bytes", "str", False, ""),
    ("int", "object", True, ""),
    ("object", "int", False, ""),
    ("Any", "int", True, ""),
    ("int", "Any", True, ""),
    ("Dog", "Animal", True, ""),
    ("Animal", "Dog", False, ""),
    ("None", "None", True, ""),
    ("None", "int", False, ""),
    ("int", "None", False, ""),
    ("None", "object", True, ""),
    ("Optional[int]", "int", False, ""),
    ("int", "Optional[int]", True, ""),
    ("None", "int | None", True, ""),
    ("Optional[bool]", "int | None", True, ""),
    ("int | str", "int", False, ""),
    ("int", "int | str", True, ""),
    ("int | str", "str | int | None", True, ""),
    ("Union[int, str, bytes]", "Union[int, str]", False, ""),
    ("bool | int", "float | None", True, ""),
    ("list[int]", "list[int]", True, ""),
    ("list[int]", "list", True, ""),
    ("list", "list[int]", True, ""),
    ("list[int]", "Sequence[int]", True, ""),
    ("list[int]", "Iterable[int]", True, ""),
    ("list[int]", "Collection[object]", True, ""),
    ("list[int]", "Sequence[str]", False, ""),
    ("list[bool]", "Sequence[int]", True, ""),
    ("list[bool]", "list[int]", True, COVARIANT),
    ("list[int]", "list[float]", True, COVARIANT),
    ("list[int]", "list[str]", False, ""),
    ("list[int]", "tuple[int, ...]", False, ""),
    ("list[int]", "Sized", True, ""),
    ("list[int]", "Hashable", False, ""),
    ("Sequence[int]", "list[int]", False, ""),
    ("list[int | None]", "Sequence[int]", False, ""),
    ("list[list[int]]", "Sequence[Sequence[int]]", True, ""),
    ("list[list[int]]", "Sequence[Sequence[str]]", False, ""),
    ("typing.List[int]", "list[int]", True, ""),
    ("typing.List[int]", "typing.Sequence[int]", True, ""),
    ("typing.Dict[str, int]", "Mapping[str, int]", True, ""),
    ("set[int]", "Set[int]", True, ""),
    ("set[int]", "list[int]", False, ""),
    ("dict[str, int]", "Mapping[str, int]", True, ""),
    ("dict[str, int]", "Mapping[str, str]", False, ""),
    ("dict[str, int]", "Mapping[int, int]", False, ""),
    ("dict[str, int]", "dict[str, Any]", True, ""),
    ("dict[str, int]", "Iterable[str]", True, ""),
    ("dict[str, int]", "Iterable[int]", False, ""),
    ("Mapping[str, int]", "dict[str, int]", False, ""),
    ("collections.OrderedDict[str, int]", "dict[str, int]", True, ""),
    ("collections.defaultdict[str, int]", "MutableMapping[str, int]", True, ""),
    ("collections.Counter[str]", "Mapping[str, int]", True, ""),
    ("collections.Counter[str]", "Mapping[str, bytes]", True, LENIENT),
    ("ItemsView[str, int]", "Iterable[tuple[str, int]]", True, ""),
    ("str", "Sequence[str]", True, ""),
    ("str", "Sequence[int]", False, ""),
    ("bytes", "Iterable[int]", True, ""),
    ("range", "Sequence[int]", True, ""),
    ("Generator[int, None, None]", "Iterator[int]", True, ""),
    ("Generator[int, None, None]", "Iterable[str]", False, ""),
    ("AsyncGenerator[int, None]", "AsyncIterator[int]", True, ""),
    ("Coroutine[Any, Any, int]", "Awaitable[int]", True, ""),
    ("Coroutine[Any, Any, int]", "Awaitable[str]", False, ""),
    ("tuple[int, str]", "tuple[int, str]", True, ""),
    ("tuple[int, str]", "tuple[str, int]", False, ""),
    ("tuple[int, str]", "tuple[int, str, int]", False, ""),
    ("tuple[bool, str]", "tuple[int, object]", True, ""),
    ("tuple[int, int]", "tuple[int, ...]", True, ""),
    ("tuple[int, str]", "tuple[int, ...]", False, ""),
    ("tuple[int, ...]", "tuple[int, int]", True, LENIENT),
    ("tuple[int, ...]", "tuple[str, str]", False, ""),
    ("tuple[int, str]", "Sequence[int | str]", True, ""),
    ("tuple[int, str]", "Iterable[int]", False, ""),
    ("tuple[int, str]", "tuple", True, ""),
    ("Point", "tuple", True, ""),
    ("Point", "tuple[int, str]", True, ""),
    ("Point", "tuple[str, str]", True, "a NamedTuple says nothing of its items to the tuple it is"),
    ("tuple[int, str]", "Point", False, ""),
    ("Literal['a']", "str", True, ""),
    ("Literal['a']", "Literal['a', 'b']", True, ""),
    ("Literal['a', 'c']", "Literal['a', 'b']", False, ""),
    ("Literal['a', 1]", "str", False, ""),
    ("Literal['a', 1]", "str | int", True, ""),
    ("str", "Literal['a']", False, ""),
    ("bool", "Literal[True, False]", True, ""),
    ("bool", "Literal[True]", False, ""),
    ("Literal[1]", "Literal[True]", False, ""),
    ("Literal[1]", "float", True, ""),
    ("Literal[Color.RED]", "Color", True, ""),
    ("Color", "Literal[Color.RED]", False, ""),
    ("Color", "Literal[Color.RED, Color.BLUE]", True, ""),
    ("None", "Literal[None]", True, ""),
    ("LiteralString", "str", True, ""),
    ("str", "LiteralString", True, ""),
    ("Annotated[int, 'GB']", "int", True, ""),
    ("int", "Annotated[int, []]", True, ""),
    ("Annotated[int, 'GB']", "str", False, ""),
    ("UserId", "int", True, ""),
    ("UserId", "UserId", True, ""),
    ("AdminId", "UserId", True, ""),
    ("AdminId", "float", True, ""),
    ("int", "UserId", False, ""),
    ("UserId", "AdminId", False, ""),
    ("UserId", "str", False, ""),
    ("UserId", "UserId | None", True, ""),
    ("Dog", "Speaks", True, ""),
    ("Animal", "Speaks", False, ""),
    ("Animal", "Both", False, ""),
    ("int", "Named", False, ""),
    ("HasLabel", "Labelled", True, ""),
    ("SetsName", "Named", True, ""),
    ("Dog", "Speaks | None", True, ""),
    ("int", "SupportsInt", True, ""),
    ("list[int]", "SupportsInt", False, ""),
    ("Box[int]", "Box[int]", True, ""),
    ("Box[int]", "Box[str]", False, ""),
    ("Box[bool]", "Box[int]", True, COVARIANT),
    ("IntBox", "Box[int]", True, ""),
    ("IntBox", "Box[str]", False, ""),
    ("Box[int]", "IntBox", False, ""),
    ("Names", "list[str]", True, ""),
    ("Names", "Sequence[int]", False, ""),
    ("MoreNames", "Iterable[str]", True, ""),
    ("MoreNames", "Iterable[int]", False, ""),
    ("Pairs[int]", "Mapping[str, int]", True, ""),
    ("Pairs[int]", "Mapping[str, str]", False, ""),
    ("Movie", "Mapping[str, object]", True, ""),
    ("Movie", "dict[str, Any]", True, "mypy lets no dict stand for a TypedDict, which could lose keys"),
    ("Movie", "dict", True, "as above"),
    ("Movie", "Sized", True, ""),
    ("Movie", "list[str]", False, ""),
    ("Rated", "Movie", True, ""),
    ("Movie", "Rated", False, ""),
    ("Movie", "Maybe", True, "mypy knows that a key may be there with another type; a run takes it as missing"),
    ("dict[str, str]", "Movie", True, LENIENT),
    ("list[str]", "Movie", False, ""),
    ("Callable[[int], int]", "Callable[[int], int]", True, ""),
    ("Callable[[int], int]", "Callable[..., Any]", True, ""),
    ("Callable[[int], int]", "Callable[[str], str]", False, ""),
    ("Callable[[int], str]", "Callable[[int], int]", False, ""),
    ("Callable[[int], bool]", "Callable[[int], int]", True, ""),
    ("Callable[[Animal], int]", "Callable[[Dog], int]", True, ""),
    ("Callable[[Dog], int]", "Callable[[Animal], int]", False, ""),
    ("Callable[[int, int], int]", "Callable[[int], int]", False, ""),
    ("Callable[..., str]", "Callable[[int], int]", False, ""),
    ("Callable[..., int]", "Callable[[int], int]", True, ""),
    ("Callable[[int], int]", "Callable[..., str]", False, ""),
    ("Calls", "Callable[[int], int]", True, ""),
    ("int", "Callable[[int], int]", False, ""),
    ("Callable[[int], int]", "int", False, ""),
    ("type[Dog]", "Callable[..., Any]", True, ""),
    ("type[Dog]", "type[Animal]", True, ""),
    ("type[Animal]", "type[Dog]", False, ""),
    ("type[Dog]", "type", True, ""),
    ("type", "type[Dog]", True, ""),
    ("type[Dog]", "object", True, ""),
    ("type[Dog]", "Dog", False, ""),
    ("Dog", "type[Dog]", False, ""),
    ("pathlib.PosixPath", "pathlib.Path", True, ""),
    ("pathlib.Path", "str", False, ""),
    ("asyncio.Future[int]", "Awaitable[int]", True, ""),
]
