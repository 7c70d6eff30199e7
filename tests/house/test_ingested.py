"""What was ingested by week, on both kinds of server, and how appends fare where old bars are compressed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import psycopg
import pytest

from octopus.core.sessions import Sessions
from resources.warehouse.connection import Role, connect
from resources.warehouse.ingested import refresh, weekly_gaps
from resources.warehouse.migrate import migrate
from resources.warehouse.store import Warehouse

XNYS = Sessions("XNYS")
DAYS = [day.item() for day in XNYS.between(date(2019, 12, 23), date(2020, 1, 24))]
SEEN = datetime(2026, 1, 1, tzinfo=UTC)
MONDAY = {number: datetime(2020, 1, number, tzinfo=UTC) for number in (6, 13, 20)}


def bars(days: list[date], close: float = 10.0, instrument: str = "A") -> pl.DataFrame:
    stamps = [XNYS.close_utc(day) for day in days]
    return pl.DataFrame(
        {
            "source": "s", "instrument": instrument, "ts": stamps, "session": days, "open": close, "high": close,
            "low": close, "close": close, "volume": 1.0, "known_at": stamps, "known_at_imputed": True,
        }
    )  # fmt: skip


@pytest.fixture
def warehouse(new_database: Callable[[], str]) -> Warehouse:
    url = new_database()
    migrate(url)
    store = Warehouse(url, Role.RESEARCH)
    described = {"source": "s", "instrument": "A", "ts": SEEN - timedelta(days=9999), "name": "A", "exchange": "XNYS",
                 "currency": "USD", "asset_class": "equity", "price_basis": "raw", "lot_size": 1.0, "tick_size": 0.01,
                 "member_from": DAYS[0], "member_to": DAYS[-1], "known_at": SEEN, "known_at_imputed": True}  # fmt: skip
    store.append("instruments", pl.DataFrame([described]), source="s")
    instants = {"open_utc": XNYS.open_utc, "close_utc": XNYS.close_utc, "decision_utc": XNYS.decision_utc}
    calendar = {name: [at(day) for day in DAYS] for name, at in instants.items()}
    store.insert_new("ops.sessions", pl.DataFrame({"exchange": "XNYS", "session": DAYS, **calendar}))
    return store


def weeks(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    rows = warehouse.read("select week, rows, sessions, last_batch_id from ops.ingested_weekly order by week")
    return rows.rows()


def test_weeks_count_versions_and_sessions(warehouse: Warehouse) -> None:
    whole = [day for day in DAYS if day >= date(2020, 1, 6)]
    warehouse.append("bars", bars(whole), source="s", now=SEEN)
    refresh(warehouse.url)
    # The 20th is Martin Luther King's day.
    assert weeks(warehouse) == [(MONDAY[6], 5, 5, 2), (MONDAY[13], 5, 5, 2), (MONDAY[20], 4, 4, 2)]
    # A restatement, long after, of a week that was counted: another row and no other session.
    before = weeks(warehouse)
    warehouse.append("bars", bars([date(2020, 1, 8)], 11.0), source="s", now=SEEN + timedelta(days=1))
    refresh(warehouse.url, whole=False)
    if warehouse.scalar("select relkind = 'm' from pg_class where oid = 'ops.ingested_weekly'::regclass"):
        assert weeks(warehouse) == before, "no day counts all of history"
    refresh(warehouse.url)
    assert weeks(warehouse) == [(MONDAY[6], 6, 5, 3), (MONDAY[13], 5, 5, 2), (MONDAY[20], 4, 4, 2)]
    assert weekly_gaps(warehouse, "s").is_empty()


def test_a_week_with_few_sessions_or_none_is_a_gap(warehouse: Warehouse) -> None:
    held = [day for day in DAYS if day < date(2020, 1, 10) and day != date(2019, 12, 31)] + [DAYS[-1]]
    warehouse.append("bars", bars(held), source="s")
    warehouse.append("bars", bars(held, instrument="without a description"), source="s")
    refresh(warehouse.url)
    assert weekly_gaps(warehouse, "s").rows() == [
        ("A", date(2019, 12, 30), 4, 3),
        ("A", date(2020, 1, 6), 5, 4),
        ("A", date(2020, 1, 13), 5, 0),
        ("A", date(2020, 1, 20), 4, 1),
    ]
    assert weekly_gaps(warehouse, "another").is_empty()


def test_the_server_gets_what_its_edition_has(warehouse: Warehouse) -> None:
    with connect(warehouse.url, autocommit=True) as connection:
        (licence,) = connection.execute("select current_setting('timescaledb.license', true)").fetchone() or ("",)
        (kind,) = connection.execute(
            "select relkind::text from pg_class where oid = 'ops.ingested_weekly'::regclass"
        ).fetchone() or ("",)
        if licence is None:
            assert kind == "m"
            return
        policies = connection.execute(
            "select hypertable_name, proc_name, config ->> 'compress_after' from timescaledb_information.jobs "
            "where hypertable_schema = 'raw' order by 1"
        ).fetchall()
    if licence == "timescale":
        assert kind == "v"
        assert policies == [(name, "policy_compression", "2 years") for name in ("adjusted_closes", "bars")]
    else:
        assert (kind, policies) == ("m", [])


def test_a_restatement_of_compressed_bars_is_appended_and_read(warehouse: Warehouse) -> None:
    """On every server; where the edition compresses, the chunk is compressed, and stays so."""
    warehouse.append("bars", bars(DAYS), source="s", now=SEEN)
    with connect(warehouse.url, autocommit=True) as connection:
        (licence,) = connection.execute("select current_setting('timescaledb.license', true)").fetchone() or ("",)
        if licence == "timescale":
            connection.execute("select compress_chunk(chunk) from show_chunks('raw.bars') chunk")
        again = warehouse.append("bars", bars(DAYS, 10.0), source="s", now=SEEN + timedelta(days=1))
        assert again.batch_id is None
        mixed = bars(DAYS[:3], 11.0).vstack(bars(DAYS[3:6], 10.0)).vstack(bars(DAYS[:2], 5.0, "B"))
        report = warehouse.append("bars", mixed, source="s", now=SEEN + timedelta(days=2))
        assert (report.new, report.restated, report.unchanged) == (2, 3, 3)
        if licence == "timescale":
            compressed = connection.execute(
                "select is_compressed from timescaledb_information.chunks where hypertable_name = 'bars'"
            ).fetchall()
            assert set(compressed) == {(True,)}
    versions = warehouse.read(
        "select close from raw.bars where instrument = 'A' and session = $1 order by batch_id", [DAYS[0]]
    )
    assert versions["close"].to_list() == [10.0, 11.0]
    with pytest.raises(psycopg.errors.UniqueViolation), connect(warehouse.url) as connection:
        connection.execute("insert into raw.bars select * from raw.bars where instrument = 'A' limit 1")
