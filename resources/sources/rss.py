"""RSS and Atom feeds through feedparser: the news that publishers offer without a key.

Belongs here: reading feeds and turning their entries into news rows. Does not: which instrument an item is about
(octopus/alternative_data/linking.py), tone.

A feed holds what is new now, so it has no past to ask for. An entry that is published again is the same item: it
happened when it was first published, and its text is known since the last time, because that is the text we read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import polars as pl

from octopus.alternative_data.linking import Linker
from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_news
from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.ids import fingerprint
from octopus.core.rejects import Reject, json_payload
from resources.sources.base import TextItems
from resources.sources.http import Access, VendorSession
from resources.sources.newsapi import parse_instant
from resources.sources.patience import TryLaterError

NAME = "rss"

_END_OF_FEED = re.compile(rb"</(?:\w+:)?(?:rss|feed|rdf)\s*>", re.IGNORECASE)
_GLOBAL_ID = re.compile(r"(?:https?|tag|urn):\S", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_WEB_ADDRESS = re.compile(r"https?://[^/\s]", re.IGNORECASE)
_WEB_PAGE = re.compile(rb"<(?:!doctype\s+html|html)\b", re.IGNORECASE)


class RssNews:
    """News that name a company of the universe, from the feeds given.

    Args:
        feeds: name of each feed, which becomes the publisher of its items → its absolute address.
        access: how long requests may take and how often they are sent. Feeds are many hosts, so its base address
            counts for nothing.
        now: what time it is, to refuse items from the future.
    """

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        feeds: Mapping[str, str],
        access: Access | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not feeds:
            raise ConfigError(where="rss", field="feeds", value=dict(feeds), remedy="name at least one feed")
        for feed, url in feeds.items():
            if not _WEB_ADDRESS.match(url):
                raise ConfigError(
                    where="rss", field=f"feeds.{feed}", value=url, remedy="give its whole address, with https://"
                )
        self._feeds = dict(feeds)
        self._access = replace(access or Access(), base_url=None)
        self._now = now

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `NewsSource.fetch`; a feed that fails is a reject, unless every feed fails."""
        now = self._now()
        versions: list[_Version] = []
        rejects: list[Reject] = []
        failures: list[SourceUnavailableError] = []
        with self._access.session(NAME) as session:
            for feed, url in sorted(self._feeds.items()):
                try:
                    entries = _entries(session, feed, url)
                except SourceUnavailableError as error:
                    failures.append(error)
                    rejects.append(Reject("news", None, str(error), {"feed": feed}))
                    continue
                good, malformed = _versions(entries, feed, now)
                versions += good
                rejects += malformed
        if len(failures) == len(self._feeds):
            raise _all_failed(failures)
        rows, unlinked = _rows(versions, Linker(names))
        frame = pl.DataFrame(rows, schema=NEWS_SCHEMA)
        window = pl.col("ts").is_between(start_utc, end_utc, closed="left")
        # In an order of our own, so that the order of feeds and entries changes nothing.
        items, refused = validate_news(frame.filter(window).sort("ts", "item_id", "instrument"), now)
        return TextItems(items, rejects + refused, session.payload_hash, unlinked)


@dataclass(frozen=True, order=True)
class _Version:
    """An entry as it was published at one time; the greatest of an item's versions is the latest."""

    known_at: datetime
    published: datetime
    title: str
    body: str
    url: str
    publisher: str
    item_id: str


def _all_failed(failures: Sequence[SourceUnavailableError]) -> SourceUnavailableError:
    if len(failures) == 1:
        return failures[0]
    told = "; ".join(str(failure).removeprefix(f"{NAME}: ") for failure in failures)
    message = f"{NAME}: every feed failed: {told}"
    later = [failure.retry_at for failure in failures if isinstance(failure, TryLaterError)]
    if len(later) == len(failures):
        return TryLaterError(message, min(later))
    return SourceUnavailableError(message)


def _entries(session: VendorSession, feed: str, url: str) -> list[Mapping[str, Any]]:
    """Entries of one feed, as feedparser names their fields.

    Raises:
        SourceUnavailableError: there is no answer, or it is no whole feed.
    """
    import feedparser

    body, headers = _body(session, feed, url)
    # As a stream: bytes that happen to be the name of a local file would be read as that file.
    parsed = feedparser.parse(io.BytesIO(body), response_headers=headers)
    why = None
    if not body.strip():
        why = "the answer is empty"
    elif not parsed.version:
        why = "the answer is a web page, no feed" if _WEB_PAGE.search(body[:1000]) else "the answer is no RSS or Atom"
    # Without the zeros that UTF-16 puts between the letters.
    elif parsed.bozo and not _END_OF_FEED.search(body.replace(b"\0", b"")):
        why = "the answer ends in the middle of the feed"
    if why is not None:
        raise SourceUnavailableError(
            f"rss: feed {feed!r}: {why}; open its address in a browser and correct it in the configuration, or try "
            "again later"
        )
    # feedparser's own mapping gives the time of publication where an entry has no time of update.
    return [dict(entry) for entry in parsed.entries]


def _body(session: VendorSession, feed: str, url: str) -> tuple[bytes, dict[str, str]]:
    import requests

    try:
        response = session.get(url)
    except TryLaterError as error:
        why = str(error).removeprefix(f"{NAME}: ")
        raise TryLaterError(f"rss: feed {feed!r}: {why}", error.retry_at) from error
    except requests.RequestException as error:
        raise SourceUnavailableError(
            f"rss: feed {feed!r}: no answer ({type(error).__name__}); check its address, the network and the proxy"
        ) from error
    if response.status_code == 429:
        raise SourceUnavailableError(f"rss: feed {feed!r}: HTTP 429, too many requests; ask it less often")
    if response.status_code != 200:
        raise SourceUnavailableError(
            f"rss: feed {feed!r}: HTTP {response.status_code}; check its address, or try again later"
        )
    return response.content, {"content-type": response.headers.get("Content-Type", "")}


def _versions(entries: Sequence[Mapping[str, Any]], feed: str, now: datetime) -> tuple[list[_Version], list[Reject]]:
    """What can be read of each entry, and rejects of those without a title or a time, or from the future."""
    versions: list[_Version] = []
    rejects: list[Reject] = []
    for entry in entries:
        title, body = _plain(entry.get("title")), _plain(entry.get("summary"))
        updated = _instant(entry.get("updated"))
        published = _instant(entry.get("published")) or updated
        known_at = max(published, updated or published) if published else None
        if not title:
            why = "the title is empty"
        elif published is None or known_at is None:
            why = "the time of publication is missing or unreadable"
        elif known_at > now:
            why = "published after it was fetched"
        else:
            item_id = fingerprint(_identity(entry, feed, title))
            versions.append(_Version(known_at, published, title, body, _address(entry), feed, item_id))
            continue
        rejects.append(Reject("news", None, why, {"feed": feed, "entry": json_payload(entry)}))
    return versions, rejects


def _address(entry: Mapping[str, Any]) -> str:
    """The entry's link, or an empty text: feedparser gives the guid for a link where there is none."""
    link = str(entry.get("link") or "")
    return link if _WEB_ADDRESS.match(link) else ""


def _identity(entry: Mapping[str, Any], feed: str, title: str) -> str:
    """What names the item: its guid, else its address, else its title.

    One that is no address, tag or URN names it within its feed alone: two publishers may both have an item 1234.
    """
    found = str(entry.get("id") or entry.get("link") or title)
    return found if _GLOBAL_ID.match(found) else f"{feed}\x1f{found}"


def _plain(text: object) -> str:
    """``text`` without markup; feedparser took away what is no text, as scripts."""
    return clean_text(_TAG.sub(" ", text)) if isinstance(text, str) else ""


def _instant(text: object) -> datetime | None:
    """A time of RSS (RFC 822) or Atom (ISO 8601) as UTC; None where it is missing, unreadable or says no offset."""
    if not isinstance(text, str):
        return None
    try:
        instant = parse_instant(text) or parsedate_to_datetime(text)
        return instant.astimezone(UTC) if instant.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _rows(versions: Sequence[_Version], linker: Linker) -> tuple[list[dict[str, object]], int]:
    """Rows of the items by instrument, and how many items name none of them."""
    items: dict[str, list[_Version]] = {}
    for version in versions:
        items.setdefault(version.item_id, []).append(version)
    rows: list[dict[str, object]] = []
    unlinked = 0
    for same in items.values():
        latest, first = max(same), min(version.published for version in same)
        linked = linker.link(f"{latest.title}. {latest.body}")
        unlinked += not linked
        rows += [_row(latest, symbol, first) for symbol in linked]
    return rows, unlinked


def _row(latest: _Version, symbol: str, first: datetime) -> dict[str, object]:
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": first,
        "item_id": latest.item_id,
        "title": latest.title,
        "body": latest.body or None,
        "url": latest.url or None,
        "publisher": latest.publisher,
        "synthetic": False,
        "hindsight": False,
        "text_hash": text_hash(latest.title, latest.body),
        "known_at": latest.known_at,
        "known_at_imputed": True,
    }
