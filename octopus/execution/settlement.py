"""When a trade settles: the day on which cash and shares change hands.

Belongs here: the settlement cycle of US securities and its history. Does not: sessions (octopus/core/sessions.py).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

_CYCLES = ((date(2024, 5, 28), 1), (date(2017, 9, 5), 2), (date(1995, 6, 7), 3))
"""From which trade date on a trade settles how many days later (17 CFR 240.15c6-1 and its amendments)."""
_BEFORE = 5
_OCTOBER, _NOVEMBER, _MONDAY = 10, 11, 0


def settlement_date(sessions: Sessions, traded: date) -> date:
    """The settlement date of a trade on ``traded``: T+1 from 2024-05-28, T+2 and T+3 before.

    Days on which the exchange trades and banks are closed (Columbus Day, Veterans Day) do not count.

    Raises:
        MissingDataError: the calendar ends before.
    """
    left = next((days for since, days in _CYCLES if traded >= since), _BEFORE)
    day = traded
    while left:
        day = sessions.next(day)
        left -= not _banks_closed(day)
    return day


def _banks_closed(day: date) -> bool:
    if day.month == _OCTOBER and day.weekday() == _MONDAY:
        return 8 <= day.day <= 14
    # Veterans Day; on a Sunday it is kept on the Monday after it.
    veterans = date(day.year, _NOVEMBER, 11)
    kept = veterans + timedelta(days=1) if veterans.weekday() == 6 else veterans
    return day == kept
