"""`octopus quality`: what is suspicious about the data, and deciding what becomes of the rows.

Belongs here: printing findings and decisions, taking a person's decision. Does not: what a decision does
(octopus/warehouse/verdicts.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click
from rich.table import Table

from octopus_pipelines.cli.house import new_console, open_database
from octopus_pipelines.cli.words import by_option, reason_option

if TYPE_CHECKING:
    from octopus.warehouse.verdicts import Decision
    from resources.warehouse.store import Warehouse

SHOWN = 100
_ID = 12
"""So many characters of a finding's name are shown, and enough to name it."""


@click.group()
def quality() -> None:
    """Findings about stored data, and decisions on the rows under them."""


@quality.command("list")
@click.option("--severity", type=click.Choice(["severe", "warn", "info"]), default="severe", show_default=True)
@click.option("--instrument", help="Default: all of them.")
def list_findings(severity: str, instrument: str | None) -> None:
    """Findings of one severity, with what was decided last about each."""
    warehouse = _warehouse()
    rows = warehouse.rows(
        """
        select f.finding_id, f.instrument, f.kind, f.session_from, f.session_to, f.message, f.remedy,
            f.evidence -> 'repair' is not null as has_repair, d.decision, d.decided_by
        from ops.quality_findings f
        left join lateral (
            select decision, decided_by, ingested_at from raw.bar_verdicts where finding_id = f.finding_id
            union all
            select decision, decided_by, ingested_at from raw.action_verdicts where finding_id = f.finding_id
            order by ingested_at desc limit 1
        ) d on true
        where f.severity = %s and (%s::text is null or f.instrument = %s)
        order by f.instrument nulls first, f.session_from, f.kind
        """,
        [severity, instrument, instrument],
    )
    if not rows:
        click.echo(f"no {severity} finding is on record; `octopus run` looks again with every run")
        return
    table = Table("finding", "instrument", "sessions", "what", "repair", "decided", title=f"{len(rows):,} findings")
    for row in rows[:SHOWN]:
        span = f"{row['session_from']}" + ("" if row["session_to"] == row["session_from"] else f"\n{row['session_to']}")
        decided = f"{row['decision']} ({row['decided_by']})" if row["decision"] else "–"
        table.add_row(
            row["finding_id"][:_ID], row["instrument"] or "all", span, f"{row['kind']}: {row['message']}",
            "proposed" if row["has_repair"] else "–", decided,
        )  # fmt: skip
    new_console().print(table)
    if len(rows) > SHOWN:
        click.echo(f"{len(rows) - SHOWN:,} more: name an --instrument")
    click.echo("octopus quality decide FINDING hold|repair|keep|take_back --reason '...' decides about the rows of one")


@quality.command()
@click.argument("finding")
@click.argument("decision", type=click.Choice(["hold", "repair", "keep", "take_back"]))
@reason_option(told="Why: it is kept with the decision.")
@by_option
def decide(finding: str, decision: str, reason: str, by: str) -> None:
    """Decide about the rows under FINDING (the beginning of its name is enough).

    hold keeps them out of the marts, repair applies what the finding proposes, keep uses them as they are, and
    take_back gives the vendor's rows back. A decision holds until the vendor sends other content, or the row again
    after withdrawing it.
    """
    from resources.warehouse.verdicts import decide as store_decision

    current = open_database()
    source, bars, actions = store_decision(
        _warehouse(), finding, cast("Decision", decision), current.sessions,
        by=by, reason=reason, now=datetime.now(UTC),
    )  # fmt: skip
    click.echo(f"{decision}: {bars:,} bars and {actions:,} corporate actions of {source}")
    click.echo("the marts follow with the next `octopus run`, or when they are materialised in Dagster")


@quality.command()
def decisions() -> None:
    """Every decision that is on record, the latest first."""
    from resources.warehouse.verdicts import decisions as recorded

    found = recorded(_warehouse())
    if found.is_empty():
        click.echo("nothing was decided yet; `octopus quality list` shows what waits")
        return
    table = Table("decided", "finding", "instrument", "what", "rows", "by", "why")
    for row in found.head(SHOWN).iter_rows(named=True):
        table.add_row(
            f"{row['decided_at']:%Y-%m-%d %H:%M}", row["finding_id"][:_ID], row["instrument"], row["decision"],
            f"{row['rows']:,}", row["decided_by"], row["reason"],
        )  # fmt: skip
    new_console().print(table)


def _warehouse() -> Warehouse:
    from resources.warehouse.connection import Role
    from resources.warehouse.store import Warehouse

    return Warehouse(open_database().database_url, Role.RESEARCH)
