"""Every limit: at it, one step beyond, without its datum, and an order that only reduces.

The one rule of each case is the only narrow one, so that a denial can have no other cause. Orders are of AAA at 100 and
BBB at 50 in an account of 100,000 unless a case says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from pydantic import ValidationError

from octopus.core.orders import AccountSnapshot, OpenOrder, Outcome, Side, TradingState
from octopus.risk.gate import RULES
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, SentMessage
from octopus.risk.measures import historical_cvar, historical_var, volatility_annual
from octopus.risk.signatures import Authority
from tests.risk.test_risk_gate import HISTORY, NOW, PRICES, denied, limited, market, on_batch, order, run, snapshot

RAW = market(price_basis="raw", adv_shares=dict.fromkeys(PRICES, Decimal(1000)))
HELD = snapshot(50_000, {"AAA": 500})


def sent(count: int, seconds_ago: float = 10, side: Side = Side.BUY, again: bool = False) -> MarketContext:
    at = NOW - timedelta(seconds=seconds_ago)
    return market(sent=tuple(SentMessage(at, "AAA", side, again) for _ in range(count)))


def cancelled(count: int) -> MarketContext:
    at = NOW - timedelta(seconds=10)
    return market(sent=tuple(SentMessage(at, "AAA", Side.BUY, cancels=True) for _ in range(count)))


def priced(price: str = "100", **age: float) -> MarketContext:
    prices = market().last_prices | {"AAA": LastPrice(Decimal(price), NOW - timedelta(**age))}
    return market(last_prices=prices)


def loss_limit(field: str) -> dict[str, float]:
    """The limit that 400 shares of AAA (40 % of equity) exactly reach."""
    measure = {"var_95_max": historical_var, "cvar_95_max": historical_cvar, "volatility_max_annual": volatility_annual}
    return {field: measure[field](np.array(float(Decimal(400) * 100 / 100_000)) * HISTORY.returns[-500:, 0])}


def against(benchmark: str, weight: float = 1.0, **limits: float) -> dict[str, object]:
    return {**limits, "benchmark": {benchmark: weight}}


def tracking(name: str, weight: float) -> float:
    """Annual tracking error that ``weight`` of equity in ``name``, beside the benchmark itself, makes."""
    return volatility_annual(weight * HISTORY.returns[-500:, list(PRICES).index(name)])


@dataclass(frozen=True)
class Limit:
    """One limit: an account, a market and limits in which ``good`` passes, and ``bad``, one step more, does not."""

    rule: str
    limits: Mapping[str, object]
    good: str
    bad: str
    account: AccountSnapshot = snapshot()  # noqa: RUF009  # frozen
    context: MarketContext | None = None
    bad_context: MarketContext | None = None


def planned(text: str) -> object:
    name, side, quantity, *price = text.split()
    return order(name, side, quantity, price=price[0] if price else None)


CASES = [
    Limit("price_collar", {"price_collar": 0.1}, "AAA buy 10 110", "AAA buy 10 110.01"),
    Limit("price_collar", {"price_collar": 0.1}, "AAA buy 10 90", "AAA buy 10 89.99"),
    Limit("order_notional_usd", {"order_notional_max_usd": Decimal(10_000)}, "AAA buy 100", "AAA buy 100.01"),
    Limit("order_notional_fraction", {"order_notional_max_fraction": 0.1}, "AAA buy 100", "AAA buy 100.01"),
    Limit("adv_participation", {"adv_participation_max": 0.05}, "AAA buy 50", "AAA buy 50.01", context=RAW),
    Limit("name_weight", {"name_weight_max": 0.3}, "AAA buy 300", "AAA buy 300.01"),
    Limit("position_notional_usd", {"position_notional_max_usd": Decimal(30_000)}, "AAA buy 300", "AAA buy 300.01"),
    Limit("long_only", {"long_only": True}, "AAA sell 500", "AAA sell 500.01", HELD),
    Limit("name_weight_min", {"name_weight_min": -0.2}, "BBB sell 400", "BBB sell 400.01"),
    Limit("name_weight_min", {"name_weight_min": 0.0}, "AAA sell 500", "AAA sell 500.01", HELD),
    Limit("sector", {"sector_weight_max": 0.7}, "BBB buy 400", "BBB buy 400.01", HELD),  # both technology
    Limit(
        "sector_part_filled", {"sector_weight_max": 0.7}, "BBB buy 400", "BBB buy 400.01",
        replace(HELD, open_orders=(OpenOrder("w", "AAA", Side.SELL, Decimal(1)),)),
    ),
    Limit("gross", {"gross_max": 0.65}, "BBB buy 300", "BBB buy 300.01", HELD),
    Limit("net_max", {"net_max": 0.65}, "BBB buy 300", "BBB buy 300.01", HELD),
    Limit("net_min", {"net_min": -0.2}, "BBB sell 400", "BBB sell 400.01"),
    Limit("leverage", {"leverage_max": 1.2}, "BBB buy 1400", "BBB buy 1400.01", HELD),  # owes 20,000
    Limit("leverage", {"leverage_max": 1.2}, "BBB sell 400", "BBB sell 400.01"),  # owes 400 shares
    Limit("turnover", {"turnover_max": 0.3}, "BBB buy 600", "BBB buy 600.01", HELD),
    Limit("turnover", {"turnover_max_initial": 0.3}, "BBB buy 600", "BBB buy 600.01"),
    Limit("cash", {"cash_min_fraction": 0.1}, "BBB buy 800", "BBB buy 800.01", HELD),
    Limit("capital_threshold_usd", {"capital_threshold_usd": Decimal(70_000)}, "BBB buy 400", "BBB buy 400.01", HELD),
    Limit("volatility", loss_limit("volatility_max_annual"), "AAA buy 400", "AAA buy 400.01"),
    Limit("var_95", loss_limit("var_95_max"), "AAA buy 400", "AAA buy 400.01"),
    Limit("cvar_95", loss_limit("cvar_95_max"), "AAA buy 400", "AAA buy 400.01"),
    Limit("beta_max", against("AAA", beta_max=0.4), "AAA buy 400", "AAA buy 400.01"),
    Limit("beta_max", against("AAA", 0.5, beta_max=1.2), "AAA buy 600", "AAA buy 600.01"),  # half of it: beta 2
    Limit("beta_min", against("AAA", beta_min=-0.3), "AAA sell 300", "AAA sell 300.01"),
    Limit("beta_min", against("AAA", beta_min=0.2), "AAA sell 300", "AAA sell 300.01", HELD),
    Limit("tracking_error", against("AAA", 0.5, tracking_error_max_annual=tracking("BBB", 0.2)), "BBB buy 400",
          "BBB buy 400.01", HELD),
    Limit("stale_data", {"price_age_max_seconds": 3600 * 20}, "AAA buy 1", "AAA buy 1",
          context=priced(seconds=72_000), bad_context=priced(seconds=72_001)),
    Limit("snapshot_age", {"snapshot_age_max_seconds": 60}, "AAA buy 1", "AAA buy 1",
          context=market(), bad_context=market()),
    Limit("message_rate", {"messages_max": 5, "messages_window_seconds": 60}, "BBB buy 1", "BBB buy 1",
          context=sent(4), bad_context=sent(5)),
    Limit("repeated_execution", {"repeated_executions_max": 5}, "AAA buy 1", "AAA buy 1",
          context=sent(4, 3599), bad_context=sent(5, 3599)),
    Limit("drawdown_stop", {"drawdown_stop": 0.2}, "BBB buy 1", "BBB buy 1", HELD,
          market(nav_peak=Decimal(125_000)), market(nav_peak=Decimal("125000.01"))),
    Limit("loss_per_day", {"loss_per_day_max": 0.2}, "BBB buy 1", "BBB buy 1", HELD,
          market(nav_previous=Decimal(125_000)), market(nav_previous=Decimal("125000.01"))),
    Limit("equity_min_usd", {"equity_min_usd": Decimal(100_000)}, "BBB buy 1", "BBB buy 1",
          replace(HELD, prices={}), market(), priced("99.99", seconds=1)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule} {case.bad}")
def test_at_the_limit_passes_and_one_step_beyond_is_denied(case: Limit) -> None:
    limits = limited(**case.limits)
    good, bad = planned(case.good), planned(case.bad)
    report = run(good, account=case.account, context=case.context, limits=limits)
    assert report.approved == (good.intent_id,), [v.reason for v in report.denials]
    late = replace(case.account, taken_at=NOW - timedelta(seconds=61)) if case.rule == "snapshot_age" else case.account
    report = run(bad, account=late, context=case.bad_context or case.context, limits=limits)
    assert report.approved == ()
    rules = {v.rule for v in denied(report, bad.intent_id)}
    if case.rule == "stale_data":  # and every rule that needs the price
        assert rules == {"stale_data", "price_collar", "order_notional_usd", "order_notional_fraction"}
    else:
        assert rules == {case.rule}
        (denial,) = denied(report, bad.intent_id)
        assert denial.value is not None
        assert denial.limit is not None
        floors = {"net_min", "cash", "equity_min_usd", "long_only", "name_weight_min", "beta_min"}
        assert (denial.value < denial.limit) == (case.rule in floors)


def test_every_limit_of_the_configuration_has_such_a_case() -> None:
    judged = {"_".join(case.rule.split()) for case in CASES}
    untested = set(RULES) - judged - {rule for rule in RULES if rule.endswith("_part_filled")}
    # The rest has no number: a state, a signature, a datum that is there or not.
    assert untested == {
        "account", "limits_signed", "kill_switch", "order_terms", "equity", "sector_known", "return_history",
    }  # fmt: skip


MISSING: list[tuple[str, dict[str, object], str]] = [
    ("stale_data", {"last_prices": {}}, "the last price of AAA is missing"),
    ("price_collar", {"last_prices": {}}, "the last price of AAA is missing"),
    ("order_notional_usd", {"last_prices": {}}, "the last price of AAA is missing"),
    ("adv_participation", {"price_basis": "raw"}, "the average daily volume of AAA is missing"),
    ("adv_participation", {"price_basis": None}, "the price basis is missing"),
    ("sector_known", {"sectors": {}}, "the sector of AAA is missing: name it in universe.yaml"),
    ("message_rate", {"sent": None}, "what the account has sent lately is missing"),
    ("repeated_execution", {"sent": None}, "what the account has sent lately is missing"),
    ("drawdown_stop", {"nav_peak": None}, "the NAV peak of account main is missing"),
    ("loss_per_day", {"nav_previous": None}, "yesterday's NAV of account main is missing"),
    ("return_history", {"history": None}, "the return history is missing"),
    ("cvar_95", {"history": None}, "the return history is missing"),
]


@pytest.mark.parametrize(("rule", "hole", "words"), MISSING, ids=lambda value: value if isinstance(value, str) else "")
def test_a_missing_datum_denies_and_is_named(rule: str, hole: dict[str, object], words: str) -> None:
    report = run(order("AAA", "buy", 1), context=market(**hole))
    assert report.approved == ()
    assert any(v.rule == rule and words in v.reason for v in report.denials), [v.reason for v in report.denials]


BREACHED: list[tuple[str, dict[str, object], Callable[[], MarketContext]]] = [
    ("name_weight", {"name_weight_max": 0.2}, market),
    ("position_notional_usd", {"position_notional_max_usd": Decimal(20_000)}, market),
    ("sector", {"sector_weight_max": 0.2}, market),
    ("gross", {"gross_max": 0.2}, market),
    ("net_max", {"net_max": 0.2}, market),
    ("leverage", {"leverage_max": 1.0}, market),
    ("capital_threshold_usd", {"capital_threshold_usd": Decimal(20_000)}, market),
    ("cash", {"cash_min_fraction": 0.9}, market),
    ("volatility", {"volatility_max_annual": 0.01}, market),
    ("var_95", {"var_95_max": 0.001}, market),
    ("cvar_95", {"cvar_95_max": 0.001}, market),
    ("beta_max", against("AAA", beta_max=0.5), market),
    ("tracking_error", against("DDD", tracking_error_max_annual=0.01), market),
    ("drawdown_stop", {"drawdown_stop": 0.1}, lambda: market(nav_peak=Decimal(10**6))),
    ("loss_per_day", {"loss_per_day_max": 0.1}, lambda: market(nav_previous=Decimal(10**6))),
    ("equity_min_usd", {"equity_min_usd": Decimal(10**6)}, market),
]


@pytest.mark.parametrize(("rule", "limits", "context"), BREACHED, ids=[case[0] for case in BREACHED])
def test_in_a_breach_a_reduction_passes_and_more_of_it_does_not(
    rule: str, limits: dict[str, object], context: Callable[[], MarketContext]
) -> None:
    account = snapshot(-10_000, {"AAA": 700, "DDD": 200})
    sell, buy = order("AAA", "sell", 50), order("AAA", "buy", 1)
    report = run(sell, account=account, context=context(), limits=limited(**limits))
    assert report.approved == (sell.intent_id,)
    assert on_batch(report, rule).outcome is Outcome.WARN
    report = run(sell, buy, account=account, context=context(), limits=limited(**limits))
    assert report.approved == (sell.intent_id,)
    assert rule in {v.rule.removesuffix("_part_filled") for v in denied(report, buy.intent_id)}


@pytest.mark.parametrize(
    ("limits", "text", "context"),
    [
        ({}, "AAA sell 10 111", market()),
        ({"order_notional_max_usd": Decimal(500)}, "AAA sell 10", market()),
        ({"adv_participation_max": 0.001}, "AAA sell 10", RAW),
        ({"repeated_executions_max": 5}, "AAA sell 10", sent(5, side=Side.SELL)),
        ({"messages_max": 5}, "AAA sell 10", sent(5)),
    ],
)
def test_a_reduction_too_can_be_a_mistake(limits: dict[str, object], text: str, context: MarketContext) -> None:
    assert run(planned(text), account=HELD, context=context, limits=limited(**limits)).approved == ()


# What the numbers of single cases do not say -------------------------------------------------------------------------


def test_a_denial_names_the_instruments_that_make_the_breach() -> None:
    account = snapshot(40_000, {"AAA": 300, "DDD": 150})
    for limits, rule in (({"gross_max": 0.65}, "gross"), ({"var_95_max": 0.004}, "var_95")):
        report = run(order("BBB", "buy", 200), account=account, limits=limited(**limits))
        (denial,) = [v for v in denied(report, "BBB-buy-0") if v.rule == rule]
        assert {name for name, _ in denial.contributors} == {"AAA", "BBB", "DDD"}
        sizes = [abs(part) for _, part in denial.contributors]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(part for _, part in denial.contributors) == pytest.approx(denial.value)
        assert denial.marginal is not None
        assert denial.marginal > 0
        assert "largest parts: " in denial.reason


def test_slices_of_an_order_count_together_against_the_volume() -> None:
    slices = [order("AAA", "buy", 20, number=number) for number in range(3)]
    report = run(*slices, context=RAW, limits=limited(adv_participation_max=0.05))
    assert report.approved == ("AAA-buy-0", "AAA-buy-1")
    working = (OpenOrder("w", "AAA", Side.BUY, Decimal(31)),)
    assert not run(slices[0], account=snapshot(open_orders=working), context=RAW).approved


def test_the_message_rate_leaves_out_the_last_of_the_plan_and_reductions_last() -> None:
    orders = (order("AAA", "sell", 1), *(order("BBB", "buy", 1, number=number) for number in range(4)))
    report = run(*orders, account=HELD, context=sent(2), limits=limited(messages_max=5))
    assert report.approved == ("AAA-sell-0", "BBB-buy-0", "BBB-buy-1")
    assert "messages in 60 s would be 6 messages" in denied(report, "BBB-buy-2")[0].reason
    assert on_batch(report, "message_rate").value == 5
    assert run(*orders, account=HELD, context=sent(9, 61), limits=limited(messages_max=5)).approved


def test_the_throttle_counts_one_side_of_one_instrument_until_a_person_resumes() -> None:
    tight = limited(repeated_executions_max=5)
    buy = order("AAA", "buy", 1)
    assert run(order("AAA", "sell", 1), account=HELD, context=sent(5), limits=tight).approved
    assert run(order("BBB", "buy", 1), context=sent(5), limits=tight).approved
    assert run(buy, context=sent(5, 3600), limits=tight).approved, "the window is over"
    assert run(buy, context=sent(5, again=True), limits=tight).approved, "the same order again is no new one"
    assert run(buy, context=cancelled(5), limits=tight).approved, "nor is one that is cancelled"
    assert not run(buy, context=cancelled(5), limits=limited(messages_max=5)).approved, "but each is a message"
    resumed = replace(sent(5), resumed_at=NOW - timedelta(seconds=5))
    assert run(buy, context=resumed, limits=tight).approved
    assert not run(buy, context=replace(sent(5), resumed_at=NOW + timedelta(days=900)), limits=tight).approved
    assert not run(buy, context=replace(sent(5), resumed_at=NOW - timedelta(hours=9)), limits=tight).approved
    several = [order("AAA", "buy", 1, number=number) for number in range(6)]
    assert len(run(*several, limits=tight).approved) == 5


def test_a_held_name_without_a_sector_counts_in_every_sector() -> None:
    context = market(sectors={"BBB": "technology", "CCC": "energy"})
    account = snapshot(40_000, {"AAA": 600})
    buy = order("CCC", "buy", 800)  # 10 %
    assert run(buy, account=account, context=context, limits=limited(sector_weight_max=0.7)).approved
    report = run(buy, account=account, context=context, limits=limited(sector_weight_max=0.69))
    assert denied(report, buy.intent_id)[0].rule == "sector"
    sell = order("AAA", "sell", 10)
    assert run(sell, account=account, context=context, limits=limited(sector_weight_max=0.1)).approved


OPTIONAL = (
    "long_only", "name_weight_min", "beta_max", "beta_max_part_filled", "beta_min", "beta_min_part_filled",
    "tracking_error", "tracking_error_part_filled",
)  # fmt: skip
BENCHMARKED = against("AAA", beta_max=0.4, beta_min=-0.4, tracking_error_max_annual=0.5)


def test_a_limit_that_is_off_is_said_to_be() -> None:
    said = {rule: on_batch(run(order("AAA", "buy", 1)), rule) for rule in OPTIONAL}
    assert {verdict.outcome for verdict in said.values()} == {Outcome.OFF}
    assert said["long_only"].reason == "long_only is false: there is no rule on shorts as such"
    assert said["beta_max_part_filled"].reason == "beta_max is null: there is no rule on the largest beta"


def test_a_short_that_an_account_has_may_be_covered_and_not_grow() -> None:
    account, limits = snapshot(150_000, {"AAA": -500}), limited(long_only=True, name_weight_min=-0.6)
    assert run(order("AAA", "buy", 100), account=account, limits=limits).approved
    rules = {v.rule for v in denied(run(order("AAA", "sell", 1), account=account, limits=limits), "AAA-sell-0")}
    assert rules == {"long_only"}
    (denial,) = denied(run(order("BBB", "sell", 1), limits=limited(long_only=True)), "BBB-sell-0")
    assert denial.reason.startswith("least weight of BBB would be -0.05%, under the limit 0.00%; sell 1 BBB moves it")
    # Bought and sold at once, a sale that fills first would be short.
    swap = order("AAA", "buy", 20), order("AAA", "sell", 10)
    assert run(*swap, limits=limited(long_only=True)).approved == ("AAA-buy-0",)


def test_a_denial_for_beta_says_who_makes_it() -> None:
    account = snapshot(20_000, {"AAA": 400, "DDD": 200})
    report = run(order("AAA", "buy", 100), account=account, limits=limited(**against("AAA", beta_max=0.45)))
    (denial,) = denied(report, "AAA-buy-0")
    beta = float(
        np.cov(HISTORY.returns[-500:, 3], HISTORY.returns[-500:, 0])[0, 1] / HISTORY.returns[-500:, 0].var(ddof=1)
    )
    assert denial.value == pytest.approx(0.5 + 0.4 * beta)
    assert denial.marginal == pytest.approx(0.1)
    assert dict(denial.contributors) == pytest.approx({"AAA": 0.5, "DDD": 0.4 * beta})


@pytest.mark.parametrize(
    ("history", "benchmark", "words"),
    [
        (HISTORY, {"NOPE": 1.0}, "of the benchmark, the return history of NOPE is missing: ingest its bars"),
        (replace(HISTORY, returns=np.where(np.arange(4) == 3, np.nan, HISTORY.returns)), {"AAA": 1.0, "DDD": 0.5},
         "of the benchmark, 500 of the last 500 returns of DDD are missing"),
        (replace(HISTORY, returns=np.where(np.arange(4) == 3, 0.0, HISTORY.returns)), {"DDD": 1.0},
         "the benchmark does not move"),
        (None, {"AAA": 1.0}, "the return history is missing"),
    ],
)  # fmt: skip
def test_no_order_passes_a_benchmark_that_is_not_known(
    history: object, benchmark: dict[str, float], words: str
) -> None:
    limits = limited(**{**BENCHMARKED, "benchmark": benchmark})
    report = run(order("AAA", "buy", 1), context=market(history=history), limits=limits)
    assert report.approved == ()
    said = {v.rule for v in denied(report, "AAA-buy-0") if f"cannot be judged: {words}" in v.reason}
    assert said >= {"beta_max", "beta_max_part_filled", "beta_min", "tracking_error", "tracking_error_part_filled"}


def test_a_limit_against_no_benchmark_is_refused() -> None:
    for benchmark in (None, {}, {"AAA": 0.0}):
        with pytest.raises(ValidationError, match="beta_max is measured against the benchmark, and benchmark names"):
            RiskLimits.model_validate(limited().model_dump() | {"beta_max": 0.4, "benchmark": benchmark})


def test_no_rule_on_sectors_is_said() -> None:
    report = run(order("AAA", "buy", 1), context=market(sectors={}), limits=limited(sector_weight_max=None))
    assert report.approved
    assert {v.outcome for v in report.verdicts if v.rule in {"sector", "sector_part_filled", "sector_known"}} == {
        Outcome.OFF
    }


@pytest.mark.parametrize("rule", ["sector", "leverage", "cvar_95", "beta_max"])
def test_part_filled_forms_allow_the_allowance_and_no_more(rule: str) -> None:
    # Invested in AAA alone: sells half of it for BBB of the same sector, which may fill first.
    account = snapshot(0, {"AAA": 1000})
    swap = order("AAA", "sell", 200), order("BBB", "buy", 400)
    cvar = historical_cvar(HISTORY.returns[-500:, 0])
    limits = {
        "sector": {"sector_weight_max": 1.0}, "leverage": {"leverage_max": 1.0}, "cvar_95": {"cvar_95_max": cvar},
        "beta_max": against("AAA", beta_max=1.0),
    }  # fmt: skip
    assert len(run(*swap, account=account, limits=limited(**limits[rule], partial_fill_allowance=0.2)).approved) == 2
    report = run(*swap, account=account, limits=limited(**limits[rule], partial_fill_allowance=0.0))
    assert report.approved == ("AAA-sell-0",)
    assert denied(report, "BBB-buy-0")[0].rule == f"{rule}_part_filled"


def test_unsigned_limits_are_for_paper_only() -> None:
    buy = order("AAA", "buy", 1)
    for live in (False, True):
        report = run(buy, authority=Authority(live, "nobody has signed"))
        assert bool(report.approved) is not live
        said = on_batch(report, "limits_signed")
        assert said.outcome is (Outcome.DENY if live else Outcome.WARN)
        assert said.reason == "limits unsigned: paper only: nobody has signed"
    assert on_batch(run(buy), "limits_signed").reason.startswith("signed by ada and grace, until ")


def test_the_state_rules_before_every_limit() -> None:
    sell, buy = order("AAA", "sell", 10), order("BBB", "buy", 1)
    assert run(sell, buy, account=HELD, state=TradingState.REDUCING).approved == (sell.intent_id,)
    assert run(sell, buy, account=HELD, state=TradingState.HALTED).approved == ()


def test_a_narrow_limit_never_approves_what_a_wide_one_denies() -> None:
    orders = [order(name, "buy", int(20_000 / PRICES[name]), number=1) for name in PRICES]
    fields = [name for name, info in RiskLimits.model_fields.items() if info.annotation is float and "max" in name]
    assert len(fields) > 5
    everything = set(run(*orders).approved)
    assert len(everything) == 4
    for field in ("gross_max", "sector_weight_max", "net_max", "turnover_max_initial"):
        counts = [len(run(*orders, limits=limited(**{field: level})).approved) for level in (0.1, 0.3, 0.5, 0.9)]
        assert counts == sorted(counts), field
