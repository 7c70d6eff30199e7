"""Which instruments a text names."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from octopus.alternative_data.linking import Linker, core_name, search_terms

NAMES = {
    "AAPL": "Apple Inc.", "F": "Ford Motor Company", "T": "AT&T Inc.", "D": "Dominion Energy, Inc.",
    "KO": "The Coca-Cola Company", "CAT": "Caterpillar Inc.", "BAC": "Bank of America Corporation",
    "BRK.B": "Berkshire Hathaway Inc.", "JNJ": "Johnson & Johnson", "XOM": "",
}  # fmt: skip
LINKER = Linker(NAMES)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("$AAPL and $f rally", ("AAPL", "F")),
        ("AAPL rallies; XOM does not", ("AAPL", "XOM")),
        ("F is a grade, T is a shirt, D is a vitamin, KO is a blow", ()),
        ("the CAT sat", ()),
        ("$CAT digs, Caterpillar too", ("CAT",)),
        ("I ate an apple; pineapples and Applebee's are no company", ()),
        ("Apple's profit", ("AAPL",)),
        ("APPLE SOARS", ("AAPL",)),
        ("AAPL SOARS WHILE XOM SINKS", ()),
        ("Coca-Cola and Bank of America", ("BAC", "KO")),
        ("Johnson & Johnson, not Johnson", ("JNJ",)),
        ("$BRK.B at the close.", ("BRK.B",)),
        ("it costs $F00 or $500, email a$AAPL", ()),
        ("AT&T calls", ("T",)),
        ("#AAPL", ("AAPL",)),
        ("", ()),
    ],
)
def test_link(text, symbols):
    assert LINKER.link(text) == symbols


@pytest.mark.parametrize(
    ("company", "name"),
    [
        ("Apple Inc.", "Apple"),
        ("The Coca-Cola Company", "Coca-Cola"),
        ("Best Buy Co., Inc.", "Best Buy"),
        ("Merck & Co., Inc.", "Merck"),
        ("JPMorgan Chase & Co.", "JPMorgan Chase"),
        ("UnitedHealth Group Incorporated", "UnitedHealth"),
        ("Company", "Company"),
        ("", ""),
    ],
)
def test_core_name(company, name):
    assert core_name(company) == name


def test_queries_hold_every_instrument_and_no_more_characters_than_allowed():
    queries = search_terms(NAMES, 60)
    assert all(len(query) <= 60 for query in queries)
    assert " OR ".join(queries).count(" OR ") == len(NAMES) - 1
    assert '"$XOM"' in " ".join(queries)
    assert len(search_terms(NAMES, 500)) == 1
    assert search_terms({}, 500) == []


def test_real_posts_count_by_their_cashtags_and_not_by_letters_after_a_dollar(test_data: Path):
    """Of 5,651 tweets stored under T, two thirds say LO$T or N$T; of those under AAPL nearly all mean Apple."""
    with gzip.open(test_data / "tweets_stocknet.csv.gz") as file:
        tweets = pl.read_csv(file.read(), infer_schema=False)
    text = next(name for name in ("text", "body", "tweet") if name in tweets.columns)
    of = {symbol: tweets.filter(pl.col("symbol") == symbol)[text].drop_nulls().to_list() for symbol in ("T", "AAPL")}
    of_t = {tweet: "T" in LINKER.link(tweet) for tweet in of["T"]}
    assert not any(linked for tweet, linked in of_t.items() if tweet.count("$") == 1 and "LO$T" in tweet)
    assert not any(linked for tweet, linked in of_t.items() if tweet.count("$") == 1 and "$T.TO" in tweet), "Telus"
    by_hand = {tweet for tweet in of_t if "$T" in tweet.split()}
    assert len(by_hand) > 1000
    assert {tweet for tweet in by_hand if not of_t[tweet]} == {tweet for tweet in by_hand if "telus" in tweet.lower()}
    assert 0.3 < sum(of_t[tweet] for tweet in of["T"]) / len(of["T"]) < 0.4
    assert sum("AAPL" in LINKER.link(tweet) for tweet in of["AAPL"]) / len(of["AAPL"]) > 0.95
