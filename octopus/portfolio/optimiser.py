"""Mean-variance weights under limits and proportional costs, each with a certificate.

Belongs here: the quadratic programme, its certificate, what happens when the limits contradict each other. Does not:
where alpha and covariance come from, rounding to shares (rebalance.py).

The programme, for weights ``w`` as fractions of equity before the rebalance and ``w⁰`` those held::

    maximise    alpha·w − λ/2 · w'Σw − c · Σ|w − w⁰|
    subject to  name_weight_min (0 if long_only) ≤ w ≤ name_weight_max
                Σ|w − w⁰| ≤ turnover_max
                1 − Σw − c · Σ|w − w⁰| ≥ cash_min
                net_min ≤ Σw ≤ net_max
                Σ|w| ≤ gross_max

It is solved with t ≥ |w − w⁰| (and g ≥ |w| where shorts are allowed) as further variables by the interior-point solver
Clarabel, directly: a backtest asks thousands of times, and the modelling layers above it cost tens of milliseconds
each time. Instruments that may not move are taken out of the programme beforehand.

Source: Boyd et al., "Multi-period trading via convex optimization", Foundations and Trends in Optimization 3 (2017),
section 4, for a single period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from octopus.core.errors import OctopusError
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.portfolio.config import Constraints

WEIGHT_TOLERANCE = 1e-6
"""A weight this close to zero, to the weight held or to its own bound is set to it: solver noise trades nothing."""

RESIDUAL_TOLERANCE = 1e-5
"""Largest primal residual (fraction of equity) and relative dual residual that a solution may have."""

_SOLVER_TOLERANCE = 1e-10
_RELAXED = ("name_weight_max", "name_weight_min", "turnover_max", "cash_min", "net_max", "net_min", "gross_max")


class InfeasibleError(OctopusError):
    """No weights satisfy all limits.

    Attributes:
        violations: by how much each limit would have to give, fraction of equity. With ``alone``, giving way in any
            one of them is enough; otherwise all of them together are the least that is needed.
    """

    def __init__(self, violations: Mapping[str, float], limits: Mapping[str, float], *, alone: bool) -> None:
        parts = [f"{name} = {limits[name]:.6g} by {amount:.6g}" for name, amount in violations.items()]
        how = (" or " if alone else " and ").join(parts)
        super().__init__(f"no weights satisfy all limits of the portfolio: relax {how} (fractions of equity)")
        self.violations = dict(violations)
        self.alone = alone


class SolverError(OctopusError):
    """The solver stopped without an answer that its certificate supports."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is asked of the optimiser, for N instruments.

    Attributes:
        alpha: expected return over the horizon in excess of cash, fractions, shape (N,).
        covariance: of returns over the same horizon, shape (N, N), positive semidefinite.
        previous: weights held, fractions of equity, shape (N,).
        tradable: shape (N,); what cannot be traded keeps its weight, whatever its own limits say.
        risk_aversion: λ. cost: of trading one unit of weight, as a fraction.
        reduce_only: may not move away from zero (nothing is known of it), shape (N,).
        must_exit: goes to zero if it can be traded, shape (N,).
        names: of the instruments, for the certificate; their numbers if absent.
    """

    alpha: FloatArray
    covariance: FloatArray
    previous: FloatArray
    tradable: BoolArray
    risk_aversion: float
    cost: float
    constraints: Constraints
    reduce_only: BoolArray | None = None
    must_exit: BoolArray | None = None
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Certificate:
    """Evidence that weights are the optimum, computed from the returned weights and the solver's multipliers.

    Attributes:
        status: the solver's own word, or ``fixed`` when no instrument was free to move.
        iterations: of the interior-point method.
        objective: value of the maximised function, fraction of equity over the horizon.
        expected_return, risk_penalty, trading_cost: its three terms; the last two are subtracted.
        primal_residual: largest violation of any constraint, fraction of equity.
        dual_residual: largest entry of the Lagrangian's gradient, relative to the largest coefficient of the objective.
        complementarity: largest product of a multiplier and its slack, relative likewise.
        gap: primal less dual objective, relative likewise.
        active: limits that bind, with what relaxing each by one unit is worth, in units of the objective.
    """

    status: str
    iterations: int
    objective: float
    expected_return: float
    risk_penalty: float
    trading_cost: float
    primal_residual: float
    dual_residual: float
    complementarity: float
    gap: float
    active: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Solution:
    """Optimal weights (fractions of equity, shape (N,)) and the evidence."""

    weights: FloatArray
    certificate: Certificate

    @property
    def status(self) -> str:
        return self.certificate.status


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least and greatest weight of each instrument, shape (N,).

    Attributes:
        upper_is_limit: the greatest weight is `Constraints.name_weight_max` and not the instrument's own, shape (N,).
        lower_is_limit: likewise the least weight and `Constraints.floor`, shape (N,).
    """

    lower: FloatArray
    upper: FloatArray
    upper_is_limit: BoolArray
    lower_is_limit: BoolArray


@dataclass(frozen=True, eq=False)
class _Programme:
    """minimise ½x'Px + q'x subject to Ax + s = b, s ≥ 0, over the free instruments; P is given by its n × n corner.

    Attributes:
        scale: the objective was divided by it.
    """

    corner: FloatArray
    q: FloatArray
    layout: _Layout
    b: FloatArray
    scale: float


@dataclass(frozen=True, eq=False)
class _Answer:
    """Primal point (w, t, g) and multipliers of the scaled programme."""

    x: FloatArray
    z: FloatArray
    status: str
    iterations: int


@dataclass(frozen=True, eq=False)
class _Layout:
    """The constraint matrix and what its rows mean; the same for all problems of one size.

    Attributes:
        corner_rows, corner_columns, corner_starts: the upper triangle of P's corner in compressed columns.
    """

    dense: FloatArray
    sparse: Any
    rows: Mapping[str, slice]
    corner_rows: IntArray
    corner_columns: IntArray
    corner_starts: IntArray

    @property
    def variables(self) -> int:
        return int(self.dense.shape[1])


def optimise(problem: Problem) -> Solution:
    """Weights that maximise expected return less risk and trading cost. The same problem gives the same bits.

    Raises:
        InfeasibleError: the limits contradict each other; it says which and by how much.
        SolverError: the solver found no answer whose residuals are within `RESIDUAL_TOLERANCE`, or the problem has a
            number that is not finite.
    """
    _require_finite(alpha=problem.alpha, covariance=problem.covariance, previous=problem.previous)
    bounds = weight_bounds(problem)
    free = np.flatnonzero(bounds.upper > bounds.lower)
    weights = bounds.lower.copy()
    programme = _programme(problem, bounds, free)
    answer = _solve(programme) if len(free) else _nothing_to_solve(programme)
    if answer is None:
        raise _infeasible(programme, bounds, free, problem)
    weights[free] = _clean(answer.x[: len(free)], problem.previous[free], bounds.lower[free], bounds.upper[free])
    return Solution(weights, _certify(problem, programme, weights, free, answer))


def weight_bounds(problem: Problem) -> Bounds:
    """What each instrument's weight may be."""
    limits, previous = problem.constraints, problem.previous
    lower, upper = np.full(len(previous), limits.floor), np.full(len(previous), limits.name_weight_max)
    if problem.reduce_only is not None:
        least = np.maximum(np.minimum(previous, 0.0), min(limits.floor, 0.0))
        greatest = np.minimum(np.maximum(previous, 0.0), limits.name_weight_max)
        lower, upper = np.where(problem.reduce_only, least, lower), np.where(problem.reduce_only, greatest, upper)
    if problem.must_exit is not None:
        lower, upper = np.where(problem.must_exit, 0.0, lower), np.where(problem.must_exit, 0.0, upper)
    lower, upper = np.where(problem.tradable, lower, previous), np.where(problem.tradable, upper, previous)
    return Bounds(
        lower=lower,
        upper=upper,
        upper_is_limit=problem.tradable & (upper == limits.name_weight_max),
        lower_is_limit=problem.tradable & (lower == limits.floor),
    )


def reduced_to_limits(previous: FloatArray, tradable: BoolArray, constraints: Constraints) -> FloatArray:
    """The weights held, made smaller where a limit asks for it: the fallback ``keep``.

    Each weight is cut to the limit of one instrument, then all that can be traded are scaled down by one factor to
    meet gross, net and cash. Floors (``name_weight_min``, ``net_min``) and turnover give way: nothing is ever bought.
    """
    least = 0.0 if constraints.long_only else -constraints.name_weight_max
    weights = np.where(tradable, np.clip(previous, least, constraints.name_weight_max), previous)
    fixed = np.where(tradable, 0.0, weights)
    moving = np.where(tradable, weights, 0.0)
    net_room = min(constraints.net_max, 1.0 - constraints.cash_min) - fixed.sum()
    gross_room = constraints.gross_max - np.abs(fixed).sum()
    factor = min(_factor(moving.sum(), net_room), _factor(np.abs(moving).sum(), gross_room))
    return np.asarray(fixed + moving * factor)


def _factor(total: float, room: float) -> float:
    return 1.0 if total <= room else max(room, 0.0) / total


def _require_finite(**arrays: FloatArray) -> None:
    for name, values in arrays.items():
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise SolverError(
                f"{name} has {bad} values that are not finite; mark those instruments reduce_only and give zero"
            )


# -- the programme -----------------------------------------------------------------------------------------------------


def _programme(problem: Problem, bounds: Bounds, free: IntArray) -> _Programme:
    count, constraints, previous = len(free), problem.constraints, problem.previous
    layout = _layout(count, constraints.long_only, problem.cost)
    fixed = bounds.lower.copy()
    fixed[free] = 0.0
    corner = problem.risk_aversion * problem.covariance[np.ix_(free, free)]
    q = np.zeros(layout.variables)
    q[:count] = problem.risk_aversion * (problem.covariance[free] * fixed).sum(axis=-1) - problem.alpha[free]
    q[count : 2 * count] = problem.cost
    decided = bounds.upper <= bounds.lower
    turnover = np.abs(fixed[decided] - previous[decided]).sum()
    limits = _limits(constraints, previous)
    net = fixed.sum()
    scalars = [
        limits["turnover_max"] - turnover,
        1.0 - limits["cash_min"] - net - problem.cost * turnover,
        limits["net_max"] - net,
        net - limits["net_min"],
        limits["gross_max"] - np.abs(fixed).sum(),
    ]
    shorts = np.zeros(0 if constraints.long_only else 2 * count)
    b = np.concatenate([previous[free], -previous[free], bounds.upper[free], -bounds.lower[free], scalars, shorts])
    scale = max(float(np.abs(q).max(initial=0.0)), float(np.abs(corner).max(initial=0.0))) or 1.0
    return _Programme(corner / scale, q / scale, layout, b, scale)


def _limits(constraints: Constraints, previous: FloatArray) -> dict[str, float]:
    """The limits by name; an account that holds nothing may be invested at once."""
    turnover_max = constraints.turnover_max if previous.any() else constraints.turnover_max_initial
    values = {name: float(getattr(constraints, name)) for name in _RELAXED}
    return values | {"turnover_max": turnover_max, "name_weight_min": constraints.floor}


@lru_cache(maxsize=64)
def _layout(count: int, long_only: bool, cost: float) -> _Layout:
    from scipy import sparse

    one, none = np.eye(count), np.zeros((count, count))
    ones, zeros = np.ones((1, count)), np.zeros((1, count))
    blocks: dict[str, tuple[FloatArray, FloatArray, FloatArray]] = {
        "buy": (one, -one, none),
        "sell": (-one, -one, none),
        "name_weight_max": (one, none, none),
        "name_weight_min": (-one, none, none),
        "turnover_max": (zeros, ones, zeros),
        "cash_min": (ones, cost * ones, zeros),
        "net_max": (ones, zeros, zeros),
        "net_min": (-ones, zeros, zeros),
        "gross_max": (ones, zeros, zeros) if long_only else (zeros, zeros, ones),
    }
    if not long_only:
        blocks |= {"long": (one, none, -one), "short": (-one, none, -one)}
    used = 2 if long_only else 3
    dense = np.vstack([np.hstack(block[:used]) for block in blocks.values()])
    rows, start = {}, 0
    for name, block in blocks.items():
        rows[name] = slice(start, start + len(block[0]))
        start += len(block[0])
    corner_columns, corner_rows = np.tril_indices(count)
    entries = np.bincount(corner_columns, minlength=used * count)
    return _Layout(
        dense=dense,
        sparse=sparse.csc_matrix(dense),
        rows=rows,
        corner_rows=corner_rows,
        corner_columns=corner_columns,
        corner_starts=np.concatenate([[0], np.cumsum(entries)]),
    )


@lru_cache(maxsize=1)
def _solver_settings() -> Any:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.direct_solve_method = "qdldl"
    settings.presolve_enable = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = _SOLVER_TOLERANCE
    return settings


def _solve(programme: _Programme) -> _Answer | None:
    """The solver's answer, or None when the programme is infeasible."""
    import clarabel
    from scipy import sparse

    layout = programme.layout
    data = programme.corner[layout.corner_rows, layout.corner_columns]
    shape = (layout.variables, layout.variables)
    quadratic = sparse.csc_matrix((data, layout.corner_rows, layout.corner_starts), shape=shape)
    cones = [clarabel.NonnegativeConeT(len(programme.b))]
    solver = clarabel.DefaultSolver(quadratic, programme.q, layout.sparse, programme.b, cones, _solver_settings())
    answer = solver.solve()
    status = str(answer.status)
    if status in ("PrimalInfeasible", "AlmostPrimalInfeasible"):
        return None
    x, z = np.array(answer.x), np.array(answer.z)
    if not (np.isfinite(x).all() and np.isfinite(z).all()):
        raise SolverError(
            f"the solver ended with {status} and no numbers: check alpha and covariance for extreme values"
        )
    return _Answer(x, z, status, answer.iterations)


def _nothing_to_solve(programme: _Programme) -> _Answer | None:
    """No instrument is free: the weights are what they are, if the limits allow them."""
    if programme.b.min() < -WEIGHT_TOLERANCE:
        return None
    return _Answer(np.zeros(0), np.zeros(len(programme.b)), "fixed", 0)


def _clean(weights: FloatArray, previous: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    cleaned = np.clip(weights, lower, upper)
    for anchor in (upper, lower, previous, np.zeros_like(previous)):
        near = (np.abs(cleaned - anchor) <= WEIGHT_TOLERANCE) & (anchor >= lower) & (anchor <= upper)
        cleaned = np.where(near, anchor, cleaned)
    return np.asarray(cleaned)


# -- the certificate ---------------------------------------------------------------------------------------------------


def _certify(
    problem: Problem, programme: _Programme, weights: FloatArray, free: IntArray, answer: _Answer
) -> Certificate:
    previous, z = problem.previous, answer.z
    chosen = weights[free]
    parts = [chosen, np.abs(chosen - previous[free])]
    if programme.layout.variables > 2 * len(free):
        parts.append(np.abs(chosen))
    x = np.concatenate(parts)
    px = np.concatenate([programme.corner @ chosen, np.zeros(len(x) - len(free))])
    slack = programme.b - programme.layout.dense @ x
    gradient = px + programme.q + programme.layout.dense.T @ z
    primal = float(np.maximum(-slack, 0.0).max(initial=0.0))
    dual = float(np.abs(gradient).max(initial=0.0))
    if max(primal, dual) > RESIDUAL_TOLERANCE:
        raise SolverError(
            f"the solver ended with {answer.status} and residuals of {primal:.2e} (primal) and {dual:.2e} (dual), "
            f"above {RESIDUAL_TOLERANCE:.0e}: check the covariance and the limits for extreme values"
        )
    terms = (
        float((problem.alpha * weights).sum()),
        float(problem.risk_aversion / 2 * (weights * (problem.covariance * weights).sum(axis=-1)).sum()),
        float(problem.cost * np.abs(weights - previous).sum()),
    )
    return Certificate(
        status=answer.status,
        iterations=answer.iterations,
        objective=terms[0] - terms[1] - terms[2],
        expected_return=terms[0],
        risk_penalty=terms[1],
        trading_cost=terms[2],
        primal_residual=primal,
        dual_residual=dual,
        complementarity=float(np.abs(z * slack).max(initial=0.0)),
        gap=float(abs(x @ px + programme.q @ x + programme.b @ z)) if len(free) else 0.0,
        active=_active(programme, slack, z, free, problem.names),
    )


def _active(
    programme: _Programme, slack: FloatArray, z: FloatArray, free: IntArray, names: Sequence[str]
) -> dict[str, float]:
    active: dict[str, float] = {}
    for name in _RELAXED:
        rows = programme.layout.rows[name]
        for number, (room, price) in enumerate(zip(slack[rows], z[rows], strict=True)):
            if room <= WEIGHT_TOLERANCE and price > WEIGHT_TOLERANCE:
                column = free[number] if name in ("name_weight_max", "name_weight_min") else None
                label = name if column is None else f"{name}:{names[column] if names else column}"
                active[label] = float(price * programme.scale)
    return active


# -- infeasibility -----------------------------------------------------------------------------------------------------


def _infeasible(programme: _Programme, bounds: Bounds, free: IntArray, problem: Problem) -> InfeasibleError:
    """Which limits clash: first each alone, then the least of all together (linear programmes with elastic limits)."""
    limits = _limits(problem.constraints, problem.previous)
    alone = {}
    for name in _RELAXED:
        amounts = _relax(programme, bounds, free, [name])
        if amounts:
            alone[name] = amounts[name]
    if alone:
        return InfeasibleError(alone, limits, alone=True)
    return InfeasibleError(_relax(programme, bounds, free, _RELAXED), limits, alone=False)


def _relax(programme: _Programme, bounds: Bounds, free: IntArray, names: Sequence[str]) -> dict[str, float]:
    """Least amounts by which the limits ``names`` must give to make the programme feasible; empty if they cannot."""
    from scipy.optimize import linprog

    layout = programme.layout
    elastic = np.zeros((len(programme.b), len(names)))
    for column, name in enumerate(names):
        rows = layout.rows[name]
        own = {"name_weight_max": bounds.upper_is_limit, "name_weight_min": bounds.lower_is_limit}.get(name)
        elastic[rows, column] = -1.0 if own is None else -own[free].astype(float)
    answer = linprog(
        np.concatenate([np.zeros(layout.variables), np.ones(len(names))]),
        A_ub=np.hstack([layout.dense, elastic]),
        b_ub=programme.b,
        bounds=[(None, None)] * layout.variables + [(0, None)] * len(names),
        method="highs",
    )
    if answer.status != 0:
        return {}
    amounts = answer.x[layout.variables :]
    return {name: float(amount) for name, amount in zip(names, amounts, strict=True) if amount > WEIGHT_TOLERANCE / 10}
