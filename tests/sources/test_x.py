"""X over a real socket, with recorded answers of the real service.

The recorded posts were asked for without their time of creation, so that is read from their ids, which hold it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from chaos_server import ChaosVendor, chaos, fails, says

from octopus.alternative_data.linking import Linker
from octopus.alternative_data.schema import POSTS_SCHEMA
from octopus.core.errors import ConfigError, SourceUnavailableError
from resources.sources.http import Access
from resources.sources.patience import Patience, TryLaterError
from resources.sources.x import NEWEST, REACH, XPosts, queries

TOKEN = "AAAA-bearer-of-nothing"
NOW = datetime(2022, 10, 7, 23, 30, tzinfo=UTC)
START, END = NOW - timedelta(days=6), NOW
NAMES = {"TWTR": "Twitter, Inc."}
SEARCH = "/2/tweets/search/recent"
NOTHING = {"meta": {"result_count": 0}}
TWITTER_EPOCH_MS = 1_288_834_974_657


def created(post: dict[str, Any]) -> datetime:
    """When a post was created, by its id."""
    return datetime.fromtimestamp(((int(post["id"]) >> 22) + TWITTER_EPOCH_MS) / 1000, UTC)


def page(posts: list[Any], following: str | None = None, **more: Any) -> dict[str, Any]:
    meta = {"result_count": len(posts)} | ({"next_token": following} if following else {})
    return {"data": posts, "meta": meta, **more} if posts else {"meta": meta}


@pytest.fixture(scope="module")
def recorded(test_data: Path):
    def read(name: str) -> dict[str, Any]:
        return json.loads((test_data / "wire" / "twitter_v2" / "decoded" / f"test_client_{name}.json").read_text())[0][
            "body"
        ]

    return read


@pytest.fixture(scope="module")
def posts(recorded) -> list[dict[str, Any]]:
    """Recorded posts of the window, newest first, as X sends them when their time and author are asked for."""
    whole = [
        post | {"created_at": created(post).isoformat(timespec="milliseconds")[:-6] + "Z", "author_id": "783214"}
        for post in recorded("get_home_timeline")["data"]
    ]
    return [post for post in whole if START <= created(post) < END]


@pytest.fixture
def x(vendor) -> XPosts:
    return XPosts(TOKEN, vendor.access(), now=lambda: NOW)


@pytest.fixture
def stormy() -> Iterator[ChaosVendor]:
    with chaos() as running:
        yield running


def hurried(stormy: ChaosVendor, slept: list[float], attempts: int = 3) -> XPosts:
    access = Access(stormy.url, 5.0, Patience(attempts=attempts, base_s=0), sleep=slept.append, now=lambda: NOW)
    return XPosts(TOKEN, access, now=lambda: NOW)


def test_posts_are_linked_and_stamped(vendor, x, posts):
    vendor.answer(SEARCH, page(posts))
    found = x.fetch(NAMES, START, END)
    assert found.items.schema == POSTS_SCHEMA
    linker = Linker(NAMES)
    named = {post["id"]: post for post in posts if linker.link(post["text"])}
    assert sorted(found.items["item_id"]) == sorted(named)
    assert len(named) > 5
    assert found.unlinked == len(posts) - len(named)
    for row in found.items.to_dicts():
        sent = named[row["item_id"]]
        assert row["ts"] == row["known_at"] == created(sent).replace(microsecond=row["ts"].microsecond)
        assert (row["instrument"], row["author"], row["synthetic"]) == ("TWTR", "783214", False)
        assert row["upvotes"] is None, "today's likes were not known when the post was new"
        assert row["url"] == f"https://x.com/i/status/{sent['id']}"
    assert (found.rejects, found.truncated) == ([], False)


def test_names_and_cashtags_are_asked_for_with_their_window(vendor, x, posts):
    vendor.answer(SEARCH, page(posts))
    x.fetch({"TWTR": "Twitter, Inc.", "BRK-B": "Berkshire Hathaway Inc."}, START, END)
    asked = [parse_qs(urlsplit(path).query) for path in vendor.paths(SEARCH)]
    assert [query["query"] for query in asked] == [['"Berkshire Hathaway" OR "Twitter"'], ["$BRK.B OR $TWTR"]]
    for query in asked:
        assert query["start_time"] == ["2022-10-01T23:30:00Z"]
        assert query["end_time"] == ["2022-10-07T23:29:30Z"], "X refuses a time that is hardly past"
        assert query["max_results"] == ["100"]
        assert "created_at" in query["tweet.fields"][0]
        assert "next_token" not in query
    assert {sent["Authorization"] for _, _, sent in vendor.asked} == {f"Bearer {TOKEN}"}
    assert not vendor.paths(TOKEN)


def test_queries_fit_and_ask_for_everything():
    many = {f"AB{chr(65 + n // 26)}{chr(65 + n % 26)}": f"Company Number{n}" for n in range(200)}
    asked = queries({"BTC-USD": "Bitcoin", "EURUSD=X": "", "T": "", **many})
    assert max(map(len, asked)) <= 512
    joined = " OR ".join(asked)
    for term in (
        '"Bitcoin"',
        '"$EURUSD=X"',
        "$T",
        *(f'"Company Number{n}"' for n in range(200)),
        *map("${}".format, many),
    ):
        assert term in joined.split(" OR ")
    assert "$BTC-USD" not in joined, "X would read a cashtag and something to leave out"
    assert queries({}) == []


def test_pages_are_read_to_the_end(vendor, x, posts):
    vendor.answer("next_token=third", page(posts[40:]))
    vendor.answer("next_token=second", page(posts[20:40], "third"))
    vendor.answer(SEARCH, page(posts[:20], "second"))
    whole = x.fetch(NAMES, START, END)
    assert not whole.truncated
    assert len(vendor.paths(SEARCH)) == 6
    vendor.routes.clear()
    vendor.answer(SEARCH, page(posts))
    assert x.fetch(NAMES, START, END).items.equals(whole.items)


def test_pages_beyond_the_limit_are_said_to_be_missing(vendor, posts):
    vendor.answer(SEARCH, page(posts[:20], "again"))
    found = XPosts(TOKEN, vendor.access(), max_pages=3, now=lambda: NOW).fetch(NAMES, START, END)
    assert found.truncated
    assert len(vendor.paths(SEARCH)) == 6


def test_copies_other_orders_and_moving_pages_change_nothing(vendor, x, posts):
    vendor.answer(SEARCH, page(posts), once=True)
    vendor.answer(SEARCH, NOTHING, once=True)
    calm = x.fetch(NAMES, START, END)
    vendor.answer("next_token=", page(posts[::-1]))
    vendor.answer(SEARCH, page(posts * 2, "more"))
    again = x.fetch(NAMES, START, END)
    assert again.items.equals(calm.items)
    assert (again.rejects, again.unlinked) == ([], calm.unlinked)


def test_a_late_post_is_one_more_row(vendor, x, posts):
    late = next(post for post in posts[10:] if Linker(NAMES).link(post["text"]))
    vendor.answer(SEARCH, page([post for post in posts if post is not late]), once=True)
    vendor.answer(SEARCH, NOTHING, once=True)
    before = x.fetch(NAMES, START, END).items
    vendor.answer(SEARCH, page([*posts, late]))
    after = x.fetch(NAMES, START, END).items
    assert after.height == before.height + 1
    assert after.join(before, on=after.columns, how="anti", nulls_equal=True)["item_id"].to_list() == [late["id"]]


def test_a_repost_stays_recognisable_and_is_read_whole(vendor, x, posts):
    recorded = next(post for post in posts if post["text"].startswith("RT @jangles: ") and post["text"].endswith("…"))
    text = "Introducing mixed media: Videos, images, and GIFs together in one #Tweet via @Twitter, and a last word"
    repost = recorded | {"referenced_tweets": [{"type": "retweeted", "id": "99"}]}
    vendor.answer(SEARCH, page([repost], includes={"tweets": [{"id": "99", "text": text}]}), once=True)
    vendor.answer(SEARCH, NOTHING, once=True)
    assert x.fetch(NAMES, START, END).items["body"].to_list() == [f"RT @jangles: {text}"]
    vendor.answer(SEARCH, page([repost], errors=[{"title": "Not Found Error", "resource_id": "99"}]))
    (cut,) = x.fetch(NAMES, START, END).items["body"]
    assert cut.startswith("RT @jangles: Introducing mixed media")
    assert cut.endswith("…")


def test_a_long_post_is_read_whole(vendor, x, posts):
    long = posts[0] | {"text": "A long story…", "note_tweet": {"text": "A long story &amp; its end: $TWTR"}}
    vendor.answer(SEARCH, page([long]))
    assert x.fetch(NAMES, START, END).items["body"].to_list() == ["A long story & its end: $TWTR"]


def test_nothing_found_is_no_error(vendor, x):
    vendor.answer(SEARCH, NOTHING)
    found = x.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.unlinked, found.truncated) == (0, [], 0, False)


def test_what_lies_before_seven_days_is_said_and_not_asked_for(vendor, x, posts):
    vendor.answer(SEARCH, page(posts))
    early = NOW - timedelta(days=12)
    found, again = x.fetch(NAMES, early, END), x.fetch(NAMES, early, END)
    assert found.items.height > 0
    assert found.truncated
    assert found.rejects == again.rejects, "asked again it is the same reject, stored once"
    (reject,) = found.rejects
    assert (reject.table, reject.payload["start_utc"]) == ("social_posts", "2022-09-25 23:30:00+00:00")
    assert reject.reason.startswith("X's recent search reaches back 7 days")
    asked = parse_qs(urlsplit(vendor.paths(SEARCH)[0]).query)
    assert asked["start_time"] == [(NOW - REACH).strftime("%Y-%m-%dT%H:%M:%SZ")]
    vendor.asked.clear()
    found = x.fetch(NAMES, early, early + timedelta(days=3))
    assert (found.items.height, len(found.rejects), found.truncated, vendor.asked) == (0, 1, True, [])


def test_the_window_is_kept_to_the_microsecond(vendor, x, posts):
    vendor.answer(SEARCH, page(posts))
    instant = sorted(created(post) for post in posts)[len(posts) // 2]
    early, late = x.fetch(NAMES, START, instant).items, x.fetch(NAMES, instant, END).items
    whole = x.fetch(NAMES, START, END).items
    assert early.vstack(late).equals(whole)
    asked = parse_qs(urlsplit(vendor.paths(SEARCH)[0]).query)["end_time"][0]
    assert datetime.fromisoformat(asked) >= instant, "X knows whole seconds"
    assert datetime.fromisoformat(asked) <= NOW - NEWEST + timedelta(seconds=1)


def test_malformed_and_future_posts_are_rejected_with_their_reason(vendor, x, posts):
    good = posts[0]
    broken = [
        "no post",
        good | {"id": None},
        good | {"id": "1", "created_at": "soon"},
        good | {"id": "2", "created_at": "2022-10-07T10:00:00"},
        good | {"id": "3", "text": " "},
        good | {"id": "4", "text": {"full": "Twitter"}},
        good | {"id": "5", "text": "Twitter", "created_at": "2022-10-08T00:00:00Z"},
        good | {"id": "6", "text": "Twitter", "author_id": None, "referenced_tweets": "none", "note_tweet": 7},
    ]
    vendor.answer(SEARCH, page(broken, includes=[]))
    found = x.fetch(NAMES, START, NOW + timedelta(days=1))
    assert found.items.select("item_id", "author").rows() == [("6", None)]
    # Asked for twice, by name and by cashtag: each malformed record is stored once all the same.
    assert sorted({reject.reason for reject in found.rejects}) == [
        "published after it was fetched",
        "the body is empty",
        "the item has no id",
        "the post is no JSON object",
        "the time of creation is missing or unreadable",
    ]


def test_posts_without_their_time_are_kept_for_a_person_to_judge(vendor, x, recorded):
    """As X answers those who do not ask for it, and would answer if the field were renamed."""
    body = recorded("search_recent_tweets")
    vendor.answer(SEARCH, page(body["data"]))
    found = x.fetch({"TWPY": "Tweepy"}, START, END)
    assert found.items.is_empty()
    assert {reject.payload["id"] for reject in found.rejects} == {post["id"] for post in body["data"]}


def test_a_wait_that_x_asks_for_is_kept_and_a_long_one_is_told(stormy, posts):
    slept: list[float] = []
    stormy.plays(SEARCH, [fails(429, Retry_After="3")], then=says(page(posts)))
    assert hurried(stormy, slept).fetch(NAMES, START, END).items.height > 0
    assert (slept, stormy.count(SEARCH)) == ([3.0], 3)
    stormy.plays(SEARCH, [], then=fails(429, x_rate_limit_reset=str(int(NOW.timestamp()) + 840)))
    with pytest.raises(TryLaterError, match=r"^x: HTTP 429.*try again after 2022-10-07 23:44:00 UTC"):
        hurried(stormy, slept).fetch(NAMES, START, END)
    assert (slept, stormy.count(SEARCH)) == ([3.0], 4)


def test_a_failure_is_asked_again_and_then_one_clear_error(stormy, posts):
    slept: list[float] = []
    stormy.plays(SEARCH, [fails(503), fails(500)], then=says(page(posts)))
    assert hurried(stormy, slept).fetch(NAMES, START, END).items.height > 0
    stormy.plays(SEARCH, [], then=fails(503))
    before = stormy.count(SEARCH)
    with pytest.raises(SourceUnavailableError, match=r"^x: refused \(HTTP 503\)"):
        hurried(stormy, slept).fetch(NAMES, START, END)
    assert stormy.count(SEARCH) == before + 3


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (429, b'{"title": "UsageCapExceeded", "detail": "Usage cap exceeded: Monthly"}', "application/json", "Monthly"),
        (429, b"<html>slow down</html>", "text/html", "HTTP 429, too many requests"),
        (402, b'{"detail": "credits depleted"}', "application/json", r"refused \(HTTP 402: credits depleted\)"),
        (400, b'{"errors": [{"message": "bad query"}]}', "application/json", r"refused \(HTTP 400: bad query\)"),
        (400, b"[]", "application/json", "without a readable reason"),
        (418, b"{}", "application/json", r"refused \(HTTP 418\)"),
        (503, b"<html>oops</html>", "text/html", r"refused \(HTTP 503\)"),
        (200, b"<html>sign in</html>", "text/html", "not JSON"),
        (200, b"", "application/json", "not JSON"),
        (200, b"[]", "application/json", "no list of posts"),
        (200, b"{}", "application/json", "no list of posts"),
        (200, b'{"meta": {"result_count": 3}}', "application/json", "no list of posts"),
        (200, b'{"errors": [{"message": "partial"}]}', "application/json", "no list of posts"),
    ],
)  # fmt: skip
def test_a_failing_service_is_one_clear_error(vendor, x, status, body, kind, says):
    vendor.answer(SEARCH, body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        x.fetch(NAMES, START, END)
    assert str(caught.value).startswith("x: ")
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_cut_answer_and_nobody_there(vendor, x, posts, nobody):
    vendor.answer(SEARCH, page(posts), cut=True)
    with pytest.raises(SourceUnavailableError, match="x: no answer"):
        x.fetch(NAMES, START, END)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        XPosts(TOKEN, nobody, now=lambda: NOW).fetch(NAMES, START, END)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_names_its_variable_and_not_its_value(vendor, x, status):
    vendor.answer(SEARCH, {"title": "Forbidden", "detail": "not for this plan"}, status=status)
    with pytest.raises(ConfigError, match=f"X_BEARER_TOKEN.*HTTP {status}: not for this plan") as caught:
        x.fetch(NAMES, START, END)
    assert TOKEN not in str(caught.value)
    assert len(vendor.asked) == 1


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_names_its_variable(value):
    with pytest.raises(ConfigError, match=r"X_BEARER_TOKEN.*set it to use the source x"):
        XPosts(value)


def test_the_token_is_in_no_log(vendor, x, posts, caplog):
    caplog.set_level(logging.DEBUG)
    vendor.answer(SEARCH, page(posts))
    x.fetch(NAMES, START, END)
    assert TOKEN not in caplog.text
