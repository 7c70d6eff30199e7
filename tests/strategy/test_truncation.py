"""No feature and no signal knows the future: cut off or replaced by noise, the past keeps its bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.market_data.returns import total_returns
from octopus.strategy.catalogue import rule_signals
from octopus.strategy.config import StrategyConfig
from octopus.strategy.ensemble import blend
from octopus.strategy.features import FEATURES, compute_features
from octopus.strategy.signals import standardise


def panel_of(close: FloatArray, seed: int = 0) -> Panel:
    """A panel with volume and sentiment; NaN closes are days without a bar."""
    rows, columns = close.shape
    random = np.random.default_rng(seed)
    ones, zeros = np.ones(close.shape), np.zeros(close.shape)
    sentiment = np.where(random.random(close.shape) < 0.3, random.uniform(-1, 1, close.shape), np.nan)
    volume = np.where(np.isnan(close), np.nan, random.integers(1, 1000, close.shape).astype(float))
    return Panel(
        sessions=np.arange(np.datetime64("2015-01-01"), np.datetime64("2015-01-01") + rows),
        symbols=tuple(f"S{column}" for column in range(columns)),
        close=close,
        total_return=total_returns(close, ones, zeros),
        open=close, high=close, low=close, volume=volume,
        member=~np.isnan(close),
        sentiment=sentiment,
        split=ones, dividend=zeros, price_basis="raw",
    )  # fmt: skip


def random_panel(seed: int, rows: int = 330, columns: int = 6) -> Panel:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (rows, columns)), axis=0))
    close[random.random(close.shape) < 0.01] = np.nan
    close[: int(random.integers(0, rows // 3)), 0] = np.nan
    return panel_of(close, seed)


def with_noisy_future(panel: Panel, row: int) -> Panel:
    """The same past, and after ``row`` something else in every field."""
    random = np.random.default_rng(99)
    changed = {}
    for name in ("close", "total_return", "volume", "sentiment", "open", "high", "low"):
        values = getattr(panel, name).copy()
        values[row:] = random.uniform(0.5, 50, values[row:].shape)
        changed[name] = values
    return replace(panel, **changed)


@given(seed=st.integers(0, 10_000), cut=st.integers(260, 320))
@settings(max_examples=8, deadline=None)
def test_every_feature_keeps_its_past(seed: int, cut: int) -> None:
    panel = random_panel(seed)
    whole = compute_features(panel)
    for other in (compute_features(panel.rows(0, cut)), compute_features(with_noisy_future(panel, cut))):
        for name in whole.names:
            assert np.array_equal(whole.of(name)[:cut], other.of(name)[:cut], equal_nan=True), name


@given(seed=st.integers(0, 10_000), cut=st.integers(260, 320))
@settings(max_examples=8, deadline=None)
def test_every_signal_keeps_its_past(seed: int, cut: int) -> None:
    panel, config = random_panel(seed), StrategyConfig()
    whole = rule_signals(panel, config)
    for other in (rule_signals(panel.rows(0, cut), config), rule_signals(with_noisy_future(panel, cut), config)):
        for name, values in whole.items():
            assert np.array_equal(values[:cut], other[name][:cut], equal_nan=True), name


def test_every_feature_says_something_somewhere() -> None:
    cube = compute_features(random_panel(1))
    silent = [name for name in cube.names if np.isnan(cube.of(name)).all()]
    assert silent == []
    assert cube.names == tuple(feature.name for feature in FEATURES)


def test_features_by_hand() -> None:
    close = np.full((300, 2), 100.0)
    close[:, 0] = 100 * 1.001 ** np.arange(300)
    close[200:, 1] = 50.0
    cube = compute_features(panel_of(close))
    assert cube.of("return_5")[299, 0] == pytest.approx(1.001**5 - 1)
    assert cube.of("momentum_12_1")[299, 0] == pytest.approx(1.001 ** (252 - 21) - 1)
    assert cube.of("volatility_21")[299, 0] == pytest.approx(0, abs=1e-12)
    assert cube.of("from_high_252")[299, 1] == pytest.approx(-0.5)
    assert cube.of("rank_momentum")[299].tolist() == [0.5, -0.5]


def test_a_missing_bar_in_the_window_gives_no_value() -> None:
    close = np.full((300, 1), 100.0) * 1.001 ** np.arange(300)[:, None]
    close[290] = np.nan
    volatility = compute_features(panel_of(close)).of("volatility_21")[:, 0]
    assert np.isnan(volatility[290:300]).all()
    assert not np.isnan(volatility[280])


def test_an_unknown_feature_is_named() -> None:
    with pytest.raises(ConfigError, match="no_such_feature"):
        compute_features(random_panel(1), ["no_such_feature"])


def test_a_score_is_in_standard_deviations_of_the_members() -> None:
    values = np.array([[1.0, 2.0, 3.0, 100.0]])
    member = np.array([[True, True, True, False]])
    assert standardise(values, member)[0, :3].tolist() == [-1.0, 0.0, 1.0]
    assert np.isnan(standardise(values, member)[0, 3])


def test_the_weight_of_a_silent_signal_goes_to_those_that_speak() -> None:
    nan = np.nan
    signals = {"a": np.array([1.0, 1.0, nan]), "b": np.array([3.0, nan, nan])}
    assert blend(signals, {"a": 1.0, "b": 1.0}).tolist() == [2.0, 1.0, 0.0]


def test_a_strategy_in_which_nothing_speaks_is_refused() -> None:
    silent = {name: {"weight": 0} for name in ("momentum", "mean_reversion", "sentiment", "model")}
    with pytest.raises(ValueError, match="positive weight"):
        StrategyConfig.model_validate(silent)
