"""A table of our own beside TaskFlow's: the claim of each run.

It has no foreign keys: the database may reject those to TaskFlow's tables, and leftovers of a flow that TaskFlow has
removed are harmless.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from taskflowx.persistence.backends.migrations import ON_MYSQL

revision = "002"
down_revision = "001"


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
        **ON_MYSQL,
    )
