"""Bring a database to the current schema.

Belongs here: running the Alembic migrations, and whether they were run. Does not: the migrations themselves
(migrations/versions).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from octopus.core.errors import OctopusError
from resources.warehouse.account_lock import known_accounts, lock_key, told_holder
from resources.warehouse.connection import connect, sqlalchemy_url

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x0C709_0001
"""Advisory lock: two processes that start at once migrate one after the other."""
ACCOUNTS_WAIT_SECONDS = 60.0
"""For runs that act on an account: longer than a step of one takes, much shorter than one that awaits an auction."""
_TELL_SECONDS = 10.0
_POLL_SECONDS = 0.2

Tell = Callable[[str], None]


class SchemaError(OctopusError):
    """The database's schema is not this release's; the message says what to do."""


class AccountInUseError(SchemaError):
    """A run acts on an account, and the schema stays as it is; the message names the account and the run."""


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


def migrate(
    url: str, revision: str = "head", *, wait_seconds: float = ACCOUNTS_WAIT_SECONDS, tell: Tell | None = None
) -> None:
    """Upgrade the database at ``url`` to ``revision``; nothing happens, and no lock is taken, when it is already there.

    Args:
        revision: "head" or a revision's number; of `downgrade` "base" or a number.
        wait_seconds: for the runs that act on an account now.
        tell: is told, in a sentence, for whom it waits.

    Raises:
        SchemaError: the database's schema is of a later release.
        AccountInUseError: a run still acts on an account; nothing was changed.
    """
    target = newest_revision() if revision == "head" else revision
    if _there(url) >= target:
        return
    from alembic import command

    with _alone(url, wait_seconds, tell):
        command.upgrade(_config(url), revision)


def downgrade(
    url: str, revision: str = "base", *, wait_seconds: float = ACCOUNTS_WAIT_SECONDS, tell: Tell | None = None
) -> None:
    """Take the database at ``url`` back to ``revision``; tables above it are dropped with their rows.

    Args:
        wait_seconds, tell: as of `migrate`.

    Raises:
        SchemaError, AccountInUseError: as of `migrate`.
    """
    target = "" if revision == "base" else revision
    if _there(url) <= target:
        return
    from alembic import command

    with _alone(url, wait_seconds, tell):
        command.downgrade(_config(url), revision)


def _there(url: str) -> str:
    """Revision of the database, empty where nothing was ever migrated; SchemaError where this release has none such."""
    there = revision_of(url) or ""
    if there > newest_revision():
        raise SchemaError(schema_problem(url))
    return there


@contextmanager
def _alone(url: str, wait_seconds: float, tell: Tell | None) -> Iterator[None]:
    """Nobody else migrates, and nobody acts on any account, for the length of a ``with`` block.

    A run of the release before calls functions of its schema between committing that it sends an order and sending it.
    """
    with connect(url, autocommit=True) as guard:
        guard.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
        deadline, held = time.monotonic() + wait_seconds, set[str]()
        # One that was opened while another was waited for is waited for, too.
        while waiting := [account for account in known_accounts(guard) if account not in held]:
            for account in waiting:
                _hold(guard, account, deadline, wait_seconds, tell)
                held.add(account)
        yield


def _hold(guard: psycopg.Connection, account: str, deadline: float, wait_seconds: float, tell: Tell | None) -> None:
    told_at = -math.inf
    while not _is_held(guard, account):
        now = time.monotonic()
        if now >= deadline:
            raise AccountInUseError(
                f"the schema was not changed: account {account} is in use after {wait_seconds:.0f} s "
                f"({told_holder(guard, account)}); wait for its run to end, at the latest some minutes after its "
                "batch's window (`octopus status`), or end it in Dagster after `octopus halt --cancel`, then try again"
            )
        if tell is not None and now >= told_at + _TELL_SECONDS:
            told_at = now
            tell(
                f"waiting up to {deadline - now:.0f} s for account {account}, which is in use "
                f"({told_holder(guard, account)}), before the schema is changed"
            )
        time.sleep(_POLL_SECONDS)


def _is_held(guard: psycopg.Connection, account: str) -> bool:
    row = guard.execute("select pg_try_advisory_lock(%s)", [lock_key(account)]).fetchone()
    return bool(row and row[0])


def _config(url: str):  # type: ignore[no-untyped-def]
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = sqlalchemy_url(url, "psycopg")
    return config
