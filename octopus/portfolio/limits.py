"""The limits of a portfolio as rows of a convex programme, and which of them clash when nothing satisfies all.

Belongs here: each limit of `octopus.portfolio.config.Constraints` once, for every method. Does not: what is minimised
(optimiser.py) and solving (solver.py).

For weights ``w`` as fractions of equity before the rebalance, ``w⁰`` those held, Σ the covariance over the horizon as
it was estimated (`octopus.portfolio.problem.Problem.measured_covariance`) and ``b`` the benchmark::

    name_weight_min (0 if long_only) ≤ w ≤ name_weight_max
    Σ|w − w⁰| ≤ turnover_max
    1 − Σw − cost · Σ|w − w⁰| ≥ cash_min_fraction
    net_min ≤ Σw ≤ net_max
    Σ|w| ≤ gross_max
    |w − w⁰| ≤ adv_participation_max · average daily value traded
    Σ|w| within a sector ≤ sector_weight_max
    beta_min ≤ Σ beta · w ≤ beta_max
    √((w − b)'Σ(w − b) · periods in a year) ≤ tracking_error_max_annual

They are linear (the last a second-order cone) in ``x = (w, t, g, u, v)`` with t ≥ |w − w⁰|, g ≥ |w| where shorts are
allowed and u ≥ (t / unit)^1.5 where impact costs (v helps to say so); what is not needed is left out. Instruments that
may not move are taken out of the programme beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import FloatArray, IntArray
from octopus.portfolio.problem import (
    WEIGHT_TOLERANCE,
    Bounds,
    InfeasibleError,
    Problem,
    SolverError,
    benchmark_weights,
    betas,
    known_adv,
    only_reduced,
    weight_bounds,
)
from octopus.portfolio.solver import Cone, ConeKind, Programme, solve

UNKNOWN_SECTOR = "unknown"
PARTICIPATION = "adv_participation_max"
NAME_LIMITS = ("name_weight_max", "name_weight_min", PARTICIPATION)
"""Limits with a row for each instrument."""

_ROUNDED = 1e-3
"""By what part of it a person may round a remedy up."""

_SCALARS = ("cash_min_fraction", "net_max", "net_min", "gross_max")
_AUXILIARY = ("buy", "sell", "long", "short", "impact", "net_target")


@dataclass(frozen=True, eq=False)
class Limits:
    """``{x : b − Ax ∈ K}`` over the free instruments.

    Attributes:
        free: numbers of the instruments that can move, shape (n,). fixed: weights of the others, zero for those.
        columns: where w, t, g, u and v stand in x; rows: where each limit stands in A.
        values: the limits' values by name. net: the sum of weights that is prescribed, or None.
        unit: size of a common trade: t is measured in it inside the cones of impact, so that numbers are near one.
    """

    problem: Problem
    bounds: Bounds
    free: IntArray
    fixed: FloatArray
    columns: Mapping[str, slice]
    matrix: Any
    b: FloatArray
    rows: Mapping[str, slice]
    cones: tuple[Cone, ...]
    values: Mapping[str, float]
    net: float | None
    unit: float

    @property
    def count(self) -> int:
        return len(self.free)

    @property
    def variables(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def names(self) -> tuple[str, ...]:
        """Limits that can bind and give way."""
        return tuple(name for name in self.rows if name not in _AUXILIARY)

    def lift(self, chosen: FloatArray) -> FloatArray:
        """x with the smallest t, g and u that go with the weights ``chosen`` of the free instruments."""
        trades = np.abs(chosen - self.problem.previous[self.free])
        parts = {
            "w": chosen,
            "t": trades,
            "g": np.abs(chosen),
            "u": (trades / self.unit) ** 1.5,
            "v": np.sqrt(trades / self.unit),
        }
        return np.concatenate([parts[name] for name in self.columns])

    def weights(self, chosen: FloatArray) -> FloatArray:
        """All instruments' weights, shape (N,)."""
        weights = self.fixed.copy()
        weights[self.free] = chosen
        return weights


@dataclass(frozen=True, eq=False)
class _Rows:
    """Further rows: coefficients of columns by name, and the right side."""

    name: str
    kind: ConeKind
    parts: Mapping[str, Any]
    b: FloatArray


def limits_of(problem: Problem, *, net: float | None = None, impact: bool = False, turnover: bool = False) -> Limits:
    """The limits of ``problem``, with the sum of weights ``net`` where one is prescribed.

    Args:
        impact: carry the variables u of the square-root law.
        turnover: carry the limit on turnover even where the others keep it from binding.
    """
    bounds = weight_bounds(problem)
    free = np.flatnonzero(bounds.upper > bounds.lower)
    fixed = bounds.lower.copy()
    fixed[free] = 0.0
    long_only, count = problem.constraints.long_only, len(free)
    curved = impact and problem.impact is not None and problem.impact_power != 2.0
    trades = curved or turnover or _trades_matter(problem, bounds, free)
    wanted = {"w": True, "t": trades, "g": not long_only, "u": curved, "v": curved}
    names = [name for name, present in wanted.items() if present]
    columns = {name: slice(place * count, (place + 1) * count) for place, name in enumerate(names)}
    rates = problem.cost_rates(free) if trades else 0.0
    base, rows = _base(count, long_only, rates if isinstance(rates, float) else tuple(rates.tolist()), trades)
    ((name, turnover_max),) = _turnover(problem).items()
    rows = {name if row == "turnover_max" else row: place for row, place in rows.items()}
    unit = turnover_max / max(count, 1)
    further = list(_further(problem, bounds, free, fixed, columns, net, unit if curved else None))
    matrix, b, rows, cones = _stack(base, _base_side(problem, bounds, free, fixed, trades), rows, columns, further)
    return Limits(problem, bounds, free, fixed, columns, matrix, b, rows, cones, _values(problem), net, unit)


def _trades_matter(problem: Problem, bounds: Bounds, free: IntArray) -> bool:
    """Changes of weights cost, or could pass the limit on turnover: without them, no variables for changes."""
    if problem.cost or (problem.conversion is not None and problem.conversion.any()):
        return True
    previous = problem.previous
    reach = np.maximum(bounds.upper - previous, previous - bounds.lower).sum()
    most = min(float(reach), problem.constraints.gross_max + float(np.abs(previous).sum()))
    return most > sum(_turnover(problem).values())


def _turnover(problem: Problem) -> dict[str, float]:
    """The limit on turnover by its name; an account that holds nothing has one of its own, to be invested at once."""
    name = "turnover_max" if problem.previous.any() else "turnover_max_initial"
    return {name: float(getattr(problem.constraints, name))}


def _values(problem: Problem) -> dict[str, float]:
    constraints = problem.constraints
    values = (
        _turnover(problem)
        | {name: float(getattr(constraints, name)) for name in _SCALARS}
        | {
            "name_weight_max": constraints.name_weight_max,
            "name_weight_min": constraints.floor,
        }
    )
    for name in ("adv_participation_max", "beta_min", "beta_max", "tracking_error_max_annual"):
        if (value := getattr(constraints, name)) is not None:
            values[name] = value
    if constraints.sector_weight_max is not None:
        values |= {f"sector_weight_max:{sector}": constraints.sector_weight_max for sector in set(_sectors(problem))}
    return values


@lru_cache(maxsize=64)
def _base(count: int, long_only: bool, cost: float | tuple[float, ...], trades: bool) -> tuple[Any, dict[str, slice]]:
    """The rows that every problem of one size shares."""
    from scipy import sparse

    one, ones = sparse.identity(count, format="csc"), sparse.csc_matrix(np.ones((1, count)))
    costs = cost * ones if isinstance(cost, float) else sparse.csc_matrix(np.array([cost]))
    blocks: dict[str, dict[str, Any]] = {}
    if trades:
        blocks |= {"buy": {"w": one, "t": -one}, "sell": {"w": -one, "t": -one}}
    blocks |= {"name_weight_max": {"w": one}, "name_weight_min": {"w": -one}}
    if trades:
        blocks |= {"turnover_max": {"t": ones}}
    blocks |= {
        "cash_min_fraction": {"w": ones, "t": costs} if trades else {"w": ones},
        "net_max": {"w": ones},
        "net_min": {"w": -ones},
        "gross_max": {"w": ones} if long_only else {"g": ones},
    }
    if not long_only:
        blocks |= {"long": {"w": one, "g": -one}, "short": {"w": -one, "g": -one}}
    used = ["w", *(["t"] if trades else []), *([] if long_only else ["g"])]
    lines = [_line(parts, used, count) for parts in blocks.values()]
    rows, start = {}, 0
    for name, line in zip(blocks, lines, strict=True):
        rows[name] = slice(start, start + line.shape[0])
        start += line.shape[0]
    return _compressed(lines), rows


def _line(parts: Mapping[str, Any], columns: Sequence[str], count: int) -> Any:
    from scipy import sparse

    height = next(iter(parts.values())).shape[0]
    empty = sparse.csc_matrix((height, count))
    return sparse.hstack([parts.get(name, empty) for name in columns], format="csc")


def _compressed(lines: Sequence[Any]) -> Any:
    from scipy import sparse

    matrix = sparse.vstack(lines, format="csc")
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _base_side(problem: Problem, bounds: Bounds, free: IntArray, fixed: FloatArray, trades: bool) -> FloatArray:
    previous, limits = problem.previous, problem.constraints
    decided = bounds.upper <= bounds.lower
    moved = np.abs(fixed[decided] - previous[decided])
    turnover = moved.sum()
    net = fixed.sum()
    changes = [previous[free], -previous[free]] if trades else []
    scalars = [
        *([sum(_turnover(problem).values()) - turnover] if trades else []),
        1.0 - limits.cash_min_fraction - net - problem.cost_of(moved, decided),
        limits.net_max - net,
        net - limits.net_min,
        limits.gross_max - np.abs(fixed).sum(),
    ]
    shorts = np.zeros(0 if problem.constraints.long_only else 2 * len(free))
    return np.concatenate([*changes, bounds.upper[free], -bounds.lower[free], scalars, shorts])


def _further(
    problem: Problem,
    bounds: Bounds,
    free: IntArray,
    fixed: FloatArray,
    columns: Mapping[str, slice],
    net: float | None,
    unit: float | None,
) -> Iterator[_Rows]:
    """The rows that only some problems have: linear ones, then the prescribed sum, then curved ones."""
    from scipy import sparse

    constraints, previous = problem.constraints, problem.previous
    if constraints.adv_participation_max is not None:
        if problem.adv is None:
            raise MissingDataError("adv_participation_max needs the average daily value traded: pass adv")
        cap = constraints.adv_participation_max * known_adv(problem)[free]
        one = sparse.identity(len(free), format="csc")
        either = np.concatenate([previous[free] + cap, cap - previous[free]])
        yield _Rows(PARTICIPATION, "nonnegative", {"w": sparse.vstack([one, -one])}, either)
    if constraints.sector_weight_max is not None:
        yield from _sector_rows(problem, free, fixed, "g" if "g" in columns else "w", constraints.sector_weight_max)
    yield from _beta_rows(problem, free, fixed)
    if net is not None:
        yield _Rows("net_target", "zero", {"w": _row(np.ones(len(free)))}, np.array([net - fixed.sum()]))
    if constraints.tracking_error_max_annual is not None:
        yield _tracking_rows(problem, free, fixed, constraints.tracking_error_max_annual)
    if unit is not None and len(free):
        yield _impact_rows(len(free), unit)


def _impact_rows(count: int, unit: float) -> _Rows:
    """u ≥ τ^1.5 for τ = t / unit: there is a v with ``τ² ≤ u·v`` and ``v² ≤ τ``, each a cone of three rows."""
    from scipy import sparse

    def placed(*rows: float) -> Any:
        return sparse.kron(sparse.identity(count), sparse.csc_matrix(-np.array(rows)[:, None]), format="csc")

    parts = {
        "u": placed(1.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        "v": placed(1.0, 0.0, -1.0, 0.0, 2.0, 0.0),
        "t": placed(0.0, 2.0 / unit, 0.0, 1.0 / unit, 0.0, 1.0 / unit),
    }
    return _Rows("impact", "triples", parts, np.tile([0.0, 0.0, 0.0, 1.0, 0.0, -1.0], count))


def _row(values: FloatArray) -> Any:
    from scipy import sparse

    return sparse.csc_matrix(values[None, :])


def _sectors(problem: Problem) -> list[str]:
    if not problem.sectors:
        return [UNKNOWN_SECTOR] * len(problem.previous)
    return [sector or UNKNOWN_SECTOR for sector in problem.sectors]


def _sector_rows(
    problem: Problem, free: IntArray, fixed: FloatArray, column: str, sector_weight_max: float
) -> Iterator[_Rows]:
    sectors = np.array(_sectors(problem))
    for sector in sorted(set(sectors.tolist())):
        inside = sectors == sector
        room = sector_weight_max - np.abs(fixed[inside]).sum()
        yield _Rows(
            f"sector_weight_max:{sector}", "nonnegative", {column: _row(inside[free].astype(float))}, np.array([room])
        )


def _beta_rows(problem: Problem, free: IntArray, fixed: FloatArray) -> Iterator[_Rows]:
    constraints = problem.constraints
    if constraints.beta_min is None and constraints.beta_max is None:
        return
    beta = betas(problem)
    held = float((beta * fixed).sum())
    for name, value, sign in (("beta_max", constraints.beta_max, 1.0), ("beta_min", constraints.beta_min, -1.0)):
        if value is not None:
            yield _Rows(name, "nonnegative", {"w": _row(sign * beta[free])}, np.array([sign * (value - held)]))


def _tracking_rows(problem: Problem, free: IntArray, fixed: FloatArray, error_max: float) -> _Rows:
    from scipy import sparse

    root = _root(problem.measured_covariance)
    active = root @ (fixed - benchmark_weights(problem))
    part = sparse.csc_matrix(np.vstack([np.zeros((1, len(free))), -root[:, free]]))
    side = np.concatenate([[error_max / np.sqrt(problem.periods_per_year)], active])
    return _Rows("tracking_error_max_annual", "second_order", {"w": part}, side)


def _root(covariance: FloatArray) -> FloatArray:
    """F with F'F = Σ, shape (rank, N)."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values.max(initial=0.0) * 1e-14
    return np.asarray((vectors[:, kept] * np.sqrt(values[kept])).T)


def _stack(
    base: Any, side: FloatArray, rows: Mapping[str, slice], columns: Mapping[str, slice], further: Sequence[_Rows]
) -> tuple[Any, FloatArray, dict[str, slice], tuple[Cone, ...]]:
    from scipy import sparse

    placed, start = dict(rows), base.shape[0]
    for block in further:
        placed[block.name] = slice(start, start + len(block.b))
        start += len(block.b)
    linear = base.shape[0] + sum(len(block.b) for block in further if block.kind == "nonnegative")
    cones = [Cone("nonnegative", linear)]
    cones += [Cone(block.kind, len(block.b)) for block in further if block.kind != "nonnegative"]
    if not further:
        return base, side, placed, tuple(cones)
    count = next(iter(columns.values())).stop
    width = count * len(columns)
    if base.shape[1] < width:
        base = sparse.hstack([base, sparse.csc_matrix((base.shape[0], width - base.shape[1]))])
    lines = [base, *(_line(block.parts, list(columns), count) for block in further)]
    return _compressed(lines), np.concatenate([side, *(block.b for block in further)]), placed, tuple(cones)


# -- clashes -----------------------------------------------------------------------------------------------------------


def clash(problem: Problem) -> InfeasibleError:
    """Which limits clash: first each alone, then the least of all together (programmes with elastic limits)."""
    pieces, alone = list(_pieces(problem)), {}
    limits = pieces[0].limits
    for name in limits.names:
        amounts = _relax(pieces, [name])
        if amounts and (name != PARTICIPATION or _cures(problem, amounts[name])):
            alone[name] = amounts[name]
    if alone:
        return InfeasibleError(alone, limits.values, alone=True)
    # Where more participation sells more of what must go, other limits have to give for that, and a little more than
    # what is told would not do: it is named only where nothing else does.
    others = [name for name in limits.names if name != PARTICIPATION]
    amounts = _relax(pieces, others) if len(pieces) > 1 else {}
    return InfeasibleError(amounts or _relax(pieces, limits.names), limits.values, alone=False)


def _cures(problem: Problem, amount: float) -> bool:
    """Whether a participation that is higher by ``amount``, or by a little more, makes everything feasible."""
    now = problem.constraints.adv_participation_max or 0.0
    limits = limits_of(_participating(problem, now + amount * (1 + _ROUNDED) + WEIGHT_TOLERANCE), turnover=True)
    return _elastic(limits, np.zeros((len(limits.b), 1)), np.ones(1), _unyielding(limits)) is not None


@dataclass(frozen=True, eq=False)
class _Piece:
    """The limits from one value of ``adv_participation_max`` on, as far as they are linear in it.

    What must go goes as far as participation allows, so that a higher one moves its weight too: until it is gone.

    Attributes:
        raised: from the value in the constraints to that of ``limits``. length: of the piece; infinite in the last.
        slope: what raising it by one adds to the right side.
    """

    limits: Limits
    raised: float
    length: float
    slope: FloatArray


def _pieces(problem: Problem) -> Iterator[_Piece]:
    """From the constraints' own value on; without such a limit it is the only piece, without a slope."""
    now = problem.constraints.adv_participation_max
    limits = limits_of(problem, turnover=True)
    if now is None:
        yield _Piece(limits, 0.0, np.inf, np.zeros(len(limits.b)))
        return
    gone = np.zeros(0)
    if problem.must_exit is not None:
        going = problem.must_exit & problem.tradable & (known_adv(problem) > 0)
        gone = np.unique(np.abs(problem.previous[going]) / known_adv(problem)[going])
    starts = [now, *gone[gone > now].tolist()]
    for start, end in zip(starts, [*starts[1:], np.inf], strict=True):
        # Past the last of them any step tells the slope.
        step = min(end - start, 1.0)
        first, second = (limits_of(_participating(problem, at), turnover=True) for at in (start, start + step))
        yield _Piece(first, start - now, end - start, (second.b - first.b) / step)


def _participating(problem: Problem, most: float) -> Problem:
    limits = problem.constraints.model_copy(update={"adv_participation_max": most})
    return replace(problem, constraints=limits)


def _relax(pieces: Sequence[_Piece], names: Sequence[str]) -> dict[str, float]:
    """Least amounts by which the limits ``names`` must give to make everything feasible; empty if they cannot."""
    found: list[dict[str, float]] = []
    for piece in pieces if PARTICIPATION in names else pieces[:1]:
        elastic = np.column_stack([_give(piece, name) for name in names])
        most = np.array([piece.length if name == PARTICIPATION else np.inf for name in names])
        amounts = _elastic(piece.limits, elastic, np.ones(len(names)), _unyielding(piece.limits), most)
        if amounts is not None:
            raised = np.array([piece.raised if name == PARTICIPATION else 0.0 for name in names])
            found.append(dict(zip(names, (amounts + raised).tolist(), strict=True)))
    least = min(found, key=lambda amounts: sum(amounts.values()), default={})
    return {name: amount for name, amount in least.items() if amount > WEIGHT_TOLERANCE / 10}


def _give(piece: _Piece, name: str) -> FloatArray:
    """What relaxing one limit by one unit adds to the right side, negated."""
    limits = piece.limits
    column, rows = np.zeros(len(limits.b)), limits.rows[name]
    own = {"name_weight_max": limits.bounds.upper_is_limit, "name_weight_min": limits.bounds.lower_is_limit}.get(name)
    if own is not None:
        column[rows] = -own[limits.free].astype(float)
    elif name == PARTICIPATION:
        column = -piece.slope
    elif name == "tracking_error_max_annual":
        column[rows.start] = -1.0 / np.sqrt(limits.problem.periods_per_year)
    else:
        column[rows] = -1.0
    return column


def _unyielding(limits: Limits) -> tuple[FloatArray, FloatArray]:
    """Least and greatest weight that the free instruments keep however far a limit gives way, each of shape (n,).

    No weight of a long-only account is below zero, and what may only be reduced stays between zero and what is held.
    """
    problem, free = limits.problem, limits.free
    least = np.full(len(free), 0.0 if problem.constraints.long_only else -np.inf)
    most = np.full(len(free), np.inf)
    reduced = only_reduced(problem)
    if reduced is not None:
        held, only = problem.previous[free], reduced[free]
        least = np.where(only, np.maximum(least, np.minimum(held, 0.0)), least)
        most = np.where(only, np.maximum(held, 0.0), most)
    return least, most


def _elastic(
    limits: Limits,
    elastic: FloatArray,
    prices: FloatArray,
    within: tuple[FloatArray, FloatArray] | None = None,
    most_each: FloatArray | None = None,
) -> FloatArray | None:
    """Cheapest nonnegative amounts of the columns ``elastic`` that make the limits feasible; None if none do.

    Args:
        within: least and greatest weight of each free instrument, beside the limits; infinite: none.
        most_each: greatest amount of each column; infinite: none.
    """
    from scipy import sparse

    extra, (least, most) = elastic.shape[1], within or (np.zeros(0), np.zeros(0))
    low, high = np.flatnonzero(np.isfinite(least)), np.flatnonzero(np.isfinite(most))
    each = sparse.identity(limits.variables, format="csr")
    bounds = sparse.vstack([sparse.csr_matrix((extra, limits.variables)), -each[low], each[high]])
    ends = np.full(extra, np.inf) if most_each is None else most_each
    ended = np.flatnonzero(np.isfinite(ends))
    own = sparse.identity(extra, format="csr")
    amounts = sparse.vstack([-own, sparse.csr_matrix((len(low) + len(high), extra)), own[ended]])
    bounds = sparse.vstack([bounds, sparse.csr_matrix((len(ended), limits.variables))])
    side = np.concatenate([np.zeros(extra), -least[low], most[high], ends[ended]])
    programme = Programme(
        corner=None,
        q=np.concatenate([np.zeros(limits.variables), prices]),
        matrix=_compressed(
            [sparse.hstack([bounds, amounts]), sparse.hstack([limits.matrix, sparse.csc_matrix(elastic)])]
        ),
        b=np.concatenate([side, limits.b]),
        cones=(Cone("nonnegative", len(side)), *limits.cones),
    )
    answer = solve(programme)
    return None if answer is None else answer.x[limits.variables :]


def nearest_net(problem: Problem) -> float:
    """The sum of weights nearest to `Problem.net_target` that the limits allow.

    Raises:
        InfeasibleError: they allow none.
    """
    limits = limits_of(problem, net=problem.net_target)
    row = limits.rows["net_target"].start
    elastic = np.zeros((len(limits.b), 2))
    elastic[row] = [1.0, -1.0]
    amounts = _elastic(limits, elastic, np.ones(2))
    if amounts is None:
        raise clash(problem)
    if not np.isfinite(amounts).all():
        raise SolverError("the nearest sum of weights was not found: check the limits for extreme values")
    return float(problem.net_target - amounts[0] + amounts[1])
