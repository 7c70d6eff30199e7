"""Loss measures against hand calculations, published series and their own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octopus.risk.measures import (
    InsufficientHistoryError,
    InvalidReturnsError,
    historical_cvar,
    historical_var,
    max_drawdown,
    portfolio_returns,
    volatility_annual,
)

# empyrical's `mixed_returns` without its leading NaN: volatility .9136465, max drawdown -.1.
MIXED = np.array([1.0, 10.0, -4.0, 2.0, 3.0, 2.0, 1.0, -10.0]) / 100

daily = st.floats(-0.2, 0.2, allow_nan=False)
histories = arrays(np.float64, st.integers(20, 120), elements=daily)


def test_var_is_a_loss_that_happened() -> None:
    returns = np.array([0.01] * 18 + [-0.07, -0.03])
    assert historical_var(returns, 0.95) == 0.07  # the worst of 20, not the second worst
    assert historical_var(np.concatenate([returns, returns]), 0.95) == 0.07
    assert historical_var(returns, 0.90) == 0.03


def test_var_of_a_hundred_days_is_the_fifth_worst() -> None:
    returns = np.arange(-50, 50) / 1000
    assert historical_var(np.random.default_rng(1).permutation(returns), 0.95) == 0.046


def test_var_agrees_with_numpys_inverted_cdf_off_the_grid() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, 507)
    assert historical_var(returns, 0.95) == -float(np.quantile(returns, 0.05, method="inverted_cdf"))


def test_var_of_gains_is_zero() -> None:
    assert historical_var(np.full(30, 0.01)) == 0.0
    assert historical_cvar(np.full(30, 0.01)) == 0.0


def test_cvar_counts_the_last_day_in_part() -> None:
    returns = np.array([-0.10, -0.04] + [0.0] * 28)  # 5 % of 30 days are a day and a half
    assert historical_cvar(returns, 0.95) == pytest.approx((0.10 + 0.5 * 0.04) / 1.5)


@given(returns=histories)
def test_cvar_is_never_below_var(returns: np.ndarray) -> None:
    assert historical_cvar(returns) >= historical_var(returns) - 1e-15


@given(returns=histories)
def test_var_never_falls_when_a_worse_day_is_added(returns: np.ndarray) -> None:
    worse = np.append(returns, returns.min() - 0.01)
    assert historical_var(worse) >= historical_var(returns)


@given(returns=histories)
def test_var_is_one_of_the_losses_or_zero(returns: np.ndarray) -> None:
    value = historical_var(returns)
    assert value == 0.0 or value in -returns


def test_volatility_matches_the_published_series() -> None:
    assert volatility_annual(MIXED) == pytest.approx(0.9136465, abs=1e-7)


def test_max_drawdown_matches_the_published_series_and_counts_the_start() -> None:
    assert max_drawdown(MIXED) == pytest.approx(0.1)
    assert max_drawdown(np.array([-0.5, 0.1])) == 0.5


@given(returns=histories, scale=st.floats(0.1, 3))
def test_volatility_is_homogeneous(returns: np.ndarray, scale: float) -> None:
    assert volatility_annual(scale * returns) == pytest.approx(scale * volatility_annual(returns), rel=1e-9, abs=1e-12)


def test_portfolio_returns_ignore_what_is_not_held() -> None:
    returns = np.array([[0.01, np.nan], [0.02, 0.5]])
    np.testing.assert_allclose(portfolio_returns(np.array([0.5, 0.0]), returns), [0.005, 0.01])


def test_a_hole_is_named_with_its_row() -> None:
    with pytest.raises(InvalidReturnsError, match=r"1 of 2 returns .* first in row 0"):
        portfolio_returns(np.array([0.5, 0.5]), np.array([[0.01, np.nan], [0.02, 0.5]]))
    with pytest.raises(InvalidReturnsError, match="one weight for each column"):
        portfolio_returns(np.ones(3), np.ones((5, 2)))


def test_too_short_a_history_says_how_many_days_are_needed() -> None:
    with pytest.raises(InsufficientHistoryError, match="19 returns, but 20 are needed"):
        historical_var(np.zeros(19), 0.95)
    with pytest.raises(InsufficientHistoryError, match="100 are needed"):
        historical_var(np.zeros(99), 0.99)
    with pytest.raises(InsufficientHistoryError):
        volatility_annual(np.zeros(1))


def test_a_wrong_level_is_refused() -> None:
    for level in (0.05, 1.0, math.nan):
        with pytest.raises(InvalidReturnsError, match="is not a confidence"):
            historical_var(np.zeros(50), level)
