"""Methods that know no limits: weights by a formula, spread over what may be bought.

Belongs here: risk parity, hierarchical risk parity, inverse volatility, equal weights. Does not: bringing their weights
within the limits (optimiser.py projects them).

What may not be bought gets nothing, what cannot move keeps its weight, and the rest of `Problem.net_target` is spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from octopus.core.types import FloatArray, IntArray
from octopus.portfolio.config import Linkage, Method
from octopus.portfolio.problem import Problem, SolverError, investable, weight_bounds

_PRECISION = 1e-10
_INEXACT = 0.1
"""How far from Newton's direction the first steps may be; later ones are as near as the point is to the optimum."""
_STEPS_MAX = 100
_HALVINGS_MAX = 60


@dataclass(frozen=True, eq=False)
class Target:
    """Weights before any limit.

    Attributes:
        weights: shape (N,). residual: largest relative distance from the method's own condition, zero for a formula.
        condition: what the method claims.
    """

    weights: FloatArray
    condition: str
    residual: float = 0.0
    iterations: int = 0
    measures: Mapping[str, float] = field(default_factory=dict)


def equal_weight(problem: Problem) -> Target:
    """The same weight in each."""
    return Target(_spread(problem, lambda chosen: np.ones(len(chosen))), "equal weights, optimal for nothing")


def inverse_volatility(problem: Problem) -> Target:
    """Weights in proportion to 1 / volatility: risk parity if all correlations were the same."""
    deviations = np.sqrt(_variances(problem))
    weights = _spread(problem, lambda chosen: 1.0 / deviations[chosen])
    return Target(weights, "inverse volatilities; equal risk only if all correlations are the same")


def risk_parity(problem: Problem) -> Target:
    """Weights whose contributions to risk are in proportion to the risk budgets.

    The minimum of ``½x'Σx − Σ budget · ln x`` over x > 0, by Newton's method, then scaled: at it each ``x · Σx`` is the
    budget.

    Raises:
        SolverError: an instrument without risk, a budget that is not positive, or no convergence.

    Source: Maillard, Roncalli and Teiletche, "The properties of equally weighted risk contribution portfolios", Journal
    of Portfolio Management 36 (2010); Spinu, "An algorithm for computing risk parity weights" (2013).
    """
    variances = _variances(problem)
    budgets = np.ones(len(variances)) if problem.risk_budgets is None else problem.risk_budgets
    found = {"residual": 0.0, "iterations": 0.0}

    def raw(chosen: IntArray) -> FloatArray:
        if budgets[chosen].min() <= 0:
            raise SolverError(f"risk_budgets has {budgets[chosen].min()}: every budget must be above zero")
        covariance = problem.covariance[np.ix_(chosen, chosen)]
        x, residual, steps = equal_contributions(covariance, budgets[chosen] / budgets[chosen].sum())
        found["residual"], found["iterations"] = residual, float(steps)
        return x

    weights = _spread(problem, raw)
    condition = "risk contributions in proportion to the budgets, the optimum of the barrier problem"
    measures = {"budget_error": found["residual"]}
    return Target(weights, condition, found["residual"], int(found["iterations"]), measures)


def equal_contributions(covariance: FloatArray, budgets: FloatArray) -> tuple[FloatArray, float, int]:
    """x with ``x · Σx = budgets``, the largest relative deviation from that, and the steps taken.

    Args:
        covariance: shape (n, n), positive diagonal. budgets: positive, summing to one, shape (n,).
    """
    deviations = np.sqrt(covariance.diagonal())
    # In units of one deviation each, so that instruments of very different risk lose no digits.
    correlation = covariance / deviations / deviations[:, None]
    x = np.sqrt(budgets)
    x = x / np.sqrt(x @ _times(correlation, x))
    for step in range(_STEPS_MAX):
        risk = _times(correlation, x)
        residual = float(np.abs(x * risk / budgets - 1.0).max())
        if residual <= _PRECISION:
            return x / deviations, residual, step
        gradient = risk - budgets / x
        direction = _newton_direction(correlation, budgets / x**2, gradient, min(residual, _INEXACT))
        x = _line_search(correlation, budgets, x, risk, direction, float(gradient @ direction))
    raise SolverError(f"risk parity did not converge in {_STEPS_MAX} steps: check the covariance for extreme values")


def _times(matrix: FloatArray, x: FloatArray) -> FloatArray:
    # Not by BLAS: where the cores have other work its threads wait for each other longer than one alone takes.
    return np.asarray(np.einsum("ij,j->i", matrix, x))


def _newton_direction(
    correlation: FloatArray, diagonal: FloatArray, gradient: FloatArray, tolerance: float
) -> FloatArray:
    """d with ``(correlation + diagonal) d = -gradient`` but for ``tolerance``, by conjugate gradients.

    They need about as many products as there are common factors: beside the correlation stands a diagonal of its size.

    Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 5.3 and 7.1.
    """
    scale = 1.0 / (correlation.diagonal() + diagonal)
    found, left = np.zeros_like(gradient), -gradient
    scaled = scale * left
    along, size = scaled, float(left @ scaled)
    enough = size * tolerance**2
    for _ in range(len(gradient)):
        curved = _times(correlation, along) + diagonal * along
        step = size / float(along @ curved)
        found, left = found + step * along, left - step * curved
        scaled = scale * left
        before, size = size, float(left @ scaled)
        if size <= enough:
            break
        along = scaled + size / before * along
    return found


def _line_search(
    correlation: FloatArray, budgets: FloatArray, x: FloatArray, risk: FloatArray, direction: FloatArray, slope: float
) -> FloatArray:
    """The first of the steps 1, ½, ¼, … that stays positive and descends enough.

    Args:
        risk: Σx. slope: of the barrier along ``direction``.
    """
    linear, square = float(risk @ direction), float(direction @ _times(correlation, direction))
    quadratic, now = float(x @ risk) / 2, float(x @ risk / 2 - budgets @ np.log(x))
    size = 1.0
    for _ in range(_HALVINGS_MAX):
        moved = x + size * direction
        if moved.min() > 0:
            barrier = quadratic + size * linear + size**2 * square / 2 - float(budgets @ np.log(moved))
            # Near the optimum the gain is below the rounding of the values themselves.
            if barrier <= now + 0.25 * size * slope + 1e-14 * abs(now):
                return np.asarray(moved)
        size /= 2
    return x


def hierarchical_risk_parity(problem: Problem) -> Target:
    """Weights split down a tree of correlated instruments, each side by the inverse of its variance.

    The convention is skfolio's: distance ``√((1 − correlation) / 2)``, the linkage of that condensed distance (Ward's
    by default), leaves in the optimal order, halves of the ordered list, variance of each half under inverse-variance
    weights.

    Source: López de Prado, "Building diversified portfolios that outperform out of sample", Journal of Portfolio
    Management 42 (2016), who took single linkage of the distances between rows of distances.
    """
    _variances(problem)

    def raw(chosen: IntArray) -> FloatArray:
        inner = problem.covariance[np.ix_(chosen, chosen)]
        weights = np.ones(len(chosen))
        pieces = [leaves(inner, problem.linkage)]
        while pieces:
            pieces = [half for piece in pieces if len(piece) > 1 for half in _bisect(piece, inner, weights)]
        return weights

    return Target(_spread(problem, raw), "recursive bisection, a heuristic that is optimal for nothing")


def leaves(covariance: FloatArray, linkage: Linkage) -> IntArray:
    """The order of the instruments in which neighbours are alike, shape (n,)."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(covariance) == 1:
        return np.zeros(1, dtype=np.int64)
    deviations = np.sqrt(covariance.diagonal())
    correlation = np.clip(covariance / np.outer(deviations, deviations), -1.0, 1.0)
    distance = np.sqrt((1.0 - correlation) / 2)
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(distance, checks=False)
    tree = hierarchy.linkage(condensed, method=linkage)
    return np.asarray(hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, condensed)), dtype=np.int64)


def _bisect(piece: IntArray, covariance: FloatArray, weights: FloatArray) -> tuple[IntArray, IntArray]:
    """Two halves of ``piece``; scales their ``weights`` by the inverse of their variances."""
    halves = piece[: len(piece) // 2], piece[len(piece) // 2 :]
    first, second = (_cluster_variance(covariance[np.ix_(half, half)]) for half in halves)
    share = 1.0 - first / (first + second)
    weights[halves[0]] *= share
    weights[halves[1]] *= 1.0 - share
    return halves


def _cluster_variance(covariance: FloatArray) -> float:
    weights = 1.0 / covariance.diagonal()
    weights = weights / weights.sum()
    return float(weights @ covariance @ weights)


TARGETS: Mapping[Method, Callable[[Problem], Target]] = {
    "equal_weight": equal_weight,
    "inverse_volatility": inverse_volatility,
    "risk_parity": risk_parity,
    "hierarchical_risk_parity": hierarchical_risk_parity,
}


def _spread(problem: Problem, raw: Callable[[IntArray], FloatArray]) -> FloatArray:
    """What is left of the target sum, in proportion to ``raw`` of the instruments that may be bought."""
    bounds = weight_bounds(problem)
    weights = np.where(bounds.upper <= bounds.lower, bounds.lower, 0.0)
    chosen = np.flatnonzero(investable(problem, bounds) & (bounds.upper > bounds.lower))
    room = problem.net_target - weights.sum()
    if len(chosen) and room > 0:
        parts = raw(chosen)
        weights[chosen] = room * parts / parts.sum()
    return weights


def _variances(problem: Problem) -> FloatArray:
    """Variances, one for what is not bought; raises where an instrument that may be bought has none."""
    allowed = investable(problem, weight_bounds(problem))
    variances = problem.covariance.diagonal()
    flat = np.flatnonzero(allowed & (variances <= 0))
    if len(flat):
        names = ", ".join(str(problem.names[i] if problem.names else i) for i in flat.tolist())
        raise SolverError(f"{names} has no variance, so that its share of risk is undefined: mark it reduce_only")
    return np.where(allowed, variances, 1.0)
