"""Defects of raw bars: planted ones are found with the repair that mends them, and sound bars are quiet."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.defect_injector import (
    CELLS,
    PEER_CELLS,
    PRICES,
    SECOND_CELLS,
    Cell,
    Series,
    clean_series,
    frames,
    plant,
)
from benchmarks.price_histories import Histories
from benchmarks.quality import RIGHT, Bench, beside, beside_peers, same
from benchmarks.quality_tables import wilson
from benchmarks.yahoo_defects import SLACK, yahoo_frames
from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from octopus.warehouse.defects.audit import apply_repairs, audit
from octopus.warehouse.defects.disagreement import disagreement
from octopus.warehouse.defects.repair import UnknownRepairError, apply_repair, multiply, several
from octopus.warehouse.quality import Finding, Kind, finding_rows

XNYS = Sessions()
CALENDAR = XNYS.between(date(2012, 9, 4), date(2017, 9, 1))
NAMES = ("AAPL", "JNJ", "KO", "MCD", "UPS", "XOM")


@pytest.fixture(scope="module")
def sound(test_data: Path) -> list[Series]:
    return [one for one in clean_series(test_data) if one.symbol in NAMES]


@pytest.fixture(scope="module")
def quiet(sound: list[Series]) -> set[tuple[object, ...]]:
    """What is found without a plant, by key."""
    return {key(one) for one in audit(*frames(sound), calendar=CALENDAR)}


@pytest.fixture(scope="module")
def bad(test_data: Path) -> Path:
    return test_data / "yfinance_bad"


def cell(kind: str, magnitude: str) -> Cell:
    return next(one for one in CELLS if (one.kind, one.magnitude) == (kind, magnitude))


def key(finding: Finding) -> tuple[object, ...]:
    return finding.kind, finding.instrument, finding.session_from


# planted -------------------------------------------------------------------------------------------------------------

EVIDENT = [
    ("unit bars", "×100 on 5"),
    ("unit bars", "×0.01 on 1"),
    ("unit field", "×100 on 1"),
    ("unit field", "×0.01 on 5"),
    ("unit history", "×100"),
    ("missing split", "3, adjusted close right"),
    ("missing split", "2, adjusted close wrong too"),
    ("wrong split ratio", "2 as 3, adjusted close right"),
    ("wrong split ratio", "2 as 0.5, adjusted close wrong too"),
    ("split twice", "2, adjusted close right"),
    ("misdated split", "2, 5 late, adjusted close right"),
    ("misdated split", "2, 20 late, adjusted close wrong too"),
    ("already adjusted", "2, all before"),
    ("partly adjusted", "10, last 5"),
    ("phantom split", "2, adjusted close right"),
    ("phantom split", "10, adjusted close wrong too"),
    ("missing dividend", "one, adjusted close right"),
    ("wrong dividend", "×100, adjusted close right"),
    ("wrong dividend", "×100, adjusted close wrong too"),
    ("wrong dividend", "×0.01, adjusted close right"),
    ("wrong dividend", "×0.01, adjusted close wrong too"),
    ("misdated dividend", "5 late, adjusted close right"),
    ("adjusted close", "1% of a dividend"),
    ("adjusted close", "level 5.0%"),
    ("glued seam", "3% to 10%"),
    ("level seam", "3%"),
    ("volume seam", "×10"),
    ("volume seam", "×0.01"),
    ("repeated bar", "3"),
    ("frozen price", "5"),
    ("impossible bar", "high and low exchanged"),
    ("impossible bar", "close 5% below low"),
    ("impossible bar", "close zero"),
    ("spike", "50%, whole bar"),
    ("spike", "20%, close"),
]


@pytest.mark.testdata
@pytest.mark.parametrize(("kind", "magnitude"), EVIDENT)
def test_a_planted_defect_is_named_and_its_repair_restores_the_bars(sound, quiet, kind, magnitude):
    planted, labels = plant(cell(kind, magnitude), sound, seed=5)
    bars, actions = frames(planted)
    found = audit(bars, actions, calendar=CALENDAR)
    named = restored = 0
    for label in labels:
        mine = [one for one in found if one.instrument == label.series.symbol and key(one) not in quiet]
        start, end = label.session_from.astype(object) - SLACK, label.session_to.astype(object) + SLACK
        hits = [one for one in mine if one.kind in RIGHT[kind] and one.session_from <= end and one.session_to >= start]
        named += bool(hits)
        original = next(one for one in sound if one.symbol == label.series.symbol)
        restored += bool(hits) and same(apply_repairs(*frames([label.series]), mine), frames([original]))
    assert named >= len(labels) - 1
    assert restored >= named - 1, "a repair may take an overnight move for part of the defect, but rarely"


@pytest.mark.testdata
@pytest.mark.parametrize(
    ("kind", "magnitude"),
    [
        ("unit bars", "×100 on 5"),
        ("missing split", "2, adjusted close right"),
        ("misdated split", "2, 5 late, adjusted close right"),
        ("misdated dividend", "5 late, adjusted close right"),
        ("misdated dividend", "20 late, adjusted close wrong too"),
        ("missing dividend", "one, adjusted close wrong too"),
        ("level seam", "3%"),
        ("wrong dividend", "×0.01, adjusted close wrong too"),
        ("phantom dividend", "1.0%, adjusted close wrong too"),
        ("spike", "50%, close"),
        ("volume seam", "×100"),
        ("frozen price", "10"),
    ],
)
def test_a_finding_is_dated_when_its_evidence_was_complete(sound, kind, magnitude):
    """Cut off after its known session the same finding is there: nothing later was needed."""
    planted, labels = plant(cell(kind, magnitude), sound[:4], seed=6)
    bars, actions = frames(planted)
    checked = 0
    for label in labels:
        symbol = label.series.symbol
        for finding in audit(bars, actions, calendar=CALENDAR):
            near = finding.session_from - SLACK <= label.session_from.astype(object) <= finding.session_to + SLACK
            if finding.instrument != symbol or finding.kind not in RIGHT[kind] or not near:
                continue
            known = finding.known_session
            assert known is not None
            assert known >= finding.session_from
            cut = audit(
                bars.filter(pl.col("session") <= known), actions.filter(pl.col("session") <= known), calendar=CALENDAR
            )
            assert key(finding) in {key(one) for one in cut}
            checked += 1
    assert checked >= 2


@pytest.mark.testdata
def test_a_spike_is_known_a_day_later(sound):
    planted, labels = plant(cell("spike", "50%, whole bar"), sound[:1], seed=7)
    (finding,) = [one for one in audit(*frames(planted)) if one.kind is Kind.PRICE_SPIKE]
    day = labels[0].session_from.astype(object)
    assert (finding.session_from, finding.session_to) == (day, day)
    assert finding.known_session == XNYS.next(day)
    (row,) = finding_rows([finding], "s", XNYS).iter_rows(named=True)
    assert row["known_at"].date() == XNYS.next(day)
    assert '"action":"drop"' in row["evidence"]


def new_of(one: Series, changed: Series, kinds: set[Kind]) -> list[Finding]:
    """What is found in ``changed`` and not in ``one``."""
    before = {key(found) for found in audit(*frames([one]), calendar=CALENDAR)}
    found = audit(*frames([changed]), calendar=CALENDAR)
    return [one for one in found if one.kind in kinds and key(one) not in before]


@pytest.mark.testdata
def test_a_jump_is_calm_on_an_ordinary_volume_and_not_on_a_part_of_it(sound):
    one = next(replace(one, actions=(), adj_close=one.close) for one in sound if one.symbol == "KO")
    usual = [max(one.volume[row : row + 2]) / np.median(one.volume[row - 21 : row]) for row in range(200, 1000)]
    row = 200 + int(np.argmin(np.abs(np.array(usual) - 0.7)))
    cents = one.scaled(slice(0, row), 1.15, (*PRICES, "adj_close"))
    for name in PRICES:
        getattr(cents, name)[:] = np.round(getattr(cents, name), 2)
    jump = {Kind.SCRAPE_SEAM, Kind.MISSING_SPLIT}
    assert [found.session_from for found in new_of(one, cents, jump)] == [one.session[row].astype(object)]
    assert new_of(one, cents.scaled([row], 0.01, ("volume",)), jump) == []


@pytest.mark.testdata
@pytest.mark.parametrize(("cash", "count"), [(0.005, 0), (0.02, 1)])
def test_half_a_cent_between_close_and_adjusted_close_is_rounding(sound, cash, count):
    one = next(one for one in sound if one.symbol == "KO")
    changed = one.scaled(slice(0, 600), 1 - cash / one.close[600], ("adj_close",))
    assert len(new_of(one, changed, {Kind.ADJUSTED_CLOSE, Kind.MISSING_DIVIDEND})) == count


@pytest.mark.testdata
def test_of_two_payments_for_one_period_one_is_taken_away(sound):
    one = next(one for one in sound if one.symbol == "UPS")
    day, kind, cash = [action for action in one.actions if action[1] == "dividend"][8]
    row = one.row_of(day) - 2
    extra = 0.8 * cash
    changed = replace(
        one.scaled(slice(0, row), 1 - extra / one.close[row - 1], ("adj_close",)),
        actions=tuple(sorted([*one.actions, (one.session[row], kind, extra)])),
    )
    (found,) = new_of(one, changed, {Kind.PHANTOM_DIVIDEND})
    assert found.session_from in (one.session[row].astype(object), day.astype(object))


# sound ---------------------------------------------------------------------------------------------------------------


@pytest.mark.testdata
def test_sound_bars_are_quiet(sound):
    assert sum(map(len, sound)) > 7_000
    assert audit(*frames(sound), calendar=CALENDAR) == []


@pytest.mark.testdata
def test_one_instrument_alone_is_judged_too(sound):
    alone = next(one for one in sound if one.symbol == "KO")
    assert audit(*frames([alone])) == []
    planted, _ = plant(cell("unit bars", "×100 on 5"), [alone], seed=8)
    assert [one.kind for one in audit(*frames(planted))] == [Kind.UNIT_ERROR]


@pytest.mark.testdata
def test_without_an_adjusted_close_prices_and_habit_still_speak(sound):
    planted, labels = plant(cell("missing split", "3, adjusted close right"), sound, seed=9)
    bars, actions = frames(planted)
    found = {one.instrument for one in audit(bars.drop("adj_close"), actions) if one.kind is Kind.MISSING_SPLIT}
    assert len(found) >= len(labels) - 2
    planted, labels = plant(cell("wrong dividend", "×100, adjusted close right"), sound, seed=9)
    bars, actions = frames(planted)
    found = {one.instrument for one in audit(bars.drop("adj_close"), actions) if one.kind is Kind.WRONG_DIVIDEND}
    assert len(found) >= len(labels) - 1


# Yahoo's own ---------------------------------------------------------------------------------------------------------


@pytest.mark.testdata
@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("SSW-JO-1d-100x-error", Kind.UNIT_ERROR, 1),
        ("MOB-ST-1d-bad-stock-split", Kind.UNEVEN_SPLIT, 1),
        ("DEX-AX-1d-bad-stock-split", Kind.UNEVEN_SPLIT, 1),
        ("LA-V-1d-bad-stock-split", Kind.UNEVEN_SPLIT, 1),
        ("4063-T-1d-bad-div", Kind.WRONG_DIVIDEND, 1),
        ("KME-MI-1d-bad-div", Kind.WRONG_DIVIDEND, 1),
        ("KAP-IL-1d-bad-div", Kind.PHANTOM_DIVIDEND, 1),
        ("PSH-L-1d-bad-div", Kind.WRONG_DIVIDEND, 11),
        ("TENT-L-1d-bad-div", Kind.WRONG_DIVIDEND, 11),
        ("RGL-L-1d-bad-div", Kind.ADJUSTED_CLOSE, 10),
        ("ADIG-L-1d-bad-div", Kind.ADJUSTED_CLOSE, 11),
        ("8TRA-DE-1d-missing-div-adjust", Kind.ADJUSTED_CLOSE, 1),
    ],
)
def test_recorded_defects_of_yahoo_are_named(bad, name, kind, count):
    path = bad / f"{name}.csv.gz"
    found = [one for one in audit(*yahoo_frames(path), basis="split_adjusted") if one.kind is kind]
    assert len(found) == count
    fixed = audit(*yahoo_frames(bad / f"{name}-fixed.csv.gz"), basis="split_adjusted")
    assert [one for one in fixed if one.kind is kind] == [], "the maintainers' repair is sound"


@pytest.mark.testdata
@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("SSW-JO-1d-100x-error", ("close", "high")),
        ("MOB-ST-1d-bad-stock-split", ("open", "close")),
        ("DEX-AX-1d-bad-stock-split", ("close",)),
        ("RGL-L-1d-bad-div", ("adj_close",)),
        ("8TRA-DE-1d-missing-div-adjust", ("adj_close",)),
        ("PSH-L-1d-bad-div", ("adj_close",)),
        ("KME-MI-1d-bad-div", ("adj_close",)),
    ],
)
def test_repairs_give_what_the_maintainers_gave(bad, name, columns):
    bars, actions = yahoo_frames(bad / f"{name}.csv.gz")
    wanted = {Kind.UNIT_ERROR, Kind.UNEVEN_SPLIT, Kind.WRONG_DIVIDEND, Kind.ADJUSTED_CLOSE}
    found = [one for one in audit(bars, actions, basis="split_adjusted") if one.kind in wanted]
    ours, acts = apply_repairs(bars, actions, found)
    theirs, their_acts = yahoo_frames(bad / f"{name}-fixed.csv.gz")
    both = ours.join(theirs, on="session", suffix="_right").drop_nulls()
    for column in columns:
        off = np.abs(both[column].to_numpy() / both[f"{column}_right"].to_numpy() - 1)
        assert np.quantile(off, 0.98) < 3e-3, column
    paid, their_paid = (one.filter(kind="dividend").sort("session")["value"].to_numpy() for one in (acts, their_acts))
    assert paid == pytest.approx(their_paid, rel=0.02)


@pytest.mark.testdata
@pytest.mark.parametrize("name", ["EWG-1d-no-bad-divs", "IBE-MC-1d-no-bad-divs", "TISG-MI-1d-no-bad-divs"])
def test_yahoos_sound_dividends_are_left_alone(bad, name):
    assert audit(*yahoo_frames(bad / f"{name}.csv.gz"), basis="split_adjusted") == []


# repairs and edges ---------------------------------------------------------------------------------------------------


def by_hand() -> tuple[pl.DataFrame, pl.DataFrame]:
    days = XNYS.between(date(2020, 1, 2), date(2020, 1, 8)).astype(object).tolist()
    close = [10.0, 11.0, 12.0, 13.0, 14.0]
    bars = pl.DataFrame(
        {"instrument": ["A"] * 5 + ["B"] * 5, "session": days * 2}
        | dict.fromkeys(("open", "high", "low", "close", "adj_close"), close * 2)
        | {"volume": [100.0] * 10}
    )
    actions = pl.DataFrame(
        {
            "instrument": ["A", "A", "B"], "session": [days[1], days[1], days[2]],
            "kind": ["dividend", "dividend", "split"], "value": [0.5, 0.5, 2.0],
        }
    )  # fmt: skip
    return bars, actions


def test_a_repair_touches_its_rows_and_its_instrument_only():
    bars, actions = by_hand()
    repair = {"instrument": "A", **multiply(("close",), 0.01, "2020-01-03", "2020-01-06")}
    changed, same_actions = apply_repair(bars, actions, repair)
    assert changed.filter(instrument="A")["close"].to_list() == pytest.approx([10, 0.11, 0.12, 13, 14])
    assert changed.filter(instrument="B").equals(bars.filter(instrument="B"))
    assert changed["open"].equals(bars["open"])
    assert same_actions.equals(actions)


def test_of_two_actions_alike_one_goes():
    bars, actions = by_hand()
    gone = {"action": "remove_action", "kind": "dividend", "session": "2020-01-03", "value": 0.5, "instrument": "A"}
    _, left = apply_repair(bars, actions, gone)
    assert left.filter(instrument="A").height == 1
    with pytest.raises(MissingDataError, match=r"no dividend of 0.7 on 2020-01-03 for A"):
        apply_repair(bars, actions, {**gone, "value": 0.7})


def test_steps_are_taken_in_order_and_an_unknown_one_is_refused():
    bars, actions = by_hand()
    twice = {
        "instrument": "B",
        **several(multiply(("close",), 2.0), {"action": "drop", "from": None, "to": "2020-01-06"}),
    }
    changed, _ = apply_repair(bars, actions, twice)
    assert changed.filter(instrument="B")["close"].to_list() == [26.0, 28.0]
    with pytest.raises(UnknownRepairError, match="'mend': choose one of"):
        apply_repair(bars, actions, {"instrument": "A", "action": "mend"})


def test_nothing_is_found_in_nothing_and_a_missing_column_is_said():
    bars, actions = by_hand()
    assert audit(bars.clear(), actions.clear()) == []
    with pytest.raises(MissingDataError, match="bars lack the column close"):
        audit(bars.drop("close"), actions)


def test_wilson_by_hand():
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


BELOW_THE_RULE = {"20%, close", "3", "close 0.1%", "high 1%"}


@pytest.mark.testdata
def test_what_is_planted_beside_peers_and_beside_a_second_source_is_named(sound):
    of = Histories("sound", sound, "XNYS", (31,), frozenset())
    benches = ((Bench(of, beside_peers), PEER_CELLS), (Bench(of, beside(sound)), SECOND_CELLS))
    for bench, cells in benches:
        for one in [one for one in cells if one.magnitude != "30%, close"]:
            recall, _ = bench.measure(one)
            found = 0 if one.magnitude in BELOW_THE_RULE else recall.planted
            assert (recall.named, recall.planted > 0) == (found, True), (one.kind, one.magnitude)


# two sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.testdata
def test_sources_disagree_where_their_ratio_changes_and_not_where_it_is_constant(sound):
    apple = next(one for one in sound if one.symbol == "AAPL")
    printed, _ = frames([apple])
    doubled = printed.with_columns([pl.col(name) * 2.5 for name in ("open", "high", "low", "close")])
    assert disagreement(printed, doubled) == []
    adjusted = printed.with_columns(
        [pl.col(name) / pl.when(pl.col("session") < date(2014, 6, 9)).then(7).otherwise(1)
         for name in ("open", "high", "low", "close")]
    )  # fmt: skip
    (split,) = disagreement(printed, adjusted)
    assert split.session_from == date(2014, 6, 9)
    assert split.evidence["ratio_before"] == pytest.approx(7.0)
    assert split.evidence["ratio_after"] == pytest.approx(1.0)


@pytest.mark.testdata
def test_a_bar_on_which_sources_differ_is_known_when_they_agree_again(sound):
    bars, _ = frames([sound[0]])
    days = bars["session"]
    tick = bars.with_columns(
        close=pl.col("close") * pl.when(pl.col("session").is_in([days[300], days[301]])).then(1.01).otherwise(1.0),
        high=pl.col("high") * pl.when(pl.col("session") == days[500]).then(1.05).otherwise(1.0),
    )
    close, high = disagreement(tick, bars)
    assert (close.session_from, close.session_to, close.known_session) == (days[300], days[301], days[302])
    assert close.evidence["difference"] == pytest.approx(0.01)
    assert (high.evidence["field"], high.session_from) == ("high", days[500])


@pytest.mark.parametrize("seed", range(4))
def test_every_finding_about_a_bar_has_a_name_of_its_own(seed):
    """Several fields of one bar are wrong at once, in different ways: a verdict on one must not settle another."""
    dice = np.random.default_rng(seed)
    days = CALENDAR[:300]
    fields = dict.fromkeys(("open", "high", "low", "close"), 100.0) | {"volume": 1e6}
    prices = {name: value * np.exp(dice.normal(scale=0.002, size=300)) for name, value in fields.items()}
    for row in dice.choice(300, 60, replace=False):
        for name in dice.choice(["open", "high", "low", "close"], 3, replace=False):
            prices[name][row] *= dice.choice([np.nan, 0.0, -1.0, 1.5, 0.5, 100.0])
    bars = pl.DataFrame({"instrument": ["AAA"] * 300, "session": days, **prices})
    nothing = pl.DataFrame(schema={"instrument": pl.String, "session": pl.Date, "kind": pl.String, "value": pl.Float64})
    found = [one for one in audit(bars, nothing) if one.kind is Kind.IMPOSSIBLE_BAR]
    of_a_day = Counter(one.session_from for one in found)
    assert max(of_a_day.values()) > 1
    assert len({one.finding_id("vendor") for one in found}) == len(found) > 60
