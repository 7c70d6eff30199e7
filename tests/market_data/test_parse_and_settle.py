"""Reading texts without losing any, and the way from what was read to what is delivered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.sessions import Sessions
from octopus.market_data.parse import read_fields, records_frame
from octopus.market_data.schema import ACTIONS_SCHEMA, ADJUSTED_SCHEMA, BARS_SCHEMA, INSTRUMENTS_SCHEMA
from octopus.market_data.settle import settle_actions, settle_bars
from octopus.market_data.stamps import finished, undated_listing
from octopus.market_data.validate import validate_instruments

XNYS = Sessions()
DAY = date(2022, 12, 27)


@pytest.mark.parametrize(
    ("field", "kind", "text", "value"),
    [
        ("n", "numbers", " 1.5 ", 1.5),
        ("n", "numbers", "1e-9", 1e-9),
        ("n", "numbers", "", None),
        ("n", "numbers", "nan", "refused"),
        ("n", "numbers", "1,5", "refused"),
        ("d", "days", "2022-12-27", DAY),
        ("d", "days", "2022-12-27 00:00:00", DAY),
        ("d", "days", "27/12/2022", "refused"),
        ("d", "days", "2022-12-271", "refused"),
        ("d", "days", "2022-02-30", "refused"),
        ("i", "instants", "2022-12-27T21:15:00Z", datetime(2022, 12, 27, 21, 15, tzinfo=UTC)),
        ("i", "instants", "2022-12-27 16:15-05:00", datetime(2022, 12, 27, 21, 15, tzinfo=UTC)),
        ("i", "instants", "2022-12-27T21:15:00.25+0000", datetime(2022, 12, 27, 21, 15, 0, 250_000, tzinfo=UTC)),
        ("i", "instants", "2022-12-27T21:15:00", "refused"),
        ("i", "instants", "2022-12-27", "refused"),
    ],
)
def test_what_is_read_and_what_is_refused(field, kind, text, value):
    frame = pl.DataFrame({"instrument": ["A"], field: [text]})
    good, rejects = read_fields(frame, table="bars", **{kind: [field]})
    if value == "refused":
        assert good.is_empty()
        assert f"{field} {text} is not" in rejects[0].reason
        assert rejects[0].payload[field] == text
    else:
        assert good[field].to_list() == [value]
        assert rejects == []


@given(st.lists(st.one_of(st.none(), st.text(max_size=6), st.floats(), st.integers(), st.booleans()), max_size=6))
def test_every_record_is_read_or_refused_and_numbers_keep_their_digits(values):
    frame = records_frame(({"n": value} for value in values), ["n"]).with_columns(instrument=pl.lit("A"))
    good, rejects = read_fields(frame, table="bars", numbers=["n"], required=["n"])
    assert good.height + len(rejects) == len(values)
    exact = [value for value in values if isinstance(value, float) and value == value]
    assert set(exact) <= set(good["n"].to_list())


def bars(*rows: tuple[date | None, float, float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"source": "s", "instrument": "A", "session": day, "open": close, "high": close, "low": close,
             "close": close, "volume": 1.0, "adj_close": adjusted}
            for day, close, adjusted in rows
        ],
        schema={**{name: BARS_SCHEMA[name] for name in
                   ("source", "instrument", "session", "open", "high", "low", "close", "volume")},
                "adj_close": pl.Float64()},
    )  # fmt: skip


def test_the_adjusted_close_follows_its_bar():
    now = datetime(2023, 1, 3, tzinfo=UTC)
    frame = bars((date(2022, 12, 28), 2.0, 1.0), (DAY, -1.0, 5.0), (DAY, 3.0, None), (None, 4.0, 4.0))
    settled = settle_bars([frame], DAY, date(2022, 12, 30), XNYS, now)
    assert (settled.bars.schema, settled.adjusted.schema) == (BARS_SCHEMA, ADJUSTED_SCHEMA)
    assert settled.bars["session"].to_list() == [DAY, date(2022, 12, 28)]
    assert settled.adjusted.select("session", "adj_close", "known_at").rows() == [(date(2022, 12, 28), 1.0, now)]
    assert sorted(reject.reason for reject in settled.rejects) == [
        "close -1.0 is not a positive number", "the session date is missing",
    ]  # fmt: skip


def test_nothing_settles_to_empty_frames():
    now = datetime(2023, 1, 3, tzinfo=UTC)
    settled = settle_bars([], DAY, DAY, XNYS, now)
    actions, rejects = settle_actions([], DAY, DAY, XNYS)
    assert (settled.bars.schema, settled.adjusted.schema, actions.schema) == (
        BARS_SCHEMA, ADJUSTED_SCHEMA, ACTIONS_SCHEMA,
    )  # fmt: skip
    assert (settled.rejects, rejects) == ([], [])


@pytest.mark.parametrize("exchange", ["XNYS", "24/7", "24/5"])
def test_only_what_is_not_published_yet_is_left_out(exchange):
    """In the first quarter of an hour of a coin's day that is two days: yesterday's bar and today's running price."""
    sessions = Sessions(exchange)
    days = [date(2022, 12, 27), date(2022, 12, 28), date(2022, 12, 29), date(2022, 12, 30)]
    published = sessions.close_utc(days[1]) + timedelta(minutes=15)
    frame = pl.DataFrame({"session": [*days, None]})
    kept = [
        finished(frame, sessions, published + timedelta(microseconds=late))["session"].to_list() for late in (-1, 0)
    ]
    early = [days[0], days[3], None] if sessions.continuous else [days[0], *days[2:], None]
    assert kept == [early, [days[0], days[1], days[3], None]]


def test_an_undated_instrument_begins_with_its_calendar():
    assert undated_listing(XNYS) == datetime(1990, 1, 2, 14, 30, tzinfo=UTC)
    assert undated_listing(Sessions("24/7")) == datetime(1990, 1, 2, tzinfo=UTC)


def test_a_sound_instrument_and_one_without_currency():
    row = {
        "source": "s", "instrument": "A", "ts": undated_listing(XNYS), "exchange": "XNYS", "currency": "USD",
        "asset_class": "equity", "price_basis": "raw", "lot_size": 1.0, "known_at": undated_listing(XNYS),
    }  # fmt: skip
    frame = pl.DataFrame([row, row | {"instrument": "B", "currency": ""}, row], schema=INSTRUMENTS_SCHEMA)
    good, rejects = validate_instruments(frame)
    assert good["instrument"].to_list() == ["A"]
    assert [reject.reason for reject in rejects] == [
        "currency is missing", "a second record for the same (source, instrument, ts)",
    ]  # fmt: skip
