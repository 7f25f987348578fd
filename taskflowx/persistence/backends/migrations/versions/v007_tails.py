"""A column for the last entries of a run's history, which are written with its claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "007"
down_revision = "006"

_TABLE = "taskflowx_runs"


def upgrade() -> None:
    """Add the column if it does not exist."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(_TABLE)}
    if "tail" not in there:
        text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
        op.add_column(_TABLE, sa.Column("tail", text, nullable=True))
