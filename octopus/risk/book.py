"""The account as the gate sees it: marked positions, and how far each may move when orders fill.

What a position is worth is the broker's price of it, of the moment of the snapshot; the last close, which may be of the
evening before, where the broker has none. One of the two is wrong where they are farther apart than an order's price
may be from either (`RiskLimits.price_collar`), and nobody here knows which: the market may have fallen by a third since
the close, or the broker may mark an illiquid name at an odd lot's price. Then the position counts at the dearer of both
in every exposure, and the equity, which the loss stops measure and every fraction is of, counts it at what leaves the
account poorer. In ordinary markets there is one price, and no rule is told a worse one than there is.

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
        equity: cash plus marked positions, positive; of a price in dispute the one that makes it less.
        marks: price by instrument, for everything held, working or ordered with a fresh last price; in dispute the
            dearer.
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
    price_collar: float,
    now: datetime,
) -> Book:
    """Mark the account at the broker's prices; where it has none, at the last ones.

    Args:
        price_collar: a difference of both beyond this fraction of the last price is a dispute.

    Raises:
        MissingDataError: a held or working instrument has neither price, a figure is not a number, or the equity is
            not positive.
    """
    if not snapshot.cash.is_finite():
        raise MissingDataError(f"cash of account {snapshot.account} is {snapshot.cash}: take a new broker snapshot")
    opening = _opening_lots(snapshot)
    most, equity, marks = Decimal(str(price_collar)), snapshot.cash, dict[str, Decimal]()
    for name, lot in opening.items():
        problem = price_problem(name, market, max_age_seconds=price_age_max_seconds, now=now)
        cheap, marks[name] = _marks(name, snapshot, market, problem, most)
        equity += lot.held * (cheap if lot.held > _ZERO else marks[name])
    for name in {order.instrument: None for order in orders}:
        if name in marks or price_problem(name, market, max_age_seconds=price_age_max_seconds, now=now) is not None:
            continue
        _, marks[name] = _marks(name, snapshot, market, None, most)
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


def quoted_price(instrument: str, snapshot: AccountSnapshot) -> Decimal | None:
    """The broker's price of the moment of the snapshot; None where it has none that is one."""
    quoted = snapshot.prices.get(instrument)
    return quoted if usable_price(quoted) else None


def _marks(
    instrument: str, snapshot: AccountSnapshot, market: MarketContext, problem: str | None, most: Decimal
) -> tuple[Decimal, Decimal]:
    """The cheapest and the dearest price that a position may have: one and the same but in dispute.

    Args:
        problem: why the last price may not be used. most: how far, as a fraction of it, the broker's may be from it.
    """
    quoted = quoted_price(instrument, snapshot)
    if quoted is None:
        if problem is not None:
            raise MissingDataError(f"{problem}; the broker does not mark it either, so the equity is unknown")
        last = market.last_prices[instrument].price
        return last, last
    if problem is None:
        last = market.last_prices[instrument].price
        if quoted != last and abs(quoted / last - 1) > most:
            return min(quoted, last), max(quoted, last)
    return quoted, quoted
