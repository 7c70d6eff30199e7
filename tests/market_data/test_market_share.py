"""What the market makes of an instrument's moves, and payments off the beat: of the punctual, and of who surprises."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from octopus.warehouse.defects.bars import price_spikes
from octopus.warehouse.defects.dividends import dividend_defects
from octopus.warehouse.defects.seams import level_seams
from octopus.warehouse.defects.tape import Tape, tape_of
from octopus.warehouse.quality import Kind

DAYS = [day for day in (date(2010, 1, 4) + timedelta(days=n) for n in range(9 * 365)) if day.weekday() < 5]
SLOPES = {"short": -2.0, "bond": 0.0, **{f"share{n}": 1.0 for n in range(9)}}
QUARTER = 64


def market(sessions: int, own: float = 0.002, paid: dict[int, float] | None = None, crash: int = 0) -> Tape:
    """Instruments that follow one market by their slopes; the cash of ``paid`` goes to ``share0``, whose price falls by
    a usual payment and by no other. ``crash``: before the end, a night of -4 % and the next of +4 %."""
    random = np.random.default_rng(5)
    common = random.normal(0, 0.006, (2, sessions))
    if crash:
        common[0, -crash], common[0, -crash + 1] = -0.04, 0.04
    bars, actions = [], []
    for name, slope in SLOPES.items():
        night, day = slope * common + random.normal(0, own, (2, sessions))
        if name == "share0":
            for row, cash in (paid or {}).items():
                actions.append((name, DAYS[row], "dividend", cash))
                # A payment off the beat leaves no trace in the price, which happens to rise a little that night.
                night[row] = -cash / 100 if row % QUARTER == 0 else 0.004
        close = 100 * np.exp(np.cumsum(night + day))
        opened = close * np.exp(-day)
        bars.append(pl.DataFrame({
            "instrument": name, "session": DAYS[:sessions], "open": opened, "close": close,
            "high": np.maximum(opened, close), "low": np.minimum(opened, close),
            "volume": random.integers(900_000, 1_100_000, sessions).astype(float),
        }))  # fmt: skip
    schema = {"instrument": pl.String, "session": pl.Date, "kind": pl.String, "value": pl.Float64}
    return tape_of(pl.concat(bars), pl.DataFrame(actions, schema=schema, orient="row"), "printed")


def rows_of(tape: Tape, name: str) -> slice:
    index = tape.symbols.index(name)
    return slice(int(tape.starts[index]), int(tape.starts[index + 1]))


def test_each_instrument_follows_the_market_by_its_own_slope():
    tape = market(400)
    plain = tape.market[rows_of(tape, "share1")][200:]
    for name, slope in (("short", -2.0), ("bond", 0.0)):
        part = tape.market[rows_of(tape, name)][200:]
        # Drawn to one by a month's weight in seven.
        assert np.median(part / plain) == pytest.approx(slope + (1 - slope) / 7, abs=0.12)


def test_before_there_is_a_month_of_history_the_slope_is_one():
    tape = market(60)
    first = [tape.market[rows_of(tape, name)][1:20] for name in ("short", "share3")]
    assert np.array_equal(*first)


def test_a_crash_and_its_recovery_are_no_defect_of_who_goes_the_other_way_or_not_at_all():
    tape = market(400, crash=20)
    assert price_spikes(tape) == []
    assert level_seams(tape) == []


def strange(specials: tuple[int, ...]) -> list[str]:
    paid = dict.fromkeys(range(QUARTER, 2000, QUARTER), 0.6) | dict.fromkeys(specials, 0.61)
    tape = market(2100, paid=dict(sorted(paid.items())))
    found = dividend_defects(tape, _actions(paid))
    return [str(one.session_from) for one in found if one.kind is Kind.PHANTOM_DIVIDEND]


def _actions(paid: dict[int, float]) -> pl.DataFrame:
    rows = [("share0", DAYS[row], "dividend", cash) for row, cash in sorted(paid.items())]
    return pl.DataFrame(rows, schema=["instrument", "session", "kind", "value"], orient="row")


def test_a_payment_that_neither_habit_nor_price_knows_is_doubted():
    odd = 15 * QUARTER + 30
    assert strange((odd,)) == [str(DAYS[odd])]


def test_a_fourth_surprise_of_who_has_surprised_before_needs_more():
    odd = tuple(n * QUARTER + shift for n, shift in ((6, 22), (11, 30), (17, 38), (22, 26)))
    alone = [strange((row,)) for row in odd]
    assert all(found == [str(DAYS[row])] for found, row in zip(alone, odd, strict=True))
    assert len(strange(odd)) < len(odd)
