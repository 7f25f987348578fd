"""Converts details and books to rows of a SQL store, and back.

What must stay true: a row has the columns of its table in `sql`, in their order. Times of rows that one process adds
increase, so they show the order of insertion. A text that its column cannot hold is rejected here, with its name,
before anything is written.
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from taskflowx import exceptions, states
from taskflowx.atom import version_text
from taskflowx.persistence import codec, models, tags
from taskflowx.persistence.backends import sql

if TYPE_CHECKING:
    from taskflowx.persistence.seal import Seal

M = TypeVar("M", bound="Callable[..., Any]")

# The lengths of text columns, in characters; SQLite has no limit.
_LONGEST = {"name": 255, "uuid": 64, "version": 64}
_SHORT = 64
_TYPES = {models.TaskDetail.KIND: "TASK_DETAIL", models.RetryDetail.KIND: "RETRY_DETAIL"}
# The maximum size of a value in bytes of ASCII, with some room for the rest of its row.
_LARGEST = {"postgresql": 1_000_000_000, "sqlite": 990_000_000}

_OF_ATOM = sql.names(sql.ATOMS)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - stored times name no zone, they are UTC


class Clock:
    """A UTC clock that never returns the same time twice.

    :param as_text: whether times are text
    """

    def __init__(self, as_text: bool) -> None:
        self._as_text = as_text
        self._last = 0  # microseconds since 1970
        self._second = -1
        self._second_text = ""

    def now(self) -> Any:
        """Return the time, at least a microsecond after the last one that was returned."""
        now = time.time_ns() // 1000
        if now <= self._last:
            now = self._last + 1
        self._last = now
        if not self._as_text:
            return _EPOCH + dt.timedelta(microseconds=now)
        second, rest = divmod(now, 1_000_000)
        if second != self._second:
            # Text first: another thread may read between the two.
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._second_text}.{rest:06d}"


class Rows:
    """Makes rows for one kind of database.

    :param family: one of `sql.FAMILIES`
    :param seal: seals documents; None where they are stored as they are
    """

    def __init__(self, family: str, seal: Seal | None = None) -> None:
        self._family = family
        self._seal = seal
        #: the metadata of a flow that were sealed last, and what they are then: they are compared with what is stored
        self._sealed: tuple[str, str] = "", ""
        self.now = Clock(family == "sqlite").now
        self._is_postgresql = family == "postgresql"

    def of_book(self, book: models.LogBook) -> tuple[Any, ...]:
        """Return the row of a book.

        :raises StorageFailure: when its metadata cannot be stored
        """
        self._check_names("book", book)
        times: Iterable[Any] = (book.created_at, book.updated_at)
        if self._family == "sqlite":
            times = (at and at.isoformat(" ", "microseconds") for at in times)
        return book.uuid, book.name, *times, self._meta(book)

    def of_flow(self, detail: models.FlowDetail, parent: str) -> tuple[Any, ...]:
        """Return the row of a flow, without its atoms.

        :raises StorageFailure: when its metadata cannot be stored
        """
        self._check_names("flow", detail)
        return detail.uuid, detail.name, parent, self.now(), None, *self.of_changes(detail)

    def of_changes(self, detail: models.FlowDetail) -> tuple[Any, ...]:
        """Return the changing columns of a flow's row: its state, and its metadata as text.

        :raises StorageFailure: when its metadata cannot be stored
        """
        if self._seal is None or not detail.meta:
            return detail.state, self._meta(detail)
        text = codec.dumps(detail.meta, codec.what_of(detail, "meta"))
        if text != self._sealed[0]:
            self._sealed = text, self._seal.close(text)
        return detail.state, self._sealed[1]

    def of_atom(self, detail: models.AtomDetail, parent: str, past: int = 0) -> tuple[Any, ...]:
        """Return the row of an atom.

        :param past: of a retry, how many of its attempts are in the table of attempts
        :raises StorageFailure: when a value in it cannot be stored; names the atom and the part
        """
        uuid, name = detail.own_uuid or detail.uuid, detail.name
        if self._is_postgresql or not (
            name.isascii() and uuid.isascii() and len(name) <= _SHORT and len(uuid) <= _SHORT
        ):
            self._check_names("atom", detail)
        results, meta = detail.results, None
        if results is not None:
            if isinstance(detail, models.RetryDetail):
                results = self._closed(codec.dump_history(detail, past))
                meta = self._meta_of_retry(detail, past)
            elif type(results) is tuple:
                results, noted = codec.plain_result(detail)
                results, meta = self._text(detail, "results", results), self._text(detail, "meta", noted)
            else:
                results = self._text(detail, "results", results)
        failure, undone, stuck = detail.failure, detail.revert_results, detail.revert_failure
        version = detail.version
        if version is not None and not isinstance(version, str):
            version = version_text(version)
        if version is not None and len(version) > _LONGEST["version"]:
            self._check_text(version, "version", f"atom '{detail.name}'")
        return (
            uuid,
            name,
            parent,
            self.now(),
            None,
            _TYPES.get(detail.KIND) or models.atom_detail_type(detail),
            version,
            detail.state,
            detail.intention,
            meta or (self._meta(detail) if detail.own_meta else "{}"),
            results,
            failure and self._text(detail, "failure", codec.failure_data(failure)),
            None if undone is None else self._text(detail, "revert_results", undone),
            stuck and self._text(detail, "revert_failure", codec.failure_data(stuck)),
        )

    def of_simple(self, details: Sequence[models.AtomDetail]) -> tuple[list[tuple[Any, ...]], int] | None:
        """Return the parameters of `update_simple` for tasks, and how many bytes their results have.

        None where one has more to it, or the database does.

        To update a row takes less than to insert it in vain. There is no None in it, which SQLite's driver looks for
        somebody to adapt: an empty text stands for no result.

        :raises StorageFailure: when a result cannot be stored; names the atom
        """
        if self._seal is not None or self._family != "sqlite":
            return None
        rows, size, now = [], 0, self.now()  # one time, as no row is added by which it is ordered
        for detail in details:
            version, results = detail.version, detail.results
            if (
                detail.KIND != models.TaskDetail.KIND
                or detail.own_meta
                or detail.failure is not None
                or detail.revert_results is not None
                or detail.revert_failure is not None
                or type(results) is tuple
                or type(version) is not str
                or len(version) > _LONGEST["version"]
            ):
                return None
            text = "" if results is None else self._text(detail, "results", results)
            size += len(text)
            rows.append((now, version, detail.state, detail.intention, "{}", text, detail.own_uuid or detail.uuid))
        return rows, size

    def of_attempts(self, detail: models.RetryDetail, begin: int, count: int) -> tuple[Any, ...]:
        """Return the row of a range of attempts of a retry.

        :raises Unstorable: when the database cannot hold them
        """
        text = self._closed(codec.dump_attempts(detail, begin, begin + count))
        self.check_value(text, codec.what_of(detail, "results"))
        return detail.uuid, begin, text

    def check_value(self, text: str, what: str) -> None:
        """Raise an error for the JSON text of a value that the database cannot hold.

        :raises Unstorable: when it cannot; says what the value is and why
        """
        most = _LARGEST.get(self._family)
        if most is not None and len(text) > most:
            msg = f"Cannot store {what}: it has {len(text):,} bytes, and the database takes {most:,}"
            raise exceptions.Unstorable(f"{msg}\nKeep large values elsewhere, and store where they are")

    def _check_names(self, kind: str, detail: Any) -> None:
        for field in ("uuid", "name"):
            text = getattr(detail, field)
            if isinstance(text, str) and (not text.isascii() or len(text) > _LONGEST[field] or "\0" in text):
                self._check_text(text, field, kind)

    def _check_text(self, text: str, field: str, kind: str) -> None:
        """Raise an error for a text that its column cannot hold.

        :raises Unstorable: when it cannot; shows the text, and the reason
        """
        problem, most = "", _LONGEST[field]
        try:
            text.encode()
        except UnicodeEncodeError as error:
            problem = f"character {error.start} is a lone surrogate, which is no text"
        if self._family != "sqlite" and len(text) > most:
            problem = f"it is too long, with {len(text)} characters: the column takes {most}"
        if self._family == "postgresql" and "\0" in text:
            problem = "PostgreSQL takes no text with the character \\0"
        if problem:
            shown = ascii(text if len(text) <= most else text[:most] + "...")
            raise exceptions.Unstorable(
                f"Cannot store the {field} {shown} of {kind}: {problem}\nChoose another {field}"
            )

    def _meta(self, detail: Any) -> str:
        meta = detail.meta
        return self._text(detail, "meta", meta) if meta else "{}"

    def _meta_of_retry(self, detail: models.RetryDetail, past: int) -> str:
        """Return the metadata of a retry as text, with the number of its attempts in the table of attempts."""
        if sql.ATTEMPTS.name in detail.meta:
            msg = f"Cannot store {codec.what_of(detail, 'meta')}: the key '{sql.ATTEMPTS.name}' is the store's own"
            raise exceptions.Unstorable(f"{msg}\nChoose another key")
        return self._text(detail, "meta", {**detail.meta, sql.ATTEMPTS.name: past}) if past else self._meta(detail)

    def _text(self, detail: Any, part: str, value: Any) -> str:
        try:
            text = codec.dumps(value, part)
        except exceptions.StorageFailure:
            codec.dumps(value, codec.what_of(detail, part))  # raises again, and names the detail
            raise
        return text if self._seal is None else self._seal.close(text)

    def _closed(self, text: str) -> str:
        return text if self._seal is None else self._seal.close(text)


def _reads(kind: str) -> Callable[[M], M]:
    """Let a function that makes an object from a row raise `Unreadable` when the row is damaged.

    :param kind: names the object in the error
    """

    def decorated(make: M) -> M:
        @functools.wraps(make)
        def made(row: Sequence[Any], *more: Any) -> Any:
            try:
                if bytes in map(type, row):
                    undecoded = [each for each in row if type(each) is bytes]
                    raise ValueError(f"there are bytes where a text should be: {undecoded}")  # noqa: TRY301 - as below
                return make(row, *more)
            except (AttributeError, KeyError, TypeError, ValueError, exceptions.StorageFailure) as error:
                msg = f"Cannot read what is stored of {kind} '{row[1]}' ({row[0]}){codec.because(error)}"
                raise codec.like(error)(msg, error) from error

        return cast("M", made)

    return decorated


@_reads("book")
def book(row: Sequence[Any]) -> models.LogBook:
    """Make a book, without its flows, from a row.

    :raises Unreadable: when the row is damaged, or is no book
    """
    uuid, name, created, updated, meta = row
    made = models.LogBook.from_dict({"uuid": uuid, "name": name, "meta": _value(meta)})
    made.created_at = _when(created) or made.created_at
    made.updated_at = _when(updated)
    return made


@_reads("flow")
def flow(row: Sequence[Any]) -> models.FlowDetail:
    """Make the detail of a flow, without its atoms, from a row.

    :raises Unreadable: when the row is damaged, or is no flow
    """
    uuid, name, _, _, _, state, meta = row
    return codec.load_flow({"uuid": uuid, "name": name, "state": state, "meta": _value(meta)})


@_reads("atom")
def atom(row: Sequence[Any], before: Sequence[Any] = ()) -> models.AtomDetail:
    """Make the detail of an atom from a row.

    :param before: of a retry, its attempts before those in the row
    :raises Unreadable: when the row is damaged, or is no atom
    """
    parts = dict(zip(_OF_ATOM, row, strict=True))
    parts |= {name: _value(parts[name]) for name in sql.DOCUMENTS}
    if before:
        parts["results"] = [*before, *parts["results"]]
        del parts["meta"][sql.ATTEMPTS.name]
    return codec.load_atom({"atom": parts, "type": parts["atom_type"]})


def plain_task(row: Sequence[Any]) -> models.TaskDetail | None:
    """Return what `atom` makes of the row of a task that has neither failed nor metadata; None for any other row.

    A run that is taken up has thousands of these.
    """
    uuid, name, _, _, _, kind, version, state, intention, meta, results, *others = row
    if (
        kind != _TYPES[models.TaskDetail.KIND]
        or meta != "{}"
        or others != _NOTHING_ELSE
        or not (type(uuid) is type(name) is type(version) is str)
        or state not in states.ATOM_STATES
        or intention not in states.INTENTIONS
    ):
        return None
    made = models.TaskDetail(name, uuid, state, version)
    made.intention = intention
    if results is not None:
        if type(results) is not str or tags.TAG in results:
            return None
        try:
            made.results = codec.loads(results)
        except exceptions.StorageFailure:  # `atom` says of what
            return None
    return made


_NOTHING_ELSE = [None] * 3  # failure, and result and failure of the revert


def _value(text: str | None) -> Any:
    if text is None:
        return None
    return {} if text == "{}" else codec.loads(text)


def times(row: Sequence[Any]) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return when the flow of a row was made, and when it was last changed.

    :raises ValueError: when one of them is no time
    """
    return _when(row[3]), _when(row[4])


def _when(stored: Any) -> dt.datetime | None:
    return dt.datetime.fromisoformat(stored) if isinstance(stored, str) else stored
