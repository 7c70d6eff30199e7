"""What a source has been asked for and what it answered: what is still missing, and from where on to ask.

Belongs here: windows of the next fetch, sessions that an answer should have held and did not, and since when what it
holds late is known. Does not: asking (resources/sources), remembering what was asked (resources/warehouse/coverage.py).

A source is asked for each instrument up to the run's session: from the beginning of history where nobody asked for that
yet, from a gap that it was not asked for or is to be asked for again, else from a few sessions before the last one
asked for, to see what was restated. A gap that stays empty is asked for again `RETRIES` after it was found, and then
never: the vendor has no bar there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.settle import by_calendar

RETRIES = (timedelta(days=7), timedelta(days=30))
"""After a gap was found: when it is asked for again. A vendor that mends one does so within weeks."""

COVERAGE_SCHEMA = pl.Schema(
    {
        "instrument": pl.String, "asked_from": pl.Date, "asked_to": pl.Date, "first_bar": pl.Date, "last_bar": pl.Date,
    }
)  # fmt: skip
"""Of each instrument the sessions that its source was asked for without a break, both inclusive, and its bars' ends."""

HOLES_SCHEMA = pl.Schema({"instrument": pl.String, "session": pl.Date})
"""Sessions without a bar between bars; of an instrument without any bar the first session asked for."""

SIGHT_SCHEMA = pl.Schema(
    {
        "instrument": pl.String(), "since": pl.Date(), "decided": pl.Datetime("us", "UTC"),
        "seen": pl.Datetime("us", "UTC"),
    }
)  # fmt: skip

WINDOWS_SCHEMA = pl.Schema({"instrument": pl.String, "start": pl.Date, "why": pl.String, "group": pl.Date})


@dataclass(frozen=True)
class Window:
    """Instruments to be asked for from one session on.

    Attributes:
        start: first session, or a day before it.
    """

    start: date
    instruments: tuple[str, ...]


def missing(
    instruments: Sequence[str],
    covered: pl.DataFrame,
    holes: pl.DataFrame,
    *,
    history_start: date,
    session: date,
    refetch: int,
    sessions: Sessions,
) -> pl.DataFrame:
    """From where on each instrument is to be asked for, and why.

    Args:
        covered: `COVERAGE_SCHEMA`, of those that were asked for before.
        holes: `HOLES_SCHEMA`, those that are to be asked for now.
        session: the last one to ask for.
        refetch: how many sessions that were asked for are asked for again.

    Returns:
        Columns instrument, start, why, and ``group``: who is asked for together begins there. By group and instrument,
        so that whoever has waited longest comes first.
    """
    known = covered.select("asked_to").unique().sort("asked_to")
    again = pl.Series([_last(sessions, day, max(refetch, 1)) for day in known["asked_to"]], dtype=pl.Date)
    gaps = holes.group_by("instrument").agg(hole=pl.col("session").min())
    asked = (
        pl.DataFrame({"instrument": sorted(set(instruments))}, schema={"instrument": pl.String})
        .join(covered, on="instrument", how="left")
        .join(known.with_columns(again=again), on="asked_to", how="left")
        .join(gaps, on="instrument", how="left")
        .with_columns(again=pl.min_horizontal("again", pl.lit(session)))
    )
    begin = pl.lit(min(history_start, session))
    never = pl.col("asked_to").is_null()
    before = ~never & (pl.col("asked_from") > begin) & (pl.col("again") > begin)
    gap = ~never & ~before & (pl.col("hole") < pl.col("again"))
    start = pl.when(never | before).then(begin).when(gap).then("hole").otherwise("again")
    why = (
        pl.when(never).then(pl.lit("it was never asked for"))
        .when(before).then(pl.format("its history before {} was never asked for", "asked_from"))
        .when(gap).then(pl.format("a gap at {}", "hole"))
        .otherwise(pl.format("what came since {}, and {} sessions again", "asked_to", pl.lit(max(refetch, 1))))
    )  # fmt: skip
    found = asked.select("instrument", start=start, why=why, gap=gap.fill_null(value=False))
    # Gaps are all over history, and a batch for each day of one would be no batch: those of one year go together.
    year = pl.when("gap").then(pl.col("start").min().over(pl.col("start").dt.year(), "gap")).otherwise("start")
    return found.select("instrument", "start", "why", group=year).sort("group", "instrument").cast(WINDOWS_SCHEMA)


def _last(sessions: Sessions, day: date, count: int) -> date:
    """The first of the last ``count`` sessions up to ``day``, or of as many as there are."""
    days = sessions.between(date.min, day)[-count:]
    return date.fromisoformat(str(days[0])) if len(days) else day


def together(instruments: Sequence[str], start: date, why: str) -> pl.DataFrame:
    """All instruments from ``start`` on, in the form of `missing`."""
    return pl.DataFrame(
        {"instrument": sorted(set(instruments)), "start": start, "why": why, "group": start}, schema=WINDOWS_SCHEMA
    )


def windows(asked: pl.DataFrame) -> list[Window]:
    """`missing` as the requests to make, the oldest first."""
    grouped = asked.group_by("group").agg(pl.col("instrument").sort()).sort("group")
    return [Window(start, tuple(names)) for start, names in grouped.iter_rows()]


def first_sight(covered: pl.DataFrame, end: date, sessions: Sessions, now: datetime) -> pl.DataFrame:
    """Since when that counts which an answer up to session ``end`` changes of what was asked for before.

    From the decision that is asked for (one that is made again sees what it lacked at first), after any later decision
    that was asked for before, and no later than it came.

    Args:
        covered: `COVERAGE_SCHEMA`, as it was before the fetch.

    Returns:
        `SIGHT_SCHEMA`, of instruments with a bar. Of sessions from ``since`` on, what could be known by ``decided``,
        the last decision that was asked for, should have come before; what comes of it now is known from ``seen`` on.
    """
    asked = covered.filter(pl.col("first_bar").is_not_null())
    days = asked["asked_to"].unique().sort()
    decided = pl.Series([_decision(sessions, day) for day in days], dtype=SIGHT_SCHEMA["decided"])
    instants = pl.DataFrame({"asked_to": days, "decided": decided})
    this, at = (pl.lit(instant).cast(SIGHT_SCHEMA["seen"]) for instant in (_decision(sessions, end), now))
    after = pl.when(pl.col("asked_to") > end).then(pl.col("decided").dt.offset_by("1us")).otherwise(this)
    since, seen = pl.max_horizontal("asked_from", "first_bar"), pl.min_horizontal(after, at)
    return asked.join(instants, on="asked_to").select("instrument", since=since, decided="decided", seen=seen)


def known_from_first_sight(rows: pl.DataFrame, sight: pl.DataFrame) -> pl.DataFrame:
    """``rows`` (bars or actions), those that should have come before known from when they came.

    A replay of a decision that was made without them then does not see them. A ``known_at`` that the vendor recorded
    stays, and of a row that is stored already only the stored one counts.

    Args:
        sight: `first_sight`.
    """
    if sight.is_empty() or rows.is_empty():
        return rows
    found = rows.join(sight, on="instrument", how="left", maintain_order="left")
    in_time = (pl.col("session") >= pl.col("since")) & (pl.col("known_at") <= pl.col("decided"))
    late = pl.col("known_at_imputed") & in_time
    known = pl.when(late).then(pl.max_horizontal("known_at", "seen")).otherwise("known_at")
    return found.with_columns(known_at=known).select(rows.columns)


def _decision(sessions: Sessions, day: date) -> datetime:
    """Of the last session up to ``day``; before all of them the end of the day."""
    days = sessions.between(date.min, day)
    return sessions.decision_utc(days[-1].item()) if len(days) else datetime.combine(day, time.max, UTC)


def unanswered(
    instruments: Sequence[str], start: date, end: date, bars: pl.DataFrame, covered: pl.DataFrame, calendars: Calendars
) -> pl.DataFrame:
    """Sessions that a fetch of ``start`` to ``end`` leaves without a bar, and those before it that have become gaps.

    A session counts between the bars of an instrument, by its own calendar: before its first and after its last one it
    may not have traded. Whether a bar of it was stored earlier, the caller knows.

    Args:
        instruments: who was asked for.
        bars: what was answered; columns instrument and session.
        covered: `COVERAGE_SCHEMA`, as it was before the fetch.

    Returns:
        `HOLES_SCHEMA` and ``asked``: the fetch asked for that session.
    """
    first, last = pl.lit(start), pl.lit(end)
    ends = (
        pl.DataFrame({"instrument": list(instruments)}, schema={"instrument": pl.String})
        .join(covered.select("instrument", "asked_from", "first_bar", "last_bar"), on="instrument", how="left")
        .join(
            bars.group_by("instrument").agg(
                begun=pl.col("session").min(), ended=pl.col("session").max(), answered=pl.col("session").n_unique()
            ),
            on="instrument", how="left",
        )
        .with_columns(pl.col("answered").fill_null(0))
    )  # fmt: skip
    has_bars = pl.any_horizontal(pl.col("first_bar", "begun").is_not_null())
    from_the_beginning = pl.col("asked_from").is_null() | (pl.col("asked_from") >= first)
    silent = ends.filter(~has_bars & from_the_beginning).select("instrument")
    since = (
        # After a silence that is over what lies in between has become a gap, whether or not it was asked for.
        pl.when(pl.col("last_bar") < first).then(pl.col("last_bar").dt.offset_by("1d"))
        .otherwise(pl.max_horizontal(first, pl.min_horizontal("first_bar", "begun")))
    )  # fmt: skip
    spans = ends.filter(has_bars).select(
        "instrument", "answered", since=since,
        until=pl.min_horizontal(last, pl.max_horizontal("last_bar", "ended")),
    ).filter(pl.col("since") <= pl.col("until"))  # fmt: skip
    found = [_holes(theirs, own, bars) for own, (theirs,) in by_calendar([spans], calendars)]
    for own, (theirs,) in by_calendar([silent], calendars):
        days = own.between(start, end)
        if len(days):
            found.append(theirs.select("instrument", session=pl.lit(days[0].item())))
    return (
        pl.concat([HOLES_SCHEMA.to_frame(), *found])
        .with_columns(asked=pl.col("session") >= first)
        .sort("instrument", "session")
    )


def _holes(spans: pl.DataFrame, own: Sessions, bars: pl.DataFrame) -> pl.DataFrame:
    """Sessions of ``own`` within the span of each instrument that ``bars`` has none of."""
    low, high = spans["since"].min(), spans["until"].max()
    if not isinstance(low, date) or not isinstance(high, date):
        return HOLES_SCHEMA.to_frame()
    days = own.between(low, high)
    since, until = (spans[name].to_numpy().astype("datetime64[D]") for name in ("since", "until"))
    due = np.searchsorted(days, until, side="right") - np.searchsorted(days, since)
    # As a rule everything was answered: only of the others are the sessions written out.
    lacking = spans.filter(pl.Series(due) > pl.col("answered")).select("instrument", "since", "until")
    calendar = pl.DataFrame({"session": days}, schema={"session": pl.Date})
    return (
        lacking.join(calendar, how="cross")
        .filter(pl.col("session").is_between("since", "until"))
        .join(bars.select("instrument", "session"), on=["instrument", "session"], how="anti")
        .select(HOLES_SCHEMA.names())
    )
