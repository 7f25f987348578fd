"""Details and books as rows of a SQL store, and back.

What must stay true: a row has the columns of its table in `sql`, in their order; times of rows that one process adds
increase, so their order is that in which they were added.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from taskflowx import exceptions
from taskflowx.atom import version_text
from taskflowx.persistence import codec, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LOG = logging.getLogger(__name__)

_D = TypeVar("_D")
#: what a row leads to that is none of ours
_WRONG = (codec.Unreadable, KeyError, OverflowError, TypeError, ValueError)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - stored times name no zone, they are UTC


class Clock:
    """Tells the time, in UTC, and never the same time twice.

    :param as_text: whether it is told as text
    """

    def __init__(self, as_text: bool) -> None:
        self._as_text = as_text
        self._last = 0  # microseconds since 1970
        self._second = -1
        self._second_text = ""

    def now(self) -> Any:
        """Return the time, at least a microsecond after the last one that was told."""
        self._last = now = max(time.time_ns() // 1000, self._last + 1)
        if not self._as_text:
            return _EPOCH + dt.timedelta(microseconds=now)
        second, rest = divmod(now, 1_000_000)
        if second != self._second:
            # Text first: another thread may look between the two.
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._second_text}.{rest:06d}"


class Rows:
    """Makes rows for one kind of database.

    :param family: which of `sql.FAMILIES`
    """

    def __init__(self, family: str) -> None:
        self.now = Clock(family == "sqlite").now
        self._time: Callable[[dt.datetime], Any] = _time_text if family == "sqlite" else _same
        self._refuses_nan = family == "postgresql"

    def of_book(self, book: models.LogBook) -> tuple[Any, ...]:
        """Return the row of a book.

        :raises StorageFailure: when its metadata cannot be stored
        """
        updated = book.updated_at and self._time(book.updated_at)
        return book.uuid, book.name, self._time(book.created_at), updated, self._meta(book)

    def of_flow(self, detail: models.FlowDetail, parent: str) -> tuple[Any, ...]:
        """Return the row of a flow, without its atoms.

        :raises StorageFailure: when its metadata cannot be stored
        """
        return detail.uuid, detail.name, parent, self.now(), None, *self.of_changes(detail)

    def of_changes(self, detail: models.FlowDetail) -> tuple[Any, ...]:
        """Return what changes in the row of a flow: its state, and its metadata as text.

        :raises StorageFailure: when its metadata cannot be stored
        """
        return detail.state, self._meta(detail)

    def of_atom(self, detail: models.AtomDetail, parent: str) -> tuple[Any, ...]:
        """Return the row of an atom.

        :raises StorageFailure: when a value in it cannot be stored; names the atom and the part
        """
        results = detail.results
        if results is not None:
            if isinstance(detail, models.RetryDetail):
                results = detail.to_dict()["results"]
            results = self._text(detail, "results", results)
        failure = detail.failure
        undone = detail.revert_results
        stuck = detail.revert_failure
        version = detail.version
        return (
            detail.uuid,
            detail.name,
            parent,
            self.now(),
            None,
            models.atom_detail_type(detail),
            version if version is None or isinstance(version, str) else version_text(version),
            detail.state,
            detail.intention,
            self._meta(detail),
            results,
            failure and self._text(detail, "failure", failure.to_dict()),
            None if undone is None else self._text(detail, "revert_results", undone),
            stuck and self._text(detail, "revert_failure", stuck.to_dict()),
        )

    def _meta(self, detail: Any) -> str:
        return self._text(detail, "meta", detail.meta) if detail.meta else "{}"

    def _text(self, detail: Any, part: str, value: Any) -> str:
        try:
            text = codec.dumps(value, part)
        except exceptions.StorageFailure:
            codec.dumps(value, codec.what_of(detail, part))  # raises again, and names the detail
            raise
        if self._refuses_nan and ("NaN" in text or "Infinity" in text):
            _check_numbers(detail, part, text)
        return text


def book(row: Sequence[Any]) -> models.LogBook:
    """Make a book, without its flows, of a row.

    :raises Unreadable: when the row is damaged
    """
    uuid, name, created, updated, meta = row
    try:
        times = {
            "created_at": _when(created) or dt.datetime.now(dt.UTC).replace(tzinfo=None),
            "updated_at": _when(updated),
        }
        return models.LogBook.from_dict({"uuid": uuid, "name": name, "meta": _value(meta), **times})
    except _WRONG as error:
        raise _damaged("book", uuid, error) from error


def flow(row: Sequence[Any]) -> models.FlowDetail:
    """Make the detail of a flow, without its atoms, of a row.

    :raises Unreadable: when the row is damaged
    """
    uuid, name, _, _, _, state, meta = row
    try:
        return models.FlowDetail.from_dict({"uuid": uuid, "name": name, "state": state, "meta": _value(meta)})
    except _WRONG as error:
        raise _damaged("flow", uuid, error) from error


def atom(row: Sequence[Any]) -> models.AtomDetail:
    """Make the detail of an atom of a row.

    :raises Unreadable: when the row is damaged, or that of no atom
    """
    uuid, name, _, _, _, kind, version, state, intention, meta, results, failure, undone, stuck = row
    try:
        parts = {
            "uuid": uuid,
            "name": name,
            "version": version,
            "state": state,
            "intention": intention,
            "meta": _value(meta),
            "results": _value(results),
            "failure": _value(failure),
            "revert_results": _value(undone),
            "revert_failure": _value(stuck),
        }
        return codec.load_atom({"atom": parts, "type": kind})
    except _WRONG as error:
        raise _damaged("atom", uuid, error) from error


def readable(rows: Iterable[Sequence[Any]], make: Callable[[Sequence[Any]], _D]) -> Iterator[_D]:
    """Iterate over what is made of rows; one that is damaged is left out, and named in the log."""
    for row in rows:
        try:
            yield make(row)
        except codec.Unreadable as error:
            LOG.error("A record is left out: %s", error)  # noqa: TRY400 - the error says it all


def _damaged(kind: str, uuid: Any, error: Exception) -> codec.Unreadable:
    return codec.Unreadable(f"The record of {kind} '{uuid}' is damaged", error)


def _value(text: str | None) -> Any:
    if text is None:
        return None
    return {} if text == "{}" else codec.loads(text)


def _check_numbers(detail: Any, part: str, text: str) -> None:
    """Refuse JSON that only Python reads."""

    def refuse(number: str) -> None:
        msg = (
            f"Cannot store {codec.what_of(detail, part)}: PostgreSQL takes no float that is {number} in its JSON\n"
            "Return None or a text in its place"
        )
        raise exceptions.Unstorable(msg)

    json.loads(text, parse_constant=refuse)


def _when(stored: Any) -> dt.datetime | None:
    return dt.datetime.fromisoformat(stored) if isinstance(stored, str) else stored


def _time_text(at: dt.datetime) -> str:
    return at.isoformat(" ", "microseconds")


def _same(at: dt.datetime) -> dt.datetime:
    return at
