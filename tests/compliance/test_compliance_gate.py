"""The pre-trade compliance gate: each rule by example, and what must hold for every batch."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.compliance.checks import ComplianceContext, RecentIntent
from octopus.compliance.gate import judge
from octopus.compliance.names import OtherName
from octopus.compliance.rules import KINDS, CompliancePolicy
from octopus.core.orders import AccountSnapshot, Batch, GateReport, OpenOrder, Outcome, PlannedOrder, Side

OPEN = datetime(2022, 12, 28, 14, 30, tzinfo=UTC)
CLOSE = datetime(2022, 12, 28, 21, 0, tzinfo=UTC)
NOW = datetime(2022, 12, 28, 20, 0, tzinfo=UTC)
DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "config" / "compliance.yaml").read_text(encoding="utf-8")
)
POLICY = CompliancePolicy.model_validate(DOCUMENT)
CONTEXT = ComplianceContext(
    trade_session=date(2022, 12, 28),
    session_open=OPEN,
    session_close=CLOSE,
    short_allowed=False,
    recent_intents=(),
    price_basis="raw",
    lots=(),
    disposals=(),
)
PRICES = {"AAA": Decimal(100), "BBB": Decimal(50)}


def policy(kind: str, account: Mapping[str, object] | None = None, **changes: object) -> CompliancePolicy:
    """The default policy with ``changes`` to one rule; a mapping for ``parameters`` is merged."""
    document = deepcopy(DOCUMENT)
    (rule,) = [rule for rule in document["rules"] if rule["kind"] == kind]
    document["account"] |= account or {}
    for key, value in changes.items():
        rule[key] = rule[key] | value if key == "parameters" and isinstance(value, Mapping) else value
    return CompliancePolicy.model_validate(document)


def order(instrument: str, side: str, quantity: object = 10, price: object = None, number: int = 0) -> PlannedOrder:
    reference = PRICES.get(instrument, Decimal(20)) if price is None else Decimal(str(price))
    return PlannedOrder(f"{instrument}-{side}-{number}", instrument, Side(side), Decimal(str(quantity)), reference)


def snapshot(
    positions: Mapping[str, int] | None = None, open_orders: tuple[OpenOrder, ...] = (), cash: int = 100_000
) -> AccountSnapshot:
    shares = {name: Decimal(number) for name, number in (positions or {}).items()}
    return AccountSnapshot("main", NOW, Decimal(cash), shares, PRICES, open_orders)


def run(
    *orders: PlannedOrder,
    account: AccountSnapshot | None = None,
    context: ComplianceContext = CONTEXT,
    rules: CompliancePolicy = POLICY,
    now: datetime = NOW,
    window: tuple[datetime, datetime] = (OPEN, CLOSE),
) -> GateReport:
    batch = Batch("b1", "main", date(2022, 12, 27), *window, orders)
    return judge(batch, account or snapshot(), context, rules, now)


def broken(report: GateReport, outcome: Outcome = Outcome.DENY) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for verdict in report.verdicts:
        if verdict.outcome is outcome:
            found.setdefault(verdict.intent_id, []).append(verdict.rule)
    return found


def test_ordinary_orders_pass_every_rule() -> None:
    report = run(order("AAA", "buy"), order("BBB", "sell"), account=snapshot({"BBB": 10}))
    assert report.approved == ("AAA-buy-0", "BBB-sell-0")
    assert {v.outcome for v in report.verdicts} == {Outcome.PASS, Outcome.OFF}
    assert {v.rule for v in report.verdicts if v.outcome is Outcome.OFF} == {
        "trading_halt", "intraday_margin", "ownership_threshold", "order_value", "order_volume",
        "message_rate",
    }  # fmt: skip
    assert [v.rule for v in report.verdicts if v.intent_id in (None, "AAA-buy-0")] == [
        "account",
        "order_terms",
        *(rule.id for rule in POLICY.rules),
    ]


def entry(**changes: object) -> dict[str, object]:
    return {
        "symbol": "AAA",
        "effective_from": "2022-12-28",
        "effective_to": "2022-12-28",
        "reason": "mandate",
    } | changes


def test_a_restricted_name_is_denied_in_both_directions_while_it_is_listed() -> None:
    account, orders = snapshot({"AAA": 10}), (order("AAA", "sell"), order("BBB", "buy"))
    rules = policy("restricted_list", parameters={"entries": [entry()]})
    report = run(*orders, account=account, rules=rules)
    assert report.approved == ("BBB-buy-0",)
    assert "AAA is on the restricted list since 2022-12-28: mandate (SEC 15c3-5(c)(2)(ii))" in report.denials[0].reason
    for day in (date(2022, 12, 27), date(2022, 12, 29)):
        other_day = replace(CONTEXT, trade_session=day)
        assert len(run(*orders, account=account, rules=rules, context=other_day).approved) == 2


def test_a_watched_name_passes_with_a_warning() -> None:
    report = run(order("AAA", "buy"), rules=policy("watch_list", parameters={"entries": [entry(effective_to=None)]}))
    assert report.approved == ("AAA-buy-0",)
    assert broken(report, Outcome.WARN) == {"AAA-buy-0": ["watch_list"]}


@pytest.mark.parametrize(
    ("until", "since", "denied"),
    [
        (None, "2022-12-28", True),  # nobody has the old symbol now: who writes it means the instrument
        (date(2022, 6, 8), "2022-01-01", True),
        (date(2022, 6, 8), "2022-06-08", True),
        (date(2022, 6, 8), "2022-06-09", False),  # listed when another instrument had the symbol already
    ],
)
@pytest.mark.parametrize(("kind", "outcome"), [("restricted_list", Outcome.DENY), ("watch_list", Outcome.WARN)])
def test_a_list_holds_through_a_change_of_symbol(
    kind: str, outcome: Outcome, until: date | None, since: str, denied: bool
) -> None:
    listed = entry(symbol="OLD", effective_from=since, effective_to=None)
    renamed = replace(CONTEXT, other_names={"AAA": (OtherName("OLD", until),)})
    report = run(
        order("AAA", "buy"),
        order("BBB", "buy", 1),
        context=renamed,
        rules=policy(kind, parameters={"entries": [listed]}),
    )
    assert broken(report, outcome) == ({"AAA-buy-0": [kind]} if denied else {})
    if denied:
        words = f"AAA is on the {kind.replace('_', ' ')} as OLD since {since}: mandate"
        assert any(words in v.reason for v in report.verdicts)


@pytest.mark.parametrize(
    ("window", "now", "words"),
    [
        ((OPEN - timedelta(minutes=331), CLOSE), NOW, "is not within the hours"),
        ((OPEN, CLOSE + timedelta(minutes=31)), NOW, "is not within the hours"),
        ((OPEN, CLOSE), CLOSE, "has passed"),
        ((CLOSE, CLOSE), NOW, "is empty"),
        ((NOW + timedelta(minutes=1), CLOSE), NOW, "has not begun"),
    ],
)
def test_a_batch_is_sent_only_within_its_session(window: tuple[datetime, datetime], now: datetime, words: str) -> None:
    report = run(order("AAA", "buy"), window=window, now=now, context=replace(CONTEXT, sending=True))
    assert broken(report) == {None: ["session_window"], "AAA-buy-0": ["session_window"]}
    assert words in report.denials[0].reason


def test_a_batch_may_be_judged_the_evening_before_and_at_the_very_edges() -> None:
    evening = datetime(2022, 12, 27, 21, 30, tzinfo=UTC)
    edges = (OPEN - timedelta(minutes=330), CLOSE + timedelta(minutes=30))
    assert run(order("AAA", "buy"), now=evening, window=edges).approved


def recent(minutes: float, intent: str = "older", quantity: int = 10) -> ComplianceContext:
    twin = RecentIntent(intent, "AAA", Side.BUY, Decimal(quantity), NOW - timedelta(minutes=minutes))
    return replace(CONTEXT, recent_intents=(twin,), sending=True)


def test_a_repetition_of_a_recent_intent_is_denied_but_not_the_batch_itself() -> None:
    buy = order("AAA", "buy", 10)
    assert broken(run(buy, context=recent(60))) == {"AAA-buy-0": ["duplicate_order"]}
    assert run(buy, context=recent(61)).approved
    assert run(buy, context=recent(5, quantity=11)).approved
    assert run(buy, context=recent(5, intent="AAA-buy-0")).approved


def test_a_plan_repeats_nothing_that_was_sent_before_its_own_session() -> None:
    """The same sale was sent at 15:45 and is planned again at 16:30 for tomorrow: it is sent a night later."""
    sell, held = order("AAA", "sell", 10), snapshot({"AAA": 100})
    sent = RecentIntent("older", "AAA", Side.SELL, Decimal(10), NOW - timedelta(minutes=45))
    plan = replace(CONTEXT, recent_intents=(sent,))
    assert run(sell, account=held, context=plan).approved
    twins = run(sell, order("AAA", "sell", 10, number=1), account=held, context=plan)
    assert broken(twins) == {"AAA-sell-1": ["duplicate_order"]}
    assert broken(run(sell, account=held, context=replace(plan, sending=True))) == {"AAA-sell-0": ["duplicate_order"]}
    assert run(sell, account=held, context=replace(plan, sending=True), now=NOW + timedelta(minutes=16)).approved


def test_of_twins_in_one_batch_the_first_stays() -> None:
    report = run(order("AAA", "buy", "10"), order("AAA", "buy", "10.0", number=1), order("AAA", "buy", 5, number=2))
    assert report.approved == ("AAA-buy-0", "AAA-buy-2")


def test_opposite_sides_of_one_name_deny_each_other() -> None:
    account = snapshot({"AAA": 100, "BBB": 100}, (OpenOrder("w1", "BBB", Side.BUY, Decimal(1)),))
    orders = (order("AAA", "buy"), order("AAA", "sell", 5), order("BBB", "sell"), order("BBB", "buy", 3))
    report = run(*orders[:3], account=account)
    assert report.approved == ()
    assert broken(report) == {o.intent_id: ["self_cross"] for o in orders[:3]}
    assert "our own open buy w1" in next(v.reason for v in report.denials if v.intent_id == "BBB-sell-0")
    assert run(orders[3], account=account).approved


def test_a_long_only_account_sells_what_it_holds_and_no_more() -> None:
    account = snapshot({"AAA": 100}, (OpenOrder("w1", "AAA", Side.SELL, Decimal(60)),))
    first, second = order("AAA", "sell", 40), order("AAA", "sell", 1, number=1)
    report = run(first, second, account=account)
    assert report.approved == (first.intent_id,)
    assert "would leave the account 1 short, and it is long only" in report.denials[0].reason


def test_a_short_needs_permission_and_a_locate() -> None:
    sell, account = order("AAA", "sell", 30), snapshot({"AAA": 10})
    permitted = replace(CONTEXT, short_allowed=True, price_tests={"AAA": False})
    assert "the locates are missing" in run(sell, account=account, context=permitted).denials[0].reason
    assert run(sell, account=account, context=replace(permitted, locates={"AAA": Decimal(20)})).approved
    assert not run(sell, account=account, context=replace(permitted, locates={"AAA": Decimal(19)})).approved
    assert not run(sell, account=account, context=replace(permitted, locates={})).approved
    assert not run(sell, account=account, context=replace(CONTEXT, locates={"AAA": Decimal(20)})).approved


def test_position_limit_in_shares_counts_open_orders_and_lets_reductions_pass() -> None:
    rules = policy("position_limit_shares", parameters={"max_shares": 100})
    account = snapshot({"AAA": 60}, (OpenOrder("w1", "AAA", Side.BUY, Decimal(20)),))
    assert run(order("AAA", "buy", 20), account=account, rules=rules).approved
    report = run(order("AAA", "buy", 15), order("AAA", "buy", 6, number=1), account=account, rules=rules)
    assert report.approved == ()  # together they would pass the limit, so neither does
    assert report.denials[0].value == 101
    assert report.denials[0].rule == "position_limit_shares"
    assert run(order("AAA", "sell", 20), account=snapshot({"AAA": 500}), rules=rules).approved
    cover, short = order("AAA", "buy", 20), snapshot({"AAA": -500})
    assert run(cover, account=replace(short, cash=Decimal(200_000)), rules=rules).approved


def test_position_limit_as_fraction_of_equity() -> None:
    assert run(order("AAA", "buy", 200)).approved
    report = run(order("AAA", "buy", 201))
    assert broken(report) == {"AAA-buy-0": ["position_limit_fraction"]}
    assert report.denials[0].value == pytest.approx(0.201)


def test_share_counts_and_prices_are_off_on_a_total_return_basis() -> None:
    total_return = replace(CONTEXT, price_basis="total_return")
    rules = policy("position_limit_shares", parameters={"max_shares": 1})
    report = run(order("PENNY", "buy", 100, price="0.01"), context=total_return, rules=rules)
    assert report.approved == ("PENNY-buy-0",)
    off = broken(report, Outcome.OFF)
    assert off.keys() == {None}
    assert {"position_limit_shares", "minimum_price", "short_sale_price_test"} <= set(off[None])


def test_no_buying_below_the_minimum_price_but_selling() -> None:
    account = snapshot({"PENNY": 10}, cash=100_000)
    account = replace(account, prices=PRICES | {"PENNY": Decimal("4.99")})
    assert broken(run(order("PENNY", "buy", price="4.99"))) == {"PENNY-buy-0": ["minimum_price"]}
    assert run(order("PENNY", "buy", price="5")).approved
    assert run(order("PENNY", "sell", price="4.99"), account=account).approved


def test_too_many_orders_are_an_error_and_none_passes() -> None:
    orders = [order(f"N{number:03}", "buy", 1) for number in range(101)]
    assert len(run(*orders[:100]).approved) == 100
    report = run(*orders)
    assert report.approved == ()
    assert report.denials[0].reason == (
        "the batch has 101 orders, limit 100 (SEC 15c3-5(c)(1)(ii); EU 2017/589 article 15(1)(d))"
    )


def test_modes_warn_and_off_let_pass_and_say_so() -> None:
    twins = (order("AAA", "buy"), order("AAA", "buy", number=1))
    report = run(*twins, rules=policy("duplicate_order", mode="warn"))
    assert len(report.approved) == 2
    assert broken(report, Outcome.WARN) == {"AAA-buy-1": ["duplicate_order"]}
    report = run(*twins, rules=policy("duplicate_order", mode="off"))
    assert "duplicate_order" in broken(report, Outcome.OFF)[None]
    report = run(*twins, rules=policy("duplicate_order", effective_to="2022-12-27"))
    assert "duplicate_order" in broken(report, Outcome.OFF)[None]
    assert len(report.approved) == 2


@pytest.mark.parametrize(
    ("context", "account", "rule", "words"),
    [
        (replace(CONTEXT, session_open=None), snapshot(), "session_window", "open or close of session 2022-12-28"),
        (replace(CONTEXT, session_close=None), snapshot(), "session_window", "load the calendar"),
        (replace(CONTEXT, recent_intents=None), snapshot(), "duplicate_order", "recent order intents are missing"),
        (replace(CONTEXT, short_allowed=None), snapshot(), "short_sale", "may be short is missing"),
        (replace(CONTEXT, price_basis=None), snapshot(), "minimum_price", "price basis is missing"),
        (CONTEXT, replace(snapshot({"CCC": 5})), "position_limit_fraction", "broker's price of CCC is missing"),
        (CONTEXT, snapshot(cash=0), "position_limit_fraction", "equity of account main is 0, not positive"),
        (CONTEXT, replace(snapshot(), cash=Decimal("NaN")), "position_limit_fraction", "equity of account main is NaN"),
        (CONTEXT, replace(snapshot(), account="other"), "account", "the snapshot of other"),
    ],
)
def test_missing_data_denies_all_and_is_named(
    context: ComplianceContext, account: AccountSnapshot, rule: str, words: str
) -> None:
    report = run(order("AAA", "buy"), order("BBB", "buy"), context=context, account=account)
    assert report.approved == ()
    assert any(v.rule == rule and v.intent_id is None and words in v.reason for v in report.denials)


def test_missing_data_of_a_warning_rule_warns() -> None:
    report = run(
        order("AAA", "buy"), context=replace(CONTEXT, recent_intents=None), rules=policy("duplicate_order", mode="warn")
    )
    assert report.approved == ("AAA-buy-0",)
    assert broken(report, Outcome.WARN) == {None: ["duplicate_order"]}


def test_orders_that_are_no_orders_are_refused() -> None:
    for quantity, price in (("0", 100), ("-5", 100), ("NaN", 100), ("5", 0), ("5", "Infinity")):
        report = run(order("AAA", "buy", quantity, price=price), order("BBB", "buy", 1))
        assert report.approved == ("BBB-buy-0",)
    assert run(order("AAA", "buy", 1), order("AAA", "buy", 2)).approved == ()


# The policy ----------------------------------------------------------------------------------------------------------


def test_a_policy_without_a_kind_of_rule_is_refused() -> None:
    for kind in KINDS:
        document = DOCUMENT | {"rules": [rule for rule in DOCUMENT["rules"] if rule["kind"] != kind]}
        with pytest.raises(ValueError, match=f"no rule of kind {kind}"):
            CompliancePolicy.model_validate(document)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "maybe"}, "enforce"),
        ({"threshold": 3}, "threshold"),
        ({"parameters": {"window_hours": 1}}, "window_hours"),
        ({"effective_to": "1980-01-01"}, "swap them"),
        ({"id": "self_cross"}, "more than one rule with id self_cross"),
    ],
)
def test_a_wrong_policy_names_what_is_wrong(changes: dict[str, object], words: str) -> None:
    document = deepcopy(DOCUMENT)
    (rule,) = [rule for rule in document["rules"] if rule["kind"] == "duplicate_order"]
    rule.update(changes)
    with pytest.raises(ValueError, match=words):
        CompliancePolicy.model_validate(document)


def test_a_regulation_may_have_an_old_and_a_new_form() -> None:
    document = deepcopy(DOCUMENT)
    (old,) = [rule for rule in document["rules"] if rule["kind"] == "order_count"]
    new = old | {"id": "order_count_2023", "effective_from": "2023-01-01", "parameters": {"max_orders": 1}}
    old["effective_to"] = "2022-12-31"
    document["rules"].append(new)
    rules, orders = CompliancePolicy.model_validate(document), (order("AAA", "buy"), order("BBB", "buy"))
    assert len(run(*orders, rules=rules).approved) == 2
    next_year = replace(CONTEXT, trade_session=date(2023, 1, 3))
    assert run(*orders, rules=rules, context=next_year).approved == ()


# For every batch -----------------------------------------------------------------------------------------------------

names = st.sampled_from(["AAA", "BBB"])
quantities = st.integers(1, 150)
planned = st.lists(
    st.builds(order, names, st.sampled_from(["buy", "sell"]), quantities, number=st.integers(0, 3)),
    max_size=6,
    unique_by=lambda o: o.intent_id,
)
working = st.lists(
    st.builds(OpenOrder, st.just("w"), names, st.sampled_from(Side), quantities.map(Decimal)), max_size=2
)
accounts = st.builds(snapshot, st.dictionaries(names, st.integers(0, 300)), working.map(tuple))


@settings(max_examples=200, deadline=None)
@given(account=accounts, orders=planned)
def test_approved_orders_never_short_never_cross_never_repeat(
    account: AccountSnapshot, orders: list[PlannedOrder]
) -> None:
    report = run(*orders, account=account)
    approved = [o for o in orders if o.intent_id in report.approved]
    assert [o.intent_id for o in approved] == list(report.approved)
    assert set(report.approved) == {o.intent_id for o in orders} - {v.intent_id for v in report.denials}
    for name in ("AAA", "BBB"):
        mine = [o for o in approved if o.instrument == name]
        sold = sum((o.quantity for o in mine if o.side is Side.SELL), Decimal(0))
        held = account.positions.get(name, Decimal(0))
        assert sold == 0 or sold + account.working(name, Side.SELL) <= held
        sides = {o.side for o in mine} | {o.side for o in account.open_orders if mine and o.instrument == name}
        assert len(sides) < 2
        bought = sum((o.quantity for o in mine if o.side is Side.BUY), Decimal(0))
        reached = (held + account.working(name, Side.BUY) + bought) * PRICES[name]
        assert bought == 0 or reached <= Decimal("0.2") * account.equity
    assert len({(o.instrument, o.side, o.quantity) for o in approved}) == len(approved)


@settings(max_examples=60, deadline=None)
@given(
    account=accounts,
    orders=planned,
    hole=st.sampled_from(["session_open", "session_close", "recent_intents", "short_allowed", "price_basis"]),
)
def test_missing_data_never_passes(account: AccountSnapshot, orders: list[PlannedOrder], hole: str) -> None:
    assert run(*orders, account=account, context=replace(CONTEXT, **{hole: None})).approved == ()
