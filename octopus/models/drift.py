"""Whether what a model is fed today still looks like what it learnt from.

Belongs here: distances between the distribution of the latest sessions and that of the training window, and what
distance is nothing unusual. Does not: reading, drawing (pictures.py), what follows from it (a person decides).

Raw values are compared, not ranks: ranks of one session are spread alike on every session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, FloatArray
from octopus.models.config import DriftConfig

_BINS = 10
_USUAL = 0.99
_LEAST_SHARE = 1e-4
"""A bin without a value counts for so much: the logarithm of nothing has no value."""


@dataclass(frozen=True, eq=False)
class Drift:
    """How far each series has drifted.

    Attributes:
        psi: population stability index of the latest window against the training window, shape (F,).
        usual: what 99 of 100 windows of that length inside the training window stayed below, shape (F,).
        ks: Kolmogorov–Smirnov distance of the two, in [0, 1], shape (F,).
        limit: what ``psi`` may reach, shape (F,). drifted: it is above, shape (F,).
        history: psi of the window that ends on each row, shape (T, F), NaN where the window is not full.
        sessions: of the window.
    """

    names: tuple[str, ...]
    psi: FloatArray
    usual: FloatArray
    ks: FloatArray
    limit: FloatArray
    drifted: BoolArray
    history: FloatArray
    sessions: int

    @property
    def share(self) -> float:
        """Of the series that have drifted; NaN without a series."""
        return float(self.drifted.mean()) if len(self.drifted) else float("nan")


def measure(names: Sequence[str], values: FloatArray, usable: BoolArray, train_stop: int, config: DriftConfig) -> Drift:
    """Compare the last ``config.window_sessions`` rows with the rows before ``train_stop``.

    A market is never the same for a quarter: a series has drifted only if it is further from the training window than
    ``config.psi_max`` and than nearly all stretches of the training window itself were. A missing value is a value of
    its own: a series that falls silent has drifted.

    Args:
        values: shape (T, N, F), NaN where missing. usable: cells that count, shape (T, N).

    Raises:
        MissingDataError: the training window is shorter than two windows.

    Source: Siddiqi, Credit Risk Scorecards (2006), for the index and its conventional limits of 0.1 and 0.25.
    """
    window = config.window_sessions
    if train_stop < 2 * window:
        raise MissingDataError(
            f"drift: {train_stop} sessions of training are too few for windows of {window}; "
            "shorten models.drift.window_sessions or ingest a longer history"
        )
    series = [_one(values[:, :, column], usable, train_stop, window) for column in range(values.shape[2])]
    psi, usual, ks = (np.array([one[part] for one in series]) for part in range(3))
    history = np.column_stack([one[3] for one in series]) if series else np.zeros((len(values), 0))
    limit = np.maximum(np.nan_to_num(usual), config.psi_max)
    return Drift(tuple(names), psi, usual, ks, limit, np.asarray(psi > limit), history, window)


def _one(values: FloatArray, usable: BoolArray, train_stop: int, window: int) -> tuple[float, float, float, FloatArray]:
    """Index now, usual index, distance now, and the index of the window that ends on each row, shape (T,)."""
    known = usable & ~np.isnan(values)
    spoken = np.flatnonzero(known[:train_stop].any(axis=1))
    nothing = np.full(len(values), np.nan)
    if not len(spoken) or train_stop - spoken[0] < window:
        return np.nan, np.nan, np.nan, nothing
    first = int(spoken[0])  # before that the series had not begun: its silence is no property of the training window
    learnt = values[first:train_stop][known[first:train_stop]]
    counts = _counts(values, usable, np.unique(np.quantile(learnt, np.linspace(0, 1, _BINS + 1)[1:-1])))
    expected = _shares(counts[first:train_stop].sum(axis=0))
    running = np.vstack([np.zeros(counts.shape[1]), np.cumsum(counts, axis=0)])
    actual = _shares(running[window:] - running[:-window])
    history = nothing
    history[window - 1 :] = ((actual - expected) * np.log(actual / expected)).sum(axis=1)
    history[: first + window - 1] = np.nan
    usual = history[first + window - 1 : train_stop]
    latest = values[-window:][known[-window:]]
    return float(history[-1]), float(np.quantile(usual, _USUAL)), _distance(learnt, latest), history


def _counts(values: FloatArray, usable: BoolArray, edges: FloatArray) -> FloatArray:
    """Values of each row by bin, the last bin for what is missing, shape (T, bins)."""
    size = len(edges) + 2
    places = np.where(np.isnan(values), size - 1, np.searchsorted(edges, values, side="right"))
    flat = (np.arange(len(values))[:, None] * size + places)[usable]
    return np.bincount(flat, minlength=len(values) * size).reshape(len(values), size).astype(np.float64)


def _shares(counts: FloatArray) -> FloatArray:
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray(np.maximum(counts / np.maximum(total, 1.0), _LEAST_SHARE))


def _distance(learnt: FloatArray, latest: FloatArray) -> float:
    """Largest difference of the two distribution functions; NaN where one has no value."""
    from scipy.stats import ks_2samp

    if not len(learnt) or not len(latest):
        return float("nan")
    return float(ks_2samp(learnt, latest, method="asymp").statistic)
