"""Collecting market data: what is missing is asked for in parts, and each part is stored before the next is asked for.

Belongs here: the way from a source to the warehouse, and where a run that was stopped has come to. Does not: what is
missing (octopus/market_data/coverage.py), any vendor, what Dagster shows of it (assets/market_data.py).

A part is one transaction: its rows, what was refused, the hash of the answer and what was asked for. Whatever stops a
run, a limit, a failure or the end of the process, leaves the parts before it, and the next run asks for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from octopus.core.errors import OctopusError
from octopus.core.rejects import Reject
from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.coverage import Window
from octopus.market_data.reference import Reference
from resources.sources.base import MarketData, MarketDataSource
from resources.sources.reference import joined
from resources.warehouse import coverage, instruments
from resources.warehouse.coverage import Asked
from resources.warehouse.store import AppendReport, Warehouse

TABLES = ("instruments", "corporate_actions", "bars", "adjusted_closes")


@dataclass
class Stored:
    """What became of one raw table.

    Attributes:
        fetched: rows that came. first, last: sessions of them. sample: the last few.
        batches: numbers of the batches in which anything differed.
    """

    fetched: int = 0
    new: int = 0
    restated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    batches: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    first: date | None = None
    last: date | None = None
    sample: pl.DataFrame | None = None

    def add(self, report: AppendReport, frame: pl.DataFrame, rejects: Sequence[Reject]) -> None:
        self.fetched += len(frame)
        self.new += report.new
        self.restated += report.restated
        self.unchanged += report.unchanged
        self.quarantined += report.quarantined
        self.batches += [] if report.batch_id is None else [report.batch_id]
        self.rejects += rejects
        if "session" in frame.columns and not frame.is_empty():
            days = frame["session"]
            self.first = min(day for day in (self.first, days.min()) if isinstance(day, date))
            self.last = max(day for day in (self.last, days.max()) if isinstance(day, date))
            self.sample = frame.tail(5)


@dataclass
class Collected:
    """How far a run came.

    Attributes:
        parts: how many were stored. left: who was not asked for. stopped: why.
    """

    left: list[str]
    tables: dict[str, Stored] = field(default_factory=lambda: {table: Stored() for table in TABLES})
    parts: int = 0
    stopped: OctopusError | None = None

    def add(self, part: MarketData, reports: Mapping[str, AppendReport]) -> None:
        """Count a part that is stored."""
        for table, frame in _frames(part).items():
            self.tables[table].add(reports[table], frame, part.refused(table))
        gone = set(part.asked)
        self.left = [name for name in self.left if name not in gone]
        self.parts += 1


def collect(
    warehouse: Warehouse,
    source: MarketDataSource,
    requests: Sequence[Window],
    end: date,
    asked: Asked,
    sessions: Sessions,
    *,
    run_id: str | None = None,
    told: Callable[[str], object] = lambda _: None,
    now: datetime | None = None,
    reference: Reference | None = None,
) -> Collected:
    """Ask ``source`` for each window up to ``end`` and store what comes, part by part, until it ends or fails.

    Args:
        asked: what the source was asked for before.
        told: takes a line of progress.
        now: the instant of storing; the wall clock unless a test says otherwise.
        reference: what the user tells of instruments beside the source: stored with the part that it is about.
    """
    collected = Collected([name for window in requests for name in window.instruments])
    exchanges = dict(warehouse.calendars(source.name, sessions).exchanges)
    beside = _beside(warehouse, source.name, sessions, reference)
    try:
        for window in requests:
            told(f"{source.name}: asking for {window.start} to {end} of {len(window.instruments)} instruments")
            for answer in source.fetch(window.instruments, window.start, end, sessions, asked.described):
                part = beside(answer)
                exchanges |= dict(part.instruments.select("instrument", "exchange").iter_rows())
                with warehouse.writing(source.name, run_id=run_id, payload_hash=part.payload_hash, now=now) as writing:
                    reports = {
                        table: writing.append(table, frame, part.refused(table))
                        for table, frame in _frames(part).items()
                    }
                    coverage.record(
                        writing, part.asked, window.start, end, part.bars.select("instrument", "session"),
                        answer.instruments["instrument"].to_list(), asked.covered, Calendars(sessions, exchanges),
                    )  # fmt: skip
                collected.add(part, reports)
    except OctopusError as error:
        collected.stopped = error
    return collected


def _beside(
    warehouse: Warehouse, source: str, sessions: Sessions, reference: Reference | None
) -> Callable[[MarketData], MarketData]:
    """What joins ``reference`` to a part; without one it stays as it is."""
    if reference is None:
        return lambda part: part
    stored, turns = instruments.descriptions(warehouse, source), instruments.turns(warehouse, source)
    return lambda part: joined(part, reference, source, stored, turns, sessions)


def _frames(part: MarketData) -> dict[str, pl.DataFrame]:
    """The rows of a part by their table."""
    return {
        "instruments": part.instruments, "corporate_actions": part.actions, "bars": part.bars,
        "adjusted_closes": part.adjusted,
    }  # fmt: skip
