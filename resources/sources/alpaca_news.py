"""News of Alpaca through alpaca-py: Benzinga's headlines and summaries, with their symbols and times of revision.

Belongs here: asking Alpaca's news and turning its articles into news rows. Does not: bars and actions, and how
alpaca-py is led (alpaca.py), tone. Which instruments an article is about Alpaca says itself, in its list of symbols.

An article happened when it was created, and its text is known since its last revision, because that is the text we
read. A revision fetched later is a new version of the same article.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_news
from octopus.core.errors import SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from resources.sources.alpaca import KEY, NAME, SECRET, answer_of, in_batches, on_session
from resources.sources.base import TextItems, require_key
from resources.sources.http import Access, VendorSession
from resources.sources.newsapi import parse_instant
from resources.sources.stocktwits import stream_name


class AlpacaNews:
    """News that Alpaca says are about an instrument of the universe.

    Args:
        api_key, api_secret: values of ALPACA_API_KEY and ALPACA_API_SECRET.
        access: where its requests go, how long they may take and how often they are sent.
        now: what time it is, to refuse articles from the future.
    """

    name = NAME
    needs: tuple[str, ...] = (KEY, SECRET)

    def __init__(
        self,
        api_key: str | None,
        api_secret: str | None,
        access: Access | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key = require_key(KEY, api_key, NAME)
        self._secret = require_key(SECRET, api_secret, NAME)
        self._access = access or Access()
        self._now = now

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `NewsSource.fetch`, and older articles that were revised in the window. All pages are read; a symbol that
        Alpaca calls invalid is a reject and loses no other.

        Raises:
            SourceUnavailableError: Alpaca limits the rate, is down, cannot be reached or answers no news.
            ConfigError: the keys are refused.
        """
        universe = {stream_name(symbol): symbol for symbol in names}
        now = self._now()
        with self._access.session(NAME) as session:
            articles, invalid = self._articles(session, sorted(universe), start_utc, end_utc)
        rows, malformed, unlinked = _rows(articles, universe, now)
        frame = pl.DataFrame(rows, schema=NEWS_SCHEMA)
        # Alpaca sorts by the time of revision: an article created before the window may have been revised in it.
        created, revised = (pl.col(stamp).is_between(start_utc, end_utc, closed="left") for stamp in ("ts", "known_at"))
        items, refused = validate_news(frame.filter(created | revised).sort("ts", "item_id", "instrument"), now)
        unknown = [_unknown(universe[spelled], why) for spelled, why in invalid.items()]
        return TextItems(items, unknown + malformed + refused, session.payload_hash, unlinked)

    def _articles(
        self, session: VendorSession, symbols: Sequence[str], start: datetime, end: datetime
    ) -> tuple[list[Any], dict[str, str]]:
        """Articles of all pages, and symbols that Alpaca calls invalid with what it says."""
        from alpaca.data.historical.news import NewsClient
        from alpaca.data.requests import NewsRequest

        client = on_session(NewsClient(self._key, self._secret, raw_data=True), session)

        def ask(batch: Sequence[str]) -> Mapping[str, Any]:
            # Without a limit of our own the client reads all pages.
            request = NewsRequest(symbols=",".join(batch), start=start, end=end, sort="asc")
            answer = answer_of(client.get_news, request, "news")
            if not isinstance(answer.get("news"), list):
                raise SourceUnavailableError("alpaca: the answer holds no news; the interface may have changed")
            return answer

        answers, invalid = in_batches(ask, symbols)
        return [article for _, answer in answers for article in answer["news"]], invalid


def _unknown(symbol: str, why: str) -> Reject:
    return Reject(
        "news", symbol, f"Alpaca has no news of {symbol}; check its spelling",
        json_payload({"symbol": symbol, "answer": why}),
    )  # fmt: skip


def _rows(
    articles: Sequence[Any], universe: Mapping[str, str], now: datetime
) -> tuple[list[dict[str, object]], list[Reject], int]:
    """Rows of the articles by instrument, rejects that are no articles, and how many name no instrument."""
    latest: dict[str, Mapping[str, Any]] = {}
    rejects: list[Reject] = []
    for article in articles:
        why = _flaw(article, now)
        if why is not None:
            payload = dict(article) if isinstance(article, Mapping) else {"article": article}
            rejects.append(Reject("news", None, why, json_payload(payload)))
            continue
        held = latest.setdefault(str(article["id"]), article)
        # On two pages, or in two batches; revised in between, the later text counts.
        if _known_at(article) > _known_at(held):
            latest[str(article["id"])] = article
    rows: list[dict[str, object]] = []
    unlinked = 0
    for article in latest.values():
        linked = sorted({universe[name] for name in article["symbols"] if name in universe})
        unlinked += not linked
        rows += [_row(article, symbol) for symbol in linked]
    return rows, rejects, unlinked


def _flaw(article: Any, now: datetime) -> str | None:
    """Why no row can be made of ``article``; None where one can."""
    if not isinstance(article, Mapping):
        return "the article is no JSON object"
    if isinstance(article.get("id"), bool) or not isinstance(article.get("id"), int | str) or not str(article["id"]):
        return "the item has no id"
    if not isinstance(article.get("headline"), str) or not clean_text(article["headline"]):
        return "the title is empty"
    if parse_instant(article.get("created_at")) is None:
        return "the time of publication is missing or unreadable"
    if parse_instant(article.get("updated_at")) is None:
        return "the time of the last revision is missing or unreadable"
    if _known_at(article) > now:
        return "published after it was fetched"
    symbols = article.get("symbols")
    plain = isinstance(symbols, list) and all(isinstance(name, str) for name in symbols)
    return None if plain else "the article has no list of symbols"


def _known_at(article: Mapping[str, Any]) -> datetime:
    created, revised = parse_instant(article["created_at"]), parse_instant(article["updated_at"])
    return max(time for time in (created, revised) if time is not None)


def _row(article: Mapping[str, Any], symbol: str) -> dict[str, object]:
    title, summary = clean_text(article["headline"]), article.get("summary")
    body = clean_text(summary) if isinstance(summary, str) else ""
    url, publisher = article.get("url"), article.get("source")
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": parse_instant(article["created_at"]),
        "item_id": str(article["id"]),
        "title": title,
        "body": body or None,
        "url": str(url) if url else None,
        "publisher": str(publisher) if publisher else None,
        "synthetic": False,
        "hindsight": False,
        "text_hash": text_hash(title, body),
        "known_at": _known_at(article),
        "known_at_imputed": True,
    }
