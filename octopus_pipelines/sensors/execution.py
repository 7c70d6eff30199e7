"""The sensor that sees an approved batch in its window and asks for its execution.

Belongs here: reading our own database and asking for one run. Does not: deciding whether to trade; the execution asset
judges again.
"""

from datetime import datetime
from typing import Any

import dagster as dg

from octopus_pipelines.jobs import EXECUTE
from resources import factories
from resources.settings import Settings
from resources.warehouse import launches
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse


@dg.sensor(
    job_name=EXECUTE,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Executes the current approved batch once its window is open; a past session's batch never.",
)
def approved_batch(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for each batch and attempt: a spent run key would otherwise hide a batch whose run failed."""
    settings = factories.current_settings()
    return next_execution(settings, factories.trading_clock(settings).now())


def next_execution(settings: Settings, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """What the sensor asks for at ``now``."""
    account = settings.paper.account
    warehouse = Warehouse(settings.database_url, Role.TRADER)
    session = settings.sessions.last_decided(now)
    batch = _current(warehouse, account)
    if batch is None:
        return dg.SkipReason("no approved batch")
    if not settings.recorded and not batch["not_before"] <= now < batch["expires_at"]:
        return dg.SkipReason(f"batch {batch['batch_id']} is outside its window from {batch['not_before']}")
    if batch["session"] != session or now >= batch["expires_at"]:
        return dg.SkipReason(f"batch {batch['batch_id']} of {batch['session']} is not of the current session {session}")
    if batch["done"]:
        return dg.SkipReason(f"batch {batch['batch_id']} was executed already")
    launched = launches.of(warehouse, batch["batch_id"])
    if launched.is_active:
        return dg.SkipReason(f"batch {batch['batch_id']} is being executed by run {launched.latest_run}")
    attempt = launched.count + 1
    return dg.RunRequest(
        run_key=f"{batch['batch_id']}:{attempt}",
        partition_key=batch["session"].isoformat(),
        tags={"octopus/batch": batch["batch_id"], "octopus/attempt": str(attempt)},
    )


def _current(warehouse: Warehouse, account: str) -> dict[str, Any] | None:
    """The latest approved batch of the account that nothing supersedes."""
    rows = warehouse.rows(
        """
        select b.batch_id, b.session, b.not_before, b.expires_at,
               exists (select from execution.attempts t where t.batch_id = b.batch_id and t.status = 'done') as done
        from portfolio.batches b join compliance.approvals a using (batch_id)
        where b.account = %s and b.superseded_by is null
        order by b.session desc limit 1
        """,
        [account],
    )
    return rows[0] if rows else None
