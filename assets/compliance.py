"""M9 Compliance: the pre-trade rules on the plan, and the approval that lets execution take it up.

Belongs here: running the compliance gate on the plan. Does not: its rules (octopus/compliance) and the audit log
(resources/warehouse/audit_log.py).
"""

from datetime import UTC, datetime

import dagster as dg

from assets import keys, partitions, reporting
from resources.gates import Gates
from resources.settings import Settings
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
    session, account, plans = partitions.session_of(context), settings.paper.account, Plans(warehouse)
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
            "table": reporting.table(verdict_rows(report).select("rule", "intent_id", "outcome", "reason")),
        }
    )  # fmt: skip


ASSETS = (pretrade_report,)
