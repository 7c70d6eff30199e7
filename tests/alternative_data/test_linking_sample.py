"""Linking on the labelled sample of recorded texts, and on cases by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import texts as bench
from octopus.alternative_data.linking import Linker

LINKER = Linker(
    {"AAPL": "Apple Inc.", "T": "AT&T Inc.", "D": "Dominion Energy", "GOOG": "Alphabet Inc.", "GOOGL": "Alphabet Inc.",
     "V": "Visa Inc.", "BBY": "Best Buy", "F": "Ford Motor Company"}
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("$T raises its dividend", {"T"}),
        ("T is the twentieth letter, D the fourth", set()),
        ("An apple a day, and apple pie on Sunday", set()),
        ("Apple unveils a new phone", {"AAPL"}),
        ("He watches $V…", set()),
        ("LO$T in translation", set()),
        ("Google wins its appeal", {"GOOG", "GOOGL"}),
        ("Her visa application was refused", set()),
        ("Visa's fees are under review", {"V"}),
        ("Best Buy lowers its outlook", {"BBY"}),
        ("The best buy of the season", set()),
        ("Harrison Ford turns eighty", set()),
        ("Ford (NYSE: F) recalls trucks", {"F"}),
        ("", set()),
    ],
)
def test_words_and_companies_are_told_apart(text: str, named: set[str]):
    assert set(LINKER.link(text)) == named


def test_the_blind_sample_is_linked_as_a_reader_would(test_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OCTOPUS_TEST_DATA", str(test_data))
    rows = {(row["half"], row["source"]): row for row in bench.linking_rows()}
    blind = rows["blind", "all"]
    assert blind["texts"] >= 100
    assert blind["precision"] >= 0.95
    assert blind["recall"] >= 0.95
