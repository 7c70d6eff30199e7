"""Histories glued from two sources: the level of prices or of volume changes from one bar to the next, for good.

Belongs here: jumps of the price that neither an action nor the day's trading explains, and jumps of the volume's level.
Does not: units and splits (units.py, splits.py), seams that the adjusted close shows (dividends.py).
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import BoolArray, FloatArray
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
    flags = calm_jumps(tape)
    return [_level(tape, row) for row in np.flatnonzero(flags).tolist()]


def calm_jumps(tape: Tape) -> BoolArray:
    excess = tape.gap - tape.log_yield - tape.market_gap
    with np.errstate(invalid="ignore"):
        jump = np.abs(excess) > np.maximum(LEVEL_LEAST, LEVEL_DEVIATIONS * tape.gap_scale)
        stays = np.sign(excess) * (tape.move - tape.log_yield - tape.market) > STAYS * np.abs(excess)
        inside = stays & (np.abs(tape.raw_move - tape.raw_gap) < LEVEL_RANGE * tape.move_scale)
        bound = tape.loudness_bound(excess)
        calm: BoolArray = jump & inside & (tape.loudness < bound)
        return calm & (tape.after(tape.loudness) < bound + NEXT_LOUDNESS)


def _level(tape: Tape, row: int) -> Finding:
    excess = float(tape.gap[row] - tape.log_yield[row])
    fields = (*PRICES, "adj_close")
    return tape.finding(
        Kind.SCRAPE_SEAM, Severity.WARN, (row, row), row + 1, {"jump": excess, "loudness": float(tape.loudness[row])},
        f"opens {np.expm1(excess):+.1%} on {tape.day(row)} and stays there, on no more volume than usual",
        "compare both sides with a second source: an action is missing, or the history is glued from two",
        multiply(fields, float(np.exp(excess)), None, tape.day(row - 1)),
    )  # fmt: skip


def volume_seams(tape: Tape) -> list[Finding]:
    """Rows from which on volume is counted in another unit: medians of a quarter before and a month after differ."""
    volume = tape.log_volume
    before = tape.trailing_median(volume, VOLUME_BEFORE, VOLUME_AFTER)
    spread = tape.trailing_median(np.abs(volume - before), VOLUME_BEFORE, VOLUME_AFTER)
    after = _leading_median(tape, volume)
    change = after - before
    with np.errstate(invalid="ignore"):
        far = np.abs(change) > np.maximum(VOLUME_LEAST, VOLUME_DEVIATIONS * spread)
        sharp = np.abs(volume - tape.before(volume)) > 0.5 * np.abs(change)
        # A price that moves with it has news: the interest is real.
        sharp &= np.abs(tape.move - tape.market) < NEWS_DEVIATIONS * tape.move_scale
    rows = np.flatnonzero(far & sharp)
    found, last = [], -VOLUME_AFTER
    for row in rows.tolist():
        if row - last >= VOLUME_AFTER:
            found.append(_volume(tape, row, float(change[row])))
            last = row
    return found


def _leading_median(tape: Tape, values: FloatArray) -> FloatArray:
    """Median of each row and the `VOLUME_AFTER` - 1 after it, NaN where fewer are left."""
    turned = np.concatenate([values[::-1]])
    codes = tape.code[::-1]
    import polars as pl

    frame = pl.DataFrame({"code": codes, "value": turned}).with_columns(pl.col("value").fill_nan(None))
    median = pl.col("value").rolling_median(VOLUME_AFTER, min_samples=VOLUME_AFTER // 2).over("code")
    result = frame.select(median.fill_null(float("nan"))).to_series().to_numpy().astype(np.float64)[::-1]
    place = tape.starts[np.searchsorted(tape.starts, np.arange(len(tape)), side="right")] - np.arange(len(tape))
    return np.where(place >= VOLUME_AFTER, result, np.nan)


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
