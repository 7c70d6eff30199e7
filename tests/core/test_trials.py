"""Trials: what was tried is counted, kindred ones once, and luck is not taken for skill."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from octopus.core.stats import deflated_sharpe, sharpe
from octopus.core.trials import Trial, aligned, clusters, deflate

FIRST, LAST = date(2010, 1, 4), date(2013, 12, 31)
SESSIONS = 1000


def trial(name: str, returns: np.ndarray, **changes: object) -> Trial:
    return replace(Trial("backtest", name, {"set": name}, "sample", FIRST, LAST, returns), **changes)


def noise(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, (count, SESSIONS))


def test_neither_a_name_nor_a_later_end_makes_a_new_trial():
    one = trial("a", noise(1)[0])
    assert one.trial_id == replace(one, name="other", last_session=date(2014, 6, 1)).trial_id
    for changes in ({"parameters": {"set": "b"}}, {"source": "yahoo"}, {"first_session": date(2011, 1, 3)}):
        assert one.trial_id != replace(one, **changes).trial_id


def test_copies_are_one_cluster_and_independent_trials_are_many():
    base = noise(1)[0]
    copies = base + noise(40, seed=2) * 0.2
    assert len(set(clusters(copies).tolist())) == 1
    assert len(set(clusters(noise(40)).tolist())) == 40
    both = np.vstack([copies, noise(3, seed=5)])
    assert len(set(clusters(both).tolist())) == 4


def test_beyond_what_is_clustered_trials_stand_alone(monkeypatch):
    monkeypatch.setattr("octopus.core.trials.CLUSTERED_AT_MOST", 5)
    assert len(set(clusters(np.tile(noise(1)[0], (8, 1))).tolist())) == 4


def test_one_trial_alone_is_not_deflated_and_more_deflate_more():
    chosen = noise(1)[0] + 0.0015
    alone = deflate(chosen, [trial("a", chosen)])
    assert (alone.raw, alone.clustered) == (1, 1)
    assert alone.deflated_sharpe > 0.95
    others = [trial(f"n{i}", row) for i, row in enumerate(noise(30, seed=3))]
    believed = [deflate(chosen, [trial("a", chosen), *others[:count]]).deflated_sharpe for count in (0, 5, 30)]
    assert believed == sorted(believed, reverse=True)
    assert deflate(chosen, [trial("a", chosen)], tried_before=50, spread_before=0.5).raw == 51


def test_the_raw_count_gives_the_published_formula():
    rows = noise(12, seed=4) + 0.0005
    found = deflate(rows[0], [trial(f"n{i}", row) for i, row in enumerate(rows)])
    sharpes = [sharpe(row, 1.0) for row in rows]
    centred = rows[0] - rows[0].mean()
    skewness, kurtosis = (centred**3).mean() / centred.std() ** 3, (centred**4).mean() / centred.std() ** 4
    variance = max(np.var(sharpes), 1 / SESSIONS)
    expected = deflated_sharpe(sharpes[0], SESSIONS, skewness, kurtosis, variance, 12)
    assert found.by_raw == pytest.approx(expected)
    assert (found.raw, found.clustered) == (12, 12)


def test_the_best_of_a_thousand_random_strategies_is_not_believed_and_skill_is():
    rows = noise(1000, seed=6)
    best = rows[int(np.argmax(rows.mean(axis=1) / rows.std(axis=1)))]
    trials = [trial(f"n{i}", row) for i, row in enumerate(rows)]
    lucky = deflate(best, trials)
    assert sharpe(best) > 1.2, "it looks good"
    assert lucky.deflated_sharpe < 0.95
    assert lucky.pbo > 0.25
    rows[7] += 0.003
    skilled = deflate(rows[7], [trial(f"n{i}", row) for i, row in enumerate(rows)])
    assert skilled.deflated_sharpe > 0.95
    assert skilled.pbo < 0.05


def test_returns_of_other_spans_stand_on_their_own_days():
    early = trial("early", np.array([0.1, 0.2]), last_session=date(2013, 12, 26))
    late = trial("late", np.array([0.3, 0.4, 0.5]))
    matrix = aligned([early, late])
    assert np.array_equal(matrix, [[0.1, 0.2, np.nan, np.nan, np.nan], [np.nan, np.nan, 0.3, 0.4, 0.5]], equal_nan=True)


def test_without_a_return_nothing_is_said():
    empty = deflate(np.array([]), [])
    assert (empty.raw, empty.clustered) == (1, 1)
    assert np.isnan(empty.deflated_sharpe)
    assert np.isnan(empty.pbo)


def test_trials_on_weekends_are_aligned_by_days_and_others_by_weekdays():
    """Friday to Monday: three days of coins, one of shares."""
    friday, monday = date(2022, 12, 23), date(2022, 12, 26)
    coins = [
        trial(name, noise(1)[0][:100], first_session=end - timedelta(days=100), last_session=end)
        for name, end in (("early", friday), ("late", monday))
    ]
    assert aligned(coins).shape == (2, 103)
    shares = [replace(one, returns=one.returns[:60]) for one in coins]
    assert aligned(shares).shape == (2, 61)
