"""Classifies errors of database drivers by code: SQLSTATE, a number of MariaDB's, or one of SQLite's.

The exception class says little: drivers put the same fault into different classes, and one class has transient and
permanent faults. It is used only for errors without a code, which the driver itself has raised for the data.
"""

from __future__ import annotations

import enum
from typing import Any


class Meaning(enum.Enum):
    """The possible reactions to an error."""

    #: permanent: the database can never hold this data
    DATA = enum.auto()
    #: a row exists already, or its parent does not
    CLASH = enum.auto()
    #: a table, or a column, is missing
    MISSING = enum.auto()
    #: permanent: the layout, a privilege, or the file is wrong
    FINAL = enum.auto()
    #: a conflict with other transactions: a retry may succeed
    CONFLICT = enum.auto()
    #: the connection is unusable, a new one may work
    LOST = enum.auto()
    #: any other error; it may be transient
    PASSING = enum.auto()


# By SQLSTATE: five characters are one condition, two are all others of that class.
_SQLSTATES = {
    "0A": Meaning.FINAL,
    "08": Meaning.LOST,
    "22": Meaning.DATA,
    "23": Meaning.DATA,
    "23503": Meaning.CLASH,
    "23505": Meaning.CLASH,
    "25006": Meaning.LOST,  # a read-only server, as after a failover
    "25P03": Meaning.LOST,
    "26000": Meaning.LOST,  # a prepared statement that a pooler left on another server's connection
    "3F": Meaning.FINAL,
    "40001": Meaning.CONFLICT,
    "40P01": Meaning.CONFLICT,
    "42": Meaning.FINAL,
    "42703": Meaning.MISSING,
    "42P01": Meaning.MISSING,
    "42P05": Meaning.LOST,  # as 26000
    "44": Meaning.DATA,
    "54": Meaning.DATA,
    "57P01": Meaning.LOST,
    "57P02": Meaning.LOST,
    "57P03": Meaning.LOST,
    "57P05": Meaning.LOST,
}

_MARIADB = {
    **dict.fromkeys((1048, 1118, 1153, 1162, 1264, 1265, 1292, 1301, 1364, 1366, 1367, 1406, 1411), Meaning.DATA),
    **dict.fromkeys((1416, 1690, 3140, 3141, 3819, 3903, 4025), Meaning.DATA),
    **dict.fromkeys((1022, 1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586), Meaning.CLASH),
    **dict.fromkeys((1044, 1064, 1142, 1143, 1227), Meaning.FINAL),
    **dict.fromkeys((1054, 1146), Meaning.MISSING),
    **dict.fromkeys((1020, 1205, 1213), Meaning.CONFLICT),
    **dict.fromkeys((1053, 1290, 1836, 1927, 2006, 2013, 2055, 4031), Meaning.LOST),
}

# Primary codes: the lowest eight bits of `sqlite_errorcode`.
_SQLITE = {
    1: Meaning.FINAL,  # SQLITE_ERROR
    11: Meaning.FINAL,  # SQLITE_CORRUPT
    18: Meaning.DATA,  # SQLITE_TOOBIG
    19: Meaning.DATA,  # SQLITE_CONSTRAINT
    20: Meaning.DATA,  # SQLITE_MISMATCH
    23: Meaning.FINAL,  # SQLITE_AUTH
    25: Meaning.DATA,  # SQLITE_RANGE
    26: Meaning.FINAL,  # SQLITE_NOTADB
}
# Extended codes: SQLITE_CONSTRAINT_FOREIGNKEY, _PRIMARYKEY, _UNIQUE
_SQLITE_CLASHES = frozenset((787, 1555, 2067))

# Exceptions that drivers raise by themselves, without a code.
_REFUSED = frozenset(("DataError", "NotSupportedError", "ProgrammingError"))

#: errors that the same data always causes
OF_THE_DATA = frozenset((Meaning.DATA, Meaning.CLASH))
#: permanent errors
LASTING = frozenset((*OF_THE_DATA, Meaning.MISSING, Meaning.FINAL))


def meaning_of(error: Any) -> Meaning:
    """Classify an error of a driver."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        if "no such table" in str(error) or "no such column" in str(error):
            return Meaning.MISSING
        return Meaning.CLASH if code in _SQLITE_CLASHES else _SQLITE.get(code & 0xFF, Meaning.PASSING)
    number = error.args[0] if error.args else None
    if isinstance(number, int) and number in _MARIADB:
        return _MARIADB[number]  # more specific than its SQLSTATE
    state = _sqlstate_of(error)
    if isinstance(state, str):
        if state == "0A000" and "cached plan" in str(error):
            return Meaning.LOST  # the layout has changed since the statement was prepared
        return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2], Meaning.PASSING)
    if isinstance(number, int) or _REFUSED.isdisjoint(cls.__name__ for cls in type(error).__mro__):
        return Meaning.PASSING
    return Meaning.DATA


def is_division_by_zero(error: Any) -> bool:
    """Tell whether a statement has divided by zero, as some of `sql.Statements` do if they find nothing to change."""
    return bool(_sqlstate_of(error) == "22012")


def _sqlstate_of(error: Any) -> Any:
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
