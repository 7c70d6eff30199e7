"""The tape's statistics at a few rows are those of the whole tape, to the bit."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from octopus.warehouse.defects.tape import Tape, tape_of

NO_ACTIONS = pl.DataFrame(schema={"instrument": pl.String, "session": pl.Date, "kind": pl.String, "value": pl.Float64})


def tape(seed: int, lengths: list[int], missing: float) -> Tape:
    random = np.random.default_rng(seed)
    days = [date(2020, 1, 1) + timedelta(days=row) for length in lengths for row in range(length)]
    close = np.exp(np.cumsum(random.normal(0, 0.02, len(days))))
    volume = np.where(random.random(len(days)) < missing, 0.0, random.integers(1, 10_000, len(days)))
    frame = pl.DataFrame(
        {
            "instrument": np.repeat([f"S{number}" for number in range(len(lengths))], lengths),
            "session": days,
            **{name: np.where(random.random(len(days)) < missing, np.nan, close) for name in ("open", "high", "low")},
            "close": close,
            "volume": volume.astype(float),
        }
    )
    return tape_of(frame, NO_ACTIONS, "printed")


@given(
    st.integers(0, 2**32 - 1), st.lists(st.integers(1, 90), min_size=1, max_size=5), st.floats(0, 0.6),
    st.integers(2, 70), st.integers(1, 20),
)  # fmt: skip
def test_a_median_at_some_rows_is_the_rolling_one(
    seed: int, lengths: list[int], missing: float, window: int, least: int
) -> None:
    found = tape(seed, lengths, missing)
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(found)) < 0.5)
    least = min(least, window)
    for values in (found.log_volume, found.gap):
        everywhere = found.trailing_median(values, window, least)
        assert np.array_equal(found.trailing_median(values, window, least, rows), everywhere[rows], equal_nan=True)
    assert np.array_equal(found.gap_scale_at(rows), found.gap_scale[rows], equal_nan=True)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(2, 20))
def test_a_leading_median_stays_within_its_instrument(seed: int, lengths: list[int], window: int) -> None:
    found = tape(seed, lengths, 0.2)
    rows = np.arange(len(found))
    medians = found.leading_median(found.log_volume, window, rows)
    for row, got in zip(rows.tolist(), medians.tolist(), strict=True):
        stop = found.starts[found.code[row] + 1]
        values = found.log_volume[row : row + window]
        numbers = values[~np.isnan(values)]
        expected = np.median(numbers) if row + window <= stop and len(numbers) >= max(window // 2, 1) else np.nan
        np.testing.assert_allclose(got, expected, rtol=1e-12)
