"""Which instrument a ticker meant on a day, and which ticker an instrument had.

Belongs here: spans of tickers from renames and delistings, or from map files, looking up in them, and putting what was
told by tickers into one history for an instrument. Does not: storing spans (resources/warehouse/identifiers.py).

A ticker is a name that exchanges lend: GOOG was Google's class A until 2 April 2014 and its class C since. An
instrument keeps its ``permanent_id``, made of its first ticker and first day (``GOOG@2004-08-19``), through all renames
until it is delisted. Days are calendar days, both ends of a span belong to it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime

import numpy as np
import polars as pl

from octopus.core.errors import MissingDataError, OctopusError
from octopus.core.types import IntArray

SPANS_SCHEMA = pl.Schema(
    {"permanent_id": pl.String(), "ticker": pl.String(), "valid_from": pl.Date(), "valid_to": pl.Date()}
)
"""One row for each ticker that an instrument had, by instrument and time; a null end is open."""

IDENTIFIERS_SCHEMA = pl.Schema({
    **SPANS_SCHEMA, "known_at": pl.Datetime("us", "UTC"), "end_known_at": pl.Datetime("us", "UTC"),
})  # fmt: skip
"""Spans with the time at which their beginning was known (null: ever since) and their end (null: open)."""

REUSE_DAYS = 30
"""A ticker that has bars again so many days after its end is another instrument's: less is a vendor's last bars."""

_BEGINNING = date(1, 1, 1)
_ONE_DAY = pl.duration(days=1)


class IdentifierConflictError(OctopusError):
    """Two instruments would have one ticker at once, or a ticker would end that nobody has."""


def spans_of_actions(actions: pl.DataFrame, listings: pl.DataFrame) -> pl.DataFrame:
    """Spans from renames and delistings.

    A ``symbol_change`` of session d ends the old ticker the day before and begins the new one (``detail``) on d. A
    ``delisting`` ends the ticker with its session. A ticker that ends without having begun, or of which nothing else is
    told, began before all that is known.

    Args:
        actions: instrument, session, kind, detail; one row for a fact; other kinds are passed over.
        listings: instrument, listed (a date, or null where unknown); needed for each instrument that begins with a new
            ticker, or with one that another had before.

    Returns:
        `SPANS_SCHEMA`.

    Raises:
        IdentifierConflictError: of the first ticker that would be had twice at once, or end twice.
    """
    changes = actions.filter(pl.col("kind") == "symbol_change")
    gone = actions.filter(pl.col("kind") == "delisting")
    dated = listings.filter(pl.col("listed").is_not_null())
    events = pl.concat([
        changes.select(_event("detail", pl.col("session"), ends=False, other=pl.col("instrument"))),
        changes.select(_event("instrument", pl.col("session") - _ONE_DAY, ends=True, other=pl.col("detail"))),
        gone.select(_event("instrument", pl.col("session"), ends=True)),
        dated.select(_event("instrument", pl.col("listed"), ends=False)),
    ]).sort("ticker", "day", "ends")  # fmt: skip
    first_ends = events.group_by("ticker", maintain_order=True).first().filter("ends")["ticker"]
    untold = listings.filter(~pl.col("instrument").is_in(events["ticker"].implode()))["instrument"].unique()
    began = pl.DataFrame({"ticker": pl.concat([first_ends, untold])}, schema={"ticker": pl.String})
    begun = began.select(_event("ticker", pl.lit(None), ends=False))
    events = pl.concat([events, begun]).sort("ticker", "day", "ends", nulls_last=False)
    _check_turns(events)
    spans = events.with_columns(
        valid_to=pl.col("day").shift(-1).over("ticker"), later=pl.col("other").shift(-1).over("ticker")
    ).filter(~pl.col("ends")).select("ticker", "valid_to", "later", valid_from="day", earlier="other")  # fmt: skip
    return _settled(spans.with_columns(head=pl.Series(_heads(spans), dtype=pl.Int64)))


def spans_of_maps(maps: pl.DataFrame) -> pl.DataFrame:
    """Spans from map files of the form that QuantConnect's Lean documents.

    Args:
        maps: file, last_day, ticker; one file for an instrument. Its first row says when it was listed; each other the
            last day of a ticker, null for one still in use.

    Returns:
        `SPANS_SCHEMA`.

    Raises:
        IdentifierConflictError: two files have one ticker at once.
    """
    ordered = maps.sort("file", "last_day", nulls_last=True, maintain_order=True).with_columns(
        line=pl.int_range(pl.len()).over("file"), before=pl.col("last_day").shift(1).over("file")
    )
    spans = ordered.filter(pl.col("line") > 0).select(
        "ticker", valid_to="last_day",
        valid_from=pl.when(pl.col("line") == 1).then("before").otherwise(pl.col("before") + _ONE_DAY),
        head=pl.int_range(pl.len(), dtype=pl.Int64) - pl.col("line") + 1,
    )  # fmt: skip
    settled = _settled(spans)
    check_spans(settled)
    return settled


def actions_of_spans(spans: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The renames and delistings that make ``spans``, and the listings: `spans_of_actions` turned round.

    Returns:
        Actions (instrument, session, kind, detail) and listings (instrument, listed).
    """
    later = pl.col("ticker").shift(-1).over("permanent_id"), pl.col("valid_from").shift(-1).over("permanent_id")
    held = spans.sort("permanent_id", "valid_from", nulls_last=False).with_columns(
        next_ticker=later[0], next_from=later[1], place=pl.int_range(pl.len()).over("permanent_id")
    )
    renamed = held.filter(pl.col("next_ticker").is_not_null()).select(
        instrument="ticker", session="next_from", kind=pl.lit("symbol_change"), detail="next_ticker"
    )
    gone = held.filter(pl.col("next_ticker").is_null() & pl.col("valid_to").is_not_null()).select(
        instrument="ticker", session="valid_to", kind=pl.lit("delisting"), detail=pl.lit(None, pl.String)
    )
    listings = held.filter(pl.col("place") == 0).select(instrument="ticker", listed="valid_from")
    return pl.concat([renamed, gone]).sort("session", "instrument"), listings


def with_permanent_id(
    frame: pl.DataFrame, spans: pl.DataFrame, *, ticker: str = "instrument", day: str = "session"
) -> pl.DataFrame:
    """``frame`` with ``permanent_id``: who had the ticker on the day; null where nobody had.

    Args:
        frame: any rows, in any order, which stays.
        ticker: column of tickers. day: column of the dates on which they were used. A vendor who names a whole history
            by today's ticker used it on the day of the fetch.
    """
    return _looked_up(frame, spans, ("ticker", ticker), "permanent_id", day)


def with_ticker(
    frame: pl.DataFrame, spans: pl.DataFrame, *, permanent_id: str = "permanent_id", day: str = "session"
) -> pl.DataFrame:
    """``frame`` with ``ticker``: what the instrument was called on the day; null before its listing and after its
    delisting.
    """
    return _looked_up(frame, spans, ("permanent_id", permanent_id), "ticker", day)


def check_spans(spans: pl.DataFrame) -> None:
    """Refuse spans of which one ticker belongs to two instruments on a day, or one instrument has two.

    Raises:
        IdentifierConflictError: naming the first such case.
        MissingDataError: a column is missing.
    """
    missing = [name for name in SPANS_SCHEMA if name not in spans.columns]
    if missing:
        raise MissingDataError(f"spans lack the column {missing[0]}; give {', '.join(SPANS_SCHEMA)}")
    for one, other in (("ticker", "permanent_id"), ("permanent_id", "ticker")):
        ordered = spans.sort(one, "valid_from", nulls_last=False).with_columns(
            _until=pl.col("valid_to").fill_null(date.max).shift(1).over(one), _with=pl.col(other).shift(1).over(one)
        )
        bad = ordered.filter(pl.col("valid_from").fill_null(_BEGINNING) <= pl.col("_until"))
        if bad.height:
            row = bad.row(0, named=True)
            raise IdentifierConflictError(
                f"{one} {row[one]!r} belongs to {row['_with']!r} and to {row[other]!r} on {row['valid_from']}: "
                "end the earlier span the day before, or correct the later one"
            )


def known_spans(facts: pl.DataFrame, instruments: Sequence[str], reused: pl.DataFrame) -> pl.DataFrame:
    """The identifier history of a source's instruments, with the times at which it was known.

    Permanent ids have no day here but where the ticker had another bearer before: a first bar may still be found
    earlier, and what is permanent must not move with it.

    Args:
        facts: instrument, session, kind, detail, known_at of renames and delistings; other kinds are passed over.
        instruments: every ticker that the source ever described.
        reused: instrument, listed, known_at: tickers that came back, at least `REUSE_DAYS` after their end.

    Returns:
        `IDENTIFIERS_SCHEMA`.

    Raises:
        IdentifierConflictError: as `spans_of_actions`.
    """
    told = pl.DataFrame(
        {"instrument": instruments, "listed": None}, schema={"instrument": pl.String, "listed": pl.Date}
    )
    spans = spans_of_actions(facts, pl.concat([told, reused.select("instrument", "listed")]))
    changes = facts.filter(pl.col("kind") == "symbol_change")
    begun = pl.concat([
        changes.select(ticker="detail", valid_from="session", known_at="known_at"),
        reused.select(ticker="instrument", valid_from="listed", known_at="known_at"),
    ]).group_by("ticker", "valid_from").agg(pl.col("known_at").min())  # fmt: skip
    ended = pl.concat([
        changes.select(ticker="instrument", valid_to=pl.col("session") - _ONE_DAY, end_known_at="known_at"),
        facts.filter(pl.col("kind") == "delisting").select(
            ticker="instrument", valid_to="session", end_known_at="known_at"
        ),
    ]).group_by("ticker", "valid_to").agg(pl.col("end_known_at").min())  # fmt: skip
    return (
        spans.join(begun, on=["ticker", "valid_from"], how="left", maintain_order="left")
        .join(ended, on=["ticker", "valid_to"], how="left", maintain_order="left")
        .select(IDENTIFIERS_SCHEMA.names())
        .cast(IDENTIFIERS_SCHEMA)
    )


def spans_as_of(identifiers: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """`SPANS_SCHEMA` of ``identifiers`` (`IDENTIFIERS_SCHEMA`) as known by ``as_of``."""
    begun = identifiers.filter(pl.col("known_at").is_null() | (pl.col("known_at") <= as_of))
    return begun.with_columns(
        valid_to=pl.when(pl.col("end_known_at") > as_of).then(pl.lit(None, pl.Date)).otherwise("valid_to")
    ).select(SPANS_SCHEMA.names())


def moved_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """Of ``spans`` those whose ticker does not say by itself who is meant, with the instrument's ``name``.

    The name is the ticker it had last, with its last day where another instrument has that ticker since.
    """
    ordered = spans.sort("valid_from", nulls_last=False)
    latest = ordered.group_by("permanent_id", maintain_order=True).last()
    bearers = ordered.group_by("ticker", maintain_order=True).last().select("ticker", bearer="permanent_id")
    until = pl.col("ticker") + pl.col("valid_to").dt.strftime(" until %Y-%m-%d").fill_null("")
    named = latest.join(bearers, on="ticker").select(
        "permanent_id", name=pl.when(pl.col("bearer") == pl.col("permanent_id")).then("ticker").otherwise(until)
    )
    several = (pl.len().over("permanent_id") > 1) | (pl.len().over("ticker") > 1)
    return ordered.filter(several).join(named, on="permanent_id", maintain_order="left")


def one_history(frame: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with each instrument's rows under one name, and no two instruments' under the same.

    A vendor may tell a whole history by its latest ticker: rows of before the ticker's first span are its first
    bearer's, but where that one has rows of its own.

    Args:
        frame: instrument, session and anything else; one row for an instrument and session.
        moved: `moved_spans`.
    """
    if moved.is_empty():
        return frame
    is_moved = pl.col("instrument").is_in(moved["ticker"].implode())
    rest, touched = frame.filter(~is_moved), frame.filter(is_moved)
    first = moved.group_by("ticker", maintain_order=True).first().select(instrument="ticker", _first="permanent_id")
    names = moved.select("permanent_id", "name").unique()
    found = (
        with_permanent_id(touched, moved)
        .join(first, on="instrument", maintain_order="left")
        .with_columns(_late=pl.col("permanent_id").is_null(), permanent_id=pl.coalesce("permanent_id", "_first"))
        .join(names, on="permanent_id", maintain_order="left")
        .sort("_late", maintain_order=True)
        .unique(["name", "session"], keep="first", maintain_order=True)
        .with_columns(instrument="name")
    )
    return pl.concat([rest, found.select(frame.columns)])


def of_same_instruments(names: Collection[str], moved: pl.DataFrame) -> list[str]:
    """``names``, tickers or names of `one_history`, and all others that their instruments ever had; in order."""
    asked = pl.col("ticker").is_in(list(names)) | pl.col("name").is_in(list(names))
    meant = moved.filter(pl.col("permanent_id").is_in(moved.filter(asked)["permanent_id"].implode()))
    return sorted({*names, *meant["ticker"], *meant["name"]})


def moved_members(members: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """Stays in the universe (instrument, member_from, member_to) under the names of `one_history`.

    A stay told of a ticker is of whoever bore it then, and of before its first bearer's span of that one, as in
    `one_history`.
    """
    if moved.is_empty():
        return members
    is_moved = pl.col("instrument").is_in(moved["ticker"].implode())
    first = pl.col("valid_from") == pl.col("valid_from").min().over("ticker")
    told = moved.with_columns(
        valid_from=pl.when(first & ~pl.col("valid_from").is_null().any().over("ticker"))
        .then(None)
        .otherwise("valid_from")
    )
    parts = (
        members.filter(is_moved)
        .join(told, left_on="instrument", right_on="ticker", maintain_order="left")
        .with_columns(
            instrument="name",
            member_from=pl.max_horizontal("member_from", "valid_from"),
            member_to=pl.min_horizontal("member_to", "valid_to"),
        )
        .filter((pl.col("member_from") <= pl.col("member_to")).fill_null(value=True))
    )
    return pl.concat([members.filter(~is_moved), parts.select(members.columns)])


def _event(ticker: str, day: pl.Expr, *, ends: bool, other: pl.Expr | None = None) -> list[pl.Expr]:
    """A ticker begins on a day, taken from ``other``, or ends with it and goes to ``other``."""
    return [
        pl.col(ticker).cast(pl.String).alias("ticker"), day.cast(pl.Date).alias("day"), pl.lit(ends).alias("ends"),
        (pl.lit(None) if other is None else other).cast(pl.String).alias("other"),
    ]  # fmt: skip


def _check_turns(events: pl.DataFrame) -> None:
    """Beginnings and ends of a ticker must take turns."""
    doubled = events.with_columns(_before=pl.col("day").shift(1).over("ticker")).filter(
        pl.col("ends") == pl.col("ends").shift(1).over("ticker")
    )
    if doubled.is_empty():
        return
    row = doubled.row(0, named=True)
    since = row["_before"] or "the beginning"
    if row["ends"]:
        raise IdentifierConflictError(
            f"ticker {row['ticker']!r} ends on {row['day']}, but nobody has it since {since}: "
            "record who took it in between, or remove one of both ends"
        )
    raise IdentifierConflictError(
        f"ticker {row['ticker']!r} begins on {row['day']}, but another instrument has it since {since}: "
        "record the rename or delisting that freed it"
    )


def _heads(spans: pl.DataFrame) -> IntArray:
    """For each span the row of the first span of its chain of renames."""
    numbered = spans.with_row_index("row")
    ended = numbered.drop_nulls("later").select(
        earlier="ticker", ticker="later", renamed=pl.col("valid_to") + _ONE_DAY, row_before="row"
    )
    begun = numbered.with_columns(renamed=pl.col("valid_from"))
    linked = begun.join(ended, on=["earlier", "ticker", "renamed"], how="left", maintain_order="left")
    heads: IntArray = linked.select(pl.coalesce("row_before", "row").cast(pl.Int64)).to_series().to_numpy()
    # Each round doubles the renames looked back over.
    while not np.array_equal(heads, heads[heads]):
        heads = heads[heads]
    return heads


def _settled(spans: pl.DataFrame) -> pl.DataFrame:
    """Rows of `SPANS_SCHEMA`, each named by the span in row ``head``."""
    begun = pl.col("valid_from").dt.strftime("@%Y-%m-%d").fill_null("")
    names = spans.select(pl.col("ticker") + begun).to_series()
    return (
        spans.with_columns(permanent_id=names.gather(spans["head"]))
        .sort("permanent_id", "valid_from", nulls_last=False)
        .select(SPANS_SCHEMA.names())
        .cast(SPANS_SCHEMA)
    )


def _looked_up(frame: pl.DataFrame, spans: pl.DataFrame, key: tuple[str, str], found: str, day: str) -> pl.DataFrame:
    held, asked = key
    begun = spans.select(
        pl.col(held).alias("_key"), pl.col(found).alias("_found"), pl.col("valid_to").alias("_until"),
        _day=pl.col("valid_from").fill_null(_BEGINNING),
    ).sort("_day")  # fmt: skip
    wanted = frame.select(_key=pl.col(asked).cast(pl.String), _day=pl.col(day).cast(pl.Date)).with_row_index("_row")
    answers = (
        wanted.drop_nulls()
        .sort("_day")
        .join_asof(begun, on="_day", by="_key", strategy="backward", check_sortedness=False)
        .filter(pl.col("_until").is_null() | (pl.col("_day") <= pl.col("_until")))
    )
    result = wanted.select("_row").join(answers.select("_row", "_found"), on="_row", how="left", maintain_order="left")
    return frame.with_columns(result["_found"].alias(found))
