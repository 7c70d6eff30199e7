"""Texts of the user's own: news and posts from CSV or Parquet.

Belongs here: what the columns of such files mean. Does not: reading tables (tables.py), whom a text without an
instrument is about (octopus/alternative_data/linking.py).

The files' form is that of tables.py. Times are ISO 8601 with an offset (2024-01-31T21:15:00Z), or instants with a time
zone in Parquet; a time without an offset is refused, for nobody knows when that was.

News:

| column | | meaning |
|---|---|---|
| published_at | required | when it was published |
| title | required | |
| body, url, publisher | optional columns | |
| instrument | optional field | name in the universe; where empty, the instruments that title and body name |
| item_id | optional field | what tells the item from others; made of time and text where empty |
| known_at | optional field | when a trader could first have had it; the time of publication where empty |

Posts:

| column | | meaning |
|---|---|---|
| created_at | required | when it was posted |
| text | required | |
| author, url, upvotes | optional columns | |
| instrument, item_id, known_at | optional fields | as in news |

A file is read whole, whatever span is asked for, up to the span's end: it holds the history that a service would have
given day by day, and what is stored already is not stored again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from octopus.alternative_data.linking import Linker
from octopus.alternative_data.schema import NEWS_SCHEMA, POSTS_SCHEMA, UTC_INSTANT
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_news, validate_posts
from octopus.core.ids import fingerprint
from resources.sources.base import TextItems
from resources.sources.tables import NAME, Form, placed, read_table

NEWS = Form(
    ("published_at", "title"), ("body", "url", "publisher", "instrument", "item_id", "known_at"),
    ("published_at", "title"),
)  # fmt: skip
POSTS = Form(
    ("created_at", "text"), ("author", "url", "upvotes", "instrument", "item_id", "known_at"), ("created_at", "text")
)


@dataclass(frozen=True)
class _TextFile:
    """A file in the form described above, with what every source has.

    A wrong line is a reject that names file and line and loses no other.

    Attributes:
        path: ``.csv`` (also ``.csv.gz``) or ``.parquet``.
        now: what time it is, to refuse texts from the future.
    """

    path: Path
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    name: str = NAME
    needs: tuple[str, ...] = ()


class FileNews(_TextFile):
    """News that the user owns."""

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `NewsSource.fetch`, from the file's beginning.

        Raises:
            ConfigError: the file is missing or unreadable, or lacks a column.
        """
        digest = hashlib.sha256()
        rows, rejects = read_table(self.path, NEWS, "news", digest, instants=("published_at", "known_at"))
        linked, unlinked = _linked(_items(rows, NEWS, ("title", "body"), end_utc), names)
        frame = linked.with_columns(hindsight=pl.lit(value=False)).select(*NEWS_SCHEMA.names(), "line")
        items, refused = validate_news(frame, self.now())
        rejects += [placed(reject, self.path) for reject in refused]
        return TextItems(items.drop("line"), rejects, digest.hexdigest()[:32], unlinked)


class FilePosts(_TextFile):
    """Posts that the user owns."""

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `SocialSource.fetch`, from the file's beginning; errors as in `FileNews`."""
        digest = hashlib.sha256()
        instants = ("created_at", "known_at")
        rows, rejects = read_table(self.path, POSTS, "social_posts", digest, numbers=("upvotes",), instants=instants)
        linked, unlinked = _linked(_items(rows, POSTS, ("text",), end_utc), names)
        frame = linked.rename({"text": "body"}).with_columns(pl.col("upvotes").cast(pl.Int64))
        items, refused = validate_posts(frame.select(*POSTS_SCHEMA.names(), "line"), self.now())
        rejects += [placed(reject, self.path) for reject in refused]
        return TextItems(items.drop("line"), rejects, digest.hexdigest()[:32], unlinked)


def _items(rows: pl.DataFrame, form: Form, texts: Sequence[str], end_utc: datetime) -> pl.DataFrame:
    """Rows up to ``end_utc`` with every optional column, cleaned texts, their hash and an id, in our own order."""
    whole = rows.with_columns(pl.lit(None).alias(name) for name in form.optional if name not in rows.columns)
    said = [name for name in form.optional if name not in ("known_at", "upvotes", *texts)]
    instant = form.required[0]
    cleaned = whole.with_columns(
        *(pl.Series(name, [clean_text(text) or None for text in whole[name]], pl.String) for name in texts),
        pl.col(*said).cast(pl.String),
        source=pl.lit(NAME), ts=pl.col(instant), synthetic=pl.lit(value=False),
        known_at=pl.coalesce(pl.col("known_at").cast(UTC_INSTANT), pl.col(instant)),
        known_at_imputed=pl.col("known_at").is_null(),
    )  # fmt: skip
    hashes = [text_hash(*parts) for parts in cleaned.select(texts).rows()]
    made = [fingerprint(str(at), one) for at, one in zip(cleaned["ts"], hashes, strict=True)]
    hashed = cleaned.with_columns(
        text_hash=pl.Series(hashes, dtype=pl.String),
        item_id=pl.coalesce(pl.col("item_id"), pl.Series(made, dtype=pl.String)),
        text_linked=pl.concat_str([pl.col(name).fill_null("") for name in texts], separator=". "),
    )
    return hashed.filter(pl.col("ts") < end_utc).sort("ts", "item_id", "line")


def _linked(items: pl.DataFrame, names: Mapping[str, str]) -> tuple[pl.DataFrame, int]:
    """A row for each item and instrument of ``names``, and how many items name none of them."""
    unsaid = items["instrument"].is_null()
    found = iter(Linker(names).link_all(items.filter(unsaid)["text_linked"].to_list()))
    about = [[said] if said is not None and said in names else list(next(found)) if said is None else []
             for said in items["instrument"]]  # fmt: skip
    linked = items.with_columns(instrument=pl.Series(about, dtype=pl.List(pl.String)))
    return linked.filter(pl.col("instrument").list.len() > 0).explode("instrument"), sum(not one for one in about)
