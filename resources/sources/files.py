"""Files of the user's own: daily bars, corporate actions and instruments from CSV or Parquet.

Belongs here: what their columns mean. Does not: reading tables (tables.py), any vendor's download format beyond the one
described here.

The files' form is that of tables.py. Dates are exchange-local session dates, YYYY-MM-DD. Times are ISO 8601 with an
offset (2024-01-31T21:15:00Z). Prices are in the instrument's currency, as printed on their day: neither adjusted for
splits nor for dividends.

Bars (required):

| column | | meaning |
|---|---|---|
| instrument | required | name in the universe |
| session | required | date of the session |
| open, high, low | optional field | prices; the columns must be there |
| close | required | price at the close |
| volume | optional field | shares or coins traded; the column must be there |
| adj_close | optional column | the vendor's own adjusted close, only compared with ours |
| known_at | optional column | when a trader could first have had the bar; imputed where empty |

Actions (optional file):

| column | | meaning |
|---|---|---|
| instrument, session | required | whose, and the ex-date |
| kind | required | split, dividend, spin_off, symbol_change or delisting |
| value | required | see `octopus.market_data.schema.ACTION_KINDS` |
| detail | optional column | the other symbol of a spin-off or a change |
| known_at | optional column | when it was announced; imputed as the open of the ex-date where empty |

Instruments (optional file; without it each is what the constructor says, a member for as long as it has bars); an
instrument with several times of membership has a line for each:

| column | | meaning |
|---|---|---|
| instrument | required | |
| name, exchange, currency, asset_class, price_basis, lot_size, tick_size | optional columns | as in the schema; the \
exchange's calendar (24/7 for a coin beside shares) says which days are sessions, and is the universe's where empty |
| member_from, member_to | optional columns | first and last session in the universe; open where empty |
| delisted | optional column | last session; ends the membership and makes an action |
| delisting_value | with delisted | last cash received for one share; 0 where it became worthless |
| known_at | optional column | when the line could be known; imputed as its beginning where empty |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from octopus.core.rejects import Reject, json_payload
from octopus.core.sessions import FIRST_SESSION, Calendars, Sessions
from octopus.market_data.schema import INSTRUMENTS_SCHEMA, UTC_INSTANT
from octopus.market_data.settle import settle_actions_by, settle_bars_by
from octopus.market_data.stamps import undated_listing
from octopus.market_data.validate import validate_instruments
from resources.sources.base import MarketData
from resources.sources.tables import NAME, Form, placed, read_table

_PRICES = ("open", "high", "low", "close")
_DAYS = ("session",)


BARS = Form(
    ("instrument", "session", *_PRICES, "volume"), ("adj_close", "known_at"), ("instrument", "session", "close")
)
ACTIONS = Form(
    ("instrument", "session", "kind", "value"), ("detail", "known_at"), ("instrument", "session", "kind", "value")
)
INSTRUMENTS = Form(
    ("instrument",),
    (
        "name", "exchange", "currency", "asset_class", "price_basis", "lot_size", "tick_size", "member_from",
        "member_to", "delisted", "delisting_value", "known_at",
    ),
    ("instrument",),
)  # fmt: skip


class FileMarketData:
    """Market data that the user owns, from files in the form described above this class's module.

    Bars: instrument, session, open, high, low, close, volume, optional adj_close and known_at. Actions: instrument,
    session, kind, value, optional detail and known_at. Instruments: instrument, optional name, exchange, currency,
    asset_class, price_basis, lot_size, tick_size, member_from, member_to, delisted, delisting_value and known_at.

    A wrong line is a reject that names file and line and loses no other.

    Args:
        bars, actions, instruments: files, ``.csv`` (also ``.csv.gz``) or ``.parquet``.
        name: the source that rows belong to; another for files with another price basis.
        currency, asset_class, price_basis: of instruments of which no file says more.
        now: what time it is, to leave out a session that is not over.
    """

    needs: tuple[str, ...] = ()

    def __init__(
        self,
        bars: Path,
        actions: Path | None = None,
        instruments: Path | None = None,
        *,
        name: str = NAME,
        currency: str = "USD",
        asset_class: str = "equity",
        price_basis: str = "raw",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bars = bars
        self._actions = actions
        self._instruments = instruments
        self._name = name
        self._defaults = {"currency": currency, "asset_class": asset_class, "price_basis": price_basis}
        self._now = now

    @property
    def name(self) -> str:
        return self._name

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Collection[str] = ()
    ) -> Iterator[MarketData]:
        """As `MarketDataSource.fetch`, in one part; no symbols means all. A symbol without a bar in it is a reject.

        Raises:
            ConfigError: a file is missing or unreadable, or lacks a column; it names file, column and remedy.
        """
        first = max(start, date.fromisoformat(FIRST_SESSION))
        digest = hashlib.sha256()
        bars, rejects = read_table(
            self._bars, BARS, "bars", digest, numbers=(*_PRICES, "volume", "adj_close"), days=_DAYS
        )
        held = bars["instrument"].unique().to_list()
        wanted = sorted(set(symbols) or set(held))
        rejects += [_absent("bars", symbol, self._bars) for symbol in wanted if symbol not in held]
        listed, delistings, bad_instruments = self._listed(wanted, sessions, digest)
        calendars = Calendars(sessions, dict(listed.select("instrument", "exchange").iter_rows()))
        settled = settle_bars_by([self._of(bars, wanted)], first, end, calendars, self._now())
        acts, bad_actions = self._acts(wanted, digest)
        actions, refused = settle_actions_by([acts, delistings], first, end, calendars)
        yield MarketData(
            asked=tuple(wanted),
            instruments=listed,
            bars=settled.bars,
            actions=actions,
            rejects=[
                *rejects, *(placed(reject, self._bars) for reject in settled.rejects), *bad_instruments, *bad_actions,
                *(placed(reject, self._source_of(reject)) for reject in refused),
            ],
            payload_hash=digest.hexdigest()[:32],
            adjusted=settled.adjusted,
        )  # fmt: skip

    def _source_of(self, reject: Reject) -> Path:
        """The file that an action came from: a delisting without a text comes from the instruments."""
        given = reject.payload.get("from_instruments")
        return self._instruments if given and self._instruments else self._actions or self._bars

    def _acts(self, wanted: Sequence[str], digest: hashlib._Hash) -> tuple[pl.DataFrame, list[Reject]]:
        if self._actions is None:
            return pl.DataFrame(schema=_ACTION_COLUMNS), []
        rows, rejects = read_table(self._actions, ACTIONS, "corporate_actions", digest, numbers=("value",), days=_DAYS)
        return self._of(rows, wanted), rejects

    def _listed(
        self, wanted: Sequence[str], sessions: Sessions, digest: hashlib._Hash
    ) -> tuple[pl.DataFrame, pl.DataFrame, list[Reject]]:
        """Instruments, delistings and refused lines."""
        none = pl.DataFrame(schema=_ACTION_COLUMNS)
        if self._instruments is None:
            rows = pl.DataFrame({"instrument": wanted}, schema={"instrument": pl.String})
            rejects: list[Reject] = []
        else:
            rows, rejects = read_table(
                self._instruments, INSTRUMENTS, "instruments", digest,
                numbers=("lot_size", "tick_size", "delisting_value"), days=("member_from", "member_to", "delisted"),
            )  # fmt: skip
        whole = self._of(rows, wanted).with_columns(
            pl.lit(None, kind).alias(name) for name, kind in _INSTRUMENT_COLUMNS.items() if name not in rows.columns
        )
        unpriced = pl.col("delisted").is_not_null() & pl.col("delisting_value").is_null()
        why = "delisted without a delisting_value: write what was paid for one share, 0 if nothing"
        unsaid = [
            Reject("instruments", row["instrument"], why, json_payload(row))
            for row in whole.filter(unpriced).to_dicts()
        ]
        whole = whole.filter(~unpriced)
        good, bad = validate_instruments(self._described(whole, sessions))
        if self._instruments is not None:
            rejects += [placed(reject, self._instruments) for reject in unsaid + bad]
            missing = [symbol for symbol in wanted if symbol not in set(rows["instrument"])]
            rejects += [_absent("instruments", symbol, self._instruments) for symbol in missing]
        gone = whole.filter(pl.col("delisted").is_not_null()).select(
            source=pl.lit(self._name), instrument="instrument", session="delisted", kind=pl.lit("delisting"),
            value="delisting_value", detail=pl.lit(None, pl.String), known_at=pl.lit(None, UTC_INSTANT), line="line",
            from_instruments=pl.lit(value=True),
        )  # fmt: skip
        return good.select(INSTRUMENTS_SCHEMA.names()), gone if gone.height else none, rejects

    def _described(self, rows: pl.DataFrame, sessions: Sessions) -> pl.DataFrame:
        """Lines as rows of the schema, with what the constructor says where they are silent, and their numbers."""
        midnight = pl.col("member_from").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        begun = pl.coalesce(midnight, pl.lit(undated_listing(sessions)).cast(UTC_INSTANT))
        return rows.select(
            source=pl.lit(self._name),
            instrument="instrument",
            ts=begun,
            name="name",
            exchange=pl.col("exchange").fill_null(sessions.exchange),
            **{name: pl.col(name).fill_null(value) for name, value in self._defaults.items()},
            lot_size="lot_size",
            tick_size="tick_size",
            member_from="member_from",
            member_to=pl.min_horizontal("member_to", "delisted"),
            known_at=pl.coalesce("known_at", begun),
            known_at_imputed=pl.col("known_at").is_null(),
            line="line",
        )

    def _of(self, rows: pl.DataFrame, wanted: Sequence[str]) -> pl.DataFrame:
        return rows.filter(pl.col("instrument").is_in(wanted)).with_columns(source=pl.lit(self._name))


def _absent(table: str, symbol: str, path: Path) -> Reject:
    return Reject(table, symbol, f"{path.name} has no line of {symbol}; check its spelling", {"symbol": symbol})


_ACTION_COLUMNS: Mapping[str, pl.DataType] = {
    "source": pl.String(), "instrument": pl.String(), "session": pl.Date(), "kind": pl.String(),
    "value": pl.Float64(), "detail": pl.String(), "known_at": UTC_INSTANT, "line": pl.Int64(),
}  # fmt: skip
_INSTRUMENT_COLUMNS: Mapping[str, pl.DataType] = {
    **{name: kind for name, kind in INSTRUMENTS_SCHEMA.items() if name not in ("source", "ts", "known_at_imputed")},
    "delisted": pl.Date(), "delisting_value": pl.Float64(), "line": pl.Int64(),
}  # fmt: skip
