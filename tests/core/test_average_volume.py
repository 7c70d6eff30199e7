"""The average daily volume across splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.panel import ADV_SESSIONS, average_volume

RATIOS = st.sampled_from([1.0] * 8 + [2.0, 10.0, 0.05, 1.5])


def test_a_market_that_trades_the_same_money_each_day_has_the_same_shares_of_today_on_average() -> None:
    """1,000 shares a day, split 10:1 before the last session: 10,000 of the new ones; 1:20: 50."""
    split = np.ones((30, 2))
    split[-1] = 10.0, 0.05
    volume = 1000.0 * np.cumprod(split, axis=0)
    assert average_volume(volume, split).tolist() == [10_000.0, 50.0]
    assert average_volume(volume[:-1], split[:-1]).tolist() == [1000.0, 1000.0]


@settings(deadline=None, max_examples=60)
@given(
    days=st.lists(st.tuples(st.none() | st.integers(0, 10**9), RATIOS), min_size=1, max_size=ADV_SESSIONS + 5),
)
def test_each_volume_counts_in_the_shares_that_the_splits_after_it_made(days: list[tuple[int | None, float]]) -> None:
    volume = np.array([[np.nan if traded is None else traded] for traded, _ in days], dtype=np.float64)
    split = np.array([[ratio] for _, ratio in days])
    known = [
        traded * float(np.prod([ratio for _, ratio in days[place + 1 :]]))
        for place, (traded, _) in enumerate(days)
        if traded is not None and place >= len(days) - ADV_SESSIONS
    ]
    (found,) = average_volume(volume, split).tolist()
    if known:
        assert found == pytest.approx(sum(known) / len(known), rel=1e-12)
    else:
        assert np.isnan(found)


def test_without_a_split_it_is_the_plain_mean_to_the_last_bit() -> None:
    volume = np.random.default_rng(5).integers(1, 10**9, (40, 6)) / 7
    expected = volume[-ADV_SESSIONS:].sum(axis=0) / ADV_SESSIONS
    assert average_volume(volume, np.ones(volume.shape)).tolist() == expected.tolist()
