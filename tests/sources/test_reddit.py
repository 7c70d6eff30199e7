"""Reddit over a real socket, with recorded answers of the real service."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from octopus.alternative_data.schema import POSTS_SCHEMA
from octopus.core.errors import ConfigError, SourceUnavailableError
from resources.sources.reddit import RedditPosts

SECRET = "a-very-secret-word"
START, END = datetime(2008, 1, 1, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC)
# The recorded search was for the library praw: its words stand for companies here.
NAMES = {"PRAW": "Praw Inc.", "XOM": "Exxon Mobil Corporation"}


@pytest.fixture
def listing(test_data: Path) -> dict[str, Any]:
    tape = json.loads((test_data / "wire/reddit/praw_cassettes/TestSubreddit.test_search.json").read_text())
    return json.loads(tape["interactions"][1]["response"]["body"]["string"])


@pytest.fixture
def reddit(vendor, test_data: Path) -> RedditPosts:
    tape = json.loads((test_data / "wire/reddit/praw_cassettes/TestSubreddit.test_search.json").read_text())
    vendor.answer("/api/v1/access_token", tape["interactions"][0]["response"]["body"]["string"].encode())
    return RedditPosts("client", SECRET, "test: octopus reads posts", ["stocks"], vendor.access())


def test_posts_are_linked_and_stamped(vendor, reddit, listing):
    vendor.answer("/r/stocks/search", listing)
    found = reddit.fetch(NAMES, START, END)
    assert found.items.schema == POSTS_SCHEMA
    assert found.items.height == 5
    assert found.items["instrument"].unique().to_list() == ["PRAW"]
    assert found.items.height + found.unlinked == len(listing["data"]["children"])
    by_id = {child["data"]["name"]: child["data"] for child in listing["data"]["children"]}
    for row in found.items.to_dicts():
        sent = by_id[row["item_id"]]
        assert row["ts"].timestamp() == sent["created_utc"]
        assert row["body"].startswith(sent["title"])
        assert row["author"] == (None if sent["author"] == "[deleted]" else sent["author"])
        assert row["upvotes"] is None, "today's score was not known when the post was new"
        edited = sent["edited"] or sent["created_utc"]
        assert row["known_at"].timestamp() == max(edited, sent["created_utc"])


def test_the_window_is_applied(vendor, reddit, listing):
    vendor.answer("/r/stocks/search", listing)
    everything = reddit.fetch(NAMES, START, END).items
    middle = everything["ts"].median()
    earlier = reddit.fetch(NAMES, START, middle).items
    assert 0 < earlier.height < everything.height
    assert earlier["ts"].max() < middle


def test_the_search_is_read_only_and_newest_first(vendor, reddit, listing):
    vendor.answer("/r/stocks/search", listing)
    reddit.fetch(NAMES, START, END)
    methods = {(method, path.split("?")[0]) for method, path, _ in vendor.asked}
    assert methods == {("POST", "/api/v1/access_token"), ("GET", "/r/stocks/search/")}
    assert "sort=new" in vendor.paths("search")[0]


def test_malformed_posts_are_rejected(vendor, reddit, listing):
    broken = copy.deepcopy(listing)
    one, two, three = broken["data"]["children"][:3]
    one["data"] |= {"created_utc": None}
    two["data"] |= {"title": "", "selftext": ""}
    three["data"] |= {
        "title": "praw wins",
        "created_utc": datetime(2016, 12, 31, tzinfo=UTC).timestamp(),
        "edited": False,
    }
    broken["data"]["children"] = [one, two, three]
    vendor.answer("/r/stocks/search", broken)
    source = RedditPosts(
        "client", SECRET, "test: octopus", ["stocks"], vendor.access(), now=lambda: datetime(2016, 1, 1, tzinfo=UTC)
    )
    found = source.fetch(NAMES, START, END)
    assert found.items.is_empty()
    assert sorted(reject.reason for reject in found.rejects) == [
        "published after it was fetched",
        "the body is empty",
        "the time of creation is missing or unreadable",
    ]


def test_an_empty_listing_is_no_error(vendor, reddit):
    vendor.answer("/r/stocks/search", {"kind": "Listing", "data": {"children": [], "after": None, "before": None}})
    found = reddit.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.truncated) == (0, [], False)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (429, b"{}", "too many requests"),
        (404, b"{}", "HTTP 404"),
        (200, b"<html>sign in</html>", "no listing"),
    ],
)
def test_a_failing_service_is_one_clear_error(vendor, reddit, status, body, says):
    vendor.answer("/r/stocks/search", body, status=status)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        reddit.fetch(NAMES, START, END)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_name_their_variables(vendor, status):
    vendor.answer("/api/v1/access_token", {"message": "Unauthorized", "error": status}, status=status)
    source = RedditPosts("client", SECRET, "test: octopus reads posts", ["stocks"], vendor.access())
    with pytest.raises(ConfigError, match="REDDIT_CLIENT_ID, REDDIT_CLIENT_SECRET") as caught:
        source.fetch(NAMES, START, END)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_missing_key_names_its_variable(lacking):
    keys: list[str | None] = ["client", SECRET, "test: octopus"]
    keys[lacking] = None
    with pytest.raises(ConfigError, match=RedditPosts.needs[lacking]):
        RedditPosts(*keys)


def test_nobody_there(nobody):
    source = RedditPosts("client", SECRET, "test: octopus reads posts", ["stocks"], nobody)
    with pytest.raises(SourceUnavailableError, match="check the network"):
        source.fetch(NAMES, START, END)
