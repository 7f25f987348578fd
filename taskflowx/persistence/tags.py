"""Gives values that JSON has no form for a form in JSON, and makes them again: tagged values.

A tagged value is a dict with one key, `TAG`, whose value is a list: the kind, and what the kind needs. All other JSON
is what it looks like. A dict that has the key `TAG` itself, or a key that is no str, is written as a tagged list of
pairs.

`codec` calls `form` for what is no plain JSON, and `untag` for each dict of a text with a tag in it. The kinds are in
`tag_types`, which registers them here.

What must stay true: no module is imported because a record names it, and no code of a class runs that a record names
when one of its instances is made, but for what the program has passed to `register`.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn, TypeVar

from taskflowx import exceptions

_T = TypeVar("_T")

#: the key of a tagged value
TAG = "$tfx"
#: the kind of whole documents behind a transform, in whose place nothing can stand
_SEALED = "sealed"
#: the levels of JSON that a tag adds: the dict and the list in it
_LEVELS = 2
_REGISTER = "register the class with taskflowx.persistence.codec.register(type, encode, decode)"


class Unreadable(exceptions.StorageFailure):
    """The stored data is damaged; the store itself works."""

    may_pass = False


class NotBuildable(Unreadable):
    """A stored value is of a class that this program does not have, or that has changed since."""


class Misfit(Exception):
    """A part of a value cannot be stored.

    :param where: its position, empty for the value as a whole
    :param problem: what is wrong with it
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where, self.problem = where, problem


class Part:
    """A part of a value that is written, and its place.

    :param value: the part
    :param left: how many levels of JSON it may have
    :param outer: the part that it is in
    :param place: the format of its place in that part
    :param key: what the format shows
    """

    __slots__ = ("key", "left", "outer", "place", "value")

    def __init__(self, value: Any, left: int, outer: Part | None = None, place: str = "", key: Any = None) -> None:
        self.value, self.left, self.outer, self.place, self.key = value, left, outer, place, key

    def form(self, value: Any, levels: int, place: str = "", key: Any = None) -> Any:
        """Return the form of a part of this one.

        :param levels: how many levels of JSON are around it in the form of this part
        """
        return form(Part(value, self.left - levels, self, place, key))

    def fields(self, values: dict[str, Any], levels: int = _LEVELS) -> dict[str, Any]:
        """Return the forms of attributes, by name."""
        return {name: self.form(value, levels + 1, ".{}", name) for name, value in values.items()}

    @property
    def where(self) -> str:
        """The position in the value as a whole."""
        return "".join(part.place.format(part.key) for part in self.line())

    def line(self) -> list[Part]:
        """Return the parts from the value as a whole to this one."""
        found, part = [], self
        while True:
            found.append(part)
            if part.outer is None:
                return found[::-1]
            part = part.outer

    def refuse(self, problem: str) -> NoReturn:
        """Raise `Misfit` for this part."""
        raise Misfit(self.where, problem)

    def refuse_depth(self) -> NoReturn:
        """Raise `Misfit` for a part that is too deep: it may contain itself."""
        line = self.line()
        around: set[int] = set()
        for part in line:
            if id(part.value) in around:
                part.refuse("contains itself")
            around.add(id(part.value))
        where = self.where
        short = where if len(where) <= 81 else f"{where[:40]}…{where[-40:]}"  # noqa: PLR2004 - twice 40, and a dot
        raise Misfit(short, f"is nested too deeply, more than {line[0].left} levels")


class Own(NamedTuple):
    """A class that the program has registered."""

    cls: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


Writer = Callable[[Part], Any]
#: exact type -> makes the form of its values
WRITERS: dict[type, Writer] = {}
#: give the writer of a class that is not in `WRITERS`, or None
FINDERS: list[Callable[[type], Writer | None]] = []
#: kind -> makes a value of what is behind the kind in a tag
BUILDERS: dict[str, Callable[..., Any]] = {}

_own: dict[type, Own] = {}
_own_names: dict[str, Own] = {}
_tolerated: contextvars.ContextVar[list[NotBuildable] | None] = contextvars.ContextVar(
    "taskflowx_tolerated", default=None
)


# -- writing ---------------------------------------------------------------------------------------------------------


def form(part: Part) -> Any:
    """Return a value in a form that JSON holds exactly.

    :raises Misfit: when there is none
    """
    cls = type(part.value)
    own = _own.get(cls)
    writer = _of_own if own is not None else WRITERS.get(cls) or _found(cls)
    if writer is None:
        part.refuse(f"is of type {type_name(cls)}")
    return writer(part)


def tagged(part: Part, kind: str, *content: Any) -> dict[str, Any]:
    """Return a tagged value.

    :param content: forms of what the kind needs
    :raises Misfit: when it is nested too deeply
    """
    if part.left < _LEVELS:
        part.refuse_depth()
    return {TAG: [kind, *content]}


def _found(cls: type) -> Writer | None:
    return next(filter(None, (find(cls) for find in FINDERS)), None)


def _of_own(part: Part) -> Any:
    own = _own[type(part.value)]
    try:
        encoded = own.encode(part.value)
    except Exception as error:  # what the caller's function raises
        raise Misfit(part.where, f"is of type {own.name}, whose encode has raised {error!r:.200}") from error
    if encoded is part.value:
        part.refuse(f"is of type {own.name}, whose encode returns the value itself")
    if part.left < _LEVELS:
        part.refuse_depth()
    return tagged(part, "own", own.name, part.form(encoded, _LEVELS))


def type_name(cls: type) -> str:
    """Return the name of a class for errors."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


# -- reading ---------------------------------------------------------------------------------------------------------


class Unbuilt:
    """A stored value that this program cannot make, as it is read within `tolerant`.

    It is written again as it was.

    :param content: what the tag holds: the kind, and what it needs
    :param reason: why it cannot be made
    """

    __slots__ = ("content", "reason")

    def __init__(self, content: list[Any], reason: str) -> None:
        self.content, self.reason = content, reason

    @property
    def kind(self) -> str:
        """What it is, such as 'enum shop:Colour'."""
        kind, *rest = self.content
        return f"{kind} {rest[0]}" if rest and isinstance(rest[0], str) and ":" in rest[0] else str(kind)

    def __repr__(self) -> str:
        kind, *rest = self.content
        name, *rest = rest or [""]
        return f"<{kind} {name}: {', '.join(map(repr, rest))}>"


def _of_unbuilt(part: Part) -> Any:
    return tagged(part, *(part.form(each, _LEVELS) for each in part.value.content))


WRITERS[Unbuilt] = _of_unbuilt


@contextlib.contextmanager
def tolerant() -> Iterator[list[NotBuildable]]:
    """Read values of classes that this program does not have as `Unbuilt` in the block, for programs that only look.

    The value of the block is a list of the errors that reading them would have raised.
    """
    found: list[NotBuildable] = []
    token = _tolerated.set(found)
    try:
        yield found
    finally:
        _tolerated.reset(token)


def tolerates(error: NotBuildable) -> bool:
    """Tell whether a value that cannot be made is read as something that stands for it, and note why it cannot."""
    found = _tolerated.get()
    if found is None:
        return False
    found.append(error)
    return True


def untag(found: dict[str, Any]) -> Any:
    """Return what a dict of JSON stands for: itself, unless it is tagged.

    :raises NotBuildable: when it is of a class that is not there, or has changed
    :raises Unreadable: when it is damaged
    """
    if len(found) != 1:
        return found
    content = found.get(TAG)
    if type(content) is not list or not content or type(content[0]) is not str:
        return found
    kind, *rest = content
    try:
        build = BUILDERS.get(kind)
        if build is None:
            raise NotBuildable(f"A value is of the kind {kind!r:.40}, which this version of taskflowx does not know")  # noqa: TRY301 - as a builder may
        return build(*rest)
    except NotBuildable as error:
        if kind != _SEALED and tolerates(error):
            return Unbuilt(content, str(error))
        raise
    except (RecursionError, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(f"A value of the kind {kind!r:.40} is damaged: {rest!r:.200}", error) from error


def class_name(cls: type) -> str:
    """Return the name of a class in records."""
    return f"{cls.__module__}:{cls.__qualname__}"


def find_class(name: str, asked: str) -> type:
    """Return the class of a name in a record, if the program has imported it.

    :param asked: what it has to be, for the error
    :raises NotBuildable: when it is not there
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    if found is None:
        raise NotBuildable(
            f"A value is {asked} of the class '{name}', and this program has not imported '{module}'\n"
            f"Import it before the record is read, or {_REGISTER}"
        )
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)  # runs nothing, as getattr may
    if not isinstance(found, type):
        raise changed(name, f"'{module}' has no such class")
    return found


def changed(name: str, problem: str) -> NotBuildable:
    """Return the error for a class that is not as it was when the record was written."""
    return NotBuildable(
        f"A value is of the class '{name}', which has changed since it was stored: {problem}\n"
        f"Make the class as it was, or {_REGISTER}"
    )


def check_found_again(part: Part) -> str:
    """Return the name of the class of a part.

    :raises Misfit: when a record could not lead to the class by its name
    """
    cls = type(part.value)
    name = class_name(cls)
    try:
        again: Any = find_class(name, "")
    except NotBuildable:
        again = None
    if again is not cls:
        part.refuse(f"is of the class {type_name(cls)}, which is not at the top level of a module under this name")
    return name


# -- what the program registers --------------------------------------------------------------------------------------


def register(type: type[_T], encode: Callable[[_T], Any], decode: Callable[[Any], _T], *, name: str = "") -> None:
    """Have stores keep values of a type of yours.

    It holds for this exact type, not for its subclasses, and goes before what the codec does with dataclasses, models
    and the like. Register it at import, in each program that writes or reads such records.

    :param type: the type
    :param encode: is called with a value, and returns what stands for it: anything that can be stored
    :param decode: is called with that, and returns the value
    :param name: what records call the type, by default its module and name; a name of its own outlives a move
    :raises TypeError: when `type` is no type, or one of the others cannot be called
    :raises ValueError: when the type or the name is registered already, or the codec stores it by itself
    """
    cls: Any = type
    if not isinstance(cls, _TYPE):
        raise TypeError(f"type must be a type, and not {cls!r:.80}; pass the class itself")
    for what, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise TypeError(f"{what} of {type_name(cls)} must be a function, and not {function!r:.80}")
    if not isinstance(name, str):
        raise TypeError(f"name of {type_name(cls)} must be a str, and not {name!r:.80}")
    _found(cls)  # the codec's own types are complete then
    if cls in WRITERS:
        raise ValueError(f"{type_name(cls)} need not be registered, it is stored as it is")
    name = name or class_name(cls)
    if cls in _own:
        raise ValueError(f"{type_name(cls)} is registered already; unregister it before")
    if name in _own_names:
        raise ValueError(f"{type_name(_own_names[name].cls)} is registered as '{name}' already; pass another name=")
    _own_names[name] = _own[cls] = Own(cls, name, encode, decode)


_TYPE = type


def unregister(type: type) -> None:
    """Forget a type that was registered.

    :raises ValueError: when it is not registered
    """
    own = _own.pop(type, None)
    if own is None:
        raise ValueError(f"{type!r:.80} is not registered")
    del _own_names[own.name]


def _build_own(name: str, encoded: Any) -> Any:
    own = _own_names.get(name)
    if own is None:
        raise NotBuildable(
            f"A value is of the registered type '{name}', and this program has not registered it\n"
            "Call taskflowx.persistence.codec.register(type, encode, decode) before the record is read"
        )
    try:
        return own.decode(encoded)
    except Exception as error:  # what the caller's function raises
        raise NotBuildable(
            f"A value is of the registered type '{name}', whose decode has raised {error!r:.200}"
        ) from error


BUILDERS["own"] = _build_own
