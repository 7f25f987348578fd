"""Engines that go on from a record as another process would read it, in memory or in a store."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path

from taskflowx import engines, testing
from taskflowx.persistence import backends, models

KINDS = ("memory", "sqlite")


@functools.cache
def _empty_database() -> bytes:
    """Return an SQLite file with the tables in it: to make them takes longer than a test."""
    with tempfile.TemporaryDirectory() as folder:
        with backends.backend(f"sqlite:///{folder}/empty.db"):
            pass
        return Path(folder, "empty.db").read_bytes()


class Place:
    """Loads one engine after another from one record.

    :param kind: one of `KINDS`
    :param folder: where a store is put
    """

    def __init__(self, kind, folder):
        self.options = {}
        self._detail = None
        if kind != "memory":
            path = Path(folder, "runs.db")
            path.write_bytes(_empty_database())
            self.options["backend"] = backends.fetch(f"sqlite:///{path}")

    def load(self, flow, store=None, **options):
        """Load an engine: the first makes the record, the others read it."""
        options |= self.options
        if self._detail is None:
            engine = engines.load(flow, store, book=models.LogBook("book"), **options)
        else:
            engine = engines.load(flow, flow_detail=self._read(), **options)
        self._detail = engine.storage.record.flow_detail
        return engine

    def _read(self):
        if not self.options:
            return testing.reloaded(self._detail)
        with contextlib.closing(self.options["backend"].get_connection()) as connection:
            return connection.get_flow_details(self._detail.uuid)

    def close(self):
        """Close the store."""
        if self.options:
            self.options["backend"].close()
