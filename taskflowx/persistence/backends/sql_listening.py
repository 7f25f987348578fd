"""Waits for changes of a run in PostgreSQL, which notifies of them at the end of each transaction that writes the run.

A subscriber holds an advisory lock, shared. A writer tries to take the same lock in its transaction; if it gets it,
there is no subscriber, and it notifies nobody. So runs that nobody watches cost a lock in memory, and no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from taskflowx._util import logs
from taskflowx.persistence.backends import sql

LOG = logs.calm(__name__)


class Listening:
    """Waits for changes of one run.

    :param raw: a connection of psycopg that nobody else uses
    :param flow_uuid: the run
    """

    def __init__(self, raw: Any, flow_uuid: str) -> None:
        self._raw = raw
        self._uuid = flow_uuid
        raw.autocommit = True
        raw.execute(f"LISTEN {sql.CHANNEL}")
        raw.execute(f"SELECT pg_advisory_lock_shared({sql.LISTENING.format('%s')})", (flow_uuid,))

    def wait(self, seconds: float) -> bool:
        """Wait for a change, at most so many seconds; returns whether there was one."""
        return any(each.payload == self._uuid for each in self._raw.notifies(timeout=seconds))


@contextlib.contextmanager
def listening(engine: Any, flow_uuid: str) -> Iterator[Listening | None]:
    """Return a context that listens for changes of a run; its value is None where the driver or the server cannot."""
    raw = None
    try:
        if hasattr(engine.dialect.loaded_dbapi, "AsyncConnection"):  # psycopg 3
            pooled = engine.raw_connection()
            pooled.detach()
            raw = pooled.dbapi_connection
        yield None if raw is None else _begun(raw, flow_uuid)
    finally:
        if raw is not None:
            raw.close()


def _begun(raw: Any, flow_uuid: str) -> Listening | None:
    try:
        return Listening(raw, flow_uuid)
    except Exception as error:  # noqa: BLE001 - a pooler in between may refuse in any way; then it is looked at
        LOG.debug("Cannot listen for changes of runs, they are looked for: %s", error)
        return None
