"""The tear sheet: a backtest on one page, as a picture and as a page of HTML.

Belongs here: drawing and wording. Does not: measuring (metrics.py), writing files.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np

from octopus.backtest.metrics import Metrics, drawdowns, yearly_returns
from octopus.backtest.simulator import BacktestResult
from octopus.core.types import FloatArray

_OWN, _OTHER, _LOSS, _COST, _INK = "#1f4e79", "#9aa5b1", "#b5483a", "#c98a2b", "#333333"
_SMOOTHING_SESSIONS = 21


def tearsheet_png(result: BacktestResult, benchmark: BacktestResult, metrics: Metrics, title: str) -> bytes:
    """One page of 1200 × 900 pixels: equity, drawdown, years, turnover with costs, exposure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic(
        [["equity", "equity"], ["drawdown", "drawdown"], ["years", "turnover"], ["years", "exposure"]],
        height_ratios=[2.6, 1.2, 1.0, 1.0],
    )
    figure.suptitle(f"{title}\n{headline(metrics)}", fontsize=12, color=_INK)
    _draw_equity(axes["equity"], result, benchmark)
    _draw_drawdown(axes["drawdown"], result, benchmark)
    _draw_years(axes["years"], result, benchmark)
    _draw_turnover(axes["turnover"], result)
    _draw_exposure(axes["exposure"], result)
    for drawn in axes.values():
        drawn.spines[["top", "right"]].set_visible(False)
        drawn.tick_params(labelsize=8, colors=_INK)
        drawn.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)
        drawn.set_axisbelow(True)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def headline(metrics: Metrics) -> str:
    """The result in one line, the benchmark's beside it."""
    own, other = metrics.strategy, metrics.benchmark
    return (
        f"{metrics.first} to {metrics.last}, after costs · CAGR {own.cagr:.1%} (benchmark {other.cagr:.1%}) · "
        f"Sharpe {own.sharpe:.2f} ({other.sharpe:.2f}) · max drawdown {own.max_drawdown:.0%} ({other.max_drawdown:.0%})"
    )


def tearsheet_html(
    png: bytes,
    metrics: Metrics,
    title: str,
    *,
    assumptions: Mapping[str, object],
    warnings: Sequence[str],
    sections: str = "",
) -> str:
    """The same as a page that needs no other file: picture, measures, costs, assumptions, warnings.

    Args:
        sections: more of it, as HTML (analysis_page.py).
    """
    picture = base64.b64encode(png).decode("ascii")
    noticed = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    notice = f'<section class="warning"><h2>Read this first</h2><ul>{noticed}</ul></section>' if warnings else ""
    costs = {kind.replace("_", " "): f"{amount:,.0f}" for kind, amount in metrics.costs.items()}
    costs |= {
        "all, share of growth per year": _percent(metrics.cost_drag),
        "turnover per year": f"{metrics.turnover_annual:.1f} × equity",
    }
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><p>{escape(headline(metrics))}</p>{notice}"
        f'<img alt="Equity, drawdown, yearly returns, turnover and exposure" src="data:image/png;base64,{picture}">'
        f"<h2>Measures</h2>{_measures(metrics)}"
        f"<h2>Against the benchmark</h2>{_table(_relative(metrics))}"
        f"<h2>Costs</h2>{_table(costs)}{sections}"
        f"<h2>Assumptions</h2>{_table(assumptions)}</body></html>"
    )


def fills_told(result: BacktestResult) -> str:
    """When and at which prices the orders filled, and how many fills had which."""
    counts = ", ".join(f"{count:,} at {_PRICES[price]}" for price, count in result.fill_prices.items())
    how = "" if result.schedule == "none" else f", worked over it by {result.schedule}"
    return f"next session's {result.execution}{how} ({counts or 'nothing filled'})"


_PRICES = {
    "open": "the open", "close": "the close", "limit": "the limit or better", "vwap": "the volume-weighted average",
    "typical": "the mean of high, low and close", "stop": "an entry's stop", "target": "an entry's target",
}  # fmt: skip


def _of_exits_and_limits(result: BacktestResult) -> list[str]:
    """What daily bars do not tell of orders that wait for a price."""
    warnings = []
    if exits := result.fill_prices.get("stop", 0) + result.fill_prices.get("target", 0):
        warnings.append(
            f"{exits:,} entries were closed by their exits: a daily bar does not tell which of its prices came first, "
            "and in doubt it was the stop."
        )
    if limited := result.fill_prices.get("limit", 0):
        warnings.append(
            f"{limited:,} orders filled at their limit or at a better open, each whole: a daily bar does not tell how "
            "much traded there."
        )
    return warnings


def standard_warnings(result: BacktestResult, metrics: Metrics, *, survivors_only: bool) -> list[str]:
    """What a reader must know before believing the figures.

    Args:
        survivors_only: the universe was chosen knowing who survived.
    """
    warnings = []
    if survivors_only:
        warnings.append(
            "Survivorship: the universe was chosen knowing which companies did well; returns of strategy and benchmark "
            "alike are higher than anyone could have earned."
        )
    if result.execution == "close":
        warnings.append("Orders fill at the next session's close: the data has no opening prices or was not asked to.")
    if result.execution == "typical":
        warnings.append(
            "Orders fill at the mean of the session's high, low and close, which stands in for its volume-weighted "
            "average: daily bars do not have that."
        )
    count = sum(result.fill_prices.values())
    guessed = count - result.fill_prices.get("vwap", 0)
    if result.execution == "vwap" and guessed:
        warnings.append(
            f"{guessed:,} of {count:,} fills are not at the session's volume-weighted average"
            f" price, which the data does not have, or were left for the close: {fills_told(result)}."
        )
    warnings += _of_exits_and_limits(result)
    if result.schedule != "none":
        warnings.append(
            f"Orders are worked by {result.schedule}: all children of an order fill at one price of the session here, "
            "for daily bars know no hour of it, and the gates judge the order as one."
        )
    if metrics.active_return < 0:
        warnings.append(
            f"The strategy earned {-metrics.active_return:.1%} a year less than its equal-weight benchmark."
        )
    if metrics.deflated_sharpe < 0.95:
        warnings.append(
            f"The deflated Sharpe ratio is {metrics.deflated_sharpe:.2f} after {metrics.trials} trials, below 0.95."
        )
    if metrics.fallbacks:
        warnings.append(f"On {metrics.fallbacks} sessions the limits clashed and the fallback was taken.")
    return warnings


# -- the picture -------------------------------------------------------------------------------------------------------


def _draw_equity(axes: Any, result: BacktestResult, benchmark: BacktestResult) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    for one, colour, name, width in (
        (benchmark, _OTHER, "equal-weight benchmark", 1.2),
        (result, _OWN, "strategy", 1.6),
    ):
        growth = one.equity / one.equity[0]
        axes.plot(one.sessions, growth, color=colour, linewidth=width, label=f"{name}: × {growth[-1]:.2f}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("Growth of 1, net of costs (log scale)", fontsize=10, loc="left", color=_INK)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.margins(x=0.01)


def _draw_drawdown(axes: Any, result: BacktestResult, benchmark: BacktestResult) -> None:
    own = drawdowns(result.equity)
    axes.fill_between(result.sessions, own, 0, color=_LOSS, alpha=0.55, linewidth=0, label="strategy")
    axes.plot(benchmark.sessions, drawdowns(benchmark.equity), color=_OTHER, linewidth=0.9, label="benchmark")
    _as_percent(axes)
    axes.set_title("Drawdown", fontsize=10, loc="left", color=_INK)
    axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
    axes.margins(x=0.01)


def _draw_years(axes: Any, result: BacktestResult, benchmark: BacktestResult) -> None:
    own = yearly_returns(result.sessions[1:], result.net_return[1:])
    other = yearly_returns(benchmark.sessions[1:], benchmark.net_return[1:])
    place = np.arange(len(own))
    axes.bar(place - 0.2, list(own.values()), 0.4, color=_OWN, label="strategy")
    axes.bar(place + 0.2, list(other.values()), 0.4, color=_OTHER, label="benchmark")
    axes.axhline(0, color=_INK, linewidth=0.6)
    step = math.ceil(len(own) / 14)
    axes.set_xticks(place[::step], [f"{year}" for year in own][::step], rotation=45)
    _as_percent(axes)
    axes.set_title("Return by calendar year", fontsize=10, loc="left", color=_INK)
    axes.legend(frameon=False, fontsize=8)


def _draw_turnover(axes: Any, result: BacktestResult) -> None:
    axes.plot(result.sessions, _smooth(result.turnover), color=_OWN, linewidth=0.8)
    _as_percent(axes, 1)
    axes.set_title(
        f"Turnover a session (mean of {_SMOOTHING_SESSIONS}) and costs so far", fontsize=10, loc="left", color=_INK
    )
    spent = axes.twinx()
    spent.plot(result.sessions, np.cumsum(result.total_costs) / result.equity[0], color=_COST, linewidth=1.2)
    _as_percent(spent)
    spent.tick_params(labelsize=8, colors=_COST)
    spent.spines["top"].set_visible(False)
    spent.set_ylabel("of initial equity", fontsize=8, color=_COST)
    axes.margins(x=0.01)


def _draw_exposure(axes: Any, result: BacktestResult) -> None:
    axes.fill_between(result.sessions, result.gross_exposure, 0, color=_OWN, alpha=0.35, linewidth=0)
    _as_percent(axes)
    axes.set_ylim(0, max(1.0, float(result.gross_exposure.max())) * 1.02)
    axes.set_title("Gross exposure, of equity", fontsize=10, loc="left", color=_INK)
    axes.margins(x=0.01)


def _as_percent(axes: Any, decimals: int = 0) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=decimals))


def _smooth(values: FloatArray) -> FloatArray:
    """Mean of the latest sessions, as many as there are at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - _SMOOTHING_SESSIONS, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


# -- the page ----------------------------------------------------------------------------------------------------------

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;color:#333;max-width:1200px;margin:2rem auto;padding:0 1rem}"
    "img{max-width:100%;height:auto}table{border-collapse:collapse;margin:.5rem 0 1.5rem}"
    "td,th{padding:.25rem .9rem .25rem 0;border-bottom:1px solid #e3e6ea;text-align:left;vertical-align:top}"
    "td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}h2{font-size:1.05rem;margin:1.2rem 0 .3rem}"
    ".warning{background:#fff6e5;border-left:4px solid #c98a2b;padding:.1rem 1rem;margin:1rem 0}"
)


def _measures(metrics: Metrics) -> str:
    own, other = metrics.strategy, metrics.benchmark
    rows = [
        ("Total return", _percent(own.total_return), _percent(other.total_return)),
        (f"CAGR ({metrics.sessions_per_year} sessions a year)", _percent(own.cagr), _percent(other.cagr)),
        ("Volatility", _percent(own.volatility), _percent(other.volatility)),
        ("Sharpe ratio", _number(own.sharpe), _number(other.sharpe)),
        ("Sortino ratio", _number(own.sortino), _number(other.sortino)),
        ("Max drawdown", _percent(own.max_drawdown), _percent(other.max_drawdown)),
        ("Calmar ratio", _number(own.calmar), _number(other.calmar)),
        ("Omega ratio", _number(own.omega), _number(other.omega)),
        ("Days above zero", _percent(own.hit_rate), _percent(other.hit_rate)),
        ("Best day", _percent(own.best), _percent(other.best)),
        ("Worst day", _percent(own.worst), _percent(other.worst)),
    ]
    body = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{left}</td><td class="number">{right}</td></tr>'
        for name, left, right in rows
    )
    head = '<tr><th></th><th class="number">strategy</th><th class="number">benchmark</th></tr>'
    return f"<table>{head}{body}</table>"


def _relative(metrics: Metrics) -> dict[str, str]:
    fall = metrics.drawdown
    return {
        "Active return": f"{_percent(metrics.active_return)} a year",
        "Tracking error": _percent(metrics.tracking_error),
        "Information ratio": _number(metrics.information_ratio),
        "Beta": _number(metrics.beta),
        "Sharpe ratio, 95 % interval": f"{_number(metrics.sharpe_low)} to {_number(metrics.sharpe_high)}",
        "Deflated Sharpe ratio": f"{_number(metrics.deflated_sharpe)} after {metrics.trials} trials, "
        f"{metrics.trials_clustered} of them different",
        "Max drawdown, peak, trough, recovery": f"{fall.peak}, {fall.trough}, {fall.recovery or 'not yet'}",
        "Mean gross exposure": _percent(metrics.exposure),
        "Trades": f"{metrics.trades:,}",
        "Sessions with a fallback": f"{metrics.fallbacks}",
    }


def _table(rows: Mapping[str, object]) -> str:
    cells = (f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2%}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
