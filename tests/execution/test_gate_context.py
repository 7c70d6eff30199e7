"""What the compliance gate is told of the account's own orders: when they were sent, and which exits may still come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from execution_support import DECIDED, OPEN, Desk, ManualClock, flat_feed, paper, store_plan

from octopus.compliance.checks import ComplianceContext
from octopus.core.ids import client_order_id
from octopus.core.orders import AccountSnapshot, Batch, Bracket, OrderType, Side
from octopus.execution.states import Event
from resources.gates import Gates
from resources.settings import load_settings
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

D = Decimal
BEFORE = OPEN - timedelta(minutes=30)
NOTHING_HELD = AccountSnapshot("acct", BEFORE, D(10_000), {}, {"AAA": D(100)})


@pytest.fixture
def desk(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(Gates, "window", lambda *_arguments: None)
    clock, feed = ManualClock(BEFORE), flat_feed(("AAA",))
    desk = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed))
    desk.open()
    return desk


def told(desk: Desk, *, margin: bool) -> ComplianceContext:
    """The context of another batch of the account, a minute on."""
    given = load_settings({})
    account = given.compliance.account.model_copy(update={"margin": margin})
    policy = given.compliance.model_copy(update={"account": account})
    gates = Gates(replace(given, database_url=desk.url, compliance=policy), Warehouse(desk.url, Role.TRADER))
    other = Batch("another", "acct", DECIDED, BEFORE, BEFORE + timedelta(hours=1), ())
    return gates.compliance_context(other, NOTHING_HELD, desk.clock.now() + timedelta(minutes=1), sending=True)


def test_an_order_that_waited_is_as_recent_as_its_send(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))])
    desk.clock.wait_until(OPEN)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        assert claim is not None
        approved = desk.clock.now()
        assert [one.at for one in told(desk, margin=False).recent_intents or ()] == [approved]
        desk.clock.wait_until(approved + timedelta(hours=2))
        engine.store.begin_send(claim, client_order_id(batch.orders[0].intent_id), Event.SEND, desk.clock.now())
    assert [one.at for one in told(desk, margin=False).recent_intents or ()] == [approved + timedelta(hours=2)]


def test_an_entry_is_a_possible_day_trade_while_its_exits_may_execute(desk: Desk) -> None:
    batch = store_plan(
        desk.url, "acct", [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=Bracket(D(95), D(110))
    )
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        assert claim is not None
        assert told(desk, margin=True).exits_ahead == 0, "nothing was sent"
        engine.store.begin_send(claim, client_order_id(batch.orders[0].intent_id), Event.SEND, desk.clock.now())
        assert told(desk, margin=True).exits_ahead == 1
        assert told(desk, margin=False).exits_ahead == 0, "only margin accounts count day trades"
