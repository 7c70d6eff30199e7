"""What a vendor changed after the fact, on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from octopus_pipelines.cli.revisions import revisions as command
from resources.warehouse.connection import Role
from resources.warehouse.revisions import revisions
from resources.warehouse.store import Warehouse

FIRST, LAST = date(2022, 1, 1), date(2022, 12, 31)
SEEN = datetime(2026, 1, 1, tzinfo=UTC)


def bars(close: list[float], volume: list[float | None], source: str = "v") -> pl.DataFrame:
    days = [date(2022, 12, 1) + timedelta(days=offset) for offset in range(len(close))]
    stamps = [datetime(day.year, day.month, day.day, 21, tzinfo=UTC) for day in days]
    return pl.DataFrame(
        {
            "source": source, "instrument": "A", "ts": stamps, "session": days, "open": None, "high": None, "low": None,
            "close": close, "volume": volume, "known_at": stamps, "known_at_imputed": True,
        },
        schema_overrides={"volume": pl.Float64},
    )  # fmt: skip


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    store = Warehouse(database_url, Role.RESEARCH)
    for number, (close, volume) in enumerate([(2.0, None), (2.5, 20.0), (2.0, 20.0)]):
        fetched = bars([1.0, close, 3.0], [10.0, volume, 30.0])
        store.append("bars", fetched, source="v", now=SEEN + timedelta(days=number))
    store.append("bars", bars([9.0], [1.0], source="w"), source="w")
    return store


def test_each_changed_field_is_told_with_before_and_after(warehouse: Warehouse) -> None:
    found = revisions(warehouse, "v", FIRST, LAST)
    told = found.select("session", "field", "before", "after").rows()
    day = date(2022, 12, 2)
    assert told == [(day, "close", "2.0", "2.5"), (day, "volume", None, "20.0"), (day, "close", "2.5", "2.0")]
    assert found["seen_at"].to_list() == [SEEN + timedelta(days=n) for n in (1, 1, 2)]


def test_a_dividend_that_came_with_another_amount_is_told_as_a_bar_is(warehouse: Warehouse) -> None:
    stamp = datetime(2022, 12, 2, 14, 30, tzinfo=UTC)
    for number, (cash, kind) in enumerate([(0.23, "dividend"), (0.46, "dividend"), (4.0, "split")]):
        paid = pl.DataFrame(
            {
                "source": "v", "instrument": "A", "ts": stamp, "session": stamp.date(), "kind": kind, "value": cash,
                "detail": None, "known_at": stamp, "known_at_imputed": True,
            },
            schema_overrides={"detail": pl.String},
        )  # fmt: skip
        warehouse.append("corporate_actions", paid, source="v", now=SEEN + timedelta(days=number))
    told = revisions(warehouse, "v", FIRST, LAST).filter(pl.col("row") != "bar")
    expected = [(stamp.date(), "dividend", "changed", "value", "0.23", "0.46")]
    assert told.select("session", "row", "change", "field", "before", "after").rows() == expected


def test_range_instrument_and_source_narrow_it(warehouse: Warehouse) -> None:
    assert revisions(warehouse, "v", date(2022, 12, 3), LAST).is_empty()
    assert revisions(warehouse, "v", FIRST, LAST, "B").is_empty()
    assert revisions(warehouse, "w", FIRST, LAST).is_empty()
    assert revisions(warehouse, "v", FIRST, LAST, "A").height == 3


def test_the_command_prints_what_changed_and_says_when_nothing_did(warehouse: Warehouse, tmp_path: Path) -> None:
    databases = {f"OCTOPUS_{name}_URL": warehouse.url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    house = {**databases, "OCTOPUS_HOME": str(tmp_path)}

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(command, arguments, env=house)
        assert result.exception is None
        return result.output

    header, *lines = told("--source", "v", "--csv").splitlines()
    assert header == "instrument,session,row,seen_at,batch_id,change,field,before,after"
    assert lines[1].startswith("A,2022-12-02,bar,2026-01-02 ")
    assert lines[1].endswith(",changed,volume,,20.0")
    assert "–" in told("--source", "v"), "no value"
    assert told("--source", "w").startswith("w changed and withdrew nothing that is stored")
