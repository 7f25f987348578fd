"""The layout of a SQL store, and its migrations.

Alembic runs the files in `versions/`, in the order of their `down_revision`, and records the version of a database in a
table of our own. Each change of the layout is a new file there; a released one is never changed.

What must stay true: TaskFlow can still read and write the tables that it made, for which it has a version table of its
own. We add only indexes, and columns that may be null; types stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.util
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from taskflowx import exceptions
from taskflowx.persistence.backends import sql
from taskflowx.persistence.backends.sql import VERSION_TABLE

#: the options of a table in MariaDB and MySQL, which other databases ignore
ON_MYSQL: dict[str, Any] = {
    **dict.fromkeys(("mysql_charset", "mariadb_charset"), "utf8mb4"),
    **dict.fromkeys(("mysql_engine", "mariadb_engine"), "InnoDB"),
}

#: how statements begin that change nothing
_LOOKS = ("SELECT", "PRAGMA", "SHOW")

_WAITING = 60  # seconds to wait for another process that upgrades the same database

# Alembic passes the connection to its scripts through a global module: one upgrade at a time in a process.
_upgrading = threading.Lock()


def upgrade(connection: sa.Connection, family: str) -> None:
    """Upgrade a database to the layout of this version; does nothing if it has that already.

    :param connection: a connection on which nothing has been run yet
    :param family: its family, one of `sql.FAMILIES`
    :raises StorageFailure: when a newer version has upgraded it, or another process does not end its upgrade
    """
    config = _config()
    config.attributes["connection"] = connection
    with _upgrading, _alone(connection, family):
        try:
            alembic.command.upgrade(config, "head")
        except alembic.util.CommandError as error:
            msg = f"Cannot upgrade the database; was it upgraded by a newer version of taskflowx? {error}"
            raise exceptions.StorageFailure(msg, error, may_pass=False) from error
        connection.commit()


def statements(connection: sa.Connection, family: str) -> list[str]:
    """Return the statements with which `upgrade` would upgrade a database, and leave the database as it is.

    They are run, in a transaction that is rolled back: what a migration does depends on what it finds.

    :param connection: a connection on which nothing has been run yet
    :param family: its family, one of `sql.FAMILIES`
    :raises NotImplementedError: for MariaDB and MySQL, which cannot roll such statements back
    :raises StorageFailure: when a newer version has upgraded it
    """
    if family == "mysql":
        raise exceptions.NotImplementedError(
            "MariaDB and MySQL commit each change of a table at once, so its statements cannot be found without "
            "changing the database; upgrade a copy of it with the server's general log on"
        )
    found: list[str] = []

    def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
        text = statement.strip()
        if not text.upper().startswith(_LOOKS):
            found.append(text)

    config = _config()
    config.attributes["connection"] = connection
    with _upgrading, _alone(connection, family):
        sa.event.listen(connection, "before_cursor_execute", keep)
        try:
            alembic.command.upgrade(config, "head")
        except alembic.util.CommandError as error:
            msg = f"Cannot upgrade the database; was it upgraded by a newer version of taskflowx? {error}"
            raise exceptions.StorageFailure(msg, error, may_pass=False) from error
        finally:
            sa.event.remove(connection, "before_cursor_execute", keep)
            connection.rollback()
    return found


def missing(connection: sa.Connection) -> list[str]:
    """Return the missing parts of a database's layout, in words; empty if it is complete."""
    inspector = sa.inspect(connection)
    lacks = []
    for table in sql.TABLES:
        if not inspector.has_table(table.name):
            lacks.append(f"table '{table.name}'")
            continue
        there = {column["name"] for column in inspector.get_columns(table.name)}
        lacks += [f"column '{name}' of table '{table.name}'" for name in sql.names(table) if name not in there]
    version = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    if version != newest:
        lacks.append(f"version {newest} of the layout: it has {version or 'none'}")
    return lacks


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextlib.contextmanager
def _alone(connection: sa.Connection, family: str) -> Iterator[None]:
    """Exclude other processes from upgrading the same database; a commit releases their wait."""
    if family == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
    elif family == "postgresql":
        key = int.from_bytes(hashlib.sha256(VERSION_TABLE.encode()).digest()[:8], signed=True)
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield
    else:
        # Such a name holds for the whole server, and has 64 characters at most.
        database = hashlib.sha256(_scalar(connection, "SELECT DATABASE()").encode()).hexdigest()[:32]
        name = {"name": f"{VERSION_TABLE}.{database}"}
        if _scalar(connection, f"SELECT GET_LOCK(:name, {_WAITING})", **name) != 1:
            msg = f"Another process has been upgrading the database for more than {_WAITING} seconds"
            raise exceptions.StorageFailure(msg)
        try:
            yield
        finally:
            _scalar(connection, "SELECT RELEASE_LOCK(:name)", **name)


def _scalar(connection: sa.Connection, statement: str, **given: Any) -> Any:
    return connection.execute(sa.text(statement), given).scalar()
