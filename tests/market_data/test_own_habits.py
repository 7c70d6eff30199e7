"""What an instrument, or everyone, is used to is no defect: its own tails, the session's stress, its own payments."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from octopus.core.types import FloatArray
from octopus.warehouse.defects.audit import audit
from octopus.warehouse.defects.tape import tape_of
from octopus.warehouse.quality import Kind

SESSIONS, INSTRUMENTS, FIRST = 700, 16, 0
DAYS = np.busday_offset("2018-01-01", np.arange(SESSIONS), roll="forward")
ACTIONS = {"instrument": pl.String, "session": pl.Date, "kind": pl.String, "value": pl.Float64}
WHERE = 640


class Panel:
    """Instruments that follow one market; ``gaps`` and ``moves`` within the day may be changed before prices are made.

    Attributes: gaps, within: log returns, shape (instruments, sessions). reach: of high and low beyond open and close,
    as a share. paid: rows and cash of the first instrument.
    """

    def __init__(self, seed: int = 3) -> None:
        random = np.random.default_rng(seed)
        shape = (INSTRUMENTS, SESSIONS)
        self.gaps = 0.004 * random.standard_normal(shape) + 0.003 * random.standard_normal(SESSIONS)
        self.within = 0.008 * random.standard_normal(shape) + 0.005 * random.standard_normal(SESSIONS)
        self.volume = np.round(1e6 * np.exp(0.2 * random.standard_normal(shape)))
        self.reach = np.full(shape, 0.002)
        self.paid: list[tuple[int, float]] = []

    def spike(self, row: int, size: float, which: int = FIRST) -> None:
        """One whole bar off by ``size`` (log)."""
        self.gaps[which, row] += size
        self.gaps[which, row + 1] -= size

    def frames(self, *, adds_back: bool = False) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Bars and dividends; the first instrument's prices fall by what it pays."""
        close = 100 * np.exp(np.cumsum(self.gaps + self.within, axis=1))
        cash = np.zeros(SESSIONS)
        for row, one in self.paid:
            close[FIRST, row:] *= 1 - one / close[FIRST, row - 1]
            cash[row] = one
        opened = close * np.exp(-self.within)
        before = np.concatenate(([np.nan], close[FIRST, :-1]))
        step = close[FIRST] / (close[FIRST] + cash) if adds_back else 1 - cash / before
        parts = [self._bars(which, opened[which], close[which]) for which in range(INSTRUMENTS)]
        adjusted = close[FIRST] * np.append(np.cumprod(np.nan_to_num(step, nan=1.0)[::-1])[::-1][1:], 1.0)
        parts[FIRST] = parts[FIRST].with_columns(adj_close=adjusted)
        days = [DAYS[row].astype(object) for row, _ in self.paid]
        rows = [("S0", day, "dividend", one) for day, (_, one) in zip(days, self.paid, strict=True)]
        return pl.concat(parts), pl.DataFrame(rows, schema=ACTIONS, orient="row")

    def _bars(self, which: int, opened: FloatArray, close: FloatArray) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "instrument": [f"S{which}"] * SESSIONS, "session": pl.Series(DAYS).cast(pl.Date), "open": opened,
                "high": np.maximum(opened, close) * (1 + self.reach[which]),
                "low": np.minimum(opened, close) * (1 - self.reach[which]), "close": close,
                "volume": self.volume[which], "adj_close": close,
            }
        )  # fmt: skip


def found(panel: Panel, kind: Kind, *, adds_back: bool = False) -> list[date]:
    """First sessions of the findings of ``kind`` on the first instrument."""
    findings = audit(*panel.frames(adds_back=adds_back), "split_adjusted")
    return [one.session_from for one in findings if one.kind is kind and one.instrument == "S0"]


def test_a_spike_is_found_where_the_instrument_makes_no_such_moves_and_not_where_it_does() -> None:
    calm, used = Panel(), Panel()
    for panel in (calm, used):
        panel.spike(WHERE, 0.06)
    for often in range(84):
        used.gaps[FIRST, 130 + 6 * often] += 0.08 * (-1) ** often
    assert found(calm, Kind.PRICE_SPIKE) == [DAYS[WHERE].astype(object)]
    assert found(used, Kind.PRICE_SPIKE) == []


def test_a_spike_is_none_in_a_session_in_which_everyone_leaves_the_market() -> None:
    panel = Panel()
    panel.spike(WHERE, 0.05)
    random = np.random.default_rng(5)
    for which in range(1, INSTRUMENTS):
        panel.spike(WHERE, 0.05 * random.choice([-1.0, 1.0]) * random.uniform(0.7, 1.3), which)
    assert found(panel, Kind.PRICE_SPIKE) == []


def test_what_everyone_loses_overnight_is_no_split() -> None:
    own, everyone = Panel(), Panel()
    own.gaps[FIRST, WHERE] -= np.log(1.25)
    everyone.gaps[:, WHERE] -= np.log(1.25)
    for panel, expected in ((own, 1), (everyone, 0)):
        bars, actions = panel.frames()
        splits = [one for one in audit(bars, actions, "printed") if one.kind is Kind.MISSING_SPLIT]
        assert len([one for one in splits if one.instrument == "S0"]) == expected


def quarterly(panel: Panel, cash: FloatArray) -> None:
    panel.paid = [(40 + 63 * number, float(one)) for number, one in enumerate(cash)]


@pytest.mark.parametrize("adds_back", [False, True])
def test_both_conventions_of_adjusted_closes_are_accepted_and_a_forgotten_payment_of_either_is_found(
    adds_back: bool,
) -> None:
    panel = Panel()
    quarterly(panel, np.full(11, 2.0))
    # On a day on which the price moves the two conventions differ by far more than rounding.
    for row, _ in panel.paid:
        panel.within[FIRST, row] += 0.06
    bars, actions = panel.frames(adds_back=adds_back)
    assert set(tape_of(bars, actions, "split_adjusted").adds_back[:SESSIONS]) == {adds_back}
    kinds = {Kind.ADJUSTED_CLOSE, Kind.ADJUSTED_LEVEL, Kind.WRONG_DIVIDEND, Kind.MISSING_DIVIDEND}
    assert not [one for one in audit(bars, actions, "split_adjusted") if one.kind in kinds]
    row, _ = panel.paid[6]
    forgotten = actions.filter(pl.col("session") != DAYS[row].astype(object))
    missing = [one for one in audit(bars, forgotten, "split_adjusted") if one.kind is Kind.MISSING_DIVIDEND]
    assert [one.session_from for one in missing] == [DAYS[row].astype(object)]


def test_a_hole_is_one_only_where_amounts_are_steady() -> None:
    steady, uneven = Panel(), Panel()
    quarterly(steady, np.full(11, 0.8))
    quarterly(uneven, np.array([0.9, 0.5, 0.7, 1.2, 0.8, 0.6, 0.65, 0.45, 1.1, 0.75, 0.5]))
    for panel in (steady, uneven):
        del panel.paid[5]
    assert len(found(steady, Kind.MISSING_DIVIDEND)) == 1
    assert found(uneven, Kind.MISSING_DIVIDEND) == []


def test_a_payment_brought_forward_is_no_duplicate_and_one_recorded_twice_is() -> None:
    twice, forward = Panel(), Panel()
    for panel in (twice, forward):
        panel.paid = [(15 + 21 * number, 0.3) for number in range(32)]
    twice.paid.insert(12, (twice.paid[11][0] + 4, 0.3))
    row = forward.paid[12][0]
    forward.paid[12] = (row - 15, 0.3)
    assert len(found(twice, Kind.PHANTOM_DIVIDEND)) == 1
    assert found(forward, Kind.PHANTOM_DIVIDEND) == []


def test_where_trading_is_thin_a_quiet_day_says_nothing() -> None:
    steady, thin = Panel(), Panel()
    for panel in (steady, thin):
        panel.gaps[FIRST, WHERE] += 0.06
        panel.within[FIRST, WHERE] = 0.0
    thin.volume[FIRST] = np.round(300 * np.exp(1.5 * np.random.default_rng(7).standard_normal(SESSIONS)))
    for panel in (steady, thin):
        panel.volume[FIRST, WHERE : WHERE + 2] = np.median(panel.volume[FIRST]) / 2
    assert found(steady, Kind.SCRAPE_SEAM) == [DAYS[WHERE].astype(object)]
    assert found(thin, Kind.SCRAPE_SEAM) == []


@pytest.mark.parametrize(("reach", "count"), [(0.0, 1), (0.01, 0)])
def test_a_bad_close_is_the_end_of_its_day(reach: float, count: int) -> None:
    panel = Panel()
    panel.within[FIRST, WHERE], panel.gaps[FIRST, WHERE + 1] = 0.035, -0.035
    panel.reach[FIRST, WHERE] = reach
    assert len(found(panel, Kind.PRICE_SPIKE)) == count


@pytest.mark.parametrize(("part", "count"), [(1.0, 1), (0.1, 0)])
def test_a_day_without_most_of_its_volume_is_no_quiet_one(part: float, count: int) -> None:
    panel = Panel()
    panel.spike(WHERE, 0.0245)
    panel.volume[FIRST, WHERE] *= part
    assert len(found(panel, Kind.PRICE_SPIKE)) == count


@pytest.mark.parametrize(("reach", "count"), [(0.002, 1), (0.03, 0)])
def test_a_jump_is_no_seam_where_the_day_is_as_wide_as_news_make_it(reach: float, count: int) -> None:
    panel = Panel()
    panel.gaps[FIRST, WHERE] += 0.1
    panel.within[FIRST, WHERE] = 0.0
    panel.volume[:, WHERE : WHERE + 2] = panel.volume[:, WHERE - 21 : WHERE - 19]
    panel.reach[FIRST, WHERE] = reach
    assert len(found(panel, Kind.SCRAPE_SEAM)) == count


@pytest.mark.parametrize(("before", "count"), [(slice(0, 0), 1), (slice(WHERE - 50, WHERE, 3), 0)])
def test_another_unit_of_volume_leaves_no_day_on_the_old_level(before: slice, count: int) -> None:
    """Who traded as much now and then before has found interest."""
    panel = Panel()
    panel.volume[FIRST, WHERE:] *= 10
    panel.volume[FIRST, before] *= 10
    seams = found(panel, Kind.VOLUME_SEAM)
    assert len(seams) == count
    assert seams == [DAYS[WHERE].astype(object)] * count
