"""Implementation shortfall: by hand, and as the difference between the paper and the real portfolio."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.orders import Fill, PlannedOrder, Side
from octopus.execution.costs import InvalidPriceError, order_costs

D = Decimal
NONE = D(0)
AT = datetime(2022, 12, 28, 21, tzinfo=UTC)


def order(side: Side, quantity: str) -> PlannedOrder:
    return PlannedOrder("i", "AAA", side, D(quantity), D(50))


def fill(side: Side, quantity: Decimal, price: Decimal, fees: Decimal = NONE, name: str = "f") -> Fill:
    return Fill(name, "o", "AAA", side, quantity, price, fees, AT)


def test_a_buy_by_hand() -> None:
    """1,000 shares decided at 50.00, arriving at 50.20, 800 of them filled at 50.30 for 8.00, the close at 51.00."""
    costs = order_costs(
        order(Side.BUY, "1000"), [fill(Side.BUY, D(800), D("50.30"), D(8))],
        decision_price=D(50), arrival_price=D("50.20"), end_price=D(51),
    )  # fmt: skip
    assert costs.delay_usd == D(160)
    assert costs.trading_usd == D(80)
    assert costs.opportunity_usd == D(200)
    assert costs.fees_usd == D(8)
    assert costs.shortfall_usd == D(448)
    assert costs.shortfall_bps == D("89.6")
    assert costs.slippage_bps == pytest.approx(D("19.92"), abs=D("0.01"))
    assert costs.average_price == D("50.30")


def test_a_sale_into_a_falling_price_costs_and_one_that_rises_gains() -> None:
    prices = {"decision_price": D(50), "arrival_price": D(49), "end_price": D(48)}
    fallen = order_costs(order(Side.SELL, "10"), [fill(Side.SELL, D(10), D("48.5"))], **prices)
    assert (fallen.delay_usd, fallen.trading_usd, fallen.opportunity_usd) == (D(10), D(5), D(0))
    better = order_costs(order(Side.SELL, "10"), [fill(Side.SELL, D(10), D("49.5"))], **prices)
    assert better.slippage_bps is not None
    assert better.slippage_bps < 0


def test_what_was_never_filled_has_an_opportunity_cost_alone() -> None:
    costs = order_costs(order(Side.BUY, "10"), [], decision_price=D(50), arrival_price=D(51), end_price=D(53))
    assert (costs.delay_usd, costs.trading_usd, costs.fees_usd) == (D(0), D(0), D(0))
    assert costs.shortfall_usd == D(30)
    assert (costs.average_price, costs.slippage_bps) == (None, None)


@pytest.mark.parametrize("name", ["decision_price", "arrival_price", "end_price"])
def test_a_price_that_is_none_is_named(name: str) -> None:
    prices = {"decision_price": D(50), "arrival_price": D(50), "end_price": D(50)} | {name: D(0)}
    with pytest.raises(InvalidPriceError, match=f"{name.split('_')[0]} price of AAA is 0"):
        order_costs(order(Side.BUY, "10"), [], **prices)


PRICES = st.decimals("0.000001", "100000", places=6)
QUANTITIES = st.decimals("0.00000001", "1000000", places=8)


@given(
    side=st.sampled_from(Side), rest=st.decimals("0", "1000000", places=8), decision=PRICES, arrival=PRICES, end=PRICES,
    executions=st.lists(st.tuples(QUANTITIES, PRICES, st.decimals("0", "1000", places=2)), max_size=5),
)  # fmt: skip
def test_the_parts_are_the_paper_portfolio_less_the_real_one_to_the_last_digit(
    side: Side, rest: Decimal, decision: Decimal, arrival: Decimal, end: Decimal, executions: list[tuple[Decimal, ...]]
) -> None:
    fills = [fill(side, *execution, name=str(number)) for number, execution in enumerate(executions)]
    quantity = sum((one.quantity for one in fills), rest) or D(1)
    costs = order_costs(
        order(side, str(quantity)), fills, decision_price=decision, arrival_price=arrival, end_price=end
    )
    with localcontext(prec=80):
        paper = side.sign * quantity * (end - decision)
        shares = sum((side.sign * one.quantity for one in fills), D(0))
        real = shares * end + sum((one.cash_flow for one in fills), D(0))
        assert costs.shortfall_usd == paper - real
