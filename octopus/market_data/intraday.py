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
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.core.types import BoolArray, FloatArray
from octopus.market_data.coverage import RETRIES
from octopus.market_data.schema import INTRADAY_SCHEMA, UTC_INSTANT
from octopus.market_data.stamps import BAR_PUBLICATION_DELAY
from octopus.market_data.validate import validate_intraday

SEEN_WITHIN = timedelta(days=1)
"""A bar that is fetched so soon after its end was first seen then; an older one is backfilled, and its time imputed."""

ASKED_SCHEMA = pl.Schema(
    {
        "instrument": pl.String(), "session": pl.Date(), "bars_due": pl.Int32(), "bars": pl.Int32(),
        "found_at": UTC_INSTANT, "asked_at": UTC_INSTANT,
    }
)  # fmt: skip
"""Sessions that a source was asked for: how many intervals each has, how many have a bar, when first and when last."""

RANGE_SLACK = 0.001
"""How far, as a fraction, bars may reach beyond the day's high and low: odd lots and late prints count apart."""
CLOSE_SLACK = 0.01
"""How far the last bar's close may be from the day's, which is made in the auction after it."""
MOST_VOLUME, LEAST_VOLUME = 1.01, 0.5
"""The bars' volume as a fraction of the day's; auctions and prints outside of the hours are in the day's alone."""
DIFFERENCES_SCHEMA = pl.Schema(
    {
        "instrument": pl.String(), "session": pl.Date(), "what": pl.String(), "intraday": pl.Float64(),
        "daily": pl.Float64(), "bars": pl.Int32(), "bars_due": pl.Int32(),
    }
)  # fmt: skip

_US_PER_MINUTE = 60_000_000


@dataclass(frozen=True)
class Span:
    """Instruments to be asked for sessions ``start`` to ``end``, both inclusive; all keep one calendar."""

    start: date
    end: date
    instruments: tuple[str, ...]


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


def due_spans(
    instruments: Sequence[str],
    asked: pl.DataFrame,
    session: date,
    *,
    history: int,
    refetch: int,
    sessions: Sessions,
    now: datetime,
) -> list[Span]:
    """What is to be asked for up to ``session``: what was not asked for yet, gaps again, and the last sessions again.

    A session in which intervals are missing is asked for again `octopus.market_data.coverage.RETRIES` after it was
    found, and then never: the vendor has no bar there, as of an instrument that does not trade every minute.

    Args:
        instruments: those that keep the calendar ``sessions``.
        asked: `ASKED_SCHEMA`.
        history: how many sessions up to ``session`` there are to be. refetch: how many of them are asked for again.

    Returns:
        The oldest first.
    """
    days = sessions.between(date.min, session)[-history:]
    wanted = pl.DataFrame({"session": days}).cast(pl.Date).with_row_index("place").join(
        pl.DataFrame({"instrument": sorted(set(instruments))}, schema={"instrument": pl.String}), how="cross"
    ).join(asked, on=["instrument", "session"], how="left")  # fmt: skip
    moment = pl.lit(now.astimezone(UTC)).cast(UTC_INSTANT)
    waits = [pl.col("found_at") + wait for wait in RETRIES]
    is_gap = (pl.col("bars") < pl.col("bars_due")) & pl.any_horizontal(
        (pl.col("asked_at") < wait) & (wait <= moment) for wait in waits
    )
    is_due = pl.col("asked_at").is_null() | is_gap | (pl.col("place") >= len(days) - refetch)
    runs = (
        wanted.filter(is_due)
        .sort("instrument", "place")
        # Places that follow one another differ from their rank by the same number.
        .with_columns(run=pl.col("place").cast(pl.Int64) - pl.int_range(pl.len()).over("instrument"))
        .group_by("instrument", "run")
        .agg(start=pl.col("session").min(), end=pl.col("session").max())
        .group_by("start", "end")
        .agg(pl.col("instrument").sort())
        .sort("start", "end")
    )
    return [Span(start, end, tuple(names)) for start, end, names in runs.iter_rows()]


def counted(
    instruments: Sequence[str],
    start: date,
    end: date,
    bars: pl.DataFrame,
    minutes: int,
    sessions: Sessions,
    now: datetime,
) -> pl.DataFrame:
    """How many intervals of each session that was over by ``now`` have a bar in an answer.

    Args:
        bars: what was answered for ``instruments`` and these sessions, `INTRADAY_SCHEMA`.

    Returns:
        Columns instrument, session, closes_utc, bars_due and bars, one row for each instrument and session.
    """
    moment = pl.lit((now - BAR_PUBLICATION_DELAY).astimezone(UTC)).cast(UTC_INSTANT)
    grid = session_grid(sessions, start, end, minutes).filter(pl.col("closes") <= moment)
    names = pl.DataFrame({"instrument": sorted(set(instruments))}, schema={"instrument": pl.String})
    interval = (pl.col("ts") - pl.col("first")).dt.total_microseconds() // (minutes * _US_PER_MINUTE)
    held = (
        bars.select("instrument", "session", "ts")
        .join(grid.select("session", "first"), on="session")
        .group_by("instrument", "session")
        .agg(bars=interval.n_unique().cast(pl.Int32))
    )
    return (
        names.join(grid.select("session", closes_utc="closes", bars_due="due"), how="cross")
        .join(held, on=["instrument", "session"], how="left")
        .with_columns(pl.col("bars").fill_null(0))
        .sort("instrument", "session")
    )


def gaps(asked: pl.DataFrame, since: date) -> pl.DataFrame:
    """Sessions from ``since`` on in which intervals are missing, of each instrument from its first session with any bar
    on; and the first one asked for of an instrument that has no bar at all."""
    begun = pl.col("session").filter(pl.col("bars") > 0).min().over("instrument")
    asked_from = pl.col("session").min().over("instrument")
    is_missing = (pl.col("bars") < pl.col("bars_due")) & (pl.col("session") >= begun) & (pl.col("session") >= since)
    is_silent = begun.is_null() & (pl.col("session") == asked_from)
    return asked.filter(is_missing.fill_null(value=False) | is_silent).sort("instrument", "session")


def differences(days: pl.DataFrame, daily: pl.DataFrame, *, same_source: bool) -> pl.DataFrame:
    """Where bars within the day cannot be of the day that its daily bar tells.

    Closes are compared where no interval is missing. That less is traded in the bars than in the day says something
    where one vendor tells both (``same_source``): one venue's feed has a few per cent of the market's volume.

    Args:
        days: what the bars of each session add up to: columns instrument, session, high, low, close, volume, bars and
            bars_due. daily: the same of the daily bars but for the last two, as printed.

    Returns:
        `DIFFERENCES_SCHEMA`, one row for each difference.
    """
    both = days.join(daily, on=["instrument", "session"], suffix="_daily")
    is_whole = pl.col("bars") >= pl.col("bars_due")
    rules = {
        "high": pl.col("high") > pl.col("high_daily") * (1 + RANGE_SLACK),
        "low": pl.col("low") < pl.col("low_daily") * (1 - RANGE_SLACK),
        "close": is_whole & ((pl.col("close") / pl.col("close_daily") - 1).abs() > CLOSE_SLACK),
        "volume": (pl.col("volume") > pl.col("volume_daily") * MOST_VOLUME)
        | (is_whole & same_source & (pl.col("volume") < pl.col("volume_daily") * LEAST_VOLUME)),
    }
    found = [
        both.filter(rule).select(
            "instrument", "session", what=pl.lit(name), intraday=name, daily=f"{name}_daily", bars="bars",
            bars_due="bars_due",
        )
        for name, rule in rules.items()
    ]  # fmt: skip
    return pl.concat(found).cast(DIFFERENCES_SCHEMA).sort("session", "instrument", "what")


def within_range(price: FloatArray, low: FloatArray, high: FloatArray) -> BoolArray:
    """Whether a price can be of the day: between its low and its high, up to `RANGE_SLACK`; not where one is NaN."""
    return np.asarray((price >= low * (1 - RANGE_SLACK)) & (price <= high * (1 + RANGE_SLACK)))
