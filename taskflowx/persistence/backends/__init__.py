"""The available stores: `fetch` makes one from its settings, `backend` also prepares and closes it.

Our stores are in a table, and are imported on demand; others are registered by installed packages as entry points.
"""

from __future__ import annotations

import contextlib
import importlib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taskflowx import _names, exceptions
from taskflowx._util import logs

if TYPE_CHECKING:
    from taskflowx.persistence.base import Backend
    from taskflowx.persistence.seal import Transform

LOG = logs.calm(__name__)

#: the settings that every store has
_OF_ALL = frozenset({"connection", "transform", "blobs", "blob_size"})
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


def fetch(
    conf: Mapping[str, Any] | str,
    namespace: str = BACKEND_NAMESPACE,
    *,
    transform: Transform | tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]] | None = None,
    blobs: str | None = None,
    **kwargs: Any,
) -> Backend:
    """Make a store from its settings.

    :param conf: a dict whose key `connection` selects the store, such as `memory`, `dir:///path`, `sqlite:///path` or
        `zookeeper://host:port`, or that address alone. Other parts of an address (`username`, `password`, `hostname`,
        `port`, `key=value` after `?`) are added to the settings, which take precedence. An unknown key of the dict is
        named in a warning
    :param namespace: the group of entry points of stores that are not ours
    :param transform: changes the bytes of each document that is stored, as to compress or encrypt it: an object with
        `encode` and `decode`, or a pair of such functions
    :param blobs: where large values are kept beside the records: `dir:///path`, or an address that fsspec knows. The
        setting `blob_size` says from how many bytes on, 256 KB by default
    :param kwargs: further arguments of the store's class
    :raises NotFound: when there is no such store, or its driver is not installed
    :raises ValueError: when an address has an unknown setting
    """
    settings = _settings(conf)
    if transform is not None:
        settings["transform"] = transform
    scheme = settings["connection"].partition(":")[0].strip().lower()
    name = scheme.partition("+")[0]  # the part after it names the driver
    made_by = _backend_class(name, namespace)
    known: frozenset[str] | None = getattr(made_by, "SETTINGS", None)
    if known is not None:
        for key in [key for key in settings if key not in known | _OF_ALL]:  # it may be for another program
            more = ", ".join(sorted(known))
            LOG.warning("The store '%s' has no setting %r, it is ignored; it has %s", name, key, more)
        if name in _BACKENDS and _BACKENDS[name] is not _SQL:  # their settings after "?" are options of the driver
            settings = _refined(settings, known)
    for key, value in _parts(settings["connection"]).items():
        settings.setdefault(key, value)
    if blobs is not None:
        settings["blobs"] = blobs
    made: Backend = made_by(settings, **kwargs)
    return made


def _refined(settings: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the settings, those after "?" in the address included; "#" has no special meaning there.

    :raises ValueError: when a setting is unknown
    """
    address, _, query = settings["connection"].partition("?")
    given: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = (urllib.parse.unquote_plus(each) for each in part.partition("="))
        if not equals or key not in known:
            raise ValueError(
                f"The address of the store '{address.partition(':')[0]}' has {key!r} after '?', which is no setting of "
                f"it; it has {', '.join(sorted(known))}\nWrite a '?' in a path as %3F"
            )
        given[key] = value
    return {**given, **settings, "connection": address.replace("#", "%23")}


def fetch_ready(conf: Mapping[str, Any] | str) -> Backend:
    """Make a store as `fetch` does, and upgrade it if it is new, or of an older layout.

    :raises NotFound: when there is no such store
    :raises StorageFailure: when it cannot be used
    """
    made = fetch(conf)
    try:
        with contextlib.closing(made.get_connection()) as connection:
            is_ready: Callable[[], bool] | None = getattr(connection, "is_ready", None)
            if is_ready is None or not is_ready():  # a store of somebody else's may have TaskFlow's interface alone
                connection.upgrade()
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def backend(conf: Mapping[str, Any] | str, namespace: str = BACKEND_NAMESPACE, **kwargs: Any) -> Iterator[Backend]:
    """Make a store as `fetch` does, upgrade it, and close it at the end of the block."""
    with contextlib.closing(fetch(conf, namespace, **kwargs)) as made:
        with contextlib.closing(made.get_connection()) as connection:
            connection.upgrade()
        yield made


def _settings(conf: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the settings as a new dict.

    :raises TypeError, ValueError: when they do not select a store
    """
    settings = {"connection": conf} if isinstance(conf, str) else dict(conf) if hasattr(conf, "keys") else None
    if settings is None:
        raise TypeError(f"A store is described by a dict or by its connection string, not by {conf!r} ({type(conf)})")
    address = settings.get("connection")
    if not isinstance(address, str) or not address:
        raise ValueError(f"The settings of a store need 'connection', a string such as 'memory', not {address!r}")
    return settings


def _parts(address: str) -> dict[str, Any]:
    """Return the parts of an address, except its scheme and path."""
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:  # a driver may accept addresses that are no URL; it parses them itself
        return {}
    try:
        port = parts.port
    except ValueError:  # several servers, each with its own port
        port = None
    found = {
        "username": parts.username and urllib.parse.unquote(parts.username),
        "password": parts.password and urllib.parse.unquote(parts.password),
        "hostname": parts.netloc.rpartition("@")[2],  # with its port, as drivers expect it
        "port": port,
        **dict(urllib.parse.parse_qsl(parts.query)),
    }
    return {key: value for key, value in found.items() if value}


def _backend_class(name: str, namespace: str) -> Callable[..., Any]:
    ours = _BACKENDS if _names.ours(namespace) == BACKEND_NAMESPACE else {}
    if name in ours:
        module, cls, extra = ours[name]
        try:
            return getattr(importlib.import_module(f"{__name__}.{module}"), cls)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            if extra is None or _names.is_within(error.name or "", _names.OURS):
                raise
            needs = f'it needs {error.name}\nInstall it with: pip install "taskflowx[{extra}]"'
            raise exceptions.NotFound(f"Could not find backend {name}: {needs}", error) from error
    registered = _names.plugins(namespace)
    if name in registered:
        return registered[name].load()  # type: ignore[no-any-return]
    known = sorted({*ours, *registered})
    raise exceptions.NotFound(
        f"Could not find backend {name}: No '{namespace}' driver found, looking for '{name}'\n"
        f"The known ones are {known}"
    )
