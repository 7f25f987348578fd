"""A table of our own for finished attempts of retries, which a row of `atomdetails` with a long history lacks.

It has no foreign keys, as `taskflowx_runs` has none: leftovers of an atom that TaskFlow has removed are harmless.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from taskflowx.persistence.backends.migrations import ON_MYSQL

revision = "004"
down_revision = "003"

_COLLATION = """SELECT collation_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'atomdetails' AND column_name = 'uuid'"""


def upgrade() -> None:
    """Make the table if it does not exist."""
    connection = op.get_bind()
    if sa.inspect(connection).has_table("taskflowx_attempts"):
        return
    collation = None  # columns that are compared with each other need the same one
    if connection.dialect.name in {"mysql", "mariadb"}:
        collation = connection.scalar(sa.text(_COLLATION))
    op.create_table(
        "taskflowx_attempts",
        sa.Column("atom_uuid", sa.String(64, collation=collation), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempts", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb"), nullable=False),
        **ON_MYSQL,
    )
