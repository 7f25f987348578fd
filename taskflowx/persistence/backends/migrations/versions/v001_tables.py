"""The three tables of TaskFlow, where they do not exist, and an index for the content of a book or of a flow.

TaskFlow's types, except for MariaDB and MySQL: there its TEXT ends at 65,535 bytes, its character set lacks characters
beyond the basic plane, and its times have no fractions, which show the order of insertion.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

from taskflowx.persistence.backends.migrations import ON_MYSQL

revision = "001"
down_revision = None

_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_DOCUMENT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb").with_variant(postgresql.JSON(), "postgresql")


def upgrade() -> None:
    """Make the missing tables and indexes."""
    _make("logbooks", sa.Column("meta", _DOCUMENT))
    _make("flowdetails", _parent("logbooks"), sa.Column("meta", _DOCUMENT), sa.Column("state", sa.String(255)))
    _make(
        "atomdetails",
        _parent("flowdetails"),
        sa.Column("meta", _DOCUMENT),
        sa.Column("version", sa.String(64)),
        sa.Column("state", sa.String(255)),
        sa.Column("failure", _DOCUMENT),
        sa.Column("results", _DOCUMENT),
        sa.Column("revert_results", _DOCUMENT),
        sa.Column("revert_failure", _DOCUMENT),
        sa.Column("atom_type", sa.Enum("RETRY_DETAIL", "TASK_DETAIL", name="atom_types")),
        sa.Column(
            "intention",
            sa.Enum("EXECUTE", "IGNORE", "REVERT", "RETRY", name="intention_type"),
            server_default="EXECUTE",
        ),
    )
    for table in ("flowdetails", "atomdetails"):
        op.create_index(f"taskflowx_{table}_parent", table, ["parent_uuid", "created_at"])


def _make(table: str, *columns: sa.Column[object]) -> None:
    if sa.inspect(op.get_bind()).has_table(table):
        return
    op.create_table(
        table,
        sa.Column("created_at", _TIME),
        sa.Column("updated_at", _TIME),
        sa.Column("name", sa.String(255)),
        sa.Column("uuid", sa.String(64), primary_key=True),
        *columns,
        **ON_MYSQL,
    )


def _parent(table: str) -> sa.Column[object]:
    return sa.Column("parent_uuid", sa.String(64), sa.ForeignKey(f"{table}.uuid", ondelete="CASCADE"))
