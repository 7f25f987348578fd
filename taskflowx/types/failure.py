"""How a call went wrong, as a value.

A `Failure` is made from an exception by the engine and by executors, handed to `revert` and to retries, kept
in stores and raised again when a run ends. Two kinds look alike from outside:

    made here    has the exception and its traceback. To make one costs next to nothing: names, text,
    traceback
                 and causes are worked out when they are asked for
    reloaded     from a pickle or from JSON. Has the description (a `_Record` for itself and for each cause),
    and
                 no exception

What must stay true: a failure never changes; describing one never raises, whatever the exception does in its
`__str__` or has in its `args`; the description has only what JSON can hold, so one that was stored and read
back `matches` the first. The causes of a failure are a chain, kept as links and stored as a flat list, so a
chain of any length costs as many records as it has members.
"""

# Private names are used freely between the failures and functions of this one file.
# ruff: noqa: SLF001

from __future__ import annotations

import json
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Self

from taskflowx import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class _Record(NamedTuple):
    """What is kept of one exception, in a form that JSON can hold."""

    type_names: tuple[str, ...]
    text: str
    args: tuple[Any, ...]
    traceback: str | None


class Failure:
    """An exception as a value that can be compared, stored, sent elsewhere and raised again.

    :param exc_info: what `sys.exc_info()` gives; None takes the exception that is being handled
    :param kwargs: instead of it the description of an exception that is gone: `exception_str`,
        `exc_type_names`, `traceback_str`, `exc_args`, `causes` (failures)
    :raises TypeError: if there is no exception, or one that is no `Exception` (such as KeyboardInterrupt)
    """

    BASE_EXCEPTIONS: ClassVar[tuple[str, ...]] = ("BaseException", "Exception")
    DICT_VERSION: ClassVar[int] = 1

    __slots__ = ("_exc_info", "_record", "_cause", "_is_linked")

    _exc_info: ExcInfo | None
    _record: _Record | None  # None until worked out
    _cause: Failure | None  # the next one in the chain, which links to the one after it
    _is_linked: bool  # whether `_cause` has been worked out

    def __init__(self, exc_info: ExcInfo | None = None, **kwargs: Any) -> None:
        self._exc_info = None
        self._record = None
        self._cause = None
        if kwargs:
            self._describe(kwargs)
            return
        self._exc_info = _checked(sys.exc_info() if exc_info is None else exc_info)
        self._is_linked = False

    def _describe(self, parts: dict[str, Any]) -> None:
        """Become a failure without an exception, known by its description only."""
        unknown = parts.keys() - {"exception_str", "exc_type_names", "traceback_str", "exc_args", "causes"}
        if unknown:
            names = ", ".join(sorted(unknown))
            raise TypeError(f"Failure.__init__ got unexpected keyword argument(s): {names}")
        if "exception_str" not in parts:
            raise TypeError("Failure.__init__ needs 'exception_str' to describe an exception")
        self._record = _Record(
            tuple(parts.get("exc_type_names") or ()),
            parts["exception_str"],
            tuple(parts.get("exc_args") or ()),
            parts.get("traceback_str"),
        )
        self._cause = _linked(cause.copy() for cause in parts.get("causes") or ())
        self._is_linked = True

    @classmethod
    def from_exception(cls, exception: BaseException) -> Self:
        """Make a failure from an exception and the traceback that it has now.

        :raises TypeError: if it is no `Exception`
        """
        if not isinstance(exception, Exception):
            raise TypeError(f"Invalid exception type '{type(exception)}' ({type(type(exception))})")
        return cls._made_from(exception)

    @classmethod
    def _made_from(cls, exception: BaseException) -> Self:
        """Make a failure without a look at the exception's type: a cause may be a KeyboardInterrupt."""
        self = cls.__new__(cls)
        self._exc_info = (type(exception), exception, exception.__traceback__)
        self._record = None
        self._cause = None
        self._is_linked = False
        return self

    @classmethod
    def validate(cls, data: Any) -> None:
        """Refuse data that `to_dict` cannot have given.

        :raises InvalidFormat: says what is wrong with it, and where
        """
        pending = [("", data)]
        while pending:
            where, part = pending.pop()
            _check_shape(where, part)
            last = part["exc_type_names"][-1]
            if last not in cls.BASE_EXCEPTIONS:
                raise exceptions.InvalidFormat(
                    "Failure data 'exc_type_names' must have an initial exception type that is one of"
                    f" {cls.BASE_EXCEPTIONS} types: '{last}' is not one of those types{_at(where)}"
                )
            pending.extend((f"{where}causes[{n}].", cause) for n, cause in enumerate(part.get("causes", ())))

    def matches(self, other: object) -> bool:
        """Tell whether the other is a failure of the same description.

        Types, text, arguments, traceback and causes count. Unlike with `==` it does not matter whether the
        exception itself is still there.
        """
        if not isinstance(other, Failure):
            return False
        if self._is_of_same_exception(other):
            return True
        # First what is cheap: most failures that differ do so here, and no traceback is formatted.
        if self.exception_str != other.exception_str or self._type_names() != other._type_names():
            return False
        return self._chain_of_records() == other._chain_of_records()

    def _is_of_same_exception(self, other: Failure) -> bool:
        mine, theirs = self._exc_info, other._exc_info
        return mine is not None and theirs is not None and mine[1] is theirs[1] and mine[2] is theirs[2]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Failure):
            return NotImplemented
        return (self._exc_info is None) == (other._exc_info is None) and self.matches(other)

    # Compared by a description that is long to work out, and TaskFlow's cannot be hashed either.
    __hash__ = None  # type: ignore[assignment]

    @property
    def exception(self) -> Exception | None:
        """The exception, or None if this failure was reloaded."""
        return self._exc_info[1] if self._exc_info is not None else None  # type: ignore[return-value]

    @property
    def exception_str(self) -> str:
        """The text of the exception."""
        return _text_of(self._exc_info[1]) if self._exc_info is not None else self._description().text

    @property
    def exception_args(self) -> tuple[Any, ...]:
        """The arguments of the exception.

        When it was reloaded, one that has no JSON form is replaced by a note in its place.
        """
        return _args_of(self._exc_info[1]) if self._exc_info is not None else self._description().args

    @property
    def exc_info(self) -> ExcInfo | None:
        """Type, exception and traceback, or None if this failure was reloaded."""
        return self._exc_info

    @property
    def traceback_str(self) -> str | None:
        """The formatted traceback, without headline; empty if the exception has none."""
        return self._description().traceback

    @staticmethod
    def reraise_if_any(failures: Iterable[Failure]) -> None:
        """Raise one failure as its own exception, several as a `WrappedFailure`, and do nothing for none."""
        several = list(failures)
        if len(several) == 1:
            several[0].reraise()
        if several:
            raise exceptions.WrappedFailure(several)

    def reraise(self) -> NoReturn:
        """Raise the exception with the traceback that it had; a `WrappedFailure` if the exception is gone."""
        if self._exc_info is None:
            raise exceptions.WrappedFailure([self])
        _, exception, trace = self._exc_info
        raise exception.with_traceback(trace)

    def check(self, *exc_classes: type | str) -> type | str | None:
        """Return the first of the given classes or names that the exception is of, or None.

        A name is that of the class, with its module before it unless it is built in: `ValueError`,
        `binascii.Error`. Classes are compared by name too, so it works after a reload.
        """
        names = self._type_names()
        for wanted in exc_classes:
            if (_name_of(wanted) if isinstance(wanted, type) else wanted) in names:
                return wanted
        return None

    @property
    def causes(self) -> tuple[Failure, ...]:
        """The failures that led to this one, the nearest first.

        They are what `raise … from` says, or else what was being handled, unless that is suppressed (`from
        None`).
        """
        if not self._is_linked:
            assert self._exc_info is not None, "a failure without its exception is linked from the start"
            self._cause = _linked(map(Failure._made_from, _causes_of(self._exc_info[1])))
            self._is_linked = True
        chain = []
        cause = self._cause
        while cause is not None:
            chain.append(cause)
            cause = cause._cause
        return tuple(chain)

    def pformat(self, traceback: bool = False) -> str:
        """Return type and text of the exception, and below it the traceback if wanted."""
        names = self._type_names()
        text = ": ".join(["Failure", *names[:1], self.exception_str])
        if not traceback:
            return text
        trace = self.traceback_str
        if not trace:
            return f"{text}\nTraceback not available."
        return f"{text}\nTraceback (most recent call last):\n{trace.rstrip()}"

    def __str__(self) -> str:
        return self.pformat()

    def __repr__(self) -> str:
        return f"<{self.pformat()}>"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the exception's class and its bases, up to and with Exception."""
        return iter(self._type_names())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a failure from what `to_dict` gave, also that of an older version without arguments or causes.

        :raises ValueError: if the data is of a version that is not known
        :raises TypeError: if it has keys that are not known, or no text
        """
        parts = dict(data)
        version = parts.pop("version", None)
        if version != cls.DICT_VERSION:
            raise ValueError(f"Invalid dict version of failure object: {version!r}")
        # The list has the whole chain. That a cause may list its own causes again adds nothing.
        parts["causes"] = [cls.from_dict({**cause, "causes": ()}) for cause in parts.get("causes") or ()]
        return cls(**parts)

    def to_dict(self, include_args: bool = True) -> dict[str, Any]:
        """Return the description as a dict that JSON can hold.

        :param include_args: whether the arguments of the exception are in it (they may be secret)
        """
        data, *causes = [self._record_to_dict(record, include_args) for record in self._chain_of_records()]
        data["causes"] = causes
        return data

    @classmethod
    def _record_to_dict(cls, record: _Record, include_args: bool) -> dict[str, Any]:
        return {
            "exception_str": record.text,
            "traceback_str": record.traceback,
            "exc_type_names": list(record.type_names),
            "version": cls.DICT_VERSION,
            "exc_args": record.args if include_args else (),
        }

    def copy(self) -> Self:
        """Return another failure of the same exception."""
        other = self.__class__.__new__(self.__class__)
        other._exc_info = self._exc_info
        other._record = self._record
        other._cause = self._cause
        other._is_linked = self._is_linked
        return other

    def with_exception(self, exception: Exception) -> Self:
        """Return this failure, of which only the description is left, with its exception again.

        It is raised as that exception from now on. The traceback stays that of the description, and is a note of the
        exception too.

        :param exception: the exception that it was made from, or a copy
        """
        other = self.copy()
        other._exc_info = (type(exception), exception, exception.__traceback__)
        if self.traceback_str:
            exception.add_note(f"Raised elsewhere, with this traceback:\n{self.traceback_str}")
        return other

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A failure never changes, and its exception need not be one that can be copied.
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def _type_names(self) -> tuple[str, ...]:
        if self._exc_info is None:
            return self._description().type_names
        return _type_names_of(self._exc_info[0])

    def _description(self) -> _Record:
        """Return the record, which is worked out once: the first time that somebody asks."""
        if self._record is None:
            assert self._exc_info is not None, "a failure has an exception or a record"
            kind, exception, trace = self._exc_info
            self._record = _Record(
                _type_names_of(kind),
                _text_of(exception),
                tuple(map(_storable, _args_of(exception))),
                "".join(traceback.format_tb(trace)),
            )
        return self._record

    def _chain_of_records(self) -> list[_Record]:
        return [self._description(), *(cause._description() for cause in self.causes)]


def _checked(exc_info: Any) -> ExcInfo:
    """Return the triple if it is one of an `Exception`; raises TypeError, or ValueError for no triple."""
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


def _linked(failures: Iterable[Failure]) -> Failure | None:
    """Join failures that nobody else has yet to a chain, and return the first."""
    following = None
    for failure in reversed(list(failures)):
        failure._cause = following
        failure._is_linked = True
        following = failure
    return following


def _causes_of(exception: BaseException) -> Iterator[BaseException]:
    """Iterate over what led to an exception, the nearest first; a circle ends where it began."""
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


def _name_of(cls: type) -> str:
    """Return the name of a class, with its module unless it is built in."""
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def _type_names_of(kind: type[BaseException]) -> tuple[str, ...]:
    base = Exception if issubclass(kind, Exception) else BaseException
    return tuple(_name_of(cls) for cls in kind.__mro__ if issubclass(cls, base))


def _text_of(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return "<exception str() failed>"


def _args_of(exception: BaseException) -> tuple[Any, ...]:
    try:
        return tuple(exception.args)
    except Exception:  # noqa: BLE001 - a user's class may have put anything in the place of `args`
        return ()


def _storable(arg: Any) -> Any:
    """Return an argument as it reads after a round trip through JSON, or a note if it has no JSON form."""
    if arg is None or type(arg) is str:
        return arg
    try:
        return json.loads(json.dumps(arg, allow_nan=False))
    except Exception:  # noqa: BLE001 - a user's object may raise anything
        return f"<not kept: {_name_of(type(arg))}>"


_REQUIRED = ("exception_str", "traceback_str", "exc_type_names")
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "version": ("integer", (int,)),
    "exception_str": ("string", (str,)),
    "traceback_str": ("string", (str, type(None))),
    "exc_type_names": ("array", (list, tuple)),
    "exc_args": ("array", (list, tuple)),
    "causes": ("array", (list, tuple)),
}


def _check_shape(where: str, part: Any) -> None:
    """Check keys and types of one failure's data, without a look into its causes."""
    if not isinstance(part, dict):
        _refuse(f"{part!r} is not of type 'object'", where)
    for name in _REQUIRED:
        if name not in part:
            _refuse(f"'{name}' is a required property", where)
    for name, (kind, types) in _KINDS.items():
        value = part.get(name)
        if name in part and (not isinstance(value, types) or isinstance(value, bool)):
            _refuse(f"{value!r} is not of type '{kind}'", where + name)
    if part.get("version", 0) < 0:
        _refuse(f"{part['version']} is less than the minimum of 0", f"{where}version")
    if not part["exc_type_names"]:
        _refuse(f"{part['exc_type_names']!r} should be non-empty", f"{where}exc_type_names")
    for n, name in enumerate(part["exc_type_names"]):
        if not isinstance(name, str):
            _refuse(f"{name!r} is not of type 'string'", f"{where}exc_type_names[{n}]")


def _refuse(problem: str, where: str) -> NoReturn:
    raise exceptions.InvalidFormat(f"Failure data not of the expected format: {problem}{_at(where)}")


def _at(where: str) -> str:
    return f"\n  at {where.rstrip('.')}" if where else ""
