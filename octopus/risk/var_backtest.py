"""Was the VaR right? Forecasts of past days against what happened, and the tests of Kupiec and Christoffersen.

Belongs here: rolling forecasts, their exceedances, the tests. Does not: the measures (measures.py, var_models.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from octopus.core.types import BoolArray, FloatArray
from octopus.risk.measures import InsufficientHistoryError, historical_var_each, require_returns
from octopus.risk.var_models import EWMA_DECAY


@dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio statistic and the probability of one as large if the model were right."""

    statistic: float
    p_value: float


@dataclass(frozen=True, eq=False)
class VarBacktest:
    """Forecasts beside what happened.

    Attributes:
        var: forecast made with the ``window`` days before, positive fractions, shape (days,).
        returns: what happened on the day forecast, shape (days,). exceeded: loss greater than forecast.
        coverage: Kupiec. independence, conditional: Christoffersen.
    """

    level: float
    window: int
    var: FloatArray
    returns: FloatArray
    exceeded: BoolArray
    coverage: LikelihoodRatio
    independence: LikelihoodRatio
    conditional: LikelihoodRatio

    @property
    def expected(self) -> float:
        """Exceedances of a right model."""
        return len(self.returns) * (1 - self.level)


Forecast = Callable[[FloatArray, float], FloatArray]
"""Windows, shape (days, window), and a level to a VaR for each window."""


def historical_forecast(windows: FloatArray, level: float) -> FloatArray:
    """Historical VaR of each window."""
    return historical_var_each(windows, level)


def normal_forecast(windows: FloatArray, level: float) -> FloatArray:
    """Normal VaR of each window."""
    return _scaled(windows.mean(axis=1), np.std(windows, axis=1, ddof=1), level)


def ewma_forecast(windows: FloatArray, level: float) -> FloatArray:
    """EWMA VaR of each window, decay 0.94."""
    weights = EWMA_DECAY ** np.arange(windows.shape[1])[::-1]
    return _scaled(np.zeros(len(windows)), np.sqrt(windows**2 @ weights / weights.sum()), level)


def backtest_var(returns: FloatArray, forecast: Forecast, *, window: int, level: float = 0.95) -> VarBacktest:
    """Forecast each day from the ``window`` days before it alone, and test the exceedances.

    Args:
        returns: simple daily returns of the portfolio, shape (days,), finite.

    Raises:
        InsufficientHistoryError: not one day to forecast beyond the window.
    """
    require_returns(returns, 0)
    if len(returns) <= window + 1:
        raise InsufficientHistoryError(
            f"{len(returns)} returns, but a backtest needs more than window + 1 = {window + 1}: ingest a longer history"
        )
    var = forecast(sliding_window_view(returns, window)[:-1], level)
    happened = returns[window:]
    exceeded = happened < -var
    return VarBacktest(
        level, window, var, happened, exceeded,
        kupiec(int(exceeded.sum()), len(exceeded), level), christoffersen_independence(exceeded),
        conditional_coverage(exceeded, level),
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


def _log_likelihood(misses: int, hits: int, rate: float) -> float:
    """Of a Bernoulli sequence; 0 · log 0 is 0."""
    return (misses * math.log1p(-rate) if misses else 0.0) + (hits * math.log(rate) if hits else 0.0)


def _one_degree(statistic: float) -> LikelihoodRatio:
    # Rounding may leave a hair below zero where both likelihoods are the same.
    statistic = max(0.0, statistic)
    return LikelihoodRatio(statistic, math.erfc(math.sqrt(statistic / 2)))


def _scaled(means: FloatArray, spreads: FloatArray, level: float) -> FloatArray:
    return np.maximum(0.0, -(means + spreads * NormalDist().inv_cdf(1 - level)))


FORECASTS: dict[str, Forecast] = {
    "historical": historical_forecast,
    "normal": normal_forecast,
    "EWMA": ewma_forecast,
}
"""The methods that are backtested, by the name a person reads."""
