"""`python -m benchmarks.quality`: how many known defects the detectors find, and how often they cry wolf.

Belongs here: planting (benchmarks/defect_injector.py), scoring and printing. Does not: detecting, asserting.

Detectors were tuned on the symbols that `held_out` refuses; every figure here is from the others. A planted defect
counts as found if a finding that the untouched bars do not have touches its sessions, three days to either side; as
named, if such a finding is of its kind; as restored, if all proposed repairs together bring the untouched bars back.
Intervals are Wilson's at 95 %. Beside the recall stands what the evidence allows (benchmarks/attainable.py).

No detector reads the digits of what the injector multiplied, but for one: prices before a level seam are no whole
cents, as those of a scaled history are. Vendors that round afterwards are measured by themselves ("in whole cents").
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.attainable import Known, bound
from benchmarks.defect_injector import CELLS, PRICES, Cell, Planted, Series, clean_series, frames, held_out, plant
from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from octopus.core.types import DateArray, FloatArray
from octopus.market_data.splits import later_split_factor
from octopus.warehouse.defects.audit import apply_repairs, audit
from octopus.warehouse.quality import Finding, Kind

SEEDS = (11, 12, 13)
SLACK = timedelta(days=3)
SESSIONS_A_YEAR = 252
RIGHT: Mapping[str, frozenset[Kind]] = {
    "unit bars": frozenset({Kind.UNIT_ERROR}),
    "unit field": frozenset({Kind.UNIT_ERROR}),
    "unit history": frozenset({Kind.UNIT_ERROR}),
    "missing split": frozenset({Kind.MISSING_SPLIT}),
    "wrong split ratio": frozenset({Kind.WRONG_SPLIT}),
    "split twice": frozenset({Kind.PHANTOM_SPLIT, Kind.WRONG_SPLIT}),
    "misdated split": frozenset({Kind.MISDATED_SPLIT}),
    "already adjusted": frozenset({Kind.PHANTOM_SPLIT}),
    "partly adjusted": frozenset({Kind.UNEVEN_SPLIT, Kind.MISDATED_SPLIT}),
    "phantom split": frozenset({Kind.PHANTOM_SPLIT}),
    "missing dividend": frozenset({Kind.MISSING_DIVIDEND}),
    "wrong dividend": frozenset({Kind.WRONG_DIVIDEND}),
    "misdated dividend": frozenset({Kind.MISDATED_DIVIDEND}),
    "phantom dividend": frozenset({Kind.PHANTOM_DIVIDEND}),
    "adjusted close": frozenset({Kind.ADJUSTED_CLOSE}),
    "glued seam": frozenset({Kind.SCRAPE_SEAM}),
    "level seam": frozenset({Kind.SCRAPE_SEAM, Kind.MISSING_SPLIT}),
    "volume seam": frozenset({Kind.VOLUME_SEAM}),
    "repeated bar": frozenset({Kind.FROZEN_BAR}),
    "frozen price": frozenset({Kind.FROZEN_BAR}),
    "impossible bar": frozenset({Kind.IMPOSSIBLE_BAR}),
    "zero volume": frozenset({Kind.ZERO_VOLUME}),
    "spike": frozenset({Kind.PRICE_SPIKE}),
    "calendar gap": frozenset({Kind.CALENDAR_GAP}),
}
"""Which kinds of finding name the planted kind; a finding of another kind at the place is found, but not named."""


GENUINE: Mapping[tuple[str, str, str], str] = {
    ("calendar_gap", "PTR", "2016-06-29"): "the record has no price",
    ("calendar_gap", "REX", "2016-06-29"): "the record has no price",
    ("calendar_gap", "SNP", "2016-06-29"): "the record has no price",
    ("phantom_dividend", "SLB", "2015-09-01"): "the quarter's 0.50 is recorded on two days running",
    ("phantom_dividend", "V", "2016-02-10"): "the quarter's 0.14 is recorded twice within a week",
    ("phantom_dividend", "PM", "2012-12-20"): "0.039, of an instrument that paid 0.85 that quarter",
    ("phantom_dividend", "PM", "2012-12-24"): "0.085, of an instrument that paid 0.85 that quarter",
    ("scrape_seam", "CHTR", "2016-05-18"): "0.9042 new shares for one old at the merger; no action is recorded",
    ("phantom_split", "NGG", "2017-05-22"): "11 new shares for 12 beside a special dividend that is not recorded",
    ("wrong_dividend", "NGG", "2012-11-28"): "follows from the one before",
    (
        "scrape_seam",
        "BCH",
        "2016-07-06",
    ): "2.246 % of new shares are left in the older prices: undone, they are cents",
    ("scrape_seam", "IEP", "2012-11-13"): "a distribution in units is left in the older prices",
    ("missing_dividend", "TM", "2017-03-16"): "paid at the end of every March and September but this March",
}
"""Findings on the untouched bars that are real defects of the record, looked at one by one."""


def in_whole_cents(cell: Cell) -> Cell:
    """The same defect where the vendor rounds prices to the cent afterwards."""

    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        found = cell.plant(one, random)
        if found is None:
            return None
        prices = {name: np.round(getattr(found.series, name), 2) for name in PRICES}
        return replace(found, series=replace(found.series, **prices))

    return Cell(cell.kind, f"{cell.magnitude}, in whole cents", planted)


ROUNDED = tuple(in_whole_cents(cell) for cell in CELLS if cell.kind == "level seam" and cell.magnitude in ("3%", "10%"))


def data_folder() -> Path:
    """The recorded data: OCTOPUS_TEST_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("OCTOPUS_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if not trials:
        return 0.0, 1.0
    z, share = 1.959964, hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return float(middle - half), float(middle + half)


def _poisson(count: int) -> tuple[float, float]:
    """Exact 95 % interval of the mean of a Poisson count (Garwood 1936)."""
    from scipy.stats import chi2

    return (chi2.ppf(0.025, 2 * count) / 2 if count else 0.0), chi2.ppf(0.975, 2 * count + 2) / 2


def _calendar() -> DateArray:
    return Sessions().between(date(2012, 9, 4), date(2017, 9, 1))


def clean_row(series: Sequence[Series]) -> tuple[dict[str, Any], list[Finding]]:
    """Findings on the untouched bars, by kind and per hundred symbol-years."""
    found = audit(*frames(series), calendar=_calendar())
    years = sum(map(len, series)) / SESSIONS_A_YEAR
    kinds = Counter(one.kind.value for one in found)
    false = [one for one in found if (one.kind.value, one.instrument, str(one.session_from)) not in GENUINE]
    low, high = (100 * float(bound) / years for bound in _poisson(len(false)))
    return {
        "group": "untouched", "symbols": len(series), "symbol_years": years, "findings": len(found),
        "per_100_symbol_years": 100 * len(found) / years, "false": len(false),
        "false_per_100_symbol_years": 100 * len(false) / years, "low": low, "high": high, "kinds": dict(kinds),
        "named": [f"{one.kind.value} {one.instrument} {one.session_from}" for one in found],
    }, found  # fmt: skip


def measure(
    cell: Cell, series: Sequence[Series], clean: Sequence[Finding], seeds: Sequence[int] = SEEDS
) -> dict[str, Any]:
    """Recall of one kind at one magnitude."""
    counts: Counter[str] = Counter()
    known = {(one.instrument, one.kind, one.session_from) for one in clean}
    for seed in seeds:
        planted, labels = plant(cell, series, seed)
        bars, actions = frames(planted)
        by_name: dict[str, list[Finding]] = defaultdict(list)
        for one in audit(bars, actions, calendar=_calendar()):
            if (one.instrument, one.kind, one.session_from) not in known:
                by_name[str(one.instrument)].append(one)
        originals = {one.symbol: one for one in series}
        for label in labels:
            counts.update(_score(cell, label, by_name[label.series.symbol], originals[label.series.symbol]))
    low, high = wilson(counts["found"], counts["planted"])
    best = bound(cell, Known(series), seeds)
    return {
        "group": "planted", "kind": cell.kind, "magnitude": cell.magnitude, "planted": counts["planted"],
        "found": counts["found"], "recall": counts["found"] / max(1, counts["planted"]), "low": low, "high": high,
        "named": counts["named"] / max(1, counts["planted"]),
        "restored": counts["restored"] / max(1, counts["planted"]),
        "elsewhere": counts["elsewhere"], "price_alone": None if best is None else best.price,
        "attainable": None if best is None else best.attainable,
    }  # fmt: skip


def _score(cell: Cell, label: Planted, findings: Sequence[Finding], original: Series) -> Counter[str]:
    start, end = label.session_from.astype(object) - SLACK, label.session_to.astype(object) + SLACK
    at = [one for one in findings if one.session_from <= end and one.session_to >= start]
    named = [one for one in at if one.kind in RIGHT[cell.kind]]
    repairs = [one for one in findings if one.repair is not None]
    return Counter(
        planted=1, found=bool(at), named=bool(named), elsewhere=len(findings) - len(at),
        restored=bool(named and repairs) and _restored(label.series, repairs, original),
    )  # fmt: skip


def _restored(planted: Series, findings: Sequence[Finding], original: Series) -> bool:
    """Whether all proposed repairs together bring back the untouched bars and actions."""
    try:
        return same(apply_repairs(*frames([planted]), findings), frames([original]))
    except MissingDataError:
        # A repair builds on one of those that the untouched bars have too, which are not applied here.
        return False


def same(left: tuple[pl.DataFrame, pl.DataFrame], right: tuple[pl.DataFrame, pl.DataFrame]) -> bool:
    """Whether bars (of the sessions that both have) and dividends agree within rounding: prices to 2e-4 or a cent.

    Both in today's shares, because some plants invent a split: older prices at old shares beside that split are then
    as sound as the untouched ones without it.
    """
    (ours, ours_paid), (theirs, theirs_paid) = _in_todays_shares(*left), _in_todays_shares(*right)
    both = ours.join(theirs, on=["instrument", "session"], suffix="_right")
    for name in (*PRICES, "adj_close"):
        one, two = both[name].to_numpy().astype(float), both[f"{name}_right"].to_numpy().astype(float)
        near = np.abs(one - two) <= np.maximum(2e-4 * two, 0.0051)
        if not (near | np.isnan(one)).all():
            return False
    if len(ours_paid) != len(theirs_paid) or not (ours_paid["session"] == theirs_paid["session"]).all():
        return False
    return bool((np.abs(ours_paid["value"].to_numpy() / theirs_paid["value"].to_numpy() - 1) < 0.01).all())


def _in_todays_shares(bars: pl.DataFrame, actions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    splits = actions.filter(pl.col("kind") == "split")
    days, ratios = splits["session"].to_numpy().astype("datetime64[D]"), splits["value"].to_numpy()

    def factor(frame: pl.DataFrame) -> FloatArray:
        return later_split_factor(frame["session"].to_numpy().astype("datetime64[D]"), days, ratios)

    paid = actions.filter(pl.col("kind") == "dividend").sort("session", "value")
    return (
        bars.with_columns([(pl.col(name) / pl.Series(factor(bars))).alias(name) for name in PRICES]),
        paid.with_columns(pl.col("value") / pl.Series(factor(paid))),
    )


# Yahoo's own defects -------------------------------------------------------------------------------------------------


def yahoo_frames(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and actions of one recorded history of yfinance."""
    frame = pl.read_csv(path, infer_schema_length=None)
    frame = frame.rename({frame.columns[0]: "session"}).with_columns(
        pl.col("session").str.slice(0, 10).str.to_date(), instrument=pl.lit(path.name.split("-1")[0])
    )
    names = {
        "Open": "open",
        "High": "high",
        "Low": "low",
        "Close": "close",
        "Adj Close": "adj_close",
        "Volume": "volume",
    }
    bars = frame.select(
        "instrument", "session", *(pl.col(old).cast(pl.Float64).alias(new) for old, new in names.items())
    )
    actions = [
        frame.select("instrument", "session", kind=pl.lit(kind), value=pl.col(column).cast(pl.Float64)).filter(
            pl.col("value") != 0
        )
        for column, kind in (("Dividends", "dividend"), ("Stock Splits", "split"))
    ]
    return bars.sort("session"), pl.concat(actions).sort("session")


def _changed(bad: Path) -> dict[str, set[date]]:
    """What the maintainers repaired: sessions by witness (prices, dividends, steps of the adjusted close)."""
    (bars, acts), (fixed, fixed_acts) = (
        yahoo_frames(bad),
        yahoo_frames(bad.with_name(bad.name.replace(".csv", "-fixed.csv"))),
    )
    both = bars.join(fixed, on=["instrument", "session"], suffix="_fixed").sort("session")
    off = pl.any_horizontal((pl.col(name) / pl.col(f"{name}_fixed") - 1).abs() > 1e-2 for name in PRICES)
    prices = set(both.filter(off)["session"])
    paid = acts.filter(pl.col("kind") == "dividend").join(
        fixed_acts.filter(pl.col("kind") == "dividend"), on="session", how="full", coalesce=True, suffix="_fixed"
    )
    wrong = (pl.col("value") / pl.col("value_fixed") - 1).abs() > 1e-2
    dividends = set(paid.filter(wrong.fill_null(True))["session"])
    ratio = (pl.col("adj_close") / pl.col("close")).log() - (pl.col("adj_close_fixed") / pl.col("close_fixed")).log()
    steps = set(both.with_columns(d=ratio.diff().abs()).filter(pl.col("d") > 1e-3)["session"])
    return {"prices": prices, "dividends": dividends, "adjusted close": steps - prices - dividends}


WITNESS: Mapping[str, frozenset[Kind]] = {
    "prices": frozenset({Kind.UNIT_ERROR, Kind.UNEVEN_SPLIT, Kind.WRONG_SPLIT, Kind.MISSING_SPLIT, Kind.MISDATED_SPLIT,
                         Kind.PHANTOM_SPLIT}),
    "dividends": frozenset({Kind.WRONG_DIVIDEND, Kind.PHANTOM_DIVIDEND, Kind.MISDATED_DIVIDEND, Kind.MISSING_DIVIDEND}),
    "adjusted close": frozenset({Kind.ADJUSTED_CLOSE}),
}  # fmt: skip


def yahoo_rows(folder: Path) -> list[dict[str, Any]]:
    """Recall on what the maintainers repaired, and findings on sound and repaired histories, by witness.

    A run of repaired prices is one defect, known by its ends: that is where the level changes.
    """
    hits: Counter[tuple[str, str]] = Counter()
    sound: list[str] = []
    for path in sorted((folder / "yfinance_bad").glob("*.csv.gz")):
        if "-15m-" in path.name:
            continue
        found = audit(*yahoo_frames(path), basis="split_adjusted")
        if "-fixed" in path.name or "no-bad" in path.name:
            sound += [f"{path.name.removesuffix('.csv.gz')}: {one.kind.value} {one.session_from}" for one in found]
            hits["sound", "files"] += 1
            hits.update(("sound", one.kind.value) for one in found)
            continue
        for witness, days in _changed(path).items():
            hits.update(_yahoo_score(witness, _defects(witness, days), found))
    rows = [
        {
            "group": "yahoo", "kind": witness, "defects": hits[witness, "defects"], "found": hits[witness, "found"],
            "recall": hits[witness, "found"] / max(1, hits[witness, "defects"]), "named": hits[witness, "named"],
            "findings": hits[witness, "findings"], "right": hits[witness, "right"],
            "precision": hits[witness, "right"] / max(1, hits[witness, "findings"]),
        }
        for witness in WITNESS
    ]  # fmt: skip
    kinds = {kind: count for (group, kind), count in hits.items() if group == "sound" and kind != "files"}
    return [*rows, {"group": "yahoo sound", "files": hits["sound", "files"], "kinds": kinds, "named": sound}]


def _defects(witness: str, days: set[date]) -> list[set[date]]:
    """The defects that repaired sessions make: each its own, but for runs of prices (up to a week apart)."""
    if witness != "prices":
        return [{day} for day in sorted(days)]
    runs: list[set[date]] = []
    for day in sorted(days):
        if runs and (day - max(runs[-1])).days <= 7:
            runs[-1].add(day)
        else:
            runs.append({day})
    return runs


def _yahoo_score(witness: str, defects: Sequence[set[date]], found: Sequence[Finding]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    right: set[int] = set()
    for days in defects:
        start, end = min(days) - SLACK, max(days) + SLACK
        at = [one for one in found if one.session_from <= end and one.session_to >= start]
        named = [one for one in at if one.kind in WITNESS[witness]]
        right |= {id(one) for one in named}
        counts[witness, "defects"] += 1
        counts[witness, "found"] += bool(at)
        counts[witness, "named"] += bool(named)
    of_kind = [one for one in found if one.kind in WITNESS[witness]]
    counts[witness, "findings"] += len(of_kind)
    counts[witness, "right"] += sum(id(one) in right for one in of_kind)
    return counts


def run(held: bool = True, seeds: Sequence[int] = SEEDS) -> list[dict[str, Any]]:
    """Every figure: untouched symbols, each planted kind and magnitude, and Yahoo's recorded defects."""
    folder = data_folder()
    series = [one for one in clean_series(folder) if held_out(one.symbol) == held]
    first, clean = clean_row(series)
    return [first, *(measure(cell, series, clean, seeds) for cell in (*CELLS, *ROUNDED)), *yahoo_rows(folder)]


def main() -> None:
    """Measure and print."""
    console = Console(width=140)
    rows = run()
    table = Table("kind", "magnitude", "planted", "recall", "95 %", "price alone", "attainable", "named", "restored",
                  "elsewhere")  # fmt: skip
    for row in rows:
        if row["group"] == "planted":
            table.add_row(
                row["kind"], row["magnitude"], str(row["planted"]), f"{row['recall']:.1%}",
                f"{row['low']:.0%}–{row['high']:.0%}",
                *("–" if row[name] is None else f"{row[name]:.1%}" for name in ("price_alone", "attainable")),
                f"{row['named']:.0%}", f"{row['restored']:.0%}",
                str(row["elsewhere"]),
            )  # fmt: skip
    console.print(table)
    for row in rows:
        if row["group"] != "planted":
            console.print(row)


if __name__ == "__main__":
    main()
