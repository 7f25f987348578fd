"""Alembic's environment script: it runs migrations on the caller's connection, and in its transaction."""

from __future__ import annotations

from alembic import context

from taskflowx.persistence.backends.sql import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
