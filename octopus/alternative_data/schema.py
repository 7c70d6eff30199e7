"""Columns of news, social posts and sentiment scores, as sources and models deliver them.

Belongs here: names and types of the business columns of raw.news, raw.social_posts and raw.sentiment_scores. Does not:
the columns that the writer adds (ingested_at, batch_id).
"""

from __future__ import annotations

from typing import Literal

import polars as pl

ItemKind = Literal["news", "post"]
"""What a text is."""

TEXT_TABLES: dict[ItemKind, str] = {"news": "news", "post": "social_posts"}
"""The raw table of each kind."""

UTC_INSTANT = pl.Datetime("us", "UTC")

NEWS_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "item_id": pl.String(),
        "title": pl.String(),
        "body": pl.String(),
        "url": pl.String(),
        "publisher": pl.String(),
        "synthetic": pl.Boolean(),
        "hindsight": pl.Boolean(),
        "text_hash": pl.String(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)

POSTS_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "item_id": pl.String(),
        "author": pl.String(),
        "body": pl.String(),
        "url": pl.String(),
        "upvotes": pl.Int64(),
        "synthetic": pl.Boolean(),
        "text_hash": pl.String(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)

SCORES_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "item_id": pl.String(),
        "item_kind": pl.String(),
        "model": pl.String(),
        "text_hash": pl.String(),
        "score": pl.Float64(),
        "hindsight": pl.Boolean(),
        "synthetic": pl.Boolean(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)
