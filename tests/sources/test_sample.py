"""The sample source: recorded prices inside an installed package, texts of our own."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from octopus.core.errors import SourceUnavailableError
from octopus.core.sessions import Sessions
from octopus.market_data.schema import BARS_SCHEMA, INSTRUMENTS_SCHEMA
from resources.sources.base import whole
from resources.sources.sample import COMPANIES, SampleMarketData, SampleNews, SamplePosts

XNYS = Sessions()
FIRST, LAST = date(1990, 1, 2), date(2022, 12, 28)
ALWAYS = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def data():
    return whole(SampleMarketData().fetch([], FIRST, LAST, XNYS))


def test_every_company_has_a_close_on_every_session(data):
    assert data.bars.schema == BARS_SCHEMA
    assert data.bars.height == 20 * len(XNYS.between(FIRST, LAST)) == 166_260
    assert data.bars.select("open", "high", "low", "volume").null_count().sum_horizontal()[0] == 4 * 166_260
    assert data.actions.is_empty()
    assert data.rejects == []


def test_known_prices_and_instants(data):
    last = data.bars.filter((pl.col("instrument") == "AAPL") & (pl.col("session") == LAST)).row(0, named=True)
    assert last["close"] == 125.674
    assert last["ts"] == datetime(2022, 12, 28, 21, tzinfo=UTC)
    assert last["known_at"] == datetime(2022, 12, 28, 21, 15, tzinfo=UTC)
    half_day = data.bars.filter(pl.col("session") == date(2022, 11, 25))["ts"].unique().to_list()
    assert half_day == [datetime(2022, 11, 25, 18, tzinfo=UTC)]
    decided = XNYS.session_of(pd.DatetimeIndex(data.bars["known_at"].to_pandas()))
    assert (decided == data.bars["session"].to_numpy().astype("datetime64[D]")).all(), "T's bar decides T"


def test_instruments_say_what_they_are(data):
    assert data.instruments.schema == INSTRUMENTS_SCHEMA
    assert data.instruments["name"].to_list() == list(COMPANIES.values())
    assert data.instruments["price_basis"].unique().to_list() == ["total_return"]
    assert data.instruments["member_from"].unique().to_list() == [FIRST]


def test_a_part_is_a_part_of_the_whole(data):
    part = whole(SampleMarketData().fetch(["KO", "BBY", "NOPE"], date(2008, 9, 1), date(2008, 9, 30), XNYS))
    expected = data.bars.filter(
        pl.col("instrument").is_in(["BBY", "KO"]) & pl.col("session").is_between(date(2008, 9, 1), date(2008, 9, 30))
    )
    assert part.bars.equals(expected)
    assert part.instruments["member_from"].to_list() == [FIRST, FIRST]
    (reject,) = part.rejects
    assert "no symbol NOPE" in reject.reason
    assert part.payload_hash == data.payload_hash


def test_a_missing_file_says_where_and_what_to_do(tmp_path):
    with pytest.raises(SourceUnavailableError, match="install skfolio again"):
        whole(SampleMarketData(tmp_path / "gone.csv.gz").fetch([], FIRST, LAST, XNYS))
    with pytest.raises(SourceUnavailableError, match=r"no file .*gone\.csv"):
        SampleNews(tmp_path / "gone.csv").fetch({}, *ALWAYS)


def test_the_heavy_package_is_not_imported():
    code = (
        "import sys; from datetime import date; from resources.sources.sample import *;"
        "next(SampleMarketData().fetch([], date(2022,12,1), date(2022,12,28), Sessions()));"
        "assert not {'skfolio', 'sklearn', 'torch', 'yfinance'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


EVENTS = """event_id,symbol,date,time_utc,headline,source,kind
e1,AAPL,2007-01-09,,Apple presents a telephone,press,product
e2,AAPL,2007-01-09,17:40,Apple presents a telephone at a quarter to ten,press,product
e3,JPM,2008-09-13,,Banks meet on a Saturday,press,crisis
e4,MSFT,2007-01-12,,A Friday before a holiday,press,other
e5,MSFT,someday,,Nobody knows when,press,other
e6,KO,2010-02-01,,   ,press,other
e1,AAPL,2007-01-09,,Apple presents a telephone,press,product
"""


@pytest.fixture
def events(tmp_path) -> SampleNews:
    (tmp_path / "events.csv").write_text(EVENTS)
    return SampleNews(tmp_path / "events.csv")


def test_an_event_counts_from_the_session_after_it(events):
    items = events.fetch({}, *ALWAYS).items
    usable = XNYS.session_of(pd.DatetimeIndex(items["known_at"].to_pandas()))
    first_use = dict(zip(items["item_id"], usable.astype("datetime64[D]").astype(str), strict=True))
    assert first_use == {
        "e1": "2007-01-10",  # Tuesday to Wednesday
        "e2": "2007-01-10",  # also where the hour is known
        "e3": "2008-09-15",  # Saturday to Monday
        "e4": "2007-01-16",  # Friday, a weekend, Martin Luther King's day: Tuesday
    }
    assert (items["known_at"] >= items["ts"]).all()
    assert items["hindsight"].all()
    assert not items["synthetic"].any()


def test_bad_events_are_rejected(events):
    reasons = sorted((r.payload["item_id"], r.reason) for r in events.fetch({}, *ALWAYS).rejects)
    assert reasons == [
        ("e1", "a second record for the same (source, instrument, ts, item_id)"),
        ("e5", "the time of publication is missing or unreadable"),
        ("e6", "the title is empty"),
    ]


def test_events_of_some_names_and_a_window(events):
    found = events.fetch({"JPM": "", "MSFT": ""}, datetime(2008, 1, 1, tzinfo=UTC), ALWAYS[1])
    assert found.items["item_id"].to_list() == ["e3"]


def test_posts_are_synthetic_whatever_the_file_says(tmp_path):
    (tmp_path / "posts.csv").write_text(
        "post_id,symbol,created_at_utc,author,text,synthetic\n"
        "p1,BAC,2009-03-09T15:00:00Z,sample_user_1,the bottom is in,false\n"
        "p2,BAC,yesterday,sample_user_2,no it is not,true\n"
    )
    found = SamplePosts(tmp_path / "posts.csv").fetch({}, *ALWAYS)
    (row,) = found.items.to_dicts()
    assert row["synthetic"]
    assert row["known_at"] == row["ts"] == datetime(2009, 3, 9, 15, tzinfo=UTC)
    assert [reject.payload["item_id"] for reject in found.rejects] == ["p2"]


def test_the_texts_that_ship_are_sound():
    events, posts = SampleNews().fetch(COMPANIES, *ALWAYS), SamplePosts().fetch(COMPANIES, *ALWAYS)
    assert events.rejects == []
    assert posts.rejects == []
    assert events.items.height > 0
    assert posts.items.height > 0
    assert set(events.items["instrument"]) | set(posts.items["instrument"]) <= COMPANIES.keys()
    days = events.items["ts"].dt.date().to_numpy().astype("datetime64[D]")
    usable = XNYS.session_of(pd.DatetimeIndex(events.items["known_at"].to_pandas()))
    assert (usable > days).all()
    calendar = XNYS.between(FIRST, date(2023, 1, 31))
    assert (usable == calendar[np.searchsorted(calendar, days, side="right")]).all()
