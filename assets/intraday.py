"""M1 Data Collector: bars within the day of the configured source, beside the daily ones.

Belongs here: collecting intraday bars and showing what is missing of them and what differs from the daily bars. Does
not: daily bars (market_data.py), the rules (octopus/market_data/intraday.py), marts (dbt).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.market_data.intraday import Span, differences, gaps
from resources.collection import Stored
from resources.intraday_collection import CollectedIntraday, IntradayPlan, collect_intraday
from resources.research_factories import MarketDataCatalogue
from resources.runtime import processes
from resources.settings import Settings
from resources.warehouse import intraday
from resources.warehouse.store import Warehouse
from resources.warehouse.verdicts import vendor_bars

GROUP = "market_data"
OWNERS = ["team:market_data"]
ALL_ASKED, NOTHING_MISSING, LIKE_THE_DAY = "every_session_was_asked_for", "no_interval_missing", "like_the_daily_bars"
LOOKED_AT = 20
"""So many sessions before the run's are looked at with it."""
SHOWN = 50
SHOWN_OF_GAPS = ("instrument", "session", "bars_due", "bars", "asked_at")


@dg.asset(
    key=keys.INTRADAY_BARS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.BARS],
    description="Bars within the day as printed, append-only, where the section intraday of config/universe.yaml names "
    "a source. A restatement is a new row.",
    partitions_def=partitions.SESSIONS, backfill_policy=dg.BackfillPolicy.single_run(),
    pool=partitions.SOURCES.intraday, output_required=False,
    check_specs=[
        dg.AssetCheckSpec(
            ALL_ASKED, asset=keys.INTRADAY_BARS,
            description="The source was asked for every session; if not, the run ends here and the next goes on.",
        ),
        dg.AssetCheckSpec(
            NOTHING_MISSING, asset=keys.INTRADAY_BARS,
            description="Every interval of the sessions, by their exchange's calendar, has a bar.",
        ),
        dg.AssetCheckSpec(
            LIKE_THE_DAY, asset=keys.INTRADAY_BARS,
            description="Range, close and volume of a session's bars can be of the day that its daily bar tells.",
        ),
    ],
)  # fmt: skip
def intraday_bars(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    market_data_catalogue: dg.ResourceParam[MarketDataCatalogue],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Ask for what is missing up to the session, part by part; say what stays missing and what cannot be.

    What comes before a limit, a failure or the end of the process is kept, and the next run asks for the rest.
    """
    config = settings.intraday
    if config.source is None:
        context.log.info("no bars within the day: name a source in the section intraday of config/universe.yaml")
        yield from (_check(name, pl.DataFrame()) for name in (ALL_ASKED, NOTHING_MISSING, LIKE_THE_DAY))
        return
    processes.note(context.instance, context.run.run_id)
    source = market_data_catalogue.intraday(config.source)
    first, last = partitions.session_range(context)
    plan = IntradayPlan(
        settings.intraday_symbols, config.interval, config.history_sessions, config.refetch_sessions,
        inputs.calendars(settings, warehouse),
    )  # fmt: skip
    asked_for = _spans(plan, warehouse, source.name, first, last)
    collected = collect_intraday(
        warehouse, source, asked_for, plan, run_id=context.run.run_id, told=context.log.info,
        now=lambda: datetime.now(UTC),
    )  # fmt: skip
    left = _left(plan, warehouse, source.name, first, last) if collected.stopped else pl.DataFrame()
    asked = intraday.asked(warehouse, source.name, config.interval, plan.instruments)
    since = min(first, settings.sessions.previous(last, LOOKED_AT))
    missing = gaps(asked.filter(pl.col("session") <= last), since).select(*SHOWN_OF_GAPS)
    differing = _differences(settings, warehouse, asked, since, last)
    yield dg.MaterializeResult(metadata=_metadata(collected, asked_for, missing))
    yield _check(ALL_ASKED, left, failed=collected.stopped is not None)
    yield _check(NOTHING_MISSING, missing)
    yield _check(LIKE_THE_DAY, differing)
    if collected.stopped is not None:
        raise dg.Failure(
            description=f"{source.name}: {len(left)} spans are left to ask for; what came before is stored, and the "
            f"next run goes on from there. {collected.stopped}",
            metadata=_retry(collected),
            allow_retries=False,
        ) from collected.stopped


def _spans(plan: IntradayPlan, warehouse: Warehouse, source: str, first: date, last: date) -> list[Span]:
    """A range of sessions is asked for as it is; for a single session, what is missing up to it."""
    if first == last:
        return plan.spans(warehouse, source, last, datetime.now(UTC))
    calendars = {name: plan.calendars.of(name) for name in sorted(plan.instruments)}
    return [
        Span(first, last, tuple(name for name, own in calendars.items() if own == calendar))
        for calendar in dict.fromkeys(calendars.values())
    ]


def _left(plan: IntradayPlan, warehouse: Warehouse, source: str, first: date, last: date) -> pl.DataFrame:
    """What was to be asked for and still is."""
    asked = plan if first == last else replace(plan, history=len(plan.calendars.clock.between(first, last)))
    return _listed(replace(asked, refetch=0).spans(warehouse, source, last, datetime.now(UTC)))


def _listed(spans: list[Span]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "from": [span.start for span in spans], "to": [span.end for span in spans],
            "instruments": [", ".join(span.instruments) for span in spans],
        },
        schema={"from": pl.Date, "to": pl.Date, "instruments": pl.String},
    )  # fmt: skip


def _differences(settings: Settings, warehouse: Warehouse, asked: pl.DataFrame, start: date, end: date) -> pl.DataFrame:
    """Where the bars of a session cannot be of the traded source's daily bar."""
    config, source = settings.intraday, settings.universe.market_data
    basis = warehouse.scalar("select min(price_basis) from raw.instruments where source = %s", [source])
    if basis != "raw":  # an index of total return is no price: nothing that is printed can be compared with it
        return pl.DataFrame()
    names, now = settings.intraday_symbols, datetime.now(UTC)
    daily = vendor_bars(warehouse, source, now, names, start, stamped=False)
    days = intraday.session_totals(
        warehouse, str(config.source), config.interval, now, start=start, end=end, instruments=names
    ).join(asked.select("instrument", "session", "bars", "bars_due"), on=["instrument", "session"])
    return differences(
        days, daily.select("instrument", "session", "high", "low", "close", "volume"),
        same_source=source == config.source,
    )  # fmt: skip


def _check(name: str, found: pl.DataFrame, *, failed: bool = False) -> dg.AssetCheckResult:
    """Passed where nothing is found; what ended the run is an error, all else a warning."""
    severity = dg.AssetCheckSeverity.ERROR if name == ALL_ASKED else dg.AssetCheckSeverity.WARN
    told: dict[str, Any] = {"count": len(found)}
    if not found.is_empty():
        told["table"] = reporting.table(found.tail(SHOWN), SHOWN)
    return dg.AssetCheckResult(
        check_name=name, asset_key=keys.INTRADAY_BARS, passed=found.is_empty() and not failed, severity=severity,
        metadata=told,
    )  # fmt: skip


def _metadata(collected: CollectedIntraday, spans: list[Span], missing: pl.DataFrame) -> dict[str, Any]:
    stored = collected.stored
    return {
        "parts": collected.parts, "asked": reporting.table(_listed(spans), SHOWN), "intervals_missing": len(missing),
        "rows_fetched": stored.fetched, "rows_new": stored.new, "rows_restated": stored.restated,
        "rows_unchanged": stored.unchanged, "rows_quarantined": stored.quarantined,
        **_span_of(stored), **_retry(collected),
    }  # fmt: skip


def _span_of(stored: Stored) -> dict[str, Any]:
    if stored.sample is None:
        return {}
    return {
        "first_session": str(stored.first), "last_session": str(stored.last), "preview": reporting.table(stored.sample)
    }  # fmt: skip


def _retry(collected: CollectedIntraday) -> dict[str, Any]:
    """When it is worth going on."""
    return {} if collected.stopped is None else dict(reporting.stop(collected.stopped))


ASSETS = (intraday_bars,)
