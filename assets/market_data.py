"""M1 Data Collector: instruments, daily bars and corporate actions of the configured source.

Belongs here: ingesting market data. Does not: validating it (octopus/market_data) or joining it (dbt).
"""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets import keys, partitions, reporting
from octopus.core.errors import ConfigError, OctopusError
from octopus.core.rejects import Reject
from octopus.market_data.identifiers import IdentifierConflictError, moved_spans
from resources.research_factories import MarketDataCatalogue
from resources.settings import Settings
from resources.sources.base import MarketDataSource
from resources.sources.sample import RECORDED_TO
from resources.warehouse import identifiers
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
            description="Splits, dividends, spin-offs, symbol changes and delistings by ex-date.",
        ),
        dg.AssetSpec(
            keys.ADJUSTED_CLOSES, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
            description="The vendor's own adjusted closes, where it gives any: compared with ours, never a price.",
        ),
    ],
    partitions_def=partitions.SESSIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=partitions.SOURCES.market_data,
)  # fmt: skip
def market_data(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    market_data_source: dg.ResourceParam[MarketDataSource],
) -> Iterator[dg.MaterializeResult[None]]:
    """Fetch what is missing up to the session, append what differs, quarantine what is malformed."""
    start, end = fetch_window(context, settings, warehouse, market_data_source.name)
    for table, metadata in _ingest(context, settings, warehouse, market_data_source, start, end):
        yield dg.MaterializeResult(asset_key=dg.AssetKey(["raw", table]), metadata=metadata)


def build_comparison(name: str) -> dg.AssetsDefinition:
    """The asset of one further source: ingested beside the one that is traded on, so that the two can be compared.

    Nothing depends on it: when its vendor is down, no decision waits.
    """

    @dg.asset(
        key=keys.compared_bars(name), group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
        description=f"Market data of {name}, for comparison, where config/universe.yaml names it in compare_with.",
        partitions_def=partitions.SESSIONS, backfill_policy=dg.BackfillPolicy.single_run(), pool=name,
        output_required=False,
    )  # fmt: skip
    def compared(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        warehouse: dg.ResourceParam[Warehouse],
        market_data_catalogue: dg.ResourceParam[MarketDataCatalogue],
    ) -> Iterator[dg.MaterializeResult[None]]:
        if name == settings.universe.market_data or name not in settings.universe.compare_with:
            context.log.info(f"{name} is not compared; name it in universe.compare_with of config/universe.yaml")
            return
        try:
            source = market_data_catalogue.source(name)
        except ConfigError as error:
            context.log.warning(f"{name} is skipped: {error}")
            return
        start, end = _missing(context, settings, warehouse, name)
        tables = dict(_ingest(context, settings, warehouse, source, start, end))
        yield dg.MaterializeResult(
            metadata={f"{table}.{field}": value for table, fields in tables.items() for field, value in fields.items()}
        )

    return compared


def _ingest(
    context: dg.AssetExecutionContext,
    settings: Settings,
    warehouse: Warehouse,
    source: MarketDataSource,
    start: date,
    end: date,
) -> Iterator[tuple[str, dict[str, dg.MetadataValue]]]:
    """Fetch once, append table by table; the metadata of each, and who had which ticker with the instruments'."""
    context.log.info(f"{source.name}: asking for {start} to {end}")
    try:
        data = source.fetch(settings.watched, start, end, settings.sessions)
    except OctopusError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    told: dict[str, dict[str, dg.MetadataValue]] = {}
    for table, frame in (
        ("instruments", data.instruments),
        ("corporate_actions", data.actions),
        ("bars", data.bars),
        ("adjusted_closes", data.adjusted),
    ):
        rejects = [reject for reject in data.rejects if reject.table == table]
        report = warehouse.append(
            table, frame, source=source.name, run_id=context.run.run_id, rejects=rejects,
            payload_hash=data.payload_hash,
        )  # fmt: skip
        told[table] = _metadata(report, frame, rejects)
    told["instruments"] |= _identifiers(context, warehouse, source.name)
    yield from told.items()


def _identifiers(context: dg.AssetExecutionContext, warehouse: Warehouse, source: str) -> dict[str, dg.MetadataValue]:
    """Store who had which ticker when; how many instruments, and those whose ticker alone does not tell them."""
    try:
        found = identifiers.refresh(warehouse, source)
    except IdentifierConflictError as error:
        # Bars and actions stand: what is on record of the tickers holds until a person has looked.
        context.log.warning(f"{source}: tickers are left as they were: {error}")
        return {"identifier_conflict": dg.MetadataValue.text(str(error))}
    moved = moved_spans(found)
    shown = moved.select("permanent_id", "ticker", "valid_from", "valid_to", "name").tail(50)
    return {
        "permanent_ids": dg.MetadataValue.int(found["permanent_id"].n_unique()),
        "renamed_or_reused": dg.MetadataValue.int(moved["permanent_id"].n_unique()),
        "identifiers": reporting.table(shown),
    }


def fetch_window(
    context: dg.AssetExecutionContext, settings: Settings, warehouse: Warehouse, source: str
) -> tuple[date, date]:
    """Which sessions to ask the traded source for: a recording always whole, else what is missing."""
    if settings.recorded:
        return settings.universe.history_start, max(partitions.session_range(context)[1], RECORDED_TO)
    return _missing(context, settings, warehouse, source)


def _missing(
    context: dg.AssetExecutionContext, settings: Settings, warehouse: Warehouse, source: str
) -> tuple[date, date]:
    """A range of sessions as it is, a single session from where the store ends, less what is asked for again."""
    first, last = partitions.session_range(context)
    if first < last:
        # From the day after the session before: a coin beside shares has bars of the weekend in between.
        before = settings.sessions.between(first - timedelta(days=30), first - timedelta(days=1))
        return (before[-1].item() + timedelta(days=1) if len(before) else first), last
    stored: date | None = warehouse.scalar("select max(session) from raw.bars where source = %s", [source])
    if stored is None:
        return settings.universe.history_start, last
    resume = settings.sessions.previous(stored + timedelta(days=1), max(settings.universe.refetch_sessions, 1))
    return min(resume, first), last


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


ASSETS = (market_data, *(build_comparison(name) for name in keys.COMPARED))
