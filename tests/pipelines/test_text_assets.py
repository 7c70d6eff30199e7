"""Texts as assets: a source that fails stops nothing, marks are made once, and reports measure up to the session."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from assets import keys
from assets.alternative_data import build_assets, build_source, sentiment_scores, text_marks, text_source_reports
from octopus.alternative_data.schema import NEWS_SCHEMA, ItemKind
from octopus.alternative_data.texts import text_hash
from octopus.core.errors import SourceUnavailableError
from octopus.core.sessions import Sessions
from resources.settings import Settings, load_settings
from resources.sources.base import TextItems
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from resources.warehouse.text_fetches import TextFetches
from tests.pipelines.conftest import House

SESSION = "2022-12-27"
XNYS = Sessions()


@dataclass
class Wire:
    """A catalogue of one source that the test leads.

    Attributes:
        gives: rows of news that it has; an error is raised instead. truncated: as it says. asked: the windows it was
            asked for.
    """

    gives: list[dict[str, object]] | Exception = field(default_factory=list)
    truncated: int = 0
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)

    def source(self, kind: ItemKind, name: str) -> Wire:
        return self

    def fetch(self, names: object, start: datetime, end: datetime) -> TextItems:
        self.asked.append((start, end))
        if isinstance(self.gives, Exception):
            raise self.gives
        return TextItems(pl.DataFrame(self.gives, schema=NEWS_SCHEMA), [], "hash", truncated=self.truncated)


@pytest.fixture
def live(database_url: str) -> Settings:
    """Live, as far as the assets know: a recording is asked for whole."""
    shipped = load_settings({})
    return replace(
        shipped, database_url=database_url, embedded=None,
        universe=shipped.universe.model_copy(update={"market_data": "yahoo"}),
    )  # fmt: skip


def ask(settings: Settings, wire: Wire, session: date) -> dict[str, dg.AssetCheckEvaluation]:
    """Materialise the asset of the wire's news for a session; its checks that failed."""
    resources = {
        "settings": settings, "warehouse": Warehouse(settings.database_url, Role.RESEARCH), "text_catalogue": wire,
    }  # fmt: skip
    result = dg.materialize(
        [build_source("news", "newsapi")], partition_key=str(session), resources=resources,
        instance=dg.DagsterInstance.ephemeral(),
    )  # fmt: skip
    return {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}


def test_a_source_that_fails_fails_its_own_check_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEWSAPI_API_KEY", raising=False)
    assets = build_assets({"news": ["newsapi", "sample"], "post": ["sample"]})[:-1]
    resources = {name: house.resources[name] for name in ("settings", "warehouse", "text_catalogue", "sentiment_model")}
    result = dg.materialize(assets, partition_key=SESSION, resources=resources, instance=dg.DagsterInstance.ephemeral())
    assert result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} >= {
        keys.NEWS, keys.SOCIAL_POSTS, keys.SENTIMENT_SCORES,
    }  # fmt: skip
    failed = {check.asset_key: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert set(failed) == {keys.texts_of("news", "newsapi"), keys.NEWS}
    assert failed[keys.NEWS].severity is dg.AssetCheckSeverity.WARN
    assert all("NEWSAPI_API_KEY" in str(check.description) for check in failed.values())


def test_what_a_source_missed_is_asked_for_again_until_it_answers(live: Settings) -> None:
    wire, days = Wire(), [XNYS.previous(date(2022, 12, 27), back) for back in (14, 13, 8, 0)]
    decided = [XNYS.decision_utc(day) for day in days]
    assert ask(live, wire, days[0]) == {}
    wire.gives = SourceUnavailableError("newsapi: HTTP 503; try again later")
    assert set(ask(live, wire, days[1])) == {"source_answered"}
    wire.gives = ZeroDivisionError("a bug of the vendor's client")
    assert set(ask(live, wire, days[2])) == {"source_answered"}
    diary = TextFetches(Warehouse(live.database_url))
    assert diary.holes(days[2])["caught_up_at"].to_list() == [None, None]
    wire.gives, wire.truncated = [], 2
    warned = ask(live, wire, days[3])
    assert set(warned) == {"nothing_truncated"}
    assert warned["nothing_truncated"].metadata["truncated"].value == 2
    assert "request_limits.newsapi" in str(warned["nothing_truncated"].description)
    usual = timedelta(days=live.alternative_data.lookback_days)
    assert wire.asked == [
        (decided[0] - usual, decided[0]),
        (decided[1] - usual, decided[1]),
        (decided[0], decided[2]),
        (decided[0], decided[3]),
    ]
    assert diary.holes(days[3])["session"].to_list() == days[1:3]
    assert diary.holes(days[3])["caught_up_at"].null_count() == 0


def item(name: str, title: str, known: datetime) -> dict[str, object]:
    return {
        "source": "wire", "instrument": "KO", "ts": known, "item_id": name, "title": title, "body": None, "url": None,
        "publisher": None, "synthetic": False, "hindsight": False, "text_hash": text_hash(title, None),
        "known_at": known, "known_at_imputed": False,
    }  # fmt: skip


def test_what_comes_after_its_decision_is_known_from_when_it_came(live: Settings) -> None:
    store = Warehouse(live.database_url, Role.OWNER)
    before, day, after = (XNYS.previous(date(2022, 12, 27), back) for back in (2, 1, 0))
    told = XNYS.decision_utc(day) - timedelta(hours=1)
    in_time = item("in time", "Coca-Cola agrees to buy a maker of coffee", told) | {"known_at_imputed": True}
    wire = Wire([in_time])
    assert ask(live, wire, day) == {}
    replayed = told - timedelta(days=80)
    decisions = [(before, told), (day, told + timedelta(hours=2)), (after, datetime.now(UTC))]
    for session, made in decisions:
        store.insert_new("portfolio.decisions", decision(session, made))
    missed = item("missed", "Coca-Cola recalls a batch of coffee", told + timedelta(minutes=1))
    late, older = missed | {"known_at_imputed": True}, item("older", "Coca-Cola sells a maker of tea", replayed)
    wire.gives = [in_time, late, older]
    began = datetime.now(UTC)
    assert ask(live, wire, after) == {}
    rows = store.rows("select item_id, known_at, known_at_imputed, ingested_at from raw.news order by batch_id, ts")
    known = {row["item_id"]: (row["known_at"], row["known_at_imputed"]) for row in rows}
    assert len(rows) == 3, "what is stored stays as it is"
    assert known["in time"] == (told, True)
    assert known["older"] == (replayed, False), "no decision that it had a part in was made live"
    assert known["missed"][0] >= began
    assert not known["missed"][1]


def decision(session: date, made: datetime) -> pl.DataFrame:
    """A row of portfolio.decisions."""
    return pl.DataFrame(
        {
            "decision_id": [str(session)], "session": [session], "certificate": ["{}"], "inputs": ["{}"],
            "created_at": [made],
        }
    )  # fmt: skip


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
    seen = told + timedelta(days=1)
    missed = item("missed", "Coca-Cola recalls a batch of cold brewed coffee", told) | {"known_at": seen}
    store.append("news", pl.DataFrame([late, copy, missed], schema=NEWS_SCHEMA), source="wire")
    house.call(sentiment_scores, SESSION)
    house.call(text_marks, SESSION)
    after = store.read(everything)
    assert after.join(before, on="item_id", how="semi").equals(before), "what a decision may have read stays"
    new = {row["item_id"]: row["weight"] for row in after.iter_rows(named=True) if row["source"] == "wire"}
    assert {name: new[name] for name in ("first", "late", "copy")} == {"first": 1.0, "late": 1.0, "copy": 0.0}

    house.dbt("daily_sentiment")
    day, following = store.rows(
        """
        select n_items, volume from marts.daily_sentiment where instrument = 'KO'
        and session in ('2022-12-20', '2022-12-21') and model like 'finance-%%' order by session
        """
    )
    assert (day["n_items"], day["volume"]) == (3, 2.0), "the copy is counted and adds nothing"
    assert following["n_items"] == 1, "what was first seen a day later is that day's"


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
