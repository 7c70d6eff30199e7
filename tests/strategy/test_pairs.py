"""Pairs: chosen, hedged and traded from the past alone; they earn on what is cointegrated and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.strategy.catalogue import rule_signals
from octopus.strategy.config import PairsConfig, StrategyConfig
from octopus.strategy.pairs import choose_pairs, dickey_fuller, distances, hedged, open_sides, pairs
from octopus.strategy.probe import probed_rows, strategies_that_look_ahead
from tests.strategy.test_windows_declared import panel_of

GIVEN = PairsConfig(weight=1, pairs=(("S00", "S01"),), hedge_sessions=63, reform="quarter")


def walks(seed: int, rows: int, columns: int, *, together: bool) -> Panel:
    """Random walks; ``together``: the first is the second and a deviation that dies out within weeks."""
    random = np.random.default_rng(seed)
    levels = np.cumsum(random.normal(0, 0.01, (rows, columns)), axis=0)
    if together:
        shocks, apart = random.normal(0, 0.01, rows), np.zeros(rows)
        for row in range(1, rows):
            apart[row] = 0.9 * apart[row - 1] + shocks[row]
        levels[:, 0] = 0.8 * levels[:, 1] + apart
    return panel_of(100 * np.exp(levels))


def earned(panel: Panel, config: PairsConfig) -> FloatArray:
    """Return of each session, of the scores as they were known two sessions before, as weights."""
    scores = np.nan_to_num(pairs(panel, config))
    return np.asarray((scores[:-2] * panel.total_return[2:]).sum(axis=1))


# What it earns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GIVEN, PairsConfig(weight=1, choose="cointegration", hedge_sessions=63)])
def test_cointegrated_instruments_earn(config: PairsConfig) -> None:
    returns = np.concatenate([earned(walks(seed, 1500, 3, together=True), config) for seed in range(4)])
    assert returns.mean() / returns.std() * np.sqrt(len(returns)) > 4


def test_independent_instruments_do_not() -> None:
    returns = np.concatenate([earned(walks(seed, 1500, 3, together=False), GIVEN) for seed in range(8)])
    assert abs(returns.mean() / returns.std() * np.sqrt(len(returns))) < 2
    strict = PairsConfig(weight=1, choose="cointegration", dickey_fuller_max=-5.0)
    scores = pairs(walks(0, 1500, 3, together=False), strict)
    assert np.isnan(scores).mean() > 0.95


# Against plain loops -------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_scores_against_a_loop(seed: int) -> None:
    panel = walks(seed, 400, 2, together=True)
    found, window = pairs(panel, GIVEN), GIVEN.hedge_sessions
    levels = np.cumsum(np.log1p(np.nan_to_num(panel.total_return)), axis=0)
    quarters = panel.sessions.astype("datetime64[M]").astype(int) // 3
    side, barred, begun = 0, 0, False
    for row in range(1, 400):
        if quarters[row] != quarters[row - 1]:
            side, barred, begun = 0, 0, row + 1 >= window
        if not begun:
            assert np.isnan(found[row]).all()
            continue
        y, x = levels[row + 1 - window : row + 1].T
        slope, constant = np.polyfit(x, y, 1)
        residual = y - constant - slope * x
        z = residual[-1] / np.sqrt((residual**2).sum() / (window - 2))
        if slope <= 0:
            assert np.isnan(found[row]).all()
            continue
        if side and side * z >= -GIVEN.exit:
            side = 0
        if barred and barred * z >= -GIVEN.exit:
            barred = 0
        if abs(z) >= GIVEN.stop:
            side, barred = 0, -int(np.sign(z))
        elif not side and abs(z) >= GIVEN.entry and barred != -int(np.sign(z)):
            side = -int(np.sign(z))
        expected = np.clip([-z, slope * z], -3, 3) if side else [np.nan, np.nan]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6, atol=1e-8)


def test_a_position_is_opened_closed_given_up_and_opened_again() -> None:
    z = np.array([0.0, -1.9, -2.1, -1.0, -0.4, -2.5, -4.1, -2.5, -3.0, 0.0, -2.2, np.nan, -1.0, 2.0, 0.6, 0.5])[:, None]
    wanted = [0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, -1, -1, 0]
    assert open_sides(z, PairsConfig())[:, 0].tolist() == wanted
    assert open_sides(-z, PairsConfig())[:, 0].tolist() == [-side for side in wanted]


def test_the_statistic_and_the_distance_against_a_loop() -> None:
    levels = np.cumsum(np.random.default_rng(3).normal(0, 0.01, (120, 4)), axis=0)
    levels[:, 0] += 2 * levels[:, 2]
    found, apart = dickey_fuller(levels), distances(levels)
    for one in range(4):
        for other in range(4):
            index = np.exp(levels[:, [one, other]] - levels[0, [one, other]])
            assert apart[one, other] == pytest.approx(((index[:, 0] - index[:, 1]) ** 2).sum(), abs=1e-9)
            slope, constant = np.polyfit(levels[:, other], levels[:, one], 1)
            if one == other or slope <= 0:
                assert np.isnan(found[one, other])
                continue
            residual = levels[:, one] - constant - slope * levels[:, other]
            before, change = residual[:-1], np.diff(residual)
            speed = before @ change / (before @ before)
            error = np.sqrt(((change - speed * before) ** 2).sum() / (len(change) - 1) / (before @ before))
            assert found[one, other] == pytest.approx(speed / error, rel=1e-6)


def test_the_best_pairs_are_chosen_once_each_and_only_among_the_usable() -> None:
    levels = np.cumsum(np.random.default_rng(5).normal(0, 0.01, (252, 5)), axis=0)
    levels[:, 3] = levels[:, 1] + 1e-3 * np.sin(np.arange(252))
    usable = np.array([True, True, False, True, True])
    for how in ("distance", "cointegration"):
        chosen = choose_pairs(levels, usable, PairsConfig(choose=how, pairs_max=4, dickey_fuller_max=0))
        assert sorted(chosen[0].tolist()) == [1, 3], how
        assert 2 not in chosen
        assert len({frozenset(pair) for pair in chosen.tolist()}) == len(chosen)
    assert len(choose_pairs(levels, usable & (np.arange(5) == 1), PairsConfig())) == 0


def test_a_ratio_of_what_does_not_move_is_unknown() -> None:
    flat, moving = np.zeros((30, 1)), np.arange(30.0)[:, None]
    for first, second in ((moving, flat), (moving, moving), (-moving, moving)):
        assert np.isnan(np.stack(hedged(first, second, 21))).all()


# What it knows -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), choose=st.sampled_from(["distance", "cointegration"]))
@settings(max_examples=6, deadline=None)
def test_no_score_knows_the_future_or_where_the_panel_starts(seed: int, choose: str) -> None:
    panel = walks(seed, 700, 5, together=True)
    close = panel.close.copy()
    close[np.random.default_rng(seed).random(close.shape) < 0.003] = np.nan
    panel = panel_of(close, member=np.random.default_rng(seed).random(close.shape) < 0.95)
    section = {"weight": 1, "choose": choose, "formation_sessions": 126, "hedge_sessions": 63, "dickey_fuller_max": 0}
    config = StrategyConfig.model_validate({"pairs": section})
    whole = rule_signals(panel, config)
    assert np.isfinite(whole["pairs"]).any()
    assert strategies_that_look_ahead(panel, config, whole, probed_rows(panel)) == ()
    later = pairs(panel.rows(101, 700), config.pairs)
    assert np.array_equal(later[300:], whole["pairs"][401:], equal_nan=True)


def test_what_has_no_bar_or_left_has_no_score() -> None:
    panel = walks(1, 500, 2, together=True)
    said = np.isfinite(pairs(panel, GIVEN)).all(axis=1)
    row = int(np.flatnonzero(said)[-1])
    close, member = panel.close.copy(), panel.member.copy()
    close[row, 0] = np.nan
    assert np.isnan(pairs(panel_of(close), GIVEN)[row]).all()
    member[row, 1] = False
    left = pairs(replace(panel, member=member), GIVEN)[row]
    assert np.isfinite(left[0])
    assert np.isnan(left[1])


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"entry": 5}, "exit = 0.5 < entry = 5.0 < stop = 4.0 must hold"),
        ({"pairs": [["A", "A"]]}, "name two different instruments"),
    ],
)
def test_settings_that_mean_nothing_are_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PairsConfig.model_validate(section)


def test_an_instrument_that_nobody_has_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pairs\.pairs = 'NOPE': it is not in the universe"):
        pairs(walks(1, 300, 2, together=True), PairsConfig(pairs=(("S00", "NOPE"),)))


def test_without_a_weight_nobody_is_asked_and_nothing_is_told() -> None:
    assert "pairs" not in rule_signals(walks(1, 300, 2, together=True), StrategyConfig())
    assert "pairs" not in StrategyConfig().model_dump()
    assert "pairs" in StrategyConfig.model_validate({"pairs": {"weight": 1}}).model_dump()
