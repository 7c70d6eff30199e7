"""Which texts repeat another, come in bursts, and say something new: from the past alone."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.alternative_data.bursts import mark_bursts, novelty
from octopus.alternative_data.duplicates import mark_duplicates
from octopus.core.errors import MissingDataError

START = datetime(2024, 1, 2, 15, tzinfo=UTC)
STORY = "Ford cuts 1,100 jobs at its plant in Valencia as it turns to electric cars"


def items(*rows: tuple[str, float, str], author: str | None = None) -> pl.DataFrame:
    """Items as (id, minutes after START, text)."""
    return pl.DataFrame(
        [
            {"source": "s", "instrument": "F", "item_id": name, "known_at": START + timedelta(minutes=minute),
             "text": text, "author": author}
            for name, minute, text in rows
        ],
        schema={"source": pl.String, "instrument": pl.String, "item_id": pl.String,
                "known_at": pl.Datetime("us", "UTC"), "text": pl.String, "author": pl.String},
    )  # fmt: skip


def copies(frame: pl.DataFrame) -> dict[str, bool]:
    marked = mark_duplicates(frame)
    return dict(zip(marked["item_id"], marked["copy"], strict=True))


@pytest.mark.parametrize(
    "again",
    [
        STORY, STORY.upper(), f"RT @somebody: {STORY}", f"{STORY} https://t.co/abc", STORY.replace("electric ", ""),
        "RT @somebody: Ford cuts 1,100 jobs at its plant in Valencia as it turns to…",
    ],
)  # fmt: skip
def test_the_same_news_is_a_copy(again: str):
    assert copies(items(("a", 0, STORY), ("b", 10, again))) == {"a": False, "b": True}


@pytest.mark.parametrize(
    "other",
    [
        STORY.replace("1,100", "2,100"), "Ford recalls 1,100 cars over a faulty seat belt in Valencia",
        "$GM " + STORY,
    ],
)  # fmt: skip
def test_another_number_company_or_story_is_other_news(other: str):
    assert copies(items(("a", 0, STORY), ("b", 10, other)))["b"] is False


def test_after_a_month_the_same_words_are_news_again():
    apart = 60 * 24
    assert copies(items(("a", 0, STORY), ("b", 29 * apart, STORY)))["b"]
    assert not copies(items(("a", 0, STORY), ("b", 31 * apart, STORY)))["b"]


def test_a_republished_id_repeats_itself_and_an_item_of_two_instruments_is_one():
    again = items(("a", 0, STORY), ("a", 10, "Ford ends production of one model in Spain"))
    assert mark_duplicates(again)["copy"].to_list() == [False, True]
    twice = pl.concat([items(("a", 0, STORY)), items(("a", 0, STORY)).with_columns(instrument=pl.lit("GM"))])
    assert mark_duplicates(twice)["copy"].to_list() == [False, False]


def test_nothing_and_what_is_missing():
    assert mark_duplicates(items()).is_empty()
    assert mark_bursts(items()).is_empty()
    assert novelty(items()).is_empty()
    for work in (mark_duplicates, mark_bursts, novelty):
        with pytest.raises(MissingDataError, match="text"):
            work(items(("a", 0, STORY)).drop("text"))


WORDS = ["profit", "rises", "falls", "on", "strong", "weak", "sales", "in", "Europe", "Asia", "5", "7", "$F", "$GM"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=0, max_size=9).map(" ".join)
ROWS = st.lists(st.tuples(st.integers(0, 50_000), TEXTS), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_later_texts_and_the_order_of_rows_change_nothing(rows, random):
    frame = items(*((f"i{place}", minute, text) for place, (minute, text) in enumerate(rows)))
    marks = ["group", "first", "copy", "alike", "burst", "novelty"]

    def marked(some: pl.DataFrame) -> pl.DataFrame:
        found = mark_bursts(mark_duplicates(some)).with_columns(novelty=novelty(some))
        return found.sort("item_id").select("item_id", *marks)

    whole = marked(frame)
    order = list(range(len(frame)))
    random.shuffle(order)
    assert marked(frame[order]).equals(whole)
    cut = sorted(rows)[len(rows) // 2][0]
    # Of one instant all items count for each other, so the cut lies between instants.
    past = frame.filter(pl.col("known_at") <= START + timedelta(minutes=cut))
    assert marked(past).equals(whole.join(past.select("item_id"), on="item_id", how="semi", maintain_order="left"))


def test_a_form_that_is_filled_in_again_and_again_is_a_burst_from_the_fifth_on():
    form = [(f"m{place}", place, f"${name} breaks out, target {place + 10}") for place, name in enumerate("ABCDEF")]
    marked = mark_bursts(items(*form))
    assert marked["alike"].to_list() == [1, 2, 3, 4, 5, 6]
    assert marked["burst"].to_list() == [False] * 4 + [True] * 2
    slow = mark_bursts(items(*((name, 30 * minute, text) for name, minute, text in form)))
    assert not slow["burst"].any()


def test_an_author_who_sends_one_a_minute_is_a_burst_and_an_unknown_one_is_none():
    many = [(f"m{place}", place, f"thought number {'x' * place} of the day {'y' * place}") for place in range(22)]
    assert mark_bursts(items(*many, author="a"))["burst"].to_list() == [False] * 19 + [True] * 3
    assert not mark_bursts(items(*many))["burst"].any()


def test_novelty_counts_pairs_of_words():
    told = items(("a", 0, "one two three"), ("b", 5, "one two four"), ("c", 9, "ONE two three!"), ("d", 10, "   "))
    assert novelty(told).to_list() == [1.0, 0.5, 0.0, 0.0]
    later = items(("a", 0, "one two three"), ("b", 6 * 24 * 60, "one two three"))
    assert novelty(later).to_list() == [1.0, 1.0], "after five days the same is new"


def test_recorded_retweets_are_found(test_data: Path):
    with gzip.open(test_data / "tweets_stocknet.csv.gz") as file:
        tweets = pl.read_csv(file.read(), infer_schema=False, n_rows=6_000)
    frame = tweets.unique("tweet_hash", maintain_order=True).select(
        source=pl.lit("x"), instrument="symbol", item_id="tweet_hash", text="text", of="rt_of_hash",
        known_at=pl.col("created_at").str.to_datetime(time_zone="UTC"),
    )  # fmt: skip
    marked = mark_duplicates(frame).filter(pl.col("of").is_not_null() & (pl.col("of") != ""))
    known_before = pl.col("known_at") > pl.col("known_at").min().over("of")
    again = marked.filter(known_before & (pl.col("known_at") - pl.col("first") < timedelta(days=29)))
    assert len(again) > 100
    assert again["copy"].mean() > 0.95
