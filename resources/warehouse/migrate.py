"""Bring a database to the current schema.

Belongs here: running the Alembic migrations, and whether they were run. Does not: the migrations themselves
(migrations/versions).
"""

from __future__ import annotations

from pathlib import Path

from octopus.core.errors import OctopusError
from resources.warehouse.connection import connect, sqlalchemy_url

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x0C709_0001
"""Advisory lock: two processes that start at once migrate one after the other."""


class SchemaError(OctopusError):
    """The database's schema is not this release's; the message says what to do."""


def newest_revision() -> str:
    """That of this release: revisions are numbered, and Alembic itself takes half a second to load."""
    return max(path.stem.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def revision_of(url: str) -> str | None:
    """That of the database at ``url``; None where nothing was ever migrated."""
    with connect(url, autocommit=True) as connection:
        known = connection.execute("select to_regclass('public.alembic_version') is not null").fetchone()
        if not (known and known[0]):
            return None
        row = connection.execute("select version_num from public.alembic_version").fetchone()
    return str(row[0]) if row else None


def schema_problem(url: str) -> str:
    """What keeps this release from working with the database at ``url``, and the remedy; empty where nothing does."""
    there, here = revision_of(url), newest_revision()
    if there == here:
        return ""
    if there is None:
        return "the database has no schema yet: `octopus db migrate` makes it"
    if there < here:
        return (
            f"the database's schema is revision {there} and this release needs {here}: `octopus db backup FILE`, then "
            "`octopus db migrate`"
        )
    return f"the database's schema is revision {there}, of a later release than this one ({here}): use that release"


def require_current_schema(url: str) -> None:
    """Raises SchemaError: see `schema_problem`."""
    if problem := schema_problem(url):
        raise SchemaError(problem)


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
