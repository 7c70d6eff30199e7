"""From what an adapter read to what it delivers: windowed, stamped, validated rows.

Belongs here: the way that all vendors' bars and actions take between reading and storing. Does not: reading one
vendor's form (resources/sources), the single steps (stamps.py, validate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from octopus.core.rejects import Reject
from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.schema import ACTIONS_SCHEMA, ADJUSTED_SCHEMA, BARS_SCHEMA
from octopus.market_data.stamps import finished, stamp_actions, stamp_adjusted, stamp_bars
from octopus.market_data.validate import validate_actions, validate_adjusted, validate_bars

_ORDER = ("instrument", "session")


@dataclass(frozen=True)
class SettledBars:
    """Good bars, good adjusted closes of those bars, and the rows of both that were refused."""

    bars: pl.DataFrame
    adjusted: pl.DataFrame
    rejects: list[Reject]


def settle_bars_by(
    frames: Sequence[pl.DataFrame], start: date, end: date, calendars: Calendars, now: datetime
) -> SettledBars:
    """As `settle_bars`, each instrument by its own calendar: a coin's Saturday is a session, a share's is none."""
    parts = [settle_bars(own, start, end, calendar, now) for calendar, own in by_calendar(frames, calendars)] or [
        settle_bars([], start, end, calendars.clock, now)
    ]
    return SettledBars(
        pl.concat([part.bars for part in parts]).sort(_ORDER, maintain_order=True),
        pl.concat([part.adjusted for part in parts]).sort(_ORDER, maintain_order=True),
        [reject for part in parts for reject in part.rejects],
    )


def settle_actions_by(
    frames: Sequence[pl.DataFrame], start: date, end: date, calendars: Calendars
) -> tuple[pl.DataFrame, list[Reject]]:
    """As `settle_actions`, each instrument by its own calendar."""
    parts = [settle_actions(own, start, end, calendar) for calendar, own in by_calendar(frames, calendars)] or [
        settle_actions([], start, end, calendars.clock)
    ]
    actions = pl.concat([good for good, _ in parts]).sort([*_ORDER, "kind"], maintain_order=True)
    return actions, [reject for _, rejects in parts for reject in rejects]


def by_calendar(frames: Sequence[pl.DataFrame], calendars: Calendars) -> list[tuple[Sessions, list[pl.DataFrame]]]:
    """Rows by the calendar of their instrument, the clock's first; a row that names none is the clock's to refuse."""
    elsewhere = calendars.elsewhere()
    found = []
    for calendar in dict.fromkeys((calendars.clock, *elsewhere.values())):
        names = [name for name, own in elsewhere.items() if own == calendar]
        mine = pl.col("instrument").is_in(names)
        if calendar == calendars.clock:
            mine = ~pl.col("instrument").is_in(list(elsewhere)).fill_null(value=False)
        held = [own for frame in frames if not (own := frame.filter(mine)).is_empty()]
        if held:
            found.append((calendar, held))
    return found


def settle_bars(
    frames: Sequence[pl.DataFrame], start: date, end: date, sessions: Sessions, now: datetime
) -> SettledBars:
    """Bars of sessions ``start`` to ``end`` that were published by ``now``, by instrument and session.

    Args:
        frames: columns source, instrument, session, open, high, low, close, volume and, where the vendor has one,
            adj_close; any order. Where it says when a bar was known, known_at too, null where it does not.
    """
    long = pl.concat(frames, how="diagonal") if frames else BARS_SCHEMA.to_frame().drop("known_at")
    for name in ("adj_close", "known_at"):
        if name not in long.columns:
            kind = pl.Float64() if name == "adj_close" else BARS_SCHEMA["known_at"]
            long = long.with_columns(pl.lit(None, kind).alias(name))
    window = pl.col("session").is_null() | pl.col("session").is_between(start, end)
    long = finished(long.filter(window), sessions, now).sort(_ORDER, maintain_order=True)
    stamped = _recorded(stamp_bars(long, sessions), long["known_at"])
    good, rejects = validate_bars(_beside(stamped, long), sessions, now)
    compared = good.filter(pl.col("adj_close").is_not_null() & pl.col("adj_close").is_not_nan())
    adjusted, bad = validate_adjusted(_beside(stamp_adjusted(compared, sessions, now), compared), sessions, now)
    return SettledBars(good.select(BARS_SCHEMA.names()), adjusted.select(ADJUSTED_SCHEMA.names()), rejects + bad)


def settle_actions(
    frames: Sequence[pl.DataFrame], start: date, end: date, sessions: Sessions
) -> tuple[pl.DataFrame, list[Reject]]:
    """Actions of ex-sessions ``start`` to ``end``, by instrument, session and kind.

    Args:
        frames: columns source, instrument, session, kind, value; where known, detail and known_at.
    """
    long = pl.concat(frames, how="diagonal") if frames else ACTIONS_SCHEMA.to_frame().drop("known_at")
    if "known_at" not in long.columns:
        long = long.with_columns(known_at=pl.lit(None, ACTIONS_SCHEMA["known_at"]))
    window = pl.col("session").is_null() | pl.col("session").is_between(start, end)
    long = long.filter(window).sort([*_ORDER, "kind"], maintain_order=True)
    stamped = _recorded(stamp_actions(long, sessions), long["known_at"])
    good, rejects = validate_actions(_beside(stamped, long), sessions)
    return good.select(ACTIONS_SCHEMA.names()), rejects


def _recorded(stamped: pl.DataFrame, known: pl.Series) -> pl.DataFrame:
    """``stamped`` with the vendor's own ``known`` where it says one."""
    return stamped.with_columns(
        known_at=pl.coalesce(known.cast(stamped.schema["known_at"]), "known_at"),
        known_at_imputed=known.is_null(),
    )


def _beside(stamped: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
    """``stamped``, whose order is that of ``read``, with the columns that stamping does not carry."""
    extra = [name for name in read.columns if name not in stamped.columns]
    return pl.concat([stamped, read.select(extra)], how="horizontal")
