"""The account as the gate sees it: marked positions, and how far each may move when orders fill.

Belongs here: marking, equity, what open and approved orders may do to a position. Does not: limits and verdicts
(constraints.py, gate.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, PlannedOrder, Side
from octopus.risk.market import MarketContext

_BUY, _ZERO = Side.BUY, Decimal(0)


class Lot(NamedTuple):
    """One instrument's shares: what is held, and what open and approved orders may still buy and sell (positive)."""

    held: Decimal = Decimal(0)
    bought: Decimal = Decimal(0)
    sold: Decimal = Decimal(0)

    def plus(self, side: Side, quantity: Decimal) -> Lot:
        """The lot with one more order that may fill; a negative ``quantity`` takes an order away."""
        if side is _BUY:
            return Lot(self.held, self.bought + quantity, self.sold)
        return Lot(self.held, self.bought, self.sold + quantity)


NO_SHARES = Lot()


@dataclass(frozen=True)
class Book:
    """An account marked at one instant.

    Attributes:
        equity: cash plus marked positions, positive.
        marks: price by instrument, for everything held, working or ordered with a fresh last price.
        opening: lots by instrument before any order of the batch: positions and open orders.
    """

    cash: Decimal
    equity: Decimal
    marks: Mapping[str, Decimal]
    opening: Mapping[str, Lot]

    @property
    def is_uninvested(self) -> bool:
        return all(lot.held == 0 for lot in self.opening.values())

    def lots(self, orders: Iterable[PlannedOrder]) -> dict[str, Lot]:
        """Lots by instrument with ``orders`` beside the open ones."""
        lots = dict(self.opening)
        for order in orders:
            lots[order.instrument] = lots.get(order.instrument, NO_SHARES).plus(order.side, order.quantity)
        return lots


def open_book(
    snapshot: AccountSnapshot,
    market: MarketContext,
    orders: Sequence[PlannedOrder],
    *,
    price_age_max_seconds: float,
    now: datetime,
) -> Book:
    """Mark the account at the last prices; where one is missing or too old, at the broker's own mark.

    Raises:
        MissingDataError: a held or working instrument has neither price, a figure is not a number, or the equity is
            not positive.
    """
    if not snapshot.cash.is_finite():
        raise MissingDataError(f"cash of account {snapshot.account} is {snapshot.cash}: take a new broker snapshot")
    opening = _opening_lots(snapshot)
    marks = {
        name: _mark(name, snapshot, market, price_age_max_seconds=price_age_max_seconds, now=now) for name in opening
    }
    for order in orders:
        fresh = market.last_prices.get(order.instrument)
        if fresh and price_problem(order.instrument, market, max_age_seconds=price_age_max_seconds, now=now) is None:
            marks.setdefault(order.instrument, fresh.price)
    equity = snapshot.cash + sum((lot.held * marks[name] for name, lot in opening.items()), Decimal(0))
    if equity <= 0:
        raise MissingDataError(
            f"equity of account {snapshot.account} is {equity:.2f}, not positive: no limit is a fraction of it; "
            "fund the account or correct its positions"
        )
    return Book(cash=snapshot.cash, equity=equity, marks=marks, opening=opening)


def price_problem(instrument: str, market: MarketContext, *, max_age_seconds: float, now: datetime) -> str | None:
    """Why the last price of ``instrument`` may not be used at ``now``, or None if it may."""
    last = market.last_prices.get(instrument)
    if last is None:
        return f"the last price of {instrument} is missing: ingest its bars"
    if not usable_price(last.price):
        return f"the last price of {instrument} is {last.price}, not a positive number: correct its bars"
    age = (now - last.at).total_seconds()
    if age < 0:
        return f"the last price of {instrument} is of {last.at.isoformat()}, after now: check the clock"
    if age > max_age_seconds:
        return (
            f"the last price of {instrument} is {age:.0f} s old, more than price_age_max_seconds = "
            f"{max_age_seconds:.0f}: ingest its bars"
        )
    return None


def usable_price(price: Decimal | None) -> bool:
    return price is not None and price.is_finite() and price > _ZERO


def _opening_lots(snapshot: AccountSnapshot) -> dict[str, Lot]:
    if snapshot.unsound:
        raise MissingDataError(
            f"the quantity held or working in {', '.join(snapshot.unsound)} is not a number: take a new snapshot"
        )
    lots = {name: Lot(held=shares) for name, shares in sorted(snapshot.positions.items()) if shares != 0}
    for working in snapshot.open_orders:
        lots[working.instrument] = lots.get(working.instrument, NO_SHARES).plus(working.side, working.remaining)
    return lots


def _mark(
    instrument: str, snapshot: AccountSnapshot, market: MarketContext, *, price_age_max_seconds: float, now: datetime
) -> Decimal:
    problem = price_problem(instrument, market, max_age_seconds=price_age_max_seconds, now=now)
    if problem is None:
        return market.last_prices[instrument].price
    broker_mark = snapshot.prices.get(instrument)
    if broker_mark is None or not usable_price(broker_mark):
        raise MissingDataError(f"{problem}; the broker does not mark it either, so the equity is unknown")
    return broker_mark
