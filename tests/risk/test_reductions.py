"""What only makes a position smaller: what it passes that nothing else does, and what binds it all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.compliance.replay import is_same
from octopus.core.ids import canonical_json
from octopus.core.orders import (
    AccountSnapshot,
    GateReport,
    OpenOrder,
    Outcome,
    PlannedOrder,
    Side,
    TradingState,
    reducing_orders,
)
from octopus.risk.gate import LOSS_RULES, NOT_OF_REDUCTIONS, judge_plan, judged_again
from octopus.risk.limits import RiskLimits
from octopus.risk.market import MarketContext, ReturnHistory, SentMessage
from octopus.risk.return_window import HOLES_MAX, LOOK_BACK
from octopus.risk.return_window import Window as ReturnWindow
from tests.risk.test_risk_gate import (
    HISTORY,
    NAMES,
    NOW,
    SIGNED,
    batch,
    limited,
    market,
    on_batch,
    order,
    run,
    snapshot,
)

HELD = snapshot(50_000, {"AAA": 500})
WINDOW = 500
MOST = int(HOLES_MAX * WINDOW)
SELL, BUY_HELD, BUY = order("AAA", "sell", 10), order("AAA", "buy", 1), order("BBB", "buy", 1)


def with_holes(*rows: int, column: int = 0, value: float = np.nan) -> ReturnHistory:
    """Rows of the window, 0 the first one; negative ones are before it."""
    returns = HISTORY.returns.copy()
    returns[[len(returns) - WINDOW + row for row in rows], column] = value
    return replace(HISTORY, returns=returns)


def asked(history: ReturnHistory, *orders: PlannedOrder, **changes: object) -> GateReport:
    report = run(*(orders or (SELL, BUY_HELD, BUY)), account=HELD, context=market(history=history), **changes)  # type: ignore[arg-type]
    again = judged_again(canonical_json(report.evidence.record()), report.evidence.contents())  # type: ignore[union-attr]
    assert again.approved == report.approved
    assert len(again.verdicts) == len(report.verdicts)
    assert all(is_same(*both) for both in zip(again.verdicts, report.verdicts, strict=True))
    return report


# Sessions without a bar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(100,), (0,), (0, 1, 2), tuple(range(200, 200 + MOST)), (10, 498)])
def test_sessions_without_a_bar_between_two_bars_count_as_zero_and_are_told(rows: tuple[int, ...]) -> None:
    report = asked(with_holes(*rows))
    assert len(report.approved) == 3
    own = [v.reason for v in report.verdicts if v.rule == "return_history" and v.intent_id == SELL.intent_id]
    told = f"{len(rows)} of 500 are of sessions without a bar and count as zero"
    assert own == [f"returns of AAA fill the window; {told}"]
    assert f"AAA {len(rows)}" in on_batch(report, "return_history").reason
    as_zero = asked(with_holes(*rows, value=0.0))
    for rule in LOSS_RULES:
        assert on_batch(report, rule).value == on_batch(as_zero, rule).value


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((499,), "1 of the last 500 returns of AAA are missing, the last among them: ingest these sessions"),
        (tuple(range(-LOOK_BACK, 3)), "3 of the last 500 returns of AAA are missing, from the first on"),
        (tuple(range(200, 201 + MOST)), f"{MOST + 1} of the last 500 returns of AAA are missing, more than 10%"),
        (tuple(range(500)), "500 of the last 500 returns of AAA are missing"),
    ],
)
def test_a_history_that_begins_late_ends_early_or_is_mostly_holes_lets_only_reductions_pass(
    rows: tuple[int, ...], words: str
) -> None:
    report = asked(with_holes(*rows))
    assert report.approved == (SELL.intent_id,)
    assert words in on_batch(report, "return_history").reason
    for rule in ("return_history", *LOSS_RULES):
        assert on_batch(report, rule).outcome is Outcome.WARN
        denied = {v.intent_id for v in report.denials if v.rule == rule}
        assert denied == {BUY_HELD.intent_id, BUY.intent_id}
    assert asked(with_holes(*rows), BUY).approved == ()
    assert on_batch(asked(with_holes(*rows), BUY), "return_history").outcome is Outcome.DENY


def test_an_infinite_return_is_no_session_without_a_bar() -> None:
    report = asked(with_holes(100, value=np.inf))
    assert report.approved == (SELL.intent_id,)
    assert "1 of the last 500 returns of AAA are no numbers: correct its bars" in report.denials[0].reason


def test_a_bar_before_the_window_is_looked_for_so_far_back_and_no_further() -> None:
    gone = with_holes(*range(-LOOK_BACK, 3))
    assert len(asked(gone).approved) == 1
    returns = gone.returns.copy()
    returns[len(returns) - WINDOW - LOOK_BACK, 0] = 0.01
    assert len(asked(replace(gone, returns=returns)).approved) == 3
    returns[len(returns) - WINDOW - LOOK_BACK, 0], returns[len(returns) - WINDOW - LOOK_BACK - 1, 0] = np.nan, 0.01
    assert len(asked(replace(gone, returns=returns)).approved) == 1


def test_what_cannot_be_measured_makes_no_room_for_what_passes() -> None:
    """A short sale that is denied for want of returns pays for no cover."""
    account = snapshot(9_000, {"AAA": -100, "BBB": 300})
    cover, short = order("AAA", "buy", 100), order("CCC", "sell", 160)
    limits = limited(cash_min_fraction=0.0, benchmark={"DDD": 1.0}, beta_max=5.0, partial_fill_allowance=1.0)
    context = market(nav_peak=account.equity, nav_previous=account.equity)
    assert len(run(cover, short, account=account, context=context, limits=limits).approved) == 2
    report = run(
        cover, short, account=account, context=replace(context, history=with_holes(499, column=3)), limits=limits
    )
    assert report.approved == ()
    assert [v.rule for v in report.denials if v.intent_id == cover.intent_id] == ["cash"]
    assert {v.rule for v in report.denials if v.intent_id == short.intent_id} == {"beta_max", "beta_max_part_filled"}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_however_the_history_is_holed_nothing_but_a_reduction_passes_unmeasured(data: st.DataObject) -> None:
    rows = data.draw(st.sets(st.integers(-LOOK_BACK - 2, 499), max_size=80))
    edge = data.draw(st.sampled_from([(), (499,), tuple(range(-LOOK_BACK, 1)), tuple(range(300, 360))]))
    column = data.draw(st.integers(0, 3))
    orders, account = data.draw(ORDERS), data.draw(ACCOUNTS)
    history = with_holes(*rows, *edge, column=column)
    missing = np.isnan(history.returns[-WINDOW:, column])
    known_before = not missing[0] or np.isfinite(history.returns[-WINDOW - LOOK_BACK : -WINDOW, column]).any()
    measured = known_before and not missing[-1] and missing.sum() <= MOST
    window = ReturnWindow.of(history, WINDOW)
    assert window.whole.tolist() == [window.problem(one) is None for one in NAMES]
    assert window.whole[column] == measured
    report = run(*orders, account=account, context=market(history=history))
    name = NAMES[column]
    concerned = name in account.positions or any(one.instrument == name for one in account.open_orders)
    reducing = reducing_orders(orders, account)
    for one in orders:
        if not measured and (concerned or one.instrument == name) and one.intent_id not in reducing:
            assert one.intent_id not in report.approved
        if measured:
            assert not [v for v in report.denials if v.intent_id == one.intent_id and v.rule == "return_history"]


# Getting out ---------------------------------------------------------------------------------------------------------

BIG = snapshot(10_000, {"AAA": 900})
ALL_OF_IT = order("AAA", "sell", 900)
STOPPED: dict[str, tuple[dict[str, object], dict[str, object], TradingState]] = {
    "reducing": ({}, {}, TradingState.REDUCING),
    "drawdown_stop": ({"nav_peak": Decimal(200_000)}, {"drawdown_stop": 0.1}, TradingState.ACTIVE),
    "loss_per_day": ({"nav_previous": Decimal(200_000)}, {"loss_per_day_max": 0.1}, TradingState.ACTIVE),
    "equity_min_usd": ({}, {"equity_min_usd": Decimal(10**6)}, TradingState.ACTIVE),
}
UNBOUND: dict[str, dict[str, object]] = {
    "turnover": {"turnover_max": 0.35},
    "net_min": {"net_min": 0.5},
    "beta_min": {"beta_min": 0.8, "benchmark": {"AAA": 1.0}},
    "tracking_error": {"tracking_error_max_annual": 0.05, "benchmark": {"AAA": 1.0}},
}


@pytest.mark.parametrize("rule", UNBOUND)
@pytest.mark.parametrize("stop", STOPPED)
def test_where_only_reductions_pass_a_position_is_closed_at_once(rule: str, stop: str) -> None:
    context, changed, state = STOPPED[stop]
    limits = limited(**UNBOUND[rule])
    held = run(ALL_OF_IT, account=BIG, context=market(), limits=limits)
    assert not held.approved, "while others may pass, the limit binds"
    report = run(ALL_OF_IT, BUY, account=BIG, context=market(**context), limits=limited(**UNBOUND[rule], **changed),
                 state=state)  # fmt: skip
    assert report.approved == (ALL_OF_IT.intent_id,)
    said = on_batch(report, rule)
    assert said.outcome is Outcome.OFF
    assert "only orders that make a position smaller pass, and the rule binds none of them" in said.reason


@pytest.mark.parametrize("stop", STOPPED)
def test_where_only_reductions_pass_none_is_one_too_many(stop: str) -> None:
    context, changed, state = STOPPED[stop]
    sent = tuple(SentMessage(NOW - timedelta(minutes=1), "AAA", side) for side in Side for _ in range(30))
    calm = run(ALL_OF_IT, account=BIG, context=market(sent=sent))
    assert {v.rule for v in calm.denials} == {"repeated_execution"}
    report = run(ALL_OF_IT, BUY_HELD, account=BIG, context=market(sent=sent, **context), limits=limited(**changed),
                 state=state)  # fmt: skip
    assert report.approved == (ALL_OF_IT.intent_id,)
    (said,) = [v for v in report.verdicts if (v.rule, v.intent_id) == ("repeated_execution", ALL_OF_IT.intent_id)]
    assert "order 31 to sell AAA" in said.reason
    assert "binds no order that makes a position smaller" in said.reason


def test_a_plan_that_only_reduces_is_judged_as_it_will_be_sent() -> None:
    limits = limited(turnover_max=0.35)

    def planned(*orders: PlannedOrder, state: TradingState) -> GateReport:
        return judge_plan(batch(*orders), BIG, market(), limits, state, "told", SIGNED, NOW)

    report = planned(ALL_OF_IT, state=TradingState.REDUCING)
    assert report.approved == (ALL_OF_IT.intent_id,)
    assert [v.outcome for v in report.verdicts if v.rule == "kill_switch"] == [Outcome.WARN]
    for state in (TradingState.ACTIVE, TradingState.HALTED):
        assert planned(ALL_OF_IT, state=state).approved == ()
    mixed = planned(order("AAA", "sell", 100), BUY, state=TradingState.REDUCING)
    assert len(mixed.approved) == 2, "trading may go on before the window, so the kill switch denies nothing"


ORDERS = st.lists(
    st.builds(order, st.sampled_from(NAMES), st.sampled_from(["buy", "sell"]), st.integers(1, 400)),
    max_size=6, unique_by=lambda one: one.intent_id,
)  # fmt: skip
WORKING = st.builds(
    OpenOrder, st.just("w"), st.sampled_from(NAMES), st.sampled_from(Side), st.integers(1, 50).map(Decimal)
)
ACCOUNTS = st.builds(
    snapshot,
    st.integers(60_000, 150_000),
    st.dictionaries(st.sampled_from(NAMES), st.integers(-100, 600).filter(bool), max_size=4),
    st.lists(WORKING, max_size=2).map(tuple),
).filter(lambda account: account.equity > 20_000)  # fmt: skip
TIGHTEST = {
    "turnover_max": 0.001, "turnover_max_initial": 0.001, "net_min": 4.0, "beta_min": 4.0,
    "tracking_error_max_annual": 0.0001, "benchmark": {"CCC": 1.0}, "repeated_executions_max": 1,
}  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(orders=ORDERS, account=ACCOUNTS, stop=st.sampled_from(sorted(STOPPED)), sent=st.integers(0, 3))
def test_in_reducing_every_reduction_passes_what_does_not_bind_it_and_nothing_else_passes(
    orders: list[PlannedOrder], account: AccountSnapshot, stop: str, sent: int
) -> None:
    context, changed, state = STOPPED[stop]
    moved = {key: value if state is TradingState.REDUCING else Decimal(10**7) for key, value in context.items()}
    messages = tuple(SentMessage(NOW, "AAA", side) for side in Side for _ in range(sent))
    limits: RiskLimits = limited(**TIGHTEST, **changed)
    wide: MarketContext = market(sent=messages, **moved)
    report = run(*orders, account=account, context=wide, limits=limits, state=state)
    reducing = reducing_orders(orders, account)
    assert set(report.approved) <= reducing
    unbound = NOT_OF_REDUCTIONS | {"repeated_execution"}
    assert not [v for v in report.denials if v.rule in unbound and v.intent_id in reducing]
    # Limits that bind a reduction too are wide here, but for cash, leverage and what a hedge holds up.
    longs = all(shares > 0 for shares in account.positions.values())
    if longs:
        assert set(report.approved) == reducing
