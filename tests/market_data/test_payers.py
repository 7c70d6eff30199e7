"""A usual payment changes no finding: the audit of all history says the same with it and without it."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from octopus.core.sessions import Sessions
from octopus.warehouse.defects.dividends import dividend_defects
from octopus.warehouse.defects.tape import tape_of
from octopus.warehouse.payers import usual_payers

DAYS = Sessions().between(date(2015, 1, 2), date(2019, 6, 28))
NAMES = [f"P{number}" for number in range(8)]
MONTHS, JUDGED = 96, 12
Paid = dict[str, dict[int, float]]
"""Cash by instrument and row of `DAYS`."""


def market(random: np.random.Generator, paid: Paid) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars whose prices fall by what is paid, and the payments."""
    count = len(DAYS)
    close = 80 * np.exp(np.cumsum(random.normal(0, 0.011, (count, len(NAMES))), axis=0))
    for column, name in enumerate(NAMES):
        for row, cash in paid[name].items():
            close[row:, column] *= max(1 - cash / close[row - 1, column], 0.9)
    flat = close.T.ravel()
    opened = flat * np.exp(random.normal(0, 0.002, len(flat)))
    bars = pl.DataFrame(
        {
            "instrument": np.repeat(NAMES, count), "session": np.tile(DAYS, len(NAMES)), "open": opened,
            "high": np.maximum(opened, flat) * 1.004, "low": np.minimum(opened, flat) * 0.996, "close": flat,
            "volume": random.integers(900_000, 1_100_000, len(flat)).astype(float),
        }
    )  # fmt: skip
    rows = [(name, DAYS[row].item(), "dividend", cash) for name in NAMES for row, cash in paid[name].items()]
    return bars, pl.DataFrame(rows, schema=["instrument", "session", "kind", "value"], orient="row")


def found(bars: pl.DataFrame, actions: pl.DataFrame) -> set[tuple[object, ...]]:
    tape = tape_of(bars, actions, "printed")
    return {
        (one.instrument, one.kind, one.severity, one.session_from, one.session_to)
        for one in dividend_defects(tape, actions)
    }


def usual(bars: pl.DataFrame, actions: pl.DataFrame, row: int) -> frozenset[str]:
    low = DAYS[max(row - MONTHS, 0)].item()
    recent = bars.filter(pl.col("session").is_between(low, DAYS[row].item()))
    first = dict.fromkeys(NAMES, DAYS[0].item())
    return usual_payers(actions, recent, first, DAYS[row - JUDGED].item())


@pytest.mark.parametrize("seed", range(3))
def test_a_usual_payment_changes_no_finding(seed: int) -> None:
    random = np.random.default_rng(seed)
    paid: Paid = {}
    for name in NAMES:
        every, wander = int(random.choice([21, 63, 63, 126])), int(random.choice([0, 1, 4]))
        rows = np.arange(int(random.integers(8, 60)), len(DAYS) - 5, every)
        rows = np.clip(rows + random.integers(-wander, wander + 1, len(rows)), 2, None)
        cash = 0.4 * (1 + random.choice([0.0, 0.01])) ** np.arange(len(rows))
        cash[random.random(len(rows)) < 0.01] *= 100
        paid[name] = dict(zip(rows.tolist(), cash.round(4).tolist(), strict=True))
        for row in random.choice(rows, 2):
            if random.random() < 0.3:
                del paid[name][int(row)]
                paid[name][min(int(row) + int(random.integers(2, 30)), len(DAYS) - 2)] = 0.4
    bars, actions = market(random, paid)
    passed = 0
    for name in NAMES:
        for row in sorted(paid[name])[6::7]:
            day = DAYS[row].item()
            known, before = (actions.filter(pl.col("session") <= day), actions.filter(pl.col("session") < day))
            mine = known.filter(pl.col("instrument") == name)
            if name in usual(bars.filter(pl.col("instrument") == name), mine, row):
                so_far = bars.filter(pl.col("session") <= day)
                was, now = found(so_far.filter(pl.col("session") < day), before), found(so_far, known)
                of_payer = ({one for one in some if one[0] == name} for some in (was, now))
                earlier, later = of_payer
                assert earlier == later
                passed += 1
    assert passed, "some payments are usual"


def steady(cash: float = 0.4) -> Paid:
    return {name: dict.fromkeys(range(41, 42 + 63 * 14, 63), cash) for name in NAMES}


LAST = 41 + 63 * 14


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({LAST: 40.0}, "in cents"),
        ({LAST: 0.7}, "a special one"),
        ({LAST - 63: None}, "the one before is missing"),
        ({LAST: None, LAST + 20: 0.4}, "a month late"),
        ({LAST - 8: 0.4}, "twice"),
        ({LAST - 30: 0.4}, "between two"),
        (dict.fromkeys(range(41, LAST - 63 * 3, 63)), "too few to have a habit"),
    ],
)
def test_who_pays_otherwise_is_looked_at_whole(change: dict[int, float | None], why: str) -> None:
    random = np.random.default_rng(3)
    paid = steady()
    mine = paid[NAMES[0]] | change
    paid[NAMES[0]] = {row: cash for row, cash in sorted(mine.items()) if cash is not None}
    bars, actions = market(random, paid)
    row = max(paid[NAMES[0]])
    assert NAMES[0] not in usual(bars, actions, row), why
    assert set(NAMES[1:]) <= usual(*market(random, steady()), LAST)


def test_a_season_that_the_record_should_have_is_missed() -> None:
    """One payment of years ago is missing, which those of its season show, and no rhythm of the last ones."""
    random = np.random.default_rng(4)
    paid = steady()
    del paid[NAMES[0]][41 + 63 * 2]
    names = usual(*market(random, paid), LAST)
    assert NAMES[0] not in names
    assert NAMES[1] in names
