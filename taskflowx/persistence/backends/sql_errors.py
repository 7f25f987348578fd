"""What an error of a database driver means, told by its code: SQLSTATE, a number of MariaDB's, or one of SQLite's.

The class of an error says little: drivers sort the same fault into different classes, and one class has faults that
pass and faults that do not. It is asked only where an error has no code, since the driver itself has refused the data.
"""

from __future__ import annotations

import enum
from typing import Any


class Meaning(enum.Enum):
    """What can be done about an error."""

    #: the database can never hold this data
    DATA = enum.auto()
    #: a row is there already, or the one that it belongs to is not
    CLASH = enum.auto()
    #: a table is missing
    NO_TABLE = enum.auto()
    #: the layout, a right, or the file is wrong: the same will fail again
    FINAL = enum.auto()
    #: others were in the way: the same transaction may succeed now
    CONFLICT = enum.auto()
    #: the connection is of no use any more, another one may be
    LOST = enum.auto()
    #: anything else; it may pass
    PASSING = enum.auto()


# By SQLSTATE: five characters are one condition, two are all others of that class.
_SQLSTATES = {
    "0A": Meaning.FINAL,
    "08": Meaning.LOST,
    "22": Meaning.DATA,
    "23": Meaning.DATA,
    "23503": Meaning.CLASH,
    "23505": Meaning.CLASH,
    "25006": Meaning.LOST,  # a server that only reads, as after a failover
    "25P03": Meaning.LOST,
    "26000": Meaning.LOST,  # a prepared statement that a pooler left on another server's connection
    "3F": Meaning.FINAL,
    "40001": Meaning.CONFLICT,
    "40P01": Meaning.CONFLICT,
    "42": Meaning.FINAL,
    "42P01": Meaning.NO_TABLE,
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
    **dict.fromkeys((1044, 1054, 1064, 1142, 1143, 1227), Meaning.FINAL),
    1146: Meaning.NO_TABLE,
    **dict.fromkeys((1020, 1205, 1213), Meaning.CONFLICT),
    **dict.fromkeys((1053, 1290, 1836, 1927, 2006, 2013, 2055, 4031), Meaning.LOST),
}

# Primary codes: what `sqlite_errorcode` has in its lowest eight bits.
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

# What drivers refuse by themselves, without a code.
_REFUSED = frozenset(("DataError", "NotSupportedError", "ProgrammingError"))

#: those that the same data always leads to
OF_THE_DATA = frozenset((Meaning.DATA, Meaning.CLASH))
#: those that do not pass
LASTING = frozenset((*OF_THE_DATA, Meaning.NO_TABLE, Meaning.FINAL))


def meaning_of(error: Any) -> Meaning:
    """Return what an error of a driver means."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        if "no such table" in str(error):
            return Meaning.NO_TABLE
        return Meaning.CLASH if code in _SQLITE_CLASHES else _SQLITE.get(code & 0xFF, Meaning.PASSING)
    number = error.args[0] if error.args else None
    if isinstance(number, int) and number in _MARIADB:
        return _MARIADB[number]  # says more than its SQLSTATE
    state = _sqlstate_of(error)
    if isinstance(state, str):
        if state == "0A000" and "cached plan" in str(error):
            return Meaning.LOST  # the layout was changed since the statement was prepared
        return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2], Meaning.PASSING)
    if isinstance(number, int) or _REFUSED.isdisjoint(cls.__name__ for cls in type(error).__mro__):
        return Meaning.PASSING
    return Meaning.DATA


def is_division_by_zero(error: Any) -> bool:
    """Tell whether a statement has divided by zero, as `sql.Statements` have some do that find nothing to change."""
    return bool(_sqlstate_of(error) == "22012")


def _sqlstate_of(error: Any) -> Any:
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
