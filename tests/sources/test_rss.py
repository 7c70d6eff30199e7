"""RSS and Atom over a real socket, with items that the BBC published rendered as feeds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pytest

from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.ids import fingerprint
from resources.sources.http import Access
from resources.sources.patience import Patience, Refusal, TryLaterError
from resources.sources.rss import RssNews

NAMES = {"AAPL": "Apple Inc.", "MCD": "McDonald's Corporation", "NFLX": "Netflix, Inc.", "TSLA": "Tesla, Inc."}
START, END = datetime(2022, 3, 1, tzinfo=UTC), datetime(2023, 7, 1, tzinfo=UTC)
KIND = "application/rss+xml"

Item = dict[str, str]


def rendered(items: list[Item]) -> bytes:
    """An RSS 2.0 feed of ``items``: its elements' names and texts."""
    inner = "".join(
        "<item>" + "".join(f"<{name}>{escape(text)}</{name}>" for name, text in item.items()) + "</item>"
        for item in items
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>{inner}</channel></rss>'.encode()


def item(title: str, when: str = "Mon, 07 Mar 2022 08:15:53 GMT", guid: str = "https://example.org/1", **more) -> Item:
    return {"title": title, "pubDate": when, "guid": guid, **more}


@pytest.fixture(scope="module")
def bbc(test_data: Path) -> list[Item]:
    """Some dozens of items: all that name a company of ours or come again, and some that do neither."""
    frame = pl.read_csv(test_data / "news_bbc_rss.csv.gz")
    ours = pl.col("title").str.contains("Apple|McDonald's|Netflix|Tesla")
    again = pl.col("guid").is_in(frame.filter(ours)["guid"].implode())
    chosen = pl.concat([frame.filter(again).head(60), frame.filter(~again).head(12)])
    return chosen.to_dicts()


@pytest.fixture
def rss(vendor) -> RssNews:
    return RssNews({"BBC": f"{vendor.url}/bbc.xml"}, vendor.access())


def stamps(found) -> list[tuple[datetime, datetime]]:
    return found.items.select("ts", "known_at").rows()


def test_items_are_linked_stamped_and_hashed(vendor, rss, bbc):
    vendor.answer("/bbc.xml", rendered(bbc), kind=KIND)
    found = rss.fetch(NAMES, START, END)
    assert found.items.schema == NEWS_SCHEMA
    assert found.items.height >= 20
    assert (found.rejects, found.truncated) == ([], False)
    assert found.items.height == found.items.unique(["instrument", "item_id"]).height
    assert set(found.items["publisher"]) == {"BBC"}
    for row in found.items.to_dicts():
        assert NAMES[row["instrument"]].split()[0].strip(",") in f"{row['title']} {row['body']}"
        assert START <= row["ts"] <= row["known_at"]
        assert not row["hindsight"]
        assert not row["synthetic"]
    assert found.unlinked > 0
    whole = rss.fetch(NAMES, datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
    assert whole.unlinked + whole.items["item_id"].n_unique() == len({row["guid"] for row in bbc})


def test_an_item_published_again_is_one_item_known_since_its_latest_text(vendor, rss, bbc):
    vendor.answer("/bbc.xml", rendered(bbc), kind=KIND)
    found = rss.fetch(NAMES, START, END).items
    groups: dict[str, list[Item]] = {}
    for row in bbc:
        groups.setdefault(row["guid"], []).append(row)
    repeated = {guid: rows for guid, rows in groups.items() if len({row["pubDate"] for row in rows}) > 1}
    seen = 0
    for guid, rows in repeated.items():
        ordered = sorted(rows, key=lambda row: parsedate_to_datetime(row["pubDate"]))
        for row in found.filter(pl.col("item_id") == fingerprint(guid)).to_dicts():
            seen += 1
            assert row["ts"] == parsedate_to_datetime(ordered[0]["pubDate"])
            assert row["known_at"] == parsedate_to_datetime(ordered[-1]["pubDate"])
            assert row["title"] == ordered[-1]["title"].strip()
    assert seen >= 2


def test_the_order_of_the_feed_changes_nothing(vendor, rss, bbc):
    vendor.answer("/bbc.xml", rendered(bbc), kind=KIND, once=True)
    vendor.answer("/bbc.xml", rendered(bbc[::-1]), kind=KIND)
    first, second = rss.fetch(NAMES, START, END), rss.fetch(NAMES, START, END)
    assert first.items.equals(second.items)
    assert first.items.height > 0


def test_the_window_holds_its_start_and_not_its_end(vendor, rss):
    vendor.answer("/bbc.xml", rendered([item("Apple soars")]), kind=KIND)
    at = datetime(2022, 3, 7, 8, 15, 53, tzinfo=UTC)
    assert rss.fetch(NAMES, at, at + timedelta(seconds=1)).items.height == 1
    assert rss.fetch(NAMES, at - timedelta(days=1), at).items.is_empty()


def test_an_atom_feed_with_markup_and_an_update(vendor, rss):
    feed = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><id>urn:f</id>
      <entry><id>urn:1</id><title>Apple soars</title><link href="https://example.org/1"/>
        <published>2022-03-07T10:00:00+02:00</published><updated>2022-03-07T09:30:00Z</updated>
        <summary type="html">&lt;p&gt;By &lt;b&gt;5%&lt;/b&gt; &amp;amp; more&lt;/p&gt;</summary></entry>
      <entry><id>urn:2</id><title>Tesla falls</title><updated>2022-03-08T09:00:00Z</updated></entry></feed>"""
    vendor.answer("/bbc.xml", feed.encode(), kind="application/atom+xml")
    apple, tesla = rss.fetch(NAMES, START, END).items.to_dicts()
    assert (apple["body"], apple["url"]) == ("By 5% & more", "https://example.org/1")
    assert apple["ts"] == datetime(2022, 3, 7, 8, tzinfo=UTC)
    assert apple["known_at"] == datetime(2022, 3, 7, 9, 30, tzinfo=UTC)
    assert tesla["ts"] == tesla["known_at"] == datetime(2022, 3, 8, 9, tzinfo=UTC)
    assert (tesla["body"], tesla["url"]) == (None, None)


def test_a_guid_that_is_no_address_names_the_item_in_its_feed_only(vendor):
    vendor.answer("/a.xml", rendered([item("Apple soars", guid="1"), item("Tesla falls", guid="tag:x,1")]), kind=KIND)
    vendor.answer("/b.xml", rendered([item("Netflix dips", guid="1"), item("Tesla falls", guid="tag:x,1")]), kind=KIND)
    both = RssNews({"A": f"{vendor.url}/a.xml", "B": f"{vendor.url}/b.xml"}, vendor.access())
    assert sorted(both.fetch(NAMES, START, END).items["instrument"]) == ["AAPL", "NFLX", "TSLA"]


def test_malformed_and_future_items_are_rejected_with_their_reason(vendor):
    broken = [
        item("Apple soars", when="soon"),
        item("Apple falls", when="2022-03-07T04:18:00"),
        item("Apple wins", when="Mon, 07 Mar 2022 23:59:00 GMT"),
        item("", description="Apple did something"),
        item("Tesla works", guid="https://example.org/2"),
        item("Tesla will work", when="Tue, 08 Mar 2022 08:00:00 GMT", guid="https://example.org/2"),
        item("Apple was founded", when="0001-01-01T00:00:00+02:00"),
        {"title": "Apple, undated", "link": "http://[no address"},
    ]
    vendor.answer("/bbc.xml", rendered(broken), kind=KIND)
    noon = datetime(2022, 3, 7, 12, tzinfo=UTC)
    found = RssNews({"BBC": f"{vendor.url}/bbc.xml"}, vendor.access(), now=lambda: noon).fetch(NAMES, START, END)
    assert found.items["title"].to_list() == ["Tesla works"]
    assert sorted(reject.reason for reject in found.rejects) == [
        "published after it was fetched",
        "published after it was fetched",
        "the time of publication is missing or unreadable",
        "the time of publication is missing or unreadable",
        "the time of publication is missing or unreadable",
        "the time of publication is missing or unreadable",
        "the title is empty",
    ]
    assert {reject.payload["feed"] for reject in found.rejects} == {"BBC"}


def test_an_empty_feed_is_no_error(vendor, rss):
    vendor.answer("/bbc.xml", rendered([]), kind=KIND)
    found = rss.fetch(NAMES, START, END)
    assert (found.items.height, found.rejects, found.unlinked, found.truncated) == (0, [], 0, False)


FAILURES = [
    (429, b"slow down", "text/plain", "HTTP 429, too many requests"),
    (503, b"<html>oops</html>", "text/html", "HTTP 503"),
    (404, b"<html>gone</html>", "text/html", "HTTP 404; check its address"),
    (200, b"<!DOCTYPE html><html><body>sign in</body></html>", "text/html", "a web page"),
    (200, b'{"error": "no"}', "application/json", "no RSS or Atom"),
    (200, b"", KIND, "the answer is empty"),
    (200, rendered([item("Apple soars"), item("Tesla falls")])[:-40], KIND, "ends in the middle"),
]


@pytest.mark.parametrize(("status", "body", "kind", "says"), FAILURES)
def test_one_failing_feed_is_a_reject_and_stops_no_other(vendor, status, body, kind, says):
    vendor.answer("/bad.xml", body, status=status, kind=kind)
    vendor.answer("/good.xml", rendered([item("Apple soars")]), kind=KIND)
    source = RssNews({"Bad": f"{vendor.url}/bad.xml", "Good": f"{vendor.url}/good.xml"}, vendor.access())
    found = source.fetch(NAMES, START, END)
    assert found.items["publisher"].to_list() == ["Good"]
    (reject,) = found.rejects
    assert (reject.table, reject.instrument, reject.payload["feed"]) == ("news", None, "Bad")
    assert says in reject.reason
    assert "'Bad'" in reject.reason


@pytest.mark.parametrize(("status", "body", "kind", "says"), FAILURES)
def test_only_failing_feeds_are_one_clear_error(vendor, rss, status, body, kind, says):
    vendor.answer("/bbc.xml", body, status=status, kind=kind)
    with pytest.raises(SourceUnavailableError, match=says) as caught:
        rss.fetch(NAMES, START, END)
    assert str(caught.value).startswith("rss: feed 'BBC': ")


def test_an_answer_that_names_a_local_file_does_not_open_it(vendor, rss, tmp_path):
    local = tmp_path / "feed.xml"
    local.write_bytes(rendered([item("Apple soars")]))
    vendor.answer("/bbc.xml", str(local).encode(), kind=KIND)
    with pytest.raises(SourceUnavailableError, match="no RSS or Atom"):
        rss.fetch(NAMES, START, END)


def test_every_failed_feed_is_named(vendor, nobody):
    vendor.answer("/b.xml", b"<html></html>", kind="text/html")
    source = RssNews({"A": f"{nobody.base_url}/a.xml", "B": f"{vendor.url}/b.xml"}, vendor.access())
    with pytest.raises(
        SourceUnavailableError, match=r"every feed failed: feed 'A': no answer .*; feed 'B': .*web page"
    ):
        source.fetch(NAMES, START, END)


def test_a_cut_answer_is_asked_for_again(vendor, rss):
    whole = rendered([item("Apple soars")])
    vendor.answer("/bbc.xml", whole, kind=KIND, cut=True, once=True)
    vendor.answer("/bbc.xml", whole, kind=KIND)
    assert rss.fetch(NAMES, START, END).items.height == 1
    assert len(vendor.paths("/bbc.xml")) == 2


def test_an_answer_that_stays_cut_is_an_error(vendor, rss):
    vendor.answer("/bbc.xml", rendered([item("Apple soars")]), kind=KIND, cut=True)
    with pytest.raises(SourceUnavailableError, match="feed 'BBC': no answer"):
        rss.fetch(NAMES, START, END)


def test_spent_budgets_say_when_to_come_back(vendor):
    class Spent:
        def spend(self) -> Refusal:
            return Refusal(5, 86_400, datetime(2030, 1, 1, tzinfo=UTC))

    access = Access(budget=Spent(), patience=Patience(attempts=1))
    with pytest.raises(TryLaterError, match="every feed failed: feed 'A': our budget of 5 requests") as caught:
        RssNews({"A": f"{vendor.url}/a", "B": f"{vendor.url}/b"}, access).fetch(NAMES, START, END)
    assert caught.value.retry_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert vendor.asked == []


def test_feeds_keep_their_own_addresses(vendor, nobody):
    vendor.answer("/bbc.xml", rendered([item("Apple soars")]), kind=KIND)
    assert RssNews({"BBC": f"{vendor.url}/bbc.xml"}, nobody).fetch(NAMES, START, END).items.height == 1


def test_feeds_that_cannot_be_are_refused_at_once():
    with pytest.raises(ConfigError, match="at least one feed"):
        RssNews({})
    with pytest.raises(ConfigError, match=r"feeds\.BBC"):
        RssNews({"BBC": "feeds.bbci.co.uk/news/rss.xml"})
