"""Files of the user's own: daily bars, corporate actions and instruments from CSV or Parquet.

Belongs here: reading such files and saying which line is wrong. Does not: any vendor's download format beyond the one
described here.

Each file has a header line (CSV, comma-separated, UTF-8) or a schema (Parquet); columns stand in any order, further
ones are ignored. Dates are exchange-local session dates, YYYY-MM-DD. Times are ISO 8601 with an offset
(2024-01-31T21:15:00Z). Prices are in the instrument's currency, as printed on their day: neither adjusted for splits
nor for dividends. An empty field is a missing value. A line of a CSV file is a record: no field holds a line break.

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
| name, exchange, currency, asset_class, price_basis, lot_size, tick_size | optional columns | as in the schema |
| member_from, member_to | optional columns | first and last session in the universe; open where empty |
| delisted | optional column | last session; ends the membership and makes an action |
| delisting_value | with delisted | last cash received for one share; 0 where it became worthless |
| known_at | optional column | when the line could be known; imputed as its beginning where empty |
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from octopus.core.errors import ConfigError
from octopus.core.rejects import Reject, json_payload
from octopus.core.sessions import FIRST_SESSION, Sessions
from octopus.market_data.parse import read_fields
from octopus.market_data.schema import INSTRUMENTS_SCHEMA, UTC_INSTANT
from octopus.market_data.settle import settle_actions, settle_bars
from octopus.market_data.stamps import undated_listing
from octopus.market_data.validate import validate_instruments
from resources.sources.base import MarketData

NAME = "files"

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Form:
    """Columns of one kind of file: those it must have, those it may have, those whose fields may not be empty."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    filled: tuple[str, ...]


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

    def fetch(self, symbols: Sequence[str], start: date, end: date, sessions: Sessions) -> MarketData:
        """As `MarketDataSource.fetch`; no symbols means all. A symbol of which the file has no bar is a reject.

        Raises:
            ConfigError: a file is missing or unreadable, or lacks a column; it names file, column and remedy.
        """
        first = max(start, date.fromisoformat(FIRST_SESSION))
        digest = hashlib.sha256()
        bars, rejects = self._read(self._bars, BARS, "bars", digest, numbers=(*_PRICES, "volume", "adj_close"))
        held = bars["instrument"].unique().to_list()
        wanted = sorted(set(symbols) or set(held))
        rejects += [_absent("bars", symbol, self._bars) for symbol in wanted if symbol not in held]
        settled = settle_bars([_of(bars, wanted)], first, end, sessions, self._now())
        listed, delistings, bad_instruments = self._listed(wanted, sessions, digest)
        acts, bad_actions = self._acts(wanted, digest)
        actions, refused = settle_actions([acts, delistings], first, end, sessions)
        return MarketData(
            instruments=listed,
            bars=settled.bars,
            actions=actions,
            rejects=[
                *rejects, *(_placed(reject, self._bars) for reject in settled.rejects), *bad_instruments, *bad_actions,
                *(_placed(reject, self._source_of(reject)) for reject in refused),
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
        rows, rejects = self._read(self._actions, ACTIONS, "corporate_actions", digest, numbers=("value",))
        return _of(rows, wanted), rejects

    def _listed(
        self, wanted: Sequence[str], sessions: Sessions, digest: hashlib._Hash
    ) -> tuple[pl.DataFrame, pl.DataFrame, list[Reject]]:
        """Instruments, delistings and refused lines."""
        none = pl.DataFrame(schema=_ACTION_COLUMNS)
        if self._instruments is None:
            rows = pl.DataFrame({"instrument": wanted}, schema={"instrument": pl.String})
            rejects: list[Reject] = []
        else:
            rows, rejects = self._read(
                self._instruments, INSTRUMENTS, "instruments", digest,
                numbers=("lot_size", "tick_size", "delisting_value"), days=("member_from", "member_to", "delisted"),
            )  # fmt: skip
        whole = _of(rows, wanted).with_columns(
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
            rejects += [_placed(reject, self._instruments) for reject in unsaid + bad]
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
            lot_size=pl.col("lot_size").fill_null(1.0),
            tick_size="tick_size",
            member_from="member_from",
            member_to=pl.min_horizontal("member_to", "delisted"),
            known_at=pl.coalesce("known_at", begun),
            known_at_imputed=pl.col("known_at").is_null(),
            line="line",
        )

    def _read(
        self,
        path: Path,
        form: Form,
        table: str,
        digest: hashlib._Hash,
        *,
        numbers: Sequence[str] = (),
        days: Sequence[str] = ("session",),
    ) -> tuple[pl.DataFrame, list[Reject]]:
        """Readable lines of one file with their numbers in ``line``, and the others."""
        body = _bytes(path)
        digest.update(body)
        raw, rejects = _parquet(path, body) if path.suffix == ".parquet" else _csv(path, body, table)
        raw = _columns(path, raw, form)
        read, bad = read_fields(
            raw, table=table, numbers=[name for name in numbers if name in raw.columns],
            days=[name for name in days if name in raw.columns],
            instants=[name for name in ("known_at",) if name in raw.columns], required=form.filled,
        )  # fmt: skip
        rejects += [_placed(reject, path) for reject in bad]
        read_as = {*numbers, *days, "known_at", "line"}
        texts = [pl.col(name).cast(pl.String) for name in read.columns if name not in read_as]
        return read.with_columns(*texts, source=pl.lit(self._name)), rejects


def _bytes(path: Path) -> bytes:
    if path.suffix not in (".csv", ".parquet") and path.suffixes[-2:] != [".csv", ".gz"]:
        raise ConfigError(where=NAME, field="path", value=str(path), remedy="name a .csv, .csv.gz or .parquet file")
    try:
        body = path.read_bytes()
        return gzip.decompress(body) if path.suffix == ".gz" else body
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(
            where=NAME, field="path", value=str(path),
            remedy=f"it cannot be read ({type(error).__name__}): check that it is there, whole and readable",
        ) from error  # fmt: skip


def _parquet(path: Path, body: bytes) -> tuple[pl.DataFrame, list[Reject]]:
    try:
        frame = pl.read_parquet(io.BytesIO(body))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            where=NAME, field="path", value=str(path), remedy="it is no whole Parquet file: write it again"
        ) from error
    return frame.with_columns(line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)), []


def _csv(path: Path, body: bytes, table: str) -> tuple[pl.DataFrame, list[Reject]]:
    """All fields as texts with their line's number, and lines that do not have as many fields as the header."""
    try:
        lines = body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            where=NAME, field="path", value=str(path), remedy="it is not UTF-8: save it as such"
        ) from error
    frame = pl.DataFrame({"text": lines}, schema={"text": pl.String}).with_columns(
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    )
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    if frame.is_empty():
        raise ConfigError(where=NAME, field="path", value=str(path), remedy="it is empty: give it a header line")
    outside = pl.col("text").str.replace_all('"[^"]*"', "")
    frame = frame.with_columns(commas=outside.str.count_matches(","), open=outside.str.contains('"', literal=True))
    width = int(frame["commas"][0])
    ragged = (pl.col("commas") != width) | pl.col("open")
    reason = pl.when("open").then(pl.lit("a quote is not closed")).otherwise(
        pl.format("it has {} fields and the header {}", pl.col("commas") + 1, pl.lit(width + 1))
    )  # fmt: skip
    bad = frame.filter(ragged).with_columns(reason=reason)
    rejects = [
        _placed(Reject(table, None, row["reason"], {"line": row["line"], "text": row["text"]}), path)
        for row in bad.select("line", "text", "reason").to_dicts()
    ]
    sound = frame.filter(~ragged)
    try:
        fields = pl.read_csv("\n".join(sound["text"]).encode(), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        why = " ".join(str(error).split())[:120]
        raise ConfigError(where=NAME, field="path", value=str(path), remedy=f"it is no CSV file: {why}") from error
    return fields.with_columns(line=sound["line"][1:]), rejects


def _columns(path: Path, frame: pl.DataFrame, form: Form) -> pl.DataFrame:
    """The columns of ``form`` that the file has.

    Raises:
        ConfigError: it lacks a required one.
    """
    lacking = [name for name in form.required if name not in frame.columns]
    if lacking:
        held = ", ".join(name for name in frame.columns if name != "line")
        raise ConfigError(
            where=str(path), field=", ".join(lacking), value=None,
            remedy=f"the file has no such column, only {held}: add it to the header, or rename yours",
        )  # fmt: skip
    return frame.select(*(name for name in (*form.required, *form.optional) if name in frame.columns), "line")


def _of(rows: pl.DataFrame, wanted: Sequence[str]) -> pl.DataFrame:
    return rows.filter(pl.col("instrument").is_in(wanted))


def _placed(reject: Reject, path: Path) -> Reject:
    """``reject`` with the file and the line in its reason."""
    return replace(reject, reason=f"{path.name} line {reject.payload.get('line')}: {reject.reason}")


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
