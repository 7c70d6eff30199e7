"""Tax lots: shares bought (or sold short) together, what they cost, and what closing them brought.

Belongs here: the value types that the execution group (which keeps lots) and the compliance group (which adjusts them
for wash sales) both speak. Does not: choosing and closing lots (octopus/execution/lots.py), the wash-sale rule
(octopus/compliance).

One sign for both directions: ``quantity`` is positive for shares held and negative for shares sold short, ``cost`` is
the cash that opening took (negative where a short sale brought cash in), ``proceeds`` the cash that closing brought
(negative where covering a short took cash). So the gain is ``proceeds - cost`` either way. Amounts are `Decimal` in the
account's currency, commissions included; where one is divided, the last part takes what rounding leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True)
class Lot:
    """Open shares of one acquisition.

    Attributes:
        lot_id: the fill that opened it; parts of it that stay open keep the id.
        instrument: its name of today (changes of symbol applied).
        quantity: shares still open, signed, in the units of today (splits applied).
        cost: cash that opening the open shares took, commissions included, without ``wash_sale``.
        acquired: trade date of the opening fill; of shares that a transfer brought, when they had been acquired.
        held_from: when the holding period begins: ``acquired``, or earlier where a wash sale passes the period of the
            shares that were sold on to these (26 USC 1223(3)).
        wash_sale: disallowed losses of earlier sales, added to the basis (26 USC 1091(d)); never negative.
    """

    lot_id: str
    instrument: str
    quantity: Decimal
    cost: Decimal
    acquired: date
    held_from: date
    wash_sale: Decimal = Decimal(0)

    @property
    def basis(self) -> Decimal:
        """Cost with the losses that wash sales passed on to it, for all open shares."""
        return self.cost + self.wash_sale

    @property
    def known_as(self) -> str:
        """Its instrument's name of today."""
        return self.instrument

    @property
    def shares(self) -> Decimal:
        """``quantity``, which is in the units of today."""
        return self.quantity

    @property
    def is_short(self) -> bool:
        return self.quantity < 0


@dataclass(frozen=True)
class Disposal:
    """Shares of one lot closed by one fill, or by an entry that takes them.

    Attributes:
        fill_id: the closing fill or entry. lot_id: the lot that it closed, or a part of it.
        instrument: its name on that day.
        quantity: shares closed, signed as the lot's: positive for a sale of shares held.
        proceeds: cash that closing brought, commissions taken off; negative for covering a short.
        basis: of the closed shares, wash-sale adjustments of earlier sales included.
        disposed: trade date of the closing fill. settles: the day its cash and shares change hands.
        disallowed: the part of the loss that a wash sale denies, positive; it is in a replacement lot's basis.
        renamed: what its instrument is called today; None: as it was.
        ratio: shares of today for one of that day, by the splits since.
    """

    fill_id: str
    lot_id: str
    instrument: str
    quantity: Decimal
    proceeds: Decimal
    basis: Decimal
    acquired: date
    held_from: date
    disposed: date
    settles: date
    disallowed: Decimal = Decimal(0)
    renamed: str | None = None
    ratio: Decimal = Decimal(1)

    @property
    def known_as(self) -> str:
        """Its instrument's name of today."""
        return self.renamed or self.instrument

    @property
    def shares(self) -> Decimal:
        """``quantity`` in the units of today."""
        return self.quantity * self.ratio

    @property
    def economic_gain(self) -> Decimal:
        """What it gained, before any loss is disallowed; negative for a loss."""
        return self.proceeds - self.basis

    @property
    def gain(self) -> Decimal:
        """The gain or loss that is recognised."""
        return self.economic_gain + self.disallowed

    @property
    def is_long_term(self) -> bool:
        """Held for more than one year (26 USC 1222), counted from the day after ``held_from``; a short never is."""
        return self.quantity > 0 and self.disposed > _year_after(self.held_from)


def _year_after(day: date) -> date:
    try:
        return day.replace(year=day.year + 1)
    except ValueError:
        # 29 February: the year ends on the last day of the next February.
        return day.replace(year=day.year + 1, day=28)
