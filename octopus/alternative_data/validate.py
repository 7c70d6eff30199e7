"""Which texts are refused, and why.

Belongs here: rules on single news items and posts. Does not: duplicates over publishers or tone, which keep the item.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from octopus.alternative_data.schema import UTC_INSTANT
from octopus.core.rejects import Reject, Rule, split_rejects

_KEY = ("source", "instrument", "ts", "item_id")


def validate_news(frame: pl.DataFrame, now: datetime | None = None) -> tuple[pl.DataFrame, list[Reject]]:
    """Split news (`schema.NEWS_SCHEMA`) into rows that may be stored and rejects.

    Args:
        now: instant of the fetch; an item published later is refused. None: not judged.

    Returns:
        The good rows in the order given, and one `Reject` with its first reason for each other row. Of rows with the
        same key the first good one is kept.
    """
    return split_rejects(frame, _rules("title", now), key=_KEY, table="news")


def validate_posts(frame: pl.DataFrame, now: datetime | None = None) -> tuple[pl.DataFrame, list[Reject]]:
    """Split social posts (`schema.POSTS_SCHEMA`) into good rows and rejects, like `validate_news`."""
    return split_rejects(frame, _rules("body", now), key=_KEY, table="social_posts")


def _rules(text: str, now: datetime | None) -> list[Rule]:
    rules = [
        Rule(pl.col("instrument").is_null() | (pl.col("instrument") == ""), "the instrument is missing"),
        Rule(pl.col("item_id").is_null() | (pl.col("item_id") == ""), "the item has no id"),
        Rule(pl.col("ts").is_null(), "the time of publication is missing or unreadable"),
        Rule(pl.col("known_at").is_null() | (pl.col("known_at") < pl.col("ts")), "known before it was published"),
        Rule(pl.col(text).is_null() | (pl.col(text).str.strip_chars() == ""), f"the {text} is empty"),
    ]
    if now is not None:
        moment = pl.lit(now.astimezone(UTC)).cast(UTC_INSTANT)
        rules.append(Rule(pl.col("ts") > moment, "published after it was fetched"))
    return rules
