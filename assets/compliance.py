"""M9 Compliance: the pre-trade rules on the plan, the approval that execution takes it up by, what is asked afterwards.

Belongs here: running the compliance gate on the plan; surveillance and the day's reports, which the code location of
execution runs after reconciliation. Does not: rules and patterns (octopus/compliance) and the audit log
(resources/warehouse/audit_log.py).
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from assets import keys, partitions, reporting
from octopus.compliance.surveillance import blind, watch
from octopus.core.orders import GateReport
from resources.gates import Gates
from resources.settings import Settings
from resources.trading import Trading
from resources.warehouse import posttrade
from resources.warehouse.plans import Plans, verdict_rows
from resources.warehouse.store import Warehouse

GROUP = "compliance"
OWNERS = ["team:compliance"]


@dg.asset(
    key=keys.PRETRADE_REPORT, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.LIMIT_REPORT],
    partitions_def=partitions.SESSIONS,
)  # fmt: skip
def pretrade_report(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """Each rule of law and venue against the plan; with it the batch is approved for execution to take up."""
    session, account, plans = partitions.session_of(context), settings.account, Plans(warehouse)
    batch, (_, snapshot) = plans.require(account, session)
    if plans.is_settled(account, session):
        return dg.MaterializeResult(metadata={"batch_id": batch.batch_id, "changed": False, "settled": True})
    gates = Gates(settings, warehouse)
    report = gates.compliance(batch, snapshot, snapshot.taken_at, sending=False)
    risk = gates.risk(batch, snapshot, snapshot.taken_at)
    changed = plans.save_report("compliance.pretrade_report", batch.batch_id, report)
    approved = set(report.approved) & set(risk.approved)
    plans.approve(batch, approved, {"risk": risk, "compliance": report}, datetime.now(UTC))
    return dg.MaterializeResult(
        metadata={
            "batch_id": batch.batch_id, "changed": changed, "approved": len(approved),
            "denied": len(batch.orders) - len(approved),
            "denials": reporting.denials(report, batch),
            "table": reporting.table(_by_rule(report), limit=50),
        }
    )  # fmt: skip


@dg.asset(
    key=keys.SURVEILLANCE, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.RECONCILIATION],
    partitions_def=partitions.SESSIONS,
    check_specs=[
        dg.AssetCheckSpec("no_suspicion", asset=keys.SURVEILLANCE, description="No order looks like market abuse.")
    ],
)  # fmt: skip
def surveillance(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Wash trades, layering, marking the close and momentum ignition, looked for in the session's own orders."""
    session, settings = trading.execution_session(partitions.session_of(context)), trading.settings
    record = posttrade.sent(warehouse, settings.sessions, settings.universe.market_data, trading.account, session)
    found = watch(record.orders, record.fills, record.market, settings.compliance.surveillance)
    changed = posttrade.save_findings(warehouse, trading.account, session, found)
    unseen = blind(record.fills, record.market)
    yield dg.MaterializeResult(
        metadata={
            "session": str(session), "orders": len(record.orders), "fills": len(record.fills), "findings": len(found),
            "changed": changed, "table": reporting.table(posttrade.finding_rows(found)),
            "close_not_judged": ", ".join(unseen) or "none",
        }
    )  # fmt: skip
    yield dg.AssetCheckResult(
        check_name="no_suspicion", passed=not found, severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "findings": "; ".join(f"{finding.pattern}: {finding.message}" for finding in found) or "none",
            "remedy": "read the orders with `octopus audit why ORDER`, and note what they were for",
        },
    )  # fmt: skip


@dg.asset(
    key=keys.DAILY_REPORTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.SURVEILLANCE],
    partitions_def=partitions.SESSIONS,
)  # fmt: skip
def daily_reports(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """The day for those who answer for it: blotter, limits and their use, exceptions, lots named, best execution."""
    session = trading.execution_session(partitions.session_of(context))
    decided, settings = partitions.session_of(context), trading.settings
    source = settings.universe.market_data
    reports = posttrade.reports(
        warehouse, settings.sessions, source, trading.account, decided, session, settings.compliance
    )
    changed = posttrade.save_reports(warehouse, trading.account, session, reports)
    tables = {name: reporting.table(frame) for name, frame in reports.items()}
    return dg.MaterializeResult(metadata={"session": str(session), "changed": changed, **tables})


def _by_rule(report: GateReport) -> pl.DataFrame:
    """How often each rule said what, and what it said first."""
    rows = verdict_rows(report).group_by("rule", "outcome", maintain_order=True)
    return rows.agg(pl.len().alias("verdicts"), pl.col("reason").first())


ASSETS = (pretrade_report,)

POSTTRADE_ASSETS = (surveillance, daily_reports)
"""They read what execution recorded, and run where it runs."""
