"""CoinGecko through its official client: daily closes, volumes and ranges of coins, and their hours.

Belongs here: asking CoinGecko and turning its points and candles into bars of UTC days. Does not: exchanges' own order
books and candles, which differ from CoinGecko's average over exchanges.

Coins trade without a pause, so a session is a UTC day that closes at 00:00 UTC of the next one. CoinGecko sends points
in time, not bars: the close of day D is the price of the first point stamped from 00:00 to 00:05 UTC of D+1, and no
other. Points of any other time of day are prices in passing, left out, and the last one of each answer always is: it is
the price of now. The volume at that point covers the 24 hours before it, hence day D, in the quote currency; divided by
the close it is a number of coins, as bars have it.

Candles are stamped with their end. Where they tile day D without a gap, they give its open and range; the close stays
the point's, and the range reaches to it, because both are CoinGecko's samples of one average.

Within the day only the hourly candles of a paid plan are bars. The free plan's points every five minutes have no
range, and its half-hours reach back one day from the minute of the request, which is no whole UTC day at any hour.
Candles tell no volume, and the charts' volumes are those of the 24 hours before, which cannot be parted into hours: a
bar has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from octopus.core.sessions import FIRST_SESSION, Sessions
from octopus.market_data.intraday import settle_intraday
from octopus.market_data.parse import read_fields, records_frame
from octopus.market_data.schema import ACTIONS_SCHEMA, INSTRUMENTS_SCHEMA, INTRADAY_SCHEMA
from octopus.market_data.settle import settle_bars
from octopus.market_data.stamps import undated_listing
from octopus.market_data.validate import validate_instruments
from resources.sources.base import IntradayPart, MarketData, require_reach
from resources.sources.http import Access
from resources.sources.patience import own_error

if TYPE_CHECKING:
    from coingecko_sdk import Coingecko

    from resources.sources.httpx_client import VendorClient

NAME = "coingecko"
VARIABLE = "COINGECKO_API_KEY"

DAYS = Sessions("24/7")
"""UTC days."""

COINS: Mapping[str, str] = {
    "ADA": "cardano",
    "AVAX": "avalanche-2",
    "BCH": "bitcoin-cash",
    "BNB": "binancecoin",
    "BTC": "bitcoin",
    "DOGE": "dogecoin",
    "DOT": "polkadot",
    "ETH": "ethereum",
    "LINK": "chainlink",
    "LTC": "litecoin",
    "SOL": "solana",
    "XLM": "stellar",
    "XMR": "monero",
    "XRP": "ripple",
}
"""CoinGecko's ids of well-known symbols; symbols are not unique there, ids are. Another name is taken for an id."""

DEMO_DAYS = 365
"""How far back CoinGecko serves without a paid plan."""

MIDNIGHT_MS = 5 * 60 * 1000
"""How late after 00:00 UTC a point may be stamped and still be the close of the day before."""

_HOUR_MS = 60 * 60 * 1000
_DAY_MS = 24 * _HOUR_MS
_BATCH = 250
_FREE_CANDLES = ("1", "7", "14", "30")
"""Reaches in days, as CoinGecko takes them; beyond a month free candles last four days and tile none."""
_PAID_CANDLES = ("90", "180")
_HOURLY_CANDLES = ("1", "7", "14", "30", "90")
INTRADAY_REACH: Mapping[int, int] = {60: 89}
"""Length of a bar in minutes → days back, today included, with a paid plan: 90 days of hours end with the request's."""
_KEY_ERRORS = (10002, 10010, 10011)
_PLAN_ERRORS = (10005, 10012)


class _NotThereError(SourceUnavailableError):
    """CoinGecko has nothing at the address: of a coin's own, that it does not know the coin."""


class CoinGeckoMarketData:
    """Daily bars of coins, averaged over exchanges; crypto has no corporate actions.

    Whatever calendar it is asked with, sessions are UTC days (`DAYS`). Days beyond the reach of candles (30 days, 180
    on a paid plan) have a close and a volume only; asked for again when they are that old, they are restated without
    their range. ``candles=False`` keeps it to closes from the start.

    Args:
        api_key: value of COINGECKO_API_KEY, optional; None asks without a key, at a lower rate.
        access: where its requests go, how long they may take and how often they are sent.
        plan: which plan the key belongs to; without a paid one the past year is served, no more.
        coins: CoinGecko's id of each instrument, where it is not in `COINS` and not the instrument's own name.
        quote: currency of prices, as CoinGecko writes it.
        candles: ask for candles too, for open, high and low.
        now: what time it is, to leave out a day that is not over.
    """

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        api_key: str | None = None,
        access: Access | None = None,
        *,
        plan: Literal["demo", "pro"] = "demo",
        coins: Mapping[str, str] | None = None,
        quote: str = "usd",
        candles: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if plan == "pro" and not api_key:
            raise ConfigError(
                where="environment", field=VARIABLE, value=None, remedy="set it to use CoinGecko's paid plan"
            )
        self._key = api_key
        self._access = access or Access()
        self._plan = plan
        self._coins = {**COINS, **(coins or {})}
        self._quote = quote
        self._candles = candles
        self._now = now

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """As `MarketDataSource.fetch`, for UTC days, a part for each coin. One that it does not know is a reject.

        Raises:
            SourceUnavailableError: CoinGecko limits the rate, is down, cannot be reached or answers no data.
            ConfigError: the key is refused, or its plan does not include what is asked.
        """
        now = self._now()
        today = now.astimezone(UTC).date()
        first, beyond = self._reach(start, today)
        ids = {symbol: self._coins.get(symbol, symbol) for symbol in sorted(set(symbols))}
        names = self._names(sorted({coin for symbol, coin in ids.items() if symbol not in described}))
        for symbol, coin in ids.items():  # one or two requests each; nothing here loops over points
            rejects = (
                [Reject("bars", symbol, beyond, json_payload({"symbol": symbol, "from": start}))] if beyond else []
            )
            frames, told, payload = self._bars(symbol, coin, first, today)
            settled = settle_bars(frames, first, end, DAYS, now)
            new = [symbol] if frames and symbol not in described else []
            instruments, bad_instruments = validate_instruments(self._instruments(new, ids, names))
            yield MarketData(
                asked=(symbol,),
                instruments=instruments,
                bars=settled.bars,
                actions=ACTIONS_SCHEMA.to_frame(),
                rejects=rejects + told + settled.rejects + bad_instruments,
                payload_hash=payload,
            )

    def fetch_intraday(
        self, symbols: Sequence[str], start: date, end: date, minutes: int, sessions: Sessions
    ) -> Iterator[IntradayPart]:
        """As `IntradaySource.fetch_intraday`, for UTC days, a part for each coin: hours, without a volume.

        Raises:
            SourceUnavailableError: as `fetch`.
            ConfigError: the plan is no paid one, has no bars of this length or none so old (`INTRADAY_REACH`), or the
                key is refused.
        """
        if self._plan != "pro":
            raise ConfigError(
                where="config/universe.yaml", field="plans.coingecko.plan", value=self._plan,
                remedy="bars within the day need a paid plan: set pro if your key is of one, or name another "
                "intraday.source",
            )  # fmt: skip
        now = self._now()
        today = now.astimezone(UTC).date()
        require_reach(NAME, minutes, start, today, INTRADAY_REACH)
        reach = next(size for size in _HOURLY_CANDLES if int(size) > (today - start).days)
        for symbol in sorted(set(symbols)):  # one request each; nothing here loops over candles
            told, payload = self._hours(symbol, self._coins.get(symbol, symbol), reach)
            if isinstance(told, Reject):
                bars, rejects = INTRADAY_SCHEMA.to_frame(), [told]
            else:
                begun, unread = hourly_bars(symbol, told)
                bars, refused = settle_intraday([begun], minutes, start, end, DAYS, now)
                rejects = unread + refused
            meant = [replace(reject, table="intraday_bars") for reject in rejects]
            yield IntradayPart((symbol,), start, end, bars, meant, payload)

    def _hours(self, symbol: str, coin: str, reach: str) -> tuple[list[Any] | Reject, str]:
        """Hourly candles of one coin, or why there are none, and the hash of the answer."""
        from resources.sources.httpx_client import VendorClient

        with VendorClient(NAME, self._access) as http:
            try:
                answer = _ask(
                    self._client(http).coins.ohlc.with_raw_response.get,
                    coin, days=reach, vs_currency=self._quote, interval="hourly", precision="full",
                    extra_headers=self._headers(),
                )  # fmt: skip
            except _NotThereError:
                return _unknown(symbol, coin), http.payload_hash
            if not isinstance(answer, list):
                raise SourceUnavailableError(f"coingecko: the candles of {coin} are no list; the form changed")
            return answer, http.payload_hash

    def _bars(self, symbol: str, coin: str, first: date, today: date) -> tuple[list[pl.DataFrame], list[Reject], str]:
        """Bars of one coin, none where CoinGecko does not know it, what is malformed, and the hash of the answers."""
        from resources.sources.httpx_client import VendorClient

        with VendorClient(NAME, self._access) as http:
            client = self._client(http)
            chart = self._chart(client, symbol, coin, max((today - first).days + 1, 1))
            if isinstance(chart, Reject):
                return [], [chart], http.payload_hash
            closes, bad = daily_closes(symbol, chart)
            ranges, bad_candles = self._ranges(client, symbol, coin, first, today)
            return [_with_ranges(closes, ranges)], bad + bad_candles, http.payload_hash

    def _reach(self, start: date, today: date) -> tuple[date, str | None]:
        """The first day that may be asked for, and why, if that is later than ``start``."""
        first = max(start, date.fromisoformat(FIRST_SESSION))
        oldest = today - timedelta(days=DEMO_DAYS - 1)
        if self._plan == "pro" or first >= oldest:
            return first, None
        return oldest, (
            f"days from {first} to before {oldest} need a paid plan: set plans.coingecko.plan: pro if you have one, or "
            "import them with the source files"
        )

    def _client(self, http: VendorClient) -> Coingecko:
        from coingecko_sdk import Coingecko

        base = f"https://{'pro-api' if self._plan == 'pro' else 'api'}.coingecko.com/api/v3"
        client = Coingecko(
            base_url=base, http_client=http, timeout=self._access.timeout_s, max_retries=0,
            pro_api_key="", demo_api_key="",
        )  # fmt: skip
        # Set afterwards: a key that is None at birth would be read from variables of the library's own.
        client.pro_api_key = self._key if self._plan == "pro" else None
        client.demo_api_key = None if self._plan == "pro" else self._key
        return client

    def _headers(self) -> dict[str, Any]:
        """Without a key the client wants to be told that the header is left out on purpose."""
        from coingecko_sdk import omit

        return {} if self._key else {"x-cg-demo-api-key": omit}

    def _names(self, coins: Sequence[str]) -> dict[str, str]:
        """Names of the coins that CoinGecko lists; a coin missing here may still have a past."""
        from resources.sources.httpx_client import VendorClient

        names: dict[str, str] = {}
        with VendorClient(NAME, self._access) as http:
            client = self._client(http)
            for start in range(0, len(coins), _BATCH):
                batch = ",".join(coins[start : start + _BATCH])
                answer = _ask(
                    client.coins.markets.with_raw_response.get,
                    vs_currency=self._quote, ids=batch, per_page=_BATCH, extra_headers=self._headers(),
                )  # fmt: skip
                if not isinstance(answer, list):
                    raise SourceUnavailableError(
                        "coingecko: the list of coins is no list; the interface may have changed"
                    )
                rows = [row for row in answer if isinstance(row, Mapping)]
                names |= {str(row.get("id")): str(row["name"]) for row in rows if row.get("name")}
        return names

    def _chart(self, client: Coingecko, symbol: str, coin: str, days: int) -> Mapping[str, Any] | Reject:
        try:
            answer = _ask(
                client.coins.market_chart.with_raw_response.get,
                coin, days=str(days), vs_currency=self._quote, interval="daily", precision="full",
                extra_headers=self._headers(),
            )  # fmt: skip
        except _NotThereError:
            return _unknown(symbol, coin)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("prices"), list):
            raise SourceUnavailableError(
                f"coingecko: the chart of {coin} has no list of prices; the interface may have changed"
            )
        return answer

    def _ranges(
        self, client: Coingecko, symbol: str, coin: str, first: date, today: date
    ) -> tuple[pl.DataFrame, list[Reject]]:
        if not self._candles:
            return daily_ranges(symbol, [])
        from coingecko_sdk import omit

        answer = _ask(
            client.coins.ohlc.with_raw_response.get,
            coin, days=self._candle_days((today - first).days + 1), vs_currency=self._quote,
            interval="daily" if self._plan == "pro" else omit, precision="full", extra_headers=self._headers(),
        )  # fmt: skip
        if not isinstance(answer, list):
            raise SourceUnavailableError(f"coingecko: the candles of {coin} are no list; the form changed")
        return daily_ranges(symbol, answer)

    def _candle_days(self, days: int) -> str:
        """The shortest reach of candles that holds ``days``, or the longest whose candles tile days."""
        held = (*_FREE_CANDLES, *_PAID_CANDLES) if self._plan == "pro" else _FREE_CANDLES
        return next((size for size in held if int(size) >= days), held[-1])

    def _instruments(self, symbols: Sequence[str], ids: Mapping[str, str], names: Mapping[str, str]) -> pl.DataFrame:
        listed = undated_listing(DAYS)
        rows = [
            {
                "source": NAME, "instrument": symbol, "ts": listed, "name": names.get(ids[symbol]),
                "exchange": DAYS.exchange, "currency": self._quote.upper(), "asset_class": "crypto",
                "price_basis": "raw", "lot_size": None, "tick_size": None, "member_from": None, "member_to": None,
                "known_at": listed, "known_at_imputed": True,
            }
            for symbol in symbols
        ]  # fmt: skip
        return pl.DataFrame(rows, schema=INSTRUMENTS_SCHEMA)


def daily_closes(symbol: str, chart: Mapping[str, Any]) -> tuple[pl.DataFrame, list[Reject]]:
    """Closes and volumes of UTC days from points in time; which point is whose close, the module's docstring says.

    Args:
        chart: lists ``prices`` and ``total_volumes`` of [milliseconds, value], any order.

    Returns:
        Columns source, instrument, session, open, high, low (null), close, volume (coins); malformed points. A chart
        with points and none at midnight is one reject.
    """
    prices, rejects = _points(symbol, chart.get("prices"), ("value",), "the price")
    volumes, bad = _points(symbol, chart.get("total_volumes"), ("value",), "the volume")
    late = pl.col("ms") % _DAY_MS
    closing = prices.filter(late <= MIDNIGHT_MS).with_columns(session=_day_before(pl.col("ms") - late))
    # The first of a midnight's points, and any other of the same instant, for validation to refuse.
    closing = closing.filter(pl.col("ms") == pl.col("ms").min().over("session"))
    if closing.is_empty() and not prices.is_empty():
        rejects.append(
            Reject(
                "bars", symbol, f"none of the {prices.height} prices of {symbol} is of 00:00 UTC: they are no closes",
                json_payload({"symbol": symbol, "prices": chart.get("prices")}),
            )
        )  # fmt: skip
    elif prices.is_empty() and not rejects:
        rejects.append(Reject("bars", symbol, f"CoinGecko has no prices of {symbol}; check its id", {"symbol": symbol}))
    turnover = volumes.unique("ms", keep="first", maintain_order=True).rename({"value": "turnover"})
    return closing.join(turnover, on="ms", how="left", maintain_order="left").select(
        source=pl.lit(NAME), instrument=pl.lit(symbol), session="session",
        open=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64), low=pl.lit(None, pl.Float64),
        close="value", volume=pl.when(pl.col("value") > 0).then(pl.col("turnover") / pl.col("value")),
    ), rejects + bad  # fmt: skip


def daily_ranges(symbol: str, candles: Sequence[Any]) -> tuple[pl.DataFrame, list[Reject]]:
    """Open, high and low of each UTC day that candles tile without a gap; malformed candles.

    Args:
        candles: lists of [milliseconds of its end, open, high, low, close], any order.

    Returns:
        Columns session, open, high, low.
    """
    frame, rejects = _points(symbol, list(candles), ("open", "high", "low", "close"), "the candle")
    frame = frame.unique("ms", keep="first", maintain_order=True).sort("ms")
    width = frame["ms"].diff().min()
    # One candle alone may be a whole day; two show how long each lasts.
    step = _DAY_MS if width is None else int(str(width))
    days = (
        frame.with_columns(session=_day_before(((pl.col("ms") - 1) // _DAY_MS + 1) * _DAY_MS))
        .group_by("session", maintain_order=True)
        .agg(
            pl.col("open").first(), pl.col("high").max(), pl.col("low").min(),
            covered=pl.len() * step, last=pl.col("ms").max() % _DAY_MS,
        )
    )  # fmt: skip
    whole = (pl.col("covered") == _DAY_MS) & (pl.col("last") == 0)
    return days.filter(whole).select("session", "open", "high", "low"), rejects


def hourly_bars(symbol: str, candles: Sequence[Any]) -> tuple[pl.DataFrame, list[Reject]]:
    """Bars of an hour each; malformed candles.

    Args:
        candles: lists of [milliseconds of its end, open, high, low, close], any order.

    Returns:
        Columns source, instrument, begun (UTC), open, high, low, close, volume (null), without the hour under way: the
        newest candle, where it is stamped with the instant of the answer.
    """
    frame, rejects = _points(symbol, list(candles), ("open", "high", "low", "close"), "the candle")
    is_running = (pl.col("ms") == pl.col("ms").max()) & (pl.col("ms") % _HOUR_MS != 0)
    begun = pl.from_epoch(pl.col("ms") - _HOUR_MS, time_unit="ms").cast(pl.Datetime("us"))
    return frame.filter(~is_running).select(
        source=pl.lit(NAME), instrument=pl.lit(symbol), begun=begun.dt.replace_time_zone("UTC"),
        open="open", high="high", low="low", close="close", volume=pl.lit(None, pl.Float64),
    ), rejects  # fmt: skip


def _unknown(symbol: str, coin: str) -> Reject:
    return Reject(
        "bars", symbol, f"CoinGecko does not know the coin {coin}; look up its API id on its page",
        json_payload({"symbol": symbol, "id": coin}),
    )  # fmt: skip


def _with_ranges(closes: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    joined = closes.drop("open", "high", "low").join(ranges, on="session", how="left", maintain_order="left")
    has = pl.col("open").is_not_null()
    return joined.with_columns(
        high=pl.when(has).then(pl.max_horizontal("high", "close")),
        low=pl.when(has).then(pl.min_horizontal("low", "close")),
    ).select(closes.columns)


def _points(symbol: str, points: object, names: Sequence[str], what: str) -> tuple[pl.DataFrame, list[Reject]]:
    """Lists of [milliseconds, value …] as columns ms and ``names``, and those that are none."""
    held = points if isinstance(points, list) else []
    whole = [point for point in held if isinstance(point, list) and len(point) == len(names) + 1]
    rejects = [
        Reject("bars", symbol, f"{what} is no list of {len(names) + 1} numbers", json_payload({"point": point}))
        for point in held
        if not (isinstance(point, list) and len(point) == len(names) + 1)
    ]
    columns = ["ms", *names]
    frame = records_frame((dict(zip(columns, point, strict=True)) for point in whole), columns)
    read, bad = read_fields(
        frame.with_columns(instrument=pl.lit(symbol)), table="bars", numbers=columns, required=columns
    )
    return read.select(pl.col("ms").cast(pl.Int64, strict=False), *names), rejects + bad


def _day_before(midnight_ms: pl.Expr) -> pl.Expr:
    return pl.from_epoch(midnight_ms - _DAY_MS, time_unit="ms").dt.date()


def _ask(get: Callable[..., Any], *args: object, **options: object) -> Any:
    """The JSON of one answer; every failure becomes one of ours."""
    import coingecko_sdk

    try:
        body = get(*args, **options).http_response.content
    except coingecko_sdk.NotFoundError as error:
        raise _NotThereError(
            "coingecko: HTTP 404, nothing is there; check OCTOPUS_COINGECKO_URL, or the interface may have changed"
        ) from error
    except coingecko_sdk.RateLimitError as error:
        raise SourceUnavailableError(
            "coingecko: HTTP 429, too many requests; wait a minute, or set COINGECKO_API_KEY for a higher rate"
        ) from error
    except coingecko_sdk.APIStatusError as error:
        raise _refused(error.status_code, error.body) from error
    except coingecko_sdk.APIError as error:
        told = own_error(error)
        if told is not None:
            raise told from error
        cause = type(error.__cause__ or error).__name__
        raise SourceUnavailableError(
            f"coingecko: no answer ({cause}); check the network, the proxy and OCTOPUS_COINGECKO_URL"
        ) from error
    try:
        return json.loads(body)
    except ValueError as error:
        raise SourceUnavailableError(
            f"coingecko: an answer of {len(body)} bytes that is not JSON: the service is down, the answer was cut or a "
            "proxy answers in its place; check OCTOPUS_COINGECKO_URL and try again later"
        ) from error


def _refused(status: int, body: object) -> SourceUnavailableError | ConfigError:
    code = _error_code(body)
    if code in _PLAN_ERRORS:
        return ConfigError(
            where="environment", field=VARIABLE, value="(hidden)",
            remedy=f"CoinGecko says {code}: its plan does not include what is asked; name it in plans.coingecko, "
            "or ask for fewer days",
        )  # fmt: skip
    if status in (401, 403) or code in _KEY_ERRORS:
        return ConfigError(
            where="environment", field=VARIABLE, value="(hidden)",
            remedy=f"CoinGecko refused it (HTTP {status}): set a valid key of the plan that is configured",
        )  # fmt: skip
    return SourceUnavailableError(f"coingecko: HTTP {status}: the service refuses or is down; try again later")


def _error_code(body: object) -> int | None:
    """CoinGecko's own error code, wherever this kind of answer keeps it."""
    held: object = body
    if isinstance(held, Mapping) and isinstance(held.get("error"), Mapping):
        held = held["error"]
    if isinstance(held, Mapping) and isinstance(held.get("status"), Mapping):
        held = held["status"]
    code = held.get("error_code") if isinstance(held, Mapping) else None
    return code if isinstance(code, int) else None
