"""Collecting market data: what is missing is asked for in parts, and each part is stored before the next is asked for.

Belongs here: the way from a source to the warehouse, and where a run that was stopped has come to. Does not: what is
missing (octopus/market_data/coverage.py), any vendor, what Dagster shows of it (assets/market_data.py).

A part is one transaction: its rows, what was refused, what the vendor no longer sends, the hash of the answer and what
was asked for. Whatever stops a run, a limit, a failure or the end of the process, leaves the parts before it, and the
next run asks for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum

import polars as pl

from octopus.core.errors import OctopusError, SourceUnavailableError
from octopus.core.rejects import Reject
from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.coverage import Window, first_sight, known_from_first_sight
from octopus.market_data.reference import Reference
from octopus.warehouse.withdrawals import Answer, sent_again
from resources.sources.base import MarketData, MarketDataSource
from resources.sources.patience import BudgetExhaustedError, TryLaterError
from resources.sources.reference import joined
from resources.warehouse import coverage, instruments, withdrawals
from resources.warehouse.connection import WarehouseUnreachableError
from resources.warehouse.coverage import Asked
from resources.warehouse.store import AppendReport, Warehouse

TABLES = ("instruments", "corporate_actions", "bars", "adjusted_closes")


class Stop(StrEnum):
    """Why a source was not asked for all of it, by what ends that."""

    BUDGET = "budget"
    """What we may ask of it is spent: its window resets, or a larger plan is configured."""
    WAIT = "wait"
    """It told us to wait, and until when."""
    OUTAGE = "outage"
    """It, or the warehouse, does not answer: that may pass."""
    MISTAKE = "mistake"
    """Nothing that passes by itself: a person has to mend it."""


def stop_of(error: OctopusError) -> Stop:
    """What kind of end ``error`` is."""
    if isinstance(error, BudgetExhaustedError):
        return Stop.BUDGET
    if isinstance(error, TryLaterError):
        return Stop.WAIT
    return Stop.OUTAGE if isinstance(error, SourceUnavailableError | WarehouseUnreachableError) else Stop.MISTAKE


@dataclass
class Stored:
    """What became of one raw table.

    Attributes:
        fetched: rows that came. first, last: sessions of them. sample: the last few.
        batches: numbers of the batches in which anything differed.
        withdrawn: stored rows that did not come again, and stay.
    """

    fetched: int = 0
    new: int = 0
    restated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    withdrawn: int = 0
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

    def add(self, part: MarketData, reports: Mapping[str, AppendReport], withdrawn: Mapping[str, int]) -> None:
        """Count a part that is stored, and by table the rows that it no longer holds."""
        for table, frame in _frames(part).items():
            self.tables[table].add(reports[table], frame, part.refused(table))
            self.tables[table].withdrawn += withdrawn.get(table, 0)
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
    standing = withdrawals.standing(warehouse, source.name)
    sight = first_sight(asked.covered, end, sessions, now or datetime.now(UTC))
    beside = _beside(warehouse, source.name, sessions, reference)
    try:
        for window in requests:
            told(f"{source.name}: asking for {window.start} to {end} of {len(window.instruments)} instruments")
            for came in source.fetch(window.instruments, window.start, end, sessions, asked.described):
                part = beside(_from_first_sight(came, sight))
                exchanges |= dict(part.instruments.select("instrument", "exchange").iter_rows())
                answer = Answer.of(part.asked, part.bars, part.actions, part.rejects)
                again = sent_again(standing, answer.rows)
                with warehouse.writing(source.name, run_id=run_id, payload_hash=part.payload_hash, now=now) as writing:
                    reports = {
                        table: writing.append(
                            table, frame, part.refused(table), _of_rows(frame, table, again),
                            span=(window.start, end) if table == "bars" else None,
                        )
                        for table, frame in _frames(part).items()
                    }  # fmt: skip
                    gone = withdrawals.record(
                        writing, answer, window.start, end, asked.covered, sight, standing, again,
                        reports["bars"].lacking,
                    )  # fmt: skip
                    coverage.record(
                        writing, part.asked, window.start, end, part.bars.select("instrument", "session"),
                        came.instruments["instrument"].to_list(), asked.covered, Calendars(sessions, exchanges),
                    )  # fmt: skip
                collected.add(part, reports, gone)
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


def _from_first_sight(part: MarketData, sight: pl.DataFrame) -> MarketData:
    """``part`` with what comes late of the vendor known from when it came: what a user's files tell counts by them."""
    bars, actions = (known_from_first_sight(rows, sight) for rows in (part.bars, part.actions))
    return replace(part, bars=bars, actions=actions)


def _frames(part: MarketData) -> dict[str, pl.DataFrame]:
    """The rows of a part by their table."""
    return {
        "instruments": part.instruments, "corporate_actions": part.actions, "bars": part.bars,
        "adjusted_closes": part.adjusted,
    }  # fmt: skip


def _of_rows(frame: pl.DataFrame, table: str, again: pl.DataFrame) -> pl.DataFrame | None:
    """The rows of ``frame`` that a vendor had withdrawn before; None where there is none."""
    if again.is_empty() or table not in ("bars", "corporate_actions"):
        return None
    key = ["instrument", "session"] if table == "bars" else ["instrument", "session", "kind"]
    theirs = again.filter((pl.col("kind") == "bar") == (table == "bars"))
    return frame.join(theirs, on=key, how="semi")
