"""Alpha Vantage over a real socket, with recorded answers of the real service."""

from __future__ import annotations

import copy
import json
import logging
import traceback
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.sessions import Sessions
from octopus.market_data.schema import ACTIONS_SCHEMA, ADJUSTED_SCHEMA, BARS_SCHEMA, INSTRUMENTS_SCHEMA
from resources.sources.alphavantage import AlphaVantageMarketData
from resources.sources.base import whole
from resources.sources.http import Access
from resources.sources.patience import Patience

KEY = "KEY0123456789"
XNYS = Sessions()
START, END = date(2020, 12, 31), date(2021, 1, 11)
NOW = datetime(2021, 7, 28, 22, 0, tzinfo=UTC)
DAILY = "function=TIME_SERIES_DAILY_ADJUSTED"
SERIES = "Time Series (Daily)"


@pytest.fixture
def recorded(test_data: Path):
    def read(name: str) -> dict[str, Any]:
        return json.loads((test_data / "wire" / "alphavantage" / name).read_text())

    return read


@pytest.fixture
def source(vendor) -> AlphaVantageMarketData:
    return AlphaVantageMarketData(KEY, vendor.access(), describe=False, now=lambda: NOW)


@pytest.fixture
def ibm(recorded) -> dict[str, Any]:
    return recorded("pricehist/ibm-partial-adj.json")


def test_bars_are_as_printed_and_in_order(vendor, source, ibm):
    vendor.answer(DAILY, ibm)
    data = whole(source.fetch(["IBM"], START, END, XNYS))
    assert (data.bars.schema, data.actions.schema) == (BARS_SCHEMA, ACTIONS_SCHEMA)
    assert (data.adjusted.schema, data.instruments.schema) == (ADJUSTED_SCHEMA, INSTRUMENTS_SCHEMA)
    assert data.bars["session"].to_list() == [
        date(2020, 12, 31), *(date(2021, 1, day) for day in (4, 5, 6, 7, 8, 11)),
    ]  # fmt: skip
    assert data.bars.row(0) == (
        "alphavantage", "IBM", datetime(2020, 12, 31, 21, tzinfo=UTC), date(2020, 12, 31), 124.22, 126.03, 123.99,
        125.88, 3574696.0, datetime(2020, 12, 31, 21, 15, tzinfo=UTC), True,
    )  # fmt: skip
    assert data.rejects == []
    assert data.actions.is_empty()
    assert data.adjusted["adj_close"].to_list()[0] == 122.836743878
    assert data.adjusted["known_at"].unique().to_list() == [NOW], "it holds later dividends: known from the fetch"
    assert not data.adjusted["known_at_imputed"].any()


def test_splits_and_dividends_come_from_the_columns(vendor, source, ibm):
    series = ibm[SERIES]
    series["2021-01-05"]["7. dividend amount"] = "1.6300"
    series["2021-01-08"]["8. split coefficient"] = "4.0"
    series["2021-01-08"]["7. dividend amount"] = "0.5"
    vendor.answer(DAILY, ibm)
    actions = whole(source.fetch(["IBM"], START, END, XNYS)).actions
    assert actions.select("session", "kind", "value", "detail").rows() == [
        (date(2021, 1, 5), "dividend", 1.63, None),
        (date(2021, 1, 8), "dividend", 0.5, None),
        (date(2021, 1, 8), "split", 4.0, None),
    ]
    assert actions["ts"][0] == XNYS.open_utc(date(2021, 1, 5))


def test_a_pair_keeps_the_days_of_its_own_market(vendor, source, recorded):
    """Its day ends at 00:00 UTC: stamped with the close of New York it would be known three hours before it was."""
    vendor.answer("function=FX_DAILY&from_symbol=EUR&to_symbol=AUD", recorded("pricehist/eur-aud-partial.json"))
    data = whole(source.fetch(["EURAUD"], START, END, XNYS))
    bars = data.bars
    assert date(2021, 1, 1) in bars["session"].to_list(), "no holiday of New York"
    new_year = bars.filter(pl.col("session") == date(2021, 1, 1)).row(0, named=True)
    assert (new_year["close"], new_year["volume"]) == (1.58668, None)
    assert new_year["ts"] == datetime(2021, 1, 2, tzinfo=UTC)
    assert new_year["known_at"] == datetime(2021, 1, 2, 0, 15, tzinfo=UTC)
    (row,) = data.instruments.to_dicts()
    assert (row["name"], row["currency"], row["asset_class"], row["exchange"]) == ("EUR/AUD", "AUD", "fx", "24/5")
    assert data.adjusted.is_empty()


def test_stocks_are_described_by_a_search(vendor, ibm, recorded):
    vendor.answer(DAILY, ibm)
    vendor.answer("function=SYMBOL_SEARCH", recorded("pricehist/search-ibm.json"))
    source = AlphaVantageMarketData(KEY, vendor.access(), now=lambda: NOW)
    found = whole(source.fetch(["IBM", "IBMJ", "IBMX"], START, END, XNYS)).instruments
    assert found.select("instrument", "name", "currency", "asset_class").rows() == [
        ("IBM", "International Business Machines Corp", "USD", "equity"),
        ("IBMJ", "iShares iBonds Dec 2021 Term Muni Bond ETF", "USD", "etf"),
        ("IBMX", None, "USD", "equity"),
    ]
    assert found["ts"].n_unique() == 1


def test_the_whole_history_is_asked_for_only_where_it_is_needed(vendor, source, ibm):
    vendor.answer(DAILY, ibm)
    whole(source.fetch(["IBM"], date(2021, 3, 8), END, XNYS))
    whole(source.fetch(["IBM"], date(2021, 3, 5), END, XNYS))
    asked = [parse_qs(urlsplit(path).query)["outputsize"] for path in vendor.paths(DAILY)]
    assert len(XNYS.between(date(2021, 3, 8), NOW.date())) == 100
    assert asked == [["compact"], ["full"]]


LIMITS = [
    {"Information": f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests per day."},
    {"Note": "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls "
             "per day. Please visit https://www.alphavantage.co/premium/ if you would like a higher frequency."},
    {"Information": "Please consider spreading out your free API requests more sparingly (1 request per second)."},
]  # fmt: skip


@pytest.mark.parametrize("body", LIMITS)
def test_a_limit_is_not_a_missing_symbol(vendor, source, ibm, body):
    vendor.answer("symbol=IBM", ibm)
    vendor.answer("symbol=KO", body)
    with pytest.raises(SourceUnavailableError, match=r"limit .* reached at KO; wait until tomorrow") as caught:
        whole(source.fetch(["IBM", "KO"], START, END, XNYS))
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"Error Message": "the parameter apikey is invalid or missing. Please claim your free API key"}, "valid key"),
        ({"Information": "Thank you for using Alpha Vantage! This is a premium endpoint."}, "premium plan"),
        ({"Information": "The **demo** API key is for demo purposes only."}, "premium plan"),
    ],
)
def test_a_wrong_key_names_its_variable_and_not_its_value(vendor, source, body, says):
    vendor.answer(DAILY, body)
    with pytest.raises(ConfigError, match=f"ALPHAVANTAGE_API_KEY.*{says}") as caught:
        whole(source.fetch(["IBM"], START, END, XNYS))
    assert KEY not in str(caught.value)


def test_an_unknown_symbol_loses_no_other(vendor, source, ibm):
    invalid = "Invalid API call. Please retry or visit the documentation for TIME_SERIES_DAILY_ADJUSTED."
    vendor.answer("symbol=GONE", {"Error Message": invalid})
    vendor.answer("symbol=NONE", {})
    vendor.answer("symbol=NULL", {"Meta Data": {}, SERIES: {}})
    vendor.answer("symbol=IBM", ibm)
    data = whole(source.fetch(["GONE", "IBM", "NONE", "NULL"], START, END, XNYS))
    assert data.bars["instrument"].unique().to_list() == data.instruments["instrument"].to_list() == ["IBM"]
    assert {reject.instrument: reject.reason.split(";")[0] for reject in data.rejects} == {
        "GONE": "Alpha Vantage does not know GONE",
        "NONE": "Alpha Vantage answers nothing for NONE",
        "NULL": "Alpha Vantage has no bars for NULL",
    }


def test_malformed_rows_go_to_quarantine_and_the_rest_is_kept(vendor, source, ibm):
    series = ibm[SERIES]
    del series["2021-01-04"]["6. volume"]
    series["2021-01-05"]["4. close"] = "n/a"
    series["2021-01-06"]["2. high"] = "1.0"
    series["2021-01-07"] = "closed"
    series["2021-01-09"] = series["2021-01-08"]
    series["soon"] = series["2021-01-08"]
    vendor.answer(DAILY, ibm)
    data = whole(source.fetch(["IBM"], START, END, XNYS))
    assert data.bars["session"].to_list() == [date(2020, 12, 31), date(2021, 1, 8), date(2021, 1, 11)]
    assert data.adjusted["session"].to_list() == data.bars["session"].to_list()
    assert sorted(reject.reason for reject in data.rejects) == [
        "close n/a is not a number",
        "day soon is not a date like 2024-01-31",
        "high 1.0 is below low 126.72",
        "the record of 2021-01-07 is no JSON object",
        "the session date 2021-01-09 is not a session of XNYS",
        "volume is missing",
    ]
    json.dumps([dict(reject.payload) for reject in data.rejects], allow_nan=False)


def test_a_day_that_is_sent_twice_is_kept_once_and_said(vendor, source, ibm):
    """JSON lets a name stand twice, and most readers take the last one without a word."""
    twin = dict(ibm[SERIES]["2021-01-08"], **{"4. close": "129.00"})
    text = json.dumps(ibm).replace('"2021-01-07": {', f'"2021-01-08": {json.dumps(twin)}, "2021-01-07": {{')
    vendor.answer(DAILY, text.encode())
    data = whole(source.fetch(["IBM"], START, END, XNYS))
    assert data.bars.filter(pl.col("session") == date(2021, 1, 8))["close"].to_list() == [128.53]
    (reject,) = data.rejects
    assert reject.reason == "a second record for the same (source, instrument, ts)"
    assert reject.payload["close"] == 129.0


def test_the_order_of_an_answer_does_not_matter(vendor, source, ibm):
    vendor.answer(DAILY, ibm, once=True)
    first = whole(source.fetch(["IBM"], START, END, XNYS))
    shuffled = copy.deepcopy(ibm)
    shuffled[SERIES] = dict(sorted(ibm[SERIES].items(), key=lambda item: item[1]["4. close"]))
    vendor.answer(DAILY, shuffled)
    second = whole(source.fetch(["IBM"], START, END, XNYS))
    assert second.bars.equals(first.bars)
    assert second.adjusted.equals(first.adjusted)
    assert second.payload_hash != first.payload_hash


def test_a_late_bar_comes_with_the_next_fetch_and_changes_no_other(vendor, source, ibm):
    early = copy.deepcopy(ibm)
    del early[SERIES]["2021-01-07"]
    vendor.answer(DAILY, early, once=True)
    before = whole(source.fetch(["IBM"], START, END, XNYS)).bars
    vendor.answer(DAILY, ibm)
    after = whole(source.fetch(["IBM"], START, END, XNYS)).bars
    assert after.filter(pl.col("session") != date(2021, 1, 7)).equals(before)
    assert after.height == before.height + 1


def test_a_session_that_still_trades_is_no_bar_and_a_future_one_is_refused(vendor, ibm):
    afternoon = datetime(2021, 1, 8, 19, tzinfo=UTC)
    vendor.answer(DAILY, ibm)
    source = AlphaVantageMarketData(KEY, vendor.access(), describe=False, now=lambda: afternoon)
    data = whole(source.fetch(["IBM"], START, END, XNYS))
    assert data.bars["session"].max() == date(2021, 1, 7)
    assert [(reject.reason, reject.payload["session"]) for reject in data.rejects] == [
        ("the session had not closed when the bar was fetched", "2021-01-11")
    ]


def test_a_field_that_is_gone_from_all_rows_is_one_message(vendor, source, recorded):
    vendor.answer(DAILY, recorded("pricehist/ibm-partial.json"))
    with pytest.raises(SourceUnavailableError, match=r"no field 5\. adjusted close, 6\. volume"):
        whole(source.fetch(["IBM"], START, END, XNYS))


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (429, b"{}", "429"),
        (500, b"<html>oops</html>", "HTTP 500"),
        (503, b"", "HTTP 503"),
        (200, b"<html>sign in</html>", "not JSON"),
        (200, b"", "not JSON"),
        (200, b'{"Time Series (Daily)": {"2021-01-11": {"1. open": "127', "not JSON"),
        (200, b"[]", "no JSON object"),
        (200, b'{"Information": "Something new"}', "Something new"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, source, status, body, says):
    vendor.answer(DAILY, body, status=status)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        whole(source.fetch(["IBM"], START, END, XNYS))
    assert str(caught.value).startswith("alphavantage: ")
    assert "\n" not in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_cut_answer_and_nobody_there(vendor, source, ibm, closed_port_url):
    vendor.answer(DAILY, ibm, cut=True)
    with pytest.raises(SourceUnavailableError, match="no answer") as cut:
        whole(source.fetch(["IBM"], START, END, XNYS))
    away = AlphaVantageMarketData(KEY, Access(closed_port_url, 2, Patience(attempts=1)), now=lambda: NOW)
    with pytest.raises(SourceUnavailableError, match="check the network") as alone:
        whole(away.fetch(["IBM"], START, END, XNYS))
    for caught in (cut, alone):
        assert KEY not in "".join(traceback.format_exception(caught.value)), "the address holds the key"


def test_no_log_ever_holds_the_key(vendor, source, ibm, caplog):
    caplog.set_level(logging.DEBUG)
    vendor.answer(DAILY, ibm)
    whole(source.fetch(["IBM"], START, END, XNYS))
    assert "apikey=(hidden)" in caplog.text
    assert KEY not in caplog.text


def test_a_missing_key_names_its_variable():
    with pytest.raises(ConfigError, match=r"ALPHAVANTAGE_API_KEY.*set it to use the source alphavantage"):
        AlphaVantageMarketData(None)
