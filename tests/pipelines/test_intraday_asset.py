"""The asset that collects bars within the day: off, on, with holes and differences, and cut short by a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets import inputs
from assets.intraday import ALL_ASKED, LIKE_THE_DAY, NOTHING_MISSING, intraday_bars
from assets.market_data import market_data
from assets.warehouse import session_rows, verdicts
from octopus.core.sessions import Sessions
from octopus.market_data.intraday import session_grid, settle_intraday
from resources.sources.base import IntradayPart
from resources.sources.patience import BudgetExhaustedError
from resources.warehouse import intraday
from tests.pipelines.conftest import House, make_house

XNYS = Sessions()
SESSION = date(2022, 12, 27)
DAYS = [day.item() for day in XNYS.between(date(2022, 12, 20), SESSION)]
NAMES = ("AAPL", "KO")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Daily bars between 9 and 11 that close at 10.5, of a thousand shares."""
    folder = tmp_path_factory.mktemp("intraday")
    lines = [f"{name},{day},10,11,9,10.5,1000" for name in NAMES for day in DAYS]
    (folder / "bars.csv").write_text("\n".join(["instrument,session,open,high,low,close,volume", *lines, ""]))
    changes = {
        "universe.universe.market_data": "files", "universe.universe.files": {"bars": str(folder / "bars.csv")},
        "universe.universe.symbols": {name: name for name in NAMES},
        "universe.intraday": {"source": "alpaca", "interval": 30, "history_sessions": len(DAYS)},
    }  # fmt: skip
    for made in make_house(server_url, folder / "house", **changes):
        made.resources["warehouse"].insert_new("ops.sessions", session_rows(made.settings.sessions))
        for asset in (market_data, verdicts):
            made.call(asset, str(SESSION))
        yield made


@pytest.fixture(autouse=True)
def empty(house: House) -> None:
    """No bar of another test."""
    with house.warehouse.connect() as connection:
        connection.execute("truncate raw.intraday_bars, ops.intraday_sessions")


@dataclass
class Vendor:
    """Bars of 10 to 10.5, each symbol's in a part of its own, as its `edit` leaves them."""

    edit: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame
    limit: int = 99
    name: str = "alpaca"
    needs: tuple[str, ...] = ()
    asked: list[tuple[tuple[str, ...], date, date]] = field(default_factory=list)

    def intraday(self, name: str) -> Vendor:
        assert name == self.name
        return self

    def fetch_intraday(
        self, symbols: Sequence[str], start: date, end: date, minutes: int, sessions: Sessions
    ) -> Iterator[IntradayPart]:
        self.asked.append((tuple(symbols), start, end))
        for symbol in symbols:
            if not self.limit:
                raise BudgetExhaustedError("alpaca: our budget is spent", datetime(2022, 12, 29, tzinfo=UTC))
            self.limit -= 1
            grid = session_grid(sessions, start, end, minutes)
            step = pl.duration(minutes=minutes)
            begun = grid.select(begun=pl.datetime_ranges("first", pl.col("closes") - step, f"{minutes}m")).explode(
                "begun"
            )
            told = begun.with_columns(
                source=pl.lit(self.name),
                instrument=pl.lit(symbol),
                open=10.0,
                high=10.6,
                low=9.9,
                close=10.5,
                volume=60.0,
            )
            bars, rejects = settle_intraday([self.edit(told)], minutes, start, end, sessions, datetime.now(UTC))
            yield IntradayPart((symbol,), start, end, bars, rejects, "hash")


def collected(house: House, vendor: Vendor, *, stopped: bool = False, source: str | None = "alpaca") -> Row:
    """Run the asset; its metadata, and what each check says."""
    settings = replace(house.settings, intraday=house.settings.intraday.model_copy(update={"source": source}))
    resources = {"settings": settings, "warehouse": house.warehouse, "market_data_catalogue": vendor}
    result = dg.materialize(
        [intraday_bars], partition_key=str(SESSION), resources=resources, raise_on_error=False,
        instance=dg.DagsterInstance.ephemeral(),
    )  # fmt: skip
    assert result.success is not stopped
    shown = [one.step_materialization_data.materialization for one in result.get_asset_materialization_events()]
    told = {name: value.value for one in shown for name, value in one.metadata.items()}
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    said = {f"{name}.{what}": value.value for name, check in checks.items() for what, value in check.metadata.items()}
    assert {name: check.severity.value for name, check in checks.items()} == {
        ALL_ASKED: "ERROR", NOTHING_MISSING: "WARN", LIKE_THE_DAY: "WARN",
    }  # fmt: skip
    return told | said | {name: check.passed for name, check in checks.items()}


def sessions_of(house: House) -> dict[str, int]:
    rows = house.warehouse.rows(
        "select instrument, count(distinct session)::int as n from raw.intraday_bars group by 1"
    )
    return {row["instrument"]: row["n"] for row in rows}


def test_without_a_source_nobody_is_asked_and_nothing_is_made(house: House) -> None:
    vendor = Vendor()
    shown = collected(house, vendor, source=None)
    assert vendor.asked == []
    assert "rows_new" not in shown


def test_what_is_missing_is_asked_for_and_then_only_the_last_session_again(house: House) -> None:
    vendor = Vendor()
    shown = collected(house, vendor)
    assert vendor.asked == [(NAMES, DAYS[0], SESSION)]
    assert (shown["rows_new"], shown["parts"]) == (2 * 13 * len(DAYS), 2)
    assert shown[ALL_ASKED]
    assert shown[NOTHING_MISSING]
    assert shown[LIKE_THE_DAY]
    again = collected(house, vendor)
    assert vendor.asked[1:] == [(NAMES, SESSION, SESSION)]
    assert (again["rows_new"], again["rows_restated"], again["rows_unchanged"]) == (0, 0, 2 * 13)
    kept = intraday.intraday_bars(
        house.warehouse, "alpaca", 30, XNYS.open_utc(SESSION), start=DAYS[0], end=SESSION, instruments=["KO"]
    )
    assert kept["session"].max() == DAYS[-2], "nothing of a session is known at its opening"
    assert len(kept) == 13 * (len(DAYS) - 1)


def test_intervals_that_are_missing_and_bars_of_another_day_are_shown_and_stop_nobody(house: House) -> None:
    noon = pl.datetime(2022, 12, 21, 17, time_zone="UTC")
    is_pence = (pl.col("instrument") == "KO") & (pl.col("begun").dt.date() == DAYS[2])

    def edit(told: pl.DataFrame) -> pl.DataFrame:
        prices = [pl.when(is_pence).then(pl.col(name) * 100).otherwise(name).alias(name)
                  for name in ("open", "high", "low", "close")]  # fmt: skip
        return told.filter(pl.col("begun") != noon).with_columns(prices)

    shown = collected(house, Vendor(edit))
    assert (shown[ALL_ASKED], shown[NOTHING_MISSING], shown[LIKE_THE_DAY]) == (True, False, False)
    assert shown[f"{NOTHING_MISSING}.count"] == shown["intervals_missing"] == 2
    assert "2022-12-21" in shown[f"{NOTHING_MISSING}.table"]
    assert shown[f"{LIKE_THE_DAY}.count"] == 2, "a high and a close a hundred times the day's"
    assert "1060" in shown[f"{LIKE_THE_DAY}.table"]


def test_a_limit_keeps_what_came_and_the_next_run_asks_for_the_rest(house: House) -> None:
    shown = collected(house, Vendor(limit=1), stopped=True)
    assert sessions_of(house) == {"AAPL": len(DAYS)}
    assert shown["retry_at"] == "2022-12-29T00:00:00+00:00"
    assert not shown[ALL_ASKED]
    assert "KO" in shown[f"{ALL_ASKED}.table"]
    assert "AAPL" not in shown[f"{ALL_ASKED}.table"]
    vendor = Vendor()
    assert collected(house, vendor)[ALL_ASKED]
    assert vendor.asked == [(("KO",), DAYS[0], SESSION), (("AAPL",), SESSION, SESSION)]
    assert sessions_of(house) == dict.fromkeys(NAMES, len(DAYS))


def test_the_panel_has_the_average_of_each_session_from_when_it_was_known(house: House) -> None:
    def edit(told: pl.DataFrame) -> pl.DataFrame:
        """KO's first bar of each session trades at 9.9, as much as all others at 10.1; AAPL's averages are no prices of
        its days."""
        first = pl.col("begun") == pl.col("begun").min().over(pl.col("begun").dt.date())
        vwap = pl.when(pl.col("instrument") == "AAPL").then(20.2).when(first).then(9.9).otherwise(10.1)
        return told.with_columns(volume=pl.when(first).then(720.0).otherwise(60.0), vwap=vwap)

    collected(house, Vendor(edit))
    house.dbt("session_bars", "prices", "universe")
    sessions = house.warehouse.read("select * from marts.session_bars order by instrument, session")
    assert sessions["known_from"].to_list() == [XNYS.close_utc(day) for day in DAYS] * 2
    assert sessions["vwap"].round(6).to_list() == [20.2] * len(DAYS) + [10.0] * len(DAYS)
    panel = inputs.panel_as_of(house.settings, house.warehouse, datetime.now(UTC))
    assert panel.vwap is not None
    assert np.allclose(panel.vwap, [[np.nan, 10.0]] * len(DAYS), equal_nan=True)
    before = inputs.panel_as_of(house.settings, house.warehouse, XNYS.decision_utc(DAYS[2]))
    assert before.vwap is not None
    assert len(before.vwap) == 3
    off = replace(house.settings, intraday=house.settings.intraday.model_copy(update={"source": None}))
    assert inputs.panel_as_of(off, house.warehouse, datetime.now(UTC)).vwap is None
