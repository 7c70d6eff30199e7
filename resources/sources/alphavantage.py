"""Alpha Vantage over plain HTTP: raw daily bars with splits and dividends, currency pairs, bars within the day.

Belongs here: asking Alpha Vantage and turning its answers into bars and actions. Does not: repairing or adjusting
prices, sending again and budgets (patience.py).

Every answer has status 200; what went wrong is said in its only field. A limit reached ends the fetch, a bad key is a
setting to correct, an unknown symbol is a reject. The key travels in the address, and the service repeats it in its
messages: neither addresses nor messages leave this module unread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError
from octopus.core.ids import fingerprint
from octopus.core.rejects import Reject, json_payload
from octopus.core.sessions import FIRST_SESSION, Sessions
from octopus.market_data.intraday import settle_intraday
from octopus.market_data.parse import read_fields, records_frame
from octopus.market_data.schema import INSTRUMENTS_SCHEMA, INTRADAY_SCHEMA
from octopus.market_data.settle import settle_actions, settle_bars
from octopus.market_data.stamps import undated_listing
from octopus.market_data.validate import validate_instruments
from resources.sources.base import IntradayPart, MarketData, require_key
from resources.sources.http import Access, VendorSession
from resources.unlogged import keep_out_of_logs

NAME = "alphavantage"
URL = "https://www.alphavantage.co/query"
VARIABLE = "ALPHAVANTAGE_API_KEY"

PAIRS = Sessions("24/5")
"""Currency pairs trade on weekdays; Alpha Vantage's day of a pair is a UTC day."""

COMPACT_POINTS = 100
"""Bars in a compact answer; a full one reaches back twenty years and needs a larger plan."""

_PAIR = re.compile(r"^([A-Z]{3})/?([A-Z]{3})$")
_FIELDS: Mapping[str, str] = {
    "open": "1. open",
    "high": "2. high",
    "low": "3. low",
    "close": "4. close",
    "adj_close": "5. adjusted close",
    "volume": "6. volume",
    "dividend": "7. dividend amount",
    "split": "8. split coefficient",
}
_PRICES = ("open", "high", "low", "close")
_INTRADAY_FIELDS: Mapping[str, str] = {**{name: _FIELDS[name] for name in _PRICES}, "volume": "5. volume"}
_LIMIT = re.compile(r"rate limit|call frequency|(requests?|calls?) per (second|minute|day)", re.IGNORECASE)
_PLAN = re.compile(r"premium|\bdemo\b", re.IGNORECASE)
_BAD_KEY = re.compile(r"apikey|api key", re.IGNORECASE)
_CLASSES: Mapping[str, str] = {"Equity": "equity", "ETF": "etf"}


class AlphaVantageMarketData:
    """Daily bars and corporate actions of Alpha Vantage; a name of two currencies (EURUSD, EUR/USD) is a pair.

    Prices and volumes are as printed; adjusted closes are Alpha Vantage's own. The service does not say when a bar was
    known: that is imputed. Pairs have no volume and keep the calendar `PAIRS`.

    Args:
        api_key: value of ALPHAVANTAGE_API_KEY; daily adjusted bars need a premium plan.
        access: where its requests go, how long they may take and how often they are sent.
        describe: ask once more for each stock that nobody described yet, to learn its name, currency and class;
            without it a stock is an equity in USD without a name.
        now: what time it is, to leave out a session that is still trading.
    """

    name = NAME
    needs: tuple[str, ...] = (VARIABLE,)

    def __init__(
        self,
        api_key: str | None,
        access: Access | None = None,
        *,
        describe: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key = require_key(VARIABLE, api_key, NAME)
        keep_out_of_logs(self._key)
        self._access = access or Access()
        self._describe = describe
        self._now = now

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """As `MarketDataSource.fetch`, a part for each symbol: a free plan's day is too short for a whole universe.

        A symbol that Alpha Vantage does not know is a reject and loses no other. Its bars are asked for before its
        description, once; a description that could not be had comes with a later fetch.

        Raises:
            SourceUnavailableError: a limit is reached, or the service is down, cannot be reached or answers no data.
            ConfigError: the key is refused, or its plan does not include what is asked.
        """
        first = max(start, date.fromisoformat(FIRST_SESSION))
        for symbol in sorted(set(symbols)):  # one request each, two with its description
            told: OctopusError | None = None
            read = _Read()
            with self._access.session(NAME) as session:
                calendar = PAIRS if _PAIR.match(symbol) else sessions
                series = self._daily(session, symbol, _size(first, self._now(), calendar))
                if isinstance(series, Reject):
                    read.rejects.append(series)
                else:
                    read.add(symbol, series)
                    try:
                        read.instruments += self._description(session, symbol, sessions, described)
                    except OctopusError as error:
                        told = error
            yield self._settled(symbol, read, first, end, sessions, session.payload_hash)
            if told is not None:
                raise told

    def _settled(
        self, symbol: str, read: _Read, first: date, end: date, sessions: Sessions, payload_hash: str
    ) -> MarketData:
        now = self._now()
        stocks = settle_bars(read.stocks, first, end, sessions, now)
        pairs = settle_bars(read.pairs, first, end, PAIRS, now)
        actions, bad_actions = settle_actions(read.actions, first, end, sessions)
        instruments, bad_instruments = validate_instruments(pl.DataFrame(read.instruments, schema=INSTRUMENTS_SCHEMA))
        return MarketData(
            asked=(symbol,),
            instruments=instruments,
            bars=pl.concat([stocks.bars, pairs.bars]),
            actions=actions,
            rejects=read.rejects + stocks.rejects + pairs.rejects + bad_actions + bad_instruments,
            payload_hash=payload_hash,
            adjusted=stocks.adjusted,
        )

    def fetch_intraday(
        self, symbols: Sequence[str], start: date, end: date, minutes: int, sessions: Sessions
    ) -> Iterator[IntradayPart]:
        """As `IntradaySource.fetch_intraday`, a part for each symbol and month: so Alpha Vantage hands them out.

        It has no bars within the day of pairs here: each of them is a reject.

        Raises:
            as `fetch`.
        """
        for symbol in sorted(set(symbols)):
            if _PAIR.match(symbol):
                yield IntradayPart((symbol,), start, end, INTRADAY_SCHEMA.to_frame(), [_no_pair(symbol)], fingerprint())
                continue
            for first, last in _months(start, end):
                yield self._month(symbol, first, last, minutes, sessions)

    def _month(self, symbol: str, first: date, last: date, minutes: int, sessions: Sessions) -> IntradayPart:
        query = {
            "function": "TIME_SERIES_INTRADAY", "symbol": symbol, "interval": f"{minutes}min", "adjusted": "false",
            "extended_hours": "false", "outputsize": "full", "month": f"{first:%Y-%m}",
        }  # fmt: skip
        with self._access.session(NAME) as session:
            series = self._series(session, symbol, query, _INTRADAY_FIELDS)
        if isinstance(series, Reject):
            bars, rejects = INTRADAY_SCHEMA.to_frame(), [series]
        else:
            begun, unread = _begun(series)
            bars, refused = settle_intraday([begun], minutes, first, last, sessions, self._now())
            rejects = series.rejects + unread + refused
        meant = [replace(reject, table="intraday_bars") for reject in rejects]
        return IntradayPart((symbol,), first, last, bars, meant, session.payload_hash)

    def _daily(self, session: VendorSession, symbol: str, size: str) -> _Series | Reject:
        pair = _PAIR.match(symbol)
        if pair:
            query = {"function": "FX_DAILY", "from_symbol": pair[1], "to_symbol": pair[2], "outputsize": size}
            return self._series(session, symbol, query, {name: _FIELDS[name] for name in _PRICES})
        query = {"function": "TIME_SERIES_DAILY_ADJUSTED", "symbol": symbol, "outputsize": size}
        return self._series(session, symbol, query, _FIELDS)

    def _series(
        self, session: VendorSession, symbol: str, query: Mapping[str, str], fields: Mapping[str, str]
    ) -> _Series | Reject:
        """The series of one answer as texts, or why there is none."""
        answer = self._ask(session, query)
        refusal = next((answer[name] for name in ("Error Message", "Information", "Note") if name in answer), None)
        if refusal is not None:
            return self._refused(symbol, str(refusal), query["function"])
        series = next((value for name, value in answer.items() if name.startswith("Time Series")), None)
        if not isinstance(series, _Object) or not series:
            why = "has no bars" if isinstance(series, _Object) else "answers nothing"
            return Reject(
                "bars", symbol, f"Alpha Vantage {why} for {symbol}; check its spelling with SYMBOL_SEARCH",
                json_payload({"symbol": symbol, "fields": list(answer)}),
            )  # fmt: skip
        return _series_of(symbol, series, fields)

    def _ask(self, session: VendorSession, query: Mapping[str, str]) -> _Object:
        import requests

        try:
            response = session.get(URL, params={**query, "apikey": self._key})
        except requests.RequestException as error:
            # Not chained: the error's own text holds the address, and with it the key.
            raise SourceUnavailableError(
                f"alphavantage: no answer ({type(error).__name__}); check the network, the proxy and "
                "OCTOPUS_ALPHAVANTAGE_URL"
            ) from None
        status = response.status_code
        if status in (401, 403):
            raise _bad_key(f"HTTP {status}")
        if status == 429:
            raise SourceUnavailableError("alphavantage: HTTP 429, too many requests; wait some minutes and try again")
        if status >= 400:
            raise SourceUnavailableError(
                f"alphavantage: HTTP {status}: the service refuses or is down; try again later"
            )
        return _parsed(response.content)

    def _refused(self, symbol: str, message: str, function: str) -> Reject:
        said = message.replace(self._key, "(hidden)")
        if _LIMIT.search(said):
            raise SourceUnavailableError(
                f"alphavantage: a limit of this key's plan is reached at {symbol}; wait until tomorrow, ask for fewer "
                "symbols or use a larger plan"
            )
        if _PLAN.search(said):
            raise ConfigError(
                where="environment", field=VARIABLE, value="(hidden)",
                remedy=f"its plan does not include {function} as asked for {symbol}: set the key of a premium plan",
            )  # fmt: skip
        if _BAD_KEY.search(said):
            raise _bad_key("the key is invalid or missing")
        if "Invalid API call" in said:
            return Reject(
                "bars", symbol, f"Alpha Vantage does not know {symbol}; check its spelling with SYMBOL_SEARCH",
                json_payload({"symbol": symbol, "answer": said}),
            )  # fmt: skip
        raise SourceUnavailableError(f"alphavantage: {said[:200]}; try again later")

    def _description(
        self, session: VendorSession, symbol: str, sessions: Sessions, described: Collection[str]
    ) -> list[dict[str, object]]:
        """The instrument, unless it was described already."""
        if symbol in described:
            return []
        pair = _PAIR.match(symbol)
        calendar = PAIRS if pair else sessions
        listed = undated_listing(calendar)
        found = {} if pair or not self._describe else self._search(session, symbol)
        row = {
            "source": NAME,
            "instrument": symbol,
            "ts": listed,
            "name": f"{pair[1]}/{pair[2]}" if pair else found.get("2. name"),
            "exchange": calendar.exchange,
            "currency": pair[2] if pair else found.get("8. currency") or "USD",
            "asset_class": "fx" if pair else _CLASSES.get(str(found.get("3. type")), "equity"),
            "price_basis": "raw",
            "lot_size": None,
            "tick_size": None,
            "member_from": None,
            "member_to": None,
            "known_at": listed,
            "known_at_imputed": True,
        }
        return [row]

    def _search(self, session: VendorSession, symbol: str) -> Mapping[str, Any]:
        answer = self._ask(session, {"function": "SYMBOL_SEARCH", "keywords": symbol})
        refusal = next((answer[name] for name in ("Error Message", "Information", "Note") if name in answer), None)
        if refusal is not None:
            self._refused(symbol, str(refusal), "SYMBOL_SEARCH")
        matches = answer.get("bestMatches")
        held = [match for match in matches if isinstance(match, Mapping)] if isinstance(matches, list) else []
        return next((match for match in held if match.get("1. symbol") == symbol), {})


class _Object(dict[str, Any]):
    """A JSON object that keeps what it holds twice: the first by its name, the others in ``repeated``."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: list[tuple[str, Any]] = []
        for name, value in pairs:
            if name in self:
                self.repeated.append((name, value))
            else:
                self[name] = value


@dataclass(frozen=True)
class _Series:
    """Readable rows of one answer, its days or instants still texts in ``day``; and those that are not readable."""

    rows: pl.DataFrame
    rejects: list[Reject]


class _Read:
    """What the answers of one fetch hold, by where it goes."""

    def __init__(self) -> None:
        self.stocks: list[pl.DataFrame] = []
        self.pairs: list[pl.DataFrame] = []
        self.actions: list[pl.DataFrame] = []
        self.instruments: list[dict[str, object]] = []
        self.rejects: list[Reject] = []

    def add(self, symbol: str, series: _Series) -> None:
        dated, undated = read_fields(series.rows, table="bars", days=["day"], required=["day"])
        self.rejects += series.rejects + undated
        rows = dated.rename({"day": "session"})
        if _PAIR.match(symbol):
            self.pairs.append(rows.with_columns(volume=pl.lit(None, pl.Float64)))
            return
        self.stocks.append(rows.drop("dividend", "split"))
        self.actions.append(
            rows.unpivot(
                ["split", "dividend"], index=["source", "instrument", "session"],
                variable_name="kind", value_name="value",
            ).filter(pl.col("value") != pl.when(pl.col("kind") == "split").then(1.0).otherwise(0.0))
        )  # fmt: skip


def _series_of(symbol: str, series: _Object, fields: Mapping[str, str]) -> _Series:
    entries = [*series.items(), *series.repeated]
    objects = [(day, record) for day, record in entries if isinstance(record, Mapping)]
    rejects = [
        Reject("bars", symbol, f"the record of {day} is no JSON object", json_payload({"day": day, "record": record}))
        for day, record in entries
        if not isinstance(record, Mapping)
    ]
    raw = records_frame((record for _, record in objects), list(fields.values()))
    lacking = [field for field in fields.values() if objects and raw[field].null_count() == len(raw)]
    if lacking:
        raise SourceUnavailableError(
            f"alphavantage: the answer for {symbol} has no field {', '.join(lacking)}; the interface may have changed"
        )
    frame = raw.rename({field: name for name, field in fields.items()}).select(
        source=pl.lit(NAME), instrument=pl.lit(symbol), day=pl.Series([day for day, _ in objects], dtype=pl.String),
        **{name: pl.col(name) for name in fields},
    )  # fmt: skip
    rows, bad = read_fields(frame, table="bars", numbers=list(fields), required=list(fields))
    return _Series(rows, rejects + bad)


def _begun(series: _Series) -> tuple[pl.DataFrame, list[Reject]]:
    """Intraday rows with the instant at which each bar begins; and those that do not say it."""
    local = pl.col("day").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    # The service's hours are the exchange's: US/Eastern for what it offers within the day.
    rows = series.rows.with_columns(
        begun=local.dt.replace_time_zone(
            "America/New_York", ambiguous="null", non_existent="null"
        ).dt.convert_time_zone("UTC")
    )
    unread = [
        Reject("intraday_bars", row["instrument"], f"the time {row['day']} is unreadable", json_payload(row))
        for row in series.rows.filter(rows["begun"].is_null()).to_dicts()
    ]
    return rows.filter(pl.col("begun").is_not_null()).drop("day"), unread


def _months(start: date, end: date) -> Iterator[tuple[date, date]]:
    """First and last day of every month from that of ``start`` to that of ``end``."""
    first = start.replace(day=1)
    while first <= end:
        following = (first + timedelta(days=31)).replace(day=1)
        yield first, following - timedelta(days=1)
        first = following


def _no_pair(symbol: str) -> Reject:
    return Reject(
        "intraday_bars", symbol, f"{symbol} is a pair, which is not asked for within the day: leave it out of "
        "intraday.symbols", json_payload({"symbol": symbol}),
    )  # fmt: skip


def _size(start: date, now: datetime, sessions: Sessions) -> str:
    """``compact`` where the latest hundred bars reach back to ``start``."""
    return "compact" if len(sessions.between(start, now.astimezone(UTC).date())) <= COMPACT_POINTS else "full"


def _parsed(body: bytes) -> _Object:
    try:
        answer = json.loads(body, object_pairs_hook=_Object)
    except ValueError as error:
        raise SourceUnavailableError(
            f"alphavantage: an answer of {len(body)} bytes that is not JSON: the service is down, the answer was cut "
            "or a proxy answers in its place; check OCTOPUS_ALPHAVANTAGE_URL and try again later"
        ) from error
    if not isinstance(answer, _Object):
        raise SourceUnavailableError("alphavantage: the answer is no JSON object; the interface may have changed")
    return answer


def _bad_key(why: str) -> ConfigError:
    return ConfigError(
        where="environment", field=VARIABLE, value="(hidden)", remedy=f"Alpha Vantage says {why}: set a valid key"
    )
