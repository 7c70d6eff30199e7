"""The rebalance plan: money is conserved, nothing is sold that is not there, and small changes are left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, OpenOrder, OrderType, Side
from octopus.portfolio.config import Constraints, PortfolioConfig
from octopus.portfolio.rebalance import affordable, outlay, plan_orders, planned_weights, proceeds, rounding
from octopus.portfolio.units import TradingUnits

AT = datetime(2022, 12, 27, 21, 30, tzinfo=UTC)
NAMES = ("A", "B", "C", "D", "E")
FREE = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
PLAIN = PortfolioConfig(trade_min_fraction=0, cash_buffer=0)


def account(
    cash: object, positions: dict[str, object], prices: dict[str, object], orders: tuple[OpenOrder, ...] = ()
) -> AccountSnapshot:
    return AccountSnapshot(
        "paper",
        AT,
        Decimal(str(cash)),
        {name: Decimal(str(q)) for name, q in positions.items()},
        {name: Decimal(str(p)) for name, p in prices.items()},
        orders,
    )


def sizes(orders: object) -> list[tuple[str, str, Decimal]]:
    return [(o.side.value, o.instrument, o.quantity) for o in orders]  # type: ignore[attr-defined]


def test_by_hand() -> None:
    snapshot = account(10_000, {"A": 100, "B": 50}, {"A": 100, "B": 200, "C": 33})
    orders = plan_orders("batch", {"A": 0.5, "B": 0.0, "C": 0.1}, snapshot, PLAIN, FREE)
    assert sizes(orders) == [("sell", "B", 50), ("buy", "A", 50), ("buy", "C", 90)]
    assert all(order.order_type is OrderType.MARKET_ON_CLOSE for order in orders)
    again = plan_orders("batch", {"C": 0.1, "B": 0.0, "A": 0.5}, snapshot, PLAIN, FREE)
    assert [order.intent_id for order in again] == [order.intent_id for order in orders]
    assert len({order.intent_id for order in orders}) == 3


def test_an_instrument_with_a_lot_of_its_own_is_traded_in_it() -> None:
    """Purchases, sales, what closes a position and what cash cuts; the others keep the portfolio's lot."""
    own = PLAIN.model_copy(update={"units": TradingUnits({"A": Decimal(100), "B": Decimal(100), "C": Decimal(7)})})
    snapshot = account(10_000, {"B": 250, "C": 3}, {"A": 10, "B": 8, "C": 1, "D": 10})
    targets = {"A": 0.5, "B": 0.0, "C": 0.0, "D": 0.25}
    assert sizes(plan_orders("b", targets, snapshot, own, FREE)) == [
        ("sell", "B", 200),
        ("buy", "A", 600),
        ("buy", "D", 300),
    ]
    poor = account(3_500, {"B": 250}, {"A": 10, "B": 20})
    assert sizes(plan_orders("b", {"A": 0.9, "B": 0.625}, poor, own, FREE)) == [("buy", "A", 300)]
    assert "units" not in own.model_dump(), "what is recorded of the settings holds no data"
    assert not TradingUnits()
    same = TradingUnits({"A": Decimal("100.0")}, {"B": Decimal("0.05")}).record()
    assert same == {"lots": {"A": "100"}, "ticks": {"B": "0.05"}}


def test_a_target_of_an_exact_number_of_shares_is_not_cut_by_one() -> None:
    snapshot = account(1_000_000, {}, {"A": "0.07"})
    (order,) = plan_orders("b", {"A": 0.07}, snapshot, PLAIN, FREE)
    assert order.quantity == 1_000_000


def test_what_is_held_without_a_target_is_sold_whatever_its_size() -> None:
    config = PortfolioConfig(trade_min_fraction=0.1, trade_min_notional=Decimal(1000))
    orders = plan_orders("b", {}, account(100_000, {"A": 3}, {"A": 1}), config, FREE)
    assert sizes(orders) == [("sell", "A", 3)]


def test_changes_within_the_band_or_below_the_least_notional_are_left_alone() -> None:
    snapshot = account(50_000, {"A": 500}, {"A": 100})
    band = PortfolioConfig(trade_min_fraction=0.01, cash_buffer=0)
    assert plan_orders("b", {"A": 0.5099}, snapshot, band, FREE) == ()
    assert sizes(plan_orders("b", {"A": 0.515}, snapshot, band, FREE)) == [("buy", "A", 15)]
    notional = PortfolioConfig(trade_min_fraction=0, trade_min_notional=Decimal(2000), cash_buffer=0)
    assert plan_orders("b", {"A": 0.515}, snapshot, notional, FREE) == ()


def test_open_orders_count_as_filled() -> None:
    working = (OpenOrder("x", "A", Side.BUY, Decimal(100)), OpenOrder("y", "B", Side.SELL, Decimal(40)))
    snapshot = account(20_000, {"B": 100}, {"A": 100, "B": 100}, working)
    orders = plan_orders("b", {"A": 100 * 100 / 30_000, "B": 60 * 100 / 30_000}, snapshot, PLAIN, FREE)
    assert orders == ()
    # What is to be sold: the 60 that no open order sells, though the open buy of A may never fill.
    assert sizes(plan_orders("b", {"A": 0.0, "B": 0.0}, snapshot, PLAIN, FREE)) == [("sell", "B", 60)]


def test_open_purchases_have_first_call_on_the_cash() -> None:
    working = (OpenOrder("x", "A", Side.BUY, Decimal(90)),)
    snapshot = account(10_000, {}, {"A": 100, "B": 10}, working)
    assert sizes(plan_orders("b", {"A": 0.9, "B": 0.5}, snapshot, PLAIN, FREE)) == [("buy", "B", 100)]


def test_open_purchases_pay_for_their_conversion_too() -> None:
    working = (OpenOrder("x", "A", Side.BUY, Decimal(500)),)
    snapshot = account(100_000, {}, {"A": 100, "B": 100}, working)
    costs = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0, fx_spread_bps=100)
    targets = {"A": 0.5, "B": 0.5}
    orders = plan_orders("b", targets, snapshot, PLAIN, costs, foreign=["A"])
    assert sizes(orders) == [("buy", "B", 495)]
    assert rounding(targets, orders, snapshot, costs, foreign=["A"]).cash == 0.0
    assert sizes(plan_orders("b", targets, snapshot, PLAIN, costs)) == [("buy", "B", 500)]


def test_fractions_of_a_share_where_they_are_allowed() -> None:
    config = PortfolioConfig(trade_min_fraction=0, cash_buffer=0, fractional=True)
    snapshot = account(1000, {"B": "1.23456789"}, {"A": 300, "B": 1})
    orders = plan_orders("b", {"A": 0.5}, snapshot, config, FREE)
    assert sizes(orders) == [("sell", "B", Decimal("1.23456789")), ("buy", "A", Decimal("1.668724"))]


def test_a_price_that_is_missing_is_named() -> None:
    with pytest.raises(MissingDataError, match="no price of B"):
        plan_orders("b", {"A": 0.5, "B": 0.1}, account(1000, {}, {"A": 1}), PLAIN, FREE)


money = st.decimals("0", "1000000", places=2)
shares = st.integers(0, 5000)
price = st.decimals("0.5", "900", places=3)
weights = st.lists(st.floats(0, 0.5), min_size=5, max_size=5)
models = st.builds(
    CostModel,
    commission_bps=st.floats(0, 50),
    commission_min=st.sampled_from([0.0, 1.0, 9.9]),
    half_spread_bps=st.floats(0, 50),
    slippage_bps=st.floats(0, 50),
)


@settings(max_examples=300, deadline=None)
@given(
    cash=money,
    held=st.lists(shares, min_size=5, max_size=5),
    prices=st.lists(price, min_size=5, max_size=5),
    targets=weights,
    costs=models,
    fractional=st.booleans(),
    buffer=st.sampled_from([0.0, 0.01, 0.1]),
)
def test_purchases_never_spend_what_is_not_there(
    cash: Decimal,
    held: list[int],
    prices: list[Decimal],
    targets: list[float],
    costs: CostModel,
    fractional: bool,
    buffer: float,
) -> None:
    snapshot = account(
        cash, {n: h for n, h in zip(NAMES, held, strict=True) if h}, dict(zip(NAMES, prices, strict=True))
    )
    config = PortfolioConfig(trade_min_fraction=0.001, cash_buffer=buffer, fractional=fractional)
    orders = plan_orders("b", dict(zip(NAMES, targets, strict=True)), snapshot, config, costs)
    left, value = snapshot.cash, Decimal(0)
    for order in orders:
        if order.side is Side.BUY:
            left -= outlay(order.quantity, order.reference_price, costs)
        else:
            left += proceeds(order.quantity, order.reference_price, costs)
            assert order.quantity <= snapshot.positions[order.instrument]
        value += order.signed_quantity * order.reference_price
    bought = [order for order in orders if order.side is Side.BUY]
    if bought:
        assert left >= Decimal(str(buffer)) * snapshot.equity
    # Money is conserved: what left the cash is in shares or was paid in costs.
    paid = snapshot.cash - left - value
    assert paid >= 0
    if costs.linear_rate == 0 and costs.commission_min == 0:
        assert paid == 0
    sides = [order.side for order in orders]
    assert sides == sorted(sides, key=lambda side: side is Side.BUY)
    for order in orders:
        target = Decimal(repr(dict(zip(NAMES, targets, strict=True))[order.instrument])) * snapshot.equity
        now = snapshot.positions.get(order.instrument, Decimal(0)) * order.reference_price
        after = now + order.signed_quantity * order.reference_price
        # Towards the target, never beyond it (but for rounding at a billionth of a lot).
        assert min(now, target) - Decimal("1e-5") <= after <= max(now, target) + Decimal("1e-5")


@settings(max_examples=100, deadline=None)
@given(
    held=st.lists(shares, min_size=5, max_size=5), prices=st.lists(price, min_size=5, max_size=5), cash=money,
    noise=st.lists(st.floats(-0.99, 0.99), min_size=5, max_size=5),
)  # fmt: skip
def test_no_orders_when_targets_are_what_is_held_within_the_band(
    held: list[int], prices: list[Decimal], cash: Decimal, noise: list[float]
) -> None:
    snapshot = account(
        cash + 1, {n: h for n, h in zip(NAMES, held, strict=True) if h}, dict(zip(NAMES, prices, strict=True))
    )
    config = PortfolioConfig(trade_min_fraction=0.002, constraints=Constraints(long_only=True))
    targets = {
        name: max(float(h * p / snapshot.equity) + 0.002 * shift, 1e-9)
        for name, h, p, shift in zip(NAMES, held, prices, noise, strict=True)
    }
    assert plan_orders("b", targets, snapshot, config, CostModel()) == ()


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.integers(-3000, 3000), min_size=5, max_size=5),
    prices=st.lists(price, min_size=5, max_size=5),
    gaps=st.lists(st.floats(0.7, 1.4), min_size=5, max_size=5),
    cash=st.decimals("-1000", "500000", places=2),
    costs=models,
)
def test_after_a_gap_all_buys_give_way_in_proportion(
    changes: list[int], prices: list[Decimal], gaps: list[float], cash: Decimal, costs: CostModel
) -> None:
    wanted = {name: Decimal(change) for name, change in zip(NAMES, changes, strict=True) if change}
    gapped = {n: (p * Decimal(repr(g))).quantize(Decimal("0.001")) for n, p, g in zip(NAMES, prices, gaps, strict=True)}
    result = affordable(wanted, gapped, cash, costs, Decimal(1))
    flows = (proceeds(-c, gapped[n], costs) if c < 0 else -outlay(c, gapped[n], costs) for n, c in result.items())
    left = sum(flows, cash)
    assert left >= 0 or not any(c > 0 for c in result.values())
    assert {n: c for n, c in result.items() if c < 0} == {n: c for n, c in wanted.items() if c < 0}
    parts = [(result.get(n, Decimal(0)), c) for n, c in wanted.items() if c > 0]
    if any(kept != asked for kept, asked in parts):
        part = max((kept / asked for kept, asked in parts), default=Decimal(0))
        assert all(kept >= part * asked - 1 for kept, asked in parts)


def test_the_rounding_tells_what_lots_the_band_and_cash_leave_undone() -> None:
    snapshot = account(9_000, {"A": 10}, {"A": 100, "B": 333})
    targets = {"A": 0.1, "B": 0.5}
    orders = plan_orders("b", targets, snapshot, PLAIN, FREE)
    assert sizes(orders) == [("buy", "B", 15)]
    lost = rounding(targets, orders, snapshot, FREE, lambda weights: -((weights["B"] - 0.5) ** 2))
    assert lost.instrument == "B"
    assert lost.distance == lost.largest == pytest.approx(0.5 - 15 * 333 / 10_000)
    assert lost.cash == pytest.approx((9_000 - 15 * 333) / 10_000)
    assert lost.objective_gap == pytest.approx((0.5 - 0.4995) ** 2)
    assert rounding(targets, orders, snapshot, FREE).objective_gap is None


@settings(max_examples=50, deadline=None)
@given(
    shares=st.lists(st.integers(0, 200), min_size=5, max_size=5),
    wanted=st.lists(st.floats(0, 0.19), min_size=5, max_size=5),
)
def test_with_cash_to_spare_the_rounding_is_within_one_lot_of_each_target(
    shares: list[int], wanted: list[float]
) -> None:
    prices = dict(zip(NAMES, (7, 31, 100, 250, 3), strict=True))
    snapshot = account(20_000, dict(zip(NAMES, shares, strict=True)), prices)
    targets = dict(zip(NAMES, wanted, strict=True))
    orders = plan_orders("b", targets, snapshot, PLAIN, FREE)
    lost = rounding(targets, orders, snapshot, FREE)
    assert lost.distance <= sum(prices.values()) / float(snapshot.equity) + 1e-9
    assert lost.cash >= -1e-12
    weights = planned_weights(orders, snapshot)
    assert lost.cash == pytest.approx(1 - sum(weights.values()), abs=1e-9)
