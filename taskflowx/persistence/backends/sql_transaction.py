"""One transaction on a driver's connection: it runs statements, and checks their size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx.persistence.backends import sql_errors

if TYPE_CHECKING:
    from taskflowx.persistence.backends import sql_deadlines
    from taskflowx.persistence.seal import Seal

_STATEMENT = 4096  # bytes of a statement beside its values, rounded up
_ESCAPED = ("\\", '"', "'", "\0", "\n", "\r", "\x1a")


@dataclasses.dataclass(slots=True, eq=False)
class StoreTransaction:
    """One transaction.

    :param raw: the driver's connection
    :param limit: the database's maximum size of a statement in bytes, 0 for none
    :param doubted: whether an attempt whose answer was lost may have committed the same already
    :param watched: is notified of each statement, if answers have a timeout
    :param seal: opens the documents in rows
    """

    raw: Any
    limit: int
    doubted: bool = False
    watched: sql_deadlines.Watched | None = None
    seal: Seal | None = None
    ending: bool = False  # whether COMMIT, or a statement that needs none, was sent
    _alone: bool = False  # whether the next statement is a transaction by itself

    def _cursor(self) -> Any:
        """Return a cursor for the next statement, whose answer has a time limit of its own."""
        if self.watched is not None:
            self.watched.asks()
        return self.raw.cursor()

    def run(self, statement: str, *given: Any) -> Any:
        """Run a statement whose only large value is metadata; returns the driver's cursor."""
        if self.limit:
            self._check_size(given, "the metadata")
        cursor = self.raw.cursor() if self.watched is None else self._cursor()
        cursor.execute(statement, given)
        return cursor

    def rows(self, statement: str, *given: Any) -> list[Any]:
        """Return all rows of a query."""
        cursor = self._cursor()
        cursor.execute(statement, given)
        try:
            found: list[Any] = cursor.fetchall()
        except Exception as error:
            if "Could not decode to UTF-8" not in str(error):
                raise
            found = self._rows_as_they_are(statement, given)
        cursor.close()
        return found if self.seal is None else [tuple(map(self.seal.open, row)) for row in found]

    def _rows_as_they_are(self, statement: str, given: Sequence[Any]) -> list[Any]:
        """Return the rows of SQLite, with bytes in place of undecodable text, which would hide all other rows."""
        usual, self.raw.text_factory = self.raw.text_factory, _text_or_bytes
        try:
            return self.raw.execute(statement, given).fetchall()  # type: ignore[no-any-return]
        finally:
            self.raw.text_factory = usual

    def many(self, statement: str, rows: Sequence[tuple[Any, ...]], what: str | None = None) -> int:
        """Run a statement for each row, in as few round trips as the driver supports; returns how many were affected.

        :param what: names the rows in errors; by default each is named by its second value
        """
        if not rows:
            return 0
        cursor = self.raw.cursor() if self.watched is None else self._cursor()
        if self.limit:
            for row in rows:
                self._check_size(row, what or f"'{row[1]}'")
            # PyMySQL joins rows up to a length that ignores the server's limit.
            room = self.limit - _STATEMENT
            cursor.max_stmt_length = min(getattr(cursor, "max_stmt_length", room), room)
        if len(rows) == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)
        count: int = cursor.rowcount
        cursor.close()
        return count

    def at_once(self, statement: str, *given: Any) -> bool:
        """Run a statement that is the whole transaction, and needs neither BEGIN nor COMMIT.

        Its result is in doubt if this raises.

        :param statement: it divides by zero where there is nothing to change
        :returns: whether it was applied; if not, nothing was changed
        """
        self.raw.autocommit = self._alone = self.ending = True
        try:
            self.run(statement, *given)
        except Exception as error:
            if not sql_errors.is_division_by_zero(error):
                raise
            self.ending = False
        self.raw.autocommit = self._alone = False
        return self.ending

    def roll_back(self) -> None:
        """Roll back the transaction."""
        self.raw.rollback()
        if self._alone:
            self.raw.autocommit = self._alone = False

    def commit(self) -> None:
        """Commit the transaction; the result is in doubt if it raises."""
        if self.watched is not None:
            self.watched.asks()
        self.ending = True
        self.raw.commit()

    def _check_size(self, values: Sequence[Any], what: str) -> None:
        check_size([value for value in values if isinstance(value, str)], self.limit, what)


def check_size(texts: Sequence[str], limit: int, what: str) -> None:
    """Raise an error for texts that do not fit into one statement.

    :param limit: the server's maximum in bytes
    :param what: names them in the error
    :raises Unstorable: when they are too long
    """
    if 4 * sum(map(len, texts)) + _STATEMENT < limit:  # a character has four bytes at most, and an escaped one has two
        return
    size = _STATEMENT + sum(len(text.encode()) + sum(map(text.count, _ESCAPED)) for text in texts)
    if size > limit:
        raise exceptions.Unstorable(
            f"Cannot store {what}: with {size:,} bytes it does not fit into one statement, of which the server "
            f"takes {limit:,} (max_allowed_packet)\nRaise the server's limit, or keep large values elsewhere"
        )


def _text_or_bytes(stored: bytes) -> str | bytes:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored
