"""What vendors changed after the fact: bars and corporate actions that came with other values, or come no more.

Belongs here: reading the differences. Does not: making versions (store.py), finding what no longer comes
(withdrawals.py), judging any of it (octopus/warehouse).

To see what a vendor has changed in a range since then, ingest the range again (the job `ingest` over a range of
partitions asks for all of it) and look here: what came back unchanged is no new version.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from resources.warehouse.store import Warehouse
from resources.warehouse.withdrawals import ever

BAR_FIELDS = ("open", "high", "low", "close", "volume")
ACTION_FIELDS = ("value", "detail")
_KEYS = ["instrument", "session", "row", "seen_at", "batch_id"]
SCHEMA = pl.Schema(
    {
        "instrument": pl.String(), "session": pl.Date(), "row": pl.String(), "seen_at": pl.Datetime("us", "UTC"),
        "batch_id": pl.Int64(), "change": pl.String(), "field": pl.String(), "before": pl.String(),
        "after": pl.String(),
    }
)  # fmt: skip


def revisions(
    warehouse: Warehouse, source: str, first: date, last: date, instrument: str | None = None
) -> pl.DataFrame:
    """Every change of a stored bar or action of sessions ``first`` to ``last``, a row for each field that changed.

    Returns:
        Columns instrument, session, row (``bar``, or the kind of an action; ``bars`` or ``actions`` where many are told
        as one), seen_at (when it was stored), batch_id, change (``changed``; ``withdrawn``: it does not come any more;
        ``moved to`` another session; ``sent again``), field, before and after (null: no value); by instrument, session
        and batch.
    """
    asked = [source, first, last, instrument]
    frames = [
        _changed(warehouse.read(_versions("bars", "'bar'", BAR_FIELDS), asked), BAR_FIELDS),
        _changed(warehouse.read(_versions("corporate_actions", "b.kind", ACTION_FIELDS), asked), ACTION_FIELDS),
        _withdrawn(warehouse, source, first, last, instrument),
    ]
    return pl.concat(frames).sort("instrument", "session", "batch_id", "row", "field")


def _versions(table: str, row: str, fields: Sequence[str]) -> str:
    """The versions of a table that followed another of the same key, beside that one."""
    beside = ", ".join(f"p.{name} as {name}_before, b.{name} as {name}_after" for name in fields)
    also = "" if table == "bars" else "and e.kind = b.kind"
    return f"""
        select b.instrument, b.session, {row} as row, b.ingested_at as seen_at, b.batch_id, {beside}
        from raw.{table} b
        -- Only these batches changed anything; the rest of the history is not read.
        join ops.batches o on o.batch_id = b.batch_id and o.rows_restated > 0
        cross join lateral (
            select * from raw.{table} e
            where e.source = b.source and e.instrument = b.instrument and e.ts = b.ts and e.batch_id < b.batch_id {also}
            order by e.batch_id desc limit 1
        ) p
        where b.source = $1 and b.session between $2 and $3 and ($4::text is null or b.instrument = $4)
    """  # noqa: S608  # two tables of ours and their columns


def _changed(versions: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """Rows of `SCHEMA` for the fields that differ."""
    return pl.concat(
        versions.filter(pl.col(f"{name}_before").ne_missing(pl.col(f"{name}_after"))).select(
            *_KEYS, change=pl.lit("changed"), field=pl.lit(name), before=_said(f"{name}_before"),
            after=_said(f"{name}_after"),
        ).cast(SCHEMA)
        for name in fields
    )  # fmt: skip


def _said(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String)


def _withdrawn(warehouse: Warehouse, source: str, first: date, last: date, instrument: str | None) -> pl.DataFrame:
    """What did not come any more, and what came again, field by field."""
    rows = []
    for one in ever(warehouse, source, first, last, instrument):
        is_many, is_over = one["row"] in ("bars", "actions"), one["rows"] == 0
        moved = f"moved to {one['moved_to']}" if one["moved_to"] else "withdrawn"
        change = ("sent again" if is_over else moved) + (f" up to {one['session_to']}" if is_many else "")
        values = {"rows": one["many"]} if is_many else {name: one.get(name) for name in (*BAR_FIELDS, *ACTION_FIELDS)}
        for name, value in values.items():
            if value is not None:
                before, after = (None, str(value)) if is_over else (str(value), None)
                rows.append(
                    {name: one[name] for name in _KEYS}
                    | {"change": change, "field": name, "before": before, "after": after}
                )
    return pl.DataFrame(rows, schema=SCHEMA)
