"""Reddit through praw: submissions of chosen subreddits, read only.

Belongs here: asking Reddit and turning its submissions into posts. Does not: which instrument a post is about
(octopus/alternative_data/linking.py), tone.

A post's score is left out: what is read today is not what a trader could have read when the post was new. An edited
post counts from its edit, for the same reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from octopus.alternative_data.linking import Linker, search_terms
from octopus.alternative_data.schema import POSTS_SCHEMA
from octopus.alternative_data.texts import text_hash
from octopus.alternative_data.validate import validate_posts
from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.ids import canonical_json
from octopus.core.rejects import Reject, json_payload
from resources.sources.base import TextItems, require_key
from resources.sources.http import Access
from resources.sources.patience import SAFE_METHODS, own_error

NAME = "reddit"
DEFAULT_SUBREDDITS = ("stocks", "investing", "wallstreetbets", "SecurityAnalysis")
LONGEST_QUERY = 500
_LARGEST_SEARCH = 1000
"""Submissions that Reddit's search gives at most, whatever is asked."""

_FIELDS = ("name", "title", "selftext", "author", "created_utc", "edited", "permalink")


class RedditPosts:
    """Submissions that name an instrument of the universe.

    Args:
        client_id, client_secret, user_agent: values of REDDIT_CLIENT_ID, REDDIT_CLIENT_SECRET and REDDIT_USER_AGENT.
        subreddits: where to search.
        access: where its requests go, how long they may take and how often they are sent.
        limit: submissions read of each query, newest first.
        now: what time it is, to refuse posts from the future.
    """

    name = NAME
    needs: tuple[str, ...] = ("REDDIT_CLIENT_ID", "REDDIT_CLIENT_SECRET", "REDDIT_USER_AGENT")

    def __init__(
        self,
        client_id: str | None,
        client_secret: str | None,
        user_agent: str | None,
        subreddits: Sequence[str] = DEFAULT_SUBREDDITS,
        access: Access | None = None,
        limit: int = 250,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._credentials = {
            "client_id": require_key("REDDIT_CLIENT_ID", client_id, NAME),
            "client_secret": require_key("REDDIT_CLIENT_SECRET", client_secret, NAME),
            "user_agent": require_key("REDDIT_USER_AGENT", user_agent, NAME),
        }
        if not subreddits:
            raise ConfigError(
                where="reddit", field="subreddits", value=subreddits, remedy="name at least one subreddit"
            )
        self._subreddits = tuple(subreddits)
        self._access = access or Access()
        self._limit = min(limit, _LARGEST_SEARCH)
        self._now = now

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `SocialSource.fetch`; Reddit's search knows no dates, so the window is applied to what it gives."""
        records: dict[str, Mapping[str, Any]] = {}
        truncated = 0
        for query in search_terms(names, LONGEST_QUERY):
            found = self._search(query)
            oldest = min((r["created_utc"] for r in found if isinstance(r["created_utc"], int | float)), default=None)
            truncated += len(found) >= self._limit and oldest is not None and oldest > start_utc.timestamp()
            records |= {str(record["name"]): record for record in found}
        rows, rejects, unlinked = _rows(list(records.values()), Linker(names))
        frame = pl.DataFrame(rows, schema=POSTS_SCHEMA)
        window = pl.col("ts").is_null() | pl.col("ts").is_between(start_utc, end_utc, closed="left")
        items, refused = validate_posts(frame.filter(window), self._now())
        digest = hashlib.sha256(canonical_json(sorted(records.items())).encode()).hexdigest()[:32]
        return TextItems(items, rejects + refused, digest, unlinked, truncated)

    def _search(self, query: str) -> list[dict[str, Any]]:
        import praw
        import prawcore

        with self._access.session(NAME) as session:
            try:
                with praw.Reddit(
                    **self._credentials, check_for_updates=False,
                    requestor_class=_requestor_class(self._subreddits), requestor_kwargs={"session": session},
                ) as reddit:  # fmt: skip
                    reddit.read_only = True
                    found = reddit.subreddit("+".join(self._subreddits)).search(query, sort="new", limit=self._limit)
                    return [_record(submission) for submission in found]
            except prawcore.exceptions.OAuthException as error:
                raise _bad_credentials(str(error.error)) from error
            except prawcore.exceptions.TooManyRequests as error:
                raise SourceUnavailableError(
                    "reddit: HTTP 429, too many requests; wait some minutes and try again"
                ) from error
            except prawcore.exceptions.ResponseException as error:
                status = error.response.status_code
                if status in (401, 403):
                    raise _bad_credentials(f"HTTP {status}") from error
                raise _no_listing(status, self._subreddits) from error
            except prawcore.exceptions.PrawcoreException as error:
                raise own_error(error) or _no_answer(error) from error


def _requestor_class(subreddits: Sequence[str]) -> type[Any]:
    import prawcore

    class PatientRequestor(prawcore.Requestor):
        """Ends a reading request where our patience ended: prawcore would begin all of it again, twice."""

        def request(self, *args: Any, timeout: float | None = None, **options: Any) -> Any:
            reads = str(args[0] if args else options.get("method")).upper() in SAFE_METHODS
            try:
                response = super().request(*args, timeout=timeout, **options)
            except prawcore.exceptions.RequestException as error:
                if not reads:
                    raise
                raise own_error(error) or _no_answer(error.original_exception) from error
            # An empty body, which prawcore would take for an empty listing, loses posts without a word.
            if reads and (response.status_code >= 500 or (response.status_code == 200 and not response.content)):
                raise _no_listing(response.status_code, subreddits)
            return response

    return PatientRequestor


def _no_answer(error: Exception) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"reddit: no answer ({type(error).__name__}); check the network and the proxy, or try again later"
    )


def _no_listing(status: int, subreddits: Sequence[str]) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"reddit: HTTP {status}: the answer is no listing; check the subreddits {', '.join(subreddits)}, or try "
        "again later"
    )


def _bad_credentials(why: str) -> ConfigError:
    return ConfigError(
        where="environment",
        field="REDDIT_CLIENT_ID, REDDIT_CLIENT_SECRET",
        value="(hidden)",
        remedy=f"Reddit refused them ({why}): set those of a script application",
    )


def _record(submission: Any) -> dict[str, Any]:
    """The fields that we keep; praw would ask Reddit again for one that the listing lacks."""
    held = vars(submission)
    record = {name: held.get(name) for name in _FIELDS}
    author = held.get("author")
    record["author"] = None if author is None else str(author)
    return record


def _rows(records: Sequence[Mapping[str, Any]], linker: Linker) -> tuple[list[dict[str, object]], list[Reject], int]:
    rows: list[dict[str, object]] = []
    rejects: list[Reject] = []
    unlinked = 0
    for record in records:
        body = "\n\n".join(part for part in (record["title"], record["selftext"]) if part)
        created = _instant(record["created_utc"])
        if created is None or not body:
            why = "the time of creation is missing or unreadable" if created is None else "the body is empty"
            rejects.append(Reject("social_posts", None, why, json_payload(dict(record))))
            continue
        linked = linker.link(body)
        unlinked += not linked
        rows += [_row(record, symbol, body, created) for symbol in linked]
    return rows, rejects, unlinked


def _row(record: Mapping[str, Any], symbol: str, body: str, created: datetime) -> dict[str, object]:
    # False, or the instant of the last edit.
    edited = _instant(record["edited"]) or created
    return {
        "source": NAME,
        "instrument": symbol,
        "ts": created,
        "item_id": record["name"],
        "author": record["author"],
        "body": body,
        "url": f"https://www.reddit.com{record['permalink']}" if record["permalink"] else None,
        "upvotes": None,
        "synthetic": False,
        "text_hash": text_hash(body),
        "known_at": max(created, edited),
        "known_at_imputed": True,
    }


def _instant(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return datetime.fromtimestamp(seconds, UTC)
