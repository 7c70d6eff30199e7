"""When the schedules tick: at one local time, counted from the exchange's normal close.

Belongs here: that time, of any session. Does not: the schedules themselves (octopus_pipelines/schedules.py), whether a
session's run is late (octopus/alerts/watch.py).

A schedule is a fixed local time, so after a short session it ticks hours after the close.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

AFTER_CLOSE = timedelta(hours=1)
"""From a normal close to the daily run: vendors have published the day's bar by then."""
BEFORE_DAILY = timedelta(minutes=45)
"""From a normal close to what the daily run needs of the books; a batch's own run has let go of the account by then."""
AFTER_DAILY = timedelta(hours=2)
"""From a normal close to what follows the daily run, which has had an hour for itself by then."""
_NORMAL = date(2024, 1, 17)
"""A Wednesday without a holiday anywhere: its close is the exchange's normal one, in any year's local time."""


def normal_tick(clock: Sessions, delay: timedelta) -> tuple[date, datetime]:
    """A normal session of ``clock``, and the tick ``delay`` after its close, in the exchange's zone."""
    normal = _NORMAL if clock.is_session(_NORMAL) else clock.next(_NORMAL)
    return normal, (clock.close_utc(normal) + delay).astimezone(ZoneInfo(clock.timezone))


def tick_of(clock: Sessions, session: date, delay: timedelta = AFTER_CLOSE) -> datetime:
    """When the schedule ticks for ``session``, UTC: at the local time of every other day, however short the session."""
    normal, tick = normal_tick(clock, delay)
    day = session + (tick.date() - normal)
    return datetime.combine(day, tick.time(), tick.tzinfo).astimezone(UTC)
