"""Histories glued from two sources: the level of prices or of volume changes from one bar to the next, for good.

Belongs here: jumps of the price that neither an action nor the day's trading explains, and jumps of the volume's level.
Does not: units and splits (units.py, splits.py), seams that the adjusted close shows (dividends.py).
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.warehouse.defects.repair import multiply
from octopus.warehouse.defects.tape import PRICES, Tape
from octopus.warehouse.quality import Finding, Kind, Severity

LEVEL_LEAST, LEVEL_DEVIATIONS, LEVEL_RANGE = 0.025, 6.5, 3.0
STAYS = 0.6
"""Of the gap, at the close; an open that is off by itself is no level."""
NEXT_LOUDNESS = 0.35
"""By how much the day after a calm jump may be louder than the day itself may."""
VOLUME_BEFORE, VOLUME_AFTER = 60, 20
VOLUME_LEAST = np.log(5.0)
VOLUME_DEVIATIONS, NEWS_DEVIATIONS = 4.5, 3.5
VOLUME_FACTORS = np.log(np.array([10.0, 100.0, 1000.0]))


def level_seams(tape: Tape) -> list[Finding]:
    """Overnight jumps on a calm tape: the price stands elsewhere in the morning, and trades there calmly."""
    rows = calm_jumps(tape)
    return [_level(tape, row, loudness) for row, loudness in zip(rows, tape.loudness_at(rows), strict=True)]


def calm_jumps(tape: Tape) -> IntArray:
    """Rows of those jumps."""
    excess = tape.gap - tape.log_yield - tape.market_gap
    with np.errstate(invalid="ignore"):
        stays = np.sign(excess) * (tape.move - tape.log_yield - tape.market) > STAYS * np.abs(excess)
        rows = np.flatnonzero((np.abs(excess) > LEVEL_LEAST) & stays)
        jump = np.abs(excess[rows])
        far = jump > LEVEL_DEVIATIONS * tape.gap_scale_at(rows)
        inside = np.abs(tape.raw_move - tape.raw_gap)[rows] < LEVEL_RANGE * tape.move_scale_at(rows)
        rows, jump = rows[far & inside], jump[far & inside]
        bound = tape.loudness_bound(jump)
        last = rows + 1 == tape.end(rows)
        next_day = np.where(last, np.nan, tape.loudness_at(np.minimum(rows + 1, len(tape) - 1)))
        calm: BoolArray = (tape.loudness_at(rows) < bound) & (next_day < bound + NEXT_LOUDNESS)
    return rows[calm]


def _level(tape: Tape, row: int, loudness: float) -> Finding:
    excess = float(tape.gap[row] - tape.log_yield[row])
    fields = (*PRICES, "adj_close")
    return tape.finding(
        Kind.SCRAPE_SEAM, Severity.WARN, (row, row), row + 1, {"jump": excess, "loudness": float(loudness)},
        f"opens {np.expm1(excess):+.1%} on {tape.day(row)} and stays there, on no more volume than usual",
        "compare both sides with a second source: an action is missing, or the history is glued from two",
        multiply(fields, float(np.exp(excess)), None, tape.day(row - 1)),
    )  # fmt: skip


def volume_seams(tape: Tape) -> list[Finding]:
    """Rows from which on volume is counted in another unit: medians of a quarter before and a month after differ."""
    volume = tape.log_volume
    with np.errstate(invalid="ignore"):
        jump = np.abs(volume - tape.before(volume))
        rows = np.flatnonzero(jump > 0.5 * VOLUME_LEAST)
        change = tape.leading_median(volume, VOLUME_AFTER, rows) - _median_before(tape, volume, rows)
        wide = (np.abs(change) > VOLUME_LEAST) & (jump[rows] > 0.5 * np.abs(change))
        rows, change = rows[wide], change[wide]
        far = np.abs(change) > VOLUME_DEVIATIONS * _spread_before(tape, volume, rows)
        # A price that moves with it has news: the interest is real.
        calm = np.abs(tape.move - tape.market)[rows] < NEWS_DEVIATIONS * tape.move_scale_at(rows)
    found, last = [], -VOLUME_AFTER
    for row, size in zip(rows[far & calm].tolist(), change[far & calm].tolist(), strict=True):
        if row - last >= VOLUME_AFTER:
            found.append(_volume(tape, row, size))
            last = row
    return found


def _median_before(tape: Tape, values: FloatArray, rows: IntArray) -> FloatArray:
    return tape.trailing_median(values, VOLUME_BEFORE, VOLUME_AFTER, rows)


def _spread_before(tape: Tape, volume: FloatArray, rows: IntArray) -> FloatArray:
    """Median distance of each bar of the quarter before ``rows`` from the median of its own quarter before."""
    window = np.unique(np.maximum(rows[:, None] - np.arange(1, VOLUME_BEFORE + 1), 0))
    distance = np.full(len(tape), np.nan)
    distance[window] = np.abs(volume[window] - _median_before(tape, volume, window))
    return _median_before(tape, distance, rows)


def _volume(tape: Tape, row: int, change: float) -> Finding:
    near = VOLUME_FACTORS[np.abs(VOLUME_FACTORS - abs(change)).argmin()] * np.sign(change)
    exact = abs(near - change) < 0.6
    factor = float(np.exp(near if exact else change))
    return tape.finding(
        Kind.VOLUME_SEAM, Severity.WARN, (row, row), row + VOLUME_AFTER - 1, {"change": float(np.exp(change))},
        f"from {tape.day(row)} on volume is {np.exp(change):.3g} times what it was",
        "ingest the older volumes again: they are counted in lots, on another exchange, or unadjusted",
        multiply(("volume",), round(factor, 9), None, tape.day(row - 1)) if exact else None,
    )  # fmt: skip
