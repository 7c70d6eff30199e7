"""Brackets: prices of exits, and which one a bar hits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.brackets import ExitHit, bracket_at, exit_hit, tick_size, why_invalid, with_brackets
from octopus.core.errors import ConfigError
from octopus.core.ids import client_order_id, entry_order_id, exit_intent_id, exit_order_id
from octopus.core.orders import Bracket, Exit, OrderType, PlannedOrder, Side

D = Decimal
PRICES = st.integers(min_value=2, max_value=10_000_000).map(lambda cents: D(cents) / 100)
FRACTIONS = st.integers(min_value=1, max_value=500).map(lambda n: D(n) / 1000)


def test_exits_stand_on_both_sides_of_the_reference_rounded_towards_it() -> None:
    assert bracket_at(Side.BUY, D("101.37"), D("0.05"), D("0.1")) == Bracket(D("96.31"), D("111.50"))
    assert bracket_at(Side.SELL, D("101.37"), D("0.05"), D("0.1")) == Bracket(D("106.43"), D("91.24"))
    assert bracket_at(Side.BUY, D("0.5"), D("0.051"), None) == Bracket(D("0.4745"), None)


@pytest.mark.parametrize(
    ("stop", "target", "says"),
    [
        (None, None, "neither"),
        (D("0.00001"), None, "not below"),
        (None, D("0.00001"), "not above"),
        (D(1), None, "tick"),
    ],
)
def test_a_bracket_that_cannot_stand_is_refused_with_the_remedy(stop: D | None, target: D | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        bracket_at(Side.BUY, D(10), stop, target)
    assert "bracket: null" in str(refused.value)


@given(st.sampled_from(Side), PRICES, FRACTIONS, FRACTIONS)
def test_exits_are_valid_and_never_farther_than_asked(side: Side, reference: D, loss: D, gain: D) -> None:
    try:
        bracket = bracket_at(side, reference, loss, gain)
    except ConfigError:
        # A fraction of less than a tick.
        assert min(loss, gain) * reference < 2 * tick_size(reference)
        return
    assert why_invalid(side, reference, bracket) == ""
    for price, fraction in ((bracket.stop, loss), (bracket.target, gain)):
        assert price is not None
        assert abs(price - reference) <= fraction * reference
        assert why_invalid(side.opposite, reference, Bracket(bracket.stop, None))


TICKS = st.sampled_from([D(step) for step in ("0.001", "0.01", "0.05", "0.125", "0.5", "3")])


@given(st.sampled_from(Side), PRICES, FRACTIONS, FRACTIONS, TICKS)
def test_exits_keep_the_instruments_own_tick_and_are_the_nearer_for_it(
    side: Side, reference: D, loss: D, gain: D, tick: D
) -> None:
    try:
        market = bracket_at(side, reference, loss, gain)
    except ConfigError:
        return
    try:
        own = bracket_at(side, reference, loss, gain, tick)
    except ConfigError:
        assert min(loss, gain) * reference < tick + 2 * tick_size(reference)
        return
    assert why_invalid(side, reference, own, tick) == ""
    for exit_, price in own.exits.items():
        assert price % tick == 0
        nearer = abs(market.exits[exit_] - reference) - abs(price - reference)
        assert 0 <= nearer < tick
        assert "multiple of the tick" in why_invalid(side, reference, Bracket(price + tick / 3, None), tick)


def test_an_exits_price_may_lie_between_the_markets_ticks_where_the_instruments_are_finer() -> None:
    eighths = Bracket(D("96.375"), D("111.5"))
    assert bracket_at(Side.BUY, D("101.37"), D("0.05"), D("0.1"), D("0.125")) == eighths
    assert why_invalid(Side.BUY, D("101.37"), eighths, D("0.125")) == ""
    assert "the tick 0.01" in why_invalid(Side.BUY, D("101.37"), eighths)
    orders = [planned(Side.BUY, 5), planned(Side.BUY, 5, "BBB")]
    bought = with_brackets(orders, {}, (D("0.033"), None), ticks={"BBB": D("0.25")})
    assert [order.bracket and order.bracket.stop for order in bought] == [D("96.7"), D("96.75")]


@pytest.mark.parametrize(
    ("opening", "high", "low", "expected"),
    [
        (D(100), D(105), D(96), None),
        (D(100), D(105), D(95), ExitHit(Exit.STOP, D(95))),
        (D(94), D(105), D(90), ExitHit(Exit.STOP, D(94))),
        (D(100), D(110), D(96), ExitHit(Exit.TARGET, D(110))),
        (D(112), D(115), D(111), ExitHit(Exit.TARGET, D(110))),
        (D(100), D(111), D(94), ExitHit(Exit.STOP, D(95))),
        (D(94), None, None, ExitHit(Exit.STOP, D(94))),
        (D(100), None, None, None),
    ],
    ids=["neither", "stop", "gap", "target", "better open", "both", "gap without a range", "no range"],
)
def test_a_bar_hits_the_worse_exit(opening: D, high: D | None, low: D | None, expected: ExitHit | None) -> None:
    bracket = Bracket(D(95), D(110))
    assert exit_hit(Side.BUY, bracket, opening, high, low) == expected


@given(PRICES, PRICES, PRICES, PRICES, FRACTIONS, FRACTIONS)
def test_a_short_sale_is_a_purchase_in_the_mirror(reference: D, a: D, b: D, c: D, loss: D, gain: D) -> None:
    low, opening, high = sorted((a, b, c))
    bought = Bracket(reference * (1 - loss), reference * (1 + gain))
    mirrored = Bracket(-(bought.stop or D(0)), -(bought.target or D(0)))
    hit, seen = exit_hit(Side.BUY, bought, opening, high, low), exit_hit(Side.SELL, mirrored, -opening, -low, -high)
    assert (hit and (hit.exit, hit.price)) == (seen and (seen.exit, -seen.price))


def planned(side: Side, quantity: int, name: str = "AAA") -> PlannedOrder:
    return PlannedOrder(name, name, side, D(quantity), D(100), OrderType.MARKET)


@pytest.mark.parametrize(
    ("held", "side", "quantity", "is_entry"),
    [(0, Side.BUY, 5, True), (5, Side.BUY, 5, True), (5, Side.SELL, 5, False), (9, Side.SELL, 5, False),
     (0, Side.SELL, 5, True), (-5, Side.SELL, 1, True), (-5, Side.BUY, 5, False)],
)  # fmt: skip
def test_what_opens_or_enlarges_a_position_has_exits(held: int, side: Side, quantity: int, is_entry: bool) -> None:
    (order,) = with_brackets([planned(side, quantity)], {"AAA": D(held)}, (D("0.05"), None))
    stop = D(95) if side is Side.BUY else D(105)
    assert order == replace(planned(side, quantity), bracket=Bracket(stop, None) if is_entry else None)


def test_what_exits_cannot_protect_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="AAA goes from 5 to the other side"):
        with_brackets([planned(Side.SELL, 6)], {"AAA": D(5)}, (D("0.05"), None))
    with pytest.raises(ConfigError, match="AAA is quoted in another currency"):
        with_brackets([planned(Side.BUY, 6)], {}, (D("0.05"), None), foreign=["AAA"])


def test_an_exits_client_order_id_is_its_entrys_with_a_suffix() -> None:
    entry = client_order_id("20240102-abc-def")
    for exit_ in Exit:
        named = client_order_id(exit_intent_id("20240102-abc-def", exit_.value))
        assert named == exit_order_id(entry, exit_.value)
        assert len(named) <= 32
        assert entry_order_id(named) == entry
    assert entry_order_id(entry) is None
    assert entry_order_id("theirs-s") is None
