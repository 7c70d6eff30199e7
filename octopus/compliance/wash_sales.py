"""Wash sales: a loss that is deferred because the same shares were bought within 30 days before or after the sale.

Belongs here: adjusting closed and open tax lots, and warning of an order. Does not: keeping lots (octopus/execution)
and substantially identical instruments of another company or class, which no data here tells: shares are the same
under whatever names one company had, and as many as they are after its splits.

26 USC 1091(a) and (d), 26 CFR 1.1091-1: the loss is denied for as many shares as were acquired in the 61 days around
the sale, taken in the order of their acquisition, each acquired share once; it is added to the basis of those shares,
which also take over the time that the sold ones were held (26 USC 1223(3)). Sales are taken in the order in which they
were made (1.1091-1(b)), those of one day too. The rest of the very purchase that was sold from is no replacement (Rev.
Rul. 56-602), nor are shares that were sold themselves by then, or in the same sale: what one order buys or sells in a
day is one, in however many fills.
Losses on short sales (1091(e)) are left as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, TypeVar

from octopus.compliance import rules
from octopus.compliance.checks import Case, Finding
from octopus.core.errors import MissingDataError
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import PlannedOrder, Side

WINDOW = timedelta(days=30)
"""Either side of the sale."""


class Trade(NamedTuple):
    """Of a fill, or of an entry that opens or closes lots: its instant, UTC, and the order that it is a part of."""

    at: datetime
    order_id: str


@dataclass(frozen=True)
class Adjusted:
    """Lots after the rule; what was disallowed is in the basis of other shares, to the cent.

    Attributes:
        disposals: as given, in order of sale, ``disallowed`` filled in; parts that differ are split.
        lots: open ones, as given, split where only a part replaces something that was sold.
    """

    disposals: tuple[Disposal, ...]
    lots: tuple[Lot, ...]


def adjust(disposals: Sequence[Disposal], lots: Sequence[Lot], trades: Mapping[str, Trade] | None = None) -> Adjusted:
    """Apply the rule to what was closed and what is open, of any number of instruments.

    Args:
        disposals, lots: all of them, and before any adjustment: which shares replaced others already is not told by
            what was adjusted. Disposals of one day stand in the order in which they were made.
        trades: by id of a fill or an entry; of one that is not there only its day is known, and it is an order of its
            own: shares that were bought on one day are then taken as they are given, those that were sold first.
    """
    order = sorted(range(len(disposals)), key=lambda place: disposals[place].disposed)
    told = trades or {}
    parts: dict[str, _Instrument] = defaultdict(lambda: _Instrument(told))
    for rank, place in enumerate(order):
        parts[disposals[place].known_as].add(disposals[place], rank)
    for place, lot in enumerate(lots):
        parts[lot.known_as].add(lot, place)
    closed: list[list[Disposal]] = [[] for _ in disposals]
    held: list[list[Lot]] = [[] for _ in lots]
    for instrument in parts.values():
        instrument.match()
        for part in instrument.acquired:
            if isinstance(part.item, Lot):
                held[part.rank].append(part.item)
        for part in instrument.sales:
            if isinstance(part.item, Disposal):
                closed[part.rank].append(part.item)
    return Adjusted(tuple(one for some in closed for one in some), tuple(one for some in held for one in some))


@dataclass
class _Part:
    """Shares that are matched as one.

    Attributes:
        rank: place of what it is a part of: of disposals in the order of their sales, of lots as they were given.
        taken: whether it replaced something that was sold.
    """

    item: Lot | Disposal
    rank: int
    taken: bool = False


class _Instrument:
    """What was closed and what is open of one instrument.

    Attributes:
        sales: of what was closed, in the order of the sales. acquired: all, in the order of acquisition.
    """

    def __init__(self, trades: Mapping[str, Trade]) -> None:
        self.sales: list[_Part] = []
        self.acquired: list[_Part] = []
        self._trades = trades

    def add(self, item: Lot | Disposal, rank: int) -> None:
        part = _Part(item, rank)
        self.acquired.append(part)
        if isinstance(item, Disposal):
            self.sales.append(part)

    def match(self) -> None:
        """Defer each loss, the earliest sale first; what is matched in part is split."""
        self.acquired.sort(key=self._acquisition)
        place = 0
        while place < len(self.sales):
            part = self.sales[place]
            sale = part.item
            if isinstance(sale, Disposal) and sale.quantity > 0 and sale.economic_gain < 0 and not sale.disallowed:
                self._defer(part, sale)
            place += 1

    def _acquisition(self, part: _Part) -> tuple[date, datetime, bool, int]:
        trade = self._trades.get(part.item.lot_id)
        at = _UNKNOWN if trade is None else trade.at
        return part.item.acquired, at, isinstance(part.item, Lot), part.rank

    def _defer(self, part: _Part, sale: Disposal) -> None:
        """Move the loss of ``sale`` into the first shares that replace what it sold; what they do not replace of it
        stands after it and is next."""
        first = bisect_left(self.acquired, sale.disposed - WINDOW, key=lambda one: one.item.acquired)
        for number in range(first, len(self.acquired)):
            found = self.acquired[number]
            if found.item.acquired > sale.disposed + WINDOW:
                return
            if not found.taken and self._replaces(found, part, sale):
                break
        else:
            return
        shares = min(found.item.shares, sale.shares)
        washed, rest = _split_disposal(sale, shares)
        loss, tacked = -washed.economic_gain, _tacked(found.item.held_from, sale)
        if isinstance(found.item, Lot):
            own, rest_lot = _split_lot(found.item, shares)
            self._stand_after(found, rest_lot)
            found.item = replace(own, wash_sale=own.wash_sale + loss, held_from=tacked)
        else:
            bought, rest_bought = _split_disposal(found.item, shares)
            self._stand_after(found, rest_bought)
            found.item = replace(bought, basis=bought.basis + loss, held_from=tacked)
        found.taken = True
        self._stand_after(part, rest)
        part.item = replace(washed, disallowed=loss)

    def _replaces(self, found: _Part, part: _Part, sale: Disposal) -> bool:
        """Whether ``found``, which was acquired in the window, was held after the sale or acquired since."""
        shares = found.item
        if shares.quantity <= 0 or self._are_one_purchase(shares, sale):
            return False
        return isinstance(shares, Lot) or (found.rank > part.rank and not self._are_one_sale(shares, sale))

    def _are_one_purchase(self, one: Lot | Disposal, other: Disposal) -> bool:
        return one.acquired == other.acquired and self._order(one.lot_id) == self._order(other.lot_id)

    def _are_one_sale(self, one: Disposal, other: Disposal) -> bool:
        return one.disposed == other.disposed and self._order(one.fill_id) == self._order(other.fill_id)

    def _order(self, fill_id: str) -> str:
        trade = self._trades.get(fill_id)
        return fill_id if trade is None else trade.order_id

    def _stand_after(self, part: _Part, rest: Lot | Disposal | None) -> None:
        """What is left of a part that was split stands after it, among the sales as well if it is of one."""
        if rest is None:
            return
        other = _Part(rest, part.rank, part.taken)
        for parts in (self.acquired, self.sales) if isinstance(rest, Disposal) else (self.acquired,):
            parts.insert(next(place for place, one in enumerate(parts) if one is part) + 1, other)


_UNKNOWN = datetime.min.replace(tzinfo=UTC)


def _tacked(held_from: date, sale: Disposal) -> date:
    """The holding period begins earlier by as long as the sold shares were held."""
    return held_from - (sale.disposed - sale.held_from)


def _split_lot(lot: Lot, shares: Decimal) -> tuple[Lot, Lot | None]:
    if shares == lot.quantity:
        return lot, None
    cost, washed = lot.cost * shares / lot.quantity, lot.wash_sale * shares / lot.quantity
    first = replace(lot, quantity=shares, cost=cost, wash_sale=washed)
    return first, replace(lot, quantity=lot.quantity - shares, cost=lot.cost - cost, wash_sale=lot.wash_sale - washed)


def _split_disposal(sale: Disposal, shares: Decimal) -> tuple[Disposal, Disposal | None]:
    """``shares`` of it, in the units of today, and the rest."""
    if shares == sale.shares:
        return sale, None
    proceeds, basis = sale.proceeds * shares / sale.shares, sale.basis * shares / sale.shares
    quantity = shares if sale.ratio == 1 else shares / sale.ratio
    first = replace(sale, quantity=quantity, proceeds=proceeds, basis=basis)
    return first, replace(
        sale, quantity=sale.quantity - quantity, proceeds=sale.proceeds - proceeds, basis=sale.basis - basis
    )


# -- before the trade ---------------------------------------------------------------------------------------------


def warnings(_rule: rules.WashSale, case: Case) -> list[Finding]:
    """A buy within 30 days after a sale at a loss; a sale at a loss within 30 days after another purchase."""
    lots, disposals = case.context.lots, case.context.disposals
    if lots is None or disposals is None:
        raise MissingDataError("the tax lots are missing: read them from the order store")
    session = case.context.trade_session
    sold, held = _by_instrument(disposals), _by_instrument(lots)
    return [
        _of_buy(order, sold.get(order.instrument, ()), session)
        if order.side is Side.BUY
        else _of_sale(order, held.get(order.instrument, ()), session)
        for order in case.batch.orders
    ]


_Of = TypeVar("_Of", Lot, Disposal)


def _by_instrument(those: Iterable[_Of]) -> Mapping[str, list[_Of]]:
    found: dict[str, list[_Of]] = {}
    for one in those:
        found.setdefault(one.known_as, []).append(one)
    return found


def _of_buy(order: PlannedOrder, disposals: Sequence[Disposal], session: date) -> Finding:
    """What earlier purchases took of a loss is deferred already, and moves no more."""
    unsold = f"{order.instrument} was not sold at a loss in the 30 days before"
    if not disposals:
        return Finding(order, False, unsold)
    sold = [
        sale for sale in disposals
        if sale.quantity > 0 and sale.economic_gain < 0
        and timedelta(0) <= session - sale.disposed <= WINDOW
    ]  # fmt: skip
    losses = [sale for sale in sold if sale.gain < 0]
    loss = -sum((sale.gain for sale in losses), Decimal(0))
    if not sold:
        return Finding(order, False, unsold)
    if not loss:
        return Finding(order, False, f"earlier purchases of {order.instrument} took all losses of the 30 days before")
    last = max(losses, key=lambda sale: sale.disposed)
    then = "" if last.instrument == order.instrument else f" as {last.instrument}"
    reason = (
        f"buys back {order.instrument}, sold{then} at a loss on {last.disposed}: up to {loss:,.2f} of loss moves into "
        "the new basis"
    )
    return Finding(order, True, reason, float(loss), 0.0)


def _of_sale(order: PlannedOrder, lots: Sequence[Lot], session: date) -> Finding:
    """By the basis that earlier wash sales gave the lots; shares that replaced others already replace no more."""
    own = [lot for lot in lots if lot.quantity > 0]
    losing = [lot for lot in own if lot.basis > order.reference_price * lot.quantity]
    fresh = [lot for lot in own if timedelta(0) <= session - lot.acquired <= WINDOW and not lot.wash_sale]
    washed = any(new.lot_id != old.lot_id for old in losing for new in fresh)
    if not washed:
        return Finding(order, False, f"selling {order.instrument} makes no wash sale with what was bought before")
    reason = f"sells {order.instrument} at a loss that shares bought on {fresh[-1].acquired} may defer"
    return Finding(order, True, reason)
