"""The parts of an exception that a `Failure` keeps, and their forms in stores and pickles.

Nothing here raises, whatever an exception does in its `__str__` or has in its `args`, except the checks of callers'
arguments.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from taskflowx import exceptions
from taskflowx._util import arguments

if TYPE_CHECKING:
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class Record(NamedTuple):
    """The description of one exception, in a form that JSON can hold."""

    type_names: tuple[str, ...]
    text: str
    args: tuple[Any, ...]
    traceback: str | None


def row(name: str, parts: dict[str, Any], accepted: str) -> tuple[Any, ...]:
    """Return an argument that is an iterable, or is missing, as a tuple."""
    given = parts.get(name) or ()
    arguments.check_iterable(name, given, accepted)
    return tuple(given)


def checked_exc_info(exc_info: Any) -> ExcInfo:
    """Return the triple if it is one of an `Exception`; raises TypeError, or ValueError for no triple."""
    arguments.check_type("exc_info", exc_info, (tuple, list, str), "what sys.exc_info() gives, or None")
    if len(exc_info) != 3:  # noqa: PLR2004 - type, exception and traceback
        raise ValueError("Provided 'exc_info' must contain three elements")
    kind, exception, trace = exc_info
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        raise TypeError(f"Invalid exception type '{kind}' ({type(kind)})")
    if not isinstance(exception, Exception):
        raise TypeError(f"Invalid exception '{exception}' ({type(exception)})")
    if trace is not None and not isinstance(trace, TracebackType):
        raise TypeError(f"Invalid traceback '{trace}' ({type(trace)})")
    return kind, exception, trace


class _UnderWay(threading.local):
    """The exceptions that this thread is pickling: one may hold the very failure that was made from it."""

    def __init__(self) -> None:
        self.ids: set[int] = set()


_UNDER_WAY = _UnderWay()


def pickled(exception: BaseException) -> bytes | None:
    """Return a pickle that restores the exception exactly, or None if there is none."""
    if id(exception) in _UNDER_WAY.ids:
        return None
    _UNDER_WAY.ids.add(id(exception))
    try:
        # Many classes take other arguments than they pass on, and cannot be restored from their `args`.
        return _tried(exception, exception) or _tried(exception, _Parts(exception))
    finally:
        _UNDER_WAY.ids.discard(id(exception))


def _tried(exception: BaseException, form: Any) -> bytes | None:
    """Return the pickle of one form of an exception, or None if it does not restore the exception."""
    import pickle

    try:
        data = pickle.dumps(form)
        again = pickle.loads(data)  # noqa: S301 - written a line above
    except Exception:  # noqa: BLE001 - a user's exception may raise anything when it is unpickled
        return None
    return data if type(again) is type(exception) and text_of(again) == text_of(exception) else None


class _Parts:
    """Pickles an exception as its class, its arguments and its attributes, to be restored without its constructor."""

    __slots__ = ("_exception",)

    def __init__(self, exception: BaseException) -> None:
        self._exception = exception

    def __reduce__(self) -> tuple[Any, ...]:
        exception = self._exception
        return exceptions.rebuild, (type(exception), exception.args), exception.__dict__


def causes_of(exception: BaseException) -> Iterator[BaseException]:
    """Iterate over the causes of an exception, the nearest first; a cycle ends where it began."""
    seen = set()
    current: BaseException | None = exception
    while True:
        assert current is not None
        seen.add(id(current))
        if current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__
        if current is None or id(current) in seen:
            return
        yield current


def name_of(cls: type) -> str:
    """Return the name of a class, with its module unless it is built in."""
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def type_names_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the names of the class of an exception and of its bases."""
    base = Exception if issubclass(kind, Exception) else BaseException
    return tuple(name_of(cls) for cls in kind.__mro__ if issubclass(cls, base))


def text_of(exception: BaseException) -> str:
    """Return the text of an exception, even if its class cannot produce one."""
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return "<exception str() failed>"


def trace_text(exception: BaseException, trace: TracebackType | None) -> str:
    """Return the traceback without headline, followed by notes and other parts that the exception's text lacks."""
    lines = traceback.format_tb(trace)
    try:
        if says_more(exception):
            lines += traceback.format_exception(type(exception), exception, None, chain=False)
    except Exception:  # noqa: BLE001, S110 - a user's class may have replaced its notes by anything
        pass
    return "".join(lines)


def html_of(record: Record) -> str:
    """Return a description as HTML: the exception, and its traceback folded below it."""
    import html  # only a notebook needs it

    name, text, trace = (
        html.escape(part.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}"))
        for part in (next(iter(record.type_names), "Failure"), record.text, record.traceback or "")
    )
    message = f'<div><b>{name}</b>: <span style="white-space:pre-wrap">{text}</span></div>'
    if not trace:
        return message
    return f"{message}<details><summary>Traceback (most recent call last)</summary><pre>{trace}</pre></details>"


def says_more(exception: BaseException) -> bool:
    """Tell whether the traceback of an exception has more in it than its frames."""
    try:
        return isinstance(exception, BaseExceptionGroup) or bool(getattr(exception, "__notes__", None))
    except Exception:  # noqa: BLE001 - as above
        return False


def args_of(exception: BaseException) -> tuple[Any, ...]:
    """Return the arguments of an exception; none if its class has replaced `args` by something else."""
    try:
        return tuple(exception.args)
    except Exception:  # noqa: BLE001 - a user's class may have replaced `args` by anything
        return ()


_DEEPEST = 100  # levels of lists and dicts in an argument


def storable(arg: Any) -> Any:
    """Return an argument as it reads after a round trip through JSON, or a note if it has no JSON form."""
    if arg is None or type(arg) is str:
        return arg
    try:
        import json  # imported only when a failure is written

        text = json.dumps(arg, allow_nan=False)
        return json.loads(text) if _is_shallow(text) else f"<not kept, nested too deeply: {name_of(type(arg))}>"
    except Exception:  # noqa: BLE001 - a user's object may raise anything
        return f"<not kept: {name_of(type(arg))}>"


def _is_shallow(text: str) -> bool:
    """Tell whether JSON text is shallow enough for a store, with a failure around it."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return True
    import re  # imported only in the rare case

    depth = 0
    for letter in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        depth += (letter in "[{") - (letter in "]}")
        if depth > _DEEPEST:
            return False
    return True


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list, tuple),
    "integer": (int,),
    "null": (type(None),),
    "object": (dict,),
    "string": (str,),
}


def check_shape(data: Any, root: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Check data against a self-referential schema, without recursion: causes may be nested deep.

    Returns each part that the whole schema applies to, with its position.
    """
    parts = []
    pending: list[tuple[str, Any, dict[str, Any]]] = [("", data, root)]
    for where, value, asked in pending:
        schema = root if "$ref" in asked else asked
        _check_value(value, schema, where)
        if schema is root:
            parts.append((where, value))
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                pending.append((f"{where}.{name}", value[name], inner))
        if "items" in schema:
            pending.extend((f"{where}[{n}]", item, schema["items"]) for n, item in enumerate(value))
    return parts


def _check_value(value: Any, schema: dict[str, Any], where: str) -> None:
    """Check one value, but not its content."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    types = tuple(kind for name in kinds for kind in _JSON_TYPES[name])
    fits = isinstance(value, types) and not isinstance(value, bool)
    if not fits:
        _refuse(f"{value!r} is not of type {', '.join(map(repr, kinds))}", where)
    for name in schema.get("required", ()):
        if name not in value:
            _refuse(f"'{name}' is a required property", where)
    if "minimum" in schema and value < schema["minimum"]:
        _refuse(f"{value!r} is less than the minimum of {schema['minimum']}", where)
    if schema.get("minItems", 0) and not value:
        _refuse(f"{value!r} should be non-empty", where)


def _refuse(problem: str, where: str) -> NoReturn:
    raise exceptions.InvalidFormat(f"Failure data not of the expected format: {problem}{place_of(where)}")


def place_of(where: str) -> str:
    """Return the words for a position in data; empty for the whole."""
    return f"\n  at {where.lstrip('.')}" if where else ""
