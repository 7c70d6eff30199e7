"""The covariance of daily returns that the optimiser sees.

Belongs here: estimators, from a window of returns to a matrix. Does not: optimising.

The shrinkage estimators are a few lines of NumPy and not scikit-learn's: the decision is also imported where
scikit-learn must not be (the execution location). The tests compare both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, FloatArray
from octopus.portfolio.config import Estimator


@dataclass(frozen=True, eq=False)
class Covariance:
    """Covariance of simple daily returns.

    Attributes:
        daily: per session, not annualised (× 252 for a year), shape (N, N), positive semidefinite. An unknown
            instrument has the largest variance of the known ones and no correlation.
        known: instruments with enough history, shape (N,): only those can be sized by risk.
        observations: sessions behind the estimate; fewer than the window where a known instrument is younger.
        shrinkage: weight of the target, in [0, 1]; 0 for estimators without one.
    """

    daily: FloatArray
    known: BoolArray
    observations: int
    shrinkage: float


def estimate_covariance(
    returns: FloatArray, *, least: int, estimator: Estimator, half_life: float = 63.0, factors: int = 5
) -> Covariance:
    """Covariance of the instruments that have at least ``least`` returns in the window.

    The window begins where the youngest of them does. A later session without a bar counts as a return of zero: the
    next bar's return is told from the last bar, so the window's whole move is kept.

    Args:
        returns: shape (window, N), NaN where there is no bar.
        half_life: sessions after which a return counts half; of ``ewma``.
        factors: principal components that explain correlation; of ``factor``.
    """
    observed = np.isfinite(returns)
    known = observed.sum(axis=0) >= least
    count = returns.shape[1]
    if not known.any():
        return Covariance(np.zeros((count, count)), known, 0, 0.0)
    first = int(observed[:, known].argmax(axis=0).max())
    # A copy in one memory layout: the products below give the same bits wherever the window was cut from.
    sample = np.ascontiguousarray(np.where(observed, returns, 0.0)[first:, known])
    matrix, shrinkage = _estimate(sample, estimator, half_life, factors)
    if not known.all():
        full = np.diag(np.full(count, matrix.diagonal().max()))
        full[np.ix_(known, known)] = matrix
        matrix = full
    return Covariance(matrix, known, len(sample), shrinkage)


def scenarios_of(returns: FloatArray, covariance: Covariance) -> FloatArray:
    """The returns behind ``covariance`` as equally likely scenarios, shape (observations, N).

    They begin where the youngest known instrument does, as its window does: before that a zero would be the return of
    cash. An unknown instrument, which has the largest variance of the known ones there, has their riskiest one's
    returns here. Without any that is known all are zero.

    Args:
        returns: what the covariance was estimated from.
    """
    if not covariance.known.any():
        return np.zeros(returns.shape)
    window = returns[len(returns) - covariance.observations :]
    scenarios = np.where(np.isfinite(window), window, 0.0)
    riskiest = int(np.argmax(np.where(covariance.known, covariance.daily.diagonal(), -1.0)))
    return np.where(covariance.known, scenarios, scenarios[:, [riskiest]])


def _estimate(sample: FloatArray, estimator: Estimator, half_life: float, factors: int) -> tuple[FloatArray, float]:
    if estimator == "ledoit_wolf":
        return ledoit_wolf(sample)
    if estimator == "oas":
        return oracle_approximating(sample)
    if estimator == "ewma":
        return ewma_covariance(sample, half_life), 0.0
    if estimator == "factor":
        return factor_covariance(sample, factors), 0.0
    return sample_covariance(sample), 0.0


def ledoit_wolf(returns: FloatArray) -> tuple[FloatArray, float]:
    """Daily covariance shrunk towards ``mean variance × identity``, and the weight of that target.

    Args:
        returns: shape (observations, k), without NaN.

    Source: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88 (2004), section 3.3.
    """
    _require_complete(returns)
    observations, count = returns.shape
    centred = returns - returns.mean(axis=0)
    empirical = centred.T @ centred / observations
    mean_variance = np.trace(empirical) / count
    squares = (empirical**2).sum()
    distance = squares / count - mean_variance**2
    error = (((centred**2).sum(axis=1) ** 2).sum() / observations - squares) / (count * observations)
    shrinkage = float(min(max(error, 0.0), distance) / distance) if distance > 0 else 0.0
    return _shrunk(empirical, mean_variance, shrinkage), shrinkage


def oracle_approximating(returns: FloatArray) -> tuple[FloatArray, float]:
    """Daily covariance shrunk like `ledoit_wolf`, by the weight that is best for normal returns; and that weight.

    Source: Chen, Wiesel, Eldar and Hero, "Shrinkage algorithms for MMSE covariance estimation", IEEE Transactions on
    Signal Processing 58 (2010), equation 23, with the terms in 2/count left out as scikit-learn does.
    """
    _require_complete(returns)
    observations, count = returns.shape
    centred = returns - returns.mean(axis=0)
    empirical = centred.T @ centred / observations
    mean_variance = np.trace(empirical) / count
    mean_square = (empirical**2).mean()
    distance = (observations + 1) * (mean_square - mean_variance**2 / count)
    shrinkage = float(min((mean_square + mean_variance**2) / distance, 1.0)) if distance > 0 else 1.0
    shrinkage = 0.0 if count == 1 else shrinkage  # the target is the estimate itself
    return _shrunk(empirical, mean_variance, shrinkage), shrinkage


def _shrunk(empirical: FloatArray, mean_variance: float, shrinkage: float) -> FloatArray:
    shrunk: FloatArray = (1.0 - shrinkage) * empirical
    shrunk[np.diag_indices(len(empirical))] += shrinkage * mean_variance
    return shrunk


def ewma_covariance(returns: FloatArray, half_life: float) -> FloatArray:
    """Daily covariance around zero in which a return counts half after ``half_life`` sessions; weights sum to one.

    Source: RiskMetrics, Technical Document, 4th ed. (1996), section 5.2; its 0.94 a day is a half-life of 11.2.
    """
    _require_complete(returns)
    weights = 0.5 ** (np.arange(len(returns))[::-1] / half_life)
    scaled = returns * np.sqrt(weights / weights.sum())[:, None]
    return np.asarray(scaled.T @ scaled)


def factor_covariance(returns: FloatArray, factors: int) -> FloatArray:
    """Daily covariance of a statistical factor model: the largest principal components, and each one's own variance.

    Variances are those of the sample; correlations come from ``factors`` components of its covariance alone.

    Source: Connor and Korajczyk, "Performance measurement with the arbitrage pricing theory", Journal of Financial
    Economics 15 (1986).
    """
    empirical = sample_covariance(returns)
    values, vectors = np.linalg.eigh(empirical)
    kept = slice(max(len(values) - factors, 0), None)
    loadings = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
    common: FloatArray = loadings @ loadings.T
    common[np.diag_indices(len(values))] = empirical.diagonal()
    return common


def sample_covariance(returns: FloatArray) -> FloatArray:
    """Daily covariance with divisor n − 1; the argument as for `ledoit_wolf`."""
    _require_complete(returns)
    centred = returns - returns.mean(axis=0)
    return np.asarray(centred.T @ centred / (len(returns) - 1))


def _require_complete(returns: FloatArray) -> None:
    missing = int(np.isnan(returns).sum())
    if missing:
        raise MissingDataError(f"covariance: {missing} returns are missing; leave such instruments out")
