"""Configured exits and limits through the assets: from the section execution by the plan to orders at the broker."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    D,
    Desk,
    ManualClock,
    flat_feed,
    kept,
    paper,
    rows,
)
from test_broker_choice import settings_of
from test_execution_reports import DeskTrading

import octopus_pipelines.cli.orders as command
from assets import execution, portfolio
from octopus.core.orders import AccountSnapshot
from octopus.portfolio.units import TradingUnits
from resources.price_feed import Bar
from resources.settings import Settings
from resources.trading import Trading, paper_broker
from resources.warehouse.connection import Role
from resources.warehouse.plans import Plans
from resources.warehouse.store import Warehouse

NAMES = ("AAA", "BBB")


@dataclass(frozen=True)
class House:
    """A paper account that is to buy, and what the assets talk to."""

    settings: Settings
    desk: Desk
    warehouse: Warehouse

    def show(self, *assets: dg.AssetsDefinition) -> list[dict[str, Any]]:
        """Materialise the assets in one run; the metadata of each."""
        trading = DeskTrading(self.desk, self.settings.account, self.settings)
        every = {"settings": self.settings, "warehouse": self.warehouse, "trading": trading}
        needed = {name for asset in assets for name in asset.required_resource_keys}
        done = dg.materialize(
            assets, partition_key=DECIDED.isoformat(), instance=dg.DagsterInstance.ephemeral(),
            resources={name: one for name, one in every.items() if name in needed},
        )  # fmt: skip
        told = [done.asset_materializations_for_node(asset.op.name)[0].metadata for asset in assets]
        return [{name: value.value for name, value in one.items()} for one in told]


def cells(table: str, *columns: str) -> list[tuple[str, ...]]:
    """Columns of a table in Markdown."""
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [tuple(row[head.index(column)] for column in columns) for row in body]


def open_house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]) -> House:
    settings = settings_of(tmp_path, changes)
    clock, feed = ManualClock(OPEN - timedelta(minutes=30)), flat_feed(NAMES)
    # As the paper broker of the settings has them.
    own = paper_broker(replace(settings, database_url=database_url), clock).units
    # AAA reaches its target, BBB neither of its exits.
    feed.bars["AAA", EXECUTED] = Bar(D(100), D(105), high=D(111), low=D(99))
    feed.bars["BBB", EXECUTED] = Bar(D(100), D(101), high=D(103), low=D(98))
    desk = Desk(
        database_url, settings.account, clock, feed, paper(database_url, settings.account, clock, feed, units=own)
    )
    desk.open()
    warehouse = Warehouse(database_url, Role.OWNER)
    opening = AccountSnapshot(
        settings.account, SESSIONS.decision_utc(DECIDED), D(100_000), {}, dict.fromkeys(NAMES, D(100))
    )
    Plans(warehouse).save_snapshot(DECIDED, opening)
    weights = {"session": [DECIDED] * 2, "instrument": NAMES, "weight": [0.3, 0.2], "decision_id": ["decision"] * 2}
    warehouse.insert_new("portfolio.target_weights", pl.DataFrame(weights))
    there = SimpleNamespace(database_url=database_url, account=settings.account)
    monkeypatch.setattr(command, "open_database", lambda: there)
    return House(settings, desk, warehouse)


def describe(house: House, instrument: str, lot: float, tick: float) -> None:
    """What a reference file says of an instrument, on record."""
    at = SESSIONS.decision_utc(DECIDED) - timedelta(days=1)
    row = {
        "source": house.settings.universe.market_data, "instrument": instrument, "ts": at, "known_at": at,
        "known_at_imputed": False, "ingested_at": at, "batch_id": 1, "name": instrument, "exchange": "XNYS",
        "currency": "USD", "asset_class": "equity", "price_basis": "raw", "lot_size": lot, "tick_size": tick,
    }  # fmt: skip
    with kept(house.desk.url) as connection:
        names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
        connection.execute(f"insert into raw.instruments ({names}) values ({marks})", list(row.values()))  # type: ignore[arg-type]


def approve(house: House, planned: dict[str, Any]) -> None:
    with kept(house.desk.url, Role.RESEARCH) as connection:
        approval = [planned["batch_id"], planned["orders"], SESSIONS.decision_utc(DECIDED)]
        connection.execute("insert into compliance.approvals values (%s, %s, 0, 'r', 'c', %s)", approval)


def test_limits_go_from_the_settings_to_the_broker_and_lapse_there(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = open_house(database_url, tmp_path, monkeypatch, {"strategies.execution.limit_bps": 150})
    # AAA comes down to its limit, BBB does not.
    house.desk.feed.bars["AAA", EXECUTED] = Bar(D(100), D(99), high=D(101), low=D("98.4"))
    house.desk.feed.bars["BBB", EXECUTED] = Bar(D(100), D(99), high=D(101), low=D("98.51"))
    (planned,) = house.show(portfolio.rebalance_plan)
    url = house.desk.url
    assert rows(url, "select instrument, side, order_type, price from portfolio.rebalance_plan order by 1") == [
        (name, "buy", "limit", D("98.5")) for name in NAMES
    ]
    assert cells(planned["table"], "instrument", "limit") == [(name, "98.5000") for name in NAMES]
    approve(house, planned)
    house.show(execution.order_intents, execution.orders)
    assert set(rows(url, "select order_type, price, state from paper.orders")) == {("limit", D("98.5"), "accepted")}
    filled, held, compared = house.show(execution.fills, execution.positions, execution.reconciliation)
    assert house.desk.clock.now() >= CLOSE
    assert filled["still_open"] == 0
    assert cells(filled["table"], "instrument", "side", "price") == [("AAA", "buy", "98.5000")]
    assert (held["positions"], compared["breaks"]) == (1, 0)
    assert rows(url, "select instrument, state from paper.orders order by 1") == [("AAA", "filled"), ("BBB", "expired")]


def test_exits_in_ticks_of_the_instruments_own_go_to_the_broker(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, object] = {"strategies.execution.bracket": {"stop_loss": 0.0514, "take_profit": 0.0815}}
    house = open_house(database_url, tmp_path, monkeypatch, changes)
    describe(house, "AAA", 70, 0.125)
    (planned,) = house.show(portfolio.rebalance_plan)
    assert rows(
        house.desk.url, "select instrument, quantity, stop_price, target_price from portfolio.rebalance_plan order by 1"
    ) == [("AAA", D(280), D("94.875"), D("108.125")), ("BBB", D(200), D("94.86"), D("108.15"))]
    approve(house, planned)
    intents, _ = house.show(execution.order_intents, execution.orders)
    assert intents["approved"] == 3 * len(NAMES)
    sent = "select instrument, price, state from paper.orders where order_type in ('stop', 'limit') order by 1, 2"
    assert rows(house.desk.url, sent) == [
        ("AAA", D("94.875"), "accepted"), ("AAA", D("108.125"), "accepted"),
        ("BBB", D("94.86"), "accepted"), ("BBB", D("108.15"), "accepted"),
    ]  # fmt: skip


def test_what_is_worked_over_the_session_may_have_lots_of_its_own_and_the_order_path_knows_them(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = open_house(database_url, tmp_path, monkeypatch, {"strategies.execution.schedule": "twap"})
    describe(house, "AAA", 70, 0.125)
    house.show(portfolio.rebalance_plan)
    planned = "select instrument, quantity, order_type from portfolio.rebalance_plan order by 1"
    assert rows(house.desk.url, planned) == [("AAA", D(280), "market"), ("BBB", D(200), "market")]
    current = replace(house.settings, database_url=house.desk.url)
    known = SESSIONS.decision_utc(DECIDED)
    with Trading(current, house.desk.clock, house.desk.broker).engine() as engine:
        assert engine.units(known) == TradingUnits({"AAA": D(70)}, {"AAA": D("0.125")})
        assert not engine.units(known - timedelta(days=2))


def test_exits_go_from_the_settings_to_the_broker_and_end_there(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, object] = {"strategies.execution.bracket": {"stop_loss": 0.05, "take_profit": 0.1}}
    house = open_house(database_url, tmp_path, monkeypatch, changes)
    (planned,) = house.show(portfolio.rebalance_plan)
    url = house.desk.url
    assert rows(
        url, "select instrument, order_type, stop_price, target_price from portfolio.rebalance_plan order by 1"
    ) == [(name, "market", D(95), D(110)) for name in NAMES]
    approve(house, planned)
    intents, sent = house.show(execution.order_intents, execution.orders)
    assert intents["approved"] == 3 * len(NAMES)
    assert sent["sent"] == 2
    assert cells(sent["table"], "instrument", "side", "order_type", "price") == [
        (name, *term) for name in NAMES
        for term in (("buy", "market", "null"), ("sell", "limit", "110.0000"), ("sell", "stop", "95.0000"))
    ]  # fmt: skip
    listed = json.loads(CliRunner().invoke(command.list_orders, ["--json"]).stdout)
    assert sorted((one["instrument"], one["type"]) for one in listed) == [
        (name, kind) for name in NAMES for kind in ("limit", "market", "stop")
    ]
    assert set(rows(url, "select order_type, state from paper.orders")) == {
        (kind, "accepted") for kind in ("market", "limit", "stop")
    }
    filled, held, compared = house.show(execution.fills, execution.positions, execution.reconciliation)
    assert house.desk.clock.now() >= CLOSE
    assert filled["still_open"] == 0
    assert cells(filled["table"], "instrument", "side", "price") == [
        ("AAA", "buy", "100.0000"), ("AAA", "sell", "110.0000"), ("BBB", "buy", "100.0000")
    ]  # fmt: skip
    assert (held["positions"], compared["breaks"]) == (1, 0)
