"""Adopting what an account held before we traded it: the broker's holdings become the opening of our book.

Belongs here: which entries that takes, and what may not be adopted. Does not: asking a broker or a person.

An adopted holding is a contribution in kind: the NAV takes it as a flow at the session's closing price, a lot opens at
what it had cost. The broker's records of the time before are no part of our book; from then on the books are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.execution.book import Book, Entry, EntryKind

_STEP = Decimal("0.00000001")


class AdoptionError(OctopusError):
    """The account cannot be adopted as it is; the message says why and what to do."""


@dataclass(frozen=True)
class HeldBefore:
    """What the broker says the account holds now.

    Attributes:
        costs: average cost of one share, of what the broker or a person told.
    """

    cash: Decimal
    positions: Mapping[str, Decimal]
    costs: Mapping[str, Decimal]


def adoption_entries(
    ours: Book, theirs: HeldBefore, tradable: Collection[str], at: datetime, note: str
) -> tuple[Entry, ...]:
    """What makes our book the broker's: none where it is that already.

    Args:
        ours: our whole book, without a fill of an order of ours. tradable: the instruments of the universe.
        note: who adopted it, and why.

    Raises:
        AdoptionError: our book has fills, a holding is no instrument of the universe, or its cost is not known.
    """
    names = sorted({*ours.positions, *theirs.positions})
    missing = {name: theirs.positions.get(name, Decimal(0)) - ours.positions.get(name, Decimal(0)) for name in names}
    missing = {name: quantity for name, quantity in missing.items() if quantity}
    cash = theirs.cash - ours.cash
    if not missing and not cash:
        return ()
    if ours.fills:
        raise AdoptionError(
            f"account {ours.account} has traded by orders of ours: what differs now is a break and no opening; look at "
            "execution/reconciliation"
        )
    if foreign := [name for name in missing if name not in tradable]:
        raise AdoptionError(
            f"account {ours.account} holds {', '.join(foreign)}, which no symbol of universe.symbols means: add the "
            "symbol (and its contract, if the broker numbers it otherwise), or move the holding out of the account"
        )
    if unknown := [name for name in missing if name not in theirs.costs]:
        raise AdoptionError(
            f"the broker does not tell what {', '.join(unknown)} cost a share; give it with --cost {unknown[0]}=…"
        )
    held = [
        Entry(
            f"adopted:{name}", EntryKind.ADOPTED, name, quantity, Decimal(0), at, note,
            (quantity * theirs.costs[name]).quantize(_STEP),
        )
        for name, quantity in missing.items()
    ]  # fmt: skip
    money = [Entry("adopted:cash", EntryKind.ADOPTED, None, Decimal(0), cash, at, note)] if cash else []
    return (*held, *money)


def described(entry: Entry) -> str:
    """One line for the person who is asked."""
    if entry.instrument is None or entry.basis is None:
        return f"cash {plain(entry.cash)}"
    return f"{plain(entry.quantity)} {entry.instrument}, cost {plain(entry.basis)}"
