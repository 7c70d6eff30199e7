"""The daily path on a live source: Yahoo's answers day by day, orders at the next open, fills once its bars are in.

The service is a server of the test's own that serves real recorded prices in Yahoo's form up to the clock's day; the
client is the real yfinance, the clock is the test's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets import execution, portfolio
from assets.compliance import pretrade_report
from assets.market_data import market_data
from assets.risk import limit_report, measures
from assets.strategy import features, signals
from assets.warehouse import quality_findings, session_rows
from octopus.core.sessions import Sessions
from octopus_pipelines.sensors.execution import next_execution
from resources.gates import Gates
from resources.research_factories import market_data_source
from resources.sources.http import Access
from resources.sources.yahoo import YahooMarketData
from resources.trading import Trading, paper_broker
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from tests.pipelines.conftest import House, make_house
from tests.pipelines.yahoo_stand import serving

SYMBOLS = {"AAPL": "Apple", "CVX": "Chevron", "JNJ": "Johnson & Johnson", "KO": "Coca-Cola", "INTC": "Intel",
           "PFE": "Pfizer", "PG": "Procter & Gamble", "WMT": "Walmart", "XOM": "Exxon Mobil"}  # fmt: skip
SECTORS = {"AAPL": "technology", "CVX": "energy", "JNJ": "health care", "KO": "staples", "INTC": "technology",
           "PFE": "health care", "PG": "staples", "WMT": "staples", "XOM": "energy"}  # fmt: skip
XNYS = Sessions()
DECIDED, EXECUTED = date(2017, 8, 29), date(2017, 8, 30)
PLAN = (
    quality_findings, portfolio.opening_positions, features, signals, portfolio.target_weights,
    portfolio.rebalance_plan, limit_report, measures, pretrade_report,
)  # fmt: skip


@dataclass
class TestClock:
    """Moved by the test and by waiting."""

    __test__ = False
    at: datetime

    def now(self) -> datetime:
        return self.at

    def wait_until(self, instant: datetime) -> None:
        self.at = max(self.at, instant)


@pytest.fixture(scope="module")
def clock() -> TestClock:
    return TestClock(XNYS.decision_utc(DECIDED))


@pytest.fixture(scope="module")
def prices(test_data: Path) -> pl.DataFrame:
    frame = pl.read_parquet(test_data / "prices_stocknet.parquet").rename({"date": "session"})
    return frame.filter(pl.col("symbol").is_in(list(SYMBOLS))).with_columns(pl.col("session").cast(pl.Date))


@pytest.fixture(scope="module")
def yahoo_url(prices: pl.DataFrame, clock: TestClock) -> Iterator[str]:
    def chart_so_far(symbol: str) -> bytes:
        own = prices.filter(pl.col("symbol") == symbol).sort("session")
        closed = [day <= DECIDED or XNYS.close_utc(day) < clock.now() for day in own["session"]]
        return json.dumps(chart(symbol, own.filter(pl.Series(closed)))).encode()

    with serving(chart_so_far) as url:
        yield url


def chart(symbol: str, rows: pl.DataFrame) -> dict[str, Any]:
    """``rows`` in the form of Yahoo's chart answer, as tests/sources has it recorded."""
    stamps = [int((datetime(d.year, d.month, d.day, 13, 30, tzinfo=UTC)).timestamp()) for d in rows["session"]]
    quote = {name: rows[name].to_list() for name in ("open", "high", "low", "close", "volume")}
    meta = {
        "currency": "USD", "symbol": symbol, "exchangeName": "NYQ", "instrumentType": "EQUITY",
        "firstTradeDate": stamps[0], "regularMarketTime": stamps[-1], "gmtoffset": -14400, "timezone": "EDT",
        "exchangeTimezoneName": "America/New_York", "priceHint": 2, "dataGranularity": "1d", "range": "",
        "validRanges": ["1d", "max"], "longName": SYMBOLS[symbol], "shortName": SYMBOLS[symbol],
    }  # fmt: skip
    result = {
        "meta": meta, "timestamp": stamps,
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": quote["close"]}]},
    }  # fmt: skip
    return {"chart": {"result": [result], "error": None}}


@pytest.fixture(scope="module")
def house(
    server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None, yahoo_url: str, clock: TestClock
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("live")
    changes = {
        "universe.universe.market_data": "yahoo", "universe.universe.symbols": SYMBOLS,
        "universe.universe.history_start": "2015-01-02", "universe.universe.sectors": SECTORS,
    }  # fmt: skip
    for made in make_house(server_url, folder, **changes):
        broker = paper_broker(made.settings, clock)
        source = YahooMarketData(Access(yahoo_url), cache_dir=folder / "yfinance", now=clock.now)
        made.resources.update(
            clock=clock, broker=broker, trading=Trading(made.settings, clock, broker), market_data_source=source
        )
        made.resources["warehouse"].insert_new("ops.sessions", session_rows(made.settings.sessions))
        yield made


def execute(house: House) -> None:
    """All steps in one run, as the sensor asks for."""
    trader = Warehouse(house.settings.database_url, Role.TRADER)
    resources = {"warehouse": trader, "trading": house.resources["trading"]}
    instance = dg.DagsterInstance.ephemeral()
    assert dg.materialize(
        list(execution.ASSETS), partition_key=DECIDED.isoformat(), resources=resources, instance=instance
    ).success


def an_evening_passes(house: House) -> None:
    """Runs count as alive for some seconds of the database's own time."""
    with house.warehouse.connect() as connection:
        connection.execute("update execution.launches set last_seen = last_seen - interval '1 hour'")


def orders(house: House) -> list[dict[str, Any]]:
    return house.warehouse.rows(
        """
        select i.instrument, i.side, i.order_type, o.state, f.price, f.at
        from execution.orders o join execution.order_intents i using (intent_id)
        left join execution.fills f on f.client_order_id = o.client_order_id order by i.instrument
        """
    )


def messages(house: House, now: datetime) -> set[tuple[str, str]]:
    """What the gates say was sent lately."""
    account = house.settings.paper.account
    with house.resources["trading"].engine() as engine:
        batch = engine.store.batch(house.warehouse.scalar("select batch_id from execution.attempts limit 1")).batch
    snapshot = house.resources["broker"].snapshot(house.settings.symbols)
    market = Gates(house.settings, Warehouse(house.settings.database_url, Role.TRADER)).market(batch, snapshot, now)
    assert market.sent is not None
    assert snapshot.account == account
    assert market.sectors == SECTORS
    return {(message.instrument, message.side.value) for message in market.sent}


def risk_measures(house: House) -> list[dict[str, Any]]:
    found = house.warehouse.rows("select * from risk.measures where session = %s order by measure, subject", [DECIDED])
    kinds = {row["measure"] for row in found}
    assert kinds >= {"var_95", "cvar_95", "beta", "component_cvar_95", "sector_gross", "stress_loss"}
    assert all(row["value"] > 0 for row in found if row["measure"] == "days_to_liquidate")
    return found


@pytest.mark.timeout(300)
def test_orders_of_one_evening_fill_at_the_next_open_once_its_bars_are_in(
    house: House, clock: TestClock, prices: pl.DataFrame
) -> None:
    assert isinstance(market_data_source(house.settings), YahooMarketData)
    house.call(market_data, DECIDED.isoformat())
    house.dbt()
    for asset in PLAN:
        house.call(asset, DECIDED.isoformat())
    lost = house.warehouse.scalar(
        "select certificate -> 'rounding' from portfolio.decisions where session = %s", [DECIDED]
    )
    assert 0 < lost["distance"] < 0.1, "whole shares and the no-trade band leave a little undone"
    assert lost["objective_gap"] is not None
    asked = next_execution(house.settings, clock.now())
    assert isinstance(asked, dg.SkipReason)
    assert "the window of batch" in str(asked.skip_message)

    clock.at = XNYS.open_utc(EXECUTED) - timedelta(minutes=20)
    asked = next_execution(house.settings, clock.now())
    assert isinstance(asked, dg.RunRequest), asked
    execute(house)
    sent = orders(house)
    assert sent
    assert messages(house, clock.now()) == {(o["instrument"], o["side"]) for o in sent}
    assert messages(house, clock.now() + timedelta(hours=2)) == set(), "longer ago than any limit looks back"
    measured = risk_measures(house)
    assert {(o["order_type"], o["state"], o["price"]) for o in sent} == {("market_on_open", "accepted", None)}
    assert house.warehouse.scalar("select count(*) from execution.nav") == 0, "the session's bars are not in yet"
    assert isinstance(next_execution(house.settings, clock.now()), dg.SkipReason)

    clock.at = XNYS.decision_utc(EXECUTED)
    an_evening_passes(house)
    assert isinstance(next_execution(house.settings, clock.now()), dg.SkipReason), "nothing new is known"
    house.call(market_data, EXECUTED.isoformat())
    asked = next_execution(house.settings, clock.now())
    assert isinstance(asked, dg.RunRequest), asked
    execute(house)
    house.call(measures, DECIDED.isoformat())
    assert risk_measures(house) == measured, "what became known later changes nothing"
    day = prices.filter(pl.col("session") == EXECUTED)
    opening = dict(zip(day["symbol"], day["open"], strict=True))
    for order in orders(house):
        assert order["state"] == "filled"
        moved = Decimal(repr(opening[order["instrument"]])) * (
            1 + Decimal(repr(house.settings.strategies.costs.price_move))
        )
        assert abs(order["price"] - moved) < Decimal("0.0001")
        assert order["at"] == XNYS.open_utc(EXECUTED)
    an_evening_passes(house)
    nav = house.warehouse.rows("select * from execution.nav order by session")
    assert nav[-1]["session"] == EXECUTED
    equity = house.resources["broker"].snapshot(house.settings.symbols).equity
    assert abs(nav[-1]["closing"] - equity) < Decimal("0.01")
    (summary,) = house.warehouse.rows(
        "select kind from execution.reconciliation where session = %s and seq = 0", [EXECUTED]
    )
    assert summary["kind"] == "ok"
    assert isinstance(next_execution(house.settings, clock.now()), dg.SkipReason), "finished: nothing is left to do"


def test_a_past_day_is_planned_with_the_account_of_that_day(house: House, clock: TestClock) -> None:
    clock.at = XNYS.decision_utc(date(2017, 8, 31))
    house.call(market_data, "2017-08-31")
    for session, empty in ((date(2017, 8, 25), True), (EXECUTED, False)):
        house.call(portfolio.opening_positions, session.isoformat())
        rows = house.warehouse.rows(
            "select * from portfolio.opening_positions where session = %s and instrument <> '' and quantity <> 0",
            [session],
        )
        assert (not rows) is empty
