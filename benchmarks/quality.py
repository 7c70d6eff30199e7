"""`python -m benchmarks.quality`: how many known defects the detectors find, and how often they cry wolf.

Belongs here: planting, scoring, and what is counted. Does not: the data and its halves (price_histories.py), the
defects (defect_injector.py), Yahoo's own (yahoo_defects.py), printing (quality_tables.py), detecting, asserting.

Detectors are tuned on the symbols that `price_histories.is_reported` refuses (``--half tuned``); every figure that is
published is from the others, run once. A planted defect counts as found if a finding that the untouched bars do not
have touches its sessions, three days to either side; as named, if such a finding is of its kind; as restored, if all
proposed repairs together bring the untouched bars back. Of the findings of a kind those are right that name a planted
defect; wrong are all others on planted bars, and the false ones on untouched bars, once. Intervals of shares are
Wilson's at 95 %, as if plants in one symbol were independent; those of false alarms are exact for a Poisson count.
Beside the recall stands what the evidence allows (attainable.py).

What sees more than an instrument's own bars is measured beside that: an instrument among its peers, and where its
source begins and ends (`beside_peers`), and two sources of the same bars (`beside`).

No detector reads the digits of what the injector multiplied, but for one: prices before a level seam are no whole
cents, as those of a scaled history are. Vendors that round afterwards are measured by themselves ("in whole cents").
"""

from __future__ import annotations

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.attainable import Known, bound
from benchmarks.defect_injector import (
    CELLS,
    PEER_CELLS,
    PRICES,
    SECOND_CELLS,
    Cell,
    Planted,
    Series,
    frames,
    plant,
)  # fmt: skip
from benchmarks.genuine import EXACT, GENUINE
from benchmarks.price_histories import Histories, histories, second
from benchmarks.yahoo_defects import SLACK, Sound, Witness, yahoo
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.market_data.splits import later_split_factor
from octopus.warehouse.defects.audit import apply_repairs, audit
from octopus.warehouse.defects.disagreement import disagreement
from octopus.warehouse.quality import (
    Finding,
    Kind,
    Severity,
    extents_of,
    listings,
    outlier_returns,
    stale_prices,
)  # fmt: skip

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
    "outlier return": frozenset({Kind.OUTLIER_RETURN}),
    "stale close": frozenset({Kind.STALE_PRICE}),
    "late listing": frozenset({Kind.LATE_LISTING}),
    "early end": frozenset({Kind.ENDED}),
    "unlike a second source": frozenset({Kind.DISAGREEMENT}),
}
"""Which kinds of finding name the planted kind; a finding of another kind at the place is found, but not named."""


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


Look = Callable[[Histories, Sequence[Series]], list[Finding]]
"""Detectors over some of the series of a vendor."""


def audited(of: Histories, series: Sequence[Series]) -> list[Finding]:
    """What each instrument's own bars and actions show."""
    return audit(*frames(series), of.basis, of.calendar)


def beside_peers(of: Histories, series: Sequence[Series]) -> list[Finding]:
    """What all instruments together show: returns unlike those of the others, stale closes, beginnings and ends."""
    panel = panel_of(series, of)
    return [*outlier_returns(panel), *stale_prices(panel), *listings(extents_of(panel))]


def beside(theirs: Sequence[Series]) -> Look:
    """Where the bars differ from those of a second source."""
    bars, _ = frames(theirs)
    return lambda of, series: disagreement(frames(series)[0], bars)


def panel_of(series: Sequence[Series], of: Histories) -> Panel:
    """Closes and total returns on the vendor's calendar; what these detectors do not read is empty."""
    days, shape = of.calendar, (len(of.calendar), len(series))
    close, total, volume = (np.full(shape, np.nan) for _ in range(3))
    split, dividend = np.ones(shape), np.zeros(shape)
    for column, one in enumerate(series):
        rows = np.searchsorted(days, one.session)
        kept = days[np.minimum(rows, len(days) - 1)] == one.session
        rows, closes = rows[kept], one.close[kept]
        for day, kind, value in one.actions:
            row = int(np.searchsorted(days, day))
            if row < len(days) and kind == "split":
                split[row, column] *= value
            elif row < len(days):
                dividend[row, column] += value
        close[rows, column], volume[rows, column] = closes, one.volume[kept]
        total[rows[1:], column] = (closes[1:] * split[rows[1:], column] + dividend[rows[1:], column]) / closes[:-1] - 1
    none = np.full(shape, np.nan)
    return Panel(
        sessions=days, symbols=tuple(one.symbol for one in series), close=close, total_return=total, open=none,
        high=none, low=none, volume=volume, member=np.isfinite(close), sentiment=none, split=split, dividend=dividend,
        price_basis="raw",
    )  # fmt: skip


@dataclass(frozen=True)
class Untouched:
    """Findings on the bars of one vendor as recorded.

    Attributes:
        years: symbol-years that count. findings: there, by name; false: those that are no defects of the record.
        exact: findings of the kinds of `genuine.EXACT`. severe: of the false ones, those that keep a row out.
        withdrawn: further ones that audits at the end of each June and December made and the whole history takes back.
    """

    base: str
    symbols: int
    years: float
    findings: tuple[str, ...]
    false: tuple[Kind, ...]
    exact: int
    severe: int
    withdrawn: tuple[str, ...]


@dataclass(frozen=True)
class Recall:
    """What became of one kind at one magnitude, planted into one vendor's bars; the bounds as shares."""

    base: str
    kind: str
    magnitude: str
    planted: int
    found: int
    named: int
    restored: int
    price_alone: float | None
    attainable: float | None


@dataclass(frozen=True)
class Result:
    """Everything measured on one half; ``wrong`` and ``right`` count findings by kind, ``beside`` those that touch a
    planted defect that they do not name, ``peers`` is what `beside_peers` finds on untouched bars, ``second`` what
    `beside` does."""

    half: str
    untouched: Sequence[Untouched]
    peers: Sequence[Untouched]
    second: Sequence[Untouched]
    recalls: Sequence[Recall]
    right: Counter[Kind]
    beside: Counter[Kind]
    wrong: Counter[Kind]
    yahoo: Sequence[Witness]
    sound: Sound | None


@dataclass(eq=False)
class Bench:
    """One vendor's half: the findings on untouched bars are known before anything is planted."""

    histories: Histories
    look: Look = audited

    @cached_property
    def clean(self) -> list[Finding]:
        return self.look(self.histories, self.histories.series)

    @cached_property
    def clean_there(self) -> list[Finding]:
        """The same of the series that defects are planted into."""
        if self.histories.into is None:
            return self.clean
        return self.look(self.histories, self.histories.planted_into)

    @cached_property
    def known(self) -> Known:
        return Known(self.histories.planted_into)

    @cached_property
    def originals(self) -> dict[str, Series]:
        return {one.symbol: one for one in self.histories.planted_into}

    def untouched(self) -> Untouched:
        """False alarms where nothing was planted."""
        counted = self._counted(self.clean)
        false = [one for one in counted if _key(one) not in GENUINE and one.kind not in EXACT]
        once = self._once_found() if self.look is audited else set()
        return Untouched(
            self.histories.name, len(self.histories.series), self.histories.years,
            tuple(" ".join(_key(one)) for one in counted), tuple(one.kind for one in false),
            sum(one.kind in EXACT for one in counted), sum(one.severity is Severity.SEVERE for one in false),
            tuple(" ".join(one) for one in sorted(once - {_key(one) for one in self.clean})),
        )  # fmt: skip

    def _counted(self, found: Sequence[Finding]) -> list[Finding]:
        return [one for one in found if self.histories.counts(str(one.instrument), one.session_from)]

    def _once_found(self) -> set[tuple[str, str, str]]:
        """Keys of what audits of the growing history found, half-year by half-year."""
        bars, actions = frames(self.histories.series)
        calendar = self.histories.calendar
        months = calendar.astype("datetime64[M]").astype(int)
        ends = calendar[:-1][(months[:-1] != months[1:]) & (months[:-1] % 6 == 5)]
        keys: set[tuple[str, str, str]] = set()
        for end in ends:
            until = pl.col("session") <= end.astype(object)
            found = audit(bars.filter(until), actions.filter(until), self.histories.basis, calendar[calendar <= end])
            keys |= {_key(one) for one in self._counted(found)}
        return keys

    def new(self, planted: Sequence[Series]) -> list[Finding]:
        """Findings that the untouched bars do not have."""
        known = {_named(one) for one in self.clean_there}
        return [one for one in self.look(self.histories, planted) if _named(one) not in known]

    def measure(self, cell: Cell) -> tuple[Recall, Counter[tuple[Kind, str]]]:
        """Recall of one kind at one magnitude, and its findings by kind: ``right``, ``beside`` or ``wrong``."""
        counts: Counter[str] = Counter()
        judged: Counter[tuple[Kind, str]] = Counter()
        for seed in self.histories.seeds:
            planted, labels = plant(cell, self.histories.planted_into, seed)
            by_name: dict[str, list[Finding]] = defaultdict(list)
            for one in self.new(planted):
                by_name[str(one.instrument)].append(one)
            for label in labels:
                found = by_name.pop(label.series.symbol, [])
                counts.update(_score(cell, label, found, self.originals[label.series.symbol]))
                judged.update((one.kind, _judged(cell, label, one)) for one in found)
            judged.update((one.kind, "wrong") for found in by_name.values() for one in found)
        best = bound(cell, self.known, self.histories.seeds)
        recall = Recall(
            self.histories.name, cell.kind, cell.magnitude,
            counts["planted"], counts["found"], counts["named"], counts["restored"],
            None if best is None else best.price, None if best is None else best.attainable,
        )  # fmt: skip
        return recall, judged


def _named(finding: Finding) -> tuple[object, ...]:
    # A listing that is late all the same is another one if it is later.
    until = finding.session_to if finding.kind is Kind.LATE_LISTING else None
    return finding.instrument, finding.kind, finding.session_from, until


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.kind.value, str(finding.instrument), str(finding.session_from)


def _touches(label: Planted, finding: Finding) -> bool:
    start, end = label.session_from.astype(object) - SLACK, label.session_to.astype(object) + SLACK
    return bool(finding.session_from <= end and finding.session_to >= start)


def _judged(cell: Cell, label: Planted, finding: Finding) -> str:
    if not _touches(label, finding):
        return "wrong"
    return "right" if finding.kind in RIGHT[cell.kind] else "beside"


def _score(cell: Cell, label: Planted, findings: Sequence[Finding], original: Series) -> Counter[str]:
    at = [one for one in findings if _touches(label, one)]
    named = [one for one in at if one.kind in RIGHT[cell.kind]]
    repairs = [one for one in findings if one.repair is not None]
    return Counter(
        planted=1, found=bool(at), named=bool(named),
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


def run(half: str, kinds: Sequence[str] = ()) -> Result:
    """Every figure of one half (``tuned`` or ``reported``); of some ``kinds`` alone, then without Yahoo's."""
    folder = data_folder()
    parts = histories(folder, reported=half == "reported")
    benches = [Bench(one) for one in parts]
    peers = [Bench(one, beside_peers) for one in parts]
    seconds = [Bench(ours, beside(theirs)) for ours, theirs in _seconds(folder, parts)]
    recalls: list[Recall] = []
    judged: Counter[tuple[Kind, str]] = Counter()
    for cells, some in (((*CELLS, *ROUNDED), benches), (PEER_CELLS, peers), (SECOND_CELLS, seconds)):
        for cell in [one for one in cells if not kinds or one.kind in kinds]:
            for bench in [one for one in some if one.histories.seeds]:
                recall, findings = bench.measure(cell)
                recalls.append(recall)
                judged.update(findings)
    untouched, among, differing = ([bench.untouched() for bench in some] for some in (benches, peers, seconds))
    judged.update((kind, "wrong") for one in (*untouched, *among) for kind in one.false)
    verdicts = {name: Counter({kind: n for (kind, verdict), n in judged.items() if verdict == name})
                for name in ("right", "beside", "wrong")}  # fmt: skip
    witnesses, sound = ([], None) if kinds else yahoo(folder)
    return Result(half, untouched, among, differing, recalls, **verdicts, yahoo=witnesses, sound=sound)


def _seconds(folder: Path, parts: Sequence[Histories]) -> list[tuple[Histories, list[Series]]]:
    """Those of ``parts`` that defects are planted into beside a second source, where there is one."""
    pairs = [second(folder, one) for one in parts if one.seeds]
    return [(ours, theirs) for ours, theirs in pairs if theirs]


def main() -> None:
    """Measure and print."""
    from benchmarks.quality_tables import markdown, printed

    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("--half", choices=["tuned", "reported"], default="reported")
    parser.add_argument("--kinds", nargs="*", default=(), help="of planted defects; default: all")
    parser.add_argument("--markdown", action="store_true", help="as in docs/quality.md")
    asked = parser.parse_args()
    result = run(asked.half, asked.kinds)
    print(markdown(result)) if asked.markdown else printed(result)


if __name__ == "__main__":
    main()
