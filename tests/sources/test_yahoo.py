"""Yahoo over a real socket, with recorded answers of the real service."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from octopus.core.errors import SourceUnavailableError
from octopus.core.sessions import Sessions, canonical
from octopus.market_data.schema import ACTIONS_SCHEMA, ADJUSTED_SCHEMA, BARS_SCHEMA, INSTRUMENTS_SCHEMA
from resources.sources.base import whole
from resources.sources.yahoo import EXCHANGES, YahooMarketData

XNYS = Sessions()
START, END = date(2021, 2, 1), date(2022, 1, 31)
NOW = datetime(2025, 2, 21, 22, 0, tzinfo=UTC)
NVDA = "historical/historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.csv.json"
MSFT = "historical/historical-via-chart-MSFT-dividends-2021-02-01-to-2022-01-31.csv.json"
AAPL = "chart_v8/chart-AAPL-2020-08-31-to-2020-11-07.json"


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def recorded(test_data: Path):
    def read(name: str) -> dict[str, Any]:
        return json.loads((test_data / "wire" / "yahoo" / name).read_text())["response"]["bodyJson"]

    return read


@pytest.fixture
def yahoo(vendor, yfinance_cache):
    vendor.answer("getcrumb", b"crumb", kind="text/plain")
    return YahooMarketData(vendor.access(), cache_dir=yfinance_cache, now=lambda: NOW)


def with_bar_and_split(chart: dict[str, Any], day: datetime, ratio: tuple[int, int]) -> dict[str, Any]:
    """The answer as it is once a later split is in it: its bar and event at the end; the rest already adjusted."""
    result = chart["chart"]["result"][0]
    stamp = int(day.timestamp())
    result["timestamp"].append(stamp)
    quote = result["indicators"]["quote"][0]
    for name in ("open", "high", "low", "close"):
        quote[name].append(121.79)
    quote["volume"].append(314162700)
    for series in result["indicators"].get("adjclose", []):
        series["adjclose"].append(121.79)
    events = result.setdefault("events", {}).setdefault("splits", {})
    events[str(stamp)] = {"date": stamp, "numerator": ratio[0], "denominator": ratio[1], "splitRatio": "x"}
    return chart


def test_prices_are_stored_as_printed_on_their_day(vendor, yahoo, recorded):
    """NVIDIA closed at 529.48 on 2021-02-01; Yahoo sends 13.237 since its splits of 2021 (4:1) and 2024 (10:1)."""
    vendor.answer("chart/NVDA", with_bar_and_split(recorded(NVDA), datetime(2024, 6, 10, 13, 30, tzinfo=UTC), (10, 1)))
    data = whole(yahoo.fetch(["NVDA"], START, END, XNYS))
    bars = data.bars
    assert bars.schema == BARS_SCHEMA
    assert data.actions.schema == ACTIONS_SCHEMA
    assert data.instruments.schema == INSTRUMENTS_SCHEMA
    first = bars.row(0, named=True)
    assert first["close"] == 529.48
    assert first["volume"] == round(217204000 / 40)
    assert first["ts"] == datetime(2021, 2, 1, 21, tzinfo=UTC)
    assert first["known_at"] == datetime(2021, 2, 1, 21, 15, tzinfo=UTC)
    assert first["known_at_imputed"]
    on_the_ex_date = bars.filter(pl.col("session") == date(2021, 7, 20))["close"][0]
    the_day_before = bars.filter(pl.col("session") == date(2021, 7, 19))["close"][0]
    assert (the_day_before, on_the_ex_date) == (751.19, 186.12)
    assert bars["session"].max() <= END
    assert data.rejects == []
    assert data.actions.select("session", "kind", "value").rows() == [(date(2021, 7, 20), "split", 4.0)]


def test_the_request_reaches_to_the_present_so_that_no_split_is_missing(vendor, yahoo, recorded):
    vendor.answer("chart/NVDA", recorded(NVDA))
    whole(yahoo.fetch(["NVDA"], START, END, XNYS))
    (asked,) = vendor.paths("period1")
    period2 = int(asked.split("period2=")[1].split("&")[0])
    assert period2 > datetime(2022, 2, 1, tzinfo=UTC).timestamp()
    assert "split" in asked


def test_a_later_split_restates_nothing(vendor, yahoo, recorded):
    """Before and after the split of 2024, Yahoo's numbers differ by ten and our raw bars by nothing."""
    late = recorded(NVDA)
    early = copy.deepcopy(late)
    quote = early["chart"]["result"][0]["indicators"]["quote"][0]
    for name in ("open", "high", "low", "close"):
        quote[name] = [None if price is None else round(price * 10, 5) for price in quote[name]]
    quote["volume"] = [volume // 10 for volume in quote["volume"]]
    vendor.answer("chart/NVDA", early)
    before = whole(yahoo.fetch(["NVDA"], START, END, XNYS))
    vendor.routes.pop()
    vendor.answer("chart/NVDA", with_bar_and_split(late, datetime(2024, 6, 10, 13, 30, tzinfo=UTC), (10, 1)))
    after = whole(yahoo.fetch(["NVDA"], START, END, XNYS))
    assert before.bars.equals(after.bars)
    assert before.actions.equals(after.actions)
    assert before.payload_hash != after.payload_hash


def test_dividends_are_cash_for_a_share_of_their_day(vendor, yahoo, recorded):
    vendor.answer("chart/MSFT", recorded(MSFT))
    data = whole(yahoo.fetch(["MSFT"], START, END, XNYS))
    assert data.actions.select("session", "kind", "value").rows() == [
        (date(2021, 2, 17), "dividend", 0.56),
        (date(2021, 5, 19), "dividend", 0.56),
        (date(2021, 8, 18), "dividend", 0.56),
        (date(2021, 11, 17), "dividend", 0.62),
    ]
    assert data.bars["close"][0] == 239.65
    assert (data.actions["known_at"] == data.actions["ts"]).all()
    assert data.actions["ts"][0] == XNYS.open_utc(date(2021, 2, 17))


def test_a_dividend_before_a_split_is_multiplied_back(vendor, yahoo, recorded):
    chart = with_bar_and_split(recorded(MSFT), datetime(2024, 6, 10, 13, 30, tzinfo=UTC), (4, 1))
    vendor.answer("chart/MSFT", chart)
    paid = whole(yahoo.fetch(["MSFT"], START, END, XNYS)).actions
    assert paid["value"].to_list() == [2.24, 2.24, 2.24, 2.48]


def test_the_instrument_is_described_by_the_answer(vendor, yahoo, recorded):
    vendor.answer("chart/MSFT", recorded(MSFT))
    (row,) = whole(yahoo.fetch(["MSFT"], START, END, XNYS)).instruments.to_dicts()
    assert (row["name"], row["exchange"], row["currency"], row["asset_class"], row["price_basis"]) == (
        "Microsoft Corporation", "XNAS", "USD", "equity", "raw",
    )  # fmt: skip
    assert row["ts"] == datetime(1986, 3, 13, 14, 30, tzinfo=UTC)


def test_yahoos_own_adjusted_close_is_kept_to_compare_with(vendor, yahoo, recorded):
    chart = recorded(MSFT)
    sent = chart["chart"]["result"][0]["indicators"]["adjclose"][0]["adjclose"]
    vendor.answer("chart/MSFT", chart)
    data = whole(yahoo.fetch(["MSFT"], START, END, XNYS))
    assert data.adjusted.schema == ADJUSTED_SCHEMA
    assert data.adjusted["session"].to_list() == data.bars["session"].to_list()
    assert data.adjusted["adj_close"].to_list() == pytest.approx(sent, rel=1e-6)
    assert (data.adjusted["adj_close"] < data.bars["close"]).any(), "it holds dividends that came later"
    assert data.adjusted["known_at"].unique().to_list() == [NOW], "hence is known from the fetch"


def test_malformed_bars_go_to_quarantine_and_the_rest_is_kept(vendor, yahoo, recorded):
    chart = recorded(AAPL)
    quote = chart["chart"]["result"][0]["indicators"]["quote"][0]
    quote["close"][1] = None
    quote["low"][2] = -1.0
    quote["high"][3], quote["low"][3] = 100.0, 110.0
    quote["volume"][4] = -5
    chart["chart"]["result"][0]["timestamp"][5] = int(datetime(2020, 9, 7, 13, 30, tzinfo=UTC).timestamp())  # Labor Day
    vendor.answer("chart/AAPL", chart)
    data = whole(yahoo.fetch(["AAPL"], date(2020, 8, 31), date(2020, 11, 6), XNYS))
    reasons = {reject.payload["session"]: reject.reason for reject in data.rejects}
    assert reasons == {
        "2020-09-01": "close is missing",
        "2020-09-02": "low -1.0 is not a positive number",
        "2020-09-03": "high 100.0 is below low 110.0",
        "2020-09-04": "volume -5.0 is not a non-negative number",
        "2020-09-07": "the session date 2020-09-07 is not a session of XNYS",
    }
    assert data.bars.height == 49 - 5
    assert all(reject.table == "bars" and reject.instrument == "AAPL" for reject in data.rejects)
    json.dumps([dict(reject.payload) for reject in data.rejects], allow_nan=False)


def test_a_session_that_still_trades_is_no_bar_yet(vendor, yfinance_cache, recorded):
    vendor.answer("chart/AAPL", recorded(AAPL))
    in_the_afternoon = datetime(2020, 11, 6, 19, 0, tzinfo=UTC)
    source = YahooMarketData(vendor.access(), cache_dir=yfinance_cache, now=lambda: in_the_afternoon)
    data = whole(source.fetch(["AAPL"], date(2020, 8, 31), date(2020, 11, 6), XNYS))
    assert data.bars["session"].max() == date(2020, 11, 5)
    assert data.rejects == []


def test_one_bad_symbol_does_not_lose_the_others(vendor, yahoo, recorded):
    vendor.answer("chart/MSFT", recorded(MSFT))
    gone = {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found"}}}
    vendor.answer("chart/GONE", gone, status=404)
    vendor.answer("chart/ODD", {"chart": {"result": [{"meta": {}}], "error": None}})
    vendor.answer("chart/LIST", [])
    data = whole(yahoo.fetch(["GONE", "LIST", "MSFT", "ODD"], START, END, XNYS))
    assert data.bars["instrument"].unique().to_list() == ["MSFT"]
    assert sorted(str(reject.instrument) for reject in data.rejects) == ["GONE", "LIST", "ODD"]
    assert all(str(reject.instrument) in reject.reason for reject in data.rejects)


def test_no_rows_at_all_are_frames_without_rows(vendor, yahoo):
    vendor.answer("chart/GONE", {"chart": {"result": [], "error": None}})
    data = whole(yahoo.fetch(["GONE"], START, END, XNYS))
    assert (data.bars.schema, data.bars.height) == (BARS_SCHEMA, 0)
    assert len(data.rejects) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (429, b"Too Many Requests", "text/plain", "429"),
        (500, b"<html>oops</html>", "text/html", "HTTP 500"),
        (403, b"{}", "application/json", "HTTP 403"),
        (200, b"<html>sign in</html>", "text/html", "not JSON"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, yahoo, status, body, kind, says):
    vendor.answer("chart/", body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        whole(yahoo.fetch(["MSFT"], START, END, XNYS))
    assert str(caught.value).startswith("yahoo: ")
    assert "\n" not in str(caught.value)


def test_a_failure_is_not_remembered(vendor, yahoo, recorded):
    vendor.answer("chart/MSFT", b"<html>oops</html>", status=500)
    with pytest.raises(SourceUnavailableError):
        whole(yahoo.fetch(["MSFT"], START, END, XNYS))
    vendor.routes.pop()
    vendor.answer("chart/MSFT", recorded(MSFT))
    assert whole(yahoo.fetch(["MSFT"], START, END, XNYS)).bars.height == 252


def test_a_cut_answer_is_no_answer(vendor, yahoo, recorded):
    vendor.answer("chart/MSFT", recorded(MSFT), cut=True)
    with pytest.raises(SourceUnavailableError, match="no answer for MSFT"):
        whole(yahoo.fetch(["MSFT"], START, END, XNYS))


def test_nobody_there(nobody, yfinance_cache):
    source = YahooMarketData(nobody, cache_dir=yfinance_cache)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        whole(source.fetch(["MSFT"], START, END, XNYS))


def test_one_refusal_is_met_with_a_fresh_cookie(vendor, yahoo, recorded):
    """yfinance asks again after an expired cookie: that must not look like an outage."""
    vendor.answer("chart/MSFT", {"finance": {"error": {"code": "Unauthorized"}}}, status=401, once=True)
    vendor.answer("chart/MSFT", recorded(MSFT))
    assert whole(yahoo.fetch(["MSFT"], START, END, XNYS)).bars.height == 252


@pytest.mark.parametrize(
    ("symbol", "kind", "code", "zone", "exchange", "weekend"),
    [
        ("BTC-USD", "CRYPTOCURRENCY", "CCC", "UTC", "24/7", True),
        ("EURUSD=X", "CURRENCY", "CCY", "Europe/London", "24/5", False),
    ],
)
def test_coins_and_pairs_keep_their_own_days(vendor, yahoo, symbol, kind, code, zone, exchange, weekend):
    """Friday to Monday of a winter, stamped as Yahoo does: the beginning of each day in its zone."""
    days = [datetime(2022, 12, day, tzinfo=UTC) for day in (9, 10, 11, 12) if weekend or day in (9, 12)]
    vendor.answer(f"chart/{symbol.removesuffix('=X')}", charted(symbol, days, kind, code, zone))
    data = whole(yahoo.fetch([symbol], date(2022, 12, 1), date(2022, 12, 31), XNYS))
    assert data.rejects == []
    assert data.bars["session"].to_list() == [day.date() for day in days]
    assert data.bars["ts"].to_list() == [day + timedelta(days=1) for day in days], "known at the end of its UTC day"
    assert data.instruments["exchange"].to_list() == [exchange]


def charted(symbol: str, days: list[datetime], kind: str, code: str, zone: str) -> dict[str, Any]:
    """An answer of bars that rise by one a day."""
    stamps = [int(day.timestamp()) for day in days]
    prices = [100.0 + row for row in range(len(days))]
    meta = {
        "currency": "USD", "symbol": symbol, "exchangeName": code, "instrumentType": kind, "firstTradeDate": stamps[0],
        "exchangeTimezoneName": zone, "validRanges": ["1d"],
    }  # fmt: skip
    quote = dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": [0] * len(days)}
    result = {"meta": meta, "timestamp": stamps, "indicators": {"quote": [quote]}}
    return {"chart": {"error": None, "result": [result]}}


def test_a_share_abroad_keeps_its_exchanges_days(vendor, yahoo):
    """On Thanksgiving 2022 Frankfurt traded and New York did not."""
    days = [datetime(2022, 11, day, 8, tzinfo=UTC) for day in (23, 24, 25)]
    vendor.answer("chart/SAP.DE", charted("SAP.DE", days, "EQUITY", "GER", "Europe/Berlin"))
    data = whole(yahoo.fetch(["SAP.DE"], date(2022, 11, 1), date(2022, 11, 30), XNYS))
    assert data.rejects == []
    assert data.bars["session"].to_list() == [day.date() for day in days]
    assert data.bars["ts"].to_list() == [datetime(2022, 11, day, 16, 30, tzinfo=UTC) for day in (23, 24, 25)]
    assert data.instruments["exchange"].to_list() == ["XETR"]


@pytest.mark.parametrize(
    ("kind", "code", "why"),
    [
        ("EQUITY", "DFM", "trades at 'DFM', whose sessions are not known here"),
        ("INDEX", "NYQ", "asset_class index is none of equity, etf, crypto, fx"),
        ("MUTUALFUND", "NMS", "asset_class mutualfund is none of"),
    ],
)
def test_what_cannot_be_dated_or_held_is_told_and_costs_no_other(vendor, yahoo, recorded, kind, code, why):
    vendor.answer("chart/ODD", charted("ODD", [datetime(2022, 12, 9, 14, 30, tzinfo=UTC)], kind, code, "UTC"))
    vendor.answer("chart/MSFT", recorded(MSFT))
    data = whole(yahoo.fetch(["MSFT", "ODD"], START, END, XNYS))
    assert [(one.instrument, why in one.reason) for one in data.rejects] == [("ODD", True)]
    assert set(data.bars["instrument"]) == set(data.instruments["instrument"]) == {"MSFT"}


@pytest.mark.parametrize("code", sorted(EXCHANGES))
def test_each_code_of_an_exchange_has_a_calendar(code):
    assert canonical(EXCHANGES[code]) is not None
