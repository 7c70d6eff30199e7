"""Recorded coins through the daily path: alone, on a clock that never stops, and beside shares, on New York's.

The locations fix their partitions when they load, so the first house loads them anew under its own configuration.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from octopus.core.orders import OrderType
from octopus.core.sessions import Sessions
from octopus.execution.window import send_by
from resources.sources.files import FileMarketData
from resources.trading import Trading, paper_broker
from resources.warehouse.connection import Role
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse
from tests.pipelines.conftest import House, make_house

COINS = {"BTC": "Bitcoin", "ETH": "Ethereum", "LTC": "Litecoin", "BNB": "BNB", "XMR": "Monero", "LINK": "Chainlink",
         "ATOM": "Cosmos"}  # fmt: skip
DAYS, XNYS = Sessions("24/7"), Sessions("XNYS")
FRIDAY = date(2021, 6, 25)
PLAN = (
    ("portfolio", "opening_positions"), ("strategy", "features"), ("strategy", "signals"),
    ("portfolio", "target_weights"), ("portfolio", "rebalance_plan"), ("risk", "limit_report"),
    ("compliance", "pretrade_report"),
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


@dataclass(frozen=True)
class Location:
    """A house and the modules of assets and pipelines that were loaded under its configuration."""

    house: House
    clock: TestClock
    modules: dict[str, ModuleType]

    def call(self, module: str, asset: str, session: date) -> None:
        self.house.call(getattr(self.modules[f"assets.{module}"], asset), session.isoformat())

    def asked(self) -> dg.RunRequest | dg.SkipReason:
        sensor = self.modules["octopus_pipelines.sensors.execution"]
        answer: dg.RunRequest | dg.SkipReason = sensor.next_execution(self.house.settings, self.clock.now())
        return answer

    def execute(self) -> None:
        """What the sensor asks for; whoever ran before is long gone."""
        with self.house.warehouse.connect() as connection:
            connection.execute("update execution.launches set last_seen = last_seen - interval '1 hour'")
        request = self.asked()
        assert isinstance(request, dg.RunRequest), request
        assert dg.materialize(
            list(self.modules["assets.execution"].ASSETS), partition_key=request.partition_key,
            resources={"warehouse": Warehouse(self.house.settings.database_url, Role.TRADER),
                       "trading": self.house.resources["trading"]},
            instance=dg.DagsterInstance.ephemeral(),
        ).success  # fmt: skip


def loaded(names: Sequence[str]) -> dict[str, ModuleType]:
    """The named modules, imported anew; the old ones are put back by `restored`."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("assets", "octopus_pipelines")]:
        del sys.modules[name]
    return {name: importlib.import_module(name) for name in names}


MODULES = (
    "assets.market_data", "assets.warehouse", "assets.portfolio", "assets.strategy", "assets.risk", "assets.compliance",
    "assets.execution", "octopus_pipelines.sensors.execution", "octopus_pipelines.cli.run",
)  # fmt: skip


def recorded(test_data: Path, symbols: Sequence[str]) -> pl.DataFrame:
    """Coins in the form of the source `files`."""
    frame = pl.read_parquet(test_data / "crypto_daily_23coins.parquet")
    return frame.filter(pl.col("symbol").is_in(list(symbols))).select(
        pl.col("symbol").alias("instrument"), pl.col("date").dt.date().alias("session"),
        "open", "high", "low", "close", "volume",
    )  # fmt: skip


def located(
    server_url: str, folder: Path, bars: pl.DataFrame, instruments: pl.DataFrame | None, clock: TestClock,
    until: datetime, changes: dict[str, Any],
) -> Iterator[Location]:  # fmt: skip
    """A house over files, its market data ingested as of ``until`` and its marts built."""
    bars.write_parquet(folder / "bars.parquet")
    files = {"bars": str(folder / "bars.parquet")}
    if instruments is not None:
        instruments.write_csv(folder / "instruments.csv")
        files["instruments"] = str(folder / "instruments.csv")
    common = {
        "universe.universe.market_data": "files", "universe.universe.files": files,
        "universe.alternative_data.news": [], "universe.alternative_data.social": [],
        "universe.quality.severe": "keep", "risk.volatility_max_annual": 5.0, "risk.var_95_max": 0.5,
        "risk.sector_weight_max": None,
        "strategies.portfolio.fractional": True,
    }  # fmt: skip
    kept = {name: module for name, module in sys.modules.items() if name.startswith(("assets", "octopus_pipelines"))}
    for house in make_house(server_url, folder, **common, **changes):
        outside = os.environ.get("OCTOPUS_CONFIG")
        os.environ["OCTOPUS_CONFIG"] = house.environment["OCTOPUS_CONFIG"]
        try:
            modules = loaded(MODULES)
            broker = paper_broker(house.settings, clock)
            paths = {name: Path(path) for name, path in files.items()}
            house.resources.update(
                clock=clock, broker=broker, trading=Trading(house.settings, clock, broker),
                market_data_source=FileMarketData(**paths, asset_class="crypto", now=lambda: until),
            )  # fmt: skip
            made = Location(house, clock, modules)
            last = house.settings.sessions.last_decided(until)
            made.call("market_data", "market_data", last)
            warehouse = {"settings": house.settings, "warehouse": house.resources["warehouse"]}
            assert dg.materialize(
                [modules["assets.warehouse"].sessions], resources=warehouse, instance=dg.DagsterInstance.ephemeral()
            ).success
            house.dbt()
            yield made
        finally:
            os.environ.pop("OCTOPUS_CONFIG") if outside is None else os.environ.update(OCTOPUS_CONFIG=outside)
            for name in [name for name in sys.modules if name.partition(".")[0] in ("assets", "octopus_pipelines")]:
                del sys.modules[name]
            sys.modules.update(kept)


@pytest.fixture(scope="module")
def coins(
    server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None, test_data: Path
) -> Iterator[Location]:
    folder = tmp_path_factory.mktemp("coins")
    changes = {
        "universe.universe.exchange": "24/7", "universe.universe.symbols": COINS,
        "universe.universe.history_start": "2020-07-01", "risk.var_window_sessions": 250,
    }  # fmt: skip
    bars = recorded(test_data, list(COINS))
    until = DAYS.decision_utc(FRIDAY + timedelta(days=3))
    yield from located(server_url, folder, bars, None, TestClock(DAYS.decision_utc(FRIDAY)), until, changes)


@pytest.mark.timeout(300)
def test_coins_are_decided_every_day_and_fill_at_the_close_of_the_next_over_a_weekend(coins: Location) -> None:
    house, clock = coins.house, coins.clock
    assert coins.modules["octopus_pipelines.cli.run"].wanted_sessions(
        house.settings, None, datetime(2021, 6, 25, tzinfo=UTC), datetime(2021, 6, 28, tzinfo=UTC)
    ) == [FRIDAY + timedelta(days=count) for count in range(4)]
    stored = house.warehouse.scalar("select count(*) from raw.bars where extract(isodow from session) > 5")
    assert stored > 0
    assert house.warehouse.scalar("select count(*) from raw.quarantine") == 0
    decided = [FRIDAY, FRIDAY + timedelta(days=1)]
    for session in decided:
        clock.at = DAYS.decision_utc(session)
        panel = house.warehouse.panel("files", clock.now(), DAYS)
        assert (panel.sessions[-1].item(), panel.exchange, panel.clock.per_year) == (session, "24/7", 365)
        for module, asset in PLAN:
            coins.call(module, asset, session)
        asked = coins.asked()
        assert isinstance(asked, dg.SkipReason)
        assert "the window of batch" in str(asked.skip_message)
        clock.at = DAYS.close_utc(session + timedelta(days=1)) - timedelta(minutes=40)
        coins.execute()
        assert clock.now() == DAYS.close_utc(session + timedelta(days=1)), "followed to the midnight at which it fills"
    fills = house.warehouse.read(
        """
        select i.session, i.instrument, i.side, i.order_type, o.state, f.price, f.at, b.not_before, b.expires_at
        from execution.orders o join execution.order_intents i using (intent_id)
        join portfolio.batches b using (batch_id)
        left join execution.fills f on f.client_order_id = o.client_order_id
        """
    )
    assert fills["session"].unique().sort().to_list() == decided
    closes = {
        (row["instrument"], row["session"]): row["close"]
        for row in house.warehouse.rows("select instrument, session, close from raw.bars")
    }
    for row in fills.to_dicts():
        executed = row["session"] + timedelta(days=1)
        assert (row["order_type"], row["state"]) == ("market_on_close", "filled")
        assert row["not_before"] == DAYS.close_utc(executed) - timedelta(hours=1)
        assert row["at"] == row["expires_at"] == DAYS.close_utc(executed)
        assert row["not_before"] < send_by(row["expires_at"], OrderType.MARKET_ON_CLOSE)
        sign = 1 if row["side"] == "buy" else -1
        moved = closes[row["instrument"], executed] * (1 + sign * house.settings.strategies.costs.price_move)
        assert float(row["price"]) == pytest.approx(moved, abs=1e-5)
    navs = house.warehouse.rows("select session from execution.nav order by session")
    assert [row["session"] for row in navs][-3:] == [session + timedelta(days=1) for session in decided]
    checks = house.warehouse.rows("select session, kind from execution.reconciliation where seq = 0 order by session")
    assert {row["kind"] for row in checks} == {"ok"}
    assert {session + timedelta(days=1) for session in decided} <= {row["session"] for row in checks}


# -- beside shares -----------------------------------------------------------------------------------------------------

SHARES = ("AAPL", "CVX", "JNJ", "KO", "PFE", "PG", "WMT", "XOM")
DECIDED, BEFORE = date(2017, 8, 28), date(2017, 8, 25)
"""A Monday, and the Friday before it."""


@pytest.fixture(scope="module")
def mixed(
    server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None, test_data: Path
) -> Iterator[Location]:
    folder = tmp_path_factory.mktemp("mixed")
    shares = pl.read_parquet(test_data / "prices_stocknet.parquet").filter(pl.col("symbol").is_in(list(SHARES)))
    rows = shares.select(
        pl.col("symbol").alias("instrument"), pl.col("date").cast(pl.Date).alias("session"),
        *(pl.col(name).cast(pl.Float64) for name in ("open", "high", "low", "close", "volume")),
    )  # fmt: skip
    bars = pl.concat([rows, recorded(test_data, ["BTC", "LTC"])]).filter(pl.col("session") < date(2017, 9, 1))
    names = [*SHARES, "BTC", "LTC"]
    instruments = pl.DataFrame(
        {"instrument": names, "exchange": ["XNYS"] * len(SHARES) + ["24/7"] * 2,
         "asset_class": ["equity"] * len(SHARES) + ["crypto"] * 2}
    )  # fmt: skip
    changes = {
        "universe.universe.symbols": {name: name for name in names}, "universe.universe.history_start": "2015-01-02",
    }  # fmt: skip
    until = XNYS.decision_utc(date(2017, 8, 31))
    yield from located(server_url, folder, bars, instruments, TestClock(XNYS.decision_utc(DECIDED)), until, changes)


@pytest.mark.timeout(600)
def test_beside_shares_no_bar_of_a_coin_is_lost_or_seen_early_and_orders_fill_as_simulated(mixed: Location) -> None:
    house, clock = mixed.house, mixed.clock
    weekends = house.warehouse.rows(
        "select instrument, count(*) as n from raw.bars where extract(isodow from session) > 5 group by 1 order by 1"
    )
    days = DAYS.between(date(2015, 1, 2), date(2017, 8, 30))
    assert weekends == [{"instrument": name, "n": int((~np.is_busday(days)).sum())} for name in ("BTC", "LTC")]
    close = {
        row["session"]: row["close"]
        for row in house.warehouse.rows("select session, close from raw.bars where instrument = 'BTC'")
    }
    whole = house.warehouse.panel("files", XNYS.decision_utc(date(2017, 8, 31)), XNYS)
    coin = whole.symbols.index("BTC")
    assert whole.close[whole.at(DECIDED), coin] == close[date(2017, 8, 27)], "Sunday is the last day that had ended"
    assert whole.close[whole.at(BEFORE), coin] == close[date(2017, 8, 24)]
    move = close[date(2017, 8, 27)] / close[date(2017, 8, 24)] - 1
    assert whole.total_return[whole.at(DECIDED), coin] == pytest.approx(move)
    for session in (date(2017, 8, 22), BEFORE, DECIDED):
        then, cut = house.warehouse.panel("files", XNYS.decision_utc(session), XNYS), whole.until(session)
        for name in ("close", "open", "high", "low", "volume", "total_return", "member", "sentiment"):
            assert np.array_equal(getattr(then, name), getattr(cut, name), equal_nan=True), (session, name)

    mixed.call("warehouse", "quality_findings", DECIDED)
    assert house.warehouse.scalar("select count(*) from ops.quality_findings where kind = 'calendar_gap'") == 0
    for module, asset in PLAN:
        mixed.call(module, asset, DECIDED)
    clock.at = XNYS.open_utc(XNYS.next(DECIDED)) - timedelta(minutes=20)
    mixed.execute()
    fills = house.warehouse.rows(
        "select i.instrument, i.order_type, o.state, f.price, f.at from execution.orders o "
        "join execution.order_intents i using (intent_id) "
        "join execution.fills f on f.client_order_id = o.client_order_id"
    )
    executed = XNYS.next(DECIDED)
    simulated = whole.open[whole.at(executed)]
    assert {"BTC", "LTC"} <= {row["instrument"] for row in fills}
    for row in fills:
        assert (row["order_type"], row["state"], row["at"]) == ("market_on_open", "filled", XNYS.open_utc(executed))
        reference = simulated[whole.symbols.index(row["instrument"])]
        assert float(row["price"]) == pytest.approx(reference * (1 + house.settings.strategies.costs.price_move))
    assert simulated[coin] == close[DECIDED], "Monday's day of the coin ended at midnight, before New York opens"
    feed = WarehousePrices(house.warehouse, "files", XNYS)
    assert feed.last_close("BTC", DECIDED) == Decimal(repr(close[date(2017, 8, 27)])).quantize(Decimal("0.000001"))
    assert feed.last_session() == date(2017, 8, 31), "of the shares"
