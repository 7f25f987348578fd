"""Converts values to the form that stores keep: JSON, and nothing but JSON.

Every durable store writes and reads values through this module, so that all of them accept and reject the same values.

Values may be nested `DEEPEST` levels deep: every Python can read them, however deep its own stack is.

What must stay true: a value that was written reads back equal, except that a tuple reads back as a list (and an
instance of a subclass of a JSON type reads back as that type). A value that would read back differently is rejected
with its position; nothing is pickled, and nothing is silently converted to text.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from taskflowx import exceptions
from taskflowx.persistence import models

_WAY_OUT = (
    "Plain data can be stored: None, bool, int, float, str, lists, and dicts whose keys are str. Return such data, or "
    "give what need not be stored with inject(..., transient=True)"
)
#: the maximum nesting of lists and dicts in a value; a record around it has `_AROUND` more levels
DEEPEST = 200
_AROUND = 8
_LISTS = (list, tuple)
_LEAVES = {bool, float, int, str, type(None)}
_INJECTOR = "_TaskFlow_INJECTOR"  # the detail that holds the values injected into a flow, `Storage.injector_name`

# ASCII, so that text with lone surrogates can be stored, and a file's or column's encoding does not matter.
_encode = json.JSONEncoder(separators=(",", ":")).encode

# The encoder's result for these types, without the cost of its setup.
_PLAIN: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    str: json.encoder.encode_basestring_ascii,
    type(None): lambda _: "null",
}

#: the errors of `from_dict` for an invalid record
_WRONG = (AttributeError, KeyError, OverflowError, TypeError, ValueError, RecursionError)

#: the parts of an atom's detail that hold arbitrary values; a store with columns keeps the JSON text of each
ATOM_VALUES = ("results", "revert_results", "failure", "revert_failure", "meta", "version")


class Unreadable(exceptions.StorageFailure):
    """The stored data is damaged; the store itself works."""


def dumps(value: Any, what: str) -> str:
    """Return a value as JSON text.

    :param what: names the value in errors, such as "result of atom 'x'"
    :raises StorageFailure: when it would not read back as it is; names the bad part and its position
    """
    return _dumps(value, what, DEEPEST)


def _dumps(value: Any, what: str, deepest: int) -> str:
    try:
        plain = _PLAIN.get(type(value))
        if plain is not None:
            return plain(value)
        text = _encode(value)
    except RecursionError as error:  # from the value, or from a deep stack of the caller
        if not _is_storable(value, deepest):
            _refuse(value, what, error, deepest)
        text = _with_own_stack(_encode, value)
    except (TypeError, ValueError) as error:
        _refuse(value, what, error, deepest)
    # The encoder converts some keys that are no str. A text with few brackets is not deep.
    if "{" in text:
        if not _is_storable(value, deepest):
            _refuse(value, what, None, deepest)
    elif text.count("[") > deepest and not _is_shallow(value, deepest):
        _refuse(value, what, None, deepest)
    return text


def loads(text: str | bytes) -> Any:
    """Return the value from the text that `dumps` (or TaskFlow) has made.

    :raises Unreadable: when the text is no JSON
    """
    try:
        try:
            return json.loads(text)
        except RecursionError:
            return _with_own_stack(json.loads, text)
    except (ValueError, RecursionError) as error:
        msg = f"Cannot read what is stored, it is no JSON: {text[:80]!r}"
        raise Unreadable(msg, error) from error


def _with_own_stack(function: Callable[[Any], Any], given: Any) -> Any:
    """Call a function on a fresh stack; returns its result."""
    import concurrent.futures  # for callers with a deep stack

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function, given).result()


def _is_storable(value: Any, deepest: int) -> bool:
    """Tell whether all keys are text, and the value is not nested too deeply."""
    level = [value]
    for _ in range(deepest):
        below: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                if not {str}.issuperset(map(type, part)) and not all(isinstance(key, str) for key in part):
                    return False
                inside: Any = part.values()
            elif isinstance(part, (list, tuple)):
                inside = part
            else:
                continue
            if not _LEAVES.issuperset(map(type, inside)):
                below.extend(inside)
        if not below:
            return True
        level = below
    return not any(isinstance(part, (dict, list, tuple)) for part in level)


def _is_shallow(value: Any, deepest: int) -> bool:
    """Tell whether nested lists are not too deep, in a fraction of the time that writing them takes."""
    level = [value]
    for _ in range(deepest):
        level = [part for whole in level for part in whole if type(part) not in _LEAVES and isinstance(part, _LISTS)]
        if not level:
            return True
    return False


def _refuse(value: Any, what: str, error: Exception | None, deepest: int) -> NoReturn:
    where, problem = _misfit(value, deepest)
    if isinstance(error, RecursionError):
        vars(error).pop("__notes__", None)  # Python 3.14 adds one for each level
    msg = f"Cannot store {what}: the value{where and f' at {where}'} {problem}\n{_WAY_OUT}"
    raise exceptions.Unstorable(msg, error) from error


def _misfit(value: Any, deepest: int) -> tuple[str, str]:
    """Return the position of the first part of a value that cannot be stored, and the reason."""
    inside: list[Any] = []  # the path to the current part, the outermost first
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
            if len(inside) == deepest:
                return f"{where[:40]}…{where[-40:]}", f"is nested too deeply, more than {deepest} levels"
            inside.append(part)
            pending.append(_parts(where, part))
    return "", "cannot be written"


def _parts(where: str, whole: Any) -> Iterator[tuple[str, Any]]:
    for key, part in whole.items() if isinstance(whole, dict) else enumerate(whole):
        yield f"{where}[{key!r}]", part


def _problem(part: Any, inside: list[Any]) -> str:
    """Return why a part of a value cannot be stored, its content aside; empty if it can.

    :param inside: the path to the part
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


def dump_atom(detail: models.AtomDetail, first: int = 0, **extras: Any) -> str:
    """Return the record of an atom as JSON text: its kind and the content of its detail.

    :param first: for a retry, the number of the first attempt in the record's history
    :param extras: additional data of the store in the record
    :raises StorageFailure: when a value in it cannot be stored
    """
    what = f"details of atom '{detail.name}'"
    more = {"type": models.atom_detail_type(detail), **extras}
    try:
        if not isinstance(detail, models.RetryDetail):
            return _dumps({"atom": detail.to_dict(), **more}, what, DEEPEST + _AROUND)
        data = models.AtomDetail.to_dict(detail)
        del data["results"]
        text = _dumps({**more, "atom": data}, what, DEEPEST + _AROUND)
        return f'{text[:-2]},"results":{dump_history(detail, first)}}}}}'
    except exceptions.StorageFailure:
        dump_atom_values(detail)  # raises again, and names the part
        raise


class _Past(NamedTuple):
    """The text of the finished attempts of a retry."""

    begin: int  # the range of their numbers
    end: int
    first: Any  # the first and the last of them, which identify the history
    last: Any
    text: str


def dump_history(detail: models.RetryDetail, first: int = 0) -> str:
    """Return the attempts of a retry as JSON text; that of finished attempts is made once.

    So a change to the value of a finished attempt does not reach the store.

    :param first: the number of the first attempt
    :raises StorageFailure: when a value in it cannot be stored
    """
    attempts, past = detail.results, detail.past
    over = len(attempts) - 1
    if (
        past is None
        or past.end > over
        or past.begin != first
        or attempts[first] is not past.first
        or attempts[past.end - 1] is not past.last
    ):
        past = _Past(first, first, None, None, "")
    texts = [past.text] if past.end > first else []
    texts += map(functools.partial(_attempt_text, detail), attempts[past.end :])
    if over > past.end:
        detail.past = _Past(first, over, attempts[first], attempts[over - 1], ",".join(texts[:-1]))
    return f"[{','.join(texts)}]"


def dump_attempts(detail: models.RetryDetail, begin: int, end: int) -> str:
    """Return a range of the attempts of a retry as JSON text.

    :raises StorageFailure: when a value in it cannot be stored
    """
    return f"[{','.join(_attempt_text(detail, attempt) for attempt in detail.results[begin:end])}]"


def _attempt_text(detail: models.RetryDetail, attempt: tuple[Any, dict[str, Any]]) -> str:
    value, failures = attempt
    written = [value, {name: failure.to_dict() for name, failure in failures.items()}]
    try:
        return _dumps(written, "", DEEPEST + _AROUND)
    except exceptions.StorageFailure:
        _dumps(detail.to_dict()["results"], what_of(detail, "results"), DEEPEST + _AROUND)  # names the position in it
        raise


def load_atom(record: Any) -> models.AtomDetail:
    """Make an atom's detail from the record that `dump_atom` (or TaskFlow) has written.

    :raises Unreadable: when the record is invalid
    """
    try:
        return models.atom_detail_class(record["type"]).from_dict(record["atom"])
    except _WRONG as error:
        _unreadable("the details of an atom", record, error)


def dump_flow(detail: models.FlowDetail, **extras: Any) -> str:
    """Return the record of a flow, without its atoms, as JSON text.

    :param extras: additional data of the store in the record
    :raises StorageFailure: when its metadata cannot be stored
    """
    return _dump_with_meta(detail, {**detail.to_dict(), **extras})


def load_flow(record: Any) -> models.FlowDetail:
    """Make a flow's detail from the record that `dump_flow` (or TaskFlow) has written.

    :raises Unreadable: when the record is invalid
    """
    try:
        return models.FlowDetail.from_dict(record)
    except _WRONG as error:
        _unreadable("the details of a flow", record, error)


def dump_book(book: models.LogBook, **extras: Any) -> str:
    """Return the record of a book, without its flows, as JSON text.

    :param extras: additional data of the store in the record
    :raises StorageFailure: when its metadata cannot be stored
    """
    return _dump_with_meta(book, {**book.to_dict(marshal_time=True), **extras})


def load_book(record: Any) -> models.LogBook:
    """Make a book from the record that `dump_book` (or TaskFlow) has written.

    :raises Unreadable: when the record is invalid
    """
    try:
        return models.LogBook.from_dict(record, unmarshal_time=True)
    except _WRONG as error:
        _unreadable("a book", record, error)


def _dump_with_meta(detail: models.FlowDetail | models.LogBook, record: dict[str, Any]) -> str:
    try:
        return _dumps(record, f"'{detail.name}'", DEEPEST + _AROUND)
    except exceptions.StorageFailure:
        dumps(detail.meta, what_of(detail, "meta"))  # raises again, and names the part
        raise


def _unreadable(what: str, record: Any, error: Exception) -> NoReturn:
    try:
        text = str(record)[:200]
    except (RecursionError, ValueError) as unshown:  # deeply nested, or a number of thousands of digits
        text = f"({unshown})"
    msg = f"Cannot read {what} from what is stored: {text}"
    raise Unreadable(msg, error) from error
