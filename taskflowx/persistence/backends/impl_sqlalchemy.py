"""Runs kept in a SQL database: SQLite, PostgreSQL, MySQL or MariaDB, through SQLAlchemy's drivers.

`sql_settings` reads the configuration, `sql_transactions` runs transactions, `sql_connection` reads and writes records
in them, with the help of `sql` (the statements), `sql_rows` (details as rows), `sql_reader` and `sql_books`;
`migrations` makes the tables. This module combines them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.pool import StaticPool

from taskflowx import exceptions
from taskflowx._util import reprs
from taskflowx.persistence import base, codec
from taskflowx.persistence.backends import (
    sql,
    sql_files,
    sql_histories,
    sql_rows,
    sql_settings,
    sql_steps,
    sql_transaction,
)
from taskflowx.persistence.backends.sql_connection import Connection
from taskflowx.persistence.backends.sql_histories import MOST
from taskflowx.persistence.backends.sql_reader import Reader
from taskflowx.persistence.backends.sql_transactions import TransactionRunner
from taskflowx.persistence.models import RetryDetail

if TYPE_CHECKING:
    import sqlalchemy as sa

    from taskflowx.persistence.models import AtomDetail

MAX_RETRIES = 3
_SMALL = 10_000  # bytes that every store takes

# With these, each transaction takes its connection from the pool.
_OWN_RULES = ("checkout_ping", "engine_args", "max_pool_size")

_STRICT = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')"

# The size of the columns of values, which is small in tables that TaskFlow has made.
_COLUMNS = """SELECT MIN(character_octet_length) FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'atomdetails' AND column_name IN ('results', 'revert_results')"""


class SQLAlchemyBackend(base.Backend):
    """Keeps runs in a SQL database.

    :param conf: `connection` is the address, such as `sqlite:///path`, `sqlite://` (in memory),
        `postgresql://user@host/database` or `mysql+pymysql://user@host/database`. `max_pool_size`, `max_overflow`,
        `pool_timeout` (seconds) set the pool of connections, `idle_timeout` (seconds) the age at which a connection is
        replaced, `max_retries` how often a transaction is retried after the database was lost, `connect_timeout` (10
        seconds) the time limit for connecting, and `read_timeout` (60 seconds, 0 for no limit) that for the answer to a
        statement. `isolation_level`, `mysql_sql_mode`, `checkout_ping` (ping a connection before each use) and
        `engine_args` (a dict for `sqlalchemy.create_engine`) are for special needs. All but the last may be given in
        the address as well: `postgresql://user@host/database?max_pool_size=3`
    :param engine: used instead of a new one, as it is, and left open
    :raises ValueError: when the address or a number cannot be parsed, or the address has an unknown setting
    :raises NotFound: when the driver for the database is not installed
    """

    SETTINGS: ClassVar[frozenset[str] | None] = sql_settings.KNOWN
    keeps_history: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None, engine: sa.Engine | None = None) -> None:
        super().__init__(conf)
        self._owns_engine = engine is None
        settings = sql_settings.Settings(self._conf)
        file = None
        if engine is None:
            settings, url = sql_settings.read(self._conf)
            engine = sql_settings.make_engine(settings, url)
            file = None if sql_settings.is_in_memory(url) else sql_files.file_of(url)
        #: the SQLAlchemy engine of the database
        self.engine = engine
        #: the family of the database, one of `sql.FAMILIES`
        self.family = sql.family_of(engine.dialect.name)
        self.limits_records = self.family == "mysql"  # a statement has a limit there
        self._file = file
        of_engine = {**(settings.get("engine_args") or {}), **engine.get_execution_options()}
        level = settings.get("isolation_level") or of_engine.get("isolation_level")
        self._commits_each = self.family != "sqlite" and str(level).upper() == "AUTOCOMMIT"
        self._sql_mode = settings.get("mysql_sql_mode")
        #: runs transactions
        self.transactions = TransactionRunner(
            engine,
            max_retries=max(0, settings.number("max_retries", MAX_RETRIES)),
            in_memory=isinstance(engine.pool, StaticPool),
            keeps=self._owns_engine and not any(map(settings.get, _OWN_RULES)),
            prepare=self._prepare,
            reading=settings.seconds("read_timeout", sql_settings.READ_TIMEOUT),
            pings=self._owns_engine and settings.flag("checkout_ping"),
            file=file,
            seal=self.seal,
        )
        self.is_temporary = self._owns_engine and self.transactions.in_memory
        self._upgrade_lock = threading.Lock()
        self._column_limit: int | None = None
        self.rows = sql_rows.Rows(self.family, self.seal)
        self.histories = sql_histories.Histories()
        #: uuid of a flow -> the version of its claim, the number of the last document of its history, and the tail of
        #: that, as a run last wrote them
        self.tails: dict[str, tuple[int, int, str]] = {}
        self.reader = Reader(self.family, self.histories, self.value_of)
        self.statements = sql.statements(self.family)
        #: uuid of a flow -> its state and metadata as a run last wrote them; they change seldom
        self.written: dict[str, tuple[Any, ...]] = {}
        #: whether the database rejects an atom without its flow; SQLite does if it is configured to
        self.checks_parents = self._owns_engine or self.family != "sqlite"
        #: writes the steps of runs
        self.steps = sql_steps.StepWriter(self, self.transactions)

    @reprs.one_line
    def __repr__(self) -> str:
        # settings may have secrets, as the password is one
        return f"{type(self).__name__} {self.engine.url.set(query={}).render_as_string(hide_password=True)}"

    def get_connection(self) -> Connection:
        """Return a new connection; the database is contacted at its first use."""
        return Connection(self, self._upgrade_lock)

    def close(self) -> None:
        """Close the pool of connections, if it is not the caller's."""
        if self._owns_engine:
            self.transactions.let_go()
            self.engine.dispose()

    def why_not_joint(self) -> str | None:
        if self._commits_each:
            return "with isolation_level='AUTOCOMMIT' it has no transactions"
        return None

    def forget_file(self) -> None:
        """Accept the current file as the database, whichever was opened before."""
        if self._file is not None:
            self.transactions.let_go()
            self.engine.dispose()
            self._file.forget()

    def check_value(self, value: Any, what: str) -> None:
        """Check that the database can hold a value as a part of a record; its limits are read once."""
        text = codec.dumps(value, what)
        if len(text) <= _SMALL and self.family != "postgresql":
            return
        text = text if self.seal is None else self.seal.close(text)
        self.rows.check_value(text, what)
        if self.limits_records:
            self._check_sizes([text], what)

    def check_record(self, atom_detail: AtomDetail) -> None:
        what = f"the record of atom '{atom_detail.name}'"
        if isinstance(atom_detail, RetryDetail) and self.histories.usable and self.histories.concerns(atom_detail):
            # The row has no more than these, unless there is room for all of them.
            texts = [self.rows.of_attempts(atom_detail, max(0, len(atom_detail.results) - MOST), MOST)[-1]]
        else:
            texts = [text for text in self.rows.of_atom(atom_detail, "") if isinstance(text, str)]
        self._check_sizes(texts, what)

    def fits(self, row: Sequence[Any]) -> bool:
        """Tell whether the database can hold a row."""
        try:
            self._check_sizes([text for text in row if isinstance(text, str)], "") if self.limits_records else None
        except exceptions.Unstorable:
            return False
        return True

    def _check_sizes(self, texts: list[str], what: str) -> None:
        if sum(map(len, texts)) <= _SMALL:
            return
        column, packet = self._limits()
        sql_transaction.check_size(texts, packet, what)
        longest = max(map(len, texts))
        if longest > column:
            msg = f"Cannot store {what}: it has {longest:,} bytes, and its column in the database takes {column:,}"
            raise exceptions.Unstorable(f"{msg}\nMake the columns LONGTEXT, or keep large values elsewhere")

    def _limits(self) -> tuple[int, int]:
        """Return the maximum sizes in bytes of a value, and of a statement, in MariaDB."""
        if self._column_limit is None or self.transactions.limit is None:
            failed = "Failed asking the database for its limits"
            rows = self.transactions.run(failed, lambda tx: tx.rows(_COLUMNS), writes=False)
            self._column_limit = int(rows[0][0] or 0)
        return self._column_limit, self.transactions.limit or 0

    def _prepare(self, pooled: Any) -> int:
        """Set up a new connection; returns the server's maximum size of a statement in bytes, 0 for no limit."""
        raw = pooled.dbapi_connection
        if self.family == "sqlite":
            if self._owns_engine:
                _prepare_sqlite(pooled)
            return 0
        cursor = raw.cursor()
        limit = 0
        if self.family == "postgresql":
            if self._owns_engine and getattr(raw, "prepare_threshold", None) is not None:
                # If the process id is not the server's, a pooler is in between. A statement prepared on one of its
                # connections does not exist on the next one.
                cursor.execute("SELECT pg_backend_pid()")
                if cursor.fetchone()[0] != raw.info.backend_pid:
                    raw.prepare_threshold = None
        else:
            # Without the strict mode, a text that is too long would be truncated.
            mode = self._sql_mode
            cursor.execute(_STRICT) if mode is None else cursor.execute("SET SESSION sql_mode = %s", (mode,))
            cursor.execute("SELECT @@max_allowed_packet")
            limit = cursor.fetchone()[0]
        cursor.close()
        raw.rollback()
        return limit


def _prepare_sqlite(pooled: Any) -> None:
    cursor = pooled.dbapi_connection.cursor()
    # With a write-ahead log, readers and the writer do not wait for each other; FULL syncs it at each commit. A log
    # that restarts after 250 pages reuses its space in the file: writing there is faster than growing the file.
    for setting in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 250", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    busy = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
    pooled.info["busy"] = busy, busy
    cursor.close()
