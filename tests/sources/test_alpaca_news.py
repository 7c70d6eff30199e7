"""Alpaca's news through alpaca-py over a real socket, with recorded bodies."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from chaos_server import ChaosVendor, chaos, fails, says

from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.core.errors import ConfigError, SourceUnavailableError
from resources.sources.alpaca_news import AlpacaNews
from resources.sources.http import Access
from resources.sources.patience import Patience, TryLaterError
from resources.warehouse.store import Warehouse

KEY, SECRET = "AK0123456789", "secret-of-the-key"
NEWS = "/v1beta1/news"
START, END = datetime(2024, 8, 1, tzinfo=UTC), datetime(2024, 12, 1, tzinfo=UTC)
NOW = datetime(2024, 12, 1, 12, tzinfo=UTC)
NAMES = {"AAPL": "Apple Inc.", "BRK-B": "Berkshire Hathaway Inc.", "CWAN": "Clearwater Analytics Holdings"}


@pytest.fixture
def pages(test_data: Path) -> list[dict[str, Any]]:
    """The two recorded pages; the first names the second."""
    bodies = json.loads((test_data / "wire" / "alpaca" / "alpaca_py_mocks.json").read_text())
    held = [body["body"] for body in bodies if body["test"].endswith("::test_get_news")]
    return copy.deepcopy(held[-2:])


@pytest.fixture
def source(vendor) -> AlpacaNews:
    return AlpacaNews(KEY, SECRET, vendor.access(), now=lambda: NOW)


@pytest.fixture
def stormy() -> Iterator[ChaosVendor]:
    with chaos() as running:
        yield running


def one(*articles: Any) -> dict[str, Any]:
    return {"news": list(articles), "next_page_token": None}


def hurried(stormy: ChaosVendor, slept: list[float]) -> AlpacaNews:
    access = Access(stormy.url, 5.0, Patience(attempts=3, base_s=0), sleep=slept.append, now=lambda: NOW)
    return AlpacaNews(KEY, SECRET, access, now=lambda: NOW)


def test_all_pages_are_read_and_linked_by_alpacas_symbols(vendor, source, pages):
    vendor.answer(f"page_token={pages[0]['next_page_token'].replace('=', '%3D')}", pages[1])
    vendor.answer(NEWS, pages[0])
    found = source.fetch(NAMES, START, END)
    assert found.items.schema == NEWS_SCHEMA
    assert found.items.select("item_id", "instrument", "title", "publisher").rows() == [
        ("40432158", "AAPL", "headline", "source"),
        (
            "41799100", "CWAN",
            "Piper Sandler Maintains Neutral on Clearwater Analytics Hldg, Raises Price Target to $28", "benzinga",
        ),
    ]  # fmt: skip
    assert found.items["body"].to_list() == ["summary", None]
    assert found.items["ts"].to_list() == [
        datetime(2024, 8, 18, 20, 15, 44, tzinfo=UTC), datetime(2024, 11, 7, 9, 16, 41, tzinfo=UTC),
    ]  # fmt: skip
    assert found.items["known_at"].to_list() == found.items["ts"].to_list()
    assert (found.rejects, found.unlinked, found.truncated) == ([], 0, False)
    first, second = (parse_qs(urlsplit(path).query) for path in vendor.paths(NEWS))
    assert first["symbols"] == ["AAPL,BRK.B,CWAN"]
    assert (first["start"], first["end"]) == (["2024-08-01T00:00:00+00:00"], ["2024-12-01T00:00:00+00:00"])
    assert second["page_token"] == [pages[0]["next_page_token"]]
    sent = vendor.asked[0][2]
    assert (sent["APCA-API-KEY-ID"], sent["APCA-API-SECRET-KEY"]) == (KEY, SECRET)


def test_an_article_is_known_since_its_last_revision(vendor, source, pages):
    article = pages[1]["news"][0]
    revised = article | {"updated_at": "2024-11-09T10:00:00Z", "headline": "Price target is $29"}
    vendor.answer(NEWS, one(article, revised, article))
    (row,) = source.fetch(NAMES, START, END).items.to_dicts()
    assert row["title"] == "Price target is $29"
    assert row["ts"] == datetime(2024, 11, 7, 9, 16, 41, tzinfo=UTC)
    assert row["known_at"] == datetime(2024, 11, 9, 10, tzinfo=UTC)


def test_a_revision_of_an_older_article_is_not_lost(vendor, source, pages):
    article = pages[1]["news"][0] | {"updated_at": "2024-11-09T10:00:00Z"}
    vendor.answer(NEWS, one(article))
    created, revised = datetime(2024, 11, 7, tzinfo=UTC), datetime(2024, 11, 9, tzinfo=UTC)
    assert source.fetch(NAMES, revised, END).items.height == 1
    assert source.fetch(NAMES, created, revised).items.height == 1
    assert source.fetch(NAMES, START, created).items.is_empty()


def test_a_revision_is_a_new_version_of_the_same_article(vendor, source, pages, database_url):
    article = pages[1]["news"][0]
    vendor.answer(NEWS, one(article), once=True)
    vendor.answer(NEWS, one(article | {"updated_at": "2024-11-07T11:00:00Z"}), once=True)
    vendor.answer(NEWS, one(article | {"updated_at": "2024-11-07T12:00:00Z", "summary": "More is known now."}))
    warehouse = Warehouse(database_url)
    reports = [warehouse.append("news", source.fetch(NAMES, START, END).items, source="alpaca") for _ in range(4)]
    assert [(report.new, report.restated) for report in reports] == [(1, 0), (0, 0), (0, 1), (0, 0)]
    versions = warehouse.rows("select ts, body, known_at, known_at_imputed from raw.news order by batch_id")
    assert [version["body"] for version in versions] == [None, "More is known now."]
    assert versions[0]["ts"] == versions[1]["ts"]
    assert not versions[1]["known_at_imputed"], "a restatement is known from our first sight of it"


def test_a_class_of_shares_keeps_our_spelling(vendor, source, pages):
    vendor.answer(NEWS, one(pages[1]["news"][0] | {"symbols": ["BRK.B", "BRK.A", "CWAN"]}))
    assert source.fetch(NAMES, START, END).items["instrument"].to_list() == ["BRK-B", "CWAN"]


def test_copies_and_other_orders_change_nothing(vendor, source, pages):
    articles = [page["news"][0] for page in pages]
    vendor.answer(NEWS, one(*articles), once=True)
    vendor.answer(NEWS, one(*articles[::-1], *articles))
    calm, shuffled = source.fetch(NAMES, START, END), source.fetch(NAMES, START, END)
    assert calm.items.height == 2
    assert shuffled.items.equals(calm.items)
    assert (shuffled.rejects, shuffled.unlinked) == ([], 0)


def test_a_late_article_is_one_more_row(vendor, source, pages):
    late, seen = pages[0]["news"][0], pages[1]["news"][0]
    vendor.answer(NEWS, one(seen), once=True)
    vendor.answer(NEWS, one(seen, late))
    first, second = source.fetch(NAMES, START, END).items, source.fetch(NAMES, START, END).items
    new = second.join(first, on=second.columns, how="anti", nulls_equal=True)
    assert new["item_id"].to_list() == [str(late["id"])]
    assert second.height == first.height + 1


def test_nothing_found_is_no_error(vendor, source, pages):
    vendor.answer(NEWS, one(), once=True)
    vendor.answer(NEWS, one(pages[1]["news"][0] | {"symbols": []}))
    found = source.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.unlinked) == (0, [], 0)
    found = source.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.unlinked) == (0, [], 1)


def test_malformed_and_future_articles_are_rejected_with_their_reason(vendor, source, pages):
    good = pages[1]["news"][0]
    broken = [
        "no article",
        good | {"id": None},
        good | {"id": 1, "headline": ""},
        good | {"id": 2, "created_at": "2024-11-07T09:16:41"},
        good | {"id": 3, "updated_at": None},
        good | {"id": 4, "symbols": "CWAN"},
        good | {"id": 5, "updated_at": "2024-12-01T12:00:01Z"},
        good | {"id": 6, "created_at": "2024-12-01T12:00:01Z"},
        good | {"id": 7, "summary": None, "source": None, "url": None},
    ]
    vendor.answer(NEWS, one(*broken))
    found = source.fetch(NAMES, START, END)
    assert found.items.select("item_id", "url", "publisher").rows() == [("7", None, None)]
    assert sorted(reject.reason for reject in found.rejects) == [
        "published after it was fetched",
        "published after it was fetched",
        "the article has no list of symbols",
        "the article is no JSON object",
        "the item has no id",
        "the time of publication is missing or unreadable",
        "the time of the last revision is missing or unreadable",
        "the title is empty",
    ]
    assert {reject.table for reject in found.rejects} == {"news"}


def test_an_invalid_symbol_is_rejected_and_loses_no_other(vendor, source, pages):
    for others in ("AAPL%2CBRK.B%2CCWAN", "BRK.B%2CCWAN", "BRK.B"):
        vendor.answer(f"symbols={others}&", {"message": "invalid symbol: BRK.B"}, status=400)
    vendor.answer("symbols=AAPL&", one(pages[0]["news"][0]))
    vendor.answer("symbols=CWAN&", one(pages[1]["news"][0]))
    found = source.fetch(NAMES, START, END)
    assert found.items["instrument"].to_list() == ["AAPL", "CWAN"]
    (reject,) = found.rejects
    assert (reject.table, reject.instrument) == ("news", "BRK-B")
    assert reject.payload["answer"] == "invalid symbol: BRK.B"


def test_a_wait_that_alpaca_asks_for_is_kept_and_a_long_one_is_told(stormy, pages):
    slept: list[float] = []
    stormy.plays(NEWS, [fails(429, Retry_After="3")], then=says(pages[1]))
    assert hurried(stormy, slept).fetch(NAMES, START, END).items.height == 1
    assert (slept, stormy.count(NEWS)) == ([3.0], 2)
    stormy.plays(NEWS, [], then=fails(429, X_RateLimit_Reset=str(int(NOW.timestamp()) + 7200)))
    with pytest.raises(TryLaterError, match=r"^alpaca: HTTP 429.*try again after 2024-12-01 14:00:00 UTC"):
        hurried(stormy, slept).fetch(NAMES, START, END)
    assert stormy.count(NEWS) == 3


def test_a_failure_is_asked_again_and_then_one_clear_error(stormy, pages):
    slept: list[float] = []
    stormy.plays(NEWS, [fails(504), fails(500)], then=says(pages[1]))
    assert hurried(stormy, slept).fetch(NAMES, START, END).items.height == 1
    stormy.plays(NEWS, [], then=fails(503))
    before = stormy.count(NEWS)
    with pytest.raises(SourceUnavailableError, match=r"^alpaca: HTTP 503"):
        hurried(stormy, slept).fetch(NAMES, START, END)
    assert stormy.count(NEWS) == before + 3, "and nobody but us sends again"


def test_a_page_that_fails_loses_the_pages_before_it_with_a_word(stormy, pages):
    slept: list[float] = []
    stormy.plays("page_token", [fails(500)] * 3, then=says(pages[1]))
    stormy.plays(NEWS, [], then=says(pages[0]))
    with pytest.raises(SourceUnavailableError, match="HTTP 500"):
        hurried(stormy, slept).fetch(NAMES, START, END)
    assert hurried(stormy, slept).fetch(NAMES, START, END).items.height == 2


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (429, b'{"message": "too many requests."}', "application/json", "HTTP 429, too many requests"),
        (500, b"<html>oops</html>", "text/html", "HTTP 500: no reason given"),
        (422, b'{"message": "end is before start"}', "application/json", "HTTP 422: end is before start"),
        (200, b"<html>sign in</html>", "text/html", "not JSON"),
        (200, b"", "application/json", "holds no news"),
        (200, b"[]", "application/json", "holds no news"),
        (200, b"{}", "application/json", "holds no news"),
        (200, b'{"articles": []}', "application/json", "holds no news"),
        (200, b'{"news": null}', "application/json", "holds no news"),
        (200, b'{"news": {"id": 1}}', "application/json", "holds no news"),
    ],
)  # fmt: skip
def test_a_failing_service_is_one_clear_error(vendor, source, status, body, kind, says):
    vendor.answer(NEWS, body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        source.fetch(NAMES, START, END)
    assert str(caught.value).startswith("alpaca: ")
    assert SECRET not in str(caught.value)


def test_a_cut_answer_and_nobody_there(vendor, source, pages, nobody):
    vendor.answer(NEWS, pages[1], cut=True)
    with pytest.raises(SourceUnavailableError, match="alpaca: no answer for news"):
        source.fetch(NAMES, START, END)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        AlpacaNews(KEY, SECRET, nobody).fetch(NAMES, START, END)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_name_their_variables(vendor, source, status):
    vendor.answer(NEWS, {"message": "forbidden."}, status=status)
    with pytest.raises(ConfigError, match=r"ALPACA_API_KEY, ALPACA_API_SECRET.*forbidden\.") as caught:
        source.fetch(NAMES, START, END)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_missing_key_names_its_variable(lacking):
    keys: list[str | None] = [KEY, SECRET]
    keys[lacking] = None
    with pytest.raises(ConfigError, match=AlpacaNews.needs[lacking]):
        AlpacaNews(*keys)
