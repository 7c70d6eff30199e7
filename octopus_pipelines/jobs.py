"""The jobs: what runs together, and how long it may take.

Belongs here: selections of assets, and after how long a run of them is held to hang. Does not: when they run
(schedules.py, sensors/).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache

import dagster as dg

from assets import keys
from octopus.core.errors import MissingDataError
from octopus.core.orders import OrderType
from octopus.core.sessions import FIRST_SESSION, LAST_DAY, Sessions
from octopus.execution.window import execution_window
from resources.execution_engine import EngineSettings
from resources.runtime.dagster_home import MAX_RUNTIME_SECONDS
from resources.trading import SETTLE_TIMEOUT

DAILY = "daily"
INGEST = "ingest"
COMPARE = "compare"
INTRADAY = "intraday"
FOLDS = "folds"
SWEEP = "sweep"
BOOK = "book"
EXECUTE = "execute"
RECONCILE = "reconcile"

MAX_RUNTIME = "dagster/max_runtime"
"""Tag of a run: the seconds after which Dagster ends it."""
RUN_TAGS = {MAX_RUNTIME: str(MAX_RUNTIME_SECONDS)}

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


@lru_cache
def execution_patience(sessions: Sessions) -> timedelta:
    """How long a run of an execution job may take: as long as any other, and the time that it waits.

    A run that follows a batch waits from the window's beginning to its end, then for the broker's last answers, and
    until an order that the broker does not know can no longer arrive. A run of another job may wait as long for the
    broker's pool.
    """
    waits = _longest_window(sessions) + SETTLE_TIMEOUT + EngineSettings.absent_grace
    return timedelta(seconds=MAX_RUNTIME_SECONDS) + waits


def _longest_window(sessions: Sessions) -> timedelta:
    """Of the last year that the calendar has, by its latest rules, for orders that stand to the close: no auction's
    window begins before theirs."""
    longest = timedelta(0)
    days = sessions.between(date.fromisoformat(FIRST_SESSION), date.fromisoformat(LAST_DAY))
    for decided in days[-sessions.per_year - 1 : -1].astype(object):
        for from_open in (False, True):
            # Where trading never ends, no window begins before an open.
            with suppress(MissingDataError):
                window = execution_window(sessions, decided, OrderType.LIMIT, from_open=from_open)
                longest = max(longest, window.expires_at - window.not_before)
    return longest


def execution_jobs(sessions: Sessions) -> list[dg.UnresolvedAssetJobDefinition]:
    """The books before a session is planned, orders of an approved batch, followed to their end, and the books of a day
    without one; nothing here is ever retried by Dagster.

    Args:
        sessions: of the exchange by which orders are executed.
    """
    patience = execution_patience(sessions)
    tags = {MAX_RUNTIME: f"{patience.total_seconds():.0f}", "dagster/max_retries": "0"}
    return [
        dg.define_asset_job(
            BOOK, tags=tags, description="Before a session is planned: book what the broker tells of flows.",
            selection=dg.AssetSelection.assets(keys.ENTRIES),
        ),
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
