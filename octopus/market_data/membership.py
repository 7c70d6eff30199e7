"""When an instrument belonged to the universe: from lists of constituents to spans, and from spans to a mask.

Belongs here: turning one form of membership into another. Does not: storing spans (raw.instruments has one row for
each, whose ``ts`` is its beginning), or deciding what happens to a position whose instrument leaves (octopus/backtest).

A list says who belongs, hence also who does not: it holds until the next one. Nobody is a member before the first
list, for whoever is on it may have come the day before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray

SPANS_SCHEMA = pl.Schema({"instrument": pl.String(), "member_from": pl.Date(), "member_to": pl.Date()})
"""First and last session of each stay, by instrument and time; null: open. Who comes back has a second row."""


def membership_spans(lists: pl.DataFrame, sessions: DateArray) -> pl.DataFrame:
    """Stays from complete lists of constituents.

    Args:
        lists: session, instrument; a row for each constituent of each list, in any order. A list of a day that is no
            session counts from the next one. A session without a list keeps the one before.
        sessions: of the exchange, ascending, over all lists.

    Returns:
        `SPANS_SCHEMA`; whoever is on the last list is still a member.

    Raises:
        MissingDataError: a list lies outside ``sessions``.
    """
    days = np.unique(lists["session"].to_numpy().astype("datetime64[D]"))
    if not len(days):
        return SPANS_SCHEMA.to_frame()
    rows: IntArray = np.searchsorted(sessions, days)
    if rows[-1] == len(sessions) or days[0] < sessions[0]:
        outside = days[-1] if rows[-1] == len(sessions) else days[0]
        held = f"{sessions[0]}..{sessions[-1]}" if len(sessions) else "none"
        raise MissingDataError(f"the list of {outside} lies outside the sessions ({held}); give a longer calendar")
    # The last list of those that begin with one session counts.
    last = np.append(rows[1:] != rows[:-1], True)
    days, rows = days[last], rows[last]
    order = pl.DataFrame(
        {
            "session": days.astype("datetime64[D]"), "place": np.arange(len(days)), "member_from": sessions[rows],
            "member_to": np.append(sessions[rows[1:] - 1], np.datetime64("NaT", "D")),
        }
    ).with_columns(pl.col("session", "member_from", "member_to").cast(pl.Date))  # fmt: skip
    stays = (
        lists.select("instrument", pl.col("session").cast(pl.Date))
        .unique()
        .join(order, on="session")
        .sort("instrument", "place")
        .with_columns(_back=(pl.col("place").diff() != 1).fill_null(value=True).over("instrument"))
        .with_columns(_stay=pl.col("_back").cum_sum().over("instrument"))
    )
    return (
        stays.group_by("instrument", "_stay", maintain_order=True)
        .agg(pl.col("member_from").first(), pl.col("member_to").last())
        .select(SPANS_SCHEMA.names())
        .cast(SPANS_SCHEMA)
    )


def ended_at_delistings(spans: pl.DataFrame, delistings: pl.DataFrame) -> pl.DataFrame:
    """Stays that end, at the latest, with the first delisting after their beginning.

    Args:
        spans: `SPANS_SCHEMA`. delistings: instrument, session (the last one); an instrument that comes back under the
            same name may have several.
    """
    gone = delistings.select("instrument", _gone=pl.col("session").cast(pl.Date)).sort("_gone")
    began = spans.with_row_index("_row").with_columns(_began=pl.col("member_from").fill_null(date(1, 1, 1)))
    joined = began.sort("_began").join_asof(
        gone, left_on="_began", right_on="_gone", by="instrument", strategy="forward", check_sortedness=False
    )
    return (
        joined.sort("_row").with_columns(member_to=pl.min_horizontal("member_to", "_gone")).select(SPANS_SCHEMA.names())
    )


def delisting_values(delistings: pl.DataFrame, sessions: DateArray, symbols: Sequence[str]) -> FloatArray:
    """Last cash for one share, on the session of the delisting; NaN elsewhere, shape (T, N).

    Args:
        delistings: instrument, session, value, as in actions of kind ``delisting``; instruments beside ``symbols`` and
            days beside ``sessions`` are passed over.
    """
    values = np.full((len(sessions), len(symbols)), np.nan)
    columns = pl.DataFrame({"instrument": list(symbols), "column": range(len(symbols))}, schema_overrides=_COLUMN)
    held = delistings.join(columns, on="instrument", maintain_order="left")
    days = held["session"].to_numpy().astype("datetime64[D]")
    rows = np.searchsorted(sessions, days)
    inside = np.isin(days, sessions)
    values[rows[inside], held["column"].to_numpy()[inside]] = held["value"].to_numpy()[inside]
    return values


def membership_mask(spans: pl.DataFrame, sessions: DateArray, symbols: Sequence[str]) -> BoolArray:
    """Who is a member when, shape (T, N).

    Args:
        spans: `SPANS_SCHEMA`, in any order; stays may overlap. Instruments beside ``symbols`` are passed over.
        sessions: ascending, shape (T,). symbols: length N.
    """
    columns = pl.DataFrame({"instrument": list(symbols), "column": range(len(symbols))}, schema_overrides=_COLUMN)
    held = spans.join(columns, on="instrument", maintain_order="left")
    begun, ended = (held[name].to_numpy().astype("datetime64[D]") for name in ("member_from", "member_to"))
    first = np.where(np.isnat(begun), 0, np.searchsorted(sessions, begun))
    after = np.where(np.isnat(ended), len(sessions), np.searchsorted(sessions, ended, side="right"))
    column, inside = held["column"].to_numpy(), first < after
    turns = np.zeros((len(sessions) + 1, len(symbols)), dtype=np.int64)
    np.add.at(turns, (first[inside], column[inside]), 1)
    np.add.at(turns, (after[inside], column[inside]), -1)
    mask: BoolArray = np.cumsum(turns[:-1], axis=0) > 0
    return mask


_COLUMN = {"instrument": pl.String(), "column": pl.Int64()}
