"""The error of a call, as a value.

A `Failure` is made from an exception by the engine and by executors, passed to `revert` and to retries, kept in stores
and raised again when a run ends. Three kinds look alike from outside:

    made here    has the exception and its traceback. It costs next to nothing to make: names, text, traceback
                 and causes are computed on demand
    past         belongs to a finished attempt in a retry's history: has a copy of the exception without its frames,
                 and with the places of these, from which the traceback is formatted on demand
    reloaded     has the description: a `Record` for itself and for each cause. From JSON it has no exception; a
                 pickle includes a copy of the exception, without traceback, if that can be pickled

What must stay true: a failure never changes; describing, storing and pickling one never raises, whatever the exception
does in its `__str__` or has in its `args`; the description has only values that JSON can hold, so a failure that was
stored and read back `matches` the first. The causes of a failure are a chain, kept as links and stored as a flat list,
so a chain of any length costs as many records as it has members.
"""

# Private names are used freely between the failures and functions of this one file.
# ruff: noqa: SLF001

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from taskflowx import _names, exceptions
from taskflowx._util import arguments, reprs
from taskflowx.types import failure_parts as parts, frameless

if TYPE_CHECKING:
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class Failure:
    """An exception as a value that can be compared, stored, sent elsewhere and raised again.

    :param exc_info: the result of `sys.exc_info()`; None takes the exception that is being handled
    :param kwargs: instead of it the description of an exception that no longer exists: `exception_str`,
        `exc_type_names`, `traceback_str`, `exc_args`, `causes` (failures)
    :raises TypeError: if there is no exception, or one that is no `Exception` (such as KeyboardInterrupt)
    """

    BASE_EXCEPTIONS: ClassVar[tuple[str, ...]] = ("BaseException", "Exception")
    DICT_VERSION: ClassVar[int] = 1

    SCHEMA: ClassVar[dict[str, Any]] = {
        "$ref": "#/definitions/cause",
        "definitions": {
            "cause": {
                "type": "object",
                "properties": {
                    "version": {"type": "integer", "minimum": 0},
                    "exc_args": {"type": "array", "minItems": 0},
                    "exception_str": {"type": "string"},
                    "traceback_str": {"type": ["string", "null"]},
                    "exc_type_names": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    "causes": {"type": "array", "items": {"$ref": "#/definitions/cause"}},
                },
                "required": ["exception_str", "traceback_str", "exc_type_names"],
                "additionalProperties": True,
            }
        },
    }
    """The JSON schema of the result of `to_dict`."""

    #: the subclasses of this class: their instances are recognised by type alone
    _tfx_derived: ClassVar[set[type]] = set()
    #: the types of all outcomes of calls that are no results: this class, those derived from it, coroutines that nobody
    #: has awaited, and what executors add; engines look there once for each outcome
    _tfx_odd: ClassVar[set[type]] = {CoroutineType}

    __slots__ = ("_exc_info", "_record", "_cause", "_is_linked", "__weakref__")

    _exc_info: ExcInfo | None
    _record: parts.Record | frameless.Places | None  # None until computed
    _cause: Failure | None  # the next one in the chain, which links to the one after it
    _is_linked: bool  # whether `_cause` has been computed

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Failure._tfx_derived.add(cls)
        Failure._tfx_odd.add(cls)

    def __init__(self, exc_info: ExcInfo | None = None, **kwargs: Any) -> None:
        self._exc_info = None
        self._record = None
        self._cause = None
        if kwargs:
            self._describe(kwargs)
            return
        self._exc_info = parts.checked_exc_info(sys.exc_info() if exc_info is None else exc_info)
        self._is_linked = False

    def _describe(self, given: dict[str, Any]) -> None:
        """Initialise a failure without an exception, from its description."""
        unknown = given.keys() - {"exception_str", "exc_type_names", "traceback_str", "exc_args", "causes"}
        if unknown:
            raise TypeError(f"Failure.__init__ got unexpected keyword argument(s): {', '.join(sorted(unknown))}")
        if "exception_str" not in given:
            raise TypeError("Failure.__init__ needs 'exception_str' to describe an exception")
        text, trace = given["exception_str"], given.get("traceback_str")
        arguments.check_type("exception_str", text, str, "the text of the exception")
        arguments.check_type("traceback_str", trace, (str, type(None)), "the text of the traceback, or None")
        kinds = parts.row("exc_type_names", given, "an iterable of names of classes")
        args = parts.row("exc_args", given, "an iterable of the arguments of the exception")
        causes = parts.row("causes", given, "an iterable of failures")
        for cause in causes:
            arguments.check_type("Each of causes", cause, Failure, "a Failure")
        self._record = parts.Record(kinds, text, args, trace)
        self._cause = _linked(cause.copy() for cause in causes)
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
        """Make a failure without a check of the exception's type: a cause may be a KeyboardInterrupt."""
        self = cls.__new__(cls)
        self._exc_info = (type(exception), exception, exception.__traceback__)
        self._record = None
        self._cause = None
        self._is_linked = False
        return self

    @classmethod
    def validate(cls, data: Any) -> None:
        """Raise an error for data that `to_dict` cannot have returned.

        :raises InvalidFormat: names the problem and its position
        """
        for where, part in parts.check_shape(data, cls.SCHEMA["definitions"]["cause"]):
            last = part["exc_type_names"][-1]
            if last not in cls.BASE_EXCEPTIONS:
                raise exceptions.InvalidFormat(
                    "Failure data 'exc_type_names' must have an initial exception type that is one of"
                    f" {cls.BASE_EXCEPTIONS} types: '{last}' is not one of those types{parts.place_of(where)}"
                )

    def matches(self, other: object) -> bool:
        """Tell whether the other is a failure of the same description.

        Types, text, arguments, traceback and causes count. Unlike with `==` it does not matter whether the exception
        itself still exists.
        """
        if not isinstance(other, Failure):
            return False
        mine, theirs = self._exc_info, other._exc_info
        if mine is not None and theirs is not None and mine[1] is theirs[1] and mine[2] is theirs[2]:
            return True
        # Cheap comparisons first: most failures that differ do so here, and no traceback is formatted.
        if self.exception_str != other.exception_str or self._type_names() != other._type_names():
            return False
        return self._chain_of_records() == other._chain_of_records()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Failure):
            return NotImplemented
        return (self._exc_info is None) == (other._exc_info is None) and self.matches(other)

    # Compared by a description that is costly to compute, and TaskFlow's cannot be hashed either.
    __hash__ = None  # type: ignore[assignment]

    @property
    def exception(self) -> Exception | None:
        """The exception, or None if this failure was reloaded."""
        return self._exc_info[1] if self._exc_info is not None else None  # type: ignore[return-value]

    @property
    def exception_str(self) -> str:
        """The text of the exception."""
        return parts.text_of(self._exc_info[1]) if self._exc_info is not None else self._description().text

    @property
    def exception_args(self) -> tuple[Any, ...]:
        """The arguments of the exception.

        If it was reloaded, an argument without a JSON form is replaced by a note.
        """
        return parts.args_of(self._exc_info[1]) if self._exc_info is not None else self._description().args

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
        several = checked(failures)
        if len(several) == 1:
            several[0].reraise()
        if several:
            raise exceptions.WrappedFailure(several)

    def reraise(self) -> NoReturn:
        """Raise the exception with its original traceback; a `WrappedFailure` if the exception no longer exists."""
        if self._exc_info is None:
            raise exceptions.WrappedFailure([self])
        _, exception, trace = self._exc_info
        raise exception.with_traceback(trace)

    def check(self, *exc_classes: type | str) -> type | str | None:
        """Return the first of the given classes or names that the exception is an instance of, or None.

        A name is that of the class, with its module before it unless it is built in: `ValueError`, `binascii.Error`.
        Classes are compared by name too, so it works after a reload. TaskFlow's names of its own exceptions match ours:
        `taskflow.exceptions.NotFound` and `taskflowx.exceptions.NotFound` are one.
        """
        names = set(map(_names.ours, self._type_names()))
        for wanted in exc_classes:
            name: Any = parts.name_of(wanted) if isinstance(wanted, type) else wanted
            if isinstance(name, str) and _names.ours(name) in names:
                return wanted
        return None

    @property
    def causes(self) -> tuple[Failure, ...]:
        """The failures that led to this one, the nearest first.

        They come from `raise … from`, or else are the exceptions that were being handled, unless that is suppressed
        (`from None`).
        """
        if not self._is_linked:
            assert self._exc_info is not None, "a failure without its exception is linked from the start"
            self._cause = _linked(map(Failure._made_from, parts.causes_of(self._exc_info[1])))
            self._is_linked = True
        chain = []
        cause = self._cause
        while cause is not None:
            chain.append(cause)
            cause = cause._cause
        return tuple(chain)

    def pformat(self, traceback: bool = False) -> str:
        """Return type and text of the exception, followed by the traceback if requested."""
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

    @reprs.one_line
    def __repr__(self) -> str:
        return self.pformat()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook shows: the exception and its causes, with their tracebacks folded."""
        records = self._chain_of_records()
        return {"text/html": "\n".join(map(parts.html_of, records)), "text/plain": self.pformat(traceback=True)}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the exception's class and its bases, up to and including Exception."""
        return iter(self._type_names())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a failure from the result of `to_dict`, also of an older version without arguments or causes.

        :raises ValueError: if the data has an unknown version
        :raises TypeError: if it has unknown keys, or no text
        """
        arguments.check_mapping("data", data, "a dict that to_dict gave")
        given = dict(data)
        version = given.pop("version", None)
        if version != cls.DICT_VERSION:
            raise ValueError(f"Invalid dict version of failure object: {version!r}")
        # The list has the whole chain. A cause may list its own causes again, which adds nothing.
        causes = given.get("causes") or ()
        for cause in causes:
            arguments.check_mapping("Each of data['causes']", cause, "a dict that to_dict gave")
        given["causes"] = [cls.from_dict({**cause, "causes": ()}) for cause in causes]
        return cls(**given)

    def to_dict(self, include_args: bool = True) -> dict[str, Any]:
        """Return the description as a dict that JSON can hold.

        An argument of the exception that has no JSON form is replaced by a note.

        :param include_args: whether to include the arguments of the exception (they may be secret)
        """
        described: list[dict[str, Any]] = [
            {
                "exception_str": record.text,
                "traceback_str": record.traceback,
                "exc_type_names": list(record.type_names),
                "version": type(self).DICT_VERSION,
                "exc_args": record.args if include_args else (),
            }
            for record in self._chain_of_records()
        ]
        return {**described[0], "causes": described[1:]}

    def copy(self) -> Self:
        """Return another failure of the same exception."""
        other = self.__class__.__new__(self.__class__)
        other._exc_info = self._exc_info
        other._record = self._record
        other._cause = self._cause
        other._is_linked = self._is_linked
        return other

    def _tfx_shortened(self, length: int = 1000) -> Self:
        """Return this failure with `length` characters of its text, without traceback, arguments and causes.

        It keeps its exception, if that exists.
        """
        text = self.exception_str
        if len(text) > length:
            text = f"{text[:length]}... ({len(text):,} characters)"
        other = self.__class__(exception_str=text, exc_type_names=list(self))
        other._exc_info = self._exc_info
        return other

    def _tfx_with_exception(self, exception: Exception) -> Self:
        """Return this failure, which has only its description, with its exception again.

        It is raised as that exception from now on. The traceback stays that of the description, and becomes a note of
        the exception too.

        :param exception: the exception that it was made from, or a copy
        """
        other = self.copy()
        other._exc_info = (type(exception), exception, exception.__traceback__)
        note = f"Raised elsewhere, with this traceback:\n{self.traceback_str}"
        if self.traceback_str and note not in getattr(exception, "__notes__", ()):
            exception.add_note(note)
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A failure never changes, and its exception may not be copyable.
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        exception = self._exc_info[1] if self._exc_info is not None else None
        return _reload, (type(self), self.to_dict(), None if exception is None else parts.pickled(exception))

    def _type_names(self) -> tuple[str, ...]:
        return self._description().type_names if self._exc_info is None else parts.type_names_of(self._exc_info[0])

    def _description(self) -> parts.Record:
        """Return the record, which is computed once, on demand."""
        record = self._record
        if not isinstance(record, parts.Record):
            assert self._exc_info is not None, "a failure has an exception or a record"
            kind, exception, trace = self._exc_info
            written = parts.trace_text(exception, trace) if record is None else frameless.trace_of(record)
            args = tuple(map(parts.storable, parts.args_of(exception)))
            self._record = record = parts.Record(parts.type_names_of(kind), parts.text_of(exception), args, written)
        return record

    def _tfx_past(self) -> Self:
        """Return this failure without the frames of its exception and its causes, and without their variables."""
        if self._exc_info is None:
            return self
        other = self._without_frames()
        other._cause = _linked(cause._without_frames() for cause in self.causes)
        return other

    def _without_frames(self) -> Self:
        if self._exc_info is None:
            return self.copy()
        kind, exception, trace = self._exc_info
        copied = frameless.copy_of(exception)
        other = self.__class__.__new__(self.__class__)
        other._exc_info = None if copied is None else (kind, copied, None)
        record = self._record
        if copied is None or (record is None and parts.says_more(exception)):
            record = self._description()
        other._record = frameless.places_of(trace) if record is None else record
        other._cause, other._is_linked = None, True
        return other

    def _chain_of_records(self) -> list[parts.Record]:
        return [self._description(), *(cause._description() for cause in self.causes)]


Failure._tfx_odd.add(Failure)


def checked(failures: Any) -> list[Failure]:
    """Return failures as a list; raises TypeError for other values."""
    remedy = " (of a dict of failures pass its values)" if isinstance(failures, dict) else ""
    if isinstance(failures, (Failure, dict)):
        arguments.refuse("failures", failures, f"an iterable of Failure{remedy}")
    arguments.check_iterable("failures", failures, "an iterable of Failure")
    several = list(failures)
    for failure in several:
        arguments.check_like("Each of failures", failure, ("exception", "check"), "a Failure")
    return several


def _linked(failures: Iterable[Failure]) -> Failure | None:
    """Link unshared failures to a chain, and return the first."""
    following = None
    for failure in reversed(list(failures)):
        failure._cause = following
        failure._is_linked = True
        following = failure
    return following


def _reload(cls: type[Failure], data: dict[str, Any], raised: bytes | None) -> Failure:
    """Make a failure from its pickle."""
    import pickle

    fail = cls.from_dict(data)
    try:
        return fail if raised is None else fail._tfx_with_exception(pickle.loads(raised))  # noqa: S301 - out of a pickle
    except Exception:  # noqa: BLE001 - its class may be different here, or missing
        return fail
