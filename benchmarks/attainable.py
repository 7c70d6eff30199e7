"""What the evidence allows where detection stays below its aim: the likelihood ratio of the very defect planted.

Belongs here: that bound, by kind and magnitude. Does not: planting, detecting, scoring (benchmarks/quality.py).

A 0.3 % dividend that is missing from the actions and from the adjusted close made of them is one overnight move of
0.3 % among moves of 0.7 %: no detector sees it there. By Neyman and Pearson the likelihood ratio is the best test of a
known shift, so it is given what no detector is told: the size of the shift, and for a misdated payment by how many
sessions. Noise is Student's t at the scale that was known then, as the detectors read it; its threshold is the one that
leaves one false alarm per 100 untouched symbol-years of the same half to this one kind. Dates are evidence beside the
price: a season that another year of the record has can be missed or be a stranger, one that no other year has cannot.
So far as noise is t, this is what any detector reaches with bars, actions and an adjusted close made of the actions.
A level that was rounded to cents afterwards, and a missing split of 1.1, are a known jump at the open of one morning,
with the volume of that day and the next; that the day's range stays small as well is not counted, so that detection may
come out above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.defect_injector import Cell, Planted, Series, frames, plant
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.warehouse.defects.seasons import NEAR_YEARS, OFTEN_DAYS, YEARS, Seasons
from octopus.warehouse.defects.tape import Tape, tape_of

SESSIONS_A_YEAR = 252
ALARMS_PER_SYMBOL_YEAR = 0.01
FREEDOM = 4.0
LOUD_PENALTY, LOUD_LEAST = 3.0, -0.5
"""What a unit of loudness (log volume over the month's median) of either day speaks against a price without news: of
0 to 6 the one with which a known spike was found most often on the tuning half."""


@dataclass(frozen=True)
class Bound:
    """Shares of the planted defects: found by price alone, and by all there is to see."""

    price: float
    attainable: float


@dataclass(frozen=True, eq=False)
class Known:
    """One half of the symbols as recorded."""

    series: Sequence[Series]

    @cached_property
    def tape(self) -> Tape:
        return tape_of(*frames(self.series), "printed")

    @property
    def alarms(self) -> int:
        """False alarms that one kind may make on this half."""
        return int(len(self.tape) / SESSIONS_A_YEAR * ALARMS_PER_SYMBOL_YEAR)

    def power(self, null: FloatArray, planted: FloatArray) -> float:
        """Share of ``planted`` statistics above all but the allowed number of untouched ones."""
        ordered = np.sort(null[np.isfinite(null)])[::-1]
        return float(np.mean(planted > ordered[self.alarms]))


def bound(cell: Cell, known: Known, seeds: Sequence[int]) -> Bound | None:
    """The bound of a cell; None for a kind that needs none: its evidence is exact."""
    measure = _MEASURES.get((cell.kind, cell.magnitude.partition(", adjusted close wrong")[0]))
    if measure is None or "adjusted close right" in cell.magnitude:
        return None
    drawn = [plant(cell, known.series, seed) for seed in seeds]
    tapes = [tape_of(*frames(planted), "printed") for planted, _ in drawn]
    return measure(known, [(tape, labels) for tape, (_, labels) in zip(tapes, drawn, strict=True)])


Drawn = Sequence[tuple[Tape, Sequence[Planted]]]


def _log_t(values: FloatArray, scale: FloatArray) -> FloatArray:
    result: FloatArray = -(FREEDOM + 1) / 2 * np.log1p((values / scale) ** 2 / FREEDOM)
    return result


def _shift(noise: FloatArray, scale: FloatArray, shift: FloatArray | float) -> FloatArray:
    """Log likelihood ratio of a known shift against none."""
    return _log_t(noise - shift, scale) - _log_t(noise, scale)


def _rows(tape: Tape, labels: Sequence[Planted], *, last: bool = False) -> IntArray:
    """The planted rows."""
    places = {name: int(start) for name, start in zip(tape.symbols, tape.starts, strict=False)}
    days = [label.session_to if last else label.session_from for label in labels]
    rows = [places[label.series.symbol] + label.series.row_of(day) for label, day in zip(labels, days, strict=True)]
    return np.array(rows, dtype=np.int64)


def _paid(tape: Tape, rows: IntArray, log_yield: FloatArray) -> FloatArray:
    """Log likelihood ratio of payments at ``rows`` against none, by the opening gap."""
    return _shift((tape.gap - tape.market_gap)[rows], tape.gap_scale[rows], log_yield)


def _loud(tape: Tape, rows: IntArray) -> FloatArray:
    both = np.fmax(tape.loudness_at(rows), tape.loudness_at(np.minimum(rows + 1, len(tape) - 1)))
    penalty: FloatArray = LOUD_PENALTY * np.maximum(np.nan_to_num(both), LOUD_LEAST)
    return penalty


# dividends -----------------------------------------------------------------------------------------------------------


def _payments(tape: Tape) -> IntArray:
    return np.flatnonzero(tape.log_yield != 0.0)


def _seasons(tape: Tape, row: int) -> tuple[Seasons, int]:
    """The payments of the instrument at ``row``, and which of them is there (or would be the next)."""
    low, high = tape.span(row)
    rows = low + np.flatnonzero(tape.log_yield[low:high] != 0.0)
    days = tape.session[rows].astype(np.float64)
    ends = tape.session[[low, high - 1]].astype(np.float64)
    return Seasons(days, float(ends[0]), float(ends[1])), int(np.searchsorted(rows, row))


def _missing(known: Known, drawn: Drawn) -> Bound:
    """Every session may hide a payment of the instrument's usual size; another year's season shows one."""
    tape = known.tape
    rows = _payments(tape)
    usual = np.array([np.median(tape.log_yield[rows][tape.code[rows] == code]) if (tape.code[rows] == code).any()
                      else np.nan for code in range(len(tape.symbols))])  # fmt: skip
    free = np.flatnonzero((tape.log_yield == 0.0) & ~tape.first & np.isfinite(usual[tape.code]))
    null = _paid(tape, free, usual[tape.code[free]])
    planted, seen = [], []
    for changed, labels in drawn:
        at = _rows(changed, labels)
        planted.append(_paid(changed, at, tape.log_yield[at]))
        seen += [_has_other_year(*_seasons(tape, int(row))) for row in at]
    return _with_dates(known.power(null, np.concatenate(planted)), np.array(seen))


def _has_other_year(seasons: Seasons, index: int) -> bool:
    """Whether years before and after have the season; of who pays seldom one side may be a new habit."""
    partners = seasons.partner[index]
    before, after = ((partners[side & (np.abs(YEARS) <= NEAR_YEARS)] >= 0).any() for side in (YEARS < 0, YEARS > 0))
    return bool((before and after) or (seasons.spacing < OFTEN_DAYS and (before or after)))


def _phantom(known: Known, drawn: Drawn) -> Bound:
    """Every recorded payment may be one that was not made; other payments show a stranger."""
    tape = known.tape
    rows = _payments(tape)
    null = -_paid(tape, rows, tape.log_yield[rows])
    planted, seen = [], []
    for changed, labels in drawn:
        at = _rows(changed, labels)
        planted.append(-_paid(changed, at, changed.log_yield[at]))
        counts = np.array([len(_seasons(changed, int(row))[0].days) for row in at])
        seen += (counts > 3).tolist()
    return _with_dates(known.power(null, np.concatenate(planted)), np.array(seen))


def _with_dates(price: float, seen: BoolArray) -> Bound:
    dated = float(np.mean(seen))
    return Bound(price, dated + (1 - dated) * price)


def _late(sessions: int) -> Callable[[Known, Drawn], Bound]:
    """Payments recorded a known number of sessions late: the gap of both days, and how punctual the instrument is."""

    def measured(known: Known, drawn: Drawn) -> Bound:
        rows = _payments(known.tape)
        null = _lateness(known.tape, rows[rows - known.tape.begin(rows) > sessions], sessions)
        planted = [_lateness(tape, _rows(tape, labels, last=True), sessions) for tape, labels in drawn]
        price, both = (known.power(null[:, part], np.concatenate([one[:, part] for one in planted])) for part in (0, 1))
        return Bound(price, max(price, both))

    return measured


def _lateness(tape: Tape, rows: IntArray, sessions: int) -> FloatArray:
    """Log likelihood ratio of each payment ``sessions`` earlier, by price and with the date; shape (rows, 2)."""
    price = _paid(tape, rows - sessions, tape.log_yield[rows]) - _paid(tape, rows, tape.log_yield[rows])
    earlier = (tape.session[rows] - tape.session[rows - sessions]).astype(np.float64)
    date = []
    for row, days in zip(rows.tolist(), earlier.tolist(), strict=True):
        seasons, index = _seasons(tape, row)
        date.append(
            float(seasons.punctuality(index, np.array([days]))[0]) if np.isfinite(seasons.lateness[index]) else 0.0
        )
    return np.column_stack([price, price + np.array(date)])


# prices --------------------------------------------------------------------------------------------------------------


def _either_way(statistic: Callable[[Tape, IntArray, float], FloatArray], share: float) -> Callable[
    [Known, Drawn], Bound
]:  # fmt: skip
    """A shift up or down by a known share: by the price, and with the volume of the day and the next."""

    def of(tape: Tape, rows: IntArray) -> FloatArray:
        both = np.fmax(statistic(tape, rows, np.log1p(share)), statistic(tape, rows, -np.log1p(share)))
        return np.column_stack([both, both - _loud(tape, rows)])

    def measured(known: Known, drawn: Drawn) -> Bound:
        null = of(known.tape, np.arange(1, len(known.tape) - 1))
        planted = np.concatenate([of(tape, _rows(tape, labels)) for tape, labels in drawn])
        price, both = (known.power(null[:, part], planted[:, part]) for part in (0, 1))
        return Bound(price, max(price, both))

    return measured


def _there_and_back(tape: Tape, rows: IntArray, shift: float) -> FloatArray:
    """Away with the gap (the whole bar) or with the close, and back with the next gap."""
    gap, move = tape.gap - tape.market_gap, tape.move - tape.market
    away = np.fmax(_shift(gap[rows], tape.gap_scale[rows], shift), _shift(move[rows], tape.move_scale[rows], shift))
    return away + _shift(tape.after(gap)[rows], tape.gap_scale[rows], -shift)


def _jump(tape: Tape, rows: IntArray, shift: float) -> FloatArray:
    """The price stands elsewhere in the morning, for good."""
    paid = tape.log_yield[rows]
    return _shift((tape.gap - tape.market_gap)[rows] - paid, tape.gap_scale[rows], shift)


def _downward(tape: Tape, rows: IntArray, shift: float) -> FloatArray:
    return _jump(tape, rows, -abs(shift))


_MEASURES: dict[tuple[str, str], Callable[[Known, Drawn], Bound]] = {
    ("missing dividend", "one"): _missing,
    **{("phantom dividend", f"{share:.1%}"): _phantom for share in (0.002, 0.01, 0.05)},
    **{("misdated dividend", f"{late} late"): _late(late) for late in (1, 5, 20)},
    **{
        ("spike", f"{share:.0%}, {which}"): _either_way(_there_and_back, share)
        for share in (0.05, 0.1)
        for which in ("whole bar", "close")
    },
    ("missing split", "1.1"): _either_way(_downward, 0.1),
    **{("level seam", f"{share:.0%}, in whole cents"): _either_way(_jump, share) for share in (0.03, 0.1)},
}
