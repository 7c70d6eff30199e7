"""Payments beside those of other years, by dates alone, and prices that are no whole cents."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from octopus.warehouse.defects.audit import apply_repairs
from octopus.warehouse.defects.seams import cent_seams
from octopus.warehouse.defects.seasons import Seasons
from octopus.warehouse.defects.tape import ACTIONS_COLUMNS, tape_of
from octopus.warehouse.quality import Kind

FIRST, LAST = date(2012, 9, 4), date(2017, 9, 1)
UNEVEN = ((3, 10), (5, 8), (8, 12), (12, 4))
"""A payer whose spacings are 59, 96, 114 and 96 days: it has no beat, but seasons."""


def days_of(months: tuple[tuple[int, int], ...] = UNEVEN, seed: int = 0) -> list[date]:
    """Payments of five years in these months, up to two days off."""
    dice = np.random.default_rng(seed)
    days = [date(year, *day) + timedelta(int(dice.integers(-2, 3))) for year in range(2012, 2018) for day in months]
    return [day for day in days if FIRST <= day <= LAST]


def seasons_of(days: list[date]) -> Seasons:
    number = np.array(days, dtype="datetime64[D]").astype(np.float64)
    first, last = (float(np.datetime64(day).astype(np.int64)) for day in (FIRST, LAST))
    return Seasons(number, first, last)


def near(day: float, other: date) -> bool:
    return abs(day - float(np.datetime64(other).astype(np.int64))) < 6


@pytest.mark.parametrize("months", [UNEVEN, ((3, 28), (9, 27)), ((5, 4),)])
def test_a_season_that_two_years_have_and_one_lacks_is_a_gap(months):
    days = days_of(months)
    assert seasons_of(days).gaps() == []
    for missing in [day for day in days if date(2013, 12, 1) < day < date(2016, 9, 1)]:
        (gap,) = seasons_of([day for day in days if day != missing]).gaps()
        assert near(gap.day, missing)
        # By the time that one year before and one after have it, nothing more is needed.
        rest = [day for day in days if day != missing]
        assert gap.decisive == -1 or rest[gap.decisive] <= missing + timedelta(days=372)


def test_a_habit_that_changes_is_no_gap():
    yearly = [day for day in days_of(((3, 28), (9, 27))) if day.month == 3 or day.year >= 2015]
    assert seasons_of(yearly).gaps() == []
    assert seasons_of([day for day in days_of() if day.year != 2015]).gaps() == []


@pytest.mark.parametrize(("until", "strangers"), [(date(2016, 6, 30), 0), (date(2017, 2, 1), 0), (LAST, 1)])
def test_who_pays_once_a_year_and_then_again_is_judged_a_year_later(until, strangers):
    """Only when the new season has passed again without a payment; until then it may be a new habit."""
    days = [day for day in [*days_of(((5, 4),)), date(2016, 1, 20)] if day <= until]
    number = np.array(sorted(days), dtype="datetime64[D]").astype(np.float64)
    first, last = (float(np.datetime64(day).astype(np.int64)) for day in (FIRST, until))
    assert len(Seasons(number, first, last).strangers()) == strangers


def test_years_in_which_nothing_was_paid_do_not_speak_against_a_payment():
    paid = [day for day in days_of() if day < date(2014, 9, 1) or date(2017, 2, 1) < day < date(2017, 6, 1)]
    assert seasons_of(paid).strangers() == []


def test_a_hole_is_one_only_where_another_year_has_a_payment():
    seasons = seasons_of(days_of())
    day = [float(np.datetime64(one).astype(np.int64)) for one in (date(2015, 8, 14), date(2015, 1, 20))]
    assert [seasons.has_near(one) for one in day] == [True, False]


def test_a_payment_that_no_other_year_has_is_a_stranger():
    days = days_of()
    assert seasons_of(days).strangers() == []
    stranger = date(2015, 6, 20)
    assert seasons_of(sorted([*days, stranger])).strangers() == [sum(day < stranger for day in days)]


def test_lateness_is_counted_in_days_of_the_year_and_judged_by_the_habit():
    days = days_of()
    late = 9
    shifted = seasons_of([day + timedelta(20 * (place == late)) for place, day in enumerate(days)])
    assert shifted.lateness[late] == pytest.approx(20, abs=4)
    assert np.nanmax(np.abs(np.delete(shifted.lateness, late))) < 6
    ratios = shifted.punctuality(late, np.array([20.0, 0.0]))
    assert ratios[0] > 5
    assert ratios[1] == 0.0
    assert seasons_of(days).punctuality(late, np.array([20.0]))[0] < -5


# whole cents ---------------------------------------------------------------------------------------------------------


def bars_of(scale: float, *, rounded: bool = False) -> pl.DataFrame:
    """120 sessions in whole cents, those before the 60th times ``scale``."""
    dice = np.random.default_rng(4)
    close = np.round(50 * np.exp(np.cumsum(dice.normal(0, 0.004, 120))), 2)
    prices = {"open": close + 0.01, "high": close + 0.25, "low": close - 0.25, "close": close}
    scaled = {name: np.where(np.arange(120) < 60, values * scale, values) for name, values in prices.items()}
    sessions = [date(2020, 1, 1) + timedelta(days=day) for day in range(120)]
    frame = pl.DataFrame({"instrument": ["AAA"] * 120, "session": sessions, **scaled, "volume": [1e6] * 120})
    return frame.with_columns(pl.col("open", "high", "low", "close").round(2 if rounded else 6))


NO_ACTIONS = pl.DataFrame(schema=dict(zip(ACTIONS_COLUMNS, (pl.String, pl.Date, pl.String, pl.Float64), strict=True)))


@pytest.mark.parametrize("scale", [1.0225, 0.97, 1.004])
def test_older_prices_in_fractions_of_cents_are_a_seam_and_the_cents_give_its_scale(scale):
    bars = bars_of(scale)
    (finding,) = cent_seams(tape_of(bars, NO_ACTIONS, "printed"))
    assert (finding.kind, finding.session_from) == (Kind.SCRAPE_SEAM, bars["session"][60])
    assert finding.evidence["level"] == pytest.approx(scale, rel=1e-5)
    mended, _ = apply_repairs(bars.with_columns(adj_close=pl.col("close")), NO_ACTIONS, [finding])
    assert mended["close"].to_numpy() == pytest.approx(bars_of(1.0)["close"].to_numpy(), abs=2e-3)


def test_whole_cents_on_both_sides_and_prices_adjusted_for_splits_are_no_seam():
    for bars in (bars_of(1.0), bars_of(1.0225, rounded=True)):
        assert cent_seams(tape_of(bars, NO_ACTIONS, "printed")) == []
    assert cent_seams(tape_of(bars_of(1.0225), NO_ACTIONS, "split_adjusted")) == []
