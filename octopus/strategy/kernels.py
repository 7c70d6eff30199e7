"""Statistics of sliding windows, several lengths at once, by merging shorter windows into longer ones.

Belongs here: sums, moments, extremes, ranks and order statistics over the last ``w`` rows of every column. Does not:
what is made of them (expressions.py), windows that a single missing value makes missing (windows.py).

A value that is not finite is no observation: it is left out, and so are rows before the first. A window without any
gives NaN.

The statistic of a window is merged from those of its newer and its older part, and theirs of their parts in turn. How
a window is parted depends on its length alone, so that row t is computed from rows t-w+1 … t by the same operations in
the same order wherever the array ends or starts: no running sum, hence no drift, and no bit that changes. Means and
co-moments are merged as in Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances (1979).

Arrays are (T, N). A count is one number where no value is missing in any window that is asked for, an array otherwise;
both go through the same formulas and give the same bits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np

from octopus.core.types import FloatArray

Part = FloatArray | float
"""A component of a window's statistic: an array, or one number that holds for all rows."""


@dataclass(frozen=True, eq=False)
class Observed:
    """A column with its observations marked.

    Attributes:
        values: shape (T, N), 0.0 where there is no observation.
        count: 1.0 where there is one, 0.0 elsewhere; the number 1.0 if there is one everywhere that matters.
    """

    values: FloatArray
    count: Part

    @classmethod
    def of(cls, values: FloatArray, unread: int | None = None) -> Observed:
        """Mark finite values.

        Args:
            unread: so many first rows are in no window that is used, and in each that is used there are all its rows;
                None if windows may reach over the first row.
        """
        finite = np.isfinite(values)
        if unread is not None and finite[unread:].all():
            return cls(values, 1.0)
        return cls(np.where(finite, values, 0.0), finite.astype(np.float64))

    def instead(self, missing: float) -> FloatArray:
        """The values, with ``missing`` where there is no observation."""
        return self.values if isinstance(self.count, float) else np.where(self.count > 0, self.values, missing)


def parted(window: int) -> int:
    """Rows of a window's newer part; the older has the rest. Chosen so that 5, 10, 20, 30 and 60 share their parts."""
    unit = next(unit for unit in (10, 5, 1) if window % unit == 0 and window > unit)
    return -(-window // unit // 2) * unit


def older(part: Part, rows: int) -> Part:
    """The part as it was ``rows`` rows ago, for the rows that have one."""
    return part if isinstance(part, float) else part[: max(len(part) - rows, 0)]


def newer(part: Part, rows: int) -> Part:
    """The part without the ``rows`` first rows."""
    return part if isinstance(part, float) else part[rows:]


def joined(newest: Part, merged: Part, rows: int) -> Part:
    """Merged parts, after the first ``rows`` rows, which have no older part."""
    if isinstance(merged, float) or isinstance(newest, float):
        return merged
    result = np.empty_like(newest)
    result[:rows] = newest[:rows]
    result[rows:] = merged
    return result


class Windows(ABC):
    """Statistics of every window length of one column, each computed once."""

    def __init__(self, *leaf: Part) -> None:
        self._known: dict[int, tuple[Part, ...]] = {1: leaf}

    def at(self, window: int) -> tuple[Part, ...]:
        """The components of the statistic of the last ``window`` rows."""
        if window not in self._known:
            rows = parted(window)
            newest = self.at(rows)
            before = tuple(older(part, rows) for part in self.at(window - rows))
            merged = self._merged(before, tuple(newer(part, rows) for part in newest), rows)
            self._known[window] = tuple(joined(n, m, rows) for n, m in zip(newest, merged, strict=True))
        return self._known[window]

    @abstractmethod
    def _merged(self, before: tuple[Part, ...], after: tuple[Part, ...], rows: int) -> tuple[Part, ...]:
        """Components of a window from those of its older and its newer part of ``rows`` rows."""


def where_enough(count: Part, least: int, values: FloatArray) -> FloatArray:
    """NaN where there are fewer than ``least`` observations."""
    if isinstance(count, float):
        return values if count >= least else np.full_like(values, np.nan)
    return np.where(count >= least, values, np.nan)


class Sums(Windows):
    """Count and sum."""

    def __init__(self, seen: Observed) -> None:
        super().__init__(seen.count, seen.values)

    def _merged(self, before: tuple[Part, ...], after: tuple[Part, ...], rows: int) -> tuple[Part, ...]:
        return tuple(b + a for b, a in zip(before, after, strict=True))

    def sum(self, window: int) -> FloatArray:
        """Sum of the observations."""
        count, total = self.at(window)
        return where_enough(count, 1, cast(FloatArray, total))

    def mean(self, window: int) -> FloatArray:
        """Arithmetic mean of the observations."""
        count, total = self.at(window)
        return cast(FloatArray, total) / count


def _shares(before: Part, after: Part) -> tuple[Part, Part, Part]:
    """Count of both parts, the newer part's share of it, and the weight of a squared difference of means."""
    count = before + after
    share = after / (count if isinstance(count, float) else np.maximum(count, 1.0))
    return count, share, before * share


class Moments(Windows):
    """Count, mean and sum of squared deviations."""

    def __init__(self, seen: Observed) -> None:
        super().__init__(seen.count, seen.values, np.zeros_like(seen.values))

    def _merged(self, before: tuple[Part, ...], after: tuple[Part, ...], rows: int) -> tuple[Part, ...]:
        count, share, weight = _shares(before[0], after[0])
        apart = after[1] - before[1]
        return count, apart * share + before[1], apart * apart * weight + before[2] + after[2]

    def std(self, window: int) -> FloatArray:
        """Sample standard deviation (ddof 1); NaN for fewer than two observations."""
        count, _, squares = self.at(window)
        return _std(count, cast(FloatArray, squares))


def _std(count: Part, squares: FloatArray) -> FloatArray:
    degrees = max(count - 1.0, 1.0) if isinstance(count, float) else np.maximum(count - 1.0, 1.0)
    return where_enough(count, 2, np.sqrt(squares / degrees))


class CoMoments(Windows):
    """Count, means, sums of squared deviations and of their products of two columns, where both are observed.

    The first column may be time: the row's number, counted from the window's newest row.
    """

    def __init__(self, x: Observed | None, y: Observed) -> None:
        self._is_time = x is None
        zero: Part = 0.0 if isinstance(y.count, float) else np.zeros_like(y.values)
        zeros = np.zeros_like(y.values)
        if x is None:
            super().__init__(y.count, zero, y.values, zero, zeros, zeros)
            return
        both = x.count * y.count
        if isinstance(both, float):
            super().__init__(both, x.values, y.values, zeros, zeros, zeros)
            return
        seen = both > 0
        super().__init__(both, np.where(seen, x.values, 0.0), np.where(seen, y.values, 0.0), zeros, zeros, zeros)

    def _merged(self, before: tuple[Part, ...], after: tuple[Part, ...], rows: int) -> tuple[Part, ...]:
        count, share, weight = _shares(before[0], after[0])
        x_before = before[1] - float(rows) if self._is_time else before[1]
        dx, dy = after[1] - x_before, after[2] - before[2]
        x_weighted = dx * weight
        return (
            count,
            dx * share + x_before,
            dy * share + before[2],
            dx * x_weighted + before[3] + after[3],
            dy * dy * weight + before[4] + after[4],
            dy * x_weighted + before[5] + after[5],
        )

    def slope(self, window: int) -> FloatArray:
        """Least-squares slope of the second column on the first; NaN for fewer than two observations."""
        count, _, _, xx, _, xy = self.at(window)
        return where_enough(count, 2, cast(FloatArray, xy) / xx)

    def newest_residual(self, window: int, newest: FloatArray) -> FloatArray:
        """``newest`` less the line's value at the newest row; for the column of time."""
        _, x, y, _, _, _ = self.at(window)
        return newest - (cast(FloatArray, y) - self.slope(window) * x)

    def correlation(self, window: int) -> FloatArray:
        """Pearson's correlation; NaN for fewer than two observations, infinite or NaN where a column does not vary."""
        count, _, _, xx, yy, xy = self.at(window)
        return where_enough(count, 2, cast(FloatArray, xy) / np.sqrt(cast(FloatArray, yy) * xx))

    def std_of_second(self, window: int) -> FloatArray:
        """Sample standard deviation of the second column; NaN for fewer than two observations."""
        parts = self.at(window)
        return _std(parts[0], cast(FloatArray, parts[4]))


class Highest(Windows):
    """Count, highest value and where it stands among the observations, the oldest being 1; the first of equals."""

    def __init__(self, seen: Observed) -> None:
        super().__init__(seen.count, seen.instead(-math.inf), np.ones_like(seen.values))

    def _merged(self, before: tuple[Part, ...], after: tuple[Part, ...], rows: int) -> tuple[Part, ...]:
        place = np.where(before[1] >= after[1], before[2], after[2] + before[0])
        return before[0] + after[0], np.fmax(before[1], after[1]), place

    def value(self, window: int) -> FloatArray:
        """The highest observation."""
        count, value, _ = self.at(window)
        return where_enough(count, 1, cast(FloatArray, value))

    def place(self, window: int) -> FloatArray:
        """Its place among the observations, from 1 for the oldest to their count for the newest."""
        count, _, place = self.at(window)
        return where_enough(count, 1, cast(FloatArray, place))


_MOST_LAGS = 100
"""So many lags can be counted in one byte, for each may count two."""


class Ranks:
    """The newest value's rank in its window."""

    def __init__(self, seen: Observed) -> None:
        self._values = seen.instead(math.nan)
        self._counts = Sums(Observed(np.zeros_like(seen.values), seen.count))
        self._reached, self._total = 0, np.zeros_like(seen.values)

    def rank(self, window: int) -> FloatArray:
        """Mean rank among ties over the number of observations, in (0, 1]; NaN where the newest is missing."""
        if window < self._reached:
            self._reached, self._total = 0, np.zeros_like(self._values)
        while self._reached < window:
            self._count_until(min(window, self._reached + _MOST_LAGS))
        count, _ = self._counts.at(window)
        # Lower ones and not higher ones: for a rank that is shared, their sum is twice its middle, less one.
        rank = (self._total + 1.0) * 0.5 / count
        return rank if isinstance(count, float) else np.where(np.isnan(self._values), np.nan, rank)

    def _count_until(self, stop: int) -> None:
        values, counted = self._values, np.zeros(self._values.shape, dtype=np.uint8)
        flags = np.empty(values.shape, dtype=bool)
        for lag in range(self._reached, min(stop, len(values))):
            past, now, flag = values[: len(values) - lag], values[lag:], flags[lag:]
            for compared in (np.less, np.less_equal):
                compared(past, now, out=flag)
                counted[lag:] += flag.view(np.uint8)
        self._reached, self._total = stop, self._total + counted


# Order statistics ----------------------------------------------------------------------------------------------------

Lagged = tuple[int, int]
"""A line of a network, and how many rows ago it is read."""


@dataclass(frozen=True)
class Network:
    """Minima and maxima by which order statistics are found, without a branch, for all rows at once.

    Attributes:
        lines: whether the higher of two is meant, and which two; line 0 is the column itself, lines[i] is line i + 1.
        found: the line that holds the ``rank``-th lowest of the last ``window`` rows, by (window, rank).
        last_read: the number of the last line that reads each line; those in ``found`` are kept.
    """

    lines: tuple[tuple[bool, Lagged, Lagged], ...]
    found: dict[tuple[int, int], int]
    last_read: tuple[int, ...]


class _Draft:
    """A network under construction: sorted windows are merged from their sorted parts (Batcher's odd-even merge)."""

    def __init__(self) -> None:
        self.lines: list[tuple[bool, Lagged, Lagged]] = []
        self._drawn: dict[tuple[bool, Lagged, Lagged], int] = {}
        self._sorted: dict[int, list[Lagged]] = {1: [(0, 0)]}

    def sorted(self, window: int) -> list[Lagged]:
        """The window's values in ascending order."""
        if window not in self._sorted:
            rows = parted(window)
            before = [(line, lag + rows) for line, lag in self.sorted(window - rows)]
            self._sorted[window] = self._merge(before, self.sorted(rows))
        return self._sorted[window]

    def _merge(self, a: list[Lagged], b: list[Lagged]) -> list[Lagged]:
        if not a or not b:
            return a or b
        if len(a) == len(b) == 1:
            return [self._line(False, a[0], b[0]), self._line(True, a[0], b[0])]
        evens, odds = self._merge(a[::2], b[::2]), self._merge(a[1::2], b[1::2])
        result = evens[:1]
        for low, high in zip(odds, evens[1:], strict=False):
            result += [self._line(False, low, high), self._line(True, low, high)]
        longer = odds if len(odds) > len(evens) - 1 else evens[1:]
        return result + longer[min(len(odds), len(evens) - 1) :]

    def _line(self, is_higher: bool, a: Lagged, b: Lagged) -> Lagged:
        drawn = (is_higher, a, b)
        if drawn not in self._drawn:
            self.lines.append(drawn)
            self._drawn[drawn] = len(self.lines)
        return self._drawn[drawn], 0


@lru_cache(maxsize=32)
def selection(wanted: tuple[tuple[int, int], ...]) -> Network:
    """The network that finds order statistics, each given as (window, rank from 0), and holds no line in vain."""
    draft = _Draft()
    places = {one: draft.sorted(one[0])[one[1]] for one in wanted}
    needed = {line for line, _ in places.values()}
    for number in range(len(draft.lines), 0, -1):
        if number in needed:
            needed |= {line for line, _ in draft.lines[number - 1][1:]}
    kept = [0, *sorted(needed - {0})]
    renamed = {line: number for number, line in enumerate(kept)}
    lines = []
    for line in kept[1:]:
        is_higher, a, b = draft.lines[line - 1]
        lines.append((is_higher, (renamed[a[0]], a[1]), (renamed[b[0]], b[1])))
    last_read = [0] * (len(lines) + 1)
    for number, (_, a, b) in enumerate(lines, start=1):
        last_read[a[0]] = last_read[b[0]] = number
    found = {one: renamed[line] for one, (line, _) in places.items()}
    for line in found.values():
        last_read[line] = len(lines) + 1
    return Network(tuple(lines), found, tuple(last_read))


def run(network: Network, values: FloatArray) -> dict[tuple[int, int], FloatArray]:
    """The order statistics of every row whose window is complete, by (window, rank); other rows hold anything."""
    rows = len(values)
    held: list[FloatArray | None] = [values, *([None] * len(network.lines))]
    for number, (is_higher, (a, lag_a), (b, lag_b)) in enumerate(network.lines, start=1):
        first = min(max(lag_a, lag_b), rows)
        line = np.empty_like(values)
        line[:first] = 0.0
        pick = np.fmax if is_higher else np.fmin
        left, right = cast(FloatArray, held[a]), cast(FloatArray, held[b])
        pick(left[first - lag_a : rows - lag_a], right[first - lag_b : rows - lag_b], out=line[first:])
        held[number] = line
        for read in (a, b):
            if network.last_read[read] == number:
                held[read] = None
    return {one: cast(FloatArray, held[line]) for one, line in network.found.items()}


class Quantiles:
    """Quantiles of windows; all that are wanted of a column are found together."""

    def __init__(self, seen: Observed, wanted: Iterable[tuple[int, float]]) -> None:
        """Args: wanted: (window, probability) of each quantile that will be asked for."""
        self._seen = seen
        ranks = {(window, rank) for window, q in wanted for rank in _ranks(window, q)}
        self._found = run(selection(tuple(sorted(ranks))), seen.values)
        self._counts = Sums(Observed(np.zeros_like(seen.values), seen.count))

    def quantile(self, window: int, probability: float) -> FloatArray:
        """Quantile of the observations, linear between the two nearest (type 7 of Hyndman and Fan, 1996)."""
        low, high = (self._found[window, rank] for rank in _ranks(window, probability))
        place = probability * (window - 1)
        result = low + (high - low) * (place - math.floor(place))
        count, _ = self._counts.at(window)
        if not isinstance(count, float):
            self._mend(result, count, window, probability)
        return result

    def _mend(self, result: FloatArray, count: FloatArray, window: int, probability: float) -> None:
        """Windows in which an observation is missing are sorted one by one."""
        result[count == 0] = np.nan
        incomplete = np.nonzero((count > 0) & (count < window))
        values = np.pad(self._seen.instead(math.nan), ((window - 1, 0), (0, 0)), constant_values=np.nan)
        views = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
        # A missing value is sorted behind all others.
        ascending = np.sort(views[incomplete], axis=-1)
        place = probability * (count[incomplete] - 1)
        rank = np.floor(place).astype(np.int64)
        each = np.arange(len(rank))
        low = ascending[each, rank]
        high = ascending[each, np.minimum(rank + 1, window - 1)]
        share = place - rank
        result[incomplete] = np.where(share > 0, low + (high - low) * share, low)


def _ranks(window: int, probability: float) -> tuple[int, int]:
    low = math.floor(probability * (window - 1))
    return low, min(low + 1, window - 1)
