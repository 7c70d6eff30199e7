"""What sources deliver fits the tables: stored, quarantined, and unchanged the second time."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from octopus.alternative_data.scores import score_rows, texts_to_score
from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from resources.sentiment.factory import sentiment_model
from resources.sources.base import whole
from resources.sources.sample import SampleMarketData, SampleNews, SamplePosts
from resources.warehouse.store import Warehouse

ALWAYS = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC))


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    return Warehouse(database_url)


def append_twice(warehouse: Warehouse, table: str, frame, rejects: list[Reject]) -> None:
    first = warehouse.append(table, frame, source="sample", rejects=rejects)
    assert (first.new, first.restated, first.quarantined) == (frame.height, 0, len(rejects))
    second = warehouse.append(table, frame, source="sample", rejects=rejects)
    assert (second.changed, second.unchanged) == (False, frame.height)


def test_market_data(warehouse):
    data = whole(SampleMarketData().fetch(["BBY", "KO", "NOPE"], date(2022, 11, 1), date(2022, 12, 28), Sessions()))
    append_twice(warehouse, "bars", data.bars, data.rejects)
    append_twice(warehouse, "instruments", data.instruments, [])


def test_texts_and_their_scores(warehouse, tmp_path):
    (tmp_path / "events.csv").write_text(
        "event_id,symbol,date,time_utc,headline,source,kind\n"
        "e1,AAPL,2007-01-09,,Apple presents a great telephone,press,product\n"
        "e2,AAPL,never,,Apple presents nothing,press,product\n"
    )
    (tmp_path / "posts.csv").write_text(
        "post_id,symbol,created_at_utc,author,text,synthetic\n"
        "p1,BAC,2009-03-09T15:00:00Z,sample,the bottom is in,true\n"
    )
    news = SampleNews(tmp_path / "events.csv").fetch({}, *ALWAYS)
    posts = SamplePosts(tmp_path / "posts.csv").fetch({}, *ALWAYS)
    append_twice(warehouse, "news", news.items, news.rejects)
    append_twice(warehouse, "social_posts", posts.items, posts.rejects)
    model = sentiment_model()
    texts = texts_to_score(news.items)
    scores = dict(zip(texts, model.score(list(texts.values())).tolist(), strict=True))
    append_twice(warehouse, "sentiment_scores", score_rows(news.items, scores, model.name, "news"), [])
    assert warehouse.scalar("select count(*) from raw.quarantine where reason like '%%publication%%'") == 1
    assert warehouse.scalar(
        "select bool_and(s.known_at = n.known_at) from raw.sentiment_scores s join raw.news n using (item_id)"
    )
