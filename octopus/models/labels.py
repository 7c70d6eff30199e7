"""What a model is taught to predict.

Belongs here: labels and when each is known. Does not: features.
"""

from __future__ import annotations

import numpy as np

from octopus.core.panel import Panel
from octopus.core.types import FloatArray


def forward_excess_return(panel: Panel, horizon: int) -> FloatArray:
    """Total return from the close of T+1 to the close of T+1+horizon less the members' mean, in their standard
    deviation.

    A decision of T is executed in T+1, so the return of T to T+1 is nobody's. The label of row t is known at row
    t+1+horizon; NaN where the panel does not reach that far, a bar is missing, or fewer than five members have one.

    Returns:
        shape (T, N).
    """
    steps = panel.total_return
    forward = np.full(steps.shape, np.nan)
    reach = len(steps) - 1 - horizon
    if reach > 0:
        growth = np.ones((reach, steps.shape[1]))
        for step in range(horizon):
            growth = growth * (1.0 + steps[2 + step : 2 + step + reach])
        forward[:reach] = growth - 1.0
    inside = panel.member & ~np.isnan(forward)
    count = inside.sum(axis=1, keepdims=True)
    centre = np.where(inside, forward, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(inside, forward - centre, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(inside & (count >= 5) & (spread > 1e-12), deviation / spread, np.nan)


def known_after(horizon: int) -> int:
    """Sessions from a label's row to the one at whose close it is known."""
    return 1 + horizon
