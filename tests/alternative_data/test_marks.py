"""The marks of a text and the weight they give it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from octopus.alternative_data.marks import MARKS_SCHEMA, text_marks, texts_of
from octopus.alternative_data.schema import NEWS_SCHEMA, POSTS_SCHEMA
from octopus.alternative_data.texts import text_hash

START = datetime(2024, 1, 2, 15, tzinfo=UTC)
STORY = "Coca-Cola raises its full year outlook after strong demand in Latin America"


def news(*items: tuple[str, int, str]) -> pl.DataFrame:
    """Items as (id, minutes after START, title)."""
    rows = [
        {"source": "n", "instrument": "KO", "ts": START + timedelta(minutes=minute), "item_id": name, "title": title,
         "body": None, "synthetic": False, "hindsight": False, "text_hash": text_hash(title, None),
         "known_at": START + timedelta(minutes=minute), "known_at_imputed": True}
        for name, minute, title in items
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=NEWS_SCHEMA)


def posts(*items: tuple[str, int, str, str]) -> pl.DataFrame:
    """Posts as (id, minutes after START, author, body)."""
    rows = [
        {"source": "p", "instrument": "KO", "ts": START + timedelta(minutes=minute), "item_id": name, "author": author,
         "body": body, "synthetic": False, "text_hash": text_hash(body),
         "known_at": START + timedelta(minutes=minute), "known_at_imputed": True}
        for name, minute, author, body in items
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=POSTS_SCHEMA)


def marks(texts: pl.DataFrame, wanted: pl.DataFrame | None = None, **languages: str) -> dict[str, dict[str, object]]:
    told = {row["text_hash"]: languages.get(row["item_id"]) for row in texts.iter_rows(named=True)}
    found = text_marks(texts, texts if wanted is None else wanted, told)
    assert found.schema == MARKS_SCHEMA
    return {row["item_id"]: row for row in found.iter_rows(named=True)}


def test_a_new_text_weighs_its_novelty_and_a_copy_nothing():
    found = marks(texts_of(news(("a", 0, STORY), ("b", 5, STORY + "!")), posts(("c", 9, "x", f"RT @y: {STORY}"))))
    assert (found["a"]["copy"], found["a"]["weight"]) == (False, 1.0)
    for name in ("b", "c"):
        assert (found[name]["copy"], found[name]["weight"]) == (True, 0.0)
        assert found[name]["repeats"] == found["a"]["repeats"], "across news and posts"


def test_half_of_a_text_that_is_known_weighs_as_much_as_is_new():
    found = marks(
        texts_of(news(("a", 0, "one two three four five"), ("b", 5, "one two three six seven eight")), posts())
    )
    assert found["b"]["weight"] == found["b"]["novelty"] == 0.6, "three of five pairs of words are new"


def test_a_machines_posts_and_other_languages_weigh_nothing():
    many = [(f"m{place}", place, "bot", f"$KO at {place}.{place} now, view chart") for place in range(6)]
    found = marks(texts_of(news(("d", 0, "Umsatz steigt kräftig")), posts(*many)), d="de")
    assert found["d"]["weight"] == 0.0
    assert [found[f"m{place}"]["burst"] for place in range(6)] == [False] * 4 + [True] * 2
    assert found["m5"]["weight"] == 0.0


def test_a_language_that_cannot_be_told_is_no_other_language():
    assert marks(texts_of(news(("a", 0, STORY)), posts()))["a"]["weight"] == 1.0


def test_one_id_of_two_kinds_names_two_texts():
    found = text_marks(texts := texts_of(news(("1", 0, STORY)), posts(("1", 5, "x", "Something else entirely today"))),
                       texts, {})  # fmt: skip
    assert found.sort("item_kind").select("item_kind", "copy", "weight").rows() == [
        ("news", False, 1.0), ("post", False, 1.0),
    ]  # fmt: skip


def test_only_what_is_wanted_is_marked_and_from_all_of_the_past():
    texts = texts_of(news(("a", 0, STORY), ("b", 5, STORY)), posts())
    found = marks(texts, texts.filter(pl.col("item_id") == "b"))
    assert list(found) == ["b"]
    assert found["b"]["copy"]
