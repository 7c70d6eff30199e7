"""A history too short for any walk-forward block: nothing passes its review, and nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assets.market_data import market_data
from assets.models import predictions, train_and_review, training_sets
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
