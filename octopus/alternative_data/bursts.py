"""Texts that come in bursts, as machines send them, and how much of a text is new.

Belongs here: counts over a trailing window, the mark they lead to, novelty. Does not: which earlier item a text repeats
(duplicates.py); nothing is dropped here.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from octopus.alternative_data.duplicates import require_columns
from octopus.alternative_data.shingles import plain

WINDOW = timedelta(hours=1)
LEAST_ALIKE = 5
LEAST_BY_AUTHOR = 20
NOVELTY_WINDOW = timedelta(days=5)
"""Stale news is mostly a repetition of the same week's; Tetlock (2011) compares a story with the ten before it."""


def mark_bursts(
    items: pl.DataFrame,
    window: timedelta = WINDOW,
    least_alike: int = LEAST_ALIKE,
    least_by_author: int = LEAST_BY_AUTHOR,
) -> pl.DataFrame:
    """Mark items that come with many of their like, or whose author sends many, within ``window`` up to the item.

    Two items are of one shape if their plain texts (`shingles.plain`) are equal but for their numbers and cashtags:
    a machine's form, filled in for one ticker after the other. Only the past counts, so the first of a burst are not
    marked; items of one instant count for each other.

    Args:
        items: any order, with ``source``, ``item_id``, ``known_at`` and ``text``, and ``author`` where it is known
            (none, or null: no author is counted). An item that stands under several instruments counts once.
        least_alike, least_by_author: so many items, itself included, make a burst.

    Returns:
        ``items`` with ``alike``, ``by_author`` (counts, itself included; 0 where there is no author, and no words)
        and ``burst``, rows as given.

    Raises:
        MissingDataError: a column is missing, or an instant is.
    """
    require_columns(items, ("source", "item_id", "known_at", "text"))
    author = pl.col("author") if "author" in items.columns else pl.lit(None, pl.String)
    keys = ("source", "item_id", "known_at", "text")
    each = items.select(*keys, author=author, shape=_shape(pl.col("text"))).unique(keys).sort("known_at")
    each = _trailing(each, ("shape",), window, "alike")
    each = _trailing(each, ("source", "author"), window, "by_author")
    counts = each.select(*keys, "alike", "by_author")
    burst = (pl.col("alike") >= least_alike) | (pl.col("by_author") >= least_by_author)
    return items.join(counts, on=keys, how="left", nulls_equal=True, maintain_order="left").with_columns(burst=burst)


def _shape(text: pl.Expr) -> pl.Expr:
    """The plain text with every number as 0 and every run of cashtags as one $; null without words."""
    masked = (
        plain(text).str.replace_all(r"\d[\d.,]*", "0").str.replace_all(r"\$[a-z][a-z.\-]*(?:\s\$[a-z][a-z.\-]*)*", "$")
    )
    return pl.when(masked.str.contains(r"\p{L}")).then(masked)


def _trailing(each: pl.DataFrame, group: tuple[str, ...], window: timedelta, name: str) -> pl.DataFrame:
    """``each``, in order of time, with the number of rows of the group in the window that ends at the row."""
    counted = (
        each.lazy()
        .drop_nulls(group)
        .rolling("known_at", period=window, group_by=group)
        .agg(pl.len().cast(pl.Int64).alias(name))
        .unique()
    )
    joined = each.lazy().join(counted, on=(*group, "known_at"), how="left", maintain_order="left")
    return joined.with_columns(pl.col(name).fill_null(0)).collect()


def novelty(items: pl.DataFrame, window: timedelta = NOVELTY_WINDOW) -> pl.Series:
    """Share of a text's word pairs that no earlier text on the same instrument had within ``window``, in [0, 1].

    0 for a copy, 1 for a text that shares no two neighbouring words with an earlier one; a single word counts as a
    pair, and a text without words is 0. Items of one instant stand in the order of source, id and text.

    Args:
        items: any order, with ``instrument``, ``source``, ``item_id``, ``known_at`` and ``text``.

    Returns:
        Float64 named ``novelty``, in the order of ``items``.

    Raises:
        MissingDataError: a column is missing, or an instant is.
    """
    require_columns(items, ("instrument", "source", "item_id", "known_at", "text"))
    words = (
        items.lazy()
        .with_row_index("row")
        .sort("known_at", "source", "item_id", "text", nulls_last=True)
        .select("row", "instrument", "known_at", word=plain(pl.col("text")).str.split(" "))
        .filter(pl.col("word").list.first() != "")
        .explode("word")
    )
    pairs = (
        words.with_columns(
            following=pl.when(pl.len().over("row") == 1)
            .then(pl.lit(""))
            .otherwise(pl.col("word").shift(-1).over("row"))
        )
        .drop_nulls("following")
        .unique(["row", "word", "following"], maintain_order=True)
        .with_columns(before=pl.col("known_at").shift(1).over("instrument", "word", "following"))
    )
    fresh = pl.col("before").is_null() | (pl.col("known_at") - pl.col("before") > window)
    share = pairs.group_by("row").agg(novelty=fresh.mean())
    rows = items.lazy().select(row=pl.int_range(pl.len(), dtype=pl.UInt32))
    return rows.join(share, on="row", how="left", maintain_order="left").collect()["novelty"].fill_null(0.0)
