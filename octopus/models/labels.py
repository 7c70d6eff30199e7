"""What a model is taught to predict.

Belongs here: labels and when each is known. Does not: features.
"""

from __future__ import annotations

import numpy as np

from octopus.core.panel import Panel
from octopus.core.stats import standardised
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
    forward = entered(panel)
    reach = len(steps) - 1 - horizon
    if reach > 0:
        growth = np.ones((reach, steps.shape[1]))
        for step in range(horizon):
            growth = growth * (1.0 + steps[2 + step : 2 + step + reach])
        forward[:reach] *= growth - 1.0
    forward[max(reach, 0) :] = np.nan
    return standardised(forward, panel.member, least=5)


def entered(panel: Panel) -> FloatArray:
    """1 where a decision of the row could be executed at the close of T+1, NaN where there is no bar, shape (T, N).

    Without a bar in T+1 the return of T+2 spans the gap and holds a part that nobody could earn.
    """
    result = np.full(panel.close.shape, np.nan)
    result[:-1] = np.where(np.isnan(panel.close[1:]), np.nan, 1.0)
    return result


def known_after(horizon: int) -> int:
    """Sessions from a label's row to the one at whose close it is known."""
    return 1 + horizon
