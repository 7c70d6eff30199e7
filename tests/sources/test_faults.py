"""The fault table: whatever one source meets, the others bring what they would have brought."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError
from octopus.core.sessions import Sessions
from resources.sources.base import missing_variables, rebased
from resources.sources.newsapi import NewsApiNews
from resources.sources.reddit import RedditPosts
from resources.sources.sample import SampleMarketData
from resources.sources.yahoo import YahooMarketData

DAY = date(2022, 12, 27)
WINDOW = (datetime(2022, 12, 26, tzinfo=UTC), datetime(2022, 12, 28, tzinfo=UTC))
NAMES = {"AAPL": "Apple Inc."}
ARTICLE = {
    "status": "ok", "totalResults": 1,
    "articles": [
        {"title": "Apple opens a shop", "url": "https://example.org/a", "publishedAt": "2022-12-27T10:00:00Z"},
    ],
}  # fmt: skip
TOKEN = {"access_token": "t", "token_type": "bearer", "expires_in": 3600, "scope": "*"}
POST = {
    "kind": "Listing",
    "data": {
        "after": None, "before": None,
        "children": [{"kind": "t3", "data": {
            "id": "a", "name": "t3_a", "title": "$AAPL to the moon", "selftext": "", "author": "someone",
            "edited": False, "created_utc": 1672135200.0, "permalink": "/r/stocks/a",
        }}],
    },
}  # fmt: skip
CHART = {
    "chart": {"error": None, "result": [{
        "meta": {"currency": "USD", "symbol": "AAPL", "exchangeName": "NMS", "instrumentType": "EQUITY",
                 "firstTradeDate": 345479400, "exchangeTimezoneName": "America/New_York", "validRanges": ["1d"]},
        "timestamp": [1672151400],
        "indicators": {"quote": [
            {"open": [131.38], "high": [131.41], "low": [128.72], "close": [130.03], "volume": [69007800]},
        ]},
    }]}
}  # fmt: skip


@pytest.fixture
def fetches(vendor, yfinance_cache) -> dict[str, Callable[[], int]]:
    """How many rows each source brings when asked."""
    sample, yahoo = SampleMarketData(), YahooMarketData(vendor.access(), cache_dir=yfinance_cache)
    news = NewsApiNews("key", vendor.access())
    posts = RedditPosts("id", "secret", "test: octopus", ["stocks"], vendor.access())
    return {
        "sample": lambda: sample.fetch(["AAPL"], DAY, DAY, Sessions()).bars.height,
        "yahoo": lambda: yahoo.fetch(["AAPL"], DAY, DAY, Sessions()).bars.height,
        "newsapi": lambda: news.fetch(NAMES, *WINDOW).items.height,
        "reddit": lambda: posts.fetch(NAMES, *WINDOW).items.height,
    }


ROUTES = {"yahoo": ("/v8/finance/chart", CHART), "newsapi": ("/v2/everything", ARTICLE), "reddit": ("/r/stocks", POST)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("failing", ["yahoo", "newsapi", "reddit"])
@pytest.mark.parametrize(("status", "body"), [(429, b"{}"), (418, b"{}"), (200, b"<html>")])
def test_one_source_failing_leaves_the_others_untouched(vendor, fetches, failing, status, body):
    vendor.answer(ROUTES[failing][0], body, status=status)
    vendor.answer("/api/v1/access_token", TOKEN)
    vendor.answer("getcrumb", b"crumb", kind="text/plain")
    for route, answer in ROUTES.values():
        vendor.answer(route, answer)
    brought: dict[str, int | type[OctopusError]] = {}
    said: dict[str, str] = {}
    for name, fetch in fetches.items():
        try:
            brought[name] = fetch()
        except OctopusError as error:
            brought[name] = type(error)
            said[name] = str(error)
    assert [message.split(": ")[0] for message in said.values()] == [failing], "an error names its source"
    assert brought == dict.fromkeys(fetches, 1) | {failing: SourceUnavailableError}


def test_a_source_without_its_keys_is_named_before_it_is_made():
    assert missing_variables(SampleMarketData(), {}) == []
    assert missing_variables(YahooMarketData(), {}) == []
    keyed = NewsApiNews("key")
    assert missing_variables(keyed, {"NEWSAPI_API_KEY": ""}) == ["NEWSAPI_API_KEY"]
    assert missing_variables(RedditPosts("a", "b", "c"), {"REDDIT_CLIENT_ID": "x"}) == [
        "REDDIT_CLIENT_SECRET", "REDDIT_USER_AGENT",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="set it to use the source newsapi"):
        NewsApiNews("")


def test_an_address_is_moved_with_its_path_and_query():
    assert rebased("https://a.example/v1/x?y=1", None) == "https://a.example/v1/x?y=1"
    assert rebased("https://a.example/v1/x?y=1", "http://127.0.0.1:8/mirror/") == "http://127.0.0.1:8/mirror/v1/x?y=1"
