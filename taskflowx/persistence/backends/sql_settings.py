"""The settings of a SQL store: parses the configuration and the address, and makes the SQLAlchemy engine.

What must stay true: an error here shows no password; our settings never reach a driver, and an unknown setting of a
driver is rejected before anything connects.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc as sa_errors
from sqlalchemy.pool import StaticPool

from taskflowx import exceptions
from taskflowx.persistence.backends import sql, sql_deadlines

IDLE_TIMEOUT = 3600  # seconds after which an idle connection is replaced
BUSY_TIMEOUT = 30  # seconds for which SQLite waits for another process to end its transaction
CONNECT_TIMEOUT = 10.0  # seconds for connecting
READ_TIMEOUT = 60.0  # seconds for a server to answer a statement

# Drivers for an address that names none, in order of preference: the name in addresses, and the module.
_DRIVERS = {
    "mariadb": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
    "mysql": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
}

_POOL = {"max_pool_size": "pool_size", "max_overflow": "max_overflow", "pool_timeout": "pool_timeout"}

_OURS = "checkout_ping connect_timeout idle_timeout isolation_level max_retries mysql_sql_mode read_timeout"
#: settings that may also be given after the `?` of an address
IN_ADDRESSES = (*_POOL, *_OURS.split())
#: all settings beside `connection`
KNOWN = frozenset((*IN_ADDRESSES, "engine_args"))

_LIBPQ = """
application_name autocommit channel_binding client_encoding dbname fallback_application_name gssdelegation
gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer
oauth_scope options passfile password port prepare_threshold replication require_auth requirepeer
scram_client_key scram_server_key service servicefile ssl_max_protocol_version ssl_min_protocol_version sslcert
sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert
sslsni target_session_attrs tcp_user_timeout user
"""
_MYSQL = """
auth_plugin autocommit bind_address charset client_flag collation compress conv database db host init_command
local_infile named_pipe passwd password port program_name read_default_file read_default_group server_public_key
sql_mode ssl ssl_ca ssl_capath ssl_cert ssl_check_hostname ssl_cipher ssl_disabled ssl_key ssl_key_password
ssl_mode ssl_verify_cert ssl_verify_identity unix_socket use_unicode user write_timeout
"""
_SQLITE = "cache cached_statements detect_types immutable mode nolock psow timeout uri vfs"
# The settings after the `?` of an address that each driver knows; a driver that is not listed gets all of them.
_OF_DRIVERS = {
    driver: frozenset(known.split())
    for driver, known in {
        "mysqldb": _MYSQL,
        "psycopg": _LIBPQ,
        "psycopg2": _LIBPQ,
        "pymysql": _MYSQL,
        "pysqlite": _SQLITE,
    }.items()
}


class Settings:
    """The parsed settings.

    :param conf: the configuration
    :raises ValueError: when a number cannot be parsed
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        self._conf = conf

    def get(self, key: str) -> Any:
        """Return the raw value of a setting, or None."""
        return self._conf.get(key)

    def number(self, key: str, default: int) -> int:
        """Return an integer."""
        given = self._conf.get(key)
        if given is None:
            return default
        try:
            return int(given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{key}' must be a whole number, not {given!r}") from error

    def seconds(self, key: str, default: float) -> float:
        """Return a number of seconds, zero or more."""
        given = self._conf.get(key)
        if given is None:
            return default
        with contextlib.suppress(TypeError, ValueError):
            seconds = float(given)
            if seconds >= 0:
                return seconds
        raise ValueError(f"'{key}' must be a number of seconds, zero or more, not {given!r}")

    def flag(self, key: str) -> bool:
        """Return a boolean, which an address has as text."""
        given = self._conf.get(key)
        return bool(given) and str(given).lower() not in {"0", "false", "no", "off"}


def read(conf: Mapping[str, Any]) -> tuple[Settings, sa.URL]:
    """Return the settings, including those in the address, and the address without them.

    :raises ValueError: when the address cannot be parsed, or has an unknown setting
    :raises NotFound: when no driver for it is installed
    """
    url = url_of(conf.get("connection"))
    _check_query(url)
    ours = {key: value for key, value in url.query.items() if key in IN_ADDRESSES}
    return Settings({**ours, **conf}), url.difference_update_query(ours)


def url_of(address: Any) -> sa.URL:
    """Return a database's address, with the name of a driver that is installed.

    :raises ValueError: when it is no address, or is incomplete
    :raises NotFound: when no driver is installed
    """
    try:
        url = sa.make_url(address)
    except (sa_errors.ArgumentError, ValueError):
        # The address is not shown, as it may have a password.
        msg = "'connection' must be an address such as 'sqlite:///path' or 'postgresql://user@host/database'"
        raise ValueError(msg) from None
    kind = url.drivername.partition("+")[0]
    family = sql.family_of(kind)
    if family == "mysql" and not url.database:
        raise ValueError(f"The address '{shown(url)}' names no database; say which one: {kind}://user@host/database")
    if family == "sqlite":
        if url.host:
            path = "/".join(part for part in (url.host, url.database) if part)
            raise ValueError(
                f"The address '{shown(url)}' has a host, as behind two slashes: the path of a file is behind three, "
                f"'sqlite:///{path}', or four where it is absolute"
            )
        url = _with_whole_path(url)
    if "+" in url.drivername or kind not in _DRIVERS:
        return url
    for driver, module in _DRIVERS[kind]:
        if importlib.util.find_spec(module) is not None:
            return url.set(drivername=f"{kind}+{driver}")
    raise _no_driver(kind, " or ".join(driver for driver, _ in _DRIVERS[kind]), family)


def shown(url: sa.URL) -> str:
    """Return an address without its password, and other parts that may be secret."""
    return url.set(query={}).render_as_string(hide_password=True)


def _with_whole_path(url: sa.URL) -> sa.URL:
    """Return the address with an absolute path, so that a later change of the working directory has no effect."""
    path = url.database
    if not path or path == ":memory:" or path.startswith("file:"):
        return url
    if path.startswith("~"):
        expanded = os.path.expanduser(path)  # noqa: PTH111 - a Path raises if there is no such user
        if expanded.startswith("~"):
            raise ValueError(f"The address '{shown(url)}' names the folder of a user that there is not")
        path = expanded
    return url.set(database=os.path.abspath(path))  # noqa: PTH100 - as SQLite reads it, links included


def _check_query(url: sa.URL) -> None:
    driver = url.drivername.partition("+")[2] or {"sqlite": "pysqlite"}.get(url.get_backend_name(), "")
    known = _OF_DRIVERS.get(driver)
    if known is None:
        return
    unknown = sorted(set(url.query).difference(known, IN_ADDRESSES))
    if unknown:
        raise ValueError(
            f"The address '{shown(url)}' has settings that there are none of: {', '.join(unknown)}\n"
            f"The store knows {', '.join(IN_ADDRESSES)}; {driver} knows {', '.join(sorted(known))}"
        )


def _no_driver(kind: str, needed: str, family: str) -> exceptions.NotFound:
    install = f'\nInstall it with: pip install "taskflowx[{family}]"' if family in _DRIVERS else ""
    return exceptions.NotFound(f"Could not find backend {kind}: it needs {needed}{install}")


def make_engine(settings: Settings, url: sa.URL) -> sa.Engine:
    """Return a SQLAlchemy engine.

    :raises NotFound: when the driver that the address names is not installed
    """
    kind = url.get_backend_name()
    try:
        engine = sa.create_engine(url, **_engine_args(settings, url))
    except ModuleNotFoundError as error:
        raise _no_driver(kind, str(error.name), sql.family_of(kind)) from error
    except sa_errors.NoSuchModuleError as error:
        driver = url.drivername.partition("+")[2]
        msg = f"Could not find backend {kind}: there is no driver '{driver}', in the address '{shown(url)}'"
        raise exceptions.NotFound(msg) from error
    if kind != "sqlite":
        _limit_connecting(engine, settings.seconds("connect_timeout", CONNECT_TIMEOUT))
    return engine


def _limit_connecting(engine: sa.Engine, seconds: float) -> None:
    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _: Any, args: list[Any], more: dict[str, Any]) -> Any:
        try:
            made = sql_deadlines.connect(lambda: dialect.connect(*args, **more), seconds)
        except TimeoutError:
            raise dialect.loaded_dbapi.OperationalError(f"{shown(engine.url)} does not answer") from None
        if hasattr(made, "_read_timeout"):  # PyMySQL's for the handshake, which would hold for long statements too
            made._read_timeout = None  # noqa: SLF001 - it has no other way
        return made


def _engine_args(settings: Settings, url: sa.URL) -> dict[str, Any]:
    """Return the arguments of `sqlalchemy.create_engine`."""
    # A transaction is always committed or rolled back: a reset would be a needless round trip.
    made: dict[str, Any] = {
        "pool_reset_on_return": None,
        "pool_recycle": settings.number("idle_timeout", IDLE_TIMEOUT),
        "isolation_level": settings.get("isolation_level") or "READ COMMITTED",
    }
    if url.get_backend_name() == "sqlite" and not settings.get("isolation_level"):
        del made["isolation_level"]
    if is_in_memory(url):
        made["poolclass"] = StaticPool
    else:
        made["poolclass"] = sql_deadlines.BoundedPool
        made |= {arg: settings.number(key, 0) for key, arg in _POOL.items() if settings.get(key) is not None}
    given = dict(settings.get("engine_args") or {})
    if not {"pool", "poolclass", "creator"}.isdisjoint(given):
        made.pop("poolclass")
    made["connect_args"] = {**_connect_args(settings, url), **given.pop("connect_args", {})}
    return {**made, **given}


def _connect_args(settings: Settings, url: sa.URL) -> dict[str, Any]:
    """Return the arguments that a driver gets beside the address."""
    kind, driver = url.get_backend_name(), url.drivername.partition("+")[2]
    made: dict[str, Any] = {}
    if kind == "sqlite":
        made["timeout"] = BUSY_TIMEOUT
        made["check_same_thread"] = False  # a transaction has exclusive use of its connection
    elif driver in {"psycopg", "psycopg2", "pymysql", "mysqldb"}:
        connecting = settings.seconds("connect_timeout", CONNECT_TIMEOUT)
        reading = settings.seconds("read_timeout", READ_TIMEOUT)
        if connecting:
            made["connect_timeout"] = max(1, round(connecting))
        if kind == "postgresql":
            made |= {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
            if reading:
                made["tcp_user_timeout"] = round(reading * 1000)
        elif driver == "pymysql":
            # The first is for the handshake, and is removed after it.
            made |= {"read_timeout": connecting or None, "write_timeout": reading or None}
        elif reading:
            made |= {"read_timeout": max(1, round(reading)), "write_timeout": max(1, round(reading))}
    return {key: value for key, value in made.items() if key not in url.query}


def is_in_memory(url: sa.URL) -> bool:
    """Tell whether a database is SQLite's in memory, which lives as long as its connection."""
    if url.get_backend_name() != "sqlite":
        return False
    return url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory"
