"""Recorded prices for the order path: what the paper broker fills with, what our own book is worth.

Belongs here: the answer to `PriceFeed` from raw.bars and raw.corporate_actions. Does not: research's panels (store.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from octopus.execution.book import CorporateAction, EntryKind
from resources.price_feed import Bar
from resources.warehouse.store import Warehouse

PRICE_STEP = Decimal("0.000001")
"""Prices are stored as binary floats; this is the decimal they mean."""


@dataclass(frozen=True)
class WarehousePrices:
    """`PriceFeed` over one source's bars, each in its latest version.

    Attributes:
        warehouse: in a role that may read raw. source: whose bars.
    """

    warehouse: Warehouse
    source: str

    def bar(self, instrument: str, session: date) -> Bar | None:
        """The bar of ``session``; None where there is none."""
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

    def last_session(self) -> date | None:
        """The latest session of which any bar is stored; None before the first."""
        latest: date | None = self.warehouse.scalar(
            "select max(session) from raw.bars where source = %s", [self.source]
        )
        return latest

    def last_close(self, instrument: str, session: date) -> Decimal | None:
        """The latest close at or before ``session``; None before the instrument's first bar."""
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
