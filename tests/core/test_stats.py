"""Published values and hand calculations of the shared statistics."""

from __future__ import annotations

import numpy as np
import pytest

from octopus.core import stats


def test_probabilistic_sharpe_and_its_track_record() -> None:
    assert stats.probabilistic_sharpe(1.14, 1, 250, 0, 3) == pytest.approx(0.95727, abs=1e-5)
    assert stats.minimum_track_record(1.14, 1, 0, 3) == pytest.approx(228.73, abs=0.01)


@pytest.mark.parametrize(("trials", "expected"), [(100, 0.9004), (46, 0.9505)])
def test_deflated_sharpe_of_the_paper(trials: int, expected: float) -> None:
    value = stats.deflated_sharpe(2.5 / np.sqrt(250), 1250, -3, 10, 0.5 / 250, trials)
    assert value == pytest.approx(expected, abs=5e-5)


def test_probability_of_overfitting() -> None:
    returns = np.random.default_rng(42).normal(0, 0.01, (1000, 50))
    assert stats.overfitting_probability(returns) == pytest.approx(0.7227661, abs=1e-7)
    returns[:, 7] += 0.002
    assert stats.overfitting_probability(returns) == pytest.approx(0.0006993, abs=1e-7)


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(5)
    left, right = random.normal(size=(4, 30)), random.normal(size=(4, 30))
    left[0, :3] = np.nan
    for row in range(4):
        known = ~np.isnan(left[row])
        expected = spearmanr(left[row][known], right[row][known]).statistic
        assert stats.rank_correlation(left, right)[row] == pytest.approx(expected)


def test_newey_west_without_lags_is_the_plain_t() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, 200)
    plain = values.mean() / (values.std() / np.sqrt(len(values)))
    assert stats.hac_t_statistic(values, 0) == pytest.approx(plain)
