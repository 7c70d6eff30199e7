"""A model's features: Alpha158 in the decision, new sessions alone and all of them with the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import inputs
from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.decision import DecisionConfig, prepare
from octopus.market_data.returns import total_returns
from octopus.models.config import ModelConfig
from octopus.strategy.alpha158 import compute_alpha158
from octopus.strategy.feature_sets import SETS, chosen_features, compute_chosen, goes_on_from
from octopus.strategy.features import FeatureCube, compute_features
from octopus.strategy.probe import look_ahead
from tests.strategy.test_truncation import random_panel

MIXED = DecisionConfig(features=("alpha158", "momentum_12_1", "rank_volatility"))


def paying_panel(seed: int, rows: int = 330) -> Panel:
    """A panel with opens, highs and lows, holes, splits and dividends."""
    plain, random = random_panel(seed, rows), np.random.default_rng(seed)
    split = np.where(random.random(plain.close.shape) < 0.01, 2.0, 1.0)
    dividend = np.where(random.random(plain.close.shape) < 0.02, 0.5, 0.0)
    apart = np.abs(random.normal(0, 0.01, plain.close.shape))
    return replace(
        plain, split=split, dividend=dividend, total_return=total_returns(plain.close, split, dividend),
        open=plain.close * (1 + apart / 2), high=plain.close * (1 + apart), low=plain.close * (1 - apart),
    )  # fmt: skip


def test_a_selection_is_sets_and_single_features_each_once() -> None:
    assert chosen_features(("standard",)) == SETS["standard"]
    assert chosen_features(("KMID", "alpha158"))[:2] == ("KMID", "KLEN")
    assert len(chosen_features(("standard", "alpha158", "beta_63"))) == len(SETS["standard"]) + 158
    with pytest.raises(ConfigError, match="features = 'alpha360': use standard, alpha158, or names of single"):
        chosen_features(("alpha360",))


def test_each_feature_is_what_its_library_says() -> None:
    panel = paying_panel(1)
    names = ("beta_63", "KMID", "return_5", "CORD60", "VWAP0")
    cube, alpha, ours = compute_chosen(panel, names), compute_alpha158(panel), compute_features(panel)
    for name in names:
        source = alpha if name in alpha.names else ours
        assert np.array_equal(cube.of(name), source.of(name), equal_nan=True), name
    assert np.isnan(cube.of("VWAP0")).all()


@given(seed=st.integers(0, 10_000), days=st.integers(1, 40))
@settings(max_examples=5, deadline=None)
def test_new_sessions_alone_have_the_bits_of_all(seed: int, days: int) -> None:
    panel = paying_panel(seed)
    whole = prepare(panel, MIXED)
    before = prepare(panel.rows(0, 330 - days), MIXED)
    daily = prepare(panel, MIXED, before)
    assert daily.features.names == whole.features.names
    assert np.array_equal(daily.features.values, whole.features.values, equal_nan=True)
    alone = compute_chosen(panel, whole.features.names, days).values
    assert np.array_equal(alone, whole.features.values[-days:], equal_nan=True)
    assert look_ahead(panel, whole.features, 329 - days) == ()


def test_a_restated_past_is_computed_anew() -> None:
    panel = paying_panel(3)
    before = prepare(panel.rows(0, 329), MIXED)
    assert goes_on_from(panel, before.panel)
    close = panel.close.copy()
    close[100, 1] *= 1.1
    changed = replace(panel, close=close)
    assert not goes_on_from(changed, before.panel)
    assert not goes_on_from(panel.rows(0, 300), before.panel)
    anew = prepare(changed, MIXED, before).features
    assert np.array_equal(anew.values, prepare(changed, MIXED).features.values, equal_nan=True)
    assert prepare(panel, DecisionConfig(), before).features.names == SETS["standard"]


def test_a_column_that_looks_ahead_is_named() -> None:
    panel = paying_panel(4)
    cube = compute_chosen(panel, ("MA5", "KMID"))
    values = cube.values.copy()
    values[:-1, :, 0] = values[1:, :, 0]
    assert look_ahead(panel, FeatureCube(cube.sessions, cube.symbols, cube.names, values), 250) == ("MA5",)


def test_the_next_day_computes_its_own_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs._prepared.clear()
    panel, computed = paying_panel(5), []
    original = compute_chosen
    for module in ("octopus.decision", "octopus.strategy.feature_sets"):
        monkeypatch.setattr(
            f"{module}.compute_chosen",
            lambda of, names, last=None: computed.append(last) or original(of, names, last),
        )
    for stop in (328, 329, 330):
        inputs.prepared(panel.rows(0, stop), MIXED)
    inputs._prepared.clear()
    assert computed == [None, 1, 1]


def test_the_usual_features_shape_no_model_anew() -> None:
    assert "features" not in ModelConfig().shape()
    assert ModelConfig(features="alpha158").shape()["features"] == ["alpha158"]
