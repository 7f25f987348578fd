"""A table of our own beside TaskFlow's: the claim of each run.

It has no foreign keys: the database may reject those to TaskFlow's tables, and leftovers of a flow that TaskFlow has
removed are harmless.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table if it does not exist."""
    if sa.inspect(op.get_bind()).has_table("taskflowx_runs"):
        return
    op.create_table(
        "taskflowx_runs",
        sa.Column("flow_uuid", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("expires", sa.Double, nullable=False),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_engine="InnoDB",
    )
