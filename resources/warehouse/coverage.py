"""What was asked of a source and what it left unanswered, kept in ``ops.coverage`` and ``ops.holes``.

Belongs here: reading what a run has to ask for, and recording what a part of a fetch answered. Does not: deciding from
where on to ask (octopus/market_data/coverage.py), asking.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, LiteralString

import polars as pl

from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.coverage import COVERAGE_SCHEMA, HOLES_SCHEMA, RETRIES, unanswered
from resources.warehouse.store import Warehouse, Writing

DESCRIBED_FOR = timedelta(days=180)
"""A description that is older is asked for again, one instrument's with each run."""

_SLICE = 500

_DUE: LiteralString = """
    select instrument, min(session) as session from ops.holes h
    where source = %s and (asked_at is null or exists (
        select from unnest(%s::interval[]) wait where asked_at < found_at + wait and found_at + wait <= %s
    ))
    group by instrument
"""

_ASKED: LiteralString = """
    insert into ops.coverage as kept
        (source, instrument, asked_from, asked_to, asked_at, first_bar, last_bar, described_at)
    select %(source)s, a.instrument, %(start)s, %(end)s, %(now)s, a.first_bar, a.last_bar,
        case when a.instrument = any(%(described)s) then %(now)s end
    from unnest(%(instruments)s::text[], %(firsts)s::date[], %(lasts)s::date[]) as a (instrument, first_bar, last_bar)
    order by a.instrument
    on conflict (source, instrument) do update set
        asked_from = case
            -- What was asked for while the vendor did not know it yet, is to be asked for again.
            when kept.first_bar is null and excluded.first_bar is not null then excluded.asked_from
            when excluded.asked_to >= kept.asked_from - 1 then least(kept.asked_from, excluded.asked_from)
            else kept.asked_from
        end,
        asked_to = case
            when excluded.asked_from <= kept.asked_to + 1 then greatest(kept.asked_to, excluded.asked_to)
            else kept.asked_to
        end,
        asked_at = excluded.asked_at,
        first_bar = least(kept.first_bar, excluded.first_bar),
        last_bar = greatest(kept.last_bar, excluded.last_bar),
        described_at = coalesce(excluded.described_at, kept.described_at)
"""

# A gap is none where a bar was stored before, nor between a delisting and the next bearer's first bar.
_EMPTY: LiteralString = """
    insert into ops.holes as kept (source, instrument, session, found_at, asked_at)
    select %(source)s, h.instrument, h.session, %(now)s, case when h.asked then %(now)s end
    from unnest(%(instruments)s::text[], %(sessions)s::date[], %(asked)s::boolean[]) as h (instrument, session, asked)
    where not exists (
        select from raw.bars b where b.source = %(source)s and b.instrument = h.instrument and b.session = h.session
            and b.ts between h.session - interval '1 day' and h.session + interval '2 days'
    ) and not exists (
        select from raw.corporate_actions a
        where a.source = %(source)s and a.instrument = h.instrument and a.kind in ('delisting', 'symbol_change')
            and a.session <= h.session and not exists (
                select from raw.bars b where b.source = a.source and b.instrument = a.instrument
                    and b.session > a.session and b.session < h.session
            )
    )
    order by h.instrument, h.session
    on conflict (source, instrument, session) do update set asked_at = coalesce(excluded.asked_at, kept.asked_at)
"""

_FILLED: LiteralString = """
    delete from ops.holes h using ops.coverage c
    where h.source = %(source)s and h.instrument = any(%(instruments)s)
        and c.source = h.source and c.instrument = h.instrument
        and (h.session < c.first_bar or exists (
            select from raw.bars b where b.source = h.source and b.instrument = h.instrument and b.session = h.session
                and b.ts between h.session - interval '1 day' and h.session + interval '2 days'
        ))
"""


@dataclass(frozen=True)
class Asked:
    """What a source was asked for so far.

    Attributes:
        covered: `octopus.market_data.coverage.COVERAGE_SCHEMA`. holes: those to be asked for now, each instrument's
            first one. described: instruments whose description need not be asked for.
    """

    covered: pl.DataFrame
    holes: pl.DataFrame
    described: frozenset[str]


def read(warehouse: Warehouse, source: str, instruments: Collection[str], clock: Sessions, now: datetime) -> Asked:
    """What was asked of ``source`` for ``instruments``; of bars that came before that was recorded, their gaps too."""
    rows = _rows(warehouse, source)
    wanted = set(instruments)
    new = sorted(wanted - {row["instrument"] for row in rows})
    if new and _adopt(warehouse, source, new, clock, now):
        rows = _rows(warehouse, source)
    holes = warehouse.rows(_DUE, [source, list(RETRIES), now])
    rows = [row for row in rows if row["instrument"] in wanted]
    described = sorted((row["described_at"], row["instrument"]) for row in rows if row["described_at"] is not None)
    old = [name for at, name in described[:1] if at < now - DESCRIBED_FOR]
    covered = pl.DataFrame(rows, schema={**COVERAGE_SCHEMA, "described_at": pl.Datetime("us", "UTC")})
    return Asked(
        covered.drop("described_at"),
        pl.DataFrame(holes, schema=HOLES_SCHEMA),
        frozenset(name for _, name in described) - frozenset(old),
    )


def record(
    writing: Writing, instruments: Sequence[str], start: date, end: date, bars: pl.DataFrame,
    described: Collection[str], covered: pl.DataFrame, calendars: Calendars,
) -> None:  # fmt: skip
    """Put on record, with the rows that came, that ``instruments`` were asked for sessions ``start`` to ``end``.

    Args:
        bars: what came; columns instrument and session.
        described: whose description came.
        covered: what was asked for before.
    """
    held = pl.DataFrame({"instrument": list(instruments)}, schema={"instrument": pl.String}).join(
        bars.group_by("instrument").agg(first=pl.col("session").min(), last=pl.col("session").max()),
        on="instrument", how="left",
    )  # fmt: skip
    values = {
        "source": writing.source, "now": writing.moment, "start": start, "end": end, "described": list(described),
        "instruments": held["instrument"].to_list(), "firsts": held["first"].to_list(), "lasts": held["last"].to_list(),
    }  # fmt: skip
    writing.cursor.execute(_ASKED, values)
    _leave(writing, unanswered(instruments, start, end, bars, covered, calendars))
    writing.cursor.execute(_FILLED, values)


def asked_up_to(warehouse: Warehouse, source: str, session: date, instruments: Collection[str]) -> int:
    """How many of ``instruments`` the source was asked for up to ``session``."""
    return int(
        warehouse.scalar(
            "select count(*) from ops.coverage where source = %s and asked_to >= %s and instrument = any(%s)",
            [source, session, list(instruments)],
        )
    )


def empty(warehouse: Warehouse, source: str) -> pl.DataFrame:
    """Gaps that the source was asked for and left empty.

    Returns:
        Columns instrument, session_from, session_to, sessions, found_at (of the first), asked_at (of the last).
    """
    rows = warehouse.rows(
        """
        select instrument, min(session) as session_from, max(session) as session_to, count(*)::int as sessions,
            min(found_at) as found_at, max(asked_at) as asked_at
        from ops.holes where source = %s group by instrument order by instrument
        """,
        [source],
    )
    return pl.DataFrame(
        rows,
        schema={
            "instrument": pl.String, "session_from": pl.Date, "session_to": pl.Date, "sessions": pl.Int64,
            "found_at": pl.Datetime("us", "UTC"), "asked_at": pl.Datetime("us", "UTC"),
        },
    )  # fmt: skip


def _rows(warehouse: Warehouse, source: str) -> list[dict[str, Any]]:
    return warehouse.rows(
        """
        select instrument, asked_from, asked_to, first_bar, last_bar, described_at from ops.coverage
        where source = %s order by instrument
        """,
        [source],
    )


def _leave(writing: Writing, holes: pl.DataFrame) -> None:
    if holes.is_empty():
        return
    writing.cursor.execute(
        _EMPTY,
        {
            "source": writing.source, "now": writing.moment,
            **{f"{name}s" if name != "asked" else name: holes[name].to_list() for name in holes.columns},
        },
    )  # fmt: skip


def _adopt(warehouse: Warehouse, source: str, instruments: Sequence[str], clock: Sessions, now: datetime) -> bool:
    """Put on record what bars say of instruments that were asked for before anybody recorded it; whether any has bars.

    Nobody knows how far back they were asked for, so that history before their first bar is asked for once.
    """
    calendars, found = warehouse.calendars(source, clock), False
    for row in range(0, len(instruments), _SLICE):
        names = instruments[row : row + _SLICE]
        bars = warehouse.read(
            """
            select distinct instrument, session from raw.bars
            where source = $1 and instrument = any(string_to_array($2, chr(31)))
            """,
            [source, "\x1f".join(names)],
        )
        if bars.is_empty():
            continue
        found = True
        ends = bars.group_by("instrument").agg(first=pl.col("session").min(), last=pl.col("session").max())
        holes = unanswered(
            ends["instrument"].to_list(), date.min, date.max, bars, COVERAGE_SCHEMA.to_frame(), calendars
        )
        with warehouse.writing(source, now=now) as writing:
            writing.cursor.execute(
                """
                insert into ops.coverage
                    (source, instrument, asked_from, asked_to, first_bar, last_bar, described_at)
                select %(source)s, a.instrument, a.first, a.last, a.first, a.last, (
                    select max(i.ingested_at) from raw.instruments i
                    where i.source = %(source)s and i.instrument = a.instrument)
                from unnest(%(instruments)s::text[], %(firsts)s::date[], %(lasts)s::date[])
                    as a (instrument, first, last)
                on conflict do nothing
                """,
                {
                    "source": source, "instruments": ends["instrument"].to_list(), "firsts": ends["first"].to_list(),
                    "lasts": ends["last"].to_list(),
                },
            )  # fmt: skip
            _leave(writing, holes.with_columns(asked=pl.lit(value=False)))
    return found
