"""On a real TimescaleDB the time tables are hypertables, and appends and as-of reads do the same as on PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from resources.warehouse.connection import Role, connect
from resources.warehouse.migrate import downgrade, migrate
from resources.warehouse.store import Warehouse

pytestmark = pytest.mark.timescale


@pytest.fixture
def timescale() -> Iterator[str]:
    server = os.environ.get("OCTOPUS_TEST_TIMESCALE_URL")
    if not server:
        pytest.skip("no TimescaleDB: `make timescaledb`, start it, and set OCTOPUS_TEST_TIMESCALE_URL")
    name = f"octopus_ts_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
        try:
            url = server.rsplit("/", 1)[0] + f"/{name}"
            assert make_conninfo(url)
            migrate(url)
            yield url
        finally:
            connection.execute(f'drop database if exists "{name}" with (force)')


def test_time_tables_are_hypertables_and_go_back(timescale: str) -> None:
    with connect(timescale) as connection:
        rows = connection.execute(
            "select hypertable_name from timescaledb_information.hypertables order by 1"
        ).fetchall()
        assert [name for (name,) in rows] == [
            "adjusted_closes",
            "bars",
            "corporate_actions",
            "intraday_bars",
            "news",
            "sentiment_scores",
            "social_posts",
        ]
    downgrade(timescale)
    migrate(timescale)


def test_versions_over_many_chunks_are_appended_once(timescale: str) -> None:
    warehouse = Warehouse(timescale, Role.RESEARCH)
    start = datetime(1990, 1, 2, 21, tzinfo=UTC)
    stamps = [start + timedelta(days=7 * week) for week in range(1700)]
    frame = pl.DataFrame({"ts": stamps}).with_columns(
        source=pl.lit("t"), instrument=pl.lit("A"), session=pl.col("ts").dt.date(), open=pl.lit(None, pl.Float64),
        high=pl.lit(None, pl.Float64), low=pl.lit(None, pl.Float64), close=pl.lit(1.0), volume=pl.lit(None, pl.Float64),
        known_at=pl.col("ts"), known_at_imputed=pl.lit(value=True),
    )  # fmt: skip
    assert warehouse.append("bars", frame, source="t").new == 1700
    assert not warehouse.append("bars", frame, source="t").changed
    with connect(timescale) as connection:
        chunks = connection.execute("select count(*) from timescaledb_information.chunks").fetchone()
        bucketed = connection.execute(
            "select count(*) from (select time_bucket('1 year', ts) from raw.bars group by 1) t"
        ).fetchone()
    assert chunks is not None
    assert chunks[0] > 30
    assert bucketed is not None
    assert bucketed[0] >= 32
