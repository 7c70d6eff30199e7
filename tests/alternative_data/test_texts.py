"""Texts: what is refused, when an event counts, and scores that are known no earlier than their text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.alternative_data.schema import NEWS_SCHEMA, POSTS_SCHEMA, SCORES_SCHEMA
from octopus.alternative_data.scores import score_rows, texts_to_score
from octopus.alternative_data.stamps import known_after_date
from octopus.alternative_data.texts import clean_text, text_hash
from octopus.alternative_data.validate import validate_news, validate_posts
from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions

XNYS = Sessions()
T0 = datetime(2022, 12, 27, 15, tzinfo=UTC)


def news(*changes: dict[str, object]) -> pl.DataFrame:
    base = {
        "source": "s", "instrument": "A", "ts": T0, "item_id": "1", "title": "a title", "body": None, "url": None,
        "publisher": None, "synthetic": False, "hindsight": True, "text_hash": text_hash("a title"), "known_at": T0,
        "known_at_imputed": True,
    }  # fmt: skip
    return pl.DataFrame([base | change for change in changes], schema=NEWS_SCHEMA)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": " \n"}, "the title is empty"),
        ({"title": None}, "the title is empty"),
        ({"ts": None}, "the time of publication is missing or unreadable"),
        ({"known_at": T0 - timedelta(seconds=1)}, "known before it was published"),
        ({"known_at": None}, "known before it was published"),
        ({"item_id": ""}, "the item has no id"),
        ({"instrument": None}, "the instrument is missing"),
        ({"ts": T0 + timedelta(days=1), "known_at": T0 + timedelta(days=1)}, "published after it was fetched"),
        ({}, "a second record for the same (source, instrument, ts, item_id)"),
    ],
)
def test_each_defect_has_its_reason(change, reason):
    good, (reject,) = validate_news(news({}, change), now=T0 + timedelta(hours=1))
    assert good.height == 1
    assert (reject.table, reject.reason) == ("news", reason)


def test_posts_are_judged_by_their_body():
    rows = {name: news({})[name] for name in POSTS_SCHEMA if name in NEWS_SCHEMA}
    frame = pl.DataFrame(rows).with_columns(
        author=pl.lit(None, pl.String), upvotes=pl.lit(None, pl.Int64), body=pl.lit("")
    )
    good, (reject,) = validate_posts(frame.select(POSTS_SCHEMA.names()))
    assert good.is_empty()
    assert (reject.table, reject.reason) == ("social_posts", "the body is empty")


@settings(deadline=None)  # the first use of an exchange builds its calendar
@given(st.dates(date(1995, 1, 1), date(2035, 1, 1)), st.sampled_from(["XNYS", "XASX", "XLON", "24/7"]))
def test_an_event_of_a_date_is_first_used_in_the_session_after_it(day, exchange):
    sessions = Sessions(exchange)
    known = known_after_date(day, sessions)
    assert known >= datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=23)
    (used,) = sessions.session_of(pd.DatetimeIndex([known]))
    assert used.astype(object) == sessions.next(day)


def test_by_hand():
    assert known_after_date(date(2022, 12, 27), XNYS) == datetime(2022, 12, 27, 23, 59, 59, 999999, tzinfo=UTC)
    assert XNYS.session_of(pd.DatetimeIndex([known_after_date(date(2022, 12, 24), XNYS)]))[0].astype(object) == date(
        2022, 12, 27
    )


def test_copies_that_differ_in_spaces_or_entities_are_one_text():
    assert text_hash("AT&amp;T  wins\n") == text_hash("AT&T wins")
    assert text_hash("a", "b") != text_hash("ab")
    assert text_hash("a", None) != text_hash("a")
    assert clean_text(None) == ""


def test_each_distinct_text_is_scored_once():
    items = news({}, {"item_id": "2"}, {"item_id": "3", "title": "other", "body": "more", "text_hash": "h3"})
    assert texts_to_score(items) == {text_hash("a title"): "a title", "h3": "other. more"}
    assert texts_to_score(items, scored=frozenset({"h3"})) == {text_hash("a title"): "a title"}
    rows = score_rows(items, {text_hash("a title"): 0.5}, "m-1", "news")
    assert rows.schema == SCORES_SCHEMA
    assert rows.select("item_id", "score").rows() == [("1", 0.5), ("2", 0.5)]


def test_a_score_is_known_when_its_text_was_and_carries_its_flags():
    later = T0 + timedelta(days=1)
    items = news(
        {"known_at": later}, {"item_id": "2", "synthetic": True, "hindsight": False, "known_at_imputed": False}
    )
    rows = score_rows(items, {text_hash("a title"): -1.0}, "m-1", "news")
    assert rows["known_at"].to_list() == [later, T0]
    assert rows["hindsight"].to_list() == [True, False]
    assert rows["synthetic"].to_list() == [False, True]
    assert rows["known_at_imputed"].to_list() == [True, False]


@pytest.mark.parametrize("score", [1.5, -1.01, float("nan")])
def test_a_score_outside_its_range_is_refused(score):
    with pytest.raises(MissingDataError, match=r"model m-1: score = .* outside \[-1, 1\]"):
        score_rows(news({}), {text_hash("a title"): score}, "m-1", "news")


def test_no_items_give_no_rows():
    assert score_rows(news(), {}, "m-1", "news").schema == SCORES_SCHEMA
