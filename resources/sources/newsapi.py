"""NewsAPI through its own client: headlines with their time of publication.

Belongs here: asking NewsAPI and turning its articles into news rows. Does not: which instrument an article is about
(octopus/alternative_data/linking.py), tone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import polars as pl

from octopus.alternative_data.linking import Linker, search_terms
from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_news
from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.ids import fingerprint
from octopus.core.rejects import Reject, json_payload
from resources.sources.base import TextItems, require_key
from resources.sources.http import Access

NAME = "newsapi"
PAGE_SIZE = 100
LONGEST_QUERY = 500
"""Characters that NewsAPI accepts in one query."""

_KEY_ERRORS = ("apiKeyInvalid", "apiKeyMissing", "apiKeyDisabled")
_END_OF_PLAN = "maximumResultsReached"
_REMOVED = "[Removed]"


class NewsApiNews:
    """News that name a company of the universe, from NewsAPI's search.

    Args:
        api_key: value of NEWSAPI_API_KEY.
        access: where its requests go, how long they may take and how often they are sent.
        max_pages: pages of 100 articles read of each query; the free plan gives one.
        now: what time it is: how far the search reaches, and to refuse articles from the future.
        delay: so long after its publication the plan shows an article, which is known from then on.
        reach: how far back the plan's search goes; None: without an end.
    """

    name = NAME
    needs: tuple[str, ...] = ("NEWSAPI_API_KEY",)

    def __init__(
        self,
        api_key: str | None,
        access: Access | None = None,
        max_pages: int = 1,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        delay: timedelta = timedelta(0),
        reach: timedelta | None = None,
    ) -> None:
        self._delay, self._reach = delay, reach
        self._key = require_key("NEWSAPI_API_KEY", api_key, NAME)
        self._access = access or Access()
        self._max_pages = max_pages
        self._now = now

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `NewsSource.fetch`, of the articles that the plan shows first within the window.

        Several companies share one query, to spare a small daily allowance. What lies before the search's reach is a
        reject, and counts as truncated.
        """
        from newsapi import NewsApiClient

        now = self._now()
        since, until = start_utc - self._delay, end_utc - self._delay
        rejects: list[Reject] = []
        if self._reach is not None and since < now - self._reach:
            rejects.append(_out_of_reach(self._reach, start_utc, end_utc))
            since = now - self._reach
        articles: list[Any] = []
        truncated = len(rejects)
        with self._access.session(NAME) as session:
            client = NewsApiClient(self._key, session=session)
            for query in search_terms(names, LONGEST_QUERY) if since < until else ():
                found, more = self._search(client, query, since, until)
                articles += found
                truncated += more
        rows, malformed, unlinked = _rows(articles, Linker(names))
        frame = pl.DataFrame(rows, schema=NEWS_SCHEMA)
        # An article found by two queries is one article, no second record.
        frame = frame.unique(["instrument", "item_id"], keep="first", maintain_order=True)
        window = pl.col("ts").is_null() | pl.col("ts").is_between(since, until, closed="left")
        shown = frame.filter(window).with_columns(known_at=pl.col("known_at") + self._delay)
        items, refused = validate_news(shown, now)
        return TextItems(items, rejects + malformed + refused, session.payload_hash, unlinked, truncated)

    def _search(self, client: Any, query: str, start: datetime, end: datetime) -> tuple[list[Any], bool]:
        """Articles of one query, and whether NewsAPI holds more than it gave."""
        found: list[Any] = []
        total = 0
        for page in range(1, self._max_pages + 1):
            answer = _ask(client, query, start, end, page)
            if answer is None:
                return found, True
            batch, total = _articles(answer)
            found += batch
            if len(batch) < PAGE_SIZE or len(found) >= total:
                return found, False
        return found, len(found) < total


def _ask(client: Any, query: str, start: datetime, end: datetime, page: int) -> Any:
    """One page, or None where the plan ends."""
    import requests
    from newsapi.newsapi_exception import NewsAPIException

    try:
        return client.get_everything(
            q=query,
            from_param=start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            to=end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            language="en",
            sort_by="publishedAt",
            page_size=PAGE_SIZE,
            page=page,
        )
    except NewsAPIException as error:
        answer = error.get_exception()
        if isinstance(answer, Mapping) and answer.get("code") == _END_OF_PLAN and page > 1:
            return None
        _refused(answer, error)
    except requests.exceptions.JSONDecodeError as error:
        raise SourceUnavailableError(
            "newsapi: the answer is not JSON: the service is down or a proxy answers in its place; try again later"
        ) from error
    except requests.RequestException as error:
        raise SourceUnavailableError(
            f"newsapi: no answer ({type(error).__name__}); check the network, the proxy and OCTOPUS_NEWSAPI_URL"
        ) from error


def _refused(answer: object, error: Exception) -> NoReturn:
    code = answer.get("code") if isinstance(answer, Mapping) else None
    if code in _KEY_ERRORS:
        raise ConfigError(
            where="environment", field="NEWSAPI_API_KEY", value="(hidden)",
            remedy=f"NewsAPI says {code}: set a valid key",
        ) from error  # fmt: skip
    if code == "rateLimited":
        raise SourceUnavailableError(
            "newsapi: rateLimited, too many requests for this plan; wait until tomorrow or use a larger plan"
        ) from error
    message = answer.get("message") if isinstance(answer, Mapping) else str(answer)[:200]
    raise SourceUnavailableError(
        f"newsapi: refused ({code}): {message}; narrow the dates or try again later"
    ) from error


def _out_of_reach(reach: timedelta, start: datetime, end: datetime) -> Reject:
    """Of the window as it was asked for, so that the same question asked again is the same reject."""
    return Reject(
        "news", None, f"the plan's search reaches back {reach.days} days: earlier articles cannot be had",
        json_payload({"start_utc": start, "end_utc": end}),
    )  # fmt: skip


def _articles(answer: object) -> tuple[list[Any], int]:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("articles"), list):
        raise SourceUnavailableError("newsapi: the answer has no list of articles; the interface may have changed")
    total = answer.get("totalResults")
    return answer["articles"], total if isinstance(total, int) else len(answer["articles"])


def _rows(articles: Sequence[Any], linker: Linker) -> tuple[list[dict[str, object]], list[Reject], int]:
    """Rows of the articles by instrument, rejects that are no articles, and how many name no instrument."""
    rows: list[dict[str, object]] = []
    rejects: list[Reject] = []
    unlinked = 0
    for article in articles:
        if not isinstance(article, Mapping):
            rejects.append(Reject("news", None, "the article is no JSON object", json_payload({"article": article})))
            continue
        title, body = clean_text(article.get("title")), clean_text(article.get("description"))
        if title == _REMOVED:  # withdrawn by its publisher: nothing is left of it
            continue
        published = parse_instant(article.get("publishedAt"))
        linked = linker.link(f"{title}. {body}")
        if not linked and title and published:
            unlinked += 1
        elif not linked:
            why = "the title is empty" if not title else "the time of publication is missing or unreadable"
            rejects.append(Reject("news", None, why, json_payload(dict(article))))
        rows += [_row(article, symbol, title, body, published) for symbol in linked]
    return rows, rejects, unlinked


def _row(
    article: Mapping[str, Any], symbol: str, title: str, body: str, published: datetime | None
) -> dict[str, object]:
    publisher = article.get("source")
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": published,
        # NewsAPI has no id of its own; the address names the article, its title where there is none.
        "item_id": fingerprint(article.get("url") or title),
        "title": title,
        "body": body or None,
        "url": article.get("url"),
        "publisher": publisher.get("name") if isinstance(publisher, Mapping) else None,
        "synthetic": False,
        "hindsight": False,
        "text_hash": text_hash(title, body),
        "known_at": published,
        "known_at_imputed": True,
    }


def parse_instant(text: object) -> datetime | None:
    """ISO 8601 with an offset as UTC; None where it is missing, unreadable or says no offset."""
    if not isinstance(text, str):
        return None
    try:
        instant = datetime.fromisoformat(text)
        return instant.astimezone(UTC) if instant.tzinfo is not None else None
    except (ValueError, OverflowError):  # an offset may lead before the year 1
        return None
