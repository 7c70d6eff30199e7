"""After the trade: what execution recorded is looked through and reported, once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
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
    paper,
    rows,
    store_plan,
)
from test_execution_reports import DeskTrading

from assets import compliance, execution
from octopus.compliance.surveillance import Pattern, SurveillanceTerms, blind, watch
from octopus.core.orders import Side
from resources.warehouse import posttrade
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_store import TradingHaltedError
from resources.warehouse.store import Warehouse

LATER = SESSIONS.next(EXECUTED)
NAMES = ["AAA", "BBB"]


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    clock, feed = ManualClock(OPEN), flat_feed(NAMES)
    made = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), tmp_path / "audit.anchor")
    made.open()
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(100)), ("BBB", Side.BUY, D(10))])
    made.execute(batch)
    return made


def bars(url: str, basis: str = "raw") -> None:
    """AAA closes 1 % higher on a thin day."""
    with connect(url) as connection:
        for name in NAMES:
            connection.execute(
                "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis, "
                "known_at, known_at_imputed, ingested_at, batch_id) "
                "values ('s', %s, '2000-01-01', 'XNYS', 'USD', 'equity', %s, now(), false, now(), 1)",
                [name, basis],
            )
            for day, close in ((DECIDED, 100.0), (EXECUTED, 101.0)):
                connection.execute(
                    "insert into raw.bars (source, instrument, ts, session, close, volume, known_at, known_at_imputed, "
                    "ingested_at, batch_id) values ('s', %s, %s, %s, %s, 1000, now(), false, now(), 1)",
                    [name, SESSIONS.close_utc(day), day, close],
                )


def test_what_execution_recorded_is_looked_through(desk: Desk) -> None:
    bars(desk.url)
    warehouse = Warehouse(desk.url, Role.TRADER)
    record = posttrade.sent(warehouse, SESSIONS, "s", "acct", EXECUTED)
    assert {order.order_type for order in record.orders} == {"market_on_close"}
    assert {fill.at for fill in record.fills} == {CLOSE}
    (finding,) = watch(record.orders, record.fills, record.market, SurveillanceTerms())
    assert (finding.pattern, finding.instrument, finding.value) == (Pattern.MARKING_THE_CLOSE, "AAA", 0.1)
    assert posttrade.save_findings(warehouse, "acct", EXECUTED, [finding])
    assert not posttrade.save_findings(warehouse, "acct", EXECUTED, [finding])
    assert len(rows(desk.url, "select from compliance.surveillance")) == 1
    reports = posttrade.reports(warehouse, SESSIONS, "s", "acct", DECIDED, EXECUTED)
    assert reports["exceptions"]["what"].to_list() == ["marking_the_close"]
    assert posttrade.sent(warehouse, SESSIONS, "s", "acct", DECIDED).orders == ()


def test_of_a_total_return_index_nothing_is_told_about_the_close(desk: Desk) -> None:
    bars(desk.url, "total_return")
    record = posttrade.sent(Warehouse(desk.url, Role.TRADER), SESSIONS, "s", "acct", EXECUTED)
    assert blind(record.fills, record.market) == NAMES


def test_the_reports_say_what_was_done_and_at_what_price(desk: Desk) -> None:
    bars(desk.url)
    warehouse = Warehouse(desk.url, Role.TRADER)
    reports = posttrade.reports(warehouse, SESSIONS, "s", "acct", DECIDED, EXECUTED)
    blotter = reports["blotter"]
    assert blotter.select("instrument", "ordered", "filled", "price", "rate", "state").rows() == [
        ("AAA", 100, 100, 100, 1, "filled"), ("BBB", 10, 10, 100, 1, "filled"),
    ]  # fmt: skip
    best = reports["best_execution"]
    assert best["shortfall_bps"].to_list() == [0, 0]
    assert best["against_close_bps"].to_list() == pytest.approx([-99.0099] * 2)
    assert reports["exceptions"].is_empty()
    assert posttrade.save_reports(warehouse, "acct", EXECUTED, reports)
    assert not posttrade.save_reports(warehouse, "acct", EXECUTED, reports)
    assert len(rows(desk.url, "select from compliance.daily_reports")) == 5


def test_what_kept_a_batch_from_being_sent_is_in_the_report_of_its_day(desk: Desk) -> None:
    """A trade by hand, found before the batch's orders: the run that compares the books tells of it."""
    with connect(desk.url) as connection:
        connection.execute("update paper.fills set quantity = quantity + 3 where instrument = 'BBB'")
    desk.feed.bars.update(flat_feed(NAMES, days=[LATER]).bars)
    desk.clock.at = SESSIONS.open_utc(LATER)
    batch = store_plan(
        desk.url,
        "acct",
        [("AAA", Side.BUY, D(1))],
        name="later",
        session=EXECUTED,
        created_at=CLOSE + timedelta(hours=1),
    )
    with pytest.raises(TradingHaltedError):
        desk.execute(batch)
    desk.clock.at = SESSIONS.decision_utc(LATER)
    assets = (execution.positions, execution.reconciliation, *compliance.POSTTRADE_ASSETS)
    resources = {"warehouse": Warehouse(desk.url, Role.TRADER), "trading": DeskTrading(desk)}
    for _ in range(2):
        assert dg.materialize(
            assets, partition_key=EXECUTED.isoformat(), resources=resources, instance=dg.DagsterInstance.ephemeral()
        ).success
    ((exceptions,),) = rows(
        desk.url, "select rows::jsonb from compliance.daily_reports where session = %s and report = 'exceptions'", LATER
    )
    told = {(one["kind"], one["what"], one["subject"]) for one in exceptions}
    assert {("refusal", "refused", batch.batch_id), ("halt", "halted", "acct")} <= told
    breaks = [one["detail"] for one in exceptions if one["kind"] == "reconciliation"]
    before = [detail for detail in breaks if detail.startswith("before the batch: ")]
    assert before
    assert len(breaks) == 2 * len(before), "the day's own comparison found the same again"
