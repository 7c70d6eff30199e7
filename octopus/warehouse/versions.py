"""Versions of bitemporal rows: which fetched rows say something that is not stored yet.

Belongs here: comparing a fetch with the current versions, when a new version was known, and what the fetch lacks. Does
not: reading and writing them (resources/warehouse/store.py), what it means (withdrawals.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

STAMPS = ("known_at", "known_at_imputed")
"""Not content: the same row fetched again with another stamp is no restatement."""


@dataclass(frozen=True)
class Changes:
    """What a fetch adds.

    Attributes:
        rows: new and restated rows with their stamps, columns as fetched.
    """

    rows: pl.DataFrame
    new: int
    restated: int
    unchanged: int


def changes(
    fetched: pl.DataFrame, stored: pl.DataFrame, key: Sequence[str], now: datetime, again: pl.DataFrame | None = None
) -> Changes:
    """Rows of ``fetched`` that differ from their current version, a missing number being equal to another.

    A row whose key is new keeps its ``known_at``. A restatement whose ``known_at`` was only imputed is known from
    ``now`` on, and that is recorded: nobody could have known it before we first saw it.

    Args:
        fetched: one row for each ``key``, with `STAMPS`. stored: versions of the same keys and perhaps of
            others, with ``batch_id``; the highest one counts.
        again: keys whose current version the vendor had withdrawn: sent again, the same content is a version that is
            known from ``now`` on.
    """
    rows = fetched.with_columns(pl.selectors.float().fill_nan(None))
    content = [name for name in fetched.columns if name not in (*key, *STAMPS)]
    current = (
        stored.sort("batch_id")
        .unique(list(key), keep="last")
        .select(*key, pl.lit(value=True).alias("_stored"), *(pl.col(name).alias(f"_{name}") for name in content))
    )
    compared = rows.join(current, on=list(key), how="left", maintain_order="left")
    is_new = pl.col("_stored").is_null()
    differs = pl.any_horizontal(
        [pl.lit(value=False), *(pl.col(name).ne_missing(pl.col(f"_{name}")) for name in content)]
    )
    returns = pl.lit(value=False)
    if again is not None:
        compared = compared.join(
            again.select(key, _again=pl.lit(value=True)), on=list(key), how="left", maintain_order="left"
        )
        returns = pl.col("_again").fill_null(value=False)
    judged = compared.with_columns(_new=is_new, _restated=~is_new & (differs | returns))
    late = pl.col("_restated") & (pl.col("known_at_imputed") | returns)
    instant = pl.lit(now).cast(pl.Datetime("us", "UTC"))
    added = judged.filter(pl.col("_new") | pl.col("_restated")).select(
        pl.when(late).then(pl.max_horizontal("known_at", instant)).otherwise("known_at").alias("known_at")
        if name == "known_at"
        else (pl.col("known_at_imputed") & pl.col("_new")).alias(name)
        if name == "known_at_imputed"
        else pl.col(name)
        for name in fetched.columns
    )
    new, restated = int(judged["_new"].sum()), int(judged["_restated"].sum())
    return Changes(added, new, restated, len(fetched) - new - restated)


def lacking(fetched: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Stored sessions of the instruments in ``fetched`` that are not in it; columns instrument, session, ts.

    By session and not by key: a calendar that corrects a closing time makes no other bar.
    """
    day = ["instrument", "session"]
    missing = stored.join(fetched, on="instrument", how="semi").join(fetched, on=day, how="anti")
    return missing.sort("batch_id").unique(day, keep="last", maintain_order=True).select(*day, "ts")
