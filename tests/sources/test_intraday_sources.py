"""Sources of bars within the day, over a real socket with recorded answers, and into a real warehouse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.intraday import Span, gaps
from octopus.market_data.schema import INTRADAY_SCHEMA
from resources.intraday_collection import IntradayPlan, collect_intraday
from resources.sources.alpaca import AlpacaMarketData
from resources.sources.alphavantage import AlphaVantageMarketData
from resources.sources.base import IntradayPart
from resources.warehouse import intraday
from resources.warehouse.store import Warehouse

KEY = "KEY0123456789"
XNYS = Sessions()
DAY = date(2017, 12, 18)
NOW = datetime(2017, 12, 18, 19, 56, 30, tzinfo=UTC)
"""Half a minute into the last recorded bar."""
LATER = NOW + timedelta(days=30)
FUNCTION, SERIES = "function=TIME_SERIES_INTRADAY", "Time Series (1min)"


@pytest.fixture
def msft(test_data: Path) -> dict[str, Any]:
    """A hundred minutes of one afternoon, the last of which is not over at `NOW`."""
    return json.loads((test_data / "wire" / "alphavantage" / "romeltorres" / "mock_time_series").read_text())


@pytest.fixture
def fetch(vendor) -> Callable[..., IntradayPart]:
    """One month of Alpha Vantage's MSFT."""

    def part(now: datetime = LATER) -> IntradayPart:
        source = AlphaVantageMarketData(KEY, vendor.access(), now=lambda: now)
        (one,) = source.fetch_intraday(["MSFT"], DAY, DAY, 1, XNYS)
        return one

    return part


def test_a_bar_is_named_by_its_beginning_and_known_from_its_end_or_from_when_it_was_seen(vendor, fetch, msft):
    vendor.answer(FUNCTION, msft)
    live, old = fetch(NOW), fetch()
    assert live.bars.schema == INTRADAY_SCHEMA
    assert (len(live.bars), len(old.bars)) == (len(msft[SERIES]) - 1, len(msft[SERIES])), "one is not over yet"
    last = live.bars.row(-1, named=True)
    assert (last["ts"], last["close"], last["volume"]) == (datetime(2017, 12, 18, 19, 55, tzinfo=UTC), 86.5, 12682.0)
    assert (last["session"], last["interval_minutes"], last["vwap"]) == (DAY, 1, None)
    assert live.bars["known_at"].unique().to_list() == [NOW]
    assert not live.bars["known_at_imputed"].any()
    assert (old.bars["known_at"] == old.bars["ts"] + timedelta(minutes=1)).all()
    assert old.bars["known_at_imputed"].all()
    assert live.rejects == old.rejects == []


def test_alpha_vantage_is_asked_month_by_month_and_a_part_is_stored_as_it_comes(vendor, msft):
    vendor.answer(FUNCTION, msft)
    source = AlphaVantageMarketData(KEY, vendor.access(), now=lambda: LATER)
    parts = source.fetch_intraday(["MSFT", "EURUSD", "IBM"], date(2017, 11, 20), DAY, 5, XNYS)
    first = next(parts)
    assert (first.asked, [reject.instrument for reject in first.rejects]) == (("EURUSD",), ["EURUSD"])
    assert vendor.asked == [], "a pair costs no request"
    spans = [(part.asked, part.start, part.end) for part in parts]
    months = [(date(2017, 11, 1), date(2017, 11, 30)), (date(2017, 12, 1), date(2017, 12, 31))]
    assert spans == [((name,), *month) for name in ("IBM", "MSFT") for month in months]
    query = [parse_qs(urlsplit(path).query) for path in vendor.paths(FUNCTION)]
    assert [one["month"] for one in query] == [["2017-11"], ["2017-12"]] * 2
    assert query[0]["interval"] == ["5min"]
    assert query[0]["adjusted"] == query[0]["extended_hours"] == ["false"]


def test_what_cannot_be_read_goes_to_quarantine_and_the_rest_is_kept(vendor, fetch, msft):
    series = msft[SERIES]
    series["2017-12-18 14:55:00"]["4. close"] = "n/a"
    series["2017-12-18 14:54:00"]["2. high"] = "1.0"
    series["2017-12-18 14:53:00"] = "halted"
    series["2017-12-18 14:52:30"] = series["2017-12-18 14:52:00"]
    series["2017-12-18 08:00:00"] = series["2017-12-18 14:52:00"]
    series["2017-12-17 12:00:00"] = series["2017-12-18 14:52:00"]
    series["noon"] = series["2017-12-18 14:52:00"]
    vendor.answer(FUNCTION, msft)
    part = fetch()
    assert len(part.bars) == len(series) - 7
    assert {reject.table for reject in part.rejects} == {"intraday_bars"}
    assert sorted(reject.reason for reject in part.rejects) == [
        "2017-12-17 17:00:00.000000+00:00 is in no session of XNYS",
        "2017-12-18 19:52:30.000000+00:00 is no beginning of an interval",
        "close n/a is not a number",
        "high 1.0 is below low 86.47",
        "the record of 2017-12-18 14:53:00 is no JSON object",
        "the time noon is unreadable",
    ], "and before the opening is another market: no error"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (429, b"{}", "429"),
        (503, b"<html>oops</html>", "HTTP 503"),
        (200, b"<html>sign in</html>", "not JSON"),
        (200, b'{"Time Series (1min)": {"2017-12-18 14:56:00": {"1. open": "86', "not JSON"),
        (200, b'{"Information": "our standard API rate limit is 25 requests per day"}', "a limit of this key's plan"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, fetch, status, body, says):
    vendor.answer(FUNCTION, body, status=status)
    with pytest.raises(SourceUnavailableError, match=says):
        fetch()


def test_a_plan_without_bars_within_the_day_says_so(vendor, fetch):
    vendor.answer(FUNCTION, {"Information": "Thank you for using Alpha Vantage! This is a premium endpoint."})
    with pytest.raises(ConfigError, match="plan does not include TIME_SERIES_INTRADAY"):
        fetch()


def test_a_cut_answer_is_none(vendor, fetch, msft):
    vendor.answer(FUNCTION, msft, cut=True)
    with pytest.raises(SourceUnavailableError, match="no answer"):
        fetch()


def test_after_empty_late_doubled_and_reordered_answers_what_is_stored_is_what_one_good_answer_brings(
    vendor, fetch, msft, database_url
):
    warehouse = Warehouse(database_url)
    calm = copy.deepcopy(msft)
    late, mixed = copy.deepcopy(msft), copy.deepcopy(msft)
    late[SERIES].pop("2017-12-18 14:30:00")
    mixed[SERIES] = dict(sorted(msft[SERIES].items(), key=lambda item: item[1]["5. volume"]))
    twice = json.dumps(mixed).replace(
        '"2017-12-18 14:31:00"', f'"2017-12-18 14:32:00": {json.dumps(msft[SERIES]["2017-12-18 14:32:00"])}, '
        '"2017-12-18 14:31:00"', 1,
    ).encode()  # fmt: skip
    told = []
    for body in ({"Meta Data": {}, SERIES: {}}, late, twice, calm, calm):
        vendor.routes.clear()
        vendor.answer(FUNCTION, body)
        part = fetch()
        report = warehouse.append(
            "intraday_bars", part.bars, source="alphavantage", rejects=part.rejects, payload_hash=part.payload_hash
        )
        told.append((report.new, report.restated, report.unchanged, report.quarantined))
    bars = len(calm[SERIES])
    assert told == [(0, 0, 0, 1), (bars - 1, 0, 0, 0), (1, 0, bars - 1, 1), (0, 0, bars, 0), (0, 0, bars, 0)]
    stored = warehouse.read("select * from raw.intraday_bars order by ts").drop("ingested_at", "batch_id")
    assert stored.cast(INTRADAY_SCHEMA).equals(part.bars)
    assert warehouse.scalar("select count(*) from ops.fetches") == 5


def test_a_restated_bar_is_a_new_version_known_from_its_first_sight(vendor, fetch, msft, database_url):
    warehouse = Warehouse(database_url)
    vendor.answer(FUNCTION, msft, once=True)
    warehouse.append("intraday_bars", fetch().bars, source="alphavantage")
    msft[SERIES]["2017-12-18 14:30:00"]["5. volume"] = "99999"
    vendor.answer(FUNCTION, msft)
    report = warehouse.append("intraday_bars", fetch().bars, source="alphavantage", now=LATER)
    assert (report.new, report.restated) == (0, 1)
    versions = warehouse.rows(
        "select volume, known_at, known_at_imputed from raw.intraday_bars where ts = %s order by batch_id",
        [datetime(2017, 12, 18, 19, 30, tzinfo=UTC)],
    )
    assert [(row["volume"] == 99999, row["known_at_imputed"]) for row in versions] == [(False, True), (True, False)]
    assert [row["known_at"] for row in versions] == [datetime(2017, 12, 18, 19, 31, tzinfo=UTC), LATER]


def test_a_month_is_asked_for_once_in_a_run_and_what_it_answers_is_on_record(vendor, msft, database_url):
    vendor.answer(FUNCTION, msft)
    warehouse = Warehouse(database_url)
    source = AlphaVantageMarketData(KEY, vendor.access(), now=lambda: LATER)
    plan = IntradayPlan(["MSFT"], 1, history=3, refetch=1, calendars=Calendars(XNYS))
    friday = date(2017, 12, 15)
    spans = [Span(friday, friday, ("MSFT",)), Span(DAY, DAY, ("MSFT",))]
    done = collect_intraday(warehouse, source, spans, plan, now=lambda: LATER)
    assert (done.parts, done.stored.new, done.stopped, len(vendor.asked)) == (1, len(msft[SERIES]), None, 1)
    asked = intraday.asked(warehouse, "alphavantage", 1, ["MSFT"])
    assert asked["session"].to_list() == XNYS.between(date(2017, 12, 1), date(2017, 12, 31)).astype(object).tolist()
    assert asked.filter(pl.col("session") == DAY).select("bars_due", "bars").row(0) == (390, len(msft[SERIES]))
    assert gaps(asked, date.min)["session"].min() == DAY, "before its first bar nothing is missing"
    (total,) = intraday.session_totals(warehouse, "alphavantage", 1, LATER, start=DAY, end=DAY).to_dicts()
    volume = sum(float(bar["5. volume"]) for bar in msft[SERIES].values())
    high, low = (max, "2. high"), (min, "3. low")
    edges = [pick(float(bar[field]) for bar in msft[SERIES].values()) for pick, field in (high, low)]
    assert list(total.values()) == ["MSFT", DAY, *edges, 86.5, volume]
    due = plan.spans(warehouse, "alphavantage", date(2018, 1, 3), LATER)
    assert [(span.start, span.end) for span in due] == [(date(2018, 1, 2), date(2018, 1, 3))]


BARS = "/v2/stocks/bars"


@pytest.fixture
def minutes(test_data: Path) -> dict[str, Any]:
    """Minutes of two stocks as recorded: one after the close, the other the last minute before it."""
    bodies = json.loads((test_data / "wire" / "alpaca" / "alpaca_py_mocks.json").read_text())
    (body,) = [one["body"] for one in bodies if one["test"].endswith("::test_multi_stock_latest_bar")]
    return {"bars": {name: [bar] for name, bar in body["bars"].items()}, "next_page_token": None}


def test_alpaca_tells_the_average_of_each_bar_and_its_evenings_are_left_out(vendor, minutes):
    vendor.answer("page_token=more", {"bars": {"SPY": [
        {"t": "2022-07-26T14:00:00Z", "o": 391, "h": 391.5, "l": 390.9, "c": 391.4, "v": 5000, "n": 9, "vw": 391.2},
    ]}, "next_page_token": None})  # fmt: skip
    vendor.answer(BARS, minutes | {"next_page_token": "more"})
    source = AlpacaMarketData(KEY, "secret", vendor.access(), now=lambda: datetime(2022, 9, 1, tzinfo=UTC))
    day = date(2022, 7, 26)
    (part,) = source.fetch_intraday(["TSLA", "SPY"], day, day, 1, XNYS)
    assert part.bars.select("instrument", "ts", "close", "volume", "vwap", "known_at").rows() == [
        ("SPY", datetime(2022, 7, 26, 14, tzinfo=UTC), 391.4, 5000.0, 391.2, datetime(2022, 7, 26, 14, 1, tzinfo=UTC)),
        ("TSLA", datetime(2022, 7, 26, 19, 59, tzinfo=UTC), 776.63, 5993.0, 776.654473, XNYS.close_utc(day)),
    ]
    assert (part.asked, part.rejects) == (("SPY", "TSLA"), [])
    query = parse_qs(urlsplit(vendor.paths(BARS)[0]).query)
    assert (query["timeframe"], query["adjustment"], query["feed"]) == (["1Min"], ["raw"], ["iex"])


def test_alpaca_hands_out_what_fits_into_a_part_and_an_hour_is_its_own_unit(vendor, minutes):
    vendor.answer(BARS, {"bars": {}, "next_page_token": None})
    source = AlpacaMarketData(KEY, "secret", vendor.access(), now=lambda: datetime(2022, 9, 1, tzinfo=UTC))
    names = [f"S{number}" for number in range(100)]
    start, end = date(2022, 7, 18), date(2022, 7, 22)
    parts = list(source.fetch_intraday([*names, "T"], start, end, 1, XNYS))
    spans = [(len(part.asked), part.start.day, part.end.day) for part in parts]
    assert spans == [(100, 18, 19), (100, 20, 21), (100, 22, 22), (1, 18, 22)]
    assert all(part.bars.equals(INTRADAY_SCHEMA.to_frame()) for part in parts)
    list(source.fetch_intraday(["T"], start, end, 60, XNYS))
    list(source.fetch_intraday(["T"], start, end, 15, XNYS))
    asked = [parse_qs(urlsplit(path).query)["timeframe"] for path in vendor.paths(BARS)[-2:]]
    assert asked == [["1Hour"], ["15Min"]]


@pytest.mark.parametrize(("status", "body"), [(429, b"{}"), (500, b""), (200, b"<html>sign in</html>"), (200, b"[]")])
def test_alpaca_failing_is_one_clear_error(vendor, status, body):
    vendor.answer(BARS, body, status=status)
    source = AlpacaMarketData(KEY, "secret", vendor.access(), now=lambda: LATER)
    with pytest.raises(SourceUnavailableError, match=r"^alpaca: "):
        list(source.fetch_intraday(["MSFT"], DAY, DAY, 5, XNYS))


def test_alpacas_doubled_and_reordered_minutes_are_those_of_a_calm_answer_and_a_cut_one_is_none(vendor, minutes):
    (bar,) = minutes["bars"]["TSLA"]
    calm = [bar | {"t": f"2022-07-26T19:{minute}:00Z"} for minute in range(50, 55)]
    source = AlpacaMarketData(KEY, "secret", vendor.access(), now=lambda: datetime(2022, 9, 1, tzinfo=UTC))
    frames, refused = [], []
    for bars in (calm, [*calm, *calm], calm[::-1]):
        vendor.routes.clear()
        vendor.answer(BARS, {"bars": {"TSLA": bars}, "next_page_token": None})
        (part,) = source.fetch_intraday(["TSLA"], date(2022, 7, 26), date(2022, 7, 26), 1, XNYS)
        frames.append(part.bars)
        refused.append(len(part.rejects))
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    assert (len(frames[0]), refused) == (5, [0, 5, 0])
    vendor.routes.clear()
    vendor.answer(BARS, minutes, cut=True)
    with pytest.raises(SourceUnavailableError, match=r"^alpaca: no answer for bars"):
        list(source.fetch_intraday(["TSLA"], date(2022, 7, 26), date(2022, 7, 26), 1, XNYS))


def test_a_symbol_that_alpaca_calls_invalid_loses_no_other(vendor, minutes):
    vendor.answer("GONE%2CTSLA", {"message": "invalid symbol: GONE"}, status=400)
    vendor.answer("symbols=GONE", {"message": "invalid symbol: GONE"}, status=400)
    vendor.answer(BARS, {"bars": {"TSLA": minutes["bars"]["TSLA"] + ["x"]}, "next_page_token": None})
    source = AlpacaMarketData(KEY, "secret", vendor.access(), now=lambda: datetime(2022, 9, 1, tzinfo=UTC))
    (part,) = source.fetch_intraday(["TSLA", "GONE"], date(2022, 7, 26), date(2022, 7, 26), 1, XNYS)
    assert part.bars["instrument"].to_list() == ["TSLA"]
    assert {(reject.table, reject.instrument) for reject in part.rejects} == {
        ("intraday_bars", "GONE"), ("intraday_bars", "TSLA"),
    }  # fmt: skip
    assert part.bars.select(pl.col("known_at_imputed")).item()
