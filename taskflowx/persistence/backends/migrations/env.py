"""What Alembic runs to run migrations: on the connection, and in the transaction, of whoever asked for them."""

from __future__ import annotations

from alembic import context

from taskflowx.persistence.backends.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
