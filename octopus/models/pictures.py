"""Pictures of a model's review.

Belongs here: drawing. Does not: computing what is drawn (evaluation.py, drift.py, shadow.py).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from octopus.core.types import DateArray, FloatArray
from octopus.models.drift import Drift
from octopus.models.shadow import Shadow

_COLOUR, _BAD = "#1f5f8b", "#b5482f"
_SHOWN = 22
_HISTORY = 756


def fold_picture(starts: Sequence[date], rank_ic: Sequence[float]) -> bytes:
    """Mean rank correlation of each walk-forward block, as PNG."""
    figure, axes = _canvas("Rank IC of each walk-forward block, out of sample")
    colours = [_COLOUR if value > 0 else _BAD for value in rank_ic]
    axes.bar([str(day.year) for day in starts], rank_ic, color=colours)
    if rank_ic:
        axes.axhline(float(np.nanmean(rank_ic)), color="black", linewidth=0.8, linestyle="--")
    axes.tick_params(axis="x", rotation=60)
    return _png(figure)


def calibration_picture(buckets: Sequence[float]) -> bytes:
    """Mean outcome by fifth of the prediction, as PNG."""
    figure, axes = _canvas("Mean label by fifth of the prediction (lowest to highest)")
    axes.bar(range(1, len(buckets) + 1), buckets, color=_COLOUR)
    axes.axhline(0, color="black", linewidth=0.8)
    return _png(figure)


def paths_picture(spread_sharpe: Sequence[float]) -> bytes:
    """Sharpe ratio of the spread on each path of combinatorial cross-validation, from the worst, as PNG."""
    figure, axes = _canvas("Sharpe ratio of the spread on each path of cross-validation, before costs")
    ordered = sorted(spread_sharpe)
    axes.bar(range(1, len(ordered) + 1), ordered, color=[_COLOUR if value > 0 else _BAD for value in ordered])
    axes.axhline(0, color="black", linewidth=0.8)
    return _png(figure)


def importance_picture(names: Sequence[str], shares: FloatArray) -> bytes:
    """Share of each feature in what was learnt, as PNG."""
    order = np.argsort(shares)
    figure, axes = _canvas("Feature importance", height=0.24 * len(names) + 1)
    axes.barh([names[index] for index in order], shares[order], color=_COLOUR)
    return _png(figure)


def drift_picture(drift: Drift, spoken: Drift | None, sessions: DateArray, train_to: date) -> bytes:
    """Each series against its limit, the furthest first, and how many were beyond theirs in the last years, as PNG.

    Args:
        drift: of the features. spoken: of the predictions. sessions: of the rows of their histories, shape (T,).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.3])
    names, psi, limit = list(drift.names), drift.psi, drift.limit
    if spoken is not None:
        names = [*names, *(f"prediction {name}" for name in spoken.names)]
        psi, limit = np.concatenate([psi, spoken.psi]), np.concatenate([limit, spoken.limit])
    order = np.argsort(np.nan_to_num(psi / limit))[-_SHOWN:]
    beyond = psi > limit
    left.barh([names[i] for i in order], psi[order], color=[_BAD if beyond[i] else _COLOUR for i in order])
    left.scatter(limit[order], range(len(order)), marker="|", s=90, color="black", zorder=3, label="limit")
    left.set_title(f"Population stability index, last {drift.sessions} sessions")
    left.tick_params(axis="y", labelsize=8)
    left.legend(loc="lower right", fontsize=8)
    _drift_history(right, drift, spoken, sessions, train_to)
    for axes in (left, right):
        _plain(axes)
    return _png(figure)


def _drift_history(axes: Any, drift: Drift, spoken: Drift | None, sessions: DateArray, train_to: date) -> None:
    """Share of the features beyond their limit, and how far the predictions are, in the last years."""
    last = slice(-_HISTORY, None)
    days = sessions[last].astype(object)
    known = np.isfinite(drift.history[last])
    share = (known & (drift.history[last] > drift.limit)).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    axes.plot(days, 100 * np.where(known.any(axis=1), share, np.nan), color=_COLOUR, label="features drifted, %")
    if spoken is not None and spoken.history.size:
        ratio = 100 * spoken.history[last, 0] / spoken.limit[0]
        axes.plot(days, ratio, color=_BAD, linewidth=1, label="predictions, % of their limit")
    axes.axvline(train_to, color="black", linestyle="--", linewidth=0.8, label="training ends")
    axes.set_ylim(bottom=0)
    axes.set_title("Windows that end on each session")
    axes.legend(fontsize=8)
    axes.tick_params(axis="x", rotation=30)


def shadow_picture(shadow: Shadow, champion: str, challenger: str) -> bytes:
    """What both would have earned, added up, and how much they agree, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=110, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    days = shadow.sessions.astype(object)
    for values, name, colour in ((shadow.champion, champion, _COLOUR), (shadow.challenger, challenger, _BAD)):
        known = np.isfinite(values)
        upper.plot(days[known], 100 * np.cumsum(values[known]), color=colour, label=name)
    upper.axhline(0, color="black", linewidth=0.8)
    upper.set_title("Hypothetical spread of the top fifth less the bottom fifth, added up, % before costs")
    upper.legend(loc="upper left", fontsize=9)
    lower.bar(days, shadow.rank_correlation, color=_COLOUR, width=1.0)
    lower.axhline(0, color="black", linewidth=0.8)
    lower.set_ylim(-1, 1)
    lower.set_title("Rank correlation of their scores")
    lower.tick_params(axis="x", rotation=30)
    for axes in (upper, lower):
        _plain(axes)
    return _png(figure)


def _canvas(title: str, height: float = 3.4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    _plain(axes)
    return figure, axes


def _plain(axes: Any) -> None:
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
