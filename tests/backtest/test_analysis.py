"""Analysis: parts add up to the whole, and each table says what a hand calculation says."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import make_panel, random_panel

from octopus.backtest import analysis
from octopus.backtest.config import BacktestConfig
from octopus.backtest.metrics import performance
from octopus.backtest.simulator import run_benchmarks, simulate
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.decision import DecisionConfig

START = date(2015, 1, 5)
WHOLE = Sizing(lot=1.0, fractional=False, band=0.0, least_notional=0.0, cash_buffer=0.01, long_only=True)
CONFIG = BacktestConfig(start=START, initial_cash=200_000, interest_bps_year=100)


def replay(seed=4, length=700, **changes):
    panel = random_panel(seed, length, 6, actions=True)
    generator = np.random.default_rng(seed)
    volume = np.where(np.isnan(panel.close), np.nan, generator.integers(1_000, 50_000, panel.close.shape))
    panel = replace(panel, volume=volume)
    delisting = np.full(panel.close.shape, np.nan)
    delisting[200, 2] = 55.5
    wanted = generator.dirichlet(np.ones(6), length) * 0.95
    config = CONFIG.model_copy(update=changes)
    result = simulate(panel, lambda row, _: wanted[row], config, WHOLE, CostModel(), delisting=delisting)
    return analysis.Replay(panel, result, config, WHOLE, CostModel(), delisting)


def test_the_instruments_profits_add_up_to_the_change_of_equity_and_their_costs_to_the_costs():
    of = replay()
    found = analysis.by_instrument(of.result, of.panel)
    assert sum(one.profit for one in found) == pytest.approx(of.result.equity[-1] - of.result.equity[0])
    trading = sum(of.result.costs[kind].sum() for kind in ("spread_slippage", "commission", "impact"))
    assert sum(one.costs for one in found) == pytest.approx(trading)
    assert {one.name for one in found} == {*of.panel.symbols, analysis.REST}
    rest = found[-1]
    assert rest.profit == pytest.approx(of.result.interest.sum(), abs=0.002 * of.result.equity[0])
    groups = analysis.by_group(found, {"S00": "a", "S01": "a", "S02": "b"})
    assert sum(one.profit for one in groups) == pytest.approx(sum(one.profit for one in found))
    by_name = {one.name: one.profit for one in found}
    assert {one.name: one.profit for one in groups}["a"] == pytest.approx(by_name["S00"] + by_name["S01"])


def test_one_instruments_profit_by_hand():
    panel = make_panel(np.array([[10.0], [10.0], [12.0], [12.0]]), dividend=np.array([[0.0], [0.0], [0.5], [0.0]]))
    config = BacktestConfig(start=START, execution="close", initial_cash=1000)
    free = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
    held = simulate(
        panel, lambda row, w: np.array([0.5 if row == 0 else np.nan]), config, replace(WHOLE, cash_buffer=0.0), free
    )
    (one, rest) = analysis.by_instrument(held, panel)
    assert (one.profit, one.turnover, rest.profit) == (50 * 2 + 25, 500, 0)


def test_intervals_cover_the_measure_and_are_those_of_the_metrics():
    returns = np.random.default_rng(3).normal(0.0005, 0.01, 1500)
    found = {one.measure: one for one in analysis.intervals(returns)}
    own = performance(returns)
    for name, one in found.items():
        assert one.value == getattr(own, name)
        assert one.low < one.high
    assert found["sharpe"].low < own.sharpe < found["sharpe"].high
    # Independent days: the interval of the mean is about ± 1.96 standard errors.
    width = (found["sharpe"].high - found["sharpe"].low) / 2
    assert width == pytest.approx(1.96 * np.sqrt(252 / 1500), rel=0.2)
    whole = analysis._measures(returns[None, :], 252)
    for name, values in whole.items():
        assert values[0] == pytest.approx(getattr(own, name)), name
    assert np.isnan(analysis.intervals(returns[:30])[0].low)


def test_resampled_blocks_are_as_long_as_asked():
    rows = analysis.stationary_draws(1000, 200, 21.0, seed=1)
    jumps = (np.diff(rows, axis=1) % 1000 != 1).mean()
    assert jumps == pytest.approx(1 / 21, rel=0.05)
    assert set(np.unique(rows)) == set(range(1000))


def test_more_costs_earn_less_and_the_multiple_of_one_is_the_backtest():
    of = replay()
    found = {one.size: one for one in analysis.cost_sensitivity(of)}
    assert found[1.0].cagr == pytest.approx(performance(of.result.net_return[1:]).cagr)
    assert found[0.0].costs_annual == 0
    ordered = [found[size].cagr for size in analysis.COST_MULTIPLES]
    assert ordered == sorted(ordered, reverse=True)


def test_more_capital_earns_less_a_share_and_no_volume_no_curve():
    of = replay()
    found = analysis.capacity(of)
    assert [one.size for one in found] == [200_000 * multiple for multiple in analysis.CAPITALS]
    ordered = [one.cagr for one in found[:3]]
    assert ordered == sorted(ordered, reverse=True)
    assert found[2].costs_annual > 3 * found[0].costs_annual
    assert analysis.capacity(replace(of, panel=replace(of.panel, volume=np.full(of.panel.close.shape, np.nan)))) == []


def test_factors_of_a_strategy_that_is_the_market():
    of = replay(length=700)
    factors = analysis.factor_returns(of.panel)
    assert set(factors) == {"market", "momentum", "low_volatility", "size"}
    planted = 0.0002 + 0.7 * factors["market"] - 0.3 * factors["momentum"]
    report = analysis.by_factor(replace(of.result, net_return=planted), of.panel)
    loads = {load.name: load for load in report.loads}
    assert loads["market"].beta == pytest.approx(0.7)
    assert loads["momentum"].beta == pytest.approx(-0.3)
    assert loads["alpha"].annual == pytest.approx(0.0002 * 252)
    assert report.explained == pytest.approx(1.0)
    later = replace(of.panel, total_return=np.where(np.arange(700)[:, None] > 600, 9.9, of.panel.total_return))
    for name, values in analysis.factor_returns(later).items():
        assert np.array_equal(values[:601], factors[name][:601]), "a factor saw the future"


def test_a_crisis_is_told_where_it_lies_within_the_backtest():
    of = replay(length=700)
    benchmark = run_benchmarks(of.panel, CONFIG, DecisionConfig())["equal_weight"]
    names = [one.crisis.name for one in analysis.stress(of.result, benchmark)]
    assert names == ["China and oil"]
    days = of.result.sessions
    crisis = analysis.Crisis("mine", days[10].item(), days[20].item())
    (one,) = analysis.stress(of.result, benchmark, [crisis])
    assert one.strategy == pytest.approx(of.result.equity[20] / of.result.equity[9] - 1)
    assert one.benchmark == pytest.approx(benchmark.equity[20] / benchmark.equity[9] - 1)
    assert one.worst <= min(one.strategy, 0.0)
