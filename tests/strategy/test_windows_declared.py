"""What a feature declares is what it reads, on any panel that starts or ends anywhere; recorded prices included."""

from __future__ import annotations

import importlib.util
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.market_data.returns import total_returns
from octopus.strategy import windows
from octopus.strategy.catalogue import rule_signals
from octopus.strategy.config import StrategyConfig
from octopus.strategy.features import FEATURES, LONGEST_WINDOW, Feature, FeatureCube, compute_features
from octopus.strategy.probe import look_ahead
from octopus.strategy.signals import standardise

CONFIG = StrategyConfig()


def panel_of(close: FloatArray, **given_fields: FloatArray) -> Panel:
    ones, zeros = np.ones(close.shape), np.zeros(close.shape)
    arrays = {
        "open": close, "high": close, "low": close, "volume": np.full(close.shape, np.nan),
        "sentiment": np.full(close.shape, np.nan), "split": ones, "dividend": zeros,
        "member": np.ones(close.shape, dtype=bool), "total_return": total_returns(close, ones, zeros),
    } | given_fields  # fmt: skip
    days = np.busday_offset("2015-01-05", np.arange(len(close))).astype("datetime64[D]")
    symbols = tuple(f"S{i:02d}" for i in range(close.shape[1]))
    return Panel(sessions=days, symbols=symbols, close=close, price_basis="raw", **arrays)  # type: ignore[arg-type]


def random_panel(seed: int, rows: int = 300, columns: int = 9, *, holes: bool = True) -> Panel:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (rows, columns)), axis=0))
    if holes:
        close[random.random(close.shape) < 0.005] = np.nan
        close[: rows // 4, 0] = np.nan
    return panel_of(
        close,
        volume=random.uniform(1, 100, close.shape),
        sentiment=random.uniform(-1, 1, close.shape),
        member=random.random(close.shape) < 0.9,
    )


def sample_panel() -> Panel:
    package = importlib.util.find_spec("skfolio")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "sp500_dataset.csv.gz"
    frame = pl.read_csv(path, try_parse_dates=True)
    close = np.ascontiguousarray(frame.drop("Date").to_numpy().astype(np.float64))
    return replace(panel_of(close), sessions=frame["Date"].to_numpy().astype("datetime64[D]"))


def changed(panel: Panel, rows: slice) -> Panel:
    """Every field of ``rows`` made different, in the middle of the same calendar."""
    random = np.random.default_rng(5)
    arrays = {}
    for name in ("close", "total_return", "volume", "sentiment"):
        values = getattr(panel, name).copy()
        values[rows] = random.uniform(0.5, 2.0, values[rows].shape)
        arrays[name] = values
    member = panel.member.copy()
    member[rows] = ~member[rows]
    return replace(panel, member=member, **arrays)


def assert_equal(left: FloatArray, right: FloatArray, what: str) -> None:
    assert np.array_equal(left, right, equal_nan=True), what


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_reads_its_declared_rows_and_no_other(feature) -> None:  # type: ignore[no-untyped-def]
    panel, row = random_panel(11, holes=False), 290
    value = compute_features(panel, [feature.name]).values[row]
    assert np.isfinite(value[panel.member[row]]).all()
    older = slice(0, row + 1 - feature.window)
    assert_equal(compute_features(changed(panel, older), [feature.name]).values[row], value, "older rows")
    newest = slice(row + 1 - feature.lag, row + 1)
    if feature.lag and "member" not in feature.inputs:
        assert_equal(compute_features(changed(panel, newest), [feature.name]).values[row], value, "newest rows")


@pytest.mark.parametrize("name", [f.name for f in FEATURES if f.name not in ("turn_of_month", "sentiment")])
def test_the_declared_window_is_not_longer_than_it_need_be(name: str) -> None:
    panel, row = random_panel(12, holes=False), 290
    oldest = row + 1 - next(f.window for f in FEATURES if f.name == name)
    holed = {}
    for field in ("close", "total_return", "volume", "sentiment"):
        holed[field] = getattr(panel, field).copy()
        holed[field][oldest] = np.nan
    assert np.isnan(compute_features(replace(panel, **holed), [name]).values[row]).all()


@given(seed=st.integers(0, 10_000), start=st.integers(0, 40))
@settings(max_examples=6, deadline=None)
def test_a_panel_that_starts_later_has_the_same_bits(seed: int, start: int) -> None:
    panel = random_panel(seed, rows=LONGEST_WINDOW + 45)
    row = len(panel.sessions) - 1
    assert look_ahead(panel, compute_features(panel), row) == ()
    later = panel.rows(start, row + 1)
    assert_equal(compute_features(later).values[-1], compute_features(panel).values[-1], "features")
    for name, values in rule_signals(later, CONFIG).items():
        assert_equal(values[-1], rule_signals(panel, CONFIG)[name][-1], name)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_the_order_in_memory_changes_nothing(seed: int) -> None:
    panel = random_panel(seed)
    arrays = {
        f.name: np.asfortranarray(v) for f in fields(panel) if isinstance(v := getattr(panel, f.name), np.ndarray)
    }
    columns = replace(panel, **arrays)
    assert_equal(compute_features(columns).values, compute_features(panel).values, "features")
    for name, values in rule_signals(columns, CONFIG).items():
        assert_equal(values, rule_signals(panel, CONFIG)[name], name)
    assert_equal(
        standardise(columns.close, columns.member)[-1:], standardise(panel.close[-1:], panel.member[-1:]), "row"
    )


def test_a_feature_that_looks_ahead_is_found() -> None:
    panel = random_panel(3)
    cube = compute_features(panel, ["return_5", "volatility_21"])
    peeking = cube.values.copy()
    peeking[:-1, :, 1] = peeking[1:, :, 1]
    cheat = FeatureCube(cube.sessions, cube.symbols, cube.names, peeking)
    assert look_ahead(panel, cheat, 250) == ("volatility_21",)


def _next_return(x: object) -> FloatArray:
    """Tomorrow's return, and today's on the last row: it gives no NaN away."""
    returns = x.returns  # type: ignore[attr-defined]
    return np.vstack([returns[1:], returns[-1:]])


def _whole_mean(x: object) -> FloatArray:
    """Returns less their mean over all days, later ones included."""
    returns = x.returns  # type: ignore[attr-defined]
    return np.asarray(returns - np.nanmean(returns, axis=0))


@pytest.mark.parametrize("cheat", [_next_return, _whole_mean])
def test_a_declared_feature_that_uses_later_days_is_named(monkeypatch: pytest.MonkeyPatch, cheat: object) -> None:
    planted = (*FEATURES, Feature("planted", ("total_return",), 1, "looks ahead", cheat))  # type: ignore[arg-type]
    monkeypatch.setattr("octopus.strategy.features.FEATURES", planted)
    panel = random_panel(4)
    assert look_ahead(panel, compute_features(panel), 260) == ("planted",)


@pytest.mark.parametrize("row", [260, 2519, 4300, 8000])
def test_recorded_prices_keep_their_past(row: int) -> None:
    panel = sample_panel()
    assert look_ahead(panel, compute_features(panel.rows(0, row + 40)), row) == ()
    whole, cut = rule_signals(panel, CONFIG), rule_signals(panel.rows(0, row + 1), CONFIG)
    for name, values in whole.items():
        assert_equal(values[: row + 1], cut[name], name)


def test_the_return_over_a_gap_is_known_but_nothing_that_needs_every_day() -> None:
    close = np.full((300, 2), 100.0) * 1.01 ** np.arange(300)[:, None]
    close[297, 0] = np.nan
    cube = compute_features(panel_of(close), ["return_5", "volatility_21", "from_high_252"])
    assert cube.of("return_5")[299, 0] == pytest.approx(1.01**5 - 1)
    assert np.isnan(cube.of("volatility_21")[299, 0])
    assert np.isnan(cube.of("from_high_252")[299, 0])
    assert cube.of("from_high_252")[299, 1] == 0.0


def test_a_split_moves_no_volume_feature() -> None:
    close, volume = np.full((100, 2), 50.0), np.full((100, 2), 10.0)
    close[97:, 0], volume[97:, 0] = 25.0, 20.0
    cube = compute_features(panel_of(close, volume=volume), ["volume_ratio", "dollar_volume_21"])
    assert cube.of("volume_ratio")[99].tolist() == [1.0, 1.0]
    assert cube.of("dollar_volume_21")[99].tolist() == [500.0, 500.0]


def test_windows_against_plain_loops() -> None:
    random = np.random.default_rng(4)
    values, market = random.normal(size=(40, 3)), random.normal(size=(40, 1))
    for row in (20, 39):
        part, other = values[row - 20 : row + 1], market[row - 20 : row + 1, 0]
        slopes = [np.polyfit(other, part[:, column], 1)[0] for column in range(3)]
        np.testing.assert_allclose(windows.slope(values, market, 21)[row], slopes)
        centred = part - part.mean(axis=0)
        skewness = (centred**3).mean(axis=0) / (centred**2).mean(axis=0) ** 1.5
        np.testing.assert_allclose(windows.skewness(values, 21)[row], skewness)
    assert np.isnan(windows.slope(values, np.ones((40, 1)), 21)).all()


def test_momentum_that_skips_all_it_looks_at_is_refused() -> None:
    with pytest.raises(ValueError, match="skip_sessions = 63 leaves nothing of lookback_sessions = 21"):
        StrategyConfig.model_validate({"momentum": {"lookback_sessions": 21, "skip_sessions": 63}})
    with pytest.raises(ValueError, match="finite"):
        StrategyConfig.model_validate({"model": {"weight": float("inf")}})
