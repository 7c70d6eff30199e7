"""The simulator: sessions one after the other, one decision function, fills in the next session.

Belongs here: running the account through decisions and telling what happened. Does not: the arithmetic of a session
(kernel.py), deciding, sizing (sizing.py), measuring (metrics.py).

The rules of the house, the same as the daily run's and the paper account's (resources/brokers/paper.py):

- After session t's close the decision sees the weights held at that close. Its orders are sized at that close.
- They fill in session t+1, at its open, close, typical or volume-weighted average price, moved against the trader by
  half the spread, the slippage and, if configured, the impact; the commission comes on top. Sells fill before buys; if
  cash then falls short, all buys are scaled down by one factor.
- Where orders are worked over the session (twap, vwap, participation), that is in child orders, each of which pays its
  own commission, at the session's average price (working.py). What a participation is never due is not traded, or
  fills in the close after the rest, at the impact of the whole. The gates judge the order as one; the daily run judges
  each child.
- With exits (execution.bracket) orders meet the open. What was bought has its stop and its target from there to the
  close, by the rule of octopus/core/brackets.py: in doubt the stop, at its price or, beyond it, at the open, moved as
  any fill; a target at its own price, moved by nothing.
- With limits (execution.limit_bps) an order meets the open where that is at its limit or better, moved as any fill but
  never beyond the limit; otherwise it fills at its limit, moved by nothing, if the session reaches it
  (octopus/core/limit_orders.py). What fills at the open is paid for first.
- Without a bar in t+1, or when the instrument splits in t+1, the order expires. So does one that would open or enlarge
  a position in an instrument that is no member in t+1, a limit that is not reached, and what is more than the cap on
  volume. Who is no member at a decision is sold in the session after it.
- A split changes the shares held on its ex-session before anything else; where shares are whole, the fraction is paid
  in cash at the last mark. A dividend pays cash on the shares held before the ex-session (told per share after the
  split); who is short owes it.
- A spin-off pays the worth of the spun-off shares, at the close of the ex-session, on the shares held before it: they
  are sold at their first close. Nothing is paid for shares that nobody has a price of.
- A change of symbol is nothing: the panel's columns are instruments, whatever their names were. (The paper account,
  which knows names, cancels the orders under the old one.)
- A delisted instrument pays its delisting value at the close of that session, whether it has a bar then or not, and is
  never traded again, whatever bears its name later.
- Prices, limits and fills are in the instrument's own currency; the account has one. A trade, a dividend and every mark
  are converted at the session's rate; a trade's is moved against the trader by the spread of a conversion and recorded
  with it. What is held earns or loses with the rate before anything else happens. Without a rate nothing is traded.
- A held instrument without a bar keeps its last mark, for ever if no delisting is known.
- Interest on cash, financing of debt and the fee for borrowed shares accrue for each session, on what stood at the
  close before; all are zero unless configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from octopus.backtest import kernel
from octopus.backtest.config import BacktestConfig, Execution
from octopus.backtest.market import execution_of, market_of, rules_of
from octopus.backtest.sizing import Sizing
from octopus.backtest.working import PriceOfFill, prices_of_fills
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError, OctopusError
from octopus.core.panel import Panel
from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray
from octopus.decision import (
    DecisionConfig,
    Prepared,
    View,
    asks_for_equity,
    decide_on,
    known_equity,
    known_weights,
    prepare,
    view,
)
from octopus.portfolio.config import PortfolioConfig

_VIEWS_BYTES = 64_000_000
"""Covariances that are kept for further runs."""

Decider = Callable[[int, FloatArray], FloatArray]
"""From a row of the panel and the weights held at its close to target weights, shape (N,); NaN leaves a position."""


class RuinError(OctopusError):
    """The simulated account has lost everything, so that no weight is a fraction of it."""


@dataclass(frozen=True, eq=False)
class Trades:
    """Executions in order of time, each array of shape (trades,).

    Attributes:
        session: of the fill. instrument: column of the panel. side: 1 for a buy, −1 for a sell.
        shares: positive. price: paid or received per share. reference_price: of the auction; both as printed, in the
            instrument's currency.
        fees: commission, account currency.
        kind: of `octopus.backtest.kernel.KINDS_OF_FILL`: an order's, the rest of a worked one's, which met the close,
            or that of an exit.
        rate: account currency for one unit of the instrument's, as it was converted, the conversion's spread included:
            side × shares × price × rate + fees is what the trade took from the account's cash.
    """

    session: DateArray
    instrument: IntArray
    side: IntArray
    shares: FloatArray
    price: FloatArray
    reference_price: FloatArray
    fees: FloatArray
    rate: FloatArray
    kind: IntArray

    def __len__(self) -> int:
        return len(self.session)

    @classmethod
    def of(cls, sessions: DateArray, ledger: FloatArray) -> Trades:
        """From a ledger as `octopus.backtest.kernel.run` writes it, shape (trades, `octopus.backtest.kernel.FILL`)."""
        ledger = ledger.reshape(-1, kernel.FILL)
        return cls(
            session=sessions[ledger[:, 0].astype(np.int64)],
            instrument=ledger[:, 1].astype(np.int64),
            side=np.sign(ledger[:, 2]).astype(np.int64),
            shares=np.abs(ledger[:, 2]),
            price=ledger[:, 3].copy(),
            reference_price=ledger[:, 4].copy(),
            fees=ledger[:, 5].copy(),
            rate=ledger[:, 6].copy(),
            kind=ledger[:, 7].astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What happened to the account; arrays over sessions have shape (T,), the first row is the opening day.

    Attributes:
        equity, cash: at the close, account currency.
        targets: weights decided after the close, shape (T, N); NaN rows where nothing was decided.
        shares: held at the close, shape (T, N). marks: their prices, account currency, shape (T, N).
        price_pnl: from prices moving, before costs, a delisting's last step included. currency_pnl: from rates moving,
            on what stood at the close before. dividends: received, with what
            spun-off shares were worth.
        redemptions: cash received for shares that were delisted, no fill of ``trades``.
        interest: received on cash.
        costs: by kind (``spread_slippage``, ``commission``, ``impact``, ``borrow``, ``financing`` and, where there is
            more than one currency, ``conversion``), account currency.
            The change of equity is price_pnl + currency_pnl + dividends + interest − costs.
        turnover: buys plus sells at reference prices as a fraction of the previous close's equity.
        gross_return, net_return: of the session before and after costs, as fractions.
        execution: which price of the session was asked for. schedule: by which orders were worked over it, or ``none``.
        fill_prices: how many fills had which price of their session: ``open``, ``close``, ``typical``, ``vwap``,
            ``limit``, and of exits ``stop`` and ``target``; the most frequent first.
        fallbacks: sessions on which the optimiser found no solution, and what was done instead.
        sessions_per_year: of the panel's clock.
    """

    symbols: tuple[str, ...]
    sessions: DateArray
    equity: FloatArray
    cash: FloatArray
    targets: FloatArray
    shares: FloatArray
    marks: FloatArray
    price_pnl: FloatArray
    currency_pnl: FloatArray
    dividends: FloatArray
    redemptions: FloatArray
    interest: FloatArray
    costs: dict[str, FloatArray]
    turnover: FloatArray
    gross_return: FloatArray
    net_return: FloatArray
    trades: Trades
    execution: Execution
    schedule: str
    fill_prices: Mapping[str, int]
    fallbacks: tuple[tuple[date, str], ...] = field(default=())
    sessions_per_year: int = SESSIONS_PER_YEAR

    @property
    def total_costs(self) -> FloatArray:
        """All kinds of costs of each session, shape (T,)."""
        return np.asarray(sum(self.costs.values(), np.zeros(len(self.sessions))))

    @property
    def gross_exposure(self) -> FloatArray:
        """Sum of absolute position values as a fraction of equity, shape (T,)."""
        return np.asarray(np.abs(self.shares * np.where(self.shares != 0, self.marks, 0.0)).sum(axis=1) / self.equity)


class Decisions:
    """The decision function over one panel, for as many runs as want it; what was decided is not computed again.

    One session and the same account are one decision, whoever asks: the same weights held as the decision knows them
    (`octopus.decision.known_weights`) and, where it asks for the equity, the same equity (`known_equity`).
    """

    def __init__(
        self,
        panel: Panel,
        decision: DecisionConfig,
        predictions: FloatArray | None = None,
        prepared: Prepared | None = None,
    ) -> None:
        """As `run_backtest` takes them."""
        if predictions is not None and predictions.shape != panel.close.shape:
            raise MissingDataError(f"predictions have shape {predictions.shape}, the panel {panel.close.shape}")
        self._config, self._predictions = decision, predictions
        self._prepared = prepared or prepare(panel, decision)
        self._sized = asks_for_equity(panel, decision.portfolio)
        self._made: dict[tuple[int, bytes, float | None], tuple[FloatArray, str | None]] = {}
        self._views: dict[int, View] = {}
        self._views_kept = _VIEWS_BYTES // (8 * len(panel.symbols) ** 2)

    def decider(self, notes: list[tuple[date, str]], equity: Callable[[], float]) -> Decider:
        """What a run asks.

        Args:
            notes: gets the session and reason of each fallback, in order. equity: the run's, at the last close.
        """

        def decider(row: int, weights: FloatArray) -> FloatArray:
            targets, fallback = self._decide(row, weights, known_equity(equity()) if self._sized else None)
            if fallback is not None:
                notes.append((self._prepared.panel.sessions[row].item(), fallback))
            return targets

        return decider

    def _decide(self, row: int, weights: FloatArray, equity: float | None) -> tuple[FloatArray, str | None]:
        key = (row, known_weights(weights).tobytes(), equity)
        if key not in self._made:
            made = decide_on(self._view(row), weights, self._config, equity)
            self._made[key] = (made.target_weights, made.fallback)
        return self._made[key]

    def _view(self, row: int) -> View:
        """What all runs see alike; of many instruments it is too large to be kept for every session."""
        if row in self._views:
            return self._views[row]
        known = None if self._predictions is None else self._predictions[row]
        spoken = None if known is None or np.isnan(known).all() else known
        seen = view(self._prepared, row, spoken, self._config)
        if len(self._views) < self._views_kept:
            self._views[row] = seen
        return seen


def run_backtest(
    panel: Panel,
    config: BacktestConfig,
    decision: DecisionConfig,
    predictions: FloatArray | None = None,
    prepared: Prepared | None = None,
    delisting: FloatArray | None = None,
    *,
    denied: BoolArray | None = None,
    decisions: Decisions | None = None,
) -> BacktestResult:
    """Simulate the decision function over ``panel``.

    Args:
        delisting, denied: as `simulate` takes them.
        predictions: of the model that had only seen the past of each session, shape (T, N) like the panel; a row or
            value of NaN abstains.
        prepared: of the same panel and settings, where it is at hand already.
        decisions: of the same panel, settings and predictions, where another run has made some already.
    """
    made = decisions or Decisions(panel, decision, predictions, prepared)
    notes: list[tuple[date, str]] = []
    sizing, costs = Sizing.of(portfolio_of(config, decision)), config.costs or decision.costs
    run = _Run(panel, config, sizing, costs, delisting, denied)
    run.through(made.decider(notes, run.equity))
    return run.result(tuple(notes))


def portfolio_of(config: BacktestConfig, decision: DecisionConfig) -> PortfolioConfig:
    """The portfolio's settings with what the backtest sets otherwise."""
    portfolio = decision.portfolio
    if config.fractional is None or config.fractional == portfolio.fractional:
        return portfolio
    return portfolio.model_copy(update={"fractional": config.fractional, "lot_size": None})


def simulate(
    panel: Panel,
    decider: Decider,
    config: BacktestConfig,
    sizing: Sizing,
    costs: CostModel,
    delisting: FloatArray | None = None,
    denied: BoolArray | None = None,
) -> BacktestResult:
    """Simulate any decisions over ``panel``.

    Args:
        delisting: last cash for one share on the session of a delisting, 0.0 where it became worthless; NaN elsewhere,
            shape (T, N) like the panel (`octopus.market_data.membership.delisting_values`).
        denied: whose order, planned after that session, the gates do not let through (`events.EventRun.denied`), shape
            (T, N) like the panel; none: no gate judges.

    Raises:
        MissingDataError: fewer than two sessions from ``config.start`` to ``config.end``, or another shape.
        RuinError: equity is not positive.
    """
    run = _Run(panel, config, sizing, costs, delisting, denied)
    run.through(decider)
    return run.result(())


def simulate_targets(
    panel: Panel,
    targets: FloatArray,
    config: BacktestConfig,
    sizing: Sizing,
    costs: CostModel,
    delisting: FloatArray | None = None,
) -> BacktestResult:
    """Simulate targets that are known beforehand: `simulate` with a decider that reads them, bit for bit, and faster.

    Args:
        targets: weights decided after each close, shape (T, N) like the panel; NaN leaves a position.

    Raises:
        MissingDataError, RuinError: as `simulate`.
    """
    if targets.shape != panel.close.shape:
        raise MissingDataError(f"targets have shape {targets.shape}, the panel {panel.close.shape}")
    run = _Run(panel, config, sizing, costs, delisting)
    wanted = np.full(run.shares.shape, np.nan)
    chosen = np.arange(run.first, run.stop, config.rebalance_sessions)
    wanted[chosen - run.first] = targets[chosen]
    return run.all_at_once(wanted)


def equal_weight_decider(panel: Panel) -> Decider:
    """The same weight in each member that has a bar; the benchmark that is rebalanced."""

    def decider(row: int, weights: FloatArray) -> FloatArray:
        chosen = panel.member[row] & np.isfinite(panel.worth_at(row))
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


def period(panel: Panel, config: BacktestConfig) -> tuple[int, int]:
    """Rows of the panel that are simulated, half-open.

    Raises:
        MissingDataError: fewer than two.
    """
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


class _Run:
    """One simulated account and its record; rows are the panel's, the record starts at ``first``."""

    def __init__(
        self,
        panel: Panel,
        config: BacktestConfig,
        sizing: Sizing,
        costs: CostModel,
        delisting: FloatArray | None,
        denied: BoolArray | None = None,
    ) -> None:
        for name, values in (("delisting", delisting), ("denied", denied)):
            if values is not None and values.shape != panel.close.shape:
                raise MissingDataError(f"{name} has shape {values.shape}, the panel {panel.close.shape}")
        self.panel, self.config, self.denied = panel, config, denied
        self.first, self.stop = period(panel, config)
        self.execution = execution_of(panel, config, self.first, self.stop)
        self.market = market_of(
            panel, config, self.execution, costs, delisting, long_only=sizing.long_only, units=sizing.units
        )
        self.rules = rules_of(sizing, costs, config, panel.clock.per_year, panel.symbols)
        length, count = self.stop - self.first, len(panel.symbols)
        self.account = kernel.new_account(count, config.initial_cash)
        self.record = np.zeros((length, kernel.KINDS))
        self.targets = np.full((length, count), np.nan)
        self.shares, self.marks = np.zeros((length, count)), np.full((length, count), np.nan)
        self.fills: list[FloatArray] = []

    def through(self, decider: Decider) -> None:
        """Every session, and a decision on each that has one."""
        for row in range(self.first, self.stop):
            self.step(row)
            if (row - self.first) % self.config.rebalance_sessions == 0:
                self.plan(row, decider(row, self.weights()))

    def step(self, row: int) -> None:
        """One session up to its close."""
        at = row - self.first
        if at > 0:
            kernel.begin(row, at, self.market, self.rules, self.account, self.record)
            fills = kernel.execute(row, at, self.market, self.rules, self.account, self.record)
            if fills:
                self.fills.append(kernel.fills_of(row, self.account))
            follows = self.market.in_close or self.market.limited or (self.market.exits and fills)
            if follows and kernel.execute_later(row, at, self.market, self.rules, self.account, self.record):
                self.fills.append(kernel.fills_of(row, self.account))
        if not kernel.finish(row, at, self.market, self.account, self.record) > 0:
            raise self._ruin(row)
        self.shares[at], self.marks[at] = self.account.held, self.account.mark

    def all_at_once(self, targets: FloatArray) -> BacktestResult:
        """Every session, with targets of shape (stop - first, N)."""
        self.targets = targets
        ruined, ledger = kernel.run(
            self.first, self.stop, self.config.rebalance_sessions, targets, self.market, self.rules, self.account,
            self.record, self.shares, self.marks,
        )  # fmt: skip
        if ruined >= 0:
            raise self._ruin(ruined)
        self.fills = [ledger]
        return self.result(())

    def weights(self) -> FloatArray:
        held = self.account.held
        return np.asarray(np.where(held != 0, held * self.account.mark, 0.0) / self.account.money[1])

    def equity(self) -> float:
        return float(self.account.money[1])

    def plan(self, row: int, targets: FloatArray) -> None:
        self.targets[row - self.first] = targets
        kernel.plan(row, np.ascontiguousarray(targets, dtype=np.float64), self.market, self.rules, self.account)
        if self.denied is not None:
            self.account.pending[self.denied[row]] = 0.0

    def _ruin(self, row: int) -> RuinError:
        return RuinError(
            f"equity is {self.account.money[1]:.2f} after {self.panel.sessions[row]}: the simulated account is ruined; "
            "lower gross_max or check that day's prices"
        )

    def result(self, notes: tuple[tuple[date, str], ...]) -> BacktestResult:
        record = self.record
        equity = np.ascontiguousarray(record[:, kernel.EQUITY])
        before = np.concatenate([equity[:1], equity[:-1]])
        costs = {name: np.ascontiguousarray(record[:, COSTS[name]]) for name in kinds_of(self.panel)}
        paid = np.asarray(sum(costs.values(), np.zeros(len(equity))))
        trades = Trades.of(
            self.panel.sessions, np.concatenate(self.fills) if self.fills else np.zeros((0, kernel.FILL))
        )
        return BacktestResult(
            symbols=self.panel.symbols,
            sessions=self.panel.sessions[self.first : self.stop],
            equity=equity,
            cash=np.ascontiguousarray(record[:, kernel.CASH]),
            targets=self.targets,
            shares=self.shares,
            marks=self.marks,
            price_pnl=np.ascontiguousarray(record[:, kernel.PRICE_PNL]),
            currency_pnl=np.ascontiguousarray(record[:, kernel.CURRENCY_PNL]),
            dividends=record[:, kernel.DIVIDENDS] + record[:, kernel.SPIN_OFFS],
            redemptions=np.ascontiguousarray(record[:, kernel.REDEMPTIONS]),
            interest=np.ascontiguousarray(record[:, kernel.INTEREST]),
            costs=costs,
            turnover=np.ascontiguousarray(record[:, kernel.TURNOVER]),
            gross_return=(equity + paid) / before - 1.0,
            net_return=equity / before - 1.0,
            trades=trades,
            execution=self.execution,
            schedule=self.config.schedule.schedule.value,
            fill_prices=fill_prices(self.panel, self.config, self.execution, trades),
            fallbacks=notes,
            sessions_per_year=self.panel.clock.per_year,
        )


def fill_prices(panel: Panel, config: BacktestConfig, execution: Execution, trades: Trades) -> dict[str, int]:
    """As `BacktestResult.fill_prices`."""
    asked: PriceOfFill = execution if config.schedule.limit_bps is None else "limit"
    if asked != "vwap" and config.schedule.bracket is None:
        return {asked: len(trades)} if len(trades) else {}
    return prices_of_fills(panel, asked, trades.session, trades.instrument, trades.kind)


COSTS = {
    "spread_slippage": kernel.SPREAD,
    "commission": kernel.COMMISSION,
    "impact": kernel.IMPACT,
    "borrow": kernel.BORROW,
    "financing": kernel.FINANCING,
    "conversion": kernel.CONVERSION,
}
"""Columns of the record by kind of costs."""


def kinds_of(panel: Panel) -> tuple[str, ...]:
    """Kinds of costs that ``panel`` can have: nothing is converted in one currency."""
    return tuple(name for name in COSTS if name != "conversion" or panel.rate is not None)
