"""Labels that nobody could earn, serving from a frame, and how hard luck is discounted."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from octopus.core import stats
from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.trials import Trial
from octopus.models import evaluation, gates, walkforward
from octopus.models.base import Rows
from octopus.models.config import ModelConfig
from octopus.models.estimators import make
from octopus.models.labels import forward_return
from octopus.models.training import TrainingSet, build

SMALL = ModelConfig(train_min_sessions=300, test_sessions=60)


def noise_panel(rows: int = 700, columns: int = 20) -> Panel:
    returns = np.random.default_rng(8).normal(0, 0.01, (rows, columns))
    nan, ones = np.full(returns.shape, np.nan), np.ones(returns.shape)
    return Panel(
        sessions=np.busday_offset("2015-01-05", np.arange(rows)).astype("datetime64[D]"),
        symbols=tuple(f"S{i:02d}" for i in range(columns)),
        close=np.cumprod(1 + returns, axis=0), total_return=returns, open=nan, high=nan, low=nan, volume=nan,
        member=np.ones(returns.shape, dtype=bool), sentiment=nan, split=ones, dividend=np.zeros(returns.shape),
        price_basis="total_return",
    )  # fmt: skip


def with_hole(panel: Panel, row: int) -> Panel:
    """Instrument 0 has no bar on ``row``; the next bar's return spans the gap and is large."""
    close, returns = panel.close.copy(), panel.total_return.copy()
    close[row, 0] = returns[row, 0] = np.nan
    returns[row + 1, 0] = 0.5
    return replace(panel, close=close, total_return=returns)


def training_set(panel: Panel, excluded: np.ndarray | None = None, features: int = 4) -> TrainingSet:
    values = np.random.default_rng(9).normal(size=(*panel.close.shape, features))
    none = np.zeros(panel.close.shape, dtype=bool)
    return build(panel, tuple(f"f{i}" for i in range(features)), values, SMALL, none if excluded is None else excluded)


def test_a_decision_that_cannot_be_executed_has_no_label_and_no_spread() -> None:
    panel = with_hole(noise_panel(), 401)
    labels = forward_return(panel, 5).values
    assert np.isnan(labels[400, 0]), "no bar to enter at"
    assert np.isfinite(labels[401, 0]), "entered at the next bar, after the gap"
    training = training_set(panel)
    liking = np.tile(-np.arange(20.0), (700, 1))
    assert abs(evaluation.spread_returns(training, liking)[400]) < 0.05
    assert np.isnan(training.labels[400, 0])


@pytest.mark.parametrize("name", ["ridge", "elastic_net", "xgboost", "lightgbm"])
def test_a_pandas_frame_is_served_the_bits_of_the_walk_forward(name: str) -> None:
    # Under eight numbers NumPy adds up in one order only, and the test would see nothing.
    training = training_set(noise_panel(), features=23)
    estimator = make(name, SMALL)
    estimator.fit(training.rows(0, 500))
    wide = np.repeat(training.features[600], 5, axis=0)
    frame = pd.DataFrame(wide).to_numpy(dtype="float64")
    assert frame.flags.f_contiguous
    assert np.array_equal(estimator.predict(Rows(frame)), estimator.predict(Rows(wide)))


def test_an_estimator_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="estimator = 'rigde': use one of elastic_net, ensemble, lightgbm, prophet, ridge, xgboost"
    ):
        make("rigde", SMALL)


@pytest.mark.parametrize("name", ["ridge", "xgboost"])
def test_excluded_days_are_neither_learnt_nor_scored(name: str) -> None:
    panel = noise_panel()
    excluded = np.zeros(panel.close.shape, dtype=bool)
    excluded[:, 3] = True
    without = training_set(panel, excluded)
    assert np.isnan(without.labels[:, 3]).all()
    assert without.labelled < training_set(panel).labelled
    walk = walkforward.run(without, SMALL, lambda past: make(name, SMALL))
    loud = walk.predictions.copy()
    loud[:, 3] = 1e6
    before, after = (
        evaluation.evaluate(without, predictions, walk.folds, 5, []).record()
        for predictions in (walk.predictions, loud)
    )
    assert before == after


@pytest.mark.parametrize("name", ["ridge", "xgboost"])
def test_training_twice_gives_the_same_model(name: str) -> None:
    training = training_set(noise_panel())
    first, second = (walkforward.run(training, SMALL, lambda past: make(name, SMALL)) for _ in range(2))
    assert np.array_equal(first.predictions, second.predictions, equal_nan=True)
    assert [e.to_bytes() for e in first.estimators] == [e.to_bytes() for e in second.estimators]


def trial(name: str, returns: np.ndarray) -> Trial:
    return Trial("model", name, {"name": name}, "test", date(2010, 1, 4), date(2012, 1, 4), returns)


def test_more_trials_make_the_same_spread_less_believable() -> None:
    training = training_set(noise_panel())
    skilled = np.nan_to_num(training.labels) * 0.1 + np.random.default_rng(2).normal(size=training.labels.shape)
    spread = evaluation.spread_returns(training, skilled)
    known = spread[~np.isnan(spread)]
    ours, alike, worse = trial("ours", known), trial("alike", known), trial("worse", known[::-1] - 0.2 * known.std())
    believed = [
        evaluation.evaluate(training, skilled, (), 5, trials, tried).deflated_sharpe
        for trials, tried in (([ours], 0), ([ours, alike], 0), ([ours, alike], 50), ([ours, worse], 50))
    ]
    assert sorted(believed, reverse=True) == believed
    assert len(set(believed)) == 4, "two trials that look alike still count as two"


def test_without_a_test_block_every_figure_is_missing_and_every_gate_of_skill_fails() -> None:
    training = training_set(noise_panel(200))
    walk = walkforward.run(training, SMALL, lambda past: make("ridge", SMALL))
    assert walk.folds == ()
    scores = evaluation.evaluate(training, walk.predictions, walk.folds, 5, [])
    review = gates.review(scores, SMALL.gates, parity=True, truncation=True)
    assert [gate.name for gate in review.gates if gate.passed] == ["train_serve_parity", "truncation"]
    assert scores.record()["rank_ic"] is None


def test_a_feature_that_looks_ahead_fails_the_review() -> None:
    training = training_set(noise_panel())
    knowing = training.labels + np.random.default_rng(3).normal(size=training.labels.shape)
    scores = evaluation.evaluate(training, knowing, (), 5, [])
    assert "truncation" not in {gate.name for gate in gates.review(scores, SMALL.gates, parity=True).gates}
    judged = {g.name: g.passed for g in gates.review(scores, SMALL.gates, parity=True, truncation=False).gates}
    assert judged["truncation"] is False
    assert judged["rank_ic"] is True


def test_deflated_sharpe_over_three_estimates() -> None:
    variance = float(np.var([3.5, 1.01, 1.02]))
    assert stats.deflated_sharpe(1.14, 250, 0, 3, variance, 3) == pytest.approx(0.95836, abs=1e-5)


def test_a_strategy_in_cash_does_not_spoil_the_probability_of_overfitting() -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, (320, 5))
    returns[:, 0] = 0.0
    with np.errstate(all="raise"):
        flat = stats.overfitting_probability(returns, 8)
    returns[:, 2] += 0.01
    assert stats.overfitting_probability(returns, 8) == 0.0 < flat < 1.0


def test_ranks_are_centred_and_ties_share() -> None:
    ranks = stats.centred_ranks(np.array([[3.0, 1.0, 1.0, np.nan, 5.0], [1.0, np.nan, np.nan, np.nan, np.nan]]))
    np.testing.assert_allclose(ranks[0], [1 / 6, -1 / 3, -1 / 3, np.nan, 0.5])
    assert np.isnan(ranks[1]).all()
