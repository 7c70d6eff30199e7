"""The analysis of a backtest, drawn and worded: the second half of the tear sheet.

Belongs here: a picture and sections of HTML. Does not: computing (analysis.py, published.py), the first half and the
page around both (tearsheet.py).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np

from octopus.backtest.analysis import Analysis, Contribution, Variant
from octopus.backtest.published import Published, by_rule

_OWN, _OTHER, _LOSS, _INK = "#1f4e79", "#9aa5b1", "#b5483a", "#333333"
_SHOWN = 20
_NAMES = {
    "cagr": "CAGR", "volatility": "Volatility", "sharpe": "Sharpe ratio", "sortino": "Sortino ratio",
    "max_drawdown": "Max drawdown", "calmar": "Calmar ratio",
}  # fmt: skip
_RATIOS = frozenset({"sharpe", "sortino", "calmar"})


def analysis_png(analysis: Analysis, title: str) -> bytes:
    """One page of 1200 × 800 pixels: profit by instrument, sensitivity to costs, capacity or factors, crises."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["profit", "costs"], ["stress", "capacity"]])
    figure.suptitle(f"{title}: where it came from, and what would have taken it away", fontsize=12, color=_INK)
    _draw_profit(axes["profit"], analysis.instruments)
    _draw_variants(axes["costs"], analysis.costs, "Sharpe ratio at multiples of the costs", "× costs")
    _draw_stress(axes["stress"], analysis)
    if analysis.capacity:
        _draw_variants(axes["capacity"], analysis.capacity, "Sharpe ratio by capital, square-root impact", "capital")
        axes["capacity"].set_xscale("log")
    else:
        _draw_factors(axes["capacity"], analysis)
    for drawn in axes.values():
        drawn.spines[["top", "right"]].set_visible(False)
        drawn.tick_params(labelsize=8, colors=_INK)
        drawn.set_axisbelow(True)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def analysis_html(analysis: Analysis, png: bytes) -> str:
    """Sections for `octopus.backtest.tearsheet.tearsheet_html`."""
    picture = base64.b64encode(png).decode("ascii")
    parts = [
        f'<img alt="Profit by instrument, costs, crises, capacity" src="data:image/png;base64,{picture}">',
        "<h2>How sure: 95 % intervals (stationary bootstrap, blocks of 21 sessions)</h2>",
        _rows(["", "measured", "low", "high"], [
            [_NAMES[one.measure], *(_measure(one.measure, value) for value in (one.value, one.low, one.high))]
            for one in analysis.intervals
        ]),
        f"<h2>Factors: {analysis.factors.explained:.0%} of the variance of daily returns</h2>",
        _rows(["", "beta", "t", "a year"], [
            [load.name, "" if load.name == "alpha" else _number(load.beta), _number(load.t), _percent(load.annual)]
            for load in analysis.factors.loads
        ]),
        "<h2>Costs</h2>",
        _rows(["× costs", "CAGR", "Sharpe ratio", "costs a year"], [
            [f"{one.size:g}", _percent(one.cagr), _number(one.sharpe), _percent(one.costs_annual)]
            for one in analysis.costs
        ]),
        _capacity(analysis.capacity),
        _stress(analysis),
        _contributions("Profit by currency", analysis.currencies),
        _contributions("Profit by group", analysis.groups),
        _contributions("Profit by instrument", analysis.instruments),
    ]  # fmt: skip
    return "".join(parts)


def engines_html(published: Published) -> str:
    """What both engines and the gates say."""
    lines = [[name, str(one)] for name, one in published.comparisons.items()]
    denied = [
        [one.gate, one.rule, f"{one.orders:,}", f"{one.sessions:,}", f"{one.first}", f"{one.last}", one.reason]
        for one in by_rule(published.gated.denials)
    ]
    stood = "enforced: what they denied was not sent" if published.enforced else (
        "not enforced in the figures above: what follows is what they would have denied, each account judged as it "
        "would have been then"
    )  # fmt: skip
    head = ["gate", "rule", "orders", "sessions", "first", "last", "the first time"]
    table = _rows(head, denied) if denied else "<p>They denied nothing.</p>"
    final = f"{published.gated.result.equity[-1]:,.0f}"
    said = f"Today's limits and policy are {stood}. With them the account ends at {final}."
    return f"<h2>Two engines</h2>{_rows(['', 'ledger by ledger'], lines)}<h2>Gates</h2><p>{escape(said)}</p>{table}"


# -- the picture -------------------------------------------------------------------------------------------------------


def _draw_profit(axes: Any, contributions: Sequence[Contribution]) -> None:
    from matplotlib.ticker import StrMethodFormatter

    shown = _extremes(contributions)
    values = [one.profit for one in shown]
    place = np.arange(len(shown))
    axes.barh(place, values, color=[_OWN if value >= 0 else _LOSS for value in values])
    axes.set_yticks(place, [one.name for one in shown])
    axes.invert_yaxis()
    axes.axvline(0, color=_INK, linewidth=0.6)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_title("Profit by instrument, account currency", fontsize=10, loc="left", color=_INK)


def _draw_variants(axes: Any, variants: Sequence[Variant], title: str, label: str) -> None:
    axes.plot([one.size for one in variants], [one.sharpe for one in variants], color=_OWN, marker="o")
    axes.axhline(0, color=_INK, linewidth=0.6)
    axes.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)
    axes.set_xlabel(label, fontsize=8, color=_INK)
    axes.set_title(title, fontsize=10, loc="left", color=_INK)


def _draw_stress(axes: Any, analysis: Analysis) -> None:
    from matplotlib.ticker import PercentFormatter

    place = np.arange(len(analysis.stress))
    axes.barh(place - 0.2, [one.strategy for one in analysis.stress], 0.4, color=_OWN, label="strategy")
    axes.barh(place + 0.2, [one.benchmark for one in analysis.stress], 0.4, color=_OTHER, label="benchmark")
    axes.set_yticks(place, [one.crisis.name for one in analysis.stress])
    axes.invert_yaxis()
    axes.axvline(0, color=_INK, linewidth=0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title("Return in named crises", fontsize=10, loc="left", color=_INK)
    if len(place):
        axes.legend(frameon=False, fontsize=8)


def _draw_factors(axes: Any, analysis: Analysis) -> None:
    from matplotlib.ticker import PercentFormatter

    loads = analysis.factors.loads
    axes.bar([load.name for load in loads], [load.annual for load in loads], color=_OWN)
    axes.axhline(0, color=_INK, linewidth=0.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title("Return a year by factor", fontsize=10, loc="left", color=_INK)


def _extremes(contributions: Sequence[Contribution]) -> list[Contribution]:
    """The largest and the smallest, where there are too many to show."""
    if len(contributions) <= _SHOWN + 1:
        return list(contributions)
    return [*contributions[: _SHOWN // 2], *contributions[-_SHOWN // 2 :]]


# -- the page ----------------------------------------------------------------------------------------------------------


def _capacity(variants: Sequence[Variant]) -> str:
    head = "<h2>Capacity: square-root impact of one day's volatility at a day's volume</h2>"
    if not variants:
        return f"{head}<p>Not known: it takes raw prices and volumes, and this data has none.</p>"
    return head + _rows(["initial capital", "CAGR", "Sharpe ratio", "costs a year"], [
        [f"{one.size:,.0f}", _percent(one.cagr), _number(one.sharpe), _percent(one.costs_annual)] for one in variants
    ])  # fmt: skip


def _stress(analysis: Analysis) -> str:
    if not analysis.stress:
        return "<h2>Crises</h2><p>None of the named ones lies within this backtest.</p>"
    return "<h2>Crises</h2>" + _rows(["", "from", "to", "strategy", "benchmark", "deepest fall"], [
        [one.crisis.name, f"{one.crisis.first}", f"{one.crisis.last}", _percent(one.strategy), _percent(one.benchmark),
         _percent(one.worst)]
        for one in analysis.stress
    ])  # fmt: skip


def _contributions(title: str, contributions: Sequence[Contribution]) -> str:
    if not contributions:
        return ""
    shown, converts = _extremes(contributions), any(one.currency for one in contributions)
    rows = [
        [one.name, f"{one.profit:,.0f}", f"{-one.costs:,.0f}", f"{one.turnover:,.0f}"]
        + ([f"{one.currency:,.0f}"] if converts else [])
        for one in shown
    ]  # fmt: skip
    head = ["", "profit", "of it costs", "traded", *(["of it rates"] if converts else [])]
    return f"<h2>{title}</h2>" + _rows(head, rows)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{body}</table>"


def _measure(name: str, value: float) -> str:
    return _number(value) if name in _RATIOS else _percent(value)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2%}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
