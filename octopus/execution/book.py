"""A book: what an account holds and how it came to hold it. We keep one and the broker keeps one.

Belongs here: entries, books, and deriving positions and cash from fills and entries. Does not: comparing books
(reconcile.py), valuing them (nav.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Literal

from octopus.core.orders import Fill

QUANTITY_STEP = Decimal("0.00000001")
"""The finest quantity that a ledger keeps."""


class EntryKind(StrEnum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    DIVIDEND = "dividend"
    SPLIT = "split"
    MANUAL = "manual"
    """A correction by a person: a transfer, a trade busted or entered by hand."""

    @property
    def is_flow(self) -> bool:
        """Money the owner moved: only the broker can tell us of it."""
        return self in (EntryKind.DEPOSIT, EntryKind.WITHDRAWAL)


@dataclass(frozen=True)
class Entry:
    """A movement of cash or shares that is not a fill.

    Attributes:
        entry_id: the bookkeeper's own id, unique within the account.
        quantity: change of shares; cash: change of cash, account currency.
        at: for a dividend or split the open of the ex-session, whenever it was paid.
    """

    entry_id: str
    kind: EntryKind
    instrument: str | None
    quantity: Decimal
    cash: Decimal
    at: datetime
    note: str = ""


@dataclass(frozen=True)
class Book:
    """One side's account of one account.

    Attributes:
        positions: shares by instrument, negative for a short; zero positions are absent.
        fills, entries: all of them, or those since an instant; both sides of a comparison must be cut alike.
    """

    account: str
    cash: Decimal
    positions: Mapping[str, Decimal]
    fills: Sequence[Fill] = field(default=())
    entries: Sequence[Entry] = field(default=())


@dataclass(frozen=True)
class CorporateAction:
    """A split (``value`` new shares for one old) or dividend (``value`` cash for one share as of the ex-session).

    Attributes:
        at: the open of the ex-session.
    """

    kind: EntryKind
    instrument: str
    value: Decimal
    at: datetime


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


def action_order(action: CorporateAction) -> tuple[datetime, str, bool]:
    """Sort key: a split comes before a dividend of the same day, which is told for one share as of the ex-date."""
    return action.at, action.instrument, action.kind is not EntryKind.SPLIT


def action_entry(action: CorporateAction, held: Decimal, last_close: Decimal | None, lot: Decimal) -> Entry | None:
    """What ``action`` does to ``held`` shares; None when nothing moves.

    Args:
        held: shares at the open of the ex-session, before this action, negative for a short.
        last_close: of one share before the action: a split's fraction of a share is paid in cash at it, divided by the
            split's ratio. Without one the fraction stays in the book.
        lot: the smallest quantity the account may hold: 1 for whole shares.
    """
    if not held:
        return None
    entry_id = f"{action.kind.value}:{action.instrument}:{action.at:%Y%m%d}"
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


def plain(number: Decimal, sign: Literal["", "+"] = "") -> str:
    """A quantity or amount for people: no exponent, no trailing zeros, with ``+`` if asked for."""
    return f"{number.normalize():{sign}f}"
