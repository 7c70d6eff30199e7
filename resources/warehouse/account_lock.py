"""The lock by which one process at a time acts on an account.

Belongs here: its key, and what the database tells of who holds it. Does not: taking it to send orders
(order_store.py) or to change the schema (migrate.py).
"""

from __future__ import annotations

import hashlib

import psycopg


def lock_key(account: str) -> int:
    """Of the account's advisory lock: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"octopus-account:{account}".encode()).digest()[:8], "big", signed=True)


def known_accounts(connection: psycopg.Connection) -> list[str]:
    """Every account that was opened, planned for or executed; none where there is no schema yet."""
    found: set[str] = set()
    for table in ("execution.trading_state", "execution.leases", "portfolio.batches"):
        if _has(connection, table):
            found.update(str(row[0]) for row in connection.execute(f"select distinct account from {table}"))  # noqa: S608  # a name of ours alone
    return sorted(found)


def told_holder(connection: psycopg.Connection, account: str) -> str:
    """Who holds the account's lock, as far as the database knows, in words: the session, and the last run's lease."""
    key = lock_key(account) % 2**64
    session = connection.execute(
        """
        select a.pid, a.backend_start from pg_locks l join pg_stat_activity a using (pid)
        where l.locktype = 'advisory' and l.granted and l.objsubid = 1
          and l.database = (select oid from pg_database where datname = current_database())
          and l.classid::bigint = %s and l.objid::bigint = %s
        """,
        [key >> 32, key % 2**32],
    ).fetchone()
    words = []
    if session:
        # Another user's session does not say since when to everybody.
        since = f" since {session[1]:%Y-%m-%d %H:%M:%S} UTC" if session[1] else ""
        words.append(f"database session {session[0]}{since}")
    lease = None
    if _has(connection, "execution.leases"):
        lease = connection.execute(
            "select holder, fence, expires_at from execution.leases where account = %s", [account]
        ).fetchone()
    words.append(
        f"the last lease is of run {lease[0]} (fence {lease[1]}), until {lease[2]:%Y-%m-%d %H:%M:%S} UTC"
        if lease
        else "no run has a lease"
    )
    return "; ".join(words)


def _has(connection: psycopg.Connection, table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", [table]).fetchone()
    return bool(row and row[0])
