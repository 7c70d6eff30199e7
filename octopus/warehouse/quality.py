"""Data-quality findings: what in a panel of prices is suspicious, where, and what to do about it.

Belongs here: detectors over a panel, the findings they make, and which rows a model should not learn from. Does not:
refusing single records (market_data/validate.py), storing findings.

Every per-session test looks at the session and those before it, so that a longer panel never changes an earlier answer;
consecutive sessions with the same finding are one finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

import numpy as np
import polars as pl

from octopus.core.ids import canonical_json, fingerprint
from octopus.core.panel import Panel
from octopus.core.sessions import KeepsCalendars
from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray

ROUNDING_ENTER = 1e-3
"""A rounding step of more than a tenth of a percent of the price: a return of one percent is then read to a tenth."""
ROUNDING_LEAVE = 5e-4
"""The finding ends only here, so that a price around the first mark does not make one finding after another."""
MAX_DECIMALS = 6
STALE_SESSIONS = 5
STALE_BREAK_SESSIONS = 63
"""A quarter: an instrument that hardly trades is one finding and not fifty."""
OUTLIER_RETURN = 0.25
OUTLIER_DEVIATIONS = 10.0
"""Beyond its peers by this many of their median absolute deviations (scaled to a standard deviation)."""
OUTLIER_OWN, OUTLIER_LOUD, OUTLIER_SESSIONS = 8.0, 3.0, 63
"""Deviations of its own, and times its median volume, of the quarter before: who moves that much anyway, or with the
volume of news, is none."""
SURVIVORSHIP_SESSIONS = 1260
"""Five years: over less, that nothing was delisted says little."""
KNOWN_AFTER_CLOSE = timedelta(minutes=15)


class Severity(StrEnum):
    INFO = "info"
    WARN = "warn"
    SEVERE = "severe"


class Kind(StrEnum):
    CALENDAR_GAP = "calendar_gap"
    LATE_LISTING = "late_listing"
    ENDED = "ended"
    ROUNDING = "rounding"
    STALE_PRICE = "stale_price"
    OUTLIER_RETURN = "outlier_return"
    UNPRICED_SPIN_OFF = "unpriced_spin_off"
    SURVIVORSHIP = "survivorship"
    TOTAL_RETURN_BASIS = "total_return_basis"
    UNIT_ERROR = "unit_error"
    IMPOSSIBLE_BAR = "impossible_bar"
    FROZEN_BAR = "frozen_bar"
    ZERO_VOLUME = "zero_volume"
    PRICE_SPIKE = "price_spike"
    MISSING_SPLIT = "missing_split"
    WRONG_SPLIT = "wrong_split"
    MISDATED_SPLIT = "misdated_split"
    PHANTOM_SPLIT = "phantom_split"
    UNEVEN_SPLIT = "uneven_split"
    MISSING_DIVIDEND = "missing_dividend"
    WRONG_DIVIDEND = "wrong_dividend"
    MISDATED_DIVIDEND = "misdated_dividend"
    PHANTOM_DIVIDEND = "phantom_dividend"
    ADJUSTED_CLOSE = "adjusted_close"
    ADJUSTED_LEVEL = "adjusted_level"
    SCRAPE_SEAM = "scrape_seam"
    VOLUME_SEAM = "volume_seam"
    DISAGREEMENT = "disagreement"
    WITHDRAWN_BAR = "withdrawn_bar"
    WITHDRAWN_SPLIT = "withdrawn_split"
    WITHDRAWN_DIVIDEND = "withdrawn_dividend"
    WITHDRAWN_SPIN_OFF = "withdrawn_spin_off"
    WITHDRAWN_ACTION = "withdrawn_action"
    WITHDRAWN_HISTORY = "withdrawn_history"


Repair = Mapping[str, object]
"""What would mend a finding, as data: ``action``, ``instrument`` and what the action needs (defects/repair.py)."""


@dataclass(frozen=True)
class Finding:
    """One suspicion about stored data.

    Attributes:
        instrument: None when it is about the source as a whole.
        session_from, session_to: both inclusive.
        evidence: figures, JSON-able. remedy: what to do, in one sentence.
        known_session: when the evidence was complete; None: ``session_to``. A spike is known once it has gone back.
        seen: the instant of the evidence, where no session's bars show it.
        repair: the same remedy as data, where the evidence determines one; a proposal, never applied unasked.
    """

    kind: Kind
    severity: Severity
    instrument: str | None
    session_from: date
    session_to: date
    evidence: Mapping[str, object]
    message: str
    remedy: str
    known_session: date | None = None
    repair: Repair | None = None
    seen: datetime | None = None

    def finding_id(self, source: str) -> str:
        """Named by where it begins, and in which field: a finding that still goes on tomorrow is the same finding."""
        field = [self.evidence["field"]] if "field" in self.evidence else []
        return fingerprint("finding", source, self.kind.value, self.instrument, self.session_from, *field)


FINDINGS_SCHEMA = pl.Schema(
    {
        "finding_id": pl.String(),
        "source": pl.String(),
        "instrument": pl.String(),
        "kind": pl.String(),
        "severity": pl.String(),
        "session_from": pl.Date(),
        "session_to": pl.Date(),
        "evidence": pl.String(),
        "message": pl.String(),
        "remedy": pl.String(),
        "known_at": pl.Datetime("us", "UTC"),
    }
)


def by_urgency(findings: pl.DataFrame) -> pl.DataFrame:
    """Rows of `FINDINGS_SCHEMA` in the order in which a person reads them: severe ones first, of each the latest."""
    rank = pl.col("severity").replace_strict({"severe": 0, "warn": 1}, default=2, return_dtype=pl.Int64)
    return findings.sort(rank, pl.col("session_from"), descending=[False, True])


@dataclass(frozen=True, eq=False)
class Extents:
    """From when to when each instrument of a source has bars.

    Attributes:
        sessions: of the exchange, from the first bar of any instrument to the last one, shape (T,).
        symbols: N names. first, last: rows of ``sessions`` of each one's first and last bar, shape (N,).
    """

    sessions: DateArray
    symbols: tuple[str, ...]
    first: IntArray
    last: IntArray


def extents_of(panel: Panel) -> Extents:
    """Extents of the instruments of ``panel`` that have a bar."""
    held = ~np.isnan(panel.close)
    traded = np.flatnonzero(held.any(axis=0))
    return Extents(
        sessions=panel.sessions,
        symbols=tuple(panel.symbols[column] for column in traded.tolist()),
        first=held[:, traded].argmax(axis=0),
        last=len(held) - 1 - held[::-1][:, traded].argmax(axis=0),
    )


def find_all(panel: Panel) -> list[Finding]:
    """Findings of every detector, by instrument and first session; an empty panel has none."""
    if not len(panel.sessions) or not panel.symbols:
        return []
    found = [*find_in_prices(panel), *find_in_extents(extents_of(panel)), *total_return_basis(panel)]
    return sorted(found, key=lambda f: (f.instrument or "", f.session_from, f.kind.value))


def find_in_prices(panel: Panel) -> list[Finding]:
    """What the prices of single sessions show: gaps, rounding, stale prices, outliers, spin-offs without a price."""
    detectors: Sequence[Callable[[Panel], list[Finding]]] = (
        calendar_gaps, rounding, stale_prices, outlier_returns, unpriced_spin_offs,
    )  # fmt: skip
    return [finding for detector in detectors for finding in detector(panel)]


def find_in_extents(extents: Extents) -> list[Finding]:
    """What beginnings and ends show: late listings, ends, survivorship."""
    return [*listings(extents), *survivorship(extents)]


def finding_rows(findings: Sequence[Finding], source: str, calendars: KeepsCalendars) -> pl.DataFrame:
    """Rows of ops.quality_findings (without ``ingested_at``), known `KNOWN_AFTER_CLOSE` after what showed them.

    A proposed repair travels in the evidence, under ``repair``.
    """
    rows = [
        {
            "finding_id": finding.finding_id(source),
            "source": source,
            "instrument": finding.instrument,
            "kind": finding.kind.value,
            "severity": finding.severity.value,
            "session_from": finding.session_from,
            "session_to": finding.session_to,
            "evidence": canonical_json(_told(finding)),
            "message": finding.message,
            "remedy": finding.remedy,
            "known_at": known_at(finding, calendars),
        }
        for finding in findings
    ]
    return pl.DataFrame(rows, schema=FINDINGS_SCHEMA)


def unpriced_spin_offs(panel: Panel) -> list[Finding]:
    """Sessions whose return nobody knows, since what was spun off has no price within two weeks."""
    if panel.spin_off is None:
        return []
    return [
        _finding(
            panel, Kind.UNPRICED_SPIN_OFF, Severity.WARN, column, row, row + 1,
            {"close": float(panel.close[row, column])},
            f"{panel.symbols[column]} spun off shares that have no price, so that its return is not known",
            "add the new company to universe.symbols and ingest these days, or give its closes by the source `files`",
        )
        for row, column in np.argwhere(np.isnan(panel.spin_off)).tolist()
    ]  # fmt: skip


def training_exclusions(panel: Panel, findings: Sequence[Finding]) -> BoolArray:
    """Rows that no model should learn from: shape (T, N), True inside a finding of rounded prices.

    There a return is largely the rounding, and a model would learn the grid. A finding of an instrument that the
    panel lacks is passed over.
    """
    excluded = np.zeros(panel.close.shape, dtype=bool)
    column = {symbol: index for index, symbol in enumerate(panel.symbols)}
    for finding in findings:
        if finding.kind is Kind.ROUNDING and finding.instrument in column:
            low = np.searchsorted(panel.sessions, np.datetime64(finding.session_from, "D"))
            high = np.searchsorted(panel.sessions, np.datetime64(finding.session_to, "D"), side="right")
            excluded[low:high, column[finding.instrument]] = True
    return excluded


def calendar_gaps(panel: Panel) -> list[Finding]:
    """Sessions without a bar between two bars of an instrument; once for the source where every instrument lacks it."""
    held = ~np.isnan(panel.close)
    listed = np.logical_or.accumulate(held, axis=0)
    # The gap is certain only once a later bar shows that the instrument still trades.
    alive = np.logical_or.accumulate(held[::-1], axis=0)[::-1]
    missing = listed & alive & ~held
    everywhere: BoolArray = np.any(missing, axis=1) & ~np.any(held, axis=1)
    found = [_gap(panel, None, start, stop) for start, stop in _spans(everywhere)]
    missing[everywhere] = False
    return found + [_gap(panel, column, start, stop) for column, start, stop in _column_spans(missing)]


def _gap(panel: Panel, column: int | None, start: int, stop: int) -> Finding:
    count = stop - start
    who = "every instrument" if column is None else panel.symbols[column]
    return _finding(
        panel, Kind.CALENDAR_GAP, Severity.SEVERE if count > STALE_SESSIONS or column is None else Severity.WARN,
        column, start, stop, {"sessions": count},
        f"{who} has no bar on {count} session{'s' if count > 1 else ''} of the calendar",
        "ingest these days again; if the vendor has none, the instrument was halted or the day is missing there",
    )  # fmt: skip


def listings(extents: Extents) -> list[Finding]:
    """Instruments that begin after the source does, or end before it."""
    days, end = extents.sessions, len(extents.sessions) - 1
    late = [
        _finding(
            extents, Kind.LATE_LISTING, Severity.INFO, column, 0, first, {"sessions": first},
            f"{extents.symbols[column]} has no bar before {days[first]}",
            "nothing to do if it was listed then; otherwise ingest the earlier days",
        )
        for column, first in enumerate(extents.first.tolist()) if first > 0
    ]  # fmt: skip
    ended = [
        _finding(
            extents, Kind.ENDED, Severity.WARN, column, last + 1, end + 1, {"sessions": end - last},
            f"{extents.symbols[column]} has no bar after {days[last]}",
            "set its last day of membership if it was delisted; otherwise ingest the days since",
        )
        for column, last in enumerate(extents.last.tolist()) if last < end
    ]  # fmt: skip
    return late + ended


def rounding(panel: Panel) -> list[Finding]:
    """Spans where the step to which prices are rounded is more than `ROUNDING_ENTER` of the price.

    Only on total-return indices: there the rounding is the vendor's. A raw price moves in ticks of the exchange itself.
    """
    if panel.price_basis != "total_return":
        return []
    steps = rounding_steps(panel.close)
    share = steps[:, None] / panel.close
    return [
        _rounding(panel, column, start, stop, share[start:stop, column], float(steps[stop - 1]))
        for column, start, stop in _column_spans(_between(share > ROUNDING_ENTER, share < ROUNDING_LEAVE))
    ]


def _rounding(panel: Panel, column: int, start: int, stop: int, share: FloatArray, step: float) -> Finding:
    worst, median = float(np.nanmax(share)), float(np.nanmedian(share))
    return _finding(
        panel, Kind.ROUNDING, Severity.WARN, column, start, stop,
        {"sessions": stop - start, "step": step, "worst_step_bps": worst * 1e4, "median_step_bps": median * 1e4},
        f"{panel.symbols[column]}: prices are rounded to {step:g}, up to {worst:.2%} of the price",
        "models do not learn from these sessions; use a source with more decimals to have them back",
    )  # fmt: skip


def rounding_steps(close: FloatArray) -> FloatArray:
    """The grid of the source's prices so far: the coarsest power of ten of which every close is a multiple.

    One grid for all instruments, because a vendor rounds them alike: a single price with few digits says little.

    Returns:
        Shape (T,), in the unit of the price, from 1.0 down to 1e-6 (finer prices count as that); never rises.
    """
    needed: IntArray = np.zeros(len(close), dtype=np.int64)
    values = np.nan_to_num(close)
    for decimals in range(MAX_DECIMALS):
        coarse = np.abs(values - np.round(values, decimals)) <= 1e-9 * np.maximum(1.0, np.abs(values))
        needed[~coarse.all(axis=1)] = decimals + 1
    steps: FloatArray = 10.0 ** -np.maximum.accumulate(needed).astype(np.float64)
    return steps


def stale_prices(panel: Panel) -> list[Finding]:
    """At least `STALE_SESSIONS` equal closes in a row; runs less than `STALE_BREAK_SESSIONS` apart are one finding."""
    close = panel.close
    same = np.zeros(close.shape, dtype=bool)
    same[1:] = close[1:] == close[:-1]
    runs: dict[int, list[tuple[int, int]]] = {}
    for column, start, stop in _column_spans(same):
        if stop - start + 1 >= STALE_SESSIONS:
            # The close that the others repeat belongs to the run.
            runs.setdefault(column, []).append((start - 1, stop))
    return [
        _stale(panel, column, cluster)
        for column, some in runs.items() for cluster in _clusters(some, STALE_BREAK_SESSIONS)
    ]  # fmt: skip


def _stale(panel: Panel, column: int, runs: Sequence[tuple[int, int]]) -> Finding:
    lengths = [stop - start for start, stop in runs]
    times = f" in {len(runs)} runs" if len(runs) > 1 else ""
    return _finding(
        panel, Kind.STALE_PRICE, Severity.WARN, column, runs[0][0], runs[-1][1],
        {"sessions": sum(lengths), "runs": len(runs), "longest_run": max(lengths)},
        f"{panel.symbols[column]} repeats its close on {sum(lengths)} sessions{times}, up to {max(lengths)} in a row",
        "compare with a second source: the instrument hardly trades, was halted, or the vendor repeats its last price",
    )  # fmt: skip


def outlier_returns(panel: Panel) -> list[Finding]:
    """Returns beyond `OUTLIER_RETURN` in size and far beyond those of the other instruments, without news' volume.

    Volume counts in shares or in money, whichever rose less: on the day of a split that is not recorded the first is
    higher by its ratio, the second as usual. Where none is known it says nothing.
    """
    returns = panel.total_return
    large = np.abs(np.nan_to_num(returns)) > OUTLIER_RETURN
    found: list[Finding] = []
    for row, column in np.argwhere(large).tolist():
        peers = np.delete(returns[row], column)
        peers = peers[~np.isnan(peers)]
        middle = float(np.median(peers)) if len(peers) else 0.0
        spread = 1.4826 * float(np.median(np.abs(peers - middle))) if len(peers) else 0.0
        value = float(returns[row, column])
        loudness, usual = _loudness(panel, row, column), _usual_move(panel, row, column)
        beyond = abs(value - middle) > OUTLIER_DEVIATIONS * spread and not abs(value - middle) < OUTLIER_OWN * usual
        if beyond and not loudness > OUTLIER_LOUD:
            found.append(
                _finding(
                    panel,
                    Kind.OUTLIER_RETURN,
                    Severity.WARN,
                    column,
                    row,
                    row + 1,
                    {
                        "return": value,
                        "peers_median": middle,
                        "peers_spread": spread,
                        "peers": len(peers),
                        "volume_over_median": loudness if np.isfinite(loudness) else None,
                    },
                    f"{panel.symbols[column]} moved {value:+.1%} while its peers moved {middle:+.1%}",
                    "look for news, or for a split that is missing or recorded twice; correct the actions if so",
                )
            )
    return found


def _loudness(panel: Panel, row: int, column: int) -> float:
    """Volume over its median of the quarter before, in shares or in money, the lesser; NaN where it is not known."""
    rows = slice(max(0, row - OUTLIER_SESSIONS), row + 1)
    shares = panel.volume[rows, column]
    both = np.column_stack([shares, shares * panel.close[rows, column]])
    before = both[:-1][np.isfinite(both[:-1]).all(axis=1)]
    if not len(before) or not np.isfinite(both[-1]).all() or not (median := np.median(before, axis=0)).all():
        return float("nan")
    return float((both[-1] / median).min())


def _usual_move(panel: Panel, row: int, column: int) -> float:
    """Median size of the returns in the quarter before, scaled to a standard deviation; NaN without any."""
    before = np.abs(panel.total_return[max(0, row - OUTLIER_SESSIONS) : row, column])
    return 1.4826 * float(np.nanmedian(before)) if np.isfinite(before).any() else float("nan")


def survivorship(extents: Extents) -> list[Finding]:
    """The source as a whole, when over five years and more every instrument of it is still there at the end."""
    count = len(extents.sessions)
    if count < SURVIVORSHIP_SESSIONS or not (extents.last == count - 1).all():
        return []
    return [
        _finding(
            extents,
            Kind.SURVIVORSHIP,
            Severity.WARN,
            None,
            0,
            count,
            {
                "instruments": len(extents.symbols),
                "sessions": count,
                "share_from_first_session": float((extents.first == 0).mean()),
            },
            f"all {len(extents.symbols)} instruments survive {count} sessions: the set was chosen knowing its end",
            "read past performance as too good; use a source with delisted instruments and dated membership",
        )
    ]


def total_return_basis(panel: Panel) -> list[Finding]:
    """Said once of a source whose prices are indices of total return."""
    if panel.price_basis != "total_return":
        return []
    return [
        _finding(
            panel,
            Kind.TOTAL_RETURN_BASIS,
            Severity.INFO,
            None,
            0,
            len(panel.sessions),
            {"price_basis": panel.price_basis, "has_volume": bool(np.isfinite(panel.volume).any())},
            "prices are indices of total return: shares are pseudo-shares, and rules on raw price and volume are off",
            "use a source of raw prices before an order leaves the paper broker",
        )
    ]


def _between(enter: BoolArray, leave: BoolArray) -> BoolArray:
    """True from a row of ``enter`` until a row of ``leave``, column by column; shape (T, N)."""
    rows = np.arange(len(enter))[:, None]
    entered = np.maximum.accumulate(np.where(enter, rows, -1), axis=0)
    left = np.maximum.accumulate(np.where(leave, rows, -1), axis=0)
    inside: BoolArray = entered > left
    return inside


def _spans(flags: BoolArray) -> list[tuple[int, int]]:
    """Runs of True in ``flags`` (T,), as half-open row ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _clusters(runs: Sequence[tuple[int, int]], apart: int) -> list[list[tuple[int, int]]]:
    """Ascending ``runs``, grouped where fewer than ``apart`` rows lie between one and the next."""
    groups: list[list[tuple[int, int]]] = []
    for run in runs:
        if groups and run[0] - groups[-1][-1][1] < apart:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _column_spans(flags: BoolArray) -> list[tuple[int, int, int]]:
    """Runs of True in each column of ``flags`` (T, N): column, first row, row after the last."""
    rows, columns = flags.shape
    # One column after the other, with a row of False between two: a run ends with its column.
    apart = np.zeros((columns, rows + 1), dtype=bool)
    apart[:, :rows] = flags.T
    return [
        (start // (rows + 1), start % (rows + 1), start % (rows + 1) + stop - start)
        for start, stop in _spans(apart.ravel())
    ]


def _finding(
    of: Panel | Extents, kind: Kind, severity: Severity, column: int | None, start: int, stop: int,
    evidence: Mapping[str, object], message: str, remedy: str,
) -> Finding:  # fmt: skip
    days = of.sessions
    return Finding(
        kind=kind,
        severity=severity,
        instrument=None if column is None else of.symbols[column],
        session_from=days[start].astype(object),
        session_to=days[stop - 1].astype(object),
        evidence=evidence,
        message=message,
        remedy=remedy,
    )


def _told(finding: Finding) -> Mapping[str, object]:
    return finding.evidence if finding.repair is None else {**finding.evidence, "repair": finding.repair}


def known_at(finding: Finding, calendars: KeepsCalendars) -> datetime:
    """When a finding's evidence was complete: `KNOWN_AFTER_CLOSE` after the session that completed it.

    By the instrument's own calendar; of a day that is none of its sessions, after the next one. Where the finding says
    when it was ``seen``, then.
    """
    if finding.seen is not None:
        return finding.seen
    own, day = calendars.of(finding.instrument), finding.known_session or finding.session_to
    return own.close_utc(day if own.is_session(day) else own.next(day)) + KNOWN_AFTER_CLOSE
