"""Where the servers are that some tests talk to, and databases of their own for these tests.

Each address comes from an environment variable, with a default on this machine; `tests/services/start` starts what does
not answer. A test skips where there is no server, with the reason. With TASKFLOWX_REQUIRE_SERVICES=1 it fails.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import socket
import sysconfig
import urllib.parse
from dataclasses import dataclass
from typing import Any

#: not every package is there for a Python without the GIL
_HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")
#: what is done at the end of the tests; later, when the interpreter ends, a client could start no thread any more
CLEANUP = contextlib.ExitStack()


@dataclass(frozen=True)
class Service:
    """A server.

    :param name: of the server, and of the variable: TASKFLOWX_<NAME>
    :param default: its address when the variable is not set
    :param modules: what has to be installed to talk to it
    """

    name: str
    default: str
    modules: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable with its address."""
        return f"TASKFLOWX_{self.name.upper()}"

    @property
    def address(self) -> str:
        """Its address, a URL."""
        return os.environ.get(self.variable) or self.default

    @property
    def host(self) -> str:
        """Where it listens."""
        return urllib.parse.urlsplit(self.address).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urllib.parse.urlsplit(self.address).port or urllib.parse.urlsplit(self.default).port
        assert port is not None
        return port

    def answers(self) -> bool:
        """Tell whether something listens there."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=2):
            return True
        return False

    def lacks(self) -> str | None:
        """Say why tests cannot talk to it, or return None.

        :raises AssertionError: when there is a reason, and there must be none
        """
        reason = self._lacks()
        if reason and self.missing and not _HAS_GIL:
            return reason  # there is no such package
        if reason and os.environ.get("TASKFLOWX_REQUIRE_SERVICES") == "1":
            raise AssertionError(f"{reason}, and TASKFLOWX_REQUIRE_SERVICES=1 says that it has to be there")
        return reason

    @property
    def missing(self) -> list[str]:
        """What is not installed of the modules."""
        return [name for name in self.modules if importlib.util.find_spec(name) is None]

    @functools.cache  # noqa: B019 - one object a service, for as long as the process lives
    def _lacks(self) -> str | None:
        if self.missing:
            return f"{' and '.join(self.missing)} not installed, which talks to {self.name}"
        if not self.answers():
            return (
                f"no {self.name} at {self.host}:{self.port}: tests/services/start starts it, {self.variable} moves it"
            )
        return None


POSTGRESQL = Service("postgresql", "postgresql://root@127.0.0.1:5432/test", ("sqlalchemy", "alembic", "psycopg"))
MARIADB = Service("mariadb", "mysql+pymysql://root@127.0.0.1:3306/test", ("sqlalchemy", "alembic", "pymysql"))
REDIS = Service("redis", "redis://127.0.0.1:6379")
RABBITMQ = Service("rabbitmq", "amqp://guest:guest@127.0.0.1:5672")
ZOOKEEPER = Service("zookeeper", "zookeeper://127.0.0.1:2181", ("kazoo",))
ETCD = Service("etcd", "etcd://127.0.0.1:2379")
SERVICES = (POSTGRESQL, MARIADB, REDIS, RABBITMQ, ZOOKEEPER, ETCD)


def new_database(service: Service) -> str:
    """Return the address of an empty database, which the end of this process removes.

    :param service: PostgreSQL or MariaDB; there is one database for each, which is emptied at each call
    """
    import sqlalchemy as sa

    database = f"taskflowx_test_{os.getpid()}"
    _make_database(service, database)
    address = sa.make_url(service.address).set(database=database)
    if service is POSTGRESQL:
        _run(through(address), "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    else:
        _run(service.address, f"DROP DATABASE {database}", f"CREATE DATABASE {database}")
    return address.render_as_string(hide_password=False)


@functools.cache
def _make_database(service: Service, database: str) -> None:
    """Make a database that is dropped at the end of the tests."""
    address = through(service.address)
    # A process that was killed has left its own behind, and its number may be ours now.
    _run(address, f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database}")
    CLEANUP.callback(_run, address, f"DROP DATABASE {database}{' WITH (FORCE)' if service is POSTGRESQL else ''}")


def through(address: Any) -> Any:
    """Return an address that names the driver which the tests install."""
    import sqlalchemy as sa

    address = sa.make_url(address)
    return address.set(drivername="postgresql+psycopg") if address.drivername == "postgresql" else address


def _run(address: Any, *statements: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def new_path() -> str:
    """Return the address of a path in ZooKeeper that is not there yet, and which the end of this process removes."""
    _remove_paths()
    return f"{ZOOKEEPER.address}{_own_path()}/{next(_numbers)}"


_numbers = itertools.count()


def _own_path() -> str:
    return f"/taskflowx_test_{os.getpid()}"


@functools.cache
def _remove_paths() -> None:
    CLEANUP.callback(_remove_own_path)


def _remove_own_path() -> None:
    from kazoo.client import KazooClient

    client = KazooClient(f"{ZOOKEEPER.host}:{ZOOKEEPER.port}")
    client.start()
    client.delete(_own_path(), recursive=True)
    client.stop()
    client.close()
