"""Brackets at Alpaca through alpaca-py over a real socket: one request, and legs that are known as ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from alpaca_venue import AlpacaVenue
from execution_support import CLOSE, OPEN, SESSIONS, Desk, ManualClock, flat_feed, store_plan

from octopus.core.ids import client_order_id
from octopus.core.orders import Bracket, OrderType, Side
from octopus.execution.states import OrderState
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import BracketBroker, OrderRejectedError, OrderRequest
from resources.halt_file import cancel_at_broker
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.order_store import OrderStore

D = Decimal
TEN = D(10)
BEFORE = OPEN - timedelta(minutes=30)
BOTH = Bracket(D("95.01"), D(110))
ENTRY = client_order_id("entry")
QUICK = Patience(attempts=2, base_s=0.01, total_s=0.05)


@pytest.fixture
def venue() -> Iterator[AlpacaVenue]:
    with AlpacaVenue(slow_s=2.5) as served:
        served.book("CSD", net_amount="0", date="2022-12-01")
        yield served


def broker_at(venue: AlpacaVenue, **changes: Any) -> AlpacaBroker:
    access = Access(base_url=venue.url, timeout_s=2.0, patience=QUICK)
    return replace(AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=lambda: BEFORE), **changes)


def send(broker: AlpacaBroker, bracket: Bracket = BOTH, order_type: OrderType = OrderType.MARKET) -> None:
    broker.submit_bracket(OrderRequest(ENTRY, "AAA", Side.BUY, TEN, order_type, CLOSE), bracket)


def states(broker: AlpacaBroker) -> list[tuple[str, Decimal] | None]:
    found = [broker.order(name) for name in (ENTRY, f"{ENTRY}-s", f"{ENTRY}-t")]
    return [None if one is None else (one.state.value, one.filled_quantity) for one in found]


def test_a_bracket_is_one_request_whose_legs_bear_our_ids(venue: AlpacaVenue) -> None:
    broker = broker_at(venue)
    assert isinstance(broker, BracketBroker)
    send(broker)
    assert venue.posts == [ENTRY]
    legs = [(leg["type"], leg["limit_price"], leg["stop_price"]) for leg in venue.orders[ENTRY]["legs"]]
    assert legs == [("limit", "110.0", None), ("stop", None, "95.01")]
    assert states(broker) == [("accepted", 0)] * 3
    assert [(o.client_order_id, o.remaining) for o in broker.snapshot().open_orders] == [(ENTRY, TEN)]
    venue.fill(ENTRY)
    # The stop waits held: the pair is one open order.
    assert [(o.client_order_id, o.side) for o in broker.snapshot().open_orders] == [(f"{ENTRY}-t", Side.SELL)]
    venue.fill(venue.leg(ENTRY, "stop")["client_order_id"])
    assert states(broker) == [("filled", TEN), ("filled", TEN), ("cancelled", 0)]
    assert [(f.client_order_id, f.side) for f in broker.fills()] == [(ENTRY, Side.BUY), (f"{ENTRY}-s", Side.SELL)]
    assert broker.snapshot().positions == {}


def test_a_target_that_fills_in_part_leaves_the_stop_the_rest(venue: AlpacaVenue) -> None:
    broker = broker_at(venue)
    send(broker)
    venue.fill(ENTRY)
    venue.fill(venue.leg(ENTRY, "limit")["client_order_id"], D(4))
    venue.fill(venue.leg(ENTRY, "stop")["client_order_id"])
    assert states(broker) == [("filled", TEN), ("filled", D(6)), ("cancelled", D(4))]
    assert broker.snapshot().positions == {}


@pytest.mark.parametrize(("bracket", "missing"), [(Bracket(D(95), None), "t"), (Bracket(None, D(110)), "s")])
def test_one_exit_alone_is_sent_as_one_order_that_triggers_another(
    venue: AlpacaVenue, bracket: Bracket, missing: str
) -> None:
    broker = broker_at(venue)
    send(broker, bracket)
    assert broker.order(f"{ENTRY}-{missing}") is None
    assert len(venue.orders[ENTRY]["legs"]) == 1
    venue.fill(ENTRY)
    assert [o.side for o in broker.snapshot().open_orders] == [Side.SELL]


def test_an_order_for_an_auction_has_no_exits_there(venue: AlpacaVenue) -> None:
    with pytest.raises(OrderRejectedError, match="cannot have exits"):
        send(broker_at(venue), order_type=OrderType.MARKET_ON_OPEN)
    assert venue.posts == []


def test_cancelling_any_of_them_ends_the_group(venue: AlpacaVenue) -> None:
    broker = broker_at(venue)
    send(broker)
    broker.cancel(ENTRY)
    assert states(broker) == [("cancelled", 0)] * 3
    other = client_order_id("other")
    broker.submit_bracket(OrderRequest(other, "AAA", Side.BUY, TEN, OrderType.MARKET, CLOSE), BOTH)
    venue.fill(other)
    # The kill switch without our records: what stands is known by the entry that it is nested in.
    assert cancel_at_broker(broker).asked == (f"{other}-t",)
    assert {leg["status"] for leg in venue.orders[other]["legs"]} == {"canceled"}
    broker.cancel(f"{other}-s")


@pytest.mark.parametrize("fault", ["ok", "accept_504", "accept_drop", "html", "drop", "busy"])
@pytest.mark.parametrize("exit_", ["stop", "limit", "both"])
def test_a_bracket_goes_through_the_whole_path_whatever_fails(
    database_url: str, venue: AlpacaVenue, fault: str, exit_: str
) -> None:
    account, clock = f"alpaca-{fault}-{exit_}".replace("_", "-"), ManualClock(BEFORE)
    venue.script, venue.cash = [fault], D(0)
    venue.book("CSD", net_amount="100000", date="2022-12-27")

    def market(served: AlpacaVenue) -> None:
        entries = [one for one in served.orders.values() if one["legs"]]
        for entry in entries:
            if clock.now() >= CLOSE and entry["status"] == "accepted":
                served.fill(entry["client_order_id"])
                if exit_ == "both":
                    served.fill(served.leg(entry["client_order_id"], "limit")["client_order_id"], D(4))
                kind = "stop" if exit_ == "both" else exit_
                served.fill(served.leg(entry["client_order_id"], kind)["client_order_id"])

    venue.auction = market
    feed = flat_feed(("AAA",))
    desk = Desk(database_url, account, clock, feed, broker_at(venue, account_name=account, now=clock.now))
    desk.open()
    batch = store_plan(database_url, account, [("AAA", Side.BUY, TEN)], order_type=OrderType.MARKET, bracket=BOTH)
    if fault == "busy":
        # Definitely not sent: what was not sent goes with the next attempt.
        desk.execute(batch, "first")
        clock.at = BEFORE
    done = desk.execute(batch)
    with OrderStore.opened(database_url) as store:
        found = {one.client_order_id: one.status.state for one in store.orders(account)}
        assert AccountBooks(store).positions(account) == {}
    entry = client_order_id(batch.orders[0].intent_id)
    ended = {"stop": f"{entry}-s", "limit": f"{entry}-t"}
    assert found.pop(entry) is OrderState.FILLED
    if exit_ != "both":
        assert found.pop(ended[exit_]) is OrderState.FILLED
    assert set(found.values()) == {OrderState.CANCELLED}
    assert done.breaks == ()
    assert len([name for name in venue.posts if name == entry]) <= 2
    assert sum(1 for one in venue.orders.values() if one["legs"]) == 1
