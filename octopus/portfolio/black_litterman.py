"""Black–Litterman: equilibrium returns moved by views.

Belongs here: the posterior of expected returns. Does not: what weights follow from it (optimiser.py), where views come
from (octopus/decision.py).
"""

from __future__ import annotations

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import FloatArray


def posterior(
    covariance: FloatArray,
    market: FloatArray,
    risk_aversion: float,
    views: FloatArray,
    *,
    confidence: float = 0.5,
    tau: float = 0.05,
) -> tuple[FloatArray, FloatArray]:
    """Expected returns and covariance after views on single instruments, shapes (N,) and (N, N).

    Before the views the expected returns are those that make ``market`` optimal, ``λΣ · market``. A view's error has
    the variance ``tau · (1 / confidence − 1)`` times its instrument's, so that 0.5 weighs a view like the equilibrium.

    Args:
        covariance: over the horizon, shape (N, N). market: weights in equilibrium, shape (N,).
        views: expected returns over the horizon, NaN where there is none, shape (N,).
        confidence: in (0, 1]; 1 takes the views as certain. tau: uncertainty of the equilibrium returns.

    Raises:
        MissingDataError: confidence or tau is out of range.

    Source: He and Litterman, "The intuition behind Black-Litterman model portfolios", Goldman Sachs (1999); Walters,
    "The Black-Litterman model in detail" (2014), for the confidence.
    """
    if not 0 < confidence <= 1 or tau <= 0:
        raise MissingDataError(f"view_confidence = {confidence} and tau = {tau}: use (0, 1] and a number above zero")
    prior = risk_aversion * (covariance * market).sum(axis=-1)
    seen = np.flatnonzero(np.isfinite(views))
    if not len(seen):
        return prior, covariance * (1.0 + tau)
    shared = tau * covariance[:, seen]
    spread = shared[seen] + np.diag(shared[seen, np.arange(len(seen))] * (1.0 / confidence - 1.0))
    moved = np.linalg.solve(spread, np.column_stack([views[seen] - prior[seen], shared.T]))
    after = covariance * (1.0 + tau) - shared @ moved[:, 1:]
    return prior + shared @ moved[:, 0], (after + after.T) / 2
