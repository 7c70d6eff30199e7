"""Joining verdicts and reckoning with open orders, apart from any database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from octopus.core.orders import AccountSnapshot, OpenOrder, Side
from octopus.execution.approval import with_open_orders

D = Decimal
NOW = datetime(2022, 12, 28, 15, tzinfo=UTC)


def account(held: int, *working: OpenOrder) -> AccountSnapshot:
    return AccountSnapshot("acct", NOW, D(0), {"AAA": D(held)} if held else {}, {"AAA": D(1)}, working)


def test_an_order_that_the_broker_lists_counts_once() -> None:
    working = OpenOrder("o", "AAA", Side.BUY, D(8))
    seen = with_open_orders(account(0, working), [working, OpenOrder("p", "AAA", Side.BUY, D(3))])
    assert seen.working("AAA", Side.BUY) == D(11)
