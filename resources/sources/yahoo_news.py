"""News of Yahoo Finance through yfinance: the newest headlines that its search has of each instrument.

Belongs here: asking Yahoo's search and turning its news into news rows. Does not: prices, and how yfinance is led
(yahoo.py).

Yahoo gives titles without a summary, and the newest only: it has no past to ask for. An article is about the tickers
that Yahoo relates it to, and those that its title names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from octopus.alternative_data.linking import Linker
from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_news
from octopus.core.errors import SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from resources.sources.base import TextItems
from resources.sources.http import Access
from resources.sources.yahoo import NAME, yfinance_session

if TYPE_CHECKING:
    from curl_cffi.requests import Response, Session

SEARCH = "/v1/finance/search"


class YahooNews:
    """Headlines about the instruments of the universe; Yahoo needs no key.

    Args:
        access: where its requests go, how long they may take and how often they are sent.
        cache_dir: as `resources.sources.yahoo.YahooMarketData`.
        limit: headlines asked for of each instrument.
        now: what time it is, to refuse articles from the future.
    """

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        access: Access | None = None,
        cache_dir: Path | None = None,
        limit: int = 50,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access or Access()
        self._cache_dir = cache_dir
        self._limit = limit
        self._now = now

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `NewsSource.fetch`; the search knows no dates, so the window is applied to what it gives."""
        articles: list[Any] = []
        truncated = 0
        digest = hashlib.sha256()
        with yfinance_session(self._access, self._cache_dir, digest, SEARCH) as session:
            for symbol in sorted(names):  # one request each
                found = _ask(symbol, self._limit, session, self._access.timeout_s)
                articles += found
                truncated += len(found) >= self._limit and _reaches_into(found, start_utc)
        rows, malformed, unlinked = _rows(articles, Linker(names))
        frame = pl.DataFrame(rows, schema=NEWS_SCHEMA)
        window = pl.col("ts").is_between(start_utc, end_utc, closed="left")
        # In an order of our own, so that the order of the answers changes nothing.
        items, refused = validate_news(frame.filter(window).sort("ts", "item_id", "instrument"), self._now())
        return TextItems(items, malformed + refused, digest.hexdigest()[:32], unlinked, truncated)


def _ask(symbol: str, limit: int, session: Session[Response], timeout_s: float) -> list[Any]:
    """What Yahoo's search has of news when asked for ``symbol``."""
    import yfinance
    from curl_cffi.requests.exceptions import RequestException
    from yfinance.exceptions import YFException, YFRateLimitError

    try:
        search = yfinance.Search(
            symbol, max_results=0, news_count=limit, lists_count=0, include_cb=False, recommended=0,
            session=session, timeout=timeout_s,
        )  # fmt: skip
    except YFRateLimitError as error:
        raise SourceUnavailableError("yahoo: HTTP 429, too many requests; wait some minutes and try again") from error
    except YFException as error:
        raise SourceUnavailableError(f"yahoo: {error}; try again later") from error
    except RequestException as error:
        raise SourceUnavailableError(
            f"yahoo: no answer for {symbol} ({type(error).__name__}); check the network, the proxy and "
            "OCTOPUS_YAHOO_URL"
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        # Not JSON, or JSON that yfinance cannot read.
        raise _no_news(symbol) from error
    found = search.response.get("news")
    # yfinance takes a search without news, as a refusal is, for one that found none.
    if not isinstance(found, list):
        raise _no_news(symbol)
    return found


def _no_news(symbol: str) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"yahoo: the answer for {symbol} has no list of news; the service refuses it or its interface has changed"
    )


def _reaches_into(articles: Sequence[Any], start: datetime) -> bool:
    """Whether the oldest article is not yet older than ``start``."""
    times = [_published(article) for article in articles if isinstance(article, Mapping)]
    oldest = min((time for time in times if time is not None), default=None)
    return oldest is not None and oldest >= start


def _rows(articles: Sequence[Any], linker: Linker) -> tuple[list[dict[str, object]], list[Reject], int]:
    """Rows of the articles by instrument, rejects that are no articles, and how many name no instrument."""
    rows: list[dict[str, object]] = []
    rejects: list[Reject] = []
    unlinked = 0
    seen: set[str] = set()
    for article in articles:
        why = _flaw(article)
        if why is not None:
            payload = dict(article) if isinstance(article, Mapping) else {"article": article}
            rejects.append(Reject("news", None, why, json_payload(payload)))
            continue
        if article["uuid"] in seen:  # the search for another instrument found it too
            continue
        seen.add(article["uuid"])
        related = {name for name in article.get("relatedTickers") or () if name in linker.names}
        linked = sorted(related.union(linker.link(clean_text(article["title"]))))
        unlinked += not linked
        rows += [_row(article, symbol) for symbol in linked]
    return rows, rejects, unlinked


def _flaw(article: Any) -> str | None:
    """Why no row can be made of ``article``; None where one can."""
    if not isinstance(article, Mapping):
        return "the article is no JSON object"
    if not isinstance(article.get("uuid"), str) or not article["uuid"]:
        return "the item has no id"
    if not isinstance(article.get("title"), str) or not clean_text(article["title"]):
        return "the title is empty"
    if _published(article) is None:
        return "the time of publication is missing or unreadable"
    related = article.get("relatedTickers")
    plain = related is None or (isinstance(related, list) and all(isinstance(name, str) for name in related))
    return None if plain else "the related tickers are no list of symbols"


def _published(article: Mapping[str, Any]) -> datetime | None:
    seconds = article.get("providerPublishTime")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OSError, OverflowError, ValueError):
        return None


def _row(article: Mapping[str, Any], symbol: str) -> dict[str, object]:
    published, title = _published(article), clean_text(article["title"])
    link, publisher = article.get("link"), article.get("publisher")
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": published,
        "item_id": article["uuid"],
        "title": title,
        "body": None,
        "url": str(link) if link else None,
        "publisher": str(publisher) if publisher else None,
        "synthetic": False,
        "hindsight": False,
        "text_hash": text_hash(title, None),
        "known_at": published,
        "known_at_imputed": True,
    }
