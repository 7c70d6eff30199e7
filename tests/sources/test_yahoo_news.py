"""Yahoo's news through yfinance over a real socket, with recorded answers of the real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from chaos_server import ChaosVendor, chaos, fails, says

from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.core.errors import SourceUnavailableError
from resources.sources.http import Access
from resources.sources.patience import Patience, TryLaterError
from resources.sources.yahoo_news import YahooNews

SEARCH = "/v1/finance/search"
START, END = datetime(2025, 2, 20, tzinfo=UTC), datetime(2025, 2, 26, tzinfo=UTC)
NOW = datetime(2025, 2, 26, 12, tzinfo=UTC)
RECORDED = {"ABBV": "AbbVie Inc.", "AMZN": "Amazon.com, Inc.", "SPOT": "Spotify Technology S.A."}
NAMES = RECORDED | {"MRK": "Merck & Co., Inc."}
ONE = {"AMZN": "Amazon.com, Inc."}
NOTHING = {"explains": [], "count": 0, "quotes": [], "news": []}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def answers(test_data: Path) -> dict[str, dict[str, Any]]:
    """Recorded answers by the symbol asked for."""
    folder = test_data / "wire" / "yahoo" / "search"
    return {name: json.loads((folder / f"search-{name}.json").read_text())["response"]["bodyJson"] for name in RECORDED}


@pytest.fixture
def news(vendor, yfinance_cache) -> YahooNews:
    vendor.answer("getcrumb", b"crumb", kind="text/plain")
    return YahooNews(vendor.access(), yfinance_cache, now=lambda: NOW)


@pytest.fixture
def stormy() -> Iterator[ChaosVendor]:
    with chaos() as running:
        running.plays("getcrumb", [], then=says(b"crumb", kind="text/plain"))
        yield running


def hurried(stormy: ChaosVendor, cache: Path, slept: list[float]) -> YahooNews:
    access = Access(stormy.url, 5.0, Patience(attempts=3, base_s=0), sleep=slept.append, now=lambda: NOW)
    return YahooNews(access, cache, now=lambda: NOW)


def test_each_symbol_is_asked_for_and_an_article_is_about_related_and_named_symbols(vendor, news, answers):
    for name, answer in answers.items():
        vendor.answer(f"q={name}&", answer)
    vendor.answer("q=MRK&", NOTHING)
    found = news.fetch(NAMES, START, END)
    assert found.items.schema == NEWS_SCHEMA
    asked = [parse_qs(urlsplit(path).query) for path in vendor.paths(SEARCH)]
    assert [(query["q"], query["newsCount"]) for query in asked] == [([name], ["50"]) for name in sorted(NAMES)]
    sent = {article["uuid"]: article for answer in answers.values() for article in answer["news"]}
    pairs = set(found.items.select("item_id", "instrument").rows())
    related = {
        (name, ticker)
        for name, article in sent.items()
        for ticker in article.get("relatedTickers", [])
        if ticker in NAMES and START.timestamp() <= article["providerPublishTime"]
    }
    assert related
    assert related <= pairs
    ((name, symbol),) = pairs - related
    assert symbol == "MRK", "Yahoo relates it to others, but its title names it"
    assert sent[name]["title"] == "The Zacks Analyst Blog Highlights Merck, Sanofi, Regeneron and Ionis"
    for row in found.items.to_dicts():
        article = sent[row["item_id"]]
        assert row["ts"] == row["known_at"] == datetime.fromtimestamp(article["providerPublishTime"], UTC)
        assert (row["url"], row["publisher"], row["body"]) == (article["link"], article["publisher"], None)
    assert (found.rejects, found.truncated) == ([], False)
    assert found.unlinked > 0


def test_an_article_of_several_symbols_is_one_article(vendor, news, answers):
    shared = answers["AMZN"]["news"][0] | {"relatedTickers": ["AMZN", "SPOT", "^GSPC"]}
    vendor.answer(SEARCH, answers["AMZN"] | {"news": [shared]})
    found = news.fetch(NAMES, START, END)
    assert found.items.select("item_id", "instrument").rows() == [(shared["uuid"], "AMZN"), (shared["uuid"], "SPOT")]
    assert (found.rejects, found.unlinked) == ([], 0)


def test_the_order_of_the_answer_and_copies_change_nothing(vendor, news, answers):
    articles = answers["AMZN"]["news"]
    vendor.answer(SEARCH, {"news": articles}, once=True)
    vendor.answer(SEARCH, {"news": articles[::-1] * 2})
    calm, shuffled = news.fetch(ONE, START, END), news.fetch(ONE, START, END)
    assert calm.items.height > 1
    assert shuffled.items.equals(calm.items)
    assert (shuffled.rejects, shuffled.unlinked) == ([], calm.unlinked)


def test_a_late_article_is_one_more_row(vendor, news, answers):
    *before, late = sorted(answers["AMZN"]["news"], key=lambda article: -article["providerPublishTime"])
    vendor.answer(SEARCH, {"news": before}, once=True)
    vendor.answer(SEARCH, {"news": [*before, late]})
    first, second = news.fetch(ONE, START, END).items, news.fetch(ONE, START, END).items
    new = second.join(first, on=second.columns, how="anti", nulls_equal=True)
    assert new["item_id"].to_list() == [late["uuid"]]
    assert new["ts"][0] < first["ts"].min()
    assert second.height == first.height + 1


def test_the_window_and_what_lies_before_it(vendor, answers, yfinance_cache):
    vendor.answer("getcrumb", b"crumb", kind="text/plain")
    vendor.answer(SEARCH, answers["AMZN"])
    four = YahooNews(vendor.access(), yfinance_cache, limit=4, now=lambda: NOW)
    oldest = min(datetime.fromtimestamp(article["providerPublishTime"], UTC) for article in answers["AMZN"]["news"])
    assert four.fetch(ONE, oldest, END).truncated
    later = four.fetch(ONE, oldest + timedelta(seconds=1), END)
    assert not later.truncated
    assert later.items["ts"].min() > oldest
    assert four.fetch(ONE, START, oldest).items.is_empty()


def test_malformed_and_future_articles_are_rejected_with_their_reason(vendor, news, answers):
    good = answers["AMZN"]["news"][0]
    broken = [
        "no article",
        good | {"uuid": None},
        good | {"uuid": "1", "title": None},
        good | {"uuid": "2", "title": " "},
        good | {"uuid": "3", "providerPublishTime": "2025-02-25T10:00:00Z"},
        good | {"uuid": "4", "providerPublishTime": 1e30},
        good | {"uuid": "5", "relatedTickers": "AMZN"},
        good | {"uuid": "6", "providerPublishTime": int(NOW.timestamp()) + 60},
        {key: good[key] for key in ("title", "providerPublishTime", "relatedTickers")} | {"uuid": "7"},
    ]
    vendor.answer(SEARCH, {"news": broken})
    found = news.fetch(ONE, START, NOW + timedelta(days=1))
    assert found.items.select("item_id", "url", "publisher").rows() == [("7", None, None)]
    assert sorted(reject.reason for reject in found.rejects) == [
        "published after it was fetched",
        "the article is no JSON object",
        "the item has no id",
        "the related tickers are no list of symbols",
        "the time of publication is missing or unreadable",
        "the time of publication is missing or unreadable",
        "the title is empty",
        "the title is empty",
    ]


def test_nothing_found_is_no_error(vendor, news):
    vendor.answer(SEARCH, NOTHING)
    found = news.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.unlinked, found.truncated) == (0, [], 0, False)


def test_a_wait_that_yahoo_asks_for_is_kept_and_a_long_one_is_told(stormy, yfinance_cache, answers):
    slept: list[float] = []
    stormy.plays(SEARCH, [fails(429, Retry_After="3")], then=says(answers["AMZN"]))
    assert hurried(stormy, yfinance_cache, slept).fetch(ONE, START, END).items.height > 0
    assert (slept, stormy.count(SEARCH)) == ([3.0], 2)
    stormy.plays(SEARCH, [], then=fails(429, Retry_After="7200"))
    with pytest.raises(TryLaterError, match=r"^yahoo: HTTP 429.*try again after 2025-02-26 14:00:00 UTC"):
        hurried(stormy, yfinance_cache, slept).fetch(ONE, START, END)
    assert stormy.count(SEARCH) == 3


def test_a_failure_is_asked_again_and_then_one_clear_error(stormy, yfinance_cache, answers):
    slept: list[float] = []
    stormy.plays(SEARCH, [fails(503), fails(500)], then=says(answers["AMZN"]))
    assert hurried(stormy, yfinance_cache, slept).fetch(ONE, START, END).items.height > 0
    stormy.plays(SEARCH, [], then=fails(503))
    before = stormy.count(SEARCH)
    with pytest.raises(SourceUnavailableError, match=r"^yahoo: HTTP 503"):
        hurried(stormy, yfinance_cache, slept).fetch(ONE, START, END)
    assert stormy.count(SEARCH) == before + 3


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (429, b"Too Many Requests", "text/plain", "HTTP 429, too many requests"),
        (403, b"<html>are you human?</html>", "text/html", "HTTP 403"),
        (404, b"<html>nothing here</html>", "text/html", "no list of news"),
        (404, b"{}", "application/json", "no list of news"),
        (200, b"Will be right back", "text/plain", "not JSON"),
        (200, b"<html>sign in</html>", "text/html", "not JSON"),
        (200, b"", "application/json", "not JSON"),
        (200, b"[]", "application/json", "no list of news"),
        (200, b'{"quotes": []}', "application/json", "no list of news"),
        (200, b'{"news": null}', "application/json", "no list of news"),
        (200, b'{"news": {"uuid": "1"}}', "application/json", "no list of news"),
    ],
)  # fmt: skip
def test_a_failing_service_is_one_clear_error(vendor, news, status, body, kind, says):
    vendor.answer(SEARCH, body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        news.fetch(ONE, START, END)
    assert str(caught.value).startswith("yahoo: ")
    assert "\n" not in str(caught.value)


def test_a_cut_answer_and_nobody_there(vendor, news, answers, nobody, yfinance_cache):
    vendor.answer(SEARCH, answers["AMZN"], cut=True)
    with pytest.raises(SourceUnavailableError, match="yahoo: no answer for AMZN"):
        news.fetch(ONE, START, END)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        YahooNews(nobody, yfinance_cache).fetch(ONE, START, END)


def test_it_needs_no_key():
    assert YahooNews.needs == ()
