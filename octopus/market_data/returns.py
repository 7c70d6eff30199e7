"""Total returns from prices as printed and the actions of each day.

Belongs here: the arithmetic of returns under splits, dividends and spin-offs. Does not: what spun-off shares were worth
(adjust.py), features on returns (octopus/strategy).
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import FloatArray


def total_returns(
    close: FloatArray, split: FloatArray, dividend: FloatArray, spin_off: FloatArray | None = None
) -> FloatArray:
    """Simple total return of each bar against the instrument's previous bar.

    ``(close + dividend + spin_off) * split / previous close - 1``. Built forward, day by day, so that no later day
    changes it. Actions on days without a bar count at the next bar.

    Args:
        close: as printed, shape (T, N); NaN where there is no bar.
        split: new shares for one old, effective that day; 1.0 on ordinary days.
        dividend: cash for one share as held on the ex-date, after that day's split; 0.0 on ordinary days.
        spin_off: like ``dividend``, the worth of the shares spun off (`octopus.market_data.adjust.spin_off_worths`);
            NaN where nobody knows it. None: nothing was spun off.

    Returns:
        Fractions, shape (T, N); NaN on an instrument's first bar, where there is no bar, and at the first bar since a
        spin-off of unknown worth.
    """
    paid = dividend if spin_off is None else dividend + spin_off
    has_bar = ~np.isnan(close)
    last = close.copy()
    for row in np.flatnonzero(~has_bar.all(axis=1)).tolist():  # sessions with holes, each as one vector
        if row:
            last[row] = np.where(has_bar[row], close[row], last[row - 1])
    previous = np.full_like(close, np.nan)
    previous[1:] = last[:-1]
    if not ((split != 1.0) | (paid != 0.0)).any():
        return close / previous - 1.0
    # One old share becomes `shares` new ones since the previous bar, and has brought `cash` on the way.
    shares, cash = np.ones(close.shape[1]), np.zeros(close.shape[1])
    result = np.full_like(close, np.nan)
    for row in range(len(close)):  # sessions, each as one vector over instruments
        shares = shares * split[row]
        cash = cash + shares * paid[row]
        result[row] = (close[row] * shares + cash) / previous[row] - 1.0
        shares = np.where(has_bar[row], 1.0, shares)
        cash = np.where(has_bar[row], 0.0, cash)
    return result
