"""Rules that are off by default: impact, a cap on volume, limits, borrow, financing, interest; and known targets."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import make_panel, random_panel
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.backtest.config import BacktestConfig
from octopus.backtest.metrics import measure
from octopus.backtest.simulator import BacktestResult, simulate, simulate_targets
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel

START = date(2015, 1, 5)
FREE = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
ANY = Sizing(lot=0.0, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=False)
WHOLE = replace(ANY, lot=1.0, fractional=False, long_only=True)


def config(*, limit: float | None = None, **changes: object) -> BacktestConfig:
    if limit is not None:
        changes["schedule"] = {"limit_bps": limit}
    return BacktestConfig.model_validate({"start": START, "execution": "close", "initial_cash": 1000, **changes})


def always(*weights: float):
    return lambda row, held: np.array(weights)


def with_volume(panel: Panel, seed: int) -> Panel:
    generator = np.random.default_rng(seed)
    high = np.fmax(panel.close, panel.open) * 1.01
    low = np.fmin(panel.close, panel.open) * 0.99
    volume = np.where(np.isnan(panel.close), np.nan, generator.integers(50, 5000, panel.close.shape))
    return replace(panel, high=high, low=low, volume=volume)


def assert_explained(result: BacktestResult) -> None:
    explained = result.price_pnl + result.dividends + result.interest - result.total_costs
    np.testing.assert_allclose(np.diff(result.equity), explained[1:], rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    execution=st.sampled_from(["open", "close", "typical"]),
    limit=st.sampled_from([None, 0.0, 50.0]),
    participation=st.sampled_from([None, 0.1]),
    impact=st.sampled_from([0.0, 1.0]),
    long_only=st.booleans(),
    every=st.sampled_from([1, 3]),
)
def test_known_targets_give_the_bits_of_the_stepwise_run_and_every_cent_is_explained(
    seed, execution, limit, participation, impact, long_only, every
):
    panel = with_volume(random_panel(seed, length=160, actions=True), seed)
    generator = np.random.default_rng(seed)
    targets = generator.dirichlet(np.ones(6), len(panel.sessions)) * 0.9
    if not long_only:
        targets = targets * generator.choice([1.0, -0.3], targets.shape)
    targets[generator.random(targets.shape) < 0.05] = np.nan
    delisting = np.full(panel.close.shape, np.nan)
    delisting[100, 2] = 3.0
    chosen = config(
        execution=execution, limit=limit, participation_max=participation, impact=impact, rebalance_sessions=every,
        initial_cash=50_000, borrow_bps_year=300, financing_bps_year=500, interest_bps_year=200,
    )  # fmt: skip
    sizing = replace(WHOLE if seed % 2 else ANY, long_only=long_only)
    stepwise = simulate(panel, lambda row, _: targets[row], chosen, sizing, CostModel(), delisting=delisting)
    at_once = simulate_targets(panel, targets, chosen, sizing, CostModel(), delisting)
    assert_explained(stepwise)
    for name in ("equity", "cash", "shares", "marks", "price_pnl", "dividends", "interest", "turnover", "targets"):
        assert np.array_equal(getattr(stepwise, name), getattr(at_once, name), equal_nan=True), name
    for name in ("session", "instrument", "side", "shares", "price", "reference_price", "fees"):
        assert np.array_equal(getattr(stepwise.trades, name), getattr(at_once.trades, name)), name
    assert all(np.array_equal(stepwise.costs[kind], at_once.costs[kind]) for kind in stepwise.costs)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(MissingDataError, match="targets have shape"):
        simulate_targets(random_panel(1), np.zeros((2, 2)), config(), ANY, FREE)


def test_impact_is_the_square_root_of_the_share_of_volume():
    close = 10.0 * np.cumprod(np.tile([1.02, 1 / 1.02], 60))[:, None]
    panel = replace(make_panel(close), volume=np.full(close.shape, 400.0), high=close, low=close)
    late = config(start=panel.sessions[100].item(), impact=0.5)
    result = simulate(panel, always(1.0), late, ANY, FREE)
    sigma = np.std(panel.total_return[38:101, 0], ddof=1)
    first = result.trades.shares[0]
    moved = result.trades.price[0] / result.trades.reference_price[0] - 1
    # Both known at the decision, and of the order as it was sent: cash then pays for it with the impact.
    assert moved == pytest.approx(0.5 * sigma * np.sqrt(first / 400))
    assert 900 < first * result.trades.price[0] <= 1000
    assert result.costs["impact"][1] == pytest.approx(first * result.trades.reference_price[0] * moved)


def test_an_order_takes_its_share_of_the_volume_and_no_more():
    close = np.full((4, 1), 10.0)
    panel = replace(make_panel(close), volume=np.array([[100.0], [300.0], [np.nan], [1000.0]]))
    result = simulate(panel, always(1.0), config(participation_max=0.1), WHOLE, FREE)
    assert result.shares[:, 0].tolist() == [0, 30, 30, 100]


def test_a_limit_fills_at_the_limit_at_a_better_open_or_not_at_all():
    close = np.array([[100.0], [100.0], [100.0], [100.0]])
    panel = replace(
        make_panel(close), open=np.array([[100.0], [99.5], [98.0], [100.0]]),
        low=np.array([[100.0], [99.2], [97.0], [99.0]]), high=np.array([[100.0], [101.0], [101.0], [100.2]]),
    )  # fmt: skip
    bought = simulate(panel, always(0.5), config(limit=100, initial_cash=1000), ANY, FREE)
    # 99 is not reached in the first session; in the second the market opens below it.
    assert bought.trades.session.tolist()[0] == panel.sessions[2].item()
    assert bought.trades.price[0] == 98.0
    at_limit = simulate(panel, always(0.5), config(limit=75, initial_cash=1000), ANY, FREE)
    assert at_limit.trades.price[0] == 99.25
    # Nothing is paid for immediacy at the limit; at the open what it allows.
    dear = CostModel(commission_bps=0, half_spread_bps=40, slippage_bps=0)
    waited = simulate(panel, always(0.5), config(limit=75, initial_cash=1000), ANY, dear)
    assert waited.trades.price[0] == 99.25
    opened = simulate(panel, always(0.5), config(limit=100, initial_cash=1000), ANY, dear)
    assert opened.trades.price[0] == pytest.approx(98.0 * 1.004)
    barely = replace(panel, open=np.array([[100.0], [99.5], [98.9], [100.0]]))
    assert simulate(barely, always(0.5), config(limit=100, initial_cash=1000), ANY, dear).trades.price[0] == (
        pytest.approx(99.0, abs=1e-12)
    )


def test_borrow_financing_and_interest_accrue_on_the_close_before():
    close = np.full((3, 2), 10.0)
    rates = {"borrow_bps_year": 252, "financing_bps_year": 504, "interest_bps_year": 126}
    short = simulate(make_panel(close), always(-0.5, 0.0), config(**rates), ANY, FREE)
    assert short.costs["borrow"].tolist() == pytest.approx([0, 0, 500 * 1e-4])
    assert short.interest.tolist() == pytest.approx([0, 1000 * 0.5e-4, 1500.05 * 0.5e-4])
    # Long 100 shares, short 100 shares that go ex 12: what is owed is more than the cash.
    close, dividend = np.array([[10.0, 10.0]] * 2 + [[10.0, 1.0]] * 2), np.zeros((4, 2))
    dividend[2, 1] = 12.0
    debt = simulate(
        make_panel(close, dividend=dividend),
        lambda row, held: np.array([1.0, -1.0]) if row == 0 else np.full(2, np.nan),
        config(financing_bps_year=504), ANY, FREE,
    )  # fmt: skip
    assert debt.cash.tolist() == pytest.approx([1000, 1000, -200, -200 * (1 + 2e-4)])
    assert debt.costs["financing"].tolist() == pytest.approx([0, 0, 0, 0.04])


@pytest.mark.parametrize("asked", [{"impact": 1.0}, {"participation_max": 0.1}, {"limit": 5}, {"execution": "typical"}])
def test_a_rule_without_its_data_is_refused_by_name(asked):
    with pytest.raises(MissingDataError, match=next(iter(asked)).split("_")[0]):
        simulate(make_panel(np.full((3, 1), 10.0)), always(0.5), config(**asked), ANY, FREE)


def test_where_trading_never_ends_orders_fill_at_the_close_although_there_are_opens():
    """The open of t+1 is half an hour before t is decided: filling there would know the future's past."""
    panel = with_volume(random_panel(3, 60, 2), 3)
    coins = replace(panel, exchange="24/7")
    decided = config(execution="open")
    ours = simulate(coins, always(0.5, 0.5), decided, ANY, FREE)
    assert ours.execution == "close"
    assert simulate(panel, always(0.5, 0.5), decided, ANY, FREE).execution == "open"
    rows = np.searchsorted(coins.sessions, ours.trades.session)
    assert np.array_equal(ours.trades.reference_price, coins.close[rows, ours.trades.instrument])
    with pytest.raises(MissingDataError, match="limit_bps needs sessions that open after each decision"):
        simulate(coins, always(0.5, 0.5), config(limit=0), ANY, FREE)


def test_a_year_has_the_sessions_of_its_calendar():
    shares = random_panel(5, 200, 2)
    coins = replace(shares, exchange="24/7")
    rates = config(interest_bps_year=100)
    one, other = (simulate(panel, always(0.0, 0.0), rates, ANY, FREE) for panel in (shares, coins))
    assert (one.sessions_per_year, other.sessions_per_year) == (252, 365)
    assert one.interest[1] == pytest.approx(1000 * 0.01 / 252)
    assert other.interest[1] == pytest.approx(1000 * 0.01 / 365)
    held = [simulate(panel, always(0.5, 0.5), config(), ANY, FREE) for panel in (shares, coins)]
    by_252, by_365 = (measure(result, result) for result in held)
    assert by_365.strategy.sharpe / by_252.strategy.sharpe == pytest.approx((365 / 252) ** 0.5)
    assert by_365.strategy.volatility / by_252.strategy.volatility == pytest.approx((365 / 252) ** 0.5)
    assert by_365.turnover_annual / by_252.turnover_annual == pytest.approx(365 / 252)
    grown = 1 + by_252.strategy.total_return
    assert by_365.strategy.cagr == pytest.approx(grown ** (365 / 199) - 1)
    assert by_365.sharpe_low / by_252.sharpe_low == pytest.approx((365 / 252) ** 0.5)
