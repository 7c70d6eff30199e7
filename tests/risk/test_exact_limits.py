"""A limit that is met exactly, in decimals as people write them, is met: no rounding of binary fractions decides."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from test_risk_gate import NOW, PRICES, denied, limited, market, order, run, snapshot

from octopus.core.orders import AccountSnapshot, OrderType, PlannedOrder, Side
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext

D = Decimal
percents = st.integers(1, 60)
"""Limits from 1 % to 60 %."""
cents = st.sampled_from([D("0.01"), D("0.0001"), D("0.05"), D(1)])
sizes = st.integers(1, 5_000)


def priced(price: Decimal, **changes: object) -> MarketContext:
    return market(last_prices=market().last_prices | {"AAA": LastPrice(price, NOW)}, **changes)


def require_edge(
    good: PlannedOrder,
    bad: PlannedOrder,
    rule: str,
    limits: RiskLimits,
    context: MarketContext,
    account: AccountSnapshot,
) -> None:
    """``good`` meets the limit exactly, ``bad`` is the least step beyond it."""
    report = run(good, account=account, context=context, limits=limits)
    assert report.approved == (good.intent_id,), [found.reason for found in report.denials]
    report = run(bad, account=account, context=context, limits=limits)
    assert {found.rule for found in denied(report, bad.intent_id)} == {rule}


@settings(max_examples=12)
@given(percent=percents, tick=cents, ticks=sizes, up=st.booleans())
def test_the_price_collar(percent: int, tick: Decimal, ticks: int, up: bool) -> None:
    last, sign = 100 * ticks * tick, 1 if up else -1
    edge = last + sign * percent * ticks * tick
    good, bad = (order("AAA", "buy", 1, price=price) for price in (edge, edge + sign * tick))
    # From the last price where the broker has none, from the broker's where it is the farther one.
    for broker, ours in (({}, last), ({"AAA": last}, edge)):
        rich = snapshot(D(10) ** 12, prices=broker)
        context = priced(ours, nav_peak=rich.equity, nav_previous=rich.equity)
        require_edge(good, bad, "price_collar", limited(price_collar=percent / 100), context, rich)


@settings(max_examples=12)
@given(percent=percents, tick=cents, shares=sizes)
def test_an_order_and_a_position_as_a_fraction_of_equity(percent: int, tick: Decimal, shares: int) -> None:
    price = 7 * tick
    equity = price * shares * 100 / percent
    if equity != equity.quantize(D("1e-8")):
        equity, shares = price * shares * 100, shares * percent
    account = snapshot(equity, prices={})
    context = priced(price, nav_peak=equity, nav_previous=equity)
    good, bad = (order("AAA", "buy", quantity, price=price) for quantity in (shares, shares + D("1e-8")))
    for field, rule in (("order_notional_max_fraction", "order_notional_fraction"), ("name_weight_max", "name_weight")):
        require_edge(good, bad, rule, limited(**{field: percent / 100}), context, account)


@settings(max_examples=12)
@given(percent=percents, volume=sizes)
def test_participation_in_the_average_volume(percent: int, volume: int) -> None:
    rich = snapshot(D(10) ** 12)
    context = market(price_basis="raw", adv_shares={"AAA": D(volume)}, nav_peak=rich.equity, nav_previous=rich.equity)
    exact = D(volume) * percent / 100
    good, bad = (order("AAA", "buy", quantity) for quantity in (exact, exact + D("1e-8")))
    require_edge(good, bad, "adv_participation", limited(adv_participation_max=percent / 100), context, rich)


@settings(max_examples=12)
@given(percent=percents, cash=sizes)
def test_losses_of_a_day_and_from_the_peak(percent: int, cash: int) -> None:
    before = D(cash) * 100
    account = snapshot(before - D(cash) * percent)
    buy = order("CCC", "buy", "0.001")
    for field, rule, reference in (
        ("loss_per_day_max", "loss_per_day", "nav_previous"), ("drawdown_stop", "drawdown_stop", "nav_peak")
    ):  # fmt: skip
        limits = limited(**{field: percent / 100})
        context = replace(market(nav_previous=account.equity, nav_peak=account.equity), **{reference: before})
        assert run(buy, account=account, context=context, limits=limits).approved
        beyond = replace(account, cash=account.cash - D("0.01"))
        report = run(buy, account=beyond, context=context, limits=limits)
        assert {found.rule for found in denied(report, buy.intent_id)} == {rule}


@settings(max_examples=20)
@given(percent=percents, tick=cents, shares=sizes, dearer=st.integers(1, 10), kind=st.sampled_from(["limit", "stop"]))
def test_a_purchase_above_the_last_price_weighs_what_it_may_cost(
    percent: int, tick: Decimal, shares: int, dearer: int, kind: str
) -> None:
    last, price = 100 * tick, (100 + dearer) * tick
    equity = price * shares * 100
    account, context = snapshot(equity, prices={}), priced(last, nav_peak=equity, nav_previous=equity)
    typed = {"order_type": OrderType(kind), "price": price}
    exact = D(shares) * percent
    good, bad = (replace(order("AAA", "buy", size, price=last), **typed) for size in (exact, exact + D("1e-8")))
    ceilings = ("gross_max", "net_max", "name_weight_max", "sector_weight_max", "turnover_max_initial")
    for field in ceilings:
        limits = limited(price_collar=0.1, **{field: percent / 100})
        report = run(good, account=account, context=context, limits=limits)
        assert report.approved == (good.intent_id,), [found.reason for found in report.denials]
        assert not run(bad, account=account, context=context, limits=limits).approved, field
    for field in ("position_notional_max_usd", "capital_threshold_usd"):
        limits = limited(price_collar=0.1, **{field: price * exact})
        assert run(good, account=account, context=context, limits=limits).approved
        assert not run(bad, account=account, context=context, limits=limits).approved, field
    limits = limited(price_collar=0.1, cash_min_fraction=(100 - percent) / 100)
    require_edge(good, bad, "cash", limits, context, account)
    assert run(replace(good, price=last), account=account, context=context, limits=limits).approved


@st.composite
def priced_batches(draw: st.DrawFn) -> list[PlannedOrder]:
    rows = st.tuples(
        st.sampled_from(["AAA", "BBB", "CCC"]), st.sampled_from(["buy", "sell"]), st.integers(1, 300),
        st.sampled_from([None, "0.93", "1.00", "1.07"]),
    )  # fmt: skip
    orders = []
    for number, (name, side, size, part) in enumerate(draw(st.lists(rows, max_size=6))):
        one = order(name, side, size, number=number)
        typed = {} if part is None else {"order_type": OrderType.LIMIT, "price": PRICES[name] * D(part)}
        orders.append(replace(one, **typed))
    return orders


@settings(max_examples=80, deadline=None)
@given(
    orders=priced_batches(),
    held=st.dictionaries(st.sampled_from(["AAA", "BBB", "CCC"]), st.integers(-300, 300), max_size=3),
    gross=st.sampled_from([0.3, 0.8]),
    cash=st.sampled_from([0.0, 0.5]),
    turnover=st.sampled_from([0.2, 0.6]),
)
def test_no_approved_set_costs_or_weighs_more_than_its_limits_at_its_own_prices(
    orders: list[PlannedOrder], held: dict[str, int], gross: float, cash: float, turnover: float
) -> None:
    """Told in plain sums, without the gate: buys at the dearer of their own and the last price."""
    account = snapshot(60_000, held)
    limits = limited(
        gross_max=gross, cash_min_fraction=cash, turnover_max=turnover, turnover_max_initial=turnover,
        partial_fill_allowance=0.1, price_collar=0.1,
    )  # fmt: skip
    # Within the loss stops: beyond them turnover binds no reduction.
    context = market(nav_peak=account.equity, nav_previous=account.equity)
    report = run(*orders, account=account, context=context, limits=limits)
    approved = [one for one in orders if one.intent_id in report.approved]

    def cost(one: PlannedOrder) -> Decimal:
        own = one.price if one.price is not None and one.side is Side.BUY else D(0)
        return one.quantity * max(own, PRICES[one.instrument])

    left = account.cash - sum((one.side.sign * cost(one) for one in approved), D(0))
    assert left >= min(D(str(cash)) * account.equity, account.cash)
    assert not approved or sum(map(cost, approved), D(0)) <= D(str(turnover)) * account.equity
    worth = {name: PRICES[name] * shares for name, shares in account.positions.items()}
    before = sum(map(abs, worth.values()), D(0))
    for one in approved:
        worth[one.instrument] = worth.get(one.instrument, D(0)) + one.side.sign * cost(one)
    assert sum(map(abs, worth.values()), D(0)) <= max(D(str(gross)) * account.equity, before)


@settings(max_examples=12)
@given(percent=percents, held=sizes)
def test_beta_to_one_of_the_names(percent: int, held: int) -> None:
    """What is measured in floats, too: the whole in the benchmark itself has the weight for its beta."""
    equity = D(held) * 100
    good, bad = (order("AAA", "buy", D(held * percent) / 100 + more) for more in (0, D(held) / 10**6))
    context = market(nav_peak=equity, nav_previous=equity)
    for benchmark, beta in ({"AAA": 1.0}, percent / 100), ({"AAA": 0.5}, percent / 50):
        require_edge(good, bad, "beta_max", limited(beta_max=beta, benchmark=benchmark), context, snapshot(equity))
