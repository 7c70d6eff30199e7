"""The sensor that notices when a person moves the champion's alias in MLflow.

Belongs here: comparing MLflow with the history in the warehouse. Does not: recording the move (assets/models.py does).
"""

import dagster as dg

from assets import keys
from octopus_pipelines.jobs import DAILY
from resources import factories, research_factories
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse


@dg.sensor(
    job_name=DAILY,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="When the champion's alias moves in MLflow, records the move and predicts anew.",
)
def champion_moved(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for each move: the champion's history and what predicts from it, for the latest decided session."""
    settings = factories.current_settings()
    name = settings.strategies.models.registered_name
    current = research_factories.registry(settings).alias(name)
    warehouse = Warehouse(settings.database_url, Role.RESEARCH)
    known = warehouse.rows(
        """
        select version from models.champion_history
        where name = %s and alias = 'champion' order by recorded_at desc limit 1
        """,
        [name],
    )
    recorded = known[0]["version"] if known else None
    moves = warehouse.scalar("select count(*) from models.champion_history where name = %s", [name])
    if current == recorded:
        return dg.SkipReason(f"the champion of {name} is still version {current or 'none'}")
    session = settings.sessions.last_decided(factories.trading_clock(settings).now())
    return dg.RunRequest(
        run_key=f"champion:{name}:{current}:{session}:{moves}",
        partition_key=session.isoformat(),
        asset_selection=[keys.CHAMPION_HISTORY, keys.PREDICTIONS],
    )
