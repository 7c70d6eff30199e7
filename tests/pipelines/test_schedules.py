"""When the daily pipeline starts by itself, and how a range of past sessions is ingested in one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._utils.schedules import schedule_execution_time_iterator

from octopus.core.sessions import Sessions
from resources.settings import Settings, load_settings
from resources.sources.sample import SampleMarketData
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from tests.pipelines.conftest import edited_config

NEW_YORK = ZoneInfo("America/New_York")
XNYS = Sessions("XNYS")


@pytest.fixture(scope="module")
def research(manifest: None) -> dg.Definitions:
    from octopus_pipelines import research

    return research.defs


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTOPUS_MARKET_DATA", "yahoo")


def ticks(schedule: dg.ScheduleDefinition, first: date, last: date) -> Iterator[datetime]:
    """The instants at which the daemon evaluates the schedule from ``first`` to ``last``, in its own zone."""
    start = datetime.combine(first, time(), NEW_YORK)
    end = datetime.combine(last + timedelta(days=1), time(), NEW_YORK)
    found = schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone, ascending=True
    )
    return takewhile(lambda tick: tick < end, found)


def due(
    research: dg.Definitions, first: date, last: date, name: str = "daily_after_close"
) -> dict[datetime, dg.RunRequest | str]:
    """Tick in UTC → the run that is asked for, or why none is."""
    schedule = research.resolve_schedule_def(name)
    assert isinstance(schedule, dg.ScheduleDefinition)
    answers: dict[datetime, dg.RunRequest | str] = {}
    for tick in ticks(schedule, first, last):
        context = dg.build_schedule_context(scheduled_execution_time=tick, repository_def=research.get_repository_def())
        result = schedule.evaluate_tick(context)
        requests = list(result.run_requests or ())
        assert len(requests) <= 1
        answers[tick.astimezone(UTC)] = requests[0] if requests else str(result.skip_message)
    return answers


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2024, 3, 4), date(2024, 3, 18)),
        (date(2024, 10, 28), date(2024, 11, 11)),
        (date(2024, 11, 25), date(2024, 12, 3)),
        (date(2024, 12, 20), date(2025, 1, 10)),
    ],
    ids=["clock forward", "clock back", "thanksgiving", "christmas to the day of mourning"],
)
@pytest.mark.usefixtures("live")
def test_every_session_is_run_once_after_its_decision_and_before_the_next_open(
    research: dg.Definitions, first: date, last: date
) -> None:
    from assets.partitions import SESSIONS

    runs = {tick: answer for tick, answer in due(research, first, last).items() if isinstance(answer, dg.RunRequest)}
    keys = [str(request.partition_key) for request in runs.values()]
    assert keys == [str(day) for day in XNYS.between(first, last)]
    assert len({request.run_key for request in runs.values()}) == len(keys)
    for tick, key in zip(runs, keys, strict=True):
        session = date.fromisoformat(key)
        assert XNYS.decision_utc(session) <= tick < XNYS.open_utc(XNYS.next(session))
        assert XNYS.last_decided(tick) == session
        assert key in SESSIONS.get_partition_keys(current_time=tick)


@pytest.mark.usefixtures("live")
def test_the_hour_follows_the_exchanges_clock_and_not_ours(research: dg.Definitions) -> None:
    hours = {tick.date(): tick.hour for tick in due(research, date(2024, 3, 8), date(2024, 3, 11))}
    assert hours == {date(2024, 3, 8): 22, date(2024, 3, 11): 21}
    hours = {tick.date(): tick.hour for tick in due(research, date(2024, 11, 1), date(2024, 11, 4))}
    assert hours == {date(2024, 11, 1): 21, date(2024, 11, 4): 22}


@pytest.mark.usefixtures("live")
def test_an_early_close_runs_and_a_holiday_says_that_it_is_none(research: dg.Definitions) -> None:
    thanksgiving, half_day = due(research, date(2024, 11, 28), date(2024, 11, 29)).values()
    assert thanksgiving == "2024-11-28 is no session of XNYS"
    assert isinstance(half_day, dg.RunRequest)
    assert XNYS.close_utc(date(2024, 11, 29)).astimezone(NEW_YORK).hour == 13
    assert due(research, date(2024, 11, 30), date(2024, 12, 1)) == {}, "no tick on a weekend"


def test_on_a_recording_nothing_is_due(research: dg.Definitions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTOPUS_MARKET_DATA", "sample")
    (answer,) = due(research, date(2024, 3, 8), date(2024, 3, 8)).values()
    assert isinstance(answer, str)
    assert "recording" in answer


@pytest.mark.usefixtures("live")
def test_bars_within_the_day_are_due_an_hour_after_the_daily_run_where_a_source_is_named(
    research: dg.Definitions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    day = date(2024, 3, 8)
    (off,) = due(research, day, day, "intraday_after_close").values()
    assert "intraday.source" in str(off)
    monkeypatch.setenv("OCTOPUS_CONFIG", str(edited_config(tmp_path, **{"universe.intraday": {"source": "alpaca"}})))
    ((tick, on),) = due(research, day, day, "intraday_after_close").items()
    assert isinstance(on, dg.RunRequest)
    assert (on.run_key, on.partition_key) == (f"intraday:{day}", str(day))
    ((daily, _),) = due(research, day, day).items()
    assert tick - daily == timedelta(hours=1)


def test_the_account_is_read_once_the_sessions_bars_are_judged(research: dg.Definitions) -> None:
    """A snapshot has the paper broker fill what is due: not at a bar that the verdicts of the same run keep out."""
    from assets import keys

    first = research.resolve_asset_graph().get(keys.OPENING_POSITIONS).parent_keys
    assert {keys.BARS, keys.BAR_VERDICTS, keys.CORPORATE_ACTIONS, keys.ACTION_VERDICTS} <= first


def backfill_of(research: dg.Definitions, keys: list[dg.AssetKey], days: list[str]) -> list[dg.RunRequest]:
    """The runs that a backfill of ``keys`` over ``days`` becomes, by the grouping that Dagster's daemon does."""
    with dg.DagsterInstance.ephemeral() as instance:
        return list(
            build_run_requests_with_backfill_policies(
                [AssetKeyPartitionKey(key, day) for key in keys for day in days],
                research.resolve_asset_graph(),
                instance,
            )
        )


@pytest.fixture
def week() -> list[str]:
    """Sessions around a holiday and a weekend: 2022-12-26 is none."""
    return [str(day) for day in XNYS.between(date(2022, 12, 21), date(2022, 12, 28))]


def test_a_backfill_of_ingestion_days_is_one_run_and_one_of_decisions_is_a_run_each(
    research: dg.Definitions, week: list[str]
) -> None:
    from assets import keys

    ingestion = [
        keys.INSTRUMENTS,
        keys.BARS,
        keys.CORPORATE_ACTIONS,
        keys.ADJUSTED_CLOSES,
        keys.NEWS,
        keys.SOCIAL_POSTS,
        keys.SENTIMENT_SCORES,
    ]
    (request,) = backfill_of(research, ingestion, week)
    assert request.partition_key is None
    assert request.tags["dagster/asset_partition_range_start"] == week[0]
    assert request.tags["dagster/asset_partition_range_end"] == week[-1]
    assert set(request.asset_selection or ()) == set(ingestion)
    each = backfill_of(research, [keys.TARGET_WEIGHTS], week)
    assert [run.partition_key for run in each] == week


def test_the_one_run_of_a_range_asks_for_exactly_its_sessions(
    research: dg.Definitions, week: list[str], database_url: str
) -> None:
    from assets import keys
    from octopus_pipelines import research as location

    shipped = load_settings({})
    settings: Settings = replace(
        shipped, database_url=database_url, embedded=None,
        # Live, as far as the assets know: a recording would be fetched whole whatever the range.
        universe=shipped.universe.model_copy(update={"market_data": "yahoo"}),
    )  # fmt: skip
    resources = {
        "settings": settings,
        "warehouse": Warehouse(database_url, Role.RESEARCH),
        "market_data_source": SampleMarketData(),
    }
    (request,) = backfill_of(
        research, [keys.INSTRUMENTS, keys.BARS, keys.CORPORATE_ACTIONS, keys.ADJUSTED_CLOSES], week
    )
    job = location.build_defs(resources).resolve_job_def("ingest")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            tags=dict(request.tags), asset_selection=list(request.asset_selection or ()), instance=instance
        )
        assert result.success
        assert instance.get_materialized_partitions(keys.BARS) == set(week)
    stored = Warehouse(database_url, Role.OWNER).rows(
        "select session::text as session, count(*) as n from raw.bars group by 1 order by 1"
    )
    assert stored == [{"session": day, "n": len(settings.symbols)} for day in week]


@pytest.mark.parametrize(
    ("exchange", "cron", "hour"),
    [("XNYS", "0 17 * * 1-5", 17), ("24/7", "0 1 * * *", 1), ("24/5", "0 1 * * 2-6", 1), ("XLON", "30 17 * * 1-5", 17)],
)
def test_each_clock_has_its_hour_and_every_session_its_run(exchange: str, cron: str, hour: int) -> None:
    """Over both changes of summer time, holidays and weekends; partitions exist when they are asked for."""
    from assets.partitions import partitions_of
    from octopus_pipelines.schedules import after_close, due_session

    clock = Sessions(exchange)
    assert after_close(clock) == cron
    first, last = date(2024, 2, 26), date(2025, 1, 10)
    start = datetime.combine(first, time(), ZoneInfo(clock.timezone)).timestamp()
    end = datetime.combine(last, time(), ZoneInfo(clock.timezone))
    found = takewhile(
        lambda tick: tick < end, schedule_execution_time_iterator(start, cron, clock.timezone, ascending=True)
    )
    runs = {tick: session for tick in found if (session := due_session(clock, tick)) is not None}
    sessions = list(runs.values())
    assert sessions == [day.item() for day in clock.between(sessions[0], sessions[-1])]
    assert (first - sessions[0]).days in (0, 1, 3)
    partitions = partitions_of(clock)
    for tick, session in (next(iter(runs.items())), list(runs.items())[-1]):
        assert clock.last_decided(tick) == session
        assert tick.astimezone(ZoneInfo(clock.timezone)).hour == hour
        assert str(session) in partitions.get_partition_keys(current_time=tick)
    in_2024 = [key for key in partitions.get_partition_keys(current_time=end) if key.startswith("2024")]
    assert in_2024 == [str(day) for day in clock.between(date(2024, 1, 1), date(2024, 12, 31))]
