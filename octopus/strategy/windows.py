"""Rolling windows that are anchored at each row.

Belongs here: statistics over the last ``n`` rows of every column. Does not: features made of them (features.py).

Every result on row t is computed from rows t-n+1 … t alone, by the same operations in the same order wherever the
array ends: cutting the future off, or starting the array later, changes no bit. A window that holds a NaN gives NaN;
`log_growth` says where it differs. Arrays are (T, N), results too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octopus.core.types import BoolArray, FloatArray

_CHUNK_ROWS = 2048
"""Windows are views, but reductions make copies: so many rows at a time bound the memory."""


def rolling(values: FloatArray, window: int, reduce: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """``reduce`` over the last axis of (N, rows, window) views; NaN where there are fewer than ``window`` rows."""
    rows, columns = values.shape
    result = np.full((rows, columns), np.nan)
    if rows < window:
        return result
    series = np.ascontiguousarray(values.T)
    views = np.lib.stride_tricks.sliding_window_view(series, window, axis=1)
    for start in range(0, views.shape[1], _CHUNK_ROWS):
        chunk = np.ascontiguousarray(views[:, start : start + _CHUNK_ROWS])
        result[window - 1 + start : window - 1 + start + chunk.shape[1]] = reduce(chunk).T
    return result


def mean(values: FloatArray, window: int) -> FloatArray:
    """Arithmetic mean."""
    return rolling(values, window, lambda w: w.mean(axis=-1))


def std(values: FloatArray, window: int) -> FloatArray:
    """Sample standard deviation (ddof 1)."""
    return rolling(values, window, lambda w: w.std(axis=-1, ddof=1))


def downside_std(values: FloatArray, window: int) -> FloatArray:
    """Root mean square of the negative values, zeros for the others."""
    return rolling(values, window, lambda w: np.sqrt((np.minimum(w, 0.0) ** 2).mean(axis=-1)))


def skewness(values: FloatArray, window: int) -> FloatArray:
    """Third standardised moment (population); NaN where the values do not vary."""

    def reduce(w: FloatArray) -> FloatArray:
        centred = w - w.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Products, for a cube by `**` takes ten times as long.
            moment: FloatArray = (centred * centred * centred).mean(axis=-1) / (variance * np.sqrt(variance))
        return np.where(variance > 0, moment, np.nan)

    return rolling(values, window, reduce)


def slope(values: FloatArray, reference: FloatArray, window: int) -> FloatArray:
    """Least-squares slope of each column on ``reference``, shape (T, 1); NaN where the reference does not vary."""
    rows, columns = values.shape
    result = np.full((rows, columns), np.nan)
    if rows < window:
        return result
    views = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(values.T), window, axis=1)
    others = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(reference.T), window, axis=1)
    for start in range(0, views.shape[1], _CHUNK_ROWS):
        x = np.ascontiguousarray(others[:, start : start + _CHUNK_ROWS])
        x = x - x.mean(axis=-1, keepdims=True)
        variance = (x * x).sum(axis=-1)
        covariance = (views[:, start : start + _CHUNK_ROWS] * x).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(variance > 0, covariance / variance, np.nan)
        result[window - 1 + start : window - 1 + start + value.shape[1]] = value.T
    return result


def autocorrelation(values: FloatArray, window: int) -> FloatArray:
    """First-order autocorrelation."""

    def reduce(w: FloatArray) -> FloatArray:
        centred = w - w.mean(axis=-1, keepdims=True)
        variance = (centred**2).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value: FloatArray = (centred[..., 1:] * centred[..., :-1]).sum(axis=-1) / variance
        return np.where(variance > 0, value, np.nan)

    return rolling(values, window, reduce)


def lagged(values: FloatArray, lag: int) -> FloatArray:
    """The value ``lag`` rows ago; NaN on the first rows."""
    result = np.full_like(values, np.nan)
    if lag < len(values):
        result[lag:] = values[: len(values) - lag]
    return result


def log_steps(total_return: FloatArray) -> FloatArray:
    """Logarithm of one plus each session's return; 0 where there is none, for the next bar's return spans the gap."""
    return np.log1p(np.where(np.isnan(total_return), 0.0, total_return))


def log_growth(steps: FloatArray, has_bar: BoolArray, sessions: int, skip: int = 0) -> FloatArray:
    """Logarithm of the growth from ``sessions`` to ``skip`` sessions ago.

    Known as soon as both ends have a bar: a bar missing between them changes nothing, since the return of the bar after
    the gap spans it.

    Args:
        steps: of `log_steps`. has_bar: where there is a bar.
    """
    # Added up anew for each row, newest first: a running index would give other bits to a panel that starts later.
    total = np.zeros_like(steps)
    for lag in range(skip, sessions):
        total[lag:] += steps[: max(len(steps) - lag, 0)]
    ends = _was(has_bar, sessions) & _was(has_bar, skip)
    return np.where(ends, total, np.nan)


def log_below_high(steps: FloatArray, has_bar: BoolArray, window: int) -> FloatArray:
    """Logarithm of today's index over its highest of ``window`` sessions, today included; 0 at the high itself.

    NaN where a bar is missing in the window.
    """
    back = np.zeros_like(steps)
    highest = np.zeros_like(steps)
    known = _was(has_bar, 0)
    for lag in range(1, window):
        back[lag - 1 :] -= steps[: max(len(steps) - lag + 1, 0)]
        highest = np.maximum(highest, back)
        known &= _was(has_bar, lag)
    return np.where(known, -highest, np.nan)


def _was(flags: BoolArray, lag: int) -> BoolArray:
    """Flags of ``lag`` rows ago; False on the first rows."""
    result = np.zeros(flags.shape, dtype=bool)
    result[lag:] = flags[: max(len(flags) - lag, 0)]
    return result
