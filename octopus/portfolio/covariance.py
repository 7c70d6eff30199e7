"""The covariance of daily returns that the optimiser sees.

Belongs here: estimators, from a window of returns to a matrix. Does not: optimising.

The Ledoit–Wolf estimator is a few lines of NumPy and not scikit-learn's: the decision is also imported where
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
        shrinkage: weight of the target, in [0, 1].
    """

    daily: FloatArray
    known: BoolArray
    observations: int
    shrinkage: float


def estimate_covariance(returns: FloatArray, *, least: int, estimator: Estimator) -> Covariance:
    """Covariance of the instruments that have at least ``least`` returns in the window.

    The window begins where the youngest of them does. A later session without a bar counts as a return of zero: the
    next bar's return is told from the last bar, so the window's whole move is kept.

    Args:
        returns: shape (window, N), NaN where there is no bar.
    """
    observed = np.isfinite(returns)
    known = observed.sum(axis=0) >= least
    count = returns.shape[1]
    if not known.any():
        return Covariance(np.zeros((count, count)), known, 0, 0.0)
    first = int(observed[:, known].argmax(axis=0).max())
    # A copy in one memory layout: the products below give the same bits wherever the window was cut from.
    sample = np.ascontiguousarray(np.where(observed, returns, 0.0)[first:, known])
    matrix, shrinkage = ledoit_wolf(sample) if estimator == "ledoit_wolf" else (sample_covariance(sample), 0.0)
    if not known.all():
        full = np.diag(np.full(count, matrix.diagonal().max()))
        full[np.ix_(known, known)] = matrix
        matrix = full
    return Covariance(matrix, known, len(sample), shrinkage)


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
    shrunk = (1.0 - shrinkage) * empirical
    shrunk[np.diag_indices(count)] += shrinkage * mean_variance
    return shrunk, shrinkage


def sample_covariance(returns: FloatArray) -> FloatArray:
    """Daily covariance with divisor n − 1; the argument as for `ledoit_wolf`."""
    _require_complete(returns)
    centred = returns - returns.mean(axis=0)
    return np.asarray(centred.T @ centred / (len(returns) - 1))


def _require_complete(returns: FloatArray) -> None:
    missing = int(np.isnan(returns).sum())
    if missing:
        raise MissingDataError(f"covariance: {missing} returns are missing; leave such instruments out")
