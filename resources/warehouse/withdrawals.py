"""Withdrawals in the warehouse: what a fetch no longer held, kept in ``raw.withdrawals`` beside the rows themselves.

Belongs here: comparing an answer with what is stored of its range, and reading what is withdrawn with what stood. Does
not: what counts as withdrawn and what is said of it (octopus/warehouse/withdrawals.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, LiteralString

import polars as pl

from octopus.warehouse.withdrawals import ACTIONS, BAR, BARS, LACKING_SCHEMA, STANDING_SCHEMA, Answer, Withdrawal, told
from resources.warehouse.store import Warehouse, Writing

_FEW_INSTRUMENTS = 500
"""Up to so many are named in a query; of more the whole range of time is read."""

_STORED_ACTIONS: LiteralString = """
    select distinct on (instrument, session, kind) instrument, session, kind, ts from raw.corporate_actions
    where source = %(source)s and session between %(start)s and %(end)s and ts between %(from)s and %(until)s
        and (%(few)s::text[] is null or instrument = any(%(few)s))
    order by instrument, session, kind, batch_id desc
"""
_STANDING: LiteralString = """
    select * from (
        select distinct on (instrument, ts, kind) *, rows as many from raw.withdrawals
        where source = %(source)s and (%(as_of)s::timestamptz is null or known_at <= %(as_of)s)
        order by instrument, ts, kind, batch_id desc
    ) w where rows > 0
"""
_EVER: LiteralString = """
    select *, coalesce(nullif(rows, 0), lag(rows) over (partition by instrument, ts, kind order by batch_id)) as many
    from raw.withdrawals
    where source = %(source)s and session <= %(last)s and session_to >= %(first)s
        and (%(instrument)s::text is null or instrument = %(instrument)s)
"""
_WHAT_STOOD: LiteralString = """
    with standing as materialized ({standing}), chosen as materialized ({chosen})
    select w.instrument, w.kind as row, w.session, w.session_to, w.rows, w.many, w.known_at, w.batch_id,
        w.ingested_at as seen_at, b.ingested_at as stored, {values}, m.session as moved_to
    from chosen w
    left join lateral (
        select * from raw.{table} b where b.source = w.source and b.instrument = w.instrument
            and b.session = w.session and b.batch_id < w.batch_id and {same}
            and b.ts between w.ts - interval '1 day' and w.ts + interval '1 day'
        order by b.batch_id desc limit 1
    ) b on true
    left join lateral (
        select m.session from raw.{table} m where m.source = w.source and m.instrument = w.instrument
            and m.session <> w.session and {alike}
            and m.ts between w.ts - interval '10 days' and w.ts + interval '10 days'
            and (%(as_of)s::timestamptz is null or m.known_at <= %(as_of)s)
            and not exists (
                select from standing o where o.instrument = m.instrument and o.session = m.session and o.kind = w.kind)
        order by abs(m.session - w.session), m.session limit 1
    ) m on true
    where {of} order by w.instrument, w.session, w.kind, w.batch_id
"""
# The same prices on another day are the same bar only where they came after it: a frozen price is no move.
_OF_TABLE: tuple[Mapping[LiteralString, LiteralString], ...] = (
    {
        "table": "bars", "of": "w.kind in ('bar', 'bars')", "same": "w.kind = 'bar'",
        "values": "b.open, b.high, b.low, b.close, b.volume",
        "alike": """m.batch_id > b.batch_id and (m.open, m.high, m.low, m.close, m.volume)
            is not distinct from (b.open, b.high, b.low, b.close, b.volume)""",
    },
    {
        "table": "corporate_actions", "of": "w.kind not in ('bar', 'bars')", "same": "b.kind = w.kind",
        "values": "b.value, b.detail",
        "alike": "m.kind = w.kind and (m.value, m.detail) is not distinct from (b.value, b.detail)",
    },
)  # fmt: skip
_VALUES = ("open", "high", "low", "close", "volume", "value", "detail")


def standing(warehouse: Warehouse, source: str) -> pl.DataFrame:
    """Withdrawals that are in force now, of `STANDING_SCHEMA`."""
    rows = warehouse.rows(_STANDING, {"source": source, "as_of": None})
    return pl.DataFrame([{name: row[name] for name in STANDING_SCHEMA} for row in rows], schema=STANDING_SCHEMA)


def record(
    writing: Writing, answer: Answer, start: date, end: date, covered: pl.DataFrame, sight: pl.DataFrame,
    standing: pl.DataFrame, again: pl.DataFrame, bars: pl.DataFrame | None,
) -> dict[str, int]:  # fmt: skip
    """Put on record, once the rows of an answer are stored, what of sessions ``start`` to ``end`` it does not hold.

    Args:
        covered: what was asked for before. sight: `octopus.market_data.coverage.first_sight` of it.
        standing: withdrawals in force before. again: those of them that the answer ends.
        bars: what is stored of these sessions and did not come, where any bar came (`Writing.append`).

    Returns:
        How many rows are newly withdrawn, by raw table.
    """
    ours = standing.filter(pl.col("instrument").is_in(answer.bars | answer.actions))
    lacking = _lacking(writing, answer, start, end, covered, bars)
    if lacking.is_empty() and ours.is_empty() and again.is_empty():
        return {}
    found = told(lacking, ours, again, answer, start, end)
    if found.is_empty():
        return {}
    now = pl.lit(writing.moment).cast(STANDING_SCHEMA["ts"])
    # What is over is a restatement, and known from when it came, as any other.
    seen = pl.when(pl.col("rows") > 0).then("seen").otherwise(None)
    stamped = found.join(sight.select("instrument", "seen"), on="instrument", how="left").with_columns(
        source=pl.lit(writing.source), known_at=pl.coalesce(seen, now), known_at_imputed=pl.lit(value=False)
    )
    writing.append("withdrawals", stamped.select("source", *STANDING_SCHEMA, "known_at", "known_at_imputed"))
    of_bars = pl.col("kind").is_in([BAR, BARS])
    return {
        table: int(found.filter(condition)["rows"].sum())
        for table, condition in (("bars", of_bars), ("corporate_actions", ~of_bars))
    }


def read(warehouse: Warehouse, source: str, as_of: datetime) -> list[Withdrawal]:
    """What is withdrawn as known by ``as_of``, with what stood and whether the same stands near it."""
    return [
        Withdrawal(
            row["instrument"], row["row"], row["session"], row["session_to"], row["rows"], row["known_at"],
            row["stored"], {} if row["row"] in (BARS, ACTIONS) else _values(row), row["moved_to"],
        )
        for row in _what_stood(warehouse, "select * from standing", {"source": source, "as_of": as_of})
    ]  # fmt: skip


def ever(
    warehouse: Warehouse, source: str, first: date, last: date, instrument: str | None = None
) -> list[dict[str, Any]]:
    """Every withdrawal of sessions ``first`` to ``last`` and every end of one, with what stood or stands again.

    Returns:
        Rows with instrument, row (its kind), session, session_to, rows (0: it ends), many (how many rows it is about),
        seen_at, batch_id, moved_to (where the same stands near it), and the values.
    """
    asked = {"source": source, "as_of": None, "first": first, "last": last, "instrument": instrument}
    return _what_stood(warehouse, _EVER, asked)


def _what_stood(warehouse: Warehouse, chosen: LiteralString, asked: Mapping[str, object]) -> list[dict[str, Any]]:
    return [
        row
        for table in _OF_TABLE
        for row in warehouse.rows(_WHAT_STOOD.format(standing=_STANDING, chosen=chosen, **table), asked)
    ]


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _VALUES if name in row}


def _lacking(
    writing: Writing, answer: Answer, start: date, end: date, covered: pl.DataFrame, bars: pl.DataFrame | None
) -> pl.DataFrame:
    """Stored rows of the range that the answer is whole for and does not hold, of `LACKING_SCHEMA`."""
    # Of whom no bar of the range was stored before, nothing is looked for: a first fetch reads nothing.
    before = covered.filter(pl.col("first_bar") <= end, pl.col("last_bar") >= start)["instrument"]
    actions = _stored_actions(writing, start, end, sorted(answer.actions.intersection(before)))
    lost = actions.join(answer.rows, on=["instrument", "session", "kind"], how="anti")
    if bars is None:
        return lost
    whole = bars.filter(pl.col("instrument").is_in(list(answer.bars)))
    return pl.concat([whole.with_columns(kind=pl.lit(BAR)).select(LACKING_SCHEMA.names()).cast(LACKING_SCHEMA), lost])


def _stored_actions(writing: Writing, start: date, end: date, names: list[str]) -> pl.DataFrame:
    """Actions of the instruments ``names`` and sessions ``start`` to ``end``, of `LACKING_SCHEMA`."""
    if not names:
        return LACKING_SCHEMA.to_frame()
    # By ts too, which keys go by: a session opens no earlier than its own day begins anywhere.
    first, last = (datetime.combine(day, time(), UTC) for day in (start, end))
    few = names if len(names) <= _FEW_INSTRUMENTS else None
    found = writing.cursor.execute(
        _STORED_ACTIONS,
        {
            "source": writing.source, "start": start, "end": end, "few": few, "from": first - timedelta(days=1),
            "until": last + timedelta(days=1),
        },
    ).fetchall()  # fmt: skip
    stored = pl.DataFrame(found, schema=LACKING_SCHEMA, orient="row")
    return stored.filter(pl.col("instrument").is_in(names))
