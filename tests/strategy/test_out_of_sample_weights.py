"""Weights of the ensemble by what signals earned: of returns known at each decision, and of no others."""

from __future__ import annotations

import numpy as np
import pytest

from octopus.decision import DecisionConfig, decide, prepare
from octopus.strategy.config import EnsembleConfig, StrategyConfig
from octopus.strategy.ensemble import out_of_sample_weights, own_returns
from tests.strategy.test_truncation import random_panel, with_noisy_future
from tests.strategy.test_windows_declared import panel_of

CHOSEN = EnsembleConfig(weights="out_of_sample", window_sessions=63, sessions_min=21, shrinkage=0.25)
WEIGHTS = {"good": 0.1, "bad": 0.5, "off": 0.0}


def panel_and_signals(rows: int = 200):
    random = np.random.default_rng(2)
    returns = random.normal(0, 0.01, (rows, 8))
    panel = panel_of(100 * np.cumprod(1 + returns, axis=0))
    seen = np.vstack([panel.total_return[2:], np.zeros((2, 8))])
    good = np.where(np.isnan(seen), 0.0, seen) * 100 + random.normal(0, 1, seen.shape)
    return panel, {"good": good, "bad": -good, "off": good}


def test_what_earned_gets_more_and_the_sum_stays() -> None:
    panel, signals = panel_and_signals()
    weights = out_of_sample_weights(signals, panel, WEIGHTS, CHOSEN)
    assert set(weights) == {"good", "bad"}
    np.testing.assert_allclose(weights["good"] + weights["bad"], 0.6)
    assert weights["good"][-1] == pytest.approx(0.6 * (0.75 + 0.125)), "a negative ratio has the equal part alone"
    assert weights["good"][5] == pytest.approx(0.3), "too little was shown for a judgement"


def test_against_a_loop() -> None:
    panel, signals = panel_and_signals(120)
    signals["good"][40:50] = np.nan
    earned, row = own_returns(signals, panel), 100
    for name in ("good", "bad"):
        scores = np.nan_to_num(signals[name][row - 2])
        assert earned[name][row] == pytest.approx(scores @ panel.total_return[row] / np.abs(scores).sum())
    assert np.isnan(earned["good"][42:52]).all()
    by_variance = CHOSEN.model_copy(update={"by": "inverse_variance"})
    weights = out_of_sample_weights(signals, panel, WEIGHTS, by_variance)
    merit = {name: 1 / np.nanvar(earned[name][row - 62 : row + 1], ddof=1) for name in ("good", "bad")}
    share = merit["good"] / sum(merit.values())
    assert weights["good"][row] == pytest.approx(0.6 * (0.75 * share + 0.125))


def test_a_signal_that_never_spoke_counts_like_the_mean_of_the_others() -> None:
    panel, signals = panel_and_signals()
    signals["mute"] = np.full(panel.close.shape, np.nan)
    weights = out_of_sample_weights(signals, panel, {"good": 1.0, "bad": 1.0, "mute": 1.0}, CHOSEN)
    assert weights["mute"][-1] == pytest.approx(1.0)
    assert weights["good"][-1] > weights["mute"][-1] > weights["bad"][-1]


def test_no_weight_knows_the_future_and_today_decides_as_the_backtest_did() -> None:
    panel = random_panel(7, 420)
    ensemble = {"weights": "out_of_sample", "window_sessions": 63, "sessions_min": 21}
    config = DecisionConfig(strategy=StrategyConfig.model_validate({"ensemble": ensemble}))
    whole, row = prepare(panel, config), 400
    weights = whole.weights_at(row, config.strategy)
    assert weights["momentum"] != config.strategy.momentum.weight
    assert weights["model"] == config.strategy.model.weight
    for other in (panel.rows(0, row + 1), with_noisy_future(panel, row + 1)):
        ready = prepare(other, config)
        for name, values in whole.weights.items():
            assert np.array_equal(ready.weights[name][: row + 1], values[: row + 1]), name
        then, now = (decide(one, row, np.arange(6.0), np.zeros(6), config) for one in (whole, ready))
        assert np.array_equal(then.target_weights, now.target_weights)
    plain = DecisionConfig()
    assert not np.array_equal(decide(prepare(panel, plain), row, None, np.zeros(6), plain).alpha,
                              decide(whole, row, None, np.zeros(6), config).alpha)  # fmt: skip


def test_settings_that_never_judge_are_refused_and_the_usual_ones_are_not_told() -> None:
    with pytest.raises(ValueError, match="sessions_min = 252 is never reached in window_sessions = 63"):
        EnsembleConfig(window_sessions=63)
    assert "ensemble" not in StrategyConfig().model_dump()
