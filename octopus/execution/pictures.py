"""Pictures of the account for people who watch it.

Belongs here: drawing. Does not: computing what is drawn (nav.py, costs.py).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np


def nav_picture(sessions: Sequence[date], nav: Sequence[float]) -> bytes:
    """The account's NAV by session, as PNG.

    Args:
        sessions: ascending. nav: closing NAV, account currency, as long as ``sessions``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(
        np.array(sessions, dtype="datetime64[D]"),
        list(nav),
        color="#1f5f8b",
        marker="o" if len(nav) < 40 else None,
        linewidth=1.6,
    )
    axes.set_title("Net asset value")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", rotation=30)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


_PART_COLOURS = ("#c9a227", "#1f5f8b", "#8d6a9f", "#7a7a7a")


def costs_picture(
    names: Sequence[str],
    parts_bps: Mapping[str, Sequence[float]],
    sessions: Sequence[date],
    shortfall_bps: Sequence[float],
) -> bytes:
    """Implementation shortfall by order, stacked by part, and of all orders over time, as PNG.

    Args:
        names: of the orders. parts_bps: each part of the shortfall by order, basis points of its decision notional.
        sessions: ascending. shortfall_bps: of each session's orders together.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    by_order, over_time = figure.subplots(1, 2)
    rows = np.arange(len(names))
    # Gains to the left of zero and costs to the right are stacked apart.
    gained, cost = np.zeros(len(names)), np.zeros(len(names))
    for colour, (part, values) in zip(_PART_COLOURS, parts_bps.items(), strict=False):
        width = np.array(values, dtype=float)
        by_order.barh(rows, width, left=np.where(width < 0, gained, cost), color=colour, label=part, height=0.7)
        gained, cost = gained + np.minimum(width, 0), cost + np.maximum(width, 0)
    by_order.set_yticks(rows, list(names), fontsize=7)
    by_order.invert_yaxis()
    by_order.legend(fontsize=7, frameon=False)
    by_order.set_title("Shortfall by order, bps", fontsize=10)
    over_time.axhline(0, color="#999999", linewidth=0.8)
    over_time.plot(np.array(sessions, dtype="datetime64[D]"), list(shortfall_bps), color="#1f5f8b", marker="o")
    over_time.set_title("Shortfall of each session, bps", fontsize=10)
    over_time.tick_params(axis="x", rotation=30, labelsize=7)
    for axes in (by_order, over_time):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
