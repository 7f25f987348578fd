"""Runs kept in a SQL database: SQLite, PostgreSQL, MySQL or MariaDB, through the drivers that SQLAlchemy knows.

`sql_settings` reads the configuration, `sql_units` runs transactions, `sql_connection` reads and writes records in
them, with the help of `sql` (the statements), `sql_rows` (details as rows), `sql_reader` and `sql_books`; `migrations`
makes the tables. Here they are put together.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.pool import StaticPool

from taskflowx import exceptions
from taskflowx.persistence import base, codec
from taskflowx.persistence.backends import sql, sql_files, sql_histories, sql_rows, sql_settings, sql_unit
from taskflowx.persistence.backends.sql_connection import Connection
from taskflowx.persistence.backends.sql_histories import MOST
from taskflowx.persistence.backends.sql_reader import Reader
from taskflowx.persistence.backends.sql_units import Units
from taskflowx.persistence.models import RetryDetail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    from taskflowx.persistence.models import AtomDetail

MAX_RETRIES = 3
_SMALL = 10_000  # bytes that every store takes

# With these, each connection is to come from the pool.
_OWN_RULES = ("checkout_ping", "engine_args", "max_pool_size")

_STRICT = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')"

# What the columns of values take, which is little in tables that TaskFlow has made.
_COLUMNS = """SELECT MIN(character_octet_length) FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'atomdetails' AND column_name IN ('results', 'revert_results')"""


class SQLAlchemyBackend(base.Backend):
    """Keeps runs in a SQL database.

    :param conf: `connection` is the address, such as `sqlite:///path`, `sqlite://` (in memory),
        `postgresql://user@host/database` or `mysql+pymysql://user@host/database`. `max_pool_size`, `max_overflow`,
        `pool_timeout` (seconds) set the pool of connections, `idle_timeout` (seconds) when an old one is replaced,
        `max_retries` how often a unit of work is run again after the database was lost, `connect_timeout` (10 seconds)
        how long it may take to connect, and `read_timeout` (60 seconds, 0 for any time) how long a server may take to
        answer a statement. `isolation_level`, `mysql_sql_mode`, `checkout_ping` (ask a connection whether it lives
        before each use) and `engine_args` (a dict for `sqlalchemy.create_engine`) are for special needs. All but the
        last may stand in the address as well: `postgresql://user@host/database?max_pool_size=3`
    :param engine: used instead of a new one, as it is, and left open
    :raises ValueError: when the address or a number cannot be read, or the address has a setting that nobody knows
    :raises NotFound: when the driver for the database is not installed
    """

    SETTINGS: ClassVar[frozenset[str] | None] = sql_settings.KNOWN

    def __init__(self, conf: Mapping[str, Any] | None, engine: sa.Engine | None = None) -> None:
        super().__init__(conf)
        self._owns_engine = engine is None
        settings = sql_settings.Settings(self._conf)
        file = None
        if engine is None:
            settings, url = sql_settings.read(self._conf)
            engine = sql_settings.make_engine(settings, url)
            file = None if sql_settings.is_in_memory(url) else sql_files.file_of(url)
        self._family = sql.family_of(engine.dialect.name)
        self._file = file
        self._sql_mode = settings.get("mysql_sql_mode")
        self._units = Units(
            engine,
            max_retries=max(0, settings.number("max_retries", MAX_RETRIES)),
            in_memory=isinstance(engine.pool, StaticPool),
            keeps=self._owns_engine and not any(map(settings.get, _OWN_RULES)),
            prepare=self._prepare,
            reading=settings.seconds("read_timeout", sql_settings.READ_TIMEOUT),
            pings=self._owns_engine and settings.flag("checkout_ping"),
            file=file,
        )
        self._upgrade_lock = threading.Lock()
        self._column_limit: int | None = None
        self.rows = sql_rows.Rows(self._family)
        self.histories = sql_histories.Histories()
        self.reader = Reader(self._family, self.histories)
        self.statements = sql.statements(self._family)
        #: uuid of a flow -> its state and metadata that a run has written last; they change seldom
        self.written: dict[str, tuple[Any, ...]] = {}
        #: whether the database refuses an atom whose flow is not there; SQLite does if it is told to
        self.checks_parents = self._owns_engine or self._family != "sqlite"

    @property
    def engine(self) -> sa.Engine:
        """The engine of SQLAlchemy through which the database is reached."""
        return self._units.engine

    @property
    def family(self) -> str:
        """Which of `sql.FAMILIES` the database belongs to."""
        return self._family

    @property
    def units(self) -> Units:
        """What runs units of work."""
        return self._units

    def get_connection(self) -> Connection:
        """Return a new connection; the database is not asked before it is used."""
        return Connection(self, self._upgrade_lock)

    def close(self) -> None:
        """Close the pool of connections, if it is not the caller's."""
        if self._owns_engine:
            self._units.let_go()
            self.engine.dispose()

    def forget_file(self) -> None:
        """Take the file that is there now for the database, whichever was opened before."""
        if self._file is not None:
            self._units.let_go()
            self.engine.dispose()
            self._file.forget()

    def check_value(self, value: Any, what: str) -> None:
        """Check that the database can hold a value as a part of a record; it is asked for its limits once.

        :param what: names the value in errors, such as "result of atom 'x'"
        :raises Unstorable: when it cannot; says what it was and why
        """
        text = codec.dumps(value, what)
        if len(text) <= _SMALL and self._family != "postgresql":
            return
        self.rows.check_value(text, what)
        if self.limits_records:
            self._check_sizes([text], what)

    @property
    def limits_records(self) -> bool:  # type: ignore[override]
        """Whether a record can be too large although each value in it can be stored: a statement has a limit."""
        return self._family == "mysql"

    def check_record(self, atom_detail: AtomDetail) -> None:
        """Check that the database can hold the record of an atom as a whole.

        :raises Unstorable: when it cannot
        """
        what = f"the record of atom '{atom_detail.name}'"
        if isinstance(atom_detail, RetryDetail) and self.histories.usable and self.histories.concerns(atom_detail):
            # More than these are never in its row, unless all of them have room there.
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
        sql_unit.check_size(texts, packet, what)
        longest = max(map(len, texts))
        if longest > column:
            msg = f"Cannot store {what}: it has {longest:,} bytes, and its column in the database takes {column:,}"
            raise exceptions.Unstorable(f"{msg}\nMake the columns LONGTEXT, or keep large values elsewhere")

    def _limits(self) -> tuple[int, int]:
        """Return how many bytes MariaDB takes in a value, and in a statement."""
        if self._column_limit is None or self._units.limit is None:
            failed = "Failed asking the database for its limits"
            rows = self._units.run(failed, lambda unit: unit.rows(_COLUMNS), writes=False)
            self._column_limit = int(rows[0][0] or 0)
        return self._column_limit, self._units.limit or 0

    def _prepare(self, pooled: Any) -> int:
        """Set up a new connection; returns how many bytes its server takes in one statement, 0 for any number."""
        raw = pooled.dbapi_connection
        if self._family == "sqlite":
            if self._owns_engine:
                _prepare_sqlite(pooled)
            return 0
        cursor = raw.cursor()
        limit = 0
        if self._family == "postgresql":
            if self._owns_engine and getattr(raw, "prepare_threshold", None) is not None:
                # Between us and the server is a pooler if the process that we talk to is none of the server's. What was
                # prepared on one of its connections is not there on the next one.
                cursor.execute("SELECT pg_backend_pid()")
                if cursor.fetchone()[0] != raw.info.backend_pid:
                    raw.prepare_threshold = None
        else:
            # Without the strict mode, a text that is too long would be cut.
            mode = self._sql_mode
            cursor.execute(_STRICT) if mode is None else cursor.execute("SET SESSION sql_mode = %s", (mode,))
            cursor.execute("SELECT @@max_allowed_packet")
            limit = cursor.fetchone()[0]
        cursor.close()
        raw.rollback()
        return limit


def _prepare_sqlite(pooled: Any) -> None:
    cursor = pooled.dbapi_connection.cursor()
    # With a log that is written ahead, readers and the writer do not wait for each other; FULL syncs it at each commit.
    # A log that is begun anew after 250 pages stays in space that the file has: to write there is faster than to grow.
    for setting in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 250", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    busy = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
    pooled.info["busy"] = busy, busy
    cursor.close()
