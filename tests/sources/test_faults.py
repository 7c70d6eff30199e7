"""The fault table: whatever one source meets, the others bring what they would have brought."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError
from octopus.core.sessions import Sessions
from resources.sources.alpaca import AlpacaMarketData
from resources.sources.alphavantage import AlphaVantageMarketData
from resources.sources.base import missing_variables, rebased
from resources.sources.coingecko import CoinGeckoMarketData
from resources.sources.http import Access
from resources.sources.newsapi import NewsApiNews
from resources.sources.patience import BudgetExhaustedError, Refusal
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

SERIES = {"Time Series (Daily)": {"2022-12-27": {
    "1. open": "131.38", "2. high": "131.41", "3. low": "128.72", "4. close": "130.03", "5. adjusted close": "129.1",
    "6. volume": "69007800", "7. dividend amount": "0.0", "8. split coefficient": "1.0",
}}}  # fmt: skip
STOCKS = {
    "bars": {
        "AAPL": [{"t": "2022-12-27T05:00:00Z", "o": 131.38, "h": 131.41, "l": 128.72, "c": 130.03, "v": 69007800}]
    },
    "next_page_token": None,
}
COIN = {"prices": [[1672185600000, 16706.0]], "total_volumes": [[1672185600000, 15e9]], "market_caps": []}
LATER = datetime(2022, 12, 28, 12, tzinfo=UTC)


@pytest.fixture
def fetches(vendor, yfinance_cache) -> dict[str, Callable[[], int]]:
    """How many rows each source brings when asked."""
    sample, yahoo = SampleMarketData(), YahooMarketData(vendor.access(), cache_dir=yfinance_cache)
    news = NewsApiNews("key", vendor.access())
    posts = RedditPosts("id", "secret", "test: octopus", ["stocks"], vendor.access())
    daily = AlphaVantageMarketData("key", vendor.access(), describe=False, now=lambda: LATER)
    stocks = AlpacaMarketData("key", "secret", vendor.access(), now=lambda: LATER)
    coins = CoinGeckoMarketData("key", vendor.access(), candles=False, now=lambda: LATER)
    return {
        "alphavantage": lambda: daily.fetch(["AAPL"], DAY, DAY, Sessions()).bars.height,
        "alpaca": lambda: stocks.fetch(["AAPL"], DAY, DAY, Sessions()).bars.height,
        "coingecko": lambda: coins.fetch(["BTC"], DAY, DAY, Sessions()).bars.height,
        "sample": lambda: sample.fetch(["AAPL"], DAY, DAY, Sessions()).bars.height,
        "yahoo": lambda: yahoo.fetch(["AAPL"], DAY, DAY, Sessions()).bars.height,
        "newsapi": lambda: news.fetch(NAMES, *WINDOW).items.height,
        "reddit": lambda: posts.fetch(NAMES, *WINDOW).items.height,
    }


ROUTES = {
    "yahoo": ("/v8/finance/chart", CHART), "newsapi": ("/v2/everything", ARTICLE), "reddit": ("/r/stocks", POST),
    "alphavantage": ("/query", SERIES), "alpaca": ("/v2/stocks/bars", STOCKS), "coingecko": ("/market_chart", COIN),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("failing", sorted(ROUTES))
@pytest.mark.parametrize(("status", "body"), [(429, b"{}"), (418, b"{}"), (200, b"<html>")])
def test_one_source_failing_leaves_the_others_untouched(vendor, fetches, failing, status, body):
    vendor.answer(ROUTES[failing][0], body, status=status)
    vendor.answer("/api/v1/access_token", TOKEN)
    vendor.answer("getcrumb", b"crumb", kind="text/plain")
    vendor.answer("/v1/corporate-actions", {"corporate_actions": {}, "next_page_token": None})
    vendor.answer("/coins/markets", [])
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
    assert missing_variables(CoinGeckoMarketData(), {}) == []
    assert missing_variables(AlphaVantageMarketData("key"), {}) == ["ALPHAVANTAGE_API_KEY"]
    assert missing_variables(AlpacaMarketData("a", "b"), {"ALPACA_API_KEY": "x"}) == ["ALPACA_API_SECRET"]
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


class Spent:
    """A budget of which nothing is left."""

    def spend(self) -> Refusal:
        return Refusal(25, 86_400, datetime(2022, 12, 29, tzinfo=UTC))


@pytest.mark.parametrize("name", ["alpaca", "alphavantage", "coingecko"])
def test_patience_and_budget_reach_the_vendors_client(vendor, fetches, name):
    vendor.answer("/v1/corporate-actions", {"corporate_actions": {}, "next_page_token": None})
    vendor.answer("/coins/markets", [])
    vendor.answer(ROUTES[name][0], b"oops", status=503, once=True)
    vendor.answer(ROUTES[name][0], ROUTES[name][1], cut=False)
    assert fetches[name]() == 1, "one failure passes"
    assert len(vendor.paths(ROUTES[name][0])) == 2, "and nobody but us sends again"
    broke = Access(vendor.url, budget=Spent())
    source = {
        "alpaca": lambda: AlpacaMarketData("key", "secret", broke),
        "alphavantage": lambda: AlphaVantageMarketData("key", broke),
        "coingecko": lambda: CoinGeckoMarketData("key", broke),
    }[name]()
    with pytest.raises(BudgetExhaustedError, match=f"^{name}: our budget of 25 requests in a day is spent"):
        source.fetch(["AAPL"], DAY, DAY, Sessions())
