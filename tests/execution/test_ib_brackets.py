"""Brackets at Interactive Brokers through ib_async's client over a real socket: a parent, and children of one group."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from execution_support import CLOSE, OPEN, Desk, ManualClock, flat_feed, store_plan
from ib_venue import IbVenue

from octopus.core.ids import client_order_id
from octopus.core.orders import Bracket, OrderType, Side
from octopus.execution.book import Entry, EntryKind
from octopus.execution.states import OrderState
from resources.brokers.base import BracketBroker, OrderRejectedError, OrderRequest, UncertainOutcomeError
from resources.brokers.ib import IbBroker
from resources.execution_engine import EngineSettings
from resources.halt_file import cancel_at_broker
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.order_store import OrderStore

D = Decimal
TEN = D(10)
BEFORE = OPEN - timedelta(minutes=30)
BOTH = Bracket(D("95.01"), D(110))
ENTRY = client_order_id("entry")
FAMILY = (ENTRY, f"{ENTRY}-s", f"{ENTRY}-t")


@pytest.fixture
def venue() -> Iterator[IbVenue]:
    with IbVenue() as served:
        yield served


def broker_at(venue: IbVenue, **changes: Any) -> IbBroker:
    return replace(IbBroker("acct", port=venue.port, connect_s=1.0, answer_s=0.3, now=lambda: BEFORE), **changes)


def send(broker: IbBroker, bracket: Bracket = BOTH, order_type: OrderType = OrderType.MARKET) -> None:
    broker.submit_bracket(OrderRequest(ENTRY, "AAA", Side.BUY, TEN, order_type, CLOSE), bracket)


def states(broker: IbBroker) -> list[tuple[str, Decimal] | None]:
    found = [broker.order(name) for name in FAMILY]
    return [None if one is None else (one.state.value, one.filled_quantity) for one in found]


def test_a_parent_and_its_children_are_sent_together_under_references_of_ours(venue: IbVenue) -> None:
    broker = broker_at(venue)
    assert isinstance(broker, BracketBroker)
    send(broker)
    parent, stop, target = (venue.order(name) for name in FAMILY)
    assert (parent.kind, parent.parent, parent.group) == ("MKT", 0, "")
    assert (stop.action, stop.kind, stop.trigger, stop.parent, stop.group) == (
        "SELL", "STP", "95.01", parent.order_id, ENTRY,
    )  # fmt: skip
    assert (target.action, target.kind, target.limit, target.parent, target.group) == (
        "SELL", "LMT", "110.0", parent.order_id, ENTRY,
    )  # fmt: skip
    assert [(o.client_order_id, o.remaining) for o in broker.snapshot().open_orders] == [(ENTRY, TEN)]
    venue.fill(ENTRY)
    assert [(o.side, o.remaining) for o in broker.snapshot().open_orders] == [(Side.SELL, TEN)]
    venue.fill(f"{ENTRY}-t", D(4))
    assert [(o.side, o.remaining) for o in broker.snapshot().open_orders] == [(Side.SELL, D(6))]
    venue.fill(f"{ENTRY}-s")
    # What was reduced to what it had filled is filled there.
    assert states(broker) == [("filled", TEN), ("filled", D(6)), ("filled", D(4))]
    assert broker.snapshot().positions == {}
    assert [f.client_order_id for f in broker.fills()] == [ENTRY, f"{ENTRY}-t", f"{ENTRY}-s"]


def test_one_exit_alone_is_of_no_group(venue: IbVenue) -> None:
    send(broker_at(venue), Bracket(D(95), None))
    assert [(one.kind, one.group) for one in venue.orders] == [("MKT", ""), ("STP", "")]


@pytest.mark.parametrize("order_type", [OrderType.MARKET_ON_OPEN, OrderType.MARKET_ON_CLOSE])
def test_an_order_for_an_auction_has_no_exits_there(venue: IbVenue, order_type: OrderType) -> None:
    with pytest.raises(OrderRejectedError, match="cannot have exits"):
        send(broker_at(venue), order_type=order_type)
    assert venue.posts == []


def test_an_entry_whose_exit_is_refused_does_not_stay_without_it(venue: IbVenue) -> None:
    venue.script = ["refuse_exit"]
    with pytest.raises(UncertainOutcomeError, match="was refused"):
        send(broker_at(venue))
    until = time.monotonic() + 5
    while {one.status for one in venue.orders} != {"Cancelled"}:
        assert time.monotonic() < until, "its cancel was sent before the answer was heard"
        time.sleep(0.01)


def test_cancelling_any_of_them_ends_the_group(venue: IbVenue) -> None:
    broker = broker_at(venue)
    send(broker)
    broker.cancel(ENTRY)
    assert states(broker) == [("cancelled", 0)] * 3
    other = client_order_id("other")
    broker.submit_bracket(OrderRequest(other, "AAA", Side.BUY, TEN, OrderType.MARKET, CLOSE), BOTH)
    venue.fill(other)
    assert len(cancel_at_broker(broker).asked) == 1
    assert {venue.order(f"{other}-{leg}").status for leg in "st"} == {"Cancelled"}


@pytest.mark.parametrize("fault", ["ok", "accept_drop", "silent", "drop", "refuse", "late_reject", "refuse_exit"])
@pytest.mark.parametrize("exits", ["s", "t", "both"])
def test_a_bracket_goes_through_the_whole_path_whatever_fails(
    database_url: str, venue: IbVenue, fault: str, exits: str
) -> None:
    account, clock = f"ib-{fault}-{exits}".replace("_", "-"), ManualClock(BEFORE)
    venue.script = [fault]

    def market(served: IbVenue) -> None:
        for name, *_ in served.waiting() if clock.now() >= CLOSE else ():
            served.fill(name)
            if exits == "both":
                served.fill(f"{name}-t", D(4))
            served.fill(f"{name}-{'s' if exits == 'both' else exits}")

    venue.auction = market
    broker = broker_at(venue, account_name=account, now=clock.now)
    desk = Desk(
        database_url, account, clock, flat_feed(("AAA",)), broker, settings=EngineSettings(lookback=timedelta())
    )
    desk.open()
    batch = store_plan(database_url, account, [("AAA", Side.BUY, TEN)], order_type=OrderType.MARKET, bracket=BOTH)
    with OrderStore.opened(database_url) as store:
        # Taken over with what it held: TWS has no records of the time before.
        deposit = Entry("adopted", EntryKind.ADOPTED, None, D(0), D(100_000), BEFORE, "")
        AccountBooks(store).recognise(account, deposit, batch.session, clock.now())
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        engine.collect_fills(batch.batch_id)
        found = {one.client_order_id: one.status for one in engine.store.orders(account)}
        assert engine.bookkeeper.books.positions(account) == {}
    entry = client_order_id(batch.orders[0].intent_id)
    stands = fault in ("ok", "accept_drop", "silent")
    expected = {
        "s": ([TEN, TEN, D(0)], [OrderState.FILLED, OrderState.FILLED, OrderState.CANCELLED]),
        "t": ([TEN, D(0), TEN], [OrderState.FILLED, OrderState.CANCELLED, OrderState.FILLED]),
        "both": ([TEN, D(6), D(4)], [OrderState.FILLED, OrderState.CANCELLED, OrderState.CANCELLED]),
    }[exits]
    family = [found[name] for name in (entry, f"{entry}-s", f"{entry}-t")]
    if stands:
        assert ([one.filled for one in family], [one.state for one in family]) == expected
    else:
        refused = {OrderState.REJECTED}
        # The exit that was refused alone is nowhere at the venue.
        alone = {OrderState.CANCELLED, OrderState.EXPIRED}
        ends = {"drop": {OrderState.EXPIRED}, "refuse": refused, "late_reject": refused, "refuse_exit": alone}
        assert {one.state for one in family} == ends[fault]
        assert venue.positions == {}
