"""Declared features: expressions of prices and volumes, and computing many of them at once.

Belongs here: operators, the declaration of a feature, and its evaluation on bars. Does not: particular features
(alpha158.py), window arithmetic (kernels.py).

Bars are arrays (T sessions, N instruments) by name, NaN where there is none. What an expression reads follows from how
it is built: row t of a feature uses its ``window`` rows up to t and no others, and has the same bits whether the panel
goes on or not, and whether all rows are computed or only the last.

Missing bars. Operators on single rows give NaN where an operand is missing. Windows leave out what is missing or
infinite, and take what they have where the bars begin; positions are counted among the observations. A session on
which an instrument has no close has no value in any column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from octopus.core.errors import ConfigError
from octopus.core.types import FloatArray
from octopus.strategy.kernels import CoMoments, Highest, Moments, Observed, Quantiles, Ranks, Sums

Bars = Mapping[str, FloatArray]
"""Arrays (T, N) by name; ``close`` is always among them."""
Columns = NDArray[Any]
"""Features of all instruments, shape (F, rows, N): each feature lies in one piece."""

FLAT = 2e-5
"""A standard deviation up to here is none, in the unit of the column (Qlib's threshold)."""


@dataclass(frozen=True, eq=False)
class Expression:
    """A value for every instrument and session, made of others.

    Attributes:
        lookback: rows before the current one that it reads. lag: the newest row it reads, in rows before the current.
    """

    operator: str
    operands: tuple[Expression | float, ...] = ()
    settings: tuple[Any, ...] = ()
    lookback: int = 0
    lag: int = 0

    def inputs(self) -> frozenset[str]:
        """Names of the bars' arrays that it reads."""
        if self.operator == "bar":
            return frozenset(self.settings)
        return frozenset().union(*(one.inputs() for one in self.operands if isinstance(one, Expression)))

    def __add__(self, other: Expression | float) -> Expression:
        return _made("add", self, other)

    def __sub__(self, other: Expression | float) -> Expression:
        return _made("subtract", self, other)

    def __rsub__(self, other: float) -> Expression:
        return _made("subtract", other, self)

    def __mul__(self, other: Expression | float) -> Expression:
        return _made("multiply", self, other)

    def __rmul__(self, other: float) -> Expression:
        return _made("multiply", other, self)

    def __truediv__(self, other: Expression | float) -> Expression:
        return _made("divide", self, other)

    def __neg__(self) -> Expression:
        return _made("negative", self)

    def __gt__(self, other: Expression | float) -> Expression:
        """1 where it is above ``other`` and 0 where it is not, or ``other`` is missing; NaN where it is missing."""
        return _made("above", self, other)

    def __lt__(self, other: Expression | float) -> Expression:
        """1 where it is below ``other`` and 0 where it is not, or ``other`` is missing; NaN where it is missing."""
        return _made("below", self, other)


def _made(operator: str, *operands: Expression | float, settings: tuple[Any, ...] = (), back: int = 0) -> Expression:
    read = [one for one in operands if isinstance(one, Expression)]
    lookback = max((one.lookback for one in read), default=0) + back
    lag = min((one.lag for one in read), default=0) + (back if operator == "ref" else 0)
    return Expression(operator, operands, settings, lookback, lag)


def bar(name: str) -> Expression:
    """An array of the bars."""
    return _made("bar", settings=(name,))


def ref(x: Expression, rows: int) -> Expression:
    """The value ``rows`` rows ago."""
    return _made("ref", x, settings=(rows,), back=rows)


def log(x: Expression) -> Expression:
    """Natural logarithm."""
    return _made("log", x)


def absolute(x: Expression) -> Expression:
    """Without its sign."""
    return _made("absolute", x)


def greater(x: Expression, other: Expression | float) -> Expression:
    """The greater of both; NaN where one is missing."""
    return _made("greater", x, other)


def less(x: Expression, other: Expression | float) -> Expression:
    """The lesser of both; NaN where one is missing."""
    return _made("less", x, other)


def _over(statistic: str, kind: str, x: Expression, window: int, *settings: float) -> Expression:
    """A statistic of windows; all lengths of one column share a `kind` of table."""
    if window < 1:
        raise ConfigError(where="features", field="window", value=window, remedy="use at least one row")
    table = _made(kind, _made("observed", x))
    return _made(statistic, table, settings=(window, *settings), back=window - 1)


def total(x: Expression, window: int) -> Expression:
    """Sum of the last ``window`` rows."""
    return _over("total", "sums", x, window)


def mean(x: Expression, window: int) -> Expression:
    """Mean of the last ``window`` rows."""
    return _over("mean", "sums", x, window)


def std(x: Expression, window: int) -> Expression:
    """Sample standard deviation (ddof 1) of the last ``window`` rows; NaN for a single one."""
    return _over("std", "moments", x, window)


def slope(x: Expression, window: int) -> Expression:
    """Slope of the least-squares line through the last ``window`` rows, per row."""
    return _over("slope", "trend", x, window)


def r_squared(x: Expression, window: int) -> Expression:
    """Squared correlation with time over the last ``window`` rows; NaN where the standard deviation is up to `FLAT`."""
    value = _over("correlation", "trend", x, window)
    return _made("unless_flat", value * value, std(x, window))


def residual(x: Expression, window: int) -> Expression:
    """Distance of the newest row from the least-squares line through the last ``window`` rows."""
    table = _made("trend", _made("observed", x))
    return _made("residual", table, x, settings=(window,), back=window - 1)


def highest(x: Expression, window: int) -> Expression:
    """Highest of the last ``window`` rows."""
    return _over("highest", "highs", x, window)


def lowest(x: Expression, window: int) -> Expression:
    """Lowest of the last ``window`` rows."""
    return -highest(-x, window)


def highest_place(x: Expression, window: int) -> Expression:
    """Where the first of the highest stands among the last ``window`` rows' observations, 1 for the oldest."""
    return _over("place", "highs", x, window)


def lowest_place(x: Expression, window: int) -> Expression:
    """Where the first of the lowest stands among the last ``window`` rows' observations, 1 for the oldest."""
    return highest_place(-x, window)


def quantile(x: Expression, window: int, probability: float) -> Expression:
    """Quantile of the last ``window`` rows, linear between the two nearest."""
    return _over("quantile", "quantiles", x, window, probability)


def rank(x: Expression, window: int) -> Expression:
    """Rank of the newest among the last ``window`` rows over their number, ties averaged, in (0, 1]."""
    return _over("rank", "ranks", x, window)


def correlation(x: Expression, y: Expression, window: int) -> Expression:
    """Pearson's correlation over the last ``window`` rows, where both are there.

    NaN where the standard deviation of either is up to `FLAT`.
    """
    table = _made("pairs", _made("observed", x), _made("observed", y))
    value = _made("correlation", table, settings=(window,), back=window - 1)
    return _made("unless_flat", _made("unless_flat", value, std(x, window)), std(y, window))


@dataclass(frozen=True, eq=False)
class Feature:
    """A declared feature; what it reads follows from its expression.

    Attributes:
        inputs: arrays of the bars it reads. window: rows it looks back, the current one included.
        lag: the newest row it reads, in rows before the current one.
    """

    name: str
    description: str
    expression: Expression

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(sorted(self.expression.inputs()))

    @property
    def window(self) -> int:
        return self.expression.lookback + 1

    @property
    def lag(self) -> int:
        return self.expression.lag


# Evaluation ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One operator, done once however many features need its result.

    Attributes:
        operands: numbers of the steps it reads, or constants as one-element tuples.
        unread: first rows of a piece that hold nothing of use. spent: steps that nothing reads after this one.
        columns: features that its result is.
    """

    operator: str
    operands: tuple[int | tuple[float], ...]
    settings: tuple[Any, ...]
    unread: int
    spent: tuple[int, ...]
    columns: tuple[int, ...]


def _lagged(x: FloatArray, rows: int) -> FloatArray:
    result = np.empty_like(x)
    result[:rows] = np.nan
    result[rows:] = x[: max(len(x) - rows, 0)]
    return result


def _where_there(x: FloatArray, flags: NDArray[np.bool_]) -> FloatArray:
    result = flags.astype(np.float64)
    missing = np.isnan(x)
    if missing.any():
        result[missing] = np.nan
    return result


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negative": np.negative,
    "log": np.log,
    "absolute": np.abs,
    "greater": np.maximum,
    "less": np.minimum,
    "above": lambda x, other: _where_there(x, x > other),
    "below": lambda x, other: _where_there(x, x < other),
    "ref": _lagged,
    "unless_flat": lambda x, spread: np.where(spread <= FLAT, np.nan, x),
    "sums": Sums,
    "moments": Moments,
    "trend": lambda seen: CoMoments(None, seen),
    "pairs": CoMoments,
    "highs": Highest,
    "ranks": Ranks,
    "quantiles": Quantiles,
    "total": Sums.sum,
    "mean": Sums.mean,
    "std": Moments.std,
    "slope": CoMoments.slope,
    "correlation": CoMoments.correlation,
    "residual": lambda table, x, window: table.newest_residual(window, x),
    "highest": Highest.value,
    "place": Highest.place,
    "rank": Ranks.rank,
    "quantile": Quantiles.quantile,
}


class _Planner:
    """Steps for expressions, each distinct one once."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, tuple[int | tuple[float], ...], tuple[Any, ...], int]] = []
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, int] = {}

    def number(self, one: Expression) -> int:
        """The step of an expression."""
        if id(one) not in self._seen:
            operands = tuple(self.number(x) if isinstance(x, Expression) else (float(x),) for x in one.operands)
            step = (one.operator, operands, one.settings)
            if step not in self._numbers:
                self._numbers[step] = len(self.steps)
                self.steps.append((*step, one.lookback))
            self._seen[id(one)] = self._numbers[step]
        return self._seen[id(one)]


@lru_cache(maxsize=64)
def _plan(features: tuple[Feature, ...]) -> tuple[_Step, ...]:
    planner = _Planner()
    results = [planner.number(feature.expression) for feature in features]
    columns: dict[int, list[int]] = {}
    for column, number in enumerate(results):
        columns.setdefault(number, []).append(column)
    last: dict[int, int] = {number: number for number in results}
    wanted: dict[int, list[tuple[int, float]]] = {}
    for number, (operator, operands, settings, _) in enumerate(planner.steps):
        read = [one for one in operands if isinstance(one, int)]
        last |= dict.fromkeys(read, number)
        if operator == "quantile":
            wanted.setdefault(read[0], []).append((settings[0], settings[1]))
    spent: dict[int, list[int]] = {}
    for number, reader in last.items():
        spent.setdefault(reader, []).append(number)
    return tuple(
        _Step(
            operator, operands, (tuple(wanted[number]),) if operator == "quantiles" else settings, unread,
            tuple(spent.get(number, ())), tuple(columns.get(number, ())),
        )
        for number, (operator, operands, settings, unread) in enumerate(planner.steps)
    )  # fmt: skip


def _evaluate(steps: Sequence[_Step], bars: Bars, is_start: bool) -> Iterator[tuple[int, FloatArray]]:
    """Each feature's column and values, as soon as they are known.

    Args:
        bars: one piece. is_start: it begins where the bars begin; otherwise rows that a step's lookback reaches beyond
            the piece are not used.
    """
    held: list[Any] = [None] * len(steps)
    for number, step in enumerate(steps):
        operands: list[Any] = [held[one] if isinstance(one, int) else one[0] for one in step.operands]
        if step.operator == "bar":
            held[number] = bars[step.settings[0]]
        elif step.operator == "observed":
            held[number] = Observed.of(operands[0], None if is_start else step.unread)
        else:
            held[number] = _OPERATORS[step.operator](*operands, *step.settings)
        for column in step.columns:
            yield column, held[number]
        for one in step.spent:
            held[one] = None


@dataclass(frozen=True)
class _Piece:
    """Instruments ``left`` to ``right``: rows ``first`` to ``stop`` are wanted, from ``start`` on they are read."""

    start: int
    first: int
    stop: int
    left: int
    right: int


_CELLS = 15_000
"""Of a piece's arrays: a few of them fit into a core's cache, and none is large enough to be mapped alone."""


def _pieces(rows: int, count: int, first: int, lookback: int) -> Iterator[_Piece]:
    """Rows whose windows reach over the start by themselves, for only there an instrument has fewer."""
    spans = []
    if first < lookback:
        spans.append((0, first, min(lookback, rows)))
    if rows > lookback:
        body = max(first, lookback)
        spans.append((body - lookback, body, rows))
    for start, begin, stop in spans:
        if begin == stop:
            continue
        width = max(1, _CELLS // max(stop - start, 1))
        for left in range(0, count, width):
            yield _Piece(start, begin, stop, left, min(left + width, count))


def compute_columns(
    features: Sequence[Feature],
    bars: Bars,
    *,
    last: int | None = None,
    dtype: DTypeLike = np.float64,
    out: Columns | None = None,
    threads: int = 2,
) -> Columns:
    """Features of every instrument, on every session or the last ones, shape (F, rows, N).

    The last rows have the bits that they have when all are computed, as long as the bars hold the rows before them
    that the features look back to.

    Args:
        last: how many sessions, all by default. dtype: of a new array; the arithmetic is float64 always.
        out: an array to fill instead of a new one.

    Raises:
        ConfigError: bars that a feature reads are not given or not of one shape, or ``out`` has another.
    """
    shape = _shape_of(features, bars)
    rows = shape[0] if last is None else min(last, shape[0])
    wanted = (len(features), rows, shape[1])
    result = np.empty(wanted, dtype=dtype) if out is None else out
    if result.shape != wanted:
        raise ConfigError(where="features", field="out.shape", value=result.shape, remedy=f"make it {wanted}")
    steps, before = _plan(tuple(features)), shape[0] - rows
    lookback = max((feature.expression.lookback for feature in features), default=0)

    def fill(piece: _Piece) -> None:
        part = {
            name: np.ascontiguousarray(values[piece.start : piece.stop, piece.left : piece.right], dtype=np.float64)
            for name, values in bars.items()
        }
        own = slice(piece.first - piece.start, None)
        missing = np.isnan(part["close"][own])
        blank = missing if missing.any() else None
        place = np.s_[piece.first - before : piece.stop - before, piece.left : piece.right]
        with np.errstate(all="ignore"):
            for column, values in _evaluate(steps, part, piece.start == 0 and piece.first < lookback):
                result[column][place] = values[own] if blank is None else np.where(blank, np.nan, values[own])

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, _pieces(shape[0], shape[1], before, lookback)):
            pass
    return result


def column_blocks(
    features: Sequence[Feature],
    bars: Bars,
    *,
    at_once: int = 20,
    last: int | None = None,
    dtype: DTypeLike = np.float64,
    threads: int = 2,
) -> Iterator[tuple[tuple[str, ...], Columns]]:
    """The same values, ``at_once`` features after the other with their names, for a consumer that needs no more."""
    for start in range(0, len(features), at_once):
        some = features[start : start + at_once]
        yield tuple(one.name for one in some), compute_columns(some, bars, last=last, dtype=dtype, threads=threads)


def _shape_of(features: Sequence[Feature], bars: Bars) -> tuple[int, int]:
    needed = {"close"}.union(*(feature.inputs for feature in features))
    for name in sorted(needed - set(bars)):
        raise ConfigError(where="features", field="bars", value=sorted(bars), remedy=f"give {name} too")
    rows, count = bars["close"].shape
    for name, values in bars.items():
        if values.shape != (rows, count):
            raise ConfigError(
                where="features", field=f"bars[{name!r}].shape", value=values.shape, remedy=f"make it {(rows, count)}"
            )
    return rows, count
