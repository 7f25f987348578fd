"""Converts values to the form that stores keep: JSON, and nothing but JSON.

Every durable store writes and reads values through this module, so that all of them accept and reject the same values.

Plain values (None, bool, int, float, str, lists, and dicts with keys that are str) are plain JSON. What JSON has no
form for is tagged: see `tags`, which is asked only when there is such a part in a value. Values may have `DEEPEST`
levels of JSON: every Python can read them, however deep its own stack is.

What must stay true: a value that was written reads back equal and of the same type (an instance of a subclass of a JSON
type or of tuple, if no kind of its own, reads back as that type). A value that would read back differently is rejected
with its position; nothing is pickled, and nothing is silently converted to text.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import itertools
import json
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias, TypeVar

from taskflowx import exceptions
from taskflowx.persistence import (
    models,
    tag_classes as _kinds,  # noqa: F401 - it registers them
    tags,
)

if TYPE_CHECKING:
    from taskflowx.types.failure import Failure

_T = TypeVar("_T")

Unreadable: TypeAlias = tags.Unreadable
NotBuildable: TypeAlias = tags.NotBuildable
Unbuilt: TypeAlias = tags.Unbuilt
tolerant, register, unregister = tags.tolerant, tags.register, tags.unregister

_WAY_OUT = (
    "Plain data can be stored, dates, sets, enum members, dataclasses and the like: return such data, register the "
    "type with taskflowx.persistence.codec.register(type, encode, decode), or give what need not be stored with "
    "inject(..., transient=True)"
)
#: the maximum number of levels of JSON in a value; a record around it has `_AROUND` more
DEEPEST = 200
_AROUND = 8
_JSON = frozenset({bool, float, int, str, type(None), list, dict})
_TEXT, _LIST, _NESTED = frozenset({str}), frozenset({list}), frozenset({list, dict})
_MANY = 1_000
_HALF = "\\ud"  # what the encoded text of each surrogate begins with, also where two stand for one character
_chain = itertools.chain.from_iterable
_INJECTOR = "_TaskFlow_INJECTOR"  # the detail that holds the values injected into a flow, `Storage.injector_name`
#: metadata key of a task whose result is a tuple: the result itself is a plain list, whose items TaskFlow can read too
_IS_TUPLE = "taskflowx_tuple"


def _make_encoder() -> Callable[[Any], str]:
    """Return a function that gives plain values as text, and raises for some others.

    The text is ASCII, so that text with lone surrogates can be stored, and a file's or column's encoding does not
    matter.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

    def refuse(value: Any) -> NoReturn:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    # What `JSONEncoder.encode` makes for each call. It does not look for cycles: they end in a RecursionError.
    encode = make(None, refuse, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False)
    join = "".join
    return lambda value: join(encode(value, 0))


_encode = _make_encoder()
#: reads what `_encode` has written, which has no space around it
_scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]

_quoted = json.encoder.encode_basestring_ascii
# The encoder's result for these types, without its cost.
_PLAIN: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    str: _quoted,
    type(None): lambda _: "null",
}

#: the errors of `from_dict` for an invalid record
_WRONG = (AttributeError, KeyError, OverflowError, TypeError, ValueError, RecursionError)

#: the parts of an atom's detail that hold arbitrary values; a store with columns keeps the JSON text of each
ATOM_VALUES = ("results", "revert_results", "failure", "revert_failure", "meta", "version")


def dumps(value: Any, what: str, deepest: int = DEEPEST) -> str:
    """Return a value as JSON text.

    :param what: names the value in errors, such as "result of atom 'x'"
    :param deepest: how many levels it may have
    :raises StorageFailure: when it would not read back as it is; names the bad part and its position
    """
    problem: Exception | None = None
    try:
        plain = _PLAIN.get(type(value))
        if plain is not None:
            text = plain(value)
            if plain is not _quoted or value.isascii() or _HALF not in text or _scan(text, 0)[0] == value:
                return text
        else:
            text = _encode(value)
            if (
                not ("$" in text and tags.TAG in text)
                and (type(value) is float or _is_plain(value, deepest))
                and not ("\\" in text and _HALF in text and _scan(text, 0)[0] != value)  # the first is far cheaper
            ):
                return text
    except RecursionError as error:  # from the value, or from a deep stack of the caller
        problem = error
    except (TypeError, ValueError) as error:
        problem = error
    return _dumps_tagged(value, what, deepest, problem)


def _is_plain(value: Any, deepest: int) -> bool:
    """Tell whether a value that the encoder takes is of JSON's types alone, and not nested too deeply.

    The encoder writes tuples as lists, some keys as text, and values of subclasses as those of the type. Python's
    collector gives what is in lists and dicts, several times as fast as a loop over them does.
    """
    level, types = [value], {type(value)}
    if types.isdisjoint(_NESTED):
        return False
    for _ in range(deepest):
        if types == _LIST:
            types = _types_in(level)  # mostly the last level: nothing is copied
            if not types <= _JSON:
                return False
            if types.isdisjoint(_NESTED):
                return True
            level = gc.get_referents(*level)
            continue
        if dict in types:
            dicts = level if len(types) == 1 else [part for part in level if type(part) is dict]
            if not _TEXT.issuperset(map(type, _chain(dicts))):
                return False
        level = gc.get_referents(*level)
        types = set(map(type, level))
        if not types <= _JSON:
            return False
        if types.isdisjoint(_NESTED):
            return True
    return False


def _types_in(lists: list[Any]) -> set[type]:
    """Return the types of what is in lists; of many numbers, say, they are counted, which is faster."""
    size = sum(map(len, lists))
    if size > _MANY and lists[0] and lists[-1]:
        kind = type(lists[0][0])
        if kind is type(lists[-1][-1]) and operator.countOf(map(type, _chain(lists)), kind) == size:
            return {kind}
    return set(map(type, _chain(lists)))


def _dumps_tagged(value: Any, what: str, deepest: int, problem: Exception | None) -> str:
    """Return a value that may not be plain as JSON text, as `dumps` does."""

    def text_of(value: Any) -> str:
        form = tags.form(tags.Part(value, deepest))
        text = _encode(form)
        if _HALF in text and _scan(text, 0)[0] != form:  # in a name, say
            raise tags.Misfit("", "has two surrogates in a text, which JSON reads as one character")
        return text

    try:
        try:
            return text_of(value)
        except RecursionError:
            return str(_with_own_stack(text_of, value))
    except tags.Misfit as misfit:
        if isinstance(problem, RecursionError):
            vars(problem).pop("__notes__", None)  # Python 3.14 adds one for each level
        at = f" at {misfit.where}" if misfit.where else ""
        msg = f"Cannot store {what}: the value{at} {misfit.problem}\n{_WAY_OUT}"
        cause = misfit.__cause__ or problem
        raise exceptions.Unstorable(msg, cause) from cause


def loads(text: str | bytes) -> Any:
    """Return the value from the text that `dumps` (or TaskFlow) has made.

    :raises NotBuildable: when a value in it is of a class that this program does not have, or that has changed
    :raises Unreadable: when the text is no JSON, or damaged
    """
    read: Callable[[Any], Any] = json.loads
    sign, tag = ("$", tags.TAG) if isinstance(text, str) else (b"$", tags.TAG.encode())
    if sign in text and tag in text:  # type: ignore[operator]
        read = _loads_tagged
    elif type(text) is str:
        try:
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, ValueError, RecursionError):
            pass  # `json.loads` says more
    try:
        try:
            return read(text)
        except RecursionError:
            context = contextvars.copy_context()
            return _with_own_stack(lambda text: context.run(read, text), text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"Cannot read what is stored, it is no JSON: {text[:80]!r}", error) from error


def _loads_tagged(text: str | bytes) -> Any:
    return json.loads(text, object_hook=tags.untag)


def _with_own_stack(function: Callable[[Any], Any], given: Any) -> Any:
    """Call a function on a fresh stack; returns its result."""
    import concurrent.futures  # for callers with a deep stack

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function, given).result()


def because(error: BaseException) -> str:
    """Return what an error about a whole record has to say of its cause: the class that this program lacks."""
    return f": {error}" if isinstance(error, NotBuildable) else ""


def like(error: BaseException) -> type[Unreadable]:
    """Return the class of the error about a whole record, by its cause."""
    return NotBuildable if isinstance(error, NotBuildable) else Unreadable


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


def failure_data(failure: Failure) -> dict[str, Any]:
    """Return a failure as `to_dict` does, in JSON's types alone."""
    data = failure.to_dict()
    for each in (data, *data.get("causes", ())):
        each["exc_args"] = [*each.get("exc_args", ())]
    return data


def plain_result(detail: models.AtomDetail) -> tuple[Any, dict[str, Any]]:
    """Return the result and the metadata of a task as they are written.

    A tuple is written as a list, whose items TaskFlow can take one by one, with a note in the metadata.
    """
    if type(detail.results) is tuple:
        return list(detail.results), {**detail.meta, _IS_TUPLE: True}
    return detail.results, detail.meta


def _data_of(detail: models.AtomDetail) -> dict[str, Any]:
    """Return the record of an atom, its histories aside."""
    data = models.AtomDetail.to_dict(detail)
    data["results"], data["meta"] = plain_result(detail)
    for part, failure in (("failure", detail.failure), ("revert_failure", detail.revert_failure)):
        if failure is not None:
            data[part] = failure_data(failure)
    if isinstance(detail.version, tuple):
        data["version"] = list(detail.version)
    if isinstance(detail, models.RetryDetail):
        data["results"] = [_attempt_data(attempt) for attempt in detail.results]
    return data


def dump_atom_values(detail: models.AtomDetail) -> dict[str, str | None]:
    """Return each of `ATOM_VALUES` of a detail as JSON text, None for what is None.

    :raises StorageFailure: when a value cannot be stored
    """
    data = _data_of(detail)
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
            return dumps({"atom": _data_of(detail), **more}, what, DEEPEST + _AROUND)
        data = _data_of(detail)
        del data["results"]
        text = dumps({**more, "atom": data}, what, DEEPEST + _AROUND)
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
    try:
        return dumps(_attempt_data(attempt), "", DEEPEST + _AROUND)
    except exceptions.StorageFailure:
        dumps(_data_of(detail)["results"], what_of(detail, "results"), DEEPEST + _AROUND)  # names the position in it
        raise


def _attempt_data(attempt: tuple[Any, dict[str, Any]]) -> list[Any]:
    value, failures = attempt
    return [value, {name: failure_data(failure) for name, failure in failures.items()}]


def load_atom(record: Any) -> models.AtomDetail:
    """Make an atom's detail from the record that `dump_atom` (or TaskFlow) has written.

    :raises Unreadable: when the record is invalid
    """

    def make() -> models.AtomDetail:
        detail = models.atom_detail_class(record["type"]).from_dict(record["atom"])
        if detail.own_meta and detail.own_meta.pop(_IS_TUPLE, None) is True and type(detail.results) is list:
            detail.results = tuple(detail.results)
        return detail

    return _made("the details of an atom", record, make)


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
    return _made("the details of a flow", record, lambda: models.FlowDetail.from_dict(record))


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
    return _made("a book", record, lambda: models.LogBook.from_dict(record, unmarshal_time=True))


def _dump_with_meta(detail: models.FlowDetail | models.LogBook, record: dict[str, Any]) -> str:
    try:
        return dumps(record, f"'{detail.name}'", DEEPEST + _AROUND)
    except exceptions.StorageFailure:
        dumps(detail.meta, what_of(detail, "meta"))  # raises again, and names the part
        raise


def _made(what: str, record: Any, make: Callable[[], _T]) -> _T:
    """Return what a function makes from a record.

    :raises Unreadable: when the record is invalid
    """
    try:
        return make()
    except _WRONG as error:
        try:
            text = str(record)[:200]
        except (RecursionError, ValueError) as unshown:  # deeply nested, or a number of thousands of digits
            text = f"({unshown})"
        raise Unreadable(f"Cannot read {what} from what is stored: {text}", error) from error
