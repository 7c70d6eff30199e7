"""Verdicts on vendors' rows in the warehouse: what is undecided, what was decided, and storing a decision.

Belongs here: reading the rows that verdicts are about, appending verdicts, and how far they go. Does not: which rows a
decision changes (octopus/warehouse/verdicts.py).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl

from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from octopus.warehouse.verdicts import JUDGED_ACTIONS, Case, Decision, Verdicts, personal_verdict, taken_back
from resources.warehouse.store import Warehouse


def vendor_bars(
    warehouse: Warehouse,
    source: str,
    as_of: datetime,
    instruments: Collection[str] | None = None,
    since: date | None = None,
    *,
    stamped: bool = True,
) -> pl.DataFrame:
    """Bars as the vendor last sent them by ``as_of``, whatever was decided about them.

    Args:
        instruments: only theirs. since: only of sessions from this one on.
        stamped: with ts, known_at, known_at_imputed and ``decided``, which verdicts are made with; judging alone does
            without, and has them read in two thirds of the time.

    Returns:
        In the order of instrument and session: columns of raw.bars up to known_at_imputed, adj_close and adj_as_of (the
        session from which that was told) where the vendor gives one, and ``decided``: a verdict is newer than the
        vendor's row.
    """
    wanted, parameters = _wanted(source, as_of, instruments, since)
    stamps = ("ts", "known_at", "known_at_imputed") if stamped else ()
    columns = ("instrument", "session", "open", "high", "low", "close", "volume", "batch_id", *stamps)
    # Versions are told apart here: the server would sort all of them, on disk.
    bars = _newest(
        warehouse.read(
            f"select {', '.join(columns)} from raw.bars where {wanted}",  # noqa: S608  # our columns, the condition above
            parameters,
        )
    )
    keys = ["instrument", "session"]
    adjusted = _newest(
        warehouse.read(
            f"select instrument, session, adj_close, known_at as told, batch_id from raw.adjusted_closes where {wanted}",  # noqa: S608, E501
            parameters,
        )
    ).drop("batch_id")
    if adjusted.is_empty():
        bars = bars.with_columns(adj_close=pl.lit(None, pl.Float64), adj_as_of=pl.lit(None, pl.Date))
    else:
        bars = bars.join(_told_from(warehouse, source, adjusted), on=keys, how="left", maintain_order="left")
    ours = [pl.lit(source).alias("source")]
    if not stamped:
        return bars.select(*ours, *_VENDORS, "adj_close", "adj_as_of")
    judged = warehouse.read(
        f"""
        select instrument, session, max(batch_id) as judged from raw.bar_verdicts
        where {wanted} group by instrument, session
        """,  # noqa: S608  # the condition above
        parameters,
    )
    return bars.join(judged, on=keys, how="left", maintain_order="left").select(
        *ours, "instrument", "ts", *_VENDORS[1:], "known_at", "known_at_imputed", "adj_close", "adj_as_of",
        decided=(pl.col("judged") > pl.col("batch_id")).fill_null(value=False),
    )  # fmt: skip


_VENDORS = ("instrument", "session", "open", "high", "low", "close", "volume")


def _newest(versions: pl.DataFrame) -> pl.DataFrame:
    """The newest version of each instrument and session, in their order.

    By one number for each key: to compare names half a million times takes ten times as long.
    """
    if versions.is_empty():
        return versions
    names = pl.Enum(versions["instrument"].unique().sort())
    code, day = pl.col("instrument").cast(names).to_physical().cast(pl.Int64), pl.col("session").cast(pl.Int64)
    key = versions.select(code * 10_000_000 + day).to_series().to_numpy()
    order = np.lexsort((versions["batch_id"].to_numpy(), key))
    is_last = np.append(key[order][1:] != key[order][:-1], True)
    newest: pl.DataFrame = versions[order[is_last]]
    return newest


def _told_from(warehouse: Warehouse, source: str, adjusted: pl.DataFrame) -> pl.DataFrame:
    """``adjusted`` with adj_as_of, the session of the instrument's exchange that its fetch fell into or came after."""
    rows = warehouse.rows(
        """
        select distinct on (instrument) instrument, exchange from raw.instruments where source = %s
        order by instrument, ts desc, batch_id desc
        """,
        [source],
    )
    exchanges = pl.DataFrame(rows, schema={"instrument": pl.String, "exchange": pl.String})
    placed = adjusted.join(exchanges, on="instrument", how="left")
    fetches = placed.select("told", "exchange").drop_nulls().unique()
    begun = warehouse.read(
        """
        select f.told, f.exchange, (
            select max(c.session) from ops.sessions c where c.open_utc <= f.told and c.exchange = f.exchange
        ) as adj_as_of
        from unnest(string_to_array($1, ',')::timestamptz[], string_to_array($2, chr(31))) as f (told, exchange)
        """,
        [",".join(instant.isoformat() for instant in fetches["told"]), "\x1f".join(fetches["exchange"])],
    )
    return placed.join(begun, on=["told", "exchange"], how="left").drop("exchange")


def vendor_actions(
    warehouse: Warehouse,
    source: str,
    as_of: datetime,
    instruments: Collection[str] | None = None,
    since: date | None = None,
    *,
    kinds: Collection[str] = ("split", "dividend"),
) -> pl.DataFrame:
    """Actions of ``kinds`` as the vendor last sent them by ``as_of``, likewise with ``decided``.

    Of one that the vendor has withdrawn since, what was decided before is decided anew.
    """
    wanted, parameters = _wanted(source, as_of, instruments, since)
    parameters.append("\x1f".join(kinds))
    return warehouse.read(
        f"""
        with sent as (
            select distinct on (instrument, session, kind) source, instrument, ts, session, kind, value, detail,
                known_at, known_at_imputed, batch_id
            from raw.corporate_actions
            where {wanted}
                and kind = any(string_to_array(${len(parameters)}, chr(31)))
            order by instrument, session, kind, batch_id desc
        ),
        gone as (
            select instrument, session, kind, max(batch_id) as batch_id from raw.withdrawals
            where {wanted} group by instrument, session, kind
        ),
        judged as (
            select instrument, session, kind, max(batch_id) as batch_id from raw.action_verdicts
            where {wanted} group by instrument, session, kind
        )
        select s.source, s.instrument, s.ts, s.session, s.kind, s.value, s.detail, s.known_at, s.known_at_imputed,
            coalesce(j.batch_id > greatest(s.batch_id, g.batch_id), false) as decided
        from sent s
        left join judged j using (instrument, session, kind)
        left join gone g using (instrument, session, kind)
        order by s.instrument, s.session, s.kind
        """,  # noqa: S608  # the condition above
        parameters,
    )


def _wanted(
    source: str, as_of: datetime, instruments: Collection[str] | None, since: date | None
) -> tuple[str, list[object]]:
    """Condition on a raw table and its parameters; only what is asked for is in it, so that each has its own plan."""
    conditions, parameters = ["source = $1", "known_at <= $2"], [source, as_of]
    if instruments is not None:
        parameters.append("\x1f".join(instruments))
        conditions.append(f"instrument = any(string_to_array(${len(parameters)}, chr(31)))")
    if since is not None:
        # By ts too, which chunks go by: a session closes no earlier than its own day begins anywhere.
        parameters += [since, datetime.combine(since, time(), UTC) - timedelta(days=1)]
        conditions.append(f"session >= ${len(parameters) - 1} and ts >= ${len(parameters)}")
    return " and ".join(conditions), parameters


def store(warehouse: Warehouse, verdicts: Verdicts, source: str, run_id: str | None = None) -> tuple[int, int]:
    """Append verdicts; how many bars and how many actions they newly decide about."""
    counts = [
        warehouse.append(table, frame, source=source, run_id=run_id)
        for table, frame in (("bar_verdicts", verdicts.bars), ("action_verdicts", verdicts.actions))
    ]
    return counts[0].new + counts[0].restated, counts[1].new + counts[1].restated


def last_batch(warehouse: Warehouse) -> int:
    """The batch up to which everything is stored; ask before reading what is judged."""
    found: int | None = warehouse.scalar("select last_batch from ops.batch_counter")
    return found or 0


def judged(warehouse: Warehouse, source: str, batch_id: int) -> None:
    """Put on record that the rows of ``source`` up to ``batch_id`` were looked at, and what was decided is stored.

    Until then no later batch of bars or actions is used (ops.unjudged). One source is judged: another that once was is
    not waited for. Where nothing of the source has arrived, nothing changes.
    """
    with warehouse.connect() as connection:
        connection.execute("delete from ops.judged where source <> %s", [source])
        connection.execute(
            """
            insert into ops.judged (source, batch_id, judged_at) values (%s, %s, %s)
            on conflict (source) do update
            set batch_id = excluded.batch_id, judged_at = excluded.judged_at
            where exists (
                select from ops.unjudged u where u.source = excluded.source and u.batch_id <= excluded.batch_id)
            """,
            [source, batch_id, datetime.now(UTC)],
        )


def waiting(warehouse: Warehouse) -> list[dict[str, Any]]:
    """What nothing uses yet, because it arrived since its source was last judged (ops.unjudged).

    Returns:
        For each source with such rows: source, bars, actions (numbers of versions), sessions (how many, of both), first
        and last (the sessions they are of).
    """
    return warehouse.rows(
        """
        select u.source, count(*) filter (where w.is_bar) as bars, count(*) filter (where not w.is_bar) as actions,
            count(distinct w.session) as sessions, min(w.session) as first, max(w.session) as last
        from ops.unjudged u
        cross join lateral (
            select session, true as is_bar from raw.bars b where b.source = u.source and b.batch_id >= u.batch_id
            union all
            select session, false from raw.corporate_actions a where a.source = u.source and a.batch_id >= u.batch_id
        ) w
        group by u.source order by u.source
        """
    )


def decide(
    warehouse: Warehouse, finding_id: str, decision: Decision, sessions: Sessions,
    *, by: str, reason: str, now: datetime,
) -> tuple[str, int, int]:  # fmt: skip
    """Store a person's decision about one finding; the source, and how many bars and actions it concerns.

    Raises:
        MissingDataError: the finding is unknown, proposes no repair, or has no stored row under it.
    """
    rows = warehouse.rows("select * from ops.quality_findings where starts_with(finding_id, %s) limit 2", [finding_id])
    if len(rows) != 1:
        why = "is unknown" if not rows else "begins several findings"
        raise MissingDataError(f"finding {finding_id!r} {why}; `octopus quality list` prints them")
    row: dict[str, Any] = rows[0]
    # A comparison is recorded under "ours and theirs": what is decided on is ours.
    source = str(row["source"]).split(" and ", maxsplit=1)[0]
    case = Case.from_row(row)
    bars = vendor_bars(warehouse, source, now, [case.instrument])
    actions = vendor_actions(warehouse, source, now, [case.instrument], kinds=JUDGED_ACTIONS)
    if decision == "take_back":
        found = taken_back(case, _in_force(warehouse, source, case), bars, actions, by=by, reason=reason, now=now)
    else:
        calendars = warehouse.calendars(source, sessions)
        found = personal_verdict(case, decision, bars, actions, calendars, by=by, reason=reason, now=now)
    return source, *store(warehouse, found, source)


def _in_force(warehouse: Warehouse, source: str, case: Case) -> Verdicts:
    """The verdicts of a finding that no later one has replaced."""
    frames = [
        warehouse.read(
            f"""
            select * from (
                select distinct on ({key}) * from raw.{table}
                where source = $1 and instrument = $2 order by {key}, batch_id desc
            ) v where finding_id = $3 and decision <> 'take_back'
            """,  # noqa: S608  # two tables of ours and their keys
            [source, case.instrument, case.finding_id],
        )
        for table, key in (("bar_verdicts", "session"), ("action_verdicts", "session, kind"))
    ]
    return Verdicts(*frames)


def decisions(warehouse: Warehouse) -> pl.DataFrame:
    """Every decision that is on record, the latest first: finding, what, by whom, why, over how many rows."""
    return warehouse.read(
        """
        select finding_id, source, instrument, decision, decided_by, reason, min(session) as first,
            max(session) as last, count(*) as rows, max(ingested_at) as decided_at
        from (
            select source, instrument, session, finding_id, decision, decided_by, reason, ingested_at
            from raw.bar_verdicts
            union all
            select source, instrument, session, finding_id, decision, decided_by, reason, ingested_at
            from raw.action_verdicts
        ) v
        group by finding_id, source, instrument, decision, decided_by, reason, ingested_at
        order by decided_at desc, instrument, first
        """
    )
