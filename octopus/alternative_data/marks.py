"""What is known about a text beside its tone: whether it repeats another, comes in a burst, says something new, and so
how much it weighs.

Belongs here: joining the marks of duplicates.py and bursts.py with the language into one row for each item. Does not:
making those marks, telling the language (resources/sentiment/language.py), weighing by age (the mart).

A mark is made once, when its text first comes in, from texts that were known before it: a text that comes in late
changes no mark that a decision may have read.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from octopus.alternative_data.bursts import mark_bursts, novelty
from octopus.alternative_data.duplicates import WINDOW, mark_duplicates
from octopus.alternative_data.schema import UTC_INSTANT
from octopus.alternative_data.texts import scored_text

CONTEXT = WINDOW
"""How far back from a text those reach that it is compared with."""
READ_LANGUAGE = "en"
"""What the light sentiment models and FinBERT read; texts that are known to be in another language weigh nothing."""
ITEM_KEY = ("source", "instrument", "ts", "item_kind", "item_id", "text_hash")

MARKS_SCHEMA = pl.Schema(
    {
        "source": pl.String(), "instrument": pl.String(), "ts": UTC_INSTANT, "item_kind": pl.String(),
        "item_id": pl.String(), "text_hash": pl.String(), "known_at": UTC_INSTANT, "repeats": pl.String(),
        "copy": pl.Boolean(), "alike": pl.Int64(), "by_author": pl.Int64(), "burst": pl.Boolean(),
        "novelty": pl.Float64(), "language": pl.String(), "weight": pl.Float64(),
    }
)  # fmt: skip
"""Rows of raw.text_marks.

``repeats`` names the first text of its kind (`duplicates.mark_duplicates`), ``alike`` and ``by_author`` count the last
hour's like texts and the author's, ``novelty`` is in [0, 1], ``language`` is ISO 639-1 or null where it cannot be told.
``weight`` is the novelty, and 0 for a copy, for a text of a burst, and for one that is not in `READ_LANGUAGE`.
"""


def texts_of(news: pl.DataFrame, posts: pl.DataFrame) -> pl.DataFrame:
    """News and posts as one table of texts: the columns of `ITEM_KEY`, known_at, author (null for news) and text."""
    parts = [
        items.select(
            *(name for name in ITEM_KEY if name != "item_kind"), "known_at", item_kind=pl.lit(kind),
            author=pl.col("author") if "author" in items.columns else pl.lit(None, pl.String), text=scored_text(items),
        )
        for kind, items in (("news", news), ("post", posts))
    ]  # fmt: skip
    return pl.concat(parts)


def text_marks(texts: pl.DataFrame, wanted: pl.DataFrame, languages: Mapping[str, str | None]) -> pl.DataFrame:
    """Marks of some texts, from all of them.

    Args:
        texts: as `texts_of` gives them, at least of `CONTEXT` before the first wanted one.
        wanted: rows of ``texts`` to mark, by `ITEM_KEY`.
        languages: by ``text_hash``; a text that is not in it has none.

    Returns:
        A frame of `MARKS_SCHEMA`, one row for each of ``wanted``.
    """
    # Ids are unique within a service, and a service may send news and posts.
    named = texts.with_columns(source=pl.concat_str("item_kind", pl.lit("/"), "source"))
    marked = mark_bursts(mark_duplicates(named)).with_columns(source=texts["source"], novelty=novelty(named))
    own = marked.join(wanted.select(ITEM_KEY), on=list(ITEM_KEY), how="semi", maintain_order="left")
    hashes = own["text_hash"].unique()
    told = pl.DataFrame(
        {"text_hash": hashes, "language": [languages.get(name) for name in hashes]},
        schema={"text_hash": pl.String, "language": pl.String},
    )
    counts = pl.col("copy") | pl.col("burst") | (pl.col("language") != READ_LANGUAGE).fill_null(value=False)
    return (
        own.join(told, on="text_hash", how="left", maintain_order="left")
        .with_columns(repeats=pl.col("group"), weight=pl.when(counts).then(0.0).otherwise("novelty"))
        .select(MARKS_SCHEMA.names())
        .cast(MARKS_SCHEMA)
    )
