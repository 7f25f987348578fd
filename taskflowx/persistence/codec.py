"""The seam between values and what a store keeps of them: JSON, and nothing but JSON.

Every durable store writes and reads values through here, so that all of them keep the same and refuse the same.

What must stay true: a value that was written reads back equal, except that a tuple reads back as a list (and what is
of a subclass of a JSON type reads back as that type). What would read back as something else is refused with the place
where it is; nothing is pickled, and nothing is turned into its text behind the user's back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from taskflowx import exceptions
from taskflowx.persistence import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WAY_OUT = (
    "Plain data can be stored: None, bool, int, float, str, lists, and dicts whose keys are str. Return such data, or "
    "give what need not be stored with inject(..., transient=True)"
)
_LEAVES = {bool, float, int, str, type(None)}
_INJECTOR = "_TaskFlow_INJECTOR"  # the detail that holds the values given to a flow, `Storage.injector_name`

# ASCII, so that text with lone surrogates can be stored, and a file's or column's encoding does not matter.
_encode = json.JSONEncoder(separators=(",", ":")).encode

# What the encoder does with these, without the encoder, which takes its time to be set up.
_PLAIN: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    str: json.encoder.encode_basestring_ascii,
    type(None): lambda _: "null",
}

#: the parts of an atom's detail that hold values of any shape; a store with columns keeps the JSON text of each
ATOM_VALUES = ("results", "revert_results", "failure", "revert_failure", "meta", "version")


def dumps(value: Any, what: str) -> str:
    """Return a value as JSON text.

    :param what: names the value in errors, such as "result of atom 'x'"
    :raises StorageFailure: when it would not read back as it is; says what it was and where
    """
    try:
        plain = _PLAIN.get(type(value))
        if plain is not None:
            return plain(value)
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(value, what, error)
    # The encoder takes some keys that are no str, and writes them as if they were.
    if "{" in text and not _has_only_text_keys(value):
        _refuse(value, what, None)
    return text


def loads(text: str | bytes) -> Any:
    """Return the value of which `dumps` (or TaskFlow) has made the text.

    :raises StorageFailure: when the text is no JSON
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"Cannot read what is stored, it is no JSON: {text[:80]!r}"
        raise exceptions.StorageFailure(msg, error) from error


def _has_only_text_keys(value: Any) -> bool:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            if not {str}.issuperset(map(type, part)) and not all(isinstance(key, str) for key in part):
                return False
            part = part.values()
        elif not isinstance(part, (list, tuple)):
            continue
        if not _LEAVES.issuperset(map(type, part)):
            pending.extend(part)
    return True


def _refuse(value: Any, what: str, error: Exception | None) -> NoReturn:
    where, problem = ("", "is nested too deeply") if isinstance(error, RecursionError) else _misfit(value)
    msg = f"Cannot store {what}: the value{where and f' at {where}'} {problem}\n{_WAY_OUT}"
    raise exceptions.Unstorable(msg, error) from error


def _misfit(value: Any) -> tuple[str, str]:
    """Return where the first part of a value is that cannot be stored, and what is wrong with it."""
    inside: list[Any] = []  # what is being looked into, the outermost first
    pending: list[Iterator[tuple[str, Any]]] = [iter([("", value)])]
    while pending:
        where, part = next(pending[-1], (None, None))
        if where is None:
            pending.pop()
            inside = inside[: len(pending) - 1]
            continue
        problem = _problem(part, inside)
        if problem:
            return where, problem
        if isinstance(part, (dict, list, tuple)):
            inside.append(part)
            pending.append(_parts(where, part))
    return "", "cannot be written"


def _parts(where: str, whole: Any) -> Iterator[tuple[str, Any]]:
    for key, part in whole.items() if isinstance(whole, dict) else enumerate(whole):
        yield f"{where}[{key!r}]", part


def _problem(part: Any, inside: list[Any]) -> str:
    """Say why a part of a value cannot be stored, without a look at what is in it; empty if it can.

    :param inside: what it is in
    """
    if part is None or isinstance(part, (str, float)):
        return ""
    if isinstance(part, int):
        return _too_long(part)
    if not isinstance(part, (dict, list, tuple)):
        return f"is of type {_type_name(part)}"
    if any(part is each for each in inside):
        return "contains itself"
    odd = [key for key in part if not isinstance(key, str)] if isinstance(part, dict) else []
    return f"has a key that is no str: {odd[0]!r} of type {_type_name(odd[0])}" if odd else ""


def _too_long(number: int) -> str:
    try:
        int.__repr__(number)
    except ValueError as error:
        return f"is an int too long to be written: {error}"
    return ""


def _type_name(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


# -- whole details -------------------------------------------------------------------------------------------------


def what_of(detail: Any, part: str) -> str:
    """Name a part of a detail or a book in errors.

    :param part: the name of the attribute
    """
    if isinstance(detail, models.LogBook):
        kind = "book"
    elif isinstance(detail, models.FlowDetail):
        kind = "flow"
    else:
        kind = "retry" if isinstance(detail, models.RetryDetail) else "atom"
    if part == "results":
        if detail.name == _INJECTOR:
            return "the values given to the flow"
        part = "history" if kind == "retry" else "result"
    names = {"meta": "metadata", "revert_results": "revert result", "revert_failure": "revert failure"}
    return f"{names.get(part, part)} of {kind} '{detail.name}'"


def dump_atom_values(detail: models.AtomDetail) -> dict[str, str | None]:
    """Return each of `ATOM_VALUES` of a detail as JSON text, None for what is None.

    :raises StorageFailure: when a value cannot be stored
    """
    data = detail.to_dict()
    return {part: None if data[part] is None else dumps(data[part], what_of(detail, part)) for part in ATOM_VALUES}


def dump_atom(detail: models.AtomDetail, **extras: Any) -> str:
    """Return the record of an atom as JSON text: its kind and all that its detail holds.

    :param extras: what the store keeps of its own in the record
    :raises StorageFailure: when a value in it cannot be stored
    """
    record = {"atom": detail.to_dict(), "type": models.atom_detail_type(detail), **extras}
    try:
        return dumps(record, f"details of atom '{detail.name}'")
    except exceptions.StorageFailure:
        dump_atom_values(detail)  # raises again, and names the part
        raise


def load_atom(record: dict[str, Any]) -> models.AtomDetail:
    """Make an atom's detail of the record that `dump_atom` (or TaskFlow) has written.

    :raises StorageFailure: when it is no such record
    """
    try:
        return models.atom_detail_class(record["type"]).from_dict(record["atom"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _unreadable("the details of an atom", record, error)


def dump_flow(detail: models.FlowDetail, **extras: Any) -> str:
    """Return the record of a flow, without its atoms, as JSON text.

    :param extras: what the store keeps of its own in the record
    :raises StorageFailure: when its metadata cannot be stored
    """
    return _dump_with_meta(detail, {**detail.to_dict(), **extras})


def load_flow(record: dict[str, Any]) -> models.FlowDetail:
    """Make a flow's detail of the record that `dump_flow` (or TaskFlow) has written.

    :raises StorageFailure: when it is no such record
    """
    try:
        return models.FlowDetail.from_dict(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _unreadable("the details of a flow", record, error)


def dump_book(book: models.LogBook, **extras: Any) -> str:
    """Return the record of a book, without its flows, as JSON text.

    :param extras: what the store keeps of its own in the record
    :raises StorageFailure: when its metadata cannot be stored
    """
    return _dump_with_meta(book, {**book.to_dict(marshal_time=True), **extras})


def load_book(record: dict[str, Any]) -> models.LogBook:
    """Make a book of the record that `dump_book` (or TaskFlow) has written.

    :raises StorageFailure: when it is no such record
    """
    try:
        return models.LogBook.from_dict(record, unmarshal_time=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _unreadable("a book", record, error)


def _dump_with_meta(detail: models.FlowDetail | models.LogBook, record: dict[str, Any]) -> str:
    try:
        return dumps(record, f"'{detail.name}'")
    except exceptions.StorageFailure:
        dumps(detail.meta, what_of(detail, "meta"))  # raises again, and names the part
        raise


def _unreadable(what: str, record: Any, error: Exception) -> NoReturn:
    msg = f"Cannot read {what} from what is stored: {str(record)[:200]}"
    raise exceptions.StorageFailure(msg, error) from error
