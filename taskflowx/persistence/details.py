"""The record of an atom: `TaskDetail` or `RetryDetail`, the only source of truth about its past.

The engine writes its attributes directly, so they are plain slots; parts that an atom may never need (its uuid, its
metadata) are made on demand.

Invariants: `results` is set only by a success, `failure` only by a failure, and `revert_results` / `revert_failure`
only by a finished revert.
"""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import operator
import os
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

from taskflowx import exceptions, states
from taskflowx._util import arguments, reprs
from taskflowx.types.failure import Failure

#: metadata key of a task whose result was discarded, as no atom needs it any more; removed with its next result
META_LET_GO = "let_go"

#: metadata key of an atom with sensitive values, whose results are not shown; see `record.metadata`
META_SENSITIVE = "sensitive"

STATES_OF_EXECUTE_RESULTS = (states.SUCCESS, states.FAILURE)


class _Series:
    """Makes uuids of atoms: to draw each at random would cost more than the atom.

    They end in consecutive numbers. Their beginning is drawn at random with each uuid of a flow, and in each process.
    """

    ENDS = tuple(f"{number:03}" for number in range(1000))

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start a new series with the next uuid."""
        self._starts: Iterator[str] | None = None
        self._identities: Iterator[str] | None = None

    def next(self) -> str:
        """Return a uuid of the series."""
        identity = None if self._identities is None else next(self._identities, None)
        while identity is None:  # repeated when a signal handler raised in the iterator, which ends a chain
            self.begin()
            identity = next(self._identities, None)  # type: ignore[arg-type]
        return identity

    def next_start(self) -> str:
        """Return the common beginning of a thousand uuids of the series, which end in `ENDS`."""
        if self._starts is None:
            self.begin()
        return next(self._starts)  # type: ignore[arg-type]

    def begin(self) -> str:
        """Return a random uuid, and start a series that differs from all others."""
        import uuid

        made = str(uuid.uuid4())
        other = uuid.uuid4()
        # A uuid is the beginning of its thousand and one of the ends: one step, and no Python, as several threads may
        # take uuids.
        thousands = map((str(other)[:24] + "{:09}").format, itertools.count(other.node % 10**8))
        adders = map(operator.attrgetter("__add__"), thousands)
        self._starts = thousands
        self._identities = itertools.chain.from_iterable(map(map, adders, itertools.repeat(self.ENDS)))
        return made


_series = _Series()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_series.forget)


def make_uuid() -> str:
    """Return a new uuid."""
    return _series.begin()


def utcnow() -> dt.datetime:
    """Return the time in UTC, without a time zone, as stores keep it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def describe(
    detail: Any,
    facts: list[tuple[str, Any]],
    indent: int,
    linesep: str,
    times: tuple[tuple[str, Any], ...] = (),
) -> str:
    """Return the text of a detail: a line for each fact, then its metadata, then its times."""
    lines = [f"{type(detail).__name__}: '{detail.name}'", f" - uuid = {detail.uuid}"]
    lines += [f" - {what} = {value}" for what, value in facts]
    if detail.meta:
        lines.append(" - metadata:")
        lines += [f"   + {key} = {value}" for key, value in detail.meta.items()]
    lines += [f" - {what} = {at.isoformat()}" for what, at in times if at is not None]
    return linesep.join(" " * indent + line for line in lines)


def is_same(old: Any, new: Any) -> bool:
    """Tell whether a fact is unchanged; only types known to compare safely are compared, as results may be anything."""
    return new is old or (isinstance(new, (str, int, Failure)) and isinstance(old, type(new)) and new == old)


def check_data(data: Any, known_states: tuple[str, ...] = ()) -> None:
    """Raise an error for data that `to_dict` cannot have returned.

    :param known_states: the valid states
    """
    if type(data) is not dict:  # the usual types first: a store reads thousands of these
        arguments.check_mapping("data", data, "a dict that to_dict gave")
    for key in ("name", "uuid"):
        if key not in data:
            raise KeyError(f"data must have the key '{key}', and has {sorted(data)}")
        if type(data[key]) is not str:
            arguments.check_type(f"data['{key}']", data[key], str, "a str")
    meta = data.get("meta")
    if meta is not None and type(meta) is not dict:
        arguments.check_type("data['meta']", meta, dict, "a dict or None")
    state = data.get("state")
    if state is not None and known_states and state not in known_states:
        raise _unknown("state", state, known_states)


def _unknown(key: str, value: Any, known: tuple[str, ...]) -> ValueError:
    return ValueError(f"data['{key}'] must be one of {', '.join(known)}, or None, and not {repr(value)[:80]}")


def _to_failure(name: str, given: Any) -> Failure:
    """Make a failure from the result of its `to_dict`.

    :param name: its key in the data
    :raises TypeError, ValueError: when the data is invalid
    """
    made = Failure.from_dict(given)
    for each in (made, *made.causes):
        if not all(isinstance(kind, str) for kind in each):
            raise TypeError(f"data['{name}'] must have names of classes in 'exc_type_names', and not {[*each]!r:.80}")
    return made


def _check_version(version: Any) -> None:
    parts = version if isinstance(version, (list, tuple)) else [version]
    for part in parts:
        if part is not None and (isinstance(part, bool) or not isinstance(part, (str, int, float))):
            raise TypeError(f"data['version'] must be text, numbers or None, and not {part!r:.80}")


TIME_PARTS = ("day", "month", "year", "hour", "minute", "second", "microsecond")


def marshal(at: dt.datetime | None) -> dict[str, int] | None:
    """Turn a time into a dict of its parts, the form in which stores keep times."""
    return None if at is None else {part: getattr(at, part) for part in TIME_PARTS}


class AtomDetail:
    """The record of one atom.

    :param name: name of the atom
    :param uuid: uuid of this detail; made on demand if it is None
    :param state: the state of the atom
    :param version: the version of the atom, as text
    """

    __slots__ = (
        "own_meta",
        "own_uuid",
        "failure",
        "intention",
        "name",
        "results",
        "revert_failure",
        "revert_results",
        "state",
        "version",
    )
    KIND: ClassVar[str]

    def __init__(self, name: str, uuid: str | None = None, state: str | None = None, version: Any = None) -> None:
        self.name = name
        self.own_uuid = uuid
        self.state = state
        self.intention: str = states.EXECUTE
        self.results: Any = None
        self.failure: Failure | None = None
        self.revert_results: Any = None
        self.revert_failure: Failure | None = None
        self.own_meta: dict[str, Any] | None = None
        self.version = version

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.name!r} {self.state}, to {self.intention}"

    @property
    def uuid(self) -> str:
        """The uuid of this detail."""
        if self.own_uuid is None:
            self.own_uuid = _series.next()
        return self.own_uuid

    @property
    def meta(self) -> dict[str, Any]:
        """Facts beside the results, such as progress."""
        if self.own_meta is None:
            self.own_meta = {}
        return self.own_meta

    @meta.setter
    def meta(self, value: dict[str, Any]) -> None:
        self.own_meta = value

    @property
    def last_results(self) -> Any:
        """The result of the last execution."""
        return self.results

    def reset(self, state: str) -> None:
        """Discard results and failures, and set the state."""
        self.intention = states.EXECUTE  # first: after an interrupt, the state still shows that a reset is needed
        self.state = state
        self._replace_results([] if self.KIND == "retry" else None)  # one step: an interrupt may come after any
        self.failure = self.revert_results = self.revert_failure = None

    def _replace_results(self, results: Any) -> None:
        self.results = results
        if self.own_meta:
            self.own_meta.pop(META_LET_GO, None)

    def store(self, result: Any) -> None:
        """Keep the result of an execute that has succeeded."""
        self._replace_results(result)

    def put(self, state: str, result: Any) -> bool:
        """Set the state together with the result of the atom in it.

        Returns whether anything has changed.
        """
        before = self._facts()
        if state == states.SUCCESS:
            self.store(result)
            self.failure = self.revert_results = self.revert_failure = None
        elif state == states.FAILURE:
            self.failure, self.revert_results, self.revert_failure = result, None, None
            if isinstance(self, TaskDetail):
                self.results = None
        elif state == states.REVERTED:
            self.revert_results, self.revert_failure = result, None
        elif state == states.REVERT_FAILURE:
            self.revert_results, self.revert_failure = None, result
        self.state = state  # last, as the history names the failure with it
        return not all(map(is_same, before, self._facts()))

    def _facts(self) -> tuple[Any, ...]:
        return self.state, self.results, self.failure, self.revert_results, self.revert_failure

    def update(self, ad: AtomDetail) -> Self:
        """Copy all attributes of another detail, by reference."""
        arguments.check_like("ad", ad, ("intention", "results"), "a detail of an atom")
        if ad is not self:
            self.state, self.intention, self.version = ad.state, ad.intention, ad.version
            self.results, self.failure = ad.results, ad.failure
            self.revert_results, self.revert_failure = ad.revert_results, ad.revert_failure
            self.own_meta = ad.own_meta
        return self

    def merge(self, other: AtomDetail, deep_copy: bool = False) -> Self:
        """Copy all attributes of another detail of the same kind; results are shared, never copied.

        :param deep_copy: whether the metadata is copied rather than shared
        :raises NotImplementedError: when the other one is of another kind
        """
        if getattr(other, "KIND", None) != self.KIND:
            msg = f"Can only merge with other {self.KIND} details"
            raise exceptions.NotImplementedError(msg)
        if other is self:
            return self
        self.update(other)
        if deep_copy:
            self.own_meta = copy.deepcopy(other.own_meta)
        return self

    def blank(self) -> Self:
        """Return a new detail of this kind, with the same name and uuid."""
        return type(self)(self.name, self.uuid)

    def copy(self) -> Self:
        """Return a shallow copy with the same uuid."""
        other = self.blank()
        other.update(self)
        other.own_meta = None if self.own_meta is None else dict(self.own_meta)
        return other

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes in one dict."""
        return {
            "failure": None if self.failure is None else self.failure.to_dict(),
            "revert_failure": None if self.revert_failure is None else self.revert_failure.to_dict(),
            "meta": self.meta,
            "name": self.name,
            "results": self.results,
            "revert_results": self.revert_results,
            "state": self.state,
            "version": self.version,
            "intention": self.intention,
            "uuid": self.uuid,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make a detail from the result of `to_dict`.

        :raises KeyError, TypeError, ValueError: when it is invalid; names the part
        """
        check_data(data, states.ATOM_STATES)
        made = cls(data["name"], data["uuid"])
        made.state = data.get("state")
        intention = data.get("intention")
        if intention is not None:
            if intention not in states.INTENTIONS:
                raise _unknown("intention", intention, states.INTENTIONS)
            made.intention = intention
        made.results = data.get("results")
        made.revert_results = data.get("revert_results")
        made.meta = data.get("meta") or {}
        version = data.get("version")
        if version is not None and type(version) is not str:
            _check_version(version)
        made.version = tuple(version) if isinstance(version, list) else version
        for name in ("failure", "revert_failure"):
            given = data.get(name)
            if given is not None and given != {}:
                setattr(made, name, _to_failure(name, given))
        return made

    def pformat(self, indent: int = 0, linesep: str = "\n") -> str:
        """Describe this detail in human-readable lines."""
        version = ".".join(map(str, self.version)) if isinstance(self.version, (list, tuple)) else self.version
        results = "***" if self.own_meta and META_SENSITIVE in self.own_meta else self.results
        facts = [("state", self.state), ("version", version), ("results", results)]
        return describe(self, [*facts, ("failure", bool(self.failure))], indent, linesep)


def identify(details: Iterable[AtomDetail]) -> None:
    """Make the uuids of details at once, shortly before they are needed."""
    new = [detail for detail in details if detail.own_uuid is None]
    ends = _series.ENDS
    for first in range(0, len(new), len(ends)):
        start = _series.next_start()
        for detail, end in zip(new[first : first + len(ends)], ends):  # noqa: B905 - the last ones are fewer
            detail.own_uuid = start + end


class TaskDetail(AtomDetail):
    """The record of one task; `results` is the result of its `execute`."""

    __slots__ = ()
    KIND = "task"


class RetryDetail(AtomDetail):
    """The record of one retry; `results` is its history: a list of (result, {atom name: Failure})."""

    __slots__ = ("past",)
    KIND = "retry"

    def __init__(self, name: str, uuid: str | None = None, state: str | None = None, version: Any = None) -> None:
        super().__init__(name, uuid, state, version)
        self.results = []
        #: a store's cache of the finished attempts, which do not change; see `codec.dump_history`
        self.past: Any = None

    def store(self, result: Any) -> None:
        """Keep the result of an execute that has succeeded."""
        self.results.append((result, {}))

    def _facts(self) -> tuple[Any, ...]:
        return (*super()._facts(), len(self.results))  # the list object stays the same

    @property
    def last_results(self) -> Any:
        """The result of the last attempt's `execute`.

        :raises NotFound: when there was no attempt
        """
        return self._last(0, "results")

    @property
    def last_failures(self) -> dict[str, Failure]:
        """The failures of the last attempt, by atom name.

        :raises NotFound: when there was no attempt
        """
        return self._last(1, "failures")  # type: ignore[no-any-return]

    def _last(self, part: int, what: str) -> Any:
        try:
            return self.results[-1][part]
        except IndexError as error:
            msg = f"Last {what} not found"
            raise exceptions.NotFound(msg, error) from error

    def note_failure(self, failures: dict[str, Failure]) -> None:
        """Replace the failures of the last attempt."""
        self.results[-1] = (self.results[-1][0], failures)

    def _own_history(self) -> None:
        """Stop sharing the history, which grows in place."""
        self.results = [(value, dict(failures)) for value, failures in self.results]

    def merge(self, other: AtomDetail, deep_copy: bool = False) -> Self:
        """Merge as the base class does; the history becomes a list of its own, as it grows."""
        super().merge(other, deep_copy)
        if other is not self:
            self._own_history()
        return self

    def copy(self) -> Self:
        """Return a shallow copy with the same uuid and a history list of its own."""
        other = super().copy()
        other._own_history()
        return other

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes in one dict."""
        attempts = [
            (value, {name: failure.to_dict() for name, failure in failures.items()}) for value, failures in self.results
        ]
        return {**super().to_dict(), "results": attempts}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make a detail of a retry as the base class does."""
        made = super().from_dict(data)
        history = data.get("results")
        if history is None:
            history = ()
        arguments.check_type("data['results']", history, (list, tuple), "a list of attempts")
        made.results = []
        for attempt in history:
            arguments.check_type("Each of data['results']", attempt, (list, tuple), "a pair of value and failures")
            value, failures = attempt
            arguments.check_mapping("The failures in data['results']", failures, "a dict of name -> failure")
            made.results.append((value, {name: _to_failure("results", each) for name, each in failures.items()}))
        return made


_KINDS: dict[str, type[AtomDetail]] = {"RETRY_DETAIL": RetryDetail, "TASK_DETAIL": TaskDetail}
ATOM_TYPES = list(_KINDS)


def atom_detail_class(atom_type: str) -> type[AtomDetail]:
    """Return the class for a type name.

    :raises TypeError: when there is no such type
    """
    try:
        return _KINDS[atom_type]
    except KeyError:
        msg = f"Unknown atom type '{atom_type}'"
        raise TypeError(msg) from None


def atom_detail_type(atom_detail: AtomDetail) -> str:
    """Return the type name of a detail.

    :raises TypeError: when it is no detail of an atom
    """
    for name, cls in _KINDS.items():
        if isinstance(atom_detail, cls):
            return name
    msg = f"Unknown atom '{atom_detail}' ({type(atom_detail)})"
    raise TypeError(msg)
