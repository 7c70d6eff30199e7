"""Tax lots: which shares a fill opens or closes, what they cost and what they brought.

Belongs here: keeping lots by FIFO or by specific identification, through splits, changes of symbol and delistings. Does
not: the lots themselves (octopus/core/lots.py), the wash-sale rule (octopus/compliance), settlement (settlement.py).

A sale closes the shares that were identified for it, and the earliest ones as far as none were (26 CFR 1.1012-1(c)). A
fill that passes through zero closes all lots and opens one on the other side. Where an amount is divided among lots,
each part is rounded to the ledger's step and the last part takes the rest: sums are exact.

The open shares of every instrument are the book's position in it (`positions_of`), whatever was booked and however
late. What companies do to their shares:

- A change of symbol moves lots to the new name with their id, cost and dates: the same shares, at most an exchange of
  them within one corporation (26 USC 368(a)(1)(E) and (F)), in which nothing is recognised (354, 1036) and basis and
  holding period carry over (358(a), 1223(1)). Lots that come upon a short of the new name cover it at their cost
  (26 CFR 1.1233-1(a)).
- A delisting closes all lots on its day at the cash it paid, as a sale does (26 USC 1001). Shares that paid nothing are
  closed at nothing on that day; that worthless shares count as sold on the last day of the year (165(g)) is not kept,
  nor what an exchange into another company's shares would defer: no source tells its terms.
- Shares that a transfer brings are a lot at what they had cost, held since they were acquired: an owner's
  move between accounts is no sale or exchange (1001). Those that a transfer takes away take their lots with them, the
  earliest first, and no disposal is recognised.
- A spin-off touches no lot. The book takes its worth in cash, as it does a dividend, and the lots keep their whole
  basis. How much of it goes to the new shares where the spin-off is tax-free (355, 358(b)), the company says on Form
  8937: that is for a person to reckon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Context, Decimal, localcontext

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import Fill
from octopus.execution.book import AMENDS, QUANTITY_STEP, UNRECORDED, CorporateAction, Entry, EntryKind

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
    """Open lots, by instrument and acquisition, and every disposal, in the order of the trades; both know what their
    instrument is called today, and disposals how many shares of today theirs are."""

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
    told: Iterable[CorporateAction] = (),
) -> LotBook:
    """Lots and disposals after all fills and entries of an account, in time order.

    Args:
        entries: splits, changes of symbol and delistings change lots; shares entered by hand open or close lots at the
            cash that came with them, adopted ones and those of a transfer open them at their basis, on the day of
            their adoption or when they were acquired before; a transfer away takes lots without a disposal; entries
            without shares concern no lot, but for what amends one with shares.
        ratios: new shares for one old, by the entry id of each split.
        selections: shares identified for a fill, by fill id; the rest goes first in, first out.
        told: changes of symbol and splits that took effect, also of what was not held by then: they change no lot, and
            tell what the shares sold before are called today, and how many they would be.

    Raises:
        LotSelectionError, UnknownRatioError: see there.
    """
    keeper = _Keeper(dates, ratios or {}, selections or {})
    with localcontext(_EXACT):
        for _, movement in sorted(_movements(fills, entries, told), key=lambda one: one[0]):
            keeper.take(movement)
    lots = (lot for name in sorted(keeper.lots) for lot in keeper.lots[name])
    return LotBook(tuple(lots), tuple(keeper.disposals))


@dataclass(frozen=True)
class _Renames:
    """Changes of symbol that take effect together.

    Attributes:
        pairs: the entry of the name that gives shares up, that of the one that gets them, and how many.
        names: new names by old ones, as companies told them.
    """

    at: datetime
    pairs: tuple[tuple[Entry, Entry, Decimal], ...]
    names: Mapping[str, str]


_When = tuple[datetime, int, str]


def _movements(
    fills: Iterable[Fill], entries: Iterable[Entry], told: Iterable[CorporateAction]
) -> Iterator[tuple[_When, Fill | Entry | _Renames | CorporateAction]]:
    """What changes lots, with its place in time: at one instant in the order in which a book takes it (book.py)."""
    changes = defaultdict[datetime, list[Entry]](list)
    names = defaultdict[datetime, dict[str, str]](dict)
    for action in told:
        if action.kind is EntryKind.SYMBOL_CHANGE:
            names[action.at][action.instrument] = action.detail
        else:
            yield (action.at, _RANKS[action.kind], ""), action
    others: list[Entry] = []
    for entry in entries:
        if entry.kind is EntryKind.SYMBOL_CHANGE:
            changes[entry.at].append(entry)
        elif entry.instrument is not None:
            others.append(entry)
    for at in {*changes, *names}:
        pairs, alone = _paired(sorted(changes.get(at, ()), key=lambda one: one.entry_id))
        yield (at, 0, ""), _Renames(at, pairs, names.get(at, {}))
        others += alone
    for entry in _amended(others):
        yield (entry.at, _RANKS.get(entry.kind, 3), entry.entry_id), entry
    for fill in fills:
        yield (fill.at, 4, fill.fill_id), fill


_RANKS = {EntryKind.SYMBOL_CHANGE: 1, EntryKind.SPLIT: 2, EntryKind.DELISTING: 5}
"""Where entries stand among what happens at one instant: whole changes of symbol are first, fills before delistings."""


def _paired(legs: Sequence[Entry]) -> tuple[tuple[tuple[Entry, Entry, Decimal], ...], list[Entry]]:
    """The two entries of each change of symbol, less what was taken back of it; and entries that have no other side.

    Those of one change have the same note, as far as it was booked by itself; an entry without another side (a fraction
    that was paid for, a side that is not booked yet) is a trade at its cash.
    """
    left, alone = list(legs), list[Entry]()
    booked: dict[tuple[str, str], tuple[Entry, Entry]] = {}
    net = defaultdict[tuple[str, str], Decimal](Decimal)
    while left:
        leg = left.pop(0)
        mirrors = [one for one in left if _mirrors(leg, one)]
        if not mirrors:
            alone.append(leg)
            continue
        other = min(mirrors, key=lambda one: one.note != leg.note)
        left.remove(other)
        first, second = sorted((leg, other), key=lambda one: str(one.instrument))
        names = str(first.instrument), str(second.instrument)
        booked.setdefault(names, (first, second))
        net[names] += second.quantity
    pairs = [(*pair, net[names]) if net[names] > 0 else (*pair[::-1], -net[names]) for names, pair in booked.items()]
    return tuple(pair for pair in pairs if pair[2]), alone


def _mirrors(one: Entry, other: Entry) -> bool:
    return one.quantity == -other.quantity and one.instrument != other.instrument and not (one.cash or other.cash)


def _amended(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries, each with its amendments in it: shares that never were delisted are not bought back, and cash that was
    told wrong is in the cost or the proceeds."""
    found: dict[tuple[str, str | None, object], Entry] = {}
    for entry in sorted(entries, key=lambda one: (one.at, one.entry_id)):
        whole = entry.kind in (EntryKind.MANUAL, EntryKind.DELISTING)
        # A split's shares multiply lots, each entry's for itself; cash alone is what its fraction brought.
        cash_of_split = entry.kind is EntryKind.SPLIT and not entry.quantity
        amends = (whole or cash_of_split) and not entry.entry_id.startswith(UNRECORDED)
        base = entry.entry_id.partition(AMENDS)[0] if amends else entry.entry_id
        key = entry.kind.value, entry.instrument, entry.at if entry.kind is EntryKind.DELISTING else base
        first = found.get(key)
        found[key] = entry if first is None else replace(
            first, quantity=first.quantity + entry.quantity, cash=first.cash + entry.cash,
            basis=_sum(first.basis, entry.basis), acquired=first.acquired or entry.acquired,
        )  # fmt: skip
    yield from found.values()


@dataclass
class _Keeper:
    """Lots by instrument, oldest first, while movements are taken one after the other."""

    dates: Dates
    ratios: Mapping[str, Decimal]
    selections: Mapping[str, Sequence[Selection]]
    lots: dict[str, list[Lot]] = field(default_factory=dict)
    disposals: list[Disposal] = field(default_factory=list)

    def take(self, movement: Fill | Entry | _Renames | CorporateAction) -> None:
        if isinstance(movement, _Renames):
            self.rename(movement)
        elif isinstance(movement, CorporateAction):
            self.disposals[:] = [_multiplied(one, movement) for one in self.disposals]
        elif isinstance(movement, Fill):
            signed = movement.side.sign * movement.quantity
            self.trade(movement.fill_id, movement.instrument, signed, movement.cash_flow, movement.at)
        elif movement.instrument is not None and movement.kind is EntryKind.SPLIT:
            self.split(movement, movement.instrument)
        elif movement.instrument is not None and movement.quantity:
            self.enter(movement, movement.instrument)

    def enter(self, entry: Entry, instrument: str) -> None:
        """Shares by an entry: at its basis, for its cash, or as a transfer away."""
        quantity = entry.quantity
        if entry.is_transfer and entry.basis is None:
            gone = self._taken(instrument, -quantity)
            quantity += sum((lot.quantity for lot in gone), Decimal(0))
        cash = entry.cash if entry.basis is None else -entry.basis
        if quantity:
            self.trade(entry.entry_id, instrument, quantity, cash, entry.at, entry.acquired)

    def rename(self, renames: _Renames) -> None:
        """Move lots to their new names, all at once: the name that one gives up may be another's new one.

        Whether the shares of a pair were held or sold short, the lots tell. What neither name has lots for (a sale that
        was told after the change was booked) is owed under the one name and held under the other, at no cost.
        """
        arriving: list[tuple[Entry, Lot]] = []
        rests: list[tuple[Entry, Decimal]] = []
        names = dict(renames.names)
        for gives, gets, quantity in renames.pairs:
            held = self._taken(str(gives.instrument), quantity)
            left = quantity - sum((lot.quantity for lot in held), Decimal(0))
            short = self._taken(str(gets.instrument), -left)
            left += sum((lot.quantity for lot in short), Decimal(0))
            old, new = (gives, gets) if held or not short else (gets, gives)
            names.setdefault(str(old.instrument), str(new.instrument))
            arriving += [(gets, lot) for lot in held] + [(gives, lot) for lot in short]
            rests += [(gives, -left), (gets, left)] if left else []
        self.disposals[:] = [_named(one, names.get(one.known_as, one.known_as)) for one in self.disposals]
        for entry, lot in arriving:
            self._arrive(entry.entry_id, str(entry.instrument), lot, renames.at)
        for entry, left in rests:
            self.trade(entry.entry_id, str(entry.instrument), left, Decimal(0), renames.at)

    def _taken(self, instrument: str, quantity: Decimal) -> list[Lot]:
        """Lots on the side of ``quantity``, the earliest first, no more shares than that; they are here no more."""
        taken: list[Lot] = []
        lots, left = self.lots.get(instrument, []), abs(quantity)
        while left and lots and (lots[0].quantity > 0) is (quantity > 0):
            part, rest = _parted(lots[0], min(left, abs(lots[0].quantity)))
            lots[:1] = [rest] if rest.quantity else []
            taken.append(part)
            left -= abs(part.quantity)
        return taken

    def _arrive(self, name: str, instrument: str, lot: Lot, at: datetime) -> None:
        """Take a lot in under another name, in its place by acquisition; lots on the other side it closes."""
        lots = self.lots.setdefault(instrument, [])
        against = self._against(instrument, lot.quantity)
        if against:
            part, lot = _parted(lot, min(against, abs(lot.quantity)))
            self.trade(name, instrument, part.quantity, -part.cost, at)
        if not lot.quantity:
            return
        # A part of it that went another way may be here already.
        same = next((place for place, one in enumerate(lots) if one.lot_id == lot.lot_id), None)
        if same is None:
            lots.append(replace(lot, instrument=instrument))
        else:
            one = lots[same]
            lots[same] = replace(one, quantity=one.quantity + lot.quantity, cost=one.cost + lot.cost)
        lots.sort(key=lambda one: one.acquired)

    def _against(self, instrument: str, quantity: Decimal) -> Decimal:
        """Open shares on the other side of ``quantity``."""
        lots = self.lots.get(instrument, [])
        opposite = bool(lots) and (lots[0].quantity > 0) is not (quantity > 0)
        return abs(sum((lot.quantity for lot in lots), Decimal(0))) if opposite else Decimal(0)

    def trade(
        self, name: str, instrument: str, quantity: Decimal, cash: Decimal, at: datetime, acquired: date | None = None
    ) -> None:
        """Close lots on the other side with ``quantity`` (signed), then open one with what is left, in its place by
        acquisition: when it was traded, or ``acquired`` before."""
        lots = self.lots.setdefault(instrument, [])
        parts = self._closed_parts(name, instrument, min(abs(quantity), self._against(instrument, quantity)))
        left = abs(quantity)
        for lot_id, part in parts:
            proceeds = _share(cash, part, left)
            self._close(name, instrument, lot_id, part, proceeds, at)
            cash, left = cash - proceeds, left - part
        if left:
            opened = acquired or self.dates(at, instrument)[0]
            signed = left if quantity > 0 else -left
            lots.append(Lot(name, instrument, signed, -cash, opened, opened))
            if acquired is not None:
                lots.sort(key=lambda one: one.acquired)

    def split(self, entry: Entry, instrument: str) -> None:
        """Multiply the shares of each lot; a fraction that was paid in cash is sold for it, from the earliest lots."""
        lots = self.lots.get(instrument, [])
        before = sum((lot.quantity for lot in lots), Decimal(0))
        whole = before + entry.quantity
        if not before or before * whole < 0 or not (whole or entry.cash):
            # Of shares that were taken back after it was booked: there are none to multiply.
            if entry.quantity:
                self.trade(entry.entry_id, instrument, entry.quantity, entry.cash, entry.at)
            return
        ratio = self.ratios.get(entry.entry_id)
        if ratio is None and entry.cash:
            raise UnknownRatioError(f"split {entry.entry_id} of {instrument} has no ratio: ingest the corporate action")
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
        closed, rest = _parted(lots[place], part)
        traded, settles = self.dates(at, instrument)
        self.disposals.append(
            Disposal(
                name,
                lot_id,
                instrument,
                closed.quantity,
                proceeds,
                closed.cost,
                closed.acquired,
                closed.held_from,
                traded,
                settles,
            )
        )
        lots[place : place + 1] = [rest] if rest.quantity else []


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return other if one is None else one + (other or Decimal(0))


def _named(disposal: Disposal, name: str) -> Disposal:
    return replace(disposal, renamed=None if name == disposal.instrument else name)


def _multiplied(disposal: Disposal, split: CorporateAction) -> Disposal:
    is_of_it = disposal.known_as == split.instrument
    return replace(disposal, ratio=disposal.ratio * split.value) if is_of_it else disposal


def _parted(lot: Lot, shares: Decimal) -> tuple[Lot, Lot]:
    """``shares`` of a lot, a positive number, and the rest of it; either may be without shares."""
    part = shares if lot.quantity > 0 else -shares
    cost = _share(lot.cost, shares, abs(lot.quantity))
    return replace(lot, quantity=part, cost=cost), replace(lot, quantity=lot.quantity - part, cost=lot.cost - cost)


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
