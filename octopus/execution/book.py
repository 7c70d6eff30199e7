"""A book: what an account holds and how it came to hold it. We keep one and the broker keeps one.

Belongs here: entries, books, deriving positions and cash from fills and entries, and what a corporate action does to a
book. Does not: comparing books (reconcile.py), valuing them (nav.py).

The same rules as the simulator's (octopus/backtest/simulator.py). At a session's open, before anything trades: changes
of symbol, all at once, so that a name may pass on; then splits, then dividends, under the names of that day. At its
close, after everything traded: what spun-off shares were worth, on the shares held at the open of the ex-session; then
delistings, which turn the shares held into their last cash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from octopus.core.orders import Fill

AMENDS = "~"
"""Behind it, in an entry's id, the number of a correction of the entry that is named before it."""
UNRECORDED = "unrecorded:"
"""Begins the ids of entries that a person booked and no record of the broker has."""
OF_FILL = "fill:"
"""Begins the ids of entries that stand for fills which no order of ours caused."""

QUANTITY_STEP = Decimal("0.00000001")
"""The finest quantity that a ledger keeps."""


class EntryKind(StrEnum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    DIVIDEND = "dividend"
    SPLIT = "split"
    SYMBOL_CHANGE = "symbol_change"
    """The same shares under another name: one entry for each name."""
    SPIN_OFF = "spin_off"
    """What the shares of a new company were worth, as if sold at their first close."""
    DELISTING = "delisting"
    CHARGE = "charge"
    """A fee, a tax or interest, either way, that the broker books beside any trade."""
    ADOPTED = "adopted"
    """What the account held before we traded it; the broker has no record of it in our time."""
    MANUAL = "manual"
    """A correction by a person: a transfer, a trade busted or entered by hand."""

    @property
    def is_flow(self) -> bool:
        """Money the owner moved."""
        return self in (EntryKind.DEPOSIT, EntryKind.WITHDRAWAL)

    @property
    def is_told(self) -> bool:
        """What only the broker can tell us of."""
        return self.is_flow or self is EntryKind.CHARGE

    @property
    def is_action(self) -> bool:
        """A corporate action, which every bookkeeper learns of and numbers by itself."""
        return self in _ORDER


_ORDER = (
    EntryKind.SYMBOL_CHANGE, EntryKind.SPLIT, EntryKind.DIVIDEND, EntryKind.SPIN_OFF, EntryKind.DELISTING,
)  # fmt: skip
"""Of actions that take effect at once, which comes first: a dividend is told for one share as of the ex-date."""


@dataclass(frozen=True)
class Entry:
    """A movement of cash or shares that is not a fill.

    Attributes:
        entry_id: the bookkeeper's own id, unique within the account.
        quantity: change of shares; cash: change of cash, account currency.
        at: for a corporate action when it took effect (`CorporateAction`), whenever it was paid.
        basis: of an adopted holding, and of shares that came without cash, what they had cost, of the sign of
            ``quantity``; None for everything else.
        acquired: of shares that came without cash, when whoever held them before had acquired them; None: at ``at``.
    """

    entry_id: str
    kind: EntryKind
    instrument: str | None
    quantity: Decimal
    cash: Decimal
    at: datetime
    note: str = ""
    basis: Decimal | None = None
    acquired: date | None = None

    @property
    def is_transfer(self) -> bool:
        """Whether it moved shares by themselves, between this account and another: no trade."""
        return (
            self.kind is EntryKind.MANUAL and self.instrument is not None and bool(self.quantity) and not self.cash
            and not self.entry_id.startswith(OF_FILL)
        )  # fmt: skip


@dataclass(frozen=True)
class Told:
    """How far the records of a broker reach that tells them late, and the cash by them.

    Attributes:
        until: every fill and entry up to here is told; of later ones some may be.
        cash: after everything up to ``until``.
    """

    until: datetime
    cash: Decimal


@dataclass(frozen=True)
class Book:
    """One side's account of one account.

    Attributes:
        positions: shares by instrument, negative for a short; zero positions are absent.
        fills, entries: all of them, or those since an instant; both sides of a comparison must be cut alike.
        told: until when fills and entries are complete; None: until now. Cash and positions are always of now.
    """

    account: str
    cash: Decimal
    positions: Mapping[str, Decimal]
    fills: Sequence[Fill] = field(default=())
    entries: Sequence[Entry] = field(default=())
    told: Told | None = None

    def cut(self, since: datetime) -> Book:
        """The same book, with the fills and entries from ``since`` on."""
        fills = tuple(fill for fill in self.fills if fill.at >= since)
        return replace(self, fills=fills, entries=tuple(entry for entry in self.entries if entry.at >= since))


@dataclass(frozen=True)
class CorporateAction:
    """What a company did to its shares.

    Attributes:
        value: of a split new shares for one old; of a dividend cash for one share as of the ex-session; of a spin-off
            the worth of what one share brought; of a delisting the last cash for one share; of a change of symbol 1.
        at: when it takes effect: the open of the ex-session; for a delisting the close of its session, for a spin-off
            the close at which the new company was first priced.
        detail: the new name of a change of symbol; who was spun off; why an instrument was delisted.
        ex_at: of a spin-off, the open of the ex-session: who held the share then is paid. None: ``at``.
    """

    kind: EntryKind
    instrument: str
    value: Decimal
    at: datetime
    detail: str = ""
    ex_at: datetime | None = None

    @property
    def at_close(self) -> bool:
        return self.kind in (EntryKind.SPIN_OFF, EntryKind.DELISTING)


def positions_of(fills: Iterable[Fill], entries: Iterable[Entry]) -> dict[str, Decimal]:
    """Shares by instrument after all of them; zero positions are absent."""
    shares: dict[str, Decimal] = defaultdict(Decimal)
    for fill in fills:
        shares[fill.instrument] += fill.side.sign * fill.quantity
    for entry in entries:
        if entry.instrument is not None:
            shares[entry.instrument] += entry.quantity
    return {name: quantity for name, quantity in sorted(shares.items()) if quantity}


def cash_of(fills: Iterable[Fill], entries: Iterable[Entry]) -> Decimal:
    """Cash after all of them, account currency."""
    return sum((fill.cash_flow for fill in fills), Decimal(0)) + sum((entry.cash for entry in entries), Decimal(0))


def held_at(fills: Iterable[Fill], entries: Iterable[Entry], instant: datetime) -> dict[str, Decimal]:
    """Shares at a session's open, after its actions and before its trades; zero positions are absent."""
    return positions_of((f for f in fills if f.at < instant), (e for e in entries if e.at <= instant))


def fill_entry(fill: Fill, note: str = "") -> Entry:
    """A fill that no order of ours caused, as an entry by hand of the same shares and cash."""
    signed = fill.side.sign * fill.quantity
    return Entry(f"{OF_FILL}{fill.fill_id}", EntryKind.MANUAL, fill.instrument, signed, fill.cash_flow, fill.at, note)


def ends_orders(action: CorporateAction) -> str:
    """What an action did that ends every order in the instrument, whether any is held or not: its shares are counted in
    another unit, or are called otherwise, from then on. Empty where orders stand.
    """
    if action.kind is EntryKind.SPLIT:
        return f"{action.instrument} split {action.value} for 1"
    return f"{action.instrument} is {action.detail} now" if action.kind is EntryKind.SYMBOL_CHANGE else ""


def action_order(action: CorporateAction) -> tuple[datetime, int, str]:
    """Sort key: in order of time, of one time as the actions of a session come."""
    return action.at, _ORDER.index(action.kind), action.instrument


def opening_entries(
    actions: Iterable[CorporateAction],
    positions: Mapping[str, Decimal],
    last_close: Callable[[str], Decimal | None],
    lot: Decimal,
) -> list[Entry]:
    """What a session's changes of symbol, splits and dividends do to ``positions``; other actions are passed over.

    Args:
        positions: shares before the session, negative for a short.
        last_close: of one share before its actions, by its name on the session.
        lot: the smallest quantity the account may hold: 1 for whole shares.
    """
    due = sorted((action for action in actions if not action.at_close), key=action_order)
    changes = [action for action in due if action.kind is EntryKind.SYMBOL_CHANGE]
    # From the positions before any of them: the name that one instrument gives up may be another's new one.
    entries = [entry for change in changes for entry in _renamed(change, positions.get(change.instrument, Decimal(0)))]
    held = defaultdict(Decimal, positions)
    for entry in entries:
        held[str(entry.instrument)] += entry.quantity
    for action in due:
        if action.kind is not EntryKind.SYMBOL_CHANGE:
            moved = action_entry(action, held[action.instrument], last_close(action.instrument), lot)
            if moved is not None:
                entries.append(moved)
                held[action.instrument] += moved.quantity
    return entries


def closing_entries(
    actions: Iterable[CorporateAction], positions: Mapping[str, Decimal], entitled: Callable[[datetime, str], Decimal]
) -> list[Entry]:
    """What a session's spin-offs and delistings do to an account; other actions are passed over.

    Args:
        positions: shares after the session's trades, negative for a short.
        entitled: shares of an instrument held at an open (`held_at`).
    """
    entries: list[Entry] = []
    for action in sorted((action for action in actions if action.at_close), key=action_order):
        if action.kind is EntryKind.SPIN_OFF:
            held = entitled(action.ex_at or action.at, action.instrument)
            note = f"{action.value} a share, of {action.detail}"
            entries += _paid(action, held, Decimal(0), note)
        else:
            held = positions.get(action.instrument, Decimal(0))
            reason = f": {action.detail}" if action.detail else ""
            entries += _paid(action, held, -held, f"delisted at {action.value} a share{reason}")
    return entries


def _renamed(change: CorporateAction, held: Decimal) -> Iterable[Entry]:
    if not held or not change.detail:
        return ()
    note = f"{change.instrument} is {change.detail} now"
    return tuple(
        Entry(_entry_id(change, name), change.kind, name, quantity, Decimal(0), change.at, note)
        for name, quantity in ((change.instrument, -held), (change.detail, held))
    )


def _paid(action: CorporateAction, held: Decimal, quantity: Decimal, note: str) -> Iterable[Entry]:
    if not held:
        return ()
    entry_id = _entry_id(action, action.instrument)
    return (Entry(entry_id, action.kind, action.instrument, quantity, held * action.value, action.at, note),)


def _entry_id(action: CorporateAction, instrument: str) -> str:
    # Two of an instrument's spin-offs may first be priced on one day.
    of = f":{action.detail}" if action.kind in (EntryKind.SPIN_OFF, EntryKind.SYMBOL_CHANGE) else ""
    return f"{action.kind.value}:{instrument}:{action.at:%Y%m%d}{of}"


def action_entry(action: CorporateAction, held: Decimal, last_close: Decimal | None, lot: Decimal) -> Entry | None:
    """What a split or dividend does to ``held`` shares; None when nothing moves.

    Args:
        held: shares at the open of the ex-session, before this action, negative for a short.
        last_close: of one share before the action: a split's fraction of a share is paid in cash at it, divided by the
            split's ratio. Without one the fraction stays in the book.
        lot: the smallest quantity the account may hold: 1 for whole shares.
    """
    if not held:
        return None
    entry_id = _entry_id(action, action.instrument)
    if action.kind is EntryKind.DIVIDEND:
        cash = held * action.value
        return Entry(entry_id, action.kind, action.instrument, Decimal(0), cash, action.at, f"{action.value} a share")
    after = held * action.value
    whole = after.quantize(QUANTITY_STEP, ROUND_DOWN)
    cash = Decimal(0)
    if last_close is not None:
        whole = (after / lot).to_integral_value(ROUND_DOWN) * lot
        cash = ((after - whole) * last_close / action.value).quantize(QUANTITY_STEP)
    note = f"{action.value} for 1" + (f", fraction {after - whole} paid in cash" if cash else "")
    return Entry(entry_id, action.kind, action.instrument, whole - held, cash, action.at, note)
