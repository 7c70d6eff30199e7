"""The published samples of StockNet's protocol, out of the recorded bars."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks.stocknet import SAMPLES, protocol
from octopus.core.panel import Panel
from octopus.market_data.returns import total_returns

pytestmark = pytest.mark.testdata


def test_the_samples_are_the_published_ones_on_64_test_days(test_data):
    bars = pl.read_parquet(test_data / "prices_stocknet.parquet").with_columns(pl.col("date").cast(pl.Date))
    wide = bars.pivot(on="symbol", index="date", values="adj_close").sort("date")
    close = wide.drop("date").to_numpy()
    empty, ones = np.full(close.shape, np.nan), np.ones(close.shape)
    panel = Panel(
        sessions=wide["date"].to_numpy().astype("datetime64[D]"), symbols=tuple(wide.columns[1:]), close=close,
        total_return=total_returns(close, ones, np.zeros(close.shape)), open=empty, high=empty, low=empty, volume=empty,
        sentiment=empty, member=np.isfinite(close), split=ones, dividend=np.zeros(close.shape),
        price_basis="total_return",
    )  # fmt: skip
    samples = protocol(panel)
    assert tuple(int(samples.rows(part).sum()) for part in range(3)) == SAMPLES
    assert samples.rows(2).any(axis=1).sum() == 64
