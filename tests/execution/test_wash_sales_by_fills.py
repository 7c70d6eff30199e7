"""Wash sales from fills to what is disallowed: how an order's fills were split is no matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.compliance.wash_sales import Adjusted, Trade, adjust
from octopus.core.orders import Fill, Side
from octopus.execution.lots import lot_book

D = Decimal
FIRST = datetime(2024, 1, 2, 15, tzinfo=UTC)
CLOSE_ENOUGH = D("0.000001")
"""In the account's currency: amounts are divided among parts."""


def dates(at: datetime, _instrument: str) -> tuple[date, date]:
    return at.date(), at.date() + timedelta(days=1)


def adjusted(fills: Sequence[Fill]) -> Adjusted:
    book = lot_book(fills, (), dates=dates)
    return adjust(book.disposals, book.lots, {fill.fill_id: Trade(fill.at, fill.client_order_id) for fill in fills})


def fill(name: str, side: Side, quantity: int, price: int, at: datetime, order: str) -> Fill:
    return Fill(name, order, "AAA", side, D(quantity), D(price), D(0), at)


def disallowed(told: Adjusted) -> Decimal:
    return sum((one.disallowed for one in told.disposals), D(0))


def test_the_rest_of_a_purchase_in_two_fills_replaces_nothing_of_it_and_another_order_does() -> None:
    later = FIRST + timedelta(hours=1)
    bought = [fill("f1", Side.BUY, 5, 100, FIRST, "one"), fill("f2", Side.BUY, 5, 100, later, "one")]
    sale = fill("f3", Side.SELL, 5, 90, FIRST + timedelta(days=3), "two")
    assert disallowed(adjusted([*bought, sale])) == 0
    others = [bought[0], replace(bought[1], client_order_id="another")]
    assert disallowed(adjusted([*others, sale])) == 50
    # What an order buys on another day is another purchase.
    tomorrow = [bought[0], replace(bought[1], at=FIRST + timedelta(days=1))]
    assert disallowed(adjusted([*tomorrow, sale])) == 50


ORDERS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from([Side.BUY, Side.SELL]),
        st.lists(st.tuples(st.integers(2, 12), st.integers(80, 120)), min_size=1, max_size=2),
    ),
    min_size=2,
    max_size=9,
)


@settings(deadline=None)
@given(orders=ORDERS, data=st.data())
def test_splitting_fills_never_changes_what_is_disallowed(
    orders: list[tuple[int, Side, list[tuple[int, int]]]], data: st.DataObject
) -> None:
    whole: list[Fill] = []
    parts: list[Fill] = []
    at = FIRST
    for number, (days, side, done) in enumerate(orders):
        at += timedelta(days=days, minutes=1)
        for place, (quantity, price) in enumerate(done):
            at += timedelta(minutes=1)
            one = fill(f"f{number:02}{place}", side, quantity, price, at, f"o{number}")
            whole.append(one)
            cut = data.draw(st.integers(0, quantity - 1))
            pieces = [(f"{one.fill_id}-{n}", size) for n, size in enumerate((cut, quantity - cut)) if size]
            parts += [replace(one, fill_id=name, quantity=D(size)) for name, size in pieces]
    first, second = adjusted(whole), adjusted(parts)
    assert abs(disallowed(first) - disallowed(second)) < CLOSE_ENOUGH
    # Nor what is in the basis of what is held, by the day from which it counts as held.
    assert held(first) == held(second)


def held(told: Adjusted) -> dict[date, tuple[Decimal, Decimal]]:
    found: dict[date, tuple[Decimal, Decimal]] = {}
    for lot in told.lots:
        shares, basis = found.get(lot.held_from, (D(0), D(0)))
        found[lot.held_from] = shares + lot.quantity, basis + lot.basis
    return {day: (round(shares, 6), round(basis, 5)) for day, (shares, basis) in found.items()}
