"""The last entries of histories: while a run is in progress they are written with its claim, in the same row.

A step that keeps a history writes that row anyway. To add a row to the table of entries besides costs a statement and
two more pages; so it is added once in several steps, and when the run comes to rest.

What must stay true: a tail follows the entries in the table without a gap. A row of the table has the entries of whole
writes, so one that is repeated finds its own row. The cache of what was last written is valid for one version of the
claim, and for documents with higher numbers; a step that does not find it puts the stored tail into the table first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx.persistence import history

if TYPE_CHECKING:
    from taskflowx.persistence.backends import sql
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction

MOST = 1500  # characters of a tail: the row stays small enough to be rewritten with each step


def joined(tail: str, number: int, text: str) -> str:
    """Return a tail with a further document.

    :param tail: the one before; it may be empty
    :param number: that of the document's first entry
    """
    return f"{tail[:-1]},{text[1:]}" if tail else f"{number}:{text}"


def rows(uuid: str, tail: str | None) -> list[tuple[str, int, str]]:
    """Return the rows of the table of entries that have the same as a tail, one or none.

    :param uuid: that of the flow
    :raises Unreadable: when the tail is damaged
    """
    if not tail:
        return []
    number, _, text = tail.partition(":")
    if not (number.isdecimal() and number.isascii()):
        from taskflowx.persistence import codec  # as `history.read` does

        raise codec.Unreadable(f"The last entries of a history are damaged: they begin with {number[:80]!r}")
    return [(uuid, int(number), text)]


def put_away(tx: StoreTransaction, statements: sql.Statements, uuid: str, first: int) -> list[tuple[Any, ...]]:
    """Empty the tail of a run; returns the rows of the table of entries that take its place.

    :param first: the number of the entry that is written next, which replaces those from there on
    """
    found: list[tuple[Any, ...]] = []
    for (stored,) in tx.rows(statements.tail, uuid):
        for _, number, text in rows(uuid, stored):
            entries = [entry for entry in history.read(number, text) if entry.number < first]
            found += [(uuid, *one) for one in history.chunks(entries)]
            tx.run(statements.put_tail, None, uuid)
    return found
