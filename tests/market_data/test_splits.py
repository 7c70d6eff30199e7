"""Undoing a vendor's split adjustment."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from octopus.market_data.splits import later_split_factor
from resources.sources.yahoo import printed_actions, printed_bars


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]")


def test_by_hand():
    """4:1 in 2021 and 10:1 in 2024: a share of 2020 is 40 today, one of the ex-date itself is a new one."""
    asked = days("2020-01-02", "2021-07-19", "2021-07-20", "2024-06-07", "2024-06-10", "2025-01-02")
    factor = later_split_factor(asked, days("2024-06-10", "2021-07-20"), np.array([10.0, 4.0]))
    assert factor.tolist() == [40.0, 40.0, 10.0, 10.0, 1.0, 1.0]


def test_without_splits_nothing_changes():
    assert later_split_factor(days("2020-01-02"), days(), np.array([])).tolist() == [1.0]


@given(
    prices=st.lists(st.integers(500, 500_000), min_size=3, max_size=12),
    splits=st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.1, 0.5, 1.5, 2.0, 3.0, 4.0, 10.0])), max_size=3),
)
def test_prices_as_printed_are_recovered_whatever_splits_came_later(prices, splits):
    """Adjusted in 32 bits, as Yahoo sends them, and undone: the cents are back, for any later splits."""
    index = pd.bdate_range("2020-01-01", periods=40)
    ratios = np.zeros(40)
    for row, ratio in splits:
        ratios[row] = ratio
    printed = np.resize(np.array(prices) / 100, 40)
    factor = np.array([np.prod(ratios[row + 1 :][ratios[row + 1 :] > 0]) for row in range(40)])
    adjusted = (printed / factor).astype(np.float32).astype(np.float64)
    volume = np.full(40, 1_000_000.0) * factor
    history = pd.DataFrame(
        dict.fromkeys(("Open", "High", "Low", "Close"), adjusted)
        | {"Volume": volume, "Stock Splits": ratios, "Dividends": 0.25 * (np.arange(40) % 20 == 5) / factor},
        index=index,
    )
    bars = printed_bars("A", history)
    assert np.abs(bars["close"].to_numpy() - printed).max() <= 1e-3
    assert (bars["volume"] == 1_000_000).all()
    paid = printed_actions("A", history)
    assert paid.filter(kind="dividend")["value"].to_list() == [0.25, 0.25]
    assert paid.filter(kind="split")["value"].to_list() == ratios[ratios > 0].tolist()
    assert bars["session"][0] == date(2020, 1, 1)
