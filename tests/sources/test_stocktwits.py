"""StockTwits over a real socket, with a recorded stream of the real service."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from octopus.alternative_data.schema import POSTS_SCHEMA
from octopus.core.errors import SourceUnavailableError
from resources.sources.newsapi import parse_instant
from resources.sources.patience import Refusal, TryLaterError
from resources.sources.stocktwits import StockTwitsPosts

START, END = datetime(2019, 3, 2, tzinfo=UTC), datetime(2019, 3, 4, tzinfo=UTC)
NAMES = {"AAPL": "Apple Inc.", "BRK-A": "Berkshire Hathaway Inc.", "MSFT": "Microsoft Corporation"}
ONE = {"AAPL": "Apple Inc."}
NOWHERE = {"response": {"status": 404}, "errors": [{"message": "Symbol not found"}]}


@pytest.fixture(scope="module")
def stream(test_data: Path) -> dict[str, Any]:
    return json.loads((test_data / "wire" / "stocktwits" / "pystocktwits" / "get_symbol_msgs.json").read_text())


@pytest.fixture
def posts(vendor) -> StockTwitsPosts:
    return StockTwitsPosts(vendor.access())


def ended(stream: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The recorded page as a stream's last one."""
    return dict(stream, cursor=dict(stream["cursor"], more=False), **changes)


def test_messages_are_linked_by_their_symbols_once_over_all_streams(vendor, posts, stream):
    vendor.answer("/api/2/streams/symbol/", ended(stream))
    found = posts.fetch(NAMES, START, END)
    assert vendor.paths() == [f"/api/2/streams/symbol/{name}.json" for name in ("AAPL", "BRK.A", "MSFT")]
    assert found.items.schema == POSTS_SCHEMA
    assert (found.rejects, found.unlinked) == ([], 0)
    spelled = {"AAPL": "AAPL", "BRK.A": "BRK-A", "MSFT": "MSFT"}
    expected = sorted(
        (str(message["id"]), spelled[named["symbol"]])
        for message in stream["messages"]
        for named in message["symbols"]
        if named["symbol"] in spelled
    )
    assert sorted(found.items.select("item_id", "instrument").rows()) == expected
    assert len(expected) > 30


def test_a_message_keeps_its_author_time_and_words(vendor, posts, stream):
    vendor.answer("/AAPL.json", stream)
    row = posts.fetch(ONE, START, END).items.to_dicts()[-1]
    assert row["item_id"] == "155614013"
    assert row["ts"] == row["known_at"] == datetime(2019, 3, 3, 5, 38, 9, tzinfo=UTC)
    assert (row["author"], row["upvotes"], row["synthetic"]) == ("user_de82ff84", None, False)
    assert row["url"] == "https://stocktwits.com/user_de82ff84/message/155614013"
    assert "from momentum & FOMO" in row["body"]


def test_the_order_of_the_answer_and_copies_change_nothing(vendor, posts, stream):
    vendor.answer("/AAPL.json", ended(stream), once=True)
    vendor.answer("/AAPL.json", ended(stream), once=True)
    vendor.answer("/AAPL.json", ended(stream, messages=stream["messages"][::-1] * 2))
    first, second, third = (posts.fetch(ONE, START, END) for _ in range(3))
    assert first.items.height == len(stream["messages"])
    assert first.items.equals(second.items)
    assert first.payload_hash == second.payload_hash
    assert first.items.equals(third.items)
    assert third.rejects == []


def test_the_window_and_what_lies_before_it(vendor, posts, stream):
    vendor.answer("/AAPL.json", stream)
    oldest = datetime(2019, 3, 2, 23, 52, 37, tzinfo=UTC)
    assert posts.fetch(ONE, oldest, END).truncated
    later = posts.fetch(ONE, oldest + timedelta(seconds=1), END)
    assert not later.truncated
    assert later.items.height == len(stream["messages"]) - 1
    assert posts.fetch(ONE, START, oldest).items.is_empty()
    newest = datetime(2019, 3, 3, 5, 38, 9, tzinfo=UTC)
    assert posts.fetch(ONE, oldest, newest).items["ts"].max() < newest


def test_a_stream_that_ends_is_whole(vendor, posts, stream):
    vendor.answer("/AAPL.json", ended(stream))
    assert not posts.fetch(ONE, START, END).truncated


def pages_of(stream: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """The recorded messages, newest first, in pages of ``size``; the last one says that there is more."""
    messages = stream["messages"]
    parts = [messages[at : at + size] for at in range(0, len(messages), size)]
    return [dict(stream, messages=part, cursor={"more": True, "max": part[-1]["id"]}) for part in parts]


def test_a_busy_stream_is_read_back_to_the_windows_start(vendor, posts, stream):
    pages = pages_of(stream, 10)
    for page in pages:
        vendor.answer("/AAPL.json", page, once=True)
    vendor.answer("/MSFT.json", ended(stream, messages=[]))
    third = min(parse_instant(message["created_at"]) for message in pages[2]["messages"])
    found = posts.fetch({name: NAMES[name] for name in ("AAPL", "MSFT")}, third + timedelta(seconds=1), END)
    asked = [urlsplit(path) for path in vendor.paths()]
    assert [(one.path.rsplit("/", 1)[1], one.query) for one in asked] == [
        ("AAPL.json", ""), ("MSFT.json", ""), *(("AAPL.json", f"max={page['cursor']['max']}") for page in pages[:2]),
    ]  # fmt: skip
    assert (found.items["item_id"].n_unique(), found.truncated) == (29, 0)


def test_a_stream_that_is_not_read_to_the_start_counts_as_truncated(vendor, stream):
    pages = pages_of(stream, 10)
    vendor.answer("/MSFT.json", ended(stream))
    for page in (*pages[:2], dict(stream, messages=[], cursor={"more": False})):
        vendor.answer("/AAPL.json", page, once=True)
    names = {name: NAMES[name] for name in ("AAPL", "MSFT")}
    past_the_last = StockTwitsPosts(vendor.access()).fetch(names, START, END)
    assert past_the_last.truncated == 1, "an empty page where there was to be more"
    for page in pages[:2]:
        vendor.answer("/AAPL.json", page, once=True)
    assert StockTwitsPosts(vendor.access(), max_pages=2).fetch(names, START, END).truncated == 1
    for page in pages[:2]:
        vendor.answer("/AAPL.json", page, once=True)
    found = StockTwitsPosts(replace(vendor.access(), budget=Allowance(3))).fetch(names, START, END)
    assert found.truncated == 1
    read = {str(message["id"]) for page in pages[:2] for message in page["messages"]}
    assert read <= set(found.items["item_id"]), "where the budget ends, what was read stays"
    vendor.answer("/AAPL.json", pages[0], once=True)
    with pytest.raises(TryLaterError, match="budget"):
        StockTwitsPosts(replace(vendor.access(), budget=Allowance(1))).fetch(names, START, END)


@dataclass
class Allowance:
    """So many requests, and none after them."""

    left: int

    def spend(self) -> Refusal | None:
        self.left -= 1
        return None if self.left >= 0 else Refusal(200, 86_400, datetime(2019, 3, 5, tzinfo=UTC))


def test_an_unknown_symbol_is_rejected_and_loses_no_other(vendor, posts, stream):
    vendor.answer("/BRK.A.json", NOWHERE, status=404)
    vendor.answer("/api/2/", stream)
    found = posts.fetch(NAMES, START, END)
    (reject,) = found.rejects
    assert (reject.table, reject.instrument) == ("social_posts", "BRK-A")
    assert reject.reason == "StockTwits has no stream of this symbol"
    assert found.items.height > 0


def test_malformed_and_future_messages_are_rejected_with_their_reason(vendor, stream):
    good = stream["messages"][0]
    broken = [
        "no message",
        dict(good, id=None),
        dict(good, id=1, created_at="soon"),
        dict(good, id=2, created_at="2019-03-03T04:00:00"),
        dict(good, id=3, body=" "),
        dict(good, id=4, symbols=None),
        dict(good, id=5, created_at="2019-03-03T23:59:00Z"),
        dict(good, id=6, user=None),
        dict(good, id=7, symbols=[]),
    ]
    vendor.answer("/AAPL.json", ended(stream, messages=broken))
    source = StockTwitsPosts(vendor.access(), now=lambda: datetime(2019, 3, 3, 12, tzinfo=UTC))
    found = source.fetch(ONE, START, END)
    assert found.items.select("item_id", "author", "url").rows() == [("6", None, None)]
    assert found.unlinked == 1
    assert sorted(reject.reason for reject in found.rejects) == [
        "published after it was fetched",
        "the body is empty",
        "the item has no id",
        "the message has no list of symbols",
        "the message is no JSON object",
        "the time of creation is missing or unreadable",
        "the time of creation is missing or unreadable",
    ]


def test_an_empty_stream_is_no_error(vendor, posts):
    vendor.answer("/AAPL.json", {"response": {"status": 200}, "cursor": {"more": False}, "messages": []})
    found = posts.fetch(ONE, START, END)
    assert (found.items.height, found.rejects, found.unlinked, found.truncated) == (0, [], 0, False)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (429, b'{"response": {"status": 429}}', "application/json", "HTTP 429, too many requests"),
        (429, b"<html>slow down</html>", "text/html", "HTTP 429, too many requests"),
        (503, b"<html>oops</html>", "text/html", "HTTP 503: the answer is not JSON"),
        (500, b'{"errors": [{"message": "broken"}]}', "application/json", r"refused \(HTTP 500\): broken"),
        (403, b"<html>are you human?</html>", "text/html", "HTTP 403: the answer is not JSON"),
        (404, b"<html>nothing here</html>", "text/html", "HTTP 404: the answer is not JSON"),
        (200, b"<html>sign in</html>", "text/html", "not JSON"),
        (200, b"", "application/json", "not JSON"),
        (200, b"[]", "application/json", "no list of messages"),
        (200, b'{"messages": null}', "application/json", "no list of messages"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, posts, status, body, kind, says):
    vendor.answer("/AAPL.json", body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        posts.fetch(ONE, START, END)
    assert str(caught.value).startswith("stocktwits: ")


def test_a_failure_that_passes_loses_nothing(vendor, posts, stream):
    vendor.answer("/AAPL.json", b"busy", status=503, once=True)
    vendor.answer("/AAPL.json", stream)
    assert posts.fetch(ONE, START, END).items.height == len(stream["messages"])


def test_a_cut_answer_and_nobody_there(vendor, posts, stream, nobody):
    vendor.answer("/AAPL.json", stream, cut=True)
    with pytest.raises(SourceUnavailableError, match="stocktwits: no answer"):
        posts.fetch(ONE, START, END)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        StockTwitsPosts(nobody).fetch(ONE, START, END)
