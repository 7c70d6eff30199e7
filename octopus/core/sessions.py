"""Exchange sessions and the trading clock's arithmetic.

Belongs here: which days trade, when a session opens, closes, is decided and is executed, how many there are in a year,
and which session a timestamp belongs to; whose calendar an instrument keeps. Does not: what time it is now
(resources/clock.py), what bars of one calendar are on another (octopus/market_data/clock.py).

All instants are timezone-aware UTC; a session is the exchange-local date. The calendar itself is the library
`exchange_calendars`. Its ``24/7`` has a session for each UTC day, which opens at 00:00 and closes at 24:00, the very
instant at which the next one opens; ``24/5`` leaves out Saturdays and Sundays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Protocol

import exchange_calendars
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from octopus.core.errors import MissingDataError
from octopus.core.types import DateArray

EXCHANGE = "XNYS"
"""The calendar where none is named."""

FIRST_SESSION = "1990-01-02"
# Beyond the calendar's known future rules only; nothing here asks the wall clock.
LAST_DAY = "2040-12-31"
DECISION_DELAY = timedelta(minutes=30)
"""From the close to the decision: vendors publish the day's bar within this time."""


_YEARS = (1993, 2020)
"""A whole cycle of weekdays and leap days: over it the sessions of a year are counted."""
_CACHED = 16


@lru_cache(maxsize=_CACHED)
def _calendar(exchange: str) -> exchange_calendars.ExchangeCalendar:
    try:
        return exchange_calendars.get_calendar(exchange, start=FIRST_SESSION, end=LAST_DAY)
    except ValueError:  # the library's calendar begins later or ends earlier, as Tokyo's does
        known = exchange_calendars.get_calendar(exchange)
        first, last = (
            chosen(pd.Timestamp(day), bound) if bound is not None else pd.Timestamp(day)
            for chosen, day, bound in ((max, FIRST_SESSION, known.bound_min()), (min, LAST_DAY, known.bound_max()))
        )
        return exchange_calendars.get_calendar(exchange, start=first, end=last)


@lru_cache(maxsize=_CACHED)
def _days(exchange: str) -> DateArray:
    return np.asarray(_calendar(exchange).sessions.values, dtype="datetime64[D]")


@lru_cache(maxsize=_CACHED)
def _decisions(exchange: str) -> NDArray[np.datetime64]:
    """Decision instants in UTC, without a zone, in the calendar's order."""
    instants = (_calendar(exchange).closes + DECISION_DELAY).dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(instants.to_numpy(), dtype="datetime64[ns]")


@lru_cache(maxsize=_CACHED)
def _per_year(exchange: str) -> int:
    first = max(_YEARS[0], _to_date(_days(exchange)[0]).year + 1)
    counted = Sessions(exchange).between(date(first, 1, 1), date(_YEARS[1], 12, 31))
    return round(len(counted) / (_YEARS[1] - first + 1))


@lru_cache(maxsize=_CACHED)
def _is_continuous(exchange: str) -> bool:
    opens = _calendar(exchange).opens.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    return bool((opens[1:] <= _decisions(exchange)[:-1]).any())


# Asked for each order of each session, and an index of pandas takes tens of microseconds.
@lru_cache(maxsize=_CACHED)
def _hours(exchange: str) -> dict[date, tuple[datetime, datetime]]:
    """Opening and closing instant of every session, UTC."""
    calendar = _calendar(exchange)
    hours = (pd.DatetimeIndex(each).tz_convert("UTC").to_pydatetime() for each in (calendar.opens, calendar.closes))
    return dict(zip(_days(exchange).astype(object).tolist(), zip(*hours, strict=True), strict=True))


def _hours_of(exchange: str, session: date) -> tuple[datetime, datetime]:
    known = _hours(exchange).get(session)
    if known is None:
        raise MissingDataError(f"{session} is no session of {exchange}: ask for one of its sessions")
    return known


@lru_cache(maxsize=_CACHED)
def canonical(exchange: str) -> str | None:
    """The calendar's name of an exchange, ``XNYS`` for XNAS, ARCX or NYSE, which keep its sessions; None: no calendar.

    Known names are those of `exchange_calendars`: ISO 10383 codes, and ``24/7`` and ``24/5``.
    """
    try:
        return str(exchange_calendars.resolve_alias(exchange))
    except exchange_calendars.errors.InvalidCalendarName:
        return None


@dataclass(frozen=True)
class Sessions:
    """The sessions of one exchange (ISO 10383 code, e.g. ``XNYS``, or ``24/7``)."""

    exchange: str = EXCHANGE

    def of(self, instrument: str | None) -> Sessions:
        """These, whatever the instrument: as `Calendars.of` where all keep one calendar."""
        return self

    @property
    def per_year(self) -> int:
        """Sessions in a year, rounded: 252 of XNYS, 365 of 24/7. What is annualised, is annualised with it."""
        return _per_year(self.exchange)

    @property
    def continuous(self) -> bool:
        """Whether a session opens before the one before it is decided, as where trading never ends.

        No opening auction can then execute a decision: the next session's close is the first price that can.
        """
        return _is_continuous(self.exchange)

    @property
    def timezone(self) -> str:
        """IANA name of the zone whose dates the sessions are."""
        return str(_calendar(self.exchange).tz)

    @property
    def on_weekends(self) -> bool:
        """Whether any session is a Saturday or Sunday."""
        return bool((~np.is_busday(_days(self.exchange))).any())

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
        return _hours_of(self.exchange, session)[0]

    def close_utc(self, session: date) -> datetime:
        return _hours_of(self.exchange, session)[1]

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


class KeepsCalendars(Protocol):
    """Tells each instrument's sessions: `Sessions` the same of all, `Calendars` each its own."""

    def of(self, instrument: str | None) -> Sessions: ...


@dataclass(frozen=True)
class Calendars:
    """The clock that everything is decided by, and the calendar that each instrument keeps.

    Attributes:
        clock: the universe's. exchanges: by instrument, as its description names it. One without a calendar (a code
            that only its vendor knows) keeps the clock.
    """

    clock: Sessions
    exchanges: Mapping[str, str] = field(default_factory=dict)

    def of(self, instrument: str | None) -> Sessions:
        """The calendar of an instrument; the clock for one that nobody described, and for None, the whole source."""
        return calendar_of(self.exchanges.get(instrument or ""), self.clock)

    def elsewhere(self) -> dict[str, Sessions]:
        """The instruments that keep other sessions than the clock, each with its calendar."""
        found = {name: calendar_of(exchange, self.clock) for name, exchange in self.exchanges.items()}
        return {name: calendar for name, calendar in found.items() if calendar != self.clock}


def calendar_of(exchange: str | None, clock: Sessions) -> Sessions:
    """The sessions of ``exchange``: those of ``clock`` where it keeps the same ones, or has no calendar."""
    name = canonical(exchange) if exchange else None
    return clock if name is None or name == canonical(clock.exchange) else Sessions(name)


def _to_date(value: np.datetime64) -> date:
    day: date = value.astype("datetime64[D]").item()
    return day
