"""A history too short for any walk-forward block: nothing passes its review, and nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from assets.market_data import market_data
from assets.models import predictions, train_and_review, training_sets
from assets.portfolio import opening_positions, target_weights
from assets.strategy import features
from assets.warehouse import session_rows
from tests.pipelines.conftest import House, make_house

SESSION = "2022-12-27"


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None) -> Iterator[House]:
    changes = {"universe.universe.history_start": "2021-01-04", "strategies.models.xgboost.trees": 10}
    for made in make_house(server_url, tmp_path_factory.mktemp("short"), **changes):
        made.resources["warehouse"].insert_new("ops.sessions", session_rows(made.settings.sessions))
        made.call(market_data, SESSION)
        made.dbt()
        yield made


def test_the_models_fail_their_review_and_the_signal_abstains(house: House) -> None:
    for asset in (features, training_sets, train_and_review, predictions):
        house.call(asset, SESSION)
    reviews = house.warehouse.rows("select model, passed from models.reviews order by model")
    assert [(row["model"], row["passed"]) for row in reviews] == [("ridge", False), ("xgboost", False)]
    assert house.warehouse.scalar("select count(*) from models.walk_forward_folds") == 0
    assert house.warehouse.scalar("select count(*) from models.predictions") == 0


def test_nothing_is_bought_that_the_gate_would_deny_and_the_decision_says_why(house: House) -> None:
    assert house.resources["clock"].begin_session(date.fromisoformat(SESSION))
    for asset in (features, opening_positions, target_weights):
        house.call(asset, SESSION)
    assert house.warehouse.scalar("select sum(abs(weight)) from portfolio.target_weights") == 0
    (made,) = house.warehouse.rows("select certificate from portfolio.decisions")
    told = made["certificate"]["unbuyable"]
    assert told.keys() == set(house.settings.symbols)
    assert told["KO"].startswith("1 of the last 500 returns of KO are missing, from the first on: ingest a longer")
