"""The pictures of risk for the catalogue: limit usage, exposure, VaR backtest, drawdown, stress.

Belongs here: drawing. Does not: judging (gate.py), measuring (report.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from octopus.core.orders import GateReport, Verdict
from octopus.core.types import FloatArray
from octopus.risk.limits import LOWER_BOUNDS, amount
from octopus.risk.report import RiskReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AMBER_FROM = 80.0
_SHORTS = frozenset({"long_only", "name_weight_min"})
"""Rules of which nothing is used while no position is short."""
_FROM_ONE = frozenset({"leverage", "leverage_part_filled"})
"""Rules whose value is one where nothing is used."""
_COLOURS = {"within": "#3b7a57", "close": "#d9a441", "beyond": "#b3423a"}


@dataclass(frozen=True)
class Usage:
    """How much of one limit is used.

    Attributes:
        percent: 100 is at the limit. Of a ceiling: value over limit; of a floor (cash, least net exposure): what was
            taken from the whole equity (of beta, from one) over what may be taken, so that 100 is again the limit and
            more is beyond it; of leverage, what is above one; of the largest short, how short it is.
    """

    rule: str
    value: float
    limit: float
    percent: float


def limit_usage(report: GateReport) -> list[Usage]:
    """Usage of each numeric limit, in the report's order.

    Of rules on the batch, the value that the approved orders leave; of rules on orders, the largest order's, denied
    ones included.
    """
    usages = []
    numeric = [(v, usage) for v in report.verdicts if (usage := _usage(v)) is not None]
    for rule in dict.fromkeys(verdict.rule for verdict, _ in numeric):
        judged = [(v, usage) for v, usage in numeric if v.rule == rule]
        on_batch = [usage for v, usage in judged if v.intent_id is None]
        usages.append(max(on_batch or [usage for _, usage in judged], key=lambda usage: usage.percent))
    return usages


def risk_picture(report: GateReport, title: str = "Risk limits: how much of each is used") -> bytes:
    """PNG of limit usage: one bar for each numeric limit, its value and limit beside it, the limit as a line."""
    usages = limit_usage(report)
    figure = _figure(title, height=max(2.6, 1.5 + 0.34 * len(usages)))
    axes = figure.subplots()
    denied = {verdict.intent_id for verdict in report.denials if verdict.intent_id is not None}
    axes.set_title(f"{len(report.approved)} orders approved, {len(denied)} denied", fontsize=10, loc="left")
    if usages:
        _draw(axes, usages)
    else:
        _say(axes, "no limit has a number in this report")
    _frame(axes, "bottom")
    return _png(figure)


def exposure_picture(report: RiskReport) -> bytes:
    """PNG: weight by sector, and by name the weight beside its part of the CVaR."""
    figure = _figure("Exposure of the planned portfolio", height=6.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    sectors = report.sectors
    if sectors:
        places = np.arange(len(sectors))
        left.barh(places - 0.2, [100 * s.gross for s in sectors], height=0.38, color=_BLUE, label="gross")
        left.barh(places + 0.2, [100 * s.net for s in sectors], height=0.38, color=_LIGHT, label="net")
        left.set_yticks(places, [s.sector for s in sectors])
        left.invert_yaxis()
        left.legend(frameon=False, fontsize=8.5)
    else:
        _say(left, "no position")
    left.set_title("by sector", fontsize=10, loc="left")
    left.set_xlabel("% of equity", fontsize=9)
    _draw_names(right, report)
    for axes in (left, right):
        _frame(axes, "bottom")
        axes.tick_params(axis="y", length=0, labelsize=9)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return _png(figure)


def backtest_picture(report: RiskReport) -> bytes:
    """PNG: what today's weights would have returned beside the VaR forecast of each method, exceedances marked."""
    figure = _figure("VaR backtest: today's weights, each day forecast from the days before it", height=5.4)
    axes = figure.subplots()
    if not report.backtests:
        _say(axes, "the history is too short for a backtest: it needs more than the VaR window")
        return _png(figure)
    first = next(iter(report.backtests.values()))
    days = report.sessions[-len(first.returns) :]
    axes.vlines(days, 0, 100 * first.returns, color="#c4c9cf", linewidth=0.8)
    for (name, test), colour in zip(report.backtests.items(), _LINES, strict=False):
        p_values = (
            f"p {test.coverage.p_value:.2f} coverage, {test.independence.p_value:.2f} independence, "
            f"{test.tail.p_value:.2f} CVaR"
        )
        label = f"{name}: {int(test.exceeded.sum())} exceedances of {test.expected:.0f} expected ({p_values})"
        axes.plot(days, -100 * test.var, color=colour, linewidth=1.3, label=label)
    hits = first.exceeded
    axes.scatter(
        days[hits], 100 * first.returns[hits], s=14, color=_COLOURS["beyond"], zorder=3,
        label=f"worse than the {next(iter(report.backtests))} forecast",
    )  # fmt: skip
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_ylabel(f"% of equity; VaR at {first.level:.0%}", fontsize=9)
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=1)
    _frame(axes, "left", "bottom")
    return _png(figure)


def drawdown_picture(report: RiskReport, navs: Sequence[tuple[date, float]], stop: float) -> bytes:
    """PNG: fall of the account's NAV from its peak, and of today's weights held through the history.

    Args:
        navs: session and NAV without deposits and withdrawals. stop: `RiskLimits.drawdown_stop`.
    """
    figure = _figure("Drawdown", height=5.4)
    top, bottom = figure.subplots(2, 1)
    level = np.array([nav for _, nav in navs], dtype=np.float64)
    _draw_fall(top, np.array([day for day, _ in navs], dtype="datetime64[D]"), level, "the account's NAV", stop)
    wealth = np.asarray(np.cumprod(1 + report.history), dtype=np.float64)
    _draw_fall(bottom, report.sessions, wealth, "today's weights through the history (no account had them)", stop)
    return _png(figure)


def stress_picture(report: RiskReport) -> bytes:
    """PNG: loss of each scenario, and the deepest point on the way of the historical ones."""
    known = [result for result in report.stress if math.isfinite(result.loss)]
    unknown = [result.name for result in report.stress if not math.isfinite(result.loss)]
    figure = _figure("Stress: loss of the planned portfolio", height=max(2.8, 1.6 + 0.42 * len(known)))
    axes = figure.subplots()
    if not known:
        _say(axes, "no scenario covers a name that is held")
        return _png(figure)
    labels = [r.name + (f" (without {len(r.uncovered)} names)" if r.uncovered else "") for r in known]
    losses = [100 * r.loss for r in known]
    colours = [_BLUE if r.kind == "window" else _LIGHT for r in known]
    axes.barh(labels, losses, color=colours, height=0.6)
    for row, result in enumerate(known):
        worst = f"  (worst {100 * result.worst:.1f} %)" if result.kind == "window" else ""
        text = f"{100 * result.loss:.1f} %{worst}"
        axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color="#444444")
    windows = [(row, 100 * r.worst) for row, r in enumerate(known) if r.kind == "window"]
    axes.scatter([w for _, w in windows], [row for row, _ in windows], marker="|", s=160, color=_COLOURS["beyond"])
    axes.set_title(
        "dark: a stretch of history, red mark: deepest fall on the way; light: a shock"
        + (f"; no history for {', '.join(unknown)}" if unknown else ""),
        fontsize=9, loc="left",
    )  # fmt: skip
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("% of equity lost; below zero: gained", fontsize=9)
    axes.tick_params(axis="y", length=0, labelsize=9)
    _frame(axes, "bottom")
    return _png(figure)


_BLUE, _LIGHT = "#31577d", "#9db8d2"
_LINES = ("#31577d", "#d9a441", "#8a5a9e", "#3b7a57", "#6f7b87", "#b3703a")
_NAMES_SHOWN = 20


def _figure(title: str, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    return figure


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _frame(axes: Axes, *shown: str) -> None:
    for name in ("top", "right", "left", "bottom"):
        axes.spines[name].set_visible(name in shown)


def _say(axes: Axes, words: str) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)


def _draw_names(axes: Axes, report: RiskReport) -> None:
    """Weight of each name and its part of the CVaR, largest part first."""
    axes.set_title("by name", fontsize=10, loc="left")
    parts = report.components.get("cvar_95")
    rows = [] if parts is None else np.flatnonzero(report.weights).tolist()
    if parts is None or not rows or parts.total <= 0:
        _say(axes, "no loss to divide: no position, or too short a history")
        return
    shares = parts.component / parts.total
    rows = sorted(rows, key=lambda row: -abs(shares[row]))[:_NAMES_SHOWN]
    places = np.arange(len(rows))
    axes.barh(
        places - 0.2, [100 * shares[r] for r in rows], height=0.38, color=_COLOURS["close"], label="% of CVaR 95 %"
    )
    weights = [100 * report.weights[r] for r in rows]
    axes.barh(places + 0.2, weights, height=0.38, color=_LIGHT, label="weight, % of equity")
    axes.set_yticks(places, [report.symbols[r] for r in rows])
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")


def _draw_fall(axes: Axes, days: np.ndarray, level: FloatArray, title: str, stop: float) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    if len(level) < 2:
        _say(axes, f"{title}: fewer than two sessions")
        return
    fall = 100 * (level / np.maximum.accumulate(np.maximum(level, level[0])) - 1)
    axes.fill_between(days, fall, 0, color=_LIGHT)
    axes.plot(days, fall, color=_BLUE, linewidth=1)
    axes.axhline(-100 * stop, color=_COLOURS["beyond"], linewidth=1.1, linestyle="--")
    axes.annotate(f"drawdown stop {stop:.0%}", (days[0], -100 * stop), fontsize=8.5, va="bottom", color="#b3423a")
    axes.set_ylabel("% below the peak", fontsize=9)
    _frame(axes, "left", "bottom")


def _usage(verdict: Verdict) -> Usage | None:
    value, limit = verdict.value, verdict.limit
    if value is None or limit is None:
        return None
    if verdict.rule == "equity_min_usd":
        # Of a floor in money: at the floor all is used, and twice as much equity uses half.
        value_used, allowed = limit, value
    elif verdict.rule in _SHORTS:
        value_used, allowed = max(0.0, -value), -limit
    elif verdict.rule in LOWER_BOUNDS:
        value_used, allowed = 1.0 - value, 1.0 - limit
    elif verdict.rule in _FROM_ONE:
        value_used, allowed = value - 1.0, limit - 1.0
    else:
        value_used, allowed = value, limit
    percent = 100.0 * value_used / allowed if allowed > 0 else (0.0 if value_used <= allowed else 200.0)
    return Usage(verdict.rule, value, limit, max(0.0, percent))


def _draw(axes: Axes, usages: list[Usage]) -> None:
    reach = max(115.0, min(200.0, max(usage.percent for usage in usages)))
    shown = [min(usage.percent, reach) for usage in usages]
    labels = [usage.rule.replace("_", " ").replace("part filled", "(part filled)") for usage in usages]
    bars = axes.barh(labels, shown, color=[_colour(usage) for usage in usages], height=0.62)
    axes.axvline(100, color="#222222", linewidth=1.2, linestyle="--", zorder=1)
    percents = axes.bar_label(bars, [f"{usage.percent:.0f} %" for usage in usages], padding=4, fontsize=8.5)
    for percent in percents:
        percent.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    for row, usage in enumerate(usages):
        side = "at least" if usage.rule in LOWER_BOUNDS else "at most"
        text = f"{amount(usage.rule, usage.value)}  ({side} {amount(usage.rule, usage.limit)})"
        axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color="#444444")
    axes.set_xlim(0, reach * 1.08)
    axes.set_xlabel("% of the limit (dashed: the limit)", fontsize=9)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylim(len(usages) - 0.4, -0.6)


def _colour(usage: Usage) -> str:
    if usage.percent > 100.0 + 1e-9:
        return _COLOURS["beyond"]
    return _COLOURS["close" if usage.percent >= AMBER_FROM else "within"]
