"""Long histories of retries in a SQL store: finished attempts are written once, in a table of their own.

Otherwise each attempt would write all attempts before it again. While a run is in progress, the row of a retry with
many attempts has only the last ones, and its metadata say, under the name of the table, how many are in the table. They
are in the metadata as these are a column of the same row: both are written in one statement, and TaskFlow, which
ignores the key, keeps it and appends attempts to those that it sees. When the run comes to rest, its row has all of
them.

What must stay true: a row, and the attempts that it counts on, are written in one transaction. The cache of what was
last written is only a hint: the transaction checks the last of the attempts that must be stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states
from taskflowx.persistence import codec, models
from taskflowx.persistence.backends import sql
from taskflowx.persistence.path_tree import CHUNK

if TYPE_CHECKING:
    from taskflowx.persistence.backends.sql_rows import Rows
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction

MARK = sql.ATTEMPTS.name
_KIND, _META = map(sql.names(sql.ATOMS).index, ("atom_type", "meta"))
#: the maximum number of attempts in the row of a retry while its run is in progress
MOST = 2 * CHUNK
_MOST_KNOWN = 1000  # retries


class StaleError(Exception):
    """Attempts that were written do not exist any more; its argument is the uuid of the retry."""


class _Written(NamedTuple):
    """The last written, or read, state of a retry."""

    past: int  # how many attempts are not in its row
    last: Any  # the last of these, which identifies the history


class Part(NamedTuple):
    """The attempts of a retry to write beside its row."""

    uuid: str
    what: str  # names it in errors
    kept: int  # how many attempts must be stored, and stay
    past: int  # how many are stored then
    chunks: list[tuple[Any, ...]]  # rows to add
    last: Any

    def write(self, tx: StoreTransaction, statements: sql.Statements) -> None:
        """Write the attempts.

        :raises StaleError: when attempts are missing that must be stored
        """
        if self.kept and not tx.rows(statements.has_attempts, self.uuid, self.kept - CHUNK):
            raise StaleError(self.uuid)
        if self.chunks or not self.kept:
            tx.run(statements.cut_attempts, self.uuid, self.kept)
        tx.many(statements.insert_attempts, self.chunks, self.what)


class Histories:
    """Caches the written, or read, states of long histories in one store."""

    def __init__(self) -> None:
        #: whether the database has the table; None if unknown
        self.usable: bool | None = None
        #: the retries that have, or may have, attempts in the table, by uuid
        self.known: dict[str, _Written] = {}

    def in_step(self, flow: models.FlowDetail, details: list[models.AtomDetail]) -> list[models.RetryDetail]:
        """Return the retries among the changed details of a step that have, or may have, attempts in the table.

        :param details: the details that have changed
        """
        found: list[models.RetryDetail] = []
        for detail in details:
            if isinstance(detail, models.RetryDetail) and self.concerns(detail):
                found.append(detail)  # noqa: PERF401 - most steps have none, and a comprehension is a call
        if self.known and flow.state in states.AT_REST:
            found += [detail for detail in flow if self.concerns(detail) and detail not in details]
        return found

    def concerns(self, detail: models.AtomDetail) -> bool:
        """Tell whether a retry has, or may have, attempts in the table."""
        return isinstance(detail, models.RetryDetail) and (len(detail.results) > MOST or detail.uuid in self.known)

    def parts(
        self,
        rows: Rows,
        flow: models.FlowDetail,
        retries: list[models.RetryDetail],
        *,
        versioned: bool,
        fits: Callable[[tuple[Any, ...]], bool],
    ) -> list[Part]:
        """Return the attempts that a step of a run writes beside the rows of retries.

        :param versioned: whether the step is rejected when another one has come before it
        :param fits: tells whether the database can hold a row
        """
        found = []
        for detail in retries:
            attempts, past, chunks = detail.results, 0, []
            appends = versioned and (flow.state not in states.AT_REST or not fits(rows.of_atom(detail, flow.uuid)))
            if appends:
                past, last = self.known.get(detail.uuid, (0, None))
                if past and (len(attempts) <= past or attempts[past - 1] is not last):
                    past = 0
            kept = past
            if appends and len(attempts) - past > MOST:
                chunks = [rows.of_attempts(detail, begin, CHUNK) for begin in range(past, len(attempts) - CHUNK, CHUNK)]
                past += CHUNK * len(chunks)
            what = codec.what_of(detail, "results")
            found.append(Part(detail.uuid, what, kept, past, chunks, attempts[past - 1] if past else None))
        return found

    def wrote(self, part: Part) -> None:
        """Record a part as written."""
        self.forget(part.uuid)
        if part.past:
            self._note(part.uuid, _Written(part.past, part.last))

    def has_read(self, detail: models.AtomDetail, past: int) -> None:
        """Record what was read, if it is new."""
        if past and detail.uuid not in self.known:
            self._note(detail.uuid, _Written(past, detail.results[past - 1]))

    def forget(self, uuid: str) -> None:
        """Forget a retry: all of it is written again."""
        self.known.pop(uuid, None)

    def _note(self, uuid: str, written: _Written) -> None:
        while len(self.known) >= _MOST_KNOWN:
            self.known.pop(next(iter(self.known)), None)
        self.known[uuid] = written


def rows(
    make: Rows, flow: models.FlowDetail, details: list[models.AtomDetail], parts: list[Part]
) -> list[tuple[Any, ...]]:
    """Return the rows of the atoms of a step, including those of all retries with a part."""
    if not parts:
        return list(map(make.of_atom, details, itertools.repeat(flow.uuid)))
    pasts = {part.uuid: part.past for part in parts}
    others = [detail for detail in flow if detail.uuid in pasts and detail not in details]
    return [make.of_atom(detail, flow.uuid, pasts.get(detail.uuid, 0)) for detail in (*details, *others)]


def is_parted(row: Sequence[Any]) -> bool:
    """Tell whether an atom, by its row, may have attempts in the table."""
    return isinstance(row[_META], str) and MARK in row[_META] and row[_KIND] == "RETRY_DETAIL"


def past_of(row: Sequence[Any]) -> Any:
    """Return how many attempts of a retry are in the table, by its stored row.

    :raises Unreadable: when its metadata are damaged
    """
    meta = codec.loads(row[_META])
    return meta.get(MARK, 0) if isinstance(meta, dict) else 0


def missing(past: Any, chunks: dict[Any, Any]) -> str | None:
    """Return a description of the attempts that are missing from the table, or None.

    :param chunks: the stored attempts, by the number of the first one
    """
    if type(past) is not int or past < 0 or past % CHUNK:
        return f"its metadata have {MARK!r}: {str(past)[:80]}, which is no number of attempts of ours"
    lacks = [begin for begin in range(0, past, CHUNK) if begin not in chunks]
    return f"the attempts from {lacks[0]} to {lacks[0] + CHUNK - 1} are missing" if lacks else None


def joined(past: int, chunks: dict[int, Any]) -> list[Any]:
    """Return the attempts in the table.

    :raises Unreadable: when some are damaged
    """
    attempts: list[Any] = []
    for begin in range(0, past, CHUNK):
        found = codec.loads(chunks[begin])
        if not isinstance(found, list) or len(found) != CHUNK:
            raise codec.Unreadable(f"The attempts from {begin} to {begin + CHUNK - 1} are damaged")
        attempts += found
    return attempts
