"""When a text could first have been known.

Belongs here: the point-in-time rules for events of which only the date is known, and for texts that come after the
decision that they belong to. Does not: bars (market_data/stamps.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pandas as pd
import polars as pl

from octopus.core.sessions import Sessions
from octopus.core.types import BoolArray, DateArray

WINDOW_SESSIONS = 30
"""A text has a part in the decisions of so many sessions: dbt's variable ``sentiment_window_sessions``."""

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


def decided_live(first_decided: pl.DataFrame, sessions: Sessions) -> DateArray:
    """Sessions that were decided while they were current: before the next one was to be.

    A decision that was made afterwards is a replay: it sees what is known by then.

    Args:
        first_decided: columns session and decided_at (UTC), one row for each session.
    """
    days = first_decided["session"].to_numpy().astype("datetime64[D]")
    if not len(days):
        return days
    calendar = sessions.between(days.min().astype(object), sessions.next(days.max().astype(object)))
    following = calendar[np.minimum(np.searchsorted(calendar, days, side="right"), len(calendar) - 1)]
    over = sessions.decisions_utc(following).tz_localize(None).to_numpy(dtype="datetime64[us]")
    made = first_decided["decided_at"].dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()
    return np.sort(days[made.astype("datetime64[us]") < over])


def missed_a_decision(known_at: pl.Series, decided: DateArray, sessions: Sessions) -> BoolArray:
    """Of each text that is new now: whether a decision that it would have had a part in was made without it.

    Args:
        known_at: when each is said to have been known, UTC.
        decided: sessions that were decided (`decided_live`), ascending.
    """
    if not len(known_at) or not len(decided):
        return np.zeros(len(known_at), dtype=bool)
    instants = known_at.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()
    own = sessions.session_of(pd.DatetimeIndex(instants).tz_localize("UTC"))
    coming = np.searchsorted(decided, own)
    found = coming < len(decided)
    met = decided[np.minimum(coming, len(decided) - 1)]
    calendar = sessions.between(min(own.min(), decided[0]).astype(object), max(own.max(), decided[-1]).astype(object))
    distance = np.searchsorted(calendar, met) - np.searchsorted(calendar, own)
    return found & (distance < WINDOW_SESSIONS)


def known_when_seen(items: pl.DataFrame, late: BoolArray, seen: datetime) -> pl.DataFrame:
    """``items``, the ``late`` ones known from when they were first seen: recorded then, and no longer imputed.

    So a replay sees what the decision saw, and a session's row that a decision used stays as it was.
    """
    mask = pl.Series(late, dtype=pl.Boolean)
    instant = pl.lit(seen).cast(pl.Datetime("us", "UTC"))
    return items.with_columns(
        known_at=pl.when(mask).then(pl.max_horizontal("known_at", instant)).otherwise("known_at"),
        known_at_imputed=pl.col("known_at_imputed") & ~mask,
    )
