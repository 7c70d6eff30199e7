"""What a person books about a break, so that our book becomes the broker's.

Belongs here: from one break to the entries, or the revision of a fill, that take it out of the next comparison. Does
not: finding breaks (reconcile.py), asking the person, storing.

Our book follows the broker's record of what happened, under that record's name and instant: a fill of an order of ours
that we missed becomes a fill of that order; one that no order of ours caused becomes an entry by hand of the same
shares and cash, which lots and NAV take as a trade; a fill of ours that the broker has otherwise gets a revision; an
entry is booked as the broker has it, or its difference beside ours.
Only what no record explains has a name of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.orders import Fill
from octopus.execution.book import AMENDS, OFFSET, UNRECORDED, Book, Entry, EntryKind, fill_entry
from octopus.execution.reconcile import ENTRY_BREAKS, Break, BreakKind, with_booked_fills


class CorrectionError(OctopusError):
    """The break cannot be booked as asked; the message says what is missing."""


class CashKind(StrEnum):
    """What cash that no record explains is."""

    CHARGE = "charge"
    """A fee, a tax or interest: it is our result."""
    FLOW = "flow"
    """The owner's money, in or out."""


@dataclass(frozen=True)
class FillChange:
    """What a fill of ours is to be from now on; zero shares where it never was."""

    fill: Fill
    quantity: Decimal
    price: Decimal
    fees: Decimal


@dataclass(frozen=True)
class Correction:
    """What is booked, all of it at once; one of the three alone.

    Attributes:
        fill: of an order of ours, which we missed.
    """

    entries: tuple[Entry, ...] = ()
    change: FillChange | None = None
    fill: Fill | None = None

    @property
    def described(self) -> tuple[str, ...]:
        """Lines for the person who is asked."""
        if self.change is not None:
            fill, to = self.change.fill, self.change
            became = f"{plain(to.quantity)} at {plain(to.price)}, fees {plain(to.fees)}" if to.quantity else "nothing"
            return (f"fill {fill.fill_id} of {fill.instrument} becomes {became}",)
        if self.fill is not None:
            fill = self.fill
            return (
                f"fill {fill.fill_id} of order {fill.client_order_id}: {fill.side.value} {plain(fill.quantity)} "
                f"{fill.instrument} at {plain(fill.price)}, fees {plain(fill.fees)}",
            )
        return tuple(
            f"{one.kind.value} {one.entry_id}: {plain(one.quantity, '+')} {one.instrument or 'shares'}, "
            f"cash {plain(one.cash, '+')}"
            for one in self.entries
        )


@dataclass(frozen=True)
class Told:
    """What a person adds to a break that no record explains.

    Attributes:
        price: of one share, account currency. cash: what cash is. note: who books it, and why.
    """

    note: str
    price: Decimal | None = None
    cash: CashKind = CashKind.CHARGE


def correction(item: Break, breaks: Sequence[Break], ours: Book, theirs: Book, at: datetime, told: Told) -> Correction:
    """What takes ``item`` out of the next comparison.

    Args:
        breaks: every break of the same comparison. ours: our whole book. theirs: the broker's, as it was compared.
        at: when what no record explains is held to have moved.

    Raises:
        CorrectionError: shares without a record, and no price of them.
    """
    if item.reference is None:
        return Correction(entries=_unrecorded(item, breaks, ours, at, told))
    theirs = with_booked_fills(theirs, ours)
    mine = {fill.fill_id: fill for fill in ours.fills}
    others = {fill.fill_id: fill for fill in theirs.fills}
    if item.reference in mine:
        return Correction(change=_changed(item, mine[item.reference]))
    if item.kind is BreakKind.MISSING_FILL and item.reference in others:
        return Correction(fill=others[item.reference])
    if item.reference in others:
        return Correction(entries=(fill_entry(others[item.reference], told.note),))
    sample = next((e for e in (*ours.entries, *theirs.entries) if e.entry_id == item.reference), None)
    if sample is None:
        return Correction(entries=(_told_before(item, ours, at, told.note),))
    return Correction(entries=(_amended(item, sample, ours, told.note),))


def _changed(item: Break, mine: Fill) -> FillChange:
    """The fill as the broker has it, of which the break tells what differs."""
    is_shares, brokers = item.kind is BreakKind.QUANTITY, item.brokers
    if brokers is None or item.kind not in _OF_BOTH or (is_shares and brokers * mine.side.sign <= 0):
        return FillChange(mine, Decimal(0), mine.price, Decimal(0))
    return FillChange(
        mine,
        abs(brokers) if is_shares else mine.quantity,
        brokers if item.kind is BreakKind.PRICE else mine.price,
        brokers if item.kind is BreakKind.FEE else mine.fees,
    )


_OF_BOTH = (BreakKind.QUANTITY, BreakKind.PRICE, BreakKind.FEE)
"""Of a fill that both books have; any other break says that it is not what ours has at all."""


def _told_before(item: Break, ours: Book, at: datetime, note: str) -> Entry:
    """What the broker told once and tells no more: the shares and cash that it moved."""
    return Entry(
        _free(f"{UNRECORDED}{item.instrument or 'cash'}", ours), _ENTRIES.get(item.kind, EntryKind.MANUAL),
        item.instrument, item.quantity_effect, item.cash_effect, item.at or at, note,
    )  # fmt: skip


_ENTRIES = {kind: entry for entry, kind in ENTRY_BREAKS.items() if entry.is_action or entry is EntryKind.CHARGE}


def _amended(item: Break, sample: Entry, ours: Book, note: str) -> Entry:
    """The broker's entry as our own, or the difference beside ours."""
    of_ours = f"{sample.kind.value}:{sample.instrument}:{sample.at:%Y%m%d}"
    # Under the name that our own data would give it: heard of later, it is booked already.
    base = of_ours if sample.kind.is_action else sample.entry_id.partition(AMENDS)[0]
    return Entry(
        _free(base, ours), sample.kind, sample.instrument, item.quantity_effect, item.cash_effect, sample.at, note
    )


def _free(base: str, ours: Book) -> str:
    """``base``, or the next of its amendments that our book does not have."""
    taken = {entry.entry_id for entry in ours.entries}
    names = [base, *(f"{base}{AMENDS}{number}" for number in range(1, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _unrecorded(item: Break, breaks: Sequence[Break], ours: Book, at: datetime, told: Told) -> tuple[Entry, ...]:
    name = _free(f"{UNRECORDED}{item.instrument or 'cash'}", ours)
    if item.instrument is None:
        kind = EntryKind.CHARGE if told.cash is CashKind.CHARGE else EntryKind.MANUAL
        return (Entry(name, kind, None, Decimal(0), item.cash_effect, at, told.note),)
    if told.price is None:
        raise CorrectionError(
            f"no record tells what the {plain(item.quantity_effect, '+')} shares of {item.instrument} cost or brought; "
            "give the price of one with --price (of a transfer, what it had cost)"
        )
    worth = item.quantity_effect * told.price
    paid = next((one for one in breaks if one.reference is None and one.instrument is None), None)
    # A trade whose cash has no record either: both are booked. Else the shares came, or went, by themselves.
    if paid is not None and abs(paid.cash_effect + worth) <= abs(worth) * _FEES:
        return (Entry(name, EntryKind.MANUAL, item.instrument, item.quantity_effect, paid.cash_effect, at, told.note),)
    return (
        Entry(name, EntryKind.MANUAL, item.instrument, item.quantity_effect, -worth, at, told.note),
        Entry(
            f"{name}{OFFSET}",
            EntryKind.MANUAL,
            None,
            Decimal(0),
            worth,
            at,
            f"{told.note}; no cash moved for the shares",
        ),
    )


_FEES = Decimal("0.01")
"""The part of a trade's worth by which its cash may differ from shares times price."""
