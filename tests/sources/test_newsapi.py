"""NewsAPI over a real socket, with a recorded page of the real service."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.core.errors import ConfigError, SourceUnavailableError
from resources.sources.newsapi import NewsApiNews

KEY = "0123456789abcdef0123456789abcdef"
START, END = datetime(2022, 9, 27, tzinfo=UTC), datetime(2022, 9, 29, tzinfo=UTC)
NAMES = {"AAPL": "Apple Inc.", "BA": "The Boeing Company", "DIS": "The Walt Disney Company", "F": "Ford Motor Company"}


@pytest.fixture
def page(test_data: Path) -> dict[str, Any]:
    return json.loads((test_data / "wire" / "newsapi" / "top_headlines_business_2022-09-28.json").read_text())


@pytest.fixture
def news(vendor) -> NewsApiNews:
    return NewsApiNews(KEY, vendor.access())


def test_articles_are_linked_stamped_and_hashed(vendor, news, page):
    vendor.answer("/v2/everything", page)
    found = news.fetch(NAMES, START, END)
    assert found.items.schema == NEWS_SCHEMA
    assert found.items.height > 0
    for row in found.items.to_dicts():
        text = f"{row['title']} {row['body']}".lower()
        assert (
            NAMES[row["instrument"]].split()[0].lower() in text or NAMES[row["instrument"]].split()[1].lower() in text
        )
        assert row["known_at"] == row["ts"]
        assert START <= row["ts"] < END
        assert not row["hindsight"]
        assert not row["synthetic"]
    linked = found.items["item_id"].n_unique()
    assert found.unlinked == len(page["articles"]) - linked
    assert found.items.height == found.items.unique(["instrument", "item_id"]).height


def test_the_same_answer_gives_the_same_rows(vendor, news, page):
    vendor.answer("/v2/everything", page)
    first, second = news.fetch(NAMES, START, END), news.fetch(NAMES, START, END)
    assert first.items.equals(second.items)
    assert first.payload_hash == second.payload_hash


def test_the_companies_share_a_query_and_the_key_travels_in_a_header(vendor, news, page):
    vendor.answer("/v2/everything", page)
    news.fetch(NAMES, START, END)
    ((_, path, headers),) = vendor.asked
    query = parse_qs(urlsplit(path).query)
    assert query["q"] == ['"Apple" OR "Boeing" OR "Walt Disney" OR "Ford Motor"']
    assert query["from"] == ["2022-09-27T00:00:00"]
    assert headers["Authorization"] == KEY
    assert KEY not in path


def test_malformed_articles_are_rejected_with_their_reason(vendor, news, page):
    broken = copy.deepcopy(page)
    good = broken["articles"][0]
    untimed = dict(good, title="Apple soars", publishedAt="soon", url="https://example.org/1")
    unzoned = dict(good, title="Apple falls", publishedAt="2022-09-28T04:18:00", url="https://example.org/2")
    future = dict(good, title="Apple wins", publishedAt="2022-09-28T23:59:00Z", url="https://example.org/3")
    removed = dict(good, title="[Removed]", description="[Removed]")
    untitled = dict(good, title=None, description="Apple did something", url="https://example.org/4")
    broken["articles"] = [
        untimed,
        unzoned,
        future,
        removed,
        untitled,
        "not an article",
        dict(good, title="", description=""),
    ]
    vendor.answer("/v2/everything", broken)
    source = NewsApiNews(KEY, vendor.access(), now=lambda: datetime(2022, 9, 28, 12, tzinfo=UTC))
    found = source.fetch(NAMES, START, END)
    assert found.items.is_empty()
    assert sorted(reject.reason for reject in found.rejects) == [
        "published after it was fetched",
        "the article is no JSON object",
        "the time of publication is missing or unreadable",
        "the time of publication is missing or unreadable",
        "the title is empty",
        "the title is empty",
    ]


def test_an_empty_result_is_no_error(vendor, news):
    vendor.answer("/v2/everything", {"status": "ok", "totalResults": 0, "articles": []})
    found = news.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.truncated) == (0, [], False)


def test_more_than_the_plan_gives_is_said(vendor, page):
    full = dict(
        page, totalResults=250, articles=[dict(page["articles"][0], url=f"https://example.org/{n}") for n in range(100)]
    )
    vendor.answer("page=1", full)
    vendor.answer("page=2", {"status": "error", "code": "maximumResultsReached", "message": "upgrade"}, status=426)
    assert NewsApiNews(KEY, vendor.access()).fetch(NAMES, START, END).truncated
    assert NewsApiNews(KEY, vendor.access(), max_pages=3).fetch(NAMES, START, END).truncated
    assert len(vendor.paths("page=2")) == 1


def test_a_plan_that_delays_articles_is_asked_for_those_that_it_shows_in_the_window(vendor, news, page):
    vendor.answer("/v2/everything", page)
    day = timedelta(days=1)
    late = NewsApiNews(KEY, vendor.access(), delay=day).fetch(NAMES, START + day, END + day).items
    now = news.fetch(NAMES, START, END).items
    assert late.equals(now.with_columns(pl.col("known_at") + day))
    assert not late.is_empty()
    assert [parse_qs(urlsplit(path).query)["from"] for path in vendor.paths()] == [["2022-09-27T00:00:00"]] * 2


def test_what_the_plan_cannot_search_any_more_is_said_and_not_asked_for(vendor, page):
    vendor.answer("/v2/everything", page)
    source = NewsApiNews(KEY, vendor.access(), now=lambda: END, reach=timedelta(hours=12))
    found = source.fetch(NAMES, START, END)
    ((_, path, _),) = vendor.asked
    assert parse_qs(urlsplit(path).query)["from"] == [(END - timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M:%S")]
    assert (found.truncated, [reject.payload["start_utc"] for reject in found.rejects]) == (1, [str(START)])
    assert source.fetch(NAMES, START, END - timedelta(hours=13)).truncated
    assert len(vendor.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (429, b'{"status": "error", "code": "rateLimited", "message": "slow down"}', "application/json", "too many"),
        (500, b"<html>oops</html>", "text/html", "not JSON"),
        (200, b"<html>sign in</html>", "text/html", "not JSON"),
        (426, b'{"status": "error", "code": "parameterInvalid", "message": "too far"}', "application/json", "too far"),
        (200, b'{"status": "ok"}', "application/json", "no list of articles"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, news, status, body, kind, says):
    vendor.answer("/v2/everything", body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        news.fetch(NAMES, START, END)
    assert KEY not in str(caught.value)


def test_a_refused_key_names_its_variable_and_not_its_value(vendor, news):
    vendor.answer("/v2/", {"status": "error", "code": "apiKeyInvalid", "message": f"Your key {KEY} is bad"}, status=401)
    with pytest.raises(ConfigError, match="NEWSAPI_API_KEY") as caught:
        news.fetch(NAMES, START, END)
    assert KEY not in str(caught.value)


def test_a_missing_key_names_its_variable():
    with pytest.raises(ConfigError, match="NEWSAPI_API_KEY"):
        NewsApiNews(None)


def test_a_cut_answer_and_nobody_there(vendor, news, page, nobody):
    vendor.answer("/v2/everything", page, cut=True)
    with pytest.raises(SourceUnavailableError, match="newsapi"):
        news.fetch(NAMES, START, END)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        NewsApiNews(KEY, nobody).fetch(NAMES, START, END)
