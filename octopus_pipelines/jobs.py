"""The jobs: what runs together.

Belongs here: selections of assets. Does not: when they run (schedules.py, sensors/).
"""

from __future__ import annotations

import dagster as dg

from assets import keys

DAILY = "daily"
INGEST = "ingest"
COMPARE = "compare"
INTRADAY = "intraday"
FOLDS = "folds"
SWEEP = "sweep"
EXECUTE = "execute"
RECONCILE = "reconcile"

RUN_TAGS = {"dagster/max_runtime": "14400"}

RESEARCH_GROUPS = (
    "market_data", "alternative_data", "warehouse", "strategy", "models", "backtest", "portfolio", "risk", "compliance",
)  # fmt: skip


def research_jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """The daily pipeline up to the approved rebalance, and ingestion alone for backfills."""
    compared = dg.AssetSelection.assets(*(keys.compared_bars(name) for name in keys.COMPARED))
    folds = dg.AssetSelection.assets(keys.FOLD_MODELS)
    sweeps = dg.AssetSelection.assets(keys.SWEEP)
    within_the_day = dg.AssetSelection.assets(keys.INTRADAY_BARS).downstream()
    everything = dg.AssetSelection.groups(*RESEARCH_GROUPS) - compared - within_the_day - folds - sweeps
    reports = dg.AssetSelection.assets(keys.TEXT_SOURCE_REPORTS)
    ingestion = dg.AssetSelection.groups("market_data", "alternative_data") - compared - within_the_day - reports
    return [
        dg.define_asset_job(
            DAILY, selection=everything, tags=RUN_TAGS,
            description="From raw data to the approved rebalance of one session.",
        ),
        dg.define_asset_job(
            INGEST, selection=ingestion, tags=RUN_TAGS,
            description="Market data, news and posts of one session or range.",
        ),
        dg.define_asset_job(
            COMPARE, selection=compared, tags=RUN_TAGS,
            description="Market data of the sources in compare_with; one that fails fails alone.",
        ),
        dg.define_asset_job(
            INTRADAY, selection=within_the_day, tags=RUN_TAGS,
            description="Bars within the day of the source in the section intraday, and what is made of them.",
        ),
        dg.define_asset_job(
            FOLDS, selection=folds, tags=RUN_TAGS,
            description="The models of single walk-forward folds, for a backfill on many machines before a review.",
        ),
        dg.define_asset_job(
            SWEEP, selection=sweeps, tags=RUN_TAGS,
            description="Chunks of the sweeps in strategies.yaml, for a backfill on many machines.",
        ),
    ]  # fmt: skip


def execution_jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """Orders of an approved batch, followed to their end, and the books of a day without one; nothing here is ever
    retried by Dagster."""
    tags = {**RUN_TAGS, "dagster/max_retries": "0"}
    return [
        dg.define_asset_job(
            EXECUTE, tags=tags, description="Judge again, send, collect, book, reconcile and report the batch.",
            selection=dg.AssetSelection.assets(
                keys.ORDER_INTENTS, keys.ORDERS, keys.FILLS, keys.POSITIONS, keys.RECONCILIATION,
                keys.ORDER_COSTS, keys.TAX_LOTS, keys.REALISED_GAINS, keys.SURVEILLANCE, keys.DAILY_REPORTS,
            ),
        ),
        dg.define_asset_job(
            RECONCILE, tags=tags, description="Without a batch: book what the broker tells, compare the books, report.",
            selection=dg.AssetSelection.assets(
                keys.POSITIONS, keys.RECONCILIATION, keys.SURVEILLANCE, keys.DAILY_REPORTS
            ),
        ),
    ]  # fmt: skip
