"""StockTwits over plain HTTP: each instrument's stream, from its newest message back.

Belongs here: asking StockTwits and turning its messages into posts. Does not: tone. Which instruments a message is
about StockTwits says itself, in the message's list of symbols.

Likes are left out: what is read today is not what a trader could have read when the message was new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import polars as pl

from octopus.alternative_data.schema import POSTS_SCHEMA
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_posts
from octopus.core.errors import SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from resources.sources.base import TextItems
from resources.sources.http import Access, VendorSession
from resources.sources.newsapi import parse_instant
from resources.sources.patience import TryLaterError

NAME = "stocktwits"
STREAM_URL = "https://api.stocktwits.com/api/2/streams/symbol/{symbol}.json"

DEEPEST = 27
"""Pages of 30 that StockTwits gives of a stream: about 800 messages (api.stocktwits.com/developers/docs/parameters)."""

_SHARE_CLASS = re.compile(r"-(?=[A-Z]$)")


class StockTwitsPosts:
    """Messages of the instruments' streams; StockTwits gives 30 at once and needs no key.

    Args:
        access: where its requests go, how long they may take and how often they are sent.
        now: what time it is, to refuse messages from the future.
        max_pages: requests for each stream at most.
    """

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        access: Access | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_pages: int = DEEPEST,
    ) -> None:
        self._access = access or Access()
        self._now = now
        self._max_pages = max_pages

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `SocialSource.fetch`; a stream knows no dates, so it is read back to the window's start.

        First the newest page of every stream, then the one before it, and so on: where the budget ends, the streams
        that were not read to the start count as truncated.
        """
        read = _Read()
        ends: dict[str, int | None] = dict.fromkeys(sorted(names))
        with self._access.session(NAME) as session:
            for depth in range(self._max_pages):
                try:
                    _read_pages(session, ends, start_utc, read)
                except TryLaterError:
                    if depth == 0:
                        raise
                    break
        rows, malformed, unlinked = _rows(read.messages, {stream_name(symbol): symbol for symbol in names})
        frame = pl.DataFrame(rows, schema=POSTS_SCHEMA)
        window = pl.col("ts").is_between(start_utc, end_utc, closed="left")
        # In an order of our own, so that the order of the answer changes nothing.
        items, refused = validate_posts(frame.filter(window).sort("ts", "item_id", "instrument"), self._now())
        rejects = [*read.rejects, *malformed, *refused]
        return TextItems(items, rejects, session.payload_hash, unlinked, read.cut_short + len(ends))


@dataclass
class _Read:
    """What the pages brought so far; ``cut_short`` streams end before the window's start although they go on."""

    messages: list[Any] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    cut_short: int = 0


def _read_pages(session: VendorSession, ends: dict[str, int | None], start: datetime, read: _Read) -> None:
    """Read one page of each stream of ``ends`` (symbol → message that the page ends before; None: the newest).

    Afterwards ``ends`` has the streams that go on within the window, and where.
    """
    for symbol, end in list(ends.items()):
        answer = _ask(session, symbol, end)
        if answer is None:
            why = "StockTwits has no stream of this symbol"
            read.rejects.append(Reject("social_posts", symbol, why, {"symbol": stream_name(symbol)}))
            del ends[symbol]
            continue
        read.messages += answer["messages"]
        before = _before(answer, start)
        # Past its last page StockTwits gives an empty one, and a cursor that leads nowhere would be followed for ever.
        is_last = end is not None and (not answer["messages"] or (before is not None and before >= end))
        read.cut_short += is_last
        if before is None or is_last:
            del ends[symbol]
        else:
            ends[symbol] = before


def stream_name(symbol: str) -> str:
    """How StockTwits spells ``symbol``: a class of shares follows a point there (BRK-B is BRK.B)."""
    return _SHARE_CLASS.sub(".", symbol)


def _ask(session: VendorSession, symbol: str, before: int | None) -> Mapping[str, Any] | None:
    """A page of the stream of ``symbol``, or None where StockTwits knows no such symbol.

    Args:
        before: messages with a smaller id are asked for; None: the newest.
    """
    import requests

    url = STREAM_URL.format(symbol=quote(stream_name(symbol), safe=""))
    try:
        response = session.get(url, params={} if before is None else {"max": str(before)})
    except requests.RequestException as error:
        raise SourceUnavailableError(
            f"stocktwits: no answer ({type(error).__name__}); check the network, the proxy and OCTOPUS_STOCKTWITS_URL"
        ) from error
    if response.status_code == 429:
        raise SourceUnavailableError("stocktwits: HTTP 429, too many requests; wait an hour or follow fewer symbols")
    try:
        answer = response.json()
    except requests.exceptions.JSONDecodeError as error:
        raise SourceUnavailableError(
            f"stocktwits: HTTP {response.status_code}: the answer is not JSON: the service is down or a proxy answers "
            "in its place; try again later"
        ) from error
    if response.status_code == 404:
        return None
    if response.status_code != 200:
        raise SourceUnavailableError(
            f"stocktwits: refused (HTTP {response.status_code}): {_told(answer)}; try again later"
        )
    if not isinstance(answer, Mapping) or not isinstance(answer.get("messages"), list):
        raise SourceUnavailableError("stocktwits: the answer has no list of messages; the interface may have changed")
    return answer


def _told(answer: object) -> str:
    errors = answer.get("errors") if isinstance(answer, Mapping) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return str(first.get("message") if isinstance(first, Mapping) else answer)[:200]


def _before(answer: Mapping[str, Any], start: datetime) -> int | None:
    """Where the page before begins; None where the stream ends, or its oldest message is older than ``start``."""
    cursor = answer.get("cursor")
    if not isinstance(cursor, Mapping) or not cursor.get("more") or not isinstance(cursor.get("max"), int):
        return None
    times = [parse_instant(message.get("created_at")) for message in answer["messages"] if isinstance(message, Mapping)]
    oldest = min((time for time in times if time is not None), default=None)
    return int(cursor["max"]) if oldest is not None and oldest >= start else None


def _rows(messages: Sequence[Any], universe: Mapping[str, str]) -> tuple[list[dict[str, object]], list[Reject], int]:
    """Rows of the messages by instrument, rejects that are no messages, and how many name no instrument."""
    rows: list[dict[str, object]] = []
    rejects: list[Reject] = []
    unlinked = 0
    seen: set[str] = set()
    for message in messages:
        why = _flaw(message)
        if why is not None:
            payload = dict(message) if isinstance(message, Mapping) else {"message": message}
            rejects.append(Reject("social_posts", None, why, json_payload(payload)))
            continue
        if str(message["id"]) in seen:  # it is in the stream of each instrument that it names
            continue
        seen.add(str(message["id"]))
        linked = sorted({universe[name] for name in _symbols(message) if name in universe})
        unlinked += not linked
        rows += [_row(message, symbol) for symbol in linked]
    return rows, rejects, unlinked


def _flaw(message: Any) -> str | None:
    """Why no row can be made of ``message``; None where one can."""
    if not isinstance(message, Mapping):
        return "the message is no JSON object"
    if isinstance(message.get("id"), bool) or not isinstance(message.get("id"), int | str):
        return "the item has no id"
    if parse_instant(message.get("created_at")) is None:
        return "the time of creation is missing or unreadable"
    if not isinstance(message.get("body"), str) or not clean_text(message["body"]):
        return "the body is empty"
    return None if isinstance(message.get("symbols"), list) else "the message has no list of symbols"


def _symbols(message: Mapping[str, Any]) -> list[str]:
    return [str(found.get("symbol")) for found in message["symbols"] if isinstance(found, Mapping)]


def _row(message: Mapping[str, Any], symbol: str) -> dict[str, object]:
    created = parse_instant(message["created_at"])
    user = message.get("user")
    author = user.get("username") if isinstance(user, Mapping) else None
    body = clean_text(message["body"])
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": created,
        "item_id": str(message["id"]),
        "author": None if author is None else str(author),
        "body": body,
        "url": f"https://stocktwits.com/{quote(str(author), safe='')}/message/{message['id']}" if author else None,
        "upvotes": None,
        "synthetic": False,
        "text_hash": text_hash(body),
        "known_at": created,
        "known_at_imputed": True,
    }
