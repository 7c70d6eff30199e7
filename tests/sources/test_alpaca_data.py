"""Alpaca's market data through alpaca-py over a real socket, with recorded bodies."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.sessions import Sessions
from octopus.market_data.schema import ACTIONS_SCHEMA, BARS_SCHEMA, INSTRUMENTS_SCHEMA
from resources.sources.alpaca import AlpacaMarketData
from resources.sources.base import whole
from resources.sources.http import Access
from resources.sources.patience import Patience

KEY, SECRET = "AK0123456789", "secret-of-the-key"
XNYS = Sessions()
NOW = datetime(2024, 9, 3, 12, 0, tzinfo=UTC)
BARS, EVENTS = "/v2/stocks/bars", "/v1/corporate-actions"
NO_EVENTS = {"corporate_actions": {}, "next_page_token": None}


@pytest.fixture
def recorded(test_data: Path):
    bodies = json.loads((test_data / "wire" / "alpaca" / "alpaca_py_mocks.json").read_text())

    def read(test: str, which: int = 0) -> dict[str, Any]:
        held = [body["body"] for body in bodies if "option" not in body["test"] and body["test"].endswith("::" + test)]
        return copy.deepcopy(held[which])

    return read


@pytest.fixture
def source(vendor) -> AlpacaMarketData:
    return AlpacaMarketData(KEY, SECRET, vendor.access(), now=lambda: NOW)


def test_bars_are_raw_and_dated_in_new_york(vendor, source, recorded):
    first = recorded("test_get_bars")
    vendor.answer("page_token=", {"bars": {"AAPL": [
        {"t": "2022-07-05T04:00:00Z", "o": 137.77, "h": 141.61, "l": 136.93, "c": 141.56, "v": 73429391},
    ]}, "next_page_token": None})  # fmt: skip
    vendor.answer(BARS, first)
    vendor.answer(EVENTS, NO_EVENTS)
    data = whole(source.fetch(["AAPL"], date(2022, 2, 1), date(2022, 7, 31), XNYS))
    assert (data.bars.schema, data.actions.schema, data.instruments.schema) == (
        BARS_SCHEMA, ACTIONS_SCHEMA, INSTRUMENTS_SCHEMA,
    )  # fmt: skip
    assert data.bars.select("session", "open", "high", "low", "close", "volume").rows() == [
        (date(2022, 2, 1), 174.0, 174.84, 172.31, 174.61, 85998033.0),
        (date(2022, 2, 2), 174.64, 175.88, 173.33, 175.84, 84817432.0),
        (date(2022, 7, 5), 137.77, 141.61, 136.93, 141.56, 73429391.0),
    ]
    assert data.bars["ts"].to_list() == [XNYS.close_utc(day) for day in data.bars["session"]]
    assert data.rejects == []
    assert data.adjusted.is_empty()
    query = parse_qs(urlsplit(vendor.paths(BARS)[0]).query)
    assert (query["adjustment"], query["feed"], query["timeframe"]) == (["raw"], ["iex"], ["1Day"])
    assert query["start"][0].startswith("2022-02-01T00:00:00")
    assert query["end"][0].startswith("2022-08-01T00:00:00"), "the last session's bar begins before this"
    query = parse_qs(urlsplit(vendor.paths(EVENTS)[0]).query)
    expected = (["2022-02-01"], [str(NOW.date())])
    assert (query["start"], query["end"]) == expected, "a dividend is found by when it was processed"
    sent = vendor.asked[0][2]
    assert (sent["APCA-API-KEY-ID"], sent["APCA-API-SECRET-KEY"]) == (KEY, SECRET)


def test_the_feed_can_be_chosen(vendor, recorded):
    vendor.answer(BARS, recorded("test_multisymbol_get_bars"))
    vendor.answer(EVENTS, NO_EVENTS)
    source = AlpacaMarketData(KEY, SECRET, vendor.access(), feed="sip", now=lambda: NOW)
    day = date(2022, 3, 9)
    assert whole(source.fetch(["AAPL", "TSLA"], day, day, XNYS)).bars["instrument"].to_list() == ["AAPL", "TSLA"]
    assert "feed=sip" in vendor.paths(BARS)[0]
    with pytest.raises(ConfigError, match="feed = 'tape': choose one of iex, sip"):
        AlpacaMarketData(KEY, SECRET, feed="tape")


def test_newest_first_is_put_in_order(vendor, source, recorded):
    body = recorded("test_get_bars_desc")
    body["next_page_token"] = None
    vendor.answer(BARS, body)
    vendor.answer(EVENTS, NO_EVENTS)
    data = whole(source.fetch(["TSLA"], date(2023, 9, 25), date(2023, 9, 27), XNYS))
    assert data.bars.select("session", "close").rows() == [
        (date(2023, 9, 25), 246.99), (date(2023, 9, 26), 244.12), (date(2023, 9, 27), 240.5),
    ]  # fmt: skip


@pytest.fixture
def events(vendor, source, recorded):
    """What the recorded corporate actions become for some symbols."""

    def fetch(symbols: list[str], changed: dict[str, Any] | None = None):
        body = recorded("test_get_corporate_actions")
        body["corporate_actions"] |= changed or {}
        vendor.routes.clear()
        vendor.answer("page_token=", recorded("test_get_corporate_actions", 1))
        vendor.answer(EVENTS, body)
        vendor.answer(BARS, {"bars": {}, "next_page_token": None})
        # A window without bars to expect: only actions are asked about here.
        quiet = AlpacaMarketData(KEY, SECRET, vendor.access(), now=lambda: datetime(2023, 1, 2, tzinfo=UTC))
        return whole(quiet.fetch(symbols, date(2023, 1, 3), date(2024, 9, 3), XNYS))

    return fetch


def test_each_kind_of_action_says_what_it_is(events):
    data = events(["MNTS", "SRE", "MSBC", "FCF", "JUPW", "BSAQ", "GLOP", "ATNXQ", "ORPHY", "ZMTBY"])
    assert data.actions.select("instrument", "session", "kind", "value", "detail").rows() == [
        ("ATNXQ", date(2023, 10, 11), "delisting", 0.0, "worthless_removals"),
        ("BSAQ", date(2023, 8, 15), "symbol_change", 1.0, "VFS"),
        ("FCF", date(2023, 5, 4), "dividend", 0.125, None),
        ("GLOP", date(2023, 7, 17), "delisting", 5.37, "cash_mergers"),
        ("JUPW", date(2023, 8, 15), "spin_off", 1 / 19.35, "SRM"),
        ("MNTS", date(2023, 8, 24), "split", 0.02, None),
        ("MSBC", date(2023, 5, 19), "split", 1.05, None),
        ("ORPHY", date(2023, 6, 13), "delisting", 0.141134, "redemptions"),
        ("SRE", date(2023, 8, 22), "split", 2.0, None),
        ("ZMTBY", date(2024, 8, 7), "dividend", 0.086928, None),
    ]
    assert (data.actions["ts"] == data.actions["known_at"]).all()
    assert data.rejects == []


def test_a_dividend_that_is_processed_weeks_after_its_ex_date_comes_with_a_later_window(vendor, source):
    paid = {"id": "d", "symbol": "KO", "rate": 0.46, "ex_date": "2023-09-14", "process_date": "2023-10-02"}
    vendor.answer(EVENTS, {"corporate_actions": {"cash_dividends": [paid]}, "next_page_token": None})
    vendor.answer(BARS, {"bars": {}, "next_page_token": None})
    data = whole(source.fetch(["KO"], date(2023, 9, 25), date(2023, 10, 2), XNYS))
    assert data.actions.select("session", "kind", "value").rows() == [(date(2023, 9, 14), "dividend", 0.46)]
    assert "start=2023-09-25" in vendor.paths(EVENTS)[0]


def test_a_symbol_change_is_found_by_its_new_symbol_too(events):
    data = events(["VFS"])
    assert data.actions.select("instrument", "kind", "detail").rows() == [("BSAQ", "symbol_change", "VFS")]


def test_a_change_of_the_name_alone_is_none(events):
    change = {"id": "x", "old_symbol": "KO", "new_symbol": "KO", "process_date": "2023-08-15"}
    data = events(["KO"], {"name_changes": [change]})
    assert data.actions.is_empty()
    assert data.rejects == []


def test_actions_that_cannot_be_said_are_for_a_person(events):
    data = events(["LSI", "MLVF", "TPBAU", "IFN"])
    assert data.actions.is_empty()
    assert sorted((reject.instrument, reject.reason.split(" cannot")[0]) for reject in data.rejects) == [
        ("IFN", "rights_distributions of IFN"),
        ("LSI", "stock_mergers of LSI"),
        ("MLVF", "stock_and_cash_mergers of MLVF"),
        ("TPBAU", "unit_splits of TPBAU"),
    ]
    assert {reject.table for reject in data.rejects} == {"corporate_actions"}


def test_a_kind_that_nobody_knows_is_for_a_person_whatever_its_fields_are_called(events):
    share_class_changes = [
        {"id": "a", "old_symbol": "KO", "new_symbol": "KOX", "process_date": "2023-08-15"},
        {"id": "b", "source_symbol": "PEP", "ex_date": "2023-08-15"},
        {"id": "c", "cusip": "191216100", "ex_date": "2023-08-15"},
    ]
    data = events(["KO"], {"share_class_changes": share_class_changes})
    assert data.actions.is_empty()
    assert [(reject.instrument, reject.payload["id"]) for reject in data.rejects] == [("KO", "a"), (None, "c")]
    assert all("of a kind that is not known" in reject.reason for reject in data.rejects)


def test_dividends_of_one_day_are_one_and_a_repeated_record_counts_once(events):
    regular = {"id": "a", "symbol": "KO", "ex_date": "2023-05-04", "rate": 0.5, "special": False}
    special = dict(regular, id="b", rate=1.25, special=True)
    data = events(["KO"], {"cash_dividends": [regular, special, regular]})
    assert data.actions.select("kind", "value").rows() == [("dividend", 1.75)]


def test_malformed_actions_are_rejects(events):
    dividends = [
        {"id": "a", "symbol": "KO", "ex_date": "2023-05-04"},
        {"id": "b", "symbol": "KO", "ex_date": "soon", "rate": 1},
        {"id": "c", "symbol": "KO", "ex_date": "2023-05-06", "rate": 1},
        {"id": "d", "symbol": "KO", "ex_date": "2023-05-05", "rate": "much"},
        "nothing",
    ]
    splits = [{"id": "e", "symbol": "KO", "ex_date": "2023-05-04", "new_rate": 2, "old_rate": 0}]
    data = events(["KO"], {"cash_dividends": dividends, "forward_splits": splits})
    assert data.actions.is_empty()
    assert sorted(reject.reason for reject in data.rejects) == [
        "a record of cash_dividends is no JSON object",
        "ex_date soon is not a date like 2024-01-31",
        "rate is missing",
        "rate much is not a number",
        "split of inf is not a positive number",
        "the ex-date 2023-05-06 is not a session of XNYS",
    ]
    json.dumps([dict(reject.payload) for reject in data.rejects], allow_nan=False)


def test_malformed_bars_go_to_quarantine_and_the_rest_is_kept(vendor, source, recorded):
    body = recorded("test_multisymbol_get_bars")
    good = body["bars"]["AAPL"][0]
    body["bars"]["AAPL"] += [
        dict(good, c=999.0), dict(good, t="2022-03-10T05:00:00Z", c=None), dict(good, t="yesterday"),
        dict(good, t="2022-03-11T05:00:00Z", v="many"), dict(good, t="2022-03-12T05:00:00Z"), "no bar",
    ]  # fmt: skip
    body["bars"]["OTHER"] = [good]
    vendor.answer(BARS, body)
    vendor.answer(EVENTS, NO_EVENTS)
    data = whole(source.fetch(["AAPL", "TSLA"], date(2022, 3, 7), date(2022, 3, 14), XNYS))
    assert data.bars.select("instrument", "close").rows() == [("AAPL", 162.95), ("TSLA", 858.97)]
    assert sorted(reject.reason for reject in data.rejects) == [
        "begun yesterday is not a time with an offset like 2024-01-31T21:00:00Z",
        "close 999.0 lies outside the day's range 159.41 to 163.41",
        "close is missing",
        "the bar is no JSON object",
        "the session date 2022-03-12 is not a session of XNYS",
        "volume many is not a number",
    ]


def test_a_bar_that_is_sent_twice_is_kept_once_and_said(vendor, source, recorded):
    body = recorded("test_multisymbol_get_bars")
    body["bars"]["AAPL"] *= 2
    vendor.answer(BARS, body)
    vendor.answer(EVENTS, NO_EVENTS)
    data = whole(source.fetch(["AAPL", "TSLA"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
    assert data.bars.height == 2
    assert [reject.reason for reject in data.rejects] == ["a second record for the same (source, instrument, ts)"]


def test_a_session_that_still_trades_is_no_bar_and_a_late_one_comes_next_time(vendor, recorded):
    vendor.answer(BARS, recorded("test_multisymbol_get_bars"))
    vendor.answer(EVENTS, NO_EVENTS)
    day = date(2022, 3, 9)
    moments = iter([datetime(2022, 3, 9, 20, tzinfo=UTC), datetime(2022, 3, 9, 21, 15, tzinfo=UTC)])
    source = AlpacaMarketData(KEY, SECRET, vendor.access(), now=lambda: next(moments))
    brought = [whole(source.fetch(["AAPL", "TSLA"], day, day, XNYS)) for _ in range(2)]
    assert [(data.bars.height, data.rejects) for data in brought] == [(0, []), (2, [])]


def test_a_symbol_without_bars_is_a_reject_where_there_should_be_some(vendor, source, recorded):
    vendor.answer(BARS, recorded("test_multisymbol_get_bars"))
    vendor.answer(EVENTS, NO_EVENTS)
    data = whole(source.fetch(["AAPL", "GONE", "TSLA"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
    (reject,) = data.rejects
    assert (reject.instrument, reject.reason.split(";")[0]) == ("GONE", "Alpaca has no bars of GONE in these sessions")
    assert data.instruments["instrument"].to_list() == ["AAPL", "TSLA"]
    vendor.routes.clear()
    vendor.answer(BARS, recorded("test_get_bars_single_empty_response"))
    vendor.answer(EVENTS, NO_EVENTS)
    assert whole(source.fetch(["AAPL"], date(2022, 3, 12), date(2022, 3, 13), XNYS)).rejects == [], (
        "a weekend has no bars"
    )


def test_an_invalid_symbol_loses_no_other(vendor, source, recorded):
    """Alpaca refuses the whole request for it: the others are asked for again without it."""
    body = recorded("test_multisymbol_get_bars")
    vendor.answer("B%24D", {"message": "invalid symbol: B$D"}, status=400)
    vendor.answer(BARS, body)
    vendor.answer(EVENTS, NO_EVENTS)
    data = whole(source.fetch(["AAPL", "B$D", "TSLA"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
    assert data.bars["instrument"].to_list() == ["AAPL", "TSLA"]
    (reject,) = data.rejects
    assert (reject.instrument, reject.payload["answer"]) == ("B$D", "invalid symbol: B$D")
    assert "B%24D" not in vendor.paths(EVENTS)[0]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (429, b'{"message": "too many requests."}', "HTTP 429"),
        (504, b"<html>oops</html>", "HTTP 504: no reason given"),
        (500, b'{"message": "internal server error"}', "HTTP 500: internal server error"),
        (422, b'{"message": "end should not be before start"}', "end should not be before start"),
        (200, b"<html>sign in</html>", "not JSON"),
        (200, b'{"bars": {"AAPL": [{"t": "2022-', "not JSON"),
        (200, b"", "holds no bars"),
        (200, b"[]", "holds no bars"),
        (200, b'{"candles": {}}', "holds no bars"),
        (200, b'{"bars": null, "next_page_token": null}', "holds no bars"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, source, status, body, says):
    vendor.answer(BARS, body, status=status)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        whole(source.fetch(["AAPL"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
    assert str(caught.value).startswith("alpaca: ")
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_failing_actions_fail_the_fetch(vendor, source, recorded):
    vendor.answer(BARS, recorded("test_multisymbol_get_bars"))
    vendor.answer(EVENTS, b"<html>sign in</html>")
    with pytest.raises(SourceUnavailableError, match="corporate actions is not JSON"):
        whole(source.fetch(["AAPL", "TSLA"], date(2022, 3, 9), date(2022, 3, 9), XNYS))


@pytest.mark.parametrize(
    ("status", "message"), [(401, "unauthorized."), (403, "subscription does not permit querying recent SIP data")]
)
def test_wrong_keys_name_their_variables_and_not_their_values(vendor, source, status, message):
    vendor.answer(BARS, {"message": message}, status=status)
    with pytest.raises(ConfigError, match="ALPACA_API_KEY, ALPACA_API_SECRET") as caught:
        whole(source.fetch(["AAPL"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
    assert message in str(caught.value)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"ALPACA_API_SECRET.*set it to use the source alpaca"):
        AlpacaMarketData(KEY, None)


def test_a_cut_answer_and_nobody_there(vendor, source, recorded, closed_port_url):
    vendor.answer(BARS, recorded("test_multisymbol_get_bars"), cut=True)
    with pytest.raises(SourceUnavailableError, match="no answer for bars"):
        whole(source.fetch(["AAPL"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
    away = AlpacaMarketData(KEY, SECRET, Access(closed_port_url, 2, Patience(attempts=1)), now=lambda: NOW)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        whole(away.fetch(["AAPL"], date(2022, 3, 9), date(2022, 3, 9), XNYS))
