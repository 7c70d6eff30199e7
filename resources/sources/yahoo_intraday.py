"""Yahoo's bars within the day through yfinance, as printed.

Belongs here: which lengths of bars Yahoo has and how far back, and turning its answer into bars of instants. Does not:
daily bars, actions, and how Yahoo is asked (yahoo.py).

As its daily prices, those within the day are adjusted for every split up to the day of the fetch: each question reaches
to the present, so that the splits that undo it are in the same answer. Yahoo's half-hours are two of its quarter-hours
each, which yfinance joins. Bars of the regular hours alone are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.market_data.intraday import settle_intraday
from octopus.market_data.schema import INTRADAY_SCHEMA, UTC_INSTANT
from resources.sources.base import IntradayPart, require_reach
from resources.sources.http import Access
from resources.sources.yahoo import CHARTS, NAME, PRICE_DECIMALS, ask_history, split_factor, yfinance_session

REACH: Mapping[int, int] = {1: 7, 5: 60, 15: 60, 30: 60, 60: 730}
"""Length of a bar in minutes → days back, today included. Yahoo keeps minutes for 30 days and hands out a week of them
in one answer, which is all that reaches to the present."""

_INTERVALS: Mapping[int, str] = {1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h"}
"""As yfinance names them."""


class YahooIntraday:
    """Bars within the day of Yahoo Finance; arguments as `resources.sources.yahoo.YahooMarketData` takes them."""

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        access: Access | None = None,
        cache_dir: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access or Access()
        self._cache_dir = cache_dir
        self._now = now

    def fetch_intraday(
        self, symbols: Sequence[str], start: date, end: date, minutes: int, sessions: Sessions
    ) -> Iterator[IntradayPart]:
        """As `IntradaySource.fetch_intraday`, a part for each symbol; one that Yahoo does not know is a reject.

        Raises:
            SourceUnavailableError: Yahoo limits the rate, is down, cannot be reached or answers no data.
            ConfigError: Yahoo has no bars of this length, or none so old (`REACH`).
        """
        require_reach(NAME, minutes, start, self._now().astimezone(UTC).date(), REACH)
        for symbol in sorted(set(symbols)):  # one request each; nothing here loops over bars
            digest = hashlib.sha256()
            with yfinance_session(self._access, self._cache_dir, digest, CHARTS) as session:
                answer = ask_history(symbol, start, session, self._access.timeout_s, _INTERVALS[minutes])
            if isinstance(answer, Reject):
                bars, rejects = INTRADAY_SCHEMA.to_frame(), [answer]
            else:
                printed = printed_intraday(symbol, answer.history)
                bars, rejects = settle_intraday([printed], minutes, start, end, sessions, self._now())
            meant = [replace(reject, table="intraday_bars") for reject in rejects]
            yield IntradayPart((symbol,), start, end, bars, meant, digest.hexdigest()[:32])


def printed_intraday(symbol: str, history: pd.DataFrame) -> pl.DataFrame:
    """Bars as printed, from a split-adjusted history that reaches to the present.

    Args:
        history: index of instants with a zone; columns Open, High, Low, Close, Volume and Stock Splits (0 on ordinary
            days).

    Returns:
        Columns source, instrument, begun (UTC), open, high, low, close, volume (whole shares). An interval without any
        price, in which nothing was traded, is no row; one that lacks only some stays, to be refused.
    """
    factor = split_factor(history)
    values = {name.lower(): history[name].to_numpy(dtype=np.float64) for name in ("Open", "High", "Low", "Close")}
    begun = pd.DatetimeIndex(history.index).tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[us]")
    frame = pl.DataFrame(
        {
            "begun": pl.Series(begun, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC").cast(UTC_INSTANT),
            **{name: np.round(price * factor, PRICE_DECIMALS) for name, price in values.items()},
            "volume": np.round(history["Volume"].to_numpy(dtype=np.float64) / factor),
        }
    ).with_columns(pl.selectors.float().fill_nan(None))
    return frame.filter(~pl.all_horizontal(pl.col("open", "high", "low", "close").is_null())).select(
        source=pl.lit(NAME), instrument=pl.lit(symbol), begun="begun",
        open="open", high="high", low="low", close="close", volume="volume",
    )  # fmt: skip
