"""M1 Data Collector: instruments, daily bars and corporate actions of the configured source.

Belongs here: ingesting market data. Does not: validating it (octopus/market_data) or joining it (dbt).
"""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets import keys, partitions, reporting
from octopus.core.errors import OctopusError
from octopus.core.rejects import Reject
from resources.settings import Settings
from resources.sources.base import MarketDataSource
from resources.sources.sample import RECORDED_TO
from resources.warehouse.store import AppendReport, Warehouse

GROUP = "market_data"
OWNERS = ["team:market_data"]
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5), warn_window=timedelta(days=4))
"""Collected every session; over a long weekend four days may pass."""


@dg.multi_asset(
    name="collect_market_data",
    specs=[
        dg.AssetSpec(
            keys.INSTRUMENTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
            description="Every instrument as its source describes it: exchange, currency, price basis, membership.",
        ),
        dg.AssetSpec(
            keys.BARS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
            freshness_policy=FRESHNESS,
            description="Daily bars as printed, append-only, with the time each was known. A restatement is a new row.",
        ),
        dg.AssetSpec(
            keys.CORPORATE_ACTIONS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
            description="Splits and dividends by ex-date.",
        ),
    ],
    partitions_def=partitions.SESSIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="market_data",
)  # fmt: skip
def market_data(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    market_data_source: dg.ResourceParam[MarketDataSource],
) -> Iterator[dg.MaterializeResult[None]]:
    """Fetch what is missing up to the session, append what differs, quarantine what is malformed."""
    start, end = fetch_window(context, settings, warehouse, market_data_source.name)
    context.log.info(f"{market_data_source.name}: asking for {start} to {end}")
    try:
        data = market_data_source.fetch(settings.symbols, start, end, settings.sessions)
    except OctopusError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    for key, frame, rejects in (
        (keys.INSTRUMENTS, data.instruments, _of("instruments", data.rejects)),
        (keys.CORPORATE_ACTIONS, data.actions, _of("corporate_actions", data.rejects)),
        (keys.BARS, data.bars, _of("bars", data.rejects)),
    ):
        report = warehouse.append(
            key.path[-1], frame, source=market_data_source.name, run_id=context.run.run_id,
            rejects=rejects, payload_hash=data.payload_hash,
        )  # fmt: skip
        yield dg.MaterializeResult(asset_key=key, metadata=_metadata(report, frame, rejects))


def fetch_window(
    context: dg.AssetExecutionContext, settings: Settings, warehouse: Warehouse, source: str
) -> tuple[date, date]:
    """Which sessions to ask for: a range as it is, one session from where the store ends, a recording always whole."""
    first, last = partitions.session_range(context)
    if settings.recorded:
        return settings.universe.history_start, max(last, RECORDED_TO)
    if first < last:
        return first, last
    stored: date | None = warehouse.scalar("select max(session) from raw.bars where source = %s", [source])
    if stored is None:
        return settings.universe.history_start, last
    resume = settings.sessions.previous(stored + timedelta(days=1), max(settings.universe.refetch_sessions, 1))
    return min(resume, first), last


def _of(table: str, rejects: list[Reject]) -> list[Reject]:
    return [reject for reject in rejects if reject.table == table]


def _metadata(report: AppendReport, frame: pl.DataFrame, rejects: list[Reject]) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "rows_fetched": dg.MetadataValue.int(len(frame)),
        "rows_new": dg.MetadataValue.int(report.new),
        "rows_restated": dg.MetadataValue.int(report.restated),
        "rows_unchanged": dg.MetadataValue.int(report.unchanged),
        "rows_quarantined": dg.MetadataValue.int(report.quarantined),
        "batch_id": dg.MetadataValue.text(str(report.batch_id or "none: nothing differed")),
    }
    if "session" in frame.columns and not frame.is_empty():
        metadata["first_session"] = dg.MetadataValue.text(str(frame["session"].min()))
        metadata["last_session"] = dg.MetadataValue.text(str(frame["session"].max()))
        metadata["preview"] = reporting.table(frame.tail(5))
    if rejects:
        shown = pl.DataFrame({"instrument": [r.instrument for r in rejects], "reason": [r.reason for r in rejects]})
        metadata["quarantine"] = reporting.table(shown)
    return metadata


ASSETS = (market_data,)
