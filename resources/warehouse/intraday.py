"""Bars within the day as known at an instant, and what was asked for them, kept in ``ops.intraday_sessions``.

Belongs here: reading intraday bars, and recording what a part of a fetch answered. Does not: appending them (store.py),
deciding what to ask for (octopus/market_data/intraday.py).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from octopus.market_data.intraday import ASKED_SCHEMA
from octopus.market_data.schema import INTRADAY_SCHEMA
from resources.warehouse.store import Warehouse, Writing

# By ts too, which chunks go by: a session opens no earlier than the day before it and closes within the day after.
_KNOWN = f"""
    select distinct on (instrument, ts) {", ".join(INTRADAY_SCHEMA)} from raw.intraday_bars
    where source = $1 and interval_minutes = $2 and known_at <= $3
        and session between $4 and $5 and ts between $6 and $7
        and ($8::text is null or instrument = any(string_to_array($8, chr(31))))
    order by instrument, ts, batch_id desc
"""  # noqa: S608  # our own columns


def intraday_bars(
    warehouse: Warehouse,
    source: str,
    minutes: int,
    as_of: datetime,
    *,
    start: date,
    end: date,
    instruments: Collection[str] | None = None,
) -> pl.DataFrame:
    """Bars of sessions ``start`` to ``end``, both inclusive, as they were known by ``as_of``.

    Args:
        minutes: length of a bar.
        instruments: only theirs.

    Returns:
        A frame of `INTRADAY_SCHEMA`, one row for each bar, by instrument and time.
    """
    parameters = _parameters(source, minutes, as_of, start, end, instruments)
    return warehouse.read(_KNOWN, parameters).cast(INTRADAY_SCHEMA)


def session_totals(
    warehouse: Warehouse,
    source: str,
    minutes: int,
    as_of: datetime,
    *,
    start: date,
    end: date,
    instruments: Collection[str] | None = None,
) -> pl.DataFrame:
    """What the bars of each session, chosen as in `intraday_bars`, add up to.

    Returns:
        Columns instrument, session, high, low, close (of the last bar) and volume, by instrument and session.
    """
    return warehouse.read(
        f"""
        select instrument, session, max(high) as high, min(low) as low,
            (array_agg(close order by ts desc))[1] as close, sum(volume) as volume
        from ({_KNOWN}) known group by instrument, session order by instrument, session
        """,  # noqa: S608  # our own query
        _parameters(source, minutes, as_of, start, end, instruments),
    )


def _parameters(
    source: str, minutes: int, as_of: datetime, start: date, end: date, instruments: Collection[str] | None
) -> list[object]:
    """Of `_KNOWN`."""
    day = timedelta(days=1)
    first, last = (datetime.combine(one, time(), UTC) for one in (start, end))
    names = None if instruments is None else "\x1f".join(instruments)
    return [source, minutes, as_of, start, end, first - day, last + 2 * day, names]


def asked(warehouse: Warehouse, source: str, minutes: int, instruments: Collection[str]) -> pl.DataFrame:
    """Sessions that the source was asked for, `octopus.market_data.intraday.ASKED_SCHEMA`."""
    found = warehouse.read(
        f"""
        select {", ".join(ASKED_SCHEMA)} from ops.intraday_sessions
        where source = $1 and interval_minutes = $2 and instrument = any(string_to_array($3, chr(31)))
        order by instrument, session
        """,  # noqa: S608  # our own columns
        [source, minutes, "\x1f".join(instruments)],
    )
    return found.cast(ASKED_SCHEMA)


def record(writing: Writing, minutes: int, counted: pl.DataFrame) -> None:
    """Put on record, with the bars that came, which sessions were asked for and how many intervals were answered.

    Args:
        counted: `octopus.market_data.intraday.counted`. What was stored of a session before is not counted down.
    """
    writing.cursor.execute(
        """
        insert into ops.intraday_sessions as kept
            (source, instrument, interval_minutes, session, closes_utc, bars_due, bars, found_at, asked_at)
        select %(source)s, c.instrument, %(minutes)s, c.session, c.closes_utc, c.bars_due, c.bars, %(now)s, %(now)s
        from unnest(
            %(instruments)s::text[], %(sessions)s::date[], %(closes)s::timestamptz[], %(due)s::int[], %(held)s::int[]
        ) as c (instrument, session, closes_utc, bars_due, bars)
        order by c.instrument, c.session
        on conflict (source, instrument, interval_minutes, session) do update set
            closes_utc = excluded.closes_utc,
            bars_due = excluded.bars_due,
            bars = greatest(kept.bars, excluded.bars),
            asked_at = excluded.asked_at
        """,
        {
            "source": writing.source, "minutes": minutes, "now": writing.moment,
            "instruments": counted["instrument"].to_list(), "sessions": counted["session"].to_list(),
            "closes": counted["closes_utc"].to_list(), "due": counted["bars_due"].to_list(),
            "held": counted["bars"].to_list(),
        },
    )  # fmt: skip
