"""M6 Risk Manager: each limit against the plan.

Belongs here: running the risk gate on the plan and showing it. Does not: the gate's rules (octopus/risk); execution
judges again with the same code.
"""

import dagster as dg

from assets import keys, partitions, reporting
from octopus.risk.pictures import risk_picture
from resources.gates import Gates
from resources.settings import Settings
from resources.warehouse.plans import Plans, verdict_rows
from resources.warehouse.store import Warehouse

GROUP = "risk"
OWNERS = ["team:risk"]


@dg.asset(
    key=keys.LIMIT_REPORT, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.REBALANCE_PLAN],
    partitions_def=partitions.SESSIONS,
)  # fmt: skip
def limit_report(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """Each limit against the plan: value, limit, verdict, and for a denial the order that causes it."""
    session, account, plans = partitions.session_of(context), settings.paper.account, Plans(warehouse)
    batch, (_, snapshot) = plans.require(account, session)
    if plans.is_settled(account, session):
        return dg.MaterializeResult(metadata={"batch_id": batch.batch_id, "changed": False, "settled": True})
    # Judged as of the decision, so that planning the same session again gives the same verdicts.
    report = Gates(settings, warehouse).risk(batch, snapshot, snapshot.taken_at)
    changed = plans.save_report("risk.limit_report", batch.batch_id, report)
    whole = verdict_rows(report).filter(verdict_rows(report)["intent_id"].is_null())
    return dg.MaterializeResult(
        metadata={
            "batch_id": batch.batch_id, "changed": changed, "approved": len(report.approved),
            "denied": len(batch.orders) - len(report.approved),
            "picture": reporting.picture(risk_picture(report), "limit usage"),
            "table": reporting.table(whole.select("rule", "outcome", "value", "limit_value", "reason")),
        }
    )  # fmt: skip


ASSETS = (limit_report,)
