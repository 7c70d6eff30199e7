"""What vendors changed after the fact: stored bars whose later version differs from the one before it.

Belongs here: reading the differences. Does not: making versions (store.py), judging them (octopus/warehouse).

To see what a vendor has changed in a range since then, ingest the range again (the job `ingest` over a range of
partitions asks for all of it) and look here: what came back unchanged is no new version.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from resources.warehouse.store import Warehouse

FIELDS = ("open", "high", "low", "close", "volume")


def revisions(
    warehouse: Warehouse, source: str, first: date, last: date, instrument: str | None = None
) -> pl.DataFrame:
    """Every change of a stored bar of sessions ``first`` to ``last``, a row for each field that changed.

    Returns:
        Columns instrument, session, seen_at (when the new version was stored), batch_id, field, before, after; by
        instrument, session and batch.
    """
    frame = warehouse.read(
        """
        select b.instrument, b.session, b.ingested_at as seen_at, b.batch_id,
               p.open as open_before, b.open as open_after, p.high as high_before, b.high as high_after,
               p.low as low_before, b.low as low_after, p.close as close_before, b.close as close_after,
               p.volume as volume_before, b.volume as volume_after
        from raw.bars b
        -- Only these batches changed anything; the rest of the history is not read.
        join ops.batches o on o.batch_id = b.batch_id and o.rows_restated > 0
        cross join lateral (
            select * from raw.bars e
            where e.source = b.source and e.instrument = b.instrument and e.ts = b.ts and e.batch_id < b.batch_id
            order by e.batch_id desc limit 1
        ) p
        where b.source = $1 and b.session between $2 and $3 and ($4::text is null or b.instrument = $4)
        """,
        [source, first, last, instrument],
    )
    keys = ["instrument", "session", "seen_at", "batch_id"]
    changed = [
        frame.select(
            *keys, pl.lit(name).alias("field"), pl.col(f"{name}_before").alias("before"),
            pl.col(f"{name}_after").alias("after"),
        ).filter(pl.col("before").ne_missing(pl.col("after")))
        for name in FIELDS
    ]  # fmt: skip
    return pl.concat(changed).sort([*keys[:2], "batch_id", "field"])
