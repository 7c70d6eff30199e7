"""Order costs, tax lots and realised gains from a real execution at the paper broker."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import dagster as dg
import pytest
from execution_support import DECIDED, EXECUTED, OPEN, SESSIONS, Desk, ManualClock, flat_feed, paper, rows, store_plan
from test_account_actions import insert

from assets import execution as assets
from assets import keys
from octopus.compliance.replay import judged_again
from octopus.core.costs import CostModel
from octopus.core.orders import Batch, GateReport, Outcome, Side, Verdict
from octopus.core.sessions import Calendars
from octopus.execution.book import CorporateAction, Entry, EntryKind
from octopus.execution.pictures import costs_picture
from resources.execution_engine import ExecutionEngine
from resources.gates import Gates
from resources.price_feed import Bar
from resources.settings import Settings, load_settings
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.connection import Role
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.store import Warehouse

D = Decimal
NAMES = ("AAA", "BBB", "CCC")
LATER = SESSIONS.next(EXECUTED)


@pytest.fixture
def desk(database_url: str) -> Desk:
    clock, feed = ManualClock(OPEN + timedelta(hours=1)), flat_feed(NAMES)
    feed.bars["AAA", EXECUTED] = Bar(D(102), D(105))
    broker = paper(
        database_url, "acct", clock, feed, costs=CostModel(commission_bps=10, half_spread_bps=0, slippage_bps=0)
    )
    desk = Desk(database_url, "acct", clock, feed, broker)
    desk.open()
    return desk


def reports(desk: Desk, engine) -> ExecutionReports:  # type: ignore[no-untyped-def]
    return ExecutionReports(engine.store, Warehouse(desk.url, Role.TRADER), desk.feed, SESSIONS)


def deny_ccc(batch, _snapshot, _now, _state):  # type: ignore[no-untyped-def]
    denied = {order.intent_id for order in batch.orders if order.instrument == "CCC"}
    verdicts = tuple(Verdict("risk", "gross", name, Outcome.DENY, "too much") for name in denied)
    return (GateReport("risk", tuple(o.intent_id for o in batch.orders if o.intent_id not in denied), verdicts),)


def test_costs_are_stored_by_order_and_a_denied_order_has_none(desk: Desk) -> None:
    del desk.feed.bars["BBB", EXECUTED]
    batch = store_plan(desk.url, "acct", [(name, Side.BUY, D(10)) for name in NAMES])
    desk.execute(batch, judge=deny_ccc)
    with desk.engine() as engine:
        report = reports(desk, engine)
        assert report.save_order_costs("acct", EXECUTED) == 2
        assert report.save_order_costs("acct", EXECUTED) == 2
        assert report.save_order_costs("acct", LATER) == 0
    stored = rows(
        desk.url,
        "select instrument, filled_quantity, arrival_price, arrival_source, delay_usd, trading_usd, opportunity_usd, "
        "fees_usd, shortfall_usd, round(slippage_bps::numeric, 2) from execution.order_costs order by 1",
    )
    assert stored == [
        ("AAA", D(10), D(102), "open", D(20), D(30), D(0), D("1.05"), D("51.05"), D("294.12")),
        ("BBB", D(0), D(100), "mark", D(0), D(0), D(0), D(0), D(0), None),
    ]


def test_lots_and_gains_follow_the_book_through_a_split(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    opened = SESSIONS.open_utc(LATER)
    sold = SESSIONS.next(LATER)
    desk.feed.bars.update(flat_feed(NAMES, days=[LATER, sold], price=D(60)).bars)
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.SPLIT, "AAA", D(2), opened))
    desk.clock.wait_until(SESSIONS.open_utc(sold) + timedelta(hours=1))
    sale = store_plan(desk.url, "acct", [("AAA", Side.SELL, D(15))], name="sale", session=LATER, price=D(60))
    with desk.engine() as engine:
        engine.update_positions("acct")
    assert desk.execute(sale).breaks == ()
    with desk.engine() as engine:
        report = reports(desk, engine)
        assert (report.save_tax_lots("acct"), report.save_realised_gains("acct")) == (1, 1)
        assert report.save_order_costs("acct", sold) == 1
        desk.feed.corporate_actions.append(CorporateAction(EntryKind.SPLIT, "AAA", D(2), SESSIONS.open_utc(sold)))
        assert report.save_order_costs("acct", sold) == 0, "planned in shares of before a split that was told late"
    assert rows(desk.url, "select instrument, quantity, cost_usd, acquired from execution.tax_lots") == [
        ("AAA", D(5), D("262.7625"), EXECUTED)
    ]
    assert rows(
        desk.url, "select quantity, proceeds_usd, basis_usd, gain_usd, disposed, settles, long_term "
        "from execution.realised_gains",
    ) == [(D(15), D("899.10"), D("788.2875"), D("110.8125"), sold, SESSIONS.next(sold, 2), False)]  # fmt: skip


def test_a_loss_that_a_wash_sale_defers_is_in_the_basis_of_what_was_bought_back(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    for name, side, session in (("sale", Side.SELL, EXECUTED), ("back", Side.BUY, LATER)):
        day = SESSIONS.next(session)
        desk.feed.bars.update(flat_feed(NAMES, days=[day], price=D(60)).bars)
        desk.clock.wait_until(SESSIONS.open_utc(day) + timedelta(hours=1))
        plan = store_plan(desk.url, "acct", [("AAA", side, D(10))], name=name, session=session, price=D(60))
        assert desk.execute(plan).breaks == ()
    with desk.engine() as engine:
        washed = replace(reports(desk, engine), wash_sales=True)
        assert (washed.save_tax_lots("acct"), washed.save_realised_gains("acct")) == (1, 1)
        coins = replace(washed, calendars=Calendars(SESSIONS, {"AAA": "24/7"}))
        assert [one.settles == one.disposed for one in coins.lot_book("acct").disposals] == [True]
    ((proceeds, basis, disallowed, gain),) = rows(
        desk.url, "select proceeds_usd, basis_usd, disallowed_usd, gain_usd from execution.realised_gains"
    )
    assert gain == 0
    assert disallowed == basis - proceeds > 0
    assert rows(desk.url, "select quantity, wash_sale_usd from execution.tax_lots") == [(D(10), disallowed)]


def test_a_warning_reckons_with_what_wash_sales_deferred_before(desk: Desk) -> None:
    """Bought at 105, sold at 60, bought back at 60: the loss is in the new basis, which no purchase takes again."""
    current = replace(load_settings({}), database_url=desk.url)
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    day = EXECUTED

    def planned(side: Side, quantity: int, price: int) -> Batch:
        desk.feed.bars.update(flat_feed(NAMES, days=[day], price=D(60)).bars)
        desk.clock.wait_until(SESSIONS.open_utc(day) + timedelta(hours=1))
        trades, before = [("AAA", side, D(quantity))], SESSIONS.previous(day)
        return store_plan(desk.url, "acct", trades, name=f"{side}-{day}", session=before, price=D(price))

    def warned(batch: Batch) -> list[str]:
        gates, now = Gates(current, Warehouse(desk.url, Role.TRADER)), desk.clock.now()
        snapshot = replace(desk.broker.snapshot(("AAA",)), taken_at=now)
        report = gates.compliance(batch, snapshot, now, sending=True)
        assert judged_again(json.dumps(report.evidence.record()), {}) == report  # type: ignore[union-attr]
        return [one.reason for one in report.verdicts if one.rule == "wash_sale" and one.outcome is Outcome.WARN]

    found: list[list[str]] = []
    for side, quantity, price in ((Side.SELL, 10, 60), (Side.BUY, 10, 60), (Side.BUY, 5, 60), (Side.SELL, 10, 80)):
        day = SESSIONS.next(day)
        batch = planned(side, quantity, price)
        found.append(warned(batch))
        if side is Side.BUY or price == 60:
            assert desk.execute(batch).breaks == ()
    first_sale, back, more, last_sale = found
    assert (first_sale, more) == ([], []), "what was bought back took all of the loss"
    assert back[0].startswith(f"buys back AAA, sold at a loss on {LATER}: up to 45")
    bought = SESSIONS.next(LATER, 2)
    assert [one.split(": ", 1)[-1] for one in last_sale] == [
        f"sells AAA at a loss that shares bought on {bought} may defer (26 USC 1091)"
    ], "at 80 there is a gain on 60 and a loss on the basis that the wash sale made"


def test_of_one_day_the_order_of_trades_counts_and_not_their_names(desk: Desk) -> None:
    """Bought back and sold again within the day, under ids that sort otherwise: each loss goes to what came next."""
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    opened = SESSIONS.open_utc(LATER)
    trades = [("z", -10, 900), ("m", 10, -900), ("a", -10, 800), ("b", 10, -800)]
    with desk.engine() as engine:
        for hours, (name, quantity, cash) in enumerate(trades):
            entry = Entry(
                name, EntryKind.MANUAL, "AAA", D(quantity), D(cash), opened + timedelta(hours=hours), "by hand"
            )
            AccountBooks(engine.store).recognise("acct", entry, LATER, desk.clock.now())
        washed = replace(reports(desk, engine), wash_sales=True).reported("acct")
    assert [(one.fill_id, one.gain) for one in washed.disposals] == [("z", 0), ("a", 0)]
    (left,) = washed.lots
    assert (left.lot_id, left.cost, round(left.wash_sale)) == ("b", 800, 251)


def test_a_loss_under_an_old_name_is_washed_by_a_purchase_under_the_new_one(desk: Desk) -> None:
    """All AAA is sold at a loss before it becomes BBB, so that the change moves no share of ours."""
    given = load_settings({})
    current, source = replace(given, database_url=desk.url), given.universe.market_data
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    changed = SESSIONS.next(LATER)

    def planned(day: date, name: str, side: Side) -> Batch:
        desk.feed.bars.update(flat_feed(NAMES, days=[day], price=D(60)).bars)
        desk.clock.wait_until(SESSIONS.open_utc(day) + timedelta(hours=1))
        before = SESSIONS.previous(day)
        return store_plan(desk.url, "acct", [(name, side, D(10))], name=name, session=before, price=D(60))

    opened = SESSIONS.open_utc(changed)
    row = {"source": source, "instrument": "AAA", "session": changed, "kind": "symbol_change", "value": 1.0}
    insert(desk.url, "corporate_actions", 1, opened, {**row, "detail": "BBB"})
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.SYMBOL_CHANGE, "AAA", D(1), opened, "BBB"))
    assert desk.execute(planned(LATER, "AAA", Side.SELL)).breaks == ()
    back = planned(changed, "BBB", Side.BUY)

    def warned(now: datetime) -> list[str]:
        gates = Gates(current, Warehouse(desk.url, Role.TRADER))
        snapshot = replace(desk.broker.snapshot(("BBB",)), taken_at=now)
        report = gates.compliance(back, snapshot, now, sending=True)
        said = [one for one in report.verdicts if one.rule == "wash_sale" and one.outcome is Outcome.WARN]
        assert judged_again(json.dumps(report.evidence.record()), {}) == report  # type: ignore[union-attr]
        return [one.reason for one in said]

    assert warned(opened - timedelta(hours=1)) == []
    (reason,) = warned(desk.clock.now())
    assert reason.startswith(f"buys back BBB, sold as AAA at a loss on {LATER}: up to ")
    assert desk.execute(back).breaks == ()
    with desk.engine() as engine:
        washed = replace(reports(desk, engine), wash_sales=True)
        assert (washed.save_tax_lots("acct"), washed.save_realised_gains("acct")) == (1, 1)
        before = replace(washed, now=opened - timedelta(seconds=1))
        assert [one.disallowed for one in before.reported("acct").disposals] == [0]
    ((instrument, lost, gain),) = rows(
        desk.url, "select instrument, disallowed_usd, gain_usd from execution.realised_gains"
    )
    assert (instrument, gain) == ("AAA", 0)
    assert rows(desk.url, "select instrument, quantity, wash_sale_usd from execution.tax_lots") == [
        ("BBB", D(10), lost)
    ]
    assert lost > 400


@dataclass(frozen=True)
class DeskTrading:
    """What the assets need of `Trading`, over a desk."""

    desk: Desk
    account: str = "acct"
    settings: Settings = field(default_factory=lambda: load_settings({}))

    def execution_session(self, decided: date) -> date:
        return SESSIONS.next(decided)

    def engine(self) -> AbstractContextManager[ExecutionEngine]:
        return self.desk.engine()


def test_the_assets_show_costs_lots_and_gains(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(5))]))
    resources = {"warehouse": Warehouse(desk.url, Role.TRADER), "trading": DeskTrading(desk)}
    done = dg.materialize(
        [assets.order_costs, assets.tax_lots, assets.realised_gains], partition_key=DECIDED.isoformat(),
        resources=resources, instance=dg.DagsterInstance.ephemeral(),
    )  # fmt: skip
    assert done.success
    shown = {
        key.path[-1]: done.asset_materializations_for_node("__".join(key.path))[0].metadata
        for key in (keys.ORDER_COSTS, keys.TAX_LOTS, keys.REALISED_GAINS)
    }
    assert shown["order_costs"]["orders"].value == 2
    assert shown["order_costs"]["shortfall_usd"].value == pytest.approx(51.55)
    assert "data:image/png" in str(shown["order_costs"]["picture"].value)
    assert (shown["tax_lots"]["lots"].value, shown["realised_gains"]["disposals"].value) == (2, 0)
    assert shown["tax_lots"]["basis_usd"].value == pytest.approx(1050 + 500 + 1.55)


def test_the_picture_is_a_png_with_gains_and_costs() -> None:
    parts = {"delay": [5.0, -3.0], "trading": [1.0, 2.0], "opportunity": [0.0, -8.0], "fees": [1.0, 1.0]}
    assert costs_picture(["AAA", "BBB"], parts, [EXECUTED, LATER], [7.0, -8.0]).startswith(b"\x89PNG")
