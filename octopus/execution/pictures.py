"""Pictures of the account for people who watch it.

Belongs here: drawing. Does not: computing what is drawn (nav.py, costs.py, reconcile.py).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from octopus.core.amounts import plain
from octopus.execution.reconcile import Break

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    _show_days(axes, sessions)
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
    _show_days(over_time, sessions)
    for axes in (by_order, over_time):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


_SHOWN_BREAKS = 12


def reconciliation_picture(breaks: Sequence[Break], sessions: Sequence[date], counts: Sequence[int]) -> bytes:
    """Each break of this reconciliation as a part of what is held, and how many each session had, as PNG.

    Args:
        breaks: of this reconciliation. sessions: ascending. counts: breaks of each session, as they stand now.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, max(3.2, 1.6 + 0.3 * min(len(breaks), _SHOWN_BREAKS))), dpi=110, layout="constrained")
    here, over_time = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_breaks(here, breaks)
    days = np.array(sessions, dtype="datetime64[D]")
    found = np.array(counts, dtype=int)
    over_time.vlines(days, 0, found, color=_BROKEN, linewidth=3)
    for at, colour, label in ((found == 0, _AGREED, "books agree"), (found > 0, _BROKEN, "breaks")):
        if at.any():
            over_time.scatter(days[at], found[at], color=colour, s=22, zorder=3, label=label)
    over_time.set_title("Breaks of each session", fontsize=10)
    over_time.set_ylim(-0.3, max(1, found.max(initial=0)) * 1.25)
    over_time.yaxis.set_major_locator(MaxNLocator(integer=True))
    over_time.tick_params(axis="x", rotation=30, labelsize=7)
    _show_days(over_time, sessions)
    over_time.legend(fontsize=7, frameon=False, loc="upper left")
    over_time.grid(alpha=0.3)
    over_time.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


_FEW_DAYS = 10


def _show_days(axes: Axes, sessions: Sequence[date]) -> None:
    """Mark days, never hours, however few sessions there are."""
    if not sessions or (sessions[-1] - sessions[0]).days > _FEW_DAYS:
        return
    from matplotlib.dates import DateFormatter, DayLocator

    axes.set_xlim(np.datetime64(sessions[0]) - 1, np.datetime64(sessions[-1]) + 1)  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(DayLocator())  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]


_AGREED, _BROKEN = "#3b7a57", "#b3423a"


def _draw_breaks(axes: Axes, breaks: Sequence[Break]) -> None:
    """Broker less ours over the larger of both, so that shares and cash can stand side by side; numbers beside it."""
    more = len(breaks) - _SHOWN_BREAKS
    axes.set_title("Broker against our book" + (f", {more} more in the table" if more > 0 else ""), fontsize=10)
    if not breaks:
        axes.axis("off")
        axes.text(
            0.5, 0.5, "books agree", ha="center", va="center", color=_AGREED, fontsize=14, transform=axes.transAxes
        )
        return
    shown = breaks[:_SHOWN_BREAKS]
    rows = np.arange(len(shown))
    axes.barh(rows, [_relative(one) for one in shown], color=_BROKEN, height=0.6)
    axes.set_yticks(
        rows, [f"{one.kind.value.replace('_', ' ')} {one.instrument or ''}".strip() for one in shown], fontsize=8
    )
    for row, one in enumerate(shown):
        text = f"ours {_number(one.ours)}, broker {_number(one.brokers)}"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color="#444444")
    axes.invert_yaxis()
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.set_xlabel("difference, % of the larger", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _relative(one: Break) -> float:
    ours, brokers = float(one.ours or 0), float(one.brokers or 0)
    largest = max(abs(ours), abs(brokers))
    return 100 * (brokers - ours) / largest if largest else 0.0


def _number(value: Decimal | None) -> str:
    return "none" if value is None else plain(value, ",")
