"""M10 Backtester: large sweeps, a partition for each chunk: a backfill spreads them over whatever executes runs.

Belongs here: running one chunk and telling what came out. Does not: what a study is (studies.py), `octopus sweep`.
"""

import math
import os
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from assets import keys, partitions, reporting, studies
from octopus.backtest.named_sweeps import SweepConfig
from octopus.backtest.sweep import Range, draws, grid
from octopus.core.errors import ConfigError
from octopus.core.trials import Trial
from resources.clock import Clock
from resources.settings import Settings

GROUP = "backtest"
OWNERS = ["team:backtest"]
_DECIDED = dg.LastPartitionMapping()


class SweepRun(dg.Config):
    """Of a run over chunks of a sweep.

    Attributes:
        as_of: session that everything is known at, as an ISO date; none: the latest that is decided.
        workers: processes; none: one for each core.
    """

    as_of: str | None = None
    workers: int | None = None


@dg.asset(
    key=keys.SWEEP, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, partitions_def=partitions.SWEEPS,
    deps=[
        dg.AssetDep(keys.SIGNALS, partition_mapping=_DECIDED),
        dg.AssetDep(keys.CHAMPION_HISTORY, partition_mapping=_DECIDED),
    ],
)  # fmt: skip
def sweep(
    context: dg.AssetExecutionContext,
    config: SweepRun,
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult[None]:
    """One chunk of a named sweep: each set is a trial on record as it ends, and none that is there is run again."""
    name, number = partitions.sweep_chunk(context.partition_key)
    sets, chosen = _chunk(settings, name, number)
    if not sets:
        return dg.MaterializeResult(metadata={"sets": 0, "reason": "the space has fewer sets than are to be drawn"})
    session = settings.sessions.last_decided(clock.now()) if config.as_of is None else date.fromisoformat(config.as_of)
    read = studies.read_inputs(settings, session, with_model=any(map(studies.speaks, chosen)))
    found = dict(studies.known_studies(settings, chosen, read))
    ready = len(found)
    for place, trial in studies.run_many(settings, chosen, read, config.workers or os.cpu_count() or 1, found):
        found[place] = trial
        context.log.info(f"{len(found)} of {len(chosen)} sets are on record")
    return dg.MaterializeResult(metadata=_told(settings, sets, found, ready, session))


def _chunk(settings: Settings, name: str, number: int) -> tuple[list[dict[str, Any]], list[studies.Study]]:
    """The parameter sets of a partition, and what is simulated for each.

    Raises:
        ConfigError: the settings have changed since the partitions were made.
    """
    of = settings.strategies.sweeps.get(name)
    if of is None or number >= of.chunks:
        raise ConfigError(
            where="strategies.yaml", field=f"sweeps.{name}", value=f"chunk {number}",
            remedy="it has no such chunk now: reload the code location and choose among its partitions",
        )  # fmt: skip
    sets = sets_of(of)[number * of.chunk : (number + 1) * of.chunk]
    chosen = [studies.study(settings, of.strategy, {**of.changes, **one}, of.start, of.end) for one in sets]
    return sets, chosen


def sets_of(sweep: SweepConfig) -> list[dict[str, Any]]:
    """Every parameter set, in the order of the partitions."""
    if sweep.grid:
        return grid(sweep.grid)
    ranges = {name: Range(bounds[0], bounds[1], len(bounds) == 3) for name, bounds in sweep.space.items()}
    return draws(ranges, sweep.random)


def _told(
    settings: Settings, sets: list[dict[str, Any]], found: dict[int, Trial], ready: int, session: date
) -> dict[str, Any]:
    ranked = sorted(found.items(), key=lambda item: (math.isnan(item[1].sharpe), -item[1].sharpe))
    worth = studies.deflation(settings, ranked[0][1])
    year = math.sqrt(settings.sessions.per_year)
    table = pl.DataFrame(
        [
            {"parameters": str(sets[place]), "sharpe_annual": trial.sharpe * year, "trial": trial.trial_id}
            for place, trial in ranked
        ]
    )
    return {
        "sets": len(sets), "ready_before": ready, "as_of": str(session), "best": str(sets[ranked[0][0]]),
        "best_deflated_sharpe": worth.deflated_sharpe, "trials": worth.raw, "trials_clustered": worth.clustered,
        "table": reporting.table(table, limit=60),
    }  # fmt: skip


ASSETS = (sweep,)
