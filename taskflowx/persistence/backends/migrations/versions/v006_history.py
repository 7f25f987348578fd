"""A table of our own for the history of runs: a row has the entries of one write, as a document.

It has no foreign keys, as `taskflowx_runs` has none: leftovers of a run that TaskFlow has removed are harmless.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from taskflowx.persistence.backends.migrations import ON_MYSQL

revision = "006"
down_revision = "005"

_COLLATION = """SELECT collation_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'flowdetails' AND column_name = 'uuid'"""


def upgrade() -> None:
    """Make the table if it does not exist."""
    connection = op.get_bind()
    if sa.inspect(connection).has_table("taskflowx_history"):
        return
    collation = None  # columns that are compared with each other need the same one
    if connection.dialect.name in {"mysql", "mariadb"}:
        collation = connection.scalar(sa.text(_COLLATION))
    op.create_table(
        "taskflowx_history",
        sa.Column("flow_uuid", sa.String(64, collation=collation), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("entries", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb"), nullable=False),
        sqlite_with_rowid=False,  # a row is written to one tree of pages, and not to an index besides
        **ON_MYSQL,
    )
