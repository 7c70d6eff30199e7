"""The one decision function: today's run and the backtest agree to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import make_panel, random_panel

from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json
from octopus.core.panel import Panel
from octopus.decision import DecisionConfig, decide, prepare
from octopus.portfolio.config import Constraints, PortfolioConfig

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
    assert "turnover_max = 0.05" in kept.fallback
    assert kept.certificate_record() == {"status": "fallback", "reason": kept.fallback}
    config = clash("cash")
    gone = decide(prepare(panel, config), -1, None, previous, config)
    assert not gone.target_weights.any()
    assert str(gone.fallback).startswith("cash: ")


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
