"""Which interval of which session an intraday bar is: hours, early closes, clock changes, coins."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.sessions import Sessions
from octopus.market_data.intraday import (
    ASKED_SCHEMA,
    SEEN_WITHIN,
    counted,
    differences,
    due_spans,
    gaps,
    session_grid,
    settle_intraday,
)
from octopus.market_data.schema import INTERVALS, INTRADAY_SCHEMA

XNYS, COINS = Sessions(), Sessions("24/7")
LATER = datetime(2025, 2, 1, tzinfo=UTC)
DAYS = [day.item() for day in XNYS.between(date(2023, 1, 1), date(2024, 12, 31))]


def bars(*begun: datetime, **columns: float) -> pl.DataFrame:
    """Bars of one instrument, all alike."""
    told = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0} | columns
    frame = pl.DataFrame({"begun": begun}, schema={"begun": pl.Datetime("us", "UTC")})
    return frame.with_columns(
        source=pl.lit("v"), instrument=pl.lit("A"), **{k: pl.lit(v) for k, v in told.items()}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sessions", "day", "due"),
    [
        (XNYS, date(2024, 3, 8), {1: 390, 5: 78, 15: 26, 30: 13, 60: 7}),
        (XNYS, date(2024, 3, 11), {1: 390, 5: 78, 15: 26, 30: 13, 60: 7}),  # summer time has begun
        (XNYS, date(2024, 7, 3), {1: 210, 5: 42, 15: 14, 30: 7, 60: 4}),  # an early close
        (COINS, date(2024, 3, 10), {1: 1440, 5: 288, 15: 96, 30: 48, 60: 24}),
    ],
)
def test_a_session_has_the_intervals_that_its_hours_overlap(sessions, day, due):
    grids = {minutes: session_grid(sessions, day, day, minutes) for minutes in INTERVALS}
    assert {minutes: grid["due"].item() for minutes, grid in grids.items()} == due
    assert grids[1]["first"].item() == sessions.open_utc(day)
    assert all(grid["first"].item() > sessions.open_utc(day) - timedelta(minutes=60) for grid in grids.values())


@given(day=st.sampled_from(DAYS), minutes=st.sampled_from(INTERVALS), place=st.floats(0, 1, exclude_max=True))
def test_a_bar_of_a_session_is_dated_by_it_and_known_when_it_ends_whatever_the_clocks_do(day, minutes, place):
    grid = session_grid(XNYS, day, day, minutes).row(0, named=True)
    begun = grid["first"] + timedelta(minutes=minutes) * int(place * grid["due"])
    good, rejects = settle_intraday([bars(begun)], minutes, day, day, XNYS, LATER)
    assert rejects == []
    (row,) = good.to_dicts()
    assert row["session"] == day == row["ts"].astimezone(ZoneInfo("America/New_York")).date()
    assert row["ts"] < row["known_at"] <= XNYS.close_utc(day)
    assert row["known_at"] - row["ts"] <= timedelta(minutes=minutes)
    assert row["known_at_imputed"]


@given(day=st.sampled_from(DAYS), minutes=st.sampled_from(INTERVALS), away=st.integers(0, 200))
def test_what_is_traded_before_and_after_a_session_is_no_bar_of_it(day, minutes, away):
    grid = session_grid(XNYS, day, day, minutes).row(0, named=True)
    step = timedelta(minutes=minutes)
    outside = [grid["first"] - step * (1 + away % 3), grid["closes"] + step * away]
    good, _ = settle_intraday([bars(*outside)], minutes, day, day, XNYS, LATER)
    assert good.is_empty()


def test_of_coins_the_end_of_a_day_is_the_beginning_of_the_next():
    days = [datetime(2024, 3, day, tzinfo=UTC) for day in (9, 10, 11)]
    good, _ = settle_intraday(
        [bars(*days, days[2] - timedelta(minutes=5))], 5, date(2024, 3, 9), date(2024, 3, 10), COINS, LATER
    )
    assert good["session"].to_list() == [date(2024, 3, 9), date(2024, 3, 10), date(2024, 3, 10)]


def test_a_bar_is_seen_when_it_is_fetched_and_imputed_when_that_was_long_after():
    day = date(2024, 3, 8)
    end = XNYS.close_utc(day)
    begun = end - timedelta(minutes=5)
    for now, known, imputed in (
        (end + timedelta(minutes=40), end + timedelta(minutes=40), False),
        (end + SEEN_WITHIN, end, True),
    ):
        good, _ = settle_intraday([bars(begun)], 5, day, day, XNYS, now)
        assert good.select("known_at", "known_at_imputed").row(0) == (known, imputed)


def test_a_bar_that_is_not_over_waits_and_one_that_has_not_begun_is_refused():
    day = date(2024, 3, 8)
    opened = XNYS.open_utc(day)
    now = opened + timedelta(minutes=7)
    good, rejects = settle_intraday(
        [bars(*(opened + timedelta(minutes=late) for late in (0, 5, 10)))], 5, day, day, XNYS, now
    )
    assert good["ts"].to_list() == [opened]
    assert [reject.reason for reject in rejects] == ["the bar had not begun when it was fetched"]


def test_the_hours_of_a_vendor_that_counts_from_the_opening_are_taken_too():
    day = date(2024, 3, 8)
    opened = XNYS.open_utc(day)
    hours = [opened + timedelta(hours=hour) for hour in range(7)]
    good, rejects = settle_intraday([bars(*hours)], 60, day, day, XNYS, LATER)
    assert (good["ts"].to_list(), rejects) == (hours, [])
    assert good["known_at"][-1] == XNYS.close_utc(day), "the last one is half an hour long"


def test_bad_prices_and_a_second_record_are_refused_by_name():
    day = date(2024, 3, 8)
    opened = XNYS.open_utc(day)
    frames = [
        bars(opened), bars(opened, close=10.6), bars(opened + timedelta(minutes=5), low=12.0),
        bars(opened + timedelta(minutes=10), vwap=-1.0), bars(opened + timedelta(minutes=15), volume=-1.0),
        bars(datetime(2024, 3, 9, 15, tzinfo=UTC)),
    ]  # fmt: skip
    good, rejects = settle_intraday(frames, 5, day, date(2024, 3, 11), XNYS, LATER)
    assert good.select("ts", "close").rows() == [(opened, 10.5)]
    assert [reject.reason for reject in rejects] == [
        "a second record for the same (source, instrument, ts, interval_minutes)",
        "high 11.0 is below low 12.0",
        "vwap -1.0 is not a positive number",
        "volume -1.0 is not a non-negative number",
        "2024-03-09 15:00:00.000000+00:00 is in no session of XNYS",
    ]


def test_of_nothing_comes_nothing():
    good, rejects = settle_intraday([], 5, date(2024, 3, 8), date(2024, 3, 8), XNYS, LATER)
    assert (good.schema, len(good), rejects) == (INTRADAY_SCHEMA, 0, [])


# -- what is asked for -------------------------------------------------------------------------------------------------

WEEK = [day.item() for day in XNYS.between(date(2024, 3, 4), date(2024, 3, 15))]
FOUND = datetime(2024, 3, 16, tzinfo=UTC)


def asked(*rows: tuple[str, date, int, int]) -> pl.DataFrame:
    """Sessions that were asked for at `FOUND`: instrument, session, intervals due and held."""
    told = [(*row, FOUND, FOUND) for row in rows]
    return pl.DataFrame(told, schema=ASKED_SCHEMA, orient="row")


def due(rows: pl.DataFrame, now: datetime = FOUND, **changes: int) -> list[tuple[int, int, tuple[str, ...]]]:
    counts = {"history": len(WEEK), "refetch": 0} | changes
    spans = due_spans(["A", "B"], rows, WEEK[-1], sessions=XNYS, now=now, **counts)
    return [(span.start.day, span.end.day, span.instruments) for span in spans]


def test_whoever_was_never_asked_for_is_asked_for_together():
    assert due(asked()) == [(4, 15, ("A", "B"))]
    assert due(asked(), history=3) == [(13, 15, ("A", "B"))]


def test_what_lies_between_is_asked_for_alone_and_the_last_sessions_again():
    whole = [(name, day, 78, 78) for name in ("A", "B") for day in WEEK]
    assert due(asked(*whole)) == []
    assert due(asked(*whole), refetch=2) == [(14, 15, ("A", "B"))]
    held = [row for row in whole if (row[0], row[1].day) not in {("A", 6), ("A", 7), ("B", 8), ("B", 11)}]
    assert due(asked(*held), refetch=1) == [(6, 7, ("A",)), (8, 11, ("B",)), (15, 15, ("A", "B"))]


def test_a_gap_is_asked_for_again_a_week_and_a_month_later_and_then_never():
    rows = [(name, day, 78, 77 if (name, day.day) == ("A", 6) else 78) for name in ("A", "B") for day in WEEK]
    gap = [(6, 6, ("A",))]
    for days, expected in ((0, []), (6, []), (7, gap), (29, gap)):
        assert due(asked(*rows), FOUND + timedelta(days=days)) == expected
    after = asked(*rows).with_columns(asked_at=pl.lit(FOUND + timedelta(days=8)).cast(ASKED_SCHEMA["asked_at"]))
    for days, expected in ((9, []), (30, gap)):
        assert due(after, FOUND + timedelta(days=days)) == expected
    last = asked(*rows).with_columns(asked_at=pl.lit(FOUND + timedelta(days=31)).cast(ASKED_SCHEMA["asked_at"]))
    assert due(last, FOUND + timedelta(days=400)) == []


@given(
    held=st.lists(st.integers(0, 3), unique=True), minutes=st.sampled_from(INTERVALS),
    day=st.sampled_from([WEEK[0], date(2024, 3, 11), date(2024, 7, 3), date(2024, 11, 29)]),
)  # fmt: skip
def test_the_intervals_of_a_session_without_a_bar_are_counted(held, minutes, day):
    grid = session_grid(XNYS, day, day, minutes).row(0, named=True)
    begun = [grid["first"] + place * timedelta(minutes=minutes) for place in held]
    good, _ = settle_intraday([bars(*begun)], minutes, day, day, XNYS, LATER)
    (row,) = counted(["A"], day, day, good, minutes, XNYS, LATER).to_dicts()
    told = {"closes_utc": XNYS.close_utc(day), "bars_due": grid["due"], "bars": len(held)}
    assert row == {"instrument": "A", "session": day} | told
    assert counted(["A"], day, day, good, minutes, XNYS, XNYS.close_utc(day)).is_empty(), "it is not published yet"


def test_before_its_first_bar_an_instrument_has_no_gap_and_one_without_any_is_told_once():
    rows = asked(("A", WEEK[0], 78, 0), ("A", WEEK[1], 78, 78), ("A", WEEK[2], 78, 0), ("B", WEEK[0], 78, 0),
                 ("B", WEEK[1], 78, 0))  # fmt: skip
    assert gaps(rows, WEEK[0]).select("instrument", "session").rows() == [("A", WEEK[2]), ("B", WEEK[0])]
    assert gaps(rows, WEEK[3]).select("instrument", "session").rows() == [("B", WEEK[0])]


# -- the day that they add up to ---------------------------------------------------------------------------------------


def days_of(**columns: float) -> pl.DataFrame:
    told = {"high": 11.0, "low": 9.0, "close": 10.0, "volume": 900.0, "bars": 78, "bars_due": 78} | columns
    return pl.DataFrame({"instrument": ["A"], "session": [WEEK[0]], **{name: [value] for name, value in told.items()}})


DAILY = days_of(volume=1000.0).drop("bars", "bars_due")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({}, []),
        ({"high": 11.01, "low": 8.995}, []),
        ({"high": 11.1}, ["high"]),
        ({"low": 8.9}, ["low"]),
        ({"close": 10.2}, ["close"]),
        ({"close": 10.2, "bars": 77}, []),
        ({"volume": 1100.0}, ["volume"]),
        ({"volume": 400.0}, ["volume"]),
        ({"volume": 400.0, "bars": 70}, []),
        ({"high": 1100.0, "low": 900.0, "close": 1000.0}, ["close", "high"]),
    ],
)
def test_bars_that_cannot_be_of_the_day_are_told(columns, found):
    told = differences(days_of(**columns), DAILY, same_source=True)
    assert told["what"].to_list() == found


def test_one_venues_volume_is_no_error_beside_the_whole_markets():
    assert differences(days_of(volume=30.0), DAILY, same_source=False).is_empty()
