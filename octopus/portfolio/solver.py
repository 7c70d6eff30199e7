"""Convex programmes over cones: solving them, and how far a point is from being their optimum.

Belongs here: the form of a programme, the two solvers behind it, residuals. Does not: what a row means (limits.py) or
what is minimised (optimiser.py).

The form, with multipliers z of the rows::

    minimise ½x'Px + q'x   subject to   b − Ax ∈ K

A linear programme goes to HiGHS' simplex, everything else to the interior-point solver Clarabel, both directly: a
backtest asks thousands of times, and the modelling layers above cost tens of milliseconds each time. Both give the same
bits for the same programme.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from octopus.core.types import FloatArray, IntArray
from octopus.portfolio.problem import RESIDUAL_TOLERANCE, WEIGHT_TOLERANCE, SolverError

_TOLERANCE = 1e-10
_SIMPLEX_TOLERANCE = 1e-9
_OUT_OF_SIZE = 1e4
"""Of quadratic coefficients, in multiples of their median: larger ones say nothing of the size of the objective. A
hundredfold deviation, as one bad print makes it."""
_SUPERNODAL_FROM = 200
"""Variables from which Clarabel's blocked factorisation is faster than its plain one (measured: twice at 500)."""

ConeKind = Literal["nonnegative", "zero", "second_order", "triples"]


@dataclass(frozen=True)
class Cone:
    """A run of ``size`` rows of one kind; ``triples`` are second-order cones of three rows each."""

    kind: ConeKind
    size: int


@dataclass(frozen=True, eq=False)
class Programme:
    """The programme above.

    Attributes:
        corner: the rows and columns ``places`` of P, which is zero elsewhere; None where all of P is.
        matrix: A in compressed columns. cones: K, by runs of rows in order, nonnegative rows first.
        scale: the objective was divided by it.
        places: ascending; None: the first variables.
    """

    corner: FloatArray | None
    q: FloatArray
    matrix: Any
    b: FloatArray
    cones: tuple[Cone, ...]
    scale: float = 1.0
    places: IntArray | None = None

    @property
    def linear(self) -> bool:
        return self.corner is None and all(cone.kind in ("nonnegative", "zero") for cone in self.cones)

    def slope(self, x: FloatArray) -> FloatArray:
        """Px."""
        product = np.zeros(len(x))
        if self.corner is not None:
            at = slice(len(self.corner)) if self.places is None else self.places
            product[at] = self.corner @ x[at]
        return product

    @property
    def curvature(self) -> FloatArray:
        """The diagonal of P."""
        diagonal = np.zeros(self.matrix.shape[1])
        if self.corner is not None:
            at = slice(len(self.corner)) if self.places is None else self.places
            diagonal[at] = self.corner.diagonal()
        return diagonal

    def rows_at(self, x: FloatArray) -> FloatArray:
        """Ax."""
        rows = self.matrix.indices
        return np.asarray(np.bincount(rows, self.matrix.data * x[self._columns()], len(self.b)), dtype=np.float64)

    def columns_at(self, z: FloatArray) -> FloatArray:
        """A'z."""
        priced = self.matrix.data * z[self.matrix.indices]
        return np.asarray(np.bincount(self._columns(), priced, self.matrix.shape[1]), dtype=np.float64)

    def _columns(self) -> IntArray:
        """Of each number in A. The products above do without scipy's, which take five times as long to begin."""
        return np.repeat(np.arange(self.matrix.shape[1]), np.diff(self.matrix.indptr))


@dataclass(frozen=True, eq=False)
class Answer:
    """A point and its multipliers."""

    x: FloatArray
    z: FloatArray
    status: str
    iterations: int


@dataclass(frozen=True)
class Residuals:
    """Distances from the conditions of Karush, Kuhn and Tucker, as `octopus.portfolio.problem.Certificate` has them."""

    primal: float
    dual: float
    complementarity: float
    gap: float

    def check(self, status: str) -> None:
        """Raises `SolverError` where the point is not the optimum that it should be."""
        if max(self.primal, self.dual, self.gap) > RESIDUAL_TOLERANCE:
            raise SolverError(
                f"the solver ended with {status} and residuals of {self.primal:.2e} (primal), {self.dual:.2e} (dual) "
                f"and {self.gap:.2e} (gap), above {RESIDUAL_TOLERANCE:.0e}: check the covariance and the limits for "
                "extreme values"
            )


def objective_size(corner: FloatArray | None, q: FloatArray) -> float:
    """Largest coefficient of an objective, those that are out of size left out; one where there is none."""
    largest = float(np.abs(q).max(initial=0.0))
    if corner is not None and corner.size:
        quadratic, own = float(np.abs(corner).max()), corner.diagonal()
        if quadratic > _OUT_OF_SIZE * float(own.min()) and quadratic > _OUT_OF_SIZE * _typical(own):
            quadratic = _typical(own)
        largest = max(largest, quadratic)
    return largest or 1.0


def _typical(sizes: FloatArray) -> float:
    """The middle one of those that are not zero; zero where all are."""
    ordered = np.sort(sizes)
    zeros = int(ordered.searchsorted(0.0, side="right"))
    return float(ordered[(zeros + len(ordered)) // 2]) if zeros < len(ordered) else 0.0


def solve(programme: Programme) -> Answer | None:
    """The optimum, or None when no point is feasible.

    Raises:
        SolverError: the solver ended without numbers.
    """
    if not programme.matrix.shape[1]:
        return _nothing_to_solve(programme)
    return _simplex(programme) if programme.linear else _interior_point(programme)


def _nothing_to_solve(programme: Programme) -> Answer | None:
    """No instrument is free: the weights are what they are, if the limits allow them."""
    if _violation(programme.cones, programme.b) > WEIGHT_TOLERANCE:
        return None
    return Answer(np.zeros(0), np.zeros(len(programme.b)), "fixed", 0)


@lru_cache(maxsize=2)
def _settings(method: str) -> Any:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.direct_solve_method = method
    settings.presolve_enable = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = _TOLERANCE
    return settings


def _interior_point(programme: Programme) -> Answer | None:
    import clarabel

    steps = None if programme.corner is None else _steps(programme, programme.corner)
    if programme.corner is not None and steps is not None:
        answer = _interior_point(_in_steps(programme, programme.corner, steps))
        return None if answer is None else replace(answer, x=answer.x * steps)
    settings = _settings("faer" if programme.matrix.shape[1] >= _SUPERNODAL_FROM else "qdldl")
    cones = [solid for cone in programme.cones for solid in _clarabel_cones(cone)]
    answer = clarabel.DefaultSolver(
        _upper_triangle(programme), programme.q, programme.matrix, programme.b, cones, settings
    ).solve()
    status = str(answer.status)
    if status in ("PrimalInfeasible", "AlmostPrimalInfeasible"):
        return None
    if status not in ("Solved", "AlmostSolved") and not _linear_rows_can_be_met(programme):
        return None
    x, z = np.array(answer.x), np.array(answer.z)
    if not (np.isfinite(x).all() and np.isfinite(z).all()):
        raise SolverError(
            f"the solver ended with {status} and no numbers: check alpha and covariance for extreme values"
        )
    return Answer(x, z, status, answer.iterations)


def _steps(programme: Programme, corner: FloatArray) -> FloatArray | None:
    """Units of the variables in which no quadratic coefficient is out of size, powers of two; None: all of one.

    The solver's tolerances are relative to its largest numbers, and its own scaling reaches four decades: beside a
    coefficient that is larger by more, an answer that is far from the optimum of all others would look like it.
    """
    sizes = corner.diagonal()
    if not len(sizes) or float(sizes.max()) <= _OUT_OF_SIZE * float(sizes.min()):
        return None
    typical = _typical(sizes)
    beyond = sizes > _OUT_OF_SIZE * typical
    if not beyond.any():
        return None
    steps = np.ones(programme.matrix.shape[1])
    at = np.arange(len(sizes)) if programme.places is None else programme.places
    steps[at[beyond]] = np.exp2(np.round(np.log2(typical / sizes[beyond]) / 2))
    return steps


def _in_steps(programme: Programme, corner: FloatArray, steps: FloatArray) -> Programme:
    """The programme in variables that are multiples of ``steps``; its multipliers are the same."""
    matrix = programme.matrix.copy()
    matrix.data = matrix.data * np.repeat(steps, np.diff(matrix.indptr))
    at = slice(len(corner)) if programme.places is None else programme.places
    own = steps[at]
    return replace(programme, corner=corner * own * own[:, None], q=programme.q * steps, matrix=matrix)


def _upper_triangle(programme: Programme) -> Any:
    """P's in compressed columns."""
    from scipy import sparse

    variables, corner = programme.matrix.shape[1], programme.corner
    if corner is None:
        return sparse.csc_matrix((variables, variables))
    places = None if programme.places is None else tuple(programme.places.tolist())
    pattern, rows, columns = _pattern(len(corner), variables, places)
    # Of one pattern only the values are new: checking a matrix's form takes as long as a third of solving with it.
    triangle = copy(pattern)
    triangle.data = corner[rows, columns]
    return triangle


@lru_cache(maxsize=64)
def _pattern(count: int, variables: int, places: tuple[int, ...] | None) -> tuple[Any, IntArray, IntArray]:
    """Where an upper triangle of ``count`` columns stands in P, and the rows and columns of its values, in order."""
    from scipy import sparse

    columns, rows = np.tril_indices(count)
    at = np.arange(count) if places is None else np.array(places, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(at[columns], minlength=variables))])
    empty = np.zeros(len(rows))
    return sparse.csc_matrix((empty, at[rows], starts), shape=(variables, variables)), rows, columns


def _linear_rows_can_be_met(programme: Programme) -> bool:
    """What the interior-point method gives up on may be infeasible by very little: the simplex method can tell."""
    straight = sum(cone.size for cone in programme.cones if cone.kind in ("nonnegative", "zero"))
    cones = tuple(cone for cone in programme.cones if cone.kind in ("nonnegative", "zero"))
    rows = programme.matrix.tocsr()[:straight].tocsc()
    return _simplex(Programme(None, np.zeros(rows.shape[1]), rows, programme.b[:straight], cones)) is not None


def _clarabel_cones(cone: Cone) -> list[Any]:
    import clarabel

    if cone.kind == "nonnegative":
        return [clarabel.NonnegativeConeT(cone.size)]
    if cone.kind == "zero":
        return [clarabel.ZeroConeT(cone.size)]
    if cone.kind == "second_order":
        return [clarabel.SecondOrderConeT(cone.size)]
    return [clarabel.SecondOrderConeT(3)] * (cone.size // 3)


def _simplex(programme: Programme) -> Answer | None:
    from scipy.optimize import linprog

    equal = np.concatenate([np.full(cone.size, cone.kind == "zero") for cone in programme.cones])
    rows = programme.matrix.tocsr()
    answer = linprog(
        programme.q,
        A_ub=rows[~equal],
        b_ub=programme.b[~equal],
        A_eq=rows[equal] if equal.any() else None,
        b_eq=programme.b[equal] if equal.any() else None,
        bounds=(None, None),
        method="highs-ds",
        options={
            "primal_feasibility_tolerance": _SIMPLEX_TOLERANCE,
            "dual_feasibility_tolerance": _SIMPLEX_TOLERANCE,
        },
    )
    if answer.status == 2:
        return None
    if answer.status != 0:
        raise SolverError(f"the linear programme was not solved ({answer.message.strip()}): check for extreme values")
    z = np.zeros(len(programme.b))
    z[~equal] = -answer.ineqlin.marginals
    if equal.any():
        z[equal] = -answer.eqlin.marginals
    return Answer(np.asarray(answer.x), z, "Solved", int(answer.nit))


# -- residuals ---------------------------------------------------------------------------------------------------------


def residuals(programme: Programme, x: FloatArray, z: FloatArray) -> Residuals:
    """How far ``x`` with multipliers ``z`` is from the optimum."""
    if not len(x):
        return Residuals(_violation(programme.cones, programme.b), 0.0, 0.0, 0.0)
    px = programme.slope(x)
    slack = programme.b - programme.rows_at(x)
    gradient = px + programme.q + programme.columns_at(z)
    slopes, curvature = np.maximum(np.abs(px), np.abs(programme.q)), programme.curvature
    size = max(_typical(slopes), _typical(curvature)) or 1.0
    own = np.maximum(np.maximum(slopes, curvature), size)
    value = float(abs(x @ px / 2 + programme.q @ x))
    return Residuals(
        primal=_violation(programme.cones, slack),
        dual=max(float((np.abs(gradient) / own).max()), _dual_violation(programme.cones, z) / size),
        complementarity=_complementarity(programme.cones, slack, z) / size,
        gap=float(abs(x @ px + programme.q @ x + programme.b @ z)) / max(size, value),
    )


def _violation(cones: tuple[Cone, ...], slack: FloatArray) -> float:
    """Largest distance of any row, or of a cone's own inequality, from what it should be."""
    return max(0.0, *(_outside(kind, part) for kind, part in _parts(cones, slack)))


def _dual_violation(cones: tuple[Cone, ...], z: FloatArray) -> float:
    """The same of multipliers: every cone is its own dual, but rows that must be zero have any multiplier."""
    return max(0.0, *(_outside(kind, part) for kind, part in _parts(cones, z) if kind != "zero"))


def _outside(kind: ConeKind, part: FloatArray) -> float:
    if kind == "zero":
        return float(np.abs(part).max(initial=0.0))
    if kind == "nonnegative":
        return float((-part).max(initial=0.0))
    return float((np.linalg.norm(part[:, 1:], axis=1) - part[:, 0]).max(initial=0.0))


def _complementarity(cones: tuple[Cone, ...], slack: FloatArray, z: FloatArray) -> float:
    worst = 0.0
    for (kind, room), (_, price) in zip(_parts(cones, slack), _parts(cones, z), strict=True):
        product = room * price if kind in ("nonnegative", "zero") else (room * price).sum(axis=1)
        worst = max(worst, float(np.abs(product).max(initial=0.0)))
    return worst


def _parts(cones: tuple[Cone, ...], values: FloatArray) -> list[tuple[ConeKind, FloatArray]]:
    """The values by cone; second-order cones as rows of a matrix."""
    parts: list[tuple[ConeKind, FloatArray]] = []
    start = 0
    for cone in cones:
        part = values[start : start + cone.size]
        if cone.kind in ("second_order", "triples"):
            part = part.reshape(-1, 3 if cone.kind == "triples" else cone.size)
        parts.append((cone.kind, part))
        start += cone.size
    return parts
