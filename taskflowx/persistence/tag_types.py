"""The forms of JSON's own types, of those of Python and its library, and of NumPy's scalars and arrays.

What must stay true: a value comes back equal and of the same type, a subclass of a type of JSON or of tuple that is no
kind of its own as that type. A library is used here only when the program has imported it.
"""

from __future__ import annotations

import base64
import collections
import datetime as dt
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from taskflowx.persistence import tags
from taskflowx.persistence.tags import TAG, Part

#: the maximum size of an array in bytes; what is larger belongs into a file
LARGEST_ARRAY = 1_000_000
_BETWEEN_SURROGATES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")
_KINDS_OF_ARRAYS = "biufcmMSU"  # no objects, no records, no text of any length


# -- the types of JSON -----------------------------------------------------------------------------------------------


def _same(part: Part) -> Any:
    return part.value


def _text(part: Part) -> Any:
    text = str.__str__(part.value)
    if text.isascii():
        return text
    pieces = _BETWEEN_SURROGATES.split(text)
    return text if len(pieces) == 1 else tags.tagged(part, "str", *pieces)  # JSON would join the surrogates


def _whole(part: Part) -> Any:
    number = int.__int__(part.value)
    try:
        int.__repr__(number)
    except ValueError:  # Python limits the digits that it writes and reads, in decimals alone
        return tags.tagged(part, "int", hex(number))
    return number


def _float(part: Part) -> Any:
    number = float.__float__(part.value)
    return number if math.isfinite(number) else tags.tagged(part, "float", float.__repr__(number))


def _list(part: Part) -> list[Any]:
    if part.left < 1:
        part.refuse_depth()
    return [part.form(each, 1, "[{!r}]", at) for at, each in enumerate(list.__iter__(part.value))]


def _dict(part: Part) -> dict[str, Any]:
    if part.left < 1:
        part.refuse_depth()
    items = list(dict.items(part.value))
    keys = [
        key if type(key) is str and key.isascii() else part.form(key, 4, "[the key {!r:.80}]", key) for key, _ in items
    ]
    if TAG not in keys and all(type(key) is str for key in keys):
        if len(set(keys)) != len(keys):  # of a subclass, whose instances are not equal where their texts are
            part.refuse("has two keys with the same text")
        return {key: part.form(each, 1, "[{!r}]", key) for key, (_, each) in zip(keys, items, strict=True)}
    pairs = ([key, part.form(each, 3, "[{!r}]", at)] for key, (at, each) in zip(keys, items, strict=True))
    return tags.tagged(part, "dict", *pairs)


tags.WRITERS.update({str: _text, bool: _same, type(None): _same, int: _whole, float: _float, list: _list, dict: _dict})
tags.BUILDERS["str"] = lambda *pieces: "".join(pieces)
tags.BUILDERS["int"] = lambda text: int(text, 16)
tags.BUILDERS["float"] = float
tags.BUILDERS["dict"] = lambda *pairs: {key: value for key, value in pairs}  # noqa: C416 - each has to be a pair


# -- collections -----------------------------------------------------------------------------------------------------


def _items(kind: str, place: str = "[{!r}]") -> tags.Writer:
    def write(part: Part) -> Any:
        each = enumerate(part.value)
        return tags.tagged(part, kind, *[part.form(item, 2, place, at) for at, item in each])

    return write


def _tuple(part: Part) -> Any:
    items = enumerate(tuple.__iter__(part.value))
    return tags.tagged(part, "tuple", *[part.form(item, 2, "[{!r}]", at) for at, item in items])


def _deque(part: Part) -> Any:
    items = [part.form(item, 2, "[{!r}]", at) for at, item in enumerate(part.value)]
    return tags.tagged(part, "deque", part.value.maxlen, *items)


tags.WRITERS[tuple] = _tuple
tags.WRITERS[set] = _items("set", "{{…}}")
tags.WRITERS[frozenset] = _items("frozenset", "{{…}}")
tags.WRITERS[collections.deque] = _deque
tags.BUILDERS["tuple"] = lambda *items: items
tags.BUILDERS["set"] = lambda *items: set(items)
tags.BUILDERS["frozenset"] = lambda *items: frozenset(items)
tags.BUILDERS["deque"] = lambda longest, *items: collections.deque(items, longest)


# -- bytes and numbers -----------------------------------------------------------------------------------------------


def _bytes(kind: str) -> tags.Writer:
    return lambda part: tags.tagged(part, kind, base64.b64encode(part.value).decode())


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _complex(part: Part) -> Any:
    parts = [part.value.real, part.value.imag]
    return tags.tagged(part, "complex", *[each if math.isfinite(each) else float.__repr__(each) for each in parts])


tags.WRITERS |= {bytes: _bytes("bytes"), bytearray: _bytes("bytearray"), complex: _complex}
tags.BUILDERS["bytes"] = _from_base64
tags.BUILDERS["bytearray"] = lambda text: bytearray(_from_base64(text))
tags.BUILDERS["complex"] = lambda real, imaginary: complex(float(real), float(imaginary))


# -- time ------------------------------------------------------------------------------------------------------------


def _moment(kind: str) -> tags.Writer:
    def write(part: Part) -> Any:
        value = part.value
        zone = value.tzinfo
        content = [value.replace(tzinfo=None).isoformat()]
        if value.fold or zone is not None:
            content += [value.fold, part.form(zone, 2, ".{}", "tzinfo")]
        return tags.tagged(part, kind, *content)

    return write


def _from_moment(cls: Any) -> Callable[..., Any]:
    def build(text: str, fold: int = 0, zone: Any = None) -> Any:
        return cls.fromisoformat(text).replace(fold=fold, tzinfo=zone)

    return build


def _span(value: dt.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _timezone(part: Part) -> Any:
    offset, *name = part.value.__getinitargs__()  # a name only if it was given
    return tags.tagged(part, "timezone", _span(offset), *[part.form(each, 2) for each in name])


tags.WRITERS |= {
    dt.datetime: _moment("datetime"),
    dt.time: _moment("time"),
    dt.date: lambda part: tags.tagged(part, "date", part.value.isoformat()),
    dt.timedelta: lambda part: tags.tagged(part, "timedelta", *_span(part.value)),
    dt.timezone: _timezone,
}
tags.BUILDERS["datetime"] = _from_moment(dt.datetime)
tags.BUILDERS["time"] = _from_moment(dt.time)
tags.BUILDERS["date"] = dt.date.fromisoformat
tags.BUILDERS["timedelta"] = dt.timedelta
tags.BUILDERS["timezone"] = lambda offset, *name: dt.timezone(dt.timedelta(*offset), *name)


def _zone(part: Part) -> Any:
    if part.value.key is None:
        part.refuse("is a ZoneInfo without a key")
    return tags.tagged(part, "zoneinfo", part.value.key)


def _build_zone(key: str) -> Any:
    import zoneinfo  # of Python's library, as those below

    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise tags.NotBuildable(f"A value is in the time zone {key!r}, which is not known here: {error}") from error


# -- what is in modules that not every program imports ---------------------------------------------------------------


def _as_text(kind: str) -> tags.Writer:
    return lambda part: tags.tagged(part, kind, str(part.value))


def _path(part: Part) -> Any:
    return tags.tagged(part, "path", type(part.value).__name__, part.form(str(part.value), 2))


def _build_uuid(text: str) -> Any:
    import uuid

    return uuid.UUID(text)


def _build_decimal(text: str) -> Any:
    import decimal

    return decimal.Decimal(text)


def _build_path(kind: str, text: str) -> Any:
    import pathlib

    if kind not in _PATHS:
        raise ValueError(kind)
    try:
        return getattr(pathlib, kind)(text)
    except NotImplementedError as error:  # it has a subclass since Python 3.13
        raise tags.NotBuildable(f"A value is a {kind}, which this system does not have: {text!r:.200}") from error


_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
tags.BUILDERS |= {"zoneinfo": _build_zone, "uuid": _build_uuid, "decimal": _build_decimal, "path": _build_path}

#: module -> its types, with their writers; they are looked at when the program has imported it
_LATER: dict[str, dict[str, tags.Writer]] = {
    "zoneinfo": {"ZoneInfo": _zone},
    "uuid": {"UUID": _as_text("uuid")},
    "decimal": {"Decimal": _as_text("decimal")},
    "pathlib": dict.fromkeys(_PATHS, _path),
}


def _look_later(cls: type) -> tags.Writer | None:
    for name in list(_LATER):
        module = sys.modules.get(name)
        if module is not None:
            found = {getattr(module, kind, None): writer for kind, writer in _LATER[name].items()}
            if None not in found:  # another thread is importing it
                tags.WRITERS.update(found)  # type: ignore[arg-type]
                _LATER.pop(name, None)
    return tags.WRITERS.get(cls)


# -- NumPy -----------------------------------------------------------------------------------------------------------


def _look_in_numpy(cls: type) -> tags.Writer | None:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "generic"):
        return None
    if cls is numpy.ndarray:
        return _array
    return _scalar if issubclass(cls, numpy.generic) and cls.__module__ == "numpy" else None


def _check_dtype(part: Part) -> None:
    dtype = part.value.dtype
    if dtype.kind not in _KINDS_OF_ARRAYS or dtype.names is not None:
        part.refuse(f"is of NumPy's dtype {dtype!r:.80}, which is not storable")


def _scalar(part: Part) -> Any:
    value: Any = part.value
    kind = value.dtype.kind
    if kind in "SU":  # they have no fixed size
        plain = part.form(str.__str__(value), 2) if kind == "U" else base64.b64encode(value).decode()
        return tags.tagged(part, "numpy", kind, plain)
    _check_dtype(part)
    return tags.tagged(part, "numpy", value.dtype.str, base64.b64encode(value.tobytes()).decode())


def _array(part: Part) -> Any:
    _check_dtype(part)
    value = part.value
    if value.nbytes > LARGEST_ARRAY:
        part.refuse(
            f"is an array of {value.nbytes:,} bytes, and one of {LARGEST_ARRAY:,} at most is stored; write it to a "
            "file, and return its name"
        )
    data = base64.b64encode(value.tobytes()).decode()
    return tags.tagged(part, "ndarray", value.dtype.str, list(value.shape), data)


def _numpy() -> Any:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        raise tags.NotBuildable(
            "A value is one of NumPy, and this program has not imported it\nimport numpy before the record is read"
        )
    return numpy


def _dtype(text: str) -> Any:
    dtype = _numpy().dtype(text)
    if dtype.kind not in _KINDS_OF_ARRAYS:
        raise ValueError(text)
    return dtype


def _build_scalar(kind: str, data: str) -> Any:
    numpy = _numpy()
    if kind == "U":
        return numpy.str_(data)
    if kind == "S":
        return numpy.bytes_(_from_base64(data))
    return numpy.frombuffer(_from_base64(data), _dtype(kind), 1)[0]


def _build_array(kind: str, shape: list[int], data: str) -> Any:
    numpy, dtype, content = _numpy(), _dtype(kind), _from_base64(data)
    if len(content) != math.prod(shape) * dtype.itemsize:  # before there is room for it
        raise ValueError(f"{len(content)} bytes for the shape {shape}")
    made = numpy.empty(shape, dtype)
    if content:
        made.reshape(-1).view("u1")[:] = numpy.frombuffer(content, "u1")
    return made


tags.BUILDERS |= {"numpy": _build_scalar, "ndarray": _build_array}


# -- subclasses ------------------------------------------------------------------------------------------------------


def look_at_bases(cls: type) -> tags.Writer | None:
    """Return the writer of the type of JSON that a class is derived from."""
    for base, writer in ((str, _text), (int, _whole), (float, _float), (dict, _dict), (list, _list), (tuple, _tuple)):
        if issubclass(cls, base):
            return writer
    return None


tags.FINDERS += [_look_later, _look_in_numpy]


# -- documents that are elsewhere, or are to be opened first -----------------------------------------------------------


class Blob(NamedTuple):
    """Refers to a value in a blob: its run, the digest and the size of its bytes, and whether these are the value."""

    run: str
    digest: str
    size: int
    is_raw: bool


def _refuse_sealed(*_: Any) -> Any:
    raise tags.NotBuildable("it was written through a transform=: make the store with the same one to read it")


tags.WRITERS[Blob] = lambda part: tags.tagged(part, "blob", *part.value)
tags.BUILDERS["blob"] = lambda run, digest, size, is_raw: Blob(str(run), str(digest), int(size), bool(is_raw))
tags.BUILDERS["sealed"] = _refuse_sealed
