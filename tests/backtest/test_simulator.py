"""The simulator: every cent is accounted for, the future is not seen, and the rules are those of the daily run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest
from conftest import make_panel, random_panel
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.backtest import kernel
from octopus.backtest.config import BacktestConfig
from octopus.backtest.market import market_of, rules_of
from octopus.backtest.simulator import (
    BacktestResult,
    RuinError,
    buy_and_hold_decider,
    equal_weight_decider,
    run_backtest,
    run_benchmarks,
    simulate,
)
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot
from octopus.core.panel import Panel
from octopus.decision import DecisionConfig
from octopus.portfolio import rebalance
from octopus.portfolio.config import PortfolioConfig

START = date(2015, 1, 5)
FREE = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
FRACTIONS = Sizing(lot=1e-6, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=True)
WHOLE = replace(FRACTIONS, lot=1.0, fractional=False)
CLOSE = BacktestConfig(start=START, execution="close", initial_cash=1000)
OPEN = BacktestConfig(start=START, execution="open", initial_cash=1000)


def fixed(*targets: float):  # type: ignore[no-untyped-def]
    return lambda row, weights: np.array(targets)


def wandering(seed: int, count: int):  # type: ignore[no-untyped-def]
    """Targets that depend on the row and on the weights held."""

    def decider(row: int, weights: np.ndarray) -> np.ndarray:
        wanted = np.random.default_rng([seed, row]).dirichlet(np.ones(count)) * 0.97
        return np.where(wanted < 0.05, 0.0, 0.7 * wanted + 0.3 * weights)

    return decider


def assert_identity(result: BacktestResult) -> None:
    """Change of equity = price P&L + dividends − costs, and equity = cash + marked shares."""
    explained = result.price_pnl + result.dividends + result.interest - result.total_costs
    np.testing.assert_allclose(np.diff(result.equity), explained[1:], rtol=0, atol=1e-6)
    held = np.where(result.shares != 0, result.shares * result.marks, 0.0).sum(axis=1)
    np.testing.assert_allclose(result.equity, result.cash + held, rtol=0, atol=1e-6)
    total = result.equity[0] + explained[1:].sum()
    assert total == pytest.approx(result.equity[-1], abs=1e-6)


def test_buy_and_hold_without_costs_by_hand() -> None:
    panel = make_panel(np.array([[10.0, 20.0], [10.0, 20.0], [11.0, 19.0], [12.0, 25.0]]))
    result = simulate(panel, buy_and_hold_decider(panel), CLOSE, FRACTIONS, FREE)
    np.testing.assert_allclose(result.equity, [1000, 1000, 500 * 1.1 + 500 * 0.95, 500 * 1.2 + 500 * 1.25])
    np.testing.assert_allclose(result.shares[-1], [50, 25])
    assert len(result.trades) == 2
    assert result.turnover.tolist() == [0, 1, 0, 0]


def test_costs_by_hand() -> None:
    panel = make_panel(np.array([[10.0], [10.0], [10.0], [12.0]]))
    costs = CostModel(commission_bps=10, half_spread_bps=30, slippage_bps=20)
    result = simulate(panel, fixed(0.5), CLOSE, WHOLE, costs)
    # 50 shares at 10.05, commission 0.1 % of 502.50; the day after, the weight is 500/996.9975: not a share to trade.
    assert result.trades.price.tolist() == pytest.approx([10.05])
    assert result.trades.shares.tolist() == [50]
    assert result.costs["spread_slippage"][1] == pytest.approx(2.5)
    assert result.costs["commission"][1] == pytest.approx(0.5025)
    assert result.equity[1] == pytest.approx(1000 - 2.5 - 0.5025)
    assert_identity(result)


def test_orders_fill_at_the_next_open_or_close_and_never_in_their_own_session() -> None:
    close, opening = np.array([[10.0], [20.0], [40.0]]), np.array([[9.0], [16.0], [32.0]])
    panel = make_panel(close, open=opening)
    at_open = simulate(panel, fixed(0.8), OPEN, WHOLE, FREE)
    assert (at_open.trades.session[0], at_open.trades.price[0]) == (panel.sessions[1], 16.0)
    assert at_open.trades.shares[0] == 62  # 80 shares were sized at 10; at 16, cash pays for 62
    assert at_open.equity[1] == 1000 + 62 * 4
    at_close = simulate(panel, fixed(0.8), CLOSE, WHOLE, FREE)
    assert (at_close.trades.price[0], at_close.trades.shares[0], at_close.equity[1]) == (20.0, 50, 1000.0)
    no_open = simulate(make_panel(close), fixed(0.8), OPEN, WHOLE, FREE)
    assert no_open.execution == "close"
    assert np.array_equal(no_open.equity, at_close.equity)


def test_without_a_bar_the_order_expires_and_the_position_keeps_its_mark() -> None:
    close = np.array([[10.0, 10.0], [np.nan, 10.0], [12.0, 10.0], [np.nan, 10.0], [15.0, 10.0]])
    panel = make_panel(close)
    result = simulate(panel, fixed(0.5, 0.5), CLOSE.model_copy(update={"rebalance_sessions": 2}), WHOLE, FREE)
    assert result.shares[1].tolist() == [0, 50]  # decided on row 0, no bar on row 1
    assert result.shares[2].tolist() == [0, 50]  # and not made good later
    assert result.shares[4, 0] == 0  # decided on row 2, again no bar on row 3
    held = simulate(make_panel(np.array([[10.0], [10.0], [np.nan], [12.0]])), fixed(0.5), CLOSE, WHOLE, FREE)
    assert held.equity[2] == held.equity[1]


def test_a_split_multiplies_shares_and_cancels_what_was_planned() -> None:
    close = np.array([[30.0], [30.0], [15.0], [15.0]])
    split = np.array([[1.0], [1.0], [2.0], [1.0]])
    result = simulate(make_panel(close, split=split), fixed(0.6), CLOSE, WHOLE, FREE)
    assert result.shares[:, 0].tolist() == [0, 20, 40, 40]
    np.testing.assert_allclose(result.equity, 1000)
    odd = simulate(make_panel(close, split=np.where(split == 2, 0.3, 1)), fixed(0.6), CLOSE, WHOLE, FREE)
    assert odd.shares[2, 0] == 6
    whole = simulate(make_panel(close * 1.0, split=np.where(split == 2, 0.33, 1)), fixed(0.6), CLOSE, WHOLE, FREE)
    assert whole.shares[2, 0] == 6  # 6.6 new shares, 0.6 of one paid in cash at 30 / 0.33
    assert whole.cash[2] == pytest.approx(400 + 0.6 * 30 / 0.33)


def test_a_dividend_is_paid_on_the_shares_held_before_the_ex_session() -> None:
    close = np.array([[10.0], [10.0], [9.0], [9.0]])
    dividend = np.array([[0.0], [1.0], [1.0], [0.0]])
    result = simulate(make_panel(close, dividend=dividend), fixed(0.5), CLOSE, WHOLE, FREE)
    assert result.dividends.tolist() == [0, 0, 50, 0]  # the first ex-session is the one of the purchase itself
    assert result.equity[2] == pytest.approx(1000)
    assert_identity(result)


def test_a_spin_off_is_no_loss_and_its_money_comes_at_the_close() -> None:
    """50 shares of 10 that brings 2 in shares of another company: sold at their first close, too late for the open."""
    close = np.array([[10.0, 5.0]] * 2 + [[8.0, 6.0]] * 2)
    spin_off = np.zeros((4, 2))
    spin_off[2, 0] = 2.0
    panel = make_panel(close, spin_off=spin_off)
    assert panel.total_return[1:, 0].tolist() == [0, 0, 0]
    wanted = np.array([[0.5, 0.0], [np.nan, 0.5], [np.nan, np.nan], [np.nan, np.nan]])
    result = simulate(panel, lambda row, _: wanted[row], CLOSE, FRACTIONS, FREE)
    assert result.equity.tolist() == pytest.approx([1000] * 4)
    assert result.dividends.tolist() == [0, 0, 100, 0]
    assert result.shares[2].tolist() == pytest.approx([50, 500 / 6]), "of 100 wanted, which 600 would have paid"
    assert result.cash.tolist() == pytest.approx([1000, 500, 100, 100])
    unknown = make_panel(close, spin_off=np.where(spin_off > 0, np.nan, 0.0))
    assert simulate(unknown, fixed(0.5, 0.0), CLOSE, FRACTIONS, FREE).equity[2] == 900, "nobody has a price of it"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("config", [OPEN, CLOSE])
@pytest.mark.parametrize("sizing", [WHOLE, FRACTIONS, replace(WHOLE, band=0.01, cash_buffer=0.02)])
def test_every_cent_is_accounted_for(seed: int, config: BacktestConfig, sizing: Sizing) -> None:
    panel = random_panel(seed, actions=True)
    rich = config.model_copy(update={"initial_cash": 250_000.0})
    result = simulate(panel, wandering(seed, 6), rich, sizing, CostModel(commission_min=1.0))
    assert len(result.trades) > 100
    assert_identity(result)
    assert result.cash.min() >= -1e-6
    assert result.shares.min() >= 0
    net = (result.trades.side * result.trades.shares * result.trades.price + result.trades.fees).sum()
    fractions = result.cash[-1] - (250_000 - net + result.dividends.sum())  # of shares, paid in cash at splits
    assert fractions == pytest.approx(0, abs=1e-6) if sizing.fractional else fractions >= -1e-6


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_the_future_changes_nothing_that_was_done_before(seed: int) -> None:
    panel, cut = random_panel(seed, 420, 5, actions=True), 360
    generator = np.random.default_rng(99)
    noisy = replace(
        panel,
        **{
            name: np.vstack([getattr(panel, name)[:cut], generator.uniform(50, 150, (420 - cut, 5))])
            for name in ("close", "open")
        },
        total_return=np.vstack([panel.total_return[:cut], generator.normal(0, 0.1, (420 - cut, 5))]),
        split=np.vstack([panel.split[:cut], np.ones((420 - cut, 5))]),
    )
    decision = DecisionConfig()
    config = BacktestConfig(start=START, execution="open")
    left, right = run_backtest(panel, config, decision), run_backtest(noisy, config, decision)
    assert np.array_equal(left.targets[:cut], right.targets[:cut], equal_nan=True)
    for name in ("equity", "cash", "shares"):
        assert np.array_equal(getattr(left, name)[:cut], getattr(right, name)[:cut])
    before = [trades.session < panel.sessions[cut] for trades in (left.trades, right.trades)]
    assert before[0].sum() == before[1].sum() > 0
    for name in ("instrument", "side", "shares", "price", "fees"):
        ours, theirs = getattr(left.trades, name)[before[0]], getattr(right.trades, name)[before[1]]
        assert np.array_equal(ours, theirs)


def test_a_simulation_that_ends_earlier_is_the_beginning_of_a_longer_one() -> None:
    panel = random_panel(8)
    whole = run_backtest(panel, BacktestConfig(start=START), DecisionConfig())
    part = run_backtest(panel.rows(0, 300), BacktestConfig(start=START), DecisionConfig())
    assert np.array_equal(whole.equity[:300], part.equity)
    assert np.array_equal(whole.targets[:300], part.targets)


def test_predictions_of_nan_abstain() -> None:
    panel = random_panel(9, 320)
    silent = run_backtest(panel, BacktestConfig(start=START), DecisionConfig(), np.full(panel.close.shape, np.nan))
    without = run_backtest(panel, BacktestConfig(start=START), DecisionConfig())
    assert np.array_equal(silent.equity, without.equity)
    loud = run_backtest(
        panel, BacktestConfig(start=START), DecisionConfig(), np.random.default_rng(1).normal(size=panel.close.shape)
    )
    assert not np.array_equal(loud.equity, without.equity)
    with pytest.raises(MissingDataError, match="predictions have shape"):
        run_backtest(panel, BacktestConfig(start=START), DecisionConfig(), np.zeros((2, 2)))


def test_benchmarks_are_fully_invested_and_held() -> None:
    panel = random_panel(4)
    benchmarks = run_benchmarks(panel, BacktestConfig(start=START), DecisionConfig())
    assert benchmarks["equal_weight"].gross_exposure[1:].min() > 0.9
    assert len(benchmarks["buy_and_hold"].trades) <= len(panel.symbols)
    for result in benchmarks.values():
        assert_identity(result)


def test_a_period_without_sessions_is_refused() -> None:
    with pytest.raises(MissingDataError, match="0 sessions of the panel"):
        simulate(random_panel(1), fixed(*[0.1] * 6), BacktestConfig(start=date(2030, 1, 1)), WHOLE, FREE)


def test_ruin_is_said() -> None:
    panel = make_panel(np.array([[10.0], [10.0], [100.0]]))
    short = replace(WHOLE, long_only=False)
    with pytest.raises(RuinError, match="equity is"):
        simulate(panel, fixed(-1.0), CLOSE, short, FREE)


# -- the float rules are the Decimal ones ------------------------------------------------------------------------------

numbers = st.integers(0, 10**6)


@settings(max_examples=250, deadline=None)
@given(
    seed=numbers,
    fractional=st.booleans(),
    band=st.sampled_from([0.0, 0.003]),
    least=st.sampled_from([0, 500]),
    commission_min=st.sampled_from([0.0, 1.5]),
    euros=st.booleans(),
)
def test_sizing_is_the_plan_of_the_daily_run(
    seed: int, fractional: bool, band: float, least: int, commission_min: float, euros: bool
) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 12))
    costs = CostModel(commission_min=commission_min, fx_spread_bps=40)
    config = PortfolioConfig(
        fractional=fractional, trade_min_fraction=band, trade_min_notional=Decimal(least), cash_buffer=0.004
    )
    names = [f"S{i:02d}" for i in range(count)]
    prices = np.round(generator.uniform(1, 400, count), 3)
    held = np.where(generator.random(count) < 0.3, 0, generator.integers(0, 900, count)).astype(float)
    targets = np.where(generator.random(count) < 0.2, 0.0, generator.dirichlet(np.ones(count)))
    cash = float(np.round(generator.uniform(0, 200_000), 2))
    snapshot = AccountSnapshot(
        "paper",
        datetime(2022, 1, 1, tzinfo=UTC),
        Decimal(repr(cash)),
        {n: Decimal(repr(float(h))) for n, h in zip(names, held, strict=True) if h},
        {n: Decimal(repr(float(p))) for n, p in zip(names, prices, strict=True)},
    )
    orders = rebalance.plan_orders(
        "b", {n: float(t) for n, t in zip(names, targets, strict=True)}, snapshot, config, costs,
        foreign=names[::2] if euros else (),
    )  # fmt: skip
    exact = np.zeros(count)
    for order in orders:
        exact[names.index(order.instrument)] = float(order.signed_quantity)
    equity = float(snapshot.equity)
    panel = make_panel(prices[None, :])
    if euros:
        units = tuple("EUR" if place % 2 == 0 else "USD" for place in range(count))
        rate = np.array([[2.0 if unit == "EUR" else 1.0 for unit in units]])
        panel = replace(panel, close=panel.close / rate, base="USD", currency=units, rate=rate)
    rules = rules_of(Sizing.of(config), costs, CLOSE, 252)
    account = kernel.new_account(count, cash)
    account.held[:], account.money[1] = held, equity
    kernel.plan(0, targets, market_of(panel, CLOSE, "close", costs, None, long_only=True), rules, account)
    ours = account.pending.copy()
    np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 if fractional else 1e-9)
    # And the rule after an overnight gap.
    gapped = np.round(prices * generator.uniform(0.8, 1.3, count), 3)
    left = ours.copy()
    kernel.afford(left, gapped, np.full(count, costs.price_move), np.empty((2, count)), cash, rules)
    right = rebalance.affordable(
        {n: Decimal(repr(float(c))) for n, c in zip(names, ours, strict=True) if c},
        {n: Decimal(repr(float(p))) for n, p in zip(names, gapped, strict=True)},
        Decimal(repr(cash)),
        costs,
        config.lot,
    )
    expected = np.array([float(right.get(n, 0)) for n in names])
    np.testing.assert_allclose(left, expected, rtol=0, atol=2e-6 if fractional else 1e-9)


def test_targets_of_nan_leave_positions_alone() -> None:
    panel: Panel = make_panel(np.array([[10.0, 10.0]] * 4))
    result = simulate(panel, lambda row, w: np.array([0.5, np.nan]), CLOSE, WHOLE, FREE)
    assert result.shares[-1].tolist() == [50, 0]
    equal = simulate(panel, equal_weight_decider(panel), CLOSE, WHOLE, FREE)
    assert equal.shares[-1].tolist() == [50, 50]
