"""From prices adjusted for splits back to prices as printed.

Belongs here: undoing a vendor's split adjustment. Does not: adjusting prices for use (dbt's marts do it as of a day).
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import DateArray, FloatArray


def later_split_factor(days: DateArray, split_days: DateArray, ratios: FloatArray) -> FloatArray:
    """For each day, by what a share of that day has since been multiplied.

    The product of the ratios of all splits whose ex-date is later than the day: on the ex-date itself the price is
    already that of the new share.

    Args:
        days: shape (n,), any order. split_days, ratios: ex-dates and new shares for one old, shape (k,), any order.

    Returns:
        Shape (n,): ``printed = adjusted × factor``, ``traded volume = adjusted volume / factor`` and
        ``dividend paid = adjusted dividend × factor``; 1.0 where no split follows.
    """
    order = np.argsort(split_days, kind="stable")
    # Product over splits k.. to the end, and 1.0 after the last.
    tail = np.append(np.cumprod(ratios[order][::-1])[::-1], 1.0)
    factor: FloatArray = tail[np.searchsorted(split_days[order], days, side="right")]
    return factor
