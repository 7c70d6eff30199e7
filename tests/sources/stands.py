"""Every source at a stand of its own: a few records in its vendor's wire form, and the fetch that brings them.

Belongs here: what any fault can be played with. Does not: what is particular to one vendor (its own test file).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
from chaos_server import ChaosVendor, chaos, says

from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from resources.sources.alpaca import AlpacaMarketData
from resources.sources.alpaca_news import AlpacaNews
from resources.sources.alphavantage import AlphaVantageMarketData
from resources.sources.base import MarketDataSource, NewsSource, SocialSource, whole
from resources.sources.coingecko import CoinGeckoMarketData
from resources.sources.files import FileMarketData
from resources.sources.http import Access
from resources.sources.newsapi import NewsApiNews
from resources.sources.reddit import RedditPosts
from resources.sources.rss import RssNews
from resources.sources.stocktwits import StockTwitsPosts
from resources.sources.text_files import FileNews, FilePosts
from resources.sources.x import XPosts
from resources.sources.yahoo import YahooMarketData
from resources.sources.yahoo_news import YahooNews

NAMES = {"AAPL": "Apple Inc."}
WINDOW = (datetime(2022, 12, 26, tzinfo=UTC), datetime(2022, 12, 28, tzinfo=UTC))
LATER = datetime(2022, 12, 28, 12, tzinfo=UTC)
FIVE = [date(2022, 12, day) for day in (20, 21, 22, 23, 27)]
"""Sessions of the bars, oldest first."""
HOURS = [datetime(2022, 12, 27, hour, tzinfo=UTC) for hour in range(10, 15)]
"""Instants of the texts, oldest first."""


@dataclass(frozen=True)
class Delivery:
    """What one fetch brings for one raw table."""

    table: str
    frame: pl.DataFrame
    rejects: list[Reject]


@dataclass(frozen=True)
class Stand:
    """One source.

    Attributes:
        source: its name, with which its errors begin.
        table: where its records go.
        route: part of the path that they come from.
        records: five, oldest first, in the vendor's form.
        body: an answer that holds the records given.
        fetch: by way of an access; what it brings for each table.
        make: the source itself.
        kind: content type of an answer.
        path: the file that the source reads instead of asking anybody.
        symbol: of whom the bars are. on: of bars, the record as it would be of another day.
    """

    source: str
    table: str
    route: str
    records: Sequence[Any]
    body: Callable[[Sequence[Any]], bytes]
    fetch: Callable[[Access], list[Delivery]]
    make: Callable[[Access], Any]
    kind: str = "application/json"
    path: Path | None = None
    symbol: str = "AAPL"
    on: Callable[[Any, date], Any] | None = None


SIDES: Mapping[str, tuple[bytes, str]] = {
    "/api/v1/access_token": (
        b'{"access_token": "t", "token_type": "bearer", "expires_in": 3600, "scope": "*"}', "application/json",
    ),
    "getcrumb": (b"crumb", "text/plain"),
    "/v1/corporate-actions": (
        b'{"corporate_actions": {"cash_dividends": [{"id": "1", "symbol": "AAPL", "ex_date": "2022-12-22", '
        b'"rate": 0.23}]}, "next_page_token": null}',
        "application/json",
    ),
    "/coins/markets": (b'[{"id": "bitcoin", "name": "Bitcoin"}]', "application/json"),
    # Candles that last a day each, stamped with its end.
    "/ohlc": (
        json.dumps(
            [[1000 * int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + 86_400_000,
              16_700.0, 17_000.0, 16_600.0, 16_800.0] for day in FIVE]
        ).encode(),
        "application/json",
    ),
    "SYMBOL_SEARCH": (
        b'{"bestMatches": [{"1. symbol": "AAPL", "2. name": "Apple Inc", "3. type": "Equity", "8. currency": "USD"}]}',
        "application/json",
    ),
}  # fmt: skip
"""What the vendors answer beside the records: route → body and content type."""


@contextmanager
def vendors() -> Iterator[ChaosVendor]:
    """A server that answers what sources ask beside the records; a test says what else it plays."""
    with chaos() as running:
        for route, (body, kind) in SIDES.items():
            running.plays(route, [], then=says(body, kind=kind))
        yield running


def stands(folder: Path, yfinance_cache: Path) -> dict[str, Stand]:
    """Every stand by name.

    Args:
        folder: where the sources ``files`` find theirs.
    """
    bars, news, posts = folder / "bars.csv", folder / "news.csv", folder / "posts.csv"
    made = {
        "alpaca": _bars("alpaca", "/v2/stocks/bars", [_stock(day) for day in FIVE], _stocks,
                        lambda access: AlpacaMarketData("key", "secret", access, now=_later),
                        lambda record, day: record | {"t": _stock(day)["t"]}),
        "alphavantage": _bars("alphavantage", "TIME_SERIES_DAILY_ADJUSTED", [_daily(day) for day in FIVE], _series,
                              lambda access: AlphaVantageMarketData("key", access, now=_later), _daily_on),
        "alphavantage pairs": _bars("alphavantage", "FX_DAILY", [_daily(day) for day in FIVE], _series,
                                    lambda access: AlphaVantageMarketData("key", access, now=_later), _daily_on,
                                    "EURUSD"),
        "coingecko": _bars("coingecko", "/market_chart", [_midnight(day) for day in FIVE], _coin,
                           lambda access: CoinGeckoMarketData("key", access, now=_later),
                           lambda record, day: [_midnight(day)[0], record[1]], "BTC"),
        "files": _bars("files", "", [_line(day) for day in FIVE], _lines,
                       lambda _access: FileMarketData(bars, now=_later),
                       lambda record, day: ",".join(["AAPL", str(day), *record.split(",")[2:]]), path=bars),
        "yahoo": _bars("yahoo", "/v8/finance/chart", [_opened(day) for day in FIVE], _chart,
                       lambda access: YahooMarketData(access, yfinance_cache, now=_later),
                       lambda record, day: (_opening(day), *record[1:])),
        "files news": _texts("files", "news", "", [_row(at) for at in HOURS], _rows("published_at,title"),
                             lambda _access: FileNews(news, _later), path=news),
        "files posts": _texts("files", "social_posts", "", [_row(at) for at in HOURS], _rows("created_at,text"),
                              lambda _access: FilePosts(posts, _later), path=posts),
        "alpaca news": _texts("alpaca", "news", "/v1beta1/news", [_benzinga(at) for at in HOURS], _benzingas,
                              lambda access: AlpacaNews("key", "secret", access, now=_later)),
        "newsapi": _texts("newsapi", "news", "/v2/everything", [_article(at) for at in HOURS], _articles,
                          lambda access: NewsApiNews("key", access, now=_later)),
        "rss": _texts("rss", "news", "/feed.xml", [_entry(at) for at in HOURS], _feed,
                      lambda access: RssNews({"feed": f"{access.base_url}/feed.xml"}, access, now=_later),
                      kind="application/rss+xml"),
        "yahoo news": _texts("yahoo", "news", "/v1/finance/search", [_headline(at) for at in HOURS], _headlines,
                             lambda access: YahooNews(access, yfinance_cache, now=_later)),
        "reddit": _texts("reddit", "social_posts", "/r/stocks", [_submission(at) for at in HOURS], _listing,
                         lambda access: RedditPosts("id", "secret", "test: octopus", ["stocks"], access, now=_later)),
        "stocktwits": _texts("stocktwits", "social_posts", "/api/2/streams", [_message(at) for at in HOURS], _stream,
                             lambda access: StockTwitsPosts(access, now=_later)),
        "x": _texts("x", "social_posts", "/2/tweets/search/recent", [_post(at) for at in HOURS], _posts,
                    lambda access: XPosts("token", access, now=_later)),
    }  # fmt: skip
    return dict(sorted(made.items()))


def _later() -> datetime:
    return LATER


def _bars(
    source: str, route: str, records: Sequence[Any], body: Callable[[Sequence[Any]], bytes],
    make: Callable[[Access], MarketDataSource], on: Callable[[Any, date], Any], symbol: str = "AAPL",
    path: Path | None = None,
) -> Stand:  # fmt: skip
    def fetch(access: Access) -> list[Delivery]:
        data = whole(make(access).fetch([symbol], FIVE[0], FIVE[-1], Sessions()))
        frames = {"instruments": data.instruments, "corporate_actions": data.actions, "bars": data.bars,
                  "adjusted_closes": data.adjusted}  # fmt: skip
        return [
            Delivery(table, frame, [reject for reject in data.rejects if reject.table == table])
            for table, frame in frames.items()
        ]

    return Stand(source, "bars", route, records, body, fetch, make, path=path, symbol=symbol, on=on)


def _texts(
    source: str, table: str, route: str, records: Sequence[Any], body: Callable[[Sequence[Any]], bytes],
    make: Callable[[Access], NewsSource | SocialSource], kind: str = "application/json", path: Path | None = None,
) -> Stand:  # fmt: skip
    def fetch(access: Access) -> list[Delivery]:
        found = make(access).fetch(NAMES, *WINDOW)
        return [Delivery(table, found.items, found.rejects)]

    return Stand(source, table, route, records, body, fetch, make, kind, path)


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _close(day: date) -> float:
    return 130.0 + day.day


# -- bars ------------------------------------------------------------------------------------------------------------


def _stock(day: date) -> dict[str, Any]:
    return {"t": f"{day}T05:00:00Z", "o": 131.4, "h": 170.0, "l": 120.7, "c": _close(day), "v": 69_000_000 + day.day}


def _stocks(records: Sequence[Any]) -> bytes:
    return _json({"bars": {"AAPL": list(records)} if records else {}, "next_page_token": None})


def _daily(day: date) -> tuple[str, dict[str, str]]:
    return str(day), {
        "1. open": "131.38", "2. high": "170.0", "3. low": "120.72", "4. close": str(_close(day)),
        "5. adjusted close": str(_close(day) - 1), "6. volume": str(69_000_000 + day.day),
        "7. dividend amount": "0.23" if day == FIVE[2] else "0.0", "8. split coefficient": "1.0",
    }  # fmt: skip


def _daily_on(record: tuple[str, dict[str, str]], day: date) -> tuple[str, dict[str, str]]:
    return str(day), record[1]


def _series(records: Sequence[tuple[str, dict[str, str]]]) -> bytes:
    # By hand: a day that is sent twice is a name that comes twice in its object.
    days = ", ".join(f'"{day}": {json.dumps(bar)}' for day, bar in records)
    return f'{{"Time Series (Daily)": {{{days}}}}}'.encode()


def _midnight(day: date) -> list[float]:
    ends = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return [int(ends.timestamp()) * 1000, 16_700.0 + day.day]


def _coin(records: Sequence[Any]) -> bytes:
    volumes = [[at, 15e9 + 1e6 * price] for at, price in records]
    return _json({"prices": list(records), "total_volumes": volumes, "market_caps": []})


def _line(day: date) -> str:
    return f"AAPL,{day},131.38,170.0,120.72,{_close(day)},{69_000_000 + day.day}"


def _lines(records: Sequence[str]) -> bytes:
    return "\n".join(["instrument,session,open,high,low,close,volume", *records, ""]).encode()


def _opening(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC).timestamp())


def _opened(day: date) -> tuple[int, float, int]:
    at = _opening(day)
    return at, 130.0 + at % 7, at % 1000


def _chart(records: Sequence[tuple[int, float, int]]) -> bytes:
    """Yahoo's bars by opening (seconds since 1970), price and volume, and a dividend with the third."""
    stamps, prices, volumes = [at for at, _, _ in records], [price for _, price, _ in records], [n for *_, n in records]
    meta = {
        "currency": "USD", "symbol": "AAPL", "exchangeName": "NMS", "instrumentType": "EQUITY",
        "firstTradeDate": 345479400, "exchangeTimezoneName": "America/New_York", "validRanges": ["1d"],
    }  # fmt: skip
    quote = dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": volumes}
    paid = [at for at, *bar in records if bar == [*_opened(FIVE[2])[1:]]][:1]
    events = {"events": {"dividends": {str(at): {"amount": 0.23, "date": at} for at in paid}}} if paid else {}
    result = {"meta": meta, "timestamp": stamps, "indicators": {"quote": [quote]}, **events}
    return _json({"chart": {"error": None, "result": [result]}})


# -- texts -----------------------------------------------------------------------------------------------------------


def _title(at: datetime) -> str:
    return f"Apple opens shop {at.hour}"


def _benzinga(at: datetime) -> dict[str, Any]:
    return {
        "id": 41_000_000 + at.hour, "headline": _title(at), "summary": "", "author": "Newsdesk", "source": "benzinga",
        "created_at": _iso(at), "updated_at": _iso(at), "symbols": ["AAPL"], "url": f"https://example.org/{at.hour}",
    }  # fmt: skip


def _benzingas(records: Sequence[Any]) -> bytes:
    return _json({"news": list(records), "next_page_token": None})


def _article(at: datetime) -> dict[str, Any]:
    return {"title": _title(at), "url": f"https://example.org/{at.hour}", "publishedAt": _iso(at), "description": ""}


def _articles(records: Sequence[Any]) -> bytes:
    return _json({"status": "ok", "totalResults": len(records), "articles": list(records)})


def _entry(at: datetime) -> str:
    address = f"https://example.org/{at.hour}"
    return (
        f"<item><title>{_title(at)}</title><guid>{address}</guid><link>{address}</link>"
        f"<pubDate>{format_datetime(at, usegmt=True)}</pubDate></item>"
    )


def _feed(records: Sequence[str]) -> bytes:
    inner = "".join(records)
    return f'<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>{inner}</channel></rss>'.encode()


def _headline(at: datetime) -> dict[str, Any]:
    return {
        "uuid": f"57ea9c09-{at.hour}", "title": _title(at), "publisher": "Press", "type": "STORY",
        "link": f"https://example.org/{at.hour}", "providerPublishTime": int(at.timestamp()),
        "relatedTickers": ["AAPL"],
    }  # fmt: skip


def _headlines(records: Sequence[Any]) -> bytes:
    return _json({"quotes": [], "news": list(records)})


def _submission(at: datetime) -> dict[str, Any]:
    return {
        "kind": "t3",
        "data": {
            "id": f"a{at.hour}", "name": f"t3_a{at.hour}", "title": f"$AAPL to the moon {at.hour}", "selftext": "",
            "author": "someone", "edited": False, "created_utc": at.timestamp(), "permalink": f"/r/stocks/{at.hour}",
        },
    }  # fmt: skip


def _listing(records: Sequence[Any]) -> bytes:
    return _json({"kind": "Listing", "data": {"after": None, "before": None, "children": list(records)}})


def _message(at: datetime) -> dict[str, Any]:
    return {
        "id": 155_000_000 + at.hour, "body": f"$AAPL to the moon {at.hour}", "created_at": _iso(at),
        "user": {"username": "someone"}, "symbols": [{"symbol": "AAPL"}],
    }  # fmt: skip


def _stream(records: Sequence[Any]) -> bytes:
    return _json({"response": {"status": 200}, "cursor": {"more": False}, "messages": list(records)})


def _post(at: datetime) -> dict[str, Any]:
    return {
        "id": str(1_600_000_000_000_000_000 + at.hour), "text": f"$AAPL to the moon {at.hour}",
        "created_at": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "author_id": "1",
    }  # fmt: skip


def _row(at: datetime) -> str:
    return f"{_iso(at)},{_title(at)}"


def _rows(columns: str) -> Callable[[Sequence[str]], bytes]:
    return lambda records: "\n".join([columns, *records, ""]).encode()


def _posts(records: Sequence[Any]) -> bytes:
    return _json({"meta": {"result_count": len(records)}} | ({"data": list(records)} if records else {}))
