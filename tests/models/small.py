"""Small panels for tests of models."""

from __future__ import annotations

import numpy as np

from octopus.core.panel import Panel
from octopus.core.types import FloatArray


def panel_of(returns: FloatArray) -> Panel:
    nan, ones = np.full(returns.shape, np.nan), np.ones(returns.shape)
    return Panel(
        sessions=np.arange(np.datetime64("2015-01-01"), np.datetime64("2015-01-01") + len(returns)),
        symbols=tuple(f"S{i}" for i in range(returns.shape[1])),
        close=np.cumprod(1 + returns, axis=0), total_return=returns, open=nan, high=nan, low=nan, volume=nan,
        member=np.ones(returns.shape, dtype=bool), sentiment=nan, split=ones, dividend=np.zeros(returns.shape),
        price_basis="total_return",
    )  # fmt: skip
