"""Tax lots: which shares a fill opens or closes, what they cost and what they brought.

Belongs here: keeping lots by FIFO or by specific identification, through splits. Does not: the lots themselves
(octopus/core/lots.py), the wash-sale rule (octopus/compliance), settlement (settlement.py).

A sale closes the shares that were identified for it, and the earliest ones as far as none were (26 CFR 1.1012-1(c)). A
fill that passes through zero closes all lots and opens one on the other side. Where an amount is divided among lots,
each part is rounded to the ledger's step and the last part takes the rest: sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Context, Decimal, localcontext

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import Fill
from octopus.execution.book import QUANTITY_STEP, Entry, EntryKind

_EXACT = Context(prec=60)


class LotSelectionError(OctopusError):
    """Shares were identified for a sale that are not there to be sold, or too late; the message says which."""


class UnknownRatioError(OctopusError):
    """A split of which the ratio is not known; the message names it."""


@dataclass(frozen=True)
class Selection:
    """Shares of a lot that are identified for a sale (or to cover a short): positive."""

    lot_id: str
    quantity: Decimal


@dataclass(frozen=True)
class LotBook:
    """Open lots, by instrument and acquisition, and every disposal, in the order of the trades."""

    lots: tuple[Lot, ...]
    disposals: tuple[Disposal, ...]


Dates = Callable[[datetime, str], tuple[date, date]]
"""Trade date and settlement date of a trade at an instant in an instrument."""


def lot_book(
    fills: Iterable[Fill],
    entries: Iterable[Entry],
    *,
    dates: Dates,
    ratios: Mapping[str, Decimal] | None = None,
    selections: Mapping[str, Sequence[Selection]] | None = None,
) -> LotBook:
    """Lots and disposals after all fills and entries of an account, in time order.

    Args:
        entries: splits change lots; shares entered by hand open or close lots at the cash that came with them,
            adopted ones open them at their basis, on the day of their adoption; other entries concern no lot.
        ratios: new shares for one old, by the entry id of each split.
        selections: shares identified for a fill, by fill id; the rest goes first in, first out.

    Raises:
        LotSelectionError, UnknownRatioError: see there.
    """
    keeper = _Keeper(dates, ratios or {}, selections or {})
    # At one instant corporate actions come first: their instant is the open, and they concern what was held before.
    movements: list[tuple[datetime, int, str, Fill | Entry]] = [(e.at, 0, e.entry_id, e) for e in entries]
    movements += [(f.at, 1, f.fill_id, f) for f in fills]
    with localcontext(_EXACT):
        for _, _, _, movement in sorted(movements, key=lambda one: one[:3]):
            keeper.take(movement)
    lots = (lot for name in sorted(keeper.lots) for lot in keeper.lots[name])
    return LotBook(tuple(lots), tuple(keeper.disposals))


@dataclass
class _Keeper:
    """Lots by instrument, oldest first, while movements are taken one after the other."""

    dates: Dates
    ratios: Mapping[str, Decimal]
    selections: Mapping[str, Sequence[Selection]]
    lots: dict[str, list[Lot]] = field(default_factory=dict)
    disposals: list[Disposal] = field(default_factory=list)

    def take(self, movement: Fill | Entry) -> None:
        if isinstance(movement, Fill):
            signed = movement.side.sign * movement.quantity
            self.trade(movement.fill_id, movement.instrument, signed, movement.cash_flow, movement.at)
        elif movement.instrument is not None and movement.kind is EntryKind.SPLIT:
            self.split(movement, movement.instrument)
        elif movement.instrument is not None and movement.kind is EntryKind.MANUAL and movement.quantity:
            self.trade(movement.entry_id, movement.instrument, movement.quantity, movement.cash, movement.at)
        elif movement.instrument is not None and movement.basis is not None:
            self.trade(movement.entry_id, movement.instrument, movement.quantity, -movement.basis, movement.at)

    def trade(self, name: str, instrument: str, quantity: Decimal, cash: Decimal, at: datetime) -> None:
        """Close lots on the other side with ``quantity`` (signed), then open one with what is left."""
        lots = self.lots.setdefault(instrument, [])
        opposite = bool(lots) and (lots[0].quantity > 0) is not (quantity > 0)
        closing = min(abs(quantity), abs(sum((lot.quantity for lot in lots), Decimal(0)))) if opposite else Decimal(0)
        parts = self._closed_parts(name, instrument, closing)
        left = abs(quantity)
        for lot_id, part in parts:
            proceeds = _share(cash, part, left)
            self._close(name, instrument, lot_id, part, proceeds, at)
            cash, left = cash - proceeds, left - part
        if left:
            traded, _ = self.dates(at, instrument)
            signed = left if quantity > 0 else -left
            lots.append(Lot(name, instrument, signed, -cash, traded, traded))

    def split(self, entry: Entry, instrument: str) -> None:
        """Multiply the shares of each lot; a fraction that was paid in cash is sold for it, from the earliest lots."""
        lots = self.lots.get(instrument, [])
        before = sum((lot.quantity for lot in lots), Decimal(0))
        if not before:
            return
        ratio = self.ratios.get(entry.entry_id)
        if ratio is None and entry.cash:
            raise UnknownRatioError(f"split {entry.entry_id} of {instrument} has no ratio: ingest the corporate action")
        whole = before + entry.quantity
        after = whole if ratio is None or not entry.cash else before * ratio
        self.lots[instrument] = _scaled(lots, after)
        if after != whole:
            self.trade(entry.entry_id, instrument, whole - after, entry.cash, entry.at)

    def _closed_parts(self, name: str, instrument: str, closing: Decimal) -> list[tuple[str, Decimal]]:
        """(lot id, shares) that a trade closes: first those identified for it, then the earliest."""
        open_shares = {lot.lot_id: abs(lot.quantity) for lot in self.lots[instrument]}
        parts: list[tuple[str, Decimal]] = []
        for chosen in self.selections.get(name, ()):
            there = open_shares.get(chosen.lot_id, Decimal(0))
            if not 0 < chosen.quantity <= min(there, closing):
                raise LotSelectionError(
                    f"fill {name} of {instrument} is to close {plain(chosen.quantity)} shares of lot {chosen.lot_id}: "
                    f"{plain(there)} of it are open, with {plain(closing)} left to close; identify "
                    "others with `octopus lots identify`"
                )
            parts.append((chosen.lot_id, chosen.quantity))
            open_shares[chosen.lot_id] -= chosen.quantity
            closing -= chosen.quantity
        for lot_id, there in open_shares.items():
            part = min(there, closing)
            if part:
                parts.append((lot_id, part))
                closing -= part
        return parts

    def _close(self, name: str, instrument: str, lot_id: str, part: Decimal, proceeds: Decimal, at: datetime) -> None:
        lots = self.lots[instrument]
        place = next(place for place, lot in enumerate(lots) if lot.lot_id == lot_id)
        lot = lots[place]
        size = abs(lot.quantity)
        closed = part if lot.quantity > 0 else -part
        cost, wash_sale = _share(lot.cost, part, size), _share(lot.wash_sale, part, size)
        traded, settles = self.dates(at, instrument)
        self.disposals.append(
            Disposal(
                name,
                lot_id,
                instrument,
                closed,
                proceeds,
                cost + wash_sale,
                lot.acquired,
                lot.held_from,
                traded,
                settles,
            )
        )
        rest = replace(lot, quantity=lot.quantity - closed, cost=lot.cost - cost, wash_sale=lot.wash_sale - wash_sale)
        lots[place : place + 1] = [rest] if rest.quantity else []


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """What of ``amount`` falls on ``part`` of ``whole``; all of it on the last part."""
    return amount if part == whole else (amount * part / whole).quantize(QUANTITY_STEP)


def _scaled(lots: Sequence[Lot], after: Decimal) -> list[Lot]:
    """The lots with ``after`` shares together, each in proportion to its own."""
    left, shares, scaled = sum((lot.quantity for lot in lots), Decimal(0)), after, []
    for lot in lots:
        quantity = _share(shares, lot.quantity, left)
        scaled.append(replace(lot, quantity=quantity))
        left, shares = left - lot.quantity, shares - quantity
    return [lot for lot in scaled if lot.quantity]
