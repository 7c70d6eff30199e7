"""The pre-trade risk gate: single verdicts by example, and what must hold for every account and batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import reporting
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    GateReport,
    OpenOrder,
    OrderType,
    Outcome,
    PlannedOrder,
    Side,
    TradingState,
    Verdict,
)
from octopus.risk.gate import RULES, judge
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus.risk.pictures import limit_usage, risk_picture
from octopus.risk.signatures import Authority

NOW = datetime(2022, 12, 28, 15, 0, tzinfo=UTC)
SIGNED = Authority(live=True, problem=None, signers=("ada", "grace"))
SESSION = date(2022, 12, 27)
NAMES = ("AAA", "BBB", "CCC", "DDD")
PRICES = {"AAA": Decimal(100), "BBB": Decimal(50), "CCC": Decimal("12.5"), "DDD": Decimal(200)}
BASE = RiskLimits.model_validate(
    yaml.safe_load((Path(__file__).parents[2] / "config" / "risk.yaml").read_text(encoding="utf-8"))
)
# Wide open, so that a test narrows the one limit it is about.
OPEN = BASE.model_copy(
    update={
        "long_only": False,
        "gross_max": 5.0,
        "net_min": -5.0,
        "net_max": 5.0,
        "name_weight_max": 1.0,
        "turnover_max": 5.0,
        "turnover_max_initial": 5.0,
        "partial_fill_allowance": 0.0,
        "order_notional_max_usd": Decimal(10**9),
        "order_notional_max_fraction": 1.0,
        "volatility_max_annual": 9.0,
        "var_95_max": 1.0,
        "cash_min_fraction": -1.0,
        "leverage_max": 10.0,
        "position_notional_max_usd": Decimal(10**9),
        "sector_weight_max": 10.0,
        "capital_threshold_usd": Decimal(10**9),
        "equity_min_usd": Decimal(0),
        "cvar_95_max": 1.0,
    }
)


OF_ORDERS = {
    "order_terms", "stale_data", "price_collar", "order_notional_usd", "order_notional_fraction", "repeated_execution",
    "sector_known", "return_history",
}  # fmt: skip
"""Rules that have nothing to say of a batch without orders."""


def history(sessions: int = 600, scale: float = 0.01, last: date = SESSION) -> ReturnHistory:
    days = np.datetime64(last, "D") - np.arange(sessions)[::-1]
    returns = np.random.default_rng(7).normal(0, scale, (sessions, len(NAMES)))
    return ReturnHistory(sessions=days, symbols=NAMES, returns=returns)


HISTORY = history()


def market(**changes: object) -> MarketContext:
    context = MarketContext(
        last_prices={name: LastPrice(price, NOW - timedelta(hours=18)) for name, price in PRICES.items()},
        history=HISTORY,
        price_basis="total_return",
        nav_peak=Decimal(100_000),
        nav_previous=Decimal(100_000),
        sectors={"AAA": "technology", "BBB": "technology", "CCC": "energy", "DDD": "utilities"},
        sent=(),
    )
    return replace(context, **changes)


def snapshot(
    cash: int | Decimal = 100_000,
    positions: Mapping[str, int] | None = None,
    open_orders: tuple[OpenOrder, ...] = (),
    **changes: object,
) -> AccountSnapshot:
    shares = {name: Decimal(number) for name, number in (positions or {}).items() if number}
    taken = AccountSnapshot("main", NOW - timedelta(seconds=60), Decimal(cash), shares, PRICES, open_orders)
    return replace(taken, **changes)


def order(instrument: str, side: str, quantity: object, price: object = None, number: int = 0) -> PlannedOrder:
    reference = PRICES[instrument] if price is None else Decimal(str(price))
    return PlannedOrder(f"{instrument}-{side}-{number}", instrument, Side(side), Decimal(str(quantity)), reference)


def batch(*orders: PlannedOrder) -> Batch:
    return Batch("b1", "main", SESSION, NOW - timedelta(hours=1), NOW + timedelta(hours=6), orders)


def run(
    *orders: PlannedOrder,
    account: AccountSnapshot | None = None,
    context: MarketContext | None = None,
    limits: RiskLimits = OPEN,
    state: TradingState | None = TradingState.ACTIVE,
    authority: Authority = SIGNED,
) -> GateReport:
    return judge(batch(*orders), account or snapshot(), context or market(), limits, state, authority, NOW)


def denied(report: GateReport, intent: str) -> list[Verdict]:
    return [verdict for verdict in report.denials if verdict.intent_id == intent]


def on_batch(report: GateReport, rule: str) -> Verdict:
    (verdict,) = [v for v in report.verdicts if v.rule == rule and v.intent_id is None]
    return verdict


def limited(**changes: object) -> RiskLimits:
    return OPEN.model_copy(update=changes)


# By example ----------------------------------------------------------------------------------------------------------


def test_the_configured_limits_let_a_funded_account_be_invested() -> None:
    orders = [order(name, "buy", Decimal(14_000) / PRICES[name]) for name in NAMES]
    report = run(*orders, limits=BASE)
    assert report.approved == tuple(o.intent_id for o in orders)
    assert on_batch(report, "turnover").limit == BASE.turnover_max_initial


def test_the_configured_limits_let_an_invested_account_rebalance() -> None:
    wide = BASE.model_copy(update={"name_weight_max": 0.5, "order_notional_max_fraction": 0.5})
    account = snapshot(0, {"AAA": 400, "BBB": 400, "CCC": 1600, "DDD": 100})  # 40 %, 20 %, 20 %, 20 %
    report = run(order("AAA", "sell", 170), order("BBB", "buy", 340), account=account, limits=wide)
    assert len(report.approved) == 2
    assert on_batch(report, "turnover").value == pytest.approx(0.34)
    assert on_batch(report, "cash_part_filled").value == pytest.approx(-0.17)


def test_every_rule_speaks_in_every_report_and_in_order() -> None:
    for report in (run(), run(order("AAA", "buy", 1)), run(order("AAA", "buy", 1), limits=BASE)):
        rules = [v.rule for v in report.verdicts]
        assert set(rules) >= set(RULES) - OF_ORDERS
        assert rules == sorted(rules, key=RULES.index)


def test_halted_denies_all_and_reducing_lets_a_sale_of_what_is_held_through() -> None:
    account = snapshot(50_000, {"AAA": 100})
    orders = (order("AAA", "sell", 100), order("BBB", "buy", 1), order("CCC", "sell", 1), order("DDD", "buy", 1))
    assert run(*orders, account=account, state=TradingState.HALTED).approved == ()
    assert run(*orders, account=account, state=None).approved == ()
    report = run(*orders, account=account, state=TradingState.REDUCING)
    assert report.approved == ("AAA-sell-0",)
    assert "does not reduce the 0 held of BBB" in denied(report, "BBB-buy-0")[0].reason


def test_reducing_counts_open_and_earlier_sells_against_the_position() -> None:
    working = (OpenOrder("w", "AAA", Side.SELL, Decimal(60)), OpenOrder("v", "AAA", Side.BUY, Decimal(500)))
    account = snapshot(50_000, {"AAA": 100}, working)
    first, second = order("AAA", "sell", 40), order("AAA", "sell", 1, number=1)
    assert run(first, second, account=account, state=TradingState.REDUCING).approved == (first.intent_id,)


def test_a_cover_of_a_short_reduces() -> None:
    account = snapshot(150_000, {"AAA": -100})
    cover, flip = order("AAA", "buy", 100), order("AAA", "buy", 101, number=1)
    assert run(cover, account=account, state=TradingState.REDUCING).approved == (cover.intent_id,)
    assert run(flip, account=account, state=TradingState.REDUCING).approved == ()


def test_an_old_or_future_or_foreign_snapshot_denies_all() -> None:
    buy = order("AAA", "buy", 1)
    for account, words in (
        (snapshot(taken_at=NOW - timedelta(seconds=1801)), "1801 s old"),
        (snapshot(taken_at=NOW + timedelta(seconds=1)), "check the clock"),
        (snapshot(account="other"), "the snapshot of other"),
    ):
        report = run(buy, account=account)
        assert report.approved == ()
        assert any(words in v.reason for v in denied(report, buy.intent_id))
    assert run(buy, account=snapshot(taken_at=NOW - timedelta(seconds=1800))).approved


def test_order_notional_takes_the_dearer_price() -> None:
    at_limit, above = order("AAA", "buy", 100, price=98), order("BBB", "buy", 200, price=51)
    report = run(at_limit, above, limits=limited(order_notional_max_usd=Decimal(10_000)))
    assert report.approved == (at_limit.intent_id,)
    report = run(at_limit, above, limits=limited(order_notional_max_fraction=0.1))
    assert [v.rule for v in denied(report, above.intent_id)] == ["order_notional_fraction"]


def test_price_collar_is_inclusive_and_two_sided() -> None:
    prices = {"AAA": 110, "BBB": 45, "CCC": "13.76", "DDD": 179}
    report = run(*(order(name, "buy", 1, price=price) for name, price in prices.items()))
    assert report.approved == ("AAA-buy-0", "BBB-buy-0")
    assert "10.08% from the last price 12.5" in denied(report, "CCC-buy-0")[0].reason


@pytest.mark.parametrize(("side", "near", "far"), [("buy", "90", "89.99"), ("sell", "110", "110.01")])
def test_price_collar_judges_an_orders_own_price_too(side: str, near: str, far: str) -> None:
    held = snapshot(positions={"AAA": 10})
    plain = order("AAA", side, 1)
    for limit, passes in ((near, True), (far, False)):
        limited_order = replace(plain, order_type=OrderType.LIMIT, price=Decimal(limit))
        assert bool(run(limited_order, account=held).approved) is passes
    assert "limit price" in denied(run(limited_order, account=held), plain.intent_id)[0].reason
    assert not run(replace(plain, order_type=OrderType.LIMIT, price=Decimal(0)), account=held).approved


def test_a_limited_sale_is_worth_its_limit() -> None:
    held, limits = snapshot(positions={"AAA": 100}), limited(order_notional_max_usd=Decimal(10_000))
    sale = order("AAA", "sell", 100)
    assert run(sale, account=held, limits=limits).approved
    dearer = replace(sale, order_type=OrderType.LIMIT, price=Decimal("100.01"))
    assert dearer.notional == Decimal(10_001)
    assert [v.rule for v in denied(run(dearer, account=held, limits=limits), sale.intent_id)] == ["order_notional_usd"]


def test_volume_is_off_on_total_return_and_judged_on_raw_prices() -> None:
    buy = order("AAA", "buy", 51)
    assert on_batch(run(buy), "adv_participation").outcome is Outcome.OFF
    raw = {"price_basis": "raw"}
    assert run(buy, context=market(**raw, adv_shares={"AAA": Decimal(1020)})).approved
    assert not run(buy, context=market(**raw, adv_shares={"AAA": Decimal(1019)})).approved
    assert "average daily volume of AAA is missing" in run(buy, context=market(**raw)).denials[0].reason


def test_name_weight_counts_what_is_held_and_working() -> None:
    working = OpenOrder("w", "AAA", Side.BUY, Decimal(100))
    account = snapshot(90_000, {"AAA": 100}, (working,))  # 10 % held, 10 % working
    narrow = limited(name_weight_max=0.3)
    assert run(order("AAA", "buy", 100), account=account, limits=narrow).approved
    report = run(order("AAA", "buy", 101), order("BBB", "buy", 1), account=account, limits=narrow)
    assert report.approved == ("BBB-buy-0",)
    assert "weight of AAA would be 30.10%" in denied(report, "AAA-buy-0")[0].reason


def test_gross_leaves_out_the_smallest_order_that_cures_the_breach() -> None:
    orders = (order("AAA", "buy", 500), order("BBB", "buy", 400), order("DDD", "buy", 60))  # 50 %, 20 %, 12 %
    report = run(*orders, limits=limited(gross_max=0.65))
    assert report.approved == ("AAA-buy-0", "DDD-buy-0")
    (verdict,) = denied(report, "BBB-buy-0")
    assert (verdict.rule, verdict.value, verdict.limit) == ("gross", 0.82, 0.65)
    assert "moves it by +20.00%" in verdict.reason
    assert on_batch(report, "gross").outcome is Outcome.WARN
    assert on_batch(report, "gross").value == pytest.approx(0.62)


def test_a_denied_sell_takes_the_buy_it_was_to_pay_for_with_it() -> None:
    account = snapshot(0, {"AAA": 1000})
    sell, buy = order("AAA", "sell", 200, price=150), order("BBB", "buy", 400)
    narrow = limited(cash_min_fraction=0.0, partial_fill_allowance=0.2)
    assert len(run(order("AAA", "sell", 200), buy, account=account, limits=narrow).approved) == 2
    report = run(sell, buy, account=account, limits=narrow)
    assert report.approved == ()
    assert [v.rule for v in denied(report, sell.intent_id)] == ["price_collar"]
    assert [v.rule for v in denied(report, buy.intent_id)] == ["cash"]


def test_without_allowance_buys_need_cash_before_the_sells_fill() -> None:
    account = snapshot(0, {"AAA": 1000})
    orders = (order("AAA", "sell", 100), order("BBB", "buy", 200))
    report = run(*orders, account=account, limits=limited(cash_min_fraction=0.0))
    assert report.approved == ("AAA-sell-0",)
    assert denied(report, "BBB-buy-0")[0].rule == "cash_part_filled"


def test_an_account_in_breach_may_reduce_it_and_not_add_to_it() -> None:
    account = snapshot(-50_000, {"AAA": 1500})
    narrow = limited(gross_max=1.0, cash_min_fraction=0.0)
    report = run(order("AAA", "sell", 200), order("BBB", "buy", 100), account=account, limits=narrow)
    assert report.approved == ("AAA-sell-0",)
    assert on_batch(report, "gross").outcome is Outcome.WARN
    assert on_batch(report, "gross").value == pytest.approx(1.3)
    assert "beyond the limit before the batch" in on_batch(report, "gross").reason


def test_turnover_leaves_reductions_for_last() -> None:
    account = snapshot(50_000, {"AAA": 500})
    report = run(
        order("AAA", "sell", 100), order("BBB", "buy", 200), account=account, limits=limited(turnover_max=0.12)
    )
    assert report.approved == ("AAA-sell-0",)


def test_open_orders_count_for_turnover() -> None:
    account = snapshot(50_000, {"AAA": 500}, (OpenOrder("w", "BBB", Side.BUY, Decimal(200)),))
    assert run(order("CCC", "buy", 160), account=account, limits=limited(turnover_max=0.12)).approved
    report = run(order("CCC", "buy", 162), account=account, limits=limited(turnover_max=0.12))
    assert denied(report, "CCC-buy-0")[0].value == pytest.approx(0.12025)


def test_loss_limits_leave_out_what_adds_the_loss() -> None:
    returns = HISTORY.returns.copy()
    returns[:, 0] *= 8
    context = market(history=replace(HISTORY, returns=returns))
    orders = (order("AAA", "buy", 300), order("BBB", "buy", 600))
    report = run(*orders, context=context, limits=limited(var_95_max=0.02))
    assert report.approved == ("BBB-buy-0",)
    assert denied(report, "AAA-buy-0")[0].rule == "var_95"
    report = run(*orders, context=context, limits=limited(volatility_max_annual=0.15))
    assert report.approved == ("BBB-buy-0",)


def test_what_is_left_is_judged_again_by_the_rules_before() -> None:
    returns = HISTORY.returns.copy()
    returns[:, 0] *= 8
    context = market(history=replace(HISTORY, returns=returns))
    orders = (order("AAA", "sell", 200), order("BBB", "buy", 400))  # neutral: short 20 %, long 20 %
    neutral = limited(net_max=0.1, partial_fill_allowance=0.2)
    assert len(run(*orders, context=context, limits=neutral).approved) == 2
    report = run(*orders, context=context, limits=neutral.model_copy(update={"var_95_max": 0.01}))
    assert denied(report, "AAA-sell-0")[0].rule == "var_95"
    assert denied(report, "BBB-buy-0")[0].rule == "net_max"


def test_a_hedge_passes_though_the_account_is_beyond_its_var() -> None:
    account = snapshot(0, {"AAA": 1000})
    returns = HISTORY.returns.copy()
    returns[:, 1] = -returns[:, 0]
    context = market(history=replace(HISTORY, returns=returns))
    report = run(order("BBB", "buy", 200), account=account, context=context, limits=limited(var_95_max=0.001))
    assert report.approved == ("BBB-buy-0",)
    assert on_batch(report, "var_95").outcome is Outcome.WARN


@pytest.mark.parametrize(("field", "rule"), [("nav_peak", "drawdown_stop"), ("nav_previous", "loss_per_day")])
def test_a_loss_beyond_its_stop_lets_only_reductions_pass(field: str, rule: str) -> None:
    limit = {"drawdown_stop": OPEN.drawdown_stop, "loss_per_day": OPEN.loss_per_day_max}[rule]
    cash = Decimal(200_000) * (1 - Decimal(str(limit))) - 50_000
    orders, context = (order("AAA", "sell", 10), order("BBB", "buy", 1)), market(**{field: Decimal(200_000)})
    assert len(run(*orders, account=snapshot(cash, {"AAA": 500}), context=context).approved) == 2
    report = run(*orders, account=snapshot(cash - 1, {"AAA": 500}), context=context)
    assert report.approved == ("AAA-sell-0",)
    assert denied(report, "BBB-buy-0")[0].rule == rule


def test_orders_that_are_no_orders_are_refused() -> None:
    for quantity, price in (("0", 100), ("-5", 100), ("NaN", 100), ("Infinity", 100), ("5", 0), ("5", "NaN")):
        report = run(order("AAA", "buy", quantity, price=price), order("BBB", "buy", 1))
        assert report.approved == ("BBB-buy-0",)
        assert [v.rule for v in report.denials] == ["order_terms"]


def test_one_intent_id_cannot_stand_for_two_orders() -> None:
    report = run(order("AAA", "buy", 1), order("AAA", "buy", 2), order("BBB", "buy", 1))
    assert report.approved == ("BBB-buy-0",)


# Missing data --------------------------------------------------------------------------------------------------------

HELD = snapshot(50_000, {"AAA": 500})
ALL = (order("AAA", "sell", 10), order("BBB", "buy", 10), order("CCC", "buy", 10))


def without(name: str) -> dict[str, LastPrice]:
    return {key: price for key, price in market().last_prices.items() if key != name}


def punched(column: int, row: int = -1) -> ReturnHistory:
    returns = HISTORY.returns.copy()
    returns[row, column] = np.nan
    return replace(HISTORY, returns=returns)


@pytest.mark.parametrize(
    ("context", "words", "approved"),
    [
        (market(nav_peak=None), "the NAV peak of account main is missing", 0),
        (market(nav_previous=None), "yesterday's NAV of account main is missing", 0),
        (market(price_basis=None), "the price basis is missing", 0),
        (market(history=None), "the return history is missing", 1),
        (market(history=history(499)), "has 499 sessions, var_window_sessions = 500", 1),
        (market(history=history(last=date(2022, 12, 26))), "ends at 2022-12-26, before the decision session", 1),
        (market(history=punched(0)), "1 of the last 500 returns of AAA are missing", 1),
        (market(history=punched(1)), "1 of the last 500 returns of BBB are missing", 2),
        (market(last_prices=without("BBB")), "the last price of BBB is missing", 2),
        (market(last_prices=without("BBB") | {"BBB": LastPrice(Decimal("NaN"), NOW)}), "not a positive number", 2),
        (
            market(last_prices=without("BBB") | {"BBB": LastPrice(Decimal(50), NOW + timedelta(seconds=1))}),
            "after now: check the clock",
            2,
        ),
        (
            market(last_prices=without("BBB") | {"BBB": LastPrice(Decimal(50), NOW - timedelta(days=6))}),
            "518400 s old",
            2,
        ),
    ],
)
def test_missing_data_denies_and_is_named(context: MarketContext, words: str, approved: int) -> None:
    report = run(*ALL, account=HELD, context=context)
    assert len(report.approved) == approved
    assert any(words in verdict.reason for verdict in report.denials)


def test_a_hole_outside_the_window_or_the_account_does_not_matter() -> None:
    assert len(run(*ALL, account=HELD, context=market(history=punched(0, row=0))).approved) == 3
    assert len(run(*ALL, account=HELD, context=market(history=punched(3))).approved) == 3


def test_a_held_name_without_last_price_is_marked_by_the_broker_or_denies_all() -> None:
    context = market(last_prices=without("AAA"))
    assert len(run(*ALL, account=HELD, context=context).approved) == 2  # AAA's own order has no price to be judged at
    report = run(*ALL, account=replace(HELD, prices={}), context=context)
    assert report.approved == ()
    assert "the broker does not mark it either" in on_batch(report, "equity").reason


def test_no_equity_denies_all() -> None:
    for cash in (Decimal(-50_000), Decimal("NaN")):
        assert run(*ALL, account=replace(HELD, cash=cash)).approved == ()


# For every account and batch -----------------------------------------------------------------------------------------

shares = st.integers(-300, 600)
quantities = st.decimals(Decimal("0.5"), 900, places=1)
planned = st.builds(order, st.sampled_from(NAMES), st.sampled_from(["buy", "sell"]), quantities)
batches = st.lists(planned, max_size=6, unique_by=lambda o: o.intent_id)
working_orders = st.lists(
    st.builds(OpenOrder, st.just("w"), st.sampled_from(NAMES), st.sampled_from(Side), quantities), max_size=2
)
accounts = st.builds(
    snapshot,
    st.integers(20_000, 150_000),
    st.dictionaries(st.sampled_from(NAMES), shares, max_size=4),
    working_orders.map(tuple),
).filter(lambda a: a.equity > 1000)
limit_sets = st.builds(
    limited,
    gross_max=st.sampled_from([0.5, 1.0, 1.5]),
    net_min=st.sampled_from([-0.3, 0.0]),
    net_max=st.sampled_from([0.5, 1.0]),
    name_weight_max=st.sampled_from([0.15, 0.4, 1.0]),
    turnover_max=st.sampled_from([0.2, 0.6]),
    turnover_max_initial=st.sampled_from([0.6, 1.0]),
    partial_fill_allowance=st.sampled_from([0.0, 0.0, 0.2]),
    cash_min_fraction=st.sampled_from([0.0, 0.1]),
    leverage_max=st.sampled_from([1.0, 1.2]),
    sector_weight_max=st.sampled_from([0.3, 1.0]),
)
FILLS = st.lists(st.sampled_from([Decimal(0), Decimal("0.3"), Decimal(1)]), min_size=8, max_size=8)


def exposures(account: AccountSnapshot, traded: list[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """Independent of the gate: fractions of equity after ``traded`` (instrument, signed shares)."""
    held = {name: account.positions.get(name, Decimal(0)) for name in NAMES}
    cash = account.cash
    for name, signed in traded:
        held[name] += signed
        cash -= signed * PRICES[name]
    values = {name: held[name] * PRICES[name] / account.equity for name in NAMES}
    return {
        "gross": sum(map(abs, values.values()), Decimal(0)),
        "net": sum(values.values(), Decimal(0)),
        "cash": cash / account.equity,
        "name": max(map(abs, values.values())),
        "leverage": sum((max(v, Decimal(0)) for v in values.values()), max(cash, Decimal(0)) / account.equity),
        "sector": max(abs(values["AAA"]) + abs(values["BBB"]), abs(values["CCC"]), abs(values["DDD"])),
    }


def breaches(measured: dict[str, Decimal], limits: RiskLimits, slack: float = 0.0) -> dict[str, Decimal]:
    """How far each figure is beyond its limit, where it is."""
    ends = {key: Decimal(str(getattr(limits, key))) for key in ("gross_max", "net_max", "net_min", "cash_min_fraction")}
    room = Decimal(str(slack)) + Decimal("1e-20")  # the quotients above are rounded at the 28th digit
    beyond = {
        "gross": measured["gross"] - ends["gross_max"] - room,
        "net_max": measured["net"] - ends["net_max"] - room,
        "net_min": ends["net_min"] - measured["net"] - room,
        "cash": ends["cash_min_fraction"] - measured["cash"] - room,
        "name": measured["name"] - Decimal(str(limits.name_weight_max)) - Decimal("1e-20"),
        "leverage": measured["leverage"] - Decimal(str(limits.leverage_max)) - room,
        "sector": measured["sector"] - Decimal(str(limits.sector_weight_max)) - room,
    }
    return {name: amount for name, amount in beyond.items() if amount > 0}


@settings(max_examples=250, deadline=None)
@given(account=accounts, orders=batches, limits=limit_sets, fills=FILLS)
def test_whatever_fills_no_limit_is_passed_that_was_not_passed_before(
    account: AccountSnapshot, orders: list[PlannedOrder], limits: RiskLimits, fills: list[Decimal]
) -> None:
    # Within the loss stops: beyond them net_min binds none of the reductions that still pass.
    context = market(nav_peak=account.equity, nav_previous=account.equity)
    report = run(*orders, account=account, limits=limits, context=context)
    approved = [o for o in orders if o.intent_id in report.approved]
    mine = [(o.instrument, o.signed_quantity) for o in approved]
    working = [(o.instrument, o.side.sign * o.remaining) for o in account.open_orders]

    parts = {
        "all": mine + working,
        "buys": [t for t in mine + working if t[1] > 0],
        "sells": [t for t in mine + working if t[1] < 0],
        "any": [(name, signed * fill) for (name, signed), fill in zip(working + mine, fills, strict=False)],
    }
    for part, traded in parts.items():
        allowed = 0.0 if part == "all" else limits.partial_fill_allowance
        found = breaches(exposures(account, traded), limits, allowed)
        # Before the batch the open orders may themselves fill in the worst way.
        worst = [list(some) for size in range(len(working) + 1) for some in combinations(working, size)]
        for name, amount in found.items():
            openings = [working] if part == "all" and name != "name" else worst
            opening = [breaches(exposures(account, o), limits, allowed).get(name, Decimal(-1)) for o in openings]
            assert amount <= max(opening) + Decimal("1e-20"), (part, name, amount, opening)


@settings(max_examples=150, deadline=None)
@given(account=accounts, orders=batches, limits=limit_sets)
def test_turnover_is_never_passed_by_an_approved_order(
    account: AccountSnapshot, orders: list[PlannedOrder], limits: RiskLimits
) -> None:
    # Within the loss stops: beyond them the limit binds none of the reductions that still pass.
    context = market(nav_peak=account.equity, nav_previous=account.equity)
    report = run(*orders, account=account, limits=limits, context=context)
    approved = [o for o in orders if o.intent_id in report.approved]
    working = sum((o.remaining * PRICES[o.instrument] for o in account.open_orders), Decimal(0))
    traded = sum((o.quantity * PRICES[o.instrument] for o in approved), Decimal(0))
    limit = limits.turnover_max if account.positions else limits.turnover_max_initial
    assert not approved or traded + working <= Decimal(str(limit)) * account.equity


@settings(max_examples=100, deadline=None)
@given(account=accounts, orders=batches, limits=limit_sets, state=st.sampled_from([None, *TradingState]))
def test_the_kill_switch_holds_and_reports_agree_with_themselves(
    account: AccountSnapshot, orders: list[PlannedOrder], limits: RiskLimits, state: TradingState | None
) -> None:
    report = run(*orders, account=account, limits=limits, state=state)
    refused = {v.intent_id for v in report.denials}
    assert set(report.approved) == {o.intent_id for o in orders} - refused
    assert list(report.approved) == [o.intent_id for o in orders if o.intent_id in report.approved]
    assert not (None in refused and report.approved)
    assert report == run(*orders, account=account, limits=limits, state=state)
    if state in (None, TradingState.HALTED):
        assert report.approved == ()
    if state is TradingState.REDUCING:
        for name in NAMES:
            held = account.positions.get(name, Decimal(0))
            moves = [o.signed_quantity for o in orders if o.intent_id in report.approved and o.instrument == name]
            assert all(move * held < 0 for move in moves)
            assert abs(sum(moves)) <= abs(held)


@settings(max_examples=60, deadline=None)
@given(
    orders=batches.filter(bool),
    hole=st.sampled_from(["nav_peak", "nav_previous", "history", "price_basis", "last_prices"]),
)
def test_missing_data_never_passes(orders: list[PlannedOrder], hole: str) -> None:
    context = market(**{hole: {} if hole == "last_prices" else None})
    report = run(*orders, context=context)
    assert report.approved == ()
    assert all(any("missing" in v.reason for v in denied(report, o.intent_id)) for o in orders)


@settings(max_examples=60, deadline=None)
@given(account=accounts, orders=batches, level=st.sampled_from([0.002, 0.005, 0.01]))
def test_no_approved_set_has_more_var_than_its_limit_or_the_account_had(
    account: AccountSnapshot, orders: list[PlannedOrder], level: float
) -> None:
    report = run(*orders, account=account, limits=limited(var_95_max=level))
    value, opening = on_batch(report, "var_95").value, on_batch(run(account=account), "var_95").value
    assert value is not None
    assert opening is not None
    assert value <= max(level, opening)


# Limits and the picture ----------------------------------------------------------------------------------------------


def test_limits_refuse_a_missing_key_an_unknown_key_and_a_crossed_range() -> None:
    good = BASE.model_dump()
    for name in good:
        with pytest.raises(ValueError, match=name):
            RiskLimits.model_validate({key: value for key, value in good.items() if key != name})
    with pytest.raises(ValueError, match="leverage"):
        RiskLimits.model_validate(good | {"leverage": 2})
    with pytest.raises(ValueError, match="swap them"):
        RiskLimits.model_validate(good | {"net_min": 0.5, "net_max": 0.1})


def test_usage_is_a_hundred_percent_exactly_at_a_limit() -> None:
    account = snapshot(0, {"AAA": 1000})
    report = run(account=account, limits=limited(gross_max=1.0, cash_min_fraction=0.0))
    used = {usage.rule: usage.percent for usage in limit_usage(report)}
    assert used["gross"] == pytest.approx(100)
    assert used["cash"] == pytest.approx(100)
    assert used["turnover"] == 0


def test_the_picture_is_a_png_with_or_without_orders() -> None:
    for report in (run(*ALL, account=HELD, limits=BASE), run(), GateReport("risk", ())):
        assert risk_picture(report).startswith(b"\x89PNG")


def test_a_denial_is_shown_with_its_order_rule_value_limit_and_what_the_order_adds() -> None:
    orders = (order("AAA", "buy", 300), order("BBB", "buy", 400))
    report = run(*orders, limits=limited(gross_max=0.4))
    shown = reporting.denials(report, batch(*orders)).value or ""
    (row,) = [line for line in shown.splitlines() if "| gross" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["buy 400 BBB", "gross", "0.5000", "0.4000", "0.2000"]
    assert cells[5] == report.denials[0].reason
