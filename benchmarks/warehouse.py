"""Appending bars to a bitemporal hypertable, beside the customary upsert and beside a bare binary COPY.

Belongs here: this measurement, on the server that OCTOPUS_TEST_TIMESCALE_URL or an argument names. Does not: what
`make bench` measures on the embedded server (__main__.py).

One fetch of a source that is stored already: of its rows 80 % are new, 15 % unchanged and 5 % restated. The peers do
less: the upsert keeps one version of a row and forgets what it was, the bare COPY compares nothing.
"""

from __future__ import annotations

import argparse
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import psycopg

from resources.warehouse.connection import Role
from resources.warehouse.migrate import migrate
from resources.warehouse.store import Warehouse

SEEN = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = (
    "source text, instrument text, ts timestamptz, session date, open float8, high float8, low float8, close float8, "
    "volume float8"
)


def bars(symbols: int, days: int, start: int, seed: int) -> pl.DataFrame:
    """``symbols`` × ``days`` bars from day number ``start`` on; the same seed gives the same prices."""
    random = np.random.default_rng(seed)
    first = datetime(2000, 1, 3, 21, tzinfo=UTC)
    stamps = [first + timedelta(days=start + day) for day in range(days)]
    close = np.round(100 * np.exp(np.cumsum(random.normal(0, 0.02, (days, symbols)), axis=0)), 4).T.ravel()
    return pl.DataFrame(
        {
            "source": pl.Series(["bench"]).new_from_index(0, symbols * days),
            "instrument": np.repeat([f"S{n:05d}" for n in range(symbols)], days),
            "ts": pl.Series(stamps * symbols, dtype=pl.Datetime("us", "UTC")),
            "session": pl.Series([stamp.date() for stamp in stamps] * symbols, dtype=pl.Date),
            "open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": np.round(close * 1000),
            "known_at": pl.Series(stamps * symbols, dtype=pl.Datetime("us", "UTC")),
            "known_at_imputed": True,
        }
    )  # fmt: skip


def case(rows: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is stored before, and the fetch: a fifth of it is stored, a quarter of that with another close."""
    symbols = 1000
    days = rows // symbols
    whole = bars(symbols, days, 0, 1)
    place = pl.int_range(pl.len()).over("instrument")
    stored = whole.filter(place < days // 5)
    changed = (place < days // 5) & (place % 4 == 0)
    return stored, whole.with_columns(close=pl.when(changed).then(pl.col("close") * 1.001).otherwise("close"))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ours(url: str, stored: pl.DataFrame, fetched: pl.DataFrame) -> tuple[float, tuple[int, int, int]]:
    """Seconds of the append, and rows new, restated, unchanged."""
    store = Warehouse(url, Role.RESEARCH)
    store.append("bars", stored, source="bench", now=SEEN)
    started = time.perf_counter()
    report = store.append("bars", fetched, source="bench", now=SEEN + timedelta(days=1))
    return time.perf_counter() - started, (report.new, report.restated, report.unchanged)


def bare_copy(url: str, fetched: pl.DataFrame) -> float:
    """Seconds of a binary COPY of all rows into the same table, with its key and nothing compared."""
    import adbc_driver_postgresql.dbapi as adbc

    rows = fetched.with_columns(ingested_at=pl.lit(SEEN), batch_id=pl.lit(1, pl.Int64)).to_arrow()

    def copy() -> None:
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("bars", rows, mode="append", db_schema_name="raw")
            connection.commit()

    return timed(copy)


def upsert(url: str, stored: pl.DataFrame, fetched: pl.DataFrame) -> float:
    """Seconds of COPY to a stage and INSERT ... ON CONFLICT DO UPDATE into a hypertable that keeps one version."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create table peer ({COLUMNS}, primary key (source, instrument, ts))")
        if connection.execute("select from pg_extension where extname = 'timescaledb'").fetchone():
            connection.execute("select create_hypertable('peer', by_range('ts', interval '1 year'))")

        def merge(frame: pl.DataFrame) -> None:
            names = [name for name in frame.columns if not name.startswith("known")]
            text = frame.select(names).write_csv(include_header=False).encode()
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(f"create temporary table stage ({COLUMNS}) on commit drop")
                with cursor.copy("copy stage from stdin (format csv)") as copy:
                    copy.write(text)
                cursor.execute(
                    "insert into peer select * from stage on conflict (source, instrument, ts) do update set "
                    "open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, "
                    "volume = excluded.volume"
                )

        merge(stored)
        return timed(lambda: merge(fetched))


def run(server: str, rows: int) -> dict[str, float]:
    """Seconds of each way and the two ratios, each in a fresh database of ``server``."""
    stored, fetched = case(rows)
    seconds: dict[str, float] = {}
    for name in ("ours", "bare_copy", "upsert"):
        database = f"octopus_bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'create database "{database}"')
            try:
                url = server.rsplit("/", 1)[0] + "/" + database
                migrate(url)
                if name == "ours":
                    seconds[name], counts = ours(url, stored, fetched)
                    expected = (len(fetched) - len(stored), len(stored) // 4, len(stored) - len(stored) // 4)
                    if counts != expected:
                        raise SystemExit(f"rows new, restated, unchanged are {counts}, not {expected}")
                elif name == "bare_copy":
                    seconds[name] = bare_copy(url, fetched)
                else:
                    seconds[name] = upsert(url, stored, fetched)
            finally:
                connection.execute(f'drop database "{database}" with (force)')
    return seconds


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=os.environ.get("OCTOPUS_TEST_TIMESCALE_URL"))
    parser.add_argument("--rows", type=int, default=2_500_000)
    arguments = parser.parse_args()
    if not arguments.url:
        raise SystemExit("name a server: --url, or OCTOPUS_TEST_TIMESCALE_URL=$(deploy/timescaledb/dev-server start)")
    seconds = run(arguments.url, arguments.rows)
    print(f"append of {arguments.rows:,} rows, 80 % new, 15 % unchanged, 5 % restated")
    for name, value in seconds.items():
        print(f"  {name:<10} {value:7.2f} s   {value / seconds['ours']:.2f} × ours")


if __name__ == "__main__":
    main()
