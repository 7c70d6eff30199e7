"""The picture of a risk report for the catalogue.

Belongs here: drawing limit usage. Does not: judging (gate.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from octopus.core.orders import GateReport, Verdict
from octopus.risk.limits import LOWER_BOUNDS, amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AMBER_FROM = 80.0
_FROM_ONE = frozenset({"leverage", "leverage_part_filled"})
"""Rules whose value is one where nothing is used."""
_COLOURS = {"within": "#3b7a57", "close": "#d9a441", "beyond": "#b3423a"}


@dataclass(frozen=True)
class Usage:
    """How much of one limit is used.

    Attributes:
        percent: 100 is at the limit. Of a ceiling: value over limit; of a floor (cash, least net exposure): what was
            taken from the whole equity over what may be taken, so that 100 is again the limit and more is beyond it; of
            leverage, what is above one.
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    usages = limit_usage(report)
    figure = Figure(figsize=(10, max(2.6, 1.5 + 0.34 * len(usages))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    denied = {verdict.intent_id for verdict in report.denials if verdict.intent_id is not None}
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    axes.set_title(f"{len(report.approved)} orders approved, {len(denied)} denied", fontsize=10, loc="left")
    if usages:
        _draw(axes, usages)
    else:
        axes.axis("off")
        axes.text(0.5, 0.5, "no limit has a number in this report", ha="center", va="center")
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _usage(verdict: Verdict) -> Usage | None:
    value, limit = verdict.value, verdict.limit
    if value is None or limit is None:
        return None
    if verdict.rule == "equity_min_usd":
        # Of a floor in money: at the floor all is used, and twice as much equity uses half.
        value_used, allowed = limit, value
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
