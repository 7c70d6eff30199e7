"""Tickers and instruments: on recorded map files, by hand, and over made-up histories of renames."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lean_data import daily, maps

from octopus.core.sessions import Sessions
from octopus.market_data.identifiers import (
    SPANS_SCHEMA,
    IdentifierConflictError,
    actions_of_spans,
    check_spans,
    known_spans,
    moved_members,
    moved_spans,
    one_history,
    spans_as_of,
    spans_of_actions,
    spans_of_maps,
    with_permanent_id,
    with_ticker,
)
from resources.warehouse import identifiers
from resources.warehouse.connection import connect
from resources.warehouse.store import Warehouse

FIRST = date(2020, 1, 1)
DAYS = 40


def facts(*rows: tuple[str, date, str, str | None]) -> pl.DataFrame:
    schema = {"instrument": pl.String, "session": pl.Date, "kind": pl.String, "detail": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def listed(*rows: tuple[str, date | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"instrument": pl.String, "listed": pl.Date}, orient="row")


def renamed(old: str, day: date, new: str) -> tuple[str, date, str, str | None]:
    return old, day, "symbol_change", new


def delisted(ticker: str, day: date) -> tuple[str, date, str, str | None]:
    return ticker, day, "delisting", None


def who(spans: pl.DataFrame, ticker: str, *days: date) -> list[str | None]:
    frame = pl.DataFrame({"instrument": [ticker] * len(days), "session": days})
    return with_permanent_id(frame, spans)["permanent_id"].to_list()


# recorded map files --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(test_data: Path) -> pl.DataFrame:
    return spans_of_maps(maps(test_data))


@pytest.mark.testdata
def test_goog_was_the_class_a_share_and_is_the_class_c_share(recorded):
    days = date(2014, 4, 2), date(2014, 4, 3)
    assert who(recorded, "GOOG", *days) == ["GOOG@2004-08-19", "GOOCV@2014-03-27"]
    assert who(recorded, "GOOCV", *days) == ["GOOCV@2014-03-27", None]
    assert who(recorded, "GOOGL", *days) == [None, "GOOG@2004-08-19"]
    asked = pl.DataFrame({"permanent_id": ["GOOCV@2014-03-27"] * 2, "session": days})
    assert with_ticker(asked, recorded)["ticker"].to_list() == ["GOOCV", "GOOG"]


@pytest.mark.testdata
def test_a_ticker_that_another_company_took_over_is_another_instrument(recorded):
    assert who(recorded, "FB", date(2003, 3, 28), date(2003, 3, 29), date(2012, 5, 18)) == [
        "FB@1999-09-29", None, "FB@2012-05-18",
    ]  # fmt: skip
    assert who(recorded, "TWX", date(2001, 1, 11), date(2001, 1, 12), date(2003, 10, 16), date(2018, 6, 16)) == [
        "TWX@1998-01-02", None, "AOL@1998-01-02", None,
    ]  # fmt: skip


@pytest.mark.testdata
def test_an_instrument_may_come_back_to_its_first_ticker(recorded):
    days = [date(2004, 11, 30), date(2004, 12, 1), date(2011, 3, 23)]
    asked = pl.DataFrame({"permanent_id": "QQQ@1999-03-10", "session": days})
    assert with_ticker(asked, recorded)["ticker"].to_list() == ["QQQ", "QQQQ", "QQQ"]


@pytest.mark.testdata
def test_bars_filed_under_tickers_become_histories_of_instruments(recorded, test_data):
    """uw, wmi and wm are one company; what wm.zip holds of the years before belongs to nobody here."""
    files = {name: daily(test_data, name) for name in ("uw", "wmi", "wm")}
    bars = pl.concat([frame.with_columns(instrument=pl.lit(name.upper())) for name, frame in files.items()])
    known = with_permanent_id(bars, recorded)
    own = known.filter(permanent_id="UW@1998-01-02").sort("session")
    assert own["session"].is_duplicated().sum() == 0
    assert (own["session"][0], own["session"][-1]) == (date(1998, 1, 2), date(2021, 3, 31))
    assert own["session"].diff().dt.total_days().max() <= 7
    # No jump where it changes files.
    renamed_on = own["session"].is_in([date(1998, 7, 17), date(2009, 8, 5)])
    moves = own["close"].pct_change().filter(renamed_on)
    assert len(moves) == 2
    assert moves.abs().max() < 0.04
    foreign = known.filter(pl.col("permanent_id").is_null())
    assert foreign["instrument"].unique().to_list() == ["WM"]
    assert foreign["session"].max() <= date(2009, 8, 4)


@pytest.mark.testdata
def test_recorded_renames_are_invertible(recorded):
    check_spans(recorded)
    assert spans_of_actions(*actions_of_spans(recorded)).equals(recorded)


# by hand -------------------------------------------------------------------------------------------------------------


def test_a_ticker_without_a_beginning_is_older_than_all_that_is_known():
    spans = spans_of_actions(facts(renamed("FB", date(2022, 6, 9), "META")), listed(("FB", None), ("KO", None)))
    assert spans.rows() == [
        ("FB", "FB", None, date(2022, 6, 8)), ("FB", "META", date(2022, 6, 9), None), ("KO", "KO", None, None),
    ]  # fmt: skip
    assert who(spans, "META", date(2022, 6, 8), date(2030, 1, 1)) == [None, "FB"]


def test_a_new_ticker_that_the_vendor_lists_without_a_date_is_no_second_instrument():
    """Vendors list today's tickers, renamed ones among them."""
    spans = spans_of_actions(facts(renamed("FB", date(2022, 6, 9), "META")), listed(("META", None)))
    assert spans["permanent_id"].to_list() == ["FB", "FB"]


def test_two_instruments_may_exchange_tickers_on_a_day():
    day = date(2020, 3, 2)
    spans = spans_of_actions(facts(renamed("A", day, "B"), renamed("B", day, "A")), listed(("A", FIRST), ("B", FIRST)))
    assert who(spans, "A", day - timedelta(1), day) == ["A@2020-01-01", "B@2020-01-01"]
    assert who(spans, "B", day - timedelta(1), day) == ["B@2020-01-01", "A@2020-01-01"]


def test_a_delisting_ends_with_its_session():
    spans = spans_of_actions(facts(delisted("A", date(2020, 3, 2))), listed(("A", date(2020, 1, 6))))
    assert who(spans, "A", date(2020, 1, 5), date(2020, 3, 2), date(2020, 3, 3)) == [None, "A@2020-01-06", None]


def test_rows_keep_their_order_and_missing_values_find_nobody():
    spans = spans_of_actions(facts(), listed(("A", None), ("B", date(2020, 2, 1))))
    frame = pl.DataFrame(
        {"symbol": ["B", None, "A", "B", "A"], "day": [date(2020, 2, 1), FIRST, None, date(2020, 1, 31), FIRST]}
    )
    found = with_permanent_id(frame, spans, ticker="symbol", day="day")
    assert found["permanent_id"].to_list() == ["B@2020-02-01", None, None, None, "A"]
    assert found.drop("permanent_id").equals(frame)


@pytest.mark.parametrize(
    ("actions", "listings", "said"),
    [
        ((renamed("A", date(2020, 2, 3), "B"),), (("A", FIRST), ("B", FIRST)), "'B' begins on 2020-02-03, but another"),
        ((), (("A", FIRST), ("A", date(2021, 1, 1))), "'A' begins on 2021-01-01, but another"),
        ((delisted("A", date(2020, 2, 3)), delisted("A", date(2020, 2, 5))), (), "'A' ends on 2020-02-05, but nobody"),
    ],
)
def test_contradictions_are_refused_by_name_and_day(actions, listings, said):
    with pytest.raises(IdentifierConflictError, match=said):
        spans_of_actions(facts(*actions), listed(*listings))


def test_overlapping_spans_are_refused():
    rows = [("A", "X", None, date(2020, 2, 1)), ("B", "X", date(2020, 2, 1), None)]
    with pytest.raises(IdentifierConflictError, match="ticker 'X' belongs to 'A' and to 'B' on 2020-02-01"):
        check_spans(pl.DataFrame(rows, schema=SPANS_SCHEMA, orient="row"))


# made-up histories ---------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.integers(1, DAYS - 1), st.sampled_from(["list", "rename", "delist"]), st.integers(0, 99)), max_size=30
)


def play(moves: list[tuple[int, str, int]]) -> tuple[pl.DataFrame, pl.DataFrame, list[tuple[int, int, str]]]:
    """Actions, listings and the truth: day, instrument and ticker, of instruments that are listed, renamed and gone."""
    alive: dict[int, str] = {0: "T0"}
    actions, listings, truth = [], [("T0", FIRST)], [(0, 0, "T0")]
    born = 1
    for day in range(1, DAYS):
        today = FIRST + timedelta(days=day)
        touched: set[str] = set()
        dead: list[int] = []
        for _, move, pick in sorted(one for one in moves if one[0] == day):
            free = [name for name in (f"T{i}" for i in range(5)) if name not in alive.values() and name not in touched]
            still = [one for one in sorted(alive) if alive[one] not in touched]
            if move == "list" and free:
                alive[born], born = free[pick % len(free)], born + 1
                listings.append((alive[born - 1], today))
                touched.add(alive[born - 1])
            elif move == "rename" and free and still:
                one = still[pick % len(still)]
                new = free[pick % len(free)]
                actions.append(renamed(alive[one], today, new))
                touched |= {alive[one], new}
                alive[one] = new
            elif move == "delist" and still:
                one = still[pick % len(still)]
                actions.append(delisted(alive[one], today))
                touched.add(alive[one])
                dead.append(one)
        truth += [(day, one, name) for one, name in alive.items()]
        for one in dead:
            del alive[one]
    return facts(*actions), listed(*listings), truth


@settings(max_examples=120, deadline=None)
@given(moves=steps)
def test_every_day_of_every_history_is_found_again(moves):
    actions, listings, truth = play(moves)
    spans = spans_of_actions(actions, listings)
    check_spans(spans)
    held = pl.DataFrame(truth, schema=["day", "one", "instrument"], orient="row").with_columns(
        session=pl.lit(FIRST) + pl.duration(days="day")
    )
    known = with_permanent_id(held, spans)
    assert known["permanent_id"].null_count() == 0
    # One id for one instrument, however often it was renamed, and the other way round.
    assert known.group_by("one").agg(pl.col("permanent_id").n_unique())["permanent_id"].eq(1).all()
    assert known["permanent_id"].n_unique() == known["one"].n_unique()
    assert with_ticker(known, spans)["ticker"].equals(held["instrument"].rename("ticker"))
    # Nobody else has any ticker on any day.
    every = pl.DataFrame({"instrument": [f"T{i}" for i in range(5)]}).join(held.select("session").unique(), how="cross")
    assert with_permanent_id(every, spans)["permanent_id"].count() == len(held)


@settings(max_examples=120, deadline=None)
@given(moves=steps)
def test_renames_are_invertible(moves):
    actions, listings, _ = play(moves)
    spans = spans_of_actions(actions, listings)
    again, begun = actions_of_spans(spans)
    order = ["session", "instrument"]
    assert again.sort(order).equals(actions.sort(order))
    assert begun.sort("instrument", "listed").equals(listings.sort("instrument", "listed"))
    assert spans_of_actions(again, begun).equals(spans)


# one history for an instrument ---------------------------------------------------------------------------------------


def known(*rows: tuple[str, date, str, str | None]) -> pl.DataFrame:
    """Facts that were known on their morning."""
    return facts(*rows).with_columns(known_at=pl.col("session").cast(pl.Datetime("us", "UTC")))


NOTHING = pl.DataFrame(schema={"instrument": pl.String, "listed": pl.Date, "known_at": pl.Datetime("us", "UTC")})
GOOGLE = (renamed("GOOG", date(2014, 4, 3), "GOOGL"), renamed("GOOCV", date(2014, 4, 3), "GOOG"))


def instant(*day: int) -> datetime:
    return datetime(*day, tzinfo=UTC)  # type: ignore[arg-type]


def test_a_permanent_id_is_the_first_ticker_and_does_not_move():
    """As told before the change, and after: GOOG is the class A share throughout, GOOCV the class C share."""
    told = known_spans(known(*GOOGLE), ["GOOG", "GOOGL", "GOOCV", "AAPL"], NOTHING)
    assert set(told["permanent_id"]) == {"GOOG", "GOOCV", "AAPL"}
    before, after = spans_as_of(told, instant(2014, 4, 2)), spans_as_of(told, instant(2014, 4, 3))
    assert before.rows() == [("AAPL", "AAPL", None, None), ("GOOCV", "GOOCV", None, None), ("GOOG", "GOOG", None, None)]
    assert who(after, "GOOG", date(2014, 4, 2), date(2014, 4, 3)) == ["GOOG", "GOOCV"]
    assert moved_spans(before).is_empty()
    assert dict(moved_spans(after).select("permanent_id", "name").iter_rows()) == {"GOOG": "GOOGL", "GOOCV": "GOOG"}


def test_a_ticker_that_comes_back_is_another_instrument_and_the_dead_one_keeps_its_id():
    came = pl.DataFrame([("OLD", date(2015, 3, 2), instant(2015, 3, 2))], schema=NOTHING.schema, orient="row")
    told = known_spans(known(delisted("OLD", date(2010, 5, 4))), ["OLD"], came)
    moved = moved_spans(spans_as_of(told, instant(2020, 1, 1)))
    assert moved.select("permanent_id", "name").rows() == [("OLD", "OLD until 2010-05-04"), ("OLD@2015-03-02", "OLD")]
    frame = pl.DataFrame({"instrument": ["OLD", "OLD"], "session": [date(2010, 5, 4), date(2015, 3, 2)]})
    assert one_history(frame, moved)["instrument"].to_list() == ["OLD until 2010-05-04", "OLD"]
    members = pl.DataFrame({"instrument": ["OLD"], "member_from": [date(2005, 1, 3)], "member_to": [None]},
                           schema_overrides={"member_to": pl.Date})  # fmt: skip
    stays = moved_members(members, moved)
    assert stays.rows() == [
        ("OLD until 2010-05-04", date(2005, 1, 3), date(2010, 5, 4)), ("OLD", date(2015, 3, 2), None),
    ]  # fmt: skip


def test_a_history_told_by_its_latest_ticker_is_the_first_bearers():
    """A vendor gives META's bars from before it was called so, another gives them as FB's: each day once."""
    moved = moved_spans(spans_as_of(
        known_spans(known(renamed("FB", date(2022, 6, 9), "META")), ["FB", "META"], NOTHING), instant(2023, 1, 1)
    ))  # fmt: skip
    days = [date(2022, 6, 7), date(2022, 6, 8), date(2022, 6, 9)]
    frame = pl.DataFrame({
        "instrument": ["META", "META", "META", "FB", "KO"], "session": [*days, days[1], days[1]],
        "close": [1.0, 2.0, 3.0, 20.0, 60.0],
    })  # fmt: skip
    joined = one_history(frame, moved).sort("instrument", "session")
    assert joined.rows() == [
        ("KO", days[1], 60.0), ("META", days[0], 1.0), ("META", days[1], 20.0), ("META", days[2], 3.0),
    ]  # fmt: skip


@pytest.mark.testdata
def test_googles_classes_have_one_history_each_in_a_panel(database_url: str, test_data: Path):
    """Recorded bars and the changes of April 2014, stored, built and read back: no jump where names passed on."""
    days = pl.col("session").dt.year() == 2014
    bars = pl.concat([daily(test_data, name).filter(days).with_columns(instrument=pl.lit(name.upper()))
                      for name in ("goog", "googl", "goocv", "aapl")])  # fmt: skip
    store_google(database_url, bars)
    warehouse = Warehouse(database_url)
    found = identifiers.refresh(warehouse, "lean")
    assert found.filter(permanent_id="GOOCV")["ticker"].to_list() == ["GOOCV", "GOOG"]
    early, late = (warehouse.panel("lean", instant(2014, *day, 23), Sessions()) for day in ((4, 2), (4, 8)))
    assert early.symbols == ("AAPL", "GOOCV", "GOOG")
    assert late.symbols == ("AAPL", "GOOG", "GOOGL")
    row = late.at(date(2014, 4, 3))
    classes = late.close[row - 1 : row + 1, 1:]
    assert classes.tolist() == [[pytest.approx(567.0), pytest.approx(1135.1)],
                                [pytest.approx(569.74), pytest.approx(571.5)]]  # fmt: skip
    # Each class A share brought one of class C, worth its close.
    assert late.total_return[row, 1] == pytest.approx(569.74 / 567.0 - 1)
    assert late.total_return[row, 2] == pytest.approx((571.5 + 569.74) / 1135.1 - 1)
    assert late.member[row - 1 : row + 1].all()
    # Building again with nothing new stores nothing.
    assert warehouse.scalar("select count(*) from ops.identifiers") == len(identifiers.refresh(warehouse, "lean"))


def store_google(url: str, bars: pl.DataFrame) -> None:
    """Rows of marts.prices and marts.universe as dbt builds them, and the raw rows that identifiers follow from."""
    opened = datetime(2014, 4, 3, 13, 30, tzinfo=UTC)
    with connect(url) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute(
            "create table marts.prices (source text, instrument text, session date, open float8, high float8,"
            " low float8, close float8, volume float8, split_ratio float8, dividend float8, spin_off float8,"
            " price_basis text, known_from timestamptz, known_to timestamptz)"
        )
        connection.execute(
            "create table marts.universe (source text, instrument text, member_from date, member_to date,"
            " known_from timestamptz, known_to timestamptz)"
        )
        connection.execute("grant usage on schema marts to octopus_research")
        connection.execute("grant select on all tables in schema marts to octopus_research")
        rows = [(name, day, close, 569.74 if (name, day) == ("GOOGL", date(2014, 4, 3)) else 0.0,
                 datetime(day.year, day.month, day.day, 21, tzinfo=UTC))
                for day, close, name in bars.select("session", "close", "instrument").iter_rows()]  # fmt: skip
        connection.cursor().executemany(
            "insert into marts.prices values ('lean', %s, %s, null, null, null, %s, null, 1, 0, %s, 'raw', %s, null)",
            rows,
        )
        for name in bars["instrument"].unique():
            connection.execute(
                "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis,"
                " known_at, known_at_imputed, ingested_at, batch_id)"
                " values ('lean', %s, '2004-08-19', 'XNYS', 'USD', 'equity', 'raw', '2004-08-19', false, now(), 1)",
                [name],
            )
            connection.execute("insert into marts.universe values ('lean', %s, null, null, '2004-08-19', null)", [name])
        for old, _, kind, new in GOOGLE:
            connection.execute(
                "insert into raw.corporate_actions (source, instrument, ts, session, kind, value, detail, known_at,"
                " known_at_imputed, ingested_at, batch_id) values ('lean', %s, %s, %s, %s, 1, %s, %s, false, now(), 2)",
                [old, opened, opened.date(), kind, new, opened],
            )
