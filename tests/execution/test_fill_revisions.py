"""Trades that a broker breaks or corrects after the fact: our book follows, in whatever order it hears of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    flat_feed,
    paper,
    rows,
    store_plan,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octopus.core.ids import client_order_id
from octopus.core.orders import Fill, FillRevision, Side
from octopus.execution.book import CorporateAction, EntryKind
from octopus.execution.states import Event
from resources.brokers.paper import PaperBehaviour, PaperBrokerError
from resources.gates import Gates
from resources.price_feed import Bar
from resources.settings import load_settings
from resources.warehouse.audit_log import verify
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

D = Decimal
NEXT = SESSIONS.next(EXECUTED)
NOON = OPEN + timedelta(hours=1)
numbers = count()


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    clock, feed = ManualClock(NOON), flat_feed(("AAA", "BBB"), days=(DECIDED, EXECUTED, NEXT))
    broker = paper(database_url, "acct", clock, feed, behaviour=PaperBehaviour(fills_per_order=2))
    desk = Desk(database_url, "acct", clock, feed, broker, tmp_path / "audit.anchor")
    desk.open()
    return desk


def fill_ids(desk: Desk, instrument: str) -> list[str]:
    return [fill.fill_id for fill in desk.broker.fills() if fill.instrument == instrument]


def test_a_bust_after_the_nav_changes_the_next_and_the_books_agree(desk: Desk) -> None:
    """Ten AAA in two fills at 100: one is broken, the other was at 98 in truth. The struck NAV stays."""
    batch = store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(4))])
    desk.execute(batch)
    first, second = fill_ids(desk, "AAA")
    desk.broker.revise_fill(first, D(0), reason="clearly erroneous")
    desk.broker.revise_fill(second, D(5), price=D(98), fees=D(1), reason="price corrected")
    desk.feed.bars["AAA", NEXT] = Bar(D(100), D(110))
    # Five are left when it is paid, although the revision came after the NAV of the day before.
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.DIVIDEND, "AAA", D(1), SESSIONS.open_utc(NEXT)))
    desk.clock.wait_until(SESSIONS.close_utc(NEXT))
    with desk.engine() as engine:
        navs = engine.update_positions("acct")
        assert engine.reconcile("acct", NEXT) == ()
        fills = engine.bookkeeper.books.fills("acct")
        assert [(f.fill_id, f.quantity, f.price) for f in fills if f.instrument == "AAA"] == [(second, D(5), D(98))]
        (aaa,) = [o for o in engine.store.orders("acct") if o.order.instrument == "AAA"]
    assert rows(desk.url, "select closing from execution.nav where session = %s", EXECUTED) == [(D(100_000),)]
    nav = navs[NEXT]
    assert nav.holdings.positions == {"AAA": D(5), "BBB": D(4)}
    assert nav.holdings.cash == D(100_000) - 5 * 98 - 1 - 400 + 5
    assert (nav.fees, nav.dividends, nav.price_pnl) == (D(1), D(5), D(5 * 12))
    assert (aaa.status.state.value, aaa.status.filled, aaa.status.net_filled, aaa.status.remaining) == (
        "filled", D(10), D(5), D(0),
    )  # fmt: skip
    told = rows(desk.url, "select kind from audit.log where kind like 'order.fill\\_%%' order by seq")
    assert told == [("order.fill_broken",), ("order.fill_corrected",)]
    assert verify(desk.url, desk.anchor).ok


def test_the_same_under_another_number_is_no_event_and_fees_alone_are_no_corrected_fill(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    first, second = fill_ids(desk, "AAA")
    desk.broker.revise_fill(first, D(5), price=D(100), fees=D(0), reason="booked")
    desk.broker.revise_fill(second, D(5), price=D(100), fees=D("0.46"), reason="fees booked")
    with desk.engine() as engine:
        engine.update_positions("acct")
        engine.update_positions("acct")
        assert {f.fill_id: f.fees for f in engine.bookkeeper.books.fills("acct")} == {first: D(0), second: D("0.46")}
    told = rows(
        desk.url, "select kind, payload::json ->> 'fill_id' from audit.log where kind ~ '(fill|fees)_' order by seq"
    )
    assert told == [("order.fees_corrected", second)]


def test_the_paper_broker_breaks_only_what_it_did(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    with pytest.raises(PaperBrokerError, match="fill none is not in account acct"):
        desk.broker.revise_fill("none", D(0), reason="r")
    with pytest.raises(PaperBrokerError, match="quantity -1"):
        desk.broker.revise_fill(fill_ids(desk, "AAA")[0], D(-1), reason="r")


def test_a_bust_is_no_day_trade_and_what_it_takes_back_opened_nothing(desk: Desk) -> None:
    """Ten AAA in two fills of five, one of them broken the same day: nothing was sold, and five are the session's."""
    given = load_settings({})
    account = given.compliance.account.model_copy(update={"margin": True})
    current = replace(given, database_url=desk.url, compliance=given.compliance.model_copy(update={"account": account}))
    batch = store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(4))])
    desk.execute(batch)
    desk.broker.revise_fill(fill_ids(desk, "AAA")[0], D(0), reason="clearly erroneous")
    with desk.engine() as engine:
        engine.update_positions("acct")
    snapshot = desk.broker.snapshot(("AAA", "BBB"))
    seen = Gates(current, Warehouse(desk.url, Role.TRADER)).compliance_context(batch, snapshot, NOON, sending=True)
    assert (seen.day_trades, seen.opened_today) == (0, {"AAA": D(5), "BBB": D(4)})


# -- any order ---------------------------------------------------------------------------------------------------------

Told = Fill | FillRevision


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Told], list[Told | None]]:
    """What happened to two fills of an order, and how it was told: in any order, some twice; None: a NAV is struck."""
    happened: list[Told] = []
    for name in ("f1", "f2"):
        fill = Fill(name, "", "AAA", Side.BUY, D(5), D(100), D(1), CLOSE)
        happened.append(fill)
        for number in range(1, draw(st.integers(0, 3)) + 1):
            quantity = D(draw(st.sampled_from([0, 0, 3, 5, 6])))
            price, fees = D(draw(st.integers(90, 110))), D(draw(st.integers(0, 2))) if quantity else D(0)
            at = CLOSE + timedelta(hours=draw(st.integers(0, 30)))
            happened.append(FillRevision(name, number, "", quantity, price, fees, at, "told late"))
    again = draw(st.lists(st.sampled_from(happened), max_size=3))
    strikes = draw(st.integers(0, 2))
    return happened, draw(st.permutations([*happened, *again, *[None] * strikes]))


def in_truth(happened: Sequence[Told]) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """Quantity, price and fees of each fill that stands."""
    latest: dict[str, Told] = {}
    for told in happened:
        latest[told.fill_id] = told
    return {name: (one.quantity, one.price, one.fees) for name, one in latest.items() if one.quantity}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_fills_and_revisions_in_any_order_and_any_number_give_one_book(
    module_database: str, history: tuple[list[Told], list[Told | None]]
) -> None:
    happened, told = history
    account = f"r{next(numbers)}"
    clock, feed = ManualClock(NOON), flat_feed(("AAA",), days=(DECIDED, EXECUTED, NEXT))
    desk = Desk(module_database, account, clock, feed, paper(module_database, account, clock, feed))
    desk.open()
    batch = store_plan(module_database, account, [("AAA", Side.BUY, D(10))])
    order_id = client_order_id(batch.orders[0].intent_id)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        assert claim is not None
        store, books = engine.store, engine.bookkeeper.books
        store.begin_send(claim, order_id, Event.SEND, clock.now())
        store.record(order_id, Event.ACCEPT, clock.now())
        clock.wait_until(CLOSE)
        for one in told:
            if one is None:
                # Of the first session, whose bars are in: later news goes into the next.
                desk.feed.bars["AAA", NEXT] = Bar(D(100), D(100))
                engine.update_positions(account)
            elif isinstance(one, Fill):
                books.record_fill(account, replace(one, client_order_id=order_id), EXECUTED, clock.now())
            else:
                session = SESSIONS.trade_date(one.at)
                books.record_revision(account, replace(one, client_order_id=order_id), session, clock.now())
        truth = in_truth(happened)
        book = books.book(account)
        assert {f.fill_id: (f.quantity, f.price, f.fees) for f in book.fills} == truth
        shares = sum((quantity for quantity, _, _ in truth.values()), D(0))
        paid = sum((quantity * price + fees for quantity, price, fees in truth.values()), D(0))
        assert book.positions == ({"AAA": shares} if shares else {})
        assert book.cash == (D(100_000) if struck(module_database, account) else D(0)) - paid
        (order,) = store.orders(account)
        executed = [one.quantity for one in happened if isinstance(one, Fill)]
        assert (order.status.filled, order.status.net_filled) == (sum(executed), shares)
        assert order.status.state.value == "filled"
        clock.wait_until(SESSIONS.close_utc(NEXT))
        navs = engine.update_positions(account)
        assert navs[NEXT].holdings.positions == book.positions
        assert navs[NEXT].holdings.cash == D(100_000) - paid


def struck(url: str, account: str) -> bool:
    """Whether the deposit was recognised, as it is when a NAV is struck."""
    return bool(rows(url, "select from execution.entries where account = %s", account))
