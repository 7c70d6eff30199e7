"""Budgets of the sources: how many requests each may still be sent, kept in ``ops.source_budgets``.

Belongs here: the limits that vendors publish, and spending from them. Does not: what happens where a budget is spent
(resources/sources/patience.py).

A budget outlives the process and is shared by all that use the warehouse: a restart gives no second allowance. Windows
are fixed: they begin with the minute, the hour or the vendor's day, not with the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from resources.sources.patience import DAY_S, Refusal
from resources.warehouse.connection import Role, connect

MINUTE_S = 60


class SourceLimits(BaseModel):
    """How many requests a vendor allows; None or nothing: no such limit.

    Attributes:
        per_minute, per_day: requests in each minute, and in each day of ``reset_timezone``.
        windows: further limits: length of the window in seconds → requests in it, e.g. ``{3600: 200}``.
        reset_timezone: IANA name of the time zone in which the vendor's day begins at midnight.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_minute: PositiveInt | None = None
    per_day: PositiveInt | None = None
    windows: Mapping[int, PositiveInt] = Field(default_factory=dict)
    reset_timezone: str = "UTC"

    @field_validator("windows")
    @classmethod
    def _lengths(cls, windows: Mapping[int, int]) -> Mapping[int, int]:
        for seconds in windows:
            if not 1 <= seconds < DAY_S or seconds == MINUTE_S:
                raise ValueError(
                    f"a window of {seconds} s: give 1 to {DAY_S - 1} seconds, and use per_minute for a minute and "
                    "per_day for a day"
                )
        return windows

    @field_validator("reset_timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"no time zone {name!r}: give an IANA name such as America/New_York")
        return name

    @property
    def requests_by_window(self) -> dict[int, int]:
        """Length of each window in seconds → requests in it, shortest first."""
        named = {MINUTE_S: self.per_minute, DAY_S: self.per_day}
        limits = {seconds: requests for seconds, requests in named.items() if requests is not None} | dict(self.windows)
        return dict(sorted(limits.items()))


KNOWN_LIMITS: Mapping[str, SourceLimits] = {
    # newsapi.org, Developer plan; its error rateLimited: 100 requests in 24 hours, 50 of them every 12 hours.
    "newsapi": SourceLimits(per_day=100, windows={43_200: 50}),
    # alphavantage.co/support and its own notice: 25 requests a day without a premium key; 5 a minute by older notices.
    "alphavantage": SourceLimits(per_day=25, per_minute=5, reset_timezone="America/New_York"),
    # coingecko.com/en/api/pricing, Demo plan: 30 calls a minute and 10,000 a month, here in equal parts for each day.
    "coingecko": SourceLimits(per_minute=30, per_day=322),
    # docs.alpaca.markets, About Market Data API: 200 calls a minute on the Basic plan.
    "alpaca": SourceLimits(per_minute=200),
    # api.stocktwits.com/developers/docs/rate_limiting: an hourly limit, named in its headers; 200 is our own caution.
    "stocktwits": SourceLimits(windows={3_600: 200}),
    # Reddit's Data API Wiki: 100 queries a minute for each OAuth client.
    "reddit": SourceLimits(per_minute=100),
}
"""What vendors allow on their free plans. X is left out: its limits depend on the plan and the endpoint
(docs.x.com/x-api/fundamentals/rate-limits), and its answers name the reset, which patience honours. Yahoo and RSS
publish none."""


def limits_of(source: str, configured: Mapping[str, SourceLimits] | None = None) -> SourceLimits:
    """The limits of ``source``: configured, else known, else none."""
    return (configured or {}).get(source) or KNOWN_LIMITS.get(source) or SourceLimits()


@dataclass(frozen=True)
class SourceBudget:
    """The budget of one source, as `resources.sources.patience.Budget`.

    Attributes:
        url: the warehouse.
        source: whose requests are counted.
        role: in which role they are.
        now: what time it is.
    """

    url: str
    source: str
    limits: SourceLimits
    role: Role = Role.RESEARCH
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def spend(self) -> Refusal | None:
        """Take one request out of every window, or out of none and say which limit is reached.

        One statement checks and counts, so that processes that spend at once never overspend together. Where one
        window has no room, the others get theirs back: the statement is rolled back.

        Raises:
            WarehouseUnreachableError: nothing answers at ``url``; what cannot be counted is not sent.
        """
        limits, bounds = self.limits.requests_by_window, self._bounds()
        if not limits:
            return None
        with connect(self.url, self.role) as connection:
            rows = connection.execute(
                # In the order of the windows: processes that lock several rows lock them in the same order.
                """
                insert into ops.source_budgets as kept (source, window_s, window_start, used, allowed)
                select %(source)s, w.seconds, w.start, 1, w.allowed
                from unnest(%(seconds)s::integer[], %(starts)s::timestamptz[], %(allowed)s::integer[])
                    as w (seconds, start, allowed)
                order by w.seconds
                on conflict (source, window_s) do update
                set used = case when kept.window_start < excluded.window_start then 1 else kept.used + 1 end,
                    window_start = greatest(kept.window_start, excluded.window_start),
                    allowed = excluded.allowed
                where kept.window_start < excluded.window_start or kept.used < excluded.allowed
                returning window_s
                """,
                {
                    "source": self.source,
                    "seconds": list(limits),
                    "starts": [start for start, _ in bounds.values()],
                    "allowed": list(limits.values()),
                },
            ).fetchall()
            full = set(limits) - {seconds for (seconds,) in rows}
            if full:
                connection.rollback()
        return self._refusal(full, bounds)

    def refusal(self) -> Refusal | None:
        """What `spend` would answer now; nothing is taken."""
        limits, bounds = self.limits.requests_by_window, self._bounds()
        with connect(self.url, self.role) as connection:
            rows = connection.execute(
                "select window_s, window_start, used from ops.source_budgets where source = %s", [self.source]
            ).fetchall()
        full = {
            seconds for seconds, start, used in rows
            if seconds in limits and start >= bounds[seconds][0] and used >= limits[seconds]
        }  # fmt: skip
        return self._refusal(full, bounds)

    def _bounds(self) -> dict[int, tuple[datetime, datetime]]:
        """Begin and end of each window now."""
        now = self.now()
        return {seconds: window(now, seconds, self.limits.reset_timezone) for seconds in self.limits.requests_by_window}

    def _refusal(self, full: Collection[int], bounds: Mapping[int, tuple[datetime, datetime]]) -> Refusal | None:
        """By the longest of the windows that are ``full``."""
        if not full:
            return None
        longest = max(full)
        return Refusal(self.limits.requests_by_window[longest], longest, resets_at=bounds[longest][1])


def window(now: datetime, seconds: int, reset_timezone: str = "UTC") -> tuple[datetime, datetime]:
    """Begin and end, UTC, of the window of ``seconds`` that ``now`` is in; a day is one of ``reset_timezone``."""
    if seconds == DAY_S:
        zone = ZoneInfo(reset_timezone)
        midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        # The next day by its date: a day with a change of clocks has 23 or 25 hours.
        return midnight.astimezone(UTC), (midnight + timedelta(days=1)).astimezone(UTC)
    start = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
    return start, start + timedelta(seconds=seconds)
