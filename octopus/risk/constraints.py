"""Limits on a batch as a whole, and which orders to leave out until they hold.

Belongs here: the constraints, what one order adds to each, the cut. Does not: rules on a single order, verdicts
(gate.py).

Each exposure is judged twice: with every order filled, against the limit; and over every part of the open and approved
orders that may fill before the rest (only the buys, only the sells, any other part), against the limit and
`RiskLimits.partial_fill_allowance`. The second needs no enumeration: exposures are convex in what has filled and add
up over instruments, so the worst part is found for each instrument alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np

from octopus.core.orders import PlannedOrder
from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import FloatArray
from octopus.risk.book import Book, Lot
from octopus.risk.limits import LOWER_BOUNDS, RiskLimits
from octopus.risk.measures import historical_var, volatility_annual

Orders = Sequence[PlannedOrder]
Figure = Callable[[Lot], Decimal]
"""Shares of an instrument that count for a constraint."""


class Constraint(Protocol):
    """One limit on a set of orders. ``excess`` is positive where the limit is breached, zero exactly at it."""

    @property
    def rule(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def limit(self) -> float: ...
    def value(self, orders: Orders) -> float: ...
    def excess(self, orders: Orders) -> Decimal: ...
    def marginals(self, orders: Orders) -> list[Decimal]:
        """What each order adds to the excess, given all the others: shape of ``orders``."""
        ...


@dataclass(frozen=True)
class Exposure:
    """A sum over instruments of price × figure, as a fraction of equity.

    Attributes:
        base_usd: what the sum starts from (cash); otherwise 0.
        instrument: only this one; all where None.
    """

    rule: str
    subject: str
    book: Book
    figure: Figure
    bound: Decimal
    base_usd: Decimal = Decimal(0)
    instrument: str | None = None

    @property
    def limit(self) -> float:
        return float(self.bound)

    def value(self, orders: Orders) -> float:
        return float(self._sum_usd(orders) / self.book.equity)

    def excess(self, orders: Orders) -> Decimal:
        return self._sign * (self._sum_usd(orders) - self.bound * self.book.equity)

    def marginals(self, orders: Orders) -> list[Decimal]:
        lots = self.book.lots(orders)
        return [self._marginal(order, lots[order.instrument]) for order in orders]

    @property
    def _sign(self) -> int:
        return -1 if self.rule in LOWER_BOUNDS else 1

    def _counts(self, instrument: str) -> bool:
        return self.instrument is None or instrument == self.instrument

    def _sum_usd(self, orders: Orders) -> Decimal:
        lots = self.book.lots(o for o in orders if self._counts(o.instrument))
        parts = (self.book.marks[name] * self.figure(lot) for name, lot in lots.items() if self._counts(name))
        return self.base_usd + sum(parts, Decimal(0))

    def _marginal(self, order: PlannedOrder, lot: Lot) -> Decimal:
        if not self._counts(order.instrument):
            return Decimal(0)
        without = lot.plus(order.side, -order.quantity)
        return self._sign * self.book.marks[order.instrument] * (self.figure(lot) - self.figure(without))


@dataclass(frozen=True, eq=False)
class LossMeasure:
    """A statistic of the returns that the portfolio would have had.

    Attributes:
        columns: column of ``returns`` by instrument. returns: the window, shape (sessions, instruments).
    """

    rule: str
    subject: str
    book: Book
    figure: Figure
    limit: float
    statistic: Callable[[FloatArray], float]
    columns: Mapping[str, int]
    returns: FloatArray

    def value(self, orders: Orders) -> float:
        return self.statistic(self._portfolio(self.book.lots(orders)))

    def excess(self, orders: Orders) -> Decimal:
        return Decimal(self.value(orders)) - Decimal(self.limit)

    def marginals(self, orders: Orders) -> list[Decimal]:
        lots = self.book.lots(orders)
        portfolio = self._portfolio(lots)
        value = self.statistic(portfolio)
        return [Decimal(value) - Decimal(self._without(order, lots, portfolio, value)) for order in orders]

    def _portfolio(self, lots: Mapping[str, Lot]) -> FloatArray:
        weights = np.zeros(self.returns.shape[1])
        for name, lot in lots.items():
            weights[self.columns[name]] = self._weight(name, self.figure(lot))
        return np.asarray((self.returns * weights).sum(axis=-1))

    def _without(self, order: PlannedOrder, lots: Mapping[str, Lot], portfolio: FloatArray, value: float) -> float:
        lot = lots[order.instrument]
        shares = self.figure(lot) - self.figure(lot.plus(order.side, -order.quantity))
        if shares == 0:
            return value
        change = self._weight(order.instrument, shares) * self.returns[:, self.columns[order.instrument]]
        return self.statistic(portfolio - change)

    def _weight(self, instrument: str, shares: Decimal) -> float:
        return float(shares * self.book.marks[instrument] / self.book.equity)


@dataclass(frozen=True)
class Removal:
    """An order left out for a constraint: what the value was with it, and what it added (both fractions)."""

    constraint: Constraint
    order: PlannedOrder
    value: float
    marginal: float


def _farthest(lot: Lot) -> Decimal:
    return max(abs(lot.highest), abs(lot.lowest))


def _decimal(number: float) -> Decimal:
    """The decimal that a person wrote in the configuration, not its binary neighbour."""
    return Decimal(str(number))


def exposure_constraints(book: Book, limits: RiskLimits, orders: Orders) -> list[Constraint]:
    """Name weight (one for each instrument), gross, net, turnover and cash, in this order, then their part-filled
    forms."""
    turnover_max = limits.turnover_max_initial if book.is_uninvested else limits.turnover_max
    slack = _decimal(limits.partial_fill_allowance)
    names = sorted({*book.opening, *(order.instrument for order in orders)})
    gross_max, net_max, net_min, cash_min = (
        _decimal(n) for n in (limits.gross_max, limits.net_max, limits.net_min, limits.cash_min_fraction)
    )
    cash = book.cash

    def exposure(
        rule: str, subject: str, figure: Figure, bound: Decimal, base_usd: Decimal = Decimal(0), name: str | None = None
    ) -> Constraint:
        return Exposure(rule, subject, book, figure, bound, base_usd, name)

    return [
        *(
            exposure("name_weight", f"weight of {name}", _farthest, _decimal(limits.name_weight_max), name=name)
            for name in names
        ),
        exposure("gross", "gross exposure", lambda lot: abs(lot.after), gross_max),
        exposure("net_max", "net exposure", lambda lot: lot.after, net_max),
        exposure("net_min", "net exposure", lambda lot: lot.after, net_min),
        exposure("turnover", "turnover", lambda lot: lot.bought + lot.sold, _decimal(turnover_max)),
        exposure("cash", "cash", lambda lot: lot.sold - lot.bought, cash_min, cash),
        exposure("gross_part_filled", "gross exposure if only a part fills", _farthest, gross_max + slack),
        exposure("net_max_part_filled", "net exposure if only the buys fill", lambda lot: lot.highest, net_max + slack),
        exposure("net_min_part_filled", "net exposure if only the sells fill", lambda lot: lot.lowest, net_min - slack),
        exposure("cash_part_filled", "cash if only the buys fill", lambda lot: -lot.bought, cash_min - slack, cash),
    ]


def loss_constraints(
    book: Book,
    limits: RiskLimits,
    orders: Orders,
    columns: Mapping[str, int],
    returns: FloatArray,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> list[Constraint]:
    """Volatility and VaR with every order filled, and with only the buys or only the sells.

    Args:
        columns, returns: window of returns, shape (sessions, instruments), complete for all that is held, working or
            in ``orders``. sessions_per_year: of the returns' calendar.
    """
    names = sorted({*book.opening, *(order.instrument for order in orders)})
    # Only what may be held: the hole of another instrument, times a weight of zero, would still be NaN.
    returns = returns[:, [columns[name] for name in names]]
    columns = {name: column for column, name in enumerate(names)}
    scenarios: tuple[tuple[str, str, Figure, float], ...] = (
        ("", "", lambda lot: lot.after, 1.0),
        ("_part_filled", " if only the buys fill", lambda lot: lot.highest, 1 + limits.partial_fill_allowance),
        ("_part_filled", " if only the sells fill", lambda lot: lot.lowest, 1 + limits.partial_fill_allowance),
    )
    statistics: tuple[tuple[str, str, float, Callable[[FloatArray], float]], ...] = (
        (
            "volatility",
            "annual volatility",
            limits.volatility_max_annual,
            lambda series: volatility_annual(series, sessions_per_year),
        ),
        ("var_95", "one-day VaR 95 %", limits.var_95_max, historical_var),
    )
    return [
        LossMeasure(rule + suffix, subject + when, book, figure, limit * factor, statistic, columns, returns)
        for rule, subject, limit, statistic in statistics
        for suffix, when, figure, factor in scenarios
    ]


def cut(
    constraints: Iterable[Constraint], orders: Orders, reducing: frozenset[str]
) -> tuple[list[PlannedOrder], list[Removal]]:
    """Leave out orders until every constraint holds, or is no worse than without the batch.

    Only orders that raise a breach are left out, and orders that reduce a position last of all. Among them the choice
    is the smallest whose absence alone cures the breach, otherwise the largest; ties fall to the earlier in the plan.
    What is left is judged again from the first constraint until nothing changes, for leaving out a sell may undo what
    another constraint had accepted.

    Returns:
        The orders that stay, in plan order, and the removals in the order made.
    """
    constraints = list(constraints)
    kept, removals = list(orders), list[Removal]()
    settled = False
    while not settled:
        settled = True
        for constraint in constraints:
            while removal := _next_removal(constraint, kept, reducing):
                kept.remove(removal.order)
                removals.append(removal)
                settled = False
    return kept, removals


def _next_removal(constraint: Constraint, orders: Orders, reducing: frozenset[str]) -> Removal | None:
    excess = constraint.excess(orders)
    if excess <= 0 or not orders:
        return None
    rising = [(added, order) for added, order in zip(constraint.marginals(orders), orders, strict=True) if added > 0]
    if not rising:
        opening = constraint.excess(())
        if excess <= opening:
            return None
        # Together they breach although each alone, given the others, does not: measure each without the others.
        rising = [(constraint.excess((order,)) - opening, order) for order in orders]
    eager = [(added, order) for added, order in rising if order.intent_id not in reducing]
    candidates = eager or rising
    curing = [item for item in candidates if item[0] >= excess]
    _, order = min(curing, key=_added) if curing else max(candidates, key=_added)
    # Without the order, not the marginal in dollars: the reason speaks in the unit of the limit.
    value = constraint.value(orders)
    without = constraint.value([o for o in orders if o is not order])
    return Removal(constraint, order, value, value - without)


def _added(item: tuple[Decimal, PlannedOrder]) -> Decimal:
    return item[0]
