"""The partitions: one for each session of the exchange.

Belongs here: partition definitions. Does not: dates of single runs.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np

from octopus.core.sessions import FIRST_SESSION, LAST_DAY, Sessions

EXCHANGE = "XNYS"
TIMEZONE = "America/New_York"
KEY_FORMAT = "%Y-%m-%d"


def _holidays(first: str, last: str) -> list[datetime]:
    """Weekdays on which the exchange is closed, at midnight of the exchange's zone."""
    weekdays = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    weekdays = weekdays[np.is_busday(weekdays)]
    sessions = Sessions(EXCHANGE).between(date.fromisoformat(first), date.fromisoformat(last))
    zone = ZoneInfo(TIMEZONE)
    closed = np.setdiff1d(weekdays, sessions)
    return [datetime.fromisoformat(str(day)).replace(tzinfo=zone) for day in closed]


SESSIONS = dg.TimeWindowPartitionsDefinition(
    start=FIRST_SESSION,
    fmt=KEY_FORMAT,
    timezone=TIMEZONE,
    cron_schedule="0 0 * * 1-5",
    exclusions=_holidays(FIRST_SESSION, LAST_DAY),
    # Without the offset Friday's key would only exist once Monday's window opens.
    end_offset=1,
)
"""Every session since the first recorded one; raw and decision assets are partitioned by it."""


FOLDS = dg.StaticPartitionsDefinition([f"{number:03d}" for number in range(128)])
"""The steps of a walk-forward, so that a backfill spreads them over whatever executes runs; a walk may have fewer."""


def session_of(context: dg.AssetExecutionContext) -> date:
    """The session of a single-partition run."""
    return date.fromisoformat(context.partition_key)


def session_range(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """First and last session of a run over a range of partitions (a backfill in one run)."""
    window = context.partition_time_window
    last = window.end - timedelta(days=1)
    keys = context.partition_keys
    return date.fromisoformat(keys[0]), date.fromisoformat(keys[-1]) if keys else last.date()
