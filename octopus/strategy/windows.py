"""Rolling windows that are anchored at each row.

Belongs here: statistics over the last ``n`` rows of every column. Does not: features made of them (features.py).

Every result on row t is computed from rows t-n+1 … t alone, by the same operations in the same order wherever the
array ends: cutting the future off changes no bit. A window that holds a NaN gives NaN. Arrays are (T, N), results too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octopus.core.types import FloatArray

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
            moment: FloatArray = (centred**3).mean(axis=-1) / variance**1.5
        return np.where(variance > 0, moment, np.nan)

    return rolling(values, window, reduce)


def maximum(values: FloatArray, window: int) -> FloatArray:
    """Greatest value."""
    return rolling(values, window, lambda w: w.max(axis=-1))


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
