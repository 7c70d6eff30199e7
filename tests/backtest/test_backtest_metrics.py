"""Measures: against published values, and by hand."""

from __future__ import annotations

import json
import math
from datetime import date

import numpy as np
import pytest
from conftest import random_panel

from octopus.backtest.config import BacktestConfig
from octopus.backtest.metrics import max_drawdown, measure, performance, yearly_returns
from octopus.backtest.simulator import run_backtest, run_benchmarks
from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json
from octopus.decision import DecisionConfig

MIXED = np.array([np.nan, 1.0, 10.0, -4.0, 2.0, 3.0, 2.0, 1.0, -10.0]) / 100
"""The series `mixed_returns` of empyrical's own tests."""


def test_against_empyrical() -> None:
    ours = performance(MIXED)
    assert ours.sharpe == pytest.approx(1.7238613961706866)
    assert ours.volatility == pytest.approx(0.9136465399704637)
    assert ours.max_drawdown == pytest.approx(-0.1)
    assert ours.sortino == pytest.approx(2.605531251673693)
    # empyrical counts the leading NaN as a session; we count returns.
    theirs = performance(MIXED, periods=9)
    assert theirs.cagr == pytest.approx(1.9135925373194231)
    assert theirs.calmar == pytest.approx(19.135925373194233)
    assert ours.cagr == pytest.approx(2.33, abs=0.005)
    assert performance(MIXED, required=10.0).omega == pytest.approx(0.83354, abs=5e-6)


def test_by_hand() -> None:
    ours = performance(np.array([0.5, -0.5, 0.0, 1.0]))
    assert ours.total_return == pytest.approx(0.5)
    assert ours.cagr == pytest.approx(1.5**63 - 1)
    assert ours.hit_rate == 0.5
    assert ours.max_drawdown == pytest.approx(-0.5)
    assert (ours.best, ours.worst) == (1.0, -0.5)
    assert ours.sortino == pytest.approx(0.25 / 0.25 * math.sqrt(252))


def test_a_first_loss_is_a_drawdown() -> None:
    assert performance(np.array([-0.2, 0.1])).max_drawdown == pytest.approx(-0.2)


def test_drawdown_has_its_dates() -> None:
    sessions = np.arange("2020-01-01", "2020-01-09", dtype="datetime64[D]")
    equity = np.array([100.0, 120, 90, 110, 121, 100, 105, 110])
    fall = max_drawdown(sessions, equity)
    assert (fall.depth, fall.peak, fall.trough) == (-0.25, date(2020, 1, 2), date(2020, 1, 3))
    assert fall.recovery == date(2020, 1, 5)
    assert max_drawdown(sessions, equity[::-1].copy()).recovery is None
    assert max_drawdown(sessions, np.arange(1.0, 9)).depth == 0.0


def test_years_compound() -> None:
    sessions = np.array(["2020-12-30", "2020-12-31", "2021-01-04"], dtype="datetime64[D]")
    assert yearly_returns(sessions, np.array([0.1, 0.1, -0.5])) == pytest.approx({2020: 0.21, 2021: -0.5})


def test_no_returns_are_refused() -> None:
    with pytest.raises(MissingDataError, match="no returns"):
        performance(np.array([np.nan]))


def test_a_backtest_is_measured_against_its_benchmark_and_stored_as_json() -> None:
    panel = random_panel(3, 600)
    config = BacktestConfig(start=date(2016, 1, 4))
    result = run_backtest(panel, config, DecisionConfig())
    benchmark = run_benchmarks(panel, config, DecisionConfig())["equal_weight"]
    metrics = measure(result, benchmark, tried_before=10)
    assert metrics.cost_drag > 0
    assert sum(metrics.costs.values()) == pytest.approx(result.total_costs.sum())
    assert metrics.sharpe_low < metrics.strategy.sharpe < metrics.sharpe_high
    assert metrics.deflated_sharpe < measure(result, benchmark).deflated_sharpe
    assert metrics.active_return == metrics.strategy.cagr - metrics.benchmark.cagr
    itself = measure(benchmark, benchmark)
    assert (itself.beta, itself.tracking_error) == (pytest.approx(1.0), 0.0)
    stored = json.loads(canonical_json(itself.record()))
    assert stored["information_ratio"] is None
    assert stored["first"] == "2016-01-04"
    shorter = run_backtest(panel, config.model_copy(update={"end": date(2016, 9, 1)}), DecisionConfig())
    with pytest.raises(MissingDataError, match="different sessions"):
        measure(shorter, benchmark)
