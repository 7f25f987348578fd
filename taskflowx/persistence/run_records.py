"""Runs by id in a store: where the record of a run is, and pages of runs, newest first.

A run with an id is a book that holds one flow. The uuids of both are derived from the id, so "make it unless it exists"
is the insertion of a row, and "find it" a read by the primary key, on every store and without a column of our own.

What must stay true: a page is in the order of (time of creation, uuid), and the next one begins behind its last run, so
runs that come or go meanwhile move no other run to another page.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from taskflowx import states
from taskflowx._util import arguments

#: the key in the metadata of the flow and of the book of a run with an id; the value is a dict with the key `id`
RUN = "run"
#: the maximum number of characters of an id
LONGEST_ID = 1000
#: the name of books that are made for runs without an id
TEMPORARY = "tmp"
_LONGEST_NAME = 255
_NAMESPACE = "6d5f4a2e-6f0b-5c5e-9d0a-3b1f6a4e7c21"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def check_id(run_id: Any) -> str:
    """Return the id of a run.

    :raises TypeError: when it is no str
    :raises ValueError: when it is empty or too long, or no store could hold it
    """
    arguments.check_type("run_id", run_id, str, "a str")
    if not run_id:
        raise ValueError("run_id must not be empty: give the run a name, such as 'invoice-17'")
    if len(run_id) > LONGEST_ID:
        raise ValueError(
            f"run_id has {len(run_id):,} characters, and {LONGEST_ID:,} is the maximum: {run_id[:80]!r}...\n"
            "Use a digest of it"
        )
    if "\0" in run_id or any("\ud800" <= letter <= "\udfff" for letter in run_id):
        raise ValueError(f"run_id must be text without '\\0' and lone surrogates, not {run_id[:80]!r}")
    return str(run_id)


def flow_uuid(run_id: str) -> str:
    """Return the uuid of the flow's detail of a run."""
    return _uuid(run_id)


def book_uuid(run_id: str) -> str:
    """Return the uuid of the book of a run."""
    return _uuid(f"book:{run_id}")


def _uuid(name: str) -> str:
    import uuid

    return str(uuid.uuid5(uuid.UUID(_NAMESPACE), name))


def book_name(run_id: str) -> str:
    """Return the name of the book of a run: its id, as far as a column of a database can hold it."""
    return run_id if len(run_id) <= _LONGEST_NAME else f"{run_id[: _LONGEST_NAME - 3]}..."


def id_of(detail: Any) -> str | None:
    """Return the id of a run from its flow's detail or row; None if it has none."""
    found = (detail.meta or {}).get(RUN)
    run_id = found.get("id") if isinstance(found, dict) else None
    return run_id if isinstance(run_id, str) else None


class RunRow(NamedTuple):
    """One run in a listing; times are in UTC."""

    uuid: str
    name: str
    state: str | None
    meta: dict[str, Any]
    created_at: dt.datetime
    updated_at: dt.datetime | None = None


#: tells of a run whether it is one of those that are meant; None for each
Condition = Callable[[RunRow], bool] | None


class Query(NamedTuple):
    """Which runs a page has.

    - `states`: only runs in these states; None for all
    - `flow`: only runs of flows with this name
    - `since`: only runs that were made at this time or later
    - `before`: only runs that were made before this time
    - `after`: the time of creation and the uuid of the run before the page
    - `limit`: the maximum number of runs
    """

    states: frozenset[str] | None = None
    flow: str | None = None
    since: dt.datetime | None = None
    before: dt.datetime | None = None
    after: tuple[dt.datetime, str] | None = None
    limit: int = 50

    def has(self, row: RunRow) -> bool:
        """Tell whether a run is among those asked for, on this page or a later one."""
        return (
            self.has_state(row)
            and (self.flow is None or row.name == self.flow)
            and (self.since is None or row.created_at >= self.since)
            and (self.before is None or row.created_at < self.before)
            and (self.after is None or (row.created_at, row.uuid) < self.after)
        )

    def has_state(self, row: RunRow) -> bool:
        """Tell whether a run is in one of the states."""
        return self.states is None or (row.state or states.PENDING) in self.states

    def page(self, rows: Iterable[RunRow]) -> list[RunRow]:
        """Return the page of all runs of a store that has no index."""
        import heapq

        return heapq.nlargest(self.limit, filter(self.has, rows), key=lambda row: (row.created_at, row.uuid))


def from_seconds(seconds: float) -> dt.datetime:
    """Return a time in UTC from seconds since 1970."""
    return _EPOCH + dt.timedelta(seconds=seconds)


def in_utc(stored: dt.datetime) -> dt.datetime:
    """Return a time of a store, which names no zone, in UTC."""
    return stored.replace(tzinfo=dt.UTC)
