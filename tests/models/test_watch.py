"""Drift is told from a market's ordinary restlessness, and two models are compared on what both predict."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError
from octopus.core.types import FloatArray
from octopus.models.config import DriftConfig
from octopus.models.drift import measure
from octopus.models.pictures import drift_picture, shadow_picture
from octopus.models.shadow import compare
from octopus.models.training import unlabelled
from tests.models.small import panel_of

CONFIG = DriftConfig(window_sessions=20)
ROWS, COLUMNS, STOP = 400, 8, 360
ALL = np.ones((ROWS, COLUMNS), dtype=bool)


def noise(seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(ROWS, COLUMNS, 1))


def test_the_index_and_the_distance_by_hand() -> None:
    values = np.empty((60, 1, 1))
    values[:40, 0, 0] = np.tile(np.arange(10.0), 4)
    values[40:, 0, 0] = np.tile([0.0, 1.0, 2.0, 3.0, 4.0], 4)
    found = measure(("a",), values, np.ones((60, 1), dtype=bool), 40, CONFIG)
    # Ten bins of a tenth each; now five hold a fifth each and five nothing, which counts for 1e-4.
    expected = 5 * (0.2 - 0.1) * np.log(0.2 / 0.1) + 5 * (1e-4 - 0.1) * np.log(1e-4 / 0.1)
    assert found.psi[0] == pytest.approx(expected, rel=1e-3)
    assert found.ks[0] == pytest.approx(0.5)
    assert found.drifted.tolist() == [True]


@given(shift=st.sampled_from([0.0, 1.5]), spread=st.sampled_from([1.0, 4.0]), silent=st.booleans())
@settings(max_examples=8, deadline=None)
def test_a_shift_a_spread_and_silence_are_drift_and_noise_is_not(shift: float, spread: float, silent: bool) -> None:
    values = noise()
    values[-20:] = values[-20:] * spread + shift
    if silent:
        values[-20:, ::2] = np.nan
    found = measure(("a",), values, ALL, STOP, CONFIG)
    assert bool(found.drifted[0]) is (shift > 0 or spread > 1 or silent)
    assert found.share == float(found.drifted[0])


def test_a_series_that_was_always_restless_has_not_drifted() -> None:
    values = noise() + np.repeat(np.random.default_rng(2).normal(0, 3, (ROWS // 10, 1, 1)), 10, axis=0)
    found = measure(("a",), values, ALL, STOP, CONFIG)
    assert found.psi[0] > CONFIG.psi_max, "the convention alone would cry"
    assert found.usual[0] > found.psi[0]
    assert not found.drifted[0]


def test_a_series_that_begins_late_is_compared_with_itself_and_one_that_never_spoke_is_not() -> None:
    values = np.repeat(noise(), 2, axis=2)
    values[:200, :, 0] = np.nan
    values[:, :, 1] = np.nan
    found = measure(("late", "never"), values, ALL, STOP, CONFIG)
    assert found.psi[0] < 0.25
    assert np.isnan(found.psi[1])
    assert not found.drifted.any()


def test_nothing_after_a_window_changes_its_index() -> None:
    values = noise()
    loud = values.copy()
    loud[380:] = 99.0
    whole, other = (measure(("a",), v, ALL, STOP, CONFIG) for v in (values, loud))
    cut = measure(("a",), values[:380], ALL[:380], STOP, CONFIG)
    assert np.array_equal(whole.history[:380], cut.history, equal_nan=True)
    assert np.array_equal(other.history[:380], cut.history, equal_nan=True)
    assert cut.psi[0] == whole.history[379, 0]


def test_too_short_a_training_window_is_refused() -> None:
    with pytest.raises(MissingDataError, match="39 sessions of training are too few for windows of 20"):
        measure(("a",), noise(), ALL, 39, CONFIG)


def test_a_challenger_that_knows_more_earns_more_in_shadow() -> None:
    random = np.random.default_rng(4)
    returns = random.normal(0, 0.01, (120, 15))
    on = unlabelled(panel_of(returns), ("a",), random.normal(size=(120, 15, 1)))
    knows = np.full(returns.shape, np.nan)
    knows[:-2] = returns[2:]
    knows[-2:] = 0.0
    champion = random.normal(size=returns.shape)
    found = compare(on, champion, knows * 100 + random.normal(size=returns.shape))
    assert abs(found.agreement) < 0.1
    assert found.spreads[1] > 0.003 > abs(found.spreads[0])
    assert found.difference_t > 3
    assert np.isnan(found.champion[-2:]).all(), "not known yet"
    assert compare(on, champion, 2 * champion + 1).agreement == pytest.approx(1)


def test_the_pictures_are_drawn() -> None:
    values = np.repeat(noise(), 3, axis=2)
    values[-20:, :, 1] += 2
    sessions = np.busday_offset("2020-01-06", np.arange(ROWS)).astype("datetime64[D]")
    found = measure(("a", "b", "c"), values, ALL, STOP, CONFIG)
    for spoken in (None, measure(("m:1",), noise(3), ALL, STOP, CONFIG)):
        assert drift_picture(found, spoken, sessions, date(2021, 5, 24)).startswith(b"\x89PNG")
    on = unlabelled(panel_of(np.random.default_rng(4).normal(0, 0.01, (60, 12))), ("a",), np.zeros((60, 12, 1)))
    both = [np.random.default_rng(seed).normal(size=(60, 12)) for seed in (1, 2)]
    assert shadow_picture(compare(on, *both), "m:1", "m:2").startswith(b"\x89PNG")
