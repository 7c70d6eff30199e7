"""What of a source's history is missing, and what of an answer is."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.sessions import Calendars, Sessions
from octopus.market_data.coverage import (
    COVERAGE_SCHEMA,
    HOLES_SCHEMA,
    Window,
    first_sight,
    known_from_first_sight,
    missing,
    unanswered,
    windows,
)

XNYS = Sessions()
CALENDARS = Calendars(XNYS, {"BTC": "24/7"})
HISTORY, TODAY = date(2015, 1, 2), date(2022, 12, 28)
NOTHING = COVERAGE_SCHEMA.to_frame()


def covered(*rows: tuple[str, date, date, date | None, date | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=COVERAGE_SCHEMA, orient="row")


def holes(*rows: tuple[str, date]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=HOLES_SCHEMA, orient="row")


def bars(**days: list[date]) -> pl.DataFrame:
    rows = [(name, day) for name, own in days.items() for day in own]
    return pl.DataFrame(rows, schema=HOLES_SCHEMA, orient="row")


def days(first: date, last: date, own: Sessions = XNYS) -> list[date]:
    return own.between(first, last).astype(object).tolist()


def asked(names: list[str], known: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    return missing(names, known, gaps, history_start=HISTORY, session=TODAY, refetch=10, sessions=XNYS)


def whole(name: str, to: date = date(2022, 12, 27)) -> tuple[str, date, date, date, date]:
    return name, HISTORY, to, HISTORY, to


def test_each_instrument_is_asked_for_from_where_it_is_missing_and_batches_stay_batches() -> None:
    known = covered(
        whole("AAPL"), whole("KO"), whole("GAP1"), whole("GAP2"), whole("WAITED", date(2022, 12, 20)),
        ("LATE", date(2022, 12, 13), date(2022, 12, 27), date(2022, 12, 13), date(2022, 12, 27)),
    )  # fmt: skip
    names = ["KO", "AAPL", "NEW", "GAP1", "GAP2", "LATE", "WAITED"]
    found = asked(
        names, known, holes(("GAP1", date(2019, 3, 5)), ("GAP2", date(2019, 8, 1)), ("KO", date(2022, 12, 20)))
    )
    assert windows(found) == [
        Window(HISTORY, ("LATE", "NEW")),
        Window(date(2019, 3, 5), ("GAP1", "GAP2")),
        Window(date(2022, 12, 7), ("WAITED",)),
        Window(date(2022, 12, 13), ("AAPL", "KO")),
    ]
    why = dict(found.select("instrument", "why").iter_rows())
    assert why["NEW"] == "it was never asked for"
    assert why["LATE"] == "its history before 2022-12-13 was never asked for"
    assert why["GAP2"] == "a gap at 2019-08-01"
    assert why["KO"] == "what came since 2022-12-27, and 10 sessions again", "that gap lies in what is asked for anyway"


def test_a_session_of_the_past_is_never_left_out() -> None:
    found = missing(
        ["AAPL", "NEW"], covered(whole("AAPL")), HOLES_SCHEMA.to_frame(), history_start=HISTORY,
        session=date(2014, 6, 2), refetch=0, sessions=XNYS,
    )  # fmt: skip
    assert found["start"].to_list() == [date(2014, 6, 2)] * 2


def test_at_the_beginning_of_the_calendar_there_are_fewer_sessions_to_ask_for_again() -> None:
    begin = date(1990, 1, 2)
    found = missing(
        ["A"], covered(("A", begin, date(1990, 1, 5), begin, date(1990, 1, 5))), HOLES_SCHEMA.to_frame(),
        history_start=begin, session=date(1990, 1, 8), refetch=10, sessions=XNYS,
    )  # fmt: skip
    assert found["start"].to_list() == [begin]


def test_a_gap_lies_between_bars_of_the_instruments_own_calendar() -> None:
    first, last = date(2022, 12, 1), date(2022, 12, 20)
    own = days(first, last)
    answer = bars(
        FULL=own, GAP=[day for day in own if day != date(2022, 12, 8)], LISTED=own[5:], GONE=own[:5],
        BTC=[day for day in days(first, last, Sessions("24/7")) if day != date(2022, 12, 10)],
    )  # fmt: skip
    names = ["FULL", "GAP", "LISTED", "GONE", "BTC", "NOBODY"]
    assert unanswered(names, first, last, answer, NOTHING, CALENDARS).rows() == [
        ("BTC", date(2022, 12, 10), True), ("GAP", date(2022, 12, 8), True), ("NOBODY", date(2022, 12, 1), True),
    ]  # fmt: skip


def test_what_lies_in_a_silence_that_is_over_has_become_a_gap() -> None:
    known = covered(("A", HISTORY, date(2022, 12, 20), HISTORY, date(2022, 12, 1)))
    found = unanswered(["A"], date(2022, 12, 7), TODAY, bars(A=days(date(2022, 12, 9), TODAY)), known, CALENDARS)
    assert found.rows() == [
        *(("A", day, False) for day in days(date(2022, 12, 2), date(2022, 12, 6))),
        ("A", date(2022, 12, 7), True), ("A", date(2022, 12, 8), True),
    ]  # fmt: skip
    still = unanswered(["A"], date(2022, 12, 7), TODAY, bars(), known, CALENDARS)
    assert still.is_empty(), "until it speaks again it may have ended"


def test_who_has_no_bar_yet_leaves_no_mark_each_day() -> None:
    known = covered(("IPO", HISTORY, date(2022, 12, 27), None, None))
    assert unanswered(["IPO"], date(2022, 12, 13), TODAY, bars(), known, CALENDARS).is_empty()


CALENDAR = days(date(2022, 10, 3), date(2022, 12, 28))


@given(st.sets(st.sampled_from(CALENDAR), min_size=2), st.sampled_from(CALENDAR))
def test_bars_and_gaps_together_are_the_calendar(held: set[date], start: date) -> None:
    answer = sorted(day for day in held if day >= start)
    stored = sorted(day for day in held if day < start)
    known = covered(("A", CALENDAR[0], start - timedelta(days=1), stored[0], stored[-1])) if stored else NOTHING
    found = unanswered(["A"], start, CALENDAR[-1], bars(A=answer), known, CALENDARS)["session"].to_list()
    since = stored[-1] if stored else answer[0]
    until = answer[-1] if answer else since
    assert sorted({*found, *answer, since}) == days(since, until)


def test_a_coins_day_that_ends_after_the_decision_is_not_late_and_one_that_was_missing_is() -> None:
    first, second, third = date(2022, 12, 19), date(2022, 12, 20), date(2022, 12, 21)
    before = covered(("BTC", first, second, first, first), ("NEW", first, second, None, None))
    coin = Sessions("24/7")
    ends = [coin.close_utc(day) for day in (first, second, third)]
    rows = pl.DataFrame(
        {
            "instrument": ["BTC"] * 3 + ["NEW"] * 3, "session": [first, second, third] * 2, "known_at": ends * 2,
            "known_at_imputed": True,
        },
        schema_overrides={"known_at": pl.Datetime("us", "UTC")},
    )  # fmt: skip
    decided = XNYS.decision_utc(third)
    found = known_from_first_sight(rows, first_sight(before, third, XNYS, decided + timedelta(hours=1)))
    assert found["known_at"].to_list() == [decided, *ends[1:], *ends], "at its decision nobody had the 20th"
