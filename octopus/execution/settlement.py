"""When a trade settles: the day on which cash and shares change hands, and until when its lots may be identified.

Belongs here: the settlement cycles of exchanges and their history. Does not: sessions (octopus/core/sessions.py).

Covered: securities in the United States with the history of the rule; what trades around the clock, which settles at
once; exchanges of the European Union, the United Kingdom and Switzerland, T+2 until they go to T+1 on 11 October 2027.
Not covered: every other exchange, for which two days are assumed; Europe before 6 October 2014 (T+3 mostly); holidays
of the payment systems that are no holidays of the exchange, outside the United States; US government securities,
options and funds (T+1 before 2024), and trades for which both sides agreed on another day.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from octopus.core.sessions import canonical

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

_UNITED_STATES = ((date(2024, 5, 28), 1), (date(2017, 9, 5), 2), (date(1995, 6, 7), 3))
"""From which trade date on a trade settles how many days later (17 CFR 240.15c6-1 and its amendments)."""
_BEFORE = 5
_EUROPE = ((date(2027, 10, 11), 1),)
"""Regulation (EU) 909/2014, article 5(2), as amended in 2025; the United Kingdom and Switzerland on the same day."""
_ELSEWHERE = 2
_AMERICAN = "XNYS"
"""The calendar that all stock exchanges of the United States keep."""
_EUROPEAN = frozenset(
    {
        "XAMS", "XBRU", "XPAR", "XLIS", "XDUB", "XOSL", "XMIL", "XMAD", "XETR", "XFRA", "XDUS", "XHAM", "XSTU", "XWBO",
        "XHEL", "XSTO", "XCSE", "XICE", "XWAR", "XPRA", "XBRA", "XBUD", "XBSE", "XLUX", "ASEX", "XCYS", "XTAL", "XRIS",
        "XLIT", "XLJU", "XZAG", "XLON", "XSWX",
    }
)  # fmt: skip
_AT_ONCE = "24/7"
_OCTOBER, _NOVEMBER, _MONDAY = 10, 11, 0


def settlement_date(sessions: Sessions, traded: date) -> date:
    """The settlement date of a trade on ``traded`` at the exchange of ``sessions``; the cycles are this module's.

    In the United States days on which the exchange trades and banks are closed (Columbus Day, Veterans Day) do not
    count.

    Raises:
        MissingDataError: the calendar ends before.
    """
    exchange = canonical(sessions.exchange) or sessions.exchange
    american = exchange == _AMERICAN
    day, left = traded, _days(exchange, traded)
    while left:
        day = sessions.next(day)
        left -= not (american and _banks_closed(day))
    return day


def _days(exchange: str, traded: date) -> int:
    if exchange == _AT_ONCE:
        return 0
    if exchange == _AMERICAN:
        return next((days for since, days in _UNITED_STATES if traded >= since), _BEFORE)
    cycles = _EUROPE if exchange in _EUROPEAN else ()
    return next((days for since, days in cycles if traded >= since), _ELSEWHERE)


def identifiable_until(sessions: Sessions, at: datetime) -> datetime:
    """Until when shares may be identified for a sale that was executed ``at``: no later than its settlement date.

    That is 26 CFR 1.1012-1(c)(8), read as the close of that day's session. What settles at once had to be identified
    when it was sold (for coins: 1.1012-1(j)).
    """
    traded = sessions.trade_date(at)
    settles = settlement_date(sessions, traded)
    return at if settles == traded else sessions.close_utc(settles)


def _banks_closed(day: date) -> bool:
    if day.month == _OCTOBER and day.weekday() == _MONDAY:
        return 8 <= day.day <= 14
    # Veterans Day; on a Sunday it is kept on the Monday after it.
    veterans = date(day.year, _NOVEMBER, 11)
    kept = veterans + timedelta(days=1) if veterans.weekday() == 6 else veterans
    return day == kept
