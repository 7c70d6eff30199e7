"""The text of a news item or a post: what is scored, and by what hash it is known.

Belongs here: making text comparable. Does not: what the text says (resources/sentiment), whom it is
about (linking.py).
"""

from __future__ import annotations

import hashlib
import html
import re

import polars as pl

_SPACES = re.compile(r"\s+")


def clean_text(text: str | None) -> str:
    """``text`` without HTML entities and repeated white space; empty for None."""
    return _SPACES.sub(" ", html.unescape(text or "")).strip()


def text_hash(*parts: str | None) -> str:
    """SHA-256 (first 32 hex digits) of the cleaned parts: equal for copies that differ in spaces or entities only."""
    joined = "\x1f".join(clean_text(part) for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:32]


def scored_text(items: pl.DataFrame) -> pl.Series:
    """The text that a model reads of each item: title and body of news, the body of a post."""
    parts = [pl.col(name).fill_null("") for name in ("title", "body") if name in items.columns]
    return items.select(text=pl.concat_str(parts, separator=". ").str.strip_chars(". \n\t"))["text"]
