"""Yahoo's and CoinGecko's bars within the day over a real socket: what they have, what they refuse, how they fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import polars as pl
import pytest

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.intraday import Span, gaps, session_grid
from octopus.market_data.schema import INTRADAY_SCHEMA
from resources.intraday_collection import IntradayPlan, collect_intraday
from resources.sources.base import IntradayPart
from resources.sources.coingecko import CoinGeckoMarketData
from resources.sources.yahoo_intraday import YahooIntraday
from resources.warehouse import intraday
from resources.warehouse.store import Warehouse

XNYS, DAYS = Sessions(), Sessions("24/7")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# -- Yahoo: yfinance asks up to the present of the wall clock, so that these are days before today -------------------

TODAY = datetime.now(UTC)
SESSION = date.fromisoformat(str(XNYS.between(date(2020, 1, 1), TODAY.date() - timedelta(days=2))[-1]))
BEFORE = XNYS.previous(SESSION)
NOW = XNYS.close_utc(SESSION) + timedelta(days=1, hours=12)
"""Over a day later: every bar of the session was backfilled."""


def stamps(minutes: int) -> list[int]:
    """When the bars of both sessions begin, counted from the opening, in seconds since 1970."""
    grid = session_grid(XNYS, BEFORE, SESSION, minutes)
    return [
        int(opens.timestamp()) + 60 * minutes * place
        for opens, closes in grid.select("opens", "closes").iter_rows()
        for place in range(-(-int((closes - opens).total_seconds()) // (60 * minutes)))
    ]


def chart(at: list[int], split: tuple[int, int] | None = None) -> dict[str, Any]:
    """Yahoo's form, with the meta of its recorded answer of minutes; a split (when, how many for one) where given."""
    prices = [100.0 + place / 4 for place, _ in enumerate(at)]
    periods = [
        [{"timezone": "EST", "start": int(opens.timestamp()), "end": int(closes.timestamp()), "gmtoffset": -18000}]
        for opens, closes in session_grid(XNYS, BEFORE, SESSION, 1).select("opens", "closes").iter_rows()
    ]
    meta = {
        "currency": "USD", "symbol": "AAPL", "exchangeName": "NMS", "instrumentType": "EQUITY",
        "firstTradeDate": 345479400, "regularMarketTime": at[-1], "exchangeTimezoneName": "America/New_York",
        "timezone": "EST", "gmtoffset": -18000, "dataGranularity": "5m", "range": "", "priceHint": 2,
        "tradingPeriods": periods, "validRanges": ["1d", "5d"],
    }  # fmt: skip
    quote = {
        "open": prices, "high": [price + 1 for price in prices], "low": [price - 1 for price in prices],
        "close": [price + 0.5 for price in prices], "volume": [1000 + place for place, _ in enumerate(at)],
    }  # fmt: skip
    events = {}
    if split is not None:
        when, ratio = split
        told = {"date": when, "numerator": ratio, "denominator": 1, "splitRatio": f"{ratio}:1"}
        events = {"events": {"splits": {str(when): told}}}
    result = {"meta": meta, "timestamp": at, "indicators": {"quote": [quote]}, **events}
    return {"chart": {"error": None, "result": [result]}}


def edited(body: dict[str, Any], edit: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    """Every list of the answer's bars as ``edit`` leaves it."""
    made = copy.deepcopy(body)
    (result,) = made["chart"]["result"]
    result["timestamp"] = edit(result["timestamp"])
    quote = result["indicators"]["quote"][0]
    for name, values in quote.items():
        quote[name] = edit(values)
    return made


@pytest.fixture
def fetch(vendor, yfinance_cache) -> Callable[..., IntradayPart]:
    vendor.answer("getcrumb", b"crumb", kind="text/plain")

    def part(minutes: int = 5, start: date = BEFORE, symbol: str = "AAPL") -> IntradayPart:
        source = YahooIntraday(vendor.access(), yfinance_cache, now=lambda: NOW)
        (one,) = source.fetch_intraday([symbol], start, SESSION, minutes, XNYS)
        return one

    return part


def answered(vendor: Any, body: object, **how: Any) -> None:
    vendor.routes = [route for route in vendor.routes if route[0] == "getcrumb"]
    vendor.answer("/chart/", body, **how)


@pytest.mark.parametrize(
    ("minutes", "name", "asked"), [(1, "1m", 1), (5, "5m", 5), (15, "15m", 15), (30, "15m", 15), (60, "1h", 60)]
)
def test_yahoo_has_each_length_of_bar_from_the_first_session_to_the_present(vendor, fetch, minutes, name, asked):
    answered(vendor, chart(stamps(asked)))
    part = fetch(minutes)
    grid = session_grid(XNYS, BEFORE, SESSION, minutes)
    due = sum(-(-int((closes - opens).total_seconds()) // (60 * minutes)) for opens, closes in
              grid.select("opens", "closes").iter_rows())  # fmt: skip
    assert part.bars.schema == INTRADAY_SCHEMA
    assert (part.rejects, len(part.bars)) == ([], due)
    assert part.bars["session"].unique().sort().to_list() == [BEFORE, SESSION]
    first = part.bars.row(0, named=True)
    assert first["ts"] == XNYS.open_utc(BEFORE)
    assert (first["open"], first["low"], first["interval_minutes"]) == (100.0, 99.0, minutes)
    assert first["volume"] == (2001 if minutes == 30 else 1000), "a half-hour is two of Yahoo's quarters"
    assert part.bars["known_at_imputed"].all()
    query = parse_qs(urlsplit(vendor.paths("/chart/AAPL")[-1]).query)
    assert (query["interval"], query["includePrePost"]) == ([name], ["false"])
    midnight = pd.Timestamp(BEFORE, tz="America/New_York").timestamp()
    assert int(query["period1"][0]) == midnight
    assert abs(int(query["period2"][0]) - datetime.now(UTC).timestamp()) < 600, "a later split is in the same answer"


def test_what_yahoo_adjusted_for_a_split_in_between_is_as_printed_again(vendor, fetch):
    opened = int(XNYS.open_utc(SESSION).timestamp())
    answered(vendor, chart(stamps(5), split=(opened, 4)))
    bars = fetch().bars
    before, after = bars.filter(pl.col("session") == BEFORE), bars.filter(pl.col("session") == SESSION)
    assert (before["open"][0], before["volume"][0]) == (400.0, 250.0)
    assert after["open"][0] == 100.0 + len(before) / 4
    assert after["volume"][0] == 1000 + len(before)


def test_yahoos_intervals_without_a_trade_are_none_and_what_is_over_later_is_left_out(vendor, fetch):
    at = stamps(5)
    body = chart(at)
    quote = body["chart"]["result"][0]["indicators"]["quote"][0]
    for values in quote.values():
        values[3] = None
    quote["close"][5] = None
    quote["high"][7] = 1.0
    answered(vendor, body)
    part = fetch()
    assert len(part.bars) == len(at) - 3
    assert [reject.table for reject in part.rejects] == ["intraday_bars"] * 2
    reasons = sorted(reject.reason for reject in part.rejects)
    assert reasons[0].startswith("close is missing")
    assert reasons[1].startswith("high 1.0 is below")


@pytest.mark.parametrize(("minutes", "days"), [(1, 7), (5, 60), (15, 60), (30, 60), (60, 730)])
def test_what_yahoo_does_not_have_is_refused_before_it_is_asked(vendor, fetch, minutes, days):
    oldest = NOW.date() - timedelta(days=days - 1)
    with pytest.raises(ConfigError, match=rf"intraday\.history_sessions.*of the past {days} days, so from {oldest} on"):
        fetch(minutes, start=oldest - timedelta(days=1))
    with pytest.raises(ConfigError, match=r"intraday\.interval = 90: yahoo has bars of 1, 5, 15, 30, 60 minutes"):
        fetch(90)
    assert vendor.paths("/chart/") == []
    answered(vendor, chart(stamps(5)))
    fetch(minutes, start=oldest)


YAHOO_FAILS: Mapping[str, tuple[dict[str, Any], str]] = {
    "429": ({"body": b"Too Many Requests", "status": 429}, "429"),
    "500": ({"body": b"{}", "status": 500}, "HTTP 500"),
    "html": ({"body": b"<html>sign in</html>"}, "not JSON"),
    "truncated": ({"body": chart(stamps(60)), "cut": True}, "no answer"),
    "half": ({"body": json.dumps(chart(stamps(60))).encode()[:400]}, "not JSON"),
}


@pytest.mark.parametrize("fault", YAHOO_FAILS)
def test_yahoo_failing_is_one_clear_error(vendor, fetch, fault):
    how, says = YAHOO_FAILS[fault]
    answered(vendor, **how)
    with pytest.raises(SourceUnavailableError, match=rf"^yahoo: .*{says}"):
        fetch(60)


def test_a_symbol_that_yahoo_does_not_know_is_a_reject_and_loses_no_other(vendor, fetch, yfinance_cache):
    answered(vendor, chart(stamps(60)))
    gone = {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found"}}}
    vendor.routes.insert(0, ("/chart/GONE", 404, json.dumps(gone).encode(), {}, False))
    source = YahooIntraday(vendor.access(), yfinance_cache, now=lambda: NOW)
    parts = list(source.fetch_intraday(["GONE", "AAPL"], BEFORE, SESSION, 60, XNYS))
    assert [(part.asked, len(part.bars) > 0) for part in parts] == [(("AAPL",), True), (("GONE",), False)]
    assert [(reject.table, reject.instrument) for reject in parts[1].rejects] == [("intraday_bars", "GONE")]


def test_after_empty_late_doubled_and_reordered_answers_of_yahoo_what_is_stored_is_what_one_good_one_brings(
    vendor, fetch, database_url
):
    warehouse = Warehouse(database_url)
    calm = chart(stamps(5))
    bodies = [
        edited(calm, lambda values: []),
        edited(calm, lambda values: values[1:]),
        edited(calm, lambda values: [*values, *values]),
        edited(calm, lambda values: values[::-1]),
        calm,
    ]
    told = []
    for body in bodies:
        answered(vendor, body)
        part = fetch()
        report = warehouse.append(
            "intraday_bars", part.bars, source="yahoo", rejects=part.rejects, payload_hash=part.payload_hash
        )
        told.append((report.new, report.restated, report.unchanged))
    bars = len(stamps(5))
    assert told == [(0, 0, 0), (bars - 1, 0, 0), (1, 0, bars - 1), (0, 0, bars), (0, 0, bars)]
    stored = warehouse.read("select * from raw.intraday_bars order by ts").drop("ingested_at", "batch_id")
    assert stored.cast(INTRADAY_SCHEMA).equals(part.bars)


def test_a_run_of_yahoo_is_on_record_and_the_next_asks_for_the_last_session_again(
    vendor, fetch, yfinance_cache, database_url
):
    answered(vendor, chart(stamps(60)))
    warehouse = Warehouse(database_url)
    source = YahooIntraday(vendor.access(), yfinance_cache, now=lambda: NOW)
    plan = IntradayPlan(["AAPL"], 60, history=2, refetch=1, calendars=Calendars(XNYS))
    spans = plan.spans(warehouse, "yahoo", SESSION, NOW)
    assert spans == [Span(BEFORE, SESSION, ("AAPL",))]
    done = collect_intraday(warehouse, source, spans, plan, now=lambda: NOW)
    assert (done.parts, done.stored.new, done.stopped) == (1, len(stamps(60)), None)
    asked = intraday.asked(warehouse, "yahoo", 60, ["AAPL"])
    assert asked["session"].to_list() == [BEFORE, SESSION]
    assert gaps(asked, date.min).is_empty(), "bars counted from the opening fill the hours of the clock"
    assert plan.spans(warehouse, "yahoo", SESSION, NOW) == [Span(SESSION, SESSION, ("AAPL",))]


# -- CoinGecko -----------------------------------------------------------------------------------------------------

LATER = datetime(2018, 8, 29, 2, 20, tzinfo=UTC)
COIN_DAY = date(2018, 8, 28)
OHLC = "/coins/bitcoin/ohlc"


@pytest.fixture
def prices(test_data: Path) -> list[float]:
    """Prices of an afternoon as recorded, to make candles of."""
    bodies = json.loads((test_data / "wire" / "coingecko" / "pycoingecko_mocks.json").read_text())
    (body,) = [one["body"] for one in bodies if one["test"] == "test_get_coin_market_chart_by_id"]
    return [price for _, price in body["prices"]]


@pytest.fixture
def hours(prices: list[float]) -> list[list[float]]:
    """Candles of the two days before `LATER` and of its own hours, each stamped with its end, the last with now."""
    ends = [datetime(2018, 8, 27, tzinfo=UTC) + timedelta(hours=hour) for hour in range(1, 51)]
    low, high = min(prices), max(prices)
    return [
        [at.timestamp() * 1000, prices[place % len(prices)], high, low, prices[-1]]
        for place, at in enumerate((*ends, LATER))
    ]


@contextmanager
def coins(vendor: Any, body: object, **how: Any) -> Iterator[CoinGeckoMarketData]:
    vendor.routes.clear()
    vendor.answer(OHLC, body, **how)
    yield CoinGeckoMarketData("key", vendor.access(), plan="pro", now=lambda: LATER)


def hours_of(source: CoinGeckoMarketData, start: date = COIN_DAY, minutes: int = 60) -> IntradayPart:
    (part,) = source.fetch_intraday(["BTC"], start, COIN_DAY, minutes, XNYS)
    return part


def test_hours_of_coins_are_candles_of_utc_days_named_by_their_beginning(vendor, hours, prices):
    with coins(vendor, hours) as source:
        part = hours_of(source)
    assert part.rejects == []
    assert part.bars["ts"].to_list() == [datetime(2018, 8, 28, hour, tzinfo=UTC) for hour in range(24)]
    last = part.bars.row(-1, named=True)
    assert part.bars["open"].to_list() == [prices[place % len(prices)] for place in range(24, 48)]
    assert (last["session"], last["close"]) == (COIN_DAY, prices[-1])
    assert (last["high"], last["low"], last["volume"], last["vwap"]) == (max(prices), min(prices), None, None)
    assert last["known_at"] == LATER, "it was seen within a day of its end"
    query = parse_qs(urlsplit(vendor.paths(OHLC)[0]).query)
    assert (query["interval"], query["days"], query["vs_currency"]) == (["hourly"], ["7"], ["usd"])


def test_an_hour_that_is_under_way_is_left_out_and_refused_by_nobody(vendor, hours):
    with coins(vendor, hours) as source:
        (part,) = source.fetch_intraday(["BTC"], LATER.date(), LATER.date(), 60, XNYS)
    assert (part.bars["ts"].dt.hour().to_list(), part.rejects) == ([0, 1], [])


@pytest.mark.parametrize(
    ("start", "days"), [(COIN_DAY, "7"), (date(2018, 8, 1), "30"), (date(2018, 6, 2), "90")], ids=str
)
def test_the_shortest_reach_that_holds_the_first_day_whole_is_asked_for(vendor, hours, start, days):
    with coins(vendor, hours) as source:
        hours_of(source, start)
    assert parse_qs(urlsplit(vendor.paths(OHLC)[0]).query)["days"] == [days]


def test_what_coingecko_does_not_have_is_refused_before_it_is_asked(vendor, hours):
    with coins(vendor, hours) as source:
        with pytest.raises(ConfigError, match=r"history_sessions.*of the past 89 days, so from 2018-06-02 on"):
            hours_of(source, date(2018, 6, 1))
        with pytest.raises(ConfigError, match=r"intraday\.interval = 5: coingecko has bars of 60 minutes"):
            hours_of(source, minutes=5)
        free = CoinGeckoMarketData(None, vendor.access(), now=lambda: LATER)
        with pytest.raises(ConfigError, match=r"plans\.coingecko\.plan = 'demo': bars within the day need a paid plan"):
            hours_of(free)
    assert vendor.asked == []


COIN_FAILS: Mapping[str, tuple[dict[str, Any], type[Exception], str]] = {
    "429": ({"body": b"{}", "status": 429}, SourceUnavailableError, "HTTP 429"),
    "500": ({"body": b"{}", "status": 500}, SourceUnavailableError, "HTTP 500"),
    "html": ({"body": b"<html>sign in</html>"}, SourceUnavailableError, "not JSON"),
    "truncated": ({"body": [[1, 2, 3, 4, 5]], "cut": True}, SourceUnavailableError, "no answer"),
    "object": ({"body": {"prices": []}}, SourceUnavailableError, "no list"),
    "plan": ({"body": {"status": {"error_code": 10005}}, "status": 401}, ConfigError, "10005"),
}


@pytest.mark.parametrize("fault", COIN_FAILS)
def test_coingecko_failing_is_one_clear_error(vendor, fault):
    how, kind, says = COIN_FAILS[fault]
    with coins(vendor, **how) as source, pytest.raises(kind, match=says):
        hours_of(source)


def test_after_empty_late_doubled_and_reordered_candles_what_is_stored_is_what_one_good_answer_brings(
    vendor, hours, database_url
):
    warehouse = Warehouse(database_url)
    told = []
    for body in ([], hours[:40], [*hours, *hours], hours[::-1], hours):
        with coins(vendor, body) as source:
            part = hours_of(source)
        report = warehouse.append(
            "intraday_bars", part.bars, source="coingecko", rejects=part.rejects, payload_hash=part.payload_hash
        )
        told.append((report.new, report.restated, report.unchanged, report.quarantined))
    assert told == [(0, 0, 0, 0), (16, 0, 0, 0), (8, 0, 16, 24), (0, 0, 24, 0), (0, 0, 24, 0)]


def test_candles_that_cannot_be_read_go_to_quarantine_and_an_unknown_coin_is_a_reject(vendor, hours):
    with coins(vendor, [*hours[:-3], ["x", 1, 2, 3, 4], [1, 2], [hours[30][0] + 60_000, 1, 1, 1, 1]]) as source:
        part = hours_of(source)
    assert len(part.bars) == 24
    assert {reject.table for reject in part.rejects} == {"intraday_bars"}
    assert len(part.rejects) == 3
    with coins(vendor, b"{}", status=404) as source:
        part = hours_of(source)
    (reject,) = part.rejects
    assert (reject.table, part.bars.is_empty()) == ("intraday_bars", True)
    assert "does not know the coin bitcoin" in reject.reason
