"""Findings: what is suspicious in a panel, in spans, and the same whether or not the panel goes on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from octopus.core.panel import Panel
from octopus.core.sessions import Sessions
from octopus.warehouse.defects.repair import put
from octopus.warehouse.pictures import around, close_ups, coverage, findings_picture, to_show
from octopus.warehouse.quality import (
    FINDINGS_SCHEMA,
    Finding,
    Kind,
    Severity,
    find_all,
    finding_rows,
    rounding_steps,
    training_exclusions,
)
from resources.sources.base import whole
from resources.sources.sample import SampleMarketData

XNYS = Sessions()


def panel_of(close: np.ndarray, symbols: tuple[str, ...], sessions: np.ndarray | None = None, basis="raw") -> Panel:
    shape = close.shape
    days = XNYS.between(date(2015, 1, 1), date(2023, 1, 1))[: shape[0]] if sessions is None else sessions
    returns = np.full(shape, np.nan)
    returns[1:] = close[1:] / close[:-1] - 1
    empty = np.full(shape, np.nan)
    return Panel(
        sessions=days, symbols=symbols, close=close, total_return=returns, open=empty, high=empty, low=empty,
        volume=empty, member=~np.isnan(close), sentiment=empty, split=np.ones(shape), dividend=np.zeros(shape),
        price_basis=basis,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sample() -> Panel:
    bars = whole(SampleMarketData().fetch([], date(1990, 1, 1), date(2022, 12, 31), XNYS)).bars
    wide = bars.pivot("instrument", index="session", values="close").sort("session")
    symbols = tuple(sorted(wide.columns[1:]))
    return panel_of(
        wide.select(symbols).to_numpy().astype(float), symbols,
        wide["session"].to_numpy().astype("datetime64[D]"), "total_return",
    )  # fmt: skip


def walk(rows: int, columns: int, seed: int = 1) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (rows, columns)), axis=0))


def of_kind(panel: Panel, kind: Kind):
    return [finding for finding in find_all(panel) if finding.kind is kind]


# the sample ----------------------------------------------------------------------------------------------------------


def test_the_samples_early_best_buy_is_mostly_rounding(sample):
    first = next(f for f in of_kind(sample, Kind.ROUNDING) if f.instrument == "BBY")
    assert (first.session_from, first.session_to) == (date(1990, 1, 2), date(1993, 10, 13))
    assert first.severity is Severity.WARN
    assert first.evidence["step"] == pytest.approx(0.001)
    assert 69 < first.evidence["worst_step_bps"] < 100  # 0.001 on 0.144 is 69 bps; the lowest close is 0.107
    assert first.evidence["worst_step_bps"] == pytest.approx(10 / sample.close[:958, 3].min())


def test_the_sample_has_findings_by_the_dozen_and_not_by_the_thousand(sample):
    counts = Counter(finding.kind for finding in find_all(sample))
    assert counts[Kind.ROUNDING] == 7
    assert counts[Kind.SURVIVORSHIP] == 1
    assert counts[Kind.TOTAL_RETURN_BASIS] == 1
    assert counts[Kind.CALENDAR_GAP] == counts[Kind.LATE_LISTING] == counts[Kind.ENDED] == 0
    assert 10 < counts[Kind.OUTLIER_RETURN] < 60
    assert 5 < counts[Kind.STALE_PRICE] < 25
    assert sum(counts.values()) < 80


def test_known_days_are_found(sample):
    found = {(f.instrument, f.session_from) for f in of_kind(sample, Kind.OUTLIER_RETURN)}
    assert ("AAPL", date(2000, 9, 29)) in found  # a profit warning halved it
    assert ("AMD", date(2016, 4, 22)) in found
    assert not any(day == date(2020, 3, 16) for _, day in found), "a crash that all share is no outlier"


def test_models_do_not_learn_from_rounded_prices(sample):
    excluded = training_exclusions(sample, find_all(sample))
    assert excluded.shape == sample.close.shape
    assert 0.04 < excluded.mean() < 0.05
    assert excluded[0, sample.symbols.index("BBY")]
    assert not excluded[-1].any()
    assert not excluded[:, sample.symbols.index("KO")].any()
    assert not (sample.close[~excluded] < 0.5).any(), "whatever is not excluded has a step below a fifth of a percent"


def test_an_earlier_end_changes_no_earlier_row(sample):
    whole = training_exclusions(sample, find_all(sample))
    for end in (1, 2, 500, 957, 958, 959, 4100):
        part = sample.rows(0, end)
        assert (training_exclusions(part, find_all(part)) == whole[:end]).all()


# each detector by hand -----------------------------------------------------------------------------------------------


def test_gaps_are_spans_and_a_gap_of_all_is_one_finding():
    close = walk(300, 3)
    close[50:53, 1] = np.nan
    close[100:110, 2] = np.nan
    close[200] = np.nan
    found = of_kind(panel_of(close, ("A", "B", "C")), Kind.CALENDAR_GAP)
    assert [(f.instrument, f.evidence["sessions"], f.severity.value) for f in found] == [
        (None, 1, "severe"),
        ("B", 3, "warn"),
        ("C", 10, "severe"),
    ]


def test_a_late_listing_and_an_end_are_no_gaps():
    close = walk(300, 3)
    close[:100, 0] = np.nan
    close[250:, 1] = np.nan
    panel = panel_of(close, ("A", "B", "C"))
    assert of_kind(panel, Kind.CALENDAR_GAP) == []
    (late,) = of_kind(panel, Kind.LATE_LISTING)
    (ended,) = of_kind(panel, Kind.ENDED)
    assert (late.instrument, late.severity, late.session_to) == ("A", Severity.INFO, panel.sessions[99].astype(object))
    assert (ended.instrument, ended.evidence["sessions"]) == ("B", 50)
    assert ended.session_from == panel.sessions[250].astype(object)


def test_four_equal_closes_are_nothing_and_five_are_stale():
    close = walk(300, 2)
    close[10:14, 0] = 50.0
    close[20:25, 1] = 50.0
    (stale,) = of_kind(panel_of(close, ("A", "B")), Kind.STALE_PRICE)
    assert (stale.instrument, stale.evidence["sessions"], stale.evidence["runs"]) == ("B", 5, 1)
    assert (stale.session_from, stale.session_to) == tuple(
        panel_of(close, ("A", "B")).sessions[[20, 24]].astype(object)
    )


def test_an_outlier_must_be_large_and_alone():
    close = walk(300, 6)
    close[100:] *= 0.6  # all fall together
    close[200:, 2] *= 1.5  # one rises alone
    (outlier,) = of_kind(panel_of(close, tuple("ABCDEF")), Kind.OUTLIER_RETURN)
    assert outlier.instrument == "C"
    assert outlier.evidence["return"] == pytest.approx(0.5, abs=0.05)


def test_the_volume_of_news_explains_a_move_and_that_of_a_split_does_not():
    close, volume = walk(300, 6), np.full((300, 6), 1000.0)
    close[200:, 1] *= 0.5
    volume[200, 1] = 8000.0  # on news
    close[200:, 2] *= 0.5
    volume[200:, 2] = 2000.0  # one share became two
    close[200:, 3] *= 1.5
    volume[200, 3] = np.nan
    found = of_kind(replace(panel_of(close, tuple("ABCDEF")), volume=volume), Kind.OUTLIER_RETURN)
    assert [(one.instrument, one.evidence["volume_over_median"]) for one in found] == [
        ("C", pytest.approx(1.0, abs=0.25)), ("D", None)
    ]  # fmt: skip


def test_who_moves_as_much_all_the_time_is_no_outlier():
    close = walk(300, 6)
    close[:, 2] = 100 * np.exp(np.cumsum(np.random.default_rng(5).choice([-0.15, 0.15], 300)))
    close[200:, 2] *= 1.5
    assert of_kind(panel_of(close, tuple("ABCDEF")), Kind.OUTLIER_RETURN) == []


def test_a_tick_of_a_raw_price_is_no_rounding():
    close = np.round(walk(300, 2) / 50, 2)
    assert of_kind(panel_of(close, ("A", "B")), Kind.ROUNDING) == []
    assert len(of_kind(panel_of(close, ("A", "B"), basis="total_return"), Kind.ROUNDING)) == 2


def test_rounding_steps_see_only_the_past():
    close = np.array([[10.0, 20.0], [10.5, 20.0], [10.25, 20.125], [10.0, 20.0]])
    assert rounding_steps(close) == pytest.approx([1.0, 0.1, 0.001, 0.001])
    assert rounding_steps(np.array([[1 / 3]])) == pytest.approx([1e-6])
    assert rounding_steps(np.array([[np.nan]])) == pytest.approx([1.0])


def test_survivorship_needs_years_and_no_end():
    assert len(of_kind(panel_of(walk(1300, 3), ("A", "B", "C")), Kind.SURVIVORSHIP)) == 1
    assert of_kind(panel_of(walk(1000, 3), ("A", "B", "C")), Kind.SURVIVORSHIP) == []
    gone = walk(1300, 3)
    gone[1200:, 1] = np.nan
    assert of_kind(panel_of(gone, ("A", "B", "C")), Kind.SURVIVORSHIP) == []


def test_nothing_is_found_in_nothing():
    empty = panel_of(np.zeros((0, 0)), ())
    assert find_all(empty) == []
    assert finding_rows([], "s", XNYS).schema == FINDINGS_SCHEMA
    assert findings_picture(finding_rows([], "s", XNYS)).startswith(b"\x89PNG")


# rows and pictures ---------------------------------------------------------------------------------------------------


def test_rows_are_ready_to_store_and_named_by_where_they_begin(sample):
    findings = find_all(sample)
    rows = finding_rows(findings, "sample", XNYS)
    assert rows.schema == FINDINGS_SCHEMA
    assert rows["finding_id"].n_unique() == len(findings)
    assert all(isinstance(json.loads(text), dict) for text in rows["evidence"])
    assert rows["known_at"].max() == datetime.fromisoformat("2022-12-28T21:15:00+00:00")
    assert all(len(message) < 200 and "\n" not in message for message in rows["message"])
    earlier = sample.rows(0, 900)
    grown = {f.finding_id("sample") for f in of_kind(earlier, Kind.ROUNDING)} & set(rows["finding_id"])
    assert len(grown) == len(of_kind(earlier, Kind.ROUNDING)), "a finding that goes on keeps its id"
    assert finding_rows(findings, "other", XNYS)["finding_id"][0] != rows["finding_id"][0]


def test_the_picture_counts_what_the_findings_cover(sample):
    findings = finding_rows(find_all(sample), "sample", XNYS)
    names, years, covered = coverage(findings)
    assert covered.shape == (len(names), len(years))
    assert covered[names.index("AAPL"), years.index(1995)] > 240
    assert covered[names.index("AAPL"), years.index(2010)] == 0
    assert all(later == earlier + 1 for earlier, later in pairwise(years))
    warned = findings.filter(pl.col("instrument").is_not_null() & (pl.col("severity") == "warn"))
    days = np.busday_count(
        warned["session_from"].to_numpy().astype("datetime64[D]"),
        warned["session_to"].to_numpy().astype("datetime64[D]") + 1,
    )
    assert covered.sum() == days.sum(), "each business day of a warning is in one cell"
    assert findings_picture(findings).startswith(b"\x89PNG")


def test_the_close_up_shows_what_to_look_at_first(sample):
    findings = finding_rows(find_all(sample), "sample", XNYS)
    days = XNYS.between(date(2022, 1, 3), date(2022, 6, 30)).tolist()
    bars = pl.DataFrame(
        [(name, day, 10.0, 11.0, 9.0, 1000.0 if (name, row) == ("A", 50) else 10.0) for name in "ABC"
         for row, day in enumerate(days)],
        schema=["instrument", "session", "open", "high", "low", "close"], orient="row",
    ).with_columns(volume=1e6, adj_close=pl.col("close"))  # fmt: skip
    actions = pl.DataFrame(
        [("A", days[55], "dividend", 0.25)], schema=["instrument", "session", "kind", "value"], orient="row"
    )
    bad = Finding(
        Kind.UNIT_ERROR, Severity.SEVERE, "A", days[50], days[50], {}, "A: a hundred times", "divide it",
        repair={"instrument": "A", **put(str(days[50]), {"close": 10.0})},
    )  # fmt: skip
    rows = pl.concat([findings, finding_rows([bad], "sample", XNYS)])
    first = to_show(rows)
    assert (len(first), first["instrument"][0], first["severity"][0]) == (4, "A", "severe")
    assert "info" not in set(first["severity"])
    seen = around(first.row(0, named=True), bars.filter(pl.col("instrument") == "A"))
    assert (len(seen), seen.filter("suspicious")["session"].to_list()) == (31, [days[50]])
    picture = close_ups(first.head(1), bars, actions)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert close_ups(first.filter(pl.col("instrument") != "A"), bars, actions) is None


def test_the_picture_has_room_for_thousands_of_instruments(sample):
    findings = finding_rows(find_all(sample), "sample", XNYS)
    many = pl.concat([findings.with_columns(instrument=pl.col("instrument") + f"-{copy}") for copy in range(50)])
    assert len(findings_picture(many)) < 400_000


def test_a_spin_off_that_nobody_can_price_is_found_until_it_is_priced():
    panel = panel_of(walk(20, 2), ("GE", "KO"))
    assert of_kind(panel, Kind.UNPRICED_SPIN_OFF) == []
    worth = np.zeros((20, 2))
    worth[7, 0] = np.nan
    (found,) = of_kind(replace(panel, spin_off=worth), Kind.UNPRICED_SPIN_OFF)
    assert (found.instrument, found.session_from, found.session_to) == ("GE", *[panel.sessions[7].item()] * 2)
    worth[7, 0] = 3.0
    assert of_kind(replace(panel, spin_off=worth), Kind.UNPRICED_SPIN_OFF) == []
