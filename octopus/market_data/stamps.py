"""When a bar or an action is about, and when a trader could first have known it.

Belongs here: the point-in-time columns of market data that a vendor does not stamp. Does not: texts
(alternative_data/stamps.py), the exchange's calendar (core/sessions.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd
import polars as pl

from octopus.core.sessions import DECISION_DELAY, FIRST_SESSION, Sessions
from octopus.core.types import DateArray
from octopus.market_data.schema import ACTIONS_SCHEMA, ADJUSTED_SCHEMA, BARS_SCHEMA, UTC_INSTANT

BAR_PUBLICATION_DELAY = timedelta(minutes=15)
"""From the close to the daily bar in vendors' feeds: inside `sessions.DECISION_DELAY`, so that T's bar decides T."""


def stamp_bars(frame: pl.DataFrame, sessions: Sessions) -> pl.DataFrame:
    """Add ``ts`` (close of the session) and an imputed ``known_at`` (a quarter of an hour later).

    Args:
        frame: columns source, instrument, session, open, high, low, close, volume.

    Returns:
        A frame of `BARS_SCHEMA`; ``ts`` and ``known_at`` are null where ``session`` is not a session of the exchange
        (`validate_bars` refuses those rows and says so).
    """
    closes = _instants(frame["session"], sessions, "closes")
    return (
        frame.with_columns(
            ts=closes,
            known_at=closes.dt.offset_by(f"{int(BAR_PUBLICATION_DELAY.total_seconds())}s"),
            known_at_imputed=pl.lit(True),
        )
        .select(BARS_SCHEMA.names())
        .cast(BARS_SCHEMA)
    )


def stamp_actions(frame: pl.DataFrame, sessions: Sessions) -> pl.DataFrame:
    """Add ``ts`` (open of the ex-session) and an imputed ``known_at``, the same instant.

    Vendors' histories do not say when an action was announced. Knowing it at the open of its ex-session is the latest
    that can be right (the price opens without the dividend), hence the most cautious.

    Args:
        frame: columns source, instrument, session, kind, value and, where a kind has one, detail.
    """
    opens = _instants(frame["session"], sessions, "opens")
    if "detail" not in frame.columns:
        frame = frame.with_columns(detail=pl.lit(None, pl.String))
    return (
        frame.with_columns(ts=opens, known_at=opens, known_at_imputed=pl.lit(True))
        .select(ACTIONS_SCHEMA.names())
        .cast(ACTIONS_SCHEMA)
    )


def stamp_adjusted(frame: pl.DataFrame, sessions: Sessions, fetched: datetime) -> pl.DataFrame:
    """Add ``ts`` (close of the session) and ``known_at`` (the fetch, recorded) to vendors' adjusted closes.

    Args:
        frame: columns source, instrument, session, adj_close.
    """
    moment = pl.lit(fetched.astimezone(UTC)).cast(UTC_INSTANT)
    return (
        frame.with_columns(
            ts=_instants(frame["session"], sessions, "closes"), known_at=moment, known_at_imputed=pl.lit(False)
        )
        .select(ADJUSTED_SCHEMA.names())
        .cast(ADJUSTED_SCHEMA)
    )


def finished(frame: pl.DataFrame, sessions: Sessions, now: datetime) -> pl.DataFrame:
    """``frame`` without the session that still trades or is not published yet: a price in passing is no bar.

    Where trading never ends that may be two, one not published and the next begun. Only they: a row further in the
    future stays, to be refused by `validate_bars`.
    """
    published = now.astimezone(UTC) - BAR_PUBLICATION_DELAY + DECISION_DELAY
    # `session_of` takes the session decided at that very instant; here it is published already.
    (current,) = sessions.session_of(pd.DatetimeIndex([published + timedelta(microseconds=1)]))
    passing = [_as_date(current)]
    following = sessions.next(passing[0])
    if sessions.open_utc(following) <= now:
        passing.append(following)
    return frame.filter(pl.col("session").is_null() | ~pl.col("session").is_in(passing))


def undated_listing(sessions: Sessions) -> datetime:
    """``ts`` of an instrument whose vendor does not say when it was listed: the calendar's first opening.

    The same in every fetch, whatever its window, so that one instrument stays one row.
    """
    return sessions.open_utc(sessions.next(date.fromisoformat(FIRST_SESSION) - timedelta(days=1)))


def _instants(days: pl.Series, sessions: Sessions, which: Literal["opens", "closes"]) -> pl.Series:
    """Opening or closing instant of each day, null where it is no session."""
    if days.is_empty() or days.null_count() == len(days):
        return pl.Series(which, [None] * len(days), dtype=UTC_INSTANT)
    known: DateArray = sessions.between(_as_date(days.min()), _as_date(days.max()))
    known = np.intersect1d(known, days.drop_nulls().to_numpy().astype("datetime64[D]"))
    moments = sessions.closes_utc(known) if which == "closes" else sessions.opens_utc(known)
    table = pl.DataFrame(
        {
            "session": pl.Series(known.astype("datetime64[D]")).cast(pl.Date),
            which: pl.Series(moments.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[us]")).cast(
                UTC_INSTANT
            ),
        },
        schema={"session": pl.Date, which: UTC_INSTANT},
    )
    return pl.DataFrame({"session": days.cast(pl.Date)}).join(table, on="session", how="left", maintain_order="left")[
        which
    ]


def _as_date(value: object) -> date:
    return pd.Timestamp(np.datetime64(str(value), "D")).date()
