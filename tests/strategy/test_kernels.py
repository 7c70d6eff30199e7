"""The kernels against the same statistic of each window by itself, and their bits wherever an array starts and ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from octopus.core.types import FloatArray
from octopus.strategy import expressions as e
from octopus.strategy.expressions import Expression, Feature, compute_columns
from octopus.strategy.kernels import Moments, Observed, parted, run, selection

NUMBERS = st.one_of(
    st.floats(-1e3, 1e3, width=32).map(lambda x: round(x, 2)),
    st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf]),
)
COLUMN = st.integers(1, 90).flatmap(lambda rows: arrays(np.float64, (rows, 2), elements=NUMBERS))
WINDOW = st.sampled_from([1, 2, 3, 5, 7, 10, 20, 23, 30, 60, 61])
X, Y = e.bar("x"), e.bar("y")


def each_window(values: FloatArray, window: int, statistic: Callable[[FloatArray], float]) -> FloatArray:
    """``statistic`` of the observations of every window, in plain loops; NaN where there is none."""
    result = np.full(values.shape, np.nan)
    for row in range(len(values)):
        for column in range(values.shape[1]):
            part = values[max(row - window + 1, 0) : row + 1, column]
            if np.isfinite(part).any():
                result[row, column] = statistic(part)
    return result


def computed(expression: Expression, x: FloatArray, y: FloatArray | None = None) -> FloatArray:
    bars = {"x": x, "y": x if y is None else y, "close": np.ones_like(x)}
    return np.asarray(compute_columns([Feature("it", "", expression)], bars)[0])


def seen(part: FloatArray) -> FloatArray:
    return part[np.isfinite(part)]


def line(part: FloatArray) -> tuple[float, float]:
    """Slope and residual of the newest row, of a line through the observations."""
    rows = np.flatnonzero(np.isfinite(part))
    if len(rows) < 2:
        return np.nan, np.nan
    x, y = rows - rows.mean(), part[rows] - part[rows].mean()
    slope = (x * y).sum() / (x * x).sum()
    return slope, part[-1] - (part[rows].mean() + slope * (len(part) - 1 - rows.mean()))


def newest_rank(part: FloatArray) -> float:
    ours = seen(part)
    return float(rankdata(ours)[-1] / len(ours)) if np.isfinite(part[-1]) else np.nan


STATISTICS: dict[str, tuple[Callable[[Expression, int], Expression], Callable[[FloatArray], float]]] = {
    "total": (e.total, lambda p: seen(p).sum()),
    "mean": (e.mean, lambda p: seen(p).mean()),
    "std": (e.std, lambda p: seen(p).std(ddof=1) if len(seen(p)) > 1 else np.nan),
    "slope": (e.slope, lambda p: line(p)[0]),
    "residual": (e.residual, lambda p: line(p)[1] if np.isfinite(p[-1]) else np.nan),
    "highest": (e.highest, lambda p: seen(p).max()),
    "lowest": (e.lowest, lambda p: seen(p).min()),
    "highest_place": (e.highest_place, lambda p: seen(p).argmax() + 1),
    "lowest_place": (e.lowest_place, lambda p: seen(p).argmin() + 1),
    "rank": (e.rank, newest_rank),
    "upper": (lambda x, w: e.quantile(x, w, 0.8), lambda p: np.quantile(seen(p), 0.8)),
    "median": (lambda x, w: e.quantile(x, w, 0.5), lambda p: np.quantile(seen(p), 0.5)),
    "top": (lambda x, w: e.quantile(x, w, 1.0), lambda p: seen(p).max()),
}


@pytest.mark.parametrize("name", STATISTICS)
@given(x=COLUMN, window=WINDOW)
@settings(max_examples=25, deadline=None)
def test_a_statistic_is_that_of_each_window_by_itself(name: str, x: FloatArray, window: int) -> None:
    expression, plain = STATISTICS[name]
    values = computed(expression(X, window), x)
    known = np.isfinite(values)
    expected = each_window(x, window, plain)
    if name == "residual":
        # Of a newest value that is infinite nothing can be left.
        expected, values = np.where(np.isfinite(x), expected, np.nan), np.where(np.isfinite(x), values, np.nan)
        known = np.isfinite(values)
    assert np.array_equal(known, np.isfinite(expected))
    np.testing.assert_allclose(values[known], expected[known], rtol=1e-9, atol=1e-9)


@given(x=COLUMN, window=WINDOW, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_correlation_is_that_of_each_window_by_itself(x: FloatArray, window: int, seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=x.shape)
    y[np.random.default_rng(seed + 1).random(x.shape) < 0.05] = np.nan
    values = computed(e.correlation(X, Y, window), x, y)
    for row in range(len(x)):
        for column in range(2):
            part = np.s_[max(row - window + 1, 0) : row + 1, column]
            both = np.isfinite(x[part]) & np.isfinite(y[part])
            one, other = x[part][both], y[part][both]
            flat = min((seen(v[part]).std(ddof=1) for v in (x, y) if len(seen(v[part])) > 1), default=0) <= e.FLAT
            if both.sum() < 2 or flat or np.ptp(one) == 0:
                assert not np.isfinite(values[row, column])
            else:
                assert values[row, column] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-8)
    squared = computed(e.r_squared(X, window), x)
    assert ((squared >= 0) & (squared <= 1 + 1e-12) | np.isnan(squared)).all()


@pytest.mark.parametrize("name", STATISTICS)
@given(x=COLUMN, window=WINDOW, cut=st.integers(1, 90))
@settings(max_examples=15, deadline=None)
def test_a_window_has_its_bits_wherever_the_array_starts_and_ends(
    name: str, x: FloatArray, window: int, cut: int
) -> None:
    expression = STATISTICS[name][0](X, window)
    whole = computed(expression, x)
    assert np.array_equal(computed(expression, x[:cut]), whole[:cut], equal_nan=True)
    later = computed(expression, x[min(cut, len(x) - 1) :])
    assert np.array_equal(later[window - 1 :], whole[len(x) - len(later) :][window - 1 :], equal_nan=True)


def test_small_variations_of_large_numbers_are_kept() -> None:
    values = 1e9 + np.random.default_rng(1).normal(size=(200, 1))
    np.testing.assert_allclose(
        computed(e.std(X, 60), values)[59:], each_window(values, 60, STATISTICS["std"][1])[59:], rtol=1e-6
    )
    # A spike long ago leaves nothing behind, as it would in a running sum.
    values[20] = 1e15
    late = computed(e.std(X, 60), values)[90:]
    np.testing.assert_allclose(late, each_window(values, 60, STATISTICS["std"][1])[90:], rtol=1e-6)
    assert (computed(e.std(X, 60), np.full((90, 1), 0.1))[1:] == 0.0).all()


def test_the_common_windows_share_their_parts() -> None:
    moments = Moments(Observed(np.ones((80, 1)), 1.0))
    for window in (5, 10, 20, 30, 60):
        moments.at(window)
    assert sorted(moments._known) == [1, 2, 3, 5, 10, 20, 30, 60]
    assert all(0 < parted(window) < window for window in range(2, 300))


@given(values=arrays(np.float64, (70, 1), elements=st.integers(0, 9).map(float)), window=st.integers(1, 64))
@settings(max_examples=60, deadline=None)
def test_a_network_finds_every_order_statistic(values: FloatArray, window: int) -> None:
    ranks = tuple((window, rank) for rank in range(window))
    found = run(selection(ranks), values)
    views = np.sort(np.lib.stride_tricks.sliding_window_view(values[:, 0], window), axis=-1)
    for (_, rank), column in found.items():
        assert np.array_equal(column[window - 1 :, 0], views[:, rank])


def test_a_network_holds_only_what_is_asked_of_it() -> None:
    wanted = tuple(sorted({(w, r) for w in (5, 10, 20, 30, 60) for q in (0.2, 0.8) for r in _around(q * (w - 1))}))
    assert len(selection(wanted).lines) < 450


def _around(place: float) -> tuple[int, int]:
    return int(place), int(place) + 1


def test_comparisons_and_single_rows() -> None:
    nan = np.nan
    x, y = np.array([[1.0], [2.0], [nan], [4.0]]), np.array([[0.0], [nan], [1.0], [4.0]])
    assert np.array_equal(computed(X > Y, x, y)[:, 0], [1.0, 0.0, nan, 0.0], equal_nan=True)
    assert np.array_equal(computed(Y < X, x, y)[:, 0], [1.0, nan, 0.0, 0.0], equal_nan=True)
    assert np.array_equal(computed(e.greater(X, Y), x, y)[:, 0], [1.0, nan, nan, 4.0], equal_nan=True)
    assert np.array_equal(computed(3.0 - 2.0 * X, x)[:, 0], [1.0, -1.0, nan, -5.0], equal_nan=True)
    assert np.array_equal(computed(e.ref(X, 2), x)[:, 0], [nan, nan, 1.0, 2.0], equal_nan=True)
