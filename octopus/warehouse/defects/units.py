"""Prices in another unit: a hundred or a thousand times too much or too little, and runs off by the instrument's split.

Belongs here: single fields, bars, runs and whole histories that stand at a constant multiple of their surroundings.
Does not: splits as actions (splits.py), levels of any other ratio (seams.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.warehouse.defects.repair import multiply, several
from octopus.warehouse.defects.tape import PRICES, Tape, runs_of
from octopus.warehouse.quality import Finding, Kind, Severity

UNITS = (100.0, 1000.0)
"""Subunits of currencies: pence, cents, agorot; fils and milli-units."""
MIXED_SPREAD = np.log(30.0)
"""No market moves its price thirtyfold within a day."""
UNIT_BAND = 0.6
"""How far, in logs, a jump may be from the unit: the price itself moves too, but not by half overnight."""
TAIL_SESSIONS = 5
"""A new level at the end that is no older than this is the error; an older one is what the vendor delivers now."""


def unit_fields(tape: Tape) -> list[Finding]:
    """Single prices of a bar in another unit than its others; known at once, since no day ranges that far."""
    prices = np.stack([tape.open, tape.high, tape.low, tape.close])
    with np.errstate(invalid="ignore"):
        spread = np.nanmax(np.log(prices), axis=0, initial=-np.inf) - np.nanmin(np.log(prices), axis=0, initial=np.inf)
    mixed = spread > MIXED_SPREAD
    if not mixed.any():
        return []
    logs, middle = np.log(prices) + tape.old_shares, _middles(tape) + tape.old_shares
    usual = tape.trailing_median(np.where(mixed, np.nan, middle), 7, 1)
    usual = np.where(np.isnan(usual), middle, usual)
    exponents = np.stack([_unit(one - usual) for one in logs])
    found: list[Finding] = []
    for name, exponent in zip(PRICES, exponents, strict=True):
        off = np.where(mixed, exponent, 0.0)
        for factor in np.unique(off[off != 0.0]).tolist():
            for start, stop in runs_of(off == factor, tape.first):
                found.append(_field(tape, name, start, stop, float(np.exp(-factor))))
    return found


def _field(tape: Tape, name: str, start: int, stop: int, factor: float) -> Finding:
    fields = [name]
    if name == "close" and _adjusted_follows(tape, start):
        fields.append("adj_close")
    return tape.finding(
        Kind.UNIT_ERROR, Severity.SEVERE, (start, stop - 1), stop - 1, {"field": name, "factor": 1 / factor},
        f"{name} is {1 / factor:g} times the other prices of its bar from {tape.day(start)} to {tape.day(stop - 1)}",
        "multiply it back, or take these bars from a second source",
        multiply(fields, round(factor, 9), tape.day(start), tape.day(stop - 1)),
    )  # fmt: skip


def _adjusted_follows(tape: Tape, row: int) -> bool:
    """Whether the adjusted close was computed from the wrong close: the ratio of both is as on the bar before."""
    ratio = np.log(tape.adj_close / tape.close)
    previous = ratio[row - 1] if not tape.first[row] else 0.0
    return bool(abs(ratio[row] - previous) < 1.0)


def _unit(jump: FloatArray) -> FloatArray:
    """The logarithm of the unit (either way) that ``jump`` is near to, zero where none is."""
    result = np.zeros(jump.shape)
    for unit in UNITS:
        for sign in (1.0, -1.0):
            result[np.abs(jump - sign * np.log(unit)) < UNIT_BAND] = sign * np.log(unit)
    return result


def unit_levels(tape: Tape) -> list[Finding]:
    """Bars, runs and histories in another unit."""
    middle = _middles(tape)
    jump = middle - tape.before(middle) + tape.log_split
    unit = _unit(np.nan_to_num(jump))
    # At a recorded split the prices themselves must jump that far: a split recorded upside down is none of ours.
    unit[(tape.log_split != 0.0) & (np.abs(jump - tape.log_split) < MIXED_SPREAD)] = 0.0
    rows = np.flatnonzero(unit)
    unit[rows[_volume_splits(tape, jump, rows)]] = 0.0
    found = []
    for start, stop, place, factor in _levels(tape, unit):
        fields = (*PRICES, "adj_close") if _adjusted_level_follows(tape, place) else PRICES
        found.append(_level(tape, start, stop, place, factor, fields))
    return found


def _middles(tape: Tape) -> FloatArray:
    """Log of the middle price of each bar, carried over bars without one."""
    logs = np.log(np.stack([tape.open, tape.high, tape.low, tape.close]))
    logs = np.where(np.isnan(logs), np.log(tape.close), logs)
    return np.asarray(np.median(logs, axis=0), dtype=np.float64)


def _volume_splits(tape: Tape, jump: FloatArray, rows: IntArray) -> BoolArray:
    """Which of ``rows`` have a volume that jumps the other way, as at a split of 100 for one: those are not units."""
    volume = np.log(np.where(tape.volume > 0, tape.volume, np.nan))
    change = volume[rows] - tape.trailing_median(volume, 10, 3, rows)
    with np.errstate(invalid="ignore"):
        opposite: BoolArray = np.abs(change + jump[rows]) < np.abs(change)
        return opposite & (np.abs(change + jump[rows]) < 2.0)


def _adjusted_level_follows(tape: Tape, row: int) -> bool:
    return not bool(abs(tape.step[row]) > 1.0) if row < len(tape) else True


def _levels(tape: Tape, jumps: FloatArray, older: bool = False) -> Iterator[tuple[int, int, int, float]]:
    """Stretches on a wrong level: first row, row after, row of the jump, and the logarithm by which they are off.

    A jump that is taken back encloses a stretch, the wrong one of the two if it is the shorter. One that is not leaves
    an older and a newer level; ``older``: the older is always the wrong one.
    """
    rows: IntArray = np.flatnonzero(jumps)
    taken: set[int] = set()
    for place, row in enumerate(rows.tolist()):
        if row in taken:
            continue
        low, high = tape.span(row)
        back = next((r for r in rows[place + 1 :].tolist() if r < high and jumps[r] == -jumps[row]), None)
        if back is not None and (older or back - row <= (high - low) / 2):
            taken.add(back)
            yield row, back, row, float(jumps[row])
        elif not older and high - row <= TAIL_SESSIONS < row - low:
            yield row, high, row, float(jumps[row])
        else:
            yield low, row, row, -float(jumps[row])


def _level(tape: Tape, start: int, stop: int, place: int, log_factor: float, fields: tuple[str, ...]) -> Finding:
    low, high = tape.span(place)
    history = start == low and stop == place
    # A stretch is known once it is over; an older level once the newer has lasted; the last bars at once.
    known = min(place + TAIL_SESSIONS, high - 1) if history else place if stop == high else stop
    first, last = (place, place) if history else (start, stop - 1)
    factor = float(np.exp(-log_factor))
    where = f"before {tape.day(place)}" if history else f"from {tape.day(start)} to {tape.day(stop - 1)}"
    return tape.finding(
        Kind.UNIT_ERROR, Severity.SEVERE, (first, last), known,
        {"factor": 1 / factor, "sessions": stop - start, "history": history},
        f"prices {where} are {1 / factor:g} times the others",
        "multiply them back: the vendor changed the currency unit",
        multiply(fields, round(factor, 9), None if history else tape.day(start), tape.day(stop - 1)),
    )  # fmt: skip


def uneven_splits(tape: Tape) -> list[Finding]:
    """Split-adjusted prices of which a stretch was not adjusted for one of the instrument's own splits, or twice."""
    if tape.basis != "split_adjusted":
        return []
    found: list[Finding] = []
    for row in np.flatnonzero(np.abs(np.log(tape.split)) > 0.15).tolist():
        size = abs(float(np.log(tape.split[row])))
        low, high = tape.span(row)
        jumps = np.zeros(len(tape))
        near = np.arange(max(low, row - 126), min(high, row + 126))
        # Nearer to the split than to an ordinary move.
        jump, scale = tape.raw_gap[near], np.minimum(tape.move_scale_at(near), 0.1)
        with np.errstate(invalid="ignore"):
            off = (np.abs(np.abs(jump) - size) < size / 3) & (np.abs(jump) > 6 * scale)
        jumps[near[off]] = size * np.sign(jump[off])
        for start, stop, place, log_factor in _levels(tape, jumps, older=True):
            found.append(_uneven(tape, start, stop, place, log_factor))
    return found


def _uneven(tape: Tape, start: int, stop: int, place: int, log_factor: float) -> Finding:
    factor = float(np.exp(-log_factor))
    history = stop == place
    known = place if history else stop
    first, last = (place, place) if history else (start, stop - 1)
    days = (None if history else tape.day(start), tape.day(stop - 1))
    prices = multiply((*PRICES, "adj_close"), factor, *days)
    return tape.finding(
        Kind.UNEVEN_SPLIT, Severity.SEVERE, (first, last), known, {"factor": 1 / factor, "sessions": stop - start},
        f"{'before ' + tape.day(place) if history else tape.day(start) + ' to ' + tape.day(stop - 1)}: prices are "
        f"{1 / factor:g} times the others, which is the ratio of its split",
        "adjust these bars like the others", several(prices, multiply(("volume",), 1 / factor, *days)),
    )  # fmt: skip
