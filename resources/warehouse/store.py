"""Bulk appends and as-of reads: frames in, frames and panels out, point in time by construction.

Belongs here: how frames enter and leave the warehouse. Does not: the order path's transactions (order_store.py), the
audit log (audit_log.py) and what the frames mean.

An append compares what it was given with what is stored, and goes by binary COPY, in one transaction, slice by slice:
while the server stores one, the next is compared and encoded. Reads arrive as Arrow. Neither ever loops over rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar, cast

import numpy as np
import pandas as pd
import polars as pl
import psycopg
from psycopg import sql

from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.panel import Panel, PriceBasis
from octopus.core.rejects import Reject
from octopus.core.sessions import Calendars, Sessions
from octopus.core.types import FloatArray
from octopus.market_data.clock import on_clock
from octopus.market_data.identifiers import (
    IDENTIFIERS_SCHEMA,
    moved_members,
    moved_spans,
    of_same_instruments,
    one_history,
    spans_as_of,
)
from octopus.market_data.intraday import within_range
from octopus.market_data.returns import total_returns
from octopus.warehouse.versions import STAMPS, changes, lacking
from resources.warehouse.connection import Role, connect, safe_address

if TYPE_CHECKING:
    from adbc_driver_manager import AdbcDatabase
    from pgpq import ArrowToPostgresBinaryEncoder

_BESIDE_CLOSE = ("open", "high", "low", "volume")
_FEW_INSTRUMENTS = 500
"""Up to so many are named in the query; of more the whole range of time is read."""

_SLICE_ROWS = 50_000
"""About so many rows of an append are compared and encoded while those before them are being stored."""

_FEW_SLICES = 3
"""What would be no more of them is one: a day's rows of many instruments are read faster at once than by names."""

_BATCH_ROWS = 10_000
"""So many are encoded at once: meanwhile no other thread of Python runs, and none sends."""

RAW_KEYS: Mapping[str, tuple[str, ...]] = {
    "instruments": ("source", "instrument", "ts"),
    "bars": ("source", "instrument", "ts"),
    "intraday_bars": ("source", "instrument", "ts", "interval_minutes"),
    "corporate_actions": ("source", "instrument", "ts", "kind"),
    "adjusted_closes": ("source", "instrument", "ts"),
    "bar_verdicts": ("source", "instrument", "ts"),
    "action_verdicts": ("source", "instrument", "ts", "kind"),
    "withdrawals": ("source", "instrument", "ts", "kind"),
    "news": ("source", "instrument", "ts", "item_id"),
    "social_posts": ("source", "instrument", "ts", "item_id"),
    "sentiment_scores": ("source", "instrument", "ts", "item_kind", "item_id", "model"),
}
"""Business key of each raw table: what one row is about, whatever its version."""


_Made = TypeVar("_Made")


@dataclass(frozen=True)
class AppendReport:
    """What one append did; ``batch_id`` is None when nothing differed from what was stored.

    Attributes:
        lacking: what is stored of a span and did not come, where that was asked (`Writing.append`).
    """

    table: str
    batch_id: int | None
    new: int
    restated: int
    unchanged: int
    quarantined: int
    lacking: pl.DataFrame | None = None

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
        import adbc_driver_manager as adbc
        import pyarrow as pa

        with adbc.AdbcConnection(_database(self.url)) as connection:
            settings = ["set timezone = 'UTC'"]
            if self.role is not Role.OWNER:
                settings.append(f"set role {self.role.value}")
            for setting in settings:
                with adbc.AdbcStatement(connection) as statement:
                    statement.set_sql_query(setting)
                    statement.execute_update()
            with adbc.AdbcStatement(connection) as statement:
                statement.set_sql_query(_inlined(query, parameters))
                batches = pa.RecordBatchReader.from_stream(statement.execute_query()[0])
                # One after the other, so that a large answer is not held twice.
                frames = [cast(pl.DataFrame, pl.from_arrow(batch)) for batch in batches]
                return pl.concat(frames) if frames else cast(pl.DataFrame, pl.from_arrow(batches.schema.empty_table()))

    @contextmanager
    def held(self) -> Iterator[Warehouse]:
        """The same warehouse, whose `scalar` and `rows` all use one connection, for as long as the block lasts."""
        with self.connect(autocommit=True) as connection:
            yield _Held(self.url, self.role, connection=connection)

    def scalar(self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """First column of the first row, or None (parameters as %s or %(name)s)."""
        with self._connection() as connection:
            row = connection.execute(query, parameters).fetchone()
        return row[0] if row else None

    def rows(
        self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[dict[str, Any]]:
        """A few rows as dictionaries, for records rather than bulk data (parameters as %s or %(name)s)."""
        with self._connection() as connection:
            cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
            return cursor.execute(query, parameters).fetchall()

    def _connection(self) -> AbstractContextManager[psycopg.Connection]:
        """What a question is asked over, in a block of its own."""
        return self.connect(autocommit=True)

    def panel(
        self,
        source: str,
        as_of: datetime,
        sessions: Sessions,
        sentiment_model: str | None = None,
        *,
        instruments: Collection[str] | None = None,
        since: date | None = None,
        closes_only: bool = False,
        within_the_day: tuple[str, int] | None = None,
    ) -> Panel:
        """Everything known of ``source`` by ``as_of``, one row for each session of the exchange up to then.

        A column is an instrument under the ticker that it had by then, through all its renames; whoever had the ticker
        before has a column of its own (`octopus.market_data.identifiers.moved_spans`). One with a calendar of its own
        has in each row what was complete of it by that session's decision (`octopus.market_data.clock`).

        Args:
            sessions: the clock.
            as_of: only versions known by then are seen; later restatements, listings and texts are not.
            sentiment_model: whose daily sentiment to take; None leaves it empty.
            instruments: only these, through all their renames. since: only sessions from this one on.
            closes_only: open, high, low and volume stay NaN, and what is read is a third less.
            within_the_day: the source and the interval, minutes, of the bars within the day that tell the
                volume-weighted average prices; None: nobody does.

        Raises:
            MissingDataError: no bar is known by then.
        """
        names = "" if instruments is None else "and instrument = any(string_to_array($3, chr(31)))"
        days = "" if since is None else f"and session >= ${3 if instruments is None else 4}"
        moved = self.moved(source, as_of)
        read = [] if instruments is None else ["\x1f".join(of_same_instruments(instruments, moved))]
        wanted = [*read, *([] if since is None else [since])]
        bars = self.read(
            f"""
            select {"" if closes_only else "".join(f"{name}, " for name in _BESIDE_CLOSE)}
                instrument, session, close, split_ratio, dividend, spin_off, price_basis
            from marts.prices
            where source = $1 and known_from <= $2 and (known_to is null or known_to > $2) {names} {days}
            """,  # noqa: S608  # our own columns and the two conditions above
            [source, as_of, *wanted],
        )
        if bars.is_empty():
            raise MissingDataError(
                f"no bar of source {source!r} is known by {as_of.isoformat()} in {safe_address(self.url)}; "
                "materialise raw/bars and the marts first, or ask for a later day"
            )
        calendars = self.calendars(source, sessions, as_of)
        bars = on_clock(bars, calendars, sessions.last_decided(as_of))
        if bars.is_empty():
            raise MissingDataError(f"no bar of source {source!r} belongs to a session of {sessions.exchange} yet")
        bars = one_history(bars, moved)
        first, last = cast(date, bars["session"].min()), cast(date, bars["session"].max())
        symbols = tuple(sorted(bars["instrument"].unique()))
        grid = _Grid(sessions.between(first, last), symbols)
        scatter = grid.placed(bars)
        close, split, dividend = scatter("close"), scatter("split_ratio", 1.0), scatter("dividend", 0.0)
        beside = {
            name: scatter(name) if name in bars.columns else np.full(grid.shape, np.nan) for name in _BESIDE_CLOSE
        }
        spin_off = _spun_off(grid, bars)
        bases = bars["price_basis"].unique().to_list()
        if len(bases) != 1:
            raise MissingDataError(
                f"source {source!r} mixes price bases {sorted(bases)}; give each its own source name and ingest again"
            )
        return Panel(
            sessions=grid.sessions,
            symbols=symbols,
            close=close,
            total_return=total_returns(close, split, dividend, spin_off),
            open=beside["open"],
            high=beside["high"],
            low=beside["low"],
            volume=beside["volume"],
            member=self._members(source, as_of, grid, moved) & ~np.isnan(close),
            sentiment=self._sentiment(sentiment_model, as_of, grid, sessions, moved),
            split=split,
            dividend=dividend,
            price_basis=cast(PriceBasis, bases[0]),
            spin_off=spin_off,
            vwap=None
            if within_the_day is None or bases != ["raw"]
            else self._vwap(*within_the_day, as_of, grid, moved, frozenset(calendars.elsewhere()), beside),
            exchange=sessions.exchange,
        )

    def moved(self, source: str, as_of: datetime) -> pl.DataFrame:
        """Instruments whose ticker changed, or had another bearer, as known by ``as_of``, with the names of `panel`."""
        # Few rows, asked for by every gate: opening a connection for Arrow takes ten times as long as they do.
        rows = self.rows(
            """
            select permanent_id, ticker, valid_from, valid_to, known_at, end_known_at from ops.identifiers
            where source = %s
            """,
            [source],
        )
        return _moved(rows, as_of) if rows else _nothing_moved()

    def calendars(self, source: str, clock: Sessions, as_of: datetime | None = None) -> Calendars:
        """The calendar of each instrument of ``source``, by its latest description, beside the universe's clock."""
        rows = self.rows(
            """
            select distinct on (instrument) instrument, exchange from raw.instruments
            where source = %s and (%s::timestamptz is null or known_at <= %s)
            order by instrument, ts desc, batch_id desc
            """,
            [source, as_of, as_of],
        )
        return Calendars(clock, {row["instrument"]: row["exchange"] for row in rows})

    def currencies(self, source: str, as_of: datetime, moved: pl.DataFrame) -> dict[str, str]:
        """What the prices of each instrument of ``source`` are told in, by its description as known by ``as_of``.

        Args:
            moved: of the same instant (`moved`); those instruments are there under the names of `panel`, too.

        Raises:
            MissingDataError: an instrument was described in two currencies.
        """
        rows = self.rows(
            """
            select instrument, array_agg(distinct currency order by currency) as currencies from (
                select distinct on (instrument, ts) instrument, currency from raw.instruments
                where source = %s and known_at <= %s order by instrument, ts, batch_id desc
            ) as described group by instrument
            """,
            [source, as_of],
        )
        for row in rows:
            if len(row["currencies"]) > 1:
                raise MissingDataError(
                    f"{row['instrument']} of {source!r} is described in {' and in '.join(row['currencies'])}: one "
                    "series of prices has one currency; give each its own instrument and ingest again"
                )
        found = {row["instrument"]: row["currencies"][0] for row in rows}
        named = ((name, ticker) for name, ticker in moved.select("name", "ticker").iter_rows() if ticker in found)
        return {name: found[ticker] for name, ticker in named} | found

    def sentiment_model(self, family: str) -> str | None:
        """Full name of the model of ``family`` that scored last; None before the first score."""
        name: str | None = self.scalar(
            "select model from raw.sentiment_scores where starts_with(model, %s) order by batch_id desc limit 1",
            [f"{family}-"],
        )
        return name

    def _members(
        self, source: str, as_of: datetime, grid: _Grid, moved: pl.DataFrame
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        spans = self.read(
            """
            select instrument, member_from, member_to from marts.universe
            where source = $1 and known_from <= $2 and (known_to is null or known_to > $2)
            """,
            [source, as_of],
        )
        member = np.zeros(grid.shape, dtype=bool)
        days = grid.sessions
        # One row for each membership span, not for each bar.
        for name, start, end in moved_members(spans, moved).iter_rows():
            column = grid.column.get(name)
            if column is not None:
                low = np.searchsorted(days, np.datetime64(start, "D")) if start else 0
                high = np.searchsorted(days, np.datetime64(end, "D"), side="right") if end else len(days)
                member[low:high, column] = True
        return member

    def _vwap(
        self,
        source: str,
        minutes: int,
        as_of: datetime,
        grid: _Grid,
        moved: pl.DataFrame,
        elsewhere: frozenset[str],
        of_day: Mapping[str, FloatArray],
    ) -> FloatArray | None:
        """Volume-weighted average prices of sessions of which most intervals have a bar; None where there is none.

        One that lies outside the daily bar's range is left out: it is of another day, or told in another unit. So is
        that of an instrument with a calendar of its own, whose row of the clock is another day than its name says.
        """
        # Made by the job that collects these bars, and not by the daily one.
        if self.scalar("select to_regclass('marts.session_bars')") is None:
            return None
        rows = self.read(
            """
            select instrument, session, vwap from marts.session_bars
            where source = $1 and interval_minutes = $2 and known_from <= $3 and (known_to is null or known_to > $3)
                and vwap is not null and 2 * bars > bars_due
            """,
            [source, minutes, as_of],
        ).filter(~pl.col("instrument").is_in(list(elsewhere)))
        if rows.is_empty():
            return None
        found = grid.placed(one_history(rows, moved))("vwap")
        is_of_day = within_range(found, of_day["low"], of_day["high"])
        return np.where(is_of_day, found, np.nan) if is_of_day.any() else None

    def _sentiment(
        self, model: str | None, as_of: datetime, grid: _Grid, sessions: Sessions, moved: pl.DataFrame
    ) -> FloatArray:
        """Hindsight and synthetic texts are left out: what the decision sees is what a trader could have seen."""
        if model is None:
            return np.full(grid.shape, np.nan)
        scores = self.read(
            """
            select instrument, session, decayed_score_clean as score, known_from from marts.daily_sentiment
            where model = $1 and known_from <= $2
            """,
            [model, as_of],
        )
        if scores.is_empty():
            return np.full(grid.shape, np.nan)
        # Known at the decision of the instrument's own session: the same one of the clock, or the first to come.
        places = sessions.session_of(pd.DatetimeIndex(scores["known_from"].to_pandas()))
        placed = (
            scores.with_columns(session=pl.Series(places.astype("datetime64[D]")).cast(pl.Date))
            .filter(pl.col("score").is_not_null() & (pl.col("session") <= sessions.last_decided(as_of)))
            .sort("known_from")
            .unique(["instrument", "session"], keep="last", maintain_order=True)
        )
        return grid.placed(one_history(placed, moved))("score")

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
        with self.writing(source, run_id=run_id, payload_hash=payload_hash, now=now) as writing:
            return writing.append(table, frame, rejects)

    @contextmanager
    def writing(
        self, source: str, *, run_id: str | None = None, payload_hash: str | None = None, now: datetime | None = None
    ) -> Iterator[Writing]:
        """One transaction that appends to several raw tables, as `append` does to one; all of it is stored, or nothing.

        What had a ``payload_hash`` was fetched: that leaves a row in ops.fetches, whether or not anything differed.

        Args:
            now: the instant of storing; the wall clock unless a test says otherwise.
        """
        moment = now or datetime.now(UTC)
        with self.connect() as connection, connection.cursor() as cursor:
            # Whoever writes holds this row, so the versions read next are the current ones until we commit.
            (last,) = cursor.execute("select last_batch from ops.batch_counter for update").fetchone() or (0,)
            writing = Writing(self, cursor, source, moment, run_id, payload_hash, last)
            yield writing
            if payload_hash is not None:
                told = writing.reports
                cursor.execute(
                    """
                    insert into ops.fetches (source, tables, fetched_at, run_id, payload_hash,
                        rows_new, rows_restated, rows_unchanged, rows_quarantined)
                    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
                    """,
                    [
                        source, [f"raw.{report.table}" for report in told], moment, run_id, payload_hash,
                        *(sum(getattr(report, what) for report in told)
                          for what in ("new", "restated", "unchanged", "quarantined")),
                    ],
                )  # fmt: skip

    def _parts(
        self, table: str, frame: pl.DataFrame, moment: datetime, batch: int, again: pl.DataFrame | None, span: _Span
    ) -> Iterator[_Part]:
        """What of ``frame`` is not stored yet, slice by slice, for one COPY: the last part ends it."""
        key = RAW_KEYS[table]
        encoder = _Encoder()
        # The key's index takes its own order in more than twice as fast as day by day.
        for rows in (one.sort(key) for one in _slices(frame)):
            if rows.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in key).any()).item():
                raise MissingDataError(
                    f"raw.{table}: the frame holds a key of {key} twice; validate it before appending"
                )
            stored = self._stored(table, rows, span)
            span.compare(rows, stored)
            types = {name: kind for name, kind in stored.schema.items() if name in rows.columns}
            found = changes(rows.cast(types), stored, key, moment, again)  # type: ignore[arg-type]
            stamped = found.rows.with_columns(
                ingested_at=pl.lit(moment).cast(pl.Datetime("us", "UTC")), batch_id=pl.lit(batch, pl.Int64)
            )
            yield _Part(found.new, found.restated, found.unchanged, stamped.columns, encoder.rows(stamped))
        yield _Part(0, 0, 0, (), encoder.end())

    def _stored(self, table: str, frame: pl.DataFrame, span: _Span) -> pl.DataFrame:
        """Versions of the keys of ``frame`` and of others in the range that it or ``span`` touches, not all history."""
        names = frame["instrument"].unique().to_list()
        columns = ", ".join(f'"{name}"' for name in (*(c for c in frame.columns if c not in STAMPS), "batch_id"))
        return self.read(
            f"""
            select {columns} from raw.{table}
            where source = any(string_to_array($1, chr(31))) and ts between $2 and $3
              and ($4::text is null or instrument = any(string_to_array($4, chr(31))))
            """,  # noqa: S608  # names of our own tables and columns
            [
                "\x1f".join(frame["source"].unique().to_list()), *span.range(frame["ts"]),
                "\x1f".join(names) if len(names) <= _FEW_INSTRUMENTS else None,
            ],
        )  # fmt: skip

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


@dataclass
class Writing:
    """See `Warehouse.writing`.

    Attributes:
        cursor: of the transaction, for what is to be stored with the rows or not at all.
        moment: of storing. last_batch: the number of the last batch, of this transaction or before it.
        reports: what was appended so far; each table at most once.
    """

    warehouse: Warehouse
    cursor: psycopg.Cursor
    source: str
    moment: datetime
    run_id: str | None
    payload_hash: str | None
    last_batch: int
    reports: list[AppendReport] = field(default_factory=list)

    def append(
        self, table: str, frame: pl.DataFrame, rejects: Sequence[Reject] = (), again: pl.DataFrame | None = None,
        span: tuple[date, date] | None = None,
    ) -> AppendReport:  # fmt: skip
        """As `Warehouse.append`.

        Args:
            again: as `octopus.warehouse.versions.changes` takes it.
            span: of bars, the sessions that were asked for: the report then has what is stored of them and did not come
                (`octopus.warehouse.versions.lacking`); it is read with what the rows are compared with.
        """
        batch, cursor, asked = self.last_batch + 1, self.cursor, _Span(span)
        quarantined = _quarantine(cursor, self.source, rejects, batch, self.moment)
        with closing(_one_ahead(self.warehouse._parts(table, frame, self.moment, batch, again, asked))) as parts:
            new, restated, unchanged = _copy_binary(cursor, sql.Identifier("raw", table), parts)
        changed = bool(new or restated or quarantined)
        if changed:
            self.last_batch = batch
            cursor.execute("update ops.batch_counter set last_batch = last_batch + 1")
            cursor.execute(
                "insert into ops.batches values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    batch, f"raw.{table}", self.source, self.moment, self.run_id, self.payload_hash,
                    new, restated, unchanged, quarantined,
                ],
            )  # fmt: skip
        report = AppendReport(table, batch if changed else None, new, restated, unchanged, quarantined, asked.found())
        self.reports.append(report)
        return report


def _moved(rows: Sequence[Mapping[str, object]], as_of: datetime) -> pl.DataFrame:
    return moved_spans(spans_as_of(pl.DataFrame(rows, schema=IDENTIFIERS_SCHEMA), as_of))


@cache
def _nothing_moved() -> pl.DataFrame:
    """What `Warehouse.moved` says of most sources, at any instant."""
    return _moved([], datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class _Held(Warehouse):
    """See `Warehouse.held`."""

    connection: psycopg.Connection = field(kw_only=True)

    @contextmanager
    def held(self) -> Iterator[Warehouse]:
        yield self

    def _connection(self) -> AbstractContextManager[psycopg.Connection]:
        return nullcontext(self.connection)


@dataclass(frozen=True)
class _Grid:
    """Scatters long frames (instrument, session, value) into dense arrays (sessions × symbols)."""

    sessions: np.ndarray[Any, np.dtype[np.datetime64]]
    symbols: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.sessions), len(self.symbols)

    @cached_property
    def column(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.symbols)}

    def placed(self, frame: pl.DataFrame) -> Callable[..., FloatArray]:
        """Scatters columns of ``frame``: ``scatter(column, empty=nan)`` has its values at their (session, instrument).

        ``empty`` stands elsewhere, and for null. Days that are no session are left out.
        """
        days = frame["session"].to_numpy().astype("datetime64[D]")
        rows = np.minimum(np.searchsorted(self.sessions, days), len(self.sessions) - 1)
        columns = frame["instrument"].replace_strict(self.column, default=-1, return_dtype=pl.Int64).to_numpy()
        held = (self.sessions[rows] == days) & (columns >= 0)
        cells = rows[held] * len(self.symbols) + columns[held]

        def scatter(column: str, empty: float = np.nan) -> FloatArray:
            array = np.full(self.shape, empty)
            array.ravel()[cells] = frame[column].cast(pl.Float64).fill_null(empty).to_numpy()[held]
            return array

        return scatter


def _spun_off(grid: _Grid, bars: pl.DataFrame) -> FloatArray | None:
    """Worths of what was spun off, NaN where nobody knows them; None where nothing ever was."""
    worths = bars.select("session", "instrument", pl.col("spin_off").fill_null(np.nan)).filter(
        pl.col("spin_off") != 0.0
    )
    return None if worths.is_empty() else grid.placed(worths)("spin_off", 0.0)


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


@dataclass(frozen=True)
class _Part:
    """Rows of an append, compared with what is stored: how many were what, and those to store in COPY's binary form.

    Parts follow one another in one COPY (`_Encoder`).
    """

    new: int
    restated: int
    unchanged: int
    columns: Sequence[str]
    encoded: Sequence[bytes]


@dataclass
class _Span:
    """Sessions of bars that were asked for, and what of them is stored and did not come; None: nobody asks."""

    sessions: tuple[date, date] | None
    lacking: list[pl.DataFrame] = field(default_factory=list)

    def range(self, ts: pl.Series) -> tuple[object, object]:
        """The instants of rows stamped ``ts`` and of these sessions: a session closes on its own day, or with it."""
        if self.sessions is None:
            return ts.min(), ts.max()
        first, last = (datetime.combine(day, time(), UTC) for day in self.sessions)
        return min(first, cast(datetime, ts.min())), max(last + timedelta(days=1), cast(datetime, ts.max()))

    def compare(self, rows: pl.DataFrame, stored: pl.DataFrame) -> None:
        if self.sessions is not None:
            self.lacking.append(lacking(rows, stored.filter(pl.col("session").is_between(*self.sessions))))

    def found(self) -> pl.DataFrame | None:
        return pl.concat(self.lacking) if self.lacking else None


def _slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """``frame`` in parts of about `_SLICE_ROWS` and of whole instruments, few enough to be named in a query."""
    if len(frame) <= _FEW_SLICES * _SLICE_ROWS:
        if not frame.is_empty():
            yield frame
        return
    bounds = (
        frame.group_by("instrument")
        .len()
        .sort("instrument")
        .with_row_index()
        # Both numbers only rise, so where either does their sum is another.
        .group_by(pl.col("len").cum_sum() // _SLICE_ROWS + pl.col("index") // _FEW_INSTRUMENTS)
        .agg(pl.col("instrument").min().alias("first"), pl.col("instrument").max().alias("last"))
        .sort("first")
    )
    for first, last in bounds.select("first", "last").iter_rows():  # a handful
        yield frame.filter(pl.col("instrument").is_between(pl.lit(first), pl.lit(last)))


def _one_ahead(made: Iterator[_Made]) -> Generator[_Made, None, None]:
    """The same, on a thread that makes the next one while the caller uses the last.

    What fails there is raised here, in its turn. Closed, it first waits for what the thread has begun.
    """
    with ThreadPoolExecutor(1, "one-ahead") as worker:
        coming = worker.submit(next, made, None)
        while (ready := coming.result()) is not None:
            coming = worker.submit(next, made, None)
            yield ready


@dataclass
class _Encoder:
    """Frames, one after the other, as one binary COPY reads them.

    All have the same columns, each of the very type of its column in the table.
    """

    encoder: ArrowToPostgresBinaryEncoder | None = None

    def rows(self, frame: pl.DataFrame) -> list[bytes]:
        """``frame``; before the first row comes COPY's header."""
        if frame.is_empty():
            return []
        arrow = _encodable(frame).to_arrow()
        header = []
        if self.encoder is None:
            import pgpq

            self.encoder = pgpq.ArrowToPostgresBinaryEncoder(arrow.schema)
            header = [self.encoder.write_header()]
        return header + [self.encoder.write_batch(batch) for batch in arrow.to_batches(max_chunksize=_BATCH_ROWS)]

    def end(self) -> list[bytes]:
        """COPY's trailer; nothing where there was no row."""
        return [] if self.encoder is None else [self.encoder.finish()]


def _copy_binary(cursor: psycopg.Cursor, target: sql.Identifier, parts: Iterable[_Part]) -> tuple[int, int, int]:
    """COPY what is to be stored of ``parts`` into ``target``; how many rows were new, restated and unchanged.

    It is one COPY, begun with the first row there is: each opens the table's chunks and their indexes anew.
    """
    new = restated = unchanged = 0
    copy: psycopg.Copy | None = None
    with ExitStack() as stack:
        for part in parts:
            new, restated, unchanged = new + part.new, restated + part.restated, unchanged + part.unchanged
            if part.encoded and copy is None:
                columns = sql.SQL(", ").join(map(sql.Identifier, part.columns))
                statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(target, columns)
                copy = stack.enter_context(cursor.copy(statement))
            for piece in part.encoded:
                cast(psycopg.Copy, copy).write(piece)
    return new, restated, unchanged


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


@lru_cache(maxsize=8)
def _database(url: str) -> AdbcDatabase:
    """What the driver knows of a server's types; it holds no connection.

    Kept, because the driver reads the whole catalogue to learn it: 65 ms on a server with hypertables.
    """
    import adbc_driver_postgresql

    database: AdbcDatabase = adbc_driver_postgresql.connect(url)
    return database


def _inlined(query: str, parameters: Sequence[object]) -> str:
    """``query`` with its parameters quoted in place: the driver streams by COPY only what has none to bind."""
    return re.sub(r"\$(\d+)", lambda place: sql.Literal(parameters[int(place[1]) - 1]).as_string(None), query)
