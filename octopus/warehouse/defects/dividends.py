"""Dividends that the adjusted close, the price or the instrument's own habit contradict.

Belongs here: missing, wrong, misdated and phantom dividends, and adjusted closes that do not follow from the actions.
Does not: splits (splits.py), levels of raw prices (seams.py).

Three witnesses are heard. The vendor's adjusted close: its step over the ex-session gives the cash it was made with,
exactly. The price: it opens lower by the dividend, within the instrument's opening gaps. The habit: what the instrument
pays, how often, and in which weeks of the year (seasons.py). Where the first contradicts the action, the other two say
which of both is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log, log1p

import numpy as np
import polars as pl

from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.warehouse.defects.repair import (
    add_action,
    change_action,
    move_action,
    multiply,
    remove_action,
    several,
    unadjust,
)
from octopus.warehouse.defects.seasons import YEAR_DAYS, Gap, Seasons
from octopus.warehouse.defects.tape import PRICES, STEP_EXACT, Tape
from octopus.warehouse.quality import Finding, Kind, Repair, Severity

UNITS = (0.01, 100.0)
TAIL_FREEDOM = 4.0
"""Of Student's t, as which gaps are read: a normal one would call every surprise impossible."""
YIELD_LOG10, YIELD_SPREAD = -2.2, 0.6
"""One payment is about 0.6 % of the price, within a factor of four: a wide guess, for the choice between units."""
ALIKE, SIMILAR = np.log(1.6), np.log(3.0)
"""Amounts of one habit, and amounts that may be."""
BEFORE, AFTER = 6, 2
"""Payments before and after one that make its habit."""
MISDATED_ROWS, DUPLICATE_ROWS = 30, 10
DUPLICATE_SPACING, DUPLICATE_CASH = 0.4, np.log(1.1)
"""A duplicate stands nearer than this share of the usual spacing to its like, and is the same within ten percent."""
DECISIVE = 8.0
"""Log likelihood ratio (about 3000 to 1) at which the price alone may contradict an action."""
DENIED, DENIED_YIELD = 5.3, 0.015
"""The same for the payment alone, where the adjusted close has it too: of the payments of more than this share of the
price in 12,100 symbol-years of the tuned halves six reached 5.3."""
LARGE_YIELD = 0.1
POOLED_PAYMENTS, POOLED_DECISIVE, POOLED_BY_PRICE = 4, 12.0, 0.0
"""Log likelihood ratios of all payments together, what is usual elsewhere included, and of their prices alone."""
SAME_CASH = 0.05
HALF_CENT, HALF_CENT_SHARE = 0.0051, 5e-4
"""Vendors round a close of half a cent and adjust the one before rounding; of a price of ten and more."""
LEVEL_YIELD = 0.12
"""A step of the adjusted close beyond this, without an action, is no forgotten dividend."""
STEP_NONE = 1e-5
"""Raw and adjusted close are the same."""
RESTATED, SAME_RATIO = 2, 0.02
CADENCE_SPACINGS, CADENCE_BAND = 3, 0.12
SEASON_PAYMENTS, SEASON_DAYS, WEEK_DAYS, SEASON_HISTORY = 4, 14, 7, 756
"""Three years of sessions: in shorter records two years agree by chance, and small extra payments are real (Yahoo's
sound histories have them)."""
LATE_ROWS, LATE_DECISIVE = 25, 6.45
"""Log likelihood ratio, of the date and the price together, above which a payment is recorded too late. Only later days
are looked at: a vendor that misdates takes the day of record or of payment, companies bring forward (all of December
2012)."""
PAID_AHEAD, AHEAD_SPACING = np.log(1.45), 0.6
"""A payment this much larger than usual, or this soon (in spacings) after the one before, holds the next one."""
BEGUN_SPACING = 1.4
"""Spacings before a gap within which a payment says that the record had begun to tell of payments."""
MONTHLY_DAYS, STEADY = 45.0, np.log(1.06)
"""Of spacing; and of amounts in turn, from the least to the largest."""
SURPRISES, SURPRISES_OF = 0.5, 50.0
"""Of so many payments so many come in weeks in which no other year has one, and were truly made (about one in a
hundred): what is thought of an instrument before its own payments are counted."""
INVENTED = 5.0
"""Log likelihood ratio above which a payment is taken as invented: how rarely the instrument truly pays off its beat
(4.6 for one payment in a hundred), and how much better the price likes none. The only payment of who pays nothing else
is left alone: that is what a special dividend looks like."""
SELDOM_ROWS = 160
"""Sessions between payments beyond which a payment in between may be the first of a new rhythm."""
YEAR_END_DAY, UNEVEN_REPEATS = 15, 0.25
"""Funds must hand out the year's income by the end of December, often in one more payment then."""
SMALL_ONES = np.log(8.0)
"""Whose other payments differ by this much pays small amounts now and then: no unit is wrong."""
CENTS_LIKE = np.log(2.5)
"""Amounts that are one but for the unit; cuts of dividends to a penny were by a factor of 32 at most."""


@dataclass(frozen=True)
class Payment:
    """One recorded dividend at the bar it acts on.

    Attributes:
        share: of the previous close in the row's shares, the yield. unit: log of cash in one unit of shares.
        habit: log of what the instrument usually pays then; NaN where fewer than two payments are near. known: row of
            the last payment that made the habit.
    """

    row: int
    session: str
    cash: float
    share: float
    unit: float
    habit: float
    known: int

    @property
    def excess(self) -> float:
        """By how much (log) the cash exceeds the habit, NaN without one."""
        return self.unit - self.habit


def dividend_defects(tape: Tape, actions: pl.DataFrame) -> list[Finding]:
    """Findings on dividends and on the adjusted close."""
    found: list[Finding] = []
    with np.errstate(invalid="ignore"):
        off = np.abs(tape.residue) > tape.residue_bound
    for low, high, payments in _by_instrument(tape, actions):
        found += _Case(tape, low, high, payments, off).findings()
    return found


def restated_dividends(tape: Tape, actions: pl.DataFrame) -> list[Finding]:
    """Runs of dividends to which the adjusted close gives one and the same other amount.

    Up to a split that is cash in new shares beside prices of old ones; without a split the prices stand on another
    level.
    """
    found: list[Finding] = []
    with np.errstate(invalid="ignore"):
        off = np.abs(tape.residue) > tape.residue_bound
    for low, high, payments in _by_instrument(tape, actions):
        case = _Case(tape, low, high, payments, off)
        for run, ratio in case.same_ratio():
            found += case.restated(run, ratio)
    return found


def _by_instrument(tape: Tape, actions: pl.DataFrame) -> Iterator[tuple[int, int, list[Payment]]]:
    dividends = actions.filter((pl.col("kind") == "dividend") & (pl.col("value") > 0)).sort("session")
    parts = {str(key[0]): part for key, part in dividends.group_by("instrument", maintain_order=True)}
    for index, name in enumerate(tape.symbols):
        low, high = int(tape.starts[index]), int(tape.starts[index + 1])
        part = parts.get(name)
        yield low, high, [] if part is None else _payments(tape, low, high, part)


def _payments(tape: Tape, low: int, high: int, part: pl.DataFrame) -> list[Payment]:
    days = part["session"].to_numpy().astype("datetime64[D]")
    rows = low + np.searchsorted(tape.session[low:high], days)
    inside = (rows > low) & (rows < high)
    rows, days, cash = rows[inside], days[inside], part["value"].to_numpy()[inside]
    shares = np.cumsum(tape.log_split[low:high])
    units = np.log(cash) + shares[rows - low]
    result = []
    for index, row in enumerate(rows.tolist()):
        near = [*range(max(0, index - BEFORE), index), *range(index + 1, min(len(rows), index + 1 + AFTER))]
        habit = float(np.median(units[near])) if len(near) >= 2 else float("nan")
        share = float(cash[index] / (tape.close[row - 1] * np.exp(-tape.log_split[row])))
        known = int(max(row, *(rows[near].tolist()))) if near else row
        result.append(Payment(row, str(days[index]), float(cash[index]), share, float(units[index]), habit, known))
    return result


def _likelihood(tape: Tape, row: int, share: float) -> float:
    """Log likelihood of the row's gap and move if a dividend of ``share`` of the price was paid; up to a constant.

    A price that did not trade says nothing. As `_likelihoods` of one row, which takes many times as long.
    """
    gap, move = float(tape.gap[row]), float(tape.move[row])
    if not tape.volume[row] > 0 and move == 0.0:
        return 0.0
    drop = log(max(1 - share, 0.02))
    values = (
        (gap - drop - float(tape.market_gap[row])) / float(tape.gap_scale[row]),
        (move - drop - float(tape.market[row])) / float(tape.move_scale[row]),
    )
    parts = [-(TAIL_FREEDOM + 1) / 2 * log1p(value**2 / TAIL_FREEDOM) for value in values if isfinite(value)]
    return sum(parts) / max(len(parts), 1) * 1.5


def _likelihoods(tape: Tape, rows: IntArray, share: float) -> FloatArray:
    """`_likelihood` of each of ``rows``."""
    drop = np.log(max(1 - share, 0.02))
    values = np.stack([
        (tape.gap[rows] - drop - tape.market_gap[rows]) / tape.gap_scale[rows],
        (tape.move[rows] - drop - tape.market[rows]) / tape.move_scale[rows],
    ])  # fmt: skip
    known = np.isfinite(values)
    parts = np.where(known, -(TAIL_FREEDOM + 1) / 2 * np.log1p(np.where(known, values, 0.0) ** 2 / TAIL_FREEDOM), 0.0)
    mean = parts.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    silent = ~(tape.volume[rows] > 0) & (tape.move[rows] == 0.0)
    return np.where(silent, 0.0, mean * 1.5)


def _shown(tape: Tape, rows: IntArray, share: float) -> FloatArray:
    """How much better each row's price likes a payment of ``share`` than none."""
    return _likelihoods(tape, rows, share) - _likelihoods(tape, rows, 0.0)


def _prior(share: float) -> float:
    return float(-0.5 * ((np.log10(max(share, 1e-9)) - YIELD_LOG10) / YIELD_SPREAD) ** 2)


class _Case:
    """One instrument: which payments and steps are explained already, and what each of the rest is."""

    def __init__(self, tape: Tape, low: int, high: int, payments: list[Payment], off: BoolArray) -> None:
        self.tape, self.low, self.high, self.payments = tape, low, high, payments
        self.off = [row for row in (np.flatnonzero(off[low:high]) + low).tolist() if row > low]
        self.done: set[int] = set()
        """Rows that a finding explains."""
        self.phantoms: list[int] = []
        """Rows of payments that were not made."""

    def findings(self) -> list[Finding]:
        found = [*self._glued(), *self._pooled()]
        for judge in (self._mixed_split, self._unit, self._moved, self._twice, self._contradicted):
            for payment in self.payments:
                finding = None if payment.row in self.done else judge(payment)
                if finding:
                    found.append(finding)
        found += [self._step(row) for row in self.off if row not in self.done and not self._is_rounding(row)]
        return found + self._seasonal() + self._cadence()

    # evidence

    def _implied(self, row: int) -> float:
        """Cash that the step of the adjusted close at ``row`` was made with, per share as held on the row."""
        tape = self.tape
        step = float(tape.step[row] + tape.log_split[row])
        if tape.adds_back[row]:
            return float(np.expm1(-step) * tape.close[row])
        return float(-np.expm1(step) * self._base(row))

    def _base(self, row: int) -> float:
        return float(self.tape.close[row - 1] * np.exp(-self.tape.log_split[row]))

    def _is_rounding(self, row: int) -> bool:
        """Whether the step at ``row``, where nothing is recorded, is a close's half a cent."""
        return abs(self._implied(row)) < HALF_CENT and abs(float(self.tape.residue[row])) < HALF_CENT_SHARE

    def _unapplied(self, payment: Payment) -> bool:
        """Whether the adjusted close knows nothing of the payment."""
        return payment.row in self.off and abs(self._implied(payment.row)) < max(
            0.02 * payment.cash, 2 * float(self.tape.residue_bound[payment.row]) * self._base(payment.row) * 0.1
        )

    def _gain(self, payment: Payment, factor: float) -> float:
        """How much better the price and the habit like ``factor`` times the cash."""
        row, share = payment.row, payment.share
        price = _likelihood(self.tape, row, share * factor) - _likelihood(self.tape, row, share)
        habit = 0.0 if np.isnan(payment.habit) else abs(payment.excess) - abs(payment.excess + np.log(factor))
        return price + _prior(share * factor) - _prior(share) + 2 * float(habit)

    # payments

    def _corrected(self, payment: Payment, cash: float, why: str, known: int) -> Finding:
        row, tape = payment.row, self.tape
        self.done.add(row)
        repair: Repair = change_action("dividend", payment.session, payment.cash, cash)
        # Where the adjusted close was made with the wrong cash, its older part goes to the right one.
        level = np.log(max(1 - cash / self._base(row), 0.02)) - tape.log_split[row] - tape.step[row]
        if np.isfinite(level) and abs(level) > 2 * STEP_EXACT + 0.05 * cash / self._base(row):
            repair = several(repair, multiply(("adj_close",), float(np.exp(level)), None, tape.day(row - 1)))
        return tape.finding(
            Kind.WRONG_DIVIDEND, Severity.SEVERE, (row, row), known,
            {"cash": payment.cash, "implied": cash, "share": payment.share, "gap": float(tape.gap[row])},
            f"the dividend of {payment.cash:g} on {payment.session} is {payment.share:.2%} of the price; "
            f"{why} {cash:g}",
            "look the amount up and correct it", repair,
        )  # fmt: skip

    def _mixed_split(self, payment: Payment) -> Finding | None:
        """Cash of old shares beside prices of new ones, or the reverse, around a split."""
        tape, row = self.tape, payment.row
        rows = slice(max(self.low, row - DUPLICATE_ROWS), min(self.high, row + DUPLICATE_ROWS + 1))
        for ratio in np.unique(tape.split[rows][np.abs(np.log(tape.split[rows])) > 0.15]).tolist():
            for factor in (1 / ratio, ratio):
                nearer = abs(payment.excess + np.log(factor)) < np.log(1.3) < np.log(1.5) < abs(payment.excess)
                if nearer and self._gain(payment, factor) > 2:
                    return self._corrected(
                        payment, payment.cash * factor, "before and after the split it would be", payment.known
                    )
        return None

    def _unit(self, payment: Payment) -> Finding | None:
        """Cash in another unit than the price: a hundred times too much or too little."""
        row = payment.row
        implied = self._implied(row) / payment.cash if row in self.off else float("nan")
        for factor in UNITS:
            gain = self._gain(payment, factor)
            if abs(implied / factor - 1) < 0.15:
                if gain > 0:
                    return self._corrected(payment, payment.cash * factor, "the adjusted close was made with", row)
                return self._unfollowed(payment)
            strange = self._habitual_unit(payment, factor) or (factor < 1 and self._impossible(payment))
            if (strange and gain > DECISIVE) or (factor > 1 and gain > 0 and self._beside_its_like(payment, factor)):
                return self._corrected(payment, payment.cash * factor, "its own habit and price say", payment.known)
        return None

    def _habitual_unit(self, payment: Payment, factor: float) -> bool:
        """Whether only the unit keeps the payment from the habit; a small one must also fill the cadence's hole."""
        if not abs(payment.excess + np.log(factor)) < SIMILAR:
            return False
        return factor < 1 or self._fills_hole(payment)

    def _beside_its_like(self, payment: Payment, factor: float) -> bool:
        """Whether the unit alone keeps the payment from those before, after, and of the same season."""
        others = np.array([one.unit for one in self.payments if one is not payment])
        if not self._has_history or (len(others) and np.median(others) - others.min() > SMALL_ONES):
            return False
        index = self.payments.index(payment)
        near = [one for one in (index - 2, index - 1, index + 1) if 0 <= one < len(self.payments)]
        of_season = [one for one in self._seasons.partner[index].tolist() if one >= 0]
        if near and abs(payment.unit - float(np.median([self.payments[one].unit for one in near]))) < CENTS_LIKE:
            return False
        off = [
            abs(payment.unit + np.log(factor) - float(np.median([self.payments[one].unit for one in some])))
            for some in (near, of_season)
            if (len(some) > 1 or (some is of_season and some)) and self._alike(some)
        ]
        return len(self.payments) > 2 and bool(off) and min(off) < CENTS_LIKE

    def _alike(self, some: list[int]) -> bool:
        units = [self.payments[one].unit for one in some]
        return bool(max(units) - min(units) < SIMILAR)

    def _fills_hole(self, payment: Payment) -> bool:
        usual = [one for one in self.payments if abs(one.unit - payment.habit) < SIMILAR]
        before = [one.row for one in usual if one.row < payment.row]
        after = [one.row for one in usual if one.row > payment.row]
        spacing = np.diff([one.row for one in usual])
        if not before or len(spacing) < 3:
            return False
        middle = float(np.median(spacing))
        if after:
            return bool(1.6 < (after[0] - before[-1]) / middle < 2.4)
        return bool(0.75 < (payment.row - before[-1]) / middle < 1.25)

    def _impossible(self, payment: Payment) -> bool:
        """Whether so large a payment left no trace in the price."""
        row = payment.row
        nothing = _likelihood(self.tape, row, 0.0) - _likelihood(self.tape, row, payment.share)
        return payment.share > LARGE_YIELD and nothing > DECISIVE / 2 and self._untouched(payment)

    def _untouched(self, payment: Payment) -> bool:
        """Whether neither the open nor the close fell by more than half of the payment."""
        half = np.log(max(1 - payment.share, 0.02)) / 2
        return bool(self.tape.gap[payment.row] > half and self.tape.move[payment.row] > half)

    def _moved(self, payment: Payment) -> Finding | None:
        """An action without a step of the adjusted close, and a step of that size without an action nearby."""
        if not self._unapplied(payment):
            return None
        tape, row = self.tape, payment.row
        taken = {one.row for one in self.payments} | self.done
        for other in sorted(self.off, key=lambda place: abs(place - row)):
            if abs(other - row) > MISDATED_ROWS or other in taken:
                continue
            if abs(self._implied(other) / payment.cash - 1) < SAME_CASH:
                self.done |= {row, other}
                first, last = min(row, other), max(row, other)
                return tape.finding(
                    Kind.MISDATED_DIVIDEND, Severity.WARN, (first, last), last,
                    {"cash": payment.cash, "recorded": payment.session, "adjusted": tape.day(other)},
                    f"the dividend of {payment.cash:g} is recorded on {payment.session}, but the adjusted close takes "
                    f"it off on {tape.day(other)}", "move the dividend to the day of the adjusted close",
                    move_action("dividend", payment.session, payment.cash, tape.day(other)),
                )  # fmt: skip
        return None

    def _twice(self, payment: Payment) -> Finding | None:
        """Two alike payments within two weeks: the one that the price shows less is a duplicate."""
        tape = self.tape
        for other in self.payments:
            apart = abs(tape.session[other.row] - tape.session[payment.row]).astype(np.float64)
            near = 0 < abs(other.row - payment.row) <= DUPLICATE_ROWS and apart < DUPLICATE_SPACING * self._spacing
            if not near or abs(other.unit - payment.unit) > DUPLICATE_CASH or other.row in self.done:
                continue
            later = max(payment, other, key=lambda one: one.row)
            after = next((one.row for one in self.payments if one.row > later.row), None)
            if self._is_year_end_of_fund(later, self.high) or self._stands_for_next(later, after):
                continue
            weaker = min(
                payment, other, key=lambda one: _likelihood(tape, one.row, one.share) - _likelihood(tape, one.row, 0.0)
            )
            known = later.row if after is None or self._spacing >= MONTHLY_DAYS else after
            return self._phantom(weaker, known, "another one alike stands beside it")
        return None

    def _stands_for_next(self, payment: Payment, after: int | None) -> bool:
        """Whether the payment is the next period's, brought forward: the one after it, at row ``after``, is late then.

        Who pays monthly does so at the end of the year, and is judged only when the one after is known.
        """
        if after is None:
            return self._spacing < MONTHLY_DAYS
        apart = (self.tape.session[after] - self.tape.session[payment.row]).astype(np.float64)
        return bool(apart > BEGUN_SPACING * self._spacing)

    def _contradicted(self, payment: Payment) -> Finding | None:
        """Payments that the adjusted close does not follow, or the price does not show."""
        tape, row = self.tape, payment.row
        nothing = _likelihood(tape, row, 0.0) - _likelihood(tape, row, payment.share)
        untouched = self._untouched(payment)
        absent = nothing > DECISIVE and untouched
        if row not in self.off:
            denied = nothing > DENIED and untouched and payment.share > DENIED_YIELD
            return self._phantom(payment, row, "the price does not fall") if denied else None
        if self._unapplied(payment) and (absent or self._off_beat(payment) or nothing > DECISIVE / 2):
            return self._phantom(payment, payment.known, "neither the adjusted close nor the habit knows it")
        return self._unfollowed(payment)

    def _off_beat(self, payment: Payment) -> bool:
        """Whether the payment comes between those of the cadence."""
        others = [one.row for one in self.payments if one.row != payment.row and one.row not in self.done]
        if len(others) < 2:
            return False
        spacing = float(np.median(np.diff(others)))
        nearest = min(abs(one - payment.row) for one in others)
        return nearest < 0.55 * spacing

    def _phantom(self, payment: Payment, known: int, why: str) -> Finding:
        tape, row = self.tape, payment.row
        applied = np.isfinite(tape.step[row]) and row not in self.off
        self.done.add(row)
        self.phantoms.append(row)
        gone = remove_action("dividend", payment.session, payment.cash)
        level = multiply(("adj_close",), float(np.exp(-tape.log_yield[row])), None, tape.day(row - 1))
        return tape.finding(
            Kind.PHANTOM_DIVIDEND, Severity.WARN, (row, row), max(known, row),
            {"cash": payment.cash, "share": payment.share, "gap": float(tape.gap[row])},
            f"a dividend of {payment.cash:g} ({payment.share:.2%}) is recorded on {payment.session}, but {why}",
            "look whether it was paid, and remove it if not", several(gone, level) if applied else gone,
        )  # fmt: skip

    def _unfollowed(self, payment: Payment) -> Finding:
        """The action stands; the adjusted close is wrong."""
        return self._level(
            payment.row,
            f"takes {self._implied(payment.row):g} off on {payment.session}, the dividend is {payment.cash:g}",
        )

    # runs of payments

    def same_ratio(self) -> Iterator[tuple[list[Payment], float]]:
        """Runs of payments whose implied cash is the same multiple of theirs, and the multiple."""
        run: list[Payment] = []
        ratios: list[float] = []
        for payment in self.payments:
            implied = self._implied(payment.row) / payment.cash
            ratio = float(np.log(implied)) if implied > 0 else float("nan")
            slack = SAME_RATIO + float(self.tape.step_noise[payment.row]) / (payment.share * max(implied, 1e-3))
            if run and abs(ratio - np.median(ratios)) < min(slack, 0.3):
                run.append(payment)
                ratios.append(ratio)
                continue
            if run:
                yield run, float(np.exp(np.median(ratios)))
            starts = payment.row in self.off and SAME_RATIO < abs(ratio) < np.log(40.0)
            run, ratios = ([payment], [ratio]) if starts else ([], [])
        if run:
            yield run, float(np.exp(np.median(ratios)))

    def restated(self, run: list[Payment], ratio: float) -> list[Finding]:
        tape, last = self.tape, run[-1].row
        later = next((one.row for one in self.payments if one.row > last), self.high - 1)
        rows = np.arange(last + 1, later + 1)
        if not len(rows):
            return []
        splits = float(np.exp(tape.log_split[rows].sum()))
        if splits != 1.0 and abs(np.log(splits / ratio)) < max(3 * SAME_RATIO, 0.1 * abs(np.log(splits))):
            return [self._old_shares(run, splits)]
        if len(run) < RESTATED:
            return []
        # Without a split the older prices are too high by the ratio: where do they come down by it?
        off = np.abs(tape.gap[rows] - tape.market_gap[rows] + np.log(ratio)) / tape.gap_scale[rows]
        place = int(rows[np.nanargmin(off)])
        return [self._other_level(run, ratio, place)] if np.nanmin(off) < 4 and abs(np.log(ratio)) > 0.025 else []

    def _old_shares(self, run: list[Payment], ratio: float) -> Finding:
        steps = [change_action("dividend", one.session, one.cash, one.cash * ratio) for one in run]
        return self.tape.finding(
            Kind.WRONG_DIVIDEND, Severity.WARN, (run[0].row, run[-1].row), run[-1].row,
            {"ratio": ratio, "payments": len(run)},
            f"{len(run)} dividends up to {run[-1].session} are in the shares of after the split of {ratio:g}, the "
            "prices in those of before", "state cash in the shares of its day", several(*steps),
        )  # fmt: skip

    def _other_level(self, run: list[Payment], ratio: float, place: int) -> Finding:
        tape = self.tape
        return tape.finding(
            Kind.SCRAPE_SEAM, Severity.SEVERE, (place, place), place,
            {"level": ratio, "payments": len(run), "jump": float(tape.gap[place])},
            f"before {tape.day(place)} prices are {ratio:.4g} times what the dividends and the adjusted close's steps "
            "agree with", "ingest the older part again: it is on another level",
            multiply((*PRICES, "adj_close"), 1 / ratio, None, tape.day(place - 1)),
        )  # fmt: skip

    # steps of the adjusted close

    def _level(self, row: int, what: str) -> Finding:
        tape = self.tape
        self.done.add(row)
        return tape.finding(
            Kind.ADJUSTED_CLOSE, Severity.WARN, (row, row), row,
            {"residue": float(tape.residue[row]), "implied": self._implied(row)},
            f"the vendor's adjusted close {what}",
            "compute adjusted closes from the actions, or correct its older part",
            multiply(("adj_close",), float(np.exp(-tape.residue[row])), None, tape.day(row - 1)),
        )  # fmt: skip

    def _step(self, row: int) -> Finding:
        """A step without an action: a forgotten dividend, or a wrong level."""
        tape, cash = self.tape, self._implied(row)
        share = cash / self._base(row)
        if not (0 < share < LEVEL_YIELD and self._forgotten(row, cash, share)):
            return self._level(row, f"steps by {np.expm1(tape.residue[row]):+.3%} on {tape.day(row)} without an action")
        self.done.add(row)
        return tape.finding(
            Kind.MISSING_DIVIDEND, Severity.SEVERE, (row, row), row, {"implied": cash, "share": share},
            f"the adjusted close takes {cash:.4g} ({share:.2%}) off on {tape.day(row)}, but no dividend is recorded",
            "look the dividend up and record it", add_action("dividend", tape.day(row), round(cash, 6)),
        )  # fmt: skip

    def _forgotten(self, row: int, cash: float, share: float) -> bool:
        paid = _likelihood(self.tape, row, share) - _likelihood(self.tape, row, 0.0)
        near = sorted(self.payments, key=lambda one: abs(one.row - row))[:4]
        if len(near) < 2:
            return paid + _prior(share) > -2.0
        unit = np.log(cash) + float(np.sum(self.tape.log_split[self.low : row + 1]))
        return abs(unit - float(np.median([one.unit for one in near]))) < ALIKE or paid > 3.0

    def _glued(self) -> list[Finding]:
        """Older raw prices that are the adjusted ones: no step there has anything to take off, and then one goes up."""
        tape = self.tape
        for row in reversed(self.off):
            ratio = np.abs(np.log(tape.adj_close[self.low : row] / tape.close[self.low : row]))
            stands = abs(np.log(tape.adj_close[row] / tape.close[row])) > tape.residue_bound[row]
            if row - self.low > 1 and stands and tape.residue[row] > 0 and np.nanmax(ratio, initial=0.0) < STEP_NONE:
                jump = float(tape.residue[row])
                self.done |= {place for place in self.off if place <= row}
                return [tape.finding(
                    Kind.SCRAPE_SEAM, Severity.SEVERE, (row, row), row, {"jump": jump},
                    f"before {tape.day(row)} the raw prices are the adjusted ones: they jump by {np.expm1(jump):+.2%}",
                    "ingest the older part again as raw prices, or undo its adjustment",
                    unadjust(tape.day(row - 1), tape.basis),
                )]  # fmt: skip
        return []

    # habit

    def _by_price(self, payment: Payment, factor: float) -> float:
        """How much better the price likes ``factor`` times the cash."""
        share = payment.share
        return _likelihood(self.tape, payment.row, share * factor) - _likelihood(self.tape, payment.row, share)

    def _alone(self, payment: Payment, factor: float) -> float:
        """The same, with a little of what is usual elsewhere."""
        share = payment.share
        return self._by_price(payment, factor) + min(_prior(share * factor) - _prior(share), 2.0)

    def _pooled(self) -> list[Finding]:
        """All payments in another unit alike: none stands out, but the price falls a hundred times more at each."""
        if len(self.payments) < POOLED_PAYMENTS or any(payment.row in self.off for payment in self.payments):
            return []
        middle = float(np.median([one.unit for one in self.payments]))
        alike = [one for one in self.payments if abs(one.unit - middle) < SIMILAR]
        found = []
        for factor in UNITS:
            if sum(self._by_price(one, factor) for one in alike) < POOLED_BY_PRICE:
                continue
            gains = [self._alone(one, factor) for one in alike]
            better = [(one, gain) for one, gain in zip(alike, gains, strict=True) if gain > 0]
            if len(better) < POOLED_PAYMENTS or sum(gains) < POOLED_DECISIVE:
                continue
            total = np.cumsum([gain for _, gain in better])
            enough = max(int(np.argmax(total > POOLED_DECISIVE)), POOLED_PAYMENTS - 1)
            middle = float(np.median([one.unit for one, _ in better]))
            same = {id(one) for one, _ in better} | {id(one) for one in alike if abs(one.unit - middle) < SAME_CASH}
            for one in [one for one in alike if id(one) in same]:
                known = max(one.row, better[enough][0].row)
                found.append(self._corrected(one, one.cash * factor, f"its {len(better)} payments together say", known))
        return found

    @property
    def _has_history(self) -> bool:
        return self.high - self.low >= SEASON_HISTORY

    def _settled(self, row: int) -> int:
        """When a judgement by seasons that needs ``row`` could first be made."""
        return max(row, self.low + SEASON_HISTORY - 1)

    @property
    def _spacing(self) -> float:
        """Median days between payments."""
        return self._seasons.spacing

    @cached_property
    def _seasons(self) -> Seasons:
        days = self.tape.session[[payment.row for payment in self.payments]].astype(np.float64)
        first, last = (float(self.tape.session[row].astype(np.int64)) for row in (self.low, self.high - 1))
        return Seasons(days, first, last)

    def _seasonal(self) -> list[Finding]:
        """What the same weeks of other years say: payments that are missing, recorded too late, or strangers."""
        if not self._has_history or len(self.payments) < SEASON_PAYMENTS:
            return []
        found = [self._missed(gap) for gap in self._seasons.gaps()]
        found += [self._late(index) for index in range(len(self.payments))]
        found += [self._stranger(index) for index in self._surprises]
        return [one for one in found if one is not None]

    def _row_on(self, day: float) -> int:
        days = self.tape.session[self.low : self.high].astype(np.float64)
        return int(np.clip(self.low + np.searchsorted(days, day), self.low, self.high - 1))

    def _missed(self, gap: Gap) -> Finding | None:
        """A season that passed without its payment."""
        tape, others = self.tape, [self.payments[index] for index in gap.supports]
        first, middle, last = (self._row_on(gap.day + days) for days in (-SEASON_DAYS, 0, SEASON_DAYS))
        passed = self._row_on(gap.day + self._seasons.width + WEEK_DAYS)
        if any(first <= row <= last for row in self.done) or self._paid_ahead(first) or not self._had_begun(gap.day):
            return None
        after = int(np.searchsorted(self._seasons.days, gap.day, side="right"))
        owed = self._is_owed(others) or self._is_owed(self.payments[max(0, after - BEFORE) : after + 1])
        if not owed or not self._goes_on(gap.day):
            return None
        self.done.add(middle)
        return tape.finding(
            Kind.MISSING_DIVIDEND, Severity.WARN, (first, last),
            self._settled(max(passed, self.payments[max(after, gap.decisive)].row)),
            {"expected": tape.day(middle), "years": len(others),
             "cash_usual": float(np.median([one.cash for one in others]))},
            f"pays around {tape.day(middle)[5:]} in {len(others)} other years, but nothing is recorded then",
            "look whether a dividend was paid in these weeks and record it",
        )  # fmt: skip

    def _paid_ahead(self, row: int) -> bool:
        """Whether the last payment before ``row`` is larger than those of its own season, or an extra one: that of
        ``row`` is in it."""
        index = sum(one.row < row for one in self.payments) - 1
        days = self._seasons.days
        if index > 0 and days[index] - days[index - 1] < AHEAD_SPACING * self._spacing:
            return True
        of_season = [self.payments[one].unit for one in self._seasons.partner[index].tolist() if one >= 0]
        excess = self.payments[index].unit - float(np.median(of_season)) if index >= 0 and of_season else 0.0
        return bool(excess > PAID_AHEAD)

    def _had_begun(self, day: float) -> bool:
        """Whether a payment before ``day`` shows that the instrument paid by then."""
        ago = day - self._seasons.days[self._seasons.days < day]
        return bool(len(ago) and ago.min() < BEGUN_SPACING * self._spacing)

    def _goes_on(self, day: float) -> bool:
        """Whether the instrument pays again soon after ``day``: who does not has stopped, or put it off."""
        ahead = self._seasons.days[self._seasons.days > day] - day
        return bool(len(ahead) and ahead.min() < BEGUN_SPACING * self._spacing)

    def _is_owed(self, others: list[Payment]) -> bool:
        """Whether a season with payments like ``others`` is one that the instrument does not leave out.

        A company that pays what it paid before, and a fund that hands out every month what its bonds earn, do not. What
        a fund of shares or a company that pays in another currency hands out differs each time, and may be nothing.
        """
        if self._spacing < MONTHLY_DAYS:
            return True
        units = np.sort(np.array([one.unit for one in others]))
        return bool(len(units) > 1 and np.median(np.diff(units)) < STEADY and units[-1] - units[0] < SIMILAR)

    def _late(self, index: int) -> Finding | None:
        """A payment that comes later than in other years, on a day on which the price shows less than before."""
        payment, tape = self.payments[index], self.tape
        row, first = payment.row, max(self.low + 1, payment.row - LATE_ROWS)
        if row in self.done or not self._seasons.lateness[index] > self._seasons.slack(index) or row <= first:
            return None
        rows = np.arange(first, row)
        gains = _shown(tape, rows, payment.share) - _shown(tape, np.array([row]), payment.share)
        gains += self._seasons.punctuality(index, (tape.session[row] - tape.session[rows]).astype(np.float64))
        best = int(np.argmax(gains))
        if gains[best] < LATE_DECISIVE:
            return None
        self.done.add(row)
        day = tape.day(first + best)
        known = [self.payments[one].row for one in self._seasons.partner[index].tolist() if one >= 0]
        return tape.finding(
            Kind.MISDATED_DIVIDEND, Severity.WARN, (first + best, row), self._settled(max(row, *known)),
            {"cash": payment.cash, "recorded": payment.session, "likelier": day,
             "log_likelihood_ratio": float(gains[best]), "days_late": float(self._seasons.lateness[index])},
            f"the dividend of {payment.cash:g} is recorded on {payment.session}, "
            f"{self._seasons.lateness[index]:.0f} days later in the year than usual; date and price fit {day} better",
            "look up the ex-date: vendors take the day of record or of payment for it",
        )  # fmt: skip

    @cached_property
    def _surprises(self) -> list[int]:
        return [index for index in self._seasons.strangers() if self.payments[index].row not in self.done]

    def _surprise(self, index: int) -> float:
        """Minus the log probability that a payment of the instrument comes off its beat, judged by all but this one."""
        others = sum(one != index for one in self._surprises)
        return log((len(self.payments) - 1 + SURPRISES_OF) / (others + SURPRISES))

    def _stranger(self, index: int) -> Finding | None:
        """A payment in weeks in which no other year has one, and of which the price shows nothing."""
        payment, day = self.payments[index], self._seasons.days[index]
        if payment.row in self.done or self._stands_for_a_phantom(payment):
            return None
        if any(abs(gap - day) < self._seasons.spacing for gap in self._seasons.missed):
            return None
        paid = _likelihood(self.tape, payment.row, payment.share) - _likelihood(self.tape, payment.row, 0.0)
        if self._surprise(index) - paid < INVENTED:
            return None
        # Judged by the years before; where there are none, by the one after.
        judged = self._seasons.days[0] + YEAR_DAYS <= day + self._seasons.width and not self._seasons.waits(index)
        known = self._settled(payment.known if judged else self._row_on(day + YEAR_DAYS + self._seasons.width))
        if self._is_year_end_of_fund(payment, known):
            return None
        return self._phantom(payment, known, "no other year has one in these weeks")

    def _stands_for_a_phantom(self, payment: Payment) -> bool:
        """Whether one beside it was taken away: of two payments for one period the other stays."""
        return any(0 < abs(row - payment.row) <= DUPLICATE_ROWS for row in self.phantoms)

    def _is_year_end_of_fund(self, payment: Payment, known: int) -> bool:
        """Whether it is what funds pay once more at the end of the year: theirs are amounts that do not repeat.

        Args:
            known: row up to which payments are looked at.
        """
        month, day = (int(part) for part in payment.session.split("-")[1:])
        if month != 12 or day < YEAR_END_DAY:
            return False
        units = np.array([one.unit for one in self.payments if one.row <= known])
        return bool(len(units) > 2 and np.mean(np.abs(np.diff(units)) < np.log1p(SAME_CASH)) < UNEVEN_REPEATS)

    def _cadence(self) -> list[Finding]:
        """Holes and insertions in the rhythm of an instrument that pays like a clock."""
        usual = [one for one in self.payments if one.row not in self.done]
        found: list[Finding | None] = []
        for index in range(1, len(usual)):
            found.append(self._hole(usual, index))
            if index + 1 < len(usual):
                found.append(self._insertion(usual, index))
        return [one for one in found if one is not None]

    def _beat(self, rows: list[int], index: int, width: int) -> tuple[float, float, int]:
        """Median spacing near ``rows[index]`` without the ``width`` spacings that end there and after, its relative
        deviation, and the last row that it looked at; (nan, inf, 0) below three spacings."""
        spacing = np.diff(np.array(rows, dtype=np.float64))
        early, late = spacing[max(0, index - 7) : index - 1], spacing[index - 1 + width : index - 1 + width + 3]
        near = np.concatenate([early, late])
        if len(near) < CADENCE_SPACINGS:
            return float("nan"), float("inf"), 0
        middle = float(np.median(near))
        last = rows[min(len(rows) - 1, index - 1 + width + len(late))]
        return middle, float(np.median(np.abs(near / middle - 1))), last

    def _hole(self, usual: list[Payment], index: int) -> Finding | None:
        last, now = usual[index - 1], usual[index]
        middle, spread, known = self._beat([one.row for one in usual], index, 1)
        alike = abs(now.unit - last.unit) < np.log(1.25)
        busy = any(last.row < row < now.row for row in self.done)
        if not (alike and not busy and spread < CADENCE_BAND and 1.7 < (now.row - last.row) / middle < 2.3):
            return None
        tape, half = self.tape, round((last.row + now.row) / 2)
        if self._paid_ahead(half) or not self._seasons.has_near(float(tape.session[half].astype(np.int64))):
            return None
        if not self._is_owed(usual[max(0, index - BEFORE) : index + 1]):
            return None
        near = range(max(last.row + 1, half - 8), min(now.row, half + 9))
        return tape.finding(
            Kind.MISSING_DIVIDEND, Severity.WARN, (near[0], near[-1]), max(known, now.row),
            {"spacing_sessions": middle, "cash_before": last.cash, "cash_after": now.cash},
            f"pays about every {middle:.0f} sessions, but nothing is recorded between {last.session} and {now.session}",
            "look whether a dividend was paid in between and record it",
        )  # fmt: skip

    def _insertion(self, usual: list[Payment], index: int) -> Finding | None:
        """A payment without which the beat would be whole."""
        last, now, later = usual[index - 1 : index + 2]
        if self._stands_for_a_phantom(now):
            return None
        middle, spread, known = self._beat([one.row for one in usual], index, 2)
        whole = abs((later.row - last.row) / middle - 1) < CADENCE_BAND
        # A second one of its size is a habit of its own, such as a small yearly bonus.
        habit = [one for one in self.payments if one is not now and abs(one.unit - now.unit) < np.log(1.25)]
        if abs(now.unit - last.unit) > ALIKE and habit:
            return None
        paid = _likelihood(self.tape, now.row, now.share) - _likelihood(self.tape, now.row, 0.0)
        # Who pays once a year may begin to pay twice: the seasons of the next year tell.
        if not (whole and spread < CADENCE_BAND) or middle > SELDOM_ROWS:
            return None
        if self._is_year_end_of_fund(now, max(known, later.row)):
            return None
        return (
            self._phantom(now, max(known, later.row), "it falls between two of a steady beat")
            if self._surprise(self.payments.index(now)) - paid > INVENTED
            else None
        )
