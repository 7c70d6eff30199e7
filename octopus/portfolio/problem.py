"""What is asked of the optimiser and what it answers with: one problem for every method, one certificate.

Belongs here: the types and errors that all methods share, and what each weight may be. Does not: the limits as rows of
a programme (limits.py), solving (solver.py), the methods (optimiser.py, allocation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from octopus.core.errors import OctopusError
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.portfolio.config import Constraints, Linkage

WEIGHT_TOLERANCE = 1e-6
"""A weight this close to zero, to the weight held or to its own bound is set to it: solver noise trades nothing."""

RESIDUAL_TOLERANCE = 1e-5
"""Largest primal residual (fraction of equity) and relative dual residual that a solution may have."""

_UNITS = {
    "adv_participation_max": "of the average daily volume",
    "beta_max": "of beta",
    "beta_min": "of beta",
    "tracking_error_max_annual": "a year",
}


_FINITE_NUMBERS = (
    "risk_aversion", "cost", "net_target", "impact_power", "cvar_level", "periods_per_year", "view_confidence", "tau",
)  # fmt: skip
_FINITE_ARRAYS = (
    "alpha", "covariance", "risk_covariance", "previous", "impact", "conversion", "scenarios", "risk_budgets",
    "benchmark",
)  # fmt: skip


class InfeasibleError(OctopusError):
    """No weights satisfy all limits.

    Attributes:
        violations: by how much each limit would have to give, in its own unit (most are fractions of equity). With
            ``alone``, giving way in any one of them is enough; otherwise all of them together are the least that is
            needed.
    """

    def __init__(self, violations: Mapping[str, float], limits: Mapping[str, float], *, alone: bool) -> None:
        if not violations:
            super().__init__(
                "no weights satisfy all limits of the portfolio, however far they give way: check what is held "
                "short while long_only is true, and what cannot be traded"
            )
            self.violations, self.alone = {}, alone
            return
        parts = [f"{name} = {limits[name]:.6g} by {amount:.6g}{_unit(name)}" for name, amount in violations.items()]
        how = (" or " if alone else " and ").join(parts)
        super().__init__(f"no weights satisfy all limits of the portfolio: relax {how} (fractions of equity)")
        self.violations = dict(violations)
        self.alone = alone


def _unit(name: str) -> str:
    unit = _UNITS.get(name)
    return "" if unit is None else f" {unit}"


class SolverError(OctopusError):
    """The solver stopped without an answer that its certificate supports."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is asked of the optimiser, for N instruments. Each method reads what it needs of it.

    Attributes:
        alpha: expected return over the horizon in excess of cash, fractions, shape (N,).
        covariance: of returns over the same horizon, shape (N, N), positive semidefinite.
        risk_covariance: what beta and tracking error are measured by where ``covariance`` is not the estimated one but
            what views have made of it, shape (N, N); None: ``covariance``.
        previous: weights held, fractions of equity, shape (N,).
        tradable: shape (N,); what cannot be traded keeps its weight, whatever its own limits say.
        risk_aversion: λ. cost: of trading one unit of weight, as a fraction.
        conversion: what trading one unit of each instrument's weight costs besides, as a fraction, where its money is
            converted, shape (N,); None: nothing.
        reduce_only: may not move away from zero (nothing is known of it), shape (N,).
        no_purchases: nothing may move away from zero for now, though all that is not ``reduce_only`` counts where a
            method asks what may be held.
        must_exit: goes to zero if it can be traded, shape (N,).
        names: of the instruments, for the certificate; their numbers if absent.
        net_target: sum of weights that the methods without a view of how much to invest aim at. It is a goal: where
            the limits do not allow it, the nearest sum that they allow takes its place, and the certificate says so.
        impact: of each instrument, shape (N,): trading x costs ``impact · x^impact_power`` besides ``cost``, as
            fractions of equity; None: none. impact_power: 1.5 (the square-root law) or 2.
        scenarios: returns over the horizon that are equally likely, shape (S, N), for CVaR. cvar_level: confidence.
        risk_budgets: share of risk that each instrument is to carry, up to a factor, shape (N,); None: equal.
        linkage: of the tree behind hierarchical risk parity.
        benchmark: weights that beta and tracking error are measured against, and that equilibrium returns come from,
            shape (N,); None: equal weights of those that may be held.
        sectors: of each instrument; an empty name, or none given, is the sector ``unknown``.
        adv: average daily value traded, fractions of equity, shape (N,); NaN: unknown, and then it is not traded where
            the constraints limit participation.
        periods_per_year: horizons in a year.
        views: expected returns like ``alpha``, NaN where there is none, shape (N,), for Black–Litterman.
        view_confidence: in (0, 1]; 1 takes the views as certain. tau: uncertainty of equilibrium returns.
    """

    alpha: FloatArray
    covariance: FloatArray
    previous: FloatArray
    tradable: BoolArray
    risk_aversion: float
    cost: float
    constraints: Constraints
    reduce_only: BoolArray | None = None
    no_purchases: bool = False
    must_exit: BoolArray | None = None
    names: Sequence[str] = ()
    net_target: float = 1.0
    impact: FloatArray | None = None
    impact_power: float = 1.5
    scenarios: FloatArray | None = None
    cvar_level: float = 0.95
    risk_budgets: FloatArray | None = None
    linkage: Linkage = "ward"
    benchmark: FloatArray | None = None
    sectors: Sequence[str] = ()
    adv: FloatArray | None = None
    periods_per_year: float = 252.0
    views: FloatArray | None = None
    view_confidence: float = 0.5
    tau: float = 0.05
    conversion: FloatArray | None = None
    risk_covariance: FloatArray | None = None

    def cost_of(self, changes: FloatArray, chosen: BoolArray | None = None) -> float:
        """Proportional costs of changes of weight, without impact, fraction of equity.

        Args:
            changes: absolute, of all instruments or of those of ``chosen``, shape (N,).
        """
        if self.conversion is None:
            return float(self.cost * changes.sum())
        rates = self.cost + (self.conversion if chosen is None else self.conversion[chosen])
        return float((rates * changes).sum())

    def cost_rates(self, chosen: IntArray) -> float | FloatArray:
        """Of trading one unit of weight of each of those instruments: one number where it is the same of all."""
        return self.cost if self.conversion is None else self.cost + self.conversion[chosen]

    @property
    def measured_covariance(self) -> FloatArray:
        """What beta and tracking error are measured by, shape (N, N)."""
        return self.covariance if self.risk_covariance is None else self.risk_covariance

    def require_finite(self) -> None:
        """Raises `SolverError` for a number that is none, naming its field."""
        for name in _FINITE_NUMBERS:
            if not np.isfinite(getattr(self, name)):
                raise SolverError(f"{name} = {getattr(self, name)} is not finite; give a number")
        for name in _FINITE_ARRAYS:
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                bad = int((~np.isfinite(values)).sum())
                raise SolverError(
                    f"{name} has {bad} values that are not finite; mark those instruments reduce_only and give zero"
                )


@dataclass(frozen=True)
class Certificate:
    """Evidence for weights, computed from the returned weights and the solver's multipliers.

    Residuals are of the programme that was solved, which ``conditions`` names: the method's own, or for methods that
    know no limits the projection onto them.

    Attributes:
        status: the solver's own word; ``fixed`` when no instrument was free to move; ``closed`` when the weights of a
            formula met every limit as they were.
        iterations: of the solver.
        objective: value of the method's own function, fraction of equity over the horizon unless the method says else.
        expected_return, risk_penalty, trading_cost: terms of mean-variance; the last two are subtracted there.
        primal_residual: largest violation of any constraint, fraction of equity.
        dual_residual: largest entry of the Lagrangian's gradient, each relative to the largest of the objective's slope
            and curvature in its own variable, and of their medians over all.
        complementarity: largest product of a multiplier and its slack, relative to the larger of those medians.
        gap: primal less dual objective, relative to the same or, if that is larger, to the objective. So none is
            measured by what one instrument of a wild variance has.
        active: limits that bind, with what relaxing each by one unit is worth, in units of the objective.
        method: by its name in the configuration.
        conditions: which conditions of optimality the residuals measure, and which the method does not claim.
        measures: the method's own numbers by name.
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
    method: str = "mean_variance"
    conditions: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Solution:
    """Chosen weights (fractions of equity, shape (N,)) and the evidence.

    Attributes:
        evidence: makes the certificate, whose residuals were checked already; a backtest asks for few of them.
    """

    weights: FloatArray
    evidence: Callable[[], Certificate] = field(repr=False)

    @cached_property
    def certificate(self) -> Certificate:
        return self.evidence()

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


def weight_bounds(problem: Problem) -> Bounds:
    """What each instrument's weight may be; what must go goes as far as its volume allows."""
    return _bounds(problem, only_reduced(problem))


def _bounds(problem: Problem, reduced: BoolArray | None) -> Bounds:
    """With ``reduced`` kept from moving away from zero."""
    limits, previous = problem.constraints, problem.previous
    lower, upper = np.full(len(previous), limits.floor), np.full(len(previous), limits.name_weight_max)
    if reduced is not None:
        least = np.maximum(np.minimum(previous, 0.0), min(limits.floor, 0.0))
        greatest = np.minimum(np.maximum(previous, 0.0), limits.name_weight_max)
        lower, upper = np.where(reduced, least, lower), np.where(reduced, greatest, upper)
    if problem.must_exit is not None:
        left = previous - np.clip(previous, -trade_cap(problem), trade_cap(problem))
        lower, upper = np.where(problem.must_exit, left, lower), np.where(problem.must_exit, left, upper)
    lower, upper = np.where(problem.tradable, lower, previous), np.where(problem.tradable, upper, previous)
    return Bounds(
        lower=lower,
        upper=upper,
        upper_is_limit=problem.tradable & (upper == limits.name_weight_max),
        lower_is_limit=problem.tradable & (lower == limits.floor),
    )


def only_reduced(problem: Problem) -> BoolArray | None:
    """Instruments that may not move away from zero, shape (N,); None where there is none."""
    return np.ones(len(problem.previous), dtype=bool) if problem.no_purchases else problem.reduce_only


def trade_cap(problem: Problem) -> FloatArray:
    """Largest change of each weight that participation in volume allows, shape (N,); infinite without such a limit."""
    participation = problem.constraints.adv_participation_max
    if participation is None or problem.adv is None:
        return np.full(len(problem.previous), np.inf)
    return np.asarray(participation * known_adv(problem))


def known_adv(problem: Problem) -> FloatArray:
    """Average daily value traded, fractions of equity; what is unknown counts as nothing."""
    return np.zeros(len(problem.previous)) if problem.adv is None else np.nan_to_num(problem.adv, nan=0.0)


def investable(problem: Problem, bounds: Bounds) -> BoolArray:
    """Instruments that may be held, shape (N,): what a method without a view of returns spreads over."""
    allowed = problem.tradable & (bounds.upper > 0)
    return allowed if problem.reduce_only is None else allowed & ~problem.reduce_only


def benchmark_weights(problem: Problem) -> FloatArray:
    """The benchmark, shape (N,): the given one, or equal weights of what may be held."""
    if problem.benchmark is not None:
        return problem.benchmark
    allowed = investable(problem, _bounds(problem, problem.reduce_only))
    return np.where(allowed, 1.0, 0.0) / max(int(allowed.sum()), 1)


def betas(problem: Problem) -> FloatArray:
    """Sensitivity of each instrument to the benchmark, shape (N,): Σb / b'Σb; zero for a benchmark without risk."""
    weights = benchmark_weights(problem)
    covariances = (problem.measured_covariance * weights).sum(axis=-1)
    variance = float((weights * covariances).sum())
    return np.asarray(covariances / variance) if variance > 0 else np.zeros(len(weights))


def reduced_to_limits(problem: Problem) -> FloatArray:
    """The weights held, made smaller where a limit asks for it: the fallback ``keep``.

    Each weight is cut to the limit of one instrument, then all that can be traded are scaled down by one factor to
    meet gross, net and cash, each only as far as its volume allows. Floors (``name_weight_min``, ``net_min``) and the
    other limits give way: nothing is ever bought.
    """
    previous, tradable, constraints = problem.previous, problem.tradable, problem.constraints
    least = 0.0 if constraints.long_only else -constraints.name_weight_max
    weights = np.where(tradable, np.clip(previous, least, constraints.name_weight_max), previous)
    fixed = np.where(tradable, 0.0, weights)
    moving = np.where(tradable, weights, 0.0)
    net_room = min(constraints.net_max, 1.0 - constraints.cash_min_fraction) - fixed.sum()
    gross_room = constraints.gross_max - np.abs(fixed).sum()
    factor = min(_factor(moving.sum(), net_room), _factor(np.abs(moving).sum(), gross_room))
    wanted, cap = fixed + moving * factor, trade_cap(problem)
    return np.where(np.isfinite(cap), np.clip(wanted, previous - cap, previous + cap), wanted)


def gone_to_cash(problem: Problem) -> FloatArray:
    """Nothing but what cannot be traded, as far as volumes allow: the fallback ``cash``."""
    cap = trade_cap(problem)
    return np.where(problem.tradable, problem.previous - np.clip(problem.previous, -cap, cap), problem.previous)


def _factor(total: float, room: float) -> float:
    """What makes ``total`` fit into ``room``; where what is fixed fills more than there is, all of it gives way, and
    what takes no room (nothing, or a net short) stays."""
    least = max(room, 0.0)
    return 1.0 if total <= least else least / total
