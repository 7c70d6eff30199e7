"""Adjusted closes: by hand, as of any day, and over any panel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.market_data.adjust import adjusted_closes, session_factors, spin_off_worths
from octopus.market_data.returns import total_returns

NONE = float("nan")


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def panel(seed: int, length: int = 60, count: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Printed closes with holes, splits and dividends."""
    generator = np.random.default_rng(seed)
    split = np.where(generator.random((length, count)) < 0.03, generator.choice([2.0, 0.1, 1.5], (length, count)), 1.0)
    close = 80 * np.exp(np.cumsum(generator.normal(scale=0.02, size=split.shape), axis=0)) / np.cumprod(split, axis=0)
    dividend = np.where(generator.random(split.shape) < 0.05, 0.01 * close, 0.0)
    return np.where(generator.random(split.shape) < 0.1, NONE, close), split, dividend


def test_the_vendors_own_example() -> None:
    """The example of Yahoo's help page SLN28256: a 2:1 split on the third day, 0.08 on the sixth."""
    close = column(46.99, 48.30, 24.96, 24.91, 24.95, 24.53, 24.54)
    split = column(1, 1, 2, 1, 1, 1, 1)
    dividend = column(0, 0, 0, 0, 0, 0.08, 0)
    adjusted = adjusted_closes(close, split, dividend)
    factor = 1 - 0.08 / 24.95
    np.testing.assert_allclose(adjusted[:3, 0], [46.99 / 2 * factor, 48.30 / 2 * factor, 24.96 * factor])
    assert np.round(adjusted[:, 0], 2).tolist() == [23.42, 24.07, 24.88, 24.83, 24.87, 24.53, 24.54]
    assert adjusted_closes(close, split)[:3, 0].tolist() == [46.99 / 2, 48.30 / 2, 24.96]


def test_cash_on_a_split_day_is_told_for_the_new_share() -> None:
    """1 on each of two new shares that were one of 100: two percent."""
    factors = session_factors(column(100, 49), column(1, 2), column(0, 1))
    assert factors[:, 0].tolist() == pytest.approx([1, 0.98 / 2])


def test_actions_between_two_bars() -> None:
    """5 paid on the old share of 100, and then a split, before the next bar."""
    close = column(100, NONE, NONE, 47)
    adjusted = adjusted_closes(close, column(1, 1, 2, 1), column(0, 5, 0, 0))
    np.testing.assert_allclose(adjusted[:, 0], [47.5, NONE, NONE, 47])


def test_a_payment_before_the_first_bar_changes_nothing_and_one_of_the_whole_price_hides_the_past() -> None:
    first = adjusted_closes(column(NONE, 10, 11), column(1, 1, 1), column(3, 0, 0))
    np.testing.assert_allclose(first[:, 0], [NONE, 10, 11])
    whole = adjusted_closes(column(10, 10, 1, 1), column(1, 1, 1, 1), column(0, 0, 10, 0))
    np.testing.assert_allclose(whole[:, 0], [NONE, NONE, 1, 1])
    before = adjusted_closes(column(10, 10, 1, 1), column(1, 1, 1, 1), column(0, 0, 10, 0), as_of_row=1)
    np.testing.assert_allclose(before[:, 0], [10, 10, NONE, NONE])


def test_a_spin_off_counts_with_the_first_close_of_the_new_company() -> None:
    """A quarter of a share that first closes at 20 leaves 100 at 95; the company trades two days late."""
    close = np.array([[100.0, NONE], [96.0, NONE], [95.0, 20.0], [97.0, 30.0]])
    ratio = np.zeros((4, 2))
    ratio[1, 0] = 0.25
    company = np.full((4, 2), -1)
    company[1, 0] = 1
    sessions = np.array(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"], dtype="datetime64[D]")
    worth = spin_off_worths(close, ratio, company, sessions)
    assert worth.tolist() == [[0, 0], [5, 0], [0, 0], [0, 0]]
    ones = np.ones((4, 2))
    adjusted = adjusted_closes(close, ones, spin_off=worth)
    np.testing.assert_allclose(adjusted[:, 0], [95, 96, 95, 97])
    returns = total_returns(close, ones, np.zeros((4, 2)), worth)
    np.testing.assert_allclose(returns[:, 0], [NONE, 0.01, 95 / 96 - 1, 97 / 95 - 1])
    # Two weeks later is too late.
    apart = sessions + np.array([0, 0, 14, 14]) * np.timedelta64(1, "D")
    unknown = spin_off_worths(close, ratio, company, apart)
    assert np.isnan(unknown[1, 0])
    np.testing.assert_allclose(adjusted_closes(close, ones, spin_off=unknown)[:, 0], [NONE, 96, 95, 97])
    np.testing.assert_allclose(
        total_returns(close, ones, np.zeros((4, 2)), unknown)[:, 0], [NONE, NONE, 95 / 96 - 1, 97 / 95 - 1]
    )
    nobody = spin_off_worths(close, ratio, np.full((4, 2), -1), sessions)
    np.testing.assert_array_equal(nobody, unknown)


def test_what_was_spun_off_between_two_bars_counts_at_the_next_one() -> None:
    """5 a share, then a split in two, then the next bar at 48: 96 and 5 for what was 100."""
    close, split = column(100, NONE, NONE, 48), column(1, 1, 2, 1)
    returns = total_returns(close, split, column(0, 0, 0, 0), column(0, 5, 0, 0))
    np.testing.assert_allclose(returns[:, 0], [NONE, NONE, NONE, 0.01])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), row=st.integers(0, 59))
def test_as_of_a_day_is_what_was_computed_on_that_day(seed: int, row: int) -> None:
    """Rows after it, actions and prices alike, change nothing."""
    close, split, dividend = panel(seed)
    then = adjusted_closes(close[: row + 1], split[: row + 1], dividend[: row + 1])
    now = adjusted_closes(close, split, dividend, as_of_row=row)
    np.testing.assert_allclose(now[: row + 1], then, rtol=1e-12)
    assert np.isnan(now[row + 1 :]).all()
    np.testing.assert_array_equal(now[row], close[row])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_each_close_may_have_its_own_day(seed: int) -> None:
    close, split, dividend = panel(seed)
    rows = np.random.default_rng(seed).integers(0, len(close), close.shape)
    mixed = adjusted_closes(close, split, dividend, as_of_row=rows)
    for row in np.unique(rows):
        alone = adjusted_closes(close, split, dividend, as_of_row=int(row))
        np.testing.assert_allclose(mixed[rows == row], alone[rows == row], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_adjusted_closes_move_like_total_returns(seed: int) -> None:
    """Exactly over splits; over a payment, in cash or shares, up to its yield times the day's move."""
    close, split, paid = panel(seed)
    paid = np.where(np.isnan(close), 0.0, paid)
    in_shares = np.random.default_rng(seed).random(paid.shape) < 0.5
    spin_off, cash = np.where(in_shares, paid, 0.0), np.where(in_shares, 0.0, paid)
    adjusted = adjusted_closes(close, split, cash, spin_off=spin_off)
    returns = total_returns(close, split, cash, spin_off)
    for name in range(close.shape[1]):
        bars = np.flatnonzero(~np.isnan(close[:, name]))
        moved = adjusted[bars[1:], name] / adjusted[bars[:-1], name] - 1
        gap = np.abs(moved - returns[bars[1:], name])
        ex = paid[bars[1:], name] > 0
        assert gap[~ex].max(initial=0.0) < 1e-12
        assert gap[ex].max(initial=0.0) < 0.0025
