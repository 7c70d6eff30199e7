"""Joining verdicts and reckoning with open orders, apart from any database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octopus.core.orders import AccountSnapshot, OpenOrder, PlannedOrder, Side
from octopus.execution.approval import reduces, with_open_orders

D = Decimal
NOW = datetime(2022, 12, 28, 15, tzinfo=UTC)


def account(held: int, *working: OpenOrder) -> AccountSnapshot:
    return AccountSnapshot("acct", NOW, D(0), {"AAA": D(held)} if held else {}, {"AAA": D(1)}, working)


@pytest.mark.parametrize(
    ("held", "side", "quantity", "expected"),
    [
        (10, Side.SELL, 4, True), (10, Side.SELL, 10, True), (10, Side.SELL, 14, False), (10, Side.SELL, 30, False),
        (10, Side.BUY, 1, False), (-10, Side.BUY, 10, True), (-10, Side.BUY, 12, False), (0, Side.SELL, 1, False),
    ],
)  # fmt: skip
def test_an_order_reduces_only_down_to_nothing(held: int, side: Side, quantity: int, expected: bool) -> None:
    assert reduces(PlannedOrder("i", "AAA", side, D(quantity), D(1)), account(held)) is expected


def test_what_works_is_counted_before_an_order_reduces() -> None:
    working = OpenOrder("o", "AAA", Side.SELL, D(8))
    assert not reduces(PlannedOrder("i", "AAA", Side.SELL, D(4), D(1)), account(10, working))
    assert reduces(PlannedOrder("i", "AAA", Side.SELL, D(2), D(1)), account(10, working))


def test_an_order_that_the_broker_lists_counts_once() -> None:
    working = OpenOrder("o", "AAA", Side.BUY, D(8))
    seen = with_open_orders(account(0, working), [working, OpenOrder("p", "AAA", Side.BUY, D(3))])
    assert seen.working("AAA", Side.BUY) == D(11)
