"""Where the vendor's adjusted close stands on another level than its own prices and actions give.

Belongs here: comparing levels, session by session, in runs. Does not: the single steps of the adjusted close and which
action they speak against (dividends.py, splits.py); those see a step, this what all steps together come to: a dividend
that is always two percent short passes at each payment and is a quarter of a percent after twenty years.
"""

from __future__ import annotations

import numpy as np

from octopus.core.types import FloatArray
from octopus.warehouse.defects.tape import Tape, runs_of
from octopus.warehouse.quality import Finding, Kind, Severity

ANCHOR_ROWS = 5
"""What the vendor knows of later days shifts its whole history: the median of the last week sets the common level."""


def vendor_disagreement(tape: Tape) -> list[Finding]:
    """Runs of sessions on which the vendor's adjusted close is not what prices and actions give, beyond rounding.

    ``ratio`` is the vendor's over ours, ours being the close times the factors of all later actions
    (`octopus.market_data.adjust` says which). Rounding is that of both closes, and at each payment since that of its
    cash and of which close it is divided by; of independent payments they add up by their squares.

    Returns:
        One finding for a run on one level, known once the level at the end has stood for `ANCHOR_ROWS` sessions.
    """
    level = np.log(tape.adj_close) - np.log(tape.close) - tape.later
    anchored = level - _at_end(tape, level)
    with np.errstate(invalid="ignore"):
        off = np.abs(anchored) > tape.step_noise + _payments_since(tape)
        steps = np.abs(tape.residue) > tape.residue_bound
    # Of the last week alone nothing is known: it is what the others are told from.
    runs = [
        (start, stop) for start, stop in runs_of(off, tape.first | steps) if tape.span(start)[1] - start > ANCHOR_ROWS
    ]
    ends = {int(tape.code[start]): stop for start, stop in runs}
    return [_finding(tape, start, stop, ends[int(tape.code[start])], anchored[start:stop]) for start, stop in runs]


def _at_end(tape: Tape, level: FloatArray) -> FloatArray:
    """For each row the level of its instrument's last bars; NaN where it has none."""
    result = np.full(len(tape), np.nan)
    for low, high in zip(tape.starts[:-1].tolist(), tape.starts[1:].tolist(), strict=True):
        held = level[low:high][np.isfinite(level[low:high])]
        if len(held):
            result[low:high] = np.median(held[-ANCHOR_ROWS:])
    return result


def _payments_since(tape: Tape) -> FloatArray:
    """The largest difference of levels that comes of rounding at all payments after each row."""
    slack = np.where(tape.log_yield != 0.0, tape.residue_bound, 0.0) ** 2
    return np.sqrt(np.maximum(tape.sum_after(slack), 0.0))


def _finding(tape: Tape, start: int, stop: int, settled: int, levels: FloatArray) -> Finding:
    ratio, least, most = (float(np.exp(one)) for one in (np.median(levels), levels.min(), levels.max()))
    _, high = tape.span(start)
    return tape.finding(
        Kind.ADJUSTED_LEVEL, Severity.WARN, (start, stop - 1), min(settled + ANCHOR_ROWS - 1, high - 1),
        {"ratio": ratio, "ratio_least": least, "ratio_most": most, "sessions": stop - start},
        f"from {tape.day(start)} to {tape.day(stop - 1)} the vendor's adjusted close is {ratio:.5f} times what the "
        "prices and actions give",
        "use adjusted closes made of the actions, and look which action the vendor has and we have not",
    )  # fmt: skip
