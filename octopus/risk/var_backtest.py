"""Were VaR and CVaR right? Forecasts of past days against what happened: Kupiec, Christoffersen, Acerbi–Székely.

Belongs here: rolling forecasts, their exceedances, the tests. Does not: the measures (measures.py, var_models.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from octopus.core.types import BoolArray, FloatArray
from octopus.risk.measures import (
    InsufficientHistoryError,
    historical_cvar,
    historical_cvar_each,
    historical_var,
    historical_var_each,
    require_returns,
)
from octopus.risk.var_models import (
    DRAWS,
    EWMA_DECAY,
    SEED,
    cornish_fisher_is_monotone_each,
    cornish_fisher_tail,
    simulated_returns,
)


@dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio statistic and the probability of one as large if the model were right."""

    statistic: float
    p_value: float


@dataclass(frozen=True)
class TailTest:
    """The statistic of `acerbi_szekely` and the probability of one as low if VaR and CVaR were right."""

    statistic: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Losses:
    """VaR and CVaR of many series, shape (series,), as `var_models.Loss`; NaN where the method refuses."""

    var: FloatArray
    cvar: FloatArray


@dataclass(frozen=True, eq=False)
class VarBacktest:
    """Forecasts beside what happened.

    Attributes:
        var, cvar: forecasts made with the ``window`` days before, positive fractions, shape (days,); NaN on days
            that the method refuses. No test counts those: for independence the days around them follow each other.
        returns: what happened on the day forecast, shape (days,). exceeded: loss greater than the VaR.
        coverage: Kupiec. independence, conditional: Christoffersen. tail: Acerbi–Székely, of the CVaR.
    """

    level: float
    window: int
    var: FloatArray
    cvar: FloatArray
    returns: FloatArray
    exceeded: BoolArray
    coverage: LikelihoodRatio
    independence: LikelihoodRatio
    conditional: LikelihoodRatio
    tail: TailTest

    @property
    def forecast(self) -> BoolArray:
        """The days that have one, shape (days,)."""
        return np.asarray(np.isfinite(self.var))

    @property
    def expected(self) -> float:
        """Exceedances of a right model."""
        return int(self.forecast.sum()) * (1 - self.level)


Forecast = Callable[[FloatArray, float], Losses]
"""Windows, shape (days, window), and a level to the losses of each window."""


def historical_forecast(windows: FloatArray, level: float) -> Losses:
    """Historical losses of each window."""
    return Losses(historical_var_each(windows, level), historical_cvar_each(windows, level))


def normal_forecast(windows: FloatArray, level: float) -> Losses:
    """Normal losses of each window."""
    return _scaled(windows.mean(axis=1), np.std(windows, axis=1, ddof=1), *_normal_tail(level))


def ewma_forecast(windows: FloatArray, level: float) -> Losses:
    """EWMA losses of each window, decay 0.94."""
    weights = EWMA_DECAY ** np.arange(windows.shape[1])[::-1]
    return _scaled(np.zeros(len(windows)), np.sqrt(windows**2 @ weights / weights.sum()), *_normal_tail(level))


def cornish_fisher_forecast(windows: FloatArray, level: float) -> Losses:
    """Cornish–Fisher losses of each window; none where the expansion is no quantile function."""
    means, spreads = windows.mean(axis=1), np.std(windows, axis=1)
    scaled = (windows - means[:, None]) / np.where(spreads > 0, spreads, 1.0)[:, None]
    moving = spreads > 0
    skewness = np.where(moving, (scaled**3).mean(axis=1), 0.0)
    kurtosis = np.where(moving, (scaled**4).mean(axis=1) - 3.0, 0.0)
    found = _scaled(means, spreads, *cornish_fisher_tail(skewness, kurtosis, level))
    rises = cornish_fisher_is_monotone_each(skewness, kurtosis)
    return Losses(np.where(rises, found.var, np.nan), np.where(rises, found.cvar, np.nan))


def simulated_forecast(distribution: Literal["normal", "t"]) -> Forecast:
    """Monte-Carlo losses of each window.

    What is drawn jointly for the instruments, weighted and summed, is of the same distribution with the mean and the
    standard deviation of the portfolio's own returns: one draw of that is scaled to each window.
    """

    def forecast(windows: FloatArray, level: float) -> Losses:
        drawn = simulated_returns(np.zeros(1), np.ones((1, 1)), draws=DRAWS, seed=SEED, distribution=distribution)[:, 0]
        tail = -historical_var(drawn, level), -historical_cvar(drawn, level)
        return _scaled(windows.mean(axis=1), np.std(windows, axis=1, ddof=1), *tail)

    return forecast


def backtest_var(returns: FloatArray, forecast: Forecast, *, window: int, level: float = 0.95) -> VarBacktest:
    """Forecast each day from the ``window`` days before it alone, and test what happened.

    Args:
        returns: simple daily returns of the portfolio, shape (days,), finite.

    Raises:
        InsufficientHistoryError: not one day to forecast beyond the window, or not two that the method does forecast.
    """
    require_returns(returns, 0)
    if len(returns) <= window + 1:
        raise InsufficientHistoryError(
            f"{len(returns)} returns, but a backtest needs more than window + 1 = {window + 1}: ingest a longer history"
        )
    losses = forecast(sliding_window_view(returns, window)[:-1], level)
    happened, known = returns[window:], np.isfinite(losses.var)
    if known.sum() < 2:
        raise InsufficientHistoryError(f"the method forecasts {known.sum()} days: use the historical measure")
    exceeded = happened < -losses.var
    counted = exceeded[known]
    return VarBacktest(
        level, window, losses.var, losses.cvar, happened, exceeded,
        kupiec(int(counted.sum()), len(counted), level), christoffersen_independence(counted),
        conditional_coverage(counted, level),
        acerbi_szekely(happened[known], losses.var[known], losses.cvar[known], level),
    )  # fmt: skip


def kupiec(exceedances: int, days: int, level: float) -> LikelihoodRatio:
    """Proportion of failures: is the number of exceedances that of the level? Chi-squared with one degree of freedom.

    Source: Kupiec (1995), Techniques for Verifying the Accuracy of Risk Measurement Models, equation 6.
    """
    if not 0 <= exceedances <= days or days < 1:
        raise InsufficientHistoryError(f"{exceedances} exceedances in {days} days: count them again")
    rate = 1 - level
    expected = _log_likelihood(days - exceedances, exceedances, rate)
    observed = _log_likelihood(days - exceedances, exceedances, exceedances / days)
    return _one_degree(2 * (observed - expected))


def christoffersen_independence(exceeded: BoolArray) -> LikelihoodRatio:
    """Do exceedances cluster? Yesterday's exceedance must not change the chance of today's; one degree of freedom.

    Source: Christoffersen (1998), Evaluating Interval Forecasts, section 3.2.
    """
    before, today = exceeded[:-1], exceeded[1:]
    if len(today) < 1:
        raise InsufficientHistoryError("independence needs two days: backtest a longer history")
    after_calm = int((~before).sum()), int((~before & today).sum())
    after_loss = int(before.sum()), int((before & today).sum())
    pooled = (after_calm[1] + after_loss[1]) / len(today)
    same = sum(_log_likelihood(days - hits, hits, pooled) for days, hits in (after_calm, after_loss))
    apart = sum(_log_likelihood(days - hits, hits, hits / days) for days, hits in (after_calm, after_loss) if days > 0)
    return _one_degree(2 * (apart - same))


def conditional_coverage(exceeded: BoolArray, level: float) -> LikelihoodRatio:
    """Number and clustering together: Kupiec's statistic (over all days) plus that of independence; two degrees.

    Source: Christoffersen (1998), section 3.3; the first day counts for coverage, as in Jorion, Value at Risk, ch. 6.
    """
    statistic = (
        kupiec(int(exceeded.sum()), len(exceeded), level).statistic + christoffersen_independence(exceeded).statistic
    )
    return LikelihoodRatio(statistic, math.exp(-statistic / 2))


def acerbi_szekely(returns: FloatArray, var: FloatArray, cvar: FloatArray, level: float) -> TailTest:
    """Is the CVaR too small? The minimally biased test, relative to the forecast.

    The statistic is the mean over days of ``(CVaR - VaR - max(0, loss - VaR) / (1 - level)) / CVaR``: zero if both are
    right, minus the share by which losses beyond the VaR are greater than forecast; an error of the VaR alone moves it
    in the second order only. One-sided; the distribution of a mean so skewed is made normal by Hall's transformation,
    without which the test rejects half as often as it says.

    Args:
        returns, var, cvar: of each day, shape (days,), finite.

    Source: Acerbi & Székely, The minimally biased backtest for ES, Risk (2019); Hall (1992), On the Removal of Skewness
    by Transformation, Journal of the Royal Statistical Society B 54.
    """
    gaps = cvar - var - np.maximum(0.0, -returns - var) / (1 - level)
    # Where nothing was forecast, nothing may be lost.
    shares = np.divide(gaps, cvar, out=np.where(gaps < 0, -np.inf, 0.0), where=cvar > 0)
    statistic, days = float(shares.mean()), len(shares)
    if not math.isfinite(statistic):
        return TailTest(statistic, 0.0)
    spread = float(np.std(shares))
    if spread == 0:
        return TailTest(statistic, 1.0 if statistic >= 0 else 0.0)
    scaled, skewness = statistic / spread, float((((shares - statistic) / spread) ** 3).mean())
    removed = scaled + skewness * scaled**2 / 3 + skewness**2 * scaled**3 / 27 + skewness / (6 * days)
    return TailTest(statistic, NormalDist().cdf(math.sqrt(days) * removed))


def _log_likelihood(misses: int, hits: int, rate: float) -> float:
    """Of a Bernoulli sequence; 0 · log 0 is 0."""
    return (misses * math.log1p(-rate) if misses else 0.0) + (hits * math.log(rate) if hits else 0.0)


def _one_degree(statistic: float) -> LikelihoodRatio:
    # Rounding may leave a hair below zero where both likelihoods are the same.
    statistic = max(0.0, statistic)
    return LikelihoodRatio(statistic, math.erfc(math.sqrt(statistic / 2)))


def _normal_tail(level: float) -> tuple[float, float]:
    """Quantile and tail mean of the standard normal distribution."""
    z = NormalDist().inv_cdf(1 - level)
    return z, -NormalDist().pdf(z) / (1 - level)


def _scaled(
    means: FloatArray, spreads: FloatArray, quantile: float | FloatArray, tail_mean: float | FloatArray
) -> Losses:
    """Losses of distributions with these means and standard deviations, whose standard form has that tail."""
    return Losses(np.maximum(0.0, -(means + spreads * quantile)), np.maximum(0.0, -(means + spreads * tail_mean)))


FORECASTS: dict[str, Forecast] = {
    "historical": historical_forecast,
    "normal": normal_forecast,
    "Cornish-Fisher": cornish_fisher_forecast,
    "EWMA": ewma_forecast,
    "simulated, normal": simulated_forecast("normal"),
    "simulated, t with 5 degrees": simulated_forecast("t"),
}
"""The methods that are backtested, by the name a person reads."""
