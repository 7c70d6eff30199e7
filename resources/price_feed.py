"""Recorded prices, as the paper broker fills with them and as our own book is valued.

Belongs here: the question. Does not: the answer (the warehouse gives one to the assets, tests give theirs).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from octopus.execution.book import CorporateAction


@dataclass(frozen=True)
class Conversion:
    """How money of an instrument becomes the account's.

    Attributes:
        rate: account currency for one unit of what the instrument is quoted in, at a session.
        is_foreign: whether that is another currency, so that a broker converts it; pence are pounds.
    """

    rate: Decimal = Decimal(1)
    is_foreign: bool = False


HOME = Conversion()
"""Of an instrument that is quoted in the account's currency."""


@dataclass(frozen=True)
class Bar:
    """Prices of one session, as printed on the day; ``open``, ``high`` and ``low`` are None where the data has none."""

    open: Decimal | None
    close: Decimal
    conversion: Conversion = HOME
    high: Decimal | None = None
    low: Decimal | None = None

    @property
    def average(self) -> Decimal:
        """The mean of high, low and close, which stands in for the session's volume-weighted average price; the close
        where the range is not known. The simulator's rule, `octopus.backtest.working.average`."""
        return self.close if self.high is None or self.low is None else (self.high + self.low + self.close) / 3


class PriceFeed(Protocol):
    """Prices and corporate actions; but for bars, which are as printed, money is in the account's currency, at the rate
    of the session it is of. Whoever asks sees to it that the session is over: a feed does not know the time."""

    def bar(self, instrument: str, session: date) -> Bar | None:
        """The bar of ``session`` as it counts; None where there is none, or where a verdict keeps it out."""
        ...

    def kept_out(self, instrument: str, session: date) -> str:
        """Why the bar of ``session`` prices nothing though one is stored; empty where nothing is kept out."""
        ...

    def conversion(self, instrument: str, session: date) -> Conversion | None:
        """How its money is converted on ``session``; None before the first rate."""
        ...

    def last_session(self) -> date | None:
        """The latest session of which any bar is stored; None before the first."""
        ...

    def last_close(self, instrument: str, session: date, named: date | None = None) -> Decimal | None:
        """The latest close that counts at or before ``session``, in shares of it; None before the first bar.

        Args:
            instrument: as it is called on ``named`` (None: on ``session``); closes under its earlier names count, and
                none of whoever bore the name before it.
        """
        ...

    def refusal(self, instrument: str, session: date) -> str:
        """Why nobody may open or enlarge a position in ``instrument`` on ``session``; empty where one may."""
        ...

    def actions(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        """Actions of ``instruments`` that take effect after ``after``, by ``until``, each under its name of that day.

        Also those of the names that ``instruments`` change to meanwhile. A spin-off takes effect once it has a worth.
        """
        ...

    def exchanges(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        """Changes of symbol and splits of ``instruments`` in that time, and those of what they changed to, however
        often."""
        ...
