"""What both sides of a backtest are told alike: cash, costs, and the rule of the sweep. NumPy and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

FEES, CASH, INVESTED = 5e-4, 1_000_000.0, 0.95


def running_total(close: Any) -> Any:
    """What averages are differences of, shape (T + 1, N)."""
    return np.vstack([np.zeros((1, close.shape[1])), np.cumsum(close, axis=0)])


def crossings(total: Any, fast: int, slow: int) -> Any:
    """Weights (T, N) of the instruments whose fast average is above the slow one."""
    weights = np.zeros((len(total) - 1, total.shape[1]))
    last = total[slow:]
    is_above = (last - total[slow - fast : -fast]) * (slow / fast) > last - total[:-slow]
    np.multiply(is_above, INVESTED / total.shape[1], out=weights[slow - 1 :])
    return weights
