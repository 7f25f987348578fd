"""The stores there are: `fetch` makes one from its settings, `backend` makes it ready and closes it again.

Ours are looked up in a table, and imported when they are asked for; others are what installed packages register as
entry points.
"""

from __future__ import annotations

import contextlib
import importlib
import urllib.parse
from typing import TYPE_CHECKING, Any

from taskflowx import _names, exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from taskflowx.persistence.base import Backend

BACKEND_NAMESPACE = "taskflowx.persistence"

_DIR = ("impl_dir", "DirBackend", None)
_SQL = ("impl_sqlalchemy", "SQLAlchemyBackend", "sqlalchemy")
#: name -> module, class, and the extra that installs the driver
_BACKENDS: dict[str, tuple[str, str, str | None]] = {
    "memory": ("impl_memory", "MemoryBackend", None),
    "dir": _DIR,
    "file": _DIR,
    "sqlite": _SQL,
    "mysql": _SQL,
    "mariadb": _SQL,
    "postgresql": _SQL,
    "zookeeper": ("impl_zookeeper", "ZkBackend", "zookeeper"),
}


def fetch(conf: Mapping[str, Any] | str, namespace: str = BACKEND_NAMESPACE, **kwargs: Any) -> Backend:
    """Make a store from its settings.

    :param conf: a dict whose key `connection` names the store, such as `memory`, `dir:///path`, `sqlite:///path` or
        `zookeeper://host:port`, or that name alone. What an address says beside it (`username`, `password`, `hostname`,
        `port`, `key=value` after `?`) is added to the settings, which go before it
    :param namespace: the group of entry points in which stores are looked up that are not ours
    :param kwargs: further arguments of the store's class
    :raises NotFound: when there is no such store, or its driver is not installed
    """
    settings = _settings(conf)
    scheme = settings["connection"].partition(":")[0].strip().lower()
    name = scheme.partition("+")[0]  # what stands after it names the driver
    made: Backend = _backend_class(name, namespace)(settings, **kwargs)
    return made


@contextlib.contextmanager
def backend(conf: Mapping[str, Any] | str, namespace: str = BACKEND_NAMESPACE, **kwargs: Any) -> Iterator[Backend]:
    """Make a store as `fetch` does, ready to be written to, and close it at the end of the block."""
    with contextlib.closing(fetch(conf, namespace, **kwargs)) as made:
        with contextlib.closing(made.get_connection()) as connection:
            connection.upgrade()
        yield made


def _settings(conf: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the settings as a dict of their own, with what the address in it says.

    :raises TypeError, ValueError: when they do not say what store is meant
    """
    settings = {"connection": conf} if isinstance(conf, str) else dict(conf) if hasattr(conf, "keys") else None
    if settings is None:
        raise TypeError(f"A store is described by a dict or by its connection string, not by {conf!r} ({type(conf)})")
    address = settings.get("connection")
    if not isinstance(address, str) or not address:
        raise ValueError(f"The settings of a store need 'connection', a string such as 'memory', not {address!r}")
    for key, value in _parts(address).items():
        settings.setdefault(key, value)
    return settings


def _parts(address: str) -> dict[str, Any]:
    """Return what an address says, but for its scheme and path."""
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:  # a driver may know addresses that are no URL; it reads them itself
        return {}
    found = {
        "username": parts.username,
        "password": parts.password,
        "hostname": parts.netloc.rpartition("@")[2],  # with its port, as drivers take it
        "port": port,
        **dict(urllib.parse.parse_qsl(parts.query)),
    }
    return {key: value for key, value in found.items() if value}


def _backend_class(name: str, namespace: str) -> Callable[..., Any]:
    if name in _BACKENDS and _names.ours(namespace) == BACKEND_NAMESPACE:
        return _import(name)
    registered = _names.plugins(namespace)
    for entry_point in registered:
        if entry_point.name == name:
            return entry_point.load()  # type: ignore[no-any-return]
    ours = _BACKENDS if _names.ours(namespace) == BACKEND_NAMESPACE else {}
    known = sorted({*ours, *(entry_point.name for entry_point in registered)})
    msg = (
        f"Could not find backend {name}: No '{namespace}' driver found, looking for '{name}'\n"
        f"The known ones are {known}"
    )
    raise exceptions.NotFound(msg)


def _import(name: str) -> Callable[..., Any]:
    """Import one of our stores.

    :raises NotFound: when a library that it needs is not installed
    """
    module, cls, extra = _BACKENDS[name]
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), cls)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if extra is None or _names.is_within(error.name or "", _names.OURS):
            raise
        msg = f"Could not find backend {name}: it needs {error.name}\nInstall it with: pip install taskflowx[{extra}]"
        raise exceptions.NotFound(msg, error) from error
