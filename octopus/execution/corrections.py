"""What a person books about a break, so that our book becomes the broker's.

Belongs here: from one break to the entries, or the revision of a fill, that take it out of the next comparison. Does
not: finding breaks (reconcile.py), asking the person, storing.

Our book follows the broker's record of what happened, under that record's name and instant: a fill of an order of ours
that we missed becomes a fill of that order; one that no order of ours caused becomes an entry by hand of the same
shares and cash, which lots and NAV take as a trade; shares that moved without cash become a transfer, with what they
had cost; a fill of ours that the broker has otherwise gets a revision; an
entry is booked as the broker has it, or its difference beside ours.
Only what no record explains has a name of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.orders import Fill
from octopus.execution.book import AMENDS, QUANTITY_STEP, UNRECORDED, Book, Entry, EntryKind, fill_entry
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
        return tuple(map(_line, self.entries))


def _line(entry: Entry) -> str:
    shares = f"{entry.kind.value} {entry.entry_id}: {plain(entry.quantity, '+')} {entry.instrument or 'shares'}"
    line = f"{shares}, cash {plain(entry.cash, '+')}"
    if entry.basis is not None:
        since = "" if entry.acquired is None else f", acquired {entry.acquired}"
        return f"{line}, cost {plain(entry.basis)}{since}"
    return f"{line}, no trade" if entry.is_transfer else line


@dataclass(frozen=True)
class Told:
    """What a person adds to a break that no record explains, or not wholly.

    Attributes:
        price: of one share, account currency; of shares that came without cash what one had cost.
        cash: what cash that no record explains is. note: who books it, and why.
        acquired: when shares that came without cash had been acquired; None: as they came.
    """

    note: str
    price: Decimal | None = None
    cash: CashKind = CashKind.CHARGE
    acquired: date | None = None


def correction(item: Break, breaks: Sequence[Break], ours: Book, theirs: Book, at: datetime, told: Told) -> Correction:
    """What takes ``item`` out of the next comparison.

    Args:
        breaks: every break of the same comparison. ours: our whole book. theirs: the broker's, as it was compared.
        at: when what no record explains is held to have moved.

    Raises:
        CorrectionError: shares without a price that they need, or a price or a day that nothing needs.
    """
    if item.reference is None and item.instrument is not None:
        return Correction(entries=(_shares_alone(item, item.instrument, breaks, ours, at, told),))
    made = _as_told(item, ours, theirs, at, told)
    if len(made.entries) == 1 and made.entries[0].is_transfer and not _was_paid(made.entries[0], ours):
        return Correction(entries=(_with_cost(made.entries[0], ours, told),))
    _refuse_cost(item.detail, told)
    return made


def _as_told(item: Break, ours: Book, theirs: Book, at: datetime, told: Told) -> Correction:
    """By a record of either side, or as cash alone."""
    if item.reference is None:
        kind = EntryKind.CHARGE if told.cash is CashKind.CHARGE else EntryKind.MANUAL
        name = _free(f"{UNRECORDED}cash", ours)
        return Correction(entries=(Entry(name, kind, None, Decimal(0), item.cash_effect, at, told.note),))
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


def _with_cost(moved: Entry, ours: Book, told: Told) -> Entry:
    """A transfer with what its shares had cost: as a person tells of those that came; of those that left our lots do.

    Of what is taken back of a transfer that we booked, the cost is taken back in proportion.
    """
    booked = _amended_by(moved, ours)
    there = sum((one.quantity for one in booked), Decimal(0))
    if there * moved.quantity < 0 and abs(moved.quantity) <= abs(there):
        _refuse_cost(f"{moved.entry_id} takes back shares whose cost is booked", told)
        costs = [one.basis for one in booked if one.basis is not None]
        back = (sum(costs, Decimal(0)) * moved.quantity / there).quantize(QUANTITY_STEP) if costs else None
        return replace(moved, basis=back)
    if _leaves(moved, ours):
        _refuse_cost(f"{plain(moved.quantity, '+')} {moved.instrument} left without cash, which is no sale", told)
        return moved
    if told.price is None:
        raise CorrectionError(
            f"{plain(moved.quantity, '+')} {moved.instrument} came without cash, and no record tells what they had "
            "cost; give what one had cost with --price, and with --acquired since when they were held"
        )
    if told.acquired is not None and told.acquired > moved.at.date():
        raise CorrectionError(f"--acquired {told.acquired} is after {moved.at:%Y-%m-%d}, when the shares came")
    return replace(moved, basis=(moved.quantity * told.price).quantize(QUANTITY_STEP), acquired=told.acquired)


def _leaves(moved: Entry, ours: Book) -> bool:
    """Whether the shares are of those that our book holds (or owes)."""
    return ours.positions.get(str(moved.instrument), Decimal(0)) * moved.quantity < 0


def _amended_by(entry: Entry, ours: Book) -> list[Entry]:
    """What ``entry`` amends, and its amendments before."""
    base = entry.entry_id.partition(AMENDS)[0]
    return [one for one in ours.entries if one.entry_id.partition(AMENDS)[0] == base and one.kind is entry.kind]


def _was_paid(entry: Entry, ours: Book) -> bool:
    """Whether it amends the shares of what cash was paid for: it is a part of that trade."""
    return any(one.cash for one in _amended_by(entry, ours))


def _refuse_cost(what: str, told: Told) -> None:
    """So that no word of a person is passed over in silence."""
    for option, value in (("--price", told.price), ("--acquired", told.acquired)):
        if value is not None:
            raise CorrectionError(f"{what}: {option} {value} has no place there; book it without")


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


def _shares_alone(
    item: Break, instrument: str, breaks: Sequence[Break], ours: Book, at: datetime, told: Told
) -> Entry:  # fmt: skip
    """Shares that no record explains: a trade where cash without a record is what they are worth, else a transfer."""
    name = _free(f"{UNRECORDED}{instrument}", ours)
    moved = Entry(name, EntryKind.MANUAL, instrument, item.quantity_effect, Decimal(0), at, told.note)
    paid = next((one for one in breaks if one.reference is None and one.instrument is None), None)
    if paid is None and _leaves(moved, ours):
        return _with_cost(moved, ours, told)
    if told.price is None:
        raise CorrectionError(
            f"no record tells what the {plain(item.quantity_effect, '+')} shares of {instrument} cost or brought; "
            "give the price of one with --price (of a transfer, what it had cost, and with --acquired since when)"
        )
    worth = item.quantity_effect * told.price
    if paid is None or abs(paid.cash_effect + worth) > abs(worth) * _FEES:
        # Of those that left, the price has told that they were not sold for that cash.
        return _with_cost(moved, ours, replace(told, price=None) if _leaves(moved, ours) else told)
    _refuse_cost(f"{item.detail}, traded for {plain(paid.cash_effect, '+')}", replace(told, price=None))
    return replace(moved, cash=paid.cash_effect)


_FEES = Decimal("0.01")
"""The part of a trade's worth by which its cash may differ from shares times price."""
