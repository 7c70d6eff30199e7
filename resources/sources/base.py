"""What every source is: its name, the variables it needs, and what a fetch gives.

Belongs here: the protocols and the forms of their answers. Does not: any vendor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import polars as pl

from octopus.core.errors import ConfigError
from octopus.core.ids import fingerprint
from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.market_data.schema import ADJUSTED_SCHEMA


@dataclass(frozen=True)
class MarketData:
    """A part of a fetch of market data: all that was asked for of some instruments.

    Attributes:
        asked: the instruments that it answers for: what is not in it, the vendor does not have.
        instruments, bars, actions: valid rows, by `octopus.market_data.schema`.
        rejects: refused records and symbols that the vendor could not serve, each with its reason.
        payload_hash: fingerprint of the bytes the vendor sent.
        adjusted: the vendor's own adjusted closes where it has them, only to compare ours with.
    """

    asked: tuple[str, ...]
    instruments: pl.DataFrame
    bars: pl.DataFrame
    actions: pl.DataFrame
    rejects: list[Reject]
    payload_hash: str
    adjusted: pl.DataFrame = field(default_factory=ADJUSTED_SCHEMA.to_frame)

    def refused(self, table: str) -> list[Reject]:
        """Those of the rejects that were meant for ``table``."""
        return [reject for reject in self.rejects if reject.table == table]


def whole(parts: Iterable[MarketData]) -> MarketData:
    """All parts of a fetch as one, for those who store none of them in between; there must be one."""
    held = list(parts)
    if len(held) == 1:
        return held[0]
    return MarketData(
        asked=tuple(name for part in held for name in part.asked),
        instruments=pl.concat([part.instruments for part in held]),
        bars=pl.concat([part.bars for part in held]),
        actions=pl.concat([part.actions for part in held]),
        rejects=[reject for part in held for reject in part.rejects],
        payload_hash=fingerprint(*(part.payload_hash for part in held)),
        adjusted=pl.concat([part.adjusted for part in held]),
    )


@dataclass(frozen=True)
class IntradayPart:
    """A part of a fetch of intraday bars.

    Attributes:
        asked, start, end: it answers for all sessions from ``start`` to ``end``, both inclusive, of these instruments:
            what is not in it, the vendor does not have.
        bars: valid rows, by `octopus.market_data.schema.INTRADAY_SCHEMA`.
        rejects: refused records and symbols that the vendor could not serve, each with its reason.
        payload_hash: fingerprint of the bytes the vendor sent.
    """

    asked: tuple[str, ...]
    start: date
    end: date
    bars: pl.DataFrame
    rejects: list[Reject]
    payload_hash: str


@dataclass(frozen=True)
class TextItems:
    """One fetch of texts.

    Attributes:
        items: valid rows, by `octopus.alternative_data.schema`; an item about two instruments is two rows.
        rejects: refused records, each with its reason.
        unlinked: items that the vendor sent and that name none of the instruments asked for.
        truncated: how many of our questions (streams, queries, spans) the vendor did not answer to the window's start,
            although it holds more.
    """

    items: pl.DataFrame
    rejects: list[Reject]
    payload_hash: str
    unlinked: int = 0
    truncated: int = 0


class MarketDataSource(Protocol):
    """A vendor of instruments, daily bars and corporate actions.

    ``fetch`` hands over what it has in parts, so that the caller stores each before the next is asked for. After the
    part with what came until then it raises `SourceUnavailableError` when the vendor cannot be reached or refuses, and
    `ConfigError` when a key is missing; a bad symbol or row is a reject and loses no other.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Environment variables that must be set for it."""
        ...

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """Sessions ``start`` to ``end``, both inclusive, of ``symbols``; each of them is in one part's ``asked``.

        Args:
            described: whose description is on record and need not be asked for; what comes along all the same may come.
            sessions: the universe's clock, and the calendar of the exchange that stocks and funds trade on. Currency
                pairs and coins keep calendars of their own (24/5, 24/7): stamped with a stock exchange's close they
                would be known before they were. An instrument's ``exchange`` says which one its bars keep.
        """
        ...


def require_reach(source: str, minutes: int, start: date, today: date, reach: Mapping[int, int]) -> None:
    """Refuse bars within the day that a vendor does not serve.

    Args:
        minutes, start: which bars are asked for, and from which session on.
        reach: length of a bar in minutes → how many days back, today included, the vendor has such bars.

    Raises:
        ConfigError: it has no bars of this length, or none so old.
    """
    if minutes not in reach:
        held = ", ".join(str(one) for one in sorted(reach))
        raise ConfigError(
            where="config/universe.yaml", field="intraday.interval", value=minutes,
            remedy=f"{source} has bars of {held} minutes: choose one of these, or another intraday.source",
        )  # fmt: skip
    oldest = today - timedelta(days=reach[minutes] - 1)
    if start < oldest:
        raise ConfigError(
            where="config/universe.yaml", field="intraday.history_sessions", value=f"sessions from {start} on",
            remedy=f"{source} has bars of {minutes} minutes of the past {reach[minutes]} days, so from {oldest} on: "
            "ask for fewer sessions, for longer bars, or name another intraday.source",
        )  # fmt: skip


class IntradaySource(Protocol):
    """A vendor of bars within the day; parts and errors as in `MarketDataSource`."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def fetch_intraday(
        self, symbols: Sequence[str], start: date, end: date, minutes: int, sessions: Sessions
    ) -> Iterator[IntradayPart]:
        """Bars as printed, of the regular hours of sessions ``start`` to ``end``, both inclusive.

        Args:
            minutes: length of a bar, one of `octopus.market_data.schema.INTERVALS`.
            sessions: the calendar of ``symbols``.

        A part may reach beyond the window where the vendor sends more for the same request.
        """
        ...


class NewsSource(Protocol):
    """A vendor of news; errors as in `MarketDataSource`."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """Items published in ``[start_utc, end_utc)`` about the instruments (symbol → company name).

        Where a plan shows items only some time after their publication, the window is of those times.
        """
        ...


class SocialSource(Protocol):
    """A vendor of social posts; errors as in `MarketDataSource`."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """Posts created in ``[start_utc, end_utc)`` about the instruments (symbol → company name)."""
        ...


def missing_variables(source: MarketDataSource | NewsSource | SocialSource, present: Mapping[str, str]) -> list[str]:
    """Variables that ``source`` needs and ``present`` does not hold: with any, the source is skipped, saying so."""
    return [name for name in source.needs if not present.get(name)]


def require_key(variable: str, value: str | None, source: str) -> str:
    """``value``, or a `ConfigError` that names the variable to set. The value itself is never part of a message."""
    if not value:
        raise ConfigError(where="environment", field=variable, value=None, remedy=f"set it to use the source {source}")
    return value


def rebased(url: str, base_url: str | None) -> str:
    """``url`` with scheme, host and leading path of ``base_url``; unchanged when that is None."""
    if base_url is None:
        return url
    parts, base = urlsplit(url), urlsplit(base_url)
    return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + parts.path, parts.query, parts.fragment))
