"""Reconciliation: our book against the broker's, every difference named, explained and given to someone.

Belongs here: comparing two books and classifying what differs. Does not: reading either book, or acting on a break.

First the records are matched one by one (fills by the broker's fill id, corporate actions by kind, instrument and
ex-date, other entries by id). Each difference is one break that says how many shares and how much cash it explains.
What positions or cash then still differ by, no record explains: that is a break of its own. So one cause gives one
break, and sound books give none.

A record that differs stays a difference when both books tell only of later ones: a dividend that is paid weeks after
its ex-date, a fee that nobody booked. What the comparison before found of such records is carried on, as long as shares
and cash still differ by it.

A broker may tell its records late (`Told`). What our book has beyond them is then no break, and cash is compared as of
the last instant that they cover; positions are compared as they are now, so that a trade cannot hide in between.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import combinations, islice

from octopus.core.amounts import plain
from octopus.core.ids import fingerprint
from octopus.core.orders import Fill
from octopus.execution.book import (
    AMENDS,
    QUANTITY_STEP,
    UNRECORDED,
    Book,
    Entry,
    EntryKind,
    Told,
    cash_of,
    fill_entry,
)

CENT = Decimal("0.01")


class BreakKind(StrEnum):
    QUANTITY = "quantity"
    """Shares differ: of one fill, or of a position without any record that explains it."""
    PRICE = "price"
    FEE = "fee"
    CASH = "cash"
    """Cash differs without any record that explains it, or a flow is in one book only."""
    SPLIT = "split"
    DIVIDEND = "dividend"
    SYMBOL_CHANGE = "symbol_change"
    SPIN_OFF = "spin_off"
    DELISTING = "delisting"
    MANUAL_TRADE = "manual_trade"
    """The broker booked a trade or a correction that no order of ours caused."""
    MISSING_FILL = "missing_fill"
    """The broker filled an order of ours and our book does not have it."""
    UNKNOWN_FILL = "unknown_fill"
    """Our book has a fill that the broker does not know."""


AMOUNTS = frozenset({BreakKind.PRICE, BreakKind.FEE, BreakKind.DIVIDEND, BreakKind.SPIN_OFF})
"""Breaks in how much money one thing moved: our book still says what we hold."""


REMEDIES = {
    BreakKind.QUANTITY: "compare with the broker's confirmation; if the broker is right, book it, else have it mended",
    BreakKind.PRICE: "compare with the broker's confirmation; if the broker is right, book it, else have it mended",
    BreakKind.FEE: "compare with the broker's fee schedule; if the broker is right, book it, else have it mended",
    BreakKind.CASH: "look for a fee, interest, tax or transfer in the broker's activity and book it; if the account "
    "was never taken over, `octopus adopt`",
    BreakKind.SPLIT: "check the corporate action with a second source; ingest it, or book what the broker has",
    BreakKind.DIVIDEND: "check the corporate action with a second source; wait for the payment, or book what the "
    "broker has",
    BreakKind.SYMBOL_CHANGE: "check the new symbol with a second source; ingest it, or book what the broker has",
    BreakKind.SPIN_OFF: "compare what the shares brought with the broker's confirmation; ingest the new company's "
    "bars, or book what the broker has",
    BreakKind.DELISTING: "check what was paid with a second source; ingest the delisting, or book what the broker has",
    BreakKind.MANUAL_TRADE: "find who traded at the broker; book the trade, or have it reversed there",
    BreakKind.MISSING_FILL: "the next comparison collects fills again; if it stays, check the broker's adapter and "
    "book it",
    BreakKind.UNKNOWN_FILL: "ask the broker whether the trade was cancelled; if it was, book that",
}
"""What to do next about each kind."""


_OPENINGS = (BreakKind.SPLIT, BreakKind.SYMBOL_CHANGE, BreakKind.DIVIDEND)
"""What a session's open does to what is held."""
_OF_AN_ORDER = (BreakKind.MANUAL_TRADE, BreakKind.MISSING_FILL, BreakKind.QUANTITY)
"""How the fill of an order shows that the broker does not tell as ours."""


@dataclass(frozen=True)
class Break:
    """One difference between the books.

    Attributes:
        reference: the fill or entry that differs; None when no record explains the difference.
        ours, brokers: the differing figure, shares or account currency according to ``kind``; None where one side has
            none.
        quantity_effect, cash_effect: how much of (broker's minus ours) this break explains.
        at: of that record; None without one.
    """

    kind: BreakKind
    instrument: str | None
    reference: str | None
    ours: Decimal | None
    brokers: Decimal | None
    detail: str
    quantity_effect: Decimal = Decimal(0)
    cash_effect: Decimal = Decimal(0)
    at: datetime | None = None

    @property
    def break_id(self) -> str:
        """The same difference has the same id in every comparison, whatever else changed; another one another."""
        same = (
            self.kind.value, self.instrument, self.reference, plain(self.quantity_effect), plain(self.cash_effect),
        )  # fmt: skip
        return f"{_ID}{fingerprint(same)[:8]}"

    @property
    def remedy(self) -> str:
        """What to do next, by the commands that do it."""
        return f"{REMEDIES[self.kind]} (`octopus breaks book {self.break_id}`)"


_ID = "brk-"
_IN_TEXT = re.compile(rf"`octopus breaks book ({_ID}[0-9a-f]+)`\)$")


def break_id_in(told: str) -> str | None:
    """The id of a break whose detail and remedy are ``told``."""
    found = _IN_TEXT.search(told)
    return found.group(1) if found else None


def standing_breaks(
    breaks: Iterable[Break], opened: datetime, frozen: Collection[str], known: Collection[str] = ()
) -> tuple[Break, ...]:
    """Breaks that stand while a session runs: all but those that time or another alarm will settle.

    A broker may book what the session's open did to shares hours later: what our own book has of it alone is no break
    yet, and as little are its shares where the broker's positions have them already. A difference in an instrument with
    an order whose outcome is unknown may be that order's: it was told, and counts as filled.

    Args:
        opened: when the running session opened. frozen: instruments of orders whose outcome is unknown.
        known: ids of breaks that stand in any case.
    """
    found = tuple(breaks)
    on_the_way = {item for item in found if _is_of_opening(item, opened)}
    early: dict[str | None, Decimal] = defaultdict(Decimal)
    for item in on_the_way:
        early[item.instrument] += item.quantity_effect
    on_the_way |= {
        item
        for item in found
        if item.reference is None and item.instrument in early and item.quantity_effect == -early[item.instrument]
    }
    of_an_order = {item for item in found if item.kind in _OF_AN_ORDER and item.instrument in frozen}
    return tuple(item for item in found if item.break_id in known or item not in on_the_way | of_an_order)


def _is_of_opening(item: Break, opened: datetime) -> bool:
    """Whether it is what our own book alone has of the session's open."""
    return item.kind in _OPENINGS and item.brokers is None and item.at is not None and item.at >= opened


def reconcile(
    ours: Book,
    brokers: Book,
    our_orders: Collection[str],
    cash_tolerance: Decimal = CENT,
    share_tolerance: Decimal = Decimal(0),
    before: Collection[Break] = (),
) -> tuple[Break, ...]:
    """Every break between the books, in a stable order.

    Args:
        ours, brokers: books of one account, their fills and entries cut at the same instant.
        our_orders: client order ids that we sent, to tell a fill we missed from a trade by hand.
        cash_tolerance: cash that differs by less than this is not a break (brokers round to the cent).
        share_tolerance: shares that differ by less than this without a record are not.
        before: breaks of records that lie before those of these books, as the comparison before found them.
    """
    brokers = with_booked_fills(brokers, ours)
    mine, theirs = _told_by(ours, brokers.told), _told_by(brokers, brokers.told)
    recorded = [*_fill_breaks(mine, theirs, our_orders), *_entry_breaks(mine, theirs, cash_tolerance)]
    later = list(_later_breaks(ours, brokers, our_orders))
    shares, names = _shares_left(ours, brokers, [*recorded, *later]), {item.instrument for item in before}
    left = _Left(
        _cash_left(mine, theirs, recorded), {name: rest for name, rest in shares.items() if name in names},
        cash_tolerance, share_tolerance,
    )  # fmt: skip
    carried = _still_standing(before, left)
    breaks = [*recorded, *later, *carried]
    breaks += _position_breaks(ours, brokers, breaks, share_tolerance)
    breaks += _cash_breaks(mine, theirs, [*recorded, *carried], cash_tolerance)
    order = list(BreakKind)
    return tuple(sorted(breaks, key=lambda b: (order.index(b.kind), b.instrument or "", b.reference or "")))


def with_booked_fills(brokers: Book, ours: Book) -> Book:
    """The broker's book, with the fills that a person booked into ours as the entries they are there."""
    booked = {entry.entry_id for entry in ours.entries}
    entries = {fill.fill_id: fill_entry(fill) for fill in brokers.fills}
    known = {fill_id: entry for fill_id, entry in entries.items() if entry.entry_id in booked}
    if not known:
        return brokers
    fills = [fill for fill in brokers.fills if fill.fill_id not in known]
    return replace(brokers, fills=fills, entries=[*brokers.entries, *known.values()])


def _told_by(book: Book, told: Told | None) -> Book:
    """The records of a book up to the last instant that the broker's records cover, and its cash then."""
    if told is None:
        return book
    fills = [fill for fill in book.fills if fill.at <= told.until]
    entries = [entry for entry in book.entries if entry.at <= told.until or entry.kind is EntryKind.ADOPTED]
    cash = told.cash if book.told is told else book.cash - (
        cash_of(book.fills, book.entries) - cash_of(fills, entries)
    )  # fmt: skip
    return replace(book, cash=cash, fills=fills, entries=entries)


def _later_breaks(ours: Book, brokers: Book, our_orders: Collection[str]) -> Iterator[Break]:
    """Breaks of fills beyond what the broker's records cover: of those that it tells all the same."""
    if brokers.told is None:
        return
    until = brokers.told.until
    told = [fill for fill in brokers.fills if fill.at > until]
    known = {fill.fill_id for fill in told}
    mine = replace(ours, fills=[fill for fill in ours.fills if fill.at > until and fill.fill_id in known])
    yield from _fill_breaks(mine, replace(brokers, fills=told), our_orders)


def _fill_breaks(ours: Book, brokers: Book, our_orders: Collection[str]) -> Iterator[Break]:
    mine = {fill.fill_id: fill for fill in ours.fills}
    theirs = {fill.fill_id: fill for fill in brokers.fills}
    for fill_id in sorted(mine.keys() | theirs.keys()):
        if fill_id not in theirs:
            yield _one_sided(mine[fill_id], BreakKind.UNKNOWN_FILL, "is in our book and not in the broker's")
        elif fill_id not in mine:
            fill = theirs[fill_id]
            known = fill.client_order_id in our_orders
            kind = BreakKind.MISSING_FILL if known else BreakKind.MANUAL_TRADE
            why = "of our order is not in our book" if known else "belongs to no order of ours"
            yield _one_sided(fill, kind, why)
        else:
            yield from _differences(mine[fill_id], theirs[fill_id])


def _one_sided(fill: Fill, kind: BreakKind, why: str) -> Break:
    is_ours = kind is BreakKind.UNKNOWN_FILL
    sign = -1 if is_ours else 1
    return Break(
        kind=kind,
        instrument=fill.instrument,
        reference=fill.fill_id,
        ours=fill.quantity if is_ours else None,
        brokers=None if is_ours else fill.quantity,
        detail=f"fill {fill.fill_id} ({fill.side.value} {plain(fill.quantity)} {fill.instrument} "
        f"at {plain(fill.price)}) {why}",
        quantity_effect=sign * _signed(fill),
        cash_effect=sign * fill.cash_flow,
        at=fill.at,
    )


def _differences(mine: Fill, theirs: Fill) -> Iterator[Break]:
    """Breaks of one fill that both books have; together they explain the whole difference in cash and shares."""
    if mine.instrument != theirs.instrument:
        yield _one_sided(mine, BreakKind.UNKNOWN_FILL, f"is of {theirs.instrument} in the broker's book")
        yield _one_sided(theirs, BreakKind.MISSING_FILL, f"is of {mine.instrument} in our book")
        return
    where = f"fill {mine.fill_id} of {mine.instrument}"
    shares = _signed(theirs) - _signed(mine)
    if shares:
        detail = f"{where}: our book says {plain(_signed(mine), '+')}, the broker {plain(_signed(theirs), '+')} shares"
        cash = -shares * mine.price
        yield _of_fill(BreakKind.QUANTITY, mine, _signed(mine), _signed(theirs), detail, shares, cash)
    if theirs.price != mine.price:
        detail = f"{where}: price is {plain(mine.price)} in our book and {plain(theirs.price)} at the broker"
        cash = -_signed(theirs) * (theirs.price - mine.price)
        yield _of_fill(BreakKind.PRICE, mine, mine.price, theirs.price, detail, Decimal(0), cash)
    if theirs.fees != mine.fees:
        detail = f"{where}: fees are {plain(mine.fees)} in our book and {plain(theirs.fees)} at the broker"
        yield _of_fill(BreakKind.FEE, mine, mine.fees, theirs.fees, detail, Decimal(0), mine.fees - theirs.fees)


def _of_fill(
    kind: BreakKind, fill: Fill, ours: Decimal, brokers: Decimal, detail: str, quantity: Decimal, cash: Decimal
) -> Break:
    return Break(kind, fill.instrument, fill.fill_id, ours, brokers, detail, quantity, cash, fill.at)


def _signed(fill: Fill) -> Decimal:
    return fill.side.sign * fill.quantity


def _entry_breaks(ours: Book, brokers: Book, tolerance: Decimal) -> Iterator[Break]:
    return (item for item in _entry_differences(ours, brokers) if not _is_rounding(item, tolerance))


def _is_rounding(item: Break, tolerance: Decimal) -> bool:
    return not item.quantity_effect and abs(item.cash_effect) < tolerance


def roundings(ours: Book, brokers: Book, tolerance: Decimal) -> tuple[Break, ...]:
    """What the broker's rounding makes of entries: too little for a break, but it adds up unless it is booked.

    Both books have the payment, or ours alone expects half a cent or less, which no broker has to pay.

    Args:
        ours, brokers: books of one account, cut at the same instant. tolerance: of cash, as for `reconcile`.
    """
    found = _entry_differences(_told_by(ours, brokers.told), _told_by(brokers, brokers.told))
    return tuple(
        item
        for item in found
        if _is_rounding(item, tolerance)
        and item.ours is not None
        and (item.brokers is not None or abs(item.cash_effect) <= CENT / 2)
    )


def _entry_differences(ours: Book, brokers: Book) -> Iterator[Break]:
    mine, theirs = _by_key(ours.entries), _by_key(brokers.entries)
    for key in sorted(mine.keys() | theirs.keys()):
        our_quantity, our_cash = _totals(mine.get(key, ()))
        their_quantity, their_cash = _totals(theirs.get(key, ()))
        quantity, cash = their_quantity - our_quantity, (their_cash - our_cash).quantize(QUANTITY_STEP)
        if not quantity and not cash:
            continue
        sample = [*mine.get(key, ()), *theirs.get(key, ())][0]
        kind = ENTRY_BREAKS[sample.kind]
        by_shares = bool(quantity)
        yield Break(
            kind=kind,
            instrument=sample.instrument,
            reference=sample.entry_id,
            ours=(our_quantity if by_shares else our_cash) if key in mine else None,
            brokers=(their_quantity if by_shares else their_cash) if key in theirs else None,
            detail=f"{sample.kind.value} of {sample.instrument or 'cash'} on {sample.at:%Y-%m-%d}: our book has "
            f"{plain(our_quantity)} shares and {plain(our_cash)} cash, the broker {plain(their_quantity)} shares and "
            f"{plain(their_cash)} cash",
            quantity_effect=quantity,
            cash_effect=cash,
            at=sample.at,
        )


ENTRY_BREAKS = {
    EntryKind.SPLIT: BreakKind.SPLIT,
    EntryKind.DIVIDEND: BreakKind.DIVIDEND,
    EntryKind.SYMBOL_CHANGE: BreakKind.SYMBOL_CHANGE,
    EntryKind.SPIN_OFF: BreakKind.SPIN_OFF,
    EntryKind.DELISTING: BreakKind.DELISTING,
    EntryKind.CHARGE: BreakKind.FEE,
    EntryKind.MANUAL: BreakKind.MANUAL_TRADE,
    EntryKind.DEPOSIT: BreakKind.CASH,
    EntryKind.WITHDRAWAL: BreakKind.CASH,
}
"""As what an entry counts that the books have otherwise."""


def _by_key(entries: Iterable[Entry]) -> dict[tuple[str, str, str], list[Entry]]:
    """Entries that are one event: each bookkeeper numbers corporate actions itself, so those match by what they are.
    Adopted holdings, and what a person booked without a record, are none: the broker has no record of them, and its
    positions and cash have them in."""
    grouped: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind is EntryKind.ADOPTED or entry.entry_id.startswith(UNRECORDED):
            continue
        identity = f"{entry.at:%Y-%m-%d}" if entry.kind.is_action else entry.entry_id.partition(AMENDS)[0]
        grouped[entry.kind.value, entry.instrument or "", identity].append(entry)
    return grouped


def _totals(entries: Iterable[Entry]) -> tuple[Decimal, Decimal]:
    quantity = cash = Decimal(0)
    for entry in entries:
        quantity += entry.quantity
        cash += entry.cash
    return quantity, cash


@dataclass(frozen=True)
class _Left:
    """What the books still differ by (broker's minus ours) once their records are matched.

    Attributes:
        shares: of the instruments that are looked at. cash_tolerance, share_tolerance: what differs by less does not.
    """

    cash: Decimal
    shares: Mapping[str, Decimal]
    cash_tolerance: Decimal
    share_tolerance: Decimal

    def is_explained_by(self, breaks: Collection[Break]) -> bool:
        """Whether ``breaks`` are all that cash and these shares differ by."""
        cash, shares = self.cash, dict(self.shares)
        for item in breaks:
            cash -= item.cash_effect
            if item.instrument is not None:
                shares[item.instrument] = shares.get(item.instrument, Decimal(0)) - item.quantity_effect
        return abs(cash) < self.cash_tolerance and not any(map(self._differs, shares.values()))

    def _differs(self, shares: Decimal) -> bool:
        return bool(shares) and abs(shares) >= self.share_tolerance


def _still_standing(before: Collection[Break], left: _Left) -> tuple[Break, ...]:
    """Those of ``before`` that what is ``left`` consists of: the most of them that explain it, or all of them where no
    selection does and something else differs, too."""
    tried = (kept for size in range(len(before), -1, -1) for kept in combinations(before, size))
    return next(filter(left.is_explained_by, islice(tried, _SELECTIONS)), tuple(before))


_SELECTIONS = 5000
"""Twelve breaks in every selection; of more, those that lack few of them."""


def _shares_left(ours: Book, brokers: Book, found: Iterable[Break]) -> dict[str, Decimal]:
    left = {
        name: brokers.positions.get(name, Decimal(0)) - ours.positions.get(name, Decimal(0))
        for name in {*ours.positions, *brokers.positions}
    }
    for item in found:
        if item.instrument is not None:
            left[item.instrument] = left.get(item.instrument, Decimal(0)) - item.quantity_effect
    return left


def _cash_left(ours: Book, brokers: Book, found: Iterable[Break]) -> Decimal:
    return brokers.cash - ours.cash - sum((item.cash_effect for item in found), Decimal(0))


def _position_breaks(ours: Book, brokers: Book, found: Iterable[Break], tolerance: Decimal) -> Iterator[Break]:
    for name, rest in sorted(_shares_left(ours, brokers, found).items()):
        mine, theirs = ours.positions.get(name, Decimal(0)), brokers.positions.get(name, Decimal(0))
        if rest and abs(rest) >= tolerance:
            detail = (
                f"position in {name}: {plain(mine)} in our book, {plain(theirs)} at the broker, "
                f"{plain(rest, '+')} shares without a record"
            )
            yield Break(BreakKind.QUANTITY, name, None, mine, theirs, detail, quantity_effect=rest)


def _cash_breaks(ours: Book, brokers: Book, found: Iterable[Break], tolerance: Decimal) -> Iterator[Break]:
    rest = _cash_left(ours, brokers, found)
    if abs(rest) >= tolerance:
        then = f" of {brokers.told.until:%Y-%m-%d %H:%M} UTC" if brokers.told else ""
        detail = (
            f"cash{then}: {plain(ours.cash)} in our book, {plain(brokers.cash)} at the broker, "
            f"{plain(rest, '+')} without a record"
        )
        yield Break(BreakKind.CASH, None, None, ours.cash, brokers.cash, detail, cash_effect=rest)
