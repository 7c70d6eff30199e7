"""Which orders can only make a position smaller, whatever else fills."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.orders import AccountSnapshot, OpenOrder, PlannedOrder, Side, reducing_orders

D = Decimal
NOW = datetime(2022, 12, 28, 15, tzinfo=UTC)
SIDES = st.sampled_from(list(Side))
SHARES = st.integers(1, 12)


def account(held: int, *working: OpenOrder) -> AccountSnapshot:
    return AccountSnapshot("acct", NOW, D(0), {"AAA": D(held)} if held else {}, {"AAA": D(1)}, working)


def order(side: Side, quantity: int, name: str = "i") -> PlannedOrder:
    return PlannedOrder(name, "AAA", side, D(quantity), D(1))


@pytest.mark.parametrize(
    ("held", "side", "quantity", "expected"),
    [
        (10, Side.SELL, 4, True), (10, Side.SELL, 10, True), (10, Side.SELL, 14, False), (10, Side.SELL, 30, False),
        (10, Side.BUY, 1, False), (-10, Side.BUY, 10, True), (-10, Side.BUY, 12, False), (0, Side.SELL, 1, False),
    ],
)  # fmt: skip
def test_an_order_reduces_only_down_to_nothing(held: int, side: Side, quantity: int, expected: bool) -> None:
    assert bool(reducing_orders([order(side, quantity)], account(held))) is expected


def test_open_sells_take_shares_away_and_open_buys_bring_none() -> None:
    selling, buying = OpenOrder("o", "AAA", Side.SELL, D(8)), OpenOrder("o", "AAA", Side.BUY, D(8))
    assert not reducing_orders([order(Side.SELL, 4)], account(10, selling))
    assert reducing_orders([order(Side.SELL, 2)], account(10, selling))
    # Until it fills there are ten: to sell twelve would turn the position round.
    assert not reducing_orders([order(Side.SELL, 12)], account(10, buying))


@given(held=st.integers(-20, 20), working=st.tuples(SIDES, SHARES), wanted=st.lists(st.tuples(SIDES, SHARES)))
def test_whichever_of_them_fill_the_position_keeps_its_side(
    held: int, working: tuple[Side, int], wanted: list[tuple[Side, int]]
) -> None:
    orders = [order(side, quantity, f"i{number}") for number, (side, quantity) in enumerate(wanted)]
    reducing = reducing_orders(orders, account(held, OpenOrder("o", "AAA", working[0], D(working[1]))))
    moved = sum((o.signed_quantity for o in orders if o.intent_id in reducing), D(0))
    against = min(0, working[0].sign * working[1]) if held > 0 else max(0, working[0].sign * working[1])
    assert not reducing or 0 <= (held + moved + against) / held < 1
