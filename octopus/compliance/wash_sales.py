"""Wash sales: a loss that is deferred because the same shares were bought within 30 days before or after the sale.

Belongs here: adjusting closed and open tax lots, and warning of an order. Does not: keeping lots (octopus/execution)
and substantially identical instruments of another company or class, which no data here tells: shares are the same
under whatever names one company had, and as many as they are after its splits.

26 USC 1091(a) and (d), 26 CFR 1.1091-1: the loss is denied for as many shares as were acquired in the 61 days around
the sale, taken in the order of their acquisition, each acquired share once; it is added to the basis of those shares,
which also take over the time that the sold ones were held (26 USC 1223(3)). The rest of the very lot that was sold from
is no replacement (Rev. Rul. 56-602), nor are shares that were sold themselves by then. Losses on short sales (1091(e))
are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TypeVar

from octopus.compliance import rules
from octopus.compliance.checks import Case, Finding
from octopus.core.errors import MissingDataError
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import PlannedOrder, Side

WINDOW = timedelta(days=30)
"""Either side of the sale."""


@dataclass(frozen=True)
class Adjusted:
    """Lots after the rule; what was disallowed is in the basis of other shares, to the cent.

    Attributes:
        disposals: as given, in order of sale, ``disallowed`` filled in; parts that differ are split.
        lots: open ones, split where only a part replaces something that was sold.
    """

    disposals: tuple[Disposal, ...]
    lots: tuple[Lot, ...]


def adjust(disposals: Sequence[Disposal], lots: Sequence[Lot]) -> Adjusted:
    """Apply the rule to what was closed and what is open, of any number of instruments.

    Args:
        disposals, lots: all of them, and before any adjustment: which shares replaced others already is not told by
            what was adjusted.
    """
    closed: list[Disposal] = sorted(disposals, key=lambda item: (item.disposed, item.fill_id, item.lot_id))
    held: list[Lot] = list(lots)
    taken_closed: set[int] = set()
    taken_open: set[int] = set()
    place = 0
    while place < len(closed):
        sale = closed[place]
        if sale.quantity > 0 and sale.economic_gain < 0 and not sale.disallowed:
            _defer(place, closed, held, taken_closed, taken_open)
        place += 1
    return Adjusted(tuple(closed), tuple(held))


def _defer(place: int, closed: list[Disposal], held: list[Lot], taken_closed: set[int], taken_open: set[int]) -> None:
    """Match the sale at ``place`` with replacements, splitting whatever is matched in part.

    ``taken_closed`` and ``taken_open``: places whose shares replaced others already.
    """
    while True:
        sale = closed[place]
        candidates = [
            (lot.acquired, 1, number) for number, lot in enumerate(held)
            if number not in taken_open and _replaces(lot, sale)
        ] + [
            (later.acquired, 0, number) for number, later in enumerate(closed)
            if number not in taken_closed and later.disposed > sale.disposed and _replaces(later, sale)
        ]  # fmt: skip
        if not candidates:
            return
        _, is_open, number = min(candidates)
        found: Lot | Disposal = held[number] if is_open else closed[number]
        shares = min(found.shares, sale.shares)
        loss = -sale.economic_gain * shares / sale.shares
        if isinstance(found, Lot):
            own, rest_lot = _split_lot(found, shares)
            held[number] = replace(own, wash_sale=own.wash_sale + loss, held_from=_tacked(own.held_from, sale))
            taken_open.add(number)
            if rest_lot is not None:
                held.append(rest_lot)
        else:
            part, rest = _split_disposal(found, shares)
            closed[number] = replace(part, basis=part.basis + loss, held_from=_tacked(part.held_from, sale))
            taken_closed.add(number)
            if rest is not None:
                _insert_after(number, rest, closed, taken_closed)
        washed, rest = _split_disposal(sale, shares)
        closed[place] = replace(washed, disallowed=loss)
        if rest is None:
            return
        # The unmatched rest of the sale stands after its matched part, and is matched on.
        _insert_after(place, rest, closed, taken_closed)
        place += 1


def _replaces(found: Lot | Disposal, sale: Disposal) -> bool:
    return (
        found.known_as == sale.known_as
        and found.quantity > 0
        and found.lot_id != sale.lot_id
        and abs(found.acquired - sale.disposed) <= WINDOW
    )


def _tacked(held_from: date, sale: Disposal) -> date:
    """The holding period begins earlier by as long as the sold shares were held."""
    return held_from - (sale.disposed - sale.held_from)


def _insert_after(place: int, rest: Disposal, closed: list[Disposal], taken: set[int]) -> None:
    closed.insert(place + 1, rest)
    moved = {number + 1 if number > place else number for number in taken}
    taken.clear()
    taken.update(moved)


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
    losses = [
        sale for sale in disposals
        if sale.quantity > 0 and sale.economic_gain < 0
        and timedelta(0) <= session - sale.disposed <= WINDOW
    ]  # fmt: skip
    loss = -sum((sale.gain for sale in losses if sale.gain < 0), Decimal(0))
    if not loss:
        return Finding(order, False, f"{order.instrument} was not sold at a loss in the 30 days before")
    last = max(losses, key=lambda sale: sale.disposed)
    then = "" if last.instrument == order.instrument else f" as {last.instrument}"
    reason = (
        f"buys back {order.instrument}, sold{then} at a loss on {last.disposed}: up to {loss:,.2f} of loss moves into "
        "the new basis"
    )
    return Finding(order, True, reason, float(loss), 0.0)


def _of_sale(order: PlannedOrder, lots: Sequence[Lot], session: date) -> Finding:
    own = [lot for lot in lots if lot.quantity > 0]
    losing = [lot for lot in own if lot.basis > order.reference_price * lot.quantity]
    fresh = [lot for lot in own if timedelta(0) <= session - lot.acquired <= WINDOW]
    washed = any(new.lot_id != old.lot_id for old in losing for new in fresh)
    if not washed:
        return Finding(order, False, f"selling {order.instrument} makes no wash sale with what was bought before")
    reason = f"sells {order.instrument} at a loss that shares bought on {fresh[-1].acquired} may defer"
    return Finding(order, True, reason)
