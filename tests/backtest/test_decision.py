"""The one decision function: today's run and the backtest agree to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import get_args

import numpy as np
import pytest
from conftest import make_panel, random_panel

from octopus.backtest.config import BacktestConfig
from octopus.backtest.simulator import run_backtest
from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json
from octopus.core.panel import Panel
from octopus.decision import DecisionConfig, decide, prepare
from octopus.portfolio.config import Constraints, Method, PortfolioConfig
from octopus.portfolio.optimiser import optimise
from octopus.portfolio.problem import Problem, Solution, SolverError

CONFIG = DecisionConfig()


def assert_same(panel: Panel, rows: range) -> None:
    """Each row decided from a panel that ends there, and from one that goes on."""
    whole = prepare(panel, CONFIG)
    generator = np.random.default_rng(rows.start)
    weights = np.full(20, 0.04)
    for row in rows:
        session: date = panel.sessions[row].item()
        predictions = generator.normal(size=20) if row % 3 else None
        today = decide(prepare(panel.until(session), CONFIG), -1, predictions, weights, CONFIG)
        then = decide(whole, row, predictions, weights, CONFIG)
        assert today.session == then.session == session
        assert np.array_equal(today.target_weights, then.target_weights)
        assert np.array_equal(today.alpha, then.alpha)
        for name, values in then.signals.items():
            assert np.array_equal(today.signals[name], values, equal_nan=True)
        assert today.certificate == then.certificate
        assert (today.fallback, then.fallback) == (None, None)
        weights = then.target_weights


@pytest.mark.parametrize("first", [1500, 4700, 7500])
def test_today_decides_as_the_backtest_did(sample_panel: Panel, first: int) -> None:
    """Ninety sessions in three decades."""
    assert_same(sample_panel.rows(first, first + 400), range(280, 310))


def test_today_decides_as_the_backtest_did_after_thirty_years(sample_panel: Panel) -> None:
    assert_same(sample_panel, range(8310, 8312))


def test_a_decision_has_its_certificate(sample_panel: Panel) -> None:
    panel = sample_panel.rows(0, 800)
    made = decide(prepare(panel, CONFIG), 799, None, np.zeros(20), CONFIG)
    assert made.certificate is not None
    assert made.certificate.primal_residual < 1e-5
    assert set(made.signals) == {"momentum", "mean_reversion", "sentiment"}
    assert made.target_weights.sum() <= CONFIG.portfolio.constraints.net_max + 1e-5
    assert made.target_weights.max() <= CONFIG.portfolio.constraints.name_weight_max
    record = json.loads(canonical_json(made.certificate_record()))
    assert record["status"] == "Solved"


def test_a_higher_prediction_is_bought(sample_panel: Panel) -> None:
    panel = sample_panel.rows(0, 800)
    ready = prepare(panel, CONFIG)
    before = decide(ready, -1, np.zeros(20) + np.arange(20) / 100, np.zeros(20), CONFIG)
    best = int(np.argmin(before.target_weights))
    predictions = np.arange(20) / 100.0
    predictions[best] = 5.0
    after = decide(ready, -1, predictions, np.zeros(20), CONFIG)
    assert after.target_weights[best] > before.target_weights[best]


def clash(fallback: str) -> DecisionConfig:
    limits = Constraints(net_min=0.9, net_max=0.95, turnover_max=0.05)
    return DecisionConfig(portfolio=PortfolioConfig(constraints=limits, fallback=fallback))  # type: ignore[arg-type]


def test_clashing_limits_keep_or_go_to_cash_and_say_so() -> None:
    panel = random_panel(1, 320)
    previous = np.array([0.2, 0.05, 0.0, 0.0, 0.0, 0.0])
    config = clash("keep")
    kept = decide(prepare(panel, config), -1, None, previous, config)
    np.testing.assert_allclose(kept.target_weights, [0.12, 0.05, 0, 0, 0, 0])
    assert kept.certificate is None
    assert kept.fallback is not None
    assert kept.fallback.startswith("keep: no weights satisfy all limits")
    assert "net_min = 0.9 by 0.6" in kept.fallback
    assert kept.certificate_record() == {"status": "fallback", "reason": kept.fallback}
    config = clash("cash")
    gone = decide(prepare(panel, config), -1, None, previous, config)
    assert not gone.target_weights.any()
    assert str(gone.fallback).startswith("cash: ")


def test_an_account_whose_only_position_cannot_be_traded_and_exceeds_a_limit_keeps_it() -> None:
    close = random_panel(1, 320).close.copy()
    close[-1, 0] = np.nan
    panel = make_panel(close)
    config = DecisionConfig(portfolio=PortfolioConfig(constraints=Constraints(name_weight_max=1.0)))
    held = np.array([0.99, 0.0, 0.0, 0.0, 0.0, 0.0])
    made = decide(prepare(panel, config), -1, None, held, config)
    np.testing.assert_array_equal(made.target_weights, held)
    assert str(made.fallback).startswith("keep: no weights satisfy all limits")


@pytest.mark.parametrize("fallback", ["keep", "cash"])
def test_weights_held_that_are_no_numbers_are_no_decision(fallback: str) -> None:
    panel = random_panel(1, 320)
    config = DecisionConfig(portfolio=PortfolioConfig(fallback=fallback))  # type: ignore[arg-type]
    held = np.array([np.nan, 0.05, np.inf, 0.0, 0.0, 0.0])
    with pytest.raises(SolverError, match=r"previous_weights of S00, S02 on 2016-03-25 are not finite numbers"):
        decide(prepare(panel, config), -1, None, held, config)


def test_a_backtest_takes_no_missing_target_of_the_decision_for_a_position_to_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = random_panel(1, 320)

    def broken(problem: Problem, method: Method) -> Solution:
        solution = optimise(problem, method)
        return replace(solution, weights=np.where(np.arange(6) == 2, np.nan, solution.weights))

    monkeypatch.setattr("octopus.decision.optimise", broken)
    with pytest.raises(SolverError, match=rf"target_weights of {panel.symbols[2]} on .* are not finite"):
        run_backtest(panel, BacktestConfig(), CONFIG)


def test_a_view_on_a_price_that_stands_still_takes_the_fallback_and_says_so() -> None:
    close = random_panel(1, 320).close.copy()
    close[:, 0] = 1.0
    panel = make_panel(close)
    views, held = np.linspace(-1, 1, 6), np.array([0.2, 0.05, 0.0, 0.0, 0.0, 0.0])
    config = DecisionConfig(portfolio=PortfolioConfig(method="black_litterman", covariance_estimator="sample"))
    made = decide(prepare(panel, config), -1, views, held, config)
    np.testing.assert_allclose(made.target_weights, [0.12, 0.05, 0, 0, 0, 0])
    assert str(made.fallback).startswith("keep: the covariance of the 6 instruments with views has no inverse (1 of ")
    shrunk = DecisionConfig(portfolio=PortfolioConfig(method="black_litterman", covariance_estimator="ledoit_wolf"))
    assert decide(prepare(panel, shrunk), -1, views, held, shrunk).fallback is None


def test_what_is_not_known_is_not_bought_and_what_left_the_universe_is_sold() -> None:
    panel = random_panel(2, 320)
    close, member = panel.close.copy(), panel.member.copy()
    close[:250, 0] = np.nan  # too young: its risk is unknown
    close[-1, 1] = np.nan  # no bar today: it cannot be traded
    close[-1, 2:] = np.where(np.isnan(close[-1, 2:]), 100.0, close[-1, 2:])
    close[-1, 0] = 100.0
    member[-1, 2] = False
    panel = make_panel(close, member=member)
    held = np.array([0.05, 0.2, 0.06, 0.0, 0.0, 0.0])
    made = decide(prepare(panel, CONFIG), -1, None, held, CONFIG)
    assert made.target_weights[0] <= 0.05
    assert made.target_weights[1] == 0.2
    assert made.target_weights[2] == 0.0
    empty = decide(prepare(panel, CONFIG), -1, None, np.zeros(6), CONFIG)
    assert not empty.target_weights[:3].any()


def test_losses_are_told_from_where_the_youngest_instrument_begins() -> None:
    """Before that a young instrument would look like cash, and its share grow with what is not known of it."""
    panel = random_panel(2, 320)
    close = panel.close.copy()
    close[:170, 0] = np.nan  # young, with 149 returns
    close[:250, 1] = np.nan  # too young: its risk is unknown
    close[-1] = np.where(np.isnan(close[-1]), 100.0, close[-1])
    panel = make_panel(close)
    config = DecisionConfig(portfolio=PortfolioConfig(method="minimum_cvar", constraints={"turnover_max": 2}))  # type: ignore[arg-type]
    held = np.array([0.0, 0.05, 0.0, 0.0, 0.0, 0.0])
    made = decide(prepare(panel, config), -1, None, held, config)
    scenarios = made.problem.scenarios
    assert scenarios is not None
    window = np.nan_to_num(panel.total_return[171:]) * np.sqrt(5)
    known = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(scenarios[:, known], window[:, known])
    riskiest = known[int(np.argmax(made.problem.covariance.diagonal()[known]))]
    np.testing.assert_array_equal(scenarios[:, 1], scenarios[:, riskiest])
    assert made.certificate is not None
    assert made.certificate.measures["scenarios"] == 149
    none_known = decide(prepare(panel.rows(0, 80), config), -1, None, held * 0, config)
    assert none_known.problem.scenarios is not None
    assert not none_known.problem.scenarios.any()


def test_before_there_is_any_history_nothing_is_bought() -> None:
    panel = random_panel(3, 60)
    made = decide(prepare(panel, CONFIG), 40, None, np.zeros(6), CONFIG)
    assert not made.target_weights.any()
    assert made.fallback is None


def test_wrong_shapes_and_rows_are_refused() -> None:
    ready = prepare(random_panel(4, 60), CONFIG)
    with pytest.raises(MissingDataError, match="row 60 is not in the panel of 60 sessions"):
        decide(ready, 60, None, np.zeros(6), CONFIG)
    with pytest.raises(MissingDataError, match=r"previous_weights has shape \(5,\), expected \(6,\)"):
        decide(ready, -1, None, np.zeros(5), CONFIG)


def test_sentiment_counts_only_where_it_is_known() -> None:
    panel = random_panel(6, 320)
    sentiment = np.full(panel.close.shape, np.nan)
    sentiment[-1] = np.linspace(-1, 1, 6)
    spoken = decide(prepare(replace(panel, sentiment=sentiment), CONFIG), -1, None, np.zeros(6), CONFIG)
    silent = decide(prepare(panel, CONFIG), -1, None, np.zeros(6), CONFIG)
    assert np.isnan(silent.signals["sentiment"]).all()
    assert not np.array_equal(spoken.alpha, silent.alpha)


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_decides_within_its_limits_and_says_how(sample_panel: Panel, method: Method) -> None:
    panel = sample_panel.rows(0, 800)
    config = DecisionConfig(portfolio=PortfolioConfig(method=method))
    held = np.zeros(20)
    for row in (780, 790):
        made = decide(prepare(panel, config), row, np.arange(20) / 100.0, held, config)
        assert made.fallback is None
        assert made.certificate is not None
        assert made.certificate.method == method
        assert made.target_weights.max() <= config.portfolio.constraints.name_weight_max
        if method not in ("mean_variance", "black_litterman"):
            assert made.target_weights.sum() == pytest.approx(0.97, abs=1e-4)
        assert json.loads(canonical_json(made.certificate_record()))["conditions"]
        again = decide(prepare(panel.rows(0, row + 1), config), -1, np.arange(20) / 100.0, held, config)
        assert np.array_equal(made.target_weights, again.target_weights)
        held = made.target_weights


def test_a_prediction_is_a_view_of_black_litterman(sample_panel: Panel) -> None:
    panel = sample_panel.rows(0, 800)
    config = DecisionConfig(portfolio=PortfolioConfig(method="black_litterman"))
    ready = prepare(panel, config)
    low = decide(ready, -1, np.arange(20) / 100.0, np.zeros(20), config)
    turned = decide(ready, -1, np.arange(20)[::-1] / 100.0, np.zeros(20), config)
    assert low.certificate is not None
    assert low.certificate.measures == {"views": 20.0}
    assert low.target_weights[:5].sum() < turned.target_weights[:5].sum()
    none = decide(ready, -1, None, np.zeros(20), config)
    assert none.certificate is not None
    assert none.certificate.measures == {"views": 0.0}


def test_sectors_and_volumes_of_the_configuration_bind() -> None:
    panel = random_panel(7, 320)
    panel = replace(panel, volume=np.where(np.isfinite(panel.close), 1000.0, np.nan))
    sectors = {"S00": "x", "S01": "x", "S02": "y"}
    limits = Constraints(sector_weight_max=0.2, adv_participation_max=0.1, name_weight_max=0.5)
    config = DecisionConfig(portfolio=PortfolioConfig(constraints=limits, sectors=sectors, method="equal_weight"))
    made = decide(prepare(panel, config), -1, None, np.zeros(6), config, 1e6)
    weights, price = made.target_weights, panel.close[-1]
    assert made.certificate is not None
    assert weights[:2].sum() <= 0.2 + 1e-5
    assert weights[3:].sum() <= 0.2 + 1e-5
    assert (weights * 1e6 / np.nan_to_num(price, nan=1.0) <= 0.1 * 1000 + 2).all()
    assert any(name.startswith("adv_participation_max:S") for name in made.certificate.active)
    with pytest.raises(MissingDataError, match="equity = None"):
        decide(prepare(panel, config), -1, None, np.zeros(6), config)
    nameless = DecisionConfig(portfolio=PortfolioConfig(constraints=Constraints(sector_weight_max=0.2)))
    with pytest.raises(MissingDataError, match=r"universe\.sectors"):
        decide(prepare(panel, nameless), -1, None, np.zeros(6), nameless)
    pseudo = replace(panel, price_basis="total_return")
    free = decide(prepare(pseudo, config), -1, None, np.zeros(6), config)
    assert free.target_weights.sum() > weights.sum()


def test_a_limit_against_a_benchmark_without_returns_is_refused() -> None:
    panel = random_panel(7, 320)
    young = replace(panel, total_return=panel.total_return.copy())
    young.total_return[:-20, 0] = np.nan
    free, bound = Constraints(), Constraints(beta_max=0.9)

    def decided(panel: Panel, name: str, limits: Constraints) -> float:
        config = DecisionConfig(portfolio=PortfolioConfig(benchmark={name: 1.0}, constraints=limits))
        return float(decide(prepare(panel, config), -1, None, np.zeros(6), config).target_weights.sum())

    assert decided(panel, "S00", bound) > 0
    assert decided(young, "S00", free) > 0
    for market, name, limits in ((young, "S00", bound), (panel, "NOPE", free)):
        with pytest.raises(MissingDataError, match=f"the returns of {name}, of portfolio.benchmark, are missing"):
            decided(market, name, limits)


def test_impact_makes_large_trades_dear() -> None:
    panel = random_panel(8, 320)
    panel = replace(panel, volume=np.where(np.isfinite(panel.close), 5000.0, np.nan))
    plain, dear = (
        DecisionConfig(portfolio=PortfolioConfig(base_return=0.01, impact=impact, impact_law=law))  # type: ignore[arg-type]
        for impact, law in ((0.0, "square_root"), (1.0, "square_root"))
    )
    held = np.zeros(6)
    many = decide(prepare(panel, plain), -1, None, held, plain, 1e7).target_weights
    fewer = decide(prepare(panel, dear), -1, None, held, dear, 1e7).target_weights
    assert fewer.sum() < many.sum()
    pseudo = replace(panel, price_basis="total_return")
    with pytest.raises(MissingDataError, match=r"portfolio\.impact = 1\.0 .* set it to 0"):
        decide(prepare(pseudo, dear), -1, None, held, dear, 1e7)
