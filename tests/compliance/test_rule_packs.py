"""Rule packs: jurisdiction, broker and dates of every rule, and each market, margin and tax rule by example."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_compliance_gate import CONTEXT, DOCUMENT, NOW, OPEN, broken, order, policy, run, snapshot

from octopus.compliance.checks import ComplianceContext, RecentIntent
from octopus.compliance.market_checks import price_test_restricts
from octopus.compliance.rules import HOUSES_OWN, KINDS, CompliancePolicy
from octopus.compliance.wash_sales import Trade, adjust
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import Bracket, OpenOrder, OrderType, Outcome, Side, reducing_orders

D = Decimal
DAY = CONTEXT.trade_session
MARGIN = {"margin": True}


def outcome(rule: str, report) -> set[Outcome]:  # type: ignore[no-untyped-def]
    return {verdict.outcome for verdict in report.verdicts if verdict.rule == rule}


def in_force(kind: str, **changes: object) -> CompliancePolicy:
    """The default policy with one rule enforced (a wash sale warned of) wherever the account is."""
    mode = "warn" if kind == "wash_sale" else "enforce"
    account = {"margin": kind in ("initial_margin", "pattern_day_trader"), "jurisdictions": ["US", "EU"]}
    dates = {} if kind == "pattern_day_trader" else {"effective_from": "1990-01-01", "effective_to": None}
    return policy(kind, account, **({"mode": mode} | dates | changes))


@pytest.mark.parametrize("kind", sorted(KINDS - {"pattern_day_trader", "intraday_margin"}))
def test_every_rule_holds_from_its_first_day_to_its_last_and_nowhere_else(kind: str) -> None:
    dates = {"effective_from": str(DAY), "effective_to": str(DAY)}
    orders = (order("AAA", "buy", 1),)
    assert Outcome.OFF not in outcome(kind, run(*orders, rules=in_force(kind, **dates)))
    for shift in (-1, 1):
        other = str(DAY + timedelta(days=shift))
        report = run(*orders, rules=in_force(kind, effective_from=other, effective_to=other))
        assert outcome(kind, report) == {Outcome.OFF}
    assert outcome(kind, run(*orders, rules=in_force(kind, brokers=["alpaca", "schwab"]))) == {Outcome.OFF}
    assert Outcome.OFF not in outcome(kind, run(*orders, rules=in_force(kind, brokers=["paper"])))


def test_a_rule_of_another_jurisdiction_is_off_and_says_so() -> None:
    report = run(order("AAA", "buy", 1))
    (verdict,) = [verdict for verdict in report.verdicts if verdict.rule == "order_value"]
    assert (verdict.outcome, verdict.reason.split(": ", 1)[1]) == (
        Outcome.OFF, "a rule of the EU, which does not bind this account",
    )  # fmt: skip


@pytest.mark.parametrize("states", [["US"], ["EU"], ["US", "EU"]])
def test_the_houses_own_controls_hold_wherever_the_account_is(states: list[str]) -> None:
    document = deepcopy(DOCUMENT)
    document["account"]["jurisdictions"] = states
    entry = {"symbol": "AAA", "effective_from": "2022-01-01", "effective_to": None, "reason": "ours"}
    for rule in document["rules"]:
        if rule["kind"] in ("restricted_list", "watch_list"):
            rule["parameters"]["entries"] = [entry]
        if rule["kind"] == "trading_halt":
            rule["mode"] = "enforce"
    rules = CompliancePolicy.model_validate(document)
    late = replace(CONTEXT, halted=frozenset({"AAA"}), session_close=OPEN)
    orders = order("AAA", "sell", 1000), order("BBB", "buy", 5000), order("BBB", "sell", 10)
    report = run(*orders, context=late, rules=rules)
    own = {one.kind for one in rules.rules if isinstance(one, HOUSES_OWN)}
    assert not {v.rule for v in report.verdicts if v.outcome is Outcome.OFF} & own
    denied = {"restricted_list", "session_window", "self_cross", "short_sale", "position_limit_fraction"}
    denied.add("trading_halt")
    assert denied <= {v.rule for v in report.denials}
    assert not report.approved


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_a_rule_needs_is_written_out_in_the_policy(kind: str) -> None:
    (rule,) = [rule for rule in DOCUMENT["rules"] if rule["kind"] == kind]
    wrong = [] if rule["needs"] else ["halts"]
    with pytest.raises(ValueError, match=f"rule {rule['id']} needs .*: write exactly that into needs"):
        policy(kind, needs=wrong)


MISSING = {
    "short_sale_price_test": "whether the price test restricts AAA is missing",
    "trading_halt": "which instruments are halted is missing",
    "pattern_day_trader": "the day trades of the last sessions are missing",
    "wash_sale": "the tax lots are missing",
    "ownership_threshold": "the shares outstanding are missing",
    "message_rate": "the recent order intents are missing",
    "initial_margin": "the broker's price of CCC is missing",
    "intraday_margin": "the broker's price of CCC is missing",
    "order_volume": "the price basis is missing",
}


@pytest.mark.parametrize("kind", sorted(MISSING))
def test_missing_data_is_no_pass_and_is_named(kind: str) -> None:
    context = replace(CONTEXT, short_allowed=True, recent_intents=None, lots=None)
    context = replace(context, price_basis=None) if kind == "order_volume" else context
    account = snapshot({"CCC": 1}) if "margin" in kind else snapshot()
    rules = in_force(kind) if kind != "intraday_margin" else new_form()
    report = run(order("AAA", "sell", 1), account=account, context=context, rules=rules)
    found = [v for v in report.verdicts if v.rule == kind and v.outcome in (Outcome.DENY, Outcome.WARN)]
    assert found
    assert MISSING[kind] in found[0].reason


def test_the_brokers_duty_is_left_to_it_where_we_cannot_see_and_warned_of_where_we_can() -> None:
    report = run(order("AAA", "buy", 1))
    (verdict,) = [verdict for verdict in report.verdicts if verdict.rule == "trading_halt"]
    assert verdict.outcome is Outcome.OFF
    assert "left to the broker, whose duty it is" in verdict.reason
    report = run(order("AAA", "buy", 1), context=replace(CONTEXT, halted=frozenset({"AAA"})))
    assert report.approved == ("AAA-buy-0",)
    assert broken(report, Outcome.WARN) == {"AAA-buy-0": ["trading_halt"]}


# Market rules -------------------------------------------------------------------------------------------------------


def short_context(**changes: object) -> ComplianceContext:
    return replace(CONTEXT, short_allowed=True, locates={"AAA": D(100)}, **changes)  # type: ignore[arg-type]


def test_the_price_test_stops_short_sales_alone() -> None:
    restricted = short_context(price_tests={"AAA": True})
    account = snapshot({"AAA": 10})
    assert broken(run(order("AAA", "sell", 11), account=account, context=restricted)) == {
        "AAA-sell-0": ["short_sale_price_test"]
    }
    limited = replace(order("AAA", "sell", 11), order_type=OrderType.LIMIT, price=D(21))
    for sold, how in ((order("AAA", "sell", 11), "at the market"), (limited, "with a limit of 21")):
        (denied,) = run(sold, account=account, context=restricted).denials
        assert f"short sale of AAA {how}, and the price test restricts it: only above the best bid" in denied.reason
    assert run(order("AAA", "sell", 10), account=account, context=restricted).approved
    assert run(order("AAA", "buy", 10), account=account, context=restricted).approved
    assert run(order("AAA", "sell", 11), account=account, context=short_context(price_tests={"AAA": False})).approved
    report = run(order("AAA", "sell", 11), account=account, context=short_context(price_tests={"BBB": False}))
    assert "whether the price test restricts AAA is missing" in report.denials[0].reason


def test_a_fall_of_ten_per_cent_restricts_the_next_session() -> None:
    closes = np.array([100.0, 95.0, 96.0, 97.0])
    assert price_test_restricts(closes, np.array([99.0, 90.0, 95.0, 96.0])).tolist() == [False, False, True, False]
    assert not price_test_restricts(closes, np.array([99.0, 90.01, 95.0, 96.0])).any()
    assert not price_test_restricts(closes, np.full(4, np.nan)).any()


@given(st.integers(1, 50_000), st.sampled_from([1, 100, 10_000]))
@example(107, 100)  # 10.70, whose tenth below is 9.63
def test_a_fall_of_exactly_ten_per_cent_is_one_in_every_price(tenths: int, parts: int) -> None:
    """Closes of whole tenths of a dollar, a cent, ..., so that 90 % of each is a price; and one tick above that."""
    close, tick = D(10 * tenths) / parts, D(1) / parts
    fall = np.array([[float(close)] * 2, [0.0] * 2, [0.0] * 2]), np.array([[np.nan] * 2, [0.0] * 2, [np.nan] * 2])
    fall[1][1] = [float(close - close / 10), float(close - close / 10 + tick)]
    assert price_test_restricts(*fall)[2].tolist() == [True, False]


def test_a_halted_name_waits() -> None:
    rules, context = in_force("trading_halt"), replace(CONTEXT, halted=frozenset({"AAA"}))
    report = run(order("AAA", "buy", 1), order("BBB", "buy", 1), context=context, rules=rules)
    assert broken(report) == {"AAA-buy-0": ["trading_halt"]}


def test_value_and_volume_of_an_order_at_their_limits() -> None:
    value, volume = (
        in_force("order_value", parameters={"max_value": 1000}),
        in_force("order_volume", parameters={"max_shares": 10}),
    )
    assert run(order("AAA", "buy", 10), rules=value).approved
    assert broken(run(order("AAA", "buy", "10.01"), rules=value)) == {"AAA-buy-0": ["order_value"]}
    assert run(order("AAA", "buy", 10), rules=volume).approved
    assert broken(run(order("AAA", "buy", 11), rules=volume)) == {"AAA-buy-0": ["order_volume"]}


def test_the_message_rate_counts_what_was_approved_within_the_window() -> None:
    rules = in_force("message_rate", parameters={"max_messages": 3, "window_minutes": 10})

    def sent(minutes: float, name: str) -> RecentIntent:
        return RecentIntent(name, "CCC", Side.BUY, D(7), NOW - timedelta(minutes=minutes))

    batch = (order("AAA", "buy"), order("BBB", "buy"))
    context = replace(CONTEXT, recent_intents=(sent(9, "x"), sent(10, "y"), sent(1, "AAA-buy-0")))
    assert len(run(*batch, context=context, rules=rules).approved) == 2
    context = replace(CONTEXT, recent_intents=(sent(9, "x"), sent(9.99, "y")))
    report = run(*batch, context=context, rules=rules)
    assert report.approved == ("AAA-buy-0",)
    assert "4 orders within 10 minutes, limit 3; room for 1" in report.denials[0].reason
    full = replace(CONTEXT, recent_intents=(sent(9, "x"), sent(9.99, "y"), sent(5, "z")))
    report = run(*batch, context=full, rules=rules)
    assert report.approved == ()
    assert "5 orders within 10 minutes, limit 3" in report.denials[0].reason
    ago = [NOW - timedelta(minutes=minutes) for minutes in (1, 9.99, 10)]
    context = replace(CONTEXT, other_messages=ago)
    assert run(*batch, context=replace(context, other_messages=ago[1:]), rules=rules).approved
    report = run(*batch, context=context, rules=rules)
    assert report.approved == ("AAA-buy-0",)
    assert "2 orders and 2 other messages (cancellations, repeated sends, exits" in report.denials[0].reason


@settings(max_examples=60, deadline=None)
@given(
    sells=st.lists(st.booleans(), max_size=7),
    held=st.sampled_from([0, 10, 30]),
    sent=st.integers(0, 6),
    most=st.integers(1, 8),
)
def test_the_message_rate_drops_reductions_last_and_no_more_than_it_must(
    sells: list[bool], held: int, sent: int, most: int
) -> None:
    """Every order has its size, so that none is a duplicate; those for AAA are of one side, so that none crosses."""
    rules = in_force("message_rate", parameters={"max_messages": most, "window_minutes": 10})
    orders = [
        order("BBB", "sell", number + 1, number=number) if sold else order("CCC", "buy", number + 1, number=number)
        for number, sold in enumerate(sells)
    ]
    recent = tuple(RecentIntent(f"r{n}", "AAA", Side.BUY, D(99), NOW - timedelta(minutes=1)) for n in range(sent))
    account = snapshot({"BBB": held})
    report = run(*orders, account=account, context=replace(CONTEXT, recent_intents=recent), rules=rules)
    refused = {v.intent_id for v in report.denials if v.rule == "message_rate"}
    passed = [one.intent_id not in refused for one in orders]
    room = max(most - sent, 0)
    assert sum(passed) == min(room, len(orders))
    reducing = reducing_orders(orders, account)
    late = [passes for one, passes in zip(orders, passed, strict=True) if one.intent_id in reducing]
    rest = [passes for one, passes in zip(orders, passed, strict=True) if one.intent_id not in reducing]
    assert all(late) or not any(rest)
    assert late == sorted(late, reverse=True)
    assert rest == sorted(rest, reverse=True)


def test_the_ownership_threshold_counts_what_is_held_and_open() -> None:
    rules = in_force("ownership_threshold")
    context = replace(CONTEXT, shares_outstanding={"AAA": D(1000)})
    account = snapshot({"AAA": 30}, (OpenOrder("w", "AAA", Side.BUY, D(10)),))
    assert run(order("AAA", "buy", 10), account=account, context=context, rules=rules).approved
    report = run(order("AAA", "buy", 11), account=account, context=context, rules=rules)
    assert broken(report) == {"AAA-buy-0": ["ownership_threshold"]}
    report = run(order("BBB", "buy", 1), context=context, rules=rules)
    assert "shares outstanding of BBB are missing" in report.denials[0].reason


@settings(max_examples=12)
@given(percent=st.integers(1, 99), shares=st.integers(1, 5_000), tick=st.sampled_from([D("0.01"), D("0.0001"), D(7)]))
def test_a_position_of_exactly_its_limit_is_within_it(percent: int, shares: int, tick: Decimal) -> None:
    """In decimals as people write them: of equity, and of all shares that there are."""
    price, step = 3 * tick, D("1e-8")
    account = snapshot(cash=0)
    account = replace(account, cash=price * shares * 100, prices={"AAA": price})
    quantity = D(shares * percent)
    of_equity = in_force("position_limit_fraction", parameters={"max_fraction_of_equity": percent / 100})
    of_issue = in_force("ownership_threshold", parameters={"max_fraction_outstanding": percent / 100})
    context = replace(CONTEXT, shares_outstanding={"AAA": D(100 * shares)})
    for rules, kind in ((of_equity, "position_limit_fraction"), (of_issue, "ownership_threshold")):
        document = rules.model_dump(mode="json")
        for rule in document["rules"]:
            if rule["kind"] not in (kind, "restricted_list"):
                rule["mode"] = "off"
        alone = CompliancePolicy.model_validate(document)
        good, bad = (order("AAA", "buy", size, price=price) for size in (quantity, quantity + step))
        assert run(good, account=account, context=context, rules=alone).approved
        assert broken(run(bad, account=account, context=context, rules=alone)) == {"AAA-buy-0": [kind]}


# Margin -------------------------------------------------------------------------------------------------------------


def wide(kind: str, account: Mapping[str, object], **changes: object) -> CompliancePolicy:
    """The policy with ``kind`` enforced and no limit on single positions."""
    document = policy(kind, account, **({"mode": "enforce"} | changes)).model_dump(mode="json")
    for rule in document["rules"]:
        if rule["kind"] == "position_limit_fraction":
            rule["parameters"]["max_fraction_of_equity"] = 10
    return CompliancePolicy.model_validate(document)


def new_form() -> CompliancePolicy:
    """Both day-trading rules dated as if the broker had changed before the tests' session."""
    document = policy("intraday_margin", MARGIN).model_dump(mode="json")
    for rule in document["rules"]:
        if rule["kind"] == "pattern_day_trader":
            rule["effective_to"] = "2022-12-01"
        if rule["kind"] == "intraday_margin":
            rule["effective_from"] = "2022-12-02"
        if rule["kind"] == "position_limit_fraction":
            rule["parameters"]["max_fraction_of_equity"] = 10
    return CompliancePolicy.model_validate(document)


NO_TRADES = {"day_trades": 0, "opened_today": {}}


def test_reg_t_takes_half_of_what_is_bought_in_a_margin_account() -> None:
    context, rules = replace(CONTEXT, **NO_TRADES), wide("initial_margin", MARGIN)  # type: ignore[arg-type]
    assert run(order("AAA", "buy", 2000), context=context, rules=rules).approved  # 200,000 on 100,000
    report = run(order("AAA", "buy", 2001), context=context, rules=rules)
    assert broken(report) == {"AAA-buy-0": ["initial_margin"]}
    assert (report.denials[0].value, report.denials[0].limit) == (100_050, 100_000)
    short = replace(context, short_allowed=True, locates={"AAA": D(9999)}, price_tests={"AAA": False})
    assert run(order("AAA", "sell", 2000), context=short, rules=rules).approved
    assert not run(order("AAA", "sell", 2001), context=short, rules=rules).approved


def test_an_order_that_only_reduces_passes_whatever_the_margin() -> None:
    context, rules = replace(CONTEXT, **NO_TRADES), wide("initial_margin", MARGIN)  # type: ignore[arg-type]
    deep = snapshot({"AAA": 5000}, cash=-400_000)
    assert run(order("AAA", "sell", 100), account=deep, context=context, rules=rules).approved
    assert not run(order("BBB", "buy", 1), account=deep, context=context, rules=rules).approved


def test_a_cash_account_pays_in_full() -> None:
    rules = wide("initial_margin", {})
    assert run(order("AAA", "buy", 1000), rules=rules).approved
    report = run(order("AAA", "buy", 1001), rules=rules)
    assert broken(report) == {"AAA-buy-0": ["initial_margin"]}
    account = snapshot({"BBB": 10})
    assert len(run(order("AAA", "buy", 1001), order("BBB", "sell", 2), account=account, rules=rules).approved) == 2


def test_a_cash_account_pays_for_what_works_too_and_an_unpriced_open_buy_is_no_gift() -> None:
    rules = wide("initial_margin", {})
    working = snapshot({}, (OpenOrder("w", "CCC", Side.BUY, D(50)),))
    report = run(order("AAA", "buy", 10), account=working, rules=rules)
    assert broken(report)["AAA-buy-0"] == ["initial_margin"]
    assert "the broker's price of CCC is missing" in report.denials[0].reason
    account = replace(working, prices={**working.prices, "CCC": D(20)})
    assert run(order("AAA", "buy", 990), account=account, rules=rules).approved  # 99,000 and 1,000 that work
    assert not run(order("AAA", "buy", 991), account=account, rules=rules).approved
    priced = run(order("CCC", "buy", 950, price=100), account=working, rules=rules)
    assert priced.approved, "the batch's own price of what works"
    assert not run(order("CCC", "buy", 951, price=100), account=working, rules=rules).approved


def test_the_old_form_counts_day_trades_below_25_000() -> None:
    rules = policy("pattern_day_trader", MARGIN)
    poor = snapshot({"AAA": 10}, cash=20_000)
    opened = {"AAA": D(10)}
    sell = order("AAA", "sell", 10)
    third = replace(CONTEXT, day_trades=2, opened_today=opened)
    fourth = replace(CONTEXT, day_trades=3, opened_today=opened)
    assert run(sell, account=poor, context=third, rules=rules).approved
    report = run(sell, account=poor, context=fourth, rules=rules)
    assert broken(report) == {"AAA-sell-0": ["pattern_day_trader"]}
    assert run(sell, account=snapshot({"AAA": 10}, cash=24_000), context=fourth, rules=rules).approved  # 25,000
    assert run(sell, account=poor, context=replace(fourth, opened_today={}), rules=rules).approved, "held overnight"
    assert run(sell, account=poor, context=fourth).approved, "a cash account"


@settings(max_examples=60, deadline=None)
@given(done=st.integers(0, 5), ahead=st.integers(0, 3), entries=st.lists(st.booleans(), max_size=6), rich=st.booleans())
def test_an_entry_whose_exits_may_close_it_within_the_session_is_a_possible_day_trade(
    done: int, ahead: int, entries: list[bool], rich: bool
) -> None:
    rules, both = policy("pattern_day_trader", MARGIN), Bracket(D(95), D(110))
    orders = [order(f"N{number}", "buy", 1) for number in range(len(entries))]
    orders = [replace(one, bracket=both) if exits else one for one, exits in zip(orders, entries, strict=True)]
    context = replace(CONTEXT, day_trades=done, opened_today={}, exits_ahead=ahead)
    report = run(*orders, account=snapshot(cash=25_000 if rich else 24_999), context=context, rules=rules)
    possible = done + ahead + np.cumsum(entries)
    over = {
        one.intent_id for one, exits, count in zip(orders, entries, possible, strict=True) if exits and count > 3
    }  # fmt: skip
    assert set(broken(report)) == (set() if rich else over)
    assert {v.value for v in report.verdicts if v.rule == "pattern_day_trader"} == {float(n) for n in possible}


def test_the_new_form_asks_for_maintenance_margin_and_counts_nothing() -> None:
    context = replace(CONTEXT, day_trades=99, opened_today={"AAA": D(10)})
    account = snapshot({"AAA": 10}, cash=9_000)  # equity 10,000: 40,000 at a quarter
    assert run(order("AAA", "sell", 10), account=account, context=context, rules=new_form()).approved
    assert run(order("AAA", "buy", 390), account=account, context=context, rules=new_form()).approved
    report = run(order("AAA", "buy", 391), account=account, context=context, rules=new_form())
    assert broken(report) == {"AAA-buy-0": ["intraday_margin"]}


def needed_short(shares: int, price: object, basis: str = "raw") -> float:
    """Maintenance margin that the gate reckons with for one short sale."""
    context = replace(
        CONTEXT,
        day_trades=0,
        opened_today={},
        short_allowed=True,
        locates={"ZZZ": D(10**9)},
        price_basis=basis,  # type: ignore[arg-type]
    )
    sale, rules = order("ZZZ", "sell", shares, price=price), new_form()
    report = run(sale, account=replace(snapshot(), prices={}), context=context, rules=rules)
    (verdict,) = [one for one in report.verdicts if one.rule == "intraday_margin"]
    assert (verdict.outcome is Outcome.DENY) is (verdict.value > verdict.limit)  # type: ignore[operator]
    assert verdict.value is not None
    return verdict.value


@pytest.mark.parametrize(
    ("price", "a_share"),
    [("0.50", "2.50"), ("2.49", "2.50"), ("3", "3"), ("4.99", "4.99"), ("5", "5"), ("10", "5"), ("20", "6")],
)
def test_a_short_in_cheap_shares_takes_so_much_a_share_at_least(price: str, a_share: str) -> None:
    """FINRA 4210(c)(2) and (3)."""
    assert needed_short(3000, D(price)) == 3000 * float(a_share)


def test_amounts_a_share_mean_nothing_on_a_total_return_basis() -> None:
    assert needed_short(1000, 3, "total_return") == pytest.approx(900)


@settings(max_examples=100, deadline=None)
@given(cents=st.integers(1, 5000), shares=st.integers(1, 10_000))
def test_a_short_never_takes_less_at_a_higher_price_nor_less_than_the_rule(cents: int, shares: int) -> None:
    price = D(cents) / 100
    fraction, least = (D(1), D("2.5")) if price < 5 else (D("0.3"), D(5))
    assert needed_short(shares, price) == float(max(fraction * price * shares, least * shares))
    assert needed_short(shares, price) <= needed_short(shares, price + D("0.01"))


def test_the_form_of_the_day_trading_rule_is_chosen_by_broker_and_date() -> None:
    document = deepcopy(DOCUMENT)
    document["account"] |= {"margin": True, "broker": "slow"}
    (old,) = [rule for rule in document["rules"] if rule["kind"] == "pattern_day_trader"]
    (new,) = [rule for rule in document["rules"] if rule["kind"] == "intraday_margin"]
    kept = old | {"id": "pattern_day_trader_slow", "brokers": ["slow"], "effective_to": "2027-10-20"}
    old["brokers"] = new["brokers"] = ["fast"]
    later = new | {"id": "intraday_margin_slow", "brokers": ["slow"], "effective_from": "2027-10-21"}
    document["rules"] += [kept, later]
    rules = CompliancePolicy.model_validate(document)

    def forms(broker: str, day: date) -> set[str]:
        chosen = rules.model_copy(update={"account": rules.account.model_copy(update={"broker": broker})})
        context = replace(CONTEXT, trade_session=day, day_trades=0, opened_today={})
        report = run(order("AAA", "buy", 1), context=context, rules=chosen)
        kinds = {"pattern_day_trader", "intraday_margin", "pattern_day_trader_slow", "intraday_margin_slow"}
        return {v.rule for v in report.verdicts if v.rule in kinds and v.outcome is not Outcome.OFF}

    assert forms("fast", date(2026, 6, 3)) == {"pattern_day_trader"}
    assert forms("fast", date(2026, 6, 4)) == {"intraday_margin"}
    assert forms("slow", date(2027, 10, 20)) == {"pattern_day_trader_slow"}
    assert forms("slow", date(2027, 10, 21)) == {"intraday_margin_slow"}
    later["effective_from"] = "2027-10-20"
    with pytest.raises(ValueError, match="pattern_day_trader_slow and intraday_margin_slow are in effect together"):
        CompliancePolicy.model_validate(document)


# Wash sales ---------------------------------------------------------------------------------------------------------


def lot(name: str, shares: object, cost: object, acquired: date, instrument: str = "AAA") -> Lot:
    return Lot(name, instrument, D(str(shares)), D(str(cost)), acquired, acquired)


def sold(name: str, shares: object, basis: object, proceeds: object, acquired: date, on: date) -> Disposal:
    return Disposal(
        f"fill-{name}", name, "AAA", D(str(shares)), D(str(proceeds)), D(str(basis)), acquired, acquired, on,
        on + timedelta(days=1),
    )  # fmt: skip


JAN, FEB = date(2024, 1, 10), date(2024, 2, 20)


@pytest.mark.parametrize(("days", "washed"), [(-31, 0), (-30, 500), (0, 500), (30, 500), (31, 0)])
def test_thirty_days_either_side(days: int, washed: int) -> None:
    sale = sold("old", 100, 5000, 4500, date(2023, 1, 3), FEB)
    result = adjust([sale], [lot("new", 100, 4600, FEB + timedelta(days=days))])
    assert result.disposals[0].disallowed == washed
    assert result.disposals[0].gain == washed - 500
    assert result.lots[0].basis == 4600 + washed


def test_only_as_many_shares_as_were_bought_back_and_each_of_them_once() -> None:
    first = sold("a", 100, 5000, 4000, date(2023, 1, 3), JAN)
    second = sold("b", 100, 5000, 4500, date(2023, 1, 4), JAN + timedelta(days=5))
    result = adjust([first, second], [lot("new", 150, 6000, JAN + timedelta(days=7))])
    # 100 shares replace the first sale's, 50 of the second's 100; the rest of its loss stands.
    assert [(sale.lot_id, sale.quantity, sale.disallowed) for sale in result.disposals] == [
        ("a", 100, 1000), ("b", 50, 250), ("b", 50, 0),
    ]  # fmt: skip
    assert [(item.quantity, item.cost, item.wash_sale) for item in result.lots] == [(100, 4000, 1000), (50, 2000, 250)]


def test_the_holding_period_of_the_sold_shares_is_added() -> None:
    sale = sold("old", 10, 500, 400, FEB - timedelta(days=300), FEB)
    (replacement,) = adjust([sale], [lot("new", 10, 400, FEB + timedelta(days=1))]).lots
    assert replacement.held_from == FEB + timedelta(days=1) - timedelta(days=300)


def test_a_gain_a_rest_of_the_same_lot_and_another_name_wash_nothing() -> None:
    gain = sold("old", 10, 400, 500, date(2023, 1, 3), FEB)
    loss = sold("part", 10, 500, 400, FEB - timedelta(days=3), FEB)
    rest = lot("part", 10, 500, FEB - timedelta(days=3))
    other = lot("other", 10, 500, FEB, "BBB")
    result = adjust([gain, loss], [rest, other])
    assert [sale.disallowed for sale in result.disposals] == [0, 0]
    assert result.lots == (rest, other)


def test_a_loss_that_moved_into_shares_sold_later_is_recognised_then() -> None:
    first = sold("a", 10, 500, 400, date(2023, 1, 3), JAN)
    later = sold("b", 10, 410, 450, JAN + timedelta(days=2), JAN + timedelta(days=90))
    result = adjust([first, later], [])
    assert [sale.gain for sale in result.disposals] == [0, -60]


def day_of(*trades: tuple[str, object, object, object, date, str]) -> list[Disposal]:
    """Sales of FEB in the order in which they were made: lot, shares, basis, proceeds, bought on, id of the fill."""
    return [replace(sold(*trade[:5], FEB), fill_id=trade[5]) for trade in trades]


@pytest.mark.parametrize("ids", [("1", "2"), ("2", "1")])
def test_what_was_bought_after_a_sale_and_sold_the_same_day_replaces_it(ids: tuple[str, str]) -> None:
    first, second = ids
    sales = day_of(("a", 10, 500, 400, date(2023, 1, 3), first), ("b", 10, 400, 350, FEB, second))
    after = FEB + timedelta(days=1)
    result = adjust(sales, [lot("c", 10, 350, after)])
    assert [(one.lot_id, one.basis, one.gain) for one in result.disposals] == [("a", 500, 0), ("b", 500, 0)]
    assert [one.basis for one in result.lots] == [500]
    # What was sold before is no replacement, whatever its id: shares of JAN, gone by the time of the loss.
    gone = day_of(("b", 10, 400, 410, FEB - timedelta(days=9), first), ("a", 10, 500, 400, JAN, second))
    assert [one.disallowed for one in adjust(gone, []).disposals] == [0, 0]


@pytest.mark.parametrize("ids", [("1", "2"), ("2", "1")])
def test_of_two_sales_of_a_day_the_first_one_made_is_matched_first(ids: tuple[str, str]) -> None:
    bought = date(2023, 1, 3), date(2023, 1, 4)
    sales = day_of(("a", 10, 500, 400, bought[0], ids[0]), ("b", 10, 900, 400, bought[1], ids[1]))
    result = adjust(sales, [lot("c", 10, 400, FEB + timedelta(days=1))])
    assert [(one.lot_id, one.disallowed) for one in result.disposals] == [("a", 100), ("b", 0)]


def test_what_one_order_sells_in_a_day_is_one_sale() -> None:
    """Two parts of one order, the second of shares that were bought nine days before: nothing is left to replace."""
    sales = day_of(("a", 10, 500, 400, date(2023, 1, 3), "1"), ("b", 10, 500, 400, FEB - timedelta(days=9), "2"))
    at = datetime(2024, 2, 20, 15, tzinfo=UTC)
    orders = {"1": Trade(at, "sell"), "2": Trade(at + timedelta(seconds=1), "sell")}
    assert [one.disallowed for one in adjust(sales, [], orders).disposals] == [0, 0]
    two = orders | {"2": Trade(at + timedelta(hours=1), "another")}
    assert [one.disallowed for one in adjust(sales, [], two).disposals] == [100, 0]


@pytest.mark.parametrize("order_of_lots", [1, -1])
def test_of_shares_bought_on_one_day_the_first_ones_replace_first(order_of_lots: int) -> None:
    sale, morning = sold("old", 10, 500, 400, date(2023, 1, 3), FEB), datetime(2024, 2, 21, 15, tzinfo=UTC)
    lots = [lot("early", 10, 400, FEB + timedelta(days=1)), lot("late", 10, 400, FEB + timedelta(days=1))]
    trades = {"early": Trade(morning, "1"), "late": Trade(morning + timedelta(hours=1), "2")}
    found = adjust([sale], lots[::order_of_lots], trades)
    assert {one.lot_id: one.wash_sale for one in found.lots} == {"early": 100, "late": 0}
    # The later ones may be sold first where a person says so; the earlier ones replace all the same.
    later = sold("late", 10, 400, 450, FEB + timedelta(days=1), FEB + timedelta(days=40))
    mixed = adjust([sale, later], lots[:1], trades)
    assert [one.wash_sale for one in mixed.lots] == [100]


def test_shares_of_one_company_are_the_same_under_all_its_names() -> None:
    sale = replace(sold("old", 10, 500, 400, date(2023, 1, 3), FEB), instrument="FB", renamed="META")
    bought, stranger = lot("new", 10, 400, FEB + timedelta(days=20), "META"), lot("fb", 10, 400, FEB, "FB")
    result = adjust([sale], [bought, stranger])
    assert [one.disallowed for one in result.disposals] == [100]
    assert [(one.lot_id, one.wash_sale) for one in result.lots] == [("new", 100), ("fb", 0)]
    # Replacements that were sold themselves meanwhile, before another change and after it.
    later = replace(sold("new", 10, 400, 450, FEB + timedelta(days=5), FEB + timedelta(days=9)), instrument="META")
    assert adjust([sale, later], []).disposals[0].disallowed == 100
    moved = replace(sale, renamed="MVRS"), replace(later, renamed="MVRS")
    assert adjust(moved, []).disposals[0].disallowed == 100


@pytest.mark.parametrize(("ratio", "bought", "washed"), [("1", 50, 50), ("2", 50, 25), ("2", 200, 100), ("0.1", 5, 50)])
def test_shares_are_matched_in_the_units_of_today(ratio: str, bought: int, washed: int) -> None:
    """A hundred shares were sold at a loss of a dollar each, and split before they were bought back."""
    sale = replace(sold("old", 100, 5000, 4900, date(2023, 1, 3), FEB), ratio=D(ratio))
    result = adjust([sale], [lot("new", bought, 40 * bought, FEB + timedelta(days=9))])
    assert sum(one.quantity for one in result.disposals if one.disallowed) == washed
    assert sum(one.disallowed for one in result.disposals) == sum(one.wash_sale for one in result.lots) == washed
    assert sum(one.quantity for one in result.disposals) == 100
    assert sum(one.quantity for one in result.lots) == bought


dates = st.integers(0, 120).map(lambda days: date(2024, 1, 1) + timedelta(days=days))
amounts = st.integers(1, 9).map(lambda n: D(n * 100))


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Disposal], list[Lot]]:
    lots = [
        Lot(f"lot-{number}", "AAA", draw(st.integers(1, 20).map(D)), draw(amounts), day, day)
        for number, day in enumerate(draw(st.lists(dates, max_size=5)))
    ]
    sales = [
        replace(
            sold(f"sale-{number}", draw(st.integers(1, 20)), draw(amounts), draw(amounts), day, day),
            disposed=day + timedelta(days=draw(st.integers(0, 60))),
            ratio=draw(st.sampled_from([D(1), D(1), D(2), D("0.5")])),
        )
        for number, day in enumerate(draw(st.lists(dates, max_size=5)))
    ]
    return sales, lots


@settings(max_examples=150, deadline=None)
@given(books())
def test_no_loss_appears_or_vanishes_and_no_share_does(book: tuple[list[Disposal], list[Lot]]) -> None:
    sales, lots = book
    result = adjust(sales, lots)
    before = sum(sale.gain for sale in sales) - sum(item.basis for item in lots)
    after = sum(sale.gain for sale in result.disposals) - sum(item.basis for item in result.lots)
    assert abs(before - after) < D("1e-15")
    assert sum(sale.quantity for sale in result.disposals) == sum(sale.quantity for sale in sales)
    assert sum(item.quantity for item in result.lots) == sum(item.quantity for item in lots)
    for sale in result.disposals:
        assert D(0) <= sale.disallowed <= max(D(0), -sale.economic_gain) + D("1e-15")
        assert not sale.disallowed or sale.gain == 0, "nothing is left of a loss that is deferred"
    turned = adjust([replace(sale, fill_id=str(99 - place)) for place, sale in enumerate(sales)], lots)
    assert [replace(one, fill_id="") for one in turned.disposals] == [
        replace(one, fill_id="") for one in result.disposals
    ], "the names of fills are no order"
    assert turned.lots == result.lots


def test_a_wash_sale_warns_and_never_denies() -> None:
    rules = in_force("wash_sale")
    loss = sold("old", 10, 1500, 1000, date(2022, 6, 1), DAY - timedelta(days=30))
    context = replace(CONTEXT, lots=(), disposals=(loss,))
    report = run(order("AAA", "buy", 1), order("BBB", "buy", 1), context=context, rules=rules)
    assert len(report.approved) == 2
    assert broken(report, Outcome.WARN) == {"AAA-buy-0": ["wash_sale"]}
    deferred = replace(context, disposals=(replace(loss, disallowed=D(500)),))
    report = run(order("AAA", "buy", 1), context=deferred, rules=rules)
    assert broken(report, Outcome.WARN) == {}
    assert any("earlier purchases of AAA took all losses" in verdict.reason for verdict in report.verdicts)
    earlier = replace(context, disposals=(replace(loss, disposed=DAY - timedelta(days=31)),))
    assert broken(run(order("AAA", "buy", 1), context=earlier, rules=rules), Outcome.WARN) == {}
    renamed = replace(context, disposals=(replace(loss, instrument="FB", renamed="AAA"),))
    report = run(order("AAA", "buy", 1), order("FB", "buy", 1), context=renamed, rules=rules)
    assert broken(report, Outcome.WARN) == {"AAA-buy-0": ["wash_sale"]}
    dear, fresh = lot("dear", 10, 2000, date(2022, 6, 1)), lot("fresh", 10, 900, DAY - timedelta(days=30))
    selling = replace(CONTEXT, lots=(dear, fresh), disposals=())
    account = snapshot({"AAA": 20})
    report = run(order("AAA", "sell", 10), account=account, context=selling, rules=rules)
    assert broken(report, Outcome.WARN) == {"AAA-sell-0": ["wash_sale"]}
    taken = replace(selling, lots=(dear, replace(fresh, wash_sale=D(50))))
    assert broken(run(order("AAA", "sell", 10), account=account, context=taken, rules=rules), Outcome.WARN) == {}
    alone = replace(selling, lots=(dear,))
    assert broken(run(order("AAA", "sell", 10), account=account, context=alone, rules=rules), Outcome.WARN) == {}
    with pytest.raises(ValueError, match="its loss is deferred: set mode to warn"):
        policy("wash_sale", mode="enforce")
