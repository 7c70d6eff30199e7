"""Which bars and actions are refused, and that nothing is lost on the way."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.sessions import Sessions
from octopus.market_data.schema import ACTIONS_SCHEMA, BARS_SCHEMA
from octopus.market_data.stamps import stamp_actions, stamp_bars
from octopus.market_data.validate import validate_actions, validate_bars

XNYS = Sessions()
DAY = date(2022, 12, 27)
GOOD = {
    "source": "s", "instrument": "A", "session": DAY,
    "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 5.0,
}  # fmt: skip


def bars(*changes: dict[str, object]) -> pl.DataFrame:
    names = [name for name in BARS_SCHEMA if name not in ("ts", "known_at", "known_at_imputed")]
    return stamp_bars(
        pl.DataFrame([GOOD | change for change in changes], schema={n: BARS_SCHEMA[n] for n in names}), XNYS
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"close": None}, "close is missing"),
        ({"close": math.nan}, "close is missing"),
        ({"close": 0.0}, "close 0.0 is not a positive number"),
        ({"close": -1.0}, "close -1.0 is not a positive number"),
        ({"close": math.inf}, "close inf is not a positive number"),
        ({"open": 0.0}, "open 0.0 is not a positive number"),
        ({"high": 8.0}, "high 8.0 is below low 9.0"),
        ({"close": 11.1}, "close 11.1 lies outside the day's range 9.0 to 11.0"),
        ({"close": 8.9}, "close 8.9 lies outside the day's range 9.0 to 11.0"),
        ({"open": 12.0}, "open 12.0 lies outside the day's range 9.0 to 11.0"),
        ({"volume": -1.0}, "volume -1.0 is not a non-negative number"),
        ({"session": date(2022, 12, 26)}, "the session date 2022-12-26 is not a session of XNYS"),
        ({"session": date(2022, 12, 24)}, "the session date 2022-12-24 is not a session of XNYS"),
        ({"session": None}, "the session date is missing"),
        ({"instrument": ""}, "the instrument is missing"),
        ({"session": date(2022, 12, 28)}, "the session had not closed when the bar was fetched"),
    ],
)
def test_each_defect_has_its_reason(change, reason):
    good, rejects = validate_bars(bars({}, change), XNYS, now=datetime(2022, 12, 28, 15, tzinfo=UTC))
    assert good.height == 1
    (reject,) = rejects
    assert reject.reason == reason
    assert reject.table == "bars"
    json.dumps(dict(reject.payload), allow_nan=False)
    assert reject.payload["session"] == (str(shown) if (shown := (GOOD | change)["session"]) else None)


def test_what_a_source_does_not_have_is_no_defect():
    nothing = {"open": None, "high": None, "low": None, "volume": None}
    good, rejects = validate_bars(
        bars(nothing, {"instrument": "B", "open": math.nan, "high": math.nan, "low": math.nan}), XNYS
    )
    assert (good.height, rejects) == (2, [])


def test_a_rounded_close_may_lie_just_outside_the_range():
    good, rejects = validate_bars(bars({"close": 11.0005}), XNYS)
    assert (good.height, rejects) == (1, [])


def test_the_first_good_record_of_a_key_is_kept():
    good, rejects = validate_bars(bars({"close": None}, {"close": 10.0}, {"close": 10.9}), XNYS)
    assert good["close"].to_list() == [10.0]
    assert [reject.reason for reject in rejects] == [
        "close is missing",
        "a second record for the same (source, instrument, ts)",
    ]


def test_a_bar_known_before_its_close_is_refused():
    early = bars({}).with_columns(known_at=pl.col("ts") - timedelta(minutes=1))
    good, (reject,) = validate_bars(early, XNYS)
    assert good.is_empty()
    assert reject.reason == "known before it happened"


def test_no_bars_are_no_error():
    good, rejects = validate_bars(BARS_SCHEMA.to_frame(), XNYS)
    assert (good.schema, good.height, rejects) == (BARS_SCHEMA, 0, [])


numbers = st.none() | st.floats(width=32) | st.sampled_from([9.0, 10.0, 11.0])


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "session": st.sampled_from([DAY, date(2022, 12, 28), date(2022, 12, 25), None]),
                "open": numbers, "high": numbers, "low": numbers, "close": numbers, "volume": numbers,
            }
        ),
        max_size=8,
    )
)  # fmt: skip
def test_every_record_is_kept_or_rejected_and_what_is_kept_is_sound(rows):
    frame = bars(*rows) if rows else BARS_SCHEMA.to_frame()
    good, rejects = validate_bars(frame, XNYS)
    assert good.height + len(rejects) == len(rows)
    again, none = validate_bars(good, XNYS)
    assert again.equals(good)
    assert none == []
    assert good["close"].is_finite().all()
    assert (good["close"] > 0).all()
    assert not good.select("source", "instrument", "ts").is_duplicated().any()


def test_real_bars_with_real_defects(test_data: Path):
    """88 stocks, 2012 to 2017: the three rows without any number go to quarantine, and no sound bar does."""
    recorded = pl.read_parquet(test_data / "prices_stocknet.parquet")
    frame = recorded.select(
        source=pl.lit("stocknet"), instrument=pl.col("symbol"), session=pl.col("date").cast(pl.Date), open="open",
        high="high", low="low", close="close", volume=pl.col("volume").cast(pl.Float64),
    ).with_columns(pl.col("open", "high", "low", "close").cast(pl.Float64))  # fmt: skip
    good, rejects = validate_bars(stamp_bars(frame, XNYS), XNYS)
    missing = sorted((r.instrument, r.payload["session"]) for r in rejects if r.reason == "close is missing")
    assert missing == [("PTR", "2016-06-29"), ("REX", "2016-06-29"), ("SNP", "2016-06-29")]
    assert good.height + len(rejects) == recorded.height
    assert len(rejects) < 40


def actions(*rows: tuple[str, date | None, float | None]) -> pl.DataFrame:
    frame = pl.DataFrame(
        [{"source": "s", "instrument": "A", "session": day, "kind": kind, "value": value} for kind, day, value in rows],
        schema={name: ACTIONS_SCHEMA[name] for name in ("source", "instrument", "session", "kind", "value")},
    )
    return stamp_actions(frame, XNYS)


def test_actions():
    good, rejects = validate_actions(
        actions(
            ("split", DAY, 4.0), ("dividend", DAY, 0.5), ("split", DAY, 2.0), ("split", date(2022, 12, 28), 5000.0),
            ("dividend", date(2022, 12, 28), -1.0), ("dividend", date(2022, 12, 26), 1.0), ("merger", DAY, 1.0),
            ("dividend", date(2022, 12, 23), None),
        ),
        XNYS,
    )  # fmt: skip
    assert good.select("kind", "value").rows() == [("split", 4.0), ("dividend", 0.5)]
    assert good["ts"].to_list() == [XNYS.open_utc(DAY)] * 2
    assert [reject.reason for reject in rejects] == [
        "a second record for the same (source, instrument, ts, kind)",
        "split ratio 5000.0 is beyond 1:1000 or 1000:1",
        "dividend of -1.0 is not a positive number",
        "the ex-date 2022-12-26 is not a session of XNYS",
        "kind merger is none of split, dividend, spin_off, symbol_change, delisting",
        "dividend of nothing is not a positive number",
    ]
