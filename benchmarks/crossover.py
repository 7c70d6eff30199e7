"""backtesting.py's own test by our engines: SmaCross over its bars of GOOG, 2004 to 2013.

Belongs here: saying its rules in ours, and its names of Sharpe and Sortino. Does not: running it
(benchmarks/peers/by_backtesting.py), holding both together (benchmarks/backtests.py, tests/backtest).

backtesting.py sizes an order with the very price that it fills at. Ours never do: they size with a price that is known
before. So each session is told as three instants: its open, at which an order is sized, its open once more, at which
the order fills, and its close. What is decided at the first instant is drawn from closes of sessions before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from octopus.backtest.config import BacktestConfig
from octopus.backtest.events import simulate_events
from octopus.backtest.metrics import drawdowns
from octopus.backtest.simulator import BacktestResult, simulate
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.portfolio.config import Constraints, PortfolioConfig

FAST, SLOW, INVESTED, CASH = 10, 30, 0.9999, 10_000.0
_INSTANTS = 3


@dataclass(frozen=True, eq=False)
class Crossed:
    """What an engine of ours says; equity after each session's close (T,), signed shares held then (T,).

    Attributes:
        trades: that were opened; a reversal closes one and opens the next.
    """

    equity: FloatArray
    shares: FloatArray
    trades: int
    max_drawdown: float
    sharpe: float
    sortino: float


def wanted(close: FloatArray) -> FloatArray:
    """1, -1 or, where nothing is to be done, NaN, by what is known after each close, shape (T,)."""
    fast, slow = (_average(close, window) for window in (FAST, SLOW))
    is_above, is_below = fast > slow, fast < slow
    signal = np.full(len(close), np.nan)
    signal[1:][is_below[:-1] & is_above[1:]] = 1.0
    signal[1:][is_above[:-1] & is_below[1:]] = -1.0
    return signal


def crossed(bars: Mapping[str, Any]) -> dict[str, Crossed]:
    """Both engines over ``open`` and ``close`` (T,)."""
    signal = np.concatenate([[np.nan], wanted(bars["close"])[:-1]])
    targets = np.full((len(signal) * _INSTANTS, 1), np.nan)
    targets[::_INSTANTS, 0] = signal * INVESTED
    # What is open at the end is closed at the last open.
    targets[-_INSTANTS, 0] = 0.0
    prices = np.stack([bars["open"], bars["open"], bars["close"]], axis=1).reshape(-1, 1)
    panel = _panel(prices)
    config = BacktestConfig(start=panel.sessions[0].item(), execution="close", initial_cash=CASH)
    portfolio = PortfolioConfig(trade_min_fraction=0.0, cash_buffer=0.0, constraints=Constraints(long_only=False))
    costs = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
    fast = simulate(panel, lambda row, _: targets[row], config, Sizing.of(portfolio), costs)
    slow = simulate_events(panel, lambda row, _: targets[row], config, portfolio, costs)
    return {"vectorised": _told(fast), "event-driven": _told(slow.result)}


def annual_figures(equity: FloatArray) -> tuple[float, float]:
    """Sharpe and Sortino as backtesting.py names them: of the compounded yearly return, its volatility compounded too.

    Ours (`octopus.backtest.metrics`) are of the arithmetic mean, as empyrical's and quantstats' are.
    """
    returns = equity[1:] / equity[:-1] - 1
    mean = float(np.exp(np.log1p(returns).mean()) - 1)
    yearly = (1 + mean) ** 252 - 1
    variance = float(np.var(returns, ddof=1))
    volatility = np.sqrt((variance + (1 + mean) ** 2) ** 252 - (1 + mean) ** (2 * 252))
    downside = np.sqrt(np.mean(np.minimum(returns, 0) ** 2)) * np.sqrt(252)
    return float(yearly / volatility), float(yearly / downside)


def _told(run: BacktestResult) -> Crossed:
    equity, shares = run.equity[_INSTANTS - 1 :: _INSTANTS], run.shares[_INSTANTS - 1 :: _INSTANTS, 0]
    sharpe, sortino = annual_figures(equity)
    held = np.cumsum(run.trades.side * run.trades.shares)
    return Crossed(equity, shares, int(np.count_nonzero(held)), float(drawdowns(equity).min()), sharpe, sortino)


def _average(values: FloatArray, window: int) -> FloatArray:
    means = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return np.concatenate([np.full(window - 1, np.nan), means])


def _panel(close: FloatArray) -> Panel:
    empty, ones = np.full(close.shape, np.nan), np.ones(close.shape)
    return Panel(
        sessions=np.datetime64(date(2000, 1, 1)) + np.arange(len(close)), symbols=("GOOG",), close=close,
        total_return=empty, open=empty, high=empty, low=empty, volume=empty, sentiment=empty,
        member=np.ones(close.shape, dtype=bool), split=ones, dividend=np.zeros(close.shape), price_basis="raw",
    )  # fmt: skip
