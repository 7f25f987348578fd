"""Stores as users name them: a connection string, the path of a SQLite file, a dict of settings, or a `Backend`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskflowx.persistence.base import Backend

Address = str | os.PathLike[str]
Store = Address | Mapping[str, Any]

_FILE = ".db"


def to_settings(given: Store | Backend | None) -> Mapping[str, Any] | str | Backend | None:
    """Return what `persistence.backends.fetch` takes: the path of a file becomes the address of a SQLite store.

    :raises ValueError: for a path that does not end in '.db'
    """
    if isinstance(given, os.PathLike) or (isinstance(given, str) and _is_path(given)):
        path = os.fspath(given)
        if not path.endswith(_FILE):
            raise ValueError(
                f"backend={path!r} is a path that does not end in '{_FILE}', and may be of any store\n"
                f"Name the store: 'sqlite:///{path}' or 'dir:///{path}'"
            )
        return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"  # which addresses have a meaning for
    return given


def _is_path(text: str) -> bool:
    """Tell whether a text is no address, and no name of a kind of store."""
    return ":" not in text and ("." in text or "/" in text or os.sep in text)


def fetch(given: Store | Backend) -> tuple[Backend, bool]:
    """Return a store that is ready to be used, and whether it was made here, to be closed by the caller.

    :raises NotFound: when there is no such store
    :raises StorageFailure: when it cannot be used
    """
    settings: Any = to_settings(given)
    if hasattr(settings, "get_connection"):
        return settings, False
    from taskflowx.persistence import backends

    return backends.fetch_ready(settings), True
