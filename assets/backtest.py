"""M10 Backtester: the published backtest of the configured strategy, with costs, and its tear sheet.

Belongs here: simulating the decision function over the whole panel and showing it. Does not: the simulator
(octopus/backtest).
"""

import dagster as dg

from assets import inputs, keys, partitions
from octopus.backtest.simulator import run_backtest
from resources.registry import ModelRegistry
from resources.settings import Settings
from resources.warehouse.store import Warehouse

GROUP = "backtest"
OWNERS = ["team:backtest"]


@dg.asset(
    key=keys.BACKTEST_RUNS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.SIGNALS, keys.CHAMPION_HISTORY, keys.WALK_FORWARD], partitions_def=partitions.SESSIONS,
)  # fmt: skip
def backtest_runs(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
) -> dg.MaterializeResult[None]:
    """The decision function over all sessions, each with the model of that day, costs included; no hindsight text."""
    session = partitions.session_of(context)
    panel = inputs.panel(settings, warehouse, session)
    prepared = inputs.prepared(panel, settings.decision)
    predictions = inputs.past_predictions(settings, warehouse, registry, prepared)
    result = run_backtest(panel, settings.strategies.backtest, settings.decision, predictions, prepared)
    return dg.MaterializeResult(metadata={"equity": float(result.equity[-1])})


ASSETS = (backtest_runs,)
