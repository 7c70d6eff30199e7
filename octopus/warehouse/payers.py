"""Which payers of a dividend a day need not look at whole: those whose newest payment is as all of theirs.

Belongs here: what of a payment, those before it and the last months of bars is enough to say that the whole record,
judged with the payment (defects/dividends.py), gives the findings that it gave without. Does not: any finding.

A payment speaks about those before it: it ends a rhythm, makes a habit, is the same season's of other years. In all
three it can only contradict where it differs, so that a payer whose amounts, spacing and seasons are even has none of
its older prices read. Everyone else is looked at whole: all limits here lie inside those of the detectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl

from octopus.core.types import FloatArray
from octopus.warehouse.defects.dividends import DUPLICATE_ROWS, SEASON_PAYMENTS
from octopus.warehouse.defects.seasons import DEVIATION_FREEDOM, Seasons
from octopus.warehouse.defects.tape import Tape, tape_of

LEAST_PAYMENTS = 5
"""Below that a payment may be the one that makes a habit."""
RECENT_AMOUNTS, ALIKE = 9, np.log(1.4)
"""A payment changes the habit of itself and of two before it, which are judged by six before them."""
SAME_UNIT = np.log(2.5)
"""All that the instrument ever paid, around the middle: nothing that a change of unit would explain."""
RECENT_SPACINGS, EVEN = 11, 1.5
"""A payment counts in the beat of the four spacings before it, which are judged by seven before them."""
USUAL_YIELD = (0.001, 0.015)
"""Of the price: neither so small that it may be in hundredths, nor so large that the price must show it."""
PUNCTUAL = 2.0
"""Log likelihood ratio of a payment's date: what lateness must say for the price to decide."""


def usual_payers(actions: pl.DataFrame, bars: pl.DataFrame, begun: Mapping[str, date], since: date) -> frozenset[str]:
    """Instruments whose only payment of ``since`` or later changes no finding.

    Args:
        actions: all of their splits and dividends, of `defects.tape.ACTIONS_COLUMNS`. bars: theirs of the last months,
            as of `defects.tape.tape_of`. begun: first bar of each.
    """
    tape = tape_of(bars, actions, "printed")
    with np.errstate(invalid="ignore"):
        contradicted = np.abs(tape.residue) > tape.residue_bound
    strange = {tape.name(row) for row in np.flatnonzero(contradicted).tolist()}
    parts = {str(key[0]): part for key, part in actions.sort("session").group_by("instrument", maintain_order=True)}
    low = np.datetime64(since, "D")
    found = set()
    for index, name in enumerate(tape.symbols):
        rows = slice(int(tape.starts[index]), int(tape.starts[index + 1]))
        if name in begun and name in parts and name not in strange:
            days, units = _payments(parts[name], tape.session[rows][-1])
            new = int((days >= low).sum())
            ends = (float(np.datetime64(begun[name], "D").astype(np.int64)), float(_number(tape.session[rows])[-1]))
            if new == 1 and _yield_is_usual(tape, rows, days[-1]) and _even(_number(days), units, ends):
                found.add(name)
    return frozenset(found)


def _payments(actions: pl.DataFrame, until: np.datetime64) -> tuple[np.ndarray, FloatArray]:
    """Days of the payments up to ``until``, and the log of each one's cash in shares of the first action's day."""
    told = actions.filter((pl.col("value") > 0) & (pl.col("session") <= until.astype(object)))
    is_split = told["kind"].to_numpy() == "split"
    size = np.log(told["value"].to_numpy())
    units = size + np.cumsum(np.where(is_split, size, 0.0))
    days = told["session"].to_numpy().astype("datetime64[D]")
    # A split of the ex-session itself counts before the payment.
    is_paid = told["kind"].to_numpy() == "dividend"
    return days[is_paid], units[is_paid]


def _number(days: np.ndarray) -> FloatArray:
    return days.astype("datetime64[D]").astype(np.int64).astype(np.float64)


def _yield_is_usual(tape: Tape, rows: slice, day: np.datetime64) -> bool:
    row = rows.start + int(np.searchsorted(tape.session[rows], day))
    share = 1 - np.exp(tape.log_yield[row]) if rows.start < row < rows.stop else np.nan
    return bool(USUAL_YIELD[0] <= share <= USUAL_YIELD[1])


def _even(days: FloatArray, units: FloatArray, ends: tuple[float, float]) -> bool:
    """Whether all payments are of one habit, rhythm and season; ``ends``: first and last day of the record."""
    if len(days) < LEAST_PAYMENTS:
        return False
    recent, spacing = units[-RECENT_AMOUNTS:], np.diff(days)[-RECENT_SPACINGS:]
    alike = np.ptp(recent) < ALIKE and np.abs(units - np.median(units)).max() < SAME_UNIT
    steady = spacing.max() < EVEN * spacing.min() and spacing.min() > 2 * DUPLICATE_ROWS
    return bool(alike and steady and (len(days) < SEASON_PAYMENTS or _in_season(days, ends)))


def _in_season(days: FloatArray, ends: tuple[float, float]) -> bool:
    """Whether no season is missed, no payment is alone in its, and none is late that was not as late before."""
    seasons, before = Seasons(days, *ends), Seasons(days[:-1], *ends)
    if seasons.gaps() or seasons.strangers():
        return False
    least = np.sqrt(DEVIATION_FREEDOM * np.expm1(PUNCTUAL / 2))
    for index in np.flatnonzero(seasons.lateness > 0).tolist():
        late = float(seasons.lateness[index])
        if late <= least * seasons.deviation(index):
            continue
        is_new = index == len(days) - 1 or late != before.lateness[index]
        if is_new or seasons.deviation(index) < before.deviation(index):
            return False
    return True
