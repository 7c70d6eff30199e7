"""`octopus lots`: a person says which shares a sale closed, and lots, gains, wash sales and the day's report follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from execution_support import EXECUTED, OPEN, SESSIONS, Desk, ManualClock, flat_feed, paper, rows, store_plan
from test_orders_command import OneDesk

import octopus_pipelines.cli.lots as command
from octopus.core.costs import CostModel
from octopus.core.orders import FillRevision, Side
from resources.settings import load_settings
from resources.warehouse import posttrade
from resources.warehouse.audit_log import verify
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

D = Decimal
SECOND = SESSIONS.next(EXECUTED)
SOLD = SESSIONS.next(SECOND)


@pytest.fixture
def desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Ten AAA bought at 100 and ten at 60, then ten sold at 50; all free of charge."""
    clock, feed = ManualClock(OPEN + timedelta(hours=1)), flat_feed(("AAA",))
    free = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
    broker = paper(database_url, "acct", clock, feed, costs=free)
    made = Desk(database_url, "acct", clock, feed, broker, tmp_path / "anchor")
    made.open()
    settings = replace(load_settings({}), database_url=database_url)
    monkeypatch.setattr(command, "open_database", lambda: settings)
    monkeypatch.setattr(command, "trading_of", lambda _settings: OneDesk(made))
    for session, side, price in ((EXECUTED, Side.BUY, 100), (SECOND, Side.BUY, 60), (SOLD, Side.SELL, 50)):
        feed.bars.update(flat_feed(("AAA",), days=[session], price=D(price)).bars)
        clock.wait_until(SESSIONS.open_utc(session) + timedelta(hours=1))
        plan = store_plan(
            database_url, "acct", [("AAA", side, D(10))], name=f"on-{session}", session=SESSIONS.previous(session),
            price=D(price),
        )  # fmt: skip
        assert made.execute(plan).breaks == ()
    return made


def say(*arguments: str) -> str:
    told = CliRunner().invoke(command.lots, list(arguments))
    return told.output if told.exception is None else f"{told.output}{told.exception}"


def listed() -> tuple[str, str, str]:
    """Ids of the sale, of the lot that it closed by itself, and of the one that is left."""
    told = json.loads(say("list", "--json"))
    (sale,), (left,) = told["sales"], told["lots"]
    ((closed, quantity),) = sale["lots"].items()
    assert (D(quantity), D(left["quantity"]), sale["identified"]) == (10, 10, False)
    return sale["fill_id"], closed, left["lot_id"]


GAINS = "select lot_id, quantity, basis_usd, disallowed_usd, gain_usd from execution.realised_gains order by seq"


def test_the_shares_that_a_person_names_are_sold_and_the_wash_sale_follows(desk: Desk) -> None:
    sale, first, second = listed()
    assert "closes 10 of" in say("list")
    told = say("identify", sale, f"{second}=4", "--by", "Ann Example", "--reason", "the smaller loss")
    # Six go first in, first out: of a loss of 300 and of one of 40, what the other lot's shares replaced is deferred.
    assert told.count("basis") >= 2
    sold = rows(desk.url, "select lot_id, sum(quantity) from execution.realised_gains group by 1 order by 2")
    assert sold == [(second, D(4)), (first, D(6))]
    # A second word takes the place of the first.
    assert f"lot {second}: basis 600" in say("identify", sale, f"{second}=10", "--by", "Ann Example")
    assert rows(desk.url, GAINS) == [(second, D(10), D(600), D(100), D(0))]
    assert rows(desk.url, "select lot_id, quantity, cost_usd, wash_sale_usd from execution.tax_lots") == [
        (first, D(10), D(1000), D(100))
    ]
    assert "(identified); may be identified until" in say("list")
    words = rows(
        desk.url, "select subject, payload::jsonb ->> 'by', payload::jsonb -> 'lots' -> 0 ->> 'lot_id' from audit.log "
        "where kind = 'lots.identified' order by seq",
    )  # fmt: skip
    assert words == [(sale, "Ann Example", second)] * 2
    assert verify(desk.url, desk.anchor).ok
    trader = Warehouse(desk.url, Role.TRADER)
    made = posttrade.reports(trader, SESSIONS, "s", "acct", SECOND, SOLD, load_settings({}).compliance)
    report = made["lot_identifications"]
    assert report.select("sale", "number", "lot_id", "quantity", "by").rows() == [
        (sale, 1, second, 4.0, "Ann Example"), (sale, 2, second, 10.0, "Ann Example"),
    ]  # fmt: skip


def refused(desk: Desk, *arguments: str) -> str:
    told = say("identify", *arguments)
    assert rows(desk.url, "select from execution.lot_identifications") == []
    return told


def test_what_cannot_be_identified_is_said_and_changes_nothing(desk: Desk) -> None:
    sale, _, second = listed()
    wrong: list[tuple[Callable[[], tuple[str, ...]], str]] = [
        (lambda: (sale, f"{second}=11"), "10 of it are open, with 10 left to close"),
        (lambda: (sale, "nothing=1"), "0 of it are open"),
        (lambda: (sale, f"{second}=1", f"{second}=2"), "named twice"),
        (lambda: (second, f"{second}=1"), "has no sale"),
        (lambda: (sale, second), "write LOT=SHARES"),
        (lambda: (sale, f"{second}=-1"), "write LOT=SHARES"),
    ]
    for arguments, message in wrong:
        assert message in refused(desk, *arguments())
    settled = SESSIONS.close_utc(SESSIONS.next(SOLD, 2))
    desk.clock.wait_until(settled + timedelta(seconds=1))
    assert "when it settled (26 CFR 1.1012-1(c))" in refused(desk, sale, f"{second}=10")
    assert json.loads(say("list", "--json"))["sales"] == []


def test_a_word_whose_shares_the_venue_took_away_may_be_mended_late(desk: Desk) -> None:
    sale, first, second = listed()
    say("identify", sale, f"{second}=10")
    with desk.engine() as engine:
        (sold,) = [fill for fill in engine.bookkeeper.books.fills("acct") if fill.fill_id == sale]
        revision = FillRevision(sale, 1, sold.client_order_id, D(8), sold.price, sold.fees, sold.at, "corrected")
        assert engine.bookkeeper.books.record_revision("acct", revision, SOLD, desk.clock.now())
    desk.clock.wait_until(SESSIONS.close_utc(SESSIONS.next(SOLD, 3)))
    assert "10 of it are open, with 8 left to close" in say("list")
    assert "basis 480.00" in say("identify", sale, f"{second}=8")
    assert "when it settled" in say("identify", sale, f"{first}=8")


def test_shares_that_another_sale_closed_are_not_there_twice(desk: Desk) -> None:
    sale, _, second = listed()
    third = SESSIONS.next(SOLD)
    desk.feed.bars.update(flat_feed(("AAA",), days=[third], price=D(50)).bars)
    desk.clock.wait_until(SESSIONS.open_utc(third) + timedelta(hours=1))
    plan = store_plan(desk.url, "acct", [("AAA", Side.SELL, D(6))], name="again", session=SOLD, price=D(50))
    assert desk.execute(plan).breaks == ()
    later = next(one for one in json.loads(say("list", "--json"))["sales"] if one["fill_id"] != sale)["fill_id"]
    # 360, and what the first sale's wash sale moved into these six shares.
    assert "basis 660" in say("identify", later, f"{second}=6")
    assert "fill " + later in say("identify", sale, f"{second}=10")
    assert len(rows(desk.url, "select from execution.lot_identifications")) == 1
