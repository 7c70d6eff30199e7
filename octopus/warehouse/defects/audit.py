"""All detectors over raw bars and actions, in the order in which one defect may hide another.

Belongs here: the order, and mending what is found for the detectors that follow. Does not: any judgement of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from octopus.core.types import DateArray
from octopus.warehouse.defects import adjusted, bars, dividends, seams, splits, units
from octopus.warehouse.defects.repair import Frames, apply_repair
from octopus.warehouse.defects.tape import Basis, Tape, tape_of
from octopus.warehouse.quality import Finding

Detector = Callable[[Tape, pl.DataFrame], list[Finding]]


def _bars_only(detect: Callable[[Tape], list[Finding]]) -> Detector:
    return lambda tape, actions: detect(tape)


OF_BARS: Sequence[Detector] = (
    _bars_only(units.unit_fields), _bars_only(bars.impossible_bars), _bars_only(units.unit_levels),
    _bars_only(units.uneven_splits), _bars_only(bars.repeated_bars), _bars_only(bars.price_spikes),
    _bars_only(seams.cent_seams), splits.split_defects,
)  # fmt: skip
MENDING: Sequence[Detector] = (*OF_BARS, dividends.restated_dividends, dividends.dividend_defects)
"""Each sees bars without the defects of those before it: a bar a hundred times too high is no split."""
SEEING: Sequence[Detector] = (
    _bars_only(seams.level_seams), _bars_only(seams.volume_seams),
    _bars_only(bars.zero_volumes), _bars_only(adjusted.vendor_disagreement),
)  # fmt: skip


def apply_repairs(frame: pl.DataFrame, actions: pl.DataFrame, findings: Sequence[Finding]) -> Frames:
    """All proposed repairs of an audit, in the order of its stages: a later one is proposed for mended bars."""
    repairs = [finding.repair for finding in findings if finding.repair is not None]
    for repair in sorted(repairs, key=lambda one: int(str(one.get("stage", 0)))):
        frame, actions = apply_repair(frame, actions, repair)
    return frame, actions


def _staged(finding: Finding, stage: int) -> Finding:
    return finding if finding.repair is None else replace(finding, repair={**finding.repair, "stage": stage})


def audit(
    frame: pl.DataFrame, actions: pl.DataFrame, basis: Basis = "printed", calendar: DateArray | None = None
) -> list[Finding]:
    """Findings on one vendor's bars and actions, by instrument and first session.

    Args:
        frame: instrument, session, open, high, low, close, volume and, where the vendor gives it, adj_close (with
            adj_as_of where it was fetched on different days, see `tape.tape_of`). Many instruments at once give each
            other context; one alone works.
        actions: instrument, session, kind (``split``, ``dividend``), value.
        basis: whether prices and dividends are as printed, or adjusted for splits by the vendor.
        calendar: sessions of the exchange, for gaps; None: the days that most instruments have.

    Returns:
        Findings with `known_session`, when their evidence was complete, and a proposed repair where there is one.

    Raises:
        MissingDataError: a column is missing.
    """
    tape = tape_of(frame, actions, basis)
    found = bars.missing_days(tape, calendar)
    current: Frames = (frame, actions)
    for stage, detect in enumerate(MENDING):
        new = detect(tape, current[1])
        new = [_staged(finding, stage) for finding in new]
        if new:
            current = apply_repairs(*current, new)
            tape = tape_of(*current, basis)
        found += new
    for detect in SEEING:
        found += [_staged(finding, len(MENDING)) for finding in detect(tape, current[1])]
    return sorted(found, key=lambda one: (one.instrument or "", one.session_from, one.kind.value))


def screen(
    frame: pl.DataFrame, actions: pl.DataFrame, basis: Basis = "printed", calendar: DateArray | None = None
) -> list[Finding]:
    """What the last few months of bars show by themselves: which instruments `audit` should look at whole.

    Nothing is mended, so that one defect may be found as several. Dividends are not judged: that takes years of them.

    Args, raises: as `audit`.
    """
    tape = tape_of(frame, actions, basis)
    detectors = (*OF_BARS, *SEEING)
    return bars.missing_days(tape, calendar) + [finding for detect in detectors for finding in detect(tape, actions)]
