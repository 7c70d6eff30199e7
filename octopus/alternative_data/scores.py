"""Rows of sentiment scores: each text scored once, each score known no earlier than its text.

Belongs here: what to score and the rows that come of it. Does not: the models (resources/sentiment).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from octopus.alternative_data.schema import SCORES_SCHEMA, ItemKind
from octopus.alternative_data.texts import scored_text
from octopus.core.errors import MissingDataError


def texts_to_score(items: pl.DataFrame, scored: frozenset[str] = frozenset()) -> dict[str, str]:
    """The distinct texts of ``items`` by their hash, without those in ``scored``, in order of first appearance."""
    texts = items.select("text_hash", text=scored_text(items)).unique("text_hash", keep="first", maintain_order=True)
    wanted = texts.filter(~pl.col("text_hash").is_in(sorted(scored)))
    return dict(zip(wanted["text_hash"], wanted["text"], strict=True))


def score_rows(items: pl.DataFrame, scores: Mapping[str, float], model: str, item_kind: ItemKind) -> pl.DataFrame:
    """One row for each item whose text has a score, in the order of ``items``.

    Args:
        items: rows of raw.news or raw.social_posts.
        scores: in [-1, 1], by ``text_hash``.
        model: name and version of the model.

    Returns:
        A frame of `schema.SCORES_SCHEMA`. ``known_at`` and its flag are the text's own: on recorded texts the model
        runs years later, yet its score says nothing that the text did not.

    Raises:
        MissingDataError: a score outside [-1, 1] or not a number.
    """
    table = pl.DataFrame(
        {"text_hash": list(scores), "score": list(scores.values())},
        schema={"text_hash": pl.String, "score": pl.Float64},
    )
    wrong = table.filter(~pl.col("score").is_between(-1, 1).fill_null(value=False) | pl.col("score").is_nan())
    if not wrong.is_empty():
        raise MissingDataError(
            f"model {model}: score = {wrong['score'][0]} of text {wrong['text_hash'][0]} is outside [-1, 1]; "
            "check the model's labels"
        )
    hindsight = pl.col("hindsight") if "hindsight" in items.columns else pl.lit(value=False)
    return (
        items.join(table, on="text_hash", how="inner", maintain_order="left")
        .with_columns(item_kind=pl.lit(item_kind), model=pl.lit(model), hindsight=hindsight)
        .select(SCORES_SCHEMA.names())
        .cast(SCORES_SCHEMA)
    )
