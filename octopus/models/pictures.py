"""Pictures of a model's review.

Belongs here: drawing. Does not: computing what is drawn (evaluation.py).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from octopus.core.types import FloatArray

_COLOUR = "#1f5f8b"


def fold_picture(starts: Sequence[date], rank_ic: Sequence[float]) -> bytes:
    """Mean rank correlation of each walk-forward block, as PNG."""
    figure, axes = _canvas("Rank IC of each walk-forward block, out of sample")
    colours = [_COLOUR if value > 0 else "#b5482f" for value in rank_ic]
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


def importance_picture(names: Sequence[str], shares: FloatArray) -> bytes:
    """Share of each feature in what was learnt, as PNG."""
    order = np.argsort(shares)
    figure, axes = _canvas("Feature importance", height=0.24 * len(names) + 1)
    axes.barh([names[index] for index in order], shares[order], color=_COLOUR)
    return _png(figure)


def _canvas(title: str, height: float = 3.4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
