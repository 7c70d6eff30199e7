"""CoinGecko through its client over a real socket: which price is the close of which day."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.sessions import Sessions
from octopus.market_data.schema import BARS_SCHEMA, INSTRUMENTS_SCHEMA
from resources.sources.base import whole
from resources.sources.coingecko import CoinGeckoMarketData
from resources.sources.http import Access
from resources.sources.patience import Patience

KEY = "CG-0123456789"
XNYS = Sessions()
START, END = date(2021, 2, 1), date(2021, 2, 7)
NOW = datetime(2021, 2, 8, 12, 0, tzinfo=UTC)
CHART, OHLC, MARKETS = "/market_chart", "/ohlc", "/coins/markets"


def ms(day: date, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def recorded(test_data: Path):
    bodies = json.loads((test_data / "wire" / "coingecko" / "pycoingecko_mocks.json").read_text())

    def read(part: str) -> Any:
        return copy.deepcopy(next(body["body"] for body in bodies if part in body["url"]))

    return read


@pytest.fixture
def closes(test_data: Path) -> pl.DataFrame:
    """Bitcoin's recorded closes of the week, with its volume in dollars."""
    coins = pl.read_parquet(test_data / "crypto_daily_23coins.parquet")
    names = {name.lower(): name for name in coins.columns}
    day = pl.col(names["date"]).cast(pl.String).str.slice(0, 10).str.to_date()
    return (
        coins.filter(pl.col(names["symbol"]) == "BTC")
        .select(
            session=day, open=pl.col(names["open"]), high=pl.col(names["high"]), low=pl.col(names["low"]),
            close=pl.col(names["close"]), volume=pl.col(names["volume"]),
        )
        .filter(pl.col("session").is_between(START, END))
        .sort("session")
    )  # fmt: skip


@pytest.fixture
def chart(closes: pl.DataFrame) -> dict[str, Any]:
    """The form of a daily chart: a point at each midnight, whose price closed the day before, and the price of now."""
    rows = closes.to_dicts()
    at = [ms(row["session"] + timedelta(days=1)) for row in rows]
    now = int(NOW.timestamp() * 1000)
    return {
        "prices": [*([t, row["close"]] for t, row in zip(at, rows, strict=True)), [now, 12345.0]],
        "total_volumes": [*([t, row["volume"]] for t, row in zip(at, rows, strict=True)), [now, 1.0]],
        "market_caps": [],
    }


def candles(closes: pl.DataFrame, hours: int = 4) -> list[list[float]]:
    """Candles stamped with their end that tile each day."""
    return [
        [ms(row["session"]) + 3_600_000 * hour, row["open"], row["high"], row["low"], row["close"]]
        for row in closes.to_dicts()
        for hour in range(hours, 25, hours)
    ]


@pytest.fixture
def source(vendor) -> CoinGeckoMarketData:
    return CoinGeckoMarketData(KEY, vendor.access(), candles=False, now=lambda: NOW)


def test_the_close_of_a_day_is_the_price_of_the_next_midnight(vendor, source, chart, closes, recorded):
    vendor.answer(MARKETS, recorded("coins/markets"))
    vendor.answer("/coins/bitcoin" + CHART, chart)
    data = whole(source.fetch(["BTC"], START, END, XNYS))
    bars = data.bars
    assert bars.schema == BARS_SCHEMA
    assert bars["session"].to_list() == closes["session"].to_list(), "weekends too, whatever calendar was named"
    assert bars["close"].to_list() == closes["close"].to_list()
    assert (bars["close"] * bars["volume"]).to_list() == pytest.approx(closes["volume"].to_list()), "coins, not dollars"
    assert bars["open"].null_count() == bars.height
    first = bars.row(0, named=True)
    assert first["ts"] == datetime(2021, 2, 2, tzinfo=UTC)
    assert first["known_at"] == datetime(2021, 2, 2, 0, 15, tzinfo=UTC)
    assert first["known_at_imputed"]
    assert data.rejects == []
    assert data.instruments.schema == INSTRUMENTS_SCHEMA
    (row,) = data.instruments.to_dicts()
    assert (row["name"], row["asset_class"], row["exchange"], row["currency"]) == ("Bitcoin", "crypto", "24/7", "USD")


def test_prices_within_a_day_are_no_close(vendor, recorded):
    """The recorded chart: six points from 12:44 to 13:06 UTC of 2018-08-27."""
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, recorded(CHART))
    now = datetime(2018, 8, 28, 12, tzinfo=UTC)
    source = CoinGeckoMarketData(KEY, vendor.access(), candles=False, now=lambda: now)
    data = whole(source.fetch(["BTC"], date(2018, 8, 26), date(2018, 8, 27), XNYS))
    assert data.bars.is_empty()
    (reject,) = data.rejects
    assert reject.reason == "none of the 6 prices of BTC is of 00:00 UTC: they are no closes"
    assert len(reject.payload["prices"]) == 6


def test_a_midnight_among_the_recorded_points_is_the_close_of_the_day_before(vendor, recorded):
    body = recorded(CHART)
    body["prices"].insert(3, [ms(date(2018, 8, 27)), 6710.5])
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, body)
    now = datetime(2018, 8, 28, 12, tzinfo=UTC)
    source = CoinGeckoMarketData(KEY, vendor.access(), candles=False, now=lambda: now)
    bars = whole(source.fetch(["BTC"], date(2018, 8, 20), date(2018, 8, 27), XNYS)).bars
    assert bars.select("session", "close", "volume").rows() == [(date(2018, 8, 26), 6710.5, None)]


def test_a_little_after_midnight_is_midnight_and_the_first_point_counts(vendor, source, chart):
    for series in ("prices", "total_volumes"):
        chart[series][0][0] += 90_000
    chart["prices"].insert(1, [chart["prices"][0][0] + 60_000, 1.0])
    chart["prices"][3][0] += 6 * 60_000  # too late to be the close of 2021-02-03
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart)
    data = whole(source.fetch(["BTC"], START, END, XNYS))
    assert data.bars["close"][0] == chart["prices"][0][1]
    assert data.bars["volume"][0] is not None
    assert date(2021, 2, 3) not in data.bars["session"].to_list()


def test_a_day_that_is_not_over_is_no_bar(vendor, chart):
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart)
    early = datetime(2021, 2, 8, 0, 14, tzinfo=UTC)
    source = CoinGeckoMarketData(KEY, vendor.access(), candles=False, now=lambda: early)
    data = whole(source.fetch(["BTC"], START, date(2021, 2, 8), XNYS))
    assert data.bars["session"].max() == date(2021, 2, 6)
    assert data.rejects == []


def test_candles_that_tile_a_day_give_its_open_and_range(vendor, chart, closes):
    body = candles(closes)
    del body[7]  # 2021-02-02 has a gap
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart)
    vendor.answer(OHLC, list(reversed(body)))
    source = CoinGeckoMarketData(KEY, vendor.access(), now=lambda: NOW)
    data = whole(source.fetch(["BTC"], START, END, XNYS))
    tiled = data.bars.filter(pl.col("session") != date(2021, 2, 2))
    expected = closes.filter(pl.col("session") != date(2021, 2, 2))
    assert tiled.select("open", "high", "low", "close").equals(expected.select("open", "high", "low", "close"))
    gap = data.bars.filter(pl.col("session") == date(2021, 2, 2)).row(0, named=True)
    assert (gap["open"], gap["high"], gap["low"]) == (None, None, None)
    assert gap["close"] is not None
    assert "days=14" in vendor.paths(OHLC)[0]


def test_candles_of_four_days_tile_none(vendor, chart, closes):
    four = [[ms(day), 1.0, 2.0, 1.0, 2.0] for day in (date(2021, 2, 1), date(2021, 2, 5), date(2021, 2, 9))]
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart)
    vendor.answer(OHLC, four)
    bars = whole(CoinGeckoMarketData(KEY, vendor.access(), now=lambda: NOW).fetch(
        ["BTC"], START, END, XNYS
    )).bars  # fmt: skip
    assert bars.height == 7
    assert bars["high"].null_count() == 7


def test_the_key_travels_in_the_header_of_its_plan(vendor, chart, monkeypatch):
    monkeypatch.setenv("COINGECKO_PRO_API_KEY", "another")
    monkeypatch.setenv("COINGECKO_BASE_URL", "http://elsewhere.invalid")
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart)
    for plan, key in (("demo", KEY), ("pro", KEY), ("demo", None)):
        source = CoinGeckoMarketData(
            key, vendor.access(), plan=plan, candles=False, now=lambda: NOW
        )  # fmt: skip
        assert whole(source.fetch(["BTC"], START, END, XNYS)).bars.height == 7
    sent = [
        {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-cg")}
        for _, path, headers in vendor.asked
        if CHART in path
    ]
    assert sent == [{"x-cg-demo-api-key": KEY}, {"x-cg-pro-api-key": KEY}, {}]
    assert all(headers["Host"] in vendor.url for _, _, headers in vendor.asked)
    assert not any(KEY in path for _, path, _ in vendor.asked)


def test_days_beyond_the_free_plan_are_said(vendor, source, chart):
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart)
    data = whole(source.fetch(["BTC"], date(1990, 1, 2), END, XNYS))
    (reject,) = data.rejects
    assert reject.reason.startswith("days from 1990-01-02 to before 2020-02-10 need a paid plan")
    assert data.bars.height == 7
    assert "days=365" in vendor.paths(CHART)[0]


def test_an_unknown_coin_loses_no_other(vendor, source, chart):
    vendor.answer(MARKETS, [])
    vendor.answer("/coins/nocoin" + CHART, {"error": "coin not found"}, status=404)
    vendor.answer("/coins/bitcoin" + CHART, chart)
    vendor.answer("/coins/ethereum" + CHART, {"prices": [], "total_volumes": [], "market_caps": []})
    data = whole(source.fetch(["nocoin", "BTC", "ETH"], START, END, XNYS))
    assert data.bars["instrument"].unique().to_list() == ["BTC"]
    assert {reject.instrument: reject.reason for reject in data.rejects} == {
        "nocoin": "CoinGecko does not know the coin nocoin; look up its API id on its page",
        "ETH": "CoinGecko has no prices of ETH; check its id",
    }


def test_malformed_points_are_rejects_and_order_does_not_matter(vendor, source, chart):
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart, once=True)
    sound = whole(source.fetch(["BTC"], START, END, XNYS))
    twin = [chart["prices"][1][0], 999.0]
    odd = ["soon", None, [ms(date(2021, 2, 2)), "dear"], [1], [ms(date(2021, 2, 9)), 5.0]]
    vendor.answer(CHART, dict(chart, prices=[*chart["prices"][::-1], twin, *odd]))
    data = whole(source.fetch(["BTC"], START, END, XNYS))
    assert data.bars.equals(sound.bars)
    assert sorted(reject.reason for reject in data.rejects) == [
        "a second record for the same (source, instrument, ts)",
        "the price is no list of 2 numbers",
        "the price is no list of 2 numbers",
        "the price is no list of 2 numbers",
        "value dear is not a number",
    ]
    json.dumps([dict(reject.payload) for reject in data.rejects], allow_nan=False)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (429, {"status": {"error_code": 429, "error_message": "You've exceeded the Rate Limit."}}, "429"),
        (500, b"<html>oops</html>", "HTTP 500"),
        (503, b"", "HTTP 503"),
        (400, {"error": "invalid vs_currency"}, "HTTP 400"),
        (200, b"<html>sign in</html>", "not JSON"),
        (200, b"", "not JSON"),
        (200, b'{"prices": [[161213', "not JSON"),
        (200, {"prices": None}, "no list of prices"),
        (200, [], "no list of prices"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, source, status, body, says):
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, body, status=status)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        whole(source.fetch(["BTC"], START, END, XNYS))
    assert str(caught.value).startswith("coingecko: ")
    assert "\n" not in str(caught.value)


def test_an_address_where_nothing_is_fails_as_the_source(vendor, source):
    """Of the list of coins 404 says nothing about a coin."""
    vendor.answer(MARKETS, {"error": "nothing here"}, status=404)
    with pytest.raises(SourceUnavailableError, match="OCTOPUS_COINGECKO_URL"):
        whole(source.fetch(["BTC"], START, END, XNYS))


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"status": {"error_code": 10002, "error_message": "API Key Missing"}}, "refused it"),
        (400, {"error_code": 10010, "status": {"error_code": 10010}}, "refused it"),
        (401, {"error": {"status": {"error_code": 10012, "error_message": "exceeds 365 days"}}}, "plans.coingecko"),
    ],
)
def test_a_wrong_key_names_its_variable_and_not_its_value(vendor, source, status, body, says):
    vendor.answer(MARKETS, body, status=status)
    with pytest.raises(ConfigError, match=f"COINGECKO_API_KEY.*{says}") as caught:
        whole(source.fetch(["BTC"], START, END, XNYS))
    assert KEY not in str(caught.value)


def test_a_cut_answer_and_nobody_there(vendor, source, chart, closed_port_url):
    vendor.answer(MARKETS, [])
    vendor.answer(CHART, chart, cut=True)
    with pytest.raises(SourceUnavailableError, match="no answer"):
        whole(source.fetch(["BTC"], START, END, XNYS))
    away = CoinGeckoMarketData(KEY, Access(closed_port_url, 2, Patience(attempts=1)), now=lambda: NOW)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        whole(away.fetch(["BTC"], START, END, XNYS))


def test_a_paid_plan_needs_a_key():
    with pytest.raises(ConfigError, match="COINGECKO_API_KEY"):
        CoinGeckoMarketData(None, plan="pro")
