"""Coins and currency pairs beside shares: what each was when the clock decided, and nothing later."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.clock import last_on_clock, on_clock, place_on_clock
from octopus.market_data.returns import total_returns
from octopus.market_data.stamps import BAR_PUBLICATION_DELAY

XNYS, COINS, PAIRS = Sessions("XNYS"), Sessions("24/7"), Sessions("24/5")
MIXED = Calendars(XNYS, {"BTC": "24/7", "EURUSD": "24/5", "KO": "XNYS"})
THURSDAY, FRIDAY, MONDAY, TUESDAY = (date(2022, 12, day) for day in (8, 9, 12, 13))


def bars_of(name: str, days: np.ndarray, seed: int = 1, **changes: object) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(scale=0.03, size=len(days))))
    opening = close * np.exp(generator.normal(scale=0.01, size=len(days)))
    return pl.DataFrame(
        {
            "instrument": [name] * len(days), "session": days.astype("datetime64[D]"), "open": opening,
            "high": np.maximum(opening, close) * 1.01, "low": np.minimum(opening, close) * 0.99, "close": close,
            "volume": generator.integers(1, 9, len(days)).astype(float), "split_ratio": 1.0, "dividend": 0.0,
        }
    ).with_columns(pl.col("session").cast(pl.Date)).with_columns(**changes)  # fmt: skip


def by_day(frame: pl.DataFrame, name: str) -> dict[date, dict[str, float]]:
    return {row["session"]: row for row in frame.filter(pl.col("instrument") == name).to_dicts()}


def test_a_coin_is_at_each_session_its_last_day_that_had_ended() -> None:
    bars = bars_of("BTC", COINS.between(date(2022, 12, 1), date(2022, 12, 14)))
    day, found = by_day(bars, "BTC"), by_day(on_clock(bars, MIXED, TUESDAY), "BTC")
    assert found[FRIDAY]["close"] == day[THURSDAY]["close"], "Friday ends three hours after the decision in New York"
    assert found[MONDAY]["close"] == day[date(2022, 12, 11)]["close"]
    assert found[TUESDAY]["close"] == day[MONDAY]["close"]
    assert max(found) == TUESDAY, "Wednesday is not decided, whatever is known"
    weekend = [day[date(2022, 12, number)] for number in (9, 10, 11)]
    assert found[MONDAY]["high"] == max(one["high"] for one in weekend)
    assert found[MONDAY]["low"] == min(one["low"] for one in weekend)
    assert found[MONDAY]["volume"] == sum(one["volume"] for one in weekend)
    # New York opens after the coin's day ended: that is the last price before an order for the open executes.
    assert found[MONDAY]["open"] == found[MONDAY]["close"]


def test_shares_keep_their_rows_and_a_clock_of_coins_keeps_all() -> None:
    shares = bars_of("KO", XNYS.between(date(2022, 12, 1), date(2022, 12, 14)))
    assert_frame_equal(on_clock(shares, MIXED, TUESDAY), shares)
    coins = bars_of("BTC", COINS.between(date(2022, 12, 1), date(2022, 12, 14)))
    assert on_clock(coins, Calendars(COINS, {"BTC": "24/7"}), TUESDAY) is coins


def test_who_reads_closes_and_actions_alone_gets_those_of_whole_bars() -> None:
    days = COINS.between(date(2022, 12, 1), date(2022, 12, 14))
    bars = bars_of("BTC", days, split_ratio=pl.Series(np.where(np.arange(len(days)) == 9, 2.0, 1.0)))
    bars = pl.concat([bars, bars_of("KO", XNYS.between(date(2022, 12, 1), date(2022, 12, 14)))])
    alone = [*bars.columns[:2], "close", "split_ratio", "dividend"]
    assert_frame_equal(on_clock(bars.select(alone), MIXED, TUESDAY), on_clock(bars, MIXED, TUESDAY).select(alone))


def test_a_currency_pair_is_a_day_behind_the_shares_beside_it() -> None:
    bars = bars_of("EURUSD", PAIRS.between(date(2022, 12, 1), date(2022, 12, 14)), volume=pl.lit(None, pl.Float64))
    day, found = by_day(bars, "EURUSD"), by_day(on_clock(bars, MIXED, TUESDAY), "EURUSD")
    assert found[MONDAY]["close"] == day[FRIDAY]["close"]
    assert found[TUESDAY]["close"] == day[MONDAY]["close"]
    assert found[TUESDAY]["volume"] is None


def test_an_exchange_that_opens_before_the_clock_does_executes_at_its_open() -> None:
    """London opens at 08:00 and closes at 16:30: its open is after the decision before, its close after the open."""
    bars = bars_of("VOD", Sessions("XLON").between(date(2022, 12, 1), date(2022, 12, 13)))
    found = by_day(on_clock(bars, Calendars(XNYS, {"VOD": "XLON"}), TUESDAY), "VOD")
    for day, row in by_day(bars, "VOD").items():
        assert (found[day]["open"], found[day]["close"]) == (row["open"], row["close"])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_return_between_two_sessions_is_the_whole_move_splits_and_payments_included(seed: int) -> None:
    """Against the product of the coin's own daily returns, with dividends reinvested on the day they are paid."""
    generator = np.random.default_rng(seed)
    days = COINS.between(date(2022, 11, 21), date(2022, 12, 13))
    split = np.where(generator.random(len(days)) < 0.2, generator.choice([2.0, 0.5, 10.0], len(days)), 1.0)
    bars = bars_of("BTC", days, seed, split_ratio=pl.Series(split))
    own = total_returns(*(bars[name].to_numpy()[:, None] for name in ("close", "split_ratio", "dividend")))[:, 0]
    found = on_clock(bars, MIXED, TUESDAY)
    ours = total_returns(*(found[name].to_numpy()[:, None] for name in ("close", "split_ratio", "dividend")))[:, 0]
    places = np.array([place_on_clock(day, COINS, XNYS) for day in bars["session"]])
    for row, session in enumerate(found["session"].to_list()[1:], start=1):
        assert ours[row] == pytest.approx(np.prod(1 + own[places == session]) - 1)


def test_cash_paid_on_a_weekend_reaches_the_return_of_monday() -> None:
    bars = bars_of("BTC", COINS.between(THURSDAY, date(2022, 12, 11)))
    bars = bars.with_columns(
        close=pl.Series([100.0, 100.0, 49.0, 49.0]), split_ratio=pl.Series([1.0, 1.0, 2.0, 1.0]),
        dividend=pl.Series([0.0, 4.0, 1.0, 0.0]),
    )  # fmt: skip
    found = on_clock(bars, MIXED, TUESDAY)
    (_, move) = total_returns(*(found[name].to_numpy()[:, None] for name in ("close", "split_ratio", "dividend")))[:, 0]
    # One coin of 100 pays 4, becomes two of 49 that pay 1 each.
    assert move == pytest.approx((4 + 2 * 49 + 2 * 1) / 100 - 1)


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(5, 58), seed=st.integers(0, 2**32 - 1))
def test_cutting_off_what_is_known_later_changes_no_session_before(cut: int, seed: int) -> None:
    first, last = date(2022, 10, 31), date(2023, 1, 31)
    calendars = {"BTC": COINS, "EURUSD": PAIRS, "KO": XNYS}
    bars = pl.concat([bars_of(name, own.between(first, last), seed) for name, own in calendars.items()])
    bars = bars.filter(pl.Series(np.random.default_rng(seed).random(len(bars)) > 0.1))
    whole = on_clock(bars, MIXED, XNYS.previous(last))
    session = XNYS.next(first, cut)
    known = bars.filter(
        pl.Series(
            [
                calendars[name].close_utc(day) + BAR_PUBLICATION_DELAY <= XNYS.decision_utc(session)
                for name, day in bars.select("instrument", "session").iter_rows()
            ]
        )
    )
    then = on_clock(known, MIXED, session)
    assert_frame_equal(
        then.sort("instrument", "session"), whole.filter(pl.col("session") <= session).sort("instrument", "session")
    )
    assert then.filter(pl.col("session") > session).is_empty()


@settings(max_examples=50, deadline=None)
@given(days=st.integers(0, 9000))
@pytest.mark.parametrize("own", [COINS, PAIRS, Sessions("XTKS")])
def test_a_bar_is_at_no_session_whose_decision_was_before_its_end(own: Sessions, days: int) -> None:
    session = own.next(date(2000, 1, 1) + timedelta(days=days))
    place = place_on_clock(session, own, XNYS)
    published = own.close_utc(session) + BAR_PUBLICATION_DELAY
    assert XNYS.decision_utc(XNYS.previous(place)) < published <= XNYS.decision_utc(place)
    last = last_on_clock(place, own, XNYS)
    assert last >= session
    assert place_on_clock(last, own, XNYS) == place
    assert place_on_clock(own.next(last), own, XNYS) > place


def test_no_open_is_told_that_was_made_before_the_decision_or_after_the_clocks_open() -> None:
    """Tokyo's day ends before New York opens; on a clock in Tokyo a share of New York has no such price."""
    found = on_clock(
        bars_of("KO", XNYS.between(date(2022, 12, 5), date(2022, 12, 13))),
        Calendars(Sessions("XTKS"), {"KO": "XNYS"}), TUESDAY,
    )  # fmt: skip
    row = by_day(found, "KO")[TUESDAY]
    # Monday's close in New York, 21:00 UTC, comes before Tokyo's Tuesday opens at 00:00.
    assert row["open"] == row["close"]
    assert XNYS.close_utc(MONDAY) == datetime(2022, 12, 12, 21, tzinfo=UTC)
    us_futures = Calendars(XNYS, {"ES": "us_futures"})
    mixed = on_clock(bars_of("ES", Sessions("us_futures").between(date(2022, 12, 5), TUESDAY)), us_futures, TUESDAY)
    assert set(mixed["session"].to_list()) <= set(XNYS.between(date(2022, 12, 5), TUESDAY).tolist())
