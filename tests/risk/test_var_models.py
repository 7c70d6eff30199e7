"""VaR models and their backtests against published tables, SciPy and their own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from octopus.risk.measures import (
    InsufficientHistoryError,
    InvalidReturnsError,
    historical_cvar,
    historical_cvar_each,
    historical_var,
    historical_var_each,
    volatility_annual,
    volatility_annual_each,
)
from octopus.risk.var_backtest import (
    FORECASTS,
    TailTest,
    acerbi_szekely,
    backtest_var,
    christoffersen_independence,
    conditional_coverage,
    kupiec,
)
from octopus.risk.var_models import (
    DRAWS,
    SEED,
    Loss,
    cornish_fisher_is_monotone,
    cornish_fisher_loss,
    ewma_loss,
    ewma_volatility,
    normal_loss,
    simulated_returns,
)

RETURNS = np.random.default_rng(3).normal(0.0004, 0.011, 700)


def test_normal_loss_is_scipys() -> None:
    mean, spread = RETURNS.mean(), RETURNS.std(ddof=1)
    loss = normal_loss(RETURNS, 0.99)
    assert loss.var == pytest.approx(-stats.norm.ppf(0.01, mean, spread))
    tail, _ = integrate.quad(lambda x: x * stats.norm.pdf(x, mean, spread), mean - 12 * spread, -loss.var)
    assert loss.cvar == pytest.approx(-tail / 0.01, rel=1e-6)


def test_cornish_fisher_tail_mean_is_the_integral_of_its_quantile() -> None:
    skewed = np.random.default_rng(5).standard_t(9, 4000)
    skewed = skewed - 0.07 * skewed**2
    skewed = 0.01 * (skewed - skewed.mean()) / skewed.std()
    scaled = skewed / skewed.std()
    skew, kurtosis = (scaled**3).mean(), (scaled**4).mean() - 3

    def quantile(p: float) -> float:
        z = stats.norm.ppf(p)
        return float(
            z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
        )  # fmt: skip

    loss = cornish_fisher_loss(skewed, 0.95)
    assert loss.var == pytest.approx(-0.01 * quantile(0.05), rel=1e-9)
    tail, _ = integrate.quad(quantile, 0, 0.05, limit=200)
    assert loss.cvar == pytest.approx(-0.01 * tail / 0.05, rel=1e-5)
    assert cornish_fisher_loss(skewed, 0.99).var > normal_loss(skewed, 0.99).var, "a heavy left tail is worse"


def test_cornish_fisher_refuses_where_it_is_no_quantile() -> None:
    assert cornish_fisher_is_monotone(0.0, 0.0)
    assert cornish_fisher_is_monotone(0.0, 7.9)
    assert not cornish_fisher_is_monotone(0.0, 8.1)
    assert not cornish_fisher_is_monotone(0.0, -0.1)
    assert not cornish_fisher_is_monotone(2.6, 6.0)
    crash = np.append(RETURNS, -0.5)
    with pytest.raises(InvalidReturnsError, match="outside the domain"):
        cornish_fisher_loss(crash)


@given(skew=st.floats(-2, 2), kurtosis=st.floats(-1, 9))
def test_the_domain_is_where_the_expansion_rises(skew: float, kurtosis: float) -> None:
    z = np.linspace(-30, 30, 4001)
    slope = 1 + z * skew / 3 + (z**2 - 1) * kurtosis / 8 - (6 * z**2 - 5) * skew**2 / 36
    if cornish_fisher_is_monotone(skew, kurtosis):
        assert slope.min() > -1e-9
    elif slope.min() > 1e-2:  # a root beyond the grid
        assert kurtosis / 8 - skew**2 / 6 <= 1e-3


def test_ewma_is_riskmetrics_recursion_and_forgets() -> None:
    variance = 0.0
    for value in RETURNS:
        variance = 0.94 * variance + 0.06 * value**2
    assert ewma_volatility(RETURNS) == pytest.approx(math.sqrt(variance), rel=1e-9)
    calm_now = np.concatenate([RETURNS * 5, RETURNS])
    assert ewma_loss(calm_now).var == pytest.approx(ewma_loss(RETURNS).var, rel=1e-9)
    with pytest.raises(InvalidReturnsError, match="decay"):
        ewma_volatility(RETURNS, 1.0)


def test_simulation_has_the_moments_asked_for_and_repeats() -> None:
    covariance = np.array([[4.0, 1.2, 0.0], [1.2, 1.0, 0.0], [0.0, 0.0, 0.0]]) * 1e-4  # singular on purpose
    mean = np.array([1e-4, 0.0, 2e-4])
    for distribution, kurtosis in (("normal", 3.0), ("t", 3.0 + 6 / (8 - 4))):
        arguments = {"draws": 200_000, "seed": 11, "distribution": distribution, "degrees_of_freedom": 8.0}
        draws = simulated_returns(mean, covariance, **arguments)
        np.testing.assert_array_equal(draws, simulated_returns(mean, covariance, **arguments))
        np.testing.assert_allclose(np.cov(draws, rowvar=False), covariance, atol=1.2e-5)
        np.testing.assert_allclose(draws.mean(axis=0), mean, atol=2e-4)
        assert stats.kurtosis(draws[:, 0], fisher=False) == pytest.approx(kurtosis, rel=0.08)
    normal = simulated_returns(mean, covariance, draws=200_000, seed=1) @ np.array([0.5, 0.5, 0.0])
    spread = math.sqrt(0.25 * (4 + 1 + 2.4) * 1e-4)
    assert historical_var(normal, 0.95) == pytest.approx(1.6449 * spread - 0.5e-4, rel=0.01)
    with pytest.raises(InvalidReturnsError, match="more than 2"):
        simulated_returns(mean, covariance, draws=10, seed=1, distribution="t", degrees_of_freedom=2)


@settings(max_examples=40)
@given(rows=arrays(np.float64, (3, 57), elements=st.floats(-0.2, 0.2)), level=st.sampled_from([0.9, 0.95, 0.97]))
def test_many_series_at_once_are_each_series_alone(rows: np.ndarray, level: float) -> None:
    np.testing.assert_allclose(historical_var_each(rows, level), [historical_var(r, level) for r in rows])
    np.testing.assert_allclose(
        historical_cvar_each(rows, level), [historical_cvar(r, level) for r in rows], atol=1e-15
    )  # fmt: skip
    np.testing.assert_allclose(volatility_annual_each(rows), [volatility_annual(r) for r in rows], atol=1e-12)


# Backtests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "days", "accepted"),
    # Kupiec (1995), reprinted in Jorion, Value at Risk, table 6-2: exceedances not rejected at 95 %.
    [
        (0.99, 255, range(7)), (0.99, 510, range(2, 11)), (0.99, 1000, range(5, 17)),
        (0.95, 255, range(7, 21)), (0.95, 510, range(17, 36)), (0.95, 1000, range(38, 65)),
    ],
)  # fmt: skip
def test_kupiec_rejects_where_the_published_table_does(level: float, days: int, accepted: range) -> None:
    # The table leaves out zero exceedances of 255 days at 99 % by a hair: "N < 7".
    kept = [n for n in range(days // 4) if kupiec(n, days, level).p_value > 0.05]
    assert kept == [n for n in accepted if n or level < 0.99 or kupiec(0, days, level).p_value > 0.05]


@given(days=st.integers(2, 600), data=st.data())
def test_kupiec_is_scipys_binomial_likelihood(days: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, days))
    found = kupiec(hits, days, 0.95)
    apart = stats.binom.logpmf(hits, days, hits / days) - stats.binom.logpmf(hits, days, 0.05)
    assert found.statistic == pytest.approx(2 * apart, abs=1e-6)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 1), abs=1e-9)


def test_christoffersen_by_hand() -> None:
    exceeded = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 0], dtype=bool)
    # From calm: 6 days, of which 2 were followed by a loss; from a loss: 3 days, of which 1 was.
    first = 4 * math.log(4 / 6) + 2 * math.log(2 / 6) + 2 * math.log(2 / 3) + math.log(1 / 3)
    pooled = 6 * math.log(6 / 9) + 3 * math.log(3 / 9)
    found = christoffersen_independence(exceeded)
    assert found.statistic == pytest.approx(2 * (first - pooled), abs=1e-12)
    both = conditional_coverage(exceeded, 0.9)
    assert both.statistic == pytest.approx(found.statistic + kupiec(3, 10, 0.9).statistic)
    assert both.p_value == pytest.approx(stats.chi2.sf(both.statistic, 2))


def test_christoffersen_finds_a_cluster_that_kupiec_cannot() -> None:
    clustered = np.zeros(1000, dtype=bool)
    clustered[400:450] = True
    assert kupiec(50, 1000, 0.95).p_value > 0.99
    assert christoffersen_independence(clustered).p_value < 1e-6
    assert conditional_coverage(clustered, 0.95).p_value < 1e-6


@given(exceeded=arrays(np.bool_, st.integers(2, 80)))
def test_backtest_statistics_are_never_negative_and_never_fail(exceeded: np.ndarray) -> None:
    for found in (christoffersen_independence(exceeded), conditional_coverage(exceeded, 0.95)):
        assert found.statistic >= 0
        assert 0 <= found.p_value <= 1


def test_size_of_the_tests_under_a_right_model() -> None:
    generator = np.random.default_rng(17)
    found = [kupiec(int(n), 1000, 0.95).p_value < 0.05 for n in generator.binomial(1000, 0.05, 3000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.015)


def drawn(returns: np.ndarray, distribution: str) -> Loss:
    """Simulated of one instrument, as the report simulates many."""
    covariance = np.atleast_2d(np.cov(returns))
    outcome = simulated_returns(
        np.array([returns.mean()]),
        covariance,
        draws=DRAWS,
        seed=SEED,
        distribution=distribution,  # type: ignore[arg-type]
    )[:, 0]
    return Loss(historical_var(outcome), historical_cvar(outcome))


@pytest.mark.parametrize("method", list(FORECASTS))
def test_a_forecast_sees_only_the_days_before(method: str) -> None:
    found = backtest_var(RETURNS, FORECASTS[method], window=250)
    assert len(found.var) == 450
    single = {
        "historical": lambda r: Loss(historical_var(r), historical_cvar(r)), "normal": normal_loss,
        "Cornish-Fisher": cornish_fisher_loss, "EWMA": ewma_loss,
        "simulated, normal": lambda r: drawn(r, "normal"), "simulated, t with 5 degrees": lambda r: drawn(r, "t"),
    }  # fmt: skip
    for day in (0, 111, 449):
        expected = single[method](RETURNS[day : day + 250])
        assert (found.var[day], found.cvar[day]) == pytest.approx((expected.var, expected.cvar), rel=1e-12)
    changed = RETURNS.copy()
    changed[400:] = 0.9
    np.testing.assert_array_equal(
        backtest_var(changed, FORECASTS[method], window=250).var[:151], found.var[:151]
    )  # fmt: skip
    # The tail of a t distribution is too heavy for these.
    assert found.coverage.p_value > (0.001 if "t with" in method else 0.05)
    assert found.tail.p_value > 0.05
    np.testing.assert_array_equal(found.exceeded, RETURNS[250:] < -found.var)


def test_a_portfolio_of_many_is_simulated_as_one_of_its_mean_and_volatility() -> None:
    generator = np.random.default_rng(11)
    names = generator.normal(0, 0.01, (300, 4)) @ generator.normal(0, 1, (4, 4))
    weights = np.array([0.4, 0.3, -0.2, 0.5])
    for method, distribution in (("simulated, normal", "normal"), ("simulated, t with 5 degrees", "t")):
        joint = simulated_returns(
            names.mean(axis=0), np.cov(names, rowvar=False), draws=200_000, seed=4, distribution=distribution  # type: ignore[arg-type]
        ) @ weights  # fmt: skip
        found = FORECASTS[method]((names @ weights)[None], 0.95)
        assert found.var[0] == pytest.approx(historical_var(joint), rel=0.025)
        assert found.cvar[0] == pytest.approx(historical_cvar(joint), rel=0.025)


def has_expansion(returns: np.ndarray) -> bool:
    return cornish_fisher_is_monotone(float(stats.skew(returns)), float(stats.kurtosis(returns)))


def test_days_that_cornish_fisher_refuses_are_in_no_test() -> None:
    returns = RETURNS.copy()
    returns[400] = -0.15
    found = backtest_var(returns, FORECASTS["Cornish-Fisher"], window=250)
    assert not found.forecast[151:401].any()
    assert found.forecast[::9].tolist() == [has_expansion(returns[day : day + 250]) for day in range(0, 450, 9)]
    assert found.expected == pytest.approx(0.05 * found.forecast.sum())
    assert not found.exceeded[~found.forecast].any()
    with pytest.raises(InsufficientHistoryError, match="forecasts 0 days"):
        backtest_var(returns[151:520], FORECASTS["Cornish-Fisher"], window=250)


# SciPy's formulas, not ours: VaR and CVaR at 95 % of a standard normal, and of a t with 4 degrees of unit variance.
NORMAL_TAIL = 1.6448536269514722, stats.norm.pdf(stats.norm.ppf(0.05)) / 0.05
_T_VAR = -stats.t.ppf(0.05, 4)
T_TAIL = _T_VAR / math.sqrt(2), stats.t.pdf(_T_VAR, 4) / 0.05 * (4 + _T_VAR**2) / 3 / math.sqrt(2)


def rejected(returns: np.ndarray, var: float, cvar: float, size: float = 0.05) -> float:
    """Share of simulated histories, a row each, for which the CVaR is found too small."""
    days = returns.shape[1]
    told = [acerbi_szekely(row, np.full(days, var), np.full(days, cvar), 0.95).p_value for row in returns]
    return float(np.mean(np.array(told) < size))


@pytest.mark.parametrize("days", [250, 1000])
@pytest.mark.parametrize("law", ["normal", "t"])
def test_a_right_cvar_is_rejected_as_often_as_the_size_says(days: int, law: str) -> None:
    generator = np.random.default_rng(21)
    shape = (1000, days)
    drawn, tail = (
        (generator.standard_normal(shape), NORMAL_TAIL) if law == "normal"
        else (generator.standard_t(4, shape) / math.sqrt(2), T_TAIL)
    )  # fmt: skip
    assert 0.02 < rejected(drawn, *tail) < 0.07
    assert rejected(drawn, *tail, size=0.01) < 0.02


def test_a_tail_that_is_forecast_too_thin_is_found() -> None:
    generator = np.random.default_rng(22)
    heavy = generator.standard_t(4, (300, 1000)) / math.sqrt(2)
    # The VaR right, the CVaR a normal distribution's beyond it; the volatility a seventh too small; normal for t.
    thin = T_TAIL[0] * NORMAL_TAIL[1] / NORMAL_TAIL[0]
    assert rejected(heavy, T_TAIL[0], thin) > 0.8
    assert rejected(1.15 * generator.standard_normal((300, 1000)), *NORMAL_TAIL) > 0.95
    assert rejected(heavy, *NORMAL_TAIL) > 0.4
    # A tail forecast too heavy is no complaint: the test is one-sided.
    assert rejected(generator.standard_normal((300, 1000)), *(1.2 * value for value in NORMAL_TAIL)) == 0


def test_the_statistic_by_hand_and_at_its_edges() -> None:
    returns = np.array([0.01, -0.03, -0.05, 0.0])
    # Gaps 0.01 each, less what lay beyond 0.02, twentyfold: means of (1, -19, -59, 1) / 3.
    found = acerbi_szekely(returns, np.full(4, 0.02), np.full(4, 0.03), 0.95)
    assert found.statistic == pytest.approx((1 - 19 - 59 + 1) / 12)
    none = np.zeros(4)
    assert acerbi_szekely(none, none, none, 0.95) == TailTest(0.0, 1.0)
    assert acerbi_szekely(returns, none, none, 0.95) == TailTest(-math.inf, 0.0)


def test_a_history_without_a_day_to_forecast_is_refused() -> None:
    with pytest.raises(InsufficientHistoryError, match="window \\+ 1 = 251"):
        backtest_var(RETURNS[:251], FORECASTS["normal"], window=250)
