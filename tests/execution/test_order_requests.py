"""What a broker can be asked for at all, and what every adapter asks of a request before it sends it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from execution_support import CLOSE
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.ids import entry_order_id, exit_order_id
from octopus.core.orders import Bracket, OrderType, PlannedOrder, Side
from octopus.execution.states import OrderState
from resources.brokers.base import BrokerOrder, OrderRejectedError, OrderRequest

D = Decimal
TEN = D(10)


def limit(quantity: Decimal = TEN) -> OrderRequest:
    return OrderRequest("oct-1", "AAA", Side.BUY, quantity, OrderType.LIMIT, CLOSE, D(5))


@pytest.mark.parametrize("quantity", [D(0), D(-1), D("NaN"), D("Infinity")])
def test_a_quantity_is_positive(quantity: Decimal) -> None:
    with pytest.raises(OrderRejectedError, match=r"oct-1 is not sent: quantity .* of AAA is not a positive number"):
        limit(quantity)


@given(st.sampled_from(OrderType), st.sampled_from([None, D(0), D(-5), D("NaN"), D("Infinity"), D("0.01"), D(5)]))
def test_a_limit_and_a_stop_order_have_a_price_and_no_other_has_one(
    order_type: OrderType, price: Decimal | None
) -> None:
    prices = (D("0.01"), D(5)) if order_type in (OrderType.LIMIT, OrderType.STOP) else (None,)
    if price in prices:
        assert OrderRequest("o", "AAA", Side.SELL, D(1), order_type, CLOSE, price).price == price
    else:
        with pytest.raises(OrderRejectedError, match=f"a {order_type.value} order cannot have the price"):
            OrderRequest("o", "AAA", Side.SELL, D(1), order_type, CLOSE, price)


def test_a_time_without_a_zone_is_no_expiry() -> None:
    with pytest.raises(OrderRejectedError, match="no time zone"):
        OrderRequest("o", "AAA", Side.BUY, D(1), OrderType.MARKET, CLOSE.replace(tzinfo=None))


def test_nothing_is_sent_at_or_after_its_expiry() -> None:
    limit().require_in_time("venue", CLOSE - timedelta(microseconds=1))
    for late in (timedelta(0), timedelta(hours=1)):
        with pytest.raises(OrderRejectedError, match=r"venue: an order until .* would live on in the next session"):
            limit().require_in_time("venue", CLOSE + late)


def test_a_fraction_is_no_whole_share() -> None:
    limit(D("2.0")).require_whole_shares("venue")
    with pytest.raises(OrderRejectedError, match=r"2\.5 AAA: orders here are in whole shares"):
        limit(D("2.5")).require_whole_shares("venue")


def test_a_planned_order_is_asked_for_as_it_is_and_its_exits_close_it() -> None:
    bracket = Bracket(D(4), D(6))
    planned = PlannedOrder("i", "AAA", Side.BUY, D(10), D(5), OrderType.LIMIT, D(5), bracket)
    entry = OrderRequest.of(planned, "oct-1", CLOSE)
    assert entry == limit()
    stop, target = entry.exits(bracket)
    assert stop == OrderRequest(exit_order_id("oct-1", "stop"), "AAA", Side.SELL, D(10), OrderType.STOP, CLOSE, D(4))
    assert (target.order_type, target.price, entry_order_id(target.client_order_id)) == (OrderType.LIMIT, 6, "oct-1")
    with pytest.raises(OrderRejectedError, match="oct-1-t is not sent"):
        entry.exits(Bracket(None, D(0)))


@pytest.mark.parametrize("other", ["client_order_id", "instrument", "side", "quantity"])
def test_another_order_is_told_by_any_of_its_terms(other: str) -> None:
    same = {"client_order_id": "oct-1", "instrument": "AAA", "side": Side.BUY, "quantity": D("10.00")}
    changed = {"client_order_id": "oct-2", "instrument": "BBB", "side": Side.SELL, "quantity": D(9)}
    rest = {"broker_order_id": "V1", "state": OrderState.ACCEPTED, "filled_quantity": D(0)}
    assert BrokerOrder(**same, **rest).is_of(limit())  # type: ignore[arg-type]
    assert not BrokerOrder(**same | {other: changed[other]}, **rest).is_of(limit())  # type: ignore[arg-type]
