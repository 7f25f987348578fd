"""In MariaDB and MySQL, uuids and names are compared exactly: 'a' is neither 'A' nor 'a '.

Their usual collations take these for equal. The columns of TaskFlow's tables are changed as well: they keep their
types, so TaskFlow can still read and write them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "003"
down_revision = "002"

# The first one that the server has: of MariaDB, of MySQL 8, and of older ones, for which 'a' and 'a ' stay equal.
_COLLATIONS = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin", "utf8mb4_bin")

# table -> column -> its type, and whether it may be null
_COLUMNS = {
    "logbooks": {"uuid": ("VARCHAR(64)", False), "name": ("VARCHAR(255)", True)},
    "flowdetails": {
        "uuid": ("VARCHAR(64)", False),
        "name": ("VARCHAR(255)", True),
        "parent_uuid": ("VARCHAR(64)", True),
    },
    "atomdetails": {
        "uuid": ("VARCHAR(64)", False),
        "name": ("VARCHAR(255)", True),
        "parent_uuid": ("VARCHAR(64)", True),
    },
    "taskflowx_runs": {"flow_uuid": ("VARCHAR(64)", False), "owner": ("VARCHAR(255)", True)},
}
# table -> the table to which its `parent_uuid` refers, in TaskFlow's layout and in ours
_PARENTS = {"flowdetails": "logbooks", "atomdetails": "flowdetails"}


def upgrade() -> None:
    """Change the columns that compare otherwise."""
    connection = op.get_bind()
    if connection.dialect.name not in {"mysql", "mariadb"}:
        return
    have = {row[0] for row in _rows("SELECT collation_name FROM information_schema.collations")}
    collation = next(name for name in _COLLATIONS if name in have)
    wrong = {table: _changes(table, columns, collation) for table, columns in _COLUMNS.items()}
    lack_keys = any(not sa.inspect(connection).get_foreign_keys(table) for table in _PARENTS)
    if not any(wrong.values()) and not lack_keys:
        return
    # A column with a foreign key cannot be changed. No statement here can be rolled back, and the next one may fail: a
    # second upgrade finds the incomplete state, missing keys included.
    checks = op.get_bind().scalar(sa.text("SELECT @@SESSION.foreign_key_checks"))
    op.execute("SET SESSION foreign_key_checks = 0")
    try:
        for table in _PARENTS:
            for key in sa.inspect(connection).get_foreign_keys(table):
                op.drop_constraint(str(key["name"]), table, type_="foreignkey")
        for table, changes in wrong.items():
            if changes:
                op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
        for table, parent in _PARENTS.items():
            op.create_foreign_key(f"{table}_ibfk_1", table, parent, ["parent_uuid"], ["uuid"], ondelete="CASCADE")
    finally:
        op.execute(f"SET SESSION foreign_key_checks = {checks:d}")


def _changes(table: str, columns: dict[str, tuple[str, bool]], collation: str) -> list[str]:
    found = _rows(
        "SELECT column_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = :table",
        table=table,
    )
    now = {name.lower(): collation for name, collation in found}
    return [
        f"MODIFY {name} {kind} CHARACTER SET utf8mb4 COLLATE {collation}{'' if nullable else ' NOT NULL'}"
        for name, (kind, nullable) in columns.items()
        if now.get(name) != collation
    ]


def _rows(statement: str, **given: Any) -> list[Any]:
    return list(op.get_bind().execute(sa.text(statement), given))
