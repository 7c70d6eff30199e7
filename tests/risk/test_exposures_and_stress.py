"""Components, exposures and scenarios: sums that must hold, and portfolios small enough to check by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octopus.risk.components import cvar_components, var_components, volatility_components
from octopus.risk.exposures import betas, concentration, factor_exposures, liquidity, sector_exposures
from octopus.risk.measures import (
    InsufficientHistoryError,
    InvalidReturnsError,
    historical_cvar,
    historical_var,
    portfolio_returns,
    volatility_annual,
)
from octopus.risk.stress import StressShock, StressWindow, historical_stress, shock_stress

NAMES = ("AAA", "BBB", "CCC")
weights_of_four = arrays(np.float64, 4, elements=st.floats(-1, 1).map(lambda w: round(w, 3)))
histories = arrays(np.float64, (61, 4), elements=st.floats(-0.15, 0.15).map(lambda r: round(r, 4)))


@settings(max_examples=150)
@given(weights=weights_of_four, returns=histories, level=st.sampled_from([0.9, 0.95]))
def test_components_sum_to_the_whole(weights: np.ndarray, returns: np.ndarray, level: float) -> None:
    portfolio = portfolio_returns(weights, returns)
    volatility = volatility_components(weights, returns)
    assert volatility.total == pytest.approx(volatility_annual(portfolio), abs=1e-12)
    assert volatility.component.sum() == pytest.approx(volatility.total, abs=1e-9)
    for parts, whole in (
        (var_components(weights, returns, level), historical_var(portfolio, level)),
        (cvar_components(weights, returns, level), historical_cvar(portfolio, level)),
    ):
        assert parts.component.sum() == pytest.approx(parts.total, abs=1e-12)
        assert max(0.0, parts.total) == pytest.approx(whole, abs=1e-12)
        np.testing.assert_allclose(parts.component, weights * parts.marginal, atol=1e-15)


@pytest.mark.parametrize("measure", [volatility_components, var_components, cvar_components])
def test_a_marginal_is_the_derivative(measure: object) -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, (400, 3))
    weights = np.array([0.5, 0.3, -0.2])
    parts = measure(weights, returns)  # type: ignore[operator]
    for name in range(3):
        step = np.zeros(3)
        step[name] = 1e-7
        moved = measure(weights + step, returns).total - measure(weights - step, returns).total  # type: ignore[operator]
        assert moved / 2e-7 == pytest.approx(parts.marginal[name], rel=1e-4, abs=1e-6)


def test_an_absent_name_may_lack_returns() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, (60, 2))
    returns[5, 1] = np.nan
    for measure in (volatility_components, var_components, cvar_components):
        assert measure(np.array([1.0, 0.0]), returns).component[1] == 0
        with pytest.raises(InvalidReturnsError):
            measure(np.array([1.0, 0.1]), returns)


def test_betas_are_least_squares_over_the_days_there_are() -> None:
    generator = np.random.default_rng(4)
    market = generator.normal(0, 0.01, 300)
    returns = np.outer(market, [1.0, 2.0, 0.5, 1.0]) + generator.normal(0, 0.002, (300, 4))
    returns[:200, 2] = np.nan
    returns[:290, 3] = np.nan
    found = betas(returns, market)
    for name, first in ((0, 0), (1, 0), (2, 200)):
        assert found[name] == pytest.approx(np.polyfit(market[first:], returns[first:, name], 1)[0])
    assert np.isnan(found[3])
    with pytest.raises(InvalidReturnsError, match="market"):
        betas(returns, np.append(market[1:], np.nan))


def test_factors_explain_what_they_were_made_of() -> None:
    generator = np.random.default_rng(6)
    common = generator.normal(0, 0.02, 800)
    returns = np.outer(common, [1.0, 0.8, 1.2, 0.9]) + generator.normal(0, 0.002, (800, 4))
    weights = np.full(4, 0.25)
    found = factor_exposures(weights, returns, count=2)
    assert found.variance_shares[0] > 0.98
    assert found.exposures[0] == pytest.approx(np.std(returns @ weights, ddof=1), rel=0.01)
    complete = factor_exposures(weights, returns, count=4)
    assert complete.variance_shares.sum() == pytest.approx(1)
    assert complete.specific_share == pytest.approx(0, abs=1e-9)
    with pytest.raises(InsufficientHistoryError):
        factor_exposures(weights, returns, count=5)


def test_sectors_add_up_and_the_unknown_is_said() -> None:
    found = sector_exposures(np.array([0.3, -0.1, 0.2]), NAMES, {"AAA": "tech", "BBB": "tech"})
    assert [(e.sector, round(e.gross, 10), round(e.net, 10)) for e in found] == [
        ("tech", 0.4, 0.2), ("unknown", 0.2, 0.2),
    ]  # fmt: skip


@given(weights=weights_of_four.filter(lambda w: np.abs(w).sum() > 0))
def test_concentration_lies_between_equal_and_single(weights: np.ndarray) -> None:
    found = concentration(weights, top_count=2)
    held = int((weights != 0).sum())
    assert 1 / held - 1e-9 <= found.hhi <= 1 + 1e-9
    assert found.effective_names == pytest.approx(1 / found.hhi)
    assert min(1, 2 / held) - 1e-9 <= found.top <= 1 + 1e-9


def test_concentration_of_equal_names_and_of_nothing() -> None:
    assert concentration(np.full(10, -0.1)).effective_names == pytest.approx(10)
    assert concentration(np.zeros(3)).hhi == 0


def test_days_to_liquidate_by_hand() -> None:
    found = liquidity(np.array([1000, -500, 0]), np.array([10.0, 10.0, 5.0]), np.array([1000.0, 5000, np.nan]), 0.1)
    np.testing.assert_allclose(found.days, [10, 1, 0])
    assert found.days_all == 10
    # Of 15,000: after one day 1,000 + 5,000; then 1,000 a day, 14,250 after 9.25 days.
    assert found.days_95 == pytest.approx(9.25)
    unknown = liquidity(np.array([1000, 1]), np.array([10.0, 10.0]), np.array([1000.0, np.nan]), 0.1)
    assert unknown.days_all == float("inf")
    assert unknown.days_95 == pytest.approx(0.95 * 10_010 / 1000)
    blind = liquidity(np.array([1000, 1]), np.array([10.0, 10.0]), np.array([0.0, 10.0]), 0.1)
    assert blind.days_95 == float("inf")
    with pytest.raises(InvalidReturnsError, match="participation"):
        liquidity(np.zeros(1), np.ones(1), np.ones(1), 0.0)


# Stress --------------------------------------------------------------------------------------------------------------

DAYS = np.arange("2020-02-01", "2020-02-11", dtype="datetime64[D]")
WINDOW = StressWindow(start=date(2020, 2, 3), end=date(2020, 2, 5))


def history() -> np.ndarray:
    returns = np.full((10, 3), 0.01)
    returns[2:5, 0] = [-0.5, 0.2, 0.1]
    returns[2:5, 1] = [0.1, -0.1, 0.0]
    returns[3, 2] = np.nan
    return returns


def test_a_window_compounds_todays_shares_and_names_what_it_does_not_know() -> None:
    found = historical_stress("crash", WINDOW, np.array([0.4, 0.2, 0.1]), NAMES, DAYS, history())
    assert found.by_name == pytest.approx([0.4 * 0.34, 0.2 * 0.01, 0])
    assert found.loss == pytest.approx(0.138)
    assert found.worst == pytest.approx(0.4 * 0.5 - 0.2 * 0.1)  # after the first day
    assert found.uncovered == ("CCC",)


def test_a_window_before_the_history_tells_nothing() -> None:
    early = StressWindow(start=date(2020, 1, 30), end=date(2020, 2, 5))
    found = historical_stress("early", early, np.array([0.4, 0.0, 0.0]), NAMES, DAYS, history())
    assert np.isnan(found.loss)
    assert found.uncovered == ("AAA",)
    nothing = historical_stress("none", WINDOW, np.zeros(3), NAMES, DAYS, history())
    assert nothing.loss == 0


def test_a_window_that_goes_on_after_the_history_tells_nothing() -> None:
    """What was lost until now would stand there as the loss of the whole of it."""
    held = np.array([0.4, 0.2, 0.0])
    for end, known in ((date(2020, 2, 10), True), (date(2020, 2, 11), False), (date(2020, 10, 12), False)):
        running = StressWindow(start=date(2020, 2, 3), end=end)
        found = historical_stress("running", running, held, NAMES, DAYS, history())
        assert np.isfinite(found.loss) == known
        assert found.uncovered == (() if known else ("AAA", "BBB"))
    over_with_friday = StressWindow(start=date(2020, 2, 3), end=date(2020, 2, 9))
    found = historical_stress("weekend", over_with_friday, held, NAMES, DAYS[:7], history()[:7])
    assert np.isfinite(found.loss)


def test_the_most_particular_shock_rules() -> None:
    shock = StressShock(market=-0.1, sectors={"tech": -0.3}, instruments={"AAA": 0.05})
    sectors, beta = {"AAA": "tech", "BBB": "tech"}, np.array([1.0, 1.0, 1.5])
    found = shock_stress("mixed", shock, np.array([0.2, 0.3, 0.4]), NAMES, sectors, beta)
    assert found.by_name == pytest.approx([-0.01, 0.09, 0.06])
    assert found.loss == pytest.approx(0.14)
    unknown = shock_stress("m", shock, np.array([0.2, 0.3, 0.4]), NAMES, {}, np.array([1.0, np.nan, 1.5]))
    assert unknown.uncovered == ("BBB",)


def test_scenarios_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="swap them"):
        StressWindow(start=date(2020, 2, 2), end=date(2020, 2, 1))
    with pytest.raises(ValueError, match="a shock of nothing"):
        StressShock()
    with pytest.raises(ValueError, match="greater than or equal to -1"):
        StressShock(market=-1.5)
