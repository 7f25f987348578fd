"""The stores that the contract of back ends is run on; a new one is one more entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services import addresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Store:
    """One store, as the contract sees it.

    :param name: of the test
    :param settings: what `backends.fetch` gets, for a store that is new and in a folder of its own
    :param is_ready: whether it can be used without `upgrade`
    :param is_shared: whether two back ends of the same settings are the same store
    :param lacks: gives why the store cannot be tested here, or None
    """

    name: str
    settings: Callable[[Path], dict[str, Any]]
    is_ready: bool = False
    is_shared: bool = True
    lacks: Callable[[], str | None] = lambda: None


STORES = [
    Store("memory", lambda _: {"connection": "memory"}, is_ready=True, is_shared=False),
    Store("memory-shallow", lambda _: {"connection": "memory", "deep_copy": False}, is_ready=True, is_shared=False),
    Store("dir", lambda path: {"connection": "dir", "path": str(path / "runs")}),
    Store("sqlite", lambda path: {"connection": f"sqlite:///{path / 'runs.db'}"}),
    Store("sqlite-memory", lambda _: {"connection": "sqlite://"}, is_shared=False),
    Store(
        "postgresql",
        lambda _: {"connection": addresses.new_database(addresses.POSTGRESQL)},
        lacks=addresses.POSTGRESQL.lacks,
    ),
    Store(
        "mariadb",
        lambda _: {"connection": addresses.new_database(addresses.MARIADB)},
        lacks=addresses.MARIADB.lacks,
    ),
    Store("zookeeper", lambda _: {"connection": addresses.new_path()}, lacks=addresses.ZOOKEEPER.lacks),
]
