"""A day's audit without reading all of history: who is looked at whole, and how that joins what is on record.

Belongs here: choosing the instruments, and joining findings. Does not: detectors (quality.py, defects/), reading
(assets/audits.py).

Every instrument is screened on the bars that a run fetches again and `SCALE_SESSIONS` before them. Whoever shows
something there that is not on record, or no longer shows what is, is looked at whole, and so is whoever has rows that
changed before that. What is on record of all others stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date

import polars as pl

from octopus.warehouse.quality import Finding, Kind

SCALE_SESSIONS = 84
"""A quarter that a detector takes an instrument's scale from, and a month that it may wait for evidence.

Of its slope on the market, which is of half a year, this sees two thirds: of 2,564 planted jumps and spikes near the
limits a screen missed nine that all of history shows, and showed nine others. They are found with the month's first
session. With 147 sessions it missed none, and the screen took 1.6 times as long.
"""
PEERS = 30
"""So many others are read beside the suspects: a move is judged against those of the session."""
OF_EVERYONE = frozenset(
    {
        Kind.LATE_LISTING, Kind.ENDED, Kind.SURVIVORSHIP, Kind.TOTAL_RETURN_BASIS,
        *(kind for kind in Kind if kind.value.startswith("withdrawn_")),
    }
)  # fmt: skip
"""Of first and last bars alone, or of what is no longer sent: a day can afford to know these of all instruments."""
_UNSCREENED = frozenset(kind for kind in Kind if kind.value.endswith("_dividend")) | {Kind.ADJUSTED_CLOSE}


def suspects(
    screened: Iterable[Finding], record: pl.DataFrame, source: str, since: date, changed: Collection[str]
) -> frozenset[str]:
    """Instruments to look at whole.

    Args:
        screened: findings of a screen, of bars with enough history before ``since``.
        record: `quality.FINDINGS_SCHEMA`, of the last audit. source: as which the findings are on record.
        changed: instruments of which rows changed that the screen has not seen.
    """
    shown: dict[str, tuple[str, date]] = {}
    for finding in screened:
        if finding.instrument is not None and max(finding.session_to, finding.known_session or date.min) >= since:
            shown[finding.finding_id(source)] = (finding.instrument, finding.session_to)
    open_ = record.filter(
        (pl.col("source") == source)
        & pl.col("instrument").is_not_null()
        & (pl.col("session_to") >= since)
        & ~pl.col("kind").is_in([kind.value for kind in OF_EVERYONE | _UNSCREENED])
    )
    known = dict(open_.select("finding_id", "session_to").iter_rows())
    new = {name for key, (name, last) in shown.items() if known.get(key, date.min) < last}
    gone = {name for key, name in open_.select("finding_id", "instrument").iter_rows() if key not in shown}
    return frozenset(changed) | new | gone


def mended(record: pl.DataFrame, source: str) -> frozenset[str]:
    """Instruments that are not judged as the vendor sent them, or of whose dividends something is on record."""
    of_dividends = pl.col("kind").is_in([kind.value for kind in _UNSCREENED])
    has_repair = pl.col("evidence").str.contains('"repair":', literal=True)
    of_source = pl.col("source") == source
    return frozenset(record.filter(of_source & (of_dividends | has_repair))["instrument"].drop_nulls())


def beside(names: Collection[str], everyone: Sequence[str]) -> list[str]:
    """``names`` and the peers to read with them, in order; the same peers on every day. Of nobody: nobody."""
    return [] if not names else sorted({*names, *everyone[:: max(len(everyone) // PEERS, 1)]})


def of_instruments(findings: Iterable[Finding], names: Collection[str]) -> list[Finding]:
    """Those about one of ``names``."""
    return [finding for finding in findings if finding.instrument in names]


def standing(record: pl.DataFrame, source: str, names: Collection[str], since: date) -> pl.DataFrame:
    """What of the record of ``source`` stands when ``names`` are looked at anew and all others up to ``since``.

    A finding about the source as a whole stands when it begins before that.
    """
    whole = pl.col("instrument").is_null() & (pl.col("session_from") < since)
    other = pl.col("instrument").is_not_null() & ~pl.col("instrument").is_in(list(names))
    replaced = pl.col("kind").is_in([kind.value for kind in OF_EVERYONE])
    return record.filter((pl.col("source") == source) & (whole | other) & ~replaced)
