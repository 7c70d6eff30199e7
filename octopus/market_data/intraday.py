"""Bars within the day: which interval of which session each is, when it was known, and which are missing.

Belongs here: the way of intraday bars between reading and storing, the intervals that a session has, which sessions are
to be asked for, and what their bars add up to. Does not: reading one vendor's form (resources/sources), rules on single
bars (validate.py).

A session has the intervals of the UTC clock that overlap it: of New York's hours from 14:30 to 21:00 UTC, 390 of one
minute, 78 of five and 7 of sixty, the first of which begins at 14:00. Bars before and after a session's hours are left
out: they are another market, thin and without an auction. A break at noon is not known here and counts as time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.market_data.schema import INTRADAY_SCHEMA, UTC_INSTANT
from octopus.market_data.validate import validate_intraday

SEEN_WITHIN = timedelta(days=1)
"""A bar that is fetched so soon after its end was first seen then; an older one is backfilled, and its time imputed."""

_US_PER_MINUTE = 60_000_000


def session_grid(sessions: Sessions, start: date, end: date, minutes: int) -> pl.DataFrame:
    """The intervals of each session from ``start`` to ``end``, both inclusive.

    Args:
        minutes: length of an interval.

    Returns:
        Columns session, opens, closes, ``first`` (the beginning of its first interval, UTC) and ``due`` (how many
        intervals it has); one row for each session.
    """
    days = sessions.between(start, end)
    opens, closes = (
        instants.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
        for instants in (sessions.opens_utc(days), sessions.closes_utc(days))
    )
    step = minutes * _US_PER_MINUTE
    first = opens // step * step
    grid = {"session": days, "opens": opens, "closes": closes, "first": first, "due": -((first - closes) // step)}
    return pl.DataFrame(grid).with_columns(
        pl.col("session").cast(pl.Date), pl.col("opens", "closes", "first").cast(UTC_INSTANT)
    )


def settle_intraday(
    frames: Sequence[pl.DataFrame], minutes: int, start: date, end: date, sessions: Sessions, now: datetime
) -> tuple[pl.DataFrame, list[Reject]]:
    """Bars of the sessions ``start`` to ``end`` that had ended by ``now``, by instrument and time.

    A bar fetched within `SEEN_WITHIN` of its end is known from ``now``, which is recorded; an older one from its end,
    which is imputed. It ends with its interval, or with its session if that comes first.

    Args:
        frames: columns source, instrument, ``begun`` (UTC), open, high, low, close, volume and, where the vendor tells
            it, vwap; any order.

    Returns:
        A frame of `INTRADAY_SCHEMA`, and the rows that were refused. Bars outside the hours of a session and bars that
        are not over are neither.
    """
    read = pl.concat([INTRADAY_SCHEMA.to_frame().drop("ts", "known_at"), *frames], how="diagonal")
    if "begun" not in read.columns:
        return INTRADAY_SCHEMA.to_frame(), []
    placed = _placed(read.drop("session", "known_at_imputed"), session_grid(sessions, start, end, minutes), minutes)
    moment = pl.lit(now.astimezone(UTC)).cast(UTC_INSTANT)
    is_live = pl.col("ended") > moment - SEEN_WITHIN
    stamped = (
        placed.filter(_belongs(sessions, start, end) & ~((pl.col("ts") <= moment) & (pl.col("ended") > moment)))
        .with_columns(
            interval_minutes=pl.lit(minutes),
            known_at=pl.when(is_live).then(moment).otherwise("ended"),
            known_at_imputed=~is_live,
        )
        .sort("instrument", "ts", maintain_order=True)
        .select(*INTRADAY_SCHEMA.names(), "on_grid")
        .cast(pl.Schema([*INTRADAY_SCHEMA.items(), ("on_grid", pl.Boolean())]))
    )
    good, rejects = validate_intraday(stamped, sessions, now)
    return good.select(INTRADAY_SCHEMA.names()), rejects


def _placed(read: pl.DataFrame, grid: pl.DataFrame, minutes: int) -> pl.DataFrame:
    """``read`` with its session, null outside of all, when each bar ended, and whether it begins with an interval."""
    found = read.rename({"begun": "ts"}).with_row_index("_row").sort("ts").join_asof(
        grid.sort("first"), left_on="ts", right_on="first", check_sortedness=False
    ).sort("_row")  # fmt: skip
    inside = pl.col("ts") < pl.col("closes")
    width = pl.duration(minutes=minutes)
    # A vendor may count its intervals from the opening instead of from the full hour.
    on_grid = pl.any_horizontal(
        (pl.col("ts") - pl.col(begin)).dt.total_microseconds() % (minutes * _US_PER_MINUTE) == 0
        for begin in ("first", "opens")
    )
    return found.with_columns(
        session=pl.when(inside).then("session"),
        ended=pl.when(inside).then(pl.min_horizontal(pl.col("ts") + width, "closes")).otherwise(pl.col("ts") + width),
        on_grid=on_grid.fill_null(value=True),
    )


def _belongs(sessions: Sessions, start: date, end: date) -> pl.Expr:
    """In a session; or to be refused, because its day in the exchange's zone is within the window and is no session."""
    day = pl.col("ts").dt.convert_time_zone(sessions.timezone).dt.date()
    days = pl.Series(sessions.between(start, end).astype("datetime64[D]")).cast(pl.Date)
    is_stray = day.is_between(start, end) & ~day.is_in(days.implode())
    return pl.col("session").is_not_null() | pl.col("ts").is_null() | is_stray
