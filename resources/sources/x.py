"""X (formerly Twitter) through tweepy: posts of the last seven days, read only.

Belongs here: asking X's recent search and turning its posts into ours. Does not: which instrument a post is about
(octopus/alternative_data/linking.py), tone, what repeats what (duplicates.py).

Likes are left out: what is read today is not what a trader could have read when the post was new. A repost is a row of
its own that begins with "RT @name:", as X writes it; an edited post is a new one with an id of its own, as X counts it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from octopus.alternative_data.linking import Linker, search_terms
from octopus.alternative_data.schema import POSTS_SCHEMA
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_posts
from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from resources.sources.base import TextItems, require_key
from resources.sources.http import Access, VendorSession
from resources.sources.newsapi import parse_instant
from resources.sources.stocktwits import stream_name

NAME = "x"
KEY = "X_BEARER_TOKEN"
PAGE_SIZE = 100
LONGEST_QUERY = 512
"""Characters that X accepts in one query of a self-serve plan."""
REACH = timedelta(days=7) - timedelta(minutes=10)
"""How far back we ask: X refuses a time that is seven days old when the request, the last page's too, arrives."""
NEWEST = timedelta(seconds=30)
"""How far from now we stop: X refuses a time within the last ten seconds."""

_CASHTAG = re.compile(r"[A-Z]{1,6}(?:\.[A-Z]{1,2})?")
_REPOST = re.compile(r"RT @\w+: ")
_FIELDS = ["created_at", "author_id", "referenced_tweets", "note_tweet"]


class XPosts:
    """Posts that name an instrument of the universe, from X's recent search.

    Args:
        bearer_token: value of X_BEARER_TOKEN.
        access: where its requests go, how long they may take and how often they are sent.
        max_pages: pages of 100 posts read of each query, newest first: X counts every post against the plan.
        now: what time it is: how far X's search reaches, and to refuse posts from the future.
    """

    name = NAME
    needs: tuple[str, ...] = (KEY,)

    def __init__(
        self,
        bearer_token: str | None,
        access: Access | None = None,
        max_pages: int = 20,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._token = require_key(KEY, bearer_token, NAME)
        self._access = access or Access()
        self._max_pages = max_pages
        self._now = now

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `SocialSource.fetch`; what lies before X's seven days is a reject, and the answer says it is truncated.

        Raises:
            SourceUnavailableError: X limits the rate, is down, cannot be reached or answers no posts.
            ConfigError: the token is refused, or its plan does not include recent search.
        """
        now = self._now()
        since, until = max(start_utc, now - REACH), min(end_utc, now - NEWEST)
        rejects = [_out_of_reach(start_utc, end_utc)] if start_utc < since else []
        found = _Found(truncated=len(rejects))
        with self._access.session(NAME) as session:
            if since < until:
                client = _client(self._token, session)
                for query in queries(names):
                    self._search(client, query, since, until, found)
        rows, malformed, unlinked = _rows(found, Linker(names))
        frame = pl.DataFrame(rows, schema=POSTS_SCHEMA)
        window = pl.col("ts").is_between(start_utc, end_utc, closed="left")
        # In an order of our own, so that the order of the answers changes nothing.
        items, refused = validate_posts(frame.filter(window).sort("ts", "item_id", "instrument"), now)
        return TextItems(items, rejects + malformed + refused, session.payload_hash, unlinked, found.truncated)

    def _search(self, client: Any, query: str, since: datetime, until: datetime, found: _Found) -> None:
        """Add the posts of one query, page by page."""
        page: str | None = None
        for _ in range(self._max_pages):
            answer = _ask(client, query, since, until, page)
            page = found.add(answer)
            if page is None:
                return
        found.truncated += 1


def queries(names: Mapping[str, str]) -> list[str]:
    """What X is asked: the companies' names, then the cashtags, so that a name of many posts crowds out no cashtag."""
    tags = {symbol: stream_name(symbol) for symbol in names}
    tags = {symbol: tag for symbol, tag in tags.items() if _CASHTAG.fullmatch(tag)}
    named = {symbol: name for symbol, name in names.items() if name or symbol not in tags}
    # X would look for a cashtag in quotes as for words.
    tagged = [query.replace('"', "") for query in search_terms(dict.fromkeys(tags.values(), ""), LONGEST_QUERY)]
    return search_terms(named, LONGEST_QUERY) + tagged


class _Found:
    """What the pages brought so far.

    Attributes:
        posts: as X sent them. texts: of the posts that they repeat, by id. truncated: queries of which X
            holds more.
    """

    def __init__(self, *, truncated: int) -> None:
        self.posts: list[Any] = []
        self.texts: dict[str, str] = {}
        self.truncated = truncated

    def add(self, answer: Mapping[str, Any]) -> str | None:
        """Take in one page; the token of the next, if there is one."""
        posts, meta, includes = answer.get("data"), answer.get("meta"), answer.get("includes")
        if not isinstance(meta, Mapping) or not (isinstance(posts, list) or meta.get("result_count") == 0):
            raise SourceUnavailableError("x: the answer has no list of posts; the interface may have changed")
        self.posts += posts or []
        repeated = includes.get("tweets") if isinstance(includes, Mapping) else None
        for post in repeated if isinstance(repeated, list) else []:
            if isinstance(post, Mapping) and (text := _text(post)):
                self.texts[str(post.get("id"))] = text
        token = meta.get("next_token")
        return str(token) if token else None


def _client(token: str, session: VendorSession) -> Any:
    import tweepy

    log = logging.getLogger("tweepy.client")
    # Below this level tweepy writes its headers into the log, the token among them.
    log.setLevel(max(log.level, logging.INFO))
    client = tweepy.Client(token, return_type=dict)
    client.session = session
    return client


def _ask(client: Any, query: str, since: datetime, until: datetime, page: str | None) -> Mapping[str, Any]:
    import requests
    import tweepy

    try:
        answer = client.search_recent_tweets(
            query, start_time=since,
            # X knows whole seconds: the one that has begun is asked for too, and cut off by the window.
            end_time=until.replace(microsecond=0) + timedelta(seconds=until.microsecond > 0),
            max_results=PAGE_SIZE, next_token=page, tweet_fields=_FIELDS, expansions=["referenced_tweets.id"],
        )  # fmt: skip
    except tweepy.errors.HTTPException as error:
        raise _refused(error.response.status_code, ", ".join(map(str, error.api_messages))[:200]) from error
    except requests.exceptions.JSONDecodeError as error:
        raise SourceUnavailableError(
            "x: the answer is not JSON: the service is down or a proxy answers in its place; check OCTOPUS_X_URL and "
            "try again later"
        ) from error
    except requests.RequestException as error:
        raise SourceUnavailableError(
            f"x: no answer ({type(error).__name__}); check the network, the proxy and OCTOPUS_X_URL"
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        # An error of X whose body is JSON, yet nothing that tweepy can read.
        raise SourceUnavailableError("x: refused without a readable reason; the interface may have changed") from error
    if not isinstance(answer, Mapping):
        raise SourceUnavailableError("x: the answer has no list of posts; the interface may have changed")
    return answer


def _refused(status: int, why: str) -> OctopusError:
    told = f"HTTP {status}: {why}" if why else f"HTTP {status}"
    if status in (401, 403):
        return ConfigError(
            where="environment", field=KEY, value="(hidden)",
            remedy=f"X refused it ({told}): set the bearer token of an app whose plan includes recent search",
        )  # fmt: skip
    if status == 429:
        return SourceUnavailableError(f"x: {told}, too many requests; wait 15 minutes, or for the plan's next period")
    return SourceUnavailableError(f"x: refused ({told}); check the plan's credit, or try again later")


def _out_of_reach(start: datetime, end: datetime) -> Reject:
    """Of the window as it was asked for, so that the same question asked again is the same reject."""
    return Reject(
        "social_posts", None, "X's recent search reaches back 7 days: earlier posts of this window cannot be had",
        json_payload({"start_utc": start, "end_utc": end}),
    )  # fmt: skip


def _rows(found: _Found, linker: Linker) -> tuple[list[dict[str, object]], list[Reject], int]:
    """Rows of the posts by instrument, rejects that are no posts, and how many name no instrument."""
    rows: list[dict[str, object]] = []
    rejects: list[Reject] = []
    unlinked = 0
    seen: set[str] = set()
    for post in found.posts:
        why = _flaw(post)
        if why is not None:
            payload = dict(post) if isinstance(post, Mapping) else {"post": post}
            rejects.append(Reject("social_posts", None, why, json_payload(payload)))
            continue
        if str(post["id"]) in seen:  # found by several queries, or again where pages moved while we read them
            continue
        seen.add(str(post["id"]))
        body = _body(post, found.texts)
        linked = linker.link(body)
        unlinked += not linked
        rows += [_row(post, symbol, body) for symbol in linked]
    return rows, rejects, unlinked


def _flaw(post: Any) -> str | None:
    """Why no row can be made of ``post``; None where one can."""
    if not isinstance(post, Mapping):
        return "the post is no JSON object"
    if isinstance(post.get("id"), bool) or not isinstance(post.get("id"), int | str) or not str(post["id"]):
        return "the item has no id"
    if parse_instant(post.get("created_at")) is None:
        return "the time of creation is missing or unreadable"
    return None if _text(post) else "the body is empty"


def _text(post: Mapping[str, Any]) -> str:
    """The whole text: X sends that of a long post apart."""
    note = post.get("note_tweet")
    whole = note.get("text") if isinstance(note, Mapping) else None
    text = whole if isinstance(whole, str) and whole else post.get("text")
    return clean_text(text) if isinstance(text, str) else ""


def _body(post: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """The post's text; of a repost, which X cuts off after 140 characters, with the whole text that it repeats."""
    text = _text(post)
    mark = _REPOST.match(text)
    repeated = next((texts[name] for name in _reposted(post.get("referenced_tweets")) if name in texts), None)
    return f"{mark[0]}{repeated}" if mark is not None and repeated is not None else text


def _reposted(references: object) -> Sequence[str]:
    held = references if isinstance(references, list) else []
    return [str(ref.get("id")) for ref in held if isinstance(ref, Mapping) and ref.get("type") == "retweeted"]


def _row(post: Mapping[str, Any], symbol: str, body: str) -> dict[str, object]:
    created = parse_instant(post["created_at"])
    author = post.get("author_id")
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": created,
        "item_id": str(post["id"]),
        "author": None if author is None else str(author),
        "body": body,
        "url": f"https://x.com/i/status/{post['id']}",
        "upvotes": None,
        "synthetic": False,
        "text_hash": text_hash(body),
        "known_at": created,
        "known_at_imputed": True,
    }
