"""VaR and CVaR under an assumed distribution: normal, Cornish–Fisher, EWMA, Monte-Carlo.

Belongs here: one-day loss measures from a model of returns. Does not: the empirical ones (measures.py), judging a model
by what happened (var_backtest.py).

All losses are positive fractions of equity, 0.0 where the quantile (or tail mean) is a gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, overload

import numpy as np

from octopus.core.types import BoolArray, FloatArray
from octopus.risk.measures import InvalidReturnsError, require_returns

_NORMAL = NormalDist()
EWMA_DECAY = 0.94
"""RiskMetrics' decay for daily returns."""
DRAWS = 20_000
SEED = 20_130_101
"""Of the simulated VaR: the same report twice says the same."""


@dataclass(frozen=True)
class Loss:
    """One-day loss of one method, as positive fractions of equity."""

    var: float
    cvar: float


def normal_loss(returns: FloatArray, level: float = 0.95) -> Loss:
    """Loss of a normal distribution with the mean and standard deviation (ddof 1) of ``returns``.

    Args:
        returns: simple daily portfolio returns, shape (days,).

    Raises:
        InsufficientHistoryError: fewer than two days. InvalidReturnsError: NaN, infinite, or a level out of [0.5, 1).

    Source: McNeil, Frey & Embrechts, Quantitative Risk Management (2015), examples 2.11 and 2.14.
    """
    require_returns(returns, 2)
    return _normal(float(returns.mean()), float(np.std(returns, ddof=1)), level)


def ewma_volatility(returns: FloatArray, decay: float = EWMA_DECAY) -> float:
    """Daily standard deviation around zero, the latest days weighing most.

    The weights ``decay**age`` are scaled to sum to one, so that a short window is not biased downwards.

    Source: J.P. Morgan/Reuters, RiskMetrics Technical Document, 4th ed. (1996), section 5.2.
    """
    require_returns(returns, 1)
    if not 0 < decay < 1:
        raise InvalidReturnsError(f"decay = {decay!r} is not between 0 and 1: 0.94 is usual for daily returns")
    weights = decay ** np.arange(len(returns))[::-1]
    return math.sqrt(float(weights @ returns**2 / weights.sum()))


def ewma_loss(returns: FloatArray, level: float = 0.95, decay: float = EWMA_DECAY) -> Loss:
    """Loss of a normal distribution with mean zero and `ewma_volatility`."""
    return _normal(0.0, ewma_volatility(returns, decay), level)


def cornish_fisher_loss(returns: FloatArray, level: float = 0.95) -> Loss:
    """Loss with the normal quantile corrected for skewness S and excess kurtosis K (population moments).

    The quantile is ``w(z) = z + (z²−1)S/6 + (z³−3z)K/24 − (2z³−5z)S²/36``; its tail mean is integrated in closed form
    through the Hermite polynomials that w is made of.

    Raises:
        InvalidReturnsError: besides those of `normal_loss`, where w does not rise throughout: there the expansion is no
            quantile function, and a heavier tail could show a smaller loss.

    Source: Cornish & Fisher (1938); the domain: Maillard, A User's Guide to the Cornish Fisher Expansion (2012).
    """
    require_returns(returns, 4)
    mean, spread = float(returns.mean()), float(np.std(returns))
    if spread == 0:
        return _normal(mean, 0.0, level)
    scaled = (returns - mean) / spread
    skewness, kurtosis = float((scaled**3).mean()), float((scaled**4).mean()) - 3.0
    if not cornish_fisher_is_monotone(skewness, kurtosis):
        raise InvalidReturnsError(
            f"skewness {skewness:.2f} and excess kurtosis {kurtosis:.2f} are outside the domain of the Cornish-Fisher "
            "expansion: use the historical measure"
        )
    quantile, tail_mean = cornish_fisher_tail(skewness, kurtosis, level)
    return Loss(max(0.0, -(mean + spread * quantile)), max(0.0, -(mean + spread * tail_mean)))


@overload
def cornish_fisher_tail(skewness: float, kurtosis: float, level: float) -> tuple[float, float]: ...


@overload
def cornish_fisher_tail(skewness: FloatArray, kurtosis: FloatArray, level: float) -> tuple[FloatArray, FloatArray]: ...


def cornish_fisher_tail(
    skewness: float | FloatArray, kurtosis: float | FloatArray, level: float
) -> tuple[float | FloatArray, float | FloatArray]:
    """Quantile and tail mean of the expansion in standard deviations from the mean; see `cornish_fisher_loss`."""
    z, part = _tail_quantile(level)
    quantile = z + (z**2 - 1) * skewness / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skewness**2 / 36
    factor = 1 + z * skewness / 6 + (z**2 - 1) * kurtosis / 24 - (2 * z**2 - 1) * skewness**2 / 36
    return quantile, -_NORMAL.pdf(z) / part * factor


def cornish_fisher_is_monotone(skewness: float, kurtosis: float) -> bool:
    """Whether the expansion rises for every z: its derivative, a parabola in z, has no root."""
    return bool(cornish_fisher_is_monotone_each(np.array(skewness), np.array(kurtosis)))


def cornish_fisher_is_monotone_each(skewness: FloatArray, kurtosis: FloatArray) -> BoolArray:
    """`cornish_fisher_is_monotone` of many at once."""
    square, linear = kurtosis / 8 - skewness**2 / 6, skewness / 3
    constant = 1 - kurtosis / 8 + 5 * skewness**2 / 36
    flat = (square == 0) & (linear == 0) & (constant > 0)
    return np.asarray(flat | ((square > 0) & (linear**2 < 4 * square * constant)))


def simulated_returns(
    mean: FloatArray,
    covariance: FloatArray,
    *,
    draws: int,
    seed: int,
    distribution: Literal["normal", "t"] = "normal",
    degrees_of_freedom: float = 5.0,
) -> FloatArray:
    """Joint one-day returns drawn from a multivariate normal or Student t distribution.

    Args:
        mean: shape (N,). covariance: of the returns themselves, for the t distribution too, shape (N, N), positive
            semidefinite.
        degrees_of_freedom: of the t distribution, above 2, so that it has a covariance.

    Returns:
        Shape (draws, N); the same for the same seed and inputs.

    Source: Glasserman, Monte Carlo Methods in Financial Engineering (2003), sections 2.3.3 and 9.3.
    """
    if distribution == "t" and degrees_of_freedom <= 2:
        raise InvalidReturnsError(f"degrees_of_freedom = {degrees_of_freedom}: a t distribution needs more than 2")
    if not (np.isfinite(covariance).all() and np.isfinite(mean).all()):
        raise InvalidReturnsError("mean or covariance is not finite: leave instruments without history out")
    values, vectors = np.linalg.eigh(covariance)
    generator = np.random.Generator(np.random.PCG64(seed))
    normal = generator.standard_normal((draws, len(mean))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    if distribution == "t":
        chi = generator.chisquare(degrees_of_freedom, draws)
        normal *= np.sqrt((degrees_of_freedom - 2) / chi)[:, None]
    return np.asarray(mean + normal)


def _normal(mean: float, spread: float, level: float) -> Loss:
    z, part = _tail_quantile(level)
    return Loss(max(0.0, -(mean + spread * z)), max(0.0, -(mean - spread * _NORMAL.pdf(z) / part)))


def _tail_quantile(level: float) -> tuple[float, float]:
    """The standard normal quantile of the worst fraction, and that fraction."""
    if not 0.5 <= level < 1:
        raise InvalidReturnsError(f"level = {level!r} is not a confidence: give a number in [0.5, 1), such as 0.95")
    return _NORMAL.inv_cdf(1 - level), 1 - level
