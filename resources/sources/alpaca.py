"""Alpaca through alpaca-py: raw bars of US stocks, daily and within the day, and what happened to their shares.

Belongs here: asking Alpaca's market data and turning its answers into bars and actions. Does not: its trading
(resources/brokers), repairing or adjusting prices.

The free feed `iex` sees the trades of one exchange, a few per cent of the volume: its prices differ slightly from the
consolidated tape's and its volumes by a multiple. `sip` is the tape and needs a subscription.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.rejects import Reject, json_payload
from octopus.core.sessions import FIRST_SESSION, Sessions
from octopus.market_data.intraday import settle_intraday
from octopus.market_data.parse import read_fields, records_frame
from octopus.market_data.schema import INSTRUMENTS_SCHEMA
from octopus.market_data.settle import settle_actions, settle_bars
from octopus.market_data.stamps import BAR_PUBLICATION_DELAY, undated_listing
from octopus.market_data.validate import validate_instruments
from resources.sources.base import IntradayPart, MarketData, require_key
from resources.sources.http import Access, VendorSession

NAME = "alpaca"
KEY, SECRET = "ALPACA_API_KEY", "ALPACA_API_SECRET"
FEEDS = ("iex", "sip", "delayed_sip", "otc")
MARKET_ZONE = "America/New_York"

_BATCH = 100
"""Symbols in one request: an address may not grow without end."""

_PROCESSED_WITHIN = timedelta(days=100)
"""How long after its ex-date an action may be processed: dividends are paid, and processed, weeks later."""

_BAR_FIELDS: Mapping[str, str] = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_INTRADAY_FIELDS: Mapping[str, str] = {**_BAR_FIELDS, "vwap": "vw"}

_DAY_MINUTES = 960
"""So many minutes of a day Alpaca has bars of: from 04:00 to 20:00 in New York."""

_PART_BARS = 200_000
"""About so many bars are asked for before they are stored."""

_UNEXPRESSED: Mapping[str, str] = {
    "unit_splits": "old_symbol",
    "stock_mergers": "acquiree_symbol",
    "stock_and_cash_mergers": "acquiree_symbol",
    "rights_distributions": "source_symbol",
}
"""Kinds that our actions cannot say, because the holder gets shares of another company: by whom they concern."""


class AlpacaMarketData:
    """Daily bars as printed and corporate actions of US stocks and funds.

    Sessions are Alpaca's days in New York. Alpaca does not say when a bar or an action was known: that is imputed. It
    describes no instrument here: name and tick are missing and every one is an equity in USD.

    Actions: forward and reverse splits; a stock dividend of 5 % is a split of 1.05; cash dividends of one ex-date are
    summed; spin-offs; name changes that change the symbol; cash mergers, redemptions and worthless removals are
    delistings with what was paid. Mergers into other shares, unit splits and rights are rejects: a person decides.

    Args:
        api_key, api_secret: values of ALPACA_API_KEY and ALPACA_API_SECRET.
        access: where its requests go, how long they may take and how often they are sent.
        feed: one of `FEEDS`.
        now: what time it is, to leave out a session that is still trading.
    """

    name = NAME
    needs: tuple[str, ...] = (KEY, SECRET)

    def __init__(
        self,
        api_key: str | None,
        api_secret: str | None,
        access: Access | None = None,
        *,
        feed: str = "iex",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key = require_key(KEY, api_key, NAME)
        self._secret = require_key(SECRET, api_secret, NAME)
        if feed not in FEEDS:
            raise ConfigError(where=NAME, field="feed", value=feed, remedy=f"choose one of {', '.join(FEEDS)}")
        self._access = access or Access()
        self._feed = feed
        self._now = now

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """As `MarketDataSource.fetch`, a part for each request's symbols; one unknown, or without bars, is a reject.

        Raises:
            SourceUnavailableError: Alpaca limits the rate, is down, cannot be reached or answers no data.
            ConfigError: the keys are refused, or their plan does not include the feed.
        """
        first = max(start, date.fromisoformat(FIRST_SESSION))
        wanted = sorted(set(symbols))
        for row in range(0, len(wanted), _BATCH):
            yield self._part(wanted[row : row + _BATCH], first, end, sessions)

    def _part(self, symbols: Sequence[str], first: date, end: date, sessions: Sessions) -> MarketData:
        now = self._now()
        with self._access.session(NAME) as session:
            answers, unknown = self._bars(session, symbols, first, end)
            held = [symbol for symbol in symbols if symbol not in unknown]
            # Alpaca finds an action by the day it processed it, which may be weeks after a dividend's ex-date: one that
            # was not there when its session was asked for is among those processed since.
            events = self._events(session, held, first, max(end, now.astimezone(UTC).date()))
        begun, rejects = _bar_frames(answers)
        session_of = pl.col("begun").dt.convert_time_zone(MARKET_ZONE).dt.date()
        frames = [frame.with_columns(session=session_of).drop("begun") for frame in begun]
        settled = settle_bars(frames, first, end, sessions, now)
        acts, bad_events = action_frames(events, held)
        actions, bad_actions = settle_actions(acts, first - _PROCESSED_WITHIN, end, sessions)
        if _closed_sessions(first, end, sessions, now):
            unknown |= {symbol: "no bars" for symbol in held if not answers.get(symbol)}
        instruments, bad_instruments = validate_instruments(
            _instruments([symbol for symbol in held if symbol not in unknown], sessions)
        )
        return MarketData(
            asked=tuple(symbols),
            instruments=instruments,
            bars=settled.bars,
            actions=actions,
            rejects=[_unknown(symbol, why) for symbol, why in unknown.items()]
            + rejects + settled.rejects + bad_events + bad_actions + bad_instruments,
            payload_hash=session.payload_hash,
        )  # fmt: skip

    def fetch_intraday(
        self, symbols: Sequence[str], start: date, end: date, minutes: int, sessions: Sessions
    ) -> Iterator[IntradayPart]:
        """As `IntradaySource.fetch_intraday`, a part for each request's symbols and so many sessions as fit into one.

        Raises:
            as `fetch`.
        """
        wanted = sorted(set(symbols))
        for row in range(0, len(wanted), _BATCH):
            batch = wanted[row : row + _BATCH]
            days = max(_PART_BARS * minutes // (_DAY_MINUTES * len(batch)), 1)
            for first in (start + timedelta(days=day) for day in range(0, (end - start).days + 1, days)):
                yield self._intraday(batch, first, min(first + timedelta(days=days - 1), end), minutes, sessions)

    def _intraday(
        self, symbols: Sequence[str], first: date, last: date, minutes: int, sessions: Sessions
    ) -> IntradayPart:
        with self._access.session(NAME) as session:
            answers, unknown = self._bars(session, symbols, first, last, minutes)
        frames, rejects = _bar_frames(answers, _INTRADAY_FIELDS)
        bars, refused = settle_intraday(frames, minutes, first, last, sessions, self._now())
        told = [_unknown(symbol, why) for symbol, why in unknown.items()] + rejects
        meant = [replace(reject, table="intraday_bars") for reject in told]
        return IntradayPart(tuple(symbols), first, last, bars, meant + refused, session.payload_hash)

    def _bars(
        self, session: VendorSession, symbols: Sequence[str], start: date, end: date, minutes: int | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Raw bars by symbol, a day's or of so many minutes; symbols that Alpaca calls invalid with what it says."""
        from alpaca.data.enums import Adjustment, DataFeed
        from alpaca.data.historical.stock import StockHistoricalDataClient
        from alpaca.data.requests import StockBarsRequest
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        client = on_session(StockHistoricalDataClient(self._key, self._secret, raw_data=True), session)
        whole_hours = minutes is not None and minutes % 60 == 0
        length, unit = (1, "Day") if minutes is None else (minutes // 60, "Hour") if whole_hours else (minutes, "Min")

        def ask(batch: Sequence[str]) -> Mapping[str, Any]:
            request = StockBarsRequest(
                symbol_or_symbols=list(batch), timeframe=TimeFrame(length, TimeFrameUnit(unit)),
                start=datetime.combine(start, time(), UTC), end=datetime.combine(end + timedelta(days=1), time(), UTC),
                adjustment=Adjustment.RAW, feed=DataFeed(self._feed),
            )  # fmt: skip
            return answer_of(client.get_stock_bars, request, "bars")

        answers, invalid = in_batches(ask, symbols)
        found = {symbol: bars for batch, answer in answers for symbol, bars in answer.items() if symbol in batch}
        return found, invalid

    def _events(self, session: VendorSession, symbols: Sequence[str], start: date, end: date) -> dict[str, list[Any]]:
        """Raw corporate actions by Alpaca's kind; of no more symbols than one request takes."""
        from alpaca.data.historical.corporate_actions import CorporateActionsClient
        from alpaca.data.requests import CorporateActionsRequest

        client = on_session(CorporateActionsClient(self._key, self._secret, raw_data=True), session)
        if not symbols:
            return {}
        # Without a limit of our own the client reads all pages.
        request = CorporateActionsRequest(symbols=list(symbols), start=start, end=end, limit=None)
        try:
            answer = answer_of(client.get_corporate_actions, request, "corporate actions")
        except InvalidSymbolError as error:
            raise SourceUnavailableError(
                f"alpaca: corporate actions are refused: {error}; take that symbol out of the universe"
            ) from error
        return {kind: events if isinstance(events, list) else [events] for kind, events in answer.items()}


def action_frames(
    events: Mapping[str, Sequence[Any]], symbols: Sequence[str]
) -> tuple[list[pl.DataFrame], list[Reject]]:
    """Alpaca's corporate actions as ours; which becomes which, `AlpacaMarketData` says.

    Args:
        events: JSON objects by Alpaca's kind, any order; one sent twice (the same id) counts once.

    Returns:
        Frames of source, instrument, session, kind, value, detail; malformed events and kinds that cannot be expressed.
        Events of others than ``symbols`` (an acquirer's name finds them too) are left out.
    """
    frames: list[pl.DataFrame] = []
    rejects: list[Reject] = []
    for kind, held in sorted(events.items()):
        whole = [event for event in held if isinstance(event, Mapping)]
        rejects += [
            Reject("corporate_actions", None, f"a record of {kind} is no JSON object", json_payload({kind: event}))
            for event in held
            if not isinstance(event, Mapping)
        ]
        reader = _READERS.get(kind)
        if reader is None:
            rejects += _unexpressed(kind, whole, symbols)
            continue
        read, bad = reader.read(kind, whole)
        concerned = pl.col("instrument").is_in(symbols)
        if reader.kind == "symbol_change":
            concerned |= pl.col("detail").is_in(symbols)
        frames.append(read.filter(concerned))
        rejects += [reject for reject in bad if reject.instrument is None or reject.instrument in symbols]
    return frames, rejects


class _Reader:
    """How one of Alpaca's kinds is read.

    Args:
        kind: ours. day: field of the ex-date. numbers: its fields of numbers. value: what becomes of them.
        symbol, detail: fields of the instrument and of the other symbol. summed: values of one day are added.
    """

    def __init__(
        self,
        kind: str,
        value: pl.Expr,
        numbers: Sequence[str] = (),
        *,
        day: str = "ex_date",
        symbol: str = "symbol",
        detail: str | None = None,
        summed: bool = False,
    ) -> None:
        self.kind = kind
        self._value, self._numbers, self._day = value, tuple(numbers), day
        self._symbol, self._detail, self._summed = symbol, detail, summed

    def read(self, vendor_kind: str, events: Sequence[Mapping[str, Any]]) -> tuple[pl.DataFrame, list[Reject]]:
        fields = [self._symbol, self._day, *self._numbers, *([self._detail] if self._detail else [])]
        raw = records_frame(events, [*dict.fromkeys([*fields, "id"])]).with_columns(instrument=pl.col(self._symbol))
        once = raw.filter(pl.col("id").is_null() | pl.col("id").is_first_distinct())
        read, rejects = read_fields(
            once, table="corporate_actions", numbers=self._numbers, days=[self._day], required=fields
        )
        said = vendor_kind if self.kind == "delisting" else None
        frame = read.select(
            source=pl.lit(NAME), instrument="instrument", session=self._day, kind=pl.lit(self.kind),
            value=self._value.cast(pl.Float64),
            detail=pl.col(self._detail) if self._detail else pl.lit(said, pl.String),
        )  # fmt: skip
        if self.kind == "symbol_change":
            # A change of name or number alone leaves the symbol as it is.
            frame = frame.filter(pl.col("instrument") != pl.col("detail"))
        if self._summed:
            keys = [name for name in frame.columns if name != "value"]
            frame = frame.group_by(keys, maintain_order=True).agg(pl.col("value").sum()).select(frame.columns)
        return frame, rejects


_RATIO = pl.col("new_rate") / pl.col("old_rate")
_READERS: Mapping[str, _Reader] = {
    "forward_splits": _Reader("split", _RATIO, ["new_rate", "old_rate"]),
    "reverse_splits": _Reader("split", _RATIO, ["new_rate", "old_rate"]),
    "stock_dividends": _Reader("split", 1 + pl.col("rate"), ["rate"]),
    "cash_dividends": _Reader("dividend", pl.col("rate"), ["rate"], summed=True),
    "spin_offs": _Reader(
        "spin_off", pl.col("new_rate") / pl.col("source_rate"), ["new_rate", "source_rate"],
        symbol="source_symbol", detail="new_symbol",
    ),
    "name_changes": _Reader("symbol_change", pl.lit(1.0), day="process_date", symbol="old_symbol", detail="new_symbol"),
    "cash_mergers": _Reader("delisting", pl.col("rate"), ["rate"], day="effective_date", symbol="acquiree_symbol"),
    "redemptions": _Reader("delisting", pl.col("rate"), ["rate"], day="process_date"),
    "worthless_removals": _Reader("delisting", pl.lit(0.0), day="process_date"),
}  # fmt: skip


def _unexpressed(kind: str, events: Sequence[Mapping[str, Any]], symbols: Sequence[str]) -> list[Reject]:
    """Rejects of those that concern one of ``symbols``; of a kind that nobody knows, of all that may."""
    field = _UNEXPRESSED.get(kind)
    rejects = []
    for event in events:
        named = [event.get(field)] if field else [event[name] for name in sorted(event) if name.endswith("symbol")]
        concerned = [symbol for symbol in named if symbol in symbols]
        # No symbol at all: the kind is written in another way than all others, and may concern anybody.
        if concerned or not named:
            of = str(concerned[0]) if concerned else None
            known = "cannot be expressed as an action" if field else "is of a kind that is not known: update the source"
            reason = f"{kind} of {of or 'an instrument it does not name'} {known}: decide what became of its shares"
            rejects.append(Reject("corporate_actions", of, reason, json_payload(dict(event))))
    return rejects


def _bar_frames(
    answers: Mapping[str, Any], fields: Mapping[str, str] = _BAR_FIELDS
) -> tuple[list[pl.DataFrame], list[Reject]]:
    """Readable bars of each symbol with the instant at which they began, and those that are not readable."""
    frames: list[pl.DataFrame] = []
    rejects: list[Reject] = []
    for symbol, bars in answers.items():
        held = bars if isinstance(bars, list) else [bars]
        whole = [bar for bar in held if isinstance(bar, Mapping)]
        rejects += [
            Reject("bars", symbol, "the bar is no JSON object", json_payload({"bar": bar}))
            for bar in held
            if not isinstance(bar, Mapping)
        ]
        frame = records_frame(whole, ["t", *fields.values()]).select(
            source=pl.lit(NAME), instrument=pl.lit(symbol), begun="t",
            **{name: pl.col(field) for name, field in fields.items()},
        )  # fmt: skip
        needed = ["begun", *_BAR_FIELDS]
        read, bad = read_fields(frame, table="bars", numbers=list(fields), instants=["begun"], required=needed)
        frames.append(read)
        rejects += bad
    return frames, rejects


def on_session(client: Any, session: VendorSession) -> Any:
    """``client`` on our session, which has the patience: alpaca-py takes neither a session nor a limit of its retries
    as an argument, and its own wait 3 s three times whatever the server asks for."""
    client._session = session
    client._retry = 0
    return client


def in_batches(
    ask: Callable[[Sequence[str]], Mapping[str, Any]], symbols: Sequence[str]
) -> tuple[list[tuple[Sequence[str], Mapping[str, Any]]], dict[str, str]]:
    """Answers with the symbols they were asked for, and invalid symbols with what Alpaca says of them; a batch that one
    of these spoils is halved until that symbol stands alone."""
    found: list[tuple[Sequence[str], Mapping[str, Any]]] = []
    invalid: dict[str, str] = {}
    waiting = [symbols[row : row + _BATCH] for row in range(0, len(symbols), _BATCH)]
    while waiting:
        batch = waiting.pop(0)
        try:
            found.append((batch, ask(batch)))
        except InvalidSymbolError as error:
            if len(batch) == 1:
                invalid[batch[0]] = str(error)
            else:
                middle = len(batch) // 2
                waiting[:0] = [batch[:middle], batch[middle:]]
    return found, invalid


class InvalidSymbolError(Exception):
    """Alpaca refuses a whole request for one of its symbols."""


def answer_of(ask: Callable[[Any], Any], request: object, what: str) -> Mapping[str, Any]:
    import requests
    from alpaca.common.exceptions import APIError

    try:
        answer = ask(request)
    except APIError as error:
        status = int(error.status_code or 0)
        raise _refused(status, _message(str(error))) from error
    except requests.exceptions.JSONDecodeError as error:
        raise SourceUnavailableError(
            f"alpaca: the answer for {what} is not JSON: the service is down, the answer was cut or a proxy answers in "
            "its place; check OCTOPUS_ALPACA_URL and try again later"
        ) from error
    except requests.RequestException as error:
        raise SourceUnavailableError(
            f"alpaca: no answer for {what} ({type(error).__name__}); check the network, the proxy and "
            "OCTOPUS_ALPACA_URL"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        # JSON, yet nothing that alpaca-py can read; an empty body is among it.
        raise SourceUnavailableError(f"alpaca: the answer holds no {what}; the interface may have changed") from error
    if not isinstance(answer, Mapping):
        raise SourceUnavailableError(f"alpaca: the answer holds no {what}; the interface may have changed")
    return answer


def _refused(status: int, message: str) -> Exception:
    if status in (401, 403):
        return ConfigError(
            where="environment", field=f"{KEY}, {SECRET}", value="(hidden)",
            remedy=f"Alpaca refused them (HTTP {status}: {message}): set a valid pair, and in plans.alpaca.feed a feed "
            "of its plan",
        )  # fmt: skip
    if status == 429:
        return SourceUnavailableError("alpaca: HTTP 429, too many requests; wait a minute and try again")
    if status in (400, 422) and "symbol" in message.lower():
        return InvalidSymbolError(message)
    return SourceUnavailableError(f"alpaca: HTTP {status}: {message or 'no reason given'}; try again later")


def _message(body: str) -> str:
    """What Alpaca says in an error, on one line; nothing where the body is a page of something else."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return " ".join(str(answer.get("message", "")).split())[:200] if isinstance(answer, Mapping) else ""


def _closed_sessions(start: date, end: date, sessions: Sessions, now: datetime) -> bool:
    """Whether any session of the window should have a bar by now."""
    days = sessions.between(start, end)
    return len(days) > 0 and sessions.closes_utc(days[:1])[0] + BAR_PUBLICATION_DELAY <= now


def _unknown(symbol: str, why: str) -> Reject:
    return Reject(
        "bars", symbol, f"Alpaca has no bars of {symbol} in these sessions; check its spelling and that it was listed",
        json_payload({"symbol": symbol, "answer": why}),
    )  # fmt: skip


def _instruments(symbols: Sequence[str], sessions: Sessions) -> pl.DataFrame:
    listed = undated_listing(sessions)
    rows = [
        {
            "source": NAME, "instrument": symbol, "ts": listed, "name": None, "exchange": sessions.exchange,
            "currency": "USD", "asset_class": "equity", "price_basis": "raw", "lot_size": None, "tick_size": None,
            "member_from": None, "member_to": None, "known_at": listed, "known_at_imputed": True,
        }
        for symbol in symbols
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=INSTRUMENTS_SCHEMA)
