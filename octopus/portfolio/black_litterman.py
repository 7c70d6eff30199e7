"""Black–Litterman: equilibrium returns moved by views.

Belongs here: the posterior of expected returns. Does not: what weights follow from it (optimiser.py), where views come
from (octopus/decision.py).
"""

from __future__ import annotations

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import FloatArray
from octopus.portfolio.problem import SolverError

_MISSED = 1e-6
"""By what part of the greatest move the views may be missed: rounding misses by the condition number times 1e-16, which
is far less where the covariance of the views has an inverse, and about the move itself where it has none."""


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
        SolverError: the covariance of the views' errors has no inverse: an instrument with a view has no variance, or
            the views are certain and of more instruments than the covariance tells apart.

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
    moved = _solved(spread, np.column_stack([views[seen] - prior[seen], shared.T]))
    after = covariance * (1.0 + tau) - shared @ moved[:, 1:]
    return prior + shared @ moved[:, 0], (after + after.T) / 2


def _solved(spread: FloatArray, right: FloatArray) -> FloatArray:
    """x with ``spread @ x = right``.

    Raises:
        SolverError: there is none, or not to `_MISSED` of each column.
    """
    try:
        found = np.linalg.solve(spread, right)
    except np.linalg.LinAlgError:
        raise _singular(spread) from None
    missed = np.abs(spread @ found - right).max(axis=0)
    # A comparison with what is no number fails too.
    if not (missed <= _MISSED * np.abs(right).max(axis=0)).all():
        raise _singular(spread)
    return np.asarray(found)


def _singular(spread: FloatArray) -> SolverError:
    still = int((spread.diagonal() <= 0).sum())
    why = f"{still} of them have no variance" if still else "they move together, and views on them are certain"
    further = "" if still else ", or view_confidence below 1"
    return SolverError(
        f"the covariance of the {len(spread)} instruments with views has no inverse ({why}): take an estimator that "
        f"shrinks (covariance_estimator = ledoit_wolf) or longer covariance_sessions{further}"
    )
