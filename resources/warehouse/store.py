"""Bulk appends and as-of reads: frames in, frames and panels out, point in time by construction.

Belongs here: how frames enter and leave the warehouse. Does not: the order path's transactions (order_store.py), the
audit log (audit_log.py) and what the frames mean.

An append compares what it was given with what is stored, and goes by binary COPY, in one transaction; reads arrive as
Arrow. Neither ever loops over rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, LiteralString, cast

import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.panel import Panel, PriceBasis
from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.core.types import FloatArray
from octopus.market_data.returns import total_returns
from octopus.warehouse.versions import STAMPS, Changes, changes
from resources.warehouse.connection import Role, connect, safe_address

_FEW_INSTRUMENTS = 500
"""Up to so many are named in the query; of more the whole range of time is read."""

RAW_KEYS: Mapping[str, tuple[str, ...]] = {
    "instruments": ("source", "instrument", "ts"),
    "bars": ("source", "instrument", "ts"),
    "corporate_actions": ("source", "instrument", "ts", "kind"),
    "adjusted_closes": ("source", "instrument", "ts"),
    "bar_verdicts": ("source", "instrument", "ts"),
    "action_verdicts": ("source", "instrument", "ts", "kind"),
    "news": ("source", "instrument", "ts", "item_id"),
    "social_posts": ("source", "instrument", "ts", "item_id"),
    "sentiment_scores": ("source", "instrument", "ts", "item_kind", "item_id", "model"),
}
"""Business key of each raw table: what one row is about, whatever its version."""


@dataclass(frozen=True)
class AppendReport:
    """What one append did; ``batch_id`` is None when nothing differed from what was stored."""

    table: str
    batch_id: int | None
    new: int
    restated: int
    unchanged: int
    quarantined: int

    @property
    def changed(self) -> bool:
        return self.batch_id is not None


@dataclass(frozen=True)
class Warehouse:
    """The warehouse as one role sees it.

    Attributes:
        url: libpq URL. role: in which role statements run.
    """

    url: str
    role: Role = Role.RESEARCH

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        return connect(self.url, self.role, autocommit=autocommit)

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, query: str, parameters: Sequence[object] = ()) -> pl.DataFrame:
        """Rows of ``query`` (parameters as $1, $2 …) as a Polars frame, transported as Arrow."""
        import adbc_driver_postgresql.dbapi as adbc

        with adbc.connect(self.url) as connection, connection.cursor() as cursor:
            if self.role is not Role.OWNER:
                cursor.execute(f"set role {self.role.value}")
            cursor.execute("set timezone = 'UTC'")
            cursor.execute(query, parameters=[_bindable(value) for value in parameters] or None)
            batches = cursor.fetch_record_batch()
            # One after the other, so that a large answer is not held twice.
            frames = [cast(pl.DataFrame, pl.from_arrow(batch)) for batch in batches]
            return pl.concat(frames) if frames else cast(pl.DataFrame, pl.from_arrow(batches.schema.empty_table()))

    def scalar(self, query: LiteralString, parameters: Sequence[object] = ()) -> Any:
        """First column of the first row, or None (parameters as %s)."""
        with self.connect(autocommit=True) as connection:
            row = connection.execute(query, parameters).fetchone()
        return row[0] if row else None

    def rows(
        self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[dict[str, Any]]:
        """A few rows as dictionaries, for records rather than bulk data (parameters as %s or %(name)s)."""
        with self.connect(autocommit=True) as connection:
            cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
            return cursor.execute(query, parameters).fetchall()

    def panel(self, source: str, as_of: datetime, sessions: Sessions, sentiment_model: str | None = None) -> Panel:
        """Everything known of ``source`` by ``as_of``, one row for each session of the exchange up to then.

        Args:
            as_of: only versions known by then are seen; later restatements, listings and texts are not.
            sentiment_model: whose daily sentiment to take; None leaves it empty.

        Raises:
            MissingDataError: no bar is known by then.
        """
        bars = self.read(
            """
            select instrument, session, open, high, low, close, volume, split_ratio, dividend, price_basis
            from marts.prices
            where source = $1 and known_from <= $2 and (known_to is null or known_to > $2)
            """,
            [source, as_of],
        )
        if bars.is_empty():
            raise MissingDataError(
                f"no bar of source {source!r} is known by {as_of.isoformat()} in {safe_address(self.url)}; "
                "materialise raw/bars and the marts first, or ask for a later day"
            )
        first, last = cast(date, bars["session"].min()), cast(date, bars["session"].max())
        days = sessions.between(first, last)
        symbols = tuple(sorted(bars["instrument"].unique()))
        grid = _Grid(days, symbols)
        close = grid.scatter(bars, "close")
        split, dividend = grid.scatter(bars, "split_ratio", 1.0), grid.scatter(bars, "dividend", 0.0)
        bases = bars["price_basis"].unique().to_list()
        if len(bases) != 1:
            raise MissingDataError(
                f"source {source!r} mixes price bases {sorted(bases)}; give each its own source name and ingest again"
            )
        return Panel(
            sessions=days,
            symbols=symbols,
            close=close,
            total_return=total_returns(close, split, dividend),
            open=grid.scatter(bars, "open"),
            high=grid.scatter(bars, "high"),
            low=grid.scatter(bars, "low"),
            volume=grid.scatter(bars, "volume"),
            member=self._members(source, as_of, grid) & ~np.isnan(close),
            sentiment=self._sentiment(sentiment_model, as_of, grid, sessions),
            split=split,
            dividend=dividend,
            price_basis=cast(PriceBasis, bases[0]),
        )

    def sentiment_model(self, family: str) -> str | None:
        """Full name of the model of ``family`` that scored last; None before the first score."""
        name: str | None = self.scalar(
            "select model from raw.sentiment_scores where starts_with(model, %s) order by batch_id desc limit 1",
            [f"{family}-"],
        )
        return name

    def _members(self, source: str, as_of: datetime, grid: _Grid) -> np.ndarray[Any, np.dtype[np.bool_]]:
        spans = self.read(
            """
            select instrument, member_from, member_to from marts.universe
            where source = $1 and known_from <= $2 and (known_to is null or known_to > $2)
            """,
            [source, as_of],
        )
        member = np.zeros(grid.shape, dtype=bool)
        days = grid.sessions
        for name, start, end in spans.iter_rows():  # one row for each membership span, not for each bar
            column = grid.column.get(name)
            if column is not None:
                low = np.searchsorted(days, np.datetime64(start, "D")) if start else 0
                high = np.searchsorted(days, np.datetime64(end, "D"), side="right") if end else len(days)
                member[low:high, column] = True
        return member

    def _sentiment(self, model: str | None, as_of: datetime, grid: _Grid, sessions: Sessions) -> FloatArray:
        """Hindsight and synthetic texts are left out: what the decision sees is what a trader could have seen."""
        if model is None:
            return np.full(grid.shape, np.nan)
        scores = self.read(
            """
            select instrument, session, decayed_score_clean as score from marts.daily_sentiment
            where model = $1 and session <= $2 and known_from <= $3
            """,
            [model, sessions.last_decided(as_of), as_of],
        )
        return grid.scatter(scores.filter(pl.col("score").is_not_null()), "score")

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        source: str,
        run_id: str | None = None,
        rejects: Sequence[Reject] = (),
        payload_hash: str | None = None,
        now: datetime | None = None,
    ) -> AppendReport:
        """Append to ``raw.table`` the rows of ``frame`` that differ from their current version; quarantine ``rejects``.

        All in one transaction with the batch number, which is handed out in commit order. A row whose key is new
        keeps the frame's ``known_at``. A restatement whose ``known_at`` was only imputed is known from now on: nobody
        could have known it before we first saw it.

        Args:
            frame: business columns of the table; one row for each key.
            now: the instant of storing; the wall clock unless a test says otherwise.
        """
        key = RAW_KEYS[table]
        moment = now or datetime.now(UTC)
        if frame.select(key).is_duplicated().any():
            raise MissingDataError(f"raw.{table}: the frame holds a key of {key} twice; validate it before appending")
        with self.connect() as connection, connection.cursor() as cursor:
            # Whoever writes holds this row, so the versions read next are the current ones until we commit.
            (last,) = cursor.execute("select last_batch from ops.batch_counter for update").fetchone() or (0,)
            found = self._changes(table, key, frame, moment)
            quarantined = _quarantine(cursor, source, rejects, last + 1, moment)
            if not (found.new or found.restated or quarantined):
                connection.rollback()
                return AppendReport(table, None, 0, 0, found.unchanged, 0)
            stamped = found.rows.with_columns(
                ingested_at=pl.lit(moment).cast(pl.Datetime("us", "UTC")), batch_id=pl.lit(last + 1, pl.Int64)
            )
            # Chunk by chunk and in the key's order within one: half again as fast into a hypertable with its key.
            stamped = stamped.sort(pl.col("ts").dt.year(), *key)
            _copy_binary(cursor, sql.Identifier("raw", table), stamped)
            cursor.execute("update ops.batch_counter set last_batch = last_batch + 1")
            cursor.execute(
                "insert into ops.batches values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [last + 1, f"raw.{table}", source, moment, run_id, payload_hash, found.new, found.restated,
                 found.unchanged, quarantined],
            )  # fmt: skip
        return AppendReport(table, last + 1, found.new, found.restated, found.unchanged, quarantined)

    def _changes(self, table: str, key: Sequence[str], frame: pl.DataFrame, moment: datetime) -> Changes:
        """What of ``frame`` is not stored yet. Only the range that it touches is read, not all history."""
        if frame.is_empty():
            return Changes(frame, 0, 0, 0)
        names = frame["instrument"].unique().to_list()
        columns = ", ".join(f'"{name}"' for name in (*(c for c in frame.columns if c not in STAMPS), "batch_id"))
        stored = self.read(
            f"""
            select {columns} from raw.{table}
            where source = any(string_to_array($1, chr(31))) and ts between $2 and $3
              and ($4::text is null or instrument = any(string_to_array($4, chr(31))))
            """,  # noqa: S608  # names of our own tables and columns
            [
                "\x1f".join(frame["source"].unique().to_list()), frame["ts"].min(), frame["ts"].max(),
                "\x1f".join(names) if len(names) <= _FEW_INSTRUMENTS else None,
            ],
        )  # fmt: skip
        types = {name: kind for name, kind in stored.schema.items() if name in frame.columns}
        return changes(frame.cast(types), stored, key, moment)  # type: ignore[arg-type]

    def replace(
        self, table: str, scope: Mapping[str, object], frame: pl.DataFrame, *, keep: Sequence[str] = ()
    ) -> bool:
        """Make the rows of ``table`` that match ``scope`` equal to ``frame``; False when they already were.

        One transaction: a reader sees the old rows or the new ones.

        Args:
            scope: columns and values that name the whole set, e.g. ``{"session": day}``.
            keep: columns that say when a row was made: they are not compared, so that the same content stays as it is.
        """
        target = _identifier(table)
        where = sql.SQL(" and ").join(sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in scope)
        columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
        with self.connect() as connection, connection.cursor() as cursor:
            _stage(cursor, table, frame)
            compared = sql.SQL(", ").join(sql.Identifier(c) for c in frame.columns if c not in keep)
            stored = sql.SQL("select {} from {} where {}").format(compared, target, where)
            staged = sql.SQL("select {} from staged").format(compared)
            difference = sql.SQL("select exists (({a}) except ({b})) or exists (({b}) except ({a}))")
            row = cursor.execute(difference.format(a=stored, b=staged), dict(scope)).fetchone()
            if row is not None and not row[0]:
                connection.rollback()
                return False
            cursor.execute(sql.SQL("delete from {} where {}").format(target, where), dict(scope))
            cursor.execute(sql.SQL("insert into {} ({}) select {} from staged").format(target, columns, columns))
        return True

    def insert_new(self, table: str, frame: pl.DataFrame) -> int:
        """Insert the rows of ``frame`` whose primary key is not stored yet; how many that were."""
        target = _identifier(table)
        columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
        with self.connect() as connection, connection.cursor() as cursor:
            _stage(cursor, table, frame)
            cursor.execute(
                sql.SQL("insert into {} ({}) select {} from staged on conflict do nothing").format(
                    target, columns, columns
                )
            )
            return cursor.rowcount


@dataclass(frozen=True)
class _Grid:
    """Scatters long frames (instrument, session, value) into dense arrays (sessions × symbols)."""

    sessions: np.ndarray[Any, np.dtype[np.datetime64]]
    symbols: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.sessions), len(self.symbols)

    @property
    def column(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.symbols)}

    def scatter(self, frame: pl.DataFrame, value: str, empty: float = np.nan) -> FloatArray:
        """Values at their (session, instrument); ``empty`` elsewhere. Days that are no session are left out."""
        array = np.full(self.shape, empty)
        if frame.is_empty():
            return array
        days = frame["session"].to_numpy().astype("datetime64[D]")
        rows = np.minimum(np.searchsorted(self.sessions, days), len(self.sessions) - 1)
        columns = frame["instrument"].replace_strict(self.column, default=-1, return_dtype=pl.Int64).to_numpy()
        held = (self.sessions[rows] == days) & (columns >= 0)
        values = frame[value].cast(pl.Float64).fill_null(empty).to_numpy()
        array[rows[held], columns[held]] = values[held]
        return array


def _stage(cursor: psycopg.Cursor, table: str, frame: pl.DataFrame) -> None:
    """COPY ``frame`` into the temporary table ``staged``, with the column types of ``table``."""
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    cursor.execute("drop table if exists pg_temp.staged")
    cursor.execute(
        sql.SQL("create temporary table staged on commit drop as select {} from {} limit 0").format(
            columns, _identifier(table)
        )
    )
    _copy(cursor, sql.Identifier("staged"), frame)


def _copy(cursor: psycopg.Cursor, target: sql.Identifier, frame: pl.DataFrame) -> None:
    """COPY ``frame`` into ``target``, whose columns bear the frame's names."""
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    with cursor.copy(sql.SQL("copy {} ({}) from stdin (format csv, null '\\N')").format(target, columns)) as copy:
        for start in range(0, len(frame), 200_000):
            chunk = _encodable(frame[start : start + 200_000])
            copy.write(chunk.write_csv(include_header=False, null_value="\\N", quote_style="necessary").encode())


def _copy_binary(cursor: psycopg.Cursor, target: sql.Identifier, frame: pl.DataFrame) -> None:
    """As `_copy`, where every column has the very type of its column in the table: no text is made and read again."""
    import pgpq

    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    arrow = _encodable(frame).to_arrow()
    encoder = pgpq.ArrowToPostgresBinaryEncoder(arrow.schema)
    with cursor.copy(sql.SQL("copy {} ({}) from stdin (format binary)").format(target, columns)) as copy:
        copy.write(encoder.write_header())
        for batch in arrow.to_batches(max_chunksize=50_000):
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def _encodable(frame: pl.DataFrame) -> pl.DataFrame:
    """NaN becomes NULL: a missing number has one form in the warehouse."""
    return frame.with_columns(pl.selectors.float().fill_nan(None))


def _quarantine(cursor: psycopg.Cursor, source: str, rejects: Sequence[Reject], batch: int, moment: datetime) -> int:
    """Store rejected records; the same bad record, sent again, counts once."""
    count = 0
    for reject in rejects:  # exceptions, not data: a handful in a healthy feed
        payload = canonical_json(_jsonable(reject.payload))
        name = fingerprint(source, reject.table, reject.reason, payload)
        cursor.execute(
            "insert into raw.quarantine values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            [name, source, f"raw.{reject.table}", reject.instrument, reject.reason, payload, moment, batch],
        )
        count += cursor.rowcount
    return count


def _jsonable(payload: Mapping[str, object]) -> object:
    """``payload`` with what JSON cannot say (NaN, infinities, timestamps) as text, so that nothing is lost."""
    return json.loads(
        json.dumps(payload, default=str, allow_nan=True), parse_constant=lambda constant: f"number:{constant}"
    )


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def _bindable(value: object) -> object:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
