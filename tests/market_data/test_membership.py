"""Membership: lists of constituents, stays and masks, and what the warehouse reads back."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from octopus.market_data.membership import SPANS_SCHEMA, ended_at_delistings, membership_mask, membership_spans
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

WEEK = np.array([f"2024-01-{day:02d}" for day in (2, 3, 4, 5, 8, 9, 10, 11, 12)], dtype="datetime64[D]")


def january(day: int) -> date:
    return date(2024, 1, day)


def lists(**members: str) -> pl.DataFrame:
    """One list for each day: ``_3="A B"``."""
    rows = [(january(int(day[1:])), name) for day, names in members.items() for name in names.split()]
    return pl.DataFrame(rows, schema={"session": pl.Date, "instrument": pl.String}, orient="row")


def spans(*rows: tuple[str, date | None, date | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SPANS_SCHEMA, orient="row")


def test_who_leaves_and_comes_back_has_two_stays():
    found = membership_spans(lists(_3="A B", _4="A", _5="A", _8="A B C", _9="A C"), WEEK)
    assert found.rows() == [
        ("A", january(3), None),
        ("B", january(3), january(3)), ("B", january(8), january(8)),
        ("C", january(8), None),
    ]  # fmt: skip


def test_a_list_holds_until_the_next_one():
    """None on the 4th and 5th: B stays until the last session before the list that lacks it."""
    assert membership_spans(lists(_3="A B", _8="A"), WEEK).rows() == [
        ("A", january(3), None), ("B", january(3), january(5)),
    ]  # fmt: skip


def test_a_list_of_a_weekend_counts_from_the_next_session():
    assert membership_spans(lists(_3="B", _6="A", _7="C"), WEEK).rows() == [
        ("B", january(3), january(5)), ("C", january(8), None),
    ]  # fmt: skip


def test_lists_outside_the_calendar_are_refused():
    with pytest.raises(MissingDataError, match="the list of 2024-01-13 lies outside the sessions"):
        membership_spans(lists(_3="A", _13="A"), WEEK)
    with pytest.raises(MissingDataError, match="the list of 2024-01-01 lies outside"):
        membership_spans(lists(_1="A", _3="A"), WEEK)
    assert membership_spans(lists(), WEEK).is_empty()


def test_a_delisting_ends_the_stay_that_it_falls_into():
    stays = spans(("A", None, None), ("B", january(2), january(3)), ("B", january(8), None), ("C", january(9), None))
    gone = pl.DataFrame({"instrument": ["A", "B", "C"], "session": [january(5), january(10), january(4)]})
    assert ended_at_delistings(stays, gone).rows() == [
        ("A", None, january(5)), ("B", january(2), january(3)), ("B", january(8), january(10)), ("C", january(9), None),
    ]  # fmt: skip
    assert ended_at_delistings(stays, gone.clear()).equals(stays)


def test_the_mask_by_hand():
    stays = spans(
        ("A", None, january(3)), ("A", january(10), None), ("B", january(4), january(9)),
        ("B", january(8), january(10)), ("Z", None, None), ("C", january(6), january(7)),
        ("D", date(2023, 1, 1), date(2025, 1, 1)),
    )  # fmt: skip
    mask = membership_mask(stays, WEEK, ("A", "B", "C", "D", "E"))
    assert ["".join("x" if one else "." for one in row) for row in mask.T] == [
        "xx....xxx", "..xxxxx..", ".........", "xxxxxxxxx", ".........",
    ]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6))
def test_lists_spans_and_mask_say_the_same(seed: int, count: int):
    generator = np.random.default_rng(seed)
    member = generator.random((len(WEEK), count)) < 0.6
    member[:, 0] = True  # an empty list is no list
    symbols = tuple(f"S{i}" for i in range(count))
    rows, columns = np.nonzero(member)
    told = pl.DataFrame({"session": WEEK[rows], "instrument": [symbols[i] for i in columns]})
    found = membership_spans(told.sample(fraction=1, shuffle=True, seed=seed), WEEK)
    np.testing.assert_array_equal(membership_mask(found, WEEK, symbols), member)
    assert found.sort("instrument", "member_from").equals(found)


@pytest.mark.testdata
def test_lists_of_spy_as_recorded(test_data: Path):
    """Lean's sample has two lists, of 503 lines each and the same names."""
    folder = test_data / "lean" / "equity" / "usa" / "universes" / "etf" / "spy"
    first, second = (
        pl.DataFrame({"instrument": [line.split(",")[0] for line in path.read_text().splitlines()]}).with_columns(
            session=pl.lit(path.stem).str.to_date("%Y%m%d")
        )
        for path in sorted(folder.glob("*.csv"))
    )
    days = Sessions().between(date(2020, 11, 20), date(2020, 12, 10))
    found = membership_spans(pl.concat([first, second]), days)
    assert len(first) == len(second) == found.height == 503
    assert found.select("member_from", "member_to").unique().rows() == [(date(2020, 11, 30), None)]
    # One name taken off the second list.
    fewer = membership_spans(pl.concat([first, second.filter(pl.col("instrument") != "ALXN")]), days)
    assert fewer.filter(instrument="ALXN").rows() == [("ALXN", date(2020, 11, 30), date(2020, 11, 30))]
    mask = membership_mask(fewer, days, ("AAPL", "ALXN", "NONE"))
    assert mask.sum(axis=0).tolist() == [9, 1, 0]


def test_the_warehouse_reads_several_stays_of_one_instrument(database_url: str):
    """The panel's members are those of the pure mask, and a stay that is not known yet is not seen."""
    known, later = datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 10, tzinfo=UTC)
    stays = [("A", january(3), january(4), known), ("A", january(9), None, later), ("B", None, january(8), known)]
    with psycopg.connect(database_url) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute(
            "create table marts.universe (source text, instrument text, member_from date, member_to date, "
            "known_from timestamptz, known_to timestamptz)"
        )
        connection.cursor().executemany("insert into marts.universe values ('s', %s, %s, %s, %s, null)", stays)
        connection.execute(
            """
            create table marts.prices as
            select 's' as source, instrument, session::date as session, 9.0::float as open, 9.0::float as high,
                9.0::float as low, 9.0::float as close, 1.0::float as volume, 1.0::float as split_ratio,
                0.0::float as dividend, 0.0::float as spin_off, 'raw' as price_basis,
                timestamptz '2024-01-01 00:00+00' as known_from,
                null::timestamptz as known_to
            from unnest(%s::date[]) as session cross join unnest(array['A', 'B']) as instrument
            """,
            [WEEK.tolist()],
        )
    for instant in (known, later):
        panel = Warehouse(database_url, Role.OWNER).panel("s", instant, Sessions())
        seen = spans(*(row[:3] for row in stays if row[3] <= instant))
        np.testing.assert_array_equal(panel.member, membership_mask(seen, WEEK, ("A", "B")))
    assert panel.member[:, 0].tolist() == [False, True, True, False, False, True, True, True, True]
