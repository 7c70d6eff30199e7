"""Weights under limits and costs by the method that the configuration names, each with a certificate.

Belongs here: the convex methods, the certificate, and choosing a method by name. Does not: the limits as rows
(limits.py), methods that know no limits (allocation.py), where alpha and covariance come from, rounding to shares
(rebalance.py).

With the limits of limits.py, weights ``w``, those held ``w⁰``, and costs of a rebalance
``C(w) = cost · Σ|w − w⁰| + Σ impact · |w − w⁰|^p``::

    mean_variance     maximise  alpha·w − λ/2 · w'Σw − C(w)
    black_litterman   the same, with alpha and Σ of black_litterman.py; limits are measured by the estimated Σ
    minimum_variance  maximise  − λ/2 · w'Σw − C(w)                    Σw = net_target
    maximum_sharpe    maximise  (alpha·w − C(w)) / √(w'Σw)             Σw = net_target
    minimum_cvar      minimise  CVaR(scenarios · w) + cost · Σ|w − w⁰| Σw = net_target

Sources: Boyd et al., "Multi-period trading via convex optimization", Foundations and Trends in Optimization 3 (2017),
section 4, for a single period and the power of impact; Schaible, "Parameter-free convex equivalent and dual programs of
fractional programming problems", Zeitschrift für Operations Research 18 (1974), for the ratio; Rockafellar and Uryasev,
"Optimization of conditional value-at-risk", Journal of Risk 2 (2000).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.portfolio import allocation
from octopus.portfolio.black_litterman import posterior
from octopus.portfolio.config import Method
from octopus.portfolio.limits import NAME_LIMITS, Limits, clash, limits_of, nearest_net
from octopus.portfolio.problem import (
    WEIGHT_TOLERANCE,
    Certificate,
    Problem,
    Solution,
    SolverError,
    benchmark_weights,
    known_adv,
)
from octopus.portfolio.solver import Answer, Cone, Programme, Residuals, objective_size, residuals, solve

SQUARE_ROOT_LAW, QUADRATIC_LAW = 1.5, 2.0
OPTIMAL = "optimum of the method under all limits: Karush-Kuhn-Tucker"

_FIRST_SCENARIOS = 4.0
"""Scenarios that the first programme of CVaR sees, in multiples of the tail's; more are added until none is missing."""

_MANY = 200
"""Instruments from which on few of them are solved for at a time."""

_MISSED = 1e-9

_INSIDE = 10 * WEIGHT_TOLERANCE
"""How far inside of the nearest sum of weights that is possible an optimum is looked for."""

_NO_RISK = WEIGHT_TOLERANCE
"""Deviation, as a part of that of the instruments one by one, below which it is noise: weights are no more exact."""

_NO_OPTIMUM = (
    "the solver finds no optimum among them: give net_min, net_max, cash_min_fraction or turnover_max a little room"
)
_NO_GAIN = (
    "no such weights earn more than cash after costs, or the solver cannot tell: check alpha, or choose a method that "
    "does not need it"
)


def optimise(problem: Problem, method: Method = "mean_variance") -> Solution:
    """Weights by the method of that name. The same problem gives the same bits.

    Raises:
        InfeasibleError: the limits contradict each other; it says which and by how much.
        SolverError: the solver found no answer whose residuals are within
            `octopus.portfolio.problem.RESIDUAL_TOLERANCE`, or the problem has a number that is not finite.
        MissingDataError: the problem lacks what the method or a limit needs.
    """
    problem.require_finite()
    return METHODS[method](problem)


def mean_variance(problem: Problem) -> Solution:
    """Weights that maximise expected return less risk and costs."""
    limits = limits_of(problem, impact=True)
    programme = _utility(problem, limits)
    answer = _few_at_a_time(programme, limits)
    if answer is None:
        raise clash(problem)
    chosen = _cleaned(limits, answer.x)
    found = residuals(programme, limits.lift(chosen), answer.z)
    return _solution(
        limits, programme, chosen, answer, found, "mean_variance", lambda weights: utility(problem, weights)
    )


def black_litterman(problem: Problem) -> Solution:
    """Mean-variance with equilibrium returns that the views have moved."""
    solution = mean_variance(with_views(problem))
    views = 0 if problem.views is None else int(np.isfinite(problem.views).sum())
    own = {"views": float(views)}
    return Solution(solution.weights, lambda: replace(solution.certificate, method="black_litterman", measures=own))


def with_views(problem: Problem) -> Problem:
    """The problem with Black and Litterman's expected returns and covariance.

    Limits stay measured by the covariance that was estimated, as the risk gate and reports measure them.
    """
    views = np.full(len(problem.previous), np.nan) if problem.views is None else problem.views
    alpha, covariance = posterior(
        problem.covariance,
        benchmark_weights(problem),
        problem.risk_aversion,
        views,
        confidence=problem.view_confidence,
        tau=problem.tau,
    )
    return replace(problem, alpha=alpha, covariance=covariance, risk_covariance=problem.measured_covariance)


def minimum_variance(problem: Problem) -> Solution:
    """Weights of least variance and costs for the prescribed sum."""
    silent = replace(problem, alpha=np.zeros_like(problem.alpha))
    limits, programme, answer = _invested(problem, lambda net: _prescribed_utility(silent, net))
    chosen = _cleaned(limits, answer.x)
    found = residuals(programme, limits.lift(chosen), answer.z)
    return _solution(
        limits, programme, chosen, answer, found, "minimum_variance", lambda weights: utility(silent, weights)
    )


def maximum_sharpe(problem: Problem) -> Solution:
    """Weights of the greatest expected return after costs per unit of risk, for the prescribed sum.

    The certificate's objective is that ratio over the horizon, not annualised.

    Raises:
        SolverError: no allowed weights earn more than cash after costs, or some do without risk.
    """
    limits, programme, answer = _invested(problem, lambda net: _ratio(problem, net), _NO_GAIN)
    size = float(answer.x[-1]) if len(answer.x) else 1.0
    chosen = _cleaned(limits, answer.x[: limits.count] / size)
    lifted = limits.lift(chosen)
    point = np.append(lifted, 1.0) if limits.count else lifted
    if limits.count:
        point *= -programme.b[1] / float(_numerator(problem, limits) @ point)
        _require_risk(problem, limits.weights(chosen))
    found = residuals(programme, point, answer.z)
    return _solution(
        limits, programme, chosen, answer, found, "maximum_sharpe", lambda weights: sharpe(problem, weights)
    )


def _require_risk(problem: Problem, weights: FloatArray) -> None:
    """Raises `SolverError` where ``weights`` earn something at a risk that is the covariance's noise: of any size."""
    own = float((np.abs(weights) * np.sqrt(np.maximum(problem.covariance.diagonal(), 0.0))).sum())
    if _deviation(problem, weights) > _NO_RISK * own or _earned(problem, weights) <= 0:
        return
    raise SolverError(
        "weights that earn more than cash have no risk by the covariance, so that their ratio is unbounded: take an "
        "estimator that shrinks (covariance_estimator = ledoit_wolf), or longer covariance_sessions"
    )


def minimum_cvar(problem: Problem) -> Solution:
    """Weights of the least mean loss in the worst scenarios, plus proportional costs, for the prescribed sum.

    Only scenarios in the tail shape the optimum. The first programme sees the worst of the weights held or of equal
    ones, and each answer adds those whose loss it overlooked, until there is none: then it is the optimum of the
    programme with all scenarios, and its certificate is of that programme.
    """
    scenarios = _scenarios(problem)
    limits, shown, answer = _invested(problem, lambda net: _tail(problem, net, scenarios))
    chosen = _cleaned(limits, answer.x)
    programme, x, z = _whole(limits, scenarios, shown, answer, chosen, problem.cvar_level)
    weights = limits.weights(chosen)
    value, threshold = expected_shortfall(scenarios @ weights, problem.cvar_level)
    found = residuals(programme, x, z) if limits.count else residuals(shown.programme, x, z)
    measures = {"cvar": value, "var": threshold, "scenarios": float(len(scenarios)), "seen": float(len(shown.rows))}
    value += problem.cost_of(np.abs(weights - problem.previous))
    return _solution(limits, programme, chosen, answer, found, "minimum_cvar", lambda _weights: value, measures)


# -- values ------------------------------------------------------------------------------------------------------------


def trading_cost(problem: Problem, weights: FloatArray) -> float:
    """Proportional costs and impact of going from the weights held to ``weights``, fraction of equity."""
    changes = np.abs(weights - problem.previous)
    impact = 0.0 if problem.impact is None else float((problem.impact * changes**problem.impact_power).sum())
    return problem.cost_of(changes) + impact


def risk_penalty(problem: Problem, weights: FloatArray) -> float:
    """λ/2 · w'Σw."""
    return float(problem.risk_aversion / 2 * (weights * (problem.covariance * weights).sum(axis=-1)).sum())


def utility(problem: Problem, weights: FloatArray) -> float:
    """What mean-variance maximises."""
    return float((problem.alpha * weights).sum()) - risk_penalty(problem, weights) - trading_cost(problem, weights)


def sharpe(problem: Problem, weights: FloatArray) -> float:
    """Expected return after costs over its standard deviation, of one horizon; zero without risk."""
    deviation = _deviation(problem, weights)
    return _earned(problem, weights) / deviation if deviation > 0 else 0.0


def _earned(problem: Problem, weights: FloatArray) -> float:
    """Expected return after costs."""
    return float((problem.alpha * weights).sum()) - trading_cost(problem, weights)


def _deviation(problem: Problem, weights: FloatArray) -> float:
    """√(w'Σw); zero where rounding makes the variance negative."""
    return float(np.sqrt(max(float((weights * (problem.covariance * weights).sum(axis=-1)).sum()), 0.0)))


def expected_shortfall(returns: FloatArray, level: float) -> tuple[float, float]:
    """Mean loss of the worst ``1 − level`` of equally likely returns, and the loss at that quantile, as fractions.

    Source: Rockafellar and Uryasev, "Conditional value-at-risk for general loss distributions", Journal of Banking and
    Finance 26 (2002), proposition 8: the scenario at the quantile counts with the part that completes the tail.
    """
    losses = np.sort(-returns)[::-1]
    tail = (1.0 - level) * len(losses)
    place = min(int(np.ceil(tail - 1e-9)) - 1, len(losses) - 1)
    threshold = float(losses[place])
    return threshold + float(np.maximum(losses - threshold, 0.0).sum()) / tail, threshold


def value(problem: Problem, weights: FloatArray, method: Method) -> float:
    """What the method maximises, of any weights: to tell how much of the optimum a rounding gives up.

    Methods that know no limits come near their own weights: their value is minus the distance to them.
    """
    if method == "minimum_variance":
        return utility(replace(problem, alpha=np.zeros_like(problem.alpha)), weights)
    if method == "maximum_sharpe":
        return sharpe(problem, weights)
    if method == "minimum_cvar":
        shortfall, _ = expected_shortfall(_scenarios(problem) @ weights, problem.cvar_level)
        return -shortfall - problem.cost_of(np.abs(weights - problem.previous))
    if method in allocation.TARGETS:
        return -float(np.linalg.norm(weights - allocation.TARGETS[method](problem).weights))
    if method == "black_litterman":
        return utility(with_views(problem), weights)
    return utility(problem, weights)


# -- the programmes ----------------------------------------------------------------------------------------------------


def _utility(problem: Problem, limits: Limits) -> Programme:
    """Mean-variance."""
    free, fixed, previous = limits.free, limits.fixed, problem.previous
    corner = problem.risk_aversion * problem.covariance[np.ix_(free, free)]
    q = np.zeros(limits.variables)
    q[limits.columns["w"]] = problem.risk_aversion * (problem.covariance[free] * fixed).sum(axis=-1)
    q[limits.columns["w"]] -= problem.alpha[free]
    if "t" in limits.columns:
        q[limits.columns["t"]] = problem.cost_rates(free)
    if problem.impact is not None and problem.impact_power == QUADRATIC_LAW:
        rate = 2.0 * problem.impact[free]
        corner = corner + np.diag(rate)
        q[limits.columns["w"]] -= rate * previous[free]
    elif problem.impact is not None and "u" in limits.columns:
        q[limits.columns["u"]] = problem.impact[free] * limits.unit**SQUARE_ROOT_LAW
    scale = objective_size(corner, q)
    return Programme(corner / scale, q / scale, limits.matrix, limits.b, limits.cones, scale)


def _few_at_a_time(programme: Programme, limits: Limits) -> Answer | None:
    """The optimum of many weights of which few leave their least value: the others rest there until they are wanted.

    Each answer prices the resting weights. Those that would gain by moving join; when none would, the answer with these
    prices is the optimum of the whole. Measured at 500 instruments, 50 of them held: a tenth of the time.
    """
    count = limits.count
    if count < _MANY or set(limits.columns) != {"w"} or not limits.problem.constraints.long_only:
        return solve(programme)
    rest, matrix = limits.bounds.lower[limits.free], programme.matrix.tocsc()
    spread = np.full(count, max(float(programme.b[limits.rows["net_max"]].sum()), 0.0) / count)
    slope = programme.slope(spread) + programme.q
    moves = np.zeros(count, dtype=bool)
    moves[np.argsort(slope, kind="stable")[: count // 5]] = True
    while moves.sum() < count // 2:
        answer = _moving_alone(programme, limits, matrix, rest, moves)
        if answer is None:
            break
        prices = programme.slope(answer.x) + programme.q + matrix.T @ answer.z
        wanted = ~moves & (prices < -_MISSED)
        if not wanted.any():
            answer.z[limits.rows["name_weight_min"]] += np.where(moves, 0.0, prices)
            return answer
        moves[np.argsort(np.where(wanted, prices, 0.0), kind="stable")[: min(int(wanted.sum()), count // 10)]] = True
    return solve(programme)


def _moving_alone(
    programme: Programme, limits: Limits, matrix: Any, rest: FloatArray, moves: BoolArray
) -> Answer | None:
    """The optimum while the others rest, as a point of the whole programme without prices of resting."""
    corner = np.zeros((0, 0)) if programme.corner is None else programme.corner
    kept = np.ones(len(programme.b), dtype=bool)
    kept[limits.rows["name_weight_max"]] = moves
    kept[limits.rows["name_weight_min"]] = moves
    still = np.where(moves, 0.0, rest)
    first, *others = programme.cones
    part = Programme(
        corner=corner[np.ix_(moves, moves)],
        q=(programme.q + programme.slope(still))[moves],
        matrix=matrix[:, np.flatnonzero(moves)].tocsr()[np.flatnonzero(kept)].tocsc(),
        b=(programme.b - matrix @ still)[kept],
        cones=(Cone("nonnegative", first.size - int((~kept).sum())), *others),
    )
    answer = solve(part)
    if answer is None:
        return None
    x, z = still, np.zeros(len(programme.b))
    x[moves], z[kept] = answer.x, answer.z
    return Answer(x, z, answer.status, answer.iterations)


_Attempt = tuple[Limits, Any, Answer | None]


def _prescribed_utility(problem: Problem, net: float) -> _Attempt:
    limits = limits_of(problem, net=net, impact=True)
    programme = _utility(problem, limits)
    return limits, programme, _few_at_a_time(programme, limits)


def _invested(
    problem: Problem, attempt: Callable[[float], _Attempt], otherwise: str = _NO_OPTIMUM
) -> tuple[Limits, Any, Answer]:
    """The attempt for the sum of weights that is aimed at or, where the limits forbid that, for the nearest.

    Args:
        otherwise: what the error says where the limits allow a sum and the attempt for it still finds nothing.
    """
    limits, programme, answer = attempt(problem.net_target)
    if answer is None:
        nearest = nearest_net(problem)
        # A little inside of what is possible: at its very edge there is no interior, and no meaning in multipliers.
        limits, programme, answer = attempt(nearest + float(np.sign(nearest - problem.net_target)) * _INSIDE)
        if answer is None:
            # No sum but this one, or hardly another: the optimum is at the edge.
            limits, programme, answer = attempt(nearest)
    if answer is None:
        raise SolverError(f"the limits can be met with weights that sum to {limits.net:.6g}, but {otherwise}")
    return limits, programme, answer


def _ratio(problem: Problem, net: float) -> _Attempt:
    """The ratio as a convex programme in ``(κx, κ)``, with the numerator times κ at least a constant.

    The constant is the numerator of the mean-variance weights where that is positive, so that κ is near one.
    """
    from scipy import sparse

    if problem.impact is not None and problem.impact_power == QUADRATIC_LAW:
        raise SolverError("impact_law = quadratic is not available for maximum_sharpe: use square_root")
    limits, programme, near = _prescribed_utility(problem, net)
    if near is None or not limits.count:
        return limits, programme, near
    numerator = _numerator(problem, limits)
    earned = float(numerator @ np.append(limits.lift(near.x[: limits.count]), 1.0))
    places = np.append(np.arange(limits.count), limits.variables)
    loadings = np.zeros((limits.count + 1, len(problem.previous)))
    loadings[np.arange(limits.count), limits.free] = 1.0
    loadings[-1] = limits.fixed
    dense = loadings @ problem.covariance @ loadings.T
    scale = objective_size(dense, np.zeros(0))
    size = limits.variables + 1
    positive = np.zeros(size)
    positive[-1] = -1.0
    top = sparse.csc_matrix(np.vstack([positive, -numerator]))
    below = sparse.hstack([limits.matrix, sparse.csc_matrix(-limits.b[:, None])])
    b = np.zeros(len(limits.b) + 2)
    b[1] = -earned if earned > 0 else -1.0
    cones = (Cone("nonnegative", 2), *limits.cones)
    matrix = sparse.vstack([top, below], format="csc")
    programme = Programme(dense / scale, np.zeros(size), matrix, b, cones, scale, places)
    return limits, programme, solve(programme)


def _numerator(problem: Problem, limits: Limits) -> FloatArray:
    """Expected return after costs as a linear function of (x, 1), in units of the largest alpha."""
    linear = np.zeros(limits.variables + 1)
    linear[limits.columns["w"]] = problem.alpha[limits.free]
    if "t" in limits.columns:
        linear[limits.columns["t"]] = -problem.cost_rates(limits.free)
    if problem.impact is not None and "u" in limits.columns:
        linear[limits.columns["u"]] = -problem.impact[limits.free] * limits.unit**SQUARE_ROOT_LAW
    still = np.where(np.isin(np.arange(len(limits.fixed)), limits.free), problem.previous, limits.fixed)
    linear[-1] = float((problem.alpha * limits.fixed).sum()) - trading_cost(problem, still)
    return linear / (float(np.abs(problem.alpha).max()) or 1.0)


@dataclass(frozen=True, eq=False)
class _Shown:
    """The programme of CVaR with the scenarios ``rows`` alone."""

    programme: Programme
    rows: IntArray


def _scenarios(problem: Problem) -> FloatArray:
    if problem.scenarios is None:
        raise MissingDataError("minimum_cvar needs scenarios: pass the returns of past sessions")
    least = int(np.ceil(1.0 / (1.0 - problem.cvar_level) - 1e-9))
    if len(problem.scenarios) < least:
        raise MissingDataError(
            f"CVaR at {problem.cvar_level:.6g} needs at least {least} scenarios, there are {len(problem.scenarios)}: "
            "lengthen covariance_sessions or lower cvar_level"
        )
    return problem.scenarios


def _tail(problem: Problem, net: float, scenarios: FloatArray) -> _Attempt:
    limits = limits_of(problem, net=net)
    own, given = scenarios[:, limits.free], scenarios @ limits.fixed
    guess = problem.previous[limits.free]
    guess = guess if guess.any() else np.full(limits.count, 1.0 / max(limits.count, 1))
    tail = (1.0 - problem.cvar_level) * len(scenarios)
    first = min(len(scenarios), int(np.ceil(_FIRST_SCENARIOS * tail)))
    rows = np.sort(np.argsort(own @ guess + given, kind="stable")[:first])
    while True:
        shown = _Shown(_shortfall(limits, own[rows], given[rows], tail), rows)
        answer = solve(shown.programme)
        if answer is None or not limits.count:
            return limits, shown, answer
        over = -(own @ answer.x[limits.columns["w"]] + given) - answer.x[limits.variables]
        over[rows] = 0.0
        missed = np.flatnonzero(over > _MISSED)
        if not len(missed):
            return limits, shown, answer
        rows = np.union1d(rows, missed)


def _shortfall(limits: Limits, own: FloatArray, given: FloatArray, tail: float) -> Programme:
    """Rockafellar and Uryasev's programme in (x, threshold, excess of each scenario)."""
    from scipy import sparse

    if not limits.count:
        return Programme(None, np.zeros(0), limits.matrix, limits.b, limits.cones)
    seen, rest = len(own), limits.variables - limits.count
    empty, one = sparse.csc_matrix((seen, rest)), sparse.identity(seen)
    losses = sparse.hstack([sparse.csc_matrix(-own), empty, sparse.csc_matrix(-np.ones((seen, 1))), -one])
    positive = sparse.hstack([sparse.csc_matrix((seen, limits.variables + 1)), -one])
    below = sparse.hstack([limits.matrix, sparse.csc_matrix((len(limits.b), seen + 1))])
    q = np.concatenate([np.zeros(limits.variables), [1.0], np.full(seen, 1.0 / tail)])
    if "t" in limits.columns:
        q[limits.columns["t"]] = limits.problem.cost_rates(limits.free)
    return Programme(
        corner=None,
        q=q,
        matrix=sparse.vstack([losses, positive, below], format="csc"),
        b=np.concatenate([given, np.zeros(seen), limits.b]),
        cones=(Cone("nonnegative", 2 * seen), *limits.cones),
    )


def _whole(
    limits: Limits, scenarios: FloatArray, shown: _Shown, answer: Answer, chosen: FloatArray, level: float
) -> tuple[Programme, FloatArray, FloatArray]:
    """The programme with all scenarios, and the answer as a point and multipliers of it."""
    if not limits.count:
        return shown.programme, answer.x, answer.z
    count, tail, seen = len(scenarios), (1.0 - level) * len(scenarios), len(shown.rows)
    own, given = scenarios[:, limits.free], scenarios @ limits.fixed
    threshold = answer.x[limits.variables]
    excess = np.maximum(-(own @ chosen + given) - threshold, 0.0)
    prices, spare = np.zeros(count), np.full(count, 1.0 / tail)
    prices[shown.rows], spare[shown.rows] = answer.z[:seen], answer.z[seen : 2 * seen]
    x = np.concatenate([limits.lift(chosen), [threshold], excess])
    return _shortfall(limits, own, given, tail), x, np.concatenate([prices, spare, answer.z[2 * seen :]])


# -- methods that know no limits ---------------------------------------------------------------------------------------


def _allocated(method: Method) -> Callable[[Problem], Solution]:
    def solution(problem: Problem) -> Solution:
        return within_limits(problem, allocation.TARGETS[method](problem), method)

    return solution


def within_limits(problem: Problem, target: allocation.Target, method: Method) -> Solution:
    """``target`` itself if it meets every limit, else the nearest weights that do (Euclidean), of the same sum.

    Where the limits do not allow that sum, it is the nearest that they allow. The objective of the certificate is minus
    the distance to the target.
    """
    limits = limits_of(problem)
    chosen = target.weights[limits.free]
    programme = _distance(limits, target)
    met = residuals(programme, limits.lift(chosen), np.zeros(len(limits.b)))
    if met.primal <= _MISSED and _sums_as_aimed(problem, float(target.weights.sum())):
        answer = Answer(chosen, np.zeros(len(limits.b)), "closed", target.iterations)
        found = Residuals(met.primal, target.residual, 0.0, 0.0)
        conditions = f"{target.condition}; every limit holds without it being asked"
        measures = {**target.measures, **_missed_sum(problem, target.weights)}
        return _solution(limits, programme, chosen, answer, found, method, lambda _weights: 0.0, measures, conditions)
    limits, programme, projected = _invested(problem, lambda net: _projection(problem, target, net))
    near = _cleaned(limits, projected.x)
    distance = float(np.linalg.norm(limits.weights(near) - target.weights))
    found = residuals(programme, limits.lift(near), projected.z)
    conditions = (
        f"nearest to the method's own weights under all limits: Karush-Kuhn-Tucker of that projection; the method's "
        f"own condition ({target.condition}) holds before it, to {target.residual:.1e}, and not after"
    )
    measures = {**target.measures, "projection_distance": distance}
    return _solution(
        limits, programme, near, projected, found, method, lambda _weights: -distance, measures, conditions
    )


def _projection(problem: Problem, target: allocation.Target, net: float) -> _Attempt:
    limits = limits_of(problem, net=net)
    programme = _distance(limits, target)
    return limits, programme, solve(programme)


def _distance(limits: Limits, target: allocation.Target) -> Programme:
    """Half the squared distance to the target's weights, but for a constant."""
    programme = Programme(np.eye(limits.count), np.zeros(limits.variables), limits.matrix, limits.b, limits.cones)
    programme.q[limits.columns["w"]] = -target.weights[limits.free]
    return programme


def _sums_as_aimed(problem: Problem, total: float) -> bool:
    """Whether ``total`` is the sum of weights that is aimed at, or the nearest to it that the limits allow."""
    if abs(total - problem.net_target) <= WEIGHT_TOLERANCE:
        return True
    return abs(total - nearest_net(problem)) <= WEIGHT_TOLERANCE


# -- the certificate ---------------------------------------------------------------------------------------------------


def _cleaned(limits: Limits, x: FloatArray) -> FloatArray:
    """The free instruments' weights of a point, without the solver's noise."""
    free = limits.free
    lower, upper, previous = limits.bounds.lower[free], limits.bounds.upper[free], limits.problem.previous[free]
    cleaned = np.clip(x[: limits.count], lower, upper)
    for anchor in (upper, lower, previous, np.zeros_like(previous)):
        near = (np.abs(cleaned - anchor) <= WEIGHT_TOLERANCE) & (anchor >= lower) & (anchor <= upper)
        cleaned = np.where(near, anchor, cleaned)
    if limits.net is not None:
        # Many small corrections to one side must not add up: the sum is prescribed.
        rest = limits.net - float(limits.fixed.sum()) - float(cleaned.sum())
        moving = (cleaned > lower) & (cleaned < upper) & (cleaned != previous)
        if not moving.any() and abs(rest) > WEIGHT_TOLERANCE:
            moving = cleaned < upper if rest > 0 else cleaned > lower
        if moving.any():
            cleaned = np.clip(np.where(moving, cleaned + rest / moving.sum(), cleaned), lower, upper)
    return np.asarray(cleaned)


def _solution(
    limits: Limits,
    programme: Programme,
    chosen: FloatArray,
    answer: Answer,
    found: Residuals,
    method: Method,
    objective: Callable[[FloatArray], float],
    measures: Mapping[str, float] | None = None,
    conditions: str = OPTIMAL,
) -> Solution:
    """The weights ``chosen`` of the free instruments, if their residuals are small; ``objective`` is of all weights."""
    found.check(answer.status)
    weights = limits.weights(chosen)

    def evidence() -> Certificate:
        return _certificate(
            limits, programme, chosen, answer, found, objective(weights), method, conditions, measures or {}
        )

    return Solution(weights, evidence)


def _certificate(
    limits: Limits,
    programme: Programme,
    chosen: FloatArray,
    answer: Answer,
    found: Residuals,
    objective: float,
    method: str,
    conditions: str,
    measures: Mapping[str, float],
) -> Certificate:
    problem, weights, own = limits.problem, limits.weights(chosen), dict(measures)
    if limits.net is not None:
        own |= _missed_sum(problem, weights)
    prices = answer.z[len(answer.z) - len(limits.b) :] * programme.scale
    return Certificate(
        status=answer.status,
        iterations=answer.iterations,
        objective=objective,
        expected_return=float((problem.alpha * weights).sum()),
        risk_penalty=risk_penalty(problem, weights),
        trading_cost=trading_cost(problem, weights),
        primal_residual=found.primal,
        dual_residual=found.dual,
        complementarity=found.complementarity,
        gap=found.gap,
        active=_active(limits, limits.lift(chosen), prices, WEIGHT_TOLERANCE * programme.scale),
        method=method,
        conditions=conditions,
        measures=own,
    )


def _missed_sum(problem: Problem, weights: FloatArray) -> dict[str, float]:
    """By how much the sum of weights misses the one aimed at, where it does."""
    missed = float(weights.sum()) - problem.net_target
    return {"net_target_missed": missed} if abs(missed) > 2 * WEIGHT_TOLERANCE else {}


def _active(limits: Limits, x: FloatArray, prices: FloatArray, least: float) -> dict[str, float]:
    """Limits without room whose relaxing by one of their units is worth more than ``least``."""
    slack = limits.b - limits.matrix @ x if len(x) else limits.b
    names, active = limits.problem.names, dict[str, float]()
    for name in limits.names:
        rows = limits.rows[name]
        room, price = slack[rows], prices[rows]
        if name == "tracking_error_max_annual":
            room = np.array([room[0] - np.linalg.norm(room[1:])])
            price = price[:1] / np.sqrt(limits.problem.periods_per_year)
        if name == "adv_participation_max":
            price = price * np.tile(known_adv(limits.problem)[limits.free], 2)
        for number in np.flatnonzero((room <= WEIGHT_TOLERANCE) & (price > least)):
            label = name
            if name in NAME_LIMITS:
                column = limits.free[number % limits.count]
                label = f"{name}:{names[column] if names else column}"
            active[label] = float(price[number])
    return active


METHODS: Mapping[Method, Callable[[Problem], Solution]] = {
    "mean_variance": mean_variance,
    "minimum_variance": minimum_variance,
    "maximum_sharpe": maximum_sharpe,
    "minimum_cvar": minimum_cvar,
    "black_litterman": black_litterman,
    **{method: _allocated(method) for method in allocation.TARGETS},
}
"""Every method by its name in the configuration."""
