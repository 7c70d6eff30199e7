"""A limit that is met exactly, in decimals as people write them, is met: no rounding of binary fractions decides."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from test_risk_gate import NOW, denied, limited, market, order, run, snapshot

from octopus.core.orders import AccountSnapshot, PlannedOrder
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


@settings(max_examples=12)
@given(percent=percents, held=sizes)
def test_beta_to_one_of_the_names(percent: int, held: int) -> None:
    """What is measured in floats, too: the whole in the benchmark itself has the weight for its beta."""
    equity = D(held) * 100
    good, bad = (order("AAA", "buy", D(held * percent) / 100 + more) for more in (0, D(held) / 10**6))
    context = market(nav_peak=equity, nav_previous=equity)
    for benchmark, beta in ({"AAA": 1.0}, percent / 100), ({"AAA": 0.5}, percent / 50):
        require_edge(good, bad, "beta_max", limited(beta_max=beta, benchmark=benchmark), context, snapshot(equity))
