"""Bring a database to the current schema.

Belongs here: running the Alembic migrations. Does not: the migrations themselves (migrations/versions).
"""

from __future__ import annotations

from pathlib import Path

from resources.warehouse.connection import connect, sqlalchemy_url

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x0C709_0001
"""Advisory lock: two processes that start at once migrate one after the other."""


def migrate(url: str, revision: str = "head") -> None:
    """Upgrade the database at ``url`` to ``revision``; nothing happens when it is already there."""
    from alembic import command

    with connect(url, autocommit=True) as guard:
        guard.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
        command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Take the database at ``url`` back to ``revision``; tables above it are dropped with their rows."""
    from alembic import command

    with connect(url, autocommit=True) as guard:
        guard.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
        command.downgrade(_config(url), revision)


def _config(url: str):  # type: ignore[no-untyped-def]
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = sqlalchemy_url(url, "psycopg")
    return config
