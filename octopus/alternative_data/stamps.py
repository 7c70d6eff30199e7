"""When a text could first have been known.

Belongs here: the point-in-time rule for events of which only the date is known. Does not: bars (market_data/stamps.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from octopus.core.sessions import Sessions

_INSTANT = timedelta(microseconds=1)


def known_after_date(day: date, sessions: Sessions) -> datetime:
    """When an event that is dated ``day``, without a time, counts as known: from the session after it.

    The later of the day's last microsecond (UTC) and one microsecond after the decision of the last session up to the
    day. So an event on a Tuesday is first used by Wednesday's decision, one on a Saturday by Monday's; wherever the
    exchange is, never by the day's own decision.
    """
    end_of_day = datetime.combine(day, time.max, UTC)
    last = day if sessions.is_session(day) else sessions.previous(day)
    return max(end_of_day, sessions.decision_utc(last) + _INSTANT)
