"""Histories glued from two sources: the level of prices or of volume changes from one bar to the next, for good.

Belongs here: jumps of the price that neither an action nor the day's trading explains, sessions from which on prices
are whole cents and before which they are not, and jumps of the volume's level. Does not: units and splits (units.py,
splits.py), seams that the adjusted close shows (dividends.py).
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.warehouse.defects.repair import multiply
from octopus.warehouse.defects.tape import MUTE, PRICES, Tape
from octopus.warehouse.quality import Finding, Kind, Severity

LEVEL_LEAST, LEVEL_DEVIATIONS, LEVEL_RANGE = 0.025, 6.5, 3.0
LEVEL_SELDOM = 4.2
"""Minus the log of how often the instrument jumps so far (`Tape.seldomness`): who does so once a quarter will again."""
STAYS = 0.6
"""Of the gap, at the close; an open that is off by itself is no level."""
NEXT_LOUDNESS = 0.35
"""By how much the day after a calm jump may be louder than the day itself may."""
CENT, CENT_SLACK = 0.01, 0.05
"""Exchanges quote whole cents: a price further than this share of a cent from one was computed, not traded."""
CENT_ROWS, CENTS_KEPT, CENTS_LOST = 20, 0.03, 0.2
"""Mean distance from whole cents over these bars on one side of a seam, and on the other: a quarter where they are no
cents at all, less where somebody rounded a ratio when undoing an action."""
SCALE_REACH, SCALE_STEP, SCALE_ROWS, SCALES_FITTED = 4.0, 2e-5, 40, 40
"""Scales that are tried for the older part: deviations of the opening gap, relative steps, bars they must fit, and how
many of them are fitted."""
VOLUME_BEFORE, VOLUME_AFTER = 60, 20
VOLUME_LEAST, VOLUME_AT_ONCE = np.log(5.0), 0.3
"""Change of the medians (log), and the share of it that the first day shows."""
LARGE, SEPARATE, MIXED_BEFORE, MIXED_AFTER, STRETCHED, VARIED, MOVED = 2.3, 4.0, 30.0, 6.0, 2.8, 1.9, 0.45
"""Weights: of the change, and of the change over the usual spread of volumes (logs of both); of the share of days on
either side that are nearer to the other's level; of how much wider a day's range is afterwards, and of how much volumes
vary afterwards (logs); and of the price's move on the day, in scales."""
VOLUME_EVIDENCE = 9.7
"""Eight changes in the 9,270 symbol-years of the tuned halves reached it, three of them of the vendor."""
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
        loudness = tape.loudness_at(rows)
        calm: BoolArray = (loudness > MUTE) & (loudness < bound) & (next_day < bound + NEXT_LOUDNESS)
    calm &= ~tape.stirs_at(rows, jump)
    rows, jump = rows[calm], jump[calm]
    seldom = tape.seldomness(excess, jump, tape.gap_scale_at(rows), rows) > LEVEL_SELDOM
    return rows[seldom & tape.trades_at(rows)]


def _level(tape: Tape, row: int, loudness: float) -> Finding:
    excess = float(tape.gap[row] - tape.log_yield[row])
    fields = (*PRICES, "adj_close")
    return tape.finding(
        Kind.SCRAPE_SEAM, Severity.WARN, (row, row), row + 1, {"jump": excess, "loudness": float(loudness)},
        f"opens {np.expm1(excess):+.1%} on {tape.day(row)} and stays there, on no more volume than usual",
        "compare both sides with a second source: an action is missing, or the history is glued from two",
        multiply(fields, float(np.exp(excess)), None, tape.day(row - 1)),
    )  # fmt: skip


def cent_seams(tape: Tape) -> list[Finding]:
    """Sessions from which on prices are whole cents, or no longer: a scaled history is glued to a printed one.

    Only of prices as printed: older ones that are adjusted for a split are fractions of cents by right. A part that was
    rounded to cents after it was scaled does not show; `level_seams` then sees the larger jumps.
    """
    if tape.basis != "printed":
        return []
    off = _cents_off(tape)
    whole = np.where((off <= CENT_SLACK).all(axis=0), 1.0, 0.0)
    with np.errstate(invalid="ignore"):
        # Where the adjusted close shows the seam too, it tells which actions are in it (dividends.py).
        seen = np.abs(tape.residue) > tape.residue_bound
    rows = np.flatnonzero((whole != tape.before(whole)) & ~tape.first & (tape.log_split == 0.0) & ~seen)
    rows = rows[(rows - tape.begin(rows) >= CENT_ROWS) & (tape.end(rows) - rows >= CENT_ROWS)]
    total = np.concatenate(([0.0], np.cumsum(off.mean(axis=0))))
    before, after = ((total[high] - total[high - CENT_ROWS]) / CENT_ROWS for high in (rows, rows + CENT_ROWS))
    flips = (np.minimum(before, after) <= CENTS_KEPT) & (np.maximum(before, after) >= CENTS_LOST)
    rows, change = rows[flips], (before - after)[flips]
    if not len(rows):
        return []
    near = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) >= CENT_ROWS) + 1)
    best = [int(group[np.abs(change[group]).argmax()]) for group in near]
    return [_cent_seam(tape, int(rows[one]), older_scaled=bool(change[one] > 0)) for one in best]


def _cents_off(tape: Tape) -> FloatArray:
    """Distance of each price from a whole cent, in cents, shape (fields, rows); 0 where there is none."""
    prices = np.stack([getattr(tape, name) for name in PRICES]) / CENT
    return np.nan_to_num(np.abs(prices - np.round(prices)))


def _cent_seam(tape: Tape, row: int, *, older_scaled: bool) -> Finding:
    scale = _scale_in_cents(tape, row) if older_scaled else None
    which, other = ("before", "from then on") if older_scaled else ("from", "before")
    level = "" if scale is None else f"; divided by {scale:.6g} they are, too"
    return tape.finding(
        Kind.SCRAPE_SEAM, Severity.WARN, (row, row), min(row + CENT_ROWS, tape.span(row)[1]) - 1,
        {"jump": float(tape.gap[row] - tape.log_yield[row]), "level": float("nan") if scale is None else scale},
        f"{which} {tape.day(row)} prices are fractions of cents, {other} whole cents{level}",
        "ingest the part in fractions again: it was multiplied by something, by an action that is not recorded or by "
        "another source", None if scale is None else multiply(
            (*PRICES, "adj_close"), 1 / scale, None, tape.day(row - 1)
        ),
    )  # fmt: skip


def _scale_in_cents(tape: Tape, row: int) -> float | None:
    """What prices before ``row`` must be divided by to be whole cents and to meet its open; None: nothing does."""
    low, _ = tape.span(row)
    rows = slice(max(low, row - SCALE_ROWS), row)
    prices = np.concatenate([getattr(tape, name)[rows] for name in PRICES])
    prices = prices[np.isfinite(prices)] / CENT
    reach = SCALE_REACH * float(tape.gap_scale_at(np.array([row]))[0])
    jump = -float(tape.gap[row] - tape.log_yield[row])
    scales = np.exp(np.arange(jump - reach, jump + reach, min(SCALE_STEP, 0.3 / float(prices.max()))))
    off = np.concatenate([_off_cents(prices, part) for part in np.array_split(scales, max(1, len(scales) // 500))])
    # Beside the true scale others come near: those that shift all prices by a cent. Each is fitted before they are told
    # apart, because the steps tried fall nearer to one than to another by chance.
    fitted = _fitted(prices, scales[np.argsort(off)[:SCALES_FITTED]])
    off = _off_cents(prices, fitted)
    best = float(fitted[off.argmin()])
    return None if off.min() > CENT_SLACK or abs(np.log(best)) < 2 * SCALE_STEP else best


def _fitted(prices: FloatArray, scales: FloatArray) -> FloatArray:
    """Each of ``scales`` moved to where it fits the whole cents that it makes best, by least squares."""
    cents = np.round(prices[:, None] / scales)
    result: FloatArray = (prices[:, None] * cents).sum(axis=0) / (cents * cents).sum(axis=0)
    return result


def _off_cents(prices: FloatArray, scales: FloatArray) -> FloatArray:
    """Mean distance of ``prices`` over each of ``scales`` from whole cents, in cents."""
    scaled = prices[:, None] / scales
    mean: FloatArray = np.abs(scaled - np.round(scaled)).mean(axis=0)
    return mean


def volume_seams(tape: Tape) -> list[Finding]:
    """Rows from which on volume is counted in another unit.

    Medians of a quarter before and a month after differ, at once, and hardly a day on either side is as the days on the
    other: interest that grows comes and goes, moves the price, and stretches its days.
    """
    volume = tape.log_volume
    with np.errstate(invalid="ignore"):
        jump = volume - tape.before(volume)
        rows = np.flatnonzero(np.abs(jump) > VOLUME_AT_ONCE * VOLUME_LEAST)
        change = tape.leading_median(volume, VOLUME_AFTER, rows) - _median_before(tape, volume, rows)
        wide = (np.abs(change) > VOLUME_LEAST) & (np.sign(change) * jump[rows] > VOLUME_AT_ONCE * np.abs(change))
        rows, change = rows[wide], change[wide]
        chosen = _other_unit(tape, rows, change) > VOLUME_EVIDENCE
    rows, change = rows[chosen], change[chosen]
    near = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) >= VOLUME_AFTER) + 1) if len(rows) else []
    best = [int(group[np.abs(jump[rows[group]]).argmax()]) for group in near]
    return [_volume(tape, int(rows[one]), float(change[one])) for one in best]


def _other_unit(tape: Tape, rows: IntArray, change: FloatArray) -> FloatArray:
    """Log odds, up to a constant, of a new unit against new interest where the level of volume changes by ``change``.

    By logistic regression: volumes times 10 and 100, and their inverses, that were planted into the tuned halves,
    against all changes of their untouched bars.
    """
    sign = np.sign(change)[:, None]
    before, after = (
        sign * (_window(tape, tape.log_volume, rows, *ends) - _median_before(tape, tape.log_volume, rows)[:, None])
        for ends in ((-VOLUME_BEFORE, 0), (0, VOLUME_AFTER))
    )
    half = np.abs(change)[:, None] / 2
    varied = np.nanmedian(np.abs(after - np.nanmedian(after, axis=1)[:, None]), axis=1)
    ranges = np.log(np.maximum(tape.high / tape.low, 1.0))
    wider = tape.leading_median(ranges, VOLUME_AFTER, rows) / np.maximum(_median_before(tape, ranges, rows), 1e-9)
    moved = np.abs(tape.move - tape.market)[rows] / tape.move_scale_at(rows)
    evidence: FloatArray = (
        LARGE * np.log(np.abs(change))
        + SEPARATE * np.log(np.abs(change) / _spread_before(tape, tape.log_volume, rows))
        - MIXED_BEFORE * _share(before > half, before)
        - MIXED_AFTER * _share(after < half, after)
        - VARIED * np.log(np.maximum(varied, 0.05))
        # A source without highs and lows says nothing of the range.
        - STRETCHED * np.nan_to_num(np.log(np.clip(wider, 0.2, 8.0)))
        - MOVED * np.nan_to_num(np.minimum(moved, 8.0))
    )
    return evidence


def _window(tape: Tape, values: FloatArray, rows: IntArray, first: int, last: int) -> FloatArray:
    """``values`` from ``first`` up to ``last`` bars after each of ``rows``, NaN beyond the instrument's own."""
    places = rows[:, None] + np.arange(first, last)
    within = (places >= tape.begin(rows)[:, None]) & (places < tape.end(rows)[:, None])
    return np.where(within, values[np.clip(places, 0, len(tape) - 1)], np.nan)


def _share(flags: BoolArray, values: FloatArray) -> FloatArray:
    """Share of the numbers among ``values`` that are flagged, in each row."""
    share: FloatArray = flags.sum(axis=1) / np.maximum(np.isfinite(values).sum(axis=1), 1)
    return share


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
