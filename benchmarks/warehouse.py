"""The warehouse on a real TimescaleDB: bulk appends, as-of reads, and what a day costs as history grows.

Belongs here: these measurements, on the server that OCTOPUS_TEST_TIMESCALE_URL or an argument names. Does not: what
`make bench` measures on the embedded server (__main__.py).

- append: one fetch of a source that is stored already: of its rows 80 % are new, 15 % unchanged and 5 % restated, and
  what is current afterwards must be the same rows everywhere. The peers do less: the upsert keeps one version of a row
  and forgets what it was, the bare COPY compares nothing and finds an empty table. The COPY goes into the same table as
  ours, its bytes made beforehand; the upsert into a hypertable with a primary key and chunks as long, once as
  TimescaleDB makes it, with an index on the time, and once without that index, which our table does not have either.
- read: everything known at an instant, as Arrow, beside pandas.read_sql of the same statement; each in a process of its
  own, whose peak memory is counted.
- day: one more session of many symbols and the dividends of some, as the daily job does it: appended, audited, built
  into the marts with their data tests by dbt, and audited again, on growing history. What dbt takes by itself, for the
  same models and tests with nothing new, is measured right after each day and taken off that day; both by dbt's own
  record of its models and tests, from the first one's begin to the last one's end, so that its start is in neither.
"""

from __future__ import annotations

import argparse
import atexit
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import psycopg

from octopus.core.sessions import Sessions
from octopus.core.types import FloatArray
from octopus.warehouse.verdicts import policy_verdicts, severe_cases
from resources.settings import ROOT, Settings, load_settings
from resources.warehouse import ingested, verdicts
from resources.warehouse.connection import Role, dbt_environment, sqlalchemy_url
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


_CURRENT = """
    select count(*), sum(hashfloat8extended(close, hashtextextended(instrument, extract(epoch from ts)::bigint)))
    from (select distinct on (source, instrument, ts) * from {table} order by source, instrument, ts {latest}) bars
"""


def current(url: str, table: str, latest: str = "") -> tuple[int, int]:
    """Number of bars in ``table`` and a checksum over their keys and closes, of the latest versions alone."""
    with psycopg.connect(url) as connection:
        row = connection.execute(_CURRENT.format(table=table, latest=latest)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def ours(url: str, stored: pl.DataFrame, fetched: pl.DataFrame) -> tuple[float, tuple[int, int, int], float]:
    """Seconds of the append, rows new, restated, unchanged, and by how many MB this process grew meanwhile."""
    store = Warehouse(url, Role.RESEARCH)
    store.append("bars", stored, source="bench", now=SEEN)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _memory("VmRSS")
    started = time.perf_counter()
    report = store.append("bars", fetched, source="bench", now=SEEN + timedelta(days=1))
    taken = time.perf_counter() - started
    return taken, (report.new, report.restated, report.unchanged), _memory("VmHWM") - before


def bare_copy(url: str, fetched: pl.DataFrame) -> float:
    """Seconds of a binary COPY of all rows into the same table, with its key and nothing compared."""
    import pgpq

    rows = fetched.with_columns(
        ingested_at=pl.lit(SEEN).cast(pl.Datetime("us", "UTC")), batch_id=pl.lit(1, pl.Int64)
    ).to_arrow()
    encoder = pgpq.ArrowToPostgresBinaryEncoder(rows.schema)
    parts = [encoder.write_header(), *map(encoder.write_batch, rows.to_batches(50_000)), encoder.finish()]
    columns = ", ".join(f'"{name}"' for name in rows.schema.names)

    def copy() -> None:
        statement = f"copy raw.bars ({columns}) from stdin (format binary)"
        with psycopg.connect(url) as connection, connection.cursor() as cursor, cursor.copy(statement) as stream:
            for part in parts:
                stream.write(part)

    return timed(copy)


def upsert(url: str, stored: pl.DataFrame, fetched: pl.DataFrame, *, time_index: bool) -> float:
    """Seconds of COPY to a stage and INSERT ... ON CONFLICT DO UPDATE into a hypertable that keeps one version."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create table peer ({COLUMNS}, primary key (source, instrument, ts))")
        if connection.execute("select from pg_extension where extname = 'timescaledb'").fetchone():
            connection.execute(
                "select create_hypertable('peer', by_range('ts', interval '1 year'), create_default_indexes => %s)",
                [time_index],
            )

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


@contextmanager
def database(server: str) -> Iterator[str]:
    """A migrated database of our own on ``server``, dropped at the end."""
    name = f"octopus_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
        try:
            url = server.rsplit("/", 1)[0] + "/" + name
            migrate(url)
            yield url
        finally:
            connection.execute(f'drop database "{name}" with (force)')


def appends(server: str, rows: int, rounds: int) -> Iterator[str]:
    """The best of ``rounds`` of each way in turn, each time in a fresh database; counts and checksums must agree."""
    stored, fetched = case(rows)
    expected = (len(fetched) - len(stored), len(stored) // 4, len(stored) - len(stored) // 4)
    seconds: dict[str, list[float]] = {}
    sums: set[tuple[int, int]] = set()
    grown = 0.0

    def count(name: str, taken: float, found: tuple[int, int]) -> None:
        seconds.setdefault(name, []).append(taken)
        sums.add(found)

    for _ in range(rounds):
        with database(server) as url:
            taken, counts, more = ours(url, stored, fetched)
            if counts != expected:
                raise SystemExit(f"rows new, restated, unchanged are {counts}, not {expected}")
            count("ours", taken, current(url, "raw.bars", ", batch_id desc"))
            grown = max(grown, more)
        with database(server) as url:
            count("bare binary COPY", bare_copy(url, fetched), current(url, "raw.bars"))
        for name, has_index in (("COPY to a stage, then upsert", True), ("… without the index on time", False)):
            with database(server) as url:
                count(name, upsert(url, stored, fetched, time_index=has_index), current(url, "peer"))
    if len(sums) != 1:
        raise SystemExit(f"all ways must end with the same rows, not with {sorted(sums)}")
    base = min(seconds["ours"])
    yield (
        f"append of {rows:,} bars (80 % new, 15 % unchanged, 5 % restated), same rows and checksum, best of {rounds}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name, taken_all in seconds.items():
        value = min(taken_all)
        told = f"   peak {grown:,.0f} MB beyond the frame" if name == "ours" else ""
        yield f"  {name:<30} {value:7.2f} s   {value / base:.2f} × ours   {rows / value:,.0f} rows/s{told}"


# As-of reads ---------------------------------------------------------------------------------------------------------

_AS_OF = """
    select instrument, session, open, high, low, close, volume, split_ratio, dividend from marts.prices
    where source = 'bench' and known_from <= '{as_of}' and (known_to is null or known_to > '{as_of}')
"""


def in_child(work: Callable[..., tuple[float, int, float]], *arguments: object) -> tuple[float, int, float, float]:
    """Seconds, rows and sum of closes of ``work`` in a process of its own, and its peak memory in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, *arguments))


def _measured(work: Callable[..., tuple[float, int, float]], *arguments: object) -> tuple[float, int, float, float]:
    found = work(*arguments)
    # Not getrusage: what that counts begins with the size of the process that started this one.
    return *found, _memory("VmHWM")


def _memory(kind: str) -> float:
    """MB of this process now (``VmRSS``) or at its peak (``VmHWM``)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(kind))
    return int(line.split()[1]) / 1024


def read_arrow(url: str, query: str) -> tuple[float, int, float]:
    """Ours."""
    started = time.perf_counter()
    frame = Warehouse(url, Role.RESEARCH).read(query)
    return time.perf_counter() - started, len(frame), float(frame["close"].sum())


def read_pandas(url: str, query: str) -> tuple[float, int, float]:
    """The peer."""
    import pandas as pd
    from sqlalchemy import create_engine

    engine = create_engine(sqlalchemy_url(url))
    started = time.perf_counter()
    frame = pd.read_sql(query, engine)
    return time.perf_counter() - started, len(frame), float(frame["close"].sum())


def describe(url: str, symbols: Sequence[str], opened: datetime) -> None:
    """An instrument row for each symbol, and the calendar that dbt joins."""
    from assets.warehouse import session_rows

    store = Warehouse(url, Role.RESEARCH)
    store.insert_new("ops.sessions", session_rows(Sessions("XNYS")))
    frame = pl.DataFrame({"instrument": symbols}).with_columns(
        source=pl.lit("bench"), ts=pl.lit(opened), name=pl.lit(None, pl.String), exchange=pl.lit("XNYS"),
        currency=pl.lit("USD"), asset_class=pl.lit("equity"), price_basis=pl.lit("raw"), lot_size=pl.lit(1.0),
        tick_size=pl.lit(None, pl.Float64), member_from=pl.lit(None, pl.Date), member_to=pl.lit(None, pl.Date),
        known_at=pl.lit(opened), known_at_imputed=pl.lit(value=True),
    )  # fmt: skip
    store.append("instruments", frame, source="bench")


@lru_cache(maxsize=1)
def _walks(count: int, sessions: int) -> FloatArray:
    """One walk of closes for each of ``count`` symbols, shape (count, sessions): it goes on from day to day."""
    moves = np.random.default_rng(1).normal(0, 0.015, (count, sessions))
    return np.round(50 * np.exp(np.cumsum(moves, axis=1)), 4)


def market(symbols: Sequence[str], first: int, stop: int, of: int = 2_600) -> pl.DataFrame:
    """Bars of sessions number ``first`` to ``stop`` of the exchange since 2010, half open, of walks over ``of``."""
    calendar = Sessions("XNYS")
    days = calendar.between(date(2010, 1, 4), date(2026, 12, 31))[first:stop]
    closes = calendar.closes_utc(days).tz_localize(None).to_numpy()
    count = len(symbols)
    close = _walks(count, of)[:, first:stop]
    random = np.random.default_rng(first)
    return pl.DataFrame(
        {"instrument": np.repeat(symbols, len(days)), "ts": np.tile(closes, count), "session": np.tile(days, count),
         "close": close.ravel(), "open": (close * random.uniform(0.995, 1.005, close.shape)).round(4).ravel(),
         "volume": random.integers(800_000, 1_200_000, close.size).astype(float)}
    ).with_columns(
        pl.col("ts").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), source=pl.lit("bench"),
        high=pl.max_horizontal("close", "open") * 1.003, low=pl.min_horizontal("close", "open") * 0.997,
    ).with_columns(known_at=pl.col("ts") + timedelta(minutes=15), known_at_imputed=pl.lit(value=True))  # fmt: skip


def dividends(symbols: Sequence[str], first: int, stop: int) -> pl.DataFrame:
    """One a quarter for each symbol, spread over ex-sessions number ``first`` to ``stop``, half open."""
    calendar = Sessions("XNYS")
    days = calendar.between(date(2010, 1, 4), date(2026, 12, 31))[first:stop]
    opens = calendar.opens_utc(days).tz_localize(None).to_numpy()
    number, at = np.nonzero((np.arange(len(symbols))[:, None] + np.arange(first, stop)) % 63 == 0)
    return pl.DataFrame(
        {"instrument": np.asarray(symbols)[number], "session": days[at], "ts": opens[at]}
    ).with_columns(
        pl.col("ts").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        source=pl.lit("bench"), kind=pl.lit("dividend"), value=pl.lit(0.25), detail=pl.lit(None, pl.String),
        known_at_imputed=pl.lit(value=True),
    ).with_columns(known_at=pl.col("ts"))  # fmt: skip


@dataclass(frozen=True)
class Built:
    """Seconds of one invocation of dbt: all of it, and from the first model's or test's begin to the last one's end."""

    wall: float
    nodes: float


def dbt(url: str, command: str, *select: str, since: date | None = None) -> Built:
    """One ``dbt run`` or ``build`` (data tests read sessions from ``since`` on).

    As in the house, a folder for each database keeps what was parsed: the first invocation parses everything.
    """
    project, target = str(ROOT / "dbt_project"), Path(_parsed()) / url.rpartition("/")[2]
    variables = {**dbt_environment(url), "OCTOPUS_CHECKED_SINCE": since.isoformat() if since else ""}
    words = [
        str(Path(sys.executable).parent / "dbt"), command, *select, "--project-dir", project,
        "--profiles-dir", project, "--target-path", str(target), "--log-path", str(target),
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(words, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    results = json.loads((target / "run_results.json").read_text())["results"]
    timings = [timing for result in results for timing in result["timing"]]
    begun = min(datetime.fromisoformat(timing["started_at"]) for timing in timings)
    ended = max(datetime.fromisoformat(timing["completed_at"]) for timing in timings)
    return Built(wall, (ended - begun).total_seconds())


@lru_cache(maxsize=1)
def _parsed() -> str:
    folder = tempfile.mkdtemp(prefix="octopus-bench-dbt-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def reads(server: str, symbols: int, sessions: int, rounds: int) -> Iterator[str]:
    """Everything known today of ``symbols`` over ``sessions``; both sides must give the same rows and sum."""
    names = [f"S{number:05d}" for number in range(symbols)]
    with database(server) as url:
        describe(url, names, Sessions("XNYS").open_utc(date(2010, 1, 4)))
        Warehouse(url, Role.RESEARCH).append("bars", market(names, 0, sessions), source="bench")
        dbt(url, "run", "--select", "+marts.prices")
        query = _AS_OF.format(as_of=datetime.now(UTC).isoformat())
        found = {
            "ours": [in_child(read_arrow, url, query) for _ in range(rounds)],
            "pandas.read_sql": [in_child(read_pandas, url, query) for _ in range(rounds)],
        }
    if len({(rows, round(total, 2)) for taken in found.values() for _, rows, total, _ in taken}) != 1:
        raise SystemExit("both reads must give the same rows and sum of closes")
    base = statistics.median(one[0] for one in found["ours"])
    yield f"as-of read of {symbols:,} symbols × {sessions:,} sessions, same rows and sum, median of {rounds}"
    for name, taken in found.items():
        value = statistics.median(one[0] for one in taken)
        yield f"  {name:<30} {value:7.2f} s   {value / base:.2f} × ours   peak {max(one[3] for one in taken):,.0f} MB"


# A day ---------------------------------------------------------------------------------------------------------------


def days(server: str, symbols: int, sizes: Sequence[int]) -> Iterator[str]:
    """One more session, ten others fetched again with it as every run does, after each of ``sizes`` sessions."""
    names = [f"S{number:05d}" for number in range(symbols)]
    until = max(sizes) + _DAYS + 1
    yield f"one more session of {symbols:,} symbols (ten fetched again), by sessions stored; seconds, median of {_DAYS}"
    with database(server) as url:
        describe(url, names, Sessions("XNYS").open_utc(date(2010, 1, 4)))
        store = Warehouse(url, Role.RESEARCH)
        settings = _settings(url)
        held = 0
        for size in sizes:
            store.append("bars", market(names, held, size, until), source="bench")
            store.append("corporate_actions", dividends(names, held, size), source="bench")
            # The day before, whole: as on the first session of a month.
            last = _session(size - 1)
            with psycopg.connect(url) as connection:
                connection.execute("truncate ops.quality_audits")
            before = timed(lambda day=last: audit_before(settings, store, day))  # type: ignore[misc]
            dbt(url, "run")
            whole = before + timed(lambda day=last: audit_after(settings, store, day))  # type: ignore[misc]
            # A day comes to a settled server: the autovacuum that a bulk load sets off is no part of it.
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("vacuum (analyze)")
            taken = [_day(url, settings, store, names, number, until) for number in range(size, size + _DAYS)]
            usual = {name: statistics.median(one[name] for one in taken) for name in taken[0]}
            total = statistics.median(sum(one[name] for name in _PARTS) for one in taken)
            told = ", ".join(f"{name} {usual[name]:.2f}" for name in _PARTS)
            yield (
                f"  {size:>6,} sessions: {total:.2f} ({told}) beyond what dbt takes with nothing new: "
                f"{usual['idle']:.2f} for its models and tests, {usual['start']:.2f} to start and to end; "
                f"a month's audit of everything {whole:.1f}; load {os.getloadavg()[0]:.1f}"
            )
            held = size + _DAYS


_NO_UNIT_TESTS = ("--exclude-resource-type", "unit_test")
_DAYS = 3
"""So many sessions, one after the other, of which the median is told."""
_PARTS = ("append", "audit", "marts", "audit after")


def _day(
    url: str, settings: Settings, store: Warehouse, names: Sequence[str], number: int, until: int
) -> dict[str, float]:
    """Seconds of session ``number``, part by part; beside them of dbt's ``idle`` models and tests and ``start``."""
    again = store.read(
        "select source, instrument, ts, session, open, high, low, close, volume, known_at, known_at_imputed "
        "from raw.bars where session > (select max(session) from raw.bars) - 14"
    )
    fetched = pl.concat([again, market(names, number, number + 1, until).select(again.columns)])
    paid = dividends(names, number - 10, number + 1)
    day = _session(number)
    parts = {
        "append": timed(lambda: store.append("bars", fetched, source="bench"))
        + timed(lambda: store.append("corporate_actions", paid, source="bench")),
        "audit": timed(lambda: audit_before(settings, store, day)),
    }
    built = dbt(url, "build", *_NO_UNIT_TESTS, since=day)
    parts["audit after"] = timed(lambda: audit_after(settings, store, day))
    idle = dbt(url, "build", *_NO_UNIT_TESTS, since=date(9999, 12, 31))
    return {**parts, "marts": built.nodes - idle.nodes, "idle": idle.nodes, "start": idle.wall - idle.nodes}


def _session(number: int) -> date:
    day: date = Sessions("XNYS").between(date(2010, 1, 4), date(2026, 12, 31))[number].item()
    return day


def _settings(url: str) -> Settings:
    """The shipped settings, reading the source ``bench`` of the database at ``url``."""
    found = load_settings({"OCTOPUS_DATABASE_URL": url, "OCTOPUS_DAGSTER_URL": url, "OCTOPUS_MLFLOW_URL": url})
    return replace(found, universe=found.universe.model_copy(update={"market_data": "bench"}))


def audit_before(settings: Settings, store: Warehouse, session: date) -> None:
    """What the asset of verdicts does before the marts are built."""
    from assets.audits import DayAudit

    with store.held() as held:
        stored = verdicts.last_batch(held)
        looked = DayAudit(settings, held, session).look()
    cases = severe_cases(looked.findings, "bench", settings.sessions)
    decided = [(case, settings.quality.decision(case.kind)) for case in cases]
    verdicts.store(store, policy_verdicts(decided, looked.bars, looked.actions, settings.sessions), "bench")
    verdicts.judged(store, "bench", stored)


def audit_after(settings: Settings, store: Warehouse, session: date) -> None:
    """What the asset of findings does after the marts are built."""
    from assets.audits import DayAudit

    with store.held() as held:
        audit = DayAudit(settings, held, session)
        found, _ = audit.rows()
        for label, rows in found.items():
            stamped = rows.with_columns(ingested_at=pl.lit(datetime.now(UTC)))
            held.replace("ops.quality_findings", {"source": label}, stamped, keep=("ingested_at",))
        ingested.refresh(store.url, whole=audit.whole is not None)
        audit.done()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("OCTOPUS_TEST_TIMESCALE_URL"))
    parser.add_argument("--rows", type=int, default=2_500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=5_000, help="of the day")
    parser.add_argument("--only", choices=["append", "read", "day"])
    arguments = parser.parse_args()
    if not arguments.url:
        raise SystemExit("name a server: --url, or OCTOPUS_TEST_TIMESCALE_URL=$(deploy/timescaledb/dev-server start)")
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "append": lambda: appends(arguments.url, arguments.rows, arguments.rounds),
        "read": lambda: reads(arguments.url, arguments.rows // 2_500, 2_500, arguments.rounds),
        "day": lambda: days(arguments.url, arguments.symbols, (250, 500, 1_000)),
    }
    for name, lines in parts.items():
        if arguments.only in (None, name):
            for line in lines():
                print(line, flush=True)


if __name__ == "__main__":
    main()
