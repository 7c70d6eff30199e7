"""The simulator: sessions one after the other, one decision function, fills in the next session.

Belongs here: the account's life under decisions, costs, splits, dividends and delistings. Does not: deciding, sizing
(sizing.py), measuring (metrics.py).

The rules of the house, the same as the daily run's but for membership at the fill and for delistings, which only the
simulator knows:

- After session t's close the decision sees the weights held at that close. Its orders are sized at that close.
- They fill in session t+1, at its open or close, moved against the trader by half the spread and the slippage;
  the commission comes on top. Sells fill before buys; if cash then falls short, all buys are scaled down by one factor.
- Without a bar in t+1, or when the instrument splits in t+1, the order expires. So does one that would open or enlarge
  a position in an instrument that is no member in t+1. Who is no member at a decision is sold in the session after it.
- A split changes the shares held on its ex-session before anything else; where shares are whole, the fraction is paid
  in cash at the last mark. A dividend pays cash on the shares held before the ex-session (told per share after the
  split).
- A delisted instrument pays its delisting value at the close of that session, whether it has a bar then or not, and is
  never traded again, whatever bears its name later.
- A held instrument without a bar keeps its last mark, for ever if no delisting is known. Cash earns no interest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import numpy as np

from octopus.backtest.config import BacktestConfig
from octopus.backtest.sizing import Sizing, affordable, floor_to_lot, planned_changes
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError, OctopusError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray
from octopus.decision import DecisionConfig, Prepared, decide, prepare

Decider = Callable[[int, FloatArray], FloatArray]
"""From a row of the panel and the weights held at its close to target weights, shape (N,); NaN leaves a position."""


class RuinError(OctopusError):
    """The simulated account has lost everything, so that no weight is a fraction of it."""


@dataclass(frozen=True, eq=False)
class Trades:
    """Executions in order of time, each array of shape (trades,).

    Attributes:
        session: of the fill. instrument: column of the panel. side: 1 for a buy, −1 for a sell.
        shares: positive. price: paid or received per share. reference_price: of the auction.
        fees: commission, account currency.
    """

    session: DateArray
    instrument: IntArray
    side: IntArray
    shares: FloatArray
    price: FloatArray
    reference_price: FloatArray
    fees: FloatArray

    def __len__(self) -> int:
        return len(self.session)


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What happened to the account; arrays over sessions have shape (T,), the first row is the opening day.

    Attributes:
        equity, cash: at the close, account currency.
        targets: weights decided after the close, shape (T, N); NaN rows where nothing was decided.
        shares: held at the close, shape (T, N). marks: their prices, shape (T, N).
        price_pnl: from prices moving, before costs, a delisting's last step included. dividends: received.
        redemptions: cash received for shares that were delisted, no fill of ``trades``.
        costs: by kind (``spread_slippage``, ``commission``), account currency.
        turnover: buys plus sells at reference prices as a fraction of the previous close's equity.
        gross_return, net_return: of the session before and after costs, as fractions.
        fallbacks: sessions on which the optimiser found no solution, and what was done instead.
    """

    symbols: tuple[str, ...]
    sessions: DateArray
    equity: FloatArray
    cash: FloatArray
    targets: FloatArray
    shares: FloatArray
    marks: FloatArray
    price_pnl: FloatArray
    dividends: FloatArray
    redemptions: FloatArray
    costs: dict[str, FloatArray]
    turnover: FloatArray
    gross_return: FloatArray
    net_return: FloatArray
    trades: Trades
    execution: Literal["open", "close"]
    fallbacks: tuple[tuple[date, str], ...] = field(default=())

    @property
    def total_costs(self) -> FloatArray:
        """All kinds of costs of each session, shape (T,)."""
        return np.asarray(sum(self.costs.values(), np.zeros(len(self.sessions))))

    @property
    def gross_exposure(self) -> FloatArray:
        """Sum of absolute position values as a fraction of equity, shape (T,)."""
        return np.asarray(np.abs(self.shares * np.where(self.shares != 0, self.marks, 0.0)).sum(axis=1) / self.equity)


def run_backtest(
    panel: Panel,
    config: BacktestConfig,
    decision: DecisionConfig,
    predictions: FloatArray | None = None,
    prepared: Prepared | None = None,
    delisting: FloatArray | None = None,
) -> BacktestResult:
    """Simulate the decision function over ``panel``.

    Args:
        delisting: as `simulate` takes it.
        predictions: of the model that had only seen the past of each session, shape (T, N) like the panel; a row or
            value of NaN abstains.
        prepared: of the same panel and settings, where it is at hand already.
    """
    if predictions is not None and predictions.shape != panel.close.shape:
        raise MissingDataError(f"predictions have shape {predictions.shape}, the panel {panel.close.shape}")
    ready = prepared or prepare(panel, decision)
    notes: list[tuple[date, str]] = []

    def decider(row: int, weights: FloatArray) -> FloatArray:
        known = None if predictions is None or np.isnan(predictions[row]).all() else predictions[row]
        made = decide(ready, row, known, weights, decision)
        if made.fallback is not None:
            notes.append((made.session, made.fallback))
        return made.target_weights

    portfolio = decision.portfolio
    if config.fractional is not None and config.fractional != portfolio.fractional:
        portfolio = portfolio.model_copy(update={"fractional": config.fractional, "lot_size": None})
    return simulate(panel, decider, config, Sizing.of(portfolio), config.costs or decision.costs, notes, delisting)


def simulate(
    panel: Panel,
    decider: Decider,
    config: BacktestConfig,
    sizing: Sizing,
    costs: CostModel,
    notes: list[tuple[date, str]] | None = None,
    delisting: FloatArray | None = None,
) -> BacktestResult:
    """Simulate any decisions over ``panel``.

    Args:
        delisting: last cash for one share on the session of a delisting, 0.0 where it became worthless; NaN elsewhere,
            shape (T, N) like the panel (`octopus.market_data.membership.delisting_values`).

    Raises:
        MissingDataError: fewer than two sessions from ``config.start`` to ``config.end``, or another shape.
        RuinError: equity is not positive.
    """
    if delisting is not None and delisting.shape != panel.close.shape:
        raise MissingDataError(f"delisting has shape {delisting.shape}, the panel {panel.close.shape}")
    first, stop = _period(panel, config)
    execution: Literal["open", "close"] = (
        "open" if config.execution == "open" and bool(np.isfinite(panel.open[first:stop]).any()) else "close"
    )
    book = _Book(panel, first, stop, config.initial_cash, sizing, costs, execution, delisting)
    for row in range(first, stop):
        if row > first:
            book.open_session(row)
            book.execute(row)
        book.close_session(row)
        if (row - first) % config.rebalance_sessions == 0:
            book.plan(row, decider(row, book.weights()))
    return book.result(tuple(notes or ()))


def equal_weight_decider(panel: Panel) -> Decider:
    """The same weight in each member that has a bar; the benchmark that is rebalanced."""

    def decider(row: int, weights: FloatArray) -> FloatArray:
        chosen = panel.member[row] & np.isfinite(panel.close[row])
        return np.where(chosen, 1.0 / max(int(chosen.sum()), 1), 0.0)

    return decider


def buy_and_hold_decider(panel: Panel) -> Decider:
    """The same weight in each member that has a bar on the first day, and never a trade again."""
    equal = equal_weight_decider(panel)

    def decider(row: int, weights: FloatArray) -> FloatArray:
        return equal(row, weights) if not weights.any() else np.full(len(weights), np.nan)

    return decider


def run_benchmarks(
    panel: Panel, config: BacktestConfig, decision: DecisionConfig, delisting: FloatArray | None = None
) -> dict[str, BacktestResult]:
    """The equal-weight benchmarks, rebalanced and held, with the same money, costs and execution."""
    costs = config.costs or decision.costs
    sizing = Sizing(lot=1e-6, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=True)
    calendar = config.model_copy(update={"rebalance_sessions": config.benchmark_sessions})
    return {
        "equal_weight": simulate(panel, equal_weight_decider(panel), calendar, sizing, costs, delisting=delisting),
        "buy_and_hold": simulate(panel, buy_and_hold_decider(panel), calendar, sizing, costs, delisting=delisting),
    }


def _period(panel: Panel, config: BacktestConfig) -> tuple[int, int]:
    first = int(np.searchsorted(panel.sessions, np.datetime64(config.start, "D")))
    stop = len(panel.sessions)
    if config.end is not None:
        stop = int(np.searchsorted(panel.sessions, np.datetime64(config.end, "D"), side="right"))
    if stop - first < 2:
        span = f"{panel.sessions[0]}..{panel.sessions[-1]}" if len(panel.sessions) else "empty"
        raise MissingDataError(
            f"backtest from {config.start} to {config.end or 'the end'} has {max(stop - first, 0)} sessions of the "
            f"panel ({span}), at least 2 are needed; choose another period or ingest more days"
        )
    return first, stop


class _Book:
    """The simulated account and its record; rows are the panel's, the record starts at ``first``."""

    def __init__(
        self,
        panel: Panel,
        first: int,
        stop: int,
        cash: float,
        sizing: Sizing,
        costs: CostModel,
        execution: Literal["open", "close"],
        delisting: FloatArray | None,
    ) -> None:
        length, count = stop - first, len(panel.symbols)
        self.panel, self.first, self.stop, self.sizing, self.costs, self.execution = (
            panel, first, stop, sizing, costs, execution,
        )  # fmt: skip
        self.prices = panel.open if execution == "open" else panel.close
        self.close = panel.close
        self.cash, self.equity = cash, cash
        self.held, self.pending = np.zeros(count), np.zeros(count)
        self.mark = np.full(count, np.nan)
        self.record = {
            name: np.zeros(length)
            for name in (
                "equity", "cash", "price_pnl", "dividends", "redemptions", "spread_slippage", "commission", "turnover",
            )
        }  # fmt: skip
        self.targets = np.full((length, count), np.nan)
        self.shares, self.marks = np.zeros((length, count)), np.full((length, count), np.nan)
        self.fills: list[tuple[int, IntArray, FloatArray, FloatArray, FloatArray]] = []
        self.actions = ((panel.split != 1.0) | (panel.dividend != 0.0)).any(axis=1)
        self.outsiders: BoolArray = np.any(~panel.member, axis=1)
        self.delisting = np.full((1, count), np.nan) if delisting is None else delisting
        self.endings: BoolArray = np.zeros(len(panel.sessions), dtype=bool)
        if delisting is not None:
            self.endings = np.any(np.isfinite(delisting), axis=1)
            ended = np.logical_or.accumulate(np.isfinite(delisting), axis=0)
            # On its last session it still trades; without a close no further order is planned.
            self.close = np.where(ended, np.nan, self.close)

    def open_session(self, row: int) -> None:
        """Corporate actions of the session, on what was held before it."""
        if not self.actions[row]:
            return
        split, at = self.panel.split[row], row - self.first
        after = self.held * split
        if not self.sizing.fractional:
            fraction = np.where(split != 1.0, after - floor_to_lot(after, self.sizing.lot), 0.0)
            # A fraction of a new share is worth the old mark divided by the ratio.
            self.cash += float(np.where(fraction != 0, fraction * self.mark / split, 0.0).sum())
            after = after - fraction
        self.held = after
        self.mark = self.mark / split
        self.pending = np.where(split != 1.0, 0.0, self.pending)
        dividends = float((self.held * self.panel.dividend[row]).sum())
        self.cash += dividends
        self.record["dividends"][at] = dividends

    def execute(self, row: int) -> None:
        """Fill what was planned at the close before."""
        if not self.pending.any():
            return
        price = self.prices[row]
        changes = np.where(np.isfinite(price), self.pending, 0.0)
        if self.outsiders[row]:
            larger = np.abs(self.held + changes) > np.abs(self.held)
            changes = np.where(larger & ~self.panel.member[row], 0.0, changes)
        self.pending = np.zeros(len(self.held))
        reference = np.where(changes != 0, price, 0.0)
        changes = affordable(changes, reference, self.cash, self.costs, self.sizing.lot)
        at = row - self.first
        columns = np.flatnonzero(changes)
        if not len(columns):
            return
        quantity, auction = changes[columns], reference[columns]
        fill = auction * (1.0 + np.sign(quantity) * self.costs.price_move)
        fees = np.maximum(np.abs(quantity) * fill * self.costs.commission_rate, self.costs.commission_min)
        self.cash -= float((quantity * fill).sum() + fees.sum())
        self.held = self.held + changes
        record = self.record
        record["spread_slippage"][at] = float((quantity * (fill - auction)).sum())
        record["commission"][at] = float(fees.sum())
        record["turnover"][at] = float((np.abs(quantity) * auction).sum()) / self.equity
        # What was traded in the session earns from the auction to the close only.
        record["price_pnl"][at] -= float((quantity * (auction - self.mark[columns])).sum())
        order = np.argsort(quantity > 0, kind="stable")
        self.fills.append((row, columns[order], quantity[order], fill[order], fees[order]))

    def close_session(self, row: int) -> None:
        """Mark at the close and record."""
        at, close = row - self.first, self.close[row]
        mark = np.where(np.isfinite(close), close, self.mark)
        if self.endings[row]:
            mark = np.where(np.isfinite(self.delisting[row]), self.delisting[row], mark)
        holding = self.held != 0
        self.record["price_pnl"][at] += float((self.held * (mark - self.mark))[holding].sum())
        self.mark = mark
        if self.endings[row]:
            ended = holding & np.isfinite(self.delisting[row])
            self.record["redemptions"][at] = float((self.held * mark)[ended].sum())
            self.cash += self.record["redemptions"][at]
            self.held = np.where(ended, 0.0, self.held)
            holding = self.held != 0
        self.equity = self.cash + float((self.held * mark)[holding].sum())
        if not self.equity > 0:
            raise RuinError(
                f"equity is {self.equity:.2f} after {self.panel.sessions[row]}: the simulated account is ruined; "
                "lower gross_max or check that day's prices"
            )
        self.record["equity"][at], self.record["cash"][at] = self.equity, self.cash
        self.shares[at], self.marks[at] = self.held, mark

    def weights(self) -> FloatArray:
        return np.where(self.held != 0, self.held * self.mark, 0.0) / self.equity

    def plan(self, row: int, targets: FloatArray) -> None:
        self.targets[row - self.first] = targets
        self.pending = planned_changes(
            targets, self.held, self.close[row], self.cash, self.equity, self.sizing, self.costs
        )

    def result(self, notes: tuple[tuple[date, str], ...]) -> BacktestResult:
        record = self.record
        before = np.concatenate([record["equity"][:1], record["equity"][:-1]])
        costs = {kind: record[kind] for kind in ("spread_slippage", "commission")}
        paid = costs["spread_slippage"] + costs["commission"]
        return BacktestResult(
            symbols=self.panel.symbols,
            sessions=self.panel.sessions[self.first : self.stop],
            equity=record["equity"],
            cash=record["cash"],
            targets=self.targets,
            shares=self.shares,
            marks=self.marks,
            price_pnl=record["price_pnl"],
            dividends=record["dividends"],
            redemptions=record["redemptions"],
            costs=costs,
            turnover=record["turnover"],
            gross_return=(record["equity"] + paid) / before - 1.0,
            net_return=record["equity"] / before - 1.0,
            trades=self._trades(),
            execution=self.execution,
            fallbacks=notes,
        )

    def _trades(self) -> Trades:
        fills = self.fills
        rows = np.concatenate([np.full(len(f[1]), f[0]) for f in fills]) if fills else np.zeros(0, dtype=np.int64)
        columns = np.concatenate([f[1] for f in fills]) if fills else np.zeros(0, dtype=np.int64)
        quantity, price, fees = (
            np.concatenate([f[part] for f in fills]) if fills else np.zeros(0) for part in (2, 3, 4)
        )
        return Trades(
            session=self.panel.sessions[rows],
            instrument=columns,
            side=np.sign(quantity).astype(np.int64),
            shares=np.abs(quantity),
            price=price,
            reference_price=self.prices[rows, columns],
            fees=fees,
        )
