"""Yahoo Finance through yfinance: prices as printed, splits and dividends.

Belongs here: asking Yahoo and turning its answer into raw bars and actions. Does not: repairing prices (findings say
what is suspicious), adjusting them (the marts do it as of a day).

Yahoo sends prices, volumes and dividends already adjusted for every split up to the day of the fetch. Stored like that,
each later split would restate all of history. So the adjustment is undone with the splits of the same answer, and every
fetch reaches to the present, whatever its last session: an answer that ends earlier is adjusted for splits that it
does not list.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl

from octopus.core.errors import OctopusError, SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from octopus.core.sessions import FIRST_SESSION, Calendars, Sessions
from octopus.core.types import DateArray, FloatArray
from octopus.market_data.schema import INSTRUMENTS_SCHEMA
from octopus.market_data.settle import settle_actions_by, settle_bars_by
from octopus.market_data.splits import later_split_factor
from octopus.market_data.validate import validate_instruments
from resources.sources.base import MarketData, rebased
from resources.sources.http import Access

if TYPE_CHECKING:
    from curl_cffi.requests import Response, Session

NAME = "yahoo"
CHARTS = "/v8/finance/chart/"

PART = 25
"""Symbols that are handed over together: a request takes longer than a symbol's bars take to be stored."""

PRICE_DECIMALS = 4
"""Yahoo's prices are 32-bit: beyond this their noise would look like restatements."""

_CODES = {
    "XNAS": "NMS NGM NCM", "XNYS": "NYQ PNK OQB OQX OEM NAE CXI", "XASE": "ASE", "ARCX": "PCX", "BATS": "BTS",
    "XTSE": "TOR CNQ NEO", "XTSX": "VAN", "XMEX": "MEX", "BVMF": "SAO", "XBUE": "BUE", "XSGO": "SGO", "XBOG": "BVC",
    "XLON": "LSE IOB AQS CXE", "XDUB": "ISE", "XETR": "GER", "XFRA": "FRA BER HAN MUN", "XSTU": "STU",
    "XDUS": "DUS", "XHAM": "HAM", "XPAR": "PAR ENX", "XAMS": "AMS DXE", "XBRU": "BRU", "XLIS": "LIS", "XMIL": "MIL",
    "XSWX": "EBS", "XWBO": "VIE", "XMAD": "MCE MAD", "ASEX": "ATH", "XSTO": "STO", "XCSE": "CPH", "XHEL": "HEL",
    "XOSL": "OSL", "XICE": "ICE", "XTAL": "TAL", "XRIS": "RIS", "XLIT": "LIT", "XWAR": "WSE", "XPRA": "PRA",
    "XBUD": "BUD", "XBSE": "BVB", "XMOS": "MCX", "XIST": "IST", "XTAE": "TLV", "XSAU": "SAU", "XJSE": "JNB",
    "XASX": "ASX CXA", "XNZE": "NZE", "XTKS": "JPX OSA FKA SAP", "XHKG": "HKG", "XSHG": "SHH SHZ",
    "XKRX": "KSC KOE", "XTAI": "TAI TWO", "XBOM": "BSE NSI", "XKAR": "KAR", "XSES": "SES", "XKLS": "KLS",
    "XIDX": "JKT", "XBKK": "SET", "XPHS": "PHS PHP",
}  # fmt: skip
EXCHANGES: Mapping[str, str] = {code: exchange for exchange, codes in _CODES.items() for code in codes.split()}
"""Yahoo's exchange codes (as yfinance lists them) by ISO 10383: an exchange's own code, or that of another one of its
country which keeps the same sessions, where its own is in no calendar. A share with another code is refused: bars whose
sessions are not known cannot be dated."""

ASSET_CLASS_OF: Mapping[str, str] = {
    "EQUITY": "equity",
    "ETF": "etf",
    "CRYPTOCURRENCY": "crypto",
    "CURRENCY": "fx",
}
"""Yahoo's kinds of instruments by ours; one of another kind (an index, a fund without an exchange) is refused."""

CALENDAR_OF: Mapping[str, str] = {"crypto": "24/7", "fx": "24/5"}
"""What trades on no exchange, by asset class: coins on UTC days. Yahoo's day of a currency pair is London's, over
by the end of the UTC day that it is taken for."""

_META_FIELDS = ("longName", "shortName", "exchangeName", "currency", "instrumentType", "firstTradeDate")


class YahooMarketData:
    """Daily bars and corporate actions of Yahoo Finance.

    Args:
        access: where its requests go, how long they may take and how often they are sent.
        cache_dir: where yfinance keeps time zones and cookies; None: its own folder in the user's cache.
        now: what time it is, to leave out a session that is still trading.
    """

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

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """As `MarketDataSource.fetch`, a part for each `PART` symbols; one that Yahoo does not know is a reject.

        Raises:
            SourceUnavailableError: Yahoo limits the rate, is down, cannot be reached or answers no data.
        """
        first = max(start, date.fromisoformat(FIRST_SESSION))
        wanted = sorted(set(symbols))
        for row in range(0, len(wanted), PART):
            part, told = self._part(wanted[row : row + PART], first, end, sessions)
            if part is not None:
                yield part
            if told is not None:
                raise told

    def _part(
        self, symbols: Sequence[str], first: date, end: date, sessions: Sessions
    ) -> tuple[MarketData | None, OctopusError | None]:
        """What Yahoo has of ``symbols``, or of those before the first that fails, and the failure."""
        answers: list[YahooHistory] = []
        rejects: list[Reject] = []
        told: OctopusError | None = None
        asked: list[str] = []
        digest = hashlib.sha256()
        with yfinance_session(self._access, self._cache_dir, digest, CHARTS) as session:
            for symbol in symbols:  # one request each; nothing here loops over bars
                try:
                    answer = ask_history(symbol, first, session, self._access.timeout_s)
                except OctopusError as error:
                    told = error
                    break
                asked.append(symbol)
                if isinstance(answer, Reject):
                    rejects.append(answer)
                else:
                    answers.append(answer)
        if not asked:
            return None, told
        instruments, unfit = _instruments(answers)
        known = set(instruments["instrument"])
        answers = [answer for answer in answers if answer.symbol in known]
        bars = [printed_bars(answer.symbol, answer.history) for answer in answers]
        calendars = Calendars(sessions, dict(instruments.select("instrument", "exchange").iter_rows()))
        settled = settle_bars_by(bars, first, end, calendars, self._now())
        acts = [printed_actions(answer.symbol, answer.history) for answer in answers]
        actions, bad_actions = settle_actions_by(acts, first, end, calendars)
        part = MarketData(
            asked=tuple(asked),
            instruments=instruments,
            bars=settled.bars,
            actions=actions,
            rejects=rejects + unfit + settled.rejects + bad_actions,
            payload_hash=digest.hexdigest()[:32],
            adjusted=settled.adjusted,
        )
        return part, told


@dataclass(frozen=True)
class YahooHistory:
    """What Yahoo said of one symbol: yfinance's history up to the present, and the answer's metadata."""

    symbol: str
    history: pd.DataFrame
    meta: Mapping[str, Any]


def printed_bars(symbol: str, history: pd.DataFrame) -> pl.DataFrame:
    """Bars as printed on their day, from a split-adjusted history that reaches to the present.

    Args:
        history: index of dates; columns Open, High, Low, Close, Volume and Stock Splits (0 on ordinary days).

    Returns:
        Columns source, instrument, session, open, high, low, close, volume (whole shares), adj_close (Yahoo's own, as
        sent). Rows that only carry an action (no price at all, no volume) are left out; a row that lacks only its
        close stays, to be refused.
    """
    days = _days(history)
    factor = split_factor(history, days)
    values = {name.lower(): history[name].to_numpy(dtype=np.float64) for name in ("Open", "High", "Low", "Close")}
    volume = history["Volume"].to_numpy(dtype=np.float64)
    frame = pl.DataFrame(
        {
            "session": pl.Series(days, dtype=pl.Date),
            **{name: np.round(price * factor, PRICE_DECIMALS) for name, price in values.items()},
            "volume": np.round(volume / factor),
            "adj_close": _adjusted(history),
        }
    ).with_columns(pl.selectors.float().fill_nan(None))
    acts = pl.Series((_column(history, "Stock Splits") != 0) | (_column(history, "Dividends") != 0))
    empty = pl.all_horizontal(pl.col("open", "high", "low", "close").is_null()) & acts
    return frame.filter(~empty).select(
        source=pl.lit(NAME), instrument=pl.lit(symbol), session="session",
        open="open", high="high", low="low", close="close", volume="volume", adj_close="adj_close",
    )  # fmt: skip


def printed_actions(symbol: str, history: pd.DataFrame) -> pl.DataFrame:
    """Splits and dividends, the latter as paid for one share of their day; arguments as `printed_bars`.

    Returns:
        Columns source, instrument, session, kind, value.
    """
    days = _days(history)
    paid = np.round(_column(history, "Dividends") * split_factor(history, days), 6)
    frame = pl.DataFrame(
        {"session": pl.Series(days, dtype=pl.Date), "split": _column(history, "Stock Splits"), "dividend": paid}
    )
    return (
        frame.unpivot(["split", "dividend"], index="session", variable_name="kind", value_name="value")
        .filter(pl.col("value") != 0)
        .select(source=pl.lit(NAME), instrument=pl.lit(symbol), session="session", kind="kind", value="value")
    )


def _days(history: pd.DataFrame) -> DateArray:
    return pd.DatetimeIndex(history.index).tz_localize(None).to_numpy(dtype="datetime64[D]")


def _adjusted(history: pd.DataFrame) -> FloatArray:
    if "Adj Close" not in history:
        return np.full(len(history), np.nan)
    values: FloatArray = history["Adj Close"].to_numpy(dtype=np.float64)
    return values


def _column(history: pd.DataFrame, name: str) -> FloatArray:
    if name not in history:
        return np.zeros(len(history))
    values: FloatArray = np.nan_to_num(history[name].to_numpy(dtype=np.float64))
    return values


def split_factor(history: pd.DataFrame, days: DateArray | None = None) -> FloatArray:
    """By how much each row's prices are to be multiplied, and its volume divided, to be as printed on its day."""
    days = _days(history) if days is None else days
    ratios = _column(history, "Stock Splits")
    return later_split_factor(days, days[ratios > 0], ratios[ratios > 0])


def _instruments(answers: Sequence[YahooHistory]) -> tuple[pl.DataFrame, list[Reject]]:
    """Descriptions of what can be dated and held, and why the others cannot."""
    undated = [_undated(answer) for answer in answers if _exchange(answer) is None]
    rows = [_instrument(answer) for answer in answers if _exchange(answer) is not None]
    found, unfit = validate_instruments(pl.DataFrame(rows, schema=INSTRUMENTS_SCHEMA))
    return found, undated + unfit


def _asset_class(answer: YahooHistory) -> str:
    kind = str(answer.meta.get("instrumentType", ""))
    return ASSET_CLASS_OF.get(kind, kind.lower())


def _exchange(answer: YahooHistory) -> str | None:
    return CALENDAR_OF.get(_asset_class(answer), EXCHANGES.get(str(answer.meta.get("exchangeName", ""))))


def _undated(answer: YahooHistory) -> Reject:
    code = answer.meta.get("exchangeName")
    return Reject(
        "instruments", answer.symbol,
        f"{answer.symbol} trades at {code!r}, whose sessions are not known here, so its bars cannot be dated; take it "
        "out of universe.symbols, or bring its bars as files with an exchange of the same sessions",
        json_payload({"symbol": answer.symbol, "exchangeName": code}),
    )  # fmt: skip


def _instrument(answer: YahooHistory) -> dict[str, object]:
    meta = answer.meta
    first_trade = meta.get("firstTradeDate")
    # yfinance makes a timestamp of it; Yahoo omits it for some funds, which are then known from their first bar.
    listed = pd.Timestamp(first_trade or answer.history.index[0]).tz_convert("UTC")
    return {
        "source": NAME,
        "instrument": answer.symbol,
        "ts": listed.to_pydatetime(),
        "name": meta.get("longName") or meta.get("shortName"),
        "exchange": _exchange(answer),
        "currency": str(meta.get("currency", "")),
        "asset_class": _asset_class(answer),
        "price_basis": "raw",
        "lot_size": None,
        "tick_size": None,
        "member_from": listed.date(),
        "member_to": None,
        "known_at": listed.to_pydatetime(),
        "known_at_imputed": True,
    }


@contextmanager
def yfinance_session(
    access: Access, cache_dir: Path | None, digest: hashlib._Hash, route: str
) -> Iterator[Session[Response]]:
    """A session for yfinance, with the library told to raise its errors for as long as it lasts.

    Args:
        digest: takes in the answers whose address contains ``route``; what is no answer there is an error of ours.
    """
    import yfinance
    from yfinance.data import YfData

    if cache_dir is not None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        yfinance.set_tz_cache_location(str(cache_dir))
    # yfinance keeps every answer for the life of the process, failures included: a retry would see the failure again.
    YfData.cache_get.cache_clear()
    hidden = yfinance.config.debug.hide_exceptions
    yfinance.config.debug.hide_exceptions = False
    try:
        with warnings.catch_warnings():
            # yfinance calls pandas in ways that pandas 4 will drop: nothing that a user of ours can act on.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Not closed: yfinance keeps it for the process, and others in it may use yfinance too.
            yield _session(access, digest, route)
    finally:
        yfinance.config.debug.hide_exceptions = hidden


def _session(access: Access, digest: hashlib._Hash, route: str) -> Session[Response]:
    from curl_cffi import requests as curl

    persistence = access.persistence(NAME)
    passing = (
        curl.exceptions.ConnectionError,
        curl.exceptions.Timeout,
        curl.exceptions.ProxyError,
        # A body cut short, and HTTP/2 streams that end early.
        curl.exceptions.HTTPError,
        curl.exceptions.ChunkedEncodingError,
    )

    class YahooSession(curl.Session):  # type: ignore[type-arg]
        """Sends yfinance's requests to ``base_url`` with patience, hashes answers, refuses what is none."""

        refusals = 0

        def request(self, method: Any, url: str, *args: Any, **options: Any) -> Any:
            options["timeout"] = access.timeout_s
            send = super().request
            response: Any = persistence.send(
                method, lambda: send(method, rebased(url, access.base_url), *args, **options), passing
            )
            if route in url:
                status = response.status_code
                self.refusals = self.refusals + 1 if _is_refusal(status) else 0
                # yfinance meets the first with a fresh cookie, which mends no failure of the service; the second it
                # would take for an unknown symbol.
                if status >= 500 or self.refusals > 1:
                    raise SourceUnavailableError(
                        f"yahoo: HTTP {status}: the service refuses or is down; try again later"
                    )
                if status < 400:
                    _require_json(response)
                digest.update(response.content)
            return response

    return YahooSession(impersonate="chrome")


def _is_refusal(status: int) -> bool:
    """The service failed, as opposed to not knowing a symbol (404) or asking for patience (429)."""
    return status >= 400 and status not in (404, 422, 429)


def _require_json(response: Any) -> None:
    try:
        json.loads(response.content)
    except ValueError as error:
        raise SourceUnavailableError(
            f"yahoo: an answer of {len(response.content)} bytes that is not JSON: the service or a proxy in between "
            "does not answer as Yahoo; check OCTOPUS_YAHOO_URL and the proxy, or try again later"
        ) from error


def ask_history(
    symbol: str, start: date, session: Session[Response], timeout_s: float, interval: str = "1d"
) -> YahooHistory | Reject:
    """What Yahoo has of ``symbol`` from ``start`` to the present, by yfinance; a reject where it knows none.

    Raises:
        SourceUnavailableError: Yahoo limits the rate, is down, cannot be reached or answers no data.
    """
    import yfinance
    from curl_cffi.requests.exceptions import RequestException
    from yfinance.exceptions import YFException, YFRateLimitError, YFTickerMissingError

    try:
        ticker = yfinance.Ticker(symbol, session=session)
        history = ticker.history(
            start=start, interval=interval, auto_adjust=False, back_adjust=False, actions=True, repair=False,
            keepna=True, timeout=timeout_s,
        )  # fmt: skip
        # Field by field: taking all of it would make yfinance ask Yahoo for intraday hours.
        answer = ticker.get_history_metadata()
        meta = {field: answer[field] for field in _META_FIELDS if field in answer}
    except YFRateLimitError as error:
        raise SourceUnavailableError("yahoo: HTTP 429, too many requests; wait some minutes and try again") from error
    except YFTickerMissingError as error:
        return _unknown(symbol, str(error))
    except YFException as error:
        raise SourceUnavailableError(f"yahoo: {error}; try again later") from error
    except RequestException as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 404:
            return _unknown(symbol, "HTTP 404")
        raise SourceUnavailableError(
            f"yahoo: no answer for {symbol} ({type(error).__name__}); check the network, the proxy and "
            "OCTOPUS_YAHOO_URL"
        ) from error
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        # The answer is JSON, yet not in the form that yfinance reads: this symbol's record is malformed.
        return Reject(
            "bars", symbol, f"the answer for {symbol} is malformed: {type(error).__name__} {error}", {"symbol": symbol}
        )
    return YahooHistory(symbol, history, meta)


def _unknown(symbol: str, why: str) -> Reject:
    return Reject(
        "bars", symbol, f"Yahoo has no prices for {symbol}; check its spelling on finance.yahoo.com",
        json_payload({"symbol": symbol, "answer": why}),
    )  # fmt: skip
