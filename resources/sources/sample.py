"""The sample source: prices, events and posts that need no network and no key.

Belongs here: reading the recorded prices inside the package `skfolio` and the texts in `data/`. Does not: any vendor.

The prices are total-return index closes of 20 companies of the S&P 500, chosen because they survived, rounded to three
decimals. All use the calendar of XNYS, whatever their listing, so that they share their sessions. The events were
chosen in hindsight and the posts are synthetic, and both are flagged so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from octopus.alternative_data.schema import NEWS_SCHEMA, POSTS_SCHEMA, UTC_INSTANT
from octopus.alternative_data.stamps import known_after_date
from octopus.alternative_data.texts import text_hash
from octopus.alternative_data.validate import validate_news, validate_posts
from octopus.core.errors import SourceUnavailableError
from octopus.core.ids import fingerprint
from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.market_data.schema import ACTIONS_SCHEMA, INSTRUMENTS_SCHEMA
from octopus.market_data.stamps import stamp_bars
from octopus.market_data.validate import validate_bars
from resources.sources.base import MarketData, TextItems

NAME = "sample"

RECORDED_TO = date(2022, 12, 28)
"""The last session of the recording."""

COMPANIES: Mapping[str, str] = {
    "AAPL": "Apple Inc.",
    "AMD": "Advanced Micro Devices, Inc.",
    "BAC": "Bank of America Corporation",
    "BBY": "Best Buy Co., Inc.",
    "CVX": "Chevron Corporation",
    "GE": "General Electric Company",
    "HD": "The Home Depot, Inc.",
    "JNJ": "Johnson & Johnson",
    "JPM": "JPMorgan Chase & Co.",
    "KO": "The Coca-Cola Company",
    "LLY": "Eli Lilly and Company",
    "MRK": "Merck & Co., Inc.",
    "MSFT": "Microsoft Corporation",
    "PEP": "PepsiCo, Inc.",
    "PFE": "Pfizer Inc.",
    "PG": "The Procter & Gamble Company",
    "RRC": "Range Resources Corporation",
    "UNH": "UnitedHealth Group Incorporated",
    "WMT": "Walmart Inc.",
    "XOM": "Exxon Mobil Corporation",
}

_TEXTS = Path(__file__).parent / "data"


class SampleMarketData:
    """Prices of 20 companies, 1990-01-02 to 2022-12-28 (`RECORDED_TO`), total-return closes only.

    Args:
        path: the file of prices; by default the one inside the installed package `skfolio`.
    """

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """As `MarketDataSource.fetch`, in one part; no symbols means all. A symbol that it lacks is a reject."""
        path = self._path or sample_prices_path()
        wide = _read_prices(path)
        held = wide.columns[1:]
        wanted = sorted(symbols) if symbols else held
        present = [symbol for symbol in wanted if symbol in held]
        first = wide["session"].min()
        long = (
            wide.filter(pl.col("session").is_between(start, end))
            .select("session", *present)
            .unpivot(index="session", variable_name="instrument", value_name="close")
            .sort("instrument", "session")
            .with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("open", "high", "low", "volume"))
            .with_columns(source=pl.lit(NAME))
        )
        bars, rejects = validate_bars(stamp_bars(long, sessions), sessions)
        rejects += [
            Reject("bars", symbol, f"the sample has no symbol {symbol}", {"symbol": symbol, "known": held})
            for symbol in wanted
            if symbol not in held
        ]
        yield MarketData(
            asked=tuple(wanted),
            instruments=_instruments(present, first, sessions)
            if isinstance(first, date)
            else INSTRUMENTS_SCHEMA.to_frame(),
            bars=bars,
            actions=ACTIONS_SCHEMA.to_frame(),
            rejects=rejects,
            payload_hash=fingerprint(path.read_bytes().hex()),
        )


class SampleNews:
    """Well-known events of the 20 companies, chosen in hindsight and flagged so.

    An event counts from the session after its date, also where its hour is known.
    """

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(self, path: Path | None = None, sessions: Sessions | None = None) -> None:
        self._path = path or _TEXTS / "sample_events.csv"
        self._sessions = sessions or Sessions()

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `NewsSource.fetch`; no names means all."""
        raw = _read_texts(self._path, ("event_id", "symbol", "date", "time_utc", "headline", "source", "kind"))
        day = raw["date"].str.to_date("%Y-%m-%d", strict=False)
        clock = pl.coalesce(
            pl.col("time_utc").str.to_time("%H:%M:%S", strict=False),
            pl.col("time_utc").str.to_time("%H:%M", strict=False),
        )
        dates = pl.DataFrame(
            {"day": day.unique().drop_nulls()},
        ).with_columns(counts=pl.col("day").map_elements(self._counts_from, return_dtype=UTC_INSTANT))
        frame = (
            raw.with_columns(day=day, clock=clock.fill_null(pl.time(0, 0)))
            .join(dates, on="day", how="left", maintain_order="left")
            .with_columns(ts=pl.col("day").dt.combine(pl.col("clock"), time_unit="us").dt.replace_time_zone("UTC"))
            .select(
                source=pl.lit(NAME),
                instrument="symbol",
                ts="ts",
                item_id="event_id",
                title="headline",
                body=pl.lit(None, pl.String),
                url=pl.lit(None, pl.String),
                publisher="source",
                synthetic=pl.lit(value=False),
                hindsight=pl.lit(value=True),
                text_hash=_hashes("headline"),
                known_at=pl.max_horizontal("ts", "counts"),
                known_at_imputed=pl.lit(value=True),
            )
            .cast(NEWS_SCHEMA)
        )
        items, rejects = validate_news(_of_window(frame, names, start_utc, end_utc))
        return TextItems(items, rejects, fingerprint(self._path.read_bytes().hex()))

    def _counts_from(self, day: date) -> datetime:
        return known_after_date(day, self._sessions)


class SamplePosts:
    """Synthetic posts about the 20 companies, flagged so."""

    name = NAME
    needs: tuple[str, ...] = ()

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or _TEXTS / "sample_posts.csv"

    def fetch(self, names: Mapping[str, str], start_utc: datetime, end_utc: datetime) -> TextItems:
        """As `SocialSource.fetch`; no names means all."""
        raw = _read_texts(self._path, ("post_id", "symbol", "created_at_utc", "author", "text", "synthetic"))
        created = (
            pl.col("created_at_utc")
            .str.replace("Z$", "+00:00")
            .str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        )
        frame = raw.select(
            source=pl.lit(NAME),
            instrument="symbol",
            ts=created,
            item_id="post_id",
            author="author",
            body="text",
            url=pl.lit(None, pl.String),
            upvotes=pl.lit(None, pl.Int64),
            # Whatever the file says: nothing in it was ever posted.
            synthetic=pl.lit(value=True),
            text_hash=_hashes("text"),
            known_at=created,
            known_at_imputed=pl.lit(value=True),
        ).cast(POSTS_SCHEMA)
        items, rejects = validate_posts(_of_window(frame, names, start_utc, end_utc))
        return TextItems(items, rejects, fingerprint(self._path.read_bytes().hex()))


def sample_prices_path() -> Path:
    """The file of prices inside `skfolio`, found without importing it (which takes seconds).

    Raises:
        SourceUnavailableError: the package or the file is not there.
    """
    spec = importlib.util.find_spec("skfolio")
    if spec is None or spec.origin is None:
        raise SourceUnavailableError("sample: the package skfolio, which carries the prices, is missing: install it")
    return Path(spec.origin).parent / "datasets" / "data" / "sp500_dataset.csv.gz"


def _read_prices(path: Path) -> pl.DataFrame:
    """Sessions × symbols: first column ``session``, then one column of closes for each symbol."""
    if not path.is_file():
        raise SourceUnavailableError(f"sample: no prices at {path}: install skfolio again, this version moved the file")
    wide = pl.read_csv(path, try_parse_dates=False).rename({"Date": "session"})
    return wide.with_columns(pl.col("session").str.to_date("%Y-%m-%d"), pl.exclude("session").cast(pl.Float64))


def _instruments(symbols: Sequence[str], first: date, sessions: Sessions) -> pl.DataFrame:
    listed = sessions.open_utc(first)
    return pl.DataFrame(
        {"instrument": list(symbols), "name": [COMPANIES.get(symbol) for symbol in symbols]},
        schema={"instrument": pl.String, "name": pl.String},
    ).select(
        source=pl.lit(NAME),
        instrument="instrument",
        ts=pl.lit(listed).cast(UTC_INSTANT),
        name="name",
        exchange=pl.lit(sessions.exchange),
        currency=pl.lit("USD"),
        asset_class=pl.lit("equity"),
        price_basis=pl.lit("total_return"),
        lot_size=pl.lit(None, pl.Float64),
        tick_size=pl.lit(None, pl.Float64),
        member_from=pl.lit(first),
        member_to=pl.lit(None, pl.Date),
        known_at=pl.lit(listed).cast(UTC_INSTANT),
        known_at_imputed=pl.lit(value=True),
    )


def _read_texts(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    if not path.is_file():
        raise SourceUnavailableError(f"sample: no file {path}: install the package again, it ships with it")
    frame = pl.read_csv(path, infer_schema=False)
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise SourceUnavailableError(
            f"sample: {path.name} has no column {', '.join(lacking)}: install the package again"
        )
    return frame.select(columns)


def _hashes(column: str) -> pl.Expr:
    return pl.col(column).map_elements(text_hash, return_dtype=pl.String, skip_nulls=False)


def _of_window(frame: pl.DataFrame, names: Mapping[str, str], start: datetime, end: datetime) -> pl.DataFrame:
    """Rows of the instruments asked for and of the window; a row without a readable time stays, to be refused."""
    inside = pl.col("ts").is_null() | ((pl.col("ts") >= start.astimezone(UTC)) & (pl.col("ts") < end.astimezone(UTC)))
    frame = frame.filter(inside)
    return frame.filter(pl.col("instrument").is_in(sorted(names))) if names else frame
