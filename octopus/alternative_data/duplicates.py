"""Which texts repeat an earlier one: copies, reposts, republished items, and what is new in a text.

Belongs here: groups of texts that say the same, decided for each text from earlier texts alone. Does not: bursts of
such texts (bursts.py), comparing two texts (shingles.py).
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from octopus.alternative_data.shingles import alike, facts, is_cut, plain, shingles, signatures
from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, IntArray

WINDOW = timedelta(days=30)
"""After this time the same words are news again: "Earnings scheduled for today" comes back every quarter."""
SIMILARITY = 0.7
_ORDER = ("known_at", "source", "item_id", "text")


def mark_duplicates(items: pl.DataFrame, window: timedelta = WINDOW, similarity: float = SIMILARITY) -> pl.DataFrame:
    """Say of each item which earlier item it repeats.

    An item repeats another that was known before it, no longer than ``window`` ago, if it has the same source and id
    (republished), the same words (copies and reposts, see `shingles.plain`), or nearly the same words with the same
    numbers and cashtags. Items of one instant stand in the order of source, id and text. A group is founded by an item
    that repeats none; it grows, and is never joined with another, so later texts change nothing about earlier ones.

    Args:
        items: any order, with ``source``, ``item_id``, ``known_at`` (UTC) and ``text``. An item that stands under
            several instruments, with the same id, instant and text, is one item.
        similarity: least Jaccard similarity of the texts' runs of five bytes, in (0, 1].

    Returns:
        ``items`` with ``group`` ("source:item_id@instant" of the founder), ``first`` (the founder's ``known_at``) and
        ``copy`` (it is not the founder itself), rows as given.

    Raises:
        MissingDataError: a column is missing, or an instant is.
    """
    require_columns(items, _ORDER)
    texts = items.select(_ORDER).unique().sort(_ORDER, nulls_last=True).with_row_index("node")
    first, repeats = _founders(texts, window, similarity)
    founder = texts.select(
        group=pl.format("{}:{}@{}", "source", "item_id", pl.col("known_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        first="known_at",
    )[first]
    found = pl.concat([texts.drop("node"), founder, pl.DataFrame({"copy": repeats})], how="horizontal")
    return items.join(found, on=_ORDER, how="left", nulls_equal=True, maintain_order="left")


def _founders(texts: pl.DataFrame, window: timedelta, similarity: float) -> tuple[IntArray, BoolArray]:
    """For each text in order of time the row of its group's founder, and whether it repeats an earlier text."""
    parent = np.arange(texts.height)
    instants = texts["known_at"].dt.timestamp("us").to_numpy()
    span = int(window / timedelta(microseconds=1))
    # A text that is nothing but a link has no words to compare: it is known by its raw form.
    spoken = texts.select(
        "source",
        "item_id",
        words=pl.coalesce(pl.when(plain(pl.col("text")) != "").then(plain(pl.col("text"))), "text"),
        cut=is_cut(pl.col("text")),
    )
    for columns in (("source", "item_id"), ("words",)):
        before, after = _neighbours(_numbered(spoken, *columns), instants, span)
        np.minimum.at(parent, after, before)
    # The same words whole and cut off are two texts here: a later copy must not change how an earlier one is compared.
    distinct = spoken.select("words", "cut").unique(maintain_order=True)
    before, after = _near(distinct, _numbered(spoken, "words", "cut"), instants, span, similarity)
    np.minimum.at(parent, after, before)
    repeats: BoolArray = parent < np.arange(len(parent))
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return parent, repeats


def _numbered(frame: pl.DataFrame, *columns: str) -> IntArray:
    """For each row the number of its distinct value, in the order of their first appearance, shape (rows,)."""
    first = frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), *columns)
    number = first.select(pl.col("row").min().over(columns).rank("dense").cast(pl.Int64) - 1)
    return number.to_series().to_numpy()


def _neighbours(chain: IntArray, instants: IntArray, span: int) -> tuple[IntArray, IntArray]:
    """Pairs (earlier, later) of rows with the same key: each row with the one before it and the first of its window."""
    order = np.argsort(chain, kind="stable")  # rows are in order of time, and stay so within a key
    key, time = chain[order], instants[order]
    length = int(np.ptp(instants)) + span + 2 if len(instants) else 1
    line = (np.cumsum(np.concatenate([[0], key[1:] != key[:-1]])) if len(key) else key) * length + (
        time - time.min(initial=0)
    )
    opening = np.searchsorted(line, line - span)
    # A reach into the key before is cut off by the distance that stands between two keys.
    later = np.flatnonzero(opening < np.arange(len(order)))
    pairs = [(opening[later], later), (later - 1, later)]
    before = np.concatenate([order[one] for one, _ in pairs])
    after = np.concatenate([order[other] for _, other in pairs])
    return before, after


def _near(
    distinct: pl.DataFrame, text_of: IntArray, instants: IntArray, span: int, similarity: float
) -> tuple[IntArray, IntArray]:
    """Pairs (earlier, later) of rows whose texts are not the same, but nearly.

    Args:
        distinct: columns ``words`` and ``cut``. text_of: its row for each of the texts.
    """
    cut = distinct["cut"].to_numpy()
    sets = shingles(distinct["words"])
    bands = signatures(sets)
    compared = np.flatnonzero(sets.sizes[text_of] > 0)
    found = [_neighbours(bands[text_of[compared], band].view(np.int64), instants[compared], span)
             for band in range(bands.shape[1])]  # fmt: skip
    before = compared[np.concatenate([one for one, _ in found])]
    after = compared[np.concatenate([other for _, other in found])]
    differ = text_of[before] != text_of[after]
    before, after = _distinct_pairs(before[differ], after[differ], len(text_of))
    pairs = text_of[before] * len(sets.sizes) + text_of[after]
    codes, inverse = np.unique(pairs, return_inverse=True)
    one, other = np.divmod(codes, len(sets.sizes))
    near = alike(sets, cut, one, other, similarity)
    near[near] = _same_facts(distinct, one[near], other[near])
    return before[near[inverse]], after[near[inverse]]


def _distinct_pairs(before: IntArray, after: IntArray, count: int) -> tuple[IntArray, IntArray]:
    codes = np.unique(before * count + after)
    return codes // count, codes % count


def _same_facts(distinct: pl.DataFrame, one: IntArray, other: IntArray) -> BoolArray:
    """Whether the texts of each pair have the same numbers and cashtags; of a text that was cut off, some of them."""
    told = distinct.select("cut", told=facts(pl.col("words")))
    frame = pl.concat([told[one], told[other].select(pl.all().name.suffix("_other"))], how="horizontal")
    lacking = pl.col("told_other").list.set_difference("told").list.len() > 0
    lacking_other = pl.col("told").list.set_difference("told_other").list.len() > 0
    same = (pl.col("cut") | ~lacking) & (pl.col("cut_other") | ~lacking_other)
    return frame.select(same).to_series().to_numpy().astype(bool)


def require_columns(items: pl.DataFrame, columns: tuple[str, ...]) -> None:
    """Refuse a frame without one of ``columns``, or with an unknown instant.

    Raises:
        MissingDataError: names the column and the remedy.
    """
    missing = [name for name in columns if name not in items.columns]
    if missing:
        raise MissingDataError(f"texts: the column {missing[0]} is missing; give {', '.join(columns)}")
    if items["known_at"].null_count():
        raise MissingDataError("texts: known_at is missing in some rows; stamp every item before it is compared")
