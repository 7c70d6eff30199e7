"""Exchange sessions and the trading clock's arithmetic.

Belongs here: which days trade, when a session opens, closes, is decided and is executed, and which session a
timestamp belongs to. Does not: what time it is now (resources/clock.py).

All instants are timezone-aware UTC; a session is the exchange-local date. The calendar itself is the library
`exchange_calendars`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import exchange_calendars
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from octopus.core.errors import MissingDataError
from octopus.core.types import DateArray

FIRST_SESSION = "1990-01-02"
# Beyond the calendar's known future rules only; nothing here asks the wall clock.
LAST_DAY = "2040-12-31"
DECISION_DELAY = timedelta(minutes=30)
"""From the close to the decision: vendors publish the day's bar within this time."""


@lru_cache(maxsize=4)
def _calendar(exchange: str) -> exchange_calendars.ExchangeCalendar:
    return exchange_calendars.get_calendar(exchange, start=FIRST_SESSION, end=LAST_DAY)


@lru_cache(maxsize=4)
def _days(exchange: str) -> DateArray:
    return np.asarray(_calendar(exchange).sessions.values, dtype="datetime64[D]")


@lru_cache(maxsize=4)
def _decisions(exchange: str) -> NDArray[np.datetime64]:
    """Decision instants in UTC, without a zone, in the calendar's order."""
    instants = (_calendar(exchange).closes + DECISION_DELAY).dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(instants.to_numpy(), dtype="datetime64[ns]")


@dataclass(frozen=True)
class Sessions:
    """The sessions of one exchange (ISO 10383 code, e.g. ``XNYS``)."""

    exchange: str = "XNYS"

    def between(self, start: date, end: date) -> DateArray:
        """Session dates from ``start`` to ``end``, both inclusive, ``datetime64[D]``."""
        values = _days(self.exchange)
        low = np.searchsorted(values, np.datetime64(start, "D"), side="left")
        high = np.searchsorted(values, np.datetime64(end, "D"), side="right")
        return values[low:high]

    def is_session(self, day: date) -> bool:
        return len(self.between(day, day)) == 1

    def next(self, session: date, count: int = 1) -> date:
        """The ``count``-th session after ``session`` (which may be any day)."""
        values = _days(self.exchange)
        row = int(np.searchsorted(values, np.datetime64(session, "D"), side="right")) + count - 1
        if not 0 <= row < len(values):
            raise MissingDataError(f"{self.exchange} has no session {count} after {session} in its calendar")
        return _to_date(values[row])

    def previous(self, session: date, count: int = 1) -> date:
        """The ``count``-th session before ``session`` (which may be any day)."""
        values = _days(self.exchange)
        row = int(np.searchsorted(values, np.datetime64(session, "D"), side="left")) - count
        if not 0 <= row < len(values):
            raise MissingDataError(f"{self.exchange} has no session {count} before {session} in its calendar")
        return _to_date(values[row])

    def open_utc(self, session: date) -> datetime:
        return _to_utc(_calendar(self.exchange).session_open(pd.Timestamp(session)))

    def close_utc(self, session: date) -> datetime:
        return _to_utc(_calendar(self.exchange).session_close(pd.Timestamp(session)))

    def closes_utc(self, sessions: DateArray) -> pd.DatetimeIndex:
        """Closing instants of many sessions at once, timezone-aware UTC, shape (len(sessions),)."""
        closes = _calendar(self.exchange).closes
        return pd.DatetimeIndex(closes.loc[pd.DatetimeIndex(sessions)])

    def opens_utc(self, sessions: DateArray) -> pd.DatetimeIndex:
        """Opening instants of many sessions at once, timezone-aware UTC, shape (len(sessions),)."""
        opens = _calendar(self.exchange).opens
        return pd.DatetimeIndex(opens.loc[pd.DatetimeIndex(sessions)])

    def decisions_utc(self, sessions: DateArray) -> pd.DatetimeIndex:
        """Decision instants of many sessions at once, timezone-aware UTC, shape (len(sessions),)."""
        return self.closes_utc(sessions) + DECISION_DELAY

    def decision_utc(self, session: date) -> datetime:
        """When session T is decided: its close plus `DECISION_DELAY`. What is known later belongs to T+1."""
        return self.close_utc(session) + DECISION_DELAY

    def session_of(self, instants: pd.DatetimeIndex) -> DateArray:
        """For each instant, the first session whose decision could use it, shape (len(instants),)."""
        decided = _decisions(self.exchange)
        rows = np.searchsorted(decided, instants.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[ns]"))
        return _days(self.exchange)[rows]

    def trade_date(self, instant: datetime) -> date:
        """The session that a trade at ``instant`` belongs to: that of the exchange's local day, or the next one.

        Prints of the closing auction come seconds to minutes after the bell; an instant at a close belongs to it.
        """
        local = instant.astimezone(_calendar(self.exchange).tz).date()
        before = self.previous(local)
        if instant <= self.close_utc(before):
            return before
        return local if self.is_session(local) else self.next(local)

    def last_decided(self, now: datetime) -> date:
        """The latest session whose decision time has come at ``now``."""
        decided = _decisions(self.exchange)
        instant = np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "ns")
        row = int(np.searchsorted(decided, instant, side="right")) - 1
        if row < 0:
            raise MissingDataError(f"{self.exchange} has no decided session before {now.isoformat()}")
        return _to_date(_days(self.exchange)[row])


def _to_date(value: np.datetime64) -> date:
    return pd.Timestamp(value).date()


def _to_utc(value: pd.Timestamp) -> datetime:
    return value.tz_convert("UTC").to_pydatetime()
