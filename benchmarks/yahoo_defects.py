"""Yahoo's own defects, with what the maintainers of yfinance made of them: recall by witness, findings on sound ones.

Belongs here: reading those histories, telling the defects from the differences, scoring. Does not: planted defects
(quality.py). Detectors were written against these files, too: they are no test of what is unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from benchmarks.defect_injector import PRICES
from octopus.warehouse.defects.audit import audit
from octopus.warehouse.quality import Finding, Kind

SLACK = timedelta(days=3)
"""How far from a defect's sessions a finding may lie."""


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


@dataclass(frozen=True)
class Witness:
    """Defects of one witness in all recorded histories, and the findings of its kinds.

    Attributes:
        right: findings that name a defect, of ``findings`` on the defective histories. on_sound: findings of these
            kinds on the repaired and the sound histories, all of which are counted as wrong.
    """

    name: str
    defects: int
    found: int
    named: int
    findings: int
    right: int
    on_sound: int


@dataclass(frozen=True)
class Sound:
    """Repaired histories and sound controls: bars, and every finding there by name."""

    files: int
    bars: int
    findings: tuple[str, ...]


def yahoo(folder: Path) -> tuple[list[Witness], Sound]:
    """Recall and precision on what the maintainers repaired.

    A run of repaired prices is one defect, known by its ends: that is where the level changes.
    """
    hits: Counter[tuple[str, str]] = Counter()
    sound: list[str] = []
    files = bars = 0
    for path in sorted((folder / "yfinance_bad").glob("*.csv.gz")):
        if "-15m-" in path.name:
            continue
        frame, actions = yahoo_frames(path)
        found = audit(frame, actions, basis="split_adjusted")
        if "-fixed" in path.name or "no-bad" in path.name:
            sound += [f"{path.name.removesuffix('.csv.gz')}: {one.kind.value} {one.session_from}" for one in found]
            files, bars = files + 1, bars + len(frame)
            hits.update((name, "on_sound") for name, kinds in WITNESS.items() for one in found if one.kind in kinds)
            continue
        for witness, days in _changed(path).items():
            hits.update(_yahoo_score(witness, _defects(witness, days), found))
    counts = ("defects", "found", "named", "findings", "right", "on_sound")
    rows = [Witness(name, **{count: hits[name, count] for count in counts}) for name in WITNESS]
    return rows, Sound(files, bars, tuple(sound))


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
