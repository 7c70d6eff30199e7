"""The event-driven engine: one event after the other, with production's own parts and exact money.

Belongs here: what happens to the account between two closes, in `Decimal`. Does not: rules of sizing
(octopus/portfolio/rebalance.py), order states (octopus/execution/states.py), corporate actions
(octopus/execution/book.py), the gates (octopus/risk, octopus/compliance), deciding: it calls all of them.

The vectorised engine (simulator.py, whose docstring has the rules of the house) does the same in floats, compiled, with
code of its own. Two engines that agree to the cent on every trade are the proof of both; reconcile.py compares them.
This one can do what the other cannot: it judges. An order that a gate denies is not sent, and `EventRun.denied` tells
the vectorised engine, which has no gates, what was not sent.

Between the close of t and the close of t + 1::

    close t    decide, size, both gates judge the plan
    open       interest and fees accrue; rates are new; splits and dividends change the account; a split cancels orders
    window     both gates judge again; what they approve is sent and accepted
    auction    fills, sells before buys, within cash; worked orders fill over the session and in its close; then exits
               of entries; what is left expires or is cancelled
    close      spun-off and delisted shares become cash, the rest is marked, the NAV is struck
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from octopus.backtest import lifecycle
from octopus.backtest.config import BacktestConfig
from octopus.backtest.exits import exit_prices
from octopus.backtest.judges import Denial, Gating, Judges, Orders, State
from octopus.backtest.kernel import ORDERED, REST, STOPPED, TARGETED
from octopus.backtest.limits import limit_prices
from octopus.backtest.market import (
    SIGMA_SESSIONS,
    after_the_decision,
    as_booked,
    execution_of,
    in_steps,
    require,
)
from octopus.backtest.simulator import (
    COSTS,
    BacktestResult,
    Decider,
    Decisions,
    RuinError,
    Trades,
    fill_prices,
    kinds_of,
    period,
    portfolio_of,
)
from octopus.backtest.working import work_of
from octopus.core.brackets import bracket_at, exit_hit
from octopus.core.costs import CostModel
from octopus.core.currency import RATE_DECIMALS
from octopus.core.errors import MissingDataError
from octopus.core.limit_orders import is_reached, limit_price
from octopus.core.orders import Exit, OrderType, Side
from octopus.core.panel import ADV_SESSIONS, Panel
from octopus.core.types import BoolArray, FloatArray
from octopus.decision import DecisionConfig, Prepared
from octopus.execution.book import QUANTITY_STEP, CorporateAction, EntryKind, closing_entries, opening_entries
from octopus.execution.schedules import quantities
from octopus.execution.states import Event, OrderState
from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.rebalance import affordable, share_changes
from octopus.portfolio.units import floor_to_lot
from octopus.strategy import windows

MILLIONTH, CENT, ZERO, ONE = Decimal("0.000001"), Decimal("0.01"), Decimal(0), Decimal(1)
_RATE_STEP = Decimal(10) ** -RATE_DECIMALS
_NAV_TOLERANCE = Decimal("1e-9")


class LedgerError(RuinError):
    """The parts of a session do not add up to the change of the account's value: a defect of this engine."""


@dataclass(frozen=True, eq=False)
class EventRun:
    """What the event-driven engine did.

    Attributes:
        result: the account, as the vectorised engine tells it.
        denials: every order that a gate did not let through, in order of time.
        denied: of which orders the gates let none through, by the session of the decision, shape (T, N) like the panel.
        ends: how many orders came to which end; those that the gates denied never became orders.
    """

    result: BacktestResult
    denials: tuple[Denial, ...]
    denied: BoolArray
    ends: Mapping[OrderState, int]


def run_gated_backtest(
    panel: Panel,
    config: BacktestConfig,
    decision: DecisionConfig,
    gating: Gating | None,
    predictions: FloatArray | None = None,
    prepared: Prepared | None = None,
    delisting: FloatArray | None = None,
    decisions: Decisions | None = None,
) -> EventRun:
    """The decision function over ``panel``, each plan judged by the gates of ``gating``; none: every order passes.

    Args:
        predictions, prepared, delisting, decisions: as `octopus.backtest.simulator.run_backtest` takes them.

    Raises:
        MissingDataError, RuinError: as `simulate_events`.
    """
    made = decisions or Decisions(panel, decision, predictions, prepared)
    notes: list[tuple[date, str]] = []
    portfolio, costs = portfolio_of(config, decision), config.costs or decision.costs
    run = _Run(panel, config, portfolio, costs, gating, delisting)
    run.through(made.decider(notes, run.net_worth))
    return run.finished(tuple(notes))


def simulate_events(
    panel: Panel,
    decider: Decider,
    config: BacktestConfig,
    portfolio: PortfolioConfig,
    costs: CostModel,
    gating: Gating | None = None,
    delisting: FloatArray | None = None,
) -> EventRun:
    """Any decisions over ``panel``, event by event.

    Args:
        decider, delisting: as `octopus.backtest.simulator.simulate` takes them.
        portfolio: of which sizes, lots and bands count; its constraints are the decider's business, but ``long_only``.

    Raises:
        MissingDataError: fewer than two sessions, another shape, or data that a rule of ``config`` asks for.
        RuinError: equity is not positive.
    """
    run = _Run(panel, config, portfolio, costs, gating, delisting)
    run.through(decider)
    return run.finished(())


@dataclass
class _Day:
    """One session's record, account currency."""

    price_pnl: Decimal = ZERO
    currency_pnl: Decimal = ZERO
    dividends: Decimal = ZERO
    redemptions: Decimal = ZERO
    interest: Decimal = ZERO
    spread: Decimal = ZERO
    commission: Decimal = ZERO
    impact: Decimal = ZERO
    borrow: Decimal = ZERO
    financing: Decimal = ZERO
    conversion: Decimal = ZERO
    traded: Decimal = ZERO
    equity: Decimal = ZERO
    cash: Decimal = ZERO

    @property
    def earned(self) -> Decimal:
        """What the parts say the session brought."""
        costs = self.spread + self.commission + self.impact + self.borrow + self.financing + self.conversion
        return self.price_pnl + self.currency_pnl + self.dividends + self.interest - costs


@dataclass(frozen=True, eq=False)
class _Rates:
    """Costs and rates of one session as decimals."""

    move: Decimal
    commission: Decimal
    least: Decimal
    borrow: Decimal
    financing: Decimal
    interest: Decimal

    @classmethod
    def of(cls, costs: CostModel, config: BacktestConfig, sessions_per_year: int) -> _Rates:
        a_session = Decimal(10_000 * sessions_per_year)
        yearly = (config.borrow_bps_year, config.financing_bps_year, config.interest_bps_year)
        return cls(
            _decimal(costs.price_move), _decimal(costs.commission_rate), _decimal(costs.commission_min),
            *(_decimal(rate) / a_session for rate in yearly),
        )  # fmt: skip


class _Money:
    """What the instruments of a panel are worth in the account's currency, session by session."""

    def __init__(self, panel: Panel, costs: CostModel, *, rounds: bool) -> None:
        self._panel, self._rounds = panel, rounds
        self._worse = _decimal(costs.conversion_move)
        self.foreign = frozenset(np.array(panel.symbols, dtype=object)[panel.foreign])
        self._rates: dict[str, Decimal] = {}
        self.row = -1

    def at(self, row: int) -> dict[str, Decimal]:
        """Turn to the session of ``row``; the rates that are new there, by instrument, as fractions of the old ones."""
        if self._panel.rate is None or row == self.row:
            return {}
        rates = dict(zip(self._panel.symbols, self._panel.rate[row].tolist(), strict=True))
        before, self.row = self._rates, row
        self._rates = {name: _decimal(rate) for name, rate in rates.items() if math.isfinite(rate)}
        return {name: rate / before[name] for name, rate in self._rates.items() if before.get(name, rate) != rate}

    def knows(self, name: str) -> bool:
        """Whether there is a rate."""
        return self._panel.rate is None or name in self._rates

    def worth(self, name: str, amount: Decimal) -> Decimal:
        """``amount``, as the instrument's prices are told, in the account's currency."""
        return amount if self._panel.rate is None else amount * self._rates[name]

    def with_spread(self, changes: Mapping[str, Decimal], marks: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
        """``marks`` of what is traded, made worse by what converting its money costs."""
        if not self.foreign or not self._worse:
            return marks
        worse = {name: self._worse if name in self.foreign else ZERO for name in changes}
        return {
            name: marks[name] * (ONE + worse[name] if change > 0 else ONE - worse[name])
            for name, change in changes.items()
        }

    def converted(self, name: str, *, buys: bool) -> Decimal:
        """The rate of a trade: the session's, moved against the trader where money is converted."""
        rate = ONE if self._panel.rate is None else self._rates[name]
        if name not in self.foreign or not self._worse:
            return rate
        moved = rate * (ONE + self._worse if buys else ONE - self._worse)
        return moved.quantize(_RATE_STEP) if self._rounds else moved


class _Run:
    """One account, session by session; rows are the panel's."""

    def __init__(
        self,
        panel: Panel,
        config: BacktestConfig,
        portfolio: PortfolioConfig,
        costs: CostModel,
        gating: Gating | None,
        delisting: FloatArray | None,
    ) -> None:
        if delisting is not None and delisting.shape != panel.close.shape:
            raise MissingDataError(f"delisting has shape {delisting.shape}, the panel {panel.close.shape}")
        self.first, self.stop = period(panel, config)
        self.execution = execution_of(panel, config, self.first, self.stop)
        require(panel, config, self.execution, long_only=portfolio.constraints.long_only)
        self.panel, self.config, self.portfolio, self.costs = as_booked(panel, config), config, portfolio, costs
        self.delisting = None if delisting is None else in_steps(delisting, config)
        self.work, self.bracket = work_of(panel, config.schedule), config.schedule.bracket
        self.offset = config.schedule.limit_offset
        if self.bracket is not None:
            exit_prices(self.panel, self.bracket, portfolio.units)
        if self.offset is not None:
            limit_prices(self.panel, self.offset, portfolio.units)
        auction = OrderType.MARKET_ON_OPEN if self.execution == "open" else OrderType.MARKET_ON_CLOSE
        order_type, from_open = config.schedule.order_type(auction), config.schedule.from_open
        self.judges = None
        if gating:
            self.judges = Judges(
                gating, panel, order_type, from_open=from_open, limit_offset=self.offset, units=portfolio.units
            )
        self.rates = _Rates.of(costs, config, panel.clock.per_year)
        self.lot = QUANTITY_STEP if portfolio.fractional else portfolio.lot
        self.money = _Money(self.panel, costs, rounds=config.round_as_venue)
        self.places = {name: place for place, name in enumerate(panel.symbols)}
        self._known_at_decision()
        self._empty_books()

    def through(self, decider: Decider) -> None:
        """Every session, and a decision on each that has one."""
        for row in range(self.first, self.stop):
            if row > self.first:
                self.open(row)
                self.auction(row)
            self.close(row)
            if (row - self.first) % self.config.rebalance_sessions == 0:
                self.plan(row, decider(row, self.weights()))

    def _known_at_decision(self) -> None:
        """What impact and limits are reckoned from, and who has ended."""
        self.opening = after_the_decision(self.panel)
        self.ranges = self.opening, self.panel.high, self.panel.low
        sized = self.config.impact > 0
        self.adv = windows.mean(self.panel.volume, ADV_SESSIONS) if sized else None
        self.sigma = windows.std(self.panel.total_return, SIGMA_SESSIONS) if sized else None
        ended = None if self.delisting is None else np.isfinite(self.delisting)
        self.ended = None if ended is None else np.logical_or.accumulate(ended, axis=0)

    def _empty_books(self) -> None:
        length, count = self.stop - self.first, len(self.panel.symbols)
        self.cash = Decimal(repr(self.config.initial_cash))
        self.equity = self.peak = self.cash
        self.held: dict[str, Decimal] = {}
        self.held_at_open: dict[str, Decimal] = {}
        self.marks: dict[str, Decimal] = {}
        self.last, self.holding = np.full(count, np.nan), np.zeros(count)
        self.pending: Orders | None = None
        self.day = _Day()
        self.days: list[_Day] = []
        self.turnover: list[float] = []
        self.ledger = array("d")
        self.targets = np.full((length, count), np.nan)
        self.shares, self.marked = np.zeros((length, count)), np.full((length, count), np.nan)
        self.denied = np.zeros(self.panel.close.shape, dtype=bool)
        self.ends: dict[OrderState, int] = {}

    # -- the open ----------------------------------------------------------------------------------------------------

    def open(self, row: int) -> None:
        """Interest and fees on the last close, then corporate actions; the gates judge what is left, and it is sent."""
        self.day = _Day()
        self._accrue()
        self._revalue(row)
        names, quotes = self._act(row)
        if self.pending is None:
            return
        orders = self.pending
        if not names.isdisjoint(orders.change):
            left = {name: change for name, change in orders.change.items() if name not in names}
            self._end(OrderState.CANCELLED, len(orders.change) - len(left))
            self.pending = Orders(orders.row, left, orders.reference)
        if self.judges is not None and self.pending.change:
            self._deny(self.judges.send(self.pending, self._state(quotes)))

    def _accrue(self) -> None:
        cash, rates = self.cash, self.rates
        self.day.interest, self.day.financing = max(cash, ZERO) * rates.interest, max(-cash, ZERO) * rates.financing
        if rates.borrow:
            short = sum((-shares * self.marks[name] for name, shares in self.held.items() if shares < 0), ZERO)
            self.day.borrow = short * rates.borrow
        self.cash = cash + self.day.interest - self.day.financing - self.day.borrow

    def _revalue(self, row: int) -> None:
        """Marks at the session's rates; what is held earns or loses with them."""
        for name, moved in self.money.at(row).items():
            mark = self.marks.get(name)
            if mark is not None:
                self.day.currency_pnl += self.held.get(name, ZERO) * (mark * moved - mark)
                self._mark(name, mark * moved)

    def _act(self, row: int) -> tuple[frozenset[str], dict[str, Decimal]]:
        """The session's splits and dividends, as production books them.

        Returns:
            Who split, and the broker's marks of what is held and went ex.
        """
        panel = self.panel
        splits = self._actions(row, EntryKind.SPLIT, panel.split, panel.split[row] != 1.0)
        dividends = self._actions(row, EntryKind.DIVIDEND, panel.dividend, panel.dividend[row] != 0.0)
        for entry in opening_entries([*splits, *dividends], self.held, self.marks.get, self.lot):
            name = str(entry.instrument)
            self._hold(name, self.held.get(name, ZERO) + entry.quantity)
            self.cash += entry.cash
            if entry.kind is EntryKind.DIVIDEND:
                self.day.dividends += entry.cash
        for action in splits:
            if action.instrument in self.marks:
                self._mark(action.instrument, self.marks[action.instrument] / action.value)
        ex = (action for action in dividends if action.instrument in self.held)
        quotes = {action.instrument: self.marks[action.instrument] - action.value for action in ex}
        if panel.spin_off is not None:
            self.held_at_open = dict(self.held)
        return frozenset(action.instrument for action in splits), quotes

    def _actions(self, row: int, kind: EntryKind, values: FloatArray, which: BoolArray) -> list[CorporateAction]:
        """The session's actions of one kind: of ``values``, shape (T, N), those of ``which``, shape (N,); money in the
        account's currency."""
        # Of a session it counts that it is this one; what comes at its open and what at its close, is told by the kind.
        at = datetime.combine(self.panel.sessions[row].item(), datetime.min.time(), UTC)
        told = [
            (self.panel.symbols[place], _decimal(float(values[row, place]))) for place in np.flatnonzero(which).tolist()
        ]
        if kind is EntryKind.SPLIT:
            return [CorporateAction(kind, name, value, at) for name, value in told]
        return [
            CorporateAction(kind, name, self.money.worth(name, value), at)
            for name, value in told
            if self.money.knows(name)
        ]

    # -- the auction -------------------------------------------------------------------------------------------------

    def auction(self, row: int) -> None:
        """What was sent meets the session's prices."""
        orders, self.pending = self.pending, None
        if orders is None or not orders.change:
            return
        states = lifecycle.approved(len(orders.change))
        lifecycle.happens(states, Event.SEND)
        lifecycle.happens(states, Event.ACCEPT)
        if self.offset is not None:
            filled = self._meet_limits(row, orders, self.offset)
        elif self.work.slices:
            references = self._prices(row, orders)
            filled = self._work(row, self._executable(row, orders, references), references)
        else:
            references = self._prices(row, orders)
            wanted = self._executable(row, orders, references)
            moves = self._moves(row, wanted)
            filled = self._paid_for(wanted, references, moves)
            self._book(row, filled, references, moves)
            if self.bracket is not None:
                self._exit(row, orders, filled, self.bracket.fractions)
        has_fill = np.array([name in filled for name in orders.change])
        whole = np.array([filled.get(name) == change for name, change in orders.change.items()])
        lifecycle.execute(states, whole, has_fill)
        lifecycle.happens(states, Event.CANCEL, has_fill & ~whole)
        lifecycle.happens(states, Event.EXPIRE, ~has_fill)
        for state, count in lifecycle.ends(states).items():
            self._end(state, count)

    def _executable(self, row: int, orders: Orders, references: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """What of the orders the market would take that it has prices for, signed shares."""
        knows = self.money.knows
        wanted = {name: change for name, change in orders.change.items() if name in references and knows(name)}
        outsiders = [name for name in wanted if not self.panel.member[row, self.places[name]]]
        for name in outsiders:
            held = self.held.get(name, ZERO)
            if abs(held + wanted[name]) > abs(held):
                del wanted[name]
        if self.config.participation_max is not None:
            capped = {name: self._capped(row, name, change) for name, change in wanted.items()}
            wanted = {name: change for name, change in capped.items() if change}
        return wanted

    def _work(self, row: int, wanted: Mapping[str, Decimal], averages: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
        """Orders worked over the session: what is due at its average, and the rest in its close, if it is to go there.

        Returns:
            What filled of each, signed shares.
        """
        cut = {name: sum(self._children(row, name, abs(change)), ZERO) for name, change in wanted.items()}
        due = {name: size.copy_sign(wanted[name]) for name, size in cut.items() if size}
        moves = self._moves(row, wanted if self.work.in_close else due)
        filled = self._paid_for(due, averages, moves, self.work.slices)
        self._book(row, filled, averages, moves)
        if not self.work.in_close:
            return filled
        rest = {name: left for name, change in wanted.items() if (left := change - due.get(name, ZERO))}
        closes = {name: _decimal(float(self.panel.close[row, self.places[name]])) for name in rest}
        late = self._paid_for(rest, closes, moves)
        self._book(row, late, closes, moves, kinds=dict.fromkeys(late, REST))
        return {name: filled.get(name, ZERO) + late.get(name, ZERO) for name in {**filled, **late}}

    def _exit(
        self,
        row: int,
        orders: Orders,
        filled: Mapping[str, Decimal],
        fractions: tuple[Decimal | None, Decimal | None],
    ) -> None:
        """The exits that the session hits of what was bought at its open."""
        sold: dict[str, Decimal] = {}
        prices: dict[str, Decimal] = {}
        kinds: dict[str, int] = {}
        for name, change in filled.items():
            opening, high, low = (self._price(values[row, self.places[name]]) for values in self.ranges)
            if change < 0 or opening is None:
                continue
            tick = self.portfolio.units.ticks.get(name)
            bracket = bracket_at(Side.BUY, orders.reference[name], *fractions, tick=tick)
            if (hit := exit_hit(Side.BUY, bracket, opening, high, low)) is not None:
                sold[name], prices[name] = -min(change, self.held.get(name, ZERO)), hit.price
                kinds[name] = TARGETED if hit.exit is Exit.TARGET else STOPPED
        moves = self._moves(row, sold)
        moves |= {name: ZERO for name, kind in kinds.items() if kind == TARGETED}
        self._book(row, sold, prices, moves, kinds=kinds)

    def _price(self, value: float) -> Decimal | None:
        return _decimal(float(value)) if math.isfinite(value) else None

    def _children(self, row: int, name: str, size: Decimal) -> list[Decimal]:
        """What each child of a worked order of ``size`` shares is cut to, as production cuts it."""
        work, of = self.work, size
        if work.expected is not None:
            volume = float(work.expected[row - 1, self.places[name]])
            of = _decimal(volume) if math.isfinite(volume) else ZERO
        lot = self.portfolio.units.step(name, self.portfolio.lot)
        return quantities(size, (_decimal(part) * of for part in work.due[row].tolist()), lot)

    def _prices(self, row: int, orders: Orders) -> dict[str, Decimal]:
        panel = self.panel
        if self.execution in ("typical", "vwap"):
            found = {name: self._average(row, self.places[name]) for name in orders.change}
            return {name: price for name, price in found.items() if price is not None}
        values = (panel.open if self.execution == "open" else panel.close)[row].tolist()
        if self.bracket is not None:
            values = np.where(np.isfinite(panel.open[row]), panel.open[row], panel.close[row]).tolist()
        return {
            name: _decimal(price) for name in orders.change if math.isfinite(price := values[self.places[name]])
        }  # fmt: skip

    def _average(self, row: int, place: int) -> Decimal | None:
        """The typical price, or the best that is known of the volume-weighted average; None where it has no price."""
        panel = self.panel
        close = float(panel.close[row, place])
        three = (float(panel.high[row, place]), float(panel.low[row, place]), close)
        typical = sum(map(_decimal, three), ZERO) / 3 if all(map(math.isfinite, three)) else None
        if self.execution == "typical" or not math.isfinite(close):
            return typical
        vwap = math.nan if panel.vwap is None else float(panel.vwap[row, place])
        if math.isfinite(vwap):
            return _decimal(vwap)
        return _decimal(close) if typical is None else typical

    def _meet_limits(self, row: int, orders: Orders, offset: Decimal) -> Mapping[str, Decimal]:
        """Limit orders: those that the open meets, then those that the rest of the session reaches.

        Returns:
            What filled of each, signed shares.
        """
        sides = {name: Side.BUY if change > 0 else Side.SELL for name, change in orders.change.items()}
        limits = {
            name: self.portfolio.units.limit(side, name, limit_price(side, orders.reference[name], offset))
            for name, side in sides.items()
        }
        opened = self._opens_within(row, orders, limits)
        wanted = self._executable(row, orders, opened)
        moves = self._moves(row, wanted)
        moves = {name: min(moves.get(name, self.rates.move), abs(limits[name] / opened[name] - 1)) for name in wanted}
        at_open = self._paid_for(wanted, opened, moves)
        self._book(row, at_open, opened, moves)
        reached = {
            name: limit
            for name, limit in limits.items()
            if name not in opened and self._reaches(row, name, float(orders.change[name]), float(limit))
        }
        # They waited there: nothing is paid for immediacy.
        free = dict.fromkeys(reached, ZERO)
        later = self._paid_for(self._executable(row, orders, reached), reached, free)
        self._book(row, later, reached, free)
        return {**at_open, **later}

    def _opens_within(self, row: int, orders: Orders, limits: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Opening prices of what opens at its limit or better."""
        opens = {name: self._price(self.opening[row, self.places[name]]) for name in limits}
        return {
            name: opening
            for name, opening in opens.items()
            if opening is not None and (opening - limits[name]) * orders.change[name] <= 0
        }

    def _reaches(self, row: int, name: str, change: float, limit: float) -> bool:
        place, panel = self.places[name], self.panel
        high, low, close = (float(values[row, place]) for values in (panel.high, panel.low, panel.close))
        return is_reached(math.copysign(1.0, change), limit, high, low, close)

    def _capped(self, row: int, name: str, change: Decimal) -> Decimal:
        volume = float(self.panel.volume[row, self.places[name]])
        if not math.isfinite(volume):
            return ZERO
        most = floor_to_lot(
            _decimal(float(self.config.participation_max or 0.0)) * _decimal(volume), self.portfolio.lot
        )
        most = self.portfolio.units.whole_lots(name, most)
        return min(max(change, -most), most)

    def _moves(self, row: int, wanted: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """How much worse than its reference each fill is, as a fraction, where impact makes it more than the costs."""
        if self.adv is None or self.sigma is None:
            return {}
        found = {}
        for name, change in wanted.items():
            adv, sigma = (float(values[row - 1, self.places[name]]) for values in (self.adv, self.sigma))
            if adv > 0.0 and sigma >= 0.0:
                pushed = self.config.impact * sigma * math.sqrt(abs(float(change)) / adv)
                found[name] = self.rates.move + _decimal(pushed)
        return found

    def _paid_for(
        self,
        wanted: Mapping[str, Decimal],
        references: Mapping[str, Decimal],
        moves: Mapping[str, Decimal],
        children: int = 1,
    ) -> dict[str, Decimal]:
        """Purchases cut to what cash pays for, by the rule that the plan is cut by.

        Args:
            children: into how many an order may be cut, each of which pays the least commission.
        """
        prices, rates = self._converted(wanted, references), self.rates
        if moves:
            # The rule knows one move for all: a price that comes to the same with it stands for an order's own.
            prices = {
                name: prices[name] * (ONE + moves.get(name, rates.move)) / (ONE + rates.move)
                if change > 0
                else prices[name] * (ONE - moves.get(name, rates.move)) / (ONE - rates.move)
                for name, change in wanted.items()
            }  # fmt: skip
        costs = self.costs
        if children > 1:
            costs = costs.model_copy(update={"commission_min": costs.commission_min * children})
        return affordable(wanted, prices, self.cash, costs, self.portfolio.lot, self.portfolio.units)

    def _converted(self, changes: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
        """What a share costs or brings at those prices, the conversion's costs included, account currency."""
        if self.panel.rate is None:
            return prices
        return {
            name: prices[name] * self.money.converted(name, buys=change > 0) for name, change in changes.items()
        }  # fmt: skip

    def _book(
        self,
        row: int,
        filled: Mapping[str, Decimal],
        references: Mapping[str, Decimal],
        moves: Mapping[str, Decimal],
        *,
        kinds: Mapping[str, int] | None = None,
    ) -> None:
        """Each fill's price, commission and what it does to the account; sells first, then by instrument.

        Args:
            kinds: of `octopus.backtest.kernel.KINDS_OF_FILL`, where it is not the order's own.
        """
        places, held, marks = self.places, self.held, self.marks
        is_worked = self.work.slices > 0 and not kinds
        rounds, move = self.config.round_as_venue, self.rates.move
        spent = fees = pushed = spread = traded = missed = converted = ZERO
        rate = paid = ONE
        for name, change in sorted(filled.items(), key=lambda item: (item[1] > 0, places[item[0]])):
            reference, size = references[name], abs(change)
            own = moves.get(name, move)
            price = reference * (ONE + own if change > 0 else ONE - own)
            price = price.quantize(MILLIONTH) if rounds else price
            worth, gap = reference, price - reference
            cost = price
            if self.panel.rate is not None:
                rate, paid = self.money.worth(name, ONE), self.money.converted(name, buys=change > 0)
                worth, gap, cost = reference * rate, gap * rate, price * paid
                converted += change * price * (paid - rate)
            if is_worked:
                fee = sum((self._commission(child * cost) for child in self._children(row, name, size)), ZERO)
            else:
                fee = self._commission(size * cost)
            spent += change * cost + fee
            fees += fee
            # A target is a limit: nothing is paid for immediacy.
            extra = size * worth * (own - move) if own > move else ZERO
            pushed += extra
            spread += change * gap - extra
            traded += size * worth
            # What was traded in the session earns from its execution to the close only.
            missed += change * (worth - marks[name])
            place, shares = places[name], held.get(name, ZERO) + change
            self.holding[place] = float(shares)
            if shares:
                held[name] = shares
            else:
                held.pop(name)
            told = float(change), float(price), float(reference), float(fee), float(paid)
            self.ledger.extend((row, place, *told, kinds[name] if kinds else ORDERED))
        day = self.day
        self.cash -= spent
        day.commission += fees
        day.impact += pushed
        day.spread += spread
        day.traded += traded
        day.conversion += converted
        day.price_pnl -= missed

    def _commission(self, value: Decimal) -> Decimal:
        """Of one order of that value, account currency."""
        fee = max(value * self.rates.commission, self.rates.least)
        return fee.quantize(CENT, ROUND_HALF_UP) if self.config.round_as_venue else fee

    # -- the close ---------------------------------------------------------------------------------------------------

    def close(self, row: int) -> None:
        """Spun-off and delisted shares become cash, the rest is marked, the NAV is struck.

        Raises:
            RuinError: equity is not positive.
        """
        day, at = self.day, row - self.first
        before = self.equity
        self.money.at(row)
        self._pay_off(row)
        closes, worth = self.panel.close[row], self.panel.worth_at(row)
        known = np.isfinite(worth) if self.ended is None else np.isfinite(worth) & ~self.ended[row]
        for place, close in zip(np.flatnonzero(known).tolist(), closes[known].tolist(), strict=True):
            name = self.panel.symbols[place]
            mark = self.money.worth(name, _decimal(close))
            held = self.held.get(name)
            if held is not None:
                day.price_pnl += held * (mark - self.marks[name])
            self.marks[name] = mark
        self.last[known] = worth[known]
        self.equity = self.cash + sum((shares * self.marks[name] for name, shares in self.held.items()), ZERO)
        self.peak = max(self.peak, self.equity) if self.judges is None else self.judges.peak(self.equity)
        day.equity, day.cash = self.equity, self.cash
        self._check(row, before)
        self.days.append(day)
        self.turnover.append(float(day.traded / before))
        self.shares[at], self.marked[at] = self.holding, self.last

    def _pay_off(self, row: int) -> None:
        """The session's spin-offs and delistings, as production books them; nothing before the first open."""
        spun, delisted = list[CorporateAction](), list[CorporateAction]()
        worth, last = self.panel.spin_off, self.delisting
        if worth is not None and row > self.first:
            # Nothing is paid for what nobody can price.
            spun = self._actions(row, EntryKind.SPIN_OFF, worth, np.isfinite(worth[row]) & (worth[row] != 0.0))
        if last is not None:
            delisted = self._actions(row, EntryKind.DELISTING, last, np.isfinite(last[row]))
        if not spun and not delisted:
            return
        values, day = {action.instrument: action.value for action in delisted}, self.day
        for entry in closing_entries(
            [*spun, *delisted], self.held, lambda _open, name: self.held_at_open.get(name, ZERO)
        ):
            name = str(entry.instrument)
            self.cash += entry.cash
            if entry.kind is EntryKind.SPIN_OFF:
                day.dividends += entry.cash
                continue
            day.price_pnl += self.held[name] * (values[name] - self.marks[name])
            day.redemptions += entry.cash
            self._hold(name, self.held[name] + entry.quantity)
        for name, value in values.items():
            self._mark(name, value)

    def _check(self, row: int, before: Decimal) -> None:
        session = self.panel.sessions[row]
        if not self.equity > 0:
            raise RuinError(
                f"equity is {self.equity:.2f} after {session}: the simulated account is ruined; lower gross_max or "
                "check that day's prices"
            )
        rest = self.equity - before - self.day.earned
        if abs(rest) > _NAV_TOLERANCE * max(self.equity, ONE):
            raise LedgerError(f"{session}: {rest} of the change in equity is explained by no event; report this")

    # -- the decision ------------------------------------------------------------------------------------------------

    def net_worth(self) -> float:
        """Equity at the last close, account currency."""
        return float(self.equity)

    def weights(self) -> FloatArray:
        """What is held as a fraction of equity, shape (N,)."""
        values = np.where(self.holding != 0.0, self.holding * self.last, 0.0)
        return np.asarray(values / float(self.equity))

    def plan(self, row: int, targets: FloatArray) -> None:
        """Orders from target weights, sized at the close; the gates judge them."""
        self.targets[row - self.first] = targets
        closes = self.panel.worth_at(row)
        open_to = np.isfinite(targets) & (closes > 0.0)
        if self.ended is not None:
            open_to &= ~self.ended[row]
        places = np.flatnonzero(open_to).tolist()
        names = [self.panel.symbols[place] for place in places]
        wanted = dict(zip(names, targets[places].tolist(), strict=True))
        changes = share_changes(wanted, self.held_of(names), self.marks, self.equity, self.portfolio)
        if self.portfolio.constraints.long_only:
            free = {name: -max(self.held.get(name, ZERO), ZERO) for name in changes}
            changes = {
                name: kept
                for name, change in changes.items()
                if (kept := self.portfolio.units.whole_lots(name, max(change, free[name])))
            }
        spendable = self.cash - _decimal(self.portfolio.cash_buffer) * self.equity
        prices = self.money.with_spread(changes, self.marks)
        changes = affordable(changes, prices, spendable, self.costs, self.portfolio.lot, self.portfolio.units)
        self.pending = Orders(row, changes, {name: self.marks[name] for name in changes})
        if self.judges is not None and changes:
            self._deny(self.judges.plan(self.pending, self._state({})), judged=True)

    def held_of(self, names: Iterable[str]) -> dict[str, Decimal]:
        return {name: self.held[name] for name in names if name in self.held}

    def _deny(self, names: Collection[str], *, judged: bool = False) -> None:
        """Take orders out, on record. Of a judged plan they stay: before sending, the gates see the whole batch."""
        if self.pending is None:
            return
        self.denied[self.pending.row, [self.places[name] for name in names]] = True
        if names and not judged:
            left = {name: change for name, change in self.pending.change.items() if name not in names}
            self.pending = Orders(self.pending.row, left, self.pending.reference)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _state(self, quotes: Mapping[str, Decimal]) -> State:
        return State(
            self.cash, self.held, self.marks, quotes, self.holding, self.last, self.peak, self.equity
        )  # fmt: skip

    def _hold(self, name: str, shares: Decimal) -> None:
        if shares:
            self.held[name] = shares
        else:
            self.held.pop(name, None)
        self.holding[self.places[name]] = float(shares)

    def _mark(self, name: str, price: Decimal) -> None:
        self.marks[name] = price
        self.last[self.places[name]] = float(price)

    def _end(self, state: OrderState, count: int) -> None:
        if count:
            self.ends[state] = self.ends.get(state, 0) + count

    def finished(self, notes: tuple[tuple[date, str], ...]) -> EventRun:
        """The books as arrays."""
        equity = self._series("equity")
        before = np.concatenate([equity[:1], equity[:-1]])
        costs = {name: self._series(_KINDS[name]) for name in kinds_of(self.panel)}
        paid = np.asarray(sum(costs.values(), np.zeros(len(equity))))
        trades = Trades.of(self.panel.sessions, np.array(self.ledger))
        result = BacktestResult(
            symbols=self.panel.symbols, sessions=self.panel.sessions[self.first : self.stop], equity=equity,
            cash=self._series("cash"), targets=self.targets, shares=self.shares, marks=self.marked,
            price_pnl=self._series("price_pnl"),
            currency_pnl=self._series("currency_pnl"), dividends=self._series("dividends"),
            redemptions=self._series("redemptions"), interest=self._series("interest"), costs=costs,
            turnover=np.array(self.turnover), gross_return=(equity + paid) / before - 1.0,
            net_return=equity / before - 1.0, trades=trades,
            execution=self.execution, schedule=self.config.schedule.schedule.value,
            fill_prices=fill_prices(self.panel, self.config, self.execution, trades),
            fallbacks=notes, sessions_per_year=self.panel.clock.per_year,
        )  # fmt: skip
        denials = tuple(self.judges.denials) if self.judges else ()
        return EventRun(result, denials, self.denied, self.ends)

    def _series(self, name: str) -> FloatArray:
        return np.array([float(getattr(day, name)) for day in self.days])


_KINDS = dict(zip(COSTS, ("spread", "commission", "impact", "borrow", "financing", "conversion"), strict=True))


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
