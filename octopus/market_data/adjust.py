"""Adjusted closes from printed ones and the actions of each day, as of any day.

Belongs here: the arithmetic of adjustment, and what a spun-off share was worth. Does not: returns (returns.py, which
needs no adjusted price), a vendor's own adjusted closes and what is wrong with them (octopus/warehouse/defects).

An adjusted close is told from a later day: in shares of that day, and as if what was paid since had never been part of
the price. Each ex-session has a factor on all closes before it:

    factor = (1 - cash / base) / split,     base = previous close / splits since

so a 2:1 split halves them, and 0.08 paid on 24.96 takes 0.32 % off. Source: Yahoo Finance help SLN28256, "What is the
adjusted close?", which names the standards of CRSP. CRSP itself adjusts its prices only for distributions in shares,
and a spin-off by ``1 + worth / close of the ex-session``; here a spin-off counts like cash, against the close before.
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import DateArray, FloatArray, IntArray


def session_factors(
    close: FloatArray, split: FloatArray, dividend: FloatArray | None = None, *, spin_off: FloatArray | None = None
) -> FloatArray:
    """What the actions of each session multiply all closes before it by.

    Args:
        close: as printed, shape (T, N); NaN where there is no bar.
        split: new shares for one old, effective that session; 1.0 on ordinary ones.
        dividend: cash for one share as held on the ex-session, after its split; 0.0 on ordinary ones. None: adjust for
            splits only.
        spin_off: like ``dividend``, the worth of spun-off shares (`spin_off_worths`); NaN where nobody knows it.

    Returns:
        Shape (T, N); 1.0 without an action, and for a payment before the first bar, which no close precedes. NaN where
        as much was paid as the share was worth, or the worth of a spin-off is unknown: closes before it cannot be
        compared with those after.
    """
    shares = np.cumprod(split, axis=0)
    factors: FloatArray = 1.0 / split
    payments = [one for one in (dividend, spin_off) if one is not None]
    paid = np.sum(payments, axis=0) if payments else np.zeros(close.shape)
    if not np.any(paid != 0.0):
        return factors
    level = close * shares
    rows = np.arange(len(close))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(close), -1, rows), axis=0)
    before = np.vstack([np.full((1, close.shape[1]), -1), last[:-1]])
    base = np.where(before >= 0, np.take_along_axis(level, np.maximum(before, 0), axis=0), np.nan) / shares
    kept = np.where((paid == 0.0) | np.isnan(base), 1.0, 1.0 - paid / base)
    return factors * np.where(kept > 0.0, kept, np.nan)


def adjusted_closes(
    close: FloatArray,
    split: FloatArray,
    dividend: FloatArray | None = None,
    *,
    spin_off: FloatArray | None = None,
    as_of_row: int | IntArray | None = None,
) -> FloatArray:
    """Closes adjusted for what happened after their session and up to ``as_of_row``.

    Args:
        close, split, dividend, spin_off: as `session_factors` takes them.
        as_of_row: from which session to look, one row or one for each close (broadcast to (T, N)), as vendors' closes
            have it that were fetched on different days; None: the last.

    Returns:
        Shape (T, N). NaN without a bar, for sessions after ``as_of_row``, and beyond a factor that is NaN.
    """
    factors = session_factors(close, split, dividend, spin_off=spin_off)
    rows = np.arange(len(close))[:, None]
    as_of = np.broadcast_to(np.asarray(len(close) - 1 if as_of_row is None else as_of_row), close.shape)
    since, unknown = np.nancumprod(factors, axis=0), np.cumsum(np.isnan(factors), axis=0)
    adjusted = close * (np.take_along_axis(since, as_of, axis=0) / since)
    hidden = (rows > as_of) | (np.take_along_axis(unknown, as_of, axis=0) != unknown)
    return np.where(hidden, np.nan, adjusted)


PATIENCE_DAYS = 14
"""Calendar days, the ex-session's own included, in which the first close of a new company must come: ten sessions, as
CRSP allows; dbt_project/macros/spin_offs.sql says the same."""


def spin_off_worths(close: FloatArray, ratio: FloatArray, company: IntArray, sessions: DateArray) -> FloatArray:
    """Worth of the spun-off shares for one share held, at their first close.

    Args:
        close: as printed, shape (T, N), of the new companies too.
        ratio: new company's shares for one share held, on the ex-session, shape (T, N); 0.0 on ordinary sessions.
        company: column of the new company where ``ratio`` is not zero, shape (T, N); -1 where it has none.
        sessions: of the rows, ascending, shape (T,); the first close must come within `PATIENCE_DAYS`.

    Returns:
        Shape (T, N), in currency; 0.0 on ordinary sessions, NaN where no close of the new company is known in time. The
        worth is known only once that close is.
    """
    worth = np.zeros(close.shape)
    for row, column in np.argwhere(ratio != 0.0).tolist():  # one for each spin-off
        new = int(company[row, column])
        last = int(np.searchsorted(sessions, sessions[row] + np.timedelta64(PATIENCE_DAYS, "D")))
        first = close[row:last, new] if new >= 0 else np.zeros(0)
        known = first[~np.isnan(first)]
        worth[row, column] = ratio[row, column] * known[0] if len(known) else np.nan
    return worth
