"""Where two sources of the same bars disagree, whatever constant lies between them.

Belongs here: comparing closes and the other prices of two sources. Does not: saying which of both is right (audit.py
judges each by itself).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from octopus.core.types import BoolArray, FloatArray
from octopus.warehouse.defects.tape import PRICES, runs_of
from octopus.warehouse.quality import Finding, Kind, Severity

CLOSE_TOLERANCE = 2e-3
"""Closing prices of two tapes differ by less: two tenths of a percent, beyond the rounding of both."""
FIELD_TOLERANCE = 0.02
"""Opens, highs and lows depend on which exchanges a source listens to."""
CENT = 0.0051
BRIEF_ROWS = 5
"""A ratio that comes back within a week was a disagreement on those bars; a later return is a change of its own."""


def disagreement(left: pl.DataFrame, right: pl.DataFrame) -> list[Finding]:
    """Bars on which two sources disagree, and sessions at which the ratio between them changes for good.

    A constant ratio, as between an adjusted and a raw history, is none; nor are bars that only one of them has.

    Args:
        left, right: instrument, session, open, high, low, close; one row for an instrument and session.

    Returns:
        Findings by instrument and session. A bar is known to disagree once the ratio has come back, a change of the
        ratio once it has lasted `BRIEF_ROWS` sessions.
    """
    columns = ["instrument", "session", *PRICES]
    both = (
        left.select(columns)
        .join(right.select(columns), on=["instrument", "session"], suffix="_right")
        .filter((pl.col("close") > 0) & (pl.col("close_right") > 0))
        .sort("instrument", "session")
    )
    if both.is_empty():
        return []
    names = both["instrument"]
    first = (names != names.shift(1)).fill_null(True).to_numpy()
    ratio = _log_ratio(both, "close")
    rounding = CENT / both["close"].to_numpy() + CENT / both["close_right"].to_numpy()
    found = _changes(both, ratio, CLOSE_TOLERANCE + rounding, first)
    for name in ("open", "high", "low"):
        with np.errstate(invalid="ignore"):
            off = np.abs(_log_ratio(both, name) - ratio) > FIELD_TOLERANCE + rounding
        found += [_field(both, name, start, stop) for start, stop in runs_of(off, first)]
    return sorted(found, key=lambda one: (one.instrument or "", one.session_from))


def _log_ratio(both: pl.DataFrame, name: str) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log(both[name].cast(pl.Float64).to_numpy() / both[f"{name}_right"].cast(pl.Float64).to_numpy())
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _changes(both: pl.DataFrame, ratio: FloatArray, tolerance: FloatArray, first: BoolArray) -> list[Finding]:
    change = np.diff(ratio, prepend=ratio[0])
    rows = np.flatnonzero((np.abs(change) > tolerance) & ~first).tolist()
    ends = np.append(np.flatnonzero(first), len(ratio))
    found: list[Finding] = []
    done: set[int] = set()
    for row in rows:
        if row in done:
            continue
        end = int(ends[np.searchsorted(ends, row, side="right")])
        later = np.arange(row + 1, min(row + 1 + BRIEF_ROWS, end))
        back = later[np.abs(ratio[later] - ratio[row - 1]) <= tolerance[later]]
        if len(back):
            done |= set(range(row, int(back[0]) + 1))
            found.append(_brief(both, row, int(back[0]), float(ratio[row] - ratio[row - 1])))
        else:
            found.append(_lasting(both, row, min(row + BRIEF_ROWS, end - 1), ratio))
    return found


def _brief(both: pl.DataFrame, start: int, back: int, size: float) -> Finding:
    name, day = both["instrument"][start], both["session"][start]
    return Finding(
        kind=Kind.DISAGREEMENT, severity=Severity.WARN, instrument=name, session_from=day,
        session_to=both["session"][back - 1], evidence={"difference": float(np.expm1(size)), "bars": back - start},
        message=f"{name}: the sources' closes differ by {np.expm1(size):+.2%} on {day} beyond their usual ratio",
        remedy="look at a third source; the audit of each says what is wrong with it",
        known_session=both["session"][back],
    )  # fmt: skip


def _lasting(both: pl.DataFrame, row: int, known: int, ratio: FloatArray) -> Finding:
    name, day = both["instrument"][row], both["session"][row]
    before, after = float(np.exp(ratio[row - 1])), float(np.exp(ratio[row]))
    return Finding(
        kind=Kind.DISAGREEMENT, severity=Severity.SEVERE, instrument=name, session_from=day, session_to=day,
        evidence={"ratio_before": before, "ratio_after": after},
        message=f"{name}: the ratio of the sources' closes changes from {before:.5g} to {after:.5g} on {day}",
        remedy="one of them has an action that the other lacks, or is glued from two histories: compare their actions",
        known_session=both["session"][known],
    )  # fmt: skip


def _field(both: pl.DataFrame, field: str, start: int, stop: int) -> Finding:
    name, day = both["instrument"][start], both["session"][start]
    return Finding(
        kind=Kind.DISAGREEMENT, severity=Severity.INFO, instrument=name, session_from=day,
        session_to=both["session"][stop - 1], evidence={"field": field, "bars": stop - start},
        message=f"{name}: the sources' {field}s differ from {day} on {stop - start} bars although their closes agree",
        remedy="compare with a third source before a model uses the field",
    )  # fmt: skip
