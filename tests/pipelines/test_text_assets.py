"""Marks of texts and reports of their sources as assets: made once, and measured up to the session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from assets.alternative_data import sentiment_scores, text_marks, text_source_reports
from octopus.alternative_data.schema import NEWS_SCHEMA
from octopus.alternative_data.texts import text_hash
from tests.pipelines.conftest import House

SESSION = "2022-12-27"


def item(name: str, title: str, known: datetime) -> dict[str, object]:
    return {
        "source": "wire", "instrument": "KO", "ts": known, "item_id": name, "title": title, "body": None, "url": None,
        "publisher": None, "synthetic": False, "hindsight": False, "text_hash": text_hash(title, None),
        "known_at": known, "known_at_imputed": False,
    }  # fmt: skip


def test_a_mark_is_made_once_and_a_late_text_changes_none(house: House) -> None:
    store = house.warehouse
    told = datetime(2022, 12, 20, 15, tzinfo=UTC)
    story = "Coca-Cola agrees to buy a small maker of cold brewed coffee in Vermont"
    store.append("news", pl.DataFrame([item("first", story, told)], schema=NEWS_SCHEMA), source="wire")
    house.call(sentiment_scores, SESSION)
    house.call(text_marks, SESSION)
    everything = "select * from raw.text_marks order by source, instrument, ts, item_kind, item_id, text_hash"
    before = store.read(everything)
    assert before.filter(pl.col("item_id") == "first")["weight"].to_list() == [1.0]
    assert store.scalar("select count(*) from raw.news") + store.scalar("select count(*) from raw.social_posts") == len(
        before
    )

    late = item("late", story, told - timedelta(hours=3))
    copy = item("copy", story, told + timedelta(hours=3))
    store.append("news", pl.DataFrame([late, copy], schema=NEWS_SCHEMA), source="wire")
    house.call(sentiment_scores, SESSION)
    house.call(text_marks, SESSION)
    after = store.read(everything)
    assert after.join(before, on="item_id", how="semi").equals(before), "what a decision may have read stays"
    new = {row["item_id"]: row["weight"] for row in after.iter_rows(named=True) if row["source"] == "wire"}
    assert new == {"first": 1.0, "late": 1.0, "copy": 0.0}

    house.dbt("daily_sentiment")
    (day,) = store.rows(
        """
        select n_items, volume from marts.daily_sentiment where instrument = 'KO' and session = '2022-12-20'
        and model like 'finance-%%'
        """
    )
    assert (day["n_items"], day["volume"]) == (3, 2.0), "the copy is counted and adds nothing"


def test_each_source_has_its_report(house: House) -> None:
    house.call(sentiment_scores, SESSION)
    house.call(text_marks, SESSION)
    house.call(text_source_reports, SESSION)
    rows = house.warehouse.rows("select * from ops.text_source_reports order by source, item_kind")
    kinds = [(row["source"], row["item_kind"]) for row in rows]
    assert ("sample", "news") in kinds
    assert ("sample", "post") in kinds
    sample = next(row for row in rows if (row["source"], row["item_kind"]) == ("sample", "news"))
    assert sample["items"] > 100
    assert 0 < sample["share_covered"] < 0.1
    assert all(step["sessions"] == 0 for step in sample["ic"]), "texts chosen in hindsight prove nothing"
