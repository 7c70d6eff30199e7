"""M1 Data Collector: instruments, daily bars and corporate actions of the configured source.

Belongs here: ingesting market data. Does not: validating it (octopus/market_data) or joining it (dbt).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from assets import keys, partitions, reporting
from octopus.core.errors import ConfigError
from octopus.market_data.coverage import missing, together, windows
from octopus.market_data.identifiers import IdentifierConflictError, moved_spans
from resources.collection import Collected, Stored, collect
from resources.research_factories import MarketDataCatalogue
from resources.runtime import processes
from resources.settings import Settings
from resources.sources.base import MarketDataSource
from resources.sources.reference import read_reference
from resources.sources.sample import RECORDED_TO
from resources.warehouse import coverage, identifiers
from resources.warehouse.coverage import Asked
from resources.warehouse.store import Warehouse

GROUP = "market_data"
OWNERS = ["team:market_data"]
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5), warn_window=timedelta(days=4))
"""Collected every session; over a long weekend four days may pass."""
EVERYONE_ASKED = "everyone_was_asked_for"
SHOWN = 20
REASONS = 50


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
    check_specs=[
        dg.AssetCheckSpec(
            EVERYONE_ASKED, asset=keys.BARS,
            description="The source was asked for every instrument; if not, the run ends here and the next goes on.",
        )
    ],
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=partitions.SOURCES.market_data,
)  # fmt: skip
def market_data(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    market_data_source: dg.ResourceParam[MarketDataSource],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Ask for what is missing of each instrument up to the session, part by part; append what differs.

    What comes before a limit, a failure or the end of the process is kept, and the next run asks for the rest. Until
    then the session is not decided: a universe of which a part is missing is not judged as if it were whole.
    """
    collected, asked = _collect(context, settings, warehouse, market_data_source)
    tables = _metadata(collected)
    tables["instruments"] |= _identifiers(context, warehouse, market_data_source.name)
    tables["bars"] |= _asked_metadata(asked, warehouse, market_data_source.name)
    for table, metadata in tables.items():
        yield dg.MaterializeResult(asset_key=dg.AssetKey(["raw", table]), metadata=metadata)
    yield dg.AssetCheckResult(
        check_name=EVERYONE_ASKED, asset_key=keys.BARS, passed=collected.stopped is None,
        severity=dg.AssetCheckSeverity.ERROR, metadata=_left_metadata(collected),
    )  # fmt: skip
    _require_all(collected, market_data_source.name)


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
        collected, asked = _collect(context, settings, warehouse, source)
        tables = _metadata(collected)
        tables["instruments"] |= _identifiers(context, warehouse, name)
        tables["bars"] |= _asked_metadata(asked, warehouse, name)
        yield dg.MaterializeResult(
            metadata={f"{table}.{field}": value for table, fields in tables.items() for field, value in fields.items()}
            | _left_metadata(collected)
        )
        _require_all(collected, name)

    return compared


def _collect(
    context: dg.AssetExecutionContext, settings: Settings, warehouse: Warehouse, source: MarketDataSource
) -> tuple[Collected, pl.DataFrame]:
    """Ask and store; how far it came, and from where on each instrument was to be asked for and why.

    Raises:
        dg.Failure: nothing came.
    """
    processes.note(context.instance, context.run.run_id)
    universe = settings.universe
    reference = None
    if source.name == universe.market_data:
        reference = read_reference(universe.reference, settings.root, settings.sessions)
    if reference is not None and (unasked := reference.unasked(settings.watched)):
        context.log.warning(
            f"{len(unasked)} members of universe.reference are not in universe.symbols, so that their bars are not "
            f"asked for and history lacks them: {_names(unasked)}"
        )
    before = coverage.read(warehouse, source.name, settings.watched, settings.sessions, datetime.now(UTC))
    wanted, end = _wanted(context, settings, source.name, before)
    collected = collect(
        warehouse, source, windows(wanted), end, before, settings.sessions,
        run_id=context.run.run_id, told=context.log.info, reference=reference,
    )  # fmt: skip
    if collected.stopped is not None and not collected.parts:
        raise dg.Failure(
            description=str(collected.stopped), metadata=_left_metadata(collected), allow_retries=False
        ) from collected.stopped
    return collected, wanted


def _require_all(collected: Collected, source: str) -> None:
    """Fail, once what came is shown, where something was not asked for."""
    if collected.stopped is None:
        return
    left = collected.left
    what = f"{len(left)} instruments were not asked for ({_names(left)})" if left else "not all of the last part came"
    raise dg.Failure(
        description=f"{source}: {what}; what came before is stored, and the next run goes on from there. "
        f"{collected.stopped}",
        metadata=_left_metadata(collected),
        allow_retries=False,
    ) from collected.stopped


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


def _wanted(
    context: dg.AssetExecutionContext, settings: Settings, source: str, asked: Asked
) -> tuple[pl.DataFrame, date]:
    """From where on each instrument is asked for (`octopus.market_data.coverage.missing`), and the last session.

    A recording is always asked for whole, a range of sessions as it is; for a single session, what is missing.
    """
    universe, (first, last) = settings.universe, partitions.session_range(context)
    if settings.recorded and source == universe.market_data:
        return together(settings.watched, universe.history_start, "a recording"), max(last, RECORDED_TO)
    if first < last:
        # From the day after the session before: a coin beside shares has bars of the weekend in between.
        before = settings.sessions.between(first - timedelta(days=30), first - timedelta(days=1))
        start = before[-1].item() + timedelta(days=1) if len(before) else first
        return together(settings.watched, start, f"the range {first} to {last}"), last
    wanted = missing(
        settings.watched, asked.covered, asked.holes,
        history_start=universe.history_start, session=last, refetch=universe.refetch_sessions,
        sessions=settings.sessions,
    )  # fmt: skip
    return wanted, last


def _asked_metadata(wanted: pl.DataFrame, warehouse: Warehouse, source: str) -> dict[str, dg.MetadataValue]:
    """Who was asked for since when and why: each of the exceptions, the others as one line; and gaps that stay."""
    lines = (
        wanted.group_by("group", "start", "why", maintain_order=True)
        .agg(pl.len().alias("instruments"), names=pl.col("instrument").sort().head(SHOWN).str.join(", "))
        .select("start", asked_since="group", why="why", instruments="instruments", names="names")
    )
    left = coverage.empty(warehouse, source)
    told: dict[str, dg.MetadataValue] = {
        "asked": reporting.table(lines.head(REASONS)),
        "sessions_without_a_bar": dg.MetadataValue.int(int(left["sessions"].sum())),
    }
    return told | ({"gaps_left_empty": reporting.table(left.head(REASONS))} if len(left) else {})


def _left_metadata(collected: Collected) -> dict[str, dg.MetadataValue]:
    """Who was not asked for, why, and when it is worth going on."""
    told: dict[str, dg.MetadataValue] = {
        "parts": dg.MetadataValue.int(collected.parts), "not_asked": dg.MetadataValue.int(len(collected.left))
    }  # fmt: skip
    if collected.stopped is not None:
        told |= {
            "left": dg.MetadataValue.text(_names(collected.left)),
            "why": dg.MetadataValue.text(str(collected.stopped)),
        }
        told |= reporting.stop(collected.stopped)
    return told


def _names(instruments: Sequence[str]) -> str:
    more = len(instruments) - SHOWN
    return ", ".join(instruments[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _metadata(collected: Collected) -> dict[str, dict[str, dg.MetadataValue]]:
    """What became of each table."""
    return {table: _table_metadata(stored) for table, stored in collected.tables.items()}


def _table_metadata(stored: Stored) -> dict[str, dg.MetadataValue]:
    batches = [str(batch) for batch in stored.batches]
    metadata: dict[str, dg.MetadataValue] = {
        "rows_fetched": dg.MetadataValue.int(stored.fetched),
        "rows_new": dg.MetadataValue.int(stored.new),
        "rows_restated": dg.MetadataValue.int(stored.restated),
        "rows_unchanged": dg.MetadataValue.int(stored.unchanged),
        "rows_quarantined": dg.MetadataValue.int(stored.quarantined),
        "rows_withdrawn": dg.MetadataValue.int(stored.withdrawn),
        "batch_id": dg.MetadataValue.text(
            " to ".join(dict.fromkeys((batches[0], batches[-1]))) if batches else "none: nothing differed"
        ),
    }
    if stored.sample is not None:
        metadata["first_session"] = dg.MetadataValue.text(str(stored.first))
        metadata["last_session"] = dg.MetadataValue.text(str(stored.last))
        metadata["preview"] = reporting.table(stored.sample)
    if stored.rejects:
        shown = pl.DataFrame(
            {
                "instrument": [reject.instrument for reject in stored.rejects],
                "reason": [reject.reason for reject in stored.rejects],
            }
        )
        metadata["quarantine"] = reporting.table(shown)
    return metadata


ASSETS = (market_data, *(build_comparison(name) for name in keys.COMPARED))
