"""What stands in the warehouse, as one picture: for `octopus status` and for the summary after a run.

Belongs here: reading the state and saying it as plain values. Does not: printing (cli/).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from resources.settings import Settings
from resources.trading import anchor_file
from resources.trading_state import trading_status
from resources.warehouse.audit_log import verify
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from resources.warehouse.verdicts import waiting

SCHEMAS = (
    "ops", "raw", "staging", "intermediate", "marts", "strategy", "models", "backtest", "portfolio", "risk",
    "compliance", "execution", "audit", "paper",
)  # fmt: skip

DIARIES = frozenset(
    {
        "ops.runs", "ops.fetches", "ops.coverage", "ops.text_fetches", "ops.quality_audits", "ops.checked_builds",
        "execution.leases", "execution.launches",
    }
)  # fmt: skip
"""Tables that note that a run took place, or how far it looked; they are no part of its result."""


def trading(settings: Settings) -> dict[str, str]:
    """The kill switch as it counts now, and why."""
    now = trading_status(settings, settings.account)
    return {"state": now.state.value, "reason": now.reason}


def status(settings: Settings) -> dict[str, Any]:
    """The stable form of `octopus status --json`; trading, orders and reconciliation are of ``account``."""
    warehouse = Warehouse(settings.database_url, Role.OWNER)
    audit = verify(settings.database_url, anchor_file(settings))
    return {
        "tables": table_counts(warehouse),
        "last_run": last_run(warehouse),
        "champion": champion(warehouse),
        "account": settings.account,
        "orders": _counts(
            warehouse,
            "select state as name, count(*) as n from execution.orders where account = %s group by 1 order by 1",
            [settings.account],
        ),
        "reconciliation": reconciliation(warehouse, settings.account),
        "audit": {"ok": audit.ok, "entries": audit.entries},
        "trading": trading(settings),
        "quality": _counts(
            warehouse, "select severity as name, count(*) as n from ops.quality_findings group by 1 order by 1"
        ),
        "unjudged": unjudged(warehouse),
        "timescaledb": warehouse.scalar("select extversion from pg_extension where extname = 'timescaledb'"),
    }


def unjudged(warehouse: Warehouse) -> list[str]:
    """What waits for its verdict and what to do about it, a sentence for each source; empty where nothing waits."""
    return [
        f"{row['bars']:,} bars and {row['actions']:,} actions of {row['source']} wait for their verdict, of "
        f"{row['sessions']:,} sessions from {row['first']} to {row['last']}; neither a mart nor a fill uses them "
        "before `octopus run` (the job `daily`) has judged them"
        for row in waiting(warehouse)
    ]


def tables(warehouse: Warehouse) -> list[tuple[str, str]]:
    """(schema, table) of every table and materialised model of ours, in a stable order."""
    rows = warehouse.rows(
        """
        select table_schema as schema, table_name as name from information_schema.tables
        where table_schema = any(%s) and table_type = 'BASE TABLE' order by 1, 2
        """,
        [list(SCHEMAS)],
    )
    return [(row["schema"], row["name"]) for row in rows]


def table_counts(warehouse: Warehouse) -> dict[str, int]:
    """Rows of each table, counted."""
    names = tables(warehouse)
    with warehouse.connect(autocommit=True) as connection:
        counted = {}
        for schema, name in names:
            query = sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name))
            row = connection.execute(query).fetchone()
            counted[f"{schema}.{name}"] = int(row[0]) if row else 0
    return counted


def checksums(warehouse: Warehouse) -> dict[str, str]:
    """A checksum of the rows of each table, whatever their order; diaries are left out."""
    names = [(schema, name) for schema, name in tables(warehouse) if f"{schema}.{name}" not in DIARIES]
    with warehouse.connect(autocommit=True) as connection:
        sums = {}
        for schema, name in names:
            query = sql.SQL(
                "select count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint), 0) from {} t"
            ).format(sql.Identifier(schema, name))
            row = connection.execute(query).fetchone()
            sums[f"{schema}.{name}"] = hashlib.sha256(repr(row).encode()).hexdigest()[:16]
    return sums


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Tables whose checksums differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def last_run(warehouse: Warehouse) -> dict[str, Any] | None:
    """The latest `octopus run`, or None."""
    rows = warehouse.rows(
        """
        select run_id as id, as_of::text as as_of, status,
               round(extract(epoch from finished_at - started_at)::numeric, 1)::float as seconds
        from ops.runs order by started_at desc limit 1
        """
    )
    return rows[0] if rows else None


def champion(warehouse: Warehouse) -> dict[str, Any] | None:
    """The champion that is appointed now, or None: then the model signal abstains."""
    rows = warehouse.rows(
        """
        select name, version, alias from models.champion_history
        where alias = 'champion' order by effective_from desc limit 1
        """
    )
    return rows[0] if rows and rows[0]["version"] is not None else None


def reconciliation(warehouse: Warehouse, account: str) -> dict[str, Any] | None:
    """Result of the account's latest reconciliation, or None before the first."""
    rows = warehouse.rows(
        """
        select session::text as session, bool_and(kind = 'ok') filter (where seq = 0) as ok,
               count(*) filter (where seq > 0) as breaks
        from execution.reconciliation where account = %s group by session order by session desc limit 1
        """,
        [account],
    )
    return rows[0] if rows else None


def _counts(warehouse: Warehouse, query: Any, parameters: Sequence[object] = ()) -> dict[str, int]:
    return {row["name"]: row["n"] for row in warehouse.rows(query, parameters)}
