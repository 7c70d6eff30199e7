"""The models' assets on a small market, in real databases and a real MLflow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date

import numpy as np
import pytest

from assets import inputs
from assets.models import predictions, train_and_review, training_sets
from octopus.core.panel import Panel
from resources.settings import load_settings
from tests.models.small import install_package, persistent_panel
from tests.pipelines.conftest import House, make_house

DAY = "2021-12-28"


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Four years of twelve instruments; ridge and a model of another package."""
    folder = tmp_path_factory.mktemp("models")
    package = folder / "site"
    package.mkdir()
    install_package(package, "tiny = tiny_models:Tiny")
    sessions = load_settings({}).sessions.between(date(2018, 1, 2), date(2022, 3, 31))
    whole = persistent_panel(np.array(sessions, dtype="datetime64[D]"))

    def panel(settings: object, warehouse: object, session: date) -> Panel:
        return whole.until(session)

    changes = {
        "strategies.models.estimators": ["ridge", "tiny"],
        "strategies.models.extensions": {"tiny": {"scale": 2.0}},
        "strategies.models.search": {"trials": 3, "folds": 3},
        "strategies.models.train_min_sessions": 400,
        "strategies.models.test_sessions": 126,
        "strategies.models.tried_before": 0,
        "strategies.models.gates": {
            "rank_ic_min": 0.0, "rank_ic_max": 1.0, "t_min": 0.0, "deflated_sharpe_min": 0.0, "net_spread_min": -1.0,
            "positive_folds_min": 0.0,
        },
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        patch.setattr(inputs, "panel", panel)
        yield from make_house(server_url, folder / "house", **changes)
    sys.modules.pop("tiny_models", None)


@pytest.fixture(scope="module")
def trained(house: House) -> House:
    house.call(training_sets, DAY)
    house.call(train_and_review, DAY)
    return house


def test_a_model_of_another_package_is_trained_reviewed_and_speaks(trained: House) -> None:
    reviews = trained.warehouse.rows("select model, passed, version from models.reviews order by model")
    assert [row["model"] for row in reviews] == ["ridge", "tiny"]
    trained.call(predictions, "2021-06-30")
    (speaker,) = trained.warehouse.rows("select distinct model from models.predictions")
    assert speaker["model"] == "ridge:fold-3", "the better one, by the fold that had not seen the day"
    registry = trained.resources["registry"]
    tiny = next(row["version"] for row in reviews if row["model"] == "tiny")
    assert registry.estimator("octopus-return", tiny).startswith(b"tiny\n")
    assert (
        trained.warehouse.scalar("select parameters -> 'settings' ->> 'scale' from backtest.trials where name = 'tiny'")
        == "2.0"
    )


def test_every_trial_of_a_search_is_on_record_and_deflates(trained: House) -> None:
    trials = trained.warehouse.rows("select kind, name, last_session from backtest.trials order by kind, name")
    assert [(row["kind"], row["name"]) for row in trials] == [
        ("model", "ridge"), ("model", "tiny"), ("search", "ridge"), ("search", "ridge"), ("search", "ridge"),
    ]  # fmt: skip
    first_block = trained.warehouse.scalar("select min(test_from) from models.walk_forward_folds")
    assert all(row["last_session"] < first_block for row in trials if row["kind"] == "search")
    counts = trained.warehouse.rows("select (scores ->> 'trials')::int as trials from models.reviews")
    assert {row["trials"] for row in counts} == {5}
