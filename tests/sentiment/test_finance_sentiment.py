"""The light default: business news read by rules; and in which language a text is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import texts as bench
from octopus.alternative_data.texts import text_hash
from resources.sentiment.factory import sentiment_model
from resources.sentiment.language import LanguageMarker

MODEL = sentiment_model("finance")


@pytest.mark.parametrize(
    "text",
    [
        "Net profit rose to EUR 5.2 mn from EUR 4.1 mn", "Costs fell by 12 %", "Q2 EPS $1.28 vs $1.10 a year ago",
        "Shares jump after earnings beat estimates", "The company won an order worth EUR 20 million",
        "It swung to a profit of 3 mn compared to a loss of 2 mn", "Goldman upgrades the stock to buy",
    ],
)  # fmt: skip
def test_good_news_is_good(text: str):
    assert MODEL.score([text])[0] > bench.NEUTRAL


@pytest.mark.parametrize(
    "text",
    [
        "Operating profit fell to EUR 5.2 mn from EUR 7.1 mn", "Costs rose by 12 %", "Sales missed estimates",
        "The company will lay off 1,100 employees", "It cut its full-year guidance", "Net loss widened",
        "Profit did not rise",
    ],
)  # fmt: skip
def test_bad_news_is_bad(text: str):
    assert MODEL.score([text])[0] < -bench.NEUTRAL


@pytest.mark.parametrize("text", ["", "The annual meeting is on Tuesday in Helsinki", "It makes valves and pumps"])
def test_no_news_is_neutral(text: str):
    assert abs(MODEL.score([text])[0]) <= bench.NEUTRAL


def test_scores_are_bounded_and_repeatable():
    texts = ["profit rose " * 40, "loss widened " * 40, "x"]
    scores = MODEL.score(texts)
    assert np.abs(scores).max() < 1
    np.testing.assert_array_equal(scores, MODEL.score(texts))
    assert MODEL.score([]).shape == (0,)


def test_the_held_out_half_of_labelled_sentences(test_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OCTOPUS_TEST_DATA", str(test_data))
    bank = bench.recorded("phrasebank").unique("text", maintain_order=True)
    held = bank.filter(pl.Series(bench.is_held([text_hash(text) for text in bank["text"]])))
    scores = MODEL.score(held["text"].to_list())
    said = np.where(scores > bench.NEUTRAL, "positive", np.where(scores < -bench.NEUTRAL, "negative", "neutral"))
    assert len(held) > 2_000
    assert (said == held["label"].to_numpy()).mean() > 0.75


def test_the_language_of_a_text():
    texts = [
        "The company raised its outlook for the full year after strong demand",
        "$F $GM",
        "https://t.co/abc $T RT",
        "Das Unternehmen erhöht seine Prognose für das Gesamtjahr nach starker Nachfrage",
        "La empresa elevó sus previsiones para todo el año tras una fuerte demanda",
        "株価は大幅に上昇しました",
    ]
    assert LanguageMarker().mark(texts) == ["en", None, None, "de", "es", "ja"]
