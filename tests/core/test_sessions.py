"""The calendar: which session an instant belongs to, where trading ends every day and where it never does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.sessions import Calendars, Sessions
from octopus.core.stats import SESSIONS_PER_YEAR


@pytest.mark.parametrize(
    ("exchange", "instant", "session"),
    [
        ("XNYS", datetime(2022, 12, 28, 14, 30, tzinfo=UTC), date(2022, 12, 28)),
        ("XNYS", datetime(2022, 12, 28, 21, 0, tzinfo=UTC), date(2022, 12, 28)),
        # The closing auction prints after the bell, and trading goes on until 20:00 in New York.
        ("XNYS", datetime(2022, 12, 28, 21, 0, 3, tzinfo=UTC), date(2022, 12, 28)),
        ("XNYS", datetime(2022, 12, 29, 0, 30, tzinfo=UTC), date(2022, 12, 28)),
        ("XNYS", datetime(2022, 12, 31, 15, 0, tzinfo=UTC), date(2023, 1, 3)),
        ("XNYS", datetime(2022, 11, 25, 18, 0, 1, tzinfo=UTC), date(2022, 11, 25)),
        ("24/7", datetime(2022, 12, 31, 23, 59, tzinfo=UTC), date(2022, 12, 31)),
        ("24/7", datetime(2023, 1, 1, 0, 0, tzinfo=UTC), date(2022, 12, 31)),
        ("24/7", datetime(2023, 1, 1, 0, 0, 1, tzinfo=UTC), date(2023, 1, 1)),
    ],
)
def test_a_trade_belongs_to_the_exchanges_own_day(exchange, instant, session):
    assert Sessions(exchange).trade_date(instant) == session


def test_every_day_of_24_7_ends_as_the_next_begins_and_the_recorded_calendar_agrees(test_data: Path):
    recorded = pl.read_csv(test_data / "calendars" / "24-7.csv.gz", try_parse_dates=True)
    days = recorded[recorded.columns[0]].dt.date().to_numpy().astype("datetime64[D]")
    coins = Sessions("24/7")
    assert np.array_equal(coins.between(days[0].item(), days[-1].item()), days)
    assert coins.closes_utc(days).to_list() == recorded["close"].to_list()
    assert coins.opens_utc(days[1:]).equals(coins.closes_utc(days[:-1]))


@pytest.mark.parametrize(
    ("exchange", "per_year", "continuous", "on_weekends", "timezone"),
    [
        ("XNYS", SESSIONS_PER_YEAR, False, False, "America/New_York"),
        ("24/7", 365, True, True, "UTC"),
        ("24/5", 261, True, False, "UTC"),
        # Its calendar begins in 1997: the years before do not count.
        ("XTKS", 245, False, False, "Asia/Tokyo"),
    ],
)
def test_what_a_calendar_says_of_itself(exchange, per_year, continuous, on_weekends, timezone):
    calendar = Sessions(exchange)
    said = (calendar.per_year, calendar.continuous, calendar.on_weekends, calendar.timezone)
    assert said == (per_year, continuous, on_weekends, timezone)


def test_a_coins_day_is_decided_after_midnight_utc_weekends_included():
    coins, saturday = Sessions("24/7"), date(2022, 12, 24)
    assert coins.decision_utc(saturday) == datetime(2022, 12, 25, 0, 30, tzinfo=UTC)
    assert (coins.previous(saturday), coins.next(saturday)) == (date(2022, 12, 23), date(2022, 12, 25))
    for second, day in ((-1, date(2022, 12, 23)), (0, saturday)):
        assert coins.last_decided(coins.decision_utc(saturday) + timedelta(seconds=second)) == day
    known = pd.DatetimeIndex(["2022-12-25 00:30", "2022-12-25 00:30:00.000001"], tz="UTC")
    assert coins.session_of(known).tolist() == [saturday, date(2022, 12, 25)]


@settings(deadline=None)
@given(instant=st.integers(946_684_800, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
@pytest.mark.parametrize("exchange", ["24/7", "24/5", "XNYS"])
def test_an_instant_is_used_by_the_first_decision_after_it(exchange, instant):
    calendar = Sessions(exchange)
    session = calendar.session_of(pd.DatetimeIndex([instant]))[0].item()
    assert calendar.decision_utc(calendar.previous(session)) < instant <= calendar.decision_utc(session)
    assert calendar.last_decided(instant) in (session, calendar.previous(session))


def test_an_instrument_keeps_its_exchanges_calendar_and_one_without_any_the_clock():
    described = {"AAPL": "XNAS", "BTC": "24/7", "EURUSD": "24/5", "TOKEN": "CCC"}
    calendars = Calendars(Sessions("XNYS"), described)
    assert calendars.of("AAPL") == calendars.of("TOKEN") == calendars.of("unheard of") == Sessions("XNYS")
    assert calendars.of(None) == Sessions("XNYS")
    assert calendars.elsewhere() == {"BTC": Sessions("24/7"), "EURUSD": Sessions("24/5")}
    assert Calendars(Sessions("24/7"), {"BTC": "24/7"}).elsewhere() == {}
