"""Counting day trades: what was opened and closed again within one session.

Belongs here: the count over fills. Does not: the rule on it (margin_checks.py).

FINRA 4210(f)(8)(B): a purchase and a sale, or a short sale and its cover, of one security on one day. Several fills
that close what was opened before are one day trade; opening again and closing again is another. Shares held from the
day before that are sold, and bought back, are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from octopus.core.orders import Fill

_NOTHING = Decimal(0)


@dataclass
class _Day:
    """One instrument's session so far: shares held from before, and those opened today, signed."""

    held: Decimal
    opened: Decimal = _NOTHING
    trades: int = 0
    closing: bool = False

    def take(self, signed: Decimal) -> None:
        if self.opened * signed < 0:
            closed = min(abs(self.opened), abs(signed))
            self.trades += not self.closing
            self.closing = True
            rest = abs(signed) - closed
            self.opened += closed if signed > 0 else -closed
            signed = rest if signed > 0 else -rest
        if signed and self.held * signed < 0:
            # Shares of the day before go without a day trade.
            gone = min(abs(self.held), abs(signed))
            self.held += gone if signed > 0 else -gone
            signed += -gone if signed > 0 else gone
        if signed:
            self.opened += signed
            self.closing = False


def count(
    fills: Sequence[Fill], sessions: Sequence[date], held: Mapping[str, Decimal], today: date
) -> tuple[int, dict[str, Decimal]]:
    """Day trades over all fills, and what ``today`` opened and still holds, signed shares by instrument.

    Args:
        fills: oldest first, whole sessions. sessions: of each fill. held: shares before the first fill.
    """
    positions, trades = dict(held), 0
    days: dict[tuple[date, str], _Day] = {}
    for fill, session in zip(fills, sessions, strict=True):
        name, signed = fill.instrument, fill.quantity * fill.side.sign
        day = days.setdefault((session, name), _Day(positions.get(name, _NOTHING)))
        day.take(signed)
        positions[name] = positions.get(name, _NOTHING) + signed
    trades = sum(day.trades for day in days.values())
    return trades, {name: day.opened for (session, name), day in days.items() if session == today and day.opened}
