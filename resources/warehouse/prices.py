"""Recorded prices for the order path: what the paper broker fills with, what our own book is worth.

Belongs here: the answer to `PriceFeed` from raw.bars and raw.corporate_actions. Does not: research's panels (store.py).

Sessions are the clock's. An instrument with a calendar of its own is at each of them what the panel says it is
(octopus/market_data/clock.py), so that orders fill at the prices that the simulator takes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from octopus.core.sessions import Calendars, Sessions
from octopus.execution.book import CorporateAction, EntryKind
from octopus.market_data.clock import last_on_clock, on_clock, place_on_clock
from resources.price_feed import Bar
from resources.warehouse.store import Warehouse

PRICE_STEP = Decimal("0.000001")
"""Prices are stored as binary floats; this is the decimal they mean."""


@dataclass(frozen=True)
class WarehousePrices:
    """`PriceFeed` over one source's bars, each in its latest version.

    Attributes:
        warehouse: in a role that may read raw. source: whose bars. clock: whose sessions are asked for.
    """

    warehouse: Warehouse
    source: str
    clock: Sessions

    def bar(self, instrument: str, session: date) -> Bar | None:
        """The bar of ``session``; None where there is none."""
        own = self._calendars().of(instrument)
        return self._bar(instrument, session) if own == self.clock else self._bar_on_clock(instrument, session, own)

    def _bar(self, instrument: str, session: date) -> Bar | None:
        rows = self.warehouse.rows(
            """
            select open, close from raw.bars
            where source = %s and instrument = %s and session = %s order by batch_id desc limit 1
            """,
            [self.source, instrument, session],
        )
        if not rows:
            return None
        opening = rows[0]["open"]
        return Bar(None if opening is None else decimal_price(opening), decimal_price(rows[0]["close"]))

    def _bar_on_clock(self, instrument: str, session: date, own: Sessions) -> Bar | None:
        last = last_on_clock(session, own, self.clock)
        first = own.next(last_on_clock(self.clock.previous(session), own, self.clock))
        bars = self.warehouse.read(
            """
            select distinct on (session) instrument, session, open, high, low, close, volume, 1::float8 as split_ratio,
                0::float8 as dividend
            from raw.bars where source = $1 and instrument = $2 and session between $3 and $4
            order by session, batch_id desc
            """,
            [self.source, instrument, first, last],
        )
        rows = on_clock(bars, self._calendars(), session).to_dicts()
        if not rows:
            return None
        opening = rows[0]["open"]
        return Bar(None if opening is None else decimal_price(opening), decimal_price(rows[0]["close"]))

    def _calendars(self) -> Calendars:
        return self.warehouse.calendars(self.source, self.clock)

    def last_session(self) -> date | None:
        """The latest session of which any bar is stored; None before the first.

        Of instruments that keep the clock, where any does: a coin's Sunday says nothing of Monday's shares.
        """
        calendars = self._calendars()
        elsewhere = calendars.elsewhere()
        latest: date | None = self.warehouse.scalar(
            "select max(session) from raw.bars where source = %s and not instrument = any(%s)",
            [self.source, list(elsewhere)],
        )
        if latest is not None or not elsewhere:
            return latest
        rows = self.warehouse.rows(
            "select instrument, max(session) as session from raw.bars where source = %s group by instrument",
            [self.source],
        )
        return max((self._complete(row["session"], elsewhere[row["instrument"]]) for row in rows), default=None)

    def _complete(self, session: date, own: Sessions) -> date:
        """The clock's latest session whose last bar is no later than ``own``'s ``session``."""
        place = place_on_clock(session, own, self.clock)
        return place if last_on_clock(place, own, self.clock) <= session else self.clock.previous(place)

    def last_close(self, instrument: str, session: date) -> Decimal | None:
        """The latest close at or before ``session``; None before the instrument's first bar."""
        session = last_on_clock(session, self._calendars().of(instrument), self.clock)
        close = self.warehouse.scalar(
            """
            select close from raw.bars
            where source = %s and instrument = %s and session <= %s order by session desc, batch_id desc limit 1
            """,
            [self.source, instrument, session],
        )
        return None if close is None else decimal_price(close)

    def actions(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        """Splits and dividends of ``instruments`` whose ex-session opens after ``after``, by ``until``."""
        rows = self.warehouse.rows(
            """
            select distinct on (instrument, ts, kind) instrument, ts, session, kind, value
            from raw.corporate_actions
            where source = %s and instrument = any(%s) and ts > %s and ts <= %s and kind in ('split', 'dividend')
            order by instrument, ts, kind, batch_id desc
            """,
            [self.source, sorted(instruments), after, until],
        )
        ordered = sorted(rows, key=lambda row: (row["ts"], row["instrument"], row["kind"]))
        return [
            CorporateAction(EntryKind(row["kind"]), row["instrument"], decimal_price(row["value"]), row["ts"])
            for row in ordered
        ]


def decimal_price(value: float) -> Decimal:
    """The decimal that a stored binary price means."""
    return Decimal(repr(value)).quantize(PRICE_STEP)
