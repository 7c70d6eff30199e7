"""Splits that prices contradict: missing, of another ratio, on another day, recorded though prices never jump.

Belongs here: judging splits of printed prices by the opening gap, the vendor's adjusted close and the grid of cents.
Does not: split-adjusted prices (units.py, uneven_splits), dividends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from octopus.core.types import FloatArray
from octopus.warehouse.defects.repair import (
    add_action,
    change_action,
    move_action,
    multiply,
    remove_action,
    several,
)
from octopus.warehouse.defects.tape import MUTE, PRICES, Tape
from octopus.warehouse.quality import Finding, Kind, Severity

RATIOS: FloatArray = np.array(
    [*range(2, 11), 12, 15, 16, 20, 25, 30, 40, 50, 100, 1.5, 1.25, 4 / 3, 1.2, 5 / 3, 1.1, 2.5, 3.5, 1.05, 1.3, 1.4]
)
RATIOS = np.unique(np.concatenate([RATIOS, 1 / RATIOS[RATIOS >= 2]]))
"""New for one old that companies choose: whole numbers, simple fractions, stock dividends; consolidations."""
FITS, CONTRADICTS = 5.0, 7.0
"""In deviations of opening gaps: a ratio explains a gap, or does not."""
LEAST_LOG = 0.04
"""Splits of four percent and less are not told from ordinary opening gaps; the adjusted close may still show them."""
SEARCH_ROWS = 45
CALM_LEAST, CALM_DEVIATIONS = 0.07, 8.0
TICK = 0.01
PAIR_TOLERANCE = 0.12


@dataclass(frozen=True)
class Split:
    """One split recorded: the bar it acts on, and what the actions say."""

    row: int
    session: str
    ratio: float


def split_defects(tape: Tape, actions: pl.DataFrame) -> list[Finding]:
    """Findings on splits of printed prices; none for another basis."""
    if tape.basis != "printed":
        return []
    found: list[Finding] = []
    matched: set[int] = set()
    recorded = _recorded(tape, actions)
    for split in recorded:
        finding, other = _judge(tape, split, recorded)
        if finding:
            found.append(finding)
            matched |= {split.row, other}
    taken = matched | {split.row for split in recorded}
    return found + [_missing(tape, row, ratio) for row, ratio in _unrecorded(tape) if row not in taken]


def _recorded(tape: Tape, actions: pl.DataFrame) -> list[Split]:
    splits = actions.filter((pl.col("kind") == "split") & (pl.col("value") > 0)).sort("instrument", "session")
    names = {name: index for index, name in enumerate(tape.symbols)}
    result = []
    for name, day, ratio in splits.select("instrument", "session", "value").iter_rows():
        if name in names:
            low, high = int(tape.starts[names[name]]), int(tape.starts[names[name] + 1])
            row = low + int(np.searchsorted(tape.session[low:high], np.datetime64(day, "D")))
            if low < row < high:
                result.append(Split(row, str(day), float(ratio)))
    return result


def _distance(tape: Tape, row: int, ratio: float) -> float:
    """Deviations between the gap and what a split of ``ratio`` and the row's dividend make of it."""
    expected = -np.log(ratio) + float(tape.log_yield[row])
    # The open may be off: the lesser of both readings, the close at its own scale.
    at = np.array([row])
    opened = abs(tape.raw_gap[at] - expected) / tape.gap_scale_at(at)
    closed = abs(tape.raw_move[at] - expected) / tape.move_scale_at(at)
    return float(np.nanmin([opened, closed]))


def _judge(tape: Tape, split: Split, recorded: list[Split]) -> tuple[Finding | None, int]:
    """What is wrong with a recorded split, and the row of the jump that belongs to it (its own where there is none)."""
    row, size = split.row, abs(np.log(split.ratio))
    total = float(np.exp(tape.log_split[row]))
    if size < LEAST_LOG or _distance(tape, row, total) <= CONTRADICTS:
        return None, row
    if _distance(tape, row, total / split.ratio) <= FITS:
        place = _jump_nearby(tape, split, {other.row for other in recorded})
        return (_phantom(tape, split), row) if place is None else (_misdated(tape, split, place), place)
    ratio = _ratio_at(tape, row)
    if ratio is not None:
        return _wrong(tape, split, ratio * split.ratio / total), row
    return None, row


def _ratio_at(tape: Tape, row: int) -> float | None:
    """The ratio that the gap shows: the adjusted close's where the gap agrees with it, else a plausible one near it."""
    by_adjusted = _adjusted_ratio(tape, row)
    if by_adjusted is not None and _distance(tape, row, by_adjusted) <= FITS:
        return by_adjusted
    gap = float(np.exp(tape.log_yield[row] - tape.raw_gap[row]))
    nearest = float(RATIOS[np.abs(np.log(RATIOS / gap)).argmin()])
    return nearest if _distance(tape, row, nearest) <= FITS else None


def _adjusted_ratio(tape: Tape, row: int) -> float | None:
    """The ratio by which the vendor's adjusted close was divided at the row; None without one."""
    ratio = float(np.exp(tape.log_yield[row] - tape.step[row]))
    if not np.isfinite(ratio) or abs(np.log(ratio)) < LEAST_LOG:
        return None
    nearest = float(RATIOS[np.abs(np.log(RATIOS / ratio)).argmin()])
    return nearest if abs(np.log(nearest / ratio)) < 1e-3 + 2 * tape.step_noise[row] else ratio


def _jump_nearby(tape: Tape, split: Split, taken: set[int]) -> int | None:
    """The row near a split whose gap is that split's, though it has none of its own."""
    low, high = tape.span(split.row)
    rows = np.arange(max(low + 1, split.row - SEARCH_ROWS), min(high, split.row + SEARCH_ROWS + 1))
    rows = rows[[row not in taken for row in rows.tolist()]]
    off = np.abs(tape.raw_gap[rows] + np.log(split.ratio))
    scale = tape.gap_scale_at(rows)
    bound = np.maximum(4 * scale, PAIR_TOLERANCE * abs(np.log(split.ratio)))
    jumped = np.abs(tape.raw_gap[rows]) > CONTRADICTS * scale
    fit = np.flatnonzero((off < bound) & jumped)
    return int(rows[fit[off[fit].argmin()]]) if len(fit) else None


def _phantom(tape: Tape, split: Split) -> Finding:
    row = split.row
    low, _ = tape.span(row)
    older = _off_grid(tape, max(low, row - 60), row)
    adjusted = older > 0.15 and _off_grid(tape, row, min(tape.span(row)[1], row + 20)) < 0.02
    fields_followed = _adjusted_follows(tape, row, split.ratio)
    if adjusted:
        end = tape.day(row - 1)
        steps = [multiply(PRICES, split.ratio, None, end), multiply(("volume",), 1 / split.ratio, None, end)]
        repair = several(*steps, *([multiply(("adj_close",), split.ratio, None, end)] if fields_followed else []))
    else:
        gone = remove_action("split", split.session, split.ratio)
        level = multiply(("adj_close",), split.ratio, None, tape.day(row - 1))
        repair = several(gone, level) if fields_followed else gone
    return tape.finding(
        Kind.PHANTOM_SPLIT, Severity.SEVERE, (row, row), row,
        {"ratio": split.ratio, "gap": float(tape.raw_gap[row]), "already_adjusted": adjusted, "off_grid": older},
        f"a split of {split.ratio:g} is recorded on {split.session}, but it opens {np.expm1(tape.raw_gap[row]):+.1%}"
        + ("; older prices are fractions of a cent: they are adjusted already" if adjusted else ""),
        "undo the vendor's adjustment of the older bars" if adjusted else "remove the split, or look whether the older "
        "bars are adjusted already", repair,
    )  # fmt: skip


def _adjusted_follows(tape: Tape, row: int, ratio: float) -> bool:
    """Whether the vendor's adjusted close has the split's step: it then fell for the same error."""
    return bool(abs(float(tape.residue[row])) < abs(np.log(ratio)) / 2)


def _off_grid(tape: Tape, start: int, stop: int) -> float:
    """Share of prices that are no whole cents."""
    prices = np.concatenate([getattr(tape, name)[start:stop] for name in PRICES])
    cents = prices[np.isfinite(prices)] / TICK
    return float((np.abs(cents - np.round(cents)) > 0.01).mean()) if len(cents) else 0.0


def _misdated(tape: Tape, split: Split, place: int) -> Finding:
    row, first, last = split.row, min(split.row, place), max(split.row, place)
    between = _off_grid(tape, first, last)
    around = _off_grid(tape, max(tape.span(row)[0], first - 20), first)
    uneven = place < row and between > 0.1 + around
    days = tape.day(first), tape.day(last - 1)
    sign = 1.0 if place < row else -1.0
    if uneven:
        repair = several(
            multiply(PRICES, split.ratio, *days), multiply(("volume",), 1 / split.ratio, *days),
        )  # fmt: skip
    else:
        moved = move_action("split", split.session, split.ratio, tape.day(place))
        follows = _adjusted_follows(tape, row, split.ratio) and not np.isnan(tape.step[row])
        level = multiply(("adj_close",), split.ratio**sign, *days)
        repair = several(moved, level) if follows else moved
    return tape.finding(
        Kind.UNEVEN_SPLIT if uneven else Kind.MISDATED_SPLIT, Severity.SEVERE, (first, last), last,
        {"ratio": split.ratio, "recorded": split.session, "jump": tape.day(place), "off_grid": between},
        f"the split of {split.ratio:g} is recorded on {split.session}, but the price jumps on {tape.day(place)}"
        + (": the bars between are adjusted already" if uneven else ""),
        "bring the bars between to the price of their day" if uneven else "move the split to the jump", repair,
    )  # fmt: skip


def _wrong(tape: Tape, split: Split, ratio: float) -> Finding:
    row = split.row
    changed = change_action("split", split.session, split.ratio, ratio)
    follows = _adjusted_follows(tape, row, split.ratio / ratio)
    level = multiply(("adj_close",), split.ratio / ratio, None, tape.day(row - 1))
    return tape.finding(
        Kind.WRONG_SPLIT, Severity.SEVERE, (row, row), row,
        {"recorded": split.ratio, "ratio": ratio, "gap": float(tape.raw_gap[row])},
        f"a split of {split.ratio:g} is recorded on {split.session}, but the price shows one of {ratio:g}",
        "correct the ratio", several(changed, level) if follows and not np.isnan(tape.step[row]) else changed,
    )  # fmt: skip


def _unrecorded(tape: Tape) -> list[tuple[int, float]]:
    """Rows without a split whose gap, adjusted close and volume show one, and its ratio."""
    plain = (tape.log_split == 0.0) & ~tape.first
    with np.errstate(invalid="ignore"):
        by_adjusted = plain & (np.abs(tape.residue) > LEAST_LOG)
        by_gap = plain & (np.abs(tape.raw_gap) > CALM_LEAST)
    rows = np.flatnonzero(by_gap)
    # On a day on which everything falls by a tenth a fund of everything has not split.
    lesser = np.minimum(np.abs(tape.raw_gap[rows]), np.abs(tape.gap[rows] - tape.market_gap[rows]))
    by_gap[rows] = lesser > CALM_DEVIATIONS * tape.gap_scale_at(rows)
    result = []
    for row in np.flatnonzero(by_adjusted | by_gap).tolist():
        ratio = _adjusted_ratio(tape, row) if by_adjusted[row] else _calm_ratio(tape, row)
        if ratio is None or ratio not in RATIOS:
            continue
        least = 2 * _distance(tape, row, ratio) if by_adjusted[row] else FITS
        if _distance(tape, row, ratio) <= FITS and _distance(tape, row, 1.0) > least:
            result.append((row, ratio))
    return result


def _calm_ratio(tape: Tape, row: int) -> float | None:
    """The plausible ratio of a gap that no news explains: the day's range and volume, in new shares, are ordinary."""
    gap = float(np.exp(-tape.raw_gap[row]))
    ratio = float(RATIOS[np.abs(np.log(RATIOS / gap)).argmin()])
    at = np.array([row])
    loud = float(tape.loudness_at(at)[0]) - np.log(ratio)
    inside = abs(float(tape.raw_move[row] - tape.raw_gap[row])) < 5 * float(tape.move_scale_at(at)[0])
    bound = float(tape.loudness_bound(tape.raw_gap[at])[0])
    calm = inside and not (loud > bound or loud < MUTE or bool(tape.stirs_at(at, tape.raw_gap[at])[0]))
    return ratio if calm and bool(tape.trades_at(at)[0]) else None


def _missing(tape: Tape, row: int, ratio: float) -> Finding:
    added = add_action("split", tape.day(row), ratio)
    stands = bool(abs(float(tape.residue[row])) < LEAST_LOG)
    level = multiply(("adj_close",), 1 / ratio, None, tape.day(row - 1))
    return tape.finding(
        Kind.MISSING_SPLIT, Severity.SEVERE, (row, row), row,
        {"ratio": ratio, "gap": float(tape.raw_gap[row]), "loudness": float(tape.loudness_at(np.array([row]))[0])},
        f"opens {np.expm1(tape.raw_gap[row]):+.1%} on {tape.day(row)} like a split of {ratio:g}, but none is recorded",
        "look the split up and record it", several(added, level) if stands else added,
    )  # fmt: skip
