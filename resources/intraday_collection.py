"""Collecting bars within the day: each part is stored, with what it answers for, before the next is asked for.

Belongs here: the way from a source of intraday bars to the warehouse. Does not: daily bars (collection.py), what is to
be asked for (octopus/market_data/intraday.py), any vendor, what Dagster shows of it (assets/intraday.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from octopus.core.errors import OctopusError
from octopus.core.sessions import Calendars
from octopus.market_data.intraday import Span, counted, due_spans
from resources.collection import Stored
from resources.sources.base import IntradaySource
from resources.warehouse import intraday
from resources.warehouse.store import Warehouse


@dataclass
class CollectedIntraday:
    """How far a run came.

    Attributes:
        parts: how many were stored. stored: what became of their bars. stopped: why it ended before its end.
    """

    parts: int = 0
    stored: Stored = field(default_factory=Stored)
    stopped: OctopusError | None = None


@dataclass(frozen=True)
class IntradayPlan:
    """Whose bars of which length there are to be, see `octopus.market_data.intraday.due_spans`."""

    instruments: Collection[str]
    minutes: int
    history: int
    refetch: int
    calendars: Calendars

    def spans(self, warehouse: Warehouse, source: str, session: date, now: datetime) -> list[Span]:
        """What ``source`` is to be asked for up to ``session``."""
        asked = intraday.asked(warehouse, source, self.minutes, self.instruments)
        found: list[Span] = []
        for calendar in sorted({self.calendars.of(name) for name in self.instruments}, key=lambda one: one.exchange):
            names = [name for name in self.instruments if self.calendars.of(name) == calendar]
            found += due_spans(
                names, asked, session, history=self.history, refetch=self.refetch, sessions=calendar, now=now
            )
        return found


def collect_intraday(
    warehouse: Warehouse,
    source: IntradaySource,
    spans: Sequence[Span],
    plan: IntradayPlan,
    *,
    run_id: str | None = None,
    told: Callable[[str], object] = lambda _: None,
    now: Callable[[], datetime],
) -> CollectedIntraday:
    """Ask ``source`` for each span and store what comes, part by part, until it ends or fails.

    Args:
        told: takes a line of progress. now: what time it is.
    """
    collected = CollectedIntraday()
    answered: list[tuple[str, date, date]] = []
    try:
        for span in spans:
            # A part may reach beyond its span: who was asked for a whole month is not asked for another day of it.
            known = {name for name, start, end in answered if start <= span.start and span.end <= end}
            names = [name for name in span.instruments if name not in known]
            if not names:
                continue
            calendar = plan.calendars.of(names[0])
            told(f"{source.name}: asking for {span.start} to {span.end} of {len(names)} instruments")
            for part in source.fetch_intraday(names, span.start, span.end, plan.minutes, calendar):
                answered += [(name, part.start, part.end) for name in part.asked]
                moment = now()
                held = counted(part.asked, part.start, part.end, part.bars, plan.minutes, calendar, moment)
                with warehouse.writing(
                    source.name, run_id=run_id, payload_hash=part.payload_hash, now=moment
                ) as writing:
                    report = writing.append("intraday_bars", part.bars, part.rejects)
                    intraday.record(writing, plan.minutes, held)
                collected.stored.add(report, part.bars, part.rejects)
                collected.parts += 1
    except OctopusError as error:
        collected.stopped = error
    return collected
