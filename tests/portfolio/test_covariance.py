"""Covariance: the estimator is the published one, and missing history is neither invented nor forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from octopus.core.errors import MissingDataError
from octopus.portfolio.covariance import (
    estimate_covariance,
    ewma_covariance,
    factor_covariance,
    ledoit_wolf,
    oracle_approximating,
    sample_covariance,
)


def returns_of(seed: int, observations: int = 252, count: int = 20) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(observations, count)) * 0.02 + generator.normal(size=(observations, 1)) * 0.01


@pytest.mark.parametrize(("observations", "count"), [(252, 20), (30, 60), (126, 1), (20, 3)])
def test_ledoit_wolf_agrees_with_scikit_learn(observations: int, count: int) -> None:
    from sklearn.covariance import ledoit_wolf as oracle

    returns = returns_of(1, observations, count)
    matrix, shrinkage = ledoit_wolf(returns)
    expected, expected_shrinkage = oracle(returns)
    np.testing.assert_allclose(matrix, expected, rtol=1e-10, atol=1e-16)
    assert shrinkage == pytest.approx(expected_shrinkage, abs=1e-10)


@pytest.mark.parametrize(("observations", "count"), [(252, 20), (30, 60), (126, 1), (20, 3)])
def test_oracle_approximating_agrees_with_scikit_learn(observations: int, count: int) -> None:
    from sklearn.covariance import oas as oracle

    returns = returns_of(1, observations, count)
    matrix, shrinkage = oracle_approximating(returns)
    expected, expected_shrinkage = oracle(returns)
    np.testing.assert_allclose(matrix, expected, rtol=1e-10, atol=1e-16)
    assert shrinkage == pytest.approx(expected_shrinkage, abs=1e-10)


def test_ewma_follows_the_recursion() -> None:
    returns = returns_of(7, 600, 4)
    decay, by_hand = 0.94, np.zeros((4, 4))
    for day in returns:
        by_hand = decay * by_hand + (1 - decay) * np.outer(day, day)
    np.testing.assert_allclose(ewma_covariance(returns, np.log(0.5) / np.log(decay)), by_hand, rtol=1e-10)


def test_ewma_of_a_very_long_half_life_is_the_second_moment() -> None:
    returns = returns_of(8)
    np.testing.assert_allclose(ewma_covariance(returns, 1e9), returns.T @ returns / len(returns), rtol=1e-6)


def test_the_factor_model_finds_the_factors_of_a_factor_model() -> None:
    generator = np.random.default_rng(9)
    loadings, own = generator.normal(size=(30, 2)) * 0.01, generator.uniform(0.005, 0.02, 30)
    returns = generator.normal(size=(60_000, 2)) @ loadings.T + generator.normal(size=(60_000, 30)) * own
    truth = loadings @ loadings.T + np.diag(own**2)
    estimate = factor_covariance(returns, 2)
    assert np.abs(estimate - truth).max() < 0.1 * truth.diagonal().max()
    np.testing.assert_allclose(estimate.diagonal(), returns.var(axis=0, ddof=1), rtol=1e-10)
    # Fewer sessions than instruments: still of full rank, where the sample's is not.
    few = factor_covariance(returns[:20], 2)
    assert np.linalg.eigvalsh(few).min() > 0 > np.linalg.eigvalsh(sample_covariance(returns[:20])).min() - 1e-12


def test_all_factors_together_are_the_sample() -> None:
    returns = returns_of(10)
    np.testing.assert_allclose(factor_covariance(returns, 99), sample_covariance(returns), atol=1e-12)


def test_sample_covariance_agrees_with_numpy() -> None:
    returns = returns_of(2)
    np.testing.assert_allclose(sample_covariance(returns), np.cov(returns.T), rtol=1e-12)


def test_a_missing_return_is_refused_by_the_bare_estimators() -> None:
    returns = returns_of(3)
    returns[5, 2] = np.nan
    with pytest.raises(MissingDataError, match="1 returns are missing"):
        ledoit_wolf(returns)


def test_a_young_instrument_shortens_the_window_and_too_young_a_one_is_unknown() -> None:
    returns = returns_of(4, count=4)
    returns[:100, 1] = np.nan
    returns[:200, 3] = np.nan
    estimate = estimate_covariance(returns, least=126, estimator="sample")
    assert estimate.known.tolist() == [True, True, True, False]
    assert estimate.observations == 152
    np.testing.assert_allclose(estimate.daily[:3, :3], np.cov(returns[100:, :3].T), rtol=1e-12)
    assert estimate.daily[3, 3] == estimate.daily[:3, :3].diagonal().max()
    assert not estimate.daily[3, :3].any()


def test_a_session_without_a_bar_counts_as_no_move() -> None:
    returns = returns_of(5, count=3)
    halted, still = returns.copy(), returns.copy()
    halted[40, 1], still[40, 1] = np.nan, 0.0
    left, right = (estimate_covariance(r, least=126, estimator="ledoit_wolf").daily for r in (halted, still))
    assert np.array_equal(left, right)


def test_without_any_history_nothing_is_known() -> None:
    estimate = estimate_covariance(np.full((252, 3), np.nan), least=126, estimator="ledoit_wolf")
    assert not estimate.known.any()
    assert estimate.observations == 0


@pytest.mark.parametrize("estimator", ["ledoit_wolf", "sample", "oas", "ewma", "factor"])
def test_every_estimator_is_symmetric_positive_and_scales_with_the_square(estimator: str) -> None:
    returns = returns_of(11)
    one, ten = (
        estimate_covariance(scale * returns, least=126, estimator=estimator).daily  # type: ignore[arg-type]
        for scale in (1.0, 10.0)
    )
    np.testing.assert_allclose(ten, 100 * one, rtol=1e-9)
    np.testing.assert_allclose(one, one.T, rtol=1e-12)
    assert np.linalg.eigvalsh(one).min() > 0


@pytest.mark.parametrize("estimator", ["ledoit_wolf", "sample", "oas", "ewma", "factor"])
def test_the_same_bits_from_wherever_the_window_is_cut(estimator: str) -> None:
    long = returns_of(6, 600)
    column_major = np.asfortranarray(long)
    cuts = [long[101:353], long[:353][101:], column_major[101:353], np.vstack([long[:7], long])[108:360]]
    matrices = [estimate_covariance(cut, least=126, estimator=estimator).daily for cut in cuts]  # type: ignore[arg-type]
    assert all(np.array_equal(matrices[0], other) for other in matrices[1:])
