"""Payments of one instrument beside those of the same season in other years: which is expected, alone, or late.

Belongs here: matching payments over the years, and what follows from dates alone. Does not: amounts, prices and the
findings made of all three (dividends.py). Who pays every spring and autumn, or 40 and 80 sessions apart in turn, has no
even beat, but pays in the same weeks of each year.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from octopus.core.types import FloatArray, IntArray

YEAR_DAYS = 365.25
YEARS = np.array([-3, -2, -1, 1, 2, 3])
NEAR_YEARS = 2
"""Over more years habits change: the third year counts only beside two others."""
WIDTH_DAYS, WIDTH_SHARE = 35.0, 0.35
"""Payments this near to the day of another year are of one season; never more than a share of the usual spacing."""
OFTEN_DAYS = 120.0
"""Of spacing: whoever pays at least quarterly does not skip one season, others change from once to twice a year."""
APART = 0.5
"""Of the spacing: a payment nearer than that to where one is expected is the expected one, moved."""
ALONE_DAYS = 500.0
"""Two seasons missed within that time are a change of habit, not a gap in the record."""
DEVIATION_LEAST, DEVIATION_SELDOM, DEVIATION_UNKNOWN = 1.5, 5.0, 7.0
"""Days: of the best clocks, of who pays once a year, after a general meeting, and of whoever has paid too seldom to
tell."""
SELDOM_DAYS = 250.0
"""Of spacing: who pays once a year."""
PAYING = 1.0
"""Spacings within which another payment says that the instrument paid in those years."""
DEVIATION_FREEDOM = 3.0


@dataclass(frozen=True)
class Gap:
    """A season without its payment.

    Attributes:
        day: on which it is expected by the year before, or else by the year after: later years do not move it.
        supports: payments of other years that expect it. decisive: the last of those that were needed to miss it, -1
            where those before it do.
    """

    day: float
    supports: tuple[int, ...]
    decisive: int


@dataclass(frozen=True, eq=False)
class Seasons:
    """Payments of one instrument.

    Attributes:
        days: of the payments as days since 1970, ascending, shape (n,). first, last: the record's first and last day.
    """

    days: FloatArray
    first: float
    last: float

    @cached_property
    def spacing(self) -> float:
        """Median days between payments; a year for fewer than two."""
        return float(np.median(np.diff(self.days))) if len(self.days) > 1 else YEAR_DAYS

    @property
    def width(self) -> float:
        return min(WIDTH_DAYS, WIDTH_SHARE * self.spacing)

    @cached_property
    def partner(self) -> IntArray:
        """Payment of the same season, by payment and year of `YEARS`; -1 for none. Each is the other's nearest."""
        expected = self._expected
        found = self._nearest(expected)
        back = self._nearest(self.days[found] - YEAR_DAYS * YEARS)
        rows = np.arange(len(self.days))[:, None]
        return np.where((np.abs(self.days[found] - expected) <= self.width) & (back == rows), found, -1)

    @property
    def _expected(self) -> FloatArray:
        expected: FloatArray = self.days[:, None] + YEAR_DAYS * YEARS
        return expected

    def _nearest(self, days: FloatArray) -> IntArray:
        right = np.clip(np.searchsorted(self.days, days), 0, len(self.days) - 1)
        left = np.maximum(right - 1, 0)
        nearer = np.abs(self.days[left] - days) <= np.abs(self.days[right] - days)
        return np.where(nearer, left, right)

    @cached_property
    def lateness(self) -> FloatArray:
        """Days by which each payment comes after the median of its partners' days, NaN without partners."""
        late = np.where(self.partner >= 0, self.days[:, None] - (self.days[self.partner] - YEAR_DAYS * YEARS), np.nan)
        late[(self.partner >= 0).sum(axis=1) == 0] = np.nan
        has = np.isfinite(late).any(axis=1)
        result = np.full(len(self.days), np.nan)
        result[has] = np.nanmedian(late[has], axis=1)
        return result

    def deviation(self, index: int) -> float:
        """Usual lateness of the other payments: the larger of what its middle and its tail say, in days."""
        others = np.abs(np.delete(self.lateness, index))
        others = others[np.isfinite(others)]
        if len(others) < 3:
            return DEVIATION_UNKNOWN
        least = DEVIATION_SELDOM if self.spacing > SELDOM_DAYS else DEVIATION_LEAST
        return float(max(least, 1.4826 * np.median(others), np.quantile(others, 0.9) / 1.645))

    def has_near(self, day: float) -> bool:
        """Whether another year near ``day`` has a payment in those weeks; so has every record too short to tell."""
        others = day + YEAR_DAYS * YEARS[np.abs(YEARS) <= NEAR_YEARS]
        others = others[(others >= self.days[0]) & (others <= self.days[-1])]
        return not len(others) or bool((np.abs(self.days[self._nearest(others)] - others) <= self.width).any())

    def waits(self, index: int) -> bool:
        """Whether the payment is judged only when it should have come again: of who paid once a year until then."""
        until = self.days[self.days <= self.days[index] - YEAR_DAYS + self.width]
        spacing = float(np.median(np.diff(until))) if len(until) > 1 else self.spacing
        return spacing > SELDOM_DAYS

    def slack(self, index: int) -> float:
        """Days by which the payment may come later than in other years: none, but for who pays once a year."""
        return 2 * self.deviation(index) if self.spacing > SELDOM_DAYS else 0.0

    def punctuality(self, index: int, earlier: FloatArray) -> FloatArray:
        """Log likelihood ratio of the payment's season if it had come ``earlier`` days before, against as it came."""
        scale, late = self.deviation(index), self.lateness[index]
        before, now = (np.log1p(((late - days) / scale) ** 2 / DEVIATION_FREEDOM) for days in (earlier, 0.0))
        ratio: FloatArray = (DEVIATION_FREEDOM + 1) / 2 * (now - before)
        return ratio

    def strangers(self) -> list[int]:
        """Payments without a partner in any of the two years around them in which the instrument paid.

        Who paid once a year and pays in another season begins, perhaps, to pay twice: there the next year tells.
        """
        begun, ended = self.days.min() - self.width, self.days.max() + self.width
        near = np.abs(YEARS) <= NEAR_YEARS
        distance = np.abs(self.days[self._nearest(self._expected)] - self._expected)
        paying = distance <= PAYING * self.spacing
        possible = ((self._expected >= begun) & (self._expected <= ended) & paying)[:, near]
        alone = possible.any(axis=1) & (self.partner[:, near] < 0).all(axis=1)
        passed = self.days + YEAR_DAYS + self.width <= self.last
        return [index for index in np.flatnonzero(alone).tolist() if passed[index] or not self.waits(index)]

    @cached_property
    def _candidates(self) -> list[tuple[Gap, IntArray]]:
        """Seasons without a payment that two other years have, and these years."""
        rows, columns = np.nonzero(
            (self.partner < 0) & (self._expected > self.first + self.width) & (self._expected < self.last - self.width)
        )
        days, years = self._expected[rows, columns], YEARS[columns]
        order = np.argsort(days)
        breaks = np.flatnonzero(np.diff(days[order]) > self.width) + 1
        groups = [group for group in np.split(order, breaks) if len(set(years[group].tolist())) >= 2]
        return [(_gap(days[group], years[group], rows[group]), years[group]) for group in groups]

    @property
    def missed(self) -> list[float]:
        """Days of all seasons without a payment that two other years have, those of a change of habit too."""
        return [gap.day for gap, _ in self._candidates]

    def gaps(self) -> list[Gap]:
        """Seasons whose payment is missing in the record: one of two years that have it is the year before or after."""
        middles = np.array(self.missed)
        return [gap for gap, years in self._candidates if self._is_gap(gap.day, years, middles)]

    def _is_gap(self, day: float, years: IntArray, others: FloatArray) -> bool:
        # Of who pays seldom both sides must expect it, or three years in a row before.
        both = bool((years < 0).any() and (years > 0).any())
        before = set(years[years > 0].tolist()) == {1, 2, 3}
        firm = both or before or (self.spacing < OFTEN_DAYS and bool((years < 0).any()))
        alone = int((np.abs(others - day) < ALONE_DAYS).sum()) == 1
        free = float(np.abs(self.days - day).min()) > APART * self.spacing
        return bool((np.abs(years) == 1).any()) and firm and alone and free


def _gap(days: FloatArray, years: IntArray, payments: IntArray) -> Gap:
    by_year = dict(zip(years.tolist(), zip(days.tolist(), payments.tolist(), strict=True), strict=True))
    day = next(by_year[year][0] for year in (1, -1, 2, -2, 3, -3) if year in by_year)
    before, after = (sorted(by_year[year][1] for year in by_year if sign * year > 0) for sign in (1, -1))
    # Three years before need none after, one needs one, none needs two.
    needed = 0 if len(before) == len(YEARS) // 2 else 1 if before else 2
    return Gap(
        day, tuple(sorted(set(payments.tolist()))), after[min(needed, len(after)) - 1] if needed and after else -1
    )
