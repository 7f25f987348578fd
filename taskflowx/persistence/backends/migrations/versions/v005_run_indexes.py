"""Indexes of runs, newest first: of all, of those in a state, and of those of a flow in a state.

A page of runs reads as many rows of an index as it shows, however many runs there are. Tables and columns stay as they
are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "005"
down_revision = "004"

_TABLE = "flowdetails"
_INDEXES = {
    "taskflowx_runs_created": ("created_at", "uuid"),
    "taskflowx_runs_state": ("state", "created_at", "uuid"),
    "taskflowx_runs_flow": ("name", "state", "created_at", "uuid"),
}


def upgrade() -> None:
    """Make the indexes that do not exist: MariaDB and MySQL keep those that an interrupted upgrade has made."""
    there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(_TABLE)}
    for name, columns in _INDEXES.items():
        if name not in there:
            op.create_index(name, _TABLE, list(columns))
