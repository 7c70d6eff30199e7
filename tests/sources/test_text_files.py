"""The user's own texts: what is read, whom it is about, and which line is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from octopus.alternative_data.schema import NEWS_SCHEMA, POSTS_SCHEMA
from octopus.core.errors import ConfigError
from resources.sources.text_files import FileNews, FilePosts

NAMES = {"AAPL": "Apple", "KO": "Coca-Cola"}
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC)
NOW = datetime(2024, 2, 1, tzinfo=UTC)
NEWS = """published_at,title,body,instrument,item_id,known_at,url
2019-01-02T09:00:00Z,Apple raises its dividend,,,,,
2024-01-02T09:00:00+01:00,"Coca-Cola, again",It pays more than Apple Inc.,,n1,2024-01-02T10:00:00Z,https://a.example/1
2024-01-03T09:00:00Z,Quarterly figures,,KO,n2,,
2024-01-03T09:00:00,No offset,,KO,n3,,
2024-01-03T09:00:00Z,,,KO,n4,,
2024-01-03T09:00:00Z,Somebody else,,XYZ,n5,,
2024-01-03T09:00:00Z,Nobody in particular,,,n6,,
2024-01-04T09:00:00Z,Known before,,KO,n7,2024-01-03T00:00:00Z,
2024-01-06T09:00:00Z,After the end,,KO,n8,,
"""


@pytest.fixture
def write(tmp_path: Path):
    def put(text: str, name: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return put


def test_news_are_read_from_the_beginning_and_linked(write):
    found = FileNews(write(NEWS, "news.csv"), lambda: NOW).fetch(NAMES, START, END)
    assert found.items.schema == NEWS_SCHEMA
    shown = found.items.select("instrument", "ts", "title", "known_at", "known_at_imputed").rows()
    at = [datetime(2019, 1, 2, 9, tzinfo=UTC), datetime(2024, 1, 2, 8, tzinfo=UTC), datetime(2024, 1, 3, 9, tzinfo=UTC)]
    assert shown == [
        ("AAPL", at[0], "Apple raises its dividend", at[0], True),
        ("AAPL", at[1], "Coca-Cola, again", datetime(2024, 1, 2, 10, tzinfo=UTC), False),
        ("KO", at[1], "Coca-Cola, again", datetime(2024, 1, 2, 10, tzinfo=UTC), False),
        ("KO", at[2], "Quarterly figures", at[2], True),
    ]
    assert found.unlinked == 2


def test_a_wrong_line_of_texts_is_named_and_loses_no_other(write):
    found = FileNews(write(NEWS, "news.csv"), lambda: NOW).fetch(NAMES, START, END)
    assert sorted(reject.reason for reject in found.rejects) == [
        "news.csv line 5: published_at 2024-01-03T09:00:00 is not a time with an offset like 2024-01-31T21:00:00Z",
        "news.csv line 6: title is missing",
        "news.csv line 9: known before it was published",
    ]


def test_posts_from_parquet_with_a_repeated_id(tmp_path):
    path = tmp_path / "posts.parquet"
    at = pl.lit(datetime(2024, 1, 2, 14, 30, tzinfo=UTC)).dt.convert_time_zone("America/New_York")
    posts = {"text": ["$AAPL up &amp; up", "$AAPL twice"], "item_id": ["1", "1"], "upvotes": [3, None]}
    pl.DataFrame(posts).with_columns(created_at=at).write_parquet(path)
    found = FilePosts(path, lambda: NOW).fetch(NAMES, START, END)
    assert found.items.schema == POSTS_SCHEMA
    assert found.items.select("instrument", "ts", "body", "upvotes").rows() == [
        ("AAPL", datetime(2024, 1, 2, 14, 30, tzinfo=UTC), "$AAPL up & up", 3)
    ]
    assert [reject.reason for reject in found.rejects] == [
        "posts.parquet line 2: a second record for the same (source, instrument, ts, item_id)"
    ]


def test_the_same_file_gives_the_same_ids(write):
    first = FileNews(write(NEWS, "news.csv"), lambda: NOW).fetch(NAMES, START, END)
    lines = NEWS.splitlines()
    turned = FileNews(write("\n".join([lines[0], *reversed(lines[1:])]), "other.csv"), lambda: NOW)
    assert turned.fetch(NAMES, START, END).items.equals(first.items)


def test_a_missing_column_and_a_missing_file_of_texts_are_named(write, tmp_path):
    with pytest.raises(ConfigError, match="published_at"):
        FileNews(write("title\nA\n", "news.csv")).fetch(NAMES, START, END)
    with pytest.raises(ConfigError, match=r"posts\.csv.*check that it is there"):
        FilePosts(tmp_path / "posts.csv").fetch(NAMES, START, END)
